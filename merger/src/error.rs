//! What can be wrong with what the nodes say. All of it halts the cluster's stream: going on could lose or reorder data.

use tributary_binlog::{Gtid, XaXid};
use tributary_flow::{ErrorClass, SourcePos, Tso};

/// A contradiction in the input of the merger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// `XA COMMIT` of a distributed transaction whose GTID event carries no commit timestamp.
    #[error(
        "node {node}: XA COMMIT {xid} ({gtid}, ending at {pos}) carries no commit timestamp, but order = \"tso\" needs one. \
         The coordinator must run SET SESSION original_commit_timestamp = <tso> before XA COMMIT"
    )]
    CommitWithoutTso {
        /// Name of the node.
        node: String,
        /// The branch.
        xid: XaXid,
        /// GTID of the commit group.
        gtid: Gtid,
        /// Where the commit group ends.
        pos: SourcePos,
    },
    /// A commit or rollback of a branch that this stream never prepared.
    #[error(
        "node {node}: XA COMMIT {xid} ({gtid}, ending at {pos}) of a branch whose XA PREPARE is not in the stream. \
         The node's binlog is incomplete before this point; start the node again from a GTID set that contains both or neither"
    )]
    UnknownBranch {
        /// Name of the node.
        node: String,
        /// The branch.
        xid: XaXid,
        /// GTID of the commit group.
        gtid: Gtid,
        /// Where the commit group ends.
        pos: SourcePos,
    },
    /// `XA PREPARE` of a branch that is prepared already.
    #[error("node {node}: {xid} is prepared a second time ({gtid}, ending at {pos}) while its first XA PREPARE is unresolved")]
    PreparedTwice {
        /// Name of the node.
        node: String,
        /// The branch.
        xid: XaXid,
        /// GTID of the second prepare group.
        gtid: Gtid,
        /// Where it ends.
        pos: SourcePos,
    },
    /// The oracle handed out a commit timestamp that is not greater than one of a commit before the prepare.
    #[error(
        "node {node}: {xid} commits at TSO {tso} ({gtid}, ending at {pos}), but it was prepared behind a commit or fence of TSO {floor}. \
         The timestamp oracle went back or was asked before the prepare; the order can not be trusted from here on"
    )]
    OracleWentBack {
        /// Name of the node.
        node: String,
        /// The branch.
        xid: XaXid,
        /// Its commit timestamp.
        tso: Tso,
        /// The greatest timestamp that lay before its prepare.
        floor: Tso,
        /// GTID of the commit group.
        gtid: Gtid,
        /// Where the commit group ends.
        pos: SourcePos,
    },
    /// The stream of a node went back behind a position it had passed.
    #[error("node {node}: {gtid} was received twice (ending at {pos}); the collector must resume behind it")]
    Repeated {
        /// Name of the node.
        node: String,
        /// The repeated transaction.
        gtid: Gtid,
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
