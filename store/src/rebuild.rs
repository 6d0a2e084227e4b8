//! Makes the index database anew. In: the binlog files, and what is left of the database. Out: records of the files, and the
//! GTID, time and TSO indexes, all from the files; the checkpoint, if the old one could be kept.
//!
//! What is in no file cannot be made again: how far each node has been merged, saved branches, the history of the schema.
//! Of a database that has a checkpoint all of that is kept, and only what the files say is replaced. Without one the log
//! ends behind the last whole transaction, and the progress of the nodes is unknown: see [`Rebuilt::progress_is_known`].
//!
//! Damage anywhere but in an unfinished end of the last file stops it. Nothing but the database is written, and the records
//! that make it valid are written last, so it can be stopped and run again.

use std::sync::Arc;

use tributary_binlog::{BinlogFile, ChecksumAlg, MAGIC, Sid};

use crate::{
    INDEX_SUFFIX, OpenError,
    claim::{lock, read_format},
    core::{
        audit::Audit,
        owner::check_format,
        reindex::{End, Reindex},
    },
    disk::{Disk, DiskFile},
    foreign::{HeadError, read_head},
    kv::{
        KeyKind, Kv, KvBatch,
        checkpoint::CheckpointRecord,
        meta::{FORMAT, Meta},
        range_of,
        segment::Segment,
    },
    scan::{FileScan, ScanError},
};

/// Index entries written in one go.
const BATCH_ENTRIES: usize = 4096;

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Binlog files.
    pub files: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Index entries made.
    pub entries: u64,
    /// Number of the last GTID.
    pub last_gno: u64,
    /// Where the log ends.
    pub end: (BinlogFile, u64),
    /// Whether the database still had a checkpoint. If not, nobody knows which transactions of the nodes are in the log,
    /// and the service must be told where to begin with each node.
    pub progress_is_known: bool,
}

/// Rebuilds the index database `kv` of the directory `disk`, which nobody else may have open.
pub fn rebuild(disk: &Arc<dyn Disk>, kv: &dyn Kv) -> Result<Rebuilt, OpenError> {
    let _lock = lock(&**disk)?;
    let meta = known_meta(&**disk, kv)?;
    let checkpoint = kv.get(&CheckpointRecord::key())?;
    let checkpoint = checkpoint
        .map(|value| CheckpointRecord::decode(&value))
        .transpose()?;
    let base = match &meta {
        Some(meta) => meta.base_name.clone(),
        None => base_name(&**disk)?,
    };
    let files = files(&**disk, &base)?;
    for kind in [KeyKind::GtidIndex, KeyKind::TsoIndex, KeyKind::TimeIndex] {
        let (from, to) = range_of(kind);
        let mut batch = KvBatch::new();
        batch.delete_range(from, to);
        kv.write(&batch, false)?;
    }
    let mut walk = Walk {
        disk: &**disk,
        kv,
        committed: checkpoint.as_ref().map(|c| (c.seq, c.offset)),
        audit: Audit::new(true),
        index: Reindex::default(),
        entries: 0,
    };
    walk.all(&files)?;
    walk.write_entries(0)?;
    walk.finish(meta, checkpoint, &base)
}

/// What the database or the format file says the directory is.
fn known_meta(disk: &dyn Disk, kv: &dyn Kv) -> Result<Option<Meta>, OpenError> {
    let format = |e: serde_json::Error| OpenError::FormatFile {
        dir: disk.describe(),
        detail: e.to_string(),
    };
    let meta = match kv.get(&Meta::key())? {
        Some(value) => Some(Meta::decode(&value)?),
        None => {
            let text = read_format(disk)?;
            text.map(|text| Meta::from_text(&text).map_err(format))
                .transpose()?
        }
    };
    if let Some(meta) = &meta {
        check_format(&disk.describe(), meta.format)?;
    }
    Ok(meta)
}

