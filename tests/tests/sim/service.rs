//! The service between two crashes: the real collector cores, the real merger and the real store, and around them what the
//! threads and channels of `tributary serve` do, in steps that the scheduler chooses.
//!
//! In: bytes of the nodes, answers to fences, moments. Out: a durable log; or the failure that ends it.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tributary_flow::{
    BranchOp, Checkpoint, Fence, FenceStamp, MemorySpools, MergedBatch, NodeId, NodeTable,
    OrderKey, SourcePos, Spilling, limits,
};
use tributary_merger::MergeError;
use tributary_merger::core::Merger;
use tributary_schema::ClusterSchema;
use tributary_store::disk::Fuse;
use tributary_store::{GlobalLog, LogWriter, Opened, WriteError};

use crate::faults::{Counts, Fault, Plan};
use crate::link::Link;
use crate::members;
use crate::rng::Rng;

/// As in `merger/src/task.rs`, µs.
const FENCE_INTERVAL: u64 = 1_000;
const FENCE_RETRY: u64 = 200_000;
const OVERDRAFT_AFTER: u64 = 50_000;
/// Sooner than there: virtual time is short.
const IDLE_CHECKPOINT: u64 = 20_000;

pub(crate) struct Service {
    /// Number of this life.
    pub(crate) life: u64,
    pub(crate) merger: Merger,
    /// One for each node that is merged, and which nodes these are.
    pub(crate) links: Vec<Link>,
    ids: Vec<usize>,
    pub(crate) log: GlobalLog,
    pub(crate) writer: LogWriter,
    pub(crate) fuse: Fuse,
    /// Something is encoded and not committed.
    pub(crate) appended: bool,
    batches: VecDeque<MergedBatch>,
    /// The question each node has not answered.
    asked: Vec<Option<(u64, FenceStamp)>>,
    ask_after: Vec<u64>,
    questions: u64,
    dirty: bool,
    last_sent: u64,
    last_progress: u64,
    overdraft: usize,
    /// For what is said to the store about kept branches.
    side: Rng,
    /// What is encoded, and what is durable.
    encoded: Checkpoint,
    pub(crate) durable: Checkpoint,
    /// Fences that took effect.
    pub(crate) passed: Vec<Fence>,
}

/// What a turn of the merger has shown.
pub(crate) enum Turn {
    /// Whether the store has something to do.
    Went(bool),
    Halted(MergeError),
}

impl Service {
    pub(crate) fn new(
        life: u64,
        now: u64,
        table: &NodeTable,
        plan: &Plan,
        opened: Opened,
        schema: ClusterSchema,
        fuse: Fuse,
    ) -> Result<Self> {
        let checkpoint: Checkpoint = opened.checkpoint.unwrap_or_default();
        let store = (opened.log, opened.writer, fuse);
        Self::over((life, now), table, plan, (checkpoint, schema), store)
    }

    /// The next pipeline over the same store.
    pub(crate) fn again(
        self,
        life: u64,
        now: u64,
        table: &NodeTable,
        plan: &Plan,
        schema: ClusterSchema,
    ) -> Result<Self> {
        let checkpoint = self.progress();
        let store = (self.log, self.writer, self.fuse);
        Self::over((life, now), table, plan, (checkpoint, schema), store)
    }

    /// The merger's state behind everything that was appended.
    pub(crate) fn progress(&self) -> Checkpoint {
        self.writer.progress().cloned().unwrap_or_default()
    }

    fn over(
        (life, now): (u64, u64),
        table: &NodeTable,
        plan: &Plan,
        (checkpoint, schema): (Checkpoint, ClusterSchema),
        (log, writer, fuse): (GlobalLog, LogWriter, Fuse),
    ) -> Result<Self> {
        let spilling = plan.spill.map(|threshold| Spilling {
            threshold,
            files: Arc::new(MemorySpools),
        });
        let link =
            |(_, name)| Link::new(checkpoint.nodes.get(name), plan.bytes_max, spilling.clone());
        let last_gno = log.durable().last_gno;
        let merger = Merger::new(table.clone(), plan.mode, &checkpoint, last_gno);
        let mut merger = merger.with_schema(schema);
        merger.set_keep_after(plan.keep_after);
        let strangers = merger.restore_branches(log.kept_branches()?)?;
        ensure!(strangers.is_empty(), "{strangers:?}");
        Ok(Self {
            life,
            links: table.iter().map(link).collect(),
            ids: table
                .iter()
                .filter_map(|(_, name)| members::number(name).ok())
                .collect(),
            merger,
            side: Rng::new(life ^ now),
            encoded: checkpoint.clone(),
            durable: checkpoint,
            log,
            fuse,
            appended: false,
            writer,
            batches: VecDeque::new(),
            asked: vec![None; table.len()],
            ask_after: vec![now; table.len()],
            questions: 0,
            dirty: false,
            last_sent: now,
            last_progress: now,
            overdraft: plan.overdraft,
            passed: Vec::new(),
        })
    }

    /// The place of a node among those that are merged.
    pub(crate) fn slot(&self, n: usize) -> Option<usize> {
        self.ids.iter().position(|id| *id == n)
    }

    /// The link to a node, if it is merged.
    pub(crate) fn link(&mut self, n: usize) -> Option<&mut Link> {
        let slot = self.slot(n)?;
        self.links.get_mut(slot)
    }

