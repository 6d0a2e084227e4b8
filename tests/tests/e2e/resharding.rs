//! Rows that a rebalancer copies from node to node while money moves: by transactions whose format id is ignored, and into a table outside
//! every route until the routes are switched. None of the copies comes out, nothing is restarted, and the accounts add up behind
//! every transaction that comes out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable;
use tokio::sync::RwLock;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tributary_tests::cluster::Cluster;
use tributary_tests::coordinator::{Branch, Coordinator, Finish, Outcome};
use tributary_tests::mysqld::Mysqld;
use tributary_tests::service::{Service, ServiceOptions};
use tributary_tests::tso::Tso;

use crate::sum;
use crate::world::{CATCH_UP, grows, last_gno, ordered, verified};

const ACCOUNTS: usize = 60;
const BALANCE: i64 = 1000;
const WORKERS: usize = 3;

const BEFORE: &str = r#"
[[route]]
from = "shop.accounts_{*}"
to = "shop.accounts"

[ignore]
tables = ["shop.copy_*"]
xid_format_ids = [99]
"#;
const BEHIND: &str = r#"
[[route]]
from = "shop.accounts_2"
to = "shop.accounts"

[[route]]
from = "shop.copy_{*}"
to = "shop.accounts"

[ignore]
tables = ["shop.accounts_1"]
xid_format_ids = [99]
"#;

