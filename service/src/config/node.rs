//! `[[node]]`: an upstream server, or several that are one failover group.
//!
//! In: a table of the file. Out: a [`Node`], or problems by key path.

use std::path::PathBuf;

use tributary_binlog::GtidSet;

use super::reader::Table;
use super::{Env, Secret, repeated};

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

/// `[[node]]`: an upstream node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// Its server, or those of its failover group.
    pub(crate) servers: Vec<ServerUrl>,
    /// Password of the accounts, where the URL has none.
    pub(crate) password: Secret,
    /// Encryption.
    pub(crate) tls: Tls,
    /// PEM file of the authority that must have signed the servers' certificates.
    pub(crate) tls_ca: Option<PathBuf>,
    /// Where to begin, if that is said.
    pub(crate) start: Option<Start>,
    /// Whether the service is a semi-synchronous replica of it.
    pub(crate) semi_sync: bool,
}

/// A server's address and account.
#[derive(Clone, Debug)]
pub(crate) struct ServerUrl {
    /// Host name or address.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// Account.
    pub(crate) user: String,
    /// Password in the URL.
    pub(crate) password: Option<Secret>,
}

impl Node {
    /// `host:port` of each server.
    pub(crate) fn addresses(&self) -> Vec<String> {
        (self.servers.iter())
            .map(|s| format!("{}:{}", s.host, s.port))
            .collect()
    }
}

pub(super) fn nodes(tables: Vec<Table<'_>>, env: &Env<'_>) -> Vec<Node> {
    if tables.is_empty() {
        env.problems.add("node", "at least one [[node]] is needed");
    }
    let mut nodes: Vec<Node> = tables.into_iter().filter_map(|t| node(t, env)).collect();
    repeated(nodes.iter().map(|n| &n.name), "node", env.problems);
    let addresses: Vec<String> = nodes.iter().flat_map(Node::addresses).collect();
    for address in twice(&addresses) {
        env.problems
            .add("node", &format!("the server {address} is given twice"));
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

fn twice(addresses: &[String]) -> Vec<&String> {
    let mut sorted: Vec<&String> = addresses.iter().collect();
    sorted.sort();
    let pairs = sorted.windows(2).filter(|p| p[0] == p[1]);
    pairs.map(|p| p[0]).collect()
}

pub(super) fn node(mut t: Table<'_>, env: &Env<'_>) -> Option<Node> {
    let name = t.required_text("name");
    let urls = t.text_or_texts("url");
    let tls = match t
        .one_of("tls", &["disabled", "preferred", "required"])
        .as_deref()
    {
        Some("disabled") => Tls::Disabled,
        Some("required") => Tls::Required,
        _ => Tls::Preferred,
    };
    let tls_ca = t.text("tls_ca").map(|p| env.path(&p));
    let start = start(&mut t, env);
    let semi_sync = t.boolean("semi_sync").unwrap_or(false);
    let url_path = t.path("url");
    if urls.as_ref().is_none_or(Vec::is_empty) && !t.reported("url") {
        env.problems.add(&url_path, "is missing");
    }
    let urls = urls.unwrap_or_default();
    let parsed: Vec<_> = urls.iter().map(|url| ServerUrl::parse(url)).collect();
    let mut servers = Vec::new();
    for url in parsed {
        match url {
            Ok(url) => servers.push(url),
            Err(problem) => env.problems.add(&url_path, &problem),
        }
    }
    let in_url = servers.iter().find_map(|s| s.password.clone());
    let password = env.password(&mut t, in_url.map(|p| p.0));
    t.finish();
    (!servers.is_empty() && servers.len() == urls.len()).then_some(Node {
        name: name?,
        servers,
        password,
        tls,
        tls_ca,
        start,
        semi_sync,
    })
}

fn start(t: &mut Table<'_>, env: &Env<'_>) -> Option<Start> {
    let text = t.text("start")?;
    match text.as_str() {
        "earliest" => Some(Start::Earliest),
        "current" => Some(Start::Current),
        set => {
            let parsed = set.parse().ok().map(Start::Gtids);
            if parsed.is_none() {
                env.problems.add(
                    &t.path("start"),
                    "must be \"current\", \"earliest\" or a GTID set",
                );
            }
            parsed
        }
    }
}

impl ServerUrl {
    /// `mysql://user[:password]@host[:port]`
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
            password: opts.pass().map(|p| Secret(p.to_owned())),
            host: opts.ip_or_hostname().to_owned(),
            port: opts.tcp_port(),
        })
    }
}
