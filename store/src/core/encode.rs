//! Global transactions as bytes. In: a [`GlobalTxn`], its number, and the place in the file where it begins. Out: its
//! events with headers, positions, table ids and checksums of that place, appended to a [`Sink`].
//!
//! The layout of a transaction with rows: GTID, Query `BEGIN`, the parts' events, Xid (= the GTID's number). Of a DDL:
//! GTID, the events of its part. Nothing depends on a clock, on earlier calls or on how transactions are batched.
//!
//! What a sink has buffered is handed on every [`DRAIN_BYTES`], between events and inside large ones, so memory does
//! not grow with the transaction.

use std::io;

use bytes::Bytes;
use tributary_binlog::{
    ChecksumAlg, EventHeader, EventType, EventWriter, Gno, Gtid, GtidEvent, HEADER_LEN, InnodbXid,
    Sid, Tag, XidEvent, flags,
};
use tributary_flow::{Body, Dependency, GlobalKind, GlobalTxn, limits};

use super::tables::TableIds;

/// A sink is drained once it holds this many bytes; it may hold one event of that size more.
pub const DRAIN_BYTES: usize = 1 << 20;

const CRC: ChecksumAlg = ChecksumAlg::Crc32;
const CRC_LEN: usize = 4;
/// Bytes of a table id at the start of a body.
const TABLE_ID_LEN: usize = 6;
/// `GtidEvent::flags`: the transaction may hold statements (`FLAG_MAY_HAVE_SBR`).
const MAY_HAVE_SBR: u8 = 1;

/// Bytes of a file that are not written yet.
#[derive(Debug, Default)]
pub struct Pending {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where the first of them belongs in the file.
    pub base: u64,
    /// Where the last event that was begun belongs in the file.
    pub event: u64,
}

impl Pending {
    /// Where the next byte belongs in the file.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }
}

/// Where encoded bytes go.
pub trait Sink {
    /// What is buffered.
    fn pending(&mut self) -> &mut Pending;
    /// Called when [`DRAIN_BYTES`] or more are buffered: takes what it can out of the buffer, moving `base`.
    fn drain(&mut self) -> io::Result<()>;
}

impl Sink for Pending {
    fn pending(&mut self) -> &mut Pending {
        self
    }

    fn drain(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a transaction cannot be written. Except for `Io` it is the input that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The bytes of a part are not whole events.
    #[error("transaction {gno}: no whole event at byte {at} of a chunk of its events")]
    Malformed {
        /// Number of the transaction.
        gno: u64,
        /// Offset in the chunk.
        at: usize,
    },
    /// A part that lies in a file has not as many events or bytes as it was said to have.
    #[error(
        "transaction {gno}: its spooled events take {written} bytes, not {measured}; the spool file is damaged"
    )]
    Length {
        /// Number of the transaction.
        gno: u64,
        /// What they should take.
        measured: u64,
        /// What they take.
        written: u64,
    },
    /// An event that structures a binlog cannot stand inside a transaction.
    #[error("transaction {gno}: a {event_type} event cannot stand inside a transaction")]
    Misplaced {
        /// Number of the transaction.
        gno: u64,
        /// The event.
        event_type: EventType,
    },
    /// A rows event refers to a table no Table_map of its part has announced.
    #[error(
        "transaction {gno}: {event_type} for table id {table_id} without a Table_map before it"
    )]
    UnknownTable {
        /// Number of the transaction.
        gno: u64,
        /// The event.
        event_type: EventType,
        /// The source's table id.
        table_id: u64,
    },
    /// A transaction can only depend on earlier ones.
    #[error("transaction {gno} claims to depend on transaction {on}, which is not before it")]
    Dependency {
        /// Number of the transaction.
        gno: u64,
        /// What it claims to depend on.
        on: u64,
    },
    /// The number cannot be a GTID's.
    #[error("the GTID number {gno} is out of MySQL's range")]
    Number {
        /// The number.
        gno: u64,
    },
    /// An event does not fit the format.
    #[error("transaction {gno}: {source}")]
    Event {
        /// Number of the transaction.
        gno: u64,
        /// Why.
        source: tributary_binlog::WriteError,
    },
    /// Events that lie in a spool file cannot be read.
    #[error("transaction {gno}: its spool file cannot be read: {source}")]
    Spool {
        /// Number of the transaction.
        gno: u64,
        /// Why.
        source: io::Error,
    },
    /// The sink failed.
    #[error("transaction {gno}: {source}")]
    Io {
        /// Number of the transaction.
        gno: u64,
        /// Why.
        source: io::Error,
    },
}

