//! The reader, the list of keys and the reference page agree; every problem has its line.

use std::collections::BTreeMap;
use std::path::Path;

use tributary_schema::{NameCase, Routed};

use super::keys::KEYS;
use super::*;

const GOOD: &str = r#"
[cluster]
name = "shop"
order = "tso"
[[node]]
name = "dn2"
url = "mysql://repl@127.0.0.1:3302"
password_env = "PW"
[[node]]
name = "dn1"
url = "mysql://repl@[::1]:3301"
start = "current"
[server]
server_id = 4294
[[user]]
name = "repl"
password_env = "PW"
"#;

fn parse(text: &str) -> Result<Config, Vec<String>> {
    let env = |name: &str| (name == "PW").then(|| "pass word".to_owned());
    Config::parse(text, Path::new("/etc/tributary"), &env).map_err(|e| e.lines)
}

fn problems(change: impl FnOnce(String) -> String) -> Vec<String> {
    parse(&change(GOOD.to_owned())).expect_err("must be refused")
}

#[test]
fn a_small_file_gets_safe_defaults() {
    let c = parse(GOOD).unwrap();
    assert_eq!(
        c.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(),
        ["dn1", "dn2"]
    );
    assert_eq!(c.nodes[1].addresses(), ["127.0.0.1:3302"]);
    assert_eq!(c.nodes[1].password.0, "pass word");
    assert_eq!(c.nodes[0].start, Some(Start::Current));
    assert_eq!(
        (c.nodes[1].start.clone(), c.nodes[1].semi_sync),
        (None, false)
    );
    assert!(c.server.listen.ip().is_loopback() && c.admin.listen.ip().is_loopback());
    assert_eq!(c.store.data_dir, Path::new("/etc/tributary/data"));
    assert!(c.warnings.is_empty());
    assert!(
        !format!("{c:?}").contains("pass word"),
        "passwords are never printed"
    );
}

#[test]
fn every_problem_has_one_line_with_its_path() {
    let lines = problems(|t| {
        t.replace("4294", "0").replace("\"tso\"", "\"tsoo\"")
            + "colour = \"red\"\n[store]\nmax_binlog_size = \"1B\"\nfoo = 1\n"
    });
    assert_eq!(
        lines,
        [
            "cluster.order: \"tsoo\" is not one of tso, causal",
            "store.max_binlog_size: must be a size such as \"512MiB\", from 4.0 KiB to 1.0 GiB",
            "store.foo: unknown key",
            "server.server_id: must be a whole number from 1 to 4294967295",
            "user[repl].colour: unknown key",
        ]
    );
}

#[test]
fn what_is_missing_or_double_is_named() {
    let lines = problems(|t| t.replace("name = \"dn2\"", "name = \"dn1\""));
    assert_eq!(lines, ["node: the name \"dn1\" is given twice"]);
    let lines = problems(|t| t.replace("\"PW\"", "\"NOT_THERE\""));
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].contains("node[dn2].password_env: environment variable NOT_THERE is not set"),
        "{lines:?}"
    );
    let lines = problems(|t| t.replace("mysql://repl@127.0.0.1:3302", "http://x"));
    assert!(lines[0].starts_with("node[dn2].url: "), "{lines:?}");
    let lines = problems(|_| "[cluster".into());
    assert!(lines[0].starts_with("not TOML: "), "{lines:?}");
    assert!(problems(|_| String::new()).len() >= 4);
}

#[test]
fn a_password_in_the_url_warns() {
    let c = parse(&GOOD.replace("repl@[::1]", "repl:secret@[::1]")).unwrap();
    assert_eq!(c.nodes[0].password.0, "secret");
    assert_eq!(c.warnings.len(), 1);
    assert!(c.warnings[0].starts_with("node[dn1].url: ") && !c.warnings[0].contains("secret"));
}

#[test]
fn routes() {
    let with = |text: &str| parse(&format!("{GOOD}{text}"));
    let c = with(
        "[[route]]\nfrom = \"s_*.t_*\"\nto = \"s.t\"\n[[route]]\nfrom = \"s_*.city\"\nbroadcast = true\n\
         [ignore]\ntables = [\"s_1.t_9\"]\nxid_format_ids = [7]\n[ddl]\naccounts = true\n",
    )
    .unwrap();
    let route = |table| c.schema.routes.route("s_1", table, NameCase::Exact);
    let (schema, table) = ("s".to_owned(), "t".to_owned());
    assert_eq!(route("t_1"), Routed::Logical { schema, table });
    assert_eq!(route("t_9"), Routed::Ignored, "before all routes");
    assert!(matches!(route("city"), Routed::Broadcast { .. }));
    assert!(c.schema.routes.ignores_format_id(7) && c.schema.accounts);
    for (bad, what) in [
        ("[[route]]\nfrom = \"a\"\n", "route[1].to: is missing"),
        ("[[route]]\nto = \"a.b\"\n", "route[1].from: is missing"),
        (
            "[[route]]\nfrom = \"a.b\"\nto = \"mysql.b\"\n",
            "route: route `a.b`",
        ),
        (
            "[ignore]\nxid_format_ids = [\"x\"]\n",
            "ignore.xid_format_ids: ",
        ),
    ] {
        let lines = with(bad).expect_err(bad);
        assert!(lines.len() == 1 && lines[0].starts_with(what), "{lines:?}");
    }
}

