//! Small events: rotate, stop, heartbeats, incident, the statement behind rows, view changes.
//!
//! Layouts of `libs/mysql/binlog/event/control_events.{h,cpp}`, `rows_event.cpp` (`Rows_query_event`) and
//! `codecs/binary.cpp` (heartbeat v2):
//!
//! ```text
//! ROTATE        8  position in the next file   n  its name
//! STOP          nothing
//! ROWS_QUERY    1  once a length, ignored   n  statement
//! INCIDENT      2  number   1  length   n  message
//! HEARTBEAT     n  file name; the position is log_pos in the header
//! HEARTBEAT_V2  fields {number, length, value}: 1 file name, 2 position (length-encoded); then 0
//! VIEW_CHANGE   40  view id   8  sequence number   4  number of certificates   n  certificates
//! ```

use super::{EventError, bad};
use crate::cursor::{Cursor, lenenc_len, put_lenenc, put_str_lenenc, put_str8};
use crate::header::{EventHeader, EventType};

/// Names the next file. Real ones end a file; artificial ones begin a dump stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate<'a> {
    /// Where the next file's events begin, or where the dump does.
    pub position: u64,
    /// The next file's name.
    pub file: &'a [u8],
}

impl<'a> Rotate<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When it has no room for the position.
    pub fn parse(body: &'a [u8]) -> Result<Self, EventError> {
        let mut c = Cursor::new(body);
        let position = c
            .u64()
            .ok_or_else(|| bad("Rotate")("no room for the position"))?;
        Ok(Self {
            position,
            file: c.take_rest(),
        })
    }

    /// Appends the body.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(self.file);
    }
}

/// The server shut down; nothing follows in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stop;

impl Stop {
    /// Appends the body: nothing.
    pub fn put_body(&self, _out: &mut Vec<u8>) {}
}

/// The statement that made the rows that follow (`binlog_rows_query_log_events`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsQuery<'a> {
    /// Its text.
    pub query: &'a [u8],
}

impl<'a> RowsQuery<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is empty.
    pub fn parse(body: &'a [u8]) -> Result<Self, EventError> {
        let (_len, query) = body
            .split_first()
            .ok_or_else(|| bad("Rows_query")("it is empty"))?;
        Ok(Self { query })
    }

    /// Appends the body.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        // 9.x writes 0 here, older servers the low byte of the length; nobody reads it.
        out.push(0);
        out.extend_from_slice(self.query);
    }
}

/// Something happened that replicas must not pass over silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident<'a> {
    /// 1: events were lost (`LOST_EVENTS`).
    pub number: u16,
    /// More about it; at most 255 bytes.
    pub message: &'a [u8],
}

impl<'a> Incident<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is shorter than its message.
    pub fn parse(body: &'a [u8]) -> Result<Self, EventError> {
        let mut c = Cursor::new(body);
        let read = |c: &mut Cursor<'a>| {
            Some(Self {
                number: c.u16()?,
                message: c.str8()?,
            })
        };
        read(&mut c).ok_or_else(|| bad("Incident")("it is cut off"))
    }

    /// Appends the body.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_le_bytes());
        put_str8(out, self.message);
    }
}

/// A sign of life on an idle dump connection: how far the sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat<'a> {
    /// The sender's current file.
    pub file: &'a [u8],
    /// The end of the last event the sender has.
    pub position: u64,
    /// Whether it is a `HEARTBEAT_V2`; the position of a v1 is in the header, not in the body, and has 32 bits.
    pub v2: bool,
}

const HB_END: u64 = 0;
const HB_FILE: u64 = 1;
const HB_POSITION: u64 = 2;

impl<'a> Heartbeat<'a> {
    /// Reads a body of either version.
    ///
    /// # Errors
    /// When a field of a v2 is cut off.
    pub fn parse(header: &EventHeader, body: &'a [u8]) -> Result<Self, EventError> {
        if header.event_type == EventType::HEARTBEAT {
            return Ok(Self {
                file: body,
                position: u64::from(header.log_pos),
                v2: false,
            });
        }
        Self::read_v2(body).ok_or_else(|| bad("Heartbeat")("a field is cut off"))
    }

    fn read_v2(body: &'a [u8]) -> Option<Self> {
        let mut heartbeat = Self {
            file: &[],
            position: 0,
            v2: true,
        };
        let mut c = Cursor::new(body);
        while !c.is_empty() {
            let field = c.lenenc()?;
            if field == HB_END {
                break;
            }
            let value = c.str_lenenc()?;
            match field {
                HB_FILE => heartbeat.file = value,
                HB_POSITION => heartbeat.position = Cursor::new(value).lenenc()?,
                _ => {}
            }
        }
        Some(heartbeat)
    }

    /// The type to write it as.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        if self.v2 {
            EventType::HEARTBEAT_V2
        } else {
            EventType::HEARTBEAT
        }
    }

    /// Appends the body. The position of a v1 belongs into the header's `log_pos`.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        if !self.v2 {
            out.extend_from_slice(self.file);
            return;
        }
        put_lenenc(out, HB_FILE);
        put_str_lenenc(out, self.file);
        put_lenenc(out, HB_POSITION);
        put_lenenc(out, lenenc_len(self.position) as u64);
        put_lenenc(out, self.position);
        put_lenenc(out, HB_END);
    }
}

/// The members of a replication group changed. A transaction of its own in the binlog of a group member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewChange<'a> {
    /// The new view, NUL-padded to 40 bytes.
    pub view_id: &'a [u8; 40],
    /// Number of the change.
    pub sequence_number: i64,
    /// How many certificates there are.
    pub certificates: u32,
    /// The certificates, as group replication wrote them.
    pub certification_info: &'a [u8],
}

impl<'a> ViewChange<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When its fixed part is cut off.
    pub fn parse(body: &'a [u8]) -> Result<Self, EventError> {
        Self::read(body).ok_or_else(|| bad("View_change")("its fixed part is cut off"))
    }

    fn read(body: &'a [u8]) -> Option<Self> {
        let (view_id, rest) = body.split_first_chunk()?;
        let mut c = Cursor::new(rest);
        let (sequence_number, certificates) = (c.i64()?, c.u32()?);
        Some(Self {
            view_id,
            sequence_number,
            certificates,
            certification_info: c.take_rest(),
        })
    }

    /// Appends the body.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.view_id);
        out.extend_from_slice(&self.sequence_number.to_le_bytes());
        out.extend_from_slice(&self.certificates.to_le_bytes());
        out.extend_from_slice(self.certification_info);
    }
}
