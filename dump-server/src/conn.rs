//! One connection: bytes between socket and session.
//!
//! In: a TCP stream. Out: the session's replies, TLS when the client asks for it, statements that need files or other
//! connections, and at the end of the conversation maybe a dump. Decides nothing about the protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tracing::{Instrument as _, debug, info, info_span};
use tributary_flow::limits::{CLIENT_COMMAND_BYTES_MAX, CLIENT_HANDSHAKE_BYTES_MAX};

use crate::core::query::AdminRequest;
use crate::core::session::{ConnectionFacts, Deferred, Reply, Session, Step};
use crate::core::view::ReplicaRow;
use crate::counters::{add, bump};
use crate::registry::Registered;
use crate::server::{Server, random};
use crate::wire::errors::{self, SqlError};
use crate::wire::handshake::Salt;
use crate::wire::packet::{PACKET_HEADER_LEN, PacketDecoder, PacketError, PacketWriter};
use crate::wire::reply::{put_err, put_ok};
use crate::{events, tail};

/// A connection's bytes, in clear or over TLS.
pub(crate) type Socket = Either<TcpStream, Box<TlsStream<TcpStream>>>;

const READ_BYTES: usize = 8 << 10;

/// Time a closing connection gets to say so.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a connection ended; most are normal life.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionEnd {
    #[error("closed by the client")]
    Closed,
    #[error("ended by the protocol")]
    Protocol,
    #[error("killed")]
    Killed,
    #[error("the client was silent too long")]
    Silent,
    #[error("the client does not read")]
    Stuck,
    #[error("TLS failed: {0}")]
    Tls(std::io::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Serves one connection to its end.
pub(crate) async fn serve(server: Arc<Server>, stream: TcpStream, peer: SocketAddr) {
    bump(&server.counters.connections);
    // A replica waits for each small packet.
    let _ = stream.set_nodelay(true);
    let client = server.registry.register(peer.to_string());
    let span = info_span!("client", id = client.id, peer = %peer);
    let facts = ConnectionFacts {
        id: client.id,
        host: peer.ip().to_string(),
        tls_offered: server.config.tls.is_some(),
        salt: Salt::from_random(random()),
        switch_salt: Salt::from_random(random()),
    };
    let connection = Connection {
        session: Session::new(facts),
        decoder: PacketDecoder::default(),
        landing: vec![0; READ_BYTES].into_boxed_slice(),
        socket: Some(Either::Left(stream)),
        client,
        server,
    };
    Box::pin(connection.run()).instrument(span).await;
}

struct Connection {
    server: Arc<Server>,
    client: Registered,
    session: Session,
    decoder: PacketDecoder,
    /// Where bytes from the socket land.
    landing: Box<[u8]>,
    /// Absent only while TLS takes it over.
    socket: Option<Socket>,
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
            debug!(user = self.session.user(), reason = %end, "no session");
            self.close().await;
            return;
        }
        let user = self.session.user().unwrap_or_default().to_owned();
        debug!(user, "connected");
        let end = self.commands().await;
        debug!(user, reason = %end, "disconnected");
        self.close().await;
    }

    async fn close(&mut self) {
        if let Some(socket) = &mut self.socket {
            // The client may be gone, or not read.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, socket.shutdown()).await;
        }
    }

    /// Greeting to OK.
    async fn authenticate(&mut self) -> Result<(), ConnectionEnd> {
        let mut out = Vec::new();
        self.session.greet(&*self.server, &mut out);
        self.send(&out).await?;
        loop {
            match self.step(CLIENT_HANDSHAKE_BYTES_MAX).await? {
                Step::Continue => {}
                Step::StartTls => self.start_tls().await?,
                Step::Authenticated => {
                    let program = self.session.state().and_then(|s| s.program.clone());
                    let user = self.session.user().unwrap_or_default();
                    self.client.authenticated(user, program);
                    return Ok(());
                }
                Step::Dump(_) | Step::Deferred(..) | Step::Close => {
                    return Err(ConnectionEnd::Protocol);
                }
            }
        }
    }

    async fn start_tls(&mut self) -> Result<(), ConnectionEnd> {
        let Some(config) = self.server.config.tls.clone() else {
            return Err(ConnectionEnd::Protocol);
        };
        // Bytes that came before TLS must not count as if they came inside.
        if self.decoder.has_pending() {
            return Err(ConnectionEnd::Protocol);
        }
        let Some(Either::Left(stream)) = self.socket.take() else {
            return Err(ConnectionEnd::Protocol);
        };
        let secured = TlsAcceptor::from(config)
            .accept(stream)
            .await
            .map_err(ConnectionEnd::Tls)?;
        let version = secured.get_ref().1.protocol_version();
        self.session.tls_started(match version {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        });
        self.socket = Some(Either::Right(Box::new(secured)));
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
                Step::Continue | Step::StartTls | Step::Authenticated => Ok(()),
            };
            if let Err(end) = done {
                return end;
            }
            self.client.command("Sleep");
        }
    }

    async fn command_step(&mut self) -> Result<Step, ConnectionEnd> {
        let silence = self.seconds("wait_timeout", 28_800);
        let step = tokio::time::timeout(silence, self.step(CLIENT_COMMAND_BYTES_MAX)).await;
        let step = step.map_err(|_| ConnectionEnd::Silent)??;
        bump(&self.server.counters.commands);
        let registered = self.session.state().and_then(|state| {
            let replica = state.replica.as_ref()?;
            Some(ReplicaRow {
                server_id: replica.server_id,
                host: replica.host.clone(),
                port: replica.port,
                uuid: state.replica_uuid().unwrap_or_default(),
            })
        });
        self.client.registered(registered);
        Ok(step)
    }

    /// A timeout variable as the session has it.
    fn seconds(&self, variable: &'static str, default: u64) -> Duration {
        let own = self.session.state().and_then(|s| s.vars.system(variable));
        let seconds = own.and_then(|s| s.parse().ok()).unwrap_or(default);
        Duration::from_secs(seconds.clamp(1, 31_536_000))
    }

    /// Reads one packet, handles it, sends the reply.
    async fn step(&mut self, cap: usize) -> Result<Step, ConnectionEnd> {
        let packet = loop {
            match self.decoder.poll(cap) {
                Ok(Some(packet)) => break packet,
                Ok(None) => {}
                Err(error) => {
                    self.refuse(error).await?;
                    return Err(ConnectionEnd::Protocol);
                }
            }
            self.receive().await?;
        };
        if self.session.state().is_some() {
            self.client.command("Query");
        }
        let mut out = Vec::new();
        let session = &mut self.session;
        let step = self
            .server
            .with_env(|env| session.handle(packet, env, &mut out));
        if let Some(code) = error_code(&out) {
            self.server.counters.error(code);
            if code == errors::access_denied("", "", true).code {
                info!(user = self.session.user(), "access denied");
            }
        }
        self.send(&out).await?;
        Ok(step)
    }

    /// Takes what the client sent.
    async fn receive(&mut self) -> Result<(), ConnectionEnd> {
        let mut room = &mut *self.landing;
        if self.session.state().is_none() {
            // What follows an SSLRequest belongs to TLS.
            let missing = self.decoder.missing().min(room.len());
            room = room.get_mut(..missing).unwrap_or_default();
        }
        let socket = self.socket.as_mut().ok_or(ConnectionEnd::Protocol)?;
        match socket.read(room).await? {
            0 => Err(ConnectionEnd::Closed),
            n => {
                self.decoder.feed(room.get(..n).unwrap_or_default());
                Ok(())
            }
        }
    }

    async fn refuse(&mut self, error: PacketError) -> Result<(), ConnectionEnd> {
        let error = match error {
            PacketError::TooLarge { .. } if self.session.state().is_none() => {
                errors::bad_handshake()
            }
            PacketError::TooLarge { .. } => errors::packet_too_large(),
            PacketError::OutOfOrder { .. } => errors::packets_out_of_order(),
        };
        self.server.counters.error(error.code);
        let mut out = Vec::new();
        PacketWriter::new(&mut out, 1).packet(|o| put_err(&error, o));
        self.send(&out).await
    }

    fn socket(&mut self) -> Result<&mut Socket, ConnectionEnd> {
        self.socket.as_mut().ok_or(ConnectionEnd::Protocol)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionEnd> {
        let limit = self.seconds("net_write_timeout", 60);
        let server = self.server.clone();
        send(self.socket()?, &server, limit, bytes).await
    }

    async fn deferred(&mut self, deferred: Deferred, reply: Reply) -> Result<(), ConnectionEnd> {
        let outcome = match deferred {
            Deferred::Events(request) => {
                let server = self.server.clone();
                return events::stream(&server, self.socket()?, &request, reply).await;
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
        info!(user = self.session.user(), ?request, "log administration");
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
        let limit = self.seconds("net_write_timeout", 60);
        let Some(socket) = self.socket.take() else {
            return ConnectionEnd::Protocol;
        };
        tail::dump(&self.server, &self.client, socket, request, limit).await
    }
}

/// Writes everything, unless the client takes nothing for `limit`.
pub(crate) async fn send<W>(
    socket: &mut W,
    server: &Server,
    limit: Duration,
    bytes: &[u8],
) -> Result<(), ConnectionEnd>
where
    W: tokio::io::AsyncWrite + Unpin,
{
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = tokio::time::timeout(limit, socket.write(rest)).await;
        let written = written.map_err(|_| ConnectionEnd::Stuck)??;
        if written == 0 {
            return Err(ConnectionEnd::Closed);
        }
        rest = rest.get(written..).unwrap_or_default();
    }
    // Over TLS the last record may still wait here.
    tokio::time::timeout(limit, socket.flush())
        .await
        .map_err(|_| ConnectionEnd::Stuck)??;
    add(&server.counters.bytes_sent, bytes.len() as u64);
    Ok(())
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
