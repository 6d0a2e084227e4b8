//! Bytes of one file for readers. In: offsets. Out: bytes, clipped to the durable end while the file is written to.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use tributary_binlog::BinlogFile;

use crate::{
    ReadError,
    disk::DiskFile,
    log::{Lease, Shared},
};

/// An open binlog file. It is not purged while this exists, unless the writer is told to (see
/// [`LogWriter::set_purge_in_use`](crate::LogWriter::set_purge_in_use)).
pub struct FileReader {
    shared: Arc<Shared>,
    file: BinlogFile,
    handle: Arc<dyn DiskFile>,
    /// The final size, once it is known.
    sealed: OnceLock<u64>,
    /// Keeps the file from being purged, or tells that it was.
    held: Arc<Lease>,
}

impl fmt::Debug for FileReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileReader")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl FileReader {
    pub(crate) fn new(
        shared: Arc<Shared>,
        file: BinlogFile,
        handle: Arc<dyn DiskFile>,
        held: Arc<Lease>,
    ) -> Self {
        let sealed = OnceLock::new();
        Self {
            shared,
            file,
            handle,
            sealed,
            held,
        }
    }

    /// The file.
    pub fn file(&self) -> &BinlogFile {
        &self.file
    }

    /// Reads up to `buf.len()` bytes from `offset`. `0` means that there is nothing to read there: the end of a
    /// finished file, or the durable end of the active one. [`ReadError::Purged`] once files are purged in spite of their
    /// readers and this is one: its place on the disk is free when this is dropped.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        if self.held.is_gone() {
            return Err(ReadError::Purged {
                file: self.file.clone(),
            });
        }
        let room = self.end().saturating_sub(offset);
        let len = usize::try_from(room).unwrap_or(usize::MAX).min(buf.len());
        let Some(buf) = buf.get_mut(..len).filter(|buf| !buf.is_empty()) else {
            return Ok(0);
        };
        let error = |source| ReadError::Io {
            file: self.file.clone(),
            offset,
            source,
        };
        let n = self.handle.read_at(offset, buf).map_err(error)?;
        if n < len {
            // Bytes below the durable end are there, or the file was cut behind our back.
            return Err(error(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(n)
    }

    /// How far the file can be read now.
    pub fn end(&self) -> u64 {
        self.visible().0
    }

    /// Whether more may come.
    pub fn is_active(&self) -> bool {
        self.visible().1
    }

    fn visible(&self) -> (u64, bool) {
        if let Some(&size) = self.sealed.get() {
            return (size, false);
        }
        let (end, active) = self.shared.visible(&self.file);
        if !active && end > 0 {
            let _ = self.sealed.set(end);
        }
        (end, active)
    }
}
