//! One connection: bytes between socket and session.
//!
//! In: a TCP stream. Out: the session's replies, TLS when the client asks for it, statements that need files or other
//! connections, and at the end of the conversation maybe a dump. Decides nothing about the protocol.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument as _, debug, info, info_span};
use tributary_flow::limits::{CLIENT_COMMAND_BYTES_MAX, CLIENT_HANDSHAKE_BYTES_MAX};

use crate::core::query::AdminRequest;
use crate::core::query::vars::{NET_READ_TIMEOUT, NET_WRITE_TIMEOUT, WAIT_TIMEOUT};
use crate::core::session::state::SessionState;
use crate::core::session::{ConnectionFacts, Deferred, Reply, Session, Step};
use crate::core::view::{ReplicaRow, ServerView as _};
use crate::counters::bump;
use crate::link::{ConnectionEnd, Link};
use crate::registry::Registered;
use crate::server::Server;
use crate::wire::errors::{self, SqlError};
use crate::wire::handshake;
use crate::wire::packet::{PACKET_HEADER_LEN, Packet, PacketError, PacketWriter};
use crate::wire::reply::{put_err, put_ok};
use crate::{events, tail};

/// Serves one connection to its end.
pub(crate) async fn serve(server: Arc<Server>, stream: TcpStream, peer: SocketAddr) {
    bump(&server.counters.connections);
    // A replica waits for each small packet.
    let _ = stream.set_nodelay(true);
    let client = server.registry.register(peer.to_string());
    let span = info_span!("client", id = client.id, peer = %peer);
    if let Some(id) = server
        .registry
        .limit_handshakes(server.config.max_handshakes)
    {
        debug!(
            id,
            "too many clients that do not authenticate: the oldest goes"
        );
    }
    let facts = ConnectionFacts {
        id: client.id,
        host: peer.ip().to_string(),
        offered: handshake::offered(server.config.tls.is_some(), server.config.compression),
        salt: server.new_salt(),
    };
    let connection = Connection {
        session: Arc::new(Mutex::new(Session::new(facts))),
        link: Link::new(stream),
        client,
        server,
    };
    Box::pin(connection.run()).instrument(span).await;
}

struct Connection {
    server: Arc<Server>,
    client: Registered,
    /// Shared with the blocking thread that executes a statement, never locked in two places.
    session: Arc<Mutex<Session>>,
    link: Link,
}

