//! `[server]` and `[[user]]`: what dump clients connect to, and who they are.
//!
//! In: TOML tables. Out: settings; problems by key path.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tributary_dump_server::{Compression, ServerConfig};
use tributary_flow::limits;

use super::reader::Table;
use super::{Env, Secret};

/// `[server]`: what dump clients connect to.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Address.
    pub(crate) listen: SocketAddr,
    /// `server_id`, towards clients and towards nodes.
    pub(crate) server_id: u32,
    /// Announced server version.
    pub(crate) version: String,
    /// Simultaneous connections.
    pub(crate) max_connections: usize,
    /// Connections that have not authenticated yet.
    pub(crate) max_handshakes: usize,
    /// Added to connection ids.
    pub(crate) connection_id_base: u32,
    /// How long is waited for clients.
    pub(crate) timeouts: Timeouts,
    /// Encryption towards clients.
    pub(crate) tls: ServerTls,
    /// Versions of it.
    pub(crate) tls_versions: TlsVersions,
    /// Compression clients may ask for.
    pub(crate) compression: Compression,
    /// Whether replicas with the plugin are asked to acknowledge.
    pub(crate) semi_sync: bool,
}

/// How long is waited for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// From connecting to the end of authentication.
    pub(crate) handshake: Duration,
    /// Silence of programs.
    pub(crate) wait: Duration,
    /// Silence of people.
    pub(crate) interactive: Duration,
    /// A pause inside a packet.
    pub(crate) net_read: Duration,
    /// A client that takes nothing.
    pub(crate) net_write: Duration,
    /// The end of dumps and statements at shutdown.
    pub(crate) drain: Duration,
}

/// Versions of TLS that are taken; at least one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TlsVersions {
    /// TLS 1.2.
    pub(crate) v1_2: bool,
    /// TLS 1.3.
    pub(crate) v1_3: bool,
}

impl TlsVersions {
    /// As `@@tls_version` lists them.
    pub(crate) fn names(self) -> String {
        let all = [(self.v1_2, "TLSv1.2"), (self.v1_3, "TLSv1.3")];
        let on = all.into_iter().filter(|(on, _)| *on);
        on.map(|(_, name)| name).collect::<Vec<_>>().join(",")
    }
}

/// Where the certificate that clients are shown comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServerTls {
    /// Made at the first start and kept in the data directory.
    Own,
    /// Certificate chain and private key, PEM.
    Files(PathBuf, PathBuf),
    /// TLS is not offered.
    Off,
}

/// `[[user]]`: an account of dump clients.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// Its name.
    pub(crate) name: String,
    /// Its password.
    pub(crate) password: Secret,
    /// `mysql_native_password` instead of `caching_sha2_password`.
    pub(crate) native_password: bool,
    /// Over TLS only.
    pub(crate) require_tls: bool,
    /// The password itself must be said.
    pub(crate) full_authentication: bool,
    /// MySQL privileges.
    pub(crate) privileges: Vec<Privilege>,
}

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// `REPLICATION SLAVE`: read the binlog.
    ReplicationSlave,
    /// `REPLICATION CLIENT`: `SHOW BINARY LOGS` and friends.
    ReplicationClient,
    /// `ADMIN`: `KILL`, `PURGE`, `FLUSH`.
    Admin,
}

/// What clients are told unless configured: a MySQL LTS whose statements, events and defaults all tested clients accept.
pub(crate) const DEFAULT_VERSION: &str = "8.4.9-tributary";

pub(super) fn server(mut t: Table<'_>, env: &Env<'_>) -> Server {
    let listen = t
        .address("listen")
        .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 3307)));
    let server_id = t
        .integer("server_id", 1, u64::from(u32::MAX))
        .map(|id| id as u32);
    if server_id.is_none() && !t.reported("server_id") {
        env.problems.add(
            "server.server_id",
            "is missing: a number that no node and no replica has",
        );
    }
    let version = t.text("version").unwrap_or_else(|| DEFAULT_VERSION.into());
    if let Err(error) = ServerConfig::new(1, version.as_str()) {
        env.problems.add("server.version", &error.to_string());
    }
    let count = |t: &mut Table<'_>, key, default: usize| {
        let given = t.integer(key, 1, 100_000);
        given.map_or(default, |n| n as usize)
    };
    let settings = Server {
        listen,
        server_id: server_id.unwrap_or(0),
        version,
        max_connections: count(&mut t, "max_connections", limits::CLIENT_CONNECTIONS_MAX),
        max_handshakes: count(&mut t, "max_handshakes", limits::CLIENT_HANDSHAKES_MAX),
        connection_id_base: t
            .integer("connection_id_base", 0, u64::from(u32::MAX))
            .map_or(0, |n| n as u32),
        timeouts: timeouts(&mut t),
        tls_versions: tls_versions(&mut t, env),
        tls: server_tls(&mut t, env),
        compression: compression(&mut t, env),
        semi_sync: t.boolean("semi_sync").unwrap_or(false),
    };
    t.finish();
    settings
}

