//! Every change data capture client on one bank at once.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tributary_tests::bank::{Bank, BankOptions};
use tributary_tests::cluster::Cluster;
use tributary_tests::mysqld::{Mysqld, MysqldOptions, REPL_ACCOUNT};
use tributary_tests::service::{Service, ServiceOptions, Status, UserEntry};

use crate::client::{Client, Heartbeats, Site, Spec, until};
use crate::shards::Shards;

const CATCH_UP: Duration = Duration::from_secs(150);
const ACCOUNTS: u32 = 60;
const NATIVE: (&str, &str) = ("native", "native-demo");

/// How often each client is killed while it streams, at random moments; `TRIBUTARY_CLIENT_KILLS` says another number.
const KILLS: u32 = 2;
/// The tables of the bank whose columns stay.
const LASTING: &[&str] = &[
    "bank.accounts",
    "bank.transfers",
    "bank.markers",
    "bank.types",
];
const NO_INDEXES: &str = "it does not tell of statements that leave columns as they are";
const NO_GEOMETRIES: &str =
    "its parser knows no geometries: it passes over a CREATE TABLE that has one";
const BEHIND_YEAR: &str =
    "integers behind a YEAR, with binlog_row_metadata=FULL: refused from MySQL, too";

fn specs() -> Vec<Spec> {
    let spec = |name, program, server_id| Spec {
        name,
        program,
        api: "",
        account: REPL_ACCOUNT,
        server_id,
        modes: ["file", "gtid"],
        tls: false,
        own_position: false,
        heartbeats: Heartbeats::AtRest,
        exempt: &[],
        left_out: &[],
        only: &[],
    };
    vec![
        Spec {
            own_position: true,
            tls: true,
            // Its own are written behind what it reads, once in an interval.
            heartbeats: Heartbeats::AtTimes,
            // On a source with GTIDs it always goes by GTID.
            modes: ["gtid", "gtid"],
            ..spec("debezium", "debezium", 401)
        },
        Spec {
            api: "syncer",
            ..spec("go-mysql-syncer", "go", 402)
        },
        Spec {
            modes: ["gtid", "file"],
            // It asks for none.
            heartbeats: Heartbeats::Never,
            ..spec("mysql-async", "tributary-mysql-async-client", 409)
        },
        Spec {
            api: "canal",
            // Its own heartbeats are not told of.
            heartbeats: Heartbeats::Never,
            left_out: &[("geometries", NO_GEOMETRIES)],
            only: LASTING,
            ..spec("go-mysql-canal", "go", 406)
        },
        Spec {
            account: NATIVE,
            exempt: &[
                ("c_time", "it reads the fraction of a negative TIME wrongly"),
                ("c_set", "an empty SET is None to it"),
            ],
            ..spec("mysql-replication", "python", 403)
        },
        Spec {
            account: NATIVE,
            modes: ["gtid", "file"],
            heartbeats: Heartbeats::Never,
            ..spec("vlasky-zongji", "vlasky", 404)
        },
        Spec {
            account: NATIVE,
            modes: ["file", "file"],
            heartbeats: Heartbeats::Never,
            exempt: &[("c_latin", "it reads latin1 as UTF-8")],
            only: LASTING,
            ..spec("powersync-zongji", "powersync", 407)
        },
        Spec {
            own_position: true,
            modes: ["file", "file"],
            heartbeats: Heartbeats::Never,
            exempt: &[("c_time", "a negative TIME becomes a time of day")],
            left_out: &[("indexes", NO_INDEXES)],
            ..spec("maxwell", "maxwell", 408)
        },
        Spec {
            account: NATIVE,
            heartbeats: Heartbeats::Never,
            left_out: &[("bank.wide", BEHIND_YEAR), ("bank.types", BEHIND_YEAR)],
            ..spec("canal", "canal", 405)
        },
    ]
}

/// Whether the client is tested: all are, or those that `TRIBUTARY_CLIENTS` names.
pub(crate) fn chosen(name: &str) -> bool {
    let wanted = std::env::var("TRIBUTARY_CLIENTS").unwrap_or_default();
    wanted.is_empty() || wanted.split(',').any(|wanted| wanted == name)
}

struct World {
    clients: Vec<Client>,
    service: Service,
    cluster: Cluster,
    /// Where Maxwell keeps what it knows.
    _keeper: Option<Mysqld>,
}

