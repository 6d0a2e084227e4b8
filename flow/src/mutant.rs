//! Seeded defects: what the simulator must be able to find.
//!
//! In: the defect a test has chosen for its thread. Out: whether the code that asks is to do the wrong thing. Without the
//! feature `mutants` the answer is a constant, and nothing of this is in the program.

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// A defect that somebody could make, by the rule it breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $name),*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

mutants! {
    /// Collector: a heartbeat does not move the position, so that fences behind skipped groups are never passed.
    IgnoreHeartbeats,
    /// Collector: the commit timestamp of a group is not looked at.
    ForgetTimestamp,
    /// Collector: a one-phase commit is taken for a prepare.
    OnePhaseIsPrepare,
    /// Collector: a group with a GTID and nothing else has no end.
    ForgetEmptyGroup,
    /// Collector: what was read before the restart is asked for without what lay before the start.
    ForgetBeforeStart,
    /// Collector: an overdraft is never granted.
    NoOverdraft,
    /// Collector: a group ends where its GTID event does.
    EndAtBegin,
    /// Collector: the events of a payload are dropped.
    DropPayload,
    /// Store: a finished file is not synced.
    SealWithoutSync,
    /// Store: a commit does not sync the file.
    CommitWithoutSync,
    /// Store: a commit does not sync its checkpoint.
    CheckpointWithoutSync,
    /// Store: the checkpoint is written before the bytes it speaks of are synced.
    CheckpointBeforeData,
    /// Store: the durable end is shown before it is durable.
    PublishBeforeSync,
    /// Store: after a failed sync the writer tries again.
    RetryFailedSync,
    /// Store: a new file's name is not made durable.
    ForgetName,
    /// Store: PREVIOUS_GTIDS lacks the newest transaction.
    WrongPreviousGtids,
    /// Store: a number is left out at a rotation.
    SkipGno,
    /// Store: recovery leaves what lies behind the checkpoint.
    KeepTail,
    /// Store: recovery leaves the files behind the checkpoint.
    KeepFilesBehind,
    /// Store: a finished file that is too long is cut.
    CutSealedFile,
    /// Store: a purge takes files that are being read.
    PurgeUnderReaders,
    /// Store: a purge removes files before the database forgets them.
    PurgeFilesFirst,
    /// Store: a client is sent to a file that begins behind what it misses.
    StartOneFileLate,
    /// Store: a checkpoint does not come with a group that has no bytes.
    ForgetIdleCheckpoint,
}

#[cfg(feature = "mutants")]
mod chosen {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Makes this thread's code have that defect; `None` repairs it.
    pub fn choose_mutant(mutant: Option<Mutant>) {
        CHOSEN.set(mutant);
    }

    /// Whether this thread's code has that defect.
    pub fn mutant(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub use chosen::{choose_mutant, mutant};

/// Whether the code has that defect: never, without the feature `mutants`.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn mutant(_: Mutant) -> bool {
    false
}
