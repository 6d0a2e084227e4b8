//! The GTID event: begins each transaction.
//!
//! Layout of types 33 and 34 (`Gtid_event` of `libs/mysql/binlog/event/control_events.{h,cpp}`); each part from the
//! logical clock on was added by some version and may be missing in older files:
//!
//! ```text
//! 1   flags                      16  UUID                 8  transaction number
//! 1   2 = logical clock follows   8  last_committed       8  sequence_number
//! 7   immediate commit timestamp (µs); bit 55: 7 bytes of original commit timestamp follow, else they are equal
//! 1-9 transaction length, this event included (length-encoded)
//! 4   immediate server version; bit 31: 4 bytes of original server version follow, else they are equal
//! 8   commit group ticket, if there is one
//! ```
//! Type 42 is in `gtid_tagged`.

use super::{EventError, bad};
use crate::checksum::ChecksumAlg;
use crate::cursor::{Cursor, lenenc_len, put_lenenc, put_u56};
use crate::gtid::{Gno, Gtid, Sid, Tag};
use crate::header::{EventType, HEADER_LEN};

/// Says that a logical clock follows (`LOGICAL_TIMESTAMP_TYPECODE`).
const LOGICAL_CLOCK: u8 = 2;
/// Flag in the immediate commit timestamp.
const HAS_ORIGINAL_TS: u64 = 1 << 55;
/// Flag in the immediate server version.
const HAS_ORIGINAL_VERSION: u32 = 1 << 31;

/// What stands for the version of a server that did not tell (`UNDEFINED_SERVER_VERSION`).
pub const UNKNOWN_SERVER_VERSION: u32 = 999_999;

/// A GTID, tagged GTID or anonymous GTID event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GtidEvent {
    /// The identifier; `None` in an anonymous event.
    pub gtid: Option<Gtid>,
    /// 1: the transaction may hold statements in statement format (always set for DDL).
    pub flags: u8,
    /// The logical clock: the newest `sequence_number` of this file that must be committed first.
    pub last_committed: i64,
    /// The logical clock: number of this transaction in its file; 0 if there is none.
    pub sequence_number: i64,
    /// When the server that wrote this file committed, in microseconds since 1970; 0 if unknown. Below 2⁵⁵.
    pub immediate_commit_ts: u64,
    /// When the first server committed. Below 2⁵⁵.
    pub original_commit_ts: u64,
    /// Bytes of the whole transaction in the file, from this event's first; 0 if unknown.
    pub transaction_length: u64,
    /// Version of the first server, as 80406 for 8.4.6.
    pub original_server_version: u32,
    /// Version of the server that wrote this file.
    pub immediate_server_version: u32,
    /// Ties together transactions that must commit as one group (group replication).
    pub commit_group_ticket: Option<u64>,
}

impl GtidEvent {
    /// Reads a body of type `GTID`, `ANONYMOUS_GTID` or `GTID_TAGGED`.
    ///
    /// # Errors
    /// When a field is missing or out of range.
    pub fn parse(event_type: EventType, body: &[u8]) -> Result<Self, EventError> {
        if event_type == EventType::GTID_TAGGED {
            return super::gtid_tagged::parse(body);
        }
        let bad = bad(event_type.name());
        let mut c = Cursor::new(body);
        let flags = c.u8().ok_or_else(|| bad("no flags"))?;
        let sid = Sid(c.array().ok_or_else(|| bad("no UUID"))?);
        let gno = c.u64().ok_or_else(|| bad("no transaction number"))?;
        let gtid = if event_type == EventType::ANONYMOUS_GTID {
            None
        } else {
            let gno = Gno::new(gno).ok_or_else(|| bad("transaction number out of range"))?;
            Some(Gtid {
                sid,
                tag: Tag::EMPTY,
                gno,
            })
        };
        let mut event = Self {
            gtid,
            flags,
            ..Self::EMPTY
        };
        event
            .read_optional(&mut c)
            .ok_or_else(|| bad("a field behind the GTID is cut off"))?;
        Ok(event)
    }

    pub(crate) const EMPTY: Self = Self {
        gtid: None,
        flags: 0,
        last_committed: 0,
        sequence_number: 0,
        immediate_commit_ts: 0,
        original_commit_ts: 0,
        transaction_length: 0,
        original_server_version: UNKNOWN_SERVER_VERSION,
        immediate_server_version: UNKNOWN_SERVER_VERSION,
        commit_group_ticket: None,
    };

