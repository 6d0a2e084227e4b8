//! A client that comes and goes, and names the GTIDs it has. In: the log. Out: an error if it does not get exactly what it
//! misses, or is sent away for no reason.

use anyhow::{Context, Result, ensure};
use tributary_binlog::{ChecksumAlg, EventReader, EventType, Gno, GtidEvent, GtidSet, MAGIC, Tag};
use tributary_store::{FileInfo, GlobalLog, StartError};

use crate::faults::{Counts, Fault};
use crate::rng::Rng;

/// Connects with the first `have` transactions, reads to the end.
pub(crate) fn visit(log: &GlobalLog, rng: &mut Rng, counts: &mut Counts) -> Result<()> {
    let (files, last) = (log.files(), log.durable().last_gno);
    let have = rng.range(0, last + 1);
    let set = first(log, have);
    let purged = log.gtid_purged();
    let start = match log.start_file(&set) {
        Err(StartError::Purged { .. }) => {
            counts.hit(Fault::ClientPurged);
            ensure!(!purged.is_subset(&set), "sent away without a reason");
            return Ok(());
        }
        other => other.context("a client that has a part")?,
    };
    ensure!(purged.is_subset(&set), "{have} and purged {purged}");
    counts.hit(Fault::ClientByGtid);
    ensure!(
        start.previous_gtids.is_subset(&set),
        "sent to {} behind what it misses: it has {have}",
        start.file
    );
    let mut next = start.previous_gtids.count();
    for info in files.iter().filter(|f| f.file >= start.file) {
        ensure!(
            info.previous_gtids.is_subset(&set) == (info.file == start.file),
            "{} would have been the place to start, too",
            info.file
        );
        for gno in numbers(log, info)? {
            next += 1;
            ensure!(gno == next, "GTID {gno} where {next} was due");
        }
    }
    ensure!(next == last, "read up to {next} of {last}");
    if let Some(place) = log.locate_gno(have + 1)? {
        let info = log.find(place.file.as_str()).context("a file of the log")?;
        let before = numbers_before(log, &info, place.offset)?;
        ensure!(before <= have, "the index leads behind GTID {}", have + 1);
    }
    Ok(())
}

/// The service's GTIDs up to `last`.
pub(crate) fn first(log: &GlobalLog, last: u64) -> GtidSet {
    let mut set = GtidSet::new();
    if let (Some(first), Some(last)) = (Gno::new(1), Gno::new(last)) {
        set.add_interval(log.server_uuid(), Tag::EMPTY, first, last);
    }
    set
}

fn bytes(log: &GlobalLog, info: &FileInfo) -> Result<Vec<u8>> {
    let mut bytes = vec![0; info.size as usize];
    let n = log.open(&info.file)?.read_at(0, &mut bytes)?;
    ensure!(n == bytes.len(), "{}: {n} bytes", info.file);
    Ok(bytes)
}

/// The numbers of the transactions in a file, with the places where they begin.
fn places(bytes: &[u8]) -> Result<Vec<(u64, u64)>> {
    let rest = bytes.get(MAGIC.len()..).context("a binlog")?;
    let mut events = EventReader::new(rest, ChecksumAlg::None);
    let mut out = Vec::new();
    loop {
        let at = (events.offset() + MAGIC.len()) as u64;
        let Some(event) = events.next()? else {
            return Ok(out);
        };
        if event.header.event_type == EventType::GTID {
            let gtid = GtidEvent::parse(EventType::GTID, event.body)?.gtid;
            out.push((gtid.context("anonymous")?.gno.get(), at));
        }
    }
}

fn numbers(log: &GlobalLog, info: &FileInfo) -> Result<Vec<u64>> {
    Ok(places(&bytes(log, info)?)?
        .into_iter()
        .map(|p| p.0)
        .collect())
}

/// The number of the last transaction before a place, which must be the beginning of one.
fn numbers_before(log: &GlobalLog, info: &FileInfo, place: u64) -> Result<u64> {
    let all = places(&bytes(log, info)?)?;
    let found = all.iter().find(|(_, at)| *at == place);
    let (gno, _) = found.with_context(|| format!("no transaction begins at {place}"))?;
    Ok(gno - 1)
}
