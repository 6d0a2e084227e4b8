//! MariaDB's replicas and mariadb-binlog, of two releases: by file and position, as `CHANGE MASTER TO` has it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tributary_tests::bank::{Bank, BankOptions};
use tributary_tests::cluster::{Cluster, Workplace};
use tributary_tests::compare::{CompareOptions, compare};
use tributary_tests::mariadb::{Mariadb, Release};
use tributary_tests::mysqld::Mysqld;
use tributary_tests::service::{Service, ServiceOptions, UserEntry};

/// The account of MariaDB replicas: they know `mysql_native_password` only.
const ACCOUNT: (&str, &str) = ("maria", "maria-demo");
const CATCH_UP: Duration = Duration::from_secs(120);

fn account() -> UserEntry {
    UserEntry {
        name: ACCOUNT.0.to_owned(),
        password: ACCOUNT.1.to_owned(),
        privileges: vec![
            "REPLICATION SLAVE".to_owned(),
            "REPLICATION CLIENT".to_owned(),
        ],
        extra: "plugin = \"mysql_native_password\"".to_owned(),
    }
}

struct World {
    replicas: Vec<Mariadb>,
    service: Service,
    cluster: Cluster,
}

impl World {
    async fn start() -> Result<Self> {
        // MariaDB 10.11 has none of MySQL's 0900 collations.
        let cluster = Cluster::start_with(3, Workplace::temporary()?, |options| {
            options.arg("--collation-server=utf8mb4_general_ci")
        })
        .await?;
        let mut options = ServiceOptions::new("tso", &cluster.nodes);
        options.users.push(account());
        options.max_binlog_size = Some("256KiB".to_owned());
        let service = Service::start(options, cluster.dir()).await?;
        let (dir, args) = (cluster.dir(), ["--slave-net-timeout=60"]);
        let (own, trixie) = tokio::try_join!(
            Mariadb::start(Release::Own, "maria-own", 301, &args, dir),
            Mariadb::start(Release::Trixie, "maria-trixie", 302, &args, dir),
        )?;
        Ok(Self {
            replicas: vec![own, trixie],
            service,
            cluster,
        })
    }

