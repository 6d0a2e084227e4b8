//! The admin interface: `/healthz`, `/readyz`, `/status`, `/metrics`, `/schema`, `/nodes`.
//!
//! In: what the stages tell about themselves; an operator's orders. Out: HTTP; orders for the supervisor. No authentication, so it
//! listens on loopback unless told otherwise. Orders are JSON documents, which a web page of another origin can not send.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tributary_dump_server::Server;
use tributary_flow::OrderMode;
use tributary_merger::MergerStatus;
use tributary_schema::{History, Participant, PendingStatement};
use tributary_store::GlobalLog;

use crate::config;
use crate::metrics;
use crate::node_status;
use crate::orders::{Command, NewRoutes, Order};
use crate::schema::{DurableSchema, show};
use crate::status::{self, ClientStatus, NodeStatus, Status, StoreStatus};
use crate::view::View;
use crate::writer::WriterCounters;

/// Where the status comes from.
pub(crate) struct Sources {
    pub(crate) cluster: String,
    pub(crate) order: OrderMode,
    pub(crate) started: Instant,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) log: GlobalLog,
    pub(crate) server: Arc<Server>,
    pub(crate) writer: Arc<WriterCounters>,
    pub(crate) schema: Arc<DurableSchema>,
    /// To the supervisor.
    pub(crate) orders: mpsc::Sender<Order>,
    /// What relative paths of an order are relative to.
    pub(crate) base: PathBuf,
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
        .route("/schema", get(schema_show))
        .route("/schema/diff", get(schema_diff))
        .route(
            "/nodes",
            get(|State(s): State<Arc<Sources>>| async move { Json(s.view.borrow().set.clone()) }),
        )
        .route("/nodes/{what}", post(change_nodes))
        .route(
            "/routes",
            get(
                |State(s): State<Arc<Sources>>| async move { Json(s.view.borrow().routes.clone()) },
            ),
        )
        .route("/routes/set", post(set_routes))
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

/// The fields of a question.
fn fields(uri: &Uri) -> BTreeMap<String, String> {
    let query = uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}

fn answer(text: Result<String, String>) -> (StatusCode, String) {
    match text {
        Ok(text) => (StatusCode::OK, text),
        Err(wrong) => (StatusCode::BAD_REQUEST, wrong + "\n"),
    }
}

async fn schema_show(State(sources): State<Arc<Sources>>, uri: Uri) -> (StatusCode, String) {
    let fields = fields(&uri);
    let field = |name| fields.get(name).map(String::as_str);
    let shown = |history: &History| show::show(history, field("table"), field("at"));
    answer(sources.schema.with(shown))
}

async fn schema_diff(State(sources): State<Arc<Sources>>, uri: Uri) -> (StatusCode, String) {
    let fields = fields(&uri);
    let field = |name| fields.get(name).map(String::as_str);
    let Some(from) = field("from") else {
        return answer(Err(
            "`from` is missing: a GTID, a commit timestamp or a time".into(),
        ));
    };
    let shown = |history: &History| show::differences(history, field("table"), from, field("to"));
    answer(sources.schema.with(shown))
}

async fn scrape(State(sources): State<Arc<Sources>>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        metrics::render(&sources.status(), &sources.server.counters()),
    )
}

/// Has the nodes changed, and answers when that is done.
async fn change_nodes(
    State(sources): State<Arc<Sources>>,
    Path(what): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    match command(&what, body, &sources.base) {
        Ok(command) => carried_out(&sources, command).await,
        Err(problem) => (StatusCode::BAD_REQUEST, problem + "\n").into_response(),
    }
}

async fn set_routes(State(sources): State<Arc<Sources>>, Json(body): Json<Value>) -> Response {
    match routes_command(body) {
        Ok(command) => carried_out(&sources, command).await,
        Err(problem) => (StatusCode::BAD_REQUEST, problem + "\n").into_response(),
    }
}

fn routes_command(body: Value) -> Result<Command, String> {
    let new: NewRoutes = serde_json::from_value(body).map_err(|e| e.to_string())?;
    let rules = config::rules_from(&new.rules).map_err(|e| e.to_string())?;
    Ok(Command::Routes(new, rules))
}

/// The supervisor's answer to a command.
async fn carried_out(sources: &Sources, command: Command) -> Response {
    let stopping =
        || (StatusCode::SERVICE_UNAVAILABLE, "the service is stopping\n").into_response();
    let (answer, answered) = oneshot::channel();
    if sources
        .orders
        .send(Order { command, answer })
        .await
        .is_err()
    {
        return stopping();
    }
    match answered.await {
        Ok(Ok(done)) => Json(done).into_response(),
        Ok(Err(why)) => (StatusCode::CONFLICT, why + "\n").into_response(),
        Err(_) => stopping(),
    }
}

fn command(what: &str, body: Value, base: &std::path::Path) -> Result<Command, String> {
    let node = |body: &Value| config::node_from(body, base).map_err(|e| e.to_string());
    Ok(match what {
        "add" => Command::Add(Box::new(node(&body)?), body),
        "replace" => Command::Replace(Box::new(node(&body)?), body),
        "remove" => Command::Remove(serde_json::from_value(body).map_err(|e| e.to_string())?),
        "rename" => Command::Rename(serde_json::from_value(body).map_err(|e| e.to_string())?),
        _ => return Err("want add, remove, replace or rename".into()),
    })
}

impl Sources {
    fn status(&self) -> Status {
        let view = Arc::clone(&self.view.borrow());
        let merger = view.before.with((view.merger)());
        let nodes: Vec<NodeStatus> = (view.nodes.iter())
            .map(|node| node_status::of(node, &merger, &view.before))
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
            joining: view.joining.clone(),
            last_change: view.set.changes.last().cloned(),
            merger: merger_status(merger, halted),
            store: self.store(),
            dump_clients: self.clients(),
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
                position: place(c.file, c.position),
                semi_sync: c.semi_sync,
                acknowledged: place(c.acknowledged_file, c.acknowledged_position),
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

/// `binlog.000002:1234`, or nothing.
fn place(file: Option<String>, position: u64) -> String {
    file.map_or_else(String::new, |file| format!("{file}:{position}"))
}

fn waiting_statement(s: &PendingStatement) -> status::WaitingStatement {
    let shown = |all: &[Participant]| {
        let names = all.iter().map(|p| match p.table.as_str() {
            "" => format!("{}: {}", p.node, p.schema),
            table => format!("{}: {}.{table}", p.node, p.schema),
        });
        names.collect()
    };
    status::WaitingStatement {
        tables: s.tables.clone(),
        statement: s.statement.clone(),
        downstream: s.emitted,
        have: shown(&s.have),
        missing: shown(&s.missing),
        since_ms: s.since / 1000,
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
    let kept = (m.kept.into_iter())
        .map(|k| status::KeptBranch {
            node: k.node,
            xid: k.xid.to_string(),
            gtid: k.gtid.to_string(),
            prepared_ms: k.prepared_at / 1000,
            bytes: k.bytes,
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
        statements: m.statements.iter().map(waiting_statement).collect(),
        local_statements: m.local_statements,
        rewritten: m.rewritten,
        kept,
        halted,
    }
}
