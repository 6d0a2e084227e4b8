//! The service between two crashes: the real merger and the real store, and around them what the threads and channels of
//! `tributary serve` do, in steps that the scheduler chooses.
//!
//! In: items of the nodes, answers to fences, moments. Out: a durable log; or the failure that ends it.

use std::collections::VecDeque;

use anyhow::{Context, Result};
use tributary_binlog::GtidSet;
use tributary_flow::{
    Checkpoint, Fence, FenceStamp, MergedBatch, NodeId, NodeItem, NodeTable, OrderMode, SourcePos,
    limits,
};
use tributary_merger::core::Merger;
use tributary_store::disk::Fuse;
use tributary_store::{GlobalLog, LogWriter, Opened, WriteError};

use crate::faults::{Counts, Fault};
use crate::rng::Rng;

/// As in `merger/src/task.rs`, µs.
const FENCE_INTERVAL: u64 = 1_000;
const FENCE_RETRY: u64 = 200_000;
/// Sooner than there: virtual time is short.
const IDLE_CHECKPOINT: u64 = 20_000;

/// A connection to a node and what came through it.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Number of the connection; 0 = none.
    pub(crate) connection: u64,
    /// What the node must not send again: done before the start, or handed on since.
    pub(crate) have: GtidSet,
    /// The next entry the node's dump thread reads.
    pub(crate) cursor: usize,
    /// Waits for the merger.
    pub(crate) queue: VecDeque<NodeItem>,
}

pub(crate) struct Service {
    /// Number of this life.
    pub(crate) life: u64,
    pub(crate) merger: Merger,
    pub(crate) links: Vec<Link>,
    pub(crate) log: GlobalLog,
    pub(crate) fuse: Fuse,
    /// Something is encoded and not committed.
    pub(crate) appended: bool,
    writer: LogWriter,
    batches: VecDeque<MergedBatch>,
    /// The question each node has not answered.
    asked: Vec<Option<(u64, FenceStamp)>>,
    ask_after: Vec<u64>,
    questions: u64,
    dirty: bool,
    last_sent: u64,
    /// Fences that took effect.
    pub(crate) passed: Vec<Fence>,
}

impl Service {
    pub(crate) fn new(life: u64, now: u64, table: &NodeTable, opened: Opened, fuse: Fuse) -> Self {
        let checkpoint: Checkpoint = opened.checkpoint.unwrap_or_default();
        let links = table.iter().map(|(_, name)| Link {
            have: checkpoint
                .nodes
                .get(name)
                .map(|p| p.emitted.clone())
                .unwrap_or_default(),
            ..Link::default()
        });
        Self {
            life,
            merger: Merger::new(
                table.clone(),
                OrderMode::Tso,
                &checkpoint,
                opened.log.durable().last_gno,
            ),
            links: links.collect(),
            log: opened.log,
            fuse,
            appended: false,
            writer: opened.writer,
            batches: VecDeque::new(),
            asked: vec![None; table.len()],
            ask_after: vec![now; table.len()],
            questions: 0,
            dirty: false,
            last_sent: now,
            passed: Vec::new(),
        }
    }

    /// Items arrive from a node.
    pub(crate) fn arrive(&mut self, node: usize, items: Vec<NodeItem>) {
        let link = &mut self.links[node];
        for item in items {
            if let NodeItem::Txn(txn) = &item {
                link.have.add(txn.gtid);
            }
            link.queue.push_back(item);
        }
    }

    /// A turn of the merger: takes some of what has arrived, hands on what is due. Whether the store has something to do.
    pub(crate) fn merge(&mut self, now: u64, rng: &mut Rng, counts: &mut Counts) -> Result<bool> {
        for _ in 0..rng.range(1, 5) {
            let node = rng.below(self.links.len());
            for _ in 0..rng.range(1, 30) {
                let Some(item) = self.links[node].queue.pop_front() else {
                    break;
                };
                self.dirty = true;
                let handled = self.merger.handle(NodeId(node as u16), item);
                handled.context("the merger refuses a right stream")?;
            }
        }
        if self.batches.len() >= limits::MERGED_BATCHES_MAX {
            return Ok(true);
        }
        let mut txns = Vec::new();
        let more = self.merger.poll(&mut txns, rng.range(1, 8_000))?;
        self.passed.extend(self.merger.take_passed_fences());
        let idle = self.dirty && now - self.last_sent >= IDLE_CHECKPOINT;
        if !txns.is_empty() || idle {
            if txns.is_empty() {
                counts.hit(Fault::IdleCheckpoint);
            }
            let checkpoint = self.merger.checkpoint();
            self.batches.push_back(MergedBatch { txns, checkpoint });
            self.last_sent = now;
            self.dirty = more;
        }
        Ok(!self.batches.is_empty())
    }

    /// Questions to put to nodes now.
    pub(crate) fn ask(&mut self, now: u64) -> Vec<(usize, u64)> {
        let mut wanted = Vec::new();
        let ask_after = &self.ask_after;
        self.merger
            .poll_fences(|node| ask_after[node.index()] <= now, &mut wanted);
        let mut out = Vec::new();
        for (node, stamp) in wanted {
            self.questions += 1;
            self.ask_after[node.index()] = now + FENCE_INTERVAL;
            self.asked[node.index()] = Some((self.questions, stamp));
            out.push((node.index(), self.questions));
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
    ) {
        let Some((_, stamp)) = self.asked[node].take_if(|(id, _)| *id == question) else {
            return;
        };
        let id = NodeId(node as u16);
        let Some(pos) = pos else {
            self.ask_after[node] = now + FENCE_RETRY;
            return self.merger.fence_failed(id);
        };
        if pos < self.merger.position(id) {
            counts.hit(Fault::FenceLate);
        }
        let fence = Fence {
            node: id,
            pos,
            stamp,
        };
        self.merger
            .handle_fence(fence)
            .expect("a fence on a right stream");
    }

    /// Encodes the next batch. Whether there was one.
    pub(crate) fn append(&mut self) -> Result<bool, WriteError> {
        let Some(batch) = self.batches.pop_front() else {
            return Ok(false);
        };
        self.writer.append(&batch)?;
        self.appended = true;
        Ok(true)
    }

    /// Makes durable what is encoded.
    pub(crate) fn commit(&mut self, flush: bool) -> Result<(), WriteError> {
        self.appended = false;
        if flush {
            self.writer.flush()
        } else {
            self.writer.commit()
        }
        .map(|_| ())
    }

    /// After a failure: the disk works again, the store must not.
    pub(crate) fn is_poisoned(&mut self) -> bool {
        self.fuse.set(u64::MAX);
        matches!(self.writer.commit(), Err(WriteError::Poisoned { .. }))
    }
}
