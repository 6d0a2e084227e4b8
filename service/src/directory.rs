//! Opens the data directory.
//!
//! In: the configuration. Out: the store, recovered, and a place for spool files; or why this directory must not be gone on with.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tributary_collector::SpoolDir;
use tributary_flow::Spilling;
use tributary_store::{Opened, RealDisk, RocksKv, StoreOptions};

use crate::config::{self, Config};
use crate::rebuild::{self, DATABASE_DIR};
use crate::schema::DurableSchema;

/// Opens the store, making it where there is none.
pub(crate) fn open(config: &Config) -> anyhow::Result<(Opened, DurableSchema)> {
    let dir = &config.store.data_dir;
    std::fs::create_dir_all(dir)
        .with_context(|| format!("{} can not be created", dir.display()))?;
    let disk = Arc::new(RealDisk::open(dir)?);
    let mut uuid = [0; 16];
    getrandom::fill(&mut uuid)
        .map_err(|e| anyhow::anyhow!("no randomness for a server UUID: {e}"))?;
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let options = StoreOptions {
        base_name: "binlog".into(),
        max_binlog_size: config.store.max_binlog_size,
        server_id: config.server.server_id,
        server_version: config.server.version.clone(),
        new_uuid: tributary_binlog::Sid(uuid),
        now_seconds: now as u32,
    };
    let database = dir.join(DATABASE_DIR);
    let claim = tributary_store::claim(disk, options, database.is_dir())?;
    let kv = Arc::new(RocksKv::open(&database)?);
    let opened = claim.open(kv.clone())?;
    if let Some(problem) = rebuild::unknown_progress(config, &opened) {
        anyhow::bail!(problem);
    }
    if let Some((file, bytes)) = &opened.truncated {
        tracing::info!(%file, bytes, "recovered: bytes behind the last checkpoint were cut; no client has seen them");
    }
    Ok((opened, DurableSchema::open(kv)?))
}

/// Where what is too large for memory lies, in files without names, until it is in the log.
const SPOOL_DIR: &str = "spool";

/// The directory of spool files, empty.
pub(crate) fn spilling(store: &config::Store) -> anyhow::Result<Spilling> {
    let dir = store.data_dir.join(SPOOL_DIR);
    let files = SpoolDir(dir.clone());
    files
        .prepare()
        .with_context(|| format!("the directory for spool files, {}", dir.display()))?;
    Ok(Spilling {
        threshold: store.spill_threshold,
        files: Arc::new(files),
    })
}
