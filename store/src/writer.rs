//! The one writer. In: merged batches. Out: bytes in the active file, and a durable end that readers may follow.
//!
//! # The steps, and what a crash between them leaves
//!
//! [`LogWriter::append`] encodes into memory and may write (never sync) the active file ahead of the commit. Where a file
//! is full it is **sealed** at once:
//!
//! 1. ROTATE is written and the file synced;
//! 2. the next file is created and its head buffered.
//!
//! [`LogWriter::commit`] then
//!
//! 3. writes what is buffered and syncs the active file;
//! 4. if files were created: writes the index file anew (temporary file, sync, rename) and syncs the directory, which
//!    makes the new files' names durable, too;
//! 5. writes one synced batch to the index database: checkpoint with the active file and its length, records of the
//!    files that were sealed or created, index entries;
//! 6. publishes the durable end to readers.
//!
//! | crash | left behind | recovery |
//! |---|---|---|
//! | before or inside 1 | bytes, whole, torn or missing, behind the checkpoint of file A | A is cut to the checkpoint |
//! | between 1 and 5 | A with ROTATE; perhaps B, C …, with any contents, or their names lost; perhaps an index that names them, or its temporary file | A is cut to the checkpoint (its ROTATE was shown to nobody), B, C … are removed, the index is written anew |
//! | inside 5 | as before, or as after 5: the batch is atomic | as the database says |
//! | between 5 and 6 | everything: A's final size and B's head were synced in 1 and 3, B's name in 4 | nothing to do |
//!
//! Since the database's checkpoint is the only thing that says what is committed, and everything it refers to was synced
//! before, no order of events needs more than "cut, remove, write the index". What is cut is asked for again from the
//! nodes and encoded to the same bytes.
//!
//! A write for which there is no space is undone, and may be tried again (`full`). Any other failure **poisons** the writer: after a failed `fsync` nobody knows what is on disk (the kernel may have dropped
//! the dirty pages and report success next time), so only a restart with its recovery may go on.

use std::{io, sync::Arc};

use tributary_binlog::BinlogFile;
use tributary_flow::{Checkpoint, GlobalTxn, MergedBatch, Mutant, limits, mutant};

use crate::{
    DurableEnd, EncodeError, GlobalLog, StoreOptions, WriteError,
    core::{
        encode::{DRAIN_BYTES, Encoder, Numbers, Pending, Sink},
        head::{self, Stamp},
    },
    disk::{Disk, DiskFile, DiskLock},
    files::{create_file, write_index},
    kv::{
        IndexPlace, Kv, KvBatch, KvOp, checkpoint::CheckpointRecord, gtid_index, schema,
        segment::Segment, time_index, tso_index,
    },
    log::{FileEntry, own_gtids},
};

/// Index entries of one file are at least this many bytes apart.
pub(crate) const INDEX_STEP_BYTES: u64 = 256 << 10;
/// Recovery checks at least the last group; once this much lies behind where it starts, it starts later.
const VERIFY_STEP_BYTES: u64 = 1 << 20;

/// Appends transactions to the global binlog. There is one, and it blocks: give it a thread of its own.
pub struct LogWriter {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) log: GlobalLog,
    pub(crate) options: StoreOptions,
    encoder: Encoder,
    pub(crate) active: ActiveFile,
    pub(crate) state: State,
    group: Group,
    /// Whether files are purged although somebody reads them.
    pub(crate) purge_in_use: bool,
    poison: Option<String>,
    _lock: DiskLock,
}

/// What is true behind the last appended transaction.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) last_gno: u64,
    pub(crate) timestamp: u32,
    pub(crate) max_timestamp: u32,
    pub(crate) verify_from: u64,
    pub(crate) merger: Option<Checkpoint>,
}

