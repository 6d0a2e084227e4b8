//! Branches that stay prepared for long, over restarts.

use std::collections::BTreeMap;

use tributary_flow::{BranchOp, KeptBranch, KeptId, KeptRows};

use super::*;
use crate::core::kept::RestoreError;

/// What a store does.
#[derive(Clone, Default)]
struct Store {
    rows: BTreeMap<(KeptId, u64), Bytes>,
    kept: BTreeMap<KeptId, (String, XaXid, Vec<u8>, u64)>,
}

impl Store {
    fn apply(&mut self, ops: Vec<BranchOp>) {
        for op in ops {
            match op {
                BranchOp::Rows { id, offset, bytes } => {
                    self.rows.insert((id, offset), bytes);
                }
                BranchOp::Keep {
                    id,
                    node,
                    xid,
                    head,
                    rows,
                } => {
                    let before = self.kept.insert(id, (node, *xid, head, rows));
                    assert!(before.is_none(), "a number is given once");
                    assert_eq!(self.rows(id).len() as u64, rows, "all rows are there");
                }
                BranchOp::Forget { id, .. } => {
                    self.kept.remove(&id);
                    self.rows.retain(|(of, _), _| *of != id);
                }
            }
        }
    }

    fn rows(&self, id: KeptId) -> Bytes {
        let pieces = self.rows.range((id, 0)..=(id, u64::MAX));
        let bytes: Vec<u8> = pieces.flat_map(|(_, bytes)| bytes.to_vec()).collect();
        bytes.into()
    }

    fn branches(&self) -> Vec<KeptBranch> {
        let all = self.kept.iter();
        all.map(|(id, (node, xid, head, _))| KeptBranch {
            id: *id,
            node: node.clone(),
            xid: *xid,
            head: head.clone(),
            rows: KeptRows::Memory(self.rows(*id)),
        })
        .collect()
    }
}

fn keep(merger: &mut Merger, now: u64, max: usize, store: &mut Store) -> bool {
    let mut ops = Vec::new();
    let more = merger.poll_branches(now, max, &mut ops).unwrap();
    store.apply(ops);
    more
}

/// Goes on behind `checkpoint` with what the store has.
fn restarted(n: usize, mode: OrderMode, checkpoint: &Checkpoint, store: &Store) -> Merger {
    let mut merger = Merger::new(table(n), mode, checkpoint, 0);
    let strangers = merger.restore_branches(store.branches()).unwrap();
    assert!(strangers.is_empty());
    for node in 0..n {
        let begin = NodeItem::Position(SourcePos { file: 1, offset: 0 });
        merger.handle(NodeId(node as u16), begin).unwrap();
    }
    merger
}

fn kept_gtids(checkpoint: &Checkpoint) -> usize {
    let nodes = checkpoint.nodes.values();
    nodes.map(|n| n.kept.count() as usize).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn restarts_with_kept_branches_neither_lose_nor_repeat_nor_reorder(
        seed in any::<u64>(), steps in 1_usize..120, cuts in prop::collection::vec(0_usize..120, 1..4), after in 1_u64..12,
        piece in 1_usize..12, way in 0..WAYS.len()
    ) {
        let (mode, stamps) = WAYS[way];
        let cluster = Cluster::new(seed, stamps, steps);
        let n = cluster.streams.len();
        let mut store = Store::default();
        let mut delivery = Delivery::new(&cluster, mode, seed);
        delivery.merger.set_keep_after(Some(after));
        let mut now = 0;
        for (life, cut) in (1..).zip(cuts) {
            for _ in 0..cut {
                delivery.step();
                // A checkpoint is taken behind a poll.
                delivery.merger.poll(&mut delivery.out, 1_000).unwrap();
                now += 1;
                keep(&mut delivery.merger, now, piece, &mut store);
            }
            let checkpoint = delivery.merger.checkpoint();
            assert_eq!(kept_gtids(&checkpoint), store.kept.len());
            let mut next = Delivery::new(&cluster, mode, seed ^ life);
            next.merger = restarted(n, mode, &checkpoint, &store);
            next.merger.set_keep_after(Some(after));
            next.out = delivery.out;
            next.streams = missing_items(&cluster, &checkpoint);
            // What was begun and not finished is gone with the process; numbers go on behind what is kept.
            store.rows.retain(|(id, _), _| store.kept.contains_key(id));
            delivery = next;
        }
        let (out, _, mut merger) = delivery.run();
        assert_eq!((merger.waiting(), merger.blocked()), (0, vec![]));
        assert_commit_before_prepare(&cluster, &out);
        for txn in &out {
            assert_eq!(txn.parts.len(), cluster.windows[&id_of(txn)].len(), "all branches, in one transaction");
        }
        keep(&mut merger, now, usize::MAX, &mut store);
        assert!(store.kept.is_empty() && merger.kept().is_empty(), "nothing is kept of what is over");
        for (node, stream) in cluster.streams.iter().enumerate() {
            let progress = &merger.checkpoint().nodes[&format!("dn{node}")];
            assert_eq!(progress.emitted.count(), stream.len() as u64);
            assert!(progress.kept.is_empty());
        }
    }
}

