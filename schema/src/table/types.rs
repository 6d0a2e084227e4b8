//! Types of columns, as `CREATE TABLE` writes them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::lex::quote_text;

/// The family of `BLOB` and `TEXT`, by bytes of the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BlobSize {
    /// Up to 255 bytes.
    Tiny,
    /// Up to 64 KiB.
    Plain,
    /// Up to 16 MiB.
    Medium,
    /// Up to 4 GiB.
    Long,
}

impl BlobSize {
    /// Bytes of the length in front of a value.
    #[must_use]
    pub fn length_bytes(self) -> u8 {
        match self {
            Self::Tiny => 1,
            Self::Plain => 2,
            Self::Medium => 3,
            Self::Long => 4,
        }
    }

    /// The smallest one that holds `bytes`.
    #[must_use]
    pub fn for_bytes(bytes: u64) -> Self {
        match bytes {
            0..=0xff => Self::Tiny,
            0x100..=0xffff => Self::Plain,
            0x1_0000..=0xff_ffff => Self::Medium,
            _ => Self::Long,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Plain => "",
            Self::Medium => "medium",
            Self::Long => "long",
        }
    }
}

/// Kinds of geometries, with the numbers of `Field::geometry_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum GeometryKind {
    /// Any.
    Geometry = 0,
    /// `POINT`.
    Point = 1,
    /// `LINESTRING`.
    LineString = 2,
    /// `POLYGON`.
    Polygon = 3,
    /// `MULTIPOINT`.
    MultiPoint = 4,
    /// `MULTILINESTRING`.
    MultiLineString = 5,
    /// `MULTIPOLYGON`.
    MultiPolygon = 6,
    /// `GEOMETRYCOLLECTION`, written `geomcollection`.
    Collection = 7,
}

impl GeometryKind {
    /// All of them, by number.
    pub const ALL: [Self; 8] = [
        Self::Geometry,
        Self::Point,
        Self::LineString,
        Self::Polygon,
        Self::MultiPoint,
        Self::MultiLineString,
        Self::MultiPolygon,
        Self::Collection,
    ];

    /// As `SHOW CREATE TABLE` writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Geometry => "geometry",
            Self::Point => "point",
            Self::LineString => "linestring",
            Self::Polygon => "polygon",
            Self::MultiPoint => "multipoint",
            Self::MultiLineString => "multilinestring",
            Self::MultiPolygon => "multipolygon",
            Self::Collection => "geomcollection",
        }
    }

    /// The kind with this name, in any case.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("geometrycollection") {
            return Some(Self::Collection);
        }
        let mut all = Self::ALL.into_iter();
        all.find(|k| k.name().eq_ignore_ascii_case(name))
    }
}

/// A type. Its display is the text of `SHOW CREATE TABLE`, without character set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataType {
    /// `TINYINT` … `BIGINT`.
    Int {
        /// Bytes of a value: 1, 2, 3, 4 or 8.
        bytes: u8,
        /// `UNSIGNED`.
        unsigned: bool,
        /// `ZEROFILL` (with `unsigned`).
        zerofill: bool,
        /// Display width; kept with zero fill and for `tinyint(1)`, as the server does.
        width: Option<u8>,
    },
    /// `BIT(n)`.
    Bit(u8),
    /// `DECIMAL(precision,scale)`.
    Decimal {
        /// All digits.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
        /// `UNSIGNED`.
        unsigned: bool,
        /// `ZEROFILL`.
        zerofill: bool,
    },
    /// `FLOAT` and `DOUBLE`.
    Real {
        /// 8 bytes rather than 4.
        double: bool,
        /// `(precision,scale)`, deprecated.
        digits: Option<(u8, u8)>,
        /// `UNSIGNED`.
        unsigned: bool,
        /// `ZEROFILL`.
        zerofill: bool,
    },
    /// `YEAR`.
    Year,
    /// `DATE`.
    Date,
    /// `TIME(fsp)`.
    Time(u8),
    /// `DATETIME(fsp)`.
    DateTime(u8),
    /// `TIMESTAMP(fsp)`.
    Timestamp(u8),
    /// `CHAR(n)`, n characters.
    Char(u32),
    /// `VARCHAR(n)`, n characters.
    VarChar(u32),
    /// `BINARY(n)`.
    Binary(u32),
    /// `VARBINARY(n)`.
    VarBinary(u32),
    /// `TINYTEXT` … `LONGTEXT`.
    Text(BlobSize),
    /// `TINYBLOB` … `LONGBLOB`.
    Blob(BlobSize),
    /// `ENUM`.
    Enum(Vec<String>),
    /// `SET`.
    Set(Vec<String>),
    /// `JSON`.
    Json,
    /// Geometries.
    Geometry(GeometryKind),
    /// `VECTOR(n)`, at most n numbers.
    Vector(u32),
}

