//! The order of statements. In: [`Work`]. Out: [`Piece`]s.
//!
//! Whole statements first: of the branches whose next statement waits for nothing, the one of the least node goes on. If
//! every branch waits for another, rows of statements are taken: those at the beginning of a statement that wait for
//! nothing, else rows from further behind whose key nothing before them in their branch touches, deletes before others. Rows
//! of one key never change places within a branch. So there is no order only if rows that change their key wait for each
//! other in a ring.
//!
//! Where rows are too many to be known singly, only statements are taken; where statements are, whole branches.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::rows::Work;

/// Steps in which rows are taken singly. Each looks at all rows; real transactions need one or two.
const ROW_STEPS_MAX: usize = 1000;

/// What is written next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A statement, or a run of them.
    Whole(usize),
    /// Some rows of a statement, in a statement of their own.
    Rows(usize, Picked),
    /// What is left of a statement.
    Rest(usize, Picked),
}

/// Rows of a statement, by their numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Picked {
    /// These.
    Only(Vec<u64>),
    /// All in a range but these.
    But(Range<u64>, Vec<u64>),
}

impl Picked {
    pub(super) fn contains(&self, row: u64) -> bool {
        match self {
            Self::Only(rows) => rows.binary_search(&row).is_ok(),
            Self::But(range, rows) => range.contains(&row) && rows.binary_search(&row).is_err(),
        }
    }

    /// Behind the last row that can be in it.
    pub(super) fn end(&self) -> u64 {
        match self {
            Self::Only(rows) => rows.last().map_or(0, |row| row + 1),
            Self::But(range, _) => range.end,
        }
    }
}

/// All statements and rows in their order. `None` if there is no order that does.
pub(super) fn pieces(work: &Work) -> Option<Vec<Piece>> {
    let mut plan = Plan::new(work);
    let row_steps = if work.knows_rows { ROW_STEPS_MAX } else { 0 };
    let mut steps = 0;
    loop {
        while plan.statement() {}
        if plan.is_complete() {
            return Some(plan.out);
        }
        steps += 1;
        let moved = steps <= row_steps && (plan.beginnings() || plan.hoist());
        if !moved {
            return None;
        }
    }
}

/// The branches in an order in which the first of each pair goes before the second, the least node first. `None` if there is
/// no such order.
pub(super) fn branches(count: usize, pairs: &BTreeSet<(usize, usize)>) -> Option<Vec<usize>> {
    let mut left: BTreeSet<usize> = (0..count).collect();
    let mut out = Vec::with_capacity(count);
    while !left.is_empty() {
        let waits = |then: usize| {
            pairs
                .iter()
                .any(|(first, second)| *second == then && left.contains(first))
        };
        let next = left.iter().copied().find(|part| !waits(*part))?;
        left.remove(&next);
        out.push(next);
    }
    Some(out)
}

/// Rows of a statement that were taken singly.
#[derive(Debug, Default)]
struct Taken {
    /// All before this one.
    before: u64,
    /// And these, in order.
    rows: Vec<u64>,
}

struct Plan<'a> {
    work: &'a Work,
    /// For each row, how many rows it still waits for.
    pending: Vec<u32>,
    /// For each group, the same, all its rows together.
    blocked: Vec<u32>,
    /// Groups of which rows were taken singly.
    split: BTreeMap<usize, Taken>,
    done: Vec<bool>,
    /// For each branch, its groups that are left.
    left: Vec<std::ops::Range<usize>>,
    out: Vec<Piece>,
}

impl<'a> Plan<'a> {
    fn new(work: &'a Work) -> Self {
        let mut plan = Self {
            work,
            pending: vec![0; work.rows.len()],
            blocked: vec![0; work.groups.len()],
            split: BTreeMap::new(),
            done: vec![false; work.rows.len()],
            left: Vec::new(),
            out: Vec::with_capacity(work.groups.len()),
        };
        for then in work.rows.iter().flat_map(|row| &row.before) {
            plan.pending[*then as usize] += 1;
            plan.blocked[work.rows[*then as usize].group] += 1;
        }
        let mut start = 0;
        for groups in work.groups.chunk_by(|a, b| a.part == b.part) {
            plan.left.push(start..start + groups.len());
            start += groups.len();
        }
        plan
    }

    fn is_complete(&self) -> bool {
        self.left.iter().all(std::ops::Range::is_empty)
    }