/// The file being written.
pub(crate) struct ActiveFile {
    pub(crate) file: BinlogFile,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) handle: Arc<dyn DiskFile>,
    /// Free space that a write must leave, in bytes.
    pub(crate) reserve: u64,
    /// Number of the first transaction that is, or would be, in it.
    pub(crate) first_gno: u64,
    pub(crate) pending: Pending,
    /// Up to where the file is synced, or is to be synced by the next commit alone.
    pub(crate) synced: u64,
    /// An event of a large transaction before which everything was synced ahead of its commit.
    pub(crate) slice: u64,
    /// A sync in the middle of a transaction has failed.
    pub(crate) sync_failed: bool,
}

impl Sink for ActiveFile {
    fn pending(&mut self) -> &mut Pending {
        &mut self.pending
    }

    fn drain(&mut self) -> io::Result<()> {
        self.check_room(self.pending.bytes.len() as u64)?;
        self.handle
            .write_at(self.pending.base, &self.pending.bytes)?;
        self.pending.base = self.pending.offset();
        self.pending.bytes.clear();
        if self.pending.base.saturating_sub(self.synced) >= limits::SYNC_SLICE_BYTES {
            self.sync_slice()?;
        }
        Ok(())
    }
}

impl ActiveFile {
    /// Syncs a part of a large transaction ahead of its commit, whose own sync is short then.
    fn sync_slice(&mut self) -> io::Result<()> {
        self.sync_failed = true;
        self.handle.sync_data()?;
        self.sync_failed = false;
        self.synced = self.pending.base;
        self.slice = self.pending.event;
        Ok(())
    }

    /// Fails if `len` more bytes would not leave the reserve.
    fn check_room(&self, len: u64) -> io::Result<()> {
        if let Some(free) = self.disk.free_bytes()?
            && free < len.saturating_add(self.reserve)
        {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "{free} bytes are free, {len} are to be written, {} are kept back",
                    self.reserve
                ),
            ));
        }
        Ok(())
    }
}

/// What the next commit has to do.
#[derive(Default)]
struct Group {
    /// Transactions or files were appended.
    bytes: bool,
    /// The merger's state changed.
    progress: bool,
    /// Files sealed since the last commit, with their sizes.
    sealed: Vec<Sealed>,
    /// Files created since the last commit.
    created: Vec<FileEntry>,
    /// Where transactions begin: the group's first in each file.
    marks: Vec<Mark>,
    /// Where the last index entry was put.
    indexed: Option<IndexPlace>,
    /// Branches to keep and to forget, and the nodes.
    branches: Vec<KvOp>,
    /// What has changed of the schemas' state.
    schema: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Bytes of these.
    branch_bytes: u64,
}

struct Sealed {
    file: BinlogFile,
    size: u64,
    first_gno: u64,
}

/// A place that may get index entries.
struct Mark {
    place: IndexPlace,
    gno: u64,
    tso: u64,
    /// Greatest timestamp of what lies before.
    max_timestamp: u32,
}

/// What a writer starts from.
pub(crate) struct Start {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) log: GlobalLog,
    pub(crate) options: StoreOptions,
    pub(crate) active: ActiveFile,
    pub(crate) state: State,
    pub(crate) lock: DiskLock,
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter")
            .field("file", &self.active.file)
            .field("offset", &self.active.pending.offset())
            .field("last_gno", &self.state.last_gno)
            .field("poison", &self.poison)
            .finish_non_exhaustive()
    }
}

impl LogWriter {
    pub(crate) fn new(start: Start) -> Self {
        let Start {
            disk,
            kv,
            log,
            options,
            active,
            state,
            lock,
        } = start;
        let encoder = Encoder::new(options.server_id, log.server_uuid());
        let group = Group::default();
        let (poison, _lock) = (None, lock);
        Self {
            disk,
            kv,
            log,
            options,
            encoder,
            active,
            state,
            group,
            purge_in_use: false,
            poison,
            _lock,
        }
    }

