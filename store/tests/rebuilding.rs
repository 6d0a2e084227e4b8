//! The index database made anew from the files.

use std::sync::Arc;

use tributary_binlog::XaXid;
use tributary_flow::KeptRows;
use tributary_store::{
    Disk, FORMAT_FILE, Kv, KvBatch, MemDisk, MemKv, OpenError, Rebuilt,
    kv::{KeyKind, KvOp},
    rebuild,
    verify::{VerifyOptions, verify_dir},
};

use crate::support::{CREATED, branches, commit, dump, files, keep, open_mem, sample};

const MAX: u64 = 2000;

fn run(disk: &MemDisk, kv: &MemKv) -> Result<Rebuilt, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    rebuild(&disk, kv)
}

fn of_kinds(kv: &MemKv, kinds: &[KeyKind]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let wanted = |key: &[u8]| kinds.iter().any(|kind| key[0] == *kind as u8);
    dump(kv).into_iter().filter(|(k, _)| wanted(k)).collect()
}

#[test]
fn from_the_files_alone() {
    let (disk, old) = sample(60, MAX);
    let before = files(&disk);
    let kv = MemKv::new();
    let rebuilt = run(&disk, &kv).unwrap();
    assert_eq!((rebuilt.transactions, rebuilt.last_gno), (60, 60));
    assert!(!rebuilt.progress_is_known);
    assert!(
        files(&disk) == before,
        "nothing but the database is written"
    );
    // Every file has its first entries at the same place, and that is all in files this small.
    let same = [
        KeyKind::Meta,
        KeyKind::Segment,
        KeyKind::GtidIndex,
        KeyKind::TsoIndex,
        KeyKind::TimeIndex,
    ];
    let times = |kv: &MemKv| {
        of_kinds(kv, &[KeyKind::TimeIndex])
            .iter()
            .map(|(k, v)| (k[5..].to_vec(), v.clone()))
            .collect::<Vec<_>>()
    };
    for kind in same {
        match kind {
            // `nth` says another TSO than its original commit time.
            KeyKind::TsoIndex => {
                let count = of_kinds(&old, &[kind]).len();
                assert_eq!(of_kinds(&kv, &[kind]).len(), count);
            }
            KeyKind::TimeIndex => assert_eq!(times(&kv), times(&old)),
            _ => assert_eq!(of_kinds(&kv, &[kind]), of_kinds(&old, &[kind]), "{kind:?}"),
        }
    }
    let mut opened = open_mem(&disk, &kv, MAX).unwrap();
    assert!(opened.truncated.is_none() && opened.checkpoint.is_none());
    let end = opened.log.durable();
    assert_eq!((end.last_gno, end.timestamp), (60, CREATED + 70));
    assert!(opened.log.locate_gno(60).unwrap().unwrap().file <= end.file);
    commit(&mut opened.writer, 61, 80);
    let (whole, _) = sample(80, MAX);
    assert!(
        files(&disk) == files(&whole),
        "it goes on as if nothing had been"
    );
}

