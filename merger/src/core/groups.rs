//! Distributed transactions of which no TSO is known.
//!
//! In: their prepares, commits and rollbacks on each node. Out: their keys, once every branch is known, resolved and
//! placed. In `causal` order these are all distributed transactions; in `tso` order those that were committed without a TSO.
//!
//! The key. Let g have branches bᵢ, prepared on the floor (tsoᵢ, timeᵢ) and resolved at the moment clockᵢ of their node's
//! clock. Its key is `(max tsoᵢ, Local, max(timeᵢ, clockᵢ) + 1, …)`. All it follows on some node lies at or below
//! that node's floor, so below it; what follows it on some node is made to stand above it; and a TSO fetched by a
//! transaction prepared behind one of its commits is greater than every tsoᵢ, for all its prepares precede that commit.
//! The clocks have no meaning for correctness: they place it near its commits, so that nobody waits for it who need not.

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap};
use smallvec::SmallVec;
use tributary_binlog::XaXid;
use tributary_flow::{NodeId, OrderKey, SourceTxn, Tso};

use super::known::{Horizon, Missing};
use super::node::Floor;
use super::waiting::{Branch, Branches};

/// Number of a transaction in [`Groups`]; older ones have lesser numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupId(u64);

/// What has become of a branch.
#[derive(Debug)]
pub(super) enum Outcome {
    Unresolved,
    /// Prepare and commit group; the commit's place in its node's stream.
    Committed(Box<SourceTxn>, Box<SourceTxn>, u64),
    /// Its rows have gone to wait at a TSO.
    Handed,
    RolledBack,
}

/// A branch.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) node: NodeId,
    pub(super) xid: XaXid,
    /// Its place among the prepares of its node.
    pub(super) place: u64,
    /// What it stands on, once that is known.
    pub(super) floor: Option<Floor>,
    /// What lies before its prepare, on every node.
    pub(super) horizon: Horizon,
    pub(super) outcome: Outcome,
    /// The node's clock when it was resolved.
    pub(super) clock: u64,
    /// When it was prepared and rolled back, by the node's clock.
    pub(super) window: (u64, u64),
}

/// Where a transaction without a TSO of its own finds its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    /// At a key of its own.
    Key(OrderKey),
    /// At the TSO of a sibling.
    Sibling(Tso),
}

/// A transaction.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) members: SmallVec<[Member; 2]>,
    /// Nodes that may still tell a branch; `None` before the first commit.
    pub(super) missing: Option<Missing>,
    pub(super) decided: Option<Decided>,
    /// Gates in the nodes' backlogs.
    pub(super) gates: usize,
    /// A lower bound of its key while a node is missing.
    bound: Option<OrderKey>,
    hash: u64,
    /// That it was rolled back in part has been reported.
    pub(super) reported: bool,
}

impl Group {
    /// Whether a branch is committed.
    pub(super) fn has_commit(&self) -> bool {
        self.missing.is_some()
    }

    pub(super) fn unresolved(&self) -> impl Iterator<Item = &Member> {
        let open = |m: &&Member| matches!(m.outcome, Outcome::Unresolved);
        self.members.iter().filter(open)
    }

    /// Whether a branch is committed and another rolled back: the coordinator did not do what it promised.
    pub(super) fn is_heuristic(&self) -> bool {
        let rolled_back = |m: &Member| matches!(m.outcome, Outcome::RolledBack);
        self.has_commit() && self.members.iter().any(rolled_back)
    }

    /// The member of `node` whose prepare is at `place`.
    pub(super) fn member(&mut self, node: NodeId, place: u64) -> Option<&mut Member> {
        let mut members = self.members.iter_mut();
        members.find(|m| m.node == node && m.place == place)
    }

    /// Whether a branch that `node` prepares now as `xid` can be one of its.
    fn accepts(&self, node: NodeId, xid: &XaXid) -> bool {
        let used = |m: &Member| {
            let resolved = !matches!(m.outcome, Outcome::Unresolved);
            m.node == node && (m.xid == *xid || (resolved && self.has_commit()))
        };
        let told = self.missing.as_ref().is_some_and(|m| !m.contains(node));
        !told && self.decided.is_none() && !self.members.iter().any(used)
    }

