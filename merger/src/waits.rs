//! Why the next transaction waits, in words an operator can act on.
//!
//! In: what the rules are missing, moment by moment. Out: the reasons with the time since when, what to do about each, and
//! those that have lasted so long that somebody should be told.

use crate::core::BlockedOn;

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// Something that this node has not told.
    Node(String, Box<BlockedOn>),
    /// The store: it has not made durable what it was given.
    Downstream,
}

/// Why the next transaction waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// What is missing.
    pub on: WaitsFor,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: u64,
}

impl Blocked {
    /// The node that holds the next transaction back.
    pub fn node(&self) -> Option<&str> {
        match &self.on {
            WaitsFor::Node(name, _) => Some(name),
            WaitsFor::Downstream => None,
        }
    }

    /// `prepare`, `fence`, `no data` or `downstream`.
    pub fn kind(&self) -> &'static str {
        let WaitsFor::Node(_, what) = &self.on else {
            return "downstream";
        };
        match **what {
            BlockedOn::Prepare(..) => "prepare",
            BlockedOn::Fence(_) => "fence",
            BlockedOn::NoData => "no data",
        }
    }

    /// What is missing, with its place. An xid is written as `XA RECOVER CONVERT XID` and `XA COMMIT` write it.
    pub fn what(&self) -> String {
        let WaitsFor::Node(_, what) = &self.on else {
            return "downstream; the store is behind".into();
        };
        match &**what {
            BlockedOn::Prepare(xid, gtid, pos) => format!("prepare {xid} ({gtid} at {pos})"),
            BlockedOn::Fence(pos) => format!("fence; read up to {pos}"),
            BlockedOn::NoData => "no data".into(),
        }
    }

    /// What an operator can do, when it lasts.
    pub fn advice(&self) -> String {
        let WaitsFor::Node(node, what) = &self.on else {
            return "see the disk of store.data_dir".into();
        };
        match &**what {
            BlockedOn::Prepare(xid, ..) => format!(
                "in doubt: XA RECOVER CONVERT XID on {node} shows it; if its coordinator does not come back, find out what \
                 became of its other branches and run XA COMMIT {xid} or XA ROLLBACK {xid} on {node}"
            ),
            BlockedOn::Fence(_) => format!(
                "{node} is being read up to its end; if that does not move, see its state and its network"
            ),
            BlockedOn::NoData => {
                format!("{node} has not told that it is past this point; see its state")
            }
        }
    }
}

/// Reasons, since when they hold, and who has been told.
#[derive(Debug)]
pub(crate) struct Reasons {
    warn_after_ms: u64,
    now: Vec<(Blocked, u64)>,
}

impl Reasons {
    /// `warn_after_ms`: how long a reason may hold before it is said aloud.
    pub(crate) fn new(warn_after_ms: u64) -> Self {
        Self {
            warn_after_ms: warn_after_ms.max(1),
            now: Vec::new(),
        }
    }

    pub(crate) fn list(&self) -> Vec<Blocked> {
        self.now
            .iter()
            .map(|(blocked, _)| blocked.clone())
            .collect()
    }

    /// These reasons hold at `now_ms`. Returns those that have become due to be said: after the time set, and then each
    /// time they have lasted twice as long.
    pub(crate) fn update(
        &mut self,
        now_ms: u64,
        reasons: impl Iterator<Item = WaitsFor>,
    ) -> Vec<Blocked> {
        let before = std::mem::take(&mut self.now);
        let mut due = Vec::new();
        for on in reasons {
            let known = before.iter().find(|(b, _)| same(&b.on, &on));
            let (since_ms, mut warn_ms) =
                known.map_or((now_ms, self.warn_after_ms), |(b, w)| (b.since_ms, *w));
            let blocked = Blocked { on, since_ms };
            let lasted = now_ms.saturating_sub(since_ms);
            if lasted >= warn_ms {
                warn_ms = lasted.saturating_mul(2);
                due.push(blocked.clone());
            }
            self.now.push((blocked, warn_ms));
        }
        due
    }
}

/// Whether it is the same reason: how far a stream has come meanwhile does not count.
fn same(a: &WaitsFor, b: &WaitsFor) -> bool {
    let silent = |w: &BlockedOn| matches!(w, BlockedOn::Fence(_) | BlockedOn::NoData);
    match (a, b) {
        (WaitsFor::Node(n, x), WaitsFor::Node(m, y)) => {
            n == m && (x == y || silent(x) && silent(y))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_flow::SourcePos;

    #[test]
    fn a_reason_that_lasts_is_said_once_and_again_when_it_has_lasted_twice_as_long() {
        let mut reasons = Reasons::new(30);
        let node = |what| WaitsFor::Node("dn1".into(), Box::new(what));
        let mut due = Vec::new();
        for now in (1_000..1_200).step_by(10) {
            let what = match now % 20 {
                0 => BlockedOn::NoData,
                _ => BlockedOn::Fence(SourcePos::default()),
            };
            if !reasons.update(now, [node(what)].into_iter()).is_empty() {
                due.push(now - 1_000);
            }
        }
        assert_eq!(due, [30, 60, 120]);
        assert_eq!(reasons.list()[0].since_ms, 1_000);
        assert_eq!(reasons.update(2_000, std::iter::empty()), vec![]);
        reasons.update(3_000, [node(BlockedOn::NoData)].into_iter());
        assert_eq!(reasons.list()[0].since_ms, 3_000, "it was gone between");
    }
}
