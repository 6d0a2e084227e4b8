//! The optional metadata of a table map event (MySQL 8.0).
//!
//! Fields {1 type, 1-9 length, value} of `Table_map_event::Optional_metadata_fields`
//! (`libs/mysql/binlog/event/rows_event.{h,cpp}`), in the order of `Table_map_log_event::init_metadata_fields`
//! (`sql/log_event.cc`). Integers are length-encoded. Which columns a list speaks of follows from their types:
//! signedness of numeric ones, character sets of character ones, values of enums, and so on, each in column order.

use super::{EventError, bad};
use crate::cursor::{Cursor, put_lenenc, put_str_lenenc};

const SIGNEDNESS: u8 = 1;
const DEFAULT_CHARSET: u8 = 2;
const COLUMN_CHARSET: u8 = 3;
const COLUMN_NAME: u8 = 4;
const SET_STR_VALUE: u8 = 5;
const ENUM_STR_VALUE: u8 = 6;
const GEOMETRY_TYPE: u8 = 7;
const SIMPLE_PRIMARY_KEY: u8 = 8;
const PRIMARY_KEY_WITH_PREFIX: u8 = 9;
const ENUM_AND_SET_DEFAULT_CHARSET: u8 = 10;
const ENUM_AND_SET_COLUMN_CHARSET: u8 = 11;
const COLUMN_VISIBILITY: u8 = 12;
const VECTOR_DIMENSIONALITY: u8 = 13;

/// A collation most columns have, and the columns that have another.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DefaultCharset {
    /// Number of the collation.
    pub default: u32,
    /// (place among the columns the list speaks of, number of its collation).
    pub others: Vec<(u32, u32)>,
}

/// The optional metadata. `None` is "not in the event".
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OptionalMetadata<'a> {
    /// For each numeric column: it is unsigned.
    pub unsigned: Option<Vec<bool>>,
    /// Collations of character columns.
    pub default_charset: Option<DefaultCharset>,
    /// Collations of character columns, one for each; the server writes this or `default_charset`, what is shorter.
    pub column_charsets: Option<Vec<u32>>,
    /// Names of all columns (`FULL`).
    pub names: Option<Vec<&'a [u8]>>,
    /// For each set column, its values, in the column's character set (`FULL`).
    pub set_values: Option<Vec<Vec<&'a [u8]>>>,
    /// For each enum column, its values, in the column's character set (`FULL`).
    pub enum_values: Option<Vec<Vec<&'a [u8]>>>,
    /// For each geometry column, its type (`Field::geometry_type`).
    pub geometry_types: Option<Vec<u32>>,
    /// Places of the columns of the primary key, in key order (`FULL`); no prefixes.
    pub simple_primary_key: Option<Vec<u32>>,
    /// (place of the column, length of the prefix in characters, 0 for all of it), in key order (`FULL`).
    pub primary_key_with_prefix: Option<Vec<(u32, u32)>>,
    /// Collations of enum and set columns (`FULL`).
    pub enum_and_set_default_charset: Option<DefaultCharset>,
    /// Collations of enum and set columns, one for each (`FULL`).
    pub enum_and_set_column_charsets: Option<Vec<u32>>,
    /// For each column: it is visible (`FULL`).
    pub visible: Option<Vec<bool>>,
    /// For each vector column, its number of dimensions.
    pub vector_dimensions: Option<Vec<u32>>,
    /// Fields of other types: (type, value).
    pub unknown: Vec<(u8, &'a [u8])>,
}

impl<'a> OptionalMetadata<'a> {
    /// Reads [`crate::TableMap::optional`]. Bit lists come padded to whole bytes;
    /// [`crate::TableMap::optional_metadata`] cuts them.
    ///
    /// # Errors
    /// When a field is cut off.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EventError> {
        let mut meta = Self::default();
        let mut c = Cursor::new(bytes);
        while !c.is_empty() {
            let field = c.u8().zip(c.str_lenenc());
            let read = field.and_then(|(ty, value)| meta.read_field(ty, value));
            read.ok_or_else(|| bad("Table_map")("a field of the optional metadata is cut off"))?;
        }
        Ok(meta)
    }

    fn read_field(&mut self, ty: u8, value: &'a [u8]) -> Option<()> {
        match ty {
            SIGNEDNESS => self.unsigned = Some(bits(value)),
            DEFAULT_CHARSET => self.default_charset = Some(default_charset(value)?),
            COLUMN_CHARSET => self.column_charsets = Some(list(value, int)?),
            COLUMN_NAME => self.names = Some(list(value, Cursor::str_lenenc)?),
            SET_STR_VALUE => self.set_values = Some(list(value, strings)?),
            ENUM_STR_VALUE => self.enum_values = Some(list(value, strings)?),
            GEOMETRY_TYPE => self.geometry_types = Some(list(value, int)?),
            SIMPLE_PRIMARY_KEY => self.simple_primary_key = Some(list(value, int)?),
            PRIMARY_KEY_WITH_PREFIX => self.primary_key_with_prefix = Some(list(value, pair)?),
            ENUM_AND_SET_DEFAULT_CHARSET => {
                self.enum_and_set_default_charset = Some(default_charset(value)?);
            }
            ENUM_AND_SET_COLUMN_CHARSET => {
                self.enum_and_set_column_charsets = Some(list(value, int)?);
            }
            COLUMN_VISIBILITY => self.visible = Some(bits(value)),
            VECTOR_DIMENSIONALITY => self.vector_dimensions = Some(list(value, int)?),
            _ => self.unknown.push((ty, value)),
        }
        Some(())
    }

    /// Appends all fields that are there, in the server's order.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_field(out, SIGNEDNESS, self.unsigned.as_deref(), put_bits);
        put_field(
            out,
            DEFAULT_CHARSET,
            self.default_charset.as_ref(),
            put_default_charset,
        );
        put_field(
            out,
            COLUMN_CHARSET,
            self.column_charsets.as_deref(),
            put_ints,
        );
        put_field(out, GEOMETRY_TYPE, self.geometry_types.as_deref(), put_ints);
        put_field(
            out,
            VECTOR_DIMENSIONALITY,
            self.vector_dimensions.as_deref(),
            put_ints,
        );
        put_field(out, COLUMN_NAME, self.names.as_deref(), put_strings);
        let enums = self.enum_and_set_default_charset.as_ref();
        put_field(
            out,
            ENUM_AND_SET_DEFAULT_CHARSET,
            enums,
            put_default_charset,
        );
        let enums = self.enum_and_set_column_charsets.as_deref();
        put_field(out, ENUM_AND_SET_COLUMN_CHARSET, enums, put_ints);
        put_field(out, SET_STR_VALUE, self.set_values.as_deref(), put_values);
        put_field(out, ENUM_STR_VALUE, self.enum_values.as_deref(), put_values);
        put_field(
            out,
            SIMPLE_PRIMARY_KEY,
            self.simple_primary_key.as_deref(),
            put_ints,
        );
        put_field(
            out,
            PRIMARY_KEY_WITH_PREFIX,
            self.primary_key_with_prefix.as_deref(),
            put_pairs,
        );
        put_field(out, COLUMN_VISIBILITY, self.visible.as_deref(), put_bits);
        for (ty, value) in &self.unknown {
            out.push(*ty);
            put_str_lenenc(out, value);
        }
    }
}

