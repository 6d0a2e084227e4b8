//! A running server, logs to serve, and a client that speaks packets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use smallvec::smallvec;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tributary_binlog::{EventHeader, EventType, HEADER_LEN};
use tributary_dump_server::{Account, Accounts, AuthPlugin, Privileges, Server, ServerConfig};
use tributary_flow::{Body, Dependency, GlobalKind, GlobalTxn, MergedBatch, OrderKey, Tso};
use tributary_store::{GlobalLog, LogWriter, MemDisk, MemKv, RealDisk, StoreOptions};

pub(crate) const PASSWORD: &str = "s3cret";
/// UUID of the server that wrote the fixtures.
pub(crate) const UUID: &str = "f675df3f-e5ee-11f1-8d1c-02fc00000001";

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log")
}

/// Three files of a MySQL 9.7.4.
pub(crate) fn fixture_log() -> GlobalLog {
    let disk = RealDisk::open(&fixtures()).unwrap();
    GlobalLog::from_dir(Arc::new(disk), "binlog.index").unwrap()
}

/// Accounts: `repl` and `nobody` (caching_sha2), `maria` (native), `raw` (no password).
pub(crate) fn config() -> ServerConfig {
    static CONFIG: OnceLock<ServerConfig> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let mut config = ServerConfig::new(4294, "8.4.9-tributary").unwrap();
            let sha2 = AuthPlugin::CachingSha2Password;
            config.accounts = Accounts::new([
                Account::new("repl", PASSWORD, sha2, Privileges::ALL),
                Account::new(
                    "maria",
                    PASSWORD,
                    AuthPlugin::MysqlNativePassword,
                    Privileges::ALL,
                ),
                Account::new("nobody", PASSWORD, sha2, Privileges::default()),
                Account::new("raw", "", sha2, Privileges::ALL),
            ]);
            config
        })
        .clone()
}

/// The same with TLS, under a certificate nobody knows.
pub(crate) fn tls_config() -> ServerConfig {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    ServerConfig {
        tls: Some(Arc::new(tls)),
        ..config()
    }
}

