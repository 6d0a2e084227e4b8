//! Keys that one node frees and another takes. In: the rows of emitted transactions. Out: the newest transaction that
//! freed a key which one takes.
//!
//! A take waits for the last free of its key. Where the keys are not known (no primary key, no
//! `binlog_row_metadata=FULL`, a key that has no number in [`Layout`]), it waits for the last free in the table by another
//! node. What a node frees itself need not be known: its own clock knows.
//!
//! Work is done where it can matter: rows of a table that only one node has touched are not looked at, nor are inserts
//! into a table in which no other node has freed a key lately.

use hashbrown::HashMap;
use smallvec::SmallVec;
use tributary_binlog::{ChecksumAlg, EventReader, EventType, RawEvent, RowsHeader, TableMap};
use tributary_flow::{Body, NodeId, limits};

use super::layout::{Act, Layout, is_insert};

/// Bytes of a table id at the start of a body.
const TABLE_ID_LEN: usize = 6;

/// The newest transaction that did something, and the newest of another node than that one's.
#[derive(Clone, Copy, Debug)]
struct Newest {
    gno: u64,
    node: NodeId,
    of_another: u64,
}

impl Newest {
    const NONE: Self = Self {
        gno: 0,
        node: NodeId(0),
        of_another: 0,
    };

    fn set(&mut self, node: NodeId, gno: u64) {
        if node != self.node {
            self.of_another = self.gno;
            self.node = node;
        }
        self.gno = gno;
    }