    /// Encodes `batch` behind what was appended before. Nothing of it is visible or durable before the next
    /// [`LogWriter::commit`]. A file that has reached its size is finished behind the transaction that reached it. After
    /// [`WriteError::Full`] nothing appended since the last commit is left: append all of it again.
    pub fn append(&mut self, batch: &MergedBatch) -> Result<(), WriteError> {
        self.check_poison()?;
        let result = batch.txns.iter().try_for_each(|txn| self.append_txn(txn));
        let result = result.and_then(|()| {
            let mut branches = batch.branches.iter();
            branches.try_for_each(|op| self.change_branch(op))
        });
        if result.is_ok() && !batch.schema.is_empty() {
            self.group.schema.extend_from_slice(&batch.schema);
            self.group.progress = true;
        }
        if result.is_ok() && self.state.merger.as_ref() != Some(&batch.checkpoint) {
            self.state.merger = Some(batch.checkpoint.clone());
            self.group.progress = true;
        }
        self.settle(result)
    }

    /// Makes everything appended so far durable, then visible. Without anything new it does nothing. After
    /// [`WriteError::Full`] as for [`LogWriter::append`].
    pub fn commit(&mut self) -> Result<DurableEnd, WriteError> {
        self.check_poison()?;
        let result = self.commit_group();
        self.settle(result)
    }

