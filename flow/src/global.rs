//! What the merger says to the store: global transactions in their final order.

use smallvec::SmallVec;

use crate::{Body, BranchOp, Checkpoint, OrderKey};

/// How a global transaction is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalKind {
    /// GTID, `BEGIN`, the parts' events, Xid.
    Rows,
    /// GTID and one Query event, the single event of the single part.
    Ddl,
}

/// Which earlier global transactions must have committed before a replica may start this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// All of them: it runs alone behind its predecessor.
    Predecessor,
    /// Those up to the transaction with this number (the `gno` of its GTID); `0` = none.
    UpTo(u64),
}

/// A transaction of the merged stream. It becomes one GTID of the service's own UUID.
#[derive(Clone, Debug)]
pub struct GlobalTxn {
    /// Its place in the order.
    pub key: OrderKey,
    /// How it is written.
    pub kind: GlobalKind,
    /// The events of its branches, in the order in which they are written.
    pub parts: SmallVec<[Body; 2]>,
    /// What it depends on.
    pub dependency: Dependency,
    /// `original_commit_timestamp` to write, µs: the TSO, or the source's.
    pub original_commit: u64,
    /// `immediate_commit_timestamp` to write, µs: the greatest of the branches' own.
    pub immediate_commit: u64,
    /// `original_server_version` to write.
    pub original_server_version: u32,
    /// `immediate_server_version` to write: the greatest of the branches' own.
    pub immediate_server_version: u32,
    /// Header timestamp of its events, seconds.
    pub timestamp: u32,
}

impl GlobalTxn {
    /// Bytes of its events as they came from the nodes.
    pub fn body_len(&self) -> u64 {
        self.parts.iter().map(Body::len).sum()
    }
}

/// Global transactions in order, and the progress that is true once all of them are durable.
#[derive(Debug, Default)]
pub struct MergedBatch {
    /// In order.
    pub txns: Vec<GlobalTxn>,
    /// What becomes of branches that stay prepared for long, in order; as durable as the checkpoint, and not before it.
    pub branches: Vec<BranchOp>,
    /// The state behind the last of them.
    pub checkpoint: Checkpoint,
    /// What has changed of the schemas' state up to there: keys with their new values, or `None` where they end. Opaque to the
    /// store, which writes it together with the checkpoint.
    pub schema: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}
