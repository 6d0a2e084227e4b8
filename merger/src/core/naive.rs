//! The stupid way to the same order: read everything, give everything its key, sort, group. Tests hold the merger against it.

use tributary_binlog::XaXid;
use tributary_flow::{Fence, NodeId, NodeItem, OrderKey, SourcePos, SourceTxn, Tso, TxnKind};

/// One written transaction: its key and the bodies of its parts, joined.
pub(super) type Written = (OrderKey, Vec<u8>);

/// Key, gtrid, node, place and rows of one branch.
type Placed = (OrderKey, Vec<u8>, usize, usize, Vec<u8>);

/// All transactions of whole streams, in order. Every branch must be resolved at the end of its stream.
pub(super) fn merge(streams: &[Vec<NodeItem>], fences: &[Fence]) -> Vec<Written> {
    let mut all: Vec<Placed> = Vec::new();
    for (n, stream) in streams.iter().enumerate() {
        for (key, gtrid, place, body) in keys(NodeId(n as u16), stream, fences) {
            all.push((key, gtrid, n, place, body));
        }
    }
    all.sort();
    let mut out: Vec<(OrderKey, Vec<u8>, Vec<u8>)> = Vec::new();
    for (key, gtrid, _, _, body) in all {
        match out.last_mut() {
            Some((k, g, bytes)) if *k == key && *g == gtrid && !gtrid.is_empty() => {
                bytes.extend(body);
            }
            _ => out.push((key, gtrid, body)),
        }
    }
    out.into_iter()
        .map(|(key, _, body)| (key, body))
        .filter(|(_, body)| !body.is_empty())
        .collect()
}

type Keyed = (OrderKey, Vec<u8>, usize, Vec<u8>);

fn keys(node: NodeId, stream: &[NodeItem], fences: &[Fence]) -> Vec<Keyed> {
    let (mut base, mut clamp, mut seq) = (Tso::ZERO, 0, 0);
    let mut out = Vec::new();
    let mut pending: Vec<Fence> = fences.iter().filter(|f| f.node == node).copied().collect();
    let begin = NodeItem::Position(SourcePos { file: 1, offset: 0 });
    for (place, item) in std::iter::once(&begin).chain(stream).enumerate() {
        let end = match item {
            NodeItem::Position(pos) => *pos,
            NodeItem::Txn(txn) => {
                seq += 1;
                match &txn.kind {
                    TxnKind::Local | TxnKind::OnePhase(_) => {
                        clamp = clamp.max(txn.immediate_commit);
                        out.push((
                            OrderKey::local(base, clamp, node, seq),
                            Vec::new(),
                            place,
                            bytes(txn),
                        ));
                    }
                    TxnKind::Commit(xid) => {
                        let tso = txn.tso.expect("the model sets one");
                        base = base.max(tso);
                        let rows = prepare_before(stream, place - 1, xid);
                        out.push((
                            OrderKey::distributed(tso),
                            xid.gtrid().to_vec(),
                            place,
                            bytes(rows),
                        ));
                    }
                    _ => {}
                }
                txn.end
            }
        };
        while let Some(i) = pending.iter().position(|f| f.pos <= end) {
            let fence = pending.remove(i);
            base = base.max(fence.stamp.tso);
            clamp = clamp.max(fence.stamp.time + 1);
        }
    }
    out
}

fn prepare_before<'a>(stream: &'a [NodeItem], place: usize, xid: &XaXid) -> &'a SourceTxn {
    let found = stream[..place].iter().rev().find_map(|item| match item {
        NodeItem::Txn(txn) if txn.kind == TxnKind::Prepare(*xid) => Some(txn),
        _ => None,
    });
    found.expect("the model prepares before it commits")
}

fn bytes(txn: &SourceTxn) -> Vec<u8> {
    txn.body.segments().concat()
}
