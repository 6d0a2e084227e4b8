//! The configuration file.
//!
//! In: TOML text and the environment. Out: a valid [`Config`], or every problem at once, one line each with the key's path.
//! Nothing here opens a connection.

mod clients;
mod keys;
mod reader;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tributary_binlog::GtidSet;
use tributary_flow::OrderMode;
use tributary_store::Retention;

pub(crate) use clients::{Privilege, Server, ServerTls, TlsVersions, User};
pub(crate) use keys::reference;
use reader::{Problems, Table};

/// A valid configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `[cluster]`
    pub(crate) cluster: Cluster,
    /// `[[node]]`, sorted by name.
    pub(crate) nodes: Vec<Node>,
    /// `[store]`
    pub(crate) store: Store,
    /// `[server]`
    pub(crate) server: Server,
    /// `[[user]]`
    pub(crate) users: Vec<User>,
    /// `[admin]`
    pub(crate) admin: Admin,
    /// What is accepted but not advised, one line each.
    pub(crate) warnings: Vec<String>,
}

/// Longer than a coordinator that recovers by itself needs.
const WARN_BLOCKED_AFTER: Duration = Duration::from_secs(30);

/// `[cluster]`: what is merged.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// Shown in the status.
    pub(crate) name: String,
    /// Where the order comes from.
    pub(crate) order: OrderMode,
    /// How long the merge may wait for one thing before a warning.
    pub(crate) warn_blocked_after: Duration,
    /// Where each passed fence is recorded, if anywhere.
    pub(crate) fence_log: Option<PathBuf>,
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Never.
    Disabled,
    /// When the server offers it.
    Preferred,
    /// Always.
    Required,
}

/// Where a node is read from when it is read for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Behind everything the node has executed.
    Current,
    /// At the oldest binlog the node still has.
    Earliest,
    /// Behind these transactions.
    Gtids(GtidSet),
}

/// `[[node]]`: an upstream server.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// Host name or address.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// Account.
    pub(crate) user: String,
    /// Its password.
    pub(crate) password: Secret,
    /// Encryption.
    pub(crate) tls: Tls,
    /// PEM file of the authority that must have signed the node's certificate.
    pub(crate) tls_ca: Option<PathBuf>,
    /// Where to begin.
    pub(crate) start: Start,
}

/// A password: never shown in logs or errors.
#[derive(Clone, Default)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// `[store]`: what is kept on disk.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    /// Directory of the binlog files and of RocksDB.
    pub(crate) data_dir: PathBuf,
    /// A binlog file is closed behind the transaction that makes it this long.
    pub(crate) max_binlog_size: u64,
    /// What is purged without being asked for.
    pub(crate) retention: Retention,
    /// Whether files are purged although a client reads them.
    pub(crate) purge_in_use: bool,
}

/// `[admin]`: HTTP for operators.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    /// Address.
    pub(crate) listen: SocketAddr,
}

/// Why a configuration was refused: one line per problem.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines.join("\n"))]
pub(crate) struct ConfigError {
    /// `path.of.key: what is wrong with it`
    pub(crate) lines: Vec<String>,
}

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to its directory.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError {
            lines: vec![format!("{}: can not be read: {e}", path.display())],
        })?;
        let base = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, base, &|name| std::env::var(name).ok())
    }

    /// Checks a text. `env` looks up environment variables; relative paths are relative to `base`.
    pub(crate) fn parse(
        text: &str,
        base: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let root: toml::Table = text.parse().map_err(|e: toml::de::Error| ConfigError {
            lines: vec![format!(
                "not TOML: {}",
                e.to_string().trim_end().replace('\n', " | ")
            )],
        })?;
        let problems = Problems::default();
        let mut root = Table::root(root, &problems);
        let env = Env {
            base,
            lookup: env,
            problems: &problems,
        };
        let config = Self {
            cluster: cluster(root.table("cluster"), &env),
            nodes: nodes(root.tables("node"), &env),
            store: store(root.table("store"), &env),
            server: clients::server(root.table("server"), &env),
            users: root
                .tables("user")
                .into_iter()
                .map(|t| clients::user(t, &env))
                .collect(),
            admin: admin(root.table("admin")),
            warnings: Vec::new(),
        };
        root.not_yet(
            "route",
            "routes are not supported by this version: every table keeps its name",
        );
        root.finish();
        if config.users.is_empty() {
            problems.add(
                "user",
                "at least one [[user]] is needed for clients to connect",
            );
        }
        repeated(config.users.iter().map(|u| &u.name), "user", &problems);
        let (lines, warnings) = problems.into_lines();
        if lines.is_empty() {
            Ok(Self { warnings, ..config })
        } else {
            Err(ConfigError { lines })
        }
    }
}

