//! Values in the binary protocol of prepared statements.
//!
//! In: parameters from a client, untrusted; rows of text. Out: parameters as literals, and binary rows: each value in the
//! form its column's type has.

use super::cursor::{Cursor, Short, put_lenenc_str};
use super::resultset::{Cell, Column, types};

/// Most parameters of one statement: two bytes on the wire.
pub(crate) const PARAMETERS_MAX: usize = 0xffff;

/// A parameter's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Param {
    /// NULL.
    Null,
    /// A number, as a literal.
    Number(String),
    /// Text, dates and times included.
    Text(String),
}

/// A parameter's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParamType {
    ty: u8,
    unsigned: bool,
}

/// Reads `count` parameters: NULL bits, types unless they are those of the last time, values. `named` when names stand
/// beside the types; `long` holds what COM_STMT_SEND_LONG_DATA brought for a parameter.
///
/// # Errors
/// When the bytes end too early, or types are missing.
pub(crate) fn parameters(
    c: &mut Cursor<'_>,
    count: usize,
    named: bool,
    known: &mut Vec<ParamType>,
    long: impl Fn(usize) -> Option<String>,
) -> Result<Vec<Param>, Short> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if count > PARAMETERS_MAX {
        return Err(Short);
    }
    let nulls = c.take(count.div_ceil(8))?;
    if c.u8()? == 1 {
        known.clear();
        for _ in 0..count {
            let [ty, flags] = c.u16()?.to_le_bytes();
            known.push(ParamType {
                ty,
                unsigned: flags & 0x80 != 0,
            });
            if named {
                c.lenenc_str()?;
            }
        }
    }
    if known.len() < count {
        return Err(Short);
    }
    let mut values = Vec::new();
    for (i, ty) in known.iter().take(count).enumerate() {
        let null = nulls.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1);
        values.push(match long(i) {
            Some(text) => Param::Text(text),
            None if null => Param::Null,
            None => value(c, *ty)?,
        });
    }
    Ok(values)
}

fn value(c: &mut Cursor<'_>, ty: ParamType) -> Result<Param, Short> {
    let number = |signed: i64, unsigned: u64| {
        let text = if ty.unsigned {
            unsigned.to_string()
        } else {
            signed.to_string()
        };
        Ok(Param::Number(text))
    };
    match ty.ty {
        types::NULL => Ok(Param::Null),
        types::TINY => {
            let n = c.u8()?;
            number((n as i8).into(), n.into())
        }
        types::SHORT | types::YEAR => {
            let n = c.u16()?;
            number((n as i16).into(), n.into())
        }
        types::LONG | types::INT24 => {
            let n = c.u32()?;
            number((n as i32).into(), n.into())
        }
        types::LONGLONG => {
            let n = c.u64()?;
            number(n as i64, n)
        }
        types::FLOAT => Ok(float(f32::from_bits(c.u32()?).into())),
        types::DOUBLE => Ok(float(f64::from_bits(c.u64()?))),
        types::DATE | types::DATETIME | types::TIMESTAMP => moment(c.short_str()?),
        types::TIME => clock(c.short_str()?),
        _ => Ok(Param::Text(
            String::from_utf8_lossy(c.lenenc_str()?).into_owned(),
        )),
    }
}

fn float(n: f64) -> Param {
    if n.is_finite() {
        Param::Number(n.to_string())
    } else {
        Param::Null
    }
}

fn moment(bytes: &[u8]) -> Result<Param, Short> {
    let mut c = Cursor::new(bytes);
    if c.is_empty() {
        return Ok(Param::Text("0000-00-00 00:00:00".to_owned()));
    }
    let mut text = format!("{:04}-{:02}-{:02}", c.u16()?, c.u8()?, c.u8()?);
    if !c.is_empty() {
        text += &format!(" {:02}:{:02}:{:02}", c.u8()?, c.u8()?, c.u8()?);
    }
    if !c.is_empty() {
        text += &format!(".{:06}", c.u32()?);
    }
    Ok(Param::Text(text))
}