/// The base name of the one index file.
fn base_name(disk: &dyn Disk) -> Result<String, OpenError> {
    let names = disk.list().map_err(OpenError::io("listing files"))?;
    let mut bases = names.iter().filter_map(|n| n.strip_suffix(INDEX_SUFFIX));
    match (bases.next(), bases.next()) {
        (Some(base), None) => Ok(base.to_owned()),
        _ => Err(OpenError::Index {
            name: format!("*{INDEX_SUFFIX}"),
            detail: "there must be exactly one to know what the binlog files are called".to_owned(),
        }),
    }
}

/// The binlog files, oldest first, without a gap.
fn files(disk: &dyn Disk, base: &str) -> Result<Vec<BinlogFile>, OpenError> {
    let names = disk.list().map_err(OpenError::io("listing files"))?;
    let parsed = names.iter().filter_map(|name| BinlogFile::parse(name).ok());
    let mut files: Vec<BinlogFile> = parsed.filter(|file| file.base() == base).collect();
    files.sort();
    if files.is_empty() {
        let detail = format!("{} has no binlog files", disk.describe());
        return Err(OpenError::Inconsistent { detail });
    }
    for pair in files.windows(2) {
        if let [file, next] = pair
            && file.next() != *next
        {
            return Err(OpenError::MissingFile { file: file.next() });
        }
    }
    Ok(files)
}

/// A walk over all files.
struct Walk<'a> {
    disk: &'a dyn Disk,
    kv: &'a dyn Kv,
    /// Where the log ends, if the checkpoint is known: file number and offset.
    committed: Option<(u64, u64)>,
    audit: Audit,
    index: Reindex,
    entries: u64,
}

