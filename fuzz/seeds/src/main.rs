//! First inputs for every target, from what the tests have: files of real servers, statements, conversations.
//!
//! In: the directory to write to, and the repository's own folders. Out: `DIR/TARGET/…`, one small file for each. What is worth
//! keeping of them is in `corpus/`; this is for those who start anew after a target has changed the meaning of its input.

use std::{collections::BTreeSet, fs, path::Path};

use tributary_binlog::{ChecksumAlg, EventReader, EventType, MAGIC, Payload};

/// Longest seed.
const BYTES_MAX: usize = 4096;

fn main() {
    let Some(out) = std::env::args().nth(1) else {
        eprintln!("usage: seeds DIR");
        std::process::exit(2);
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut seeds = Seeds {
        out: Path::new(&out).to_owned(),
        seen: BTreeSet::new(),
    };
    for entry in fs::read_dir(root.join("binlog/tests/fixtures")).expect("fixtures") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|e| e == "binlog") {
            seeds.file(&fs::read(&path).expect("readable"));
        }
    }
    for source in [
        "schema/src/ddl/tests.rs",
        "schema/src/history/tests.rs",
        "schema/src/table/show.rs",
    ] {
        for text in literals(&root.join(source)) {
            seeds.put("ddl", &[&[0], text.as_bytes()].concat());
        }
    }
    for source in [
        "dump-server/src/core/query/tests.rs",
        "dump-server/src/core/query/metadata/tests.rs",
    ] {
        for text in literals(&root.join(source)) {
            seeds.statement(&text);
        }
    }
    for source in ["gtid_set_text.rs", "gtid_set.rs", "gtid.rs"] {
        for text in literals(&root.join("binlog/src").join(source)) {
            let text = text.replace("{A}", "3e11fa47-71ca-11e1-9e33-c80aa9429562");
            seeds.put("gtid_set", &[&[0], text.as_bytes()].concat());
        }
    }
    seeds.packets();
    seeds.choices();
    println!("{} seeds", seeds.seen.len());
}

/// Writes each seed once.
struct Seeds {
    out: std::path::PathBuf,
    seen: BTreeSet<(String, Vec<u8>)>,
}

impl Seeds {
    fn put(&mut self, target: &str, bytes: &[u8]) {
        let bytes = bytes.get(..BYTES_MAX).unwrap_or(bytes);
        if self.seen.insert((target.to_owned(), bytes.to_vec())) {
            let dir = self.out.join(target);
            fs::create_dir_all(&dir).expect("a directory can be made");
            fs::write(dir.join(format!("seed-{:04}", self.seen.len())), bytes)
                .expect("a file can be written");
        }
    }

    /// A binlog file of a real server.
    fn file(&mut self, bytes: &[u8]) {
        let rest = bytes.strip_prefix(&MAGIC).expect("a binlog file");
        self.put("frame", &[&[1, 50], rest].concat());
        self.put("stream", &[&[1, 9, 40], rest].concat());
        let mut reader = EventReader::new(rest, ChecksumAlg::None);
        let mut maps: Vec<Vec<u8>> = Vec::new();
        while let Ok(Some(event)) = reader.next() {
            self.event(
                event.header.event_type,
                event.header.flags,
                event.body,
                &mut maps,
            );
            if let Ok(payload) = Payload::parse(event.body) {
                let mut inner = Vec::new();
                payload
                    .decompress(1 << 20, &mut inner)
                    .expect("a sound payload");
                let mut reader = EventReader::new(&inner, ChecksumAlg::None);
                while let Ok(Some(event)) = reader.next() {
                    self.event(
                        event.header.event_type,
                        event.header.flags,
                        event.body,
                        &mut maps,
                    );
                }
            }
        }
    }

