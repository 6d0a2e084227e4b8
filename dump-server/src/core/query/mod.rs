//! Statements: what clients of a binlog source send, answered from state.
//!
//! In: one statement, the session, the server's view. Out: an [`Answer`]: rows, OK, an error, or something the shell must
//! do first. Expressions and queries are parsed by sqlparser in MySQL's dialect; SHOW, SET and the statements sqlparser does
//! not know are read from its tokens.

mod eval;
mod functions;
pub(crate) mod like;
pub(crate) mod metadata;
mod select;
mod set;
pub(crate) mod show;
pub(crate) mod time;
pub(crate) mod tokens;
pub(crate) mod value;
pub(crate) mod vars;

use sqlparser::tokenizer::Token;

use self::eval::Env;
pub(crate) use self::show::EventsRequest;
use self::tokens::Tokens;
use super::session::state::SessionState;
use super::view::ServerView;
use crate::wire::errors::{self, SqlError};
use crate::wire::resultset::ResultSet;

/// What a statement comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// OK, nothing to show.
    Ok,
    /// Rows.
    Rows(ResultSet),
    /// SHOW BINLOG EVENTS: the shell reads the file.
    Events(EventsRequest),
    /// KILL of a connection that is there and may be killed.
    Kill(u32),
    /// A change of the log that the service carries out.
    Admin(AdminRequest),
}

/// A change of the log asked for by an account with ADMIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminRequest {
    /// PURGE BINARY LOGS TO: this file becomes the oldest.
    PurgeTo(String),
    /// PURGE BINARY LOGS BEFORE: seconds since 1970.
    PurgeBefore(u64),
    /// FLUSH BINARY LOGS: start a new file.
    FlushLogs,
}

/// Executes one statement.
///
/// # Errors
/// With the error MySQL gives, or 1235 for a class of statements this server does not serve.
pub(crate) fn execute(
    statement: &Tokens<'_>,
    session: &mut SessionState,
    server: &dyn ServerView,
) -> Result<Answer, SqlError> {
    let mut t = statement.clone();
    let word = t.peek_word().unwrap_or_default();
    let env = Env {
        server,
        session,
        row: None,
    };
    match word.as_str() {
        "SELECT" => select::select(env, statement).map(Answer::Rows),
        "WITH" => select::select(env, statement).map(Answer::Rows),
        "SET" => {
            t.eat("SET");
            let changes = set::plan(env, &t)?;
            set::apply(changes, &mut session.vars)?;
            Ok(Answer::Ok)
        }
        "SHOW" => {
            t.eat("SHOW");
            show::show(env, t)
        }
        "USE" => {
            t.eat("USE");
            let database = t.name_or_string().ok_or_else(|| t.syntax_error())?;
            t.expect_end()?;
            use_database(session, server, database)?;
            Ok(Answer::Ok)
        }
        "BEGIN" => {
            session.in_transaction = true;
            Ok(Answer::Ok)
        }
        "START" if t.eat_all(&["START", "TRANSACTION"]) => {
            session.in_transaction = true;
            Ok(Answer::Ok)
        }
        "COMMIT" | "ROLLBACK" => {
            // ROLLBACK TO SAVEPOINT ends nothing.
            session.in_transaction &=
                t.eat_all(&["ROLLBACK"]) && t.peek_word().as_deref() == Some("TO");
            Ok(Answer::Ok)
        }
        "SAVEPOINT" | "RELEASE" | "UNLOCK" => Ok(Answer::Ok),
        "DESC" | "DESCRIBE" | "EXPLAIN" => {
            let second = t.peek_word_at(1).unwrap_or_default();
            if second == "SELECT" || (word == "EXPLAIN" && second == "FORMAT") {
                return Err(errors::not_supported("EXPLAIN"));
            }
            t.eat(&word);
            show::describe(env, &mut t).map(Answer::Rows)
        }
        "DO" => {
            t.eat("DO");
            for part in t.split_commas() {
                env.eval(&part.expression()?)?;
            }
            Ok(Answer::Ok)
        }
        "KILL" => kill(env, &mut t),
        "PURGE" => purge(env, &mut t),
        "FLUSH" => flush(env, &mut t),
        "" if t.eat_token(&Token::LParen) => select::select(env, statement).map(Answer::Rows),
        _ => Err(refused(&word, statement)),
    }
}

/// USE. While no databases are served at all, any name is taken: clients name one out of habit.
///
/// # Errors
/// 1049 when there is no such database, 1044 when it is not for clients.
pub(crate) fn use_database(
    session: &mut SessionState,
    server: &dyn ServerView,
    database: String,
) -> Result<(), SqlError> {
    let served = server.catalog().databases();
    let known = metadata::is_own(&database) || served.iter().any(|d| d.name == database);
    if !known && !served.is_empty() {
        return Err(match metadata::is_closed(&database) {
            true => errors::database_denied(&session.user, &database),
            false => errors::unknown_database(&database),
        });
    }
    session.database = Some(database);
    Ok(())
}

