//! The k-way merge below all frontiers.
//!
//! In: [`NodeItem`]s and fences. Out: [`GlobalTxn`]s with strictly increasing keys; [`FenceStamp`]s to place; what blocks.
//!
//! A transaction is emitted when its key lies below the frontier of every node, and below the bound of every transaction
//! that is committed somewhere and whose key is not known: nothing that sorts before it can come any more, and every
//! branch of a distributed transaction has been told. So the output depends only on the nodes' streams and on the fences,
//! not on when anything arrived.

use std::sync::Arc;

use tributary_binlog::{Gtid, GtidSet, XaXid};
use tributary_flow::{
    Checkpoint, Fence, FenceStamp, GlobalTxn, KeyClass, Mutant, NodeId, NodeItem, NodeProgress,
    NodeTable, OrderKey, OrderMode, SourcePos, SourceTxn, SpoolFiles, Tso, TxnKind, mutant,
};

use tributary_schema::{ClusterSchema, Moment, NodeTables, SchemaRules};

use super::clock::Clock;
use super::distributed::Work;
use super::groups::Groups;
use super::kept::Keeping;
use super::known::{Horizon, Known};
use super::logical::Logical;
use super::node::{Frontier, NodeStream, Passed};
use super::waiting::{Branches, Next, Waiting};
use crate::MergeError;
use crate::error::BranchPlace;

/// Where to go on: the checkpoint behind the last emitted transaction.
pub type Resume = Checkpoint;

/// Why the next transaction can not be emitted: what is missing from one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockedOn {
    /// A prepared branch that is neither committed nor rolled back.
    Prepare(XaXid, Gtid, SourcePos),
    /// The stream has not reached a fence that is placed.
    Fence(SourcePos),
    /// The node has said nothing that proves it is past the next key; a fence is wanted.
    NoData,
}

/// A transaction of which one branch is committed and another rolled back: its coordinator, or a person, broke what two-phase
/// commit promises. What was committed is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heuristic {
    /// A committed branch.
    pub committed: (NodeId, XaXid),
    /// A branch that was rolled back.
    pub rolled_back: (NodeId, XaXid),
}

/// The merger's rules. See the module documentation.
#[derive(Debug)]
pub struct Merger {
    pub(super) table: NodeTable,
    /// Where the order comes from.
    pub(super) mode: OrderMode,
    /// Number of the last global transaction that was emitted.
    pub(super) last_gno: u64,
    pub(super) nodes: Vec<NodeStream>,
    pub(super) progress: Vec<NodeProgress>,
    /// Branches that stay prepared for long.
    pub(super) keeping: Keeping,
    pub(super) waiting: Waiting,
    /// Distributed transactions of which no TSO is known.
    pub(super) groups: Groups,
    /// What nodes prove about each other.
    pub(super) known: Known,
    /// What items have made possible, and is not done yet.
    pub(super) work: Vec<Work>,
    /// Logical tables, and how the nodes' become them.
    pub(super) logical: Logical,
    /// What a replica may apply side by side.
    pub(super) clock: Clock,
    /// Greatest TSO observed on any node.
    pub(super) observed: Tso,
    /// Above the time of every key given to a transaction without a TSO.
    pub(super) observed_time: u64,
    last: OrderKey,
    passed_fences: Vec<Fence>,
    /// What had been received from all nodes when a fence was asked for.
    wanted: Vec<Option<Horizon>>,
    orphans: u64,
    pub(super) untimed: u64,
    pub(super) heuristics: u64,
    pub(super) outcomes: Vec<Heuristic>,
    /// Transactions whose rows exchange keys in a ring.
    pub(super) rings: u64,
    /// Where to put what is too much for memory.
    pub(super) spool: Option<Arc<dyn SpoolFiles>>,
}

