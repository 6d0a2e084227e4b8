//! How the rows of a table lie in the binlog.
//!
//! In: a table map event, or a table. Out: a [`Layout`], and the table map event a server would write for it. With
//! `binlog_row_metadata=FULL` the event says everything; otherwise names and values of enums come from the known table, and
//! an event that contradicts it is an error.

use tributary_binlog::{
    ColumnMeta, ColumnType, DefaultCharset, EventError, OptionalMetadata, TableMap,
};

use crate::charset::{Charset, Collation, to_utf8};
use crate::table::{
    BlobSize, Column, DataType, GeometryKind, Key, KeyKind, KeyPartOf, Table, same_name,
};

/// The columns of a table as its rows have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Columns, in order.
    pub columns: Vec<Column>,
    /// The primary key: places of columns, and lengths of prefixes (0 for all), in key order.
    pub primary_key: Vec<(u32, u32)>,
    /// Whether the event it came from had names (`FULL`).
    pub full: bool,
}

/// Why the layout of an event cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The event is damaged.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The event has no names, and the table is not known.
    #[error(
        "table {table}: the node writes no names of columns and its definition is not known; tell it (`tributary schema define`), and set binlog_row_metadata=FULL on the node"
    )]
    Unknown {
        /// The table.
        table: String,
    },
    /// The event contradicts what is known.
    #[error(
        "table {table}: {what} in the rows is not what the known definition has: it was changed there beside the binlog. Stop the service, tell it what \
         the table is like (`tributary schema define`), and start it again; and set binlog_row_metadata=FULL on the node"
    )]
    Contradiction {
        /// The table.
        table: String,
        /// What differs.
        what: String,
    },
    /// A column has a type or character set that is not known.
    #[error("table {table}: column {column} has the unknown {what}")]
    UnknownType {
        /// The table.
        table: String,
        /// The column, counted from 1, or its name.
        column: String,
        /// Type or collation, by number.
        what: String,
    },
}

/// Type code and metadata of a column in a table map.
pub(super) fn wire(column: &Column) -> (ColumnType, Vec<u8>) {
    use ColumnType as C;
    let max = column.collation.charset().map_or(1, Charset::max_len);
    let string = |len: u32| vec![254 ^ ((len & 0x300) >> 4) as u8, len as u8];
    match &column.data_type {
        DataType::Int { bytes, .. } => (
            match bytes {
                1 => C::TINY,
                2 => C::SHORT,
                3 => C::INT24,
                4 => C::LONG,
                _ => C::LONGLONG,
            },
            Vec::new(),
        ),
        DataType::Bit(n) => (C::BIT, vec![n % 8, n / 8]),
        DataType::Decimal {
            precision, scale, ..
        } => (C::NEWDECIMAL, vec![*precision, *scale]),
        DataType::Real { double: true, .. } => (C::DOUBLE, vec![8]),
        DataType::Real { double: false, .. } => (C::FLOAT, vec![4]),
        DataType::Year => (C::YEAR, Vec::new()),
        DataType::Date => (C::DATE, Vec::new()),
        DataType::Time(fsp) => (C::TIME2, vec![*fsp]),
        DataType::DateTime(fsp) => (C::DATETIME2, vec![*fsp]),
        DataType::Timestamp(fsp) => (C::TIMESTAMP2, vec![*fsp]),
        DataType::Char(n) => (C::STRING, string(n.saturating_mul(max))),
        DataType::Binary(n) => (C::STRING, string(*n)),
        DataType::VarChar(n) => (
            C::VARCHAR,
            (n.saturating_mul(max) as u16).to_le_bytes().to_vec(),
        ),
        DataType::VarBinary(n) => (C::VARCHAR, (*n as u16).to_le_bytes().to_vec()),
        DataType::Text(size) | DataType::Blob(size) => (C::BLOB, vec![size.length_bytes()]),
        DataType::Enum(values) => (C::STRING, vec![C::ENUM.0, enum_bytes(values.len())]),
        DataType::Set(values) => (C::STRING, vec![C::SET.0, set_bytes(values.len())]),
        DataType::Json => (C::JSON, vec![4]),
        DataType::Geometry(_) => (C::GEOMETRY, vec![4]),
        DataType::Vector(_) => (C::VECTOR, vec![4]),
    }
}

/// Bytes of an enum's number.
pub(super) fn enum_bytes(values: usize) -> u8 {
    if values < 256 { 1 } else { 2 }
}

/// Bytes of a set's bits.
pub(super) fn set_bytes(values: usize) -> u8 {
    match values.div_ceil(8) {
        n @ 0..=4 => n.max(1) as u8,
        _ => 8,
    }
}

/// Whether it has a place in the list of collations. A `VECTOR` has: it is a blob to the server.
pub(super) fn is_character(ty: ColumnType) -> bool {
    matches!(
        ty,
        ColumnType::STRING
            | ColumnType::VARCHAR
            | ColumnType::BLOB
            | ColumnType::VAR_STRING
            | ColumnType::VECTOR
    )
}

