//! Values of expressions, with the shape of the column they make.
//!
//! In: literals and results of functions. Out: text-protocol cells, MySQL's comparisons and truth values, and column
//! metadata as MySQL 9.7 gives it for the same expression.

use std::cmp::Ordering;

use crate::core::query::vars::UserValue;
use crate::wire::resultset::{Cell, Column, flags, types};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// NULL.
    Null,
    /// A whole number.
    Int(i128),
    /// A number with a fraction, kept as it was written.
    Decimal(String),
    /// Text, dates and times included.
    Text(String),
}

/// A value and the column it would make; the column's name is set later.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Typed {
    /// The value.
    pub value: Value,
    /// Its column.
    pub column: Column,
}

impl Value {
    /// The value as the text protocol sends it.
    pub(crate) fn cell(self) -> Cell {
        match self {
            Self::Null => None,
            Self::Int(n) => Some(n.to_string()),
            Self::Decimal(text) | Self::Text(text) => Some(text),
        }
    }

    /// The value as text; NULL has none.
    pub(crate) fn text(&self) -> Option<String> {
        self.clone().cell()
    }

    /// The value as a number, as MySQL reads text in a numeric context: its longest numeric prefix.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Null => None,
            Self::Int(n) => Some(*n as f64),
            Self::Decimal(text) | Self::Text(text) => Some(numeric_prefix(text)),
        }
    }

    /// Truth: `None` for NULL.
    pub(crate) fn truth(&self) -> Option<bool> {
        self.number().map(|n| n != 0.0)
    }

    /// Compares as MySQL does: text with text without case, else as numbers; `None` with NULL.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Null, _) | (_, Self::Null) => None,
            (Self::Text(a), Self::Text(b)) => Some(a.to_lowercase().cmp(&b.to_lowercase())),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            _ => self.number()?.partial_cmp(&other.number()?),
        }
    }

    /// As the value of a user variable.
    pub(crate) fn into_user(self) -> Option<UserValue> {
        match self {
            Self::Null => None,
            Self::Int(n) => Some(UserValue::Int(n)),
            Self::Decimal(text) => Some(UserValue::Decimal(text)),
            Self::Text(text) => Some(UserValue::Text(text)),
        }
    }
}

fn numeric_prefix(text: &str) -> f64 {
    let text = text.trim_start();
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let sign = usize::from(text.starts_with(['-', '+']));
    let mut end = sign + digits(text.get(sign..).unwrap_or_default());
    if text.get(end..).is_some_and(|rest| rest.starts_with('.')) {
        end += 1 + digits(text.get(end + 1..).unwrap_or_default());
    }
    if let Some(rest) = text
        .get(end..)
        .and_then(|rest| rest.strip_prefix(['e', 'E']))
    {
        let sign = usize::from(rest.starts_with(['-', '+']));
        let power = digits(rest.get(sign..).unwrap_or_default());
        if power > 0 {
            end += 1 + sign + power;
        }
    }
    text.get(..end).unwrap_or_default().parse().unwrap_or(0.0)
}

impl Typed {
    /// NULL.
    pub(crate) fn null() -> Self {
        let column = Column::integer("NULL", 0, 0).with_type(types::NULL);
        Self {
            value: Value::Null,
            column,
        }
    }

    /// A whole number in a column of `length` digits.
    pub(crate) fn int(n: i128, length: u32) -> Self {
        Self {
            value: Value::Int(n),
            column: Column::integer("", length, flags::NOT_NULL),
        }
    }

    /// An unsigned number of full width.
    pub(crate) fn unsigned(n: u64) -> Self {
        let column = Column::integer("", 21, flags::NOT_NULL | flags::UNSIGNED);
        Self {
            value: Value::Int(n.into()),
            column,
        }
    }

    /// A truth value; `None` is NULL.
    pub(crate) fn truth(truth: Option<bool>) -> Self {
        let value = truth.map_or(Value::Null, |t| Value::Int(t.into()));
        Self {
            value,
            column: Column::integer("", 1, flags::NOT_NULL),
        }
    }

    /// A number with a fraction.
    pub(crate) fn decimal(text: String) -> Self {
        let decimals = text
            .split_once('.')
            .map_or(0, |(_, fraction)| fraction.len().min(30));
        let mut column = Column::integer("", text.len() as u32 + 1, flags::NOT_NULL);
        column.ty = types::NEWDECIMAL;
        column.decimals = decimals as u8;
        Self {
            value: Value::Decimal(text),
            column,
        }
    }

    /// A number that came out of arithmetic.
    pub(crate) fn double(n: f64) -> Self {
        if n.fract() == 0.0 && n.abs() < 1e15 {
            return Self::int(n as i128, 21);
        }
        let mut column = Column::integer("", 23, 0).with_type(types::DOUBLE);
        column.decimals = 31;
        Self {
            value: Value::Decimal(n.to_string()),
            column,
        }
    }

    /// Text of at most `chars` characters; `None` is NULL.
    pub(crate) fn text(text: Option<String>, chars: u32) -> Self {
        Self {
            value: text.map_or(Value::Null, Value::Text),
            column: Column::text("", chars),
        }
    }

    /// Text that is never NULL.
    pub(crate) fn text_not_null(text: String, chars: u32) -> Self {
        Self {
            value: Value::Text(text),
            column: Column::text("", chars).not_null(),
        }
    }

    /// A string literal.
    pub(crate) fn literal(text: String) -> Self {
        let chars = text.chars().count() as u32;
        Self::text_not_null(text, chars)
    }

    /// A DATETIME with `digits` behind the point.
    pub(crate) fn datetime(text: String, digits: u8) -> Self {
        let length = if digits == 0 {
            19
        } else {
            20 + u32::from(digits)
        };
        let mut column = Column::integer("", length, flags::NOT_NULL).with_type(types::DATETIME);
        column.decimals = digits;
        Self {
            value: Value::Text(text),
            column,
        }
    }

    /// A user variable's value.
    pub(crate) fn user_variable(value: Option<&UserValue>) -> Self {
        match value {
            None => {
                let mut column = Column::integer("", 65_532, 0).with_type(types::VAR_STRING);
                column.decimals = 31;
                Self {
                    value: Value::Null,
                    column,
                }
            }
            Some(UserValue::Int(n)) => Self {
                value: Value::Int(*n),
                column: Column::integer("", 21, 0),
            },
            Some(UserValue::Decimal(text)) => {
                let mut column = Column::integer("", 67, 0).with_type(types::NEWDECIMAL);
                column.decimals = 30;
                Self {
                    value: Value::Decimal(text.clone()),
                    column,
                }
            }
            Some(UserValue::Text(text)) => Self {
                value: Value::Text(text.clone()),
                column: Column::text("", 50_331_645).with_type(types::LONG_BLOB),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_counts_as_its_numeric_prefix() {
        for (text, number) in [
            ("12abc", 12.0),
            (" -1.5e2x", -150.0),
            ("abc", 0.0),
            ("1e", 1.0),
            ("", 0.0),
            (".5", 0.5),
        ] {
            assert_eq!(Value::Text(text.into()).number(), Some(number), "{text}");
        }
    }

    #[test]
    fn comparisons_follow_mysql() {
        let text = |t: &str| Value::Text(t.into());
        assert_eq!(text("ROW").compare(&text("row")), Some(Ordering::Equal));
        assert_eq!(text("1").compare(&Value::Int(1)), Some(Ordering::Equal));
        assert_eq!(Value::Null.compare(&Value::Null), None);
        assert_eq!(
            Value::Int(2).compare(&Value::Decimal("1.5".into())),
            Some(Ordering::Greater)
        );
    }
}