impl Merger {
    /// A merger of the nodes in `table` that goes on behind `resume` and the global transaction number `last_gno`.
    pub fn new(table: NodeTable, mode: OrderMode, resume: &Resume, last_gno: u64) -> Self {
        let (mut tso, mut time) = (resume.last_tso, resume.last_time);
        if mutant(Mutant::ForgetLastTso) {
            tso = Tso::ZERO;
        }
        if mutant(Mutant::ForgetLastTime) {
            time = 0;
        }
        let (clock, class) = match time {
            0 => (0, KeyClass::Distributed),
            time => (time + 1, KeyClass::Local),
        };
        let nodes = table
            .iter()
            .map(|(id, _)| NodeStream::new(id, tso, clock))
            .collect();
        let progress = (table.iter())
            .map(|(_, name)| resume.nodes.get(name).cloned().unwrap_or_default())
            .collect();
        Self {
            logical: Logical::new(ClusterSchema::new(
                SchemaRules::default(),
                table.iter().map(|(_, name)| name),
            )),
            clock: Clock::new(table.len(), last_gno),
            keeping: Keeping::new(table.len()),
            wanted: vec![None; table.len()],
            nodes,
            progress,
            waiting: Waiting::new(table.len()),
            groups: Groups::default(),
            known: Known::new(table.len()),
            work: Vec::new(),
            observed: tso,
            observed_time: clock,
            last: OrderKey {
                tso,
                class,
                time,
                ..OrderKey::MIN
            },
            passed_fences: Vec::new(),
            orphans: 0,
            untimed: 0,
            heuristics: 0,
            outcomes: Vec::new(),
            rings: 0,
            spool: None,
            mode,
            last_gno,
            table,
        }
    }

    /// The same with routes, and with what earlier lives have learned of schemas.
    #[must_use]
    pub fn with_schema(mut self, schema: ClusterSchema) -> Self {
        self.logical = Logical::new(schema);
        self.logical.spool.clone_from(&self.spool);
        self
    }

    /// Lets it put what is too much for memory into files.
    pub fn set_spool(&mut self, files: Arc<dyn SpoolFiles>) {
        self.logical.spool = Some(files.clone());
        self.spool = Some(files);
    }

    /// Transactions so far whose rows exchange primary keys between nodes in a ring: no order is right for them.
    pub fn rings(&self) -> u64 {
        self.rings
    }

    /// The point from which `node` is read, when it is read for the first time.
    pub fn set_before_start(&mut self, node: NodeId, gtids: GtidSet) {
        if gtids.is_empty() {
            self.logical.schema.begins(self.table.name(node));
        }
        let progress = &mut self.progress[node.index()];
        progress.emitted.union(&gtids);
        progress.before_start = gtids;
    }

    /// A node's tables at the point from which it is read, when it is read for the first time.
    pub fn learn_tables(&mut self, node: NodeId, tables: &NodeTables) {
        let at = Moment {
            gno: self.last_gno,
            key: self.last.into(),
            commit_time: self.last.time,
        };
        let name = self.table.name(node);
        self.logical.schema.learn(name, tables, at);
    }

    /// One item of a node's stream, in the order of its binlog.
    pub fn handle(&mut self, node: NodeId, item: NodeItem) -> Result<(), MergeError> {
        let end = match item {
            NodeItem::Position(pos) => pos,
            NodeItem::Txn(txn) => {
                let end = txn.end;
                self.transaction(node, txn)?;
                end
            }
        };
        let passed = self.nodes[node.index()].advance(end);
        self.passed(passed);
        self.settle()
    }

    fn transaction(&mut self, node: NodeId, txn: Box<SourceTxn>) -> Result<(), MergeError> {
        if self.progress[node.index()].emitted.contains(&txn.gtid) {
            let gtid = Box::new(txn.gtid);
            return Err(MergeError::Repeated {
                node: self.table.name(node).to_owned(),
                gtid,
                pos: txn.end,
            });
        }
        let stream = &mut self.nodes[node.index()];
        stream.receive();
        match txn.kind {
            TxnKind::Local | TxnKind::OnePhase(_) | TxnKind::Ddl => {
                if let Some((key, txn)) = stream.local(txn) {
                    self.waiting.push_local(key, txn);
                }
            }
            TxnKind::Prepare(xid) => {
                if mutant(Mutant::DoneAtPrepare) {
                    self.done(node, txn.gtid);
                }
                self.prepare(node, xid, txn)?;
            }
            TxnKind::Commit(xid) => self.commit(node, xid, txn)?,
            TxnKind::Rollback(xid) => self.rollback(node, xid, &txn),
            TxnKind::Empty => self.done(node, txn.gtid),
        }
        Ok(())
    }

