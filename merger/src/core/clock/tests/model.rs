//! Simulated nodes with rows, locks and MySQL's logical clock; random transactions, locals and XA, which conflict as real
//! ones do. Their order is any that the merger could give. Then: of two transactions that touch one row, the later depends
//! on the earlier.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tributary_flow::{Body, NodeId, SourcePos};

use super::bodies::{Change, Delete, Insert, Table, Update, body};
use super::threshold;
use crate::core::clock::{Clock, Interval};

const KEYS: u8 = 7;
const TABLES: [Table; 3] = [Table::Numbers, Table::Texts(255), Table::NoKey];

/// A row: table and key.
type Row = (usize, u8);

/// Random numbers from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// How a node counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    CommitOrder,
    WriteSet {
        /// Whether the write sets are forgotten by a group without rows.
        cleared_by_commits: bool,
    },
}

/// A group of a node's binlog that is written, and not committed yet.
struct Flushed {
    txn: usize,
    branch: usize,
    number: i64,
    prepares: bool,
}

struct Node {
    counting: Counting,
    place: SourcePos,
    /// Of the running file's first number.
    offset: i64,
    counter: i64,
    max_committed: i64,
    history: BTreeMap<Row, i64>,
    history_start: i64,
    /// Locked rows.
    locks: BTreeMap<Row, usize>,
    queue: VecDeque<Flushed>,
}

