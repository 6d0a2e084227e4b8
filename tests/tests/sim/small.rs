//! Every small case: all interleavings of up to three transactions on two nodes, through the real merger.
//!
//! In: nothing; the cases are enumerated. Out: a failure with the first case in which a transaction is lost, comes twice, in part,
//! or before one that was committed before it was prepared.

use std::sync::atomic::{AtomicUsize, Ordering};

use tributary_binlog::{Gno, Gtid, Sid, Tag};
use tributary_flow::{
    Body, Checkpoint, Fence, FenceStamp, GlobalTxn, NodeId, NodeItem, NodeTable, OrderMode,
    SourcePos, SourceTxn, Tso, TxnKind,
};
use tributary_merger::core::Merger;

use crate::cluster::xid;

/// A transaction: on which nodes, whether by XA, and whether it is committed.
#[derive(Clone, Copy, Debug)]
struct Shape {
    nodes: &'static [usize],
    xa: bool,
    commits: bool,
}

const fn shape(nodes: &'static [usize], xa: bool, commits: bool) -> Shape {
    Shape { nodes, xa, commits }
}

const SHAPES: [Shape; 7] = [
    shape(&[0], false, true),
    shape(&[1], false, true),
    shape(&[0], true, true),
    shape(&[1], true, true),
    shape(&[0, 1], true, true),
    shape(&[0, 1], true, false),
    shape(&[0], true, false),
];

impl Shape {
    /// Prepares in the order of the nodes, then the ends.
    fn steps(self) -> usize {
        self.nodes.len() * if self.xa { 2 } else { 1 }
    }
}

/// How the streams and the answers to fences arrive.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    /// As it happens; a fence is answered at once.
    Live,
    /// As it happens; an answer is one step on its way.
    Late,
    /// First all of one node.
    NodeFirst(usize),
}

/// What happened: by step, the node and its item; and for each transaction its prepare and commit places by node.
struct Story {
    items: Vec<(usize, SourceTxn)>,
    windows: Vec<Vec<(usize, usize, usize)>>,
}

fn story(shapes: &[Shape], order: &[usize], mode: OrderMode, skew: u64) -> Story {
    let (mut next, mut tso) = (vec![0; shapes.len()], vec![0; shapes.len()]);
    let (mut count, mut oracle) = ([0_u64; 2], 0);
    let mut story = Story {
        items: Vec::new(),
        windows: vec![Vec::new(); shapes.len()],
    };
    for (now, &id) in order.iter().enumerate() {
        let (shape, step) = (shapes[id], next[id]);
        next[id] += 1;
        let branch = step % shape.nodes.len();
        let node = shape.nodes[branch];
        let ends = !shape.xa || step >= shape.nodes.len();
        if shape.xa && step == shape.nodes.len() {
            oracle += 10;
            tso[id] = oracle;
        }
        let xid = xid(id as u64, branch);
        let kind = match (shape.xa, ends, shape.commits) {
            (false, ..) => TxnKind::Local,
            (_, false, _) => TxnKind::Prepare(xid),
            (.., true) => TxnKind::Commit(xid),
            (.., false) => TxnKind::Rollback(xid),
        };
        match (&kind, ends && shape.commits) {
            (TxnKind::Prepare(_), _) => story.windows[id].push((node, now, usize::MAX)),
            (TxnKind::Local, _) => story.windows[id].push((node, now, now)),
            (_, true) => story.windows[id][branch].2 = now,
            _ => story.windows[id].clear(),
        }
        let stamp = matches!(kind, TxnKind::Commit(_)) && mode == OrderMode::Tso;
        let rows = matches!(kind, TxnKind::Local | TxnKind::Prepare(_));
        count[node] += 1;
        let clock = 1_000 + now as u64 + skew * node as u64;
        let body = match rows {
            true => Body::new(vec![id as u8; 19].into()),
            false => Body::default(),
        };
        let item = SourceTxn {
            gtid: Gtid {
                sid: Sid([node as u8 + 1; 16]),
                tag: Tag::EMPTY,
                gno: Gno::new(count[node]).expect("a small number"),
            },
            kind,
            end: SourcePos {
                file: 1,
                offset: count[node] * 100,
            },
            tso: Tso::new(tso[id]).filter(|_| stamp),
            original_commit: clock,
            immediate_commit: clock,
            last_committed: 0,
            sequence_number: 1,
            original_server_version: 90704,
            immediate_server_version: 90704,
            timestamp: 1,
            body,
        };
        story.items.push((node, item));
    }
    story
}

struct Delivery {
    merger: Merger,
    out: Vec<GlobalTxn>,
    asked: Vec<(NodeId, FenceStamp, SourcePos)>,
}

impl Delivery {
    fn give(&mut self, node: usize, item: &SourceTxn) -> Result<(), String> {
        let item = NodeItem::Txn(Box::new(item.clone()));
        let given = self.merger.handle(NodeId(node as u16), item);
        given.map_err(|e| e.to_string())?;
        self.merger
            .poll(&mut self.out, u64::MAX)
            .map_err(|e| e.to_string())?;
        Ok(())
    }

