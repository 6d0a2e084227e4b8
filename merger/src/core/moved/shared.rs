//! Tables in which a key can have moved. In: the branches. Out: the tables that lose keys in one branch and gain keys in
//! another; for almost all transactions there are none.

use smallvec::SmallVec;
use tributary_binlog::{
    ChecksumAlg, ColumnValue, EventReader, EventType, PrimaryKey, RawEvent, Row, RowsHeader,
    RowsWalk, TableMap, table_id_of,
};
use tributary_flow::Body;

/// Schema and table.
pub(super) type Name<'a> = (&'a [u8], &'a [u8]);

/// What a branch does in a table.
struct Touch<'a> {
    name: Name<'a>,
    part: usize,
    /// The number rows events use at the moment.
    id: Option<u64>,
    frees: bool,
    takes: bool,
    updates: bool,
}

/// The tables, sorted. `None` if there are none, or the bodies are not understood.
pub(super) fn tables(parts: &[Body]) -> Option<SmallVec<[Name<'_>; 4]>> {
    let mut touches: SmallVec<[Touch<'_>; 8]> = SmallVec::new();
    for (part, body) in parts.iter().enumerate() {
        scan(part, body, &mut touches)?;
    }
    touches.sort_unstable_by_key(|touch| (touch.name, touch.part));
    let mut out = SmallVec::new();
    for table in touches.chunk_by_mut(|a, b| a.name == b.name) {
        if possible(table, true) && (possible(table, false) || confirmed(parts, table)) {
            out.extend(table.first().map(|touch| touch.name));
        }
    }
    (!out.is_empty()).then_some(out)
}

fn scan<'a>(part: usize, body: &'a Body, touches: &mut SmallVec<[Touch<'a>; 8]>) -> Option<()> {
    let begin = touches.len();
    for segment in body.segments() {
        let mut reader = EventReader::new(segment, ChecksumAlg::None);
        while let Some(raw) = reader.next().ok()? {
            let Some(id) = table_id_of(raw.header.event_type, raw.body) else {
                continue;
            };
            let own = &mut touches[begin..];
            if raw.header.event_type != EventType::TABLE_MAP {
                let touch = own.iter_mut().rev().find(|touch| touch.id == Some(id));
                note(touch, raw.header.event_type);
                continue;
            }
            let map = TableMap::parse(raw.body).ok()?;
            let name = (map.schema, map.table);
            // A number may come to mean another table.
            own.iter_mut()
                .filter(|touch| touch.id == Some(id))
                .for_each(|touch| touch.id = None);
            match own.iter_mut().rev().find(|touch| touch.name == name) {
                Some(touch) => touch.id = Some(id),
                None => touches.push(Touch {
                    name,
                    part,
                    id: Some(id),
                    frees: false,
                    takes: false,
                    updates: false,
                }),
            }
        }
    }
    Some(())
}

fn note(touch: Option<&mut Touch<'_>>, event_type: EventType) {
    let Some(touch) = touch else { return };
    match event_type {
        EventType::WRITE_ROWS | EventType::WRITE_ROWS_V1 => touch.takes = true,
        EventType::DELETE_ROWS | EventType::DELETE_ROWS_V1 => touch.frees = true,
        _ => touch.updates = true,
    }
}

/// Whether one branch may free what another takes. An update does both if it changes a key: `updates` assumes so.
fn possible(table: &[Touch<'_>], updates: bool) -> bool {
    let frees = |touch: &Touch<'_>| touch.frees || (updates && touch.updates);
    let takes = |touch: &Touch<'_>| touch.takes || (updates && touch.updates);
    table.iter().filter(|free| frees(free)).any(|free| {
        let mut others = table.iter().filter(|take| takes(take));
        // Ends at the second: of two takers one is another branch.
        others.any(|take| take.part != free.part)
    })
}

/// Looks whether the updates change keys.
fn confirmed(parts: &[Body], table: &mut [Touch<'_>]) -> bool {
    for touch in table.iter_mut().filter(|touch| touch.updates) {
        if parts
            .get(touch.part)
            .is_some_and(|body| changes_keys(body, touch.name))
        {
            (touch.frees, touch.takes) = (true, true);
        }
    }
    possible(table, false)
}

fn changes_keys(body: &Body, name: Name<'_>) -> bool {
    let mut current: Option<TableMap<'_>> = None;
    for segment in body.segments() {
        let mut reader = EventReader::new(segment, ChecksumAlg::None);
        while let Ok(Some(raw)) = reader.next() {
            if raw.header.event_type == EventType::TABLE_MAP {
                match TableMap::parse(raw.body) {
                    Ok(map) if (map.schema, map.table) == name => current = Some(map),
                    Ok(map) if current.is_some_and(|c| c.table_id == map.table_id) => {
                        current = None;
                    }
                    _ => {}
                }
            } else if raw.header.event_type.is_update_rows()
                && let Some(map) = &current
                && updates_keys(map, &raw)
            {
                return true;
            }
        }
    }
    false
}

fn updates_keys(map: &TableMap<'_>, raw: &RawEvent<'_>) -> bool {
    if table_id_of(raw.header.event_type, raw.body) != Some(map.table_id) {
        return false;
    }
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
