//! Rows and events of tables of integers and texts.
//!
//! In: definitions and values. Out: events as a server writes them, and from events the values again.

use std::collections::BTreeMap;

use tributary_binlog::{
    ChecksumAlg, EventReader, EventType, EventWriter, RawEvent, RowsHeader, TableMap,
    rows_flags::STMT_END,
};
use tributary_schema::{DataType, DefaultValue, Layout, Table};

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Text(String),
}

/// By name of the column.
pub(crate) type Row = BTreeMap<String, Value>;

/// What happens to a row: before and after.
pub(crate) type Change = (Option<Row>, Option<Row>);

/// Events one behind the other.
#[derive(Clone, Default)]
pub(crate) struct Events(pub(crate) Vec<u8>);

impl Events {
    pub(crate) fn add(&mut self, event_type: EventType, body: &[u8]) {
        EventWriter::new(&mut self.0, 0, 1, ChecksumAlg::None)
            .event(event_type, 5, 0, |out| out.extend_from_slice(body))
            .unwrap();
    }

    pub(crate) fn map(&mut self, id: u64, table: &Table, names: (&str, &str), full: bool) {
        let mut layout = Layout::of_table(table);
        layout.full = full;
        let body = layout.table_map(id, 1, names.0.as_bytes(), names.1.as_bytes());
        self.add(EventType::TABLE_MAP, &body);
    }

    /// One event for each change.
    pub(crate) fn rows(&mut self, id: u64, table: &Table, changes: &[Change], ends: bool) {
        for (n, (before, after)) in changes.iter().enumerate() {
            let event_type = match (before, after) {
                (None, _) => EventType::WRITE_ROWS,
                (_, None) => EventType::DELETE_ROWS,
                _ => EventType::UPDATE_ROWS,
            };
            let mut rows = Vec::new();
            for row in [before, after].into_iter().flatten() {
                put(table, row, &mut rows);
            }
            let bits = vec![0xff; table.columns.len().div_ceil(8)];
            let last = ends && n + 1 == changes.len();
            let mut body = Vec::new();
            RowsHeader {
                event_type,
                table_id: id,
                flags: if last { STMT_END } else { 0 },
                extra: &[],
                n_columns: table.columns.len() as u64,
                columns_before: &bits,
                columns_after: (event_type == EventType::UPDATE_ROWS).then_some(&bits),
                rows: &rows,
            }
            .put_body(&mut body);
            self.add(event_type, &body);
        }
    }
}

fn wide(table: &Table, at: usize) -> bool {
    let column = &table.columns[at];
    let max = column
        .collation
        .charset()
        .map_or(1, tributary_schema::Charset::max_len);
    matches!(column.data_type, DataType::VarChar(n) if n * max > 255)
}

fn put(table: &Table, row: &Row, out: &mut Vec<u8>) {
    let nulls_at = out.len();
    out.resize(nulls_at + table.columns.len().div_ceil(8), 0);
    for (at, column) in table.columns.iter().enumerate() {
        let value = &row[&column.name];
        match (value, &column.data_type) {
            (Value::Null, _) => out[nulls_at + at / 8] |= 1 << (at % 8),
            (Value::Int(n), DataType::Int { bytes, .. }) => {
                out.extend_from_slice(&n.to_le_bytes()[..usize::from(*bytes)]);
            }
            (Value::Text(text), DataType::VarChar(_)) => {
                out.push(text.len() as u8);
                if wide(table, at) {
                    out.push(0);
                }
                out.extend_from_slice(text.as_bytes());
            }
            other => panic!("{other:?}"),
        }
    }
}

