//! The same DDL statement from several nodes becomes one.
//!
//! In: statements at their places in the order, with the node they come from. Out: whether this occurrence is the one to
//! emit. Under identity routing a table exists on every node, so each statement comes once from each: an *expanding* one
//! (create, add, widen) is emitted with the first node that has it, a *contracting* one (drop, rename, truncate) with the
//! last. The i-th occurrence of a statement on one node belongs to the i-th occurrence on every other.

use std::collections::BTreeMap;

use tributary_flow::{Mutant, NodeId, NodeTable, mutant};
use tributary_schema::{DdlEffect, DdlStatement};

/// Occurrences of one statement that have not come from every node yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Occurrences {
    /// How often each node has had it, less what all have had.
    counts: Vec<u64>,
    emitted: u64,
}

/// Statements that some nodes have had and others have not, by a checkpoint. While there are any, the set of nodes must not
/// change: nobody could tell whether a node that joins has had them, and one that leaves would be waited for.
pub fn pending_ddl(checkpoint: &tributary_flow::Checkpoint) -> Vec<String> {
    let statements = checkpoint.ddl.as_object();
    statements.map_or_else(Vec::new, |open| open.keys().cloned().collect())
}

/// Counts occurrences of DDL statements over the nodes.
#[derive(Clone, Debug)]
pub struct DdlJoin {
    nodes: NodeTable,
    open: BTreeMap<String, Occurrences>,
}

impl DdlJoin {
    /// Nothing seen yet.
    pub fn new(nodes: NodeTable) -> Self {
        Self {
            nodes,
            open: BTreeMap::new(),
        }
    }

    /// The state that [`DdlJoin::save`] returned. Nodes that it does not name have had nothing; an unreadable state is empty.
    pub fn restore(nodes: NodeTable, state: &serde_json::Value) -> Self {
        let mut join = Self::new(nodes);
        for (statement, saved) in state.as_object().into_iter().flatten() {
            let mut entry = Occurrences {
                counts: vec![0; join.nodes.len()],
                emitted: 0,
            };
            entry.emitted = saved
                .get("emitted")
                .and_then(serde_json::Value::as_u64)
                .unwrap_or(0);
            for (name, count) in saved
                .get("nodes")
                .and_then(|n| n.as_object())
                .into_iter()
                .flatten()
            {
                if let (Some(id), Some(count)) = (join.nodes.id(name), count.as_u64()) {
                    entry.counts[id.index()] = count;
                }
            }
            join.open.insert(statement.clone(), entry);
        }
        join
    }

    /// The state to keep in the checkpoint: statements that some node has had and another has not.
    pub fn save(&self) -> serde_json::Value {
        let open = self.open.iter().map(|(statement, entry)| {
            let nodes: serde_json::Map<_, _> = (self.nodes.iter().zip(&entry.counts))
                .filter(|(_, count)| **count > 0)
                .map(|((_, name), count)| (name.to_owned(), (*count).into()))
                .collect();
            (
                statement.clone(),
                serde_json::json!({ "emitted": entry.emitted, "nodes": nodes }),
            )
        });
        serde_json::Value::Object(open.collect())
    }

    /// Node `node` has the statement now. Whether it is emitted at this place.
    pub fn observe(&mut self, node: NodeId, statement: &DdlStatement) -> bool {
        let n = self.nodes.len();
        let entry = self
            .open
            .entry(statement.identity().to_owned())
            .or_default();
        entry.counts.resize(n, 0);
        entry.counts[node.index()] += 1;
        let least = entry.counts.iter().copied().min().unwrap_or(0);
        let most = entry.counts.iter().copied().max().unwrap_or(0);
        let due = match statement.effect() {
            DdlEffect::Expand => most,
            DdlEffect::Contract => least,
            DdlEffect::NodeLocal => 0,
        };
        let emit = due > entry.emitted || mutant(Mutant::EmitEveryDdl);
        entry.emitted = entry.emitted.max(due);
        entry.counts.iter_mut().for_each(|c| *c -= least);
        entry.emitted -= least.min(entry.emitted);
        if most == least || statement.effect() == DdlEffect::NodeLocal {
            self.open.remove(statement.identity());
        }
        emit
    }

    /// Statements that some nodes have had and others have not.
    pub fn pending(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(n: usize) -> DdlJoin {
        DdlJoin::new(NodeTable::new((0..n).map(|i| format!("dn{i}"))))
    }

    fn statement(sql: &str) -> DdlStatement {
        DdlStatement::parse("shop", sql)
    }

    #[test]
    fn expanding_at_the_first_contracting_at_the_last() {
        let mut j = join(3);
        let add = statement("ALTER TABLE t ADD COLUMN c INT");
        let emitted: Vec<_> = [1, 0, 2].map(|n| j.observe(NodeId(n), &add)).into();
        assert_eq!(emitted, [true, false, false]);
        let drop = statement("DROP TABLE t");
        let emitted: Vec<_> = [2, 1, 0].map(|n| j.observe(NodeId(n), &drop)).into();
        assert_eq!(emitted, [false, false, true]);
        assert_eq!(j.pending(), 0, "complete statements are forgotten");
    }

    #[test]
    fn a_statement_may_come_again_before_all_have_it() {
        let mut j = join(2);
        let create = statement("CREATE TABLE t (id INT)");
        assert!(j.observe(NodeId(0), &create));
        assert!(
            j.observe(NodeId(0), &create),
            "second time on the first node"
        );
        assert!(!j.observe(NodeId(1), &create));
        assert!(!j.observe(NodeId(1), &create));
        assert_eq!(j.pending(), 0);
    }

    #[test]
    fn state_survives_a_restart() {
        let mut j = join(2);
        let (create, drop) = (
            statement("CREATE TABLE t (id INT)"),
            statement("DROP TABLE u"),
        );
        assert!(j.observe(NodeId(0), &create));
        assert!(!j.observe(NodeId(1), &drop));
        let mut again = DdlJoin::restore(j.nodes.clone(), &j.save());
        assert_eq!(again.save(), j.save());
        assert!(!again.observe(NodeId(1), &create));
        assert!(again.observe(NodeId(0), &drop));
    }
}
