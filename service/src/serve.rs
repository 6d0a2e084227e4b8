//! `tributary serve`: wires the stages together and takes them apart again.
//!
//! In: a valid configuration. Out: a running service, until SIGTERM or SIGINT; SIGHUP reads the configuration again.
//!
//! Start: store (recovers), dump port, admin, store's thread, pipeline. Stop, in data order: collectors stop reading, the
//! merger hands on what is due, the store makes it durable, dump clients are let go.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tributary_dump_server::Server;
use tributary_flow::Spilling;
use tributary_store::{GlobalLog, NodeSetChange};

use crate::admin::{self, Sources};
use crate::clients;
use crate::config::{self, Config};
use crate::directory;

use crate::node_set;
use crate::orders::{Command, Order};
use crate::pipeline::Spec;
use crate::routes;
use crate::schema::DurableSchema;
use crate::supervisor::Supervisor;
use crate::telemetry;
use crate::writer::{self, WriterCounters, WriterStart};

/// Runs the service until it is told to stop. `path` is where the configuration came from.
pub(crate) fn run(config: Config, path: &Path) -> anyhow::Result<ExitCode> {
    telemetry::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(config, path))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config, path: &Path) -> anyhow::Result<()> {
    let mut signals = Signals::install()?;
    let (opened, schema) =
        directory::open(&config).context("the data directory can not be used")?;
    let log = opened.log.clone();
    let (log_admin, requests) = writer::admin();
    let schema = Arc::new(schema);
    let mut dump = clients::server_config(&config, Arc::new(log_admin.clone()))?;
    dump.catalog = schema.clone();
    let server = Server::new(dump, log.clone());
    let listener = bind(config.server.listen, "server.listen").await?;
    let admin_listener = bind(config.admin.listen, "admin.listen").await?;
    let clients_stop = CancellationToken::new();
    let clients = tokio::spawn(server.clone().run(listener, clients_stop.clone()));

    let spilling = directory::spilling(&config.store)?;
    let base = path.parent().unwrap_or(Path::new(".")).to_owned();
    let read = |definition: &serde_json::Value| config::node_from(definition, &base);
    let nodes = node_set::reconcile(opened.nodes.clone(), config.nodes.clone(), read);
    let mut nodes = nodes.map_err(anyhow::Error::msg)?;
    let mut first = spec(&config, &log, &base, (&spilling, &schema));
    first.nodes.clone_from(&nodes.nodes);
    let about_routes = routes::effective(&mut nodes.set, &mut first).map_err(anyhow::Error::msg)?;
    for warning in nodes.warnings.iter().chain(&about_routes) {
        tracing::warn!("{warning}");
    }
    let mut writer = opened.writer;
    if opened.nodes.as_ref() != Some(&nodes.set) {
        writer.change_nodes(NodeSetChange {
            nodes: nodes.set.clone(),
            ..NodeSetChange::default()
        })?;
    }
    let counters = Arc::new(WriterCounters::default());
    let store = writer::spawn(WriterStart {
        writer,
        checkpoint: opened.checkpoint.unwrap_or_default(),
        requests,
        config: &config.store,
        counters: counters.clone(),
        schema: schema.clone(),
    })?;
    let supervisor = Supervisor::start(first, nodes, store, log_admin, log.clone())?;
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    let sources = Sources {
        cluster: config.cluster.name.clone(),
        order: config.cluster.order,
        started: Instant::now(),
        view: supervisor.view(),
        log: log.clone(),
        server: server.clone(),
        writer: counters,
        schema: schema.clone(),
        orders: orders.clone(),
        base: base.clone(),
    };
    let admin = tokio::spawn(admin::serve(
        admin_listener,
        Arc::new(sources),
        clients_stop.clone(),
    ));
    let pipeline_stop = CancellationToken::new();
    let supervised = tokio::spawn(supervisor.run(ordered, pipeline_stop.clone()));
    tracing::info!(
        server = %config.server.listen, admin = %config.admin.listen, uuid = %log.server_uuid(), durable = %log.durable().file,
        "serving"
    );

    while signals.next().await == Wanted::Reload {
        if let Some(config) = read_again(path) {
            // The supervisor logs what came of it; it is gone only when the service stops.
            let (answer, _) = oneshot::channel();
            let command =
                Command::Reload(Box::new(spec(&config, &log, &base, (&spilling, &schema))));
            if orders.try_send(Order { command, answer }).is_err() {
                tracing::error!("too much is being changed; send SIGHUP again later");
            }
        }
    }
    pipeline_stop.cancel();
    supervised.await.context("the supervisor")??;
    clients_stop.cancel();
    let (clients, admin) = tokio::join!(clients, admin);
    clients.context("the dump server")?;
    admin.context("the admin interface")??;
    tracing::info!(durable = %log.durable().file, "stopped");
    Ok(())
}

async fn bind(address: std::net::SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{key}: can not listen on {address}"))
}

/// Orders that may wait for the one that is being carried out.
const ORDERS_MAX: usize = 16;

fn spec(
    config: &Config,
    log: &GlobalLog,
    base: &Path,
    (spilling, known): (&Spilling, &Arc<DurableSchema>),
) -> Spec {
    Spec {
        cluster: config.cluster.clone(),
        nodes: config.nodes.clone(),
        server_id: config.server.server_id,
        uuid: log.server_uuid(),
        base: base.to_owned(),
        spilling: spilling.clone(),
        schema: config.schema.clone(),
        routes: config.routes.clone(),
        file_routes: config.routes.clone(),
        known: known.clone(),
    }
}

/// The configuration as it is now, if it is valid.
fn read_again(path: &Path) -> Option<Config> {
    match Config::load(path) {
        Ok(config) => {
            for warning in &config.warnings {
                tracing::warn!("{warning}");
            }
            Some(config)
        }
        Err(problems) => {
            for problem in &problems.lines {
                tracing::error!(%problem, "the configuration is not valid; nothing is changed");
            }
            None
        }
    }
}

/// SIGTERM, SIGINT and SIGHUP.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

#[derive(PartialEq, Eq)]
enum Wanted {
    Stop,
    Reload,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.term.recv() => Wanted::Stop,
            _ = self.int.recv() => Wanted::Stop,
            _ = self.hup.recv() => Wanted::Reload,
        }
    }
}
