//! Defaults of columns.
//!
//! In: what stands behind `DEFAULT`. Out: the value as the server shows it.

use super::reader::Reader;
use crate::lex::TokenKind;
use crate::table::{Column, DataType, DefaultValue};

impl Reader<'_> {
    /// What stands behind `DEFAULT` or `ON UPDATE`.
    pub(super) fn default_value(&mut self) -> Option<DefaultValue> {
        if self.eat("NULL") {
            return Some(DefaultValue::Null);
        }
        for (word, value) in [("TRUE", "1"), ("FALSE", "0")] {
            if self.eat(word) {
                return Some(DefaultValue::Text(value.to_owned()));
            }
        }
        if self.eat_any(&["CURRENT_TIMESTAMP", "NOW", "LOCALTIME", "LOCALTIMESTAMP"]) {
            self.parens();
            return Some(DefaultValue::Now);
        }
        if let Some(tokens) = self.parens() {
            return Some(DefaultValue::Expression(self.text_of(tokens).to_owned()));
        }
        // DATE '2024-01-01', TIMESTAMP '…'
        if self.token(1).is_some_and(|t| t.kind == TokenKind::Text) {
            self.eat_any(&["DATE", "TIME", "TIMESTAMP"]);
        }
        if let Some(text) = self.text() {
            return Some(DefaultValue::Text(text));
        }
        let introduced = self.word(0).starts_with('_');
        self.at += usize::from(introduced);
        let sign = self.mark("-");
        self.mark("+");
        let token = self.token(0)?;
        self.at += 1;
        let text = token.of(self.sql);
        match token.kind {
            TokenKind::Bits => bits_default(text),
            TokenKind::Number => {
                let sign = if sign { "-" } else { "" };
                Some(DefaultValue::Text(format!("{sign}{text}")))
            }
            _ => None,
        }
    }
}

/// Defaults are kept as the server shows them.
pub(crate) fn normalise_default(column: &mut Column) {
    let Some(DefaultValue::Text(text)) = &column.default else {
        return;
    };
    let new = match &column.data_type {
        DataType::Int { .. } => text.trim().parse::<i128>().map(|n| n.to_string()).ok(),
        DataType::Decimal { scale, .. } => fixed(text, usize::from(*scale)),
        DataType::Real { .. } => text.trim().parse::<f64>().map(|n| n.to_string()).ok(),
        DataType::Time(fsp) | DataType::DateTime(fsp) | DataType::Timestamp(fsp) if *fsp > 0 => {
            fraction(text, usize::from(*fsp))
        }
        DataType::Binary(n) => {
            let mut bytes = text.clone().into_bytes();
            bytes.resize(bytes.len().max(*n as usize), 0);
            String::from_utf8(bytes).ok()
        }
        DataType::Bit(_) => text.parse::<u64>().map(|n| format!("{n:b}")).ok(),
        _ => None,
    };
    if let Some(new) = new {
        column.default = Some(match column.data_type {
            DataType::Bit(_) => DefaultValue::Bits(new),
            _ => DefaultValue::Text(new),
        });
    }
}

/// A decimal number with so many digits behind the point.
fn fixed(text: &str, scale: usize) -> Option<String> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, behind) = digits.split_once('.').unwrap_or((digits, ""));
    let ok = |d: &str| d.bytes().all(|b| b.is_ascii_digit());
    if !ok(whole) || !ok(behind) || behind.len() > scale {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if scale == 0 {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{behind:0<scale$}")
    })
}

fn fraction(text: &str, fsp: usize) -> Option<String> {
    let (whole, behind) = text.split_once('.').unwrap_or((text, ""));
    (behind.len() <= fsp && whole.contains(':')).then(|| format!("{whole}.{behind:0<fsp$}"))
}

fn bits_default(text: &str) -> Option<DefaultValue> {
    if let Some(digits) = (text.strip_prefix("b'").or(text.strip_prefix("B'")))
        .and_then(|t| t.strip_suffix('\''))
        .or(text.strip_prefix("0b"))
    {
        let digits = digits.trim_start_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        return Some(DefaultValue::Bits(digits.to_owned()));
    }
    let bytes = bit_bytes(text)?;
    Some(match String::from_utf8(bytes) {
        Ok(text) => DefaultValue::Text(text),
        Err(e) => DefaultValue::Bytes(e.into_bytes()),
    })
}

/// The bytes of `x'…'` and `0x…`.
pub(super) fn bit_bytes(text: &str) -> Option<Vec<u8>> {
    let digits = match text.strip_prefix("0x") {
        Some(digits) => digits,
        None => text
            .strip_prefix(['x', 'X'])?
            .strip_prefix('\'')?
            .strip_suffix('\'')?,
    };
    let even = if digits.len() % 2 == 1 {
        format!("0{digits}")
    } else {
        digits.to_owned()
    };
    let pairs = even.as_bytes().chunks(2);
    let bytes = pairs.map(|p| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok());
    bytes.collect()
}
