//! Branches of distributed transactions, from prepare to a place in the order.
//!
//! In: prepare, commit and rollback groups of the nodes. Out: branches that wait at their TSO; transactions without one that
//! wait at a key of their own; the gates that such commits are in their nodes' streams.

use smallvec::SmallVec;
use tributary_binlog::XaXid;
use tributary_flow::{Mutant, NodeId, OrderKey, OrderMode, SourceTxn, Tso, mutant};

use super::groups::{Decided, GroupId, Member, Outcome};
use super::known::{Horizon, Missing};
use super::merge::{Heuristic, Merger};
use super::node::{Floor, Late, Resolved};
use super::waiting::Branch;
use crate::MergeError;

/// What an item has made possible.
#[derive(Debug)]
pub(super) enum Work {
    /// Everything about this transaction may be known.
    Check(GroupId),
    /// The first gate of this node may be open.
    Drain(NodeId),
}

/// A branch that is committed or rolled back.
struct Done {
    node: NodeId,
    xid: XaXid,
    group: Box<SourceTxn>,
    resolved: Resolved,
}

impl Merger {
    pub(super) fn prepare(
        &mut self,
        node: NodeId,
        xid: XaXid,
        txn: Box<SourceTxn>,
    ) -> Result<(), MergeError> {
        let (place, floor) = match self.nodes[node.index()].prepare(xid, txn) {
            Ok(prepared) => prepared,
            Err(txn) => return Err(MergeError::PreparedTwice(self.place(node, xid, &txn))),
        };
        if self.mode == OrderMode::Tso && self.groups.is_empty() {
            return Ok(());
        }
        let group = match (self.groups.find(node, &xid), self.mode) {
            (Some(group), _) => group,
            (None, OrderMode::Causal) => self.groups.create(&xid),
            (None, OrderMode::Tso) => return Ok(()),
        };
        let mut horizon = self.known.horizon(node);
        horizon[node.index()] = self.nodes[node.index()].count();
        self.join(group, node, xid, place, floor, horizon);
        Ok(())
    }

    /// A prepared branch belongs to `group`.
    fn join(
        &mut self,
        id: GroupId,
        node: NodeId,
        xid: XaXid,
        place: u64,
        floor: Option<Floor>,
        horizon: Horizon,
    ) {
        self.nodes[node.index()].set_group(place, id);
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        let committed = |m: &&Member| !matches!(m.outcome, Outcome::Unresolved);
        let behind: SmallVec<[NodeId; 4]> = match group.has_commit() {
            true => group
                .members
                .iter()
                .filter(committed)
                .map(|m| m.node)
                .collect(),
            false => SmallVec::new(),
        };
        group.members.push(Member {
            node,
            xid,
            place,
            floor,
            horizon: horizon.clone(),
            outcome: Outcome::Unresolved,
            clock: 0,
            window: (0, 0),
        });
        for node in behind {
            self.learn(node, &horizon);
        }
    }

    pub(super) fn commit(
        &mut self,
        node: NodeId,
        xid: XaXid,
        group: Box<SourceTxn>,
    ) -> Result<(), MergeError> {
        let tso = group.tso.filter(|_| self.mode == OrderMode::Tso);
        // Its siblings were written before this node joined: it takes a place of its own.
        let tso = tso.filter(|tso| !self.siblings_are_gone(node, &xid, *tso));
        let name = self.table.name(node);
        let at = || super::merge::place(name, xid, &group);
        let stream = &mut self.nodes[node.index()];
        let Some(resolved) = stream.resolve(&xid, tso, at, tso.is_none()) else {
            return self.orphan(node, xid, &group);
        };
        let done = Done {
            node,
            xid,
            group,
            resolved,
        };
        match tso {
            Some(tso) => self.commit_at(tso, done),
            None => self.commit_without_tso(done),
        }
    }

    /// Whether a branch was prepared before its node joined, and is committed at a TSO that had been passed then.
    fn siblings_are_gone(&self, node: NodeId, xid: &XaXid, tso: Tso) -> bool {
        let joined = self.joined(node);
        let stands_on = self.nodes[node.index()].stands_on(xid);
        joined.is_some_and(|joined| tso <= joined && stands_on <= Some(joined))
    }

