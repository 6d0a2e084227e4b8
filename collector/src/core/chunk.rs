//! Where the bytes of transactions live between socket and merger.
//!
//! In: events to keep, the ends of transactions. Out: items whose bodies are slices of shared chunks. Each event is
//! copied once, from the receive buffer to the end of the current chunk. A chunk is sealed when it is full, or when
//! items are taken. Sealing charges what the chunk really pins to the node's [`Account`]; dropping its last slice, on
//! whatever thread, releases that. A chunk that is less than half full is sealed as an exact copy, so that a small
//! transaction never pins a large buffer.

use std::{io, mem, ops::Range, sync::Arc};

use bytes::Bytes;
use tributary_binlog::{HEADER_LEN, RawEvent};
use tributary_flow::{Body, NodeItem, SourcePos, SourceTxn, Spilling, limits};

use super::spill::Spill;

/// Counts the bytes a node has in flight. Called from any thread; must not block.
pub trait Account: Send + Sync + 'static {
    /// So many more bytes are in flight.
    fn charge(&self, bytes: usize);
    /// So many bytes were let go of.
    fn release(&self, bytes: usize);
}

/// What one transaction costs beside its events.
const ITEM_BYTES: usize = size_of::<SourceTxn>() + size_of::<NodeItem>();

struct Charged {
    bytes: Vec<u8>,
    charge: usize,
    account: Arc<dyn Account>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.account.release(self.charge);
    }
}

struct Placed {
    item: usize,
    range: Range<usize>,
}

/// Collects bodies and items.
pub(super) struct Chunker {
    account: Arc<dyn Account>,
    buf: Vec<u8>,
    items: Vec<NodeItem>,
    /// Bodies of finished transactions that end in `buf`.
    placed: Vec<Placed>,
    pending_bytes: usize,
    /// Where the open transaction begins in `buf`.
    open_from: usize,
    /// Its sealed segments, and what they pin.
    open: Body,
    open_pinned: usize,
    /// Its events so far, and the bytes its node says it has.
    open_events: u64,
    expected: u64,
    /// Whether large transactions go to files, and the file of the open one.
    spilling: Option<Spilling>,
    spill: Option<Spill>,
}

impl Chunker {
    pub(super) fn new(account: Arc<dyn Account>, spilling: Option<Spilling>) -> Self {
        Self {
            account,
            buf: Vec::new(),
            items: Vec::new(),
            placed: Vec::new(),
            pending_bytes: 0,
            open_from: 0,
            open: Body::default(),
            open_pinned: 0,
            open_events: 0,
            expected: 0,
            spilling,
            spill: None,
        }
    }

    /// A transaction begins of which its node says that it has `expected` bytes.
    pub(super) fn begin(&mut self, expected: u64) {
        self.expected = expected;
    }

    /// Adds an event to the open transaction, without its checksum.
    #[inline]
    pub(super) fn append(&mut self, event: &RawEvent<'_>) -> io::Result<()> {
        let len = HEADER_LEN + event.body.len();
        let bytes = event
            .bytes
            .get(..len)
            .expect("a RawEvent's bytes hold its header and body");
        self.open_events += 1;
        if self.buf.len() + len > self.buf.capacity() && self.make_room(bytes)? {
            return Ok(());
        }
        let at = self.buf.len();
        self.buf.extend_from_slice(bytes);
        if let Some(size) = self.buf.get_mut(at + 9..at + 13) {
            size.copy_from_slice(&(len as u32).to_le_bytes());
        }
        Ok(())
    }

    /// Makes room for an event in memory, or writes it to the open transaction's file (true).
    #[cold]
    fn make_room(&mut self, event: &[u8]) -> io::Result<bool> {
        let len = event.len();
        self.seal_all();
        self.spill_open(len as u64)?;
        if let Some(spill) = self.spill.as_mut().filter(|_| len > limits::CHUNK_BYTES) {
            let (before, behind) = event.split_at(9.min(len));
            spill.append(before)?;
            spill.append(&(len as u32).to_le_bytes())?;
            spill.append(behind.get(4..).unwrap_or_default())?;
            return Ok(true);
        }
        if self.buf.capacity() < len {
            self.buf = Vec::with_capacity(len.max(limits::CHUNK_BYTES));
        }
        Ok(false)
    }

