//! What a collector says about its node: whole source transactions and positions.

use std::fmt;

use tributary_binlog::{Gtid, XaXid};

use crate::{Body, NodeId, Tso};

/// A place in one node's binlog. Ordered; files are compared by their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePos {
    /// Number of the binlog file (`7` of `mysql-bin.000007`) in the lower 32 bits; above them, how often the node's numbers have begun
    /// anew (another server of its failover group, a reset), so that places only grow.
    pub file: u64,
    /// Byte offset in it: the end of the last event counted.
    pub offset: u64,
}

impl fmt::Display for SourcePos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}:{}", self.file & u64::from(u32::MAX), self.offset)
    }
}

/// What a source transaction (one GTID group of a node's binlog) is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnKind {
    /// `BEGIN … XID` or `BEGIN … COMMIT`: committed by this node alone.
    Local,
    /// `XA START … XA END` with `XA COMMIT … ONE PHASE`: committed by this node alone.
    OnePhase(XaXid),
    /// `XA START … XA END, XA PREPARE`: the rows of a branch, not yet committed.
    Prepare(XaXid),
    /// `XA COMMIT` of a prepared branch. No body.
    Commit(XaXid),
    /// `XA ROLLBACK` of a prepared branch. No body.
    Rollback(XaXid),
    /// One statement that is not transactional DML: DDL, account management. The body is its Query event.
    Ddl,
    /// A group with nothing in it (`BEGIN, COMMIT` or a GTID alone): only its GTID counts.
    Empty,
}

/// One GTID group of a node's binlog.
#[derive(Clone, Debug)]
pub struct SourceTxn {
    /// Its GTID on the node.
    pub gtid: Gtid,
    /// What it is.
    pub kind: TxnKind,
    /// The end of its last event in the node's binlog.
    pub end: SourcePos,
    /// The commit timestamp, when a coordinator set one: `original_commit_timestamp` where it differs from
    /// `immediate_commit_timestamp`.
    pub tso: Option<Tso>,
    /// `original_commit_timestamp` of the GTID event, µs since the epoch.
    pub original_commit: u64,
    /// `immediate_commit_timestamp` of the GTID event, µs since the epoch.
    pub immediate_commit: u64,
    /// `last_committed` of the node's logical clock (restarts with each of the node's binlog files).
    pub last_committed: i64,
    /// `sequence_number` of the node's logical clock.
    pub sequence_number: i64,
    /// `original_server_version` of the GTID event (80404 for 8.4.4).
    pub original_server_version: u32,
    /// `immediate_server_version` of the GTID event.
    pub immediate_server_version: u32,
    /// Header timestamp of the GTID event, seconds since the epoch.
    pub timestamp: u32,
    /// Its events.
    pub body: Body,
}

/// One thing a collector says, in the order of the node's binlog.
#[derive(Clone, Debug)]
pub enum NodeItem {
    /// A whole source transaction.
    Txn(Box<SourceTxn>),
    /// The stream has passed this position and no transaction ends there: a heartbeat, a rotation, a new file's header.
    Position(SourcePos),
}

/// Items of one node, in order: the unit that travels from collector to merger.
#[derive(Debug)]
pub struct NodeBatch {
    /// The node.
    pub node: NodeId,
    /// What it said.
    pub items: Vec<NodeItem>,
}
