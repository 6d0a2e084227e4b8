//! Scripts of everything the store does, stopped at every single write, sync, truncation, rename and removal, with what was
//! not synced lost, kept, torn or reordered: tens of thousands of different disks, each of which must recover.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    time::Instant,
};

use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng},
};
use tributary_binlog::XaXid;
use tributary_flow::{Checkpoint, KeptRows, NodeProgress, NodeRecord, Tso};
use tributary_store::{
    Disk, GlobalLog, LogWriter, MemDisk, MemKv, NodeSetChange, Opened,
    disk::{Fuse, Keep, Unsynced},
    kv::KeyKind,
    verify::{VerifyOptions, verify_dir},
};

use crate::spooled::spooled;
use crate::support::{batch, branches, commit, dump, files, forget, keep, open_mem};

/// Different disks checked in one run.
const STATES: usize = 50_000;
/// Disks tried for one point of one script.
const TRIES: u64 = 28;
const MAX: u64 = 1500;

/// One thing a script does.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many transactions in one group, in this many appends; if in several, their rows are in spool files.
    Group(u64, u64),
    Flush,
    /// So many finished files stay.
    Purge(u64),
    /// Branches that are kept and forgotten, with or without a transaction.
    Branches(u8, u8, bool),
    /// Another set of nodes: `dn1` has another name, or is gone.
    Nodes(u8),
    /// Some rows of a branch that will not be kept.
    Unfinished(u8),
}

fn rng(seed: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

fn script(seed: u64) -> Vec<Step> {
    let mut rng = rng(seed);
    (0..14)
        .map(|_| match rng.random_range(0..10) {
            0 => Step::Flush,
            1 | 2 => Step::Purge(rng.random_range(0..3)),
            3 if rng.random_range(0..4) == 0 => Step::Unfinished(rng.random_range(0..3)),
            3 => Step::Branches(rng.random_range(0..3), rng.random_range(0..3), rng.random()),
            4 => Step::Nodes(rng.random_range(0..4)),
            _ => Step::Group(rng.random_range(1..7), rng.random_range(1..4)),
        })
        .collect()
}

fn xid(n: u8) -> XaXid {
    XaXid::new(1, &[b'g', n], b"b").unwrap()
}

/// Does a step; an error is the disk's.
fn go(writer: &mut LogWriter, log: &GlobalLog, step: Step, purge: bool) -> Result<(), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let append = |writer: &mut LogWriter, n: u64| {
        let from = writer.last_gno() + 1;
        writer.append(&batch(from, from + n - 1))
    };
    let append_spooled = |writer: &mut LogWriter, n: u64| {
        let from = writer.last_gno() + 1;
        let mut batch = batch(from, from + n - 1);
        let parts = batch.txns.iter_mut().flat_map(|txn| &mut txn.parts);
        parts.for_each(|part| *part = spooled(part));
        writer.append(&batch)
    };
    match step {
        Step::Group(txns, appends) => {
            for part in 0..appends {
                let n = txns / appends + u64::from(part < txns % appends);
                if n > 0 && appends > 1 {
                    append_spooled(writer, n).map_err(|e| text(&e))?;
                } else if n > 0 {
                    append(writer, n).map_err(|e| text(&e))?;
                }
            }
            writer.commit().map(|_| ()).map_err(|e| text(&e))
        }
        Step::Flush => writer.flush().map(|_| ()).map_err(|e| text(&e)),
        Step::Purge(keep) if purge => {
            let active = log.durable().file.seq();
            let oldest = log.files()[0].file.seq();
            let target = active.saturating_sub(keep).max(oldest);
            let name = format!("binlog.{target:06}");
            writer.purge_to(&name).map(|_| ()).map_err(|e| text(&e))
        }
        Step::Purge(_) => Ok(()),
        Step::Branches(kept, forgotten, with_txn) => {
            let all = writer.list_branches().unwrap();
            let known = |n: u8| {
                let mut all = all.iter();
                let found = all.find(|b| b.node == "dn1" && b.xid == xid(n));
                found.map(|b| b.id.0)
            };
            let id = all.iter().map(|b| b.id.0).max().unwrap_or(0) + 1;
            let mut ops: Vec<_> = known(kept)
                .map(|id| forget(id, &xid(kept)))
                .into_iter()
                .collect();
            ops.extend(keep(id, &xid(kept), &[kept; 9], &[kept; ROWS]));
            let gone = if forgotten == kept {
                Some(id)
            } else {
                known(forgotten)
            };
            ops.extend(gone.map(|id| forget(id, &xid(forgotten))));
            let batch = branches(writer.last_gno(), ops);
            writer.append(&batch).map_err(|e| text(&e))?;
            if with_txn {
                append(writer, 1).map_err(|e| text(&e))?;
            }
            writer.commit().map(|_| ()).map_err(|e| text(&e))
        }
        Step::Nodes(n) => {
            let change = nodes(n, writer.last_gno());
            writer
                .change_nodes(change)
                .map(|_| ())
                .map_err(|e| text(&e))
        }
        Step::Unfinished(n) => {
            let ops = keep(100 + u64::from(n), &xid(n), b"", &[n; ROWS]);
            let batch = branches(writer.last_gno(), ops[..1 + usize::from(n % 2)].to_vec());
            writer.append(&batch).map_err(|e| text(&e))?;
            writer.commit().map(|_| ()).map_err(|e| text(&e))
        }
    }
}

