//! A change of the nodes that are merged. In: the new set with the merger's state as it is behind the change. Out: both on
//! the disk, or neither: recovery finds the old set with the old state, or the new set with the new one.

use tributary_flow::{Checkpoint, Mutant, NodeSet, mutant};

use crate::{
    DurableEnd, LogWriter, OpenError, WriteError,
    kv::{KvBatch, KvOp, branch, node_set, schema},
};

/// What takes effect together.
#[derive(Clone, Debug, Default)]
pub struct NodeSetChange {
    /// The nodes from now on.
    pub nodes: NodeSet,
    /// The merger's state from now on; `None` leaves it as it is.
    pub checkpoint: Option<Checkpoint>,
    /// Nodes that have another name from now on (old, new): their saved branches follow.
    pub renamed: Vec<(String, String)>,
    /// Nodes that are gone: so are their saved branches.
    pub removed: Vec<String>,
    /// What is stored of schemas from now on: keys with values, or their ends.
    pub schema: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl LogWriter {
    /// The nodes as of the last commit; `None` if that was never said.
    pub fn nodes(&self) -> Result<Option<NodeSet>, OpenError> {
        let value = self.kv.get(&node_set::key())?;
        Ok(value.map(|value| node_set::decode(&value)).transpose()?)
    }

    /// The merger's state behind what was appended.
    pub fn progress(&self) -> Option<&Checkpoint> {
        self.state.merger.as_ref()
    }

    /// Commits what was appended, then makes `change` durable. After [`WriteError::Full`] nothing of it has happened.
    pub fn change_nodes(&mut self, change: NodeSetChange) -> Result<DurableEnd, WriteError> {
        self.commit()?;
        let (key, value) = node_set::pair(&change.nodes)?;
        let mut ops = vec![KvOp::Put(key, value)];
        for branch in self.list_branches().map_err(|e| WriteError::Inconsistent {
            detail: e.to_string(),
        })? {
            let mut renamed = change.renamed.iter();
            let new = renamed
                .find(|(old, _)| *old == branch.node && !mutant(Mutant::RenameLeavesBranches));
            if new.is_none() && !change.removed.contains(&branch.node) {
                continue;
            }
            ops.extend(branch::key(&branch.node, &branch.xid).map(KvOp::Delete));
            if new.is_none() {
                let (from, to) = branch::rows_range(branch.id);
                ops.push(KvOp::DeleteRange(from, to));
            }
            let moved = new.and_then(|(_, new)| branch::key(new, &branch.xid));
            let value = branch::value(branch.id, branch.rows, &branch.head);
            ops.extend(moved.map(|key| KvOp::Put(key, value)));
        }
        let mut batch = KvBatch { ops };
        schema::put(&mut batch, &change.schema);
        self.change_state(batch.ops, change.checkpoint);
        self.commit()
    }
}
