//! A server that says exactly what a test wants: damaged events, silence, packets of 16 MiB, bytes in odd portions.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tributary_binlog::{ChecksumAlg, EventReader, GtidSet};
use tributary_collector::{ConnError, DumpConn, DumpOptions, NodeUrl, TlsMode};
use tributary_flow::ErrorClass;

use crate::fixtures::events_of;
use crate::stream::Stream;

const MAX: usize = 0xff_ffff;

/// Appends a message as packets.
pub(crate) fn put_message(out: &mut Vec<u8>, seq: &mut u8, message: &[u8]) {
    for part in message
        .chunks(MAX)
        .chain(message.len().is_multiple_of(MAX).then_some(&[][..]))
    {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
        out.push(*seq);
        *seq = seq.wrapping_add(1);
        out.extend_from_slice(part);
    }
}

/// Events that lie back to back as the packets of a dump; the first has number 1.
pub(crate) fn dump_packets(events: &[u8]) -> Vec<u8> {
    let (mut out, mut seq) = (Vec::new(), 1);
    let mut reader = EventReader::new(events, ChecksumAlg::Crc32);
    while let Some(event) = reader.next().unwrap() {
        let message = [&[0], event.bytes].concat();
        put_message(&mut out, &mut seq, &message);
    }
    out
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];

async fn read_message(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    socket.read_exact(&mut header).await.ok()?;
    let len = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
    let mut message = vec![0; len];
    socket.read_exact(&mut message).await.ok()?;
    Some(message)
}

async fn send(socket: &mut TcpStream, mut seq: u8, messages: &[&[u8]]) {
    let mut out = Vec::new();
    for message in messages {
        put_message(&mut out, &mut seq, message);
    }
    socket.write_all(&out).await.unwrap();
}

/// Serves one connection: logs anyone in, then answers the dump with `dump` in portions of `portion` bytes and keeps quiet.
pub(crate) async fn serve(dump: Vec<u8>, portion: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut greeting = b"\x0a9.7.4-fake\0\x01\0\0\0ABCDEFGH\0".to_vec();
        greeting.extend_from_slice(&[0xff, 0xf7, 255, 2, 0, 0xff, 0xdf, 21]);
        greeting.extend_from_slice(&[0; 10]);
        greeting.extend_from_slice(b"IJKLMNOPQRST\0caching_sha2_password\0");
        send(&mut socket, 0, &[&greeting]).await;
        read_message(&mut socket).await.unwrap();
        send(&mut socket, 2, &[&[1, 3], OK]).await;
        while let Some(command) = read_message(&mut socket).await {
            match command[0] {
                0x12 | 0x1e => {
                    for block in dump.chunks(portion) {
                        if socket.write_all(block).await.is_err() {
                            return;
                        }
                    }
                }
                0x03 if command.starts_with(b"\x03SELECT") => {
                    let row: &[u8] = b"\x05CRC32";
                    send(&mut socket, 1, &[&[1], b"\x03def", EOF, row, EOF]).await;
                }
                _ => send(&mut socket, 1, &[OK]).await,
            }
        }
    });
    address
}

pub(crate) async fn dump_from(address: SocketAddr, heartbeat: Duration) -> DumpConn {
    let url = NodeUrl {
        host: address.ip().to_string(),
        port: address.port(),
        user: "repl".into(),
        password: "secret".into(),
        tls: TlsMode::Preferred,
        ca: None,
    };
    let mut conn = DumpConn::connect(&url).await.unwrap();
    assert_eq!(conn.version(), "9.7.4-fake");
    let options = DumpOptions {
        server_id: 9,
        replica_uuid: None,
        heartbeat,
        blocking: true,
        semi_sync: false,
    };
    conn.dump_gtid(&options, &GtidSet::new()).await.unwrap();
    conn
}