    /// A turn of the merger: takes some of what has arrived, hands on what is due. `keys` are those of all transactions.
    pub(crate) fn merge(
        &mut self,
        now: u64,
        keys: &mut Vec<OrderKey>,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> Result<Turn> {
        for _ in 0..rng.range(1, 5) {
            let node = rng.below(self.links.len());
            for _ in 0..rng.range(1, 30) {
                let Some(item) = self.links[node].queue.pop_front() else {
                    break;
                };
                self.dirty = true;
                if let Err(error) = self.merger.handle(NodeId(node as u16), item) {
                    return Ok(Turn::Halted(error));
                }
            }
        }
        if self.batches.len() >= limits::MERGED_BATCHES_MAX {
            return Ok(Turn::Went(true));
        }
        let mut txns = Vec::new();
        let more = match self.merger.poll(&mut txns, rng.range(1, 8_000)) {
            Ok(more) => more,
            Err(error) => return Ok(Turn::Halted(error)),
        };
        self.passed.extend(self.merger.take_passed_fences());
        for txn in &txns {
            let last = keys.last().copied();
            ensure!(
                last.is_none_or(|last| last < txn.key),
                "key {:?} after {last:?}",
                txn.key
            );
            keys.push(txn.key);
        }
        let gno = self.merger.last_gno();
        ensure!(gno == keys.len() as u64, "gno {gno} of {}", keys.len());
        let idle = self.dirty && now - self.last_sent >= IDLE_CHECKPOINT;
        if !txns.is_empty() {
            self.last_progress = now;
        }
        let branches = self.branches(now, counts)?;
        if !txns.is_empty() || !branches.is_empty() || idle {
            if txns.is_empty() && branches.is_empty() {
                counts.hit(Fault::IdleCheckpoint);
            }
            let checkpoint = self.merger.checkpoint();
            let schema = self.merger.take_schema_writes();
            self.batches.push_back(MergedBatch {
                txns,
                branches,
                checkpoint,
                schema,
            });
            self.last_sent = now;
            self.dirty = more;
        }
        Ok(Turn::Went(!self.batches.is_empty()))
    }

    /// What becomes of branches that stay prepared for long.
    fn branches(&mut self, now: u64, counts: &mut Counts) -> Result<Vec<BranchOp>> {
        let (mut ops, max) = (Vec::new(), self.side.range(1, 400) as usize);
        self.merger.poll_branches(now, max, &mut ops)?;
        for op in &ops {
            match op {
                BranchOp::Rows { offset: 0, .. } => {}
                BranchOp::Rows { .. } => counts.hit(Fault::KeptInPieces),
                BranchOp::Keep { .. } => counts.hit(Fault::BranchKept),
                BranchOp::Forget { .. } => counts.hit(Fault::KeptForgotten),
            }
        }
        Ok(ops)
    }

    /// Questions to put to nodes now.
    pub(crate) fn ask(&mut self, now: u64, counts: &mut Counts) -> Vec<(usize, u64)> {
        let mut wanted = Vec::new();
        let ask_after = &self.ask_after;
        self.merger
            .poll_fences(|node| ask_after[node.index()] <= now, &mut wanted);
        let mut out = Vec::new();
        for (node, stamp) in wanted {
            self.questions += 1;
            self.ask_after[node.index()] = now + FENCE_INTERVAL;
            self.asked[node.index()] = Some((self.questions, stamp));
            out.push((self.ids[node.index()], self.questions));
        }
        if now - self.last_progress >= OVERDRAFT_AFTER {
            let blocked = self.merger.blocked();
            for (n, link) in self.links.iter().enumerate() {
                // What is prepared and not finished takes up memory until the rest is read.
                let id = NodeId(n as u16);
                if self.merger.unresolved(id) > 0 || blocked.iter().any(|(node, _)| *node == id) {
                    link.overdraw(self.overdraft, counts);
                }
            }
        }
        out
    }

    pub(crate) fn answer(
        &mut self,
        now: u64,
        node: usize,
        question: u64,
        pos: Option<SourcePos>,
        counts: &mut Counts,
    ) -> Result<(), MergeError> {
        let Some(node) = self.slot(node) else {
            return Ok(());
        };
        let Some((_, stamp)) = self.asked[node].take_if(|(id, _)| *id == question) else {
            return Ok(());
        };
        let id = NodeId(node as u16);
        let Some(pos) = pos else {
            self.ask_after[node] = now + FENCE_RETRY;
            self.merger.fence_failed(id);
            return Ok(());
        };
        if pos < self.merger.position(id) {
            counts.hit(Fault::FenceLate);
        }
        self.merger.handle_fence(Fence {
            node: id,
            pos,
            stamp,
        })
    }

    /// Encodes the next batch. Whether there was one.
    pub(crate) fn append(&mut self) -> Result<bool, WriteError> {
        let Some(batch) = self.batches.pop_front() else {
            return Ok(false);
        };
        self.writer.append(&batch)?;
        self.encoded = batch.checkpoint;
        self.appended = true;
        Ok(true)
    }

    /// Makes durable what is encoded.
    pub(crate) fn commit(&mut self, flush: bool) -> Result<(), WriteError> {
        self.appended = false;
        let committed = if flush {
            self.writer.flush()
        } else {
            self.writer.commit()
        };
        committed?;
        self.durable = self.encoded.clone();
        Ok(())
    }

    /// After a failure: the disk works again, the store must not.
    pub(crate) fn is_poisoned(&mut self) -> bool {
        self.fuse.set(u64::MAX);
        matches!(self.writer.commit(), Err(WriteError::Poisoned { .. }))
    }
}
