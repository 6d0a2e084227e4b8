//! How much faster a replica with several workers applies a stream than one with a single worker. In: nodes and the
//! service. Out: the time each takes for the same transactions, none of which conflicts with another.
//!
//! Both replicas receive everything first; then they apply it, one after the other.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::mysqld::{APP_ACCOUNT, Mysqld, MysqldOptions};
use crate::service::Service;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(300);
/// Clients that write to each node.
const SESSIONS: u64 = 4;

/// Both replicas' times.
#[derive(Debug, Clone, Copy)]
pub struct ApplyRace {
    /// Transactions applied.
    pub transactions: u64,
    /// Workers of the replica that has several.
    pub workers: u32,
    /// Time with one worker.
    pub one: Duration,
    /// Time with several.
    pub several: Duration,
}

impl ApplyRace {
    /// How many times faster several workers are.
    pub fn ratio(&self) -> f64 {
        self.one.as_secs_f64() / self.several.as_secs_f64()
    }
}

impl fmt::Display for ApplyRace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |time: &Duration| self.transactions as f64 / time.as_secs_f64();
        write!(
            f,
            "{} transactions without conflicts: 1 worker {:.1?} ({:.0}/s), {} workers {:.1?} ({:.0}/s): {:.2} times as fast",
            self.transactions,
            self.one,
            rate(&self.one),
            self.workers,
            self.several,
            rate(&self.several),
            self.ratio()
        )
    }
}

/// Lets `workers` race against one, with about this many transactions.
///
/// # Errors
/// When a server fails, or one of the replicas does not apply everything.
pub async fn race(
    cluster: &Cluster,
    service: &Service,
    workers: u32,
    transactions: u64,
) -> Result<ApplyRace> {
    cluster
        .sql(
            "CREATE DATABASE race; \
             CREATE TABLE race.t (id BIGINT PRIMARY KEY, a BIGINT, filler VARCHAR(200))",
        )
        .await?;
    let one = replica(cluster, service, 1).await?;
    let several = replica(cluster, service, workers).await?;
    let nodes = cluster.nodes.len() as u64;
    let each = transactions.div_ceil(2 * nodes * SESSIONS);
    let mut writing = JoinSet::new();
    for session in 0..nodes * SESSIONS {
        let node = &cluster.nodes[(session % nodes) as usize];
        writing.spawn(write(node.opts(APP_ACCOUNT), session, each));
    }
    while let Some(written) = writing.join_next().await {
        written??;
    }
    let written = 2 * each * nodes * SESSIONS;
    let all = received(service, &[&one, &several], written).await?;
    let one = apply(&one, &all).await?;
    let several = apply(&several, &all).await?;
    Ok(ApplyRace {
        transactions: written,
        workers,
        one,
        several,
    })
}

/// A replica as MySQL's defaults make it, each commit on disk, which has the table and applies nothing.
async fn replica(cluster: &Cluster, service: &Service, workers: u32) -> Result<Mysqld> {
    let options = MysqldOptions::replica(&format!("workers{workers}"), 300 + workers)
        .arg(&format!("--replica-parallel-workers={workers}"))
        .arg("--sync-binlog=1")
        .arg("--innodb-flush-log-at-trx-commit=1");
    let server = Mysqld::start(options, cluster.dir()).await?;
    server.replicate_from(&service.source()).await?;
    server
        .wait_until(
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'race'",
            LIMIT,
        )
        .await?;
    server.sql("STOP REPLICA SQL_THREAD").await?;
    Ok(server)
}

/// Inserts rows of its own and changes each once.
async fn write(opts: mysql_async::Opts, session: u64, rows: u64) -> Result<()> {
    use mysql_async::prelude::Queryable;
    let mut conn = mysql_async::Conn::new(opts).await?;
    let first = session << 32;
    for id in first..first + rows {
        let insert = format!("INSERT INTO race.t VALUES ({id}, 0, REPEAT('x', 100))");
        conn.query_drop(insert).await?;
    }
    for id in first..first + rows {
        conn.query_drop(format!("UPDATE race.t SET a = {id} WHERE id = {id}"))
            .await?;
    }
    Ok(conn.disconnect().await?)
}

/// Waits until the replicas have everything, and answers the set of GTIDs.
async fn received(service: &Service, replicas: &[&Mysqld], least: u64) -> Result<String> {
    let deadline = Instant::now() + LIMIT;
    let mut last = String::new();
    loop {
        ensure!(Instant::now() < deadline, "the replicas do not get {last}");
        sleep(Duration::from_millis(200)).await;
        let now = service.status().await?.gtid_executed();
        let count: u64 = (now.rsplit('-').next().unwrap_or_default())
            .parse()
            .unwrap_or(0);
        let still = now == last && count > least;
        last = now;
        let mut complete = still;
        for replica in replicas {
            let status = replica.replica_status().await?.context("a replica")?;
            let seen = format!("{},{}", status.retrieved_gtids, status.executed_gtids);
            let query = format!("SELECT GTID_SUBSET('{last}', '{seen}')");
            complete &= replica.row::<u8>(&query).await? == 1;
        }
        if complete {
            return Ok(last);
        }
    }
}

async fn apply(replica: &Mysqld, all: &str) -> Result<Duration> {
    let start = Instant::now();
    let seconds = LIMIT.as_secs();
    replica.sql("START REPLICA SQL_THREAD").await?;
    let query = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{all}', {seconds})");
    let late: u8 = replica.row(&query).await?;
    let time = start.elapsed();
    let status = replica.replica_status().await?;
    ensure!(late == 0, "{}: {status:?}", replica.name());
    Ok(time)
}
