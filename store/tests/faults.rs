//! Disks that fail at any write: no space, input/output errors, short writes, syncs that fail, a file system that turns
//! read-only, and slowness. What was acknowledged stays readable all the while; only a full disk is waited for.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
};

use tributary_flow::ErrorClass;
use tributary_store::{
    Disk, DiskFile, FileStat, GlobalLog, Kv, KvBatch, KvError, MemDisk, MemKv, Opened, PurgeError,
    WriteError,
    disk::DiskLock,
    kv::Pair,
    open,
    verify::{VerifyOptions, verify_dir},
};

use crate::support::{batch, commit, files, open_mem, options, sample};

const MAX: u64 = 1500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No space for data and new names until there is some; the first write that fails leaves a part.
    Full,
    /// One call fails.
    Eio,
    /// Half of the bytes are written, once.
    Short,
    /// Every change fails from then on.
    ReadOnly,
}

/// The plan that a disk and its database follow.
struct Fault {
    kind: Kind,
    /// Changes until it happens.
    countdown: AtomicU64,
    happened: AtomicBool,
    over: AtomicBool,
    /// What failed first: `write`, `sync`, `name` or `kv`.
    what: Mutex<&'static str>,
    /// Changes asked for since.
    since: AtomicU64,
}

impl Fault {
    fn new(kind: Kind, after: u64) -> Arc<Self> {
        Arc::new(Self {
            kind,
            countdown: AtomicU64::new(after),
            happened: AtomicBool::new(false),
            over: AtomicBool::new(false),
            what: Mutex::new(""),
            since: AtomicU64::new(0),
        })
    }

    fn happened(&self) -> bool {
        self.happened.load(Ordering::SeqCst)
    }

    fn error(&self) -> io::Error {
        match self.kind {
            Kind::Full => io::ErrorKind::StorageFull.into(),
            Kind::Eio => io::Error::from_raw_os_error(5),
            Kind::Short => io::ErrorKind::WriteZero.into(),
            Kind::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
        }
    }

    /// Whether a change of this sort works now.
    fn change(&self, what: &'static str) -> io::Result<()> {
        if self.over.load(Ordering::SeqCst) {
            return Ok(());
        }
        // A full disk still syncs, removes and renames; short are only writes.
        let concerned = match self.kind {
            Kind::Full => matches!(what, "write" | "create"),
            Kind::Short => what == "write",
            Kind::Eio | Kind::ReadOnly => true,
        };
        if self.happened() {
            self.since.fetch_add(1, Ordering::SeqCst);
            let lasting = matches!(self.kind, Kind::Full | Kind::ReadOnly);
            return if lasting && concerned {
                Err(self.error())
            } else {
                Ok(())
            };
        }
        if !concerned {
            return Ok(());
        }
        if self.countdown.load(Ordering::SeqCst) > 0 {
            self.countdown.fetch_sub(1, Ordering::SeqCst);
            return Ok(());
        }
        self.happened.store(true, Ordering::SeqCst);
        *self.what.lock().unwrap_or_else(PoisonError::into_inner) = what;
        Err(self.error())
    }
}

#[derive(Clone)]
struct Faulty {
    disk: MemDisk,
    kv: MemKv,
    fault: Arc<Fault>,
}

struct FaultyFile(Arc<dyn DiskFile>, Arc<Fault>);

