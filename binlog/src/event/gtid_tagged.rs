//! The body of a GTID event with a tag (type 42).
//!
//! Written by MySQL's serialization library (`libs/mysql/serialization/readme.md` and `serializer_default_impl.hpp`);
//! the fields are those of `Gtid_event::define_fields` in `libs/mysql/binlog/event/control_events.h`. All integers
//! are variable-length, the signed ones zigzag:
//!
//! ```text
//! library version (1)   size of the message   one past the last field that must be understood
//! then for each field:  its number, its value
//!   0 flags   1 UUID (16 integers)   2 number (signed)   3 tag (length, characters)   4 last_committed (signed)
//!   5 sequence_number (signed)   6 immediate commit timestamp   7 original commit timestamp, if it differs
//!   8 transaction length   9 immediate server version   10 original server version, if it differs   11 ticket, if any
//! ```

use super::gtid::GtidEvent;
use super::{EventError, bad};
use crate::cursor::{Cursor, put_varlen, put_varlen_signed, varlen_len, zigzag};
use crate::gtid::{Gno, Gtid, Sid, Tag};
use crate::header::EventType;

/// `serialization_format_version` of the library.
const LIBRARY_VERSION: u64 = 1;
/// The last field known here.
const LAST_FIELD: u64 = 11;

/// The GTID's parts as they come in.
#[derive(Default)]
struct Parts {
    sid: Option<Sid>,
    gno: Option<Gno>,
    tag: Option<Tag>,
    original_ts: Option<u64>,
    original_version: Option<u32>,
}

pub(crate) fn parse(body: &[u8]) -> Result<GtidEvent, EventError> {
    let bad = bad(EventType::GTID_TAGGED.name());
    let cut_off = || bad("a field is cut off or out of range");
    let mut c = Cursor::new(body);
    if c.varlen() != Some(LIBRARY_VERSION) {
        return Err(bad("unknown version of the serialization"));
    }
    let _size = c.varlen().ok_or_else(cut_off)?;
    if c.varlen().ok_or_else(cut_off)? > LAST_FIELD + 1 {
        return Err(bad("it has fields that must be understood and are not"));
    }
    let mut event = GtidEvent::EMPTY;
    let mut parts = Parts::default();
    let mut next = 0;
    while !c.is_empty() {
        let field = c.varlen().ok_or_else(cut_off)?;
        if field < next {
            return Err(bad("fields out of order"));
        }
        if field > LAST_FIELD {
            // Newer and ignorable; sizes of simple fields are not written, so the rest cannot be read.
            break;
        }
        read_field(field, &mut c, &mut event, &mut parts).ok_or_else(cut_off)?;
        next = field + 1;
    }
    let (Some(sid), Some(gno), Some(tag)) = (parts.sid, parts.gno, parts.tag) else {
        return Err(bad("UUID, tag or number is missing"));
    };
    event.gtid = Some(Gtid { sid, tag, gno });
    event.original_commit_ts = parts.original_ts.unwrap_or(event.immediate_commit_ts);
    event.original_server_version = parts
        .original_version
        .unwrap_or(event.immediate_server_version);
    Ok(event)
}

fn read_field(
    field: u64,
    c: &mut Cursor<'_>,
    event: &mut GtidEvent,
    parts: &mut Parts,
) -> Option<()> {
    match field {
        0 => event.flags = u8::try_from(c.varlen()?).ok()?,
        1 => parts.sid = Some(read_sid(c)?),
        2 => parts.gno = Some(Gno::new(u64::try_from(c.varlen_signed()?).ok()?)?),
        3 => {
            let len = c.varlen()?;
            parts.tag = Some(Tag::from_bytes(c.take_u64(len)?)?);
        }
        4 => event.last_committed = c.varlen_signed()?,
        5 => event.sequence_number = c.varlen_signed()?,
        6 => event.immediate_commit_ts = c.varlen()?,
        7 => parts.original_ts = Some(c.varlen()?),
        8 => event.transaction_length = c.varlen()?,
        9 => event.immediate_server_version = u32::try_from(c.varlen()?).ok()?,
        10 => parts.original_version = Some(u32::try_from(c.varlen()?).ok()?),
        _ => event.commit_group_ticket = Some(c.varlen()?).filter(|t| *t != 0),
    }
    Some(())
}

