//! What statements may ask of the server, behind one trait.
//!
//! In: nothing. Out: snapshots of the log, the clients and the configuration, so that every statement is answered from
//! state and can be tested without a server.

use std::time::Duration;

use serde::Serialize;
use tributary_binlog::GtidSet;

use crate::catalog::Catalog;
use crate::wire::compress::Compression;
use crate::wire::handshake::Salt;

/// One binlog file, as SHOW BINARY LOGS lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFile {
    /// Name.
    pub name: String,
    /// Bytes; of the active file, those that are durable.
    pub size: u64,
}

/// One client connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientStatus {
    /// Connection id, as KILL takes it.
    pub id: u32,
    /// User name; empty before authentication.
    pub user: String,
    /// Address, `ip:port`.
    pub host: String,
    /// What it does, in the words of SHOW PROCESSLIST ("Sleep", "Query", "Binlog Dump GTID", …).
    pub command: String,
    /// Default database.
    pub database: Option<String>,
    /// Statement at hand, its first few KiB.
    pub statement: Option<String>,
    /// `program_name` the client announced, if any.
    pub program: Option<String>,
    /// Server id of a dumping or registered client; 0 = none.
    pub server_id: u32,
    /// UUID a replica announced.
    pub uuid: Option<String>,
    /// File of the last event sent to a dumping client.
    pub file: Option<String>,
    /// Position behind the last event sent.
    pub position: u64,
    /// True when a dumping client has been sent everything durable.
    pub caught_up: bool,
    /// True when a dumping client acknowledges what it has received (semi-synchronous replication).
    pub semi_sync: bool,
    /// File of the last event a dumping client acknowledged.
    pub acknowledged_file: Option<String>,
    /// Position behind that event; 0 = nothing was acknowledged.
    pub acknowledged_position: u64,
    /// Seconds since the connection was made.
    pub connected_seconds: u64,
    /// Seconds in the present command.
    pub command_seconds: u64,
}

/// One registered replica, as SHOW REPLICAS lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicaRow {
    /// Server id.
    pub server_id: u32,
    /// `report_host`.
    pub host: String,
    /// `report_port`.
    pub port: u16,
    /// UUID, empty when it did not say.
    pub uuid: String,
}

/// The server as statements see it.
pub(crate) trait ServerView {
    /// Announced version.
    fn version(&self) -> &str;
    /// `@@server_id`.
    fn server_id(&self) -> u32;
    /// `@@server_uuid`.
    fn server_uuid(&self) -> String;
    /// `@@port`.
    fn port(&self) -> u16;
    /// `@@max_connections`.
    fn max_connections(&self) -> usize;
    /// `@@max_binlog_size`.
    fn max_binlog_size(&self) -> u64;
    /// A timeout variable's server-wide value.
    fn timeout(&self, variable: &str) -> Duration;
    /// True when semi-synchronous replication is spoken.
    fn semi_sync(&self) -> bool;
    /// `@@tls_version`.
    fn tls_versions(&self) -> &str;
    /// Compression that is offered.
    fn compression(&self) -> Compression;
    /// `@@binlog_expire_logs_seconds`.
    fn expire_after(&self) -> Duration;
    /// `@@have_ssl`.
    fn has_tls(&self) -> bool;
    /// Every file, oldest first.
    fn files(&self) -> Vec<LogFile>;
    /// Base name of the files ("binlog").
    fn base_name(&self) -> String;
    /// `@@gtid_executed`.
    fn gtid_executed(&self) -> GtidSet;
    /// `@@gtid_purged`.
    fn gtid_purged(&self) -> GtidSet;
    /// The logical schema.
    fn catalog(&self) -> &dyn Catalog;
    /// All connections.
    fn clients(&self) -> Vec<ClientStatus>;
    /// Registered replicas.
    fn replicas(&self) -> Vec<ReplicaRow>;
    /// SHOW STATUS.
    fn status(&self) -> Vec<(&'static str, String)>;
    /// Microseconds since 1970.
    fn now_micros(&self) -> u64;
    /// A fresh UUID.
    fn new_uuid(&self) -> String;
    /// A fresh salt.
    fn new_salt(&self) -> Salt;
}
