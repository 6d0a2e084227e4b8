//! What stands in a column that the node's rows do not have.
//!
//! In: the logical column. Out: its default as the binlog has it. What only the node or the replica can know (the time of a
//! statement, an expression) is said to be so.

use super::convert::Width;
use super::layout::{enum_bytes, set_bytes};
use super::{decimal, temporal};
use crate::charset::from_utf8;
use crate::table::{Column, DataType, DefaultValue};

/// A value for a column without a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    Null,
    /// These bytes, length included.
    Bytes(Vec<u8>),
    /// `CURRENT_TIMESTAMP`: the time of the row's event.
    Now,
    /// A generated column: whoever reads computes it.
    Computed,
    /// An expression, or no default where one is needed.
    Unknown,
}

impl Fill {
    pub(super) fn of(column: &Column) -> Self {
        if column.generated.is_some() {
            return Self::Computed;
        }
        let value = match &column.default {
            None | Some(DefaultValue::Null) if column.nullable => return Self::Null,
            None | Some(DefaultValue::Null) => implicit(&column.data_type),
            Some(DefaultValue::Now) => return Self::Now,
            Some(DefaultValue::Expression(_)) => None,
            Some(DefaultValue::Bits(digits)) => {
                u64::from_str_radix(digits, 2)
                    .ok()
                    .and_then(|n| match &column.data_type {
                        DataType::Bit(bits) => Some(bit(n, *bits)),
                        DataType::Int { bytes, .. } => Some(little(n, *bytes)),
                        _ => None,
                    })
            }
            Some(DefaultValue::Bytes(bytes)) => Some(bytes.clone()),
            Some(DefaultValue::Text(text)) => value(column, text),
        };
        match value.and_then(|v| counted(column, v)) {
            Some(bytes) => Self::Bytes(bytes),
            None => Self::Unknown,
        }
    }
}

fn little(n: u64, len: u8) -> Vec<u8> {
    n.to_le_bytes()
        .iter()
        .copied()
        .take(usize::from(len))
        .collect()
}

fn bit(n: u64, bits: u8) -> Vec<u8> {
    let len = usize::from(bits.div_ceil(8)).min(8);
    n.to_be_bytes().get(8 - len..).unwrap_or(&[]).to_vec()
}

/// The value with its length in front, if its type has one.
fn counted(column: &Column, mut value: Vec<u8>) -> Option<Vec<u8>> {
    match Width::of(column) {
        Width::Fixed(n) => (value.len() == n as usize).then_some(value),
        Width::Counted(width) => {
            match column.data_type {
                DataType::Char(_) => value.truncate(
                    value
                        .iter()
                        .rposition(|b| *b != b' ')
                        .map_or(0, |at| at + 1),
                ),
                DataType::Binary(_) => {
                    value.truncate(value.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1));
                }
                _ => {}
            }
            let mut out = little(value.len() as u64, width);
            out.append(&mut value);
            Some(out)
        }
    }
}

/// The default of a type, for columns that have none and may not be NULL.
fn implicit(data_type: &DataType) -> Option<Vec<u8>> {
    use DataType as T;
    Some(match data_type {
        T::Int { bytes, .. } => vec![0; usize::from(*bytes)],
        T::Bit(bits) => bit(0, *bits),
        T::Decimal {
            precision, scale, ..
        } => {
            let mut out = Vec::new();
            decimal::put(&decimal::parse("0")?, *precision, *scale, &mut out)?;
            out
        }
        T::Real { double, .. } => vec![0; if *double { 8 } else { 4 }],
        T::Year => vec![0],
        T::Date => vec![0; 3],
        T::Time(fsp) => temporal::parse_time("00:00:00", *fsp)?,
        T::DateTime(fsp) => temporal::parse_datetime("0000-00-00 00:00:00", *fsp)?,
        T::Timestamp(fsp) => temporal::timestamp(0, 0, *fsp),
        T::Char(_) | T::VarChar(_) | T::Binary(_) | T::VarBinary(_) | T::Text(_) | T::Blob(_) => {
            Vec::new()
        }
        T::Enum(values) => little(1, enum_bytes(values.len())),
        T::Set(values) => little(0, set_bytes(values.len())),
        // The literal null of JSON.
        T::Json => vec![4, 0],
        T::Geometry(_) | T::Vector(_) => return None,
    })
}

fn value(column: &Column, text: &str) -> Option<Vec<u8>> {
    use DataType as T;
    Some(match &column.data_type {
        T::Int { bytes, .. } => {
            let n: i128 = text.trim().parse().ok()?;
            little(n as u64, *bytes)
        }
        T::Bit(bits) => bit(text.trim().parse().ok()?, *bits),
        T::Decimal {
            precision, scale, ..
        } => {
            let mut out = Vec::new();
            decimal::put(&decimal::parse(text)?, *precision, *scale, &mut out)?;
            out
        }
        T::Real { double: true, .. } => text.trim().parse::<f64>().ok()?.to_le_bytes().to_vec(),
        T::Real { double: false, .. } => text.trim().parse::<f32>().ok()?.to_le_bytes().to_vec(),
        T::Year => {
            let year: u16 = text.trim().parse().ok()?;
            vec![u8::try_from(year.saturating_sub(1900)).ok()?]
        }
        T::Date => temporal::parse_date(text)?,
        T::Time(fsp) => temporal::parse_time(text, *fsp)?,
        T::DateTime(fsp) => temporal::parse_datetime(text, *fsp)?,
        T::Timestamp(fsp) => temporal::parse_timestamp(text, *fsp)?,
        T::Char(_) | T::VarChar(_) | T::Text(_) => from_utf8(column.collation.charset()?, text)?,
        T::Binary(_) | T::VarBinary(_) | T::Blob(_) => text.as_bytes().to_vec(),
        T::Enum(values) => {
            let at = values
                .iter()
                .position(|v| v == text || v.to_lowercase() == text.to_lowercase())?;
            little(at as u64 + 1, enum_bytes(values.len()))
        }
        T::Set(values) => {
            let mut bits = 0_u64;
            for word in text.split(',').filter(|w| !w.is_empty()) {
                let at = values
                    .iter()
                    .position(|v| v.to_lowercase() == word.to_lowercase())?;
                bits |= 1 << at;
            }
            little(bits, set_bytes(values.len()))
        }
        T::Json | T::Geometry(_) | T::Vector(_) => return None,
    })
}
