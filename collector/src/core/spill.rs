//! Where a transaction goes that is too large for memory. In: its events. Out: a body that lies in a file.
//!
//! The files are behind [`SpoolFiles`]. A transaction is written from the moment it passes the threshold, while it is received: what was
//! in memory first, then each chunk as it fills, and an event that is larger than a chunk straight from the receive buffer.

use std::{fmt, io, sync::Arc};

use tributary_flow::{Body, Spool};

use super::chunk::Account;

/// What a transaction in a file counts for in a node's budget, bytes: so that a node has only a few of them on disk at a time.
const CHARGE: usize = 4 << 20;

/// Makes spool files.
pub trait SpoolFiles: fmt::Debug + Send + Sync {
    /// A new, empty one.
    ///
    /// # Errors
    /// It cannot be made.
    fn create(&self) -> io::Result<Box<dyn SpoolWriter>>;
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

/// The file of the open transaction.
pub(super) struct Spill {
    writer: Box<dyn SpoolWriter>,
    len: u64,
}

impl Spill {
    pub(super) fn begin(spilling: &Spilling) -> io::Result<Self> {
        let writer = spilling.files.create()?;
        Ok(Self { writer, len: 0 })
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.append(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn finish(self, account: &Arc<dyn Account>) -> Body {
        account.charge(CHARGE);
        let file = Charged {
            file: self.writer.finish(),
            account: Arc::clone(account),
        };
        Body::spooled(Arc::new(file), self.len)
    }
}

/// A file that counts in the budget until its last owner has gone.
struct Charged {
    file: Arc<dyn Spool>,
    account: Arc<dyn Account>,
}

impl fmt::Debug for Charged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl Spool for Charged {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.account.release(CHARGE);
    }
}
