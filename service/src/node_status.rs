//! What the status shows of one node.
//!
//! In: what its collector and the merger tell. Out: [`NodeStatus`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tributary_collector::{NodeState, NodeStatus as CollectorStatus, Trouble};
use tributary_merger::MergerStatus;

use crate::status::{NodeStatus, TroubleStatus};
use crate::view::{NodeView, Totals};

/// The status of `node`. `before` is what earlier pipelines have done.
pub(crate) fn of(node: &NodeView, merger: &MergerStatus, before: &Totals) -> NodeStatus {
    let c = node.collector.borrow();
    let merged = (merger.nodes.iter()).find(|n| n.name == node.name);
    let merged = merged.cloned().unwrap_or_default();
    let (state, error) = describe(&c.state);
    let newest_event_age_ms = age_ms(&c);
    // A heartbeat behind the newest event: the node has nothing more to send.
    let idle = c
        .last_heartbeat
        .is_some_and(|at| at > since_epoch(c.last_event_timestamp));
    let (transactions, bytes) = before.node(&node.name);
    NodeStatus {
        name: node.name.clone(),
        address: match c.server.is_empty() {
            true => node.servers.join(", "),
            false => c.server.clone(),
        },
        servers: node.servers.clone(),
        server_version: c.version.clone(),
        state: state.to_owned(),
        error,
        troubles: c.troubles.iter().map(trouble).collect(),
        last_failure: c.last_failure.as_ref().map(trouble),
        position: merged.position.to_string(),
        gtids: c.received.clone(),
        watermark_tso: merged.watermark.micros(),
        unresolved_prepares: merged.unresolved,
        transactions: transactions + c.transactions,
        bytes: bytes + c.bytes,
        bytes_in_flight: c.in_flight,
        paused: c.paused,
        semi_sync_acked: c.acked.map(|pos| pos.to_string()),
        lag_ms: newest_event_age_ms.map(|age| if idle { 0 } else { age }),
        newest_event_age_ms,
    }
}

fn trouble(t: &Trouble) -> TroubleStatus {
    let since = t.since.duration_since(UNIX_EPOCH);
    TroubleStatus {
        name: t.kind.name().to_owned(),
        what: t.text.clone(),
        advice: t.kind.advice().to_owned(),
        since_ms: since.map_or(0, |since| since.as_millis() as u64),
    }
}

/// How long ago the newest event was written, by its own timestamp; `None` before the first.
fn age_ms(c: &CollectorStatus) -> Option<u64> {
    let age = SystemTime::now().duration_since(since_epoch(c.last_event_timestamp));
    (c.last_event_timestamp > 0).then(|| age.map_or(0, |age| age.as_millis() as u64))
}

fn since_epoch(seconds: u32) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.into())
}

fn describe(state: &NodeState) -> (&'static str, Option<String>) {
    match state {
        NodeState::Connecting => ("connecting", None),
        NodeState::Checking => ("checking", None),
        NodeState::Streaming => ("streaming", None),
        NodeState::Retrying { error, attempt, .. } => (
            "retrying",
            Some(format!("{error} (failed {attempt} times)")),
        ),
        NodeState::Halted { error } => ("halted", Some(error.to_string())),
        NodeState::Stopped => ("stopped", None),
    }
}
