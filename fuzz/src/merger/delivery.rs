//! How a cluster's streams reach the merger.
//!
//! In: a cluster and choices. Out: what the merger made of it.

use tributary_flow::{
    Checkpoint, Fence, GlobalTxn, NodeId, NodeItem, NodeTable, OrderMode, SourcePos,
};
use tributary_merger::core::Merger;

use super::STEPS_MAX;
use super::cluster::Cluster;
use crate::input::Input;

/// A merger whose nodes have all said where their streams begin.
pub(super) fn started(nodes: usize, mode: OrderMode, resume: &Checkpoint, last_gno: u64) -> Merger {
    let table = NodeTable::new((0..nodes).map(|i| format!("dn{i}")));
    let mut merger = Merger::new(table, mode, resume, last_gno);
    for node in 0..nodes {
        let begin = NodeItem::Position(SourcePos { file: 1, offset: 0 });
        merger
            .handle(NodeId(node as u16), begin)
            .expect("a position contradicts nothing");
    }
    merger
}

/// What became of a delivery.
pub(super) struct Outcome {
    pub(super) out: Vec<GlobalTxn>,
    pub(super) passed: Vec<Fence>,
    pub(super) merger: Merger,
    pub(super) restarts: usize,
}

/// Delivers a cluster's streams as the input says, answering the merger's own fences at the times it says.
pub(super) struct Delivery<'a> {
    cluster: &'a Cluster<'a>,
    streams: Vec<Vec<NodeItem>>,
    mode: OrderMode,
    input: Input<'a>,
    merger: Merger,
    given: Vec<usize>,
    answers: Vec<Fence>,
    out: Vec<GlobalTxn>,
    passed: Vec<Fence>,
    restarts: usize,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(cluster: &'a Cluster<'a>, mode: OrderMode, input: Input<'a>) -> Self {
        let nodes = cluster.streams.len();
        Self {
            cluster,
            streams: cluster.streams.clone(),
            mode,
            input,
            merger: started(nodes, mode, &Checkpoint::default(), 0),
            given: vec![0; nodes],
            answers: Vec::new(),
            out: Vec::new(),
            passed: Vec::new(),
            restarts: 0,
        }
    }

    fn give(&mut self, node: usize) {
        let Some(item) = self.streams[node].get(self.given[node]).cloned() else {
            return;
        };
        self.given[node] += 1;
        self.merger
            .handle(NodeId(node as u16), item)
            .expect("the cluster keeps its promises");
    }

    fn ask(&mut self) {
        let mut wanted = Vec::new();
        self.merger.poll_fences(|_| true, &mut wanted);
        for (node, stamp) in wanted {
            let end = self
                .cluster
                .end_after(node.index(), &self.given, &mut self.input);
            let pos = SourcePos {
                file: 1,
                offset: end * 100,
            };
            self.answers.push(Fence { node, pos, stamp });
        }
    }

    fn poll(&mut self, bytes: u64) {
        self.merger
            .poll(&mut self.out, bytes)
            .expect("the cluster keeps its promises");
        self.passed.extend(self.merger.take_passed_fences());
    }

    /// A new merger goes on from the checkpoint: the nodes send what is missing, and positions for the rest.
    fn restart(&mut self) {
        self.poll(u64::MAX);
        let checkpoint = self.merger.checkpoint();
        let nodes = self.given.len();
        self.merger = started(nodes, self.mode, &checkpoint, self.out.len() as u64);
        self.streams = self.cluster.streams.clone();
        for (n, stream) in self.streams.iter_mut().enumerate() {
            let emitted = &checkpoint.nodes[&format!("dn{n}")].emitted;
            for item in stream {
                if let NodeItem::Txn(txn) = item
                    && emitted.contains(&txn.gtid)
                {
                    *item = NodeItem::Position(txn.end);
                }
            }
        }
        self.given.fill(0);
        self.answers.clear();
        self.restarts += 1;
    }

    fn step(&mut self) {
        match self.input.below(10) {
            0..=4 => {
                let node = self.input.below(self.given.len());
                self.give(node);
            }
            5 => self.ask(),
            6 if !self.answers.is_empty() => {
                let i = self.input.below(self.answers.len());
                let fence = self.answers.swap_remove(i);
                self.merger
                    .handle_fence(fence)
                    .expect("the cluster keeps its promises");
            }
            7 if !self.answers.is_empty() => {
                let fence = self.answers.swap_remove(0);
                self.merger.fence_failed(fence.node);
            }
            8 if self.restarts < 3 && self.input.chance(20) => self.restart(),
            _ => self.poll(1_000),
        }
        self.passed.extend(self.merger.take_passed_fences());
    }

    /// Everything that is left arrives.
    fn finish(&mut self) {
        for node in 0..self.given.len() {
            for _ in 0..self.streams[node].len() {
                self.give(node);
            }
        }
        for _ in 0..50 + 4 * self.cluster.windows.len() {
            self.poll(u64::MAX);
            self.ask();
            for fence in std::mem::take(&mut self.answers) {
                self.merger
                    .handle_fence(fence)
                    .expect("the cluster keeps its promises");
            }
        }
        self.poll(u64::MAX);
    }

    pub(super) fn run(mut self) -> Outcome {
        let mut steps = 0;
        while !self.input.is_empty() && steps < STEPS_MAX {
            self.step();
            steps += 1;
        }
        self.finish();
        Outcome {
            out: self.out,
            passed: self.passed,
            merger: self.merger,
            restarts: self.restarts,
        }
    }
}
