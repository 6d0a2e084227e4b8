//! Statements as clients send them, and what they get back.

use super::metadata::tests::Shop;
use super::*;
use crate::account::Privileges;
use crate::catalog::{Catalog, EmptyCatalog};
use crate::config::Compression;
use crate::core::query::vars::{Charset, SessionVars};
use crate::core::view::{ClientStatus, LogFile, ReplicaRow};
use crate::wire::CapabilityFlags;
use crate::wire::handshake::Salt;
use crate::wire::resultset::{flags, types};
use std::time::Duration;
use tributary_binlog::GtidSet;

const UUID: &str = "f675df3f-e5ee-11f1-8d1c-02fc00000001";

/// A server that stands still.
#[derive(Default)]
pub(crate) struct Still {
    pub(crate) clients: Vec<ClientStatus>,
    pub(crate) semi_sync: bool,
    /// Serves the database `shop`.
    pub(crate) shop: bool,
}

/// The salt of an AuthSwitch.
pub(crate) const SWITCH: Salt = Salt(*b"ABCDEFGHIJABCDEFGHIJ");

impl ServerView for Still {
    fn version(&self) -> &str {
        "8.4.9-tributary"
    }
    fn server_id(&self) -> u32 {
        101
    }
    fn server_uuid(&self) -> String {
        UUID.to_owned()
    }
    fn port(&self) -> u16 {
        3307
    }
    fn max_connections(&self) -> usize {
        1000
    }
    fn max_binlog_size(&self) -> u64 {
        1 << 29
    }
    fn has_tls(&self) -> bool {
        false
    }
    fn files(&self) -> Vec<LogFile> {
        let file = |n: u32, size| LogFile {
            name: format!("binlog.00000{n}"),
            size,
        };
        vec![file(1, 1411), file(2, 1816), file(3, 1417)]
    }
    fn base_name(&self) -> String {
        "binlog".to_owned()
    }
    fn gtid_executed(&self) -> GtidSet {
        format!("{UUID}:1-12").parse().unwrap()
    }
    fn gtid_purged(&self) -> GtidSet {
        GtidSet::new()
    }
    fn clients(&self) -> Vec<ClientStatus> {
        self.clients.clone()
    }
    fn replicas(&self) -> Vec<ReplicaRow> {
        vec![ReplicaRow {
            server_id: 202,
            host: String::new(),
            port: 3306,
            uuid: "u".into(),
        }]
    }
    fn status(&self) -> Vec<(&'static str, String)> {
        vec![("Uptime", "9".into())]
    }
    fn now_micros(&self) -> u64 {
        1_795_295_066_561_000
    }
    fn new_uuid(&self) -> String {
        "2297a55b-e5ef-11f1-addc-02fc00000001".to_owned()
    }
    fn new_salt(&self) -> Salt {
        SWITCH
    }
    fn timeout(&self, variable: &str) -> Duration {
        Duration::from_secs(match variable {
            "net_read_timeout" => 30,
            "net_write_timeout" => 60,
            _ => 28_800,
        })
    }
    fn semi_sync(&self) -> bool {
        self.semi_sync
    }
    fn tls_versions(&self) -> &str {
        "TLSv1.2,TLSv1.3"
    }
    fn compression(&self) -> Compression {
        Compression::default()
    }
    fn expire_after(&self) -> Duration {
        Duration::from_secs(86_400)
    }
    fn catalog(&self) -> &dyn Catalog {
        if self.shop { &Shop } else { &EmptyCatalog }
    }
}

pub(crate) fn client(id: u32, user: &str) -> ClientStatus {
    ClientStatus {
        database: Some("shop".to_owned()),
        statement: None,
        id,
        user: user.to_owned(),
        host: "127.0.0.1:5".into(),
        command: "Binlog Dump GTID".into(),
        program: None,
        server_id: 0,
        uuid: None,
        file: None,
        position: 0,
        caught_up: true,
        semi_sync: false,
        acknowledged_file: None,
        acknowledged_position: 0,
        connected_seconds: 1,
        command_seconds: 1,
    }
}

