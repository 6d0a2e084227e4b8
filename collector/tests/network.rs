//! A network that fails between collector and node: the result is that of a network that does not.

use std::time::Duration;

use tokio::time::sleep;
use tributary_binlog::{EventType, Gtid, GtidSet};
use tributary_collector::{CollectorConfig, TroubleKind};
use tributary_flow::{SourceTxn, TxnKind};
use tributary_tests::faults::{Fault, FaultProxy};
use tributary_tests::mysqld::MysqldOptions;

use crate::rig::{Rig, Server, over};
use crate::stream::body;

/// What a transaction is, without the place it ends at.
type Content = (Gtid, TxnKind, Vec<(EventType, Vec<u8>)>);

fn content(txns: &[SourceTxn]) -> Vec<Content> {
    let one = |t: &SourceTxn| (t.gtid, t.kind.clone(), body(t));
    txns.iter().map(one).collect()
}

/// A node with some transactions of each kind and size.
async fn node() -> Server {
    let server = Server::start(MysqldOptions::node("dn1", 11)).await;
    server
        .sql("CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT)")
        .await;
    for i in 0..30 {
        let len = [10, 3000, 200_000][i % 3];
        let x = format!("X'{i:02x}',X'01',1");
        server
            .sql(&format!(
                "INSERT INTO shop.t (v) VALUES (REPEAT('x', {len})); XA START {x}; \
                 INSERT INTO shop.t (v) VALUES ('branch'); XA END {x}; XA PREPARE {x}; XA COMMIT {x}"
            ))
            .await;
    }
    server
}

async fn undisturbed(server: &Server) -> (GtidSet, Vec<Content>) {
    let executed = server.executed().await;
    let mut rig = Rig::spawn(server.config(), None);
    let txns = rig.read_all(&GtidSet::new(), &executed).await;
    rig.stop().await;
    (executed, content(&txns))
}

async fn over_proxy(server: &Server) -> (FaultProxy, CollectorConfig) {
    let proxy = FaultProxy::start(server.mysqld.port()).await.unwrap();
    let mut config = server.config();
    config.servers = vec![over(&proxy, server.url())];
    config.watch_every = Duration::from_secs(3600);
    (proxy, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_result_does_not_depend_on_the_network() {
    let server = node().await;
    let (executed, want) = undisturbed(&server).await;
    // Stalls of ten seconds in the long run, shorter here; heartbeats come every half second.
    for fault in [
        Fault::OneByte,
        Fault::Stall(400_000, Duration::from_millis(900)),
        Fault::Delay(Duration::from_millis(20)),
        Fault::Duplicate,
    ] {
        let (proxy, config) = over_proxy(&server).await;
        proxy.fault(fault);
        let mut rig = Rig::spawn(config, None);
        let txns = rig.read_all(&GtidSet::new(), &executed).await;
        assert!(content(&txns) == want, "{fault:?}");
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_in_the_middle_of_events_lose_and_double_nothing() {
    let server = node().await;
    let (executed, want) = undisturbed(&server).await;
    let (proxy, config) = over_proxy(&server).await;
    // Each connection gets further by a few transactions, and breaks somewhere inside an event.
    proxy.fault(Fault::ResetAfter(423_457));
    let mut rig = Rig::spawn(config, None);
    let txns = rig.read_all(&GtidSet::new(), &executed).await;
    assert!(content(&txns) == want);
    assert!(proxy.resets() >= 4, "{}", proxy.resets());
    rig.last_failure(TroubleKind::ConnectionLost).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_and_half_open_connections_are_noticed_and_survived() {
    let server = node().await;
    let (proxy, config) = over_proxy(&server).await;
    let mut rig = Rig::spawn(config, None);
    let mut have = server.executed().await;
    rig.read_all(&GtidSet::new(), &have).await;
    for round in 0..2 {
        // Nobody is told: the connection stays open and says nothing.
        proxy.fault(Fault::Partition);
        server
            .sql("INSERT INTO shop.t (v) VALUES ('meanwhile')")
            .await;
        rig.trouble(TroubleKind::NodeHung).await;
        if round == 1 {
            // The partition ends with the connections refused first.
            proxy.fault(Fault::Refuse);
            sleep(Duration::from_millis(300)).await;
        }
        proxy.fault(Fault::None);
        let executed = server.executed().await;
        assert_eq!(rig.read_all(&have, &executed).await.len(), 1);
        have = executed;
        rig.sound().await;
    }
    rig.stop().await;
}
