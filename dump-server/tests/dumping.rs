//! Dumps that follow a log, and how they end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tributary_binlog::{EventType, GtidEvent, MAGIC, flags};
use tributary_store::GlobalLog;

use crate::support::{Growing, Raw, Running, UUID, config, eventually, fixture_log, fixtures};

/// Puts the files together again from the events of a dump that started at a file's start.
#[derive(Default)]
struct Rebuilt {
    current: String,
    files: BTreeMap<String, Vec<u8>>,
}

impl Rebuilt {
    /// Takes events until the files are as long as these.
    async fn follow(&mut self, raw: &mut Raw, expected: &[(String, Vec<u8>)]) {
        while !self.has(expected) {
            let (header, bytes) = raw.event().await;
            let artificial = header.flags & flags::ARTIFICIAL != 0;
            match header.event_type {
                EventType::ROTATE if artificial => {
                    let name = bytes[27..].strip_suffix(&bytes[bytes.len() - 4..]).unwrap();
                    let name = if self.files.is_empty() {
                        &bytes[27..]
                    } else {
                        name
                    };
                    self.current = String::from_utf8(name.to_vec()).unwrap();
                    self.files.insert(self.current.clone(), MAGIC.to_vec());
                }
                EventType::HEARTBEAT | EventType::HEARTBEAT_V2 => {}
                _ => self
                    .files
                    .get_mut(&self.current)
                    .unwrap()
                    .extend_from_slice(&bytes),
            }
        }
        for (name, bytes) in expected {
            assert!(self.files[name] == in_use_cleared(bytes), "{name}");
        }
    }

    fn has(&self, expected: &[(String, Vec<u8>)]) -> bool {
        expected
            .iter()
            .all(|(name, bytes)| self.files.get(name).is_some_and(|f| f.len() >= bytes.len()))
    }
}

