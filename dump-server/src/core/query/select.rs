//! SELECT without tables: constants, variables, functions.
//!
//! In: a query. Out: a result set. Everything is evaluated by the expressions in `eval`, over one row; what reads tables is
//! for `metadata`.

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, LimitClause, Query, Select, SelectItem, SetExpr, TableFactor,
    TableWithJoins,
};

use super::eval::{Env, RowView};
use super::metadata;
use super::tokens::Tokens;
use super::value::{Typed, Value};
use crate::wire::errors::{self, SqlError};
use crate::wire::resultset::{Column, ResultSet};

/// Rows of a source or of a result.
#[derive(Default)]
struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

/// Answers a SELECT statement.
pub(super) fn select(env: Env<'_>, statement: &Tokens<'_>) -> Result<ResultSet, SqlError> {
    let texts = item_texts(statement);
    if metadata::reads_tables(statement) {
        return metadata::select(env, statement, &texts);
    }
    let query = statement.query()?;
    let table = run(env, &query, &texts)?;
    let mut result = ResultSet::new(table.columns);
    for row in table.rows {
        result.push(row.into_iter().map(Value::cell).collect());
    }
    Ok(result)
}

/// The value of a subquery used as an expression.
pub(super) fn scalar(env: &Env<'_>, query: &Query) -> Result<Typed, SqlError> {
    let table = run(*env, query, &[])?;
    let (Some(column), 0 | 1) = (table.columns.into_iter().next(), table.rows.len()) else {
        return Err(errors::not_supported("a subquery of several rows"));
    };
    let cell = table
        .rows
        .into_iter()
        .next()
        .and_then(|row| row.into_iter().next());
    Ok(Typed {
        value: cell.unwrap_or(Value::Null),
        column,
    })
}

/// The select list's items as typed: MySQL names columns by them.
fn item_texts(statement: &Tokens<'_>) -> Vec<String> {
    let mut tokens = statement.clone();
    if !tokens.eat("SELECT") {
        return Vec::new();
    }
    let _ = tokens.eat("ALL") || tokens.eat("DISTINCT");
    let ends = [
        "FROM", "WHERE", "LIMIT", "ORDER", "GROUP", "HAVING", "UNION", "FOR", "INTO",
    ];
    let items = tokens.until_keyword(&ends).split_commas();
    items.iter().map(|item| item.text().to_owned()).collect()
}

fn run(env: Env<'_>, query: &Query, texts: &[String]) -> Result<Table, SqlError> {
    if query.with.is_some() {
        return Err(errors::not_supported("WITH"));
    }
    let mut table = match query.body.as_ref() {
        SetExpr::Select(select) => run_select(env, select, texts)?,
        SetExpr::Query(inner) => run(env, inner, texts)?,
        _ => return Err(errors::not_supported("a query other than SELECT")),
    };
    if let Some(limit) = &query.limit_clause {
        let (offset, count) = limits(env, limit)?;
        table.rows = table.rows.into_iter().skip(offset).take(count).collect();
    }
    Ok(table)
}

fn limits(env: Env<'_>, clause: &LimitClause) -> Result<(usize, usize), SqlError> {
    let number = |e: &Expr| match env.eval(e)?.value {
        Value::Int(n) => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
        _ => Err(errors::syntax(&e.to_string())),
    };
    match clause {
        LimitClause::OffsetCommaLimit { offset, limit } => Ok((number(offset)?, number(limit)?)),
        LimitClause::LimitOffset { limit, offset, .. } => {
            let offset = offset.as_ref().map_or(Ok(0), |o| number(&o.value))?;
            let limit = limit.as_ref().map_or(Ok(usize::MAX), number)?;
            Ok((offset, limit))
        }
    }
}

fn run_select(env: Env<'_>, select: &Select, texts: &[String]) -> Result<Table, SqlError> {
    let mut source = from(env, &select.from)?;
    if let Some(condition) = &select.selection {
        let mut kept = Vec::new();
        for row in std::mem::take(&mut source.rows) {
            let view = RowView {
                columns: &source.columns,
                cells: &row,
            };
            if (Env {
                row: Some(view),
                ..env
            })
            .truth(condition)?
                == Some(true)
            {
                kept.push(row);
            }
        }
        source.rows = kept;
    }
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(e, _) if e.is_empty());
    if (grouped || select.having.is_some()) && !source.rows.is_empty() {
        return Err(errors::not_supported("GROUP BY"));
    }
    let mut table = if !grouped && select.projection.iter().any(is_aggregate) {
        aggregate(&source, &select.projection, texts)?
    } else {
        project(env, &source, &select.projection, texts)?
    };
    if matches!(select.distinct, Some(Distinct::Distinct)) {
        let mut seen: Vec<Vec<Value>> = Vec::new();
        for row in std::mem::take(&mut table.rows) {
            if !seen.contains(&row) {
                seen.push(row);
            }
        }
        table.rows = seen;
    }
    Ok(table)
}

