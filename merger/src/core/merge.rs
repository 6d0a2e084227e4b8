//! The k-way merge below all frontiers.
//!
//! In: [`NodeItem`]s and fences. Out: [`GlobalTxn`]s with strictly increasing keys; [`FenceStamp`]s to place; what blocks.
//!
//! A transaction is emitted when its key lies below the frontier of every node: nothing that sorts before it can come any
//! more, and every branch of a distributed transaction has been told. So the output depends only on the nodes' streams and
//! on the fences, not on when anything arrived.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use smallvec::SmallVec;
use tributary_binlog::{ChecksumAlg, Gtid, GtidSet, QueryEvent, RawEvent, XaXid};
use tributary_flow::{
    Checkpoint, Dependency, Fence, FenceStamp, GlobalKind, GlobalTxn, KeyClass, NodeId, NodeItem,
    NodeProgress, NodeTable, OrderKey, SourcePos, SourceTxn, Tso, TxnKind,
};
use tributary_schema::DdlStatement;

use super::ddl::DdlJoin;
use super::node::{Frontier, NodeStream};
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

/// A committed transaction, or one branch of it, waiting for its turn.
#[derive(Debug)]
struct Entry {
    key: OrderKey,
    /// Order of arrival from the node: branches of one transaction on one node keep their order.
    arrival: u64,
    node: NodeId,
    /// The rows: a local transaction or a prepare group.
    txn: Box<SourceTxn>,
    commit: Option<CommitGroup>,
}

/// What the commit group of a branch adds to its prepare group.
#[derive(Debug)]
struct CommitGroup {
    gtid: Gtid,
    immediate_commit: u64,
    timestamp: u32,
    version: u32,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.key.cmp(&other.key))
            .then_with(|| self.gtrid().cmp(other.gtrid()))
            .then_with(|| (self.node, self.arrival).cmp(&(other.node, other.arrival)))
    }
}

impl Entry {
    fn gtrid(&self) -> &[u8] {
        match (&self.txn.kind, self.key.class) {
            (TxnKind::Prepare(xid), KeyClass::Distributed) => xid.gtrid(),
            _ => &[],
        }
    }
}

/// The merger's rules in `tso` order. See the module documentation.
#[derive(Debug)]
pub struct Merger {
    table: NodeTable,
    nodes: Vec<NodeStream>,
    progress: Vec<NodeProgress>,
    heap: BinaryHeap<Reverse<Entry>>,
    ddl: DdlJoin,
    arrivals: u64,
    /// Greatest TSO observed on any node.
    observed: Tso,
    last: OrderKey,
    passed_fences: Vec<Fence>,
    wanted: Vec<Option<FenceStamp>>,
    orphans: u64,
}

impl Merger {
    /// A merger of the nodes in `table` that goes on behind `resume`.
    pub fn new(table: NodeTable, resume: &Resume) -> Self {
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
            heap: BinaryHeap::new(),
            arrivals: 0,
            observed: resume.last_tso,
            last: OrderKey::MIN,
            passed_fences: Vec::new(),
            orphans: 0,
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
                self.push(key, node, txn, None);
            }
            TxnKind::Prepare(xid) => {
                if let Err(txn) = self.nodes[node.index()].prepare(xid, txn) {
                    return Err(MergeError::PreparedTwice(self.place(node, xid, &txn)));
                }
            }
            TxnKind::Commit(xid) => self.commit(node, xid, &txn)?,
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

