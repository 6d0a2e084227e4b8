//! Accepts connections.
//!
//! In: a TCP listener and a token that ends it. Out: one task per connection, at most `max_connections`; at shutdown every
//! task is told to end and waited for. Whoever comes when there are too many, or when the process has no file descriptor left, is told
//! so with error 1040: one descriptor is kept back for that.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::conn;
use crate::counters::bump;
use crate::server::Server;
use crate::wire::errors;
use crate::wire::packet::PacketWriter;
use crate::wire::reply::put_err_instead_of_greeting;

/// Wait after a failed accept: the usual cause (no file descriptors left) does not go at once.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Time a client that is refused gets to be told.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

impl Server {
    /// Serves `listener` until `shutdown` is cancelled, then ends every connection and waits for them (at most
    /// `drain_timeout`).
    pub async fn run(self: Arc<Self>, listener: TcpListener, shutdown: CancellationToken) {
        match listener.local_addr() {
            Ok(address) => {
                self.port.store(address.port(), Ordering::Relaxed);
                info!(%address, version = self.config.version, "serving the binlog");
            }
            Err(error) => warn!(%error, "the listener's address is not known"),
        }
        let permits = Arc::new(Semaphore::new(self.config.max_connections));
        let tasks = TaskTracker::new();
        let mut spare = Spare::new();
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => {
                    failing = false;
                    accepted
                }
                Err(error) => {
                    // Told once, not ten times a second for as long as it lasts.
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%error, "clients cannot be accepted");
                    }
                    if is_out_of_descriptors(&error) {
                        if spare.give() {
                            self.turn_away(&listener).await;
                        }
                        spare = Spare::new();
                    }
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let Ok(permit) = permits.clone().try_acquire_owned() else {
                self.count_refusal();
                tasks.spawn(refuse(stream));
                continue;
            };
            let server = self.clone();
            tasks.spawn(async move {
                conn::serve(server, stream, peer).await;
                drop(permit);
            });
        }
        drop(listener);
        tasks.close();
        self.drain(&tasks).await;
    }

    /// Takes one connection with the descriptor that was kept back, only to say that there are too many.
    async fn turn_away(&self, listener: &TcpListener) {
        let accepted = tokio::time::timeout(REFUSAL_TIMEOUT, listener.accept()).await;
        if let Ok(Ok((stream, _))) = accepted {
            self.count_refusal();
            refuse(stream).await;
        }
    }

    fn count_refusal(&self) {
        bump(&self.counters.connections_refused);
        self.counters.error(errors::too_many_connections().code);
    }

    async fn drain(&self, tasks: &TaskTracker) {
        self.registry.kill_all();
        if tokio::time::timeout(self.config.drain_timeout, tasks.wait())
            .await
            .is_err()
        {
            error!(
                connections = self.registry.len(),
                "client connections did not end in time"
            );
        }
    }
}

async fn refuse(mut stream: TcpStream) {
    let mut out = Vec::new();
    let refusal = errors::too_many_connections();
    PacketWriter::new(&mut out, 0).packet(|o| put_err_instead_of_greeting(&refusal, o));
    // The client may be gone; there is nobody to tell.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, stream.write_all(&out)).await;
}

/// A file descriptor kept back for the moment when there is no other.
struct Spare(Option<File>);

impl Spare {
    fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Closes it; false when there was none.
    fn give(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// EMFILE of this process, ENFILE of the machine.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}