pub(crate) struct Running {
    pub(crate) server: Arc<Server>,
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(config: ServerConfig, log: GlobalLog) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), config, log).await
    }

    pub(crate) async fn start_at(at: SocketAddr, config: ServerConfig, log: GlobalLog) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(config, log);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.clone().run(listener, shutdown.clone()));
        Self {
            server,
            address,
            shutdown,
            task,
        }
    }

    pub(crate) async fn fixtures() -> Self {
        Self::start(config(), fixture_log()).await
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task)
            .await
            .expect("it ends")
            .unwrap();
    }

    pub(crate) fn opts(&self, user: &str, password: &str) -> mysql_async::Opts {
        mysql_async::OptsBuilder::default()
            .ip_or_hostname(self.address.ip().to_string())
            .tcp_port(self.address.port())
            .user(Some(user))
            .pass(Some(password))
            .prefer_socket(false)
            .into()
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// A log that grows.
pub(crate) struct Growing {
    pub(crate) disk: MemDisk,
    pub(crate) log: GlobalLog,
    writer: LogWriter,
    next: u64,
}

impl Growing {
    pub(crate) fn new(max_binlog_size: u64) -> Self {
        let disk = MemDisk::new();
        let options = StoreOptions {
            base_name: "binlog".into(),
            max_binlog_size,
            server_id: 4294,
            server_version: "8.4.9-tributary".into(),
            new_uuid: UUID.parse().unwrap(),
            now_seconds: 1_700_000_000,
        };
        let opened =
            tributary_store::open(Arc::new(disk.clone()), Arc::new(MemKv::new()), options).unwrap();
        Self {
            disk,
            log: opened.log,
            writer: opened.writer,
            next: 1,
        }
    }

    /// Commits `count` transactions whose rows have `padding` bytes.
    pub(crate) fn commit(&mut self, count: u64, padding: usize) {
        let txns = (0..count).map(|_| self.transaction(padding)).collect();
        self.write(txns);
    }

    /// Commits one DDL statement.
    pub(crate) fn ddl(&mut self, sql: &str) {
        let query = tributary_binlog::QueryEvent {
            query: sql.as_bytes(),
            ..tributary_binlog::QueryEvent::default()
        };
        let mut body = Vec::new();
        query.put_body(&mut body);
        let query = Body::new(Bytes::from(event(EventType::QUERY, &body)));
        let txn = GlobalTxn {
            kind: GlobalKind::Ddl,
            parts: smallvec![query],
            ..self.transaction(0)
        };
        self.write(vec![txn]);
    }

    /// Commits a row of `shop.orders (id INT PRIMARY KEY, v VARCHAR(100))` in a transaction of its own.
    pub(crate) fn insert(&mut self, id: u32, v: &str) {
        let mut table_map = vec![9, 0, 0, 0, 0, 0, 1, 0, 4];
        table_map.extend_from_slice(b"shop\0\x06orders\0\x02\x03\x0f\x02\x90\x01\x02");
        let mut rows = vec![9, 0, 0, 0, 0, 0, 1, 0, 2, 0, 2, 3, 0];
        rows.extend_from_slice(&id.to_le_bytes());
        rows.extend_from_slice(&(v.len() as u16).to_le_bytes());
        rows.extend_from_slice(v.as_bytes());
        let mut events = event(EventType::TABLE_MAP, &table_map);
        events.extend(event(EventType::WRITE_ROWS, &rows));
        let txn = GlobalTxn {
            parts: smallvec![Body::new(Bytes::from(events))],
            ..self.transaction(0)
        };
        self.write(vec![txn]);
    }

    fn write(&mut self, txns: Vec<GlobalTxn>) {
        let batch = MergedBatch {
            txns,
            ..MergedBatch::default()
        };
        self.writer.append(&batch).unwrap();
        self.writer.commit().unwrap();
    }

    fn transaction(&mut self, padding: usize) -> GlobalTxn {
        let n = self.next;
        self.next += 1;
        let mut table_map = vec![9, 0, 0, 0, 0, 0, 1, 0, 4];
        table_map.extend_from_slice(b"shop\0\x06orders\0\x01\x03\0\x01");
        let mut rows = vec![9, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1, 0];
        rows.extend_from_slice(&(n as u32).to_le_bytes());
        rows.resize(rows.len() + padding, b'a');
        let mut events = event(EventType::TABLE_MAP, &table_map);
        events.extend(event(EventType::WRITE_ROWS, &rows));
        GlobalTxn {
            key: OrderKey::distributed(Tso::new(n).unwrap()),
            kind: GlobalKind::Rows,
            parts: smallvec![Body::new(Bytes::from(events))],
            dependency: Dependency::Predecessor,
            original_commit: 1_700_000_000_000_000 + n,
            immediate_commit: 1_700_000_000_000_000 + n,
            original_server_version: 80404,
            immediate_server_version: 80404,
            timestamp: 1_700_000_000,
        }
    }

    /// Every file's bytes, in order.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let files = self.log.files();
        files
            .into_iter()
            .map(|f| {
                let mut bytes = self.disk.bytes(f.file.as_str()).unwrap();
                bytes.truncate(f.size as usize);
                (f.file.to_string(), bytes)
            })
            .collect()
    }
}

fn event(event_type: EventType, body: &[u8]) -> Vec<u8> {
    let event_size = (HEADER_LEN + body.len()) as u32;
    let mut out = Vec::new();
    EventHeader {
        timestamp: 1,
        event_type,
        server_id: 9,
        event_size,
        log_pos: 0,
        flags: 0,
    }
    .put(&mut out);
    out.extend_from_slice(body);
    out
}

