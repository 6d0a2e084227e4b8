//! 64 tables on four nodes are one table downstream. Transfers between the nodes go on while every table is changed by itself:
//! nodes and tables are at different definitions nearly all the time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Barrier, RwLock};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tributary_tests::cluster::{Cluster, Workplace};
use tributary_tests::compare::{CompareOptions, compare};
use tributary_tests::coordinator::{Branch, Coordinator, Finish, Outcome};
use tributary_tests::mysqld::Mysqld;
use tributary_tests::service::{Service, ServiceOptions};
use tributary_tests::tso::Tso;

use crate::world::{CATCH_UP, World, binlogs, mysql, text};

const NODES: usize = 4;
const TABLES: usize = 64;
const ACCOUNTS: usize = 40;
const BALANCE: i64 = 1000;
const WORKERS: u64 = 5;

const ROUTES: &str = r#"
[[route]]
from = "shop_{*}.orders_{*}"
to = "shop.orders"
[[route]]
from = "shop_*.*"
to = "shop.$2"
"#;

/// What happens to each of the tables. `{}` is its name.
const CHANGES: &[&str] = &[
    "ALTER TABLE {} ADD COLUMN channel VARCHAR(10) NOT NULL DEFAULT 'web' AFTER account",
    "ALTER TABLE {} MODIFY amount BIGINT NOT NULL DEFAULT -1",
    "ALTER TABLE {} RENAME COLUMN note TO remark",
    "CREATE INDEX by_account ON {} (account, channel)",
    "ALTER TABLE {} DROP COLUMN legacy",
    TRUNCATE,
    "ALTER TABLE {} MODIFY remark VARCHAR(300) CHARACTER SET utf8mb4, ADD COLUMN paid TINYINT NOT NULL DEFAULT 0 FIRST",
    "ALTER TABLE {} DROP INDEX by_account, ADD INDEX by_channel (channel)",
    "ALTER TABLE {} MODIFY account BIGINT NOT NULL AFTER id",
];
const TRUNCATE: &str = "TRUNCATE TABLE {}";
/// How many changes a table has had when `note` has become `remark`.
const RENAMED: u64 = 3;

struct Shop {
    coordinator: Arc<Coordinator>,
    /// How many changes each table has had.
    done: Vec<AtomicU64>,
    next_id: AtomicU64,
    /// Orders that are there, with their table.
    known: Mutex<Vec<(u64, usize)>>,
    /// Held by whoever makes new rows; not to be had while tables are truncated.
    open: RwLock<()>,
    over: AtomicBool,
    committed: AtomicU64,
    moved: AtomicU64,
}

/// The node of a table.
fn node_of(table: usize) -> usize {
    table * NODES / TABLES
}

fn name_of(table: usize) -> String {
    format!("shop_{}.orders_{table}", node_of(table) + 1)
}

impl Shop {
    fn known(&self) -> std::sync::MutexGuard<'_, Vec<(u64, usize)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, table: usize) -> &'static str {
        let renamed = self.done[table].load(Ordering::SeqCst) >= RENAMED;
        if renamed { "remark" } else { "note" }
    }

    fn insert(&self, rng: &mut StdRng, id: u64, table: usize, amount: i64) -> String {
        let account = rng.random_range(0..ACCOUNTS);
        let note = self.note(table);
        format!(
            "INSERT INTO {} (id, account, amount, {note}) VALUES ({id}, {account}, {amount}, 'grün {id}')",
            name_of(table)
        )
    }

    /// Changes of an order that is there.
    fn change(&self, rng: &mut StdRng) -> Option<(usize, String)> {
        let known = self.known();
        let (id, table) = *known.get(rng.random_range(0..known.len().max(1)))?;
        let set = match rng.random_range(0..3) {
            0 => format!("amount = amount + {}", rng.random_range(1..100)),
            1 => format!("{} = CONCAT('geändert ', id)", self.note(table)),
            _ => "state = state + 1".to_owned(),
        };
        let sql = format!("UPDATE {} SET {set} WHERE id = {id}", name_of(table));
        Some((table, sql))
    }

