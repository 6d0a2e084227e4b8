//! The k-way merge below all frontiers.
//!
//! In: [`NodeItem`]s and fences. Out: [`GlobalTxn`]s with strictly increasing keys; [`FenceStamp`]s to place; what blocks.
//!
//! A transaction is emitted when its key lies below the frontier of every node: nothing that sorts before it can come any
//! more, and every branch of a distributed transaction has been told. So the output depends only on the nodes' streams and
//! on the fences, not on when anything arrived.

use smallvec::SmallVec;
use tributary_binlog::{ChecksumAlg, Gtid, GtidSet, QueryEvent, RawEvent, XaXid};
use tributary_flow::{
    Body, Checkpoint, Dependency, Fence, FenceStamp, GlobalKind, GlobalTxn, NodeId, NodeItem,
    NodeProgress, NodeTable, OrderKey, OrderMode, SourcePos, SourceTxn, Tso, TxnKind,
};
use tributary_schema::DdlStatement;

use super::ddl::DdlJoin;
use super::node::{Frontier, NodeStream};
use super::waiting::{Branch, Branches, Next, Waiting};
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

/// The merger's rules in `tso` order. See the module documentation.
#[derive(Debug)]
pub struct Merger {
    table: NodeTable,
    /// Where the order comes from.
    mode: OrderMode,
    /// Number of the last global transaction that was emitted.
    last_gno: u64,
    nodes: Vec<NodeStream>,
    progress: Vec<NodeProgress>,
    waiting: Waiting,
    ddl: DdlJoin,
    /// Greatest TSO observed on any node.
    observed: Tso,
    last: OrderKey,
    passed_fences: Vec<Fence>,
    wanted: Vec<Option<FenceStamp>>,
    orphans: u64,
}

impl Merger {
    /// A merger of the nodes in `table` that goes on behind `resume` and the global transaction number `last_gno`.
    pub fn new(table: NodeTable, mode: OrderMode, resume: &Resume, last_gno: u64) -> Self {
        let clamp = if resume.last_time == 0 {
            0
        } else {
            resume.last_time + 1
        };
        let nodes = table
            .iter()
            .map(|(id, _)| NodeStream::new(id, resume.last_tso, clamp))
            .collect();
        let progress = (table.iter())
            .map(|(_, name)| resume.nodes.get(name).cloned().unwrap_or_default())
            .collect();
        Self {
            ddl: DdlJoin::restore(table.clone(), &resume.ddl),
            wanted: vec![None; table.len()],
            nodes,
            progress,
            waiting: Waiting::new(table.len()),
            observed: resume.last_tso,
            last: OrderKey::MIN,
            passed_fences: Vec::new(),
            orphans: 0,
            mode,
            last_gno,
            table,
        }
    }

    /// The point from which `node` is read, when it is read for the first time.
    pub fn set_before_start(&mut self, node: NodeId, gtids: GtidSet) {
        let progress = &mut self.progress[node.index()];
        progress.emitted.union(&gtids);
        progress.before_start = gtids;
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
        let fence = self.nodes[node.index()].advance(end);
        self.passed_fences.extend(fence);
        Ok(())
    }

    fn transaction(&mut self, node: NodeId, txn: Box<SourceTxn>) -> Result<(), MergeError> {
        if self.progress[node.index()].emitted.contains(&txn.gtid) {
            let gtid = Box::new(txn.gtid);
            return Err(MergeError::Repeated {
                node: self.name(node),
                gtid,
                pos: txn.end,
            });
        }
        match txn.kind {
            TxnKind::Local | TxnKind::OnePhase(_) | TxnKind::Ddl => {
                let key = self.nodes[node.index()].local(&txn);
                self.waiting.push_local(key, txn);
            }
            TxnKind::Prepare(xid) => {
                if let Err(txn) = self.nodes[node.index()].prepare(xid, txn) {
                    return Err(MergeError::PreparedTwice(self.place(node, xid, &txn)));
                }
            }
            TxnKind::Commit(xid) => self.commit(node, xid, txn)?,
            TxnKind::Rollback(xid) => {
                if let Some(resolved) = self.nodes[node.index()].resolve(&xid) {
                    self.done(node, resolved.prepare.gtid);
                }
                self.done(node, txn.gtid);
            }
            TxnKind::Empty => self.done(node, txn.gtid),
        }
        Ok(())
    }

