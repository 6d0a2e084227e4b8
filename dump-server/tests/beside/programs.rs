//! mysqlbinlog, mariadb-binlog and mysql_async at both.

use std::process::Command;

use futures_util::StreamExt as _;
use mysql_async::{BinlogStreamRequest, Conn, OptsBuilder};
use tributary_tests::mysqld::REPL_ACCOUNT;
use tributary_tests::wire::{Explained, WireProxy, explain};

use super::{LOGINS, Pair, VERSION, because, reasons};
use crate::programs::programs;
use crate::replica::mariadb;

async fn run(mut command: Command, proxy: &WireProxy) -> String {
    let (user, password) = REPL_ACCOUNT;
    command
        .args(["--host=127.0.0.1"])
        .arg(format!("--port={}", proxy.port()))
        .arg(format!("--user={user}"))
        .arg(format!("--password={password}"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn mysqlbinlog(args: &[&str]) -> Command {
    let mut command = Command::new(programs().join("mysqlbinlog"));
    command
        .args(["--no-defaults", "--get-server-public-key"])
        .args(args);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysqlbinlog_hears_the_same() {
    let pair = Pair::start(|_| {}).await;
    let uuid: String = pair.reference.row("SELECT @@server_uuid").await.unwrap();
    let exclude = format!("--exclude-gtids={uuid}:3-5");
    let dir = tempfile::tempdir().unwrap();
    let found = pair
        .differences(async |proxy| {
            for args in [
                &[
                    "--read-from-remote-server",
                    "--raw",
                    "--to-last-log",
                    "binlog.000001",
                ][..],
                &[
                    "--read-from-remote-server",
                    "-v",
                    "binlog.000002",
                    "binlog.000003",
                ],
                &[
                    "--read-from-remote-source=BINLOG-DUMP-GTIDS",
                    &exclude,
                    "--to-last-log",
                    "binlog.000001",
                ],
                &["--read-from-remote-server", "binlog.000099"],
                &[
                    "--read-from-remote-server",
                    "--start-position=999999",
                    "binlog.000001",
                ],
            ] {
                let mut command = mysqlbinlog(args);
                command.current_dir(dir.path());
                run(command, proxy).await;
            }
        })
        .await;
    explain(&found, &reasons(&[VERSION, &[LOGINS]].concat())).unwrap();
    pair.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_binlog_gets_further_than_at_mysql() {
    let pair = Pair::start(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    let found = pair
        .differences(async |proxy| {
            let mut command = Command::new(mariadb().join("mariadb-binlog"));
            command
                .current_dir(dir.path())
                .args(["--no-defaults", "--read-from-remote-server", "--raw"])
                .args(["--to-last-log", "binlog.000001"]);
            run(command, proxy).await;
        })
        .await;
    explain(&found, &reasons(&[])).unwrap();
    pair.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_async_hears_the_same() {
    let pair = Pair::start(|_| {}).await;
    let found = pair
        .differences(async |proxy| {
            for by_gtid in [false, true] {
                let opts = OptsBuilder::default()
                    .ip_or_hostname("127.0.0.1")
                    .tcp_port(proxy.port())
                    .prefer_socket(false)
                    .user(Some(REPL_ACCOUNT.0))
                    .pass(Some(REPL_ACCOUNT.1));
                let conn = Conn::new(opts).await.unwrap();
                let mut request = BinlogStreamRequest::new(77).with_non_blocking();
                if by_gtid {
                    request = request.with_gtid();
                }
                let mut stream = conn.get_binlog_stream(request).await.unwrap();
                let mut events = 0;
                while let Some(event) = stream.next().await {
                    event.unwrap();
                    events += 1;
                }
                assert!(events > 30, "{events}");
            }
        })
        .await;
    explain(&found, &reasons(MYSQL_ASYNC)).unwrap();
    pair.running.stop().await;
}

const MYSQL_ASYNC: &[Explained] = &[
    LOGINS,
    because(
        "handshake",
        "not asked: LOCAL_FILES",
        "it is not offered: LOAD DATA LOCAL is not served",
    ),
    because(
        "SELECT @@max_allowed_packet",
        "value 0",
        "the greatest command that is taken here",
    ),
];
