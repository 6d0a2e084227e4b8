//! The same merge again. In: the nodes' whole binlogs and the fences that took effect, in another interleaving. Out: the order,
//! which must be the same.

use std::collections::VecDeque;

use anyhow::{Context, Result, ensure};
use tributary_binlog::{ChecksumAlg, EventReader, EventType};
use tributary_flow::{Body, Checkpoint, Fence, GlobalTxn, NodeId, NodeItem, NodeTable};
use tributary_merger::core::Merger;

use crate::body;
use crate::cluster::Cluster;
use crate::link;
use crate::rng::Rng;

/// Ids of the transactions, in order. Statements are 0.
pub(crate) fn order(
    cluster: &Cluster,
    table: &NodeTable,
    fences: &[Fence],
    rng: &mut Rng,
) -> Result<Vec<u64>> {
    let mut streams: Vec<VecDeque<NodeItem>> = Vec::new();
    for (n, node) in cluster.nodes.iter().enumerate() {
        let behind = |item: NodeItem| match item {
            NodeItem::Txn(txn) if cluster.starts[n].contains(&txn.gtid) => {
                NodeItem::Position(txn.end)
            }
            item => item,
        };
        streams.push(link::items(node)?.into_iter().map(behind).collect());
    }
    let mut merger = Merger::new(table.clone(), cluster.plan.mode, &Checkpoint::default(), 0);
    for (n, start) in cluster.starts.iter().enumerate() {
        if cluster.plan.start == tributary_collector::Start::Current {
            merger.set_before_start(NodeId(n as u16), start.clone());
        }
    }
    let mut queues: Vec<VecDeque<Fence>> = vec![VecDeque::new(); table.len()];
    for fence in fences {
        queues[fence.node.index()].push_back(*fence);
    }
    for queue in &mut queues {
        if let Some(fence) = queue.pop_front() {
            merger.handle_fence(fence)?;
        }
    }
    let (mut out, mut left) = (Vec::new(), streams.iter().map(VecDeque::len).sum::<usize>());
    while left > 0 {
        let n = rng.below(streams.len());
        for _ in 0..rng.range(1, 10) {
            let Some(item) = streams[n].pop_front() else {
                break;
            };
            left -= 1;
            merger.handle(NodeId(n as u16), item).context("again")?;
            refill(&mut merger, &mut queues)?;
        }
        merger.poll(&mut out, rng.range(1, 4_000))?;
    }
    refill(&mut merger, &mut queues)?;
    let unused = queues.iter().map(VecDeque::len).sum::<usize>();
    ensure!(unused == 0, "{unused} fences did not take effect again");
    settle(&mut merger, cluster, &mut out)?;
    out.iter().map(id).collect()
}

/// Everything is told: fences at the ends of the binlogs prove it.
fn settle(merger: &mut Merger, cluster: &Cluster, out: &mut Vec<GlobalTxn>) -> Result<()> {
    loop {
        while merger.poll(out, u64::MAX)? {}
        let mut wanted = Vec::new();
        merger.poll_fences(|_| true, &mut wanted);
        if wanted.is_empty() {
            return Ok(());
        }
        for (node, stamp) in wanted {
            let pos = cluster.nodes[node.index()].end();
            merger.handle_fence(Fence { node, pos, stamp })?;
        }
    }
}

/// A fence that has taken effect makes room for the next one of its node.
fn refill(merger: &mut Merger, queues: &mut [VecDeque<Fence>]) -> Result<()> {
    loop {
        let passed = merger.take_passed_fences();
        if passed.is_empty() {
            return Ok(());
        }
        for fence in passed {
            if let Some(next) = queues[fence.node.index()].pop_front() {
                merger.handle_fence(next)?;
            }
        }
    }
}

fn id(txn: &GlobalTxn) -> Result<u64> {
    for bytes in txn.parts.iter().flat_map(Body::segments) {
        let mut events = EventReader::new(bytes, ChecksumAlg::None);
        while let Some(event) = events.next()? {
            match event.header.event_type {
                EventType::WRITE_ROWS => return Ok(body::read_row(&event).context("a row")?.txn),
                EventType::QUERY => return Ok(0),
                _ => {}
            }
        }
    }
    anyhow::bail!("an empty transaction")
}