    fn commit_at(&mut self, tso: Tso, done: Done) -> Result<(), MergeError> {
        let Done {
            node,
            xid,
            group,
            resolved,
        } = done;
        let floor = resolved.floor;
        if tso <= floor.tso {
            let (at, floor) = (self.place(node, xid, &group), floor.tso);
            return Err(MergeError::OracleWentBack { at, tso, floor });
        }
        let stream = &mut self.nodes[node.index()];
        stream.raise(tso, 0);
        let (arrival, clock) = (stream.count(), stream.clock());
        self.observed = self.observed.max(tso);
        let window = (resolved.prepare.immediate_commit, group.immediate_commit);
        if let Some(other) = self.groups.rolled_back_sibling(&xid, window) {
            self.heuristic((node, xid), (other.node, other.xid));
        }
        self.waiting.push_branch(
            tso,
            Branch {
                node,
                arrival,
                floor: floor.tso,
                prepare: resolved.prepare,
                commit: group,
            },
        );
        let Some(id) = resolved.group else {
            return Ok(());
        };
        if let Some(member) = (self.groups.get_mut(id)).and_then(|g| g.member(node, resolved.place))
        {
            (member.outcome, member.clock) = (Outcome::Handed, clock);
        }
        if self.groups.get(id).is_some_and(|g| g.decided.is_none()) {
            self.decide_at(id, tso)?;
        }
        self.groups.remove_if_done(id);
        Ok(())
    }

    fn commit_without_tso(&mut self, done: Done) -> Result<(), MergeError> {
        let Done {
            node,
            xid,
            group: commit,
            resolved,
        } = done;
        self.untimed += u64::from(self.mode == OrderMode::Tso);
        let stream = &mut self.nodes[node.index()];
        let (clock, place) = (stream.tick(commit.immediate_commit), stream.count());
        let floor = stream.floor_at(resolved.place);
        let id = match resolved.group {
            Some(id) => id,
            None => self.gather(node, xid, resolved.place, floor),
        };
        self.nodes[node.index()].gate(id);
        self.work.push(Work::Drain(node));
        let Some(group) = self.groups.get_mut(id) else {
            return Ok(());
        };
        group.gates += 1;
        if let Some(member) = group.member(node, resolved.place) {
            member.outcome = Outcome::Committed(resolved.prepare, commit, place);
            member.clock = clock;
        }
        if let Some(Decided::Sibling(tso)) = group.decided {
            return self.hand_over(id, tso);
        }
        if !group.has_commit() {
            self.groups.opened(id, self.known.begin());
        }
        self.note_commit(id, node, place);
        if let Some(floor) = floor {
            self.bound(id, floor, clock);
        }
        // Behind a gate, the sibling is looked for when the floor is known: an earlier use of the xid lies below it.
        let waits_at = floor.and_then(|floor| self.waits_at(id, &xid, floor.tso));
        if let Some(tso) = waits_at.filter(|_| !mutant(Mutant::IgnoreSibling)) {
            self.decide_at(id, tso)?;
        }
        self.work.push(Work::Check(id));
        Ok(())
    }

    /// The TSO at which a sibling waits.
    fn waits_at(&self, id: GroupId, xid: &XaXid, floor: Tso) -> Option<Tso> {
        if self.mode == OrderMode::Causal {
            return None;
        }
        let group = self.groups.get(id)?;
        // What uses the xid of a branch that is resolved has come behind it.
        let used = |node: NodeId, xid: &XaXid| {
            let resolved = |m: &Member| !matches!(m.outcome, Outcome::Unresolved);
            let mut members = group.members.iter();
            members.any(|m| m.node == node && m.xid == *xid && resolved(m))
        };
        self.waiting.tso_of(xid.gtrid(), floor, used)
    }

    /// Begins to look for the branches of a transaction that was committed without a TSO: one that is prepared
    /// somewhere may have been seen when nothing was wrong yet.
    fn gather(&mut self, node: NodeId, xid: XaXid, place: u64, floor: Option<Floor>) -> GroupId {
        let (id, nowhere) = (
            self.groups.create(&xid),
            Horizon::from_elem(0, self.nodes.len()),
        );
        self.join(id, node, xid, place, floor, nowhere.clone());
        let mut siblings: Vec<(NodeId, XaXid, u64)> = Vec::new();
        for (other, stream) in self.table.iter().map(|(id, _)| id).zip(&self.nodes) {
            let same = stream
                .unresolved_branches()
                .filter(|(x, _)| x.gtrid() == xid.gtrid());
            siblings.extend(same.map(|(xid, place)| (other, *xid, place)));
        }
        siblings.sort_unstable_by_key(|(node, _, place)| (*node, *place));
        for (other, sibling, place) in siblings {
            if self.groups.find(other, &sibling) == Some(id) {
                let floor = self.nodes[other.index()].floor_at(place);
                self.join(id, other, sibling, place, floor, nowhere.clone());
            }
        }
        id
    }

