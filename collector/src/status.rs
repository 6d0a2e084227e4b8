//! What a collector shows of itself. In: what it does. Out: [`NodeStatus`] in a watch channel, at most four times a
//! second unless the state changes. Troubles that are seen beside the stream come from another task, through [`Notes`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;
use tributary_binlog::GtidSet;
use tributary_flow::{NodeId, SourcePos};

use crate::{
    core::{assemble::Seen, trouble::TroubleKind},
    error::CollectorError,
};

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

/// Something is wrong with a node, though it may be read all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Its name and what to do.
    pub kind: TroubleKind,
    /// What was seen.
    pub text: String,
    /// Since when.
    pub since: SystemTime,
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
    /// What is wrong, the gravest first; empty when nothing is. The error of a node that is retried or halted is the first.
    pub troubles: Vec<Trouble>,
    /// What ended the last connection; stays after the node has recovered.
    pub last_failure: Option<Trouble>,
    /// `host:port` of the server that is read, or was last.
    pub server: String,
    /// Up to where a semi-synchronous node was told that its transactions are safe; `None` if it does not ask.
    pub acked: Option<SourcePos>,
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

/// Troubles by kind: the state's own, and what was noted beside it.
#[derive(Debug, Default)]
struct Troubles {
    own: Option<Trouble>,
    noted: BTreeMap<TroubleKind, Trouble>,
}

impl Troubles {
    fn list(&self) -> Vec<Trouble> {
        let own = self.own.iter();
        let noted = self.noted.values().rev();
        let noted = noted.filter(|t| self.own.as_ref().is_none_or(|own| own.kind != t.kind));
        own.chain(noted).cloned().collect()
    }
}

/// Where troubles are noted, from any task.
#[derive(Debug, Clone)]
pub(crate) struct Notes {
    node: String,
    troubles: Arc<Mutex<Troubles>>,
    sender: watch::Sender<NodeStatus>,
}

impl Notes {
    /// A trouble begins, or goes on with another text.
    pub(crate) fn begin(&self, kind: TroubleKind, text: String) {
        let changed = self.change(|troubles| {
            let before = troubles.noted.get(&kind);
            if before.is_some_and(|t| t.text == text) {
                return false;
            }
            let new = before.is_none();
            let since = before.map_or_else(SystemTime::now, |t| t.since);
            troubles.noted.insert(
                kind,
                Trouble {
                    kind,
                    text: text.clone(),
                    since,
                },
            );
            new
        });
        if changed {
            let (node, advice) = (&self.node, kind.advice());
            tracing::warn!(
                node,
                trouble = kind.name(),
                what = text,
                advice,
                "trouble with the node"
            );
        }
    }

    /// It is over, if there was any.
    pub(crate) fn end(&self, kind: TroubleKind) {
        if self.change(|troubles| troubles.noted.remove(&kind).is_some()) {
            tracing::info!(
                node = self.node,
                trouble = kind.name(),
                "the trouble is over"
            );
        }
    }

    /// All noted so far is over, but for these.
    pub(crate) fn keep_only(&self, kinds: &[TroubleKind]) {
        self.change(|troubles| {
            troubles.noted.retain(|kind, _| kinds.contains(kind));
            true
        });
    }

    fn change(&self, change: impl FnOnce(&mut Troubles) -> bool) -> bool {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut troubles);
        let list = troubles.list();
        self.sender.send_if_modified(|status| {
            let differs = status.troubles != list;
            status.troubles = list;
            differs
        });
        changed
    }
}

/// The sending side.
pub(crate) struct StatusBoard {
    notes: Notes,
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
            troubles: Vec::new(),
            last_failure: None,
            server: String::new(),
            acked: None,
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
        let notes = Notes {
            node: name.to_owned(),
            troubles: Arc::default(),
            sender: sender.clone(),
        };
        let board = Self {
            notes,
            sender,
            now,
            before: Seen::default(),
            published: Instant::now(),
            dirty: false,
        };
        (board, receiver)
    }

    pub(crate) fn state(&mut self, state: NodeState) {
        let error = match &state {
            NodeState::Retrying { error, .. } | NodeState::Halted { error } => Some(error),
            _ => None,
        };
        let own = error.map(|error| (error.trouble(), error.to_string()));
        self.now.state = state;
        let mut troubles = self
            .notes
            .troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = troubles.own.take();
        troubles.own = own.map(|(kind, text)| {
            let same = before.filter(|t| t.kind == kind);
            let since = same.map_or_else(SystemTime::now, |t| t.since);
            Trouble { kind, text, since }
        });
        if troubles.own.is_some() {
            self.now.last_failure.clone_from(&troubles.own);
        }
        drop(troubles);
        self.publish();
    }

    /// Where to note troubles beside the state.
    pub(crate) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The server that is read.
    pub(crate) fn server(&mut self, address: String) {
        self.now.server = address;
    }

    /// A semi-synchronous node was answered.
    pub(crate) fn acked(&mut self, pos: SourcePos) {
        self.now.acked = Some(pos);
        self.dirty = true;
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
        // Held while sending, or a note made meanwhile would be lost.
        let troubles = self
            .notes
            .troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.now.troubles = troubles.list();
        self.sender.send_replace(self.now.clone());
        drop(troubles);
        self.published = Instant::now();
        self.dirty = false;
    }
}
