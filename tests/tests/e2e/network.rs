//! A network that fails on both sides of the service, between it and its nodes and between it and its clients, while the bank runs with
//! DDL: what arrives does not depend on it.
//!
//! Every connection goes over a proxy that breaks it in turn: one byte at a time, resets in the middle of an event, stalls, delays,
//! partitions that nobody is told of, refusals, connections that come twice. `TRIBUTARY_NETWORK_ROUNDS=100` for the long story.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tributary_tests::bank::{Bank, BankOptions, StatsSnapshot};
use tributary_tests::cluster::Cluster;
use tributary_tests::faults::{Fault, FaultProxy};
use tributary_tests::mysqld::{Mysqld, REPL_ACCOUNT};
use tributary_tests::service::{Service, ServiceOptions};

use crate::world::{CATCH_UP, World, binlogs, mysqlbinlog_from, text};

/// In this order, each proxy one further than the one before it.
const FAULTS: [Fault; 8] = [
    Fault::OneByte,
    Fault::ResetAfter(70_001),
    Fault::Partition,
    Fault::Stall(30_000, Duration::from_millis(700)),
    Fault::None,
    Fault::Duplicate,
    Fault::Refuse,
    Fault::Delay(Duration::from_millis(30)),
];
const ROUND: Duration = Duration::from_secs(2);
/// A partition this long is noticed: three heartbeats of five seconds did not come.
const NOTICED: Duration = Duration::from_secs(40);

fn rounds() -> usize {
    let set = std::env::var("TRIBUTARY_NETWORK_ROUNDS").ok();
    set.and_then(|n| n.parse().ok()).unwrap_or(FAULTS.len())
}

struct Stage {
    world: World,
    /// Before each node.
    nodes: Vec<FaultProxy>,
    /// Before the service.
    clients: FaultProxy,
    replica: Mysqld,
}

