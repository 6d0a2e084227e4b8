//! What a collector is told. In: values of the service's configuration. Out: nothing but those.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tributary_binlog::Sid;
use tributary_flow::{NodeId, Spilling, limits};

use crate::core::{resume::Start, settings::Identity};

/// Whether connections to a node are encrypted. The meanings are those of the mysql client's `--ssl-mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    Disabled,
    /// If the node offers it; its certificate is checked only when a CA is configured.
    #[default]
    Preferred,
    /// Always; its certificate is checked only when a CA is configured.
    Required,
}

/// Where a node is and how to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeUrl {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Account name.
    pub user: String,
    /// Its password; may be empty.
    pub password: String,
    /// Encryption.
    pub tls: TlsMode,
    /// PEM file of the authority that must have signed the node's certificate (`VERIFY_CA`: names are not compared,
    /// because the certificates that mysqld makes for itself have none).
    pub ca: Option<PathBuf>,
}

impl fmt::Debug for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "mysql://{}@{}:{} ({:?})",
            self.user, self.host, self.port, self.tls
        )
    }
}

impl fmt::Display for NodeUrl {
    /// `host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Who the nodes of a cluster are, as far as they were reached: shared by its collectors to notice clashes.
#[derive(Debug, Clone, Default)]
pub struct Identities(Arc<Mutex<BTreeMap<String, Identity>>>);

impl Identities {
    /// Remembers what a node said about itself.
    pub fn put(&self, identity: Identity) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(identity.name.clone(), identity);
    }

    /// Forgets a node that left the cluster.
    pub fn remove(&self, name: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    /// All that are known, by name.
    pub fn all(&self) -> Vec<Identity> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}

/// What one collector is told.
#[derive(Debug, Clone)]
pub struct CollectorConfig {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where it is: one address, or those of all servers of a failover group, of which the primary is read.
    pub servers: Vec<NodeUrl>,
    /// Our `server_id` as its replica. Must differ from every other server's.
    pub server_id: u32,
    /// Our UUID as its replica; a new dump with the same UUID ends the old one.
    pub replica_uuid: Sid,
    /// How often an idle node says that it is alive. Three of these without a byte end the connection.
    pub heartbeat: Duration,
    /// Where to begin when there is no progress yet.
    pub start: Start,
    /// Bytes that may be in flight behind this collector before it stops reading its socket.
    pub bytes_max: usize,
    /// Who the other nodes are.
    pub identities: Identities,
    /// How often the node is looked at beside its stream: settings, GTIDs, clock, the other servers of its group.
    pub watch_every: Duration,
    /// An answer that takes longer makes the node count as slow.
    pub slow_answer: Duration,
    /// How often a node that halted is asked whether the cause has gone.
    pub recheck_every: Duration,
    /// How long the servers of a group have to answer when the primary is looked for.
    pub probe_timeout: Duration,
    /// When large transactions go to files; `None` = never.
    pub spilling: Option<Spilling>,
}

impl CollectorConfig {
    /// A node with these servers, and defaults for everything else: read from the earliest on, heartbeats every 5 s,
    /// a look every 10 s. `server_id` and `replica_uuid` are ours as its replica.
    pub fn new(
        node: NodeId,
        name: &str,
        servers: Vec<NodeUrl>,
        server_id: u32,
        replica_uuid: Sid,
    ) -> Self {
        Self {
            node,
            name: name.to_owned(),
            servers,
            server_id,
            replica_uuid,
            heartbeat: Duration::from_secs(5),
            start: Start::default(),
            bytes_max: limits::NODE_BYTES_MAX,
            identities: Identities::default(),
            watch_every: Duration::from_secs(10),
            slow_answer: Duration::from_secs(1),
            recheck_every: Duration::from_secs(10),
            probe_timeout: Duration::from_secs(2),
            spilling: None,
        }
    }

    /// Whether there is more than one server to choose from.
    pub(crate) fn is_group(&self) -> bool {
        self.servers.len() > 1
    }
}
