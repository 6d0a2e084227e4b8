//! Every column type at its boundaries: tables that keep their names and shapes, and tables that are parts of one and change
//! node by node while rows flow; with each form of row images.

mod kinds;
mod numbers;
mod others;
mod texts;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::Semaphore;
use tributary_tests::cluster::{Cluster, Workplace};
use tributary_tests::compare::{CompareOptions, compare};
use tributary_tests::mysqld::Mysqld;
use tributary_tests::service::{Service, ServiceOptions};

use self::kinds::Kind;
use crate::world::{CATCH_UP, World, binlogs, mysql, text};

const NODES: u32 = 3;
/// Tables that are worked on at a time.
const AT_A_TIME: usize = 3;

const ROUTES: &str = r#"
[[route]]
from = "part_*.*"
to = "merged.$2"
"#;

/// Forms of row images, in turn.
const IMAGES: [&str; 4] = [
    "binlog_row_image = FULL, binlog_row_value_options = ''",
    "binlog_row_image = MINIMAL, binlog_row_value_options = ''",
    "binlog_row_image = NOBLOB, binlog_row_value_options = ''",
    "binlog_row_image = FULL, binlog_row_value_options = PARTIAL_JSON",
];

/// One table of every node.
struct Play {
    kind: Kind,
    conns: Vec<Conn>,
    /// Name of the table on each node.
    tables: Vec<String>,
    next_id: AtomicU64,
    round: usize,
}

impl Play {
    async fn new(nodes: &[Mysqld], kind: Kind, schema: impl Fn(usize) -> String) -> Result<Self> {
        let mut conns = Vec::new();
        for node in nodes {
            let mut conn = node.root().await?;
            // Zero dates are dates, too.
            conn.query_drop("SET time_zone = '+00:00', sql_mode = ''")
                .await?;
            conns.push(conn);
        }
        let table = |n| format!("{}.{}", schema(n), kind.name);
        Ok(Self {
            tables: (0..nodes.len()).map(table).collect(),
            kind,
            conns,
            next_id: AtomicU64::new(0),
            round: 0,
        })
    }

    /// Runs a statement on one node; `{}` stands for the table.
    async fn on(&mut self, node: usize, sql: &str) -> Result<()> {
        let sql = sql.replace("{}", &self.tables[node]);
        let shown: String = sql.chars().take(300).collect();
        let done = self.conns[node].query_drop(sql).await;
        done.with_context(|| format!("node {}: {shown}", node + 1))
    }

    async fn create(&mut self) -> Result<()> {
        let cols = self.kind.cols.iter();
        let cols: Vec<String> = cols.map(|c| format!("{} {}", c.name, c.kind)).collect();
        let sql = format!(
            "CREATE TABLE {{}} (id BIGINT NOT NULL, gone INT DEFAULT 5, {}, nm VARCHAR(9) NOT NULL DEFAULT 'ñ', {})",
            cols.join(", "),
            self.kind.keys
        );
        for node in 0..self.conns.len() {
            self.on(node, &sql).await?;
        }
        Ok(())
    }

    /// Rows in the tables of all nodes: new ones, changed ones, deleted ones.
    async fn rows(&mut self) -> Result<()> {
        self.round += 1;
        let images = IMAGES[self.round % IMAGES.len()];
        for node in 0..self.conns.len() {
            if self.kind.large && (self.round % 3 != 1 || self.round / 3 != node) {
                continue;
            }
            self.on(node, &format!("SET {images}")).await?;
            self.on(node, "BEGIN").await?;
            self.rows_of(node).await?;
            self.on(node, "COMMIT").await?;
        }
        Ok(())
    }

    async fn rows_of(&mut self, node: usize) -> Result<()> {
        let rows = self.kind.rows();
        let given: Vec<&str> = self.kind.given().map(|c| c.name).collect();
        let first = self.next_id.fetch_add(rows as u64, Ordering::SeqCst) + 1;
        let values: Vec<String> = (0..rows)
            .map(|n| format!("({}, {})", first + n as u64, self.kind.row(n).join(", ")))
            .collect();
        let insert = format!("INSERT INTO {{}} (id, {}) VALUES ", given.join(", "));
        self.on(node, &(insert + &values.join(", "))).await?;
        // Each row takes the values of the next one, but for those that lie in the key.
        for n in 0..rows {
            let sets: Vec<String> = given
                .iter()
                .zip(self.kind.row(n + 1))
                .map(|(name, value)| format!("{name} = {value}"))
                .collect();
            let id = first + n as u64;
            self.on(
                node,
                &format!("UPDATE {{}} SET {} WHERE id = {id}", sets.join(", ")),
            )
            .await?;
            if self.kind.large {
                break;
            }
        }
        for update in self.kind.updates {
            self.on(node, &update.replace('?', &(first + 1).to_string()))
                .await?;
        }
        let last = first + rows as u64 - 1;
        self.on(node, &format!("DELETE FROM {{}} WHERE id = {last}"))
            .await
    }

