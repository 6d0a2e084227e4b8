//! Commands of an authenticated client.
//!
//! In: a command's payload. Out: its reply, or a step for the shell. Statements go to `core::query`, prepared ones by way
//! of `prepared`.

use super::prepared::Statements;
use super::state::SessionState;
use super::{Deferred, Phase, Reply, Session, SessionEnv, Step};
use crate::core::dump::{DumpOptions, DumpRequest};
use crate::core::query::tokens::Tokens;
use crate::core::query::{self, Answer};
use crate::core::view::ServerView;
use crate::wire::command::{Command, CommandError, DumpCommand, Execute};
use crate::wire::errors::{self, SqlError};
use crate::wire::packet::PacketWriter;
use crate::wire::reply::{put_err, put_ok, put_result_end};
use crate::wire::{CapabilityFlags, StatusFlags};

impl Session {
    /// Handles one command.
    pub(super) fn command(
        &mut self,
        payload: &[u8],
        env: SessionEnv<'_>,
        writer: &mut PacketWriter<'_>,
    ) -> Step {
        let Phase::Ready(state) = &mut self.phase else {
            return Step::Close;
        };
        match Command::parse(payload, state.capabilities) {
            Ok(Command::Quit) => {
                self.phase = Phase::Closed;
                Step::Close
            }
            Ok(Command::ChangeUser(payload)) => self.change_user(&payload, env, writer),
            Ok(command) => execute(state, command, env, writer),
            // MySQL keeps the connection after a malformed command, and closes it after a malformed GTID set.
            Err(CommandError::Malformed) => fail(&errors::malformed_packet(), writer),
            Err(CommandError::GtidSet) => {
                self.phase = Phase::Closed;
                writer.packet(|o| put_err(&errors::malformed_gtid_encoding(), o));
                Step::Close
            }
        }
    }
}

fn execute(
    state: &mut SessionState,
    command: Command,
    env: SessionEnv<'_>,
    writer: &mut PacketWriter<'_>,
) -> Step {
    match command {
        Command::Query(sql) => return query_step(state, &sql, env, writer),
        Command::Dump(dump) => return dump_step(state, dump, env.view, writer),
        Command::ProcessKill(id) => {
            return match query::may_kill(state, env.view, id.into()) {
                Ok(id) => Step::Deferred(Deferred::Kill(id), reply(state, writer)),
                Err(error) => fail(&error, writer),
            };
        }
        Command::InitDb(database) => {
            if let Err(error) = query::use_database(state, env.view, database) {
                return fail(&error, writer);
            }
        }
        Command::ResetConnection => state.reset(),
        Command::Ping => {}
        Command::SetOption { multi_statements } => {
            let multi = CapabilityFlags::CLIENT_MULTI_STATEMENTS;
            state.capabilities.set(multi, multi_statements);
            return end(state, writer);
        }
        Command::Debug => {
            if let Err(error) = state.privileges.need_admin("SUPER") {
                return fail(&error, writer);
            }
            return end(state, writer);
        }
        Command::Statistics => {
            let text = statistics(env.view);
            writer.packet(|o| o.extend_from_slice(text.as_bytes()));
            return Step::Continue;
        }
        Command::RegisterReplica(replica) => {
            if let Err(error) = state.privileges.need_slave() {
                return fail(&error, writer);
            }
            state.replica = Some(replica);
        }
        Command::Prepare(_)
        | Command::Execute(_)
        | Command::LongData { .. }
        | Command::CloseStatement(_)
        | Command::ResetStatement(_)
        | Command::Fetch { .. } => return prepared_step(state, command, env, writer),
        Command::Quit | Command::ChangeUser(_) | Command::Unknown(_) => {
            return fail(&errors::unknown_command(), writer);
        }
    }
    writer.packet(|o| put_ok(0, state.status(), o));
    Step::Continue
}

/// The end of a result without rows.
fn end(state: &SessionState, writer: &mut PacketWriter<'_>) -> Step {
    writer.packet(|o| put_result_end(state.capabilities, state.status(), o));
    Step::Continue
}

fn fail(error: &SqlError, writer: &mut PacketWriter<'_>) -> Step {
    writer.packet(|o| put_err(error, o));
    Step::Continue
}

fn reply(state: &SessionState, writer: &PacketWriter<'_>) -> Reply {
    Reply {
        seq: writer.seq(),
        capabilities: state.capabilities,
        status: state.status(),
        binary: false,
    }
}

fn dump_step(
    state: &SessionState,
    dump: DumpCommand,
    view: &dyn ServerView,
    writer: &mut PacketWriter<'_>,
) -> Step {
    if let Err(error) = state.privileges.need_slave() {
        return fail(&error, writer);
    }
    Step::Dump(Box::new(DumpRequest {
        command: dump,
        options: DumpOptions::of(state, view.semi_sync()),
    }))
}

