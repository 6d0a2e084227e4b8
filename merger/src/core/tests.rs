//! The merger against random clusters: equal to the naive merge, C-before-P kept, nothing lost, nothing twice, live.

use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;
use tributary_binlog::{Gno, Gtid, Sid, Tag, XaXid};
use tributary_flow::{
    Body, Checkpoint, Fence, FenceStamp, GlobalTxn, NodeId, NodeItem, NodeTable, OrderMode,
    SourcePos, SourceTxn, Tso, TxnKind,
};

use super::merge::{BlockedOn, Merger};
use super::naive;
use crate::MergeError;

mod kept;

/// A small deterministic generator (xorshift): the seed is the whole test case.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % n as u64) as usize
    }
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// How many commits carry a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stamps {
    All,
    Some,
    None,
}

/// Nodes that write binlogs, coordinators that run XA over them, one oracle.
struct Cluster {
    stamps: Stamps,
    rng: Rng,
    streams: Vec<Vec<NodeItem>>,
    /// When each item was written.
    written_at: Vec<Vec<u64>>,
    now: u64,
    clocks: Vec<u64>,
    oracle: u64,
    next_id: u64,
    open: Vec<Distributed>,
    /// Place of each transaction's prepare and commit: id → per node (P, C).
    windows: HashMap<u64, Vec<(usize, usize, usize)>>,
    rolled_back: usize,
}

struct Distributed {
    id: u64,
    nodes: Vec<usize>,
    prepared: Vec<(usize, usize)>,
    tso: Option<u64>,
    rollback: bool,
    committed: usize,
}

fn xid(id: u64, node: usize) -> XaXid {
    XaXid::new(
        1,
        format!("g{id}").as_bytes(),
        format!("n{node}").as_bytes(),
    )
    .unwrap()
}

impl Cluster {
    fn new(seed: u64, stamps: Stamps, steps: usize) -> Self {
        let mut cluster = Self::empty(seed, stamps);
        (0..steps).for_each(|_| cluster.step());
        cluster.finish();
        cluster
    }

    fn empty(seed: u64, stamps: Stamps) -> Self {
        let mut rng = Rng::new(seed);
        let n = 1 + rng.below(4);
        let clocks = (0..n).map(|_| 1_000 + rng.below(50) as u64).collect();
        Self {
            rng,
            streams: vec![Vec::new(); n],
            written_at: vec![Vec::new(); n],
            now: 0,
            stamps,
            clocks,
            oracle: 100,
            next_id: 1,
            open: Vec::new(),
            windows: HashMap::new(),
            rolled_back: 0,
        }
    }

    fn write(&mut self, node: usize, kind: TxnKind, tso: Option<u64>, body: Option<u64>) -> usize {
        self.clocks[node] += self.rng.below(3) as u64;
        let place = self.streams[node].len();
        let gtid = gtid(node, place as u64 + 1);
        let clock = self.clocks[node];
        self.now += 1;
        self.written_at[node].push(self.now);
        self.streams[node].push(NodeItem::Txn(Box::new(source(
            gtid, kind, place, clock, tso, body,
        ))));
        place
    }

