//! The coordinator and the bank: nothing is lost when a node is killed under load.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use tokio::time::sleep;
use tributary_tests::bank::{Bank, BankOptions};
use tributary_tests::cluster::Cluster;
use tributary_tests::coordinator::{Branch, Coordinator, Finish, Outcome};
use tributary_tests::mysqld::Mysqld;
use tributary_tests::tso::Tso;

async fn prepared_on(node: &Mysqld) -> usize {
    let mut conn = node.root().await.expect("a connection");
    let rows: Vec<mysql_async::Row> = conn.query("XA RECOVER").await.expect("XA RECOVER");
    rows.len()
}

#[tokio::test]
async fn the_bank_keeps_its_sum_while_a_node_is_killed() {
    let mut cluster = Cluster::start(2).await.expect("nodes start");
    let options = BankOptions {
        duration: Some(Duration::from_secs(8)),
        ddl_every: Some(Duration::from_millis(700)),
        seed: Some(42),
        ..BankOptions::default()
    };
    let bank = Bank::new(cluster.app_opts(), options).expect("sound options");
    bank.open().await.expect("the bank opens");
    let running = tokio::spawn({
        let bank = Arc::clone(&bank);
        async move { bank.run().await }
    });
    sleep(Duration::from_secs(3)).await;
    let before = bank.stats();
    cluster.nodes[1].kill9();
    sleep(Duration::from_millis(500)).await;
    cluster.nodes[1]
        .launch()
        .await
        .expect("the node comes back");
    let stats = running
        .await
        .expect("no panic")
        .expect("everything is finished");

    assert!(before.distributed > 50, "{before}");
    assert!(
        stats.distributed > before.distributed + 50,
        "before {before}; after {stats}"
    );
    assert!(
        stats.aborted + stats.unknown > 0,
        "the kill was felt: {stats}"
    );
    assert!(
        stats.rolled_back > 0 && stats.alone > 0 && stats.ddl > 2,
        "{stats}"
    );
    assert_eq!(
        bank.totals().await.expect("sums"),
        (300, bank.expected_sum())
    );
    for node in &cluster.nodes {
        assert_eq!(
            prepared_on(node).await,
            0,
            "{} has branches in doubt",
            node.name()
        );
    }
}

#[tokio::test]
async fn a_branch_in_doubt_survives_a_kill_and_gets_its_timestamp() {
    let mut cluster = Cluster::start(2).await.expect("nodes start");
    cluster
        .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)")
        .await
        .expect("DDL");
    let coordinator = Coordinator::new("test", cluster.app_opts(), Arc::new(Tso::new()));
    let insert = |node| Branch {
        node,
        statements: vec!["INSERT INTO d.t VALUES (1)".to_owned()],
    };
    let branches = [insert(0), insert(1)];
    let outcome = coordinator
        .session()
        .run(&branches, Finish::LeaveInDoubt)
        .await;
    let Outcome::InDoubt { gtrid } = outcome else {
        panic!("{outcome:?}")
    };
    cluster.nodes[0].kill9();
    cluster.nodes[0]
        .launch()
        .await
        .expect("the node comes back");
    coordinator.recover_once().await;
    assert_eq!(
        prepared_on(&cluster.nodes[0]).await,
        1,
        "undecided, so left alone"
    );

    let tso = coordinator
        .resolve(&gtrid, true)
        .await
        .expect("a commit has a timestamp");
    coordinator
        .settle(Duration::from_secs(20))
        .await
        .expect("all is finished");
    for node in &cluster.nodes {
        assert_eq!(
            node.row::<i64>("SELECT COUNT(*) FROM d.t")
                .await
                .expect("a count"),
            1
        );
        let log = binlog_text(node).await;
        assert!(
            log.contains(&format!("original_commit_timestamp={tso}")),
            "{}",
            node.name()
        );
    }
}

#[tokio::test]
async fn every_way_to_finish_does_what_it_says() {
    let cluster = Cluster::start(2).await.expect("nodes start");
    cluster
        .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)")
        .await
        .expect("DDL");
    let coordinator = Coordinator::new("test", cluster.app_opts(), Arc::new(Tso::new()));
    let mut session = coordinator.session();
    let insert = |node, id| Branch {
        node,
        statements: vec![format!("INSERT INTO d.t VALUES ({id})")],
    };
    let stamped = [
        session
            .run(&[insert(0, 1), insert(1, 1)], Finish::TwoPhase)
            .await,
        session.run(&[insert(0, 2)], Finish::OnePhase).await,
        session.run(&[insert(0, 3)], Finish::LocalStamped).await,
    ];
    let log = binlog_text(&cluster.nodes[0]).await;
    let mut last = 0;
    for outcome in stamped {
        let Outcome::Committed { tso: Some(tso) } = outcome else {
            panic!("{outcome:?}")
        };
        assert!(tso > last, "timestamps rise");
        last = tso;
        assert!(
            log.contains(&format!("original_commit_timestamp={tso}")),
            "{tso}"
        );
    }
    for (finish, id) in [(Finish::TwoPhaseUnstamped, 4), (Finish::Local, 5)] {
        let outcome = session.run(&[insert(0, id)], finish).await;
        assert_eq!(outcome, Outcome::Committed { tso: None }, "{finish:?}");
    }
    let outcome = session
        .run(&[insert(0, 6), insert(1, 6)], Finish::RollbackPrepared)
        .await;
    assert_eq!(outcome, Outcome::RolledBack);
    // The second branch fails, so the first must not stay.
    let outcome = session
        .run(&[insert(0, 7), insert(1, 1)], Finish::TwoPhase)
        .await;
    assert!(matches!(outcome, Outcome::Aborted { .. }), "{outcome:?}");
    coordinator
        .settle(Duration::from_secs(20))
        .await
        .expect("all is finished");
    let ids: Vec<i64> = cluster.nodes[0]
        .rows("SELECT id FROM d.t ORDER BY id")
        .await
        .expect("rows");
    assert_eq!(ids, [1, 2, 3, 4, 5]);
}

/// What `mysqlbinlog` says about the node's first binlog file and those after it.
async fn binlog_text(node: &Mysqld) -> String {
    let program = tributary_tests::tools::mysql_program("mysqlbinlog").expect("mysqlbinlog");
    let files: Vec<_> = (1..9)
        .map(|number| node.datadir().join(format!("binlog.{number:06}")))
        .filter(|path| path.exists())
        .collect();
    let output = tokio::process::Command::new(program)
        .arg("--no-defaults")
        .args(files)
        .output()
        .await
        .expect("mysqlbinlog runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
