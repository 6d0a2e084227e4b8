//! Hand-made streams: every form of a group, every reason to stop, any bytes.

use proptest::prelude::*;
use tributary_binlog::{
    ChecksumAlg, Compression, EventReader, EventType, EventWriter, Heartbeat, Incident, Payload,
    XaXid, flags,
};
use tributary_collector::AssembleError;
use tributary_flow::{ErrorClass, NodeItem, SourcePos};

use crate::fixtures::events_of;
use crate::stream::{Stream, UUID, assembler, body, feed, line, txns, unverified};

fn lines(stream: &Stream) -> Vec<String> {
    let (items, result) = stream.assemble();
    result.unwrap();
    // Ends are tested against real files.
    let strip = |l: String| {
        l.split(' ')
            .filter(|w| w.parse::<u64>().is_err())
            .collect::<Vec<_>>()
            .join(" ")
    };
    txns(items)
        .iter()
        .map(|t| strip(line(t)).replace(UUID, ""))
        .collect()
}

fn error(stream: &Stream) -> AssembleError {
    stream.assemble().1.expect_err("must be refused")
}

fn xid() -> XaXid {
    XaXid::new(1, b"g1", b"b1").unwrap()
}

#[test]
fn every_form_of_a_group() {
    let mut s = Stream::file();
    let x = xid();
    s.local(1, 100);
    s.gtid(2)
        .query("BEGIN")
        .rows(10)
        .query("SAVEPOINT `a`")
        .rows(10)
        .query("ROLLBACK TO `a`");
    s.query("COMMIT");
    s.gtid(3)
        .query("BEGIN")
        .query("CREATE TABLE t (a INT) START TRANSACTION")
        .rows(10)
        .xid();
    s.gtid(4)
        .query(&format!("XA START {x}"))
        .rows(10)
        .query(&format!("XA END {x}"));
    s.xa_prepare(&x, false);
    s.gtid(5).query(&format!("XA COMMIT {x}"));
    s.gtid(6)
        .query(&format!("XA START {x}"))
        .rows(10)
        .query(&format!("XA END {x}"));
    s.xa_prepare(&x, true);
    s.gtid(7).query(&format!("XA ROLLBACK {x}"));
    s.gtid(8).query("DROP TABLE t");
    s.gtid(9).query("GRANT SELECT ON *.* TO u");
    s.gtid(10).query("BEGIN").query("COMMIT");
    s.gtid(11);
    s.gtid(12).query("BEGIN").query("ROLLBACK");
    s.gtid(13)
        .query("BEGIN")
        .raw(EventType::VIEW_CHANGE, 0, |b| b.push(1))
        .query("COMMIT");
    s.gtid(14)
        .query("BEGIN")
        .raw(EventType(105), flags::IGNORABLE, |b| b.push(1))
        .rows(1)
        .xid();
    assert_eq!(
        lines(&s),
        [
            ":1 Local Table_map,Write_rows",
            ":2 Local Table_map,Write_rows,Query,Table_map,Write_rows,Query",
            ":3 Local Query,Table_map,Write_rows",
            &format!(":4 Prepare {x} Table_map,Write_rows"),
            &format!(":5 Commit {x} "),
            &format!(":6 OnePhase {x} Table_map,Write_rows"),
            &format!(":7 Rollback {x} "),
            ":8 Ddl Query",
            ":9 Ddl Query",
            ":10 Empty ",
            ":11 Empty ",
            ":12 Empty ",
            ":13 Empty ",
            ":14 Local Table_map,Write_rows",
        ]
    );
}

#[test]
fn a_group_with_only_a_gtid_ends_at_its_gtid_event() {
    let mut s = Stream::file();
    s.gtid(1);
    let end = s.0.len() as u64 + 4;
    s.raw(EventType::STOP, 0, |_| {});
    let (items, result) = s.assemble();
    result.unwrap();
    assert_eq!(
        txns(items)[0].end,
        SourcePos {
            file: 7,
            offset: end
        }
    );
}