impl World {
    async fn start(sum: i64) -> Result<Self> {
        let cluster = Cluster::start(3).await?;
        let mut options = ServiceOptions::new("tso", &cluster.nodes);
        options.max_binlog_size = Some("128KiB".to_owned());
        options.users.push(UserEntry {
            name: NATIVE.0.to_owned(),
            password: NATIVE.1.to_owned(),
            privileges: vec![
                "REPLICATION SLAVE".to_owned(),
                "REPLICATION CLIENT".to_owned(),
            ],
            extra: "plugin = \"mysql_native_password\"".to_owned(),
        });
        let service = Service::start(options, cluster.dir()).await?;
        let uuid = service_uuid(&service).await?;
        let mut specs = specs();
        specs.retain(|spec| chosen(spec.name));
        let keeper = if specs.iter().any(|spec| spec.program == "maxwell") {
            Some(keeper(cluster.dir()).await?)
        } else {
            None
        };
        let site = Site {
            keeper: keeper.as_ref().map_or(0, Mysqld::port),
            port: service.port(),
            uuid,
            dir: cluster.dir().to_owned(),
            sum,
        };
        // Debezium's binlog client cannot start on an empty GTID set, from MySQL either: there is one transaction when clients start.
        cluster
            .sql("CREATE DATABASE bank CHARACTER SET utf8mb4")
            .await?;
        let first = |status: &Status| status.gtid_executed().ends_with(":1");
        service
            .wait_status("the first transaction", CATCH_UP, first)
            .await?;
        let clients = specs
            .into_iter()
            .map(|spec| Client::start(spec, &site))
            .collect::<Result<_>>()?;
        Ok(Self {
            clients,
            service,
            cluster,
            _keeper: keeper,
        })
    }

    async fn last_gno(&self) -> Result<u64> {
        let executed = self.service.status().await?.gtid_executed();
        let last = executed.rsplit([':', '-']).next().unwrap_or_default();
        last.parse()
            .with_context(|| format!("GTID set {executed:?}"))
    }

    /// Every type of column in a table whose layout does not change: a copy of `wide`, as it is now, on every node.
    async fn copy_types(&self) -> Result<()> {
        for node in &self.cluster.nodes {
            let (columns,): (String,) = node
                .row(
                    "SELECT GROUP_CONCAT(COLUMN_NAME) FROM information_schema.COLUMNS \
                     WHERE TABLE_SCHEMA = 'bank' AND TABLE_NAME = 'wide' AND GENERATION_EXPRESSION = ''",
                )
                .await?;
            node.sql(&format!(
                "CREATE TABLE bank.types LIKE bank.wide; INSERT INTO bank.types ({columns}) SELECT {columns} FROM bank.wide"
            ))
            .await?;
        }
        Ok(())
    }

    /// Every client has all that is in the log.
    async fn caught_up(&mut self, may_end: bool) -> Result<u64> {
        let last = self.last_gno().await?;
        let what = format!("transaction {last}");
        let result = until(&mut self.clients, &what, CATCH_UP, may_end, |client| {
            client.model().last.gno >= last
        });
        result.await.with_context(|| self.service.log_tail())?;
        Ok(last)
    }

    /// Kills each client in the middle of it, at a moment of its own, and starts it again; then each gets somewhat further.
    async fn kill_and_resume(&mut self) -> Result<()> {
        let mut goals = Vec::new();
        for client in &mut self.clients {
            let pause = rand::random_range(0..200);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            client.kill9().await?;
            goals.push((
                client.spec.name,
                client.model().last.gno + rand::random_range(1..60),
            ));
            client.launch()?;
        }
        let there = |client: &Client| {
            let goal = goals.iter().find(|(name, _)| *name == client.spec.name);
            goal.is_none_or(|(_, gno)| client.model().last.gno >= *gno)
        };
        until(
            &mut self.clients,
            "some more transactions",
            CATCH_UP,
            false,
            there,
        )
        .await
    }

    /// Every client has read every transaction, and has what the shards have.
    async fn same(&mut self, bank: &Bank, may_end: bool) -> Result<()> {
        bank.mark().await?;
        let nodes = self.cluster.nodes.iter().map(Mysqld::root_opts);
        let shards = Shards::read(nodes).await?;
        // What the marker wrote is durable once a node's answer to it is read and merged.
        let deadline = tokio::time::Instant::now() + CATCH_UP;
        let mut last = 0;
        let mut bad = Vec::new();
        while tokio::time::Instant::now() < deadline {
            last = self.caught_up(may_end).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            if self.last_gno().await? == last {
                break;
            }
        }
        let all = self
            .clients
            .iter()
            .map(|client| usize::try_from(client.model().ddls));
        let model_ddls = all.flatten().max().unwrap_or(0);
        for client in &self.clients {
            let spec = &client.spec;
            let exempt = spec.exempt.iter().chain(spec.left_out);
            let exempt = exempt.map(|(name, _)| *name);
            let unread = shards.names();
            let unread = unread.filter(|name| !spec.only.is_empty() && !spec.only.contains(name));
            let exempt: Vec<&str> = exempt.chain(unread).collect();
            let model = client.model();
            let differences = shards.differences(&model, &exempt);
            // Those that keep their position themselves begin where the log ends.
            let first = model
                .seen
                .first()
                .copied()
                .filter(|_| spec.own_position)
                .unwrap_or(1);
            ensure!(first <= 3, "{} began at transaction {first}", spec.name);
            let untold = if spec.left_out.is_empty() {
                0
            } else {
                model_ddls
            };
            let missing: Vec<u64> = (first..=last)
                .filter(|gno| !model.seen.contains(gno))
                .collect();
            println!(
                "{}: {} rows in {} tables, {} transactions, {} of them schema changes, {} read twice, {} gone on with inside, \
                 {} starts, {} rotations, {} heartbeats",
                spec.name,
                shards.rows(),
                model.tables.len(),
                model.seen.len(),
                model.ddls,
                model.replayed,
                model.continued,
                model.starts,
                model.rotates,
                model.heartbeats
            );
            ensure!(
                spec.heartbeats == Heartbeats::Never || model.heartbeats > 0,
                "{}: no heartbeats",
                spec.name
            );
            // Schema changes of tables that are left out are left out, too.
            if missing.len() > untold || !differences.is_empty() || !model.skewed.is_empty() {
                let first: Vec<&String> = differences.iter().take(12).collect();
                let skewed = &model.skewed;
                bad.push(format!(
                    "{}: transactions {missing:?} are missing; {} differences: {first:#?}; {skewed:?}",
                    spec.name,
                    differences.len()
                ));
            }
        }
        ensure!(bad.is_empty(), "{}", bad.join("\n"));
        Ok(())
    }
}

