//! Collectors against real MySQL servers.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use tokio::time::sleep;
use tributary_binlog::{GtidSet, XaXid};
use tributary_collector::{CollectorConfig, NodeState, Probe, Start, TlsMode, settings_problems};
use tributary_flow::{NodeProgress, Tso, TxnKind};
use tributary_tests::mysqld::MysqldOptions;

use crate::rig::{PATIENCE, Rig, Server, until};
use crate::stream::body;

const TABLE: &str =
    "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT)";

fn xid(gtrid: &str) -> XaXid {
    XaXid::new(1, gtrid.as_bytes(), b"dn1").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_a_node_commits_arrives_as_what_it_is() {
    let server = Server::start(MysqldOptions::node("dn1", 11)).await;
    let (a, b, c) = (xid("a"), xid("b"), xid("c"));
    server.sql(TABLE).await;
    let mut config = server.config();
    config.servers[0].tls = TlsMode::Required;
    config.servers[0].ca = Some(server.mysqld.datadir().join("ca.pem"));
    let mut rig = Rig::spawn(config, None);
    assert_eq!(rig.starts.recv().await.unwrap().1.before, GtidSet::new());
    server.sql("INSERT INTO shop.t (v) VALUES ('one')").await;
    let branch = |x: &XaXid, end: &str| {
        format!("XA START {x}; INSERT INTO shop.t (v) VALUES ('x'); XA END {x}; {end}")
    };
    server
        .sql(&branch(
            &a,
            &format!("XA PREPARE {a}; SET original_commit_timestamp = 1234567; XA COMMIT {a}"),
        ))
        .await;
    server
        .sql(&branch(&b, &format!("XA PREPARE {b}; XA ROLLBACK {b}")))
        .await;
    server
        .sql(&branch(&c, &format!("XA COMMIT {c} ONE PHASE")))
        .await;
    server
        .sql("CREATE TABLE shop.copied AS SELECT * FROM shop.t")
        .await;
    server
        .sql("BEGIN; INSERT INTO shop.t (v) VALUES ('p'); SAVEPOINT s; INSERT INTO shop.t (v) VALUES ('q'); COMMIT")
        .await;
    server.sql("DROP TABLE shop.copied").await;
    let executed = server.executed().await;
    let txns = rig.read_all(&GtidSet::new(), &executed).await;
    let kinds: Vec<_> = txns.iter().map(|t| t.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            TxnKind::Ddl,
            TxnKind::Ddl,
            TxnKind::Local,
            TxnKind::Prepare(a),
            TxnKind::Commit(a),
            TxnKind::Prepare(b),
            TxnKind::Rollback(b),
            TxnKind::OnePhase(c),
            TxnKind::Local,
            TxnKind::Local,
            TxnKind::Ddl,
        ]
    );
    let tsos: Vec<_> = txns.iter().filter_map(|t| t.tso).collect();
    assert_eq!(tsos, [Tso::new(1_234_567).unwrap()]);
    assert_eq!(txns[4].tso, Some(tsos[0]));
    let types: Vec<_> = body(&txns[8]).iter().map(|(ty, _)| ty.name()).collect();
    assert_eq!(
        types,
        ["Query", "Table_map", "Write_rows"],
        "CREATE TABLE … SELECT"
    );
    let types: Vec<_> = body(&txns[9]).iter().map(|(ty, _)| ty.name()).collect();
    assert_eq!(
        types,
        [
            "Table_map",
            "Write_rows",
            "Query",
            "Table_map",
            "Write_rows"
        ]
    );
    assert!(txns.windows(2).all(|w| w[0].end < w[1].end));

    until("the status follows", || rig.status().transactions == 11).await;
    let status = rig.status();
    assert!(matches!(status.state, NodeState::Streaming));
    assert_eq!(status.received.parse::<GtidSet>().unwrap(), executed);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fences_are_passed_when_everything_before_them_has_come() {
    let server = Server::start(MysqldOptions::node("dn1", 11)).await;
    server.sql(TABLE).await;
    let mut rig = Rig::spawn(server.config(), None);
    rig.read_all(&GtidSet::new(), &server.executed().await)
        .await;

    // A fence behind a write is passed only with that write.
    server.sql("INSERT INTO shop.t (v) VALUES ('fenced')").await;
    let fence = rig.fence(1).await.expect("the node is there");
    let last = rig
        .pass(fence)
        .await
        .pop()
        .expect("the write lies before the fence");
    assert!(last.end <= fence);
    assert!(server.executed().await.contains(&last.gtid));
    // An idle node says how far it is, also behind a rotation.
    server.sql("FLUSH BINARY LOGS").await;
    let fence = rig.fence(2).await.expect("the node is there");
    rig.pass(fence).await;
    until("heartbeats", || rig.status().last_heartbeat.is_some()).await;

    assert_eq!(rig.status().position.file, fence.file);
    rig.stop().await;

    // With nothing left to send, the node's position is known at once, without waiting for a heartbeat.
    server
        .sql("INSERT INTO shop.t (v) VALUES ('skipped')")
        .await;
    let mut config = server.config();
    config.heartbeat = Duration::from_secs(600);
    let progress = NodeProgress {
        emitted: server.executed().await,
        before_start: GtidSet::new(),
        ..NodeProgress::default()
    };
    let mut rig = Rig::spawn(config, Some(progress));
    let fence = rig.fence(3).await.expect("the node is there");
    assert!(rig.pass(fence).await.is_empty());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_read_on_without_loss_or_doubles() {
    let mut server = Server::start(MysqldOptions::node("dn1", 11)).await;
    server.sql(TABLE).await;
    let mut rig = Rig::spawn(server.config(), None);
    let mut have = GtidSet::new();
    for round in 0..3 {
        let conn = server.mysqld.root().await.unwrap();
        let load = tokio::spawn(async move {
            let mut conn = conn;
            let mut committed = 0;
            while conn
                .query_drop("INSERT INTO shop.t (v) VALUES (REPEAT('x', 3000))")
                .await
                .is_ok()
            {
                committed += 1;
            }
            committed
        });
        let mut txns = rig.read_for(Duration::from_millis(700)).await;
        server.mysqld.kill9();
        txns.extend(rig.read_for(Duration::from_millis(300)).await);
        assert!(load.await.unwrap() > 10);
        let waiting = rig.state("retrying").await;
        // On a slow machine it may have been shaking hands just then.
        let said = ["connect", "closed", "handshake"];
        assert!(said.iter().any(|said| waiting.contains(said)), "{waiting}");
        for txn in txns {
            assert!(have.add(txn.gtid), "round {round}: {} came twice", txn.gtid);
        }
        assert_eq!(rig.fence(round).await, None, "a dead node cannot be asked");
        server.mysqld.launch().await.unwrap();
    }
    let executed = server.executed().await;
    for txn in rig.read_all(&have, &executed).await {
        have.add(txn.gtid);
    }
    assert_eq!(have, executed);
    rig.stop().await;

    // A new process resumes from what a checkpoint says.
    let mut some = GtidSet::new();
    let uuid = executed.iter().next().unwrap().0;
    some.union(&format!("{uuid}:1-20").parse().unwrap());
    let progress = NodeProgress {
        emitted: some.clone(),
        before_start: GtidSet::new(),
        ..NodeProgress::default()
    };
    let mut rig = Rig::spawn(server.config(), Some(progress));
    let rest = rig.read_all(&some, &executed).await;
    assert_eq!(rest.len() as u64, executed.count() - 20);
    assert!(
        rig.starts.try_recv().is_err(),
        "only a first start is announced"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_settings_are_each_reported_and_watched_until_repaired() {
    let mut options = MysqldOptions::node("dn1", 11);
    options.node_flags = false;
    let options = options
        .arg("--log-bin=binlog")
        .arg("--gtid-mode=OFF_PERMISSIVE")
        .arg("--enforce-gtid-consistency=WARN")
        .arg("--binlog-format=MIXED")
        .arg("--binlog-row-image=MINIMAL");
    let server = Server::start(options).await;
    server
        .sql("CREATE USER 'poor'@'%' IDENTIFIED BY 'poor'")
        .await;
    let mut config = server.config();
    (config.servers[0].user, config.servers[0].password) = ("poor".into(), "poor".into());
    config.server_id = 11;
    let uuid: String = server.mysqld.row("SELECT @@server_uuid").await.unwrap();
    let probe = Probe {
        nodes: vec![
            ("dn1".into(), config.servers[0].clone()),
            ("dn2".into(), server.url()),
            (
                "dn3".into(),
                tributary_collector::NodeUrl {
                    port: 1,
                    ..server.url()
                },
            ),
        ],
        server_id: 11,
        uuid: None,
    };
    let problems: Vec<String> = settings_problems(&probe)
        .await
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = |node: &str| {
        [
            "gtid_mode is OFF_PERMISSIVE, must be ON: run ",
            "enforce_gtid_consistency is WARN, must be ON: run SET PERSIST enforce_gtid_consistency = ON",
            "binlog_format is MIXED, must be ROW: run SET PERSIST binlog_format = ROW",
            "binlog_row_image is MINIMAL, must be FULL: run SET PERSIST binlog_row_image = FULL",
            "server_id is 11, the same as this service's own",
        ]
        .map(|text| format!("node {node}: {text}"))
        .to_vec()
    };
    let mut wanted = expected("dn1");
    wanted.push(
        "node dn1: account 'poor'@'%' lacks REPLICATION SLAVE: run GRANT REPLICATION SLAVE".into(),
    );
    wanted.push(
        "node dn1: account 'poor'@'%' lacks REPLICATION CLIENT: run GRANT REPLICATION CLIENT"
            .into(),
    );
    wanted.extend(expected("dn2"));
    wanted.push(format!(
        "node dn2: server_uuid is {uuid}, the same as that of node dn1"
    ));
    wanted.push("node dn3: cannot connect to 127.0.0.1:1".into());
    assert_eq!(problems.len(), wanted.len(), "{problems:#?}");
    for (problem, wanted) in problems.iter().zip(&wanted) {
        assert!(problem.starts_with(wanted), "{problem}\n{wanted}");
    }

    watched_until_repaired(&server, config).await;
}

async fn watched_until_repaired(server: &Server, mut config: CollectorConfig) {
    config.server_id = 4294;
    config.start = Start::Current;
    let mut rig = Rig::spawn(config.clone(), None);
    let text = rig.state("retrying").await;
    for part in [
        "gtid_mode",
        "binlog_format",
        "binlog_row_image",
        "REPLICATION SLAVE",
        "REPLICATION CLIENT",
    ] {
        assert!(text.contains(part), "{text}");
    }
    server
        .sql(
            "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO poor; SET GLOBAL binlog_format = ROW; \
             SET GLOBAL binlog_row_image = FULL; SET GLOBAL enforce_gtid_consistency = ON; \
             SET GLOBAL gtid_mode = ON_PERMISSIVE; SET GLOBAL gtid_mode = ON",
        )
        .await;
    rig.handle.retry_now();
    rig.state("streaming").await;
    server.sql(TABLE).await;
    let before = rig.starts.recv().await.unwrap().1.before;
    assert_eq!(
        rig.read_all(&before, &server.executed().await).await.len(),
        2
    );
    rig.stop().await;

    // What was written before has no GTIDs; the node itself begins behind it.
    config.start = Start::Earliest;
    let mut rig = Rig::spawn(config, None);
    assert_eq!(
        rig.read_all(&before, &server.executed().await).await.len(),
        2
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_transactions_arrive_opened() {
    let server =
        Server::start(MysqldOptions::node("dn1", 11).arg("--binlog-transaction-compression=ON"))
            .await;
    server.sql(TABLE).await;
    let mut rig = Rig::spawn(server.config(), None);
    let x = xid("zip");
    server
        .sql("INSERT INTO shop.t (v) VALUES (REPEAT('small', 100))")
        .await;
    server.sql("INSERT INTO shop.t (v) SELECT REPEAT('large', 1000000) FROM (VALUES ROW(1), ROW(2)) AS two").await;
    server
        .sql(&format!(
            "XA START {x}; INSERT INTO shop.t (v) VALUES ('x'); XA END {x}; XA PREPARE {x}; XA COMMIT {x}"
        ))
        .await;
    let executed = server.executed().await;
    let txns = rig.read_all(&GtidSet::new(), &executed).await;
    assert_eq!(txns.len(), 6);
    assert!(txns[3].body.len() > 10_000_000, "{}", txns[3].body.len());
    assert!(rig.status().bytes < 1_000_000, "it travelled compressed");
    for txn in &txns[2..4] {
        let types: Vec<_> = body(txn).iter().map(|(ty, _)| ty.name()).collect();
        assert_eq!(types[..2], ["Table_map", "Write_rows"]);
    }
    assert_eq!(
        (&txns[4].kind, &txns[5].kind),
        (&TxnKind::Prepare(x), &TxnKind::Commit(x))
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn back_pressure_bounds_memory_and_nothing_deadlocks() {
    const BUDGET: usize = 1 << 20;
    let server = Server::start(MysqldOptions::node("dn1", 11)).await;
    server.sql(TABLE).await;
    for _ in 0..30 {
        server
            .sql("INSERT INTO shop.t (v) VALUES (REPEAT('x', 1000000))")
            .await;
    }
    let mut config = server.config();
    config.bytes_max = BUDGET;
    let mut rig = Rig::spawn(config, None);
    until("it pauses", || rig.status().paused).await;
    sleep(Duration::from_secs(2)).await;
    assert!(
        rig.status().paused,
        "three heartbeats of silence are not held against a node we do not read"
    );
    let held = rig.handle.bytes_in_flight();
    assert!((BUDGET..4 * BUDGET).contains(&held), "{held}");
    rig.handle.grant_overdraft(3 << 20);
    until("the overdraft is used", || {
        rig.handle.bytes_in_flight() > held + (2 << 20)
    })
    .await;
    until("it pauses again", || rig.status().paused).await;
    assert!(
        rig.handle.bytes_in_flight() < held + (6 << 20),
        "{}",
        rig.handle.bytes_in_flight()
    );
    let executed = server.executed().await;
    // Transactions are dropped as they come: everything flows. The table's rows go into one transaction of 30 MB.
    let mut have = GtidSet::new();
    rig = drain(rig, &mut have, &executed, 8 * BUDGET).await;
    server
        .sql("CREATE TABLE shop.u LIKE shop.t; INSERT INTO shop.u SELECT * FROM shop.t")
        .await;
    let executed = server.executed().await;
    rig = drain(rig, &mut have, &executed, 50 << 20).await;
    assert!(have == executed);
    until("all is released", || rig.handle.bytes_in_flight() == 0).await;
    rig.stop().await;
}

/// Receives all of `wanted`, dropping each batch; never may more than `limit` bytes be in flight.
async fn drain(mut rig: Rig, have: &mut GtidSet, wanted: &GtidSet, limit: usize) -> Rig {
    while !wanted.is_subset(have) {
        let batch = tokio::time::timeout(PATIENCE, rig.batches.recv())
            .await
            .expect("it flows")
            .unwrap();
        assert!(
            rig.handle.bytes_in_flight() < limit,
            "{}",
            rig.handle.bytes_in_flight()
        );
        for item in batch.items {
            if let tributary_flow::NodeItem::Txn(txn) = item {
                assert!(have.add(txn.gtid));
            }
        }
    }
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_work_in_every_way_and_refusals_are_shown() {
    let server = Server::start(MysqldOptions::node("dn1", 11)).await;
    server.sql(TABLE).await;
    let url = server.url();
    // No login with this account before: the first one is in full, with the server's RSA key; the second is fast.
    for (tls, user) in [
        (TlsMode::Disabled, "rsa"),
        (TlsMode::Disabled, "rsa"),
        (TlsMode::Required, "over_tls"),
        (TlsMode::Preferred, "nopassword"),
    ] {
        let password = if user == "nopassword" { "" } else { "p'ä%ss" };
        server
            .sql(&format!(
                "CREATE USER IF NOT EXISTS {user} IDENTIFIED BY \"{password}\"; \
                 GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user}"
            ))
            .await;
        let mut config = server.config();
        config.servers[0].tls = tls;
        (config.servers[0].user, config.servers[0].password) = (user.into(), password.into());
        let mut rig = Rig::spawn(config, None);
        let txns = rig
            .read_all(&GtidSet::new(), &server.executed().await)
            .await;
        assert!(txns.len() >= 2);
        rig.stop().await;
    }
    for (change, text) in [
        (
            "password",
            "retrying: cannot log in as 'repl': ERROR 1045 (28000): Access denied",
        ),
        ("port", "retrying: cannot connect to 127.0.0.1:1:"),
        ("ca", "retrying: TLS handshake failed"),
        ("no ca", "retrying: CA file"),
    ] {
        let mut config = server.config();
        match change {
            "password" => config.servers[0].password = "wrong".into(),
            "port" => config.servers[0].port = 1,
            "ca" => {
                // A certificate that did not sign the server's.
                config.servers[0].tls = TlsMode::Required;
                config.servers[0].ca = Some(server.mysqld.datadir().join("client-cert.pem"));
            }
            _ => config.servers[0].ca = Some("/nowhere/ca.pem".into()),
        }
        let rig = Rig::spawn(config, None);
        rig.state(text).await;
        rig.stop().await;
    }
    assert!(!format!("{url:?}").contains(&url.password));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_go_on_from_here_halts_with_the_exact_sets() {
    let server = Server::start(MysqldOptions::node("dn1", 11)).await;
    server.sql(TABLE).await;
    for _ in 0..10 {
        server
            .sql("INSERT INTO shop.t (v) VALUES ('x'); FLUSH BINARY LOGS")
            .await;
    }
    let uuid: String = server.mysqld.row("SELECT @@server_uuid").await.unwrap();
    let (file, _) = server.mysqld.binlog_position().await.unwrap();
    server.sql(&format!("PURGE BINARY LOGS TO '{file}'")).await;
    let set = |gnos: &str| format!("{uuid}:{gnos}").parse::<GtidSet>().unwrap();

    // Purged behind what was emitted.
    let progress = NodeProgress {
        emitted: set("3-5"),
        before_start: set("1-2"),
        ..NodeProgress::default()
    };
    let rig = Rig::spawn(server.config(), Some(progress));
    let text = rig.state("halted").await;
    assert!(
        text.contains(&format!("not read yet: {uuid}:6-12.")),
        "{text}"
    );
    rig.stop().await;

    // The first start takes what is there, or what is to come.
    server
        .sql("INSERT INTO shop.t (v) VALUES ('thirteenth')")
        .await;
    let mut rig = Rig::spawn(server.config(), None);
    assert_eq!(rig.starts.recv().await.unwrap().1.before, set("1-12"));
    assert_eq!(rig.read_all(&set("1-12"), &set("1-13")).await.len(), 1);
    rig.stop().await;
    let mut config = server.config();
    config.start = Start::Current;
    let mut rig = Rig::spawn(config, None);
    let start = rig.starts.recv().await.unwrap().1;
    assert_eq!(start.before, set("1-13"));
    // What lies before the start is not in the stream: the node shows its tables itself.
    let tables = start.tables;
    assert!(tables.complete);
    let known: Vec<_> = tables
        .tables
        .iter()
        .map(|(s, t, sql)| (s.as_str(), t.as_str(), sql.split('\n').next().unwrap()))
        .collect();
    assert_eq!(known, [("shop", "t", "CREATE TABLE `t` (")]);
    rig.state("streaming").await;
    server
        .sql("INSERT INTO shop.t (v) VALUES ('fourteenth')")
        .await;
    let txns = rig.read_all(&set("1-13"), &set("1-14")).await;
    assert_eq!(txns.len(), 1);

    // The node forgets what was read: seen at the next connection, and again after a retry.
    server.sql("RESET BINARY LOGS AND GTIDS").await;
    let text = rig.state("halted").await;
    assert!(
        text.contains(&format!("already read from it: {uuid}:1-14 ")),
        "{text}"
    );
    server
        .sql(&format!("SET GLOBAL gtid_purged = '{uuid}:1-14'"))
        .await;
    rig.handle.retry_now();
    rig.state("streaming").await;
    server
        .sql("INSERT INTO shop.t (v) VALUES ('fifteenth')")
        .await;
    assert_eq!(rig.read_all(&set("1-14"), &set("1-15")).await.len(), 1);
    rig.stop().await;
}
