//! Benchmarks of Tributary: what it does, measured beside what MySQL's own programs do with the same bytes.
//!
//! In: the command line. Out: figures and ratios, as text and as JSON. `docs/benchmarks.md` says what they mean.

mod all;
mod binlogs;
mod client;
mod dump;
mod figures;
mod history;
mod latency;
mod merge;
mod micro;
mod parallel;
mod proc;
mod readers;
mod replay;
mod reshape;
mod rng;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use binlogs::Plan;
use history::Shape;
use world::World;

/// Benchmarks of Tributary.
#[derive(Parser)]
#[command(name = "tributary-bench", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What the data are.
#[derive(Args, Clone, Debug)]
struct Data {
    /// Nodes of the cluster
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// MiB of binlog on each node
    #[arg(long, default_value_t = 128)]
    mib: u64,
    /// Number that decides everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Multi-row inserts in rows events of 8 KiB, instead of short transactions
    #[arg(long)]
    bulk: bool,
}

impl Data {
    fn plan(&self) -> Plan {
        let shape = if self.bulk { Shape::Bulk } else { Shape::Oltp };
        Plan {
            nodes: self.nodes.into(),
            mib: self.mib,
            seed: self.seed,
            shape,
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Write the binlog of one node of a cluster, as mysqld 9.7 would
    Generate {
        /// Directory to write to; it must not have binlog files
        dir: PathBuf,
        /// Which node, from 0 on
        #[arg(long)]
        node: u16,
        #[command(flatten)]
        data: Data,
    },
    /// Serve a directory of binlogs like the MySQL node that wrote them, as user repl with the demo's password
    Replay {
        /// The directory; its index is called binlog.index
        dir: PathBuf,
        /// TCP port on 127.0.0.1
        #[arg(long)]
        port: u16,
        /// The node's server_id
        #[arg(long)]
        server_id: u32,
    },
    /// Merge four nodes into one durable binlog, beside mysqlbinlog --raw copying the same
    Merge {
        #[command(flatten)]
        data: Data,
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Without mysqlbinlog
        #[arg(long)]
        alone: bool,
    },
    /// Dump the merged binlog from the service and from a real mysqld, in turns
    Dump {
        #[command(flatten)]
        data: Data,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Everything, as text and JSON; fails when a ratio is not sane
    All {
        #[command(flatten)]
        data: Data,
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Few data and one round: tells whether it works, not how fast it is
        #[arg(long)]
        quick: bool,
        /// Where to write the figures
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Time from the acknowledgement of a commit until a dump client has it, beside a mysqld
    Latency {
        /// Transactions at each place
        #[arg(long, default_value_t = 500)]
        count: usize,
        /// Where files that are synced go: not a directory in memory
        #[arg(long, default_value = "/var/tmp")]
        disk: PathBuf,
    },
    /// Apply the same stream on a replica with four workers and on one with a single worker
    Parallel {
        #[arg(long, default_value_t = 20_000)]
        transactions: u64,
    },
    /// Many fast readers at once, alone and beside readers that have stopped; then connections that come and go
    Readers {
        #[command(flatten)]
        data: Data,
        /// Fast readers, and stopped ones
        #[arg(long, default_value_t = 100)]
        readers: u32,
        /// Rounds of each kind, in turns
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Seconds of a round
        #[arg(long, default_value_t = 8)]
        seconds: u64,
        /// Connections that come and go
        #[arg(long, default_value_t = 10_000)]
        cycles: u32,
    },
    /// Measure framing, assembling, merging and encoding by themselves, on one core
    Micro {
        #[command(flatten)]
        data: Data,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// MiB of each node in a quick run.
const QUICK_MIB: u64 = 32;

fn run(command: Command) -> Result<()> {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    };
    match command {
        Command::Generate { dir, node, data } => {
            let made = binlogs::generate_one(&data.plan(), node.into(), &dir)?;
            println!(
                "{}: {} bytes; history of {:?}",
                dir.display(),
                made.bytes[0],
                made.totals
            );
            Ok(())
        }
        Command::Replay {
            dir,
            port,
            server_id,
        } => replay::run(&dir, port, server_id),
        Command::Merge {
            data,
            rounds,
            alone,
        } => runtime()?.block_on(async {
            let mut world = World::start(&data.plan())?;
            let (figures, mut service) =
                merge::run(&mut world, merge::Options { rounds, alone }).await?;
            print!("{}", figures.render());
            service.stop().await
        }),
        Command::Dump { data, rounds } => runtime()?.block_on(async {
            let mut world = World::start(&data.plan())?;
            let (mut service, _) = world.merge().await?;
            print!(
                "{}",
                dump::run(&mut service, world.dir(), rounds).await?.render()
            );
            service.stop().await
        }),
        Command::All {
            data,
            rounds,
            quick,
            json,
        } => {
            let mut options = all::Options {
                plan: data.plan(),
                rounds,
                quick,
            };
            if quick {
                (options.plan.mib, options.rounds) = (QUICK_MIB, 1);
            }
            runtime()?.block_on(all::run(&options, json.as_deref()))
        }
        Command::Latency { count, disk } => runtime()?.block_on(async {
            print!("{}", latency::render(&latency::run(count, &disk).await?));
            Ok(())
        }),
        Command::Parallel { transactions } => {
            println!("{}", runtime()?.block_on(parallel::run(transactions))?);
            Ok(())
        }
        Command::Readers {
            data,
            readers,
            rounds,
            seconds,
            cycles,
        } => runtime()?.block_on(async {
            let mut world = World::start(&data.plan())?;
            let (mut service, _) = world.merge().await?;
            let plan = readers::Plan {
                readers,
                rounds,
                round: std::time::Duration::from_secs(seconds),
                cycles,
            };
            print!("{}", readers::run(&mut service, &plan)?.render());
            service.stop().await
        }),
        Command::Micro { data } => {
            let dir = tempfile::tempdir_in(world::tmpfs())?;
            print!("{}", micro::render(&micro::run(&data.plan(), dir.path())?));
            Ok(())
        }
    }
}
