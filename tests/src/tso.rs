//! The timestamp oracle of the workload: in goes the wall clock, out come strictly increasing
//! timestamps in microseconds, one order for all callers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Exclusive bound of what fits into a GTID event's commit timestamp (55 bits).
const LIMIT: u64 = 1 << 55;

/// A linearizable oracle: a call that starts after another has returned gets a greater timestamp.
///
/// A hybrid clock: microseconds since 1970 by the wall clock, or one more than the last timestamp
/// when the wall clock stands still or goes back.
#[derive(Debug, Default)]
pub struct Tso {
    last: AtomicU64,
}

impl Tso {
    /// An oracle that starts at the wall clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// An oracle whose timestamps are all greater than `last`.
    pub fn after(last: u64) -> Self {
        Self {
            last: AtomicU64::new(last),
        }
    }

    /// The next timestamp, in microseconds since 1970, less than 2⁵⁵.
    pub fn next(&self) -> u64 {
        let clock = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        self.next_at(u64::try_from(clock).unwrap_or(0))
    }

    /// The last timestamp handed out.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }

    fn next_at(&self, clock: u64) -> u64 {
        let step = |last: u64| clock.max(last + 1);
        let before = self
            .last
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(step(last)));
        // The closure always gives a value, so the update cannot fail.
        let next = step(before.unwrap_or_else(|last| last));
        assert!(next < LIMIT, "the clock is past the year 3100");
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_new_timestamps() {
        let tso = Tso::new();
        let given = [10, 10, 5, 12, 12].map(|clock| tso.next_at(clock));
        assert_eq!(given, [10, 11, 12, 13, 14]);
        assert_eq!(tso.last(), 14);
        assert_eq!(Tso::after(99).next_at(3), 100);
    }

    #[test]
    fn many_threads_never_share_a_timestamp() {
        let tso = Tso::new();
        let mut all: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..5_000).map(|_| tso.next()).collect()))
                .collect();
            let threads = threads.into_iter();
            threads
                .flat_map(|thread| -> Vec<u64> { thread.join().expect("no panic") })
                .collect()
        });
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!((all.len(), count), (20_000, 20_000));
    }
}
