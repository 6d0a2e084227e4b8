//! What must hold of a delivery.
//!
//! In: a cluster's history and what the merger made of it. Out: a panic when something does not hold.

use std::collections::{BTreeMap, HashMap};

use tributary_binlog::{ChecksumAlg, EventReader, EventType, RowsHeader, RowsWalk, TableMap};
use tributary_flow::{Body, GlobalTxn, NodeItem};

use super::cluster::{Cluster, Stamps};
use super::delivery::Outcome;
use super::naive;

/// Holds the outcome against the history. That a transaction is whole shows in its rows: where a row moved between nodes, its parts are
/// not the branches.
pub(super) fn check(cluster: &Cluster<'_>, outcome: &Outcome, stamps: Stamps) {
    let Outcome {
        out,
        passed,
        merger,
        restarts,
    } = outcome;
    assert_eq!(
        (merger.waiting(), merger.blocked()),
        (0, vec![]),
        "all comes once fences are answered"
    );
    assert!(out.windows(2).all(|w| w[0].key < w[1].key), "keys rise");
    let place: HashMap<u64, usize> = out.iter().enumerate().map(|(i, t)| (id_of(t), i)).collect();
    assert_eq!(place.len(), out.len(), "nothing twice");
    assert_eq!(
        place.len(),
        cluster.windows.len(),
        "nothing lost, nothing made up"
    );
    for (id, windows) in &cluster.windows {
        for (other, others) in &cluster.windows {
            let pairs = windows
                .iter()
                .flat_map(|w| others.iter().map(move |o| (w, o)));
            let before = pairs
                .into_iter()
                .any(|((n, _, c), (m, p, _))| n == m && c < p);
            assert!(
                !before || place[id] < place[other],
                "{id} was committed before {other} was prepared"
            );
        }
    }
    for (n, stream) in cluster.streams.iter().enumerate() {
        let emitted = &merger.checkpoint().nodes[&format!("dn{n}")].emitted;
        assert_eq!(
            emitted.count(),
            stream.len() as u64,
            "every source GTID is accounted for"
        );
    }
    if stamps == Stamps::All && *restarts == 0 {
        let naive = naive::merge(&cluster.streams, passed);
        let got: Vec<_> = out.iter().map(|t| (t.key, rows(&joined(t)))).collect();
        let want: Vec<_> = naive
            .iter()
            .map(|(key, bytes)| (*key, rows(bytes)))
            .collect();
        assert_eq!(
            got, want,
            "as reading everything, sorting and grouping gives it"
        );
    } else {
        // The keys may be others; the rows may not.
        let mut got: Vec<_> = out.iter().map(|t| rows(&joined(t))).collect();
        got.sort();
        let mut want = BTreeMap::<u64, Vec<u8>>::new();
        for stream in &cluster.streams {
            for item in stream {
                if let NodeItem::Txn(txn) = item
                    && let Some(id) = id_in(&txn.body)
                    && cluster.windows.contains_key(&id)
                {
                    want.entry(id)
                        .or_default()
                        .extend(txn.body.segments().concat());
                }
            }
        }
        let mut want: Vec<_> = want.values().map(|bytes| rows(bytes)).collect();
        want.sort();
        assert_eq!(got, want, "the rows of every transaction");
    }
}

fn joined(txn: &GlobalTxn) -> Vec<u8> {
    txn.parts
        .iter()
        .flat_map(|p| p.segments().concat())
        .collect()
}

fn id_of(txn: &GlobalTxn) -> u64 {
    txn.parts
        .iter()
        .find_map(id_in)
        .expect("the text of a statement is kept")
}

fn id_in(body: &Body) -> Option<u64> {
    let bytes = body.segments().concat();
    let mut reader = EventReader::new(&bytes, ChecksumAlg::None);
    while let Some(event) = reader.next().expect("bodies are whole events") {
        if event.header.event_type == EventType::ROWS_QUERY {
            return Some(u64::from_be_bytes(
                event.body[1..9].try_into().expect("eight bytes"),
            ));
        }
    }
    None
}

/// All changes of rows, whatever events they are in: within one transaction they may change their order.
fn rows(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut reader, mut map, mut all) = (
        EventReader::new(bytes, ChecksumAlg::None),
        Vec::new(),
        Vec::new(),
    );
    while let Some(event) = reader.next().expect("bodies are whole events") {
        let ty = event.header.event_type;
        if ty == EventType::TABLE_MAP {
            map = event.body.to_vec();
        } else if ty.is_rows() {
            let map = TableMap::parse(&map).expect("rows follow a table map");
            let header = RowsHeader::parse(ty, event.body).expect("rows are as they were");
            for row in RowsWalk::new(&map, &header).expect("of this table") {
                all.push((ty.0, row.expect("rows are as they were").bytes.to_vec()));
            }
        }
    }
    all.sort();
    all
}
