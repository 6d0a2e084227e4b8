//! Rows taken apart: every byte of the rows of real servers is accounted for, and generated rows come back.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use tributary_binlog::{
    ChecksumAlg, ColumnType, ColumnValue, Event, EventReader, EventType, RowsHeader, RowsWalk,
    TableMap,
};

use crate::fixtures::FILES;

/// What a file's rows were walked to: rows, values and NULLs by type.
#[derive(Default)]
struct Walked {
    rows: usize,
    types: HashMap<ColumnType, usize>,
    nulls: usize,
    absent: usize,
    keys: usize,
}

fn walk(bytes: &[u8], alg: ChecksumAlg, out: &mut Walked) {
    let mut maps: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut reader = EventReader::new(bytes, alg);
    while let Some(raw) = reader.next().expect("undamaged") {
        match Event::parse(&raw).expect("a real event") {
            Event::TableMap(map) => drop(maps.insert(map.table_id, raw.body.to_vec())),
            Event::Rows(rows) => {
                let map = &maps[&rows.table_id];
                let map = TableMap::parse(map).expect("a real event");
                event(&map, &rows, out);
            }
            Event::Payload(payload) => {
                let mut inside = Vec::new();
                payload.decompress(1 << 20, &mut inside).expect("real");
                walk(&inside, ChecksumAlg::None, out);
            }
            _ => {}
        }
    }
}

fn event(map: &TableMap<'_>, rows: &RowsHeader<'_>, out: &mut Walked) {
    let types: Vec<_> = map
        .columns()
        .map(|c| c.expect("real").real_type())
        .collect();
    let mut used = 0;
    for row in RowsWalk::new(map, rows).expect("the same table") {
        let row = row.unwrap_or_else(|e| panic!("{e}: {map:?} {rows:?}"));
        used += row.bytes.len();
        out.rows += 1;
        for image in [&row.before, &row.after].into_iter().flatten() {
            let columns: Vec<_> = image.columns().map(|c| c.expect("walked before")).collect();
            assert_eq!(columns.len(), types.len());
            for (at, (column, ty)) in columns.iter().zip(&types).enumerate() {
                assert_eq!(image.column(at), *column);
                match column {
                    ColumnValue::Absent => out.absent += 1,
                    ColumnValue::Null => out.nulls += 1,
                    ColumnValue::Bytes(_) => *out.types.entry(*ty).or_default() += 1,
                }
            }
        }
        let image = row.before.as_ref().or(row.after.as_ref()).expect("one");
        for (column, _) in map.primary_key().into_iter().flatten() {
            let value = image.column(column as usize);
            assert!(matches!(value, ColumnValue::Bytes(_)), "{map:?}");
            out.keys += 1;
        }
    }
    assert_eq!(used, rows.rows.len());
}

#[test]
fn every_byte_of_real_rows_belongs_to_a_column() {
    let mut all = Walked::default();
    for name in FILES {
        let mut file = Walked::default();
        let path = format!(
            "{}/tests/fixtures/{name}.binlog",
            env!("CARGO_MANIFEST_DIR")
        );
        let bytes = std::fs::read(path).expect("checked in");
        walk(&bytes[4..], ChecksumAlg::Crc32, &mut file);
        if name == "rows-minimal" {
            assert!(file.absent > 0, "minimal images leave columns out");
        }
        if matches!(name, "rows-full" | "rows-minimal" | "partial-json") {
            assert!(file.rows > 0, "{name}");
        }
        all.rows += file.rows;
        all.nulls += file.nulls;
        all.keys += file.keys;
        for (ty, n) in file.types {
            *all.types.entry(ty).or_default() += n;
        }
    }
    assert!(all.rows > 10 && all.nulls > 0 && all.keys > 0);
    for ty in [
        ColumnType::TINY,
        ColumnType::SHORT,
        ColumnType::INT24,
        ColumnType::LONG,
        ColumnType::LONGLONG,
        ColumnType::FLOAT,
        ColumnType::DOUBLE,
        ColumnType::NEWDECIMAL,
        ColumnType::BIT,
        ColumnType::YEAR,
        ColumnType::DATE,
        ColumnType::TIME2,
        ColumnType::DATETIME2,
        ColumnType::TIMESTAMP2,
        ColumnType::STRING,
        ColumnType::VARCHAR,
        ColumnType::BLOB,
        ColumnType::ENUM,
        ColumnType::SET,
        ColumnType::JSON,
        ColumnType::GEOMETRY,
    ] {
        assert!(
            all.types.contains_key(&ty),
            "no {} in the fixtures",
            ty.name()
        );
    }
}

