//! Whether a node is set up so that its binlog can be read exactly once. In: its variables and grants, our identity,
//! the other nodes'. Out: every [`SettingsProblem`], each with what to run to repair it.

use std::collections::BTreeMap;

use thiserror::Error;
use tributary_binlog::Sid;

/// The variables that are asked for: `SHOW GLOBAL VARIABLES` rows with these names.
pub(crate) const VARIABLES: [&str; 9] = [
    "log_bin",
    "gtid_mode",
    "enforce_gtid_consistency",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_value_options",
    "server_id",
    "server_uuid",
    "version",
];

/// What a node said about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Global variables by lower-case name.
    pub variables: BTreeMap<String, String>,
    /// Rows of `SHOW GRANTS` for the account we use.
    pub grants: Vec<String>,
    /// That account, as `CURRENT_USER()` gives it.
    pub account: String,
}

impl NodeFacts {
    /// The value of a variable, or "" if the node has none of this name.
    pub fn get(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// Who the node says it is.
    pub fn identity(&self, name: &str) -> Identity {
        let server_id = self.get("server_id").parse().unwrap_or(0);
        Identity {
            name: name.to_owned(),
            server_id,
            uuid: self.get("server_uuid").parse().ok(),
        }
    }
}

/// How a server is known in replication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node's name in our configuration.
    pub name: String,
    /// Its `server_id`.
    pub server_id: u32,
    /// Its `server_uuid`.
    pub uuid: Option<Sid>,
}

/// A setting that makes reading a node unsafe. Displays as one line with its repair.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsProblem {
    /// Not MySQL.
    #[error(
        "version is {found}: this is MariaDB, whose GTIDs and XA binlog differ; only MySQL 8.0 and later can be a node"
    )]
    MariaDb {
        /// Its version.
        found: String,
    },
    /// Too old.
    #[error("version is {found}, must be 8.0 or later: upgrade the node")]
    Version {
        /// Its version.
        found: String,
    },
    /// No binlog.
    #[error(
        "log_bin is OFF, must be ON: remove skip-log-bin and disable-log-bin from the node's configuration (or set log_bin) and restart it"
    )]
    LogBin,
    /// No GTIDs.
    #[error(
        "gtid_mode is {found}, must be ON: run SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; \
         SET PERSIST gtid_mode = ON_PERMISSIVE; wait until SHOW STATUS LIKE 'Ongoing_anonymous_transaction_count' is 0; \
         SET PERSIST gtid_mode = ON"
    )]
    GtidMode {
        /// Its value.
        found: String,
    },
    /// Statements that break GTIDs are let through.
    #[error(
        "enforce_gtid_consistency is {found}, must be ON: run SET PERSIST enforce_gtid_consistency = ON"
    )]
    GtidConsistency {
        /// Its value.
        found: String,
    },
    /// Not row format.
    #[error(
        "binlog_format is {found}, must be ROW: run SET PERSIST binlog_format = ROW, and let clients reconnect"
    )]
    BinlogFormat {
        /// Its value.
        found: String,
    },
    /// Rows are not whole.
    #[error(
        "binlog_row_image is {found}, must be FULL: run SET PERSIST binlog_row_image = FULL, and let clients reconnect"
    )]
    RowImage {
        /// Its value.
        found: String,
    },
    /// No replication identity.
    #[error("server_id is 0, must be unique and not 0: run SET PERSIST server_id = <n>")]
    ServerIdZero,
    /// The node has our id.
    #[error(
        "server_id is {server_id}, the same as this service's own: run SET PERSIST server_id = <another>, or change server_id \
         in the [server] section"
    )]
    ServerIdOurs {
        /// The id.
        server_id: u32,
    },
    /// Two nodes have one id.
    #[error(
        "server_id is {server_id}, the same as that of node {other}: run SET PERSIST server_id = <another> on one of them"
    )]
    ServerIdTaken {
        /// The id.
        server_id: u32,
        /// The other node.
        other: String,
    },
    /// Two nodes are one server, or a copied data directory.
    #[error(
        "server_uuid is {uuid}, the same as that of node {other}: two nodes lead to one server, or a data directory was \
         copied with its auto.cnf; correct the address, or delete auto.cnf of the copy and restart it"
    )]
    UuidTaken {
        /// The UUID.
        uuid: Sid,
        /// The other node.
        other: String,
    },
    /// The node has our UUID.
    #[error(
        "server_uuid is {uuid}, the same as this service's own: this address leads back to the service, not to a node"
    )]
    UuidOurs {
        /// The UUID.
        uuid: Sid,
    },
    /// The account may not do what is needed.
    #[error("account {account} lacks {privilege}: run GRANT {privilege} ON *.* TO {account}")]
    Privilege {
        /// The missing privilege.
        privilege: &'static str,
        /// The account, quoted for SQL.
        account: String,
    },
}

