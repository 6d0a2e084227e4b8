//! `tributary verify DIR`: every binlog file of a directory, checked.
//!
//! In: a data directory (of a service that may be running, or of any MySQL). Out: one line per fault and a summary; exit code 1
//! on any fault. Nothing is locked or changed. Of a running service everything up to the last commit is checked.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use tributary_store::verify::{self, VerifyOptions};
use tributary_store::{INDEX_SUFFIX, RealDisk, RocksKv};

use crate::rebuild::DATABASE_DIR;

/// Runs the command.
pub(crate) fn run(dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let disk = RealDisk::open(dir).with_context(|| dir.display().to_string())?;
    let mut options = VerifyOptions {
        index_name: index_of(dir)?,
        ..VerifyOptions::default()
    };
    let database = dir.join(DATABASE_DIR);
    if database.is_dir()
        && let Err(error) = ask_database(&database, &mut options)
    {
        eprintln!(
            "note: {error:#}; without it, an unfinished end of the last file counts as not committed"
        );
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

/// What the index database says the files must be. It is read without its lock, so a service may be using it, and may
/// take a file of it away in between.
fn ask_database(database: &Path, options: &mut VerifyOptions) -> anyhow::Result<()> {
    let read = || -> anyhow::Result<_> {
        let kv = RocksKv::open_read_only(database)?;
        Ok((
            verify::committed_end(&kv)?,
            verify::known_files(&kv)?,
            verify::kept_branches(&kv)?,
        ))
    };
    let mut result = read();
    for _ in 1..DATABASE_ATTEMPTS {
        if result.is_err() {
            std::thread::sleep(DATABASE_PAUSE);
            result = read();
        }
    }
    let (end, known, kept) = result.with_context(|| database.display().to_string())?;
    options.committed_end = end;
    options.known = options.committed_end.is_some().then_some(known);
    options.kept = kept;
    Ok(())
}

/// How often the index database of a running service is tried.
const DATABASE_ATTEMPTS: u32 = 5;
/// How long between.
const DATABASE_PAUSE: Duration = Duration::from_millis(50);

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