impl Disk for Faulty {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.fault.change("create")?;
        let file = self.disk.create(name)?;
        Ok(Arc::new(FaultyFile(file, self.fault.clone())))
    }
    fn open(&self, name: &str, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(name, write)?;
        Ok(Arc::new(FaultyFile(file, self.fault.clone())))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.fault.change("rename")?;
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.fault.change("remove")?;
        self.disk.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.fault.change("sync")?;
        self.disk.sync_dir()
    }
    fn stat(&self, name: &str) -> io::Result<FileStat> {
        self.disk.stat(name)
    }
    fn exists(&self, name: &str) -> io::Result<bool> {
        self.disk.exists(name)
    }
    fn lock(&self, name: &str) -> io::Result<DiskLock> {
        self.disk.lock(name)
    }
    fn describe(&self) -> String {
        self.disk.describe()
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, off: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(off, buf)
    }
    fn write_at(&self, off: u64, data: &[u8]) -> io::Result<()> {
        self.1.change("write").inspect_err(|_| {
            if matches!(self.1.kind, Kind::Full | Kind::Short) {
                self.0.write_at(off, &data[..data.len() / 2]).unwrap();
            }
        })?;
        self.0.write_at(off, data)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.change("sync")?;
        self.0.sync_data()
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.1.change("truncate")?;
        self.0.truncate(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

impl Kv for Faulty {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.kv.get(key)
    }
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, KvError> {
        self.kv.scan(from, to, limit)
    }
    fn floor(&self, from: &[u8], at_most: &[u8]) -> Result<Option<Pair>, KvError> {
        self.kv.floor(from, at_most)
    }
    fn write(&self, batch: &KvBatch, synced: bool) -> Result<(), KvError> {
        self.fault
            .change("kv")
            .map_err(|e| KvError(e.to_string()))?;
        self.kv.write(batch, synced)
    }
}

/// A log of nine transactions whose disk then has a fault at its `after`th change.
fn faulty(kind: Kind, after: u64) -> (Faulty, Opened) {
    let (disk, kv) = (MemDisk::new(), MemKv::new());
    commit(&mut open_mem(&disk, &kv, MAX).unwrap().writer, 1, 9);
    let fault = Fault::new(kind, after);
    let faulty = Faulty { disk, kv, fault };
    let opened = open(
        Arc::new(faulty.clone()),
        Arc::new(faulty.clone()),
        options(MAX),
    );
    (faulty, opened.unwrap())
}

/// Everything that is durable can be read and is right.
fn check_readable(log: &GlobalLog, whole: &MemDisk) {
    for info in log.files() {
        let reader = log.open(&info.file).unwrap();
        let mut bytes = vec![0; info.size as usize];
        assert_eq!(reader.read_at(0, &mut bytes).unwrap(), bytes.len());
        assert!(whole.bytes(info.file.as_str()).unwrap().starts_with(&bytes));
    }
}

fn check_clean(disk: &MemDisk) {
    let report = verify_dir(disk, &VerifyOptions::default());
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
}

/// A group with rotations in it, in two appends.
fn group(opened: &mut Opened) -> Result<(), WriteError> {
    let from = opened.writer.last_gno() + 1;
    assert_eq!(from, 10);
    opened.writer.append(&batch(10, 17))?;
    opened.writer.append(&batch(18, 24))?;
    opened.writer.commit().map(|_| ())
}

fn whole() -> MemDisk {
    let (disk, kv) = (MemDisk::new(), MemKv::new());
    let mut opened = open_mem(&disk, &kv, MAX).unwrap();
    commit(&mut opened.writer, 1, 9);
    commit(&mut opened.writer, 10, 24);
    disk
}

#[test]
fn a_full_disk_is_waited_for_at_every_write() {
    let whole = whole();
    let mut faults = 0;
    for after in 0.. {
        let (faulty, mut opened) = faulty(Kind::Full, after);
        let Err(full) = group(&mut opened) else {
            assert!(!faulty.fault.happened());
            break;
        };
        faults += 1;
        assert!(
            full.is_full() && full.class() == ErrorClass::Retry,
            "{full}"
        );
        assert!(full.to_string().starts_with("no space left: "), "{full}");
        let end = opened.log.durable();
        assert_eq!(end.last_gno, 9);
        // As often as it takes; nothing but the commit is left on the disk meanwhile.
        for _ in 0..3 {
            assert_eq!(opened.writer.last_gno(), 9);
            check_readable(&opened.log, &whole);
            let active = faulty.disk.bytes(end.file.as_str()).unwrap();
            assert_eq!(active.len() as u64, end.offset);
            assert!(!faulty.disk.exists(end.file.next().as_str()).unwrap());
            assert!(group(&mut opened).unwrap_err().is_full());
        }
        // A crash now loses nothing either.
        let (disk, kv) = (
            faulty.disk.crash_keep(|_| tributary_store::disk::Keep::All),
            faulty.kv.crash_keep(usize::MAX),
        );
        assert_eq!(open_mem(&disk, &kv, MAX).unwrap().log.durable(), end);
        faulty.fault.over.store(true, Ordering::SeqCst);
        group(&mut opened).unwrap();
        assert!(files(&faulty.disk) == files(&whole), "{after}");
        check_readable(&opened.log, &whole);
        check_clean(&faulty.disk);
        drop(opened);
        open_mem(&faulty.disk, &faulty.kv, MAX).unwrap();
    }
    assert!(faults > 10, "{faults}");
}

/// The first failure is the last thing that happens: no write, no sync, nothing is tried again.
fn final_at_every_change(kind: Kind) -> u64 {
    let whole = whole();
    for after in 0.. {
        let (faulty, mut opened) = faulty(kind, after);
        let Err(failed) = group(&mut opened) else {
            assert!(!faulty.fault.happened());
            return after;
        };
        assert!(
            !failed.is_full() && failed.class() == ErrorClass::Halt,
            "{failed}"
        );
        assert_eq!(faulty.fault.since.load(Ordering::SeqCst), 0, "{failed}");
        for _ in 0..2 {
            let refused = opened.writer.append(&batch(10, 11)).unwrap_err();
            assert!(matches!(refused, WriteError::Poisoned { .. }));
            let refused = opened.writer.commit().unwrap_err();
            assert!(matches!(refused, WriteError::Poisoned { .. }));
            let refused = opened.writer.purge_to("binlog.000002").unwrap_err();
            assert!(matches!(
                refused,
                PurgeError::Write(WriteError::Poisoned { .. })
            ));
            opened.writer.flush().unwrap_err();
        }
        assert_eq!(faulty.fault.since.load(Ordering::SeqCst), 0, "{failed}");
        assert_eq!(opened.log.durable().last_gno, 9, "nothing was published");
        check_readable(&opened.log, &whole);
        drop(opened);
        // Only a batch that the database had, though it said otherwise, may have become true.
        let mut opened = open_mem(&faulty.disk, &faulty.kv, MAX).unwrap();
        assert_eq!(opened.log.durable().last_gno, 9);
        commit(&mut opened.writer, 10, 24);
        assert!(files(&faulty.disk) == files(&whole));
    }
    unreachable!("the loop ends when nothing fails");
}

#[test]
fn input_output_errors_and_failed_syncs_are_final_at_every_change() {
    let faults = final_at_every_change(Kind::Eio);
    assert!(faults > 15, "{faults}");
}

#[test]
fn short_writes_are_final() {
    let faults = final_at_every_change(Kind::Short);
    assert!(faults > 5, "{faults}");
}

#[test]
fn a_disk_that_turns_read_only_is_final() {
    let faults = final_at_every_change(Kind::ReadOnly);
    assert!(faults > 15, "{faults}");
}

/// Purging is what helps against a full disk, so it must work on one.
#[test]
fn a_full_disk_can_be_purged() {
    let (disk, kv) = sample(60, MAX);
    let fault = Fault::new(Kind::Full, 0);
    let faulty = Faulty { disk, kv, fault };
    let (d, k) = (Arc::new(faulty.clone()), Arc::new(faulty.clone()));
    let mut opened = open(d, k, options(MAX)).unwrap();
    // The new index does not fit even now; everything else has happened.
    let full = opened.writer.purge_to("binlog.000004").unwrap_err();
    assert!(
        matches!(&full, PurgeError::Write(e) if e.is_full()),
        "{full}"
    );
    assert!(!faulty.disk.exists("binlog.000003").unwrap());
    assert_eq!(opened.log.files()[0].file.seq(), 4);
    faulty.fault.over.store(true, Ordering::SeqCst);
    commit(&mut opened.writer, 61, 62);
    opened.writer.purge_to("binlog.000004").unwrap();
    check_clean(&faulty.disk);
    let (again, kv) = (faulty.disk.clone(), faulty.kv.clone());
    drop(opened);
    assert!(open_mem(&again, &kv, MAX).unwrap().truncated.is_none());
}

/// A disk whose syncs take as long as they are told.
#[derive(Clone)]
struct Slow {
    disk: MemDisk,
    sync: Arc<Mutex<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

struct SlowFile(Arc<dyn DiskFile>, Slow);

impl DiskFile for SlowFile {
    fn read_at(&self, off: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(off, buf)
    }
    fn write_at(&self, off: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(off, data)
    }
    fn sync_data(&self) -> io::Result<()> {
        let sync = self.1.sync.lock().unwrap();
        sync.0.send(()).unwrap();
        sync.1.recv().unwrap();
        self.0.sync_data()
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

impl Disk for Slow {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(name)
    }
    fn open(&self, name: &str, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SlowFile(
            self.disk.open(name, write)?,
            self.clone(),
        )))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
    fn stat(&self, name: &str) -> io::Result<FileStat> {
        self.disk.stat(name)
    }
    fn exists(&self, name: &str) -> io::Result<bool> {
        self.disk.exists(name)
    }
    fn lock(&self, name: &str) -> io::Result<DiskLock> {
        self.disk.lock(name)
    }
    fn describe(&self) -> String {
        self.disk.describe()
    }
}

#[test]
fn a_slow_disk_delays_commits_and_no_reader() {
    let (disk, kv) = sample(9, 1 << 20);
    let (asked_in, asked) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let slow = Slow {
        disk: disk.clone(),
        sync: Arc::new(Mutex::new((asked_in, wait))),
    };
    let mut opened = open(Arc::new(slow), Arc::new(kv), options(1 << 20)).unwrap();
    let log = opened.log.clone();
    let before = log.durable();
    let writing = std::thread::spawn(move || {
        commit(&mut opened.writer, 10, 20);
        opened
    });
    asked.recv().unwrap();
    // The sync is under way: what was durable can be read, by new readers, too, and nothing else.
    assert_eq!(log.durable(), before);
    check_readable(&log, &disk);
    let reader = log.open(&before.file).unwrap();
    assert_eq!(reader.end(), before.offset);
    assert_eq!(reader.read_at(before.offset, &mut [0; 8]).unwrap(), 0);
    assert!(log.gtid_executed().count() == 9 && !writing.is_finished());
    go.send(()).unwrap();
    let opened = writing.join().unwrap();
    assert_eq!(opened.log.durable().last_gno, 20);
    assert!(reader.end() > before.offset);
}

/// A small file system of memory, gone at the end.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    /// `None` where mounting is not allowed.
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={bytes}");
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .output();
        mount
            .is_ok_and(|output| output.status.success())
            .then_some(Self(dir))
    }

    fn path(&self) -> &std::path::Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.path())
            .status();
    }
}

