//! A history of a sharded cluster: who prepared and committed what, where and when.
//!
//! In: a [`Spec`]. Out: [`Group`]s, in the order of simulated time, each for the binlog of one node. Sessions run
//! one transaction after the other: most on one node, some on several, with XA. A distributed transaction prepares
//! its branches at different times, takes its TSO from one counter when all are prepared, and commits them in any order. Rows are
//! locked from before the prepare until the commit. So the histories of all nodes fit together: what the merger
//! relies on holds. Nothing depends on a clock: the same spec gives the same history.

mod keys;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::rng::Rng;
use keys::Keys;
pub(crate) use keys::{Change, Version};

/// What the transactions are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One or two rows each, about 550 bytes.
    Oltp,
    /// Multi-row inserts, in rows events of 8 KiB.
    Bulk,
}

impl Shape {
    /// For reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oltp => "oltp",
            Self::Bulk => "bulk",
        }
    }
}

/// What a history is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) nodes: usize,
    /// Global transactions, rolled back ones included.
    pub(crate) transactions: u64,
    pub(crate) seed: u64,
    pub(crate) shape: Shape,
}

/// Simultaneous sessions.
const SESSIONS: usize = 64;
/// Of a hundred transactions, how many touch several nodes.
const DISTRIBUTED_PERCENT: u64 = 30;
/// Of a thousand distributed transactions, how many are rolled back: 1 % of all.
const ROLLED_BACK_PERMILLE: u64 = 34;
/// Rows of a multi-row insert.
const BULK_ROWS: usize = 384;
/// When the history begins, in µs since 1970: 2026-01-01.
pub(crate) const EPOCH: u64 = 1_767_225_600_000_000;

/// The statements that make the tables; every node logs them first.
pub(crate) const DDL: [&str; 2] = [
    "create database shop",
    "create table shop.orders (id bigint unsigned not null primary key, customer_id bigint unsigned not null, \
     status enum('new','paid','sent','done') not null, amount decimal(12,2) not null, note varchar(200) not null, \
     updated_at timestamp(6) not null)",
];

/// What a GTID group of a node's binlog holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What<'a> {
    /// A statement.
    Ddl(&'static str),
    /// `BEGIN … XID`.
    Local(&'a [Change]),
    /// `XA START … XA PREPARE`.
    Prepare(&'a [Change]),
    /// `XA COMMIT`, with this commit timestamp.
    Commit(u64),
    /// `XA ROLLBACK`.
    Rollback,
}

/// One GTID group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group<'a> {
    pub(crate) node: usize,
    /// When the node committed it, µs since 1970.
    pub(crate) at: u64,
    /// The session.
    pub(crate) thread: u32,
    /// Number of the distributed transaction; 0 for others.
    pub(crate) xid: u64,
    pub(crate) what: What<'a>,
}

/// What a history came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Transactions the merged binlog must have: committed ones and DDL.
    pub(crate) merged: u64,
    /// Distributed ones among them.
    pub(crate) distributed: u64,
    /// Transactions that were rolled back.
    pub(crate) rolled_back: u64,
    /// GTID groups on all nodes.
    pub(crate) groups: u64,
}

/// Runs the history; every group goes to `out`.
///
/// # Errors
/// Those of `out`.
pub(crate) fn run<E>(
    spec: &Spec,
    out: &mut dyn FnMut(&Group<'_>) -> Result<(), E>,
) -> Result<Totals, E> {
    let mut sim = Simulation::new(spec, out);
    sim.ddl()?;
    while sim.step()? {}
    Ok(sim.totals)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Begin,
    Local,
    Prepare(u8),
    TakeTso,
    Commit(u8),
    Rollback(u8),
}

#[derive(Clone, Default)]
struct Branch {
    node: usize,
    changes: Vec<Change>,
}

#[derive(Clone, Default)]
struct Session {
    branches: Vec<Branch>,
    /// Branches of the current transaction; the others are buffers of earlier ones.
    used: usize,
    xid: u64,
    tso: u64,
    pending: usize,
}

struct Simulation<'a, E> {
    spec: &'a Spec,
    out: &'a mut dyn FnMut(&Group<'_>) -> Result<(), E>,
    rng: Rng,
    keys: Vec<Keys>,
    sessions: Vec<Session>,
    agenda: BinaryHeap<Reverse<(u64, u64, usize, Step)>>,
    scheduled: u64,
    begun: u64,
    last_tso: u64,
    totals: Totals,
}

