//! Runs one pipeline after another, as nodes come and go, while everything behind it stays.
//!
//! In: a [`Spec`] to begin with, [`Order`]s, the end. Out: a [`View`] of the pipeline that runs. The store's thread, the dump
//! server and its clients are not touched by a change.
//!
//! A change takes effect between two pipelines: the old one ends, everything it merged becomes durable, the change is made
//! durable together with the merger's state behind it, and the new pipeline goes on from there, as after a restart of the
//! process. So whatever happens in between, there is the old set of nodes or the new one, and never a node that is half in.
//! What may take long (checks, draining) is done while the old pipeline still runs; `changes` has the steps of each kind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tributary_collector::NodeState;
use tributary_flow::{ChangeKind, Checkpoint, Moment, NodeChange, NodeSet};
use tributary_store::{GlobalLog, NodeSetChange};

use crate::config::Node;
use crate::node_set::Reconciled;
use crate::orders::{Command, Done, Order};
use crate::pipeline::{Pipeline, Resume, Spec};
use crate::view::{Totals, View};
use crate::writer::{LogAdmin, WriterHandle};

/// How often a node that could not join is tried again.
const JOIN_RETRY: Duration = Duration::from_secs(5);
/// How long the nodes have to be read again before a change answers.
const READ_AGAIN: Duration = Duration::from_secs(5);
/// Between two questions whether the store has written everything.
const SETTLE_AGAIN: Duration = Duration::from_millis(200);

/// Owns the pipeline and the store's thread.
pub(crate) struct Supervisor {
    pub(super) spec: Spec,
    pub(super) set: NodeSet,
    pipeline: Option<Pipeline>,
    store: WriterHandle,
    requests: LogAdmin,
    pub(super) log: GlobalLog,
    totals: Totals,
    view: watch::Sender<Arc<View>>,
    /// Nodes of the configuration that have not joined yet, with what kept them out.
    joining: Vec<(Node, String)>,
}

/// What takes effect between two pipelines.
pub(super) struct Turn {
    /// What the next pipeline is made from.
    pub(super) spec: Spec,
    /// What is recorded from then on, with the merger's state.
    pub(super) change: NodeSetChange,
}

impl Supervisor {
    /// Starts the first pipeline. `spec` has the nodes that are merged already.
    pub(crate) fn start(
        spec: Spec,
        reconciled: Reconciled,
        store: WriterHandle,
        requests: LogAdmin,
        log: GlobalLog,
    ) -> anyhow::Result<Self> {
        let pipeline = begin(&spec, &reconciled.set, &store, &log)?;
        let totals = Totals::default();
        let joining = reconciled.joining.into_iter();
        let joining: Vec<_> = joining.map(|node| (node, "not tried yet".into())).collect();
        let view = pipeline.view(&spec, totals.clone(), &reconciled.set, &told(&joining));
        Ok(Self {
            spec,
            set: reconciled.set,
            pipeline: Some(pipeline),
            store,
            requests,
            log,
            totals,
            view: watch::Sender::new(Arc::new(view)),
            joining,
        })
    }