    fn change_master(&self, more: &str) -> String {
        let (user, password) = ACCOUNT;
        format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='{user}', \
             MASTER_PASSWORD='{password}', MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=0.02, {more}",
            self.service.port()
        )
    }

    /// Every replica has all of the bank, row for row.
    async fn same(&self, bank: &Bank) -> Result<()> {
        let marker = bank.mark().await?;
        let shards: Vec<_> = self.cluster.nodes.iter().map(Mysqld::root_opts).collect();
        let options = CompareOptions {
            // MariaDB describes the same columns in other words.
            definitions: false,
            ..CompareOptions::default()
        };
        for replica in &self.replicas {
            replica
                .wait_until(&marker.query(), CATCH_UP)
                .await
                .with_context(|| self.service.log_tail())?;
            let result = compare(&shards, &replica.root_opts(), &options).await?;
            ensure!(result.is_same(), "{}: {result}", replica.name());
            println!("{}: {result}", replica.name());
        }
        Ok(())
    }

    /// A hundred heartbeats later every replica stands where the log ends.
    async fn no_drift(&self) -> Result<()> {
        let end = durable_end(&self.service).await?;
        for replica in &self.replicas {
            let first = heartbeats(replica).await?;
            let deadline = tokio::time::Instant::now() + CATCH_UP;
            while heartbeats(replica).await? < first + 100 {
                ensure!(
                    tokio::time::Instant::now() < deadline,
                    "{}: no 100 heartbeats",
                    replica.name()
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            replica.is_sound().await?;
            let read = (
                replica.status("Master_Log_File").await?,
                replica.status("Read_Master_Log_Pos").await?.parse()?,
            );
            ensure!(
                read == end,
                "{} stands at {read:?}, the log ends at {end:?}",
                replica.name()
            );
        }
        Ok(())
    }
}

async fn heartbeats(replica: &Mariadb) -> Result<u64> {
    let (_, count): (String, u64) = replica
        .row("SHOW GLOBAL STATUS LIKE 'Slave_received_heartbeats'")
        .await?;
    Ok(count)
}

async fn durable_end(service: &Service) -> Result<(String, u64)> {
    use mysql_async::prelude::Queryable;
    let mut conn = mysql_async::Conn::new(service.opts()).await?;
    let row: Option<mysql_async::Row> = conn.query_first("SHOW BINARY LOG STATUS").await?;
    let row = row.context("no binary log status")?;
    let file = row.get(0).context("no file")?;
    Ok((file, row.get(1).context("no position")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_replicas_of_two_releases_follow_the_bank() -> Result<()> {
    let mut world = World::start().await?;
    // 11.8 wants a verified certificate unless told otherwise; 10.11 uses no TLS unless told to.
    let from_start = "MASTER_LOG_FILE='binlog.000001', MASTER_LOG_POS=4";
    let how = [
        "MASTER_SSL=0",
        "MASTER_SSL=1, MASTER_SSL_VERIFY_SERVER_CERT=0",
    ];
    for (replica, tls) in world.replicas.iter().zip(how) {
        let statement = world.change_master(&format!("{from_start}, {tls}"));
        replica.sql(&format!("{statement}; START SLAVE")).await?;
    }
    let options = BankOptions {
        duration: Some(Duration::from_secs(12)),
        rate: Some(60.0),
        ddl_every: Some(Duration::from_millis(1500)),
        json: false,
        seed: Some(11),
        ..BankOptions::default()
    };
    let bank = Bank::new(world.cluster.app_opts(), options)?;
    bank.open().await?;
    let running = tokio::spawn({
        let bank = bank.clone();
        async move { bank.run().await }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Disconnected and resumed; killed; and the service goes away and comes back.
    world.replicas[0].sql("STOP SLAVE IO_THREAD").await?;
    world.replicas[1].kill9();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.replicas[0].sql("START SLAVE IO_THREAD").await?;
    world.replicas[1].launch().await?;
    world.replicas[1].sql("START SLAVE").await?;
    world.service.kill9();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.service.launch().await?;
    let done = running.await??;
    println!("{done:?}");
    world.same(&bank).await?;
    let files = binlogs(&world.service.data_dir())?;
    ensure!(files.len() > 2, "no rotation: {files:?}");
    world.no_drift().await?;
    // A new start from the position it has reached, and one from the position of a restart of the service.
    for replica in &world.replicas {
        replica.sql("STOP SLAVE; START SLAVE").await?;
    }
    world.service.restart().await?;
    world.same(&bank).await?;
    for release in [Release::Own, Release::Trixie] {
        copies(&world, release, &format!("copy-{release:?}")).await?;
    }
    Ok(())
}

fn binlogs(dir: &Path) -> Result<Vec<String>> {
    let names =
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<String>>>()?;
    names.retain(|name| name.starts_with("binlog.") && !name.ends_with(".index"));
    names.sort();
    Ok(names)
}

/// `mariadb-binlog --raw` of all files gives the files, and without `--raw` it can read every event.
async fn copies(world: &World, release: Release, dir: &str) -> Result<()> {
    let dir = world.cluster.dir().join(dir);
    std::fs::create_dir_all(&dir)?;
    let data = world.service.data_dir();
    let files = binlogs(&data)?;
    let run = |more: Vec<String>| {
        let program = release.program("mariadb-binlog");
        let (dir, first) = (dir.clone(), files[0].clone());
        let port = world.service.port();
        async move {
            let output = tokio::process::Command::new(program?)
                .current_dir(dir)
                .args([
                    "--no-defaults",
                    "--read-from-remote-server",
                    "--host=127.0.0.1",
                ])
                .arg(format!("--port={port}"))
                .arg(format!("--user={}", ACCOUNT.0))
                .arg(format!("--password={}", ACCOUNT.1))
                .args(more)
                .args(["--to-last-log", &first])
                .stdin(Stdio::null())
                .output()
                .await?;
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "mariadb-binlog: {errors}");
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
    };
    // 11.8's would verify the certificate.
    let plain = "--skip-ssl".to_owned();
    run(vec![plain.clone(), "--raw".to_owned()]).await?;
    for name in &files {
        let mut bytes = std::fs::read(data.join(name))?;
        let event = bytes.get_mut(4..).context("a binlog has a header")?;
        tributary_binlog::set_in_use(event, false);
        ensure!(std::fs::read(dir.join(name))? == bytes, "{name} differs");
    }
    let text = run(vec![plain, "--verbose".to_owned()]).await?;
    ensure!(
        text.contains("### INSERT INTO `bank`.`transfers`"),
        "no rows in the text"
    );
    Ok(())
}
