//! The table map event: which table a number stands for in the rows that follow, and its columns.
//!
//! Layout of `Table_map_event` (`libs/mysql/binlog/event/rows_event.{h,cpp}`):
//!
//! ```text
//! 6  table id   2  flags   1+n+1  schema with its length and a NUL   1+n+1  table, likewise
//! 1-9  number of columns   n  type of each   1-9  length of n  metadata (`columns`)   n  bits: may be NULL
//! n  optional metadata (`optional`)
//! ```

use super::columns::{ColumnType, Columns};
use super::optional::{OptionalMetadata, PrimaryKey};
use super::{EventError, bad};
use crate::cursor::{Cursor, put_lenenc, put_str_lenenc, put_u48};

/// A table map event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableMap<'a> {
    /// The number rows events use; 48 bits.
    pub table_id: u64,
    /// 1: the names compare binary.
    pub flags: u16,
    /// Schema name.
    pub schema: &'a [u8],
    /// Table name.
    pub table: &'a [u8],
    /// Type code of each column; see [`Self::columns`].
    pub column_types: &'a [u8],
    /// Metadata of the types that have any.
    pub column_meta: &'a [u8],
    /// One bit for each column, lowest first: it may be NULL.
    pub null_bitmap: &'a [u8],
    /// See [`Self::optional_metadata`]; empty from servers before 8.0.
    pub optional: &'a [u8],
}

impl<'a> TableMap<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When the lengths in it exceed it, or there are no columns.
    pub fn parse(body: &'a [u8]) -> Result<Self, EventError> {
        Self::read(body).ok_or_else(|| bad("Table_map")("its lengths do not add up"))
    }

    fn read(body: &'a [u8]) -> Option<Self> {
        let mut c = Cursor::new(body);
        let table_id = c.u48()?;
        let flags = c.u16()?;
        let schema = Self::read_name(&mut c)?;
        let table = Self::read_name(&mut c)?;
        let column_types = c.str_lenenc().filter(|types| !types.is_empty())?;
        let column_meta = c.str_lenenc()?;
        let null_bitmap = c.take(column_types.len().div_ceil(8))?;
        let optional = c.take_rest();
        Some(Self {
            table_id,
            flags,
            schema,
            table,
            column_types,
            column_meta,
            null_bitmap,
            optional,
        })
    }

    fn read_name(c: &mut Cursor<'a>) -> Option<&'a [u8]> {
        let name = c.str_lenenc()?;
        (c.u8()? == 0).then_some(name)
    }

    /// Appends the body.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        put_u48(out, self.table_id);
        out.extend_from_slice(&self.flags.to_le_bytes());
        put_str_lenenc(out, self.schema);
        out.push(0);
        put_str_lenenc(out, self.table);
        out.push(0);
        put_lenenc(out, self.column_types.len() as u64);
        out.extend_from_slice(self.column_types);
        put_str_lenenc(out, self.column_meta);
        out.extend_from_slice(self.null_bitmap);
        out.extend_from_slice(self.optional);
    }

    /// Type, metadata and nullability of each column, in order.
    #[must_use]
    pub fn columns(&self) -> Columns<'a> {
        Columns::new(self.column_types, self.column_meta, self.null_bitmap)
    }

    /// The columns of the primary key, if `binlog_row_metadata` is `FULL` and there is one.
    #[must_use]
    pub fn primary_key(&self) -> Option<PrimaryKey<'a>> {
        PrimaryKey::find(self.optional)
    }

    /// What `binlog_row_metadata` adds: signedness and character sets always, names, values of enums and sets, and
    /// the primary key when it is `FULL`.
    ///
    /// # Errors
    /// When a field is malformed.
    pub fn optional_metadata(&self) -> Result<OptionalMetadata<'a>, EventError> {
        let mut meta = OptionalMetadata::parse(self.optional)?;
        // Signedness and visibility are padded to whole bytes.
        let numeric = self
            .column_types
            .iter()
            .filter(|t| ColumnType(**t).is_numeric())
            .count();
        if let Some(bits) = &mut meta.unsigned {
            bits.truncate(numeric);
        }
        if let Some(bits) = &mut meta.visible {
            bits.truncate(self.column_types.len());
        }
        Ok(meta)
    }
}