    /// What a commit proves, and about whom.
    fn note_commit(&mut self, id: GroupId, node: NodeId, place: u64) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        if let Some(missing) = &mut group.missing {
            self.known.commit(node, place, id, missing);
        }
        let others = group.members.iter().filter(|m| m.node != node);
        let horizons: SmallVec<[Horizon; 4]> = others.map(|m| m.horizon.clone()).collect();
        self.report(id);
        for horizon in horizons {
            self.learn(node, &horizon);
        }
        self.told(id);
    }

    /// The end of `node`'s stream is behind `horizon`.
    pub(super) fn learn(&mut self, node: NodeId, horizon: &Horizon) {
        let mut proved: SmallVec<[GroupId; 4]> = SmallVec::new();
        self.known.learn(node, horizon, |id| proved.push(id));
        for id in proved {
            let missing = self.groups.get_mut(id).and_then(|g| g.missing.as_mut());
            if let Some(missing) = missing {
                self.known.told_by(node.index(), missing);
            }
            self.told(id);
        }
    }

    /// Whether all branches of a transaction are known now.
    fn told(&mut self, id: GroupId) {
        let whole = |g: &super::groups::Group| g.missing.as_ref().is_some_and(Missing::is_empty);
        if mutant(Mutant::DiscoverWithoutFence)
            && let Some(missing) = self.groups.get_mut(id).and_then(|g| g.missing.as_mut())
        {
            self.known.end(missing);
        }
        if self.groups.get(id).is_some_and(whole) {
            self.groups.unbound(id);
            self.work.push(Work::Check(id));
        }
    }

    /// Until all branches are known, the key may be this one.
    fn bound(&mut self, id: GroupId, floor: Floor, clock: u64) {
        let time = floor.time.max(clock) + 1;
        self.groups
            .bound(id, OrderKey::local(floor.tso, time, NodeId(0), 0));
    }

    pub(super) fn rollback(&mut self, node: NodeId, xid: XaXid, txn: &SourceTxn) {
        self.done(node, txn.gtid);
        if mutant(Mutant::ForgetRollback) {
            return;
        }
        let place = || super::merge::place("", xid, txn);
        let Some(resolved) = self.nodes[node.index()].resolve(&xid, None, place, false) else {
            return;
        };
        if !mutant(Mutant::ForgetRolledBackPrepare) {
            self.prepare_done(node, &resolved.prepare);
        }
        let window = (resolved.prepare.immediate_commit, txn.immediate_commit);
        // The moment is that of the commits: a rollback does not move the clock.
        let (clock, floor) = (self.nodes[node.index()].clock(), resolved.floor);
        let id = match resolved.group {
            None if !resolved.settled && self.mode == OrderMode::Tso => {
                // What it stood on is told when the gate before it opens; until then it is kept like one that was committed.
                Some(self.gather(node, xid, resolved.place, None))
            }
            group => group,
        };
        let Some(id) = id else {
            let committed = self.waiting.sibling_since(xid.gtrid(), window.0);
            if let Some(committed) = committed {
                self.heuristic(committed, (node, xid));
            }
            self.groups.remember(Member {
                node,
                xid,
                place: resolved.place,
                floor: Some(floor),
                horizon: Horizon::new(),
                outcome: Outcome::RolledBack,
                clock,
                window,
            });
            return;
        };
        if let Some(member) = (self.groups.get_mut(id)).and_then(|g| g.member(node, resolved.place))
        {
            (member.outcome, member.clock) = (Outcome::RolledBack, clock);
            member.window = window;
        }
        self.report(id);
        self.work.push(Work::Check(id));
        self.groups.remove_if_done(id);
    }

    /// Reports a transaction of which the branches did not share one fate, once.
    fn report(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        if group.reported || !group.is_heuristic() {
            return;
        }
        group.reported = true;
        let find = |rolled_back: bool| {
            let is = |m: &&Member| match m.outcome {
                Outcome::RolledBack => rolled_back,
                Outcome::Committed(..) | Outcome::Handed => !rolled_back,
                Outcome::Unresolved => false,
            };
            group.members.iter().find(is).map(|m| (m.node, m.xid))
        };
        if let (Some(committed), Some(rolled_back)) = (find(false), find(true)) {
            self.heuristic(committed, rolled_back);
        }
    }

    fn heuristic(&mut self, committed: (NodeId, XaXid), rolled_back: (NodeId, XaXid)) {
        self.heuristics += 1;
        // Nobody needs more names than a person reads.
        if self.outcomes.len() < 100 {
            self.outcomes.push(Heuristic {
                committed,
                rolled_back,
            });
        }
    }

    /// A sibling waits at `tso`: that is the place of the whole transaction.
    fn decide_at(&mut self, id: GroupId, tso: Tso) -> Result<(), MergeError> {
        self.close(id, Decided::Sibling(tso));
        self.hand_over(id, tso)
    }

    fn close(&mut self, id: GroupId, decided: Decided) {
        if let Some(missing) = self.groups.get_mut(id).and_then(|g| g.missing.as_mut()) {
            self.known.end(missing);
        }
        self.groups.decide(id, decided);
    }

    /// Its committed branches wait at `tso`.
    fn hand_over(&mut self, id: GroupId, tso: Tso) -> Result<(), MergeError> {
        let Some(group) = self.groups.get_mut(id) else {
            return Ok(());
        };
        let (branches, places) = group.take_branches();
        for branch in branches {
            if let (true, Some(xid)) = (tso <= branch.floor, branch.xid().copied()) {
                return Err(MergeError::OracleWentBack {
                    at: self.place(branch.node, xid, &branch.commit),
                    tso,
                    floor: branch.floor,
                });
            }
            self.waiting.push_branch(tso, branch);
        }
        self.release(&places);
        Ok(())
    }

    fn release(&mut self, places: &[(NodeId, u64)]) {
        for (node, place) in places {
            self.nodes[node.index()].release(*place);
            self.work.push(Work::Drain(*node));
        }
    }

    /// Does what has become possible.
    pub(super) fn settle(&mut self) -> Result<(), MergeError> {
        while let Some(work) = self.work.pop() {
            match work {
                Work::Check(id) => self.check(id),
                Work::Drain(node) => self.drain(node)?,
            }
        }
        Ok(())
    }

    fn check(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        let Some(key) = group.key().filter(|_| group.decided.is_none()) else {
            return;
        };
        let (branches, places) = group.take_branches();
        self.close(id, Decided::Key(key));
        self.observed_time = self.observed_time.max(key.time + 1);
        self.waiting.push_whole(key, branches);
        self.release(&places);
    }

    /// Opens the gates of a node whose transactions have their places, and gives places to what stood behind them.
    fn drain(&mut self, node: NodeId) -> Result<(), MergeError> {
        let n = node.index();
        while let Some(late) = self.nodes[n].first_late() {
            if let Late::Gate(id) = late {
                let id = *id;
                let Some(group) = self.groups.get_mut(id) else {
                    self.nodes[n].take_late();
                    continue;
                };
                let early = Decided::Sibling(Tso::ZERO);
                let early = mutant(Mutant::GateOpensEarly).then_some(early);
                let Some(decided) = group.decided.or(early) else {
                    return Ok(());
                };
                group.gates -= 1;
                self.nodes[n].take_late();
                match decided {
                    Decided::Key(key) => self.nodes[n].raise_head(key.tso, key.time + 1),
                    Decided::Sibling(tso) => self.nodes[n].raise_head(tso, 0),
                }
                self.groups.remove_if_done(id);
                continue;
            }
            match self.nodes[n].take_late() {
                Some(Late::Raise(tso, time)) => self.nodes[n].raise_head(tso, time),
                Some(Late::Local(clock, place, txn)) => {
                    let key = self.nodes[n].local_key(clock, place);
                    self.waiting.push_local(key, txn);
                }
                Some(Late::Prepare(place)) => self.settle_prepare(node, place)?,
                Some(Late::Gate(_)) | None => {}
            }
        }
        Ok(())
    }

    fn settle_prepare(&mut self, node: NodeId, place: u64) -> Result<(), MergeError> {
        let settled = self.nodes[node.index()].settle_prepare(place);
        let floor = settled.floor;
        if let Some((tso, at)) = settled.unchecked
            && tso <= floor.tso
        {
            let floor = floor.tso;
            return Err(MergeError::OracleWentBack { at, tso, floor });
        }
        let Some(id) = settled.group else {
            return Ok(());
        };
        let Some(member) = self.groups.get_mut(id).and_then(|g| g.member(node, place)) else {
            return Ok(());
        };
        member.floor = Some(floor);
        if matches!(member.outcome, Outcome::Committed(..)) {
            let (clock, xid) = (member.clock, member.xid);
            self.bound(id, floor, clock);
            let undecided = self.groups.get(id).is_some_and(|g| g.decided.is_none());
            if let Some(tso) = self.waits_at(id, &xid, floor.tso).filter(|_| undecided) {
                self.decide_at(id, tso)?;
            }
        }
        self.work.push(Work::Check(id));
        self.groups.remove_if_done(id);
        Ok(())
    }
}
