//! How long it takes to open a directory, and to find where a client starts, with ten thousand files retained.
//!
//! `TRIBUTARY_RETAINED_DIR=DIR cargo test -p tributary-store --release ten_thousand -- --nocapture` leaves the directory at
//! DIR, for measuring the whole service on it.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tributary_binlog::GtidSet;
use tributary_store::{Disk, Kv, MemDisk, MemKv, Opened, RealDisk, open};

use crate::support::{UUID, batch, open_mem, options};

/// Every transaction fills a file.
const MAX: u64 = 300;

#[cfg(feature = "rocksdb")]
fn database(dir: &Path) -> Arc<dyn Kv> {
    Arc::new(tributary_store::RocksKv::open(&dir.join("rocksdb")).unwrap())
}

#[cfg(not(feature = "rocksdb"))]
fn database(_: &Path) -> Arc<dyn Kv> {
    Arc::new(MemKv::new())
}

/// Fills `dir` with a log of `files` finished files. Answers its database, open.
fn generate(dir: &Path, files: u64) -> Arc<dyn Kv> {
    let (disk, kv) = (MemDisk::new(), MemKv::new());
    let mut opened = open_mem(&disk, &kv, MAX).unwrap();
    for from in (1..files).step_by(1000) {
        let to = (from + 999).min(files);
        opened.writer.append(&batch(from, to)).unwrap();
        opened.writer.commit().unwrap();
    }
    for name in disk.list().unwrap() {
        fs::write(dir.join(&name), disk.bytes(&name).unwrap()).unwrap();
    }
    let real = database(dir);
    let mut all = tributary_store::KvBatch::new();
    for pair in kv.scan(&[0], &[255], usize::MAX).unwrap() {
        all.put(pair);
    }
    real.write(&all, true).unwrap();
    real
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed(), done)
}

/// The time to the first bytes of a client that has the first `n` transactions.
fn start(opened: &Opened, n: u64) -> Duration {
    let client: GtidSet = match n {
        0 => GtidSet::new(),
        n => format!("{UUID}:1-{n}").parse().unwrap(),
    };
    let (took, read) = timed(|| {
        let info = opened.log.start_file(&client).unwrap();
        let reader = opened.log.open(&info.file).unwrap();
        reader.read_at(0, &mut [0; 4096]).unwrap()
    });
    assert!(read > 100);
    took
}

fn measure(dir: &Path, files: u64) -> (Duration, Duration) {
    let (generating, kv) = timed(|| generate(dir, files));
    // Opened anew; without RocksDB the database lives in memory.
    let kv = if cfg!(feature = "rocksdb") {
        drop(kv);
        database(dir)
    } else {
        kv
    };
    let disk = Arc::new(RealDisk::open(dir).unwrap());
    let (opening, opened) = timed(|| open(disk, kv, options(MAX)).unwrap());
    assert_eq!(opened.log.durable().last_gno, files);
    assert_eq!(opened.log.files().len() as u64, files + 1);
    let slowest = [0, 1, files / 2, files - 1, files]
        .map(|n| start(&opened, n))
        .into_iter()
        .max()
        .unwrap();
    println!(
        "{files} files (made in {generating:?}): open {opening:?}, slowest of 5 GTID starts {slowest:?}"
    );
    (opening, slowest)
}

#[test]
fn ten_thousand_files_are_opened_as_fast_as_a_few() {
    let temporary = tempfile::tempdir().unwrap();
    measure(temporary.path(), 100);
    let kept = std::env::var("TRIBUTARY_RETAINED_DIR").ok();
    let many = tempfile::tempdir().unwrap();
    let dir = kept.as_ref().map_or(many.path(), Path::new);
    fs::create_dir_all(dir).unwrap();
    let (opening, slowest) = measure(dir, 10_000);
    // Measured: a tenth of this; the bounds are for a busy machine.
    assert!(opening < Duration::from_millis(500), "{opening:?}");
    assert!(slowest < Duration::from_millis(20), "{slowest:?}");
}