    /// Takes the next statements of the first branch that can go on, as long as no branch before it can.
    fn statement(&mut self) -> bool {
        let ready = |left: &std::ops::Range<usize>| {
            !left.is_empty() && self.blocked.get(left.start) == Some(&0)
        };
        let Some(group) = self
            .left
            .iter_mut()
            .find(|left| ready(left))
            .and_then(Iterator::next)
        else {
            return false;
        };
        let rows = self.undone(group);
        rows.iter().for_each(|row| self.finish(*row));
        self.out.push(match self.split.remove(&group) {
            None => Piece::Whole(group),
            Some(taken) => Piece::Rest(group, Picked::But(taken.before..u64::MAX, taken.rows)),
        });
        true
    }

    fn undone(&self, group: usize) -> Vec<usize> {
        let rows = self.work.rows_of[group].clone();
        rows.filter(|row| !self.done[*row]).collect()
    }

    fn finish(&mut self, row: usize) {
        self.done[row] = true;
        for then in &self.work.rows[row].before {
            let then = *then as usize;
            self.pending[then] -= 1;
            self.blocked[self.work.rows[then].group] -= 1;
        }
    }

    /// Writes rows of one group.
    fn take(&mut self, group: usize, rows: &[usize]) {
        rows.iter().for_each(|row| self.finish(*row));
        let numbers: Vec<u64> = rows.iter().map(|row| self.work.rows[*row].row).collect();
        let taken = self.split.entry(group).or_default();
        taken.rows.extend_from_slice(&numbers);
        taken.rows.sort_unstable();
        self.out.push(Piece::Rows(group, Picked::Only(numbers)));
    }

    /// Writes all rows of a group up to `last` that are left.
    fn take_to(&mut self, group: usize, rows: &[usize], last: usize) {
        rows.iter().for_each(|row| self.finish(*row));
        let end = self.work.rows[last].row + 1;
        let taken = self.split.entry(group).or_default();
        let (before, behind) = (taken.rows.iter().copied()).partition(|row| *row < end);
        let range = taken.before..end;
        (taken.before, taken.rows) = (end, behind);
        self.out
            .push(Piece::Rows(group, Picked::But(range, before)));
    }

    /// Takes rows at the beginning of the first statement where that lets another branch go on.
    fn beginnings(&mut self) -> bool {
        for left in self.left.clone() {
            let Some(group) = { left }.next() else {
                continue;
            };
            let mut rows = self.undone(group);
            let ready = rows
                .iter()
                .take_while(|row| self.pending[**row] == 0)
                .count();
            rows.truncate(ready);
            let useful = rows
                .iter()
                .rposition(|row| !self.work.rows[*row].before.is_empty());
            if let Some(at) = useful {
                rows.truncate(at + 1);
                self.take_to(group, &rows, rows[at]);
                return true;
            }
        }
        false
    }

    /// Takes rows out of their order, so that others can go on.
    fn hoist(&mut self) -> bool {
        let wanted = self.wanted();
        [true, false].into_iter().any(|deletes| {
            let mut any = false;
            for group in self.left.clone().into_iter().flatten() {
                let mut rows = self.undone(group);
                rows.retain(|row| {
                    let is_delete = self.work.rows[*row].is_delete;
                    is_delete == deletes && wanted[*row] && self.movable(*row)
                });
                if !rows.is_empty() {
                    any = true;
                    self.take(group, &rows);
                }
            }
            any
        })
    }

    /// Rows for which another branch waits, and those before them in their branch that touch the same key.
    fn wanted(&self) -> Vec<bool> {
        let mut wanted = vec![false; self.work.rows.len()];
        // For each key, the branch (from 1 on) in which a row further behind is wanted.
        let mut wanted_in = vec![0; self.work.keys.len()];
        for (row, item) in self.work.rows.iter().enumerate().rev() {
            let part = self.work.part_of(row) + 1;
            let key_wanted = item.keys.iter().any(|key| wanted_in[*key as usize] == part);
            if !self.done[row] && (key_wanted || !item.before.is_empty()) {
                wanted[row] = true;
                let keys = item.keys.iter();
                keys.for_each(|key| wanted_in[*key as usize] = part);
            }
        }
        wanted
    }

    /// Whether the row waits for nothing, and nothing that is left before it in its branch has its keys.
    fn movable(&self, row: usize) -> bool {
        let part = self.work.part_of(row);
        self.pending[row] == 0
            && self.work.rows[row].keys.iter().all(|key| {
                let acts = self.work.keys[*key as usize].iter();
                let acts = acts.map(|other| *other as usize);
                let mut own = acts.filter(|other| self.work.part_of(*other) == part);
                own.find(|other| !self.done[*other]) == Some(row)
            })
    }
}
