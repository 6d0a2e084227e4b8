//! What does not speak the protocol, or not all of it, harms nothing.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{PASSWORD, Raw, Running, config, eventually, fixture_log};

async fn still_works(running: &Running) {
    let mut conn = mysql_async::Conn::new(running.opts("repl", PASSWORD))
        .await
        .unwrap();
    assert_eq!(
        conn.query_first::<u32, _>("SELECT 1").await.unwrap(),
        Some(1)
    );
    conn.disconnect().await.unwrap();
}

async fn speak(running: &Running, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset is as good an end as a close.
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(5), read)
        .await
        .expect("closed in time");
    answer
}

#[tokio::test]
async fn other_protocols_get_an_error_and_are_closed() {
    let running = Running::fixtures().await;
    let answer = speak(&running, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.windows(5).any(|w| w == b"08S01"), "{answer:?}");
    let answer = speak(&running, b"\x05\0\0\x01abcde").await;
    assert!(
        answer.windows(13).any(|w| w == b"Bad handshake"),
        "{answer:?}"
    );
    // 16 MiB announced before authentication.
    let answer = speak(&running, b"\xfe\xff\xff\x01").await;
    assert!(
        answer.windows(13).any(|w| w == b"Bad handshake"),
        "{answer:?}"
    );
    let answer = speak(
        &running,
        b"\x28\0\0\x07aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    )
    .await;
    assert!(
        answer.windows(24).any(|w| w == b"Got packets out of order"),
        "{answer:?}"
    );
    for seed in 0u32..200 {
        let mut x = seed.wrapping_mul(2_654_435_761) | 1;
        let noise: Vec<u8> = (0..64)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 17;
                x ^= x << 5;
                x as u8
            })
            .collect();
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(&noise).await.unwrap();
    }
    still_works(&running).await;
    let server = running.server.clone();
    eventually("the connections are gone", || server.clients().is_empty()).await;
    running.stop().await;
}

#[tokio::test]
async fn a_silent_client_is_closed_after_the_handshake_timeout() {
    let mut config = config();
    config.handshake_timeout = Duration::from_millis(200);
    let running = Running::start(config, fixture_log()).await;
    let start = std::time::Instant::now();
    let answer = speak(&running, b"").await;
    assert_eq!(answer[4], 10, "only the greeting came");
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(running.server.counters().connections_aborted, 1);
    // One that is in time stays.
    let mut raw = Raw::connect(running.address).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    raw.ok("SET @a = 1").await;
    running.stop().await;
}

#[tokio::test]
async fn too_many_connections_are_refused_and_counted() {
    let mut config = config();
    config.max_connections = 2;
    let running = Running::start(config, fixture_log()).await;
    let first = Raw::connect(running.address).await;
    let _second = Raw::connect(running.address).await;
    let answer = speak(&running, b"").await;
    assert_eq!(answer, b"\x17\0\0\0\xff\x10\x04Too many connections");
    let counters = running.server.counters();
    assert_eq!(
        (counters.connections_refused, counters.errors.get(&1040)),
        (1, Some(&1))
    );
    drop(first);
    let server = running.server.clone();
    eventually("a place is free", || server.clients().len() == 1).await;
    Raw::connect(running.address).await.ok("SET @a = 1").await;
    running.stop().await;
}

#[tokio::test]
async fn a_command_over_the_cap_ends_its_connection_only() {
    let running = Running::fixtures().await;
    let mut raw = Raw::connect(running.address).await;
    // Two full packets announce more than 16 MiB.
    raw.write(0, &vec![3; 0xff_ffff]).await;
    raw.write(1, &[3; 16]).await;
    let error = raw.error().await;
    assert!(error.0 == 1153 || error.0 == 1064, "{error:?}");
    still_works(&running).await;
    running.stop().await;
}