/// Node and table of each account; held for writing by whoever moves some.
type Map = RwLock<Vec<(usize, &'static str)>>;

struct App {
    coordinator: Arc<Coordinator>,
    map: Map,
    closing: AtomicBool,
    committed: AtomicU64,
}

impl App {
    fn run(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let worker = |n| tokio::spawn(Arc::clone(self).transfer(n));
        (0..WORKERS).map(worker).collect()
    }

    /// One account pays another, which is on the other node most of the time.
    async fn transfer(self: Arc<Self>, worker: usize) {
        let mut turn = worker;
        while !self.closing.load(SeqCst) {
            let map = self.map.read().await;
            turn += WORKERS;
            let (a, b) = (turn % ACCOUNTS, (turn * 7 + ACCOUNTS / 2) % ACCOUNTS);
            let change = |id: usize, by: i64| {
                let (node, table) = map[id];
                let sql =
                    format!("UPDATE shop.{table} SET balance = balance + {by} WHERE id = {id}");
                (node, sql)
            };
            let mut branches: Vec<Branch> = Vec::new();
            for (node, sql) in [change(a, -3), change(b, 3)] {
                match branches.iter_mut().find(|branch| branch.node == node) {
                    Some(branch) => branch.statements.push(sql),
                    None => branches.push(Branch {
                        node,
                        statements: vec![sql],
                    }),
                }
            }
            let outcome = self
                .coordinator
                .session()
                .run(&branches, Finish::TwoPhase)
                .await;
            if matches!(outcome, Outcome::Committed { .. }) {
                self.committed.fetch_add(1, SeqCst);
            }
            drop(map);
            sleep(Duration::from_millis(3)).await;
        }
    }

    async fn progress(&self, more: u64) -> Result<()> {
        grows(&self.committed, more).await
    }
}

struct Stage {
    service: Service,
    cluster: Cluster,
    app: Arc<App>,
    replica: Mysqld,
}

impl Stage {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start(2).await?;
        let mut options = ServiceOptions::new("tso", &cluster.nodes);
        options.tables = BEFORE.into();
        let service = Service::start(options, cluster.dir()).await?;
        let columns = "(id BIGINT PRIMARY KEY, owner VARCHAR(40), balance BIGINT NOT NULL)";
        for (n, node) in cluster.nodes.iter().enumerate() {
            let table = format!(
                "CREATE DATABASE shop; CREATE TABLE shop.accounts_{} {columns}",
                n + 1
            );
            node.sql(&table).await?;
        }
        cluster.nodes[1]
            .sql(&format!("CREATE TABLE shop.copy_1 {columns}"))
            .await?;
        let place = |id| [(0, "accounts_1"), (1, "accounts_2")][id % 2];
        let app = Arc::new(App {
            coordinator: Coordinator::new("resharding", cluster.app_opts(), Arc::new(Tso::new())),
            map: RwLock::new((0..ACCOUNTS).map(place).collect()),
            closing: AtomicBool::new(false),
            committed: AtomicU64::new(0),
        });
        let branches = [0, 1].map(|node: usize| {
            let rows: Vec<_> = (0..ACCOUNTS)
                .filter(|id| id % 2 == node)
                .map(|id| format!("({id}, 'o{id}', {BALANCE})"))
                .collect();
            Branch {
                node,
                statements: vec![format!(
                    "INSERT INTO shop.accounts_{} VALUES {}",
                    node + 1,
                    rows.join(", ")
                )],
            }
        });
        let outcome = app
            .coordinator
            .session()
            .run(&branches, Finish::TwoPhase)
            .await;
        ensure!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
        let replica = cluster.start_replica("replica", 201).await?;
        replica.replicate_from(&service.source()).await?;
        Ok(Self {
            service,
            cluster,
            app,
            replica,
        })
    }

    /// The replica has the accounts as the application knows them, and nothing else.
    async fn same(&self) -> Result<()> {
        let map = self.app.map.write().await;
        self.app.coordinator.settle(Duration::from_secs(60)).await?;
        let mut expected: Vec<(u64, i64)> = Vec::new();
        for (n, node) in self.cluster.nodes.iter().enumerate() {
            for table in ["accounts_1", "accounts_2", "copy_1"] {
                let ids = (0..ACCOUNTS).filter(|id| map[*id] == (n, table));
                let ids: Vec<_> = ids.map(|id| id.to_string()).collect();
                if !ids.is_empty() {
                    let sql = format!(
                        "SELECT id, balance FROM shop.{table} WHERE id IN ({})",
                        ids.join(",")
                    );
                    expected.extend(node.rows::<(u64, i64)>(&sql).await?);
                }
            }
        }
        expected.sort_unstable();
        ensure!(expected.len() == ACCOUNTS, "{expected:?}");
        let deadline = Instant::now() + CATCH_UP;
        loop {
            let sql = "SELECT id, balance FROM shop.accounts ORDER BY id";
            // Before its first transaction it has no such table.
            let rows = self
                .replica
                .rows::<(u64, i64)>(sql)
                .await
                .unwrap_or_default();
            if rows == expected {
                break;
            }
            let status = self.replica.replica_status().await?.unwrap_or_default();
            // It can not connect while the service is restarted, and says so.
            ensure!(
                Instant::now() < deadline,
                "{rows:?}, not {expected:?}; {status}; {}",
                self.service.log_tail()
            );
            sleep(Duration::from_millis(200)).await;
        }
        let tables: Vec<String> = self.replica.rows("SHOW TABLES FROM shop").await?;
        ensure!(tables == ["accounts"], "{tables:?}");
        Ok(())
    }

    /// Ten accounts of the first node move to the second in transactions that say by their format id that they are a rebalancer's.
    async fn move_by_format_id(&self) -> Result<()> {
        let mut map = self.app.map.write().await;
        self.app.coordinator.settle(Duration::from_secs(60)).await?;
        let mut source = self.cluster.nodes[0].root().await?;
        let mut target = self.cluster.nodes[1].root().await?;
        for id in (0..20).step_by(2) {
            let row = format!("SELECT balance FROM shop.accounts_1 WHERE id = {id}");
            let balance: i64 = source.query_first(row).await?.context("the account")?;
            let insert = format!("INSERT INTO shop.accounts_2 VALUES ({id}, 'o{id}', {balance})");
            let delete = format!("DELETE FROM shop.accounts_1 WHERE id = {id}");
            for (conn, branch, sql) in [(&mut target, 'b', insert), (&mut source, 'a', delete)] {
                let xid = format!("'move-{id}','{branch}',99");
                conn.query_drop(format!(
                    "XA START {xid}; {sql}; XA END {xid}; XA PREPARE {xid}; XA COMMIT {xid}"
                ))
                .await?;
            }
            map[id] = (1, "accounts_2");
        }
        Ok(())
    }

    /// What is left on the first node is copied beside the routes; then the copy is the table.
    async fn move_by_routes(&self) -> Result<()> {
        let copy = |ids: Vec<usize>| async move {
            let mut target = self.cluster.nodes[1].root().await?;
            for id in ids {
                let row = format!("SELECT balance FROM shop.accounts_1 WHERE id = {id}");
                let balance: i64 = self.cluster.nodes[0].row(&row).await?;
                let sql = format!("REPLACE INTO shop.copy_1 VALUES ({id}, 'o{id}', {balance})");
                target.query_drop(sql).await?;
            }
            anyhow::Ok(())
        };
        let left = || async {
            let map = self.app.map.read().await;
            (0..ACCOUNTS)
                .filter(|id| map[*id].0 == 0)
                .collect::<Vec<_>>()
        };
        // The application goes on meanwhile; what it has changed is copied again when it is stopped for a moment.
        copy(left().await).await?;
        let ids = left().await;
        let mut map = self.app.map.write().await;
        self.app.coordinator.settle(Duration::from_secs(60)).await?;
        copy(ids.clone()).await?;
        let shown = self.set_routes(BEHIND).await?;
        println!("{}", shown.trim_end());
        ensure!(shown.contains("routes: 2 routes"), "{shown}");
        for id in ids {
            map[id] = (1, "copy_1");
        }
        Ok(())
    }

    async fn set_routes(&self, routes: &str) -> Result<String> {
        let file = self.cluster.dir().join("routes.toml");
        std::fs::write(&file, routes)?;
        ordered(&self.service, "routes", &["set", &file.to_string_lossy()]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_rebalancer_copies_do_not_come_out() -> Result<()> {
    let mut stage = Stage::start().await?;
    let pid = stage.service.pid();
    let tasks = stage.app.run();
    stage.app.progress(100).await?;
    stage.same().await?;
    stage.move_by_format_id().await?;
    stage.app.progress(100).await?;
    stage.same().await?;
    stage.move_by_routes().await?;
    stage.app.progress(100).await?;
    stage.same().await?;
    ensure!(stage.service.pid() == pid, "it was restarted");
    // The file has the old routes: it is the file of before, and what the command set counts.
    stage.service.restart().await?;
    stage.app.progress(50).await?;
    stage.same().await?;
    let routes = ordered(&stage.service, "routes", &["show"]).await?;
    ensure!(routes.contains("shop.copy_{*}"), "{routes}");
    // Once the file says the same, it is the file that counts.
    stage.service.options_mut().tables = BEHIND.into();
    stage.service.restart().await?;
    stage.app.progress(50).await?;
    stage.app.closing.store(true, SeqCst);
    for task in tasks {
        task.await?;
    }
    stage.same().await?;
    let wrong =
        stage.set_routes("[[route]]\nfrom = \"shop.accounts_{*\"\nto = \"shop.accounts\"\n");
    ensure!(
        wrong
            .await
            .is_err_and(|e| e.to_string().contains("shop.accounts_{*"))
    );
    let last = last_gno(&stage.service).await?;
    let expected = (ACCOUNTS, ACCOUNTS as i64 * BALANCE);
    let watched = sum::watch(stage.service.opts(), expected, || Some(last)).await?;
    ensure!(watched == last, "{watched} of {last}");
    println!("the accounts add up behind each of {watched} transactions");
    verified(&stage.service).await
}
