//! From the bytes of a value in one column to those in another.
//!
//! In: two columns, then values as the binlog has them. Out: values for the other column, lengths in front included. Widening
//! always succeeds; a value that the other column cannot hold is an error, never cut.

use super::decimal;
use super::layout::{enum_bytes, set_bytes, wire};
use super::temporal;
use crate::charset::{Charset, Transcoder};
use crate::table::{Column, DataType};

/// Where a value ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// So many bytes.
    Fixed(u32),
    /// Behind its length in so many bytes.
    Counted(u8),
}

impl Width {
    /// How values of a column lie.
    pub(super) fn of(column: &Column) -> Self {
        let max = column.collation.charset().map_or(1, Charset::max_len);
        let fraction =
            |whole: u32, fsp: u8| Self::Fixed(whole + temporal::fraction_len(fsp) as u32);
        let counted = |bytes: u32| Self::Counted(if bytes > 255 { 2 } else { 1 });
        match &column.data_type {
            DataType::Int { bytes, .. } => Self::Fixed(u32::from(*bytes)),
            DataType::Bit(n) => Self::Fixed(u32::from(n.div_ceil(8))),
            DataType::Decimal {
                precision, scale, ..
            } => Self::Fixed(decimal::len(*precision, *scale) as u32),
            DataType::Real { double, .. } => Self::Fixed(if *double { 8 } else { 4 }),
            DataType::Year => Self::Fixed(1),
            DataType::Date => Self::Fixed(3),
            DataType::Time(fsp) => fraction(3, *fsp),
            DataType::DateTime(fsp) => fraction(5, *fsp),
            DataType::Timestamp(fsp) => fraction(4, *fsp),
            DataType::Char(n) | DataType::VarChar(n) => counted(n.saturating_mul(max)),
            DataType::Binary(n) | DataType::VarBinary(n) => counted(*n),
            DataType::Text(size) | DataType::Blob(size) => Self::Counted(size.length_bytes()),
            DataType::Enum(values) => Self::Fixed(u32::from(enum_bytes(values.len()))),
            DataType::Set(values) => Self::Fixed(u32::from(set_bytes(values.len()))),
            DataType::Json | DataType::Geometry(_) | DataType::Vector(_) => Self::Counted(4),
        }
    }
}

/// How a value becomes one of the other column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Convert {
    /// As it is.
    Copy,
    Int {
        signed: bool,
        to: u8,
        to_unsigned: bool,
    },
    Text(Box<TextConvert>),
    Decimal {
        from: (u8, u8),
        to: (u8, u8),
        to_unsigned: bool,
    },
    FloatToDouble,
    DoubleToFloat,
    Bits {
        to: u8,
    },
    Time {
        from: u8,
        to: u8,
    },
    /// DATETIME or TIMESTAMP with `whole` bytes of seconds.
    Refraction {
        whole: usize,
        from: u8,
        to: u8,
    },
    DateToDateTime(u8),
    /// Number of the value → number in the other enum, 0 for none.
    Enum {
        numbers: Vec<u16>,
        to: u8,
    },
    /// Bit → bit in the other set.
    Set {
        bits: Vec<Option<u8>>,
        to: u8,
    },
}

/// How a text or string of bytes becomes another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextConvert {
    to: u8,
    transcode: Option<Transcoder>,
    /// Bytes of the value at most.
    max_bytes: u64,
    /// Characters at most, counted in the target's coding by this.
    max_chars: Option<(u32, Charset)>,
    /// A BINARY comes without its trailing zeros, which other types keep.
    pad_to: Option<u32>,
    /// What a CHAR or BINARY does not keep at the end.
    strip: Option<u8>,
}

/// Why a value has no place in the other column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It is out of the other column's range.
    #[error("a value is beyond what the logical column can hold")]
    OutOfRange,
    /// Its text cannot be written in the other character set.
    #[error(transparent)]
    Text(#[from] crate::charset::TranscodeError),
    /// It is not one of the other column's values.
    #[error("a value is none of those that the logical column lists")]
    NotListed,
    /// It has not the form of its type.
    #[error("a value is malformed")]
    Malformed,
}

