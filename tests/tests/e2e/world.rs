//! The stage: three nodes, the service, a bank. In: how it should be. Out: running servers, and the checks every story ends with.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mysql_async::Opts;
use tokio::time::sleep;
use tributary_tests::bank::{Bank, BankOptions};
use tributary_tests::cluster::Cluster;
use tributary_tests::compare::{CompareOptions, compare};
use tributary_tests::mysqld::{Mysqld, REPL_ACCOUNT};
use tributary_tests::service::{Service, ServiceOptions};
use tributary_tests::tools::mysql_program;

use crate::sum;

/// How long clients may take to catch up.
pub(crate) const CATCH_UP: Duration = Duration::from_secs(120);

/// Nodes and a service in front of them.
pub(crate) struct World {
    // Dropped first: it reads the nodes.
    pub(crate) service: Service,
    pub(crate) cluster: Cluster,
}

impl World {
    /// Three nodes and a service; `adjust` changes its options.
    pub(crate) async fn start(adjust: impl FnOnce(&mut ServiceOptions)) -> Result<Self> {
        let cluster = Cluster::start(3).await?;
        let mut options = ServiceOptions::new("tso", &cluster.nodes);
        adjust(&mut options);
        let service = Service::start(options, cluster.dir()).await?;
        Ok(Self { service, cluster })
    }

    /// A bank on the nodes, opened.
    pub(crate) async fn bank(&self, options: BankOptions) -> Result<Arc<Bank>> {
        let bank = Bank::new(self.cluster.app_opts(), options)?;
        bank.open().await?;
        Ok(bank)
    }

    /// A MySQL replica of the service, by GTID auto-position.
    pub(crate) async fn replica(&self, name: &str, server_id: u32) -> Result<Mysqld> {
        let replica = self.cluster.start_replica(name, server_id).await?;
        replica.replicate_from(&self.service.source()).await?;
        Ok(replica)
    }

    /// Waits until `replica` has everything the bank has committed, and compares every table with the union of the shards.
    pub(crate) async fn same(&self, bank: &Bank, replica: &Mysqld) -> Result<()> {
        let marker = bank.mark().await?;
        replica
            .wait_until(&marker.query(), CATCH_UP)
            .await
            .with_context(|| self.service.log_tail())?;
        let shards: Vec<_> = self.cluster.nodes.iter().map(Mysqld::root_opts).collect();
        let result = compare(&shards, &replica.root_opts(), &CompareOptions::default()).await?;
        ensure!(result.is_same(), "{}: {result}", replica.name());
        println!("{}: {result}", replica.name());
        Ok(())
    }

    /// What every story ends with: the replica is the same as the shards, the sum held behind each transaction, and the
    /// files are sound.
    pub(crate) async fn all_is_well(&self, bank: &Bank, replica: &Mysqld) -> Result<()> {
        self.same(bank, replica).await?;
        let expected = (bank.options().accounts as usize, bank.expected_sum());
        let last = self.last_gno().await?;
        let watched = sum::watch(self.service.opts(), expected, || Some(last)).await?;
        ensure!(
            watched == last,
            "{watched} transactions read, {last} written"
        );
        self.verified().await
    }

    /// `tributary verify` on the service's directory says that all is well.
    pub(crate) async fn verified(&self) -> Result<()> {
        verified(&self.service).await
    }

    /// What `tributary status` shows.
    pub(crate) async fn shown(&self) -> Result<String> {
        let admin = format!("http://127.0.0.1:{}", self.service.admin_port());
        let output = self.service.command(&["status", "--admin", &admin]).await?;
        Ok(text(&output))
    }

    /// Number of the last transaction that is durable.
    pub(crate) async fn last_gno(&self) -> Result<u64> {
        last_gno(&self.service).await
    }

