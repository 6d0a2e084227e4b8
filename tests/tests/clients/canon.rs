//! One text per value, whatever client it comes from: in go a column's type and what a client (or a shard) says, out comes a text that is
//! the same for the same value.
//!
//! Clients differ in how they show values: dates as text or as days since 1970, ENUMs as labels or as numbers, bytes as hex or base64.
//! All of those are read here; a value that does not fit the column is an error, never a guess.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tributary_tests::moment::moment;

/// A column's type, as far as values go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Int {
        bits: u32,
        unsigned: bool,
    },
    Decimal,
    Float,
    Double,
    Bit,
    Year,
    Date,
    Time,
    /// DATETIME and TIMESTAMP, with the digits of their fractions.
    DateTime(u64),
    Text {
        latin1: bool,
    },
    /// `fixed`: BINARY, whose trailing zero bytes the binlog leaves out.
    Bytes {
        fixed: bool,
    },
    Enum(Vec<String>),
    Set(Vec<String>),
    Json,
    Point,
}

impl Kind {
    /// The text of `value`; `None` for NULL.
    pub(crate) fn canon(&self, value: &Value) -> Result<Option<String>> {
        if value.is_null() {
            return Ok(None);
        }
        let text = match self {
            Self::Int { bits, unsigned } => integer(value, *bits, *unsigned),
            Self::Bit => bit(value),
            Self::Year => integer(value, 16, false),
            Self::Decimal => decimal(&plain(value)?),
            Self::Float => single(&plain(value)?),
            Self::Double => Ok(plain(value)?.parse::<f64>()?.to_string()),
            Self::Date => date(value),
            Self::Time => time(value),
            Self::DateTime(digits) => datetime(value, *digits),
            Self::Text { latin1 } => characters(value, *latin1),
            Self::Bytes { fixed } => octets(value, *fixed),
            Self::Enum(labels) => label(value, labels),
            Self::Set(labels) => members(value, labels),
            Self::Json => document(value),
            Self::Point => point(value),
        };
        text.map(Some)
            .with_context(|| format!("{value} in a column of type {self:?}"))
    }
}

/// A number or a text.
fn plain(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(yes) => Ok(u8::from(*yes).to_string()),
        _ => bail!("neither number nor text"),
    }
}

/// Integers of the wrong sign are the same bits: clients without the column's sign read them so.
fn integer(value: &Value, bits: u32, unsigned: bool) -> Result<String> {
    let text = plain(value)?;
    let whole = text.strip_suffix(".0").unwrap_or(&text);
    let number: i128 = whole.parse()?;
    let range = 1_i128 << bits;
    let number = match number {
        n if unsigned && n < 0 => n + range,
        n if !unsigned && (range / 2..range).contains(&n) => n - range,
        n => n,
    };
    let (low, high) = if unsigned {
        (0, range)
    } else {
        (-range / 2, range / 2)
    };
    ensure!((low..high).contains(&number), "out of range");
    Ok(number.to_string())
}

/// A number, its big-endian bytes, or (Debezium) its little-endian bytes in base64.
fn bit(value: &Value) -> Result<String> {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte))
    };
    if let Some(hex) = value["hex"].as_str() {
        return Ok(number(&unhex(hex)?).to_string());
    }
    let text = plain(value)?;
    if let Ok(number) = text.parse::<u64>() {
        return Ok(number.to_string());
    }
    let mut bytes = unbase64(&text)?;
    bytes.reverse();
    Ok(number(&bytes).to_string())
}

fn decimal(text: &str) -> Result<String> {
    let number: f64 = text.parse().context("no number")?;
    ensure!(!text.contains(['e', 'E']), "{number} lost digits");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let trimmed = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    };
    let trimmed = trimmed.trim_start_matches('0');
    let zero = if trimmed.is_empty() || trimmed.starts_with('.') {
        "0"
    } else {
        ""
    };
    let sign = if trimmed.is_empty() { "" } else { sign };
    Ok(format!("{sign}{zero}{trimmed}"))
}

#[expect(clippy::cast_possible_truncation, reason = "a FLOAT that was widened")]
fn single(text: &str) -> Result<String> {
    Ok((text.parse::<f64>()? as f32).to_string())
}

const DAY: i64 = 86_400_000_000;

/// Text, or days since 1970.
fn date(value: &Value) -> Result<String> {
    if let Some(days) = value.as_i64() {
        let text = moment(days * DAY);
        return Ok(text.get(..10).context("no date")?.to_owned());
    }
    let text = value.as_str().context("no date")?;
    Ok(text.get(..10).context("no date")?.to_owned())
}