/// A client that speaks packets, logged in as `raw`.
pub(crate) struct Raw {
    stream: TcpStream,
    pub(crate) seq: u8,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let mut raw = Self {
            stream: TcpStream::connect(address).await.unwrap(),
            seq: 0,
        };
        let greeting = raw.packet().await.expect("a greeting");
        assert_eq!(greeting[0], 10);
        let mut hello = 0x0008_a205u32.to_le_bytes().to_vec();
        hello.extend_from_slice(&[0, 0, 0, 0, 255]);
        hello.extend_from_slice(&[0; 23]);
        hello.extend_from_slice(b"raw\0\0caching_sha2_password\0");
        raw.write(1, &hello).await;
        let reply = raw.packet().await.unwrap();
        assert_eq!(reply[0], 0, "{reply:?}");
        raw
    }

    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a command of any length.
    pub(crate) async fn write_large(&mut self, payload: &[u8]) {
        let mut seq = 0;
        let mut pieces = payload.chunks(0xff_ffff).peekable();
        while let Some(piece) = pieces.next() {
            self.write(seq, piece).await;
            seq += 1;
            if pieces.peek().is_none() && piece.len() == 0xff_ffff {
                self.write(seq, &[]).await;
            }
        }
    }

    /// Sends the start of a command that the server may refuse before it has read it all.
    pub(crate) async fn write_some(&mut self, payload: &[u8]) {
        for (seq, piece) in payload.chunks(0xff_ffff).enumerate() {
            let [a, b, c, _] = (piece.len() as u32).to_le_bytes();
            if self.stream.write_all(&[a, b, c, seq as u8]).await.is_err()
                || self.stream.write_all(piece).await.is_err()
            {
                return;
            }
        }
    }

    pub(crate) async fn write(&mut self, seq: u8, payload: &[u8]) {
        let [a, b, c, _] = (payload.len() as u32).to_le_bytes();
        self.stream
            .write_all(&[&[a, b, c, seq], payload].concat())
            .await
            .unwrap();
    }

    /// The next packet; `None` when the server has closed.
    pub(crate) async fn packet(&mut self) -> Option<Vec<u8>> {
        let read = async {
            let mut header = [0; 4];
            self.stream.read_exact(&mut header).await.ok()?;
            self.seq = header[3];
            let len = u32::from_le_bytes([header[0], header[1], header[2], 0]);
            let mut payload = vec![0; len as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            Some(payload)
        };
        tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .expect("a packet within 20 s")
    }

    /// True when nothing comes for this long.
    pub(crate) async fn is_quiet(&mut self, time: Duration) -> bool {
        let mut byte = [0; 1];
        tokio::time::timeout(time, self.stream.peek(&mut byte))
            .await
            .is_err()
    }

    /// Sends a statement that answers OK.
    pub(crate) async fn ok(&mut self, sql: &str) {
        self.write(0, &[&[3], sql.as_bytes()].concat()).await;
        let reply = self.packet().await.unwrap();
        assert_eq!(reply[0], 0, "{sql}: {}", String::from_utf8_lossy(&reply));
    }

    /// Sends a statement and takes its whole answer.
    pub(crate) async fn query(&mut self, sql: &str) -> Answer {
        self.write(0, &[&[3], sql.as_bytes()].concat()).await;
        let first = self.packet().await.unwrap();
        match first.first() {
            Some(0) => return Answer::Ok,
            Some(0xff) => {
                let code = u16::from_le_bytes([first[1], first[2]]);
                let text = String::from_utf8_lossy(&first[9..]).into_owned();
                return Answer::Error(code, text);
            }
            _ => {}
        }
        let mut columns = Vec::new();
        for _ in 0..first[0] {
            columns.push(ColumnDef::parse(&self.packet().await.unwrap()));
        }
        assert_eq!(self.packet().await.unwrap()[0], 0xfe);
        let mut rows = Vec::new();
        loop {
            let row = self.packet().await.unwrap();
            if row[0] == 0xfe && row.len() < 9 {
                return Answer::Rows(columns, rows);
            }
            if row[0] == 0xff {
                // It failed behind some rows.
                let code = u16::from_le_bytes([row[1], row[2]]);
                return Answer::Error(code, String::from_utf8_lossy(&row[9..]).into_owned());
            }
            let mut rest = row.as_slice();
            let mut cells = Vec::new();
            while !rest.is_empty() {
                cells.push(take_cell(&mut rest));
            }
            rows.push(cells);
        }
    }

    pub(crate) async fn dump(&mut self, file: &str, position: u32, flags: u16, server_id: u32) {
        let mut payload = vec![0x12];
        payload.extend_from_slice(&position.to_le_bytes());
        payload.extend_from_slice(&flags.to_le_bytes());
        payload.extend_from_slice(&server_id.to_le_bytes());
        payload.extend_from_slice(file.as_bytes());
        self.write(0, &payload).await;
    }

    pub(crate) async fn dump_gtid(&mut self, set: &str, flags: u16, server_id: u32) {
        let mut encoded = Vec::new();
        set.parse::<tributary_binlog::GtidSet>()
            .unwrap()
            .encode(&mut encoded);
        let mut payload = vec![0x1e];
        payload.extend_from_slice(&flags.to_le_bytes());
        payload.extend_from_slice(&server_id.to_le_bytes());
        payload.extend_from_slice(&0u32.to_le_bytes());
        payload.extend_from_slice(&4u64.to_le_bytes());
        payload.extend_from_slice(&(encoded.len() as u32).to_le_bytes());
        payload.extend_from_slice(&encoded);
        self.write(0, &payload).await;
    }

    /// The next event of a dump: whole, joined when it came in several packets.
    pub(crate) async fn event(&mut self) -> (EventHeader, Vec<u8>) {
        let mut payload = self.packet().await.expect("an event");
        let mut last = payload.len();
        while last == 0xff_ffff {
            let more = self.packet().await.expect("the rest of an event");
            last = more.len();
            payload.extend_from_slice(&more);
        }
        assert_eq!(payload[0], 0, "{}", String::from_utf8_lossy(&payload));
        payload.remove(0);
        let header = EventHeader::parse(&payload).unwrap();
        assert_eq!(header.event_size as usize, payload.len());
        (header, payload)
    }

    /// The next packet is this error.
    pub(crate) async fn error(&mut self) -> (u16, String) {
        let packet = self.packet().await.expect("an error packet");
        assert_eq!(packet[0], 0xff, "{packet:?}");
        let code = u16::from_le_bytes([packet[1], packet[2]]);
        (code, String::from_utf8_lossy(&packet[9..]).into_owned())
    }
}