    fn commit(&mut self, node: NodeId, xid: XaXid, group: &SourceTxn) -> Result<(), MergeError> {
        let Some(resolved) = self.nodes[node.index()].resolve(&xid) else {
            return self.orphan(node, xid, group);
        };
        let Some(tso) = group.tso else {
            return Err(MergeError::CommitWithoutTso(self.place(node, xid, group)));
        };
        let floor = resolved.floor;
        if tso <= floor {
            let at = self.place(node, xid, group);
            return Err(MergeError::OracleWentBack { at, tso, floor });
        }
        self.nodes[node.index()].committed(tso);
        self.observed = self.observed.max(tso);
        let commit = CommitGroup {
            gtid: group.gtid,
            immediate_commit: group.immediate_commit,
            timestamp: group.timestamp,
            version: group.immediate_server_version,
        };
        self.push(
            OrderKey::distributed(tso),
            node,
            resolved.prepare,
            Some(commit),
        );
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

    fn push(
        &mut self,
        key: OrderKey,
        node: NodeId,
        txn: Box<SourceTxn>,
        commit: Option<CommitGroup>,
    ) {
        self.arrivals += 1;
        self.heap.push(Reverse(Entry {
            key,
            arrival: self.arrivals,
            node,
            txn,
            commit,
        }));
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
        while self.heap.peek().is_some_and(|Reverse(e)| e.key < frontier) {
            if bytes >= max_bytes {
                return true;
            }
            if let Some(txn) = self.next_transaction() {
                bytes += txn.body_len() + TXN_OVERHEAD;
                out.push(txn);
            }
        }
        false
    }

    /// Takes the least entry and its siblings out of the heap. `None` when nothing is written for it.
    fn next_transaction(&mut self) -> Option<GlobalTxn> {
        let Reverse(first) = self.heap.pop()?;
        assert!(first.key >= self.last, "keys are emitted in order");
        self.last = first.key;
        self.account(&first);
        if first.key.class == KeyClass::Local {
            return self.local(first);
        }
        let mut txn = global(&first, GlobalKind::Rows, first.key.tso.micros());
        let gtrid = first.gtrid().to_vec();
        txn.parts.push(first.txn.body);
        while self
            .heap
            .peek()
            .is_some_and(|Reverse(e)| e.key == txn.key && e.gtrid() == gtrid)
        {
            let Some(Reverse(branch)) = self.heap.pop() else {
                break;
            };
            self.account(&branch);
            let part = global(&branch, GlobalKind::Rows, 0);
            txn.immediate_commit = txn.immediate_commit.max(part.immediate_commit);
            txn.immediate_server_version = txn
                .immediate_server_version
                .max(part.immediate_server_version);
            txn.timestamp = txn.timestamp.max(part.timestamp);
            txn.parts.push(branch.txn.body);
        }
        txn.parts.retain(|p| !p.is_empty());
        (!txn.parts.is_empty()).then_some(txn)
    }

    fn local(&mut self, entry: Entry) -> Option<GlobalTxn> {
        let kind = match entry.txn.kind {
            TxnKind::Ddl if self.statement_is_due(&entry) => GlobalKind::Ddl,
            TxnKind::Ddl => return None,
            _ => GlobalKind::Rows,
        };
        let mut txn = global(&entry, kind, entry.txn.original_commit);
        txn.parts.push(entry.txn.body);
        (!txn.parts[0].is_empty()).then_some(txn)
    }

    fn statement_is_due(&mut self, entry: &Entry) -> bool {
        let Some(bytes) = entry.txn.body.segments().first() else {
            return false;
        };
        let query = RawEvent::parse_unverified(bytes, ChecksumAlg::None)
            .ok()
            .and_then(|raw| {
                QueryEvent::parse(raw.body)
                    .ok()
                    .map(|q| DdlStatement::of(q.schema, q.query))
            });
        query.is_some_and(|statement| self.ddl.observe(entry.node, &statement))
    }

    /// What is emitted is done with.
    fn account(&mut self, entry: &Entry) {
        self.done(entry.node, entry.txn.gtid);
        if let Some(commit) = &entry.commit {
            self.done(entry.node, commit.gtid);
        }
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
        let Some(Reverse(head)) = self.heap.peek() else {
            return;
        };
        let stamp = FenceStamp {
            tso: self.observed,
            time: self.nodes.iter().map(NodeStream::clamp).max().unwrap_or(0),
        };
        for (id, _) in self.table.iter() {
            let node = &self.nodes[id.index()];
            let blocks = head.key >= node.frontier();
            let asked = node.fence_ahead() || self.wanted[id.index()].is_some();
            if blocks && !asked && node.fence_helps(&head.key) && ready(id) {
                self.wanted[id.index()] = Some(stamp);
                out.push((id, stamp));
            }
        }
    }

    /// Why the next transaction waits: one entry for each node that holds it back. Empty when nothing waits.
    pub fn blocked(&self) -> Vec<(NodeId, BlockedOn)> {
        let Some(Reverse(head)) = self.heap.peek() else {
            return Vec::new();
        };
        (self.table.iter())
            .filter(|(id, _)| head.key >= self.nodes[id.index()].frontier())
            .map(|(id, _)| (id, self.blocked_on(id, &head.key)))
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
        self.heap.len()
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

/// A transaction with the headers of one entry and no parts yet.
fn global(entry: &Entry, kind: GlobalKind, original_commit: u64) -> GlobalTxn {
    let (txn, commit) = (&entry.txn, entry.commit.as_ref());
    GlobalTxn {
        key: entry.key,
        kind,
        parts: SmallVec::new(),
        dependency: Dependency::Predecessor,
        original_commit,
        immediate_commit: commit.map_or(txn.immediate_commit, |c| c.immediate_commit),
        original_server_version: txn.original_server_version,
        immediate_server_version: commit.map_or(txn.immediate_server_version, |c| c.version),
        timestamp: commit.map_or(txn.timestamp, |c| c.timestamp),
    }
}
