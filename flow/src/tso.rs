//! The commit timestamp that orders distributed transactions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A commit timestamp: microseconds from one linearizable, monotonic oracle (a hybrid clock), below 2⁵⁵.
///
/// Fetched by the coordinator *after* every branch of a transaction is prepared, and equal on all its branches.
/// Stock MySQL carries it as `original_commit_timestamp` in the GTID event of the commit group.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Tso(u64);

impl Tso {
    /// Before every commit timestamp.
    pub const ZERO: Self = Self(0);
    /// The greatest value MySQL's GTID event can carry (55 bits).
    pub const MAX: Self = Self((1 << 55) - 1);

    /// The timestamp `micros`, or `None` when it does not fit into the 55 bits of a GTID event.
    pub const fn new(micros: u64) -> Option<Self> {
        if micros <= Self::MAX.0 {
            Some(Self(micros))
        } else {
            None
        }
    }

    /// Microseconds, as the oracle handed it out.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// The next greater timestamp, or `None` after [`Tso::MAX`].
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

impl fmt::Display for Tso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
