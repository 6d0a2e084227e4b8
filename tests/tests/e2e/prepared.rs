//! Branches that stay prepared for so long that their node purges the binlog with their rows, and the service dies meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::sleep;
use tributary_tests::mysqld::Mysqld;
use tributary_tests::service::Status;

use crate::causal::{prepare, sessions, wait_for_ids, xid};
use crate::world::World;

/// For a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rows of the large branch, of 1000 bytes each.
const LARGE_ROWS: u32 = 9_000;

/// What the status says is kept: node and xid.
fn kept(status: &Status) -> Vec<(String, String)> {
    let all = status.0.pointer("/merger/kept").and_then(|k| k.as_array());
    let text = |k: &serde_json::Value, key: &str| k[key].as_str().unwrap_or_default().to_owned();
    let mut kept: Vec<_> = all
        .into_iter()
        .flatten()
        .map(|k| (text(k, "node"), text(k, "xid")))
        .collect();
    kept.sort();
    kept
}

async fn wait_kept(world: &World, expected: &[(&str, String)]) -> Result<Status> {
    let same = |status: &Status| {
        let kept = kept(status);
        let kept: Vec<(&str, String)> = kept.iter().map(|(n, x)| (n.as_str(), x.clone())).collect();
        kept == expected
    };
    let what = format!("kept: {expected:?}");
    world.service.wait_status(&what, PATIENCE, same).await
}

/// The node purges everything but the file that it writes now.
async fn purge(node: &Mysqld) -> Result<()> {
    node.sql("FLUSH BINARY LOGS").await?;
    let (file, _) = node.binlog_position().await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A file stays while the dump of a service that was killed still holds it.
        node.sql(&format!("PURGE BINARY LOGS TO '{file}'")).await?;
        let files: Vec<(String, u64, String)> = node.rows("SHOW BINARY LOGS").await?;
        if files.len() == 1 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{files:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Prepares a branch of several MiB, in one transaction of many statements.
async fn prepare_large(conn: &mut Conn, name: &str, node: usize, first: u32) -> Result<()> {
    let xid = xid(name, node);
    conn.query_drop(format!("XA START {xid}")).await?;
    for from in (0..LARGE_ROWS).step_by(500) {
        let rows =
            (from..from + 500).map(|n| format!("({}, REPEAT('{}', 1000))", first + n, n % 10));
        let rows: Vec<String> = rows.collect();
        let sql = format!("INSERT INTO d.large VALUES {}", rows.join(", "));
        conn.query_drop(sql).await?;
    }
    conn.query_drop(format!("XA END {xid}")).await?;
    Ok(conn.query_drop(format!("XA PREPARE {xid}")).await?)
}

/// What `tributary status` and `XA RECOVER` call the branches is the same.
async fn is_shown(world: &World) -> Result<()> {
    let shown = world.shown().await?;
    let recover = "XA RECOVER CONVERT XID";
    let rows: Vec<(u32, u32, u32, String)> = world.cluster.nodes[0].rows(recover).await?;
    ensure!(rows.len() == 2, "{rows:?}");
    for (format, gtrid, _, data) in rows {
        // Both parts of the id in one hexadecimal number.
        let hex = data.trim_start_matches("0x").to_lowercase();
        let (gtrid, bqual) = hex.split_at(gtrid as usize * 2);
        let xid = format!("X'{gtrid}',X'{bqual}',{format}");
        let line = shown
            .lines()
            .find(|l| l.starts_with("kept") && l.contains(&xid));
        let line = line.with_context(|| format!("{xid} is not in\n{shown}"))?;
        ensure!(line.contains("dn1") && line.contains("prepared"), "{line}");
    }
    Ok(())
}

async fn outlives_its_binlog(order: &str) -> Result<()> {
    let mut world = World::start(|options| {
        options.order = order.into();
        options.cluster_extra = "keep_prepared_after = \"1s\"\n".into();
    })
    .await?;
    let replica = world.replica("replica", 201).await?;
    let mut conns = sessions(&world).await?;
    for conn in &mut conns {
        let table = "CREATE TABLE IF NOT EXISTS d.large (id INT PRIMARY KEY, v VARCHAR(1000))";
        conn.query_drop(table).await?;
    }
    prepare(&mut conns[0], "doubt", 0, 1).await?;
    prepare(&mut conns[1], "doubt", 1, 2).await?;
    let mut other = Conn::new(world.cluster.nodes[0].root_opts()).await?;
    prepare_large(&mut other, "large", 0, 0).await?;
    prepare(&mut conns[2], "never", 2, 3).await?;
    let all = [
        ("dn1", xid("doubt", 0)),
        ("dn1", xid("large", 0)),
        ("dn2", xid("doubt", 1)),
        ("dn3", xid("never", 2)),
    ];
    wait_kept(&world, &all).await?;
    is_shown(&world).await?;
    // Life goes on where nobody must wait for them.
    let mut third = Conn::new(world.cluster.nodes[2].root_opts()).await?;
    third
        .query_drop("INSERT INTO d.t VALUES (5, 'alone')")
        .await?;
    wait_for_ids(&replica, &[5]).await?;

    world.service.kill9();
    for node in &world.cluster.nodes {
        purge(node).await?;
    }
    world.service.launch().await?;
    wait_kept(&world, &all).await?;
    third
        .query_drop("INSERT INTO d.t VALUES (6, 'later')")
        .await?;
    wait_for_ids(&replica, &[5, 6]).await?;
    // And once more, in an orderly way and not.
    world.service.restart().await?;
    wait_kept(&world, &all).await?;
    world.service.kill9();
    // While nobody looks, one is rolled back, and of the other one branch is committed.
    conns[2]
        .query_drop(format!("XA ROLLBACK {}", xid("never", 2)))
        .await?;
    conns[0]
        .query_drop(format!("XA COMMIT {}", xid("doubt", 0)))
        .await?;
    world.service.launch().await?;
    wait_kept(&world, &all[..3]).await?;
    conns[1]
        .query_drop(format!("XA COMMIT {}", xid("doubt", 1)))
        .await?;
    other
        .query_drop(format!("XA COMMIT {}", xid("large", 0)))
        .await?;
    wait_for_ids(&replica, &[1, 2, 5, 6]).await?;
    wait_kept(&world, &[]).await?;
    let count = format!(
        "SELECT COUNT(*) = {LARGE_ROWS} AND SUM(id) = {} AND SUM(v = REPEAT(id % 10, 1000)) = {LARGE_ROWS} FROM d.large",
        u64::from(LARGE_ROWS) * u64::from(LARGE_ROWS - 1) / 2
    );
    replica.wait_until(&count, PATIENCE).await?;

    // Nothing comes twice.
    let last = world.last_gno().await?;
    world.service.kill9();
    world.service.launch().await?;
    third
        .query_drop("INSERT INTO d.t VALUES (7, 'last')")
        .await?;
    wait_for_ids(&replica, &[1, 2, 5, 6, 7]).await?;
    ensure!(world.last_gno().await? == last + 1, "something came again");
    world.verified().await?;
    world.no_errors_logged()
}

#[tokio::test(flavor = "multi_thread")]
async fn tso_a_prepared_branch_outlives_the_binlog_that_held_it() -> Result<()> {
    outlives_its_binlog("tso").await
}

#[tokio::test(flavor = "multi_thread")]
async fn causal_a_prepared_branch_outlives_the_binlog_that_held_it() -> Result<()> {
    outlives_its_binlog("causal").await
}