/// A node set that says the same as the progress it comes with.
fn nodes(n: u8, last_gno: u64) -> NodeSetChange {
    let name = format!("dn{n}");
    let mut change = NodeSetChange::default();
    change
        .nodes
        .nodes
        .insert(name.clone(), NodeRecord::default());
    change.checkpoint = Some(Checkpoint {
        nodes: [(name, NodeProgress::default())].into(),
        last_tso: Tso::new(last_gno).unwrap(),
        ..Checkpoint::default()
    });
    match n {
        0 => change.removed.push("dn1".into()),
        _ => change.renamed.push(("dn1".into(), format!("dn1{n}"))),
    }
    change
}
/// Bytes of rows of a kept branch.
const ROWS: usize = 700;

/// What must be true at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    first: u64,
    active: u64,
    offset: u64,
    last_gno: u64,
    branches: BTreeSet<Vec<u8>>,
    /// The nodes by their record, and by the merger's progress.
    nodes: [Vec<String>; 2],
}

fn state(opened: &Opened) -> State {
    let end = opened.log.durable();
    let branches = opened.writer.list_branches().unwrap();
    let record = opened.writer.nodes().unwrap();
    let progress = opened.writer.progress();
    let nodes = [
        record.map_or_else(Vec::new, |set| set.nodes.into_keys().collect()),
        progress.map_or_else(Vec::new, |c| c.nodes.keys().cloned().collect()),
    ];
    State {
        first: opened.log.files()[0].file.seq(),
        active: end.file.seq(),
        offset: end.offset,
        last_gno: end.last_gno,
        branches: branches
            .iter()
            .map(|b| [b.node.as_bytes(), b.xid.gtrid(), &b.head[..1]].concat())
            .collect(),
        nodes,
    }
}

/// A script without accidents.
struct Oracle {
    steps: Vec<Step>,
    /// Behind each step; the first is that of a new directory.
    states: Vec<State>,
    /// All files as they are in the end if nothing is purged.
    bytes: BTreeMap<String, Vec<u8>>,
}

impl Oracle {
    fn new(seed: u64) -> Self {
        let steps = script(seed);
        let mut states = Vec::new();
        for purge in [false, true] {
            let mut opened = open_mem(&MemDisk::new(), &MemKv::new(), MAX).unwrap();
            states = vec![state(&opened)];
            for &step in &steps {
                go(&mut opened.writer, &opened.log, step, purge).unwrap();
                states.push(state(&opened));
            }
        }
        let disk = MemDisk::new();
        let mut opened = open_mem(&disk, &MemKv::new(), MAX).unwrap();
        for &step in &steps {
            go(&mut opened.writer, &opened.log, step, false).unwrap();
        }
        let bytes = files(&disk).into_iter().collect();
        Self {
            steps,
            states,
            bytes,
        }
    }

    /// Lives until `works` changes are made. Answers the disk, and which states it may be in; `None` if the script
    /// came to its end.
    fn live(&self, works: u64) -> Option<(MemDisk, MemKv, &[State])> {
        let fuse = Fuse::new();
        let disk = MemDisk::with_fuse(fuse.clone());
        let kv = MemKv::with_fuse(fuse.clone());
        fuse.set(works);
        let mut done = 0;
        if let Ok(mut opened) = open_mem(&disk, &kv, MAX) {
            done = 1;
            for &step in &self.steps {
                if go(&mut opened.writer, &opened.log, step, true).is_err() {
                    break;
                }
                done += 1;
            }
        }
        let possible = &self.states[done.max(1) - 1..(done + 1).min(self.states.len())];
        fuse.blown().then_some((disk, kv, possible))
    }
}

