//! Where a dump starts.
//!
//! In: the request and the log's files. Out: a file and a position, or MySQL's refusal.

use tributary_binlog::{GtidSet, Tag};
use tributary_store::{FileInfo, GlobalLog, StartError};

use super::{DumpRequest, Jump};
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
    pub jump: Option<Jump>,
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
/// cannot be read, the file is read from its start. The log's numbers have no gap: whoever has all below one needs nothing before it.
fn jump(set: &GtidSet, file: &FileInfo, log: &GlobalLog) -> Option<Jump> {
    let own = (log.server_uuid(), Tag::EMPTY);
    let (.., intervals) = set.iter().find(|(sid, tag, _)| (*sid, *tag) == own)?;
    let first_missing = intervals.first().filter(|i| i.start == 1)?.end_exclusive;
    let place = log.locate_gno(first_missing).ok()??;
    (place.file == file.file).then_some(Jump {
        to: place.offset,
        first_missing,
    })
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
