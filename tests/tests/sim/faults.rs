//! What can go wrong, how often it does under one seed, and how often it did.
//!
//! In: the seed's generator. Out: a [`Plan`] (each seed leaves some faults out, so that no fault hides another), and [`Counts`].

use std::collections::BTreeMap;

use tributary_collector::Start;
use tributary_flow::OrderMode;

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
    TornEvent,
    LeftOut,
    SlowNode,
    BackPressure,
    Overdraft,
    Spilled,
    ClockJump,
    NodeRotation,
    WithoutChecksums,
    Payload,
    StartCurrent,
    CutByStart,
    OrphanCommit,
    CoordinatorDeathBeforeDecision,
    CoordinatorDeathInCommit,
    LongInDoubt,
    LateRollback,
    CommitByHand,
    StampedSibling,
    HeuristicOutcome,
    MeaninglessTimestamp,
    LocalWithTimestamp,
    TwoTimestamps,
    OracleBack,
    XidReuse,
    EmptyBranch,
    TwoBranchesOnOneNode,
    OnePhase,
    EmptyGroup,
    ExpandingDdl,
    ContractingDdl,
    SameDdlAgain,
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
    PagesDropped,
    FailedIndex,
    FailedPurge,
    Purge,
    PurgeStoppedByReader,
    ClientByGtid,
    ClientPurged,
    OwnRotation,
    FlushLogs,
    IdleCheckpoint,
    BranchKept,
    KeptInPieces,
    KeptForgotten,
    KeptOverRestart,
    NodePurged,
    PurgedPrepare,
    NodeJoined,
    JoinAtGtids,
    JoinWhilePrepared,
    JoinGivenUp,
    JoinSplits,
    NodeLeft,
    LeaveNotYet,
    CrashInChange,
    NodeFailover,
    NodeReplaced,
    NodeRenamed,
    RenamedWhileKept,
    WithoutServiceCrash,
    Replayed,
    ComparedWithNaive,
}

/// Makes the choice of moving clusters independent of everything else, and leaves the stories that are kept what they are.
const MOVES: u64 = 0x6d6f_7665;

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

/// A promise that is broken, once, behind a moment: the merger must stop and say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Two branches of one transaction have different timestamps.
    TwoTimestamps(u64),
    /// A timestamp is no greater than one that lies before the prepare.
    OracleBack(u64),
}

impl Broken {
    pub(crate) fn from(self) -> u64 {
        match self {
            Self::TwoTimestamps(from) | Self::OracleBack(from) => from,
        }
    }

    /// The error that must come.
    pub(crate) fn error(self) -> &'static str {
        match self {
            Self::TwoTimestamps(_) => "TwoTimestamps",
            Self::OracleBack(_) => "OracleWentBack",
        }
    }
}

/// The character of one seed. Times in µs, chances in percent, sizes in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) mode: OrderMode,
    pub(crate) nodes: usize,
    /// Rows on each node.
    pub(crate) accounts: usize,
    /// Greatest difference between clocks.
    pub(crate) skew: u64,
    /// Where nodes are read from, and when the service starts.
    pub(crate) start: Start,
    pub(crate) start_at: u64,
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
    /// Greatest time until somebody finds what a coordinator has left.
    pub(crate) found_after: u64,
    /// What is left behind is finished by a person.
    pub(crate) by_hand: u64,
    pub(crate) rollback: u64,
    pub(crate) fence_failure: u64,
    pub(crate) ddl: u64,
    pub(crate) purge: u64,
    pub(crate) local_timestamps: u64,
    pub(crate) junk_timestamps: u64,
    pub(crate) broken: Option<Broken>,
    /// A gtrid is used again on other nodes once its transaction has come out: what an unknown reader of the log sees decides
    /// about the order, which is then not the same when it is computed again.
    pub(crate) reuse_seen: bool,
    /// How long a branch stays prepared before it is kept in the store.
    pub(crate) keep_after: Option<u64>,
    /// A node purges what the service does not need any more.
    pub(crate) node_purge: u64,
    /// How many nodes join later, and how many leave.
    pub(crate) late: usize,
    pub(crate) leaves: usize,
    /// Mean time between two changes of the nodes, if there are any.
    pub(crate) change_every: u64,
    /// A node fails over.
    pub(crate) failover: u64,
    /// Nothing goes wrong but coordinators, which are away for long: what does not depend on them must flow.
    pub(crate) in_doubt: bool,
    /// Whether the oracle leaves no gaps.
    pub(crate) dense: bool,
    /// Greatest delay of a message.
    pub(crate) delay: u64,
    /// What a node may have in flight, and what it may have more when everything waits for it.
    pub(crate) bytes_max: usize,
    pub(crate) overdraft: usize,
    /// Greatest transaction that stays in memory, if there is such a limit.
    pub(crate) spill: Option<u64>,
    /// Size at which a node starts a new file.
    pub(crate) node_file_max: u64,
    /// The same of the service.
    pub(crate) file_max: u64,
}

