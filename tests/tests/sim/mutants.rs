//! What the simulator is worth: defects made by hand, one at a time, each of which it must find.
//!
//! In: the list of [`Mutant`]s. Out: for each how many stories it took and what was seen; a failure for one that survives.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tributary_flow::{Mutant, OrderMode, choose_mutant};

/// Seeds within which a defect must be found, in both modes.
const WITHIN: u64 = 200;

/// The first seed that finds it, its mode and what is wrong.
fn find(mutant: Mutant) -> Option<(u64, OrderMode, String)> {
    choose_mutant(Some(mutant));
    let modes = [OrderMode::Tso, OrderMode::Causal];
    let stories = (0..WITHIN).flat_map(|seed| modes.map(|mode| (seed, mode)));
    let found = stories
        .map(|(seed, mode)| (seed, mode, super::run(seed, mode).err()))
        .find_map(|(seed, mode, error)| Some((seed, mode, error?)));
    choose_mutant(None);
    found
}

/// The last part of an error: what was seen, without the story around it.
fn seen(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let what = line.split_once(" }: ").map_or(line, |(_, what)| what);
    what.chars().take(110).collect()
}

#[test]
fn mutants() {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    // A panic is one way to be found.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let start = Instant::now();
    let of_tables = |m: &&Mutant| Mutant::OF_TABLES.contains(m);
    let all: Vec<&Mutant> = (Mutant::ALL.iter()).filter(|m| !of_tables(m)).collect();
    let worker = || {
        while let Some(mutant) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (start, result) = (Instant::now(), find(**mutant));
            found
                .lock()
                .unwrap()
                .insert(**mutant, (result, start.elapsed()));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(worker);
        }
    });
    std::panic::set_hook(hook);
    let found = found.into_inner().unwrap();
    let mut alive = Vec::new();
    for (mutant, (result, took)) in &found {
        match result {
            Some((seed, mode, error)) => {
                println!(
                    "{mutant:?}: seed {seed} {mode:?}, {took:.1?}: {}",
                    seen(error)
                );
            }
            None => {
                println!("{mutant:?}: ALIVE after {took:.1?}");
                alive.push(mutant);
            }
        }
    }
    println!("{} mutants in {:.0?}", found.len(), start.elapsed());
    assert!(
        found.len() >= 20 && alive.is_empty(),
        "not found: {alive:?}"
    );
}
