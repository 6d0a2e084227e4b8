//! Streams over files a MySQL 9.7.4 wrote; what must come out is what that server sent for the same requests.

use std::sync::Arc;

use tributary_binlog::{BinlogFile, EventHeader, EventType, GtidSet, flags};
use tributary_store::{GlobalLog, MemDisk};

use super::*;
use crate::wire::errors::{DUMP_FATAL, SqlError, dump_text};
use crate::wire::packet::PacketDecoder;

const UUID: &str = "f675df3f-e5ee-11f1-8d1c-02fc00000001";
const FILES: [(&str, &[u8]); 3] = [
    (
        "binlog.000001",
        include_bytes!("../../../tests/fixtures/log/binlog.000001"),
    ),
    (
        "binlog.000002",
        include_bytes!("../../../tests/fixtures/log/binlog.000002"),
    ),
    (
        "binlog.000003",
        include_bytes!("../../../tests/fixtures/log/binlog.000003"),
    ),
];

fn disk() -> MemDisk {
    let disk = MemDisk::new();
    for (name, bytes) in FILES {
        disk.put(name, bytes);
    }
    disk.put(
        "binlog.index",
        b"./binlog.000001\n./binlog.000002\n./binlog.000003\n",
    );
    disk
}

fn log_of(disk: &MemDisk) -> GlobalLog {
    GlobalLog::from_dir(Arc::new(disk.clone()), "binlog.index").unwrap()
}

/// One packet of a stream.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    seq: u8,
    header: EventHeader,
    bytes: Vec<u8>,
}

impl Sent {
    fn what(&self) -> (&'static str, u32) {
        let name = match self.header.event_type {
            EventType::HEARTBEAT => "Heartbeat v1",
            EventType::HEARTBEAT_V2 => "Heartbeat v2",
            ty => ty.name(),
        };
        (name, self.header.log_pos)
    }
}

struct Asked {
    request: DumpRequest,
    block: usize,
}

impl Asked {
    fn file(name: &str, position: u64) -> Self {
        Self {
            request: DumpRequest {
                command: DumpCommand {
                    flags: DUMP_NON_BLOCK,
                    server_id: 77,
                    file: name.as_bytes().to_vec(),
                    position,
                    gtids: None,
                },
                options: DumpOptions {
                    checksum: ChecksumWish::Aware,
                    heartbeat: None,
                    mariadb: false,
                    uuid: None,
                    semi_sync: false,
                },
            },
            block: 1 << 16,
        }
    }

    fn gtids(intervals: &str) -> Self {
        let mut asked = Self::file("", 4);
        let text = if intervals.is_empty() {
            String::new()
        } else {
            format!("{UUID}:{intervals}")
        };
        asked.request.command.gtids = Some(text.parse::<GtidSet>().unwrap());
        asked
    }

    fn wish(mut self, wish: ChecksumWish) -> Self {
        self.request.options.checksum = wish;
        self
    }

    /// Everything up to the end, as the shell drives it.
    fn stream(&self, disk: &MemDisk) -> Result<Vec<Sent>, (Vec<Sent>, SqlError)> {
        self.stream_with(disk, None)
    }

    /// The same, with an index that leads to `jump` in the first file.
    fn stream_with(
        &self,
        disk: &MemDisk,
        jump: Option<Jump>,
    ) -> Result<Vec<Sent>, (Vec<Sent>, SqlError)> {
        let log = log_of(disk);
        let mut start = plan(&self.request, &log).map_err(|e| (Vec::new(), e))?;
        start.jump = jump;
        let mut stream = DumpStream::new(&self.request, &start, 101);
        let mut out = Vec::new();
        stream.begin_file(start.file.file, start.position, &mut out);
        loop {
            let bytes = disk.bytes(stream.file().as_str()).unwrap();
            let rest = &bytes[stream.offset() as usize..];
            if rest.is_empty() {
                let Some(next) = log.next_file(stream.file()) else {
                    break;
                };
                stream.begin_file(next.file, 4, &mut out);
                continue;
            }
            let block = &rest[..self.block.min(rest.len())];
            match stream.feed(block, &mut out) {
                Ok(Fed::Consumed) => {}
                Ok(Fed::Needs(_)) if block.len() == rest.len() => {
                    return Err((parse(&out), stream.torn(bytes.len() as u64)));
                }
                Ok(Fed::Needs(_)) => match stream.large(block, bytes.len() as u64) {
                    Ok(None) => {}
                    Ok(Some(mut event)) => {
                        let whole = &rest[..event.size as usize];
                        whole.chunks(7).for_each(|piece| event.check(piece));
                        stream
                            .large_checked(&event, &mut out)
                            .map_err(|e| (parse(&out), e))?;
                        whole
                            .chunks(11)
                            .for_each(|p| event.put(p, stream.seq_mut(), &mut out));
                    }
                    Err(error) => return Err((parse(&out), error)),
                },
                Err(error) => return Err((parse(&out), error)),
            }
        }
        stream.at_end(&mut out);
        Ok(parse(&out))
    }

