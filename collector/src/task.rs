//! One node's collector: connects, checks, streams, comes back after failures.
//!
//! In: the node's configuration, the progress that is durable, a byte budget. Out: [`NodeBatch`]es of whole transactions,
//! each GTID once.
//!
//! Progress: `received` holds what was done when the collector was started and everything handed on since; it is the set a
//! new connection asks with. A transaction that was half read when a connection ended is thrown away with its assembler
//! and sent again by the node. Back-pressure: while too many bytes are in flight the socket is not read. Latency: when the
//! socket has nothing more, what is there is handed on at once.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tributary_binlog::{EventType, GtidSet};
use tributary_flow::{ErrorClass, NodeBatch, NodeId, NodeItem, limits};

use crate::{
    budget::Budget,
    config::CollectorConfig,
    core::{
        assemble::Assembler,
        backoff,
        chunk::Account,
        resume::{self, ResumeError},
        settings::{self, Identity},
    },
    dump::{DumpConn, DumpOptions},
    error::{CollectorError, ConnError, SettingsProblems},
    sql::SideConn,
    status::{NodeState, StatusBoard},
};

/// A connection that lasted so long was a success, even if nothing happened on it.
const GOOD_CONNECTION: Duration = Duration::from_secs(60);

/// How often a node may seem to have lost transactions before that counts: a semi-synchronous commit is sent to replicas
/// before it enters `gtid_executed`.
const LOST_CHECKS: u32 = 5;

/// What the task is made of.
pub(crate) struct Task {
    pub(crate) config: CollectorConfig,
    pub(crate) items: mpsc::Sender<NodeBatch>,
    pub(crate) starts: mpsc::Sender<(NodeId, GtidSet)>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) board: StatusBoard,
    pub(crate) retry: Arc<Notify>,
    pub(crate) shutdown: CancellationToken,
    /// `None` until the first start has been decided.
    pub(crate) received: Option<GtidSet>,
}

/// Why a session ended without an error.
enum Ended {
    /// The service stops, or the merger is gone.
    Stop,
}

/// Failures in a row.
struct Failures {
    attempt: u32,
    since: SystemTime,
    lost_checks: u32,
    last_text: String,
}

