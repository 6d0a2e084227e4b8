//! Branches that stay prepared for long, on their way into the store and back.
//!
//! In: a prepared branch, as its node told it. Out: what the store has to do about it ([`BranchOp`]), and the same branch again
//! after a restart ([`KeptBranch`]). Its rows travel in pieces, so that a branch of any size passes.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tributary_binlog::{Gtid, XaXid};

use crate::{Body, SourcePos, SourceTxn, Spool, TxnKind};

/// Number of a kept branch. Later ones have greater numbers; a number is not used again while anything of it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeptId(pub u64);

/// What the store does about a branch, together with the checkpoint of the batch it comes in.
#[derive(Clone, Debug)]
pub enum BranchOp {
    /// Writes some of its rows: those from `offset` on.
    Rows {
        /// The branch.
        id: KeptId,
        /// Bytes of rows before these.
        offset: u64,
        /// The rows.
        bytes: Bytes,
    },
    /// All its rows are written: from now on it is kept, and its node need not send it again.
    Keep {
        /// The branch.
        id: KeptId,
        /// Name of its node.
        node: String,
        /// Its id on the node.
        xid: Box<XaXid>,
        /// What must be known of it besides its rows; see [`head`].
        head: Vec<u8>,
        /// Bytes of rows.
        rows: u64,
    },
    /// It is committed and written, or rolled back: removes what there is of it.
    Forget {
        /// The branch.
        id: KeptId,
        /// Name of its node.
        node: String,
        /// Its id on the node.
        xid: Box<XaXid>,
    },
}

impl BranchOp {
    /// Bytes that it writes, about.
    pub fn len(&self) -> usize {
        match self {
            Self::Rows { bytes, .. } => bytes.len(),
            Self::Keep { head, .. } => head.len(),
            Self::Forget { .. } => 0,
        }
    }

    /// Whether it writes nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A branch that the store has kept over a restart.
#[derive(Clone, Debug)]
pub struct KeptBranch {
    /// Its number.
    pub id: KeptId,
    /// Name of its node.
    pub node: String,
    /// Its id on the node.
    pub xid: XaXid,
    /// What [`head`] has made of it.
    pub head: Vec<u8>,
    /// Its rows.
    pub rows: KeptRows,
}

/// The rows of a kept branch.
#[derive(Clone, Debug)]
pub enum KeptRows {
    /// All of them: whole events.
    Memory(Bytes),
    /// Where they can be read, and how many bytes there are.
    Stored(Arc<dyn Spool>, u64),
}

/// What is written down of a prepare group. Fields are only ever added.
#[derive(Serialize, Deserialize)]
struct Head {
    gtid: String,
    file: u64,
    offset: u64,
    original_commit: u64,
    immediate_commit: u64,
    original_server_version: u32,
    immediate_server_version: u32,
    timestamp: u32,
    /// Events among its rows.
    #[serde(default)]
    events: u64,
}

/// What must be known of a prepare group besides its rows and its xid, as bytes.
pub fn head(txn: &SourceTxn) -> Vec<u8> {
    let head = Head {
        gtid: txn.gtid.to_string(),
        // How often the node's file numbers have begun anew is known to this process alone.
        file: txn.end.file & u64::from(u32::MAX),
        offset: txn.end.offset,
        original_commit: txn.original_commit,
        immediate_commit: txn.immediate_commit,
        original_server_version: txn.original_server_version,
        immediate_server_version: txn.immediate_server_version,
        timestamp: txn.timestamp,
        events: txn.body.count_events(),
    };
    serde_json::to_vec(&head).unwrap_or_default()
}

impl KeptBranch {
    /// The prepare group again. It has no place in its node's logical clock any more: the numbers of that clock mean nothing
    /// over a restart or on another server of the node.
    ///
    /// # Errors
    /// Its head is not what [`head`] writes.
    pub fn into_prepare(self) -> Result<SourceTxn, KeptError> {
        let error = |detail: String| KeptError {
            node: self.node.clone(),
            xid: Box::new(self.xid),
            detail,
        };
        let head: Head = serde_json::from_slice(&self.head).map_err(|e| error(e.to_string()))?;
        let gtid: Gtid = (head.gtid.parse()).map_err(|e| error(format!("{}: {e}", head.gtid)))?;
        Ok(SourceTxn {
            gtid,
            kind: TxnKind::Prepare(self.xid),
            end: SourcePos {
                file: head.file,
                offset: head.offset,
            },
            tso: None,
            original_commit: head.original_commit,
            immediate_commit: head.immediate_commit,
            last_committed: 0,
            sequence_number: 0,
            original_server_version: head.original_server_version,
            immediate_server_version: head.immediate_server_version,
            timestamp: head.timestamp,
            body: match self.rows {
                KeptRows::Memory(rows) => Body::new(rows),
                KeptRows::Stored(rows, len) => Body::spooled(rows, len, head.events),
            },
        })
    }
}

/// A kept branch that can not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptError {
    /// Name of its node.
    pub node: String,
    /// The branch.
    pub xid: Box<XaXid>,
    /// What is wrong.
    pub detail: String,
}

impl fmt::Display for KeptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the prepared branch {} of node {} that the index database keeps can not be read: {}; restore the data directory, or \
             start with the version that wrote it",
            self.xid, self.node, self.detail
        )
    }
}

impl std::error::Error for KeptError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared() -> SourceTxn {
        SourceTxn {
            gtid: "00000000-0000-0000-0000-00000000000a:tag:77"
                .parse()
                .unwrap(),
            kind: TxnKind::Prepare(XaXid::new(7, b"g\0'", b"b").unwrap()),
            end: SourcePos {
                file: (3 << 32) | 12,
                offset: 5_000_000_000,
            },
            tso: None,
            original_commit: u64::MAX,
            immediate_commit: 1_700_000_000_000_001,
            last_committed: 9,
            sequence_number: 10,
            original_server_version: 80_404,
            immediate_server_version: 90_704,
            timestamp: u32::MAX,
            body: Body::new(Bytes::from_static(&[1; 40])),
        }
    }

    fn kept(txn: &SourceTxn, head: Vec<u8>) -> KeptBranch {
        let TxnKind::Prepare(xid) = txn.kind else {
            unreachable!("it is one")
        };
        KeptBranch {
            id: KeptId(1),
            node: "dn1".into(),
            xid,
            head,
            rows: KeptRows::Memory(txn.body.segments().concat().into()),
        }
    }

    #[test]
    fn a_branch_comes_back_as_it_was_but_for_its_place_in_a_clock() {
        let txn = prepared();
        let back = kept(&txn, head(&txn)).into_prepare().unwrap();
        let expected = SourceTxn {
            end: SourcePos {
                file: 12,
                ..txn.end
            },
            last_committed: 0,
            sequence_number: 0,
            ..txn
        };
        assert_eq!(format!("{back:?}"), format!("{expected:?}"));
    }

    #[test]
    fn what_can_not_be_read_is_named() {
        let txn = prepared();
        for head in [&b""[..], b"{}", b"prepared"] {
            let error = kept(&txn, head.to_vec()).into_prepare().unwrap_err();
            let text = error.to_string();
            assert!(text.contains("X'6700") && text.contains("dn1"), "{text}");
        }
        let bad = String::from_utf8(head(&txn)).unwrap().replace(":77", ":x");
        let error = kept(&txn, bad.into_bytes()).into_prepare().unwrap_err();
        assert!(error.to_string().contains(":x"), "{error}");
    }
}
