//! Branches that stay prepared for long.
//!
//! In: the time, by any clock that only grows; what the store has kept over a restart. Out: [`BranchOp`]s for the store.
//! Nothing of this enters the order.
//!
//! A branch that is kept counts as received: a restart does not ask its node for it, and the node may purge the binlog that has
//! its prepare. After a restart kept branches stand before everything that the nodes send, on the floor on which each node
//! starts. So a branch may be kept only when **everything that its node committed before its prepare is written**: all
//! of that then lies at or below the last key, which is that floor, and nothing that comes again belongs before the branch. A branch that
//! was prepared before it and comes again stands on the same floor, so which of them comes first means nothing. That is
//! the same state as if its node had sent the prepare again, first of all; see "Restarts" in `docs/ordering.md`. Neither
//! its floor nor what lay before it on other nodes has to be saved: both are told again by where the restart begins.
//!
//! It is forgotten with the checkpoint behind the transaction that has its rows, or behind its rollback.

use std::collections::{BTreeSet, VecDeque};
use std::io;

use hashbrown::HashMap;
use tributary_binlog::{Gtid, GtidSet, XaXid};
use tributary_flow::{
    BranchOp, KeptBranch, KeptError, KeptId, Mutant, NodeId, SourceTxn, TxnKind, kept, mutant,
};

use super::merge::Merger;
use crate::MergeError;

/// How much finer than the time set a branch's age is known.
const STEPS: u64 = 8;

/// A branch that the store keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number in the store.
    pub id: KeptId,
    /// Its node.
    pub node: NodeId,
    /// Its id on the node.
    pub xid: XaXid,
    /// GTID of the prepare group.
    pub gtid: Gtid,
    /// When it was prepared, µs since the epoch by its node's clock.
    pub prepared_at: u64,
    /// Bytes of its rows.
    pub bytes: u64,
}

/// What the store has kept does not agree with the checkpoint, or with itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// One can not be read.
    #[error(transparent)]
    Unreadable(#[from] KeptError),
    /// Two of one node have the same xid.
    #[error("the index database keeps a prepared branch twice: {0}; restore the data directory")]
    Twice(#[from] MergeError),
    /// One is gone.
    #[error(
        "node {node}: the index database should keep the prepared branches of {gtids} and does not have them; restore the data \
         directory"
    )]
    Missing {
        /// Name of the node.
        node: String,
        /// GTIDs of the prepare groups.
        gtids: String,
    },
}

/// The rows of a branch could not be read to be kept. It stays where it was; its node's binlog is needed until it is resolved.
#[derive(Debug, thiserror::Error)]
#[error(
    "node {node}: the rows of the prepared branch {xid} ({gtid}) can not be read, so it is not kept: {source}"
)]
pub struct KeepError {
    /// Name of its node.
    pub node: String,
    /// The branch.
    pub xid: Box<XaXid>,
    /// GTID of its prepare group.
    pub gtid: Gtid,
    /// Why.
    pub source: io::Error,
}

/// The branch of which rows are being written.
#[derive(Debug)]
struct Saving {
    id: KeptId,
    node: NodeId,
    place: u64,
    xid: XaXid,
    offset: u64,
}

/// How old a node's prepares are.
#[derive(Debug, Default)]
struct Ages {
    /// At that time all prepares before that place had been received.
    marks: VecDeque<(u64, u64)>,
    /// All before it are old enough.
    due: u64,
    /// When to look next.
    look_at: u64,
}

impl Ages {
    fn note(&mut self, now: u64, after: u64, prepares: u64) {
        let old = |t: u64| now.saturating_sub(t) >= after;
        while let Some((_, place)) = self.marks.pop_front_if(|(t, _)| old(*t)) {
            self.due = place;
        }
        let (last, known) = match self.marks.back() {
            Some((t, place)) => (Some(*t), *place),
            None => (None, self.due),
        };
        let step = after / STEPS;
        if prepares > known && last.is_none_or(|t| now.saturating_sub(t) > step) {
            self.marks.push_back((now, prepares));
        }
    }
}

/// All of them. See the module documentation.
#[derive(Debug)]
pub(super) struct Keeping {
    /// How long a branch stays prepared before it is kept; `None` = none is.
    after: Option<u64>,
    ages: Vec<Ages>,
    /// The last number given.
    last: KeptId,
    saving: Option<Saving>,
    /// By node, by the GTID of the prepare.
    kept: Vec<HashMap<Gtid, Kept>>,
    /// Places of branches of which the rows can not be read.
    unreadable: BTreeSet<(NodeId, u64)>,
    ops: Vec<BranchOp>,
}

