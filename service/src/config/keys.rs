//! Every key of the configuration file, as the reference documents it.
//!
//! Out: `docs/configuration.md`. Tests hold this list against the reader and against the page.

use std::fmt::Write as _;

/// One key of the configuration file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// `section.key`
    pub(crate) path: &'static str,
    /// A value as it is written in the file.
    pub(crate) example: &'static str,
    /// What is used when it is missing.
    pub(crate) default: &'static str,
    /// What it means.
    pub(crate) meaning: &'static str,
}

const fn key(
    path: &'static str,
    example: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        path,
        example,
        default,
        meaning,
    }
}

/// All keys, in the order of the reference.
pub(crate) const KEYS: &[Key] = &[
    key(
        "cluster.name",
        "\"shop\"",
        "\"tributary\"",
        "Name of the cluster, shown in the status.",
    ),
    key(
        "cluster.order",
        "\"tso\"",
        "required",
        "How transactions of different nodes are ordered. `tso`: by the commit timestamps that the coordinator sets. `causal`: by the nodes' binlogs alone; for coordinators that set none.",
    ),
    key(
        "cluster.tso_source",
        "\"commit-timestamp\"",
        "\"commit-timestamp\"",
        "Where a commit timestamp is found. `commit-timestamp`: `original_commit_timestamp` of the commit's GTID event.",
    ),
    key(
        "cluster.warn_blocked_after",
        "\"30s\"",
        "\"30s\"",
        "How long the merge may wait for one thing (a prepared transaction in doubt, a node) before the log warns. The status shows it at once.",
    ),
    key(
        "cluster.keep_prepared_after",
        "\"1m\"",
        "\"1m\"",
        "A branch that stays prepared for so long is kept in the index database with its rows: its node may then purge the binlog that has its `XA PREPARE`, also if the service is restarted. At least 1s.",
    ),
    key(
        "cluster.fence_log",
        "\"fences.jsonl\"",
        "none",
        "File to which each fence is appended as it took effect: with the nodes' binlogs, the whole input of the merge. For reproducing a merge.",
    ),
    key(
        "node.name",
        "\"dn1\"",
        "required",
        "Name of the node. Ties in the order are broken by it; `tributary nodes rename` changes it.",
    ),
    key(
        "node.url",
        "\"mysql://repl@127.0.0.1:3301\"",
        "required",
        "Address and account: `mysql://user@host:port`. A list of them is one failover group: servers that replicate from one of them, of which the primary is read. A password in it is accepted with a warning.",
    ),
    key(
        "node.password_env",
        "\"DN1_PASSWORD\"",
        "none",
        "Environment variable that holds the password.",
    ),
    key(
        "node.password_file",
        "\"dn1.secret\"",
        "none",
        "File that holds the password; a line break at its end is not part of it.",
    ),
    key(
        "node.password",
        "\"secret\"",
        "none",
        "The password itself; accepted with a warning.",
    ),
    key(
        "node.tls",
        "\"preferred\"",
        "\"preferred\"",
        "`disabled`; `preferred`: used when the node offers it; `required`: always. The certificate is verified when `tls_ca` is given.",
    ),
    key(
        "node.tls_ca",
        "\"ca.pem\"",
        "none",
        "PEM file of the authority that must have signed the node's certificate. Host names are not compared.",
    ),
    key(
        "node.start",
        "\"earliest\"",
        "\"earliest\"",
        "Where to begin when the node is read for the first time: `earliest` binlog it still has, `current` end, or behind a GTID set. A node that joins a cluster that is merged already begins at its current end unless this says otherwise.",
    ),
    key(
        "node.semi_sync",
        "true",
        "false",
        "Whether the service is a semi-synchronous replica of the node: with the plugin `semisync_source` on, a commit on the node returns when the service has it on disk. Parts of distributed transactions are acknowledged when they are received.",
    ),
    key(
        "route.from",
        "\"shop_*.orders_*\"",
        "required",
        "Physical tables, as `database.table`: `*` is any characters, `?` one, `/…/` a regular expression, a database alone all of its tables; names with dots or stars in backticks. The first route that matches decides; what none matches keeps its name. See [ddl.md](ddl.md).",
    ),
    key(
        "route.to",
        "\"shop.orders\"",
        "required",
        "The logical table. `$1` is what the first `*` or group caught. May be left out with `broadcast`.",
    ),
    key(
        "route.broadcast",
        "false",
        "false",
        "Whether every node has the same rows: they, and statements about the tables, are taken from one node.",
    ),
    key(
        "ignore.tables",
        "[\"shop_*.tmp_*\"]",
        "[]",
        "Physical tables that do not flow, written as in `route.from`. They come before all routes.",
    ),
    key(
        "ignore.xid_format_ids",
        "[17]",
        "[]",
        "Distributed transactions whose xid has one of these format ids do not flow.",
    ),
    key(
        "ddl.accounts",
        "false",
        "false",
        "Whether statements about accounts (`CREATE USER`, `GRANT` …) flow: those of the first node by name. They are rarely those of downstream, and they stop a MariaDB replica.",
    ),
    key(
        "store.data_dir",
        "\"data\"",
        "\"data\"",
        "Directory of the binlog files and of RocksDB.",
    ),
    key(
        "store.max_binlog_size",
        "\"512MiB\"",
        "\"512MiB\"",
        "A binlog file is closed behind the transaction that makes it this long. 4KiB to 1GiB.",
    ),
    key(
        "store.expire_after",
        "\"7d\"",
        "none",
        "A finished binlog file is purged so long after it was last written: days `d`, hours `h`, minutes `m` or seconds `s`. Without it and `max_total_size` files stay until `PURGE BINARY LOGS`.",
    ),
    key(
        "store.max_total_size",
        "\"200GiB\"",
        "none",
        "The oldest finished binlog files are purged while all of them together are larger than this.",
    ),
    key(
        "store.purge_in_use",
        "false",
        "false",
        "Whether a binlog file is purged although a connected client still reads it; the client gets error 1236. Otherwise such a file, and all behind it, stay until the client has gone on.",
    ),
    key(
        "store.spill_threshold",
        "\"64MiB\"",
        "\"64MiB\"",
        "A transaction, or a branch of one, with more bytes of rows than this lies in an unnamed file in the data directory until it is written, and not in memory. 64KiB to 1GiB.",
    ),
    key(
        "server.listen",
        "\"127.0.0.1:3307\"",
        "\"127.0.0.1:3307\"",
        "Address for MySQL clients.",
    ),
    key(
        "server.server_id",
        "4294",
        "required",
        "`server_id` of the service, towards clients and towards nodes. No node and no replica may have the same.",
    ),
    key(
        "server.version",
        "\"8.4.9-tributary\"",
        "\"8.4.9-tributary\"",
        "Server version that clients are told, in the greeting, by `VERSION()` and in new binlog files. Clients decide by it what they ask; see docs/clients.md before changing it.",
    ),
    key(
        "server.max_connections",
        "1000",
        "1000",
        "Simultaneous client connections; one more gets error 1040. Fewer if the limit of open files is too low (two for each client).",
    ),
    key(
        "server.max_handshakes",
        "256",
        "256",
        "Connections that have not authenticated yet; when one more comes, the oldest of them is closed.",
    ),
    key(
        "server.connection_id_base",
        "0",
        "0",
        "Where connection ids start. Give each service behind one address another, far apart: `KILL` may reach any of them.",
    ),
    key(
        "server.handshake_timeout",
        "\"10s\"",
        "\"10s\"",
        "Time a client has from connecting to the end of authentication.",
    ),
    key(
        "server.wait_timeout",
        "\"8h\"",
        "\"8h\"",
        "Silence after which a client is disconnected (`@@wait_timeout`); a session can set its own. Clients that dump are not disconnected for silence.",
    ),
    key(
        "server.interactive_timeout",
        "\"8h\"",
        "\"8h\"",
        "The same for shells (`@@interactive_timeout`).",
    ),
    key(
        "server.net_read_timeout",
        "\"30s\"",
        "\"30s\"",
        "Longest pause inside a packet from a client (`@@net_read_timeout`).",
    ),
    key(
        "server.net_write_timeout",
        "\"60s\"",
        "\"60s\"",
        "Longest time a client may take nothing of what is sent (`@@net_write_timeout`); a session can set its own.",
    ),
    key(
        "server.drain_timeout",
        "\"10s\"",
        "\"10s\"",
        "Time that dumps and statements get to end when the service stops.",
    ),
    key(
        "server.semi_sync",
        "false",
        "false",
        "Whether replicas with MySQL's or MariaDB's semi-synchronous plugin are asked to acknowledge what they receive. How far each is stands in `/status`; nothing waits for it. When false, they learn by error 1193 that the source has no such plugin.",
    ),
    key(
        "server.compression",
        "[\"zlib\", \"zstd\"]",
        "[\"zlib\", \"zstd\"]",
        "Protocol compression that clients may ask for. `[]`: none.",
    ),
    key(
        "server.tls",
        "\"offered\"",
        "\"offered\"",
        "`offered`: clients may use TLS (MySQL 9 replicas do unless told otherwise); without `tls_cert` a self-signed certificate is made at the first start and kept as `server-cert.pem` in the data directory. `off`: not offered.",
    ),
    key(
        "server.tls_versions",
        "[\"TLSv1.3\"]",
        "[\"TLSv1.2\", \"TLSv1.3\"]",
        "Versions of TLS that are taken.",
    ),
    key(
        "server.tls_cert",
        "\"server.pem\"",
        "none",
        "Certificate chain (PEM) for clients that use TLS.",
    ),
    key(
        "server.tls_key",
        "\"server.key\"",
        "none",
        "Private key (PEM) of the certificate.",
    ),
    key(
        "user.name",
        "\"repl\"",
        "required",
        "Account name for clients.",
    ),
    key(
        "user.password_env",
        "\"REPL_PASSWORD\"",
        "none",
        "Environment variable that holds the password.",
    ),
    key(
        "user.password_file",
        "\"repl.secret\"",
        "none",
        "File that holds the password.",
    ),
    key(
        "user.password",
        "\"secret\"",
        "none",
        "The password itself; accepted with a warning.",
    ),
    key(
        "user.plugin",
        "\"caching_sha2_password\"",
        "\"caching_sha2_password\"",
        "Authentication plugin: `caching_sha2_password`, or `mysql_native_password` for old clients and MariaDB replicas.",
    ),
    key(
        "user.require_tls",
        "false",
        "false",
        "Whether the account may connect over TLS only (MySQL's `REQUIRE SSL`).",
    ),
    key(
        "user.full_authentication",
        "false",
        "false",
        "Whether a client of `caching_sha2_password` must say the password itself, over TLS or encrypted with the server's key, as to a MySQL that has not cached it. Otherwise the digest that clients send first is enough.",
    ),
    key(
        "user.privileges",
        "[\"REPLICATION SLAVE\"]",
        "[\"REPLICATION SLAVE\", \"REPLICATION CLIENT\"]",
        "`REPLICATION SLAVE` to read the binlog, `REPLICATION CLIENT` for `SHOW BINARY LOGS` and the like, `ADMIN` for `KILL`, `PURGE` and `FLUSH`.",
    ),
    key(
        "admin.listen",
        "\"127.0.0.1:8307\"",
        "\"127.0.0.1:8307\"",
        "Address of the HTTP interface: `/healthz`, `/readyz`, `/status`, `/metrics`, `/nodes`. It has no authentication: keep it on a loopback or private address.",
    ),
];

/// The reference page.
pub(crate) fn reference() -> String {
    let mut page = String::from(
        "# Configuration reference\n\n\
         `tributary serve --config tributary.toml`. Unknown keys are errors; `tributary check --config FILE` prints every problem, one\n\
         line each with the key's path, and exits with 1. `[[node]]`, `[[route]]` and `[[user]]` may be given several times.\n\n\
         This page is generated from the code (`tributary config-reference`) and tested against it.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (this, name) = key.path.split_once('.').unwrap_or(("", key.path));
        if this != section {
            section = this;
            let title = if matches!(this, "node" | "route" | "user") {
                format!("[[{this}]]")
            } else {
                format!("[{this}]")
            };
            let _ = write!(
                page,
                "\n## `{title}`\n\n| key | default | meaning |\n|---|---|---|\n"
            );
        }
        let default = if matches!(key.default, "required" | "none") {
            key.default.into()
        } else {
            format!("`{}`", key.default)
        };
        let _ = writeln!(
            page,
            "| `{name} = {}` | {default} | {} |",
            key.example, key.meaning
        );
    }
    page
}