impl Convert {
    /// The way from one column to the other, or `None` when there is none.
    pub(super) fn new(from: &Column, to: &Column) -> Option<Self> {
        use DataType as T;
        let (t, n) = (&to.data_type, &from.data_type);
        if wire(from) == wire(to) && same_meaning(from, to) {
            return Some(Self::Copy);
        }
        Some(match (n, t) {
            (
                T::Int { unsigned, .. },
                T::Int {
                    bytes,
                    unsigned: to_unsigned,
                    ..
                },
            ) => Self::Int {
                signed: !unsigned,
                to: *bytes,
                to_unsigned: *to_unsigned,
            },
            (
                T::Decimal {
                    precision, scale, ..
                },
                T::Decimal {
                    precision: p,
                    scale: s,
                    unsigned,
                    ..
                },
            ) => Self::Decimal {
                from: (*precision, *scale),
                to: (*p, *s),
                to_unsigned: *unsigned,
            },
            (T::Real { double: false, .. }, T::Real { double: true, .. }) => Self::FloatToDouble,
            (T::Real { double: true, .. }, T::Real { double: false, .. }) => Self::DoubleToFloat,
            (T::Bit(_), T::Bit(n)) => Self::Bits { to: *n },
            (T::Time(a), T::Time(b)) => Self::Time { from: *a, to: *b },
            (T::DateTime(a), T::DateTime(b)) => Self::Refraction {
                whole: 5,
                from: *a,
                to: *b,
            },
            (T::Timestamp(a), T::Timestamp(b)) => Self::Refraction {
                whole: 4,
                from: *a,
                to: *b,
            },
            (T::Date, T::DateTime(b)) => Self::DateToDateTime(*b),
            (T::Enum(a), T::Enum(b)) => Self::Enum {
                numbers: a
                    .iter()
                    .map(|v| place(b, v).map_or(0, |at| at as u16 + 1))
                    .collect(),
                to: enum_bytes(b.len()),
            },
            (T::Set(a), T::Set(b)) => Self::Set {
                bits: a.iter().map(|v| place(b, v).map(|at| at as u8)).collect(),
                to: set_bytes(b.len()),
            },
            (T::Geometry(_), T::Geometry(_))
            | (T::Vector(_), T::Vector(_))
            | (T::Json, T::Json) => Self::Copy,
            _ => {
                let text = text(from, to)?;
                if text.copies(from) {
                    Self::Copy
                } else {
                    Self::Text(Box::new(text))
                }
            }
        })
    }

    /// Appends the value that `bytes` is in the other column.
    #[inline]
    pub(super) fn put(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        use ValueError::{Malformed, NotListed, OutOfRange};
        match self {
            Self::Copy => out.extend_from_slice(bytes),
            Self::Int {
                signed,
                to,
                to_unsigned,
            } => return put_int(bytes, *signed, *to, *to_unsigned, out),
            Self::Text(text) => return text.put(bytes, out),
            Self::Decimal {
                from,
                to,
                to_unsigned,
            } => {
                let number = decimal::read(bytes, from.0, from.1).ok_or(Malformed)?;
                if *to_unsigned && number.negative {
                    return Err(OutOfRange);
                }
                decimal::put(&number, to.0, to.1, out).ok_or(OutOfRange)?;
            }
            Self::FloatToDouble => {
                let float = f32::from_le_bytes(bytes.try_into().map_err(|_| Malformed)?);
                out.extend_from_slice(&f64::from(float).to_le_bytes());
            }
            Self::DoubleToFloat => {
                let double = f64::from_le_bytes(bytes.try_into().map_err(|_| Malformed)?);
                let float = double as f32;
                if f64::from(float).to_bits() != double.to_bits() {
                    return Err(OutOfRange);
                }
                out.extend_from_slice(&float.to_le_bytes());
            }
            Self::Bits { to } => {
                let value = bytes.iter().fold(0_u64, |acc, b| acc << 8 | u64::from(*b));
                if *to < 64 && value >> to != 0 {
                    return Err(OutOfRange);
                }
                // A Table_map may claim more than the 64 bits a BIT has.
                let from = 8_usize.checked_sub(usize::from(to.div_ceil(8)));
                let bytes = value.to_be_bytes();
                out.extend_from_slice(from.and_then(|from| bytes.get(from..)).ok_or(Malformed)?);
            }
            Self::Time { from, to } => temporal::time(bytes, *from, *to, out).ok_or(OutOfRange)?,
            Self::Refraction { whole, from, to } => {
                temporal::refraction(bytes, *whole, *from, *to, out).ok_or(OutOfRange)?;
            }
            Self::DateToDateTime(fsp) => {
                temporal::date_to_datetime(bytes, *fsp, out).ok_or(Malformed)?;
            }
            Self::Enum { numbers, to } => {
                let number = read_le(bytes) as usize;
                // 0 is the value of an invalid entry, in every enum.
                let new = match number.checked_sub(1) {
                    None => 0,
                    Some(at) => *numbers.get(at).filter(|n| **n > 0).ok_or(NotListed)?,
                };
                put_le(u64::from(new), *to, out);
            }
            Self::Set { bits, to } => {
                let (mut old, mut new) = (read_le(bytes), 0_u64);
                while old != 0 {
                    let bit = old.trailing_zeros() as usize;
                    old &= old - 1;
                    let to = bits.get(bit).copied().flatten().ok_or(NotListed)?;
                    new |= 1_u64.checked_shl(u32::from(to)).ok_or(NotListed)?;
                }
                put_le(new, *to, out);
            }
        }
        Ok(())
    }
}