impl Keeping {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            after: None,
            ages: (0..nodes).map(|_| Ages::default()).collect(),
            last: KeptId::default(),
            saving: None,
            kept: vec![HashMap::new(); nodes],
            unreadable: BTreeSet::new(),
            ops: Vec::new(),
        }
    }

    /// GTIDs of the prepares of one node that are kept.
    pub(super) fn gtids(&self, node: NodeId) -> GtidSet {
        let mut set = GtidSet::new();
        for gtid in self.kept[node.index()].keys() {
            set.add(*gtid);
        }
        set
    }
}

impl Merger {
    /// Keeps branches that stay prepared for `after`, in the unit of the time that [`Merger::poll_branches`] is given. Without
    /// it none is; those that are kept stay so.
    pub fn set_keep_after(&mut self, after: Option<u64>) {
        self.keeping.after = after;
    }

    /// Branches that the store kept over a restart; called before anything is handled. Returns those of nodes that are not
    /// there any more: they are left where they are.
    ///
    /// # Errors
    /// One can not be read, or one that the checkpoint names is missing.
    pub fn restore_branches(
        &mut self,
        mut branches: Vec<KeptBranch>,
    ) -> Result<Vec<(String, XaXid)>, RestoreError> {
        if mutant(Mutant::ForgetKept) {
            return Ok(Vec::new());
        }
        branches.sort_by(|a, b| (&a.node, a.id).cmp(&(&b.node, b.id)));
        let mut strangers = Vec::new();
        for branch in branches {
            let (id, xid) = (branch.id, branch.xid);
            self.keeping.last = self.keeping.last.max(id);
            let Some(node) = self.table.id(&branch.node) else {
                strangers.push((branch.node, xid));
                continue;
            };
            let txn = branch.into_prepare()?;
            if !self.progress[node.index()].kept.contains(&txn.gtid) {
                // The node was taken out and has come again: it is read anew.
                self.forget(id, node, xid);
                continue;
            }
            self.note_kept(node, id, xid, &txn);
            self.prepare(node, xid, Box::new(txn))?;
        }
        for (node, name) in self.table.iter() {
            let mut missing = self.progress[node.index()].kept.clone();
            missing.subtract(&self.keeping.gtids(node));
            if !missing.is_empty() {
                return Err(RestoreError::Missing {
                    node: name.to_owned(),
                    gtids: missing.to_text_oneline(),
                });
            }
        }
        Ok(strangers)
    }

    fn note_kept(&mut self, node: NodeId, id: KeptId, xid: XaXid, txn: &SourceTxn) {
        let kept = Kept {
            id,
            node,
            xid,
            gtid: txn.gtid,
            prepared_at: txn.immediate_commit,
            bytes: txn.body.len(),
        };
        self.keeping.kept[node.index()].insert(txn.gtid, kept);
    }

    fn forget(&mut self, id: KeptId, node: NodeId, xid: XaXid) {
        self.keeping.ops.push(BranchOp::Forget {
            id,
            node: self.table.name(node).to_owned(),
            xid: Box::new(xid),
        });
    }

    /// A prepare group is done with, and not needed any more.
    pub(super) fn prepare_done(&mut self, node: NodeId, prepare: &SourceTxn) {
        self.done(node, prepare.gtid);
        let kept = &mut self.keeping.kept[node.index()];
        if kept.is_empty() || mutant(Mutant::KeepForever) {
            return;
        }
        if let Some(kept) = kept.remove(&prepare.gtid) {
            self.forget(kept.id, node, kept.xid);
        }
    }

    /// Branches that the store keeps, in the order in which they were kept.
    pub fn kept(&self) -> Vec<Kept> {
        let all = self.keeping.kept.iter().flat_map(HashMap::values);
        let mut all: Vec<Kept> = all.cloned().collect();
        all.sort_by_key(|kept| kept.id);
        all
    }

