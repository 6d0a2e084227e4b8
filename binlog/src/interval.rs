//! Sorted lists of half-open intervals of transaction numbers: the arithmetic below a GTID set.
//!
//! In: lists that are sorted, with a gap between neighbours. Out: the same. MySQL calls these `Gtid_set::Interval`
//! (`sql/rpl_gtid.h`), also half-open.

/// Transaction numbers `start <= n < end_exclusive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interval {
    /// The first number, at least 1.
    pub start: u64,
    /// One past the last number, at most 2⁶³−1.
    pub end_exclusive: u64,
}

impl Interval {
    /// How many numbers it holds.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.end_exclusive.saturating_sub(self.start)
    }

    /// Whether it holds none; never true of an interval in a set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.end_exclusive <= self.start
    }

    const fn covers(&self, other: &Self) -> bool {
        self.start <= other.start && other.end_exclusive <= self.end_exclusive
    }
}

/// The interval that holds `n`.
pub(crate) fn contains(list: &[Interval], n: u64) -> bool {
    let after = list.partition_point(|i| i.end_exclusive <= n);
    list.get(after).is_some_and(|i| i.start <= n)
}

/// Adds one number, joining its neighbours; `false` if it is there.
pub(crate) fn add(list: &mut Vec<Interval>, n: u64) -> bool {
    let at = list.partition_point(|i| i.end_exclusive < n);
    let next_start = list.get(at + 1).map(|i| i.start);
    match list.get_mut(at) {
        Some(slot) if slot.start <= n && n < slot.end_exclusive => return false,
        Some(slot) if slot.end_exclusive == n && next_start == Some(n + 1) => {
            let behind = list.remove(at + 1);
            if let Some(slot) = list.get_mut(at) {
                slot.end_exclusive = behind.end_exclusive;
            }
        }
        Some(slot) if slot.end_exclusive == n => slot.end_exclusive = n + 1,
        Some(slot) if slot.start == n + 1 => slot.start = n,
        _ => list.insert(
            at,
            Interval {
                start: n,
                end_exclusive: n + 1,
            },
        ),
    }
    true
}

/// Adds an interval, joining what it overlaps or touches.
pub(crate) fn insert(list: &mut Vec<Interval>, new: Interval) {
    let from = list.partition_point(|i| i.end_exclusive < new.start);
    let to = list.partition_point(|i| i.start <= new.end_exclusive);
    let mut joined = new;
    for old in list.get(from..to).unwrap_or_default() {
        joined.start = joined.start.min(old.start);
        joined.end_exclusive = joined.end_exclusive.max(old.end_exclusive);
    }
    match list.get_mut(from) {
        // The usual case, one old interval becomes longer, moves nothing.
        Some(slot) if to == from + 1 => *slot = joined,
        _ => {
            list.splice(from..to.max(from), [joined]);
        }
    }
}

/// Sorts and joins a list of arbitrary intervals; empty ones vanish.
pub(crate) fn normalise(list: &mut Vec<Interval>) {
    list.retain(|i| !i.is_empty());
    list.sort_unstable();
    list.dedup_by(|next, kept| {
        let joins = next.start <= kept.end_exclusive;
        if joins {
            kept.end_exclusive = kept.end_exclusive.max(next.end_exclusive);
        }
        joins
    });
}

/// Whether each number of `sub` is in `list`.
pub(crate) fn is_subset(sub: &[Interval], list: &[Interval]) -> bool {
    let mut rest = list.iter();
    let mut current = rest.next();
    sub.iter().all(|want| {
        while current.is_some_and(|have| have.end_exclusive < want.end_exclusive) {
            current = rest.next();
        }
        current.is_some_and(|have| have.covers(want))
    })
}

/// The numbers of both lists.
pub(crate) fn union(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    let mut out = [a, b].concat();
    normalise(&mut out);
    out
}

/// The numbers of `a` that are in `b` too.
pub(crate) fn intersect(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    let mut out = Vec::new();
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        let both = Interval {
            start: x.start.max(y.start),
            end_exclusive: x.end_exclusive.min(y.end_exclusive),
        };
        let x_ends_first = x.end_exclusive <= y.end_exclusive;
        if !both.is_empty() {
            out.push(both);
        }
        if x_ends_first {
            a.next();
        } else {
            b.next();
        }
    }
    out
}

/// The numbers of `a` that are not in `b`.
pub(crate) fn subtract(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    let mut out = Vec::new();
    let mut cuts = b.iter().peekable();
    for whole in a {
        let mut left = *whole;
        while cuts.peek().is_some_and(|c| c.end_exclusive <= left.start) {
            cuts.next();
        }
        while let Some(cut) = cuts.peek().filter(|c| c.start < left.end_exclusive) {
            if left.start < cut.start {
                out.push(Interval {
                    start: left.start,
                    end_exclusive: cut.start,
                });
            }
            left.start = cut.end_exclusive;
            if cut.end_exclusive >= left.end_exclusive {
                // It may reach into the next interval: keep it for that.
                break;
            }
            cuts.next();
        }
        if !left.is_empty() {
            out.push(left);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn adding_numbers_is_inserting_intervals_of_one(numbers in proptest::collection::vec(1_u64..40, 0..60)) {
            let (mut added, mut inserted) = (Vec::new(), Vec::new());
            for n in numbers {
                let new = !contains(&inserted, n);
                insert(&mut inserted, Interval { start: n, end_exclusive: n + 1 });
                prop_assert_eq!(add(&mut added, n), new);
                prop_assert_eq!(&added, &inserted);
            }
        }
    }
}
