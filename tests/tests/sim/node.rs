//! A node: its binlog, its clock, its rows with their locks. In: what coordinators and clients do on it. Out: binlog files,
//! byte for byte as a server would write them, and for every group in them what it means.

use tributary_binlog::{
    ChecksumAlg, Compression, EventReader, EventType, EventWriter, FormatDescription, Gno, Gtid,
    GtidEvent, GtidSet, InnodbXid, MAGIC, Payload, PreviousGtids, Rotate, Sid, Tag, XaPrepare,
    XidEvent,
};
use tributary_flow::{SourcePos, Tso, TxnKind};

use crate::body::{self, Bare};
use crate::faults::Plan;
use crate::rng::Rng;

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

/// One group of the binlog.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) gtid: Gtid,
    pub(crate) kind: TxnKind,
    pub(crate) label: Label,
    pub(crate) tso: Option<Tso>,
    pub(crate) immediate_commit: u64,
    /// When it was written.
    pub(crate) at: u64,
    /// Where it begins in its file.
    pub(crate) from: usize,
    pub(crate) end: SourcePos,
}

/// What is written.
pub(crate) struct Group {
    pub(crate) kind: TxnKind,
    pub(crate) tso: Option<u64>,
    pub(crate) events: Vec<Bare>,
    pub(crate) label: Label,
}

/// A binlog file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    /// Its PREVIOUS_GTIDS.
    pub(crate) previous: GtidSet,
    /// Where its first group begins, and which entry that is.
    pub(crate) head: usize,
    pub(crate) first: usize,
    /// Where its ROTATE begins. A node that died has written none.
    pub(crate) rotate: Option<usize>,
}

/// A row that transactions change, one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) balance: i64,
    pub(crate) locked: bool,
}

#[derive(Debug)]
pub(crate) struct Node {
    index: usize,
    pub(crate) files: Vec<File>,
    pub(crate) entries: Vec<Entry>,
    /// `gtid_executed`.
    pub(crate) executed: GtidSet,
    /// `gtid_purged`.
    pub(crate) purged: GtidSet,
    pub(crate) accounts: Vec<Account>,
    pub(crate) up: bool,
    /// Number of the server that is the primary now.
    pub(crate) server: u64,
    /// Its replica takes over when it is up again.
    pub(crate) fails_over: bool,
    /// Delays are multiplied with it.
    pub(crate) slow: u64,
    /// Its clock is ahead by so many µs.
    pub(crate) skew: u64,
    pub(crate) gno: u64,
    pub(crate) alg: ChecksumAlg,
    /// Writes compressed payloads.
    pub(crate) packs: bool,
    file_max: u64,
}

/// The clocks' zero, µs since 1970.
pub(crate) const EPOCH: u64 = 1_700_000_000_000_000;

pub(crate) fn file_name(index: usize) -> String {
    format!("mysql-bin.{:06}", index + 1)
}

impl Node {
    pub(crate) fn new(index: usize, plan: &Plan, rng: &mut Rng) -> Self {
        let mut node = Self {
            index,
            files: Vec::new(),
            entries: Vec::new(),
            executed: GtidSet::new(),
            purged: GtidSet::new(),
            accounts: vec![Account::default(); plan.accounts],
            up: true,
            server: 0,
            fails_over: false,
            slow: 1,
            skew: rng.range(0, plan.skew),
            gno: 0,
            alg: match rng.percent(80) {
                true => ChecksumAlg::Crc32,
                false => ChecksumAlg::None,
            },
            packs: rng.percent(30),
            file_max: plan.node_file_max,
        };
        node.open_file();
        node
    }

    /// The end of its binlog: what `SHOW BINARY LOG STATUS` answers.
    pub(crate) fn end(&self) -> SourcePos {
        let offset = self.files.last().map_or(0, |f| f.bytes.len());
        SourcePos {
            file: self.files.len() as u64,
            offset: offset as u64,
        }
    }

    /// Begins a new file, as after a start.
    pub(crate) fn open_file(&mut self) {
        let mut bytes = MAGIC.to_vec();
        let mut format = FormatDescription::for_version("9.7.4");
        format.checksum = self.alg;
        let mut out = EventWriter::new(&mut bytes, 0, self.index as u32 + 1, self.alg);
        out.event(EventType::FORMAT_DESCRIPTION, 1, 0, |b| format.put_body(b))
            .expect("a small event");
        let previous = PreviousGtids(self.executed.clone());
        out.event(EventType::PREVIOUS_GTIDS, 1, 0, |b| previous.put_body(b))
            .expect("a small event");
        self.files.push(File {
            head: bytes.len(),
            first: self.entries.len(),
            previous: previous.0,
            rotate: None,
            bytes,
        });
    }

