//! The branches as statements and rows. In: bodies, and the tables that matter. Out: [`Work`]: the statements and rows whose
//! place matters, and which must wait for which.
//!
//! Of most transactions of which rows move, few rows do. Rows of a key that only one branch has are not kept, and statements that
//! wait for nothing and for which nothing waits are runs. What is kept is bounded: of more rows than
//! [`limits::MOVED_ROWS_MAX`] only their statements are known, of more statements only their branches.

use std::collections::BTreeSet;

use hashbrown::HashSet;
use smallvec::SmallVec;
use tributary_binlog::{PrimaryKey, Row};
use tributary_flow::{Body, limits};

use super::acts::{Act, Acts, Deed};
use super::shared::{Name, Unread, changes_key, clip};
use super::walk::{Rows, walk};

/// A statement whose place matters, or a run of such for whose place it does not: from Rows_query and Table_maps to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) part: usize,
    /// Where it lies in the branch.
    pub(super) range: std::ops::Range<u64>,
    pub(super) events: u64,
    /// Number of its first row.
    pub(super) first_row: u64,
}

/// A row whose place matters.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) group: usize,
    /// Its number.
    pub(super) row: u64,
    /// Keys it frees, takes or keeps.
    pub(super) keys: SmallVec<[u32; 2]>,
    pub(super) is_delete: bool,
    /// Rows of other branches that wait for this one.
    pub(super) before: SmallVec<[u32; 2]>,
}

/// The transaction, taken apart.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// By branch, in order.
    pub(super) groups: Vec<Group>,
    /// By group, in order.
    pub(super) rows: Vec<Item>,
    /// Of each group, its rows.
    pub(super) rows_of: Vec<std::ops::Range<usize>>,
    /// The rows of each key, in the order of branches and rows.
    pub(super) keys: Vec<Vec<u32>>,
    /// Whether rows stand for themselves, and not for all rows of their statement.
    pub(super) knows_rows: bool,
}

/// How much is known of what waits.
#[derive(Debug)]
pub(super) enum Known {
    /// Nothing waits.
    Nothing,
    /// Statements, at least, and branches.
    Work(Box<Work>, BTreeSet<(usize, usize)>),
    /// Branches alone: the first of each pair goes before the second.
    Branches(BTreeSet<(usize, usize)>),
}

/// Where a statement begins.
#[derive(Clone, Copy, Debug)]
struct Start {
    at: u64,
    events: u64,
    row: u64,
}

/// The statements of all branches.
struct Statements {
    starts: Vec<Start>,
    /// The first statement of each branch, and the branch's end.
    parts: Vec<(usize, Start)>,
    /// Of all branches, also if they are too many to be kept.
    count: u64,
}

/// Takes the branches apart.
pub(super) fn read(
    parts: &[Body],
    tables: &[Name],
    mut acts: Acts<'_>,
    caps: Caps,
) -> Result<Known, Unread> {
    let mut statements = Statements {
        starts: Vec::new(),
        parts: Vec::new(),
        count: 0,
    };
    let mut row = 0;
    for (part, body) in parts.iter().enumerate() {
        let first = statements.starts.len();
        let (mut events, mut next_row) = (0, row);
        row = walk(body, 0..body.len(), tables, row, &mut |event| {
            if event.begins {
                statements.count += 1;
                if statements.count <= caps.statements {
                    statements.starts.push(Start {
                        at: event.range.start,
                        events,
                        row: next_row,
                    });
                }
            }
            events += 1;
            if let Some(rows) = &event.rows {
                next_row = rows.numbers.end;
                note(rows, part, statements.count - 1, &mut acts)?;
            }
            Ok(())
        })?;
        let at = body.len();
        statements.parts.push((first, Start { at, events, row }));
    }
    let mut links = Links::new(caps);
    acts.by_key(&mut |deeds| links.key(deeds))?;
    Ok(links.known(&statements))
}

/// Notes what the rows of an event do.
fn note(rows: &Rows<'_>, part: usize, statement: u64, acts: &mut Acts<'_>) -> Result<(), Unread> {
    let numbered = rows.numbers.clone().zip(rows.walk.clone());
    for (number, row) in numbered {
        let row = row.map_err(|_| Unread::Strange)?;
        let (old, new) = match (&row.before, &row.after) {
            (Some(_), Some(_)) if !changes_key(rows.key, &row) => (Some(Act::Keep), None),
            (before, after) => (
                before.as_ref().map(|_| Act::Free),
                after.as_ref().map(|_| Act::Take),
            ),
        };
        for (act, after) in [(old, false), (new, true)] {
            if let Some(act) = act
                && let Some(key) = key_bytes(rows.table, rows.key, &row, after)
            {
                let deed = Deed {
                    part,
                    statement,
                    row: number,
                    act,
                    is_delete: row.after.is_none(),
                    has_two: old.is_some() && new.is_some(),
                };
                acts.push(&key, &deed)?;
            }
        }
    }
    Ok(())
}

