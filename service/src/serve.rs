//! `tributary serve`: wires the stages together and takes them apart again.
//!
//! In: a valid configuration. Out: a running service, until SIGTERM or SIGINT. The only file that knows all stages.
//!
//! Start: store (recovers, opens the dump port), admin, writer, merger, collectors. Stop, in data order: collectors stop
//! reading, the merger hands on what is due, the store makes it durable, dump clients are let go.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tributary_collector::{
    Collector, CollectorConfig, CollectorHandle, Identities, NodeUrl, Probe, Start, TlsMode,
};
use tributary_dump_server::Server;
use tributary_flow::{NodeId, NodeProgress, NodeTable, limits};
use tributary_merger::core::Merger;
use tributary_merger::{MergerHandle, MergerPorts};
use tributary_store::{GlobalLog, Opened, RealDisk, RocksKv, StoreOptions};

use crate::admin::{self, Sources};
use crate::clients;
use crate::config::{self, Config};
use crate::fence_log;
use crate::rebuild::{self, DATABASE_DIR};
use crate::telemetry;
use crate::writer::{self, WriterCounters};

/// Runs the service until it is told to stop.
pub(crate) fn run(config: Config) -> anyhow::Result<ExitCode> {
    telemetry::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let stop = Signals::install()?;
    let opened = open_store(&config).context("the data directory can not be used")?;
    let log = opened.log.clone();
    let (log_admin, requests) = writer::admin();
    let server = Server::new(
        clients::server_config(&config, Arc::new(log_admin))?,
        log.clone(),
    );
    let listener = bind(config.server.listen, "server.listen").await?;
    let admin_listener = bind(config.admin.listen, "admin.listen").await?;
    let clients_stop = CancellationToken::new();
    let clients = tokio::spawn(server.clone().run(listener, clients_stop.clone()));

    let counters = Arc::new(WriterCounters::default());
    let pipeline = Pipeline::start(&config, opened, requests, counters.clone())?;
    let sources = Sources {
        cluster: config.cluster.name.clone(),
        order: config.cluster.order,
        started: Instant::now(),
        table: pipeline.table.clone(),
        addresses: config
            .nodes
            .iter()
            .map(|n| format!("{}:{}", n.host, n.port))
            .collect(),
        collectors: pipeline
            .collectors
            .iter()
            .map(CollectorHandle::status)
            .collect(),
        merger: Box::new(pipeline.merger.status_reader()),
        log: log.clone(),
        server: server.clone(),
        writer: counters,
    };
    let admin = tokio::spawn(admin::serve(
        admin_listener,
        Arc::new(sources),
        clients_stop.clone(),
    ));
    tracing::info!(
        server = %config.server.listen, admin = %config.admin.listen, uuid = %log.server_uuid(), durable = %log.durable().file,
        "serving"
    );

    stop.wait().await;
    tracing::info!("stopping: making durable what is merged");
    pipeline.stop().await?;
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

fn open_store(config: &Config) -> anyhow::Result<Opened> {
    let dir = &config.store.data_dir;
    std::fs::create_dir_all(dir)
        .with_context(|| format!("{} can not be created", dir.display()))?;
    let disk = Arc::new(RealDisk::open(dir)?);
    let mut uuid = [0; 16];
    getrandom::fill(&mut uuid)
        .map_err(|e| anyhow::anyhow!("no randomness for a server UUID: {e}"))?;
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let options = StoreOptions {
        base_name: "binlog".into(),
        max_binlog_size: config.store.max_binlog_size,
        server_id: config.server.server_id,
        server_version: config.server.version.clone(),
        new_uuid: tributary_binlog::Sid(uuid),
        now_seconds: now as u32,
    };
    let database = dir.join(DATABASE_DIR);
    let claim = tributary_store::claim(disk, options, database.is_dir())?;
    let opened = claim.open(Arc::new(RocksKv::open(&database)?))?;
    if let Some(problem) = rebuild::unknown_progress(config, &opened) {
        anyhow::bail!(problem);
    }
    if let Some((file, bytes)) = &opened.truncated {
        tracing::info!(%file, bytes, "recovered: bytes behind the last checkpoint were cut; no client has seen them");
    }
    Ok(opened)
}

/// Collectors, merger and store's thread.
struct Pipeline {
    table: NodeTable,
    collectors: Vec<CollectorHandle>,
    merger: MergerHandle,
    store: std::thread::JoinHandle<()>,
    stop: CancellationToken,
}

impl Pipeline {
    fn start(
        config: &Config,
        opened: Opened,
        requests: mpsc::Receiver<writer::Request>,
        counters: Arc<WriterCounters>,
    ) -> anyhow::Result<Self> {
        let log = opened.log;
        let table = NodeTable::new(config.nodes.iter().map(|n| n.name.clone()));
        let checkpoint = opened.checkpoint.unwrap_or_default();
        let last_gno = log.durable().last_gno;
        let stop = CancellationToken::new();
        let (items_in, items) = mpsc::channel(ITEM_BATCHES);
        let (answers_in, fence_answers) = mpsc::channel(table.len() * 2);
        let (starts_in, starts) = mpsc::channel(table.len());
        let (out, batches) = mpsc::channel(limits::MERGED_BATCHES_MAX);
        let (mut fences, mut collectors) = (Vec::new(), Vec::new());
        let identities = Identities::default();
        for (node, (id, name)) in config.nodes.iter().zip(table.iter()) {
            let (fence_in, fence_out) = mpsc::channel(2);
            fences.push(fence_in);
            collectors.push(Collector::spawn(
                collector_config(config, node, id, &log, identities.clone()),
                // An empty progress is that of a node that was never reached.
                checkpoint
                    .nodes
                    .get(name)
                    .filter(|p| **p != NodeProgress::default())
                    .cloned(),
                tributary_collector::Ports {
                    items: items_in.clone(),
                    starts: starts_in.clone(),
                    fences: fence_out,
                    fence_answers: answers_in.clone(),
                    semi_sync: None,
                },
                stop.clone(),
            ));
        }
        let overdrafts: Vec<_> = collectors.iter().map(CollectorHandle::overdraft).collect();
        let ports = MergerPorts {
            items,
            starts,
            fence_answers,
            fences,
            out,
            overdraft: Box::new(move |node| overdrafts[node.index()].grant(OVERDRAFT_BYTES)),
            warn_after: config.cluster.warn_blocked_after,
            on_fence: fence_log::open(config)?,
        };
        let merger = tributary_merger::spawn(
            table.clone(),
            Merger::new(table.clone(), config.cluster.order, &checkpoint, last_gno),
            ports,
        )?;
        let store = writer::spawn(
            opened.writer,
            batches,
            requests,
            &config.store,
            stop.clone(),
            counters,
        )?;
        Ok(Self {
            table,
            collectors,
            merger,
            store,
            stop,
        })
    }

    /// Stops in data order; returns when everything merged is durable.
    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        for collector in self.collectors {
            collector.join().await;
        }
        let threads = tokio::task::spawn_blocking(move || (self.merger.join(), self.store.join()));
        match threads.await? {
            (Ok(()), Ok(())) => Ok(()),
            (Err(_), _) => anyhow::bail!("the merger panicked"),
            (_, Err(_)) => anyhow::bail!("the store's thread panicked"),
        }
    }
}

