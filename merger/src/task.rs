//! Runs the merger's rules on a thread of their own.
//!
//! In: batches of the collectors, answers to fences. Out: [`MergedBatch`]es to the store (waiting when it is behind, so that
//! back-pressure reaches the nodes), questions to collectors, a status. Decides nothing but when to ask again.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tributary_binlog::{Gtid, XaXid};
use tributary_flow::{
    Fence, FenceAnswer, FenceRequest, FenceStamp, MergedBatch, NodeBatch, NodeId, NodeStart,
    NodeTable, SourcePos, Tso, limits,
};

use tributary_schema::PendingStatement;

use crate::MergeError;
use crate::core::{Heuristic, Merger};
use crate::waits::{Blocked, Reasons, WaitsFor};

/// Shortest time between two fences on one node.
const FENCE_INTERVAL: Duration = Duration::from_millis(1);
/// Time before a node that could not be asked is asked again.
const FENCE_RETRY: Duration = Duration::from_millis(200);
/// How long progress without any transaction (rollbacks, filtered groups) may stay unsaved.
const IDLE_CHECKPOINT: Duration = Duration::from_secs(1);
/// How long nothing may come before a node that holds back the others may exceed its memory budget.
const OVERDRAFT_AFTER: Duration = Duration::from_millis(50);
/// How often the status is made visible.
const PUBLISH_EVERY: Duration = Duration::from_millis(20);
/// Batches handled before the outputs are looked at.
const BATCHES_PER_TURN: usize = 64;

/// What connects the merger with the other stages.
pub struct MergerPorts {
    /// From the collectors.
    pub items: mpsc::Receiver<NodeBatch>,
    /// Points from which nodes are read for the first time.
    pub starts: mpsc::Receiver<(NodeId, NodeStart)>,
    /// From the collectors: answers to `fences`.
    pub fence_answers: mpsc::Receiver<FenceAnswer>,
    /// To each node's collector, by node id.
    pub fences: Vec<mpsc::Sender<FenceRequest>>,
    /// To the store.
    pub out: mpsc::Sender<MergedBatch>,
    /// Called for a node that holds back all others and may be waiting for memory.
    pub overdraft: Box<dyn Fn(NodeId) + Send>,
    /// How long a reason to wait may hold before a warning.
    pub warn_after: Duration,
    /// How long a branch stays prepared before it is kept in the store.
    pub keep_after: Duration,
    /// Called with each fence as it took effect: with the nodes' binlogs, the whole input of the merge.
    pub on_fence: Box<dyn FnMut(&Fence) + Send>,
}

/// What the merger knows about one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeMergeStatus {
    /// Name of the node.
    pub name: String,
    /// How far its stream has been merged.
    pub position: SourcePos,
    /// W(n): no distributed transaction with a lesser or equal TSO can come from it.
    pub watermark: Tso,
    /// Prepared branches that are neither committed nor rolled back.
    pub unresolved: usize,
}

/// A branch that stays prepared for long and is kept in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptStatus {
    /// Name of its node.
    pub node: String,
    /// Its id on the node.
    pub xid: XaXid,
    /// GTID of the prepare group.
    pub gtid: Gtid,
    /// When it was prepared, µs since the epoch by its node's clock.
    pub prepared_at: u64,
    /// Bytes of its rows.
    pub bytes: u64,
}

/// What the merger is doing.
#[derive(Clone, Debug, Default)]
pub struct MergerStatus {
    /// Global transactions handed to the store since the start.
    pub transactions: u64,
    /// Bytes of their events.
    pub bytes: u64,
    /// TSO of the last one.
    pub last_tso: Tso,
    /// Committed transactions and branches that wait.
    pub waiting: usize,
    /// Fences asked for since the start.
    pub fences: u64,
    /// Commits of branches prepared before their node was first read.
    pub orphans: u64,
    /// Commits of distributed transactions without a commit timestamp although `order = "tso"`.
    pub untimed: u64,
    /// Distributed transactions of which one branch was committed and another rolled back.
    pub heuristics: u64,
    /// Transactions whose rows exchange primary keys between nodes in a ring.
    pub rings: u64,
    /// The nodes, by name.
    pub nodes: Vec<NodeMergeStatus>,
    /// Statements that some tables have had and others have not.
    pub statements: Arc<Vec<PendingStatement>>,
    /// Statements that concern a node alone, and accounts: not written.
    pub local_statements: u64,
    /// Transactions of nodes that were written for another table, or in another shape.
    pub rewritten: u64,
    /// Branches that are kept in the store, in the order in which they were kept.
    pub kept: Vec<KeptStatus>,
    /// What holds back the next transaction.
    pub blocked: Vec<Blocked>,
    /// The contradiction that stopped the stream.
    pub halted: Option<MergeError>,
}

