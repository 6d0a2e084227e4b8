//! Directories written by a real MySQL server.

use std::{path::Path, sync::Arc};

use tributary_store::{
    GlobalLog, MemDisk, OpenError, RealDisk, StartError,
    verify::{VerifyOptions, verify_dir},
};

const UUID: &str = "fa64c513-e5ef-11f1-a6de-02fc00000001";

fn fixture() -> RealDisk {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mysql-9.7.4");
    RealDisk::open(&dir).unwrap()
}

fn in_memory() -> MemDisk {
    use tributary_store::Disk;
    let (disk, memory) = (fixture(), MemDisk::new());
    for name in disk.list().unwrap() {
        memory.put(&name, &std::fs::read(disk.path().join(&name)).unwrap());
    }
    memory
}

#[test]
fn a_mysqld_directory_can_be_read() {
    let log = GlobalLog::from_dir(Arc::new(fixture()), "binlog.index").unwrap();
    assert_eq!(log.server_uuid().to_string(), UUID);
    assert_eq!(log.gtid_executed().to_string(), format!("{UUID}:1-9"));
    let end = log.durable();
    assert_eq!((end.file.as_str(), end.last_gno), ("binlog.000003", 9));
    let files = log.files();
    assert_eq!(files.len(), 3);
    assert_eq!(files[2].previous_gtids.to_string(), format!("{UUID}:1-6"));
    assert_eq!(end.offset, files[2].size);
    let client = format!("{UUID}:1-5").parse().unwrap();
    assert_eq!(log.start_file(&client).unwrap().file.seq(), 2);
    let reader = log.open(&files[0].file).unwrap();
    let mut magic = [0; 4];
    assert_eq!(reader.read_at(0, &mut magic).unwrap(), 4);
    assert_eq!(magic, tributary_binlog::MAGIC);
}

#[test]
fn purged_files_are_told() {
    let disk = in_memory();
    disk.put("binlog.index", b"./binlog.000003\n");
    let log = GlobalLog::from_dir(Arc::new(disk), "binlog.index").unwrap();
    assert_eq!(log.gtid_purged().to_string(), format!("{UUID}:1-6"));
    let refused = log
        .start_file(&format!("{UUID}:1-4").parse().unwrap())
        .unwrap_err();
    let missing = format!("{UUID}:5-6").parse().unwrap();
    assert_eq!(refused, StartError::Purged { missing });
}

#[test]
fn a_cut_off_last_event_is_not_shown() {
    let disk = in_memory();
    let whole = disk.bytes("binlog.000003").unwrap();
    let end = GlobalLog::from_dir(Arc::new(disk.clone()), "binlog.index")
        .unwrap()
        .durable();
    let before_stop = end.offset - 23;
    disk.put("binlog.000003", &whole[..whole.len() - 1]);
    let log = GlobalLog::from_dir(Arc::new(disk), "binlog.index").unwrap();
    assert_eq!(log.durable().offset, before_stop);
}

#[test]
fn what_cannot_be_read_is_named() {
    let disk = in_memory();
    let open = || GlobalLog::from_dir(Arc::new(disk.clone()), "binlog.index").unwrap_err();
    let good = disk.bytes("binlog.000002").unwrap();

    disk.put(
        "binlog.000002",
        &[&[0xfd, b'b', b'i', b'n'], &good[4..]].concat(),
    );
    assert!(open().to_string().contains("encrypted"));
    disk.put("binlog.000002", b"hello");
    assert!(open().to_string().contains("binlog.000002:0"));
    disk.put("binlog.000002", &good[..50]);
    assert!(matches!(open(), OpenError::Corrupt { pos: 4, .. }));
    disk.put("binlog.000002", &good);
    let mut bad = disk.bytes("binlog.000003").unwrap();
    let middle = bad.len() / 2;
    bad[middle] ^= 0x10;
    disk.put("binlog.000003", &bad);
    assert!(matches!(open(), OpenError::Corrupt { .. }));
    disk.put("binlog.index", b"./binlog.000009\n");
    assert!(matches!(open(), OpenError::MissingFile { .. }));
    disk.put("binlog.index", b"\n");
    assert!(matches!(open(), OpenError::Index { .. }));
    let empty = GlobalLog::from_dir(Arc::new(MemDisk::new()), "binlog.index").unwrap_err();
    assert!(matches!(empty, OpenError::Index { .. }));
}

#[test]
fn a_mysqld_directory_verifies() {
    let report = verify_dir(&fixture(), &VerifyOptions::default());
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
    assert_eq!((report.files, report.transactions), (3, 9));
    assert_eq!(report.gtid_executed, format!("{UUID}:1-9"));
}
