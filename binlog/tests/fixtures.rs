//! Files of a real server (see `fixtures/README.md`): everything in them is understood, and written back the same.

use std::fs;
use std::path::PathBuf;

use tributary_binlog::{
    ChecksumAlg, ColumnType, Event, EventReader, EventType, EventWriter, GtidSet, MAGIC, Payload,
    RawEvent, StatusVar, TableMap, describe, flags, info, set_in_use,
};

/// Names of the fixture files.
pub(crate) const FILES: [&str; 11] = [
    "active",
    "anonymous",
    "compressed",
    "ddl",
    "no-checksum",
    "partial-json",
    "rows-full",
    "rows-minimal",
    "stopped",
    "tagged",
    "xa",
];
const CAP: usize = 1 << 20;

fn path(name: &str, suffix: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(format!("{name}.{suffix}"))
}

fn file(name: &str) -> Vec<u8> {
    let bytes = fs::read(path(name, "binlog")).expect("the fixture is checked in");
    assert_eq!(bytes[..4], MAGIC, "{name}");
    bytes
}

/// All events of a file with their offsets, CRCs verified.
fn events(bytes: &[u8]) -> Vec<(u64, RawEvent<'_>)> {
    let mut reader = EventReader::new(&bytes[4..], ChecksumAlg::Crc32);
    let mut out = Vec::new();
    loop {
        let at = reader.offset() as u64 + 4;
        match reader.next().unwrap_or_else(|e| panic!("at {at}: {e}")) {
            Some(event) => out.push((at, event)),
            None => return out,
        }
    }
}

/// What is inside a payload, and its bytes to borrow from.
fn inside(payload: &Payload<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    payload.decompress(CAP, &mut out).expect("a real payload");
    out
}

fn check_body(raw: &RawEvent<'_>, place: &str) {
    let event = Event::parse(raw).unwrap_or_else(|e| panic!("{place}: {e}"));
    assert!(!matches!(event, Event::Unknown(_)), "{place}: {raw:?}");
    let mut body = Vec::new();
    event.put_body(&mut body);
    assert_eq!(body, raw.body, "{place}: {event:?}");
    match event {
        Event::Gtid(e) => {
            assert_eq!(e.event_type(), raw.header.event_type, "{place}");
            assert_eq!(e.encoded_len(), body.len(), "{place}");
        }
        Event::TableMap(e) => check_table_map(&e, place),
        Event::Query(e) => check_status_vars(e.status_vars, place),
        Event::Payload(e) => {
            let bytes = inside(&e);
            let mut reader = EventReader::new(&bytes, ChecksumAlg::None);
            while let Some(inner) = reader.next().expect("well framed") {
                check_body(&inner, &format!("{place} payload {}", reader.offset()));
            }
        }
        _ => {}
    }
}

fn check_table_map(e: &TableMap<'_>, place: &str) {
    let columns: Vec<_> = e
        .columns()
        .collect::<Result<_, _>>()
        .unwrap_or_else(|e| panic!("{place}: {e}"));
    assert_eq!(columns.len(), e.column_types.len(), "{place}");
    let meta = e
        .optional_metadata()
        .unwrap_or_else(|e| panic!("{place}: {e}"));
    assert!(meta.unknown.is_empty(), "{place}: {meta:?}");
    let mut again = Vec::new();
    meta.put(&mut again);
    assert_eq!(again, e.optional, "{place}: {meta:?}");
}

fn check_status_vars(bytes: &[u8], place: &str) {
    let mut again = Vec::new();
    for var in tributary_binlog::StatusVars::new(bytes) {
        assert!(!matches!(var, StatusVar::Unknown(_)), "{place}: {var:?}");
        var.put(&mut again);
    }
    assert_eq!(again, bytes, "{place}");
}

#[test]
fn every_event_is_understood_and_written_back() {
    for name in FILES {
        let bytes = file(name);
        let events = events(&bytes);
        assert!(events.len() > 5, "{name} has only {} events", events.len());
        let mut end = 4;
        for (at, raw) in events {
            assert_eq!(at, end, "{name}");
            end += raw.bytes.len() as u64;
            assert_eq!(u64::from(raw.header.log_pos), end, "{name} at {at}");
            check_body(&raw, &format!("{name} at {at}"));
        }
        assert_eq!(end, bytes.len() as u64, "{name}");
    }
}

#[test]
fn copying_all_events_gives_the_same_file() {
    for name in FILES {
        let bytes = file(name);
        let mut copy = MAGIC.to_vec();
        let mut alg = ChecksumAlg::Crc32;
        for (at, raw) in events(&bytes) {
            alg = raw.next_alg(alg).expect("a known algorithm");
            let mut writer = EventWriter::new(&mut copy, 0, 7, alg);
            assert_eq!(writer.offset(), at, "{name}");
            let table_id = tributary_binlog::table_id_of(raw.header.event_type, raw.body);
            writer
                .copy(&raw.header, raw.body, raw.header.timestamp, table_id)
                .expect("it fits");
        }
        assert!(copy == bytes, "{name} differs");
    }
}

