//! What the order must be, computed from the whole truth. In: the nodes' binlogs, the fences that took effect, the order of the
//! merged log. Out: an error, or the order that reading everything, sorting and grouping gives.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use tributary_binlog::GtidSet;
use tributary_flow::{Checkpoint, Fence, NodeId, NodeItem, NodeTable, OrderKey, Tso, TxnKind};

use crate::cluster::Cluster;
use crate::node::Label;
use crate::reader::Reader;

/// If C₁ lies before P₂ on some node, T₁ comes before T₂. A statement has no prepare: an expanding one comes no later than on
/// any node, a contracting one no earlier.
pub(crate) fn commit_before_prepare(cluster: &Cluster, order: &[u64]) -> Result<()> {
    let place: BTreeMap<u64, usize> = order.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    let place = |id: u64| place.get(&id).copied();
    for (n, node) in cluster.nodes.iter().enumerate() {
        // The last transaction of the merged log that was committed so far on this node.
        let mut last: Option<(usize, u64)> = None;
        for entry in &node.entries {
            let (begins, commits) = match entry.label {
                Label::None => (None, None),
                Label::Alone(id) => (Some(id), Some(id)),
                Label::Prepare(id) => (Some(id), None),
                Label::Commit(id) => (None, Some(id)),
                Label::Ddl(id) => {
                    let ddl = cluster.truth.get(&id).and_then(|t| t.ddl.as_ref());
                    match ddl.is_some_and(|ddl| ddl.expands) {
                        true => (None, Some(id)),
                        false => (Some(id), None),
                    }
                }
            };
            if let (Some((at, before)), Some(id)) = (last, begins)
                && let Some(here) = place(id)
            {
                ensure!(
                    at < here,
                    "node {n}: {before} was committed before {id} was prepared, but comes after it"
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

/// Everything that must come out has come out, and nothing else.
pub(crate) fn complete(cluster: &Cluster, reader: &Reader) -> Result<()> {
    for (id, truth) in &cluster.truth {
        ensure!(
            truth.is_due() == reader.has(*id),
            "{id} ({truth:?}): seen {}",
            reader.has(*id)
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
        let emitted = checkpoint.nodes.get(name).map_or(&nothing, |p| &p.emitted);
        for entry in &cluster.nodes[id.index()].entries {
            let (Label::Alone(txn) | Label::Commit(txn) | Label::Prepare(txn)) = entry.label else {
                continue;
            };
            let NodeItem::Txn(source) = &entry.item else {
                continue;
            };
            let truth = &cluster.truth[&txn];
            if truth.rows.is_empty() || truth.tso.is_none() && !truth.is_due() {
                continue;
            }
            let (done, seen) = (emitted.contains(&source.gtid), reader.has(txn));
            ensure!(
                done == seen,
                "{name} {}: done {done}, seen {seen} ({txn})",
                source.gtid
            );
        }
    }
    Ok(())
}

/// Read everything, sort, group. `fences` are those that took effect, at their places.
pub(crate) fn naive(cluster: &Cluster, fences: &[Fence]) -> Vec<u64> {
    let mut all = Vec::new();
    for n in 0..cluster.nodes.len() {
        keys(cluster, NodeId(n as u16), fences, &mut all);
    }
    all.sort_unstable();
    let mut statements: BTreeMap<u64, usize> = BTreeMap::new();
    let mut order: Vec<u64> = Vec::new();
    for (_, id) in all {
        let truth = &cluster.truth[&id];
        let due = match &truth.ddl {
            None => truth.is_due() && order.last() != Some(&id),
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
    order
}

fn keys(cluster: &Cluster, node: NodeId, fences: &[Fence], out: &mut Vec<(OrderKey, u64)>) {
    let (mut base, mut clamp, mut seq) = (Tso::ZERO, 0, 0);
    let mut pending: Vec<&Fence> = fences.iter().filter(|f| f.node == node).collect();
    for entry in &cluster.nodes[node.index()].entries {
        let end = match &entry.item {
            NodeItem::Position(pos) => *pos,
            NodeItem::Txn(txn) => {
                match (&txn.kind, entry.label) {
                    (TxnKind::Commit(_), Label::Commit(id)) => {
                        let tso = txn.tso.unwrap_or_default();
                        base = base.max(tso);
                        out.push((OrderKey::distributed(tso), id));
                    }
                    (TxnKind::Local | TxnKind::OnePhase(_) | TxnKind::Ddl, label) => {
                        clamp = clamp.max(txn.immediate_commit);
                        let key = OrderKey::local(base, clamp, node, seq);
                        seq += 1;
                        if let Label::Alone(id) | Label::Ddl(id) = label {
                            out.push((key, id));
                        }
                    }
                    _ => {}
                }
                txn.end
            }
        };
        pending.retain(|fence| {
            let passed = fence.pos <= end;
            if passed {
                base = base.max(fence.stamp.tso);
                clamp = clamp.max(fence.stamp.time + 1);
            }
            !passed
        });
    }
}
