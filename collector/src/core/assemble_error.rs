//! Why a stream of events cannot be turned into transactions. In: what the assembler met. Out: its name, its place and
//! what to do about it.

use thiserror::Error;
use tributary_binlog::{EventError, EventType, FrameError, Gtid, PayloadError, XidError};
use tributary_flow::{ErrorClass, SourcePos};

/// Why a node's stream cannot be understood. Positions are the end of the event.
#[derive(Debug, Error)]
pub enum AssembleError {
    /// An event's body is not what its type says.
    #[error(
        "malformed {event_type} event at {pos}: {source}. The binlog file is damaged, or written by an unknown server version"
    )]
    Malformed {
        /// Its type.
        event_type: EventType,
        /// Where it ends.
        pos: SourcePos,
        /// What is wrong.
        source: EventError,
    },
    /// A compressed transaction cannot be opened.
    #[error("the compressed transaction at {pos} cannot be opened: {source}")]
    Payload {
        /// Where its event ends.
        pos: SourcePos,
        /// What is wrong.
        source: PayloadError,
    },
    /// A compressed transaction holds something that is no event.
    #[error("the compressed transaction at {pos} holds no valid events: {source}")]
    PayloadFrame {
        /// Where its event ends.
        pos: SourcePos,
        /// What is wrong.
        source: FrameError,
    },
    /// An XA statement whose xid cannot be read.
    #[error("unreadable XA statement at {pos}: {source}")]
    Xid {
        /// Where its event ends.
        pos: SourcePos,
        /// What is wrong.
        source: XidError,
    },
    /// A type that no MySQL defines, not marked as ignorable.
    #[error(
        "unknown event type {event_type} at {pos}, and it is not marked as ignorable: this server version is not supported"
    )]
    Unknown {
        /// Its type.
        event_type: EventType,
        /// Where it ends.
        pos: SourcePos,
    },
    /// A known event at a place where it has no meaning.
    #[error("{what} at {pos} {place}: the stream is not one of whole transactions")]
    Unexpected {
        /// The event or statement.
        what: String,
        /// Where it ends.
        pos: SourcePos,
        /// The state it met.
        place: &'static str,
    },
    /// Changes of rows that were not written as rows.
    #[error(
        "statement-based {what} at {pos} (GTID {gtid}): binlog_format was not ROW in the session that ran it, and its rows \
         are not in the binlog. Run SET GLOBAL binlog_format = ROW, let that client reconnect, then add the node again \
         from behind this transaction and bring the rows over by hand"
    )]
    StatementFormat {
        /// The verb of the statement, or the event type.
        what: String,
        /// GTID of its transaction.
        gtid: GtidOrNone,
        /// Where it ends.
        pos: SourcePos,
    },
    /// A group that was rolled back after it had changed tables that cannot roll back.
    #[error(
        "transaction {gtid} at {pos} ends with ROLLBACK but has changes: it mixed transactional and other tables; its \
         lasting changes cannot be told from its undone ones"
    )]
    RolledBack {
        /// Its GTID.
        gtid: Gtid,
        /// Where it ends.
        pos: SourcePos,
    },
    /// A transaction without GTID.
    #[error(
        "a transaction without GTID at {pos}: gtid_mode was not ON when it was written; start this node from behind it"
    )]
    Anonymous {
        /// Where its event ends.
        pos: SourcePos,
    },
    /// A commit timestamp beyond 55 bits.
    #[error("original_commit_timestamp {micros} of {gtid} at {pos} does not fit into 55 bits")]
    Timestamp {
        /// The timestamp.
        micros: u64,
        /// GTID of its transaction.
        gtid: Gtid,
        /// Where it ends.
        pos: SourcePos,
    },
    /// The node reports that its own binlog has a hole.
    #[error(
        "the node wrote an INCIDENT at {pos} ({message}): its binlog misses changes from here on; bring this node's tables over anew and add it again"
    )]
    Incident {
        /// The node's words.
        message: String,
        /// Where it ends.
        pos: SourcePos,
    },
    /// A group that never ends.
    #[error("transaction {gtid} is cut off at {pos}: {what} follows without its end")]
    Torn {
        /// Its GTID.
        gtid: Gtid,
        /// What came instead.
        what: EventType,
        /// Where that ends.
        pos: SourcePos,
    },
    /// Our own disk does not take a large transaction.
    #[error(
        "transaction {gtid} is too large for memory, and cannot be written to a spool file: {source}. Free space in this service's \
         data directory; the transaction is then read again"
    )]
    Spool {
        /// Its GTID.
        gtid: GtidOrNone,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A binlog file without a number.
    #[error("the node names a binlog file '{name}' that does not end in a number")]
    FileName {
        /// The name.
        name: String,
    },
}

impl AssembleError {
    /// A torn group is read again from its start; everything else stays as it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Torn { .. } | Self::Spool { .. } => ErrorClass::Retry,
            _ => ErrorClass::Halt,
        }
    }
}

/// A GTID, if the place has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GtidOrNone(pub Option<Gtid>);

impl std::fmt::Display for GtidOrNone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(gtid) => gtid.fmt(f),
            None => f.write_str("none"),
        }
    }
}
