//! A transaction coordinator: in go branches (a node and its statements), out come XA transactions
//! on real servers, stamped with the oracle's timestamp.
//!
//! The protocol is the one Tributary's `commit-timestamp` source expects: the timestamp is fetched
//! after the last `XA PREPARE`, and `SET SESSION original_commit_timestamp` hands it to every
//! branch's `XA COMMIT`. A decision is kept until every branch has carried it out, through
//! broken connections and killed servers; `XA RECOVER` finds what is left.

mod log;
mod recovery;
mod session;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mysql_async::{Conn, Opts};
use tokio::time::timeout;

use crate::tso::Tso;
use log::{Decision, DecisionLog};

pub use session::Session;

/// Longest wait for one answer of a node; a frozen node counts as lost after it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// `formatID` of every xid of the workload ("TRIB").
const FORMAT_ID: u32 = 0x5452_4942;

/// One node's part of a transaction.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Index of the node.
    pub node: usize,
    /// Statements, in order.
    pub statements: Vec<String>,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Two phases, committed with a timestamp.
    TwoPhase,
    /// Two phases, committed without a timestamp, as a DBA or a forgetful coordinator does.
    TwoPhaseUnstamped,
    /// Prepared everywhere, then rolled back.
    RollbackPrepared,
    /// Prepared everywhere, then left to [`Coordinator::resolve`].
    LeaveInDoubt,
    /// `XA COMMIT … ONE PHASE` with a timestamp; one branch only.
    OnePhase,
    /// `BEGIN … COMMIT`; one branch only.
    Local,
    /// `BEGIN … COMMIT` with a timestamp; one branch only.
    LocalStamped,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Committed, or certain to be: a branch on a lost node follows when the node is back.
    Committed {
        /// Its timestamp, if it has one.
        tso: Option<u64>,
    },
    /// Rolled back after all branches had been prepared, as asked.
    RolledBack,
    /// Prepared everywhere and undecided, as asked.
    InDoubt {
        /// For [`Coordinator::resolve`].
        gtrid: String,
    },
    /// Not committed anywhere: a statement or a node failed before the decision.
    Aborted {
        /// What failed.
        reason: String,
    },
    /// One-phase or local, and the node was lost while it committed.
    Unknown {
        /// What failed.
        reason: String,
    },
}

/// Runs transactions over a fixed set of nodes.
#[derive(Debug)]
pub struct Coordinator {
    nodes: Vec<Opts>,
    tso: Arc<Tso>,
    run: String,
    next_number: AtomicU64,
    decisions: Mutex<DecisionLog>,
    /// A session could not tell a branch its decision since the last recovery pass.
    left_behind: AtomicBool,
}

impl Coordinator {
    /// A coordinator for `nodes`; `label` begins every gtrid, together with a random part that
    /// tells this run from all others.
    pub fn new(label: &str, nodes: Vec<Opts>, tso: Arc<Tso>) -> Arc<Self> {
        let run = format!("{label}-{:08x}", rand::random::<u32>());
        Arc::new(Self {
            nodes,
            tso,
            run,
            next_number: AtomicU64::new(1),
            decisions: Mutex::new(DecisionLog::default()),
            left_behind: AtomicBool::new(false),
        })
    }

    /// A session: connections of its own, one transaction at a time.
    pub fn session(self: &Arc<Self>) -> Session {
        Session::new(Arc::clone(self))
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The oracle.
    pub fn tso(&self) -> &Tso {
        &self.tso
    }

    /// How every gtrid of this run begins.
    pub fn run(&self) -> &str {
        &self.run
    }

    fn next_gtrid(&self) -> String {
        format!(
            "{}-{}",
            self.run,
            self.next_number.fetch_add(1, Ordering::Relaxed)
        )
    }

    fn decisions(&self) -> MutexGuard<'_, DecisionLog> {
        // Every change of the log is a single step, so it is sound even if a holder panicked.
        self.decisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection to a node.
    ///
    /// # Errors
    /// When the node does not answer in time or refuses.
    pub async fn connect(&self, node: usize) -> Result<Conn, String> {
        let opts = self
            .nodes
            .get(node)
            .ok_or_else(|| format!("there is no node {node}"))?;
        match timeout(CONNECT_TIMEOUT, Conn::new(opts.clone())).await {
            Ok(Ok(conn)) => Ok(conn),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer to a connection attempt".to_owned()),
        }
    }
}

/// An xid as MySQL's XA statements take it.
fn xid_text(gtrid: &str, node: usize) -> String {
    let mut text = String::from("X'");
    for byte in gtrid.bytes() {
        write!(text, "{byte:02X}").expect("writing to a string cannot fail");
    }
    text.push_str("',X'");
    for byte in format!("b{node}").bytes() {
        write!(text, "{byte:02X}").expect("writing to a string cannot fail");
    }
    write!(text, "',{FORMAT_ID}").expect("writing to a string cannot fail");
    text
}

/// The statement before a commit that hands it its timestamp.
pub(crate) fn stamp_text(tso: Option<u64>) -> String {
    tso.map_or_else(String::new, |tso| {
        format!("SET SESSION original_commit_timestamp = {tso}; ")
    })
}
