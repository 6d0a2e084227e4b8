//! Order without any timestamp: the bank at full speed, and transactions in doubt, named and resolved by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::sleep;
use tributary_tests::bank::{BankOptions, Mix};
use tributary_tests::mysqld::Mysqld;

use crate::sum;
use crate::world::{World, mysqlbinlog_from, text};

/// A bank whose coordinator knows no timestamps.
fn timeless(seed: u64) -> BankOptions {
    BankOptions {
        seed: Some(seed),
        stamped: false,
        mix: Mix {
            one_phase: 0,
            local_stamped: 0,
            ..Mix::default()
        },
        ..BankOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bank_arrives_whole_without_any_timestamp() -> Result<()> {
    let mut world = World::start(|options| options.order = "causal".into()).await?;
    let replica = world.replica("replica", 201).await?;
    let bank = world
        .bank(BankOptions {
            duration: Some(Duration::from_secs(20)),
            ddl_every: Some(Duration::from_secs(4)),
            ..timeless(5)
        })
        .await?;
    let (last, expected) = (
        Arc::new(AtomicU64::new(0)),
        (bank.options().accounts as usize, bank.expected_sum()),
    );
    let (opts, until) = (world.service.opts(), last.clone());
    let watcher = tokio::spawn(async move {
        sum::watch(opts, expected, || {
            Some(until.load(Ordering::SeqCst)).filter(|l| *l > 0)
        })
        .await
    });
    let stats = bank.run().await?;
    println!("bank: {stats:?}");
    ensure!(stats.committed() > 500, "the bank did too little");
    world.same(&bank, &replica).await?;
    last.store(world.last_gno().await?, Ordering::SeqCst);
    println!(
        "the sum held behind each of {} transactions",
        watcher.await??
    );
    ensure!(stamped(&world).await? == 0, "the nodes have timestamps");
    world.service.stop().await?;
    world.verified().await?;
    world.no_errors_logged()
}

/// How many commits in the nodes' binlogs carry a timestamp that is not their own.
async fn stamped(world: &World) -> Result<usize> {
    let mut count = 0;
    for node in &world.cluster.nodes {
        let mut conn = Conn::new(node.root_opts()).await?;
        let logs: Vec<mysql_async::Row> = conn.query("SHOW BINARY LOGS").await?;
        for log in logs {
            let name: String = log.get(0).context("a name")?;
            let output = mysqlbinlog_from(node.port(), &[&name], world.cluster.dir()).await?;
            ensure!(output.status.success(), "{}", text(&output));
            let events = String::from_utf8_lossy(&output.stdout).into_owned();
            let times = events.lines().filter_map(|l| l.strip_prefix("# "));
            let (mut original, mut immediate) = ("", "");
            for line in times {
                if let Some(rest) = line.strip_prefix("original_commit_timestamp=") {
                    original = rest.split(' ').next().unwrap_or("");
                } else if let Some(rest) = line.strip_prefix("immediate_commit_timestamp=") {
                    immediate = rest.split(' ').next().unwrap_or("");
                    count += usize::from(original != immediate);
                }
            }
            ensure!(!immediate.is_empty(), "no GTID event in {name}");
        }
    }
    Ok(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_again_and_again_keeps_the_causal_order() -> Result<()> {
    let mut world = World::start(|options| options.order = "causal".into()).await?;
    let replica = world.replica("replica", 201).await?;
    let bank = world
        .bank(BankOptions {
            rate: Some(300.0),
            workers: 4,
            ..timeless(6)
        })
        .await?;
    let running = tokio::spawn({
        let bank = bank.clone();
        async move { bank.run().await }
    });
    for _ in 0..8 {
        sleep(Duration::from_millis(rand::random_range(50..1200))).await;
        world.service.kill9();
        world.service.launch().await?;
    }
    world.cluster.nodes[1].kill9();
    world.cluster.nodes[1].launch().await?;
    sleep(Duration::from_secs(1)).await;
    bank.close();
    println!("bank: {:?}", running.await??);
    world.all_is_well(&bank, &replica).await?;
    world.no_errors_logged()
}

/// Sessions on each node, and a table.
pub(crate) async fn sessions(world: &World) -> Result<Vec<Conn>> {
    let mut conns = Vec::new();
    for node in &world.cluster.nodes {
        let mut conn = Conn::new(node.root_opts()).await?;
        conn.query_drop("CREATE DATABASE IF NOT EXISTS d").await?;
        let table = "CREATE TABLE IF NOT EXISTS d.t (id INT PRIMARY KEY, v VARCHAR(20))";
        conn.query_drop(table).await?;
        conns.push(conn);
    }
    Ok(conns)
}

pub(crate) fn xid(name: &str, node: usize) -> String {
    let hex = |text: &str| text.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    format!("X'{}',X'{}',7", hex(name), hex(&format!("b{node}")))
}

/// Prepares a branch that inserts `id`.
pub(crate) async fn prepare(conn: &mut Conn, name: &str, node: usize, id: u32) -> Result<()> {
    let xid = xid(name, node);
    let sql = format!(
        "XA START {xid}; INSERT INTO d.t VALUES ({id}, '{name}'); XA END {xid}; XA PREPARE {xid}"
    );
    Ok(conn.query_drop(sql).await?)
}

/// Ids in the replica's table.
pub(crate) async fn ids(replica: &Mysqld) -> Result<Vec<u32>> {
    let mut conn = Conn::new(replica.root_opts()).await?;
    let found: mysql_async::Result<Vec<u32>> = conn.query("SELECT id FROM d.t ORDER BY id").await;
    Ok(found.unwrap_or_default())
}

pub(crate) async fn wait_for_ids(replica: &Mysqld, expected: &[u32]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = ids(replica).await?;
        if found == expected {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{found:?}, not {expected:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the status names `xid` of `node` as what is waited for.
async fn named(world: &World, node: &str, xid: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let status = world.service.status().await?;
        let blocked = status.0.pointer("/merger/blocked").cloned();
        let entries = blocked.as_ref().and_then(|b| b.as_array()).cloned();
        let found = entries.iter().flatten().any(|b| {
            let text = |key: &str| b[key].as_str().unwrap_or_default().to_owned();
            text("node") == node
                && text("on") == "prepare"
                && text("what").contains(xid)
                && text("advice").contains(&format!("XA COMMIT {xid}"))
                && b["since_ms"].as_u64() > Some(0)
        });
        if found {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "not named: {blocked:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn causal_in_doubt_on_one_node_blocks_only_what_must_follow() -> Result<()> {
    let world = World::start(|options| {
        options.order = "causal".into();
        options.cluster_extra = "warn_blocked_after = \"1s\"\n".into();
    })
    .await?;
    let replica = world.replica("replica", 201).await?;
    let mut conns = sessions(&world).await?;
    let [first, second, third] = conns.as_mut_slice() else {
        anyhow::bail!("three nodes");
    };
    prepare(first, "doubt", 0, 1).await?;
    prepare(second, "doubt", 1, 2).await?;
    // Prepared before the commit, so it need not follow it.
    let mut other = Conn::new(world.cluster.nodes[0].root_opts()).await?;
    prepare(&mut other, "beside", 0, 3).await?;
    prepare(third, "beside", 2, 4).await?;
    // The coordinator dies between its two commits.
    first
        .query_drop(format!("XA COMMIT {}", xid("doubt", 0)))
        .await?;
    other
        .query_drop(format!("XA COMMIT {}", xid("beside", 0)))
        .await?;
    third
        .query_drop(format!("XA COMMIT {}", xid("beside", 2)))
        .await?;
    third
        .query_drop("INSERT INTO d.t VALUES (5, 'alone')")
        .await?;
    first
        .query_drop("INSERT INTO d.t VALUES (6, 'behind')")
        .await?;
    wait_for_ids(&replica, &[3, 4, 5]).await?;
    named(&world, "dn2", &xid("doubt", 1)).await?;
    sleep(Duration::from_millis(1500)).await;
    ensure!(
        ids(&replica).await? == [3, 4, 5],
        "what must follow has come"
    );
    let log = std::fs::read_to_string(world.service.log_path())?;
    let warned = log
        .lines()
        .any(|l| l.contains("WARN") && l.contains("the merge waits"));
    ensure!(warned, "no warning in the log");

    second
        .query_drop(format!("XA COMMIT {}", xid("doubt", 1)))
        .await?;
    wait_for_ids(&replica, &[1, 2, 3, 4, 5, 6]).await?;

    // A heuristic outcome: committed on one node, rolled back on the other.
    prepare(first, "torn", 0, 7).await?;
    prepare(second, "torn", 1, 8).await?;
    first
        .query_drop(format!("XA COMMIT {}", xid("torn", 0)))
        .await?;
    second
        .query_drop(format!("XA ROLLBACK {}", xid("torn", 1)))
        .await?;
    wait_for_ids(&replica, &[1, 2, 3, 4, 5, 6, 7]).await?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.service.status().await?.0["merger"]["heuristics"].as_u64() != Some(1) {
        ensure!(Instant::now() < deadline, "the outcome is not counted");
        sleep(Duration::from_millis(50)).await;
    }
    world.no_errors_logged()
}

#[tokio::test(flavor = "multi_thread")]
async fn tso_in_doubt_is_named_and_resolved_by_hand() -> Result<()> {
    let mut world = World::start(|_| {}).await?;
    let replica = world.replica("replica", 201).await?;
    let mut conns = sessions(&world).await?;
    // One transaction is committed by hand, without a timestamp; the other rolled back. The service restarts between.
    let stamp = "SET SESSION original_commit_timestamp = 1900000000000000; ";
    prepare(&mut conns[0], "doubt", 0, 1).await?;
    prepare(&mut conns[1], "doubt", 1, 2).await?;
    prepare(&mut conns[1], "never", 1, 3).await?;
    prepare(&mut conns[2], "later", 2, 4).await?;
    conns[2]
        .query_drop(format!("{stamp}XA COMMIT {}", xid("later", 2)))
        .await?;
    named(&world, "dn1", &xid("doubt", 0)).await?;
    ensure!(ids(&replica).await?.is_empty());
    world.service.kill9();
    conns[0]
        .query_drop(format!("XA COMMIT {}", xid("doubt", 0)))
        .await?;
    world.service.launch().await?;
    named(&world, "dn2", &xid("doubt", 1)).await?;
    conns[1]
        .query_drop(format!("XA COMMIT {}", xid("doubt", 1)))
        .await?;
    named(&world, "dn2", &xid("never", 1)).await?;
    conns[1]
        .query_drop(format!("XA ROLLBACK {}", xid("never", 1)))
        .await?;
    wait_for_ids(&replica, &[1, 2, 4]).await?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.service.status().await?.0["merger"]["untimed"].as_u64() != Some(2) {
        ensure!(Instant::now() < deadline, "the commits are not counted");
        sleep(Duration::from_millis(50)).await;
    }
    world.no_errors_logged()
}
