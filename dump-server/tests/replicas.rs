//! Replicas of MySQL 9.7 and MariaDB that follow a growing log over restarts, in the ways they can be told to.

use std::process::Command;
use std::time::Duration;

use tributary_dump_server::ServerConfig;

use crate::replica::{Replica, mariadb};
use crate::support::{Growing, PASSWORD, Running, UUID, config, eventually, tls_config};

const SUM: &str = "SELECT COUNT(*), SUM(id), MAX(v) FROM shop.orders";

/// A log with one table, and some rows in it.
fn shop(max_binlog_size: u64) -> Growing {
    let mut growing = Growing::new(max_binlog_size);
    growing.ddl("CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci");
    growing.ddl("CREATE TABLE shop.orders (id INT PRIMARY KEY, v VARCHAR(100))");
    fill(&mut growing, 1..=40);
    growing
}

fn fill(growing: &mut Growing, ids: std::ops::RangeInclusive<u32>) {
    for id in ids {
        growing.insert(id, &format!("row {id:04}"));
    }
}

fn sum(last: u32) -> String {
    format!("{last}\t{}\trow {last:04}", last * (last + 1) / 2)
}

async fn blocking<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    tokio::task::spawn_blocking(f).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_semi_sync_mysql_replica_acknowledges_what_is_durable() {
    let mut growing = shop(8_000);
    let semi_sync = ServerConfig {
        semi_sync: true,
        ..config()
    };
    let running = Running::start(semi_sync.clone(), growing.log.clone()).await;
    let address = running.address;
    let options = [
        "--plugin-load-add=semisync_replica.so",
        "--rpl-semi-sync-replica-enabled=ON",
        "--replica-parallel-workers=4",
    ];
    let replica = blocking(move || {
        let replica = Replica::mysql(&options);
        replica.sql("RESET BINARY LOGS AND GTIDS").unwrap();
        // caching_sha2 without TLS, compressed.
        let how = "SOURCE_AUTO_POSITION=1, SOURCE_SSL=0, GET_SOURCE_PUBLIC_KEY=1, \
                   SOURCE_COMPRESSION_ALGORITHMS='zstd', SOURCE_ZSTD_COMPRESSION_LEVEL=7";
        replica.replicate(address.port(), how);
        replica.until(SUM, &sum(40));
        replica.until(
            "SHOW STATUS LIKE 'Rpl_semi_sync_replica_status'",
            "Rpl_semi_sync_replica_status\tON",
        );
        replica
    })
    .await;
    let acknowledged = |running: &Running, growing: &Growing| {
        let end = growing.log.durable();
        let clients = running.server.clients();
        clients.iter().any(|c| {
            c.semi_sync
                && c.acknowledged_file.as_deref() == Some(end.file.as_str())
                && c.acknowledged_position == end.offset
        })
    };
    eventually("the end is acknowledged", || {
        acknowledged(&running, &growing)
    })
    .await;
    let acks = running.server.counters().acknowledgements;
    fill(&mut growing, 41..=60);
    eventually("the new end is acknowledged", || {
        acknowledged(&running, &growing)
    })
    .await;
    assert!(running.server.counters().acknowledgements > acks);
    // The service goes and comes back; the log has grown meanwhile.
    running.stop().await;
    fill(&mut growing, 61..=80);
    let running = Running::start_at(address, semi_sync, growing.log.clone()).await;
    let replica = blocking(move || {
        replica.until(SUM, &sum(80));
        let how = "SOURCE_COMPRESSION_ALGORITHMS='uncompressed'";
        replica.replicate(address.port(), how);
        replica.until(
            "SHOW STATUS LIKE 'Rpl_semi_sync_replica_status'",
            "Rpl_semi_sync_replica_status\tON",
        );
        replica.runs();
        replica
    })
    .await;
    fill(&mut growing, 81..=85);
    eventually("acknowledged again", || acknowledged(&running, &growing)).await;
    running.stop().await;
    // A source that does not speak it any more: the replica goes on without.
    fill(&mut growing, 86..=90);
    let running = Running::start_at(address, config(), growing.log.clone()).await;
    blocking(move || {
        replica.until(SUM, &sum(90));
        replica.runs();
        let executed = replica.sql("SELECT @@GLOBAL.gtid_executed");
        assert_eq!(executed, Ok(format!("{UUID}:1-92")));
    })
    .await;
    assert!(!running.server.clients().iter().any(|c| c.semi_sync));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mariadb_replica_follows_and_does_not_drift() {
    let mut growing = shop(8_000);
    let running = Running::start(tls_config(), growing.log.clone()).await;
    let address = running.address;
    let replica = blocking(move || {
        let replica = Replica::maria(&["--log-slave-updates", "--rpl-semi-sync-slave-enabled=OFF"]);
        let how = "MASTER_LOG_FILE='binlog.000001', MASTER_LOG_POS=4, MASTER_HEARTBEAT_PERIOD=0.02";
        replica.replicate(address.port(), how);
        replica.until(SUM, &sum(40));
        replica
    })
    .await;
    fill(&mut growing, 41..=60);
    let end = growing.log.durable();
    let replica = blocking(move || {
        replica.until(SUM, &sum(60));
        let heartbeats = || -> u64 {
            let row = replica
                .sql("SHOW STATUS LIKE 'Slave_received_heartbeats'")
                .unwrap();
            row.split('\t').nth(1).unwrap().parse().unwrap()
        };
        let start = heartbeats();
        while heartbeats() < start + 100 {
            std::thread::sleep(Duration::from_millis(100));
        }
        replica.runs();
        assert_eq!(replica.field(["Master_Log_File"; 2]), end.file.as_str());
        assert_eq!(
            replica.field(["Read_Master_Log_Pos"; 2]),
            end.offset.to_string()
        );
        replica
    })
    .await;
    // A new start, over a gap, with semi-synchronous replication, which MariaDB calls by its old names.
    running.stop().await;
    fill(&mut growing, 61..=70);
    let semi_sync = ServerConfig {
        semi_sync: true,
        ..config()
    };
    let running = Running::start_at(address, semi_sync, growing.log.clone()).await;
    let replica = blocking(move || {
        replica.until(SUM, &sum(70));
        replica
            .sql("STOP SLAVE; SET GLOBAL rpl_semi_sync_slave_enabled = ON; START SLAVE")
            .unwrap();
        replica.until(
            "SHOW STATUS LIKE 'Rpl_semi_sync_slave_status'",
            "Rpl_semi_sync_slave_status\tON",
        );
        replica
    })
    .await;
    fill(&mut growing, 71..=75);
    let end = growing.log.durable();
    let server = running.server.clone();
    eventually("acknowledged", || {
        server
            .clients()
            .iter()
            .any(|c| c.acknowledged_position == end.offset)
    })
    .await;
    blocking(move || {
        replica.until(SUM, &sum(75));
        replica.runs();
        assert!(
            !replica.log().contains("[ERROR] Slave SQL"),
            "{}",
            replica.log()
        );
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_binlog_copies_the_files_byte_for_byte() {
    let growing = shop(4_000);
    let running = Running::start(config(), growing.log.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(mariadb().join("mariadb-binlog"));
    command
        .current_dir(dir.path())
        .args(["--no-defaults", "--host=127.0.0.1", "--user=maria", "--raw"])
        .args([
            "--read-from-remote-server",
            "--to-last-log",
            "binlog.000001",
        ])
        .arg(format!("--port={}", running.address.port()))
        .arg(format!("--password={PASSWORD}"));
    let output = blocking(move || command.output().unwrap()).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for (name, mut bytes) in growing.files() {
        tributary_binlog::set_in_use(&mut bytes[4..], false);
        assert!(
            std::fs::read(dir.path().join(&name)).unwrap() == bytes,
            "{name}"
        );
    }
    running.stop().await;
}
