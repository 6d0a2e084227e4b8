//! Purging and flushing: what goes, what stays, and that a crash in between does no harm.

use tributary_binlog::EventType;
use tributary_store::{
    Disk, GlobalLog, MemDisk, MemKv, PurgeError, ReadError, Retention, StartError,
    disk::{Fuse, Keep},
    kv::KeyKind,
    verify::{VerifyOptions, verify_dir},
};

use crate::support::{CREATED, UUID, batch, commit, dump, events, files, open_mem, sample};

const MAX: u64 = 2000;

/// Numbers of the files in a log.
fn numbers(log: &GlobalLog) -> Vec<u64> {
    log.files().iter().map(|info| info.file.seq()).collect()
}

fn on_disk(disk: &MemDisk) -> Vec<u64> {
    let names = disk.list().unwrap().into_iter();
    names
        .filter_map(|name| name.strip_prefix("binlog.")?.parse().ok())
        .collect()
}

/// Nothing in the index database is about files before `oldest`, or about files that are leaving.
fn assert_forgotten(kv: &MemKv, oldest: u64) {
    let mut indexed = 0;
    for (key, value) in dump(kv) {
        assert_ne!(key[0], KeyKind::Purging as u8, "the purge is over");
        if key[0] == KeyKind::Segment as u8 {
            assert!(u64::from_be_bytes(key[1..].try_into().unwrap()) >= oldest);
        }
        if (KeyKind::GtidIndex as u8..=KeyKind::TimeIndex as u8).contains(&key[0]) {
            let seq = u64::from_le_bytes(value[1..9].try_into().unwrap());
            assert!(
                seq >= oldest,
                "an entry of kind {} leads to file {seq}",
                key[0]
            );
            indexed += 1;
        }
    }
    assert!(indexed >= 3);
}

fn assert_clean(disk: &MemDisk) {
    let report = verify_dir(disk, &VerifyOptions::default());
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
}

#[test]
fn purge_to_makes_a_file_the_oldest() {
    let (disk, kv) = sample(60, MAX);
    let mut opened = open_mem(&disk, &kv, MAX).unwrap();
    let (log, before) = (opened.log.clone(), numbers(&opened.log));
    assert!(before.len() > 6);
    assert_eq!(opened.writer.purge_to("binlog.000004").unwrap(), 3);
    assert_eq!(numbers(&log), before[3..]);
    assert_eq!(on_disk(&disk), before[3..]);
    assert!(matches!(
        log.open(&log.durable().file.next()),
        Err(ReadError::NoSuchFile { .. })
    ));
    assert_clean(&disk);

    // What was there before is known as purged, and clients that miss it are refused.
    let purged = log.gtid_purged();
    let first = log.files()[0].clone();
    assert!(!purged.is_empty() && purged == *first.previous_gtids);
    assert_eq!(log.gtid_executed().to_string(), format!("{UUID}:1-60"));
    let refused = log
        .start_file(&tributary_binlog::GtidSet::new())
        .unwrap_err();
    assert_eq!(
        refused,
        StartError::Purged {
            missing: purged.clone()
        }
    );
    assert_eq!(log.start_file(&purged).unwrap().file, first.file);
    // No index entry leads to a file that is gone, and those of the others still work.
    assert_forgotten(&kv, 4);
    assert!(log.locate_gno(1).unwrap().is_none());
    assert!(log.locate_gno(60).unwrap().is_some());

    let opened_files = (files(&disk), numbers(&log));
    drop(opened);
    let mut opened = open_mem(&disk, &kv, MAX).unwrap();
    assert!(opened.truncated.is_none());
    assert!((files(&disk), numbers(&opened.log)) == opened_files);
    commit(&mut opened.writer, 61, 80);
    assert_clean(&disk);
    let (whole, _) = sample(80, MAX);
    for info in opened.log.files() {
        let name = info.file.as_str();
        assert!(disk.bytes(name) == whole.bytes(name), "{name}");
    }
}

#[test]
fn the_active_file_stays() {
    let (disk, kv) = sample(60, MAX);
    let mut opened = open_mem(&disk, &kv, MAX).unwrap();
    let end = opened.log.durable();
    let count = opened.log.files().len() as u64;
    assert_eq!(
        opened.writer.purge_to(end.file.as_str()).unwrap(),
        count - 1
    );
    assert_eq!(numbers(&opened.log), [end.file.seq()]);
    assert_eq!(opened.writer.purge_to(end.file.as_str()).unwrap(), 0);
    assert_eq!(opened.writer.purge_before(u64::MAX).unwrap(), 0);
    let refused = opened.writer.purge_to("binlog.000001").unwrap_err();
    assert!(matches!(refused, PurgeError::NotFound(_)));
    // A refusal is no failure.
    commit(&mut opened.writer, 61, 62);
    assert_clean(&disk);
}