fn session(privileges: Privileges) -> SessionState {
    let charset = Charset::by_id(255);
    SessionState {
        connection_id: 7,
        user: "repl".into(),
        host: "10.0.0.9".into(),
        database: None,
        privileges,
        vars: SessionVars::new(charset),
        replica: None,
        program: None,
        library: None,
        encryption: None,
        capabilities: CapabilityFlags::empty(),
        compression: None,
        statements: Default::default(),
        in_transaction: false,
        charset,
    }
}

pub(super) struct Conversation {
    pub(super) session: SessionState,
    pub(super) server: Still,
}

impl Conversation {
    pub(super) fn new() -> Self {
        Self {
            session: session(Privileges::ALL),
            server: Still::default(),
        }
    }

    fn with(privileges: Privileges) -> Self {
        Self {
            session: session(privileges),
            server: Still::default(),
        }
    }

    pub(super) fn execute(&mut self, sql: &str) -> Result<Answer, SqlError> {
        let statements = Tokens::statements(sql)?;
        assert_eq!(statements.len(), 1, "{sql}");
        execute(&statements[0], &mut self.session, &self.server)
    }

    pub(super) fn ok(&mut self, sql: &str) {
        assert_eq!(self.execute(sql), Ok(Answer::Ok), "{sql}");
    }