    fn commit(
        &mut self,
        node: NodeId,
        xid: XaXid,
        group: Box<SourceTxn>,
    ) -> Result<(), MergeError> {
        let Some(resolved) = self.nodes[node.index()].resolve(&xid) else {
            return self.orphan(node, xid, &group);
        };
        let Some(tso) = group.tso else {
            return Err(MergeError::CommitWithoutTso(self.place(node, xid, &group)));
        };
        let floor = resolved.floor;
        if tso <= floor {
            let at = self.place(node, xid, &group);
            return Err(MergeError::OracleWentBack { at, tso, floor });
        }
        self.nodes[node.index()].committed(tso);
        self.observed = self.observed.max(tso);
        self.waiting.push_branch(node, tso, resolved.prepare, group);
        Ok(())
    }

    /// A commit whose prepare this stream never saw: legitimate only where reading began behind that prepare.
    fn orphan(&mut self, node: NodeId, xid: XaXid, group: &SourceTxn) -> Result<(), MergeError> {
        if self.progress[node.index()].before_start.is_empty() {
            return Err(MergeError::UnknownBranch(self.place(node, xid, group)));
        }
        self.orphans += 1;
        if let Some(tso) = group.tso {
            self.nodes[node.index()].committed(tso);
            self.observed = self.observed.max(tso);
        }
        self.done(node, group.gtid);
        Ok(())
    }

    fn place(&self, node: NodeId, xid: XaXid, txn: &SourceTxn) -> Box<BranchPlace> {
        Box::new(BranchPlace {
            node: self.name(node),
            xid,
            gtid: txn.gtid,
            pos: txn.end,
        })
    }

    fn done(&mut self, node: NodeId, gtid: Gtid) {
        self.progress[node.index()].emitted.add(gtid);
    }

    fn name(&self, node: NodeId) -> String {
        self.table.name(node).to_owned()
    }

    /// A fence that was asked for is placed: the node's binlog ended at `pos` after the stamp was taken.
    pub fn handle_fence(&mut self, fence: Fence) {
        self.wanted[fence.node.index()] = None;
        let passed = self.nodes[fence.node.index()].place_fence(fence);
        self.passed_fences.extend(passed);
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
        self.nodes
            .iter()
            .map(NodeStream::frontier)
            .min()
            .unwrap_or(OrderKey::MIN)
    }

    /// Moves up to `max_bytes` of transactions that are due into `out`. Returns whether more are due.
    pub fn poll(&mut self, out: &mut Vec<GlobalTxn>, max_bytes: u64) -> bool {
        let frontier = self.frontier();
        let mut bytes = 0;
        while self.waiting.head().is_some_and(|key| key < frontier) {
            if bytes >= max_bytes {
                return true;
            }
            if let Some(txn) = self.next_transaction() {
                bytes += txn.body_len() + TXN_OVERHEAD;
                self.last_gno += 1;
                out.push(txn);
            }
        }
        false
    }

    /// Takes out the least transaction, with all its branches. `None` when nothing is written for it.
    fn next_transaction(&mut self) -> Option<GlobalTxn> {
        match self.waiting.pop()? {
            Next::Local(key, txn) => {
                self.advance(key);
                self.local(key, txn)
            }
            Next::Distributed(tso, branches) => {
                self.advance(OrderKey::distributed(tso));
                self.distributed(tso, branches)
            }
        }
    }

    fn advance(&mut self, key: OrderKey) {
        assert!(key >= self.last, "keys are emitted in order");
        self.last = key;
    }

    fn distributed(&mut self, tso: Tso, branches: Branches) -> Option<GlobalTxn> {
        let first = branches.first()?;
        let mut txn = GlobalTxn {
            key: OrderKey::distributed(tso),
            kind: GlobalKind::Rows,
            parts: SmallVec::new(),
            dependency: Dependency::Predecessor,
            original_commit: tso.micros(),
            immediate_commit: 0,
            original_server_version: first.prepare.original_server_version,
            immediate_server_version: 0,
            timestamp: 0,
        };
        for branch in branches {
            self.branch(&mut txn, branch);
        }
        super::moved::arrange(&mut txn.parts);
        (!txn.parts.is_empty()).then_some(txn)
    }

