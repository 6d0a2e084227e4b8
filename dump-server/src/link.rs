//! A connection's bytes: socket, TLS, compression, timeouts, packets.
//!
//! In: a TCP stream. Out: whole packets from the client, and replies to it. Knows nothing of what is in them.

use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::core::session::Encryption;
use crate::counters::{LiveCounters, add};
use crate::wire::compress::{Algorithm, BadCompression, Compressor, Decompressor};
use crate::wire::packet::{Packet, PacketDecoder, PacketError};

/// In clear or over TLS.
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
    #[error("the client stopped in the middle of a packet")]
    Stalled,
    #[error("the client does not read")]
    Stuck,
    #[error("{0}")]
    Packet(#[from] PacketError),
    #[error("{0}")]
    Compression(#[from] BadCompression),
    #[error("TLS failed: {0}")]
    Tls(std::io::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// From bytes to packets.
#[derive(Debug, Default)]
pub(crate) struct Inlet {
    packets: PacketDecoder,
    inflate: Option<Decompressor>,
}

impl Inlet {
    /// Takes bytes from the socket.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        match &mut self.inflate {
            Some(inflate) => inflate.feed(bytes),
            None => self.packets.feed(bytes),
        }
    }

    /// The next whole message of at most `cap` bytes, if it is here.
    pub(crate) fn poll(&mut self, cap: usize) -> Result<Option<Packet>, ConnectionEnd> {
        loop {
            if let Some(packet) = self.packets.poll(cap)? {
                return Ok(Some(packet));
            }
            // One compressed packet at a time: many of them could unpack to a lot.
            let more = match &mut self.inflate {
                Some(inflate) => inflate.unpack(&mut self.packets)?,
                None => false,
            };
            if !more {
                return Ok(None);
            }
        }
    }
}

/// From replies to bytes.
#[derive(Debug)]
pub(crate) struct Outlet<W> {
    io: W,
    deflate: Option<Compressor>,
}

impl<W: AsyncWrite + Unpin> Outlet<W> {
    /// Sends framed packets.
    pub(crate) async fn send(
        &mut self,
        counters: &LiveCounters,
        limit: Duration,
        bytes: &[u8],
    ) -> Result<(), ConnectionEnd> {
        send(&mut self.io, self.deflate.as_mut(), counters, limit, bytes).await
    }

    /// Compressed packets count anew, from 0.
    pub(crate) fn restart_count(&mut self) {
        if let Some(deflate) = &mut self.deflate {
            deflate.answer_to(u8::MAX);
        }
    }

    /// Says that nothing follows.
    pub(crate) async fn close(&mut self) {
        // The client may be gone, or not read.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.io.shutdown()).await;
    }
}

/// Both ways of one connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// Absent only while TLS takes it over.
    socket: Option<Socket>,
    inlet: Inlet,
    deflate: Option<Compressor>,
    /// Where bytes from the socket land.
    landing: Box<[u8]>,
}

impl Link {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            socket: Some(Either::Left(stream)),
            inlet: Inlet::default(),
            deflate: None,
            landing: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    /// Packets travel compressed from now on.
    pub(crate) fn compress(&mut self, algorithm: Algorithm) {
        self.inlet.inflate = Some(Decompressor::new(algorithm));
        self.deflate = Some(Compressor::new(algorithm));
    }

    /// Hands the clear connection to `handshake`, and goes on over what it returns. Reads ahead of it must have been
    /// `careful`.
    pub(crate) async fn secure<F>(
        &mut self,
        handshake: impl FnOnce(TcpStream) -> F,
    ) -> Result<Encryption, ConnectionEnd>
    where
        F: Future<Output = std::io::Result<TlsStream<TcpStream>>>,
    {
        // Bytes that came before TLS must not count as if they came inside.
        if self.inlet.packets.has_pending() {
            return Err(ConnectionEnd::Protocol);
        }
        let Some(Either::Left(stream)) = self.socket.take() else {
            return Err(ConnectionEnd::Protocol);
        };
        let secured = handshake(stream).await.map_err(ConnectionEnd::Tls)?;
        let encryption = encryption(secured.get_ref().1);
        self.socket = Some(Either::Right(Box::new(secured)));
        Ok(encryption)
    }

    /// The next message. `silence` limits the wait for its first byte, `stall` each later one. A `careful` reader takes no
    /// byte of what follows the message: after an SSLRequest it belongs to TLS.
    pub(crate) async fn packet(
        &mut self,
        cap: usize,
        silence: Duration,
        stall: Duration,
        careful: bool,
    ) -> Result<Packet, ConnectionEnd> {
        let mut begun = false;
        loop {
            if let Some(packet) = self.inlet.poll(cap)? {
                if let (Some(inflate), Some(deflate)) = (&self.inlet.inflate, &mut self.deflate) {
                    deflate.answer_to(inflate.seq());
                }
                return Ok(packet);
            }
            let (limit, late) = if begun {
                (stall, ConnectionEnd::Stalled)
            } else {
                (silence, ConnectionEnd::Silent)
            };
            let received = tokio::time::timeout(limit, self.receive(careful)).await;
            received.map_err(|_| late)??;
            begun = true;
        }
    }