#[test]
fn a_prepares_timestamp_is_no_tso_and_a_commits_is() {
    let x = xid();
    let mut s = Stream::file();
    s.gtid_at(1, 5, 9)
        .query(&format!("XA START {x}"))
        .rows(10)
        .query(&format!("XA END {x}"));
    s.xa_prepare(&x, false);
    s.gtid_at(2, 6, 10).query(&format!("XA COMMIT {x}"));
    s.gtid_at(3, 11, 11).query("DROP TABLE t");
    s.gtid_at(4, 0, 11).query("DROP TABLE t");
    let (items, result) = s.assemble();
    result.unwrap();
    let tsos: Vec<_> = txns(items)
        .iter()
        .map(|t| t.tso.map(tributary_flow::Tso::micros))
        .collect();
    assert_eq!(tsos, [None, Some(6), None, None]);
}

#[test]
fn what_cannot_be_carried_on_has_a_name_and_a_place() {
    let x = xid();
    let other = XaXid::new(1, b"g2", b"b1").unwrap();
    type Make = fn(&mut Stream, &XaXid, &XaXid);
    let cases: [(&str, Make); 13] = [
        ("unknown event type Unknown(105)", |s, _, _| {
            s.gtid(1)
                .query("BEGIN")
                .raw(EventType(105), 0, |b| b.push(1));
        }),
        ("statement-based INSERT", |s, _, _| {
            s.gtid(1)
                .query("BEGIN")
                .query("INSERT INTO t VALUES ('secret')");
        }),
        ("statement-based UPDATE", |s, _, _| {
            s.gtid(1).query("/* c */ update t set a = 'secret'");
        }),
        ("statement-based Intvar", |s, _, _| {
            s.gtid(1)
                .query("BEGIN")
                .raw(EventType::INTVAR, 0, |b| b.extend_from_slice(&[1; 9]));
        }),
        ("ends with ROLLBACK but has changes", |s, _, _| {
            s.gtid(1).query("BEGIN").rows(1).query("ROLLBACK");
        }),
        ("INCIDENT", |s, _, _| {
            let incident = Incident {
                number: 1,
                message: b"lost events",
            };
            s.raw(EventType::INCIDENT, 0, |b| incident.put_body(b));
        }),
        ("Table_map at 000007", |s, _, _| {
            s.raw(EventType::TABLE_MAP, 0, |b| b.push(1));
        }),
        ("Table_map at 000007", |s, _, _| {
            s.gtid(1).raw(EventType::TABLE_MAP, 0, |b| b.push(1));
        }),
        ("Xid at 000007", |s, x, _| {
            s.gtid(1).query(&format!("XA START {x}")).xid();
        }),
        ("XA_prepare", |s, x, _| {
            s.gtid(1)
                .query(&format!("XA START {x}"))
                .rows(1)
                .xa_prepare(x, false);
        }),
        ("XA_prepare", |s, x, other| {
            s.gtid(1)
                .query(&format!("XA START {x}"))
                .query(&format!("XA END {x}"));
            s.xa_prepare(other, false);
        }),
        ("malformed Query event", |s, _, _| {
            s.gtid(1).raw(EventType::QUERY, 0, |b| b.push(1));
        }),
        ("unreadable XA statement", |s, _, _| {
            s.gtid(1).query("XA COMMIT X'zz'");
        }),
    ];
    for (text, make) in cases {
        let mut s = Stream::file();
        make(&mut s, &x, &other);
        let e = error(&s);
        assert!(e.to_string().contains(text), "{text}: {e}");
        assert!(
            !e.to_string().contains("secret"),
            "row values must not be shown: {e}"
        );
        let end = s.0.len() + 4;
        assert!(e.to_string().contains(&format!("000007:{end}")), "{e}");
        assert_eq!(e.class(), ErrorClass::Halt, "{e}");
    }
}

#[test]
fn a_cut_off_group_is_read_again_and_what_was_whole_is_kept() {
    let mut s = Stream::file();
    s.local(1, 100).gtid(2).query("BEGIN").rows(10);
    s.raw(EventType::STOP, 0, |_| {});
    let (items, result) = s.assemble();
    let e = result.unwrap_err();
    assert!(matches!(&e, AssembleError::Torn { .. }), "{e}");
    assert_eq!(e.class(), ErrorClass::Retry);
    let txns = txns(items);
    assert_eq!(txns.len(), 1);
    assert_eq!(body(&txns[0]).len(), 2);
}

