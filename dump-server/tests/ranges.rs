//! Random parts of the log, many at a time, against the files themselves.

use futures_util::StreamExt as _;
use tributary_binlog::{BinlogFile, ChecksumAlg, EventHeader, EventType, RawEvent, flags, info};

use crate::support::{Answer, Growing, Raw, Running, config};

/// Requests, and how many run at a time.
const REQUESTS: usize = 500;
const AT_A_TIME: usize = 64;

/// One event of a file.
struct Listed {
    at: u64,
    bytes: Vec<u8>,
}

struct File {
    name: String,
    events: Vec<Listed>,
}

fn read(growing: &Growing) -> Vec<File> {
    let files = growing.files().into_iter();
    let file = |(name, mut bytes): (String, Vec<u8>)| {
        tributary_binlog::set_in_use(&mut bytes[4..], false);
        let mut events = Vec::new();
        let mut at = 4;
        while at < bytes.len() {
            let size = EventHeader::parse(&bytes[at..]).unwrap().event_size as usize;
            events.push(Listed {
                at: at as u64,
                bytes: bytes[at..at + size].to_vec(),
            });
            at += size;
        }
        File { name, events }
    };
    files.map(file).collect()
}

/// A generator that gives the same numbers each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

#[derive(Debug, Clone, Copy)]
enum Request {
    /// SHOW BINLOG EVENTS IN this file FROM this event LIMIT these.
    Show(usize, usize, usize, usize),
    /// A dump from this event of this file to the end.
    Dump(usize, usize),
}

fn requests(files: &[File]) -> Vec<Request> {
    let mut dice = Dice(20_261_122);
    (0..REQUESTS)
        .map(|i| {
            let file = dice.below(files.len());
            let event = dice.below(files[file].events.len());
            match i % 2 {
                0 => Request::Show(file, event, dice.below(9), dice.below(60)),
                _ => Request::Dump(file, event),
            }
        })
        .collect()
}

/// The rows MySQL lists for these events.
fn rows(file: &File, from: usize, offset: usize, limit: usize) -> Vec<Vec<Option<String>>> {
    let events = file.events.iter().skip(from + offset).take(limit);
    let row = |e: &Listed| {
        let alg = if e.at == 4 {
            ChecksumAlg::None
        } else {
            ChecksumAlg::Crc32
        };
        let event = RawEvent::parse(&e.bytes, alg).unwrap();
        let name = match event.header.event_type {
            EventType::FORMAT_DESCRIPTION => "Format_desc",
            ty => ty.name(),
        };
        let end = e.at + e.bytes.len() as u64;
        vec![
            Some(file.name.clone()),
            Some(e.at.to_string()),
            Some(name.to_owned()),
            Some(event.header.server_id.to_string()),
            Some(end.to_string()),
            Some(info(&event)),
        ]
    };
    events.map(row).collect()
}

async fn check(raw: &mut Raw, files: &[File], request: Request) {
    match request {
        Request::Show(file, event, offset, limit) => {
            let (name, at) = (&files[file].name, files[file].events[event].at);
            let sql = format!("SHOW BINLOG EVENTS IN '{name}' FROM {at} LIMIT {offset}, {limit}");
            let Answer::Rows(columns, got) = raw.query(&sql).await else {
                panic!("{sql}")
            };
            assert_eq!(columns.len(), 6);
            assert_eq!(got, rows(&files[file], event, offset, limit), "{sql}");
        }
        Request::Dump(file, event) => {
            raw.ok("SET @master_binlog_checksum = 'NONE'").await;
            let start = files[file].events[event].at;
            raw.dump(&files[file].name, start as u32, 1, 0).await;
            for (i, f) in files.iter().enumerate().skip(file) {
                let (header, bytes) = raw.event().await;
                assert_eq!(header.event_type, EventType::ROTATE);
                assert!(header.flags & flags::ARTIFICIAL != 0 && header.log_pos == 0);
                let name = String::from_utf8_lossy(&bytes[27..]).into_owned();
                assert!(name.starts_with(&f.name), "{name}");
                let (header, _) = raw.event().await;
                assert_eq!(header.event_type, EventType::FORMAT_DESCRIPTION);
                let from = if i == file { event.max(1) } else { 1 };
                for expected in &f.events[from..] {
                    let (_, bytes) = raw.event().await;
                    assert!(
                        bytes == expected.bytes,
                        "{request:?}: {} at {}",
                        f.name,
                        expected.at
                    );
                }
            }
            assert_eq!(raw.packet().await.unwrap(), b"\xfe\0\0\x02\0");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_listings_and_dumps_equal_the_files() {
    let mut growing = Growing::new(30_000);
    for i in 0..60 {
        growing.commit(2, 50 + 37 * (i % 40));
    }
    growing.ddl("CREATE TABLE shop.t (a INT)");
    growing.commit(1, 400_000);
    let files = read(&growing);
    assert!(files.len() > 3);
    assert!(files.iter().all(|f| f.name.parse::<BinlogFile>().is_ok()));
    let running = Running::start(config(), growing.log.clone()).await;
    futures_util::stream::iter(requests(&files))
        .for_each_concurrent(AT_A_TIME, |request| {
            let files = &files;
            async move {
                let mut raw = Raw::connect(running.address).await;
                check(&mut raw, files, request).await;
            }
        })
        .await;
    let counters = running.server.counters();
    assert_eq!(counters.dumps, (REQUESTS / 2) as u64);
    running.stop().await;
}