/// Everything that is wrong with a node, the gravest first. `ours` is the service's own identity.
pub(crate) fn check(
    facts: &NodeFacts,
    name: &str,
    ours: &Identity,
    others: &[Identity],
) -> Vec<SettingsProblem> {
    let mut problems = Vec::new();
    version(facts, &mut problems);
    values(facts, &mut problems);
    identities(&facts.identity(name), ours, others, &mut problems);
    for privilege in ["REPLICATION SLAVE", "REPLICATION CLIENT"] {
        if !facts.grants.iter().any(|grant| grants(grant, privilege)) {
            let account = quoted(&facts.account);
            problems.push(SettingsProblem::Privilege { privilege, account });
        }
    }
    problems
}

fn version(facts: &NodeFacts, problems: &mut Vec<SettingsProblem>) {
    let found = facts.get("version").to_owned();
    let major: u32 = found
        .split('.')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    if found.to_ascii_lowercase().contains("mariadb") {
        problems.push(SettingsProblem::MariaDb { found });
    } else if major < 8 {
        problems.push(SettingsProblem::Version { found });
    }
}

fn values(facts: &NodeFacts, problems: &mut Vec<SettingsProblem>) {
    let is = |name: &str, wanted: &str| facts.get(name).eq_ignore_ascii_case(wanted);
    let found = |name: &str| {
        let value = facts.get(name);
        if value.is_empty() {
            "not known to this server".to_owned()
        } else {
            value.to_owned()
        }
    };
    if !is("log_bin", "ON") && !is("log_bin", "1") {
        problems.push(SettingsProblem::LogBin);
    }
    if !is("gtid_mode", "ON") {
        problems.push(SettingsProblem::GtidMode {
            found: found("gtid_mode"),
        });
    }
    if !is("enforce_gtid_consistency", "ON") && !is("enforce_gtid_consistency", "1") {
        let found = found("enforce_gtid_consistency");
        problems.push(SettingsProblem::GtidConsistency { found });
    }
    // Deprecated since 8.0.34: a server without it can only do ROW.
    if !is("binlog_format", "ROW") && !is("binlog_format", "") {
        problems.push(SettingsProblem::BinlogFormat {
            found: found("binlog_format"),
        });
    }
    // binlog_row_value_options=PARTIAL_JSON is fine: partial updates are passed on as they are.
    if !is("binlog_row_image", "FULL") {
        problems.push(SettingsProblem::RowImage {
            found: found("binlog_row_image"),
        });
    }
}

fn identities(
    node: &Identity,
    ours: &Identity,
    others: &[Identity],
    problems: &mut Vec<SettingsProblem>,
) {
    let server_id = node.server_id;
    if server_id == 0 {
        problems.push(SettingsProblem::ServerIdZero);
    } else if server_id == ours.server_id {
        problems.push(SettingsProblem::ServerIdOurs { server_id });
    }
    if let Some(uuid) = node.uuid.filter(|uuid| ours.uuid == Some(*uuid)) {
        problems.push(SettingsProblem::UuidOurs { uuid });
    }
    for other in others.iter().filter(|other| other.name != node.name) {
        let name = other.name.clone();
        if let Some(uuid) = node.uuid.filter(|uuid| other.uuid == Some(*uuid)) {
            problems.push(SettingsProblem::UuidTaken { uuid, other: name });
        } else if server_id != 0 && server_id == other.server_id {
            problems.push(SettingsProblem::ServerIdTaken {
                server_id,
                other: name,
            });
        }
    }
}

/// Whether a row of `SHOW GRANTS` gives a global privilege.
pub(crate) fn grants(row: &str, privilege: &str) -> bool {
    let upper = row.to_ascii_uppercase();
    let Some(list) = upper
        .strip_prefix("GRANT ")
        .and_then(|rest| rest.split_once(" ON *.* TO "))
        .map(|(list, _)| list)
    else {
        return false;
    };
    list.split(',').map(str::trim).any(|p| {
        p == privilege
            || p == "ALL"
            || p == "ALL PRIVILEGES"
            || (p == "SUPER" && privilege == "REPLICATION CLIENT")
    })
}

