//! Opening a directory. In: the disk, the index database, options. Out: the writer, the log, and the merger's state,
//! all exactly as of the last commit.
//!
//! A **new** directory is made in an order that a crash cannot confuse: (1) the database says "mine, empty", (2) the first
//! file with its head, synced, and the index, (3) the first checkpoint. A directory whose database says nothing but
//! that has binlogs is somebody else's and is refused; one that stopped between (1) and (3) is made again.
//!
//! An **old** one is compared with the database first and changed only when nothing is wrong: bytes of the active file
//! behind the checkpoint are cut, files behind it removed, the index file written anew if it differs. Before that the
//! end of the active file is read and checked; how much of it does not depend on what is retained. Doing all this twice
//! is the same as doing it once, so a crash during recovery needs nothing special.

use std::{collections::BTreeMap, sync::Arc};

use tributary_binlog::{BinlogFile, GtidSet, Sid};
use tributary_flow::{Mutant, NodeSet, mutant};

use crate::{
    DurableEnd, GlobalLog, LogWriter, OpenError, Opened, StoreOptions, WriteError,
    core::{
        encode::{Pending, Sink},
        head::Stamp,
        index_file,
        plan::{Found, Plan, plan},
    },
    disk::{Disk, DiskFile, DiskLock},
    files::{create_file, index_temporary, read_text, write_index},
    full::RESERVE_BYTES,
    kv::{
        Kv, KvBatch,
        checkpoint::CheckpointRecord,
        meta::{FORMAT, Meta},
        node_set,
        purging::Purging,
        segment::Segment,
    },
    log::{FileEntry, Parts},
    purge,
    tail::{Active, check_active},
    writer::{ActiveFile, Start, State},
};

/// More files than this are not looked at; at 512 MiB each that is half an exabyte.
const FILES_MAX: usize = 1 << 30;

/// Opens the directory `disk` with its index database `kv`, making it if it is new, and brings it back to its last
/// commit. The first file with its head is durable, and readers see it, when this returns.
pub fn open(
    disk: Arc<dyn Disk>,
    kv: Arc<dyn Kv>,
    options: StoreOptions,
) -> Result<Opened, OpenError> {
    crate::claim::claim(disk, options, true)?.open(kv)
}

/// A directory being opened.
pub(crate) struct Opening {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) options: StoreOptions,
    pub(crate) lock: DiskLock,
}

impl Opening {
    pub(crate) fn create(self) -> Result<(Meta, Opened), OpenError> {
        if self.kv.get(&CheckpointRecord::key())?.is_some() {
            let detail = "there is a checkpoint, but the record of the format is missing";
            return Err(OpenError::Inconsistent {
                detail: detail.to_owned(),
            });
        }
        let index = self.options.index_name();
        let ours = |name: &String| *name == index || self.file_number(name).is_some();
        if let Some(file) = self.list()?.into_iter().find(ours) {
            return Err(OpenError::Foreign {
                dir: self.disk.describe(),
                file,
            });
        }
        let meta = Meta {
            format: FORMAT,
            server_uuid: self.options.new_uuid.to_string(),
            created: self.options.now_seconds,
            base_name: self.options.base_name.clone(),
        };
        let mut batch = KvBatch::new();
        batch.put(meta.pair());
        self.kv.write(&batch, true)?;
        let sid = self.options.new_uuid;
        let opened = self.first_file(sid, meta.created)?;
        Ok((meta, opened))
    }

    pub(crate) fn existing(self, meta: &Meta) -> Result<Opened, OpenError> {
        if meta.base_name != self.options.base_name {
            let (stored, configured) = (meta.base_name.clone(), self.options.base_name.clone());
            return Err(OpenError::BaseName { stored, configured });
        }
        let sid: Sid = meta
            .server_uuid
            .parse()
            .map_err(|e| OpenError::Inconsistent {
                detail: format!("stored server UUID: {e}"),
            })?;
        match self.kv.get(&CheckpointRecord::key())? {
            Some(value) => self.recover(sid, CheckpointRecord::decode(&value)?),
            None => {
                self.remove_unfinished()?;
                self.first_file(sid, meta.created)
            }
        }
    }

