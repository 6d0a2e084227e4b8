//! SHOW statements about the binlog: its files, its end, its events, its replicas.
//!
//! In: tokens. Out: rows, or a request to read one file's events.

use sqlparser::tokenizer::Token;

use crate::core::query::Answer;
use crate::core::query::eval::Env;
use crate::core::query::tokens::Tokens;
use crate::wire::errors::{self, SqlError};
use crate::wire::resultset::{Column, ResultSet, flags, types};

/// Which events SHOW BINLOG EVENTS asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventsRequest {
    /// File; `None` = the first one.
    pub file: Option<String>,
    /// Events that start before this position are left out.
    pub from: u64,
    /// Events to skip then.
    pub offset: u64,
    /// Most events to list.
    pub limit: u64,
}

pub(super) fn show(env: Env<'_>, t: &mut Tokens<'_>) -> Result<Option<Answer>, SqlError> {
    let privileges = env.session.privileges;
    if t.eat_all(&["BINARY", "LOG", "STATUS"]) || t.eat_all(&["MASTER", "STATUS"]) {
        t.expect_end()?;
        privileges.need_client()?;
        return Ok(Some(Answer::Rows(log_status(env))));
    }
    if t.eat_all(&["BINARY", "LOGS"]) || t.eat_all(&["MASTER", "LOGS"]) {
        t.expect_end()?;
        privileges.need_client()?;
        return Ok(Some(Answer::Rows(log_list(env))));
    }
    if t.eat_all(&["BINLOG", "EVENTS"]) {
        let request = events_request(t)?;
        privileges.need_slave()?;
        return Ok(Some(Answer::Events(request)));
    }
    if t.eat_all(&["RELAYLOG", "EVENTS"]) {
        privileges.need_slave()?;
        // This server has no relay log.
        return Ok(Some(Answer::Rows(ResultSet::new(event_columns()))));
    }
    if t.eat("REPLICAS") {
        t.expect_end()?;
        privileges.need_slave()?;
        return Ok(Some(Answer::Rows(replicas(
            env,
            ["Server_Id", "Source_Id", "Replica_UUID"],
        ))));
    }
    if t.eat_all(&["SLAVE", "HOSTS"]) {
        t.expect_end()?;
        privileges.need_slave()?;
        return Ok(Some(Answer::Rows(replicas(
            env,
            ["Server_id", "Master_id", "Slave_UUID"],
        ))));
    }
    if t.eat_all(&["REPLICA", "STATUS"]) || t.eat_all(&["SLAVE", "STATUS"]) {
        privileges.need_client()?;
        // This server replicates from nobody that a client could name.
        let columns = vec![
            Column::text("Replica_IO_State", 64),
            Column::text("Source_Host", 64),
        ];
        return Ok(Some(Answer::Rows(ResultSet::new(columns))));
    }
    Ok(None)
}

fn log_status(env: Env<'_>) -> ResultSet {
    let mut set = ResultSet::new(vec![
        Column::text("File", 512).not_null(),
        Column::integer("Position", 21, flags::NOT_NULL | flags::UNSIGNED),
        Column::text("Binlog_Do_DB", 255).not_null(),
        Column::text("Binlog_Ignore_DB", 255).not_null(),
        Column::text("Executed_Gtid_Set", 41).not_null(),
    ]);
    if let Some(last) = env.server.files().pop() {
        set.push(vec![
            Some(last.name),
            Some(last.size.to_string()),
            Some(String::new()),
            Some(String::new()),
            Some(env.server.gtid_executed().to_string()),
        ]);
    }
    set
}

fn log_list(env: Env<'_>) -> ResultSet {
    let mut set = ResultSet::new(vec![
        Column::text("Log_name", 255).not_null(),
        Column::integer("File_size", 21, flags::NOT_NULL | flags::UNSIGNED),
        Column::text("Encrypted", 3).not_null(),
    ]);
    for file in env.server.files() {
        set.push(vec![
            Some(file.name),
            Some(file.size.to_string()),
            Some("No".to_owned()),
        ]);
    }
    set
}

/// Columns of SHOW BINLOG EVENTS.
pub(crate) fn event_columns() -> Vec<Column> {
    let number = |name, length| Column::integer(name, length, flags::NOT_NULL | flags::UNSIGNED);
    vec![
        Column::text("Log_name", 20).not_null(),
        number("Pos", 12),
        Column::text("Event_type", 20).not_null(),
        number("Server_id", 11).with_type(types::LONG),
        number("End_log_pos", 12),
        Column::text("Info", 20).not_null(),
    ]
}

fn events_request(t: &mut Tokens<'_>) -> Result<EventsRequest, SqlError> {
    let mut request = EventsRequest {
        file: None,
        from: 4,
        offset: 0,
        limit: u64::MAX,
    };
    if t.eat("IN") {
        request.file = Some(t.string().ok_or_else(|| t.syntax_error())?);
    }
    if t.eat("FROM") {
        request.from = t.number().ok_or_else(|| t.syntax_error())?;
    }
    if t.eat("LIMIT") {
        request.limit = t.number().ok_or_else(|| t.syntax_error())?;
        if t.eat_token(&Token::Comma) {
            request.offset = request.limit;
            request.limit = t.number().ok_or_else(|| t.syntax_error())?;
        } else if t.eat("OFFSET") {
            request.offset = t.number().ok_or_else(|| t.syntax_error())?;
        }
    }
    t.expect_end()?;
    if request.file.as_deref() == Some("") {
        return Err(errors::show_binlog_events("Could not find target log"));
    }
    Ok(request)
}

fn replicas(env: Env<'_>, names: [&'static str; 3]) -> ResultSet {
    let [server_id, source_id, uuid] = names;
    let number = |name, length| {
        Column::integer(name, length, flags::NOT_NULL | flags::UNSIGNED).with_type(types::LONG)
    };
    let mut port = number("Port", 8);
    port.flags &= !flags::UNSIGNED;
    let mut set = ResultSet::new(vec![
        number(server_id, 11),
        Column::text("Host", 255).not_null(),
        port,
        number(source_id, 11),
        Column::text(uuid, 36).not_null(),
    ]);
    for replica in env.server.replicas() {
        set.push(vec![
            Some(replica.server_id.to_string()),
            Some(replica.host),
            Some(replica.port.to_string()),
            Some(env.server.server_id().to_string()),
            Some(replica.uuid),
        ]);
    }
    set
}