/// `repl@%` as `'repl'@'%'`.
fn quoted(account: &str) -> String {
    match account.rsplit_once('@') {
        Some((user, host)) => format!("'{user}'@'{host}'"),
        None => format!("'{account}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn good() -> NodeFacts {
        let variables = [
            ("log_bin", "ON"),
            ("gtid_mode", "ON"),
            ("enforce_gtid_consistency", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_value_options", "PARTIAL_JSON"),
            ("server_id", "3301"),
            ("server_uuid", UUID),
            ("version", "9.7.4-debian"),
        ];
        NodeFacts {
            variables: variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            grants: vec![
                "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `repl`@`%`".to_owned(),
            ],
            account: "repl@%".to_owned(),
        }
    }

    fn identity(name: &str, server_id: u32, uuid: Option<&str>) -> Identity {
        Identity {
            name: name.to_owned(),
            server_id,
            uuid: uuid.map(|u| u.parse().unwrap()),
        }
    }

    fn run(facts: &NodeFacts) -> Vec<String> {
        let ours = identity("", 4294, Some("00000000-0000-0000-0000-000000000001"));
        check(facts, "dn1", &ours, &[])
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_good_node_has_no_problem() {
        assert_eq!(run(&good()), Vec::<String>::new());
        let mut without_format = good();
        without_format.variables.remove("binlog_format");
        assert_eq!(run(&without_format), Vec::<String>::new());
    }

    #[test]
    fn each_wrong_value_is_one_problem_with_its_repair() {
        for (name, value, text) in [
            ("log_bin", "OFF", "log_bin is OFF"),
            (
                "gtid_mode",
                "ON_PERMISSIVE",
                "gtid_mode is ON_PERMISSIVE, must be ON",
            ),
            (
                "enforce_gtid_consistency",
                "WARN",
                "SET PERSIST enforce_gtid_consistency = ON",
            ),
            ("binlog_format", "MIXED", "SET PERSIST binlog_format = ROW"),
            (
                "binlog_row_image",
                "MINIMAL",
                "SET PERSIST binlog_row_image = FULL",
            ),
            ("server_id", "0", "server_id is 0"),
            ("server_id", "4294", "the same as this service's own"),
            (
                "server_uuid",
                "00000000-0000-0000-0000-000000000001",
                "leads back to the service",
            ),
            (
                "version",
                "5.7.44-log",
                "version is 5.7.44-log, must be 8.0",
            ),
            ("version", "11.8.6-MariaDB", "this is MariaDB"),
        ] {
            let mut facts = good();
            facts.variables.insert(name.to_owned(), value.to_owned());
            let problems = run(&facts);
            assert_eq!(problems.len(), 1, "{name}={value}: {problems:?}");
            assert!(problems[0].contains(text), "{}", problems[0]);
        }
        let none = NodeFacts {
            account: "repl@%".to_owned(),
            ..NodeFacts::default()
        };
        assert_eq!(run(&none).len(), 8, "{:?}", run(&none));
    }

    #[test]
    fn clashes_name_the_other_node() {
        let ours = identity("", 4294, None);
        let others = [
            identity("dn1", 3301, Some(UUID)),
            identity("dn2", 3301, None),
            identity("dn3", 7, Some(UUID)),
        ];
        let problems = check(&good(), "dn1", &ours, &others);
        assert!(
            matches!(&problems[..], [
                SettingsProblem::ServerIdTaken { server_id: 3301, other: two },
                SettingsProblem::UuidTaken { other: three, .. },
            ] if two == "dn2" && three == "dn3"),
            "{problems:?}"
        );
    }

    #[test]
    fn grants_are_read_as_the_server_prints_them() {
        let mut facts = good();
        facts.grants = vec!["GRANT USAGE ON *.* TO `repl`@`%`".to_owned()];
        assert_eq!(
            run(&facts),
            [
                "account 'repl'@'%' lacks REPLICATION SLAVE: run GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%'",
                "account 'repl'@'%' lacks REPLICATION CLIENT: run GRANT REPLICATION CLIENT ON *.* TO 'repl'@'%'",
            ]
        );
        facts.grants =
            vec!["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION".to_owned()];
        assert!(run(&facts).is_empty());
        facts.grants = vec![
            "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON `shop`.* TO `repl`@`%`".to_owned(),
        ];
        assert_eq!(run(&facts).len(), 2);
    }
}
