//! Tables that were there before the service, on nodes of which one writes no names into its binlog; what the service shows of
//! them; a statement that stays undone on some; a table that was changed beside the binlog.

use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tributary_tests::cluster::Cluster;
use tributary_tests::compare::{CompareOptions, compare};
use tributary_tests::coordinator::{Branch, Coordinator, Finish, Outcome};
use tributary_tests::mysqld::Mysqld;
use tributary_tests::service::{Service, ServiceOptions, get};
use tributary_tests::tso::Tso;

use crate::world::{CATCH_UP, World};

const ROUTES: &str = r#"
[[route]]
from = "shop_*.orders_*"
to = "shop.orders"
"#;
const TABLE: &str = "(id BIGINT PRIMARY KEY, name VARCHAR(20) NOT NULL DEFAULT 'none', kind ENUM('a','b') DEFAULT 'a', \
                     made DATETIME(3) DEFAULT NULL, KEY by_name (name))";
const LOGICAL: &str = "shop.orders";

/// Node and name of each physical table.
fn parts() -> Vec<(usize, String)> {
    let all = (0..3).flat_map(|n| [0, 1].map(|k| (n, format!("shop_{n}.orders_{}", n * 2 + k))));
    all.collect()
}

struct Story {
    world: World,
    replica: Mysqld,
    coordinator: Arc<Coordinator>,
    next_id: u64,
}

/// A point between statements: number, commit timestamp and time (UTC) of the last transaction before it.
struct Point {
    gno: u64,
    tso: u64,
    time: String,
}

impl Story {
    /// Nodes with tables, of which the second writes table maps without names; a service that begins behind them.
    async fn start() -> Result<Self> {
        let cluster = Cluster::start(3).await?;
        for (n, table) in parts() {
            let sql =
                format!("CREATE DATABASE IF NOT EXISTS shop_{n}; CREATE TABLE {table} {TABLE}");
            cluster.nodes[n].sql(&sql).await?;
        }
        cluster.nodes[1]
            .sql("SET GLOBAL binlog_row_metadata = MINIMAL")
            .await?;
        let mut options = ServiceOptions::new("tso", &cluster.nodes);
        options.tables = ROUTES.into();
        for node in &mut options.nodes {
            node.extra = "start = \"current\"".into();
        }
        let service = Service::start(options, cluster.dir()).await?;
        let world = World { service, cluster };
        // What lies before the start is provisioned by hand.
        let replica = world.cluster.start_replica("replica", 201).await?;
        let before =
            format!("SET sql_log_bin = 0; CREATE DATABASE shop; CREATE TABLE {LOGICAL} {TABLE}");
        replica.sql(&before).await?;
        replica.replicate_from(&world.service.source()).await?;
        let read = |s: &tributary_tests::service::Status| {
            s.node_states()
                .iter()
                .all(|(_, state)| state == "streaming")
        };
        world
            .service
            .wait_status("all nodes are read", CATCH_UP, read)
            .await?;
        let tso = Arc::new(Tso::new());
        let coordinator = Coordinator::new("tables", world.cluster.app_opts(), tso);
        Ok(Self {
            world,
            replica,
            coordinator,
            next_id: 0,
        })
    }

