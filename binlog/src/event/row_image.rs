//! The rows of a rows event, taken apart into the bytes of their columns.
//!
//! In: a table map event and a rows event that belongs to it. Out: for each row its images, and for each image the bytes
//! of its columns. Nothing is allocated and no value is interpreted; what is needed is where values end
//! ([`ColumnMeta::width`]).
//!
//! Layout of an image (`pack_row` of `sql/rpl_record.cc`):
//!
//! ```text
//! partial updates, after image only: 1-9  options   if options & 1: one bit for each JSON column of the table
//! one bit for each column in the image, lowest first: it is NULL   the other columns' values, one behind the other
//! ```

use super::columns::{ColumnMeta, ColumnType, Columns, Width};
use super::rows::RowsHeader;
use super::table_map::TableMap;
use super::{EventError, bad};
use crate::cursor::Cursor;
use crate::header::EventType;

/// `enum_row_image_value_options`: some JSON columns hold differences (`PARTIAL_JSON_UPDATES`).
const PARTIAL_JSON_UPDATES: u64 = 1;

/// One column of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnValue<'a> {
    /// The image does not have the column (`binlog_row_image` other than `FULL`).
    Absent,
    /// NULL.
    Null,
    /// The value as the server packs it, without the length in front of it, if its type has one.
    Bytes(&'a [u8]),
}

/// A row before or after a change.
#[derive(Clone, Debug)]
pub struct RowImage<'a> {
    columns: Columns<'a>,
    present: &'a [u8],
    nulls: &'a [u8],
    values: &'a [u8],
}

impl<'a> RowImage<'a> {
    /// All columns of the table, in order.
    #[must_use]
    pub fn columns(&self) -> ImageColumns<'a> {
        ImageColumns {
            columns: self.columns.clone(),
            present: self.present,
            nulls: self.nulls,
            values: Cursor::new(self.values),
            index: 0,
            null_index: 0,
        }
    }

    /// The column at a place counted from 0; absent if the table has no such column.
    #[must_use]
    pub fn column(&self, index: usize) -> ColumnValue<'a> {
        let value = self.columns().nth(index).and_then(Result::ok);
        value.unwrap_or(ColumnValue::Absent)
    }
}

/// Walks the columns of an image. Ends behind an error; images that came out of a [`RowsWalk`] have none.
#[derive(Clone, Debug)]
pub struct ImageColumns<'a> {
    columns: Columns<'a>,
    present: &'a [u8],
    nulls: &'a [u8],
    values: Cursor<'a>,
    index: usize,
    null_index: usize,
}

impl<'a> ImageColumns<'a> {
    fn read(&mut self, meta: &ColumnMeta) -> Option<ColumnValue<'a>> {
        let index = self.index;
        self.index += 1;
        if !bit(self.present, index) {
            return Some(ColumnValue::Absent);
        }
        let null = bit(self.nulls, self.null_index);
        self.null_index += 1;
        if null {
            return Some(ColumnValue::Null);
        }
        read_value(meta, &mut self.values).map(ColumnValue::Bytes)
    }
}

impl<'a> Iterator for ImageColumns<'a> {
    type Item = Result<ColumnValue<'a>, EventError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let meta = match self.columns.next()? {
            Ok(meta) => meta,
            Err(e) => return Some(Err(e)),
        };
        if let Some(value) = self.read(&meta) {
            return Some(Ok(value));
        }
        self.columns = Columns::new(&[], &[], &[]);
        Some(Err(bad("rows")("a value is cut off or of an unknown type")))
    }
}

/// One row of a rows event.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// Updates and deletes.
    pub before: Option<RowImage<'a>>,
    /// Inserts and updates.
    pub after: Option<RowImage<'a>>,
    /// All of its images, as they are in the event.
    pub bytes: &'a [u8],
}

/// Walks the rows of a rows event. Ends behind an error.
#[derive(Clone, Debug)]
pub struct RowsWalk<'a> {
    columns: Columns<'a>,
    json_columns: usize,
    header: RowsHeader<'a>,
    rest: Cursor<'a>,
}

