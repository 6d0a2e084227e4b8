//! Physical tables of three nodes are one table downstream, while their definitions change one by one and the service is
//! restarted.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tributary_tests::compare::{CompareOptions, compare};
use tributary_tests::mysqld::Mysqld;

use crate::world::{CATCH_UP, World};

const ROUTES: &str = r#"
[[route]]
from = "shop_*.orders_*"
to = "shop.orders"
[[route]]
from = "shop_*.city"
to = "shop.city"
broadcast = true
[ignore]
tables = ["shop_*.tmp_*", "scratch"]
"#;

/// The database and the two tables of a node.
fn parts(node: usize) -> [String; 2] {
    [0, 1].map(|n| format!("shop_{node}.orders_{}", node * 2 + n))
}

/// The tables of all nodes, and what is written into them.
struct Shop {
    world: World,
    next_id: u64,
}

impl Shop {
    async fn on(&self, node: usize, sql: &str) -> Result<()> {
        self.world.cluster.nodes[node].sql(sql).await
    }

    /// Runs a statement on every part; `{}` stands for its name.
    async fn each(&self, sql: &str) -> Result<()> {
        for n in 0..3 {
            for table in parts(n) {
                self.on(n, &sql.replace("{}", &table)).await?;
            }
        }
        Ok(())
    }

    /// A row in every part.
    async fn insert(&mut self, columns: &str, values: &str) -> Result<()> {
        for n in 0..3 {
            for table in parts(n) {
                self.next_id += 1;
                let id = self.next_id;
                let sql = format!("INSERT INTO {table} (id, {columns}) VALUES ({id}, {values})");
                self.on(n, &sql).await?;
            }
        }
        Ok(())
    }

    /// Changes one part after the other, with rows in all parts before each; the service is killed on the way.
    async fn change(&mut self, change: &str, columns: &str, values: &str) -> Result<()> {
        for n in 0..3 {
            for table in parts(n) {
                self.insert(columns, values).await?;
                self.on(n, &format!("ALTER TABLE {table} {change}")).await?;
            }
            if n == 1 {
                self.world.service.kill9();
                self.world.service.launch().await?;
            }
        }
        self.insert(columns, values).await
    }

    async fn open(&self) -> Result<()> {
        for n in 0..3 {
            self.on(
                n,
                &format!(
                    "CREATE DATABASE shop_{n}; \
                     CREATE TABLE shop_{n}.city (id INT PRIMARY KEY, name VARCHAR(20)); \
                     CREATE DATABASE scratch; CREATE TABLE scratch.x (id INT); \
                     INSERT INTO scratch.x VALUES (1)"
                ),
            )
            .await?;
        }
        self.each("CREATE TABLE {} (id BIGINT PRIMARY KEY, name VARCHAR(20), gone INT)")
            .await?;
        for n in 0..3 {
            let sql = format!("INSERT INTO shop_{n}.city VALUES (1, 'Ulm'), (2, 'Köln')");
            self.on(n, &sql).await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_many_nodes_are_one() -> Result<()> {
    let world = World::start(|options| options.tables = ROUTES.into()).await?;
    let replica = world.replica("replica", 201).await?;
    let mut shop = Shop { world, next_id: 0 };
    shop.open().await?;
    for (change, columns, values) in [
        ("ADD COLUMN more INT NOT NULL DEFAULT 7", "name", "'one'"),
        ("DROP COLUMN gone", "name", "'two'"),
        ("RENAME COLUMN name TO title", "more", "3"),
        ("MODIFY more BIGINT NOT NULL DEFAULT 9", "title", "'four'"),
        ("ADD INDEX (title)", "title", "'five'"),
    ] {
        shop.change(change, columns, values).await?;
    }
    shop.each("UPDATE {} SET more = more + 1, title = CONCAT(title, 'x')")
        .await?;
    shop.each("DELETE FROM {} WHERE id % 3 = 0").await?;
    // Both kinds of tables in one statement: what is ignored is left out. And a table with its rows in one transaction.
    shop.on(
        0,
        "CREATE TABLE shop_0.tmp_1 (id BIGINT PRIMARY KEY); \
         INSERT INTO shop_0.tmp_1 SELECT id FROM shop_0.orders_0; \
         UPDATE shop_0.orders_0 o JOIN shop_0.tmp_1 t USING (id) SET o.more = 77, t.id = t.id + 1000000; \
         CREATE TABLE shop_0.orders_100 (PRIMARY KEY (id)) SELECT id + 500000 AS id, title, more FROM shop_0.orders_0",
    )
    .await?;
    for n in 0..3 {
        shop.on(
            n,
            "CREATE DATABASE plain; CREATE TABLE plain.last (id INT PRIMARY KEY)",
        )
        .await?;
    }
    shop.on(2, "CREATE TABLE plain.copied SELECT 1 AS one")
        .await?;
    for n in 0..3 {
        shop.on(n, &format!("INSERT INTO plain.last VALUES ({n})"))
            .await?;
    }
    let world = shop.world;
    same(&world, &replica).await?;
    let show: (String, String) = replica.row("SHOW CREATE TABLE shop.orders").await?;
    ensure!(
        show.1.contains("`title`") && !show.1.contains("gone"),
        "{}",
        show.1
    );
    let databases: Vec<String> = replica.rows("SHOW DATABASES").await?;
    let physical = |d: &String| d.starts_with("shop_") || d == "scratch";
    ensure!(!databases.iter().any(physical), "{databases:?}");
    world.verified().await?;
    world.no_errors_logged()
}

/// The replica has all parts in one table, and one of the copies.
async fn same(world: &World, replica: &Mysqld) -> Result<()> {
    // The last rows of each node.
    let last = "SELECT COUNT(*) = 3 FROM plain.last";
    replica.wait_until(last, CATCH_UP).await?;
    let shards: Vec<_> = world.cluster.nodes.iter().map(Mysqld::root_opts).collect();
    let options = CompareOptions {
        mapping: Arc::new(|schema, table| match (schema, table) {
            (s, t) if s.starts_with("shop_") && t.starts_with("orders_") => {
                Some(("shop".into(), "orders".into()))
            }
            (s, "city") if s.starts_with("shop_") => Some(("shop".into(), "city".into())),
            (s, _) if s.starts_with("shop_") || s == "scratch" => None,
            (s, t) => Some((s.to_owned(), t.to_owned())),
        }),
        broadcast: ["shop.city".to_owned()].into(),
        definitions: false,
    };
    let result = compare(&shards, &replica.root_opts(), &options).await?;
    ensure!(result.is_same(), "{result}\n{}", world.service.log_tail());
    println!("{result}");
    Ok(())
}