    /// A transaction with a branch on each node, and another a moment later: what is done behind them is later than the first
    /// by every clock.
    async fn point(&mut self) -> Result<Point> {
        let mut stamps = Vec::new();
        let time: String = self
            .replica
            .row("SELECT DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%dT%T')")
            .await?;
        for _ in 0..2 {
            let branches: Vec<Branch> = (0..3)
                .map(|node| {
                    self.next_id += 1;
                    let (id, table) = (self.next_id, format!("shop_{node}.orders_{}", node * 2));
                    Branch {
                        node,
                        statements: vec![format!("INSERT INTO {table} (id) VALUES ({id})")],
                    }
                })
                .collect();
            let outcome = self
                .coordinator
                .session()
                .run(&branches, Finish::TwoPhase)
                .await;
            let Outcome::Committed { tso: Some(tso) } = outcome else {
                anyhow::bail!("{outcome:?}");
            };
            stamps.push(tso);
            // The point's time has whole seconds.
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        self.same().await?;
        Ok(Point {
            gno: self.world.last_gno().await?,
            tso: stamps[0],
            time,
        })
    }

    async fn on(&self, node: usize, sql: &str) -> Result<()> {
        self.world.cluster.nodes[node].sql(sql).await
    }

    /// A row in every part.
    async fn rows(&mut self) -> Result<()> {
        for (n, table) in parts() {
            self.next_id += 1;
            let id = self.next_id;
            self.on(
                n,
                &format!("INSERT INTO {table} (id, kind) VALUES ({id}, 'b')"),
            )
            .await?;
        }
        Ok(())
    }

    /// The replica has the rows of all parts, and what the service shows of the table is what it has.
    async fn same(&mut self) -> Result<()> {
        self.rows().await?;
        let last = format!("SELECT COUNT(*) = {} FROM {LOGICAL}", self.next_id);
        self.replica.wait_until(&last, CATCH_UP).await?;
        let nodes: Vec<_> = (self.world.cluster.nodes.iter())
            .map(Mysqld::root_opts)
            .collect();
        let options = CompareOptions {
            mapping: Arc::new(|schema, _| {
                let ours = schema.starts_with("shop_");
                ours.then(|| ("shop".to_owned(), "orders".to_owned()))
            }),
            ..CompareOptions::default()
        };
        let result = compare(&nodes, &self.replica.root_opts(), &options).await?;
        ensure!(result.is_same(), "{result}");
        self.shown().await
    }

    /// What a client of the service is told of the table is what the replica says.
    async fn shown(&self) -> Result<()> {
        use mysql_async::prelude::Queryable;
        let mut conn = mysql_async::Conn::new(self.world.service.opts()).await?;
        let create = format!("SHOW CREATE TABLE {LOGICAL}");
        let ours: (String, String) = conn.query_first(&create).await?.unwrap_or_default();
        let theirs: (String, String) = self.replica.row(&create).await?;
        ensure!(ours == theirs, "{}\n{}", ours.1, theirs.1);
        let columns = "SELECT column_name, column_type, is_nullable, column_default FROM information_schema.columns WHERE \
                       table_schema = 'shop' AND table_name = 'orders' ORDER BY ordinal_position";
        type Column = (String, String, String, Option<String>);
        let ours: Vec<Column> = conn.query(columns).await?;
        let theirs: Vec<Column> = self.replica.rows(columns).await?;
        ensure!(ours == theirs && !ours.is_empty(), "{ours:?}\n{theirs:?}");
        let names = |rows: Vec<mysql_async::Row>| -> Vec<String> {
            rows.iter().filter_map(|row| row.get(0)).collect()
        };
        let ours = names(conn.query(format!("DESC {LOGICAL}")).await?);
        let theirs = names(self.replica.rows(&format!("DESC {LOGICAL}")).await?);
        ensure!(ours == theirs, "{ours:?}\n{theirs:?}");
        Ok(())
    }

    async fn tributary(&self, args: &[&str]) -> Result<(bool, String)> {
        let Output { status, stdout, .. } = self.world.service.command(args).await?;
        Ok((
            status.success(),
            String::from_utf8_lossy(&stdout).into_owned(),
        ))
    }

    fn admin(&self) -> String {
        format!("http://127.0.0.1:{}", self.world.service.admin_port())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_were_there_before_are_known() -> Result<()> {
    let mut story = Story::start().await?;
    story.same().await?;
    let before = story.point().await?;
    stuck(&mut story).await?;
    for change in [
        "ADD COLUMN size INT NOT NULL DEFAULT 3 AFTER name",
        "RENAME COLUMN made TO born",
        "MODIFY kind ENUM('a','b','c') DEFAULT 'b'",
        "DROP COLUMN size",
    ] {
        for (n, table) in parts() {
            story.rows().await?;
            story
                .on(n, &format!("ALTER TABLE {table} {change}"))
                .await?;
        }
        story.world.service.kill9();
        story.world.service.launch().await?;
    }
    let behind = story.point().await?;
    shown_by_commands(&mut story, &before, &behind).await?;
    checked(&story).await?;
    story.world.verified().await?;
    story.world.no_errors_logged()?;
    contradicted(&mut story).await
}

/// A statement that one part has had and the others have not is shown, and is gone when they have.
async fn stuck(story: &mut Story) -> Result<()> {
    let all = parts();
    let (first, rest) = all.split_at(1);
    let sql = |table: &str| format!("ALTER TABLE {table} ADD COLUMN late INT DEFAULT 5");
    story.on(first[0].0, &sql(&first[0].1)).await?;
    story.rows().await?;
    let waits = |s: &tributary_tests::service::Status| {
        let w = &s.0["merger"]["statements"][0];
        w["tables"][0] == LOGICAL
            && w["downstream"] == true
            && w["have"] == serde_json::json!(["dn1: shop_0.orders_0"])
            && w["missing"].as_array().is_some_and(|m| m.len() == 5)
            && w["since_ms"].as_u64().is_some_and(|ms| ms > 0)
    };
    let service = &story.world.service;
    service
        .wait_status("the statement is seen to wait", CATCH_UP, waits)
        .await?;
    let (_, text) = story
        .tributary(&["status", "--admin", &story.admin()])
        .await?;
    ensure!(
        text.contains("had by   dn1: shop_0.orders_0") && text.contains("dn3: shop_2.orders_5"),
        "{text}"
    );
    let (_, metrics) = get(service.admin_port(), "/metrics").await?;
    ensure!(
        metrics.contains("tributary_statements_waiting 1"),
        "{metrics}"
    );
    for (n, table) in rest {
        story.on(*n, &sql(table)).await?;
    }
    let none = |s: &tributary_tests::service::Status| {
        s.0["merger"]["statements"]
            .as_array()
            .is_some_and(Vec::is_empty)
    };
    service.wait_status("nothing waits", CATCH_UP, none).await?;
    story.same().await
}

/// `tributary schema` of a running service and of a stopped one.
async fn shown_by_commands(story: &mut Story, before: &Point, behind: &Point) -> Result<()> {
    let theirs: (String, String) = story
        .replica
        .row(&format!("SHOW CREATE TABLE {LOGICAL}"))
        .await?;
    let admin = story.admin();
    let (_, now) = story
        .tributary(&["schema", "show", LOGICAL, "--admin", &admin])
        .await?;
    ensure!(now.trim_end() == theirs.1, "{now}\n{}", theirs.1);
    let executed = story.world.service.status().await?.gtid_executed();
    let uuid = executed.split(':').next().unwrap_or_default();
    let points = |p: &Point| {
        [
            format!("{uuid}:{}", p.gno),
            p.tso.to_string(),
            p.time.clone(),
        ]
    };
    for at in points(before) {
        let (_, then) = story
            .tributary(&["schema", "show", LOGICAL, "--at", &at, "--admin", &admin])
            .await?;
        ensure!(
            then.contains("`made` datetime(3)") && !then.contains("late"),
            "{at}: {then}"
        );
    }
    for at in points(behind) {
        let (_, then) = story
            .tributary(&["schema", "show", LOGICAL, "--at", &at, "--admin", &admin])
            .await?;
        ensure!(then == now, "{at}: {then}");
    }
    let at = format!("{uuid}:{}", before.gno);
    let diff = ["schema", "diff", LOGICAL, "--from", &at, "--admin", &admin];
    let (_, diff) = story.tributary(&diff).await?;
    for part in ["`late`", "`born`", "`made`", "enum('a','b','c')"] {
        ensure!(diff.contains(part), "{part}: {diff}");
    }
    story.world.service.stop().await?;
    let dir = story.world.service.data_dir();
    let dir = dir.to_string_lossy();
    let (_, stopped) = story
        .tributary(&["schema", "show", LOGICAL, "--data-dir", &dir])
        .await?;
    ensure!(stopped == now, "{stopped}\n{now}");
    story.world.service.launch().await
}

/// `tributary check` holds the routes against the tables that the nodes have.
async fn checked(story: &Story) -> Result<()> {
    let good = story.world.service.config_path();
    let path = good.to_string_lossy().into_owned();
    let (ok, text) = story.tributary(&["check", "--config", &path]).await?;
    ensure!(ok && text.contains("6 tables: OK"), "{text}");
    let wrong = "[[route]]\nfrom = \"shop_*.order*_5\"\nto = \"shop.other\"\n\
                 [[route]]\nfrom = \"nowhere_*.x\"\nto = \"shop.x\"\n";
    let bad = good.with_file_name("wrong.toml");
    std::fs::write(&bad, std::fs::read_to_string(&good)? + "\n" + wrong)?;
    let path = bad.to_string_lossy().into_owned();
    let (ok, text) = story.tributary(&["check", "--config", &path]).await?;
    ensure!(
        !ok && text.contains("`nowhere_*.x` matches no table")
            && text.contains("shop_2.orders_5 is claimed by"),
        "{text}"
    );
    Ok(())
}

/// A table that is changed beside the binlog of a node that writes no names stops the merge, by name; it goes on when it is told what
/// the table is like.
async fn contradicted(story: &mut Story) -> Result<()> {
    let beside = "SET sql_log_bin = 0; ALTER TABLE shop_1.orders_2 ADD COLUMN ghost INT; SET sql_log_bin = 1; \
                  INSERT INTO shop_1.orders_2 (id, ghost) VALUES (1000000, 1)";
    story.on(1, beside).await?;
    let halted = |s: &tributary_tests::service::Status| {
        let state = s.state();
        state.starts_with("halted: node dn2") && state.contains("shop_1.orders_2")
    };
    let service = &story.world.service;
    let status = service
        .wait_status("the contradiction is seen", Duration::from_secs(60), halted)
        .await?;
    println!("{}", status.state());
    let (_, create): (String, String) = story.world.cluster.nodes[1]
        .row("SHOW CREATE TABLE shop_1.orders_2")
        .await?;
    let file = story.world.cluster.dir().join("orders_2.sql");
    std::fs::write(&file, create)?;
    story.world.service.kill9();
    let dir = story.world.service.data_dir();
    let (dir, file) = (dir.to_string_lossy(), file.to_string_lossy());
    let define = ["schema", "define", "--data-dir", &dir];
    let of = ["dn2", "shop_1", "orders_2", &file];
    let (ok, text) = story.tributary(&[define, of].concat()).await?;
    ensure!(ok && text.contains("+  `ghost` int DEFAULT NULL"), "{text}");
    story.world.service.launch().await?;
    let arrived = format!("SELECT COUNT(*) = 1 FROM {LOGICAL} WHERE id = 1000000");
    story.replica.wait_until(&arrived, CATCH_UP).await?;
    let log = std::fs::read_to_string(story.world.service.log_path())?;
    ensure!(
        log.contains("(`ghost`): they are left out"),
        "nobody is told"
    );
    let back = "DELETE FROM shop_1.orders_2 WHERE id = 1000000; ALTER TABLE shop_1.orders_2 DROP COLUMN ghost";
    story.on(1, back).await?;
    story.same().await?;
    story.world.verified().await
}