impl<'a, E> Simulation<'a, E> {
    fn new(spec: &'a Spec, out: &'a mut dyn FnMut(&Group<'_>) -> Result<(), E>) -> Self {
        Self {
            spec,
            out,
            rng: Rng::new(spec.seed),
            keys: (0..spec.nodes).map(|n| Keys::new(n, spec.nodes)).collect(),
            sessions: vec![Session::default(); SESSIONS],
            agenda: BinaryHeap::new(),
            scheduled: 0,
            begun: 0,
            last_tso: 0,
            totals: Totals::default(),
        }
    }

    fn ddl(&mut self) -> Result<(), E> {
        for (number, sql) in (0..).zip(DDL) {
            for node in 0..self.spec.nodes {
                let at = EPOCH + 10_000 * number + 100 * node as u64;
                self.emit(&Group {
                    node,
                    at,
                    thread: 8,
                    xid: 0,
                    what: What::Ddl(sql),
                })?;
            }
            self.totals.merged += 1;
        }
        for session in 0..SESSIONS {
            self.schedule(
                EPOCH + 1_000_000 + 37 * session as u64,
                session,
                Step::Begin,
            );
        }
        Ok(())
    }

    fn schedule(&mut self, at: u64, session: usize, step: Step) {
        self.scheduled += 1;
        self.agenda
            .push(Reverse((at, self.scheduled, session, step)));
    }

    fn emit(&mut self, group: &Group<'_>) -> Result<(), E> {
        self.totals.groups += 1;
        (self.out)(group)
    }

    /// The next thing that happens; `false` when nothing is left.
    fn step(&mut self) -> Result<bool, E> {
        let Some(Reverse((at, _, session, step))) = self.agenda.pop() else {
            return Ok(false);
        };
        match step {
            Step::Begin => self.begin(at, session),
            Step::Local => self.local(at, session)?,
            Step::Prepare(branch) => self.prepare(at, session, branch.into())?,
            Step::TakeTso => self.take_tso(at, session),
            Step::Commit(branch) => self.finish(at, session, branch.into(), true)?,
            Step::Rollback(branch) => self.finish(at, session, branch.into(), false)?,
        }
        Ok(true)
    }

    fn begin(&mut self, at: u64, session: usize) {
        if self.begun >= self.spec.transactions {
            return;
        }
        self.begun += 1;
        let count = match self.rng.percent(DISTRIBUTED_PERCENT) && self.spec.nodes > 1 {
            false => 1,
            true if self.rng.percent(20) => 3.min(self.spec.nodes),
            true => 2,
        };
        let first = self.rng.below(self.spec.nodes as u64) as usize;
        let stride = self.rng.between(1, (self.spec.nodes as u64 - 1).max(1)) as usize;
        let mut state = std::mem::take(&mut self.sessions[session]);
        state.used = count;
        state
            .branches
            .resize_with(state.branches.len().max(count), Branch::default);
        for (i, branch) in state.branches.iter_mut().take(count).enumerate() {
            // Always different nodes.
            let step = if count == 2 { stride * i } else { i };
            branch.node = (first + step) % self.spec.nodes;
            self.change(branch);
        }
        state.xid = if count > 1 { self.begun } else { 0 };
        state.pending = count;
        self.sessions[session] = state;
        if count == 1 {
            let at = at + self.rng.between(300, 2000);
            return self.schedule(at, session, Step::Local);
        }
        for branch in 0..count {
            let at = at + self.rng.between(300, 2500);
            self.schedule(at, session, Step::Prepare(branch as u8));
        }
    }

    fn change(&mut self, branch: &mut Branch) {
        branch.changes.clear();
        let keys = &mut self.keys[branch.node];
        match self.spec.shape {
            Shape::Bulk => branch.changes.extend((0..BULK_ROWS).map(|_| keys.insert())),
            Shape::Oltp => {
                let rows = if self.rng.percent(25) { 2 } else { 1 };
                branch
                    .changes
                    .extend((0..rows).map(|_| keys.pick(&mut self.rng)));
            }
        }
    }

    fn local(&mut self, at: u64, session: usize) -> Result<(), E> {
        let state = std::mem::take(&mut self.sessions[session]);
        let Branch { node, changes } = &state.branches[0];
        self.emit(&group(*node, at, session, 0, What::Local(changes)))?;
        for change in changes {
            self.keys[*node].commit(change);
        }
        self.totals.merged += 1;
        self.done(at, session, state);
        Ok(())
    }

    fn prepare(&mut self, at: u64, session: usize, branch: usize) -> Result<(), E> {
        let mut state = std::mem::take(&mut self.sessions[session]);
        let Branch { node, changes } = &state.branches[branch];
        self.emit(&group(
            *node,
            at,
            session,
            state.xid,
            What::Prepare(changes),
        ))?;
        state.pending -= 1;
        if state.pending == 0 {
            state.pending = state.used;
            if self.rng.below(1000) < ROLLED_BACK_PERMILLE {
                self.totals.rolled_back += 1;
                self.schedule_all(at, session, state.used, Step::Rollback);
            } else {
                let at = at + self.rng.between(100, 300);
                self.schedule(at, session, Step::TakeTso);
            }
        }
        self.sessions[session] = state;
        Ok(())
    }

    fn take_tso(&mut self, at: u64, session: usize) {
        self.last_tso = (self.last_tso + 1).max(at);
        self.sessions[session].tso = self.last_tso;
        self.schedule_all(at, session, self.sessions[session].used, Step::Commit);
    }

    fn schedule_all(&mut self, at: u64, session: usize, branches: usize, step: fn(u8) -> Step) {
        for branch in 0..branches {
            let at = at + self.rng.between(250, 1500);
            self.schedule(at, session, step(branch as u8));
        }
    }

    fn finish(&mut self, at: u64, session: usize, branch: usize, commit: bool) -> Result<(), E> {
        let mut state = std::mem::take(&mut self.sessions[session]);
        let Branch { node, changes } = &state.branches[branch];
        let what = if commit {
            What::Commit(state.tso)
        } else {
            What::Rollback
        };
        self.emit(&group(*node, at, session, state.xid, what))?;
        for change in changes {
            if commit {
                self.keys[*node].commit(change);
            } else {
                self.keys[*node].roll_back(change);
            }
        }
        state.pending -= 1;
        if state.pending > 0 {
            self.sessions[session] = state;
            return Ok(());
        }
        if commit {
            self.totals.merged += 1;
            self.totals.distributed += 1;
        }
        self.done(at, session, state);
        Ok(())
    }

    /// The session goes on with its next transaction.
    fn done(&mut self, at: u64, session: usize, state: Session) {
        self.sessions[session] = state;
        let at = at + self.rng.between(50, 250);
        self.schedule(at, session, Step::Begin);
    }
}

fn group(node: usize, at: u64, session: usize, xid: u64, what: What<'_>) -> Group<'_> {
    Group {
        node,
        at,
        thread: 10 + session as u32,
        xid,
        what,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use super::*;

    fn spec() -> Spec {
        Spec {
            nodes: 4,
            transactions: 5000,
            seed: 3,
            shape: Shape::Oltp,
        }
    }

    #[test]
    fn the_mix_is_as_promised() {
        let totals = run::<Infallible>(&spec(), &mut |_| Ok(())).unwrap();
        assert_eq!(totals.merged + totals.rolled_back, 5000 + DDL.len() as u64);
        assert!((1300..1600).contains(&totals.distributed), "{totals:?}");
        assert!((25..80).contains(&totals.rolled_back), "{totals:?}");
    }

    #[test]
    fn a_tso_is_taken_after_all_prepares_and_before_all_commits() {
        let (mut last_prepare, mut tsos) = (HashMap::new(), HashMap::new());
        let (mut last, mut commits) = (0, 0);
        run::<Infallible>(&spec(), &mut |g| {
            assert!(g.at >= last || matches!(g.what, What::Ddl(_)));
            last = g.at;
            match g.what {
                What::Prepare(_) => drop(last_prepare.insert(g.xid, g.at)),
                What::Commit(tso) => {
                    commits += 1;
                    assert!(last_prepare[&g.xid] < tso && tso < g.at, "{g:?}");
                    assert_eq!(*tsos.entry(g.xid).or_insert(tso), tso);
                }
                _ => {}
            }
            Ok(())
        })
        .unwrap();
        assert!(commits > 2 * tsos.len() && tsos.len() > 1000);
        let mut distinct: Vec<_> = tsos.values().collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), tsos.len());
    }

    #[test]
    fn every_change_begins_where_the_last_committed_one_ended() {
        type Rows = HashMap<u64, Option<Version>>;
        let (mut rows, mut open) = (Rows::new(), HashMap::<(usize, u64), Vec<Change>>::new());
        fn apply(rows: &mut Rows, changes: &[Change]) {
            for c in changes {
                assert_eq!(rows.insert(c.key, c.after).flatten(), c.before, "{c:?}");
            }
        }
        run::<Infallible>(&spec(), &mut |g| {
            match g.what {
                What::Ddl(_) => {}
                What::Local(changes) => apply(&mut rows, changes),
                What::Prepare(changes) => drop(open.insert((g.node, g.xid), changes.to_vec())),
                What::Commit(_) => apply(&mut rows, &open.remove(&(g.node, g.xid)).unwrap()),
                What::Rollback => drop(open.remove(&(g.node, g.xid)).unwrap()),
            }
            Ok(())
        })
        .unwrap();
        assert!(open.is_empty());
    }
}
