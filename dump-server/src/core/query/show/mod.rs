//! SHOW statements.
//!
//! In: the tokens behind SHOW. Out: a result set from state, or a request to read events. Column names and types are MySQL
//! 9.7's; both old and new spellings work whatever version is announced.

mod empty;
mod indexes;
mod logs;
mod processes;
mod tables;

pub(crate) use logs::{EventsRequest, event_columns};
pub(super) use processes::{privilege_names, process_rows};
pub(super) use tables::describe;

use super::Answer;
use super::eval::{Env, RowView};
use super::like::like;
use super::tokens::Tokens;
use super::value::Value;
use super::vars::{self, Scope, VarContext};
use crate::wire::errors::{self, SqlError};
use crate::wire::resultset::{Column, ResultSet};

/// Answers a SHOW statement; `tokens` stand behind SHOW.
pub(super) fn show(env: Env<'_>, mut tokens: Tokens<'_>) -> Result<Answer, SqlError> {
    let t = &mut tokens;
    let global = t.eat("GLOBAL");
    let session = !global && (t.eat("SESSION") || t.eat("LOCAL"));
    if t.eat("VARIABLES") {
        return variables(env, global, t).map(Answer::Rows);
    }
    if t.eat("STATUS") {
        return status(env, global, t).map(Answer::Rows);
    }
    if global || session {
        return Err(t.syntax_error());
    }
    if let Some(answer) = logs::show(env, t)? {
        return Ok(answer);
    }
    if let Some(rows) = processes::show(env, t)? {
        return Ok(Answer::Rows(rows));
    }
    if let Some(rows) = tables::show(env, t)? {
        return Ok(Answer::Rows(rows));
    }
    if let Some(rows) = empty::show(env, t)? {
        return Ok(Answer::Rows(rows));
    }
    let words: Vec<String> = (0..3).map_while(|i| t.peek_word_at(i)).take(2).collect();
    if words.is_empty() {
        return Err(t.syntax_error());
    }
    if !CLASSES.contains(&words[0].as_str()) {
        return Err(t.syntax_error());
    }
    Err(errors::not_supported(&format!("SHOW {}", words.join(" "))))
}

/// First words of MySQL's SHOW statements that this server does not serve.
const CLASSES: &[&str] = &[
    "BINLOG",
    "CREATE",
    "ENGINE",
    "FUNCTION",
    "LIBRARY",
    "PARSE_TREE",
    "PRIVILEGES",
    "PROCEDURE",
    "PROFILE",
    "RELAYLOG",
    "REPLICA",
    "SLAVE",
];

fn pair_columns(table: &'static str) -> Vec<Column> {
    vec![
        Column::text("Variable_name", 64)
            .not_null()
            .of_table("performance_schema", table),
        Column::text("Value", 1024).of_table("performance_schema", table),
    ]
}

fn variables(env: Env<'_>, global: bool, tokens: &mut Tokens<'_>) -> Result<ResultSet, SqlError> {
    let table = if global {
        "global_variables"
    } else {
        "session_variables"
    };
    let filter = Filter::parse(tokens)?;
    let context: VarContext<'_> = env.vars();
    let rows = vars::all(env.server)
        // A pattern decides by the name alone: do not make values that nobody sees.
        .filter(|v| filter.may_match(v.name) && !(global && v.scope == Scope::Session))
        .map(|v| vec![Some(v.name.to_owned()), Some(v.shown(global, context))])
        .collect();
    filter.apply(
        env,
        ResultSet {
            columns: pair_columns(table),
            rows,
        },
    )
}

fn status(env: Env<'_>, global: bool, tokens: &mut Tokens<'_>) -> Result<ResultSet, SqlError> {
    let table = if global {
        "global_status"
    } else {
        "session_status"
    };
    let filter = Filter::parse(tokens)?;
    let rows = status_rows(env)
        .into_iter()
        .map(|(name, value)| vec![Some(name.to_owned()), Some(value)])
        .collect();
    filter.apply(
        env,
        ResultSet {
            columns: pair_columns(table),
            rows,
        },
    )
}

/// SHOW STATUS, sorted.
pub(super) fn status_rows(env: Env<'_>) -> Vec<(&'static str, String)> {
    let mut rows = env.server.status();
    let tls = env.session.encryption.as_ref();
    let (version, cipher) = tls.map_or(("", ""), |e| (e.version, e.cipher.as_str()));
    rows.push(("Ssl_version", version.to_owned()));
    rows.push(("Ssl_cipher", cipher.to_owned()));
    let compression = env
        .session
        .compression
        .map(crate::wire::compress::Algorithm::shown);
    let on = if compression.is_some() { "ON" } else { "OFF" };
    let (algorithm, level) = compression.unwrap_or(("", 0));
    rows.push(("Compression", on.to_owned()));
    rows.push(("Compression_algorithm", algorithm.to_owned()));
    rows.push(("Compression_level", level.to_string()));
    if env.server.semi_sync() {
        let clients = env.server.clients();
        let clients = clients.iter().filter(|c| c.semi_sync).count().to_string();
        for (status, count) in [
            (
                "Rpl_semi_sync_source_status",
                "Rpl_semi_sync_source_clients",
            ),
            (
                "Rpl_semi_sync_master_status",
                "Rpl_semi_sync_master_clients",
            ),
        ] {
            rows.push((status, "ON".to_owned()));
            rows.push((count, clients.clone()));
        }
    }
    rows.sort();
    rows
}

/// LIKE 'pattern' on the first column, or WHERE over the row.
pub(super) enum Filter {
    All,
    Like(String),
    Where(Box<sqlparser::ast::Expr>),
}

impl Filter {
    /// Reads everything that is left.
    pub(super) fn parse(tokens: &mut Tokens<'_>) -> Result<Self, SqlError> {
        if tokens.at_end() {
            return Ok(Self::All);
        }
        if tokens.eat("LIKE") {
            let pattern = tokens.string().ok_or_else(|| tokens.syntax_error())?;
            tokens.expect_end()?;
            return Ok(Self::Like(pattern));
        }
        if tokens.eat("WHERE") {
            return Ok(Self::Where(Box::new(tokens.expression()?)));
        }
        Err(tokens.syntax_error())
    }

    fn may_match(&self, name: &str) -> bool {
        match self {
            Self::Like(pattern) => like(name, pattern),
            _ => true,
        }
    }

    /// Keeps the rows that match.
    pub(super) fn apply(&self, env: Env<'_>, mut set: ResultSet) -> Result<ResultSet, SqlError> {
        let mut kept = Vec::new();
        for row in std::mem::take(&mut set.rows) {
            let keep = match self {
                Self::All => true,
                Self::Like(pattern) => row
                    .first()
                    .and_then(Option::as_ref)
                    .is_some_and(|name| like(name, pattern)),
                Self::Where(condition) => {
                    let cells: Vec<Value> = row
                        .iter()
                        .map(|cell| cell.clone().map_or(Value::Null, Value::Text))
                        .collect();
                    let view = RowView {
                        columns: &set.columns,
                        cells: &cells,
                    };
                    (Env {
                        row: Some(view),
                        ..env
                    })
                    .truth(condition)?
                        == Some(true)
                }
            };
            if keep {
                kept.push(row);
            }
        }
        set.rows = kept;
        Ok(set)
    }
}