    /// Reads the parts that older servers leave out; `None` when one is cut off in the middle.
    fn read_optional(&mut self, c: &mut Cursor<'_>) -> Option<()> {
        // As in MySQL, an unknown code means that nothing behind it is understood.
        if c.is_empty() || c.u8()? != LOGICAL_CLOCK {
            return Some(());
        }
        self.last_committed = c.i64()?;
        self.sequence_number = c.i64()?;
        if c.is_empty() {
            return Some(());
        }
        let ts = c.u56()?;
        self.immediate_commit_ts = ts & !HAS_ORIGINAL_TS;
        self.original_commit_ts = if ts & HAS_ORIGINAL_TS == 0 {
            self.immediate_commit_ts
        } else {
            c.u56()?
        };
        if c.is_empty() {
            return Some(());
        }
        self.transaction_length = c.lenenc()?;
        if c.is_empty() {
            return Some(());
        }
        let version = c.u32()?;
        self.immediate_server_version = version & !HAS_ORIGINAL_VERSION;
        self.original_server_version = if version & HAS_ORIGINAL_VERSION == 0 {
            self.immediate_server_version
        } else {
            c.u32()?
        };
        if !c.is_empty() {
            self.commit_group_ticket = Some(c.u64()?);
        }
        Some(())
    }

    /// The type to write this event as: `GTID`, or `GTID_TAGGED` if there is a tag, or `ANONYMOUS_GTID` if there is
    /// no GTID.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        match &self.gtid {
            None => EventType::ANONYMOUS_GTID,
            Some(gtid) if gtid.tag.is_empty() => EventType::GTID,
            Some(_) => EventType::GTID_TAGGED,
        }
    }

    /// Appends the body of [`Self::event_type`], with all parts current servers write. Timestamps are cut to 55
    /// bits, versions to 31.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        if self.event_type() == EventType::GTID_TAGGED {
            super::gtid_tagged::put(self, out);
            return;
        }
        out.push(self.flags);
        out.extend_from_slice(&self.gtid.map_or([0; 16], |g| g.sid.0));
        out.extend_from_slice(&self.gtid.map_or(0, |g| g.gno.get()).to_le_bytes());
        out.push(LOGICAL_CLOCK);
        out.extend_from_slice(&self.last_committed.to_le_bytes());
        out.extend_from_slice(&self.sequence_number.to_le_bytes());
        let immediate = self.immediate_commit_ts & !HAS_ORIGINAL_TS;
        if self.has_original_ts() {
            put_u56(out, immediate | HAS_ORIGINAL_TS);
            put_u56(out, self.original_commit_ts);
        } else {
            put_u56(out, immediate);
        }
        put_lenenc(out, self.transaction_length);
        let version = self.immediate_server_version & !HAS_ORIGINAL_VERSION;
        if self.has_original_version() {
            out.extend_from_slice(&(version | HAS_ORIGINAL_VERSION).to_le_bytes());
            out.extend_from_slice(&self.original_server_version.to_le_bytes());
        } else {
            out.extend_from_slice(&version.to_le_bytes());
        }
        if let Some(ticket) = self.commit_group_ticket {
            out.extend_from_slice(&ticket.to_le_bytes());
        }
    }

    pub(crate) fn has_original_ts(&self) -> bool {
        self.original_commit_ts != self.immediate_commit_ts
    }

    pub(crate) fn has_original_version(&self) -> bool {
        self.original_server_version != self.immediate_server_version
    }

    /// Bytes `put_body` appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        if self.event_type() == EventType::GTID_TAGGED {
            return super::gtid_tagged::encoded_len(self);
        }
        let fixed = 1 + 16 + 8 + 1 + 8 + 8;
        fixed
            + if self.has_original_ts() { 14 } else { 7 }
            + lenenc_len(self.transaction_length)
            + if self.has_original_version() { 8 } else { 4 }
            + if self.commit_group_ticket.is_some() {
                8
            } else {
                0
            }
    }

    /// Sets `transaction_length` for a transaction whose other events have `rest` bytes together. The length counts
    /// this event too, and so itself (`Gtid_event::update_untagged_transaction_length`).
    pub fn set_transaction_length(&mut self, rest: u64, checksum: ChecksumAlg) {
        self.transaction_length = 0;
        // The length grows with the number of its own bytes: at most a few steps up.
        loop {
            let own = HEADER_LEN + self.encoded_len() + checksum.len();
            let total = rest.saturating_add(own as u64);
            if total <= self.transaction_length {
                return;
            }
            self.transaction_length = total;
        }
    }
}
