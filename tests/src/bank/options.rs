//! What the workload is asked to do: in go the caller's wishes, out come shares that add up.

use std::time::Duration;

/// Shares of the kinds of transactions, by weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Transfers between accounts on different nodes, XA in two phases.
    pub cross_shard: u32,
    /// The same, rolled back after all branches have been prepared.
    pub rolled_back: u32,
    /// The same, committed without a timestamp.
    pub unstamped: u32,
    /// Transfers within a node, XA in one phase.
    pub one_phase: u32,
    /// Transfers within a node, `BEGIN … COMMIT`.
    pub local: u32,
    /// The same with a timestamp.
    pub local_stamped: u32,
    /// Inserts, updates and deletes in the table with all column types.
    pub wide: u32,
    /// Rows of that table that move to another node: a delete here, an insert there, one XA.
    pub moves: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            cross_shard: 70,
            rolled_back: 1,
            unstamped: 2,
            one_phase: 5,
            local: 9,
            local_stamped: 5,
            wide: 7,
            moves: 3,
        }
    }
}

/// One kind of transaction, see [`Mix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    CrossShard,
    RolledBack,
    Unstamped,
    OnePhase,
    Local,
    LocalStamped,
    Wide,
    Move,
}

impl Mix {
    fn shares(&self) -> [(u32, Kind); 8] {
        [
            (self.cross_shard, Kind::CrossShard),
            (self.rolled_back, Kind::RolledBack),
            (self.unstamped, Kind::Unstamped),
            (self.one_phase, Kind::OnePhase),
            (self.local, Kind::Local),
            (self.local_stamped, Kind::LocalStamped),
            (self.wide, Kind::Wide),
            (self.moves, Kind::Move),
        ]
    }

    /// Sum of all weights.
    pub(super) fn total(&self) -> u32 {
        self.shares().iter().map(|(weight, _)| weight).sum()
    }

    /// The kind at `point`, which counts from 0 to [`Mix::total`].
    pub(super) fn kind(&self, mut point: u32) -> Kind {
        for (weight, kind) in self.shares() {
            if point < weight {
                return kind;
            }
            point -= weight;
        }
        Kind::Local
    }
}

/// What the bank is and does.
#[derive(Debug, Clone)]
pub struct BankOptions {
    /// Accounts over all nodes.
    pub accounts: u32,
    /// Concurrent clients, each with a connection to every node.
    pub workers: u32,
    /// End after this time.
    pub duration: Option<Duration>,
    /// End after about this many transactions.
    pub transactions: Option<u64>,
    /// Transactions a second, all workers together.
    pub rate: Option<f64>,
    /// Seed of everything random; `None` for a random one.
    pub seed: Option<u64>,
    /// Shares of the kinds of transactions.
    pub mix: Mix,
    /// Whether distributed commits carry a timestamp. Without, the cluster is one for `causal`.
    pub stamped: bool,
    /// Time between two schema changes; none at all when `None`.
    pub ddl_every: Option<Duration>,
    /// Longest memo of a transfer, in characters: the knob for the size of a transaction.
    pub memo: usize,
    /// Whether the table with all column types has a JSON column (MariaDB replicas cannot read it).
    pub json: bool,
    /// Database on each node; `{node}` stands for the node's number from 1 on.
    pub schema: String,
}

impl Default for BankOptions {
    fn default() -> Self {
        Self {
            accounts: 300,
            workers: 8,
            duration: None,
            transactions: None,
            rate: None,
            seed: None,
            mix: Mix::default(),
            stamped: true,
            ddl_every: None,
            memo: 120,
            json: true,
            schema: "bank".to_owned(),
        }
    }
}

impl BankOptions {
    /// The database on a node (index from 0).
    pub fn schema_on(&self, node: usize) -> String {
        self.schema.replace("{node}", &(node + 1).to_string())
    }

    /// The database as it is called where all shards are one.
    pub fn logical_schema(&self) -> String {
        self.schema
            .replace("{node}", "")
            .trim_end_matches('_')
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_gets_its_share() {
        let mix = Mix::default();
        let mut counts = std::collections::HashMap::new();
        for point in 0..mix.total() {
            *counts.entry(format!("{:?}", mix.kind(point))).or_insert(0) += 1;
        }
        assert_eq!(counts.get("CrossShard"), Some(&70));
        assert_eq!(counts.get("RolledBack"), Some(&1));
        assert_eq!(counts.get("Unstamped"), Some(&2));
        assert_eq!(counts.get("Move"), Some(&3));
        assert_eq!(counts.len(), 8);
    }

    #[test]
    fn names_of_schemas() {
        let options = BankOptions {
            schema: "bank_{node}".to_owned(),
            ..BankOptions::default()
        };
        assert_eq!(options.schema_on(0), "bank_1");
        assert_eq!(options.logical_schema(), "bank");
        assert_eq!(BankOptions::default().logical_schema(), "bank");
    }
}