/// The columns of a primary key, in key order: (place of the column, length of the prefix in characters, 0 for all of it).
/// Ends where the list is malformed.
#[derive(Clone, Copy, Debug)]
pub struct PrimaryKey<'a> {
    list: Cursor<'a>,
    prefixes: bool,
}

impl<'a> PrimaryKey<'a> {
    /// Finds the key in the optional metadata without reading the rest. `None` when there is none (no `FULL`, or the
    /// table has no primary key).
    pub(crate) fn find(optional: &'a [u8]) -> Option<Self> {
        let mut c = Cursor::new(optional);
        loop {
            let (ty, value) = (c.u8()?, c.str_lenenc()?);
            if matches!(ty, SIMPLE_PRIMARY_KEY | PRIMARY_KEY_WITH_PREFIX) && !value.is_empty() {
                let list = Cursor::new(value);
                let prefixes = ty == PRIMARY_KEY_WITH_PREFIX;
                return Some(Self { list, prefixes });
            }
        }
    }
}

impl Iterator for PrimaryKey<'_> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<Self::Item> {
        if self.prefixes {
            return pair(&mut self.list);
        }
        int(&mut self.list).map(|column| (column, 0))
    }
}

fn int(c: &mut Cursor<'_>) -> Option<u32> {
    u32::try_from(c.lenenc()?).ok()
}

fn pair(c: &mut Cursor<'_>) -> Option<(u32, u32)> {
    Some((int(c)?, int(c)?))
}

fn strings<'a>(c: &mut Cursor<'a>) -> Option<Vec<&'a [u8]>> {
    // Grows with what is there, not with what the count claims.
    (0..c.lenenc()?).map(|_| c.str_lenenc()).collect()
}

/// Items until the value ends.
fn list<'a, T>(value: &'a [u8], item: impl Fn(&mut Cursor<'a>) -> Option<T>) -> Option<Vec<T>> {
    let mut c = Cursor::new(value);
    let mut out = Vec::new();
    while !c.is_empty() {
        out.push(item(&mut c)?);
    }
    Some(out)
}

fn default_charset(value: &[u8]) -> Option<DefaultCharset> {
    let mut c = Cursor::new(value);
    let default = int(&mut c)?;
    Some(DefaultCharset {
        default,
        others: list(c.take_rest(), pair)?,
    })
}

/// Highest bit first.
fn bits(value: &[u8]) -> Vec<bool> {
    value
        .iter()
        .flat_map(|b| (0..8).rev().map(move |i| b >> i & 1 == 1))
        .collect()
}

fn put_field<T: ?Sized>(
    out: &mut Vec<u8>,
    ty: u8,
    value: Option<&T>,
    put: impl Fn(&mut Vec<u8>, &T),
) {
    let Some(value) = value else { return };
    let mut bytes = Vec::new();
    put(&mut bytes, value);
    out.push(ty);
    put_str_lenenc(out, &bytes);
}

fn put_ints(out: &mut Vec<u8>, ints: &[u32]) {
    ints.iter().for_each(|n| put_lenenc(out, u64::from(*n)));
}

fn put_pairs(out: &mut Vec<u8>, pairs: &[(u32, u32)]) {
    pairs.iter().for_each(|(a, b)| put_ints(out, &[*a, *b]));
}

fn put_strings(out: &mut Vec<u8>, strings: &[&[u8]]) {
    strings.iter().for_each(|s| put_str_lenenc(out, s));
}

fn put_values(out: &mut Vec<u8>, columns: &[Vec<&[u8]>]) {
    for values in columns {
        put_lenenc(out, values.len() as u64);
        put_strings(out, values);
    }
}

fn put_default_charset(out: &mut Vec<u8>, charset: &DefaultCharset) {
    put_ints(out, &[charset.default]);
    put_pairs(out, &charset.others);
}

fn put_bits(out: &mut Vec<u8>, bits: &[bool]) {
    let byte =
        |bits: &[bool]| (0..8).fold(0, |acc, i| acc << 1 | u8::from(bits.get(i) == Some(&true)));
    out.extend(bits.chunks(8).map(byte));
}
