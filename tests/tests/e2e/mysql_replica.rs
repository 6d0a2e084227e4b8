//! MySQL replicas and mysqlbinlog at the service, in every way they can be told to connect, while the bank runs with DDL: first
//! start, broken connections, a restart of the service, rotation. Each ends with the shards' rows.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::{Instant, sleep};
use tributary_tests::bank::{Bank, BankOptions};
use tributary_tests::mysqld::{Mysqld, MysqldOptions, REPL_ACCOUNT};
use tributary_tests::process::{Lifetime, Process, Program};
use tributary_tests::service::UserEntry;
use tributary_tests::tools::mysql_program;
use tributary_tests::wire::{Hide, WireProxy};

use crate::world::{CATCH_UP, World, binlogs, remote_mysqlbinlog, text};

/// Account that may connect over TLS only, and one that must say its password.
const ACCOUNTS: [(&str, &str); 2] = [
    ("secure", "require_tls = true"),
    ("full", "full_authentication = true"),
];

/// A way to replicate.
struct Way {
    name: &'static str,
    server_id: u32,
    account: &'static str,
    arguments: &'static [&'static str],
    /// Of CHANGE REPLICATION SOURCE TO, behind host, port and account.
    options: &'static str,
}

const WAYS: &[Way] = &[
    Way {
        name: "tls",
        server_id: 201,
        account: "secure",
        arguments: &[],
        options: "SOURCE_AUTO_POSITION=1, SOURCE_SSL=1, SOURCE_SSL_CA='{cert}', SOURCE_SSL_VERIFY_SERVER_CERT=0, \
                  SOURCE_TLS_VERSION='TLSv1.3', SOURCE_TLS_CIPHERSUITES='TLS_AES_256_GCM_SHA384', \
                  SOURCE_HEARTBEAT_PERIOD=0.5, SOURCE_DELAY=0, IGNORE_SERVER_IDS=(), PRIVILEGE_CHECKS_USER=NULL, \
                  REQUIRE_ROW_FORMAT=1, REQUIRE_TABLE_PRIMARY_KEY_CHECK=STREAM, \
                  ASSIGN_GTIDS_TO_ANONYMOUS_TRANSACTIONS=OFF, GTID_ONLY=1",
    },
    Way {
        name: "key",
        server_id: 202,
        account: "full",
        arguments: &["--replica-parallel-workers=1"],
        options: "SOURCE_AUTO_POSITION=0, SOURCE_LOG_FILE='binlog.000001', SOURCE_LOG_POS=4, SOURCE_SSL=0, \
                  GET_SOURCE_PUBLIC_KEY=1, SOURCE_HEARTBEAT_PERIOD=0.5",
    },
    Way {
        name: "zstd",
        server_id: 203,
        account: REPL_ACCOUNT.0,
        arguments: &[],
        options: "SOURCE_AUTO_POSITION=1, SOURCE_SSL=0, SOURCE_COMPRESSION_ALGORITHMS='zstd', \
                  SOURCE_ZSTD_COMPRESSION_LEVEL=5",
    },
    Way {
        name: "semi_sync",
        server_id: 204,
        account: "full",
        arguments: &[
            "--plugin-load-add=semisync_replica.so",
            "--rpl-semi-sync-replica-enabled=ON",
        ],
        options: "SOURCE_AUTO_POSITION=1, SOURCE_SSL=1, SOURCE_COMPRESSION_ALGORITHMS='zlib'",
    },
];

/// A replica and the wire it hangs on.
struct Attached {
    way: &'static Way,
    server: Mysqld,
    wire: WireProxy,
}

