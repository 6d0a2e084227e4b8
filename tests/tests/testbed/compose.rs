//! `docker compose up` and the local testbed are the same cluster: same server options, same
//! accounts, same replication statement.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use tributary_tests::mysqld::{
    APP_ACCOUNT, NODE_FLAGS, REPL_ACCOUNT, REPLICA_FLAGS, ReplicationSource,
};
use tributary_tests::tools::{repository, workspace_program};

fn file(path: &str) -> String {
    fs::read_to_string(repository().join(path)).expect("the file is in the repository")
}

/// Options of an option file, in the form of command line flags.
fn flags_of(path: &str) -> BTreeSet<String> {
    let text = file(path);
    let options = text.lines().filter_map(|line| line.split_once('='));
    options
        .map(|(name, value)| format!("--{}={}", name.trim(), value.trim()))
        .collect()
}

fn set(flags: &[&str]) -> BTreeSet<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

/// The compose file's top-level and service blocks by name, as text.
fn blocks() -> BTreeMap<String, String> {
    let mut blocks: BTreeMap<String, String> = BTreeMap::new();
    let mut name = String::new();
    for line in file("docker-compose.yml")
        .lines()
        .filter(|line| !line.trim().starts_with('#'))
    {
        let depth = line.len() - line.trim_start().len();
        if depth <= 2 && line.contains(':') && (depth == 0 || !name.starts_with("x-")) {
            name = line.trim().split(':').next().unwrap_or_default().to_owned();
        }
        let block = blocks.entry(name.clone()).or_default();
        block.push_str(line);
        block.push('\n');
    }
    blocks
}

#[test]
fn servers_run_with_the_options_of_the_testbed() {
    assert_eq!(flags_of("docker/mysql/node.cnf"), set(NODE_FLAGS));
    assert_eq!(flags_of("docker/replica/replica.cnf"), set(REPLICA_FLAGS));
    let blocks = blocks();
    let node_files = [
        "docker/mysql/node.cnf:/etc/mysql/conf.d/",
        "docker/mysql/accounts.sql:/docker-entrypoint-initdb.d/",
    ];
    for file in node_files {
        assert!(
            blocks["x-node"].contains(file) && blocks["replica"].contains(file),
            "{file}"
        );
    }
    for file in [
        "docker/replica/replica.cnf:/etc/mysql/conf.d/",
        "docker/replica/attach.sql:/docker-entrypoint-initdb.d/",
    ] {
        assert!(blocks["replica"].contains(file), "{file}");
    }
    let mut ids = BTreeSet::new();
    for service in ["dn1", "dn2", "dn3", "replica"] {
        let block = &blocks[service];
        assert!(
            service == "replica" || block.contains("<<: *node"),
            "{service}"
        );
        let (_, rest) = block.split_once("--server-id=").expect("a server_id");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        assert!(
            ids.insert(digits.parse::<u32>().expect("a number")),
            "{service}: not its own"
        );
        assert!(
            !block.contains("--gtid") && !block.contains("--binlog"),
            "options are in the files"
        );
    }
    assert!(!ids.contains(&4294), "the service's own server_id");
    assert!(file("docker/tributary/tributary.toml").contains("server_id = 4294"));
}

#[test]
fn every_port_is_published_on_the_loopback_only() {
    let text = file("docker-compose.yml");
    let ports: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("ports:"))
        .collect();
    assert_eq!(ports.len(), 5);
    for line in ports {
        let published = line.matches('"').count() / 2;
        assert_eq!(line.matches("127.0.0.1:").count(), published, "{line}");
    }
}

#[test]
fn accounts_are_those_the_testbed_uses() {
    let accounts = file("docker/mysql/accounts.sql");
    let compose = file("docker-compose.yml");
    for (user, password) in [REPL_ACCOUNT, APP_ACCOUNT] {
        assert!(accounts.contains(&format!(
            "'{user}'@'%' IDENTIFIED WITH caching_sha2_password BY '{password}'"
        )));
    }
    let (user, password) = APP_ACCOUNT;
    assert_eq!(
        compose
            .matches(&format!("mysql://{user}:{password}@dn"))
            .count(),
        3
    );
    assert!(compose.contains(&format!("TRIBUTARY_NODE_PASSWORD: {}", REPL_ACCOUNT.1)));
    assert!(compose.contains(&format!("TRIBUTARY_CLIENT_PASSWORD: {}", REPL_ACCOUNT.1)));
}

#[test]
fn the_replica_attaches_as_the_demo_does() {
    let settings = |text: &str| -> BTreeSet<String> {
        let (_, list) = text
            .split_once("CHANGE REPLICATION SOURCE TO")
            .expect("the statement");
        let list = list.trim().trim_end_matches(';');
        list.split(',')
            .map(|setting| setting.split_whitespace().collect())
            .collect()
    };
    let mut source = ReplicationSource::local(3307);
    source.host = "tributary".to_owned();
    assert_eq!(
        settings(&file("docker/replica/attach.sql")),
        settings(&source.statement())
    );
}

#[test]
fn the_service_accepts_its_configuration() {
    let program = workspace_program("tributary").expect("make build builds it");
    let output = std::process::Command::new(program)
        .args(["check", "--offline", "--config"])
        .arg(repository().join("docker/tributary/tributary.toml"))
        .env("TRIBUTARY_NODE_PASSWORD", "x")
        .env("TRIBUTARY_CLIENT_PASSWORD", "x")
        .output()
        .expect("it runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
