//! One connection as a state machine: Greeting → Auth → Ready → Dumping → Closed.
//!
//! In: whole packets, and the environment (accounts, key, the server's view, a fresh salt). Out: bytes to send, and a
//! [`Step`] that says what the shell must do next. No socket, clock or randomness in here.

mod auth;
pub(crate) mod state;

use self::auth::{AuthFlow, Verdict};
use self::state::SessionState;
use super::dump::{DumpOptions, DumpRequest};
use super::query::tokens::Tokens;
use super::query::vars::{Charset, SessionVars};
use super::query::{self, AdminRequest, Answer, EventsRequest};
use super::view::ServerView;
use crate::account::{Accounts, AuthPlugin};
use crate::rsa_key::RsaKey;
use crate::wire::command::{Command, CommandError};
use crate::wire::errors::{self, SqlError};
use crate::wire::handshake::{self, ClientHello, Greeting, HandshakeResponse, Salt};
use crate::wire::packet::{Packet, PacketWriter};
use crate::wire::reply::{put_eof, put_err, put_ok};
use crate::wire::{CapabilityFlags, StatusFlags};

/// What is known of a connection before its first byte.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionFacts {
    /// Connection id, unique over all connections.
    pub id: u32,
    /// Client's address without its port.
    pub host: String,
    /// True when CLIENT_SSL is offered.
    pub tls_offered: bool,
    /// Salt of the greeting.
    pub salt: Salt,
    /// Salt for an AuthSwitch.
    pub switch_salt: Salt,
}

/// What the session may look at while it handles a packet.
#[derive(Clone, Copy)]
pub(crate) struct SessionEnv<'a> {
    /// Accounts as they are now.
    pub accounts: &'a Accounts,
    /// Key for full authentication without TLS.
    pub rsa_key: &'a RsaKey,
    /// The server's state.
    pub view: &'a dyn ServerView,
}

/// What the shell must do after a packet; the bytes to send come first.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Read on.
    Continue,
    /// Start TLS; the client's answer comes again inside.
    StartTls,
    /// The user is authenticated.
    Authenticated,
    /// Stream the binlog.
    Dump(Box<DumpRequest>),
    /// Do something and answer with the next sequence number.
    Deferred(Deferred, Reply),
    /// Close the connection.
    Close,
}

/// Statements that need the shell.
#[derive(Debug, PartialEq)]
pub(crate) enum Deferred {
    /// SHOW BINLOG EVENTS.
    Events(EventsRequest),
    /// KILL.
    Kill(u32),
    /// PURGE or FLUSH.
    Admin(AdminRequest),
}

/// How to answer a deferred statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Sequence number of the first packet.
    pub seq: u8,
    /// Negotiated capabilities.
    pub capabilities: CapabilityFlags,
    /// Status flags.
    pub status: StatusFlags,
}

enum Phase {
    Hello,
    Auth(Box<AuthFlow>),
    Ready(Box<SessionState>),
    Closed,
}

/// One connection's protocol state.
pub(crate) struct Session {
    facts: ConnectionFacts,
    tls_version: Option<String>,
    phase: Phase,
    expected_seq: u8,
    /// The user who tried to authenticate, kept when it failed.
    user: Option<String>,
}

impl Session {
    /// A session that has not greeted yet.
    pub(crate) fn new(facts: ConnectionFacts) -> Self {
        Self {
            facts,
            tls_version: None,
            phase: Phase::Hello,
            expected_seq: 1,
            user: None,
        }
    }

    /// Appends the greeting.
    pub(crate) fn greet(&self, view: &dyn ServerView, out: &mut Vec<u8>) {
        let greeting = Greeting {
            version: view.version(),
            connection_id: self.facts.id,
            capabilities: handshake::offered(self.facts.tls_offered),
            plugin: AuthPlugin::default().name(),
        };
        PacketWriter::new(out, 0).packet(|o| greeting.put(&self.facts.salt, o));
    }