/// The numbers of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Its GTID's number.
    pub gno: u64,
    /// The number of the first transaction in its file: the logical clock restarts there.
    pub first_gno: u64,
}

/// Turns transactions into bytes.
#[derive(Debug)]
pub struct Encoder {
    server_id: u32,
    sid: Sid,
    begin: Vec<u8>,
    gtid: Vec<u8>,
    tables: TableIds,
}

impl Encoder {
    /// An encoder for the GTIDs of `sid` and headers with `server_id`.
    pub fn new(server_id: u32, sid: Sid) -> Self {
        let (begin, gtid, tables) = (begin_body(), Vec::new(), TableIds::new());
        Self {
            server_id,
            sid,
            begin,
            gtid,
            tables,
        }
    }

    /// Appends `txn` to `sink`. After an error the sink holds part of it.
    pub fn transaction<S: Sink>(
        &mut self,
        sink: &mut S,
        numbers: Numbers,
        txn: &GlobalTxn,
    ) -> Result<(), EncodeError> {
        let gno = numbers.gno;
        let body_len = measure(gno, &txn.parts)?;
        let framing = match txn.kind {
            GlobalKind::Rows => event_len(self.begin.len()) + event_len(8),
            GlobalKind::Ddl => 0,
        };
        let statements = txn.kind == GlobalKind::Ddl || has_statement(gno, &txn.parts)?;
        let flags = if statements { MAY_HAVE_SBR } else { 0 };
        self.gtid_body(numbers, txn, flags, framing as u64 + body_len)?;

        let event = |source| EncodeError::Event { gno, source };
        let pending = sink.pending();
        let mut writer = writer(pending, self.server_id);
        let gtid = &self.gtid;
        writer
            .event(EventType::GTID, txn.timestamp, 0, |out| {
                out.extend_from_slice(gtid);
            })
            .map_err(event)?;
        if txn.kind == GlobalKind::Rows {
            let begin = &self.begin;
            let copy = |out: &mut Vec<u8>| out.extend_from_slice(begin);
            writer
                .event(EventType::QUERY, txn.timestamp, flags::SUPPRESS_USE, copy)
                .map_err(event)?;
        }
        self.tables.begin_transaction();
        let start = sink.pending().offset();
        for part in &txn.parts {
            self.tables.begin_part();
            self.part(sink, gno, txn.timestamp, part)?;
        }
        // What lies in a file was not looked at before.
        let written = sink.pending().offset() - start;
        if written != body_len {
            let measured = body_len;
            return Err(EncodeError::Length {
                gno,
                measured,
                written,
            });
        }
        if txn.kind == GlobalKind::Rows {
            let xid = XidEvent(InnodbXid(gno));
            let mut writer = self::writer(sink.pending(), self.server_id);
            writer
                .event(EventType::XID, txn.timestamp, 0, |out| xid.put_body(out))
                .map_err(event)?;
        }
        if sink.pending().bytes.len() >= DRAIN_BYTES {
            sink.drain()
                .map_err(|source| EncodeError::Io { gno, source })?;
        }
        Ok(())
    }

    fn part<S: Sink>(
        &mut self,
        sink: &mut S,
        gno: u64,
        timestamp: u32,
        part: &Body,
    ) -> Result<(), EncodeError> {
        for chunk in part.chunks() {
            let chunk = chunk.map_err(|source| EncodeError::Spool { gno, source })?;
            let mut rest: &[u8] = &chunk;
            while !rest.is_empty() {
                let at = chunk.len() - rest.len();
                let malformed = || EncodeError::Malformed { gno, at };
                let (header, body, behind) = split_event(rest).ok_or_else(malformed)?;
                if part.is_spooled() {
                    check(gno, &header).ok_or_else(malformed)??;
                }
                rest = behind;
                let pending = sink.pending();
                pending.event = pending.offset();
                let table_id = self.table_id(gno, &header, body)?;
                if body.len() > DRAIN_BYTES {
                    self.large(sink, &header, body, timestamp, table_id)
                        .map_err(|source| EncodeError::Io { gno, source })?;
                    continue;
                }
                writer(sink.pending(), self.server_id)
                    .copy(&header, body, timestamp, table_id)
                    .map_err(|source| EncodeError::Event { gno, source })?;
                if sink.pending().bytes.len() >= DRAIN_BYTES {
                    sink.drain()
                        .map_err(|source| EncodeError::Io { gno, source })?;
                }
            }
        }
        Ok(())
    }