impl Stage {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start(3).await?;
        let mut options = ServiceOptions::new("tso", &cluster.nodes);
        options.max_binlog_size = Some("512KiB".into());
        let mut nodes = Vec::new();
        for (entry, node) in options.nodes.iter_mut().zip(&cluster.nodes) {
            let proxy = FaultProxy::start(node.port()).await?;
            entry.urls = vec![format!(
                "mysql://{}@127.0.0.1:{}",
                REPL_ACCOUNT.0,
                proxy.port()
            )];
            nodes.push(proxy);
        }
        let service = Service::start(options, cluster.dir()).await?;
        let clients = FaultProxy::start(service.port()).await?;
        let replica = cluster.start_replica("replica", 201).await?;
        // It notices a connection that says nothing for this long.
        replica.sql("SET GLOBAL replica_net_timeout = 4").await?;
        let mut source = service.source();
        source.port = clients.port();
        replica.replicate_from(&source).await?;
        let world = World { service, cluster };
        Ok(Self {
            world,
            nodes,
            clients,
            replica,
        })
    }

    fn proxies(&self) -> impl Iterator<Item = &FaultProxy> {
        self.nodes.iter().chain([&self.clients])
    }

    /// Nothing goes wrong any more.
    fn heal(&self) {
        for proxy in self.proxies() {
            proxy.fault(Fault::None);
        }
    }

    /// Everything goes wrong in turn, on all connections at once, and differently.
    async fn storm(&self) {
        for round in 0..rounds() {
            for (n, proxy) in self.proxies().enumerate() {
                proxy.fault(FAULTS[(round + 3 * n) % FAULTS.len()]);
            }
            sleep(ROUND).await;
        }
        self.heal();
    }

    /// One node is cut off long enough to be missed, and the replica's connection stalls for ten seconds, again and again.
    async fn silence(&self) -> Result<()> {
        self.nodes[1].fault(Fault::Partition);
        self.clients.fault(Fault::Stall(1, Duration::from_secs(10)));
        let missed = |s: &tributary_tests::service::Status| {
            s.troubles("dn2").0.iter().any(|name| name == "node-hung")
        };
        let service = &self.world.service;
        service
            .wait_status("dn2 is missed", NOTICED, missed)
            .await?;
        // It ends with the connections gone.
        self.nodes[1].fault(Fault::Refuse);
        sleep(Duration::from_secs(1)).await;
        self.heal();
        let found = |s: &tributary_tests::service::Status| {
            let (now, last) = s.troubles("dn2");
            now.is_empty() && !last.is_empty()
        };
        service
            .wait_status("dn2 is found again", CATCH_UP, found)
            .await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_fails_on_both_sides_changes_nothing() -> Result<()> {
    let stage = Stage::start().await?;
    let world = &stage.world;
    let pid = world.service.pid();
    let options = BankOptions {
        ddl_every: Some(Duration::from_secs(3)),
        duration: Some(ROUND * u32::try_from(rounds())? + Duration::from_secs(15)),
        rate: Some(100.0),
        seed: Some(75),
        ..BankOptions::default()
    };
    let bank = world.bank(options).await?;
    let running = running(&bank);
    stage.storm().await;
    let resets = stage.proxies().map(FaultProxy::resets).sum::<u64>();
    println!("{resets} connections were reset in the middle");
    ensure!(resets > 0, "none was");
    stage.silence().await?;
    let stats = running.await??;
    println!("bank: {stats:?}");
    world.all_is_well(&bank, &stage.replica).await?;
    ensure!(world.service.pid() == pid, "it was restarted");
    copied_byte_by_byte(&stage).await?;
    world.no_errors_logged()
}

fn running(bank: &Arc<Bank>) -> JoinHandle<Result<StatsSnapshot>> {
    let bank = Arc::clone(bank);
    tokio::spawn(async move { bank.run().await })
}

/// mysqlbinlog gets the same bytes over a connection that passes them one by one.
async fn copied_byte_by_byte(stage: &Stage) -> Result<()> {
    let data = stage.world.service.data_dir();
    let first = binlogs(&data)?.first().context("there are files")?.clone();
    let dir = stage.world.cluster.dir().join("copies");
    std::fs::create_dir_all(&dir)?;
    stage.clients.fault(Fault::OneByte);
    let output = mysqlbinlog_from(stage.clients.port(), &["--raw", &first], &dir).await?;
    ensure!(output.status.success(), "{}", text(&output));
    let read = |dir: &Path| std::fs::read(dir.join(&first));
    ensure!(read(&data)? == read(&dir)?, "{first} differs");
    Ok(())
}

/// A client that vanishes without a word leaves nothing behind: the replica's new connection ends the dump of the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_cut_off_is_replaced() -> Result<()> {
    let stage = Stage::start().await?;
    let service = &stage.world.service;
    stage
        .world
        .cluster
        .sql("CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, v LONGTEXT)")
        .await?;
    let one_dump = |s: &tributary_tests::service::Status| s.dump_clients() == 1;
    service
        .wait_status("the replica reads", CATCH_UP, one_dump)
        .await?;
    for round in 0..3 {
        stage.clients.fault(Fault::Partition);
        let rows = format!("INSERT INTO shop.t VALUES ({round}, REPEAT('x', 900000))");
        stage.world.cluster.nodes[0].sql(&rows).await?;
        // The replica has noticed, closed, and tries in vain.
        let given_up = Instant::now() + CATCH_UP;
        loop {
            let status = stage.replica.replica_status().await?.unwrap_or_default();
            if status.io_running != "Yes" {
                break;
            }
            ensure!(Instant::now() < given_up, "{status}");
            sleep(Duration::from_millis(100)).await;
        }
        stage.clients.fault(Fault::None);
        let there = format!("SELECT COUNT(*) = {} FROM shop.t", round + 1);
        stage
            .replica
            .wait_until(&there, CATCH_UP)
            .await
            .with_context(|| service.log_tail())?;
        service
            .wait_status("one dump is left", CATCH_UP, one_dump)
            .await?;
    }
    stage.world.no_errors_logged()
}
