//! Names: letters of other scripts, dots, backticks, keywords, and any case, on nodes of which one folds names and one does not;
//! databases that are named in the statement or before it. And what never flows: schemas of the server, accounts.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tributary_tests::cluster::{Cluster, Workplace};
use tributary_tests::compare::{CompareOptions, compare};
use tributary_tests::mysqld::Mysqld;
use tributary_tests::service::{Service, ServiceOptions};

use crate::world::{CATCH_UP, World, text};

const ROUTES: &str = r#"
[[route]]
from = "Shop_*.Orders_*"
to = "shop.orders"
[[route]]
from = "订单_*.明细_*"
to = "订单.明细"
[[route]]
from = "`we.ird`.`t``*`"
to = "`we.ird`.`one``.two`"
[[route]]
from = '/dots\.\d/./t\.\d+/'
to = "`all.dots`.`t.all`"
[[route]]
from = "key_*.order"
to = "`key`.`order`"
"#;

/// A database and a table of it.
type Table = (&'static str, &'static str);

/// What each of the nodes has, as statements have it, and what downstream has.
const TABLES: [([Table; 2], Table); 5] = [
    (
        [("Shop_1", "Orders_1"), ("SHOP_2", "oRDERS_2")],
        ("shop", "orders"),
    ),
    (
        [("订单_1", "明细_01"), ("`订单_2`", "`明细_02`")],
        ("订单", "明细"),
    ),
    (
        [("`we.ird`", "`t``*`"), ("`we.ird`", "`t``*`")],
        ("we.ird", "one`.two"),
    ),
    (
        [("`dots.1`", "`t.1`"), ("`dots.2`", "`t.22`")],
        ("all.dots", "t.all"),
    ),
    (
        [("key_1", "`order`"), ("`key_2`", "`order`")],
        ("key", "order"),
    ),
];

/// Each is run on one node, then on the other; `{d}` and `{t}` stand for the database and the table.
const STATEMENTS: [&str; 8] = [
    "CREATE DATABASE {d}",
    "CREATE TABLE {d}.{t} (id INT PRIMARY KEY, `名 前` VARCHAR(9), `a.b``c` INT, Cased INT, last INT)",
    "ALTER TABLE {d} . {t} ADD COLUMN `加.列` INT DEFAULT 5 AFTER `a.b``c`",
    "USE {d}; ALTER TABLE {t} RENAME COLUMN `a.b``c` TO `d``.e`",
    "USE {d}; CREATE INDEX `i.x` ON {t} (`名 前`)",
    "USE mysql; ALTER TABLE {d}.{t} MODIFY `加.列` BIGINT DEFAULT 6",
    "USE {d}; ALTER TABLE {t} DROP COLUMN CASED",
    "ALTER TABLE {d}.{t} CHANGE `last` `select` INT",
];

async fn run(world: &World) -> Result<()> {
    let mut id = 0;
    for (step, statement) in STATEMENTS.iter().enumerate() {
        for (n, node) in world.cluster.nodes.iter().enumerate() {
            for (parts, _) in &TABLES {
                let (database, table) = parts[n];
                let sql = statement.replace("{d}", database).replace("{t}", table);
                node.sql(&sql).await?;
            }
            if step == 0 || (step == 1 && n == 0) {
                continue;
            }
            for (n, node) in world.cluster.nodes.iter().enumerate() {
                for (parts, _) in &TABLES {
                    let (database, table) = parts[n];
                    id += 1;
                    node.sql(&format!(
                        "USE {database}; INSERT INTO {table} (id, `名 前`) VALUES ({id}, '值{id}'); \
                         UPDATE {database}.{table} SET `名 前` = '改' WHERE id = {id} - 10"
                    ))
                    .await?;
                }
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_what_each_node_takes_them_for() -> Result<()> {
    let cluster = Cluster::start_with(2, Workplace::temporary()?, |options| {
        if options.name == "dn2" {
            options.folding_names()
        } else {
            options
        }
    })
    .await?;
    let mut options = ServiceOptions::new("tso", &cluster.nodes);
    options.tables = ROUTES.into();
    let service = Service::start(options, cluster.dir()).await?;
    let world = World { service, cluster };
    let replica = world.replica("replica", 201).await?;
    run(&world).await?;
    for (n, node) in world.cluster.nodes.iter().enumerate() {
        node.sql(&format!(
            "CREATE TABLE mysql.not_for_others (id INT PRIMARY KEY); INSERT INTO mysql.not_for_others VALUES (1); \
             CREATE USER 'only here'@'%' IDENTIFIED BY 'x'; GRANT SELECT ON *.* TO 'only here'@'%'; \
             CREATE DATABASE plain; CREATE TABLE plain.last (id INT PRIMARY KEY); INSERT INTO plain.last VALUES ({n})"
        ))
        .await?;
    }
    let last = "SELECT COUNT(*) = 2 FROM plain.last";
    let arrived = replica.wait_until(last, CATCH_UP).await;
    arrived.map_err(|e| e.context(world.service.log_tail()))?;
    same(&world, &replica).await?;
    never_flowing(&replica).await?;
    checked(&world).await?;
    world.verified().await?;
    world.no_errors_logged()
}

async fn same(world: &World, replica: &Mysqld) -> Result<()> {
    let shards: Vec<_> = world.cluster.nodes.iter().map(Mysqld::root_opts).collect();
    let bare = |name: &str| match name.strip_prefix('`').and_then(|n| n.strip_suffix('`')) {
        Some(quoted) => quoted.replace("``", "`"),
        None => name.to_owned(),
    };
    let options = CompareOptions {
        mapping: Arc::new(move |schema, table| {
            let physical = (schema.to_lowercase(), table.to_lowercase());
            let of = |part: &(&str, &str)| {
                (bare(part.0).to_lowercase(), bare(part.1).to_lowercase()) == physical
            };
            let known = TABLES.iter().find(|(parts, _)| parts.iter().any(of));
            match known {
                Some((_, (s, t))) => Some(((*s).to_owned(), (*t).to_owned())),
                None => Some((schema.to_owned(), table.to_owned())),
            }
        }),
        ..CompareOptions::default()
    };
    let result = compare(&shards, &replica.root_opts(), &options).await?;
    ensure!(result.is_same(), "{result}\n{}", world.service.log_tail());
    println!("{result}");
    let databases: Vec<String> = replica
        .rows("SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')")
        .await?;
    let mut want: Vec<&str> = TABLES.iter().map(|(_, (s, _))| *s).collect();
    want.push("plain");
    let strange = databases.iter().find(|d| !want.contains(&d.as_str()));
    ensure!(
        strange.is_none() && databases.len() == want.len(),
        "{databases:?}"
    );
    Ok(())
}

/// What belongs to a node stays there.
async fn never_flowing(replica: &Mysqld) -> Result<()> {
    let query = "SELECT (SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'not_for_others') + \
                 (SELECT COUNT(*) FROM mysql.user WHERE user = 'only here')";
    let found: u64 = replica.row(query).await?;
    ensure!(found == 0, "{found} things of a node are on the replica");
    Ok(())
}

/// `tributary check` tells that the nodes differ.
async fn checked(world: &World) -> Result<()> {
    let path = world.service.config_path();
    let path = path.to_string_lossy();
    let output = world.service.command(&["check", "--config", &path]).await?;
    let said = text(&output);
    ensure!(
        said.contains("lower_case_table_names is 0 on some nodes and not on others"),
        "{said}"
    );
    Ok(())
}
