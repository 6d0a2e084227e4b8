//! A story of tables: parts on several nodes, rows that come and go, changes of definitions that reach one part after the other,
//! and a merger that is started again in between.
//!
//! In: a seed. Out: what happened, or the first thing that was wrong. A replica that does what MySQL does with the merged stream
//! must never meet a statement that it cannot run or rows that are not its table's, and must have in the end what the parts have.

mod cluster;
#[cfg(feature = "mutants")]
mod mutants;
mod replica;
mod rows;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tributary_binlog::GtidSet;
use tributary_flow::{Checkpoint, Fence, NodeId, NodeItem, NodeTable, OrderMode, SourcePos};
use tributary_merger::core::Merger;
use tributary_schema::{ClusterSchema, RouteRule, Routes, SchemaRules};

use cluster::Cluster;
use replica::Replica;

/// What can happen; each must in every run of the test.
pub(crate) const CLASSES: &[&str] = &[
    "insert",
    "update",
    "delete",
    "add",
    "add first",
    "drop",
    "rename column",
    "widen",
    "narrow",
    "key",
    "rename table",
    "truncate",
    "new part",
    "part dropped",
    "mixed",
    "restart",
    "restart while statements wait",
    "distributed",
    "ignored rows in a statement",
    "copies",
    "create select",
    "minimal metadata",
];

pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// SplitMix64.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub(crate) fn percent(&mut self, p: u64) -> bool {
        self.next() % 100 < p
    }
}

/// Whether the story is told.
fn shows() -> bool {
    std::env::var_os("TRIBUTARY_TABLES_SHOW").is_some()
}

fn rules() -> SchemaRules {
    let rules = [
        RouteRule::Ignore {
            from: "s_*.tmp".into(),
        },
        RouteRule::Map {
            from: "s_*.t_*".into(),
            to: "s.t".into(),
        },
        RouteRule::Map {
            from: "s_*.u_*".into(),
            to: "s.u".into(),
        },
        RouteRule::Broadcast {
            from: "s_*.city".into(),
            to: Some("s.city".into()),
        },
    ];
    SchemaRules {
        routes: Arc::new(Routes::compile(&rules).unwrap()),
        accounts: false,
    }
}

/// Runs the story.
pub(crate) fn run(seed: u64, mode: OrderMode) -> Result<Counts, String> {
    let mut rng = Rng(seed ^ 0x7461_626c_6573);
    let mut counts = Counts::new();
    let cluster = Cluster::new(&mut rng, mode, &mut counts);
    let mut story = Merge::new(&cluster, mode);
    story.run(&mut rng, &mut counts)?;
    let rows = cluster.logical_rows();
    story.replica.compare(&rows)?;
    // A part that was dropped is one that the others have not followed.
    let mut waiting = story.merger.schema().waiting();
    waiting.retain(|w| !w.statement.starts_with("DROP TABLE"));
    if !waiting.is_empty() {
        return Err(format!("waits: {waiting:?}"));
    }
    Ok(counts)
}

/// The merger and what is behind it.
struct Merge<'a> {
    cluster: &'a Cluster,
    mode: OrderMode,
    table: NodeTable,
    merger: Merger,
    queues: Vec<VecDeque<NodeItem>>,
    replica: Replica,
    /// What is stored.
    checkpoint: Checkpoint,
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    gno: u64,
}

impl<'a> Merge<'a> {
    fn new(cluster: &'a Cluster, mode: OrderMode) -> Self {
        let table = NodeTable::new((0..cluster.nodes()).map(|n| format!("dn{n}")));
        let mut merge = Self {
            merger: Merger::new(table.clone(), mode, &Checkpoint::default(), 0),
            cluster,
            mode,
            table,
            queues: Vec::new(),
            replica: Replica::default(),
            checkpoint: Checkpoint::default(),
            pairs: BTreeMap::new(),
            gno: 0,
        };
        merge.start();
        for n in 0..cluster.nodes() {
            merge
                .merger
                .set_before_start(NodeId(n as u16), GtidSet::new());
        }
        merge
    }

