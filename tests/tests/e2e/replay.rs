//! The same inputs, twice: node binlogs and fences as recorded, everything else (batches, arrival, group commits) at random.
//!
//! In: a stopped service with its recorded fences, and its nodes' binlog files. Out: an error unless two replays give the same
//! bytes, and the same as the service wrote.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tributary_binlog::{
    ChecksumAlg, EventType, FormatDescription, FrameDecoder, MAGIC, RawEvent, Sid,
};
use tributary_collector::{Account, Assembler};
use tributary_flow::{
    Checkpoint, Fence, FenceStamp, MergedBatch, NodeItem, NodeTable, OrderMode, SourcePos, Tso,
    limits,
};
use tributary_merger::core::Merger;
use tributary_store::{MemDisk, MemKv, StoreOptions};

use crate::world::{World, binlogs};

/// Everything that goes into a merge.
struct Recorded {
    table: NodeTable,
    streams: Vec<Vec<NodeItem>>,
    fences: Vec<VecDeque<Fence>>,
    options: StoreOptions,
}

/// Replays twice and compares with each other and with the service's own files.
pub(crate) fn gives_the_same_bytes(world: &World) -> Result<()> {
    let dir = world.service.data_dir();
    let recorded = record(world)?;
    let fences: usize = recorded.fences.iter().map(VecDeque::len).sum();
    let (one, two) = (replay(&recorded, 1)?, replay(&recorded, 2)?);
    ensure!(one == two, "two replays of the same inputs differ");
    let names = binlogs(&dir)?;
    ensure!(
        names.len() == one.len(),
        "{} files, replayed {}",
        names.len(),
        one.len()
    );
    for (name, replayed) in names.iter().zip(&one) {
        let ours = fs::read(dir.join(name))?;
        ensure!(
            &ours == replayed,
            "{name} differs from its replay: {} and {} bytes",
            ours.len(),
            replayed.len()
        );
    }
    println!(
        "replayed {} files from {fences} fences: byte-identical",
        one.len()
    );
    Ok(())
}

struct Unlimited;

impl Account for Unlimited {
    fn charge(&self, _: usize) {}
    fn release(&self, _: usize) {}
}

fn record(world: &World) -> Result<Recorded> {
    let table = NodeTable::new(world.cluster.nodes.iter().map(|n| n.name().to_owned()));
    let streams = (world.cluster.nodes.iter())
        .map(|n| stream(&n.datadir()))
        .collect::<Result<Vec<_>>>()?;
    let mut fences = vec![VecDeque::new(); table.len()];
    let log = world.service.config_path().with_file_name("fences.jsonl");
    for line in fs::read_to_string(log)?.lines() {
        let fence: serde_json::Value = serde_json::from_str(line)?;
        let number = |key: &str| {
            fence[key]
                .as_u64()
                .with_context(|| format!("{key} in {line}"))
        };
        let node = table
            .id(fence["node"].as_str().unwrap_or_default())
            .context("a node")?;
        let stamp = FenceStamp {
            tso: Tso::new(number("tso")?).context("a TSO")?,
            time: number("time")?,
        };
        let pos = SourcePos {
            file: number("file")?,
            offset: number("offset")?,
        };
        fences[node.index()].push_back(Fence { node, pos, stamp });
    }
    Ok(Recorded {
        table,
        streams,
        fences,
        options: options(&world.service.data_dir())?,
    })
}

/// A node's binlog files as items.
fn stream(datadir: &Path) -> Result<Vec<NodeItem>> {
    let mut assembler = Assembler::new(Arc::new(Unlimited));
    let mut items = Vec::new();
    for name in binlogs(datadir)? {
        // As a dump begins each file: an artificial rotate that names it.
        assembler.handle(&RawEvent::parse(
            &artificial_rotate(&name),
            ChecksumAlg::None,
        )?)?;
        let bytes = fs::read(datadir.join(&name))?;
        let mut decoder = FrameDecoder::new(ChecksumAlg::Crc32, limits::EVENT_BYTES_MAX);
        decoder.feed(&bytes[MAGIC.len()..]);
        while let Some(event) = decoder.poll()? {
            assembler.handle(&event)?;
        }
        items.extend(assembler.take());
    }
    Ok(items)
}

fn artificial_rotate(name: &str) -> Vec<u8> {
    let size = 19 + 8 + name.len() as u32;
    let mut event = Vec::new();
    event.extend(0_u32.to_le_bytes());
    event.push(EventType::ROTATE.0);
    event.extend(1_u32.to_le_bytes());
    event.extend(size.to_le_bytes());
    event.extend(0_u32.to_le_bytes());
    event.extend(0x20_u16.to_le_bytes());
    event.extend(4_u64.to_le_bytes());
    event.extend(name.as_bytes());
    event
}

