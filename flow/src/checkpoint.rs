//! What must survive a restart for the merge to go on exactly where it was.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tributary_binlog::GtidSet;

use crate::Tso;

/// How far one node's binlog has been emitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProgress {
    /// Source GTIDs that are done with: emitted, rolled back, or filtered. A node that is given this set sends
    /// exactly what is missing.
    #[serde(with = "gtid_text")]
    pub emitted: GtidSet,
    /// GTIDs that lay before the point where this node was first read; commits of branches prepared there are not ours.
    #[serde(with = "gtid_text", default)]
    pub before_start: GtidSet,
    /// TSO of the last key before the node joined a cluster that was merged already; `None` for one that was there from the
    /// beginning. What it prepared before that, and commits at or below this TSO, has no siblings any more that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<Tso>,
    /// Of `emitted`, the prepares of branches that are not emitted but kept in the store.
    #[serde(with = "gtid_text", default, skip_serializing_if = "GtidSet::is_empty")]
    pub kept: GtidSet,
}

/// The merger's state behind a global transaction. Stored with that transaction's position in one atomic write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Progress by node name.
    pub nodes: BTreeMap<String, NodeProgress>,
    /// TSO of the last emitted key: every node starts from it after a restart.
    pub last_tso: Tso,
    /// Clamped time of the last emitted key, µs: local transactions behind it sort above it.
    #[serde(default)]
    pub last_time: u64,
}

impl NodeProgress {
    /// Of a node that joins a cluster whose merge stands at `checkpoint`, behind the GTIDs `before`.
    pub fn joining(before: &GtidSet, checkpoint: &Checkpoint) -> Self {
        Self {
            emitted: before.clone(),
            before_start: before.clone(),
            joined: Some(checkpoint.last_tso),
            ..Self::default()
        }
    }
}

mod gtid_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use tributary_binlog::GtidSet;

    pub(super) fn serialize<S: Serializer>(set: &GtidSet, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&set.to_text_oneline())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<GtidSet, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}