struct Env<'a> {
    base: &'a Path,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: &'a Problems,
}

impl Env<'_> {
    fn path(&self, text: &str) -> PathBuf {
        self.base.join(text)
    }

    /// The password given by `password_env`, `password_file` or `password`.
    fn password(&self, table: &mut Table<'_>, in_url: Option<String>) -> Secret {
        let (path, problems) = (table.path("password_env"), self.problems);
        let (from_env, from_file, plain) = (
            table.text("password_env"),
            table.text("password_file"),
            table.text("password"),
        );
        let given = [
            from_env.is_some(),
            from_file.is_some(),
            plain.is_some(),
            in_url.is_some(),
        ];
        if given.iter().filter(|g| **g).count() > 1 {
            problems.add(
                &path,
                "give the password once: password_env, password_file, password or in the url",
            );
        }
        if plain.is_some() || in_url.is_some() {
            let place = if plain.is_some() {
                table.path("password")
            } else {
                table.path("url")
            };
            problems.warn(&place, "a password in the configuration is readable by whoever reads the file; use password_env or password_file");
        }
        if let Some(name) = from_env {
            let found = (self.lookup)(&name);
            if found.is_none() {
                problems.add(&path, &format!("environment variable {name} is not set"));
            }
            return Secret(found.unwrap_or_default());
        }
        if let Some(file) = from_file {
            let read = std::fs::read_to_string(self.path(&file));
            if let Err(e) = &read {
                problems.add(
                    &table.path("password_file"),
                    &format!("{file} can not be read: {e}"),
                );
            }
            return Secret(
                read.unwrap_or_default()
                    .trim_end_matches(['\r', '\n'])
                    .to_owned(),
            );
        }
        Secret(plain.or(in_url).unwrap_or_default())
    }
}

fn cluster(mut t: Table<'_>, env: &Env<'_>) -> Cluster {
    let name = t.text("name").unwrap_or_else(|| "tributary".into());
    let order = match t.one_of("order", &["tso", "causal"]).as_deref() {
        Some("causal") => OrderMode::Causal,
        Some(_) => OrderMode::Tso,
        None => {
            if !t.reported("order") {
                env.problems
                    .add("cluster.order", "is missing: \"tso\" or \"causal\"");
            }
            OrderMode::Tso
        }
    };
    let source = t.one_of("tso_source", &["commit-timestamp", "polardbx"]);
    if source.is_some() && order == OrderMode::Causal {
        env.problems.add(
            "cluster.tso_source",
            "has no meaning with order = \"causal\", which uses no timestamps",
        );
    } else if source.as_deref() == Some("polardbx") {
        env.problems.add(
            "cluster.tso_source",
            "\"polardbx\" is not supported by this version",
        );
    }
    let fence_log = t.text("fence_log").map(|p| env.path(&p));
    let warn_blocked_after = t.duration("warn_blocked_after");
    t.finish();
    Cluster {
        name,
        order,
        warn_blocked_after: warn_blocked_after.unwrap_or(WARN_BLOCKED_AFTER),
        fence_log,
    }
}

