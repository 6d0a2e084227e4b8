//! What the server counted since it started.
//!
//! In: increments from connections. Out: a snapshot for metrics and SHOW STATUS.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// A snapshot; all counts are since the start of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Connections refused because there were too many.
    pub connections_refused: u64,
    /// Clients that failed to authenticate or to complete the handshake.
    pub connections_aborted: u64,
    /// Commands handled.
    pub commands: u64,
    /// Dumps started.
    pub dumps: u64,
    /// Binlog events sent.
    pub events_sent: u64,
    /// Acknowledgements of replicas with semi-synchronous replication.
    pub acknowledgements: u64,
    /// Bytes sent to clients.
    pub bytes_sent: u64,
    /// Errors sent to clients, by MySQL's error number.
    pub errors: BTreeMap<u16, u64>,
}

/// The counters themselves.
#[derive(Debug, Default)]
pub(crate) struct LiveCounters {
    pub(crate) connections: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) connections_aborted: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) dumps: AtomicU64,
    pub(crate) events_sent: AtomicU64,
    pub(crate) acknowledgements: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    errors: Mutex<BTreeMap<u16, u64>>,
}

/// Adds one.
pub(crate) fn bump(counter: &AtomicU64) {
    add(counter, 1);
}

/// Adds `n`.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl LiveCounters {
    /// Counts an error sent to a client.
    pub(crate) fn error(&self, code: u16) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        *errors.entry(code).or_default() += 1;
    }

    /// The counts now.
    pub(crate) fn snapshot(&self) -> Counters {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            connections: value(&self.connections),
            connections_refused: value(&self.connections_refused),
            connections_aborted: value(&self.connections_aborted),
            commands: value(&self.commands),
            dumps: value(&self.dumps),
            events_sent: value(&self.events_sent),
            acknowledgements: value(&self.acknowledgements),
            bytes_sent: value(&self.bytes_sent),
            errors: self
                .errors
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }
}
