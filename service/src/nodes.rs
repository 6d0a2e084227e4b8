//! `tributary nodes`: the nodes of a running service, changed through its admin interface.
//!
//! In: the command line. Out: a request; what the service did, or why not, as text. Passwords do not travel: the service reads
//! them from its own environment or files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::orders::{Done, PATIENCE, Removal, Renaming};
use crate::status;

/// What may be done with a node.
#[derive(Subcommand)]
pub(crate) enum NodesCommand {
    /// Read a node from now on, without a restart
    Add(Definition),
    /// Stop reading a node: waits until everything it has is merged
    Remove {
        /// Its name
        name: String,
        /// Seconds to wait for what it still has
        #[arg(long, default_value_t = PATIENCE.as_secs())]
        timeout: u64,
        /// Do not ask or drain it: for a node that is lost
        #[arg(long)]
        force: bool,
    },
    /// Read the same data from other servers
    Replace(Definition),
    /// Give a node another name
    Rename {
        /// Its name
        name: String,
        /// Its new name
        to: String,
    },
    /// Print the nodes and the changes so far
    List,
}

/// A node as its table in the configuration file has it.
#[derive(Args)]
pub(crate) struct Definition {
    /// Its name
    name: String,
    /// `mysql://user@host:port`; several are one failover group
    #[arg(long, required = true)]
    url: Vec<String>,
    /// Environment variable of the service that holds the password
    #[arg(long)]
    password_env: Option<String>,
    /// File that the service reads the password from
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// `disabled`, `preferred` or `required`
    #[arg(long)]
    tls: Option<String>,
    /// PEM file of the authority of its certificate
    #[arg(long)]
    tls_ca: Option<PathBuf>,
    /// `current`, `earliest` or a GTID set; `current` unless given
    #[arg(long)]
    start: Option<String>,
    /// Be a semi-synchronous replica of it
    #[arg(long)]
    semi_sync: bool,
}

impl Definition {
    fn json(&self) -> Value {
        let mut table = json!({"name": self.name, "url": self.url});
        let texts = [
            ("password_env", self.password_env.clone()),
            ("password_file", self.password_file.as_deref().map(text)),
            ("tls", self.tls.clone()),
            ("tls_ca", self.tls_ca.as_deref().map(text)),
            ("start", self.start.clone()),
        ];
        for (key, value) in texts {
            if let Some(value) = value {
                table[key] = value.into();
            }
        }
        if self.semi_sync {
            table["semi_sync"] = true.into();
        }
        table
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Runs the command against the service at `admin`.
pub(crate) fn run(admin: &str, command: &NodesCommand) -> anyhow::Result<ExitCode> {
    let (what, body) = match command {
        NodesCommand::Add(node) => ("add", node.json()),
        NodesCommand::Replace(node) => ("replace", node.json()),
        NodesCommand::Remove {
            name,
            timeout,
            force,
        } => {
            let removal = Removal {
                name: name.clone(),
                timeout_s: Some(*timeout),
                force: *force,
            };
            ("remove", serde_json::to_value(removal)?)
        }
        NodesCommand::Rename { name, to } => {
            let (name, to) = (name.clone(), to.clone());
            ("rename", serde_json::to_value(Renaming { name, to })?)
        }
        NodesCommand::List => {
            println!("{}", status::get(admin, "/nodes")?.trim_end());
            return Ok(ExitCode::SUCCESS);
        }
    };
    // The service has patience of its own; this only notices one that hangs.
    let limit = Duration::from_secs(body["timeout_s"].as_u64().unwrap_or(0)) + PATIENCE * 3;
    report(&status::post(
        admin,
        &format!("/nodes/{what}"),
        &body.to_string(),
        limit,
    )?)
}

/// Prints what a service has answered to a change.
pub(crate) fn report((code, answer): &(u16, String)) -> anyhow::Result<ExitCode> {
    if *code != 200 {
        println!("{}", answer.trim_end());
        return Ok(ExitCode::FAILURE);
    }
    let done: Done = serde_json::from_str(answer).context("the answer of the service")?;
    print!("{}", render(&done));
    Ok(ExitCode::SUCCESS)
}

fn render(done: &Done) -> String {
    let mut out = String::new();
    for change in &done.changes {
        out += &format!("{change}\n");
    }
    out + &format!(
        "in effect behind transaction {} (TSO {}); the nodes were not read for {} ms\n",
        done.at.gno, done.at.tso, done.pause_ms
    )
}
