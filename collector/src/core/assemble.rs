//! From events to whole source transactions.
//!
//! In: the checked events of one node's dump stream, in order ([`Assembler::handle`]). Out: [`NodeItem`]s
//! ([`Assembler::take`]): each GTID group as one [`SourceTxn`](tributary_flow::SourceTxn), and positions between them.
//!
//! A group begins with a GTID event. It ends with an XID event, with a Query `COMMIT`, with `XA_PREPARE` (a prepared
//! branch, or a one-phase commit), or it is a single Query event: `XA COMMIT`, `XA ROLLBACK`, or DDL. Its body is what lies
//! between; `SAVEPOINT` statements, the `CREATE TABLE` of a `CREATE TABLE … SELECT` and the statements' texts (Rows_query)
//! stay in it. A compressed payload is opened and its events are treated the same way. What is not understood is an
//! error with name and position, unless the node itself marked it as ignorable.

use std::sync::Arc;

use tributary_binlog::{
    BinlogFile, ChecksumAlg, EventError, EventReader, EventType, GtidEvent, Heartbeat, Incident,
    Payload, PayloadChunks, QueryEvent, RawEvent, Rotate, XaPrepare, XaStatement, XaVerb, XaXid,
};
use tributary_flow::{Mutant, NodeItem, SourcePos, Spilling, TxnKind, mutant};

use super::{
    assemble_error::{AssembleError, GtidOrNone},
    chunk::{Account, Chunker},
    group::{Group, Phase},
    position::Tracker,
    query::{Statement, classify},
};

/// What an assembler has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Events, without those inside payloads.
    pub events: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Whole transactions.
    pub transactions: u64,
    /// Header timestamp of the newest transaction, seconds since the epoch.
    pub timestamp: u32,
}

/// Turns one connection's events into items. A new connection gets a new assembler: a half-read group is thrown away
/// with the old one.
pub struct Assembler {
    chunks: Chunker,
    tracker: Tracker,
    group: Option<Group>,
    payload: Vec<u8>,
    seen: Seen,
}

impl Assembler {
    /// An assembler whose chunks are charged to `account`.
    pub fn new(account: Arc<dyn Account>) -> Self {
        Self::with_spilling(account, None)
    }