    /// Asks what the merger wants to know; the answers are on their way.
    fn ask(&mut self, ends: [u64; 2]) -> bool {
        let mut wanted = Vec::new();
        self.merger.poll_fences(|_| true, &mut wanted);
        let end = |id: NodeId| SourcePos {
            file: 1,
            offset: ends[id.index()] * 100,
        };
        let asked = wanted.iter().map(|(id, stamp)| (*id, *stamp, end(*id)));
        self.asked.extend(asked);
        !wanted.is_empty()
    }

    fn answer(&mut self) -> Result<(), String> {
        for (node, stamp, pos) in std::mem::take(&mut self.asked) {
            let fence = Fence { node, pos, stamp };
            self.merger.handle_fence(fence).map_err(|e| e.to_string())?;
        }
        self.merger
            .poll(&mut self.out, u64::MAX)
            .map_err(|e| e.to_string())?;
        Ok(())
    }
}

fn run(story: &Story, mode: OrderMode, arrival: Arrival) -> Result<Vec<usize>, String> {
    let table = NodeTable::new(["dn0".to_owned(), "dn1".to_owned()]);
    let mut delivery = Delivery {
        merger: Merger::new(table, mode, &Checkpoint::default(), 0),
        out: Vec::new(),
        asked: Vec::new(),
    };
    for node in 0..2 {
        let begin = NodeItem::Position(SourcePos { file: 1, offset: 0 });
        let begun = delivery.merger.handle(NodeId(node), begin);
        begun.map_err(|e| e.to_string())?;
    }
    let mut items: Vec<&(usize, SourceTxn)> = story.items.iter().collect();
    let mut ends = [0, 0];
    if let Arrival::NodeFirst(first) = arrival {
        items.sort_by_key(|(node, _)| *node != first);
        story.items.iter().for_each(|(node, _)| ends[*node] += 1);
    }
    for (node, item) in items {
        if !matches!(arrival, Arrival::NodeFirst(_)) {
            ends[*node] += 1;
        }
        delivery.give(*node, item)?;
        if matches!(arrival, Arrival::Late) {
            delivery.answer()?;
        }
        delivery.ask(ends);
        if !matches!(arrival, Arrival::Late) {
            delivery.answer()?;
        }
    }
    delivery.answer()?;
    while delivery.ask(ends) {
        delivery.answer()?;
    }
    let id = |txn: &GlobalTxn| usize::from(txn.parts[0].segments()[0][0]);
    let whole = |txn: &GlobalTxn| txn.parts.len() == story.windows[id(txn)].len();
    if !delivery.out.iter().all(whole) {
        return Err("not whole".to_owned());
    }
    Ok(delivery.out.iter().map(id).collect())
}

fn check(story: &Story, out: &[usize]) -> Result<(), String> {
    let due = story.windows.iter().filter(|w| !w.is_empty()).count();
    let mut sorted = out.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != out.len() || out.len() != due {
        return Err(format!("{out:?} came, {due} are due"));
    }
    for (i, later) in out.iter().enumerate() {
        for earlier in out.iter().skip(i + 1) {
            // `earlier` came behind `later`: nothing of it may have been committed before that was prepared.
            let before = |&(n, _, c): &(usize, usize, usize)| {
                let behind = story.windows[*later].iter();
                behind.filter(|(m, ..)| *m == n).any(|(_, p, _)| c < *p)
            };
            if story.windows[*earlier].iter().any(before) {
                return Err(format!(
                    "{earlier} was committed before {later} was prepared: {out:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Calls `each` with every order of the steps of transactions that have `left` steps.
fn interleave(left: &mut [usize], order: &mut Vec<usize>, each: &mut impl FnMut(&[usize])) {
    if left.iter().all(|n| *n == 0) {
        return each(order);
    }
    for id in 0..left.len() {
        if left[id] > 0 {
            left[id] -= 1;
            order.push(id);
            interleave(left, order, each);
            order.pop();
            left[id] += 1;
        }
    }
}

fn cases() -> Vec<Vec<Shape>> {
    let mut out = Vec::new();
    for (i, &a) in SHAPES.iter().enumerate() {
        out.push(vec![a]);
        for (j, &b) in SHAPES.iter().enumerate().skip(i) {
            out.push(vec![a, b]);
            out.extend(SHAPES.iter().skip(j).map(|&c| vec![a, b, c]));
        }
    }
    out
}

fn all_of(shapes: &[Shape]) -> usize {
    let mut left: Vec<usize> = shapes.iter().map(|s| s.steps()).collect();
    let mut stories = 0;
    interleave(&mut left, &mut Vec::new(), &mut |order| {
        for mode in [OrderMode::Tso, OrderMode::Causal] {
            let story = story(shapes, order, mode, 1_000 * (order[0] as u64 % 2));
            let arrivals = [
                Arrival::Live,
                Arrival::Late,
                Arrival::NodeFirst(0),
                Arrival::NodeFirst(1),
            ];
            for arrival in arrivals {
                stories += 1;
                let result = run(&story, mode, arrival).and_then(|out| check(&story, &out));
                if let Err(e) = result {
                    panic!("{mode:?} {arrival:?} {shapes:?} in the order {order:?}: {e}");
                }
            }
        }
    });
    stories
}

#[test]
fn every_small_case() {
    let (cases, next, stories) = (cases(), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    stories.fetch_add(all_of(case), Ordering::Relaxed);
                }
            });
        }
    });
    println!("{} cases, {} stories", cases.len(), stories.into_inner());
}
