//! The proxy: a port on 127.0.0.1 that leads to a server's port, and remembers what passes.
//!
//! In: connections. Out: the same connections to the server, and a [`Transcript`]. Bytes are understood before they are handed
//! on, so a question always stands before its answer.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::conversation::Recorder;
use super::transcript::Transcript;

const CLIENT_COMPRESS: u32 = 1 << 5;
const CLIENT_SSL: u32 = 1 << 11;
const CLIENT_ZSTD: u32 = 1 << 26;

/// What is taken out of the server's greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hide {
    /// TLS and compression: everything can be read.
    Both,
    /// Nothing: a client that encrypts goes unread.
    Nothing,
}

impl Hide {
    fn capabilities(self) -> u32 {
        match self {
            Self::Both => CLIENT_COMPRESS | CLIENT_SSL | CLIENT_ZSTD,
            Self::Nothing => 0,
        }
    }
}

#[derive(Debug)]
struct Shared {
    upstream: AtomicU16,
    hide: Hide,
    recorders: Mutex<Vec<Arc<Mutex<Recorder>>>>,
    /// Counted up to end all connections.
    cuts: watch::Sender<u64>,
}

/// A running proxy; ends with its handle.
#[derive(Debug)]
pub struct WireProxy {
    shared: Arc<Shared>,
    port: u16,
    accepting: JoinHandle<()>,
}

impl Drop for WireProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WireProxy {
    /// A proxy on a free port, before the server at `upstream` on 127.0.0.1, that hides TLS and compression.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(upstream: u16) -> Result<Self> {
        Self::start_at(0, upstream, Hide::Both).await
    }

    /// A proxy at `port` (0: a free one).
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start_at(port: u16, upstream: u16, hide: Hide) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.with_context(|| format!("the proxy's port {port}"))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            upstream: AtomicU16::new(upstream),
            hide,
            recorders: Mutex::default(),
            cuts: watch::channel(0).0,
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self {
            shared,
            port,
            accepting,
        })
    }

    /// The port clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections go to this port of 127.0.0.1 from now on.
    pub fn redirect(&self, upstream: u16) {
        self.shared.upstream.store(upstream, Ordering::SeqCst);
    }

    /// Ends every connection, as a broken network would.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// What was said so far.
    pub fn transcript(&self) -> Transcript {
        let recorders = lock(&self.shared.recorders);
        let conversations = recorders.iter().map(|r| lock(r).conversation());
        Transcript {
            conversations: conversations.collect(),
        }
    }

    /// Forgets what was said so far.
    pub fn forget(&self) {
        lock(&self.shared.recorders).clear();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(serve(client, shared.clone()));
    }
}

async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    let upstream = shared.upstream.load(Ordering::SeqCst);
    // A server that is away shows as a connection that ends at once.
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", upstream)).await else {
        return;
    };
    let recorder = Arc::<Mutex<Recorder>>::default();
    lock(&shared.recorders).push(recorder.clone());
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = pump(from_client, to_server, |bytes| {
        lock(&recorder).client_sent(bytes);
    });
    let mut greeting = Some(shared.hide.capabilities()).filter(|hidden| *hidden != 0);
    let down = pump(from_server, to_client, |bytes| {
        lock(&recorder).server_sent(bytes);
        // A greeting comes in one piece: it is short, and the first that is written.
        if let Some(hidden) = greeting.take() {
            hide(bytes, hidden);
        }
    });
    tokio::select! {
        () = async { tokio::join!(up, down); } => {}
        _ = cuts.changed() => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut saw: impl FnMut(&mut [u8]),
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut bytes).await {
        let piece = bytes.get_mut(..n).unwrap_or_default();
        saw(piece);
        if to.write_all(piece).await.is_err() {
            break;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}

/// Clears capabilities in a greeting of protocol version 10.
fn hide(packet: &mut [u8], hidden: u32) {
    let Some((10, rest)) = packet.get(4..).and_then(<[u8]>::split_first) else {
        return;
    };
    let Some(version) = rest.iter().position(|b| *b == 0) else {
        return;
    };
    // Header, protocol, version and its NUL, connection id, eight bytes of salt and their NUL.
    let low = 4 + 1 + version + 1 + 4 + 8 + 1;
    let [a, b, c, d] = (!hidden).to_le_bytes();
    for (at, mask) in [(low, a), (low + 1, b), (low + 5, c), (low + 6, d)] {
        if let Some(byte) = packet.get_mut(at) {
            *byte &= mask;
        }
    }
}
