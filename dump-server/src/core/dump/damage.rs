//! Damaged files, a hundred thousand of them: single bits flipped, sectors zeroed. No client ever gets a byte that is not what
//! was written, and every damage in its way ends the dump with 1236, file and position.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::smallvec;
use tributary_binlog::{BinlogPos, EventHeader, EventReader, EventType, HEADER_LEN};
use tributary_flow::{Body, Dependency, GlobalKind, GlobalTxn, MergedBatch, OrderKey, Tso};
use tributary_store::{Disk, GlobalLog, MemDisk, MemKv, Opened, StoreOptions};

use super::*;
use crate::wire::errors::{DUMP_FATAL, SqlError};

const UUID: &str = "01020304-0506-0708-090a-0b0c0d0e0f10";
const TRIES: u64 = 100_000;
/// Small, so that events need the way of those larger than a block, too.
const BLOCK: usize = 1024;
const SECTOR: usize = 512;

fn event(event_type: EventType, body: &[u8]) -> Vec<u8> {
    let header = EventHeader {
        timestamp: 1,
        event_type,
        server_id: 9,
        event_size: (HEADER_LEN + body.len()) as u32,
        log_pos: 0,
        flags: 0,
    };
    let mut out = header.to_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

/// Rows that end in zeros: with one bit of its type flipped, an Update_rows looks like a format description that has
/// no checksum.
fn transaction(n: u64) -> GlobalTxn {
    let table_map = b"\x09\0\0\0\0\0\x01\0\x04shop\0\x06orders\0\x01\x03\0\x01";
    let mut rows = b"\x09\0\0\0\0\0\x01\0\x02\0\x01\x01\x01\0".to_vec();
    rows.extend_from_slice(&(n as u32).to_le_bytes());
    rows.push(0);
    rows.resize(rows.len() + (n as usize * 97) % 1400, n as u8);
    rows.extend_from_slice(&[0; 4]);
    let mut events = event(EventType::TABLE_MAP, table_map);
    events.extend(event(EventType::UPDATE_ROWS, &rows));
    GlobalTxn {
        key: OrderKey::distributed(Tso::new(1_000_000 + n).unwrap()),
        kind: GlobalKind::Rows,
        parts: smallvec![Body::new(Bytes::from(events))],
        dependency: Dependency::Predecessor,
        original_commit: 1_700_000_000_000_000 + n,
        immediate_commit: 1_700_000_000_000_500 + n,
        original_server_version: 80404,
        immediate_server_version: 80404,
        timestamp: 1_700_000_010 + n as u32,
    }
}

fn sample() -> (MemDisk, Opened) {
    let disk = MemDisk::new();
    let options = StoreOptions {
        base_name: "binlog".into(),
        max_binlog_size: 4096,
        server_id: 4294,
        server_version: "8.4.9-tributary".into(),
        new_uuid: UUID.parse().unwrap(),
        now_seconds: 1_700_000_000,
    };
    let kv = Arc::new(MemKv::new());
    let mut opened = tributary_store::open(Arc::new(disk.clone()), kv, options).unwrap();
    let batch = MergedBatch {
        txns: (1..=14).map(transaction).collect(),
        ..MergedBatch::default()
    };
    opened.writer.append(&batch).unwrap();
    opened.writer.commit().unwrap();
    (disk, opened)
}

fn request(at: Option<&BinlogPos>, gtids: Option<u64>) -> DumpRequest {
    let set = gtids.map(|last| match last {
        0 => String::new(),
        last => format!("{UUID}:1-{last}"),
    });
    DumpRequest {
        command: DumpCommand {
            flags: DUMP_NON_BLOCK,
            server_id: 77,
            file: at.map_or_else(Vec::new, |at| at.file.as_str().as_bytes().to_vec()),
            position: at.map_or(4, |at| at.offset),
            gtids: set.map(|set| set.parse().unwrap()),
        },
        options: DumpOptions {
            checksum: ChecksumWish::Aware,
            heartbeat: None,
            mariadb: false,
            uuid: None,
            semi_sync: false,
        },
    }
}

/// What a client gets, and how it ends, as the shell drives it.
fn stream(request: &DumpRequest, log: &GlobalLog) -> (Vec<u8>, Result<(), SqlError>) {
    let mut out = Vec::new();
    let ended = drive(request, log, &mut out);
    (out, ended)
}

fn drive(request: &DumpRequest, log: &GlobalLog, out: &mut Vec<u8>) -> Result<(), SqlError> {
    let refused = |e: tributary_store::ReadError| crate::wire::errors::dump_fatal(e.to_string());
    let start = plan(request, log)?;
    let mut stream = DumpStream::new(request, &start, 101);
    let mut reader = log.open(&start.file.file).map_err(refused)?;
    stream.begin_file(start.file.file, start.position, out);
    let mut block = vec![0; BLOCK];
    loop {
        let offset = stream.offset();
        let n = reader.read_at(offset, &mut block).map_err(refused)?;
        if n == 0 {
            let Some(next) = log.next_file(stream.file()) else {
                return Ok(());
            };
            reader = log.open(&next.file).map_err(refused)?;
            stream.begin_file(next.file, 4, out);
            continue;
        }
        match stream.feed(&block[..n], out)? {
            Fed::Consumed => {}
            Fed::Needs(_) if n < block.len() => return Err(stream.torn(offset + n as u64)),
            Fed::Needs(_) => {
                let Some(mut event) = stream.large(&block[..n], reader.end())? else {
                    continue;
                };
                let mut whole = vec![0; event.size as usize];
                let n = reader.read_at(event.offset, &mut whole).map_err(refused)?;
                whole[..n].chunks(700).for_each(|piece| event.check(piece));
                stream.large_checked(&event, out)?;
                event.put(&whole, stream.seq_mut(), out);
            }
        }
    }
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// A file, a place in it, and the bytes that are there instead.
struct Damage {
    name: String,
    at: usize,
    good: Vec<u8>,
    bad: Vec<u8>,
}

fn damage(files: &[(String, Vec<u8>)], dice: &mut Dice) -> Option<Damage> {
    let (name, bytes) = &files[dice.roll(files.len() as u64) as usize];
    let at = dice.roll(bytes.len() as u64) as usize;
    let (at, good) = match dice.roll(5) {
        0 => (at - at % SECTOR, &bytes[at - at % SECTOR..]),
        _ => (at, &bytes[at..=at]),
    };
    let good = good[..good.len().min(SECTOR)].to_vec();
    let bad = match good.len() {
        1 => vec![good[0] ^ 1 << dice.roll(8)],
        n => vec![0; n],
    };
    let name = name.clone();
    (bad != good).then_some(Damage {
        name,
        at,
        good,
        bad,
    })
}

#[test]
fn a_hundred_thousand_damages_reach_no_client() {
    let (disk, opened) = sample();
    let log = &opened.log;
    let files: Vec<(String, Vec<u8>)> = log
        .files()
        .iter()
        .map(|info| info.file.to_string())
        .map(|name| (name.clone(), disk.bytes(&name).unwrap()))
        .collect();
    assert!(files.len() > 3);
    // From the start; by position behind the first event of a later file; by GTIDs.
    let second = &log.files()[1].file;
    let offset = EventReader::new(&files[1].1[4..], Default::default())
        .next()
        .unwrap()
        .unwrap()
        .bytes
        .len() as u64
        + 4;
    let middle = BinlogPos {
        file: second.clone(),
        offset,
    };
    let requests = [
        request(None, None),
        request(Some(&middle), None),
        request(None, Some(0)),
        request(None, Some(5)),
        request(None, Some(13)),
    ];
    let sound: Vec<Vec<u8>> = requests
        .iter()
        .map(|request| {
            let (sent, ended) = stream(request, log);
            ended.unwrap();
            sent
        })
        .collect();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut tried, mut found) = (0u64, 0u64);
    while tried < TRIES {
        let Some(damage) = damage(&files, &mut dice) else {
            continue;
        };
        tried += 1;
        let which = dice.roll(requests.len() as u64) as usize;
        let put = |bytes: &[u8]| {
            let file = disk.open(&damage.name, true).unwrap();
            file.write_at(damage.at as u64, bytes).unwrap();
            file.sync_data().unwrap();
        };
        put(&damage.bad);
        let (sent, ended) = stream(&requests[which], log);
        put(&damage.good);
        let place = || format!("{}:{} {:02x?}", damage.name, damage.at, damage.bad);
        assert!(sound[which].starts_with(&sent), "{}", place());
        match ended {
            Err(error) => {
                found += 1;
                assert_eq!(error.code, DUMP_FATAL);
                let text = &error.message;
                assert!(text.contains(&damage.name), "{}: {text}", place());
                assert!(text.contains(':') || text.contains(" at "), "{text}");
            }
            // Only where the damage is not in the client's way.
            Ok(()) => {
                assert!(sent == sound[which], "{}", place());
                assert!(![0, 2].contains(&which), "not found: {}", place());
            }
        }
    }
    println!("{tried} damages, {found} of them in the client's way and found");
    assert!(found > tried / 2);
}