#[test]
fn a_checkpoint_that_is_left_is_kept_with_all_that_belongs_to_it() {
    let (disk, kv) = sample(60, MAX);
    let mut opened = open_mem(&disk, &kv, MAX).unwrap();
    let xid = XaXid::new(1, b"g", b"b").unwrap();
    let kept = branches(60, keep(7, &xid, b"head", &[3; 900]));
    opened.writer.append(&kept).unwrap();
    opened.writer.commit().unwrap();
    opened.writer.purge_to("binlog.000003").unwrap();
    drop(opened);
    let good = dump(&kv);
    // Bytes behind the checkpoint are not part of the log, even if they look well.
    let active = format!("binlog.{:06}", files(&disk).len() + 1);
    let bytes = disk.bytes(&active).unwrap();
    disk.put(&active, &[&bytes[..], b"never committed"].concat());
    let mut batch = KvBatch::new();
    let kinds = [KeyKind::Segment, KeyKind::GtidIndex, KeyKind::TimeIndex];
    for kind in kinds {
        batch.delete_range(vec![kind as u8], vec![kind as u8 + 1]);
    }
    // An entry that leads nowhere.
    let mut key = vec![KeyKind::TsoIndex as u8];
    key.extend_from_slice(&[7; 16]);
    batch.ops.push(KvOp::Put(key, vec![1; 17]));
    kv.write(&batch, true).unwrap();
    assert!(open_mem(&disk, &kv, MAX).is_err());
    let rebuilt = run(&disk, &kv).unwrap();
    assert!(rebuilt.progress_is_known);
    let kept = [
        KeyKind::Meta,
        KeyKind::Checkpoint,
        KeyKind::Branch,
        KeyKind::Segment,
    ];
    let filter = |(k, _): &&(Vec<u8>, Vec<u8>)| kept.iter().any(|kind| k[0] == *kind as u8);
    assert!(of_kinds(&kv, &kept).iter().eq(good.iter().filter(filter)));
    let again = dump(&kv);
    run(&disk, &kv).unwrap();
    assert!(dump(&kv) == again, "twice is once");
    let opened = open_mem(&disk, &kv, MAX).unwrap();
    assert!(opened.truncated.is_some() && opened.checkpoint.is_some());
    let kept = opened.log.kept_branches().unwrap();
    assert!(matches!(&kept[0].rows, KeptRows::Memory(rows) if rows.len() == 900));
    assert_eq!(kept.len(), 1);
    assert_eq!(opened.log.files()[0].file.seq(), 3);
}

#[test]
fn the_log_ends_behind_the_last_whole_transaction() {
    let (disk, _) = sample(60, MAX);
    let all = files(&disk);
    let (name, good) = all[all.len() - 2].clone();
    for cut in (0..good.len()).rev().step_by(11) {
        disk.put(&name, &good[..cut]);
        let kv = MemKv::new();
        let rebuilt = run(&disk, &kv).unwrap_or_else(|e| panic!("{cut}: {e}"));
        assert!(rebuilt.end.1 <= cut as u64 || rebuilt.end.0.as_str() < name.as_str());
        let mut opened = open_mem(&disk, &kv, MAX).unwrap_or_else(|e| panic!("{cut}: {e}"));
        let last = opened.log.durable().last_gno;
        assert_eq!(last, rebuilt.last_gno);
        commit(&mut opened.writer, last + 1, 60);
        drop(opened);
        let report = verify_dir(&disk, &VerifyOptions::default());
        assert!(report.is_clean() && report.transactions == 60, "{report:?}");
        for (name, bytes) in &all {
            disk.put(name, bytes);
        }
    }
}

#[test]
fn damage_stops_it() {
    let (disk, _) = sample(60, MAX);
    let good = disk.bytes("binlog.000002").unwrap();
    for at in (0..good.len()).step_by(13) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        disk.put("binlog.000002", &bad);
        let stopped = run(&disk, &MemKv::new()).unwrap_err();
        assert!(
            matches!(&stopped, OpenError::Corrupt { file, .. } if file.seq() == 2),
            "{at}: {stopped}"
        );
    }
    disk.put("binlog.000002", &good[..good.len() - 1]);
    run(&disk, &MemKv::new()).unwrap_err();
    disk.remove("binlog.000002").unwrap();
    let stopped = run(&disk, &MemKv::new()).unwrap_err();
    assert!(matches!(&stopped, OpenError::MissingFile { file } if file.seq() == 2));
}

#[test]
fn without_the_format_file_the_files_say_what_they_are() {
    let (disk, kv) = sample(60, MAX);
    disk.remove(FORMAT_FILE).unwrap();
    let lock = disk.lock("tributary.lock").unwrap();
    assert!(matches!(
        run(&disk, &MemKv::new()),
        Err(OpenError::Locked { .. })
    ));
    drop(lock);
    let rebuilt = MemKv::new();
    run(&disk, &rebuilt).unwrap();
    let uuid = |kv: &MemKv| open_mem(&disk, kv, MAX).unwrap().log.server_uuid();
    assert_eq!(uuid(&rebuilt), crate::support::sid());
    disk.remove(FORMAT_FILE).unwrap();
    assert_eq!(uuid(&kv), crate::support::sid());
    let nothing = run(&MemDisk::new(), &MemKv::new()).unwrap_err();
    assert!(matches!(nothing, OpenError::Index { .. }), "{nothing}");
}