    /// A commit whose prepare this stream never saw: legitimate only where reading began behind that prepare.
    pub(super) fn orphan(
        &mut self,
        node: NodeId,
        xid: XaXid,
        group: &SourceTxn,
    ) -> Result<(), MergeError> {
        if self.progress[node.index()].before_start.is_empty() {
            return Err(MergeError::UnknownBranch(self.place(node, xid, group)));
        }
        self.orphans += 1;
        if let Some(tso) = group.tso.filter(|_| self.mode == OrderMode::Tso) {
            self.nodes[node.index()].raise(tso, 0);
            self.observed = self.observed.max(tso);
        }
        self.done(node, group.gtid);
        Ok(())
    }

    /// TSO of the last key before the node joined.
    pub(super) fn joined(&self, node: NodeId) -> Option<Tso> {
        let joined = self.progress[node.index()].joined;
        joined.filter(|_| !mutant(Mutant::ForgetJoin))
    }

    pub(super) fn place(&self, node: NodeId, xid: XaXid, txn: &SourceTxn) -> Box<BranchPlace> {
        place(self.table.name(node), xid, txn)
    }

    pub(super) fn done(&mut self, node: NodeId, gtid: Gtid) {
        self.progress[node.index()].emitted.add(gtid);
    }

    /// A fence that was asked for is placed: the node's binlog ended at `pos` after the stamp was taken.
    pub fn handle_fence(&mut self, mut fence: Fence) -> Result<(), MergeError> {
        if mutant(Mutant::FenceStampedLate) {
            fence.stamp.tso = self.observed;
        }
        let horizon = self.wanted[fence.node.index()].take();
        let passed = self.nodes[fence.node.index()].place_fence(fence, horizon);
        self.passed(passed);
        self.settle()
    }

    fn passed(&mut self, passed: Option<Passed>) {
        let Some((fence, horizon)) = passed else {
            return;
        };
        self.passed_fences.push(fence);
        if let Some(horizon) = horizon {
            self.learn(fence.node, &horizon);
        }
    }

    /// A fence that was asked for could not be placed.
    pub fn fence_failed(&mut self, node: NodeId) {
        self.wanted[node.index()] = None;
    }

    /// Fences in the places where they took effect, since the last call: with the nodes' binlogs, the whole input.
    pub fn take_passed_fences(&mut self) -> Vec<Fence> {
        std::mem::take(&mut self.passed_fences)
    }

    /// The key below which everything has been told by every node.
    pub fn frontier(&self) -> Frontier {
        let ignored = usize::from(mutant(Mutant::IgnoreOneNode) && self.nodes.len() > 1);
        let nodes = self.nodes.iter().skip(ignored).map(NodeStream::frontier);
        let least = nodes.chain(self.groups.least_bound()).min();
        least.unwrap_or(OrderKey::MIN)
    }

    /// Moves up to `max_bytes` of transactions that are due into `out`; a large one comes alone, so that it holds up nothing before
    /// it. Returns whether more are due.
    ///
    /// # Errors
    ///
    /// The input contradicts itself. What is in `out` is right.
    pub fn poll(&mut self, out: &mut Vec<GlobalTxn>, max_bytes: u64) -> Result<bool, MergeError> {
        let frontier = self.frontier();
        let mut bytes = 0;
        while self.waiting.head().is_some_and(|key| key < frontier) {
            // A large one comes first in its batch, and what comes behind it in another.
            if bytes >= max_bytes || (bytes > 0 && self.waiting.head_is_large()) {
                return Ok(true);
            }
            let (had, last, mark) = (out.len(), self.last, self.logical.schema.mark());
            if let Err(error) = self.next_transaction(out) {
                // The checkpoint must not speak of a transaction that could not be carried over.
                out.truncate(had);
                self.last = last;
                self.logical.schema.undo_writes(mark);
                return Err(error);
            }
            let new = out.get(had..).unwrap_or_default();
            bytes += new
                .iter()
                .map(|txn| txn.body_len() + TXN_OVERHEAD)
                .sum::<u64>();
            let count = 1 + u64::from(mutant(Mutant::CountTwice));
            self.last_gno += count * new.len() as u64;
        }
        Ok(false)
    }

