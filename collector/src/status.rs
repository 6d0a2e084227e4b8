//! What a collector shows of itself. In: what it does. Out: [`NodeStatus`] in a watch channel, at most four times a
//! second unless the state changes.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;
use tributary_binlog::GtidSet;
use tributary_flow::{NodeId, SourcePos};

use crate::{core::assemble::Seen, error::CollectorError};

const INTERVAL: Duration = Duration::from_millis(250);

/// What a collector is doing.
#[derive(Debug, Clone)]
pub enum NodeState {
    /// Reaching the node and logging in.
    Connecting,
    /// Comparing the node's settings and GTID sets with what is needed.
    Checking,
    /// Receiving the binlog.
    Streaming,
    /// Waiting to try again.
    Retrying {
        /// What failed.
        error: Arc<CollectorError>,
        /// Since when nothing could be read.
        since: SystemTime,
        /// Attempts that failed since then.
        attempt: u32,
        /// When the next one begins.
        next_try: SystemTime,
    },
    /// Stopped until an operator has acted; see [`crate::CollectorHandle::retry_now`].
    Halted {
        /// Why.
        error: Arc<CollectorError>,
    },
    /// Told to stop.
    Stopped,
}

/// A collector as seen from outside.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its version, once it was reached.
    pub version: String,
    /// What the collector is doing.
    pub state: NodeState,
    /// End of the last event that was received.
    pub position: SourcePos,
    /// GTIDs that were received or lay before the start, on one line.
    pub received: String,
    /// Bytes of events since the collector was started.
    pub bytes: u64,
    /// Events since then.
    pub events: u64,
    /// Whole transactions since then.
    pub transactions: u64,
    /// Header timestamp of the newest transaction, seconds since the epoch; 0 = none yet.
    pub last_event_timestamp: u32,
    /// When the node last said that it has nothing to send.
    pub last_heartbeat: Option<SystemTime>,
    /// Bytes received that the stages behind have not let go of.
    pub in_flight: usize,
    /// Whether the socket is not read because too much is in flight.
    pub paused: bool,
}

/// The sending side.
pub(crate) struct StatusBoard {
    sender: watch::Sender<NodeStatus>,
    now: NodeStatus,
    /// Counters of earlier connections.
    before: Seen,
    published: Instant,
    dirty: bool,
}

impl StatusBoard {
    pub(crate) fn new(node: NodeId, name: &str) -> (Self, watch::Receiver<NodeStatus>) {
        let now = NodeStatus {
            node,
            name: name.to_owned(),
            version: String::new(),
            state: NodeState::Connecting,
            position: SourcePos::default(),
            received: String::new(),
            bytes: 0,
            events: 0,
            transactions: 0,
            last_event_timestamp: 0,
            last_heartbeat: None,
            in_flight: 0,
            paused: false,
        };
        let (sender, receiver) = watch::channel(now.clone());
        let board = Self {
            sender,
            now,
            before: Seen::default(),
            published: Instant::now(),
            dirty: false,
        };
        (board, receiver)
    }

    pub(crate) fn state(&mut self, state: NodeState) {
        self.now.state = state;
        self.publish();
    }

    pub(crate) fn version(&mut self, version: &str) {
        version.clone_into(&mut self.now.version);
    }

    pub(crate) fn heartbeat(&mut self) {
        self.now.last_heartbeat = Some(SystemTime::now());
        self.dirty = true;
    }

    pub(crate) fn paused(&mut self, paused: bool) {
        if self.now.paused != paused {
            self.now.paused = paused;
            self.publish();
        }
    }

    /// Counters of the current connection.
    pub(crate) fn seen(&mut self, seen: Seen, position: SourcePos, in_flight: usize) {
        self.now.bytes = self.before.bytes + seen.bytes;
        self.now.events = self.before.events + seen.events;
        self.now.transactions = self.before.transactions + seen.transactions;
        if seen.timestamp != 0 {
            self.now.last_event_timestamp = seen.timestamp;
        }
        self.now.position = position;
        self.now.in_flight = in_flight;
        self.dirty = true;
    }

    /// The current connection has ended: its counters stay.
    pub(crate) fn settle(&mut self, seen: Seen) {
        self.before.bytes += seen.bytes;
        self.before.events += seen.events;
        self.before.transactions += seen.transactions;
    }

    pub(crate) fn received(&mut self, received: &GtidSet) {
        self.now.received = received.to_text_oneline();
        self.publish();
    }

    /// Whether something changed that is not visible yet.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// How long until it may be made visible.
    pub(crate) fn due_in(&self) -> Duration {
        INTERVAL.saturating_sub(self.published.elapsed())
    }

    /// Makes changes visible if the last time is long enough ago.
    pub(crate) fn refresh(&mut self, received: &GtidSet) {
        if self.dirty && self.due_in().is_zero() {
            self.received(received);
        }
    }

    fn publish(&mut self) {
        self.sender.send_replace(self.now.clone());
        self.published = Instant::now();
        self.dirty = false;
    }
}
