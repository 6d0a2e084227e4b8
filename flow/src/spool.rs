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
