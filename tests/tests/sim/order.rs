//! What the order must be, computed from the whole truth. In: the nodes' binlogs, the fences that took effect, the order of the
//! merged log. Out: an error, or the order that reading everything, sorting and grouping gives.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use tributary_binlog::GtidSet;
use tributary_flow::{
    Checkpoint, Fence, KeptBranch, KeptRows, NodeId, NodeTable, OrderKey, Tso, TxnKind,
};
use tributary_store::SavedBranch;

use crate::cluster::Cluster;
use crate::node::{Entry, Label};
use crate::reader::Reader;
use crate::truth::{Fate, Outcome};

/// Which transaction begins with an entry, and which is committed by it. A statement has no prepare: an expanding one comes no
/// later than on any node, a contracting one no earlier.
fn begins_commits(cluster: &Cluster, node: usize, entry: &Entry) -> (Option<u64>, Option<u64>) {
    if cluster.starts[node].contains(&entry.gtid) {
        return (None, None);
    }
    // A part that came on its own, behind the rest of its transaction.
    if let Label::Prepare(id) | Label::Commit(id) | Label::Alone(id) = entry.label
        && cluster.split.contains(&(id, node))
    {
        return (None, None);
    }
    match entry.label {
        Label::None => (None, None),
        Label::Alone(id) => (Some(id), Some(id)),
        // A branch that was rolled back although others were not has no rows to come in any order.
        Label::Prepare(id) => {
            let parts = &cluster.truth[&id].parts;
            let part = parts.iter().find(|p| p.prepare == Some(entry.gtid));
            let gone = part.is_some_and(|p| p.outcome == Outcome::RolledBack);
            ((!gone).then_some(id), None)
        }
        // Of a branch that was prepared before its node was read, nothing is known.
        Label::Commit(id) if cluster.truth[&id].is_cut(&cluster.starts) => (None, None),
        Label::Commit(id) => (None, Some(id)),
        Label::Ddl(id) => {
            let ddl = cluster.truth.get(&id).and_then(|t| t.ddl.as_ref());
            match ddl.is_some_and(|ddl| ddl.expands) {
                true => (None, Some(id)),
                false => (Some(id), None),
            }
        }
    }
}

/// The first group of each node that is not done with.
pub(crate) fn stuck(cluster: &Cluster, table: &NodeTable, checkpoint: &Checkpoint) -> String {
    let mut out = String::new();
    for (id, name) in table.iter() {
        let done = checkpoint.nodes.get(name).map(|p| &p.emitted);
        let open = |e: &&Entry| done.is_none_or(|done| !done.contains(&e.gtid));
        let first = cluster.nodes[id.index()].entries.iter().find(open);
        out += &format!("\n{name}: {first:?}");
        if let Some(Label::Prepare(id) | Label::Alone(id) | Label::Commit(id)) =
            first.map(|e| e.label)
        {
            out += &format!("\n{}", history(cluster, id));
        }
    }
    out
}

/// What is in the binlogs about a transaction, and about others that had its gtrid: node, number, kind, moment.
pub(crate) fn history(cluster: &Cluster, id: u64) -> String {
    let gtrid = |kind: &TxnKind| match kind {
        TxnKind::Prepare(x) | TxnKind::Commit(x) | TxnKind::Rollback(x) => Some(x.gtrid().to_vec()),
        _ => None,
    };
    let about = |label| matches!(label, Label::Alone(i) | Label::Prepare(i) | Label::Commit(i) | Label::Ddl(i) if i == id);
    let all = || cluster.nodes.iter().enumerate();
    let mut entries = all().flat_map(|(n, node)| node.entries.iter().map(move |e| (n, e)));
    let its = entries
        .find(|(_, e)| about(e.label))
        .and_then(|(_, e)| gtrid(&e.kind));
    let mut out = Vec::new();
    for (n, entry) in all().flat_map(|(n, node)| node.entries.iter().map(move |e| (n, e))) {
        if about(entry.label) || its.is_some() && gtrid(&entry.kind) == its {
            let tso = entry.tso.map(|t| t.micros() % 1_000_000_000);
            out.push(format!(
                "dn{n}:{} {:?} {:?} written at {} tso {tso:?}",
                entry.gtid.gno.get(),
                entry.kind,
                entry.label,
                entry.at,
            ));
        }
    }
    out.join("\n")
}

