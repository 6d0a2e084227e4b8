//! What can go wrong, how often it does under one seed, and how often it did.
//!
//! In: the seed's generator. Out: a [`Plan`] (each seed leaves some faults out, so that no fault hides another), and [`Counts`].

use std::collections::BTreeMap;

use crate::rng::Rng;

macro_rules! faults {
    ($($name:ident),* $(,)?) => {
        /// A class of faults, or of unusual behaviour, that the whole run must meet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fault { $($name),* }
        impl Fault {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

faults! {
    NodeDeath,
    Disconnect,
    InFlightLost,
    Resent,
    SlowNode,
    BackPressure,
    ClockJump,
    NodeRotation,
    CoordinatorDeathBeforeDecision,
    CoordinatorDeathInCommit,
    LateRollback,
    XidReuse,
    EmptyBranch,
    TwoBranchesOnOneNode,
    OnePhase,
    EmptyGroup,
    ExpandingDdl,
    ContractingDdl,
    FenceFailure,
    FenceLate,
    StaleFenceAnswer,
    ServiceKilled,
    PowerFailure,
    CrashBetweenAppendAndCommit,
    CrashInRecovery,
    TornWrite,
    ZeroedWrite,
    LostWrite,
    LostName,
    BytesCut,
    FailedWrite,
    FailedSync,
    FailedIndex,
    OwnRotation,
    FlushLogs,
    IdleCheckpoint,
    WithoutServiceCrash,
}

/// How often each fault was met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<Fault, u64>);

impl Counts {
    pub(crate) fn hit(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (fault, n) in &other.0 {
            *self.0.entry(*fault).or_default() += n;
        }
    }

    pub(crate) fn missing(&self) -> Vec<Fault> {
        let missing = |f: &&Fault| !self.0.contains_key(f);
        Fault::ALL.iter().filter(missing).copied().collect()
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (fault, n) in &self.0 {
            write!(f, "{fault:?} {n}, ")?;
        }
        Ok(())
    }
}

/// The character of one seed. Times in µs, chances in percent.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    /// Work and faults end here.
    pub(crate) busy_until: u64,
    /// Mean time between new transactions.
    pub(crate) work_every: u64,
    /// Mean time between faults.
    pub(crate) fault_every: u64,
    pub(crate) node_death: u64,
    pub(crate) disconnect: u64,
    pub(crate) slow: u64,
    pub(crate) clock_jump: u64,
    pub(crate) service_crash: u64,
    pub(crate) disk_failure: u64,
    pub(crate) recovery_crash: u64,
    pub(crate) coordinator_death: u64,
    pub(crate) rollback: u64,
    pub(crate) fence_failure: u64,
    pub(crate) ddl: u64,
    /// Whether the oracle leaves no gaps.
    pub(crate) dense: bool,
    /// Greatest delay of a message.
    pub(crate) delay: u64,
    /// Items that wait for the merger, by node.
    pub(crate) queue_max: usize,
    /// Bytes after which a node starts a new file.
    pub(crate) node_file_max: u64,
    /// The same of the service.
    pub(crate) file_max: u64,
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let crashes = rng.percent(70);
        let mut maybe = |p: u64| if rng.percent(75) { rng.range(1, p) } else { 0 };
        let (node_death, disconnect, slow, clock_jump) =
            (maybe(30), maybe(30), maybe(30), maybe(20));
        let (service_crash, disk_failure, recovery_crash) = (maybe(40), maybe(60), maybe(40));
        let (coordinator_death, rollback, fence_failure, ddl) =
            (maybe(15), maybe(30), maybe(30), maybe(6));
        let only = |p| if crashes { p } else { 0 };
        Self {
            nodes: 1 + rng.below(8),
            busy_until: rng.range(200_000, 2_000_000),
            work_every: rng.range(500, 6_000),
            fault_every: rng.range(4_000, 60_000),
            node_death,
            disconnect,
            slow,
            clock_jump,
            service_crash: only(service_crash),
            disk_failure: only(disk_failure),
            recovery_crash: only(recovery_crash),
            coordinator_death,
            rollback,
            fence_failure,
            ddl,
            dense: rng.percent(50),
            delay: rng.range(50, 5_000),
            queue_max: rng.range(4, 200) as usize,
            node_file_max: rng.range(1_500, 40_000),
            file_max: rng.range(1_500, 30_000),
        }
    }
}
