//! The read side. In: the durable end, as the writer publishes it. Out: files, positions and GTID sets, none of which
//! ever shows anything past that end.

use std::{
    borrow::Borrow,
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;
use tributary_binlog::{BinlogFile, BinlogPos, ChecksumAlg, Gno, GtidSet, MAGIC, Sid, Tag};
use tributary_flow::{Mutant, mutant};

use crate::{
    FileReader, OpenError, ReadError, StartError,
    core::start,
    disk::{Disk, DiskFile},
    foreign::{HeadError, read_head},
    kv::{IndexPlace, Kv, RecordError, gtid_index, time_index, tso_index},
    scan::ScanError,
};

/// Up to where everything is on disk, checkpoint included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurableEnd {
    /// The active file.
    pub file: BinlogFile,
    /// Its durable length.
    pub offset: u64,
    /// Number of the last GTID; 0 = none yet.
    pub last_gno: u64,
    /// Header timestamp of the last transaction; of the directory's creation before the first one.
    pub timestamp: u32,
}

/// A binlog file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name.
    pub file: BinlogFile,
    /// Its size in bytes; of the active file, its durable size.
    pub size: u64,
    /// Whether it is still written to.
    pub active: bool,
    /// All GTIDs of earlier files: its PREVIOUS_GTIDS.
    pub previous_gtids: Arc<GtidSet>,
}

/// A file as the log keeps it.
#[derive(Clone, Debug)]
pub(crate) struct FileEntry {
    pub(crate) file: BinlogFile,
    /// Final size; `None` for the active file.
    pub(crate) sealed: Option<u64>,
    pub(crate) previous_gtids: Arc<GtidSet>,
    /// Held by readers of the file, too: it is not purged under them, unless they are told.
    pub(crate) readers: Arc<Lease>,
}

/// What a reader of a file holds.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    /// The file was purged all the same.
    gone: AtomicBool,
}

impl Lease {
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

/// The global binlog, for reading. Clones are the same log.
#[derive(Clone)]
pub struct GlobalLog {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    kv: Option<Arc<dyn Kv>>,
    server_uuid: Sid,
    /// In order. Always changed before the durable end that makes the change visible.
    files: RwLock<Vec<FileEntry>>,
    /// What has been executed besides `server_uuid:1-last_gno`.
    executed_besides: GtidSet,
    durable: watch::Sender<DurableEnd>,
    damaged: Mutex<BTreeMap<BinlogFile, Damage>>,
}

/// A place at which a file was found to be damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: BinlogFile,
    /// The damaged event's offset in bytes, or 0.
    pub pos: u64,
    /// What is wrong.
    pub detail: String,
}

/// What a log is made of.
pub(crate) struct Parts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) kv: Option<Arc<dyn Kv>>,
    pub(crate) server_uuid: Sid,
    pub(crate) files: Vec<FileEntry>,
    pub(crate) executed_besides: GtidSet,
    pub(crate) durable: DurableEnd,
}

impl Shared {
    /// The index database; a foreign directory has none.
    pub(crate) fn kv(&self) -> Option<&Arc<dyn Kv>> {
        self.kv.as_ref()
    }
}

impl fmt::Debug for GlobalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlobalLog")
            .field("disk", &self.shared.disk.describe())
            .field("durable", &self.durable())
            .finish_non_exhaustive()
    }
}

