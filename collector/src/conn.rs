//! A connection to a node: TCP or TLS, logged in, one statement at a time.
//!
//! In: address, account, statements. Out: rows, or the node's errors. The dump ([`crate::dump`]) and the side connection
//! ([`crate::sql`]) are both built on it, so that a password, a TLS mode or a CA that works for one works for the other.
//! (mysql_async is not used for the side connection for that reason: with a CA it cannot be told to leave a certificate's
//! name alone, and the certificates that mysqld makes for itself have none.)

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use crate::{
    config::{NodeUrl, TlsMode},
    error::ConnError,
    tls,
    wire::{
        WireError,
        auth::{Auth, AuthError, AuthStep},
        commands,
        handshake::Greeting,
        packet::{PacketBuffer, put_packet},
        reply::Reply,
        rows::{ResultReader, Row, Step},
    },
};

/// How long to wait for a connection, and for each answer on it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// TCP, with or without TLS.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
        }
    }
}

/// A logged-in connection.
pub(crate) struct NodeConn {
    stream: Stream,
    pub(crate) packets: PacketBuffer,
    read_timeout: Duration,
    version: String,
}

impl NodeConn {
    /// Connects and logs in.
    pub(crate) async fn connect(url: &NodeUrl) -> Result<Self, ConnError> {
        let refused = |source| ConnError::Connect {
            address: url.to_string(),
            source,
        };
        let connecting = TcpStream::connect((url.host.as_str(), url.port));
        let stream = timeout(ANSWER_TIMEOUT, connecting)
            .await
            .map_err(|_| refused(io::ErrorKind::TimedOut.into()))?
            .map_err(refused)?;
        stream.set_nodelay(true)?;
        let mut conn = Self {
            stream: Stream::Plain(stream),
            packets: PacketBuffer::default(),
            read_timeout: ANSWER_TIMEOUT,
            version: String::new(),
        };
        let first = conn.read_packet("waiting for the greeting").await?;
        if let Reply::Err(source) = Reply::parse(first) {
            return Err(ConnError::Server {
                doing: "connecting",
                source,
            });
        }
        let greeting = Greeting::parse(first)?;
        conn.version.clone_from(&greeting.version);
        let (mut conn, tls) = conn.start_tls(url, &greeting).await?;
        conn.log_in(url, &greeting, tls).await?;
        Ok(conn)
    }

    /// The version in the server's greeting.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// How long to wait for the next bytes.
    pub(crate) fn set_read_timeout(&mut self, read_timeout: Duration) {
        self.read_timeout = read_timeout;
    }

    /// Replaces the plain stream by an encrypted one, if it is to be; tells whether it is.
    async fn start_tls(
        mut self,
        url: &NodeUrl,
        greeting: &Greeting,
    ) -> Result<(Self, bool), ConnError> {
        match (url.tls, greeting.offers_tls()) {
            (TlsMode::Disabled, _) | (TlsMode::Preferred, false) => return Ok((self, false)),
            (TlsMode::Required, false) => return Err(ConnError::TlsNotOffered),
            (_, true) => {}
        }
        let connector = tls::connector(url.ca.as_deref())?;
        // What somebody put behind the greeting must not count as encrypted.
        if self.packets.buffered() > 0 {
            return Err(ConnError::Tls(
                "bytes arrived before encryption began".to_owned(),
            ));
        }
        self.send(&greeting.ssl_request()).await?;
        let name = ServerName::try_from(url.host.clone())
            .or_else(|_| ServerName::try_from("mysql"))
            .map_err(|e| ConnError::Tls(e.to_string()))?;
        let Stream::Plain(stream) = self.stream else {
            return Err(ConnError::Tls(
                "the connection is encrypted already".to_owned(),
            ));
        };
        let tls = timeout(ANSWER_TIMEOUT, connector.connect(name, stream))
            .await
            .map_err(|_| late("encrypting", ANSWER_TIMEOUT))?
            .map_err(|e| ConnError::Tls(e.to_string()))?;
        Ok((
            Self {
                stream: Stream::Tls(Box::new(tls)),
                ..self
            },
            true,
        ))
    }

    async fn log_in(
        &mut self,
        url: &NodeUrl,
        greeting: &Greeting,
        tls: bool,
    ) -> Result<(), ConnError> {
        let failed = |source: AuthError| ConnError::Auth {
            user: url.user.clone(),
            source,
        };
        let mut auth = Auth::new(&url.password, tls, &greeting.plugin, &greeting.nonce);
        let response = greeting.response(tls, &url.user, auth.plugin_name(), &auth.answer());
        self.send(&response).await?;
        loop {
            let packet = self.read_packet("logging in").await?;
            match auth.handle(packet).map_err(failed)? {
                AuthStep::Done => return Ok(()),
                AuthStep::Wait => {}
                AuthStep::Send(answer) => self.send(&answer).await?,
            }
        }
    }

