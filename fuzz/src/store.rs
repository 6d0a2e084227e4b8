//! Operations of the store, with crashes.
//!
//! In: steps, among them crashes after so many changes of disk and database, with what was not synced lost, kept, torn or
//! reordered. Out: a panic unless what was acknowledged is there and unchanged, what is there was asked for, recovering twice is
//! recovering once, and the files are sound from end to end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use tributary_binlog::{
    ChecksumAlg, EventReader, EventType, EventWriter, MAGIC, RowsHeader, TableMap, XaXid,
    rows_flags,
};
use tributary_flow::{
    Body, BranchOp, Checkpoint, Dependency, GlobalKind, GlobalTxn, KeptId, KeptRows, MergedBatch,
    OrderKey, Tso,
};
use tributary_store::{
    Disk, MemDisk, MemKv, Opened, StoreOptions,
    disk::{Fuse, Keep, Unsynced},
    open,
    verify::{VerifyOptions, verify_dir},
};

use crate::input::Input;

/// Most steps of one input.
const STEPS_MAX: usize = 60;

/// What the steps so far allow.
#[derive(Default)]
struct Model {
    /// Greatest transaction that was acknowledged, and that was appended.
    acknowledged: u64,
    appended: u64,
    /// Payload bytes of each transaction.
    sizes: BTreeMap<u64, usize>,
    /// What a reader could see of each file.
    seen: BTreeMap<String, Vec<u8>>,
    /// The greatest file that a purge was asked to keep.
    purged_to: u64,
    /// Branches that are stored, and those of which that is not known.
    branches: BTreeSet<u8>,
    unsure: BTreeSet<u8>,
}

struct World<'a> {
    input: Input<'a>,
    max: u64,
    disk: MemDisk,
    kv: MemKv,
    fuse: Fuse,
    opened: Option<Opened>,
    model: Model,
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let max = 400 + 40 * u64::from(input.byte());
    let (fuse, input) = (Fuse::new(), input);
    let mut world = World {
        input,
        max,
        disk: MemDisk::with_fuse(fuse.clone()),
        kv: MemKv::with_fuse(fuse.clone()),
        fuse,
        opened: None,
        model: Model::default(),
    };
    let mut steps = 0;
    while !world.input.is_empty() && steps < STEPS_MAX {
        steps += 1;
        world.step();
    }
    world.crash();
    let report = verify_dir(&world.disk, &VerifyOptions::default());
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
}

fn options(max_binlog_size: u64) -> StoreOptions {
    StoreOptions {
        base_name: "binlog".to_owned(),
        max_binlog_size,
        server_id: 4294,
        server_version: "8.4.9-tributary".to_owned(),
        new_uuid: "01020304-0506-0708-090a-0b0c0d0e0f10"
            .parse()
            .expect("a UUID"),
        now_seconds: 1_700_000_000,
    }
}

/// Keeps a branch, in place of an older one, and forgets another.
fn branches(opened: &Opened, kept: u8, forgotten: u8) -> MergedBatch {
    let stored = opened.writer.list_branches().expect("branches can be read");
    let forget = |id, n| BranchOp::Forget {
        id,
        node: "dn1".into(),
        xid: Box::new(xid(n)),
    };
    let id = KeptId(stored.iter().map(|b| b.id.0).max().unwrap_or(0) + 1);
    let known = |n: u8| stored.iter().find(|b| b.xid == xid(n)).map(|b| b.id);
    let mut branches: Vec<_> = known(kept).map(|id| forget(id, kept)).into_iter().collect();
    branches.extend([0_u64, 200].map(|offset| BranchOp::Rows {
        id,
        offset,
        bytes: vec![kept; if offset == 0 { 200 } else { 100 }].into(),
    }));
    branches.push(BranchOp::Keep {
        id,
        node: "dn1".into(),
        xid: Box::new(xid(kept)),
        head: vec![kept],
        rows: 300,
    });
    let gone = if forgotten == kept {
        Some(id)
    } else {
        known(forgotten)
    };
    branches.extend(gone.map(|id| forget(id, forgotten)));
    MergedBatch {
        branches,
        checkpoint: Checkpoint {
            last_tso: Tso::new(opened.writer.last_gno()).unwrap_or(Tso::ZERO),
            ..Checkpoint::default()
        },
        ..MergedBatch::default()
    }
}

fn xid(n: u8) -> XaXid {
    XaXid::new(1, &[b'g', n], b"b").expect("a short xid")
}

