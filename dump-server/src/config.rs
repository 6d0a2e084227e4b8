//! What a server is made from.
//!
//! In: the service's configuration. Out: one plain struct with safe defaults: no accounts, no TLS.

use std::sync::Arc;
use std::time::Duration;

use tributary_flow::limits::{CLIENT_CONNECTIONS_MAX, CLIENT_HANDSHAKES_MAX};

use crate::account::Accounts;
use crate::catalog::{Catalog, EmptyCatalog};
use crate::rsa_key::RsaKey;
pub use crate::wire::compress::Compression;

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
    /// The versions of TLS that `tls` takes, as `@@tls_version` lists them.
    pub tls_versions: String,
    /// Compression clients may ask for.
    pub compression: Compression,
    /// Key for passwords of clients that need full authentication without TLS.
    pub rsa_key: RsaKey,
    /// Most simultaneous connections; further ones get error 1040.
    pub max_connections: usize,
    /// Most connections that have not authenticated yet; when one more comes, the oldest of them is closed.
    pub max_handshakes: usize,
    /// Time a client has from connecting to the end of authentication.
    pub handshake_timeout: Duration,
    /// Time dumps and statements get to end at shutdown.
    pub drain_timeout: Duration,
    /// Silence after which a client is disconnected with error 4031 (`@@wait_timeout`, whole seconds); a session can set its own.
    pub wait_timeout: Duration,
    /// The same for clients with a person behind them (`@@interactive_timeout`, whole seconds).
    pub interactive_timeout: Duration,
    /// Longest wait for the next byte inside a packet (`@@net_read_timeout`, whole seconds).
    pub net_read_timeout: Duration,
    /// Longest time a client may take nothing of what is sent (`@@net_write_timeout`, whole seconds).
    pub net_write_timeout: Duration,
    /// Semi-synchronous replication: replicas with the plugin are asked to acknowledge what they receive. Only what is
    /// durable here is ever sent, and nothing waits for an acknowledgement.
    pub semi_sync: bool,
    /// Shown as `@@max_binlog_size`.
    pub max_binlog_size: u64,
    /// Shown as `@@binlog_expire_logs_seconds`; zero when files do not expire by age.
    pub expire_after: Duration,
    /// Added to connection ids, so that they differ between nodes behind one address.
    pub connection_id_base: u32,
    /// The logical schema, for SHOW statements and `information_schema`.
    pub catalog: Arc<dyn Catalog>,
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

/// Longest version: what a format description event has room for.
const VERSION_BYTES_MAX: usize = 49;

/// The version cannot be announced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "server version '{version}': must start like 8.4.9, be below 10 (MariaDB replicas take that for a MariaDB), and have \
     at most {VERSION_BYTES_MAX} printable ASCII characters"
)]
pub struct VersionError {
    /// The version.
    pub version: String,
}

/// Clients read three numbers at the start, and decide by the first.
fn check_version(version: &str) -> Result<(), VersionError> {
    let mut parts = version.splitn(3, '.').map(|part| {
        let digits = part
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(part.len());
        part.get(..digits).and_then(|d| d.parse::<u32>().ok())
    });
    let numbers = [parts.next(), parts.next(), parts.next()];
    let fits = version.len() <= VERSION_BYTES_MAX && version.bytes().all(|b| b.is_ascii_graphic());
    match numbers {
        [Some(Some(5..=9)), Some(Some(_)), Some(Some(_))] if fits => Ok(()),
        _ => Err(VersionError {
            version: version.to_owned(),
        }),
    }
}

impl ServerConfig {
    /// Defaults: no accounts, no TLS, an RSA key of its own, MySQL's own timeouts.
    ///
    /// # Errors
    /// When clients could not read the version.
    pub fn new(server_id: u32, version: impl Into<String>) -> Result<Self, VersionError> {
        let version = version.into();
        check_version(&version)?;
        Ok(Self {
            server_id,
            version,
            accounts: Accounts::default(),
            tls: None,
            tls_versions: "TLSv1.2,TLSv1.3".to_owned(),
            compression: Compression::default(),
            rsa_key: RsaKey::on_demand(),
            max_connections: CLIENT_CONNECTIONS_MAX,
            max_handshakes: CLIENT_HANDSHAKES_MAX,
            handshake_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
            wait_timeout: Duration::from_secs(28_800),
            interactive_timeout: Duration::from_secs(28_800),
            net_read_timeout: Duration::from_secs(30),
            net_write_timeout: Duration::from_secs(60),
            semi_sync: false,
            max_binlog_size: 512 << 20,
            expire_after: Duration::ZERO,
            connection_id_base: 0,
            catalog: Arc::new(EmptyCatalog),
            admin: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_clients_can_read() {
        for good in ["8.4.9-tributary", "9.7.4", "5.7.44-log"] {
            assert!(ServerConfig::new(1, good).is_ok(), "{good}");
        }
        let long = format!("8.4.9-{}", "x".repeat(50));
        for bad in [
            "", "8", "8.4", "10.11.2", "x.4.9", "8.4.9 x", "8.4.9\0", "8..9", &long,
        ] {
            assert!(ServerConfig::new(1, bad).is_err(), "{bad}");
        }
    }
}
