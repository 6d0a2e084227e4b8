//! Which directories are opened, which are refused, and with which words.

use std::sync::Arc;

use tributary_binlog::BinlogFile;
use tributary_store::{
    Disk, FORMAT_FILE, Kv, KvBatch, MemDisk, MemKv, OpenError, StoreOptions,
    kv::{KeyKind, KvOp},
    open,
};

use crate::support::{UUID, commit, files, open_mem, options, sample};

#[test]
fn two_processes_cannot_have_one_directory() {
    let (disk, kv) = sample(3, 1 << 20);
    let first = open_mem(&disk, &kv, 1 << 20).unwrap();
    let second = open_mem(&disk, &kv, 1 << 20).unwrap_err();
    assert!(matches!(second, OpenError::Locked { .. }));
    // The readers of a closed store do not hold the lock.
    let log = first.log.clone();
    drop(first);
    open_mem(&disk, &kv, 1 << 20).unwrap();
    assert_eq!(log.durable().last_gno, 3);
}

#[test]
fn the_stored_uuid_and_creation_time_are_kept() {
    let (disk, kv) = sample(3, 1 << 20);
    let before = files(&disk);
    let other = StoreOptions {
        new_uuid: "99999999-9999-9999-9999-999999999999".parse().unwrap(),
        now_seconds: 5,
        ..options(1 << 20)
    };
    let opened = open(Arc::new(disk.clone()), Arc::new(kv), other).unwrap();
    assert_eq!(opened.log.server_uuid().to_string(), UUID);
    assert!(files(&disk) == before);
}

#[test]
fn a_directory_without_its_database_is_refused() {
    let (disk, _) = sample(3, 1 << 20);
    let before = files(&disk);
    let refused = open_mem(&disk, &MemKv::new(), 1 << 20).unwrap_err();
    assert!(matches!(refused, OpenError::NoDatabase { .. }), "{refused}");
    disk.remove(FORMAT_FILE).unwrap();
    let refused = open_mem(&disk, &MemKv::new(), 1 << 20).unwrap_err();
    assert!(matches!(&refused, OpenError::Foreign { file, .. } if file == "binlog.000001"));
    assert!(files(&disk) == before, "and left alone");
}

#[test]
fn a_database_without_its_directory_is_refused() {
    let (_, kv) = sample(3, 1 << 20);
    let refused = open_mem(&MemDisk::new(), &kv, 1 << 20).unwrap_err();
    assert!(matches!(refused, OpenError::MissingFile { .. }));
}

#[test]
fn a_database_of_another_directory_is_refused() {
    // Same length, other UUID.
    let (disk, _) = sample(30, 2000);
    let (other_disk, other_kv) = (MemDisk::new(), MemKv::new());
    let new_uuid = "99999999-9999-9999-9999-999999999999".parse().unwrap();
    let options = StoreOptions {
        new_uuid,
        ..options(2000)
    };
    let mut other = open(Arc::new(other_disk), Arc::new(other_kv.clone()), options).unwrap();
    for n in 1..=30 {
        commit(&mut other.writer, n, n);
    }
    let before = files(&disk);
    let refused = open_mem(&disk, &other_kv, 2000).unwrap_err();
    assert!(
        matches!(refused, OpenError::Inconsistent { .. }),
        "{refused}"
    );
    disk.remove(FORMAT_FILE).unwrap();
    let refused = open_mem(&disk, &other_kv, 2000).unwrap_err();
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
    assert!(files(&disk) == before);
}

