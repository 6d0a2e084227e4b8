//! Bytes as a MySQL server wrote them, in hexadecimal, and what they mean.

use tributary_binlog::{
    ChecksumAlg, Event, EventHeader, EventType, FormatDescription, Gno, GtidEvent, GtidSet,
    Heartbeat, InnodbXid, RawEvent, StatusVar, StatusVars, UNKNOWN_SERVER_VERSION, XaPrepare,
    XidEvent, info,
};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex")
    };
    digits.chunks(2).map(byte).collect()
}

fn put(f: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    f(&mut out);
    out
}

/// MySQL 9.7.4: the first event of a file.
#[test]
fn format_description_of_9_7() {
    let lens =
        "000d0008000000000400040000006300041a08000000000000020000000a0a0a2a2a001234000a280000";
    let body = hex(&format!(
        "0400 392e372e342d32 {} 00000000 13 {lens} 01",
        "00".repeat(43)
    ));
    let event = FormatDescription::parse(&body).expect("real");
    assert_eq!(event, FormatDescription::for_version("9.7.4-2"));
    assert_eq!(put(|out| event.put_body(out)), body);
}

/// MySQL 8.0 has 41 types and still lists rows of layout v1.
#[test]
fn format_description_of_8_0() {
    let lens = "000d0008000000000400040000006200041a08000000080808020000000a0a0a2a2a001234000a2800";
    let body = hex(&format!(
        "0400 382e302e3333 {} 0a0b0c5f 13 {lens} 01",
        "00".repeat(44)
    ));
    let event = FormatDescription::parse(&body).expect("real");
    assert_eq!(
        (event.server_version.as_str(), event.post_header_lens.len()),
        ("8.0.33", 41)
    );
    assert_eq!(event.created, 0x5f0c_0b0a);
    assert_eq!(event.checksum, ChecksumAlg::Crc32);
    assert_eq!(put(|out| event.put_body(out)), body);
}

#[test]
fn other_format_descriptions_are_refused() {
    let good = put(|out| FormatDescription::for_version("9.7.4").put_body(out));
    for (at, value) in [(0, 3), (56, 20), (good.len() - 1, 7)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert!(FormatDescription::parse(&bad).is_err(), "byte {at}");
    }
    assert!(FormatDescription::parse(&good[..57]).is_err());
}

#[test]
fn tagged_gtid() {
    let body = hex(
        "02780000000222222222444466668888aaaaaaaaaaaa0408060a6d7974616708040a080c7f7ca267e3cf60060e7f04401e18240a06\
         10ad041283120b",
    );
    let event = GtidEvent::parse(EventType::GTID_TAGGED, &body).expect("real");
    let gtid = event.gtid.expect("not anonymous");
    assert_eq!(
        gtid.to_string(),
        "11111111-2222-3333-4444-555555555555:mytag:2"
    );
    assert_eq!(
        (event.flags, event.last_committed, event.sequence_number),
        (0, 1, 2)
    );
    assert_eq!(event.original_commit_ts, 1_700_000_000_000_004);
    assert_eq!(event.transaction_length, 299);
    assert_eq!(
        (
            event.original_server_version,
            event.immediate_server_version
        ),
        (90704, 90704)
    );
    assert_eq!(put(|out| event.put_body(out)), body);
}

#[test]
fn tagged_gtid_of_a_later_version() {
    let good = hex(
        "02660000000222222222444466668888aaaaaaaaaaaa0404060a6d7974616708000a040c7f4c9f67e3cf60061089041283120b",
    );
    let event = GtidEvent::parse(EventType::GTID_TAGGED, &good).expect("real");
    // An ignorable field 12 behind the known ones.
    let later = [&good[..], &[24, 2, 2]].concat();
    assert_eq!(GtidEvent::parse(EventType::GTID_TAGGED, &later), Ok(event));
    // "Fields up to 12 must be understood."
    let mut needed = later;
    needed[2] = 13 << 1;
    assert!(GtidEvent::parse(EventType::GTID_TAGGED, &needed).is_err());
    let mut other_library = good.clone();
    other_library[0] = 4;
    assert!(GtidEvent::parse(EventType::GTID_TAGGED, &other_library).is_err());
}