/// Batches on their way from collectors to the merger, whatever their size: their bytes are bounded by each collector.
const ITEM_BATCHES: usize = 256;
/// What a collector that holds back all others may read beyond its budget at a time.
const OVERDRAFT_BYTES: usize = 8 << 20;

fn collector_config(
    config: &Config,
    node: &config::Node,
    id: NodeId,
    log: &GlobalLog,
    identities: Identities,
) -> CollectorConfig {
    let server_id = config.server.server_id;
    let servers = vec![node_url(node)];
    CollectorConfig {
        heartbeat: HEARTBEAT,
        start: match &node.start {
            config::Start::Current => Start::Current,
            config::Start::Earliest => Start::Earliest,
            config::Start::Gtids(set) => Start::Gtids(set.clone()),
        },
        bytes_max: limits::NODE_BYTES_MAX,
        identities,
        ..CollectorConfig::new(id, &node.name, servers, server_id, log.server_uuid())
    }
}

fn node_url(node: &config::Node) -> NodeUrl {
    NodeUrl {
        host: node.host.clone(),
        port: node.port,
        user: node.user.clone(),
        password: node.password.0.clone(),
        tls: match node.tls {
            config::Tls::Disabled => TlsMode::Disabled,
            config::Tls::Preferred => TlsMode::Preferred,
            config::Tls::Required => TlsMode::Required,
        },
        ca: node.tls_ca.clone(),
    }
}

/// What `tributary check` asks the nodes.
pub(crate) fn node_probe(config: &Config) -> Probe {
    Probe {
        nodes: config
            .nodes
            .iter()
            .map(|n| (n.name.clone(), node_url(n)))
            .collect(),
        server_id: config.server.server_id,
        uuid: None,
    }
}

/// How often a node without news says that it is alive.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(5);

/// SIGTERM and SIGINT.
struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