    fn step(&mut self) {
        let n = self.streams.len();
        match self.rng.below(10) {
            0..=2 => {
                let (node, id) = (self.rng.below(n), self.fresh());
                let place = self.write(node, TxnKind::Local, None, Some(id));
                self.windows.insert(id, vec![(node, place, place)]);
            }
            3 => {
                let mut nodes: Vec<usize> = (0..n).filter(|_| self.rng.chance(60)).collect();
                if nodes.is_empty() {
                    nodes.push(self.rng.below(n));
                }
                let rollback = self.rng.chance(15);
                let id = self.fresh();
                let (prepared, tso, committed) = (Vec::new(), None, 0);
                self.open.push(Distributed {
                    id,
                    nodes,
                    prepared,
                    tso,
                    rollback,
                    committed,
                });
            }
            _ if self.open.is_empty() => {}
            _ => {
                let i = self.rng.below(self.open.len());
                self.advance(i);
            }
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// One more step of an open distributed transaction: a prepare, the TSO, or a commit.
    fn advance(&mut self, i: usize) {
        let (id, done) = (self.open[i].id, self.open[i].prepared.len());
        if done < self.open[i].nodes.len() {
            let node = self.open[i].nodes[done];
            let place = self.write(node, TxnKind::Prepare(xid(id, node)), None, Some(id));
            self.open[i].prepared.push((node, place));
        } else if !self.open[i].rollback && self.open[i].tso.is_none() {
            self.oracle += 1 + self.rng.below(3) as u64;
            self.open[i].tso = Some(self.oracle);
        } else {
            let (node, prepared) = self.open[i].prepared[self.open[i].committed];
            let tso = self.open[i].tso;
            let kind = if tso.is_some() {
                TxnKind::Commit
            } else {
                TxnKind::Rollback
            };
            let stamp = tso.filter(|_| match self.stamps {
                Stamps::All => true,
                Stamps::Some => self.rng.chance(60),
                Stamps::None => false,
            });
            let place = self.write(node, kind(xid(id, node)), stamp, None);
            if tso.is_some() {
                self.windows
                    .entry(id)
                    .or_default()
                    .push((node, prepared, place));
            }
            self.open[i].committed += 1;
            if self.open[i].committed == self.open[i].nodes.len() {
                self.rolled_back += usize::from(tso.is_none());
                self.open.swap_remove(i);
            }
        }
    }

    fn finish(&mut self) {
        while !self.open.is_empty() {
            self.advance(0);
        }
    }

    /// Number of items of `node` that may have been its whole binlog at a moment after everything given had been written.
    fn end_after(&self, node: usize, given: &[usize], rng: &mut Rng) -> u64 {
        let last = |(times, n): (&Vec<u64>, &usize)| times[..*n].last().copied().unwrap_or(0);
        let now = self.written_at.iter().zip(given).map(last).max();
        let written = &self.written_at[node];
        let least = written.iter().filter(|at| Some(**at) <= now).count();
        (least + rng.below(written.len() - least + 1)) as u64
    }
}

fn gtid(node: usize, n: u64) -> Gtid {
    Gtid {
        sid: Sid([node as u8 + 1; 16]),
        tag: Tag::EMPTY,
        gno: Gno::new(n).unwrap(),
    }
}

fn source(
    gtid: Gtid,
    kind: TxnKind,
    place: usize,
    clock: u64,
    tso: Option<u64>,
    body: Option<u64>,
) -> SourceTxn {
    SourceTxn {
        gtid,
        kind,
        end: SourcePos {
            file: 1,
            offset: (place as u64 + 1) * 100,
        },
        tso: tso.map(|t| Tso::new(t).unwrap()),
        original_commit: tso.unwrap_or(clock),
        immediate_commit: clock,
        last_committed: 0,
        sequence_number: 1,
        original_server_version: 90704,
        immediate_server_version: 90704,
        timestamp: 1,
        body: body.map_or_else(Body::default, |id| {
            Body::new(Bytes::from(id.to_be_bytes().to_vec()))
        }),
    }
}

fn table(n: usize) -> NodeTable {
    NodeTable::new((0..n).map(|i| format!("dn{i}")))
}

/// A merger whose nodes have all said where their streams begin.
fn started(n: usize, mode: OrderMode, resume: &Checkpoint) -> Merger {
    let mut merger = Merger::new(table(n), mode, resume, 0);
    for node in 0..n {
        let begin = NodeItem::Position(SourcePos { file: 1, offset: 0 });
        merger.handle(NodeId(node as u16), begin).unwrap();
    }
    merger
}

fn written(txn: &GlobalTxn) -> naive::Written {
    let bytes = txn
        .parts
        .iter()
        .flat_map(|p| p.segments().concat())
        .collect();
    (txn.key, bytes)
}

fn id_of(txn: &GlobalTxn) -> u64 {
    u64::from_be_bytes(txn.parts[0].segments()[0][..8].try_into().unwrap())
}

/// Delivers a cluster's streams in a random interleaving, answering the merger's own fences at random times.
struct Delivery<'a> {
    cluster: &'a Cluster,
    streams: Vec<Vec<NodeItem>>,
    rng: Rng,
    merger: Merger,
    given: Vec<usize>,
    answers: Vec<Fence>,
    out: Vec<GlobalTxn>,
    passed: Vec<Fence>,
}

impl<'a> Delivery<'a> {
    fn new(cluster: &'a Cluster, mode: OrderMode, seed: u64) -> Self {
        let n = cluster.streams.len();
        Self {
            cluster,
            streams: cluster.streams.clone(),
            rng: Rng::new(seed),
            merger: started(n, mode, &Checkpoint::default()),
            given: vec![0; n],
            answers: Vec::new(),
            out: Vec::new(),
            passed: Vec::new(),
        }
    }