    /// Adds a branch to its transaction.
    fn branch(&mut self, txn: &mut GlobalTxn, branch: Branch) {
        self.done(branch.node, branch.prepare.gtid);
        self.done(branch.node, branch.commit.gtid);
        let SourceTxn {
            immediate_commit,
            immediate_server_version,
            timestamp,
            ..
        } = *branch.commit;
        txn.immediate_commit = txn.immediate_commit.max(immediate_commit);
        txn.immediate_server_version = txn.immediate_server_version.max(immediate_server_version);
        txn.timestamp = txn.timestamp.max(timestamp);
        let body = branch.prepare.body;
        if !body.is_empty() {
            txn.parts.push(body);
        }
    }

    fn local(&mut self, key: OrderKey, source: Box<SourceTxn>) -> Option<GlobalTxn> {
        self.done(key.node, source.gtid);
        let kind = match source.kind {
            TxnKind::Ddl if self.statement_is_due(key.node, &source) => GlobalKind::Ddl,
            TxnKind::Ddl => return None,
            _ => GlobalKind::Rows,
        };
        if source.body.is_empty() {
            return None;
        }
        Some(GlobalTxn {
            key,
            kind,
            original_commit: source.original_commit,
            immediate_commit: source.immediate_commit,
            original_server_version: source.original_server_version,
            immediate_server_version: source.immediate_server_version,
            timestamp: source.timestamp,
            dependency: Dependency::Predecessor,
            parts: SmallVec::from_buf_and_len([source.body, Body::default()], 1),
        })
    }

    fn statement_is_due(&mut self, node: NodeId, txn: &SourceTxn) -> bool {
        let Some(bytes) = txn.body.segments().first() else {
            return false;
        };
        let query = RawEvent::parse_unverified(bytes, ChecksumAlg::None)
            .ok()
            .and_then(|raw| {
                QueryEvent::parse(raw.body)
                    .ok()
                    .map(|q| DdlStatement::of(q.schema, q.query))
            });
        // What can not be read is never dropped; the collector has read it as a Query event before.
        query.is_none_or(|statement| self.ddl.observe(node, &statement))
    }

    /// The state behind everything that [`Merger::poll`] has returned.
    pub fn checkpoint(&self) -> Checkpoint {
        let nodes = (self.table.iter().zip(&self.progress))
            .map(|((_, name), progress)| (name.to_owned(), progress.clone()))
            .collect();
        Checkpoint {
            nodes,
            last_tso: self.last.tso,
            last_time: self.last.time,
            ddl: self.ddl.save(),
        }
    }

    /// Nodes that should be asked for the end of their binlog now, with the stamp to keep: those that hold back the next
    /// transaction and are not being asked already.
    /// Nodes for which `ready` is false are left out.
    pub fn poll_fences(
        &mut self,
        ready: impl Fn(NodeId) -> bool,
        out: &mut Vec<(NodeId, FenceStamp)>,
    ) {
        let Some(head) = self.waiting.head() else {
            return;
        };
        let stamp = FenceStamp {
            tso: self.observed,
            time: self.nodes.iter().map(NodeStream::clamp).max().unwrap_or(0),
        };
        for (id, _) in self.table.iter() {
            let node = &self.nodes[id.index()];
            let blocks = head >= node.frontier();
            let asked = node.fence_ahead() || self.wanted[id.index()].is_some();
            if blocks && !asked && node.fence_helps(&head) && ready(id) {
                self.wanted[id.index()] = Some(stamp);
                out.push((id, stamp));
            }
        }
    }

    /// Why the next transaction waits: one entry for each node that holds it back. Empty when nothing waits.
    pub fn blocked(&self) -> Vec<(NodeId, BlockedOn)> {
        let Some(head) = self.waiting.head() else {
            return Vec::new();
        };
        (self.table.iter())
            .filter(|(id, _)| head >= self.nodes[id.index()].frontier())
            .map(|(id, _)| (id, self.blocked_on(id, &head)))
            .collect()
    }

    fn blocked_on(&self, id: NodeId, head: &OrderKey) -> BlockedOn {
        let node = &self.nodes[id.index()];
        match node.first_unresolved() {
            Some(prepare) if !node.fence_helps(head) => match &prepare.kind {
                TxnKind::Prepare(xid) => BlockedOn::Prepare(*xid, prepare.gtid, prepare.end),
                _ => BlockedOn::NoData,
            },
            _ if node.fence_ahead() => BlockedOn::Fence(node.position()),
            _ => BlockedOn::NoData,
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
        self.waiting.len()
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
}

/// What a transaction costs besides its body when bytes are counted.
const TXN_OVERHEAD: u64 = 256;
