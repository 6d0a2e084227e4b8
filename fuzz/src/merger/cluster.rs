//! A cluster's history: nodes that write binlogs, coordinators that run XA over them, one oracle.
//!
//! In: choices. Out: what each node's stream says, and when it was written.

use std::collections::HashMap;

use bytes::Bytes;
use tributary_binlog::{
    ChecksumAlg, EventType, EventWriter, Gno, Gtid, RowsHeader, Sid, TableMap, Tag, XaXid,
    rows_flags,
};
use tributary_flow::{Body, NodeItem, SourcePos, SourceTxn, Tso, TxnKind};

use super::STEPS_MAX;
use crate::input::Input;

/// How many commits carry a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamps {
    All,
    Some,
    None,
}

/// Place of each transaction's prepare and commit on its nodes.
pub(super) type Windows = HashMap<u64, Vec<(usize, usize, usize)>>;

/// Nodes that write binlogs, coordinators that run XA over them, one oracle.
pub(super) struct Cluster<'a> {
    input: Input<'a>,
    stamps: Stamps,
    pub(super) streams: Vec<Vec<NodeItem>>,
    /// When each item was written.
    written_at: Vec<Vec<u64>>,
    now: u64,
    clocks: Vec<u64>,
    oracle: u64,
    next_id: u64,
    open: Vec<Distributed>,
    pub(super) windows: Windows,
}

struct Distributed {
    id: u64,
    gtrid: u8,
    nodes: Vec<usize>,
    prepared: Vec<(usize, usize)>,
    tso: Option<u64>,
    rollback: bool,
    ended: usize,
}

impl<'a> Cluster<'a> {
    pub(super) fn new(mut input: Input<'a>, nodes: usize, stamps: Stamps) -> Self {
        let clocks = (0..nodes).map(|_| 1_000 + input.below(50) as u64).collect();
        let mut cluster = Self {
            input,
            stamps,
            streams: vec![Vec::new(); nodes],
            written_at: vec![Vec::new(); nodes],
            now: 0,
            clocks,
            oracle: 100,
            next_id: 1,
            open: Vec::new(),
            windows: HashMap::new(),
        };
        let mut steps = 0;
        while !cluster.input.is_empty() && steps < STEPS_MAX {
            cluster.step();
            steps += 1;
        }
        while !cluster.open.is_empty() {
            cluster.advance(0);
        }
        cluster
    }

    fn write(&mut self, node: usize, kind: TxnKind, tso: Option<u64>, rows: Option<u64>) -> usize {
        let clock = self.clocks[node] + self.input.below(3) as u64;
        self.clocks[node] = clock;
        let place = self.streams[node].len();
        self.now += 1;
        self.written_at[node].push(self.now);
        let body = rows.map_or_else(Body::default, |id| body(id, &mut self.input));
        let txn = source(node, kind, place, clock, tso, body);
        self.streams[node].push(NodeItem::Txn(Box::new(txn)));
        place
    }

    fn step(&mut self) {
        let nodes = self.streams.len();
        match self.input.below(10) {
            0..=2 => {
                let (node, id) = (self.input.below(nodes), self.fresh());
                let place = self.write(node, TxnKind::Local, None, Some(id));
                self.windows.insert(id, vec![(node, place, place)]);
            }
            3 => self.begin(),
            4 => {
                let node = self.input.below(nodes);
                self.write(node, TxnKind::Empty, None, None);
            }
            _ if self.open.is_empty() => {}
            _ => {
                let i = self.input.below(self.open.len());
                self.advance(i);
            }
        }
    }

    /// Begins a distributed transaction. A gtrid may be used again once no transaction has it.
    fn begin(&mut self) {
        let chosen = self.input.byte();
        let mut nodes: Vec<usize> = (0..self.streams.len())
            .filter(|n| chosen >> n & 1 == 1)
            .collect();
        if nodes.is_empty() {
            nodes.push(0);
        }
        let id = self.fresh();
        let gtrid = (id % 250) as u8;
        self.open.push(Distributed {
            id,
            gtrid,
            nodes,
            prepared: Vec::new(),
            tso: None,
            rollback: self.input.chance(15),
            ended: 0,
        });
    }

    fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// One more step of an open distributed transaction: a prepare, the TSO, or an end.
    fn advance(&mut self, i: usize) {
        let (id, gtrid, done) = (
            self.open[i].id,
            self.open[i].gtrid,
            self.open[i].prepared.len(),
        );
        if let Some(&node) = self.open[i].nodes.get(done) {
            let place = self.write(node, TxnKind::Prepare(xid(gtrid, node)), None, Some(id));
            self.open[i].prepared.push((node, place));
            return;
        }
        if !self.open[i].rollback && self.open[i].tso.is_none() {
            self.oracle += 1 + self.input.below(3) as u64;
            self.open[i].tso = Some(self.oracle);
            return;
        }
        let (node, prepared) = self.open[i].prepared[self.open[i].ended];
        let tso = self.open[i].tso;
        let stamp = tso.filter(|_| match self.stamps {
            Stamps::All => true,
            Stamps::Some => self.input.chance(60),
            Stamps::None => false,
        });
        let kind = if tso.is_some() {
            TxnKind::Commit
        } else {
            TxnKind::Rollback
        };
        let place = self.write(node, kind(xid(gtrid, node)), stamp, None);
        if tso.is_some() {
            self.windows
                .entry(id)
                .or_default()
                .push((node, prepared, place));
        }
        self.open[i].ended += 1;
        if self.open[i].ended == self.open[i].nodes.len() {
            self.open.swap_remove(i);
        }
    }

    /// Number of items of `node` that may have been its whole binlog at a moment after everything given had been written.
    pub(super) fn end_after(&self, node: usize, given: &[usize], input: &mut Input<'_>) -> u64 {
        let last = |(times, n): (&Vec<u64>, &usize)| times[..*n].last().copied().unwrap_or(0);
        let now = self.written_at.iter().zip(given).map(last).max();
        let written = &self.written_at[node];
        let least = written.iter().filter(|at| Some(**at) <= now).count();
        (least + input.below((written.len() - least + 1).min(256))) as u64
    }
}

pub(super) fn xid(gtrid: u8, node: usize) -> XaXid {
    XaXid::new(1, &[b'g', gtrid], &[b'n', node as u8]).expect("a short xid")
}

pub(super) fn source(
    node: usize,
    kind: TxnKind,
    place: usize,
    clock: u64,
    tso: Option<u64>,
    body: Body,
) -> SourceTxn {
    SourceTxn {
        gtid: Gtid {
            sid: Sid([node as u8 + 1; 16]),
            tag: Tag::EMPTY,
            gno: Gno::new(place as u64 + 1).expect("a small number above zero"),
        },
        kind,
        end: SourcePos {
            file: 1,
            offset: (place as u64 + 1) * 100,
        },
        tso: tso.and_then(Tso::new),
        original_commit: tso.unwrap_or(clock),
        immediate_commit: clock,
        last_committed: 0,
        sequence_number: 1,
        original_server_version: 90704,
        immediate_server_version: 90704,
        timestamp: 1,
        body,
    }
}

/// Rows of `t (id BIGINT KEY, v VARCHAR(20))`, their statement's text in front, which is the transaction's id.
pub(super) fn body(id: u64, input: &mut Input<'_>) -> Body {
    let mut bytes = Vec::new();
    let mut put = |ty: EventType, fill: &dyn Fn(&mut Vec<u8>)| {
        EventWriter::new(&mut bytes, 0, 1, ChecksumAlg::None)
            .event(ty, 1, 0, |out| fill(out))
            .expect("it is small");
    };
    put(EventType::ROWS_QUERY, &|out| {
        out.push(8);
        out.extend_from_slice(&id.to_be_bytes());
    });
    for _ in 0..1 + input.below(2) {
        let key = input.below(4) as u64;
        let what = input.below(3);
        let (metadata, moved_to) = (input.chance(80), input.below(4) as u64);
        let map = TableMap {
            table_id: 70,
            flags: 0,
            schema: b"shop",
            table: b"t",
            column_types: &[8, 15],
            column_meta: &[20, 0],
            null_bitmap: &[0],
            optional: if metadata { &[8, 1, 0] } else { &[] },
        };
        put(EventType::TABLE_MAP, &|out| map.put_body(out));
        let image = |key: u64| [&[0][..], &key.to_le_bytes(), &[1, id as u8]].concat();
        let (event_type, rows) = match what {
            0 => (EventType::WRITE_ROWS, image(key)),
            1 => (EventType::DELETE_ROWS, image(key)),
            _ => (
                EventType::UPDATE_ROWS,
                [image(key), image(moved_to)].concat(),
            ),
        };
        put(event_type, &|out| {
            RowsHeader {
                event_type,
                table_id: 70,
                flags: rows_flags::COMPLETE_ROWS | rows_flags::STMT_END,
                extra: &[],
                n_columns: 2,
                columns_before: &[3],
                columns_after: event_type.is_update_rows().then_some(&[3]),
                rows: &rows,
            }
            .put_body(out);
        });
    }
    Body::new(Bytes::from(bytes))
}