fn place(values: &[String], value: &str) -> Option<usize> {
    values.iter().position(|v| v == value)
}

/// Whether equal bytes mean the same in both: signs, character sets, lists.
fn same_meaning(from: &Column, to: &Column) -> bool {
    match (&from.data_type, &to.data_type) {
        // Without names (`MINIMAL` metadata, no known table) equal lengths are all there is.
        (DataType::Enum(a), DataType::Enum(b)) | (DataType::Set(a), DataType::Set(b)) => {
            a.is_empty() || b.starts_with(a)
        }
        (a, b) => {
            a.is_unsigned() == b.is_unsigned() && from.collation.charset() == to.collation.charset()
        }
    }
}

#[inline]
fn read_le(bytes: &[u8]) -> u64 {
    // A length that is known at compile time makes one load of each.
    match *bytes {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        [a, b, c] => u64::from(u32::from_le_bytes([a, b, c, 0])),
        [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => bytes
            .iter()
            .rev()
            .fold(0, |acc, b| acc << 8 | u64::from(*b)),
    }
}

#[inline]
fn put_le(value: u64, len: u8, out: &mut Vec<u8>) {
    // Eight bytes at once are cheaper than a number that is not known.
    let end = out.len() + usize::from(len.min(8));
    out.extend_from_slice(&value.to_le_bytes());
    out.truncate(end);
}

#[inline]
fn put_int(
    bytes: &[u8],
    signed: bool,
    to: u8,
    to_unsigned: bool,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let bits = 8 * bytes.len() as u32;
    if !(8..=64).contains(&bits) {
        return Err(ValueError::Malformed);
    }
    let raw = read_le(bytes);
    // Above the value's own bits stands its sign.
    let shift = 64 - bits;
    let negative = signed && raw >> (bits - 1) & 1 == 1;
    let value = if negative {
        ((raw << shift).cast_signed() >> shift).cast_unsigned()
    } else {
        raw
    };
    let spare = 64 - 8 * u32::from(to);
    let fits = match (negative, to_unsigned) {
        (true, true) => false,
        (true, false) => (value << spare).cast_signed() >> spare == value.cast_signed(),
        (false, true) => spare == 0 || value >> (64 - spare) == 0,
        (false, false) => value >> (63 - spare) == 0,
    };
    if !fits {
        return Err(ValueError::OutOfRange);
    }
    put_le(value, to, out);
    Ok(())
}

/// The way between texts, or between strings of bytes.
fn text(from: &Column, to: &Column) -> Option<TextConvert> {
    use DataType as T;
    let is_text = |t: &T| matches!(t, T::Char(_) | T::VarChar(_) | T::Text(_));
    let is_bytes = |t: &T| matches!(t, T::Binary(_) | T::VarBinary(_) | T::Blob(_));
    let (a, b) = (&from.data_type, &to.data_type);
    if !(is_text(a) && is_text(b) || is_bytes(a) && is_bytes(b)) {
        return None;
    }
    let (old, new) = (from.collation.charset()?, to.collation.charset()?);
    let transcode = if old == new {
        None
    } else {
        Some(Transcoder::new(old, new)?)
    };
    let Width::Counted(length) = Width::of(to) else {
        return None;
    };
    let max_bytes = match b {
        T::Char(n) | T::VarChar(n) => u64::from(*n) * u64::from(new.max_len()),
        T::Binary(n) | T::VarBinary(n) => u64::from(*n),
        _ => (1_u64 << (8 * u32::from(length))) - 1,
    };
    // Counting is left out where the old column cannot have too many.
    let max_chars = match (a, b) {
        (T::Char(m) | T::VarChar(m), T::Char(n) | T::VarChar(n)) if m <= n => None,
        (_, T::Char(n) | T::VarChar(n)) => Some((*n, new)),
        _ => None,
    };
    Some(TextConvert {
        to: length,
        transcode,
        max_bytes,
        max_chars,
        pad_to: match (a, b) {
            (T::Binary(n), T::VarBinary(_) | T::Blob(_)) => Some(*n),
            _ => None,
        },
        strip: match (a, b) {
            (T::VarChar(_) | T::Text(_), T::Char(_)) => Some(b' '),
            (T::VarBinary(_) | T::Blob(_), T::Binary(_)) => Some(0),
            _ => None,
        },
    })
}

impl TextConvert {
    /// Whether every value of `from` is the same there, its length in as many bytes.
    fn copies(&self, from: &Column) -> bool {
        let charset = from.collation.charset().map_or(1, Charset::max_len);
        let longest = match &from.data_type {
            DataType::Char(n) | DataType::VarChar(n) => u64::from(*n) * u64::from(charset),
            DataType::Binary(n) | DataType::VarBinary(n) => u64::from(*n),
            DataType::Text(size) | DataType::Blob(size) => {
                (1_u64 << (8 * u32::from(size.length_bytes()))) - 1
            }
            _ => return false,
        };
        self.transcode.is_none()
            && self.max_chars.is_none()
            && self.pad_to.is_none()
            && self.strip.is_none()
            && Width::of(from) == Width::Counted(self.to)
            && longest <= self.max_bytes
    }

    fn put(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        let start = out.len();
        let length = usize::from(self.to);
        out.resize(start + length, 0);
        match &self.transcode {
            None => out.extend_from_slice(bytes),
            Some(way) => way.convert(bytes, out)?,
        }
        if let Some(pad) = self.pad_to {
            let padded = start + length + pad as usize;
            out.resize(out.len().max(padded), 0);
        }
        if let Some(strip) = self.strip {
            while out.len() > start + length && out.last() == Some(&strip) {
                out.pop();
            }
        }
        let value = out.len() - start - length;
        if value as u64 > self.max_bytes {
            return Err(ValueError::OutOfRange);
        }
        if let Some((max, charset)) = self.max_chars {
            let text = out.get(start + length..).unwrap_or(&[]);
            if characters(text, charset) > max as usize {
                return Err(ValueError::OutOfRange);
            }
        }
        let bytes = (value as u64).to_le_bytes();
        if let (Some(slot), Some(bytes)) = (out.get_mut(start..start + length), bytes.get(..length))
        {
            slot.copy_from_slice(bytes);
        }
        Ok(())
    }
}

/// How many characters a text has; as many as can be, where the coding is not known.
fn characters(bytes: &[u8], charset: Charset) -> usize {
    match charset.name() {
        "utf8mb3" | "utf8mb4" => bytes.iter().filter(|b| **b & 0xc0 != 0x80).count(),
        "ucs2" => bytes.len() / 2,
        "utf16" | "utf16le" => {
            let high = usize::from(charset.name() == "utf16le");
            let second = |p: &[u8]| p.get(high).is_some_and(|b| b & 0xfc == 0xdc);
            bytes.chunks(2).filter(|p| !second(p)).count()
        }
        "utf32" => bytes.len() / 4,
        _ if charset.max_len() == 1 => bytes.len(),
        _ => bytes.len().div_ceil(charset.max_len() as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: the metadata of a Table_map may say anything.
    #[test]
    fn a_bit_of_more_than_64_bits_is_malformed() {
        let put = |to| {
            let mut out = Vec::new();
            Convert::Bits { to }.put(&[1, 2], &mut out).map(|()| out)
        };
        assert_eq!(put(8), Err(ValueError::OutOfRange));
        assert_eq!(put(16), Ok(vec![1, 2]));
        assert_eq!(put(64), Ok(vec![0, 0, 0, 0, 0, 0, 1, 2]));
        for to in [65, 72, u8::MAX] {
            assert_eq!(put(to), Err(ValueError::Malformed));
        }
    }
}