/// A running merger.
pub struct MergerHandle {
    thread: JoinHandle<()>,
    status: Arc<Mutex<MergerStatus>>,
}

impl MergerHandle {
    /// What it is doing now.
    pub fn status(&self) -> MergerStatus {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A function that tells the status, for other threads.
    pub fn status_reader(&self) -> impl Fn() -> MergerStatus + Send + Sync + 'static {
        let status = self.status.clone();
        move || {
            status
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        }
    }

    /// Waits until it has ended: all collectors or the store are gone.
    pub fn join(self) -> std::thread::Result<()> {
        self.thread.join()
    }
}

/// Starts a merger of `table`'s nodes on its own thread. It ends when all senders of items, or the receiver of batches, are gone.
pub fn spawn(
    table: NodeTable,
    merger: Merger,
    ports: MergerPorts,
) -> std::io::Result<MergerHandle> {
    let status = Arc::new(Mutex::new(MergerStatus::default()));
    let shared = status.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let thread = std::thread::Builder::new()
        .name("merger".into())
        .spawn(move || {
            runtime.block_on(Task::new(table, merger, ports, shared).run());
        })?;
    Ok(MergerHandle { thread, status })
}

struct Task {
    table: NodeTable,
    merger: Merger,
    ports: MergerPorts,
    shared: Arc<Mutex<MergerStatus>>,
    status: MergerStatus,
    published: Instant,
    /// When each node may be asked next.
    ask_after: Vec<Instant>,
    /// The question each node has not answered, with the stamp taken before it was asked.
    asked: Vec<Option<(u64, FenceStamp)>>,
    last_progress: Instant,
    last_sent: Instant,
    dirty: bool,
    batch: MergedBatch,
    reasons: Reasons,
    /// What the statements that wait were told from.
    schema_version: Option<u64>,
    started: Instant,
}

impl Task {
    fn new(
        table: NodeTable,
        mut merger: Merger,
        ports: MergerPorts,
        shared: Arc<Mutex<MergerStatus>>,
    ) -> Self {
        let now = Instant::now();
        merger.set_keep_after(Some(ports.keep_after.as_millis() as u64));
        let n = table.len();
        Self {
            table,
            merger,
            reasons: Reasons::new(ports.warn_after.as_millis() as u64),
            ports,
            shared,
            status: MergerStatus::default(),
            published: now,
            ask_after: vec![now; n],
            asked: vec![None; n],
            last_progress: now,
            last_sent: now,
            dirty: false,
            batch: MergedBatch::default(),
            schema_version: None,
            started: now,
        }
    }

    async fn run(mut self) {
        loop {
            let turn = self.turn().await;
            let go_on = match turn {
                Ok(go_on) => go_on,
                Err(error) => {
                    tracing::error!(%error, "the merge has stopped; what is durable is still served");
                    self.status.halted = Some(error);
                    false
                }
            };
            self.publish(!go_on);
            if !go_on {
                break;
            }
        }
    }

    /// Takes what has arrived, hands on what is due. `false` when a neighbour is gone.
    async fn turn(&mut self) -> Result<bool, MergeError> {
        let wait = self.next_deadline();
        tokio::select! {
            biased;
            Some((node, start)) = self.ports.starts.recv() => self.begin(node, start),
            Some(answer) = self.ports.fence_answers.recv() => self.answer(answer)?,
            batch = self.ports.items.recv() => match batch {
                Some(batch) => self.take(batch)?,
                None => return Ok(false),
            },
            () = tokio::time::sleep_until(wait.into()) => {}
        }
        for _ in 0..BATCHES_PER_TURN {
            let Ok(batch) = self.ports.items.try_recv() else {
                break;
            };
            self.take(batch)?;
        }
        for fence in self.merger.take_passed_fences() {
            (self.ports.on_fence)(&fence);
        }
        if !self.emit().await? {
            return Ok(false);
        }
        self.ask();
        Ok(true)
    }

