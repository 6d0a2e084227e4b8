//! Directories as earlier versions wrote them, kept as they were: later versions must open them and go on.
//!
//! `tests/fixtures/format-1`: binlog files, index, format file, and `database.txt`, the index database as one line of
//! hexadecimal key and value per record. `format-1-kept` has, besides, a branch as it is kept since branches are kept with
//! their rows in pieces. `cargo test -p tributary-store write_the_fixture -- --ignored` wrote them; what is there is never
//! written again.

use std::{fmt::Write as _, fs, path::PathBuf};

use tributary_binlog::XaXid;
use tributary_flow::KeptRows;
use tributary_store::{
    Disk, Kv, KvBatch, MemDisk, MemKv,
    verify::{VerifyOptions, verify_dir},
};

use crate::support::{UUID, branches, commit, dump, files, keep, open_mem};

const MAX: u64 = 1500;
const DATABASE: &str = "database.txt";

fn dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

/// 24 transactions, the first file purged, a saved branch.
fn write() -> (MemDisk, MemKv) {
    let (disk, kv) = (MemDisk::new(), MemKv::new());
    let mut opened = open_mem(&disk, &kv, MAX).unwrap();
    for n in 0..8 {
        commit(&mut opened.writer, n * 3 + 1, n * 3 + 3);
    }
    let xid = XaXid::new(1, b"gtrid", b"bqual").unwrap();
    let kept = branches(24, keep(5, &xid, b"prepared", b"rows of the branch"));
    opened.writer.append(&kept).unwrap();
    opened.writer.commit().unwrap();
    opened.writer.purge_to("binlog.000002").unwrap();
    (disk, kv)
}

#[test]
#[ignore = "writes the fixture"]
fn write_the_fixture() {
    let (disk, kv) = write();
    let dir = dir("format-1-kept");
    assert!(!dir.exists(), "it is never written again");
    fs::create_dir_all(&dir).unwrap();
    for name in disk.list().unwrap() {
        fs::write(dir.join(&name), disk.bytes(&name).unwrap()).unwrap();
    }
    let lines = dump(&kv).into_iter();
    let text: String = lines
        .map(|(key, value)| format!("{} {}\n", hex(&key), hex(&value)))
        .collect();
    fs::write(dir.join(DATABASE), text).unwrap();
}

fn fixture(name: &str) -> (MemDisk, MemKv) {
    let (disk, kv) = (MemDisk::new(), MemKv::new());
    for entry in fs::read_dir(dir(name)).unwrap() {
        let (name, path) = entry.map(|e| (e.file_name(), e.path())).unwrap();
        disk.put(name.to_str().unwrap(), &fs::read(path).unwrap());
    }
    let database = String::from_utf8(disk.bytes(DATABASE).unwrap()).unwrap();
    disk.remove(DATABASE).unwrap();
    let mut batch = KvBatch::new();
    for line in database.lines() {
        let (key, value) = line.split_once(' ').unwrap();
        batch.put((unhex(key), unhex(value)));
    }
    kv.write(&batch, true).unwrap();
    (disk, kv)
}

#[test]
fn a_directory_of_format_1_is_opened_and_goes_on() {
    goes_on("format-1", b"");
}

#[test]
fn a_directory_with_a_kept_branch_is_opened_and_goes_on() {
    goes_on("format-1-kept", b"rows of the branch");
}

fn goes_on(name: &str, rows: &[u8]) {
    let (disk, kv) = fixture(name);
    let before = files(&disk);

    let mut opened = open_mem(&disk, &kv, MAX).unwrap();
    assert!(opened.truncated.is_none() && files(&disk) == before);
    assert_eq!(opened.log.server_uuid().to_string(), UUID);
    let end = opened.log.durable();
    assert_eq!((end.last_gno, end.timestamp), (24, 1_700_000_034));
    assert_eq!(opened.log.files()[0].file.seq(), 2);
    assert_eq!(opened.log.gtid_purged().count(), 5);
    let checkpoint = opened.checkpoint.as_ref().unwrap();
    assert_eq!(checkpoint.last_tso.micros(), 24);
    let branch = &opened.log.kept_branches().unwrap()[0];
    assert_eq!(branch.node, "dn1");
    assert_eq!(branch.xid.gtrid(), b"gtrid");
    assert_eq!(branch.head, b"prepared");
    let KeptRows::Memory(found) = &branch.rows else {
        panic!("few rows: {branch:?}");
    };
    assert_eq!(found, rows);
    assert!(opened.log.locate_gno(20).unwrap().is_some());
    commit(&mut opened.writer, 25, 40);
    let report = verify_dir(&disk, &VerifyOptions::default());
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
    assert_eq!(report.gtid_executed, format!("{UUID}:1-40"));
}