impl<'a> RowsWalk<'a> {
    /// A walk over the rows of `rows`, an event of the table that `map` describes.
    ///
    /// # Errors
    /// When the two disagree about the number of columns.
    pub fn new(map: &TableMap<'a>, rows: &RowsHeader<'a>) -> Result<Self, EventError> {
        let types = map.column_types;
        if rows.n_columns != types.len() as u64 {
            let bad = bad(rows.event_type.name());
            return Err(bad("it does not have as many columns as its table"));
        }
        let json = types.iter().filter(|t| ColumnType(**t) == ColumnType::JSON);
        Ok(Self {
            columns: map.columns(),
            json_columns: json.count(),
            header: *rows,
            rest: Cursor::new(rows.rows),
        })
    }

    fn row(&mut self) -> Option<Row<'a>> {
        let all = self.rest;
        let before_bits = self.header.columns_before;
        let (before, after) = match self.header.event_type {
            EventType::WRITE_ROWS | EventType::WRITE_ROWS_V1 => (None, Some(before_bits)),
            EventType::DELETE_ROWS | EventType::DELETE_ROWS_V1 => (Some(before_bits), None),
            _ => (Some(before_bits), Some(self.header.columns_after?)),
        };
        let before = match before {
            Some(present) => Some(self.image(present)?),
            None => None,
        };
        if self.header.event_type == EventType::PARTIAL_UPDATE_ROWS {
            let options = self.rest.lenenc()?;
            if options & PARTIAL_JSON_UPDATES != 0 {
                self.rest.take(self.json_columns.div_ceil(8))?;
            }
        }
        let after = match after {
            Some(present) => Some(self.image(present)?),
            None => None,
        };
        let len = all.remaining() - self.rest.remaining();
        let bytes = { all }.take(len)?;
        // A row without bytes would be repeated for ever.
        (len > 0).then_some(Row {
            before,
            after,
            bytes,
        })
    }

    fn image(&mut self, present: &'a [u8]) -> Option<RowImage<'a>> {
        let n = self.header.n_columns as usize;
        let nulls = self.rest.take(count_bits(present, n).div_ceil(8))?;
        let start = self.rest;
        let mut walk = ImageColumns {
            columns: self.columns.clone(),
            present,
            nulls,
            values: self.rest,
            index: 0,
            null_index: 0,
        };
        for column in &mut walk {
            column.ok()?;
        }
        self.rest = walk.values;
        let values = { start }.take(start.remaining() - self.rest.remaining())?;
        Some(RowImage {
            columns: self.columns.clone(),
            present,
            nulls,
            values,
        })
    }
}

impl<'a> Iterator for RowsWalk<'a> {
    type Item = Result<Row<'a>, EventError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let row = self.row();
        if row.is_none() {
            self.rest.take_rest();
        }
        let bad = bad(self.header.event_type.name());
        Some(row.ok_or_else(|| bad("a row is cut off or has a column of an unknown type")))
    }
}

#[inline]
fn bit(bits: &[u8], index: usize) -> bool {
    bits.get(index / 8)
        .is_some_and(|b| b >> (index % 8) & 1 == 1)
}

/// Bits set among the first `n`.
fn count_bits(bits: &[u8], n: usize) -> usize {
    let whole = bits.get(..n / 8).unwrap_or(bits);
    let ones: usize = whole.iter().map(|b| b.count_ones() as usize).sum();
    let last = bits.get(n / 8).copied().unwrap_or(0) & ((1 << (n % 8)) - 1);
    ones + last.count_ones() as usize
}

/// Takes one value that is not NULL, and answers its bytes without their length.
fn read_value<'a>(meta: &ColumnMeta, c: &mut Cursor<'a>) -> Option<&'a [u8]> {
    match meta.width()? {
        Width::Fixed(len) => c.take(len as usize),
        Width::Counted(width) => counted(c, width),
    }
}

/// A value behind its length in `width` bytes.
fn counted<'a>(c: &mut Cursor<'a>, width: u8) -> Option<&'a [u8]> {
    let len = match width {
        1 => u32::from(c.u8()?),
        2 => u32::from(c.u16()?),
        3 => c.u24()?,
        4 => c.u32()?,
        _ => return None,
    };
    c.take(usize::try_from(len).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_behind_the_last_column_do_not_count() {
        assert_eq!(count_bits(&[0xff, 0xff], 9), 9);
        assert_eq!(count_bits(&[0xff], 3), 3);
        assert_eq!(count_bits(&[0b101, 0xff], 8), 2);
    }
}