/// An answer to a statement.
#[derive(Debug)]
pub(crate) enum Answer {
    Ok,
    Error(u16, String),
    Rows(Vec<ColumnDef>, Vec<Vec<Option<String>>>),
}

/// A column as it was defined on the wire.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ColumnDef {
    pub(crate) name: String,
    pub(crate) ty: u8,
    pub(crate) collation: u16,
    pub(crate) length: u32,
    pub(crate) flags: u16,
    pub(crate) decimals: u8,
}

impl ColumnDef {
    fn parse(packet: &[u8]) -> Self {
        let mut rest = packet;
        let names: Vec<Option<String>> = (0..6).map(|_| take_cell(&mut rest)).collect();
        Self {
            name: names[4].clone().unwrap(),
            collation: u16::from_le_bytes([rest[1], rest[2]]),
            length: u32::from_le_bytes([rest[3], rest[4], rest[5], rest[6]]),
            ty: rest[7],
            flags: u16::from_le_bytes([rest[8], rest[9]]),
            decimals: rest[10],
        }
    }
}

/// A length-encoded string of less than 16 MiB; NULL is none.
fn take_cell(rest: &mut &[u8]) -> Option<String> {
    let (len, skip) = match rest[0] {
        0xfb => {
            *rest = &rest[1..];
            return None;
        }
        0xfc => (usize::from(rest[1]) | usize::from(rest[2]) << 8, 3),
        0xfd => {
            let len = usize::from(rest[1]) | usize::from(rest[2]) << 8 | usize::from(rest[3]) << 16;
            (len, 4)
        }
        short => (usize::from(short), 1),
    };
    let text = String::from_utf8_lossy(&rest[skip..skip + len]).into_owned();
    *rest = &rest[skip + len..];
    Some(text)
}
