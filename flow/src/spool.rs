//! Files for what is too large for memory. In: bytes, once. Out: the same, at any offset, from any thread. Nothing in them must
//! survive the process. The files themselves are behind these traits: this crate does no IO.

use std::{fmt, io, sync::Arc};

/// A spool file that is written. Read from any thread; gone with its last owner.
pub trait Spool: fmt::Debug + Send + Sync {
    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// They cannot be read, or there are fewer.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

/// Makes spool files.
pub trait SpoolFiles: fmt::Debug + Send + Sync {
    /// A new, empty one, for about `expected` bytes; 0 if there is no telling.
    ///
    /// # Errors
    /// It cannot be made, or there is no room for so much.
    fn create(&self, expected: u64) -> io::Result<Box<dyn SpoolWriter>>;
}

/// A spool file that is being written.
pub trait SpoolWriter: Send + Sync {
    /// Appends bytes.
    ///
    /// # Errors
    /// They cannot be written: the disk is full, usually.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// The file, for reading.
    fn finish(self: Box<Self>) -> Arc<dyn Spool>;
}

/// When transactions go to files, and to which.
#[derive(Debug, Clone)]
pub struct Spilling {
    /// Greatest transaction that stays in memory, bytes of events.
    pub threshold: u64,
    /// The files.
    pub files: Arc<dyn SpoolFiles>,
}

/// Spool files that are no files: for tests and simulations, and for fuzzing.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemorySpools;

/// One of them.
#[derive(Default)]
pub struct MemorySpool(pub Vec<u8>);

impl fmt::Debug for MemorySpool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl SpoolFiles for MemorySpools {
    fn create(&self, _expected: u64) -> io::Result<Box<dyn SpoolWriter>> {
        Ok(Box::<MemorySpool>::default())
    }
}

impl SpoolWriter for MemorySpool {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Arc<dyn Spool> {
        Arc::new(*self)
    }
}

impl Spool for MemorySpool {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let to = from.and_then(|from| from.checked_add(buf.len()));
        let bytes = from.zip(to).and_then(|(from, to)| self.0.get(from..to));
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}