/// Size of the message at the edge to two bytes, where the library's own count is one short.
#[test]
fn tagged_gtid_of_every_length_round_trips() {
    for len in 0..=31 {
        let gtid = format!(
            "ffffffff-ffff-ffff-ffff-ffffffffffff:{}:9223372036854775806",
            "t".repeat(len + 1)
        );
        let event = GtidEvent {
            gtid: Some(gtid.parse().expect("good")),
            flags: 1,
            last_committed: i64::MAX,
            sequence_number: i64::MIN,
            immediate_commit_ts: (1 << 55) - 1,
            original_commit_ts: 1 << 54,
            transaction_length: u64::MAX,
            original_server_version: 80036,
            immediate_server_version: UNKNOWN_SERVER_VERSION,
            commit_group_ticket: Some(1 << 60),
        };
        let body = put(|out| event.put_body(out));
        assert_eq!(body.len(), event.encoded_len());
        assert_eq!(GtidEvent::parse(EventType::GTID_TAGGED, &body), Ok(event));
    }
}

/// Older servers leave out the last parts.
#[test]
fn gtid_events_of_older_servers() {
    let sid_gno = "3e11fa4771ca11e19e33c80aa9429562 1700000000000000";
    let clock = "02 0a00000000000000 0b00000000000000";
    let parse = |text: &str| GtidEvent::parse(EventType::GTID, &hex(text));
    let v56 = parse(&format!("01 {sid_gno}")).expect("5.6");
    assert_eq!(
        v56.gtid.expect("given").gno,
        Gno::new(23).expect("in range")
    );
    assert_eq!(
        (v56.flags, v56.sequence_number, v56.transaction_length),
        (1, 0, 0)
    );
    assert_eq!(v56.original_server_version, UNKNOWN_SERVER_VERSION);
    let v57 = parse(&format!("00 {sid_gno} {clock}")).expect("5.7");
    assert_eq!(
        (
            v57.last_committed,
            v57.sequence_number,
            v57.immediate_commit_ts
        ),
        (10, 11, 0)
    );
    let v80 = parse(&format!(
        "00 {sid_gno} {clock} 01000000000080 02000000000000 fc2c01"
    ))
    .expect("8.0.2");
    assert_eq!(
        (
            v80.immediate_commit_ts,
            v80.original_commit_ts,
            v80.transaction_length
        ),
        (1, 2, 300)
    );
    let full =
        format!("00 {sid_gno} {clock} 01000000000080 02000000000000 fc2c01 a4380180 a3380100");
    let full = parse(&full).expect("8.0.14");
    assert_eq!(
        (full.immediate_server_version, full.original_server_version),
        (80036, 80035)
    );
    for cut in [1, 17, 24, 26, 33, 41, 43, 48, 56] {
        let text = format!("00 {sid_gno} {clock} 01000000000080 02000000000000");
        assert!(
            GtidEvent::parse(EventType::GTID, &hex(&text)[..cut.min(55)]).is_err() || cut == 56,
            "{cut}"
        );
    }
    assert!(
        parse("00 3e11fa4771ca11e19e33c80aa9429562 0000000000000000").is_err(),
        "number 0"
    );
    assert!(
        GtidEvent::parse(
            EventType::ANONYMOUS_GTID,
            &hex(&format!("00 {} {clock}", "00".repeat(24)))
        )
        .is_ok()
    );
}

#[test]
fn gtid_set_layouts() {
    let untagged = hex(
        "0200000000000000
         11111111222233334444555555555555 0200000000000000 0100000000000000 0600000000000000 0700000000000000 0800000000000000
         aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0100000000000000 0100000000000000 0200000000000000",
    );
    let set = GtidSet::decode(&untagged).expect("good");
    assert_eq!(
        set.to_text_oneline(),
        "11111111-2222-3333-4444-555555555555:1-5:7,aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1"
    );
    assert_eq!(put(|out| set.encode(out)), untagged);
    let tagged = hex(
        "0102000000000001
         11111111222233334444555555555555 00 0100000000000000 0100000000000000 0600000000000000
         11111111222233334444555555555555 04 7474 0100000000000000 0500000000000000 0600000000000000",
    );
    let set = GtidSet::decode(&tagged).expect("good");
    assert_eq!(
        set.to_string(),
        "11111111-2222-3333-4444-555555555555:1-5:tt:5"
    );
    assert_eq!(put(|out| set.encode(out)), tagged);
    assert_eq!(put(|out| GtidSet::new().encode(out)), [0; 8]);
}

#[test]
fn gtid_sets_mysql_refuses() {
    let entry = |intervals: &str, n: u8| {
        format!(
            "0100000000000000 {} {n:02x}00000000000000 {intervals}",
            "11".repeat(16)
        )
    };
    let refused = |text: &str, why: &str| assert!(GtidSet::decode(&hex(text)).is_err(), "{why}");
    refused("0100000000000002", "an unknown layout");
    refused(&entry("0000000000000000 0200000000000000", 1), "number 0");
    refused(
        &entry("0200000000000000 0200000000000000", 1),
        "an empty interval",
    );
    refused(
        &entry("0300000000000000 0200000000000000", 1),
        "a reversed interval",
    );
    refused(
        &entry("0100000000000000 0000000000000080", 1),
        "a number of 2^63",
    );
    refused(
        &entry(
            "0100000000000000 0200000000000000 0200000000000000 0300000000000000",
            2,
        ),
        "touching intervals",
    );
    let good = entry("0100000000000000 ffffffffffffff7f", 1);
    assert_eq!(
        GtidSet::decode(&hex(&good)).expect("all numbers").count(),
        i64::MAX as u64 - 1
    );
}

