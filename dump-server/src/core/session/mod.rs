//! One connection as a state machine: Greeting → Auth → Ready → Dumping → Closed.
//!
//! In: whole packets, and the environment (accounts, key, the server's view, a fresh salt). Out: bytes to send, and a
//! [`Step`] that says what the shell must do next. No socket, clock or randomness in here.

mod auth;
mod commands;
pub(crate) mod prepared;
pub(crate) mod state;

use self::auth::{AuthFlow, Verdict};
use self::state::SessionState;
use super::dump::DumpRequest;
use super::query::{AdminRequest, EventsRequest};
use super::view::ServerView;
use crate::account::{Accounts, AuthPlugin};
use crate::rsa_key::RsaKey;
use crate::wire::command::Command;
use crate::wire::errors::{self, SqlError};
use crate::wire::handshake::{ClientHello, Greeting, HandshakeResponse, Salt};
use crate::wire::packet::{Packet, PacketWriter};
use crate::wire::reply::{put_err, put_ok};
use crate::wire::{CapabilityFlags, StatusFlags};
use tributary_flow::limits::CLIENT_SHOWN_STATEMENT_BYTES_MAX;

/// What is known of a connection before its first byte.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionFacts {
    /// Connection id, unique over all connections.
    pub id: u32,
    /// Client's address without its port.
    pub host: String,
    /// What the greeting offers.
    pub offered: CapabilityFlags,
    /// The last salt the client got: first that of the greeting.
    pub salt: Salt,
}

/// How a connection is encrypted, in the words of SHOW STATUS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encryption {
    /// `TLSv1.3`.
    pub version: &'static str,
    /// OpenSSL's name of the cipher suite.
    pub cipher: String,
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
    /// True when rows are of the binary protocol.
    pub binary: bool,
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
    encryption: Option<Encryption>,
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
            encryption: None,
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
            capabilities: self.facts.offered,
            plugin: AuthPlugin::default().name(),
        };
        PacketWriter::new(out, 0).packet(|o| greeting.put(&self.facts.salt, o));
    }

    fn tls_offered(&self) -> bool {
        self.facts.offered.contains(CapabilityFlags::CLIENT_SSL)
    }

    /// TLS was established.
    pub(crate) fn tls_started(&mut self, encryption: Encryption) {
        self.encryption = Some(encryption);
    }

    /// The authenticated session, if it is one.
    pub(crate) fn state(&self) -> Option<&SessionState> {
        match &self.phase {
            Phase::Ready(state) => Some(state),
            _ => None,
        }
    }

    /// True when handling this packet may take long: it is a statement, or it needs the RSA key.
    pub(crate) fn is_slow(&self, packet: &Packet) -> bool {
        match &self.phase {
            Phase::Ready(_) => Command::may_take_long(&packet.payload),
            Phase::Auth(flow) => flow.may_need_key(),
            Phase::Hello | Phase::Closed => false,
        }
    }

    /// The statement that this packet has executed or prepared, as far as lists show it.
    pub(crate) fn statement(&self, packet: &Packet) -> Option<String> {
        let Phase::Ready(state) = &self.phase else {
            return None;
        };
        let shown = packet.payload.len().min(CLIENT_SHOWN_STATEMENT_BYTES_MAX);
        match Command::parse(packet.payload.get(..shown)?, state.capabilities) {
            Ok(Command::Query(sql) | Command::Prepare(sql)) => Some(sql),
            Ok(Command::Execute(execute)) => state.statements.sql(execute.id),
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
            Ok(ClientHello::Tls) if self.tls_offered() && self.encryption.is_none() => {
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
        let salts = (self.facts.salt, env.view.new_salt());
        let (flow, verdict) =
            AuthFlow::start(response, salts, self.encryption.is_some(), env, writer);
        self.judge(Box::new(flow), verdict, writer)
    }

    fn judge(
        &mut self,
        flow: Box<AuthFlow>,
        verdict: Verdict,
        writer: &mut PacketWriter<'_>,
    ) -> Step {
        self.user = Some(flow.user().to_owned());
        self.facts.salt = flow.salt();
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
                let state = SessionState::new(&self.facts, self.encryption.clone(), *flow);
                writer.packet(|o| put_ok(0, state.status(), o));
                self.phase = Phase::Ready(Box::new(state));
                Step::Authenticated
            }
        }
    }

    /// COM_CHANGE_USER: authenticates anew; what the session held is gone whatever comes of it.
    fn change_user(
        &mut self,
        payload: &[u8],
        env: SessionEnv<'_>,
        writer: &mut PacketWriter<'_>,
    ) -> Step {
        let caps = self
            .state()
            .map_or(CapabilityFlags::empty(), |s| s.capabilities);
        self.phase = Phase::Closed;
        match HandshakeResponse::of_change_user(payload, caps) {
            Ok(response) => self.authenticate(response, env, writer),
            Err(_) => self.refuse(&errors::malformed_packet(), writer),
        }
    }
}

/// A message of several packets ends with a sequence number of its own.
fn is_multi_packet(packet: &Packet) -> bool {
    packet.payload.len() >= tributary_flow::limits::PACKET_PAYLOAD_MAX
}

#[cfg(test)]
mod tests;
