//! A cluster that grows and shrinks while money moves: two nodes, four, three; no restart, rows copied from node to node
//! beside the binlog, and the accounts add up behind every transaction that comes out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Mutex, RwLock};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tributary_tests::cluster::Cluster;
use tributary_tests::coordinator::{Branch, Coordinator, Finish, Outcome};
use tributary_tests::mysqld::{APP_ACCOUNT, Mysqld};
use tributary_tests::service::{Service, ServiceOptions, Status};
use tributary_tests::tso::Tso;

use crate::sum;
use crate::world::{becomes_same, grows, ordered};

const ACCOUNTS: usize = 60;
const BALANCE: i64 = 1000;
const WORKERS: u64 = 4;

/// How long the merged stream may pause at a change. The machine of a test may be busy with others: what it was is printed.
fn pause_max() -> u64 {
    let set = std::env::var("TRIBUTARY_PAUSE_MS").ok();
    set.and_then(|ms| ms.parse().ok()).unwrap_or(1_000)
}

/// Where each account is. Held for reading by whoever uses one, for writing by whoever moves one.
type Map = Arc<RwLock<Vec<usize>>>;

/// The application: transfers, and schema changes now and then.
struct App {
    coordinator: Arc<Coordinator>,
    map: Map,
    /// Held while a schema change runs on one node after the other, and while nodes come and go.
    schema: Arc<Mutex<()>>,
    closing: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    columns: AtomicU64,
}

impl App {
    fn start(nodes: &[Mysqld]) -> Arc<Self> {
        let opts = nodes.iter().map(|node| node.opts(APP_ACCOUNT)).collect();
        Arc::new(Self {
            coordinator: Coordinator::new("scaling", opts, Arc::new(Tso::new())),
            map: Arc::new(RwLock::new((0..ACCOUNTS).map(|id| id % 2).collect())),
            schema: Arc::default(),
            closing: Arc::default(),
            committed: Arc::default(),
            columns: AtomicU64::new(0),
        })
    }

    fn run(self: &Arc<Self>) -> Vec<JoinHandle<Result<()>>> {
        let mut tasks: Vec<_> = (0..WORKERS)
            .map(|seed| tokio::spawn(Arc::clone(self).transfers(seed)))
            .collect();
        tasks.push(tokio::spawn(Arc::clone(self).schema_changes()));
        tasks
    }

    async fn transfers(self: Arc<Self>, seed: u64) -> Result<()> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut session = self.coordinator.session();
        while !self.closing.load(SeqCst) {
            let from = rng.random_range(0..ACCOUNTS);
            let to = (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
            let map = self.map.read().await;
            let mut at: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            // Always in the order of the accounts: no deadlocks.
            for (id, change) in BTreeMap::from([(from, -1), (to, 1)]) {
                at.entry(map[id]).or_default().push(format!(
                    "UPDATE shop.accounts SET balance = balance + {change} WHERE id = {id}"
                ));
            }
            let branches: Vec<Branch> = (at.into_iter())
                .map(|(node, statements)| Branch { node, statements })
                .collect();
            let finish = match branches.len() {
                1 => Finish::Local,
                _ => Finish::TwoPhase,
            };
            if matches!(
                session.run(&branches, finish).await,
                Outcome::Committed { .. }
            ) {
                self.committed.fetch_add(1, SeqCst);
            }
            drop(map);
            sleep(Duration::from_millis(3)).await;
        }
        self.coordinator.settle(Duration::from_secs(60)).await
    }

    /// A column more, then the oldest one less, on every node there is or will be.
    async fn schema_changes(self: Arc<Self>) -> Result<()> {
        let mut session = self.coordinator.session();
        while !self.closing.load(SeqCst) {
            let guard = self.schema.lock().await;
            let n = self.columns.fetch_add(1, SeqCst);
            let sql = match n % 2 {
                0 => format!("ALTER TABLE shop.notes ADD COLUMN extra_{n} INT DEFAULT 7"),
                _ => format!("ALTER TABLE shop.notes DROP COLUMN extra_{}", n - 1),
            };
            for node in 0..self.coordinator.node_count() {
                session.execute(node, &sql).await.context(sql.clone())?;
            }
            drop(guard);
            sleep(Duration::from_millis(400)).await;
        }
        Ok(())
    }

