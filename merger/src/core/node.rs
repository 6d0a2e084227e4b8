//! One node's stream: its keys and its frontier.
//!
//! In: the node's items in binlog order and the fences placed on it. Out: the [`Floor`] on which each transaction stands,
//! an [`OrderKey`] for every transaction the node commits alone, and the node's *frontier*: every transaction it will ever
//! tell from now on has a key above it.
//!
//! A commit whose key is not known yet (of a transaction without a timestamp) is a *gate*: what lies behind it stands on
//! that key, so it waits in a backlog until the key is known. What lies behind is still read, resolved and counted.
//!
//! Why the frontier holds (see `docs/ordering.md` for the whole proof):
//! * a distributed commit still to come was prepared at or behind the first unresolved prepare, so its TSO was fetched
//!   after every commit before that prepare: it is greater than `floor` of that prepare; and without a TSO its key has
//!   that floor's TSO at least, and a time above `clock`;
//! * a local transaction still to come stands on the floor reached, at a time of `clock` or more.

use std::collections::VecDeque;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tributary_binlog::XaXid;
use tributary_flow::{Fence, Mutant, NodeId, OrderKey, SourcePos, SourceTxn, Tso, mutant};

use super::groups::GroupId;
use super::known::Horizon;
use crate::error::BranchPlace;

/// The least key that a node may still produce.
pub type Frontier = OrderKey;

/// What a transaction stands on: everything committed before it on its node lies at or below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Floor {
    /// Greatest TSO of a commit or passed fence.
    pub(super) tso: Tso,
    /// No local transaction to come has a lesser time.
    pub(super) time: u64,
}

impl Floor {
    pub(super) fn raise(&mut self, tso: Tso, time: u64) {
        self.tso = self.tso.max(tso);
        self.time = self.time.max(time);
    }
}

/// A prepare, from the first one that holds the watermark down.
#[derive(Debug)]
struct Prepared {
    /// `None` while a gate before it is closed.
    floor: Option<Floor>,
    state: State,
    group: Option<GroupId>,
    /// Its place among all transactions of its node.
    at: u64,
}

#[derive(Debug)]
enum State {
    /// Neither committed nor rolled back, as far as the stream has told.
    Unresolved(Box<SourceTxn>),
    /// Committed without a TSO; its key is not known yet.
    Held,
    /// Committed at this TSO, there, while its floor was not known.
    Unchecked(Tso, Box<BranchPlace>),
    Gone,
}

/// What stands behind a closed gate.
#[derive(Debug)]
pub(super) enum Late {
    /// A commit of a transaction whose key may not be known yet.
    Gate(GroupId),
    /// A commit at a TSO, or a passed fence: what follows stands higher.
    Raise(Tso, u64),
    /// A local transaction: the node's clock, its place.
    Local(u64, u64, Box<SourceTxn>),
    /// A prepare.
    Prepare(u64),
}

/// A fence with what had been received from every node when it was asked for.
#[derive(Debug)]
struct Placed {
    fence: Fence,
    horizon: Option<Horizon>,
}

/// A fence that the stream has passed: the place where it takes effect, and what lies before it on other nodes.
pub(super) type Passed = (Fence, Option<Horizon>);

/// What one node's stream has told so far.
#[derive(Debug)]
pub(super) struct NodeStream {
    id: NodeId,
    /// What the next transaction stands on; behind closed gates, what the first of them stands on.
    floor: Floor,
    /// Greatest commit time received, and greatest time of a passed fence.
    clock: u64,
    /// How many transactions have been received: the place of the last.
    count: u64,
    /// How far the stream has been read.
    pos: SourcePos,
    /// Prepares in binlog order, beginning with the first one that is unresolved or held.
    prepared: VecDeque<Prepared>,
    /// How many prepares have left `prepared`: place of its first entry.
    departed: u64,
    /// Unresolved branches → their place among the prepares.
    places: HashMap<XaXid, u64>,
    /// Begins with a closed gate, or is empty.
    backlog: VecDeque<Late>,
    /// A fence that the stream has not passed.
    fence: Option<Placed>,
}

