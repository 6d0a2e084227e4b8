//! How long to wait before trying again. In: the attempt and a seed. Out: a delay, the same for the same input.

use std::time::Duration;

/// How fast to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The cause usually goes away by itself: 100 ms, doubling to 1.5 s. So a node that answers again is read within that.
    Fast,
    /// There is no room on our own disk: 1 s, doubling to 4 s.
    Space,
    /// Somebody has to do something first: 2 s, doubling to 30 s.
    Slow,
}

/// The delay before attempt `attempt` (0 = the first retry). Between half and all of the nominal delay, chosen by
/// `seed`, so that the collectors of a cluster do not come back at the same moment.
pub(crate) fn delay(attempt: u32, seed: u64, pace: Pace) -> Duration {
    let (first, last) = match pace {
        Pace::Fast => (100_u64, 1_500),
        Pace::Space => (1_000, 4_000),
        Pace::Slow => (2_000, 30_000),
    };
    let nominal = first.saturating_mul(1 << attempt.min(20)).min(last);
    let half = nominal / 2;
    Duration::from_millis(nominal - mix(seed ^ u64::from(attempt)) % (half + 1))
}

/// The finalizer of splitmix64.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_are_bounded_and_differ_by_seed() {
        for seed in 0..50 {
            for attempt in 0..64 {
                let fast = delay(attempt, seed, Pace::Fast);
                assert_eq!(fast, delay(attempt, seed, Pace::Fast));
                let nominal = 100_u64.saturating_mul(1 << attempt.min(20)).min(1_500);
                assert!(fast >= Duration::from_millis(nominal / 2));
                assert!(fast <= Duration::from_millis(nominal));
                assert!(delay(attempt, seed, Pace::Slow) <= Duration::from_secs(30));
            }
        }
        let distinct: std::collections::BTreeSet<_> =
            (0..50).map(|seed| delay(8, seed, Pace::Fast)).collect();
        assert!(distinct.len() > 40);
    }
}
