//! Table maps and rows.
//!
//! In: the table maps of a node's table and of another, and a rows event of the first. Out: a panic unless rows that can be
//! walked and reshaped are as many rows of the other table.

use tributary_binlog::{ColumnValue, EventType, RowImage, RowsHeader, RowsWalk, TableMap};
use tributary_schema::{Layout, Plan, Scratch};

use crate::input::Input;

const TYPES: [EventType; 7] = [
    EventType::WRITE_ROWS,
    EventType::UPDATE_ROWS,
    EventType::DELETE_ROWS,
    EventType::PARTIAL_UPDATE_ROWS,
    EventType::WRITE_ROWS_V1,
    EventType::UPDATE_ROWS_V1,
    EventType::DELETE_ROWS_V1,
];

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let event_type = TYPES[input.below(TYPES.len())];
    let (from, to, body) = (input.piece(), input.piece(), input.rest());
    let Ok(from) = TableMap::parse(from) else {
        return;
    };
    let walked = walk(&from, event_type, body);
    let Ok(layout) = Layout::of_event(&from, None) else {
        return;
    };
    let same = layout.table_map(from.table_id, from.flags, from.schema, from.table);
    let same = TableMap::parse(&same).expect("a table map is written so that it can be read");
    let again = Layout::of_event(&same, None).expect("and understood");
    // What is no text in its character set is read with replacement characters, and these are written in another way.
    let is_text = || !format!("{layout:?}").contains(char::REPLACEMENT_CHARACTER);
    if again != layout && is_text() {
        assert_eq!(again, layout, "a layout is what its table map says");
    }
    let Ok(target) = TableMap::parse(to) else {
        return;
    };
    let Ok(target) = Layout::of_event(&target, None) else {
        return;
    };
    let Ok(Some(plan)) = Plan::new(&layout, &target, &[]) else {
        return;
    };
    let mut out = Vec::new();
    let done = plan.rows(event_type, body, 7, 1, &mut Scratch::default(), &mut out);
    if done.is_err() {
        return;
    }
    let map = plan.table_map(7, 1, b"s", b"t");
    let map = TableMap::parse(&map).expect("a plan writes a table map");
    if let Some(rows) = walked {
        assert_eq!(
            walk(&map, event_type, &out),
            Some(rows),
            "as many rows as before"
        );
    }
}

/// How many rows there are; `None` when they are no whole rows.
fn walk(map: &TableMap<'_>, event_type: EventType, body: &[u8]) -> Option<usize> {
    let header = RowsHeader::parse(event_type, body).ok()?;
    let (mut rows, mut bytes) = (0, 0);
    for row in RowsWalk::new(map, &header).ok()? {
        let row = row.ok()?;
        rows += 1;
        bytes += row.bytes.len();
        let images = [row.before, row.after];
        assert!(images.iter().any(Option::is_some));
        images.iter().flatten().for_each(|image| look(image, map));
    }
    assert_eq!(bytes, header.rows.len(), "all bytes belong to rows");
    Some(rows)
}

fn look(image: &RowImage<'_>, map: &TableMap<'_>) {
    let mut columns = 0;
    for (at, value) in image.columns().enumerate() {
        let value = value.expect("images of a walk have no errors");
        if at < 3 {
            assert_eq!(image.column(at), value);
        }
        columns += 1;
    }
    assert_eq!(columns, map.column_types.len());
    assert_eq!(image.column(columns), ColumnValue::Absent);
}