    /// A rebalancer: moves accounts with all their rows to `node`, beside the binlog.
    async fn move_to(
        &self,
        node: usize,
        nodes: &[Mysqld],
        take: impl Fn(usize, usize) -> bool,
    ) -> Result<usize> {
        let mut map = self.map.write().await;
        let mut moved = 0;
        for id in 0..ACCOUNTS {
            let from = map[id];
            if from == node || !take(id, from) {
                continue;
            }
            let mut conn = nodes[from].root().await?;
            let query = format!("SELECT owner, balance FROM shop.accounts WHERE id = {id}");
            let row: Option<(String, i64)> =
                mysql_async::prelude::Queryable::query_first(&mut conn, query).await?;
            let (owner, balance) = row.context("the account is where the map says")?;
            nodes[node]
                .sql(&format!(
                    "SET SESSION sql_log_bin = 0; INSERT INTO shop.accounts VALUES ({id}, '{owner}', {balance})"
                ))
                .await?;
            nodes[from]
                .sql(&format!(
                    "SET SESSION sql_log_bin = 0; DELETE FROM shop.accounts WHERE id = {id}"
                ))
                .await?;
            map[id] = node;
            moved += 1;
        }
        Ok(moved)
    }
}

/// The stage: four servers, of which the service knows two at first.
struct Stage {
    service: Service,
    cluster: Cluster,
    app: Arc<App>,
}

impl Stage {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start(4).await?;
        // Four empty servers with the same tables; those of the latecomers are made beside the binlog.
        const TABLES: &str = "CREATE DATABASE shop; \
             CREATE TABLE shop.accounts (id BIGINT PRIMARY KEY, owner VARCHAR(40), balance BIGINT NOT NULL); \
             CREATE TABLE shop.notes (id BIGINT PRIMARY KEY, note TEXT);";
        for (n, node) in cluster.nodes.iter().enumerate() {
            let beside = if n < 2 {
                ""
            } else {
                "SET SESSION sql_log_bin = 0; "
            };
            node.sql(&format!("{beside}{TABLES}")).await?;
        }
        let options = ServiceOptions::new("tso", &cluster.nodes[..2]);
        let service = Service::start(options, cluster.dir()).await?;
        let app = App::start(&cluster.nodes);
        let mut session = app.coordinator.session();
        let rows = |node: usize| {
            let ids = (0..ACCOUNTS).filter(|id| id % 2 == node);
            let rows: Vec<_> = ids
                .map(|id| format!("({id}, 'o{id}', {BALANCE})"))
                .collect();
            vec![format!(
                "INSERT INTO shop.accounts VALUES {}",
                rows.join(", ")
            )]
        };
        let branches = [0, 1].map(|node| Branch {
            node,
            statements: rows(node),
        });
        let outcome = session.run(&branches, Finish::TwoPhase).await;
        ensure!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
        Ok(Self {
            service,
            cluster,
            app,
        })
    }

    /// Runs `tributary nodes …` while no schema change is half done.
    async fn nodes(&self, args: &[&str]) -> Result<String> {
        let _quiet = self.app.schema.lock().await;
        let before = self.app.committed.load(SeqCst);
        let began = Instant::now();
        let shown = nodes(&self.service, args).await?;
        let took = began.elapsed();
        let pause = pause_of(&shown)?;
        println!(
            "nodes {}: {took:?}, pause {pause} ms, {} transfers meanwhile",
            args.join(" "),
            self.app.committed.load(SeqCst) - before
        );
        ensure!(pause <= pause_max(), "{shown}");
        Ok(shown)
    }

    async fn add(&self, node: usize) -> Result<String> {
        let url = format!("mysql://repl@127.0.0.1:{}", self.cluster.nodes[node].port());
        let name = format!("dn{}", node + 1);
        let args = [
            "add",
            &name,
            "--url",
            &url,
            "--password-env",
            "TRIBUTARY_DN1_PASSWORD",
        ];
        self.nodes(&args).await
    }

    /// The replica has what the nodes have together.
    async fn same(&self, replica: &Mysqld) -> Result<()> {
        let _quiet = self.app.schema.lock().await;
        let _stopped = self.app.map.write().await;
        self.app.coordinator.settle(Duration::from_secs(60)).await?;
        let shards: Vec<_> = self.cluster.nodes.iter().map(Mysqld::root_opts).collect();
        becomes_same(&shards, replica, &self.service).await
    }

    async fn progress(&self, more: u64) -> Result<()> {
        grows(&self.app.committed, more).await
    }
}

