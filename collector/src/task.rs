//! One node's collector over its sessions: comes back after failures, halts where going on could lose data.
//!
//! In: the node's configuration, the progress that is durable, a byte budget. Out: [`NodeBatch`]es of whole transactions,
//! each GTID once. A single connection is the business of [`crate::session`].
//!
//! Progress: `received` holds what was done when the collector was started and everything handed on since; it is the set a
//! new connection asks with.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tributary_binlog::GtidSet;
use tributary_flow::{ErrorClass, NodeBatch, NodeId, NodeStart};

use crate::{
    budget::Budget,
    config::CollectorConfig,
    core::{
        acks::Acks,
        backoff::{self, Pace},
        choice::Errants,
        early::Early,
        place::Places,
        trouble::TroubleKind,
    },
    error::CollectorError,
    fences::Serving,
    observe,
    session::Ended,
    source::SemiSync,
    status::{NodeState, StatusBoard},
};

/// A connection that lasted so long was a success, even if nothing happened on it.
const GOOD_CONNECTION: Duration = Duration::from_secs(60);

/// How often a node may seem to have lost transactions before that counts: a semi-synchronous commit is sent to replicas
/// before it enters `gtid_executed`.
const LOST_CHECKS: u32 = 5;

/// A failover group is asked at least so often which of its servers is the primary.
const GROUP_DELAY_MAX: Duration = Duration::from_secs(1);

/// What the task is made of.
pub(crate) struct Task {
    pub(crate) config: CollectorConfig,
    pub(crate) items: mpsc::Sender<NodeBatch>,
    pub(crate) starts: mpsc::Sender<(NodeId, NodeStart)>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) board: StatusBoard,
    pub(crate) retry: Arc<Notify>,
    pub(crate) shutdown: CancellationToken,
    /// `None` until the first start has been decided.
    pub(crate) received: Option<GtidSet>,
    pub(crate) semi_sync: Option<SemiSync>,
    pub(crate) acks: Acks,
    /// What a semi-synchronous node has not finished committing, because it waits for our answer.
    pub(crate) early: Option<Early>,
    pub(crate) places: Places,
    /// The server that is read, for fences.
    pub(crate) serve: watch::Sender<Option<Serving>>,
    /// Errant transactions on the servers of the group.
    pub(crate) errants: Arc<Mutex<Errants>>,
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
        self.board.notes().keep_only(&[]);
        self.board.state(NodeState::Stopped);
    }

    async fn sessions(&mut self) {
        let mut failures: Option<Failures> = None;
        loop {
            let began = Instant::now();
            let before = self.received.clone();
            let error = match Box::pin(self.session(failures.is_some())).await {
                Ok(Ended::Stop) => return,
                Err(error) => error,
            };
            // What was seen beside the stream is not looked at any more.
            self.board.notes().keep_only(&observe::LASTING);
            if error.trouble() == TroubleKind::DumpStolen {
                let notes = self.board.notes();
                notes.begin(TroubleKind::DumpStolen, error.to_string());
            }
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
            if !is_final(&error, f) {
                self.wait(error, f).await;
            } else if self.halt(error, f).await {
                failures = None;
            }
        }
    }

    /// Stays halted until somebody says so (true), or until it is time to ask the node again.
    async fn halt(&mut self, error: CollectorError, failures: &mut Failures) -> bool {
        let name = self.config.name.as_str();
        let text = error.to_string();
        if text != failures.last_text {
            let (trouble, advice) = (error.trouble().name(), error.trouble().advice());
            tracing::error!(
                node = name,
                error = text,
                trouble,
                advice,
                "the node is not read any more until somebody has acted"
            );
            failures.last_text = text;
        }
        let ask_again = error.can_be_asked_again();
        self.board.state(NodeState::Halted {
            error: Arc::new(error),
        });
        tokio::select! {
            () = self.retry.notified() => {
                tracing::info!(node = self.config.name, "told to try again");
                true
            }
            () = sleep(self.config.recheck_every), if ask_again => false,
        }
    }

    async fn wait(&mut self, error: CollectorError, failures: &mut Failures) {
        let seed = u64::from(self.config.node.0) << 32 | u64::from(self.config.server_id);
        let pace = error.pace();
        let mut delay = backoff::delay(failures.attempt - 1, seed, pace);
        if self.config.is_group() && pace == Pace::Fast {
            delay = delay.min(GROUP_DELAY_MAX);
        }
        let text = error.to_string();
        if text != failures.last_text {
            let node = self.config.name.as_str();
            let trouble = error.trouble().name();
            tracing::warn!(
                node,
                error = text,
                trouble,
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
}

fn is_final(error: &CollectorError, failures: &mut Failures) -> bool {
    if error.may_be_early() {
        failures.lost_checks += 1;
        return failures.lost_checks >= LOST_CHECKS;
    }
    failures.lost_checks = 0;
    error.class() != ErrorClass::Retry
}
