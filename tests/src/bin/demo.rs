//! `tributary-demo`: three MySQL nodes, the service and a MySQL replica on this machine, a bank
//! that runs over the nodes, and a comparison of what arrived with what went in.
//!
//! In: options. Out: a progress line, `PASS` or the differences, and the exit code to match.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use tokio::task::JoinHandle;
use tributary_tests::bank::{Bank, BankOptions, StatsSnapshot};
use tributary_tests::cluster::{Cluster, Workplace};
use tributary_tests::compare::{CompareOptions, Comparison, compare};
use tributary_tests::mysqld::{Mysqld, MysqldOptions, REPL_ACCOUNT, ReplicaStatus};
use tributary_tests::process::Lifetime;
use tributary_tests::service::{Service, ServiceOptions};
use tributary_tests::tools;

/// Shows Tributary with real servers.
#[derive(Debug, Parser)]
#[command(name = "tributary-demo", version)]
struct Arguments {
    /// Seconds the bank runs
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// MySQL nodes
    #[arg(long, default_value_t = 3)]
    nodes: u32,
    /// Concurrent clients of the bank
    #[arg(long, default_value_t = 8)]
    workers: u32,
    /// Transactions a second; as many as the machine can without this
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds between schema changes; 0 for none
    #[arg(long, default_value_t = 4.0)]
    ddl_every: f64,
    /// tso or causal
    #[arg(long, default_value = "tso")]
    order: String,
    /// Leave all servers running at the end, and tell how to connect
    #[arg(long)]
    keep: bool,
    /// Directory of the servers; a temporary one without --keep
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = tokio::select! {
        outcome = run(&arguments) => outcome,
        // Dropping what has started stops it, and removes its directory.
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<bool> {
    say("looking for a MySQL server");
    println!(
        "  MySQL {} in {}",
        tools::mysql_version()?,
        tools::mysql_root()?.display()
    );
    let stage = Stage::set(arguments).await?;
    let bank = Bank::new(stage.cluster.app_opts(), bank_options(arguments)?)?;
    bank.open().await?;
    let text = format!("the bank runs for {} seconds", arguments.seconds);
    say(&text);
    let running = tokio::spawn({
        let bank = Arc::clone(&bank);
        async move { bank.run().await }
    });
    let stats = stage.show_until_done(&bank, running).await?;
    say("waiting for the replica");
    let marker = bank.mark().await?;
    let marked = Instant::now();
    stage
        .replica
        .wait_until(&marker.query(), Duration::from_secs(120))
        .await?;
    println!(
        "  it has everything {} ms after the last commit",
        marked.elapsed().as_millis()
    );
    say("comparing every table of the replica with the shards");
    let comparison = stage.compare().await?;
    println!("  {comparison}");
    let (_, sum): (i64, i64) = stage.replica.row(&bank.replica_totals_query()).await?;
    println!(
        "  the accounts hold {sum} on the replica; it should be {}",
        bank.expected_sum()
    );
    let passed = comparison.is_same() && sum == bank.expected_sum() && stats.distributed > 0;
    println!("\n{}", if passed { "PASS" } else { "FAIL" });
    if arguments.keep {
        stage.leave_running();
    }
    Ok(passed)
}

fn bank_options(arguments: &Arguments) -> Result<BankOptions> {
    let ddl_every = Duration::try_from_secs_f64(arguments.ddl_every)?;
    Ok(BankOptions {
        duration: Some(Duration::try_from_secs_f64(arguments.seconds)?),
        workers: arguments.workers,
        rate: arguments.rate,
        ddl_every: (!ddl_every.is_zero()).then_some(ddl_every),
        stamped: arguments.order == "tso",
        ..BankOptions::default()
    })
}

fn say(what: &str) {
    println!("\n{what} …");
}

/// All the servers.
struct Stage {
    // In the order in which they are to stop.
    replica: Mysqld,
    service: Service,
    cluster: Cluster,
}

impl Stage {
    async fn set(arguments: &Arguments) -> Result<Self> {
        let lifetime = if arguments.keep {
            Lifetime::Releasable
        } else {
            Lifetime::Owned
        };
        let workplace = workplace(arguments)?;
        say(&format!(
            "starting {} MySQL nodes in {}",
            arguments.nodes,
            workplace.path().display()
        ));
        let adjust = |mut options: MysqldOptions| {
            options.lifetime = lifetime;
            options
        };
        let cluster = Cluster::start_with(arguments.nodes, workplace, adjust).await?;
        for node in &cluster.nodes {
            println!("  {} on 127.0.0.1:{}", node.name(), node.port());
        }
        say("starting Tributary");
        let mut options = ServiceOptions::new(&arguments.order, &cluster.nodes);
        options.lifetime = lifetime;
        let service = Service::start(options, cluster.dir()).await?;
        println!(
            "  on 127.0.0.1:{}, admin on 127.0.0.1:{}",
            service.port(),
            service.admin_port()
        );
        say("starting a MySQL replica of Tributary");
        let options = adjust(MysqldOptions::replica("replica", 900));
        let replica = Mysqld::start(options, cluster.dir()).await?;
        replica.replicate_from(&service.source()).await?;
        println!("  replica on 127.0.0.1:{}", replica.port());
        Ok(Self {
            replica,
            service,
            cluster,
        })
    }

    async fn show_until_done(
        &self,
        bank: &Bank,
        running: JoinHandle<Result<StatsSnapshot>>,
    ) -> Result<StatsSnapshot> {
        let started = Instant::now();
        let terminal = std::io::stdout().is_terminal();
        let mut last = (started, 0);
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        let mut number = 0_u32;
        while !running.is_finished() {
            ticks.tick().await;
            number += 1;
            if !terminal && !number.is_multiple_of(10) {
                continue;
            }
            let (line, merged) = self.progress(bank, started, last).await?;
            last = (Instant::now(), merged);
            let mut out = std::io::stdout().lock();
            if terminal {
                write!(out, "\r\x1b[K  {line}")?;
            } else {
                writeln!(out, "  {line}")?;
            }
            out.flush()?;
        }
        let stats = running.await??;
        println!("{}  done: {stats}", if terminal { "\n" } else { "" });
        Ok(stats)
    }

    /// One line about the bank, the service and the replica, and the transactions merged so far.
    async fn progress(
        &self,
        bank: &Bank,
        started: Instant,
        (last_at, last_merged): (Instant, u64),
    ) -> Result<(String, u64)> {
        let status = self.service.status().await;
        let status = status.with_context(|| format!("Tributary:\n{}", self.service.log_tail()))?;
        let replica = self.replica.replica_status().await?.unwrap_or_default();
        if replica.sql_running == "No" || replica.io_running == "No" {
            bail!("the replica has stopped: {}", describe(&replica));
        }
        let merged = status.transactions();
        #[expect(clippy::cast_precision_loss, reason = "shown without decimals")]
        let rate = merged.saturating_sub(last_merged) as f64 / last_at.elapsed().as_secs_f64();
        let lag = status
            .lag_ms()
            .map_or_else(|| "-".to_owned(), |lag| format!("{lag} ms"));
        let (file, position) = &replica.applied_position;
        let line = format!(
            "{:4.1} s | bank {} | merged {merged} ({rate:.0}/s), lag {lag}, watermark {} | \
             replica at {file}:{position}",
            started.elapsed().as_secs_f64(),
            bank.stats().committed(),
            status.watermark(),
        );
        Ok((line, merged))
    }

    async fn compare(&self) -> Result<Comparison> {
        let shards: Vec<_> = self.cluster.nodes.iter().map(Mysqld::root_opts).collect();
        compare(
            &shards,
            &self.replica.root_opts(),
            &CompareOptions::default(),
        )
        .await
    }

    fn leave_running(mut self) {
        let (user, password) = REPL_ACCOUNT;
        let (port, admin) = (self.service.port(), self.service.admin_port());
        let bin = tools::mysql_root().map(|root| root.join("bin").display().to_string());
        let bin = bin.unwrap_or_default();
        println!(
            "\nAll servers go on in {}. Try",
            self.cluster.dir().display()
        );
        let client = format!("-h 127.0.0.1 -P {port} -u {user} -p{password}");
        println!("  {bin}/mysql {client} -e 'SHOW BINARY LOG STATUS'");
        println!("  {bin}/mysqlbinlog {client} -R --stop-never -v binlog.000001");
        println!("  curl http://127.0.0.1:{admin}/status");
        println!(
            "  {bin}/mysql -u root -S {}",
            self.replica.socket().display()
        );
        println!("or make a replica of your own, on a server with gtid_mode=ON:");
        println!("  {}; START REPLICA;", self.service.source().statement());
        let mut pids = Vec::new();
        for server in self.cluster.nodes.iter_mut().chain([&mut self.replica]) {
            server.release();
            pids.extend(server.pid());
        }
        if let Some(process) = self.service.process() {
            process.release();
            pids.push(process.id());
        }
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        println!("Stop them with\n  kill {}", pids.join(" "));
    }
}

fn describe(replica: &ReplicaStatus) -> String {
    replica.errors().unwrap_or_else(|| replica.to_string())
}

/// A directory that is cleared first when it is the demo's own of an earlier run.
fn workplace(arguments: &Arguments) -> Result<Workplace> {
    let dir = match (&arguments.dir, arguments.keep) {
        (None, false) => return Workplace::temporary(),
        (Some(dir), _) => dir.clone(),
        (None, true) => tools::cache_dir().join(format!("demo-{}", std::process::id())),
    };
    std::fs::create_dir_all(&dir)?;
    if std::fs::read_dir(&dir)?.next().is_some() {
        bail!("{} is not empty", dir.display());
    }
    Ok(Workplace::Lasting(dir))
}
