//! `tributary routes`: which tables become which, changed while the service runs.
//!
//! In: a command, or the configuration beside what a command has set earlier. Out: the routes that hold. A command's word counts until
//! the configuration is changed: a restart with the same file as before brings nothing back, and a file with new routes is obeyed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;
use serde_json::Value;
use tributary_flow::{NodeSet, RoutesRecord};

use crate::config;
use crate::nodes;
use crate::orders::{NewRoutes, PATIENCE};
use crate::pipeline::Spec;
use crate::status;

/// What may be done with the routes.
#[derive(Subcommand)]
pub(crate) enum RoutesCommand {
    /// Take the routes of a file from now on, without a restart: what the nodes have executed before flows by the old ones
    Set {
        /// TOML with `[[route]]`, `[ignore]` and `[ddl]`; a whole configuration file will do
        file: PathBuf,
        /// Seconds to wait until everything is merged that the nodes have executed
        #[arg(long, default_value_t = PATIENCE.as_secs())]
        timeout: u64,
    },
    /// Print the routes that hold
    Show,
}

/// Runs the command against the service at `admin`.
pub(crate) fn run(admin: &str, command: &RoutesCommand) -> anyhow::Result<ExitCode> {
    let (file, timeout) = match command {
        RoutesCommand::Set { file, timeout } => (file, *timeout),
        RoutesCommand::Show => {
            let routes: Value = serde_json::from_str(&status::get(admin, "/routes")?)?;
            print!("{}", toml::to_string_pretty(&routes)?);
            return Ok(ExitCode::SUCCESS);
        }
    };
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let rules = config::routes_of(&text).with_context(|| file.display().to_string())?;
    let new = NewRoutes {
        rules,
        timeout_s: Some(timeout),
    };
    // The service has patience of its own; this only notices one that hangs.
    let limit = Duration::from_secs(timeout) + PATIENCE * 3;
    let body = serde_json::to_string(&new)?;
    nodes::report(&status::post(admin, "/routes/set", &body, limit)?)
}

/// What is recorded of routes that a command has set; nothing when the configuration says the same.
pub(crate) fn record(rules: &Value, file: &Value) -> Option<RoutesRecord> {
    (rules != file).then(|| RoutesRecord {
        rules: rules.clone(),
        instead_of: file.clone(),
    })
}

/// Gives `spec`, which has the routes of the configuration, those that hold, and returns what an operator should know.
///
/// # Errors
/// When the recorded routes can not be read.
pub(crate) fn effective(set: &mut NodeSet, spec: &mut Spec) -> Result<Option<String>, String> {
    let Some(record) = set.routes.take() else {
        return Ok(None);
    };
    if record.rules == spec.file_routes {
        return Ok(None);
    }
    if record.instead_of != spec.file_routes {
        return Ok(Some(
            "the configuration has new routes: they hold now, and those of `tributary routes set` do not any more".into(),
        ));
    }
    let rules = config::rules_from(&record.rules);
    spec.schema =
        rules.map_err(|e| format!("the routes that `tributary routes set` has set: {e}"))?;
    spec.routes.clone_from(&record.rules);
    set.routes = Some(record);
    Ok(Some(
        "the routes are those of `tributary routes set`: put them into the configuration, too (`tributary routes show`)".into(),
    ))
}

/// In a few words, for the list of changes.
pub(crate) fn summary(rules: &Value) -> String {
    let routes = rules["route"].as_array().map_or(0, Vec::len);
    let ignored = rules["ignore"]["tables"].as_array().map_or(0, Vec::len);
    let ids = rules["ignore"]["xid_format_ids"]
        .as_array()
        .map_or(0, Vec::len);
    format!("{routes} routes; {ignored} patterns of tables and {ids} format ids are ignored")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_from_the_file_is_recorded() {
        let (old, new) = (json!({}), json!({"route": [{"from": "a.b", "to": "c.d"}]}));
        assert_eq!(record(&old, &old), None);
        let recorded = record(&new, &old).expect("they differ");
        assert_eq!((&recorded.rules, recorded.instead_of), (&new, old));
        assert_eq!(
            summary(&new),
            "1 routes; 0 patterns of tables and 0 format ids are ignored"
        );
    }
}
