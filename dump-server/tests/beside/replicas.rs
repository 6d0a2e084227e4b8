//! Replicas of MySQL 9.7 and MariaDB at both: start, heartbeats, a broken connection, another start.

use std::time::Duration;

use tributary_binlog::EventType;
use tributary_tests::mysqld::REPL_ACCOUNT;
use tributary_tests::wire::{Explained, WireProxy, explain};

use super::{EVERYTHING, EVERYTHING_IS, LOGINS, Pair, because, reasons};
use crate::replica::{Replica, mariadb};

/// Waits for this many heartbeats of the last connection.
async fn heartbeats(proxy: &WireProxy, count: usize) {
    for _ in 0..600 {
        let said = proxy.transcript();
        let seen = said.streams().last().map_or(0, |(_, stream)| {
            let kinds = [EventType::HEARTBEAT, EventType::HEARTBEAT_V2];
            stream
                .events
                .iter()
                .filter(|e| kinds.contains(&e.event_type))
                .count()
        });
        if seen >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no heartbeats: {}", proxy.transcript());
}

async fn blocking<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    tokio::task::spawn_blocking(f).await.unwrap()
}

/// A replica that starts, rests, loses its connection and comes back.
async fn replicate(
    proxy: &WireProxy,
    start: impl FnOnce() -> Replica + Send + 'static,
    how: String,
) {
    let (port, connections) = (proxy.port(), |p: &WireProxy| {
        p.transcript().streams().count()
    });
    let replica = blocking(move || {
        let replica = start();
        replica.replicate_as(port, REPL_ACCOUNT, &how);
        replica.until(EVERYTHING, EVERYTHING_IS);
        replica
    })
    .await;
    heartbeats(proxy, 2).await;
    let before = connections(proxy);
    proxy.cut();
    for _ in 0..600 {
        if connections(proxy) > before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    heartbeats(proxy, 2).await;
    blocking(move || {
        replica.runs();
        drop(replica);
    })
    .await;
}

fn mysql() -> Replica {
    let replica = Replica::mysql(&[]);
    replica.sql("RESET BINARY LOGS AND GTIDS").unwrap();
    replica
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mysql_replica_by_gtid_hears_the_same() {
    let pair = Pair::start(|_| {}).await;
    let how = "SOURCE_AUTO_POSITION=1, SOURCE_SSL=0, GET_SOURCE_PUBLIC_KEY=1";
    let found = pair
        .differences(async |proxy| replicate(proxy, mysql, how.to_owned()).await)
        .await;
    explain(&found, &reasons(MYSQL_REPLICA)).unwrap();
    pair.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mysql_replica_by_position_hears_the_same() {
    let pair = Pair::start(|_| {}).await;
    let how = "SOURCE_AUTO_POSITION=0, SOURCE_LOG_FILE='binlog.000001', SOURCE_LOG_POS=4, SOURCE_SSL=0, \
               GET_SOURCE_PUBLIC_KEY=1";
    let found = pair
        .differences(async |proxy| replicate(proxy, mysql, how.to_owned()).await)
        .await;
    explain(&found, &reasons(MYSQL_REPLICA)).unwrap();
    pair.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_semi_sync_mysql_replica_hears_the_same() {
    let pair = Pair::start(|config| config.semi_sync = true).await;
    let on = "SET GLOBAL rpl_semi_sync_source_enabled = ON";
    pair.reference.sql(on).await.unwrap();
    let start = || {
        let options = [
            "--plugin-load-add=semisync_replica.so",
            "--rpl-semi-sync-replica-enabled=ON",
        ];
        let replica = Replica::mysql(&options);
        replica.sql("RESET BINARY LOGS AND GTIDS").unwrap();
        replica
    };
    let how = "SOURCE_AUTO_POSITION=1, SOURCE_SSL=0, GET_SOURCE_PUBLIC_KEY=1";
    let found = pair
        .differences(async |proxy| replicate(proxy, start, how.to_owned()).await)
        .await;
    explain(&found, &reasons(MYSQL_REPLICA)).unwrap();
    pair.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mariadb_replica_hears_the_same() {
    let pair = Pair::start(|config| {
        // The reference has the account in its cache, for MariaDB's replica would say the password in clear.
        let account = tributary_dump_server::Account::new(
            REPL_ACCOUNT.0,
            REPL_ACCOUNT.1,
            tributary_dump_server::AuthPlugin::CachingSha2Password,
            tributary_dump_server::Privileges::ALL,
        );
        config.accounts = tributary_dump_server::Accounts::new([account]);
    })
    .await;
    let reference = &pair.reference;
    let start = || {
        // MySQL 9.7 has no mysql_native_password, and MariaDB's server finds the other plugin only where it looks.
        let plugins = mariadb().join("../root/usr/lib/x86_64-linux-gnu/libmariadb3/plugin");
        let option = format!("--plugin-dir={}", plugins.display());
        Replica::maria(&[&option])
    };
    let how = "MASTER_LOG_FILE='binlog.000001', MASTER_LOG_POS=4, MASTER_HEARTBEAT_PERIOD=0.2";
    let found = pair
        .differences(async |proxy| {
            drop(reference.conn(REPL_ACCOUNT).await.unwrap());
            replicate(proxy, start, how.to_owned()).await;
        })
        .await;
    explain(&found, &reasons(MARIADB_REPLICA)).unwrap();
    pair.running.stop().await;
}

const CLOCK: Explained = because(
    "SELECT UNIX_TIMESTAMP()",
    "value 0",
    "the replica started there first",
);

const MYSQL_REPLICA: &[Explained] = &[
    LOGINS,
    CLOCK,
    because(
        "SET NAMES utf8mb4",
        "OK status 0x4002",
        "changes of the session's state are not tracked: the capability is not offered",
    ),
];

const MARIADB_REPLICA: &[Explained] = &[
    CLOCK,
    because(
        "COM_REGISTER_SLAVE",
        "OK status 0x2 warnings 2",
        "the reference counts warnings that nobody can read: SHOW WARNINGS is empty",
    ),
];