#[test]
fn purge_before_goes_by_the_last_transaction() {
    let (disk, kv) = sample(60, MAX);
    let mut opened = open_mem(&disk, &kv, MAX).unwrap();
    let before = opened.log.files();
    let last_of_second = before[2].previous_gtids.count();
    let seconds = u64::from(CREATED) + 10 + last_of_second;
    assert_eq!(
        opened.writer.purge_before(seconds).unwrap(),
        1,
        "not older than that moment"
    );
    assert_eq!(opened.writer.purge_before(seconds + 1).unwrap(), 1);
    assert_eq!(opened.log.files()[0].file, before[2].file);
    assert_clean(&disk);
}

#[test]
fn a_file_that_is_read_stays_with_all_behind_it() {
    let (disk, kv) = sample(60, MAX);
    let mut opened = open_mem(&disk, &kv, MAX).unwrap();
    let all = opened.log.files();
    let reader = opened.log.open(&all[2].file).unwrap();
    assert_eq!(opened.writer.purge_to(all[5].file.as_str()).unwrap(), 2);
    assert_eq!(numbers(&opened.log)[0], all[2].file.seq());
    assert_eq!(
        opened.log.next_file(reader.file()).unwrap().file,
        all[3].file
    );
    drop(reader);
    assert_eq!(opened.writer.purge_to(all[5].file.as_str()).unwrap(), 3);
}

#[test]
fn purging_between_append_and_commit_keeps_what_is_appended() {
    let (disk, kv) = sample(60, MAX);
    let mut opened = open_mem(&disk, &kv, MAX).unwrap();
    opened.writer.append(&batch(61, 90)).unwrap();
    assert_eq!(opened.writer.purge_to("binlog.000003").unwrap(), 2);
    assert_eq!(opened.log.durable().last_gno, 60);
    opened.writer.commit().unwrap();
    assert_clean(&disk);
    drop(opened);
    let opened = open_mem(&disk, &kv, MAX).unwrap();
    assert_eq!(opened.log.durable().last_gno, 90);
}

#[test]
fn flush_starts_a_new_file() {
    let (disk, kv) = sample(3, 1 << 20);
    let mut opened = open_mem(&disk, &kv, 1 << 20).unwrap();
    opened.writer.append(&batch(4, 5)).unwrap();
    let end = opened.writer.flush().unwrap();
    assert_eq!((end.file.as_str(), end.last_gno), ("binlog.000002", 5));
    assert_eq!(opened.log.durable(), end);
    let first = disk.bytes("binlog.000001").unwrap();
    assert_eq!(
        events(&first).last().unwrap().header.event_type,
        EventType::ROTATE
    );
    // Also when nothing was appended, as mysqld does.
    assert_eq!(opened.writer.flush().unwrap().file.seq(), 3);
    commit(&mut opened.writer, 6, 7);
    assert_clean(&disk);
    drop(opened);
    let opened = open_mem(&disk, &kv, 1 << 20).unwrap();
    assert_eq!(opened.log.durable().last_gno, 7);
    assert_eq!(numbers(&opened.log), [1, 2, 3]);
}

/// A crash at every change of a purge: it has happened or it has not, and nothing is left lying about.
#[test]
fn a_crash_at_every_change_of_a_purge() {
    let mut crashes = 0;
    for works in 0.. {
        let fuse = Fuse::new();
        let (disk, kv) = sample(60, MAX);
        let all = on_disk(&disk);
        let (disk, kv) = (disk.fused(&fuse), kv.fused(&fuse));
        let mut opened = open_mem(&disk, &kv, MAX).unwrap();
        fuse.set(works);
        let purged = opened.writer.purge_to("binlog.000004");
        if !fuse.blown() {
            assert_eq!(purged.unwrap(), 3);
            break;
        }
        crashes += 1;
        for (keep, batches) in [
            (Keep::Nothing, 0),
            (Keep::Nothing, usize::MAX),
            (Keep::All, usize::MAX),
        ] {
            let disk = disk.crash_keep(|_| keep);
            let kv: MemKv = kv.crash_keep(batches);
            let mut opened = open_mem(&disk, &kv, MAX).unwrap();
            let left = numbers(&opened.log);
            assert!(left == all || left == all[3..], "{left:?}");
            assert_eq!(on_disk(&disk), left, "nothing else is there");
            assert_forgotten(&kv, left[0]);
            assert_eq!(
                opened.log.gtid_executed().to_string(),
                format!("{UUID}:1-60")
            );
            assert_clean(&disk);
            drop(opened);
            let once = (files(&disk), dump(&kv));
            opened = open_mem(&disk, &kv, MAX).unwrap();
            assert!(once == (files(&disk), dump(&kv)));
            opened.writer.purge_to("binlog.000005").unwrap();
            assert_eq!(on_disk(&disk), all[4..]);
            commit(&mut opened.writer, 61, 70);
            assert_clean(&disk);
        }
    }
    assert!(crashes > 8, "{crashes}");
}

