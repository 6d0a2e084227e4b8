//! The nodes that are recorded in the data directory, held against those of the configuration.
//!
//! In: both. Out: which nodes are merged from now on, which still have to join, and what is to be recorded. A command's word
//! counts more than the configuration's until the configuration says the same: a node that was removed by a command does not
//! come back because the file still names it, and one that was added by a command does not go because the file does not.
//! Nothing that was merged is ever dropped silently.

use std::collections::BTreeSet;

use tributary_flow::{NodeRecord, NodeSet};

use crate::config::{ConfigError, Node};

/// What to begin with.
#[derive(Debug)]
pub(crate) struct Reconciled {
    /// Nodes that are merged already.
    pub(crate) nodes: Vec<Node>,
    /// Nodes that have to join.
    pub(crate) joining: Vec<Node>,
    /// What is to be recorded.
    pub(crate) set: NodeSet,
    /// What an operator should put into the configuration, one line each.
    pub(crate) warnings: Vec<String>,
}

/// The nodes as of now. `recorded` is `None` when nothing was ever recorded: then the configuration says it all. `read` makes
/// a node of what a command was given.
pub(crate) fn reconcile(
    recorded: Option<NodeSet>,
    configured: Vec<Node>,
    read: impl Fn(&serde_json::Value) -> Result<Node, ConfigError>,
) -> Result<Reconciled, String> {
    let Some(mut set) = recorded else {
        return Ok(first(configured));
    };
    let mut warnings = Vec::new();
    let (mut nodes, mut joining) = (Vec::new(), Vec::new());
    let mut agreed: BTreeSet<String> = BTreeSet::new();
    let mut missing: BTreeSet<String> = set.nodes.keys().cloned().collect();
    for mut node in configured {
        let new_name = set
            .renamed
            .get(&node.name)
            .filter(|new| missing.contains(*new));
        if let Some(new) = new_name.filter(|_| !set.nodes.contains_key(&node.name)) {
            warnings.push(format!(
                "node {} has been renamed to {new}: change its name in the configuration",
                node.name
            ));
            node.name.clone_from(new);
        }
        if missing.remove(&node.name) {
            let name = node.name.clone();
            let address = node.addresses();
            nodes.push(with_recorded_servers(node, &set, &read, &mut warnings)?);
            // From now on the file says where the node is.
            let same = nodes.last().is_some_and(|n| n.addresses() == address);
            agreed.extend(same.then_some(name));
        } else if set.removed.contains(&node.name) {
            warnings.push(format!(
                "node {0} was removed with `tributary nodes remove`: delete it from the configuration; `tributary nodes add {0}` \
                 reads it again",
                node.name
            ));
        } else {
            joining.push(node);
        }
    }
    for name in missing {
        let definition = set.nodes.get(&name).and_then(|r| r.definition.as_ref());
        let Some(definition) = definition else {
            return Err(format!(
                "node {name} is merged into this data directory, and the configuration has it no more. Leaving it out would \
                 lose what it still has: put it back, and remove it with `tributary nodes remove {name}` while the service runs"
            ));
        };
        let node =
            read(definition).map_err(|e| format!("node {name}, as a command added it: {e}"))?;
        warnings.push(format!(
            "node {name} was added with `tributary nodes add`: put it into the configuration, too"
        ));
        nodes.push(node);
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    for node in &nodes {
        let record = set.nodes.entry(node.name.clone()).or_default();
        record.servers = node.addresses();
        if agreed.contains(&node.name) {
            record.definition = None;
        }
    }
    Ok(Reconciled {
        nodes,
        joining,
        set,
        warnings,
    })
}

fn first(nodes: Vec<Node>) -> Reconciled {
    let record = |node: &Node| {
        let servers = node.addresses();
        let definition = None;
        (
            node.name.clone(),
            NodeRecord {
                servers,
                definition,
            },
        )
    };
    let set = NodeSet {
        nodes: nodes.iter().map(record).collect(),
        ..NodeSet::default()
    };
    Reconciled {
        nodes,
        joining: Vec::new(),
        set,
        warnings: Vec::new(),
    }
}

/// A node that a command gave other servers keeps them until the configuration has them, too.
fn with_recorded_servers(
    node: Node,
    set: &NodeSet,
    read: impl Fn(&serde_json::Value) -> Result<Node, ConfigError>,
    warnings: &mut Vec<String>,
) -> Result<Node, String> {
    let record = set.nodes.get(&node.name);
    let Some(definition) = record.and_then(|r| r.definition.as_ref()) else {
        return Ok(node);
    };
    let commanded = read(definition).map_err(|e| format!("node {}: {e}", node.name))?;
    if commanded.addresses() == node.addresses() {
        return Ok(node);
    }
    warnings.push(format!(
        "node {} was given the address {} by a command: change it in the configuration, which says {}",
        node.name,
        commanded.addresses().join(", "),
        node.addresses().join(", ")
    ));
    let name = node.name;
    Ok(Node { name, ..commanded })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use serde_json::json;

    fn read(definition: &serde_json::Value) -> Result<Node, ConfigError> {
        config::node_from(definition, Path::new("/"))
    }

    fn node(name: &str, port: u16) -> Node {
        read(&json!({"name": name, "url": format!("mysql://repl@127.0.0.1:{port}")}))
            .expect("a valid node")
    }

    fn names(nodes: &[Node]) -> Vec<&str> {
        nodes.iter().map(|n| n.name.as_str()).collect()
    }

    fn recorded(nodes: Vec<Node>) -> NodeSet {
        first(nodes).set
    }

    #[test]
    fn at_first_the_configuration_says_it_all() {
        let now = reconcile(None, vec![node("dn1", 1), node("dn2", 2)], read).expect("fine");
        assert_eq!(names(&now.nodes), ["dn1", "dn2"]);
        assert!(now.joining.is_empty() && now.warnings.is_empty());
        assert_eq!(now.set.nodes["dn2"].servers, ["127.0.0.1:2"]);
    }

    #[test]
    fn what_the_file_has_more_joins_and_what_it_has_less_is_an_error() {
        let set = recorded(vec![node("dn1", 1)]);
        let now = reconcile(
            Some(set.clone()),
            vec![node("dn1", 9), node("dn2", 2)],
            read,
        )
        .expect("fine");
        assert_eq!(
            (names(&now.nodes), names(&now.joining)),
            (vec!["dn1"], vec!["dn2"])
        );
        assert_eq!(now.set.nodes["dn1"].servers, ["127.0.0.1:9"]);
        assert!(!now.set.nodes.contains_key("dn2"), "it has not joined yet");
        let error = reconcile(Some(set), vec![node("dn2", 2)], read).expect_err("dn1 is missing");
        assert!(
            error.contains("node dn1 is merged into this data directory"),
            "{error}"
        );
    }

    #[test]
    fn commands_count_until_the_file_says_the_same() {
        let mut set = recorded(vec![node("dn1", 1), node("dn9", 9)]);
        let added = json!({"name": "dn3", "url": "mysql://repl@127.0.0.1:3"});
        set.nodes.insert(
            "dn3".into(),
            NodeRecord {
                servers: vec![],
                definition: Some(added),
            },
        );
        set.removed.insert("dn2".into());
        set.renamed.insert("dn4".into(), "dn9".into());
        let file = vec![node("dn1", 1), node("dn2", 2), node("dn4", 9)];
        let now = reconcile(Some(set.clone()), file, read).expect("fine");
        assert_eq!(names(&now.nodes), ["dn1", "dn3", "dn9"]);
        assert!(now.joining.is_empty());
        for (line, words) in [
            (0, "dn2 was removed"),
            (1, "dn4 has been renamed to dn9"),
            (2, "dn3 was added"),
        ] {
            assert!(now.warnings[line].contains(words), "{:?}", now.warnings);
        }
        let file = vec![node("dn1", 1), node("dn3", 33), node("dn9", 9)];
        let now = reconcile(Some(set), file, read).expect("fine");
        assert_eq!(now.nodes[1].addresses(), ["127.0.0.1:3"], "the command's");
        assert_eq!(now.warnings.len(), 1);
        assert!(now.set.nodes["dn3"].definition.is_some());
        // Once the file says the same, the file's word counts.
        let file = vec![node("dn1", 1), node("dn3", 3), node("dn9", 9)];
        let now = reconcile(Some(now.set), file, read).expect("fine");
        assert!(now.warnings.is_empty(), "{:?}", now.warnings);
        let file = vec![node("dn1", 1), node("dn3", 33), node("dn9", 9)];
        let now = reconcile(Some(now.set), file, read).expect("fine");
        assert_eq!(now.nodes[1].addresses(), ["127.0.0.1:33"], "the file's");
    }
}
