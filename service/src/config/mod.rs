//! The configuration file.
//!
//! In: TOML text and the environment. Out: a valid [`Config`], or every problem at once, one line each with the key's path.
//! Nothing here opens a connection.

mod clients;
mod keys;
mod node;
mod reader;
mod routes;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tributary_flow::{OrderMode, limits};
use tributary_schema::SchemaRules;
use tributary_store::Retention;

pub(crate) use clients::{Privilege, Server, ServerTls, TlsVersions, User};
pub(crate) use keys::reference;
pub(crate) use node::{Node, ServerUrl, Start, Tls};
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
    /// `[[route]]`, `[ignore]` and `[ddl]`
    pub(crate) schema: SchemaRules,
    /// The same as it was written.
    pub(crate) routes: serde_json::Value,
    /// What is accepted but not advised, one line each.
    pub(crate) warnings: Vec<String>,
}

/// Longer than a coordinator that recovers by itself needs.
const WARN_BLOCKED_AFTER: Duration = Duration::from_secs(30);
const KEEP_PREPARED_AFTER: Duration = Duration::from_secs(60);

/// `[cluster]`: what is merged.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// Shown in the status.
    pub(crate) name: String,
    /// Where the order comes from.
    pub(crate) order: OrderMode,
    /// How long the merge may wait for one thing before a warning.
    pub(crate) warn_blocked_after: Duration,
    /// How long a branch stays prepared before it is kept in the store.
    pub(crate) keep_prepared_after: Duration,
    /// Where each passed fence is recorded, if anywhere.
    pub(crate) fence_log: Option<PathBuf>,
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
    /// Greatest transaction that stays in memory until it is written.
    pub(crate) spill_threshold: u64,
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
        let root: toml::Table = text.parse().map_err(not_toml)?;
        let problems = Problems::default();
        let routes = routes::text(&root);
        let mut root = Table::root(root, &problems);
        let env = Env {
            base,
            lookup: env,
            problems: &problems,
        };
        let schema = routes::rules(&mut root, &problems);
        let config = Self {
            schema,
            routes,
            cluster: cluster(root.table("cluster"), &env),
            nodes: node::nodes(root.tables("node"), &env),
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

/// The tables `[[route]]`, `[ignore]` and `[ddl]` of a TOML text, whatever else is in it.
pub(crate) fn routes_of(text: &str) -> Result<serde_json::Value, ConfigError> {
    let root = text.parse().map_err(not_toml)?;
    Ok(routes::text(&root))
}

/// The rules of such tables. Other tables in them are problems.
pub(crate) fn rules_from(definition: &serde_json::Value) -> Result<SchemaRules, ConfigError> {
    let problems = Problems::default();
    let mut root = match toml::Value::try_from(definition) {
        Ok(toml::Value::Table(table)) => Table::root(table, &problems),
        _ => {
            let lines = vec!["want an object with `route`, `ignore` and `ddl`".into()];
            return Err(ConfigError { lines });
        }
    };
    let rules = routes::rules(&mut root, &problems);
    root.finish();
    let (lines, _) = problems.into_lines();
    match lines.is_empty() {
        true => Ok(rules),
        false => Err(ConfigError { lines }),
    }
}

/// A `[[node]]` that comes from elsewhere than the file, as JSON. Passwords are not taken: they would have to be stored.
pub(crate) fn node_from(definition: &serde_json::Value, base: &Path) -> Result<Node, ConfigError> {
    let problems = Problems::default();
    let table = match toml::Value::try_from(definition) {
        Ok(toml::Value::Table(table)) => table,
        _ => toml::Table::new(),
    };
    if table.contains_key("password") {
        problems.add(
            "password",
            "is not taken here; use password_env or password_file",
        );
    }
    let lookup = |name: &str| std::env::var(name).ok();
    let env = Env {
        base,
        lookup: &lookup,
        problems: &problems,
    };
    let node = node::node(Table::root(table, &problems), &env);
    if (node.iter().flat_map(|n| &n.servers)).any(|server| server.password.is_some()) {
        problems.add(
            "url",
            "a password in it is not taken here; use password_env or password_file",
        );
    }
    let (lines, _) = problems.into_lines();
    match node {
        Some(node) if lines.is_empty() => Ok(node),
        _ => Err(ConfigError { lines }),
    }
}

fn not_toml(error: toml::de::Error) -> ConfigError {
    let text = error.to_string().trim_end().replace('\n', " | ");
    ConfigError {
        lines: vec![format!("not TOML: {text}")],
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
    let keep_prepared_after = t.duration("keep_prepared_after");
    if keep_prepared_after.is_some_and(|after| after < Duration::from_secs(1)) {
        (env.problems).add("cluster.keep_prepared_after", "must be at least \"1s\"");
    }
    t.finish();
    Cluster {
        name,
        order,
        warn_blocked_after: warn_blocked_after.unwrap_or(WARN_BLOCKED_AFTER),
        keep_prepared_after: keep_prepared_after.unwrap_or(KEEP_PREPARED_AFTER),
        fence_log,
    }
}

fn repeated<'a>(names: impl Iterator<Item = &'a String>, what: &str, problems: &Problems) {
    let mut names: Vec<_> = names.collect();
    names.sort();
    for pair in names.windows(2).filter(|p| p[0] == p[1]) {
        problems.add(what, &format!("the name {:?} is given twice", pair[0]));
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
    let spill_threshold = t.size("spill_threshold", 64 << 10, 1 << 30);
    t.finish();
    Store {
        spill_threshold: spill_threshold.unwrap_or(limits::SPILL_THRESHOLD_BYTES),
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
