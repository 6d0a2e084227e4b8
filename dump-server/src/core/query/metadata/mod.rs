//! Queries over `information_schema` and `performance_schema`.
//!
//! In: a SELECT with tables. Out: a result set. The query is carried over to SQLite's dialect and evaluated by SQLite in
//! memory over the tables it names, filled from the server's state at that moment.

mod constraints;
mod engine;
mod fill;
mod tables;
mod translate;
mod view;

use sqlparser::ast::{Expr, Query, SelectItem, SetExpr};
use sqlparser::tokenizer::{Token, Word};

use self::engine::Engine;
pub(super) use self::fill::{databases, key_of, plugins};
use self::tables::TableDef;
use super::eval::Env;
use super::tokens::Tokens;
use crate::wire::errors::{self, SqlError};
use crate::wire::resultset::{Cell, Column, ResultSet, flags};

/// True for a database that every MySQL has and that accounts without privileges on it cannot read: here, nobody can.
pub(super) fn is_closed(database: &str) -> bool {
    matches!(database, "mysql" | "sys")
}

/// True for a database that holds no rows of users.
pub(super) fn is_own(database: &str) -> bool {
    tables::SCHEMAS
        .iter()
        .any(|s| s.eq_ignore_ascii_case(database))
}

/// The tables in one of the server's own databases: names, and what they are to `SHOW FULL TABLES`.
pub(super) fn own_tables(database: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |t: &&TableDef| t.schema.eq_ignore_ascii_case(database);
    (tables::all().iter().filter(of)).map(|t| (t.name, t.kind()))
}

/// The columns of such a table, as they are in its results.
pub(super) fn own_columns(database: &str, table: &str) -> Option<Vec<Column>> {
    let def = tables::all()
        .iter()
        .find(|t| t.schema.eq_ignore_ascii_case(database) && t.name.eq_ignore_ascii_case(table))?;
    Some(
        def.columns
            .iter()
            .filter_map(|c| def.column(c.name))
            .collect(),
    )
}

/// True when the statement reads tables or joins queries, and so is for [`select`].
pub(super) fn reads_tables(statement: &Tokens<'_>) -> bool {
    let tokens: Vec<&Token> = statement.rest().map(|(token, _)| token).collect();
    let joins = ["UNION", "WITH", "INTERSECT", "EXCEPT"];
    if tokens
        .iter()
        .any(|t| joins.iter().any(|word| is_word(t, word)))
    {
        return true;
    }
    tokens.windows(2).any(|pair| match pair {
        [from, Token::Word(table)] if is_word(from, "FROM") => {
            !(table.value.eq_ignore_ascii_case("dual") && table.quote_style.is_none())
        }
        _ => false,
    })
}

fn is_word(token: &Token, keyword: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(keyword))
}

/// Answers a query; `texts` are the items of its select list as typed.
pub(super) fn select(
    env: Env<'_>,
    statement: &Tokens<'_>,
    texts: &[String],
) -> Result<ResultSet, SqlError> {
    let query = statement.query()?;
    check_names(env, statement)?;
    let sql = translate::translate(env, statement)?;
    let named: Vec<&TableDef> = tables::all()
        .iter()
        .filter(|t| names(statement, t))
        .collect();
    let mut engine = Engine::new(&named)?;
    for table in &named {
        engine.fill(table, fill::rows(env, table))?;
    }
    let answer = engine.query(&sql)?;
    let items = items(&query).filter(|items| items.len() == answer.names.len());
    let columns = answer.names.iter().enumerate().map(|(i, name)| {
        let found = named.iter().find_map(|t| t.column(name));
        let column = found.unwrap_or_else(|| shape(&answer.rows, i));
        let item = items.and_then(|items| items.get(i));
        column.named(match item {
            Some(SelectItem::ExprWithAlias { alias, .. }) => alias.value.clone(),
            Some(SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_)))
            | None => name.clone(),
            Some(SelectItem::UnnamedExpr(_)) => texts.get(i).unwrap_or(name).clone(),
            Some(_) => name.clone(),
        })
    });
    let mut set = ResultSet::new(columns.collect());
    answer.rows.into_iter().for_each(|row| set.push(row));
    Ok(set)
}

/// The outermost select list.
fn items(query: &Query) -> Option<&[SelectItem]> {
    match query.body.as_ref() {
        SetExpr::Select(select) => Some(&select.projection),
        SetExpr::Query(inner) => items(inner),
        _ => None,
    }
}

fn names(statement: &Tokens<'_>, table: &TableDef) -> bool {
    statement.rest().any(|(token, _)| {
        matches!(token, Token::Word(word) if word.value.eq_ignore_ascii_case(table.name))
    })
}

/// Refuses tables of users, and tables without a database where the default one is not theirs.
fn check_names(env: Env<'_>, statement: &Tokens<'_>) -> Result<(), SqlError> {
    let tokens: Vec<&Token> = statement.rest().map(|(token, _)| token).collect();
    for (i, token) in tokens.iter().enumerate() {
        if !(is_word(token, "FROM") || is_word(token, "JOIN")) {
            continue;
        }
        match tokens.get(i + 1..).unwrap_or_default() {
            [Token::Word(database), Token::Period, Token::Word(table), ..] => {
                user_table(env, &database.value, &table.value)?;
            }
            [Token::Word(table), ..] if !is_word(&Token::Word(table.clone()), "dual") => {
                let database = env.session.database.as_deref();
                let database = database.ok_or_else(errors::no_database_selected)?;
                user_table(env, database, &table.value)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// An error unless there is such a database.
pub(super) fn known(env: Env<'_>, database: &str) -> Result<(), SqlError> {
    let served = || env.server.catalog().databases();
    if is_own(database) || served().iter().any(|d| d.name == database) {
        Ok(())
    } else if is_closed(database) {
        Err(errors::database_denied(&env.session.user, database))
    } else {
        Err(errors::unknown_database(database))
    }
}

/// An error unless the table is one of the server's own.
fn user_table(env: Env<'_>, database: &str, table: &str) -> Result<(), SqlError> {
    if is_own(database) {
        return Ok(());
    }
    let catalog = env.server.catalog();
    if catalog.table(database, table).is_some() {
        return Err(errors::not_supported("SELECT of a table's rows"));
    }
    if is_closed(database) {
        let session = env.session;
        return Err(errors::select_denied(&session.user, &session.host, table));
    }
    let served = catalog.databases();
    if !served.is_empty() && !served.iter().any(|d| d.name == database) {
        return Err(errors::unknown_database(database));
    }
    Err(errors::unknown_table(database, table))
}

/// The shape of a computed column, by its values.
fn shape(rows: &[Vec<Cell>], at: usize) -> Column {
    let mut cells = rows
        .iter()
        .filter_map(|row| row.get(at))
        .flatten()
        .peekable();
    let whole = cells.peek().is_some() && cells.all(|c| c.parse::<i64>().is_ok());
    if whole {
        Column::integer("", 21, flags::NOT_NULL)
    } else {
        Column::text("", 256)
    }
}

#[cfg(test)]
pub(crate) mod tests;
