//! What a server is made from.
//!
//! In: the service's configuration. Out: one plain struct with safe defaults: no accounts, no TLS.

use std::sync::Arc;
use std::time::Duration;

use tributary_flow::limits::CLIENT_CONNECTIONS_MAX;

use crate::account::Accounts;
use crate::rsa_key::{RsaKey, RsaKeyError};

/// Changes of the log that statements ask for and the service carries out. Called on a blocking thread.
pub trait AdminActions: Send + Sync + 'static {
    /// PURGE BINARY LOGS TO: `file` becomes the oldest one.
    ///
    /// # Errors
    /// With a reason the operator reads.
    fn purge_to(&self, file: &str) -> Result<(), String>;
    /// PURGE BINARY LOGS BEFORE: files whose last transaction is older than this (seconds since 1970) go.
    ///
    /// # Errors
    /// With a reason the operator reads.
    fn purge_before(&self, seconds: u64) -> Result<(), String>;
    /// FLUSH BINARY LOGS: starts a new file.
    ///
    /// # Errors
    /// With a reason the operator reads.
    fn flush_logs(&self) -> Result<(), String>;
}

/// A server's settings.
#[derive(Clone)]
pub struct ServerConfig {
    /// `@@server_id`: different from every replica's, or they drop every event.
    pub server_id: u32,
    /// Announced version, e.g. `8.4.9-tributary`. Clients switch on it: at least 8.4, and below 10, which MariaDB
    /// replicas take for a MariaDB source.
    pub version: String,
    /// Who may connect; [`Server::set_accounts`](crate::Server::set_accounts) replaces them at run time.
    pub accounts: Accounts,
    /// TLS, offered only when set; many clients use it whenever it is offered.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Key for passwords of clients that need full authentication without TLS.
    pub rsa_key: RsaKey,
    /// Most simultaneous connections; further ones get error 1040.
    pub max_connections: usize,
    /// Time a client has from connecting to the end of authentication.
    pub handshake_timeout: Duration,
    /// Time dumps and statements get to end at shutdown.
    pub drain_timeout: Duration,
    /// Shown as `@@max_binlog_size`.
    pub max_binlog_size: u64,
    /// Added to connection ids, so that they differ between nodes behind one address.
    pub connection_id_base: u32,
    /// PURGE and FLUSH; without it they are refused as not supported.
    pub admin: Option<Arc<dyn AdminActions>>,
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("server_id", &self.server_id)
            .field("version", &self.version)
            .field("tls", &self.tls.is_some())
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

impl ServerConfig {
    /// Defaults: no accounts, no TLS, a fresh RSA key, MySQL's own timeouts.
    ///
    /// # Errors
    /// When no RSA key can be generated.
    pub fn new(server_id: u32, version: impl Into<String>) -> Result<Self, RsaKeyError> {
        Ok(Self {
            server_id,
            version: version.into(),
            accounts: Accounts::default(),
            tls: None,
            rsa_key: RsaKey::generate()?,
            max_connections: CLIENT_CONNECTIONS_MAX,
            handshake_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
            max_binlog_size: 512 << 20,
            connection_id_base: 0,
            admin: None,
        })
    }
}
