//! GTID sets against the stupid model: a `BTreeSet` of GTIDs.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use tributary_binlog::{Gno, Gtid, GtidSet};

use crate::strategies::{gtid, gtid_set, small_gtid};

type Model = BTreeSet<Gtid>;

fn members(set: &GtidSet) -> Model {
    let mut out = Model::new();
    for (sid, tag, intervals) in set.iter() {
        let mut last_end = 0;
        for i in intervals {
            assert!(
                last_end < i.start && i.start < i.end_exclusive,
                "sorted, gaps between, not empty"
            );
            last_end = i.end_exclusive;
            out.extend((i.start..i.end_exclusive).map(|n| Gtid {
                sid,
                tag,
                gno: Gno::new(n).expect("in range"),
            }));
        }
        assert_ne!(last_end, 0, "no source without numbers");
    }
    out
}

fn build(gtids: &[Gtid]) -> (GtidSet, Model) {
    (
        gtids.iter().copied().collect(),
        gtids.iter().copied().collect(),
    )
}

proptest! {
    #[test]
    fn add_and_contains(gtids in vec(small_gtid(), 0..40), probe in small_gtid()) {
        let mut set = GtidSet::new();
        let mut model = Model::new();
        for g in gtids {
            prop_assert_eq!(set.add(g), model.insert(g));
            prop_assert_eq!(set.contains(&probe), model.contains(&probe));
        }
        prop_assert_eq!(members(&set), model.clone());
        prop_assert_eq!(set.count(), model.len() as u64);
        prop_assert_eq!(set.is_empty(), model.is_empty());
        prop_assert_eq!(set.has_tags(), model.iter().any(|g| !g.tag.is_empty()));
        let last = model.iter().filter(|g| (g.sid, g.tag) == (probe.sid, probe.tag)).map(|g| g.gno).max();
        prop_assert_eq!(set.last_gno(probe.sid, probe.tag), last);
    }

    #[test]
    fn intervals(steps in vec((small_gtid(), 0..8_u64), 0..15)) {
        let mut set = GtidSet::new();
        let mut model = Model::new();
        for (g, extra) in steps {
            let last = g.gno.get() + extra;
            set.add_interval(g.sid, g.tag, g.gno, Gno::new(last).expect("small"));
            model.extend((g.gno.get()..=last).map(|n| Gtid { gno: Gno::new(n).expect("small"), ..g }));
            prop_assert_eq!(members(&set), model.clone());
        }
    }

    #[test]
    fn algebra(a in vec(small_gtid(), 0..40), b in vec(small_gtid(), 0..40), next in small_gtid()) {
        let ((set_a, model_a), (set_b, model_b)) = (build(&a), build(&b));
        let mut union = set_a.clone();
        union.union(&set_b);
        prop_assert_eq!(members(&union), &model_a | &model_b);
        let mut difference = set_a.clone();
        difference.subtract(&set_b);
        prop_assert_eq!(members(&difference), &model_a - &model_b);
        let intersection = set_a.intersect(&set_b);
        prop_assert_eq!(members(&intersection), &model_a & &model_b);
        prop_assert_eq!(set_a.is_subset(&set_b), model_a.is_subset(&model_b));
        prop_assert_eq!(set_a == set_b, model_a == model_b);
        prop_assert!(intersection.is_subset(&set_a) && set_a.is_subset(&union));
        // A set that was an operand goes on working.
        for mut set in [union, difference, intersection] {
            let before = members(&set);
            prop_assert_eq!(set.add(next), !before.contains(&next));
            prop_assert!(set.contains(&next));
        }
    }

    #[test]
    fn texts_round_trip(set in gtid_set()) {
        prop_assert_eq!(set.to_string().parse::<GtidSet>(), Ok(set.clone()));
        prop_assert_eq!(set.to_text_oneline().parse::<GtidSet>(), Ok(set.clone()));
        prop_assert_eq!(set.to_string().replace(",\n", ","), set.to_text_oneline());
    }

    #[test]
    fn texts_in_any_order(gtids in vec(gtid(), 0..20)) {
        let text: Vec<_> = gtids.iter().map(Gtid::to_string).collect();
        prop_assert_eq!(text.join(" ,").parse::<GtidSet>(), Ok(gtids.into_iter().collect()));
    }

    #[test]
    fn bytes_round_trip_and_every_cut_is_refused(set in gtid_set()) {
        let mut bytes = Vec::new();
        set.encode(&mut bytes);
        prop_assert_eq!(GtidSet::decode(&bytes), Ok(set.clone()));
        for cut in 0..bytes.len() {
            prop_assert!(GtidSet::decode(&bytes[..cut]).is_err());
        }
        bytes.push(0);
        prop_assert!(GtidSet::decode(&bytes).is_err());
    }
}

#[test]
fn a_hostile_count_allocates_nothing() {
    let mut bytes = u64::MAX.to_le_bytes().to_vec();
    bytes[7] = 0;
    assert!(GtidSet::decode(&bytes).is_err());
    let mut bytes = 1_u64.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[7; 16]);
    bytes.extend_from_slice(&u64::MAX.to_le_bytes());
    bytes.extend_from_slice(&[1; 64]);
    assert!(GtidSet::decode(&bytes).is_err());
}

/// Descending sources and intervals, half a million: one sort, no shifting of vectors.
#[test]
fn large_sets_in_the_worst_order_are_read_at_once() {
    let mut bytes = 200_000_u64.to_le_bytes().to_vec();
    for n in (0..200_000_u64).rev() {
        bytes.extend_from_slice(&u128::from(n).to_be_bytes());
        for word in [1_u64, 5, 6] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    let started = std::time::Instant::now();
    assert_eq!(GtidSet::decode(&bytes).expect("good").count(), 200_000);
    let mut text = String::from("3e11fa47-71ca-11e1-9e33-c80aa9429562");
    for n in (1..300_000).rev() {
        text.push_str(&format!(":{}", n * 2));
    }
    assert_eq!(text.parse::<GtidSet>().expect("good").count(), 299_999);
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}