fn from(env: Env<'_>, tables: &[TableWithJoins]) -> Result<Table, SqlError> {
    let mut factors = tables
        .iter()
        .flat_map(|t| std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)));
    let Some(first) = factors.next() else {
        return Ok(one_row());
    };
    if factors.next().is_some() {
        return Err(errors::not_supported("JOIN"));
    }
    source(env, first)
}

fn one_row() -> Table {
    Table {
        rows: vec![Vec::new()],
        ..Table::default()
    }
}

fn source(env: Env<'_>, factor: &TableFactor) -> Result<Table, SqlError> {
    match factor {
        // Only `dual` comes here: other tables are for the engine.
        TableFactor::Table { .. } => Ok(one_row()),
        TableFactor::Derived { subquery, .. } => run(env, subquery, &[]),
        _ => Err(errors::not_supported("a table expression of this kind")),
    }
}

fn project(
    env: Env<'_>,
    source: &Table,
    items: &[SelectItem],
    texts: &[String],
) -> Result<Table, SqlError> {
    let mut table = Table::default();
    // Without rows the columns are made from a row of NULLs.
    let blank = vec![Value::Null; source.columns.len()];
    for cells in source
        .rows
        .iter()
        .chain(source.rows.is_empty().then_some(&blank))
    {
        let view = RowView {
            columns: &source.columns,
            cells,
        };
        let env = Env {
            row: Some(view),
            ..env
        };
        let mut columns = Vec::new();
        let mut row = Vec::new();
        for (i, item) in items.iter().enumerate() {
            match item {
                SelectItem::Wildcard(_) => {
                    columns.extend(source.columns.iter().cloned());
                    row.extend(cells.iter().cloned());
                }
                SelectItem::UnnamedExpr(expr) => {
                    let typed = env.eval(expr)?;
                    let name = column_name(expr, &typed, texts.get(i));
                    columns.push(typed.column.named(name));
                    row.push(typed.value);
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let typed = env.eval(expr)?;
                    columns.push(typed.column.named(alias.value.clone()));
                    row.push(typed.value);
                }
                _ => return Err(errors::not_supported("a select item of this kind")),
            }
        }
        table.columns = columns;
        if !source.rows.is_empty() {
            table.rows.push(row);
        }
    }
    if table.columns.is_empty() {
        return Err(errors::syntax("*"));
    }
    Ok(table)
}

/// Longest name MySQL makes from an expression's text, in characters.
const COLUMN_NAME_CHARS_MAX: usize = 256;

fn column_name(expr: &Expr, typed: &Typed, text: Option<&String>) -> String {
    let name = match expr {
        Expr::Value(_) if !matches!(typed.value, Value::Int(_) | Value::Decimal(_)) => {
            typed.value.text().unwrap_or_else(|| "NULL".to_owned())
        }
        _ => text.cloned().unwrap_or_else(|| expr.to_string()),
    };
    match name.char_indices().nth(COLUMN_NAME_CHARS_MAX) {
        Some((end, _)) => name.get(..end).unwrap_or_default().to_owned(),
        None => name,
    }
}

fn aggregate_of(expr: &Expr) -> Option<String> {
    let Expr::Function(function) = expr else {
        return None;
    };
    let name = function.name.to_string().to_ascii_uppercase();
    ["COUNT", "MAX", "MIN", "SUM"]
        .contains(&name.as_str())
        .then_some(name)
}

fn is_aggregate(item: &SelectItem) -> bool {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            aggregate_of(expr).is_some()
        }
        _ => false,
    }
}

/// COUNT over any rows; the others over none, which is NULL.
fn aggregate(source: &Table, items: &[SelectItem], texts: &[String]) -> Result<Table, SqlError> {
    let mut table = Table {
        rows: vec![Vec::new()],
        ..Table::default()
    };
    for (i, item) in items.iter().enumerate() {
        let (expr, alias) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.clone())),
            _ => {
                return Err(errors::not_supported(
                    "a select item of this kind beside COUNT",
                ));
            }
        };
        let typed = match aggregate_of(expr).as_deref() {
            Some("COUNT") => Typed::int(source.rows.len() as i128, 21),
            Some(_) if source.rows.is_empty() => Typed::null(),
            _ => return Err(errors::not_supported("an aggregate other than COUNT")),
        };
        let name = alias
            .or_else(|| texts.get(i).cloned())
            .unwrap_or_else(|| expr.to_string());
        table.columns.push(typed.column.named(name));
        if let Some(row) = table.rows.first_mut() {
            row.push(typed.value);
        }
    }
    Ok(table)
}
