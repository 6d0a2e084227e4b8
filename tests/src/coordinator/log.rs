//! The coordinator's memory of its transactions: in go begins, decisions and finished branches, out
//! comes what to do with a branch that a server reports as prepared.

use std::collections::{BTreeSet, HashMap};

/// What has been decided about a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing yet: its session works on it.
    Open,
    /// Commit, with this timestamp if it has one.
    Commit(Option<u64>),
    /// Roll back.
    Rollback,
}

#[derive(Debug)]
struct Entry {
    decision: Decision,
    /// Nodes whose branch is not known to be finished.
    unfinished: BTreeSet<usize>,
}

/// Decisions by gtrid; an entry goes once all its branches are finished.
#[derive(Debug, Default)]
pub(super) struct DecisionLog {
    entries: HashMap<String, Entry>,
}

impl DecisionLog {
    pub(super) fn begin(&mut self, gtrid: &str, nodes: impl Iterator<Item = usize>) {
        let entry = Entry {
            decision: Decision::Open,
            unfinished: nodes.collect(),
        };
        self.entries.insert(gtrid.to_owned(), entry);
    }

    /// A decision is made once; a second one is ignored.
    pub(super) fn decide(&mut self, gtrid: &str, decision: Decision) {
        if let Some(entry) = self.entries.get_mut(gtrid)
            && entry.decision == Decision::Open
        {
            entry.decision = decision;
        }
    }

    pub(super) fn finished(&mut self, gtrid: &str, node: usize) {
        if let Some(entry) = self.entries.get_mut(gtrid) {
            entry.unfinished.remove(&node);
            if entry.unfinished.is_empty() {
                self.entries.remove(gtrid);
            }
        }
    }

    /// What to do with a prepared branch: presumed abort for a transaction that is not known.
    pub(super) fn decision(&self, gtrid: &str) -> Decision {
        self.entries
            .get(gtrid)
            .map_or(Decision::Rollback, |entry| entry.decision)
    }

    /// Decided transactions with a branch on `node` that is not known to be finished.
    pub(super) fn unfinished_on(&self, node: usize) -> Vec<String> {
        let entries = self.entries.iter();
        entries
            .filter(|(_, entry)| entry.decision != Decision::Open)
            .filter(|(_, entry)| entry.unfinished.contains(&node))
            .map(|(gtrid, _)| gtrid.clone())
            .collect()
    }

    /// Transactions that are decided and not finished everywhere.
    pub(super) fn unfinished(&self) -> usize {
        self.entries
            .values()
            .filter(|entry| entry.decision != Decision::Open)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_final_and_lasts_until_every_branch_is_finished() {
        let mut log = DecisionLog::default();
        log.begin("g", [0, 2].into_iter());
        assert_eq!(log.decision("g"), Decision::Open);
        assert!(log.unfinished_on(0).is_empty());
        log.decide("g", Decision::Commit(Some(7)));
        log.decide("g", Decision::Rollback);
        assert_eq!(log.unfinished_on(2), ["g"]);
        assert!(log.unfinished_on(1).is_empty());
        log.finished("g", 0);
        assert_eq!(log.decision("g"), Decision::Commit(Some(7)));
        assert_eq!(log.unfinished(), 1);
        log.finished("g", 2);
        assert_eq!(log.unfinished(), 0);
    }

    #[test]
    fn what_is_not_known_is_rolled_back() {
        assert_eq!(DecisionLog::default().decision("g"), Decision::Rollback);
    }
}
