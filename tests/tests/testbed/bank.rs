//! The bank over one node with a plain MySQL replica: what holds for a single source is what
//! Tributary promises for many.

use std::sync::Arc;
use std::time::Duration;

use tributary_tests::bank::{Bank, BankOptions};
use tributary_tests::cluster::Cluster;
use tributary_tests::compare::{CompareOptions, compare};
use tributary_tests::mysqld::ReplicationSource;

#[tokio::test]
async fn a_plain_replica_of_one_node_is_the_same() {
    let cluster = Cluster::start(1).await.expect("a node starts");
    let replica = cluster
        .start_replica("replica", 900)
        .await
        .expect("a replica starts");
    let node = &cluster.nodes[0];
    replica
        .replicate_from(&ReplicationSource::local(node.port()))
        .await
        .expect("it starts");
    let options = BankOptions {
        workers: 4,
        transactions: Some(1500),
        duration: Some(Duration::from_secs(60)),
        ddl_every: Some(Duration::from_millis(200)),
        seed: Some(7),
        ..BankOptions::default()
    };
    let bank = Bank::new(cluster.app_opts(), options).expect("sound options");
    bank.open().await.expect("the bank opens");
    bank.open().await.expect("opening it again changes nothing");
    let stats = Arc::clone(&bank).run().await.expect("it runs");
    assert!(stats.committed() > 1300 && stats.ddl >= 4, "{stats}");
    // A deadlock between workers may end a transaction on any server; more than a few of them
    // would mean that the bank fights itself. No server was lost, so no outcome is unknown.
    assert!(stats.aborted <= 15 && stats.unknown == 0, "{stats}");
    let marker = bank.mark().await.expect("a marker");
    replica
        .wait_until(&marker.query(), Duration::from_secs(60))
        .await
        .expect("it arrives");

    let (nodes, whole) = ([node.root_opts()], replica.root_opts());
    let same = compare(&nodes, &whole, &CompareOptions::default())
        .await
        .expect("an answer");
    assert!(same.is_same() && same.rows > 1000, "{same}");
    let (accounts, sum): (i64, i64) = replica
        .row(&bank.replica_totals_query())
        .await
        .expect("sum");
    assert_eq!((accounts, sum), (300, bank.expected_sum()));
}
