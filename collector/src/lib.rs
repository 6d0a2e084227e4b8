//! One node's binlog in, whole source transactions out.
//!
//! In: a node's address, the GTIDs that are done with. Out: [`NodeBatch`](tributary_flow::NodeBatch)es of whole
//! [`SourceTxn`](tributary_flow::SourceTxn)s in the order of the node's binlog, each GTID once, over a channel bounded in
//! bytes; answers to fences; a [`NodeStatus`].
//!
//! In data order: `wire` (packets), `conn` (TCP, TLS, login), `dump` (the stream of checked events), `core::assemble`
//! (events → transactions), `core::chunk` (where their bytes live), `session` (choose a server, check, stream), `task` (come back after
//! failures). Beside it: `sql` (the side connection), `observe` (looks at the node while it is read), `core::settings`,
//! `core::resume`, `core::choice`, `fences`, `budget`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod block;
mod budget;
mod check;
mod config;
mod conn;
mod core;
mod definitions;
mod dump;
mod error;
mod fences;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod join;
mod observe;
mod session;
mod source;
mod spool;
mod sql;
mod status;
mod task;
mod tls;
mod wire;

pub use crate::core::acks::XaAcks;
pub use crate::core::assemble::{Assembler, Seen};
pub use crate::core::assemble_error::{AssembleError, GtidOrNone};
pub use crate::core::choice::ChoiceError;
pub use crate::core::chunk::Account;
pub use crate::core::place::{Continuity, Places, in_epoch};
pub use crate::core::resume::{
    GtidText, ResumeError, Start, before_start, check, done, left, merged,
};
pub use crate::core::settings::{Identity, NodeFacts, SettingsProblem};
pub use crate::core::trouble::TroubleKind;
pub use budget::Budget;
pub use check::{NodeFault, NodeProblem, Probe, settings_problems};
pub use config::{CollectorConfig, Identities, NodeUrl, TlsMode};
pub use dump::{Block, DumpConn, DumpOptions};
pub use error::{CollectorError, ConnError, SettingsProblems};
pub use join::{JoinError, JoinPoint, Joining, Passage, gtid_sets, tables_now};
pub use source::{Collector, CollectorHandle, Overdraft, Ports, SemiSync};
pub use spool::SpoolDir;
pub use status::{NodeState, NodeStatus, Trouble};
pub use tributary_flow::{Spilling, SpoolFiles, SpoolWriter};
pub use wire::{WireError, auth::AuthError, reply::ServerError};
