//! Distributed transactions: prepare everywhere, decide, finish; and what happens when the coordinator dies in between.
//!
//! In: orders at the moments the scheduler chooses. Out: groups in binlogs, outcomes of branches, the orders that follow.

use std::collections::BTreeSet;

use tributary_collector::Start;
use tributary_flow::{Tso, TxnKind};

use crate::body;
use crate::cluster::{Cluster, Order, xid};
use crate::faults::{Broken, Counts, Fault};
use crate::node::{Group, Label};
use crate::rng::Rng;
use crate::truth::{Fate, Outcome, Part, Truth};

/// What shall become of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// With the timestamp that is set for it, if one is.
    Commit(Option<u64>),
    Rollback,
}

/// A distributed transaction and its coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Distributed {
    gtrid: u64,
    /// The gtrid was another transaction's before, which only its timestamp tells apart.
    strict: bool,
    /// By branch; empty until it is decided.
    decisions: Vec<Decision>,
    rollback: bool,
    /// Counts coordinators: orders of a dead one are not carried out.
    generation: u32,
}

/// An xid that may be used again.
#[derive(Clone, Debug)]
pub(crate) struct FreeGtrid {
    gtrid: u64,
    /// Who had it, on which nodes, and whether its commits had timestamps.
    id: u64,
    nodes: Vec<usize>,
    stamped: bool,
}

