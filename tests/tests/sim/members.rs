//! Nodes that join, leave, get other servers or another name, and fail over while the stream runs.
//!
//! In: moments at which somebody changes the nodes. Out: the steps of `service/src/changes.rs` over the real join point, the real
//! store and a new merger: the old set of nodes or the new one, whatever happens in between. What is true about a node that
//! joined is told from its binlog, not from what the service believes.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use tributary_binlog::{GtidSet, XaXid};
use tributary_collector::{JoinPoint, Passage, left};
use tributary_flow::{Checkpoint, NodeProgress, NodeRecord, NodeSet, NodeTable, TxnKind};
use tributary_store::NodeSetChange;

use crate::faults::{Fault, Plan};
use crate::node::Node;
use crate::rng::Rng;
use crate::service::Service;
use crate::truth::{Outcome, Part};
use crate::world::{Event, World};

/// How long a join point may be looked for while nothing is merged, µs. Shorter than in `service/src/changes.rs`: virtual time is short.
const POINT_PATIENCE: u64 = 60_000;

/// Who belongs to the cluster, and what is to change.
pub(crate) struct Members {
    /// As the store says.
    pub(crate) now: BTreeSet<usize>,
    /// To join one day.
    late: Vec<usize>,
    /// How many are to leave one day.
    leaves: usize,
    /// Is not used any more, and has not left.
    leaving: Option<usize>,
    switch: Option<Switch>,
    /// What each node is called.
    names: Vec<String>,
    /// Something has changed: the story can not be told again from the binlogs alone.
    pub(crate) changed: bool,
}

/// A change under way: nothing is merged meanwhile.
struct Switch {
    until: u64,
    change: Change,
}

enum Change {
    /// Behind what it has executed: asked for its GTIDs, asked for its prepared branches, read.
    Join(usize, Step),
    /// Behind its first groups.
    JoinAt(usize, usize),
    Leave(usize),
    /// Other servers with the same data.
    Replace(usize),
    Rename(usize),
}

enum Step {
    Asked {
        executed: GtidSet,
        groups: usize,
    },
    Told {
        executed: GtidSet,
        groups: usize,
        xids: Vec<XaXid>,
    },
    /// Up to a group.
    Read(Box<Passage>, usize),
}

impl Members {
    pub(crate) fn new(plan: &Plan) -> Self {
        let first_late = plan.nodes - plan.late;
        Self {
            now: (0..first_late).collect(),
            late: (first_late..plan.nodes).collect(),
            leaves: plan.leaves,
            leaving: None,
            switch: None,
            names: (0..plan.nodes).map(|n| format!("dn{n}")).collect(),
            changed: false,
        }
    }

    /// A crash ends what was under way.
    pub(crate) fn interrupted(&mut self) -> bool {
        self.switch.take().is_some()
    }

    /// While nothing is merged.
    pub(crate) fn is_switching(&self) -> bool {
        self.switch.is_some()
    }

    pub(crate) fn table(&self) -> NodeTable {
        NodeTable::new(self.now.iter().map(|n| self.name(*n)))
    }

    /// What a node is called now.
    pub(crate) fn name(&self, n: usize) -> String {
        self.names[n].clone()
    }

    /// All nodes, also those that do not belong to the cluster now.
    fn everybody(&self) -> NodeTable {
        NodeTable::new(self.names.iter().cloned())
    }

    /// What is stored at the first start.
    pub(crate) fn set(&self) -> NodeSet {
        let nodes = self.now.iter();
        NodeSet {
            nodes: nodes
                .map(|n| (self.name(*n), NodeRecord::default()))
                .collect(),
            ..NodeSet::default()
        }
    }
}

/// The node that is called so: `dn3`, or `dn3~1` after it was renamed. The order of the names stays that of the nodes.
pub(crate) fn number(name: &str) -> Result<usize> {
    let number = name.strip_prefix("dn").and_then(|n| n.split('~').next());
    Ok(number.context("a node's name")?.parse()?)
}

fn renamed(name: &str) -> String {
    match name.split_once('~') {
        Some((name, times)) => format!("{name}~{}", times.parse::<u32>().unwrap_or(0) + 1),
        None => format!("{name}~1"),
    }
}

