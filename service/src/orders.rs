//! What an operator may ask of the nodes while the service runs, and what is answered.
//!
//! In: requests of the admin interface and SIGHUP. Out: [`Order`]s for the supervisor.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tributary_flow::Moment;
use tributary_schema::SchemaRules;

use crate::config::Node;
use crate::pipeline::Spec;

/// How long a node may take to be drained, or to have nothing in doubt, unless the order says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Command {
    /// A node joins; with what the command was given, to be recorded.
    Add(Box<Node>, serde_json::Value),
    /// A node leaves.
    Remove(Removal),
    /// A node's data are on other servers now.
    Replace(Box<Node>, serde_json::Value),
    /// A node has another name.
    Rename(Renaming),
    /// Tables have other routes; as they are written, and what they mean.
    Routes(NewRoutes, SchemaRules),
    /// The configuration file was read again.
    Reload(Box<Spec>),
}

/// A node leaves.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Removal {
    /// The node.
    pub(crate) name: String,
    /// How long it may take to be drained, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_s: Option<u64>,
    /// Whether it leaves without being asked or drained: it is lost.
    #[serde(default)]
    pub(crate) force: bool,
}

/// Tables have other routes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRoutes {
    /// The tables `[[route]]`, `[ignore]` and `[ddl]`, as in the configuration file.
    pub(crate) rules: serde_json::Value,
    /// How long it may take until everything is merged that the nodes have executed, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_s: Option<u64>,
}

/// A node has another name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Renaming {
    /// Its name.
    pub(crate) name: String,
    /// Its new name.
    pub(crate) to: String,
}

impl Command {
    /// In words, for the log.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Add(node, _) => format!("add node {}", node.name),
            Self::Remove(removal) => format!("remove node {}", removal.name),
            Self::Replace(node, _) => format!("replace node {}", node.name),
            Self::Rename(r) => format!("rename node {} to {}", r.name, r.to),
            Self::Routes(..) => "set routes".into(),
            Self::Reload(_) => "reload the configuration".into(),
        }
    }
}

/// A command, and who waits for its end.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) command: Command,
    pub(crate) answer: oneshot::Sender<Result<Done, String>>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// One line per change.
    pub(crate) changes: Vec<String>,
    /// Behind which transaction the last of them took effect.
    pub(crate) at: Moment,
    /// The longest time in which no node was read, in milliseconds: from the end of the old pipeline until every node
    /// that had been read before was read again.
    pub(crate) pause_ms: u64,
}

impl Done {
    /// Both, one after the other.
    pub(crate) fn and(mut self, next: Self) -> Self {
        self.changes.extend(next.changes);
        self.at = next.at;
        self.pause_ms = self.pause_ms.max(next.pause_ms);
        self
    }
}
