//! A directory in memory that can crash. In: the calls of [`Disk`]. Out: besides their results, the image a power
//! failure would leave: [`MemDisk::crash_keep`] asks about every write, truncation and name change that was not
//! synced whether it reached the disk wholly, in part or not at all.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{Disk, DiskFile, DiskLock, FileStat};

/// A countdown shared by everything that can fail together: after `n` more changes nothing works any more, and the
/// last of them fails although its bytes may have reached the disk.
#[derive(Clone, Debug)]
pub struct Fuse {
    left: Arc<AtomicU64>,
    drops_pages: Arc<AtomicBool>,
}

impl Default for Fuse {
    fn default() -> Self {
        Self {
            left: Arc::new(AtomicU64::new(u64::MAX)),
            drops_pages: Arc::default(),
        }
    }
}

/// What a [`Fuse`] says about one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Burn {
    /// Do it.
    Works,
    /// Do it without durability, and fail.
    Breaks,
    /// Do nothing and fail.
    Dead,
}

impl Fuse {
    /// A fuse that never blows until [`Fuse::set`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `changes` more changes work.
    pub fn set(&self, changes: u64) {
        self.left.store(changes, Ordering::SeqCst);
    }

    /// Whether the sync that fails makes the kernel forget the file's dirty pages, as Linux does: they can still be read, and
    /// the next sync succeeds without them.
    pub fn drop_pages(&self, drops: bool) {
        self.drops_pages.store(drops, Ordering::SeqCst);
    }

    /// Whether it has blown.
    pub fn blown(&self) -> bool {
        self.left.load(Ordering::SeqCst) == BLOWN
    }

    pub(crate) fn burn(&self) -> Burn {
        let step = |left| match left {
            u64::MAX | BLOWN => None,
            0 => Some(BLOWN),
            n => Some(n - 1),
        };
        match self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, step)
        {
            Ok(0) => Burn::Breaks,
            Err(BLOWN) => Burn::Dead,
            _ => Burn::Works,
        }
    }

    pub(crate) fn error() -> io::Error {
        io::Error::other("simulated failure")
    }
}

const BLOWN: u64 = u64::MAX - 1;

/// One change that was not synced when the crash came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// A write of `len` bytes.
    Write {
        /// Where in its file.
        offset: u64,
        /// How many bytes.
        len: usize,
    },
    /// A change of a file's length.
    Truncate {
        /// The new length.
        len: u64,
    },
    /// A name that appeared, moved or went.
    Name {
        /// The name (the new one of a rename).
        name: String,
    },
}

/// What a crash makes of an [`Unsynced`] change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It reached the disk.
    All,
    /// It is lost.
    Nothing,
    /// Of a write, the first so many bytes reached the disk; other changes are kept.
    Part(usize),
    /// Of a write, only the new length of the file reached the disk: zeros where the bytes should be; other
    /// changes are kept.
    Zeros,
    /// Of a write, some of its sectors of 512 bytes reached the disk, in any order: those whose bit, counted by the
    /// sector's number in the file modulo 64, is set. The length did. Other changes are kept.
    Sectors(u64),
    /// Of a write, everything but the last sector reached the disk; that one is noise. Other changes are kept.
    Noise,
}

/// Bytes that a disk writes at once.
const SECTOR: usize = 512;

/// A directory in memory. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    inner: Arc<Mutex<Inner>>,
    fuse: Fuse,
}

#[derive(Debug, Default)]
struct Inner {
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_ops: Vec<NameOp>,
    inodes: Vec<Inode>,
    locks: BTreeMap<String, Arc<AtomicBool>>,
    /// The time as files get it, seconds since the epoch.
    now: u64,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    data: Vec<u8>,
    durable: Vec<u8>,
    ops: Vec<FileOp>,
    modified: u64,
}

#[derive(Clone, Debug)]
enum FileOp {
    Write { offset: u64, data: Vec<u8> },
    Truncate { len: u64 },
}