    /// The pipeline that runs, for the status.
    pub(crate) fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Runs until `stop`, then stops in data order; returns when everything merged is durable.
    pub(crate) async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let stopped = stop.clone();
        tokio::select! {
            () = stopped.cancelled() => {}
            () = self.serve(&mut orders) => {}
        }
        tracing::info!("stopping: making durable what is merged");
        self.store.stopping();
        let ended = self.halt().await;
        let store = self.store;
        tokio::task::spawn_blocking(move || store.join())
            .await?
            .map_err(|_| anyhow::anyhow!("the store's thread panicked"))?;
        ended
    }

    /// Carries out orders, one after the other. May be dropped at any point: what is not recorded has not happened.
    async fn serve(&mut self, orders: &mut mpsc::Receiver<Order>) {
        let mut retry = tokio::time::interval(JOIN_RETRY);
        loop {
            tokio::select! {
                Some(order) = orders.recv() => {
                    let what = order.command.describe();
                    let result = self.carry_out(order.command).await;
                    log_result(&what, &result);
                    // Whoever asked may have gone away.
                    let _ = order.answer.send(result);
                }
                _ = retry.tick(), if !self.joining.is_empty() => self.join_waiting().await,
            }
        }
    }

    async fn carry_out(&mut self, command: Command) -> Result<Done, String> {
        match command {
            Command::Add(node, definition) => {
                self.joining
                    .retain(|(waiting, _)| waiting.name != node.name);
                self.add(*node, Some(definition)).await
            }
            Command::Remove(removal) => self.remove(&removal).await,
            Command::Replace(node, definition) => self.replace(*node, Some(definition)).await,
            Command::Rename(renaming) => self.rename(&renaming).await,
            Command::Routes(routes, rules) => self.set_routes(&routes, rules).await,
            Command::Reload(spec) => self.reload(*spec).await,
        }
    }

    /// Tries again to let those nodes join that the configuration names.
    async fn join_waiting(&mut self) {
        for (node, before) in std::mem::take(&mut self.joining) {
            let result = self.add(node.clone(), None).await;
            if result.as_ref().err() != Some(&before) {
                log_result(&format!("add node {}", node.name), &result);
            }
            if let Err(why) = result {
                self.joining.push((node, why));
            }
        }
        self.publish_joining();
    }

    /// Nodes that the configuration names and that are to join when they can.
    pub(super) fn set_joining(&mut self, joining: Vec<(Node, String)>) {
        self.joining = joining;
        self.publish_joining();
    }

    fn publish_joining(&self) {
        if let Some(pipeline) = &self.pipeline {
            let joining = told(&self.joining);
            let view = pipeline.view(&self.spec, self.totals.clone(), &self.set, &joining);
            self.view.send_replace(Arc::new(view));
        }
    }

    /// The merger's state that is durable, followed.
    pub(super) fn progress(&self) -> watch::Receiver<Arc<Checkpoint>> {
        self.store.progress()
    }

    /// Why the nodes are not merged further, node by node, for a message.
    pub(super) fn blocked(&self) -> Vec<String> {
        let status = (self.view.borrow().merger)();
        let blocked = status.blocked.iter();
        let text = |b: &tributary_merger::Blocked| match b.node() {
            Some(node) => format!("{node}: {}", b.what()),
            None => b.what(),
        };
        blocked.map(text).collect()
    }

    /// Ends the running pipeline, lets `turn` decide on the state behind it, and begins the next: with what `turn` says
    /// when that is recorded, else with what was before.
    pub(super) async fn switch(
        &mut self,
        turn: impl AsyncFnOnce(&Self, &Checkpoint, Moment) -> Result<Turn, String>,
    ) -> Result<Done, String> {
        let began = Instant::now();
        let read_before = self.read_now();
        let text = |error: anyhow::Error| format!("{error:#}");
        self.halt().await.map_err(text)?;
        let result = self.take_effect(turn).await;
        self.all_written().await;
        self.go_on().map_err(text)?;
        self.wait_until_read(&read_before).await;
        let (changes, at) = result?;
        Ok(Done {
            changes,
            at,
            pause_ms: began.elapsed().as_millis() as u64,
        })
    }

    async fn take_effect(
        &mut self,
        turn: impl AsyncFnOnce(&Self, &Checkpoint, Moment) -> Result<Turn, String>,
    ) -> Result<(Vec<String>, Moment), String> {
        self.requests.settle().await?;
        let checkpoint = Arc::clone(&self.store.progress().borrow());
        let at = Moment::behind(&checkpoint, self.log.durable().last_gno);
        let known = self.set.changes.len();
        let Turn { spec, change } = turn(self, &checkpoint, at).await?;
        let set = change.nodes.clone();
        self.requests.change_nodes(change).await?;
        let new = set.changes.iter().skip(known);
        let changes = new.map(describe).collect();
        self.spec = spec;
        self.set = set;
        Ok((changes, at))
    }

    /// Waits until everything is durable that the last pipeline handed on: the next one goes on behind it, and what it merged
    /// again would be written twice. Without space on the disk that takes until there is some.
    async fn all_written(&self) {
        while let Err(why) = self.requests.settle().await {
            tracing::debug!(why, "the store is waited for");
            tokio::time::sleep(SETTLE_AGAIN).await;
        }
    }

    fn go_on(&mut self) -> anyhow::Result<()> {
        let pipeline = begin(&self.spec, &self.set, &self.store, &self.log)?;
        self.pipeline = Some(pipeline);
        self.publish_joining();
        Ok(())
    }

    /// Nodes that are being read.
    fn read_now(&self) -> BTreeSet<String> {
        let view = self.view.borrow();
        let streams = |node: &&crate::view::NodeView| {
            matches!(node.collector.borrow().state, NodeState::Streaming)
        };
        let read = view.nodes.iter().filter(streams);
        read.map(|node| node.name.clone()).collect()
    }

    /// Waits until the nodes are read again that were read before.
    async fn wait_until_read(&self, before: &BTreeSet<String>) {
        let view = Arc::clone(&self.view.borrow());
        let nodes = view.nodes.iter().filter(|n| before.contains(&n.name));
        let all = async {
            for node in nodes {
                let mut status = node.collector.clone();
                let read =
                    |s: &tributary_collector::NodeStatus| matches!(s.state, NodeState::Streaming);
                if status.wait_for(read).await.is_err() {
                    return;
                }
            }
        };
        // One that does not come back shows why in its state.
        let _ = tokio::time::timeout(READ_AGAIN, all).await;
    }

    /// Ends the running pipeline.
    async fn halt(&mut self) -> anyhow::Result<()> {
        if let Some(pipeline) = self.pipeline.take() {
            self.totals = pipeline.stop(&self.totals).await?;
        }
        Ok(())
    }
}

fn told(joining: &[(Node, String)]) -> BTreeMap<String, String> {
    let pairs = joining.iter();
    pairs
        .map(|(node, why)| (node.name.clone(), why.clone()))
        .collect()
}

fn describe(change: &NodeChange) -> String {
    let NodeChange {
        what, node, detail, ..
    } = change;
    match what {
        ChangeKind::Add => format!("node {node} joined: {detail}"),
        ChangeKind::Remove => format!("node {node} left: {detail}"),
        ChangeKind::Replace => format!("node {node} is read from {detail}"),
        ChangeKind::Rename => format!("node {node} is called {detail}"),
        ChangeKind::Routes => format!("routes: {detail}"),
    }
}

fn log_result(what: &str, result: &Result<Done, String>) {
    match result {
        Ok(done) => {
            let (gno, tso, pause_ms) = (done.at.gno, done.at.tso.micros(), done.pause_ms);
            for change in &done.changes {
                tracing::info!(gno, tso, pause_ms, "{change}");
            }
        }
        Err(why) => tracing::warn!(why, "could not {what}; the nodes are as before"),
    }
}

/// Starts a pipeline behind what is durable.
fn begin(
    spec: &Spec,
    set: &NodeSet,
    store: &WriterHandle,
    log: &GlobalLog,
) -> anyhow::Result<Pipeline> {
    let checkpoint = Arc::clone(&store.progress().borrow());
    let resume = Resume {
        checkpoint: &checkpoint,
        last_gno: log.durable().last_gno,
        renamed: &set.renamed,
        branches: log.kept_branches()?,
    };
    Pipeline::start(spec, resume, store).context("collectors and merger can not be started")
}
