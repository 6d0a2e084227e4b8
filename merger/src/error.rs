//! What can be wrong with what the nodes say. All of it halts the cluster's stream: going on could lose or reorder data.

use std::fmt;

use tributary_binlog::{Gtid, XaXid};
use tributary_flow::{ErrorClass, OrderKey, SourcePos, Tso};
use tributary_schema::{DdlProblem, ReshapeError, RowsProblem};

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

/// A group in a node's binlog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePlace {
    /// Name of the node.
    pub node: String,
    /// GTID of the group.
    pub gtid: Gtid,
    /// Where the group ends.
    pub pos: SourcePos,
}

impl fmt::Display for SourcePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "node {}, {} ending at {}",
            self.node, self.gtid, self.pos
        )
    }
}

/// A contradiction in the input of the merger, or something in it that cannot be carried over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
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
    /// Branches of one distributed transaction were committed at different timestamps.
    #[error(
        "branches of one distributed transaction were committed at two timestamps: {one} at {one_tso}, but {other} at \
         {other_tso}: the coordinator must fetch one timestamp for all branches; the order cannot be trusted from here on"
    )]
    TwoTimestamps {
        /// The commit group with the lesser timestamp.
        one: Box<BranchPlace>,
        /// Its commit timestamp.
        one_tso: Tso,
        /// The other commit group.
        other: Box<BranchPlace>,
        /// Its commit timestamp.
        other_tso: Tso,
    },
    /// A transaction became due below one that is written: a promise was broken in a way nothing else has noticed.
    #[error(
        "a transaction sorts before one that is written already ({key:?} before {last:?}, the last commit group: {at}); \
         a commit timestamp or a binlog contradicts what was promised before"
    )]
    OutOfOrder {
        /// A group of the transaction.
        at: String,
        /// Its key.
        key: Box<OrderKey>,
        /// The key of the last transaction that was written.
        last: Box<OrderKey>,
    },
    /// Events that were put on our own disk because they are too many for memory cannot be read again.
    #[error(
        "a transaction that is too large for memory cannot be read back from its spool file ({at}): {cause}; look at the disk,          then start the service again: the transaction is read from its nodes once more"
    )]
    Spool {
        /// A group of the transaction.
        at: String,
        /// The system's reason.
        cause: String,
    },
    /// Too many rows exchange their places between nodes in one transaction.
    #[error(
        "in one distributed transaction ({at}) more than {rows} rows move between nodes in both directions, in more than \
         {statements} statements or in statements that wait for each other: it cannot be written in an order in which each \
         primary key is free before it is taken. Move rows in smaller transactions. To go on behind this one, start each node \
         behind it and provision the clients anew",
        rows = tributary_flow::limits::MOVED_ROWS_MAX,
        statements = tributary_flow::limits::MOVED_STATEMENTS_MAX
    )]
    TooManyMoves {
        /// A group of the transaction.
        at: String,
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
    /// A statement cannot become one about logical tables.
    #[error("{at}: {problem}")]
    Statement {
        /// The statement's group.
        at: Box<SourcePlace>,
        /// Why not.
        problem: Box<DdlProblem>,
    },
    /// Rows cannot become rows of their logical table, whatever is in them.
    #[error("{at}: {problem}")]
    Rows {
        /// The transaction's group.
        at: Box<SourcePlace>,
        /// Why not.
        problem: Box<RowsProblem>,
    },
    /// A row cannot become one of its logical table.
    #[error(
        "{at}: {table}: {problem}; change the part or the row so that it fits, or bring all parts to the same definition"
    )]
    Row {
        /// The transaction's group.
        at: Box<SourcePlace>,
        /// The physical table as the logical one.
        table: String,
        /// Why not.
        problem: Box<ReshapeError>,
    },
    /// An event of the logical table would be longer than an event can be.
    #[error(
        "{at}: an event of the logical table would be too large: {table}; write fewer rows in one statement"
    )]
    EventTooLarge {
        /// The transaction's group.
        at: Box<SourcePlace>,
        /// What is too large.
        table: String,
    },
    /// The events of a transaction are not whole.
    #[error("{at}: the transaction can not be taken apart: {why}")]
    Unreadable {
        /// The transaction's group.
        at: Box<SourcePlace>,
        /// Why not.
        why: String,
    },
}

impl MergeError {
    /// Every contradiction halts the stream.
    pub const fn class(&self) -> ErrorClass {
        ErrorClass::Halt
    }
}