    /// TLS was established.
    pub(crate) fn tls_started(&mut self, version: impl Into<String>) {
        self.tls_version = Some(version.into());
    }

    /// The authenticated session, if it is one.
    pub(crate) fn state(&self) -> Option<&SessionState> {
        match &self.phase {
            Phase::Ready(state) => Some(state),
            _ => None,
        }
    }

    /// The user who authenticated, or tried to.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Handles one packet: appends the reply to `out` and says what is next.
    pub(crate) fn handle(
        &mut self,
        packet: Packet,
        env: SessionEnv<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let ready = matches!(self.phase, Phase::Ready(_));
        let expected = if ready { 0 } else { self.expected_seq };
        let mut writer = PacketWriter::new(out, packet.seq.wrapping_add(1));
        if packet.seq != expected && !is_multi_packet(&packet) {
            let mut writer = PacketWriter::new(out, 1);
            return self.refuse(&errors::packets_out_of_order(), &mut writer);
        }
        let step = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Hello => self.hello(&packet.payload, env, &mut writer),
            Phase::Auth(mut flow) => {
                let verdict = flow.answer(&packet.payload, env, &mut writer);
                self.judge(flow, verdict, &mut writer)
            }
            Phase::Ready(state) => {
                self.phase = Phase::Ready(state);
                self.command(&packet.payload, env, &mut writer)
            }
            Phase::Closed => Step::Close,
        };
        self.expected_seq = writer.seq();
        if step == Step::StartTls {
            self.expected_seq = packet.seq.wrapping_add(1);
        }
        step
    }

    fn refuse(&mut self, error: &SqlError, writer: &mut PacketWriter<'_>) -> Step {
        writer.packet(|o| put_err(error, o));
        self.phase = Phase::Closed;
        Step::Close
    }

    fn hello(
        &mut self,
        payload: &[u8],
        env: SessionEnv<'_>,
        writer: &mut PacketWriter<'_>,
    ) -> Step {
        match ClientHello::parse(payload) {
            Ok(ClientHello::Tls) if self.facts.tls_offered && self.tls_version.is_none() => {
                self.phase = Phase::Hello;
                Step::StartTls
            }
            Ok(ClientHello::Response(response)) => self.authenticate(response, env, writer),
            Ok(ClientHello::Tls) | Err(_) => self.refuse(&errors::bad_handshake(), writer),
        }
    }

    fn authenticate(
        &mut self,
        response: HandshakeResponse,
        env: SessionEnv<'_>,
        writer: &mut PacketWriter<'_>,
    ) -> Step {
        let salts = (self.facts.salt, self.facts.switch_salt);
        let (flow, verdict) =
            AuthFlow::start(response, salts, self.tls_version.is_some(), env, writer);
        self.judge(Box::new(flow), verdict, writer)
    }

    fn judge(
        &mut self,
        flow: Box<AuthFlow>,
        verdict: Verdict,
        writer: &mut PacketWriter<'_>,
    ) -> Step {
        self.user = Some(flow.user().to_owned());
        match verdict {
            Verdict::More => {
                self.phase = Phase::Auth(flow);
                Step::Continue
            }
            Verdict::Denied { with_password } => {
                let error = errors::access_denied(flow.user(), &self.facts.host, with_password);
                writer.packet(|o| put_err(&error, o));
                Step::Close
            }
            Verdict::Accepted => {
                let state = self.session_state(*flow);
                writer.packet(|o| put_ok(0, state.status(), o));
                self.phase = Phase::Ready(Box::new(state));
                Step::Authenticated
            }
        }
    }

    fn session_state(&self, flow: AuthFlow) -> SessionState {
        let (response, account) = flow.into_parts();
        let charset = Charset::by_id(response.collation.into());
        SessionState {
            connection_id: self.facts.id,
            user: account.user,
            host: self.facts.host.clone(),
            database: response.database,
            privileges: account.privileges,
            vars: SessionVars::new(charset),
            replica: None,
            program: response.program,
            tls_version: self.tls_version.clone(),
            capabilities: response.capabilities & handshake::offered(true),
            charset,
        }
    }

    fn command(
        &mut self,
        payload: &[u8],
        env: SessionEnv<'_>,
        writer: &mut PacketWriter<'_>,
    ) -> Step {
        let Phase::Ready(state) = &mut self.phase else {
            return Step::Close;
        };
        let status = state.status();
        let command = match Command::parse(payload, state.capabilities) {
            Ok(command) => command,
            Err(error) => return self.malformed(error, writer),
        };
        match command {
            Command::Quit => {
                self.phase = Phase::Closed;
                return Step::Close;
            }
            Command::Query(sql) => return query_step(state, &sql, env, writer),
            Command::Dump(dump) => return dump_step(state, dump, writer),
            Command::ProcessKill(id) => {
                return match query::may_kill(state, env.view, id.into()) {
                    Ok(id) => Step::Deferred(Deferred::Kill(id), reply(state, writer)),
                    Err(error) => fail(&error, writer),
                };
            }
            Command::InitDb(database) => state.database = Some(database),
            Command::ResetConnection => state.reset(),
            Command::Ping => {}
            Command::SetOption { multi_statements } => {
                state
                    .capabilities
                    .set(CapabilityFlags::CLIENT_MULTI_STATEMENTS, multi_statements);
                writer.packet(|o| put_eof(status, o));
                return Step::Continue;
            }
            Command::Debug => {
                writer.packet(|o| put_eof(status, o));
                return Step::Continue;
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
            Command::Unknown(_) => return fail(&errors::unknown_command(), writer),
        }
        writer.packet(|o| put_ok(0, status, o));
        Step::Continue
    }

    /// MySQL keeps the connection after a malformed command, and closes it after a malformed GTID set.
    fn malformed(&mut self, error: CommandError, writer: &mut PacketWriter<'_>) -> Step {
        match error {
            CommandError::Malformed => fail(&errors::malformed_packet(), writer),
            CommandError::GtidSet => {
                self.phase = Phase::Closed;
                writer.packet(|o| put_err(&errors::malformed_gtid_encoding(), o));
                Step::Close
            }
        }
    }
}

