//! The service's configuration file: in go nodes, ports and choices, out come TOML text and the
//! environment that holds the passwords.

use std::fmt::Write as _;

use crate::mysqld::{Mysqld, REPL_ACCOUNT};
use crate::process::Lifetime;

/// A node the service reads.
#[derive(Debug, Clone)]
pub struct NodeEntry {
    /// Its name.
    pub name: String,
    /// Addresses without a password; several are one failover group.
    pub urls: Vec<String>,
    /// The account's password.
    pub password: String,
    /// Further lines of its table, such as `start = "current"`.
    pub extra: String,
}

impl NodeEntry {
    /// A server of the testbed, read as [`REPL_ACCOUNT`].
    pub fn of(server: &Mysqld) -> Self {
        Self {
            name: server.name().to_owned(),
            urls: vec![format!(
                "mysql://{}@127.0.0.1:{}",
                REPL_ACCOUNT.0,
                server.port()
            )],
            password: REPL_ACCOUNT.1.to_owned(),
            extra: String::new(),
        }
    }

    /// Environment variable that holds the password.
    fn password_variable(&self) -> String {
        let name = self
            .name
            .to_uppercase()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        format!("TRIBUTARY_{name}_PASSWORD")
    }

    fn toml(&self) -> String {
        let Self {
            name, urls, extra, ..
        } = self;
        let url = match urls.as_slice() {
            [url] => format!("{url:?}"),
            urls => format!("{urls:?}"),
        };
        let variable = self.password_variable();
        format!("[[node]]\nname = {name:?}\nurl = {url}\npassword_env = {variable:?}\n{extra}\n")
    }
}

/// An account of dump clients.
#[derive(Debug, Clone)]
pub struct UserEntry {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
    /// Its privileges.
    pub privileges: Vec<String>,
    /// Further lines of its table, such as `plugin = "mysql_native_password"`.
    pub extra: String,
}

/// What the service is started with.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// Name of the cluster and of the service's directory.
    pub name: String,
    /// `tso` or `causal`.
    pub order: String,
    /// Further lines of `[cluster]`, such as `tso_source = "polardbx"`.
    pub cluster_extra: String,
    /// The nodes.
    pub nodes: Vec<NodeEntry>,
    /// Accounts of dump clients.
    pub users: Vec<UserEntry>,
    /// `server_id` of the service.
    pub server_id: u32,
    /// `max_binlog_size`; the service's default when `None`.
    pub max_binlog_size: Option<String>,
    /// Further lines of `[store]`.
    pub store_extra: String,
    /// Further lines of `[server]`.
    pub server_extra: String,
    /// Whole tables behind all others, such as `[[route]]`.
    pub tables: String,
    /// Port for MySQL clients; a free one when `None`.
    pub port: Option<u16>,
    /// Port of the admin interface; a free one when `None`.
    pub admin_port: Option<u16>,
    /// Filter of log messages (`RUST_LOG`).
    pub log: String,
    /// Limit of open files, soft and hard; this process's own when `None`.
    pub open_files: Option<u64>,
    /// Further environment variables.
    pub env: Vec<(String, String)>,
    /// Whether it can be made to outlive this process.
    pub lifetime: Lifetime,
}

impl ServiceOptions {
    /// A service in `order` that reads `nodes` and lets [`REPL_ACCOUNT`] in.
    pub fn new<'a>(order: &str, nodes: impl IntoIterator<Item = &'a Mysqld>) -> Self {
        let privileges = ["REPLICATION SLAVE", "REPLICATION CLIENT", "ADMIN"];
        Self {
            name: "tributary".to_owned(),
            order: order.to_owned(),
            cluster_extra: String::new(),
            nodes: nodes.into_iter().map(NodeEntry::of).collect(),
            users: vec![UserEntry {
                name: REPL_ACCOUNT.0.to_owned(),
                password: REPL_ACCOUNT.1.to_owned(),
                privileges: privileges.map(str::to_owned).to_vec(),
                extra: String::new(),
            }],
            server_id: 4294,
            max_binlog_size: None,
            store_extra: String::new(),
            server_extra: String::new(),
            tables: String::new(),
            port: None,
            admin_port: None,
            log: "info".to_owned(),
            open_files: None,
            env: Vec::new(),
            lifetime: Lifetime::Owned,
        }
    }

    /// The configuration file; relative paths are relative to it.
    pub(super) fn toml(&self, port: u16, admin_port: u16) -> String {
        let Self {
            name,
            order,
            cluster_extra,
            store_extra,
            server_extra,
            tables,
            ..
        } = self;
        let mut text = format!("[cluster]\nname = {name:?}\norder = {order:?}\n{cluster_extra}\n");
        for node in &self.nodes {
            text.push_str(&node.toml());
        }
        text.push_str("[store]\ndata_dir = \"data\"\n");
        if let Some(size) = &self.max_binlog_size {
            writeln!(text, "max_binlog_size = {size:?}").expect("a string takes text");
        }
        let server_id = self.server_id;
        write!(
            text,
            "{store_extra}\n[server]\nlisten = \"127.0.0.1:{port}\"\nserver_id = {server_id}\n\
             {server_extra}\n[admin]\nlisten = \"127.0.0.1:{admin_port}\"\n"
        )
        .expect("a string takes text");
        for (number, user) in self.users.iter().enumerate() {
            let UserEntry {
                name,
                privileges,
                extra,
                ..
            } = user;
            let variable = user_variable(number);
            write!(
                text,
                "[[user]]\nname = {name:?}\npassword_env = {variable:?}\n\
                 privileges = {privileges:?}\n{extra}\n"
            )
            .expect("a string takes text");
        }
        text + tables
    }

    /// The environment of the service.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let nodes = self
            .nodes
            .iter()
            .map(|node| (node.password_variable(), node.password.clone()));
        let users = self.users.iter().enumerate();
        let users = users.map(|(number, user)| (user_variable(number), user.password.clone()));
        let log = ("RUST_LOG".to_owned(), self.log.clone());
        nodes
            .chain(users)
            .chain([log])
            .chain(self.env.iter().cloned())
            .collect()
    }
}

fn user_variable(number: usize) -> String {
    format!("TRIBUTARY_USER_{number}_PASSWORD")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_in_the_environment_only() {
        let mut options = ServiceOptions::new("tso", []);
        options.nodes.push(NodeEntry {
            name: "dn-1".to_owned(),
            urls: vec!["mysql://repl@127.0.0.1:3301".to_owned()],
            password: "secret-of-dn1".to_owned(),
            extra: String::new(),
        });
        let text = options.toml(3307, 8307);
        assert!(
            !text.contains("secret-of-dn1") && !text.contains(REPL_ACCOUNT.1),
            "{text}"
        );
        assert!(
            text.contains("url = \"mysql://repl@127.0.0.1:3301\""),
            "{text}"
        );
        let environment = options.environment();
        let wanted = (
            "TRIBUTARY_DN_1_PASSWORD".to_owned(),
            "secret-of-dn1".to_owned(),
        );
        assert!(environment.contains(&wanted), "{environment:?}");
        for (variable, _) in environment
            .iter()
            .filter(|(name, _)| name.ends_with("PASSWORD"))
        {
            assert!(text.contains(variable.as_str()), "{variable} is not used");
        }
    }
}