fn one(mode: OrderMode, after: u64) -> Merger {
    let mut m = Merger::new(table(1), mode, &Checkpoint::default(), 0);
    m.set_keep_after(Some(after));
    m
}

#[test]
fn a_branch_is_kept_when_it_is_old_enough_and_forgotten_when_it_is_resolved() {
    for (mode, end) in [
        (OrderMode::Tso, TxnKind::Commit(xid(1, 0))),
        (OrderMode::Causal, TxnKind::Rollback(xid(1, 0))),
    ] {
        let (mut m, mut store, mut out) = (one(mode, 80), Store::default(), Vec::new());
        m.handle(NodeId(0), txn(TxnKind::Prepare(xid(1, 0)), 0, None))
            .unwrap();
        for now in [1_000, 1_020, 1_079] {
            assert!(!keep(&mut m, now, 3, &mut store));
            assert!(store.rows.is_empty(), "too early at {now}");
        }
        // Eight bytes of rows, three at a time.
        assert!(keep(&mut m, 1_080, 3, &mut store));
        assert!(keep(&mut m, 1_081, 3, &mut store));
        assert!(store.kept.is_empty() && m.kept().is_empty());
        assert_eq!(
            kept_gtids(&m.checkpoint()),
            0,
            "not before all of it is there"
        );
        assert!(!keep(&mut m, 1_082, 3, &mut store));
        assert_eq!(store.rows.len(), 3);
        let kept = m.kept();
        assert_eq!((kept.len(), kept[0].xid, kept[0].bytes), (1, xid(1, 0), 8));
        assert_eq!(kept[0].prepared_at, 1_000);
        let progress = &m.checkpoint().nodes["dn0"];
        assert!(progress.emitted.contains(&gtid(0, 1)) && progress.kept.contains(&gtid(0, 1)));
        assert!(!keep(&mut m, 5_000, 3, &mut store));
        assert_eq!(store.kept.len(), 1, "once");

        let rolled_back = matches!(end, TxnKind::Rollback(_));
        m.handle(NodeId(0), txn(end, 1, Some(5_000))).unwrap();
        m.poll(&mut out, u64::MAX).unwrap();
        keep(&mut m, 5_001, 3, &mut store);
        assert!(store.kept.is_empty() && store.rows.is_empty());
        assert_eq!(out.len(), usize::from(!rolled_back));
        assert_eq!(m.checkpoint().nodes["dn0"].emitted.count(), 2);
    }
}

#[test]
fn without_a_time_none_is_kept() {
    let (mut m, mut store) = (one(OrderMode::Tso, 1), Store::default());
    m.set_keep_after(None);
    m.handle(NodeId(0), txn(TxnKind::Prepare(xid(1, 0)), 0, None))
        .unwrap();
    for now in 1..100 {
        assert!(!keep(&mut m, now, 100, &mut store));
    }
    assert!(store.rows.is_empty());
}

