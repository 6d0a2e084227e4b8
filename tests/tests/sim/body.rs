//! Rows that can be recognised at the other end. In: what a branch changes. Out: the bodies of a node's events, and from
//! events of the merged log the rows again.

use tributary_binlog::{EventType, QueryEvent, RawEvent, TableMap};

/// One change of one balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) node: u16,
    pub(crate) txn: u64,
    pub(crate) account: u32,
    /// The balance that it changes.
    pub(crate) before: i64,
    pub(crate) delta: i64,
}

/// An event before it has a place in a file.
pub(crate) type Bare = (EventType, Vec<u8>);

/// Table id, flags, extra data, one column, one bitmap, no NULL.
const ROW_HEAD: usize = 6 + 2 + 2 + 1 + 1 + 1;

/// The table's name says whose rows are in it: a mix-up of table ids is seen.
fn table(node: u16) -> String {
    format!("t{node}")
}

/// A Table_map and one Write_rows for each row. `table_id` is the node's own; other nodes may use it for other tables.
pub(crate) fn rows(rows: &[Row], table_id: u64) -> Vec<Bare> {
    let Some(first) = rows.first() else {
        return Vec::new();
    };
    let (id, name) = (table_id.to_le_bytes(), table(first.node));
    let mut body = id[..6].to_vec();
    body.extend_from_slice(&[1, 0, 4]);
    body.extend_from_slice(b"shop\0");
    body.push(name.len() as u8);
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&[0, 1, 3, 0, 1]);
    let mut out = vec![(EventType::TABLE_MAP, body)];
    for row in rows {
        let mut body = id[..6].to_vec();
        body.extend_from_slice(&[1, 0, 2, 0, 1, 1, 0]);
        body.extend_from_slice(&row.txn.to_le_bytes());
        body.extend_from_slice(&row.node.to_le_bytes());
        body.extend_from_slice(&row.account.to_le_bytes());
        body.extend_from_slice(&row.before.to_le_bytes());
        body.extend_from_slice(&row.delta.to_le_bytes());
        body.resize(body.len() + (row.txn % 50) as usize, 0x61);
        out.push((EventType::WRITE_ROWS, body));
    }
    out
}

/// One statement.
pub(crate) fn query(sql: &str) -> Bare {
    let query = QueryEvent {
        thread_id: 5,
        exec_time: 0,
        error_code: 0,
        status_vars: &[],
        schema: b"shop",
        query: sql.as_bytes(),
    };
    let mut body = Vec::new();
    query.put_body(&mut body);
    (EventType::QUERY, body)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The row of a Write_rows event.
pub(crate) fn read_row(event: &RawEvent<'_>) -> Option<Row> {
    let row = event.body.get(ROW_HEAD..)?;
    Some(Row {
        txn: u64::from_le_bytes(field(row, 0)?),
        node: u16::from_le_bytes(field(row, 8)?),
        account: u32::from_le_bytes(field(row, 10)?),
        before: i64::from_le_bytes(field(row, 14)?),
        delta: i64::from_le_bytes(field(row, 22)?),
    })
}

/// The table id of a Table_map or rows event.
pub(crate) fn table_id(event: &RawEvent<'_>) -> u64 {
    tributary_binlog::table_id_of(event.header.event_type, event.body).unwrap_or(u64::MAX)
}

/// The node whose table a Table_map describes.
pub(crate) fn node_of(event: &RawEvent<'_>) -> Option<u16> {
    let map = TableMap::parse(event.body).ok()?;
    std::str::from_utf8(map.table)
        .ok()?
        .strip_prefix('t')?
        .parse()
        .ok()
}
