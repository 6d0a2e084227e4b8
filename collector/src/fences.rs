//! Answers to fences. In: "where does your binlog end now?" from the merger. Out: the position the node names on a side
//! connection, or that it cannot be asked; the merger then asks again.
//!
//! The statement is always sent after the question has arrived: that the position is *later* is what a fence is.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tributary_flow::{FenceAnswer, FenceRequest, NodeId, SourcePos};

use crate::{config::NodeUrl, error::CollectorError, sql::SideConn};

/// Answers until the merger is gone or the service stops.
pub(crate) async fn run(
    node: NodeId,
    name: String,
    url: NodeUrl,
    mut requests: mpsc::Receiver<FenceRequest>,
    answers: mpsc::Sender<FenceAnswer>,
    shutdown: CancellationToken,
) {
    let mut desk = Desk { url, conn: None };
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
    url: NodeUrl,
    conn: Option<SideConn>,
}

impl Desk {
    /// Asks once; over a new connection if the kept one has died meanwhile.
    async fn ask(&mut self) -> Result<SourcePos, CollectorError> {
        if let Some(mut conn) = self.conn.take()
            && let Ok(pos) = conn.binlog_end().await
        {
            self.conn = Some(conn);
            return Ok(pos);
        }
        let mut conn = SideConn::connect(&self.url).await?;
        let pos = conn.binlog_end().await?;
        self.conn = Some(conn);
        Ok(pos)
    }
}
