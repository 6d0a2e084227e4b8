//! SHOW PROCESSLIST, WARNINGS, GRANTS.
//!
//! In: tokens. Out: rows.

use crate::account::Privileges;
use crate::core::query::eval::Env;
use crate::core::query::tokens::Tokens;
use crate::core::view::ClientStatus;
use crate::wire::errors::SqlError;
use crate::wire::resultset::{Column, ResultSet, flags, types};

pub(super) fn show(env: Env<'_>, t: &mut Tokens<'_>) -> Result<Option<ResultSet>, SqlError> {
    if t.eat_all(&["FULL", "PROCESSLIST"]) || t.eat("PROCESSLIST") {
        t.expect_end()?;
        return Ok(Some(process_list(env)));
    }
    if t.eat("WARNINGS") || t.eat("ERRORS") {
        return Ok(Some(ResultSet::new(vec![
            Column::text("Level", 7).not_null(),
            Column::integer("Code", 5, flags::NOT_NULL | flags::UNSIGNED).with_type(types::LONG),
            Column::text("Message", 512).not_null(),
        ])));
    }
    if t.eat("GRANTS") {
        return Ok(Some(grants(env)));
    }
    Ok(None)
}

fn process_list(env: Env<'_>) -> ResultSet {
    let mut set = ResultSet::new(vec![
        Column::integer("Id", 22, flags::NOT_NULL),
        Column::text("User", 32).not_null(),
        Column::text("Host", 255).not_null(),
        Column::text("db", 64),
        Column::text("Command", 16).not_null(),
        Column::integer("Time", 8, flags::NOT_NULL).with_type(types::LONG),
        Column::text("State", 30),
        Column::text("Info", 100),
    ]);
    let sees_all = env.session.privileges.need_client().is_ok();
    for client in env.server.clients() {
        if !sees_all && client.user != env.session.user {
            continue;
        }
        let state = state_of(&client).to_owned();
        set.push(vec![
            Some(client.id.to_string()),
            Some(client.user),
            Some(client.host),
            None,
            Some(client.command),
            Some(client.command_seconds.to_string()),
            Some(state),
            None,
        ]);
    }
    set
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

fn grants(env: Env<'_>) -> ResultSet {
    let user = &env.session.user;
    let Privileges {
        replication_slave,
        replication_client,
        admin,
    } = env.session.privileges;
    let mut names = Vec::new();
    // ADMIN has no one name in MySQL; these are the statements it allows.
    if admin {
        names.push("RELOAD, SUPER");
    }
    if replication_slave {
        names.push("REPLICATION SLAVE");
    }
    if replication_client {
        names.push("REPLICATION CLIENT");
    }
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
