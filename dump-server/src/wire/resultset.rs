//! Result sets in the text protocol.
//!
//! In: columns and rows. Out: the packets of one result set, in the old or the EOF-less form. Column metadata follows
//! what MySQL 9.7 sends for the same statement; clients read all values as text.

use std::borrow::Cow;

use super::flags::{CapabilityFlags, StatusFlags};

use super::binary;
use super::cursor::{put_lenenc, put_lenenc_str};
use super::packet::PacketWriter;
use super::reply::{put_eof, put_result_end};

/// Collation id of binary and numeric columns.
pub(crate) const BINARY_COLLATION: u16 = 63;

/// Column types used here, by MySQL's numbers.
pub(crate) mod types {
    /// TINYINT.
    pub(crate) const TINY: u8 = 0x01;
    /// SMALLINT.
    pub(crate) const SHORT: u8 = 0x02;
    /// INT.
    pub(crate) const LONG: u8 = 0x03;
    /// FLOAT.
    pub(crate) const FLOAT: u8 = 0x04;
    /// NULL literal.
    pub(crate) const NULL: u8 = 0x06;
    /// TIMESTAMP.
    pub(crate) const TIMESTAMP: u8 = 0x07;
    /// MEDIUMINT.
    pub(crate) const INT24: u8 = 0x09;
    /// DATE.
    pub(crate) const DATE: u8 = 0x0a;
    /// YEAR.
    pub(crate) const YEAR: u8 = 0x0d;
    /// BIGINT.
    pub(crate) const LONGLONG: u8 = 0x08;
    /// DATETIME.
    pub(crate) const DATETIME: u8 = 0x0c;
    /// TIME.
    pub(crate) const TIME: u8 = 0x0b;
    /// DECIMAL.
    pub(crate) const NEWDECIMAL: u8 = 0xf6;
    /// DOUBLE.
    pub(crate) const DOUBLE: u8 = 0x05;
    /// LONGTEXT.
    pub(crate) const LONG_BLOB: u8 = 0xfb;
    /// CHAR, ENUM and SET.
    pub(crate) const STRING: u8 = 0xfe;
    /// VARCHAR.
    pub(crate) const VAR_STRING: u8 = 0xfd;
}

/// Column flags used here.
pub(crate) mod flags {
    /// NOT NULL.
    pub(crate) const NOT_NULL: u16 = 0x1;
    /// UNSIGNED.
    pub(crate) const UNSIGNED: u16 = 0x20;
    /// A table's column without a default value.
    pub(crate) const NO_DEFAULT: u16 = 0x1000;
    /// Compared as bytes.
    pub(crate) const BINARY: u16 = 0x80;
    /// An ENUM.
    pub(crate) const ENUM: u16 = 0x100;
}

/// The character set results are sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResultCharset {
    /// Collation id shown in string columns.
    pub collation: u16,
    /// Greatest bytes per character.
    pub bytes_per_char: u32,
}

impl Default for ResultCharset {
    fn default() -> Self {
        Self {
            collation: 255,
            bytes_per_char: 4,
        }
    }
}

/// One column's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Schema the column comes from, usually empty.
    pub schema: &'static str,
    /// Table, usually empty.
    pub table: &'static str,
    /// Name clients see.
    pub name: Cow<'static, str>,
    /// Original name, when it comes from a table.
    pub org_name: Cow<'static, str>,
    /// Type, from [`types`].
    pub ty: u8,
    /// Flags, from [`flags`].
    pub flags: u16,
    /// Greatest length: characters for strings, digits for numbers.
    pub length: u32,
    /// Digits behind the point; 31 = not fixed.
    pub decimals: u8,
    /// True for strings in the result character set; false for binary and numbers.
    pub is_text: bool,
}

impl Column {
    /// A string column of up to `chars` characters.
    pub(crate) fn text(name: impl Into<Cow<'static, str>>, chars: u32) -> Self {
        Self {
            schema: "",
            table: "",
            name: name.into(),
            org_name: Cow::Borrowed(""),
            ty: types::VAR_STRING,
            flags: 0,
            length: chars,
            decimals: 31,
            is_text: true,
        }
    }

    /// A BIGINT column.
    pub(crate) fn integer(name: impl Into<Cow<'static, str>>, length: u32, flags: u16) -> Self {
        Self {
            ty: types::LONGLONG,
            flags: flags | flags::BINARY,
            length,
            decimals: 0,
            is_text: false,
            ..Self::text(name, 0)
        }
    }

    /// The same column, NOT NULL.
    pub(crate) fn not_null(mut self) -> Self {
        self.flags |= flags::NOT_NULL;
        self
    }

    /// The same column with another type.
    pub(crate) fn with_type(mut self, ty: u8) -> Self {
        self.ty = ty;
        self
    }

    /// The same column under another name.
    pub(crate) fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// The same column as one of a table.
    pub(crate) fn of_table(mut self, schema: &'static str, table: &'static str) -> Self {
        self.schema = schema;
        self.table = table;
        self.org_name = self.name.clone();
        self.decimals = 0;
        if self.flags & flags::NOT_NULL != 0 {
            self.flags |= flags::NO_DEFAULT;
        }
        self
    }