    /// Its key, if nothing about it is open.
    pub(super) fn key(&self) -> Option<OrderKey> {
        let whole = self.missing.as_ref()?.is_empty();
        if !whole || self.unresolved().next().is_some() {
            return None;
        }
        let (mut top, mut place) = (Floor::default(), None);
        for member in &self.members {
            let floor = member.floor?;
            top.raise(floor.tso, floor.time.max(member.clock));
            if let Outcome::Committed(_, _, at) = member.outcome {
                let here = (member.node, at);
                place = Some(place.map_or(here, |before: (NodeId, u64)| before.min(here)));
            }
        }
        let (node, seq) = place?;
        Some(OrderKey::local(top.tso, top.time + 1, node, seq))
    }

    /// Takes out the committed branches whose rows have not been taken yet, with their places.
    pub(super) fn take_branches(&mut self) -> (Branches, SmallVec<[(NodeId, u64); 2]>) {
        let (mut branches, mut places) = (Branches::new(), SmallVec::new());
        for member in &mut self.members {
            let outcome = std::mem::replace(&mut member.outcome, Outcome::Handed);
            let Outcome::Committed(prepare, commit, arrival) = outcome else {
                member.outcome = outcome;
                continue;
            };
            places.push((member.node, member.place));
            branches.push(Branch {
                node: member.node,
                arrival,
                floor: member.floor.unwrap_or_default().tso,
                prepare,
                commit,
            });
        }
        (branches, places)
    }
}

/// A branch that was rolled back before any of its siblings was committed.
#[derive(Debug)]
struct RolledBack {
    hash: u64,
    member: Member,
}

/// All of them. See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: HashMap<GroupId, Group>,
    /// By the hash of the gtrid, in order of age.
    by_gtrid: HashMap<u64, SmallVec<[GroupId; 1]>>,
    hasher: DefaultHashBuilder,
    next: u64,
    /// Undecided transactions with a commit.
    open: BTreeSet<GroupId>,
    /// Lower bounds of keys of transactions of which branches may be missing.
    bounds: BTreeSet<(OrderKey, GroupId)>,
    /// The last rollbacks that left nothing behind.
    rolled_back: VecDeque<RolledBack>,
    /// How many of them have each hash.
    rollbacks: HashMap<u64, usize>,
}

/// How many rollbacks are remembered, in case a sibling turns out to be committed.
const ROLLBACKS_MAX: usize = 4096;

impl Groups {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn get(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(&id)
    }

    /// Undecided transactions of which a branch is committed, the oldest first.
    pub(super) fn open(&self) -> impl Iterator<Item = &Group> {
        self.open.iter().filter_map(|id| self.groups.get(id))
    }

    pub(super) fn open_len(&self) -> usize {
        self.open.len()
    }

    fn hash(&self, xid: &XaXid) -> u64 {
        self.hasher.hash_one(xid.gtrid())
    }

    /// The oldest transaction that a branch can belong to which `node` prepares now.
    pub(super) fn find(&self, node: NodeId, xid: &XaXid) -> Option<GroupId> {
        let ids = self.by_gtrid.get(&self.hash(xid))?;
        ids.iter().copied().find(|id| {
            self.groups.get(id).is_some_and(|group| {
                let same = |m: &Member| m.xid.gtrid() == xid.gtrid();
                group.members.first().is_none_or(same) && group.accepts(node, xid)
            })
        })
    }

    /// A new transaction, of the gtrid of `xid`.
    pub(super) fn create(&mut self, xid: &XaXid) -> GroupId {
        self.next += 1;
        let (id, hash) = (GroupId(self.next), self.hash(xid));
        let group = Group {
            hash,
            ..Group::default()
        };
        self.groups.insert(id, group);
        self.by_gtrid.entry(hash).or_default().push(id);
        id
    }

    /// The first commit of a transaction is seen.
    pub(super) fn opened(&mut self, id: GroupId, missing: Missing) {
        self.open.insert(id);
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.missing = Some(missing);
        let committed = |m: &Member| match &m.outcome {
            Outcome::Committed(p, c, _) => Some((m.xid, (p.immediate_commit, c.immediate_commit))),
            _ => None,
        };
        let Some((xid, window)) = group.members.iter().find_map(committed) else {
            return;
        };
        let hash = group.hash;
        while let Some(before) = self.recall(hash, &xid, window) {
            self.adopt(id, before);
        }
    }

