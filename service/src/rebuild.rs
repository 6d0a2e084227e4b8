//! `tributary rebuild-index DIR`: the index database made anew from the binlog files.
//!
//! In: the data directory of a stopped service. Out: its index database, valid again; and what it lacks now. Nothing else is
//! changed.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tributary_store::{Disk, Opened, RealDisk, RocksKv};

use crate::config::{Config, Start};

/// The index database in a data directory.
pub(crate) const DATABASE_DIR: &str = "rocksdb";

/// Runs the command.
pub(crate) fn run(dir: &Path) -> anyhow::Result<ExitCode> {
    let disk = RealDisk::open(dir).with_context(|| dir.display().to_string())?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let database = dir.join(DATABASE_DIR);
    let kv = RocksKv::open(&database).with_context(|| {
        format!(
            "{0}: if a service runs, stop it; if the database is damaged, move {0} away and run this again",
            database.display()
        )
    })?;
    let made = tributary_store::rebuild(&disk, &kv)?;
    println!(
        "{}: {} files, {} transactions, {} index entries; the log ends at {}:{} behind GTID number {}",
        dir.display(),
        made.files,
        made.transactions,
        made.entries,
        made.end.0,
        made.end.1,
        made.last_gno
    );
    if !made.progress_is_known {
        println!(
            "The old database held how far each node had been merged, and that is in no file. Before the service starts, every\n\
             [[node]] needs `start`: the GTID set of that node whose transactions are in the log. The last transactions of\n\
             {} (`tributary events`) tell where to look in the nodes' binlogs. With a wrong set, transactions are repeated or\n\
             missing; restoring the directory from a backup or a standby is better wherever there is one.",
            made.end.0
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Why a directory with transactions, but without progress, must not be gone on with: nodes would be read from where the
/// configuration says for new ones, and everything would be merged a second time.
pub(crate) fn unknown_progress(config: &Config, opened: &Opened) -> Option<String> {
    let known = opened.checkpoint.is_some() || opened.log.durable().last_gno == 0;
    let told = |start: &Option<Start>| matches!(start, Some(Start::Gtids(_)));
    let untold = config.nodes.iter().find(|node| !told(&node.start));
    let node = untold.filter(|_| !known)?;
    Some(format!(
        "the index database was rebuilt from files, so nobody knows which transactions of the nodes are in the log: \
         node[{}].start must be the GTID set of those that are, and so for every node",
        node.name
    ))
}
