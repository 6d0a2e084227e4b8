//! Types of columns and their metadata in a table map event.
//!
//! Type codes of `include/field_types.h`; metadata as `Field::do_save_field_metadata` (`sql/field.cc`) writes and
//! `read_field_metadata` (`sql/rpl_utility.cc`) reads it:
//!
//! ```text
//! FLOAT, DOUBLE                      1  bytes of a value
//! TINY_BLOB … LONG_BLOB, JSON, GEOMETRY, VECTOR   1  bytes of the length
//! TIME2, DATETIME2, TIMESTAMP2       1  fractional digits
//! VARCHAR                            2  greatest length in bytes
//! BIT                                2  bits modulo 8, whole bytes
//! NEWDECIMAL                         2  precision, scale
//! STRING, ENUM, SET, VAR_STRING      2  real type, length (see real_type)
//! TYPED_ARRAY                        1  type of the elements, then 3 for VARCHAR, 2 for NEWDECIMAL, 1 for TIME2 and DATETIME2
//! ```

use super::{EventError, bad};
use crate::cursor::Cursor;

/// A type of a column, as the binlog numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnType(pub u8);

macro_rules! column_types {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl ColumnType {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// MySQL's name without `MYSQL_TYPE_`; `UNKNOWN` for others.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($code => stringify!($name),)*
                    _ => "UNKNOWN",
                }
            }
        }
    };
}

column_types! {
    /// `DECIMAL` before 5.0.
    DECIMAL = 0;
    /// `TINYINT`.
    TINY = 1;
    /// `SMALLINT`.
    SHORT = 2;
    /// `INT`.
    LONG = 3;
    /// `FLOAT`.
    FLOAT = 4;
    /// `DOUBLE`.
    DOUBLE = 5;
    /// `NULL`.
    NULL = 6;
    /// `TIMESTAMP` before 5.6.
    TIMESTAMP = 7;
    /// `BIGINT`.
    LONGLONG = 8;
    /// `MEDIUMINT`.
    INT24 = 9;
    /// `DATE`.
    DATE = 10;
    /// `TIME` before 5.6.
    TIME = 11;
    /// `DATETIME` before 5.6.
    DATETIME = 12;
    /// `YEAR`.
    YEAR = 13;
    /// `DATE`, internally.
    NEWDATE = 14;
    /// `VARCHAR`, `VARBINARY`.
    VARCHAR = 15;
    /// `BIT`.
    BIT = 16;
    /// `TIMESTAMP` with fractional digits.
    TIMESTAMP2 = 17;
    /// `DATETIME` with fractional digits.
    DATETIME2 = 18;
    /// `TIME` with fractional digits.
    TIME2 = 19;
    /// The hidden column of a multi-valued index.
    TYPED_ARRAY = 20;
    /// `VECTOR` (9.0).
    VECTOR = 242;
    /// Nothing.
    INVALID = 243;
    /// Nothing yet.
    BOOL = 244;
    /// `JSON`.
    JSON = 245;
    /// `DECIMAL`.
    NEWDECIMAL = 246;
    /// `ENUM`.
    ENUM = 247;
    /// `SET`.
    SET = 248;
    /// `TINYTEXT`, `TINYBLOB`.
    TINY_BLOB = 249;
    /// `MEDIUMTEXT`, `MEDIUMBLOB`.
    MEDIUM_BLOB = 250;
    /// `LONGTEXT`, `LONGBLOB`.
    LONG_BLOB = 251;
    /// `TEXT`, `BLOB`, and in a table map all their sizes.
    BLOB = 252;
    /// `VARCHAR` before 5.0.
    VAR_STRING = 253;
    /// `CHAR`, `BINARY`, and in a table map `ENUM` and `SET`.
    STRING = 254;
    /// Geometries.
    GEOMETRY = 255;
}

impl ColumnType {
    /// Whether it has a bit in the signedness field (`is_numeric_type` of `sql/log_event.cc`). A `YEAR` has, and is
    /// unsigned.
    #[must_use]
    pub const fn is_numeric(self) -> bool {
        matches!(
            self,
            Self::TINY
                | Self::SHORT
                | Self::INT24
                | Self::LONG
                | Self::LONGLONG
                | Self::NEWDECIMAL
                | Self::FLOAT
                | Self::DOUBLE
                | Self::YEAR
        )
    }
}

/// One column of a table map event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ColumnMeta {
    /// The type in the event; see [`Self::real_type`].
    pub column_type: ColumnType,
    /// The type's metadata as a number, 0 if it has none. Two-byte metadata of strings, enums, sets and decimals has
    /// its first byte in the higher bits, that of VARCHAR and BIT is little-endian.
    pub meta: u32,
    /// Type of the elements of a `TYPED_ARRAY`; `meta` is theirs.
    pub array_of: Option<ColumnType>,
    /// Whether it may be NULL.
    pub nullable: bool,
}

impl ColumnMeta {
    /// The type, with enums and sets told from strings.
    #[must_use]
    pub fn real_type(&self) -> ColumnType {
        let real = ColumnType((self.meta >> 8) as u8);
        match self.column_type {
            ColumnType::STRING if matches!(real, ColumnType::ENUM | ColumnType::SET) => real,
            other => other,
        }
    }

    /// Greatest length in bytes of a `CHAR` or `BINARY`, or bytes of an enum's or set's value. Lengths above 255
    /// hide two bits in the real type (`Field_string::do_save_field_metadata`).
    #[must_use]
    pub fn string_len(&self) -> u32 {
        match self.real_type() {
            ColumnType::STRING => ((self.meta >> 4) & 0x300 ^ 0x300) + (self.meta & 0xff),
            _ => self.meta & 0xff,
        }
    }
}