impl DataType {
    /// A signed or unsigned integer of so many bytes.
    #[must_use]
    pub fn int(bytes: u8, unsigned: bool) -> Self {
        Self::Int {
            bytes,
            unsigned,
            zerofill: false,
            width: None,
        }
    }

    /// Whether values have a character set (and columns a collation).
    #[must_use]
    pub fn has_charset(&self) -> bool {
        matches!(
            self,
            Self::Char(_) | Self::VarChar(_) | Self::Text(_) | Self::Enum(_) | Self::Set(_)
        )
    }

    /// Whether it is a number that may be unsigned, and is.
    #[must_use]
    pub fn is_unsigned(&self) -> bool {
        match self {
            Self::Int { unsigned, .. }
            | Self::Decimal { unsigned, .. }
            | Self::Real { unsigned, .. } => *unsigned,
            Self::Year => true,
            _ => false,
        }
    }

    fn numeric_tail(&self) -> &'static str {
        match self {
            Self::Int {
                unsigned, zerofill, ..
            }
            | Self::Decimal {
                unsigned, zerofill, ..
            }
            | Self::Real {
                unsigned, zerofill, ..
            } => match (unsigned, zerofill) {
                (_, true) => " unsigned zerofill",
                (true, _) => " unsigned",
                _ => "",
            },
            _ => "",
        }
    }
}

fn int_name(bytes: u8) -> &'static str {
    match bytes {
        1 => "tinyint",
        2 => "smallint",
        3 => "mediumint",
        4 => "int",
        _ => "bigint",
    }
}

fn list(f: &mut fmt::Formatter<'_>, name: &str, values: &[String]) -> fmt::Result {
    let values: Vec<String> = values.iter().map(|v| quote_text(v)).collect();
    write!(f, "{name}({})", values.join(","))
}

fn fraction(f: &mut fmt::Formatter<'_>, name: &str, fsp: u8) -> fmt::Result {
    match fsp {
        0 => f.write_str(name),
        fsp => write!(f, "{name}({fsp})"),
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int { bytes, width, .. } => {
                f.write_str(int_name(*bytes))?;
                if let Some(width) = width {
                    write!(f, "({width})")?;
                }
            }
            Self::Bit(bits) => write!(f, "bit({bits})")?,
            Self::Decimal {
                precision, scale, ..
            } => write!(f, "decimal({precision},{scale})")?,
            Self::Real { double, digits, .. } => {
                f.write_str(if *double { "double" } else { "float" })?;
                if let Some((precision, scale)) = digits {
                    write!(f, "({precision},{scale})")?;
                }
            }
            Self::Year => f.write_str("year")?,
            Self::Date => f.write_str("date")?,
            Self::Time(fsp) => fraction(f, "time", *fsp)?,
            Self::DateTime(fsp) => fraction(f, "datetime", *fsp)?,
            Self::Timestamp(fsp) => fraction(f, "timestamp", *fsp)?,
            Self::Char(n) => write!(f, "char({n})")?,
            Self::VarChar(n) => write!(f, "varchar({n})")?,
            Self::Binary(n) => write!(f, "binary({n})")?,
            Self::VarBinary(n) => write!(f, "varbinary({n})")?,
            Self::Text(size) => write!(f, "{}text", size.prefix())?,
            Self::Blob(size) => write!(f, "{}blob", size.prefix())?,
            Self::Enum(values) => list(f, "enum", values)?,
            Self::Set(values) => list(f, "set", values)?,
            Self::Json => f.write_str("json")?,
            Self::Geometry(kind) => f.write_str(kind.name())?,
            Self::Vector(n) => write!(f, "vector({n})")?,
        }
        f.write_str(self.numeric_tail())
    }
}
