//! MySQL's binlog bytes and words.
//!
//! In: untrusted bytes of binlog files and dump streams, and the texts MySQL uses for positions, GTID sets and xids.
//! Out: checked, typed, mostly borrowed views of them, and the same bytes again. Everything is little-endian binlog
//! format version 4, as written by MySQL 5.7 to 9.x.
//!
//! Three layers, three meanings of an error: [`RawEvent`], [`EventReader`] and [`FrameDecoder`] find whole events and
//! check their length and CRC ([`FrameError`]); [`Event`] and the types beside it understand one body
//! ([`EventError`]); the stages above interpret sequences of events. [`EventWriter`] goes the other way.
//!
//! The crate is pure: no files, sockets, clocks or randomness, and it never panics on any input.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod checksum;
mod cursor;
mod decoder;
mod dump;
mod event;
mod frame;
mod gtid;
mod gtid_set;
mod gtid_set_codec;
mod gtid_set_text;
mod header;
mod info;
mod interval;
mod pos;
mod write;
mod xid;
mod xid_sql;

pub use checksum::ChecksumAlg;
pub use decoder::FrameDecoder;
pub use dump::describe;
pub use event::columns::{ColumnMeta, ColumnType, Columns, Width};
pub use event::control::{Heartbeat, Incident, Rotate, RowsQuery, Stop, ViewChange};
pub use event::format::FormatDescription;
pub use event::gtid::{GtidEvent, UNKNOWN_SERVER_VERSION};
pub use event::optional::{DefaultCharset, OptionalMetadata, PrimaryKey};
pub use event::payload::{Compression, Payload, PayloadChunks, PayloadError};
pub use event::previous_gtids::PreviousGtids;
pub use event::query::QueryEvent;
pub use event::row_image::{ColumnValue, ImageColumns, Row, RowImage, RowsWalk};
pub use event::rows::{RowsHeader, rows_flags, set_table_id, table_id_of};
pub use event::status_vars::{StatusVar, StatusVars, UpdatedDbNames};
pub use event::table_map::TableMap;
pub use event::xa::{XaPrepare, XidEvent};
pub use event::{Event, EventError};
pub use frame::{EventReader, FrameError, MAGIC, RawEvent};
pub use gtid::{Gno, Gtid, GtidError, Sid, Tag};
pub use gtid_set::GtidSet;
pub use header::{EventHeader, EventType, HEADER_LEN, flags};
pub use info::info;
pub use interval::Interval;
pub use pos::{BinlogFile, BinlogPos, PosError};
pub use write::{EventWriter, WriteError, set_in_use};
pub use xid::{InnodbXid, XaXid, XidError};
pub use xid_sql::{XaStatement, XaVerb};