fn clock(bytes: &[u8]) -> Result<Param, Short> {
    let mut c = Cursor::new(bytes);
    if c.is_empty() {
        return Ok(Param::Text("00:00:00".to_owned()));
    }
    let sign = if c.u8()? == 1 { "-" } else { "" };
    let hours = u64::from(c.u32()?) * 24 + u64::from(c.u8()?);
    let mut text = format!("{sign}{hours:02}:{:02}:{:02}", c.u8()?, c.u8()?);
    if !c.is_empty() {
        text += &format!(".{:06}", c.u32()?);
    }
    Ok(Param::Text(text))
}

/// Appends a row: a marker, NULL bits from bit 2 on, the values that are not NULL.
pub(crate) fn put_row(columns: &[Column], row: &[Cell], out: &mut Vec<u8>) {
    out.push(0);
    let mut nulls = vec![0u8; (row.len() + 2).div_ceil(8)];
    for (i, cell) in row.iter().enumerate() {
        if cell.is_none()
            && let Some(byte) = nulls.get_mut((i + 2) / 8)
        {
            *byte |= 1 << ((i + 2) % 8);
        }
    }
    out.extend_from_slice(&nulls);
    for (column, cell) in columns.iter().zip(row) {
        if let Some(text) = cell {
            put_value(column.ty, text, out);
        }
    }
}

fn put_value(ty: u8, text: &str, out: &mut Vec<u8>) {
    // Unsigned and signed values have the same low bytes.
    let int = || text.parse::<i128>().unwrap_or(0);
    match ty {
        types::TINY => out.push(int() as u8),
        types::SHORT | types::YEAR => out.extend_from_slice(&(int() as u16).to_le_bytes()),
        types::LONG | types::INT24 => out.extend_from_slice(&(int() as u32).to_le_bytes()),
        types::LONGLONG => out.extend_from_slice(&(int() as u64).to_le_bytes()),
        types::DOUBLE => {
            let n: f64 = text.parse().unwrap_or(0.0);
            out.extend_from_slice(&n.to_le_bytes());
        }
        types::DATE | types::DATETIME | types::TIMESTAMP => put_moment(text, out),
        types::TIME => put_clock(text, out),
        _ => put_lenenc_str(out, text.as_bytes()),
    }
}

fn numbers(text: &str) -> Vec<u32> {
    let parts = text.split(|c: char| !c.is_ascii_digit());
    parts.map(|p| p.parse().unwrap_or(0)).collect()
}

/// Microseconds behind the point.
fn micros(fraction: &str) -> u32 {
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    digits.parse().unwrap_or(0)
}

fn put_moment(text: &str, out: &mut Vec<u8>) {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let n = numbers(whole);
    let part = |i: usize| n.get(i).copied().unwrap_or(0);
    let micros = micros(fraction);
    out.push(if micros > 0 {
        11
    } else if n.len() > 3 {
        7
    } else {
        4
    });
    out.extend_from_slice(&(part(0) as u16).to_le_bytes());
    out.extend_from_slice(&[part(1) as u8, part(2) as u8]);
    if n.len() > 3 || micros > 0 {
        out.extend_from_slice(&[part(3) as u8, part(4) as u8, part(5) as u8]);
    }
    if micros > 0 {
        out.extend_from_slice(&micros.to_le_bytes());
    }
}

