//! Which finished files have been kept for long enough. In: the files, oldest first, what is kept in all, the time, the
//! options. Out: up to where files may go, and whether a reader holds that up.
//!
//! Files go from the oldest on, without gaps: PREVIOUS_GTIDS of the oldest file that stays is then exactly what is purged. The
//! file being written is not among them.

/// How long finished binlog files are kept. What is not set does not limit anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// A file goes once it was last written so many seconds ago.
    pub expire_after: Option<u64>,
    /// The oldest files go while all of them together have more bytes than this, the one being written included.
    pub max_total_size: Option<u64>,
}

/// A finished file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) seq: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// When it was last written, in seconds since the epoch.
    pub(crate) modified: u64,
    /// Whether a client reads it and may go on doing so.
    pub(crate) held: bool,
}

/// What may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Number of the first file that stays; 0 = none goes.
    pub(crate) end: u64,
    /// The file that would go, but is being read.
    pub(crate) held: Option<u64>,
}

/// Looks at no more files than may go, and one. `total` is the size of all files.
pub(crate) fn decide<E>(
    retention: Retention,
    files: impl IntoIterator<Item = Result<Finished, E>>,
    mut total: u64,
    now: u64,
) -> Result<Verdict, E> {
    let mut verdict = Verdict::default();
    if retention == Retention::default() {
        return Ok(verdict);
    }
    for file in files {
        let file = file?;
        let too_much = retention.max_total_size.is_some_and(|max| total > max);
        let too_old = retention
            .expire_after
            .is_some_and(|keep| file.modified.saturating_add(keep) <= now);
        if !too_much && !too_old {
            break;
        }
        if file.held {
            verdict.held = Some(file.seq);
            break;
        }
        verdict.end = file.seq + 1;
        total = total.saturating_sub(file.size);
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// Files of 100 bytes, finished at 1000, 2000, …; 50 bytes are in the one being written.
    fn files(count: u64, held: Option<u64>) -> Vec<Finished> {
        (1..=count)
            .map(|seq| Finished {
                seq,
                size: 100,
                modified: seq * 1000,
                held: held == Some(seq),
            })
            .collect()
    }

    fn run(retention: Retention, files: &[Finished], now: u64) -> Verdict {
        let total = 50 + files.iter().map(|f| f.size).sum::<u64>();
        let files = files.iter().map(|file| Ok::<_, Infallible>(*file));
        decide(retention, files, total, now).unwrap()
    }

    fn age(seconds: u64) -> Retention {
        Retention {
            expire_after: Some(seconds),
            max_total_size: None,
        }
    }

    fn size(bytes: u64) -> Retention {
        Retention {
            expire_after: None,
            max_total_size: Some(bytes),
        }
    }

    #[test]
    fn old_files_go() {
        let files = files(5, None);
        for (now, end) in [(1499, 0), (1500, 2), (2499, 2), (2500, 3), (99_999, 6)] {
            assert_eq!(run(age(500), &files, now).end, end, "{now}");
        }
        assert_eq!(run(Retention::default(), &files, u64::MAX).end, 0);
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let files = files(5, None);
        for (bytes, end) in [(550, 0), (549, 2), (450, 2), (449, 3), (50, 6), (0, 6)] {
            assert_eq!(run(size(bytes), &files, 0).end, end, "{bytes}");
        }
    }

    #[test]
    fn a_file_that_is_read_stays_with_all_behind_it() {
        let verdict = run(size(0), &files(5, Some(3)), 0);
        assert_eq!((verdict.end, verdict.held), (3, Some(3)));
        // It is held up only if it would go.
        let verdict = run(age(500), &files(5, Some(3)), 2500);
        assert_eq!((verdict.end, verdict.held), (3, None));
    }

    #[test]
    fn a_young_file_in_front_keeps_old_ones_behind_it() {
        let mut files = files(3, None);
        files[0].modified = 9000;
        assert_eq!(run(age(500), &files, 9100).end, 0);
    }

    #[test]
    fn no_more_files_are_looked_at_than_may_go() {
        let looked = std::cell::Cell::new(0);
        let files = files(1000, None);
        let files = files.iter().inspect(|_| looked.set(looked.get() + 1));
        decide(age(1), files.map(|f| Ok::<_, Infallible>(*f)), 0, 2500).unwrap();
        assert_eq!(looked.get(), 3);
    }

    proptest! {
        #[test]
        fn what_goes_had_to_and_was_not_read(
            all in prop::collection::vec((0u64..500, 0u64..5000, any::<bool>()), 0..12),
            expire_after in prop::option::of(0u64..3000),
            max_total_size in prop::option::of(0u64..3000),
            now in 0u64..6000,
        ) {
            let files: Vec<Finished> = (1..)
                .zip(&all)
                .map(|(seq, &(size, modified, held))| Finished { seq, size, modified, held })
                .collect();
            let retention = Retention { expire_after, max_total_size };
            let verdict = run(retention, &files, now);
            let mut left: u64 = 50 + files.iter().map(|f| f.size).sum::<u64>();
            for file in &files {
                let must = expire_after.is_some_and(|a| file.modified + a <= now)
                    || max_total_size.is_some_and(|m| left > m);
                if file.seq >= verdict.end {
                    // The first that stays is young and fits, or is read.
                    prop_assert!(!must || file.held);
                    break;
                }
                prop_assert!(must && !file.held);
                left -= file.size;
            }
        }
    }
}
