//! Serves the global binlog to MySQL's replication clients.
//!
//! In: a [`GlobalLog`](tributary_store::GlobalLog) that grows, accounts, TCP connections. Out: what a MySQL source says:
//! the handshake, the statements replicas, mysqlbinlog, Debezium, Canal and others ask first, and the binlog itself.
//!
//! The way of a connection: `listener` (accept) → `link` (bytes ↔ packets, TLS, compression) → `conn` → `core::session` (decides) →
//! `core::query` (statements) or `core::dump` (what to send) → `tail` (file blocks to the socket, following the durable
//! end). `wire` holds the protocol's bytes; `registry` knows who is connected. `wire` and `core` are pure.

mod account;
mod catalog;
mod config;
mod conn;
mod core;
mod counters;
mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod link;
mod listener;
mod registry;
mod rsa_key;
mod server;
mod tail;
mod wire;

pub use account::{Account, Accounts, AuthPlugin, Privileges, UnknownPrivilege};
pub use catalog::{
    Catalog, CheckInfo, ColumnInfo, DatabaseInfo, EmptyCatalog, ForeignKeyInfo, IndexInfo,
    IndexPart, TableInfo,
};
pub use config::{AdminActions, Compression, ServerConfig, VersionError};
pub use core::view::ClientStatus;
pub use counters::Counters;
pub use rsa_key::{RsaKey, RsaKeyError};
pub use server::Server;
