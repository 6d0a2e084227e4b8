//! The collector as a semi-synchronous replica of a real server: what is not durable is not acknowledged.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tributary_binlog::GtidSet;
use tributary_collector::{SemiSync, XaAcks};
use tributary_tests::mysqld::MysqldOptions;

use crate::rig::{PATIENCE, Rig, Server, until};

async fn node() -> Server {
    let options = MysqldOptions::node("dn1", 11)
        .arg("--plugin-load-add=semisync_source.so")
        .arg("--rpl-semi-sync-source-timeout=100000");
    let server = Server::start(options).await;
    server
        .sql("CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT)")
        .await;
    server
}

fn port(xa: XaAcks) -> (watch::Sender<Arc<GtidSet>>, SemiSync) {
    let (sender, durable) = watch::channel(Arc::default());
    (sender, SemiSync { durable, xa })
}

/// Runs statements beside the test.
async fn begin(server: &Server, sql: &str) -> JoinHandle<()> {
    let mut conn = server.mysqld.root().await.unwrap();
    let sql = sql.to_owned();
    tokio::spawn(async move { conn.query_drop(sql).await.unwrap() })
}

async fn ends(statement: JoinHandle<()>) {
    timeout(PATIENCE, statement)
        .await
        .expect("it is acknowledged")
        .unwrap();
}

async fn waits(statement: &JoinHandle<()>) {
    sleep(Duration::from_millis(700)).await;
    assert!(!statement.is_finished(), "nothing is durable yet");
}

async fn variable(server: &Server, name: &str) -> String {
    let sql = format!("SHOW STATUS LIKE 'Rpl_semi_sync_source_{name}'");
    let (_, value): (String, String) = server.mysqld.row(&sql).await.unwrap();
    value
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_returns_when_it_is_durable_here() {
    let server = node().await;
    let (durable, semi_sync) = port(XaAcks::WhenDurable);
    let mut rig = Rig::spawn_semi_sync(server.config(), None, Some(semi_sync));
    let mut have = server.executed().await;
    rig.read_all(&GtidSet::new(), &have).await;
    durable.send_replace(Arc::new(have.clone()));
    rig.sound().await;
    server
        .sql("SET GLOBAL rpl_semi_sync_source_enabled = 1")
        .await;
    assert_eq!(variable(&server, "clients").await, "1");

    for round in 0..3 {
        let insert = "INSERT INTO shop.t (v) VALUES (REPEAT('x', 30000))";
        let commit = begin(&server, insert).await;
        waits(&commit).await;
        let txn = rig.read_for(Duration::from_millis(300)).await.pop();
        let gtid = txn.expect("it is sent before it is committed").gtid;
        have.add(gtid);
        durable.send_replace(Arc::new(have.clone()));
        ends(commit).await;
        assert_eq!(variable(&server, "yes_tx").await, (round + 1).to_string());
        // Also in the next file.
        until("the answer shows", || {
            rig.status().acked.is_some_and(|pos| pos.file == round + 1)
        })
        .await;
        server.sql("FLUSH BINARY LOGS").await;
    }
    assert_eq!(variable(&server, "no_tx").await, "0");

    // A lost connection: what was received over it still holds back what comes later.
    let first = begin(&server, "INSERT INTO shop.t (v) VALUES ('first')").await;
    waits(&first).await;
    let one = rig
        .read_for(Duration::from_millis(300))
        .await
        .pop()
        .unwrap();
    let id: u64 = server
        .mysqld
        .row("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'")
        .await
        .unwrap();
    server.sql(&format!("KILL {id}")).await;
    rig.last_failure(tributary_collector::TroubleKind::ConnectionLost)
        .await;
    rig.sound().await;
    let second = begin(&server, "INSERT INTO shop.t (v) VALUES ('second')").await;
    let two = timeout(PATIENCE, async {
        loop {
            if let Some(two) = rig.read_for(Duration::from_millis(100)).await.pop() {
                return two;
            }
        }
    });
    let two = two.await.unwrap();
    have.add(two.gtid);
    durable.send_replace(Arc::new(have.clone()));
    waits(&second).await;
    have.add(one.gtid);
    durable.send_replace(Arc::new(have.clone()));
    ends(first).await;
    ends(second).await;
    assert_eq!(have, server.executed().await);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn branches_may_count_on_receipt() {
    let server = node().await;
    let (durable, semi_sync) = port(XaAcks::OnReceipt);
    let mut rig = Rig::spawn_semi_sync(server.config(), None, Some(semi_sync));
    let have = server.executed().await;
    rig.read_all(&GtidSet::new(), &have).await;
    durable.send_replace(Arc::new(have.clone()));
    rig.sound().await;
    server
        .sql("SET GLOBAL rpl_semi_sync_source_enabled = 1")
        .await;
    let branch = "XA START 'a'; INSERT INTO shop.t (v) VALUES ('x'); XA END 'a'; XA PREPARE 'a'; XA COMMIT 'a'";
    ends(begin(&server, branch).await).await;
    let commit = begin(&server, "INSERT INTO shop.t (v) VALUES ('x')").await;
    waits(&commit).await;
    let executed: GtidSet = {
        let mut all = have;
        for txn in rig.read_for(Duration::from_millis(300)).await {
            all.add(txn.gtid);
        }
        all
    };
    durable.send_replace(Arc::new(executed));
    ends(commit).await;
    assert_eq!(variable(&server, "no_tx").await, "0");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_the_plugin_is_read_as_always() {
    let server = Server::start(MysqldOptions::node("dn1", 11)).await;
    server.sql("CREATE DATABASE shop").await;
    let (_durable, semi_sync) = port(XaAcks::WhenDurable);
    let mut rig = Rig::spawn_semi_sync(server.config(), None, Some(semi_sync));
    let executed = server.executed().await;
    assert_eq!(rig.read_all(&GtidSet::new(), &executed).await.len(), 1);
    rig.sound().await;
    assert_eq!(rig.status().acked, None);
    rig.stop().await;
}