impl Cluster {
    pub(crate) fn distribute(
        &mut self,
        id: u64,
        seen: &BTreeSet<u64>,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> Vec<Order> {
        let mut nodes: Vec<usize> = (0..self.nodes.len()).filter(|_| rng.percent(50)).collect();
        if nodes.is_empty() || rng.percent(5) {
            nodes.push(rng.below(self.nodes.len()));
        }
        nodes.sort_unstable();
        nodes.retain(|n| !self.retired.contains(n));
        if self.plan.late > 0 {
            // A part that comes on its own is told by its node.
            nodes.dedup();
        }
        if nodes.is_empty() {
            return Vec::new();
        }
        if nodes.windows(2).any(|w| w[0] == w[1]) {
            counts.hit(Fault::TwoBranchesOnOneNode);
        }
        let full: Vec<usize> = (0..nodes.len()).filter(|_| rng.percent(90)).collect();
        let of_full: Vec<usize> = full.iter().map(|b| nodes[*b]).collect();
        let mut rows = vec![Vec::new(); nodes.len()];
        for (branch, part) in full.iter().zip(self.transfer(id, &of_full, rng)) {
            rows[*branch] = part;
        }
        let parts: Vec<Part> = (nodes.iter().zip(rows))
            .map(|(&node, rows)| Part {
                node,
                rows,
                prepare: None,
                outcome: Outcome::Open,
            })
            .collect();
        if parts.iter().any(|p| p.rows.is_empty()) {
            counts.hit(Fault::EmptyBranch);
        }
        let (gtrid, strict) = self.gtrid(id, &nodes, seen, rng, counts);
        let orders = (0..parts.len()).map(|b| Order::Branch(id, b, 0)).collect();
        let truth = Truth {
            parts,
            ..Truth::default()
        };
        self.truth.insert(id, truth);
        let rollback = rng.percent(self.plan.rollback);
        let distributed = Distributed {
            gtrid,
            strict,
            decisions: Vec::new(),
            rollback,
            generation: 0,
        };
        self.distributed.insert(id, distributed);
        orders
    }

    /// A gtrid, perhaps one that is free again. Without timestamps two uses are told apart only when the first one has come out,
    /// or is on the same nodes.
    fn gtrid(
        &mut self,
        id: u64,
        nodes: &[usize],
        seen: &BTreeSet<u64>,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> (u64, bool) {
        if self.free_gtrids.is_empty() || !rng.percent(40) || self.plan.change_every > 0 {
            return (id, false);
        }
        let at = rng.below(self.free_gtrids.len());
        let free = &self.free_gtrids[at];
        let came_out = self.plan.reuse_seen && seen.contains(&free.id);
        // A use that was rolled back leaves no mark by which another node's part of it could be known.
        let committed = |p: &Part| p.outcome == Outcome::Committed;
        let whole = self.truth[&free.id].parts.iter().all(committed);
        let known = self.plan.start == Start::Earliest && (self.is_causal() || free.stamped);
        let alike = free.nodes == nodes && whole && known;
        let safe = alike || came_out;
        let told_apart = !self.is_causal() && free.stamped && self.plan.skew == 1;
        if !safe && !told_apart {
            return (id, false);
        }
        counts.hit(Fault::XidReuse);
        // Nor is a branch without a timestamp where others have one told from the branches of the use before.
        (self.free_gtrids.swap_remove(at).gtrid, !self.is_causal())
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
            Order::Recover(id) => self.recover(now, id, rng, counts),
            Order::Decide(id, generation) => {
                if self.is_stale(id, generation) {
                    return Vec::new();
                }
                if rng.percent(death) {
                    return self.die(id, counts);
                }
                self.decide(now, id, rng, counts)
            }
            Order::Branch(id, branch, generation) => {
                if self.is_stale(id, generation) {
                    return Vec::new();
                }
                if !self.nodes[self.truth[&id].parts[branch].node].up {
                    return vec![order];
                }
                if rng.percent(death) {
                    return self.die(id, counts);
                }
                self.branch(now, id, branch, rng, counts)
            }
        }
    }

    fn is_stale(&self, id: u64, generation: u32) -> bool {
        let txn = self.distributed.get(&id);
        txn.is_none_or(|txn| txn.generation != generation)
    }

    /// The coordinator is gone; somebody will find its transaction.
    fn die(&mut self, id: u64, counts: &mut Counts) -> Vec<Order> {
        let Some(txn) = self.distributed.get_mut(&id) else {
            return Vec::new();
        };
        let committed = |p: &Part| p.outcome == Outcome::Committed;
        let in_doubt = self.truth[&id].parts.iter().any(committed);
        counts.hit(match txn.decisions.is_empty() {
            true => Fault::CoordinatorDeathBeforeDecision,
            false if in_doubt && self.plan.in_doubt => Fault::LongInDoubt,
            false => Fault::CoordinatorDeathInCommit,
        });
        txn.generation += 1;
        vec![Order::Recover(id)]
    }

    fn decide(&mut self, now: u64, id: u64, rng: &mut Rng, counts: &mut Counts) -> Vec<Order> {
        let branches = self.truth[&id].parts.len();
        let rollback = self.distributed.get(&id).is_some_and(|t| t.rollback);
        let mut decisions = vec![Decision::Rollback; branches];
        if rollback {
            counts.hit(Fault::LateRollback);
        } else if self.is_causal() {
            decisions = (0..branches)
                .map(|_| self.no_timestamp(now, rng, counts))
                .collect();
        } else {
            let tso = self.fetch_tso(now);
            decisions = vec![Decision::Commit(Some(tso)); branches];
            self.break_promise(now, id, &mut decisions);
        }
        self.decided(id, decisions)
    }

    /// In causal mode nobody sets timestamps, or somebody sets some that mean nothing.
    fn no_timestamp(&mut self, now: u64, rng: &mut Rng, counts: &mut Counts) -> Decision {
        if !rng.percent(self.plan.junk_timestamps) {
            return Decision::Commit(None);
        }
        counts.hit(Fault::MeaninglessTimestamp);
        Decision::Commit(Some(crate::node::EPOCH + rng.range(0, 2 * now + 10)))
    }

    /// Once in a story that is about it, the oracle or the coordinator does what it must not.
    fn break_promise(&mut self, now: u64, id: u64, decisions: &mut [Decision]) {
        let Some(broken) = self
            .plan
            .broken
            .filter(|b| now >= b.from() && self.broken.is_none())
        else {
            return;
        };
        match (broken, decisions) {
            (Broken::TwoTimestamps(_), [_, second, ..]) => {
                *second = Decision::Commit(Some(self.fetch_tso(now)));
                self.broken = Some(id);
            }
            (Broken::OracleBack(_), all) => {
                let parts = &self.truth[&id].parts;
                // Of several branches, those that are told first may be written before the oracle is found out.
                let [part] = parts.as_slice() else { return };
                let Some(floor) = self.committed_before(part) else {
                    return;
                };
                all.fill(Decision::Commit(Some(floor)));
                self.broken = Some(id);
            }
            _ => {}
        }
    }

    /// A timestamp that lies before the prepare of a branch, in its node's binlog.
    fn committed_before(&self, part: &Part) -> Option<u64> {
        let entries = self.nodes[part.node].entries.iter();
        let before = entries.take_while(|e| Some(e.gtid) != part.prepare);
        let commit = |e: &&crate::node::Entry| matches!(e.kind, TxnKind::Commit(_));
        before
            .filter(commit)
            .filter_map(|e| e.tso)
            .map(Tso::micros)
            .max()
    }

    /// Orders to finish what is not finished; the transaction is over when there is none.
    fn decided(&mut self, id: u64, decisions: Vec<Decision>) -> Vec<Order> {
        let Some(txn) = self.distributed.get_mut(&id) else {
            return Vec::new();
        };
        txn.decisions = decisions;
        let generation = txn.generation;
        let parts = self.truth[&id].parts.iter().enumerate();
        let open = parts.filter(|(_, p)| p.outcome == Outcome::Open);
        let orders: Vec<Order> = open
            .map(|(b, _)| Order::Branch(id, b, generation))
            .collect();
        if orders.is_empty() {
            self.over(id);
        }
        orders
    }

    /// Somebody finishes what a dead coordinator has left: a recover task as the protocol says, or a person as they like.
    fn recover(&mut self, now: u64, id: u64, rng: &mut Rng, counts: &mut Counts) -> Vec<Order> {
        let (Some(txn), Some(truth)) = (self.distributed.get(&id), self.truth.get(&id)) else {
            return Vec::new();
        };
        let mut decisions = txn.decisions.clone();
        let rolls_back = decisions.first() == Some(&Decision::Rollback);
        let (by_hand, free) = (rng.percent(self.plan.by_hand), !txn.strict);
        let mut parts = truth.parts.clone();
        let prepared = parts.iter().all(|p| p.prepare.is_some());
        if decisions.is_empty() {
            decisions = vec![Decision::Rollback; parts.len()];
            if by_hand && prepared && free {
                decisions = self.resolved_by_hand(now, parts.len(), rng, counts);
            }
            // What was never prepared is gone with its connection.
            for part in parts.iter_mut().filter(|p| p.prepare.is_none()) {
                self.nodes[part.node].release(&part.rows, false);
                (part.outcome, part.rows) = (Outcome::Gone, Vec::new());
            }
            self.truth.entry(id).and_modify(|t| t.parts = parts);
        } else if by_hand && free && !rolls_back && self.broken != Some(id) {
            self.finish_by_hand(id, &mut decisions, rng, counts);
        }
        let unstamped = |d: &Decision| *d == Decision::Commit(None);
        if !self.is_causal() && decisions.iter().any(unstamped) {
            self.unstamped.insert(id);
        }
        self.decided(id, decisions)
    }

    /// Nothing was decided: a person commits everything, or one thing and not the other.
    fn resolved_by_hand(
        &mut self,
        now: u64,
        branches: usize,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> Vec<Decision> {
        let commit = match self.is_causal() {
            true => self.no_timestamp(now, rng, counts),
            false => Decision::Commit(None),
        };
        let mut decisions = vec![commit; branches];
        counts.hit(Fault::CommitByHand);
        if branches > 1 && rng.percent(30) {
            counts.hit(Fault::HeuristicOutcome);
            decisions[rng.below(branches)] = Decision::Rollback;
        }
        decisions
    }

    /// The rest is committed without a timestamp, or rolled back.
    fn finish_by_hand(
        &mut self,
        id: u64,
        decisions: &mut [Decision],
        rng: &mut Rng,
        counts: &mut Counts,
    ) {
        let open: Vec<usize> = {
            let parts = self.truth[&id].parts.iter().enumerate();
            let open = parts.filter(|(_, p)| p.outcome == Outcome::Open);
            open.map(|(b, _)| b).collect()
        };
        let other = if rng.percent(30) {
            Decision::Rollback
        } else {
            Decision::Commit(None)
        };
        counts.hit(match other {
            Decision::Rollback if open.len() < decisions.len() => Fault::HeuristicOutcome,
            Decision::Rollback => Fault::LateRollback,
            Decision::Commit(_) if open.len() < decisions.len() => Fault::StampedSibling,
            Decision::Commit(_) => Fault::CommitByHand,
        });
        for branch in open {
            decisions[branch] = other;
        }
    }

    fn branch(
        &mut self,
        now: u64,
        id: u64,
        branch: usize,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> Vec<Order> {
        let (Some(txn), Some(truth)) = (self.distributed.get(&id), self.truth.get(&id)) else {
            return Vec::new();
        };
        let (xid, generation) = (xid(txn.gtrid, branch), txn.generation);
        let part = truth.parts[branch].clone();
        let Some(decision) = txn.decisions.get(branch).copied() else {
            let group = Group {
                kind: TxnKind::Prepare(xid),
                tso: None,
                events: body::rows(&part.rows, rng.range(90, 95)),
                label: Label::Prepare(id),
            };
            let gtid = self.write(now, part.node, group, counts);
            let parts = &mut self.truth.get_mut(&id).expect("it is there").parts;
            parts[branch].prepare = Some(gtid);
            let all = parts.iter().all(|p| p.prepare.is_some());
            return all
                .then_some(Order::Decide(id, generation))
                .into_iter()
                .collect();
        };
        let (kind, label, tso, outcome) = match decision {
            Decision::Commit(tso) => (
                TxnKind::Commit(xid),
                Label::Commit(id),
                tso,
                Outcome::Committed,
            ),
            Decision::Rollback => (
                TxnKind::Rollback(xid),
                Label::None,
                None,
                Outcome::RolledBack,
            ),
        };
        let events = Vec::new();
        self.write(
            now,
            part.node,
            Group {
                kind,
                tso,
                events,
                label,
            },
            counts,
        );
        self.nodes[part.node].release(&part.rows, outcome == Outcome::Committed);
        let truth = self.truth.get_mut(&id).expect("it is there");
        truth.parts[branch].outcome = outcome;
        truth.finished = now;
        if self.plan.mode == tributary_flow::OrderMode::Tso {
            truth.tso = truth.tso.or(tso);
        }
        if truth.fate() != Fate::Open {
            self.over(id);
        }
        Vec::new()
    }

    fn over(&mut self, id: u64) {
        let (Some(txn), Some(truth)) = (self.distributed.remove(&id), self.truth.get(&id)) else {
            return;
        };
        let nodes = truth.parts.iter().map(|p| p.node).collect();
        self.free_gtrids.push(FreeGtrid {
            gtrid: txn.gtrid,
            id,
            nodes,
            stamped: !self.unstamped.contains(&id),
        });
    }
}
