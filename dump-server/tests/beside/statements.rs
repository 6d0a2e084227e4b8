//! Statements and commands that clients, shells and monitors send, asked of both.

use tributary_tests::wire::{Explained, explain};

use super::{Pair, because, reasons};
use crate::support::Raw;

/// One statement a line.
const STATEMENTS: &str = include_str!("statements.sql");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the reasons of its differences are not listed yet"]
async fn statements_get_the_answers_of_mysql() {
    let pair = Pair::start(|_| {}).await;
    let statements: Vec<&str> = STATEMENTS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let found = pair
        .differences(async |proxy| {
            let mut raw = Raw::connect(([127, 0, 0, 1], proxy.port()).into()).await;
            for sql in &statements {
                raw.query(sql).await;
            }
        })
        .await;
    explain(&found, &reasons(EXPLAINED)).unwrap();
    println!("{} statements", statements.len());
    pair.running.stop().await;
}

/// Of lists that are the server's own.
pub(super) const LISTS: &[Explained] = &[];

const EXPLAINED: &[Explained] = &[];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the reasons of its differences are not listed yet"]
async fn commands_get_the_answers_of_mysql() {
    let pair = Pair::start(|_| {}).await;
    let found = pair
        .differences(async |proxy| {
            let commands: &[&[u8]] = &[
                b"\x0e",                       // COM_PING
                b"\x02shop",                   // COM_INIT_DB
                b"\x02nosuch",                 // of a database that is not there
                b"\x1b\0\0",                   // COM_SET_OPTION: several statements
                b"\x1b\x01\0",                 // and not
                b"\x1b\x07\0",                 // and nothing known
                b"\x1f",                       // COM_RESET_CONNECTION
                b"\x1c\x09\0\0\0\x01\0\0\0",   // COM_STMT_FETCH of nothing
                b"\x1a\x09\0\0\0",             // COM_STMT_RESET of nothing
                b"\x17\x09\0\0\0\0\x01\0\0\0", // COM_STMT_EXECUTE of nothing
                b"\x0b",                       // COM_CONNECT
                b"\x05create",                 // COM_CREATE_DB
                b"\x21",                       // beyond the last command
                b"\xfe",
                b"\x12\x01", // COM_BINLOG_DUMP, cut off
                b"\x15\x01", // COM_REGISTER_SLAVE, cut off
                b"\x15\xca\0\0\0\0\0\0\xfb3\0\0\0\0\0\0\0\0",
            ];
            let mut raw = Raw::connect(([127, 0, 0, 1], proxy.port()).into()).await;
            for command in commands {
                raw.write(0, command).await;
                raw.packet().await.unwrap();
            }
            raw.write(0, b"\x09").await; // COM_STATISTICS
            assert!(raw.packet().await.unwrap().starts_with(b"Uptime: "));
            raw.write(0, b"\x19\x09\0\0\0").await; // COM_STMT_CLOSE: no answer
            raw.ok("SET @a = 1").await;
        })
        .await;
    explain(&found, &reasons(COMMANDS_EXPLAINED)).unwrap();
    pair.running.stop().await;
}

const COMMANDS_EXPLAINED: &[Explained] = &[];

/// Dumps that are refused, by both with the same text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the reasons of its differences are not listed yet"]
async fn refused_dumps_get_the_texts_of_mysql() {
    let pair = Pair::start(|_| {}).await;
    let uuid: String = pair.reference.row("SELECT @@server_uuid").await.unwrap();
    let found = pair
        .differences(async |proxy| {
            let address = ([127, 0, 0, 1], proxy.port()).into();
            let aware = "SET @source_binlog_checksum = 'CRC32'";
            for (file, position) in [
                ("nosuch.000001", 4),
                ("binlog.000001", 3),
                ("binlog.000001", 99_999_999),
                // Between two events.
                ("binlog.000001", 140),
            ] {
                let mut raw = Raw::connect(address).await;
                raw.ok(aware).await;
                raw.dump(file, position, 1, 77).await;
                while raw.packet().await.is_some() {}
            }
            let mut unaware = Raw::connect(address).await;
            unaware.dump("binlog.000001", 4, 1, 77).await;
            while unaware.packet().await.is_some() {}
            let mut ahead = Raw::connect(address).await;
            ahead.ok(aware).await;
            ahead.dump_gtid(&format!("{uuid}:1-9999"), 1, 77).await;
            while ahead.packet().await.is_some() {}
            let mut same = Raw::connect(address).await;
            same.ok(aware).await;
            same.ok("SET @replica_uuid = '2297a55b-e5ef-11f1-addc-02fc00000001'")
                .await;
            same.dump("binlog.000001", 4, 0, 78).await;
            let mut again = Raw::connect(address).await;
            again.ok(aware).await;
            again
                .ok("SET @replica_uuid = '2297a55b-e5ef-11f1-addc-02fc00000001'")
                .await;
            again.dump("binlog.000001", 4, 1, 79).await;
            while again.packet().await.is_some() {}
            while same.packet().await.is_some() {}
        })
        .await;
    explain(&found, &reasons(REFUSALS_EXPLAINED)).unwrap();
    pair.running.stop().await;
}

const REFUSALS_EXPLAINED: &[Explained] = &[];

#[allow(dead_code, reason = "used as reasons are added")]
const _: fn(&'static str, &'static str, &'static str) -> Explained = because;
