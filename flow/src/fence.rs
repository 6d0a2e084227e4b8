//! Fences: proof that a node's binlog had ended somewhere at a known moment.

use crate::{NodeId, SourcePos, Tso};

/// What the merger had seen when it asked for a fence. Whatever the node writes behind the fence is ordered after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FenceStamp {
    /// The greatest TSO observed on any node.
    pub tso: Tso,
    /// The commit time, in µs, that local transactions behind the fence are clamped above.
    pub time: u64,
}

/// "This node's binlog ended at `pos` at a moment after `stamp` was observed."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The node asked.
    pub node: NodeId,
    /// Where its binlog ended.
    pub pos: SourcePos,
    /// What had been observed when it was asked.
    pub stamp: FenceStamp,
}

/// A question to a node's collector: where does the node's binlog end now?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FenceRequest {
    /// Number of the question; the answer repeats it.
    pub id: u64,
}

/// The answer to a [`FenceRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FenceAnswer {
    /// The node asked.
    pub node: NodeId,
    /// Number of the question.
    pub id: u64,
    /// Where the node's binlog ended at a moment after the question was asked; `None` when the node could not be asked.
    pub pos: Option<SourcePos>,
}