    fn put(&self, charset: ResultCharset, out: &mut Vec<u8>) {
        let (collation, length) = if self.is_text {
            (
                charset.collation,
                self.length.saturating_mul(charset.bytes_per_char),
            )
        } else {
            (BINARY_COLLATION, self.length)
        };
        put_lenenc_str(out, b"def");
        put_lenenc_str(out, self.schema.as_bytes());
        put_lenenc_str(out, self.table.as_bytes());
        put_lenenc_str(out, self.table.as_bytes());
        put_lenenc_str(out, self.name.as_bytes());
        put_lenenc_str(out, self.org_name.as_bytes());
        out.push(0x0c);
        out.extend_from_slice(&collation.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.push(self.ty);
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.push(self.decimals);
        out.extend_from_slice(&[0, 0]);
    }
}

/// A value as the text protocol sends it; `None` is NULL.
pub(crate) type Cell = Option<String>;

/// Columns and rows of one answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResultSet {
    /// Columns, at least one.
    pub columns: Vec<Column>,
    /// Rows; each as long as `columns`.
    pub rows: Vec<Vec<Cell>>,
}

impl ResultSet {
    /// An answer without rows so far.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// Writes the column definitions: the part that may be followed by an error instead of rows.
    pub(crate) fn put_header(
        &self,
        caps: CapabilityFlags,
        charset: ResultCharset,
        status: StatusFlags,
        out: &mut PacketWriter<'_>,
    ) {
        self.put_columns(charset, out);
        if !caps.contains(CapabilityFlags::CLIENT_DEPRECATE_EOF) {
            out.packet(|o| put_eof(status, o));
        }
    }

    /// Writes the number of columns and their definitions.
    pub(crate) fn put_columns(&self, charset: ResultCharset, out: &mut PacketWriter<'_>) {
        out.packet(|o| put_lenenc(o, self.columns.len() as u64));
        self.put_definitions(charset, out);
    }

    /// Writes the columns' definitions alone.
    pub(crate) fn put_definitions(&self, charset: ResultCharset, out: &mut PacketWriter<'_>) {
        for column in &self.columns {
            out.packet(|o| column.put(charset, o));
        }
    }

    /// Writes the whole answer with binary rows.
    pub(crate) fn put_binary(
        &self,
        caps: CapabilityFlags,
        charset: ResultCharset,
        status: StatusFlags,
        out: &mut PacketWriter<'_>,
    ) {
        self.put_header(caps, charset, status, out);
        for row in &self.rows {
            out.packet(|o| binary::put_row(&self.columns, row, o));
        }
        out.packet(|o| put_result_end(caps, status, o));
    }

    /// Writes the whole answer.
    pub(crate) fn put(
        &self,
        caps: CapabilityFlags,
        charset: ResultCharset,
        status: StatusFlags,
        out: &mut PacketWriter<'_>,
    ) {
        self.put_header(caps, charset, status, out);
        for row in &self.rows {
            out.packet(|o| put_row(row, o));
        }
        out.packet(|o| put_result_end(caps, status, o));
    }
}

/// Appends a row of the text protocol.
pub(crate) fn put_row(row: &[Cell], out: &mut Vec<u8>) {
    for cell in row {
        match cell {
            Some(text) => put_lenenc_str(out, text.as_bytes()),
            None => out.push(0xfb),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column_bytes(column: &Column) -> Vec<u8> {
        let mut out = Vec::new();
        column.put(ResultCharset::default(), &mut out);
        out
    }

    #[test]
    fn columns_are_the_bytes_mysql_9_7_sends() {
        assert_eq!(
            column_bytes(&Column::integer("@@GLOBAL.SERVER_ID", 21, flags::UNSIGNED)),
            b"\x03def\0\0\0\x12@@GLOBAL.SERVER_ID\0\x0c?\0\x15\0\0\0\x08\xa0\0\0\0\0"
        );
        assert_eq!(
            column_bytes(&Column::text("@@GLOBAL.GTID_MODE", 21845)),
            b"\x03def\0\0\0\x12@@GLOBAL.GTID_MODE\0\x0c\xff\0TU\x01\0\xfd\0\0\x1f\0\0"
        );
        assert_eq!(
            column_bytes(
                &Column::text("Variable_name", 64)
                    .not_null()
                    .of_table("performance_schema", "session_variables")
            ),
            b"\x03def\x12performance_schema\x11session_variables\x11session_variables\rVariable_name\rVariable_name\x0c\xff\0\0\x01\0\0\xfd\x01\x10\0\0\0"
        );
    }

    #[test]
    fn both_forms_of_the_end_are_framed() {
        let mut set = ResultSet::new(vec![Column::integer("1", 2, flags::NOT_NULL)]);
        set.push(vec![Some("1".into())]);
        let auto = StatusFlags::SERVER_STATUS_AUTOCOMMIT;
        let mut old = Vec::new();
        set.put(
            CapabilityFlags::empty(),
            ResultCharset::default(),
            auto,
            &mut PacketWriter::new(&mut old, 1),
        );
        assert!(
            old.ends_with(b"\x02\0\0\x04\x011\x05\0\0\x05\xfe\0\0\x02\0"),
            "{old:?}"
        );
        let mut new = Vec::new();
        let caps = CapabilityFlags::CLIENT_DEPRECATE_EOF;
        set.put(
            caps,
            ResultCharset::default(),
            auto,
            &mut PacketWriter::new(&mut new, 1),
        );
        assert!(
            new.ends_with(b"\x02\0\0\x03\x011\x07\0\0\x04\xfe\0\0\x02\0\0\0"),
            "{new:?}"
        );
    }

    #[test]
    fn null_is_not_the_empty_string() {
        let mut out = Vec::new();
        put_row(&[None, Some(String::new())], &mut out);
        assert_eq!(out, [0xfb, 0]);
    }
}
