//! Statements about accounts, where they are asked for: one node's flow, and an account can do downstream what it can there.

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable;
use tributary_tests::cluster::{Cluster, Workplace};
use tributary_tests::mysqld::Mysqld;
use tributary_tests::service::{Service, ServiceOptions};

use crate::world::{CATCH_UP, World};

const CONFIG: &str = r#"
[[route]]
from = "shop_*.orders_*"
to = "shop.orders"
[ignore]
tables = ["shop_*.own"]
[ddl]
accounts = true
"#;

/// What each node is told, with its number for `#`; each has salts of its own for the same password.
const EVERYWHERE: [&str; 11] = [
    "CREATE DATABASE shop_#; CREATE TABLE shop_#.orders_# (id INT PRIMARY KEY, secret INT); CREATE TABLE shop_#.own (id INT)",
    "CREATE USER 'reader'@'%' IDENTIFIED BY 'first', 'other'@'localhost' IDENTIFIED BY 'x'",
    "ALTER USER 'reader'@'%' IDENTIFIED BY 'second' COMMENT 'it''s ON shop_#.orders_#'",
    "CREATE ROLE 'watcher'",
    "USE mysql; GRANT SELECT (id) ON shop_#.orders_# TO 'watcher'",
    "USE shop_#; GRANT INSERT ON orders_# TO 'watcher'; GRANT SELECT ON own TO 'watcher'",
    "GRANT CREATE VIEW ON `shop\\_#`.* TO 'watcher'; GRANT PROCESS ON *.* TO 'watcher'",
    "GRANT 'watcher' TO 'reader'@'%'; SET DEFAULT ROLE ALL TO 'reader'@'%'",
    "USE shop_#; REVOKE INSERT ON shop_#.orders_# FROM 'watcher'",
    "RENAME USER 'other'@'localhost' TO 'another'@'localhost'; DROP USER 'another'@'localhost'",
    "INSERT INTO shop_#.orders_# VALUES (#, 5)",
];

async fn first_column(server: &Mysqld, query: &str) -> Result<Vec<String>> {
    let mut conn = server.root().await?;
    let answer: Vec<String> = conn.query(query).await?;
    conn.disconnect().await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_can_do_downstream_what_it_can_on_its_node() -> Result<()> {
    let cluster = Cluster::start_with(2, Workplace::temporary()?, |options| options).await?;
    let mut options = ServiceOptions::new("tso", &cluster.nodes);
    options.tables = CONFIG.into();
    let service = Service::start(options, cluster.dir()).await?;
    let mut world = World { service, cluster };
    let replica = world.replica("replica", 201).await?;
    let nodes = &world.cluster.nodes;
    nodes[1].sql("CREATE USER 'only_second'@'%'").await?;
    for (step, statements) in EVERYWHERE.iter().enumerate() {
        for (n, node) in (1..).zip(nodes) {
            node.sql(&statements.replace('#', &n.to_string())).await?;
        }
        if step == 4 {
            world.service.kill9();
            world.service.launch().await?;
        }
    }
    let all = replica.wait_until("SELECT COUNT(*) = 2 FROM shop.orders", CATCH_UP);
    all.await.with_context(|| world.service.log_tail())?;
    let grants = first_column(&replica, "SHOW GRANTS FOR 'watcher'").await?;
    ensure!(
        grants
            == [
                "GRANT PROCESS ON *.* TO `watcher`@`%`",
                "GRANT CREATE VIEW ON `shop`.* TO `watcher`@`%`",
                "GRANT SELECT (`id`) ON `shop`.`orders` TO `watcher`@`%`",
            ],
        "{grants:?}"
    );
    let users = "SELECT user FROM mysql.user WHERE user IN ('only_second', 'other', 'another')";
    let others = first_column(&replica, users).await?;
    ensure!(others.is_empty(), "{others:?}");
    // Its password is that of the node.
    ensure!(replica.conn(("reader", "first")).await.is_err());
    let mut reader = replica.conn(("reader", "second")).await?;
    let ids: Vec<u32> = reader
        .query("SELECT id FROM shop.orders ORDER BY id")
        .await?;
    ensure!(ids == [1, 2], "{ids:?}");
    let secret = reader.query_drop("SELECT secret FROM shop.orders").await;
    ensure!(secret.is_err(), "only one column was granted");
    let log = std::fs::read_to_string(world.service.log_path())?;
    let told = log.contains("privileges on shop_1.own are not carried over");
    ensure!(told, "{}", world.service.log_tail());
    world.verified().await?;
    world.no_errors_logged()
}