    fn sent(&self) -> Vec<Sent> {
        self.stream(&disk()).unwrap_or_else(|(_, e)| panic!("{e}"))
    }

    fn refused(&self) -> SqlError {
        self.stream(&disk())
            .map(|sent| panic!("{sent:?}"))
            .unwrap_err()
            .1
    }
}

fn parse(out: &[u8]) -> Vec<Sent> {
    let mut decoder = PacketDecoder::default();
    decoder.feed(out);
    let mut sent = Vec::new();
    while let Some(packet) = decoder.poll(usize::MAX).unwrap() {
        let (marker, bytes) = packet.payload.split_first().unwrap();
        assert_eq!(*marker, 0);
        let header = EventHeader::parse(bytes).unwrap();
        assert_eq!(header.event_size as usize, bytes.len());
        sent.push(Sent {
            seq: packet.seq,
            header,
            bytes: bytes.to_vec(),
        });
    }
    assert!(!decoder.has_pending());
    for (i, s) in sent.iter().enumerate() {
        assert_eq!(s.seq, (i + 1) as u8, "sequence numbers count on from 1");
    }
    sent
}

fn whats(sent: &[Sent]) -> Vec<(&'static str, u32)> {
    sent.iter().map(Sent::what).collect()
}

fn crc_is_right(event: &[u8]) -> bool {
    let (content, crc) = event.split_last_chunk::<4>().unwrap();
    crc32fast::hash(content).to_le_bytes() == *crc
}

#[test]
fn a_dump_from_the_start_is_the_files_byte_for_byte() {
    let sent = Asked::file("binlog.000001", 4).sent();
    let mut rebuilt: Vec<Vec<u8>> = Vec::new();
    for s in &sent {
        let artificial = s.header.flags & flags::ARTIFICIAL != 0;
        match s.header.event_type {
            EventType::ROTATE if artificial => rebuilt.push(tributary_binlog::MAGIC.to_vec()),
            _ => rebuilt.last_mut().unwrap().extend_from_slice(&s.bytes),
        }
    }
    assert_eq!(rebuilt.len(), 3);
    for (file, (name, bytes)) in rebuilt.iter().zip(FILES) {
        let mut expected = bytes.to_vec();
        // The last file was in use when it was copied; the flag is not sent.
        tributary_binlog::set_in_use(&mut expected[4..], false);
        assert!(*file == expected, "{name}");
    }
}

#[test]
fn any_block_size_gives_the_same_stream() {
    for asked in [
        Asked::file("", 4),
        Asked::gtids("1-3:6-8"),
        Asked::file("binlog.000002", 857),
    ] {
        let expected = asked.sent();
        for block in [240, 256, 300, 301, 777, 1500] {
            let smaller = Asked {
                request: asked.request.clone(),
                block,
            };
            // Only the format description needs a block of its own size.
            assert!(whats(&smaller.sent()) == whats(&expected), "{block}");
            assert!(smaller.sent() == expected, "{block}");
        }
    }
}

#[test]
fn the_first_rotate_has_a_checksum_only_for_crc32() {
    let first = |wish| Asked::file("binlog.000001", 4).wish(wish).sent().remove(0);
    let rotate = first(ChecksumWish::Crc32);
    assert_eq!(rotate.bytes.len(), 44);
    assert!(crc_is_right(&rotate.bytes));
    assert_eq!(
        (
            rotate.header.timestamp,
            rotate.header.log_pos,
            rotate.header.flags,
            rotate.header.server_id
        ),
        (0, 0, flags::ARTIFICIAL, 101)
    );
    let rotate = first(ChecksumWish::Aware);
    assert_eq!(rotate.bytes.len(), 40);
    assert!(rotate.bytes.ends_with(b"\x04\0\0\0\0\0\0\0binlog.000001"));
    // The second file's rotate has one in any case: the file's algorithm is known by then.
    let sent = Asked::file("binlog.000001", 4).sent();
    let second = sent
        .iter()
        .filter(|s| s.header.flags & flags::ARTIFICIAL != 0)
        .nth(1)
        .unwrap();
    assert!(second.bytes.len() == 44 && crc_is_right(&second.bytes));
}

