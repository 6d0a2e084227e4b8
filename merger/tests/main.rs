//! The merger through its public interface: parts of tables on many nodes, whose definitions change one by one.
#![allow(clippy::unwrap_used)]

mod tables;

use std::collections::BTreeMap;

use tributary_flow::OrderMode;

/// Seeds of every run, in each mode of the order.
const SEEDS: u64 = 300;

#[test]
fn tables_of_many_nodes_are_one() {
    let seeds = std::env::var("TRIBUTARY_TABLES_SEEDS");
    let seeds = seeds.ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
    let only = std::env::var("TRIBUTARY_TABLES_SEED").ok();
    let only: Option<u64> = only.and_then(|n| n.parse().ok());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let all = only.map_or(0..seeds, |seed| seed..seed + 1);
    for seed in all {
        for mode in [OrderMode::Tso, OrderMode::Causal] {
            match tables::run(seed, mode) {
                Ok(seen) => {
                    for (what, n) in seen {
                        *counts.entry(what).or_default() += n;
                    }
                }
                Err(error) => panic!("TRIBUTARY_TABLES_SEED={seed} {mode:?}: {error}"),
            }
        }
    }
    println!("{counts:?}");
    let missing: Vec<_> = (tables::CLASSES.iter())
        .filter(|class| !counts.contains_key(**class))
        .collect();
    assert!(
        only.is_some() || missing.is_empty(),
        "never happened: {missing:?}"
    );
}
