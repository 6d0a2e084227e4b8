//! The parsers of what a node sends, for the fuzzing targets: only with the feature `fuzzing`, never in a program.
//!
//! In: bytes. Out: a panic when something that must hold does not.

use crate::wire::auth::{Auth, AuthStep};
use crate::wire::handshake::Greeting;
use crate::wire::packet::{PacketBuffer, put_packet};
use crate::wire::reply::Reply;
use crate::wire::rows::{ResultReader, Step};

/// One way to look at what a node says, chosen by the first byte; the second says in which pieces the rest arrives.
pub fn packets(data: &[u8]) {
    let [way, step, bytes @ ..] = data else {
        return;
    };
    let step = usize::from(*step).max(1);
    let (messages, ok) = split(bytes, bytes.len().max(1));
    assert_eq!(
        split(bytes, step),
        (messages.clone(), ok),
        "however the bytes arrive"
    );
    put_again(&messages);
    match way % 4 {
        0 => greeting(bytes),
        1 => login(&messages),
        2 => result(&messages),
        _ => messages.iter().for_each(|m| {
            let _ = Reply::parse(m);
        }),
    }
}

/// The messages in these bytes, and whether no packet was lost.
fn split(bytes: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
    let mut buffer = PacketBuffer::default();
    buffer.expect_seq(bytes.get(3).copied().unwrap_or(0));
    let mut messages = Vec::new();
    for piece in bytes.chunks(step) {
        buffer.room().extend_from_slice(piece);
        loop {
            match buffer.advance() {
                Ok(true) => messages.push(buffer.current().to_vec()),
                Ok(false) => break,
                Err(_) => return (messages, false),
            }
        }
    }
    (messages, true)
}

fn put_again(messages: &[Vec<u8>]) {
    let (mut bytes, mut seq) = (Vec::new(), 250);
    for message in messages {
        seq = put_packet(&mut bytes, seq, message);
    }
    let mut buffer = PacketBuffer::default();
    buffer.expect_seq(250);
    buffer.room().extend_from_slice(&bytes);
    for message in messages {
        assert_eq!(buffer.advance(), Ok(true));
        assert_eq!(buffer.current(), message);
    }
    assert_eq!((buffer.advance(), buffer.next_seq()), (Ok(false), seq));
}

fn greeting(packet: &[u8]) {
    let Ok(greeting) = Greeting::parse(packet) else {
        return;
    };
    assert!(greeting.nonce.len() <= 20);
    let auth = Auth::new("s3cret", false, &greeting.plugin, &greeting.nonce);
    let (plugin, answer) = (auth.plugin_name(), auth.answer());
    for tls in [false, true] {
        let response = greeting.response(tls, "repl", plugin, &answer);
        if greeting.offers_tls() == tls {
            let prefix = if tls {
                greeting.ssl_request()
            } else {
                response.clone()
            };
            assert!(response.starts_with(prefix.get(..32).unwrap_or_default()));
        }
    }
}

fn login(messages: &[Vec<u8>]) {
    for (tls, password) in [(false, "s3cret"), (true, "s3cret"), (false, "")] {
        let mut auth = Auth::new(
            password,
            tls,
            "caching_sha2_password",
            b"01234567890123456789",
        );
        for message in messages {
            match auth.handle(message) {
                Ok(AuthStep::Send(bytes)) => {
                    let clear = bytes.windows(6).any(|w| w == b"s3cret");
                    assert!(tls || !clear, "the password is never sent in clear");
                }
                Ok(AuthStep::Wait) => {}
                Ok(AuthStep::Done) | Err(_) => break,
            }
        }
    }
}

fn result(messages: &[Vec<u8>]) {
    let mut reader = ResultReader::default();
    let bytes: usize = messages.iter().map(Vec::len).sum();
    for message in messages {
        match reader.handle(message) {
            Ok(Step::More) => {}
            Ok(Step::Done) => {
                let (_, rows) = reader.into_table();
                let values = rows.iter().flatten().flatten().map(Vec::len).sum::<usize>();
                assert!(values <= bytes, "no value is made up");
                return;
            }
            Ok(Step::Failed(_)) | Err(_) => return,
        }
    }
}