/// A branch that has just been resolved.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) prepare: Box<SourceTxn>,
    /// Its place among the prepares of its node.
    pub(super) place: u64,
    /// What it stands on, as far as that is known.
    pub(super) floor: Floor,
    /// Whether that is the floor, and not a lower bound.
    pub(super) settled: bool,
    pub(super) group: Option<GroupId>,
}

/// A prepare of which the floor has become known.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) floor: Floor,
    pub(super) group: Option<GroupId>,
    /// The TSO at which it was committed already, and where, when that is still to be compared with the floor.
    pub(super) unchecked: Option<(Tso, Box<BranchPlace>)>,
}

impl NodeStream {
    pub(super) fn new(id: NodeId, base: Tso, time: u64) -> Self {
        Self {
            id,
            floor: Floor { tso: base, time },
            clock: time,
            count: 0,
            pos: SourcePos::default(),
            prepared: VecDeque::new(),
            departed: 0,
            places: HashMap::new(),
            backlog: VecDeque::new(),
            fence: None,
        }
    }

    /// The least key that may still come from this node.
    pub(super) fn frontier(&self) -> Frontier {
        // With nothing prepared, whatever comes stands on the floor reached.
        let time = match self.prepared.is_empty() {
            true => self.floor.time,
            false => 0,
        };
        let time = time.max(self.clock);
        OrderKey::local(self.watermark(), time, self.id, self.count + 1)
    }

    /// W(n): every distributed transaction still to come has a greater TSO.
    pub(super) fn watermark(&self) -> Tso {
        let first = self.prepared.front().and_then(|p| p.floor);
        let first = first.filter(|_| !mutant(Mutant::WatermarkIgnoresPrepared));
        first.unwrap_or(self.floor).tso
    }

    pub(super) fn position(&self) -> SourcePos {
        self.pos
    }

    pub(super) fn clock(&self) -> u64 {
        self.clock
    }

    /// How many transactions have been received.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The first prepare that holds the watermark down, if it is unresolved.
    pub(super) fn first_unresolved(&self) -> Option<&SourceTxn> {
        match &self.prepared.front()?.state {
            State::Unresolved(txn) => Some(txn),
            _ => None,
        }
    }

    pub(super) fn unresolved(&self) -> usize {
        self.places.len()
    }

    /// Unresolved branches with their places.
    pub(super) fn unresolved_branches(&self) -> impl Iterator<Item = (&XaXid, u64)> {
        self.places.iter().map(|(xid, place)| (xid, *place))
    }

    /// How many items wait behind a gate.
    pub(super) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Whether a fence is placed that the stream has not passed.
    pub(super) fn fence_ahead(&self) -> bool {
        self.fence.is_some()
    }

    /// Whether passing a fence could raise the frontier above `key`.
    pub(super) fn fence_helps(&self, key: &OrderKey) -> bool {
        self.prepared.is_empty() || key.tso <= self.watermark()
    }

