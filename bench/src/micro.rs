//! The stages of the hot path by themselves: one thread, no sockets, no disk.
//!
//! In: generated binlogs, in memory. Out: for each stage, how many MB of the nodes' binlogs and how many transactions it
//! gets through in a second of CPU time. What it takes to merge a byte is the sum of the inverses.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tributary_binlog::{ChecksumAlg, EventReader, EventType, EventWriter, MAGIC, Rotate, Sid};
use tributary_collector::{Account, Assembler};
use tributary_flow::{Fence, GlobalTxn, NodeId, NodeItem, NodeTable, OrderMode, SourcePos, limits};
use tributary_merger::core::{Merger, Resume};
use tributary_store::{DRAIN_BYTES, Encoder, Numbers, Pending, Sink};

use crate::binlogs::{self, Plan, node_name};
use crate::{proc, reshape};

/// How often each stage is run; the fastest run counts, as nothing but disturbance makes one slower.
const ROUNDS: usize = 3;
/// How often what is compared is run in turns; medians count, as both are disturbed alike.
const TURNS: usize = 20;

const ASSEMBLE: &str = "frame + CRC + assemble";
const WITH: &str = "merge + encode";
const WITHOUT: &str = "the same without schemas";

/// One stage's rate.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Rate {
    pub(crate) stage: &'static str,
    /// MB (10⁶ bytes) of the nodes' binlogs.
    pub(crate) mb_per_s: f64,
    pub(crate) transactions_per_s: f64,
}

struct Nobody;

impl Account for Nobody {
    fn charge(&self, _bytes: usize) {}
    fn release(&self, _bytes: usize) {}
}

/// What the nodes of a cluster wrote, in memory.
struct Input {
    /// File contents, by node.
    nodes: Vec<Vec<Vec<u8>>>,
    bytes: u64,
    merged: u64,
    groups: u64,
}

/// Generates the data below `dir` and measures all stages.
pub(crate) fn run(plan: &Plan, dir: &Path) -> Result<Vec<Rate>> {
    let input = load(plan, dir)?;
    let rate = |stage, transactions: u64, time: Duration| {
        let seconds = time.as_secs_f64();
        Rate {
            stage,
            mb_per_s: input.bytes as f64 / 1e6 / seconds,
            transactions_per_s: transactions as f64 / seconds,
        }
    };
    let mut rates = Vec::new();
    rates.push(rate("frame + CRC", input.groups, best(|| frame(&input))?));
    rates.push(rate(ASSEMBLE, input.groups, best(|| assemble(&input))?));
    let mut merged = Vec::with_capacity(input.merged as usize);
    let merging = best(|| {
        merged.clear();
        merge(&input, true, &mut |batch| {
            merged.append(batch);
            Ok(())
        })
    })?;
    ensure!(
        merged.len() as u64 == input.merged,
        "{} transactions merged, {} expected",
        merged.len(),
        input.merged
    );
    rates.push(rate("merge", input.merged, merging));
    rates.push(rate(
        "encode + CRC",
        input.merged,
        best(|| encode(&merged))?,
    ));
    let [with, without] = in_turns([true, false].map(|schemas| {
        let input = &input;
        move || pass_through(input, schemas)
    }))?;
    rates.push(rate(WITH, input.merged, with));
    rates.push(rate(WITHOUT, input.merged, without));
    rates.extend(reshape::run(&merged)?);
    Ok(rates)
}

/// What it costs to look at every table map, of all that is done with a byte: 0.05 is five percent.
pub(crate) fn schema_share(rates: &[Rate]) -> Option<f64> {
    let seconds = |stage: &str| {
        let rate = rates.iter().find(|r| r.stage == stage)?;
        Some(1.0 / rate.mb_per_s)
    };
    let (with, without) = (seconds(WITH)?, seconds(WITHOUT)?);
    Some((with - without) / (seconds(ASSEMBLE)? + without))
}

