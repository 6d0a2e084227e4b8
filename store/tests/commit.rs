//! Group commit and rotation: what is visible when, and which bytes a history makes.

use tributary_binlog::{EventType, GtidEvent, PreviousGtids, Rotate};
use tributary_flow::{Checkpoint, MergedBatch, Tso};
use tributary_store::{
    MemDisk, MemKv, WriteError,
    disk::Fuse,
    verify::{VerifyOptions, verify_dir},
};

use crate::support::{
    CREATED, batch, commit, events, files, open_mem, rows, sample, table_map, write_rows,
};

#[test]
fn a_new_directory_has_a_readable_first_file() {
    let disk = MemDisk::new();
    let opened = open_mem(&disk, &MemKv::new(), 1 << 20).unwrap();
    assert!(opened.checkpoint.is_none() && opened.truncated.is_none());
    let end = opened.log.durable();
    assert_eq!(
        (end.file.as_str(), end.last_gno, end.timestamp),
        ("binlog.000001", 0, CREATED)
    );
    let bytes = disk.bytes("binlog.000001").unwrap();
    assert_eq!(end.offset, bytes.len() as u64);
    let head = events(&bytes);
    let types: Vec<_> = head.iter().map(|e| e.header.event_type).collect();
    assert_eq!(
        types,
        [EventType::FORMAT_DESCRIPTION, EventType::PREVIOUS_GTIDS]
    );
    assert_eq!(head[0].header.timestamp, CREATED);
    assert_eq!(head[0].header.flags, 0, "never marked as in use");
    assert_eq!(disk.bytes("binlog.index").unwrap(), b"./binlog.000001\n");
    assert_eq!(opened.log.files().len(), 1);
}

#[test]
fn nothing_is_visible_before_the_commit() {
    let disk = MemDisk::new();
    let mut opened = open_mem(&disk, &MemKv::new(), 1 << 20).unwrap();
    let before = opened.log.durable();
    let follower = opened.log.subscribe();
    opened.writer.append(&batch(1, 3)).unwrap();
    assert_eq!(opened.log.durable(), before);
    assert!(!follower.has_changed().unwrap());
    let pending = opened.writer.pending_bytes();
    let end = opened.writer.commit().unwrap();
    assert_eq!(opened.writer.pending_bytes(), 0);
    assert_eq!(end.offset - before.offset, pending as u64);
    assert_eq!(opened.log.durable(), end);
    assert!(follower.has_changed().unwrap());
    assert_eq!((end.last_gno, end.timestamp), (3, CREATED + 13));
    assert_eq!(
        opened.log.gtid_executed().to_string(),
        format!("{}:1-3", crate::support::UUID)
    );
}

#[test]
fn a_commit_without_news_does_nothing_and_progress_alone_is_news() {
    let fuse = Fuse::new();
    let (disk, kv) = (
        MemDisk::with_fuse(fuse.clone()),
        MemKv::with_fuse(fuse.clone()),
    );
    let mut opened = open_mem(&disk, &kv, 1 << 20).unwrap();
    commit(&mut opened.writer, 1, 2);
    fuse.set(0);
    let end = opened.writer.commit().unwrap();
    opened.writer.append(&batch(3, 2)).unwrap();
    assert_eq!(
        opened.writer.commit().unwrap(),
        end,
        "the same checkpoint again"
    );

    let checkpoint = Checkpoint {
        last_tso: Tso::new(77).unwrap(),
        ..Checkpoint::default()
    };
    opened
        .writer
        .append(&MergedBatch {
            checkpoint,
            ..MergedBatch::default()
        })
        .unwrap();
    fuse.set(u64::MAX);
    assert_eq!(
        opened.writer.commit().unwrap(),
        end,
        "no bytes, so the end stays"
    );
    drop(opened);
    let opened = open_mem(&disk, &kv, 1 << 20).unwrap();
    assert_eq!(opened.checkpoint.unwrap().last_tso.micros(), 77);
}