    /// The same; transactions above a threshold go to files.
    pub fn with_spilling(account: Arc<dyn Account>, spilling: Option<Spilling>) -> Self {
        Self {
            chunks: Chunker::new(account, spilling),
            tracker: Tracker::default(),
            group: None,
            payload: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// The stream cannot be continued; what was finished before can still be taken.
    pub fn handle(&mut self, event: &RawEvent<'_>) -> Result<(), AssembleError> {
        self.seen.events += 1;
        self.seen.bytes += event.bytes.len() as u64;
        let header = &event.header;
        match header.event_type {
            EventType::ROTATE => return self.rotate(event),
            EventType::HEARTBEAT | EventType::HEARTBEAT_V2 => return self.heartbeat(event),
            _ => self.tracker.advance(header),
        }
        match header.event_type {
            EventType::GTID | EventType::GTID_TAGGED | EventType::ANONYMOUS_GTID => {
                self.begin(event)
            }
            EventType::TRANSACTION_PAYLOAD => self.payload(event),
            EventType::FORMAT_DESCRIPTION | EventType::PREVIOUS_GTIDS | EventType::STOP => {
                self.between_groups(header.event_type)
            }
            EventType::INCIDENT => {
                let incident = Incident::parse(event.body).map_err(|e| self.malformed(event, e))?;
                let message = String::from_utf8_lossy(incident.message).into_owned();
                Err(AssembleError::Incident {
                    message,
                    pos: self.pos(),
                })
            }
            _ => self.member(event),
        }
    }

    /// The finished items. Their bodies stay charged until their last slice is dropped.
    pub fn take(&mut self) -> Vec<NodeItem> {
        self.chunks.take()
    }

    /// Items that wait to be taken.
    pub fn pending_items(&self) -> usize {
        self.chunks.pending_items()
    }

    /// Bytes that wait to be taken.
    pub fn pending_bytes(&self) -> usize {
        self.chunks.pending_bytes()
    }

    /// Bytes of the transaction that is being read.
    pub fn open_bytes(&self) -> u64 {
        self.chunks.open_bytes()
    }

    /// Bytes charged for the transaction that is being read; they are not released before it is taken.
    pub fn open_pinned(&self) -> usize {
        self.chunks.open_pinned()
    }

    /// The end of the last event.
    pub fn pos(&self) -> SourcePos {
        self.tracker.pos()
    }

    /// Counters.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    fn malformed(&self, event: &RawEvent<'_>, source: EventError) -> AssembleError {
        let event_type = event.header.event_type;
        AssembleError::Malformed {
            event_type,
            pos: self.pos(),
            source,
        }
    }

    fn unexpected(&self, what: impl Into<String>) -> AssembleError {
        let place = self
            .group
            .as_ref()
            .map_or("outside a transaction", |g| g.phase.name());
        AssembleError::Unexpected {
            what: what.into(),
            pos: self.pos(),
            place,
        }
    }

    fn rotate(&mut self, event: &RawEvent<'_>) -> Result<(), AssembleError> {
        let rotate = Rotate::parse(event.body).map_err(|e| self.malformed(event, e))?;
        let name = || String::from_utf8_lossy(rotate.file).into_owned();
        let file = std::str::from_utf8(rotate.file)
            .ok()
            .and_then(|n| BinlogFile::parse(n).ok());
        let file = file.ok_or_else(|| AssembleError::FileName { name: name() })?;
        self.close_started(EventType::ROTATE)?;
        self.tracker.rotate(file.seq(), rotate.position);
        self.between_groups(EventType::ROTATE)
    }

    fn heartbeat(&mut self, event: &RawEvent<'_>) -> Result<(), AssembleError> {
        let beat = Heartbeat::parse(&event.header, event.body);
        let beat = beat.map_err(|e| self.malformed(event, e))?;
        if event.header.event_type == EventType::HEARTBEAT_V2 {
            self.tracker.heartbeat(beat.position);
        } else {
            self.tracker.heartbeat_low(event.header.log_pos);
        }
        if self.group.is_none() && !mutant(Mutant::IgnoreHeartbeats) {
            self.chunks.position(self.pos());
        }
        Ok(())
    }

    /// An event that can only come between groups.
    fn between_groups(&mut self, what: EventType) -> Result<(), AssembleError> {
        self.close_started(what)?;
        self.chunks.position(self.pos());
        Ok(())
    }

    /// Ends a group that has a GTID event and nothing else.
    fn close_started(&mut self, what: EventType) -> Result<(), AssembleError> {
        match self.group.take() {
            None => Ok(()),
            Some(_) if mutant(Mutant::ForgetEmptyGroup) => Ok(()),
            Some(group) if group.phase == Phase::Started => {
                let end = group.txn.end;
                self.emit(group, TxnKind::Empty, end)
            }
            Some(group) => Err(AssembleError::Torn {
                gtid: group.txn.gtid,
                what,
                pos: self.pos(),
            }),
        }
    }

    fn begin(&mut self, event: &RawEvent<'_>) -> Result<(), AssembleError> {
        self.close_started(event.header.event_type)?;
        let parsed = GtidEvent::parse(event.header.event_type, event.body);
        let parsed = parsed.map_err(|e| self.malformed(event, e))?;
        self.chunks.begin(parsed.transaction_length);
        self.group = Some(Group::begin(&event.header, &parsed, self.pos())?);
        Ok(())
    }

    /// An event inside a group, or inside the payload of one.
    #[inline]
    fn member(&mut self, event: &RawEvent<'_>) -> Result<(), AssembleError> {
        let event_type = event.header.event_type;
        match event_type {
            EventType::TABLE_MAP | EventType::ROWS_QUERY => self.keep_row(event),
            _ if event_type.is_rows() => self.keep_row(event),
            EventType::QUERY => self.query(event),
            EventType::XID => match self.group.as_ref().map(|g| g.phase) {
                Some(Phase::Open) => self.end_local(),
                _ => Err(self.unexpected("Xid")),
            },
            EventType::XA_PREPARE => self.xa_prepare(event),
            EventType::INTVAR
            | EventType::RAND
            | EventType::USER_VAR
            | EventType::APPEND_BLOCK
            | EventType::DELETE_FILE
            | EventType::BEGIN_LOAD_QUERY
            | EventType::EXECUTE_LOAD_QUERY => Err(self.statement_format(event_type.name())),
            EventType::IGNORABLE | EventType::TRANSACTION_CONTEXT | EventType::VIEW_CHANGE => {
                Ok(())
            }
            _ if event.header.is_ignorable() => Ok(()),
            _ if event_type.is_known() => Err(self.unexpected(event_type.name())),
            _ => Err(AssembleError::Unknown {
                event_type,
                pos: self.pos(),
            }),
        }
    }

    #[inline]
    fn keep_row(&mut self, event: &RawEvent<'_>) -> Result<(), AssembleError> {
        if !self.group.as_ref().is_some_and(|g| g.phase.takes_rows()) {
            return Err(self.unexpected(event.header.event_type.name()));
        }
        self.keep(event)
    }

    #[inline]
    fn keep(&mut self, event: &RawEvent<'_>) -> Result<(), AssembleError> {
        let kept = self.chunks.append(event);
        kept.map_err(|source| self.not_spooled(source))
    }

    #[cold]
    fn not_spooled(&self, source: std::io::Error) -> AssembleError {
        let gtid = GtidOrNone(self.group.as_ref().map(|g| g.txn.gtid));
        AssembleError::Spool { gtid, source }
    }

    fn statement_format(&self, what: &str) -> AssembleError {
        let gtid = GtidOrNone(self.group.as_ref().map(|g| g.txn.gtid));
        AssembleError::StatementFormat {
            what: what.to_owned(),
            gtid,
            pos: self.pos(),
        }
    }

    fn query(&mut self, event: &RawEvent<'_>) -> Result<(), AssembleError> {
        let query = QueryEvent::parse(event.body).map_err(|e| self.malformed(event, e))?;
        let statement = classify(query.query);
        let statement = statement.map_err(|source| AssembleError::Xid {
            pos: self.pos(),
            source,
        })?;
        let Some(group) = &mut self.group else {
            return Err(self.unexpected("a Query event"));
        };
        match (group.phase, statement) {
            (Phase::Started, Statement::Begin) => group.phase = Phase::Open,
            (Phase::Started, Statement::Xa(xa)) => return self.xa_alone(&xa),
            (Phase::Branch(xid), Statement::Xa(xa)) if xa.verb == XaVerb::End && xa.xid == xid => {
                group.phase = Phase::BranchEnded(xid);
            }
            (_, Statement::Dml(verb)) => return Err(self.statement_format(verb)),
            (Phase::Open, Statement::Commit) => return self.end_local(),
            (Phase::Open, Statement::Rollback) => return self.end_rolled_back(),
            (Phase::Open | Phase::Branch(_), Statement::Savepoint | Statement::CreateOrDrop) => {
                self.keep(event)?;
            }
            (Phase::Started, Statement::Commit | Statement::Rollback) => {
                return self.end(TxnKind::Empty);
            }
            (Phase::Started, Statement::CreateOrDrop | Statement::Other) => {
                self.keep(event)?;
                return self.end(TxnKind::Ddl);
            }
            (Phase::Open | Phase::Branch(_), Statement::Other) => {
                return Err(self.statement_format("Query"));
            }
            (_, Statement::Xa(xa)) => {
                return Err(self.unexpected(format!("XA {:?} {}", xa.verb, xa.xid)));
            }
            _ => return Err(self.unexpected("a Query event")),
        }
        Ok(())
    }

    /// An XA statement right behind the GTID event.
    fn xa_alone(&mut self, xa: &XaStatement) -> Result<(), AssembleError> {
        match xa.verb {
            XaVerb::Start => {
                if let Some(group) = &mut self.group {
                    group.phase = Phase::Branch(xa.xid);
                }
                Ok(())
            }
            XaVerb::Commit if xa.one_phase => self.end(TxnKind::OnePhase(xa.xid)),
            XaVerb::Commit => self.end(TxnKind::Commit(xa.xid)),
            XaVerb::Rollback => self.end(TxnKind::Rollback(xa.xid)),
            XaVerb::End | XaVerb::Prepare => {
                Err(self.unexpected(format!("XA {:?} {}", xa.verb, xa.xid)))
            }
        }
    }

    fn xa_prepare(&mut self, event: &RawEvent<'_>) -> Result<(), AssembleError> {
        let prepare = XaPrepare::parse(event.body).map_err(|e| self.malformed(event, e))?;
        let ended: Option<XaXid> = match self.group.as_ref().map(|g| g.phase) {
            Some(Phase::BranchEnded(xid)) => Some(xid),
            _ => None,
        };
        if ended != Some(prepare.xid) {
            return Err(self.unexpected(format!("XA_prepare {}", prepare.xid)));
        }
        self.end(if prepare.one_phase && !mutant(Mutant::OnePhaseIsPrepare) {
            TxnKind::OnePhase(prepare.xid)
        } else {
            TxnKind::Prepare(prepare.xid)
        })
    }

    fn end_local(&mut self) -> Result<(), AssembleError> {
        let empty = self.chunks.open_is_empty();
        self.end(if empty {
            TxnKind::Empty
        } else {
            TxnKind::Local
        })
    }

    fn end_rolled_back(&mut self) -> Result<(), AssembleError> {
        match &self.group {
            Some(group) if !self.chunks.open_is_empty() => Err(AssembleError::RolledBack {
                gtid: group.txn.gtid,
                pos: self.pos(),
            }),
            _ => self.end(TxnKind::Empty),
        }
    }

    /// Ends the group at the current position.
    fn end(&mut self, kind: TxnKind) -> Result<(), AssembleError> {
        match self.group.take() {
            Some(group) => self.emit(group, kind, self.pos()),
            None => Err(self.unexpected("the end of a transaction")),
        }
    }

    fn emit(&mut self, group: Group, kind: TxnKind, end: SourcePos) -> Result<(), AssembleError> {
        let txn = group.finish(kind, end)?;
        let (gtid, timestamp) = (txn.gtid, txn.timestamp);
        let finished = self.chunks.finish(txn);
        finished.map_err(|source| AssembleError::Spool {
            gtid: GtidOrNone(Some(gtid)),
            source,
        })?;
        self.seen.transactions += 1;
        self.seen.timestamp = timestamp;
        Ok(())
    }

    /// A compressed transaction: its events are treated like received ones, some at a time.
    fn payload(&mut self, event: &RawEvent<'_>) -> Result<(), AssembleError> {
        if !self
            .group
            .as_ref()
            .is_some_and(|g| g.phase == Phase::Started)
        {
            return Err(self.unexpected("Transaction_payload"));
        }
        let payload = Payload::parse(event.body).map_err(|e| self.malformed(event, e))?;
        self.chunks.begin(payload.uncompressed_size);
        let mut chunks = payload.chunks(std::mem::take(&mut self.payload));
        let result = self.payload_chunks(&mut chunks);
        self.payload = chunks.into_buffer();
        result
    }

    fn payload_chunks(&mut self, chunks: &mut PayloadChunks<'_>) -> Result<(), AssembleError> {
        loop {
            let next = chunks.next();
            let chunk = next.map_err(|source| AssembleError::Payload {
                pos: self.pos(),
                source,
            })?;
            match chunk {
                Some(chunk) => self.inner_events(chunk)?,
                None => return Ok(()),
            }
        }
    }

    fn inner_events(&mut self, bytes: &[u8]) -> Result<(), AssembleError> {
        let mut reader = EventReader::new(bytes, ChecksumAlg::None);
        loop {
            let next = reader.next();
            let next = next.map_err(|source| AssembleError::PayloadFrame {
                pos: self.pos(),
                source,
            })?;
            let Some(event) = next else { return Ok(()) };
            if mutant(Mutant::DropPayload) && event.header.event_type.is_rows() {
                continue;
            }
            self.member(&event)?;
        }
    }
}
