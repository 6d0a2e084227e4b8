//! `tributary schema define`: what a node's table is like, told by a person.
//!
//! In: the data directory of a stopped service, a table of a node, its `CREATE TABLE`. Out: the definition by which its rows are
//! read from the next start on. For a table that was changed beside the binlog of a node that writes no names of columns.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use tributary_schema::{ClusterSchema, SchemaRules, stored_nodes};
use tributary_store::kv::{change_schema_state, schema_state};

use super::show::open;

/// Runs the command. `file` is `-` for the standard input.
pub(crate) fn run(
    dir: &Path,
    node: &str,
    (schema, table): (&str, &str),
    file: &Path,
) -> anyhow::Result<ExitCode> {
    let sql = read(file).with_context(|| file.display().to_string())?;
    let kv = open(dir)?;
    let pairs = schema_state(&kv)?;
    let nodes = stored_nodes(&pairs)?;
    let known = nodes.iter().map(String::as_str);
    let mut state = ClusterSchema::restore(SchemaRules::default(), known, &pairs)?;
    let differences = state.define(node, (schema, table), &sql)?;
    change_schema_state(&kv, &state.take_writes())?;
    println!("{schema}.{table} on node {node}, from the next start on:");
    for line in &differences {
        println!("{line}");
    }
    if differences.is_empty() {
        println!("as it was known");
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}