/// A MySQL of Maxwell's own.
pub(crate) async fn keeper(dir: &Path) -> Result<Mysqld> {
    let keeper = Mysqld::start(MysqldOptions::node("keeper", 90), dir).await?;
    let account = "CREATE USER maxwell IDENTIFIED WITH caching_sha2_password BY 'maxwell'; \
                   GRANT ALL ON *.* TO maxwell";
    keeper.sql(account).await?;
    Ok(keeper)
}

async fn service_uuid(service: &Service) -> Result<String> {
    use mysql_async::prelude::Queryable;
    let mut conn = mysql_async::Conn::new(service.opts()).await?;
    let uuid: Option<String> = conn.query_first("SELECT @@global.server_uuid").await?;
    uuid.context("no server_uuid")
}

async fn flush(service: &Service) -> Result<()> {
    use mysql_async::prelude::Queryable;
    let mut conn = mysql_async::Conn::new(service.opts()).await?;
    conn.query_drop("FLUSH BINARY LOGS").await?;
    Ok(conn.disconnect().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_reads_the_bank_over_kills_restarts_and_rotations() -> Result<()> {
    let options = BankOptions {
        accounts: ACCOUNTS,
        rate: Some(40.0),
        ddl_every: Some(Duration::from_millis(1500)),
        seed: Some(23),
        ..BankOptions::default()
    };
    let sum = i64::from(ACCOUNTS) * 10_000;
    let began = Instant::now();
    let mut world = World::start(sum).await?;
    let may_end = false;
    until(
        &mut world.clients,
        "a first start",
        CATCH_UP,
        may_end,
        |client| client.model().starts > 0 || client.model().heartbeats > 0,
    )
    .await?;
    let bank = Bank::new(world.cluster.app_opts(), options)?;
    ensure!(
        bank.expected_sum() == sum,
        "the bank holds {}",
        bank.expected_sum()
    );
    bank.open().await?;
    let running = tokio::spawn({
        let bank = bank.clone();
        async move { bank.run().await }
    });
    until(
        &mut world.clients,
        "some transactions",
        CATCH_UP,
        may_end,
        |client| client.model().last.gno > 60,
    )
    .await?;
    println!("streaming at {:?}", began.elapsed());
    let kills = match std::env::var("TRIBUTARY_CLIENT_KILLS") {
        Ok(kills) => kills.parse()?,
        Err(_) => KILLS,
    };
    for _ in 0..kills {
        world.kill_and_resume().await?;
    }
    world.caught_up(false).await?;
    println!(
        "killed {kills} times each and resumed at {:?}",
        began.elapsed()
    );
    // The log rotates, the service is killed and comes back.
    flush(&world.service).await?;
    world.service.kill9();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.service.launch().await?;
    world.caught_up(true).await?;
    println!("behind a restart of the service at {:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(3)).await;
    bank.close();
    println!("{:?}", running.await??);
    world.copy_types().await?;
    world.same(&bank, true).await?;
    println!("equal at {:?}", began.elapsed());
    idle(&mut world).await?;
    // Stopped; the log goes on; started again by the other of its ways to say where it was.
    for client in &mut world.clients {
        client.kill9().await?;
        client.other_mode();
    }
    world
        .cluster
        .sql(
            "UPDATE bank.types SET c_int = 5, c_time = '-00:00:01.5', c_decimal = -0.5, c_point = POINT(1, -2) \
             WHERE id % 3 = 0; DELETE FROM bank.types WHERE id % 3 = 1",
        )
        .await?;
    flush(&world.service).await?;
    for client in &mut world.clients {
        client.launch()?;
    }
    world.same(&bank, false).await
}

/// A quiet log keeps the connections: heartbeats come, and nothing else does.
async fn idle(world: &mut World) -> Result<()> {
    let before: Vec<u64> = world
        .clients
        .iter()
        .map(|client| client.model().heartbeats)
        .collect();
    tokio::time::sleep(Duration::from_secs(4)).await;
    for (client, before) in world.clients.iter_mut().zip(before) {
        client.look_after(false).await?;
        let heartbeats = client.model().heartbeats;
        ensure!(
            client.spec.heartbeats != Heartbeats::AtRest || heartbeats > before,
            "{}: no heartbeat in 4 s",
            client.spec.name
        );
    }
    Ok(())
}