#[test]
fn positions_come_from_rotates_headers_and_heartbeats_but_not_inside_groups() {
    let mut a = assembler();
    let last = |items: Vec<NodeItem>| match items.last() {
        Some(NodeItem::Position(pos)) => Some(*pos),
        _ => None,
    };
    let mut s = Stream::file();
    s.raw(EventType::PREVIOUS_GTIDS, 0, |b| {
        b.extend_from_slice(&[0; 8]);
    });
    feed(&mut a, &s.0).unwrap();
    let offset = s.0.len() as u64 + 4;
    assert_eq!(last(a.take()), Some(SourcePos { file: 7, offset }));
    let beat = Heartbeat {
        file: b"binlog.000007",
        position: 5_000_000_000,
        v2: true,
    };
    let mut s = Stream::default();
    s.raw(EventType::HEARTBEAT_V2, 0, |b| beat.put_body(b));
    feed(&mut a, &s.0).unwrap();
    assert_eq!(
        last(a.take()),
        Some(SourcePos {
            file: 7,
            offset: 5_000_000_000
        })
    );
    let mut open = Stream::default();
    open.gtid(1).query("BEGIN");
    feed(&mut a, &open.0).unwrap();
    feed(&mut a, &s.0).unwrap();
    assert!(
        a.take().is_empty(),
        "a position inside a group would let a fence pass too early"
    );
    feed(&mut assembler(), &Stream::rotate_event("binlog", 4)).unwrap_err();
}

/// A compressed transaction with rows of `len` bytes.
fn compressed(s: &mut Stream, gno: u64, len: usize) {
    let mut inner = Vec::new();
    let mut plain = Stream::default();
    plain
        .query("BEGIN")
        .rows(len)
        .query("SAVEPOINT `s`")
        .rows(len)
        .xid();
    let mut reader = EventReader::new(&plain.0, ChecksumAlg::Crc32);
    let mut writer = EventWriter::new(&mut inner, 0, 1, ChecksumAlg::None);
    while let Some(event) = reader.next().unwrap() {
        writer.copy(&event.header, event.body, 1, None).unwrap();
    }
    let zstd = zstd::encode_all(&inner[..], 1).unwrap();
    let compression = Compression::Zstd;
    let payload = Payload {
        compression,
        uncompressed_size: inner.len() as u64,
        payload: &zstd,
    };
    s.gtid(gno)
        .raw(EventType::TRANSACTION_PAYLOAD, 0, |b| payload.put_body(b));
}

#[test]
fn compressed_transactions_small_and_large_are_opened() {
    for len in [10, 1000, 200_000, 3_000_000] {
        let mut s = Stream::file();
        compressed(&mut s, 1, len);
        s.local(2, 77);
        compressed(&mut s, 3, len);
        let (items, result) = s.assemble();
        result.unwrap();
        let txns = txns(items);
        assert_eq!(txns.len(), 3);
        for i in [0, 2] {
            let body = body(&txns[i]);
            let types: Vec<_> = body.iter().map(|(ty, _)| ty.name()).collect();
            assert_eq!(
                types,
                [
                    "Table_map",
                    "Write_rows",
                    "Query",
                    "Table_map",
                    "Write_rows"
                ]
            );
            assert!(body[1].1 == vec![2; len] && body[4].1 == vec![2; len]);
        }
        assert_eq!(body(&txns[1])[1].1, vec![2; 77]);
    }
}

#[test]
fn a_bad_payload_is_refused_by_name() {
    let mut s = Stream::file();
    let payload = Payload {
        compression: Compression::Zstd,
        uncompressed_size: 100,
        payload: b"no zstd",
    };
    s.gtid(1)
        .raw(EventType::TRANSACTION_PAYLOAD, 0, |b| payload.put_body(b));
    assert!(matches!(error(&s), AssembleError::Payload { .. }));
    let mut s = Stream::file();
    let payload = Payload {
        compression: Compression::None,
        uncompressed_size: 7,
        payload: b"no even",
    };
    s.gtid(1)
        .raw(EventType::TRANSACTION_PAYLOAD, 0, |b| payload.put_body(b));
    assert!(matches!(error(&s), AssembleError::PayloadFrame { .. }));
    let mut s = Stream::file();
    s.raw(EventType::TRANSACTION_PAYLOAD, 0, |b| payload.put_body(b));
    assert!(matches!(error(&s), AssembleError::Unexpected { .. }));
}

