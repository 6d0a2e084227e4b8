//! Streams that no node would write.
//!
//! In: choices. Out: a panic when the merger does anything but go on in order or end in an error.

use bytes::Bytes;
use tributary_flow::{
    Body, Checkpoint, Fence, GlobalTxn, NodeId, NodeItem, OrderKey, OrderMode, SourcePos, TxnKind,
};
use tributary_merger::core::Merger;

use super::STEPS_MAX;
use super::cluster::{body, source, xid};
use super::delivery::started;
use crate::input::Input;

/// Anything at all, in any order.
pub(super) fn run(nodes: usize, mut input: Input<'_>) {
    let mode = if input.chance(50) {
        OrderMode::Tso
    } else {
        OrderMode::Causal
    };
    let mut merger = started(nodes, mode, &Checkpoint::default(), 0);
    let (mut out, mut last) = (Vec::new(), OrderKey::MIN);
    let mut steps = 0;
    while !input.is_empty() && steps < STEPS_MAX {
        steps += 1;
        if step(&mut merger, nodes, &mut input, &mut out).is_err() {
            return;
        }
        for txn in out.drain(..) {
            assert!(txn.key >= last, "keys never fall");
            last = txn.key;
        }
        let _ = (merger.blocked(), merger.waiting(), merger.frontier());
    }
    let bytes = format!("{:?}", merger.checkpoint());
    assert!(!bytes.is_empty());
}

fn step(
    merger: &mut Merger,
    nodes: usize,
    input: &mut Input<'_>,
    out: &mut Vec<GlobalTxn>,
) -> Result<(), tributary_merger::MergeError> {
    let node = NodeId(input.below(nodes) as u16);
    match input.below(8) {
        0 => merger.poll(out, 1_000).map(drop),
        1 => {
            let mut wanted = Vec::new();
            merger.poll_fences(|_| true, &mut wanted);
            wanted.into_iter().try_for_each(|(node, stamp)| {
                let pos = SourcePos {
                    file: 1,
                    offset: input.word().into(),
                };
                merger.handle_fence(Fence { node, pos, stamp })
            })
        }
        2 => {
            merger.fence_failed(node);
            Ok(())
        }
        3 => {
            let pos = SourcePos {
                file: input.below(3) as u64,
                offset: input.word().into(),
            };
            merger.handle(node, NodeItem::Position(pos))
        }
        _ => {
            let xid = xid(input.below(4) as u8, node.index());
            let kind = match input.below(7) {
                0 => TxnKind::Local,
                1 => TxnKind::OnePhase(xid),
                2 | 3 => TxnKind::Prepare(xid),
                4 => TxnKind::Commit(xid),
                5 => TxnKind::Rollback(xid),
                _ => TxnKind::Ddl,
            };
            let tso = input.chance(50).then(|| input.below(200) as u64);
            let (place, clock) = (usize::from(input.byte()), u64::from(input.word()));
            let body = match input.below(3) {
                0 => Body::default(),
                1 => body(1, input),
                _ => Body::new(Bytes::from(input.piece().to_vec())),
            };
            let mut txn = source(node.index(), kind, place, clock, tso, body);
            txn.last_committed = i64::from(input.byte()) - 5;
            txn.sequence_number = i64::from(input.byte()) - 5;
            txn.end.offset = input.word().into();
            merger.handle(node, NodeItem::Txn(Box::new(txn)))
        }
    }
}
