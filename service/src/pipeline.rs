//! Collectors and merger: what can be taken apart and put together again while the service runs.
//!
//! In: a [`Spec`], the merger's state to go on from, the store's thread. Out: batches for the store; a [`View`] for the
//! status. The store, the dump server and the clients do not notice when one pipeline follows another: the new one goes on
//! behind the last commit, as after a restart of the process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tributary_binlog::Sid;
use tributary_collector::{
    Collector, CollectorConfig, CollectorHandle, Identities, NodeUrl, Probe, SemiSync, Start,
    TlsMode, XaAcks,
};
use tributary_flow::{
    Checkpoint, KeptBranch, KeyClass, NodeId, NodeProgress, NodeSet, NodeTable, OrderKey, Spilling,
    limits,
};
use tributary_merger::core::Merger;
use tributary_merger::{MergerHandle, MergerPorts};
use tributary_schema::SchemaRules;

use crate::config;
use crate::durable_sets;
use crate::fence_log;
use crate::schema::DurableSchema;
use crate::view::{NodeView, Totals, View};
use crate::writer::WriterHandle;

/// Batches on their way from collectors to the merger, whatever their size: their bytes are bounded by each collector.
const ITEM_BATCHES: usize = 256;
/// What a collector that holds back all others may read beyond its budget at a time.
const OVERDRAFT_BYTES: usize = 8 << 20;
/// How often a node without news says that it is alive.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(5);

/// What a pipeline is made from: everything that may change while the service runs.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// What is merged, and how.
    pub(crate) cluster: config::Cluster,
    /// The nodes, sorted by name.
    pub(crate) nodes: Vec<config::Node>,
    /// `server_id` of the service as a replica of the nodes.
    pub(crate) server_id: u32,
    /// Its UUID.
    pub(crate) uuid: Sid,
    /// What relative paths of a node's definition are relative to.
    pub(crate) base: PathBuf,
    /// Where what is too large for memory lies until it is in the log.
    pub(crate) spilling: Spilling,
    /// Which tables become which.
    pub(crate) schema: SchemaRules,
    /// The same as it was written, in the configuration or to a command; and what the configuration has.
    pub(crate) routes: serde_json::Value,
    pub(crate) file_routes: serde_json::Value,
    /// What is known of them.
    pub(crate) known: Arc<DurableSchema>,
}

/// Where a pipeline goes on.
pub(crate) struct Resume<'a> {
    /// The state behind the last transaction that is durable.
    pub(crate) checkpoint: &'a Checkpoint,
    /// Number of that transaction.
    pub(crate) last_gno: u64,
    /// Names that nodes had before.
    pub(crate) renamed: &'a BTreeMap<String, String>,
    /// Branches that stay prepared for long, as they are kept then.
    pub(crate) branches: Vec<KeptBranch>,
}

/// A running pipeline.
pub(crate) struct Pipeline {
    table: NodeTable,
    collectors: Vec<CollectorHandle>,
    merger: MergerHandle,
    stop: CancellationToken,
}