/// The options under which the service's directory was made, read from its first file.
fn options(dir: &Path) -> Result<StoreOptions> {
    let bytes = fs::read(dir.join("binlog.000001"))?;
    let mut decoder = FrameDecoder::new(ChecksumAlg::Crc32, limits::EVENT_BYTES_MAX);
    decoder.feed(&bytes[MAGIC.len()..]);
    let fde = decoder.poll()?.context("a format description")?;
    let (now_seconds, server_id) = (fde.header.timestamp, fde.header.server_id);
    let server_version = FormatDescription::parse(fde.body)?.server_version;
    let mut new_uuid = None;
    while let Some(event) = decoder.poll()? {
        if event.header.event_type == EventType::GTID {
            let sid: &[u8; 16] = event.body.get(1..17).context("a GTID")?.try_into()?;
            new_uuid = Some(Sid(*sid));
            break;
        }
    }
    Ok(StoreOptions {
        base_name: "binlog".into(),
        max_binlog_size: 1 << 20,
        server_id,
        server_version,
        new_uuid: new_uuid.context("a transaction")?,
        now_seconds,
    })
}

/// Merges the recorded inputs; what is not recorded is decided by `seed`. Returns the files.
fn replay(recorded: &Recorded, seed: u64) -> Result<Vec<Vec<u8>>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let disk = MemDisk::new();
    let opened = tributary_store::open(
        Arc::new(disk.clone()),
        Arc::new(MemKv::new()),
        recorded.options.clone(),
    )?;
    let mut writer = opened.writer;
    let mut merger = Merger::new(
        recorded.table.clone(),
        OrderMode::Tso,
        &Checkpoint::default(),
        0,
    );
    let mut fences = recorded.fences.clone();
    fences
        .iter_mut()
        .filter_map(VecDeque::pop_front)
        .try_for_each(|f| merger.handle_fence(f))?;
    let mut given = vec![0; recorded.streams.len()];
    let mut batch = MergedBatch::default();
    while given
        .iter()
        .zip(&recorded.streams)
        .any(|(g, s)| *g < s.len())
    {
        let n = rng.random_range(0..given.len());
        let node = recorded.table.iter().nth(n).context("a node")?.0;
        for item in recorded.streams[n]
            .iter()
            .skip(given[n])
            .take(rng.random_range(1..200))
        {
            merger.handle(node, item.clone())?;
            given[n] += 1;
            next_fences(&mut merger, &mut fences)?;
        }
        let more = merger.poll(&mut batch.txns, rng.random_range(1..200_000))?;
        if !more || rng.random_bool(0.5) {
            batch.checkpoint = merger.checkpoint();
            writer.append(&std::mem::take(&mut batch))?;
        }
        if rng.random_bool(0.2) {
            writer.commit()?;
        }
    }
    while merger.poll(&mut batch.txns, u64::MAX)? {}
    prove(recorded, &mut merger)?;
    while merger.poll(&mut batch.txns, u64::MAX)? {}
    batch.checkpoint = merger.checkpoint();
    writer.append(&batch)?;
    writer.commit()?;
    let names: Vec<String> = opened
        .log
        .files()
        .iter()
        .map(|f| f.file.to_string())
        .collect();
    names
        .iter()
        .map(|n| disk.bytes(n).with_context(|| n.clone()))
        .collect()
}

/// What had been received when a fence was asked for is not recorded, and proves which branches of commits without a timestamp
/// there are. Fences at the end of all streams prove it, too, and change nothing else.
fn prove(recorded: &Recorded, merger: &mut Merger) -> Result<()> {
    let mut wanted = Vec::new();
    merger.poll_fences(|_| true, &mut wanted);
    for (node, stamp) in wanted {
        let last = recorded.streams[node.index()].last();
        let pos = match last.context("an item")? {
            NodeItem::Position(pos) => *pos,
            NodeItem::Txn(txn) => txn.end,
        };
        merger.handle_fence(Fence { node, pos, stamp })?;
    }
    Ok(())
}

/// A passed fence makes room for the next recorded one of its node.
fn next_fences(merger: &mut Merger, fences: &mut [VecDeque<Fence>]) -> Result<()> {
    loop {
        let passed = merger.take_passed_fences();
        if passed.is_empty() {
            return Ok(());
        }
        for fence in passed {
            if let Some(next) = fences[fence.node.index()].pop_front() {
                merger.handle_fence(next)?;
            }
        }
    }
}
