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

            /// Those about parts of tables: the stories of tables find them, where rows have columns.
            pub const OF_TABLES: &'static [Self] = &[
                Self::ExpandWithLast,
                Self::ContractWithFirst,
                Self::ForgetPart,
                Self::RowsOfOldShape,
                Self::ForgetWaiting,
                Self::EveryCopy,
            ];
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
    /// Collector: a group with a GTID and nothing else is forgotten.
    ForgetEmptyGroup,
    /// Collector: what was emitted before a restart is asked for again.
    ForgetEmitted,
    /// Collector: an overdraft is never granted.
    NoOverdraft,
    /// Collector: bytes that were let go of count as in flight.
    ForgetRelease,
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
    /// Store: after a failure the writer goes on.
    GoOnAfterFailure,
    /// Store: a new file's name is not made durable.
    ForgetName,
    /// Store: PREVIOUS_GTIDS lacks the newest transaction.
    WrongPreviousGtids,
    /// Store: a number is left out.
    SkipGno,
    /// Store: recovery leaves what lies behind the checkpoint.
    KeepTail,
    /// Store: recovery leaves the files behind the checkpoint.
    KeepFilesBehind,
    /// Store: a purge takes files that are being read.
    PurgeUnderReaders,
    /// Store: a client is sent to a file that begins behind what it misses.
    StartOneFileLate,
    /// Store: the index says of a transaction where the next one begins.
    IndexOffByOne,
    /// Merger: a fence acts before the stream has reached it.
    FenceActsEarly,
    /// Merger: a fence is stamped with what was observed when its answer came.
    FenceStampedLate,
    /// Merger: a passed fence does not raise the time.
    ClampNotRaised,
    /// Merger: one node is not waited for.
    IgnoreOneNode,
    /// Merger: an unresolved prepare does not hold the watermark down.
    WatermarkIgnoresPrepared,
    /// Merger: a rollback is forgotten.
    ForgetRollback,
    /// Merger: the prepare of a branch that was rolled back is not done with.
    ForgetRolledBackPrepare,
    /// Merger: a prepared branch is done with before it is committed.
    DoneAtPrepare,
    /// Merger: the first commit is taken for proof that all branches are known.
    DiscoverWithoutFence,
    /// Merger: what stands behind a commit without a key does not wait for it.
    GateOpensEarly,
    /// Merger: what stands behind a commit without a key is not raised above it.
    GateDoesNotRaise,
    /// Merger: a local transaction has its own time.
    LocalAtOwnTime,
    /// Merger: a local transaction has its own timestamp.
    LocalAtOwnTso,
    /// Merger: the TSO of the last key is forgotten over a restart.
    ForgetLastTso,
    /// Merger: the time of the last key is forgotten over a restart.
    ForgetLastTime,
    /// Merger: a branch is left out.
    ForgetBranch,
    /// Merger: a DDL statement comes from every node that has it.
    EmitEveryDdl,
    /// Merger: a transaction's number is counted twice.
    CountTwice,
    /// Merger: a commit without a timestamp does not take that of its sibling.
    IgnoreSibling,
    /// Merger: where a node joined is forgotten: what it prepared before, it may not commit at an old TSO.
    ForgetJoin,
    /// Joining: what was prepared before the node was asked is not waited for.
    JoinEarly,
    /// Joining: what is prepared where a node joins counts as done.
    JoinForgetsPrepared,
    /// Leaving: what a node still has is not waited for.
    LeaveUndrained,
    /// Store: what is kept of a node that is renamed keeps the node's old name.
    RenameLeavesBranches,
    /// Merger: a restart forgets the branches that are kept.
    ForgetKept,
    /// Merger: a kept branch that is written stays kept.
    KeepForever,
    /// Merger: a branch is kept while commits before it are not written.
    KeepTooEarly,
    /// Merger: a branch is kept without its rows.
    KeepWithoutRows,
    /// Merger: a branch counts as received before all of it is kept.
    ReceivedBeforeKept,
    /// Store: kept branches are changed before the checkpoint that speaks of them.
    BranchesBeforeCheckpoint,
    /// Schema: an expanding statement is written with the last part that has it.
    ExpandWithLast,
    /// Schema: a contracting statement is written with the first part that has it.
    ContractWithFirst,
    /// Schema: one of the parts that must have a statement is not waited for.
    ForgetPart,
    /// Merger: rows are given the shape that the logical table had before its last change.
    RowsOfOldShape,
    /// Schema: statements that wait are not stored.
    ForgetWaiting,
    /// Schema: rows of every copy of a table are written.
    EveryCopy,
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