    fn event(&mut self, ty: EventType, flags: u16, body: &[u8], maps: &mut Vec<Vec<u8>>) {
        self.put("event", &[&[ty.0], &flags.to_le_bytes()[..], body].concat());
        if ty == EventType::TABLE_MAP {
            maps.push(body.to_vec());
        }
        if ty == EventType::PREVIOUS_GTIDS {
            self.put("gtid_set", &[&[1], body].concat());
        }
        let types = [30, 31, 32, 39, 23, 24, 25];
        let Some(at) = types.iter().position(|t| *t == ty.0) else {
            return;
        };
        let piece = |bytes: &[u8]| [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat();
        let from = maps.last().cloned().unwrap_or_default();
        for to in maps.iter().rev().take(2) {
            let seed = [&[at as u8], &piece(&from)[..], &piece(to), body].concat();
            if seed.len() <= BYTES_MAX {
                self.put("rows", &seed);
            }
        }
    }

    fn statement(&mut self, sql: &str) {
        let piece = |code: u8, bytes: &[u8]| {
            let len = (bytes.len() + 1) as u16;
            [&len.to_le_bytes()[..], &[code], bytes].concat()
        };
        let head = [0, 0x00, 0xa2, 0x08, 0x00];
        self.put("session", &[&head[..], &piece(3, sql.as_bytes())].concat());
        let execute = [1, 0, 0, 0, 0, 1, 0, 0, 0];
        let prepared = [
            piece(0x16, sql.as_bytes()),
            piece(0x17, &execute),
            piece(0x1c, &execute),
        ]
        .concat();
        self.put("session", &[&head[..], &prepared].concat());
        self.put("client_packets", &[&[4, 9, 3], sql.as_bytes()].concat());
        let framed = [&(sql.len() as u32).to_le_bytes()[..], sql.as_bytes()].concat();
        self.put("client_packets", &[&[0, 9], &framed[..]].concat());
        self.put("client_packets", &[&[6, 9], &framed[..]].concat());
    }

    fn packets(&mut self) {
        let hello = b"\x00\xa2\x08\x00\0\0\0\x01\xff\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0repl\0\x04answcaching_sha2_password\0\x10\x03_os\x05Linux\x03pid\x02";
        self.put("client_packets", &[&[1, 9], &hello[..]].concat());
        self.put(
            "client_packets",
            b"\x02\x09repl\0\0shop\0\xff\0caching_sha2_password\0",
        );
        self.put(
            "client_packets",
            b"\x03\x09\xef\x2f\x0a\0\0\0\0\0\0binlog.000002",
        );
        let dump = b"\x1e\x04\0\x65\0\0\0\x0d\0\0\0binlog.000001\x04\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0";
        self.put("client_packets", &[&[4, 9], &dump[..]].concat());
        self.put(
            "client_packets",
            b"\x04\x09\x12\x04\0\0\0\0\0\x65\0\0\0binlog.000001",
        );
        self.put(
            "client_packets",
            b"\x04\x09\x15\x65\0\0\0\x01h\x04repl\0\xea\x0c\0\0\0\0\0\0\0\0",
        );
        for raw in [
            &hello[..],
            dump,
            b"\x0e",
            b"\x1f",
            b"\x11weak\0\0shop\0\xff\0caching_sha2_password\0",
        ] {
            let piece = [&(raw.len() as u16).to_le_bytes()[..], raw].concat();
            self.put("session", &[&[0, 0, 0xa2, 8, 0], &piece[..]].concat());
            self.put(
                "session",
                &[&[1, 0, 0xa2, 8, 0], &piece[..], &piece].concat(),
            );
        }
        let greeting = b"\x0a8.4.4\0\x4d\0\0\0ABCDEFGH\0\xff\xff\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0IJKLMNOPQRST\0caching_sha2_password\0";
        self.put("node_packets", &[&[0, 9], &greeting[..]].concat());
        let answers: [&[u8]; 9] = [
            &[2],
            b"\x03def\0\0\0\x03one\0\x0c",
            b"\x03def\0\0\0\x03two\0\x0c",
            &[0xfe, 0, 0, 2, 0],
            b"\x02on\xfb",
            &[0xfe, 0, 0, 2, 0],
            b"\xff\x69\x05#70100killed",
            b"\xfemysql_native_password\0ABCDEFGHIJKLMNOPQRST\0",
            &[1, 4],
        ];
        for way in 0..4 {
            let mut bytes = vec![way, 9];
            for (seq, answer) in (1_u8..).zip(answers) {
                bytes.extend_from_slice(&[answer.len() as u8, 0, 0, seq]);
                bytes.extend_from_slice(answer);
                self.put("node_packets", &bytes);
            }
            for answer in answers {
                let head = [way, 9, answer.len() as u8, 0, 0, 2];
                self.put("node_packets", &[&head[..], answer].concat());
            }
        }
    }

    /// Targets whose inputs are choices get any.
    fn choices(&mut self) {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for n in 0..60 {
            let mut bytes: Vec<u8> = (0..20 + n * 12)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 24) as u8
                })
                .collect();
            bytes[0] = (n % 5) as u8;
            self.put("merger", &bytes);
            self.put("store", &bytes);
            bytes[0] = 2;
            self.put("gtid_set", &bytes[..20 + n]);
        }
    }
}

/// The string literals of a Rust file.
fn literals(path: &Path) -> Vec<String> {
    let source = fs::read_to_string(path).unwrap_or_default();
    let mut out = Vec::new();
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        if c != '"' {
            continue;
        }
        let mut text = String::new();
        while let Some(c) = chars.next().filter(|c| *c != '"') {
            match c {
                '\\' => match chars.next() {
                    Some('n') => text.push('\n'),
                    Some('0') => text.push('\0'),
                    Some(c) => text.push(c),
                    None => {}
                },
                c => text.push(c),
            }
        }
        if text.len() > 3 {
            out.push(text);
        }
    }
    out
}
