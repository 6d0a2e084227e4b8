//! Finished files leave the log. In: an operator's wish, or how long files are kept. Out: the oldest files are gone: first for
//! readers, then in the index database, in the index file, and at last on the disk.
//!
//! Like mysqld, a purge stops at the first file that somebody reads, unless told otherwise, and never touches the active
//! one.
//!
//! The database says first that the files are leaving, in the batch that forgets them; so a crash at any later step leaves
//! files that recovery knows it may remove, and an index file that recovery writes anew. A crash before it changes
//! nothing.

use tributary_binlog::{BinlogFile, EventHeader, HEADER_LEN, MAGIC};

use crate::{
    LogWriter, PurgeError, ReadError, WriteError,
    core::retention::{self, Finished, Retention},
    files::write_index,
    kv::{
        IndexPlace, KeyKind, Kv, KvBatch, RecordError, purging::Purging, range_of, segment::Segment,
    },
};

/// Index entries looked at in one go.
const SCAN_STEP: usize = 4096;

/// What came of [`LogWriter::retain`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// So many files went.
    pub purged: u64,
    /// A file that would have gone, had nobody read it.
    pub held_by_reader: Option<BinlogFile>,
}

impl LogWriter {
    /// Purges the files before `file`, which becomes the oldest one (PURGE BINARY LOGS TO). Answers how many went; fewer than
    /// asked for if one is being read.
    pub fn purge_to(&mut self, file: &str) -> Result<u64, PurgeError> {
        let no_such_file = || PurgeError::NotFound(file.to_owned());
        let info = self.log.find(file).ok_or_else(no_such_file)?;
        self.purge_up_to(info.file.seq())
    }

    /// Purges the oldest files whose last transaction has a timestamp before `seconds` (since the epoch; PURGE BINARY LOGS
    /// BEFORE). Answers how many went.
    pub fn purge_before(&mut self, seconds: u64) -> Result<u64, PurgeError> {
        let files = self.log.files();
        let mut end = 0;
        for next in files.iter().skip(1) {
            // A file's head has the timestamp of the last transaction before it.
            if u64::from(self.head_timestamp(&next.file)?) >= seconds {
                break;
            }
            end = next.file.seq();
        }
        self.purge_up_to(end)
    }

    /// Purges what `retention` does not keep; `now` is in seconds since the epoch. A file's age counts from when it was
    /// last written, as mysqld's: transactions that are old when they are merged are kept as long as others.
    pub fn retain(&mut self, retention: Retention, now: u64) -> Result<Retained, PurgeError> {
        let entries = self.log.shared().entries().clone();
        let durable = self.log.durable().offset;
        let total = entries.iter().map(|e| e.sealed.unwrap_or(durable)).sum();
        let files = entries.iter().filter_map(|entry| {
            let size = entry.sealed?;
            let stat = self.disk.stat(entry.file.as_str());
            Some(
                stat.map_err(|e| unreadable(&entry.file, e))
                    .map(|stat| Finished {
                        seq: entry.file.seq(),
                        size,
                        modified: stat.modified,
                        // The list of entries holds each of them once more.
                        held: entry.is_read_besides(1) && !self.purge_in_use,
                    }),
            )
        });
        let verdict = retention::decide(retention, files, total, now)?;
        let held_by_reader = verdict.held.and_then(|seq| {
            let mut files = entries.iter().map(|entry| &entry.file);
            files.find(|file| file.seq() == seq).cloned()
        });
        drop(entries);
        let purged = match verdict.end {
            0 => 0,
            end => self.purge_up_to(end)?,
        };
        Ok(Retained {
            purged,
            held_by_reader,
        })
    }

    /// Whether files are purged although a client reads them; it then gets an error. Otherwise, and at first, they stay.
    pub fn set_purge_in_use(&mut self, yes: bool) {
        self.purge_in_use = yes;
    }

    fn head_timestamp(&self, file: &BinlogFile) -> Result<u32, ReadError> {
        let error = |source| unreadable(file, source);
        let mut header = [0; HEADER_LEN];
        let handle = self.disk.open(file.as_str(), false).map_err(error)?;
        let n = handle
            .read_at(MAGIC.len() as u64, &mut header)
            .map_err(error)?;
        let parsed = EventHeader::parse(header.get(..n).unwrap_or_default());
        let parsed = parsed.map_err(|e| error(std::io::Error::other(e)))?;
        Ok(parsed.timestamp)
    }