/// The disk after a crash: attempt 0 loses everything, 1 keeps everything, 2 tears the last sectors, 3 and 4 keep all
/// contents or all names only, 5 loses single sectors, the others mix.
fn crash(disk: &MemDisk, kv: &MemKv, attempt: u64, seed: u64) -> (MemDisk, MemKv) {
    let mut rng = rng(seed);
    let unsynced = kv.unsynced();
    let kept = match attempt {
        0 => 0,
        1..=5 => unsynced,
        _ => rng.random_range(0..=unsynced),
    };
    let disk = disk.crash_keep(|change| match (attempt, change) {
        (0, _) => Keep::Nothing,
        (1, _) => Keep::All,
        (2, _) => Keep::Noise,
        (3, Unsynced::Name { .. }) => Keep::Nothing,
        (4, Unsynced::Write { .. } | Unsynced::Truncate { .. }) => Keep::Nothing,
        (3 | 4, _) => Keep::All,
        (5, _) => Keep::Sectors(rng.random()),
        (_, Unsynced::Write { len, .. }) => match rng.random_range(0..6) {
            0 => Keep::Nothing,
            1 => Keep::Part(rng.random_range(0..=*len)),
            2 => Keep::Zeros,
            3 => Keep::Sectors(rng.random()),
            4 => Keep::Noise,
            _ => Keep::All,
        },
        _ if rng.random() => Keep::Nothing,
        _ => Keep::All,
    });
    (disk, kv.crash_keep(kept))
}

fn everything(disk: &MemDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list().unwrap().into_iter();
    names
        .map(|name| (name.clone(), disk.bytes(&name).unwrap()))
        .collect()
}

fn fingerprint(disk: &MemDisk, kv: &MemKv) -> u64 {
    let mut hasher = DefaultHasher::new();
    everything(disk).hash(&mut hasher);
    dump(kv).hash(&mut hasher);
    hasher.finish()
}

/// Tools read the index as it lies: at every moment whole lines, one number after the other.
fn check_index_as_it_lies(disk: &MemDisk) {
    let Some(index) = disk.bytes("binlog.index") else {
        return;
    };
    let text = String::from_utf8(index).unwrap();
    assert!(text.ends_with('\n'), "torn: {text:?}");
    let numbers: Vec<u64> = text
        .lines()
        .map(|line| line.strip_prefix("./binlog.").unwrap().parse().unwrap())
        .collect();
    assert!(numbers.windows(2).all(|w| w[0] + 1 == w[1]), "{numbers:?}");
}

/// The index file, the index database and the directory name the same files; no index entry leads anywhere else.
fn check_agreement(disk: &MemDisk, kv: &MemKv, opened: &Opened) {
    let infos = opened.log.files();
    let names: Vec<String> = infos.iter().map(|info| info.file.to_string()).collect();
    let index: String = names.iter().map(|name| format!("./{name}\n")).collect();
    assert_eq!(disk.bytes("binlog.index").unwrap(), index.as_bytes());
    let in_dir = disk.list().unwrap();
    let in_dir: Vec<_> = in_dir
        .iter()
        .filter(|name| name.starts_with("binlog.") && *name != "binlog.index")
        .collect();
    assert!(in_dir.iter().copied().eq(&names), "{in_dir:?}");
    let sizes: BTreeMap<u64, u64> = infos.iter().map(|i| (i.file.seq(), i.size)).collect();
    let mut segments = Vec::new();
    for (key, value) in dump(kv) {
        assert_ne!(key[0], KeyKind::Purging as u8);
        if key[0] == KeyKind::Segment as u8 {
            segments.push(u64::from_be_bytes(key[1..].try_into().unwrap()));
        }
        if (KeyKind::GtidIndex as u8..=KeyKind::TimeIndex as u8).contains(&key[0]) {
            let [seq, offset] =
                [1, 9].map(|at| u64::from_le_bytes(value[at..at + 8].try_into().unwrap()));
            assert!(offset < sizes[&seq], "{key:?} leads to {seq}:{offset}");
        }
    }
    assert!(segments.iter().eq(sizes.keys()));
}

/// Everything a reader can see is what the oracle wrote.
fn check_bytes(disk: &MemDisk, opened: &Opened, oracle: &Oracle) {
    for info in opened.log.files() {
        let name = info.file.as_str();
        let mut bytes = vec![0; info.size as usize + 10];
        let reader = opened.log.open(&info.file).unwrap();
        let n = reader.read_at(0, &mut bytes).unwrap();
        assert_eq!(n as u64, info.size);
        assert_eq!(disk.bytes(name).unwrap().len(), n, "{name} is cut");
        let whole = &oracle.bytes[name];
        assert!(whole.starts_with(&bytes[..n]), "{name} is no prefix");
        assert!(info.active || n == whole.len(), "{name} is not whole");
    }
}

