//! What can be wrong with what the nodes say. All of it halts the cluster's stream: going on could lose or reorder data.

use std::fmt;

use tributary_binlog::{Gtid, XaXid};
use tributary_flow::{ErrorClass, SourcePos, Tso};

/// A group of one branch in a node's binlog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchPlace {
    /// Name of the node.
    pub node: String,
    /// The branch.
    pub xid: XaXid,
    /// GTID of the group.
    pub gtid: Gtid,
    /// Where the group ends.
    pub pos: SourcePos,
}

impl fmt::Display for BranchPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            xid,
            gtid,
            pos,
        } = self;
        write!(f, "node {node}, {xid}, {gtid} ending at {pos}")
    }
}

/// A contradiction in the input of the merger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// `XA COMMIT` of a distributed transaction whose GTID event carries no commit timestamp.
    #[error(
        "XA COMMIT without a commit timestamp ({0}), but order = \"tso\" needs one: \
         the coordinator must run SET SESSION original_commit_timestamp = <tso> before XA COMMIT"
    )]
    CommitWithoutTso(Box<BranchPlace>),
    /// A commit of a branch that this stream never prepared.
    #[error(
        "XA COMMIT of a branch whose XA PREPARE is not in the stream ({0}): the node's binlog is incomplete before this \
         point; start the node again from a GTID set that holds both or neither"
    )]
    UnknownBranch(Box<BranchPlace>),
    /// `XA PREPARE` of a branch that is prepared already.
    #[error("XA PREPARE of a branch that is prepared and unresolved already ({0})")]
    PreparedTwice(Box<BranchPlace>),
    /// The oracle handed out a commit timestamp that is not greater than one of a commit before the prepare.
    #[error(
        "XA COMMIT at TSO {tso} of a branch prepared behind a commit or fence of TSO {floor} ({at}): the timestamp \
         oracle went back, or was asked before the prepare; the order cannot be trusted from here on"
    )]
    OracleWentBack {
        /// The commit group.
        at: Box<BranchPlace>,
        /// Its commit timestamp.
        tso: Tso,
        /// The greatest timestamp that lay before its prepare.
        floor: Tso,
    },
    /// A transaction came that had been emitted already.
    #[error(
        "node {node}: {gtid} was received twice (ending at {pos}); the collector must resume behind it"
    )]
    Repeated {
        /// Name of the node.
        node: String,
        /// The repeated transaction.
        gtid: Box<Gtid>,
        /// Where it ends.
        pos: SourcePos,
    },
}

impl MergeError {
    /// Every contradiction halts the stream.
    pub const fn class(&self) -> ErrorClass {
        ErrorClass::Halt
    }
}