/// The key of an image with its table, told apart by lengths. A column an after image lacks has not changed.
fn key_bytes(table: usize, key: PrimaryKey<'_>, row: &Row<'_>, after: bool) -> Option<Vec<u8>> {
    let mut out = (table as u32).to_le_bytes().to_vec();
    for (column, prefix) in key {
        let column = column as usize;
        let new = row
            .after
            .as_ref()
            .filter(|_| after)
            .map(|image| image.column(column));
        let old = || row.before.as_ref().map(|image| image.column(column));
        let value = (new.and_then(|value| clip(value, prefix))).or_else(|| clip(old()?, prefix))?;
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(value);
    }
    Some(out)
}

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    pub(super) rows: usize,
    pub(super) statements: u64,
}

impl Caps {
    pub(super) const DEFAULT: Self = Self {
        rows: limits::MOVED_ROWS_MAX,
        statements: limits::MOVED_STATEMENTS_MAX,
    };
}

/// What is found out about keys, one by one.
struct Links {
    caps: Caps,
    /// (first, then), by rows' numbers.
    waits: Vec<(u64, u64)>,
    /// What the rows of keys that matter do; `None` once they are too many.
    deeds: Option<Vec<(u32, Deed)>>,
    keys: u32,
    /// (first, then), by statements; `None` once they are too many.
    statements: Option<HashSet<(u64, u64)>>,
    branches: BTreeSet<(usize, usize)>,
}

impl Links {
    fn new(caps: Caps) -> Self {
        Self {
            caps,
            waits: Vec::new(),
            deeds: Some(Vec::new()),
            keys: 0,
            statements: Some(HashSet::new()),
            branches: BTreeSet::new(),
        }
    }

    fn key(&mut self, deeds: &[Deed]) {
        let by_part: SmallVec<[&[Deed]; 4]> = deeds.chunk_by(|a, b| a.part == b.part).collect();
        let mut waits: SmallVec<[(Deed, Deed); 4]> = SmallVec::new();
        if by_part.len() > 1 {
            chain(&by_part, &mut waits);
        }
        for (first, then) in &waits {
            self.branches.insert((first.part, then.part));
            if let Some(pairs) = &mut self.statements {
                pairs.insert((first.statement, then.statement));
            }
        }
        let too_many = |pairs: &HashSet<_>| pairs.len() as u64 > self.caps.statements;
        if self.statements.as_ref().is_some_and(too_many) {
            self.statements = None;
        }
        // A row that changes its key ties two keys together.
        let matters = by_part.len() > 1 || deeds.iter().any(|deed| deed.has_two);
        if let Some(known) = self.deeds.as_mut().filter(|_| matters) {
            known.extend(deeds.iter().map(|deed| (self.keys, *deed)));
            self.waits
                .extend(waits.iter().map(|(first, then)| (first.row, then.row)));
            self.keys += 1;
            if known.len() > self.caps.rows {
                self.deeds = None;
                self.waits = Vec::new();
            }
        }
    }

    fn known(self, statements: &Statements) -> Known {
        if self.branches.is_empty() {
            return Known::Nothing;
        }
        if statements.count > self.caps.statements {
            return Known::Branches(self.branches);
        }
        match (self.deeds, self.statements) {
            (Some(deeds), _) => {
                let work = by_rows(statements, deeds, &self.waits, self.keys);
                Known::Work(Box::new(work), self.branches)
            }
            (None, Some(pairs)) => {
                let work = by_statements(statements, &pairs);
                Known::Work(Box::new(work), self.branches)
            }
            (None, None) => Known::Branches(self.branches),
        }
    }
}

/// Rows that stand for themselves.
fn by_rows(
    statements: &Statements,
    mut deeds: Vec<(u32, Deed)>,
    waits: &[(u64, u64)],
    keys: u32,
) -> Work {
    deeds.sort_unstable_by_key(|(key, deed)| (deed.row, *key));
    let mut work = Work {
        knows_rows: true,
        keys: vec![Vec::new(); keys as usize],
        ..Work::default()
    };
    let mut matter: Vec<u64> = deeds.iter().map(|(_, deed)| deed.statement).collect();
    matter.dedup();
    let group_of = groups(statements, &matter, &mut work.groups);
    let mut at = 0;
    for of_row in deeds.chunk_by(|a, b| a.1.row == b.1.row) {
        let Some((_, deed)) = of_row.first() else {
            continue;
        };
        while matter[at] != deed.statement {
            at += 1;
        }
        let number = work.rows.len() as u32;
        for (key, _) in of_row {
            work.keys[*key as usize].push(number);
        }
        work.rows.push(Item {
            group: group_of[at],
            row: deed.row,
            keys: of_row.iter().map(|(key, _)| *key).collect(),
            is_delete: deed.is_delete,
            before: SmallVec::new(),
        });
    }
    let find = |row: u64, rows: &[Item]| rows.binary_search_by_key(&row, |item| item.row);
    for (first, then) in waits {
        if let (Ok(first), Ok(then)) = (find(*first, &work.rows), find(*then, &work.rows)) {
            work.rows[first].before.push(then as u32);
        }
    }
    work.number_rows();
    work
}