    /// Takes out the least transaction, with all its branches. Nothing may be written for it; several statements may.
    fn next_transaction(&mut self, out: &mut Vec<GlobalTxn>) -> Result<(), MergeError> {
        match self.waiting.pop() {
            None => Ok(()),
            Some(Next::Local(key, txn)) => {
                self.advance(key, &txn)?;
                self.local(key, txn, out)
            }
            Some(Next::Distributed(key, branches)) => {
                self.one_timestamp(key, &branches)?;
                if let Some(first) = branches.first() {
                    self.advance(key, &first.commit)?;
                }
                self.distributed(key, branches, out)
            }
        }
    }

    fn advance(&mut self, key: OrderKey, txn: &SourceTxn) -> Result<(), MergeError> {
        if key < self.last {
            return Err(MergeError::OutOfOrder {
                at: format!("{} ending at {}", txn.gtid, txn.end),
                key: Box::new(key),
                last: Box::new(self.last),
            });
        }
        self.last = key;
        Ok(())
    }

    /// All branches have one timestamp: no sibling waits at a later one.
    fn one_timestamp(&self, key: OrderKey, branches: &Branches) -> Result<(), MergeError> {
        if key.class != KeyClass::Distributed {
            return Ok(());
        }
        let strayed = self.waiting.strayed(key.tso, branches);
        let (Some((other_tso, other)), Some(one)) = (strayed, branches.first()) else {
            return Ok(());
        };
        let place = |branch: &super::waiting::Branch| {
            let xid = branch.xid().copied();
            xid.map(|xid| self.place(branch.node, xid, &branch.commit))
        };
        match (place(one), place(other)) {
            (Some(one), Some(other)) => Err(MergeError::TwoTimestamps {
                one,
                one_tso: key.tso,
                other,
                other_tso,
            }),
            _ => Ok(()),
        }
    }

    /// The state behind everything that [`Merger::poll`] has returned.
    pub fn checkpoint(&self) -> Checkpoint {
        let nodes = (self.table.iter().zip(&self.progress))
            .map(|((id, name), progress)| {
                let kept = self.keeping.gtids(id);
                let progress = NodeProgress {
                    kept,
                    ..progress.clone()
                };
                (name.to_owned(), progress)
            })
            .collect();
        Checkpoint {
            nodes,
            last_tso: self.last.tso,
            last_time: self.last.time,
        }
    }

    /// What has changed of the schemas' state since the last call; goes with [`Merger::checkpoint`].
    pub fn take_schema_writes(&mut self) -> Vec<tributary_schema::Write> {
        self.logical.schema.snapshot();
        self.logical.schema.take_writes()
    }

    /// The schemas.
    pub fn schema(&self) -> &ClusterSchema {
        &self.logical.schema
    }

    /// What an operator should know of statements and definitions, since the last call.
    pub fn take_schema_notes(&mut self) -> Vec<String> {
        self.logical.schema.take_notes()
    }

    /// Rows are passed on whatever their tables are: what a benchmark compares with.
    #[doc(hidden)]
    pub fn leave_tables_alone(&mut self) {
        self.logical.left_alone = true;
    }

    /// Bodies that were written for another table, or in another shape.
    pub fn rewritten(&self) -> u64 {
        self.logical.rewritten
    }

    /// Nodes that should be asked for the end of their binlog now, with the stamp to keep: those that hold back the next
    /// transaction, or may still tell a branch of one, and are not being asked already.
    /// Nodes for which `ready` is false are left out.
    pub fn poll_fences(
        &mut self,
        ready: impl Fn(NodeId) -> bool,
        out: &mut Vec<(NodeId, FenceStamp)>,
    ) {
        let head = self.waiting.head();
        if head.is_none() && self.groups.open_len() == 0 {
            return;
        }
        let clocks = self.nodes.iter().map(NodeStream::clock).max();
        let stamp = FenceStamp {
            tso: self.observed,
            time: clocks.unwrap_or(0).max(self.observed_time),
        };
        for (id, _) in self.table.iter() {
            let node = &self.nodes[id.index()];
            let blocks = head.is_some_and(|h| h >= node.frontier() && node.fence_helps(&h));
            let asked = node.fence_ahead() || self.wanted[id.index()].is_some();
            if (blocks || self.known.wants_fence(id)) && !asked && ready(id) {
                let received = self.nodes.iter().map(NodeStream::count).collect();
                self.wanted[id.index()] = Some(received);
                out.push((id, stamp));
            }
        }
    }

