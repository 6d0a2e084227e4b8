//! What the stories of tables are worth: defects made by hand, one at a time, each of which they must find.
//!
//! In: the [`Mutant`]s of tables. Out: the seed that finds each, and what was seen; a failure for one that survives.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tributary_flow::{Mutant, OrderMode, choose_mutant};

/// Seeds within which a defect must be found, in both modes.
const WITHIN: u64 = 300;

/// The first seed that finds it, its mode and what is wrong.
fn find(mutant: Mutant) -> Option<(u64, OrderMode, String)> {
    choose_mutant(Some(mutant));
    let modes = [OrderMode::Tso, OrderMode::Causal];
    let mut stories = (0..WITHIN).flat_map(|seed| modes.map(|mode| (seed, mode)));
    let found = stories.find_map(|(seed, mode)| {
        let told = catch_unwind(AssertUnwindSafe(|| super::run(seed, mode)));
        let error = match told {
            Ok(told) => told.err()?,
            Err(_) => "a panic".to_owned(),
        };
        Some((seed, mode, error))
    });
    choose_mutant(None);
    found
}

#[test]
fn mutants() {
    // A panic is one way to be found.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found: Vec<_> = (Mutant::OF_TABLES.iter()).map(|m| (*m, find(*m))).collect();
    std::panic::set_hook(hook);
    let mut alive = Vec::new();
    for (mutant, found) in found {
        match found {
            Some((seed, mode, error)) => {
                let seen: String = error.chars().take(110).collect();
                println!("{mutant:?}: seed {seed} {mode:?}: {seen}");
            }
            None => alive.push(mutant),
        }
    }
    assert!(alive.is_empty(), "not found: {alive:?}");
}