impl Plan {
    pub(crate) fn new(mode: OrderMode, rng: &mut Rng) -> Self {
        let (crashes, causal) = (rng.percent(70), mode == OrderMode::Causal);
        let in_doubt = causal && rng.percent(20);
        let mut maybe = |p: u64| if rng.percent(75) { rng.range(1, p) } else { 0 };
        let (node_death, disconnect, slow, clock_jump) =
            (maybe(30), maybe(30), maybe(30), maybe(20));
        let (service_crash, disk_failure, recovery_crash) = (maybe(40), maybe(60), maybe(40));
        let (coordinator_death, rollback, fence_failure, ddl) =
            (maybe(15), maybe(30), maybe(30), maybe(6));
        let (by_hand, purge, timestamps) = (maybe(70), maybe(40), maybe(50));
        let only = |p| if crashes && !in_doubt { p } else { 0 };
        let calm = |p| if in_doubt { 0 } else { p };
        let current = !in_doubt && rng.percent(15);
        let busy_until = rng.range(200_000, 2_000_000);
        let breaks = !causal && !current && rng.percent(12);
        let skew = if rng.percent(30) { 1 } else { 300_000 };
        let from = busy_until / 2;
        // Two uses of an xid on different nodes are told from two timestamps of one by the nodes' clocks.
        let broken = match skew == 1 {
            _ if !breaks => None,
            true => Some(Broken::TwoTimestamps(from)),
            false => Some(Broken::OracleBack(from)),
        };
        let bytes_max = rng.range(4_000, 60_000) as usize;
        // Not from the seed's own generator: stories that are kept shall stay what they are.
        let mut other = Rng::new(rng.state() ^ 0x0073_7069_6c6c);
        let spill = other.percent(60).then(|| other.range(1, 1_500));
        // Of its own, so that the rest of a story is what it was before there was this.
        let mut side = Rng::new(rng.state());
        let keep_after = side.percent(70).then(|| side.range(500, 100_000));
        let node_purge = if side.percent(70) { 60 } else { 0 };
        let mut plan = Self {
            mode,
            nodes: 1 + rng.below(8),
            accounts: 3 + rng.below(40),
            skew,
            start: if current {
                Start::Current
            } else {
                Start::Earliest
            },
            start_at: if current {
                rng.range(10_000, 100_000)
            } else {
                0
            },
            busy_until,
            work_every: rng.range(500, 6_000),
            fault_every: rng.range(4_000, 60_000),
            node_death: calm(node_death),
            disconnect: calm(disconnect),
            slow: calm(slow),
            clock_jump: calm(clock_jump),
            service_crash: only(service_crash),
            disk_failure: only(disk_failure),
            recovery_crash: only(recovery_crash),
            coordinator_death: if in_doubt {
                coordinator_death / 3 + 1
            } else {
                coordinator_death
            },
            found_after: if in_doubt { 1_500_000 } else { 200_000 },
            by_hand: if broken.is_some() { 0 } else { by_hand },
            rollback,
            fence_failure: calm(fence_failure),
            // Statements that some nodes had before the start and others not are another story.
            ddl: if current { 0 } else { calm(ddl) },
            purge,
            local_timestamps: if causal { 0 } else { timestamps },
            junk_timestamps: if causal { timestamps } else { 0 },
            broken,
            reuse_seen: rng.percent(50),
            keep_after,
            node_purge,
            late: 0,
            leaves: 0,
            change_every: 0,
            failover: 0,
            in_doubt,
            dense: rng.percent(50),
            delay: rng.range(50, 5_000),
            bytes_max: if in_doubt { 24 << 20 } else { bytes_max },
            overdraft: rng.range(2_000, 20_000) as usize,
            spill: spill.filter(|_| !in_doubt),
            node_file_max: rng.range(1_500, 40_000),
            file_max: rng.range(1_500, 30_000),
        };
        plan.moves(&mut Rng::new(rng.state() ^ MOVES));
        plan
    }

    /// Whether the cluster moves, and how much.
    fn moves(&mut self, rng: &mut Rng) {
        let still = self.in_doubt || self.start == Start::Current || self.broken.is_some();
        if still || !rng.percent(40) {
            return;
        }
        if self.nodes > 1 && rng.percent(80) {
            self.late = rng.below(self.nodes);
            self.leaves = rng.below(self.nodes);
            self.change_every = rng.range(20_000, self.busy_until / 3);
            // Statements that some nodes had before one joined and others not are another story.
            self.ddl = 0;
        }
        if rng.percent(60) {
            self.failover = rng.range(5, 40);
            if self.mode == OrderMode::Tso {
                // What was committed without a timestamp seems to have one where it was replicated.
                self.by_hand = 0;
            }
        }
    }
}
