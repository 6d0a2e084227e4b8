//! Real binlog files: what the assembler makes of them must be what one reads in the server's own `SHOW BINLOG EVENTS`.

use std::fs;
use std::path::PathBuf;

use tributary_binlog::{ChecksumAlg, EventReader, EventType, GtidEvent};
use tributary_collector::AssembleError;
use tributary_flow::TxnKind;

use crate::stream::{assembler, feed, line, txns};

const FILES: [&str; 8] = [
    "compressed",
    "ddl",
    "no-checksum",
    "partial-json",
    "rows-full",
    "rows-minimal",
    "tagged",
    "xa",
];

fn path(name: &str, suffix: &str) -> PathBuf {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../binlog/tests/fixtures");
    fixtures.join(format!("{name}.{suffix}"))
}

pub(crate) fn events_of(name: &str) -> Vec<u8> {
    fs::read(path(name, "binlog"))
        .expect("the fixture is checked in")
        .split_off(4)
}

/// Reads the server's own listing, as a person would.
fn expected(name: &str) -> Vec<String> {
    let listing = fs::read_to_string(path(name, "events")).unwrap();
    let (mut lines, mut gtid, mut kind, mut body) =
        (Vec::new(), String::new(), String::new(), Vec::<&str>::new());
    let mut open = false;
    let mut end_of_group = |gtid: &str, kind: &str, end: &str, body: &mut Vec<&str>| {
        lines.push(format!("{gtid} {kind} {end} {}", body.join(",")));
        body.clear();
    };
    for row in listing.lines().skip(1) {
        let columns: Vec<&str> = row.splitn(6, '\t').collect();
        let (ty, end, info) = (columns[2], columns[4], columns[5]);
        match ty {
            "Gtid" | "Gtid_tagged_log_event" => {
                gtid = info.split('\'').nth(1).unwrap().to_owned();
                (kind, open) = ("Local".to_owned(), false);
            }
            "Query" if info == "BEGIN" || info.starts_with("XA START") => open = true,
            "Query" if info.starts_with("XA END") => open = false,
            "Query" if info.starts_with("XA COMMIT") || info.starts_with("XA ROLLBACK") => {
                let verb = if info.starts_with("XA COMMIT ") {
                    "Commit "
                } else {
                    "Rollback "
                };
                let xid = info.split_once(verb.to_uppercase().as_str()).unwrap().1;
                end_of_group(&gtid, &format!("{verb}{xid}"), end, &mut body);
            }
            "Query" if info == "COMMIT" => end_of_group(&gtid, "Empty", end, &mut body),
            "Query" if !open => {
                body.push("Query");
                end_of_group(&gtid, "Ddl", end, &mut body);
            }
            "Xid" => end_of_group(&gtid, &kind, end, &mut body),
            "XA_prepare" => {
                let one = info
                    .strip_prefix("XA COMMIT ")
                    .and_then(|x| x.strip_suffix(" ONE PHASE"));
                kind = match (one, info.strip_prefix("XA PREPARE ")) {
                    (Some(xid), _) => format!("OnePhase {xid}"),
                    (_, Some(xid)) => format!("Prepare {xid}"),
                    _ => panic!("{info}"),
                };
                end_of_group(&gtid, &kind, end, &mut body);
            }
            "Format_desc" | "Previous_gtids" | "Rotate" | "Stop" | "Transaction_payload" => {}
            member => body.push(member),
        }
    }
    lines
}

#[test]
fn every_file_becomes_the_transactions_of_the_servers_listing() {
    for name in FILES {
        let mut assembler = assembler();
        feed(&mut assembler, &events_of(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let got: Vec<String> = txns(assembler.take()).iter().map(line).collect();
        assert_eq!(got, expected(name), "{name}");
        assert!(!got.is_empty(), "{name}");
    }
}

#[test]
fn a_commit_timestamp_is_taken_where_a_coordinator_set_one() {
    let mut with = 0;
    for name in FILES {
        let bytes = events_of(name);
        let mut reader = EventReader::new(&bytes, ChecksumAlg::Crc32);
        let mut gtids = Vec::new();
        while let Some(event) = reader.next().unwrap() {
            if matches!(
                event.header.event_type,
                EventType::GTID | EventType::GTID_TAGGED
            ) {
                gtids.push(GtidEvent::parse(event.header.event_type, event.body).unwrap());
            }
        }
        let mut assembler = assembler();
        feed(&mut assembler, &bytes).unwrap();
        let txns = txns(assembler.take());
        assert_eq!(txns.len(), gtids.len(), "{name}");
        for (txn, event) in txns.iter().zip(&gtids) {
            assert_eq!(Some(txn.gtid), event.gtid);
            assert_eq!(txn.original_commit, event.original_commit_ts);
            assert_eq!(txn.sequence_number, event.sequence_number);
            let differ = event.original_commit_ts != event.immediate_commit_ts;
            let prepare = matches!(txn.kind, TxnKind::Prepare(_));
            let tso = txn.tso.map(tributary_flow::Tso::micros);
            assert_eq!(
                tso,
                (differ && !prepare).then_some(event.original_commit_ts),
                "{}",
                line(txn)
            );
            with += usize::from(tso.is_some());
        }
    }
    assert!(with >= 3, "the fixtures hold commit timestamps");
}

#[test]
fn a_transaction_without_gtid_is_refused_by_name() {
    for name in ["anonymous", "active", "stopped"] {
        let error = feed(&mut assembler(), &events_of(name)).unwrap_err();
        assert!(
            matches!(error, AssembleError::Anonymous { .. }),
            "{name}: {error}"
        );
        assert!(error.to_string().contains("000007:521"), "{name}: {error}");
    }
}
