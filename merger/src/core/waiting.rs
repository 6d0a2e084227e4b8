//! Committed transactions that wait for their turn.
//!
//! In: local transactions and branches of distributed ones, with their keys. Out: the one with the least key.
//!
//! The local transactions of one node come in the order of their keys, so they stand in a queue for each node, and only
//! the heads of the queues are compared. Branches, whose commits a node may log in any order, are in a heap. What moves
//! there is small: the transactions stay where the collector put them.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use tributary_flow::{NodeId, OrderKey, SourceTxn, Tso, TxnKind};

/// A committed branch of a distributed transaction.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) tso: Tso,
    pub(super) node: NodeId,
    /// Order of arrival from the node: branches of one transaction on one node keep their order.
    arrival: u64,
    /// The rows.
    pub(super) prepare: Box<SourceTxn>,
    pub(super) commit: Box<SourceTxn>,
}

impl Branch {
    /// What it has in common with its siblings.
    pub(super) fn gtrid(&self) -> &[u8] {
        match &self.prepare.kind {
            TxnKind::Prepare(xid) => xid.gtrid(),
            _ => &[],
        }
    }
}

impl PartialEq for Branch {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Branch {}
impl PartialOrd for Branch {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Branch {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.tso.cmp(&other.tso))
            .then_with(|| self.gtrid().cmp(other.gtrid()))
            .then_with(|| (self.node, self.arrival).cmp(&(other.node, other.arrival)))
    }
}

/// What is next.
#[derive(Debug)]
pub(super) enum Next {
    /// A transaction of one node.
    Local(OrderKey, Box<SourceTxn>),
    /// The first branch of a distributed one; its siblings follow.
    Branch(Branch),
}

/// Everything that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// By node, in ascending order of keys.
    locals: Vec<VecDeque<(OrderKey, Box<SourceTxn>)>>,
    /// The first key of each queue that is not empty.
    heads: BinaryHeap<Reverse<OrderKey>>,
    branches: BinaryHeap<Reverse<Branch>>,
    arrivals: u64,
    len: usize,
}

impl Waiting {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            locals: (0..nodes).map(|_| VecDeque::new()).collect(),
            heads: BinaryHeap::new(),
            branches: BinaryHeap::new(),
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
        self.branches.push(Reverse(Branch {
            tso,
            node,
            arrival,
            prepare,
            commit,
        }));
        self.len += 1;
    }

    fn first_branch(&self) -> Option<OrderKey> {
        let Reverse(branch) = self.branches.peek()?;
        Some(OrderKey::distributed(branch.tso))
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
        let next = match local {
            Some(local) if branch.is_none_or(|branch| local < branch) => self.pop_local(local)?,
            _ => Next::Branch(self.branches.pop()?.0),
        };
        self.len -= 1;
        Some(next)
    }

    fn pop_local(&mut self, key: OrderKey) -> Option<Next> {
        let queue = &mut self.locals[key.node.index()];
        let (key, txn) = queue.pop_front()?;
        let mut head = self.heads.peek_mut()?;
        match queue.front() {
            Some((next, _)) => head.0 = *next,
            None => drop(std::collections::binary_heap::PeekMut::pop(head)),
        }
        Some(Next::Local(key, txn))
    }

    /// Takes out another branch of the transaction that `first` belongs to.
    pub(super) fn pop_sibling(&mut self, first: &Branch) -> Option<Branch> {
        let Reverse(next) = self.branches.peek()?;
        if next.tso != first.tso || next.gtrid() != first.gtrid() {
            return None;
        }
        self.len -= 1;
        self.branches.pop().map(|Reverse(branch)| branch)
    }
}
