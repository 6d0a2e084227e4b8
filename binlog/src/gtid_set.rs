//! Sets of GTIDs and their algebra.
//!
//! In: GTIDs, intervals, other sets. Out: membership, union, difference, intersection. The text form is in
//! `gtid_set_text`, the binary one in `gtid_set_codec`.

use crate::gtid::{Gno, Gtid, Sid, Tag};
use crate::interval::{self, Interval};

/// The numbers of one (server, tag).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) sid: Sid,
    pub(crate) tag: Tag,
    /// Sorted, with gaps between; never empty in a set.
    pub(crate) intervals: Vec<Interval>,
}

impl Entry {
    fn key(&self) -> (Sid, Tag) {
        (self.sid, self.tag)
    }
}

/// A set of GTIDs, kept as sorted, merged intervals for each (server, tag).
#[derive(Clone, Default)]
pub struct GtidSet {
    /// Strictly ascending by (server, tag).
    entries: Vec<Entry>,
    /// Where the last `add` went: transactions come in runs of one source.
    last_used: usize,
}

impl GtidSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            last_used: 0,
        }
    }

    /// Builds a set from entries in any order, with intervals in any order. One sort, so that no input makes it
    /// quadratic.
    pub(crate) fn from_entries(mut raw: Vec<Entry>) -> Self {
        raw.sort_by_key(Entry::key);
        let mut entries: Vec<Entry> = Vec::with_capacity(raw.len());
        for mut entry in raw {
            match entries.last_mut().filter(|last| last.key() == entry.key()) {
                Some(last) => last.intervals.append(&mut entry.intervals),
                None => entries.push(entry),
            }
        }
        for entry in &mut entries {
            interval::normalise(&mut entry.intervals);
        }
        entries.retain(|e| !e.intervals.is_empty());
        Self {
            entries,
            last_used: 0,
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether there is no GTID in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many GTIDs it holds (saturating).
    #[must_use]
    pub fn count(&self) -> u64 {
        let lens = self
            .entries
            .iter()
            .flat_map(|e| &e.intervals)
            .map(Interval::len);
        lens.fold(0, u64::saturating_add)
    }

    /// Adds one GTID; `false` if it was there. Constant time when it follows the last number of the (server, tag)
    /// used last.
    #[inline]
    pub fn add(&mut self, g: Gtid) -> bool {
        let gno = g.gno.get();
        if let Some(entry) = self.entries.get_mut(self.last_used)
            && entry.sid == g.sid
            && entry.tag == g.tag
            && let Some(last) = entry.intervals.last_mut()
            && last.end_exclusive == gno
        {
            last.end_exclusive = gno + 1;
            return true;
        }
        self.add_slow(g)
    }

    fn add_slow(&mut self, g: Gtid) -> bool {
        let Ok(at) = self.find(g.sid, g.tag) else {
            self.add_interval(g.sid, g.tag, g.gno, g.gno);
            return true;
        };
        self.last_used = at;
        self.entries
            .get_mut(at)
            .is_some_and(|entry| interval::add(&mut entry.intervals, g.gno.get()))
    }

    /// Adds all numbers from `first` to `last_inclusive`; nothing if the range is empty.
    pub fn add_interval(&mut self, sid: Sid, tag: Tag, first: Gno, last_inclusive: Gno) {
        let new = Interval {
            start: first.get(),
            end_exclusive: last_inclusive.get() + 1,
        };
        if new.is_empty() {
            return;
        }
        let at = match self.find(sid, tag) {
            Ok(at) => at,
            Err(at) => {
                self.entries.insert(
                    at,
                    Entry {
                        sid,
                        tag,
                        intervals: Vec::new(),
                    },
                );
                at
            }
        };
        if let Some(entry) = self.entries.get_mut(at) {
            interval::insert(&mut entry.intervals, new);
        }
        self.last_used = at;
    }

    fn find(&self, sid: Sid, tag: Tag) -> Result<usize, usize> {
        if self
            .entries
            .get(self.last_used)
            .is_some_and(|e| e.key() == (sid, tag))
        {
            return Ok(self.last_used);
        }
        self.entries.binary_search_by_key(&(sid, tag), Entry::key)
    }

    fn intervals(&self, sid: Sid, tag: Tag) -> &[Interval] {
        let entry = self.find(sid, tag).ok().and_then(|at| self.entries.get(at));
        entry.map_or(&[], |e| &e.intervals)
    }

    /// Whether it holds the GTID.
    #[must_use]
    pub fn contains(&self, g: &Gtid) -> bool {
        interval::contains(self.intervals(g.sid, g.tag), g.gno.get())
    }

    /// Whether `other` holds all of it.
    #[must_use]
    pub fn is_subset(&self, other: &GtidSet) -> bool {
        self.entries
            .iter()
            .all(|e| interval::is_subset(&e.intervals, other.intervals(e.sid, e.tag)))
    }

    /// Adds all of `other`.
    pub fn union(&mut self, other: &GtidSet) {
        for theirs in &other.entries {
            match self.find(theirs.sid, theirs.tag) {
                Ok(at) => {
                    if let Some(ours) = self.entries.get_mut(at) {
                        ours.intervals = interval::union(&ours.intervals, &theirs.intervals);
                    }
                }
                Err(at) => self.entries.insert(at, theirs.clone()),
            }
        }
    }

    /// Takes out all of `other`.
    pub fn subtract(&mut self, other: &GtidSet) {
        for ours in &mut self.entries {
            let theirs = other.intervals(ours.sid, ours.tag);
            if !theirs.is_empty() {
                ours.intervals = interval::subtract(&ours.intervals, theirs);
            }
        }
        self.entries.retain(|e| !e.intervals.is_empty());
    }

    /// What both hold.
    #[must_use]
    pub fn intersect(&self, other: &GtidSet) -> GtidSet {
        let common = self.entries.iter().map(|e| Entry {
            intervals: interval::intersect(&e.intervals, other.intervals(e.sid, e.tag)),
            ..*e
        });
        Self {
            entries: common.filter(|e| !e.intervals.is_empty()).collect(),
            last_used: 0,
        }
    }

    /// Whether any GTID in it has a tag; then the binary form is one that servers before 8.3 do not know.
    #[must_use]
    pub fn has_tags(&self) -> bool {
        self.entries.iter().any(|e| !e.tag.is_empty())
    }

    /// The intervals of each (server, tag), in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (Sid, Tag, &[Interval])> {
        self.entries
            .iter()
            .map(|e| (e.sid, e.tag, e.intervals.as_slice()))
    }

    /// The greatest number of a (server, tag).
    #[must_use]
    pub fn last_gno(&self, sid: Sid, tag: Tag) -> Option<Gno> {
        self.intervals(sid, tag)
            .last()
            .and_then(|i| Gno::new(i.end_exclusive - 1))
    }
}

