//! A way past transactions that the client has, as an index gives it, and the check that it led where it should.
//!
//! In: a place in a file, and the first event found there. Out: whether what lies before that event may be left out. An index that is
//! wrong costs time; it can not make a client miss a transaction.

use tributary_binlog::{ChecksumAlg, EventType, GtidEvent, RawEvent};

/// Where a transaction begins before which the client has all of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Jump {
    /// Position of that transaction.
    pub to: u64,
    /// Number of the first transaction the client lacks.
    pub first_missing: u64,
}

/// A jump of which the first event is not looked at yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Landing {
    /// Where the jump began.
    pub(super) back: u64,
    pub(super) first_missing: u64,
}

impl Landing {
    /// Whether a transaction begins with `event` that is not beyond the first one the client lacks. Numbers rise in a file without a
    /// gap, so then nothing that it lacks was left out.
    pub(super) fn is_right(&self, event: &[u8], alg: ChecksumAlg) -> bool {
        let gtid = RawEvent::parse(event, alg)
            .ok()
            .filter(|e| e.header.event_type == EventType::GTID)
            .and_then(|e| GtidEvent::parse(EventType::GTID, e.body).ok()?.gtid);
        gtid.is_some_and(|gtid| gtid.gno.get() <= self.first_missing)
    }
}
