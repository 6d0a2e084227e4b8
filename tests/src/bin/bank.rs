//! `tributary-bank`: the bank workload against given nodes. In: node URLs and options; out: a
//! progress line a second, and the checked sum at the end.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use mysql_async::{Opts, OptsBuilder};
use tributary_tests::bank::{Bank, BankOptions, Mix};

/// Transfers money between shards in distributed transactions, for ever or for a while.
#[derive(Debug, Parser)]
#[command(name = "tributary-bank", version)]
struct Arguments {
    /// The nodes, such as mysql://app:app-demo@127.0.0.1:3301
    #[arg(required = true, env = "TRIBUTARY_BANK_NODES", value_delimiter = ',')]
    nodes: Vec<String>,
    /// Seconds to run; for ever without this and --transactions
    #[arg(long)]
    seconds: Option<f64>,
    /// Transactions to run
    #[arg(long)]
    transactions: Option<u64>,
    /// Transactions a second
    #[arg(long)]
    rate: Option<f64>,
    /// Concurrent clients
    #[arg(long, default_value_t = 8)]
    workers: u32,
    /// Accounts over all nodes
    #[arg(long, default_value_t = 300)]
    accounts: u32,
    /// Longest memo of a transfer, in characters
    #[arg(long, default_value_t = 120)]
    memo: usize,
    /// Seconds between schema changes; none without this
    #[arg(long)]
    ddl_every: Option<f64>,
    /// Commit without timestamps, for a cluster with order = "causal"
    #[arg(long)]
    unstamped: bool,
    /// Transfers between nodes only
    #[arg(long)]
    only_transfers: bool,
    /// No JSON column, for MariaDB replicas
    #[arg(long)]
    no_json: bool,
    /// Database on each node; {node} stands for its number
    #[arg(long, default_value = "bank")]
    schema: String,
    /// Seed of everything random
    #[arg(long)]
    seed: Option<u64>,
}

impl Arguments {
    fn options(&self) -> Result<BankOptions> {
        let seconds = |value: Option<f64>| value.map(Duration::try_from_secs_f64).transpose();
        let only = Mix {
            cross_shard: 1,
            rolled_back: 0,
            unstamped: 0,
            one_phase: 0,
            local: 0,
            local_stamped: 0,
            wide: 0,
            moves: 0,
        };
        Ok(BankOptions {
            accounts: self.accounts,
            workers: self.workers,
            duration: seconds(self.seconds)?,
            transactions: self.transactions,
            rate: self.rate,
            seed: self.seed,
            mix: if self.only_transfers {
                only
            } else {
                Mix::default()
            },
            stamped: !self.unstamped,
            ddl_every: seconds(self.ddl_every)?,
            memo: self.memo,
            json: !self.no_json,
            schema: self.schema.clone(),
        })
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let nodes = arguments
        .nodes
        .iter()
        .map(|url| node_opts(url))
        .collect::<Result<Vec<_>>>()?;
    let bank = Bank::new(nodes, arguments.options()?)?;
    bank.open().await?;
    let running = tokio::spawn({
        let bank = Arc::clone(&bank);
        async move { bank.run().await }
    });
    let closing = Arc::clone(&bank);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            closing.close();
        }
    });
    let started = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while !running.is_finished() {
        ticks.tick().await;
        show(&bank, started)?;
    }
    running.await??;
    show(&bank, started)?;
    println!();
    let (accounts, sum) = bank.totals().await?;
    ensure!(
        sum == bank.expected_sum(),
        "the sum is {sum}, not {}",
        bank.expected_sum()
    );
    println!("{accounts} accounts hold {sum} in all, as they should");
    Ok(ExitCode::SUCCESS)
}

fn node_opts(url: &str) -> Result<Opts> {
    let opts = Opts::from_url(url.trim()).with_context(|| format!("not a node URL: {url}"))?;
    Ok(OptsBuilder::from_opts(opts).prefer_socket(false).into())
}

fn show(bank: &Bank, started: Instant) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let (line, end) = if out.is_terminal() {
        ("\r\x1b[K", "")
    } else {
        ("", "\n")
    };
    let seconds = started.elapsed().as_secs_f64();
    write!(out, "{line}{seconds:6.1} s  {}{end}", bank.stats())?;
    Ok(out.flush()?)
}
