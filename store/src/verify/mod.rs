//! Checks a directory of binlogs. In: a directory, ours or a MySQL server's. Out: a [`Report`] of everything that is wrong.
//!
//! Checked: the index file (every file named exists, none is left out, numbers follow one another), and of every file
//! the magic, each event's length, CRC and `end_log_pos`, and the rules of `core::audit`: PREVIOUS_GTIDS, GTID numbers,
//! `transaction_length`, the logical clock, and the ending.
//!
//! The last file may be one that is being written: bytes at its end that are no whole transaction are a note, unless
//! the committed end is known and they lie before it.

mod file;

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use tributary_binlog::{BinlogFile, GtidSet};
use tributary_flow::{KeptBranch, KeptRows};

use crate::{
    OpenError, branches,
    core::{audit::Audit, index_file},
    disk::Disk,
    files::read_text,
    kv::{Kv, checkpoint::CheckpointRecord, meta::Meta, segment::Segment},
};

/// After so many faults the rest is only counted.
const FAULTS_MAX: usize = 1000;

/// More files than this are not compared.
const FILES_MAX: usize = 1 << 30;

/// How to check.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The index file.
    pub index_name: String,
    /// The committed end, if it is known (see [`committed_end`]): every byte before it must be right, what lies behind it
    /// is not looked at.
    pub committed_end: Option<(BinlogFile, u64)>,
    /// The files as the index database knows them, if it could be read (see [`known_files`]).
    pub known: Option<Vec<KnownFile>>,
    /// What is wrong with the kept branches in the index database (see [`kept_branches`]).
    pub kept: Vec<String>,
    /// Whether the numbers of each UUID must follow one another. True for our own files and for a server that makes
    /// its own GTIDs; false for members of a replication group, which take numbers in blocks.
    pub contiguous: bool,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            index_name: "binlog.index".to_owned(),
            committed_end: None,
            known: None,
            kept: Vec::new(),
            contiguous: true,
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Everything that is wrong, up to a limit.
    pub faults: Vec<Fault>,
    /// Faults beyond the limit.
    pub more_faults: u64,
    /// What is worth knowing and not wrong: an unfinished end of the last file.
    pub notes: Vec<Fault>,
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Events read.
    pub events: u64,
    /// Transactions read.
    pub transactions: u64,
    /// All GTIDs in the files and before them.
    pub gtid_executed: String,
}

/// One thing, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Name of the file.
    pub file: String,
    /// Offset of the event, in bytes.
    pub pos: u64,
    /// What is wrong.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.pos, self.detail)
    }
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    fn fault(&mut self, file: impl fmt::Display, pos: u64, detail: impl Into<String>) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault {
                file: file.to_string(),
                pos,
                detail: detail.into(),
            });
        } else {
            self.more_faults += 1;
        }
    }

    fn note(&mut self, file: &BinlogFile, pos: u64, detail: impl Into<String>) {
        self.notes.push(Fault {
            file: file.to_string(),
            pos,
            detail: detail.into(),
        });
    }
}

/// The committed end of one of our own directories, as its index database has it; `None` if nothing was committed.
pub fn committed_end(kv: &dyn Kv) -> Result<Option<(BinlogFile, u64)>, OpenError> {
    let Some(meta) = kv.get(&Meta::key())? else {
        return Ok(None);
    };
    let meta = Meta::decode(&meta)?;
    let Some(record) = kv.get(&CheckpointRecord::key())? else {
        return Ok(None);
    };
    let record = CheckpointRecord::decode(&record)?;
    Ok(Some((
        BinlogFile::new(&meta.base_name, record.seq),
        record.offset,
    )))
}

/// A finished file as the index database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Its name.
    pub file: BinlogFile,
    /// Its size in bytes.
    pub size: u64,
}

/// The finished files of one of our own directories, as its index database has them.
pub fn known_files(kv: &dyn Kv) -> Result<Vec<KnownFile>, OpenError> {
    let Some(meta) = kv.get(&Meta::key())? else {
        return Ok(Vec::new());
    };
    let meta = Meta::decode(&meta)?;
    let (from, to) = Segment::range();
    let mut files = Vec::new();
    for (key, value) in kv.scan(&from, &to, FILES_MAX)? {
        let segment = Segment::decode(&key, &value)?;
        if let Some(size) = segment.sealed {
            let file = BinlogFile::new(&meta.base_name, segment.seq);
            files.push(KnownFile { file, size });
        }
    }
    Ok(files)
}

