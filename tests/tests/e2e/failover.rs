//! Nodes that fail over to their replicas, again and again, while money moves between them: nothing is lost, nothing comes twice, a
//! transaction that is prepared on the old server and committed on the new one is whole.
//!
//! Two nodes of two servers each. In even rounds an operator hands over; in odd ones the server is killed (what only a dead server
//! has is lost to everybody, so its replica has all of it by then). `TRIBUTARY_FAILOVERS=20` for the full story.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::RwLock;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tributary_tests::cluster::{Cluster, Workplace};
use tributary_tests::coordinator::{Branch, Coordinator, Finish, Outcome};
use tributary_tests::mysqld::{APP_ACCOUNT, Mysqld, MysqldOptions, ReplicationSource};
use tributary_tests::service::{NodeEntry, Service, ServiceOptions};
use tributary_tests::tso::Tso;

use crate::sum;
use crate::world::{CATCH_UP, becomes_same, last_gno, verified};

const ACCOUNTS: i64 = 40;
const BALANCE: i64 = 1000;
const WORKERS: u64 = 3;
/// From the moment the new server takes writes to a transaction on it being on the merged log's replica.
const RESUMED_WITHIN: Duration = Duration::from_secs(5);

fn rounds() -> usize {
    let set = std::env::var("TRIBUTARY_FAILOVERS").ok();
    set.and_then(|n| n.parse().ok()).unwrap_or(4)
}

/// A node: two servers that replicate from one another in turn.
struct Group {
    servers: [Mysqld; 2],
    primary: usize,
}

impl Group {
    async fn start(number: u32, parent: &std::path::Path) -> Result<Self> {
        let start = |letter: &str, id| {
            let options = MysqldOptions::node(&format!("dn{number}{letter}"), id);
            Mysqld::start(options.arg("--relay-log=relay"), parent)
        };
        let id = 100 + 10 * number;
        let (a, b) = tokio::join!(start("a", id), start("b", id + 1));
        let group = Self {
            servers: [a?, b?],
            primary: 0,
        };
        group.follow().await?;
        Ok(group)
    }

    fn primary(&self) -> &Mysqld {
        &self.servers[self.primary]
    }

    fn replica(&self) -> &Mysqld {
        &self.servers[1 - self.primary]
    }

    /// The entry of the configuration.
    fn entry(&self, name: &str) -> NodeEntry {
        let [mut entry, other] = [0, 1].map(|n| NodeEntry::of(&self.servers[n]));
        entry.name = name.to_owned();
        entry.urls.extend(other.urls);
        entry
    }

    /// The replica follows the primary.
    async fn follow(&self) -> Result<()> {
        let replica = self.replica();
        replica.sql("SET GLOBAL super_read_only = ON").await?;
        let source = ReplicationSource::local(self.primary().port());
        replica.replicate_from(&source).await?;
        self.caught_up().await
    }

    async fn caught_up(&self) -> Result<()> {
        let gtids = self.primary().gtid_executed().await?;
        self.replica().wait_for_gtids(&gtids, CATCH_UP).await
    }

    async fn promote(&mut self) -> Result<()> {
        self.replica()
            .sql("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF")
            .await?;
        self.primary = 1 - self.primary;
        Ok(())
    }

    /// The server that was killed comes back as a replica.
    async fn come_back(&mut self) -> Result<()> {
        let old = &mut self.servers[1 - self.primary];
        let args = &mut old.options_mut().extra_args;
        let read_only = "--super-read-only=ON".to_owned();
        if !args.contains(&read_only) {
            args.push(read_only);
        }
        old.launch().await?;
        self.follow().await
    }
}

/// The application.
struct App {
    /// Who coordinates, over the primaries of the day; held for writing while a node has none.
    coordinator: RwLock<Arc<Coordinator>>,
    tso: Arc<Tso>,
    /// What makes the notes of a node; held for writing while its server is about to be killed.
    gates: [RwLock<()>; 2],
    closing: AtomicBool,
    transfers: AtomicU64,
    notes: AtomicU64,
}

impl App {
    fn start(groups: &[Group]) -> Arc<Self> {
        let tso = Arc::new(Tso::new());
        let coordinator = Coordinator::new("failover", primaries(groups), Arc::clone(&tso));
        Arc::new(Self {
            coordinator: RwLock::new(coordinator),
            tso,
            gates: [RwLock::new(()), RwLock::new(())],
            closing: AtomicBool::new(false),
            transfers: AtomicU64::new(0),
            notes: AtomicU64::new(0),
        })
    }

