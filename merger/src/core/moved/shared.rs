//! Tables in which a key can have moved. In: the branches. Out: the tables that lose keys in one branch and gain keys in
//! another; for almost all transactions there are none.

use std::io;

use bytes::Bytes;
use smallvec::SmallVec;
use tributary_binlog::{
    ChecksumAlg, ColumnValue, EventReader, EventType, PrimaryKey, RawEvent, Row, RowsHeader,
    RowsWalk, TableMap, table_id_of,
};
use tributary_flow::Body;

/// Schema and table.
pub(super) type Name = (Bytes, Bytes);

/// What a branch does in a table.
struct Touch {
    name: Name,
    part: usize,
    /// The number rows events use at the moment.
    id: Option<u64>,
    frees: bool,
    takes: bool,
    updates: bool,
}

/// What is not understood, or cannot be read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is left as it is: an error in a body is the encoder's to report.
    Strange,
    /// A spool file.
    Io(io::Error),
    /// It is understood; but no order was found, and not everything was looked at.
    TooMany,
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The tables, sorted. Without any there is nothing to do.
pub(super) fn tables(parts: &[Body]) -> Result<SmallVec<[Name; 4]>, Unread> {
    let mut touches: SmallVec<[Touch; 8]> = SmallVec::new();
    for (part, body) in parts.iter().enumerate() {
        scan(part, body, &mut touches)?;
    }
    touches.sort_unstable_by(|a, b| (&a.name, a.part).cmp(&(&b.name, b.part)));
    let mut out = SmallVec::new();
    for table in touches.chunk_by_mut(|a, b| a.name == b.name) {
        if possible(table, true) && (possible(table, false) || confirmed(parts, table)?) {
            out.extend(table.first().map(|touch| touch.name.clone()));
        }
    }
    Ok(out)
}

fn scan(part: usize, body: &Body, touches: &mut SmallVec<[Touch; 8]>) -> Result<(), Unread> {
    let begin = touches.len();
    for chunk in body.chunks() {
        let chunk = chunk?;
        // What lies in memory stays there anyway; a block of a file shall not.
        let keep = |bytes: &[u8]| match body.is_spooled() {
            true => Bytes::copy_from_slice(bytes),
            false => chunk.slice_ref(bytes),
        };
        let mut reader = EventReader::new(&chunk, ChecksumAlg::None);
        while let Some(raw) = reader.next().map_err(|_| Unread::Strange)? {
            let Some(id) = table_id_of(raw.header.event_type, raw.body) else {
                continue;
            };
            let own = &mut touches[begin..];
            if raw.header.event_type != EventType::TABLE_MAP {
                let touch = own.iter_mut().rev().find(|touch| touch.id == Some(id));
                note(touch, raw.header.event_type);
                continue;
            }
            let map = TableMap::parse(raw.body).map_err(|_| Unread::Strange)?;
            let is_named = |touch: &Touch| touch.name.0 == map.schema && touch.name.1 == map.table;
            // A number may come to mean another table.
            own.iter_mut()
                .filter(|touch| touch.id == Some(id))
                .for_each(|touch| touch.id = None);
            match own.iter_mut().rev().find(|touch| is_named(touch)) {
                Some(touch) => touch.id = Some(id),
                None => touches.push(Touch {
                    name: (keep(map.schema), keep(map.table)),
                    part,
                    id: Some(id),
                    frees: false,
                    takes: false,
                    updates: false,
                }),
            }
        }
    }
    Ok(())
}

fn note(touch: Option<&mut Touch>, event_type: EventType) {
    let Some(touch) = touch else { return };
    match event_type {
        EventType::WRITE_ROWS | EventType::WRITE_ROWS_V1 => touch.takes = true,
        EventType::DELETE_ROWS | EventType::DELETE_ROWS_V1 => touch.frees = true,
        _ => touch.updates = true,
    }
}

/// Whether one branch may free what another takes. An update does both if it changes a key: `updates` assumes so.
fn possible(table: &[Touch], updates: bool) -> bool {
    let frees = |touch: &Touch| touch.frees || (updates && touch.updates);
    let takes = |touch: &Touch| touch.takes || (updates && touch.updates);
    table.iter().filter(|free| frees(free)).any(|free| {
        let mut others = table.iter().filter(|take| takes(take));
        // Ends at the second: of two takers one is another branch.
        others.any(|take| take.part != free.part)
    })
}

/// Looks whether the updates change keys.
fn confirmed(parts: &[Body], table: &mut [Touch]) -> Result<bool, Unread> {
    for touch in table.iter_mut().filter(|touch| touch.updates) {
        if let Some(body) = parts.get(touch.part)
            && changes_keys(body, &touch.name)?
        {
            (touch.frees, touch.takes) = (true, true);
        }
    }
    Ok(possible(table, false))
}

fn changes_keys(body: &Body, name: &Name) -> Result<bool, Unread> {
    // The body of the Table_map that rows of the table refer to, and its number.
    let mut current: Option<(Bytes, u64)> = None;
    for chunk in body.chunks() {
        let chunk = chunk?;
        let mut reader = EventReader::new(&chunk, ChecksumAlg::None);
        while let Ok(Some(raw)) = reader.next() {
            if raw.header.event_type == EventType::TABLE_MAP {
                match TableMap::parse(raw.body) {
                    Ok(map) if name.0 == map.schema && name.1 == map.table => {
                        current = Some((chunk.slice_ref(raw.body), map.table_id));
                    }
                    Ok(map) if current.as_ref().is_some_and(|(_, id)| *id == map.table_id) => {
                        current = None;
                    }
                    _ => {}
                }
            } else if raw.header.event_type.is_update_rows()
                && let Some((map, id)) = &current
                && table_id_of(raw.header.event_type, raw.body) == Some(*id)
                && TableMap::parse(map).is_ok_and(|map| updates_keys(&map, &raw))
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn updates_keys(map: &TableMap<'_>, raw: &RawEvent<'_>) -> bool {
    let Some(key) = map.primary_key() else {
        return false;
    };
    let rows = RowsHeader::parse(raw.header.event_type, raw.body);
    let walk = rows.and_then(|rows| RowsWalk::new(map, &rows));
    walk.is_ok_and(|walk| walk.map_while(Result::ok).any(|row| changes_key(key, &row)))
}

/// Whether an update gives the row another key.
pub(super) fn changes_key(key: PrimaryKey<'_>, row: &Row<'_>) -> bool {
    let (Some(before), Some(after)) = (&row.before, &row.after) else {
        return false;
    };
    { key }.any(|(column, prefix)| match after.column(column as usize) {
        ColumnValue::Absent => false,
        new => clip(new, prefix) != clip(before.column(column as usize), prefix),
    })
}

/// What counts of a column in a key: of a prefix of n characters, n bytes. That is less than the server compares, so no
/// equal keys are missed.
pub(super) fn clip(value: ColumnValue<'_>, prefix: u32) -> Option<&[u8]> {
    match value {
        ColumnValue::Bytes(bytes) if prefix > 0 => {
            Some(bytes.get(..prefix as usize).unwrap_or(bytes))
        }
        ColumnValue::Bytes(bytes) => Some(bytes),
        ColumnValue::Null | ColumnValue::Absent => None,
    }
}