fn nodes(tables: Vec<Table<'_>>, env: &Env<'_>) -> Vec<Node> {
    if tables.is_empty() {
        env.problems.add("node", "at least one [[node]] is needed");
    }
    let mut nodes: Vec<Node> = tables.into_iter().filter_map(|t| node(t, env)).collect();
    repeated(nodes.iter().map(|n| &n.name), "node", env.problems);
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

fn repeated<'a>(names: impl Iterator<Item = &'a String>, what: &str, problems: &Problems) {
    let mut names: Vec<_> = names.collect();
    names.sort();
    for pair in names.windows(2).filter(|p| p[0] == p[1]) {
        problems.add(what, &format!("the name {:?} is given twice", pair[0]));
    }
}

fn node(mut t: Table<'_>, env: &Env<'_>) -> Option<Node> {
    let name = t.required_text("name");
    let url = t.required_text("url");
    let tls = match t
        .one_of("tls", &["disabled", "preferred", "required"])
        .as_deref()
    {
        Some("disabled") => Tls::Disabled,
        Some("required") => Tls::Required,
        _ => Tls::Preferred,
    };
    let tls_ca = t.text("tls_ca").map(|p| env.path(&p));
    let start = match t.text("start").as_deref() {
        None | Some("earliest") => Start::Earliest,
        Some("current") => Start::Current,
        Some(set) => match set.parse() {
            Ok(set) => Start::Gtids(set),
            Err(_) => {
                env.problems.add(
                    &t.path("start"),
                    "must be \"current\", \"earliest\" or a GTID set",
                );
                Start::Earliest
            }
        },
    };
    let (url_path, parsed) = (t.path("url"), url.as_deref().map(NodeUrl::parse));
    let in_url = parsed
        .as_ref()
        .and_then(|p| p.as_ref().ok())
        .and_then(|u| u.password.clone());
    let password = env.password(&mut t, in_url);
    t.finish();
    match parsed? {
        Ok(url) => Some(Node {
            name: name?,
            host: url.host,
            port: url.port,
            user: url.user,
            password,
            tls,
            tls_ca,
            start,
        }),
        Err(problem) => {
            env.problems.add(&url_path, &problem);
            None
        }
    }
}

/// `mysql://user[:password]@host[:port]`
struct NodeUrl {
    user: String,
    password: Option<String>,
    host: String,
    port: u16,
}

impl NodeUrl {
    fn parse(text: &str) -> Result<Self, String> {
        // mysql_async knows percent-encoding, IPv6 literals and the rest of the URL grammar.
        let opts = mysql_async::Opts::from_url(text)
            .map_err(|e| format!("{e}; want mysql://user@host:port"))?;
        let user = opts
            .user()
            .filter(|u| !u.is_empty())
            .ok_or("names no user; want mysql://user@host:port")?;
        Ok(Self {
            user: user.to_owned(),
            password: opts.pass().map(str::to_owned),
            host: opts.ip_or_hostname().to_owned(),
            port: opts.tcp_port(),
        })
    }
}

fn store(mut t: Table<'_>, env: &Env<'_>) -> Store {
    let data_dir = env.path(&t.text("data_dir").unwrap_or_else(|| "data".into()));
    let max_binlog_size = t
        .size("max_binlog_size", 4096, 1 << 30)
        .unwrap_or(512 << 20);
    let retention = Retention {
        expire_after: t.duration("expire_after").map(|d| d.as_secs()),
        max_total_size: t.size("max_total_size", 1 << 20, 1 << 60),
    };
    let purge_in_use = t.boolean("purge_in_use").unwrap_or(false);
    t.finish();
    Store {
        data_dir,
        max_binlog_size,
        retention,
        purge_in_use,
    }
}

fn admin(mut t: Table<'_>) -> Admin {
    let listen = t
        .address("listen")
        .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8307)));
    t.finish();
    Admin { listen }
}

#[cfg(test)]
mod tests;
