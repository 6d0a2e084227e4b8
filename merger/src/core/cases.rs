//! Small cases of distributed transactions, written out: who waits for whom, and what is reported.

use bytes::Bytes;
use tributary_binlog::{Gno, Gtid, Sid, Tag, XaXid};
use tributary_flow::{
    Body, Checkpoint, Fence, GlobalTxn, NodeId, NodeItem, NodeProgress, NodeTable, OrderMode,
    SourcePos, SourceTxn, Tso, TxnKind,
};

use super::merge::{BlockedOn, Merger};
use crate::MergeError;

/// A merger and the nodes' binlogs, written as they are read.
struct Story {
    merger: Merger,
    ends: Vec<u64>,
    now: u64,
    out: Vec<GlobalTxn>,
}

fn xid(name: &str, node: usize) -> XaXid {
    XaXid::new(1, name.as_bytes(), &[node as u8]).unwrap()
}

impl Story {
    fn new(nodes: usize, mode: OrderMode) -> Self {
        Self::resumed(nodes, mode, &Checkpoint::default())
    }

    fn resumed(nodes: usize, mode: OrderMode, checkpoint: &Checkpoint) -> Self {
        let table = NodeTable::new((0..nodes).map(|i| format!("dn{i}")));
        let mut merger = Merger::new(table, mode, checkpoint, 0);
        for n in 0..nodes {
            let begin = NodeItem::Position(SourcePos { file: 1, offset: 0 });
            merger.handle(NodeId(n as u16), begin).unwrap();
        }
        Self {
            merger,
            ends: vec![0; nodes],
            now: 1_000,
            out: Vec::new(),
        }
    }

    fn write(&mut self, n: usize, kind: TxnKind, tso: Option<u64>) -> Result<(), MergeError> {
        self.ends[n] += 1;
        self.now += 10;
        let rows = match &kind {
            TxnKind::Local => format!("local@{n}"),
            TxnKind::Prepare(xid) => format!("{}@{n}", String::from_utf8_lossy(xid.gtrid())),
            _ => String::new(),
        };
        let txn = SourceTxn {
            gtid: Gtid {
                sid: Sid([n as u8 + 1; 16]),
                tag: Tag::EMPTY,
                gno: Gno::new(self.ends[n]).unwrap(),
            },
            kind,
            end: self.end(n),
            tso: tso.and_then(Tso::new),
            original_commit: tso.unwrap_or(self.now),
            immediate_commit: self.now,
            last_committed: 0,
            sequence_number: 1,
            original_server_version: 90704,
            immediate_server_version: 90704,
            timestamp: 1,
            body: Body::new(Bytes::from(rows)),
        };
        let node = NodeId(n as u16);
        self.merger.handle(node, NodeItem::Txn(Box::new(txn)))
    }

    fn end(&self, n: usize) -> SourcePos {
        SourcePos {
            file: 1,
            offset: self.ends[n] * 100,
        }
    }

    fn prepare(&mut self, n: usize, name: &str) {
        self.write(n, TxnKind::Prepare(xid(name, n)), None).unwrap();
    }

    fn commit(&mut self, n: usize, name: &str, tso: Option<u64>) {
        self.write(n, TxnKind::Commit(xid(name, n)), tso).unwrap();
    }

    fn rollback(&mut self, n: usize, name: &str) {
        self.write(n, TxnKind::Rollback(xid(name, n)), None)
            .unwrap();
    }

    fn local(&mut self, n: usize) {
        self.write(n, TxnKind::Local, None).unwrap();
    }

    /// Everything that comes while every fence is answered at once.
    fn run(&mut self) -> Result<Vec<String>, MergeError> {
        let from = self.out.len();
        for _ in 0..10 {
            while self.merger.poll(&mut self.out, u64::MAX)? {}
            let mut wanted = Vec::new();
            self.merger.poll_fences(|_| true, &mut wanted);
            for (node, stamp) in wanted {
                let pos = self.end(node.index());
                self.merger.handle_fence(Fence { node, pos, stamp })?;
            }
        }
        let text = |txn: &GlobalTxn| {
            let parts = txn.parts.iter().flat_map(Body::segments);
            let parts: Vec<_> = parts.map(|s| String::from_utf8_lossy(s)).collect();
            parts.join("+")
        };
        Ok(self.out[from..].iter().map(text).collect())
    }
}