#[test]
fn a_directory_is_judged_before_its_database_is_opened() {
    let claim = |disk: &MemDisk, has_database| {
        let disk = Arc::new(disk.clone());
        tributary_store::claim(disk, options(2000), has_database)
    };
    // A MySQL server's: not even a lock file appears.
    let mysql = MemDisk::new();
    mysql.put("auto.cnf", b"[auto]\n");
    assert!(matches!(
        claim(&mysql, false),
        Err(OpenError::Foreign { .. })
    ));
    let (disk, kv) = sample(3, 2000);
    let lost = claim(&disk, false).unwrap_err();
    assert!(matches!(lost, OpenError::NoDatabase { .. }), "{lost}");
    let format = disk.bytes(FORMAT_FILE).unwrap();
    disk.put(
        FORMAT_FILE,
        String::from_utf8(format.clone())
            .unwrap()
            .replace(":1,", ":7,")
            .as_bytes(),
    );
    let newer = claim(&disk, true).unwrap_err();
    assert!(
        matches!(newer, OpenError::NewerFormat { found: 7, .. }),
        "{newer}"
    );
    disk.put(FORMAT_FILE, &format);
    let held = claim(&disk, true).unwrap();
    assert!(matches!(claim(&disk, true), Err(OpenError::Locked { .. })));
    let opened = held.open(Arc::new(kv.clone())).unwrap();
    assert_eq!(opened.log.durable().last_gno, 3);
    drop(opened);
    // Directories from before there was a format file get one.
    disk.remove(FORMAT_FILE).unwrap();
    open_mem(&disk, &kv, 2000).unwrap();
    assert_eq!(disk.bytes(FORMAT_FILE).unwrap(), format);
}

#[test]
fn a_newer_format_is_refused() {
    let (disk, kv) = sample(3, 1 << 20);
    let key = vec![KeyKind::Meta as u8];
    let meta = String::from_utf8(kv.get(&key).unwrap().unwrap()).unwrap();
    let newer = meta.replace("\"format\":1", "\"format\":2").into_bytes();
    kv.write(
        &KvBatch {
            ops: vec![KvOp::Put(key.clone(), newer)],
        },
        true,
    )
    .unwrap();
    let refused = open_mem(&disk, &kv, 1 << 20).unwrap_err();
    assert!(matches!(
        refused,
        OpenError::NewerFormat {
            found: 2,
            supported: 1,
            ..
        }
    ));

    let mut newer = meta.into_bytes();
    newer[0] = 2;
    kv.write(
        &KvBatch {
            ops: vec![KvOp::Put(key, newer)],
        },
        true,
    )
    .unwrap();
    let refused = open_mem(&disk, &kv, 1 << 20).unwrap_err();
    assert!(refused.to_string().contains("version 2"), "{refused}");
}

#[test]
fn another_base_name_is_refused() {
    let (disk, kv) = sample(3, 1 << 20);
    let options = |base: &str| StoreOptions {
        base_name: base.to_owned(),
        ..options(1 << 20)
    };
    let refused = open(Arc::new(disk), Arc::new(kv), options("mysql-bin")).unwrap_err();
    assert!(matches!(refused, OpenError::BaseName { .. }));
    for bad in ["", "a/b"] {
        let refused = open(
            Arc::new(MemDisk::new()),
            Arc::new(MemKv::new()),
            options(bad),
        );
        assert!(matches!(refused, Err(OpenError::Options(_))), "{bad}");
    }
}

#[test]
fn the_index_is_repaired() {
    let (disk, kv) = sample(30, 2000);
    let good = disk.bytes("binlog.index").unwrap();
    for bad in [
        &b""[..],
        b"./binlog.000001\n",
        b"\xff\xfe",
        b"./binlog.000099\n",
    ] {
        disk.put("binlog.index", bad);
        drop(open_mem(&disk, &kv, 2000).unwrap());
        assert_eq!(disk.bytes("binlog.index").unwrap(), good);
    }
}

#[test]
fn what_lies_behind_the_checkpoint_is_cut() {
    let (disk, kv) = sample(30, 2000);
    let clean = files(&disk);
    let (active, bytes) = clean
        .iter()
        .rev()
        .find(|(name, _)| !name.ends_with("index"))
        .unwrap();
    let longer = [&bytes[..], b"never committed"].concat();
    disk.put(active, &longer);
    let behind = BinlogFile::parse(active).unwrap().next();
    disk.put(behind.as_str(), b"neither");
    let opened = open_mem(&disk, &kv, 2000).unwrap();
    let (file, cut) = opened.truncated.unwrap();
    assert_eq!((file.as_str(), cut), (active.as_str(), 15 + 7));
    assert!(files(&disk) == clean);
}

