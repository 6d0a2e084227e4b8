//! The binary form of GTID sets, as in `COM_BINLOG_DUMP_GTID` and PREVIOUS_GTIDS events.
//!
//! `Gtid_set::encode` and `Gtid_set::add_gtid_encoding` of `sql/rpl_gtid_set.cc`, all little-endian:
//!
//! ```text
//! 8 bytes  untagged: number of entries, top byte 0
//!          tagged:   byte 0 and byte 7 are 1, number of entries in the six bytes between
//! for each entry, ascending by (UUID, tag):
//!   16     UUID
//!   1+n    tagged layout only: length of the tag as a variable-length integer, the tag
//!   8      number of intervals
//!   16 each: first number, one past the last number
//! ```

use crate::cursor::{Cursor, put_varlen};
use crate::gtid::{GtidError, Sid, Tag};
use crate::gtid_set::{Entry, GtidSet};
use crate::interval::Interval;

/// `Gtid_format::tagged`.
const TAGGED: u64 = 1;
/// One past the greatest transaction number (`GNO_END`).
const GNO_END: u64 = i64::MAX as u64;

impl GtidSet {
    /// Appends MySQL's binary form: the layout every version understands, unless there are tags.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let tagged = self.has_tags();
        let n = self.entries().len() as u64;
        let word = if tagged {
            TAGGED << 56 | n << 8 | TAGGED
        } else {
            n
        };
        out.extend_from_slice(&word.to_le_bytes());
        for entry in self.entries() {
            out.extend_from_slice(&entry.sid.0);
            if tagged {
                let tag = entry.tag.as_str().as_bytes();
                put_varlen(out, tag.len() as u64);
                out.extend_from_slice(tag);
            }
            out.extend_from_slice(&(entry.intervals.len() as u64).to_le_bytes());
            for i in &entry.intervals {
                out.extend_from_slice(&i.start.to_le_bytes());
                out.extend_from_slice(&i.end_exclusive.to_le_bytes());
            }
        }
    }

    /// Reads MySQL's binary form, either layout.
    ///
    /// # Errors
    /// What MySQL refuses as malformed: an unknown layout, missing or left-over bytes, a bad tag, intervals that are
    /// empty, out of order or touching.
    pub fn decode(bytes: &[u8]) -> Result<GtidSet, GtidError> {
        let mut cursor = Cursor::new(bytes);
        let word = cursor
            .u64()
            .ok_or(GtidError::SetEncoding("no room for the number of entries"))?;
        let (tagged, n) = match word >> 56 {
            0 => (false, word),
            TAGGED => (true, word << 8 >> 16),
            _ => return Err(GtidError::SetEncoding("unknown layout")),
        };
        let mut entries = Vec::new();
        for _ in 0..n {
            entries.push(decode_entry(&mut cursor, tagged)?);
        }
        if !cursor.is_empty() {
            return Err(GtidError::SetEncoding("bytes left over"));
        }
        Ok(GtidSet::from_entries(entries))
    }
}

fn decode_entry(cursor: &mut Cursor<'_>, tagged: bool) -> Result<Entry, GtidError> {
    let short = GtidError::SetEncoding("it ends inside an entry");
    let sid = Sid(cursor.array().ok_or(short.clone())?);
    let tag = if tagged {
        let len = cursor.varlen().ok_or(short.clone())?;
        let text = cursor.take_u64(len).ok_or(short.clone())?;
        Tag::from_bytes(text).ok_or(GtidError::SetEncoding("bad tag"))?
    } else {
        Tag::EMPTY
    };
    let n = cursor.u64().ok_or(short.clone())?;
    // Checked before anything is allocated: the count is the sender's.
    let n = usize::try_from(n)
        .ok()
        .filter(|&n| n <= cursor.remaining() / 16)
        .ok_or(short.clone())?;
    let mut intervals = Vec::with_capacity(n);
    let mut last_end = 0;
    for _ in 0..n {
        let start = cursor.u64().ok_or(short.clone())?;
        let end_exclusive = cursor.u64().ok_or(short.clone())?;
        if start <= last_end || end_exclusive <= start || end_exclusive > GNO_END {
            return Err(GtidError::SetEncoding(
                "intervals empty, out of order or touching",
            ));
        }
        last_end = end_exclusive;
        intervals.push(Interval {
            start,
            end_exclusive,
        });
    }
    Ok(Entry {
        sid,
        tag,
        intervals,
    })
}
