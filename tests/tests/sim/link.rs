//! A collector: what `collector/src/task.rs` does with a connection, over the real frame decoder, assembler, budget and resume
//! rules.
//!
//! In: bytes that arrive from a dump thread. Out: items for the merger; where to go on after a connection.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tributary_binlog::{ChecksumAlg, FrameDecoder, GtidSet};
use tributary_collector::{Account, Assembler, Budget, Places, Start, in_epoch};
use tributary_flow::{NodeItem, NodeProgress, SourcePos, Spilling};

use crate::dump::Dump;
use crate::faults::{Counts, Fault};
use crate::node::Node;

/// Greatest event.
const EVENT_MAX: usize = 1 << 20;
/// Items handed on at a time.
const ITEMS: usize = 40;

/// One connection.
pub(crate) struct Session {
    pub(crate) dump: Dump,
    decoder: FrameDecoder,
    assembler: Assembler,
}

pub(crate) struct Link {
    /// Number of the connection; 0 = none.
    pub(crate) connection: u64,
    pub(crate) session: Option<Session>,
    /// Arrived, not yet read.
    pub(crate) socket: Vec<u8>,
    /// Waits for the merger.
    pub(crate) queue: VecDeque<NodeItem>,
    pub(crate) budget: Arc<Budget>,
    /// Where large transactions go, if anywhere else than to memory.
    spilling: Option<Spilling>,
    /// Positions over changes of the server, and the server that is read.
    places: Places,
    server: u64,
    /// What the node must not send again; `None` until it is read for the first time.
    received: Option<GtidSet>,
}

impl Link {
    pub(crate) fn new(
        progress: Option<&NodeProgress>,
        bytes_max: usize,
        spilling: Option<Spilling>,
    ) -> Self {
        let progress = progress.filter(|p| **p != NodeProgress::default());
        Self {
            connection: 0,
            session: None,
            socket: Vec::new(),
            queue: VecDeque::new(),
            budget: Arc::new(Budget::new(bytes_max)),
            spilling,
            places: Places::default(),
            server: 0,
            received: progress.map(tributary_collector::done),
        }
    }

    /// Begins to read `node`. When that is for the first time: what lies before the start.
    pub(crate) fn connect(
        &mut self,
        node: &Node,
        start: &Start,
        purged: &GtidSet,
        connection: u64,
    ) -> Result<Option<GtidSet>> {
        let executed = &node.executed;
        let first = self.received.is_none();
        let have = self
            .received
            .get_or_insert_with(|| tributary_collector::before_start(start, executed, purged));
        tributary_collector::check(have, executed, purged).context("resume")?;
        self.places.begin(&node.server.to_string(), node.end());
        self.server = node.server;
        self.connection = connection;
        self.socket.clear();
        self.session = Some(Session {
            dump: Dump::new(node, have),
            decoder: FrameDecoder::new(node.alg, EVENT_MAX),
            assembler: Assembler::with_spilling(
                Arc::clone(&self.budget) as Arc<dyn Account>,
                self.spilling.clone(),
            ),
        });
        Ok(first.then(|| have.clone()))
    }

    /// The connection breaks: whole transactions are good, a part of one is thrown away.
    pub(crate) fn disconnect(&mut self, counts: &mut Counts) -> Result<()> {
        self.connection = 0;
        self.flush(counts)?;
        if let Some(session) = self.session.take()
            && session.decoder.buffered() + self.socket.len() > 0
        {
            counts.hit(Fault::TornEvent);
        }
        self.socket.clear();
        Ok(())
    }

    /// Reads what has arrived, as far as memory allows. Whether all of it was read.
    pub(crate) fn collect(&mut self, counts: &mut Counts) -> Result<bool> {
        let Some(session) = &mut self.session else {
            return Ok(true);
        };
        if !self.budget.has_room(session.assembler.open_pinned()) {
            counts.hit(Fault::BackPressure);
            return Ok(false);
        }
        let bytes = std::mem::take(&mut self.socket);
        session.decoder.feed(&bytes);
        let mut all = true;
        while let Some(event) = session.decoder.poll().context("a whole event")? {
            session
                .assembler
                .handle(&event)
                .context("the collector refuses a right stream")?;
            if session.assembler.pending_items() >= ITEMS {
                all = false;
                break;
            }
        }
        self.flush(counts)?;
        Ok(all)
    }

    fn flush(&mut self, counts: &mut Counts) -> Result<()> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let received = self.received.get_or_insert_default();
        let items = session.assembler.take();
        if self.places.is_plain() {
            self.places.reached(session.assembler.pos());
        }
        for mut item in items {
            if !self.places.is_plain() {
                match &mut item {
                    NodeItem::Txn(txn) => txn.end = self.places.say(txn.end),
                    NodeItem::Position(pos) => *pos = self.places.say(*pos),
                }
            }
            if let NodeItem::Txn(txn) = &item {
                ensure!(received.add(txn.gtid), "{} was sent twice", txn.gtid);
                if txn.body.is_spooled() {
                    counts.hit(Fault::Spilled);
                }
            }
            self.queue.push_back(item);
        }
        Ok(())
    }

    /// Where the binlog of `node` ends; `None` when another server is read than the one that is asked.
    pub(crate) fn end_of(&self, node: &Node) -> Option<SourcePos> {
        let same = node.server == self.server;
        same.then(|| in_epoch(self.places.epoch(), node.end()))
    }

    /// Lets the node have `bytes` more than its budget.
    pub(crate) fn overdraw(&self, bytes: usize, counts: &mut Counts) {
        if !self.budget.has_room(0) {
            counts.hit(Fault::Overdraft);
        }
        self.budget.grant_overdraft(bytes);
    }
}

/// All items of a whole binlog, read by one assembler.
pub(crate) fn items(node: &Node) -> Result<Vec<NodeItem>> {
    let mut link = Link::new(None, usize::MAX, None);
    link.connect(node, &Start::Earliest, &GtidSet::new(), 1)?;
    loop {
        let session = link.session.as_mut().context("connected")?;
        let bytes = session.dump.read(node, 100_000);
        if bytes.is_empty() {
            return Ok(link.queue.into());
        }
        link.socket = bytes;
        while !link.collect(&mut Counts::default())? {}
    }
}

/// Nodes write with checksums or without.
pub(crate) fn has_crc(node: &Node) -> bool {
    node.alg == ChecksumAlg::Crc32
}