    /// The newest of another node than `node`.
    #[inline]
    fn beside(&self, node: NodeId) -> u64 {
        if node == self.node {
            self.of_another
        } else {
            self.gno
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Users {
    Nobody,
    /// What it frees has no number.
    One(NodeId),
    Several,
}

#[derive(Debug)]
struct Table {
    users: Users,
    /// Of the layouts in which numbers of keys were made last.
    shape: u64,
    /// Frees of any key.
    any: Newest,
    /// Frees of keys that have no number, or one that does not count any more.
    vague: Newest,
}

/// A key that the transaction being read frees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Freed {
    layout: usize,
    node: NodeId,
    number: Option<u64>,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Bodies of Table_maps without the table id → layouts.
    maps: HashMap<Box<[u8]>, usize>,
    map_bytes: usize,
    /// Layouts and their tables.
    layouts: Vec<(Layout, usize)>,
    /// Names → tables.
    names: HashMap<Box<[u8]>, usize>,
    tables: Vec<Table>,
    /// Numbers of keys → the last transaction that freed one of that number.
    freed: HashMap<u64, u64>,
    /// What the transaction being read frees.
    new: Vec<Freed>,
}

impl Keys {
    /// Whether so many tables are known that it is time to begin anew.
    pub(super) fn is_full(&self) -> bool {
        self.map_bytes > limits::TABLE_MAPS_BYTES_MAX
    }

    /// Everything that is freed has been waited for.
    pub(super) fn forget_freed(&mut self) {
        self.new.clear();
        self.freed.clear();
        for table in &mut self.tables {
            (table.any, table.vague) = (Newest::NONE, Newest::NONE);
        }
    }

    /// Reads a branch: raises `on` to what its takes wait for, and notes what it frees. `false` if it is not understood,
    /// is too large, or frees too many keys.
    pub(super) fn read(&mut self, node: NodeId, body: &Body, on: &mut u64) -> bool {
        // By its length, and not by where it lies: the answer is in the output.
        if body.len() > limits::KEYS_BODY_BYTES_MAX {
            return false;
        }
        let mut ids: SmallVec<[(u64, usize); 4]> = SmallVec::new();
        for chunk in body.chunks() {
            // Who writes the transaction will meet the same error.
            let Ok(chunk) = chunk else { return false };
            let mut reader = EventReader::new(&chunk, ChecksumAlg::None);
            loop {
                match reader.next() {
                    Ok(Some(raw)) => {
                        if self.event(node, &raw, &mut ids, on).is_none() {
                            return false;
                        }
                    }
                    Ok(None) => break,
                    Err(_) => return false,
                }
            }
        }
        self.new.len() <= limits::FREED_KEYS_MAX
    }

    #[inline]
    fn event(
        &mut self,
        node: NodeId,
        raw: &RawEvent<'_>,
        ids: &mut SmallVec<[(u64, usize); 4]>,
        on: &mut u64,
    ) -> Option<()> {
        let event_type = raw.header.event_type;
        if event_type == EventType::TABLE_MAP {
            let (id, content) = raw.body.split_first_chunk::<TABLE_ID_LEN>()?;
            let layout = self.layout(raw.body, content)?;
            self.touch(node, layout);
            let id = table_id(id);
            match ids.iter_mut().find(|(known, _)| *known == id) {
                Some((_, known)) => *known = layout,
                None => ids.push((id, layout)),
            }
        } else if event_type.is_rows() {
            let id = table_id(raw.body.first_chunk()?);
            match ids.iter().find(|(known, _)| *known == id) {
                Some((_, layout)) => self.rows(node, *layout, raw, on)?,
                // One without rows only says that the statement ends.
                None => {
                    let header = RowsHeader::parse(event_type, raw.body).ok()?;
                    return header.rows.is_empty().then_some(());
                }
            }
        }
        Some(())
    }

    /// The layout that a Table_map with this body describes.
    #[inline]
    fn layout(&mut self, body: &[u8], content: &[u8]) -> Option<usize> {
        if let Some(layout) = self.maps.get(content) {
            return Some(*layout);
        }
        let map = TableMap::parse(body).ok()?;
        // No name has a NUL.
        let name = [map.schema, b"\0", map.table].concat().into_boxed_slice();
        let layout = Layout::new(&map, &name);
        let next = self.tables.len();
        let table = *self.names.entry(name).or_insert(next);
        if table == next {
            self.tables.push(Table {
                users: Users::Nobody,
                shape: layout.shape(),
                any: Newest::NONE,
                vague: Newest::NONE,
            });
        }
        self.layouts.push((layout, table));
        self.map_bytes += content.len() + 64;
        self.maps.insert(content.into(), self.layouts.len() - 1);
        Some(self.layouts.len() - 1)
    }

    /// A node is going to change rows of a table.
    #[inline]
    fn touch(&mut self, node: NodeId, layout: usize) {
        let (layout, table) = &self.layouts[layout];
        let table = &mut self.tables[*table];
        match table.users {
            Users::Nobody => table.users = Users::One(node),
            Users::One(other) if other != node => table.users = Users::Several,
            _ => {}
        }
        if table.shape != layout.shape() {
            table.shape = layout.shape();
            table.vague = table.any;
        }
    }

    #[inline]
    fn rows(
        &mut self,
        node: NodeId,
        layout: usize,
        raw: &RawEvent<'_>,
        on: &mut u64,
    ) -> Option<()> {
        let event_type = raw.header.event_type;
        let (known, table) = &self.layouts[layout];
        let table = &self.tables[*table];
        let insert = is_insert(event_type);
        let alone = matches!(table.users, Users::One(..));
        let waits = !alone && table.any.beside(node) > *on;
        if insert && !waits {
            return Some(());
        }
        let vague = Freed {
            layout,
            node,
            number: None,
        };
        if !alone && known.has_keys() {
            let header = RowsHeader::parse(event_type, raw.body).ok()?;
            if event_type.is_update_rows() && !known.may_change(&header) {
                return Some(());
            }
            let (freed, new) = (&self.freed, &mut self.new);
            let understood = known.rows(&header, &mut |act| match act {
                Act::Free(number) => note(new, Freed { number, ..vague }),
                Act::Take(None) => *on = table.any.beside(node).max(*on),
                Act::Take(Some(number)) => {
                    let last = freed.get(&number).copied().unwrap_or(0);
                    *on = last.max(table.vague.beside(node)).max(*on);
                }
            });
            if understood {
                return Some(());
            }
        }
        if !alone && (insert || event_type.is_update_rows()) {
            *on = table.any.beside(node).max(*on);
        }
        if !insert {
            note(&mut self.new, vague);
        }
        Some(())
    }

    /// The branches read since the last call are those of transaction `gno`.
    #[inline]
    pub(super) fn enter(&mut self, gno: u64) {
        if self.freed.len() + self.new.len() > limits::FREED_KEYS_MAX {
            self.freed.clear();
            self.tables.iter_mut().for_each(|t| t.vague = t.any);
        }
        for Freed {
            layout,
            node,
            number,
        } in self.new.drain(..)
        {
            let (layout, table) = &self.layouts[layout];
            let table = &mut self.tables[*table];
            table.any.set(node, gno);
            match number {
                Some(number) if layout.shape() == table.shape => {
                    self.freed.insert(number, gno);
                }
                _ => table.vague.set(node, gno),
            }
        }
    }
}

/// Notes a key; of keys without a number, one is enough.
#[inline]
fn note(new: &mut Vec<Freed>, freed: Freed) {
    if (freed.number.is_some() || new.last() != Some(&freed)) && new.len() <= limits::FREED_KEYS_MAX
    {
        new.push(freed);
    }
}

#[inline]
fn table_id(bytes: &[u8; TABLE_ID_LEN]) -> u64 {
    let [a, b, c, d, e, f] = *bytes;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}