/// Runs all of them again and again, one after the other; their medians.
fn in_turns<const N: usize>(
    mut runs: [impl FnMut() -> Result<Duration>; N],
) -> Result<[Duration; N]> {
    let mut times = [const { Vec::new() }; N];
    for turn in 0..TURNS {
        for at in 0..N {
            // Whoever runs first finds other caches.
            let at = (at + turn) % N;
            let time = runs[at]()?;
            times[at].push(time);
        }
    }
    Ok(times.map(|mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    }))
}

pub(crate) fn best(mut run: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let times = (0..ROUNDS).map(|_| run()).collect::<Result<Vec<_>>>()?;
    times.into_iter().min().context("no round")
}

fn load(plan: &Plan, dir: &Path) -> Result<Input> {
    let generated = binlogs::generate_all(plan, dir)?;
    let files = |node| {
        let dir = dir.join(node_name(node));
        let index = fs::read_to_string(dir.join("binlog.index"))?;
        Ok(index
            .lines()
            .map(|name| fs::read(dir.join(name)))
            .collect::<Result<_, _>>()?)
    };
    Ok(Input {
        nodes: (0..plan.nodes).map(files).collect::<Result<_>>()?,
        bytes: generated.bytes.iter().sum(),
        merged: generated.totals.merged,
        groups: generated.totals.groups,
    })
}

fn frame(input: &Input) -> Result<Duration> {
    let start = proc::thread_cpu_time()?;
    let mut events = 0_u64;
    for file in input.nodes.iter().flatten() {
        let mut reader = EventReader::new(&file[MAGIC.len()..], ChecksumAlg::Crc32);
        while reader.next()?.is_some() {
            events += 1;
        }
    }
    ensure!(events > input.groups, "events were read");
    Ok(proc::thread_cpu_time()? - start)
}

/// What a server sends before a file's events.
fn artificial_rotate(number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = format!("binlog.{number:06}");
    let rotate = Rotate {
        position: 4,
        file: file.as_bytes(),
    };
    EventWriter::new(&mut bytes, 0, 1, ChecksumAlg::Crc32)
        .event(
            EventType::ROTATE,
            0,
            tributary_binlog::flags::ARTIFICIAL,
            |out| rotate.put_body(out),
        )
        .expect("the event is short");
    bytes
}

/// Turns one node's files into items; every batch of the size a collector hands on goes to `out`.
fn assemble_node(files: &[Vec<u8>], out: &mut dyn FnMut(Vec<NodeItem>)) -> Result<()> {
    let mut assembler = Assembler::new(Arc::new(Nobody));
    for (number, file) in (1..).zip(files) {
        let rotate = artificial_rotate(number);
        for bytes in [&rotate, &file[MAGIC.len()..]] {
            let mut reader = EventReader::new(bytes, ChecksumAlg::Crc32);
            while let Some(event) = reader.next()? {
                assembler.handle(&event)?;
                if assembler.pending_bytes() >= limits::CHUNK_BYTES
                    || assembler.pending_items() >= limits::BATCH_ITEMS_MAX
                {
                    out(assembler.take());
                }
            }
        }
    }
    out(assembler.take());
    Ok(())
}

fn assemble(input: &Input) -> Result<Duration> {
    let start = proc::thread_cpu_time()?;
    for files in &input.nodes {
        assemble_node(files, &mut drop)?;
    }
    Ok(proc::thread_cpu_time()? - start)
}