    /// The service has logged nothing at ERROR.
    pub(crate) fn no_errors_logged(&self) -> Result<()> {
        let log = std::fs::read_to_string(self.service.log_path())?;
        let errors: Vec<&str> = log
            .lines()
            .filter(|l| l.contains("ERROR") || l.contains("panicked"))
            .collect();
        ensure!(
            errors.is_empty(),
            "the log has errors:\n{}",
            errors.join("\n")
        );
        Ok(())
    }
}

/// See [`World::verified`].
pub(crate) async fn verified(service: &Service) -> Result<()> {
    let dir = service.data_dir();
    let verify = ["verify".as_ref(), dir.as_os_str()];
    let output = service.command(&verify).await?;
    ensure!(output.status.success(), "verify: {}", text(&output));
    Ok(())
}

/// See [`World::last_gno`].
pub(crate) async fn last_gno(service: &Service) -> Result<u64> {
    let status = service.status().await?;
    let last = status.last_gno();
    last.with_context(|| format!("GTID set {:?}", status.gtid_executed()))
}

/// Waits until the replica has what the shards have together; nobody writes any more.
pub(crate) async fn becomes_same(
    shards: &[Opts],
    replica: &Mysqld,
    service: &Service,
) -> Result<()> {
    let deadline = Instant::now() + CATCH_UP;
    loop {
        let result = compare(shards, &replica.root_opts(), &CompareOptions::default()).await?;
        if result.is_same() {
            println!("{}: {result}", replica.name());
            return Ok(());
        }
        let status = replica.replica_status().await?.unwrap_or_default();
        ensure!(
            Instant::now() < deadline && status.errors().is_none(),
            "{result}; {status}; {}",
            service.log_tail()
        );
        sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until `counter` has grown by `more`.
pub(crate) async fn grows(counter: &AtomicU64, more: u64) -> Result<()> {
    let wanted = counter.load(SeqCst) + more;
    let deadline = Instant::now() + CATCH_UP;
    while counter.load(SeqCst) < wanted {
        ensure!(Instant::now() < deadline, "the application is stuck");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Runs `tributary COMMAND …` against the service; an error is what it says when it fails.
pub(crate) async fn ordered(service: &Service, command: &str, args: &[&str]) -> Result<String> {
    let admin = format!("http://127.0.0.1:{}", service.admin_port());
    let all = [&[command, "--admin", &admin], args].concat();
    let output = service.command(&all).await?;
    let shown = text(&output);
    ensure!(output.status.success(), "{command} {args:?}: {shown}");
    Ok(shown)
}

/// Runs one of MySQL's programs.
pub(crate) async fn mysql(program: &str, args: &[&str], dir: &Path) -> Result<Output> {
    let mut command = tokio::process::Command::new(mysql_program(program)?);
    Ok(command
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .await?)
}

/// Runs `mysqlbinlog` against the service, in `dir`.
pub(crate) async fn remote_mysqlbinlog(world: &World, args: &[&str], dir: &Path) -> Result<Output> {
    mysqlbinlog_from(world.service.port(), args, dir).await
}

/// Runs `mysqlbinlog` against the server at `port`, a node or the service, in `dir`.
pub(crate) async fn mysqlbinlog_from(port: u16, args: &[&str], dir: &Path) -> Result<Output> {
    let port = port.to_string();
    let password = format!("--password={}", REPL_ACCOUNT.1);
    let told = args.iter().any(|a| a.starts_with("--read-from-remote"));
    let login = [
        if told {
            "--no-defaults"
        } else {
            "--read-from-remote-server"
        },
        "--host=127.0.0.1",
        "--port",
        &port,
        "--user",
        REPL_ACCOUNT.0,
        &password,
        "--get-server-public-key",
    ];
    mysql("mysqlbinlog", &[&login[..], args].concat(), dir).await
}

/// What a program printed.
pub(crate) fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Names of the binlog files of a directory, in order.
pub(crate) fn binlogs(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("binlog.") && !name.ends_with(".index") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
