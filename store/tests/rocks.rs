//! The real thing: files of the operating system and RocksDB.

use std::{path::Path, sync::Arc};

use tributary_store::{
    OpenError, Opened, RealDisk, RocksKv, open,
    verify::{VerifyOptions, committed_end, verify_dir},
};

use crate::support::{commit, options, sample};

fn open_real(dir: &Path) -> Result<Opened, OpenError> {
    let disk = Arc::new(RealDisk::open(&dir.join("binlog")).unwrap());
    let kv = Arc::new(RocksKv::open(&dir.join("index")).unwrap());
    open(disk, kv, options(3000))
}

#[test]
fn files_and_rocksdb_together() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("binlog")).unwrap();
    let mut opened = open_real(dir.path()).unwrap();
    commit(&mut opened.writer, 1, 30);
    commit(&mut opened.writer, 31, 33);
    let end = opened.log.durable();
    // Appended and never committed: must be gone after a restart.
    opened
        .writer
        .append(&crate::support::batch(34, 60))
        .unwrap();
    drop(opened);

    let mut opened = open_real(dir.path()).unwrap();
    assert_eq!(opened.log.durable(), end);
    assert_eq!(opened.checkpoint.as_ref().unwrap().last_tso.micros(), 33);
    assert!(opened.truncated.is_some());
    assert!(opened.log.locate_gno(33).unwrap().is_some());
    commit(&mut opened.writer, 34, 60);
    let disk = RealDisk::open(&dir.path().join("binlog")).unwrap();
    let report = verify_dir(&disk, &VerifyOptions::default());
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
    assert_eq!(report.transactions, 60);

    // The same bytes as in memory.
    let (memory, _) = sample(60, 3000);
    for info in opened.log.files() {
        let bytes = std::fs::read(dir.path().join("binlog").join(info.file.as_str())).unwrap();
        assert!(
            bytes == memory.bytes(info.file.as_str()).unwrap(),
            "{}",
            info.file
        );
    }
    let end = opened.log.durable();
    drop(opened);
    let kv = RocksKv::open_read_only(&dir.path().join("index")).unwrap();
    assert_eq!(committed_end(&kv).unwrap(), Some((end.file, end.offset)));
}

#[test]
fn a_real_directory_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("binlog")).unwrap();
    let opened = open_real(dir.path()).unwrap();
    let disk = Arc::new(RealDisk::open(&dir.path().join("binlog")).unwrap());
    let kv = Arc::new(tributary_store::MemKv::new());
    let refused = open(disk, kv, options(3000)).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }));
    drop(opened);
    open_real(dir.path()).unwrap();
}