    fn purge_up_to(&mut self, end: u64) -> Result<u64, PurgeError> {
        self.check_poison()?;
        let taken = self.log.shared().take_before(end, self.purge_in_use);
        let forgotten = self.forget(&taken);
        let Some(leaving) = self.poison_on_error(forgotten)? else {
            return Ok(0);
        };
        // On a full disk the files must go before a new index fits.
        let indexed = match self.rewrite_index() {
            Err(e) if e.is_full() => false,
            result => self.poison_on_error(result).map(|()| true)?,
        };
        self.remove(leaving)?;
        if !indexed {
            match self.rewrite_index() {
                // The note of what is leaving stays: the next purge, or a start, does it.
                Err(e) if e.is_full() => return Err(e.into()),
                result => self.poison_on_error(result)?,
            }
        }
        let synced = self
            .disk
            .sync_dir()
            .map_err(WriteError::sync("syncing the directory"));
        let done = synced.and_then(|()| finish(&*self.kv));
        self.poison_on_error(done)?;
        Ok(taken.len() as u64)
    }

    /// Takes files out of the index database. Answers what may leave the disk, also of an earlier purge.
    fn forget(&mut self, taken: &[BinlogFile]) -> Result<Option<Purging>, WriteError> {
        let unfinished = self.kv.get(&Purging::key())?;
        let unfinished = unfinished
            .map(|value| Purging::decode(&value))
            .transpose()?;
        let (Some(first), Some(last)) = (taken.first(), taken.last()) else {
            return Ok(unfinished);
        };
        let end = last.seq() + 1;
        let first = unfinished.map_or(first.seq(), |u| u.first.min(first.seq()));
        let leaving = Purging { first, end };
        let mut batch = KvBatch::new();
        batch.put(leaving.pair());
        batch.delete_range(Segment::key(0), Segment::key(end));
        for kind in [KeyKind::GtidIndex, KeyKind::TsoIndex, KeyKind::TimeIndex] {
            let (from, to) = range_of(kind);
            let kept = first_kept(&*self.kv, kind, end)?;
            batch.delete_range(from, kept.unwrap_or(to));
        }
        self.kv.write(&batch, true)?;
        Ok(Some(leaving))
    }

    fn rewrite_index(&mut self) -> Result<(), WriteError> {
        let entries = self.log.shared().entries().clone();
        let files = entries.iter().map(|entry| &entry.file);
        write_index(&*self.disk, &self.options.index_name(), files)
    }

    fn remove(&mut self, leaving: Purging) -> Result<(), PurgeError> {
        for seq in leaving.first..leaving.end {
            let file = BinlogFile::new(&self.options.base_name, seq);
            match self.disk.remove(file.as_str()) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(PurgeError::Remove { file, source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn unreadable(file: &BinlogFile, source: std::io::Error) -> ReadError {
    ReadError::Io {
        file: file.clone(),
        offset: 0,
        source,
    }
}

/// Forgets that files are leaving: they are off the disk. Not synced: doing it all again would do no harm.
pub(crate) fn finish(kv: &dyn Kv) -> Result<(), WriteError> {
    let mut batch = KvBatch::new();
    batch.delete(Purging::key());
    Ok(kv.write(&batch, false)?)
}

/// The first key of an index whose entry is in file `end` or behind it. Entries are in the order of the log.
fn first_kept(kv: &dyn Kv, kind: KeyKind, end: u64) -> Result<Option<Vec<u8>>, WriteError> {
    let (mut from, to) = range_of(kind);
    loop {
        let pairs = kv.scan(&from, &to, SCAN_STEP)?;
        for (key, value) in &pairs {
            let place: Result<IndexPlace, RecordError> = IndexPlace::decode(kind, value);
            if place?.seq >= end {
                return Ok(Some(key.clone()));
            }
        }
        let Some((last, _)) = pairs.last() else {
            return Ok(None);
        };
        from.clone_from(last);
        from.push(0);
    }
}
