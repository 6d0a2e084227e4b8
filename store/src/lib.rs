//! The durable global binlog.
//!
//! In: [`MergedBatch`](tributary_flow::MergedBatch)es of global transactions in their final order, and the progress that
//! is true behind them. Out: real MySQL binlog files (format version 4), an index database with the checkpoint, and
//! [`GlobalLog`], through which any number of readers see the files up to the *durable end* and not a byte further.
//!
//! The way of a transaction: `core::encode` (bytes) → [`LogWriter::append`] (buffer, rotation) → [`LogWriter::commit`]
//! (file, `fdatasync`, index database, publication) → [`GlobalLog`] and [`FileReader`]. After a crash, [`open`] brings
//! the directory back to the last commit. What must hold, and is checked at every crossing:
//!
//! ```text
//! what readers see  ≤  durable end = checkpoint in the index database  ≤  synced bytes of the file  ≤  appended bytes
//! ```
//!
//! The crate does IO only through [`disk::Disk`] and [`kv::Kv`], both of which have an implementation in memory that can
//! crash at any moment. What is on disk is written down in `docs/formats.md`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod branches;
mod claim;
mod core;
pub mod disk;
mod error;
mod files;
mod foreign;
mod full;
pub mod kv;
mod log;
mod nodes;
mod options;
mod purge;
mod reader;
mod rebuild;
mod recover;
mod scan;
mod tail;
pub mod verify;
mod writer;

pub use crate::core::encode::{DRAIN_BYTES, EncodeError, Encoder, Numbers, Pending, Sink};
pub use crate::core::retention::Retention;
pub use branches::{SavedBranch, list as list_branches};
pub use claim::{Claim, claim};
pub use disk::{Disk, DiskFile, FileStat, MemDisk, RealDisk};
pub use error::{OpenError, PurgeError, ReadError, StartError, WriteError};
pub use full::RESERVE_BYTES;
#[cfg(feature = "rocksdb")]
pub use kv::RocksKv;
pub use kv::{Kv, KvBatch, KvError, MemKv};
pub use log::{Damage, DurableEnd, FileInfo, GlobalLog};
pub use nodes::NodeSetChange;
pub use options::{FORMAT_FILE, INDEX_SUFFIX, LOCK_FILE, Opened, StoreOptions};
pub use purge::Retained;
pub use reader::FileReader;
pub use rebuild::{Rebuilt, rebuild};
pub use recover::open;
pub use writer::LogWriter;