    fn take(&mut self, batch: NodeBatch) -> Result<(), MergeError> {
        self.dirty = true;
        // A node's start is sent before its first batch, on a channel of its own.
        while let Ok((node, start)) = self.ports.starts.try_recv() {
            self.begin(node, start);
        }
        batch
            .items
            .into_iter()
            .try_for_each(|item| self.merger.handle(batch.node, item))
    }

    /// A node is read for the first time.
    fn begin(&mut self, node: NodeId, start: NodeStart) {
        self.merger.set_before_start(node, start.before);
        self.merger.learn_tables(node, &start.tables);
    }

    fn answer(&mut self, answer: FenceAnswer) -> Result<(), MergeError> {
        let slot = &mut self.asked[answer.node.index()];
        let Some((_, stamp)) = slot.take_if(|(id, _)| *id == answer.id) else {
            return Ok(());
        };
        if let Some(pos) = answer.pos {
            return self.merger.handle_fence(Fence {
                node: answer.node,
                pos,
                stamp,
            });
        }
        self.ask_after[answer.node.index()] = Instant::now() + FENCE_RETRY;
        self.merger.fence_failed(answer.node);
        Ok(())
    }

    /// Hands everything that is due to the store. `false` when the store is gone.
    async fn emit(&mut self) -> Result<bool, MergeError> {
        loop {
            let polled = self
                .merger
                .poll(&mut self.batch.txns, limits::MERGED_BATCH_BYTES as u64);
            let more = self.branches() || matches!(polled, Ok(true));
            let idle = self.dirty && self.last_sent.elapsed() >= IDLE_CHECKPOINT;
            if self.batch.txns.is_empty() && self.batch.branches.is_empty() && !idle {
                return polled.map(|_| true);
            }
            self.account();
            let mut batch = std::mem::take(&mut self.batch);
            // The next one is likely to be as long.
            self.batch.txns.reserve(batch.txns.len());
            batch.checkpoint = self.merger.checkpoint();
            batch.schema = self.merger.take_schema_writes();
            for note in self.merger.take_schema_notes() {
                tracing::warn!(%note, "a definition or statement of a node");
            }
            if !self.hand_on(batch).await {
                return Ok(false);
            }
            self.last_sent = Instant::now();
            self.dirty = more;
            if !more {
                return polled.map(|_| true);
            }
            self.publish(false);
        }
    }

    /// Hands on what becomes of branches that stay prepared for long. Whether there is more to do.
    fn branches(&mut self) -> bool {
        let now = self.started.elapsed().as_millis() as u64;
        let out = &mut self.batch.branches;
        match self.merger.poll_branches(now, limits::KEPT_ROWS_BYTES, out) {
            Ok(more) => more,
            Err(error) => {
                tracing::warn!(%error, "its binlog must stay until the branch is committed or rolled back");
                false
            }
        }
    }

    /// Waits for the store when it is behind. `false` when it is gone.
    async fn hand_on(&mut self, batch: MergedBatch) -> bool {
        let out = self.ports.out.clone();
        let send = out.send(batch);
        tokio::pin!(send);
        loop {
            tokio::select! {
                sent = &mut send => return sent.is_ok(),
                () = tokio::time::sleep(PUBLISH_EVERY) => self.publish_waiting_for(vec![WaitsFor::Downstream]),
            }
        }
    }

    fn account(&mut self) {
        self.status.transactions += self.batch.txns.len() as u64;
        self.status.bytes += self
            .batch
            .txns
            .iter()
            .map(tributary_flow::GlobalTxn::body_len)
            .sum::<u64>();
        if !self.batch.txns.is_empty() {
            self.last_progress = Instant::now();
        }
    }

    fn ask(&mut self) {
        let now = Instant::now();
        self.overdraw(now);
        if self.merger.waiting() == 0 {
            return;
        }
        let mut wanted = Vec::new();
        let ask_after = &self.ask_after;
        self.merger
            .poll_fences(|node| ask_after[node.index()] <= now, &mut wanted);
        for (node, stamp) in wanted {
            self.status.fences += 1;
            let id = self.status.fences;
            self.ask_after[node.index()] = now + FENCE_INTERVAL;
            match self.ports.fences[node.index()].try_send(FenceRequest { id }) {
                Ok(()) => self.asked[node.index()] = Some((id, stamp)),
                Err(_) => self.merger.fence_failed(node),
            }
        }
    }

