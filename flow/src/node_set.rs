//! Which nodes a cluster has, and how that came about.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Checkpoint, Tso};

/// Changes that are remembered.
const CHANGES_MAX: usize = 1000;

/// The nodes that are merged. Stored with the checkpoint behind which it holds, in one atomic write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSet {
    /// The nodes, by name.
    pub nodes: BTreeMap<String, NodeRecord>,
    /// Nodes that were removed by a command: a configuration that still names one does not bring it back.
    #[serde(default)]
    pub removed: BTreeSet<String>,
    /// Nodes that were given another name by a command, old name → new name.
    #[serde(default)]
    pub renamed: BTreeMap<String, String>,
    /// Routes that a command has set, as long as they are not those of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<RoutesRecord>,
    /// What was changed, the oldest first.
    #[serde(default)]
    pub changes: Vec<NodeChange>,
}

/// Routes that a command has set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesRecord {
    /// The tables `[[route]]`, `[ignore]` and `[ddl]`, as the configuration file would have them.
    pub rules: serde_json::Value,
    /// What the configuration had then. Once it has something else, it counts again.
    pub instead_of: serde_json::Value,
}

/// One node of a [`NodeSet`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// `host:port` of each of its servers.
    pub servers: Vec<String>,
    /// What it was added or replaced with by a command, if it was: as its table in the configuration file, without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<serde_json::Value>,
}

/// A change of the node set, or of what is done with the nodes' tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeChange {
    /// What was done.
    pub what: ChangeKind,
    /// The node's name; empty when it is about all of them.
    pub node: String,
    /// Its servers, its new name, its GTIDs: what is worth knowing later.
    pub detail: String,
    /// Behind which transaction it took effect.
    pub at: Moment,
}

/// What was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// The node joined.
    Add,
    /// The node left.
    Remove,
    /// The node has other servers.
    Replace,
    /// The node has another name.
    Rename,
    /// Tables have other routes.
    Routes,
}

/// A place in the merged order: behind one transaction, before the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Number of the last transaction before it: the `gno` of its GTID.
    pub gno: u64,
    /// TSO of that transaction's key.
    pub tso: Tso,
    /// Clamped time of that transaction's key, µs.
    pub time: u64,
}

impl Moment {
    /// Behind the state `checkpoint` and the transaction number `gno`.
    pub fn behind(checkpoint: &Checkpoint, gno: u64) -> Self {
        Self {
            gno,
            tso: checkpoint.last_tso,
            time: checkpoint.last_time,
        }
    }
}

impl NodeSet {
    /// Remembers a change, and forgets the oldest when there are many.
    pub fn note(&mut self, change: NodeChange) {
        if self.changes.len() >= CHANGES_MAX {
            self.changes.remove(0);
        }
        self.changes.push(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back_and_does_not_grow_without_end() {
        let mut set = NodeSet::default();
        let record = NodeRecord {
            servers: vec!["127.0.0.1:3301".into()],
            definition: Some(serde_json::json!({"name": "dn1"})),
        };
        set.nodes.insert("dn1".into(), record);
        set.removed.insert("dn0".into());
        for gno in 0..=CHANGES_MAX as u64 {
            set.note(NodeChange {
                what: ChangeKind::Add,
                node: "dn1".into(),
                detail: String::new(),
                at: Moment {
                    gno,
                    ..Moment::default()
                },
            });
        }
        assert_eq!(set.changes.len(), CHANGES_MAX);
        assert_eq!(set.changes[0].at.gno, 1);
        let text = serde_json::to_string(&set).expect("serializes");
        assert_eq!(serde_json::from_str::<NodeSet>(&text).expect("parses"), set);
        let old: NodeSet = serde_json::from_str(r#"{"nodes":{}}"#).expect("parses");
        assert_eq!(old, NodeSet::default());
    }
}