/// First words of MySQL's statements that this server does not serve.
const STATEMENTS: &[&str] = &[
    "ALTER",
    "ANALYZE",
    "BINLOG",
    "CACHE",
    "CALL",
    "CHANGE",
    "CHECK",
    "CHECKSUM",
    "CLONE",
    "CREATE",
    "DEALLOCATE",
    "DELETE",
    "DROP",
    "EXECUTE",
    "GET",
    "GRANT",
    "HANDLER",
    "HELP",
    "IMPORT",
    "INSERT",
    "INSTALL",
    "LOAD",
    "LOCK",
    "OPTIMIZE",
    "PREPARE",
    "RENAME",
    "REPAIR",
    "REPLACE",
    "RESET",
    "RESIGNAL",
    "RESTART",
    "REVOKE",
    "SHUTDOWN",
    "SIGNAL",
    "START",
    "STOP",
    "TABLE",
    "TRUNCATE",
    "UNINSTALL",
    "UPDATE",
    "VALUES",
    "XA",
];

fn refused(word: &str, statement: &Tokens<'_>) -> SqlError {
    if !STATEMENTS.contains(&word) {
        return statement.syntax_error();
    }
    let two_words = [
        "ALTER", "CHANGE", "CREATE", "DROP", "LOAD", "LOCK", "RESET", "START", "STOP", "XA",
    ];
    match statement
        .peek_word_at(1)
        .filter(|_| two_words.contains(&word))
    {
        Some(second) => errors::not_supported(&format!("{word} {second}")),
        None => errors::not_supported(word),
    }
}

fn kill(env: Env<'_>, t: &mut Tokens<'_>) -> Result<Answer, SqlError> {
    t.eat("KILL");
    let _ = t.eat("CONNECTION") || t.eat("QUERY");
    let id = t.number().ok_or_else(|| t.syntax_error())?;
    t.expect_end()?;
    may_kill(env.session, env.server, id).map(Answer::Kill)
}

/// Checks a KILL: the connection must be here (it may be another node's: 1094), and be the account's own or the account
/// have ADMIN.
///
/// # Errors
/// 1094 or 1095.
pub(crate) fn may_kill(
    session: &SessionState,
    server: &dyn ServerView,
    id: u64,
) -> Result<u32, SqlError> {
    let client = server.clients().into_iter().find(|c| u64::from(c.id) == id);
    let client = client.ok_or_else(|| errors::unknown_thread(id))?;
    if session.privileges.admin || client.user == session.user {
        Ok(client.id)
    } else {
        Err(errors::not_owner(id))
    }
}

fn purge(env: Env<'_>, t: &mut Tokens<'_>) -> Result<Answer, SqlError> {
    t.eat("PURGE");
    if !(t.eat_all(&["BINARY", "LOGS"]) || t.eat_all(&["MASTER", "LOGS"])) {
        return Err(t.syntax_error());
    }
    env.session.privileges.need_admin("SUPER or BINLOG_ADMIN")?;
    if t.eat("TO") {
        let file = t.string().ok_or_else(|| t.syntax_error())?;
        t.expect_end()?;
        if !env.server.files().iter().any(|f| f.name == file) {
            return Err(errors::unknown_purge_target());
        }
        return Ok(Answer::Admin(AdminRequest::PurgeTo(file)));
    }
    if t.eat("BEFORE") {
        let value = env.eval(&t.expression()?)?.value;
        let seconds = value.text().and_then(|text| time::datetime_seconds(&text));
        let seconds = seconds.and_then(|s| u64::try_from(s).ok());
        let seconds = seconds.ok_or_else(|| t.syntax_error())?;
        return Ok(Answer::Admin(AdminRequest::PurgeBefore(seconds)));
    }
    Err(t.syntax_error())
}

fn flush(env: Env<'_>, t: &mut Tokens<'_>) -> Result<Answer, SqlError> {
    t.eat("FLUSH");
    let _ = t.eat("LOCAL") || t.eat("NO_WRITE_TO_BINLOG");
    env.session.privileges.need_admin("RELOAD")?;
    if t.eat_all(&["BINARY", "LOGS"]) || t.eat("LOGS") {
        t.expect_end()?;
        return Ok(Answer::Admin(AdminRequest::FlushLogs));
    }
    match t.peek_word() {
        Some(what) => Err(errors::not_supported(&format!("FLUSH {what}"))),
        None => Err(t.syntax_error()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
