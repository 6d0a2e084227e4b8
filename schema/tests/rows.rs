//! Table maps and rows against those of a real server: what is written for a table is what the server writes, and rows that
//! were reshaped are those that the server wrote for the other table.

use std::collections::{BTreeMap, HashMap};

use tributary_binlog::{ChecksumAlg, EventReader, EventType, TableMap, set_table_id, table_id_of};
use tributary_schema::{
    Layout, LayoutError, Plan, PlanError, ReshapeError, Scratch, Table, ValueError,
};

use crate::fixtures::{blocks, bytes};
use crate::statements::table_of;

/// A rows event and the table map in front of it.
pub(crate) struct Rows {
    pub(crate) map: Vec<u8>,
    pub(crate) event_type: EventType,
    pub(crate) timestamp: u32,
    pub(crate) body: Vec<u8>,
}

/// The rows events of a file, by table, in order.
pub(crate) fn events(name: &str) -> BTreeMap<String, Vec<Rows>> {
    let file = bytes(name);
    let mut reader = EventReader::new(&file[4..], ChecksumAlg::None);
    let mut maps = HashMap::new();
    let mut out: BTreeMap<String, Vec<Rows>> = BTreeMap::new();
    while let Some(raw) = reader.next().expect("undamaged") {
        let Some(id) = table_id_of(raw.header.event_type, raw.body) else {
            continue;
        };
        if raw.header.event_type == EventType::TABLE_MAP {
            maps.insert(id, raw.body.to_vec());
            continue;
        }
        let map: Vec<u8> = maps[&id].clone();
        let table = TableMap::parse(&map).expect("real").table;
        let table = String::from_utf8(table.to_vec()).expect("real");
        out.entry(table).or_default().push(Rows {
            map,
            event_type: raw.header.event_type,
            timestamp: raw.header.timestamp,
            body: raw.body.to_vec(),
        });
    }
    out
}

pub(crate) fn tables(name: &str) -> HashMap<String, Table> {
    let tables = blocks(name)
        .into_iter()
        .map(|(table, show)| (table, table_of(&show)));
    tables.collect()
}

/// A table map with `MINIMAL` metadata, as the server would have written it.
fn minimal(map: &TableMap<'_>) -> (Vec<u8>, Layout) {
    let mut layout = Layout::of_event(map, None).expect("real");
    layout.full = false;
    (
        layout.table_map(map.table_id, map.flags, map.schema, map.table),
        layout,
    )
}