#[test]
fn a_start_inside_a_file_sends_its_format_description_first() {
    let sent = Asked::file("binlog.000002", 857).sent();
    assert_eq!(
        whats(&sent)[..3],
        [("Rotate", 0), ("Format_desc", 0), ("Query", 928)]
    );
    assert!(
        sent[0]
            .bytes
            .ends_with(b"\x59\x03\0\0\0\0\0\0binlog.000002")
    );
    let fde = &sent[1].bytes;
    assert_eq!(fde[71..75], [0; 4], "created");
    assert!(crc_is_right(fde));
    let end = Asked::file("binlog.000003", 1417).sent();
    assert_eq!(whats(&end), [("Rotate", 0), ("Format_desc", 0)]);
}

#[test]
fn gtid_auto_position_skips_whole_groups_and_says_so() {
    let sent = Asked::gtids("1-5").sent();
    assert_eq!(
        whats(&sent)[..6],
        [
            ("Rotate", 0),
            ("Format_desc", 127),
            ("Previous_gtids", 198),
            ("Heartbeat v1", 778),
            ("Gtid", 857),
            ("Query", 928),
        ]
    );
    assert!(sent[0].bytes.ends_with(b"binlog.000002"));
    assert!(crc_is_right(&sent[3].bytes) && sent[3].bytes[19..32] == *b"binlog.000002");
    let sent = whats(&Asked::gtids("1:3").sent());
    assert_eq!(
        sent[..9],
        [
            ("Rotate", 0),
            ("Format_desc", 127),
            ("Previous_gtids", 158),
            ("Heartbeat v1", 343),
            ("Gtid", 422),
            ("Query", 599),
            ("Heartbeat v1", 915),
            ("Gtid", 994),
            ("Query", 1074),
        ]
    );
}

#[test]
fn a_named_file_is_where_a_gtid_dump_starts() {
    let mut asked = Asked::gtids("1-4:6-8");
    asked.request.command.file = b"binlog.000001".to_vec();
    let sent = whats(&asked.sent());
    assert_eq!(
        sent[..9],
        [
            ("Rotate", 0),
            ("Format_desc", 127),
            ("Previous_gtids", 158),
            ("Heartbeat v1", 1367),
            ("Rotate", 1411),
            ("Rotate", 0),
            ("Format_desc", 127),
            ("Previous_gtids", 198),
            ("Gtid", 277),
        ]
    );
    assert_eq!(sent[14..16], [("Heartbeat v1", 1772), ("Rotate", 1816)]);
}

#[test]
fn a_client_that_has_everything_gets_a_heartbeat_at_the_end() {
    let mut asked = Asked::gtids("1-12");
    let head = [("Rotate", 0), ("Format_desc", 127), ("Previous_gtids", 198)];
    let sent = asked.sent();
    assert_eq!(
        whats(&sent),
        [&head[..], &[("Heartbeat v1", 1417)]].concat()
    );
    assert_eq!(
        sent[1].bytes[71..75],
        [0; 4],
        "created is cleared when the first group is skipped"
    );
    asked.request.command.flags |= DUMP_HEARTBEAT_V2;
    let sent = asked.sent();
    assert_eq!(
        whats(&sent),
        [&head[..], &[("Heartbeat v2", 1417)]].concat()
    );
    // Captured from MySQL 9.7.4, its server id put in.
    let mut expected =
        b"\x00\x00\x00\x00\x29\x65\x00\x00\x00\x2c\x00\x00\x00\x89\x05\x00\x00\x00\x00\
        \x01\rbinlog.000003\x02\x03\xfc\x89\x05\x00"
            .to_vec();
    expected.extend_from_slice(&crc32fast::hash(&expected).to_le_bytes());
    assert_eq!(sent[3].bytes, expected);
    // The same flag means "annotate rows" for MariaDB.
    asked.request.options.mariadb = true;
    assert_eq!(whats(&asked.sent())[3].0, "Heartbeat v1");
}