/// Everything the items say, with neighbouring positions joined.
fn say(items: Vec<NodeItem>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for item in items {
        match item {
            NodeItem::Txn(txn) => out.push(format!("{} {:?}", line(&txn), body(&txn))),
            NodeItem::Position(pos) => {
                if out.last().is_some_and(|l| l.starts_with("pos")) {
                    out.pop();
                }
                out.push(format!("pos {pos}"));
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn taking_at_any_moment_changes_nothing(
        sizes in prop::collection::vec(prop_oneof![1_usize..600, 100_000_usize..400_000], 1..12),
        taken in prop::collection::vec(any::<bool>(), 100),
    ) {
        let mut s = Stream::file();
        for (i, size) in sizes.iter().enumerate() {
            let gno = i as u64 + 1;
            match size % 4 {
                0 => compressed(&mut s, gno, *size),
                1 => { s.gtid(gno).query("DROP TABLE t"); }
                _ => { s.local(gno, *size); }
            }
        }
        let (whole, result) = s.assemble();
        result.unwrap();
        let mut a = assembler();
        let mut pieces = Vec::new();
        let mut reader = EventReader::new(&s.0, ChecksumAlg::Crc32);
        let mut i = 0;
        while let Some(event) = reader.next().unwrap() {
            a.handle(&event).unwrap();
            if taken[i % taken.len()] {
                pieces.extend(a.take());
            }
            i += 1;
        }
        pieces.extend(a.take());
        prop_assert_eq!(say(pieces), say(whole));
    }

    #[test]
    fn arbitrary_events_never_panic(
        events in prop::collection::vec(
            (prop_oneof![any::<u8>(), Just(2), Just(33), Just(16), Just(38), Just(40), Just(4), Just(27), Just(41)],
             any::<u16>(), any::<u32>(),
             prop_oneof![
                prop::collection::vec(any::<u8>(), 0..120),
                Just(b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0BEGIN".to_vec()),
                Just(b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0XA START X'61',X'',1".to_vec()),
             ]),
            0..40),
    ) {
        let mut a = assembler();
        for (ty, flags, log_pos, body) in events {
            let size = (19 + body.len() + 4) as u32;
            let header = tributary_binlog::EventHeader {
                timestamp: 1, event_type: EventType(ty), server_id: 1, event_size: size, log_pos, flags,
            };
            let mut bytes = header.to_bytes().to_vec();
            bytes.extend_from_slice(&body);
            bytes.extend_from_slice(&[0; 4]);
            if let Some(event) = unverified(&bytes) {
                let _ = a.handle(&event);
                let _ = a.take();
            }
        }
    }

    #[test]
    fn a_damaged_real_file_never_panics(
        file in prop::sample::select(vec!["xa", "compressed", "rows-full", "ddl", "tagged", "partial-json"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = events_of(file);
        let offsets: Vec<(usize, usize)> = {
            let mut reader = EventReader::new(&bytes, ChecksumAlg::Crc32);
            let mut out = Vec::new();
            let mut from = 0;
            while reader.next().unwrap().is_some() {
                out.push((from, reader.offset()));
                from = reader.offset();
            }
            out
        };
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut a = assembler();
        for (from, to) in offsets {
            if let Some(event) = unverified(&bytes[from..to])
                && a.handle(&event).is_err()
            {
                break;
            }
        }
        let _ = say_lines_only(a.take());
    }
}

/// Touches every body.
fn say_lines_only(items: Vec<NodeItem>) -> usize {
    txns(items)
        .iter()
        .map(|t| {
            t.body
                .segments()
                .iter()
                .map(bytes::Bytes::len)
                .sum::<usize>()
        })
        .sum()
}
