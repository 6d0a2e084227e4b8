//! What can go wrong with a node: each is named, advised on, and over when its cause is. Real servers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use tokio::time::sleep;
use tributary_binlog::GtidSet;
use tributary_collector::{
    CollectorConfig, DumpConn, DumpOptions, NodeState, Start, TlsMode, TroubleKind,
};
use tributary_flow::{NodeProgress, SourceTxn};
use tributary_tests::faults::{Fault, FaultProxy};
use tributary_tests::mysqld::MysqldOptions;

use crate::rig::{PATIENCE, Rig, Server, over, until};

const TABLE: &str =
    "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT)";
const INSERT: &str = "INSERT INTO shop.t (v) VALUES ('x')";

async fn node() -> Server {
    let server = Server::start(MysqldOptions::node("dn1", 11)).await;
    server.sql(TABLE).await;
    server
}

/// A collector that has read everything there is.
async fn reading(server: &Server, config: CollectorConfig) -> (Rig, GtidSet) {
    let mut rig = Rig::spawn(config, None);
    let have = server.executed().await;
    rig.read_all(&GtidSet::new(), &have).await;
    rig.sound().await;
    (rig, have)
}

/// Commits once more and waits for that.
async fn flows(server: &Server, rig: &mut Rig, have: &mut GtidSet) -> Vec<SourceTxn> {
    server.sql(INSERT).await;
    let executed = server.executed().await;
    let txns = rig.read_all(have, &executed).await;
    *have = executed;
    txns
}

/// Kills the dumps that are there.
async fn kill_dumps(server: &Server) {
    let sql = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'";
    for id in server.mysqld.rows::<u64>(sql).await.unwrap() {
        server.sql(&format!("KILL {id}")).await;
    }
}

