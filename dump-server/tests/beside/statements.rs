//! Statements and commands that clients, shells and monitors send, asked of both.

use tributary_tests::wire::{Difference, Explained, explain, settings};

use super::{Pair, because, reasons};
use crate::support::Raw;

/// One statement a line.
const STATEMENTS: &str = include_str!("statements.sql");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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
    explain(
        &found,
        &reasons(&listed(include_str!("statements.tsv"), &found)),
    )
    .unwrap();
    println!("{} statements", statements.len());
    pair.running.stop().await;
}

/// The reasons of a file beside this one: place, difference and reason, and `maybe` for one that some machines have no use for.
pub(super) fn listed(text: &'static str, found: &[Difference]) -> Vec<Explained> {
    let lines = text.lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut all = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let explained = because(fields[0], fields[1], fields[2]);
        let maybe = fields.get(3).is_some();
        if !maybe || found.iter().any(|difference| explained.covers(difference)) {
            all.push(explained);
        }
    }
    all.extend(settings(found));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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
                b"\x15\x01", // COM_REGISTER_SLAVE, cut off
                b"\x15\xca\0\0\0\0\0\0\xfb3\0\0\0\0\0\0\0\0",
            ];
            let address = ([127, 0, 0, 1], proxy.port()).into();
            let mut raw = Raw::connect(address).await;
            for command in commands {
                raw.write(0, command).await;
                if raw.packet().await.is_none() {
                    // Closed without a word.
                    raw = Raw::connect(address).await;
                }
            }
            raw.write(0, b"\x09").await; // COM_STATISTICS
            assert!(raw.packet().await.unwrap().starts_with(b"Uptime: "));
            raw.write(0, b"\x19\x09\0\0\0").await; // COM_STMT_CLOSE: no answer
            raw.ok("SET @a = 1").await;
        })
        .await;
    explain(&found, &reasons(&[])).unwrap();
    pair.running.stop().await;
}

/// Dumps that are refused, by both with the same text. A position between two events is refused by both, too, but the last byte that
/// the reference has read is its own affair.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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
    explain(&found, &reasons(&[])).unwrap();
    pair.running.stop().await;
}
