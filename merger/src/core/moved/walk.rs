//! A branch as statements, events and rows. In: a body, or a part of one that begins with a statement, and the tables that
//! matter. Out: its events one by one, with the rows of those tables numbered. Memory does not grow with the body.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;
use tributary_binlog::{
    ChecksumAlg, EventReader, EventType, PrimaryKey, RawEvent, RowsHeader, RowsWalk, TableMap,
    table_id_of,
};
use tributary_flow::Body;

use super::shared::{Name, Unread};

/// An event of a branch.
pub(super) struct Event<'a> {
    pub(super) event_type: EventType,
    /// Where it lies in the body.
    pub(super) range: Range<u64>,
    /// All its bytes.
    pub(super) bytes: &'a [u8],
    /// Of a rows event: where its Table_map lies.
    pub(super) map: Option<Range<u64>>,
    /// Its rows, if its table matters and all of them are understood.
    pub(super) rows: Option<Rows<'a>>,
    /// Whether a statement begins with it, or ends.
    pub(super) begins: bool,
    pub(super) ends: bool,
}

/// Numbered rows.
pub(super) struct Rows<'a> {
    /// The first and behind the last.
    pub(super) numbers: Range<u64>,
    /// Where the first begins in the event.
    pub(super) at: usize,
    /// The table, of those that matter.
    pub(super) table: usize,
    pub(super) key: PrimaryKey<'a>,
    pub(super) walk: RowsWalk<'a>,
}

/// A Table_map of the statement: where it lies, its number, its body.
struct Map {
    range: Range<u64>,
    id: u64,
    body: Bytes,
}

/// Tells `each` the events at `range`; the first row has the number `row`. Answers the number behind the last.
pub(super) fn walk(
    body: &Body,
    range: Range<u64>,
    tables: &[Name],
    mut row: u64,
    each: &mut dyn FnMut(&Event<'_>) -> Result<(), Unread>,
) -> Result<u64, Unread> {
    let mut maps: SmallVec<[Map; 4]> = SmallVec::new();
    let mut begins = true;
    let mut at = range.start;
    for chunk in body.slice(range, 0).chunks() {
        let chunk = chunk?;
        let mut reader = EventReader::new(&chunk, ChecksumAlg::None);
        while let Some(raw) = reader.next().map_err(|_| Unread::Strange)? {
            let range = at..at + raw.bytes.len() as u64;
            at = range.end;
            let mut event = Event {
                event_type: raw.header.event_type,
                range,
                bytes: raw.bytes,
                map: None,
                rows: None,
                begins,
                ends: false,
            };
            if event.event_type == EventType::TABLE_MAP {
                let map = TableMap::parse(raw.body).map_err(|_| Unread::Strange)?;
                let body = match body.is_spooled() {
                    true => Bytes::copy_from_slice(raw.body),
                    false => chunk.slice_ref(raw.body),
                };
                let (range, id) = (event.range.clone(), map.table_id);
                maps.push(Map { range, id, body });
                each(&event)?;
            } else if event.event_type.is_rows() {
                let strange = || Unread::Strange;
                let header =
                    RowsHeader::parse(event.event_type, raw.body).map_err(|_| strange())?;
                let id = table_id_of(event.event_type, raw.body).ok_or_else(strange)?;
                event.ends = header.is_stmt_end();
                match maps.iter().rev().find(|map| map.id == id) {
                    Some(map) => {
                        event.map = Some(map.range.clone());
                        let table = TableMap::parse(&map.body).map_err(|_| strange())?;
                        event.rows = rows(&table, &raw, &header, tables, row);
                        row = event.rows.as_ref().map_or(row, |rows| rows.numbers.end);
                        each(&event)?;
                    }
                    // Only says that the statement ends.
                    None if header.rows.is_empty() => each(&event)?,
                    None => return Err(Unread::Strange),
                }
            } else {
                each(&event)?;
            }
            begins = event.ends;
            if event.ends {
                maps.clear();
            }
        }
    }
    Ok(row)
}

/// The rows of an event, all or none.
fn rows<'a>(
    map: &TableMap<'a>,
    raw: &RawEvent<'a>,
    header: &RowsHeader<'a>,
    tables: &[Name],
    first: u64,
) -> Option<Rows<'a>> {
    let wanted = (map.schema, map.table);
    let table = tables.binary_search_by(|(schema, table)| (&schema[..], &table[..]).cmp(&wanted));
    let (Ok(table), Some(key)) = (table, map.primary_key()) else {
        return None;
    };
    let walk = RowsWalk::new(map, header).ok()?;
    // Rows are told one by one, so an event that ends in the middle of one must be known before.
    let mut count = 0;
    for row in walk.clone() {
        row.ok()?;
        count += 1;
    }
    Some(Rows {
        numbers: first..first + count,
        at: raw.bytes.len() - header.rows.len(),
        table,
        key,
        walk,
    })
}