fn put_clock(text: &str, out: &mut Vec<u8>) {
    let (text, negative) = text.strip_prefix('-').map_or((text, 0), |t| (t, 1));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let n = numbers(whole);
    let part = |i: usize| n.get(i).copied().unwrap_or(0);
    let micros = micros(fraction);
    out.extend_from_slice(&[if micros > 0 { 12 } else { 8 }, negative]);
    out.extend_from_slice(&(part(0) / 24).to_le_bytes());
    out.extend_from_slice(&[(part(0) % 24) as u8, part(1) as u8, part(2) as u8]);
    if micros > 0 {
        out.extend_from_slice(&micros.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column(ty: u8) -> Column {
        Column::text("c", 64).with_type(ty)
    }

    fn read(types: &[u8], values: &[u8]) -> Result<Vec<Param>, Short> {
        let mut bytes = vec![0; types.len().div_ceil(8)];
        bytes.push(1);
        for ty in types {
            bytes.extend_from_slice(&[*ty, 0]);
        }
        bytes.extend_from_slice(values);
        let mut c = Cursor::new(&bytes);
        parameters(&mut c, types.len(), false, &mut Vec::new(), |_| None)
    }

    #[test]
    fn rows_have_the_manuals_layout() {
        let columns = [
            column(types::VAR_STRING),
            column(types::LONGLONG),
            column(types::LONG),
            column(types::DOUBLE),
            column(types::DATETIME),
            column(types::TIME),
            column(types::VAR_STRING),
        ];
        let cells = ["ab", "-2", "258", "1.5", "2026-11-21 20:05:09", "-26:00:01"];
        let mut row: Vec<Cell> = cells.iter().map(|c| Some((*c).to_owned())).collect();
        row.push(None);
        let mut out = Vec::new();
        put_row(&columns, &row, &mut out);
        let expected = [
            &b"\0\0\x01\x02ab\xfe\xff\xff\xff\xff\xff\xff\xff\x02\x01\0\0"[..],
            &1.5f64.to_le_bytes(),
            b"\x07\xea\x07\x0b\x15\x14\x05\x09\x08\x01\x01\0\0\0\x02\0\x01",
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn what_is_written_reads_back() {
        for (ty, text) in [
            (types::DATETIME, "2026-11-21 20:05:09.000123"),
            (types::DATE, "2026-11-21"),
            (types::TIME, "-838:59:59.500000"),
            (types::VAR_STRING, "öß"),
        ] {
            let mut out = Vec::new();
            put_value(ty, text, &mut out);
            assert_eq!(read(&[ty], &out), Ok(vec![Param::Text(text.into())]));
        }
        for (ty, text) in [
            (types::LONGLONG, "-7"),
            (types::TINY, "-1"),
            (types::DOUBLE, "2.5"),
        ] {
            let mut out = Vec::new();
            put_value(ty, text, &mut out);
            assert_eq!(read(&[ty], &out), Ok(vec![Param::Number(text.into())]));
        }
    }

    #[test]
    fn types_are_remembered_and_must_be_there_once() {
        let mut known = Vec::new();
        let first = b"\0\x01\x08\x80\xff\xff\xff\xff\xff\xff\xff\xff";
        let got = parameters(&mut Cursor::new(first), 1, false, &mut known, |_| None);
        assert_eq!(got, Ok(vec![Param::Number(u64::MAX.to_string())]));
        let again = b"\0\0\x01\0\0\0\0\0\0\0";
        let got = parameters(&mut Cursor::new(again), 1, false, &mut known, |_| None);
        assert_eq!(got, Ok(vec![Param::Number("1".into())]));
        let got = parameters(&mut Cursor::new(again), 1, false, &mut Vec::new(), |_| None);
        assert_eq!(got, Err(Short));
        let long = |_| Some("long".to_owned());
        let got = parameters(&mut Cursor::new(b"\0\0"), 1, false, &mut known, long);
        assert_eq!(got, Ok(vec![Param::Text("long".into())]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parameters_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0usize..20, named in any::<bool>(),
        ) {
            let _ = parameters(&mut Cursor::new(&bytes), count, named, &mut Vec::new(), |_| None);
        }

        #[test]
        fn any_text_makes_a_value(ty in any::<u8>(), text in ".{0,40}") {
            put_value(ty, &text, &mut Vec::new());
        }
    }
}
