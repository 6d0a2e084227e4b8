//! What recovery must change. In: the checkpoint, the records of the files, and which files there are with which sizes.
//! Out: how many bytes to cut off the active file and which files to remove, or why this directory cannot be used.
//!
//! Only what lies behind the checkpoint may go: it was never shown to anyone. Anything that is missing before it is an
//! error, because somebody may have read it.

use std::collections::BTreeMap;

use tributary_binlog::BinlogFile;

use crate::{
    OpenError,
    kv::{purging::Purging, segment::Segment},
};

/// What the directory should look like and what it looks like.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) base_name: &'a str,
    /// The active file's number and committed length.
    pub(crate) seq: u64,
    pub(crate) offset: u64,
    /// In order of their numbers.
    pub(crate) segments: &'a [Segment],
    /// Sizes of the files with this base name, by number.
    pub(crate) sizes: &'a BTreeMap<u64, u64>,
    /// Files a purge was about to remove.
    pub(crate) purging: Option<Purging>,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Bytes behind the checkpoint in the active file.
    pub(crate) cut: u64,
    /// Files behind the checkpoint, to be removed.
    pub(crate) behind: Vec<BinlogFile>,
    /// Files that were being purged, to be removed.
    pub(crate) leaving: Vec<BinlogFile>,
    /// Files in front of the first known one: left alone, but worth a word.
    pub(crate) stray: Vec<BinlogFile>,
}

pub(crate) fn plan(found: &Found<'_>) -> Result<Plan, OpenError> {
    let name = |seq| BinlogFile::new(found.base_name, seq);
    check_records(found)?;
    for segment in found.segments {
        let file = name(segment.seq);
        let Some(&size) = found.sizes.get(&segment.seq) else {
            return Err(OpenError::MissingFile { file });
        };
        match segment.sealed {
            Some(expected) if size != expected => {
                return Err(OpenError::SealedSize {
                    file,
                    size,
                    expected,
                });
            }
            None if size < found.offset => {
                return Err(OpenError::ShortFile {
                    file,
                    size,
                    committed: found.offset,
                });
            }
            _ => {}
        }
    }
    let first = found
        .segments
        .first()
        .map_or(found.seq, |segment| segment.seq);
    let active_size = found.sizes.get(&found.seq).copied().unwrap_or(found.offset);
    let before = found.sizes.range(..first).map(|(&seq, _)| seq);
    let (leaving, stray): (Vec<u64>, Vec<u64>) =
        before.partition(|&seq| found.purging.is_some_and(|p| p.contains(seq)));
    let behind = found.sizes.range(found.seq + 1..).map(|(&seq, _)| seq);
    Ok(Plan {
        cut: active_size - found.offset,
        behind: behind.map(name).collect(),
        leaving: leaving.into_iter().map(name).collect(),
        stray: stray.into_iter().map(name).collect(),
    })
}

/// The records must be a row of sealed files and the active one, which the checkpoint names.
fn check_records(found: &Found<'_>) -> Result<(), OpenError> {
    let wrong = |detail: String| OpenError::Inconsistent { detail };
    let Some((active, sealed)) = found.segments.split_last() else {
        return Err(wrong("no record of any binlog file".to_owned()));
    };
    if active.seq != found.seq || active.sealed.is_some() {
        return Err(wrong(format!(
            "the checkpoint is in file {} but the newest file on record is {}",
            found.seq, active.seq
        )));
    }
    for (segment, next) in sealed.iter().zip(found.segments.iter().skip(1)) {
        if segment.sealed.is_none() || segment.seq + 1 != next.seq {
            return Err(wrong(format!(
                "the record of file {} is out of line",
                segment.seq
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tributary_binlog::GtidSet;

    use super::*;

    fn segment(seq: u64, sealed: Option<u64>) -> Segment {
        Segment {
            seq,
            sealed,
            first_gno: 1,
            previous_gtids: GtidSet::new(),
        }
    }

    fn run(segments: &[Segment], sizes: &[(u64, u64)]) -> Result<Plan, OpenError> {
        let sizes = sizes.iter().copied().collect();
        plan(&Found {
            base_name: "b",
            seq: 3,
            offset: 500,
            segments,
            sizes: &sizes,
            purging: Some(Purging { first: 0, end: 1 }),
        })
    }

    fn records() -> [Segment; 2] {
        [segment(2, Some(900)), segment(3, None)]
    }

    #[test]
    fn only_what_is_behind_the_checkpoint_goes() {
        let plan = run(
            &records(),
            &[(0, 9), (1, 7), (2, 900), (3, 512), (4, 5), (6, 0)],
        )
        .unwrap();
        assert_eq!(plan.cut, 12);
        assert_eq!(
            plan.behind,
            [BinlogFile::new("b", 4), BinlogFile::new("b", 6)]
        );
        assert_eq!(plan.leaving, [BinlogFile::new("b", 0)]);
        assert_eq!(plan.stray, [BinlogFile::new("b", 1)]);
    }

    #[test]
    fn nothing_to_do() {
        assert_eq!(
            run(&records(), &[(2, 900), (3, 500)]).unwrap(),
            Plan::default()
        );
    }

    #[test]
    fn what_is_missing_before_the_checkpoint_is_an_error() {
        let error = |sizes: &[(u64, u64)]| run(&records(), sizes).unwrap_err();
        assert!(matches!(error(&[(3, 500)]), OpenError::MissingFile { file } if file.seq() == 2));
        assert!(matches!(error(&[(2, 900)]), OpenError::MissingFile { file } if file.seq() == 3));
        assert!(matches!(
            error(&[(2, 900), (3, 499)]),
            OpenError::ShortFile {
                size: 499,
                committed: 500,
                ..
            }
        ));
        for size in [899, 901] {
            assert!(matches!(
                error(&[(2, size), (3, 500)]),
                OpenError::SealedSize { .. }
            ));
        }
    }

    #[test]
    fn records_that_contradict_each_other_are_an_error() {
        let sizes = [(1, 900), (2, 900), (3, 500)];
        for segments in [
            &[][..],
            &[segment(2, Some(900))],
            &[segment(2, None), segment(3, None)],
            &[segment(1, Some(900)), segment(3, None)],
            &[segment(3, Some(500))],
        ] {
            assert!(matches!(
                run(segments, &sizes),
                Err(OpenError::Inconsistent { .. })
            ));
        }
    }
}
