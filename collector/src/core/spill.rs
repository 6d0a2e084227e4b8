//! Where a transaction goes that is too large for memory. In: its events. Out: a body that lies in a file.
//!
//! A transaction is written from the moment it passes the threshold, while it is received: what was
//! in memory first, then each chunk as it fills, and an event that is larger than a chunk straight from the receive buffer.

use std::{fmt, io, sync::Arc};

use tributary_flow::{Body, Spilling, Spool, SpoolWriter};

use super::chunk::Account;

/// What a transaction in a file counts for in a node's budget at most, bytes: so that a node has only a few of them on disk at a
/// time.
const CHARGE_MAX: u64 = 4 << 20;

/// The file of the open transaction.
pub(super) struct Spill {
    writer: Box<dyn SpoolWriter>,
    len: u64,
}

impl Spill {
    /// For a transaction of which the node says that it has `expected` bytes.
    pub(super) fn begin(spilling: &Spilling, expected: u64) -> io::Result<Self> {
        let writer = spilling.files.create(expected)?;
        Ok(Self { writer, len: 0 })
    }

    /// Bytes of an event, or of several.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.append(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Bytes appended.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The whole of it, which is `events` events.
    pub(super) fn finish(self, events: u64, account: &Arc<dyn Account>) -> Body {
        let charge = self.len.min(CHARGE_MAX) as usize;
        account.charge(charge);
        let file = Charged {
            file: self.writer.finish(),
            account: Arc::clone(account),
            charge,
        };
        Body::spooled(Arc::new(file), self.len, events)
    }
}

/// A file that counts in the budget until its last owner has gone.
struct Charged {
    file: Arc<dyn Spool>,
    account: Arc<dyn Account>,
    charge: usize,
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
        self.account.release(self.charge);
    }
}
