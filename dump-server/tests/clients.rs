//! mysql_async as a client: both plugins, statements, the binlog stream.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use mysql_async::prelude::Queryable as _;
use mysql_async::{BinlogStreamRequest, Conn, Error, GnoInterval, Row, Sid};
use tributary_dump_server::{Account, Accounts, AuthPlugin, Privileges};

use crate::support::{PASSWORD, Running, UUID};

fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Server(e) => Some(e.code),
        _ => None,
    }
}

#[tokio::test]
async fn both_plugins_authenticate_and_wrong_passwords_do_not() {
    let running = Running::fixtures().await;
    for user in ["repl", "maria"] {
        let mut conn = Conn::new(running.opts(user, PASSWORD)).await.unwrap();
        let row: (String, String) = conn
            .query_first("SELECT CURRENT_USER(), VERSION()")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row, (format!("{user}@%"), "8.4.9-tributary".to_owned()));
        conn.disconnect().await.unwrap();
    }
    for (user, password) in [("repl", "wrong"), ("maria", "wrong"), ("unknown", PASSWORD)] {
        let error = Conn::new(running.opts(user, password)).await.unwrap_err();
        assert_eq!(code(&error), Some(1045), "{user}: {error}");
        assert!(error.to_string().contains(&format!(
            "Access denied for user '{user}'@'127.0.0.1' (using password: YES)"
        )));
    }
    assert_eq!(running.server.counters().errors.get(&1045), Some(&3));
    running.stop().await;
}

#[tokio::test]
async fn accounts_change_at_run_time() {
    let running = Running::fixtures().await;
    let mut open = Conn::new(running.opts("repl", PASSWORD)).await.unwrap();
    let account = Account::new("other", "pw", AuthPlugin::default(), Privileges::default());
    running.server.set_accounts(Accounts::new([account]));
    assert!(Conn::new(running.opts("repl", PASSWORD)).await.is_err());
    let conn = Conn::new(running.opts("other", "pw")).await.unwrap();
    conn.disconnect().await.unwrap();
    open.ping().await.expect("open sessions stay");
    running.stop().await;
}

#[tokio::test]
async fn statements_answer() {
    let running = Running::fixtures().await;
    let mut conn = Conn::new(running.opts("repl", PASSWORD)).await.unwrap();
    let logs: Vec<(String, u64, String)> = conn.query("SHOW BINARY LOGS").await.unwrap();
    let sizes: Vec<u64> = logs.iter().map(|l| l.1).collect();
    assert_eq!(sizes, [1411, 1816, 1417]);
    let status: Row = conn
        .query_first("SHOW BINARY LOG STATUS")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.get::<String, _>(4).unwrap(), format!("{UUID}:1-12"));
    let variables: Vec<(String, String)> = conn.query("SHOW GLOBAL VARIABLES").await.unwrap();
    let variables: HashMap<_, _> = variables.into_iter().collect();
    assert_eq!(variables["server_uuid"], UUID);
    assert_eq!(variables["port"], running.address.port().to_string());
    conn.query_drop("SET @a = 'x'").await.unwrap();
    assert_eq!(
        conn.query_first::<String, _>("SELECT @a")
            .await
            .unwrap()
            .as_deref(),
        Some("x")
    );
    conn.reset().await.unwrap();
    assert_eq!(
        conn.query_first::<Option<String>, _>("SELECT @a")
            .await
            .unwrap(),
        Some(None)
    );
    let error = conn
        .query_drop("SELECT @@global.rpl_semi_sync_source_enabled")
        .await
        .unwrap_err();
    assert_eq!(code(&error), Some(1193));
    let several: Vec<u32> = conn.query("SELECT 1; SELECT 2").await.unwrap();
    assert_eq!(several, [1]);
    conn.ping().await.unwrap();
    let processes: Vec<Row> = conn.query("SHOW PROCESSLIST").await.unwrap();
    assert_eq!(processes.len(), 1);
    conn.disconnect().await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn binlog_events_are_listed_as_mysql_lists_them() {
    let running = Running::fixtures().await;
    let mut conn = Conn::new(running.opts("repl", PASSWORD)).await.unwrap();
    let sql = "SHOW BINLOG EVENTS IN 'binlog.000002'";
    let events: Vec<(String, u64, String, u32, u64, String)> = conn.query(sql).await.unwrap();
    // What the MySQL 9.7.4 that wrote the file says of it.
    let listed = include_str!("fixtures/binlog_events_000002.txt");
    let ours: Vec<String> = events
        .iter()
        .map(|e| format!("{}\t{}\t{}\t{}\t{}\t{}", e.0, e.1, e.2, e.3, e.4, e.5))
        .collect();
    assert_eq!(ours, listed.lines().collect::<Vec<_>>());
    let some: Vec<(String, u64)> = conn
        .query_map(format!("{sql} FROM 198 LIMIT 2, 3"), |row: Row| {
            (
                row.get::<String, _>(2).unwrap(),
                row.get::<u64, _>(1).unwrap(),
            )
        })
        .await
        .unwrap();
    let expected = [("Rows_query", 348), ("Table_map", 432), ("Write_rows", 496)];
    assert_eq!(some, expected.map(|(t, p)| (t.to_owned(), p)));
    let error = conn
        .query_drop("SHOW BINLOG EVENTS IN 'nosuch.1'")
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("Error when executing command SHOW BINLOG EVENTS: Could not find target log"),
        "{error}"
    );
    conn.ping().await.unwrap();
    conn.disconnect().await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn the_binlog_streams_by_file_and_by_gtid() {
    let running = Running::fixtures().await;
    let count = async |request: BinlogStreamRequest<'_>| {
        let conn = Conn::new(running.opts("repl", PASSWORD)).await.unwrap();
        let mut stream = conn.get_binlog_stream(request).await.unwrap();
        let mut types = Vec::new();
        while let Some(event) = stream.next().await {
            types.push(event.unwrap().header().event_type_raw());
        }
        types
    };
    let all = count(
        BinlogStreamRequest::new(77)
            .with_non_blocking()
            .with_filename(b"binlog.000001"),
    )
    .await;
    assert_eq!(
        all.iter().filter(|t| **t == 33).count(),
        12,
        "every transaction"
    );
    assert_eq!(all.iter().filter(|t| **t == 15).count(), 3, "every file");
    let uuid: [u8; 16] = UUID.parse::<tributary_binlog::Sid>().unwrap().0;
    let have = Sid::new(uuid).with_interval(GnoInterval::new(1, 11));
    let request = BinlogStreamRequest::new(77)
        .with_non_blocking()
        .with_gtid()
        .with_gtid_set([have]);
    let rest = count(request).await;
    assert_eq!(rest.iter().filter(|t| **t == 33).count(), 2);
    let counters = running.server.counters();
    assert_eq!(counters.dumps, 2);
    assert!(
        counters.events_sent > 70 && counters.bytes_sent > 5000,
        "{counters:?}"
    );
    running.stop().await;
}
