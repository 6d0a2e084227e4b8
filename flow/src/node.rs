//! Upstream nodes and their short ids.

use std::fmt;

/// A node, as an index into the cluster's [`NodeTable`]. Ids are given in the order of the nodes' names, so that
/// comparing ids is comparing names: ties in the order are broken by node name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

impl NodeId {
    /// The id as an index into per-node tables.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The names of a cluster's nodes, sorted; a [`NodeId`] is a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTable {
    names: Vec<String>,
}

impl NodeTable {
    /// A table of these names. Duplicates are merged; at most `u16::MAX` names are kept.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort();
        names.dedup();
        names.truncate(usize::from(u16::MAX));
        Self { names }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of `id`, or `"?"` for an id of another table.
    pub fn name(&self, id: NodeId) -> &str {
        self.names.get(id.index()).map_or("?", String::as_str)
    }

    /// The id of the node called `name`.
    pub fn id(&self, name: &str) -> Option<NodeId> {
        self.names
            .binary_search_by(|n| n.as_str().cmp(name))
            .ok()
            .map(|i| NodeId(i as u16))
    }

    /// All nodes, in order.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &str)> {
        self.names
            .iter()
            .enumerate()
            .map(|(i, n)| (NodeId(i as u16), n.as_str()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}
