//! What [`open`](crate::open) takes and gives.

use tributary_binlog::{BinlogFile, Sid};
use tributary_flow::{Checkpoint, NodeSet};

use crate::{GlobalLog, LogWriter};

/// The lock that keeps a second process out of the directory.
pub const LOCK_FILE: &str = "tributary.lock";

/// What the directory is, for people and for programs that do not know the index database's format: JSON with the number
/// of the directory's format, the UUID, the time of creation and the base name. Written once.
pub const FORMAT_FILE: &str = "tributary.format";

/// The index file is called like the binlog files, with this instead of the number.
pub const INDEX_SUFFIX: &str = ".index";

/// How to open a directory.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The part of the file names before the number: `binlog`.
    pub base_name: String,
    /// A file is finished behind the transaction with which it reaches this size, in bytes.
    pub max_binlog_size: u64,
    /// `server_id` of all events.
    pub server_id: u32,
    /// The version in the format description of new files; its digits decide which event types they may hold.
    pub server_version: String,
    /// The UUID of the GTIDs. Used only when the directory is new; later it is the stored one.
    pub new_uuid: Sid,
    /// The time of creation, seconds since the epoch. Used only when the directory is new.
    pub now_seconds: u32,
}

impl StoreOptions {
    pub(crate) fn index_name(&self) -> String {
        format!("{}{INDEX_SUFFIX}", self.base_name)
    }
}

/// An opened directory.
#[derive(Debug)]
pub struct Opened {
    /// The one writer.
    pub writer: LogWriter,
    /// The read side.
    pub log: GlobalLog,
    /// The merger's state behind the last commit; `None` if there was none yet.
    pub checkpoint: Option<Checkpoint>,
    /// The nodes that were merged; `None` if that was never said.
    pub nodes: Option<NodeSet>,
    /// The active file and how many bytes were cut off it (files behind it included), if any.
    pub truncated: Option<(BinlogFile, u64)>,
}
