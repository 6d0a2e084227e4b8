//! The 19 bytes in front of each event.
//!
//! In: bytes. Out: [`EventHeader`]. Layout and names of `libs/mysql/binlog/event/binlog_event.{h,cpp}`:
//!
//! ```text
//! 4  timestamp (seconds)   1  type   4  server_id   4  event_size (header, body, checksum)
//! 4  log_pos (end of the event in its file)         2  flags
//! ```

use std::fmt;

use crate::cursor::Cursor;
use crate::frame::FrameError;

/// Bytes of the common header in format version 4 (`LOG_EVENT_HEADER_LEN`).
pub const HEADER_LEN: usize = 19;

/// Bits of [`EventHeader::flags`] (`LOG_EVENT_…_F` of `sql/log_event.h`).
pub mod flags {
    /// The file was not closed properly, or is being written (format description events only).
    pub const IN_USE: u16 = 0x1;
    /// The event uses temporary tables of its session.
    pub const THREAD_SPECIFIC: u16 = 0x4;
    /// No `USE` is needed for this statement.
    pub const SUPPRESS_USE: u16 = 0x8;
    /// Not in any file: made up by the sender.
    pub const ARTIFICIAL: u16 = 0x20;
    /// Written by a replica's receiver.
    pub const RELAY_LOG: u16 = 0x40;
    /// Whoever does not know the type may skip it.
    pub const IGNORABLE: u16 = 0x80;
    /// Replication filters do not apply.
    pub const NO_FILTER: u16 = 0x100;
    /// A parallel replica must apply this on its own.
    pub const MTS_ISOLATE: u16 = 0x200;
}

/// The kind of an event: any byte, because servers and their descendants add types.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(pub u8);

macro_rules! event_types {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        impl EventType {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// The name in `SHOW BINLOG EVENTS` (`get_event_type_as_string`); `Unknown` for types MySQL does not define.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($code => $text,)*
                    _ => "Unknown",
                }
            }

            /// Whether MySQL defines the type.
            #[must_use]
            pub const fn is_known(self) -> bool {
                matches!(self.0, $($code)|*)
            }
        }
    };
}

event_types! {
    /// Before format version 4; not used.
    START_V3 = 1, "Start_v3";
    /// A statement: DDL, `BEGIN`, `XA …`, or DML in statement format.
    QUERY = 2, "Query";
    /// The server shut down.
    STOP = 3, "Stop";
    /// The name of the next file.
    ROTATE = 4, "Rotate";
    /// Statement format: an auto-increment value or last insert id.
    INTVAR = 5, "Intvar";
    /// Statement format: a part of a file for `LOAD DATA`.
    APPEND_BLOCK = 9, "Append_block";
    /// Statement format: `LOAD DATA` failed.
    DELETE_FILE = 11, "Delete_file";
    /// Statement format: seeds of `RAND()`.
    RAND = 13, "RAND";
    /// Statement format: a user variable.
    USER_VAR = 14, "User var";
    /// First in each file.
    FORMAT_DESCRIPTION = 15, "Format_desc";
    /// The end of a transaction.
    XID = 16, "Xid";
    /// Statement format: the beginning of `LOAD DATA`.
    BEGIN_LOAD_QUERY = 17, "Begin_load_query";
    /// Statement format: the end of `LOAD DATA`.
    EXECUTE_LOAD_QUERY = 18, "Execute_load_query";
    /// The table the following rows belong to.
    TABLE_MAP = 19, "Table_map";
    /// Inserted rows, layout of MySQL 5.1 to 5.5.
    WRITE_ROWS_V1 = 23, "Write_rows_v1";
    /// Updated rows, layout of MySQL 5.1 to 5.5.
    UPDATE_ROWS_V1 = 24, "Update_rows_v1";
    /// Deleted rows, layout of MySQL 5.1 to 5.5.
    DELETE_ROWS_V1 = 25, "Delete_rows_v1";
    /// Something that replicas must not pass over.
    INCIDENT = 26, "Incident";
    /// A sign of life in a dump stream.
    HEARTBEAT = 27, "Heartbeat";
    /// Nothing.
    IGNORABLE = 28, "Ignorable";
    /// The statement that made the following rows.
    ROWS_QUERY = 29, "Rows_query";
    /// Inserted rows.
    WRITE_ROWS = 30, "Write_rows";
    /// Updated rows.
    UPDATE_ROWS = 31, "Update_rows";
    /// Deleted rows.
    DELETE_ROWS = 32, "Delete_rows";
    /// The identifier of the following transaction.
    GTID = 33, "Gtid";
    /// In place of a GTID event when the transaction has none.
    ANONYMOUS_GTID = 34, "Anonymous_Gtid";
    /// All GTIDs of earlier files.
    PREVIOUS_GTIDS = 35, "Previous_gtids";
    /// Group replication: what a transaction read and wrote.
    TRANSACTION_CONTEXT = 36, "Transaction_context";
    /// Group replication: the group changed.
    VIEW_CHANGE = 37, "View_change";
    /// The end of `XA PREPARE` or of `XA COMMIT … ONE PHASE`.
    XA_PREPARE = 38, "XA_prepare";
    /// Updated rows with partial JSON values.
    PARTIAL_UPDATE_ROWS = 39, "Update_rows_partial";
    /// A compressed transaction.
    TRANSACTION_PAYLOAD = 40, "Transaction_payload";
    /// A sign of life in a dump stream, with an 8-byte position.
    HEARTBEAT_V2 = 41, "Heartbeat";
    /// The identifier of the following transaction, with a tag.
    GTID_TAGGED = 42, "Gtid_tagged_log_event";
}

