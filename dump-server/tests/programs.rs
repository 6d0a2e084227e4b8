//! MySQL's own programs: mysqlbinlog, and a replica.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::replica::Replica;
use crate::support::{Growing, PASSWORD, Running, UUID, config, fixture_log, fixtures, tls_config};

/// The directory with MySQL's programs.
pub(crate) fn programs() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let own = std::env::var_os("MYSQL_ROOT").map(PathBuf::from);
    let cached = ["mysql", "mysql-own", "mysql-system"];
    let cached = cache
        .iter()
        .flat_map(|c| cached.iter().map(move |n| c.join("tributary").join(n)));
    own.into_iter()
        .chain(cached)
        .map(|dir| dir.join("bin"))
        .find(|bin| bin.join("mysqlbinlog").exists() && bin.join("mysqld").exists())
        .expect("MySQL's programs are missing: run tools/get-mysql")
}

async fn mysqlbinlog(running: &Running, dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(programs().join("mysqlbinlog"));
    command
        .current_dir(dir)
        .args(["--no-defaults", "--host=127.0.0.1", "--user=repl"])
        .arg(format!("--port={}", running.address.port()))
        .env("MYSQL_PWD", PASSWORD)
        .args(args);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn in_use_cleared(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    tributary_binlog::set_in_use(&mut bytes[4..], false);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysqlbinlog_copies_the_files_byte_for_byte() {
    let running = Running::start(config(), fixture_log()).await;
    let names = ["binlog.000001", "binlog.000002", "binlog.000003"];
    for how in [
        &[
            "--read-from-remote-server",
            "--raw",
            "--to-last-log",
            "binlog.000001",
        ][..],
        &[
            "--read-from-remote-server",
            "--raw",
            "binlog.000001",
            "binlog.000002",
            "binlog.000003",
        ],
        &[
            "--read-from-remote-source=BINLOG-DUMP-GTIDS",
            "--raw",
            "--to-last-log",
            "binlog.000001",
        ],
    ] {
        let dir = tempfile::tempdir().unwrap();
        mysqlbinlog(&running, dir.path(), how).await;
        for name in names {
            let copy = in_use_cleared(&dir.path().join(name));
            assert!(
                copy == in_use_cleared(&fixtures().join(name)),
                "{how:?} {name}"
            );
        }
    }
    // Its text form checks every event.
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "--read-from-remote-server",
        "--verify-binlog-checksum",
        "-v",
        "binlog.000002",
    ];
    let text = mysqlbinlog(&running, dir.path(), &args).await.stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("### DELETE FROM `shop`.`items`"), "{text}");
    assert!(text.contains(&format!("SET @@SESSION.GTID_NEXT= '{UUID}:8'")));
    // Excluded transactions are skipped by the server.
    let exclude = format!("--exclude-gtids={UUID}:5-7");
    let args = [
        "--read-from-remote-source=BINLOG-DUMP-GTIDS",
        &exclude,
        "binlog.000002",
    ];
    let text = mysqlbinlog(&running, dir.path(), &args).await.stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains(&format!("'{UUID}:8'")) && !text.contains(&format!("'{UUID}:6'")),
        "{text}"
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysqlbinlog_follows_a_log_that_grows() {
    let mut growing = Growing::new(30_000);
    growing.commit(20, 300);
    let running = Running::start(config(), growing.log.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(programs().join("mysqlbinlog"))
        .current_dir(dir.path())
        .args([
            "--no-defaults",
            "--host=127.0.0.1",
            "--user=repl",
            "--read-from-remote-server",
            "--raw",
        ])
        .args(["--stop-never", "binlog.000001"])
        .arg(format!("--port={}", running.address.port()))
        .env("MYSQL_PWD", PASSWORD)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..20 {
        growing.commit(5, 400);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let files = growing.files();
    assert!(files.len() > 2);
    let same = || {
        files.iter().all(|(name, bytes)| {
            let copy = std::fs::read(dir.path().join(name)).unwrap_or_default();
            let mut ours = bytes.clone();
            tributary_binlog::set_in_use(&mut ours[4..], false);
            copy == ours
        })
    };
    for _ in 0..500 {
        if same() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let done = same();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(done, "the copy is not the log");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mysql_replica_replicates_by_gtid_and_by_position() {
    let running = Running::start(tls_config(), fixture_log()).await;
    let port = running.address.port();
    let server = running.server.clone();
    tokio::task::spawn_blocking(move || {
        let replica = Replica::mysql(&[]);
        replica.sql("RESET BINARY LOGS AND GTIDS").unwrap();
        replica.replicate(port, "SOURCE_AUTO_POSITION=1, SOURCE_SSL=1");
        replica.until("SELECT @@GLOBAL.gtid_executed", &format!("{UUID}:1-12"));
        let items = replica.sql("SELECT GROUP_CONCAT(id, name, price ORDER BY id) FROM shop.items");
        assert_eq!(items.as_deref(), Ok("1apple2.25,3plum0.75,4fig9.99,5xa1.00"));
        assert_eq!(replica.sql("SELECT SUM(v) FROM shop.plain").as_deref(), Ok("6"));
        let client = server.clients().into_iter().find(|c| c.server_id == 202).expect("it is listed");
        assert_eq!(client.command, "Binlog Dump GTID");
        assert!(client.uuid.is_some() && client.caught_up);
        assert_eq!(client.program.as_deref(), Some("mysqld"));
        // Heartbeats are taken without complaint, at rest and by position.
        std::thread::sleep(Duration::from_millis(700));
        let by_position = "SOURCE_SSL=0, SOURCE_AUTO_POSITION=0, SOURCE_LOG_FILE='binlog.000003', SOURCE_LOG_POS=1417";
        replica.replicate(port, by_position);
        std::thread::sleep(Duration::from_millis(1500));
        let status = replica.status();
        for line in ["Replica_IO_Running: Yes", "Replica_SQL_Running: Yes", "Last_IO_Error: \n", "Last_SQL_Error: \n"] {
            assert!(status.contains(line), "{line}: {status}");
        }
        assert!(status.contains("Read_Source_Log_Pos: 1417\n"), "{status}");
    })
    .await
    .unwrap();
    running.stop().await;
}