impl GlobalLog {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            disk,
            kv,
            server_uuid,
            files,
            executed_besides,
            durable,
        } = parts;
        let (files, durable) = (RwLock::new(files), watch::Sender::new(durable));
        let shared = Shared {
            disk,
            kv,
            server_uuid,
            files,
            executed_besides,
            durable,
            damaged: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A log over a directory of finished binlog files, made by any MySQL server; read-only, without an index
    /// database. The durable end is the end of the last whole event of the last file.
    pub fn from_dir(disk: Arc<dyn Disk>, index_name: &str) -> Result<Self, OpenError> {
        crate::foreign::open(disk, index_name)
    }

    /// The UUID of the server whose GTIDs these are.
    pub fn server_uuid(&self) -> Sid {
        self.shared.server_uuid
    }

    /// Up to where everything is on disk.
    pub fn durable(&self) -> DurableEnd {
        self.shared.durable.borrow().clone()
    }

    /// Follows [`GlobalLog::durable`].
    pub fn subscribe(&self) -> watch::Receiver<DurableEnd> {
        self.shared.durable.subscribe()
    }

    /// The files, oldest first.
    pub fn files(&self) -> Vec<FileInfo> {
        let end = self.durable();
        self.shared
            .entries()
            .iter()
            .filter_map(|entry| entry.info(&end))
            .collect()
    }

    /// The file called `name`.
    pub fn find(&self, name: &str) -> Option<FileInfo> {
        let end = self.durable();
        let entries = self.shared.entries();
        entries
            .iter()
            .find(|entry| entry.file.as_str() == name)?
            .info(&end)
    }

    /// The file behind `file`, if there is one already.
    pub fn next_file(&self, file: &BinlogFile) -> Option<FileInfo> {
        let end = self.durable();
        let entries = self.shared.entries();
        let at = entries.iter().position(|entry| entry.file == *file)?;
        entries.get(at + 1)?.info(&end)
    }

    /// A reader of `file`. While there is one, the file is not purged.
    pub fn open(&self, file: &BinlogFile) -> Result<FileReader, ReadError> {
        let end = self.durable();
        let entries = self.shared.entries();
        let found = entries
            .iter()
            .find(|entry| entry.file == *file && entry.info(&end).is_some());
        let Some(entry) = found else {
            return Err(ReadError::NoSuchFile { file: file.clone() });
        };
        let held = entry.readers.clone();
        let previous = entry.previous_gtids.clone();
        drop(entries);
        let opened = self.shared.disk.open(file.as_str(), false);
        let handle = opened.map_err(|source| ReadError::Io {
            file: file.clone(),
            offset: 0,
            source,
        })?;
        if self.shared.kv.is_some() {
            let size = self.shared.visible(file).0;
            let checked = check_head(file, &*handle, size, &previous);
            // Of a file that has just been purged nothing is to be seen any more.
            if held.is_gone() {
                return Err(ReadError::Purged { file: file.clone() });
            }
            checked.inspect_err(|e| self.note_damage(e))?;
        }
        let shared = self.shared.clone();
        Ok(FileReader::new(shared, file.clone(), handle, held))
    }

    /// Remembers that a file is damaged at `pos`, for the status. Answers whether that is news. It is forgotten when the
    /// file is purged, and at the next start.
    pub fn report_damage(&self, file: &BinlogFile, pos: u64, detail: &str) -> bool {
        let mut damaged = self.shared.damaged();
        let news = damaged.get(file).is_none_or(|known| pos < known.pos);
        if news {
            let detail = detail.to_owned();
            let file = file.clone();
            damaged.insert(file.clone(), Damage { file, pos, detail });
        }
        news
    }

    /// The files of the log that were found to be damaged, each with the first place.
    pub fn damaged(&self) -> Vec<Damage> {
        let oldest = self.shared.entries().first().map(|e| e.file.clone());
        let mut damaged = self.shared.damaged();
        damaged.retain(|file, _| oldest.as_ref().is_some_and(|oldest| file >= oldest));
        damaged.values().cloned().collect()
    }

    fn note_damage(&self, error: &ReadError) {
        if let ReadError::Damaged { file, pos, detail } = error {
            self.report_damage(file, *pos, detail);
        }
    }

    /// `@@gtid_executed`: every GTID up to the durable end.
    pub fn gtid_executed(&self) -> GtidSet {
        let last = self.durable().last_gno;
        let mut set = self.shared.executed_besides.clone();
        set.union(&own_gtids(self.shared.server_uuid, last));
        set
    }

    /// `@@gtid_purged`: every GTID that is in no file any more.
    pub fn gtid_purged(&self) -> GtidSet {
        let entries = self.shared.entries();
        entries
            .first()
            .map(|entry| (*entry.previous_gtids).clone())
            .unwrap_or_default()
    }

    /// The file from which a client that has exactly `client` must be served: the newest one whose PREVIOUS_GTIDS the
    /// client has.
    pub fn start_file(&self, client: &GtidSet) -> Result<FileInfo, StartError> {
        let executed = self.gtid_executed();
        let end = self.durable();
        let entries = self.shared.entries();
        let shown = entries.partition_point(|entry| entry.file <= end.file);
        let files = entries.get(..shown).unwrap_or_default();
        let purged = files.first().map(|f| (*f.previous_gtids).clone());
        let source = start::Source {
            server_uuid: self.shared.server_uuid,
            executed: &executed,
            purged: &purged.unwrap_or_default(),
            files,
        };
        let chosen = files.get(start::choose(&source, client)?);
        chosen
            .and_then(|entry| entry.info(&end))
            .ok_or(StartError::NoFiles)
    }

    /// The start of some transaction at or before the one with the number `gno`, from which the way to it is short;
    /// `None` if the index has nothing nearer than the start of a file.
    pub fn locate_gno(&self, gno: u64) -> Result<Option<BinlogPos>, ReadError> {
        let Some(kv) = &self.shared.kv else {
            return Ok(None);
        };
        self.place(gtid_index::floor(&**kv, gno)?)
    }

    /// The start of some transaction before which all have a TSO below `tso` (µs).
    pub fn locate_tso(&self, tso: u64) -> Result<Option<BinlogPos>, ReadError> {
        let Some(kv) = &self.shared.kv else {
            return Ok(None);
        };
        self.place(tso_index::floor(&**kv, tso)?)
    }

    /// The start of some transaction before which all have a header timestamp below `seconds`.
    pub fn locate_time(&self, seconds: u32) -> Result<Option<BinlogPos>, ReadError> {
        let Some(kv) = &self.shared.kv else {
            return Ok(None);
        };
        self.place(time_index::floor(&**kv, seconds)?)
    }

    /// An index entry as a position, if it is inside what readers may see.
    fn place(
        &self,
        found: Option<Result<IndexPlace, RecordError>>,
    ) -> Result<Option<BinlogPos>, ReadError> {
        let Some(place) = found.transpose()? else {
            return Ok(None);
        };
        let end = self.durable();
        let entries = self.shared.entries();
        let entry = entries.iter().find(|entry| entry.file.seq() == place.seq);
        let info = entry.and_then(|entry| entry.info(&end));
        // An entry is stored a moment before its group is published.
        Ok(info
            .filter(|info| place.offset < info.size)
            .map(|info| BinlogPos {
                file: info.file,
                offset: place.offset,
            }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// The head of one of our own files: magic, format description and PREVIOUS_GTIDS are as they were written. What follows
/// has checksums that a reader can trust only if the head says so.
fn check_head(
    file: &BinlogFile,
    handle: &dyn DiskFile,
    size: u64,
    previous: &GtidSet,
) -> Result<(), ReadError> {
    let damaged = |pos, detail: String| ReadError::Damaged {
        file: file.clone(),
        pos,
        detail,
    };
    let head = read_head(handle, size).map_err(|e| match e {
        HeadError::Scan(ScanError::Io(source)) => ReadError::Io {
            file: file.clone(),
            offset: 0,
            source,
        },
        e => damaged(e.pos().unwrap_or(0), e.to_string()),
    })?;
    if head.format.checksum != ChecksumAlg::Crc32 || head.flags != 0 {
        let detail = "the format description is not one of this log".to_owned();
        return Err(damaged(MAGIC.len() as u64, detail));
    }
    if head.previous.as_ref() != Some(previous) {
        let detail = "PREVIOUS_GTIDS is not what the index database says".to_owned();
        return Err(damaged(MAGIC.len() as u64, detail));
    }
    Ok(())
}

impl Shared {
    fn damaged(&self) -> MutexGuard<'_, BTreeMap<BinlogFile, Damage>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn entries(&self) -> RwLockReadGuard<'_, Vec<FileEntry>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a commit visible: `sealed` and `added` first, then the end.
    pub(crate) fn publish(
        &self,
        sealed: &[(BinlogFile, u64)],
        added: impl IntoIterator<Item = FileEntry>,
        end: DurableEnd,
    ) {
        let before = self.durable.borrow().clone();
        assert!(
            (end.file.seq(), end.offset) >= (before.file.seq(), before.offset),
            "the durable end never goes back"
        );
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files.extend(added);
        for (file, size) in sealed {
            if let Some(entry) = files.iter_mut().rev().find(|entry| entry.file == *file) {
                entry.sealed = Some(*size);
            }
        }
        drop(files);
        self.durable.send_replace(end);
    }

    /// Takes finished files out of the log, oldest first, up to but not including number `end`, and stops at the first
    /// that somebody reads, unless `in_use` ones are taken, too: their readers find them gone. Answers what was taken.
    pub(crate) fn take_before(&self, end: u64, in_use: bool) -> Vec<BinlogFile> {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let free = |entry: &&FileEntry| {
            let free = in_use || !entry.is_read() || mutant(Mutant::PurgeUnderReaders);
            entry.file.seq() < end && entry.sealed.is_some() && free
        };
        let count = files.iter().take_while(free).count();
        let taken = files.drain(..count);
        taken
            .map(|entry| {
                entry.readers.gone.store(true, Ordering::Relaxed);
                entry.file
            })
            .collect()
    }

    /// How far readers may read in `file`, and whether it is the active one.
    pub(crate) fn visible(&self, file: &BinlogFile) -> (u64, bool) {
        let end = self.durable.borrow().clone();
        if end.file == *file {
            return (end.offset, true);
        }
        let entries = self.entries();
        let info = entries
            .iter()
            .find(|entry| entry.file == *file)
            .and_then(|entry| entry.info(&end));
        (info.map_or(0, |info| info.size), false)
    }
}

impl Borrow<GtidSet> for FileEntry {
    fn borrow(&self) -> &GtidSet {
        &self.previous_gtids
    }
}

impl FileEntry {
    /// Whether somebody reads it.
    fn is_read(&self) -> bool {
        self.is_read_besides(0)
    }

    /// The same, of an entry of which there are so many copies.
    pub(crate) fn is_read_besides(&self, copies: usize) -> bool {
        Arc::strong_count(&self.readers) > 1 + copies
    }

    /// The file as it is when the log ends at `end`; `None` if it lies behind that.
    fn info(&self, end: &DurableEnd) -> Option<FileInfo> {
        let active = self.file == end.file;
        let size = if active {
            end.offset
        } else if self.file < end.file {
            self.sealed?
        } else {
            return None;
        };
        let (file, previous_gtids) = (self.file.clone(), self.previous_gtids.clone());
        Some(FileInfo {
            file,
            size,
            active,
            previous_gtids,
        })
    }
}

/// The set `sid:1-last`.
pub(crate) fn own_gtids(sid: Sid, last: u64) -> GtidSet {
    let mut set = GtidSet::new();
    if let (Some(first), Some(last)) = (Gno::new(1), Gno::new(last)) {
        set.add_interval(sid, Tag::EMPTY, first, last);
    }
    set
}