impl Node {
    fn new(counting: Counting) -> Self {
        Self {
            counting,
            place: SourcePos { file: 1, offset: 4 },
            offset: 0,
            counter: 0,
            max_committed: 0,
            history: BTreeMap::new(),
            history_start: 0,
            locks: BTreeMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// Writes a group: its place and its numbers in the file.
    fn flush(&mut self, parent: i64, rows: &BTreeSet<Row>) -> (SourcePos, i64, i64) {
        self.place.offset += 100;
        self.counter += 1;
        let mut committed = parent;
        if let Counting::WriteSet { cleared_by_commits } = self.counting {
            let known = rows.iter().filter_map(|row| self.history.get(row)).max();
            let last = known.copied().unwrap_or(0).max(self.history_start);
            // Tables without a key have no write sets.
            if rows.is_empty() || rows.iter().any(|(table, _)| TABLES[*table] == Table::NoKey) {
                if rows.is_empty() && cleared_by_commits {
                    self.history.clear();
                    self.history_start = self.counter;
                }
            } else {
                committed = committed.min(last);
            }
            self.history
                .extend(rows.iter().map(|row| (*row, self.counter)));
        }
        (
            self.place,
            (committed - self.offset).max(0),
            self.counter - self.offset,
        )
    }

    fn rotate(&mut self) {
        self.place = SourcePos {
            file: self.place.file + 1,
            offset: 4,
        };
        self.offset = self.counter;
        self.history.clear();
        self.history_start = self.counter;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Active,
    Preparing,
    Prepared,
    Committing,
    Done,
}

struct Branch {
    node: usize,
    changes: Vec<(usize, Op)>,
    rows: BTreeSet<Row>,
    parent: i64,
    phase: Phase,
    prepare: (SourcePos, i64, i64),
    commit: SourcePos,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Insert(u8),
    Delete(u8),
    Update(u8, u8),
}

struct Txn {
    local: bool,
    rolled_back: bool,
    branches: Vec<Branch>,
}

struct World {
    random: Random,
    nodes: Vec<Node>,
    txns: Vec<Txn>,
    /// Where each row is; none if it is nowhere.
    places: BTreeMap<Row, usize>,
    /// By row: committed transactions that touched it, in the order in which they began.
    touched: BTreeMap<Row, Vec<usize>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let nodes = 1 + random.below(3);
        let counting = |random: &mut Random| match random.below(3) {
            0 => Counting::CommitOrder,
            n => Counting::WriteSet {
                cleared_by_commits: n == 1,
            },
        };
        let nodes = (0..nodes)
            .map(|_| Node::new(counting(&mut random)))
            .collect();
        Self {
            random,
            nodes,
            txns: Vec::new(),
            places: BTreeMap::new(),
            touched: BTreeMap::new(),
        }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.random.below(12) {
                0..3 => self.begin(),
                3 if self.random.one_in(4) => {
                    let node = self.random.below(self.nodes.len());
                    if self.nodes[node].queue.is_empty() {
                        self.nodes[node].rotate();
                    }
                }
                _ => self.step(),
            }
        }
        while self
            .txns
            .iter()
            .flat_map(|t| &t.branches)
            .any(|b| b.phase != Phase::Done)
        {
            self.step();
        }
    }

    fn begin(&mut self) {
        let id = self.txns.len();
        let local = self.random.one_in(2);
        let branches = if local {
            1
        } else {
            1 + self.random.below(self.nodes.len())
        };
        let mut nodes: Vec<usize> = (0..self.nodes.len()).collect();
        let mut txn = Txn {
            local,
            rolled_back: !local && self.random.one_in(8),
            branches: Vec::new(),
        };
        for _ in 0..branches {
            let node = nodes.swap_remove(self.random.below(nodes.len()));
            txn.branches.push(Branch {
                node,
                changes: Vec::new(),
                rows: BTreeSet::new(),
                parent: 0,
                phase: Phase::Active,
                prepare: (SourcePos::default(), 0, 0),
                commit: SourcePos::default(),
            });
        }
        for _ in 0..=self.random.below(4) {
            self.change(id, &mut txn);
        }
        txn.branches.retain(|b| !b.changes.is_empty());
        if txn.branches.is_empty() {
            return;
        }
        for branch in &mut txn.branches {
            branch.parent = self.nodes[branch.node].max_committed;
        }
        self.txns.push(txn);
    }

    /// One change of one branch, or of two: a row that moves.
    fn change(&mut self, id: usize, txn: &mut Txn) {
        let at = self.random.below(txn.branches.len());
        let table = self.random.below(TABLES.len());
        let row = (table, self.random.below(usize::from(KEYS)) as u8);
        let other = (table, self.random.below(usize::from(KEYS)) as u8);
        let node = txn.branches[at].node;
        if !self.is_free(row) {
            return;
        }
        let op = match self.places.get(&row) {
            None => Op::Insert(row.1),
            Some(home) if *home != node => return,
            Some(_) => match self.random.below(4) {
                0 => Op::Delete(row.1),
                1 if self.is_free(other) && !self.places.contains_key(&other) => {
                    Op::Update(row.1, other.1)
                }
                2 if txn.branches.len() > 1 => {
                    let to = (at + 1) % txn.branches.len();
                    self.add(id, &mut txn.branches[to], table, Op::Insert(row.1));
                    Op::Delete(row.1)
                }
                _ => Op::Update(row.1, row.1),
            },
        };
        self.add(id, &mut txn.branches[at], table, op);
    }

    fn is_free(&self, row: Row) -> bool {
        self.nodes.iter().all(|node| !node.locks.contains_key(&row))
    }

    fn add(&mut self, id: usize, branch: &mut Branch, table: usize, op: Op) {
        let (a, b) = match op {
            Op::Insert(key) | Op::Delete(key) => (key, key),
            Op::Update(a, b) => (a, b),
        };
        for row in [(table, a), (table, b)] {
            self.nodes[branch.node].locks.insert(row, id);
            branch.rows.insert(row);
            let touched = self.touched.entry(row).or_default();
            if touched.last() != Some(&id) {
                touched.push(id);
            }
        }
        branch.changes.push((table, op));
    }

    /// Something goes on somewhere.
    fn step(&mut self) {
        let node = self.random.below(self.nodes.len());
        if self.random.one_in(2) {
            self.commit_group(node);
            return;
        }
        let open: Vec<(usize, usize)> = (self.txns.iter().enumerate())
            .flat_map(|(t, txn)| txn.branches.iter().enumerate().map(move |(b, x)| (t, b, x)))
            .filter(|(_, _, b)| b.phase != Phase::Done)
            .map(|(t, b, _)| (t, b))
            .collect();
        if open.is_empty() {
            return;
        }
        let (t, b) = open[self.random.below(open.len())];
        let txn = &mut self.txns[t];
        let all_prepared = (txn.branches.iter()).all(|b| b.phase >= Phase::Prepared);
        let local = txn.local;
        let branch = &mut txn.branches[b];
        let node = &mut self.nodes[branch.node];
        let group = match branch.phase {
            Phase::Active => {
                branch.prepare = node.flush(branch.parent, &branch.rows);
                branch.commit = branch.prepare.0;
                branch.phase = if local {
                    Phase::Committing
                } else {
                    Phase::Preparing
                };
                !local
            }
            Phase::Prepared if all_prepared => {
                branch.commit = node.flush(node.max_committed, &BTreeSet::new()).0;
                branch.phase = Phase::Committing;
                false
            }
            _ => return,
        };
        node.queue.push_back(Flushed {
            txn: t,
            branch: b,
            number: node.counter,
            prepares: group,
        });
    }

    /// The engine commits what was written first.
    fn commit_group(&mut self, node: usize) {
        let Some(group) = self.nodes[node].queue.pop_front() else {
            return;
        };
        self.nodes[node].max_committed = group.number;
        let txn = &mut self.txns[group.txn];
        let branch = &mut txn.branches[group.branch];
        if group.prepares {
            branch.phase = Phase::Prepared;
            return;
        }
        branch.phase = Phase::Done;
        self.nodes[node]
            .locks
            .retain(|_, owner| *owner != group.txn);
        if txn.rolled_back {
            return;
        }
        for (table, op) in &branch.changes {
            let (old, new) = match *op {
                Op::Insert(key) => (None, Some(key)),
                Op::Delete(key) => (Some(key), None),
                Op::Update(a, b) => (Some(a), Some(b)),
            };
            if let Some(old) = old
                && self.places.get(&(*table, old)) == Some(&node)
            {
                self.places.remove(&(*table, old));
            }
            if let Some(new) = new {
                self.places.insert((*table, new), node);
            }
        }
    }

    /// Committed transactions in an order that the merger could give.
    fn order(&mut self) -> Vec<usize> {
        let committed: Vec<usize> = (0..self.txns.len())
            .filter(|t| !self.txns[*t].rolled_back)
            .collect();
        let mut before: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for t in &committed {
            for v in &committed {
                let forced = self.txns[*t].branches.iter().any(|a| {
                    let mut others = self.txns[*v].branches.iter();
                    others.any(|b| a.node == b.node && a.commit < b.prepare.0)
                });
                if forced && t != v {
                    before.entry(*v).or_default().insert(*t);
                }
            }
        }
        for touched in self.touched.values() {
            let touched: Vec<_> = touched
                .iter()
                .filter(|t| !self.txns[**t].rolled_back)
                .collect();
            for pair in touched.windows(2) {
                before.entry(*pair[1]).or_default().insert(*pair[0]);
            }
        }
        let (mut left, mut order) = (committed, Vec::new());
        while !left.is_empty() {
            let ready: Vec<usize> = (0..left.len())
                .filter(|i| {
                    before
                        .get(&left[*i])
                        .is_none_or(|b| b.iter().all(|t| order.contains(t)))
                })
                .collect();
            assert!(!ready.is_empty(), "the order has no ring");
            // Mostly in order of beginning, so that there is something to be free of.
            let at = ready[self.random.below(ready.len().min(3))];
            order.push(left.remove(at));
        }
        order
    }
}

/// Each node writes texts in its own case.
fn key_of(table: usize, node: usize, key: u8) -> Vec<u8> {
    match TABLES[table] {
        Table::Texts(_) if node == 0 => vec![b'A' + key],
        Table::Texts(_) => vec![b'a' + key],
        _ => vec![key],
    }
}

fn body_of(branch: &Branch) -> Body {
    let keys: Vec<_> = (branch.changes.iter())
        .map(|(table, op)| match *op {
            Op::Insert(k) | Op::Delete(k) => (key_of(*table, branch.node, k), Vec::new()),
            Op::Update(a, b) => (
                key_of(*table, branch.node, a),
                key_of(*table, branch.node, b),
            ),
        })
        .collect();
    let changes: Vec<(Table, Change<'_>)> = (branch.changes.iter().zip(&keys))
        .map(|((table, op), (a, b))| {
            let change = match op {
                Op::Insert(_) => Insert(a),
                Op::Delete(_) => Delete(a),
                Op::Update(..) => Update(a, b),
            };
            (TABLES[*table], change)
        })
        .collect();
    body(&changes)
}

#[derive(Debug, Default)]
struct Found {
    transactions: u64,
    /// Pairs that touch one row, on one node and on two.
    conflicts: [u64; 2],
    /// Transactions that need not wait for their predecessor.
    free: u64,
}

fn check(seed: u64, found: &mut Found) {
    let mut world = World::new(seed);
    world.run(150);
    let order = world.order();
    let mut clock = Clock::new(world.nodes.len(), 0);
    let mut last: BTreeMap<Row, (u64, BTreeSet<usize>)> = BTreeMap::new();
    let (mut gno, mut restarts) = (0, 0);
    for t in order {
        if world.random.one_in(40) {
            clock = Clock::new(world.nodes.len(), gno);
            restarts += 1;
        }
        if world.random.one_in(60) {
            gno += 1;
            clock.statement(gno);
        }
        gno += 1;
        let txn = &world.txns[t];
        let bodies: Vec<Body> = txn.branches.iter().map(body_of).collect();
        let intervals: Vec<_> = (txn.branches.iter().zip(&bodies))
            .map(|(branch, body)| Interval {
                node: NodeId(branch.node as u16),
                prepare: branch.prepare.0,
                commit: branch.commit,
                last_committed: branch.prepare.1,
                sequence_number: branch.prepare.2,
                body,
            })
            .collect();
        let on = threshold(clock.rows(gno, &intervals), gno);
        found.transactions += 1;
        found.free += u64::from(on + 1 < gno);
        let mut touched: BTreeMap<Row, BTreeSet<usize>> = BTreeMap::new();
        for branch in &txn.branches {
            for row in &branch.rows {
                touched.entry(*row).or_default().insert(branch.node);
            }
        }
        for (row, nodes) in touched {
            if let Some((earlier, theirs)) = last.insert(row, (gno, nodes.clone())) {
                found.conflicts[usize::from(nodes.is_disjoint(&theirs))] += 1;
                assert!(
                    on >= earlier,
                    "seed {seed}: {gno} depends on {on}, and touches {row:?} as {earlier} does \
                     (restarts: {restarts})"
                );
            }
        }
    }
}

#[test]
fn who_touches_a_row_depends_on_who_did_before() {
    let mut found = Found::default();
    for seed in 1..=6000 {
        check(seed, &mut found);
    }
    println!("{found:?}");
    let Found {
        transactions,
        conflicts,
        free,
    } = found;
    assert!(transactions > 20_000 && conflicts.iter().all(|n| *n > 1_000));
    assert!(free * 10 > transactions);
}