/// One line of `mysql --batch`: Log_name, Pos, Event_type, Server_id, End_log_pos, Info.
fn batch_line(log: &str, at: u64, raw: &RawEvent<'_>, end: u64) -> String {
    let escaped = info(raw)
        .replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\t', "\\t");
    let (ty, server) = (raw.header.event_type.name(), raw.header.server_id);
    format!("{log}\t{at}\t{ty}\t{server}\t{end}\t{escaped}")
}

#[test]
fn info_is_what_the_server_shows() {
    for name in FILES {
        let want = fs::read_to_string(path(name, "events")).expect("checked in");
        let mut want = want.lines().skip(1);
        let bytes = file(name);
        for (at, raw) in events(&bytes) {
            let mut expect_line = |at, raw: &RawEvent<'_>, end| {
                let line = want.next().unwrap_or_default();
                let log = line.split('\t').next().expect("split yields one at least");
                assert_eq!(batch_line(log, at, raw, end), line, "{name}");
            };
            let end = u64::from(raw.header.log_pos);
            expect_line(at, &raw, end);
            if let Ok(Event::Payload(payload)) = Event::parse(&raw) {
                // The server lists what is inside, all at the payload's end.
                let inner = inside(&payload);
                let mut reader = EventReader::new(&inner, ChecksumAlg::None);
                while let Some(raw) = reader.next().expect("well framed") {
                    expect_line(end, &raw, end);
                }
            }
        }
        assert_eq!(want.next(), None, "{name}");
    }
}

#[test]
fn every_kind_of_event_is_covered() {
    let mut seen = [false; 256];
    for name in FILES {
        for (_, raw) in events(&file(name)) {
            seen[usize::from(raw.header.event_type.0)] = true;
        }
    }
    // Not in files of this server: rows of layout v1, heartbeats, incidents, group replication, statement format.
    for code in [
        2, 3, 4, 15, 16, 19, 29, 30, 31, 32, 33, 34, 35, 38, 39, 40, 42,
    ] {
        assert!(seen[code], "{:?}", EventType(code as u8));
    }
}

#[test]
fn a_file_cut_anywhere_is_a_torn_tail_not_damage() {
    let bytes = file("xa");
    let ends: Vec<u64> = events(&bytes)
        .iter()
        .map(|(_, raw)| u64::from(raw.header.log_pos))
        .collect();
    for cut in 4..bytes.len() {
        let mut reader = EventReader::new(&bytes[4..cut], ChecksumAlg::Crc32);
        let outcome = loop {
            match reader.next() {
                Ok(Some(_)) => {}
                other => break other.map(|_| ()),
            }
        };
        let at_end = cut == 4 || ends.contains(&(cut as u64));
        let torn = matches!(outcome, Err(tributary_binlog::FrameError::Truncated { .. }));
        assert_eq!(torn, !at_end, "{cut}: {outcome:?}");
    }
}

#[test]
fn the_in_use_flag_does_not_change_the_checksum() {
    let (active, stopped) = (file("active"), file("stopped"));
    assert_eq!(events(&active)[0].1.header.flags, flags::IN_USE);
    assert_eq!(events(&stopped)[0].1.header.flags, 0);
    let mut closed = active;
    assert!(set_in_use(&mut closed[4..], false));
    assert_eq!(closed, stopped[..closed.len()]);
}