    /// Clears what a crash during creation has left: nothing was committed yet.
    fn remove_unfinished(&self) -> Result<(), OpenError> {
        let index = self.options.index_name();
        for name in self.list()? {
            match self.file_number(&name) {
                Some(1) => {}
                Some(_) => {
                    return Err(OpenError::Foreign {
                        dir: self.disk.describe(),
                        file: name,
                    });
                }
                None if name == index || name == index_temporary(&index) => {}
                None => continue,
            }
            self.disk
                .remove(&name)
                .map_err(OpenError::io(format!("removing {name}")))?;
        }
        Ok(())
    }

    fn first_file(self, sid: Sid, created: u32) -> Result<Opened, OpenError> {
        let file = BinlogFile::new(&self.options.base_name, 1);
        let stamp = Stamp {
            server_id: self.options.server_id,
            timestamp: created,
        };
        let (mut active, entry) =
            create_file(&self.disk, &file, stamp, &self.options, GtidSet::new(), 0)?;
        active
            .drain()
            .map_err(WriteError::io(format!("writing {file}")))?;
        active
            .handle
            .sync_data()
            .map_err(WriteError::sync(format!("syncing {file}")))?;
        write_index(&*self.disk, &self.options.index_name(), [&file])?;
        let record = CheckpointRecord {
            seq: 1,
            offset: active.pending.offset(),
            verify_from: 0,
            last_gno: 0,
            timestamp: created,
            max_timestamp: 0,
            merger: None,
        };
        let segment = Segment {
            seq: 1,
            sealed: None,
            first_gno: 1,
            previous_gtids: GtidSet::new(),
        };
        let mut batch = KvBatch::new();
        batch.put(record.pair()?);
        batch.put(segment.pair());
        self.kv.write(&batch, true)?;
        Ok(self.opened(sid, record, active, vec![entry], (None, None)))
    }

    fn recover(self, sid: Sid, record: CheckpointRecord) -> Result<Opened, OpenError> {
        let segments = self.segments()?;
        let sizes = self.sizes()?;
        let purging = self.kv.get(&Purging::key())?;
        let purging = purging.map(|value| Purging::decode(&value)).transpose()?;
        let base_name = &self.options.base_name;
        let (seq, offset) = (record.seq, record.offset);
        let plan = plan(&Found {
            base_name,
            seq,
            offset,
            segments: &segments,
            sizes: &sizes,
            purging,
        })?;
        let file = BinlogFile::new(base_name, seq);
        let opening = OpenError::io(format!("opening {file}"));
        let handle = self.disk.open(file.as_str(), true).map_err(opening)?;
        // `plan` has seen that the last record is the active file's.
        let first_gno = segments.last().map_or(1, |segment| segment.first_gno);
        check_active(&Active {
            file: &file,
            handle: &*handle,
            sid,
            first_gno,
            record: &record,
        })?;

        let entries: Vec<FileEntry> = segments
            .into_iter()
            .map(|segment| FileEntry {
                file: BinlogFile::new(base_name, segment.seq),
                sealed: segment.sealed,
                previous_gtids: Arc::new(segment.previous_gtids),
                readers: Arc::default(),
            })
            .collect();
        let removed: u64 = plan.behind.iter().filter_map(|f| sizes.get(&f.seq())).sum();
        self.apply(&plan, &*handle, &file, offset, &entries)?;
        if purging.is_some() {
            // Names that are gone may be gone from the page cache alone: the note must not be forgotten before they are.
            self.disk
                .sync_dir()
                .map_err(OpenError::io("syncing the directory"))?;
            purge::finish(&*self.kv)?;
        }
        let cut = plan.cut + removed;
        let truncated = (cut > 0).then(|| (file.clone(), cut));
        let pending = Pending {
            base: offset,
            ..Pending::default()
        };
        let active = ActiveFile {
            file,
            disk: self.disk.clone(),
            handle,
            reserve: RESERVE_BYTES,
            first_gno,
            pending,
            synced: offset,
            slice: 0,
            sync_failed: false,
        };
        let nodes = self.kv.get(&node_set::key())?;
        let nodes = nodes.map(|value| node_set::decode(&value)).transpose()?;
        Ok(self.opened(sid, record, active, entries, (truncated, nodes)))
    }

