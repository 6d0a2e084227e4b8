//! Nodes, coordinators and the oracle: what happens upstream, and the truth about it.
//!
//! In: steps of transactions at moments chosen by the scheduler. Out: binlog entries, and for every transaction what must come
//! out of the service, if anything.

use std::collections::BTreeMap;

use tributary_binlog::XaXid;
use tributary_flow::TxnKind;

use crate::body::{self, Row};
use crate::faults::{Counts, Fault, Plan};
use crate::node::{EPOCH, Group, Label, Node};
use crate::rng::Rng;

/// What must become of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not every branch has been committed: nothing of it may be seen.
    Open,
    /// It must be seen, once and whole.
    Committed,
    /// It must never be seen.
    RolledBack,
}

#[derive(Clone, Debug)]
pub(crate) struct Truth {
    pub(crate) rows: Vec<Row>,
    pub(crate) fate: Fate,
    pub(crate) tso: Option<u64>,
    pub(crate) ddl: Option<Ddl>,
}

impl Truth {
    /// Whether something is written for it in the end.
    pub(crate) fn is_due(&self) -> bool {
        self.fate == Fate::Committed && (self.ddl.is_some() || !self.rows.is_empty())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Ddl {
    pub(crate) sql: String,
    pub(crate) expands: bool,
    /// Nodes that have executed it.
    done: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Prepare,
    Decide,
    Finish,
}

#[derive(Clone, Debug)]
struct Branch {
    node: usize,
    rows: Vec<Row>,
    prepared: bool,
    finished: bool,
}

/// A distributed transaction and its coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Distributed {
    gtrid: u64,
    branches: Vec<Branch>,
    phase: Phase,
    tso: Option<u64>,
    rollback: bool,
    /// Counts coordinators: orders of a dead one are not carried out.
    generation: u32,
}

/// What a coordinator does next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Prepare or finish a branch.
    Branch(u64, usize, u32),
    /// Fetch the TSO, or roll back.
    Decide(u64, u32),
    /// Finish what a dead coordinator has left.
    Recover(u64),
    /// Execute a statement on a node.
    Ddl(u64, usize),
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) truth: BTreeMap<u64, Truth>,
    pub(crate) distributed: BTreeMap<u64, Distributed>,
    free_gtrids: Vec<u64>,
    oracle: u64,
    /// The oracle counts by one, and so leaves no gap between two timestamps.
    dense: bool,
    next_id: u64,
}

impl Cluster {
    pub(crate) fn new(plan: &Plan, rng: &mut Rng) -> Self {
        let mut node = |i| Node::new(i, rng.range(0, 300_000), plan.node_file_max);
        Self {
            nodes: (0..plan.nodes).map(&mut node).collect(),
            truth: BTreeMap::new(),
            distributed: BTreeMap::new(),
            free_gtrids: Vec::new(),
            oracle: EPOCH,
            dense: plan.dense,
            next_id: 0,
        }
    }

    /// Whether every transaction that was begun is finished.
    pub(crate) fn is_quiet(&self) -> bool {
        let everywhere = |ddl: &Ddl| ddl.done == self.nodes.len();
        let over = |t: &Truth| t.fate != Fate::Open && t.ddl.as_ref().is_none_or(everywhere);
        self.distributed.is_empty() && self.truth.values().all(over)
    }

    fn begin(&mut self, rows: Vec<Row>, fate: Fate) -> u64 {
        let truth = Truth {
            rows,
            fate,
            tso: None,
            ddl: None,
        };
        self.truth.insert(self.next_id, truth);
        self.next_id
    }

    fn write(&mut self, now: u64, node: usize, group: Group, counts: &mut Counts) {
        if self.nodes[node].write(now, group) {
            counts.hit(Fault::NodeRotation);
        }
    }

