//! Groups of a history as the binlog files of MySQL nodes.
//!
//! In: [`crate::history`]. Out: one directory for each node; see [`node_log`].

mod bodies;
mod clock;
mod node_log;
mod table;

use std::path::Path;

use anyhow::{Result, ensure};

use crate::history::{self, Shape, Spec, Totals};
use node_log::{NodeLog, NodeSpec};

/// A file is closed behind the transaction that makes it this long.
const MAX_BINLOG_SIZE: u64 = 256 << 20;
/// `server_id` of the first node.
pub(crate) const FIRST_SERVER_ID: u32 = 101;

/// Bytes of binlog that one global transaction leaves on all nodes together, on average; measured.
fn bytes_per_transaction(shape: Shape) -> u64 {
    match shape {
        Shape::Oltp => 1100,
        Shape::Bulk => 46_600,
    }
}

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    /// MiB on each node, about.
    pub(crate) mib: u64,
    pub(crate) seed: u64,
    pub(crate) shape: Shape,
}

impl Plan {
    /// The history: the same for all nodes.
    pub(crate) fn spec(&self) -> Spec {
        let transactions = (self.mib << 20) * self.nodes as u64 / bytes_per_transaction(self.shape);
        Spec {
            nodes: self.nodes,
            transactions: transactions.max(1),
            seed: self.seed,
            shape: self.shape,
        }
    }
}

/// What was generated.
#[derive(Clone, Debug)]
pub(crate) struct Generated {
    pub(crate) totals: Totals,
    /// Bytes of each generated node.
    pub(crate) bytes: Vec<u64>,
}

/// Writes the binlog of `node` to `dir`.
pub(crate) fn generate_one(plan: &Plan, node: usize, dir: &Path) -> Result<Generated> {
    ensure!(
        node < plan.nodes,
        "node {node} of {} nodes: nodes count from 0",
        plan.nodes
    );
    let log = NodeLog::create(dir, node_spec(plan, node))?;
    write(plan, vec![(node, log)])
}

/// Writes the binlogs of all nodes to `dir/dn1`, `dir/dn2` …
pub(crate) fn generate_all(plan: &Plan, dir: &Path) -> Result<Generated> {
    let log = |node| {
        Ok((
            node,
            NodeLog::create(&dir.join(node_name(node)), node_spec(plan, node))?,
        ))
    };
    write(plan, (0..plan.nodes).map(log).collect::<Result<_>>()?)
}

/// The name of a node in configurations and directories.
pub(crate) fn node_name(node: usize) -> String {
    format!("dn{}", node + 1)
}

fn node_spec(plan: &Plan, node: usize) -> NodeSpec {
    let server_id = FIRST_SERVER_ID + node as u32;
    NodeSpec {
        node,
        server_id,
        seed: plan.seed,
        max_binlog_size: MAX_BINLOG_SIZE,
    }
}

fn write(plan: &Plan, mut logs: Vec<(usize, NodeLog)>) -> Result<Generated> {
    let totals = history::run(&plan.spec(), &mut |group| match logs
        .iter_mut()
        .find(|(node, _)| *node == group.node)
    {
        Some((_, log)) => log.group(group),
        None => Ok(()),
    })?;
    let bytes = logs
        .into_iter()
        .map(|(_, log)| log.finish())
        .collect::<Result<_>>()?;
    Ok(Generated { totals, bytes })
}