/// Merges everything, with or without a look at the tables; `sink` takes what is merged, in batches. The time without that for
/// making the items.
fn merge(
    input: &Input,
    schemas: bool,
    sink: &mut dyn FnMut(&mut Vec<GlobalTxn>) -> Result<()>,
) -> Result<Duration> {
    let table = NodeTable::new((0..input.nodes.len()).map(node_name));
    let mut batches = Vec::new();
    let mut ends = Vec::new();
    for (node, files) in input.nodes.iter().enumerate() {
        let mut of_node = Vec::new();
        assemble_node(files, &mut |batch| of_node.push(batch))?;
        let offset = files.last().map_or(0, |file| file.len() as u64);
        ends.push(SourcePos {
            file: files.len() as u64,
            offset,
        });
        batches.extend(
            of_node
                .into_iter()
                .enumerate()
                .map(|(i, batch)| (i, node, batch)),
        );
    }
    // Nodes take turns, as they do when all of them are behind.
    batches.sort_by_key(|(i, node, _)| (*i, *node));
    let mut merger = Merger::new(table, OrderMode::Tso, &Resume::default(), 0);
    if !schemas {
        merger.leave_tables_alone();
    }
    let mut merged = Vec::new();
    let start = proc::thread_cpu_time()?;
    for (_, node, batch) in batches {
        for item in batch {
            merger.handle(NodeId(node as u16), item)?;
        }
        while merger.poll(&mut merged, limits::MERGED_BATCH_BYTES as u64)? {}
        if !merged.is_empty() {
            // Each batch that goes to the store carries one.
            std::hint::black_box(merger.checkpoint());
            sink(&mut merged)?;
        }
    }
    let mut wanted = Vec::new();
    while merger.waiting() > 0 {
        wanted.clear();
        merger.poll_fences(|_| true, &mut wanted);
        ensure!(
            !wanted.is_empty(),
            "{:?} hold back the rest",
            merger.blocked()
        );
        for (node, stamp) in &wanted {
            merger.handle_fence(Fence {
                node: *node,
                pos: ends[node.index()],
                stamp: *stamp,
            })?;
        }
        while merger.poll(&mut merged, limits::MERGED_BATCH_BYTES as u64)? {}
        sink(&mut merged)?;
    }
    Ok(proc::thread_cpu_time()? - start)
}

/// Merges everything and encodes each batch while it is in the caches.
fn pass_through(input: &Input, schemas: bool) -> Result<Duration> {
    let mut encoder = Encoder::new(4294, Sid([7; 16]));
    let mut out = Pending::default();
    let mut gno = 0;
    merge(input, schemas, &mut |batch| {
        for txn in batch.drain(..) {
            gno += 1;
            encoder.transaction(&mut out, Numbers { gno, first_gno: 1 }, &txn)?;
            drained(&mut out)?;
        }
        Ok(())
    })
}

fn encode(merged: &[GlobalTxn]) -> Result<Duration> {
    let start = proc::thread_cpu_time()?;
    let mut encoder = Encoder::new(4294, Sid([7; 16]));
    let mut out = Pending::default();
    for (gno, txn) in (1..).zip(merged) {
        encoder.transaction(&mut out, Numbers { gno, first_gno: 1 }, txn)?;
        drained(&mut out)?;
    }
    Ok(proc::thread_cpu_time()? - start)
}

/// What would go to a file is thrown away.
fn drained(out: &mut Pending) -> Result<()> {
    if out.bytes.len() >= DRAIN_BYTES {
        out.base = out.offset();
        out.bytes.clear();
        out.drain()?;
    }
    Ok(())
}

/// One line for each stage.
pub(crate) fn render(rates: &[Rate]) -> String {
    let line = |r: &Rate| {
        format!(
            "{:<26} {:>8.0} MB/s {:>12.0} transactions/s\n",
            r.stage, r.mb_per_s, r.transactions_per_s
        )
    };
    let share = schema_share(rates).map_or_else(String::new, |share| {
        format!(
            "schemas that do not change add {:.1} % to what there is to do without them ({TURNS} times in turns, medians)\n",
            100.0 * share
        )
    });
    rates.iter().map(line).collect::<String>() + &share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Shape;

    #[test]
    fn every_stage_gets_through_the_generated_data() {
        for shape in [Shape::Oltp, Shape::Bulk] {
            let dir = tempfile::tempdir().unwrap();
            let plan = Plan {
                nodes: 3,
                mib: 1,
                seed: 2,
                shape,
            };
            let rates = run(&plan, dir.path()).unwrap();
            assert!(rates.iter().all(|r| r.mb_per_s > 0.1), "{rates:?}");
        }
    }
}
