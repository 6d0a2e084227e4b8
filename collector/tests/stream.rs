//! Hand-made binlog streams, and what an assembler makes of them, as text.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tributary_binlog::{
    ChecksumAlg, EventReader, EventType, EventWriter, FormatDescription, Gtid, GtidEvent,
    QueryEvent, RawEvent, Rotate, XaPrepare, XaXid, flags,
};
use tributary_collector::{Account, AssembleError, Assembler};
use tributary_flow::{NodeItem, SourceTxn};

pub(crate) const UUID: &str = "11111111-2222-3333-4444-555555555555";

/// Counts what is charged.
#[derive(Debug, Default)]
pub(crate) struct Ledger(AtomicUsize);

impl Ledger {
    pub(crate) fn used(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Account for Ledger {
    fn charge(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::SeqCst);
    }
    fn release(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::SeqCst);
    }
}

pub(crate) fn gtid(gno: u64) -> Gtid {
    format!("{UUID}:{gno}").parse().unwrap()
}

/// Events as they lie in a binlog file behind its magic, with checksums.
#[derive(Default)]
pub(crate) struct Stream(pub(crate) Vec<u8>);

impl Stream {
    /// A stream that begins with a format description, as a file does.
    pub(crate) fn file() -> Self {
        let mut s = Self::default();
        s.raw(EventType::FORMAT_DESCRIPTION, 0, |b| {
            FormatDescription::for_version("9.7.4").put_body(b);
        });
        s
    }

    /// The rotate that a server sends in front of each file.
    pub(crate) fn rotate_event(file: &str, position: u64) -> Vec<u8> {
        let mut s = Self::default();
        s.artificial_rotate(file, position);
        s.0
    }

    fn artificial_rotate(&mut self, file: &str, position: u64) {
        self.raw(EventType::ROTATE, flags::ARTIFICIAL, |b| {
            Rotate {
                position,
                file: file.as_bytes(),
            }
            .put_body(b);
        });
    }

    pub(crate) fn raw(
        &mut self,
        event_type: EventType,
        flags: u16,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> &mut Self {
        let mut writer = EventWriter::new(&mut self.0, 4, 1, ChecksumAlg::Crc32);
        writer
            .event(event_type, 1_700_000_000, flags, body)
            .unwrap();
        self
    }

    pub(crate) fn gtid(&mut self, gno: u64) -> &mut Self {
        self.gtid_at(gno, 1_700_000_000_000_000, 1_700_000_000_000_000)
    }

    pub(crate) fn gtid_at(&mut self, gno: u64, original: u64, immediate: u64) -> &mut Self {
        let event = GtidEvent {
            gtid: Some(gtid(gno)),
            flags: 0,
            last_committed: gno as i64 - 1,
            sequence_number: gno as i64,
            immediate_commit_ts: immediate,
            original_commit_ts: original,
            transaction_length: 550,
            original_server_version: 90704,
            immediate_server_version: 90704,
            commit_group_ticket: None,
        };
        self.raw(EventType::GTID, 0, |b| event.put_body(b))
    }

    pub(crate) fn query(&mut self, text: &str) -> &mut Self {
        let query = text.as_bytes();
        let event = QueryEvent {
            thread_id: 8,
            exec_time: 0,
            error_code: 0,
            status_vars: &[],
            schema: b"shop",
            query,
        };
        self.raw(EventType::QUERY, 0, |b| event.put_body(b))
    }

    pub(crate) fn rows(&mut self, len: usize) -> &mut Self {
        self.raw(EventType::TABLE_MAP, 0, |b| b.extend_from_slice(&[1; 40]));
        self.raw(EventType::WRITE_ROWS, 0, |b| b.resize(b.len() + len, 2))
    }

    pub(crate) fn xid(&mut self) -> &mut Self {
        self.raw(EventType::XID, 0, |b| {
            b.extend_from_slice(&7_u64.to_le_bytes());
        })
    }

    pub(crate) fn local(&mut self, gno: u64, len: usize) -> &mut Self {
        self.gtid(gno).query("BEGIN").rows(len).xid()
    }

    pub(crate) fn xa_prepare(&mut self, xid: &XaXid, one_phase: bool) -> &mut Self {
        let event = XaPrepare {
            one_phase,
            xid: *xid,
        };
        self.raw(EventType::XA_PREPARE, 0, |b| event.put_body(b))
    }

    /// Hands the stream to a new assembler, behind a rotate to `binlog.000007`.
    pub(crate) fn assemble(&self) -> (Vec<NodeItem>, Result<(), AssembleError>) {
        let mut assembler = assembler();
        let result = feed(&mut assembler, &self.0);
        (assembler.take(), result)
    }
}

/// An assembler that was told to be in `binlog.000007`.
pub(crate) fn assembler() -> Assembler {
    let mut assembler = Assembler::new(Arc::new(Ledger::default()));
    feed(&mut assembler, &Stream::rotate_event("binlog.000007", 4)).unwrap();
    assembler
}

/// Feeds events that lie back to back.
pub(crate) fn feed(assembler: &mut Assembler, bytes: &[u8]) -> Result<(), AssembleError> {
    let mut reader = EventReader::new(bytes, ChecksumAlg::Crc32);
    while let Some(event) = reader.next().expect("whole events") {
        assembler.handle(&event)?;
    }
    Ok(())
}

/// The events of a body: types and bytes, checked to be whole and without checksums.
pub(crate) fn body(txn: &SourceTxn) -> Vec<(EventType, Vec<u8>)> {
    let mut out = Vec::new();
    for segment in txn.body.chunks() {
        let segment = segment.expect("the file can be read");
        let mut reader = EventReader::new(&segment, ChecksumAlg::None);
        while let Some(event) = reader.next().expect("a segment holds whole events") {
            out.push((event.header.event_type, event.body.to_vec()));
        }
    }
    let len: usize = out.iter().map(|(_, body)| body.len() + 19).sum();
    assert_eq!(len as u64, txn.body.len());
    out
}

/// `gtid kind end [event types]`.
pub(crate) fn line(txn: &SourceTxn) -> String {
    use tributary_flow::TxnKind;
    let kind = match &txn.kind {
        TxnKind::Local => "Local".to_owned(),
        TxnKind::OnePhase(xid) => format!("OnePhase {xid}"),
        TxnKind::Prepare(xid) => format!("Prepare {xid}"),
        TxnKind::Commit(xid) => format!("Commit {xid}"),
        TxnKind::Rollback(xid) => format!("Rollback {xid}"),
        TxnKind::Ddl => "Ddl".to_owned(),
        TxnKind::Empty => "Empty".to_owned(),
    };
    let types: Vec<_> = body(txn).iter().map(|(ty, _)| ty.name()).collect();
    format!("{} {kind} {} {}", txn.gtid, txn.end.offset, types.join(","))
}

/// The transactions among items.
pub(crate) fn txns(items: Vec<NodeItem>) -> Vec<SourceTxn> {
    let txn = |item| match item {
        NodeItem::Txn(txn) => Some(*txn),
        NodeItem::Position(_) => None,
    };
    items.into_iter().filter_map(txn).collect()
}

/// Parses one event without looking at its CRC.
pub(crate) fn unverified(bytes: &[u8]) -> Option<RawEvent<'_>> {
    RawEvent::parse_unverified(bytes, ChecksumAlg::Crc32).ok()
}