/// One row for each statement that matters.
fn by_statements(statements: &Statements, pairs: &HashSet<(u64, u64)>) -> Work {
    let mut work = Work::default();
    let mut matter: Vec<u64> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
    matter.sort_unstable();
    matter.dedup();
    let group_of = groups(statements, &matter, &mut work.groups);
    work.rows = (group_of.iter())
        .map(|group| Item {
            group: *group,
            row: work.groups[*group].first_row,
            keys: SmallVec::new(),
            is_delete: false,
            before: SmallVec::new(),
        })
        .collect();
    for (first, then) in pairs {
        if let (Ok(first), Ok(then)) = (matter.binary_search(first), matter.binary_search(then)) {
            work.rows[first].before.push(then as u32);
        }
    }
    work.number_rows();
    work
}

/// Appends the statements that matter, and the runs between them. Answers the place of each that matters.
fn groups(statements: &Statements, matter: &[u64], out: &mut Vec<Group>) -> Vec<usize> {
    let mut places = Vec::with_capacity(matter.len());
    let mut next = matter.iter().copied().map(|n| n as usize).peekable();
    for (part, (first, end)) in statements.parts.iter().enumerate() {
        let behind = statements.parts.get(part + 1).map(|(first, _)| *first);
        let behind = behind.unwrap_or(statements.starts.len());
        let start = |n: usize| match n < behind {
            true => statements.starts[n],
            false => *end,
        };
        let mut add = |from: usize, to: usize| {
            let (a, b) = (start(from), start(to));
            if from < to {
                out.push(Group {
                    part,
                    range: a.at..b.at,
                    events: b.events - a.events,
                    first_row: a.row,
                });
            }
            out.len()
        };
        let mut from = *first;
        while let Some(n) = next.next_if(|n| *n < behind) {
            add(from, n);
            places.push(add(n, n + 1) - 1);
            from = n + 1;
        }
        add(from, behind);
    }
    places
}

impl Work {
    pub(super) fn part_of(&self, row: usize) -> usize {
        self.groups[self.rows[row].group].part
    }

    fn number_rows(&mut self) {
        self.rows_of = vec![0..0; self.groups.len()];
        let mut at = 0;
        for rows in self.rows.chunk_by(|a, b| a.group == b.group) {
            if let Some(first) = rows.first() {
                self.rows_of[first.group] = at..at + rows.len();
            }
            at += rows.len();
        }
    }
}

/// Orders the branches that free and take one key: first the one that had it, last the one that keeps it, those that
/// only borrow it between, in node order. A branch that has it before and after has it not while others borrow it.
fn chain(by_part: &[&[Deed]], waits: &mut SmallVec<[(Deed, Deed); 4]>) {
    let ends = |deeds: &[Deed]| {
        let mut moves = deeds
            .iter()
            .map(|deed| deed.act)
            .filter(|act| *act != Act::Keep);
        let first = moves.next()?;
        Some((first, moves.next_back().unwrap_or(first)))
    };
    let (mut had, mut keeps, mut borrow) = (None, None, SmallVec::<[&[Deed]; 4]>::new());
    for deeds in by_part {
        let Some((first, last)) = ends(deeds) else {
            continue;
        };
        // Two that had it or two that keep it: a table every node has a copy of. There is nothing to order.
        if first == Act::Free && had.replace(*deeds).is_some() {
            return;
        }
        if last == Act::Take && keeps.replace(*deeds).is_some() {
            return;
        }
        if (first, last) == (Act::Take, Act::Free) {
            borrow.push(deeds);
        }
    }
    if let (Some(whole), Some(again)) = (had, keeps)
        && std::ptr::eq(whole, again)
    {
        let freed = whole.iter().position(|deed| deed.act == Act::Free);
        let (free, take) = whole.split_at(freed.map_or(0, |at| at + 1));
        (had, keeps) = (Some(free), Some(take));
        if borrow.is_empty() {
            return;
        }
    }
    let steps = had.into_iter().chain(borrow).chain(keeps);
    let steps: SmallVec<[_; 4]> = steps
        .filter_map(|deeds| deeds.first().zip(deeds.last()))
        .collect();
    for pair in steps.windows(2) {
        if let [(_, last), (first, _)] = pair {
            waits.push((**last, **first));
        }
    }
}