#[derive(Clone, Debug)]
enum NameOp {
    Link {
        name: String,
        inode: usize,
    },
    Rename {
        from: String,
        to: String,
        inode: usize,
    },
    Unlink {
        name: String,
    },
}

impl NameOp {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Link { name, .. } | Self::Unlink { name } => name,
            Self::Rename { to, .. } => to,
        }
    }
}

impl FileOp {
    fn apply(&self, data: &mut Vec<u8>, keep: Keep) {
        match (self, keep) {
            (_, Keep::Nothing) => {}
            (Self::Write { offset, data: new }, keep) => {
                let reached = match keep {
                    Keep::Part(n) => new.get(..n).unwrap_or(new),
                    _ => new,
                };
                let start = *offset as usize;
                let end = start + reached.len();
                if data.len() < end {
                    data.resize(end, 0);
                }
                let Some(place) = data.get_mut(start..end) else {
                    return;
                };
                let last = end.saturating_sub(1) / SECTOR;
                for (i, (to, from)) in place.iter_mut().zip(reached).enumerate() {
                    let sector = (start + i) / SECTOR;
                    match keep {
                        Keep::Zeros => {}
                        Keep::Sectors(bits) if bits >> (sector % 64) & 1 == 0 => {}
                        Keep::Noise if sector == last => *to = from.rotate_left(3) ^ 0x5a,
                        _ => *to = *from,
                    }
                }
            }
            (Self::Truncate { len }, _) => data.resize(*len as usize, 0),
        }
    }

    fn describe(&self) -> Unsynced {
        match self {
            Self::Write { offset, data } => Unsynced::Write {
                offset: *offset,
                len: data.len(),
            },
            Self::Truncate { len } => Unsynced::Truncate { len: *len },
        }
    }
}

impl MemDisk {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty directory whose changes count against `fuse`.
    pub fn with_fuse(fuse: Fuse) -> Self {
        Self {
            fuse,
            ..Self::default()
        }
    }

    /// The image a crash now would leave, as a directory of its own with a fresh fuse. `keep` is asked about every
    /// unsynced change, file by file and then for the names, in the order in which they were made.
    pub fn crash_keep(&self, mut keep: impl FnMut(&Unsynced) -> Keep) -> Self {
        let inner = self.inner();
        let mut image = Inner {
            names: inner.durable_names.clone(),
            ..Inner::default()
        };
        for inode in &inner.inodes {
            let mut data = inode.durable.clone();
            for op in &inode.ops {
                op.apply(&mut data, keep(&op.describe()));
            }
            image.inodes.push(Inode {
                durable: data.clone(),
                data,
                ops: Vec::new(),
                modified: inode.modified,
            });
        }
        for op in &inner.name_ops {
            if keep(&Unsynced::Name {
                name: op.name().to_owned(),
            }) != Keep::Nothing
            {
                op.apply(&mut image.names);
            }
        }
        image.durable_names = image.names.clone();
        Self {
            inner: Arc::new(Mutex::new(image)),
            fuse: Fuse::new(),
        }
    }

    /// The same directory, whose changes count against `fuse`.
    pub fn fused(&self, fuse: &Fuse) -> Self {
        Self {
            inner: self.inner.clone(),
            fuse: fuse.clone(),
        }
    }