#[test]
fn what_the_coordinator_stamped_is_found() {
    let bytes = file("xa");
    let stamped: Vec<u64> = events(&bytes)
        .iter()
        .filter_map(|(_, raw)| match Event::parse(raw) {
            Ok(Event::Gtid(e)) if e.original_commit_ts != e.immediate_commit_ts => {
                Some(e.original_commit_ts)
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        stamped,
        [
            1_700_000_000_000_001,
            1_700_000_000_000_002,
            1_700_000_000_000_003
        ]
    );
}

#[test]
fn transaction_length_is_the_bytes_of_the_group() {
    for name in FILES {
        let bytes = file(name);
        let all = events(&bytes);
        for (i, (at, raw)) in all.iter().enumerate() {
            let Ok(Event::Gtid(mut event)) = Event::parse(raw) else {
                continue;
            };
            let next = all[i + 1..].iter().find(|(_, r)| {
                r.header.event_type.is_gtid()
                    || matches!(r.header.event_type, EventType::ROTATE | EventType::STOP)
            });
            let end = next.map_or(bytes.len() as u64, |(at, _)| *at);
            assert_eq!(event.transaction_length, end - at, "{name} at {at}");
            let alg = if name == "no-checksum" {
                ChecksumAlg::None
            } else {
                ChecksumAlg::Crc32
            };
            let want = event;
            event.set_transaction_length(end - at - raw.bytes.len() as u64, alg);
            assert_eq!(event, want, "{name} at {at}");
        }
    }
}

#[test]
fn columns_of_every_type() {
    let bytes = file("rows-full");
    let maps: Vec<_> = events(&bytes)
        .into_iter()
        .filter_map(|(_, raw)| match Event::parse(&raw) {
            Ok(Event::TableMap(e)) => Some(e),
            _ => None,
        })
        .collect();
    let kinds = maps
        .iter()
        .find(|m| m.table == b"kinds")
        .expect("in the fixture");
    let columns: Vec<_> = kinds
        .columns()
        .collect::<Result<_, _>>()
        .expect("well formed");
    let meta = kinds.optional_metadata().expect("well formed");
    let names: Vec<_> = meta
        .names
        .expect("FULL")
        .iter()
        .map(|n| String::from_utf8_lossy(n).into_owned())
        .collect();
    let column = |name: &str| columns[names.iter().position(|n| n == name).expect("in the table")];
    assert_eq!(column("e").real_type(), ColumnType::ENUM);
    assert_eq!(column("st").real_type(), ColumnType::SET);
    assert_eq!(
        (column("c300").real_type(), column("c300").string_len()),
        (ColumnType::STRING, 800)
    );
    assert_eq!(
        (column("c").string_len(), column("bi").string_len()),
        (40, 5)
    );
    assert_eq!(column("v2").meta, 2000);
    assert_eq!(column("n").meta, 20 << 8 | 6);
    assert_eq!(column("b17").meta, 2 << 8 | 1);
    assert_eq!(
        (column("ti3").meta, column("dtm6").meta, column("lb").meta),
        (3, 6, 4)
    );
    assert!(!column("id").nullable && !column("p").nullable && column("inv").nullable);
    // id t tu s m i y iu f d n inv gen
    let unsigned = [
        true, false, true, false, true, false, true, true, false, true, false, false, false,
    ];
    assert_eq!(meta.unsigned.as_deref(), Some(&unsigned[..]));
    assert_eq!(meta.simple_primary_key, Some(vec![0]));
    assert_eq!(meta.vector_dimensions, Some(vec![3]));
    assert_eq!(meta.geometry_types, Some(vec![0, 1]));
    assert_eq!(
        meta.enum_values.expect("FULL")[1],
        [&b"\xe4"[..], b"b"],
        "in the column's own character set"
    );
    let visible = meta.visible.expect("FULL");
    assert_eq!(visible.iter().filter(|v| !**v).count(), 1);
    assert_eq!(visible.len(), columns.len());
    let prefixed = maps
        .iter()
        .find(|m| m.table == b"prefixed")
        .expect("in the fixture");
    let meta = prefixed.optional_metadata().expect("well formed");
    assert_eq!(
        meta.primary_key_with_prefix,
        Some(vec![(1, 0), (0, 10), (2, 4)])
    );
}

#[test]
fn previous_gtids_with_tags() {
    let bytes = file("no-checksum");
    let Ok(Event::PreviousGtids(set)) = Event::parse(&events(&bytes)[1].1) else {
        panic!("second event")
    };
    let text = "00000000-0000-0000-0000-000000000001:5:tt:5,11111111-2222-3333-4444-555555555555:1-60:mytag:1-3,\
                ffffffff-eeee-dddd-cccc-bbbbbbbbbbbb:9223372036854775806:_a_tag_of_exactly_32_characters:1099511627776";
    assert_eq!(set.0, text.parse::<GtidSet>().expect("good"));
    assert_eq!(set.0.to_text_oneline(), text);
}

#[test]
fn describe_is_one_line() {
    let bytes = file("rows-full");
    let all = events(&bytes);
    for (at, raw) in &all {
        assert!(!describe(raw, *at).contains('\n'));
    }
    let (at, raw) = &all[2];
    assert_eq!(
        describe(raw, *at),
        "158  Gtid  server_id=7 end=235  SET @@SESSION.GTID_NEXT= '11111111-2222-3333-4444-555555555555:1'"
    );
}

#[test]
fn payloads_are_capped_and_checked() {
    use tributary_binlog::PayloadError;
    let bytes = file("compressed");
    let all = events(&bytes);
    let large = all
        .iter()
        .find_map(|(_, raw)| match Event::parse(raw) {
            Ok(Event::Payload(e)) if e.uncompressed_size > 50_000 => Some(e),
            _ => None,
        })
        .expect("in the fixture");
    let size = large.uncompressed_size as usize;
    let mut out = Vec::new();
    assert_eq!(large.decompress(size, &mut out), Ok(()));
    assert_eq!(
        large.decompress(size - 1, &mut out),
        Err(PayloadError::TooLarge { cap: size - 1 })
    );
    assert_eq!(
        large.decompress(0, &mut out),
        Err(PayloadError::TooLarge { cap: 0 })
    );
    for claimed in [1, size as u64 - 1, u64::MAX] {
        let lying = Payload {
            uncompressed_size: claimed,
            ..large
        };
        assert_eq!(
            lying.decompress(CAP, &mut out),
            Err(PayloadError::SizeMismatch {
                claimed,
                actual: size as u64
            })
        );
    }
    // The claim is informational, and may be missing.
    let silent = Payload {
        uncompressed_size: 0,
        ..large
    };
    assert_eq!(silent.decompress(CAP, &mut out), Ok(()));
    assert_eq!(out.len(), size);
    for cut in 0..large.payload.len() {
        let torn = Payload {
            payload: &large.payload[..cut],
            ..large
        };
        assert!(torn.decompress(CAP, &mut out).is_err(), "{cut}");
    }
}