/// Reads `n` events, or up to an error.
async fn read(conn: &mut DumpConn, n: usize) -> Result<Vec<Vec<u8>>, (usize, ConnError)> {
    let mut out = Vec::new();
    while out.len() < n {
        let mut block = match conn.next_block().await {
            Ok(block) => block,
            Err(e) => return Err((out.len(), e)),
        };
        loop {
            match block.next_event() {
                Ok(Some(event)) => out.push(event.bytes.to_vec()),
                Ok(None) => break,
                Err(e) => return Err((out.len(), e)),
            }
        }
    }
    Ok(out)
}

fn events_in(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = EventReader::new(bytes, ChecksumAlg::Crc32);
    let mut out = Vec::new();
    while let Some(event) = reader.next().unwrap() {
        out.push(event.bytes.to_vec());
    }
    out
}

#[tokio::test]
async fn events_arrive_whole_whatever_the_portions() {
    for name in ["rows-full", "no-checksum", "compressed"] {
        let mut bytes = Stream::rotate_event("binlog.000002", 4);
        bytes.extend_from_slice(&events_of(name));
        let want = events_in(&bytes);
        for portion in [1, 7, 100, 4096] {
            let address = serve(dump_packets(&bytes), portion).await;
            let mut conn = dump_from(address, Duration::from_secs(5)).await;
            assert_eq!(
                read(&mut conn, want.len()).await.unwrap(),
                want,
                "{name} {portion}"
            );
        }
    }
}

#[tokio::test]
async fn events_of_16_mib_and_more_are_joined() {
    let mut s = Stream::file();
    // Sizes around the greatest packet: the status byte, 19 bytes of header and 4 of checksum count.
    for len in [MAX - 25, MAX - 24, MAX - 23, 2 * MAX - 24, 2 * MAX + 5] {
        s.rows(len);
    }
    let want = events_in(&s.0);
    let address = serve(dump_packets(&s.0), 1 << 20).await;
    let mut conn = dump_from(address, Duration::from_secs(5)).await;
    let got = read(&mut conn, want.len()).await.unwrap();
    assert!(got == want);
}

#[tokio::test]
async fn a_flipped_bit_is_noticed_and_halts() {
    let mut s = Stream::file();
    s.local(1, 500).local(2, 500);
    let mut packets = dump_packets(&s.0);
    let at = packets.len() - 200;
    packets[at] ^= 1;
    let address = serve(packets, 1000).await;
    let mut conn = dump_from(address, Duration::from_secs(5)).await;
    let (before, error) = read(&mut conn, 100).await.unwrap_err();
    assert!(before >= 5, "events in front of it are good");
    assert!(matches!(error, ConnError::Frame(_)), "{error}");
    assert_eq!(error.class(), ErrorClass::Halt);
}

#[tokio::test]
async fn errors_and_the_end_of_a_dump_are_told_apart() {
    let s = Stream::file();
    let texts: [(&[u8], &str); 3] = [
        (
            b"\xff\xd4\x04#HY000purged",
            "reading the dump: ERROR 1236 (HY000): purged",
        ),
        (EOF, "the node ended the dump"),
        (
            b"\x07what",
            "unexpected packet (first byte 0x07, 5 bytes) while reading the dump",
        ),
    ];
    for (message, text) in texts {
        let mut packets = dump_packets(&s.0);
        let mut seq = 2;
        put_message(&mut packets, &mut seq, message);
        let address = serve(packets, 1000).await;
        let mut conn = dump_from(address, Duration::from_secs(5)).await;
        let (before, error) = read(&mut conn, 100).await.unwrap_err();
        assert_eq!((before, error.to_string().as_str()), (1, text));
        assert_eq!(error.class(), ErrorClass::Retry);
    }
}

#[tokio::test]
async fn silence_of_three_heartbeats_ends_a_connection() {
    let s = Stream::file();
    let address = serve(dump_packets(&s.0), 1000).await;
    let mut conn = dump_from(address, Duration::from_millis(400)).await;
    let began = Instant::now();
    let (before, error) = read(&mut conn, 2).await.unwrap_err();
    assert_eq!(before, 1);
    assert!(matches!(error, ConnError::Timeout { .. }), "{error}");
    let waited = began.elapsed();
    assert!(
        waited > Duration::from_millis(1100) && waited < Duration::from_secs(5),
        "{waited:?}"
    );
}