#[test]
fn requests_that_cannot_be_served_get_mysqls_texts() {
    for (asked, text) in [
        (Asked::file("nosuch.000001", 4), dump_text::UNKNOWN_FILE),
        (Asked::file("BINLOG.000001", 4), dump_text::UNKNOWN_FILE),
        (Asked::file("binlog.000001", 99_999), dump_text::PAST_END),
        (Asked::file("binlog.000001", 3), dump_text::BEFORE_START),
        (Asked::file("binlog.000001", 0), dump_text::BEFORE_START),
    ] {
        let error = asked.refused();
        assert_eq!(
            (error.code, error.state, error.message.as_str()),
            (DUMP_FATAL, "HY000", text)
        );
    }
    let error = Asked::gtids("1-100").refused();
    assert!(
        error
            .message
            .starts_with("Replica has more GTIDs than the source has")
    );
    let mut foreign = Asked::gtids("");
    foreign.request.command.gtids = "5710ff26-e5e4-11f1-ac34-02fc00000001:1-99".parse().ok();
    assert_eq!(
        whats(&foreign.sent())[3],
        ("Gtid", 235),
        "others' GTIDs are none of our business"
    );
    let error = Asked::file("binlog.000001", 4)
        .wish(ChecksumWish::Unaware)
        .refused();
    assert_eq!(
        error.message,
        "Replica can not handle replication events with the checksum that source is configured to log; the first \
         event 'binlog.000001' at 4, the last event read from './binlog.000001' at 127, the last byte read from \
         './binlog.000001' at 127."
    );
}

#[test]
fn purged_transactions_are_named() {
    let disk = disk();
    disk.put("binlog.index", b"./binlog.000002\n./binlog.000003\n");
    let error = Asked::gtids("1").stream(&disk).unwrap_err().1;
    assert_eq!(
        error.message,
        format!(
            "Cannot replicate because the source purged required binary logs. Replicate the missing transactions \
             from elsewhere, or provision a new replica from backup. Consider increasing the source's binary log \
             expiration period. The GTID set sent by the replica is '{UUID}:1', and the missing transactions are \
             '{UUID}:2-4'"
        )
    );
    assert!(Asked::gtids("1-4").stream(&disk).is_ok());
}

#[test]
fn a_position_between_events_ends_the_dump() {
    for position in [150, 1400] {
        let (sent, error) = Asked::file("binlog.000001", position)
            .stream(&disk())
            .unwrap_err();
        assert_eq!(whats(&sent), [("Rotate", 0), ("Format_desc", 0)]);
        assert_eq!(error.code, DUMP_FATAL);
        assert!(
            error
                .message
                .contains(&format!("the first event 'binlog.000001' at {position}, "))
        );
    }
}

#[test]
fn no_damaged_event_is_ever_sent() {
    let (name, bytes) = FILES[1];
    let mut good = Asked::file(name, 4).sent();
    // Only this file's.
    let next = good
        .iter()
        .skip(1)
        .position(|s| s.header.flags & flags::ARTIFICIAL != 0)
        .unwrap();
    good.truncate(next + 1);
    for at in 4..bytes.len() {
        let disk = disk();
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x10;
        disk.put(name, &damaged);
        if GlobalLog::from_dir(Arc::new(disk.clone()), "binlog.index").is_err() {
            assert!(
                at < 198,
                "the head of a file is checked when the log is opened"
            );
            continue;
        }
        let (sent, error) = Asked::file(name, 4)
            .stream(&disk)
            .expect_err("damage is found");
        assert_eq!(error.code, DUMP_FATAL, "{at}");
        assert!(
            error.message.contains(&format!("'./{name}' at ")),
            "{at}: {}",
            error.message
        );
        // Everything before it, nothing of it or behind it.
        assert!(good.starts_with(&sent), "{at}");
        let end = sent
            .iter()
            .map(|s| u64::from(s.header.log_pos))
            .max()
            .unwrap();
        let event_start = good
            .iter()
            .map(|s| u64::from(s.header.log_pos))
            .filter(|p| *p <= at as u64)
            .max();
        assert_eq!(Some(end), event_start, "{at}");
    }
}