#[test]
fn in_doubt_blocks_what_must_follow_and_nothing_else() {
    let mut s = Story::new(3, OrderMode::Causal);
    s.prepare(0, "g");
    s.prepare(1, "g");
    s.prepare(0, "overlapping");
    s.prepare(2, "overlapping");
    s.commit(0, "g", None);
    s.local(0);
    s.commit(0, "overlapping", None);
    s.commit(2, "overlapping", None);
    s.local(1);
    s.local(2);
    assert_eq!(
        s.run().unwrap(),
        ["overlapping@0+overlapping@2", "local@1", "local@2"]
    );
    let blocked = s.merger.blocked();
    assert_eq!(blocked.len(), 1, "{blocked:?}");
    assert!(
        matches!(&blocked[0], (NodeId(1), BlockedOn::Prepare(x, ..)) if *x == xid("g", 1)),
        "{blocked:?}"
    );
    s.commit(1, "g", None);
    assert_eq!(
        s.run().unwrap(),
        ["g@0+g@1", "local@0"],
        "and then what had to follow"
    );
    assert_eq!((s.merger.waiting(), s.merger.blocked()), (0, vec![]));
}

#[test]
fn a_transaction_prepared_and_not_committed_blocks_nobody_in_causal_order() {
    let mut s = Story::new(2, OrderMode::Causal);
    s.prepare(0, "doubt");
    s.local(0);
    s.prepare(0, "g");
    s.prepare(1, "g");
    s.commit(1, "g", None);
    s.commit(0, "g", None);
    assert_eq!(s.run().unwrap(), ["local@0", "g@0+g@1"]);
    assert_eq!(s.merger.blocked(), vec![]);
}

#[test]
fn half_committed_and_half_rolled_back_is_reported_and_the_committed_half_written() {
    for mode in [OrderMode::Causal, OrderMode::Tso] {
        for (late, tso) in [
            (false, None),
            (true, None),
            (false, Some(50)),
            (true, Some(50)),
        ] {
            let mut s = Story::new(2, mode);
            s.prepare(0, "g");
            s.prepare(1, "g");
            if late {
                s.commit(0, "g", tso);
                s.run().unwrap();
                s.rollback(1, "g");
            } else {
                s.rollback(1, "g");
                s.commit(0, "g", tso);
            }
            s.run().unwrap();
            assert_eq!(s.out.len(), 1, "{mode:?} {late} {tso:?}");
            let found = s.merger.take_heuristics();
            assert_eq!(found.len(), 1, "{mode:?} {late} {tso:?}");
            assert_eq!(found[0].committed, (NodeId(0), xid("g", 0)));
            assert_eq!(found[0].rolled_back, (NodeId(1), xid("g", 1)));
        }
    }
}

#[test]
fn a_commit_without_a_timestamp_takes_that_of_a_sibling() {
    for first in [0, 1] {
        let mut s = Story::new(2, OrderMode::Tso);
        s.prepare(0, "g");
        s.prepare(1, "g");
        s.commit(first, "g", (first == 0).then_some(50));
        s.commit(1 - first, "g", (first == 1).then_some(50));
        s.local(1);
        assert_eq!(s.run().unwrap(), ["g@0+g@1", "local@1"]);
        assert_eq!(s.out[0].key.tso, Tso::new(50).unwrap());
        assert_eq!(s.merger.untimed(), 1);
    }
}

