//! A node: its binlog and its clock. In: what coordinators and clients do on it. Out: binlog entries with GTIDs, positions
//! and files that rotate; what a dump thread would send from there.

use tributary_binlog::{Gno, Gtid, GtidSet, Sid, Tag};
use tributary_flow::{Body, NodeItem, SourcePos, SourceTxn, Tso, TxnKind};

/// What an entry means to the one who knows everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// Of no transaction that must come out.
    None,
    /// P = C.
    Alone(u64),
    Prepare(u64),
    Commit(u64),
    Ddl(u64),
}

/// One group of the binlog, or the head of a file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) item: NodeItem,
    pub(crate) label: Label,
}

/// What is written.
pub(crate) struct Group {
    pub(crate) kind: TxnKind,
    pub(crate) tso: Option<u64>,
    pub(crate) body: Body,
    pub(crate) label: Label,
}

#[derive(Debug)]
pub(crate) struct Node {
    sid: Sid,
    pub(crate) entries: Vec<Entry>,
    pub(crate) up: bool,
    /// Delays are multiplied with it.
    pub(crate) slow: u64,
    /// Its clock is ahead by so many µs.
    pub(crate) skew: u64,
    pub(crate) gno: u64,
    end: SourcePos,
    file_max: u64,
}

/// Bytes of the head of a file.
const HEAD: u64 = 197;
/// The clocks' zero, µs since 1970.
pub(crate) const EPOCH: u64 = 1_700_000_000_000_000;

impl Node {
    pub(crate) fn new(index: usize, skew: u64, file_max: u64) -> Self {
        let mut node = Self {
            sid: Sid([index as u8 + 1; 16]),
            entries: Vec::new(),
            up: true,
            slow: 1,
            skew,
            gno: 0,
            end: SourcePos { file: 0, offset: 0 },
            file_max,
        };
        node.rotate();
        node
    }

    /// The end of its binlog: what `SHOW BINARY LOG STATUS` answers.
    pub(crate) fn end(&self) -> SourcePos {
        self.end
    }

    /// Begins a new file.
    pub(crate) fn rotate(&mut self) {
        self.end = SourcePos {
            file: self.end.file + 1,
            offset: HEAD,
        };
        self.entries.push(Entry {
            item: NodeItem::Position(self.end),
            label: Label::None,
        });
    }

    /// Writes a group at the moment `now`. Whether a new file was begun behind it.
    pub(crate) fn write(&mut self, now: u64, group: Group) -> bool {
        let Group {
            kind,
            tso,
            body,
            label,
        } = group;
        self.gno += 1;
        self.end.offset += 150 + body.len();
        let clock = EPOCH + now + self.skew;
        let txn = SourceTxn {
            gtid: Gtid {
                sid: self.sid,
                tag: Tag::EMPTY,
                gno: Gno::new(self.gno).expect("a small number"),
            },
            kind,
            end: self.end,
            tso: tso.and_then(Tso::new),
            original_commit: tso.unwrap_or(clock),
            immediate_commit: clock,
            last_committed: 0,
            sequence_number: 1,
            original_server_version: 90704,
            immediate_server_version: 90704,
            timestamp: (clock / 1_000_000) as u32,
            body,
        };
        self.entries.push(Entry {
            item: NodeItem::Txn(Box::new(txn)),
            label,
        });
        let full = self.end.offset >= self.file_max;
        if full {
            self.rotate();
        }
        full
    }

    /// Where a dump thread begins to read for a client that has `have`: the newest file before which nothing is missing.
    pub(crate) fn dump_start(&self, have: &GtidSet) -> usize {
        let mut start = 0;
        for (at, entry) in self.entries.iter().enumerate() {
            match &entry.item {
                NodeItem::Position(_) => start = at,
                NodeItem::Txn(txn) if !have.contains(&txn.gtid) => break,
                NodeItem::Txn(_) => {}
            }
        }
        start
    }

    /// Up to `max` entries from `cursor`, as they are sent to a client that has `have`.
    pub(crate) fn dump(&self, cursor: usize, max: usize, have: &GtidSet) -> Vec<NodeItem> {
        let entries = self.entries.iter().skip(cursor).take(max);
        entries
            .map(|entry| match &entry.item {
                NodeItem::Txn(txn) if have.contains(&txn.gtid) => NodeItem::Position(txn.end),
                item => item.clone(),
            })
            .collect()
    }
}