fn in_use_cleared(file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    tributary_binlog::set_in_use(&mut file[4..], false);
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_follow_get_every_byte_once_across_files() {
    let mut growing = Growing::new(40_000);
    growing.commit(30, 200);
    let running = Running::start(config(), growing.log.clone()).await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::connect(running.address).await;
        raw.ok("SET @master_binlog_checksum = 'NONE'").await;
        raw.dump("", 4, 0, 0x1000 + readers.len() as u32).await;
        readers.push((raw, Rebuilt::default()));
    }
    for round in 0..40 {
        growing.commit(1 + round % 7, 150);
        if round % 8 == 0 {
            let files = growing.files();
            let (raw, rebuilt) = &mut readers[0];
            rebuilt.follow(raw, &files).await;
        }
        // Commits fall before, into and behind the wait of the readers.
        tokio::time::sleep(Duration::from_micros(300 * (round % 5))).await;
    }
    let files = growing.files();
    assert!(files.len() > 1, "the log has rotated");
    for (raw, rebuilt) in &mut readers {
        rebuilt.follow(raw, &files).await;
        assert!(
            raw.is_quiet(Duration::from_millis(50)).await,
            "nothing comes twice"
        );
    }
    let clients = running.server.clients();
    assert_eq!(clients.len(), 3);
    let (last, bytes) = files.last().unwrap();
    for client in &clients {
        assert_eq!(client.file.as_ref(), Some(last));
        assert_eq!(
            (client.position, client.caught_up),
            (bytes.len() as u64, true)
        );
        assert_eq!(client.command, "Binlog Dump");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_follower_by_gtid_starts_behind_what_it_has() {
    let mut growing = Growing::new(20_000);
    growing.commit(100, 300);
    let running = Running::start(config(), growing.log.clone()).await;
    let mut raw = Raw::connect(running.address).await;
    raw.ok("SET @source_binlog_checksum = @@global.binlog_checksum")
        .await;
    raw.dump_gtid(&format!("{UUID}:1-90"), 0, 9).await;
    let mut gnos = Vec::new();
    while gnos.len() < 10 {
        let (header, bytes) = raw.event().await;
        if header.event_type == EventType::GTID {
            let gtid = GtidEvent::parse(header.event_type, &bytes[19..bytes.len() - 4]).unwrap();
            gnos.push(gtid.gtid.unwrap().gno.get());
        }
    }
    assert_eq!(gnos, (91..=100).collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test]
async fn heartbeats_come_at_the_asked_period_while_nothing_happens() {
    let running = Running::fixtures().await;
    let mut raw = Raw::connect(running.address).await;
    raw.ok("SET @master_binlog_checksum = 'NONE'").await;
    raw.ok("SET @master_heartbeat_period = 100000000, @source_heartbeat_period = 100000000")
        .await;
    raw.dump("binlog.000003", 1417, 2, 9).await;
    raw.event().await;
    raw.event().await;
    let start = Instant::now();
    for n in 1..=5u32 {
        let (header, bytes) = raw.event().await;
        assert_eq!(header.event_type, EventType::HEARTBEAT_V2);
        assert!(bytes.windows(13).any(|w| w == b"binlog.000003"));
        assert!(start.elapsed() >= Duration::from_millis(90) * n);
        assert!(start.elapsed() < Duration::from_millis(100) * n + Duration::from_secs(2));
    }
    // A MariaDB session gets version 1 for the same flag.
    let mut maria = Raw::connect(running.address).await;
    maria
        .ok("SET @master_binlog_checksum = 'NONE', @mariadb_slave_capability=4")
        .await;
    maria.ok("SET @master_heartbeat_period = 50000000").await;
    maria.dump("binlog.000003", 1417, 2, 10).await;
    maria.event().await;
    maria.event().await;
    assert_eq!(maria.event().await.0.event_type, EventType::HEARTBEAT);
    // Without a period there are none.
    let mut quiet = Raw::connect(running.address).await;
    quiet.ok("SET @master_binlog_checksum = 'NONE'").await;
    quiet.dump("binlog.000003", 1417, 2, 11).await;
    quiet.event().await;
    quiet.event().await;
    assert!(quiet.is_quiet(Duration::from_millis(300)).await);
    running.stop().await;
}

#[tokio::test]
async fn a_replica_that_connects_again_ends_its_older_dump() {
    let running = Running::fixtures().await;
    let start = async |uuid: Option<&str>, server_id| {
        let mut raw = Raw::connect(running.address).await;
        raw.ok("SET @master_binlog_checksum = 'NONE'").await;
        if let Some(uuid) = uuid {
            raw.ok(&format!(
                "SET @slave_uuid = '{uuid}', @replica_uuid = '{uuid}'"
            ))
            .await;
        }
        raw.dump("binlog.000003", 1417, 0, server_id).await;
        raw.event().await;
        raw.event().await;
        raw
    };
    let mut first = start(Some("aaaa-1"), 5).await;
    let mut other = start(Some("aaaa-2"), 5).await;
    let mut nameless = start(None, 5).await;
    let _again = start(Some("aaaa-1"), 6).await;
    let (code, text) = first.error().await;
    assert_eq!(code, 1236);
    assert_eq!(
        text,
        "A replica with the same server_uuid/server_id as this replica has connected to the source; the first event \
         'binlog.000003' at 1417, the last event read from './binlog.000003' at 1417, the last byte read from \
         './binlog.000003' at 1417."
    );
    assert!(first.packet().await.is_none(), "and is closed");
    assert!(other.is_quiet(Duration::from_millis(50)).await);
    assert!(nameless.is_quiet(Duration::from_millis(1)).await);
    let _nameless_again = start(None, 5).await;
    assert_eq!(nameless.error().await.0, 1236);
    assert!(other.is_quiet(Duration::from_millis(50)).await);
    running.stop().await;
}

#[tokio::test]
async fn what_a_dumping_client_writes_is_not_answered() {
    let mut growing = Growing::new(1 << 20);
    let running = Running::start(config(), growing.log.clone()).await;
    let mut raw = Raw::connect(running.address).await;
    raw.ok("SET @master_binlog_checksum = 'NONE'").await;
    raw.dump("", 4, 0, 9).await;
    for _ in 0..3 {
        raw.event().await;
    }
    for _ in 0..50 {
        raw.write(0, &[0x0e]).await; // COM_PING
    }
    raw.write(0, &[0xef; 300]).await;
    assert!(raw.is_quiet(Duration::from_millis(100)).await);
    growing.commit(1, 10);
    assert_eq!(raw.event().await.0.event_type, EventType::GTID);
    running.stop().await;
}

#[tokio::test]
async fn a_closed_socket_and_a_kill_end_a_dump() {
    let running = Running::fixtures().await;
    let mut raw = Raw::connect(running.address).await;
    raw.ok("SET @master_binlog_checksum = 'NONE'").await;
    raw.dump("binlog.000003", 1417, 0, 9).await;
    raw.event().await;
    raw.event().await;
    assert_eq!(running.server.clients().len(), 1);
    drop(raw);
    let server = running.server.clone();
    eventually("the closed client is gone", || server.clients().is_empty()).await;

    let mut raw = Raw::connect(running.address).await;
    raw.ok("SET @master_binlog_checksum = 'NONE'").await;
    raw.dump("binlog.000003", 1417, 0, 9).await;
    raw.event().await;
    raw.event().await;
    let id = running.server.clients()[0].id;
    let mut admin = Raw::connect(running.address).await;
    admin.ok(&format!("KILL {id}")).await;
    assert!(raw.packet().await.is_none(), "closed");
    admin
        .write(0, &[&b"\x03"[..], format!("KILL {id}").as_bytes()].concat())
        .await;
    assert_eq!(
        admin.error().await,
        (1094, format!("Unknown thread id: {id}"))
    );
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_killed_all_the_same() {
    let mut growing = Growing::new(1 << 30);
    for _ in 0..12 {
        growing.commit(1, 4 << 20);
    }
    let running = Running::start(config(), growing.log.clone()).await;
    let mut raw = Raw::connect(running.address).await;
    raw.ok("SET @master_binlog_checksum = 'NONE'").await;
    raw.dump("", 4, 0, 9).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let id = running.server.clients()[0].id;
    Raw::connect(running.address)
        .await
        .ok(&format!("KILL {id}"))
        .await;
    let server = running.server.clone();
    eventually("it is gone", || {
        !server.clients().iter().any(|c| c.id == id)
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_idle_dumps() {
    let running = Running::fixtures().await;
    let mut raw = Raw::connect(running.address).await;
    raw.ok("SET @master_binlog_checksum = 'NONE'").await;
    raw.dump("binlog.000003", 1417, 0, 9).await;
    raw.event().await;
    let mut idle = Raw::connect(running.address).await;
    let start = Instant::now();
    running.stop().await;
    assert!(start.elapsed() < Duration::from_secs(3));
    assert!(idle.packet().await.is_none());
}

#[tokio::test]
async fn events_of_any_size_arrive_whole() {
    let mut growing = Growing::new(1 << 30);
    // Around the read block, and around the packet limit.
    for padding in [
        100,
        200_000,
        262_000,
        262_200,
        300_000,
        5 << 20,
        (17 << 20) + 3,
        40 << 20,
        10,
    ] {
        growing.commit(1, padding);
    }
    let running = Running::start(config(), growing.log.clone()).await;
    let mut raw = Raw::connect(running.address).await;
    raw.ok("SET @master_binlog_checksum = 'NONE'").await;
    raw.dump("", 4, 0, 9).await;
    let mut rebuilt = Rebuilt::default();
    rebuilt.follow(&mut raw, &growing.files()).await;
    // Skipped ones, too.
    let mut raw = Raw::connect(running.address).await;
    raw.ok("SET @master_binlog_checksum = 'NONE'").await;
    raw.dump_gtid(&format!("{UUID}:1-8"), 1, 9).await;
    let mut types = Vec::new();
    while types.last() != Some(&EventType::XID) {
        types.push(raw.event().await.0.event_type);
    }
    assert_eq!(
        types[..5],
        [
            EventType::ROTATE,
            EventType::FORMAT_DESCRIPTION,
            EventType::PREVIOUS_GTIDS,
            EventType::HEARTBEAT,
            EventType::GTID
        ]
    );
    assert_eq!(raw.packet().await.unwrap(), b"\xfe\0\0\x02\0");
    assert!(
        raw.packet().await.is_none(),
        "the server closes behind the EOF"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_file_ends_the_dump_with_its_place() {
    let disk = tributary_store::MemDisk::new();
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "binlog.000002" {
            bytes[900] ^= 1;
        }
        disk.put(&name, &bytes);
    }
    let log = GlobalLog::from_dir(std::sync::Arc::new(disk), "binlog.index").unwrap();
    let running = Running::start(config(), log).await;
    let mut raw = Raw::connect(running.address).await;
    raw.ok("SET @master_binlog_checksum = 'NONE'").await;
    raw.dump("binlog.000002", 4, 1, 9).await;
    let mut last = 0;
    let (code, text) = loop {
        let packet = raw.packet().await.unwrap();
        if packet[0] == 0xff {
            let code = u16::from_le_bytes([packet[1], packet[2]]);
            break (code, String::from_utf8_lossy(&packet[9..]).into_owned());
        }
        last = u32::from_le_bytes(packet[14..18].try_into().unwrap());
    };
    assert_eq!((code, last), (1236, 857));
    assert_eq!(
        text,
        "event read from binlog did not pass crc check; the first event 'binlog.000002' at 4, the last event read \
         from './binlog.000002' at 857, the last byte read from './binlog.000002' at 928."
    );
    assert_eq!(running.server.counters().errors.get(&1236), Some(&1));
    running.stop().await;
}

#[tokio::test]
async fn refusals_come_as_the_first_packet_and_close() {
    let running = Running::start(config(), fixture_log()).await;
    for (file, position, text) in [
        (
            "nosuch.000009",
            4,
            "Could not find first log file name in binary log index file",
        ),
        (
            "binlog.000001",
            9999,
            "Client requested source to start replication from position > file size",
        ),
        (
            "binlog.000001",
            0,
            "Client requested source to start replication from position < 4",
        ),
    ] {
        let mut raw = Raw::connect(running.address).await;
        raw.ok("SET @master_binlog_checksum = 'NONE'").await;
        raw.dump(file, position, 1, 9).await;
        assert_eq!(raw.error().await, (1236, text.to_owned()));
        assert_eq!(raw.seq, 1);
        assert!(raw.packet().await.is_none());
    }
    let mut raw = Raw::connect(running.address).await;
    raw.ok("SET @master_binlog_checksum = 'NONE'").await;
    raw.dump_gtid(&format!("{UUID}:1-13"), 1, 9).await;
    assert!(
        raw.error()
            .await
            .1
            .starts_with("Replica has more GTIDs than the source has")
    );
    running.stop().await;
}

/// By GTID, the index leads into a long file: what comes is what comes without an index, byte for byte.
#[tokio::test]
async fn a_start_inside_a_long_file_is_found_by_the_index() {
    let mut growing = Growing::new(8 << 20);
    for _ in 0..40 {
        growing.commit(20, 2_000);
    }
    let place = growing.log.locate_gno(700).unwrap().unwrap();
    assert!(
        place.offset > 1 << 20,
        "the index has places inside the file"
    );
    let disk = std::sync::Arc::new(growing.disk.clone());
    let scanned = tributary_store::GlobalLog::from_dir(disk, "binlog.index").unwrap();
    assert!(scanned.locate_gno(700).unwrap().is_none());
    let with_index = Running::start(config(), growing.log.clone()).await;
    let without = Running::start(config(), scanned).await;
    for have in [
        "1-1",
        "1-299",
        "1-300",
        "1-699",
        "1-790:795",
        "1-799",
        "1-800",
        "2-700",
    ] {
        let mut streams = Vec::new();
        for running in [&with_index, &without] {
            let mut raw = Raw::connect(running.address).await;
            raw.ok("SET @source_binlog_checksum = 'CRC32'").await;
            raw.dump_gtid(&format!("{UUID}:{have}"), 1, 0).await;
            let mut packets = Vec::new();
            while let Some(packet) = raw.packet().await.filter(|p| p[0] == 0) {
                packets.push(packet);
            }
            streams.push(packets);
        }
        assert!(streams[0].len() > 2 && streams[0] == streams[1], "{have}");
    }
    with_index.stop().await;
    without.stop().await;
}
