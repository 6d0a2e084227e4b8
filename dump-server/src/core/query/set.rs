//! SET: user variables, session variables, NAMES, TRANSACTION.
//!
//! In: the tokens behind SET. Out: changes of the session, all or none. Replicas and drivers depend on reading back what
//! they set, and on error 1193 for a variable this server does not have.

use sqlparser::ast::Expr;
use sqlparser::tokenizer::Token;

use super::eval::Env;
use super::tokens::Tokens;
use super::value::Value;
use super::vars::{self, Charset, SessionVars, UserValue, Variable};
use crate::wire::errors::{self, SqlError};

/// One change of a session's variables.
pub(super) enum Change {
    User(String, Option<UserValue>),
    System(&'static Variable, Option<String>),
    Names(Charset),
}

/// Evaluates a SET statement; `tokens` stand behind SET.
pub(super) fn plan(env: Env<'_>, tokens: &Tokens<'_>) -> Result<Vec<Change>, SqlError> {
    if let Some(changes) = transaction(env, tokens)? {
        return Ok(changes);
    }
    let mut changes = Vec::new();
    if let Some(word @ ("PASSWORD" | "ROLE" | "RESOURCE")) = tokens.peek_word().as_deref() {
        return Err(errors::not_supported(&format!("SET {word}")));
    }
    for mut part in tokens.split_commas() {
        changes.push(assignment(env, &mut part)?);
    }
    Ok(changes)
}

/// Applies what was planned.
pub(super) fn apply(changes: Vec<Change>, vars: &mut SessionVars) -> Result<(), SqlError> {
    let mut changed = vars.clone();
    for change in changes {
        match change {
            Change::User(name, value) => changed.set_user(&name, value)?,
            Change::System(variable, value) => changed.set_system(variable, value.as_deref())?,
            Change::Names(charset) => changed.set_names(charset),
        }
    }
    *vars = changed;
    Ok(())
}

/// `SET [SESSION] TRANSACTION …`, if it is one. Without SESSION it is about the next transaction only, and nothing here has
/// transactions; with it the variables read back.
fn transaction(env: Env<'_>, tokens: &Tokens<'_>) -> Result<Option<Vec<Change>>, SqlError> {
    let mut t = tokens.clone();
    let global = t.eat("GLOBAL");
    let session = !global && (t.eat("SESSION") || t.eat("LOCAL"));
    if !t.eat("TRANSACTION") {
        return Ok(None);
    }
    if global {
        return Err(errors::privilege_needed("SUPER or SYSTEM_VARIABLES_ADMIN"));
    }
    let mut changes = Vec::new();
    for mut part in t.split_commas() {
        let (name, value) = characteristic(&mut part).ok_or_else(|| part.syntax_error())?;
        part.expect_end()?;
        let variable = vars::find(name, env.server)?;
        changes.push(Change::System(variable, Some(value.to_owned())));
    }
    Ok(Some(if session { changes } else { Vec::new() }))
}

/// The variable a characteristic of transactions is kept in, and its value.
fn characteristic(part: &mut Tokens<'_>) -> Option<(&'static str, &'static str)> {
    if part.eat_all(&["READ", "ONLY"]) {
        return Some(("transaction_read_only", "ON"));
    }
    if part.eat_all(&["READ", "WRITE"]) {
        return Some(("transaction_read_only", "OFF"));
    }
    if !part.eat_all(&["ISOLATION", "LEVEL"]) {
        return None;
    }
    let levels: [(&[&str], &str); 4] = [
        (&["READ", "UNCOMMITTED"], "READ-UNCOMMITTED"),
        (&["READ", "COMMITTED"], "READ-COMMITTED"),
        (&["REPEATABLE", "READ"], "REPEATABLE-READ"),
        (&["SERIALIZABLE"], "SERIALIZABLE"),
    ];
    let found = levels.into_iter().find(|(words, _)| part.eat_all(words));
    found.map(|(_, level)| ("transaction_isolation", level))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Session,
    Global,
}

fn assignment(env: Env<'_>, part: &mut Tokens<'_>) -> Result<Change, SqlError> {
    if part.peek_word().as_deref() == Some("NAMES") || is_charset(part) {
        return names(part);
    }
    let mut scope = Target::Session;
    if part.peek_word_at(1).is_some() {
        if part.eat("GLOBAL") || part.eat("PERSIST") || part.eat("PERSIST_ONLY") {
            scope = Target::Global;
        } else {
            let _ = part.eat("SESSION") || part.eat("LOCAL");
        }
    }
    let mut name = part.name_or_string().ok_or_else(|| part.syntax_error())?;
    while part.eat_token(&Token::Period) {
        name.push('.');
        name.push_str(&part.name_or_string().ok_or_else(|| part.syntax_error())?);
    }
    if !(part.eat_token(&Token::Eq) || part.eat_token(&Token::Assignment)) {
        return Err(part.syntax_error());
    }
    if let Some(user) = name.strip_prefix('@').filter(|n| !n.starts_with('@')) {
        let value = env.eval(&part.expression()?)?.value;
        return Ok(Change::User(user.to_owned(), value.into_user()));
    }
    system(env, &name, scope, part)
}

fn system(
    env: Env<'_>,
    name: &str,
    mut scope: Target,
    part: &mut Tokens<'_>,
) -> Result<Change, SqlError> {
    let mut bare = name;
    if let Some(rest) = name.strip_prefix("@@") {
        bare = rest;
        if let Some((prefix, rest)) = rest.split_once('.') {
            match prefix.to_ascii_lowercase().as_str() {
                "global" | "persist" | "persist_only" => scope = Target::Global,
                "session" | "local" => {}
                _ => return Err(errors::unknown_variable(bare)),
            }
            bare = rest;
        }
    }
    let variable = vars::find(bare, env.server)?;
    let value = system_value(env, variable, part)?;
    if scope == Target::Global {
        // This server's settings come from its configuration.
        return Err(errors::privilege_needed("SUPER or SYSTEM_VARIABLES_ADMIN"));
    }
    Ok(Change::System(variable, value))
}

/// `None` = DEFAULT. A bare word is text: `SET autocommit = ON`, `SET character_set_results = utf8mb4`.
fn system_value(
    env: Env<'_>,
    variable: &Variable,
    part: &mut Tokens<'_>,
) -> Result<Option<String>, SqlError> {
    let expr = part.expression()?;
    if let Expr::Identifier(word) = &expr
        && !word.value.starts_with('@')
    {
        let default = word.quote_style.is_none() && word.value.eq_ignore_ascii_case("DEFAULT");
        return Ok((!default).then(|| word.value.clone()));
    }
    match env.eval(&expr)?.value {
        Value::Null if variable.name == "character_set_results" => Ok(Some(String::new())),
        Value::Null => Err(errors::wrong_value(variable.name, "NULL")),
        value => Ok(value.text()),
    }
}

fn is_charset(part: &Tokens<'_>) -> bool {
    let mut t = part.clone();
    t.eat_all(&["CHARACTER", "SET"]) || (t.eat("CHARSET") && !t.eat_token(&Token::Eq))
}

fn names(part: &mut Tokens<'_>) -> Result<Change, SqlError> {
    let _ = part.eat("NAMES") || part.eat("CHARSET") || part.eat_all(&["CHARACTER", "SET"]);
    if part.eat("DEFAULT") {
        part.expect_end()?;
        return Ok(Change::Names(Charset::by_id(255)));
    }
    let name = part.name_or_string().ok_or_else(|| part.syntax_error())?;
    let mut charset = vars::charset_by_name(&name).ok_or_else(|| errors::unknown_charset(&name))?;
    if part.eat("COLLATE") {
        let collation = part.name_or_string().ok_or_else(|| part.syntax_error())?;
        // A collation this table does not list changes nothing but the name shown.
        if let Some(known) = vars::charset_by_collation(&collation) {
            charset = known;
        }
    }
    part.expect_end()?;
    Ok(Change::Names(charset))
}
