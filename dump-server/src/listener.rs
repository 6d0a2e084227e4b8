//! Accepts connections.
//!
//! In: a TCP listener and a token that ends it. Out: one task per connection, at most `max_connections`; at shutdown every
//! task is told to end and waited for.

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
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let Ok(permit) = permits.clone().try_acquire_owned() else {
                bump(&self.counters.connections_refused);
                self.counters.error(errors::too_many_connections().code);
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
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&out)).await;
}
