//! Evaluates expressions over variables, functions and the row at hand.
//!
//! In: an expression parsed by sqlparser, the server's and the session's state, maybe a row. Out: a typed value, or the
//! error MySQL would give. Depth is bounded by the caps in `tokens`.

use std::cmp::Ordering;

use sqlparser::ast::{BinaryOperator, CaseWhen, Expr, Ident, UnaryOperator, Value as Literal};

use super::functions;
use super::like::like;
use super::select;
use super::value::{Typed, Value};
use super::vars::{self, Asked, Kind, VarContext, Variable};
use crate::core::session::state::SessionState;
use crate::core::view::ServerView;
use crate::wire::errors::{self, SqlError};
use crate::wire::resultset::{Column, flags, types};

/// The row an expression is evaluated for.
#[derive(Clone, Copy)]
pub(super) struct RowView<'a> {
    pub(super) columns: &'a [Column],
    pub(super) cells: &'a [Value],
}

/// What expressions are evaluated against.
#[derive(Clone, Copy)]
pub(super) struct Env<'a> {
    pub(super) server: &'a dyn ServerView,
    pub(super) session: &'a SessionState,
    pub(super) row: Option<RowView<'a>>,
}

impl<'a> Env<'a> {
    pub(super) fn vars(&self) -> VarContext<'a> {
        VarContext {
            server: self.server,
            session: &self.session.vars,
            connection_id: self.session.connection_id,
        }
    }

    pub(super) fn eval(&self, expr: &Expr) -> Result<Typed, SqlError> {
        match expr {
            Expr::Value(value) => literal(&value.value),
            Expr::Identifier(ident) => self.identifier(ident),
            Expr::CompoundIdentifier(parts) => self.compound(parts),
            Expr::Nested(inner) => self.eval(inner),
            Expr::Collate { expr, .. } => self.eval(expr),
            Expr::UnaryOp { op, expr } => self.unary(*op, expr),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            Expr::IsNull(e) => Ok(Typed::truth(Some(self.eval(e)?.value == Value::Null))),
            Expr::IsNotNull(e) => Ok(Typed::truth(Some(self.eval(e)?.value != Value::Null))),
            Expr::IsTrue(e) => Ok(Typed::truth(Some(self.truth(e)? == Some(true)))),
            Expr::IsFalse(e) => Ok(Typed::truth(Some(self.truth(e)? == Some(false)))),
            Expr::Like {
                negated,
                expr,
                pattern,
                ..
            } => self.like(*negated, expr, pattern),
            Expr::InList {
                expr,
                list,
                negated,
            } => self.in_list(expr, list, *negated),
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } => {
                let value = self.eval(expr)?.value;
                let above = value.compare(&self.eval(low)?.value).map(Ordering::is_ge);
                let below = value.compare(&self.eval(high)?.value).map(Ordering::is_le);
                Ok(Typed::truth(and(above, below).map(|t| t != *negated)))
            }
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.case(operand.as_deref(), conditions, else_result.as_deref()),
            Expr::Cast {
                expr, data_type, ..
            } => self.cast(expr, &data_type.to_string()),
            Expr::Function(function) => functions::call(self, function),
            Expr::Subquery(query) => select::scalar(self, query),
            other => Err(errors::not_supported(&format!(
                "the expression {}",
                shorten(&other.to_string())
            ))),
        }
    }

    pub(super) fn truth(&self, expr: &Expr) -> Result<Option<bool>, SqlError> {
        Ok(self.eval(expr)?.value.truth())
    }

    fn identifier(&self, ident: &Ident) -> Result<Typed, SqlError> {
        if ident.quote_style.is_none() {
            if let Some(name) = ident.value.strip_prefix("@@") {
                return self.variable(Asked::Any, name);
            }
            if let Some(name) = ident.value.strip_prefix('@') {
                return Ok(Typed::user_variable(self.session.vars.user(name)));
            }
        }
        if let Some(found) = self.column(&ident.value) {
            return Ok(found);
        }
        // CURRENT_TIMESTAMP and its like need no parentheses.
        if ident.quote_style.is_none()
            && let Some(value) = functions::bare(self, &ident.value)
        {
            return Ok(value);
        }
        Err(errors::unknown_column(&ident.value))
    }

    fn column(&self, name: &str) -> Option<Typed> {
        let row = self.row?;
        let at = row
            .columns
            .iter()
            .position(|c| c.name.eq_ignore_ascii_case(name));
        match at {
            Some(at) => Some(Typed {
                value: row.cells.get(at).cloned().unwrap_or(Value::Null),
                column: row.columns.get(at)?.clone(),
            }),
            None => None,
        }
    }

    fn compound(&self, parts: &[Ident]) -> Result<Typed, SqlError> {
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
            return Err(errors::syntax(""));
        };
        let name = parts
            .iter()
            .skip(1)
            .map(|p| p.value.as_str())
            .collect::<Vec<_>>()
            .join(".");
        match first.value.to_ascii_lowercase().as_str() {
            "@@global" => self.variable(Asked::Global, &name),
            "@@session" | "@@local" => self.variable(Asked::Session, &name),
            other => match other.strip_prefix("@@") {
                Some(prefix) => Err(errors::unknown_variable(&format!("{prefix}.{name}"))),
                None => self
                    .column(&last.value)
                    .ok_or_else(|| errors::unknown_column(&last.value)),
            },
        }
    }

    fn variable(&self, asked: Asked, name: &str) -> Result<Typed, SqlError> {
        let variable = vars::find(name, self.server)?;
        let text = variable.value(asked, self.vars())?;
        Ok(typed_variable(variable, text))
    }

    fn unary(&self, op: UnaryOperator, expr: &Expr) -> Result<Typed, SqlError> {
        let operand = self.eval(expr)?;
        match op {
            UnaryOperator::Plus => Ok(operand),
            UnaryOperator::Not | UnaryOperator::BangNot => {
                Ok(Typed::truth(operand.value.truth().map(|t| !t)))
            }
            UnaryOperator::Minus => Ok(match operand.value {
                Value::Null => Typed::null(),
                Value::Int(n) => Typed {
                    value: Value::Int(-n),
                    column: operand.column,
                },
                Value::Decimal(text) => Typed::decimal(format!("-{text}")),
                Value::Text(_) => Typed::double(-operand.value.number().unwrap_or(0.0)),
            }),
            other => Err(errors::not_supported(&format!("the operator {other}"))),
        }
    }

    fn binary(&self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Typed, SqlError> {
        let a = self.eval(left)?.value;
        let b = self.eval(right)?.value;
        let compared = |test: fn(Ordering) -> bool| Ok(Typed::truth(a.compare(&b).map(test)));
        match op {
            BinaryOperator::Eq => compared(Ordering::is_eq),
            BinaryOperator::NotEq => compared(Ordering::is_ne),
            BinaryOperator::Lt => compared(Ordering::is_lt),
            BinaryOperator::LtEq => compared(Ordering::is_le),
            BinaryOperator::Gt => compared(Ordering::is_gt),
            BinaryOperator::GtEq => compared(Ordering::is_ge),
            BinaryOperator::Spaceship => {
                let same = a == b || a.compare(&b) == Some(Ordering::Equal);
                Ok(Typed::truth(Some(same)))
            }
            BinaryOperator::And => Ok(Typed::truth(and(a.truth(), b.truth()))),
            BinaryOperator::Or => {
                let neither = and(a.truth().map(|t| !t), b.truth().map(|t| !t));
                Ok(Typed::truth(neither.map(|t| !t)))
            }
            _ => arithmetic(&a, op, &b),
        }
    }

    fn like(&self, negated: bool, expr: &Expr, pattern: &Expr) -> Result<Typed, SqlError> {
        let text = self.eval(expr)?.value.text();
        let pattern = self.eval(pattern)?.value.text();
        let matched = text
            .zip(pattern)
            .map(|(text, pattern)| like(&text, &pattern) != negated);
        Ok(Typed::truth(matched))
    }

    fn in_list(&self, expr: &Expr, list: &[Expr], negated: bool) -> Result<Typed, SqlError> {
        let value = self.eval(expr)?.value;
        let mut unknown = value == Value::Null;
        for item in list {
            match value.compare(&self.eval(item)?.value) {
                Some(Ordering::Equal) => return Ok(Typed::truth(Some(!negated))),
                Some(_) => {}
                None => unknown = true,
            }
        }
        Ok(Typed::truth((!unknown).then_some(negated)))
    }

    fn case(
        &self,
        operand: Option<&Expr>,
        conditions: &[CaseWhen],
        otherwise: Option<&Expr>,
    ) -> Result<Typed, SqlError> {
        let operand = operand.map(|e| self.eval(e)).transpose()?;
        for when in conditions {
            let holds = match &operand {
                Some(o) => {
                    o.value.compare(&self.eval(&when.condition)?.value) == Some(Ordering::Equal)
                }
                None => self.truth(&when.condition)? == Some(true),
            };
            if holds {
                return self.eval(&when.result);
            }
        }
        otherwise.map_or_else(|| Ok(Typed::null()), |e| self.eval(e))
    }

    fn cast(&self, expr: &Expr, target: &str) -> Result<Typed, SqlError> {
        let value = self.eval(expr)?.value;
        if value == Value::Null {
            return Ok(Typed::null());
        }
        let upper = target.to_ascii_uppercase();
        if upper.starts_with("CHAR") || upper.starts_with("BINARY") {
            let text = value.text().unwrap_or_default();
            return Ok(Typed::literal(text));
        }
        if upper.starts_with("SIGNED") || upper.starts_with("UNSIGNED") {
            return Ok(Typed::int(value.number().unwrap_or(0.0) as i128, 21));
        }
        Err(errors::not_supported(&format!(
            "CAST AS {}",
            shorten(target)
        )))
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

/// A variable's value as SELECT shows it.
pub(super) fn typed_variable(variable: &Variable, text: String) -> Typed {
    match variable.kind {
        Kind::Text => Typed::text(Some(text), 21_845),
        Kind::Bool => Typed {
            value: Value::Int(i128::from(text == "ON")),
            column: Column::integer("", 1, 0),
        },
        Kind::Uint => Typed {
            value: text.parse().map_or(Value::Null, Value::Int),
            column: Column::integer("", 21, flags::UNSIGNED),
        },
        Kind::Double => {
            let mut column = Column::integer("", 23, 0).with_type(types::DOUBLE);
            column.decimals = 6;
            Typed {
                value: Value::Decimal(text),
                column,
            }
        }
    }
}

fn literal(value: &Literal) -> Result<Typed, SqlError> {
    Ok(match value {
        Literal::Null => Typed::null(),
        Literal::Boolean(b) => Typed::int((*b).into(), 1),
        Literal::Number(text, _) => match text.parse::<i64>().map(i128::from) {
            Ok(n) => Typed::int(n, text.len() as u32 + 1),
            Err(_) if text.parse::<u64>().is_ok() => {
                Typed::int(text.parse().unwrap_or_default(), text.len() as u32 + 1)
            }
            Err(_) if text.contains(['e', 'E']) => {
                let number = text.parse::<f64>().ok().filter(|n| n.is_finite());
                Typed::double(number.ok_or_else(|| errors::syntax(text))?)
            }
            Err(_) => Typed::decimal(text.clone()),
        },
        Literal::SingleQuotedString(s) | Literal::DoubleQuotedString(s) => {
            Typed::literal(s.clone())
        }
        other => {
            return Err(errors::not_supported(&format!(
                "the literal {}",
                shorten(&other.to_string())
            )));
        }
    })
}

/// AND of MySQL's three truth values.
fn and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn arithmetic(a: &Value, op: &BinaryOperator, b: &Value) -> Result<Typed, SqlError> {
    if let (Value::Int(a), Value::Int(b)) = (a, b) {
        let exact = match op {
            BinaryOperator::Plus => a.checked_add(*b),
            BinaryOperator::Minus => a.checked_sub(*b),
            BinaryOperator::Multiply => a.checked_mul(*b),
            BinaryOperator::Modulo if *b != 0 => a.checked_rem(*b),
            BinaryOperator::MyIntegerDivide if *b != 0 => a.checked_div(*b),
            _ => None,
        };
        // MySQL's integers end at 64 bits.
        if let Some(n) = exact.filter(|n| (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(n))
        {
            let digits = n.to_string().len() as u32;
            return Ok(Typed::int(n, digits + 2));
        }
    }
    let (Some(x), Some(y)) = (a.number(), b.number()) else {
        return Ok(Typed::null());
    };
    let result = match op {
        BinaryOperator::Plus => x + y,
        BinaryOperator::Minus => x - y,
        BinaryOperator::Multiply => x * y,
        BinaryOperator::Divide | BinaryOperator::Modulo | BinaryOperator::MyIntegerDivide
            if y == 0.0 =>
        {
            return Ok(Typed::null());
        }
        BinaryOperator::MyIntegerDivide => (x / y).trunc(),
        BinaryOperator::Divide => x / y,
        BinaryOperator::Modulo => x % y,
        other => return Err(errors::not_supported(&format!("the operator {other}"))),
    };
    if result.is_finite() {
        Ok(Typed::double(result))
    } else {
        Err(errors::other("number out of range"))
    }
}