    /// Writes what the open transaction has in sealed chunks to its file, if it has one, or is too large with `more` bytes.
    fn spill_open(&mut self, more: u64) -> io::Result<()> {
        let Some(spilling) = &self.spilling else {
            return Ok(());
        };
        if self.spill.is_none() && self.open.len() + more > spilling.threshold {
            self.spill = Some(Spill::begin(spilling, self.expected)?);
        }
        if let Some(spill) = &mut self.spill {
            for segment in mem::take(&mut self.open).chunks() {
                spill.append(&segment?)?;
            }
            self.open_pinned = 0;
        }
        Ok(())
    }

    /// Whether the open transaction has any event.
    pub(super) fn open_is_empty(&self) -> bool {
        self.open.is_empty() && self.open_from == self.buf.len() && self.spill.is_none()
    }

    /// Ends the open transaction: everything added since the last one is its body.
    pub(super) fn finish(&mut self, mut txn: Box<SourceTxn>) -> io::Result<()> {
        let threshold = self.spilling.as_ref().map_or(u64::MAX, |s| s.threshold);
        if self.spill.is_some() || self.open_bytes() > threshold {
            self.seal_all();
            self.spill_open(0)?;
        }
        txn.body = match self.spill.take() {
            Some(spill) => spill.finish(self.open_events, &self.account),
            None => mem::take(&mut self.open),
        };
        let range = self.open_from..self.buf.len();
        let in_memory = if txn.body.is_spooled() {
            0
        } else {
            txn.body.len() as usize
        };
        self.pending_bytes += ITEM_BYTES + in_memory + range.len();
        if !range.is_empty() {
            self.placed.push(Placed {
                item: self.items.len(),
                range,
            });
        }
        self.items.push(NodeItem::Txn(txn));
        self.open_from = self.buf.len();
        (self.open_pinned, self.open_events) = (0, 0);
        Ok(())
    }

    /// The stream has passed `pos`.
    pub(super) fn position(&mut self, pos: SourcePos) {
        if let Some(NodeItem::Position(last)) = self.items.last_mut() {
            *last = pos;
        } else {
            self.items.push(NodeItem::Position(pos));
        }
    }

    /// Items that wait to be taken.
    pub(super) fn pending_items(&self) -> usize {
        self.items.len()
    }

    /// Bytes of the items that wait to be taken.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Bytes of the open transaction so far.
    pub(super) fn open_bytes(&self) -> u64 {
        let spilled = self.spill.as_ref().map_or(0, Spill::len);
        spilled + self.open.len() + (self.buf.len() - self.open_from) as u64
    }

    /// Bytes charged for the open transaction alone.
    pub(super) fn open_pinned(&self) -> usize {
        self.open_pinned
    }

    /// All finished items; what belongs to the open transaction stays.
    pub(super) fn take(&mut self) -> Vec<NodeItem> {
        if self.open_from > 0 && self.buf.len() * 2 >= self.buf.capacity() {
            self.seal_all();
        } else if self.open_from > 0 {
            let done: Vec<u8> = self.buf.drain(..self.open_from).collect();
            let charge = done.capacity() + self.placed.len() * ITEM_BYTES;
            self.place(done, charge);
            self.open_from = 0;
        }
        self.pending_bytes = 0;
        mem::take(&mut self.items)
    }

    /// Seals the whole chunk; the open transaction keeps its part as a segment.
    fn seal_all(&mut self) {
        if self.buf.is_empty() {
            return;
        }
        let bytes = if self.buf.len() * 2 >= self.buf.capacity() {
            mem::replace(&mut self.buf, Vec::with_capacity(limits::CHUNK_BYTES))
        } else {
            let copy = self.buf.clone();
            self.buf.clear();
            copy
        };
        let (len, pinned) = (bytes.len(), bytes.capacity());
        let charge = pinned + self.placed.len() * ITEM_BYTES;
        let chunk = self.place(bytes, charge);
        if self.open_from < len {
            self.open.push(chunk.slice(self.open_from..len));
            self.open_pinned += charge;
        }
        self.open_from = 0;
    }

    /// Gives the finished transactions their slices of `bytes`.
    fn place(&mut self, bytes: Vec<u8>, charge: usize) -> Bytes {
        let chunk = self.charged(bytes, charge);
        for Placed { item, range } in self.placed.drain(..) {
            if let Some(NodeItem::Txn(txn)) = self.items.get_mut(item) {
                txn.body.push(chunk.slice(range));
            }
        }
        chunk
    }

    fn charged(&self, bytes: Vec<u8>, charge: usize) -> Bytes {
        self.account.charge(charge);
        Bytes::from_owner(Charged {
            bytes,
            charge,
            account: Arc::clone(&self.account),
        })
    }
}