/// Branches that are prepared behind the first `groups` of a binlog.
fn prepared(node: &Node, groups: usize) -> Vec<(XaXid, tributary_binlog::Gtid)> {
    let mut open = Vec::new();
    for entry in node.entries.iter().take(groups) {
        match &entry.kind {
            TxnKind::Prepare(xid) => open.push((*xid, entry.gtid)),
            TxnKind::Commit(xid) | TxnKind::Rollback(xid) => open.retain(|(x, _)| x != xid),
            _ => {}
        }
    }
    open
}

/// What lies before a node that joins behind the first `groups` of its binlog: all of them but what is prepared only.
fn lies_before(node: &Node, groups: usize) -> GtidSet {
    let mut before = GtidSet::new();
    for entry in node.entries.iter().take(groups) {
        before.add(entry.gtid);
    }
    let mut open = GtidSet::new();
    for (_, gtid) in prepared(node, groups) {
        open.add(gtid);
    }
    before.subtract(&open);
    before
}

impl World {
    /// Somebody changes the nodes, if there is something to change.
    pub(crate) fn change(&mut self) -> Result<()> {
        if self.plan.change_every == 0 || !self.is_busy() {
            return Ok(());
        }
        self.soon(self.plan.change_every * 2, Event::Change);
        if self.service.is_none() || self.members.is_switching() {
            return Ok(());
        }
        if let Some(n) = self.members.leaving {
            return self.leave(n);
        }
        let (late, now) = (&self.members.late, &self.members.now);
        let leaves = self.members.leaves > 0 && now.len() > 1;
        if !late.is_empty() && (!leaves || self.rng.percent(60)) {
            let n = late[self.rng.below(late.len())];
            return self.join(n);
        }
        if leaves {
            let all: Vec<usize> = now.iter().copied().collect();
            let n = all[self.rng.below(all.len())];
            self.members.leaves -= 1;
            self.members.leaving = Some(n);
            self.cluster.retired.insert(n);
            return Ok(());
        }
        if late.is_empty() {
            return self.alter();
        }
        Ok(())
    }

    /// Who belongs to the cluster stays; a node gets another name, or other servers.
    fn alter(&mut self) -> Result<()> {
        let mut side = Rng::new(self.rng.state());
        let all: Vec<usize> = self.members.now.iter().copied().collect();
        let n = all[side.below(all.len())];
        let change = match side.percent(50) {
            true => Change::Rename(n),
            false if self.plan.failover == 0 || !self.cluster.nodes[n].up => return Ok(()),
            false => Change::Replace(n),
        };
        self.switch(change)
    }

    fn join(&mut self, n: usize) -> Result<()> {
        let node = &self.cluster.nodes[n];
        if !node.up {
            return Ok(());
        }
        let groups = node.entries.len();
        let change = if self.rng.percent(35) {
            Change::JoinAt(n, self.rng.below(groups + 1))
        } else {
            let executed = node.executed.clone();
            Change::Join(n, Step::Asked { executed, groups })
        };
        self.switch(change)
    }

    fn leave(&mut self, n: usize) -> Result<()> {
        let open = |p: &Part| p.node == n && p.outcome == Outcome::Open;
        let used = self
            .cluster
            .truth
            .values()
            .any(|t| t.parts.iter().any(open));
        let service = self.service.as_ref().context("it runs")?;
        let progress = service.durable.nodes.get(&self.members.name(n));
        let node = &self.cluster.nodes[n];
        if used || !node.up || !left(&node.executed, progress).is_empty() {
            self.counts.hit(Fault::LeaveNotYet);
            return Ok(());
        }
        self.switch(Change::Leave(n))
    }

    /// The pipeline ends: what is merged becomes durable, everything else is read again.
    fn switch(&mut self, change: Change) -> Result<()> {
        let service = self.service.as_mut().context("it runs")?;
        if let Err(error) = service.settle() {
            return self.store_failed(&error);
        }
        for link in &mut service.links {
            link.disconnect(&mut self.counts)?;
        }
        self.storing = false;
        self.life += 1;
        service.life = self.life;
        self.reader.follow(&service.log, &self.cluster)?;
        self.members.switch = Some(Switch {
            until: self.now + POINT_PATIENCE,
            change,
        });
        self.soon(3_000, Event::Point(self.life));
        Ok(())
    }

