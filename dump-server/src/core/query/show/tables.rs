//! SHOW statements about databases and tables: this server has `information_schema` and nothing in it.
//!
//! In: tokens. Out: rows, mostly none, or MySQL's error for what does not exist.

use sqlparser::tokenizer::Token;

use super::Filter;
use crate::core::query::eval::Env;
use crate::core::query::tokens::Tokens;
use crate::wire::errors::{self, SqlError};
use crate::wire::resultset::{Column, ResultSet, flags};

pub(super) fn show(env: Env<'_>, t: &mut Tokens<'_>) -> Result<Option<ResultSet>, SqlError> {
    if t.eat("DATABASES") || t.eat("SCHEMAS") {
        return databases(env, t).map(Some);
    }
    let full = t.eat("FULL");
    if t.eat("TABLES") {
        return tables(env, full, t).map(Some);
    }
    if t.eat_all(&["TABLE", "STATUS"]) {
        let database = database(env, t)?;
        known(&database)?;
        let columns = ["Name", "Engine", "Version", "Row_format", "Rows"];
        let columns = columns.iter().map(|n| Column::text(*n, 64)).collect();
        return Ok(Some(ResultSet::new(columns)));
    }
    if t.eat_all(&["CREATE", "TABLE"]) || t.eat("COLUMNS") || t.eat("FIELDS") || t.eat("INDEX") {
        let _ = t.eat("FROM") || t.eat("IN");
        return Err(missing_table(env, t));
    }
    if full {
        return Err(t.syntax_error());
    }
    Ok(None)
}

fn databases(env: Env<'_>, t: &mut Tokens<'_>) -> Result<ResultSet, SqlError> {
    let filter = Filter::parse(t)?;
    let mut column = Column::text("Database", 64)
        .not_null()
        .of_table("", "schemata");
    column.table = "SCHEMATA";
    let mut set = ResultSet::new(vec![column]);
    set.push(vec![Some("information_schema".to_owned())]);
    filter.apply(env, set)
}

/// `FROM`/`IN` database, else the default one.
fn database(env: Env<'_>, t: &mut Tokens<'_>) -> Result<String, SqlError> {
    if t.eat("FROM") || t.eat("IN") {
        return t.name_or_string().ok_or_else(|| t.syntax_error());
    }
    env.session
        .database
        .clone()
        .ok_or_else(errors::no_database_selected)
}

fn known(database: &str) -> Result<(), SqlError> {
    if database.eq_ignore_ascii_case("information_schema") {
        Ok(())
    } else {
        Err(errors::unknown_database(database))
    }
}

fn tables(env: Env<'_>, full: bool, t: &mut Tokens<'_>) -> Result<ResultSet, SqlError> {
    let database = database(env, t)?;
    let filter = Filter::parse(t)?;
    known(&database)?;
    let mut columns = vec![Column::text(format!("Tables_in_{database}"), 64)];
    if full {
        let mut kind = Column::text("Table_type", 11);
        kind.flags = flags::NOT_NULL;
        columns.push(kind);
    }
    filter.apply(env, ResultSet::new(columns))
}

/// Error for a table named as `t`, `d.t` or `t FROM d`.
fn missing_table(env: Env<'_>, t: &mut Tokens<'_>) -> SqlError {
    let Some(mut table) = t.name_or_string() else {
        return t.syntax_error();
    };
    let mut database = env.session.database.clone();
    if t.eat_token(&Token::Period) {
        database = Some(std::mem::take(&mut table));
        table = t.name_or_string().unwrap_or_default();
    } else if t.eat("FROM") || t.eat("IN") {
        database = t.name_or_string();
    }
    match database {
        None => errors::no_database_selected(),
        Some(database) => match known(&database) {
            Ok(()) => errors::unknown_table(&database, &table),
            Err(unknown) => unknown,
        },
    }
}