    /// All of a file's bytes, synced or not; `None` if there is no such file.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let inner = self.inner();
        let inode = *inner.names.get(name)?;
        inner.inodes.get(inode).map(|inode| inode.data.clone())
    }

    /// Puts a file there, durably, whatever was there before.
    pub fn put(&self, name: &str, data: &[u8]) {
        let mut inner = self.inner();
        let inode = inner.inodes.len();
        inner.inodes.push(Inode {
            data: data.to_vec(),
            durable: data.to_vec(),
            ..Inode::default()
        });
        inner.names.insert(name.to_owned(), inode);
        inner.durable_names.insert(name.to_owned(), inode);
    }

    /// Sets the time at which files are written from now on, in seconds since the epoch.
    pub fn set_time(&self, now: u64) {
        self.inner().now = now;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a change of names under the fuse.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Inner) -> io::Result<(NameOp, T)>,
    ) -> io::Result<T> {
        let burn = self.fuse.burn();
        if burn == Burn::Dead {
            return Err(Fuse::error());
        }
        let mut inner = self.inner();
        let (op, out) = change(&mut inner)?;
        op.apply(&mut inner.names);
        inner.name_ops.push(op);
        if burn == Burn::Breaks {
            Err(Fuse::error())
        } else {
            Ok(out)
        }
    }

    fn file(&self, inode: usize) -> Arc<dyn DiskFile> {
        Arc::new(MemFile {
            disk: self.clone(),
            inode,
        })
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for MemDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.change(|inner| {
            if inner.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let inode = inner.inodes.len();
            inner.inodes.push(Inode::default());
            Ok((
                NameOp::Link {
                    name: name.to_owned(),
                    inode,
                },
                inode,
            ))
        })?;
        Ok(self.file(inode))
    }

    fn open(&self, name: &str, _write: bool) -> io::Result<Arc<dyn DiskFile>> {
        let inode = *self.inner().names.get(name).ok_or_else(not_found)?;
        Ok(self.file(inode))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.inner().names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|inner| {
            let inode = *inner.names.get(from).ok_or_else(not_found)?;
            Ok((
                NameOp::Rename {
                    from: from.to_owned(),
                    to: to.to_owned(),
                    inode,
                },
                (),
            ))
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|inner| {
            inner.names.get(name).ok_or_else(not_found)?;
            Ok((
                NameOp::Unlink {
                    name: name.to_owned(),
                },
                (),
            ))
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        if self.fuse.burn() != Burn::Works {
            return Err(Fuse::error());
        }
        let mut inner = self.inner();
        inner.durable_names = inner.names.clone();
        inner.name_ops.clear();
        Ok(())
    }

    fn stat(&self, name: &str) -> io::Result<FileStat> {
        let inner = self.inner();
        let inode = inner.names.get(name).and_then(|&i| inner.inodes.get(i));
        let inode = inode.ok_or_else(not_found)?;
        Ok(FileStat {
            len: inode.data.len() as u64,
            modified: inode.modified,
        })
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(self.inner().names.contains_key(name))
    }

    fn lock(&self, name: &str) -> io::Result<DiskLock> {
        let held = self
            .inner()
            .locks
            .entry(name.to_owned())
            .or_default()
            .clone();
        if held.swap(true, Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(DiskLock::new(MemLock(held)))
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

struct MemLock(Arc<AtomicBool>);

impl Drop for MemLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

struct MemFile {
    disk: MemDisk,
    inode: usize,
}

impl MemFile {
    fn with<T>(&self, f: impl FnOnce(&mut Inode) -> T) -> io::Result<T> {
        self.disk
            .inner()
            .inodes
            .get_mut(self.inode)
            .map(f)
            .ok_or_else(not_found)
    }

    fn change(&self, op: FileOp) -> io::Result<()> {
        let burn = self.disk.fuse.burn();
        if burn == Burn::Dead {
            return Err(Fuse::error());
        }
        let now = self.disk.inner().now;
        self.with(|inode| {
            op.apply(&mut inode.data, Keep::All);
            inode.ops.push(op);
            inode.modified = now;
        })?;
        if burn == Burn::Breaks {
            Err(Fuse::error())
        } else {
            Ok(())
        }
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, off: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.with(|inode| {
            let rest = inode.data.get(off as usize..).unwrap_or_default();
            let n = rest.len().min(buf.len());
            for (to, from) in buf.iter_mut().zip(rest) {
                *to = *from;
            }
            n
        })
    }

    fn write_at(&self, off: u64, data: &[u8]) -> io::Result<()> {
        self.change(FileOp::Write {
            offset: off,
            data: data.to_vec(),
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let burn = self.disk.fuse.burn();
        if burn == Burn::Breaks && self.disk.fuse.drops_pages.load(Ordering::SeqCst) {
            self.with(|inode| inode.ops.clear())?;
        }
        if burn != Burn::Works {
            return Err(Fuse::error());
        }
        self.with(|inode| {
            let Inode { durable, ops, .. } = inode;
            for op in ops.drain(..) {
                op.apply(durable, Keep::All);
            }
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.change(FileOp::Truncate { len })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|inode| inode.data.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_two_writes() -> MemDisk {
        let disk = MemDisk::new();
        let file = disk.create("a").unwrap();
        file.write_at(0, b"synced").unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        file.write_at(6, b"-lost").unwrap();
        disk.create("b").unwrap();
        disk
    }

    #[test]
    fn a_crash_may_lose_what_was_not_synced() {
        let image = with_two_writes().crash_keep(|_| Keep::Nothing);
        assert_eq!(image.bytes("a").unwrap(), b"synced");
        assert!(!image.exists("b").unwrap());
    }

    #[test]
    fn a_crash_may_keep_or_tear_it() {
        let disk = with_two_writes();
        assert_eq!(
            disk.crash_keep(|_| Keep::All).bytes("a").unwrap(),
            b"synced-lost"
        );
        assert_eq!(
            disk.crash_keep(|_| Keep::Part(2)).bytes("a").unwrap(),
            b"synced-l"
        );
        let zeros = disk.crash_keep(|_| Keep::Zeros).bytes("a").unwrap();
        assert_eq!(zeros, b"synced\0\0\0\0\0");
        let none = disk.crash_keep(|_| Keep::Sectors(2)).bytes("a").unwrap();
        assert_eq!(none, zeros);
        let first = disk.crash_keep(|_| Keep::Sectors(1)).bytes("a").unwrap();
        assert_eq!(first, b"synced-lost");
        let noise = disk.crash_keep(|_| Keep::Noise).bytes("a").unwrap();
        assert!(noise.starts_with(b"synced") && noise[6..] != *b"-lost");
    }

    #[test]
    fn syncing_a_file_does_not_sync_its_name() {
        let disk = MemDisk::new();
        let file = disk.create("a").unwrap();
        file.write_at(0, b"x").unwrap();
        file.sync_data().unwrap();
        assert!(!disk.crash_keep(|_| Keep::Nothing).exists("a").unwrap());
    }

    #[test]
    fn a_blown_fuse_stops_everything() {
        let fuse = Fuse::new();
        let disk = MemDisk::with_fuse(fuse.clone());
        let file = disk.create("a").unwrap();
        fuse.set(1);
        file.write_at(0, b"1").unwrap();
        assert!(!fuse.blown());
        file.write_at(1, b"2").unwrap_err();
        assert!(fuse.blown());
        file.sync_data().unwrap_err();
        disk.create("b").map(|_| ()).unwrap_err();
        // The breaking write may have reached the disk, later calls cannot.
        assert_eq!(disk.bytes("a").unwrap(), b"12");
        assert!(!disk.exists("b").unwrap());
    }

    #[test]
    fn a_failed_sync_may_lose_pages_for_good() {
        let disk = MemDisk::new();
        let file = disk.create("a").unwrap();
        disk.sync_dir().unwrap();
        let fuse = Fuse::new();
        fuse.drop_pages(true);
        let failing = disk.fused(&fuse).open("a", true).unwrap();
        file.write_at(0, b"lost").unwrap();
        fuse.set(0);
        failing.sync_data().unwrap_err();
        file.write_at(4, b"kept").unwrap();
        file.sync_data().unwrap();
        assert_eq!(disk.bytes("a").unwrap(), b"lostkept");
        let image = disk.crash_keep(|_| Keep::All).bytes("a").unwrap();
        assert_eq!(image, b"\0\0\0\0kept");
    }

    #[test]
    fn a_lock_is_exclusive_until_dropped() {
        let disk = MemDisk::new();
        let held = disk.lock("l").unwrap();
        assert_eq!(
            disk.lock("l").unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(held);
        disk.lock("l").unwrap();
    }
}
