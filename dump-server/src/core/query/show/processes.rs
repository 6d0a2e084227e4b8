//! SHOW PROCESSLIST, WARNINGS, GRANTS.
//!
//! In: tokens. Out: rows.

use sqlparser::tokenizer::Token;

use crate::core::query::eval::Env;
use crate::core::query::tokens::Tokens;
use crate::core::view::ClientStatus;
use crate::wire::errors::{self, SqlError};
use crate::wire::resultset::{Cell, Column, ResultSet, flags, types};

pub(super) fn show(env: Env<'_>, t: &mut Tokens<'_>) -> Result<Option<ResultSet>, SqlError> {
    let full = t.eat_all(&["FULL", "PROCESSLIST"]);
    if full || t.eat("PROCESSLIST") {
        t.expect_end()?;
        return Ok(Some(process_list(env, full)));
    }
    if let Some(variable) = counted(t)? {
        let mut set = ResultSet::new(vec![Column::integer(variable, 21, flags::UNSIGNED)]);
        set.push(vec![Some("0".to_owned())]);
        return Ok(Some(set));
    }
    if t.eat("WARNINGS") || t.eat("ERRORS") {
        limit(t)?;
        return Ok(Some(ResultSet::new(vec![
            Column::text("Level", 7).not_null(),
            Column::integer("Code", 5, flags::NOT_NULL | flags::UNSIGNED).with_type(types::LONG),
            Column::text("Message", 512).not_null(),
        ])));
    }
    if t.eat("GRANTS") {
        if t.eat("FOR") {
            own_account(env, t)?;
        }
        t.expect_end()?;
        return Ok(Some(grants(env)));
    }
    Ok(None)
}

/// COUNT(*) WARNINGS and COUNT(*) ERRORS: the variable MySQL names the column by.
fn counted(t: &mut Tokens<'_>) -> Result<Option<&'static str>, SqlError> {
    if t.peek_word().as_deref() != Some("COUNT") {
        return Ok(None);
    }
    t.eat("COUNT");
    let all = [Token::LParen, Token::Mul, Token::RParen];
    if !all.iter().all(|token| t.eat_token(token)) {
        return Err(t.syntax_error());
    }
    let variable = match () {
        () if t.eat("WARNINGS") => "@@session.warning_count",
        () if t.eat("ERRORS") => "@@session.error_count",
        () => return Err(t.syntax_error()),
    };
    t.expect_end()?;
    Ok(Some(variable))
}

fn limit(t: &mut Tokens<'_>) -> Result<(), SqlError> {
    if t.eat("LIMIT") {
        t.number().ok_or_else(|| t.syntax_error())?;
        if t.eat_token(&Token::Comma) || t.eat("OFFSET") {
            t.number().ok_or_else(|| t.syntax_error())?;
        }
    }
    t.expect_end()
}

/// Refuses an account that is not the session's: nobody may look at others here.
fn own_account(env: Env<'_>, t: &mut Tokens<'_>) -> Result<(), SqlError> {
    if t.eat("CURRENT_USER") {
        if t.eat_token(&Token::LParen) && !t.eat_token(&Token::RParen) {
            return Err(t.syntax_error());
        }
        return Ok(());
    }
    let user = t.name_or_string().ok_or_else(|| t.syntax_error())?;
    let mut host = "%".to_owned();
    if t.eat_token(&Token::AtSign) {
        host = t.name_or_string().ok_or_else(|| t.syntax_error())?;
    } else if let Some(name) = t.peek_word().filter(|w| w.starts_with('@')) {
        t.eat(&name);
        host = name.trim_start_matches('@').to_owned();
    }
    if user == env.session.user && host == "%" {
        return Ok(());
    }
    Err(errors::no_such_grant(&user, &host))
}

/// Characters of a statement that SHOW PROCESSLIST shows without FULL.
const INFO_SHORT: usize = 100;

fn process_list(env: Env<'_>, full: bool) -> ResultSet {
    let mut set = ResultSet::new(vec![
        Column::integer("Id", 22, flags::NOT_NULL),
        Column::text("User", 32).not_null(),
        Column::text("Host", 255).not_null(),
        Column::text("db", 64),
        Column::text("Command", 16).not_null(),
        Column::integer("Time", 8, flags::NOT_NULL).with_type(types::LONG),
        Column::text("State", 30),
        Column::text("Info", if full { 65_535 } else { INFO_SHORT as u32 }),
    ]);
    for mut row in process_rows(env) {
        if let (false, Some(Some(info))) = (full, row.last_mut()) {
            *info = info.chars().take(INFO_SHORT).collect();
        }
        set.push(row);
    }
    set
}

/// The connections this account may see.
pub(in crate::core::query) fn process_rows(env: Env<'_>) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    let sees_all = env.session.privileges.need_client().is_ok();
    for client in env.server.clients() {
        if !sees_all && client.user != env.session.user {
            continue;
        }
        let state = state_of(&client).to_owned();
        rows.push(vec![
            Some(client.id.to_string()),
            Some(client.user),
            Some(client.host),
            client.database,
            Some(client.command),
            Some(client.command_seconds.to_string()),
            Some(state),
            client.statement,
        ]);
    }
    rows
}

/// The manual's words for the states of a dump thread.
fn state_of(client: &ClientStatus) -> &'static str {
    match (client.command.starts_with("Binlog Dump"), client.caught_up) {
        (true, true) => "Source has sent all binlog to replica; waiting for more updates",
        (true, false) => "Sending binlog event to replica",
        (false, _) if client.command == "Query" => "executing",
        (false, _) if client.command == "Connect" => "login",
        (false, _) => "",
    }
}

/// The account's privileges by MySQL's names. ADMIN has no one name there; these are the statements it allows.
pub(in crate::core::query) fn privilege_names(env: Env<'_>) -> Vec<&'static str> {
    let privileges = env.session.privileges;
    let all = [
        (privileges.admin, "RELOAD"),
        (privileges.admin, "SUPER"),
        (privileges.replication_slave, "REPLICATION SLAVE"),
        (privileges.replication_client, "REPLICATION CLIENT"),
    ];
    let held = all.into_iter().filter(|(held, _)| *held);
    held.map(|(_, name)| name).collect()
}

fn grants(env: Env<'_>) -> ResultSet {
    let user = &env.session.user;
    let names = privilege_names(env);
    let list = if names.is_empty() {
        "USAGE".to_owned()
    } else {
        names.join(", ")
    };
    let mut set = ResultSet::new(vec![
        Column::text(format!("Grants for {user}@%"), 1024).not_null(),
    ]);
    set.push(vec![Some(format!("GRANT {list} ON *.* TO `{user}`@`%`"))]);
    set
}
