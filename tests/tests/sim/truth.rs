//! What really happened: for every transaction, what must come out of the service.
//!
//! In: what coordinators and nodes do. Out: fates and rows, also where a node is read only from the middle of its life.

use tributary_binlog::{Gtid, GtidSet};

use crate::body::Row;

/// What must become of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not every branch is finished: nothing of it may be seen.
    Open,
    /// It must be seen, once and whole.
    Committed,
    /// It must never be seen.
    RolledBack,
}

/// What has become of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Open,
    Committed,
    RolledBack,
    /// It was never prepared, and is gone with its connection.
    Gone,
}

/// A branch, or the whole of a transaction that one node commits alone.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) node: usize,
    pub(crate) rows: Vec<Row>,
    /// Its group with the rows.
    pub(crate) prepare: Option<Gtid>,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Debug)]
pub(crate) struct Ddl {
    pub(crate) sql: String,
    pub(crate) expands: bool,
    /// Nodes that have executed it, and how many there are.
    pub(crate) done: usize,
    pub(crate) nodes: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    pub(crate) parts: Vec<Part>,
    pub(crate) ddl: Option<Ddl>,
    /// The commit timestamp of its branches.
    pub(crate) tso: Option<u64>,
    /// When the last branch was finished.
    pub(crate) finished: u64,
}

impl Truth {
    pub(crate) fn fate(&self) -> Fate {
        if let Some(ddl) = &self.ddl {
            let seen = if ddl.expands { 1 } else { ddl.nodes };
            return if ddl.done >= seen {
                Fate::Committed
            } else {
                Fate::Open
            };
        }
        let any = |outcome| self.parts.iter().any(|p| p.outcome == outcome);
        match (any(Outcome::Open), any(Outcome::Committed)) {
            (true, _) => Fate::Open,
            (false, true) => Fate::Committed,
            (false, false) => Fate::RolledBack,
        }
    }

    /// Whether every node has had it.
    pub(crate) fn is_over(&self) -> bool {
        let everywhere = self.ddl.as_ref().is_none_or(|d| d.done == d.nodes);
        everywhere && self.fate() != Fate::Open
    }

    /// Committed here and rolled back there.
    pub(crate) fn is_heuristic(&self) -> bool {
        let any = |outcome| self.parts.iter().any(|p| p.outcome == outcome);
        any(Outcome::Committed) && any(Outcome::RolledBack)
    }

    /// Whether nodes were first read when a part of it lay behind them already.
    pub(crate) fn is_cut(&self, starts: &[GtidSet]) -> bool {
        let before = |p: &Part| p.prepare.is_some_and(|g| starts[p.node].contains(&g));
        self.parts.iter().any(before)
    }

    /// The rows that must be seen, given what lay before the start of each node.
    pub(crate) fn rows(&self, starts: &[GtidSet]) -> Vec<Row> {
        let ours = |p: &&Part| {
            let behind = p.prepare.is_some_and(|g| !starts[p.node].contains(&g));
            behind && p.outcome == Outcome::Committed
        };
        let parts = self.parts.iter().filter(ours);
        parts.flat_map(|p| p.rows.clone()).collect()
    }
}
