//! Transactions as bytes, read back with the binlog crate.

use tributary_binlog::{
    ChecksumAlg, EventReader, EventType, GtidEvent, HEADER_LEN, InnodbXid, QueryEvent, RawEvent,
    TableMap, XidEvent, table_id_of,
};
use tributary_flow::{Dependency, GlobalTxn};
use tributary_store::{EncodeError, Encoder, Numbers, Pending};

use crate::support::{ddl, event, nth, rows, sid, table_map, write_rows};

fn encode(base: u64, numbers: Numbers, txn: &GlobalTxn) -> Result<Vec<u8>, EncodeError> {
    let mut pending = Pending {
        base,
        ..Pending::default()
    };
    Encoder::new(4294, sid()).transaction(&mut pending, numbers, txn)?;
    Ok(pending.bytes)
}

fn numbers(gno: u64, first_gno: u64) -> Numbers {
    Numbers { gno, first_gno }
}

fn walk(bytes: &[u8]) -> Vec<RawEvent<'_>> {
    let mut reader = EventReader::new(bytes, ChecksumAlg::Crc32);
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

fn gtid(event: &RawEvent<'_>) -> GtidEvent {
    GtidEvent::parse(event.header.event_type, event.body).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn rows_golden() {
    let txn = rows(&[vec![table_map(106, "t"), write_rows(106, 7, 0)]], 5);
    let bytes = encode(198, numbers(5, 2), &txn).unwrap();
    let events: Vec<String> = walk(&bytes).iter().map(|e| hex(e.bytes)).collect();
    // Seen once with mysqlbinlog 9.7.4. These bytes must never change: standbys and restarts count on it.
    let expected = [
        // GTID: last_committed 1, sequence_number 4, transaction_length 269 = fc 0d01.
        "0ff1536521c6100000560000001c0100000000000102030405060708090a0b0c0d0e0f10050000000000\
         00000201000000000000000400000000000000f9411e18240a8605401e18240a06fc0d01143a0100bc39484e",
        // Query BEGIN.
        "0ff1536502c61000004400000060010000080000000000000000000000001a00000000000001000000000000\
         00000603737464042d002d002d0000424547494e913238a7",
        // Table_map: id = the hash of what follows it.
        "0ff1536513c61000002c0000008c01000000001acaa9d767da01000473686f700001740001030001d3818e28",
        // Write_rows: the same id.
        "0ff153651ec610000028000000b401000000001acaa9d767da01000200010100070000002589dbbc",
        // Xid 5.
        "0ff1536510c61000001f000000d301000000000500000000000000ab572190",
    ];
    assert_eq!(events, expected);
}

#[test]
fn rows_have_gtid_begin_events_xid() {
    let txn = nth(5);
    let bytes = encode(1000, numbers(5, 2), &txn).unwrap();
    let events = walk(&bytes);
    let types: Vec<_> = events.iter().map(|e| e.header.event_type).collect();
    use EventType as T;
    let body = [T::TABLE_MAP, T::WRITE_ROWS, T::TABLE_MAP, T::WRITE_ROWS];
    assert_eq!(types, [&[T::GTID, T::QUERY][..], &body, &[T::XID]].concat());
    let mut at = 1000;
    for event in &events {
        at += event.bytes.len() as u64;
        assert_eq!(u64::from(event.header.log_pos), at);
        assert_eq!(event.header.server_id, 4294);
        assert_eq!(event.header.timestamp, txn.timestamp);
    }
    let begin = QueryEvent::parse(events[1].body).unwrap();
    assert_eq!((begin.query, begin.schema), (&b"BEGIN"[..], &b""[..]));
    assert_eq!(
        XidEvent::parse(events[6].body).unwrap(),
        XidEvent(InnodbXid(5))
    );

    let gtid = gtid(&events[0]);
    assert_eq!(
        gtid.gtid.unwrap().to_string(),
        "01020304-0506-0708-090a-0b0c0d0e0f10:5"
    );
    assert_eq!(gtid.flags, 0);
    assert_eq!(gtid.transaction_length, bytes.len() as u64);
    assert_eq!(gtid.original_commit_ts, txn.original_commit);
    assert_eq!(gtid.immediate_commit_ts, txn.immediate_commit);
    assert_eq!(gtid.original_server_version, 80404);
}

#[test]
fn ddl_has_gtid_and_query() {
    let txn = ddl(3, "CREATE TABLE t (a INT)");
    let bytes = encode(500, numbers(3, 3), &txn).unwrap();
    let events = walk(&bytes);
    assert_eq!(events.len(), 2);
    let gtid = gtid(&events[0]);
    assert_eq!(gtid.flags, 1, "may have statements");
    assert_eq!(gtid.transaction_length, bytes.len() as u64);
    assert_eq!(
        QueryEvent::parse(events[1].body).unwrap().query,
        b"CREATE TABLE t (a INT)"
    );
}

/// The statement and its rows are one transaction.
#[test]
fn create_table_select_may_have_statements() {
    let mut query = Vec::new();
    QueryEvent {
        schema: b"shop",
        query: b"CREATE TABLE t (id INT) START TRANSACTION",
        ..QueryEvent::default()
    }
    .put_body(&mut query);
    let query = event(EventType::QUERY, 0, &query);
    let part = vec![query, table_map(9, "t"), write_rows(9, 1, 0)];
    let bytes = encode(198, numbers(5, 2), &rows(&[part], 5)).unwrap();
    let events = walk(&bytes);
    assert_eq!(gtid(&events[0]).flags, 1);
    assert_eq!(events.len(), 6);
}

/// `transaction_length` is exact on both sides of the lengths at which its own width changes.
#[test]
fn transaction_length_is_exact_whatever_its_width() {
    let mut widths = std::collections::BTreeSet::new();
    for sql in (1..300).chain(65_000..65_700) {
        let bytes = encode(4, numbers(1, 1), &ddl(1, &"x".repeat(sql))).unwrap();
        let events = walk(&bytes);
        assert_eq!(
            gtid(&events[0]).transaction_length,
            bytes.len() as u64,
            "{sql}"
        );
        widths.insert(events[0].bytes.len());
    }
    assert_eq!(widths.len(), 3, "1, 3 and 4 bytes");
}

#[test]
fn the_logical_clock_restarts_with_the_file() {
    let clock = |gno, first_gno, dependency| {
        let txn = GlobalTxn {
            dependency,
            ..nth(1)
        };
        let bytes = encode(4, numbers(gno, first_gno), &txn).unwrap();
        let gtid = gtid(&walk(&bytes)[0]);
        (gtid.last_committed, gtid.sequence_number)
    };
    use Dependency::{Predecessor, UpTo};
    assert_eq!(clock(1, 1, UpTo(0)), (0, 1));
    assert_eq!(clock(1, 1, Predecessor), (0, 1));
    assert_eq!(clock(9, 1, UpTo(4)), (4, 9));
    assert_eq!(clock(9, 1, Predecessor), (8, 9));
    assert_eq!(clock(20, 11, Predecessor), (9, 10));
    assert_eq!(clock(20, 11, UpTo(15)), (5, 10));
    assert_eq!(clock(20, 11, UpTo(11)), (1, 10));
    assert_eq!(clock(20, 11, UpTo(10)), (0, 10), "in an earlier file");
    assert_eq!(clock(20, 11, UpTo(3)), (0, 10), "in an earlier file");
    let txn = GlobalTxn {
        dependency: UpTo(20),
        ..nth(1)
    };
    let refused = encode(4, numbers(20, 11), &txn);
    assert!(matches!(
        refused,
        Err(EncodeError::Dependency { gno: 20, on: 20 })
    ));
}

#[test]
fn table_ids_are_told_apart_by_content_and_kept_together_in_a_part() {
    // Both nodes call their table 100; the second node's rows must go to the second table.
    let txn = rows(
        &[
            vec![table_map(100, "orders"), write_rows(100, 1, 0)],
            vec![table_map(100, "items"), write_rows(100, 2, 0)],
            vec![table_map(33, "orders"), write_rows(33, 3, 0)],
        ],
        1,
    );
    let bytes = encode(4, numbers(1, 1), &txn).unwrap();
    let events = walk(&bytes);
    let ids: Vec<_> = events
        .iter()
        .filter_map(|e| table_id_of(e.header.event_type, e.body))
        .collect();
    assert_eq!(ids.len(), 6);
    assert!(
        ids[0] == ids[1] && ids[2] == ids[3] && ids[4] == ids[5],
        "{ids:?}"
    );
    assert_ne!(ids[0], ids[2]);
    assert_eq!(
        ids[0], ids[4],
        "one id per content, whichever node it came from"
    );
    assert_eq!(TableMap::parse(events[4].body).unwrap().table, b"items");
}

#[test]
fn what_is_no_transaction_is_refused() {
    let refused = |events: Vec<Vec<u8>>| {
        let mut pending = Pending::default();
        let mut encoder = Encoder::new(1, sid());
        encoder
            .transaction(&mut pending, numbers(1, 1), &rows(&[events], 1))
            .unwrap_err()
    };
    let torn = table_map(1, "t")[..25].to_vec();
    assert!(matches!(refused(vec![torn]), EncodeError::Malformed { .. }));
    let mut long = table_map(1, "t");
    long.extend_from_slice(b"rest");
    assert!(matches!(refused(vec![long]), EncodeError::Malformed { .. }));
    let xid = event(EventType::XID, 0, &[0; 8]);
    assert!(matches!(
        refused(vec![xid]),
        EncodeError::Misplaced {
            event_type: EventType::XID,
            ..
        }
    ));
    let other_table = vec![table_map(1, "t"), write_rows(2, 1, 0)];
    assert!(matches!(
        refused(other_table),
        EncodeError::UnknownTable { table_id: 2, .. }
    ));
    let twice = [
        vec![table_map(1, "t"), write_rows(1, 1, 0)],
        vec![write_rows(1, 2, 0)],
    ];
    let mut pending = Pending::default();
    let error = Encoder::new(1, sid()).transaction(&mut pending, numbers(1, 1), &rows(&twice, 1));
    assert!(
        matches!(error, Err(EncodeError::UnknownTable { table_id: 1, .. })),
        "an id of the part before means nothing"
    );
    let no_id = event(EventType::WRITE_ROWS, 0, &[1, 2, 3]);
    assert!(matches!(
        refused(vec![no_id]),
        EncodeError::Malformed { .. }
    ));
}

/// Events too large to be buffered are the same bytes as small ones would be.
#[test]
fn large_events_are_copied_in_pieces() {
    let large = 5 << 20;
    let txn = rows(
        &[vec![
            table_map(1, "t"),
            write_rows(1, 1, large),
            write_rows(1, 2, 3),
        ]],
        1,
    );
    let bytes = encode(4, numbers(1, 1), &txn).unwrap();
    let events = walk(&bytes);
    assert_eq!(events.len(), 6);
    assert_eq!(gtid(&events[0]).transaction_length, bytes.len() as u64);
    let id = |i: usize| table_id_of(events[i].header.event_type, events[i].body);
    assert_eq!(id(2), id(3));
    assert_eq!(id(2), id(4));
    assert_eq!(
        events[3].body[6..],
        write_rows(1, 1, large)[HEADER_LEN + 6..]
    );
    assert_eq!(u64::from(events[5].header.log_pos), 4 + bytes.len() as u64);
}

/// Positions beyond 4 GiB are cut to 32 bits, as mysqld does.
#[test]
fn positions_wrap_beyond_four_gigabytes() {
    let base = (1 << 32) - 10;
    let bytes = encode(base, numbers(1, 1), &nth(1)).unwrap();
    let first = walk(&bytes)[0];
    assert_eq!(first.header.log_pos, first.header.event_size - 10);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the parts are, walking back finds every body unchanged but for its table id.
        #[test]
        fn bodies_come_back(
            base in 4u64..1 << 40,
            gno in 1u64..1 << 50,
            back in 0u64..1000,
            parts in prop::collection::vec(
                prop::collection::vec((0u64..5, 0usize..3, 0usize..300), 1..5), 0..4),
        ) {
            let names = ["orders", "items", "customers"];
            let parts: Vec<Vec<Vec<u8>>> = parts
                .iter()
                .map(|p| {
                    p.iter()
                        .flat_map(|&(id, name, padding)| {
                            [table_map(id, names[name]), write_rows(id, 1, padding)]
                        })
                        .collect()
                })
                .collect();
            let numbers = numbers(gno, gno.saturating_sub(back).max(1));
            let txn = GlobalTxn { dependency: Dependency::UpTo(gno - 1), ..rows(&parts, 1) };
            let bytes = encode(base, numbers, &txn).unwrap();
            let events = walk(&bytes);
            let sources: Vec<_> = parts.iter().flatten().collect();
            prop_assert_eq!(events.len(), sources.len() + 3);
            let mut announced = None;
            for (event, source) in events[2..].iter().zip(sources) {
                prop_assert_eq!(&event.body[6..], &source[HEADER_LEN + 6..]);
                let id = table_id_of(event.header.event_type, event.body);
                if event.header.event_type == EventType::TABLE_MAP {
                    announced = id;
                }
                prop_assert_eq!(id, announced);
            }
            prop_assert_eq!(gtid(&events[0]).transaction_length, bytes.len() as u64);
        }

        /// Bytes that are no events never panic.
        #[test]
        fn any_bytes_are_survived(garbage: Vec<u8>) {
            let txn = rows(&[vec![garbage]], 1);
            let _ = encode(4, numbers(1, 1), &txn);
        }
    }
}
