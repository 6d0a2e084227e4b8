//! Which transactions a replica may apply side by side.
//!
//! In: every transaction of the merged stream when it is emitted, with the places and the logical clock of its branches,
//! and their rows. Out: its [`Dependency`], the newest transaction before it that must be done before it may begin. A
//! dependency is a threshold: *all* transactions up to it are waited for.
//!
//! * `line`: what one node's own clock says about the transactions of that node.
//! * `keys`: keys that one node has freed and another may take. No node's clock knows of these.
//! * `layout`: where in a row its key is, and which bytes of it tell keys apart.
//!
//! # Why nobody comes too early
//!
//! Let V come behind T in the merged order, and let both touch a row (by its primary key). V must depend on T, or on
//! something behind T.
//!
//! **Both on one node n.** The row is locked from before T's prepare until its commit, and the merger keeps the order in
//! which a node commits and prepares, so T has committed on n before V was prepared there. A node's `last_committed` L of
//! V is at least the number of T's prepare group: by commit order it is at least that of T's commit group, which is
//! greater; by write sets the row is found under T's prepare group, or the history has been cleared behind it. So V waits
//! for the newest emitted transaction whose prepare group's number is ≤ L, and T is one of these. (A transaction that is
//! committed by one node alone is its own prepare group.) Numbers restart with each of the node's binlog files
//! (and a file of another server of the node is another file). A
//! replica of the node would wait for everything at the end of a file; so does this: numbers of a file count among
//! transactions prepared and committed in it, everything emitted before the first transaction of the file counts as
//! number 0, and so does a branch that is emitted later, or was prepared in an earlier file. A V that was prepared in an
//! earlier file than it was committed in waits for all of these. A V that comes from an earlier file than its
//! predecessor, or whose numbers make no sense, waits for its predecessor.
//!
//! **On different nodes.** Nodes have no key in common at any time, so between T and V its row has left T's node and come
//! to V's: some F of T's node is T or behind it and *frees* the key (a delete, an update to another key), and some X of
//! V's node is V or before it and *takes* it (an insert, an update to this key). F waits for T and V for X as shown; X
//! waits for F because freed keys are remembered. With more moves between, this is repeated. Branches of one
//! transaction need no dependency.
//!
//! **Behind a statement** everything waits for it, and it waits for everything. So does everything behind a restart:
//! what had been emitted before is not known.
//!
//! # What is not seen
//!
//! Unique keys other than the primary one are not in the Table_map: a value of such a key that one node frees and another
//! takes *in a row with another primary key*. Rows that foreign keys delete are not in the binlog of servers before 9.0.
//! Tables are told apart by the names in their Table_maps, which are those of the merged stream.

mod keys;
mod layout;
mod line;

#[cfg(test)]
mod tests;

use tributary_flow::{Body, Dependency, NodeId, SourcePos};

use keys::Keys;
use line::Line;

/// A branch of a transaction on its node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval<'a> {
    pub(super) node: NodeId,
    /// End of its prepare group, or of itself when the node committed it alone.
    pub(super) prepare: SourcePos,
    /// End of its commit group, or of itself.
    pub(super) commit: SourcePos,
    /// Of the prepare group, or of itself.
    pub(super) last_committed: i64,
    /// Of the prepare group, or of itself.
    pub(super) sequence_number: i64,
    /// Its rows, with the tables' names of the merged stream.
    pub(super) body: &'a Body,
}

/// The logical clock of the merged stream. See the module documentation.
#[derive(Debug)]
pub(super) struct Clock {
    lines: Vec<Line>,
    /// `None` as long as there is only one node: no row can move.
    keys: Option<Keys>,
    /// Everything depends on this transaction at least.
    floor: u64,
    /// The last emitted transaction.
    newest: u64,
}

impl Clock {
    /// A clock for so many nodes that goes on behind transaction `last_gno`.
    pub(super) fn new(nodes: usize, last_gno: u64) -> Self {
        Self {
            lines: (0..nodes).map(|_| Line::default()).collect(),
            keys: (nodes > 1).then(Keys::default),
            floor: last_gno,
            newest: last_gno,
        }
    }

    /// What a transaction with rows depends on. Called once for each, in the order of emission.
    pub(super) fn rows(&mut self, gno: u64, branches: &[Interval<'_>]) -> Dependency {
        self.make_room(branches);
        let predecessor = gno.saturating_sub(1);
        let mut on = self.floor;
        for branch in branches {
            let line = &mut self.lines[branch.node.index()];
            on = on.max(line.needs(branch).unwrap_or(predecessor));
        }
        // Only now: branches do not depend on each other.
        for branch in branches {
            self.lines[branch.node.index()].enter(branch, gno);
        }
        self.newest = gno;
        if let Some(keys) = &mut self.keys {
            let understood = (branches.iter()).all(|b| keys.read(b.node, b.body, &mut on));
            if !understood {
                return self.statement(gno);
            }
            keys.enter(gno);
        }
        if on >= predecessor {
            return Dependency::Predecessor;
        }
        Dependency::UpTo(on)
    }

    /// What a statement depends on: all before it. All behind it will depend on it.
    pub(super) fn statement(&mut self, gno: u64) -> Dependency {
        self.floor = gno;
        self.newest = gno;
        if let Some(keys) = &mut self.keys {
            keys.forget_freed();
        }
        Dependency::Predecessor
    }

    /// Makes sure that there is a line for every node, and that what is known of tables stays small.
    fn make_room(&mut self, branches: &[Interval<'_>]) {
        let nodes = branches.iter().map(|branch| branch.node.index() + 1).max();
        let nodes = nodes.unwrap_or(0);
        if nodes > self.lines.len() {
            self.lines.resize_with(nodes, Line::default);
        }
        let first_move = self.keys.is_none() && self.lines.len() > 1;
        if first_move || self.keys.as_ref().is_some_and(Keys::is_full) {
            self.keys = Some(Keys::default());
            self.floor = self.newest;
        }
    }
}
