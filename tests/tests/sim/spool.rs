//! Spool files that are no files. In: bytes. Out: the same.

use std::io;
use std::sync::Arc;

use tributary_flow::{Spool, SpoolFiles, SpoolWriter};

/// Makes them.
#[derive(Debug)]
pub(crate) struct Memory;

#[derive(Debug, Default)]
struct File(Vec<u8>);

impl SpoolFiles for Memory {
    fn create(&self, _expected: u64) -> io::Result<Box<dyn SpoolWriter>> {
        Ok(Box::<File>::default())
    }
}

impl SpoolWriter for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Arc<dyn Spool> {
        Arc::new(*self)
    }
}

impl Spool for File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = offset as usize;
        let bytes = self.0.get(from..from + buf.len());
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}