impl PartialEq for GtidSet {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for GtidSet {}

impl Extend<Gtid> for GtidSet {
    fn extend<T: IntoIterator<Item = Gtid>>(&mut self, iter: T) {
        for gtid in iter {
            self.add(gtid);
        }
    }
}

impl FromIterator<Gtid> for GtidSet {
    fn from_iter<T: IntoIterator<Item = Gtid>>(iter: T) -> Self {
        let mut set = Self::new();
        set.extend(iter);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gtid(sid: u8, gno: u64) -> Gtid {
        Gtid {
            sid: Sid([sid; 16]),
            tag: Tag::EMPTY,
            gno: Gno::new(gno).expect("in range"),
        }
    }

    #[test]
    fn add_joins_neighbours_and_reports_repeats() {
        let mut set = GtidSet::new();
        for gno in [1, 3, 2, 7, 5] {
            assert!(set.add(gtid(1, gno)));
            assert!(!set.add(gtid(1, gno)));
        }
        let (_, _, intervals) = set.iter().next().expect("one source");
        let ranges: Vec<_> = intervals
            .iter()
            .map(|i| (i.start, i.end_exclusive))
            .collect();
        assert_eq!(ranges, [(1, 4), (5, 6), (7, 8)]);
        assert_eq!(set.count(), 5);
        assert_eq!(set.last_gno(Sid([1; 16]), Tag::EMPTY), Gno::new(7));
    }

    #[test]
    fn the_hint_survives_other_changes() {
        let mut set = GtidSet::new();
        set.add(gtid(5, 1));
        // A smaller source moves the entry the hint points at.
        set.union(&[gtid(1, 1)].into_iter().collect());
        assert!(set.add(gtid(5, 2)));
        set.subtract(&[gtid(1, 1)].into_iter().collect());
        assert!(set.add(gtid(5, 3)));
        assert_eq!(
            set,
            [gtid(5, 1), gtid(5, 2), gtid(5, 3)].into_iter().collect()
        );
    }

    #[test]
    fn the_last_number_of_all_can_be_added() {
        let mut set = GtidSet::new();
        set.add_interval(Sid([1; 16]), Tag::EMPTY, Gno::FIRST, Gno::MAX);
        assert!(!set.add(Gtid {
            gno: Gno::MAX,
            ..gtid(1, 1)
        }));
        set.add_interval(Sid([2; 16]), Tag::EMPTY, Gno::FIRST, Gno::MAX);
        set.add_interval(Sid([3; 16]), Tag::EMPTY, Gno::FIRST, Gno::MAX);
        assert_eq!(set.count(), u64::MAX);
        set.add_interval(Sid([3; 16]), Tag::EMPTY, Gno::MAX, Gno::FIRST);
    }
}