    /// A step of the change under way.
    pub(crate) fn point(&mut self, life: u64) -> Result<()> {
        if life != self.life || self.service.is_none() {
            return Ok(());
        }
        let Some(mut switch) = self.members.switch.take() else {
            return Ok(());
        };
        if self.now > switch.until {
            self.counts.hit(Fault::JoinGivenUp);
            return self.go_on();
        }
        match switch.change {
            Change::Leave(n) => self.has_left(n),
            Change::Replace(n) => self.is_replaced(n),
            Change::Rename(n) => self.is_renamed(n),
            Change::JoinAt(n, groups) => {
                let mut before = GtidSet::new();
                for entry in self.cluster.nodes[n].entries.iter().take(groups) {
                    before.add(entry.gtid);
                }
                self.counts.hit(Fault::JoinAtGtids);
                self.has_joined(n, &before)
            }
            Change::Join(n, step) => {
                let (node, rng) = (&self.cluster.nodes[n], &mut self.rng);
                match advance(node, step, rng) {
                    Ok((point, groups)) => {
                        let truth = lies_before(node, groups);
                        ensure!(
                            point.before == truth,
                            "dn{n} joins behind {}, and not behind {truth}",
                            point.before
                        );
                        if !point.prepared.is_empty() {
                            self.counts.hit(Fault::JoinWhilePrepared);
                        }
                        self.has_joined(n, &truth)
                    }
                    Err(step) => {
                        switch.change = Change::Join(n, step);
                        self.members.switch = Some(switch);
                        self.soon(3_000, Event::Point(life));
                        Ok(())
                    }
                }
            }
        }
    }

    fn has_joined(&mut self, n: usize, before: &GtidSet) -> Result<()> {
        let service = self.service.as_mut().context("it runs")?;
        let mut checkpoint = service.progress();
        let name = self.members.name(n);
        let progress = NodeProgress::joining(before, &checkpoint);
        checkpoint.nodes.insert(name.clone(), progress);
        self.counts.hit(Fault::NodeJoined);
        self.take_effect(checkpoint, |set| {
            set.nodes.insert(name, NodeRecord::default());
        })
    }

    fn has_left(&mut self, n: usize) -> Result<()> {
        let service = self.service.as_mut().context("it runs")?;
        let mut checkpoint = service.progress();
        let name = self.members.name(n);
        let more = left(&self.cluster.nodes[n].executed, checkpoint.nodes.get(&name));
        if !more.is_empty() {
            self.counts.hit(Fault::LeaveNotYet);
            return self.go_on();
        }
        checkpoint.nodes.remove(&name);
        self.counts.hit(Fault::NodeLeft);
        self.take_effect(checkpoint, |set| {
            set.nodes.remove(&name);
            set.removed.insert(name);
        })
    }

    fn is_replaced(&mut self, n: usize) -> Result<()> {
        let service = self.service.as_mut().context("it runs")?;
        let checkpoint = service.progress();
        self.counts.hit(Fault::NodeReplaced);
        self.fail_over(n);
        self.take_effect(checkpoint, |_| {})
    }

    fn is_renamed(&mut self, n: usize) -> Result<()> {
        let old = self.members.name(n);
        let new = renamed(&old);
        let service = self.service.as_mut().context("it runs")?;
        let mut checkpoint = service.progress();
        if let Some(progress) = checkpoint.nodes.remove(&old) {
            if !progress.kept.is_empty() {
                self.counts.hit(Fault::RenamedWhileKept);
            }
            checkpoint.nodes.insert(new.clone(), progress);
        }
        self.counts.hit(Fault::NodeRenamed);
        self.take_effect(checkpoint, |set| {
            let record = set.nodes.remove(&old).unwrap_or_default();
            set.nodes.insert(new.clone(), record);
            set.renamed.insert(old, new);
        })
    }

    fn take_effect(
        &mut self,
        checkpoint: Checkpoint,
        change: impl FnOnce(&mut NodeSet),
    ) -> Result<()> {
        let mut nodes = self.members.set();
        change(&mut nodes);
        let service = self.service.as_mut().context("it runs")?;
        let change = NodeSetChange {
            removed: nodes.removed.iter().cloned().collect(),
            renamed: nodes.renamed.clone().into_iter().collect(),
            nodes: nodes.clone(),
            checkpoint: Some(checkpoint.clone()),
            ..NodeSetChange::default()
        };
        if let Err(error) = service.writer.change_nodes(change) {
            self.counts.hit(Fault::CrashInChange);
            return self.store_failed(&error);
        }
        self.adopt(&nodes, &checkpoint)?;
        self.go_on()
    }

