//! The protocol towards clients, for the fuzzing targets: only with the feature `fuzzing`, never in a program.
//!
//! In: bytes of a client. Out: a panic when something that must hold does not. [`packets`] reads them packet by packet, [`session`]
//! is a whole conversation with a server that stands still.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tributary_binlog::GtidSet;

use crate::account::{Account, Accounts, AuthPlugin, Privileges};
use crate::catalog::{Catalog, ColumnInfo, DatabaseInfo, TableInfo};
use crate::core::session::{ConnectionFacts, Encryption, Session, SessionEnv, Step};
use crate::core::view::{ClientStatus, LogFile, ReplicaRow, ServerView};
use crate::rsa_key::RsaKey;
use crate::wire::CapabilityFlags;
use crate::wire::command::Command;
use crate::wire::compress::{Algorithm, Compression, Compressor, Decompressor};
use crate::wire::handshake::{ClientHello, HandshakeResponse, Salt, offered};
use crate::wire::packet::{Packet, PacketDecoder, PacketWriter};
use crate::wire::semisync::Ack;

/// Greatest message the targets take.
const CAP: usize = 1 << 20;
const SALT: Salt = Salt(*b"0123456789abcdefghij");
const UUID: &str = "f675df3f-e5ee-11f1-8d1c-02fc00000001";

/// One way to look at what a client sends, chosen by the first byte; the second says in which pieces the rest arrives.
pub fn packets(data: &[u8]) {
    let [way, step, bytes @ ..] = data else {
        return;
    };
    let step = usize::from(*step).max(1);
    let caps = |b: &[u8]| {
        let four = b.first_chunk().copied().unwrap_or_default();
        CapabilityFlags::from_bits(u32::from_le_bytes(four))
    };
    match way % 7 {
        0 => whole_or_in_pieces(bytes, step),
        1 => drop(ClientHello::parse(bytes)),
        2 => drop(HandshakeResponse::of_change_user(bytes, caps(bytes))),
        3 => drop(Ack::parse(bytes)),
        4 => drop(Command::parse(bytes, CapabilityFlags::empty())),
        5 => drop(Command::parse(
            bytes,
            CapabilityFlags::CLIENT_QUERY_ATTRIBUTES,
        )),
        _ => compressed(bytes, step),
    }
}

fn whole_or_in_pieces(bytes: &[u8], step: usize) {
    let read = |step: usize| {
        let (mut decoder, mut messages) = (PacketDecoder::default(), Vec::new());
        for piece in bytes.chunks(step) {
            decoder.feed(piece);
            loop {
                match decoder.poll(CAP) {
                    Ok(Some(packet)) => messages.push(packet),
                    Ok(None) => break,
                    Err(e) => return (messages, Some(e)),
                }
            }
            assert!(decoder.missing() > 0);
        }
        (messages, None)
    };
    let whole = read(bytes.len().max(1));
    assert_eq!(whole, read(step), "however the bytes arrive");
    let mut out = Vec::new();
    let mut writer = PacketWriter::new(&mut out, 0);
    whole
        .0
        .iter()
        .for_each(|m| writer.packet(|o| o.extend_from_slice(&m.payload)));
    let mut decoder = PacketDecoder::default();
    decoder.feed(&out);
    for message in &whole.0 {
        let again = decoder.poll(CAP).expect("it was just written");
        assert_eq!(again.map(|p| p.payload).as_ref(), Some(&message.payload));
    }
    assert!(!decoder.has_pending());
}

/// What a client compressed, or says that it did; and the way back.
fn compressed(bytes: &[u8], step: usize) {
    for algorithm in [Algorithm::Zlib, Algorithm::Zstd(3)] {
        let (mut packed, mut inflate) = (Vec::new(), Decompressor::new(algorithm));
        Compressor::new(algorithm).put(bytes, &mut packed);
        let mut inlet = PacketDecoder::default();
        inflate.feed(&packed);
        while inflate.unpack(&mut inlet).expect("it was just compressed") {}
        let mut plain = PacketDecoder::default();
        plain.feed(bytes);
        loop {
            let (a, b) = (plain.poll(CAP), inlet.poll(CAP));
            assert_eq!(a, b);
            if !matches!(a, Ok(Some(_))) {
                break;
            }
        }
        let (mut inlet, mut inflate) = (PacketDecoder::default(), Decompressor::new(algorithm));
        'bytes: for piece in bytes.chunks(step) {
            inflate.feed(piece);
            loop {
                match inlet.poll(CAP) {
                    Ok(Some(_)) => continue,
                    Ok(None) => {}
                    Err(_) => break 'bytes,
                }
                match inflate.unpack(&mut inlet) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => break 'bytes,
                }
            }
        }
    }
}

/// A server that stands still.
struct Still {
    clients: Vec<ClientStatus>,
    semi_sync: bool,
}

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
        (1..4)
            .map(|n| LogFile {
                name: format!("binlog.{n:06}"),
                size: 1000 + n,
            })
            .collect()
    }
    fn base_name(&self) -> String {
        "binlog".to_owned()
    }
    fn gtid_executed(&self) -> GtidSet {
        format!("{UUID}:1-12").parse().unwrap_or_default()
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
        UUID.to_owned()
    }
    fn new_salt(&self) -> Salt {
        SALT
    }
    fn timeout(&self, _variable: &str) -> Duration {
        Duration::from_secs(30)
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
        &Shop
    }
}

/// A database with one table.
struct Shop;

impl Catalog for Shop {
    fn databases(&self) -> Vec<DatabaseInfo> {
        vec![DatabaseInfo {
            name: "shop".into(),
            charset: "utf8mb4".into(),
            collation: "utf8mb4_0900_ai_ci".into(),
        }]
    }