/// What is wrong with the branches that the index database of one of our own directories keeps: rows that are missing, and
/// branches that its checkpoint does not speak of, or speaks of in vain. Reads all rows.
pub fn kept_branches(kv: &dyn Kv) -> Result<Vec<String>, OpenError> {
    let record = kv.get(&CheckpointRecord::key())?;
    let record = record.map(|value| CheckpointRecord::decode(&value));
    let checkpoint = record.transpose()?.and_then(|record| record.merger);
    let mut expected: BTreeMap<String, GtidSet> = BTreeMap::new();
    for (node, progress) in checkpoint.iter().flat_map(|c| &c.nodes) {
        expected.insert(node.clone(), progress.kept.clone());
    }
    let mut faults = Vec::new();
    for saved in branches::list(kv)? {
        let name = format!("the kept branch {} of node {}", saved.xid, saved.node);
        let rows = branches::all_rows(kv, &saved)?;
        if rows != saved.rows {
            faults.push(format!("{name} has {rows} of {} bytes of rows", saved.rows));
        }
        let branch = KeptBranch {
            id: saved.id,
            node: saved.node.clone(),
            xid: saved.xid,
            head: saved.head,
            rows: KeptRows::Memory(Default::default()),
        };
        match branch.into_prepare() {
            Err(error) => faults.push(error.to_string()),
            Ok(txn) => {
                let mut one = GtidSet::new();
                one.add(txn.gtid);
                let kept = expected.entry(saved.node).or_default();
                if !kept.contains(&txn.gtid) {
                    faults.push(format!("{name} ({}) is not in the checkpoint", txn.gtid));
                }
                kept.subtract(&one);
            }
        }
    }
    for (node, missing) in expected.iter().filter(|(_, set)| !set.is_empty()) {
        let gtids = missing.to_text_oneline();
        faults.push(format!(
            "the branches of node {node} prepared as {gtids} should be kept and are not there"
        ));
    }
    Ok(faults)
}

/// Compares the index database with the index file and the directory.
fn compare(disk: &dyn Disk, options: &VerifyOptions, files: &[BinlogFile], report: &mut Report) {
    let Some(known) = &options.known else { return };
    // What a running service has purged since the database was read is in neither.
    let oldest = files.first();
    let known = known.iter().filter(|k| oldest.is_none_or(|o| k.file >= *o));
    let known: BTreeMap<_, _> = known.map(|k| (&k.file, k.size)).collect();
    for (file, size) in &known {
        if !files.contains(file) {
            report.fault(file, 0, "the index database has it, the index file has not");
        }
        if let Ok(stat) = disk.stat(file.as_str())
            && stat.len != *size
        {
            let text = format!(
                "it has {} bytes, and had {size} when it was finished",
                stat.len
            );
            report.fault(file, stat.len.min(*size), text);
        }
    }
    let active = options.committed_end.as_ref().map(|(file, _)| file);
    for file in files {
        if !known.contains_key(file) && Some(file) != active {
            report.fault(file, 0, "the index database does not know it");
        }
    }
}

/// Checks everything in `disk`. Reads every byte; takes no lock and changes nothing, and a service may run on the directory
/// all the while.
pub fn verify_dir(disk: &dyn Disk, options: &VerifyOptions) -> Report {
    let mut report = Report::default();
    for detail in &options.kept {
        report.fault("index database", 0, detail);
    }
    let files = index(disk, options, &mut report);
    compare(disk, options, &files, &mut report);
    let mut audit = Audit::new(options.contiguous);
    for (i, file) in files.iter().enumerate() {
        let next = files.get(i + 1);
        let committed = options.committed_end.as_ref();
        let committed = committed
            .filter(|(end, _)| end == file)
            .map(|(_, offset)| *offset);
        file::verify(
            disk,
            &file::Subject {
                file,
                next,
                committed,
                index_name: &options.index_name,
            },
            &mut audit,
            &mut report,
        );
    }
    report.transactions = audit.transactions;
    report.gtid_executed = audit.executed().to_text_oneline();
    report
}

/// The files to read, in order, after a look at the index and the directory.
fn index(disk: &dyn Disk, options: &VerifyOptions, report: &mut Report) -> Vec<BinlogFile> {
    let name = &options.index_name;
    let parsed = read_text(disk, name).map_err(|e| e.to_string());
    let parsed = parsed.and_then(|text| index_file::parse(&text).map_err(|e| e.to_string()));
    let mut files = parsed.unwrap_or_else(|e| {
        report.fault(name, 0, e);
        Vec::new()
    });
    for (file, next) in files.iter().zip(files.iter().skip(1)) {
        if file.next() != *next {
            report.fault(name, 0, format!("{next} follows {file}"));
        }
    }
    if let Some((end, _)) = &options.committed_end {
        // What lies behind the commit is nobody's: recovery removes it.
        files.retain(|file| file <= end);
        if files.last() != Some(end) {
            report.fault(name, 0, format!("it lacks {end}, the committed end"));
        }
    }
    let base = match files.first() {
        Some(file) => file.base(),
        None => name.strip_suffix(crate::INDEX_SUFFIX).unwrap_or(name),
    };
    let in_dir = disk.list().unwrap_or_else(|e| {
        report.fault(disk.describe(), 0, e.to_string());
        Vec::new()
    });
    let behind_end = |file: &BinlogFile| {
        options
            .committed_end
            .as_ref()
            .is_some_and(|(end, _)| file > end)
    };
    let mut unnamed: Vec<BinlogFile> = in_dir
        .iter()
        .filter_map(|name| BinlogFile::parse(name).ok())
        .filter(|file| file.base() == base && !files.contains(file) && !behind_end(file))
        .collect();
    unnamed.sort();
    for file in &unnamed {
        report.fault(file, 0, format!("the file is not in {name}"));
    }
    if files.is_empty() {
        return unnamed;
    }
    files
}