    /// The set of nodes that the store has told, perhaps one that was stored in the last moment before a crash.
    pub(crate) fn adopt(&mut self, set: &NodeSet, checkpoint: &Checkpoint) -> Result<()> {
        let mut told = BTreeSet::new();
        for name in set.nodes.keys() {
            let n = number(name)?;
            self.members.changed |= self.members.names[n] != *name;
            self.members.names[n].clone_from(name);
            told.insert(n);
        }
        self.table = self.members.everybody();
        for n in told
            .difference(&self.members.now)
            .copied()
            .collect::<Vec<_>>()
        {
            let progress = checkpoint
                .nodes
                .get(&self.members.name(n))
                .context("where it joined")?;
            let at = progress.joined.context("when it joined")?.micros();
            self.cluster.joined_at.insert(n, at);
            self.joined(n, &progress.before_start.clone(), checkpoint);
        }
        for n in self.members.now.difference(&told) {
            self.cluster.removed.insert(*n);
            self.members.leaving = None;
        }
        self.members.changed |= self.members.now != told;
        self.members.now = told;
        Ok(())
    }

    fn joined(&mut self, n: usize, before: &GtidSet, checkpoint: &Checkpoint) {
        self.members.late.retain(|late| *late != n);
        self.cluster.strangers.remove(&n);
        self.cluster.starts[n] = before.clone();
        // What has been written without its part, if only as nothing: that part has a place of its own.
        let done = |p: &Part| {
            let progress = checkpoint
                .nodes
                .get(&self.members.name(p.node))
                .filter(|_| p.node != n);
            let start = &self.cluster.starts[p.node];
            let gone = self.cluster.removed.contains(&p.node);
            let done = |g| {
                let merged = gone
                    || progress.is_some_and(|p| p.emitted.contains(&g) && !p.kept.contains(&g));
                merged && !start.contains(&g)
            };
            p.prepare.is_some_and(done) && p.outcome == Outcome::Committed
        };
        let read = |p: &Part| p.node == n && p.prepare.is_some_and(|g| !before.contains(&g));
        for (id, truth) in &self.cluster.truth {
            if truth.parts.iter().any(read) && truth.parts.iter().any(done) {
                self.counts.hit(Fault::JoinSplits);
                self.cluster.split.insert((*id, n));
            }
        }
    }

    /// The next pipeline begins.
    pub(crate) fn go_on(&mut self) -> Result<()> {
        let service = self.service.take().context("it was running")?;
        self.life += 1;
        let table = self.members.table();
        let schema = self.schema(&table)?;
        let service = service.again(self.life, self.now, &table, &self.plan, schema)?;
        self.begin(service);
        Ok(())
    }

    /// A node is read from another server now: the same data, other files, another clock.
    pub(crate) fn fail_over(&mut self, n: usize) {
        let mut side = Rng::new(self.rng.state());
        self.counts.hit(Fault::NodeFailover);
        self.members.changed = true;
        self.cluster.nodes[n].fail_over(&mut side);
    }
}

/// A step towards the join point of the moment: the point and the groups before it, or the next step.
fn advance(node: &Node, step: Step, rng: &mut Rng) -> Result<(JoinPoint, usize), Step> {
    match step {
        Step::Asked { executed, groups } => {
            let open = prepared(node, node.entries.len());
            Err(Step::Told {
                executed,
                groups,
                xids: open.into_iter().map(|(xid, _)| xid).collect(),
            })
        }
        Step::Told {
            executed,
            groups,
            xids,
        } => {
            let passage = Passage::new(executed, node.executed.clone(), &xids);
            Err(Step::Read(Box::new(passage), groups))
        }
        Step::Read(mut passage, mut groups) => {
            for _ in 0..rng.range(1, 6) {
                if passage.is_done() {
                    break;
                }
                let Some(entry) = node.entries.get(groups) else {
                    break;
                };
                passage.passes(&entry.kind, entry.gtid);
                groups += 1;
            }
            match passage.is_done() {
                true => Ok((passage.point(), groups)),
                false => Err(Step::Read(passage, groups)),
            }
        }
    }
}

impl Service {
    /// Everything merged becomes durable.
    pub(crate) fn settle(&mut self) -> Result<(), tributary_store::WriteError> {
        while self.append()? {}
        self.commit(false)
    }
}