    /// From what is stored.
    fn start(&mut self) {
        let pairs: Vec<_> = self.pairs.clone().into_iter().collect();
        let names = self.table.iter().map(|(_, name)| name);
        let schema = ClusterSchema::restore(rules(), names, &pairs).unwrap();
        let merger = Merger::new(self.table.clone(), self.mode, &self.checkpoint, self.gno);
        self.merger = merger.with_schema(schema);
        let nothing = GtidSet::new();
        self.queues = (0..self.cluster.nodes())
            .map(|n| {
                let progress = self.checkpoint.nodes.get(self.table.name(NodeId(n as u16)));
                let done = progress.map_or(&nothing, |p| &p.emitted);
                let items = self.cluster.streams[n].iter().cloned();
                let left = items.filter(|item| match item {
                    NodeItem::Txn(txn) => !done.contains(&txn.gtid),
                    NodeItem::Position(_) => true,
                });
                left.collect()
            })
            .collect();
    }

    fn run(&mut self, rng: &mut Rng, counts: &mut Counts) -> Result<(), String> {
        let mut quiet = 0;
        while quiet < 3 {
            let n = rng.below(self.queues.len());
            let mut moved = false;
            for _ in 0..rng.below(20) {
                if let Some(item) = self.queues[n].pop_front() {
                    moved = true;
                    self.merger
                        .handle(NodeId(n as u16), item)
                        .map_err(|e| e.to_string())?;
                }
            }
            moved |= self.fences();
            moved |= self.poll(rng)?;
            let left = self.queues.iter().any(|q| !q.is_empty());
            quiet = if moved || left { 0 } else { quiet + 1 };
            if left && rng.percent(2) {
                *counts.entry("restart").or_default() += 1;
                if self.merger.schema().waiting_len() > 0 {
                    *counts.entry("restart while statements wait").or_default() += 1;
                }
                self.start();
            }
        }
        match self.merger.waiting() {
            0 => Ok(()),
            n => Err(format!("{n} wait in the end: {:?}", self.merger.blocked())),
        }
    }

    /// Every node says at once where its binlog ends.
    fn fences(&mut self) -> bool {
        let mut wanted = Vec::new();
        self.merger.poll_fences(|_| true, &mut wanted);
        let any = !wanted.is_empty();
        for (node, stamp) in wanted {
            let pos = self.cluster.end(node.index());
            let fence = Fence { node, pos, stamp };
            self.merger.handle_fence(fence).unwrap();
            // The stream has been read to there, or will be.
            if self.queues[node.index()].is_empty() {
                let end = NodeItem::Position(pos);
                self.merger.handle(node, end).unwrap();
            }
        }
        any
    }

    /// What is due is stored and applied, in one step.
    fn poll(&mut self, rng: &mut Rng) -> Result<bool, String> {
        let mut out = Vec::new();
        let max = 1 + rng.below(4000) as u64;
        let polled = self.merger.poll(&mut out, max);
        polled.map_err(|e| e.to_string())?;
        self.checkpoint = self.merger.checkpoint();
        for (key, value) in self.merger.take_schema_writes() {
            if shows() && key.first() == Some(&b'H') {
                println!(
                    "{}",
                    String::from_utf8_lossy(value.as_deref().unwrap_or_default())
                );
            }
            match value {
                Some(value) => self.pairs.insert(key, value),
                None => self.pairs.remove(&key),
            };
        }
        for txn in &out {
            self.gno += 1;
            self.replica
                .apply(self.gno, txn)
                .map_err(|e| format!("transaction {}: {e}", self.gno))?;
        }
        Ok(!out.is_empty())
    }
}

/// A place in a node's only file.
pub(crate) fn place(items: usize) -> SourcePos {
    SourcePos {
        file: 1,
        offset: items as u64 * 100,
    }
}