    /// The own id of the table an event is about, if it is about one.
    #[inline]
    fn table_id(
        &mut self,
        gno: u64,
        header: &EventHeader,
        body: &[u8],
    ) -> Result<Option<u64>, EncodeError> {
        let event_type = header.event_type;
        if event_type != EventType::TABLE_MAP && !event_type.is_rows() {
            return Ok(None);
        }
        let Some((id, content)) = body.split_first_chunk::<TABLE_ID_LEN>() else {
            return Err(EncodeError::Malformed { gno, at: 0 });
        };
        let [a, b, c, d, e, f] = *id;
        let source = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        if event_type == EventType::TABLE_MAP {
            return Ok(Some(self.tables.map(source, content)));
        }
        let own = self.tables.rows(source);
        own.map(Some).ok_or(EncodeError::UnknownTable {
            gno,
            event_type,
            table_id: source,
        })
    }

    /// An event too large to be buffered whole: copied and handed on in pieces.
    fn large<S: Sink>(
        &mut self,
        sink: &mut S,
        header: &EventHeader,
        body: &[u8],
        timestamp: u32,
        table_id: Option<u64>,
    ) -> io::Result<()> {
        let event_size = header.event_size + CRC_LEN as u32;
        let log_pos = sink.pending().offset().wrapping_add(u64::from(event_size)) as u32;
        let server_id = self.server_id;
        let header = EventHeader {
            timestamp,
            server_id,
            event_size,
            log_pos,
            ..*header
        };
        let mut crc = crc32fast::Hasher::new();
        let mut put = |sink: &mut S, bytes: &[u8]| {
            crc.update(bytes);
            sink.pending().bytes.extend_from_slice(bytes);
            if sink.pending().bytes.len() >= DRAIN_BYTES {
                sink.drain()
            } else {
                Ok(())
            }
        };
        put(sink, &header.to_bytes())?;
        let mut body = body;
        if let Some(id) = table_id
            && let Some((_, tail)) = body.split_first_chunk::<TABLE_ID_LEN>()
        {
            let [a, b, c, d, e, f, _, _] = id.to_le_bytes();
            put(sink, &[a, b, c, d, e, f])?;
            body = tail;
        }
        for piece in body.chunks(DRAIN_BYTES / 2) {
            put(sink, piece)?;
        }
        let crc = crc.finalize();
        sink.pending().bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(())
    }

    /// Puts the body of the GTID event into `self.gtid`. `rest` is the length of the transaction's other events.
    fn gtid_body(
        &mut self,
        numbers: Numbers,
        txn: &GlobalTxn,
        flags: u8,
        rest: u64,
    ) -> Result<(), EncodeError> {
        let gno = numbers.gno;
        let (last_committed, sequence_number) = clock(numbers, txn.dependency)?;
        let number = Gno::new(gno).ok_or(EncodeError::Number { gno })?;
        let mut event = GtidEvent {
            gtid: Some(Gtid {
                sid: self.sid,
                tag: Tag::EMPTY,
                gno: number,
            }),
            flags,
            last_committed,
            sequence_number,
            immediate_commit_ts: txn.immediate_commit,
            original_commit_ts: txn.original_commit,
            transaction_length: 0,
            original_server_version: txn.original_server_version,
            immediate_server_version: txn.immediate_server_version,
            commit_group_ticket: None,
        };
        event.set_transaction_length(rest, CRC);
        self.gtid.clear();
        event.put_body(&mut self.gtid);
        Ok(())
    }
}

#[inline]
fn writer(pending: &mut Pending, server_id: u32) -> EventWriter<'_> {
    EventWriter::new(&mut pending.bytes, pending.base, server_id, CRC)
}

/// Bytes of an event with a body of `body` bytes.
const fn event_len(body: usize) -> usize {
    HEADER_LEN + body + CRC_LEN
}

/// `last_committed` and `sequence_number`, which restart at 0 and 1 in each file.
fn clock(numbers: Numbers, dependency: Dependency) -> Result<(i64, i64), EncodeError> {
    let Numbers { gno, first_gno } = numbers;
    let sequence = gno.saturating_sub(first_gno).saturating_add(1);
    let committed = match dependency {
        Dependency::Predecessor => sequence - 1,
        Dependency::UpTo(on) if on >= gno => return Err(EncodeError::Dependency { gno, on }),
        Dependency::UpTo(on) => (on + 1).saturating_sub(first_gno),
    };
    let signed = |n| i64::try_from(n).map_err(|_| EncodeError::Number { gno });
    Ok((signed(committed)?, signed(sequence)?))
}

