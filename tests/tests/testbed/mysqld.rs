//! The server handle: start, kill, restart, and replication between two plain servers.

use std::time::Duration;

use tributary_tests::cluster::Cluster;
use tributary_tests::mysqld::{REPL_ACCOUNT, ReplicationSource};

#[tokio::test]
async fn a_killed_server_comes_back_with_its_data() {
    let mut cluster = Cluster::start(1).await.expect("a node starts");
    let node = &mut cluster.nodes[0];
    assert_eq!(
        node.gtid_executed().await.expect("an answer"),
        "",
        "a new server has no GTIDs"
    );
    node.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (7)",
    )
    .await
    .expect("statements run");
    node.kill9();
    assert!(!node.is_running());
    node.launch().await.expect("it comes back");
    assert_eq!(
        node.row::<i64>("SELECT id FROM d.t")
            .await
            .expect("the row"),
        7
    );
    let (file, _) = node.binlog_position().await.expect("a position");
    assert_eq!(file, "binlog.000002");
    let mode: String = node
        .row("SELECT @@binlog_row_metadata")
        .await
        .expect("a value");
    assert_eq!(mode, "FULL");
}

#[tokio::test]
async fn a_replica_follows_and_reports_what_stops_it() {
    let cluster = Cluster::start(1).await.expect("a node starts");
    let replica = cluster
        .start_replica("replica", 900)
        .await
        .expect("a replica starts");
    let node = &cluster.nodes[0];
    let source = ReplicationSource::local(node.port());
    replica
        .replicate_from(&source)
        .await
        .expect("replication starts");
    node.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)")
        .await
        .expect("DDL");
    let gtids = node.gtid_executed().await.expect("GTIDs");
    replica
        .wait_for_gtids(&gtids, Duration::from_secs(30))
        .await
        .expect("it follows");
    let status = replica
        .replica_status()
        .await
        .expect("an answer")
        .expect("it is a replica");
    assert!(status.is_healthy(), "{status}");
    assert_eq!(status.executed_gtids, gtids);

    // The replica has a row that the source does not know of: the source's own must stop it.
    replica
        .sql("SET sql_log_bin = 0; INSERT INTO d.t VALUES (1)")
        .await
        .expect("a stray row");
    node.sql("INSERT INTO d.t VALUES (1)")
        .await
        .expect("the source's row");
    let gtids = node.gtid_executed().await.expect("GTIDs");
    let stopped = replica
        .wait_for_gtids(&gtids, Duration::from_secs(30))
        .await;
    let text = format!("{:#}", stopped.expect_err("a duplicate key"));
    assert!(text.contains("Duplicate entry"), "{text}");
}

#[tokio::test]
async fn accounts_of_the_service_can_log_in_over_tcp() {
    let cluster = Cluster::start(1).await.expect("a node starts");
    let node = &cluster.nodes[0];
    node.conn(REPL_ACCOUNT).await.expect("repl logs in");
    assert!(node.conn(("repl", "wrong")).await.is_err());
}
