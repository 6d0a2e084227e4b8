//! The protocol itself: compression, prepared statements, large packets, timeouts, who may connect.

use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use mysql_async::prelude::Queryable as _;
use mysql_async::{
    BinlogStreamRequest, ChangeUserOpts, Compression, Conn, Error, OptsBuilder, Row, SslOpts,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tributary_dump_server::{Account, Accounts, AuthPlugin, Privileges, ServerConfig};

use crate::programs::programs;
use crate::support::{
    Answer, Growing, PASSWORD, Raw, Running, UUID, config, eventually, fixture_log, tls_config,
};

fn compressed(running: &Running) -> OptsBuilder {
    OptsBuilder::from_opts(running.opts("repl", PASSWORD)).compression(Some(Compression::best()))
}

/// Runs one statement in MySQL's own shell.
async fn mysql(running: &Running, args: &[&str], sql: &str) -> Result<String, String> {
    let mut command = Command::new(programs().join("mysql"));
    command
        .args(["--no-defaults", "-N", "-B", "--host=127.0.0.1"])
        .arg(format!("--port={}", running.address.port()))
        .args(args)
        .args(["-e", sql])
        .env("MYSQL_PWD", PASSWORD);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[tokio::test]
async fn mysql_async_prepares_executes_and_changes_its_user() {
    let running = Running::fixtures().await;
    let mut conn = Conn::new(running.opts("repl", PASSWORD)).await.unwrap();
    let row: (String, i64, Option<String>, f64) = conn
        .exec_first("SELECT ?, ?, ?, ?", ("ö'x", -7, None::<String>, 2.5))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row, ("ö'x".to_owned(), -7, None, 2.5));
    let left: Option<String> = conn
        .exec_first(
            "SELECT GTID_SUBTRACT(?, ?)",
            (format!("{UUID}:1-9"), format!("{UUID}:3")),
        )
        .await
        .unwrap();
    assert_eq!(left, Some(format!("{UUID}:1-2:4-9")));
    let text: Vec<Row> = conn
        .query("SHOW BINLOG EVENTS IN 'binlog.000002'")
        .await
        .unwrap();
    let binary: Vec<Row> = conn
        .exec("SHOW BINLOG EVENTS IN 'binlog.000002'", ())
        .await
        .unwrap();
    let cells = |rows: Vec<Row>| -> Vec<(String, u64, String, u32, u64, String)> {
        rows.into_iter().map(mysql_async::from_row).collect()
    };
    assert!(text.len() > 20);
    assert_eq!(cells(binary), cells(text));
    let now: Option<mysql_async::Value> = conn.exec_first("SELECT NOW(6)", ()).await.unwrap();
    assert!(
        matches!(now, Some(mysql_async::Value::Date(2026.., ..))),
        "{now:?}"
    );
    conn.query_drop("SET @a = 1").await.unwrap();
    let to_maria = ChangeUserOpts::new()
        .with_user(Some("maria".to_owned()))
        .with_pass(Some(PASSWORD.to_owned()))
        .with_db_name(Some("shop".to_owned()));
    conn.change_user(to_maria).await.unwrap();
    let who: Option<(String, Option<String>, Option<String>)> = conn
        .query_first("SELECT CURRENT_USER(), DATABASE(), @a")
        .await
        .unwrap();
    assert_eq!(who, Some(("maria@%".into(), Some("shop".into()), None)));
    let clients = running.server.clients();
    assert_eq!(
        clients.iter().map(|c| c.user.as_str()).collect::<Vec<_>>(),
        ["maria"]
    );
    conn.disconnect().await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn zlib_carries_statements_and_streams() {
    let mut growing = Growing::new(1 << 20);
    growing.commit(500, 2000);
    // Larger than one packet, one compressed packet, and a read block.
    growing.commit(1, (16 << 20) + 77);
    let running = Running::start(config(), growing.log.clone()).await;
    let before = running.server.counters().bytes_sent;
    let mut conn = Conn::new(compressed(&running)).await.unwrap();
    let rows: Vec<(String, String)> = conn.query("SHOW VARIABLES").await.unwrap();
    assert!(rows.len() > 100);
    let big = "x".repeat(100_000);
    let length: Option<usize> = conn
        .query_first(format!("SELECT LENGTH('{big}')"))
        .await
        .unwrap();
    assert_eq!(length, Some(100_000));
    let request = BinlogStreamRequest::new(9).with_non_blocking();
    let mut stream = conn.get_binlog_stream(request).await.unwrap();
    let (mut xids, mut bytes) = (0, 0u64);
    while let Some(event) = stream.next().await {
        let event = event.unwrap();
        bytes += u64::from(event.header().event_size());
        xids += usize::from(event.header().event_type_raw() == 16);
    }
    assert_eq!(xids, 501);
    let sent = running.server.counters().bytes_sent - before;
    assert!(sent * 4 < bytes, "{sent} bytes sent of {bytes}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysqls_programs_compress_and_get_the_key() {
    let running = Running::start(config(), fixture_log()).await;
    for algorithm in ["zlib", "zstd", "uncompressed"] {
        let option = format!("--compression-algorithms={algorithm}");
        let args = ["--user=repl", &option];
        let sql = "SHOW VARIABLES; SELECT REPEAT_ME FROM nothing";
        let several = mysql(&running, &args, sql).await.unwrap_err();
        assert!(several.contains("1046"), "{algorithm}: {several}");
        let got = mysql(&running, &args, "SHOW GLOBAL VARIABLES; SELECT 'the end'").await;
        let got = got.unwrap();
        assert!(
            got.contains("\nserver_id\t4294\n") && got.ends_with("the end"),
            "{algorithm}"
        );
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(programs().join("mysqlbinlog"));
        command
            .current_dir(dir.path())
            .args([
                "--no-defaults",
                "--host=127.0.0.1",
                "--user=repl",
                "--raw",
                &option,
            ])
            .args([
                "--read-from-remote-server",
                "--to-last-log",
                "binlog.000001",
            ])
            .arg(format!("--port={}", running.address.port()))
            .env("MYSQL_PWD", PASSWORD);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let copy = std::fs::read(dir.path().join("binlog.000002")).unwrap();
        assert_eq!(copy.len(), 1816, "{algorithm}");
    }
    // The key is made for a client whose password does not fit the fast path: here a wrong one.
    let args = [
        "--user=repl",
        "--get-server-public-key",
        "--ssl-mode=DISABLED",
    ];
    assert_eq!(mysql(&running, &args, "SELECT 1").await.as_deref(), Ok("1"));
    let mut wrong = Command::new(programs().join("mysql"));
    wrong
        .args(["--no-defaults", "--host=127.0.0.1", "-e", "SELECT 1"])
        .arg(format!("--port={}", running.address.port()))
        .args(args)
        .env("MYSQL_PWD", "wrong");
    let output = tokio::task::spawn_blocking(move || wrong.output().unwrap())
        .await
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("ERROR 1045 (28000): Access denied for user 'repl'@'127.0.0.1'"),
        "{error}"
    );
    running.stop().await;
}

#[tokio::test]
async fn packets_over_16_mib_travel_both_ways() {
    let running = Running::fixtures().await;
    let mut raw = Raw::connect(running.address).await;
    let text = "z".repeat((17 << 20) + 5);
    raw.write_large(format!("\x03SELECT '{text}'").as_bytes())
        .await;
    let mut rows = Vec::new();
    for _ in 0..3 {
        rows.push(raw.packet().await.unwrap());
    }
    let first = raw.packet().await.unwrap();
    assert_eq!(first.len(), 0xff_ffff);
    let second = raw.packet().await.unwrap();
    assert_eq!(
        first.len() + second.len(),
        text.len() + 9,
        "a length of nine bytes, the text"
    );
    assert!(first[9..].iter().chain(&second).all(|b| *b == b'z'));
    raw.packet().await.unwrap();
    raw.ok("SET @a = 1").await;
    // And more than max_allowed_packet is refused.
    let text = vec![b'x'; 65 << 20];
    raw.write_some(&text).await;
    assert_eq!(raw.error().await.0, 1153);
    assert!(raw.packet().await.is_none(), "closed");
    running.stop().await;
}

#[tokio::test]
async fn who_is_silent_goes() {
    let running = Running::fixtures().await;
    let mut raw = Raw::connect(running.address).await;
    raw.ok("SET wait_timeout = 1").await;
    let start = Instant::now();
    let (code, text) = raw.error().await;
    assert_eq!((code, raw.seq), (4031, 0));
    assert!(text.starts_with("The client was disconnected by the server because of inactivity."));
    assert!(start.elapsed() >= Duration::from_millis(900));
    assert!(raw.packet().await.is_none());
    let mut raw = Raw::connect(running.address).await;
    raw.ok("SET net_read_timeout = 1").await;
    raw.bytes(&[9, 0, 0, 0, 3]).await;
    assert_eq!(
        raw.error().await.0,
        1159,
        "it stopped in the middle of a packet"
    );
    let mut raw = Raw::connect(running.address).await;
    let counters = running.server.counters();
    assert_eq!(counters.errors.get(&4031), Some(&1));
    raw.ok("SET wait_timeout = 100").await;
    running.stop().await;
}

#[tokio::test]
async fn timeouts_are_configured_and_read_back() {
    let config = ServerConfig {
        wait_timeout: Duration::from_secs(1),
        net_write_timeout: Duration::from_secs(77),
        ..config()
    };
    let running = Running::start(config, fixture_log()).await;
    let mut conn = Conn::new(running.opts("repl", PASSWORD)).await.unwrap();
    let row: Option<(u64, u64, u64)> = conn
        .query_first("SELECT @@wait_timeout, @@global.net_write_timeout, @@interactive_timeout")
        .await
        .unwrap();
    assert_eq!(row, Some((1, 77, 28_800)));
    conn.query_drop("SET wait_timeout = 50").await.unwrap();
    let mut raw = Raw::connect(running.address).await;
    assert_eq!(raw.error().await.0, 4031);
    conn.ping().await.expect("its own timeout counts");
    running.stop().await;
}

#[tokio::test]
async fn clients_that_do_not_authenticate_cannot_keep_others_out() {
    let config = ServerConfig {
        max_handshakes: 10,
        max_connections: 30,
        ..config()
    };
    let running = Running::start(config, fixture_log()).await;
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
        tokio::task::yield_now().await;
    }
    let server = running.server.clone();
    eventually("the oldest are gone", || server.clients().len() <= 10).await;
    for _ in 0..15 {
        let mut raw = Raw::connect(running.address).await;
        raw.ok("SET @a = 1").await;
    }
    let mut first = Vec::new();
    silent[0].read_to_end(&mut first).await.unwrap();
    assert!(running.server.counters().connections_aborted >= 50);
    running.stop().await;
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let config = ServerConfig {
        handshake_timeout: Duration::from_millis(300),
        ..config()
    };
    let running = Running::start(config, fixture_log()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let start = Instant::now();
    // One byte at a time, for ever.
    let mut all = Vec::new();
    let (mut reader, mut writer) = stream.split();
    let drip = async {
        while writer.write_all(&[1]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = reader.read_to_end(&mut all) => {}
        () = drip => {}
    }
    assert!(start.elapsed() < Duration::from_secs(3));
    eventually("it is gone", || running.server.clients().is_empty()).await;
    running.stop().await;
}

#[tokio::test]
async fn an_account_may_connect_over_tls_only() {
    let mut config = tls_config();
    let account = |plugin| {
        let name = format!("{plugin:?}").to_lowercase();
        Account::new(name, PASSWORD, plugin, Privileges::ALL).with_tls_required(true)
    };
    config.accounts = Accounts::new([
        account(AuthPlugin::CachingSha2Password),
        account(AuthPlugin::MysqlNativePassword),
    ]);
    let running = Running::start(config, fixture_log()).await;
    for user in ["cachingsha2password", "mysqlnativepassword"] {
        let refused = Conn::new(running.opts(user, PASSWORD)).await;
        assert!(
            matches!(refused, Err(Error::Server(e)) if e.code == 1045),
            "{user}"
        );
        let ssl = SslOpts::default()
            .with_danger_accept_invalid_certs(true)
            .with_danger_skip_domain_validation(true);
        let opts = OptsBuilder::from_opts(running.opts(user, PASSWORD)).ssl_opts(Some(ssl));
        let conn = Conn::new(opts).await.unwrap();
        conn.disconnect().await.unwrap();
    }
    running.stop().await;
}

#[tokio::test]
async fn connection_ids_are_never_two() {
    let config = ServerConfig {
        connection_id_base: u32::MAX - 5,
        ..config()
    };
    let running = Running::start(config, fixture_log()).await;
    let mut ids = Vec::new();
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut conn = Conn::new(running.opts("repl", PASSWORD)).await.unwrap();
        let id: Option<u32> = conn.query_first("SELECT CONNECTION_ID()").await.unwrap();
        assert_eq!(id, Some(conn.id()));
        ids.extend(id);
        open.push(conn);
    }
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() == 20 && !ids.contains(&0));
    running.stop().await;
}

/// One row of SHOW PROCESSLIST: db, Command and Info of the connection with this id.
async fn shown(raw: &mut Raw, sql: &str, id: u32) -> [Option<String>; 3] {
    let Answer::Rows(columns, rows) = raw.query(sql).await else {
        panic!("{sql}")
    };
    let at = |name: &str| {
        let place = columns
            .iter()
            .position(|c| c.name.eq_ignore_ascii_case(name));
        place.unwrap_or_else(|| panic!("{sql}: no {name}"))
    };
    let id = Some(id.to_string());
    let row = rows
        .iter()
        .find(|r| r[at("Id")] == id)
        .expect("a row of it");
    ["db", "Command", "Info"].map(|name| row[at(name)].clone())
}

async fn until_shown(raw: &mut Raw, id: u32, expected: &[Option<String>; 3]) {
    let mut last = [None, None, None];
    for _ in 0..1000 {
        last = shown(raw, "SHOW PROCESSLIST", id).await;
        if last == *expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{last:?}, not {expected:?}");
}

#[tokio::test]
async fn the_processlist_shows_databases_and_statements() {
    let running = Running::start(config(), fixture_log()).await;
    let mut raw = Raw::connect(running.address).await;
    let Answer::Rows(_, rows) = raw.query("SELECT CONNECTION_ID()").await else {
        panic!("no id")
    };
    let own: u32 = rows[0][0].as_deref().unwrap().parse().unwrap();
    let some = |text: &str| Some(text.to_owned());
    let short = "SHOW PROCESSLIST";
    let now = [None, some("Query"), some(short)];
    assert_eq!(shown(&mut raw, short, own).await, now);
    raw.write(0, b"\x02information_schema").await;
    assert_eq!(raw.packet().await.unwrap()[0], 0);
    // A statement longer than 100 characters is whole only with FULL, and in the tables.
    let long = format!("SHOW /* {} */ PROCESSLIST", "x".repeat(200));
    let now = shown(&mut raw, &long, own).await;
    assert_eq!(now[0], some("information_schema"));
    assert_eq!(now[2].as_deref(), long.get(..100));
    let full = format!("SHOW FULL /* {} */ PROCESSLIST", "x".repeat(200));
    assert_eq!(shown(&mut raw, &full, own).await[2], Some(full));
    let table = "SELECT ID, DB, COMMAND, INFO FROM information_schema.processlist";
    assert_eq!(shown(&mut raw, table, own).await[2], some(table));
    // Another connection: what it used, and nothing of what it executed before.
    let opts = OptsBuilder::from_opts(running.opts("repl", PASSWORD)).db_name(some("mysql"));
    let mut other = Conn::new(opts).await.unwrap();
    other.query_drop("SELECT 1").await.unwrap();
    let id = other.id();
    let resting = [some("mysql"), some("Sleep"), None];
    until_shown(&mut raw, id, &resting).await;
    // A dump shows as one, without the statement before it.
    let mut dumping = Raw::connect(running.address).await;
    let Answer::Rows(_, rows) = dumping.query("SELECT CONNECTION_ID()").await else {
        panic!("no id")
    };
    let id: u32 = rows[0][0].as_deref().unwrap().parse().unwrap();
    dumping.ok("SET @master_binlog_checksum = 'CRC32'").await;
    dumping.dump("", 4, 0, 91).await;
    let dumps = [None, some("Binlog Dump"), None];
    until_shown(&mut raw, id, &dumps).await;
    running.stop().await;
}

#[tokio::test]
async fn a_list_of_fields_is_refused_and_the_connection_goes_on() {
    let running = Running::start(config(), fixture_log()).await;
    let mut raw = Raw::connect(running.address).await;
    raw.write(0, b"\x04items\0").await;
    let reply = raw.packet().await.unwrap();
    assert_eq!(reply[..3], [0xff, 0x17, 0x04], "error 1047");
    raw.ok("SET @a = 1").await;
    running.stop().await;
}
