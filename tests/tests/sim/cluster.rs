//! Nodes, clients and the oracle: what happens upstream, and the truth about it. Distributed transactions are in `coordinator`.
//!
//! In: steps of transactions at moments chosen by the scheduler. Out: binlogs, and for every transaction what must come out of
//! the service, if anything.

use std::collections::{BTreeMap, BTreeSet};

use tributary_binlog::{Gtid, GtidSet, XaXid};
use tributary_flow::{OrderMode, TxnKind};

use crate::body::{self, Row};
use crate::coordinator::{Distributed, FreeGtrid};
use crate::faults::{Counts, Fault, Plan};
use crate::node::{EPOCH, Group, Label, Node};
use crate::rng::Rng;
use crate::truth::{Ddl, Fate, Outcome, Part, Truth};

/// What is to be done next upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Prepare or finish a branch, for the coordinator number `.2`.
    Branch(u64, usize, u32),
    /// Fetch the TSO, or roll back.
    Decide(u64, u32),
    /// Finish what a dead coordinator has left.
    Recover(u64),
    /// Execute a statement on a node.
    Ddl(u64, usize),
}

pub(crate) struct Cluster {
    pub(crate) plan: Plan,
    pub(crate) nodes: Vec<Node>,
    pub(crate) truth: BTreeMap<u64, Truth>,
    pub(crate) distributed: BTreeMap<u64, Distributed>,
    pub(crate) free_gtrids: Vec<FreeGtrid>,
    /// What lay before the point from which each node is read.
    pub(crate) starts: Vec<GtidSet>,
    /// The occurrences of each statement, in the order in which they were said.
    pub(crate) said: BTreeMap<String, Vec<u64>>,
    /// How often each node has executed each statement.
    executed: BTreeMap<(String, usize), usize>,
    /// Transactions that were committed without a timestamp although there is an oracle.
    pub(crate) unstamped: BTreeSet<u64>,
    /// Nodes that are used and not read yet.
    pub(crate) strangers: BTreeSet<usize>,
    /// Nodes that are not used any more, and those that are not read any more.
    pub(crate) retired: BTreeSet<usize>,
    pub(crate) removed: BTreeSet<usize>,
    /// Parts that were read when the rest of their transactions had been written already, by node.
    pub(crate) split: BTreeSet<(u64, usize)>,
    /// The last TSO that had been written when a node joined.
    pub(crate) joined_at: BTreeMap<usize, u64>,
    /// The transaction whose coordinator or oracle has broken its promise.
    pub(crate) broken: Option<u64>,
    oracle: u64,
    next_id: u64,
}

impl Cluster {
    pub(crate) fn new(plan: &Plan, rng: &mut Rng) -> Self {
        Self {
            nodes: (0..plan.nodes).map(|i| Node::new(i, plan, rng)).collect(),
            starts: vec![GtidSet::new(); plan.nodes],
            plan: plan.clone(),
            truth: BTreeMap::new(),
            distributed: BTreeMap::new(),
            free_gtrids: Vec::new(),
            said: BTreeMap::new(),
            executed: BTreeMap::new(),
            unstamped: BTreeSet::new(),
            strangers: (plan.nodes - plan.late..plan.nodes).collect(),
            retired: BTreeSet::new(),
            removed: BTreeSet::new(),
            split: BTreeSet::new(),
            joined_at: BTreeMap::new(),
            broken: None,
            oracle: EPOCH,
            next_id: 0,
        }
    }

    /// Whether every transaction that was begun is finished.
    pub(crate) fn is_quiet(&self) -> bool {
        self.distributed.is_empty() && self.truth.values().all(Truth::is_over)
    }

    pub(crate) fn is_causal(&self) -> bool {
        self.plan.mode == OrderMode::Causal
    }

    /// The next commit timestamp.
    pub(crate) fn fetch_tso(&mut self, now: u64) -> u64 {
        let clock = if self.plan.dense { 0 } else { EPOCH + now };
        self.oracle = (self.oracle + 1).max(clock);
        self.oracle
    }