    /// Money goes from a node to another, each with an order that says so.
    fn transfer(&self, rng: &mut StdRng) -> (Vec<Branch>, Vec<(u64, usize)>) {
        let from = rng.random_range(0..NODES);
        let to = (from + rng.random_range(1..NODES)) % NODES;
        let amount = rng.random_range(1..500_i64);
        let mut fresh = Vec::new();
        let mut branches = Vec::new();
        for (node, amount) in [(from, -amount), (to, amount)] {
            let table = node * TABLES / NODES + rng.random_range(0..TABLES / NODES);
            let id = self.next_id.fetch_add(1, Ordering::SeqCst);
            let account = rng.random_range(0..ACCOUNTS / NODES) * NODES + node;
            let mut statements = vec![
                format!(
                    "UPDATE shop_{}.accounts SET balance = balance + {amount} WHERE id = {account}",
                    node + 1
                ),
                self.insert(rng, id, table, amount),
            ];
            let changed = self.change(rng).filter(|(t, _)| node_of(*t) == node);
            statements.extend(changed.map(|(_, sql)| sql));
            fresh.push((id, table));
            branches.push(Branch { node, statements });
        }
        branches.sort_by_key(|b| b.node);
        (branches, fresh)
    }

    /// An order moves to another node: a delete there, an insert with the same id here.
    fn moving(&self, rng: &mut StdRng) -> Option<(Vec<Branch>, (u64, usize))> {
        let (id, from) = {
            let mut known = self.known();
            let at = rng.random_range(0..known.len().max(1));
            (at < known.len()).then(|| known.swap_remove(at))?
        };
        let to = (from + TABLES / NODES * rng.random_range(1..NODES)) % TABLES;
        let mut branches = vec![
            Branch {
                node: node_of(from),
                statements: vec![format!("DELETE FROM {} WHERE id = {id}", name_of(from))],
            },
            Branch {
                node: node_of(to),
                statements: vec![self.insert(rng, id, to, 7)],
            },
        ];
        branches.sort_by_key(|b| b.node);
        Some((branches, (id, to)))
    }

    async fn work(self: Arc<Self>, seed: u64) -> Result<()> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut session = self.coordinator.session();
        let mut failed = 0;
        while !self.over.load(Ordering::SeqCst) {
            let open = self.open.try_read();
            let (branches, fresh, finish) = match (open.is_ok(), rng.random_range(0..10)) {
                (true, 0..6) => {
                    let (branches, fresh) = self.transfer(&mut rng);
                    (branches, fresh, Finish::TwoPhase)
                }
                (true, 6) => match self.moving(&mut rng) {
                    Some((branches, row)) => {
                        self.moved.fetch_add(1, Ordering::SeqCst);
                        (branches, vec![row], Finish::TwoPhase)
                    }
                    None => continue,
                },
                (_, n) => match self.change(&mut rng) {
                    Some((table, sql)) => {
                        let (node, statements) = (node_of(table), vec![sql]);
                        let finish = if n % 2 == 0 {
                            Finish::Local
                        } else {
                            Finish::OnePhase
                        };
                        (vec![Branch { node, statements }], Vec::new(), finish)
                    }
                    None => {
                        sleep(Duration::from_millis(5)).await;
                        continue;
                    }
                },
            };
            match session.run(&branches, finish).await {
                Outcome::Committed { .. } => {
                    self.committed.fetch_add(1, Ordering::SeqCst);
                    self.known().extend(fresh);
                }
                // A column has got another name meanwhile, or two have waited for each other.
                Outcome::Aborted { reason } => {
                    failed += 1;
                    let expected = [
                        "Unknown column",
                        "Deadlock",
                        "Lock wait",
                        "definition has changed",
                        "XAER_",
                    ];
                    ensure!(expected.iter().any(|e| reason.contains(e)), "{reason}");
                }
                other => bail!("{other:?}"),
            }
            drop(open);
        }
        println!("worker {seed}: {failed} transactions were rolled back");
        Ok(())
    }

    /// All changes on all tables of a node, table by table, with pauses.
    async fn evolve(self: Arc<Self>, node: usize, nodes: Arc<Barrier>) -> Result<()> {
        let mut rng = StdRng::seed_from_u64(1000 + node as u64);
        let mut session = self.coordinator.session();
        for change in CHANGES {
            // Truncated tables must stay empty until all are.
            let mut closed = None;
            if *change == TRUNCATE {
                if nodes.wait().await.is_leader() {
                    closed = Some(self.open.write().await);
                    self.known().clear();
                }
                nodes.wait().await;
            }
            let mut tables: Vec<usize> = (0..TABLES).filter(|t| node_of(*t) == node).collect();
            tables.shuffle(&mut rng);
            for table in tables {
                let sql = change.replace("{}", &name_of(table));
                // Locks of transactions under way are waited for.
                let mut tries = 0;
                while let Err(error) = session.execute(node, &sql).await {
                    tries += 1;
                    ensure!(tries < 20, "{sql}: {error}");
                }
                self.done[table].fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(rng.random_range(0..40))).await;
            }
            if *change == TRUNCATE {
                nodes.wait().await;
            }
            drop(closed);
        }
        Ok(())
    }
}

