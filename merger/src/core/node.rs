//! One node's stream: its keys and its frontier.
//!
//! In: the node's items in binlog order and the fences placed on it. Out: an [`OrderKey`] for every transaction that
//! commits, and the node's *frontier*: every transaction it will ever tell from now on has a key at or above it.
//!
//! Why the frontier holds (see `docs/ordering.md` for the whole proof):
//! * a distributed commit still to come was prepared at or behind the first unresolved prepare, so its TSO was fetched
//!   after every commit before that prepare: it is greater than `floor` of that prepare;
//! * a local transaction still to come stands on `base` or more, at a clamped time of `clamp` or more.

use std::collections::VecDeque;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tributary_binlog::XaXid;
use tributary_flow::{Fence, NodeId, OrderKey, SourcePos, SourceTxn, Tso};

/// The least key that a node may still produce.
pub type Frontier = OrderKey;

/// A branch that is prepared and, as far as the stream has told, neither committed nor rolled back.
#[derive(Debug)]
struct Prepared {
    /// Greatest TSO of a commit or passed fence before the prepare.
    floor: Tso,
    /// The prepare group; `None` once it is resolved.
    txn: Option<Box<SourceTxn>>,
}

/// What one node's stream has told so far.
#[derive(Debug)]
pub(super) struct NodeStream {
    id: NodeId,
    /// Greatest TSO of any commit or passed fence.
    base: Tso,
    /// No local transaction to come has a lesser time.
    clamp: u64,
    /// Number of the next local transaction.
    seq: u64,
    /// How far the stream has been read.
    pos: SourcePos,
    /// Prepares in binlog order, beginning with the first unresolved one.
    prepared: VecDeque<Prepared>,
    /// How many prepares have left `prepared`: place of its first entry.
    departed: u64,
    /// Unresolved branches → their place.
    places: HashMap<XaXid, u64>,
    /// A fence that the stream has not passed.
    fence: Option<Fence>,
}

/// A branch that has just been resolved.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) prepare: Box<SourceTxn>,
    pub(super) floor: Tso,
}

impl NodeStream {
    pub(super) fn new(id: NodeId, base: Tso, clamp: u64) -> Self {
        Self {
            id,
            base,
            clamp,
            seq: 0,
            pos: SourcePos::default(),
            prepared: VecDeque::new(),
            departed: 0,
            places: HashMap::new(),
            fence: None,
        }
    }

    /// The least key that may still come from this node.
    pub(super) fn frontier(&self) -> Frontier {
        let watermark = self.watermark();
        if self.base > watermark {
            // `base` itself is above the watermark, so there is a greater TSO than `watermark`.
            OrderKey::distributed(watermark.next().unwrap_or(Tso::MAX))
        } else {
            OrderKey::local(self.base, self.clamp, self.id, self.seq)
        }
    }

    /// W(n): every distributed transaction still to come has a greater TSO.
    pub(super) fn watermark(&self) -> Tso {
        self.prepared.front().map_or(self.base, |p| p.floor)
    }

    pub(super) fn position(&self) -> SourcePos {
        self.pos
    }

    pub(super) fn clamp(&self) -> u64 {
        self.clamp
    }

    /// The first prepare that holds the watermark down.
    pub(super) fn first_unresolved(&self) -> Option<&SourceTxn> {
        self.prepared.front().and_then(|p| p.txn.as_deref())
    }

    pub(super) fn unresolved(&self) -> usize {
        self.places.len()
    }

    /// Whether a fence is placed that the stream has not passed.
    pub(super) fn fence_ahead(&self) -> bool {
        self.fence.is_some()
    }

    /// Whether passing a fence could raise the frontier above `key`.
    pub(super) fn fence_helps(&self, key: &OrderKey) -> bool {
        self.prepared.front().is_none_or(|p| key.tso <= p.floor)
    }

    /// The key of a transaction that this node commits alone, at its place in the stream.
    pub(super) fn local(&mut self, txn: &SourceTxn) -> OrderKey {
        self.clamp = self.clamp.max(txn.immediate_commit);
        let key = OrderKey::local(self.base, self.clamp, self.id, self.seq);
        self.seq += 1;
        key
    }

    /// A branch is prepared. `Err` gives it back when its xid is prepared already.
    pub(super) fn prepare(
        &mut self,
        xid: XaXid,
        txn: Box<SourceTxn>,
    ) -> Result<(), Box<SourceTxn>> {
        let Entry::Vacant(place) = self.places.entry(xid) else {
            return Err(txn);
        };
        place.insert(self.departed + self.prepared.len() as u64);
        self.prepared.push_back(Prepared {
            floor: self.base,
            txn: Some(txn),
        });
        Ok(())
    }

    /// A branch is committed or rolled back: takes it out, or `None` when it was never prepared here.
    pub(super) fn resolve(&mut self, xid: &XaXid) -> Option<Resolved> {
        let place = self.places.remove(xid)?;
        let index = usize::try_from(place - self.departed).ok()?;
        let entry = self.prepared.get_mut(index)?;
        let resolved = Resolved {
            prepare: entry.txn.take()?,
            floor: entry.floor,
        };
        while self.prepared.front().is_some_and(|p| p.txn.is_none()) {
            self.prepared.pop_front();
            self.departed += 1;
        }
        Some(resolved)
    }

    /// A distributed transaction has committed here at `tso`.
    pub(super) fn committed(&mut self, tso: Tso) {
        self.base = self.base.max(tso);
    }

    /// A fence is placed. Returns it as it took effect if the stream has passed it already.
    pub(super) fn place_fence(&mut self, fence: Fence) -> Option<Fence> {
        self.fence = Some(fence);
        self.pass_fence()
    }

    /// The stream has reached `pos`. Returns the fence that it thereby passed. A stream that is resumed begins at the head of
    /// a file it has read before; what it has reached does not go back.
    pub(super) fn advance(&mut self, pos: SourcePos) -> Option<Fence> {
        self.pos = self.pos.max(pos);
        self.pass_fence()
    }

    fn pass_fence(&mut self) -> Option<Fence> {
        let fence = self.fence.take_if(|f| f.pos <= self.pos)?;
        self.base = self.base.max(fence.stamp.tso);
        self.clamp = self.clamp.max(fence.stamp.time.saturating_add(1));
        // An answer may arrive when the stream is past it: it acts only from here on, and is recorded so.
        Some(Fence {
            pos: self.pos,
            ..fence
        })
    }
}
