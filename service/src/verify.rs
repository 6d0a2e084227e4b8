//! `tributary verify DIR`: every binlog file of a directory, checked.
//!
//! In: a data directory (of a service that may be running, or of any MySQL). Out: one line per fault and a summary; exit code 1
//! on any fault.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tributary_store::verify::{self, VerifyOptions};
use tributary_store::{INDEX_SUFFIX, RealDisk, RocksKv};

/// Runs the command.
pub(crate) fn run(dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let disk = RealDisk::open(dir).with_context(|| dir.display().to_string())?;
    let mut options = VerifyOptions {
        index_name: index_of(dir)?,
        ..VerifyOptions::default()
    };
    let database = dir.join("rocksdb");
    if database.is_dir() {
        let kv =
            RocksKv::open_read_only(&database).with_context(|| database.display().to_string())?;
        options.committed_end =
            verify::committed_end(&kv).with_context(|| database.display().to_string())?;
    }
    let report = verify::verify_dir(&disk, &options);
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.faults.iter().for_each(|fault| println!("{fault}"));
        report
            .notes
            .iter()
            .for_each(|note| println!("note: {note}"));
        let faults = report.faults.len() as u64 + report.more_faults;
        let verdict = if report.is_clean() {
            "OK".into()
        } else {
            format!("{faults} faults")
        };
        println!(
            "{}: {} files, {} events, {} transactions, {} bytes: {verdict}",
            dir.display(),
            report.files,
            report.events,
            report.transactions,
            report.bytes
        );
    }
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The one index file of a directory.
fn index_of(dir: &Path) -> anyhow::Result<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(INDEX_SUFFIX) {
            found.push(name);
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(name), true) => Ok(name),
        (None, _) => bail!(
            "{}: has no binlog index file (*{INDEX_SUFFIX})",
            dir.display()
        ),
        (Some(name), false) => bail!(
            "{}: has several index files: {name}, {}",
            dir.display(),
            found.join(", ")
        ),
    }
}
