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

use tributary_flow::Spool;

use crate::core::spill::{SpoolFiles, SpoolWriter};

/// A directory for spool files; it must exist, and be on a disk and not in memory.
#[derive(Debug, Clone)]
pub struct SpoolDir(pub PathBuf);

/// Of all spool files of this process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl SpoolFiles for SpoolDir {
    fn create(&self) -> io::Result<Box<dyn SpoolWriter>> {
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
        self.0.write_all(bytes)
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
        let mut writer = SpoolDir(dir.path().to_owned()).create().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        writer.append(b"some ").unwrap();
        writer.append(b"events").unwrap();
        let file = writer.finish();
        let mut end = [0; 6];
        file.read_exact_at(&mut end, 5).unwrap();
        assert_eq!(&end, b"events");
        assert!(file.read_exact_at(&mut end, 6).is_err());
        assert!(SpoolDir("/nowhere".into()).create().is_err());
    }
}
