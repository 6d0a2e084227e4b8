//! Branches that stay prepared for long. In: what becomes of them, with the batches of the merger. Out: each is kept in the index
//! database with the next commit, and so is its end; and all of them again when the directory is opened. A restart needs
//! the node's old binlog no more than the merger's progress says.
//!
//! The rows of a branch are written in pieces, with as many commits as that takes. Only the last says that there is such a
//! branch: what a crash leaves of an unfinished one is removed when the directory is opened.

use std::{collections::BTreeSet, fmt, io, sync::Arc};

use tributary_flow::{BranchOp, KeptBranch, KeptId, KeptRows, Spool, limits};

use crate::{
    GlobalLog, Kv, KvBatch, LogWriter, OpenError, WriteError,
    kv::{KvOp, RecordError, branch},
};

pub use crate::kv::branch::SavedBranch;

/// Branches read in one go.
const SCAN_STEP: usize = 64;

impl LogWriter {
    /// Does `op` with the next [`LogWriter::commit`], and as atomically.
    pub(crate) fn change_branch(&mut self, op: &BranchOp) -> Result<(), WriteError> {
        let key = |node: &str, xid| {
            branch::key(node, xid).ok_or_else(|| WriteError::Inconsistent {
                detail: format!("the name of a node is too long: {} bytes", node.len()),
            })
        };
        match op {
            BranchOp::Rows { id, offset, bytes } => {
                self.push_branch(KvOp::Put(
                    branch::rows_key(*id, *offset),
                    branch::rows_value(bytes),
                ));
            }
            BranchOp::Keep {
                id,
                node,
                xid,
                head,
                rows,
            } => {
                let key = key(node, xid)?;
                self.push_branch(KvOp::Put(key, branch::value(*id, *rows, head)));
            }
            BranchOp::Forget { id, node, xid } => {
                let key = key(node, xid)?;
                let (from, to) = branch::rows_range(*id);
                self.push_branch(KvOp::Delete(key));
                self.push_branch(KvOp::DeleteRange(from, to));
            }
        }
        Ok(())
    }

    /// The branches kept as of the last commit, by node.
    pub fn list_branches(&self) -> Result<Vec<SavedBranch>, OpenError> {
        list(&*self.kv)
    }
}

/// The branches that an index database keeps, by node.
pub fn list(kv: &dyn Kv) -> Result<Vec<SavedBranch>, OpenError> {
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

impl GlobalLog {
    /// The branches kept as of the last commit, as they go back to a merger that goes on from there; for when none runs. What an
    /// earlier one has begun to keep and not finished is removed. Few rows are in memory, more are read where they lie.
    pub fn kept_branches(&self) -> Result<Vec<KeptBranch>, OpenError> {
        match self.shared().kv() {
            Some(kv) => load(kv),
            None => Ok(Vec::new()),
        }
    }
}

fn load(kv: &Arc<dyn Kv>) -> Result<Vec<KeptBranch>, OpenError> {
    let saved = list(&**kv)?;
    remove_unfinished(&**kv, &saved)?;
    let mut in_memory = 0;
    let mut loaded = Vec::with_capacity(saved.len());
    for branch in saved {
        check_rows(&**kv, &branch)?;
        let rows = Arc::new(StoredRows {
            kv: kv.clone(),
            id: branch.id,
        });
        let small = in_memory + branch.rows <= limits::KEPT_IN_MEMORY_BYTES;
        let rows = if small {
            in_memory += branch.rows;
            let mut bytes = vec![0; branch.rows as usize];
            (rows.read_exact_at(&mut bytes, 0)).map_err(|e| incomplete(&branch, &e.to_string()))?;
            KeptRows::Memory(bytes.into())
        } else {
            KeptRows::Stored(rows, branch.rows)
        };
        loaded.push(KeptBranch {
            id: branch.id,
            node: branch.node,
            xid: branch.xid,
            head: branch.head,
            rows,
        });
    }
    Ok(loaded)
}

/// Removes rows that belong to no branch.
fn remove_unfinished(kv: &dyn Kv, saved: &[SavedBranch]) -> Result<(), OpenError> {
    let known: BTreeSet<KeptId> = saved.iter().map(|b| b.id).collect();
    let mut next = KeptId(0);
    loop {
        let (from, to) = branch::rows_from(next);
        let first = kv.scan(&from, &to, 1)?;
        let Some(pair) = first.first() else {
            return Ok(());
        };
        let (id, _, _) = branch::decode_rows(pair)?;
        if !known.contains(&id) {
            let mut batch = KvBatch::new();
            let (from, to) = branch::rows_range(id);
            batch.delete_range(from, to);
            kv.write(&batch, false)?;
        }
        let Some(after) = id.0.checked_add(1) else {
            return Ok(());
        };
        next = KeptId(after);
    }
}

/// Whether the rows of a branch end where they should. Pieces are written in order: if the last is there, all are.
pub(crate) fn check_rows(kv: &dyn Kv, saved: &SavedBranch) -> Result<(), OpenError> {
    let last = kv.floor(
        &branch::rows_key(saved.id, 0),
        &branch::rows_key(saved.id, u64::MAX),
    )?;
    let end = match &last {
        Some(pair) => {
            let (_, offset, rows) = branch::decode_rows(pair)?;
            offset.saturating_add(rows.len() as u64)
        }
        None => 0,
    };
    if end == saved.rows {
        return Ok(());
    }
    let detail = format!("{end} of {} bytes are there", saved.rows);
    Err(incomplete(saved, &detail))
}

/// Bytes of a branch's rows that are there, from the first on, without a gap.
pub(crate) fn all_rows(kv: &dyn Kv, saved: &SavedBranch) -> Result<u64, OpenError> {
    let (mut from, to) = branch::rows_range(saved.id);
    let mut end = 0;
    loop {
        let pairs = kv.scan(&from, &to, 1)?;
        let Some(pair) = pairs.first() else {
            return Ok(end);
        };
        let (_, offset, rows) = branch::decode_rows(pair)?;
        if offset != end {
            return Ok(end);
        }
        end += rows.len() as u64;
        from.clone_from(&pair.0);
        from.push(0);
    }
}

fn incomplete(saved: &SavedBranch, detail: &str) -> OpenError {
    OpenError::Inconsistent {
        detail: format!(
            "the rows of the kept branch {} of node {}: {detail}",
            saved.xid, saved.node
        ),
    }
}

/// The rows of a kept branch, where they lie.
struct StoredRows {
    kv: Arc<dyn Kv>,
    id: KeptId,
}

impl fmt::Debug for StoredRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoredRows").field(&self.id).finish()
    }
}

impl Spool for StoredRows {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let (from, to) = (branch::rows_key(self.id, 0), branch::rows_key(self.id, at));
            let pair = self.kv.floor(&from, &to).map_err(io::Error::other)?;
            let pair = pair.ok_or(io::ErrorKind::UnexpectedEof)?;
            let (_, begin, rows) = branch::decode_rows(&pair)
                .map_err(|e: RecordError| io::Error::new(io::ErrorKind::InvalidData, e))?;
            let skip = usize::try_from(at - begin).unwrap_or(usize::MAX);
            let rows = rows.get(skip..).filter(|rows| !rows.is_empty());
            let rows = rows.ok_or(io::ErrorKind::UnexpectedEof)?;
            let (now, later) = rest.split_at_mut(rows.len().min(rest.len()));
            now.copy_from_slice(rows.get(..now.len()).unwrap_or_default());
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }
}