    /// Why the next transaction waits: what is missing from the nodes that hold it back. Empty when nothing waits.
    pub fn blocked(&self) -> Vec<(NodeId, BlockedOn)> {
        let mut out = Vec::new();
        if let Some(head) = self.waiting.head() {
            let nodes = self.table.iter().map(|(id, _)| id);
            let holding = nodes.filter(|id| head >= self.nodes[id.index()].frontier());
            out.extend(holding.filter_map(|id| Some((id, self.blocked_on(id, &head)?))));
        }
        // The oldest transaction that is committed on one node and not known to be on another.
        let waits = |g: &&super::groups::Group| {
            let missing = g.missing.as_ref().is_some_and(|m| !m.is_empty());
            missing || g.unresolved().next().is_some()
        };
        let Some(group) = self.groups.open().find(waits) else {
            return out;
        };
        for member in group.unresolved() {
            let node = &self.nodes[member.node.index()];
            if let Some(txn) = node.prepare_at(member.place) {
                let what = BlockedOn::Prepare(member.xid, txn.gtid, txn.end);
                out.push((member.node, what));
            }
        }
        if group.unresolved().next().is_none() {
            let missing = |id: &NodeId| group.missing.as_ref().is_some_and(|m| m.contains(*id));
            let missing = self.table.iter().map(|(id, _)| id).filter(missing);
            out.extend(missing.map(|id| (id, self.silent(id))));
        }
        out.sort_by_key(|(id, _)| *id);
        out.dedup();
        out
    }

    /// Why a node holds back `head`; `None` if it does so because of a transaction that waits for another node.
    fn blocked_on(&self, id: NodeId, head: &OrderKey) -> Option<BlockedOn> {
        let node = &self.nodes[id.index()];
        if node.fence_helps(head) {
            return Some(self.silent(id));
        }
        let prepare = node.first_unresolved()?;
        match &prepare.kind {
            TxnKind::Prepare(xid) => Some(BlockedOn::Prepare(*xid, prepare.gtid, prepare.end)),
            _ => None,
        }
    }

    fn silent(&self, id: NodeId) -> BlockedOn {
        let node = &self.nodes[id.index()];
        if node.fence_ahead() {
            BlockedOn::Fence(node.position())
        } else {
            BlockedOn::NoData
        }
    }

    /// W(n) of one node.
    pub fn watermark(&self, node: NodeId) -> Tso {
        self.nodes[node.index()].watermark()
    }

    /// How far one node's stream has been handled.
    pub fn position(&self, node: NodeId) -> SourcePos {
        self.nodes[node.index()].position()
    }

    /// Prepared branches of one node that are unresolved.
    pub fn unresolved(&self, node: NodeId) -> usize {
        self.nodes[node.index()].unresolved()
    }

    /// Committed transactions and branches that wait for their turn.
    pub fn waiting(&self) -> usize {
        let behind: usize = self.nodes.iter().map(NodeStream::backlog).sum();
        self.waiting.len() + self.groups.open_len() + behind
    }

    /// Where the order comes from.
    pub fn mode(&self) -> OrderMode {
        self.mode
    }

    /// Number of the last emitted transaction: the `gno` of its GTID.
    pub fn last_gno(&self) -> u64 {
        self.last_gno
    }

    /// Key of the last emitted transaction.
    pub fn last_key(&self) -> OrderKey {
        self.last
    }

    /// Commits of branches that were prepared before the point from which their node is read.
    pub fn orphans(&self) -> u64 {
        self.orphans
    }

    /// Commits of branches without a commit timestamp although `order = "tso"`.
    pub fn untimed(&self) -> u64 {
        self.untimed
    }

    /// Transactions of which one branch was committed and another rolled back.
    pub fn heuristics(&self) -> u64 {
        self.heuristics
    }

    /// Such transactions since the last call, up to a number that a person reads.
    pub fn take_heuristics(&mut self) -> Vec<Heuristic> {
        std::mem::take(&mut self.outcomes)
    }
}

/// A group of a branch, for a message.
pub(super) fn place(node: &str, xid: XaXid, txn: &SourceTxn) -> Box<BranchPlace> {
    Box::new(BranchPlace {
        node: node.to_owned(),
        xid,
        gtid: txn.gtid,
        pos: txn.end,
    })
}

/// What a transaction costs besides its body when bytes are counted.
const TXN_OVERHEAD: u64 = 256;