    async fn receive(&mut self, careful: bool) -> Result<(), ConnectionEnd> {
        let mut room = &mut *self.landing;
        if careful {
            let missing = self.inlet.packets.missing().min(room.len());
            room = room.get_mut(..missing).unwrap_or_default();
        }
        let socket = self.socket.as_mut().ok_or(ConnectionEnd::Protocol)?;
        match socket.read(room).await? {
            0 => Err(ConnectionEnd::Closed),
            n => {
                self.inlet.feed(room.get(..n).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// Sends framed packets.
    pub(crate) async fn send(
        &mut self,
        counters: &LiveCounters,
        limit: Duration,
        bytes: &[u8],
    ) -> Result<(), ConnectionEnd> {
        let socket = self.socket.as_mut().ok_or(ConnectionEnd::Protocol)?;
        send(socket, self.deflate.as_mut(), counters, limit, bytes).await
    }

    /// Says that nothing follows.
    pub(crate) async fn close(&mut self) {
        if let Some(socket) = &mut self.socket {
            // The client may be gone, or not read.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, socket.shutdown()).await;
        }
    }

    /// Takes the connection apart, for who writes and reads at the same time. The link is of no use behind it.
    pub(crate) fn split(&mut self) -> Option<(Inlet, ReadHalf<Socket>, Outlet<WriteHalf<Socket>>)> {
        let (reader, io) = tokio::io::split(self.socket.take()?);
        let deflate = self.deflate.take();
        let inlet = std::mem::take(&mut self.inlet);
        Some((inlet, reader, Outlet { io, deflate }))
    }
}

/// What was agreed, by OpenSSL's names: those are what MySQL shows.
fn encryption(tls: &rustls::ServerConnection) -> Encryption {
    let version = match tls.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    let suite = tls.negotiated_cipher_suite();
    let name = suite.and_then(|s| s.suite().as_str()).unwrap_or_default();
    let cipher = match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        // TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 is ECDHE-RSA-AES128-GCM-SHA256 there.
        None => name
            .trim_start_matches("TLS_")
            .replace("_WITH_", "_")
            .replace("AES_", "AES")
            .replace("POLY1305_SHA256", "POLY1305")
            .replace('_', "-"),
    };
    Encryption { version, cipher }
}

/// Writes everything, unless the client takes nothing for `limit`.
async fn send<W: AsyncWrite + Unpin>(
    io: &mut W,
    deflate: Option<&mut Compressor>,
    counters: &LiveCounters,
    limit: Duration,
    bytes: &[u8],
) -> Result<(), ConnectionEnd> {
    let packed;
    let mut rest = match deflate {
        Some(deflate) => {
            let mut out = Vec::with_capacity(bytes.len() / 2);
            deflate.put(bytes, &mut out);
            packed = out;
            packed.as_slice()
        }
        None => bytes,
    };
    add(&counters.bytes_sent, rest.len() as u64);
    while !rest.is_empty() {
        let written = tokio::time::timeout(limit, io.write(rest)).await;
        let written = written.map_err(|_| ConnectionEnd::Stuck)??;
        if written == 0 {
            return Err(ConnectionEnd::Closed);
        }
        rest = rest.get(written..).unwrap_or_default();
    }
    // Over TLS the last record may still wait here.
    tokio::time::timeout(limit, io.flush())
        .await
        .map_err(|_| ConnectionEnd::Stuck)??;
    Ok(())
}

/// Reads what a client writes while it is sent a stream, until it closes, and hands on the packets in it. What makes no
/// packets of at most `cap` bytes is dropped: nothing of it is answered anyway.
pub(crate) async fn overhear<R: AsyncRead + Unpin>(
    inlet: Inlet,
    reader: &mut R,
    cap: usize,
    mut on_packet: impl FnMut(&Packet),
) -> ConnectionEnd {
    let mut inlet = Some(inlet);
    let mut scratch = [0; 4096];
    loop {
        while let Some(understood) = &mut inlet {
            match understood.poll(cap) {
                Ok(Some(packet)) => on_packet(&packet),
                Ok(None) => break,
                Err(_) => inlet = None,
            }
        }
        match reader.read(&mut scratch).await {
            Ok(0) => return ConnectionEnd::Closed,
            Ok(n) => {
                if let Some(inlet) = &mut inlet {
                    inlet.feed(scratch.get(..n).unwrap_or_default());
                }
            }
            Err(error) => return ConnectionEnd::Io(error),
        }
    }
}
