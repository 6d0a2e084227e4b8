//! Where a client that names the GTIDs it has must start. In: the files, the client's set, what the source has. Out: a
//! file, or which of MySQL's two refusals. Rules of `Binlog_sender::check_start_file` (`sql/rpl_binlog_sender.cc`).

use std::borrow::Borrow;

use tributary_binlog::{GtidSet, Sid};
use tributary_flow::{Mutant, mutant};

use crate::StartError;

/// What a start is chosen from.
#[derive(Debug)]
pub(crate) struct Source<'a, F> {
    pub(crate) server_uuid: Sid,
    pub(crate) executed: &'a GtidSet,
    pub(crate) purged: &'a GtidSet,
    /// Each with its PREVIOUS_GTIDS, oldest first: every set has all of the one before.
    pub(crate) files: &'a [F],
}

/// The newest file that has nothing the client misses before it: its place among the files. However many there are, only
/// a few are looked at.
pub(crate) fn choose<F: Borrow<GtidSet>>(
    source: &Source<'_, F>,
    client: &GtidSet,
) -> Result<usize, StartError> {
    let mut extra = of_server(client, source.server_uuid);
    extra.subtract(source.executed);
    if !extra.is_empty() {
        return Err(StartError::AheadOfSource { extra });
    }
    if !source.purged.is_subset(client) {
        let mut missing = source.purged.clone();
        missing.subtract(client);
        return Err(StartError::Purged { missing });
    }
    let has = |file: &F| file.borrow().is_subset(client);
    let mut behind = source.files.partition_point(has);
    if mutant(Mutant::StartOneFileLate) && behind < source.files.len() {
        behind += 1;
    }
    // The first file's set is what is purged, so without files only can there be none.
    behind.checked_sub(1).ok_or(StartError::NoFiles)
}

/// The part of `set` that belongs to `sid`, whatever the tags.
fn of_server(set: &GtidSet, sid: Sid) -> GtidSet {
    let mut own = GtidSet::new();
    for (s, tag, intervals) in set.iter().filter(|(s, ..)| *s == sid) {
        for interval in intervals {
            let first = tributary_binlog::Gno::new(interval.start);
            let last = interval
                .end_exclusive
                .checked_sub(1)
                .and_then(tributary_binlog::Gno::new);
            if let (Some(first), Some(last)) = (first, last) {
                own.add_interval(s, tag, first, last);
            }
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "00000000-0000-0000-0000-000000000001";
    const OTHER: &str = "00000000-0000-0000-0000-000000000002";

    fn set(text: &str) -> GtidSet {
        text.replace("own", OWN)
            .replace("other", OTHER)
            .parse()
            .unwrap()
    }

    struct File(u64, GtidSet);

    impl Borrow<GtidSet> for File {
        fn borrow(&self) -> &GtidSet {
            &self.1
        }
    }

    fn file(seq: u64, previous: &str) -> File {
        File(seq, set(previous))
    }

    fn start(files: &[File], executed: &str, client: &str) -> Result<u64, StartError> {
        let executed = set(executed);
        let purged = files.first().map(|f| f.1.clone()).unwrap_or_default();
        let server_uuid = OWN.parse().unwrap();
        let source = Source {
            server_uuid,
            executed: &executed,
            purged: &purged,
            files,
        };
        choose(&source, &set(client)).map(|at| files[at].0)
    }

    #[test]
    fn the_newest_file_that_misses_nothing() {
        let files = [file(1, ""), file(2, "own:1-10"), file(3, "own:1-20")];
        for (client, expected) in [
            ("", 1),
            ("own:1-9", 1),
            ("own:2-20", 1),
            ("own:1-10", 2),
            ("own:1-19", 2),
            ("own:1-20", 3),
            ("own:1-25", 3),
            ("other:1-99", 1),
            ("own:1-15,other:7", 2),
        ] {
            assert_eq!(
                start(&files, "own:1-25", client).unwrap(),
                expected,
                "{client}"
            );
        }
    }

    #[test]
    fn ahead_of_the_source_counts_own_gtids_only() {
        let files = [file(1, "")];
        let Err(StartError::AheadOfSource { extra }) =
            start(&files, "own:1-5", "own:1-7,other:1-9")
        else {
            panic!("must be refused");
        };
        assert_eq!(extra, set("own:6-7"));
        assert_eq!(start(&files, "own:1-5", "own:1-5,other:1-9").unwrap(), 1);
    }

    #[test]
    fn purged_names_what_is_missing() {
        let files = [file(4, "own:1-10"), file(5, "own:1-20")];
        let Err(StartError::Purged { missing }) = start(&files, "own:1-25", "own:1-3:9") else {
            panic!("must be refused");
        };
        assert_eq!(missing, set("own:4-8:10"));
        assert_eq!(start(&files, "own:1-25", "own:1-10").unwrap(), 4);
    }

    #[test]
    fn being_ahead_is_told_before_being_purged() {
        let files = [file(4, "own:1-10")];
        let refused = start(&files, "own:1-12", "own:13");
        assert!(matches!(refused, Err(StartError::AheadOfSource { .. })));
    }
}
