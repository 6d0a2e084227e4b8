//! Transactions as a merger would hand them over, and ways to look at what became of them.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::smallvec;
use tributary_binlog::{
    ChecksumAlg, EventHeader, EventReader, EventType, HEADER_LEN, MAGIC, QueryEvent, RawEvent, Sid,
    XaXid,
};
use tributary_flow::{
    Body, BranchOp, Checkpoint, Dependency, GlobalKind, GlobalTxn, KeptId, MergedBatch, OrderKey,
    Tso,
};
use tributary_store::{Kv, LogWriter, MemDisk, MemKv, OpenError, Opened, StoreOptions, open};

pub(crate) const UUID: &str = "01020304-0506-0708-090a-0b0c0d0e0f10";
pub(crate) const CREATED: u32 = 1_700_000_000;

pub(crate) fn sid() -> Sid {
    UUID.parse().unwrap()
}

pub(crate) fn options(max_binlog_size: u64) -> StoreOptions {
    StoreOptions {
        base_name: "binlog".to_owned(),
        max_binlog_size,
        server_id: 4294,
        server_version: "8.4.9-tributary".to_owned(),
        new_uuid: sid(),
        now_seconds: CREATED,
    }
}

pub(crate) fn open_mem(disk: &MemDisk, kv: &MemKv, max: u64) -> Result<Opened, OpenError> {
    open(Arc::new(disk.clone()), Arc::new(kv.clone()), options(max))
}

/// An event as a collector keeps it: without checksum.
pub(crate) fn event(event_type: EventType, flags: u16, body: &[u8]) -> Vec<u8> {
    let event_size = (HEADER_LEN + body.len()) as u32;
    let header = EventHeader {
        timestamp: 1,
        event_type,
        server_id: 9,
        event_size,
        log_pos: 77,
        flags,
    };
    let mut out = Vec::new();
    header.put(&mut out);
    out.extend_from_slice(body);
    out
}

fn table_id(id: u64) -> Vec<u8> {
    id.to_le_bytes()[..6].to_vec()
}

/// A Table_map of `shop.<table>` with one INT column.
pub(crate) fn table_map(id: u64, table: &str) -> Vec<u8> {
    let mut body = table_id(id);
    body.extend_from_slice(&[1, 0, 4]);
    body.extend_from_slice(b"shop\0");
    body.push(table.len() as u8);
    body.extend_from_slice(table.as_bytes());
    body.extend_from_slice(&[0, 1, 3, 0, 1]);
    event(EventType::TABLE_MAP, 0, &body)
}

/// A Write_rows with one row of `padding` bytes behind its INT.
pub(crate) fn write_rows(id: u64, value: u32, padding: usize) -> Vec<u8> {
    let mut body = table_id(id);
    body.extend_from_slice(&[1, 0, 2, 0, 1, 1, 0]);
    body.extend_from_slice(&value.to_le_bytes());
    body.resize(body.len() + padding, 0x61);
    event(EventType::WRITE_ROWS, 0, &body)
}

pub(crate) fn rows(parts: &[Vec<Vec<u8>>], n: u64) -> GlobalTxn {
    GlobalTxn {
        key: OrderKey::distributed(Tso::new(1_000_000 + n).unwrap()),
        kind: GlobalKind::Rows,
        parts: parts
            .iter()
            .map(|events| Body::new(Bytes::from(events.concat())))
            .collect(),
        dependency: Dependency::UpTo(n.saturating_sub(3)),
        original_commit: 1_700_000_000_000_000 + n,
        immediate_commit: 1_700_000_000_000_500 + n,
        original_server_version: 80404,
        immediate_server_version: 80404,
        timestamp: CREATED + 10 + n as u32,
    }
}

pub(crate) fn ddl(n: u64, sql: &str) -> GlobalTxn {
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
    let query = Body::new(Bytes::from(event(EventType::QUERY, 0, &body)));
    GlobalTxn {
        kind: GlobalKind::Ddl,
        parts: smallvec![query],
        dependency: Dependency::Predecessor,
        ..rows(&[], n)
    }
}