#[test]
fn table_maps_are_those_of_the_server() {
    let mut seen = 0;
    for file in ["types", "reshape"] {
        let tables = tables(&format!("{file}.txt"));
        for (name, events) in events(&format!("{file}.binlog")) {
            let map = TableMap::parse(&events[0].map).expect("real");
            let table = &tables[&name];
            let layout = Layout::of_table(table);
            let written = layout.table_map(map.table_id, map.flags, map.schema, map.table);
            let written = TableMap::parse(&written).expect("real");
            assert_eq!(
                written.optional_metadata().expect("real"),
                map.optional_metadata().expect("real"),
                "{name}"
            );
            assert_eq!(written, map, "{name}");
            // The event alone gives the same, but for what no event has.
            let of_event = Layout::of_event(&map, Some(table)).expect("real");
            assert_eq!(
                Plan::new(&of_event, &layout, &[]).expect("real"),
                None,
                "{name}"
            );
            let again = of_event.table_map(map.table_id, map.flags, map.schema, map.table);
            assert_eq!(again, events[0].map, "{name}");
            // Without names, the known table gives them; another one contradicts.
            let (bytes, _) = minimal(&map);
            let map = TableMap::parse(&bytes).expect("real");
            assert!(matches!(
                Layout::of_event(&map, None),
                Err(LayoutError::Unknown { .. })
            ));
            let known = Layout::of_event(&map, Some(table)).expect("real");
            assert_eq!(
                Plan::new(&known, &layout, &[]).expect("real"),
                None,
                "{name}"
            );
            let mut other = table.clone();
            other.columns[0].nullable ^= true;
            let error = Layout::of_event(&map, Some(&other)).unwrap_err();
            assert!(
                matches!(error, LayoutError::Contradiction { .. }),
                "{error}"
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn every_type_passes_through_a_permutation_and_back() {
    for (name, events) in events("types.binlog") {
        let map = TableMap::parse(&events[0].map).expect("real");
        let straight = Layout::of_event(&map, None).expect("real");
        let mut turned = straight.clone();
        turned.columns.reverse();
        let last = straight.columns.len() as u32 - 1;
        turned
            .primary_key
            .iter_mut()
            .for_each(|(at, _)| *at = last - *at);
        let there = Plan::new(&straight, &turned, &[]).expect("real");
        let back = Plan::new(&turned, &straight, &[]).expect("real");
        let (Some(there), Some(back)) = (there, back) else {
            assert_eq!(straight.columns.len(), 1);
            continue;
        };
        let mut scratch = Scratch::default();
        for rows in &events {
            let (mut middle, mut end) = (Vec::new(), Vec::new());
            let id = map.table_id;
            there
                .rows(
                    rows.event_type,
                    &rows.body,
                    id,
                    0,
                    &mut scratch,
                    &mut middle,
                )
                .expect("real");
            assert_ne!(middle, rows.body, "{name}");
            back.rows(rows.event_type, &middle, id, 0, &mut scratch, &mut end)
                .expect("real");
            assert_eq!(end, rows.body, "{name}");
        }
    }
}

#[test]
fn reshaped_rows_are_those_of_the_server() {
    let (tables, all) = (tables("reshape.txt"), events("reshape.binlog"));
    let mut kinds = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    for (name, from) in all.iter().filter(|(n, _)| n.ends_with("_from")) {
        let to_name = name.replace("_from", "_to");
        let to = &all[&to_name];
        assert_eq!(from.len(), to.len(), "{name}");
        for (a, b) in from.iter().zip(to) {
            assert_eq!(a.event_type, b.event_type, "{name}");
            kinds.insert(a.event_type.name());
            let (map, want) = (
                TableMap::parse(&a.map).expect("real"),
                TableMap::parse(&b.map).expect("real"),
            );
            let layout = Layout::of_event(&map, None).expect("real");
            let plan = Plan::new(&layout, &Layout::of_table(&tables[&to_name]), &[]);
            let plan = plan.expect("real").expect("they differ");
            assert_eq!(
                plan.table_map(want.table_id, want.flags, want.schema, want.table),
                b.map,
                "{name}"
            );
            let mut out = Vec::new();
            let done = plan.rows(
                a.event_type,
                &a.body,
                want.table_id,
                a.timestamp,
                &mut Scratch::default(),
                &mut out,
            );
            if let Err(e) = done {
                wrong.push(format!("{name} {}: {e}", a.event_type.name()));
            } else if out != b.body {
                let at = out.iter().zip(&b.body).position(|(x, y)| x != y);
                wrong.push(format!(
                    "{name} {} at {at:?}\n got  {out:02x?}\n want {:02x?}",
                    a.event_type.name(),
                    b.body
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(kinds.len(), 4, "{kinds:?}");
}

fn layout(definition: &str) -> Layout {
    Layout::of_table(&table_of(&format!("CREATE TABLE t ({definition})")))
}

/// Rows of the first event of a table of the fixtures, in another shape.
fn reshape(table: &str, to: &str) -> Result<Vec<u8>, ReshapeError> {
    let all = events("types.binlog");
    let rows = &all[table][0];
    let from = Layout::of_event(&TableMap::parse(&rows.map).expect("real"), None).expect("real");
    let plan = Plan::new(&from, &layout(to), &[])
        .expect("real")
        .expect("they differ");
    let mut out = Vec::new();
    plan.rows(
        rows.event_type,
        &rows.body,
        1,
        1_700_000_000,
        &mut Scratch::default(),
        &mut out,
    )?;
    Ok(out)
}

/// Whether an error is the right one.
type Judge = Box<dyn Fn(&ReshapeError) -> bool>;

#[test]
fn what_does_not_fit_is_named() {
    let value = |error| move |e: &ReshapeError| matches!(e, ReshapeError::Value { error: e, .. } if *e == error);
    let cases: Vec<(&str, &str, Judge)> = vec![
        (
            "ints",
            "id INT PRIMARY KEY, g SMALLINT",
            Box::new(value(ValueError::OutOfRange)),
        ),
        (
            "ints",
            "id INT PRIMARY KEY, a TINYINT UNSIGNED",
            Box::new(value(ValueError::OutOfRange)),
        ),
        (
            "ints",
            "id INT PRIMARY KEY, q BIT(63)",
            Box::new(value(ValueError::OutOfRange)),
        ),
        (
            "ints",
            "id INT PRIMARY KEY, b SMALLINT NOT NULL",
            Box::new(|e| matches!(e, ReshapeError::Null { .. })),
        ),
        (
            "reals",
            "id INT PRIMARY KEY, f DECIMAL(64,30)",
            Box::new(value(ValueError::OutOfRange)),
        ),
        (
            "reals",
            "id INT PRIMARY KEY, b FLOAT",
            Box::new(value(ValueError::OutOfRange)),
        ),
        (
            "times",
            "id INT PRIMARY KEY, i DATETIME(5)",
            Box::new(value(ValueError::OutOfRange)),
        ),
        (
            "times",
            "id INT PRIMARY KEY, e TIME(5)",
            Box::new(value(ValueError::OutOfRange)),
        ),
        (
            "texts",
            "id INT PRIMARY KEY, f VARCHAR(63)",
            Box::new(value(ValueError::OutOfRange)),
        ),
        (
            "texts",
            "id INT PRIMARY KEY, e VARCHAR(63) CHARACTER SET latin1",
            Box::new(|e| e.to_string().contains("U+1F600")),
        ),
        (
            "others",
            "id INT PRIMARY KEY, a ENUM('zwei')",
            Box::new(value(ValueError::NotListed)),
        ),
        (
            "others",
            "id INT PRIMARY KEY, c SET('x','y')",
            Box::new(value(ValueError::NotListed)),
        ),
        (
            "ints",
            "id INT PRIMARY KEY, uid CHAR(36) DEFAULT (uuid())",
            Box::new(|e| matches!(e, ReshapeError::NoDefault { .. })),
        ),
    ];
    for (table, to, right) in cases {
        let error = reshape(table, to).expect_err(to);
        assert!(right(&error), "{to}: {error}");
        assert!(error.to_string().contains("column `"), "{error}");
    }
    let from = layout("id INT PRIMARY KEY, a INT, g VARCHAR(4) CHARACTER SET gbk");
    for (to, words) in [
        (
            "id INT PRIMARY KEY, a VARCHAR(9)",
            "int on the node, varchar(9)",
        ),
        (
            "id INT PRIMARY KEY, g VARCHAR(4)",
            "varchar(4) gbk on the node",
        ),
    ] {
        let error = Plan::new(&from, &layout(to), &[]).expect_err(to);
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = Plan::new(&from, &layout("k INT PRIMARY KEY, a INT"), &[]).expect_err("no key");
    assert!(matches!(error, PlanError::KeyColumnMissing { .. }));
}

#[test]
fn a_pending_rename_is_followed() {
    let from = layout("id INT PRIMARY KEY, b INT, a INT");
    let to = layout("id INT PRIMARY KEY, a INT, b INT");
    let swapped = [
        ("a".to_owned(), "b".to_owned()),
        ("b".to_owned(), "a".to_owned()),
    ];
    let plan = Plan::new(&from, &to, &swapped)
        .expect("real")
        .expect("names differ");
    assert!(plan.cut_columns().is_empty() && plan.filled_columns().next().is_none());
    let from = layout("id INT PRIMARY KEY, new INT");
    let to = layout("id INT PRIMARY KEY, old INT");
    let without = Plan::new(&from, &to, &[]).expect("real").expect("real");
    assert_eq!(without.cut_columns(), ["new"]);
    assert_eq!(without.filled_columns().collect::<Vec<_>>(), ["old"]);
    let renamed = [("old".to_owned(), "new".to_owned())];
    let plan = Plan::new(&from, &to, &renamed)
        .expect("real")
        .expect("real");
    assert!(plan.cut_columns().is_empty());
}

#[test]
fn columns_without_a_value_are_left_out_where_a_replica_would_compare_them() {
    let all = events("reshape.binlog");
    let to = "added INT DEFAULT 7, id INT, now TIMESTAMP DEFAULT CURRENT_TIMESTAMP, old VARCHAR(5), a INT, b INT, c VARCHAR(9)";
    let from = Layout::of_event(
        &TableMap::parse(&all["shape_from"][0].map).expect("real"),
        None,
    )
    .expect("real");
    for (key, want) in [
        ("", [0xff, 0b111_1010, 0b111_1011]),
        (", PRIMARY KEY (id)", [0xff, 0b111_1011, 0b111_1011]),
    ] {
        let plan = Plan::new(&from, &layout(&format!("{to}{key}")), &[])
            .expect("real")
            .expect("real");
        let bits: Vec<u8> = (all["shape_from"].iter().take(2))
            .flat_map(|rows| {
                let mut out = Vec::new();
                plan.rows(
                    rows.event_type,
                    &rows.body,
                    1,
                    9,
                    &mut Scratch::default(),
                    &mut out,
                )
                .expect("real");
                let header =
                    tributary_binlog::RowsHeader::parse(rows.event_type, &out).expect("real");
                [
                    Some(header.columns_before[0]),
                    header.columns_after.map(|c| c[0]),
                ]
            })
            .flatten()
            .collect();
        assert_eq!(bits, want);
    }
}

#[test]
fn damaged_rows_are_refused_and_never_panic() {
    let (tables, all) = (tables("reshape.txt"), events("reshape.binlog"));
    for (name, from) in all.iter().filter(|(n, _)| n.ends_with("_from")) {
        let to = Layout::of_table(&tables[&name.replace("_from", "_to")]);
        for rows in from {
            let layout =
                Layout::of_event(&TableMap::parse(&rows.map).expect("real"), None).expect("real");
            let plan = Plan::new(&layout, &to, &[]).expect("real").expect("real");
            for cut in 0..rows.body.len() {
                let mut scratch = Scratch::default();
                let _ = plan.rows(
                    rows.event_type,
                    &rows.body[..cut],
                    1,
                    0,
                    &mut scratch,
                    &mut Vec::new(),
                );
                let mut flipped = rows.body.clone();
                flipped[cut] ^= 0x81;
                let _ = plan.rows(
                    rows.event_type,
                    &flipped,
                    1,
                    0,
                    &mut scratch,
                    &mut Vec::new(),
                );
            }
            let mut body = rows.body.clone();
            assert!(set_table_id(&mut body, 1));
            body.push(0);
            let extra = plan.rows(
                rows.event_type,
                &body,
                1,
                0,
                &mut Scratch::default(),
                &mut Vec::new(),
            );
            assert!(extra.is_err(), "{name}: a byte too many");
        }
    }
}

/// With `binlog_row_image=MINIMAL` a new row has the columns that the statement named; here the logical table has none of them.
#[test]
fn a_row_of_which_no_column_is_left_is_not_lost() {
    let body = tributary_binlog::RowsHeader {
        event_type: EventType::WRITE_ROWS,
        table_id: 1,
        flags: 0,
        extra: &[],
        n_columns: 2,
        columns_before: &[0b10],
        columns_after: None,
        rows: &[0, 5, 0, 0, 0, 0, 6, 0, 0, 0],
    };
    let reshaped = |to: &str| {
        let plan = Plan::new(&layout("id INT, gone INT"), &layout(to), &[])
            .expect("they can be told apart")
            .expect("they differ");
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        body.put_body(&mut bytes);
        plan.rows(
            body.event_type,
            &bytes,
            1,
            9,
            &mut Scratch::default(),
            &mut out,
        )
        .map(|()| out)
    };
    let out = reshaped("id INT, more INT DEFAULT 7").expect("the default is the value");
    let header = tributary_binlog::RowsHeader::parse(EventType::WRITE_ROWS, &out).expect("rows");
    assert_eq!(header.columns_before, [0b10]);
    assert_eq!(header.rows, [0, 7, 0, 0, 0, 0, 7, 0, 0, 0]);
    assert_eq!(reshaped("id INT"), Err(ReshapeError::NoColumns));
}
