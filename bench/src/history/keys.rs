//! The rows of one node: which exist, in which version, and which are locked by an open transaction.
//!
//! In: picks. Out: [`Change`]s that fit what was committed before, as a server with row locks would have them.

use crate::rng::Rng;

/// Rows an OLTP history works on, for each node.
const HOT_KEYS: u64 = 1 << 16;

/// A row's content is a function of its key and its version.
pub(crate) type Version = u32;

/// One changed row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Primary key, unique in the cluster.
    pub(crate) key: u64,
    /// What the row was; `None` = it did not exist.
    pub(crate) before: Option<Version>,
    /// What it is now; `None` = deleted.
    pub(crate) after: Option<Version>,
}

#[derive(Clone, Copy, Default)]
struct Row {
    version: Version,
    exists: bool,
    locked: bool,
}

/// The rows of one node. Node `n` of `k` holds the keys `n`, `n + k`, `n + 2k` …
pub(crate) struct Keys {
    node: u64,
    nodes: u64,
    hot: Vec<Row>,
    /// The next row that was never used.
    fresh: u64,
}

impl Keys {
    pub(crate) fn new(node: usize, nodes: usize) -> Self {
        let hot = vec![Row::default(); HOT_KEYS as usize];
        Self {
            node: node as u64,
            nodes: nodes as u64,
            hot,
            fresh: HOT_KEYS,
        }
    }

    fn key(&self, row: u64) -> u64 {
        row * self.nodes + self.node + 1
    }

    fn row(&mut self, key: u64) -> Option<&mut Row> {
        self.hot.get_mut(((key - 1) / self.nodes) as usize)
    }

    /// Locks a row that nobody holds and changes it: inserts it if it is missing, else mostly updates it.
    pub(crate) fn pick(&mut self, rng: &mut Rng) -> Change {
        loop {
            let place = rng.below(HOT_KEYS);
            let key = self.key(place);
            let Some(row) = self.hot.get_mut(place as usize).filter(|row| !row.locked) else {
                continue;
            };
            let before = row.exists.then_some(row.version);
            row.exists = !row.exists || rng.percent(85);
            row.version += 1;
            row.locked = true;
            let after = row.exists.then_some(row.version);
            return Change { key, before, after };
        }
    }

    /// Inserts a row that was never there. Nobody else can want it, so it is not locked.
    pub(crate) fn insert(&mut self) -> Change {
        let key = self.key(self.fresh);
        self.fresh += 1;
        Change {
            key,
            before: None,
            after: Some(1),
        }
    }

    /// The transaction that made `change` has committed.
    pub(crate) fn commit(&mut self, change: &Change) {
        if let Some(row) = self.row(change.key) {
            row.locked = false;
        }
    }

    /// The transaction that made `change` was rolled back.
    pub(crate) fn roll_back(&mut self, change: &Change) {
        if let Some(row) = self.row(change.key) {
            row.exists = change.before.is_some();
            row.version -= 1;
            row.locked = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_row_is_not_picked_and_a_rollback_restores_it() {
        let mut keys = Keys::new(2, 4);
        let mut rng = Rng::new(7);
        let picked: Vec<Change> = (0..10_000).map(|_| keys.pick(&mut rng)).collect();
        let mut all: Vec<u64> = picked.iter().map(|c| c.key).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 10_000);
        assert!(
            picked
                .iter()
                .all(|c| c.key % 4 == 3 && c.before.is_none() && c.after == Some(1))
        );
        let change = picked[0];
        keys.roll_back(&change);
        let again = loop {
            let next = keys.pick(&mut rng);
            keys.commit(&next);
            if next.key == change.key {
                break next;
            }
        };
        assert_eq!(again.before, None);
    }
}
