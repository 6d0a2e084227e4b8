//! The branches as statements, events and rows. In: bodies, and the tables that matter. Out: [`Work`]: what each row of
//! those tables does to which key, and which row must wait for which.

use std::ops::Range;

use hashbrown::HashMap;
use smallvec::SmallVec;
use tributary_binlog::{
    ChecksumAlg, EventReader, EventType, PrimaryKey, RawEvent, Row, RowsHeader, RowsWalk, TableMap,
    table_id_of,
};
use tributary_flow::Body;

use super::shared::{Name, changes_key, clip};

/// Bytes of a branch: of a segment of its body, from where to where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) segment: usize,
    pub(super) bytes: Range<usize>,
}

/// An event of a branch.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) span: Span,
    pub(super) event_type: EventType,
    /// Of a rows event: where in the statement its Table_map is.
    pub(super) map: Option<usize>,
    /// Its rows, as numbers of [`Work::rows`]; empty unless the table matters.
    pub(super) rows: Range<usize>,
}

/// A statement: its Rows_query and Table_maps, and rows to the end of the statement.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) part: usize,
    pub(super) events: Vec<Event>,
    pub(super) rows: Range<usize>,
}

/// What a row does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Free,
    Take,
    /// The row keeps its key.
    Keep,
}

/// A row of a table that matters.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) group: usize,
    pub(super) event: usize,
    /// Its bytes in the event.
    pub(super) bytes: Range<usize>,
    /// Keys it frees, takes or keeps.
    pub(super) keys: SmallVec<[usize; 2]>,
    pub(super) is_delete: bool,
    /// Rows of other branches that wait for this one.
    pub(super) before: SmallVec<[usize; 1]>,
}

/// The transaction, taken apart.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// By branch, in order.
    pub(super) groups: Vec<Group>,
    /// By group, in order.
    pub(super) rows: Vec<Item>,
    /// What happens to each key, in the order of branches and rows.
    pub(super) keys: Vec<Vec<(usize, Act)>>,
}

impl Work {
    /// Takes the branches apart. `None` if they are not understood, or no row waits for another.
    pub(super) fn read(parts: &[Body], tables: &[Name<'_>]) -> Option<Self> {
        let mut reading = Reading {
            tables,
            ids: HashMap::new(),
            work: Self::default(),
        };
        for (part, body) in parts.iter().enumerate() {
            reading.part(part, body)?;
        }
        let mut work = reading.work;
        work.link().then_some(work)
    }

    pub(super) fn part_of(&self, row: usize) -> usize {
        self.groups[self.rows[row].group].part
    }

    /// Finds out which rows wait for which. Answers whether any does.
    fn link(&mut self) -> bool {
        let mut waits = Vec::new();
        for acts in &self.keys {
            let by_part: SmallVec<[&[(usize, Act)]; 4]> =
                (acts.chunk_by(|a, b| self.part_of(a.0) == self.part_of(b.0))).collect();
            if by_part.len() > 1 {
                chain(&by_part, &mut waits);
            }
        }
        for (first, then) in &waits {
            self.rows[*first].before.push(*then);
        }
        !waits.is_empty()
    }
}

/// Orders the branches that free and take one key: first the one that had it, last the one that keeps it, those that
/// only borrow it between, in node order. A branch that has it before and after has it not while others borrow it.
fn chain(by_part: &[&[(usize, Act)]], waits: &mut Vec<(usize, usize)>) {
    let ends = |acts: &[(usize, Act)]| {
        let mut moves = acts
            .iter()
            .map(|(_, act)| *act)
            .filter(|act| *act != Act::Keep);
        let first = moves.next()?;
        Some((first, moves.next_back().unwrap_or(first)))
    };
    let (mut had, mut keeps, mut borrow) = (None, None, SmallVec::<[&[(usize, Act)]; 4]>::new());
    for acts in by_part {
        let Some((first, last)) = ends(acts) else {
            continue;
        };
        // Two that had it or two that keep it: a table every node has a copy of. There is nothing to order.
        if first == Act::Free && had.replace(*acts).is_some() {
            return;
        }
        if last == Act::Take && keeps.replace(*acts).is_some() {
            return;
        }
        if (first, last) == (Act::Take, Act::Free) {
            borrow.push(acts);
        }
    }
    if let (Some(whole), Some(again)) = (had, keeps)
        && std::ptr::eq(whole, again)
    {
        let freed = whole.iter().position(|(_, act)| *act == Act::Free);
        let (free, take) = whole.split_at(freed.map_or(0, |at| at + 1));
        (had, keeps) = (Some(free), Some(take));
        if borrow.is_empty() {
            return;
        }
    }
    let steps = had.into_iter().chain(borrow).chain(keeps);
    let steps: SmallVec<[_; 4]> = steps
        .filter_map(|acts| acts.first().zip(acts.last()))
        .collect();
    for pair in steps.windows(2) {
        if let [(_, (last, _)), ((first, _), _)] = pair {
            waits.push((*last, *first));
        }
    }
}

struct Reading<'a, 't> {
    tables: &'t [Name<'a>],
    ids: HashMap<Vec<u8>, usize>,
    work: Work,
}

