//! Real clients and many statements, once at a MySQL 9.7 and once here, over the same binlog files: what both say is recorded by
//! a proxy, and every difference must have its reason.

mod golden;
mod mirror;
mod programs;
mod replicas;
mod statements;

use std::path::Path;
use std::sync::Arc;

use tributary_dump_server::{Account, Accounts, AuthPlugin, Privileges, ServerConfig};
use tributary_store::{GlobalLog, RealDisk};
use tributary_tests::mysqld::{Mysqld, MysqldOptions, REPL_ACCOUNT};
use tributary_tests::wire::{Difference, Explained, Transcript, WireProxy, differences};

use crate::support::{Running, config};
use mirror::Mirror;

/// Server id of both: clients tell them apart by nothing else.
const SERVER_ID: u32 = 101;

/// What the reference writes into its log before clients come.
const CONTENT: &[&str] = &[
    "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci",
    "CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
    "CREATE TABLE shop.items (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) NOT NULL DEFAULT 'none', \
     price DECIMAL(8,2) UNSIGNED NULL, at DATETIME(3) NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3) \
     COMMENT 'changed', UNIQUE KEY by_name (name), KEY by_price (price DESC, name(5))) COMMENT='what is sold'",
    "CREATE TABLE shop.notes (item INT NOT NULL, n SMALLINT UNSIGNED NOT NULL, text MEDIUMTEXT, kind ENUM('a','b') DEFAULT 'a', \
     PRIMARY KEY (item, n), CONSTRAINT of_item FOREIGN KEY (item) REFERENCES shop.items (id) ON DELETE CASCADE)",
    "INSERT INTO shop.items (name, price) VALUES ('apple', 1.50), ('plum', 0.75), ('fig', NULL)",
    "INSERT INTO shop.notes VALUES (1, 1, 'red', 'a'), (1, 2, 'sour', 'b')",
    "FLUSH BINARY LOGS",
    "UPDATE shop.items SET price = price + 1 WHERE id < 3",
    "DELETE FROM shop.items WHERE id = 2",
    "FLUSH BINARY LOGS",
    "ALTER TABLE shop.items ADD COLUMN stock INT NOT NULL DEFAULT 7",
    "INSERT INTO shop.items (id, name) VALUES (9, 'nut')",
];

/// What a replica has when it has everything.
const EVERYTHING: &str =
    "SELECT CONCAT(COUNT(*), ' ', SUM(id), ' ', SUM(stock), ' ', MAX(name)) FROM shop.items";
const EVERYTHING_IS: &str = "3 13 21 nut";

/// A MySQL, and this server over a copy of its binlog files.
struct Pair {
    reference: Mysqld,
    running: Running,
    /// Where both have their files.
    _dir: tempfile::TempDir,
}

async fn reference(dir: &Path) -> Mysqld {
    let mut options = MysqldOptions::node("reference", SERVER_ID);
    for arg in [
        "--collation-server=utf8mb4_general_ci",
        "--plugin-load-add=semisync_source.so",
        "--skip-name-resolve",
    ] {
        options = options.arg(arg);
    }
    let reference = Mysqld::start(options, dir).await.unwrap();
    let account = |name: &str, password: &str| {
        format!("CREATE USER {name} IDENTIFIED WITH caching_sha2_password BY '{password}'")
    };
    let accounts = [
        "SET sql_log_bin = 0".to_owned(),
        account("raw", ""),
        "GRANT ALL ON *.* TO raw".to_owned(),
        account("nobody", REPL_ACCOUNT.1),
    ];
    reference.sql(&accounts.join("; ")).await.unwrap();
    reference.sql(&CONTENT.join("; ")).await.unwrap();
    reference
}

/// The reference's binlog files as they are now.
fn copied(reference: &Mysqld, to: &Path) -> GlobalLog {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(reference.datadir()).unwrap() {
        let name = entry.unwrap().file_name();
        if name.to_string_lossy().starts_with("binlog.") {
            std::fs::copy(reference.datadir().join(&name), to.join(&name)).unwrap();
        }
    }
    let disk = RealDisk::open(to).unwrap();
    GlobalLog::from_dir(Arc::new(disk), "binlog.index").unwrap()
}

impl Pair {
    /// Both servers; `adjust` changes the settings of this one.
    async fn start(adjust: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let reference = reference(dir.path()).await;
        let log = copied(&reference, &dir.path().join("copy"));
        let sha2 = AuthPlugin::CachingSha2Password;
        let repl = Privileges {
            replication_slave: true,
            replication_client: true,
            admin: false,
        };
        let mut config = ServerConfig {
            server_id: SERVER_ID,
            accounts: Accounts::new([
                Account::new("raw", "", sha2, Privileges::ALL),
                // The reference does not have it in its cache, either.
                Account::new(REPL_ACCOUNT.0, REPL_ACCOUNT.1, sha2, repl)
                    .with_full_authentication(true),
                Account::new("nobody", REPL_ACCOUNT.1, sha2, Privileges::default()),
            ]),
            catalog: Arc::new(Mirror::of(&reference, &["shop"]).await),
            max_binlog_size: 1 << 30,
            expire_after: std::time::Duration::from_secs(2_592_000),
            ..config()
        };
        adjust(&mut config);
        let running = Running::start(config, log).await;
        Self {
            reference,
            running,
            _dir: dir,
        }
    }

