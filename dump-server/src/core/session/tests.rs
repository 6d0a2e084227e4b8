//! Conversations packet by packet, without a socket.

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::*;
use crate::account::{Account, Privileges};
use crate::config::Compression;
use crate::core::query::tests::{SWITCH, Still, client};
use crate::wire::handshake::offered;
use crate::wire::packet::PacketDecoder;

const SALT: Salt = Salt(*b"0123456789abcdefghij");

fn hash(sha1: bool, data: &[u8]) -> Vec<u8> {
    let algorithm = if sha1 {
        &SHA1_FOR_LEGACY_USE_ONLY
    } else {
        &SHA256
    };
    digest::digest(algorithm, data).as_ref().to_vec()
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

fn sha2_answer(password: &str, salt: &Salt) -> Vec<u8> {
    let once = hash(false, password.as_bytes());
    let twice = hash(false, &once);
    xor(&once, &hash(false, &[&twice[..], &salt.0].concat()))
}

fn native_answer(password: &str, salt: &Salt) -> Vec<u8> {
    let once = hash(true, password.as_bytes());
    let twice = hash(true, &once);
    xor(&once, &hash(true, &[&salt.0, &twice[..]].concat()))
}

/// A client and a session that talk through bytes.
struct Wire {
    session: Session,
    accounts: Accounts,
    key: RsaKey,
    server: Still,
    replies: Vec<Packet>,
    step: Step,
}

impl Wire {
    fn new(tls_offered: bool) -> Self {
        static KEY: std::sync::OnceLock<RsaKey> = std::sync::OnceLock::new();
        let account = |name: &str, plugin| Account::new(name, "s3cret", plugin, Privileges::ALL);
        let accounts = Accounts::new([
            account("repl", AuthPlugin::CachingSha2Password),
            account("maria", AuthPlugin::MysqlNativePassword),
            Account::new(
                "weak",
                "s3cret",
                AuthPlugin::default(),
                Privileges::default(),
            ),
            account("secure", AuthPlugin::default()).with_tls_required(true),
            account("full", AuthPlugin::default()).with_full_authentication(true),
            Account::new("nopw", "", AuthPlugin::default(), Privileges::default()),
        ]);
        let facts = ConnectionFacts {
            id: 7,
            host: "h".into(),
            offered: offered(tls_offered, Compression::default()),
            salt: SALT,
        };
        let server = Still {
            clients: vec![client(8, "repl")],
            ..Still::default()
        };
        let key = KEY.get_or_init(RsaKey::on_demand).clone();
        let mut wire = Self {
            session: Session::new(facts),
            accounts,
            key,
            server,
            replies: Vec::new(),
            step: Step::Continue,
        };
        let mut out = Vec::new();
        wire.session.greet(&wire.server, &mut out);
        wire.read(&out);
        assert_eq!((wire.replies[0].seq, wire.replies[0].payload[0]), (0, 10));
        wire
    }

    fn read(&mut self, bytes: &[u8]) {
        let mut decoder = PacketDecoder::default();
        decoder.feed(bytes);
        self.replies.clear();
        while let Some(packet) = decoder.poll(usize::MAX).unwrap() {
            self.replies.push(packet);
        }
        assert!(!decoder.has_pending());
    }

    fn send(&mut self, seq: u8, payload: impl Into<Vec<u8>>) -> &[Packet] {
        let mut out = Vec::new();
        let env = SessionEnv {
            accounts: &self.accounts,
            rsa_key: &self.key,
            view: &self.server,
        };
        self.step = self.session.handle(
            Packet {
                seq,
                payload: payload.into(),
            },
            env,
            &mut out,
        );
        self.read(&out);
        for (i, reply) in self.replies.iter().enumerate() {
            assert_eq!(
                reply.seq,
                seq.wrapping_add(1 + i as u8),
                "sequence numbers count on"
            );
        }
        &self.replies
    }

    fn login(user: &str, caps: u32) -> Self {
        let mut wire = Self::new(false);
        let answer = sha2_answer("s3cret", &SALT);
        wire.send(1, hello(caps, user, &answer, "caching_sha2_password"));
        assert_eq!(wire.step, Step::Authenticated);
        wire
    }

    fn error(&self) -> (u16, String) {
        let last = &self.replies.last().unwrap().payload;
        assert_eq!(last[0], 0xff, "{last:?}");
        let code = u16::from_le_bytes([last[1], last[2]]);
        (code, String::from_utf8_lossy(&last[9..]).into_owned())
    }
}

const PLAIN: u32 = 0x0008_a200;

fn hello(caps: u32, user: &str, answer: &[u8], plugin: &str) -> Vec<u8> {
    let mut p = caps.to_le_bytes().to_vec();
    p.extend_from_slice(&[0, 0, 0, 1, 255]);
    p.extend_from_slice(&[0; 23]);
    p.extend_from_slice(user.as_bytes());
    p.push(0);
    p.push(answer.len() as u8);
    p.extend_from_slice(answer);
    p.extend_from_slice(plugin.as_bytes());
    p.push(0);
    p
}

#[test]
fn the_fast_path_is_03_then_ok() {
    let mut wire = Wire::new(false);
    let answer = sha2_answer("s3cret", &SALT);
    let replies = wire.send(1, hello(PLAIN, "repl", &answer, "caching_sha2_password"));
    assert_eq!(replies[0].payload, [1, 3]);
    assert_eq!(replies[1].payload, b"\0\0\0\x02\0\0\0");
    assert_eq!(wire.step, Step::Authenticated);
    assert_eq!(wire.session.user(), Some("repl"));
}

#[test]
fn a_client_that_guessed_another_plugin_is_switched() {
    // A MariaDB replica names mysql_native_password with an empty answer.
    let mut wire = Wire::new(false);
    let replies = wire.send(1, hello(PLAIN, "repl", b"", "mysql_native_password"));
    assert_eq!(
        replies[0].payload,
        [b"\xfecaching_sha2_password\0", &SWITCH.0[..], b"\0"].concat()
    );
    let replies = wire.send(3, sha2_answer("s3cret", &SWITCH));
    assert_eq!(replies[0].payload, [1, 3]);
    assert_eq!(wire.step, Step::Authenticated);
    // And a MySQL 9 client that meets a native account.
    let mut wire = Wire::new(false);
    let answer = sha2_answer("s3cret", &SALT);
    let replies = wire.send(1, hello(PLAIN, "maria", &answer, "caching_sha2_password"));
    assert!(
        replies[0]
            .payload
            .starts_with(b"\xfemysql_native_password\0")
    );
    wire.send(3, native_answer("s3cret", &SWITCH));
    assert_eq!(wire.step, Step::Authenticated);
}

#[test]
fn full_authentication_by_key_accepts_the_right_password_and_no_other() {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
    for (password, accepted) in [("s3cret", true), ("wrong", false)] {
        let mut wire = Wire::new(false);
        let garbage = [7; 32];
        let replies = wire.send(1, hello(PLAIN, "repl", &garbage, "caching_sha2_password"));
        assert_eq!(replies[0].payload, [1, 4]);
        let replies = wire.send(3, [2]);
        assert!(
            replies[0]
                .payload
                .starts_with(b"\x01-----BEGIN PUBLIC KEY-----\nMI")
        );
        let der: PublicKeyX509Der<'_> = wire.key.public_key().as_der().unwrap();
        let key = PublicEncryptingKey::from_der(der.as_ref()).unwrap();
        let key = OaepPublicEncryptingKey::new(key).unwrap();
        let mut clear = [password.as_bytes(), b"\0"].concat();
        crate::wire::auth::xor_with_salt(&mut clear, &SALT);
        let mut sealed = vec![0; key.ciphertext_size()];
        key.encrypt(&OAEP_SHA1_MGF1SHA1, &clear, &mut sealed, None)
            .unwrap();
        wire.send(5, sealed);
        if accepted {
            assert_eq!(wire.step, Step::Authenticated);
        } else {
            assert_eq!(wire.step, Step::Close);
            assert_eq!(
                wire.error(),
                (
                    1045,
                    "Access denied for user 'repl'@'h' (using password: YES)".into()
                )
            );
        }
    }
}

#[test]
fn over_tls_the_password_comes_in_clear() {
    let mut wire = Wire::new(true);
    let mut request = (PLAIN | 0x800).to_le_bytes().to_vec();
    request.extend_from_slice(&[0; 28]);
    wire.send(1, request);
    assert_eq!(wire.step, Step::StartTls);
    wire.session.tls_started(tls_13());
    let answer = hello(PLAIN | 0x800, "repl", &[7; 32], "caching_sha2_password");
    assert_eq!(wire.send(2, answer)[0].payload, [1, 4]);
    wire.send(4, *b"s3cret\0");
    assert_eq!(wire.step, Step::Authenticated);
    assert_eq!(wire.session.state().unwrap().encryption, Some(tls_13()));
}

#[test]
fn an_account_can_ask_for_the_password_itself() {
    let right = sha2_answer("s3cret", &SALT);
    for (password, step) in [
        (&b"s3cret\0"[..], Step::Authenticated),
        (b"other\0", Step::Close),
    ] {
        let mut wire = Wire::new(true);
        let mut request = (PLAIN | 0x800).to_le_bytes().to_vec();
        request.extend_from_slice(&[0; 28]);
        wire.send(1, request);
        wire.session.tls_started(tls_13());
        let answer = hello(PLAIN | 0x800, "full", &right, "caching_sha2_password");
        assert_eq!(wire.send(2, answer)[0].payload, [1, 4]);
        wire.send(4, password);
        assert_eq!(wire.step, step);
    }
}

fn tls_13() -> Encryption {
    Encryption {
        version: "TLSv1.3",
        cipher: "TLS_AES_256_GCM_SHA384".to_owned(),
    }
}

#[test]
fn tls_that_was_not_offered_is_a_bad_handshake() {
    let mut wire = Wire::new(false);
    let mut request = (PLAIN | 0x800).to_le_bytes().to_vec();
    request.extend_from_slice(&[0; 28]);
    wire.send(1, request);
    assert_eq!((wire.error().0, &wire.step), (1043, &Step::Close));
}

#[test]
fn an_unknown_user_cannot_be_told_from_a_wrong_password() {
    let mut conversations = Vec::new();
    for user in ["repl", "nobody"] {
        let mut wire = Wire::new(false);
        let mut seen = Vec::new();
        let wrong = sha2_answer("wrong", &SALT);
        for (seq, payload) in [
            (1, hello(PLAIN, user, &wrong, "caching_sha2_password")),
            (3, vec![2]),
            (5, vec![9; 256]),
        ] {
            for reply in wire.send(seq, payload) {
                let text = String::from_utf8_lossy(&reply.payload).replace(user, "USER");
                seen.push(text);
            }
        }
        assert_eq!(wire.error().0, 1045);
        conversations.push(seen);
    }
    assert_eq!(conversations[0], conversations[1]);
}

#[test]
fn an_empty_password_is_said_to_be_none() {
    let mut wire = Wire::new(false);
    wire.send(1, hello(PLAIN, "repl", b"", "caching_sha2_password"));
    assert_eq!(
        wire.error().1,
        "Access denied for user 'repl'@'h' (using password: NO)"
    );
    let mut wire = Wire::new(false);
    wire.send(1, hello(PLAIN, "nopw", b"", "caching_sha2_password"));
    assert_eq!(wire.step, Step::Authenticated);
}

#[test]
fn garbage_gets_an_error_and_the_end() {
    let mut wire = Wire::new(false);
    wire.send(1, *b"GET / HTTP/1.1");
    assert_eq!((wire.error().0, &wire.step), (1043, &Step::Close));
    let mut wire = Wire::new(false);
    let env = SessionEnv {
        accounts: &wire.accounts,
        rsa_key: &wire.key,
        view: &wire.server,
    };
    let mut out = Vec::new();
    let packet = Packet {
        seq: 9,
        payload: vec![0; 40],
    };
    assert_eq!(wire.session.handle(packet, env, &mut out), Step::Close);
    wire.read(&out);
    assert_eq!(wire.error().0, 1156);
    wire.send(1, hello(PLAIN, "repl", b"", ""));
    assert!(
        wire.replies.is_empty() && wire.step == Step::Close,
        "nothing after the end"
    );
}

#[test]
fn commands_answer_as_mysql_answers_them() {
    let mut wire = Wire::login("repl", PLAIN);
    assert_eq!(wire.send(0, [0x0e])[0].payload, b"\0\0\0\x02\0\0\0");
    assert_eq!(wire.send(0, *b"\x02shop")[0].payload[0], 0);
    assert_eq!(
        wire.session.state().unwrap().database.as_deref(),
        Some("shop")
    );
    assert!(
        wire.send(0, [0x09])[0]
            .payload
            .starts_with(b"Uptime: 9  Threads: ")
    );
    assert_eq!(wire.send(0, [0x1b, 0, 0])[0].payload, b"\xfe\0\0\x02\0");
    for unknown in [&b"\x05"[..], b"\x04t\0", b"\x63", b"", b"\x1b\x07\0"] {
        wire.send(0, unknown);
        assert_eq!(wire.error(), (1047, "Unknown command".into()));
        assert_eq!(wire.step, Step::Continue);
    }
    wire.send(0, *b"\x12\x01");
    assert_eq!(
        wire.error(),
        (1835, "Malformed communication packet.".into())
    );
    wire.send(0, *b"\x15\xca\0\0\0\0\0\0\xfb3\0\0\0\0\0\0\0\0");
    assert_eq!(
        wire.session
            .state()
            .unwrap()
            .replica
            .as_ref()
            .unwrap()
            .server_id,
        202
    );
    wire.send(0, *b"\x03SET @a = 5, autocommit = 0");
    assert_eq!(
        wire.replies[0].payload, b"\0\0\0\0\0\0\0",
        "the autocommit flag is gone"
    );
    wire.send(0, [0x1f]);
    let state = wire.session.state().unwrap();
    assert!(state.vars.user("a").is_none() && state.replica.is_none());
    wire.send(0, [0x01]);
    assert_eq!(wire.step, Step::Close);
}

#[test]
fn a_result_is_the_packets_a_mysql_9_replica_got() {
    let mut wire = Wire::login("repl", 0x99b8_a285 & !0x0090_0000 & !0x20_0000);
    let replies = wire.send(0, *b"\x03\x00\x01SELECT @@GLOBAL.SERVER_ID");
    let payloads: Vec<&[u8]> = replies.iter().map(|p| &p.payload[..]).collect();
    let expected: [&[u8]; 4] = [
        b"\x01",
        b"\x03def\0\0\0\x12@@GLOBAL.SERVER_ID\0\x0c?\0\x15\0\0\0\x08\xa0\0\0\0\0",
        b"\x03101",
        b"\xfe\0\0\x02\0\0\0",
    ];
    assert_eq!(payloads, expected);
    let replies = wire.send(
        0,
        *b"\x03\x00\x01SET @source_binlog_checksum = @@global.binlog_checksum",
    );
    assert_eq!(replies[0].payload, b"\0\0\0\x02\0\0\0");
    let replies = wire.send(0, *b"\x03\x00\x01SELECT @source_binlog_checksum");
    assert_eq!(
        replies[1].payload,
        b"\x03def\0\0\0\x17@source_binlog_checksum\0\x0c\xff\0\xf4\xff\xff\x0b\xfb\0\0\x1f\0\0"
    );
    let replies = wire.send(0, *b"\x03\x00\x01SELECT UNIX_TIMESTAMP()");
    assert_eq!(
        replies[1].payload,
        b"\x03def\0\0\0\x10UNIX_TIMESTAMP()\0\x0c?\0\x15\0\0\0\x08\x81\0\0\0\0"
    );
}

#[test]
fn several_statements_need_the_capability() {
    let mut wire = Wire::login("repl", PLAIN);
    wire.send(0, *b"\x03SELECT 1; SELECT 2");
    assert_eq!(wire.error().0, 1064);
    wire.send(0, *b"\x03SELECT 1;");
    assert_eq!(wire.replies[3].payload, b"\x011");
    wire.send(0, [0x1b, 0, 0]);
    wire.send(0, *b"\x03SET @a=1; SELECT @a; SELECT @@nosuch; SELECT 4");
    assert_eq!(
        wire.replies[0].payload, b"\0\0\0\x0a\0\0\0",
        "more results follow"
    );
    assert_eq!(wire.error().0, 1193, "the error ends the rest");
    wire.send(0, *b"\x03 ; ");
    assert_eq!(wire.error(), (1065, "Query was empty".into()));
}

#[test]
fn a_dump_needs_the_privilege_and_then_becomes_the_shells() {
    let mut wire = Wire::login("weak", PLAIN);
    wire.send(0, *b"\x12\x04\0\0\0\0\0\x07\0\0\0");
    assert!(wire.error().1.contains("REPLICATION SLAVE") && wire.step == Step::Continue);
    wire.send(0, *b"\x15\xca\0\0\0\0\0\0\xfb3\0\0\0\0\0\0\0\0");
    assert_eq!(wire.error().0, 1227);
    let mut wire = Wire::login("repl", PLAIN);
    wire.send(0, *b"\x03SET @master_binlog_checksum='ALL'");
    wire.send(0, *b"\x12\x04\0\0\0\x01\0\x07\0\0\0binlog.000001\0");
    let Step::Dump(request) = &wire.step else {
        panic!("{:?}", wire.step)
    };
    assert_eq!(request.command.file, b"binlog.000001");
    assert!(request.non_blocking() && wire.replies.is_empty());
    assert_eq!(
        request.options.checksum,
        crate::core::dump::ChecksumWish::Aware
    );
    let mut payload = vec![
        0x1e, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
    ];
    payload.push(1);
    wire.send(0, payload);
    assert_eq!((wire.error().0, &wire.step), (1773, &Step::Close));
}

#[test]
fn kill_and_events_are_deferred_with_their_sequence_number() {
    let mut wire = Wire::login("repl", PLAIN);
    wire.send(0, *b"\x0c\x08\0\0\0");
    assert!(matches!(
        &wire.step,
        Step::Deferred(Deferred::Kill(8), Reply { seq: 1, .. })
    ));
    wire.send(0, *b"\x0c\x63\0\0\0");
    assert_eq!(wire.error().0, 1094);
    wire.send(0, *b"\x03SHOW BINLOG EVENTS");
    assert!(matches!(
        &wire.step,
        Step::Deferred(Deferred::Events(_), Reply { seq: 1, .. })
    ));
    wire.send(0, [0x1b, 0, 0]);
    wire.send(0, *b"\x03SHOW BINLOG EVENTS; SELECT 1");
    assert_eq!(wire.error().0, 1235);
}

/// A COM_CHANGE_USER to `user` with this answer.
fn change_user(user: &str, answer: &[u8], plugin: &str) -> Vec<u8> {
    let mut p = vec![0x11];
    p.extend_from_slice(user.as_bytes());
    p.push(0);
    p.push(answer.len() as u8);
    p.extend_from_slice(answer);
    p.extend_from_slice(b"shop\0\xff\0");
    p.extend_from_slice(plugin.as_bytes());
    p.push(0);
    p
}

#[test]
fn a_change_of_user_starts_anew_or_ends() {
    let mut wire = Wire::login("repl", PLAIN);
    wire.send(0, *b"\x03SET @a = 5, wait_timeout = 9");
    wire.send(0, *b"\x16SELECT 1");
    // libmysqlclient answers the salt it already has.
    let answer = sha2_answer("s3cret", &SALT);
    let replies = wire.send(0, change_user("weak", &answer, "caching_sha2_password"));
    assert_eq!(replies[0].payload, [1, 3]);
    assert_eq!(replies[1].payload, b"\0\0\0\x02\0\0\0");
    assert_eq!(
        (&wire.step, wire.session.user()),
        (&Step::Authenticated, Some("weak"))
    );
    let state = wire.session.state().unwrap();
    assert_eq!(
        (state.database.as_deref(), state.charset.id),
        (Some("shop"), 255)
    );
    assert!(state.vars.user("a").is_none() && !state.privileges.admin);
    wire.send(0, *b"\x17\x01\0\0\0\0\x01\0\0\0");
    assert_eq!(wire.error().0, 1243, "statements are gone");
    // To an account with the other plugin: switched, and from then on the new salt counts.
    wire.send(0, change_user("maria", &answer, "caching_sha2_password"));
    assert!(
        wire.replies[0]
            .payload
            .starts_with(b"\xfemysql_native_password\0")
    );
    wire.send(2, native_answer("s3cret", &SWITCH));
    assert_eq!(wire.step, Step::Authenticated);
    wire.send(
        0,
        change_user(
            "maria",
            &native_answer("s3cret", &SALT),
            "mysql_native_password",
        ),
    );
    assert_eq!((wire.error().0, &wire.step), (1045, &Step::Close));
    let mut wire = Wire::login("repl", PLAIN);
    wire.send(0, *b"\x11repl\0\x20abc");
    assert_eq!((wire.error().0, &wire.step), (1835, &Step::Close));
}

#[test]
fn an_account_may_need_tls() {
    for (tls, step) in [(false, Step::Close), (true, Step::Authenticated)] {
        let mut wire = Wire::new(true);
        let mut seq = 1;
        if tls {
            let mut request = (PLAIN | 0x800).to_le_bytes().to_vec();
            request.extend_from_slice(&[0; 28]);
            wire.send(1, request);
            wire.session.tls_started(tls_13());
            seq = 2;
        }
        let answer = sha2_answer("s3cret", &SALT);
        wire.send(
            seq,
            hello(PLAIN, "secure", &answer, "caching_sha2_password"),
        );
        assert_eq!(wire.step, step, "{tls}");
    }
}

#[test]
fn clients_from_before_plugins_speak_native() {
    let mut wire = Wire::new(false);
    let caps = PLAIN & !0x0008_0000;
    let answer = native_answer("s3cret", &SALT);
    wire.send(1, hello(caps, "maria", &answer, ""));
    assert_eq!(wire.step, Step::Authenticated);
}

#[test]
fn statements_are_prepared_executed_and_closed() {
    let mut wire = Wire::login("repl", PLAIN);
    let replies = wire.send(0, *b"\x16SELECT ? AS a, VERSION(), CONNECTION_ID()");
    assert_eq!(replies[0].payload, b"\0\x01\0\0\0\x03\0\x01\0\0\0\0");
    assert_eq!(
        replies.len(),
        1 + 2 + 4,
        "parameters and columns, each with its EOF"
    );
    // 'x' as VAR_STRING.
    let replies = wire.send(0, *b"\x17\x01\0\0\0\0\x01\0\0\0\0\x01\xfd\0\x01x");
    assert_eq!(replies[0].payload, [3]);
    let row = b"\0\0\x01x\x0f8.4.9-tributary\x07\0\0\0\0\0\0\0";
    assert_eq!(replies[5].payload, row);
    // The types of the last time, NULL.
    let replies = wire.send(0, *b"\x17\x01\0\0\0\0\x01\0\0\0\x01\0");
    assert_eq!(replies[5].payload[..2], [0, 4]);
    // Long data counts once.
    assert!(wire.send(0, *b"\x18\x01\0\0\0\0\0long").is_empty());
    assert!(wire.send(0, *b"\x18\x01\0\0\0\0\0er").is_empty());
    let replies = wire.send(0, *b"\x17\x01\0\0\0\0\x01\0\0\0\0\0");
    assert!(replies[5].payload.starts_with(b"\0\0\x06longer"));
    wire.send(0, *b"\x17\x01\0\0\0\0\x01\0\0\0");
    assert_eq!(wire.error().0, 1210);
    assert_eq!(wire.send(0, *b"\x1a\x01\0\0\0")[0].payload[0], 0);
    assert!(wire.send(0, *b"\x19\x01\0\0\0").is_empty());
    for gone in [
        &b"\x17\x01\0\0\0\0\x01\0\0\0"[..],
        b"\x1a\x01\0\0\0",
        b"\x1c\x01\0\0\0\x05\0\0\0",
    ] {
        wire.send(0, gone);
        assert_eq!(wire.error().0, 1243);
    }
    for (sql, code) in [
        ("", 1065),
        ("SELECT 1; SELECT 2", 1064),
        ("SELECT @@nosuch", 1193),
    ] {
        wire.send(0, [&[0x16], sql.as_bytes()].concat());
        assert_eq!(wire.error().0, code, "{sql}");
    }
    let replies = wire.send(0, *b"\x16SET @q = ?");
    assert_eq!(replies[0].payload[5..9], [0, 0, 1, 0]);
    wire.send(0, *b"\x17\x02\0\0\0\0\x01\0\0\0\0\x01\x01\0\xfb");
    let replies = wire.send(0, *b"\x03SELECT @q");
    assert_eq!(replies[3].payload, b"\x02-5");
    wire.send(0, *b"\x16SHOW BINLOG EVENTS LIMIT 3");
    wire.send(0, *b"\x17\x03\0\0\0\0\x01\0\0\0");
    assert!(matches!(
        &wire.step,
        Step::Deferred(Deferred::Events(_), Reply { binary: true, .. })
    ));
}

#[test]
fn a_cursor_gives_rows_when_they_are_fetched() {
    // As Connector/J asks with useCursorFetch: flags 0x09, and EOF deprecated.
    let mut wire = Wire::login("repl", PLAIN | 0x0900_0000);
    wire.send(0, *b"\x16SHOW BINARY LOGS");
    let replies = wire.send(0, *b"\x17\x01\0\0\0\x09\x01\0\0\0\0");
    assert_eq!(replies.len(), 1 + 3 + 1);
    assert_eq!(replies[4].payload, b"\xfe\0\0\x42\0\0\0");
    let replies = wire.send(0, *b"\x1c\x01\0\0\0\x02\0\0\0");
    assert_eq!(replies.len(), 3);
    assert_eq!(replies[2].payload, b"\xfe\0\0\x42\0\0\0");
    let replies = wire.send(0, *b"\x1c\x01\0\0\0\x02\0\0\0");
    assert_eq!(replies.len(), 2);
    assert_eq!(replies[1].payload, b"\xfe\0\0\x82\0\0\0");
    wire.send(0, *b"\x1c\x01\0\0\0\x02\0\0\0");
    assert_eq!(wire.error().0, 1421);
}

#[test]
fn a_session_holds_only_so_many_statements() {
    let mut wire = Wire::login("repl", PLAIN);
    for _ in 0..1024 {
        wire.send(0, *b"\x16SET @a = 1");
    }
    wire.send(0, *b"\x16SET @a = 1");
    assert_eq!(wire.error().0, 1461);
    wire.send(0, *b"\x19\x01\0\0\0");
    assert_eq!(wire.send(0, *b"\x16SET @a = 1")[0].payload[0], 0);
    wire.send(0, [0x1f]);
    wire.send(0, *b"\x17\x02\0\0\0\0\x01\0\0\0");
    assert_eq!(wire.error().0, 1243, "a reset forgets them");
}

#[test]
fn open_transactions_show_in_the_status() {
    let mut wire = Wire::login("repl", PLAIN);
    for (sql, status) in [
        ("START TRANSACTION WITH CONSISTENT SNAPSHOT", 3),
        ("ROLLBACK TO SAVEPOINT a", 3),
        ("SELECT 1", 3),
        ("COMMIT", 2),
        ("BEGIN", 3),
        ("ROLLBACK", 2),
    ] {
        let replies = wire.send(0, [&[3], sql.as_bytes()].concat());
        let last = &replies.last().unwrap().payload;
        assert_eq!(last[3], status, "{sql}: {last:?}");
    }
}
