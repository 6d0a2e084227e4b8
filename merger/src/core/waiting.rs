//! Committed transactions that wait for their turn.
//!
//! In: local transactions and branches of distributed ones, with their keys. Out: the one with the least key.
//!
//! The local transactions of one node come in the order of their keys, so they stand in a queue for each node, and only
//! the heads of the queues are compared. Branches, whose commits a node may log in any order, stand together by their
//! TSO; transactions without one come whole, with their key. What moves is small: the transactions stay where the
//! collector put them.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap};
use smallvec::SmallVec;
use tributary_binlog::XaXid;
use tributary_flow::{NodeId, OrderKey, SourceTxn, Tso, TxnKind, limits};

/// A committed branch of a distributed transaction.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) node: NodeId,
    /// Order of arrival from the node: branches of one transaction on one node keep their order.
    pub(super) arrival: u64,
    /// The greatest TSO of a commit or passed fence before the prepare.
    pub(super) floor: Tso,
    /// The rows.
    pub(super) prepare: Box<SourceTxn>,
    pub(super) commit: Box<SourceTxn>,
}

impl Branch {
    /// Its id.
    pub(super) fn xid(&self) -> Option<&XaXid> {
        match &self.prepare.kind {
            TxnKind::Prepare(xid) => Some(xid),
            _ => None,
        }
    }

    /// What it has in common with its siblings.
    fn gtrid(&self) -> &[u8] {
        self.xid().map_or(&[], XaXid::gtrid)
    }
}

/// The branches of one distributed transaction, by node.
pub(super) type Branches = SmallVec<[Branch; 2]>;

/// What is next.
#[derive(Debug)]
pub(super) enum Next {
    /// A transaction of one node.
    Local(OrderKey, Box<SourceTxn>),
    /// A distributed one.
    Distributed(OrderKey, Branches),
}

/// Branches with one gtrid that wait at a TSO. A filter: different gtrids may share an entry.
#[derive(Debug)]
struct Gtrid {
    tso: Tso,
    branches: usize,
    /// Not all of them are at `tso`.
    mixed: bool,
}

/// Everything that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// By node, in ascending order of keys.
    locals: Vec<VecDeque<(OrderKey, Box<SourceTxn>)>>,
    /// The first key of each queue that is not empty.
    heads: BinaryHeap<Reverse<OrderKey>>,
    branches: BTreeMap<Tso, Branches>,
    /// By the hash of the gtrid.
    gtrids: HashMap<u64, Gtrid>,
    hasher: DefaultHashBuilder,
    /// Distributed transactions without a TSO.
    whole: BTreeMap<OrderKey, Branches>,
    len: usize,
    /// How many of them are large.
    large: usize,
}

/// Whether a transaction or branch takes long to hand on.
fn is_large(txn: &SourceTxn) -> bool {
    txn.body.len() > limits::MERGED_BATCH_BYTES as u64
}

fn count_large(branches: &[Branch]) -> usize {
    branches.iter().filter(|b| is_large(&b.prepare)).count()
}