async fn start() -> Result<World> {
    let cluster = Cluster::start_with(NODES as u32, Workplace::temporary()?, |options| {
        options
            .arg("--sync-binlog=0")
            .arg("--innodb-flush-log-at-trx-commit=2")
    })
    .await?;
    let mut options = ServiceOptions::new("tso", &cluster.nodes);
    options.tables = ROUTES.into();
    let service = Service::start(options, cluster.dir()).await?;
    for (n, node) in cluster.nodes.iter().enumerate() {
        let mut sql = format!(
            "CREATE DATABASE shop_{0}; CREATE TABLE shop_{0}.accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL); \
             CREATE TABLE shop_{0}.markers (id INT PRIMARY KEY); ",
            n + 1
        );
        let rows: Vec<String> = (0..ACCOUNTS)
            .filter(|a| a % NODES == n)
            .map(|a| format!("({a}, {BALANCE})"))
            .collect();
        sql += &format!(
            "INSERT INTO shop_{}.accounts VALUES {}; ",
            n + 1,
            rows.join(",")
        );
        for table in (0..TABLES).filter(|t| node_of(*t) == n) {
            sql += &format!(
                "CREATE TABLE {} (id BIGINT UNSIGNED PRIMARY KEY, amount INT NOT NULL, state SMALLINT NOT NULL DEFAULT 0, \
                 account INT NOT NULL, legacy DOUBLE DEFAULT 1.5, note VARCHAR(30) CHARACTER SET latin1, \
                 at TIMESTAMP(3) DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)); ",
                name_of(table)
            );
        }
        node.sql(&sql).await?;
    }
    Ok(World { service, cluster })
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_tables_of_four_nodes_are_one() -> Result<()> {
    let world = start().await?;
    let replica = world.replica("replica", 201).await?;
    let shop = Arc::new(Shop {
        coordinator: Coordinator::new("shop", world.cluster.app_opts(), Arc::new(Tso::new())),
        done: (0..TABLES).map(|_| AtomicU64::new(0)).collect(),
        next_id: AtomicU64::new(1),
        known: Mutex::default(),
        open: RwLock::new(()),
        over: AtomicBool::new(false),
        committed: AtomicU64::new(0),
        moved: AtomicU64::new(0),
    });
    let mut workers = JoinSet::new();
    for seed in 0..WORKERS {
        workers.spawn(shop.clone().work(seed));
    }
    let barrier = Arc::new(Barrier::new(NODES));
    let mut changes = JoinSet::new();
    for node in 0..NODES {
        changes.spawn(shop.clone().evolve(node, barrier.clone()));
    }
    while !changes.is_empty() {
        match tokio::time::timeout(Duration::from_millis(300), changes.join_next()).await {
            Ok(Some(done)) => done??,
            Ok(None) => {}
            Err(_) => sum_holds(&world, &replica).await?,
        }
    }
    shop.over.store(true, Ordering::SeqCst);
    while let Some(done) = workers.join_next().await {
        done??;
    }
    let (committed, moved) = (
        shop.committed.load(Ordering::SeqCst),
        shop.moved.load(Ordering::SeqCst),
    );
    println!("{committed} transactions, {moved} orders moved");
    ensure!(committed > 300 && moved > 10, "{committed}, {moved}");
    same(&world, &replica).await?;
    sum_holds(&world, &replica).await?;
    each_change_once(&world).await?;
    world.verified().await?;
    world.no_errors_logged()
}

/// On the replica the balances add up, whatever it has got to.
async fn sum_holds(world: &World, replica: &Mysqld) -> Result<()> {
    let query = "SELECT CAST(COUNT(*) AS SIGNED), CAST(COALESCE(SUM(balance), 0) AS SIGNED) FROM shop.accounts";
    // Until all have opened, some are missing.
    let Ok((accounts, sum)) = replica.row::<(i64, i64)>(query).await else {
        return Ok(());
    };
    ensure!(
        sum == accounts * BALANCE || accounts < ACCOUNTS as i64,
        "{accounts} accounts have {sum}"
    );
    let status = replica.replica_status().await?.unwrap_or_default();
    ensure!(
        status.errors().is_none(),
        "{status}\n{}",
        world.service.log_tail()
    );
    Ok(())
}

async fn same(world: &World, replica: &Mysqld) -> Result<()> {
    for (n, node) in world.cluster.nodes.iter().enumerate() {
        node.sql(&format!("INSERT INTO shop_{0}.markers VALUES ({0})", n + 1))
            .await?;
    }
    replica
        .wait_until(
            &format!("SELECT COUNT(*) = {NODES} FROM shop.markers"),
            CATCH_UP,
        )
        .await
        .with_context(|| world.service.log_tail())?;
    let shards: Vec<_> = world.cluster.nodes.iter().map(Mysqld::root_opts).collect();
    let options = CompareOptions {
        mapping: Arc::new(|_, table| {
            let logical = if table.starts_with("orders_") {
                "orders"
            } else {
                table
            };
            Some(("shop".to_owned(), logical.to_owned()))
        }),
        ..CompareOptions::default()
    };
    let result = compare(&shards, &replica.root_opts(), &options).await?;
    ensure!(result.is_same(), "{result}\n{}", world.service.log_tail());
    ensure!(result.tables == 3 && result.rows > 200, "{result}");
    println!("{result}");
    Ok(())
}

/// The merged log has each statement once, or its two halves; not once for each table.
async fn each_change_once(world: &World) -> Result<()> {
    let dir = world.service.data_dir();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in binlogs(&dir)? {
        let output = mysql("mysqlbinlog", &[&name], &dir).await?;
        ensure!(output.status.success(), "{name}: {}", text(&output));
        let said = text(&output);
        for word in [
            "ADD COLUMN channel",
            "MODIFY amount",
            "RENAME COLUMN",
            "CREATE INDEX",
            "DROP COLUMN legacy",
            "TRUNCATE",
            "ADD COLUMN paid",
            "DROP INDEX",
            "MODIFY account",
            "CREATE TABLE",
        ] {
            *counts.entry(word).or_default() += said.matches(word).count();
        }
    }
    let tables = counts.remove("CREATE TABLE");
    ensure!(tables == Some(3), "{tables:?} tables were made");
    ensure!(counts.values().all(|n| *n == 1), "{counts:?}");
    Ok(())
}