impl World<'_> {
    /// Opens the directory; `None` when the fuse blows meanwhile.
    fn open(&mut self) -> Option<Opened> {
        if self.opened.is_none() {
            match open(
                Arc::new(self.disk.clone()),
                Arc::new(self.kv.clone()),
                options(self.max),
            ) {
                Ok(opened) => {
                    self.model.appended = opened.writer.last_gno();
                    self.opened = Some(opened);
                }
                Err(e) => assert!(self.fuse.blown(), "{e}"),
            }
        }
        self.opened.take()
    }

    fn step(&mut self) {
        let what = self.input.below(12);
        if what >= 10 {
            // The next steps come to an end in the middle.
            if what == 10 {
                self.fuse.set(u64::from(self.input.byte() % 40));
            } else {
                self.crash();
            }
            return;
        }
        let Some(mut opened) = self.open() else {
            return self.crash();
        };
        let done = self.act(what, &mut opened);
        match done {
            Ok(()) => {
                self.look(&opened);
                self.opened = Some(opened);
            }
            Err(e) => {
                assert!(self.fuse.blown(), "{e}");
                drop(opened);
                self.crash();
            }
        }
    }

    fn act(&mut self, what: usize, opened: &mut Opened) -> Result<(), String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        match what {
            0..=3 => {
                let n = 1 + self.input.below(6) as u64;
                let batch = self.batch(opened.writer.last_gno() + 1, n);
                self.model.appended += n;
                opened.writer.append(&batch).map_err(|e| text(&e))
            }
            4..=6 => self.commit(opened),
            7 => {
                opened.writer.flush().map_err(|e| text(&e))?;
                self.model.acknowledged = self.model.appended;
                Ok(())
            }
            8 => {
                let keep = self.input.below(3) as u64;
                let active = opened.log.durable().file.seq();
                let oldest = opened.log.files()[0].file.seq();
                let target = active.saturating_sub(keep).max(oldest);
                self.model.purged_to = self.model.purged_to.max(target);
                opened
                    .writer
                    .purge_to(&format!("binlog.{target:06}"))
                    .map(drop)
                    .map_err(|e| text(&e))
            }
            _ => {
                let (kept, forgotten) = (self.input.below(4) as u8, self.input.below(4) as u8);
                self.model.unsure.extend([kept, forgotten]);
                let batch = branches(opened, kept, forgotten);
                opened.writer.append(&batch).map_err(|e| text(&e))?;
                self.commit(opened)?;
                self.model.unsure.clear();
                self.model.branches.insert(kept);
                self.model.branches.remove(&forgotten);
                Ok(())
            }
        }
    }

    fn commit(&mut self, opened: &mut Opened) -> Result<(), String> {
        let end = opened.writer.commit().map_err(|e| e.to_string())?;
        assert_eq!(end.last_gno, self.model.appended);
        self.model.acknowledged = end.last_gno;
        Ok(())
    }

    fn batch(&mut self, from: u64, n: u64) -> MergedBatch {
        let txns = (from..from + n).map(|gno| self.transaction(gno)).collect();
        let checkpoint = Checkpoint {
            last_tso: Tso::new(from + n - 1).expect("a small number"),
            ..Checkpoint::default()
        };
        MergedBatch {
            txns,
            checkpoint,
            ..MergedBatch::default()
        }
    }

    fn transaction(&mut self, gno: u64) -> GlobalTxn {
        let size = usize::from(self.input.byte()) * 2;
        self.model.sizes.insert(gno, size);
        GlobalTxn {
            key: OrderKey::distributed(Tso::new(1_000_000 + gno).expect("a small number")),
            kind: GlobalKind::Rows,
            parts: [rows(gno, size)].into_iter().collect(),
            dependency: Dependency::UpTo(gno.saturating_sub(3)),
            original_commit: 1_700_000_000_000_000 + gno,
            immediate_commit: 1_700_000_000_000_500 + gno,
            original_server_version: 80404,
            immediate_server_version: 80404,
            timestamp: 1_700_000_010,
        }
    }

    /// What a reader sees now only grows.
    fn look(&mut self, opened: &Opened) {
        let model = &mut self.model;
        assert!(opened.log.durable().last_gno >= model.acknowledged);
        let files = opened.log.files();
        model
            .seen
            .retain(|name, _| files.iter().any(|f| f.file.as_str() == name));
        for info in files {
            let mut bytes = vec![0; info.size as usize];
            let reader = opened
                .log
                .open(&info.file)
                .expect("a file of the log can be opened");
            let n = reader.read_at(0, &mut bytes).expect("and read");
            assert_eq!(n, bytes.len(), "up to the durable end");
            let before = model.seen.insert(info.file.to_string(), bytes);
            let now = &model.seen[info.file.as_str()];
            assert!(
                now.starts_with(&before.unwrap_or_default()),
                "what was seen never changes"
            );
        }
    }

    /// The power fails now; afterwards the directory is opened and looked at.
    fn crash(&mut self) {
        self.opened = None;
        let kept = match self.kv.unsynced() {
            0 => 0,
            n => self.input.below((n + 1).min(256)),
        };
        let kv = self.kv.crash_keep(kept);
        let input = &mut self.input;
        let disk = self
            .disk
            .crash_keep(|change| match (input.below(7), change) {
                (0, _) => Keep::Nothing,
                (1, Unsynced::Write { len, .. }) => {
                    Keep::Part(usize::from(input.byte()) % (len + 1))
                }
                (2, _) => Keep::Zeros,
                (3, _) => {
                    Keep::Sectors(u64::from(input.byte()).wrapping_mul(0x0101_0101_0101_0101))
                }
                (4, _) => Keep::Noise,
                _ => Keep::All,
            });
        self.fuse = Fuse::new();
        (self.disk, self.kv) = (disk.fused(&self.fuse), kv.fused(&self.fuse));
        self.recovered();
    }

    fn recovered(&mut self) {
        let opened = self.open().expect("it recovers whatever happened");
        let gno = opened.log.durable().last_gno;
        assert!(
            self.model.acknowledged <= gno,
            "what was acknowledged is there"
        );
        assert!(
            gno <= *self.model.sizes.keys().last().unwrap_or(&0),
            "nothing is made up"
        );
        let merged = opened
            .checkpoint
            .as_ref()
            .map_or(0, |c| c.last_tso.micros());
        assert_eq!(
            merged, gno,
            "the merger's state belongs to the last transaction"
        );
        self.contents(&opened);
        self.branches(&opened);
        drop(opened);
        let once = everything(&self.disk);
        let opened = self.open().expect("it recovers again");
        assert!(
            opened.truncated.is_none() && once == everything(&self.disk),
            "recovery changes nothing"
        );
        self.model.acknowledged = gno;
        self.model.appended = gno;
        self.model.sizes.split_off(&(gno + 1));
        self.opened = Some(opened);
    }

    /// Every transaction that is not purged is there, and is the one that was appended.
    fn contents(&mut self, opened: &Opened) {
        let first = opened.log.files()[0].file.seq();
        assert!(
            first <= self.model.purged_to.max(1),
            "only what was purged is gone"
        );
        let mut next = None;
        self.model
            .seen
            .retain(|name, _| opened.log.find(name).is_some());
        for info in opened.log.files() {
            let bytes = self
                .disk
                .bytes(info.file.as_str())
                .expect("the file is there");
            assert_eq!(bytes.len() as u64, info.size, "cut behind the durable end");
            let seen = self.model.seen.get(info.file.as_str());
            assert!(
                bytes.starts_with(seen.map_or(&[], |s| s.as_slice())),
                "what was seen is still there"
            );
            let mut reader = EventReader::new(
                bytes.strip_prefix(&MAGIC).expect("its magic"),
                ChecksumAlg::None,
            );
            while let Some(event) = reader.next().expect("a sound file") {
                if event.header.event_type != EventType::WRITE_ROWS {
                    continue;
                }
                let header = RowsHeader::parse(event.header.event_type, event.body).expect("rows");
                let gno = u64::from_le_bytes(header.rows[1..9].try_into().expect("eight bytes"));
                assert!(
                    next.is_none_or(|n| n == gno),
                    "no gap: {next:?} is due, {gno} comes"
                );
                assert_eq!(
                    header.rows.len(),
                    11 + self.model.sizes[&gno],
                    "transaction {gno}"
                );
                next = Some(gno + 1);
            }
        }
        if let Some(next) = next {
            assert_eq!(next, opened.log.durable().last_gno + 1);
        }
    }

    fn branches(&mut self, opened: &Opened) {
        let stored = opened.writer.list_branches().expect("branches can be read");
        let stored: BTreeSet<u8> = stored.iter().map(|b| b.xid.gtrid()[1]).collect();
        let with_rows = opened.log.kept_branches().expect("and their rows");
        for branch in with_rows {
            let KeptRows::Memory(rows) = branch.rows else {
                panic!("few rows are in memory");
            };
            assert_eq!(rows, vec![branch.xid.gtrid()[1]; 300]);
        }
        let sure = |set: &BTreeSet<u8>| -> BTreeSet<u8> {
            set.difference(&self.model.unsure).copied().collect()
        };
        assert_eq!(sure(&stored), sure(&self.model.branches));
        self.model.branches = stored;
        self.model.unsure.clear();
    }
}

