//! Counters of the workload: in go outcomes, out comes a line for people.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Live counters, shared by all workers.
#[derive(Debug, Default)]
pub struct Stats {
    distributed: AtomicU64,
    alone: AtomicU64,
    rolled_back: AtomicU64,
    aborted: AtomicU64,
    unknown: AtomicU64,
    ddl: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Distributed transactions committed (or certain to be).
    pub distributed: u64,
    /// One-phase and local transactions committed.
    pub alone: u64,
    /// Rolled back after they had been prepared.
    pub rolled_back: u64,
    /// Failed before a decision.
    pub aborted: u64,
    /// One-phase or local, with a node lost during the commit.
    pub unknown: u64,
    /// Schema changes carried out on all nodes.
    pub ddl: u64,
}

impl StatsSnapshot {
    /// Committed transactions of all kinds.
    pub fn committed(&self) -> u64 {
        self.distributed + self.alone
    }
}

impl fmt::Display for StatsSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            distributed,
            alone,
            rolled_back,
            aborted,
            unknown,
            ddl,
        } = self;
        write!(
            f,
            "{distributed} distributed, {alone} single-node, {rolled_back} rolled back"
        )?;
        write!(f, ", {ddl} DDL")?;
        if aborted + unknown > 0 {
            write!(f, ", {aborted} aborted, {unknown} unknown")?;
        }
        Ok(())
    }
}

impl Stats {
    /// The counters now.
    pub fn snapshot(&self) -> StatsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsSnapshot {
            distributed: read(&self.distributed),
            alone: read(&self.alone),
            rolled_back: read(&self.rolled_back),
            aborted: read(&self.aborted),
            unknown: read(&self.unknown),
            ddl: read(&self.ddl),
        }
    }

    pub(super) fn count_distributed(&self) {
        self.distributed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_alone(&self) {
        self.alone.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_rolled_back(&self) {
        self.rolled_back.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_aborted(&self) {
        self.aborted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_unknown(&self) {
        self.unknown.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_ddl(&self) {
        self.ddl.fetch_add(1, Ordering::Relaxed);
    }
}
