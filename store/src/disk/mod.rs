//! All file IO of the store goes through [`Disk`]. In: names and bytes. Out: bytes, and the promise of `fsync`.
//!
//! [`RealDisk`] is a directory of the operating system; [`MemDisk`] keeps everything in memory and can produce the
//! image that a power failure would leave behind. The contract is POSIX's, no better: a write is durable once
//! [`DiskFile::sync_data`] has returned, a created, renamed or removed name once [`Disk::sync_dir`] has returned, and
//! syncing a file says nothing about its name.

mod mem;
mod real;

use std::{any::Any, io, sync::Arc};

pub use mem::{Fuse, Keep, MemDisk, Unsynced};
pub use real::RealDisk;

pub(crate) use mem::Burn;

/// One directory of plain files. Names have no path separators.
pub trait Disk: Send + Sync + 'static {
    /// Creates `name` for reading and writing; fails with [`io::ErrorKind::AlreadyExists`] if it is there.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens `name` for reading, and for writing if `write`.
    fn open(&self, name: &str, write: bool) -> io::Result<Arc<dyn DiskFile>>;

    /// The names of the plain files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Gives `from` the name `to`, replacing what had it, in one step.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes `name`.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all creations, renames and removals so far durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Size and age of `name`.
    fn stat(&self, name: &str) -> io::Result<FileStat>;

    /// Whether `name` is there.
    fn exists(&self, name: &str) -> io::Result<bool>;

    /// Takes the exclusive lock called `name`, held until the result is dropped or the process ends. Fails with
    /// [`io::ErrorKind::WouldBlock`] if somebody else has it.
    fn lock(&self, name: &str) -> io::Result<DiskLock>;

    /// Bytes that can still be written to the file system the directory is on; `None` if there is no telling.
    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// What to call this directory in messages.
    fn describe(&self) -> String;
}

/// What is known of a file without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// Its length in bytes.
    pub len: u64,
    /// When it was last written, in seconds since the epoch.
    pub modified: u64,
}

/// An open file. Reads and writes may come from several threads.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buf.len()` bytes at `off`; fewer only at the end of the file, `0` = at or past it.
    fn read_at(&self, off: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `data` at `off`.
    fn write_at(&self, off: u64, data: &[u8]) -> io::Result<()>;

    /// Makes the file's contents and length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts or extends the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A held lock; see [`Disk::lock`].
pub struct DiskLock {
    _held: Box<dyn Any + Send + Sync>,
}

impl DiskLock {
    /// A lock that lasts as long as `held`.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self {
            _held: Box::new(held),
        }
    }
}

impl std::fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DiskLock")
    }
}
