//! `tributary verify DIR`: every binlog file of a directory, checked.
//!
//! In: a data directory (of a service that may be running, or of any MySQL). Out: one line per fault and a summary; exit code 1
//! on any fault.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use tributary_store::{RealDisk, verify};

/// Runs the command.
pub(crate) fn run(dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let disk = RealDisk::open(dir).with_context(|| dir.display().to_string())?;
    let report = verify::verify_dir(&disk).with_context(|| dir.display().to_string())?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        for fault in &report.faults {
            println!("{fault}");
        }
        println!(
            "{}: {} files, {} events, {} transactions, {} bytes: {}",
            dir.display(),
            report.files,
            report.events,
            report.transactions,
            report.bytes,
            if report.faults.is_empty() { "OK".into() } else { format!("{} faults", report.faults.len()) }
        );
    }
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
