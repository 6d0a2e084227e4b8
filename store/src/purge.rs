//! Taking away old files, and starting a new one, at an operator's request.
//!
//! In: the name of a file, or a time. Out: fewer files, oldest first; the active file and everything behind the named one
//! stay. Order of the steps: (1) the records of the files leave the index database in one synced batch, and with it
//! recovery no longer knows them; (2) readers no longer see them; (3) the index file is written anew; (4) the files
//! are removed. A crash between (1) and (4) leaves files in front of the oldest known one, which recovery reports and
//! nobody reads.

use crate::{
    FileInfo, LogWriter, PurgeError, WriteError,
    kv::{KvBatch, segment::Segment, time_index},
    writer::write_index,
};

impl LogWriter {
    /// `PURGE BINARY LOGS TO name`: the file called `name` becomes the oldest.
    ///
    /// # Errors
    /// [`PurgeError::NotFound`] when there is no such file. A failed write stops the writer, as any other.
    pub fn purge_to(&mut self, name: &str) -> Result<u64, PurgeError> {
        // Files sealed or created since the last commit are visible only with it.
        self.commit()?;
        let files = self.log().files();
        let at = files.iter().position(|f| f.file.as_str() == name);
        let at = at.ok_or_else(|| PurgeError::NotFound(name.to_owned()))?;
        Ok(self.purge(&files, at)?)
    }

    /// `PURGE BINARY LOGS BEFORE`: removes files all of whose transactions are older than `seconds` since the epoch.
    ///
    /// # Errors
    /// When the index database cannot be read, or a write fails.
    pub fn purge_before(&mut self, seconds: u64) -> Result<u64, PurgeError> {
        self.commit()?;
        let files = self.log().files();
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        let place = time_index::floor(self.kv(), seconds).map_err(WriteError::from)?;
        let place = place.transpose().map_err(WriteError::from)?;
        // Everything before this place is older; the file it is in stays.
        let oldest_kept = place.map_or(0, |p| p.seq);
        let at = files
            .iter()
            .take_while(|f| f.file.seq() < oldest_kept)
            .count();
        Ok(self.purge(&files, at)?)
    }

    /// Removes the first `count` of `files`, which are all there are; never the active one.
    fn purge(&mut self, files: &[FileInfo], count: usize) -> Result<u64, WriteError> {
        let count = count.min(files.iter().filter(|f| !f.active).count());
        let (gone, kept) = files.split_at(count);
        if gone.is_empty() {
            return Ok(0);
        }
        let result = self.forget(gone, kept);
        self.poison_on_error(result)?;
        Ok(gone.len() as u64)
    }

    fn forget(&mut self, gone: &[FileInfo], kept: &[FileInfo]) -> Result<(), WriteError> {
        let mut batch = KvBatch::new();
        gone.iter()
            .for_each(|f| batch.delete(Segment::key(f.file.seq())));
        self.kv().write(&batch, true)?;
        self.log().shared().forget(gone.len());
        write_index(
            self.disk(),
            &self.options().index_name(),
            kept.iter().map(|f| &f.file),
        )?;
        for f in gone {
            let removing = WriteError::io(format!("removing {}", f.file));
            self.disk().remove(f.file.as_str()).map_err(removing)?;
        }
        self.disk()
            .sync_dir()
            .map_err(WriteError::io("syncing the directory"))
    }

    /// `FLUSH BINARY LOGS`: seals the active file and starts the next one.
    ///
    /// # Errors
    /// When a write fails.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.check_poison()?;
        let result = self.start_file();
        self.poison_on_error(result)?;
        self.commit().map(|_| ())
    }
}