    /// Counts a transaction and returns its place.
    pub(super) fn receive(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Takes note of a commit time.
    pub(super) fn tick(&mut self, time: u64) -> u64 {
        self.clock = self.clock.max(time);
        self.clock
    }

    /// The key of a transaction that this node commits alone, or `None` while it waits behind a gate.
    pub(super) fn local(&mut self, txn: Box<SourceTxn>) -> Option<(OrderKey, Box<SourceTxn>)> {
        let (clock, place) = (self.tick(txn.immediate_commit), self.count);
        if let Some(tso) = txn.tso.filter(|_| mutant(Mutant::LocalAtOwnTso)) {
            self.floor.raise(tso, 0);
        }
        if self.backlog.is_empty() {
            return Some((self.local_key(clock, place), txn));
        }
        self.backlog.push_back(Late::Local(clock, place, txn));
        None
    }

    pub(super) fn local_key(&mut self, clock: u64, place: u64) -> OrderKey {
        self.floor.raise(Tso::ZERO, clock);
        let time = match mutant(Mutant::LocalAtOwnTime) {
            true => clock,
            false => self.floor.time,
        };
        OrderKey::local(self.floor.tso, time, self.id, place)
    }

    /// A branch is prepared; its place and what it stands on. `Err` gives it back when its xid is prepared already.
    pub(super) fn prepare(
        &mut self,
        xid: XaXid,
        txn: Box<SourceTxn>,
    ) -> Result<(u64, Option<Floor>), Box<SourceTxn>> {
        let Entry::Vacant(entry) = self.places.entry(xid) else {
            return Err(txn);
        };
        let place = self.departed + self.prepared.len() as u64;
        entry.insert(place);
        let floor = self.backlog.is_empty().then_some(self.floor);
        if floor.is_none() {
            self.backlog.push_back(Late::Prepare(place));
        }
        self.prepared.push_back(Prepared {
            floor,
            state: State::Unresolved(txn),
            group: None,
            at: self.count,
        });
        Ok((place, floor))
    }

    fn entry(&mut self, place: u64) -> Option<&mut Prepared> {
        let index = usize::try_from(place.checked_sub(self.departed)?).ok()?;
        self.prepared.get_mut(index)
    }

    /// The prepare group of an unresolved branch.
    pub(super) fn prepare_at(&self, place: u64) -> Option<&SourceTxn> {
        let index = usize::try_from(place.checked_sub(self.departed)?).ok()?;
        match &self.prepared.get(index)?.state {
            State::Unresolved(txn) => Some(txn),
            _ => None,
        }
    }

    /// The place behind the last prepare.
    pub(super) fn prepares(&self) -> u64 {
        self.departed + self.prepared.len() as u64
    }

    /// The place of the first prepare that holds the watermark down.
    pub(super) fn first_prepare(&self) -> Option<u64> {
        (!self.prepared.is_empty()).then_some(self.departed)
    }

    /// The place of a prepare among all transactions of the node, if everything committed before it has its key.
    pub(super) fn settled_at(&self, place: u64) -> Option<u64> {
        let index = usize::try_from(place.checked_sub(self.departed)?).ok()?;
        let prepared = self.prepared.get(index)?;
        prepared.floor.map(|_| prepared.at)
    }

    /// What the prepare at `place` stands on, if that is known.
    pub(super) fn floor_at(&self, place: u64) -> Option<Floor> {
        let index = usize::try_from(place.checked_sub(self.departed)?).ok()?;
        self.prepared.get(index)?.floor
    }

    /// TSO of what an unresolved branch stands on, or of what it stands above.
    pub(super) fn stands_on(&self, xid: &XaXid) -> Option<Tso> {
        let place = self.places.get(xid)?;
        Some(self.floor_at(*place).unwrap_or(self.floor).tso)
    }

    /// The prepare at `place` belongs to a transaction of which no TSO is known.
    pub(super) fn set_group(&mut self, place: u64, group: GroupId) {
        if let Some(entry) = self.entry(place) {
            entry.group = Some(group);
        }
    }

    /// A branch is committed at `tso`, committed without one (`hold`), or rolled back: takes it out. `None` when it
    /// was never prepared here.
    pub(super) fn resolve(
        &mut self,
        xid: &XaXid,
        tso: Option<Tso>,
        at: impl FnOnce() -> Box<BranchPlace>,
        hold: bool,
    ) -> Option<Resolved> {
        let place = self.places.remove(xid)?;
        let reached = self.floor;
        let entry = self.entry(place)?;
        let state = match tso {
            _ if hold => State::Held,
            Some(tso) if entry.floor.is_none() => State::Unchecked(tso, at()),
            _ => State::Gone,
        };
        let State::Unresolved(prepare) = std::mem::replace(&mut entry.state, state) else {
            return None;
        };
        let resolved = Resolved {
            prepare,
            place,
            floor: entry.floor.unwrap_or(reached),
            settled: entry.floor.is_some(),
            group: entry.group,
        };
        self.depart();
        Some(resolved)
    }

    /// The key of a held branch is known: it no longer holds the watermark down.
    pub(super) fn release(&mut self, place: u64) {
        if let Some(entry) = self.entry(place) {
            entry.state = State::Gone;
        }
        self.depart();
    }

    fn depart(&mut self) {
        // One that was rolled back behind a gate stays until its floor is known: its transaction waits for that.
        let gone = |p: &Prepared| matches!(p.state, State::Gone) && p.floor.is_some();
        while self.prepared.front().is_some_and(gone) {
            self.prepared.pop_front();
            self.departed += 1;
        }
    }

    /// What follows stands at `tso` and `time` at least.
    pub(super) fn raise(&mut self, tso: Tso, time: u64) {
        if self.backlog.is_empty() {
            self.floor.raise(tso, time);
        } else {
            self.backlog.push_back(Late::Raise(tso, time));
        }
    }

    /// A commit whose key is not known yet.
    pub(super) fn gate(&mut self, group: GroupId) {
        self.backlog.push_back(Late::Gate(group));
    }

    /// The first item behind the gates: a gate, or what the opening of one has left.
    pub(super) fn first_late(&self) -> Option<&Late> {
        self.backlog.front()
    }

    /// Takes out what [`NodeStream::first_late`] has shown.
    pub(super) fn take_late(&mut self) -> Option<Late> {
        self.backlog.pop_front()
    }

    /// Raises the floor at the head of the backlog.
    pub(super) fn raise_head(&mut self, tso: Tso, time: u64) {
        if mutant(Mutant::GateDoesNotRaise) {
            return;
        }
        self.floor.raise(tso, time);
    }

    /// The floor of a late prepare is known.
    pub(super) fn settle_prepare(&mut self, place: u64) -> Settled {
        let mut settled = Settled {
            floor: self.floor,
            group: None,
            unchecked: None,
        };
        if let Some(entry) = self.entry(place) {
            entry.floor = Some(settled.floor);
            settled.group = entry.group;
            if matches!(entry.state, State::Unchecked(..))
                && let State::Unchecked(tso, at) = std::mem::replace(&mut entry.state, State::Gone)
            {
                settled.unchecked = Some((tso, at));
            }
            self.depart();
        }
        settled
    }

    /// A fence is placed. Returns it as it took effect if the stream has passed it already.
    pub(super) fn place_fence(&mut self, fence: Fence, horizon: Option<Horizon>) -> Option<Passed> {
        self.fence = Some(Placed { fence, horizon });
        self.pass_fence()
    }

    /// The stream has reached `pos`. Returns the fence that it thereby passed. A stream that is resumed begins at the head of
    /// a file it has read before; what it has reached does not go back.
    pub(super) fn advance(&mut self, pos: SourcePos) -> Option<Passed> {
        self.pos = self.pos.max(pos);
        self.pass_fence()
    }

    fn pass_fence(&mut self) -> Option<Passed> {
        let pos = self.pos;
        let Placed { fence, horizon } = self
            .fence
            .take_if(|f| f.fence.pos <= pos || mutant(Mutant::FenceActsEarly))?;
        let time = match mutant(Mutant::ClampNotRaised) {
            true => 0,
            false => fence.stamp.time.saturating_add(1),
        };
        self.tick(time);
        self.raise(fence.stamp.tso, time);
        // An answer may arrive when the stream is past it: it acts only from here on, and is recorded so.
        Some((Fence { pos, ..fence }, horizon))
    }
}