/// A log of 60 transactions, all of whose files were written at the second 1000.
fn aged() -> (MemDisk, tributary_store::Opened) {
    let (disk, kv) = (MemDisk::new(), MemKv::new());
    disk.set_time(1000);
    let mut opened = open_mem(&disk, &kv, MAX).unwrap();
    for n in 0..20 {
        commit(&mut opened.writer, n * 3 + 1, n * 3 + 3);
    }
    (disk, opened)
}

#[test]
fn files_expire_by_when_they_were_written() {
    let (disk, mut opened) = aged();
    let all = numbers(&opened.log);
    let keep = Retention {
        expire_after: Some(500),
        max_total_size: None,
    };
    assert_eq!(opened.writer.retain(keep, 1499).unwrap().purged, 0);
    disk.set_time(1400);
    commit(&mut opened.writer, 61, 90);
    let newer = opened.log.durable().file.seq() - all[all.len() - 1];
    assert!(newer > 2);
    // The one that was being written at 1000 was finished at 1400.
    let retained = opened.writer.retain(keep, 1500).unwrap();
    assert_eq!(retained.purged, all.len() as u64 - 1);
    assert_eq!(numbers(&opened.log)[0], all[all.len() - 1]);
    assert_eq!(on_disk(&disk), numbers(&opened.log));
    let purged = opened.log.gtid_purged();
    assert_eq!(purged, *opened.log.files()[0].previous_gtids);
    assert_clean(&disk);
    assert_eq!(
        opened.writer.retain(keep, 1900).unwrap().purged,
        newer,
        "never the active one"
    );
    assert_eq!(numbers(&opened.log).len(), 1);
    commit(&mut opened.writer, 91, 92);
    assert_clean(&disk);
}

#[test]
fn the_total_size_is_kept() {
    let (disk, mut opened) = aged();
    let total = |log: &GlobalLog| log.files().iter().map(|info| info.size).sum::<u64>();
    let all = total(&opened.log);
    let max = Retention {
        expire_after: None,
        max_total_size: Some(all - 1),
    };
    assert_eq!(opened.writer.retain(max, 0).unwrap().purged, 1);
    let max_total_size = Some(5000);
    let max = Retention {
        max_total_size,
        ..max
    };
    opened.writer.retain(max, 0).unwrap();
    let left = total(&opened.log);
    assert!(left <= 5000 && left > 5000 - 2 * MAX, "{left}");
    assert_eq!(opened.writer.retain(max, 0).unwrap().purged, 0);
    assert_clean(&disk);
}

#[test]
fn retention_waits_for_readers_unless_told_otherwise() {
    let (disk, mut opened) = aged();
    let all = opened.log.files();
    let none = Retention {
        expire_after: Some(0),
        max_total_size: None,
    };
    let reader = opened.log.open(&all[2].file).unwrap();
    let retained = opened.writer.retain(none, 2000).unwrap();
    assert_eq!(retained.purged, 2);
    assert_eq!(retained.held_by_reader.as_ref(), Some(&all[2].file));
    let retained = opened.writer.retain(none, 2000).unwrap();
    assert_eq!(retained.purged, 0);
    assert_eq!(reader.read_at(0, &mut [0; 8]).unwrap(), 8);

    opened.writer.set_purge_in_use(true);
    let retained = opened.writer.retain(none, 2000).unwrap();
    assert_eq!(retained.purged as usize, all.len() - 3);
    assert_eq!(retained.held_by_reader, None);
    let refused = reader.read_at(0, &mut [0; 8]).unwrap_err();
    assert!(matches!(&refused, ReadError::Purged { file } if *file == all[2].file));
    assert!(opened.log.next_file(reader.file()).is_none());
    assert_eq!(numbers(&opened.log).len(), 1);
    assert_clean(&disk);
    // A reader of the active file is not concerned.
    let active = opened.log.durable();
    let reader = opened.log.open(&active.file).unwrap();
    opened.writer.retain(none, 9000).unwrap();
    assert_eq!(reader.read_at(0, &mut [0; 8]).unwrap(), 8);
}
