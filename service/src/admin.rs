//! The admin interface: `/healthz`, `/readyz`, `/status`, `/metrics`.
//!
//! In: what the stages tell about themselves. Out: HTTP. Reads only; no authentication, so it listens on loopback unless told
//! otherwise.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tributary_collector::{NodeState, NodeStatus as CollectorStatus};
use tributary_dump_server::Server;
use tributary_flow::{NodeTable, OrderMode};
use tributary_merger::MergerStatus;
use tributary_store::GlobalLog;

use crate::metrics;
use crate::status::{self, ClientStatus, NodeStatus, Status, StoreStatus};
use crate::writer::WriterCounters;

/// Where the status comes from.
pub(crate) struct Sources {
    pub(crate) cluster: String,
    pub(crate) order: OrderMode,
    pub(crate) started: Instant,
    pub(crate) table: NodeTable,
    pub(crate) addresses: Vec<String>,
    pub(crate) collectors: Vec<watch::Receiver<CollectorStatus>>,
    pub(crate) merger: Box<dyn Fn() -> MergerStatus + Send + Sync>,
    pub(crate) log: GlobalLog,
    pub(crate) server: Arc<Server>,
    pub(crate) writer: Arc<WriterCounters>,
}

/// Serves until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    sources: Arc<Sources>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(|| async { "ready\n" }))
        .route(
            "/status",
            get(|State(s): State<Arc<Sources>>| async move { Json(s.status()) }),
        )
        .route("/metrics", get(scrape))
        .with_state(sources);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await
}

/// 200 while transactions flow or wait for something that may come; 503 when an operator must act.
async fn healthz(State(sources): State<Arc<Sources>>) -> (StatusCode, String) {
    let state = sources.status().state;
    let code = if state == "running" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, state + "\n")
}

async fn scrape(State(sources): State<Arc<Sources>>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        metrics::render(&sources.status(), &sources.server.counters()),
    )
}

impl Sources {
    fn status(&self) -> Status {
        let merger = (self.merger)();
        let nodes: Vec<NodeStatus> = (self.table.iter().zip(&self.collectors))
            .map(|((id, name), collector)| {
                self.node(
                    name,
                    &self.addresses[id.index()],
                    &collector.borrow(),
                    &merger,
                )
            })
            .collect();
        let halted = merger.halted.as_ref().map(ToString::to_string);
        let halted_node = nodes.iter().find(|n| n.state == "halted");
        let state = match (&halted, halted_node) {
            (Some(reason), _) => format!("halted: {reason}"),
            (None, Some(n)) => format!(
                "halted: node {}: {}",
                n.name,
                n.error.as_deref().unwrap_or("")
            ),
            _ if self.writer.full_since_ms.load(Relaxed) > 0 => {
                "disk full: the nodes are not read until there is space".into()
            }
            _ => "running".into(),
        };
        Status {
            cluster: self.cluster.clone(),
            order: match self.order {
                OrderMode::Tso => "tso",
                OrderMode::Causal => "causal",
            }
            .into(),
            state,
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: self.started.elapsed().as_secs(),
            nodes,
            merger: merger_status(merger, halted),
            store: self.store(),
            dump_clients: self.clients(),
        }
    }

    fn node(
        &self,
        name: &str,
        address: &str,
        c: &CollectorStatus,
        merger: &MergerStatus,
    ) -> NodeStatus {
        let merged = merger
            .nodes
            .iter()
            .find(|n| n.name == name)
            .cloned()
            .unwrap_or_default();
        let (state, error) = describe(&c.state);
        let newest_event_age_ms = age_ms(c);
        // A heartbeat behind the newest event: the node has nothing more to send.
        let idle = c
            .last_heartbeat
            .is_some_and(|at| at > since_epoch(c.last_event_timestamp));
        NodeStatus {
            name: name.to_owned(),
            address: address.to_owned(),
            state: state.to_owned(),
            error,
            position: merged.position.to_string(),
            gtids: c.received.clone(),
            watermark_tso: merged.watermark.micros(),
            unresolved_prepares: merged.unresolved,
            transactions: c.transactions,
            bytes: c.bytes,
            lag_ms: newest_event_age_ms.map(|age| if idle { 0 } else { age }),
            newest_event_age_ms,
        }
    }

    fn store(&self) -> StoreStatus {
        let durable = self.log.durable();
        StoreStatus {
            server_uuid: self.log.server_uuid().to_string(),
            durable_file: durable.file.to_string(),
            durable_offset: durable.offset,
            gtid_executed: self.log.gtid_executed().to_text_oneline(),
            gtid_purged: self.log.gtid_purged().to_text_oneline(),
            files: self.log.files().len(),
            transactions: self.writer.transactions.load(Relaxed),
            commits: self.writer.commits.load(Relaxed),
            commit_micros: self.writer.commit_micros.load(Relaxed),
            damaged: (self.log.damaged().into_iter())
                .map(|d| format!("{}:{}: {}", d.file, d.pos, d.detail))
                .collect(),
        }
    }

    fn clients(&self) -> Vec<ClientStatus> {
        (self.server.clients().into_iter())
            .map(|c| ClientStatus {
                position: c
                    .file
                    .map_or_else(String::new, |file| format!("{file}:{}", c.position)),
                id: c.id,
                user: c.user,
                host: c.host,
                command: c.command,
                program: c.program.unwrap_or_default(),
                server_id: c.server_id,
                uuid: c.uuid.unwrap_or_default(),
                caught_up: c.caught_up,
                seconds: c.command_seconds,
            })
            .collect()
    }
}

/// How long ago the newest event was written, by its own timestamp; `None` before the first.
fn age_ms(c: &CollectorStatus) -> Option<u64> {
    let age = SystemTime::now().duration_since(since_epoch(c.last_event_timestamp));
    (c.last_event_timestamp > 0).then(|| age.map_or(0, |age| age.as_millis() as u64))
}

fn since_epoch(seconds: u32) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.into())
}

fn describe(state: &NodeState) -> (&'static str, Option<String>) {
    match state {
        NodeState::Connecting => ("connecting", None),
        NodeState::Checking => ("checking", None),
        NodeState::Streaming => ("streaming", None),
        NodeState::Retrying { error, attempt, .. } => (
            "retrying",
            Some(format!("{error} (failed {attempt} times)")),
        ),
        NodeState::Halted { error } => ("halted", Some(error.to_string())),
        NodeState::Stopped => ("stopped", None),
    }
}

fn merger_status(m: MergerStatus, halted: Option<String>) -> status::MergerStatus {
    let blocked = (m.blocked.into_iter())
        .map(|b| status::Blocked {
            node: b.node().unwrap_or("").to_owned(),
            on: b.kind().to_owned(),
            what: b.what(),
            advice: b.advice(),
            since_ms: b.since_ms,
        })
        .collect();
    status::MergerStatus {
        transactions: m.transactions,
        bytes: m.bytes,
        watermark: m.last_tso.micros(),
        waiting: m.waiting,
        fences: m.fences,
        orphans: m.orphans,
        untimed: m.untimed,
        heuristics: m.heuristics,
        blocked,
        halted,
    }
}