    /// Sends a packet that answers the one read last.
    async fn send(&mut self, payload: &[u8]) -> Result<(), ConnError> {
        let mut out = Vec::with_capacity(payload.len() + 4);
        let seq = put_packet(&mut out, self.packets.next_seq(), payload);
        self.packets.expect_seq(seq);
        self.write(&out).await
    }

    async fn write(&mut self, out: &[u8]) -> Result<(), ConnError> {
        let writing = async {
            self.stream.write_all(out).await?;
            self.stream.flush().await
        };
        let written = timeout(ANSWER_TIMEOUT, writing).await;
        Ok(written.map_err(|_| late("sending", ANSWER_TIMEOUT))??)
    }

    /// Sends a packet that nobody asked for and nobody answers, between two packets of a dump.
    pub(crate) async fn aside(&mut self, payload: &[u8]) -> Result<(), ConnError> {
        let mut out = Vec::with_capacity(payload.len() + 4);
        put_packet(&mut out, 0, payload);
        self.write(&out).await
    }

    /// Sends a command.
    pub(crate) async fn command(&mut self, payload: &[u8]) -> Result<(), ConnError> {
        self.packets.expect_seq(0);
        self.send(payload).await
    }

    /// The next packet.
    pub(crate) async fn read_packet(&mut self, doing: &'static str) -> Result<&[u8], ConnError> {
        while !self.packets.advance()? {
            self.fill(doing).await?;
        }
        Ok(self.packets.current())
    }

    /// Waits for the next bytes. May be cancelled without losing any.
    pub(crate) async fn fill(&mut self, doing: &'static str) -> Result<(), ConnError> {
        let reading = self.stream.read_buf(self.packets.room());
        match timeout(self.read_timeout, reading).await {
            Err(_) => Err(late(doing, self.read_timeout)),
            Ok(Ok(0)) => Err(ConnError::Closed),
            Ok(result) => {
                result?;
                Ok(())
            }
        }
    }

    /// Takes the bytes that have arrived already; `false` when there are none.
    pub(crate) async fn try_fill(&mut self) -> Result<bool, ConnError> {
        let (stream, room) = (&mut self.stream, self.packets.room());
        let read = std::future::poll_fn(|cx| {
            Poll::Ready(match pin!(stream.read_buf(room)).poll(cx) {
                Poll::Ready(result) => Some(result),
                Poll::Pending => None,
            })
        });
        match read.await {
            None => Ok(false),
            Some(Ok(0)) => Err(ConnError::Closed),
            Some(result) => {
                result?;
                Ok(true)
            }
        }
    }

    /// Runs a statement; `doing` says what for.
    pub(crate) async fn query(
        &mut self,
        sql: &str,
        doing: &'static str,
    ) -> Result<Vec<Row>, ConnError> {
        Ok(self.query_table(sql, doing).await?.1)
    }

    /// The same with the columns' names.
    pub(crate) async fn query_table(
        &mut self,
        sql: &str,
        doing: &'static str,
    ) -> Result<(Vec<String>, Vec<Row>), ConnError> {
        self.command(&commands::query(sql)).await?;
        let mut reader = ResultReader::default();
        loop {
            let packet = self.read_packet(doing).await?;
            match reader.handle(packet)? {
                Step::More => {}
                Step::Done => return Ok(reader.into_table()),
                Step::Failed(source) => return Err(ConnError::Server { doing, source }),
            }
        }
    }

    /// Says goodbye, so that the node does not count an aborted client.
    pub(crate) async fn quit(mut self) {
        // It is closed either way.
        let _ = self.command(commands::QUIT).await;
    }

    /// Sends a command that is answered by OK.
    pub(crate) async fn simple(
        &mut self,
        command: &[u8],
        doing: &'static str,
    ) -> Result<(), ConnError> {
        self.command(command).await?;
        let packet = self.read_packet(doing).await?;
        match Reply::parse(packet) {
            Reply::Ok => Ok(()),
            Reply::Err(source) => Err(ConnError::Server { doing, source }),
            _ => {
                let first = packet.first().copied().unwrap_or(0);
                Err(WireError::Unexpected {
                    first,
                    len: packet.len(),
                    doing,
                }
                .into())
            }
        }
    }
}

fn late(doing: &'static str, waited: Duration) -> ConnError {
    ConnError::Timeout {
        doing,
        seconds: waited.as_secs(),
    }
}