    fn step(&mut self) {
        let node = self.rng.below(self.given.len());
        let stream = &self.streams[node];
        match self.rng.below(10) {
            0..=6 if self.given[node] < stream.len() => {
                let item = stream[self.given[node]].clone();
                self.given[node] += 1;
                self.merger.handle(NodeId(node as u16), item).unwrap();
            }
            7 => {
                let mut wanted = Vec::new();
                self.merger.poll_fences(|_| true, &mut wanted);
                for (id, stamp) in wanted {
                    let end = self
                        .cluster
                        .end_after(id.index(), &self.given, &mut self.rng);
                    let pos = SourcePos {
                        file: 1,
                        offset: end * 100,
                    };
                    self.answers.push(Fence {
                        node: id,
                        pos,
                        stamp,
                    });
                }
            }
            8 if !self.answers.is_empty() => {
                let i = self.rng.below(self.answers.len());
                let fence = self.answers.swap_remove(i);
                self.merger.handle_fence(fence).unwrap();
            }
            _ => {
                self.merger.poll(&mut self.out, 1_000).unwrap();
            }
        }
        self.passed.extend(self.merger.take_passed_fences());
    }

    fn run(mut self) -> (Vec<GlobalTxn>, Vec<Fence>, Merger) {
        let mut quiet = 0;
        while quiet < 200 {
            let before = (
                self.out.len(),
                self.given.iter().sum::<usize>(),
                self.passed.len(),
            );
            self.step();
            let after = (
                self.out.len(),
                self.given.iter().sum::<usize>(),
                self.passed.len(),
            );
            quiet = if before == after { quiet + 1 } else { 0 };
        }
        while self.merger.poll(&mut self.out, 1_000).unwrap() {}
        (self.out, self.passed, self.merger)
    }
}

/// If C₁ lies before P₂ on some node, T₁ comes before T₂.
fn assert_commit_before_prepare(cluster: &Cluster, out: &[GlobalTxn]) {
    let place: HashMap<u64, usize> = out.iter().enumerate().map(|(i, t)| (id_of(t), i)).collect();
    assert_eq!(place.len(), out.len(), "nothing twice");
    assert_eq!(
        place.len(),
        cluster.windows.len(),
        "nothing lost, nothing made up"
    );
    for (id1, w1) in &cluster.windows {
        for (id2, w2) in &cluster.windows {
            let before = w1
                .iter()
                .any(|(n1, _, c1)| w2.iter().any(|(n2, p2, _)| n1 == n2 && c1 < p2));
            assert!(
                !before || place[id1] < place[id2],
                "{id1} committed before {id2} was prepared"
            );
        }
    }
}

/// The ways to run: mode of the order, commits with a timestamp.
const WAYS: [(OrderMode, Stamps); 4] = [
    (OrderMode::Tso, Stamps::All),
    (OrderMode::Tso, Stamps::Some),
    (OrderMode::Tso, Stamps::None),
    (OrderMode::Causal, Stamps::Some),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_comes_whole_and_commit_before_prepare_is_kept(
        seed in any::<u64>(), steps in 1_usize..150, way in 0..WAYS.len()
    ) {
        let (mode, stamps) = WAYS[way];
        let cluster = Cluster::new(seed, stamps, steps);
        let (out, fences, merger) = Delivery::new(&cluster, mode, seed ^ 0xabcd).run();
        assert_eq!((merger.waiting(), merger.blocked()), (0, vec![]), "all comes once fences are answered");
        assert_commit_before_prepare(&cluster, &out);
        if stamps == Stamps::All {
            let got: Vec<_> = out.iter().map(written).collect();
            assert_eq!(got, naive::merge(&cluster.streams, &fences));
        }
        for txn in &out {
            assert_eq!(txn.parts.len(), cluster.windows[&id_of(txn)].len(), "all branches, in one transaction");
        }
        for (n, stream) in cluster.streams.iter().enumerate() {
            let emitted = &merger.checkpoint().nodes[&format!("dn{n}")].emitted;
            assert_eq!(emitted.count(), stream.len() as u64, "every source GTID is accounted for");
        }
    }

    #[test]
    fn same_streams_and_fences_same_output_whatever_arrives_when(
        seed in any::<u64>(), steps in 1_usize..100, way in 0..WAYS.len()
    ) {
        let (mode, stamps) = WAYS[way];
        let cluster = Cluster::new(seed, stamps, steps);
        let (live, fences, _) = Delivery::new(&cluster, mode, seed).run();
        let replayed = replay(&cluster, mode, &fences, seed ^ 0x1234);
        assert_eq!(live.iter().map(written).collect::<Vec<_>>(), replayed.iter().map(written).collect::<Vec<_>>());
    }

    #[test]
    fn a_restart_from_any_checkpoint_neither_loses_nor_repeats(
        seed in any::<u64>(), steps in 1_usize..100, cut in 0_usize..300, way in 0..WAYS.len()
    ) {
        let (mode, stamps) = WAYS[way];
        let cluster = Cluster::new(seed, stamps, steps);
        let mut first = Delivery::new(&cluster, mode, seed);
        (0..cut).for_each(|_| first.step());
        first.merger.poll(&mut first.out, u64::MAX).unwrap();
        let checkpoint = first.merger.checkpoint();
        let mut second = Delivery::new(&cluster, mode, seed ^ 0x77);
        second.merger = started(cluster.streams.len(), mode, &checkpoint);
        second.out = first.out;
        second.streams = missing_items(&cluster, &checkpoint);
        let (out, _, merger) = second.run();
        assert_eq!((merger.waiting(), merger.blocked()), (0, vec![]));
        assert_commit_before_prepare(&cluster, &out);
    }
}

/// What nodes send to a client that has the checkpoint's sets: exactly what is missing, and positions for the rest.
fn missing_items(cluster: &Cluster, checkpoint: &Checkpoint) -> Vec<Vec<NodeItem>> {
    let mut streams = cluster.streams.clone();
    for (n, stream) in streams.iter_mut().enumerate() {
        let emitted = &checkpoint.nodes[&format!("dn{n}")].emitted;
        for item in stream {
            if let NodeItem::Txn(txn) = item
                && emitted.contains(&txn.gtid)
            {
                *item = NodeItem::Position(txn.end);
            }
        }
    }
    streams
}

/// Gives each node its fences at their recorded places, and the streams in another interleaving.
fn replay(cluster: &Cluster, mode: OrderMode, fences: &[Fence], seed: u64) -> Vec<GlobalTxn> {
    let n = cluster.streams.len();
    let mut merger = started(n, mode, &Checkpoint::default());
    let (mut rng, mut given, mut out) = (Rng::new(seed), vec![0; n], Vec::new());
    let mut queues: Vec<Vec<Fence>> = (0..n)
        .map(|i| {
            fences
                .iter()
                .filter(|f| f.node.index() == i)
                .copied()
                .collect()
        })
        .collect();
    for (i, queue) in queues.iter_mut().enumerate() {
        queue.reverse();
        if let Some(fence) = queue.pop() {
            merger.handle_fence(fence).unwrap();
        }
        assert!(i < n);
    }
    while given
        .iter()
        .zip(&cluster.streams)
        .any(|(g, s)| *g < s.len())
    {
        let node = rng.below(n);
        if let Some(item) = cluster.streams[node].get(given[node]) {
            given[node] += 1;
            merger.handle(NodeId(node as u16), item.clone()).unwrap();
            refill(&mut merger, &mut queues);
        }
        if rng.chance(30) {
            merger.poll(&mut out, 500).unwrap();
        }
    }
    refill(&mut merger, &mut queues);
    while merger.poll(&mut out, 1_000).unwrap() {}
    prove(cluster, &mut merger);
    while merger.poll(&mut out, 1_000).unwrap() {}
    out
}

/// What had been received when a fence was asked for is not recorded. At the end of all streams it changes nothing.
fn prove(cluster: &Cluster, merger: &mut Merger) {
    let mut wanted = Vec::new();
    merger.poll_fences(|_| true, &mut wanted);
    for (node, stamp) in wanted {
        let offset = cluster.streams[node.index()].len() as u64 * 100;
        let pos = SourcePos { file: 1, offset };
        merger.handle_fence(Fence { node, pos, stamp }).unwrap();
    }
}

/// A passed fence makes room for the next recorded one of its node.
fn refill(merger: &mut Merger, queues: &mut [Vec<Fence>]) {
    loop {
        let passed = merger.take_passed_fences();
        if passed.is_empty() {
            return;
        }
        for fence in passed {
            if let Some(next) = queues[fence.node.index()].pop() {
                merger.handle_fence(next).unwrap();
            }
        }
    }
}

fn txn(kind: TxnKind, place: usize, tso: Option<u64>) -> NodeItem {
    let body = matches!(kind, TxnKind::Local | TxnKind::Prepare(_)).then_some(place as u64);
    NodeItem::Txn(Box::new(source(
        gtid(0, place as u64 + 1),
        kind,
        place,
        1_000,
        tso,
        body,
    )))
}

#[test]
fn an_unresolved_prepare_is_named_as_what_blocks() {
    let mut m = Merger::new(table(2), OrderMode::Tso, &Checkpoint::default(), 0);
    m.handle(NodeId(0), txn(TxnKind::Prepare(xid(1, 0)), 0, None))
        .unwrap();
    m.handle(NodeId(0), txn(TxnKind::Prepare(xid(2, 0)), 1, None))
        .unwrap();
    m.handle(NodeId(0), txn(TxnKind::Commit(xid(2, 0)), 2, Some(500)))
        .unwrap();
    let (blocked, mut out) = (m.blocked(), Vec::new());
    assert!(!m.poll(&mut out, u64::MAX).unwrap() && out.is_empty());
    assert!(
        matches!(&blocked[0], (NodeId(0), BlockedOn::Prepare(x, ..)) if *x == xid(1, 0)),
        "{blocked:?}"
    );
    assert!(
        matches!(&blocked[1], (NodeId(1), BlockedOn::NoData)),
        "{blocked:?}"
    );
    let mut wanted = Vec::new();
    m.poll_fences(|_| true, &mut wanted);
    let stamp = FenceStamp {
        tso: Tso::new(500).unwrap(),
        time: 0,
    };
    assert_eq!(
        wanted,
        [(NodeId(1), stamp)],
        "no fence helps against a prepare"
    );
    wanted.clear();
    m.poll_fences(|_| true, &mut wanted);
    assert!(wanted.is_empty(), "one question at a time");
}

#[test]
fn contradictions_halt() {
    let fresh = || Merger::new(table(1), OrderMode::Tso, &Checkpoint::default(), 0);
    let (mut m, n) = (fresh(), NodeId(0));
    m.handle(n, txn(TxnKind::Prepare(xid(1, 0)), 0, None))
        .unwrap();
    let again = m.handle(n, txn(TxnKind::Prepare(xid(1, 0)), 1, None));
    assert!(
        matches!(again, Err(MergeError::PreparedTwice { .. })),
        "{again:?}"
    );

    let mut m = fresh();
    let unknown = m.handle(n, txn(TxnKind::Commit(xid(9, 0)), 0, Some(5)));
    assert!(
        matches!(unknown, Err(MergeError::UnknownBranch { .. })),
        "{unknown:?}"
    );

    let mut m = fresh();
    for (place, (kind, tso)) in [
        (TxnKind::Prepare(xid(1, 0)), None),
        (TxnKind::Commit(xid(1, 0)), Some(50)),
        (TxnKind::Prepare(xid(2, 0)), None),
    ]
    .into_iter()
    .enumerate()
    {
        m.handle(n, txn(kind, place, tso)).unwrap();
    }
    let back = m.handle(n, txn(TxnKind::Commit(xid(2, 0)), 3, Some(50)));
    assert!(
        matches!(back, Err(MergeError::OracleWentBack { .. })),
        "{back:?}"
    );

    let mut m = fresh();
    m.handle(n, txn(TxnKind::Empty, 0, None)).unwrap();
    let twice = m.handle(n, txn(TxnKind::Empty, 0, None));
    assert!(
        matches!(twice, Err(MergeError::Repeated { .. })),
        "{twice:?}"
    );
}

#[test]
fn a_commit_prepared_before_the_start_is_not_ours() {
    let mut m = Merger::new(table(1), OrderMode::Tso, &Checkpoint::default(), 0);
    let mut before = tributary_binlog::GtidSet::new();
    before.add(gtid(7, 1));
    m.set_before_start(NodeId(0), before);
    m.handle(NodeId(0), txn(TxnKind::Commit(xid(9, 0)), 0, Some(5)))
        .unwrap();
    assert_eq!((m.orphans(), m.waiting()), (1, 0));
}