/// A message of several packets ends with a sequence number of its own.
fn is_multi_packet(packet: &Packet) -> bool {
    packet.payload.len() >= tributary_flow::limits::PACKET_PAYLOAD_MAX
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
    }
}

fn dump_step(
    state: &SessionState,
    dump: crate::wire::command::DumpCommand,
    writer: &mut PacketWriter<'_>,
) -> Step {
    if let Err(error) = state.privileges.need_slave() {
        return fail(&error, writer);
    }
    Step::Dump(Box::new(DumpRequest {
        command: dump,
        options: DumpOptions::of(state),
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
        let deferred = match answer {
            Answer::Ok => {
                writer.packet(|o| put_ok(0, status, o));
                continue;
            }
            Answer::Rows(rows) => {
                rows.put(state.capabilities, state.vars.results(), status, writer);
                continue;
            }
            Answer::Events(request) => Deferred::Events(request),
            Answer::Kill(id) => Deferred::Kill(id),
            Answer::Admin(request) => Deferred::Admin(request),
        };
        if i < last {
            let error = errors::not_supported("this statement before another in one query");
            return fail(&error, writer);
        }
        return Step::Deferred(deferred, reply(state, writer));
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
    format!(
        "Uptime: {}  Threads: {}  Questions: {}  Slow queries: 0  Opens: 0  Flush tables: 0  Open tables: 0  \
         Queries per second avg: 0.000",
        value("Uptime"),
        value("Threads_connected"),
        value("Questions"),
    )
}

#[cfg(test)]
mod tests;