    /// Purges the files of which everything is in `done`. Returns how many groups are gone with them.
    pub(crate) fn purge(&mut self, done: &GtidSet) -> Vec<Gtid> {
        let mut gone = Vec::new();
        for pair in self.files.windows(2) {
            let [file, next] = pair else { break };
            let groups = &self.entries[file.first..next.first];
            if !groups.iter().all(|e| done.contains(&e.gtid)) {
                break;
            }
            gone.extend(
                groups
                    .iter()
                    .map(|e| e.gtid)
                    .filter(|g| self.purged.add(*g)),
            );
        }
        gone
    }

    /// Its replica takes over, which has everything: the same groups, committed there a little later, in other files.
    pub(crate) fn fail_over(&mut self, rng: &mut Rng) {
        let files = std::mem::take(&mut self.files);
        let entries = std::mem::take(&mut self.entries);
        let late = rng.range(1, 20_000);
        self.server += 1;
        self.fails_over = false;
        self.file_max = rng.range(1_500, 40_000);
        (self.executed, self.purged) = (GtidSet::new(), GtidSet::new());
        self.open_file();
        for mut entry in entries {
            let file = &files[entry.end.file as usize - 1];
            let bytes = &file.bytes[entry.from..entry.end.offset as usize];
            entry.immediate_commit += late;
            entry.from = self.files.last().map_or(0, |f| f.bytes.len());
            let events = replicated(bytes, self.alg, late);
            self.append((entry.immediate_commit / 1_000_000) as u32, &events);
            self.executed.add(entry.gtid);
            entry.end = self.end();
            self.entries.push(entry);
            if self.end().offset >= self.file_max {
                self.rotate();
            }
        }
    }

    /// Ends the file and begins a new one.
    fn rotate(&mut self) {
        let name = file_name(self.files.len());
        let rotate = Rotate {
            position: MAGIC.len() as u64,
            file: name.as_bytes(),
        };
        self.append(1, &[(EventType::ROTATE, body_of(|b| rotate.put_body(b)))]);
        if let Some(file) = self.files.last_mut() {
            let len = 19 + 8 + name.len() + if self.alg == ChecksumAlg::Crc32 { 4 } else { 0 };
            file.rotate = Some(file.bytes.len() - len);
        }
        self.open_file();
    }

    fn append(&mut self, timestamp: u32, events: &[Bare]) {
        let file = self.files.last_mut().expect("there is always a file");
        let mut out = EventWriter::new(&mut file.bytes, 0, self.index as u32 + 1, self.alg);
        for (event_type, body) in events {
            out.event(*event_type, timestamp, 0, |b| b.extend_from_slice(body))
                .expect("a small event");
        }
    }

    /// Writes a group at the moment `now`. Its GTID, and whether a new file was begun behind it.
    pub(crate) fn write(&mut self, now: u64, group: Group) -> (Gtid, bool) {
        self.gno += 1;
        let gtid = Gtid {
            sid: Sid([self.index as u8 + 1; 16]),
            tag: Tag::EMPTY,
            gno: Gno::new(self.gno).expect("a small number"),
        };
        let mut clock = EPOCH + now + self.skew;
        // An equal timestamp would say that there is none.
        clock += u64::from(group.tso == Some(clock));
        let original = group.tso.unwrap_or(clock);
        let from = self.files.last().map_or(0, |f| f.bytes.len());
        let timestamp = (clock / 1_000_000) as u32;
        let mut events = vec![(EventType::GTID, gtid_body(gtid, clock, original))];
        events.extend(self.frame(&group.kind, group.events));
        self.append(timestamp, &events);
        self.executed.add(gtid);
        self.entries.push(Entry {
            gtid,
            kind: group.kind,
            label: group.label,
            tso: group.tso.and_then(Tso::new),
            immediate_commit: clock,
            at: now,
            from,
            end: self.end(),
        });
        let full = self.end().offset >= self.file_max;
        if full {
            self.rotate();
        }
        (gtid, full)
    }