    fn run(self: &Arc<Self>, groups: &[Group]) -> Vec<JoinHandle<()>> {
        let transfers = (0..WORKERS).map(|n| tokio::spawn(Arc::clone(self).transfer(n as i64)));
        let mut tasks: Vec<_> = transfers.collect();
        for (n, group) in groups.iter().enumerate() {
            let servers = (group.servers.iter())
                .map(|s| s.opts(APP_ACCOUNT))
                .collect();
            tasks.push(tokio::spawn(Arc::clone(self).write_notes(n, servers)));
        }
        tasks
    }

    /// Money moves between an account of the first node and one of the second, of those that are this worker's.
    async fn transfer(self: Arc<Self>, worker: i64) {
        let mut turn = worker;
        while !self.closing.load(SeqCst) {
            let coordinator = self.coordinator.read().await;
            turn = (turn + WORKERS as i64) % ACCOUNTS;
            let branches =
                [(0, turn, -1), (1, ACCOUNTS + turn, 1)].map(|(node, id, change)| Branch {
                    node,
                    statements: vec![format!(
                        "UPDATE shop.accounts SET balance = balance + {change} WHERE id = {id}"
                    )],
                });
            let outcome = coordinator.session().run(&branches, Finish::TwoPhase).await;
            if matches!(outcome, Outcome::Committed { .. }) {
                self.transfers.fetch_add(1, SeqCst);
            }
            drop(coordinator);
            sleep(Duration::from_millis(3)).await;
        }
    }