/// A type with metadata, and a value as an image holds it: with its length, and without.
type Column = ((u8, Vec<u8>), Option<(Vec<u8>, Vec<u8>)>);

fn fixed(ty: u8, meta: Vec<u8>, len: usize) -> BoxedStrategy<Column> {
    proptest::option::of(vec(any::<u8>(), len).prop_map(|v| (v.clone(), v)))
        .prop_map(move |value| ((ty, meta.clone()), value))
        .boxed()
}

fn counted(ty: u8, meta: Vec<u8>, width: usize) -> BoxedStrategy<Column> {
    proptest::option::of(vec(any::<u8>(), 0..40).prop_map(move |v| {
        let mut bytes = (v.len() as u32).to_le_bytes()[..width].to_vec();
        bytes.extend_from_slice(&v);
        (bytes, v)
    }))
    .prop_map(move |value| ((ty, meta.clone()), value))
    .boxed()
}

fn column() -> impl Strategy<Value = Column> {
    prop_oneof![
        fixed(1, vec![], 1),
        fixed(2, vec![], 2),
        fixed(3, vec![], 4),
        fixed(8, vec![], 8),
        fixed(9, vec![], 3),
        fixed(5, vec![8], 8),
        fixed(10, vec![], 3),
        fixed(16, vec![5, 1], 2),
        fixed(17, vec![2], 5),
        fixed(18, vec![6], 8),
        fixed(19, vec![3], 5),
        fixed(246, vec![20, 6], 10),
        fixed(254, vec![247, 2], 2),
        fixed(254, vec![248, 8], 8),
        counted(15, vec![255, 0], 1),
        counted(15, vec![0, 1], 2),
        counted(254, vec![254, 40], 1),
        // CHAR(255) of four-byte characters: 1020 bytes.
        counted(254, vec![0xce, 0xfc], 2),
        counted(252, vec![1], 1),
        counted(252, vec![3], 3),
        counted(245, vec![4], 4),
        counted(242, vec![4], 4),
    ]
}

fn image(columns: &[Column], present: &[bool], out: &mut Vec<u8>) {
    let there: Vec<_> = columns.iter().zip(present).filter(|(_, p)| **p).collect();
    let at = out.len();
    out.resize(at + there.len().div_ceil(8), 0);
    for (n, ((_, value), _)) in there.iter().enumerate() {
        match value {
            None => out[at + n / 8] |= 1 << (n % 8),
            Some((bytes, _)) => out.extend_from_slice(bytes),
        }
    }
}

fn bits(present: &[bool]) -> Vec<u8> {
    let mut out = vec![0; present.len().div_ceil(8)];
    for (n, _) in present.iter().enumerate().filter(|(_, p)| **p) {
        out[n / 8] |= 1 << (n % 8);
    }
    out
}