impl EventType {
    /// Whether it holds rows (any layout).
    #[inline]
    #[must_use]
    pub const fn is_rows(self) -> bool {
        matches!(self.0, 23..=25 | 30..=32 | 39)
    }

    /// Whether it holds updated rows, and so two column bitmaps.
    #[inline]
    #[must_use]
    pub const fn is_update_rows(self) -> bool {
        matches!(self.0, 24 | 31 | 39)
    }

    /// Whether it begins a transaction: GTID, anonymous or tagged.
    #[inline]
    #[must_use]
    pub const fn is_gtid(self) -> bool {
        matches!(self.0, 33 | 34 | 42)
    }
}

impl fmt::Display for EventType {
    /// The name, with the number if the name says nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_known() {
            f.pad(self.name())
        } else {
            write!(f, "Unknown({})", self.0)
        }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

/// The common header of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventHeader {
    /// Seconds since 1970 when the statement began, on the server that ran it.
    pub timestamp: u32,
    /// What kind of event.
    pub event_type: EventType,
    /// The `server_id` of the server that first wrote it.
    pub server_id: u32,
    /// Bytes of the whole event: header, body and checksum.
    pub event_size: u32,
    /// Where the event ends in its file, modulo 2³²; 0 in events made up by a sender and inside payloads.
    pub log_pos: u32,
    /// See [`flags`].
    pub flags: u16,
}

impl EventHeader {
    /// Reads the header at the start of `bytes`. Nothing is judged.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] when there are fewer than [`HEADER_LEN`] bytes.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        Self::read(bytes).ok_or(FrameError::Truncated {
            need: HEADER_LEN,
            have: bytes.len(),
        })
    }

    #[inline(always)]
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut c = Cursor::new(bytes.first_chunk::<HEADER_LEN>()?);
        Some(Self {
            timestamp: c.u32()?,
            event_type: EventType(c.u8()?),
            server_id: c.u32()?,
            event_size: c.u32()?,
            log_pos: c.u32()?,
            flags: c.u16()?,
        })
    }

    /// The header's bytes.
    #[inline]
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let [t0, t1, t2, t3] = self.timestamp.to_le_bytes();
        let [s0, s1, s2, s3] = self.server_id.to_le_bytes();
        let [z0, z1, z2, z3] = self.event_size.to_le_bytes();
        let [p0, p1, p2, p3] = self.log_pos.to_le_bytes();
        let [f0, f1] = self.flags.to_le_bytes();
        let ty = self.event_type.0;
        [
            t0, t1, t2, t3, ty, s0, s1, s2, s3, z0, z1, z2, z3, p0, p1, p2, p3, f0, f1,
        ]
    }

    /// Writes the header over `out`.
    #[inline]
    pub fn write(&self, out: &mut [u8; HEADER_LEN]) {
        *out = self.to_bytes();
    }

    /// Appends the header to `out`.
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
    }

    /// Whether the event was made up by its sender and is in no file. (`log_pos` says nothing about that: it is 0 in
    /// the events inside a payload too, and in a format description sent again in the middle of a file.)
    #[inline]
    #[must_use]
    pub const fn is_artificial(&self) -> bool {
        self.flags & flags::ARTIFICIAL != 0
    }

    /// Whether a reader that does not know the type may skip the event.
    #[inline]
    #[must_use]
    pub const fn is_ignorable(&self) -> bool {
        self.flags & flags::IGNORABLE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_bytes() {
        // The header of a format description event of MySQL 8.0.
        let bytes = [
            0x0a, 0x0b, 0x0c, 0x5f, 0x0f, 0x01, 0, 0, 0, 0x79, 0, 0, 0, 0x7d, 0, 0, 0, 0x01, 0,
        ];
        let h = EventHeader::parse(&bytes).expect("19 bytes");
        assert_eq!(h.event_type, EventType::FORMAT_DESCRIPTION);
        assert_eq!(
            (h.timestamp, h.server_id, h.event_size),
            (0x5f0c_0b0a, 1, 121)
        );
        assert_eq!((h.log_pos, h.flags), (125, flags::IN_USE));
        assert_eq!(h.to_bytes(), bytes);
        assert!(matches!(
            EventHeader::parse(&bytes[..18]),
            Err(FrameError::Truncated { need: 19, have: 18 })
        ));
    }

    #[test]
    fn type_classes_agree_with_names() {
        for code in 0..=255_u8 {
            let ty = EventType(code);
            assert_eq!(ty.is_known(), ty.name() != "Unknown");
            assert_eq!(ty.is_rows(), ty.name().contains("_rows"));
            assert_eq!(
                ty.is_gtid(),
                ty.name().to_lowercase().starts_with("gtid") || code == 34
            );
        }
    }
}
