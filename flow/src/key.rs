//! The one total order of global transactions, and where it comes from.

use crate::{NodeId, Tso};

/// Where a cluster's order comes from (`order` in the configuration).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OrderMode {
    /// Commit timestamps of one oracle.
    #[default]
    Tso,
    /// The nodes' binlogs alone: a commit that precedes a prepare on some node comes first.
    Causal,
}

/// What kind of commit an [`OrderKey`] belongs to. Locals sort after the distributed transaction whose TSO they use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyClass {
    /// A distributed transaction, at its own TSO.
    Distributed,
    /// A transaction committed by one node alone, at the greatest TSO known to lie before it on that node.
    Local,
}

/// What the merger sorts by; see `docs/ordering.md`.
///
/// A distributed transaction has `(tso, Distributed, 0, 0, 0)`. A local one has the greatest TSO of any commit or passed
/// fence before it in its node's binlog, its clamped commit time, its node and its place in that node's stream. No two
/// local transactions share a key; two distributed ones share one only if the oracle handed out a TSO twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey {
    /// Commit timestamp, or the floor a local transaction stands on.
    pub tso: Tso,
    /// Distributed before local.
    pub class: KeyClass,
    /// Clamped commit time of a local transaction in µs: never less than that of an earlier one of its node.
    pub time: u64,
    /// Node of a local transaction.
    pub node: NodeId,
    /// Place of a local transaction in its node's stream.
    pub seq: u64,
}

impl OrderKey {
    /// Before every key.
    pub const MIN: Self = Self::distributed(Tso::ZERO);

    /// The key of a distributed transaction; also the least key with this TSO.
    pub const fn distributed(tso: Tso) -> Self {
        Self {
            tso,
            class: KeyClass::Distributed,
            time: 0,
            node: NodeId(0),
            seq: 0,
        }
    }

    /// The key of a local transaction.
    pub const fn local(tso: Tso, time: u64, node: NodeId, seq: u64) -> Self {
        Self {
            tso,
            class: KeyClass::Local,
            time,
            node,
            seq,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locals_follow_the_commit_they_stand_on() {
        let tso = |n| Tso::new(n).unwrap();
        let commit = OrderKey::distributed(tso(10));
        let local = OrderKey::local(tso(10), 1, NodeId(0), 0);
        assert!(commit < local);
        assert!(local < OrderKey::distributed(tso(11)));
        assert!(local < OrderKey::local(tso(10), 2, NodeId(0), 1));
        assert!(
            OrderKey::local(tso(10), 2, NodeId(0), 9) < OrderKey::local(tso(10), 2, NodeId(1), 0)
        );
    }
}