fn everything(disk: &MemDisk) -> Vec<(String, Option<Vec<u8>>)> {
    let names = disk.list().expect("memory can be listed").into_iter();
    names
        .map(|name| (name.clone(), disk.bytes(&name)))
        .collect()
}

/// One row of `t (id BIGINT, v VARBINARY)`.
fn rows(gno: u64, size: usize) -> Body {
    let mut bytes = Vec::new();
    let mut writer = EventWriter::new(&mut bytes, 0, 1, ChecksumAlg::None);
    let map = TableMap {
        table_id: 70,
        flags: 0,
        schema: b"shop",
        table: b"t",
        column_types: &[8, 15],
        column_meta: &[0, 4],
        null_bitmap: &[0],
        optional: &[],
    };
    writer
        .event(EventType::TABLE_MAP, 1, 0, |out| map.put_body(out))
        .expect("it is small");
    let mut row = vec![0];
    row.extend_from_slice(&gno.to_le_bytes());
    row.extend_from_slice(&(size as u16).to_le_bytes());
    row.resize(row.len() + size, gno as u8);
    let header = RowsHeader {
        event_type: EventType::WRITE_ROWS,
        table_id: 70,
        flags: rows_flags::STMT_END,
        extra: &[],
        n_columns: 2,
        columns_before: &[3],
        columns_after: None,
        rows: &row,
    };
    writer
        .event(EventType::WRITE_ROWS, 1, 0, |out| header.put_body(out))
        .expect("it is small");
    Body::new(Bytes::from(bytes))
}