/// The next event of a part: header, body and what is behind it.
#[inline]
fn split_event(bytes: &[u8]) -> Option<(EventHeader, &[u8], &[u8])> {
    let header = EventHeader::parse(bytes).ok()?;
    let (event, rest) = bytes.split_at_checked(header.event_size as usize)?;
    Some((header, event.get(HEADER_LEN..)?, rest))
}

/// Whether a transaction with rows begins with a statement: `CREATE TABLE … SELECT` does. A replica that is told otherwise stops at it.
fn has_statement(gno: u64, parts: &[Body]) -> Result<bool, EncodeError> {
    for part in parts {
        let first = part.first_type();
        if first.map_err(|source| EncodeError::Spool { gno, source })? == Some(EventType::QUERY) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Bytes the parts' events take with checksums. Fails on anything in memory that is not whole events fit for a transaction, so
/// that nothing of a bad transaction is written. What lies in a file is counted already, and checked as it is written.
fn measure(gno: u64, parts: &[Body]) -> Result<u64, EncodeError> {
    let mut events = 0u64;
    let mut bytes = 0u64;
    for part in parts {
        bytes += part.len();
        events += match part.counted_events() {
            Some(events) => events,
            None => checked(gno, part.segments())?,
        };
    }
    Ok(bytes + events * CRC_LEN as u64)
}

/// The number of events in segments; all are fit for a transaction.
fn checked(gno: u64, segments: &[Bytes]) -> Result<u64, EncodeError> {
    let mut events = 0;
    for segment in segments {
        let mut rest: &[u8] = segment;
        while !rest.is_empty() {
            let at = segment.len() - rest.len();
            let malformed = || EncodeError::Malformed { gno, at };
            let (header, _, behind) = split_event(rest).ok_or_else(malformed)?;
            check(gno, &header).ok_or_else(malformed)??;
            rest = behind;
            events += 1;
        }
    }
    Ok(events)
}

/// Whether an event is fit for a transaction; `None` if it is too large to be one.
#[inline]
fn check(gno: u64, header: &EventHeader) -> Option<Result<(), EncodeError>> {
    let event_type = header.event_type;
    if header.event_size as usize > limits::EVENT_BYTES_MAX {
        return None;
    }
    Some(match may_be_inside(event_type) {
        true => Ok(()),
        false => Err(EncodeError::Misplaced { gno, event_type }),
    })
}

/// Whether an event of this type can be part of a transaction's body.
#[inline]
fn may_be_inside(event_type: EventType) -> bool {
    !matches!(
        event_type,
        EventType::FORMAT_DESCRIPTION
            | EventType::ROTATE
            | EventType::STOP
            | EventType::PREVIOUS_GTIDS
            | EventType::GTID
            | EventType::ANONYMOUS_GTID
            | EventType::GTID_TAGGED
            | EventType::XID
            | EventType::XA_PREPARE
            | EventType::TRANSACTION_PAYLOAD
            | EventType::HEARTBEAT
            | EventType::HEARTBEAT_V2
    )
}

/// The body of the Query event `BEGIN`. Layout and order as mysqld's; the status variables say: no option flags, an
/// empty `sql_mode` (rows have been checked where they were written, and evaluating a generated column again must not
/// be stricter than that), catalog `std`, and utf8mb4_general_ci, the newest character set every replica knows.
fn begin_body() -> Vec<u8> {
    const Q_FLAGS2: u8 = 0;
    const Q_SQL_MODE: u8 = 1;
    const Q_CATALOG_NZ: u8 = 6;
    const Q_CHARSET: u8 = 4;
    const UTF8MB4_GENERAL_CI: [u8; 2] = 45u16.to_le_bytes();
    let mut vars = vec![Q_FLAGS2, 0, 0, 0, 0];
    vars.extend_from_slice(&[Q_SQL_MODE, 0, 0, 0, 0, 0, 0, 0, 0]);
    vars.extend_from_slice(&[Q_CATALOG_NZ, 3, b's', b't', b'd']);
    vars.push(Q_CHARSET);
    for _client_connection_server in 0..3 {
        vars.extend_from_slice(&UTF8MB4_GENERAL_CI);
    }
    let mut body = Vec::new();
    let begin = tributary_binlog::QueryEvent {
        thread_id: 0,
        exec_time: 0,
        error_code: 0,
        status_vars: &vars,
        schema: b"",
        query: b"BEGIN",
    };
    begin.put_body(&mut body);
    body
}
