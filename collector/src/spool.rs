//! Spool files in a directory. In: the directory. Out: files that no name leads to, so that the kernel frees them with their last
//! owner, also after `kill -9`. Nothing in them must survive: a transaction is read again from its node.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::PathBuf,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tributary_flow::{Spool, SpoolFiles, SpoolWriter};

use crate::block;

/// A directory for spool files; it must exist, and be on a disk and not in memory.
#[derive(Debug, Clone)]
pub struct SpoolDir(pub PathBuf);

/// Of all spool files of this process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Free space that a transaction in a spool file must leave: more than the log keeps free, so that the log is not what stops.
const RESERVE_BYTES: u64 = 64 << 20;

impl SpoolDir {
    /// Makes the directory if it is not there, and empties it: what a process that died between two calls has left.
    ///
    /// # Errors
    /// It cannot be made, read or emptied.
    pub fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        for entry in fs::read_dir(&self.0)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    fn check_room(&self, expected: u64) -> io::Result<()> {
        let found = rustix::fs::statvfs(&self.0)?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free < expected.saturating_add(RESERVE_BYTES) {
            let text =
                format!("it has {expected} bytes; {free} are free, {RESERVE_BYTES} are kept back");
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        Ok(())
    }
}

impl SpoolFiles for SpoolDir {
    fn create(&self, expected: u64) -> io::Result<Box<dyn SpoolWriter>> {
        self.check_room(expected)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.0.join(format!("spool-{}-{number}", process::id()));
        // One of the same name was left by a process that died between the next two calls.
        let _ = fs::remove_file(&path);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        fs::remove_file(&path)?;
        Ok(Box::new(SpoolFile(file)))
    }
}

#[derive(Debug)]
struct SpoolFile(File);

impl SpoolWriter for SpoolFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        block::in_place(|| self.0.write_all(bytes))
    }

    fn finish(self: Box<Self>) -> Arc<dyn Spool> {
        Arc::new(*self)
    }
}

impl Spool for SpoolFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_no_name_and_is_read_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let spool = SpoolDir(dir.path().join("spool"));
        spool.prepare().unwrap();
        fs::write(spool.0.join("spool-1-1"), b"left").unwrap();
        spool.prepare().unwrap();
        let mut writer = spool.create(6).unwrap();
        assert_eq!(fs::read_dir(&spool.0).unwrap().count(), 0);
        writer.append(b"some ").unwrap();
        writer.append(b"events").unwrap();
        let file = writer.finish();
        let mut end = [0; 6];
        file.read_exact_at(&mut end, 5).unwrap();
        assert_eq!(&end, b"events");
        assert!(file.read_exact_at(&mut end, 6).is_err());
        assert!(SpoolDir("/nowhere".into()).create(0).is_err());
        let full = spool.create(1 << 60).err().unwrap();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }
}