    /// What the store has to do about branches, with the checkpoint that is taken behind this call: up to about `max_bytes` of
    /// rows. Returns whether there is more to do.
    ///
    /// # Errors
    /// The rows of a branch can not be read. It is passed over from now on; what is in `out` is right.
    pub fn poll_branches(
        &mut self,
        now: u64,
        max_bytes: usize,
        out: &mut Vec<BranchOp>,
    ) -> Result<bool, KeepError> {
        let mut bytes = 0;
        let result = loop {
            out.append(&mut self.keeping.ops);
            if bytes >= max_bytes {
                break Ok(true);
            }
            let Some(saving) = self.keeping.saving.take().or_else(|| self.next_due(now)) else {
                break Ok(false);
            };
            match self.save(saving, max_bytes - bytes, out) {
                Ok(written) => bytes += written,
                Err(error) => break Err(error),
            }
        };
        out.append(&mut self.keeping.ops);
        result
    }

    /// The next branch to keep.
    fn next_due(&mut self, now: u64) -> Option<Saving> {
        let after = self.keeping.after?;
        let nodes: Vec<NodeId> = self.table.iter().map(|(id, _)| id).collect();
        for node in nodes {
            let prepares = self.nodes[node.index()].prepares();
            let ages = &mut self.keeping.ages[node.index()];
            ages.note(now, after, prepares);
            let first = self.nodes[node.index()].first_prepare();
            if now < ages.look_at || first.is_none_or(|first| first >= ages.due) {
                continue;
            }
            if let Some(saving) = self.due_on(node) {
                return Some(saving);
            }
            self.keeping.ages[node.index()].look_at = now + after / STEPS;
        }
        None
    }

    /// The oldest branch of a node that is old enough and not kept, if it may be.
    fn due_on(&mut self, node: NodeId) -> Option<Saving> {
        let stream = &self.nodes[node.index()];
        let (kept, due) = (
            &self.keeping.kept[node.index()],
            self.keeping.ages[node.index()].due,
        );
        let open = |(_, place): &(&XaXid, u64)| {
            let gtid = stream.prepare_at(*place).map(|txn| txn.gtid);
            *place < due
                && gtid.is_some_and(|gtid| !kept.contains_key(&gtid))
                && !self.keeping.unreadable.contains(&(node, *place))
        };
        let branches = stream.unresolved_branches().filter(open);
        let (xid, place) = branches.min_by_key(|(_, place)| *place)?;
        // What its node committed before it must be written; see the module documentation.
        let at = stream.settled_at(place)?;
        let before = |first: u64| first < at && !mutant(Mutant::KeepTooEarly);
        if self.waiting.first_place(node).is_some_and(before) {
            return None;
        }
        let xid = *xid;
        self.keeping.last.0 += 1;
        Some(Saving {
            id: self.keeping.last,
            node,
            place,
            xid,
            offset: 0,
        })
    }

    /// Writes some of a branch's rows, or what makes it kept. Returns how many bytes of rows.
    fn save(
        &mut self,
        mut saving: Saving,
        max_bytes: usize,
        out: &mut Vec<BranchOp>,
    ) -> Result<usize, KeepError> {
        let Saving {
            id,
            node,
            place,
            xid,
            offset,
        } = saving;
        let prepare = self.nodes[node.index()].prepare_at(place);
        let Some(txn) = prepare.filter(|t| matches!(t.kind, TxnKind::Prepare(x) if x == xid))
        else {
            // It was resolved meanwhile.
            self.forget(id, node, xid);
            return Ok(0);
        };
        if offset < txn.body.len() {
            let gtid = txn.gtid;
            let bytes = match txn.body.piece(offset, max_bytes) {
                Ok(bytes) => bytes,
                Err(source) => {
                    self.keeping.unreadable.insert((node, place));
                    self.forget(id, node, xid);
                    return Err(KeepError {
                        node: self.table.name(node).to_owned(),
                        xid: Box::new(xid),
                        gtid,
                        source,
                    });
                }
            };
            if mutant(Mutant::ReceivedBeforeKept) {
                self.done(node, gtid);
            }
            let written = bytes.len();
            saving.offset += written as u64;
            self.keeping.saving = Some(saving);
            if !mutant(Mutant::KeepWithoutRows) {
                out.push(BranchOp::Rows { id, offset, bytes });
            }
            return Ok(written);
        }
        let (head, rows, txn) = (kept::head(txn), txn.body.len(), txn.clone());
        let name = self.table.name(node).to_owned();
        out.push(BranchOp::Keep {
            id,
            node: name,
            xid: Box::new(xid),
            head,
            rows,
        });
        self.note_kept(node, id, xid, &txn);
        self.done(node, txn.gtid);
        Ok(0)
    }
}