fn copy_dir(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_down_or_hangs() {
    let mut server = node().await;
    let (mut rig, mut have) = reading(&server, server.config()).await;
    server.mysqld.kill9();
    let trouble = rig.trouble(TroubleKind::NodeDown).await;
    assert!(trouble.text.starts_with("cannot connect to"), "{trouble:?}");
    server.mysqld.launch().await.unwrap();
    rig.sound().await;
    rig.last_failure(TroubleKind::NodeDown).await;
    flows(&server, &mut rig, &mut have).await;

    server.mysqld.freeze();
    let trouble = rig.trouble(TroubleKind::NodeHung).await;
    assert!(trouble.text.starts_with("no answer within"), "{trouble:?}");
    assert!(matches!(rig.status().state, NodeState::Retrying { .. }));
    server.mysqld.thaw();
    rig.sound().await;
    flows(&server, &mut rig, &mut have).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_slow_or_stalled() {
    let server = node().await;
    let proxy = FaultProxy::start(server.mysqld.port()).await.unwrap();
    let mut config = server.config();
    config.servers = vec![over(&proxy, server.url())];
    config.slow_answer = Duration::from_millis(200);
    let (mut rig, mut have) = reading(&server, config).await;
    proxy.fault(Fault::Delay(Duration::from_millis(400)));
    let trouble = rig.trouble(TroubleKind::NodeSlow).await;
    assert!(trouble.text.contains("quickest answer took"), "{trouble:?}");
    assert!(matches!(rig.status().state, NodeState::Streaming));
    flows(&server, &mut rig, &mut have).await;
    proxy.fault(Fault::None);
    rig.sound().await;

    // Everything is answered but the one question that a stalled binlog cannot answer.
    proxy.fault(Fault::Swallow("SHOW BINARY LOG STATUS"));
    let trouble = rig.trouble(TroubleKind::BinlogStalled).await;
    assert!(trouble.kind.advice().contains("Disk is full"));
    assert!(matches!(rig.status().state, NodeState::Streaming));
    proxy.fault(Fault::None);
    rig.sound().await;
    flows(&server, &mut rig, &mut have).await;
    rig.stop().await;
}

/// A small file system, where this process may make one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "none"]);
        let mounted = mount.arg(&path).output();
        mounted
            .is_ok_and(|o| o.status.success())
            .then_some(Self(path))
    }

    fn grow(&self) {
        let mut mount = Command::new("mount");
        let grown = mount.args(["-o", "remount,size=64m"]).arg(&self.0).status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_on_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("binlogs")) else {
        println!("not allowed to mount: its symptom is tested with a proxy alone");
        return;
    };
    let log_bin = format!("--log-bin={}", disk.0.join("binlog").display());
    let server = Server::start(MysqldOptions::node("dn1", 11).arg(&log_bin)).await;
    server.sql(TABLE).await;
    let (mut rig, mut have) = reading(&server, server.config()).await;
    let mut root = server.mysqld.root().await.unwrap();
    let writing = tokio::spawn(async move {
        for _ in 0..4 {
            root.query_drop("INSERT INTO shop.t (v) VALUES (REPEAT('x', 800000))")
                .await
                .unwrap();
        }
    });
    let trouble = rig.trouble(TroubleKind::BinlogStalled).await;
    assert!(trouble.text.contains("full disk"), "{trouble:?}");
    assert!(server.mysqld.log_tail().contains("Disk is full"));
    assert!(matches!(rig.status().state, NodeState::Streaming));
    assert!(!writing.is_finished());
    disk.grow();
    // The node itself tries again once a minute.
    rig.sound().await;
    writing.await.unwrap();
    flows(&server, &mut rig, &mut have).await;
    rig.stop().await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_changes_and_a_full_connection_table() {
    let server = node().await;
    server
        .sql("CREATE USER moody IDENTIFIED BY 'one'; GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO moody")
        .await;
    let mut config = server.config();
    config.servers[0].user = "moody".into();
    config.servers[0].password = "one".into();
    let (mut rig, mut have) = reading(&server, config).await;
    // Noticed before it is needed; what is there goes on.
    server.sql("ALTER USER moody IDENTIFIED BY 'two'").await;
    let trouble = rig.trouble(TroubleKind::AccessDenied).await;
    assert!(trouble.text.contains("still being read"), "{trouble:?}");
    assert!(trouble.kind.advice().contains("ALTER USER"));
    flows(&server, &mut rig, &mut have).await;
    kill_dumps(&server).await;
    rig.state("retrying: cannot log in as 'moody': ERROR 1045 (28000): Access denied")
        .await;
    rig.trouble(TroubleKind::AccessDenied).await;
    server.sql("ALTER USER moody IDENTIFIED BY 'one'").await;
    rig.sound().await;
    flows(&server, &mut rig, &mut have).await;

    let mut root = server.mysqld.root().await.unwrap();
    root.query_drop("SET GLOBAL max_connections = 1")
        .await
        .unwrap();
    let trouble = rig.trouble(TroubleKind::TooManyConnections).await;
    assert!(trouble.text.contains("ERROR 1040"), "{trouble:?}");
    root.query_drop("SET GLOBAL max_connections = 100")
        .await
        .unwrap();
    rig.sound().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_killed_and_a_dump_that_is_stolen() {
    let server = node().await;
    let (mut rig, mut have) = reading(&server, server.config()).await;
    kill_dumps(&server).await;
    rig.last_failure(TroubleKind::ConnectionLost).await;
    rig.sound().await;
    flows(&server, &mut rig, &mut have).await;

    let mut thief = DumpConn::connect(&server.url()).await.unwrap();
    let options = DumpOptions {
        server_id: 4294,
        replica_uuid: Some(server.config().replica_uuid),
        heartbeat: Duration::from_secs(1),
        blocking: true,
        semi_sync: false,
    };
    thief.dump_gtid(&options, &GtidSet::new()).await.unwrap();
    let trouble = rig.trouble(TroubleKind::DumpStolen).await;
    assert!(
        trouble.text.contains("same server_uuid/server_id"),
        "{trouble:?}"
    );
    assert!(trouble.kind.advice().contains("SHOW REPLICAS"));
    // It takes the dump back, and goes on warning for a while.
    rig.state("streaming").await;
    rig.trouble(TroubleKind::DumpStolen).await;
    drop(thief);
    flows(&server, &mut rig, &mut have).await;
    rig.sound().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn binlogs_purged_too_early_and_brought_back() {
    let mut server = node().await;
    for _ in 0..5 {
        server.sql(&format!("{INSERT}; FLUSH BINARY LOGS")).await;
    }
    let uuid: String = server.mysqld.row("SELECT @@server_uuid").await.unwrap();
    let datadir = server.mysqld.datadir();
    let saved = tempfile::tempdir().unwrap();
    copy_dir(&datadir, &saved.path().join("data"));
    let (file, _) = server.mysqld.binlog_position().await.unwrap();
    server.sql(&format!("PURGE BINARY LOGS TO '{file}'")).await;
    let emitted: GtidSet = format!("{uuid}:1-3").parse().unwrap();
    let progress = NodeProgress {
        emitted: emitted.clone(),
        before_start: GtidSet::new(),
        ..NodeProgress::default()
    };
    let mut rig = Rig::spawn(server.config(), Some(progress));
    let text = rig.state("halted").await;
    assert!(
        text.contains(&format!("not read yet: {uuid}:4-7.")),
        "{text}"
    );
    rig.trouble(TroubleKind::BinlogPurged).await;
    // From an archive of binlogs.
    server.mysqld.stop().await.unwrap();
    for entry in std::fs::read_dir(saved.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("binlog.") {
            std::fs::copy(&path, datadir.join(name)).unwrap();
        }
    }
    server.mysqld.launch().await.unwrap();
    let executed = server.executed().await;
    assert_eq!(rig.read_all(&emitted, &executed).await.len(), 4);
    rig.sound().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binlog_that_is_reset_under_an_open_dump() {
    let server = node().await;
    server.sql(&format!("{INSERT}; FLUSH BINARY LOGS")).await;
    let (mut rig, have) = reading(&server, server.config()).await;
    let gtids = have.to_text_oneline();
    // The dump itself notices nothing.
    server.sql("RESET BINARY LOGS AND GTIDS").await;
    let trouble = rig.trouble(TroubleKind::BinlogReset).await;
    let text = rig.state("halted").await;
    assert!(
        text.contains(&format!("already read from it: {gtids} ")),
        "{text} {trouble:?}"
    );
    assert!(text.contains("SET GLOBAL gtid_purged"), "{text}");
    // Repaired; nobody tells the service.
    server
        .sql(&format!("SET GLOBAL gtid_purged = '{gtids}'"))
        .await;
    rig.sound().await;
    let mut have = have;
    let before = rig.passed;
    let txns = flows(&server, &mut rig, &mut have).await;
    assert!(
        txns[0].end > before,
        "places do not go back with the files' numbers"
    );
    let fence = rig.fence(1).await.expect("the node is there");
    assert!(fence > before);
    rig.pass(fence).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binlog_that_was_reset_and_written_again_is_not_mistaken_for_the_old_one() {
    let server = node().await;
    server.sql(&format!("{INSERT}; FLUSH BINARY LOGS")).await;
    let mut config = server.config();
    config.watch_every = Duration::from_secs(3600);
    let (rig, have) = reading(&server, config).await;
    let mut again = String::from("RESET BINARY LOGS AND GTIDS");
    for _ in 0..have.count() + 2 {
        again = format!("{again}; {INSERT}");
    }
    server.sql(&again).await;
    assert!(
        have.is_subset(&server.executed().await),
        "sets tell nothing"
    );
    kill_dumps(&server).await;
    let text = rig.state("halted").await;
    assert!(text.contains("written again under GTIDs"), "{text}");
    assert!(text.contains(&have.to_text_oneline()), "{text}");
    rig.trouble(TroubleKind::BinlogReset).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_restored_from_a_backup() {
    let mut server = node().await;
    let (mut rig, mut have) = reading(&server, server.config()).await;
    let uuid: String = server.mysqld.row("SELECT @@server_uuid").await.unwrap();
    let datadir = server.mysqld.datadir();
    let saved = tempfile::tempdir().unwrap();
    let (backup, whole) = (saved.path().join("backup"), saved.path().join("whole"));
    server.mysqld.stop().await.unwrap();
    copy_dir(&datadir, &backup);
    server.mysqld.launch().await.unwrap();
    flows(&server, &mut rig, &mut have).await;
    flows(&server, &mut rig, &mut have).await;
    let exchange = |from: &Path| {
        std::fs::remove_dir_all(&datadir).unwrap();
        copy_dir(from, &datadir);
    };
    server.mysqld.stop().await.unwrap();
    copy_dir(&datadir, &whole);
    exchange(&backup);
    server.mysqld.launch().await.unwrap();
    let text = rig.state("halted").await;
    assert!(
        text.contains(&format!("already read from it: {uuid}:3-4 ")),
        "{text}"
    );
    rig.trouble(TroubleKind::GtidsLost).await;
    server.mysqld.stop().await.unwrap();
    exchange(&whole);
    server.mysqld.launch().await.unwrap();
    rig.sound().await;
    flows(&server, &mut rig, &mut have).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_new_uuid_goes_on() {
    let mut server = node().await;
    let (mut rig, mut have) = reading(&server, server.config()).await;
    let old: String = server.mysqld.row("SELECT @@server_uuid").await.unwrap();
    server.mysqld.stop().await.unwrap();
    std::fs::remove_file(server.mysqld.datadir().join("auto.cnf")).unwrap();
    server.mysqld.launch().await.unwrap();
    let new: String = server.mysqld.row("SELECT @@server_uuid").await.unwrap();
    let trouble = rig.trouble(TroubleKind::ServerChanged).await;
    assert!(
        trouble.text.contains(&format!("was {old}, is {new}")),
        "{trouble:?}"
    );
    let before = rig.passed;
    let txns = flows(&server, &mut rig, &mut have).await;
    assert!(txns[0].gtid.to_string().starts_with(&new));
    assert!(txns[0].end > before);
    rig.sound().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_change_under_us() {
    let server = node().await;
    let (mut rig, mut have) = reading(&server, server.config()).await;
    for (bad, good, text) in [
        (
            "SET GLOBAL binlog_row_image = MINIMAL",
            "SET GLOBAL binlog_row_image = FULL",
            "binlog_row_image is MINIMAL, must be FULL",
        ),
        (
            "SET GLOBAL binlog_format = MIXED",
            "SET GLOBAL binlog_format = ROW",
            "binlog_format is MIXED, must be ROW",
        ),
        (
            "SET GLOBAL gtid_mode = ON_PERMISSIVE",
            "SET GLOBAL gtid_mode = ON",
            "gtid_mode is ON_PERMISSIVE, must be ON",
        ),
    ] {
        server.sql(bad).await;
        let trouble = rig.trouble(TroubleKind::WrongSettings).await;
        assert!(trouble.text.starts_with(text), "{trouble:?}");
        assert!(matches!(rig.status().state, NodeState::Streaming));
        server.sql(good).await;
        rig.sound().await;
        flows(&server, &mut rig, &mut have).await;
    }
    // These need nothing.
    for harmless in [
        "SET GLOBAL binlog_checksum = NONE",
        "SET GLOBAL binlog_transaction_compression = ON",
        "SET GLOBAL binlog_row_metadata = MINIMAL",
        "SET GLOBAL binlog_checksum = CRC32",
    ] {
        server.sql(harmless).await;
        flows(&server, &mut rig, &mut have).await;
    }
    sleep(Duration::from_millis(600)).await;
    assert!(rig.status().troubles.is_empty(), "{:?}", rig.status());
    // Repaired too late: what is in the binlog stays there, and says how to go on.
    server
        .sql(&format!("SET SESSION binlog_format = STATEMENT; {INSERT}"))
        .await;
    let text = rig.state("halted").await;
    assert!(text.contains("statement"), "{text}");
    rig.trouble(TroubleKind::BadBinlog).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps() {
    let server = node().await;
    let (mut rig, mut have) = reading(&server, server.config()).await;
    // It has been looked at.
    sleep(Duration::from_millis(600)).await;
    // What a new session takes for the time; root is exempt.
    server
        .sql("SET GLOBAL init_connect = 'SET timestamp = UNIX_TIMESTAMP() - 3600'")
        .await;
    let trouble = rig.trouble(TroubleKind::ClockJump).await;
    assert!(trouble.text.contains("jumped by -36"), "{trouble:?}");
    flows(&server, &mut rig, &mut have).await;
    server.sql("SET GLOBAL init_connect = ''").await;
    rig.sound().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_moves_to_another_server_is_followed() {
    let a = node().await;
    let proxy = FaultProxy::start(a.mysqld.port()).await.unwrap();
    let mut config = a.config();
    config.servers = vec![over(&proxy, a.url())];
    let (mut rig, have) = reading(&a, config).await;
    // A copy of it, as a promoted replica would be, with files numbered anew.
    let b = Server::start(MysqldOptions::node("dn1", 12)).await;
    b.sql(&format!(
        "SET GLOBAL gtid_purged = '{}'",
        have.to_text_oneline()
    ))
    .await;
    b.sql(&format!(
        "SET sql_log_bin = 0; {TABLE}; SET sql_log_bin = 1"
    ))
    .await;
    let fence = rig.fence(1).await.expect("a is there");
    rig.pass(fence).await;
    // The old connection stays open: only a look tells that the address leads elsewhere.
    proxy.lead_to(b.mysqld.port());
    rig.trouble(TroubleKind::ServerChanged).await;
    b.sql(INSERT).await;
    let before = rig.passed;
    let txns = rig.read_all(&have, &b.executed().await).await;
    assert!(txns[0].end > before);
    let fence = rig.fence(2).await.expect("b is there");
    assert!(fence >= txns[0].end);
    rig.pass(fence).await;
    // A server with other data is refused with the exact sets.
    let c = Server::start(MysqldOptions::node("dn1", 13)).await;
    c.sql(TABLE).await;
    proxy.lead_to(c.mysqld.port());
    let text = rig.state("halted").await;
    assert!(
        text.contains(&b.executed().await.to_text_oneline()),
        "{text}"
    );
    proxy.lead_to(b.mysqld.port());
    rig.state("streaming").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encryption_that_fails() {
    let server = node().await;
    let mut config = server.config();
    config.start = Start::Current;
    config.servers[0].tls = TlsMode::Required;
    config.servers[0].ca = Some(server.mysqld.datadir().join("client-cert.pem"));
    let rig = Rig::spawn(config, None);
    let trouble = rig.trouble(TroubleKind::Tls).await;
    assert!(trouble.kind.advice().contains("tls_ca"), "{trouble:?}");
    until("it goes on trying", || match rig.status().state {
        NodeState::Retrying { attempt, .. } => attempt >= 2,
        _ => false,
    })
    .await;
    assert!(PATIENCE > Duration::from_secs(10));
    rig.stop().await;
}