#[test]
fn what_is_missing_before_the_checkpoint_is_never_cut() {
    let (disk, kv) = sample(30, 2000);
    let clean = files(&disk);
    let binlogs: Vec<_> = clean
        .iter()
        .filter(|(name, _)| !name.ends_with("index"))
        .collect();
    let ((sealed, sealed_bytes), (active, active_bytes)) = (binlogs[0], binlogs[binlogs.len() - 1]);
    let refused = |what: &str| {
        let before = files(&disk);
        let e = open_mem(&disk, &kv, 2000).unwrap_err();
        assert!(files(&disk) == before, "{what}: nothing is changed");
        e
    };
    disk.put(active, &active_bytes[..active_bytes.len() - 1]);
    assert!(matches!(refused("short"), OpenError::ShortFile { .. }));
    disk.put(active, active_bytes);
    disk.put(sealed, &sealed_bytes[..sealed_bytes.len() - 1]);
    assert!(matches!(
        refused("short sealed"),
        OpenError::SealedSize { .. }
    ));
    disk.put(sealed, sealed_bytes);
    // Any byte of the active file's last group.
    for at in [
        active_bytes.len() - 1,
        active_bytes.len() - 40,
        active_bytes.len() - 100,
        30,
        0,
    ] {
        let mut damaged = active_bytes.clone();
        damaged[at] ^= 1;
        disk.put(active, &damaged);
        let e = refused("flipped");
        assert!(matches!(e, OpenError::Corrupt { .. }), "byte {at}: {e}");
    }
    disk.put(active, active_bytes);
    open_mem(&disk, &kv, 2000).unwrap();
}

#[test]
fn damaged_records_are_refused() {
    let (disk, kv) = sample(30, 2000);
    let checkpoint = vec![KeyKind::Checkpoint as u8];
    let good = kv.get(&checkpoint).unwrap().unwrap();
    let put = |value: &[u8]| {
        let op = KvOp::Put(checkpoint.clone(), value.to_vec());
        kv.write(&KvBatch { ops: vec![op] }, true).unwrap();
    };
    put(&good[..good.len() / 2]);
    assert!(matches!(
        open_mem(&disk, &kv, 2000),
        Err(OpenError::Record(_))
    ));
    put(&good);
    let segment = vec![KeyKind::Segment as u8];
    let range = KvOp::DeleteRange(segment, vec![KeyKind::Segment as u8 + 1]);
    kv.write(&KvBatch { ops: vec![range] }, true).unwrap();
    assert!(matches!(
        open_mem(&disk, &kv, 2000),
        Err(OpenError::Inconsistent { .. })
    ));
}

/// Recovery reads the end of the active file and no more than that: the last group always, old bytes never.
#[test]
fn recovery_checks_the_last_group_whatever_the_file_has_before_it() {
    let (disk, kv) = (MemDisk::new(), MemKv::new());
    let mut opened = open_mem(&disk, &kv, 1 << 30).unwrap();
    let flip = |good: &[u8], at: usize| {
        let mut damaged = good.to_vec();
        damaged[at] ^= 1;
        disk.put("binlog.000001", &damaged);
        let result = open_mem(&disk, &kv, 1 << 30).map(|_| ());
        disk.put("binlog.000001", good);
        result
    };
    let mut next = 1;
    while opened.log.durable().offset < 5 << 19 {
        let start = opened.log.durable().offset as usize;
        commit(&mut opened.writer, next, next + 99);
        next += 100;
        drop(opened);
        let good = disk.bytes("binlog.000001").unwrap();
        for at in [start, start + 500, good.len() - 500, good.len() - 1] {
            let e = flip(&good, at).expect_err("a byte of the last group");
            assert!(matches!(e, OpenError::Corrupt { .. }), "byte {at}: {e}");
        }
        opened = open_mem(&disk, &kv, 1 << 30).unwrap();
    }
    drop(opened);
    let good = disk.bytes("binlog.000001").unwrap();
    for at in [200, 100_000, 1 << 20] {
        flip(&good, at).expect("not looked at: it must not take longer the more there is");
    }
    flip(&good, 100).expect_err("the head is always looked at");
}