impl Task {
    /// Runs until shutdown, or until nobody takes the items.
    pub(crate) async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.sessions() => {}
        }
        self.board.state(NodeState::Stopped);
    }

    async fn sessions(&mut self) {
        let mut failures: Option<Failures> = None;
        loop {
            let began = Instant::now();
            let before = self.received.clone();
            let error = match self.session(failures.is_some()).await {
                Ok(Ended::Stop) => return,
                Err(error) => error,
            };
            if self.received != before || began.elapsed() >= GOOD_CONNECTION {
                failures = None;
            }
            let f = failures.get_or_insert_with(|| Failures {
                attempt: 0,
                since: SystemTime::now(),
                lost_checks: 0,
                last_text: String::new(),
            });
            f.attempt += 1;
            if self.is_final(&error, f) {
                self.halt(error).await;
                failures = None;
            } else {
                self.wait(error, f).await;
            }
        }
    }

    fn is_final(&self, error: &CollectorError, failures: &mut Failures) -> bool {
        if matches!(error, CollectorError::Resume(ResumeError::Lost { .. })) {
            failures.lost_checks += 1;
            return failures.lost_checks >= LOST_CHECKS;
        }
        failures.lost_checks = 0;
        error.class() != ErrorClass::Retry
    }

    async fn halt(&mut self, error: CollectorError) {
        let name = self.config.name.as_str();
        tracing::error!(node = name, %error, "the node is not read any more until somebody has acted");
        self.board.state(NodeState::Halted {
            error: Arc::new(error),
        });
        self.retry.notified().await;
        tracing::info!(node = self.config.name, "told to try again");
    }

    async fn wait(&mut self, error: CollectorError, failures: &mut Failures) {
        let seed = u64::from(self.config.node.0) << 32 | u64::from(self.config.server_id);
        let delay = backoff::delay(failures.attempt - 1, seed, error.pace());
        let text = error.to_string();
        if text != failures.last_text {
            let node = self.config.name.as_str();
            let pace = error.pace();
            tracing::warn!(
                node,
                error = text,
                ?delay,
                ?pace,
                "the node cannot be read, trying again"
            );
            failures.last_text = text;
        }
        self.board.state(NodeState::Retrying {
            error: Arc::new(error),
            since: failures.since,
            attempt: failures.attempt,
            next_try: SystemTime::now() + delay,
        });
        tokio::select! {
            () = sleep(delay) => {}
            () = self.retry.notified() => {}
        }
    }

    /// One connection, from the checks to its end.
    async fn session(&mut self, failed_before: bool) -> Result<Ended, CollectorError> {
        if !failed_before {
            self.board.state(NodeState::Connecting);
        }
        let mut side = SideConn::connect(&self.config.url).await?;
        if !failed_before {
            self.board.state(NodeState::Checking);
        }
        let uuid = self.check_settings(&mut side).await?;
        self.check_sets(&mut side).await?;
        side.quit().await;
        let mut conn = DumpConn::connect(&self.config.url).await?;
        let streaming = conn.query("SELECT @@GLOBAL.server_uuid").await?;
        let streaming = streaming.into_iter().next().flatten().unwrap_or_default();
        if streaming != uuid {
            return Err(CollectorError::OtherServer {
                checked: uuid,
                streaming,
            });
        }
        let options = DumpOptions {
            server_id: self.config.server_id,
            replica_uuid: Some(self.config.replica_uuid),
            heartbeat: self.config.heartbeat,
            blocking: true,
        };
        let empty = GtidSet::new();
        conn.dump_gtid(&options, self.received.as_ref().unwrap_or(&empty))
            .await?;
        let mut assembler = Assembler::new(Arc::clone(&self.budget) as Arc<dyn Account>);
        let result = self.stream(&mut conn, &mut assembler).await;
        // Whole transactions in front of a failure are good.
        let flushed = if result.is_err() {
            self.flush(&mut assembler).await
        } else {
            Ok(None)
        };
        self.board.settle(assembler.seen());
        self.board.paused(false);
        if let Some(ended) = flushed? {
            return Ok(ended);
        }
        result
    }

    /// Settings, privileges, identity; the node's UUID.
    async fn check_settings(&mut self, side: &mut SideConn) -> Result<String, CollectorError> {
        let config = &self.config;
        let facts = side.facts().await?;
        self.board.version(facts.get("version"));
        let (server_id, uuid) = (config.server_id, Some(config.replica_uuid));
        let ours = Identity {
            name: String::new(),
            server_id,
            uuid,
        };
        let problems = settings::check(&facts, &config.name, &ours, &config.identities.all());
        config.identities.put(facts.identity(&config.name));
        if problems.is_empty() {
            return Ok(facts.get("server_uuid").to_owned());
        }
        Err(CollectorError::Settings(SettingsProblems(problems)))
    }

    /// Decides where to begin, or whether to go on is possible.
    async fn check_sets(&mut self, side: &mut SideConn) -> Result<(), CollectorError> {
        let sets = side.gtid_sets().await?;
        if let Some(received) = &self.received {
            return Ok(resume::check(received, &sets.executed, &sets.purged)?);
        }
        let start = resume::before_start(&self.config.start, &sets.executed, &sets.purged);
        resume::check(&start, &sets.executed, &sets.purged)?;
        let gtids = start.to_text_oneline();
        tracing::info!(
            node = self.config.name,
            before = gtids,
            "the node is read for the first time"
        );
        // Nobody there: the next batch will find that out.
        let _ = self.starts.send((self.config.node, start.clone())).await;
        self.received = Some(start);
        Ok(())
    }

    async fn stream(
        &mut self,
        conn: &mut DumpConn,
        assembler: &mut Assembler,
    ) -> Result<Ended, CollectorError> {
        let mut streaming = false;
        loop {
            let enough = self.take_events(conn, assembler)?;
            if !streaming && assembler.seen().events > 0 {
                streaming = true;
                tracing::info!(node = self.config.name, pos = %assembler.pos(), "reading the node's binlog");
                self.board.state(NodeState::Streaming);
            }
            if enough || !self.budget.has_room(assembler.open_pinned()) {
                if let Some(ended) = self.flush(assembler).await? {
                    return Ok(ended);
                }
                self.wait_for_room(assembler).await;
                continue;
            }
            if conn.try_fill().await? {
                continue;
            }
            if let Some(ended) = self.flush(assembler).await? {
                return Ok(ended);
            }
            self.wait_for_bytes(conn).await?;
        }
    }

    /// Assembles what is in the receive buffer; `true` when there is enough to hand on before the buffer is empty.
    fn take_events(
        &mut self,
        conn: &mut DumpConn,
        assembler: &mut Assembler,
    ) -> Result<bool, CollectorError> {
        while let Some(event) = conn.poll_event()? {
            assembler.handle(&event)?;
            if matches!(
                event.header.event_type,
                EventType::HEARTBEAT | EventType::HEARTBEAT_V2
            ) {
                self.board.heartbeat();
            }
            if assembler.pending_bytes() >= limits::CHUNK_BYTES
                || assembler.pending_items() >= limits::BATCH_ITEMS_MAX
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Hands on what is finished.
    async fn flush(&mut self, assembler: &mut Assembler) -> Result<Option<Ended>, CollectorError> {
        let mut items = assembler.take();
        let mut duplicate = None;
        let received = self.received.get_or_insert_default();
        for (i, item) in items.iter().enumerate() {
            if let NodeItem::Txn(txn) = item
                && !received.add(txn.gtid)
            {
                let (gtid, pos) = (txn.gtid, txn.end);
                duplicate = Some((i, CollectorError::Duplicate { gtid, pos }));
                break;
            }
        }
        if let Some((i, _)) = &duplicate {
            items.truncate(*i);
        }
        self.board
            .seen(assembler.seen(), assembler.pos(), self.budget.used());
        self.board.refresh(received);
        if !items.is_empty() {
            let batch = NodeBatch {
                node: self.config.node,
                items,
            };
            if self.items.send(batch).await.is_err() {
                return Ok(Some(Ended::Stop));
            }
        }
        duplicate.map_or(Ok(None), |(_, error)| Err(error))
    }

    async fn wait_for_room(&mut self, assembler: &Assembler) {
        let open = assembler.open_pinned();
        if self.budget.has_room(open) {
            return;
        }
        self.board.paused(true);
        self.budget.room(open).await;
        self.board.paused(false);
    }

    /// Waits for the socket, and makes the status visible meanwhile.
    async fn wait_for_bytes(&mut self, conn: &mut DumpConn) -> Result<(), ConnError> {
        let filling = conn.fill();
        tokio::pin!(filling);
        if self.board.is_dirty() {
            let due = self.board.due_in();
            if let Ok(result) = timeout(due, &mut filling).await {
                return result;
            }
            if let Some(received) = &self.received {
                self.board.received(received);
            }
        }
        filling.await
    }
}