#[test]
fn xa_prepare_and_xid() {
    let body = hex("00 67120000 07000000 03000000 67747269642d31 646e31");
    let event = XaPrepare::parse(&body).expect("real");
    assert!(!event.one_phase);
    assert_eq!(event.xid.to_string(), "X'67747269642d31',X'646e31',4711");
    let big = XaPrepare::parse(&hex(
        "00 ffffffff 06000000 06000000 626967676572 666f726d6174",
    ))
    .expect("real");
    assert_eq!(
        big.xid.to_string(),
        "X'626967676572',X'666f726d6174',4294967295"
    );
    assert!(XaPrepare::parse(&hex("00 67120000 ffffffff ffffffff 6774")).is_err());
    assert!(
        XaPrepare::parse(&hex("00 67120000 01000000 00000000 6774")).is_err(),
        "bytes left over"
    );
    assert_eq!(
        XidEvent::parse(&hex("0c00000000000000")),
        Ok(XidEvent(InnodbXid(12)))
    );
    assert!(XidEvent::parse(&hex("0c000000000000")).is_err());
}

#[test]
fn status_variables_of_9_7() {
    let vars = hex(
        "00 00000000 01 0400100000000000 06 03737464 03 02000100 04 ff00ff00ff00 05 0653595354454d 07 0400
         0b 04726f6f74 096c6f63616c686f7374 0c 02 73686f7000 6d7973716c00 11 6f00000000000000 12 ff00 14 00",
    );
    let read: Vec<_> = StatusVars::new(&vars).collect();
    assert_eq!(read[1], StatusVar::SqlMode(0x10_0004));
    assert_eq!(read[5], StatusVar::TimeZone(b"SYSTEM"));
    assert_eq!(
        read[7],
        StatusVar::Invoker {
            user: b"root",
            host: b"localhost"
        }
    );
    let StatusVar::UpdatedDbNames(names) = read[8] else {
        panic!("{read:?}")
    };
    assert_eq!(names.iter().collect::<Vec<_>>(), [&b"shop"[..], b"mysql"]);
    assert_eq!(read[9], StatusVar::DdlLoggedWithXid(111));
    assert_eq!(read.len(), 12);
    // PolarDB-X: the commit TSO of an XA COMMIT.
    let polar = hex("c8 0102030405060708");
    assert_eq!(
        StatusVars::new(&polar).next(),
        Some(StatusVar::PolarCommitGcn(0x0807_0605_0403_0201))
    );
}

fn raw(ty: EventType, log_pos: u32, body: &[u8]) -> RawEvent<'_> {
    let header = EventHeader {
        timestamp: 0,
        event_type: ty,
        server_id: 1,
        event_size: 0,
        log_pos,
        flags: 0,
    };
    RawEvent {
        header,
        bytes: body,
        body,
    }
}

#[test]
fn heartbeats() {
    let v1 = raw(EventType::HEARTBEAT, 1234, b"binlog.000001");
    let v2 = hex("01 0d 62696e6c6f672e303030303031 02 03 fc d204 00");
    let v2 = raw(EventType::HEARTBEAT_V2, 0, &v2);
    for (raw, is_v2) in [(v1, false), (v2, true)] {
        let want = Heartbeat {
            file: b"binlog.000001",
            position: 1234,
            v2: is_v2,
        };
        assert_eq!(Event::parse(&raw), Ok(Event::Heartbeat(want)));
        assert_eq!(put(|out| want.put_body(out)), raw.body);
    }
}

#[test]
fn infos_no_fixture_shows() {
    assert_eq!(
        info(&raw(EventType::INCIDENT, 0, &hex("0100 04 6c6f7374"))),
        "#1 (LOST_EVENTS): lost"
    );
    assert_eq!(
        info(&raw(EventType::INCIDENT, 0, &hex("0100 00"))),
        "#1 (LOST_EVENTS)"
    );
    assert_eq!(
        info(&raw(EventType::ROTATE, 0, &hex("04"))),
        "malformed Rotate event: no room for the position"
    );
    assert_eq!(info(&raw(EventType(105), 0, &[1, 2, 3])), "");
}