    /// A client begins something. Returns the orders to carry out with a delay.
    pub(crate) fn work(
        &mut self,
        now: u64,
        plan: &Plan,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> Vec<Order> {
        self.next_id += 1;
        match rng.range(0, 100) {
            n if n < plan.ddl => self.ddl(rng, counts),
            n if n < 50 => self.distribute(plan, rng, counts),
            _ => {
                self.alone(now, rng, counts);
                Vec::new()
            }
        }
    }

    fn alone(&mut self, now: u64, rng: &mut Rng, counts: &mut Counts) {
        let (id, node) = (self.next_id, rng.below(self.nodes.len()));
        if !self.nodes[node].up {
            return;
        }
        let rows = transfer(id, &[node], rng).remove(0);
        let (kind, rows) = match rng.below(10) {
            0 => (TxnKind::OnePhase(xid(id, 0)), rows),
            1 => (TxnKind::Empty, Vec::new()),
            2 if rng.percent(30) => (TxnKind::Local, Vec::new()),
            _ => (TxnKind::Local, rows),
        };
        match kind {
            TxnKind::OnePhase(_) => counts.hit(Fault::OnePhase),
            TxnKind::Empty => counts.hit(Fault::EmptyGroup),
            _ => {}
        }
        let label = if rows.is_empty() {
            Label::None
        } else {
            Label::Alone(id)
        };
        let body = body::rows(&rows, rng.range(90, 95));
        self.begin(rows, Fate::Committed);
        self.write(
            now,
            node,
            Group {
                kind,
                tso: None,
                body,
                label,
            },
            counts,
        );
    }

    fn ddl(&mut self, rng: &mut Rng, counts: &mut Counts) -> Vec<Order> {
        let expands = rng.percent(50);
        let id = self.begin(Vec::new(), Fate::Open);
        let sql = if expands {
            counts.hit(Fault::ExpandingDdl);
            format!("ALTER TABLE t0 ADD COLUMN c{id} INT")
        } else {
            counts.hit(Fault::ContractingDdl);
            format!("DROP TABLE old{id}")
        };
        if let Some(truth) = self.truth.get_mut(&id) {
            truth.ddl = Some(Ddl {
                sql,
                expands,
                done: 0,
            });
        }
        (0..self.nodes.len())
            .map(|node| Order::Ddl(id, node))
            .collect()
    }

    fn distribute(&mut self, plan: &Plan, rng: &mut Rng, counts: &mut Counts) -> Vec<Order> {
        let id = self.next_id;
        let mut nodes: Vec<usize> = (0..self.nodes.len()).filter(|_| rng.percent(50)).collect();
        if nodes.is_empty() || rng.percent(5) {
            nodes.push(rng.below(self.nodes.len()));
        }
        nodes.sort_unstable();
        if nodes.windows(2).any(|w| w[0] == w[1]) {
            counts.hit(Fault::TwoBranchesOnOneNode);
        }
        let full: Vec<usize> = nodes.iter().filter(|_| rng.percent(90)).copied().collect();
        let mut rows = transfer(id, &full, rng).into_iter();
        let mut rest = full.iter().peekable();
        let branches: Vec<Branch> = nodes
            .iter()
            .map(|&node| {
                let rows = rest.next_if(|n| **n == node).and_then(|_| rows.next());
                if rows.is_none() {
                    counts.hit(Fault::EmptyBranch);
                }
                let rows = rows.unwrap_or_default();
                Branch {
                    node,
                    rows,
                    prepared: false,
                    finished: false,
                }
            })
            .collect();
        let gtrid = match self.free_gtrids.pop() {
            Some(gtrid) if rng.percent(50) => {
                counts.hit(Fault::XidReuse);
                gtrid
            }
            _ => id,
        };
        self.begin(
            branches.iter().flat_map(|b| b.rows.clone()).collect(),
            Fate::Open,
        );
        let orders = (0..branches.len())
            .map(|b| Order::Branch(id, b, 0))
            .collect();
        let rollback = rng.percent(plan.rollback);
        let (phase, tso, generation) = (Phase::Prepare, None, 0);
        self.distributed.insert(
            id,
            Distributed {
                gtrid,
                branches,
                phase,
                tso,
                rollback,
                generation,
            },
        );
        orders
    }

    /// Carries out an order; returns what follows from it. An order for a node that is down comes again.
    pub(crate) fn carry_out(
        &mut self,
        now: u64,
        order: Order,
        death: u64,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> Vec<Order> {
        match order {
            Order::Ddl(id, node) => {
                if !self.nodes[node].up {
                    return vec![order];
                }
                self.execute(now, id, node, counts);
                Vec::new()
            }
            Order::Recover(id) => self.recover(id),
            Order::Decide(id, generation) => self.decide(now, id, generation, death, rng, counts),
            Order::Branch(id, branch, generation) => {
                let Some(txn) = self.distributed.get(&id) else {
                    return Vec::new();
                };
                if txn.generation != generation {
                    return Vec::new();
                }
                if !self.nodes[txn.branches[branch].node].up {
                    return vec![order];
                }
                if rng.percent(death) {
                    return self.die(id, counts);
                }
                self.branch(now, id, branch, rng, counts)
            }
        }
    }

    fn execute(&mut self, now: u64, id: u64, node: usize, counts: &mut Counts) {
        let n = self.nodes.len();
        let Some(truth) = self.truth.get_mut(&id) else {
            return;
        };
        let Some(ddl) = &mut truth.ddl else { return };
        ddl.done += 1;
        if ddl.expands || ddl.done == n {
            truth.fate = Fate::Committed;
        }
        let (kind, tso, body) = (TxnKind::Ddl, None, body::statement(&ddl.sql));
        self.write(
            now,
            node,
            Group {
                kind,
                tso,
                body,
                label: Label::Ddl(id),
            },
            counts,
        );
    }

    /// The coordinator is gone; somebody will find its transaction.
    fn die(&mut self, id: u64, counts: &mut Counts) -> Vec<Order> {
        let Some(txn) = self.distributed.get_mut(&id) else {
            return Vec::new();
        };
        counts.hit(match txn.tso {
            None => Fault::CoordinatorDeathBeforeDecision,
            Some(_) => Fault::CoordinatorDeathInCommit,
        });
        txn.generation += 1;
        vec![Order::Recover(id)]
    }

    fn recover(&mut self, id: u64) -> Vec<Order> {
        let Some(txn) = self.distributed.get_mut(&id) else {
            return Vec::new();
        };
        if txn.tso.is_none() {
            txn.rollback = true;
            // What was never prepared is gone with its connection.
            txn.branches
                .iter_mut()
                .for_each(|b| b.finished = !b.prepared);
        }
        txn.phase = Phase::Finish;
        let orders = self.finish_orders(id);
        if orders.is_empty() {
            self.finished(id);
        }
        orders
    }

    fn finish_orders(&self, id: u64) -> Vec<Order> {
        let Some(txn) = self.distributed.get(&id) else {
            return Vec::new();
        };
        let open = txn.branches.iter().enumerate().filter(|(_, b)| !b.finished);
        open.map(|(b, _)| Order::Branch(id, b, txn.generation))
            .collect()
    }

    fn decide(
        &mut self,
        now: u64,
        id: u64,
        generation: u32,
        death: u64,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> Vec<Order> {
        let Some(txn) = self.distributed.get_mut(&id) else {
            return Vec::new();
        };
        if txn.generation != generation {
            return Vec::new();
        }
        if rng.percent(death) {
            return self.die(id, counts);
        }
        txn.phase = Phase::Finish;
        if txn.rollback {
            counts.hit(Fault::LateRollback);
        } else {
            let clock = if self.dense { 0 } else { EPOCH + now };
            self.oracle = (self.oracle + 1).max(clock);
            txn.tso = Some(self.oracle);
        }
        self.finish_orders(id)
    }

    fn branch(
        &mut self,
        now: u64,
        id: u64,
        branch: usize,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> Vec<Order> {
        let Some(txn) = self.distributed.get_mut(&id) else {
            return Vec::new();
        };
        let xid = xid(txn.gtrid, branch);
        let (tso, generation, phase) = (txn.tso, txn.generation, txn.phase);
        let part = &mut txn.branches[branch];
        let node = part.node;
        if phase == Phase::Prepare {
            part.prepared = true;
            let (kind, label) = (TxnKind::Prepare(xid), Label::Prepare(id));
            let body = body::rows(&part.rows, rng.range(90, 95));
            let all = txn.branches.iter().all(|b| b.prepared);
            if all {
                txn.phase = Phase::Decide;
            }
            self.write(
                now,
                node,
                Group {
                    kind,
                    tso: None,
                    body,
                    label,
                },
                counts,
            );
            return if all {
                vec![Order::Decide(id, generation)]
            } else {
                Vec::new()
            };
        }
        part.finished = true;
        let all = txn.branches.iter().all(|b| b.finished);
        let (kind, label) = match tso {
            Some(_) => (TxnKind::Commit(xid), Label::Commit(id)),
            None => (TxnKind::Rollback(xid), Label::None),
        };
        self.write(
            now,
            node,
            Group {
                kind,
                tso,
                body: body::rows(&[], 0),
                label,
            },
            counts,
        );
        if all {
            self.finished(id);
        }
        Vec::new()
    }

    fn finished(&mut self, id: u64) {
        if let (Some(txn), Some(truth)) = (self.distributed.remove(&id), self.truth.get_mut(&id)) {
            truth.tso = txn.tso;
            truth.fate = if txn.tso.is_some() {
                Fate::Committed
            } else {
                Fate::RolledBack
            };
            self.free_gtrids.push(txn.gtrid);
        }
    }
}

fn xid(gtrid: u64, branch: usize) -> XaXid {
    let (gtrid, bqual) = (format!("g{gtrid}"), format!("b{branch}"));
    XaXid::new(1, gtrid.as_bytes(), bqual.as_bytes()).expect("short names")
}

/// Rows on each of `nodes` whose sum is zero.
fn transfer(txn: u64, nodes: &[usize], rng: &mut Rng) -> Vec<Vec<Row>> {
    let mut sum = 0;
    let last = nodes.len().saturating_sub(1);
    let mut one = |i: usize, node: usize| {
        let mut rows = Vec::new();
        for n in 0..=rng.below(3) {
            let delta = rng.range(1, 100) as i64 - 50;
            sum += delta;
            let account = rng.range(0, 100) as u32 + n as u32 * 100;
            rows.push(Row {
                node: node as u16,
                txn,
                account,
                delta,
            });
        }
        if i == last {
            let (node, account) = (node as u16, 1000);
            rows.push(Row {
                node,
                txn,
                account,
                delta: -sum,
            });
        }
        rows
    };
    nodes
        .iter()
        .enumerate()
        .map(|(i, &node)| one(i, node))
        .collect()
}
