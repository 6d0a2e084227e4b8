//! The `tributary` binary: one global binlog from many MySQL nodes.
//!
//! In: the command line. Out: an exit code: 0 when done, 1 when the configuration, a node or a file is not as it should be,
//! 70 when the store failed and the process must not go on.

#![allow(clippy::print_stdout, reason = "a command line prints its results")]

mod admin;
mod changes;
mod check;
mod clients;
mod config;
mod descriptors;
mod directory;
mod durable_sets;
mod events;
mod fence_log;
mod metrics;
mod node_set;
mod node_status;
mod nodes;
mod orders;
mod pipeline;
mod rebuild;
mod routes;
mod schema;
mod serve;
mod status;
mod supervisor;
mod telemetry;
mod tls;
mod verify;
mod view;
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use config::Config;
use nodes::NodesCommand;
use routes::RoutesCommand;

/// The global binlog of sharded and distributed MySQL.
#[derive(Parser)]
#[command(name = "tributary", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Collect, merge and serve, all in one process
    Serve {
        /// Configuration file
        #[arg(long, env = "TRIBUTARY_CONFIG")]
        config: PathBuf,
    },
    /// Validate the configuration and every node's settings; one line per problem, exit code 1
    Check {
        /// Configuration file
        #[arg(long, env = "TRIBUTARY_CONFIG")]
        config: PathBuf,
        /// Do not connect to the nodes
        #[arg(long)]
        offline: bool,
    },
    /// Show nodes, watermarks, what blocks, the durable end and dump clients of a running service
    Status {
        #[command(flatten)]
        admin: Admin,
        /// Print the JSON as it is
        #[arg(long)]
        json: bool,
    },
    /// Add, remove, replace or rename nodes of a running service
    Nodes {
        #[command(flatten)]
        admin: Admin,
        #[command(subcommand)]
        command: NodesCommand,
    },
    /// Show the routes of a running service, or change them
    Routes {
        #[command(flatten)]
        admin: Admin,
        #[command(subcommand)]
        command: RoutesCommand,
    },
    /// Print one line for each event of a binlog file
    Events {
        /// The file
        file: PathBuf,
        /// Byte offset of the first event
        #[arg(long, value_name = "POS", default_value_t = 4)]
        from: u64,
        /// Events to print
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Check every binlog file of a data directory: checksums, positions, GTIDs, index
    Verify {
        /// The data directory of a service, or any directory with binlog files and their index
        dir: PathBuf,
        /// Print a JSON report
        #[arg(long)]
        json: bool,
    },
    /// Show the logical schema, as it is or was
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Make the index database of a stopped service anew from its binlog files
    RebuildIndex {
        /// The data directory
        dir: PathBuf,
    },
    /// Print docs/configuration.md
    #[command(hide = true)]
    ConfigReference,
}

/// The service that is asked.
#[derive(clap::Args)]
struct Admin {
    /// Address of the admin interface of a running service
    #[arg(
        long,
        global = true,
        env = "TRIBUTARY_ADMIN",
        default_value = "http://127.0.0.1:8307"
    )]
    admin: String,
}

/// Where the history of the schema is read.
#[derive(clap::Args)]
struct SchemaSource {
    #[command(flatten)]
    admin: Admin,
    /// Data directory of a stopped service, instead
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl SchemaSource {
    fn from(&self) -> schema::show::Source<'_> {
        match &self.data_dir {
            Some(dir) => schema::show::Source::Dir(dir),
            None => schema::show::Source::Admin(&self.admin.admin),
        }
    }
}

#[derive(Subcommand)]
enum SchemaCommand {
    /// Print a table's definition, or the names of all tables
    Show {
        /// The logical table, as schema.table
        table: Option<String>,
        /// A point: a GTID, a commit timestamp, or a UTC time as 2026-11-27T10:00:00; now without it
        #[arg(long, value_name = "GTID|TSO|TIME")]
        at: Option<String>,
        #[command(flatten)]
        source: SchemaSource,
    },
    /// Tell what a table of a node is like, where its log does not: it was changed beside the binlog, and
    /// `binlog_row_metadata` was MINIMAL. The service must be stopped
    Define {
        /// The node
        node: String,
        /// The database on the node
        schema: String,
        /// The table on the node
        table: String,
        /// Its CREATE TABLE, as SHOW CREATE TABLE prints it; - for the standard input
        file: PathBuf,
        /// Data directory of the stopped service
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Print what changed of a table, or of all, between two points
    Diff {
        /// The logical table, as schema.table
        table: Option<String>,
        /// The first point
        #[arg(long, value_name = "GTID|TSO|TIME")]
        from: String,
        /// The second point; now without it
        #[arg(long, value_name = "GTID|TSO|TIME")]
        to: Option<String>,
        #[command(flatten)]
        source: SchemaSource,
    },
}

fn show_schema(command: &SchemaCommand) -> anyhow::Result<ExitCode> {
    match command {
        SchemaCommand::Show { table, at, source } => {
            schema::show::run_show(&source.from(), table.as_deref(), at.as_deref())
        }
        SchemaCommand::Define {
            node,
            schema,
            table,
            file,
            data_dir,
        } => schema::define::run(data_dir, node, (schema, table), file),
        SchemaCommand::Diff {
            table,
            from,
            to,
            source,
        } => schema::show::run_diff(&source.from(), table.as_deref(), (from, to.as_deref())),
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve { config } => load(&config).and_then(|c| serve::run(c, &config)),
        Command::Check { config, offline } => load(&config).and_then(|c| check::run(&c, offline)),
        Command::Status { admin, json } => status::run(&admin.admin, json),
        Command::Nodes { admin, command } => nodes::run(&admin.admin, &command),
        Command::Routes { admin, command } => routes::run(&admin.admin, &command),
        Command::Events { file, from, limit } => events::run(&file, from, limit),
        Command::Verify { dir, json } => verify::run(&dir, json),
        Command::Schema(command) => show_schema(&command),
        Command::RebuildIndex { dir } => rebuild::run(&dir),
        Command::ConfigReference => {
            print!("{}", config::reference());
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

fn load(path: &std::path::Path) -> anyhow::Result<Config> {
    let config = Config::load(path)?;
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(config)
}
