//! Clients that cannot run in a test: what they say, in order, as their sources have it; asked of both.

use tributary_tests::wire::{WireProxy, explain};

use super::statements::listed;
use super::{Pair, reasons};
use crate::support::Raw;

const CONVERSATIONS: [(&str, &str); 7] = [
    ("Flink CDC", include_str!("golden/flink_cdc.txt")),
    ("Canal", include_str!("golden/canal.txt")),
    ("Maxwell", include_str!("golden/maxwell.txt")),
    (
        "a replica before 8.0.26",
        include_str!("golden/old_replica.txt"),
    ),
    ("go-mysql and TiDB DM", include_str!("golden/go_mysql.txt")),
    ("DTS", include_str!("golden/dts.txt")),
    ("ClickHouse", include_str!("golden/clickhouse.txt")),
];

/// One line: a statement, or a command of replication.
async fn say(raw: &mut Raw, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |i: usize| words[i].parse().unwrap();
    match words[0] {
        "@register" => {
            raw.write(0, b"\x15\xca\0\0\0\0\0\0\xfb3\0\0\0\0\0\0\0\0")
                .await;
            assert_eq!(raw.packet().await.unwrap()[0], 0);
        }
        "@dump" => {
            let (position, flags, id): (u32, u32, u32) = (number(2), number(3), number(4));
            raw.dump(words[1], position, flags as u16, id).await;
            while raw.packet().await.is_some() {}
        }
        "@dump_gtid" => {
            let (flags, id): (u32, u32) = (number(1), number(2));
            raw.dump_gtid("", flags as u16, id).await;
            while raw.packet().await.is_some() {}
        }
        _ => {
            raw.query(line).await;
        }
    }
}

async fn converse(proxy: &WireProxy, lines: &str) {
    let address = ([127, 0, 0, 1], proxy.port()).into();
    let mut raw = Raw::connect(address).await;
    for line in lines.lines().filter(|l| !l.starts_with('#')) {
        say(&mut raw, line).await;
        if line.starts_with("@dump") {
            // A dump ends its connection; what the session said before it holds for the next.
            raw = Raw::connect(address).await;
            for set in lines
                .lines()
                .filter(|l| l.to_lowercase().starts_with("set @"))
            {
                raw.ok(set).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_cannot_run_here_hear_the_same() {
    let pair = Pair::start(|_| {}).await;
    let mut found = Vec::new();
    for (client, lines) in CONVERSATIONS {
        let here = pair
            .differences(async |proxy| converse(proxy, lines).await)
            .await;
        println!("{client}: {} differences", here.len());
        found.extend(here);
    }
    explain(
        &found,
        &reasons(&listed(include_str!("golden.tsv"), &found)),
    )
    .unwrap();
    pair.running.stop().await;
}
