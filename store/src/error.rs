//! What can go wrong, one enum per operation, each with what an operator can do about it.

use std::{io, sync::Arc};

use tributary_binlog::{BinlogFile, GtidSet};
use tributary_flow::ErrorClass;

use crate::{
    core::encode::EncodeError,
    kv::{KvError, RecordError},
};

/// Why a directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted, with the file's name.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The index database failed.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// A value in the index database cannot be read.
    #[error("index database: {0}")]
    Record(#[from] RecordError),
    /// Another process has the directory.
    #[error("{dir} is in use by another process (it holds the lock on {lock})")]
    Locked {
        /// The directory.
        dir: String,
        /// The lock file.
        lock: String,
    },
    /// Written by a newer version.
    #[error(
        "{dir} has format {found}, this program knows up to {supported}: start the newer version again, or use another data_dir"
    )]
    NewerFormat {
        /// The directory.
        dir: String,
        /// Its format.
        found: u32,
        /// The newest format known here.
        supported: u32,
    },
    /// The directory is another server's, or holds binlogs that no index database knows.
    #[error(
        "{dir} holds {file}, and nothing says that it is ours: it belongs to another server, or its index database and tributary.format are gone; use an empty data_dir, or restore them together"
    )]
    Foreign {
        /// The directory.
        dir: String,
        /// A file in it.
        file: String,
    },
    /// The directory is ours, but its index database is gone.
    #[error(
        "{dir} is a data directory, but its index database is gone; restore it together with the binlog files, or see `tributary rebuild-index`"
    )]
    NoDatabase {
        /// The directory.
        dir: String,
    },
    /// The format file cannot be read.
    #[error("{dir}: tributary.format is damaged: {detail}; restore it from a backup")]
    FormatFile {
        /// The directory.
        dir: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The configuration names the files differently.
    #[error("the files are called {stored}.NNNNNN, the configuration says {configured}.NNNNNN")]
    BaseName {
        /// In the directory.
        stored: String,
        /// In the options.
        configured: String,
    },
    /// The options cannot be used.
    #[error("{0}")]
    Options(String),
    /// A file that must be there is not.
    #[error("{file} is missing; restore it from a backup or a standby")]
    MissingFile {
        /// The file.
        file: BinlogFile,
    },
    /// The active file has lost committed bytes.
    #[error(
        "{file} has {size} bytes, but {committed} were committed and may have been read; restore the file from a backup or a standby"
    )]
    ShortFile {
        /// The file.
        file: BinlogFile,
        /// Its size.
        size: u64,
        /// Its committed size.
        committed: u64,
    },
    /// A sealed file has changed its size.
    #[error(
        "{file} has {size} bytes, but had {expected} when it was finished; restore it from a backup or a standby"
    )]
    SealedSize {
        /// The file.
        file: BinlogFile,
        /// Its size.
        size: u64,
        /// The size it had.
        expected: u64,
    },
    /// Committed bytes are damaged.
    #[error(
        "{file}:{pos}: {detail}; the bytes were committed and may have been read: restore the file"
    )]
    Corrupt {
        /// The file.
        file: BinlogFile,
        /// Offset of the damaged event.
        pos: u64,
        /// What is wrong.
        detail: String,
    },
    /// Records of the index database contradict each other.
    #[error("index database: {detail}; restore it together with the binlog files")]
    Inconsistent {
        /// What contradicts what.
        detail: String,
    },
    /// The index file cannot be used.
    #[error("{name}: {detail}")]
    Index {
        /// The index file.
        name: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The first file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl OpenError {
    /// Trying again can help only where the machine failed, not where the data is wrong.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Locked { .. } => ErrorClass::Retry,
            _ => ErrorClass::Halt,
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Why something was not written. After any of them but [`WriteError::Full`] the writer is poisoned: what is on disk is
/// known again only after a restart and its recovery.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no space. Nothing that was appended since the last commit is left: it can be appended again, as often as it
    /// takes.
    #[error("no space left: {what}: {source}; free some, or purge binlog files")]
    Full {
        /// What was attempted, with the file's name.
        what: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// What must be in the index database is not.
    #[error("index database: {detail}")]
    Inconsistent {
        /// What is missing.
        detail: String,
    },
    /// A file operation failed.
    #[error("{what}: {source}; nothing more is written until the service is restarted")]
    Io {
        /// What was attempted, with the file's name.
        what: String,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// The index database failed.
    #[error("{0}; nothing more is written until the service is restarted")]
    Kv(#[from] KvError),
    /// A record could not be put into words.
    #[error("index database: {0}")]
    Record(#[from] RecordError),
    /// The merger handed over something that cannot be a binlog transaction.
    #[error(transparent)]
    Encode(#[from] Arc<EncodeError>),
    /// The head or end of a file could not be encoded.
    #[error("{file}: {source}")]
    Event {
        /// The file.
        file: BinlogFile,
        /// Why.
        source: tributary_binlog::WriteError,
    },
    /// An earlier call failed.
    #[error("the store stopped writing because of an earlier failure: {cause}")]
    Poisoned {
        /// The text of that failure.
        cause: String,
    },
}

impl WriteError {
    /// [`ErrorClass::Halt`], because going on after a failed write could lose what was acknowledged; but
    /// [`ErrorClass::Retry`] if there was no space.
    pub fn class(&self) -> ErrorClass {
        if self.is_full() {
            ErrorClass::Retry
        } else {
            ErrorClass::Halt
        }
    }

    /// Whether there was no space: the only failure after which the writer goes on.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// A failed write.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full {
                what,
                source: Arc::new(source),
            },
            _ => Self::sync(what)(source),
        }
    }

    /// A failed sync, or anything else that is never tried again, for whatever reason it failed.
    pub(crate) fn sync(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io {
            what,
            source: Arc::new(source),
        }
    }
}

/// Why files could not be purged, or not all.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// There is no such file: MySQL's `ER_UNKNOWN_TARGET_BINLOG`.
    #[error("Target log {0} not found in binlog index")]
    NotFound(String),
    /// The head of a file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The files are out of the log, but one is still on the disk. The next purge or start tries again.
    #[error("removing {file}: {source}; it is not in the log any more and will be removed later")]
    Remove {
        /// The file.
        file: BinlogFile,
        /// Why.
        source: io::Error,
    },
    /// A write failed; the writer has stopped.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl PurgeError {
    /// [`ErrorClass::Reject`] for a wrong name, [`ErrorClass::Retry`] where only the purge failed, else as the write
    /// error's.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::Reject,
            Self::Read(_) | Self::Remove { .. } => ErrorClass::Retry,
            Self::Write(e) => e.class(),
        }
    }
}

