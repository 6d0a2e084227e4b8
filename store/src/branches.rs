//! Branches that stay prepared for long. In: such a branch with its rows. Out: it is kept in the index database with the
//! next commit, and so is its end: a restart needs the node's old binlog no more than the merger's progress says.

use tributary_binlog::XaXid;

use crate::{
    Kv, LogWriter, OpenError, WriteError,
    kv::{KvOp, branch},
};

pub use crate::kv::branch::SavedBranch;

/// The greatest branch that can be kept, in bytes. Larger ones need the node's binlog until they are resolved.
pub const SAVED_BRANCH_BYTES_MAX: usize = 64 << 20;

/// Branches read in one go.
const SCAN_STEP: usize = 64;

/// Why a branch cannot be kept. Nothing has changed then, and the writer goes on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BranchError {
    /// It is too large.
    #[error(
        "branch {xid} of node {node} has {bytes} bytes; at most {SAVED_BRANCH_BYTES_MAX} are kept"
    )]
    TooLarge {
        /// Name of its node.
        node: String,
        /// The branch.
        xid: Box<XaXid>,
        /// Its size.
        bytes: usize,
    },
    /// No node can have such a name.
    #[error("the name of the node is too long: {0} bytes")]
    Node(usize),
    /// The writer has stopped.
    #[error(transparent)]
    Stopped(#[from] WriteError),
}

impl LogWriter {
    /// Keeps a prepared branch of `node`, with the next [`LogWriter::commit`] and as atomically. An older one of the same
    /// node and id is replaced.
    pub fn put_branch(
        &mut self,
        node: &str,
        xid: &XaXid,
        prepared: &[u8],
    ) -> Result<(), BranchError> {
        self.check_poison()?;
        if prepared.len() > SAVED_BRANCH_BYTES_MAX {
            return Err(BranchError::TooLarge {
                node: node.to_owned(),
                xid: Box::new(*xid),
                bytes: prepared.len(),
            });
        }
        let key = branch::key(node, xid).ok_or(BranchError::Node(node.len()))?;
        self.change_branch(KvOp::Put(key, branch::value(prepared)));
        Ok(())
    }

    /// Forgets a branch with the next [`LogWriter::commit`]: it was committed or rolled back. One that is not kept is
    /// fine, too.
    pub fn delete_branch(&mut self, node: &str, xid: &XaXid) -> Result<(), BranchError> {
        self.check_poison()?;
        let key = branch::key(node, xid).ok_or(BranchError::Node(node.len()))?;
        self.change_branch(KvOp::Delete(key));
        Ok(())
    }

    /// The branches kept as of the last commit, by node.
    pub fn list_branches(&self) -> Result<Vec<SavedBranch>, OpenError> {
        list(&*self.kv)
    }
}

fn list(kv: &dyn Kv) -> Result<Vec<SavedBranch>, OpenError> {
    let (mut from, to) = branch::range();
    let mut found = Vec::new();
    loop {
        let pairs = kv.scan(&from, &to, SCAN_STEP)?;
        let Some((last, _)) = pairs.last() else {
            return Ok(found);
        };
        from.clone_from(last);
        from.push(0);
        for pair in &pairs {
            found.push(branch::decode(pair)?);
        }
    }
}