    /// Bytes appended and not yet committed.
    pub fn pending_bytes(&self) -> usize {
        let end = self.log.durable();
        let mut bytes = self.active.pending.offset();
        if self.active.file == end.file {
            bytes -= end.offset;
        } else {
            let sealed = self.group.sealed.iter();
            bytes += sealed
                .map(|s| {
                    if s.file == end.file {
                        s.size - end.offset
                    } else {
                        s.size
                    }
                })
                .sum::<u64>();
        }
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Number of the last appended transaction; 0 = none yet.
    pub fn last_gno(&self) -> u64 {
        self.state.last_gno
    }

    pub(crate) fn check_poison(&self) -> Result<(), WriteError> {
        match &self.poison {
            Some(cause) => Err(WriteError::Poisoned {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    pub(crate) fn poison_on_error<T>(
        &mut self,
        result: Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        if let Err(e) = &result
            && !mutant(Mutant::GoOnAfterFailure)
        {
            self.poison = Some(e.to_string());
        }
        result
    }

    /// Undoes what did not fit on the disk; any other failure is final.
    fn settle<T>(&mut self, result: Result<T, WriteError>) -> Result<T, WriteError> {
        match result {
            Err(full) if full.is_full() => {
                let undone = self.roll_back();
                self.poison_on_error(undone)?;
                Err(full)
            }
            result => self.poison_on_error(result),
        }
    }

    /// Nothing is left to commit.
    pub(crate) fn clear_group(&mut self) {
        self.group = Group::default();
    }

    /// Commits what is appended, finishes the active file and starts a new one (FLUSH BINARY LOGS).
    pub fn flush(&mut self) -> Result<DurableEnd, WriteError> {
        self.check_poison()?;
        let result = self.rotate().and_then(|()| self.commit_group());
        self.settle(result)
    }

    fn append_txn(&mut self, txn: &GlobalTxn) -> Result<(), WriteError> {
        let numbers = Numbers {
            gno: self.state.last_gno + 1 + u64::from(mutant(Mutant::SkipGno)),
            first_gno: self.active.first_gno,
        };
        let file = self.active.file.clone();
        let bytes = txn.body_len();
        if bytes > DRAIN_BYTES as u64 {
            // Rather now than when most of it is written.
            self.active
                .check_room(bytes)
                .map_err(WriteError::io(format!("writing {file}")))?;
        }
        self.mark(numbers.gno, txn);
        let encoded = self.encoder.transaction(&mut self.active, numbers, txn);
        encoded.map_err(|e| match e {
            EncodeError::Io { source, .. } if self.active.sync_failed => {
                WriteError::sync(format!("syncing {file}"))(source)
            }
            EncodeError::Io { source, .. } => WriteError::io(format!("writing {file}"))(source),
            e => Arc::new(e).into(),
        })?;
        self.group.bytes = true;
        self.state.last_gno = numbers.gno;
        self.state.timestamp = txn.timestamp;
        self.state.max_timestamp = self.state.max_timestamp.max(txn.timestamp);
        if self.active.pending.offset() >= self.options.max_binlog_size {
            self.rotate()?;
        }
        Ok(())
    }

    /// Remembers where `txn` begins if it is the group's first in this file.
    fn mark(&mut self, gno: u64, txn: &GlobalTxn) {
        let place = IndexPlace {
            seq: self.active.file.seq(),
            offset: self.active.pending.offset(),
        };
        if self
            .group
            .marks
            .last()
            .is_none_or(|mark| mark.place.seq != place.seq)
        {
            let (tso, max_timestamp) = (txn.key.tso.micros(), self.state.max_timestamp);
            self.group.marks.push(Mark {
                place,
                gno,
                tso,
                max_timestamp,
            });
        }
    }

    /// Lets the next commit change a kept branch.
    pub(crate) fn push_branch(&mut self, op: KvOp) {
        if let KvOp::Put(_, value) = &op {
            self.group.branch_bytes += value.len() as u64;
        }
        self.group.branches.push(op);
    }

    /// Lets the next commit do this, and have this state of the merger.
    pub(crate) fn change_state(&mut self, ops: Vec<KvOp>, merger: Option<Checkpoint>) {
        self.group.branches.extend(ops);
        if merger.is_some() {
            self.state.merger = merger;
            self.group.progress = true;
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            server_id: self.options.server_id,
            timestamp: self.state.timestamp,
        }
    }

    /// Steps 1 and 2 of the module's table.
    pub(crate) fn rotate(&mut self) -> Result<(), WriteError> {
        let stamp = self.stamp();
        let (file, next) = (self.active.file.clone(), self.active.file.next());
        let Pending { bytes, base, .. } = &mut self.active.pending;
        head::put_rotate(bytes, *base, stamp, next.as_str()).map_err(|source| {
            WriteError::Event {
                file: file.clone(),
                source,
            }
        })?;
        self.active
            .drain()
            .map_err(WriteError::io(format!("writing {file}")))?;
        if !mutant(Mutant::SealWithoutSync) {
            self.active
                .handle
                .sync_data()
                .map_err(WriteError::sync(format!("syncing {file}")))?;
        }
        let (size, first_gno) = (self.active.pending.offset(), self.active.first_gno);
        self.group.sealed.push(Sealed {
            file,
            size,
            first_gno,
        });

        let last_gno = self.state.last_gno - u64::from(mutant(Mutant::WrongPreviousGtids));
        let previous = own_gtids(self.log.server_uuid(), last_gno);
        let (active, entry) = create_file(
            &self.disk,
            &next,
            stamp,
            &self.options,
            previous,
            self.state.last_gno,
        )?;
        let reserve = self.active.reserve;
        let mut bytes = std::mem::replace(&mut self.active, active).pending.bytes;
        self.active.reserve = reserve;
        // The old buffer has grown to its size already.
        bytes.append(&mut self.active.pending.bytes);
        self.active.pending.bytes = bytes;
        self.group.created.push(entry);
        self.group.bytes = true;
        Ok(())
    }

    /// Steps 3 to 6.
    pub(crate) fn commit_group(&mut self) -> Result<DurableEnd, WriteError> {
        if !self.group.bytes && !self.group.progress && self.group.branches.is_empty() {
            return Ok(self.log.durable());
        }
        let file = self.active.file.clone();
        // The database is never asked to write to a full disk, also if only progress is new. What it is given it writes to
        // its log, and then to its tables.
        self.active
            .check_room(self.group.branch_bytes.saturating_mul(2))
            .map_err(WriteError::io(format!("writing {file}")))?;
        if mutant(Mutant::BranchesBeforeCheckpoint) {
            let early = KvBatch {
                ops: self.group.branches.clone(),
            };
            self.kv.write(&early, true)?;
        }
        if mutant(Mutant::CheckpointBeforeData) {
            let early = self.batch()?;
            self.kv.write(&early, true)?;
        }
        if mutant(Mutant::PublishBeforeSync) {
            self.log.shared().publish(&[], None, self.end());
        }
        if self.group.bytes {
            self.active
                .drain()
                .map_err(WriteError::io(format!("writing {file}")))?;
        }
        if self.group.bytes && !mutant(Mutant::CommitWithoutSync) {
            self.active
                .handle
                .sync_data()
                .map_err(WriteError::sync(format!("syncing {file}")))?;
            self.active.synced = self.active.pending.base;
        }
        if !self.group.created.is_empty() {
            let entries = self.log.shared().entries().clone();
            let files = entries
                .iter()
                .chain(&self.group.created)
                .map(|entry| &entry.file);
            write_index(&*self.disk, &self.options.index_name(), files)?;
        }
        if self.group.bytes {
            self.advance_verify_from();
        }
        let batch = self.batch()?;
        self.kv
            .write(&batch, !mutant(Mutant::CheckpointWithoutSync))?;
        let end = self.end();
        let Group {
            sealed, created, ..
        } = &mut self.group;
        let sealed: Vec<_> = sealed.drain(..).map(|s| (s.file, s.size)).collect();
        self.log
            .shared()
            .publish(&sealed, created.drain(..), end.clone());
        self.group = Group {
            indexed: self.group.indexed,
            ..Group::default()
        };
        Ok(end)
    }

    /// The end of what was appended.
    fn end(&self) -> DurableEnd {
        DurableEnd {
            file: self.active.file.clone(),
            offset: self.active.pending.offset(),
            last_gno: self.state.last_gno,
            timestamp: self.state.timestamp,
        }
    }

    /// Chooses where recovery will begin to check: at this group's start, or before it while little lies between.
    fn advance_verify_from(&mut self) {
        let end = self.log.durable();
        if end.file != self.active.file {
            self.state.verify_from = 0;
        } else if end.offset.saturating_sub(self.state.verify_from) >= VERIFY_STEP_BYTES {
            self.state.verify_from = end.offset;
        }
        // Of a large transaction only the end is checked: what lies before was synced long before the commit.
        self.state.verify_from = self.state.verify_from.max(self.active.slice);
    }

    /// What a commit writes to the index database.
    fn batch(&mut self) -> Result<KvBatch, WriteError> {
        let mut batch = KvBatch::new();
        let State {
            last_gno,
            timestamp,
            max_timestamp,
            verify_from,
            ref merger,
        } = self.state;
        let record = CheckpointRecord {
            seq: self.active.file.seq(),
            offset: self.active.pending.offset(),
            verify_from,
            last_gno,
            timestamp,
            max_timestamp,
            merger: merger.clone(),
        };
        batch.put(record.pair()?);
        batch.ops.append(&mut self.group.branches);
        schema::put(&mut batch, &self.group.schema);
        let sid = self.log.server_uuid();
        let segment = |seq, sealed, first_gno: u64| {
            let previous_gtids = own_gtids(sid, first_gno.saturating_sub(1));
            Segment {
                seq,
                sealed,
                first_gno,
                previous_gtids,
            }
            .pair()
        };
        for sealed in &self.group.sealed {
            batch.put(segment(
                sealed.file.seq(),
                Some(sealed.size),
                sealed.first_gno,
            ));
        }
        if !self.group.created.is_empty() {
            batch.put(segment(self.active.file.seq(), None, self.active.first_gno));
        }
        for mark in &self.group.marks {
            let Mark {
                place,
                gno,
                tso,
                max_timestamp,
            } = *mark;
            let far = |last: IndexPlace| {
                last.seq != place.seq || place.offset - last.offset >= INDEX_STEP_BYTES
            };
            if self.group.indexed.is_none_or(far) {
                let gno = gno - u64::from(mutant(Mutant::IndexOffByOne) && gno > 1);
                batch.put(gtid_index::pair(gno, place));
                batch.put(time_index::pair(max_timestamp, gno, place));
                if tso != 0 {
                    batch.put(tso_index::pair(tso, gno, place));
                }
                self.group.indexed = Some(place);
            }
        }
        Ok(batch)
    }
}