/// Why bytes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such binlog file, or not any more.
    #[error("there is no binlog file {file}")]
    NoSuchFile {
        /// The name asked for.
        file: BinlogFile,
    },
    /// The head of the file is not what was written.
    #[error("{file}:{pos}: {detail}; restore the file from a backup or a standby")]
    Damaged {
        /// The file.
        file: BinlogFile,
        /// Where.
        pos: u64,
        /// What is wrong.
        detail: String,
    },
    /// The file was purged while it was being read.
    #[error("{file} was purged while it was being read (purge_in_use)")]
    Purged {
        /// The file.
        file: BinlogFile,
    },
    /// The file cannot be read.
    #[error("{file}:{offset}: {source}")]
    Io {
        /// The file.
        file: BinlogFile,
        /// Where in it.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The index database failed.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// A value in the index database cannot be read.
    #[error("index database: {0}")]
    Record(#[from] RecordError),
}

/// Why a client cannot start with the GTIDs it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Transactions the client misses are in files that are gone: MySQL's `ER_SOURCE_HAS_PURGED_REQUIRED_GTIDS`.
    #[error(
        "Cannot replicate because the source purged required binary logs. The GTID set missing on the replica is '{}'",
        .missing.to_text_oneline()
    )]
    Purged {
        /// What the client misses and nobody can send.
        missing: GtidSet,
    },
    /// The client has transactions with this server's UUID that this server does not have: MySQL's
    /// `ER_REPLICA_HAS_MORE_GTIDS_THAN_SOURCE`.
    #[error(
        "Replica has more GTIDs than the source has, using the source's SERVER_UUID: '{}'",
        .extra.to_text_oneline()
    )]
    AheadOfSource {
        /// What the client has too much.
        extra: GtidSet,
    },
    /// There is not a single binlog file.
    #[error("there are no binlog files")]
    NoFiles,
}
