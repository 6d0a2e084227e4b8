//! What each node's stream proves about the others: which of their transactions are older than its end.
//!
//! In: evidence. A fence on node m, asked for when `k` transactions of node n had been received, proves once it is passed
//! that those are older than what m tells from there on. A distributed transaction proves it, too: all its prepares precede
//! each of its commits, so what lies behind a commit on m is younger than everything before its prepare on n.
//! Out: distributed transactions of which every node has now told all branches, because what a node can still tell is
//! younger than one of their commits, and all branches are prepared before the first commit.

use std::collections::VecDeque;

use smallvec::SmallVec;
use tributary_flow::NodeId;

use super::groups::GroupId;

/// For each node, how many of its transactions lie before some moment.
pub(super) type Horizon = SmallVec<[u64; 8]>;

/// Nodes that have not told all branches of a transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Missing(SmallVec<[u64; 1]>);

impl Missing {
    fn all(nodes: usize) -> Self {
        let mut set = Self(SmallVec::from_elem(0, nodes.div_ceil(64)));
        (0..nodes).for_each(|n| set.0[n / 64] |= 1 << (n % 64));
        set
    }

    /// Whether it was in the set.
    fn remove(&mut self, node: usize) -> bool {
        let Some(word) = self.0.get_mut(node / 64) else {
            return false;
        };
        let bit = 1 << (node % 64);
        let had = *word & bit != 0;
        *word &= !bit;
        had
    }

    pub(super) fn contains(&self, node: NodeId) -> bool {
        let n = node.index();
        self.0.get(n / 64).is_some_and(|w| w & (1 << (n % 64)) != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

/// Commits of one node, in order, and how far each other node has proved to be behind them.
#[derive(Debug)]
struct Queue {
    /// Place of the commit, its transaction.
    commits: VecDeque<(u64, GroupId)>,
    /// How many have left.
    departed: u64,
    /// By node: how many of all are proved.
    proved: Vec<u64>,
}

/// The evidence. See the module documentation.
#[derive(Debug)]
pub(super) struct Known {
    /// By node m and node n: how many transactions of n are older than the end of m's stream.
    told: Vec<Horizon>,
    queues: Vec<Queue>,
    /// How many transactions each node has not told all branches of.
    open: Vec<usize>,
}

impl Known {
    pub(super) fn new(nodes: usize) -> Self {
        let queue = |_| Queue {
            commits: VecDeque::new(),
            departed: 0,
            proved: vec![0; nodes],
        };
        Self {
            told: vec![SmallVec::from_elem(0, nodes); nodes],
            queues: (0..nodes).map(queue).collect(),
            open: vec![0; nodes],
        }
    }

    /// Of a transaction of which the first commit is seen: every node may still tell a branch.
    pub(super) fn begin(&mut self) -> Missing {
        self.open.iter_mut().for_each(|n| *n += 1);
        Missing::all(self.open.len())
    }

    /// A commit of `group` on `node`, at `place`: that node has told all its branches; the others have when they are
    /// proved to be behind it.
    pub(super) fn commit(
        &mut self,
        node: NodeId,
        place: u64,
        group: GroupId,
        missing: &mut Missing,
    ) {
        self.told_by(node.index(), missing);
        if !missing.is_empty() {
            let queue = &mut self.queues[node.index()];
            queue.commits.push_back((place, group));
        }
    }

    /// `node` has told all branches of a transaction.
    pub(super) fn told_by(&mut self, node: usize, missing: &mut Missing) {
        if missing.remove(node) {
            self.open[node] -= 1;
        }
    }

    /// A transaction is done with although nodes were missing.
    pub(super) fn end(&mut self, missing: &mut Missing) {
        (0..self.open.len()).for_each(|node| self.told_by(node, missing));
    }

    /// What lies before the end of `node`'s stream.
    pub(super) fn horizon(&self, node: NodeId) -> Horizon {
        self.told[node.index()].clone()
    }

    /// Whether a fence on `node` would prove something.
    pub(super) fn wants_fence(&self, node: NodeId) -> bool {
        self.open[node.index()] > 0
    }

    /// The end of `node`'s stream is behind `horizon`. Calls `proved` with each transaction of which `node` thereby has told
    /// all branches.
    pub(super) fn learn(
        &mut self,
        node: NodeId,
        horizon: &Horizon,
        mut proved: impl FnMut(GroupId),
    ) {
        let m = node.index();
        for (n, &place) in horizon.iter().enumerate() {
            if n == m || self.told[m][n] >= place {
                continue;
            }
            self.told[m][n] = place;
            let queue = &mut self.queues[n];
            let mut next = queue.proved[m].max(queue.departed);
            while let Some((commit, group)) =
                (queue.commits).get(usize::try_from(next - queue.departed).unwrap_or(usize::MAX))
            {
                if *commit > place {
                    break;
                }
                proved(*group);
                next += 1;
            }
            queue.proved[m] = next;
            queue.forget(n);
        }
    }
}

impl Queue {
    /// Drops what all nodes but `own` are behind.
    fn forget(&mut self, own: usize) {
        let others = self.proved.iter().enumerate().filter(|(m, _)| *m != own);
        let least = others.map(|(_, p)| *p).min().unwrap_or(0);
        while self.departed < least && self.commits.pop_front().is_some() {
            self.departed += 1;
        }
    }
}
