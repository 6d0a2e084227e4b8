//! Dumping the binlog: where to start, what to send, how it is framed.
//!
//! In: a dump command, the session's wishes, the log's files, and blocks of file bytes. Out: packets. A stream starts with
//! an artificial rotate and the file's format description, follows the bytes of the file, leaves out the transactions the
//! client has, and never changes a byte of an event in between, because clients count positions in bytes received.
//! Rules: `sql/rpl_binlog_sender.cc` of MySQL 9.7.

mod artificial;
mod jump;
mod large;
mod plan;
mod stream;

use std::time::Duration;

pub(crate) use jump::Jump;
pub(crate) use large::LargeEvent;
pub(crate) use plan::{DumpStart, plan};
pub(crate) use stream::{DumpStream, Fed};

use super::session::state::SessionState;
use crate::wire::command::{DUMP_HEARTBEAT_V2, DUMP_NON_BLOCK, DumpCommand};

/// Shortest heartbeat period a client can have; MySQL's own least is 1 ms.
const HEARTBEAT_MIN: Duration = Duration::from_millis(1);

/// What the client said of checksums before it asked for the binlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChecksumWish {
    /// Nothing: it must not get events with checksums.
    Unaware,
    /// `CRC32`: the first artificial rotate has one, too.
    Crc32,
    /// `NONE`, `ALL` or anything else: it knows checksums; the file's events keep theirs.
    Aware,
}

/// What a session's variables mean for its dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DumpOptions {
    /// Checksum awareness.
    pub checksum: ChecksumWish,
    /// Time without an event after which a heartbeat is due; `None` = no heartbeats.
    pub heartbeat: Option<Duration>,
    /// The session set `@mariadb_slave_capability`: flag 0x2 then means "annotate rows", and heartbeats are version 1.
    pub mariadb: bool,
    /// UUID of the replica, if it said.
    pub uuid: Option<String>,
    /// Semi-synchronous replication: each packet has two bytes more, and the client acknowledges what it receives.
    pub semi_sync: bool,
}

/// Everything a dump is made from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DumpRequest {
    /// The command.
    pub command: DumpCommand,
    /// The session's wishes.
    pub options: DumpOptions,
}

impl DumpOptions {
    /// Reads the session's variables; `@source_*` come before `@master_*`.
    pub(crate) fn of(state: &SessionState, semi_sync_spoken: bool) -> Self {
        let vars = &state.vars;
        let checksum = match vars.user_text(&["source_binlog_checksum", "master_binlog_checksum"]) {
            None => ChecksumWish::Unaware,
            Some(text) if text.eq_ignore_ascii_case("CRC32") => ChecksumWish::Crc32,
            Some(_) => ChecksumWish::Aware,
        };
        let period = vars.user_text(&["source_heartbeat_period", "master_heartbeat_period"]);
        let nanos = period
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|n| *n > 0.0);
        Self {
            checksum,
            heartbeat: nanos.map(|n| Duration::from_nanos(n as u64).max(HEARTBEAT_MIN)),
            mariadb: vars.user("mariadb_slave_capability").is_some(),
            uuid: state.replica_uuid(),
            semi_sync: semi_sync_spoken && wants_semi_sync(state),
        }
    }
}

/// The variable is `rpl_semi_sync_slave` before MySQL 8.0.26 and in MariaDB.
fn wants_semi_sync(state: &SessionState) -> bool {
    let wish = ["rpl_semi_sync_replica", "rpl_semi_sync_slave"];
    let number = state
        .vars
        .user_text(&wish)
        .and_then(|t| t.parse::<i64>().ok());
    number.is_some_and(|n| n != 0)
}

impl DumpRequest {
    /// True when the client wants an EOF at the end instead of waiting.
    pub(crate) fn non_blocking(&self) -> bool {
        self.command.flags & DUMP_NON_BLOCK != 0 || self.command.server_id == 0
    }

    /// True when heartbeats are of version 2.
    pub(crate) fn heartbeat_v2(&self) -> bool {
        self.command.flags & DUMP_HEARTBEAT_V2 != 0 && !self.options.mariadb
    }
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod tests;