    pub(crate) fn write(
        &mut self,
        now: u64,
        node: usize,
        group: Group,
        counts: &mut Counts,
    ) -> Gtid {
        let (gtid, rotated) = self.nodes[node].write(now, group);
        if self.strangers.contains(&node) {
            self.starts[node].add(gtid);
        }
        if rotated {
            counts.hit(Fault::NodeRotation);
        }
        gtid
    }

    /// A client begins something. Returns the orders to carry out with a delay. `seen` has what came out of the service.
    pub(crate) fn work(
        &mut self,
        now: u64,
        seen: &BTreeSet<u64>,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> Vec<Order> {
        self.next_id += 1;
        match rng.range(0, 100) {
            n if n < self.plan.ddl => self.ddl(rng, counts),
            n if n < 50 => self.distribute(self.next_id, seen, rng, counts),
            _ => {
                self.alone(now, rng, counts);
                Vec::new()
            }
        }
    }

    fn alone(&mut self, now: u64, rng: &mut Rng, counts: &mut Counts) {
        let (id, node) = (self.next_id, rng.below(self.nodes.len()));
        if !self.nodes[node].up || self.retired.contains(&node) {
            return;
        }
        let (kind, rows) = match rng.below(10) {
            0 => (
                TxnKind::OnePhase(xid(id, 0)),
                self.transfer(id, &[node], rng).remove(0),
            ),
            1 => (TxnKind::Empty, Vec::new()),
            _ => (TxnKind::Local, self.transfer(id, &[node], rng).remove(0)),
        };
        match kind {
            TxnKind::OnePhase(_) => counts.hit(Fault::OnePhase),
            TxnKind::Empty => counts.hit(Fault::EmptyGroup),
            _ if self.nodes[node].packs => counts.hit(Fault::Payload),
            _ => {}
        }
        let label = if rows.is_empty() {
            Label::None
        } else {
            Label::Alone(id)
        };
        let events = body::rows(&rows, rng.range(90, 95));
        let mut tso = None;
        if rng.percent(self.plan.local_timestamps) {
            counts.hit(Fault::LocalWithTimestamp);
            tso = Some(self.fetch_tso(now));
        }
        let group = Group {
            kind,
            tso,
            events,
            label,
        };
        let empty = group.kind == TxnKind::Empty;
        let mut gtid = self.write(now, node, group, counts);
        if empty && self.nodes[node].wrote_alone() {
            // Nobody can tell that a GTID without anything has ended before something else comes.
            let group = Group {
                kind: TxnKind::Empty,
                tso: None,
                events: Vec::new(),
                label: Label::None,
            };
            gtid = self.write(now, node, group, counts);
        }
        self.nodes[node].release(&rows, true);
        let part = Part {
            node,
            rows,
            prepare: Some(gtid),
            outcome: Outcome::Committed,
        };
        let truth = Truth {
            parts: vec![part],
            finished: now,
            ..Truth::default()
        };
        self.truth.insert(id, truth);
    }

    fn ddl(&mut self, rng: &mut Rng, counts: &mut Counts) -> Vec<Order> {
        let (id, nodes) = (self.next_id, self.nodes.len());
        // Few texts, so that the same one comes again, also before all nodes have had the first.
        let (expands, what) = (rng.percent(50), rng.range(0, 4));
        let sql = if expands {
            counts.hit(Fault::ExpandingDdl);
            format!("ALTER TABLE t0 ADD COLUMN c{what} INT")
        } else {
            counts.hit(Fault::ContractingDdl);
            format!("DROP TABLE old{what}")
        };
        let occurrences = self.said.entry(sql.clone()).or_default();
        occurrences.push(id);
        if occurrences.len() > 1 {
            counts.hit(Fault::SameDdlAgain);
        }
        let ddl = Ddl {
            sql,
            expands,
            done: 0,
            nodes,
        };
        let truth = Truth {
            ddl: Some(ddl),
            ..Truth::default()
        };
        self.truth.insert(id, truth);
        (0..nodes).map(|node| Order::Ddl(id, node)).collect()
    }

    /// The statement `said` runs on `node`. The i-th time a node executes a text is the i-th occurrence of that text.
    pub(crate) fn execute(&mut self, now: u64, said: u64, node: usize, counts: &mut Counts) {
        let ddl = self.truth.get(&said).and_then(|t| t.ddl.as_ref());
        let Some(sql) = ddl.map(|ddl| ddl.sql.clone()) else {
            return;
        };
        let nth = self.executed.entry((sql.clone(), node)).or_default();
        let id = self.said[&sql][*nth];
        *nth += 1;
        if let Some(truth) = self.truth.get_mut(&id)
            && let Some(ddl) = &mut truth.ddl
        {
            ddl.done += 1;
            truth.finished = now;
        }
        let group = Group {
            kind: TxnKind::Ddl,
            tso: None,
            events: vec![body::query(&sql)],
            label: Label::Ddl(id),
        };
        self.write(now, node, group, counts);
    }

    /// Changes of rows on each of `nodes` that add up to zero. The rows are locked from now on. Where none is free, nothing is
    /// changed.
    pub(crate) fn transfer(&mut self, txn: u64, nodes: &[usize], rng: &mut Rng) -> Vec<Vec<Row>> {
        let mut sum = 0;
        let mut parts: Vec<Vec<Row>> = Vec::new();
        for &node in nodes {
            let count = 1 + rng.below(3);
            let locked = self.nodes[node].lock(count, rng);
            let rows = locked.into_iter().map(|account| {
                let delta = rng.range(1, 100) as i64 - 50;
                sum += delta;
                Row {
                    node: node as u16,
                    txn,
                    account: account as u32,
                    before: self.nodes[node].accounts[account].balance,
                    delta,
                }
            });
            parts.push(rows.collect());
        }
        if let Some(row) = parts.iter_mut().flatten().last() {
            row.delta -= sum;
        }
        parts
    }

    /// Whether a transaction was written without a part that was read later.
    pub(crate) fn is_split(&self, id: u64) -> bool {
        self.split
            .range((id, 0)..=(id, usize::MAX))
            .next()
            .is_some()
    }

    /// Whether a transaction must be seen, apart from parts that come on their own.
    pub(crate) fn is_due(&self, id: u64, truth: &Truth) -> bool {
        let rows = truth.rows(&self.starts);
        let mut whole = (rows.iter()).filter(|r| !self.split.contains(&(id, usize::from(r.node))));
        truth.fate() == Fate::Committed && (truth.ddl.is_some() || whole.next().is_some())
    }

    /// Whether a node joined when this timestamp had been passed: what it had committed then takes a place behind.
    pub(crate) fn is_late(&self, truth: &Truth, tso: u64) -> bool {
        let late = |p: &Part| self.joined_at.get(&p.node).is_some_and(|at| tso <= *at);
        truth.parts.iter().any(late)
    }

    /// Whether the balance of a row can not be told, because a node was first read between a prepare and its commit.
    pub(crate) fn is_cut_row(&self, row: &Row) -> bool {
        let same = |r: &Row| (r.node, r.account) == (row.node, row.account);
        let cut = |t: &&Truth| t.is_cut(&self.starts);
        let cut = self.truth.values().filter(cut);
        cut.flat_map(|t| &t.parts).any(|p| p.rows.iter().any(same))
    }
}

pub(crate) fn xid(gtrid: u64, branch: usize) -> XaXid {
    let (gtrid, bqual) = (format!("g{gtrid}"), format!("b{branch}"));
    XaXid::new(1, gtrid.as_bytes(), bqual.as_bytes()).expect("short names")
}
