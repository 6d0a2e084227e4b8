//! Committed transactions that wait for their turn.
//!
//! In: local transactions and branches of distributed ones, with their keys. Out: the one with the least key.
//!
//! The local transactions of one node come in the order of their keys, so they stand in a queue for each node, and only
//! the heads of the queues are compared. Branches, whose commits a node may log in any order, stand together by their
//! TSO. What moves is small: the transactions stay where the collector put them.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use smallvec::SmallVec;
use tributary_flow::{NodeId, OrderKey, SourceTxn, Tso, TxnKind};

/// A committed branch of a distributed transaction.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) node: NodeId,
    /// Order of arrival from the node: branches of one transaction on one node keep their order.
    arrival: u64,
    /// The rows.
    pub(super) prepare: Box<SourceTxn>,
    pub(super) commit: Box<SourceTxn>,
}

impl Branch {
    /// What it has in common with its siblings.
    fn gtrid(&self) -> &[u8] {
        match &self.prepare.kind {
            TxnKind::Prepare(xid) => xid.gtrid(),
            _ => &[],
        }
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
    Distributed(Tso, Branches),
}

/// Everything that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// By node, in ascending order of keys.
    locals: Vec<VecDeque<(OrderKey, Box<SourceTxn>)>>,
    /// The first key of each queue that is not empty.
    heads: BinaryHeap<Reverse<OrderKey>>,
    branches: BTreeMap<Tso, Branches>,
    arrivals: u64,
    len: usize,
}

impl Waiting {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            locals: (0..nodes).map(|_| VecDeque::new()).collect(),
            heads: BinaryHeap::new(),
            branches: BTreeMap::new(),
            arrivals: 0,
            len: 0,
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
        queue.push_back((key, txn));
        self.len += 1;
    }

    /// Adds a branch that `commit` has committed at `tso`.
    pub(super) fn push_branch(
        &mut self,
        node: NodeId,
        tso: Tso,
        prepare: Box<SourceTxn>,
        commit: Box<SourceTxn>,
    ) {
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.branches.entry(tso).or_default().push(Branch {
            node,
            arrival,
            prepare,
            commit,
        });
        self.len += 1;
    }

    fn first_branch(&self) -> Option<OrderKey> {
        let (tso, _) = self.branches.first_key_value()?;
        Some(OrderKey::distributed(*tso))
    }

    /// The least key.
    pub(super) fn head(&self) -> Option<OrderKey> {
        let local = self.heads.peek().map(|Reverse(key)| *key);
        match (local, self.first_branch()) {
            (Some(local), Some(branch)) => Some(local.min(branch)),
            (local, branch) => local.or(branch),
        }
    }

    /// Takes out what has the least key.
    pub(super) fn pop(&mut self) -> Option<Next> {
        let branch = self.first_branch();
        let local = self.heads.peek().map(|Reverse(key)| *key);
        match local {
            Some(local) if branch.is_none_or(|branch| local < branch) => self.pop_local(local),
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
        Some(Next::Local(key, txn))
    }

    /// Takes out the branches of one transaction. A TSO that was handed out twice is that of several.
    fn pop_distributed(&mut self) -> Option<Next> {
        let (tso, mut branches) = self.branches.pop_first()?;
        branches.sort_by(|a, b| {
            (a.gtrid().cmp(b.gtrid())).then((a.node, a.arrival).cmp(&(b.node, b.arrival)))
        });
        let gtrid = branches.first()?.gtrid();
        let end = branches.iter().take_while(|b| b.gtrid() == gtrid).count();
        if end < branches.len() {
            let others = branches.drain(end..).collect();
            self.branches.insert(tso, others);
        }
        self.len -= branches.len();
        Some(Next::Distributed(tso, branches))
    }
}
