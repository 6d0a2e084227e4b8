//! The logical clock of a node's binlog: `last_committed` and `sequence_number`, as mysqld gives them.
//!
//! In: groups in binlog order. Out: the pair for each. A transaction depends on the newest one that was committed before
//! its group commit began, or, if that is older, on the last one that wrote one of its rows (`WRITESET`). What has no rows
//! (XA COMMIT, XA ROLLBACK, DDL) empties mysqld's history of write sets.

use std::collections::HashMap;

use crate::history::{Change, Group, What};

/// Groups that arrive within this many µs are committed together.
const GROUP_COMMIT_MICROS: u64 = 200;

/// The clock; restarts with each file.
#[derive(Default)]
pub(super) struct Clock {
    sequence: i64,
    /// Time slot of the current group commit, and the last number before it.
    slot: u64,
    parent: i64,
    /// Since when `writers` is complete.
    history_start: i64,
    writers: HashMap<u64, i64>,
}

impl Clock {
    /// `(last_committed, sequence_number)` of the next group.
    pub(super) fn tick(&mut self, group: &Group<'_>) -> (i64, i64) {
        let slot = group.at / GROUP_COMMIT_MICROS;
        if slot != self.slot {
            (self.slot, self.parent) = (slot, self.sequence);
        }
        self.sequence += 1;
        let number = self.sequence;
        let depends = match group.what {
            What::Local(changes) | What::Prepare(changes) => self.rows(changes, number),
            What::Commit(_) | What::Rollback | What::Ddl(_) => {
                self.writers.clear();
                self.history_start = number;
                self.parent
            }
        };
        (depends, number)
    }

    fn rows(&mut self, changes: &[Change], number: i64) -> i64 {
        let mut newest = self.history_start;
        for change in changes {
            newest = newest.max(self.writers.insert(change.key, number).unwrap_or(0));
        }
        newest.min(self.parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: u64) -> Change {
        Change {
            key,
            before: None,
            after: Some(1),
        }
    }

    fn group<'a>(at: u64, what: What<'a>) -> Group<'a> {
        Group {
            node: 0,
            at,
            thread: 1,
            xid: 0,
            what,
        }
    }

    #[test]
    fn rows_depend_on_their_last_writer_and_the_rest_on_the_group_before() {
        let (a, b, ab) = ([change(1)], [change(2)], [change(1), change(2)]);
        let mut clock = Clock::default();
        assert_eq!(clock.tick(&group(1000, What::Local(&a))), (0, 1));
        assert_eq!(clock.tick(&group(1100, What::Local(&b))), (0, 2));
        assert_eq!(clock.tick(&group(1200, What::Local(&a))), (1, 3));
        assert_eq!(clock.tick(&group(1400, What::Prepare(&ab))), (3, 4));
        assert_eq!(clock.tick(&group(1600, What::Commit(9))), (4, 5));
        assert_eq!(clock.tick(&group(1800, What::Local(&[change(7)]))), (5, 6));
    }
}
