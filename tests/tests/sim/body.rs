//! Rows that can be recognised at the other end. In: what a branch changes. Out: the events a collector would hand on, and
//! from events of the merged log the rows again.

use tributary_binlog::{EventHeader, EventType, HEADER_LEN, QueryEvent, RawEvent, TableMap};
use tributary_flow::Body;

/// One change of one balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) node: u16,
    pub(crate) txn: u64,
    pub(crate) account: u32,
    pub(crate) delta: i64,
}

/// Table id, flags, extra data, one column, one bitmap, no NULL.
const ROW_HEAD: usize = 6 + 2 + 2 + 1 + 1 + 1;

fn event(event_type: EventType, body: &[u8], out: &mut Vec<u8>) {
    let header = EventHeader {
        timestamp: 1,
        event_type,
        server_id: 9,
        event_size: (HEADER_LEN + body.len()) as u32,
        log_pos: 77,
        flags: 0,
    };
    header.put(out);
    out.extend_from_slice(body);
}

/// The table's name says whose rows are in it: a mix-up of table ids is seen.
fn table(node: u16) -> String {
    format!("t{node}")
}

/// A Table_map and one Write_rows for each row. `table_id` is the node's own; other nodes may use it for other tables.
pub(crate) fn rows(rows: &[Row], table_id: u64) -> Body {
    let Some(first) = rows.first() else {
        return Body::default();
    };
    let (id, name, mut out) = (table_id.to_le_bytes(), table(first.node), Vec::new());
    let mut body = id[..6].to_vec();
    body.extend_from_slice(&[1, 0, 4]);
    body.extend_from_slice(b"shop\0");
    body.push(name.len() as u8);
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&[0, 1, 3, 0, 1]);
    event(EventType::TABLE_MAP, &body, &mut out);
    for row in rows {
        let mut body = id[..6].to_vec();
        body.extend_from_slice(&[1, 0, 2, 0, 1, 1, 0]);
        body.extend_from_slice(&row.txn.to_le_bytes());
        body.extend_from_slice(&row.node.to_le_bytes());
        body.extend_from_slice(&row.account.to_le_bytes());
        body.extend_from_slice(&row.delta.to_le_bytes());
        body.resize(body.len() + (row.account % 50) as usize, 0x61);
        event(EventType::WRITE_ROWS, &body, &mut out);
    }
    Body::new(out.into())
}

/// One statement.
pub(crate) fn statement(sql: &str) -> Body {
    let query = QueryEvent {
        thread_id: 5,
        exec_time: 0,
        error_code: 0,
        status_vars: &[],
        schema: b"shop",
        query: sql.as_bytes(),
    };
    let (mut body, mut out) = (Vec::new(), Vec::new());
    query.put_body(&mut body);
    event(EventType::QUERY, &body, &mut out);
    Body::new(out.into())
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
        delta: i64::from_le_bytes(field(row, 14)?),
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
