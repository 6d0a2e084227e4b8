//! `tributary check`: the configuration, and every node's settings.
//!
//! In: a valid configuration. Out: one line per problem on standard output; exit code 1 if there is any.

use std::process::ExitCode;

use tributary_collector::settings_problems;

use crate::config::Config;
use crate::pipeline::node_probe;

/// Runs the command.
pub(crate) fn run(config: &Config, offline: bool) -> anyhow::Result<ExitCode> {
    if offline {
        println!("configuration: OK ({} nodes not asked)", config.nodes.len());
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let probe = node_probe(&config.nodes, config.server.server_id, None);
    let problems = runtime.block_on(settings_problems(&probe));
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    println!("configuration and {} nodes: OK", config.nodes.len());
    Ok(ExitCode::SUCCESS)
}