    fn adopt(&mut self, id: GroupId, member: Member) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.members.push(member);
        }
    }

    /// Takes out a branch with the gtrid of `xid` that was rolled back, prepared and rolled back at times that overlap
    /// with `window`: of another time, it would be another transaction that used the id before.
    pub(super) fn recall(&mut self, hash: u64, xid: &XaXid, window: (u64, u64)) -> Option<Member> {
        if !self.rollbacks.contains_key(&hash) {
            return None;
        }
        let at = self.rolled_back.iter().position(|before| {
            before.hash == hash
                && before.member.xid.gtrid() == xid.gtrid()
                && before.member.xid != *xid
                && before.member.window.0 <= window.1
                && before.member.window.1 >= window.0
        })?;
        forget(&mut self.rollbacks, hash);
        Some(self.rolled_back.remove(at)?.member)
    }

    /// Whether a sibling of `xid` was rolled back while it was prepared, from the time `window.0` to `window.1`.
    pub(super) fn rolled_back_sibling(
        &mut self,
        xid: &XaXid,
        window: (u64, u64),
    ) -> Option<Member> {
        if self.rolled_back.is_empty() {
            return None;
        }
        self.recall(self.hash(xid), xid, window)
    }

    /// Sets the lower bound of an open transaction's key, unless every branch of it is known.
    pub(super) fn bound(&mut self, id: GroupId, key: OrderKey) {
        if let Some(group) = self.groups.get_mut(&id)
            && group.bound.is_none()
            && group.missing.as_ref().is_some_and(|m| !m.is_empty())
        {
            group.bound = Some(key);
            self.bounds.insert((key, id));
        }
    }

    /// Every branch is known: its nodes' frontiers bound the key from here on.
    pub(super) fn unbound(&mut self, id: GroupId) {
        if let Some(key) = self.groups.get_mut(&id).and_then(|g| g.bound.take()) {
            self.bounds.remove(&(key, id));
        }
    }

    /// No transaction in here will have a lesser key, but for those that the nodes' frontiers bound.
    pub(super) fn least_bound(&self) -> Option<OrderKey> {
        self.bounds.first().map(|(key, _)| *key)
    }

    /// Its place is known.
    pub(super) fn decide(&mut self, id: GroupId, decided: Decided) {
        self.unbound(id);
        self.open.remove(&id);
        if let Some(group) = self.groups.get_mut(&id) {
            group.decided = Some(decided);
        }
    }

    /// Forgets a transaction of which nothing is left: every branch is resolved, and no gate waits for it.
    pub(super) fn remove_if_done(&mut self, id: GroupId) {
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let idle = !group.has_commit() || group.decided.is_some();
        // A commit that is yet to be seen needs what a branch stood on that was rolled back.
        let settled = group.members.iter().all(|m| m.floor.is_some());
        if group.gates > 0 || !idle || !settled || group.unresolved().next().is_some() {
            return;
        }
        let hash = group.hash;
        if let Some(ids) = self.by_gtrid.get_mut(&hash) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_gtrid.remove(&hash);
            }
        }
        if let Some(group) = self.groups.remove(&id)
            && !group.has_commit()
        {
            group.members.into_iter().for_each(|m| self.remember(m));
        }
    }

    /// A branch was rolled back, and no sibling is known.
    pub(super) fn remember(&mut self, member: Member) {
        let hash = self.hash(&member.xid);
        if self.rolled_back.len() == ROLLBACKS_MAX
            && let Some(oldest) = self.rolled_back.pop_front()
        {
            forget(&mut self.rollbacks, oldest.hash);
        }
        *self.rollbacks.entry(hash).or_default() += 1;
        self.rolled_back.push_back(RolledBack { hash, member });
    }
}

fn forget(counts: &mut HashMap<u64, usize>, hash: u64) {
    if let Some(count) = counts.get_mut(&hash) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&hash);
        }
    }
}