    /// Local transactions on whichever server of a node takes them, also while it is handed over.
    async fn write_notes(self: Arc<Self>, node: usize, servers: Vec<mysql_async::Opts>) {
        let mut number = node as u64;
        while !self.closing.load(SeqCst) {
            for opts in &servers {
                let Ok(mut conn) = Conn::new(opts.clone()).await else {
                    continue;
                };
                while !self.closing.load(SeqCst) {
                    let _open = self.gates[node].read().await;
                    // One that failed may be there all the same: its number is not used again.
                    number += 2;
                    let sql = format!("INSERT INTO shop.notes VALUES ({number}, REPEAT('n', 200))");
                    if conn.query_drop(sql).await.is_err() {
                        break;
                    }
                    self.notes.fetch_add(1, SeqCst);
                    sleep(Duration::from_millis(1)).await;
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn counts(&self) -> (u64, u64) {
        (self.transfers.load(SeqCst), self.notes.load(SeqCst))
    }
}

fn primaries(groups: &[Group]) -> Vec<mysql_async::Opts> {
    let primaries = groups.iter().map(Group::primary);
    primaries.map(|p| p.opts(APP_ACCOUNT)).collect()
}

struct Stage {
    service: Service,
    groups: Vec<Group>,
    replica: Mysqld,
    app: Arc<App>,
    /// Has the directory.
    _cluster: Cluster,
}

impl Stage {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start_with(0, Workplace::temporary()?, |o| o).await?;
        let (one, two) = tokio::join!(
            Group::start(1, cluster.dir()),
            Group::start(2, cluster.dir())
        );
        let groups = vec![one?, two?];
        let none: [&Mysqld; 0] = [];
        let mut options = ServiceOptions::new("tso", none);
        options.nodes = vec![groups[0].entry("dn1"), groups[1].entry("dn2")];
        let service = Service::start(options, cluster.dir()).await?;
        for group in &groups {
            let tables = "CREATE DATABASE shop; \
                 CREATE TABLE shop.accounts (id BIGINT PRIMARY KEY, owner VARCHAR(40), balance BIGINT NOT NULL); \
                 CREATE TABLE shop.marks (id BIGINT PRIMARY KEY); \
                 CREATE TABLE shop.notes (id BIGINT PRIMARY KEY, note TEXT)";
            group.primary().sql(tables).await?;
        }
        let app = App::start(&groups);
        let branches = [0, 1].map(|node: usize| {
            let first = node as i64 * ACCOUNTS;
            let rows: Vec<_> = (first..first + ACCOUNTS)
                .map(|id| format!("({id}, 'o{id}', {BALANCE})"))
                .collect();
            Branch {
                node,
                statements: vec![format!(
                    "INSERT INTO shop.accounts VALUES {}",
                    rows.join(", ")
                )],
            }
        });
        let coordinator = Arc::clone(&*app.coordinator.read().await);
        let outcome = coordinator.session().run(&branches, Finish::TwoPhase).await;
        ensure!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
        let replica = cluster.start_replica("replica", 900).await?;
        replica.replicate_from(&service.source()).await?;
        Ok(Self {
            service,
            groups,
            replica,
            app,
            _cluster: cluster,
        })
    }

    /// A node fails over. How long it took from the moment the new server took writes until the merged log's replica had a transaction
    /// that was committed there.
    async fn round(&mut self, round: usize) -> Result<Duration> {
        let at = round / 2 % 2;
        // Prepared on the old server, committed on the new one.
        let xid = format!("mark-{round}");
        for (node, group) in self.groups.iter().enumerate() {
            let id = 2 * round + node;
            let mut conn = group.primary().root().await?;
            conn.query_drop(format!(
                "XA START '{xid}'; INSERT INTO shop.marks VALUES ({id}); XA END '{xid}'; XA PREPARE '{xid}'"
            ))
            .await?;
        }
        let app = Arc::clone(&self.app);
        let mut coordinator = app.coordinator.write().await;
        coordinator.settle(CATCH_UP).await?;
        let group = &mut self.groups[at];
        let killed = round % 2 == 1;
        if killed {
            let gate = app.gates[at].write().await;
            group.caught_up().await?;
            let old = group.primary;
            group.servers[old].kill9();
            drop(gate);
        } else {
            group
                .primary()
                .sql("SET GLOBAL super_read_only = ON")
                .await?;
            group.caught_up().await?;
        }
        group.promote().await?;
        let began = Instant::now();
        let label = format!("failover{round}");
        *coordinator = Coordinator::new(&label, primaries(&self.groups), Arc::clone(&app.tso));
        drop(coordinator);
        let tso = app.tso.next();
        for group in &self.groups {
            let mut conn = group.primary().root().await?;
            conn.query_drop(format!(
                "SET SESSION original_commit_timestamp = {tso}; XA COMMIT '{xid}'"
            ))
            .await?;
        }
        let both = format!("SELECT COUNT(*) = 2 FROM shop.marks WHERE id DIV 2 = {round}");
        let came = self.replica.wait_until(&both, CATCH_UP).await;
        came.with_context(|| self.service.log_tail())?;
        let took = began.elapsed();
        let group = &mut self.groups[at];
        match killed {
            true => group.come_back().await?,
            false => group.follow().await?,
        }
        Ok(took)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_fail_over_under_load() -> Result<()> {
    let mut stage = Stage::start().await?;
    let tasks = stage.app.run(&stage.groups);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds() {
        let before = stage.app.counts();
        let took = stage.round(round).await?;
        sleep(Duration::from_millis(300)).await;
        let after = stage.app.counts();
        println!(
            "failover {round}: read on after {took:?}; {} transfers and {} local transactions meanwhile",
            after.0 - before.0,
            after.1 - before.1
        );
        slowest = slowest.max(took);
        ensure!(
            after.0 > before.0 + 5 && after.1 > before.1 + 20,
            "the load runs"
        );
    }
    stage.app.closing.store(true, SeqCst);
    for task in tasks {
        task.await?;
    }
    let coordinator = Arc::clone(&*stage.app.coordinator.read().await);
    coordinator.settle(CATCH_UP).await?;
    let primaries = stage.groups.iter().map(|g| g.primary().root_opts());
    let shards: Vec<_> = primaries.collect();
    becomes_same(&shards, &stage.replica, &stage.service).await?;
    let last = last_gno(&stage.service).await?;
    let expected = (2 * ACCOUNTS as usize, 2 * ACCOUNTS * BALANCE);
    let watched = sum::watch(stage.service.opts(), expected, || Some(last)).await?;
    ensure!(watched == last, "{watched} of {last}");
    println!(
        "{} failovers, the slowest took {slowest:?}; the accounts add up behind each of {watched} transactions",
        rounds()
    );
    ensure!(slowest < RESUMED_WITHIN, "{slowest:?}");
    verified(&stage.service).await
}
