//! One node's own clock. In: the branches of emitted transactions on the node. Out: the newest transaction of this node
//! that one must wait for.

use std::collections::VecDeque;

use super::Interval;

/// Transactions remembered one by one. Workers of a replica are seldom further apart (`replica_checkpoint_group` is 512);
/// a transaction that could begin before all of these waits for the one that was forgotten last.
const ENTRIES_MAX: usize = 512;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Number of the prepare group in `file`, 0 if it is from another file.
    number: i64,
    gno: u64,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The newest of the node's files in which an emitted transaction was committed.
    file: u64,
    /// Numbers and transactions rise: an entry with a number that is not less than that of a newer transaction would never
    /// be the answer.
    entries: VecDeque<Entry>,
    /// The newest transaction that is older than all entries.
    older: u64,
    newest: u64,
}

impl Line {
    /// What the branch depends on, of the transactions of this node; `None` if that cannot be told.
    pub(super) fn needs(&mut self, branch: &Interval<'_>) -> Option<u64> {
        if branch.commit.file > self.file {
            self.file = branch.commit.file;
            self.older = self.newest;
            self.entries.clear();
        }
        if branch.commit.file != self.file || !is_valid(branch) {
            return None;
        }
        let committed = if branch.prepare.file == self.file {
            branch.last_committed
        } else {
            0
        };
        let behind = self
            .entries
            .partition_point(|entry| entry.number <= committed);
        let entry = behind.checked_sub(1).and_then(|at| self.entries.get(at));
        Some(entry.map_or(self.older, |entry| entry.gno))
    }

    /// Others may depend on the branch from now on.
    pub(super) fn enter(&mut self, branch: &Interval<'_>, gno: u64) {
        let here = branch.commit.file == self.file && branch.prepare.file == self.file;
        let number = if here && is_valid(branch) {
            branch.sequence_number
        } else {
            0
        };
        while self.entries.back().is_some_and(|e| e.number >= number) {
            self.entries.pop_back();
        }
        if self.entries.len() == ENTRIES_MAX
            && let Some(entry) = self.entries.pop_front()
        {
            self.older = entry.gno;
        }
        self.entries.push_back(Entry { number, gno });
        self.newest = gno;
    }
}

/// Whether the numbers are those of a clock that runs.
fn is_valid(branch: &Interval<'_>) -> bool {
    branch.last_committed >= 0
        && branch.sequence_number > branch.last_committed
        && branch.prepare <= branch.commit
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_flow::{Body, NodeId, SourcePos};

    fn branch(
        body: &Body,
        (prepare, commit): (u64, u64),
        committed: i64,
        number: i64,
    ) -> Interval<'_> {
        Interval {
            node: NodeId(0),
            prepare: SourcePos {
                file: prepare,
                offset: 0,
            },
            commit: SourcePos {
                file: commit,
                offset: 0,
            },
            last_committed: committed,
            sequence_number: number,
            body,
        }
    }

    /// Enters each of (files, last_committed, sequence_number) as transactions 1, 2, … and answers what they need.
    fn needs(branches: &[((u64, u64), i64, i64)]) -> Vec<Option<u64>> {
        let (body, mut line) = (Body::default(), Line::default());
        let all = (1..).zip(branches);
        all.map(|(gno, (files, committed, number))| {
            let branch = branch(&body, *files, *committed, *number);
            let needs = line.needs(&branch);
            line.enter(&branch, gno);
            needs
        })
        .collect()
    }

    #[test]
    fn the_newest_transaction_below_last_committed_is_waited_for() {
        let here = (1, 1);
        // The third was prepared before the second, the fifth overlaps with all but the first.
        let got = needs(&[
            (here, 0, 1),
            (here, 1, 5),
            (here, 1, 3),
            (here, 4, 6),
            (here, 2, 7),
            (here, 6, 8),
        ]);
        let want = [0, 1, 1, 3, 1, 4];
        assert_eq!(got, want.map(Some));
    }

    #[test]
    fn a_new_file_waits_for_all_before_it() {
        let got = needs(&[
            ((1, 1), 0, 1),
            ((1, 1), 0, 2),
            ((2, 2), 0, 1),
            ((2, 2), 0, 2),
            ((4, 4), 0, 1),
        ]);
        assert_eq!(got, [0, 0, 2, 2, 4].map(Some));
    }

    #[test]
    fn a_branch_prepared_in_an_earlier_file_is_waited_for_by_all_behind_it() {
        let got = needs(&[
            ((1, 1), 0, 10),
            ((2, 2), 0, 1),
            ((2, 2), 0, 2),
            ((1, 2), 9, 11),
            ((2, 2), 0, 3),
            ((1, 2), 9, 12),
            ((2, 2), 3, 4),
        ]);
        assert_eq!(got, [0, 1, 1, 1, 4, 4, 6].map(Some));
    }

    #[test]
    fn an_earlier_file_is_not_looked_into() {
        let got = needs(&[((2, 2), 0, 1), ((1, 1), 3, 9), ((2, 2), 0, 2)]);
        assert_eq!(got, [Some(0), None, Some(2)]);
    }

    #[test]
    fn numbers_that_make_no_sense_tell_nothing() {
        for (committed, number) in [(0, 0), (-1, 1), (3, 3), (4, 3), (i64::MIN, i64::MIN)] {
            let got = needs(&[((1, 1), committed, number), ((1, 1), 0, 1)]);
            assert_eq!(got, [None, Some(1)], "{committed}, {number}");
        }
        assert_eq!(needs(&[((2, 1), 0, 1)]), [None]);
    }

    #[test]
    fn what_is_forgotten_is_waited_for() {
        let mut branches: Vec<_> = (1..=ENTRIES_MAX as i64 + 5)
            .map(|number| ((1, 1), 0, number))
            .collect();
        assert!(needs(&branches).iter().all(|n| n.is_some_and(|n| n <= 4)));
        branches.push(((1, 1), 2, 1000));
        branches.push(((1, 1), 7, 1001));
        let got = needs(&branches);
        // Before the last but one, the first five are forgotten, before the last the first six.
        assert_eq!(got[got.len() - 2..], [Some(5), Some(7)]);
    }
}