impl Connection {
    async fn run(mut self) {
        let killed = self.client.killed().clone();
        let deadline = Instant::now() + self.server.config.handshake_timeout;
        let greeted = tokio::select! {
            end = timeout_at(deadline, self.authenticate()) => end.unwrap_or(Err(ConnectionEnd::Silent)),
            () = killed.cancelled() => Err(ConnectionEnd::Killed),
        };
        if let Err(end) = greeted {
            bump(&self.server.counters.connections_aborted);
            debug!(user = self.user(), reason = %end, "no session");
            self.link.close().await;
            return;
        }
        let user = self.user().unwrap_or_default();
        debug!(user, "connected");
        let end = self.commands().await;
        debug!(user, reason = %end, "disconnected");
        self.link.close().await;
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user(&self) -> Option<String> {
        self.session().user().map(str::to_owned)
    }

    /// Greeting to OK.
    async fn authenticate(&mut self) -> Result<(), ConnectionEnd> {
        let mut out = Vec::new();
        self.session().greet(&*self.server, &mut out);
        self.send(&out).await?;
        // The deadline of the whole handshake is the only limit.
        let unlimited = self.server.config.handshake_timeout * 2;
        loop {
            let packet = self
                .packet(CLIENT_HANDSHAKE_BYTES_MAX, unlimited, unlimited, true)
                .await?;
            match self.handle(packet).await? {
                Step::Continue => {}
                Step::StartTls => self.start_tls().await?,
                Step::Authenticated => {
                    self.authenticated();
                    let compression = self.session().state().and_then(|s| s.compression);
                    if let Some(algorithm) = compression {
                        self.link.compress(algorithm);
                    }
                    return Ok(());
                }
                Step::Dump(_) | Step::Deferred(..) | Step::Close => {
                    return Err(ConnectionEnd::Protocol);
                }
            }
        }
    }

    fn authenticated(&self) {
        let session = self.session();
        let state = session.state();
        self.client.authenticated(
            session.user().unwrap_or_default(),
            state.and_then(|s| s.program.clone()),
        );
        self.client.uses(state.and_then(|s| s.database.as_deref()));
    }

    async fn start_tls(&mut self) -> Result<(), ConnectionEnd> {
        let Some(config) = self.server.config.tls.clone() else {
            return Err(ConnectionEnd::Protocol);
        };
        let acceptor = TlsAcceptor::from(config);
        let encryption = self
            .link
            .secure(|stream| async move { acceptor.accept(stream).await })
            .await?;
        self.session().tls_started(encryption);
        Ok(())
    }

    /// Commands until the end.
    async fn commands(&mut self) -> ConnectionEnd {
        let killed = self.client.killed().clone();
        loop {
            let step = tokio::select! {
                biased;
                () = killed.cancelled() => return ConnectionEnd::Killed,
                step = self.command_step() => step,
            };
            let step = match step {
                Ok(step) => step,
                Err(end) => return end,
            };
            let done = match step {
                Step::Dump(request) => return self.dump(&request).await,
                Step::Deferred(deferred, reply) => self.deferred(deferred, reply).await,
                Step::Close => return ConnectionEnd::Protocol,
                // A change of user.
                Step::Authenticated => {
                    self.authenticated();
                    Ok(())
                }
                Step::Continue | Step::StartTls => Ok(()),
            };
            if let Err(end) = done {
                return end;
            }
            self.client.command("Sleep");
        }
    }

    async fn command_step(&mut self) -> Result<Step, ConnectionEnd> {
        let silence = self.session().state().map(SessionState::silence_variable);
        let silence = self.limit(silence.unwrap_or(WAIT_TIMEOUT));
        let stall = self.limit(NET_READ_TIMEOUT);
        let packet = self
            .packet(CLIENT_COMMAND_BYTES_MAX, silence, stall, false)
            .await?;
        let statement = self.session().statement(&packet);
        self.client.executes(statement);
        bump(&self.server.counters.commands);
        let step = self.handle(packet).await?;
        self.now_shown();
        Ok(step)
    }

    /// Brings what the lists show of this connection up to date.
    fn now_shown(&self) {
        let session = self.session();
        let state = session.state();
        self.client.uses(state.and_then(|s| s.database.as_deref()));
        let registered = state.and_then(|state| {
            let replica = state.replica.as_ref()?;
            Some(ReplicaRow {
                server_id: replica.server_id,
                host: replica.host.clone(),
                port: replica.port,
                uuid: state.replica_uuid().unwrap_or_default(),
            })
        });
        self.client.registered(registered);
    }

    /// A timeout variable as the session has it.
    fn limit(&self, variable: &'static str) -> Duration {
        let session = self.session();
        let own = session.state().and_then(|s| s.vars.system(variable));
        match own.and_then(|s| s.parse().ok()) {
            Some(seconds) => Duration::from_secs(u64::clamp(seconds, 1, 31_536_000)),
            None => self.server.timeout(variable),
        }
    }

    /// Reads a packet; tells the client why, if it may not go on.
    async fn packet(
        &mut self,
        cap: usize,
        silence: Duration,
        stall: Duration,
        careful: bool,
    ) -> Result<Packet, ConnectionEnd> {
        let end = match self.link.packet(cap, silence, stall, careful).await {
            Ok(packet) => return Ok(packet),
            Err(end) => end,
        };
        let greeted = self.session().state().is_some();
        let (seq, error) = match &end {
            ConnectionEnd::Packet(PacketError::TooLarge { .. }) if !greeted => {
                (1, errors::bad_handshake())
            }
            ConnectionEnd::Packet(PacketError::TooLarge { .. }) => (1, errors::packet_too_large()),
            ConnectionEnd::Packet(PacketError::OutOfOrder { .. }) => {
                (1, errors::packets_out_of_order())
            }
            ConnectionEnd::Compression(_) => (1, errors::bad_compression()),
            ConnectionEnd::Stalled if greeted => (1, errors::read_timeout()),
            ConnectionEnd::Silent if greeted => (0, errors::inactive()),
            _ => return Err(end),
        };
        self.server.counters.error(error.code);
        let mut out = Vec::new();
        PacketWriter::new(&mut out, seq).packet(|o| put_err(&error, o));
        self.send(&out).await?;
        Err(end)
    }

    /// Handles one packet and sends the reply.
    async fn handle(&mut self, packet: Packet) -> Result<Step, ConnectionEnd> {
        let (server, session) = (self.server.clone(), self.session.clone());
        let slow = self.session().is_slow(&packet);
        let work = move || {
            let mut out = Vec::new();
            let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
            let step = server.with_env(|env| session.handle(packet, env, &mut out));
            (step, out)
        };
        let (step, out) = if slow {
            // It may compute for long, or read the schema from disk.
            tokio::task::spawn_blocking(work)
                .await
                .expect("handling a packet does not panic, and the runtime outlives its tasks")
        } else {
            work()
        };
        if let Some(code) = error_code(&out) {
            self.server.counters.error(code);
            if code == errors::access_denied("", "", true).code {
                info!(user = self.user(), "access denied");
            }
        }
        self.send(&out).await?;
        Ok(step)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionEnd> {
        let limit = self.limit(NET_WRITE_TIMEOUT);
        self.link.send(&self.server.counters, limit, bytes).await
    }

    async fn deferred(&mut self, deferred: Deferred, reply: Reply) -> Result<(), ConnectionEnd> {
        let outcome = match deferred {
            Deferred::Events(request) => {
                let limit = self.limit(NET_WRITE_TIMEOUT);
                let server = self.server.clone();
                return events::stream(&server, &mut self.link, limit, &request, reply).await;
            }
            Deferred::Kill(id) => {
                let killed = self.server.registry.kill(id);
                if killed {
                    Ok(())
                } else {
                    Err(errors::unknown_thread(id.into()))
                }
            }
            Deferred::Admin(request) => self.admin(request).await,
        };
        let mut out = Vec::new();
        PacketWriter::new(&mut out, reply.seq).packet(|o| match &outcome {
            Ok(()) => put_ok(0, reply.status, o),
            Err(error) => put_err(error, o),
        });
        if let Err(error) = outcome {
            self.server.counters.error(error.code);
        }
        self.send(&out).await
    }

    async fn admin(&self, request: AdminRequest) -> Result<(), SqlError> {
        let Some(actions) = self.server.config.admin.clone() else {
            return Err(errors::not_supported(match request {
                AdminRequest::FlushLogs => "FLUSH BINARY LOGS",
                _ => "PURGE BINARY LOGS",
            }));
        };
        info!(user = self.user(), ?request, "log administration");
        let done = tokio::task::spawn_blocking(move || match request {
            AdminRequest::PurgeTo(file) => actions.purge_to(&file),
            AdminRequest::PurgeBefore(seconds) => actions.purge_before(seconds),
            AdminRequest::FlushLogs => actions.flush_logs(),
        })
        .await;
        done.unwrap_or_else(|e| Err(e.to_string()))
            .map_err(errors::other)
    }

    async fn dump(&mut self, request: &crate::core::dump::DumpRequest) -> ConnectionEnd {
        let by_gtid = request.command.gtids.is_some();
        self.client.command(if by_gtid {
            "Binlog Dump GTID"
        } else {
            "Binlog Dump"
        });
        let limit = self.limit(NET_WRITE_TIMEOUT);
        let Some(halves) = self.link.split() else {
            return ConnectionEnd::Protocol;
        };
        tail::dump(&self.server, &self.client, halves, request, limit).await
    }
}

/// Error number of a reply that ends with an ERR packet.
fn error_code(out: &[u8]) -> Option<u16> {
    let mut rest = out;
    let mut code = None;
    while let Some((&[a, b, c, _], tail)) = rest.split_first_chunk::<PACKET_HEADER_LEN>() {
        let len = u32::from_le_bytes([a, b, c, 0]) as usize;
        let (payload, next) = tail.split_at_checked(len)?;
        code = match payload {
            [0xff, low, high, ..] => Some(u16::from_le_bytes([*low, *high])),
            _ => None,
        };
        rest = next;
    }
    code
}