proptest! {
    #[test]
    fn generated_rows_come_back(
        columns in vec(column(), 1..20),
        mut present in vec((any::<bool>(), any::<bool>()), 20),
        n_rows in 1..4_usize,
        kind in 0..3_u8,
        cut in any::<prop::sample::Index>(),
    ) {
        present.truncate(columns.len());
        present[0] = (true, true);
        let (first, second): (Vec<_>, Vec<_>) = present.into_iter().unzip();
        let (first_bits, second_bits) = (bits(&first), bits(&second));
        let types: Vec<u8> = columns.iter().map(|((ty, _), _)| *ty).collect();
        let meta: Vec<u8> = columns.iter().flat_map(|((_, meta), _)| meta.clone()).collect();
        let nulls = vec![0xff; columns.len().div_ceil(8)];
        let map = TableMap {
            table_id: 1, flags: 0, schema: b"s", table: b"t",
            column_types: &types, column_meta: &meta, null_bitmap: &nulls, optional: &[],
        };
        let update = kind == 2;
        let mut bytes = Vec::new();
        for _ in 0..n_rows {
            image(&columns, &first, &mut bytes);
            if update {
                image(&columns, &second, &mut bytes);
            }
        }
        let types = [EventType::WRITE_ROWS, EventType::DELETE_ROWS_V1, EventType::UPDATE_ROWS];
        let header = RowsHeader {
            event_type: types[usize::from(kind)],
            table_id: 1, flags: 1, extra: &[],
            n_columns: columns.len() as u64,
            columns_before: &first_bits,
            columns_after: update.then_some(&second_bits[..]),
            rows: &bytes,
        };
        let rows: Vec<_> = RowsWalk::new(&map, &header).unwrap().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(rows.len(), n_rows);
        for row in &rows {
            prop_assert_eq!(row.before.is_some(), kind != 0);
            prop_assert_eq!(row.after.is_some(), kind != 1);
            let one = if kind == 0 { &row.after } else { &row.before };
            let two = row.after.as_ref().filter(|_| update).map(|image| (image, &second));
            for (image, present) in one.iter().map(|i| (i, &first)).chain(two) {
                let got: Vec<_> = image.columns().map(Result::unwrap).collect();
                let want: Vec<_> = columns.iter().zip(present).map(|((_, value), there)| match value {
                    _ if !there => ColumnValue::Absent,
                    None => ColumnValue::Null,
                    Some((_, value)) => ColumnValue::Bytes(value),
                }).collect();
                prop_assert_eq!(got, want);
            }
        }
        // Cut anywhere but between two rows, it is an error, and never a panic.
        let at = cut.index(bytes.len());
        let row_len = bytes.len() / n_rows;
        let short = RowsHeader { rows: &bytes[..at], ..header };
        let walked = RowsWalk::new(&map, &short).unwrap().collect::<Result<Vec<_>, _>>();
        prop_assert_eq!(walked.is_ok(), at % row_len == 0);
    }

    #[test]
    fn garbage_does_not_panic(
        types in vec(any::<u8>(), 1..12),
        meta in vec(any::<u8>(), 0..30),
        bitmaps in vec(any::<u8>(), 4),
        optional in vec(any::<u8>(), 0..20),
        rows in vec(any::<u8>(), 0..60),
        ty in prop_oneof![23..26_u8, 30..33_u8, Just(39_u8)],
    ) {
        let map = TableMap {
            table_id: 1, flags: 0, schema: b"s", table: b"t",
            column_types: &types, column_meta: &meta, null_bitmap: &[], optional: &optional,
        };
        let event_type = EventType(ty);
        let header = RowsHeader {
            event_type, table_id: 1, flags: 1, extra: &[],
            n_columns: types.len() as u64,
            columns_before: &bitmaps[..2],
            columns_after: event_type.is_update_rows().then_some(&bitmaps[2..]),
            rows: &rows,
        };
        let walked: Vec<_> = RowsWalk::new(&map, &header).unwrap().collect();
        prop_assert!(walked.len() <= rows.len());
        let _ = map.primary_key().map(Iterator::count);
    }
}

#[test]
fn another_number_of_columns_is_refused() {
    let map = TableMap {
        table_id: 1,
        flags: 0,
        schema: b"s",
        table: b"t",
        column_types: &[3],
        column_meta: &[],
        null_bitmap: &[0],
        optional: &[],
    };
    let header = RowsHeader {
        event_type: EventType::WRITE_ROWS,
        table_id: 1,
        flags: 1,
        extra: &[],
        n_columns: 2,
        columns_before: &[3],
        columns_after: None,
        rows: &[0; 9],
    };
    assert!(RowsWalk::new(&map, &header).is_err());
}