/// A fixed array is a row of integers of variable length, not 16 bytes.
fn read_sid(c: &mut Cursor<'_>) -> Option<Sid> {
    let mut sid = [0; 16];
    for b in &mut sid {
        *b = u8::try_from(c.varlen()?).ok()?;
    }
    Some(Sid(sid))
}

pub(crate) fn put(event: &GtidEvent, out: &mut Vec<u8>) {
    let fields_len = fields_len(event);
    put_varlen(out, LIBRARY_VERSION);
    put_varlen(out, message_len(fields_len));
    put_varlen(out, LAST_NON_IGNORABLE);
    put_fields(event, out);
}

/// One past the last field readers must understand: MySQL marks all of a GTID's fields as ignorable.
const LAST_NON_IGNORABLE: u64 = 0;

/// The message size counts the whole body. Its own length is measured before it is added, so at the edge to two bytes
/// it is one short: MySQL's own slip, harmless and kept (`Serializer_default::get_size_serializable`).
fn message_len(fields_len: usize) -> u64 {
    let head = varlen_len(LIBRARY_VERSION)
        + varlen_len(fields_len as u64)
        + varlen_len(LAST_NON_IGNORABLE);
    (head + fields_len) as u64
}

pub(crate) fn encoded_len(event: &GtidEvent) -> usize {
    let fields_len = fields_len(event);
    varlen_len(LIBRARY_VERSION)
        + varlen_len(message_len(fields_len))
        + varlen_len(LAST_NON_IGNORABLE)
        + fields_len
}

fn put_fields(event: &GtidEvent, out: &mut Vec<u8>) {
    let Some(gtid) = event.gtid else { return };
    put_unsigned(out, 0, u64::from(event.flags));
    put_varlen(out, 1);
    for b in gtid.sid.0 {
        put_varlen(out, u64::from(b));
    }
    put_signed(out, 2, gtid.gno.get().cast_signed());
    let tag = gtid.tag.as_str().as_bytes();
    put_unsigned(out, 3, tag.len() as u64);
    out.extend_from_slice(tag);
    put_signed(out, 4, event.last_committed);
    put_signed(out, 5, event.sequence_number);
    put_unsigned(out, 6, event.immediate_commit_ts);
    if event.has_original_ts() {
        put_unsigned(out, 7, event.original_commit_ts);
    }
    put_unsigned(out, 8, event.transaction_length);
    put_unsigned(out, 9, u64::from(event.immediate_server_version));
    if event.has_original_version() {
        put_unsigned(out, 10, u64::from(event.original_server_version));
    }
    if let Some(ticket) = event.commit_group_ticket {
        put_unsigned(out, 11, ticket);
    }
}

fn put_unsigned(out: &mut Vec<u8>, field: u64, value: u64) {
    put_varlen(out, field);
    put_varlen(out, value);
}

fn put_signed(out: &mut Vec<u8>, field: u64, value: i64) {
    put_varlen(out, field);
    put_varlen_signed(out, value);
}

/// Bytes `put_fields` appends; every field number takes one.
fn fields_len(event: &GtidEvent) -> usize {
    let Some(gtid) = event.gtid else { return 0 };
    let unsigned = |v: u64| 1 + varlen_len(v);
    let signed = |v: i64| 1 + varlen_len(zigzag(v));
    let sid: usize = gtid.sid.0.iter().map(|b| varlen_len(u64::from(*b))).sum();
    let tag = gtid.tag.as_str().len();
    let mut len = unsigned(u64::from(event.flags)) + 1 + sid;
    len += signed(gtid.gno.get().cast_signed()) + unsigned(tag as u64) + tag;
    len += signed(event.last_committed) + signed(event.sequence_number);
    len += unsigned(event.immediate_commit_ts) + unsigned(event.transaction_length);
    len += unsigned(u64::from(event.immediate_server_version));
    if event.has_original_ts() {
        len += unsigned(event.original_commit_ts);
    }
    if event.has_original_version() {
        len += unsigned(u64::from(event.original_server_version));
    }
    len + event.commit_group_ticket.map_or(0, unsigned)
}