#[test]
fn two_timestamps_of_one_transaction_halt_and_name_both() {
    let mut s = Story::new(2, OrderMode::Tso);
    s.prepare(0, "g");
    s.prepare(1, "g");
    s.commit(0, "g", Some(50));
    s.commit(1, "g", Some(60));
    let error = s.run().unwrap_err();
    let MergeError::TwoTimestamps { one, other, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((one.xid, other.xid), (xid("g", 0), xid("g", 1)));
    assert!(s.out.is_empty());
}

#[test]
fn an_xid_that_is_used_again_is_another_transaction() {
    for mode in [OrderMode::Tso, OrderMode::Causal] {
        let mut s = Story::new(2, mode);
        for tso in [50, 60] {
            s.prepare(0, "g");
            s.prepare(1, "g");
            s.commit(0, "g", Some(tso));
            s.commit(1, "g", Some(tso));
        }
        assert_eq!(s.run().unwrap(), ["g@0+g@1", "g@0+g@1"], "{mode:?}");
    }
    let mut s = Story::new(2, OrderMode::Tso);
    s.prepare(0, "g");
    s.commit(0, "g", Some(50));
    s.prepare(1, "g");
    s.commit(1, "g", Some(60));
    assert_eq!(
        s.run().unwrap(),
        ["g@0", "g@1"],
        "one after the other, on two nodes"
    );
}

#[test]
fn an_xid_used_again_with_a_timestamp_does_not_take_its_first_use_along() {
    let mut s = Story::new(2, OrderMode::Tso);
    for n in [0, 1] {
        s.prepare(n, "g");
    }
    s.commit(1, "g", None);
    s.prepare(1, "g");
    s.commit(1, "g", Some(90));
    s.commit(0, "g", None);
    s.prepare(0, "g");
    s.commit(0, "g", Some(90));
    assert_eq!(s.run().unwrap(), ["g@0+g@1", "g@0+g@1"]);
}

#[test]
fn a_branch_rolled_back_behind_a_gate_holds_nothing_up() {
    let mut s = Story::new(3, OrderMode::Causal);
    for n in [0, 1] {
        s.prepare(n, "gate");
    }
    s.commit(0, "gate", None);
    s.prepare(0, "torn");
    s.prepare(2, "torn");
    s.rollback(0, "torn");
    s.commit(2, "torn", None);
    s.commit(1, "gate", None);
    assert_eq!(s.run().unwrap(), ["gate@0+gate@1", "torn@2"]);
    assert_eq!((s.merger.waiting(), s.merger.blocked()), (0, vec![]));
}

#[test]
fn a_commit_by_hand_behind_a_gate_does_not_take_the_timestamp_of_an_earlier_use_of_its_xid() {
    let mut s = Story::new(3, OrderMode::Tso);
    s.prepare(0, "gate");
    s.prepare(1, "gate");
    s.commit(0, "gate", None);
    s.prepare(2, "hold");
    s.prepare(0, "g");
    s.commit(0, "g", Some(700));
    s.prepare(0, "g");
    s.commit(0, "g", None);
    s.commit(1, "gate", None);
    s.rollback(2, "hold");
    assert_eq!(s.run().unwrap(), ["gate@0+gate@1", "g@0", "g@0"]);
    let tsos: Vec<u64> = s.out.iter().map(|t| t.key.tso.micros()).collect();
    assert_eq!(tsos, [0, 700, 700]);
    assert!(s.out[1].key < s.out[2].key);
}

/// Behind TSO 500, when `dn1` joined.
fn joined() -> Checkpoint {
    let tso = Tso::new(500).unwrap();
    let progress = NodeProgress {
        joined: Some(tso),
        ..NodeProgress::default()
    };
    Checkpoint {
        nodes: [("dn1".to_owned(), progress)].into(),
        last_tso: tso,
        ..Checkpoint::default()
    }
}

#[test]
fn what_a_node_prepared_before_it_joined_takes_a_place_of_its_own() {
    let mut s = Story::resumed(2, OrderMode::Tso, &joined());
    // Its branch on dn0 was written before dn1 joined.
    s.prepare(1, "straddles");
    s.prepare(0, "g");
    s.prepare(1, "g");
    s.commit(1, "straddles", Some(400));
    s.local(1);
    s.commit(0, "g", Some(600));
    s.commit(1, "g", Some(600));
    assert_eq!(s.run().unwrap(), ["straddles@1", "local@1", "g@0+g@1"]);
    assert_eq!(s.merger.waiting(), 0);
}

#[test]
fn an_oracle_that_goes_back_after_a_node_joined_is_still_an_error() {
    // On a node that was there before, at once.
    let mut s = Story::resumed(2, OrderMode::Tso, &joined());
    s.prepare(0, "g");
    let back = s.write(0, TxnKind::Commit(xid("g", 0)), Some(400));
    assert!(
        matches!(back, Err(MergeError::OracleWentBack { .. })),
        "{back:?}"
    );
    // On the one that joined, once something newer lies before the prepare.
    let mut s = Story::resumed(2, OrderMode::Tso, &joined());
    s.prepare(1, "newer");
    s.commit(1, "newer", Some(600));
    s.prepare(1, "g");
    let back = s.write(1, TxnKind::Commit(xid("g", 1)), Some(400));
    assert!(
        matches!(back, Err(MergeError::OracleWentBack { .. })),
        "{back:?}"
    );
}