#[test]
fn a_file_cut_inside_an_event_ends_the_dump_behind_the_last_whole_one() {
    let disk = disk();
    let (name, bytes) = FILES[0];
    disk.put(name, &bytes[..1000]);
    let log = GlobalLog::from_dir(Arc::new(disk.clone()), "binlog.index");
    if log.is_ok() {
        let (sent, error) = Asked::file(name, 4).stream(&disk).unwrap_err();
        assert_eq!(whats(&sent).last(), Some(&("Gtid", 994)));
        assert!(
            error.message.starts_with(dump_text::TRUNCATED),
            "{}",
            error.message
        );
    }
}

#[test]
fn anonymous_transactions_cannot_be_positioned_by_gtid() {
    let disk = disk();
    let (name, bytes) = FILES[0];
    let mut changed = bytes.to_vec();
    // The first transaction's GTID event, made anonymous.
    let at = 158;
    changed[at + 4] = EventType::ANONYMOUS_GTID.0;
    let crc = crc32fast::hash(&changed[at..at + 77 - 4]).to_le_bytes();
    changed[at + 73..at + 77].copy_from_slice(&crc);
    disk.put(name, &changed);
    let mut asked = Asked::gtids("");
    asked.request.command.file = name.as_bytes().to_vec();
    let (_, error) = asked.stream(&disk).unwrap_err();
    assert!(
        error.message.starts_with(
            "Cannot replicate anonymous transaction when AUTO_POSITION = 1, at file binlog.000001, position 158."
        ),
        "{}",
        error.message
    );
    assert!(
        Asked::file(name, 4).stream(&disk).is_ok(),
        "by position they are sent"
    );
}

#[test]
fn heartbeats_at_rest_carry_the_present_position() {
    let asked = Asked::file("binlog.000001", 4);
    let start = plan(&asked.request, &log_of(&disk())).unwrap();
    let mut stream = DumpStream::new(&asked.request, &start, 101);
    let mut out = Vec::new();
    stream.begin_file(BinlogFile::new("binlog", 1), 4, &mut out);
    stream.feed(&FILES[0].1[4..343], &mut out).unwrap();
    out.clear();
    let seq = *stream.seq_mut();
    stream.heartbeat(&mut out);
    stream.eof(&mut out);
    let mut decoder = PacketDecoder::default();
    decoder.feed(&out);
    let heartbeat = decoder.poll(1000).unwrap().unwrap();
    assert_eq!(heartbeat.seq, seq);
    let header = EventHeader::parse(&heartbeat.payload[1..]).unwrap();
    assert_eq!(
        (header.event_type, header.log_pos),
        (EventType::HEARTBEAT, 343)
    );
    assert_eq!(
        decoder.poll(1000).unwrap().unwrap().payload,
        b"\xfe\0\0\x02\0"
    );
}

#[test]
fn what_the_client_has_is_jumped_over_and_nothing_else_changes() {
    let mut jumped = 0;
    for last in 1..40 {
        let asked = Asked::gtids(&format!("1-{last}"));
        let Ok(want) = asked.stream(&disk()) else {
            continue;
        };
        // Artificial rotate, format description, PREVIOUS_GTIDS; then a heartbeat where transactions were skipped.
        let heartbeat = |sent: &&Sent| {
            matches!(
                sent.header.event_type,
                EventType::HEARTBEAT | EventType::HEARTBEAT_V2
            )
        };
        let Some(skipped) = want.get(3).filter(heartbeat) else {
            continue;
        };
        let to = u64::from(skipped.header.log_pos);
        for block in [64, 1 << 16] {
            let mut asked = Asked::gtids(&format!("1-{last}"));
            asked.block = block;
            let jump = Some(Jump {
                to,
                first_missing: last + 1,
            });
            if let Ok(got) = asked.stream_with(&disk(), jump) {
                assert_eq!(got, want, "1-{last}");
                jumped += 1;
            }
        }
    }
    assert!(jumped > 0);
}

#[test]
fn a_wrong_index_only_costs_time() {
    let asked = Asked::gtids("1-6");
    let want = asked.sent();
    let end = FILES[1].1.len() as u64;
    // Too far, inside an event, at one that begins no transaction, in the last bytes, at the end, and behind it.
    for to in [1606, 1140, 1131, 857, 1772, 1815, end, end + 100] {
        for first_missing in [7, 1] {
            for block in [150, 400, 1 << 16] {
                let asked = Asked {
                    block,
                    ..Asked::gtids("1-6")
                };
                let jump = Some(Jump { to, first_missing });
                let got = asked.stream_with(&disk(), jump);
                assert_eq!(got, Ok(want.clone()), "{to} {first_missing} {block}");
            }
        }
    }
}