    /// Makes the disk look as the checkpoint says.
    fn apply(
        &self,
        plan: &Plan,
        handle: &dyn DiskFile,
        file: &BinlogFile,
        offset: u64,
        entries: &[FileEntry],
    ) -> Result<(), OpenError> {
        if let [first, ..] = plan.stray.as_slice() {
            tracing::warn!(
                dir = self.disk.describe(), file = %first, count = plan.stray.len(),
                "binlog files in front of the oldest known one are ignored"
            );
        }
        if plan.cut > 0 && !mutant(Mutant::KeepTail) {
            let cutting = || format!("cutting {file} to {offset} bytes");
            handle.truncate(offset).map_err(OpenError::io(cutting()))?;
            handle.sync_data().map_err(OpenError::io(cutting()))?;
        }
        let leaving = plan.behind.iter().chain(&plan.leaving);
        for file in leaving.filter(|_| !mutant(Mutant::KeepFilesBehind)) {
            self.disk
                .remove(file.as_str())
                .map_err(OpenError::io(format!("removing {file}")))?;
        }
        let index = self.options.index_name();
        let expected = index_file::text(entries.iter().map(|entry| &entry.file));
        let temporary = index_temporary(&index);
        let unfinished = self.disk.exists(&temporary);
        let unfinished = unfinished.map_err(OpenError::io(format!("looking for {temporary}")))?;
        if unfinished {
            self.disk
                .remove(&temporary)
                .map_err(OpenError::io(format!("removing {temporary}")))?;
        }
        if read_text(&*self.disk, &index).ok().as_deref() != Some(&*expected) {
            write_index(&*self.disk, &index, entries.iter().map(|entry| &entry.file))?;
        } else if unfinished || !(plan.behind.is_empty() && plan.leaving.is_empty()) {
            self.disk
                .sync_dir()
                .map_err(OpenError::io("syncing the directory"))?;
        }
        Ok(())
    }

    fn opened(
        self,
        server_uuid: Sid,
        record: CheckpointRecord,
        active: ActiveFile,
        files: Vec<FileEntry>,
        (truncated, nodes): (Option<(BinlogFile, u64)>, Option<NodeSet>),
    ) -> Opened {
        let Self {
            disk,
            kv,
            options,
            lock,
        } = self;
        let CheckpointRecord {
            last_gno,
            timestamp,
            max_timestamp,
            verify_from,
            merger,
            ..
        } = record;
        let durable = DurableEnd {
            file: active.file.clone(),
            offset: record.offset,
            last_gno,
            timestamp,
        };
        let log = GlobalLog::new(Parts {
            disk: disk.clone(),
            kv: Some(kv.clone()),
            server_uuid,
            files,
            executed_besides: GtidSet::new(),
            durable,
        });
        let checkpoint = merger.clone();
        let state = State {
            last_gno,
            timestamp,
            max_timestamp,
            verify_from,
            merger,
        };
        let start = Start {
            disk,
            kv,
            log: log.clone(),
            options,
            active,
            state,
            lock,
        };
        Opened {
            writer: LogWriter::new(start),
            log,
            checkpoint,
            nodes,
            truncated,
        }
    }

    fn list(&self) -> Result<Vec<String>, OpenError> {
        self.disk
            .list()
            .map_err(OpenError::io(format!("listing {}", self.disk.describe())))
    }

    /// The number of the binlog file called `name`, if it is one and called as we call them.
    fn file_number(&self, name: &str) -> Option<u64> {
        let file = BinlogFile::parse(name).ok()?;
        let canonical = BinlogFile::new(&self.options.base_name, file.seq());
        (canonical.as_str() == name).then_some(file.seq())
    }

    fn segments(&self) -> Result<Vec<Segment>, OpenError> {
        let (from, to) = Segment::range();
        let pairs = self.kv.scan(&from, &to, FILES_MAX)?;
        Ok(pairs
            .iter()
            .map(|(k, v)| Segment::decode(k, v))
            .collect::<Result<_, _>>()?)
    }

    fn sizes(&self) -> Result<BTreeMap<u64, u64>, OpenError> {
        let mut sizes = BTreeMap::new();
        for name in self.list()? {
            if let Some(seq) = self.file_number(&name) {
                let stat = self.disk.stat(&name);
                let stat = stat.map_err(OpenError::io(format!("looking at {name}")))?;
                sizes.insert(seq, stat.len);
            }
        }
        Ok(sizes)
    }
}
