//! The server: its state, and what it shows of itself.
//!
//! In: a configuration and the log. Out: [`Server`], whose `run` serves a listener, and whose getters feed metrics and the
//! admin page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tributary_binlog::{GtidSet, Sid};
use tributary_store::GlobalLog;

use crate::account::Accounts;
use crate::catalog::Catalog;
use crate::config::{Compression, ServerConfig};
use crate::core::query::vars;
use crate::core::session::SessionEnv;
use crate::core::view::{ClientStatus, LogFile, ReplicaRow, ServerView};
use crate::counters::{Counters, LiveCounters};
use crate::registry::Registry;
use crate::wire::handshake::Salt;

/// A MySQL source over the global log.
pub struct Server {
    pub(crate) config: ServerConfig,
    pub(crate) log: GlobalLog,
    pub(crate) registry: Arc<Registry>,
    pub(crate) counters: LiveCounters,
    pub(crate) port: AtomicU16,
    accounts: ArcSwap<Accounts>,
    started: Instant,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server over `log`; [`Server::run`] serves.
    pub fn new(config: ServerConfig, log: GlobalLog) -> Arc<Self> {
        Arc::new(Self {
            accounts: ArcSwap::from_pointee(config.accounts.clone()),
            registry: Registry::new(config.connection_id_base),
            counters: LiveCounters::default(),
            port: AtomicU16::new(0),
            started: Instant::now(),
            config,
            log,
        })
    }

    /// Every connection now, by id.
    pub fn clients(&self) -> Vec<ClientStatus> {
        self.registry.statuses()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        self.counters.snapshot()
    }

    /// Replaces the accounts; sessions that are open stay.
    pub fn set_accounts(&self, accounts: Accounts) {
        self.accounts.store(Arc::new(accounts));
    }

    /// Runs `f` with what a session may look at.
    pub(crate) fn with_env<R>(&self, f: impl FnOnce(SessionEnv<'_>) -> R) -> R {
        let accounts = self.accounts.load();
        f(SessionEnv {
            accounts: &accounts,
            rsa_key: &self.config.rsa_key,
            view: self,
        })
    }
}

/// Random bytes from the operating system's source.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .expect("the operating system's random source does not fail once it is seeded");
    bytes
}

impl ServerView for Server {
    fn version(&self) -> &str {
        &self.config.version
    }

    fn server_id(&self) -> u32 {
        self.config.server_id
    }

    fn server_uuid(&self) -> String {
        self.log.server_uuid().to_string()
    }

    fn port(&self) -> u16 {
        self.port.load(Ordering::Relaxed)
    }

    fn max_connections(&self) -> usize {
        self.config.max_connections
    }

    fn max_binlog_size(&self) -> u64 {
        self.config.max_binlog_size
    }

    fn timeout(&self, variable: &str) -> Duration {
        let config = &self.config;
        match variable {
            vars::NET_READ_TIMEOUT => config.net_read_timeout,
            vars::NET_WRITE_TIMEOUT => config.net_write_timeout,
            vars::INTERACTIVE_TIMEOUT => config.interactive_timeout,
            _ => config.wait_timeout,
        }
    }

    fn catalog(&self) -> &dyn Catalog {
        &*self.config.catalog
    }

    fn semi_sync(&self) -> bool {
        self.config.semi_sync
    }

    fn tls_versions(&self) -> &str {
        match self.has_tls() {
            true => &self.config.tls_versions,
            false => "",
        }
    }

    fn compression(&self) -> Compression {
        self.config.compression
    }

    fn expire_after(&self) -> Duration {
        self.config.expire_after
    }

    fn has_tls(&self) -> bool {
        self.config.tls.is_some()
    }

    fn files(&self) -> Vec<LogFile> {
        let files = self.log.files().into_iter();
        files
            .map(|f| LogFile {
                name: f.file.to_string(),
                size: f.size,
            })
            .collect()
    }

    fn base_name(&self) -> String {
        self.log.durable().file.base().to_owned()
    }

    fn gtid_executed(&self) -> GtidSet {
        self.log.gtid_executed()
    }

    fn gtid_purged(&self) -> GtidSet {
        self.log.gtid_purged()
    }

    fn clients(&self) -> Vec<ClientStatus> {
        self.registry.statuses()
    }

    fn replicas(&self) -> Vec<ReplicaRow> {
        self.registry.replicas()
    }

    fn status(&self) -> Vec<(&'static str, String)> {
        let counters = self.counters();
        let clients = self.registry.statuses();
        let running = clients.iter().filter(|c| c.command == "Query").count();
        vec![
            ("Uptime", self.started.elapsed().as_secs().to_string()),
            ("Threads_connected", self.registry.len().to_string()),
            ("Threads_running", running.max(1).to_string()),
            ("Connections", counters.connections.to_string()),
            ("Aborted_connects", counters.connections_aborted.to_string()),
            (
                "Connection_errors_max_connections",
                counters.connections_refused.to_string(),
            ),
            ("Questions", counters.commands.to_string()),
            ("Queries", counters.commands.to_string()),
            ("Bytes_sent", counters.bytes_sent.to_string()),
        ]
    }

    fn now_micros(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn new_uuid(&self) -> String {
        let mut bytes: [u8; 16] = random();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Sid(bytes).to_string()
    }

    fn new_salt(&self) -> Salt {
        Salt::from_random(random())
    }
}