impl Layout {
    /// The layout of the rows of a table.
    #[must_use]
    pub fn of_table(table: &Table) -> Self {
        let primary = table.primary_key().map(|k| primary_key(table, k));
        Self {
            columns: table.columns.clone(),
            primary_key: primary.unwrap_or_default(),
            full: true,
        }
    }

    /// The layout that a table map event describes. `known` is the table's definition on that node, if there is one: it gives
    /// what the event lacks.
    ///
    /// # Errors
    /// When the event is damaged, does not suffice, or contradicts the known table. With `FULL` metadata the event is the
    /// newer truth and contradicts nothing.
    pub fn of_event(map: &TableMap<'_>, known: Option<&Table>) -> Result<Self, LayoutError> {
        let table = || {
            let names = [map.schema, map.table].map(String::from_utf8_lossy);
            format!("{}.{}", names[0], names[1])
        };
        let meta = map.optional_metadata()?;
        let full = meta.names.is_some();
        let mut reader = EventReader {
            meta: &meta,
            seen: Seen::default(),
        };
        let mut columns = Vec::new();
        for (at, column) in map.columns().enumerate() {
            let column = column?;
            let old = known.filter(|_| !full).and_then(|t| t.columns.get(at));
            let new = reader.column(at, &column, old).map_err(|what| {
                let name = meta.names.as_ref().and_then(|n| n.get(at));
                let name = name.map(|n| String::from_utf8_lossy(n).into_owned());
                let column = name.unwrap_or_else(|| (at + 1).to_string());
                LayoutError::UnknownType {
                    table: table(),
                    column,
                    what,
                }
            })?;
            columns.push(new);
        }
        let mut layout = Self {
            columns,
            primary_key: map.primary_key().into_iter().flatten().collect(),
            full,
        };
        if let Some(known) = known {
            layout.inherit(known);
        }
        if !full {
            let known = known.ok_or_else(|| LayoutError::Unknown { table: table() })?;
            layout
                .agree(known)
                .map_err(|what| LayoutError::Contradiction {
                    table: table(),
                    what,
                })?;
            layout.primary_key = Self::of_table(known).primary_key;
        }
        Ok(layout)
    }

    /// Takes what no event has: which columns are generated.
    fn inherit(&mut self, known: &Table) {
        for column in &mut self.columns {
            if let Some(old) = known
                .columns
                .iter()
                .find(|c| same_name(&c.name, &column.name))
            {
                column.generated.clone_from(&old.generated);
            }
        }
    }

    /// What differs from a known table; only what an event with `MINIMAL` metadata has is compared.
    fn agree(&self, known: &Table) -> Result<(), String> {
        if self.columns.len() != known.columns.len() {
            return Err(format!("the number of columns ({})", self.columns.len()));
        }
        for (new, old) in self.columns.iter().zip(&known.columns) {
            let same = wire(new) == wire(old)
                && new.nullable == old.nullable
                && new.data_type.is_unsigned() == old.data_type.is_unsigned()
                && new.collation == old.collation;
            if !same {
                return Err(format!("column `{}`", old.name));
            }
        }
        Ok(())
    }
}

fn primary_key(table: &Table, key: &Key) -> Vec<(u32, u32)> {
    debug_assert!(key.kind == KeyKind::Primary, "asked for the primary key");
    let parts = key.parts.iter().filter_map(|part| match &part.what {
        KeyPartOf::Column(name) => {
            let at = table.column_index(name)?;
            Some((u32::try_from(at).ok()?, part.prefix.unwrap_or(0)))
        }
        KeyPartOf::Expression(_) => None,
    });
    parts.collect()
}

/// How many columns of each kind have been read: the lists of the metadata go by kind.
#[derive(Default)]
struct Seen {
    numeric: usize,
    character: usize,
    listed: usize,
    enums: usize,
    sets: usize,
    geometries: usize,
    vectors: usize,
}

struct EventReader<'a> {
    meta: &'a OptionalMetadata<'a>,
    seen: Seen,
}

fn next(count: &mut usize) -> usize {
    *count += 1;
    *count - 1
}

fn collation(
    list: Option<&Vec<u32>>,
    default: Option<&DefaultCharset>,
    at: usize,
) -> Option<Collation> {
    let number = match (list, default) {
        (Some(list), _) => list.get(at).copied(),
        (None, Some(default)) => {
            let other = default.others.iter().find(|(n, _)| *n as usize == at);
            Some(other.map_or(default.default, |(_, c)| *c))
        }
        _ => None,
    };
    number.and_then(|n| u16::try_from(n).ok()).map(Collation)
}