#[test]
fn several_urls_are_one_failover_group() {
    let group = "url = [\"mysql://repl@127.0.0.1:3302\", \"mysql://other@10.0.0.2\"]";
    let c = parse(&GOOD.replace("url = \"mysql://repl@127.0.0.1:3302\"", group)).unwrap();
    assert_eq!(c.nodes[1].addresses(), ["127.0.0.1:3302", "10.0.0.2:3306"]);
    assert_eq!(c.nodes[1].servers[1].user, "other");
    let lines = problems(|t| t.replace("url = \"mysql://repl@127.0.0.1:3302\"", "url = []"));
    assert_eq!(lines, ["node[dn2].url: is missing"]);
    let lines = problems(|t| t.replace("127.0.0.1:3302", "[::1]:3301"));
    assert_eq!(lines, ["node: the server [::1]:3301 is given twice"]);
}

#[test]
fn retention() {
    let c = parse(GOOD).unwrap();
    assert_eq!(c.store.retention, Retention::default());
    let with = |keys: &str| parse(&format!("{GOOD}[store]\n{keys}"));
    for (text, seconds) in [("7d", 604_800), ("12h", 43_200), ("90s", 90), ("5m", 300)] {
        let c = with(&format!("expire_after = \"{text}\"")).unwrap();
        assert_eq!(c.store.retention.expire_after, Some(seconds));
    }
    for bad in ["7", "d", "0d", "7w", "-1d", "1.5h", "", "7 d", "5é"] {
        let lines = with(&format!("expire_after = \"{bad}\"")).expect_err(bad);
        assert!(lines[0].starts_with("store.expire_after: "), "{lines:?}");
    }
    let c = with("max_total_size = \"10GiB\"\npurge_in_use = true").unwrap();
    assert_eq!(c.store.retention.max_total_size, Some(10 << 30));
    assert!(c.store.purge_in_use);
    assert!(with("purge_in_use = 1").is_err());
}

#[test]
fn what_clients_meet() {
    let c = parse(GOOD).unwrap();
    assert_eq!(c.server.version, "8.4.9-tributary");
    assert_eq!(c.server.tls_versions.names(), "TLSv1.2,TLSv1.3");
    assert_eq!(c.server.timeouts.wait, Duration::from_secs(28_800));
    assert!(!c.server.semi_sync && !c.users[0].require_tls && !c.users[0].full_authentication);
    let with = |server: &str, user: &str| {
        let text = GOOD.replace("[server]\n", &format!("[server]\n{server}\n"));
        parse(&(text + user))
    };
    let c = with(
        "semi_sync = true\ntls_versions = [\"TLSv1.3\"]\ncompression = []\nwait_timeout = \"5m\"",
        "require_tls = true\nfull_authentication = true\n",
    )
    .unwrap();
    assert_eq!(c.server.tls_versions.names(), "TLSv1.3");
    assert!(!c.server.compression.zlib && !c.server.compression.zstd);
    assert_eq!(c.server.timeouts.wait, Duration::from_secs(300));
    assert!(c.server.semi_sync && c.users[0].require_tls && c.users[0].full_authentication);
    for (server, user, path) in [
        ("version = \"10.11.2\"", "", "server.version: "),
        ("version = \"8\"", "", "server.version: "),
        ("tls_versions = []", "", "server.tls_versions: "),
        ("tls_versions = [\"SSLv3\"]", "", "server.tls_versions: "),
        ("compression = [\"lz4\"]", "", "server.compression: "),
        ("max_handshakes = 0", "", "server.max_handshakes: "),
        ("net_read_timeout = 30", "", "server.net_read_timeout: "),
        (
            "",
            "plugin = \"mysql_native_password\"\nfull_authentication = true\n",
            "user[repl].full_authentication: ",
        ),
    ] {
        let lines = with(server, user).expect_err(path);
        assert!(lines[0].starts_with(path), "{lines:?}");
    }
}

/// Every key of the list is known to the reader: a file with all of them has no unknown key.
#[test]
fn the_list_of_keys_is_what_the_reader_reads() {
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    for key in KEYS {
        let (section, name) = key.path.split_once('.').unwrap();
        let text = sections.entry(section).or_default();
        *text += &format!("{name} = {}\n", key.example);
    }
    let file: String = (sections.iter())
        .map(|(s, text)| {
            if matches!(*s, "node" | "route" | "user") {
                format!("[[{s}]]\n{text}")
            } else {
                format!("[{s}]\n{text}")
            }
        })
        .collect();
    let lines = parse(&file).expect_err("passwords are given several ways");
    assert!(
        lines.iter().all(|l| !l.contains("unknown key")),
        "{lines:#?}"
    );
    // The other way round: each key the reader asks for is in the list.
    let source = [
        include_str!("mod.rs"),
        include_str!("clients.rs"),
        include_str!("node.rs"),
        include_str!("routes.rs"),
    ]
    .concat();
    let pattern = [
        "t.text(\"",
        "t.text_or_texts(\"",
        "t.required_text(\"",
        "t.one_of(\"",
        "t.texts(\"",
        "t.size(\"",
        "t.integer(\"",
        "t.address(\"",
        "t.duration(\"",
        "t.boolean(\"",
        "table.text(\"",
        "time(\"",
        "count(&mut t, \"",
        "two(t, env, \"",
    ];
    for (at, p) in pattern
        .iter()
        .flat_map(|p| source.match_indices(p).map(move |(at, _)| (at, p)))
    {
        let name = source[at + p.len()..].split('"').next().unwrap();
        assert!(
            KEYS.iter().any(|k| k.path.ends_with(&format!(".{name}"))),
            "{name} is read but not documented"
        );
    }
}

#[test]
fn the_reference_page_is_up_to_date() {
    let page = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/configuration.md"
    ))
    .unwrap_or_default();
    assert!(
        page == reference(),
        "docs/configuration.md differs: write it with `tributary config-reference`"
    );
}