    /// Whether an empty group with the last number is a GTID and nothing else.
    pub(crate) fn wrote_alone(&self) -> bool {
        self.gno.is_multiple_of(2)
    }

    /// The events behind a group's GTID event.
    fn frame(&self, kind: &TxnKind, rows: Vec<Bare>) -> Vec<Bare> {
        let xid = (
            EventType::XID,
            body_of(|b| XidEvent(InnodbXid(self.gno)).put_body(b)),
        );
        let branch = |xid: tributary_binlog::XaXid, one_phase| {
            let prepare = XaPrepare { one_phase, xid };
            let mut events = vec![body::query(&format!("XA START {xid}"))];
            events.extend(rows.clone());
            events.push(body::query(&format!("XA END {xid}")));
            events.push((EventType::XA_PREPARE, body_of(|b| prepare.put_body(b))));
            events
        };
        match kind {
            TxnKind::Local => {
                let mut events = vec![body::query("BEGIN")];
                events.extend(rows);
                events.push(xid);
                if self.packs {
                    vec![pack(&events)]
                } else {
                    events
                }
            }
            TxnKind::OnePhase(xid) => branch(*xid, true),
            TxnKind::Prepare(xid) => branch(*xid, false),
            TxnKind::Commit(xid) => vec![body::query(&format!("XA COMMIT {xid}"))],
            TxnKind::Rollback(xid) => vec![body::query(&format!("XA ROLLBACK {xid}"))],
            TxnKind::Ddl => rows,
            // A GTID alone, or a transaction without rows.
            TxnKind::Empty if self.wrote_alone() => Vec::new(),
            TxnKind::Empty => vec![body::query("BEGIN"), body::query("COMMIT")],
        }
    }

    /// Rows that nobody has locked; they are, now.
    pub(crate) fn lock(&mut self, count: usize, rng: &mut Rng) -> Vec<usize> {
        let mut locked = Vec::new();
        for _ in 0..count {
            let account = rng.below(self.accounts.len());
            if !self.accounts[account].locked {
                self.accounts[account].locked = true;
                locked.push(account);
            }
        }
        locked
    }

    /// A transaction ends: its rows are free, and changed if it has committed.
    pub(crate) fn release(&mut self, rows: &[body::Row], committed: bool) {
        for row in rows {
            let account = &mut self.accounts[row.account as usize];
            account.locked = false;
            account.balance += if committed { row.delta } else { 0 };
        }
    }
}

/// The events of a group as a replica writes them: the original commit time stays, the immediate one is its own.
fn replicated(bytes: &[u8], alg: ChecksumAlg, late: u64) -> Vec<Bare> {
    let mut events = EventReader::new(bytes, alg);
    let mut out = Vec::new();
    while let Some(event) = events.next().expect("it was written here") {
        let event_type = event.header.event_type;
        let mut body = event.body.to_vec();
        if event_type == EventType::GTID {
            let mut gtid = GtidEvent::parse(event_type, event.body).expect("it was written here");
            gtid.immediate_commit_ts += late;
            gtid.immediate_commit_ts +=
                u64::from(gtid.immediate_commit_ts == gtid.original_commit_ts);
            body = body_of(|b| gtid.put_body(b));
        }
        out.push((event_type, body));
    }
    out
}

fn body_of(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body);
    body
}

fn gtid_body(gtid: Gtid, immediate: u64, original: u64) -> Vec<u8> {
    let event = GtidEvent {
        gtid: Some(gtid),
        flags: 0,
        last_committed: 0,
        sequence_number: 1,
        immediate_commit_ts: immediate,
        original_commit_ts: original,
        transaction_length: 0,
        original_server_version: 90704,
        immediate_server_version: 90704,
        commit_group_ticket: None,
    };
    body_of(|b| event.put_body(b))
}

/// The events as one Transaction_payload, uncompressed.
fn pack(events: &[Bare]) -> Bare {
    let mut inner = Vec::new();
    let mut out = EventWriter::new(&mut inner, 0, 9, ChecksumAlg::None);
    for (event_type, body) in events {
        out.event(*event_type, 1, 0, |b| b.extend_from_slice(body))
            .expect("a small event");
    }
    let payload = Payload {
        compression: Compression::None,
        uncompressed_size: inner.len() as u64,
        payload: &inner,
    };
    (
        EventType::TRANSACTION_PAYLOAD,
        body_of(|b| payload.put_body(b)),
    )
}