/// Where a value that is not NULL ends in a row image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// It has so many bytes.
    Fixed(u32),
    /// Its length stands in front of it, in so many bytes (1 to 4).
    Counted(u8),
}

impl ColumnMeta {
    /// How long values of the column are, as `calc_field_size` (`libs/mysql/binlog/event/binary_log_funcs.cpp`) has it.
    /// `None` for types that are in no row image of a server that writes these events.
    #[must_use]
    pub fn width(&self) -> Option<Width> {
        use ColumnType as T;
        let fraction = |whole: u32| whole + self.meta.div_ceil(2);
        let len = match self.real_type() {
            T::NULL => 0,
            T::TINY | T::YEAR => 1,
            T::SHORT => 2,
            T::INT24 | T::DATE | T::NEWDATE | T::TIME => 3,
            T::LONG | T::TIMESTAMP => 4,
            T::LONGLONG | T::DATETIME => 8,
            T::FLOAT | T::DOUBLE => self.meta,
            T::TIME2 => fraction(3),
            T::TIMESTAMP2 => fraction(4),
            T::DATETIME2 => fraction(5),
            T::ENUM | T::SET => self.string_len(),
            T::BIT => (self.meta >> 8) + u32::from(self.meta & 0xff > 0),
            T::NEWDECIMAL => decimal_len(self.meta >> 8, self.meta & 0xff)?,
            T::VARCHAR => return Some(Width::Counted(1 + u8::from(self.meta > 255))),
            T::STRING | T::VAR_STRING => {
                return Some(Width::Counted(1 + u8::from(self.string_len() > 255)));
            }
            T::TINY_BLOB
            | T::BLOB
            | T::MEDIUM_BLOB
            | T::LONG_BLOB
            | T::JSON
            | T::GEOMETRY
            | T::VECTOR => {
                let width = u8::try_from(self.meta).ok();
                return width.filter(|w| matches!(w, 1..=4)).map(Width::Counted);
            }
            _ => return None,
        };
        Some(Width::Fixed(len))
    }
}

/// Bytes of a packed decimal (`decimal_bin_size` of `strings/decimal.cc`): four for nine digits, fewer for the rest.
fn decimal_len(precision: u32, scale: u32) -> Option<u32> {
    let part = |digits: u32| digits / 9 * 4 + (digits % 9).div_ceil(2);
    let whole = precision.checked_sub(scale)?;
    Some(part(whole) + part(scale))
}

/// Walks the columns of a table map event. Ends behind an error.
#[derive(Clone, Debug)]
pub struct Columns<'a> {
    types: std::slice::Iter<'a, u8>,
    meta: Cursor<'a>,
    nulls: &'a [u8],
    index: usize,
}

impl<'a> Columns<'a> {
    pub(crate) fn new(types: &'a [u8], meta: &'a [u8], nulls: &'a [u8]) -> Self {
        Self {
            types: types.iter(),
            meta: Cursor::new(meta),
            nulls,
            index: 0,
        }
    }
}

impl Iterator for Columns<'_> {
    type Item = Result<ColumnMeta, EventError>;

    fn next(&mut self) -> Option<Self::Item> {
        let column_type = ColumnType(*self.types.next()?);
        let byte = self.nulls.get(self.index / 8).copied().unwrap_or(0);
        let nullable = byte >> (self.index % 8) & 1 == 1;
        self.index += 1;
        let Some((array_of, meta)) = read_meta(column_type, &mut self.meta) else {
            self.types = [].iter();
            return Some(Err(bad("Table_map")("the metadata of a column is cut off")));
        };
        Some(Ok(ColumnMeta {
            column_type,
            meta,
            array_of,
            nullable,
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.types.len()))
    }
}

fn read_meta(column_type: ColumnType, c: &mut Cursor<'_>) -> Option<(Option<ColumnType>, u32)> {
    if column_type != ColumnType::TYPED_ARRAY {
        return Some((None, read_simple_meta(column_type, c)?));
    }
    let element = ColumnType(c.u8()?);
    let meta = match element {
        ColumnType::VARCHAR => c.u24()?,
        other => read_simple_meta(other, c)?,
    };
    Some((Some(element), meta))
}

fn read_simple_meta(column_type: ColumnType, c: &mut Cursor<'_>) -> Option<u32> {
    Some(match column_type {
        ColumnType::FLOAT
        | ColumnType::DOUBLE
        | ColumnType::TINY_BLOB
        | ColumnType::BLOB
        | ColumnType::MEDIUM_BLOB
        | ColumnType::LONG_BLOB
        | ColumnType::JSON
        | ColumnType::GEOMETRY
        | ColumnType::VECTOR
        | ColumnType::TIME2
        | ColumnType::DATETIME2
        | ColumnType::TIMESTAMP2 => u32::from(c.u8()?),
        ColumnType::VARCHAR | ColumnType::BIT => u32::from(c.u16()?),
        ColumnType::STRING
        | ColumnType::VAR_STRING
        | ColumnType::ENUM
        | ColumnType::SET
        | ColumnType::NEWDECIMAL => u32::from(c.u16()?.swap_bytes()),
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_as_long_as_the_server_makes_them() {
        // dig2bytes of strings/decimal.cc.
        for (digits, bytes) in [0, 1, 1, 2, 2, 3, 3, 4, 4, 4].into_iter().enumerate() {
            assert_eq!(decimal_len(digits as u32, 0), Some(bytes), "{digits}");
        }
        assert_eq!(decimal_len(20, 6), Some(10));
        assert_eq!(decimal_len(65, 30), Some(30));
        assert_eq!(decimal_len(3, 4), None);
    }
}
