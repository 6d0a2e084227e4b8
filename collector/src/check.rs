//! The check of a whole cluster, for a report (`tributary check`). In: the nodes' addresses. Out: one line per problem.

use std::fmt;

use tributary_binlog::Sid;

use crate::{
    config::NodeUrl,
    core::settings::{self, Identity, NodeFacts, SettingsProblem},
    error::CollectorError,
    sql::SideConn,
};

/// What to check.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Names and addresses of the nodes.
    pub nodes: Vec<(String, NodeUrl)>,
    /// Our `server_id` as their replica.
    pub server_id: u32,
    /// Our UUID as their replica, if there is one already.
    pub uuid: Option<Sid>,
}

/// What is wrong with one node. Displays as one line: the node's name, the fault, what to run.
#[derive(Debug)]
pub struct NodeProblem {
    /// Name of the node.
    pub node: String,
    /// Its fault.
    pub fault: NodeFault,
}

/// A fault found by [`settings_problems`].
#[derive(Debug)]
pub enum NodeFault {
    /// It cannot be asked.
    Unreachable(CollectorError),
    /// A setting must be changed.
    Setting(SettingsProblem),
}

impl fmt::Display for NodeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            NodeFault::Unreachable(e) => write!(f, "node {}: {e}", self.node),
            NodeFault::Setting(problem) => write!(f, "node {}: {problem}", self.node),
        }
    }
}

/// Asks all nodes, one after the other, and compares each with those before it. Empty = every node can be read.
pub async fn settings_problems(probe: &Probe) -> Vec<NodeProblem> {
    let ours = Identity {
        name: String::new(),
        server_id: probe.server_id,
        uuid: probe.uuid,
    };
    let (mut problems, mut known) = (Vec::new(), Vec::new());
    for (name, url) in &probe.nodes {
        let mut add = |fault| {
            problems.push(NodeProblem {
                node: name.clone(),
                fault,
            });
        };
        match ask(url).await {
            Err(error) => add(NodeFault::Unreachable(error)),
            Ok(facts) => {
                let found = settings::check(&facts, name, &ours, &known);
                found
                    .into_iter()
                    .for_each(|problem| add(NodeFault::Setting(problem)));
                known.push(facts.identity(name));
            }
        }
    }
    problems
}

async fn ask(url: &NodeUrl) -> Result<NodeFacts, CollectorError> {
    let mut side = SideConn::connect(url).await?;
    let facts = side.facts().await?;
    side.quit().await;
    Ok(facts)
}