impl Attached {
    async fn start(world: &World, way: &'static Way) -> Result<Self> {
        let mut options = MysqldOptions::replica(way.name, way.server_id);
        for argument in way.arguments {
            options = options.arg(argument);
        }
        let server = Mysqld::start(options, world.cluster.dir()).await?;
        let wire = WireProxy::start_at(0, world.service.port(), Hide::Nothing).await?;
        let cert = world.service.data_dir().join("server-cert.pem");
        let options = way.options.replace("{cert}", &cert.to_string_lossy());
        server
            .sql(&format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='{}', \
                 SOURCE_PASSWORD='{}', SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=86400, {options}; START REPLICA",
                wire.port(),
                way.account,
                REPL_ACCOUNT.1,
            ))
            .await?;
        Ok(Self { way, server, wire })
    }

    /// Breaks its connection and waits until it has another that streams.
    async fn broken(&self) -> Result<()> {
        let connections = self.wire.transcript().conversations.len();
        self.wire.cut();
        let deadline = Instant::now() + CATCH_UP;
        loop {
            let status = self.server.replica_status().await?.unwrap_or_default();
            let more = self.wire.transcript().conversations.len() > connections;
            if more && status.io_running == "Yes" {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{}: {status}", self.way.name);
            sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn attach(world: &World) -> Result<Vec<Attached>> {
    let mut attached = Vec::new();
    for way in WAYS {
        let started = Attached::start(world, way).await;
        attached.push(started.with_context(|| way.name)?);
    }
    Ok(attached)
}

async fn stage() -> Result<World> {
    let world = World::start(|options| {
        options.max_binlog_size = Some("256KiB".into());
        options.server_extra = "semi_sync = true\n".into();
        for (name, extra) in ACCOUNTS {
            options.users.push(UserEntry {
                name: name.to_owned(),
                password: REPL_ACCOUNT.1.to_owned(),
                privileges: vec!["REPLICATION SLAVE".to_owned()],
                extra: extra.to_owned(),
            });
        }
    });
    world.await
}

async fn bank(world: &World, seed: u64, seconds: u64) -> Result<Arc<Bank>> {
    let options = BankOptions {
        duration: Some(Duration::from_secs(seconds)),
        ddl_every: Some(Duration::from_secs(2)),
        rate: Some(80.0),
        seed: Some(seed),
        ..BankOptions::default()
    };
    world.bank(options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_and_mysqlbinlog_follow_in_every_way() -> Result<()> {
    let mut world = stage().await?;
    let attached = attach(&world).await?;
    let bank = bank(&world, 61, 10).await?;
    let running = tokio::spawn({
        let bank = bank.clone();
        async move { bank.run().await }
    });
    sleep(Duration::from_secs(2)).await;
    for replica in &attached {
        replica.broken().await?;
    }
    // A slow machine may write too little to fill files by itself.
    for _ in 0..3 {
        let mut conn = Conn::new(world.service.opts()).await?;
        conn.query_drop("FLUSH BINARY LOGS").await?;
        sleep(Duration::from_millis(300)).await;
    }
    world.service.restart().await?;
    let copy = Follower::start(&world)?;
    running.await??;
    for replica in &attached {
        world.same(&bank, &replica.server).await?;
        let status = replica.server.replica_status().await?.unwrap_or_default();
        ensure!(status.is_healthy(), "{}: {status}", replica.way.name);
    }
    connected_as_told(&attached)?;
    acknowledged(&world).await?;
    let files = binlogs(&world.service.data_dir())?;
    ensure!(files.len() > 4, "{files:?} are few");
    copy.follows_the_log(&world, &files).await?;
    copied_by_mysqlbinlog(&world, &files).await?;
    world.no_errors_logged()
}

/// Compression and TLS were really used.
fn connected_as_told(attached: &[Attached]) -> Result<()> {
    const ZSTD: u32 = 1 << 26;
    const COMPRESS: u32 = 1 << 5;
    for replica in attached {
        let said = replica.wire.transcript();
        let name = replica.way.name;
        for conversation in said
            .conversations
            .iter()
            .filter(|c| !c.greeting.version.is_empty())
        {
            let both = conversation.login.capabilities & conversation.greeting.capabilities;
            let tls = conversation.auth.iter().any(|step| step == "TLS");
            let key = conversation.auth.iter().any(|step| step == "more: key");
            let right = match name {
                "tls" => tls,
                "key" => key && !tls,
                "zstd" => both & ZSTD != 0 && !tls,
                _ => tls && both & COMPRESS != 0,
            };
            ensure!(right, "{name}: {conversation:?}");
        }
    }
    Ok(())
}

/// The semi-synchronous replica has acknowledged the durable end.
async fn acknowledged(world: &World) -> Result<()> {
    let done = |clients: &serde_json::Value| {
        let clients = clients.as_array().into_iter().flatten();
        let semi_sync: Vec<_> = clients.filter(|c| c["semi_sync"] == true).collect();
        semi_sync.len() == 1
            && semi_sync
                .iter()
                .all(|c| c["caught_up"] == true && c["acknowledged"] == c["position"])
    };
    let deadline = Instant::now() + CATCH_UP;
    loop {
        let status = world.service.status().await?;
        if done(&status.0["dump_clients"]) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{}", status.0["dump_clients"]);
        sleep(Duration::from_millis(100)).await;
    }
}

/// `mysqlbinlog --stop-never --raw`.
struct Follower {
    process: Process,
    dir: tempfile::TempDir,
}

fn same_file(ours: &Path, copy: &Path) -> Result<bool> {
    let mut bytes = std::fs::read(ours)?;
    tributary_binlog::set_in_use(bytes.get_mut(4..).unwrap_or_default(), false);
    Ok(std::fs::read(copy).is_ok_and(|copied| copied == bytes))
}

impl Follower {
    fn start(world: &World) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let arguments = [
            "--no-defaults".to_owned(),
            "--read-from-remote-server".to_owned(),
            "--raw".to_owned(),
            "--stop-never".to_owned(),
            "--connection-server-id=299".to_owned(),
            "--host=127.0.0.1".to_owned(),
            format!("--port={}", world.service.port()),
            format!("--user={}", REPL_ACCOUNT.0),
            format!("--password={}", REPL_ACCOUNT.1),
            format!("--result-file={}/", dir.path().display()),
            "binlog.000001".to_owned(),
        ];
        let process = Process::spawn(&Program {
            name: "mysqlbinlog".to_owned(),
            path: mysql_program("mysqlbinlog")?,
            args: arguments.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            log: dir.path().join("log"),
            lifetime: Lifetime::Owned,
        })?;
        Ok(Self { process, dir })
    }

    async fn follows_the_log(mut self, world: &World, files: &[String]) -> Result<()> {
        let deadline = Instant::now() + CATCH_UP;
        for file in files {
            while !same_file(
                &world.service.data_dir().join(file),
                &self.dir.path().join(file),
            )? {
                let log = std::fs::read_to_string(self.dir.path().join("log"))?;
                ensure!(
                    self.process.exited().is_none(),
                    "mysqlbinlog has ended: {log}"
                );
                ensure!(Instant::now() < deadline, "{file} differs: {log}");
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }
}

/// Copies of the whole log: by position, by GTID; and as text, some transactions left out.
async fn copied_by_mysqlbinlog(world: &World, files: &[String]) -> Result<()> {
    for how in [
        "--read-from-remote-source=BINLOG-DUMP-NON-GTIDS",
        "--read-from-remote-source=BINLOG-DUMP-GTIDS",
    ] {
        let dir = tempfile::tempdir()?;
        let args = [how, "--raw", "--to-last-log", "binlog.000001"];
        let output = remote_mysqlbinlog(world, &args, dir.path()).await?;
        ensure!(output.status.success(), "{how}: {}", text(&output));
        for file in files {
            let same = same_file(&world.service.data_dir().join(file), &dir.path().join(file))?;
            ensure!(same, "{how}: {file} differs");
        }
    }
    let executed = world.service.status().await?.gtid_executed();
    let uuid = executed.split(':').next().unwrap_or_default().to_owned();
    let last = world.last_gno().await?;
    let exclude = format!("--exclude-gtids={uuid}:1-{}", last - 2);
    let args = [
        "--read-from-remote-source=BINLOG-DUMP-GTIDS",
        &exclude,
        "--to-last-log",
        "binlog.000001",
    ];
    let dir = tempfile::tempdir()?;
    let output = remote_mysqlbinlog(world, &args, dir.path()).await?;
    ensure!(output.status.success(), "{}", text(&output));
    let printed = text(&output);
    for (gno, there) in [
        (1, false),
        (last - 2, false),
        (last - 1, true),
        (last, true),
    ] {
        let gtid = format!("SET @@SESSION.GTID_NEXT= '{uuid}:{gno}'");
        ensure!(printed.contains(&gtid) == there, "{gtid}: {there}");
    }
    Ok(())
}