#[test]
fn one_that_is_resolved_while_it_is_written_leaves_nothing() {
    let (mut m, mut store) = (one(OrderMode::Tso, 1), Store::default());
    m.handle(NodeId(0), txn(TxnKind::Prepare(xid(1, 0)), 0, None))
        .unwrap();
    for now in 0..3 {
        keep(&mut m, now, 2, &mut store);
    }
    assert!(!store.rows.is_empty() && store.kept.is_empty());
    m.handle(NodeId(0), txn(TxnKind::Rollback(xid(1, 0)), 1, None))
        .unwrap();
    assert!(!keep(&mut m, 4, 2, &mut store));
    assert!(store.rows.is_empty() && store.kept.is_empty());
}

#[test]
fn what_its_node_committed_before_it_must_be_written_first() {
    let mut m = Merger::new(table(2), OrderMode::Tso, &Checkpoint::default(), 0);
    m.set_keep_after(Some(1));
    let mut store = Store::default();
    m.handle(NodeId(0), txn(TxnKind::Local, 0, None)).unwrap();
    m.handle(NodeId(0), txn(TxnKind::Prepare(xid(1, 0)), 1, None))
        .unwrap();
    let mut out = Vec::new();
    for now in 0..10 {
        m.poll(&mut out, u64::MAX).unwrap();
        keep(&mut m, now, 100, &mut store);
    }
    assert!(
        out.is_empty() && store.rows.is_empty(),
        "node 1 has not said anything"
    );
    let mut wanted = Vec::new();
    m.poll_fences(|_| true, &mut wanted);
    let (node, stamp) = wanted[0];
    let pos = SourcePos::default();
    m.handle_fence(Fence { node, pos, stamp }).unwrap();
    m.poll(&mut out, u64::MAX).unwrap();
    assert_eq!(out.len(), 1);
    keep(&mut m, 20, 100, &mut store);
    assert_eq!(store.kept.len(), 1);
}

#[test]
fn what_does_not_fit_the_checkpoint_is_refused_or_passed_over() {
    let (mut m, mut store) = (one(OrderMode::Causal, 1), Store::default());
    m.handle(NodeId(0), txn(TxnKind::Prepare(xid(1, 0)), 0, None))
        .unwrap();
    for now in 0..4 {
        keep(&mut m, now, 100, &mut store);
    }
    let checkpoint = m.checkpoint();
    let resumed = |c: &Checkpoint| Merger::new(table(1), OrderMode::Causal, c, 0);

    let missing = resumed(&checkpoint).restore_branches(Vec::new());
    assert!(
        matches!(&missing, Err(RestoreError::Missing { node, gtids }) if node == "dn0" && gtids.ends_with(":1")),
        "{missing:?}"
    );
    let mut damaged = store.branches();
    damaged[0].head = b"?".to_vec();
    let damaged = resumed(&checkpoint).restore_branches(damaged);
    assert!(matches!(damaged, Err(RestoreError::Unreadable(_))));
    let mut twice = store.branches();
    twice.extend(store.branches());
    let twice = resumed(&checkpoint).restore_branches(twice);
    assert!(matches!(twice, Err(RestoreError::Twice(_))));

    let mut stranger = store.branches();
    stranger[0].node = "gone".into();
    let mut other = resumed(&Checkpoint::default());
    assert_eq!(
        other.restore_branches(stranger).unwrap(),
        [("gone".to_owned(), xid(1, 0))]
    );
    // A node that was taken out and has come again is read from its start.
    let mut again = resumed(&Checkpoint::default());
    assert_eq!(again.restore_branches(store.branches()).unwrap(), []);
    keep(&mut again, 0, 100, &mut store);
    assert!(store.kept.is_empty() && again.kept().is_empty());
}
