//! A network that fails on order: in goes the port of a server, out comes another port that leads there, and breaks what passes in the
//! way it is told to. Clients and their server never know that it is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// What goes wrong. Each is about what is under way when it is ordered and what comes after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// New connections are closed at once, and those that are there too.
    Refuse,
    /// Nothing passes in either direction, and nobody is told.
    Partition,
    /// What the server sends arrives, one byte at a time.
    OneByte,
    /// After so many bytes from the server, the connection is reset.
    ResetAfter(u64),
    /// After every so many bytes from the server, nothing passes for a while.
    Stall(u64, Duration),
    /// Everything takes longer.
    Delay(Duration),
    /// What the client sends is dropped if it holds this text.
    Swallow(&'static str),
    /// Each connection of the client becomes two at the server; the second is said the same and not listened to.
    Duplicate,
}

/// A running proxy.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    fault: watch::Sender<Fault>,
    target: watch::Sender<u16>,
    resets: Arc<AtomicU64>,
}

impl FaultProxy {
    /// Forwards to a port of this machine.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(target: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (fault, faults) = watch::channel(Fault::None);
        let (target, targets) = watch::channel(target);
        let resets = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&resets);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = *targets.borrow();
                tokio::spawn(serve(client, target, faults.clone(), Arc::clone(&counter)));
            }
        });
        Ok(Self {
            port,
            fault,
            target,
            resets,
        })
    }

    /// The port to connect to instead of the server's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, this goes wrong.
    pub fn fault(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Where new connections lead.
    pub fn lead_to(&self, target: u16) {
        self.target.send_replace(target);
    }

    /// How many connections were reset.
    pub fn resets(&self) -> u64 {
        self.resets.load(Ordering::SeqCst)
    }
}

async fn serve(
    client: TcpStream,
    target: u16,
    mut faults: watch::Receiver<Fault>,
    resets: Arc<AtomicU64>,
) {
    if *faults.borrow() == Fault::Refuse {
        return;
    }
    // During a partition, not even the greeting comes.
    let gone = faults.wait_for(|f| *f != Fault::Partition).await.is_err();
    if gone {
        return;
    }
    let Ok(node) = TcpStream::connect(("127.0.0.1", target)).await else {
        return;
    };
    let _ = (client.set_nodelay(true), node.set_nodelay(true));
    let second = if *faults.borrow() == Fault::Duplicate {
        TcpStream::connect(("127.0.0.1", target)).await.ok()
    } else {
        None
    };
    if matches!(*faults.borrow(), Fault::ResetAfter(_)) {
        let _ = client.set_zero_linger();
    }
    let (from_client, to_client) = client.into_split();
    let (from_node, to_node) = node.into_split();
    let refused = faults.clone();
    tokio::select! {
        () = upstream(from_client, to_node, second, faults.clone()) => {}
        () = downstream(from_node, to_client, faults, resets) => {}
        () = refusal(refused) => {}
    }
}

async fn refusal(mut faults: watch::Receiver<Fault>) {
    let _ = faults.wait_for(|f| *f == Fault::Refuse).await;
}

/// From the client to the node.
async fn upstream(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    second: Option<TcpStream>,
    mut faults: watch::Receiver<Fault>,
) {
    let (mut echo_from, mut echo) = second.map(TcpStream::into_split).unzip();
    if let Some(mut from) = echo_from.take() {
        tokio::spawn(async move { while matches!(from.read(&mut [0; 4096]).await, Ok(1..)) {} });
    }
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let fault = *faults.borrow();
        match fault {
            Fault::Partition => {
                let _ = faults.wait_for(|f| *f != Fault::Partition).await;
            }
            Fault::Delay(time) => sleep(time).await,
            Fault::Swallow(text) => {
                let bytes = &buffer[..n];
                if bytes.windows(text.len()).any(|w| w == text.as_bytes()) {
                    continue;
                }
            }
            _ => {}
        }
        if let Some(echo) = &mut echo {
            let _ = echo.write_all(&buffer[..n]).await;
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

/// From the node to the client.
async fn downstream(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut faults: watch::Receiver<Fault>,
    resets: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 64 << 10];
    let mut passed = 0;
    loop {
        let fault = *faults.borrow();
        let room = match fault {
            Fault::ResetAfter(limit) if passed >= limit => {
                resets.fetch_add(1, Ordering::SeqCst);
                return;
            }
            Fault::ResetAfter(limit) => usize::try_from(limit - passed).unwrap_or(usize::MAX),
            Fault::Stall(every, _) => usize::try_from(every).unwrap_or(usize::MAX),
            _ => buffer.len(),
        };
        let room = room.min(buffer.len());
        let Ok(n @ 1..) = from.read(&mut buffer[..room]).await else {
            return;
        };
        passed += n as u64;
        // Whatever is on its way when the partition begins does not arrive.
        let fault = *faults.borrow_and_update();
        match fault {
            Fault::Partition => {
                let _ = faults.wait_for(|f| *f != Fault::Partition).await;
            }
            Fault::Stall(every, time) if passed / every != (passed - n as u64) / every => {
                sleep(time).await;
            }
            Fault::OneByte => {
                for byte in &buffer[..n] {
                    if to.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                continue;
            }
            _ => {}
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