#[test]
fn files_are_finished_behind_the_transaction_that_fills_them() {
    let (disk, _) = sample(60, 2000);
    let files = files(&disk);
    let binlogs: Vec<_> = files
        .iter()
        .filter(|(name, _)| !name.ends_with("index"))
        .collect();
    assert!(binlogs.len() > 5);
    let mut gno = 0;
    let mut timestamp = CREATED;
    for (i, (name, bytes)) in binlogs.iter().enumerate() {
        assert_eq!(*name, format!("binlog.{:06}", i + 1));
        let events = events(bytes);
        let previous = PreviousGtids::parse(events[1].body).unwrap().0;
        assert_eq!(previous.count(), gno, "{name}");
        assert_eq!(
            (events[0].header.timestamp, events[1].header.timestamp),
            (timestamp, timestamp)
        );
        let mut sequence = 0;
        for event in &events {
            if event.header.event_type == EventType::GTID {
                let parsed = GtidEvent::parse(EventType::GTID, event.body).unwrap();
                (gno, sequence) = (gno + 1, sequence + 1);
                assert_eq!(parsed.gtid.unwrap().gno.get(), gno);
                assert_eq!(parsed.sequence_number, sequence);
                timestamp = event.header.timestamp;
            }
        }
        let last = events.last().unwrap();
        if i + 1 == binlogs.len() {
            assert_ne!(last.header.event_type, EventType::ROTATE);
            continue;
        }
        let rotate = Rotate::parse(last.body).unwrap();
        assert_eq!(rotate.position, 4);
        assert_eq!(rotate.file, format!("binlog.{:06}", i + 2).as_bytes());
        let before_rotate = (bytes.len() - last.bytes.len()) as u64;
        assert!(before_rotate >= 2000, "{name}: {before_rotate}");
        let transactions = events
            .iter()
            .rposition(|e| e.header.event_type == EventType::GTID);
        let last_start = u64::from(events[transactions.unwrap() - 1].header.log_pos);
        assert!(
            last_start < 2000,
            "{name}: it was not full before its last transaction"
        );
    }
    assert_eq!(gno, 60);
    let report = verify_dir(&disk, &VerifyOptions::default());
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
    assert_eq!(report.transactions, 60);
}

/// Same transactions, other batches, other groups, other restarts: the same bytes.
#[test]
fn batches_and_restarts_leave_no_trace() {
    let (reference, _) = sample(80, 3000);
    for step in [1, 2, 7, 80] {
        for restart in [false, true] {
            let (disk, kv) = (MemDisk::new(), MemKv::new());
            let mut opened = open_mem(&disk, &kv, 3000).unwrap();
            let mut next = 1;
            while next <= 80 {
                let to = (next + step - 1).min(80);
                opened.writer.append(&batch(next, to)).unwrap();
                if step != 2 || next % 3 == 0 {
                    opened.writer.commit().unwrap();
                    if restart {
                        drop(opened);
                        opened = open_mem(&disk, &kv, 3000).unwrap();
                    }
                }
                next = to + 1;
            }
            opened.writer.commit().unwrap();
            drop(opened);
            assert!(
                files(&disk) == files(&reference),
                "step {step}, restart {restart}"
            );
        }
    }
}

/// A transaction larger than any buffer: written ahead of the commit, invisible until it.
#[test]
fn a_large_transaction_is_not_held_in_memory() {
    let disk = MemDisk::new();
    let mut opened = open_mem(&disk, &MemKv::new(), 1 << 30).unwrap();
    let before = opened.log.durable();
    let mut events = vec![table_map(1, "t")];
    events.extend((0..12).map(|i| write_rows(1, i, 1 << 20)));
    let txn = rows(&[events], 1);
    opened
        .writer
        .append(&MergedBatch {
            txns: vec![txn],
            ..MergedBatch::default()
        })
        .unwrap();
    assert!(opened.writer.pending_bytes() > 12 << 20);
    assert!(disk.bytes("binlog.000001").unwrap().len() > 10 << 20);
    assert_eq!(opened.log.durable(), before);
    opened.writer.commit().unwrap();
    let report = verify_dir(&disk, &VerifyOptions::default());
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
}

#[test]
fn a_failure_poisons_the_writer_for_good() {
    // Wherever the failure is: every change of the commit in turn.
    let mut failures = 0;
    for works in 0.. {
        let fuse = Fuse::new();
        let (disk, kv) = (
            MemDisk::with_fuse(fuse.clone()),
            MemKv::with_fuse(fuse.clone()),
        );
        let mut opened = open_mem(&disk, &kv, 1000).unwrap();
        commit(&mut opened.writer, 1, 1);
        let end = opened.log.durable();
        fuse.set(works);
        let result = opened
            .writer
            .append(&batch(2, 9))
            .and_then(|()| opened.writer.commit().map(|_| ()));
        if result.is_ok() {
            break;
        }
        failures += 1;
        assert_eq!(opened.log.durable(), end, "nothing was published");
        // The machine works again, the writer does not.
        fuse.set(u64::MAX);
        let poisoned = opened.writer.append(&batch(2, 2)).unwrap_err();
        assert!(matches!(poisoned, WriteError::Poisoned { .. }));
        let poisoned = opened.writer.commit().unwrap_err();
        assert!(matches!(poisoned, WriteError::Poisoned { .. }));
    }
    assert!(failures > 8, "{failures}");
}

#[test]
fn a_bad_transaction_poisons_too() {
    let mut opened = open_mem(&MemDisk::new(), &MemKv::new(), 1000).unwrap();
    let bad = rows(&[vec![write_rows(1, 1, 0)]], 1);
    let bad = MergedBatch {
        txns: vec![bad],
        ..MergedBatch::default()
    };
    assert!(matches!(
        opened.writer.append(&bad),
        Err(WriteError::Encode(_))
    ));
    assert!(matches!(
        opened.writer.commit(),
        Err(WriteError::Poisoned { .. })
    ));
}