fn has_nodes(status: &Status, wanted: &[&str]) -> Result<()> {
    let states = status.node_states();
    let names: Vec<&str> = states.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(names == wanted, "{names:?}");
    Ok(())
}

/// Runs `tributary nodes …`; an error is what it says when it fails.
pub(crate) async fn nodes(service: &Service, args: &[&str]) -> Result<String> {
    ordered(service, "nodes", args).await
}

/// `… the nodes were not read for 123 ms`
fn pause_of(shown: &str) -> Result<u64> {
    let words = shown.trim_end().strip_suffix(" ms");
    let number = words.and_then(|w| w.rsplit(' ').next());
    number
        .and_then(|n| n.parse().ok())
        .with_context(|| shown.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_come_and_go_under_a_running_bank() -> Result<()> {
    let mut stage = Stage::start().await?;
    let replica = stage.cluster.start_replica("replica", 201).await?;
    replica.replicate_from(&stage.service.source()).await?;
    let tasks = stage.app.run();
    stage.progress(100).await?;
    let pid = stage.service.process().context("it runs")?.id();

    // Two become four; half of the accounts move.
    for node in [2, 3] {
        let shown = stage.add(node).await?;
        ensure!(
            shown.contains(&format!("node dn{} joined", node + 1)),
            "{shown}"
        );
        let moved = stage
            .app
            .move_to(node, &stage.cluster.nodes, |id, _| id % 4 == node)
            .await?;
        ensure!(moved == ACCOUNTS / 4, "{moved}");
        stage.progress(100).await?;
        stage.same(&replica).await?;
    }
    // Four become three: all that dn1 has moves, then it leaves.
    let moved = stage
        .app
        .move_to(3, &stage.cluster.nodes, |_, from| from == 0)
        .await?;
    ensure!(moved > 0);
    stage.progress(50).await?;
    let shown = stage.nodes(&["remove", "dn1"]).await?;
    ensure!(shown.contains("node dn1 left"), "{shown}");
    stage.nodes(&["rename", "dn4", "dn7"]).await?;
    stage.progress(100).await?;
    stage.same(&replica).await?;
    ensure!(
        stage.service.process().context("it runs")?.id() == pid,
        "restarted"
    );

    stage.app.closing.store(true, SeqCst);
    for task in tasks {
        task.await??;
    }
    stage.same(&replica).await?;
    let status = stage.service.status().await?;
    has_nodes(&status, &["dn2", "dn3", "dn7"])?;
    let last = status.last_gno().context("nothing is durable")?;
    let expected = (ACCOUNTS, BALANCE * ACCOUNTS as i64);
    let watched = sum::watch(stage.service.opts(), expected, || Some(last)).await?;
    println!(
        "{} transfers; the accounts add up behind each of {watched} transactions",
        stage.app.committed.load(SeqCst)
    );
    ensure!(watched == last);
    // The file still names the nodes of the beginning: what commands did counts.
    stage.service.restart().await?;
    has_nodes(&stage.service.status().await?, &["dn2", "dn3", "dn7"])
}