    /// The same statement on one node after the other, and rows in between.
    async fn change(&mut self, change: &str) -> Result<()> {
        let nodes = self.conns.len();
        for n in 0..nodes {
            let node = (n + self.round) % nodes;
            self.on(node, &format!("ALTER TABLE {{}} {change}")).await?;
            self.rows().await?;
        }
        Ok(())
    }

    /// A table whose shape stays.
    async fn unchanged(mut self) -> Result<()> {
        self.create().await?;
        for _ in IMAGES {
            self.rows().await?;
        }
        Ok(())
    }

    /// Parts that change one by one.
    async fn changing(mut self) -> Result<()> {
        self.create().await?;
        self.rows().await?;
        let last = self.kind.cols.last().context("a table has columns")?;
        let last_type = if last.wide.is_empty() {
            last.kind
        } else {
            last.wide
        };
        let reorder = format!("MODIFY {} {last_type} FIRST", last.name);
        self.change("ADD COLUMN added SMALLINT NOT NULL DEFAULT -3 FIRST")
            .await?;
        if let Some(widened) = self.kind.widened() {
            self.change(&widened).await?;
        }
        if self.kind.large {
            return Ok(());
        }
        self.change("DROP COLUMN gone").await?;
        if !last.values.is_empty() {
            self.change(&reorder).await?;
        }
        self.change("RENAME COLUMN nm TO title").await?;
        self.change("ADD COLUMN more BIT(5) NOT NULL DEFAULT b'101' AFTER id, DROP COLUMN added")
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_as_it_is() -> Result<()> {
    // One node's table maps have no names of columns.
    let cluster = Cluster::start_with(NODES, Workplace::temporary()?, |options| {
        let options = options
            .arg("--sync-binlog=0")
            .arg("--innodb-flush-log-at-trx-commit=2");
        if options.name == "dn3" {
            options.arg("--binlog-row-metadata=MINIMAL")
        } else {
            options
        }
    })
    .await?;
    let mut options = ServiceOptions::new("tso", &cluster.nodes);
    options.tables = ROUTES.into();
    options.max_binlog_size = Some("64MiB".into());
    let service = Service::start(options, cluster.dir()).await?;
    let world = World { service, cluster };
    let replica = world.replica("replica", 201).await?;
    for (n, node) in world.cluster.nodes.iter().enumerate() {
        node.sql(&format!("CREATE DATABASE part_{n}; CREATE DATABASE plain; CREATE TABLE plain.last (id INT PRIMARY KEY)"))
            .await?;
    }
    let all = kinds::KINDS.iter().copied().chain([kinds::lists()]);
    let gate = Arc::new(Semaphore::new(AT_A_TIME));
    let mut plays = tokio::task::JoinSet::new();
    for kind in all {
        let plain = Play::new(&world.cluster.nodes, kind, |_| "plain".into()).await?;
        let parts = Play::new(&world.cluster.nodes, kind, |n| format!("part_{n}")).await?;
        let gate = gate.clone();
        plays.spawn(async move {
            let _turn = gate.acquire().await?;
            let name = plain.kind.name;
            let done = async {
                plain.unchanged().await?;
                parts.changing().await
            };
            done.await.context(name)
        });
    }
    while let Some(done) = plays.join_next().await {
        done??;
    }
    for (n, node) in world.cluster.nodes.iter().enumerate() {
        node.sql(&format!("INSERT INTO plain.last VALUES ({n})"))
            .await?;
    }
    same(&world, &replica).await?;
    readable(&world).await?;
    world.verified().await?;
    world.no_errors_logged()
}

/// The replica has the tables of all nodes, and every column is what it is there.
async fn same(world: &World, replica: &Mysqld) -> Result<()> {
    let last = format!("SELECT COUNT(*) = {NODES} FROM plain.last");
    replica
        .wait_until(&last, CATCH_UP)
        .await
        .with_context(|| world.service.log_tail())?;
    let shards: Vec<_> = world.cluster.nodes.iter().map(Mysqld::root_opts).collect();
    let options = CompareOptions {
        mapping: Arc::new(|schema, table| {
            let routed = schema.starts_with("part_");
            let schema = if routed { "merged" } else { schema };
            Some((schema.to_owned(), table.to_owned()))
        }),
        ..CompareOptions::default()
    };
    let result = compare(&shards, &replica.root_opts(), &options).await?;
    ensure!(result.is_same(), "{result}\n{}", world.service.log_tail());
    ensure!(result.tables > 20 && result.rows > 1000, "{result}");
    println!("{result}");
    Ok(())
}

/// `mysqlbinlog` decodes every row of every file.
async fn readable(world: &World) -> Result<()> {
    let dir = world.service.data_dir();
    for name in binlogs(&dir)? {
        let args = [
            "--verify-binlog-checksum",
            "-vv",
            "--base64-output=DECODE-ROWS",
            "--result-file=/dev/null",
            &name,
        ];
        let output = mysql("mysqlbinlog", &args, &dir).await?;
        let said = text(&output);
        ensure!(
            output.status.success() && !said.contains("ERROR"),
            "{name}: {said}"
        );
    }
    Ok(())
}
