//! When there is no space left. In: a write that did not fit. Out: the log as of its last commit, ready to take the same
//! transactions again.
//!
//! Only a write that the system refused is undone like this: nothing of the group has been synced and claimed, so it is
//! what recovery would do, in place: files behind the commit are removed, the active one is cut. A sync that fails is
//! another matter, whatever the reason (see `writer`).
//!
//! The index database must not meet a full disk: whether its log has the batch then, nobody knows. So the writer stops
//! while there is still some space ([`RESERVE_BYTES`]), which also lets files be purged.

use crate::{
    LogWriter, WriteError,
    kv::{checkpoint::CheckpointRecord, segment::Segment},
    writer::State,
};

/// Free space that is left to the index database and to purging.
pub const RESERVE_BYTES: u64 = 32 << 20;

impl LogWriter {
    /// Keeps so many bytes of the disk free, instead of [`RESERVE_BYTES`].
    pub fn set_reserve(&mut self, bytes: u64) {
        self.active.reserve = bytes;
    }

    /// Forgets what was appended since the last commit, on the disk and here.
    pub(crate) fn roll_back(&mut self) -> Result<(), WriteError> {
        let end = self.log.durable();
        let missing = |what: &str| WriteError::Inconsistent {
            detail: format!("{what} of {} is gone", end.file),
        };
        let record = self.kv.get(&CheckpointRecord::key())?;
        let record = record.ok_or_else(|| missing("the checkpoint"))?;
        let record = CheckpointRecord::decode(&record)?;
        let key = Segment::key(end.file.seq());
        let segment = self.kv.get(&key)?.ok_or_else(|| missing("the record"))?;
        let segment = Segment::decode(&key, &segment)?;
        if (record.seq, record.offset) != (end.file.seq(), end.offset) {
            return Err(missing("the commit"));
        }
        let mut behind = end.file.next();
        while self.disk.exists(behind.as_str()).unwrap_or(false) {
            self.disk
                .remove(behind.as_str())
                .map_err(WriteError::sync(format!("removing {behind}")))?;
            behind = behind.next();
        }
        if self.active.file != end.file {
            let opened = self.disk.open(end.file.as_str(), true);
            self.active.handle =
                opened.map_err(WriteError::sync(format!("opening {}", end.file)))?;
            self.active.file = end.file.clone();
        }
        self.active
            .handle
            .truncate(end.offset)
            .map_err(WriteError::sync(format!("cutting {}", end.file)))?;
        self.active.first_gno = segment.first_gno;
        self.active.pending.bytes.clear();
        self.active.pending.base = end.offset;
        self.active.synced = end.offset;
        self.active.slice = 0;
        self.state = State {
            last_gno: record.last_gno,
            timestamp: record.timestamp,
            max_timestamp: record.max_timestamp,
            verify_from: record.verify_from,
            merger: record.merger,
        };
        self.clear_group();
        Ok(())
    }
}
