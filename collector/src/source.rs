//! Starting and steering a collector. In: configuration, durable progress, channels. Out: a [`CollectorHandle`].

use std::sync::Arc;

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tributary_binlog::GtidSet;
use tributary_flow::{FenceAnswer, FenceRequest, NodeBatch, NodeId, NodeProgress, NodeStart};

use crate::{
    budget::Budget,
    config::CollectorConfig,
    core::{
        acks::{Acks, XaAcks},
        place::Places,
        resume,
    },
    fences,
    status::{NodeStatus, StatusBoard},
    task::Task,
};

/// What connects a collector with the stage behind it.
#[derive(Debug)]
pub struct Ports {
    /// Whole transactions and positions, in the order of the node's binlog.
    pub items: mpsc::Sender<NodeBatch>,
    /// When a node is read for the first time: where it begins. Sent before the node's first batch.
    pub starts: mpsc::Sender<(NodeId, NodeStart)>,
    /// Questions for the end of the node's binlog.
    pub fences: mpsc::Receiver<FenceRequest>,
    /// The answers.
    pub fence_answers: mpsc::Sender<FenceAnswer>,
    /// To be a semi-synchronous replica of the node, if it has the plugin.
    pub semi_sync: Option<SemiSync>,
}

/// What a semi-synchronous replica answers from.
#[derive(Debug, Clone)]
pub struct SemiSync {
    /// GTIDs of this node that would survive the loss of the node: those emitted and synced downstream, and those of prepared branches
    /// that are synced somewhere else. It only grows. GTIDs from before the start may be missing.
    pub durable: watch::Receiver<Arc<GtidSet>>,
    /// When the parts of distributed transactions count.
    pub xa: XaAcks,
}

/// Reads one node.
#[derive(Debug, Clone, Copy)]
pub struct Collector;

impl Collector {
    /// Starts reading. `resume` is what the last checkpoint says of this node; `None` if it was never read.
    ///
    /// Must be called inside a tokio runtime.
    pub fn spawn(
        config: CollectorConfig,
        resume: Option<NodeProgress>,
        ports: Ports,
        shutdown: CancellationToken,
    ) -> CollectorHandle {
        let (board, status) = StatusBoard::new(config.node, &config.name);
        let budget = Arc::new(Budget::new(config.bytes_max));
        let retry = Arc::new(Notify::new());
        let (serve, serving) = watch::channel(None);
        let fences = tokio::spawn(fences::run(
            config.node,
            config.name.clone(),
            serving,
            ports.fences,
            ports.fence_answers,
            shutdown.clone(),
        ));
        let task = Task {
            config,
            items: ports.items,
            starts: ports.starts,
            budget: Arc::clone(&budget),
            board,
            retry: Arc::clone(&retry),
            shutdown,
            received: resume.as_ref().map(resume::done),
            semi_sync: ports.semi_sync,
            acks: Acks::default(),
            early: None,
            places: Places::default(),
            serve,
            errants: Arc::default(),
        };
        CollectorHandle {
            status,
            budget,
            retry,
            task: tokio::spawn(task.run()),
            fences,
        }
    }
}

/// A running collector. Dropping it does not stop it; the token given to [`Collector::spawn`] does.
#[derive(Debug)]
pub struct CollectorHandle {
    status: watch::Receiver<NodeStatus>,
    budget: Arc<Budget>,
    retry: Arc<Notify>,
    task: JoinHandle<()>,
    fences: JoinHandle<()>,
}

impl CollectorHandle {
    /// What it is doing; changes can be awaited.
    pub fn status(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// Bytes received that the stages behind have not let go of.
    pub fn bytes_in_flight(&self) -> usize {
        self.budget.used()
    }

    /// Lets the node have `bytes` more in flight than it has now, until it is below its budget again. For the merger, when
    /// it waits for exactly this node and the budget is used up by what waits with it. Asking again before they are used
    /// changes nothing.
    pub fn grant_overdraft(&self, bytes: usize) {
        self.budget.grant_overdraft(bytes);
    }

    /// [`Self::grant_overdraft`] for other threads.
    pub fn overdraft(&self) -> Overdraft {
        Overdraft(Arc::clone(&self.budget))
    }

    /// Ends a wait before the next attempt, or tries again after a halt: what to do when the cause has been repaired.
    pub fn retry_now(&self) {
        self.retry.notify_one();
    }

    /// Waits until it has stopped.
    pub async fn join(self) {
        for task in [self.task, self.fences] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a collector's task ended abnormally");
            }
        }
    }
}

/// Grants overdrafts to one node; see [`CollectorHandle::grant_overdraft`].
#[derive(Debug, Clone)]
pub struct Overdraft(Arc<Budget>);

impl Overdraft {
    /// Lets the node have `bytes` more in flight than it has now.
    pub fn grant(&self, bytes: usize) {
        self.0.grant_overdraft(bytes);
    }
}
