//! Benchmarks of Tributary: what it does, measured beside what MySQL's own programs do with the same bytes.
//!
//! In: the command line. Out: figures and ratios, as text and as JSON. `docs/benchmarks.md` says what they mean.

mod binlogs;
mod history;
mod rng;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use binlogs::Plan;
use history::Shape;

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
        Plan { nodes: self.nodes.into(), mib: self.mib, seed: self.seed, shape }
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

fn run(command: Command) -> Result<()> {
    match command {
        Command::Generate { dir, node, data } => {
            let made = binlogs::generate_one(&data.plan(), node.into(), &dir)?;
            println!("{}: {} bytes; history of {:?}", dir.display(), made.bytes[0], made.totals);
            Ok(())
        }
    }
}