/// If C₁ lies before P₂ on some node, T₁ comes before T₂.
pub(crate) fn commit_before_prepare(cluster: &Cluster, order: &[u64]) -> Result<()> {
    let place: BTreeMap<u64, usize> = order.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    let place = |id: u64| place.get(&id).copied();
    for (n, node) in cluster.nodes.iter().enumerate() {
        // The last transaction of the merged log that was committed so far on this node.
        let mut last: Option<(usize, u64)> = None;
        for entry in &node.entries {
            let (begins, commits) = begins_commits(cluster, n, entry);
            if let (Some((at, before)), Some(id)) = (last, begins)
                && let Some(here) = place(id)
            {
                ensure!(
                    at < here,
                    "node {n}: {before} was committed before {id} was prepared, but comes after it\n{}\n{}",
                    history(cluster, before),
                    history(cluster, id)
                );
            }
            if let Some(id) = commits
                && let Some(at) = place(id)
            {
                last = last.max(Some((at, id)));
            }
        }
    }
    Ok(())
}

/// What stands in the log is closed: nothing that must come before it is missing.
pub(crate) fn nothing_is_skipped(cluster: &Cluster, reader: &Reader) -> Result<()> {
    for (n, node) in cluster.nodes.iter().enumerate() {
        let mut missing: Option<u64> = None;
        for entry in &node.entries {
            let (begins, commits) = begins_commits(cluster, n, entry);
            if let (Some(missing), Some(id)) = (missing, begins) {
                ensure!(
                    !reader.has(id),
                    "node {n}: {id} is there, {missing} is not, which was committed before it"
                );
            }
            if let Some(id) = commits
                && !reader.has(id)
                && (entry.label != Label::Ddl(id))
                && !is_empty(cluster, id)
            {
                missing = missing.or(Some(id));
            }
        }
    }
    Ok(())
}

/// Nothing will ever be written for it.
fn is_empty(cluster: &Cluster, id: u64) -> bool {
    let truth = &cluster.truth[&id];
    let rows = |p: &crate::truth::Part| {
        let own = cluster.split.contains(&(id, p.node));
        !own && !p.rows.is_empty() && p.outcome == Outcome::Committed
    };
    truth.ddl.is_none() && !truth.parts.iter().any(rows)
}

/// Everything that must come out has come out, and nothing else.
pub(crate) fn complete(cluster: &Cluster, reader: &Reader) -> Result<()> {
    for (id, truth) in &cluster.truth {
        ensure!(
            cluster.is_due(*id, truth) == reader.has(*id),
            "{id} ({truth:?}): seen {}\n{}",
            reader.has(*id),
            history(cluster, *id)
        );
    }
    for (id, node) in &cluster.split {
        let rows = |p: &&crate::truth::Part| {
            p.node == *node && p.outcome == Outcome::Committed && !p.rows.is_empty()
        };
        let due = cluster.truth[id].parts.iter().any(|p| rows(&p));
        ensure!(
            due == reader.has_part(*id, *node),
            "the part of {id} on dn{node} is missing\n{}",
            history(cluster, *id)
        );
    }
    Ok(())
}

/// Transactions that were in doubt (committed here, undecided there) at `moment` or later, and those that must follow one of them.
fn held_back(cluster: &Cluster, moment: u64) -> BTreeSet<u64> {
    let in_doubt = |(_, truth): &(&u64, &crate::truth::Truth)| {
        let committed = truth.parts.iter().any(|p| p.outcome == Outcome::Committed);
        let open = truth.fate() == Fate::Open || truth.finished >= moment;
        // A branch that was rolled back has its say in where the rest of its transaction stands.
        committed && (open || truth.is_heuristic())
    };
    let in_doubt = cluster.truth.iter().filter(in_doubt);
    let mut held: BTreeSet<u64> = in_doubt.map(|(id, _)| *id).collect();
    loop {
        let before = held.len();
        for (n, node) in cluster.nodes.iter().enumerate() {
            let mut behind = false;
            for entry in &node.entries {
                let (begins, commits) = begins_commits(cluster, n, entry);
                if let Some(id) = begins.filter(|_| behind) {
                    held.insert(id);
                }
                behind |= commits.is_some_and(|id| held.contains(&id));
            }
        }
        if held.len() == before {
            return held;
        }
    }
}

/// A transaction in doubt holds back only what must follow it: everything else that was finished before `moment` is there.
pub(crate) fn flows(cluster: &Cluster, reader: &Reader, moment: u64) -> Result<()> {
    let held = held_back(cluster, moment);
    for (id, truth) in &cluster.truth {
        let due = cluster.is_due(*id, truth) && truth.finished < moment;
        ensure!(
            !due || held.contains(id) || reader.has(*id),
            "{id} waits since {} µs, and follows none of those in doubt: {truth:?}\n{}",
            truth.finished,
            history(cluster, *id)
        );
    }
    Ok(())
}