impl Pipeline {
    /// Starts reading and merging. Must be called inside the runtime.
    pub(crate) fn start(
        spec: &Spec,
        resume: Resume<'_>,
        store: &WriterHandle,
    ) -> anyhow::Result<Self> {
        let table = NodeTable::new(spec.nodes.iter().map(|n| n.name.clone()));
        let stop = CancellationToken::new();
        let (items_in, items) = mpsc::channel(ITEM_BATCHES);
        let (answers_in, fence_answers) = mpsc::channel(table.len() * 2);
        let (starts_in, starts) = mpsc::channel(table.len());
        let on_fence = fence_log::open(&spec.cluster, table.clone())?;
        let (mut fences, mut collectors) = (Vec::new(), Vec::new());
        let identities = Identities::default();
        for (node, (id, name)) in spec.nodes.iter().zip(table.iter()) {
            let (fence_in, fence_out) = mpsc::channel(2);
            fences.push(fence_in);
            let semi_sync = node.semi_sync.then(|| SemiSync {
                durable: durable_sets::follow(store.progress(), name, stop.clone()),
                xa: XaAcks::OnReceipt,
            });
            let known = resume.checkpoint.nodes.get(name);
            collectors.push(Collector::spawn(
                CollectorConfig {
                    node: id,
                    identities: identities.clone(),
                    spilling: Some(spec.spilling.clone()),
                    ..collector_config(spec, node)
                },
                // An empty progress is that of a node that was never reached.
                known.filter(|p| **p != NodeProgress::default()).cloned(),
                tributary_collector::Ports {
                    items: items_in.clone(),
                    starts: starts_in.clone(),
                    fences: fence_out,
                    fence_answers: answers_in.clone(),
                    semi_sync,
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
            out: store.batches(),
            overdraft: Box::new(move |node| overdrafts[node.index()].grant(OVERDRAFT_BYTES)),
            warn_after: spec.cluster.warn_blocked_after,
            keep_after: spec.cluster.keep_prepared_after,
            on_fence,
        };
        let names = table.iter().map(|(_, name)| name);
        let mut schema = (spec.known).state(spec.schema.clone(), names, resume.renamed)?;
        schema.begin_routed(moment(resume.checkpoint, resume.last_gno));
        let merger = Merger::new(
            table.clone(),
            spec.cluster.order,
            resume.checkpoint,
            resume.last_gno,
        );
        let mut merger = merger.with_schema(schema);
        merger.set_spool(spec.spilling.files.clone());
        restore_branches(&mut merger, resume.branches)?;
        let merger = tributary_merger::spawn(table.clone(), merger, ports)?;
        Ok(Self {
            table,
            collectors,
            merger,
            stop,
        })
    }

    /// What the status shows of it. `before` is what earlier pipelines have done.
    pub(crate) fn view(
        &self,
        spec: &Spec,
        before: Totals,
        set: &NodeSet,
        joining: &BTreeMap<String, String>,
    ) -> View {
        let nodes = spec.nodes.iter().zip(&self.collectors);
        View {
            nodes: nodes
                .map(|(node, collector)| NodeView {
                    name: node.name.clone(),
                    servers: node.addresses(),
                    collector: collector.status(),
                })
                .collect(),
            merger: Box::new(self.merger.status_reader()),
            before,
            set: set.clone(),
            routes: spec.routes.clone(),
            joining: joining.clone(),
        }
    }

    /// Stops reading; returns when everything that was due is with the store, and what was done.
    pub(crate) async fn stop(self, before: &Totals) -> anyhow::Result<Totals> {
        self.stop.cancel();
        let mut totals = before.clone();
        for ((_, name), collector) in self.table.iter().zip(self.collectors) {
            let status = collector.status();
            collector.join().await;
            totals.add_node(name, &status.borrow());
        }
        let read = self.merger.status_reader();
        let joined = tokio::task::spawn_blocking(move || self.merger.join()).await?;
        joined.map_err(|_| anyhow::anyhow!("the merger panicked"))?;
        totals.add_merger(&read());
        Ok(totals)
    }
}

/// Gives the merger the branches that are kept.
fn restore_branches(merger: &mut Merger, branches: Vec<KeptBranch>) -> anyhow::Result<()> {
    for (node, xid) in merger.restore_branches(branches)? {
        tracing::warn!(
            node,
            %xid,
            "a prepared branch is kept of a node that is not merged; it is left where it is"
        );
    }
    for kept in merger.kept() {
        tracing::info!(
            xid = %kept.xid,
            gtid = %kept.gtid,
            bytes = kept.bytes,
            "a branch is still prepared; its rows are kept"
        );
    }
    Ok(())
}

/// How a node is read.
pub(crate) fn collector_config(spec: &Spec, node: &config::Node) -> CollectorConfig {
    let id = NodeId(0);
    CollectorConfig {
        heartbeat: HEARTBEAT,
        start: match &node.start {
            Some(config::Start::Current) => Start::Current,
            Some(config::Start::Earliest) | None => Start::Earliest,
            Some(config::Start::Gtids(set)) => Start::Gtids(set.clone()),
        },
        bytes_max: limits::NODE_BYTES_MAX,
        ..CollectorConfig::new(id, &node.name, node_urls(node), spec.server_id, spec.uuid)
    }
}

/// The addresses of a node's servers.
pub(crate) fn node_urls(node: &config::Node) -> Vec<NodeUrl> {
    let url = |server: &config::ServerUrl| NodeUrl {
        host: server.host.clone(),
        port: server.port,
        user: server.user.clone(),
        password: server.password.as_ref().unwrap_or(&node.password).0.clone(),
        tls: match node.tls {
            config::Tls::Disabled => TlsMode::Disabled,
            config::Tls::Preferred => TlsMode::Preferred,
            config::Tls::Required => TlsMode::Required,
        },
        ca: node.tls_ca.clone(),
    };
    node.servers.iter().map(url).collect()
}

/// What `tributary check` asks the nodes; of a failover group, every server.
pub(crate) fn node_probe(nodes: &[config::Node], server_id: u32, uuid: Option<Sid>) -> Probe {
    let servers = |node: &config::Node| {
        let urls = node_urls(node);
        let group = urls.len() > 1;
        let label = |url: &NodeUrl| match group {
            true => format!("{} ({url})", node.name),
            false => node.name.clone(),
        };
        urls.into_iter()
            .map(|url| (label(&url), url))
            .collect::<Vec<_>>()
    };
    Probe {
        nodes: nodes.iter().flat_map(servers).collect(),
        server_id,
        uuid,
    }
}

/// The place in the history of schemas behind transaction `gno`, where the merger's state is `checkpoint`.
pub(crate) fn moment(checkpoint: &Checkpoint, gno: u64) -> tributary_schema::Moment {
    let key = OrderKey {
        tso: checkpoint.last_tso,
        class: KeyClass::Local,
        time: checkpoint.last_time,
        ..OrderKey::MIN
    };
    tributary_schema::Moment {
        gno,
        key: key.into(),
        commit_time: checkpoint.last_time,
    }
}