/// Transactions of about a mebibyte.
fn fat(from: u64, to: u64) -> tributary_flow::MergedBatch {
    use crate::support::{rows, table_map, write_rows};
    let txns = (from..=to).map(|n| rows(&[vec![table_map(1, "t"), write_rows(1, 7, 1 << 20)]], n));
    tributary_flow::MergedBatch {
        txns: txns.collect(),
        ..tributary_flow::MergedBatch::default()
    }
}

#[test]
fn a_real_file_system_fills_up_and_is_freed() {
    let Some(mounted) = Tmpfs::mount(48 << 20) else {
        println!("skipped: tmpfs cannot be mounted here");
        return;
    };
    let dir = mounted.path();
    #[cfg(feature = "rocksdb")]
    let kv = Arc::new(tributary_store::RocksKv::open(&dir.join("rocksdb")).unwrap());
    #[cfg(not(feature = "rocksdb"))]
    let kv = Arc::new(MemKv::new());
    let disk = Arc::new(tributary_store::RealDisk::open(dir).unwrap());
    let mut opened = open(disk.clone(), kv, options(8 << 20)).unwrap();
    opened.writer.set_reserve(8 << 20);
    // Somebody else takes the space.
    std::fs::write(dir.join("ballast"), vec![1; 16 << 20]).unwrap();
    let mut next = 1;
    let full = loop {
        let done = opened.writer.append(&fat(next, next + 2));
        match done.and_then(|()| opened.writer.commit()) {
            Ok(_) => next += 3,
            Err(e) => break e,
        }
        assert!(next < 100, "it never fills up");
    };
    assert!(full.is_full(), "{full}");
    assert!(
        disk.free_bytes().unwrap().unwrap() >= 8 << 20,
        "the reserve"
    );
    for _ in 0..3 {
        let again = opened.writer.append(&fat(next, next + 2));
        let again = again.and_then(|()| opened.writer.commit().map(|_| ()));
        assert!(again.unwrap_err().is_full());
        assert_eq!(opened.log.durable().last_gno, next - 1);
        let first = opened.log.files()[0].clone();
        let reader = opened.log.open(&first.file).unwrap();
        assert_eq!(reader.read_at(0, &mut [0; 4096]).unwrap(), 4096);
    }
    // An operator makes room, and it goes on; or purges, and it goes on.
    std::fs::remove_file(dir.join("ballast")).unwrap();
    opened.writer.append(&fat(next, next + 2)).unwrap();
    opened.writer.commit().unwrap();
    next += 3;
    while opened
        .writer
        .append(&fat(next, next))
        .is_ok_and(|()| opened.writer.commit().is_ok())
    {
        next += 1;
        assert!(next < 100);
    }
    let active = opened.log.durable().file;
    assert!(opened.writer.purge_to(active.as_str()).unwrap() > 1);
    opened.writer.append(&fat(next, next)).unwrap();
    opened.writer.commit().unwrap();
    let report = verify_dir(&*disk, &VerifyOptions::default());
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
}