/// The `n`th transaction (from 1) of a varied but fixed history.
pub(crate) fn nth(n: u64) -> GlobalTxn {
    let value = n as u32;
    let padding = (n * 37 % 400) as usize;
    match n % 7 {
        3 => ddl(n, &format!("ALTER TABLE orders COMMENT '{n}'")),
        5 => rows(
            &[
                vec![table_map(100, "orders"), write_rows(100, value, padding)],
                vec![table_map(100, "items"), write_rows(100, value, padding / 2)],
            ],
            n,
        ),
        _ => rows(
            &[vec![
                table_map(100 + n, "orders"),
                write_rows(100 + n, value, padding),
            ]],
            n,
        ),
    }
}

/// The transactions `from..=to` of [`nth`]; the checkpoint says `to`.
pub(crate) fn batch(from: u64, to: u64) -> MergedBatch {
    let checkpoint = Checkpoint {
        last_tso: Tso::new(to).unwrap(),
        ..Checkpoint::default()
    };
    MergedBatch {
        txns: (from..=to).map(nth).collect(),
        checkpoint,
        ..MergedBatch::default()
    }
}

/// What is said of branches behind transaction `last`.
pub(crate) fn branches(last: u64, branches: Vec<BranchOp>) -> MergedBatch {
    MergedBatch {
        branches,
        checkpoint: Checkpoint {
            last_tso: Tso::new(last).unwrap_or(Tso::ZERO),
            ..Checkpoint::default()
        },
        ..MergedBatch::default()
    }
}

/// Keeps a branch of `dn1`, with its rows in two pieces.
pub(crate) fn keep(id: u64, xid: &XaXid, head: &[u8], rows: &[u8]) -> Vec<BranchOp> {
    let (id, half) = (KeptId(id), rows.len() / 2);
    let piece = |offset: usize, bytes: &[u8]| BranchOp::Rows {
        id,
        offset: offset as u64,
        bytes: Bytes::copy_from_slice(bytes),
    };
    vec![
        piece(0, &rows[..half]),
        piece(half, &rows[half..]),
        BranchOp::Keep {
            id,
            node: "dn1".into(),
            xid: Box::new(*xid),
            head: head.to_vec(),
            rows: rows.len() as u64,
        },
    ]
}

pub(crate) fn forget(id: u64, xid: &XaXid) -> BranchOp {
    BranchOp::Forget {
        id: KeptId(id),
        node: "dn1".into(),
        xid: Box::new(*xid),
    }
}

/// Appends and commits `from..=to` in one group.
pub(crate) fn commit(writer: &mut LogWriter, from: u64, to: u64) {
    writer.append(&batch(from, to)).unwrap();
    writer.commit().unwrap();
}

/// All binlog files of a disk and their index, in order, as one readable thing to compare.
pub(crate) fn files(disk: &MemDisk) -> Vec<(String, Vec<u8>)> {
    use tributary_store::Disk;
    let names = disk.list().unwrap();
    names
        .into_iter()
        .filter(|name| name.starts_with("binlog."))
        .map(|name| (name.clone(), disk.bytes(&name).unwrap()))
        .collect()
}

/// Every event of a file, checked.
pub(crate) fn events(bytes: &[u8]) -> Vec<RawEvent<'_>> {
    let rest = bytes.strip_prefix(&MAGIC).unwrap();
    let mut reader = EventReader::new(rest, ChecksumAlg::None);
    let mut events = Vec::new();
    while let Some(event) = reader.next().unwrap() {
        events.push(event);
    }
    events
}

/// A log of `n` transactions in files of about `max` bytes, a few transactions to a group.
pub(crate) fn sample(n: u64, max: u64) -> (MemDisk, MemKv) {
    let (disk, kv) = (MemDisk::new(), MemKv::new());
    let mut opened = open_mem(&disk, &kv, max).unwrap();
    let mut next = 1;
    while next <= n {
        let to = (next + next % 4).min(n);
        commit(&mut opened.writer, next, to);
        next = to + 1;
    }
    (disk, kv)
}

pub(crate) fn dump(kv: &dyn Kv) -> Vec<(Vec<u8>, Vec<u8>)> {
    kv.scan(&[0], &[255], usize::MAX).unwrap()
}