impl Waiting {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            locals: (0..nodes).map(|_| VecDeque::new()).collect(),
            heads: BinaryHeap::new(),
            branches: BTreeMap::new(),
            gtrids: HashMap::new(),
            hasher: DefaultHashBuilder::default(),
            whole: BTreeMap::new(),
            len: 0,
            large: 0,
        }
    }

    /// How many local transactions and branches there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a local transaction of `key.node`; its key is greater than those of all before it.
    pub(super) fn push_local(&mut self, key: OrderKey, txn: Box<SourceTxn>) {
        let queue = &mut self.locals[key.node.index()];
        assert!(
            queue.back().is_none_or(|(last, _)| *last < key),
            "a node's local transactions come in order"
        );
        if queue.is_empty() {
            self.heads.push(Reverse(key));
        }
        self.large += usize::from(is_large(&txn));
        queue.push_back((key, txn));
        self.len += 1;
    }

    /// Adds a branch that is committed at `tso`.
    pub(super) fn push_branch(&mut self, tso: Tso, branch: Branch) {
        let hash = self.hasher.hash_one(branch.gtrid());
        let entry = self.gtrids.entry(hash).or_insert(Gtrid {
            tso,
            branches: 0,
            mixed: false,
        });
        entry.branches += 1;
        entry.mixed |= entry.tso != tso;
        self.large += usize::from(is_large(&branch.prepare));
        self.branches.entry(tso).or_default().push(branch);
        self.len += 1;
    }

    /// Adds a distributed transaction without a TSO.
    pub(super) fn push_whole(&mut self, key: OrderKey, mut branches: Branches) {
        self.len += branches.len();
        self.large += count_large(&branches);
        branches.sort_by_key(|b| (b.node, b.arrival));
        let before = self.whole.insert(key, branches);
        assert!(before.is_none(), "keys are unique");
    }

    /// Branches with this gtrid, at whatever TSO, in the order of TSOs.
    fn siblings(&self, gtrid: &[u8]) -> impl Iterator<Item = (Tso, &Branch)> {
        let known = self.gtrids.get(&self.hasher.hash_one(gtrid));
        let range = known.map(|g| match g.mixed {
            true => Tso::ZERO..=Tso::MAX,
            false => g.tso..=g.tso,
        });
        let at = range
            .into_iter()
            .flat_map(|range| self.branches.range(range));
        at.flat_map(|(tso, branches)| branches.iter().map(|b| (*tso, b)))
            .filter(move |(_, b)| b.gtrid() == gtrid)
    }

    /// The least TSO above `floor` at which a branch with this gtrid waits; branches that `used` says belong to a later
    /// transaction with the same xid do not count.
    pub(super) fn tso_of(
        &self,
        gtrid: &[u8],
        floor: Tso,
        used: impl Fn(NodeId, &XaXid) -> bool,
    ) -> Option<Tso> {
        let again = |b: &Branch| b.xid().is_some_and(|xid| used(b.node, xid));
        let later: SmallVec<[Tso; 2]> = (self.siblings(gtrid))
            .filter(|(_, b)| again(b))
            .map(|(tso, _)| tso)
            .collect();
        let mut all = self.siblings(gtrid).map(|(tso, _)| tso);
        all.find(|tso| *tso > floor && !later.contains(tso))
    }

    /// A branch that waits at another TSO than its siblings in `branches`, which are due at `tso`, and was not surely
    /// prepared behind their commit: its xid is theirs, not used again.
    pub(super) fn strayed(&self, tso: Tso, branches: &Branches) -> Option<(Tso, &Branch)> {
        let gtrid = branches.first()?.gtrid();
        let filter = self.gtrids.get(&self.hasher.hash_one(gtrid))?;
        if !filter.mixed {
            return None;
        }
        let committed = branches.iter().map(|b| b.commit.immediate_commit).max()?;
        let others: SmallVec<[(Tso, &Branch); 4]> = self.siblings(gtrid).collect();
        others.iter().copied().find(|(other, _)| {
            let mut same = others.iter().filter(|(t, _)| t == other);
            // One node prepares an xid again only when its first use is over.
            let again = |b: &Branch| {
                branches
                    .iter()
                    .any(|o| o.node == b.node && o.xid() == b.xid())
            };
            let later =
                |b: &Branch| b.floor >= tso || b.prepare.immediate_commit > committed || again(b);
            *other > tso && !same.any(|(_, b)| later(b))
        })
    }

    /// A branch with this gtrid that was committed at the time `since` or later.
    pub(super) fn sibling_since(&self, gtrid: &[u8], since: u64) -> Option<(NodeId, XaXid)> {
        let mut siblings = self.siblings(gtrid).map(|(_, branch)| branch);
        let sibling = siblings.find(|b| b.commit.immediate_commit >= since)?;
        Some((sibling.node, *sibling.xid()?))
    }

    /// The least place in `node`'s stream of a commit that waits.
    pub(super) fn first_place(&self, node: NodeId) -> Option<u64> {
        let local = self.locals.get(node.index()).and_then(VecDeque::front);
        let branches = self.branches.values().chain(self.whole.values()).flatten();
        let here = branches.filter(|b| b.node == node).map(|b| b.arrival);
        here.chain(local.map(|(key, _)| key.seq)).min()
    }

    fn first_branch(&self) -> Option<OrderKey> {
        let tso = self.branches.first_key_value();
        let tso = tso.map(|(tso, _)| OrderKey::distributed(*tso));
        let whole = self.whole.first_key_value().map(|(key, _)| *key);
        match (tso, whole) {
            (Some(tso), Some(whole)) => Some(tso.min(whole)),
            (tso, whole) => tso.or(whole),
        }
    }

    /// The least key.
    pub(super) fn head(&self) -> Option<OrderKey> {
        let local = self.heads.peek().map(|Reverse(key)| *key);
        match (local, self.first_branch()) {
            (Some(local), Some(branch)) => Some(local.min(branch)),
            (local, branch) => local.or(branch),
        }
    }

    /// Whether what has the least key is large.
    pub(super) fn head_is_large(&self) -> bool {
        if self.large == 0 {
            return false;
        }
        let Some(head) = self.head() else {
            return false;
        };
        let local = self.locals.get(head.node.index());
        let local = local
            .and_then(VecDeque::front)
            .filter(|(key, _)| *key == head);
        let whole = self.whole.get(&head);
        let at_tso = self.branches.first_key_value();
        let at_tso = at_tso.filter(|(tso, _)| OrderKey::distributed(**tso) == head);
        local.is_some_and(|(_, txn)| is_large(txn))
            || whole.is_some_and(|branches| count_large(branches) > 0)
            || at_tso.is_some_and(|(_, branches)| count_large(branches) > 0)
    }

    /// Takes out what has the least key.
    pub(super) fn pop(&mut self) -> Option<Next> {
        let branch = self.first_branch();
        let local = self.heads.peek().map(|Reverse(key)| *key);
        match (local, branch) {
            (Some(local), branch) if branch.is_none_or(|b| local < b) => self.pop_local(local),
            (_, Some(key)) if self.whole.contains_key(&key) => self.pop_whole(key),
            _ => self.pop_distributed(),
        }
    }

    fn pop_local(&mut self, key: OrderKey) -> Option<Next> {
        let queue = &mut self.locals[key.node.index()];
        let (key, txn) = queue.pop_front()?;
        let mut head = self.heads.peek_mut()?;
        match queue.front() {
            Some((next, _)) => head.0 = *next,
            None => drop(PeekMut::pop(head)),
        }
        self.len -= 1;
        self.large -= usize::from(is_large(&txn));
        Some(Next::Local(key, txn))
    }

    fn pop_whole(&mut self, key: OrderKey) -> Option<Next> {
        let branches = self.whole.remove(&key)?;
        self.len -= branches.len();
        self.large -= count_large(&branches);
        Some(Next::Distributed(key, branches))
    }

    /// Takes out the branches of one transaction. A TSO that was handed out twice is that of several.
    fn pop_distributed(&mut self) -> Option<Next> {
        let (tso, mut branches) = self.branches.pop_first()?;
        branches.sort_by(|a, b| {
            (a.gtrid().cmp(b.gtrid())).then((a.node, a.arrival).cmp(&(b.node, b.arrival)))
        });
        let gtrid = branches.first()?.gtrid();
        let end = branches.iter().take_while(|b| b.gtrid() == gtrid).count();
        let hash = self.hasher.hash_one(gtrid);
        if end < branches.len() {
            let others = branches.drain(end..).collect();
            self.branches.insert(tso, others);
        }
        if let Some(entry) = self.gtrids.get_mut(&hash) {
            entry.branches -= branches.len();
            if entry.branches == 0 {
                self.gtrids.remove(&hash);
            }
        }
        self.len -= branches.len();
        self.large -= count_large(&branches);
        Some(Next::Distributed(OrderKey::distributed(tso), branches))
    }
}