    pub(super) fn rows(&mut self, sql: &str) -> ResultSet {
        match self.execute(sql) {
            Ok(Answer::Rows(rows)) => rows,
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// The cells of the only row; NULL as "NULL".
    pub(super) fn row(&mut self, sql: &str) -> Vec<String> {
        let rows = self.rows(sql);
        assert_eq!(rows.rows.len(), 1, "{sql}");
        let cells = rows.rows.into_iter().next().unwrap();
        cells
            .into_iter()
            .map(|c| c.unwrap_or_else(|| "NULL".to_owned()))
            .collect()
    }

    pub(super) fn cell(&mut self, sql: &str) -> String {
        let mut row = self.row(sql);
        assert_eq!(row.len(), 1, "{sql}");
        row.remove(0)
    }

    pub(super) fn error(&mut self, sql: &str) -> (u16, String) {
        match self.execute(sql) {
            Err(e) => (e.code, e.message),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn a_mysql_9_replica_gets_through_its_statements() {
    let mut c = Conversation::new();
    assert_eq!(c.cell("SELECT UNIX_TIMESTAMP()"), "1795295066");
    assert_eq!(c.cell("SELECT @@GLOBAL.SERVER_ID"), "101");
    c.ok("SET @master_heartbeat_period = 3000000000, @source_heartbeat_period = 3000000000");
    c.ok("SET @master_binlog_checksum = @@global.binlog_checksum, @source_binlog_checksum = @@global.binlog_checksum");
    assert_eq!(c.cell("SELECT @source_binlog_checksum"), "CRC32");
    assert_eq!(c.cell("SELECT @@GLOBAL.GTID_MODE"), "ON");
    assert_eq!(c.cell("SELECT @@GLOBAL.SERVER_UUID"), UUID);
    c.ok("SET @slave_uuid = '5a9368f5-e5e4-11f1-8024-02fc00000001', @replica_uuid = '5a9368f5-e5e4-11f1-8024-02fc00000001'");
    assert_eq!(
        c.error("SELECT @@global.rpl_semi_sync_source_enabled"),
        (
            1193,
            "Unknown system variable 'rpl_semi_sync_source_enabled'".into()
        )
    );
    assert_eq!(
        c.error("SELECT @@global.rpl_semi_sync_master_enabled").0,
        1193
    );
    let options = crate::core::dump::DumpOptions::of(&c.session, false);
    assert_eq!(options.heartbeat, Some(std::time::Duration::from_secs(3)));
    assert_eq!(options.checksum, crate::core::dump::ChecksumWish::Crc32);
    assert_eq!(
        options.uuid.as_deref(),
        Some("5a9368f5-e5e4-11f1-8024-02fc00000001")
    );
    assert!(!options.mariadb);
}

#[test]
fn auto_failover_replicas_learn_that_this_is_no_group() {
    let sql = "SELECT * FROM ( SELECT CASE WHEN ((SELECT count(*) from information_schema.plugins \
        WHERE PLUGIN_NAME LIKE 'group_replication') <> 1) THEN (SELECT 2) WHEN (SELECT count(*) FROM \
        performance_schema.replication_group_members) THEN 1 ELSE 0 END AS QUORUM) AS Q";
    let mut c = Conversation::new();
    let rows = c.rows(sql);
    assert_eq!(rows.columns[0].name, "QUORUM");
    assert_eq!(rows.rows, [[Some("2".to_owned())]]);
}

#[test]
fn mariadb_replicas_get_the_errors_they_expect() {
    let mut c = Conversation::new();
    let rows = c.rows("SHOW VARIABLES LIKE 'SERVER_ID'");
    assert_eq!(
        rows.rows,
        [[Some("server_id".to_owned()), Some("101".to_owned())]]
    );
    assert_eq!(rows.columns.len(), 2);
    c.ok("SET @master_heartbeat_period= 30000001024");
    c.ok("SET @mariadb_slave_capability=4");
    assert_eq!(
        c.error("SELECT binlog_gtid_pos('mysql-bin.000002',4)"),
        (1046, "No database selected".into())
    );
    assert_eq!(c.error("SET skip_replication=1").0, 1193);
    assert!(
        c.rows("SHOW VARIABLES LIKE 'rpl_semi_sync_master_enabled'")
            .rows
            .is_empty()
    );
    assert!(crate::core::dump::DumpOptions::of(&c.session, false).mariadb);
}

#[test]
fn connector_j_starts() {
    let names = "auto_increment_increment character_set_client character_set_connection \
        character_set_results character_set_server collation_server collation_connection init_connect \
        interactive_timeout license lower_case_table_names max_allowed_packet net_write_timeout \
        performance_schema sql_mode system_time_zone time_zone transaction_isolation wait_timeout";
    let list: Vec<String> = names
        .split_whitespace()
        .enumerate()
        .map(|(i, n)| format!("@@{}{n} AS {n}", if i == 0 { "session." } else { "" }))
        .collect();
    let sql = format!(
        "/* mysql-connector-j-9.1.0 (Revision: cf2917ea) */SELECT  {}",
        list.join(", ")
    );
    let mut c = Conversation::new();
    let rows = c.rows(&sql);
    let columns: Vec<&str> = rows.columns.iter().map(|c| c.name.as_ref()).collect();
    assert_eq!(columns, names.split_whitespace().collect::<Vec<_>>());
    let cells: Vec<&str> = rows.rows[0].iter().map(|c| c.as_deref().unwrap()).collect();
    assert_eq!(cells[0], "1");
    assert_eq!((cells[1], cells[3]), ("utf8mb4", "utf8mb4"));
    assert_eq!(cells[13], "0", "performance_schema is a number in SELECT");
    assert_eq!(cells[17], "REPEATABLE-READ");
    for sql in ["SET autocommit=1", "SET autocommit=0", "COMMIT", "ROLLBACK"] {
        c.ok(sql);
    }
}

#[test]
fn debezium_gets_its_answers() {
    let mut c = Conversation::new();
    for (sql, value) in [
        ("SHOW GLOBAL VARIABLES LIKE 'binlog_format'", "ROW"),
        ("SHOW GLOBAL VARIABLES LIKE 'binlog_row_image'", "FULL"),
        ("show global variables like 'binlog_checksum'", "CRC32"),
        ("SHOW GLOBAL VARIABLES LIKE 'GTID_MODE'", "ON"),
    ] {
        assert_eq!(c.row(sql)[1], value, "{sql}");
    }
    assert_eq!(c.cell("SELECT version()"), "8.4.9-tributary");
    assert_eq!(c.cell("select @@server_id"), "101");
    assert_eq!(c.cell("SELECT @@global.gtid_purged"), "");
    let status = c.row("SHOW BINARY LOG STATUS");
    assert_eq!(
        status,
        ["binlog.000003", "1417", "", "", &format!("{UUID}:1-12")]
    );
    assert_eq!(c.row("show master status"), status);
    assert_eq!(
        c.cell(&format!(
            "SELECT GTID_SUBTRACT('{UUID}:1-14', '{UUID}:1-12')"
        )),
        format!("{UUID}:13-14")
    );
    assert_eq!(
        c.cell(&format!("SELECT GTID_SUBTRACT('{UUID}:14-14', '')")),
        format!("{UUID}:14")
    );
    let all = c.rows("SHOW VARIABLES").rows;
    let has = |name: &str| all.iter().any(|r| r[0].as_deref() == Some(name));
    assert!(has("lower_case_table_names") && has("sql_mode"));
    let rows =
        c.rows("SHOW VARIABLES WHERE Variable_name IN ('character_set_server','collation_server')");
    assert_eq!(rows.rows.len(), 2);
    assert_eq!(
        c.rows("SHOW VARIABLES WHERE Variable_name = 'sql_mode'")
            .rows
            .len(),
        1
    );
    for sql in [
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION lock_wait_timeout=10",
        "SET SESSION innodb_lock_wait_timeout=10",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        "UNLOCK TABLES",
        "SET net_write_timeout=600",
        "set @master_heartbeat_period=48000000000",
    ] {
        c.ok(sql);
    }
    assert_eq!(c.cell("SELECT @@net_write_timeout"), "600");
    assert_eq!(c.cell("SELECT @@global.net_write_timeout"), "60");
    assert_eq!(c.cell("SELECT CURRENT_TIMESTAMP"), "2026-11-21 21:04:26");
    assert_eq!(
        c.row("SHOW SESSION STATUS LIKE 'Ssl_version'"),
        ["Ssl_version", ""]
    );
    assert_eq!(
        c.row("SELECT schema_name, default_character_set_name, default_collation_name FROM information_schema.schemata \
               WHERE schema_name NOT LIKE 'perf%'"),
        ["information_schema", "utf8mb3", "utf8mb3_general_ci"]
    );
    assert_eq!(c.row("SHOW DATABASES LIKE 'i%'"), ["information_schema"]);
    let sql = "SHOW FULL TABLES IN `information_schema` where Table_Type = 'BASE TABLE'";
    assert!(c.rows(sql).rows.is_empty());
    assert_eq!(c.error("SHOW CREATE TABLE `shop`.`dflt`").0, 1049);
    assert_eq!(c.error("SELECT `id`, `v` FROM `shop`.`dflt`").0, 1146);
}

#[test]
fn canal_and_others_get_their_answers() {
    let mut c = Conversation::new();
    for sql in [
        "set wait_timeout=9999999",
        "set net_read_timeout=7200",
        "set names 'binary'",
        "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci",
        "set @slave_uuid=uuid()",
        "SET @mariadb_slave_capability='4'",
        "SET character_set_results = NULL",
        "SET AUTOCOMMIT = 0",
        "SET @@session.sql_mode=''",
        "SET @x := 5, @y := @x + 1",
    ] {
        c.ok(sql);
    }
    assert_eq!(
        c.cell("SELECT @slave_uuid"),
        "2297a55b-e5ef-11f1-addc-02fc00000001"
    );
    assert_eq!(c.cell("SELECT @@sql_mode"), "");
    assert_eq!(
        c.cell("SELECT @y"),
        "NULL",
        "SET evaluates everything before it assigns"
    );
    assert!(c.rows(r"SHOW VARIABLES LIKE 'rds\_%'").rows.is_empty());
    assert_eq!(
        c.row("SHOW VARIABLES LIKE 'BINLOG_ROW_METADATA'")[1],
        "FULL"
    );
    assert_eq!(
        c.cell("SELECT TIME_TO_SEC(TIMEDIFF(NOW(), UTC_TIMESTAMP()))"),
        "0"
    );
    assert_eq!(
        c.row("select @@GLOBAL.binlog_checksum as checksum"),
        ["CRC32"]
    );
    assert_eq!(c.rows("SHOW BINARY LOGS").rows.len(), 3);
    assert_eq!(
        c.rows("show master logs").rows[2][0].as_deref(),
        Some("binlog.000003")
    );
    assert_eq!(
        c.row("SELECT @@max_allowed_packet,@@wait_timeout"),
        ["67108864", "9999999"]
    );
    let zongji = "SELECT \n  COLUMN_NAME, COLLATION_NAME \n  FROM INFORMATION_SCHEMA.COLUMNS WHERE \
        TABLE_SCHEMA='shop' AND TABLE_NAME='t' \n  ORDER BY ORDINAL_POSITION";
    let rows = c.rows(zongji);
    assert!(rows.rows.is_empty());
    assert_eq!(rows.columns[1].name, "COLLATION_NAME");
    let clickhouse = "SHOW VARIABLES WHERE (Variable_name = 'log_bin' AND upper(Value) = 'ON') OR \
        (Variable_name = 'binlog_format' AND upper(Value) = 'ROW') OR (Variable_name = \
        'binlog_row_image' AND upper(Value) = 'FULL')";
    assert_eq!(c.rows(clickhouse).rows.len(), 3);
}

#[test]
fn mysqls_shell_starts() {
    let mut c = Conversation::new();
    let rows = c.rows("select @@version_comment limit 1");
    assert_eq!(rows.columns[0].name, "@@version_comment");
    assert_eq!(c.cell("select USER()"), "repl@10.0.0.9");
    assert_eq!(c.cell("SELECT DATABASE()"), "NULL");
    c.ok("use `shop`");
    assert_eq!(c.cell("SELECT DATABASE()"), "shop");
    assert_eq!(
        c.error("select nosuch(1)"),
        (1305, "FUNCTION shop.nosuch does not exist".into())
    );
    assert_eq!(c.cell("select connection_id()"), "7");
    assert_eq!(c.cell("select current_user"), "repl@%");
    assert!(c.rows("show warnings").rows.is_empty());
    assert_eq!(c.rows("SHOW REPLICAS").rows[0][0].as_deref(), Some("202"));
    assert_eq!(c.rows("show slave hosts").columns[4].name, "Slave_UUID");
}

#[test]
fn columns_are_named_and_typed_as_mysql_names_and_types_them() {
    let mut c = Conversation::new();
    let rows = c.rows(
        "SELECT    @@GLOBAL.SERVER_ID   ,@@gtid_mode, NULL, 'abc', -5, 1.5, f, now( ) x"
            .replace("f, ", "")
            .as_str(),
    );
    let names: Vec<&str> = rows.columns.iter().map(|c| c.name.as_ref()).collect();
    assert_eq!(
        names,
        [
            "@@GLOBAL.SERVER_ID",
            "@@gtid_mode",
            "NULL",
            "abc",
            "-5",
            "1.5",
            "x"
        ]
    );
    let shape: Vec<(u8, u16, u32)> = rows
        .columns
        .iter()
        .map(|c| (c.ty, c.flags, c.length))
        .collect();
    let binary = flags::BINARY;
    assert_eq!(shape[0], (types::LONGLONG, flags::UNSIGNED | binary, 21));
    assert_eq!(shape[1], (types::VAR_STRING, 0, 21_845));
    assert_eq!(shape[2], (types::NULL, binary, 0));
    assert_eq!(shape[3], (types::VAR_STRING, flags::NOT_NULL, 3));
    assert_eq!(shape[4], (types::LONGLONG, flags::NOT_NULL | binary, 2));
    assert_eq!(shape[5], (types::NEWDECIMAL, flags::NOT_NULL | binary, 4));
    assert_eq!(shape[6], (types::DATETIME, flags::NOT_NULL | binary, 19));
    c.ok("SET @a = 'x', @n = 5");
    let rows = c.rows("SELECT @a, @n, @nothing");
    assert_eq!(rows.columns[0].ty, types::LONG_BLOB);
    assert_eq!(
        (rows.columns[1].ty, rows.columns[1].length),
        (types::LONGLONG, 21)
    );
    assert_eq!(rows.rows[0], [Some("x".into()), Some("5".into()), None]);
}

#[test]
fn scopes_and_unknown_names_are_refused_as_mysql_refuses_them() {
    let mut c = Conversation::new();
    for (sql, code, message) in [
        ("select @@nosuch", 1193, "Unknown system variable 'nosuch'"),
        (
            "select @@global.nosuch.x",
            1193,
            "Unknown system variable 'nosuch.x'",
        ),
        (
            "select @@foo.bar",
            1193,
            "Unknown system variable 'foo.bar'",
        ),
        ("set nosuch=1", 1193, "Unknown system variable 'nosuch'"),
        (
            "select @@session.server_id",
            1238,
            "Variable 'server_id' is a GLOBAL variable",
        ),
        (
            "set server_id=4",
            1229,
            "Variable 'server_id' is a GLOBAL variable and should be set with SET GLOBAL",
        ),
        (
            "set net_write_timeout=abc",
            1232,
            "Incorrect argument type to variable 'net_write_timeout'",
        ),
        ("set names nosuch", 1115, "Unknown character set: 'nosuch'"),
        (
            "set global server_id=9",
            1227,
            "Access denied; you need (at least one of) the SUPER or SYSTEM_VARIABLES_ADMIN privilege(s) for this operation",
        ),
        ("select x", 1054, "Unknown column 'x' in 'field list'"),
        (
            "select gtid_subtract('abc','')",
            1772,
            "Malformed GTID set specification 'abc'.",
        ),
        (
            "select * from nosuch.t",
            1146,
            "Table 'nosuch.t' doesn't exist",
        ),
        (
            "purge binary logs to 'x.1'",
            1373,
            "Target log not found in binlog index",
        ),
    ] {
        assert_eq!(c.error(sql), (code, message.to_owned()), "{sql}");
    }
    assert_eq!(c.error("garbage").0, 1064);
    assert!(c.error("garbage").1.ends_with("near 'garbage' at line 1"));
    for (sql, class) in [
        ("INSERT INTO t VALUES (1)", "INSERT"),
        ("CREATE TABLE t (a int)", "CREATE TABLE"),
        ("FLUSH TABLES WITH READ LOCK", "FLUSH TABLES"),
        ("START REPLICA", "START REPLICA"),
    ] {
        let expected = format!("This version of MySQL doesn't yet support '{class}'");
        assert_eq!(c.error(sql), (1235, expected), "{sql}");
    }
}

#[test]
fn a_set_that_fails_changes_nothing() {
    let mut c = Conversation::new();
    c.error("SET @a = 1, nosuch = 2");
    c.error("SET @a = 1, character_set_results = klingon");
    assert_eq!(c.cell("SELECT @a"), "NULL");
}

#[test]
fn privileges_decide() {
    let mut c = Conversation::with(Privileges::default());
    for sql in [
        "SHOW BINARY LOGS",
        "SHOW BINARY LOG STATUS",
        "SHOW MASTER STATUS",
    ] {
        assert!(
            c.error(sql)
                .1
                .contains("SUPER, REPLICATION CLIENT privilege(s)"),
            "{sql}"
        );
    }
    for sql in ["SHOW BINLOG EVENTS", "SHOW REPLICAS", "SHOW SLAVE HOSTS"] {
        assert!(
            c.error(sql)
                .1
                .contains("the REPLICATION SLAVE privilege(s)"),
            "{sql}"
        );
    }
    assert!(
        c.error("PURGE BINARY LOGS TO 'binlog.000002'")
            .1
            .contains("SUPER or BINLOG_ADMIN")
    );
    assert!(c.error("FLUSH BINARY LOGS").1.contains("RELOAD"));
    assert_eq!(c.row("SHOW GRANTS"), ["GRANT USAGE ON *.* TO `repl`@`%`"]);
    let mut admin = Conversation::new();
    let purge = Answer::Admin(AdminRequest::PurgeTo("binlog.000002".into()));
    assert_eq!(
        admin.execute("PURGE BINARY LOGS TO 'binlog.000002'"),
        Ok(purge)
    );
    let before = Answer::Admin(AdminRequest::PurgeBefore(1_795_295_066));
    assert_eq!(
        admin.execute("PURGE MASTER LOGS BEFORE '2026-11-21 21:04:26'"),
        Ok(before.clone())
    );
    assert_eq!(admin.execute("PURGE BINARY LOGS BEFORE NOW()"), Ok(before));
    assert_eq!(
        admin.execute("flush logs"),
        Ok(Answer::Admin(AdminRequest::FlushLogs))
    );
}

#[test]
fn kill_knows_whose_connection_it_is() {
    let clients = vec![client(7, "repl"), client(8, "repl"), client(9, "other")];
    let mut c = Conversation::with(Privileges::default());
    c.server.clients = clients.clone();
    assert_eq!(c.execute("KILL 8"), Ok(Answer::Kill(8)));
    assert_eq!(c.execute("kill connection 7"), Ok(Answer::Kill(7)));
    assert_eq!(
        c.error("KILL 9"),
        (1095, "You are not owner of thread 9".into())
    );
    assert_eq!(
        c.error("KILL 99999"),
        (1094, "Unknown thread id: 99999".into())
    );
    assert_eq!(c.rows("SHOW PROCESSLIST").rows.len(), 2, "only its own");
    let mut admin = Conversation::new();
    admin.server.clients = clients;
    assert_eq!(admin.execute("KILL QUERY 9"), Ok(Answer::Kill(9)));
    let rows = admin.rows("SHOW FULL PROCESSLIST").rows;
    assert_eq!(rows.len(), 3);
    assert!(
        rows[0][6]
            .as_deref()
            .unwrap()
            .starts_with("Source has sent all binlog")
    );
}

#[test]
fn binlog_events_are_asked_for_with_in_from_and_limit() {
    let mut c = Conversation::new();
    let mut events = |sql: &str| match c.execute(sql) {
        Ok(Answer::Events(r)) => (r.file, r.from, r.offset, r.limit),
        other => panic!("{sql}: {other:?}"),
    };
    assert_eq!(events("SHOW BINLOG EVENTS"), (None, 4, 0, u64::MAX));
    assert_eq!(events("show binlog events limit 1"), (None, 4, 0, 1));
    assert_eq!(
        events("SHOW BINLOG EVENTS IN 'binlog.000002' FROM 198 LIMIT 2, 3"),
        (Some("binlog.000002".into()), 198, 2, 3)
    );
    assert_eq!(
        events("SHOW BINLOG EVENTS LIMIT 3 OFFSET 2"),
        (None, 4, 2, 3)
    );
    assert_eq!(c.error("SHOW BINLOG EVENTS IN").0, 1064);
}

#[test]
fn expressions_follow_mysql() {
    let mut c = Conversation::new();
    for (expr, value) in [
        ("1 + 1", "2"),
        ("5 / 2", "2.5"),
        ("1 / 0", "NULL"),
        ("7 % 4", "3"),
        ("'1' = 1", "1"),
        ("'a' = 'A'", "1"),
        ("NULL = NULL", "NULL"),
        ("NULL <=> NULL", "1"),
        ("NULL AND 0", "0"),
        ("NULL OR 1", "1"),
        ("NOT NULL", "NULL"),
        ("3 BETWEEN 1 AND 5", "1"),
        ("2 IN (1, NULL)", "NULL"),
        ("2 NOT IN (1, 3)", "1"),
        ("'x' IS NOT NULL", "1"),
        ("CASE 2 WHEN 1 THEN 'a' WHEN 2 THEN 'b' END", "b"),
        ("IF(1 > 2, 'y', 'n')", "n"),
        ("IFNULL(NULL, 4)", "4"),
        ("CONCAT('a', 1, 'b')", "a1b"),
        ("UPPER('row')", "ROW"),
        ("LENGTH('ab')", "2"),
        ("CAST('12' AS SIGNED)", "12"),
        ("GTID_SUBSET('', '')", "1"),
        ("(SELECT 4)", "4"),
        ("9223372036854775807 + 1", "9223372036854775808"),
        ("-(-5)", "5"),
        ("'a' 'b'", "ab"),
    ] {
        assert_eq!(c.cell(&format!("SELECT {expr}")), value, "{expr}");
    }
    assert_eq!(c.row("SELECT 1, 2 FROM DUAL WHERE 1 LIMIT 1"), ["1", "2"]);
    assert!(c.rows("SELECT 1 FROM dual WHERE 0").rows.is_empty());
    assert_eq!(
        // Those of MySQL 9.7.
        c.cell("SELECT count(*) FROM information_schema.tables"),
        "201"
    );
    assert_eq!(
        c.cell("SELECT MAX(column_name) FROM information_schema.columns"),
        "NULL"
    );
    assert_eq!(c.error("SELECT 1 FROM information_schema.nosuch").0, 1109);
}

#[test]
fn the_deepest_statement_allowed_fits_the_stack_of_a_worker() {
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(|| {
        let mut c = Conversation::new();
        assert_eq!(c.cell(&format!("SELECT 1{}", "+1".repeat(990))), "991");
        let not = format!("SELECT {}1", "NOT ".repeat(900));
        let _ = c.execute(&not);
        let nested = format!("SELECT {}1{}", "(".repeat(450), ")".repeat(450));
        let _ = c.execute(&nested);
    });
    worker.unwrap().join().expect("no overflow");
}

proptest::proptest! {
    #[test]
    fn any_statement_is_answered_or_refused(
        words in proptest::collection::vec(proptest::sample::select(vec![
            "SELECT", "SET", "SHOW", "@@x", "@a", "=", ",", "(", ")", "1", "'s'", "VARIABLES", "LIKE", "WHERE",
            "GLOBAL", "BINLOG", "EVENTS", "IN", "LIMIT", "FROM", "NAMES", "*", "KILL", "UUID()", "CASE", "END",
            "-9223372036854775808", "18446744073709551615", "1e400", "NULL", ".", "COUNT(*)", "TIMEDIFF('1','2')",
        ]), 0..14)
    ) {
        let sql = words.join(" ");
        let mut session = session(Privileges::ALL);
        if let Ok(statements) = Tokens::statements(&sql) {
            for statement in &statements {
                let _ = execute(statement, &mut session, &Still::default());
            }
        }
    }
}

#[test]
fn mariadb_binlog_sees_a_version_it_takes() {
    let mut c = Conversation::new();
    c.session.program = Some("mysqlbinlog".into());
    assert_eq!(c.cell("SELECT VERSION()"), "8.4.9-tributary");
    c.session.library = Some("libmariadb".into());
    assert_eq!(c.cell("SELECT VERSION()"), "5.7.44-8.4.9-tributary");
    assert_eq!(c.cell("SELECT @@version"), "8.4.9-tributary");
}

#[test]
fn characteristics_of_transactions_read_back() {
    let mut c = Conversation::new();
    c.ok("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE");
    assert_eq!(c.cell("SELECT @@transaction_isolation"), "REPEATABLE-READ");
    c.ok("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY");
    assert_eq!(c.cell("SELECT @@transaction_isolation"), "READ-COMMITTED");
    assert_eq!(c.cell("SELECT @@transaction_read_only"), "1");
    assert_eq!(
        c.error("SET SESSION TRANSACTION ISOLATION LEVEL NONE").0,
        1064
    );
    assert_eq!(c.error("SET GLOBAL TRANSACTION READ ONLY").0, 1227);
}

#[test]
fn semi_sync_shows_when_it_is_switched_on() {
    let mut c = Conversation::new();
    assert!(
        c.rows("SHOW VARIABLES LIKE 'rpl_semi_sync%'")
            .rows
            .is_empty()
    );
    assert!(c.rows("SHOW STATUS LIKE 'Rpl_semi_sync%'").rows.is_empty());
    c.server.semi_sync = true;
    for name in [
        "rpl_semi_sync_source_enabled",
        "rpl_semi_sync_master_enabled",
    ] {
        assert_eq!(c.cell(&format!("SELECT @@global.{name}")), "1");
        assert_eq!(
            c.row(&format!("SHOW VARIABLES LIKE '{name}'")),
            [name, "ON"]
        );
    }
    assert_eq!(
        c.row("SHOW STATUS LIKE 'Rpl_semi_sync_source_clients'"),
        ["Rpl_semi_sync_source_clients", "0"]
    );
    c.ok("SET @rpl_semi_sync_slave= 1");
    assert!(crate::core::dump::DumpOptions::of(&c.session, true).semi_sync);
    assert!(!crate::core::dump::DumpOptions::of(&c.session, false).semi_sync);
}