    /// What a client says and hears at the reference, then here.
    async fn recorded(&self, client: impl AsyncFn(&WireProxy)) -> (Transcript, Transcript) {
        let mut both = Vec::new();
        for upstream in [self.reference.port(), self.running.address.port()] {
            // What a full authentication left in the reference's cache is not for the next client.
            self.reference.sql("FLUSH LOCAL PRIVILEGES").await.unwrap();
            let proxy = WireProxy::start(upstream).await.unwrap();
            client(&proxy).await;
            both.push(proxy.transcript());
        }
        let ours = both.pop().unwrap();
        (both.pop().unwrap(), ours)
    }

    /// The differences of a client at both.
    async fn differences(&self, client: impl AsyncFn(&WireProxy)) -> Vec<Difference> {
        let (reference, ours) = self.recorded(client).await;
        if let Some(dir) = std::env::var_os("TRIBUTARY_TRANSCRIPTS") {
            let name = std::thread::current()
                .name()
                .unwrap_or("client")
                .replace("::", "-");
            let path = |which: &str| Path::new(&dir).join(format!("{name}-{which}.txt"));
            std::fs::write(path("reference"), reference.to_string()).unwrap();
            std::fs::write(path("ours"), ours.to_string()).unwrap();
            let lines = differences(&reference, &ours)
                .iter()
                .fold(String::new(), |all, found| format!("{all}{found}\n"));
            std::fs::write(path("differences"), lines).unwrap();
        }
        differences(&reference, &ours)
    }
}

/// What every client meets in the greeting.
const GREETING: &[Explained] = &[
    Explained {
        place: "handshake",
        what: "not offered: NO_SCHEMA",
        reason: "nothing here depends on it",
    },
    Explained {
        place: "handshake",
        what: "not offered: ODBC",
        reason: "nothing here depends on it",
    },
    Explained {
        place: "handshake",
        what: "not offered: LOCAL_FILES",
        reason: "LOAD DATA LOCAL is not served",
    },
    Explained {
        place: "handshake",
        what: "not offered: IGNORE_SIGPIPE",
        reason: "a matter of the client alone",
    },
    Explained {
        place: "handshake",
        what: "not offered: RESERVED",
        reason: "a bit of old that says nothing",
    },
    Explained {
        place: "handshake",
        what: "not offered: SSL",
        reason: "this test's server has no certificate, and the proxy hides the reference's",
    },
    Explained {
        place: "handshake",
        what: "not offered: CAN_HANDLE_EXPIRED_PASSWORDS",
        reason: "passwords here do not expire",
    },
    Explained {
        place: "handshake",
        what: "not offered: SESSION_TRACK",
        reason: "not spoken: no client of the binlog reads it",
    },
    Explained {
        place: "handshake",
        what: "not offered: OPTIONAL_RESULTSET_METADATA",
        reason: "not spoken: columns are always defined",
    },
    Explained {
        place: "handshake",
        what: "not offered: MULTI_FACTOR_AUTHENTICATION",
        reason: "an account has one password",
    },
    Explained {
        place: "handshake",
        what: "not offered: SSL_VERIFY_SERVER_CERT",
        reason: "a matter of the client alone",
    },
    Explained {
        place: "handshake",
        what: "not offered: REMEMBER_OPTIONS",
        reason: "a matter of the client alone",
    },
    Explained {
        place: "handshake",
        what: "version",
        reason: "the announced version serves all clients, see docs/clients.md",
    },
    Explained {
        place: "handshake",
        what: "collation",
        reason: "the reference runs with another default collation in this test",
    },
];

/// What a full authentication leaves behind.
const LOGINS: Explained = because(
    "handshake",
    "logins",
    "the reference knows the password after the first login; this account is set to be asked each time",
);

/// What only the announced version changes.
const VERSION: &[Explained] = &[
    because(
        "SELECT VERSION()",
        "column VERSION()",
        "as long as the announced version",
    ),
    because(
        "SELECT VERSION()",
        "value 0",
        "the announced version serves all clients, see docs/clients.md",
    ),
];

/// The reasons of a client, on top of those of the greeting.
fn reasons(own: &[Explained]) -> Vec<Explained> {
    [GREETING, own].concat()
}

const fn because(place: &'static str, what: &'static str, reason: &'static str) -> Explained {
    Explained {
        place,
        what,
        reason,
    }
}
