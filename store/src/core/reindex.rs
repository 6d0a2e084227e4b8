//! What the index database can say of binlog files, from their bytes alone. In: event after event, file after file. Out: the
//! places that get index entries, a record per file, and the end of the last whole transaction.
//!
//! Entries lie as the writer puts them, at least [`INDEX_STEP_BYTES`] apart in a file, but not at the same places: where a
//! group began is in no file. A TSO is in no file either; it stands as the original commit time of transactions that had
//! one, and where it differs from the immediate commit time it is taken for it.

use tributary_binlog::{EventType, Gno, Gtid, GtidEvent, GtidSet, Sid, Tag};

use crate::{
    kv::{IndexPlace, Pair, gtid_index, segment::Segment, time_index, tso_index},
    log::own_gtids,
    scan::Scanned,
    writer::INDEX_STEP_BYTES,
};

/// Collects while files are walked.
#[derive(Debug, Default)]
pub(crate) struct Reindex {
    sid: Option<Sid>,
    seq: u64,
    /// What was before the present transaction.
    last_gno: u64,
    timestamp: u32,
    max_timestamp: u32,
    greatest_tso: u64,
    indexed: Option<IndexPlace>,
    open: Option<Open>,
    /// Records of the files so far, the present one last, as if each were the active one.
    pub(crate) segments: Vec<Segment>,
    /// Index entries not yet taken.
    pub(crate) entries: Vec<Pair>,
    pub(crate) end: End,
}

/// The end of the last whole transaction, or of the head behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) seq: u64,
    pub(crate) offset: u64,
    pub(crate) last_gno: u64,
    pub(crate) timestamp: u32,
    pub(crate) max_timestamp: u32,
}

/// A transaction whose end was not seen yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    gno: u64,
    timestamp: u32,
    end: u64,
}

impl Reindex {
    /// The UUID of the GTIDs, once one was seen.
    pub(crate) fn sid(&self) -> Option<Sid> {
        self.sid
    }

    pub(crate) fn begin_file(&mut self, seq: u64) {
        self.seq = seq;
        self.open = None;
    }

    /// The next event. An error is something our own files never hold.
    pub(crate) fn event(&mut self, event: &Scanned<'_>) -> Result<(), String> {
        match event.header.event_type {
            EventType::FORMAT_DESCRIPTION if self.segments.is_empty() => {
                self.timestamp = event.header.timestamp;
            }
            EventType::GTID => self.begin_txn(event)?,
            _ => {}
        }
        let whole = self.open.filter(|open| event.end() >= open.end);
        if let Some(Open { gno, timestamp, .. }) = whole {
            self.open = None;
            self.last_gno = gno;
            self.timestamp = timestamp;
            self.max_timestamp = self.max_timestamp.max(timestamp);
            self.end_at(event.end());
        }
        Ok(())
    }

    /// The head of a file was read: what its PREVIOUS_GTIDS says, and where it ends.
    pub(crate) fn head(&mut self, previous: &GtidSet, end: u64) -> Result<(), String> {
        let mut sids = previous.iter().map(|(sid, ..)| sid);
        if let Some(sid) = sids.next() {
            self.same_sid(sid)?;
        }
        let last = self.sid.and_then(|sid| previous.last_gno(sid, Tag::EMPTY));
        let last = last.map_or(0, Gno::get);
        let sid = self.sid.unwrap_or(Sid([0; 16]));
        if *previous != own_gtids(sid, last) {
            return Err("PREVIOUS_GTIDS is not one UUID's numbers from 1".to_owned());
        }
        self.last_gno = last;
        self.segments.push(Segment {
            seq: self.seq,
            sealed: None,
            first_gno: last + 1,
            previous_gtids: previous.clone(),
        });
        self.end_at(end);
        Ok(())
    }

    /// The file is whole: it has this size, and others follow.
    pub(crate) fn seal(&mut self, size: u64) {
        if let Some(segment) = self.segments.last_mut() {
            segment.sealed = Some(size);
        }
    }

    fn end_at(&mut self, offset: u64) {
        self.end = End {
            seq: self.seq,
            offset,
            last_gno: self.last_gno,
            timestamp: self.timestamp,
            max_timestamp: self.max_timestamp,
        };
    }

    fn same_sid(&mut self, sid: Sid) -> Result<(), String> {
        let first = *self.sid.get_or_insert(sid);
        if first == sid {
            return Ok(());
        }
        Err(format!("GTIDs of {first} and of {sid} in one log"))
    }

    fn begin_txn(&mut self, event: &Scanned<'_>) -> Result<(), String> {
        let parsed = GtidEvent::parse(EventType::GTID, event.body).map_err(|e| e.to_string())?;
        let Some(Gtid { sid, gno, .. }) = parsed.gtid else {
            return Err("an anonymous transaction".to_owned());
        };
        self.same_sid(sid)?;
        let place = IndexPlace {
            seq: self.seq,
            offset: event.pos,
        };
        let (gno, tso) = (gno.get(), parsed.original_commit_ts);
        self.open = Some(Open {
            gno,
            timestamp: event.header.timestamp,
            end: event.pos + parsed.transaction_length,
        });
        let has_tso = tso != parsed.immediate_commit_ts && tso > self.greatest_tso;
        if has_tso {
            self.greatest_tso = tso;
        }
        let far = |last: IndexPlace| {
            last.seq != place.seq || place.offset - last.offset >= INDEX_STEP_BYTES
        };
        if self.indexed.is_none_or(far) {
            self.entries.push(gtid_index::pair(gno, place));
            self.entries
                .push(time_index::pair(self.max_timestamp, gno, place));
            if has_tso {
                self.entries.push(tso_index::pair(tso, gno, place));
            }
            self.indexed = Some(place);
        }
        Ok(())
    }
}
