//! GTID sets.
//!
//! In: a way, and text, bytes, or operations. Out: a panic unless text and bytes can be read again after they were written, and
//! the arithmetic is that of sets of numbers.

use std::collections::BTreeSet;

use tributary_binlog::{BinlogFile, Gno, Gtid, GtidSet, Sid, Tag};

use crate::input::Input;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(3) {
        0 => text(&String::from_utf8_lossy(input.rest())),
        1 => {
            if let Ok(set) = GtidSet::decode(input.rest()) {
                comes_back(&set);
            }
        }
        _ => arithmetic(&mut input),
    }
}

fn text(text: &str) {
    if let Ok(set) = text.parse::<GtidSet>() {
        comes_back(&set);
    }
    if let Ok(gtid) = text.parse::<Gtid>() {
        assert_eq!(gtid.to_string().parse(), Ok(gtid));
    }
    if let Ok(file) = BinlogFile::parse(text) {
        assert_eq!(
            BinlogFile::parse(file.next().as_str())
                .map(|f| f.seq())
                .ok(),
            Some(file.seq() + 1)
        );
    }
}

fn comes_back(set: &GtidSet) {
    for text in [set.to_string(), set.to_text_oneline()] {
        assert_eq!(text.parse().as_ref(), Ok(set));
    }
    let mut bytes = Vec::new();
    set.encode(&mut bytes);
    assert_eq!(GtidSet::decode(&bytes).as_ref(), Ok(set));
    assert!(set.is_subset(set) && set.intersect(set) == *set);
    let mut nothing = set.clone();
    nothing.subtract(set);
    assert!(nothing.is_empty());
    let mut twice = set.clone();
    twice.union(set);
    assert_eq!(twice, *set);
    let mut shown = 0_u64;
    for (sid, tag, intervals) in set.iter() {
        assert!(set.last_gno(sid, tag).is_some() && !intervals.is_empty());
        let apart = intervals
            .windows(2)
            .all(|w| w[0].end_exclusive < w[1].start);
        assert!(apart, "intervals are sorted and do not touch");
        let lens = intervals.iter().map(|i| i.len());
        shown = lens.fold(shown, u64::saturating_add);
    }
    assert_eq!(shown, set.count());
}

/// A set, and the same as numbers.
#[derive(Clone, Default)]
struct Both {
    set: GtidSet,
    model: BTreeSet<(usize, u64)>,
}

const TAGS: [&str; 2] = ["", "tag"];

fn gtid((source, n): (usize, u64)) -> Gtid {
    Gtid {
        sid: Sid([1 + source as u8 / 2; 16]),
        tag: match TAGS[source % 2] {
            "" => Tag::EMPTY,
            tag => tag.parse().expect("a good tag"),
        },
        gno: Gno::new(n).expect("a small number above zero"),
    }
}

fn arithmetic(input: &mut Input<'_>) {
    let mut all = [Both::default(), Both::default(), Both::default()];
    while !input.is_empty() {
        let (op, to, from) = (input.below(6), input.below(3), input.below(3));
        let other = all[from].clone();
        let one = &mut all[to];
        match op {
            0 => {
                let at = (input.below(4), 1 + input.below(40) as u64);
                assert_eq!(one.set.add(gtid(at)), one.model.insert(at));
            }
            1 => {
                let source = input.below(4);
                let first = 1 + input.below(40) as u64;
                let last = first + input.below(8) as u64;
                let g = gtid((source, first));
                one.set
                    .add_interval(g.sid, g.tag, g.gno, gtid((source, last)).gno);
                one.model.extend((first..=last).map(|n| (source, n)));
            }
            2 => {
                one.set.union(&other.set);
                one.model.extend(&other.model);
            }
            3 => {
                one.set.subtract(&other.set);
                one.model.retain(|at| !other.model.contains(at));
            }
            4 => {
                one.set = one.set.intersect(&other.set);
                one.model.retain(|at| other.model.contains(at));
            }
            _ => assert_eq!(
                one.set.is_subset(&other.set),
                one.model.is_subset(&other.model)
            ),
        }
        assert_eq!(one.set.count(), one.model.len() as u64);
    }
    for both in &all {
        comes_back(&both.set);
        for source in 0..4 {
            for n in 1..50 {
                let at = (source, n);
                assert_eq!(both.set.contains(&gtid(at)), both.model.contains(&at));
            }
        }
    }
}
