//! The real thing: files of the operating system and RocksDB.

use std::{fs, path::Path, sync::Arc};

use tributary_store::{
    OpenError, Opened, RealDisk, RocksKv, open,
    verify::{VerifyOptions, committed_end, verify_dir},
};

use crate::support::{commit, dump, options, sample};

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

/// Single bits of an index database.
const FLIPS: u64 = 60;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// What the database has, if all of it can be read.
fn contents(dir: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
    use tributary_store::Kv;
    let kv = RocksKv::open(dir).map_err(|e| e.to_string())?;
    kv.scan(&[0], &[255], usize::MAX).map_err(|e| e.to_string())
}

#[test]
fn a_flipped_bit_of_the_database_is_refused_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (sound, tables) = (dir.path().join("log"), dir.path().join("tables"));
    let kv = RocksKv::open(&sound).unwrap();
    let (_, memory) = sample(60, 900);
    for pair in dump(&memory) {
        let mut batch = tributary_store::KvBatch::new();
        batch.put(pair);
        tributary_store::Kv::write(&kv, &batch, true).unwrap();
    }
    drop(kv);
    // Once all records are in its log, and once in its tables.
    copy(&sound, &tables);
    let kv = RocksKv::open(&tables).unwrap();
    let good = dump(&kv);
    drop(kv);
    drop(RocksKv::open(&tables).unwrap());
    let (mut refused, mut same, mut tail) = (0, 0, 0);
    for n in 0..FLIPS {
        let from = if n % 2 == 0 { &sound } else { &tables };
        let mut files: Vec<_> = fs::read_dir(from).unwrap().map(|e| e.unwrap()).collect();
        files.retain(|f| f.metadata().unwrap().len() > 0);
        files.sort_by_key(|f| f.file_name());
        // Those that hold records, not its own log and its options.
        files.retain(|f| {
            let name = f.file_name().to_string_lossy().into_owned();
            name.ends_with(".log") || name.ends_with(".sst") || name.starts_with("MANIFEST")
        });
        let file = &files[(n / 2) as usize % files.len()];
        let mut bytes = fs::read(file.path()).unwrap();
        let at = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16) as usize % bytes.len();
        bytes[at] ^= 1 << (n % 8);
        let copied = dir.path().join(format!("flip{n}"));
        copy(from, &copied);
        fs::write(copied.join(file.file_name()), &bytes).unwrap();
        match contents(&copied) {
            Err(_) => refused += 1,
            Ok(found) if found == good => same += 1,
            // The last write of its log made longer than the file looks like one that a crash has cut off.
            Ok(found) if found.len() + 1 == good.len() => tail += 1,
            Ok(found) => panic!(
                "{:?}:{at}: {} of {} records, and nobody is told",
                file.file_name(),
                found.len(),
                good.len()
            ),
        }
        fs::remove_dir_all(&copied).unwrap();
    }
    println!(
        "{FLIPS} bits: {refused} refused, {same} without effect, {tail} cut the last write off"
    );
    assert!(refused > FLIPS / 3, "{refused}");
}