fn timeouts(t: &mut Table<'_>) -> Timeouts {
    let mut time = |key: &str, default: u64| {
        let given = t.duration(key);
        given.unwrap_or(Duration::from_secs(default))
    };
    Timeouts {
        handshake: time("handshake_timeout", 10),
        wait: time("wait_timeout", 8 * 3600),
        interactive: time("interactive_timeout", 8 * 3600),
        net_read: time("net_read_timeout", 30),
        net_write: time("net_write_timeout", 60),
        drain: time("drain_timeout", 10),
    }
}

fn server_tls(t: &mut Table<'_>, env: &Env<'_>) -> ServerTls {
    let (cert, key) = (t.text("tls_cert"), t.text("tls_key"));
    if cert.is_some() != key.is_some() {
        env.problems.add(
            "server.tls_cert",
            "tls_cert and tls_key are given together or not at all",
        );
    }
    let off = t.one_of("tls", &["offered", "off"]).as_deref() == Some("off");
    if off && cert.is_some() {
        env.problems
            .add("server.tls", "is \"off\", but tls_cert is given");
    }
    match cert.zip(key) {
        Some((cert, key)) => ServerTls::Files(env.path(&cert), env.path(&key)),
        None if off => ServerTls::Off,
        None => ServerTls::Own,
    }
}

/// The entries of a list in which each must be one of two.
fn two(t: &mut Table<'_>, env: &Env<'_>, key: &str, names: [&str; 2]) -> Option<[bool; 2]> {
    let listed = t.texts(key)?;
    if let Some(other) = listed.iter().find(|l| !names.contains(&l.as_str())) {
        let what = format!("{other:?} is not one of {}", names.join(", "));
        env.problems.add(&t.path(key), &what);
    }
    Some(names.map(|name| listed.iter().any(|l| l == name)))
}

fn tls_versions(t: &mut Table<'_>, env: &Env<'_>) -> TlsVersions {
    let listed = two(t, env, "tls_versions", ["TLSv1.2", "TLSv1.3"]);
    if listed == Some([false; 2]) {
        env.problems
            .add("server.tls_versions", "must list at least one version");
    }
    let [v1_2, v1_3] = listed.unwrap_or([true; 2]);
    TlsVersions { v1_2, v1_3 }
}

fn compression(t: &mut Table<'_>, env: &Env<'_>) -> Compression {
    let [zlib, zstd] = two(t, env, "compression", ["zlib", "zstd"]).unwrap_or([true; 2]);
    Compression { zlib, zstd }
}

pub(super) fn user(mut t: Table<'_>, env: &Env<'_>) -> User {
    let name = t.required_text("name").unwrap_or_default();
    let password = env.password(&mut t, None);
    let native_password = t
        .one_of(
            "plugin",
            &["caching_sha2_password", "mysql_native_password"],
        )
        .as_deref()
        == Some("mysql_native_password");
    let require_tls = t.boolean("require_tls").unwrap_or(false);
    let full_authentication = t.boolean("full_authentication").unwrap_or(false);
    if native_password && full_authentication {
        env.problems.add(
            &t.path("full_authentication"),
            "mysql_native_password has none: it never says the password",
        );
    }
    let path = t.path("privileges");
    let listed = t
        .texts("privileges")
        .unwrap_or_else(|| vec!["REPLICATION SLAVE".into(), "REPLICATION CLIENT".into()]);
    let privileges = (listed.iter())
        .filter_map(|p| match p.to_ascii_uppercase().as_str() {
            "REPLICATION SLAVE" => Some(Privilege::ReplicationSlave),
            "REPLICATION CLIENT" => Some(Privilege::ReplicationClient),
            "ADMIN" => Some(Privilege::Admin),
            _ => {
                env.problems.add(
                    &path,
                    &format!("{p:?} is not one of REPLICATION SLAVE, REPLICATION CLIENT, ADMIN"),
                );
                None
            }
        })
        .collect();
    t.finish();
    User {
        name,
        password,
        native_password,
        require_tls,
        full_authentication,
        privileges,
    }
}