    fn tables(&self, database: &str) -> Vec<Arc<TableInfo>> {
        let column = |name: &str, ty: &str| ColumnInfo {
            name: name.into(),
            data_type: ty.into(),
            column_type: ty.into(),
            ..ColumnInfo::default()
        };
        let items = TableInfo {
            name: "items".into(),
            engine: "InnoDB".into(),
            collation: "utf8mb4_0900_ai_ci".into(),
            columns: vec![column("id", "int"), column("name", "text")],
            create_statement: "CREATE TABLE `items` (…)".into(),
            ..TableInfo::default()
        };
        if database == "shop" {
            vec![Arc::new(items)]
        } else {
            Vec::new()
        }
    }
}

/// A conversation. The first byte has options: 1, the client begins with bytes of its own instead of a login; 2, TLS is offered;
/// 4, semi-synchronous replication is spoken; 8, the account may do little; 16, packets have the sequence numbers that the
/// bytes say. Then the capabilities, then packets, each behind its length in two bytes.
pub fn session(data: &[u8]) {
    let [options, a, b, c, d, rest @ ..] = data else {
        return;
    };
    let caps = u32::from_le_bytes([*a, *b, *c, *d]);
    let mut talk = Talk::new(*options);
    if options & 1 == 0 && !talk.log_in(caps) {
        return;
    }
    let mut rest = rest;
    while let Some((&[low, high], behind)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([low, high]));
        let (payload, next) = behind.split_at(len.min(behind.len()));
        rest = next;
        let seq = match options & 16 {
            0 => None,
            _ => payload.first().copied(),
        };
        if !talk.say(payload, seq) {
            return;
        }
    }
}

struct Talk {
    session: Session,
    view: Still,
    /// The sequence number of the client's next packet while it logs in.
    next: u8,
}

fn accounts() -> &'static (Accounts, RsaKey) {
    static ACCOUNTS: OnceLock<(Accounts, RsaKey)> = OnceLock::new();
    ACCOUNTS.get_or_init(|| {
        let account =
            |name, password, plugin, privileges| Account::new(name, password, plugin, privileges);
        let sha2 = AuthPlugin::CachingSha2Password;
        let all = [
            account("repl", "", sha2, Privileges::ALL),
            account("weak", "", sha2, Privileges::default()),
            account(
                "maria",
                "s3cret",
                AuthPlugin::MysqlNativePassword,
                Privileges::ALL,
            ),
            account("some", "s3cret", sha2, Privileges::ALL),
        ];
        (Accounts::new(all), RsaKey::on_demand())
    })
}

impl Talk {
    fn new(options: u8) -> Self {
        let facts = ConnectionFacts {
            id: 7,
            host: "h".into(),
            offered: offered(options & 2 != 0, Compression::default()),
            salt: SALT,
        };
        let view = Still {
            clients: Vec::new(),
            semi_sync: options & 4 != 0,
        };
        let talk = Self {
            session: Session::new(facts),
            view,
            next: 1,
        };
        let mut out = Vec::new();
        talk.session.greet(&talk.view, &mut out);
        assert_eq!(check(&out, 0), 1);
        talk
    }

    fn log_in(&mut self, caps: u32) -> bool {
        let caps = caps | CapabilityFlags::CLIENT_PROTOCOL_41.bits();
        let mut hello = caps.to_le_bytes().to_vec();
        hello.extend_from_slice(&[0, 0, 0, 1, 255]);
        hello.extend_from_slice(&[0; 23]);
        hello.extend_from_slice(b"repl\0\0shop\0caching_sha2_password\0");
        self.say(&hello, None) && (self.session.state().is_some() || self.say(b"", None))
    }

    /// Sends a packet and checks the answer; false when the conversation is over.
    fn say(&mut self, payload: &[u8], seq: Option<u8>) -> bool {
        let ready = self.session.state().is_some();
        let seq = seq.unwrap_or(if ready { 0 } else { self.next });
        let packet = Packet {
            seq,
            payload: payload.to_vec(),
        };
        let _ = self.session.is_slow(&packet);
        let (accounts, rsa_key) = accounts();
        let env = SessionEnv {
            accounts,
            rsa_key,
            view: &self.view,
        };
        let mut out = Vec::new();
        let step = self.session.handle(packet, env, &mut out);
        // Packets out of order are answered with number 1, whatever theirs was.
        let first = out.get(3).copied().unwrap_or(0);
        assert!(out.is_empty() || first == seq.wrapping_add(1) || first == 1);
        let packets = check(&out, first);
        self.next = seq.wrapping_add(1 + packets as u8);
        match step {
            Step::StartTls => {
                self.session.tls_started(Encryption {
                    version: "TLSv1.3",
                    cipher: "TLS_AES_256_GCM_SHA384".to_owned(),
                });
                self.next = seq.wrapping_add(1);
                true
            }
            Step::Continue | Step::Authenticated | Step::Deferred(..) => true,
            Step::Dump(_) | Step::Close => false,
        }
    }
}

/// How many packets an answer has: whole ones, whose numbers count on.
fn check(out: &[u8], first: u8) -> usize {
    let mut decoder = PacketDecoder::default();
    decoder.feed(out);
    let mut packets = 0;
    while let Some(packet) = decoder.poll(usize::MAX).expect("answers are packets") {
        let expected = first.wrapping_add(packets as u8);
        assert_eq!(packet.seq, expected, "sequence numbers count on");
        packets += 1;
    }
    assert!(!decoder.has_pending(), "answers end with a whole packet");
    packets
}