/// Text, or microseconds.
fn time(value: &Value) -> Result<String> {
    if let Some(micros) = value.as_i64() {
        return Ok(micros.to_string());
    }
    let text = value.as_str().context("no time")?;
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (clock, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let mut parts = clock.split(':').map(str::parse::<i64>);
    let mut next = || parts.next().context("no time")?.context("no time");
    let seconds = next()? * 3600 + next()? * 60 + next()?;
    let micros: i64 = format!("{fraction:0<6}")
        .get(..6)
        .context("no fraction")?
        .parse()?;
    Ok((sign * (seconds * 1_000_000 + micros)).to_string())
}

/// Text of any usual form, in UTC; or milliseconds (up to three digits) or microseconds since 1970.
fn datetime(value: &Value, digits: u64) -> Result<String> {
    if let Some(number) = value.as_i64() {
        let micros = if digits <= 3 { number * 1000 } else { number };
        return Ok(moment(micros));
    }
    let text = value.as_str().context("no time")?;
    let text = text.trim_end_matches('Z').trim_end_matches("+00:00");
    let day = text.get(..10).context("no date")?;
    let clock = text.get(11..).unwrap_or("00:00:00");
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    // Java leaves out seconds that are zero.
    let clock = if clock.len() == 5 {
        format!("{clock}:00")
    } else {
        clock.to_owned()
    };
    ensure!(clock.len() == 8, "no time of day");
    let fraction = format!("{fraction:0<6}");
    Ok(format!(
        "{day} {clock}.{}",
        fraction.get(..6).context("no fraction")?
    ))
}

fn characters(value: &Value, latin1: bool) -> Result<String> {
    if let Some(hex) = value["hex"].as_str() {
        let bytes = unhex(hex)?;
        return if latin1 {
            Ok(bytes.into_iter().map(char::from).collect())
        } else {
            Ok(String::from_utf8(bytes)?)
        };
    }
    Ok(value.as_str().context("no text")?.to_owned())
}

fn octets(value: &Value, fixed: bool) -> Result<String> {
    let hex = value["hex"].as_str().or(value.as_str());
    let mut bytes = unhex(hex.context("no bytes")?)?;
    while fixed && bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(hex_text(&bytes))
}

/// A label, or its number from 1 on; 0 is the empty label.
fn label(value: &Value, labels: &[String]) -> Result<String> {
    let text = plain(value)?;
    match text.parse::<usize>() {
        Ok(0) => Ok(String::new()),
        Ok(number) => Ok(labels.get(number - 1).context("no such label")?.clone()),
        Err(_) => {
            ensure!(text.is_empty() || labels.contains(&text), "no such label");
            Ok(text)
        }
    }
}

/// Labels with commas, or a number with a bit for each; a list also does.
fn members(value: &Value, labels: &[String]) -> Result<String> {
    let text = match value {
        Value::Array(list) => {
            let texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            texts.join(",")
        }
        other => plain(other)?,
    };
    let chosen: Vec<&str> = if let Ok(mask) = text.parse::<u64>() {
        let bits = labels.iter().enumerate();
        let set = bits.filter(|(bit, _)| mask >> bit & 1 == 1);
        set.map(|(_, label)| label.as_str()).collect()
    } else {
        let given: Vec<&str> = text.split(',').filter(|label| !label.is_empty()).collect();
        for label in &given {
            ensure!(labels.iter().any(|known| known == label), "no such member");
        }
        let set = labels
            .iter()
            .filter(|label| given.contains(&label.as_str()));
        set.map(String::as_str).collect()
    };
    Ok(chosen.join(","))
}

/// The document as text or inside `json`; keys in order, numbers by value.
fn document(value: &Value) -> Result<String> {
    let parsed = match value {
        Value::String(text) => serde_json::from_str(text)?,
        Value::Object(map) if map.len() == 1 && map.contains_key("json") => value["json"].clone(),
        other => other.clone(),
    };
    let mut out = String::new();
    write_document(&parsed, &mut out);
    Ok(out)
}

fn write_document(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            for key in keys {
                let _ = write!(out, "<{key}:");
                write_document(&map[key.as_str()], out);
                out.push('>');
            }
        }
        Value::Array(list) => {
            out.push('[');
            for item in list {
                write_document(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Number(number) => {
            let _ = write!(out, "{}", number.as_f64().unwrap_or(f64::NAN));
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

/// WKT, WKB in base64, MySQL's bytes in hex (an SRID, then WKB), or the coordinates.
fn point(value: &Value) -> Result<String> {
    if let Some(pair) = value["point"].as_array() {
        let [x, y] = pair.as_slice() else {
            bail!("no point");
        };
        return coordinates(x.as_f64().context("no x")?, y.as_f64().context("no y")?);
    }
    if let Some(text) = value.as_str() {
        let inner = text
            .to_uppercase()
            .replace("POINT", "")
            .replace(['(', ')'], " ");
        let mut numbers = inner.split_whitespace().map(str::parse::<f64>);
        let mut next = || numbers.next().context("no point")?.context("no point");
        return coordinates(next()?, next()?);
    }
    let bytes = if let Some(hex) = value["hex"].as_str() {
        unhex(hex)?.get(4..).context("too short")?.to_vec()
    } else {
        unbase64(value["wkb"].as_str().context("no point")?)?
    };
    ensure!(
        bytes.len() == 21 && bytes.starts_with(&[1, 1, 0, 0, 0]),
        "no WKB of a point"
    );
    let number = |from: usize| -> Result<f64> {
        let eight = bytes.get(from..from + 8).context("too short")?;
        Ok(f64::from_le_bytes(eight.try_into()?))
    };
    coordinates(number(5)?, number(13)?)
}

#[expect(clippy::unnecessary_wraps, reason = "as its callers want it")]
fn coordinates(x: f64, y: f64) -> Result<String> {
    Ok(format!("{x} {y}"))
}

pub(crate) fn unhex(text: &str) -> Result<Vec<u8>> {
    ensure!(text.len().is_multiple_of(2), "half a byte");
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    pairs.map(byte).collect()
}

pub(crate) fn hex_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unbase64(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("no base64"),
        };
        bits = (bits << 6 | u32::from(digit)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// All of `values` are one value, and none of `others` is.
    fn same(kind: &Kind, values: &[Value], others: &[Value]) {
        let text = |value| kind.canon(value).expect("it fits");
        let first = text(&values[0]);
        for value in values {
            assert_eq!(text(value), first, "{value}");
        }
        for other in others {
            assert_ne!(text(other), first, "{other}");
        }
    }

    #[test]
    fn the_forms_of_a_value_are_the_same_and_other_values_are_not() {
        let long = Kind::Int {
            bits: 64,
            unsigned: true,
        };
        same(
            &long,
            &[json!(-1), json!("18446744073709551615")],
            &[json!(1)],
        );
        same(
            &Kind::Bit,
            &[json!(258), json!({"hex": "0102"}), json!("AgE=")],
            &[json!(513)],
        );
        same(
            &Kind::Decimal,
            &[json!("-0.500"), json!("-.5"), json!(-0.5)],
            &[json!("0.5")],
        );
        same(
            &Kind::Decimal,
            &[json!("0.000"), json!("-0"), json!("0")],
            &[json!("10")],
        );
        same(
            &Kind::Float,
            &[json!("0.1"), json!(0.100_000_001_490_116_12)],
            &[json!("0.2")],
        );
        same(
            &Kind::Date,
            &[
                json!("2024-02-29"),
                json!(19782),
                json!("2024-02-29T00:00:00.000Z"),
            ],
            &[json!(19783)],
        );
        same(&Kind::Date, &[json!("1969-12-31"), json!(-1)], &[]);
        same(
            &Kind::Time,
            &[json!("-01:00:00.5"), json!(-3_600_500_000_i64)],
            &[json!("01:00:00.5")],
        );
        let texts = [
            json!("1970-01-02T03:04:05Z"),
            json!("1970-01-02 03:04:05.000000"),
            json!(97_445_000),
        ];
        same(&Kind::DateTime(3), &texts, &[json!(97_446_000)]);
        same(
            &Kind::DateTime(6),
            &[json!("2001-01-01 05:59"), json!(978_328_740_000_000_i64)],
            &[],
        );
        let latin = Kind::Text { latin1: true };
        same(
            &latin,
            &[json!("Zü"), json!({"hex": "5afc"})],
            &[json!("Zu")],
        );
        let fixed = Kind::Bytes { fixed: true };
        same(
            &fixed,
            &[json!("0a00"), json!({"hex": "0a"})],
            &[json!("0a01")],
        );
        let labels = ["a", "b", "c"].map(str::to_owned).to_vec();
        same(
            &Kind::Enum(labels.clone()),
            &[json!("b"), json!(2), json!("2")],
            &[json!("a"), json!(0)],
        );
        same(
            &Kind::Set(labels),
            &[json!("c,a"), json!(5), json!(["a", "c"])],
            &[json!("a"), json!("")],
        );
        same(
            &Kind::Json,
            &[
                json!(r#"{"a":1.0,"b":[null]}"#),
                json!({"json": {"b": [null], "a": 1}}),
            ],
            &[json!("{}")],
        );
        let wkb = "0101000000000000000000f03f00000000000000c0";
        let forms = [
            json!({"point": [1, -2]}),
            json!("POINT (1 -2)"),
            json!({"hex": format!("00000000{wkb}")}),
            json!({"wkb": "AQEAAAAAAAAAAADwPwAAAAAAAADA", "srid": null}),
        ];
        same(&Kind::Point, &forms, &[json!("POINT(1 2)")]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let tiny = Kind::Int {
            bits: 8,
            unsigned: false,
        };
        let labels = vec!["a".to_owned()];
        for (kind, value) in [
            (tiny.clone(), json!(256)),
            (tiny, json!("x")),
            (Kind::Decimal, json!("1e7")),
            (Kind::Date, json!("")),
            (Kind::Time, json!("12")),
            (Kind::Enum(labels.clone()), json!("z")),
            (Kind::Set(labels), json!("a,z")),
            (Kind::Point, json!({"hex": "00"})),
            (Kind::Text { latin1: false }, json!({"hex": "ff"})),
        ] {
            assert!(kind.canon(&value).is_err(), "{value} as {kind:?}");
        }
    }
}
