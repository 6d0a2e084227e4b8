//! Generators of everything the crate reads and writes.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use tributary_binlog::{Gno, Gtid, GtidEvent, GtidSet, Sid, Tag};

/// Few sources, so that sets overlap.
pub(crate) fn sid() -> impl Strategy<Value = Sid> {
    prop_oneof![
        (0..3_u8).prop_map(|n| Sid([n; 16])),
        any::<[u8; 16]>().prop_map(Sid)
    ]
}

pub(crate) fn tag() -> impl Strategy<Value = Tag> {
    prop_oneof![
        Just(String::new()),
        Just("t".into()),
        Just("t_0".into()),
        "[a-z_][a-z0-9_]{0,31}"
    ]
    .prop_map(|s: String| s.parse().expect("a good tag"))
}

pub(crate) fn gno() -> impl Strategy<Value = Gno> {
    prop_oneof![1..20_u64, Just(i64::MAX as u64 - 1), 1..i64::MAX as u64]
        .prop_map(|n| Gno::new(n).expect("in range"))
}

pub(crate) fn gtid() -> impl Strategy<Value = Gtid> {
    (sid(), tag(), gno()).prop_map(|(sid, tag, gno)| Gtid { sid, tag, gno })
}

/// A GTID of a small world, in which sets meet.
pub(crate) fn small_gtid() -> impl Strategy<Value = Gtid> {
    (0..2_u8, prop_oneof![Just(""), Just("a")], 1..12_u64).prop_map(|(sid, tag, gno)| Gtid {
        sid: Sid([sid; 16]),
        tag: tag.parse().expect("good"),
        gno: Gno::new(gno).expect("in range"),
    })
}

pub(crate) fn gtid_set() -> impl Strategy<Value = GtidSet> {
    btree_set(gtid(), 0..30).prop_map(|gtids| gtids.into_iter().collect())
}

pub(crate) fn gtid_event() -> impl Strategy<Value = GtidEvent> {
    let ts = || 0..1_u64 << 55;
    let version = || 0..1_u32 << 31;
    (
        (
            proptest::option::of(gtid()),
            any::<u8>(),
            any::<i64>(),
            any::<i64>(),
        ),
        (ts(), ts(), any::<bool>()),
        (any::<u64>(), 0..64_u32),
        (version(), version(), any::<bool>()),
        proptest::option::of(1..u64::MAX),
    )
        .prop_map(
            |(
                (gtid, flags, last_committed, sequence_number),
                ts,
                (len, shift),
                version,
                ticket,
            )| GtidEvent {
                gtid,
                flags,
                last_committed,
                sequence_number,
                immediate_commit_ts: ts.0,
                original_commit_ts: if ts.2 { ts.0 } else { ts.1 },
                transaction_length: len >> shift,
                original_server_version: if version.2 { version.0 } else { version.1 },
                immediate_server_version: version.0,
                commit_group_ticket: ticket,
            },
        )
}

pub(crate) fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=max)
}

/// Bytes without NUL, as in names.
pub(crate) fn name(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(1..=255_u8, 0..=max)
}