/// The checkpoint names exactly the source GTIDs whose effects lie before it.
pub(crate) fn checkpoint_is_exact(
    cluster: &Cluster,
    table: &NodeTable,
    checkpoint: &Checkpoint,
    reader: &Reader,
) -> Result<()> {
    let nothing = GtidSet::new();
    for (id, name) in table.iter() {
        let progress = checkpoint.nodes.get(name);
        if cluster.removed.contains(&id.index()) {
            continue;
        }
        let emitted = progress.map_or(&nothing, |p| &p.emitted);
        let kept = progress.map_or(&nothing, |p| &p.kept);
        for entry in &cluster.nodes[id.index()].entries {
            let (Label::Alone(txn) | Label::Commit(txn) | Label::Prepare(txn)) = entry.label else {
                continue;
            };
            let truth = &cluster.truth[&txn];
            let part = truth.parts.iter().find(|p| p.prepare == Some(entry.gtid));
            let rolled_back = part.is_some_and(|p| p.outcome == Outcome::RolledBack);
            let split = cluster.split.contains(&(txn, id.index()));
            if rolled_back || split || truth.is_cut(&cluster.starts) || is_empty(cluster, txn) {
                continue;
            }
            let done = emitted.contains(&entry.gtid) && !kept.contains(&entry.gtid);
            let seen = reader.has(txn);
            ensure!(
                done == seen,
                "{name} {}: done {done}, seen {seen} ({txn})",
                entry.gtid
            );
        }
    }
    Ok(())
}

/// Nothing is kept of a branch that has been written.
pub(crate) fn kept_is_open(cluster: &Cluster, reader: &Reader, kept: &[SavedBranch]) -> Result<()> {
    for branch in kept {
        let prepared = KeptBranch {
            id: branch.id,
            node: branch.node.clone(),
            xid: branch.xid,
            head: branch.head.clone(),
            rows: KeptRows::Memory(Default::default()),
        };
        let gtid = prepared.into_prepare()?.gtid;
        let written = |(id, t): (&u64, &crate::truth::Truth)| {
            let mut parts = t.parts.iter();
            parts.any(|p| p.prepare == Some(gtid) && p.outcome == Outcome::Committed)
                && reader.has(*id)
        };
        ensure!(
            !cluster.truth.iter().any(written),
            "{branch:?} is written and kept"
        );
    }
    Ok(())
}

/// Read everything, sort, group. `fences` are those that took effect, at their places. For clusters with timestamps.
pub(crate) fn naive(cluster: &Cluster, fences: &[Fence]) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for n in 0..cluster.nodes.len() {
        keys(cluster, NodeId(n as u16), fences, &mut all)?;
    }
    all.sort_unstable();
    let mut statements: BTreeMap<u64, usize> = BTreeMap::new();
    let mut order: Vec<u64> = Vec::new();
    for (_, id) in all {
        let truth = &cluster.truth[&id];
        let due = match &truth.ddl {
            None => cluster.is_due(id, truth) && order.last() != Some(&id),
            Some(ddl) => {
                let count = statements.entry(id).or_default();
                *count += 1;
                *count == if ddl.expands { 1 } else { cluster.nodes.len() }
            }
        };
        if due {
            order.push(id);
        }
    }
    Ok(order)
}

fn keys(
    cluster: &Cluster,
    node: NodeId,
    fences: &[Fence],
    out: &mut Vec<(OrderKey, u64)>,
) -> Result<()> {
    let (mut base, mut clamp, mut seq) = (Tso::ZERO, 0, 0);
    let mut pending: Vec<&Fence> = fences.iter().filter(|f| f.node == node).collect();
    let start = &cluster.starts[node.index()];
    let entries = cluster.nodes[node.index()].entries.iter();
    for entry in entries.filter(|e| !start.contains(&e.gtid)) {
        // A fence acts behind everything that ends at its place or before.
        pending.retain(|fence| {
            let passed = fence.pos < entry.end;
            if passed {
                base = base.max(fence.stamp.tso);
                clamp = clamp.max(fence.stamp.time + 1);
            }
            !passed
        });
        match (&entry.kind, entry.label) {
            (TxnKind::Commit(_), Label::Commit(id)) => {
                let tso = entry.tso.context("a timestamp")?;
                base = base.max(tso);
                let parts = &cluster.truth[&id].parts;
                let here = |p: &&crate::truth::Part| p.node == node.index();
                // Of two branches on one node, reading may have begun between.
                let mut parts = parts.iter().filter(here);
                if parts.any(|p| p.prepare.is_none_or(|g| !start.contains(&g))) {
                    out.push((OrderKey::distributed(tso), id));
                }
            }
            // `BEGIN, COMMIT`: the collector hands on nothing but its GTID.
            (TxnKind::Local, Label::None) => {}
            (TxnKind::Local | TxnKind::OnePhase(_) | TxnKind::Ddl, label) => {
                clamp = clamp.max(entry.immediate_commit);
                let key = OrderKey::local(base, clamp, node, seq);
                seq += 1;
                if let Label::Alone(id) | Label::Ddl(id) = label {
                    out.push((key, id));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