/// Kept branches have their rows, and there are no others.
fn check_branches(kv: &MemKv, opened: &Opened) {
    let kept = opened.log.kept_branches().unwrap();
    for branch in &kept {
        let KeptRows::Memory(rows) = &branch.rows else {
            panic!("few rows: {branch:?}");
        };
        assert!(*rows == vec![branch.head[0]; ROWS], "{branch:?}");
    }
    let rows = |(key, _): &(Vec<u8>, Vec<u8>)| key[0] == KeyKind::BranchRows as u8;
    let pieces = dump(kv).iter().filter(|pair| rows(pair)).count();
    assert_eq!(pieces, 2 * kept.len());
}

fn check(disk: &MemDisk, kv: &MemKv, possible: &[State], oracle: &Oracle) {
    check_index_as_it_lies(disk);
    let opened = open_mem(disk, kv, MAX).unwrap();
    let found = state(&opened);
    assert!(possible.contains(&found), "{found:?} not in {possible:?}");
    let merged = opened.checkpoint.as_ref();
    assert_eq!(opened.nodes, opened.writer.nodes().unwrap());
    assert_eq!(merged.map_or(0, |c| c.last_tso.micros()), found.last_gno);
    check_agreement(disk, kv, &opened);
    check_bytes(disk, &opened, oracle);
    check_branches(kv, &opened);
    drop(opened);
    let once = (everything(disk), dump(kv));
    let opened = open_mem(disk, kv, MAX).unwrap();
    assert!(opened.truncated.is_none(), "nothing is left to do");
    assert!(
        once == (everything(disk), dump(kv)),
        "recovery changes nothing"
    );
}

/// It can be written to again, and is sound from end to end.
fn check_going_on(disk: &MemDisk, kv: &MemKv) {
    let mut opened = open_mem(disk, kv, MAX).unwrap();
    let from = opened.log.durable().last_gno + 1;
    commit(&mut opened.writer, from, from + 5);
    opened.writer.flush().unwrap();
    let report = verify_dir(disk, &VerifyOptions::default());
    assert!(report.is_clean() && report.notes.is_empty(), "{report:?}");
}

/// Recovery stops, too, after `changes` changes, and is tried again. False if it came to its end.
fn recovery_crashes(
    (disk, kv): (&MemDisk, &MemKv),
    changes: u64,
    seed: u64,
    possible: &[State],
    oracle: &Oracle,
) -> bool {
    let fuse = Fuse::new();
    // An image of its own: the caller's stays as it is.
    let (disk, kv) = (disk.crash_keep(|_| Keep::All), kv.crash_keep(usize::MAX));
    let (disk, kv) = (disk.fused(&fuse), kv.fused(&fuse));
    fuse.set(changes);
    if open_mem(&disk, &kv, MAX).is_ok() {
        return false;
    }
    let (disk, kv) = crash(&disk, &kv, 6, seed);
    check(&disk, &kv, possible, oracle);
    true
}

#[test]
fn every_state_a_crash_can_leave_recovers() {
    let start = Instant::now();
    let (mut checked, mut tried, mut scripts, mut points, mut twice) = (0, 0, 0, 0, 0);
    while checked < STATES {
        let oracle = Oracle::new(scripts);
        let mut seen = HashSet::new();
        for works in 0.. {
            let Some((disk, kv, possible)) = oracle.live(works) else {
                break;
            };
            points += 1;
            for attempt in 0..TRIES {
                let seed = scripts << 40 | works << 16 | attempt;
                let (disk, kv) = crash(&disk, &kv, attempt, seed);
                tried += 1;
                if !seen.insert(fingerprint(&disk, &kv)) {
                    continue;
                }
                checked += 1;
                if checked % 8 == 0 {
                    let crashed = recovery_crashes((&disk, &kv), seed % 5, seed, possible, &oracle);
                    twice += u64::from(crashed);
                }
                check(&disk, &kv, possible, &oracle);
                if checked % 8 == 4 {
                    check_going_on(&disk, &kv);
                }
            }
        }
        scripts += 1;
    }
    println!(
        "{checked} different states ({tried} tried) at {points} points of {scripts} scripts, {twice} crashes of recovery, {:?}",
        start.elapsed()
    );
    assert!(twice > 100, "{twice}");
}