impl EventReader<'_> {
    fn column(
        &mut self,
        at: usize,
        column: &ColumnMeta,
        old: Option<&Column>,
    ) -> Result<Column, String> {
        let meta = self.meta;
        let ty = column.real_type();
        let unsigned = ty.is_numeric() && {
            let n = next(&mut self.seen.numeric);
            let bits = meta.unsigned.as_ref().and_then(|u| u.get(n));
            bits.copied().unwrap_or(false)
        };
        let mut charset = Collation::BINARY;
        if is_character(ty) {
            let n = next(&mut self.seen.character);
            let found = collation(
                meta.column_charsets.as_ref(),
                meta.default_charset.as_ref(),
                n,
            );
            charset = found
                .or(old.map(|o| o.collation))
                .unwrap_or(Collation::BINARY);
        } else if matches!(ty, ColumnType::ENUM | ColumnType::SET) {
            let n = next(&mut self.seen.listed);
            let list = meta.enum_and_set_column_charsets.as_ref();
            let found = collation(list, meta.enum_and_set_default_charset.as_ref(), n);
            charset = found
                .or(old.map(|o| o.collation))
                .unwrap_or(Collation::DEFAULT);
        }
        let set = charset
            .charset()
            .ok_or_else(|| format!("collation {}", charset.0))?;
        let data_type = self.data_type(ty, column, unsigned, set, old)?;
        let name = meta.names.as_ref().and_then(|n| n.get(at));
        let name = match (name, old) {
            (Some(name), _) => String::from_utf8_lossy(name).into_owned(),
            (None, Some(old)) => old.name.clone(),
            (None, None) => String::new(),
        };
        let mut new = Column::new(&name, data_type, charset);
        new.nullable = column.nullable;
        let visible = meta.visible.as_ref().and_then(|v| v.get(at));
        new.invisible = visible.is_some_and(|v| !v);
        Ok(new)
    }

    fn data_type(
        &mut self,
        ty: ColumnType,
        column: &ColumnMeta,
        unsigned: bool,
        set: Charset,
        old: Option<&Column>,
    ) -> Result<DataType, String> {
        use ColumnType as C;
        let binary = set.name() == "binary";
        let fsp = column.meta.min(6) as u8;
        let known = |seen: Option<&Vec<&[u8]>>, old: Option<&Vec<String>>| match (seen, old) {
            (Some(values), _) => values.iter().map(|v| to_utf8(set, v)).collect(),
            (None, Some(old)) => old.clone(),
            // As many values as the bytes hold, without names: enough to copy rows.
            (None, None) => Vec::new(),
        };
        Ok(match ty {
            C::TINY => DataType::int(1, unsigned),
            C::SHORT => DataType::int(2, unsigned),
            C::INT24 => DataType::int(3, unsigned),
            C::LONG => DataType::int(4, unsigned),
            C::LONGLONG => DataType::int(8, unsigned),
            C::BIT => DataType::Bit(((column.meta >> 8) * 8 + (column.meta & 0xff)) as u8),
            C::NEWDECIMAL => DataType::Decimal {
                precision: (column.meta >> 8) as u8,
                scale: column.meta as u8,
                unsigned,
                zerofill: false,
            },
            C::FLOAT | C::DOUBLE => DataType::Real {
                double: ty == C::DOUBLE,
                digits: None,
                unsigned,
                zerofill: false,
            },
            C::YEAR => DataType::Year,
            C::DATE => DataType::Date,
            C::TIME2 => DataType::Time(fsp),
            C::DATETIME2 => DataType::DateTime(fsp),
            C::TIMESTAMP2 => DataType::Timestamp(fsp),
            C::STRING if binary => DataType::Binary(column.string_len()),
            C::STRING => DataType::Char(column.string_len() / set.max_len()),
            C::VARCHAR if binary => DataType::VarBinary(column.meta),
            C::VARCHAR => DataType::VarChar(column.meta / set.max_len()),
            C::BLOB => {
                let size = match column.meta {
                    1 => BlobSize::Tiny,
                    2 => BlobSize::Plain,
                    3 => BlobSize::Medium,
                    _ => BlobSize::Long,
                };
                if binary {
                    DataType::Blob(size)
                } else {
                    DataType::Text(size)
                }
            }
            C::ENUM => {
                let n = next(&mut self.seen.enums);
                let old = old.and_then(|o| match &o.data_type {
                    DataType::Enum(values) => Some(values),
                    _ => None,
                });
                DataType::Enum(known(
                    self.meta.enum_values.as_ref().and_then(|v| v.get(n)),
                    old,
                ))
            }
            C::SET => {
                let n = next(&mut self.seen.sets);
                let old = old.and_then(|o| match &o.data_type {
                    DataType::Set(values) => Some(values),
                    _ => None,
                });
                DataType::Set(known(
                    self.meta.set_values.as_ref().and_then(|v| v.get(n)),
                    old,
                ))
            }
            C::JSON => DataType::Json,
            C::GEOMETRY => {
                let n = next(&mut self.seen.geometries);
                let kind = self.meta.geometry_types.as_ref().and_then(|g| g.get(n));
                let kind = kind.and_then(|k| GeometryKind::ALL.get(*k as usize));
                DataType::Geometry(kind.copied().unwrap_or(GeometryKind::Geometry))
            }
            C::VECTOR => {
                let n = next(&mut self.seen.vectors);
                let dimensions = self.meta.vector_dimensions.as_ref().and_then(|d| d.get(n));
                DataType::Vector(dimensions.copied().unwrap_or(2048))
            }
            other => return Err(format!("type {}", other.0)),
        })
    }
}
