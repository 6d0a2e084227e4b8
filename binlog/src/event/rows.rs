//! What stands before the rows in a rows event.
//!
//! Layout of `Rows_event` (`libs/mysql/binlog/event/rows_event.{h,cpp}`):
//!
//! ```text
//! 6  table id   2  flags   not in v1: 2+n  extra data, its length counting itself
//! 1-9  number of columns   n  bits: columns in the (before) image   updates only: n  bits: columns in the after image
//! n  rows
//! ```

use super::{EventError, bad};
use crate::cursor::{Cursor, put_lenenc, put_u48};
use crate::header::EventType;

/// Bits of [`RowsHeader::flags`] (`Rows_event::enum_flag`).
pub mod rows_flags {
    /// The statement ends with this event.
    pub const STMT_END: u16 = 0x1;
    /// `foreign_key_checks=0`.
    pub const NO_FOREIGN_KEY_CHECKS: u16 = 0x2;
    /// `unique_checks=0`.
    pub const RELAXED_UNIQUE_CHECKS: u16 = 0x4;
    /// Rows hold all columns.
    pub const COMPLETE_ROWS: u16 = 0x8;
    /// Foreign keys were handled above the storage engine (9.x): rows changed by cascades have events of their own.
    pub const USE_SQL_FOREIGN_KEY: u16 = 0x10;
}

/// A rows event, whose rows are not taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsHeader<'a> {
    /// Insert, update or delete, and the layout.
    pub event_type: EventType,
    /// The number of the table map event the rows belong to; 48 bits.
    pub table_id: u64,
    /// See [`rows_flags`].
    pub flags: u16,
    /// Extra data: NDB's, or the partition of the rows. Always empty in v1.
    pub extra: &'a [u8],
    /// Columns of the table.
    pub n_columns: u64,
    /// One bit for each column, lowest first: it is in the before image (of an insert: in the only one).
    pub columns_before: &'a [u8],
    /// Updates only: it is in the after image.
    pub columns_after: Option<&'a [u8]>,
    /// The rows.
    pub rows: &'a [u8],
}

impl<'a> RowsHeader<'a> {
    /// Reads a body of any rows type.
    ///
    /// # Errors
    /// When it is no rows type, or the lengths in it exceed it, or there are no columns.
    pub fn parse(event_type: EventType, body: &'a [u8]) -> Result<Self, EventError> {
        let bad = bad(event_type.name());
        if !event_type.is_rows() {
            return Err(bad("it holds no rows"));
        }
        Self::read(event_type, body).ok_or_else(|| bad("its lengths do not add up"))
    }

    fn read(event_type: EventType, body: &'a [u8]) -> Option<Self> {
        let mut c = Cursor::new(body);
        let table_id = c.u48()?;
        let flags = c.u16()?;
        let extra = if is_v1(event_type) {
            &[]
        } else {
            let len = usize::from(c.u16()?).checked_sub(2)?;
            c.take(len)?
        };
        let n_columns = c.lenenc().filter(|n| *n > 0)?;
        let bitmap_len = n_columns.div_ceil(8);
        let columns_before = c.take_u64(bitmap_len)?;
        let columns_after = if event_type.is_update_rows() {
            Some(c.take_u64(bitmap_len)?)
        } else {
            None
        };
        let rows = c.take_rest();
        Some(Self {
            event_type,
            table_id,
            flags,
            extra,
            n_columns,
            columns_before,
            columns_after,
            rows,
        })
    }

    /// Appends the body.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        put_u48(out, self.table_id);
        out.extend_from_slice(&self.flags.to_le_bytes());
        if !is_v1(self.event_type) {
            let extra = self
                .extra
                .get(..usize::from(u16::MAX) - 2)
                .unwrap_or(self.extra);
            out.extend_from_slice(&(extra.len() as u16 + 2).to_le_bytes());
            out.extend_from_slice(extra);
        }
        put_lenenc(out, self.n_columns);
        out.extend_from_slice(self.columns_before);
        out.extend_from_slice(self.columns_after.unwrap_or_default());
        out.extend_from_slice(self.rows);
    }

    /// Whether the statement ends with this event.
    #[must_use]
    pub fn is_stmt_end(&self) -> bool {
        self.flags & rows_flags::STMT_END != 0
    }
}

fn is_v1(event_type: EventType) -> bool {
    matches!(
        event_type,
        EventType::WRITE_ROWS_V1 | EventType::UPDATE_ROWS_V1 | EventType::DELETE_ROWS_V1
    )
}

/// The table id of a table map or rows event, without looking at the rest.
#[inline]
#[must_use]
pub fn table_id_of(event_type: EventType, body: &[u8]) -> Option<u64> {
    if event_type != EventType::TABLE_MAP && !event_type.is_rows() {
        return None;
    }
    Cursor::new(body).u48()
}

/// Overwrites the table id of a table map or rows event. Answers whether the body has room for one; the CRC is the
/// caller's business.
#[inline]
pub fn set_table_id(body: &mut [u8], id: u64) -> bool {
    let Some(slot) = body.first_chunk_mut::<6>() else {
        return false;
    };
    let [a, b, c, d, e, f, _, _] = id.to_le_bytes();
    *slot = [a, b, c, d, e, f];
    true
}