fn take(table: &Table, bytes: &mut &[u8]) -> Result<Row, String> {
    let short = "a row is cut off";
    let mut cut = |n: usize| -> Result<&[u8], String> {
        let (head, rest) = bytes.split_at_checked(n).ok_or(short)?;
        *bytes = rest;
        Ok(head)
    };
    let nulls = cut(table.columns.len().div_ceil(8))?.to_vec();
    let mut row = Row::new();
    for (at, column) in table.columns.iter().enumerate() {
        let value = if nulls[at / 8] >> (at % 8) & 1 == 1 {
            Value::Null
        } else {
            match &column.data_type {
                DataType::Int { bytes, .. } => {
                    let len = usize::from(*bytes);
                    let mut number = [0; 8];
                    number[..len].copy_from_slice(cut(len)?);
                    let shift = 64 - 8 * u32::from(*bytes);
                    Value::Int(i64::from_le_bytes(number) << shift >> shift)
                }
                DataType::VarChar(_) => {
                    let mut len = usize::from(cut(1)?[0]);
                    if wide(table, at) {
                        len += usize::from(cut(1)?[0]) << 8;
                    }
                    let text = String::from_utf8(cut(len)?.to_vec());
                    Value::Text(text.map_err(|e| e.to_string())?)
                }
                other => return Err(format!("{other} is not in this story")),
            }
        };
        row.insert(column.name.clone(), value);
    }
    Ok(row)
}

/// What an event says.
pub(crate) enum Said<'a> {
    Map(TableMap<'a>),
    Rows(RowsHeader<'a>),
    Query(&'a [u8]),
    Text,
}

pub(crate) fn read<'a>(raw: &RawEvent<'a>) -> Result<Said<'a>, String> {
    Ok(match raw.header.event_type {
        EventType::TABLE_MAP => Said::Map(TableMap::parse(raw.body).map_err(|e| e.to_string())?),
        EventType::ROWS_QUERY => Said::Text,
        EventType::QUERY => Said::Query(raw.body),
        event_type => {
            Said::Rows(RowsHeader::parse(event_type, raw.body).map_err(|e| e.to_string())?)
        }
    })
}

/// The changes of a rows event of a table.
pub(crate) fn changes(table: &Table, rows: &RowsHeader<'_>) -> Result<Vec<Change>, String> {
    if rows.n_columns != table.columns.len() as u64 {
        return Err(format!("{} columns", rows.n_columns));
    }
    let full = |bits: &[u8]| (0..table.columns.len()).all(|at| bits[at / 8] >> (at % 8) & 1 == 1);
    if !full(rows.columns_before) || !rows.columns_after.is_none_or(full) {
        return Err("an image is not full".into());
    }
    let mut rest = rows.rows;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let first = take(table, &mut rest)?;
        out.push(match rows.event_type {
            EventType::WRITE_ROWS => (None, Some(first)),
            EventType::DELETE_ROWS => (Some(first), None),
            _ => (Some(first), Some(take(table, &mut rest)?)),
        });
    }
    Ok(out)
}

/// All events of some bytes.
pub(crate) fn events(bytes: &[u8]) -> impl Iterator<Item = Result<RawEvent<'_>, String>> {
    let mut reader = EventReader::new(bytes, ChecksumAlg::None);
    std::iter::from_fn(move || reader.next().map_err(|e| e.to_string()).transpose())
}

/// What a column gets that a row does not have.
pub(crate) fn default(table: &Table, name: &str) -> Value {
    let column = table.column(name).unwrap();
    match (&column.default, &column.data_type) {
        (Some(DefaultValue::Text(text)), DataType::Int { .. }) => Value::Int(text.parse().unwrap()),
        (Some(DefaultValue::Text(text)), _) => Value::Text(text.clone()),
        _ if column.nullable => Value::Null,
        (_, DataType::Int { .. }) => Value::Int(0),
        _ => Value::Text(String::new()),
    }
}

/// The row behind a change of its table's definition.
pub(crate) fn moved(row: &Row, after: &Table, renamed: &[(String, String)]) -> Row {
    let columns = after.columns.iter().map(|column| {
        let old = renamed.iter().find(|(_, new)| *new == column.name);
        let old = old.map_or(&column.name, |(old, _)| old);
        let value = row.get(old).cloned();
        let value = value.unwrap_or_else(|| default(after, &column.name));
        (column.name.clone(), value)
    });
    columns.collect()
}