fn query_step(
    state: &mut SessionState,
    sql: &str,
    env: SessionEnv<'_>,
    writer: &mut PacketWriter<'_>,
) -> Step {
    let statements = match Tokens::statements(sql) {
        Ok(statements) => statements,
        Err(error) => return fail(&error, writer),
    };
    let multi = state
        .capabilities
        .contains(CapabilityFlags::CLIENT_MULTI_STATEMENTS);
    match statements.as_slice() {
        [] => return fail(&errors::empty_query(), writer),
        [_, second, ..] if !multi => return fail(&second.syntax_error(), writer),
        _ => {}
    }
    let last = statements.len() - 1;
    for (i, statement) in statements.iter().enumerate() {
        let answer = match query::execute(statement, state, env.view) {
            Ok(answer) => answer,
            Err(error) => return fail(&error, writer),
        };
        let mut status = state.status();
        status.set(StatusFlags::SERVER_MORE_RESULTS_EXISTS, i < last);
        match answer {
            Answer::Ok => writer.packet(|o| put_ok(0, status, o)),
            Answer::Rows(rows) => {
                rows.put(state.capabilities, state.vars.results(), status, writer);
            }
            other if i < last => {
                drop(other);
                let error = errors::not_supported("this statement before another in one query");
                return fail(&error, writer);
            }
            other => return defer(other, reply(state, writer)),
        }
    }
    Step::Continue
}

/// The step for an answer the shell must give.
fn defer(answer: Answer, reply: Reply) -> Step {
    let deferred = match answer {
        Answer::Events(request) => Deferred::Events(request),
        Answer::Kill(id) => Deferred::Kill(id),
        Answer::Admin(request) => Deferred::Admin(request),
        Answer::Ok | Answer::Rows(_) => return Step::Continue,
    };
    Step::Deferred(deferred, reply)
}

fn prepared_step(
    state: &mut SessionState,
    command: Command,
    env: SessionEnv<'_>,
    writer: &mut PacketWriter<'_>,
) -> Step {
    match command {
        Command::Prepare(sql) => match Statements::prepare(state, sql, env.view) {
            Ok(prepared) => prepared.put(state, writer),
            Err(error) => return fail(&error, writer),
        },
        Command::Execute(execute) => return execute_step(state, &execute, env, writer),
        Command::Fetch { id, rows } => {
            let (caps, status) = (state.capabilities, state.status());
            if let Err(error) = state.statements.fetch(id, rows, caps, status, writer) {
                return fail(&error, writer);
            }
        }
        Command::LongData {
            id,
            parameter,
            data,
        } => state.statements.long_data(id, parameter, &data),
        Command::CloseStatement(id) => state.statements.close(id),
        Command::ResetStatement(id) => {
            if let Err(error) = state.statements.reset(id) {
                return fail(&error, writer);
            }
            writer.packet(|o| put_ok(0, state.status(), o));
        }
        _ => return fail(&errors::unknown_command(), writer),
    }
    Step::Continue
}

fn execute_step(
    state: &mut SessionState,
    execute: &Execute,
    env: SessionEnv<'_>,
    writer: &mut PacketWriter<'_>,
) -> Step {
    let answer = match Statements::execute(state, execute, env.view) {
        Ok(answer) => answer,
        Err(error) => return fail(&error, writer),
    };
    match answer {
        Answer::Ok => writer.packet(|o| put_ok(0, state.status(), o)),
        Answer::Rows(rows) => {
            let (caps, charset) = (state.capabilities, state.vars.results());
            if execute.wants_cursor() {
                let mut status = state.status();
                status |= StatusFlags::SERVER_STATUS_CURSOR_EXISTS;
                rows.put_columns(charset, writer);
                writer.packet(|o| put_result_end(caps, status, o));
                state.statements.open_cursor(execute.id, rows);
            } else {
                rows.put_binary(caps, charset, state.status(), writer);
            }
        }
        other => {
            let reply = Reply {
                binary: true,
                ..reply(state, writer)
            };
            return defer(other, reply);
        }
    }
    Step::Continue
}

fn statistics(view: &dyn ServerView) -> String {
    let status = view.status();
    let value = |name: &str| {
        status
            .iter()
            .find(|(n, _)| *n == name)
            .map_or("0", |(_, value)| value.as_str())
    };
    let per_second = {
        let number = |name| value(name).parse::<f64>().unwrap_or(0.0);
        number("Questions") / number("Uptime").max(1.0)
    };
    format!(
        "Uptime: {}  Threads: {}  Questions: {}  Slow queries: 0  Opens: 0  Flush tables: 0  Open tables: 0  \
         Queries per second avg: {per_second:.3}",
        value("Uptime"),
        value("Threads_connected"),
        value("Questions"),
    )
}
