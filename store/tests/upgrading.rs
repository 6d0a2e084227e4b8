//! A directory as format 1 has it, kept as it was written: later versions must open it and go on.
//!
//! `tests/fixtures/format-1`: binlog files, index, format file, and `database.txt`, the index database as one line of
//! hexadecimal key and value per record. `cargo test -p tributary-store write_the_fixture -- --ignored` wrote it; it is never
//! written again.

use std::{fmt::Write as _, fs, path::PathBuf};

use tributary_binlog::XaXid;
use tributary_store::{
    Disk, Kv, KvBatch, MemDisk, MemKv,
    verify::{VerifyOptions, verify_dir},
};

use crate::support::{UUID, commit, dump, files, open_mem};

const MAX: u64 = 1500;
const DATABASE: &str = "database.txt";

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1")
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
    opened.writer.put_branch("dn1", &xid, b"prepared").unwrap();
    opened.writer.commit().unwrap();
    opened.writer.purge_to("binlog.000002").unwrap();
    (disk, kv)
}

#[test]
#[ignore = "writes the fixture"]
fn write_the_fixture() {
    let (disk, kv) = write();
    fs::create_dir_all(dir()).unwrap();
    for name in disk.list().unwrap() {
        fs::write(dir().join(&name), disk.bytes(&name).unwrap()).unwrap();
    }
    let lines = dump(&kv).into_iter();
    let text: String = lines
        .map(|(key, value)| format!("{} {}\n", hex(&key), hex(&value)))
        .collect();
    fs::write(dir().join(DATABASE), text).unwrap();
}

#[test]
fn a_directory_of_format_1_is_opened_and_goes_on() {
    let (disk, kv) = (MemDisk::new(), MemKv::new());
    for entry in fs::read_dir(dir()).unwrap() {
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
    let branches = opened.writer.list_branches().unwrap();
    assert_eq!(branches[0].node, "dn1");
    assert_eq!(branches[0].xid.gtrid(), b"gtrid");
    assert_eq!(branches[0].prepared, b"prepared");
    assert!(opened.log.locate_gno(20).unwrap().is_some());
    commit(&mut opened.writer, 25, 40);
    let report = verify_dir(&disk, &VerifyOptions::default());
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
    assert_eq!(report.gtid_executed, format!("{UUID}:1-40"));
}