impl Reading<'_, '_> {
    fn part(&mut self, part: usize, body: &Body) -> Option<()> {
        let mut maps: SmallVec<[(usize, TableMap<'_>); 4]> = SmallVec::new();
        let mut group = self.begin(part);
        for (segment, bytes) in body.segments().iter().enumerate() {
            let mut reader = EventReader::new(bytes, ChecksumAlg::None);
            let mut start = 0;
            while let Some(raw) = reader.next().ok()? {
                let bytes = start..start + raw.bytes.len();
                start = bytes.end;
                let mut event = Event {
                    span: Span { segment, bytes },
                    event_type: raw.header.event_type,
                    map: None,
                    rows: self.work.rows.len()..self.work.rows.len(),
                };
                let mut ends = false;
                if event.event_type == EventType::TABLE_MAP {
                    let map = TableMap::parse(raw.body).ok()?;
                    maps.push((group.events.len(), map));
                } else if event.event_type.is_rows() {
                    let rows = RowsHeader::parse(event.event_type, raw.body).ok()?;
                    let id = table_id_of(event.event_type, raw.body)?;
                    match maps.iter().rev().find(|(_, map)| map.table_id == id) {
                        Some((at, map)) => {
                            event.map = Some(*at);
                            self.rows(group.events.len(), map, &raw, &rows);
                        }
                        // Only says that the statement ends.
                        None if rows.rows.is_empty() => {}
                        None => return None,
                    }
                    ends = rows.is_stmt_end();
                }
                event.rows.end = self.work.rows.len();
                group.events.push(event);
                if ends {
                    maps.clear();
                    self.end(std::mem::take(&mut group));
                    group = self.begin(part);
                }
            }
        }
        self.end(group);
        Some(())
    }

    fn begin(&self, part: usize) -> Group {
        let row = self.work.rows.len();
        Group {
            part,
            events: Vec::new(),
            rows: row..row,
        }
    }

    fn end(&mut self, mut group: Group) {
        if !group.events.is_empty() {
            group.rows.end = self.work.rows.len();
            self.work.groups.push(group);
        }
    }

    /// Adds the rows of an event, all or none.
    fn rows(
        &mut self,
        event: usize,
        map: &TableMap<'_>,
        raw: &RawEvent<'_>,
        rows: &RowsHeader<'_>,
    ) {
        let Ok(table) = self.tables.binary_search(&(map.schema, map.table)) else {
            return;
        };
        let (Some(key), Ok(walk)) = (map.primary_key(), RowsWalk::new(map, rows)) else {
            return;
        };
        // Keys are noted row by row, so an event that ends in the middle of a row must be known before.
        if walk.clone().any(|row| row.is_err()) {
            return;
        }
        let mut start = raw.bytes.len() - rows.rows.len();
        for row in walk.map_while(Result::ok) {
            let bytes = start..start + row.bytes.len();
            start = bytes.end;
            let number = self.work.rows.len();
            let keys = self.acts(number, table, key, &row);
            self.work.rows.push(Item {
                group: self.work.groups.len(),
                event,
                bytes,
                keys,
                is_delete: row.after.is_none(),
                before: SmallVec::new(),
            });
        }
    }

    fn acts(
        &mut self,
        number: usize,
        table: usize,
        key: PrimaryKey<'_>,
        row: &Row<'_>,
    ) -> SmallVec<[usize; 2]> {
        let (old, new) = match (&row.before, &row.after) {
            (Some(_), Some(_)) if !changes_key(key, row) => (Some(Act::Keep), None),
            (before, after) => (
                before.as_ref().map(|_| Act::Free),
                after.as_ref().map(|_| Act::Take),
            ),
        };
        let mut keys = SmallVec::new();
        for (act, after) in [(old, false), (new, true)] {
            if let Some(act) = act
                && let Some(bytes) = key_bytes(table, key, row, after)
            {
                let next = self.work.keys.len();
                let id = *self.ids.entry(bytes).or_insert(next);
                if id == next {
                    self.work.keys.push(Vec::new());
                }
                self.work.keys[id].push((number, act));
                keys.push(id);
            }
        }
        keys
    }
}

/// The key of an image with its table, told apart by lengths. A column an after image lacks has not changed.
fn key_bytes(table: usize, key: PrimaryKey<'_>, row: &Row<'_>, after: bool) -> Option<Vec<u8>> {
    let mut out = table.to_le_bytes().to_vec();
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
