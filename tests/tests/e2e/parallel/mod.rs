//! Replicas that apply side by side: many small random workloads whose transactions conflict, on nodes and between
//! them. After each, a replica that keeps the order of commits and one that does not are the same as the shards.
//!
//! `TRIBUTARY_PARALLEL_WORKLOADS` says how many workloads there are.

mod conflicts;
mod workload;

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tributary_tests::cluster::{Cluster, Workplace};
use tributary_tests::compare::{CompareOptions, compare};
use tributary_tests::coordinator::{Branch, Coordinator, Finish, Outcome};
use tributary_tests::mysqld::{Mysqld, MysqldOptions};
use tributary_tests::service::{Service, ServiceOptions};
use tributary_tests::tso::Tso;

use crate::world::{CATCH_UP, World};
use workload::Rows;

const WORKLOADS: u64 = 40;
const TABLES: &str = "CREATE DATABASE par; \
    CREATE TABLE par.items (id BIGINT PRIMARY KEY, v BIGINT NOT NULL); \
    CREATE TABLE par.names (v BIGINT NOT NULL, name VARCHAR(30) PRIMARY KEY); \
    CREATE TABLE par.loose (id BIGINT NOT NULL, v BIGINT NOT NULL); \
    CREATE TABLE par.marks (n BIGINT, node INT, PRIMARY KEY (n, node))";

/// Everything the workloads share.
struct Stage {
    world: World,
    ordered: Mysqld,
    free: Mysqld,
    rows: Arc<Rows>,
    coordinator: Arc<Coordinator>,
    marks: u64,
}

/// Nodes that leave it to the kernel when their files reach the disk.
async fn world(nodes: u32, adjust: impl FnOnce(&mut ServiceOptions)) -> Result<World> {
    let lazy = |options: MysqldOptions| {
        options
            .arg("--sync-binlog=0")
            .arg("--innodb-flush-log-at-trx-commit=2")
    };
    let cluster = Cluster::start_with(nodes, Workplace::temporary()?, lazy).await?;
    let mut options = ServiceOptions::new("tso", &cluster.nodes);
    adjust(&mut options);
    let service = Service::start(options, cluster.dir()).await?;
    Ok(World { service, cluster })
}

impl Stage {
    async fn start() -> Result<Self> {
        let world = world(3, |options| options.max_binlog_size = Some("1MiB".into())).await?;
        world.cluster.sql(TABLES).await?;
        let free = MysqldOptions::replica("free", 202).arg("--replica-preserve-commit-order=OFF");
        let ordered = world.replica("ordered", 201).await?;
        let free = Mysqld::start(free, world.cluster.dir()).await?;
        free.replicate_from(&world.service.source()).await?;
        let coordinator =
            Coordinator::new("parallel", world.cluster.app_opts(), Arc::new(Tso::new()));
        Ok(Self {
            ordered,
            free,
            rows: Arc::new(Rows::default()),
            coordinator,
            marks: 0,
            world,
        })
    }

    /// One workload, while the nodes' files, tables and the service change now and then.
    async fn workload(&mut self, seed: u64) -> Result<u64> {
        let running = tokio::spawn(workload::run(
            Arc::clone(&self.coordinator),
            Arc::clone(&self.rows),
            seed,
        ));
        let node = &self.world.cluster.nodes[(seed % 3) as usize];
        if seed % 5 == 1 {
            node.sql("FLUSH BINARY LOGS").await?;
        }
        if seed % 20 == 3 {
            let table = format!("CREATE TABLE par.side{seed} (id INT PRIMARY KEY)");
            self.world.cluster.sql(&table).await?;
        }
        if seed % 60 == 31 {
            self.world.service.restart().await?;
        }
        let done = running.await??;
        self.coordinator.settle(CATCH_UP).await?;
        Ok(done)
    }

    /// Waits until both replicas have everything.
    async fn caught_up(&mut self) -> Result<()> {
        self.marks += 1;
        let n = self.marks;
        let branches: Vec<Branch> = (0..self.coordinator.node_count())
            .map(|node| Branch {
                node,
                statements: vec![format!("INSERT INTO par.marks VALUES ({n}, {node})")],
            })
            .collect();
        let outcome = self
            .coordinator
            .session()
            .run(&branches, Finish::TwoPhase)
            .await;
        ensure!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
        let query = format!(
            "SELECT COUNT(*) = {} FROM par.marks WHERE n = {n}",
            branches.len()
        );
        let waited = self.ordered.wait_until(&query, CATCH_UP).await;
        waited.with_context(|| self.world.service.log_tail())?;
        let all = self.ordered.gtid_executed().await?;
        self.free.wait_for_gtids(&all, CATCH_UP).await
    }

    async fn same(&self, readers: &mut [Conn]) -> Result<()> {
        for table in ["items", "names", "loose"] {
            let mut contents = Vec::new();
            for conn in readers.iter_mut() {
                let query = format!("SELECT * FROM par.{table}");
                let rows: Vec<(String, String)> = conn.query(query).await?;
                contents.push(rows);
            }
            let replicas = contents.split_off(3);
            let mut shards = contents.concat();
            shards.sort();
            for (mut rows, name) in replicas.into_iter().zip(["ordered", "free"]) {
                rows.sort();
                ensure!(
                    rows == shards,
                    "{table}: {name} has {rows:?}, the shards {shards:?}"
                );
            }
        }
        Ok(())
    }
}

fn workloads() -> u64 {
    let set = std::env::var("TRIBUTARY_PARALLEL_WORKLOADS").ok();
    set.and_then(|n| n.parse().ok()).unwrap_or(WORKLOADS)
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_side_by_side_are_never_wrong() -> Result<()> {
    let start = Instant::now();
    let mut stage = Stage::start().await?;
    stage.caught_up().await?;
    let mut readers = Vec::new();
    for server in (stage.world.cluster.nodes.iter()).chain([&stage.ordered, &stage.free]) {
        readers.push(server.root().await?);
    }
    let mut committed = 0;
    for seed in 1..=workloads() {
        let done = async {
            committed += stage.workload(seed).await?;
            stage.caught_up().await?;
            stage.same(&mut readers).await
        };
        done.await.with_context(|| format!("workload {seed}"))?;
    }
    let shards: Vec<_> = stage
        .world
        .cluster
        .nodes
        .iter()
        .map(Mysqld::root_opts)
        .collect();
    for replica in [&stage.ordered, &stage.free] {
        let result = compare(&shards, &replica.root_opts(), &CompareOptions::default()).await?;
        ensure!(result.is_same(), "{}: {result}", replica.name());
    }
    let found = conflicts::check(&stage.world.service.data_dir())?;
    println!(
        "{} workloads, {committed} transactions in {:.0?}: replicas and shards are the same; {found}",
        workloads(),
        start.elapsed()
    );
    ensure!(
        found.free * 10 > found.transactions,
        "nearly all wait: {found}"
    );
    ensure!(
        found.conflicts > committed / 4,
        "too few conflicts: {found}"
    );
    ensure!(found.across > committed / 400, "too few rows move: {found}");
    stage.world.verified().await?;
    stage.world.no_errors_logged()
}
