//! What the status reads: the pipeline that runs now, and what those before it have done.

use std::collections::BTreeMap;

use tokio::sync::watch;
use tributary_collector::NodeStatus;
use tributary_flow::NodeSet;
use tributary_merger::MergerStatus;

/// The pipeline that runs now.
pub(crate) struct View {
    /// The nodes, by name.
    pub(crate) nodes: Vec<NodeView>,
    /// What the merger is doing.
    pub(crate) merger: Box<dyn Fn() -> MergerStatus + Send + Sync>,
    /// What earlier pipelines have done.
    pub(crate) before: Totals,
    /// What is recorded of the nodes.
    pub(crate) set: NodeSet,
    /// The routes, as they are written in a configuration.
    pub(crate) routes: serde_json::Value,
    /// Nodes of the configuration that have not joined, with the reason.
    pub(crate) joining: BTreeMap<String, String>,
}

/// One node of it.
pub(crate) struct NodeView {
    pub(crate) name: String,
    /// `host:port` of each of its servers.
    pub(crate) servers: Vec<String>,
    pub(crate) collector: watch::Receiver<NodeStatus>,
}

/// Counters that go on from one pipeline to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    merger: MergerStatus,
    /// Transactions and bytes, by node.
    nodes: BTreeMap<String, (u64, u64)>,
}

impl Totals {
    pub(crate) fn add_node(&mut self, name: &str, status: &NodeStatus) {
        let (transactions, bytes) = self.nodes.entry(name.to_owned()).or_default();
        *transactions += status.transactions;
        *bytes += status.bytes;
    }

    pub(crate) fn add_merger(&mut self, status: &MergerStatus) {
        add(&mut self.merger, status);
    }

    /// Transactions and bytes of a node, of earlier pipelines.
    pub(crate) fn node(&self, name: &str) -> (u64, u64) {
        self.nodes.get(name).copied().unwrap_or_default()
    }

    /// A merger's status with what its predecessors did.
    pub(crate) fn with(&self, mut status: MergerStatus) -> MergerStatus {
        add(&mut status, &self.merger);
        status
    }
}

fn add(sum: &mut MergerStatus, more: &MergerStatus) {
    sum.transactions += more.transactions;
    sum.bytes += more.bytes;
    sum.fences += more.fences;
    sum.orphans += more.orphans;
    sum.untimed += more.untimed;
    sum.heuristics += more.heuristics;
}
