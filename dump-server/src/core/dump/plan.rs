//! Where a dump starts.
//!
//! In: the request and the log's files. Out: a file and a position, or MySQL's refusal.

use tributary_binlog::{Gno, Gtid, GtidSet, Tag};
use tributary_store::{FileInfo, GlobalLog, StartError};

use super::DumpRequest;
use crate::wire::errors::{self, SqlError, dump_text};

/// First position of events in a file, behind the magic number.
pub(super) const FIRST_EVENT: u64 = 4;

/// A dump's beginning.
#[derive(Debug, Clone)]
pub(crate) struct DumpStart {
    /// The file to start in.
    pub file: FileInfo,
    /// Position of the first event sent, after the format description.
    pub position: u64,
    /// The file as the client named it; empty when it did not.
    pub requested: String,
    /// Transactions the client has, when it asked by GTID.
    pub skip: Option<GtidSet>,
    /// Where a transaction begins before which the client has all of the file: what lies between is not read.
    pub jump: Option<u64>,
}

/// Finds the start.
///
/// # Errors
/// 1236 with the text MySQL gives: unknown file, position outside the file, purged transactions, a client ahead of
/// this server.
pub(crate) fn plan(request: &DumpRequest, log: &GlobalLog) -> Result<DumpStart, SqlError> {
    let command = &request.command;
    let requested = String::from_utf8_lossy(&command.file).into_owned();
    let mut position = command.position;
    let file = match (requested.as_str(), &command.gtids) {
        ("", Some(set)) => {
            // The file is ours to choose, so a position in it cannot be the client's.
            position = FIRST_EVENT;
            log.start_file(set).map_err(|e| refusal(&e, set))?
        }
        ("", None) => log.files().into_iter().next().ok_or_else(unknown_file)?,
        (name, _) => log.find(name).ok_or_else(unknown_file)?,
    };
    if position < FIRST_EVENT {
        return Err(errors::dump_fatal(dump_text::BEFORE_START));
    }
    if position > file.size {
        return Err(errors::dump_fatal(dump_text::PAST_END));
    }
    let jump = command.gtids.as_ref().and_then(|set| jump(set, &file, log));
    Ok(DumpStart {
        jump: jump.filter(|_| position == FIRST_EVENT),
        file,
        position,
        requested,
        skip: command.gtids.clone(),
    })
}

/// As near to the client's first missing transaction as the index leads, if that is in `file`. Without an index, or with one that
/// cannot be read, the file is read from its start.
fn jump(set: &GtidSet, file: &FileInfo, log: &GlobalLog) -> Option<u64> {
    let (sid, tag) = (log.server_uuid(), Tag::EMPTY);
    let has = |gno| set.contains(&Gtid { sid, tag, gno });
    let last = set.last_gno(sid, tag)?;
    // A client that has some transactions and lacks earlier ones is served from the start.
    let mut all = GtidSet::new();
    all.add_interval(sid, tag, Gno::new(1)?, last);
    if !has(last) || !all.is_subset(set) {
        return None;
    }
    let place = log.locate_gno(last.get() + 1).ok()??;
    (place.file == file.file).then_some(place.offset)
}

fn unknown_file() -> SqlError {
    errors::dump_fatal(dump_text::UNKNOWN_FILE)
}

fn refusal(error: &StartError, sent: &GtidSet) -> SqlError {
    errors::dump_fatal(match error {
        StartError::Purged { missing } => {
            dump_text::purged(&sent.to_string(), &missing.to_string())
        }
        StartError::AheadOfSource { .. } => dump_text::AHEAD.to_owned(),
        StartError::NoFiles => dump_text::UNKNOWN_FILE.to_owned(),
    })
}