impl Walk<'_> {
    fn all(&mut self, files: &[BinlogFile]) -> Result<(), OpenError> {
        let last = match self.committed {
            Some((seq, _)) => files.iter().position(|file| file.seq() == seq),
            None => files.len().checked_sub(1),
        };
        let Some(last) = last else {
            let detail = "the file of the checkpoint is missing".to_owned();
            return Err(OpenError::Inconsistent { detail });
        };
        for (i, file) in files.iter().enumerate().take(last + 1) {
            let opened = self.disk.open(file.as_str(), false);
            let handle = opened.map_err(OpenError::io(format!("opening {file}")))?;
            let size = handle
                .len()
                .map_err(OpenError::io(format!("opening {file}")))?;
            if i < last {
                self.file(file, &*handle, size, files.get(i + 1))?;
                self.index.seal(size);
                continue;
            }
            let end = self.committed.map_or(size, |(_, offset)| offset);
            if end > size {
                return Err(OpenError::ShortFile {
                    file: file.clone(),
                    size,
                    committed: end,
                });
            }
            match self.file(file, &*handle, end, None) {
                // An end that was never finished; the log stops before it.
                Err(Stop::Unfinished) if self.committed.is_none() => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Every event of a file of `end` bytes; `next` is the file behind it.
    fn file(
        &mut self,
        file: &BinlogFile,
        handle: &dyn DiskFile,
        end: u64,
        next: Option<&BinlogFile>,
    ) -> Result<(), Stop> {
        let corrupt = |pos: u64, detail: String| {
            Stop::Error(OpenError::Corrupt {
                file: file.clone(),
                pos,
                detail,
            })
        };
        self.index.begin_file(file.seq());
        self.audit.begin_file();
        let head = match read_head(handle, end) {
            Ok(head) => head,
            Err(HeadError::Scan(ScanError::CutOff { .. })) if next.is_none() => {
                return Err(Stop::Unfinished);
            }
            Err(e) => return Err(corrupt(e.pos().unwrap_or(0), e.to_string())),
        };
        let previous = head.previous.unwrap_or_default();
        let begun = self.index.head(&previous, head.end);
        begun.map_err(|e| corrupt(head.end, e))?;
        let mut scan = FileScan::new(handle, MAGIC.len() as u64, end, ChecksumAlg::None);
        let mut found = Vec::new();
        loop {
            let pos = scan.pos();
            let event = match scan.next() {
                Ok(None) => break,
                Ok(Some(event)) => event,
                Err(ScanError::CutOff { .. }) if next.is_none() => return Err(Stop::Unfinished),
                Err(e) => return Err(corrupt(e.pos().unwrap_or(pos), e.to_string())),
            };
            if let Some(damage) = &event.damage {
                return Err(corrupt(pos, damage.to_string()));
            }
            self.audit.event(&event, &mut found);
            self.index.event(&event).map_err(|e| corrupt(pos, e))?;
            if let Some((pos, detail)) = found.pop() {
                return Err(corrupt(pos, detail));
            }
            self.write_entries(BATCH_ENTRIES)?;
        }
        if let Some(next) = next {
            self.audit.end_file(end, Some(next.as_str()), &mut found);
            if let Some((pos, detail)) = found.pop() {
                return Err(corrupt(pos, detail));
            }
        }
        Ok(())
    }

    /// Writes what was collected, once it is more than `most`.
    fn write_entries(&mut self, most: usize) -> Result<(), OpenError> {
        if self.index.entries.len() > most {
            let mut batch = KvBatch::new();
            self.entries += self.index.entries.len() as u64;
            self.index
                .entries
                .drain(..)
                .for_each(|pair| batch.put(pair));
            self.kv.write(&batch, false)?;
        }
        Ok(())
    }

    /// Writes the records that make the database valid.
    fn finish(
        self,
        meta: Option<Meta>,
        checkpoint: Option<CheckpointRecord>,
        base: &str,
    ) -> Result<Rebuilt, OpenError> {
        let End {
            seq,
            offset,
            last_gno,
            timestamp,
            max_timestamp,
        } = self.index.end;
        let progress_is_known =
            last_gno == 0 || checkpoint.as_ref().is_some_and(|c| c.merger.is_some());
        let wrong = |detail: &str| OpenError::Inconsistent {
            detail: detail.to_owned(),
        };
        if let Some(old) = &checkpoint
            && (old.seq, old.offset, old.last_gno) != (seq, offset, last_gno)
        {
            return Err(wrong("the checkpoint is not at the end of a transaction"));
        }
        let sid = match (&meta, self.index.sid()) {
            (Some(meta), found) => {
                let stored: Option<Sid> = meta.server_uuid.parse().ok();
                if stored.is_none() || found.is_some_and(|found| stored != Some(found)) {
                    return Err(wrong(
                        "the binlog files have another UUID than the directory",
                    ));
                }
                stored
            }
            (None, found) => found,
        };
        let sid = sid.ok_or_else(|| wrong("there is no transaction, and nothing to rebuild"))?;
        let meta = meta.unwrap_or_else(|| Meta {
            format: FORMAT,
            server_uuid: sid.to_string(),
            created: timestamp,
            base_name: base.to_owned(),
        });
        let record = checkpoint.unwrap_or(CheckpointRecord {
            seq,
            offset,
            // All of the active file is checked once more.
            verify_from: 0,
            last_gno,
            timestamp,
            max_timestamp,
            merger: None,
        });
        let mut batch = KvBatch::new();
        batch.put(meta.pair());
        batch.put(record.pair()?);
        let (from, to) = Segment::range();
        batch.delete_range(from, to);
        let live = self.index.segments.iter().filter(|s| s.seq <= seq);
        let files = live.clone().count() as u64;
        for segment in live {
            let mut segment = segment.clone();
            segment.sealed = segment.sealed.filter(|_| segment.seq < seq);
            batch.put(segment.pair());
        }
        self.kv.write(&batch, true)?;
        Ok(Rebuilt {
            files,
            transactions: self.audit.transactions,
            entries: self.entries,
            last_gno,
            end: (BinlogFile::new(base, seq), offset),
            progress_is_known,
        })
    }
}

/// Why a file was not walked to its end.
enum Stop {
    /// It ends in the middle of something, as an active file may.
    Unfinished,
    Error(OpenError),
}

impl From<OpenError> for Stop {
    fn from(e: OpenError) -> Self {
        Self::Error(e)
    }
}

impl From<Stop> for OpenError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Error(e) => e,
            Stop::Unfinished => Self::Inconsistent {
                detail: "a committed file ends inside an event".to_owned(),
            },
        }
    }
}