    /// Lets nodes read beyond their memory budget when nothing comes without: those that hold back the next transaction, and
    /// those whose budget may be full of prepared branches while the commits are still to be read.
    fn overdraw(&self, now: Instant) {
        if now.duration_since(self.last_progress) < OVERDRAFT_AFTER {
            return;
        }
        for (node, _) in self.merger.blocked() {
            (self.ports.overdraft)(node);
        }
        let nodes = self.table.iter().map(|(node, _)| node);
        for node in nodes.filter(|node| self.merger.unresolved(*node) > 0) {
            (self.ports.overdraft)(node);
        }
    }

    fn has_unresolved(&self) -> bool {
        let mut nodes = self.table.iter();
        nodes.any(|(node, _)| self.merger.unresolved(node) > 0)
    }

    fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        if self.merger.waiting() > 0 {
            return now + OVERDRAFT_AFTER.min(FENCE_INTERVAL * 2);
        }
        if self.has_unresolved() {
            return now + OVERDRAFT_AFTER;
        }
        now + IDLE_CHECKPOINT
    }

    /// Makes the status visible, now and then.
    fn publish(&mut self, last: bool) {
        if !last && self.published.elapsed() < PUBLISH_EVERY {
            return;
        }
        let blocked = self.merger.blocked().into_iter();
        let names = blocked
            .map(|(id, what)| WaitsFor::Node(self.table.name(id).to_owned(), Box::new(what)));
        let reasons = names.collect();
        self.publish_waiting_for(reasons);
    }

    fn publish_waiting_for(&mut self, reasons: Vec<WaitsFor>) {
        self.published = Instant::now();
        self.report_heuristics();
        self.report_rings();
        self.status.last_tso = self.merger.last_key().tso;
        self.status.waiting = self.merger.waiting();
        self.status.orphans = self.merger.orphans();
        self.status.untimed = self.merger.untimed();
        self.status.heuristics = self.merger.heuristics();
        self.status.rewritten = self.merger.rewritten();
        let schema = self.merger.schema();
        if self.schema_version != Some(schema.version()) {
            self.schema_version = Some(schema.version());
            self.status.local_statements = schema.local_statements();
            self.status.statements = Arc::new(schema.waiting());
        }
        self.status.nodes = (self.table.iter())
            .map(|(id, name)| NodeMergeStatus {
                name: name.to_owned(),
                position: self.merger.position(id),
                watermark: self.merger.watermark(id),
                unresolved: self.merger.unresolved(id),
            })
            .collect();
        self.status.kept = (self.merger.kept().into_iter())
            .map(|kept| KeptStatus {
                node: self.table.name(kept.node).to_owned(),
                xid: kept.xid,
                gtid: kept.gtid,
                prepared_at: kept.prepared_at,
                bytes: kept.bytes,
            })
            .collect();
        let now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as u64);
        for due in self.reasons.update(now_ms, reasons.into_iter()) {
            let seconds = now_ms.saturating_sub(due.since_ms) / 1000;
            let node = due.node().unwrap_or("");
            tracing::warn!(node, waits_for = %due.what(), seconds, advice = %due.advice(), "the merge waits");
        }
        self.status.blocked = self.reasons.list();
        self.shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&self.status);
    }

    fn report_rings(&mut self) {
        let rings = self.merger.rings();
        if rings > self.status.rings {
            tracing::warn!(
                transactions = rings - self.status.rings,
                "rows exchange their primary keys between nodes within one transaction: no order is right for a replica, and \
                 the branches are written one behind the other"
            );
        }
        self.status.rings = rings;
    }

    fn report_heuristics(&mut self) {
        for Heuristic {
            committed: (committed, xid),
            rolled_back: (rolled_back, other),
        } in self.merger.take_heuristics()
        {
            tracing::warn!(
                committed = %format!("{xid} on {}", self.table.name(committed)),
                rolled_back = %format!("{other} on {}", self.table.name(rolled_back)),
                "a distributed transaction was committed on one node and rolled back on another: its coordinator, or \
                 a person, broke the promise of two-phase commit; what was committed is written"
            );
        }
    }
}
