//! Answers to fences. In: "where does your binlog end now?" from the merger. Out: the position the node names on a side
//! connection, or that it cannot be asked; the merger then asks again.
//!
//! The statement is always sent after the question has arrived: that the position is *later* is what a fence is. It is sent to
//! the server whose binlog is read, and to no other; the answer counts in that server's epoch.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tributary_flow::{FenceAnswer, FenceRequest, NodeId, SourcePos};

use crate::{
    config::NodeUrl,
    core::place::in_epoch,
    error::{CollectorError, ConnError},
    sql::SideConn,
};

/// How long a question waits for the first connection to the node.
const FIRST_SESSION: Duration = Duration::from_secs(2);

/// The server whose binlog is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Serving {
    /// Where it is.
    pub(crate) url: NodeUrl,
    /// Its `server_uuid`.
    pub(crate) uuid: String,
    /// The epoch of its positions.
    pub(crate) epoch: u64,
}

/// Answers until the merger is gone or the service stops.
pub(crate) async fn run(
    node: NodeId,
    name: String,
    serving: watch::Receiver<Option<Serving>>,
    mut requests: mpsc::Receiver<FenceRequest>,
    answers: mpsc::Sender<FenceAnswer>,
    shutdown: CancellationToken,
) {
    let mut desk = Desk {
        serving,
        conn: None,
    };
    let mut failing = false;
    let serve = async {
        while let Some(first) = requests.recv().await {
            let mut ids = vec![first.id];
            while let Ok(more) = requests.try_recv() {
                ids.push(more.id);
            }
            let result = desk.ask().await;
            match &result {
                Err(error) if !failing => {
                    tracing::warn!(node = name, %error, "the end of the node's binlog is not known");
                }
                Ok(_) if failing => {
                    tracing::info!(node = name, "the end of the node's binlog is known again");
                }
                _ => {}
            }
            failing = result.is_err();
            let pos = result.ok();
            for id in ids {
                if answers.send(FenceAnswer { node, id, pos }).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = serve => {}
    }
}

struct Desk {
    serving: watch::Receiver<Option<Serving>>,
    conn: Option<(Serving, SideConn)>,
}

impl Desk {
    /// Asks once; over a new connection if the kept one has died meanwhile, or leads to another server.
    async fn ask(&mut self) -> Result<SourcePos, CollectorError> {
        // Nothing can have passed a fence before the node is read for the first time.
        let read = timeout(FIRST_SESSION, self.serving.wait_for(Option::is_some)).await;
        let read = read.ok().and_then(Result::ok);
        let Some(now) = read.and_then(|serving| serving.clone()) else {
            return Err(ConnError::Closed.into());
        };
        if let Some((serving, mut conn)) = self.conn.take()
            && serving == now
            && let Ok(pos) = conn.binlog_end().await
        {
            self.conn = Some((serving, conn));
            return Ok(in_epoch(now.epoch, pos));
        }
        let mut conn = SideConn::connect(&now.url).await?;
        let uuid = conn.uuid().await?;
        if uuid != now.uuid {
            return Err(CollectorError::OtherServer {
                checked: now.uuid,
                streaming: uuid,
            });
        }
        let pos = conn.binlog_end().await?;
        let pos = in_epoch(now.epoch, pos);
        self.conn = Some((now, conn));
        Ok(pos)
    }
}
