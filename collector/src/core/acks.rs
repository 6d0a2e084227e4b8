//! What to acknowledge as a semi-synchronous replica. In: transactions as they are received, the places where the node asked
//! for an answer, the GTIDs that are durable. Out: the place up to which everything is durable.
//!
//! An acknowledgement speaks for everything in front of it. So it is given for the longest run of transactions, in the order of
//! the node's binlog, that are all durable.

use std::collections::VecDeque;

use tributary_binlog::{Gtid, GtidSet};
use tributary_flow::SourcePos;

/// When the parts of distributed transactions count as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XaAcks {
    /// Like all others, when they are in the durable set: for a service that keeps prepared branches on its own disk. A
    /// coordinator that commits its branches one after the other waits for the first while the second is missing; with a set
    /// that holds merged transactions only, it would wait for the node's timeout.
    WhenDurable,
    /// When they are received: `XA PREPARE`, `XA COMMIT` and `XA ROLLBACK` never wait for this service.
    OnReceipt,
}

/// One connection's acknowledgements.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    /// Received, not yet known to be durable; `None` for one that counts on receipt.
    waiting: VecDeque<(Option<Gtid>, SourcePos)>,
    /// Ends of the events that asked for an answer.
    asked: VecDeque<SourcePos>,
    /// Everything up to here is durable.
    durable_to: SourcePos,
}

impl Acks {
    /// A new connection begins. What was received before and is not durable still holds back everything behind it; if positions
    /// begin anew, it lies in front of all of them.
    pub(crate) fn reconnect(&mut self, positions_go_on: bool) {
        self.asked.clear();
        self.durable_to = SourcePos::default();
        if !positions_go_on {
            for (_, end) in &mut self.waiting {
                *end = SourcePos::default();
            }
        }
    }

    /// A transaction that ends at `end` was received; `gtid` if it must become durable before it counts.
    pub(crate) fn received(&mut self, gtid: Option<Gtid>, end: SourcePos) {
        self.waiting.push_back((gtid, end));
    }

    /// The node wants an answer for the event that ends at `end`.
    pub(crate) fn asked(&mut self, end: SourcePos) {
        self.asked.push_back(end);
    }

    /// Whether an answer is due some time.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The place to acknowledge now, if one is due.
    pub(crate) fn due(&mut self, durable: &GtidSet) -> Option<SourcePos> {
        while let Some((gtid, end)) = self.waiting.front() {
            if gtid.is_some_and(|gtid| !durable.contains(&gtid)) {
                break;
            }
            self.durable_to = *end;
            self.waiting.pop_front();
        }
        let mut due = None;
        while let Some(end) = self.asked.front()
            && *end <= self.durable_to
        {
            due = self.asked.pop_front();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn gtid(gno: u64) -> Option<Gtid> {
        Some(format!("{UUID}:{gno}").parse().unwrap())
    }

    fn set(gnos: &str) -> GtidSet {
        format!("{UUID}:{gnos}").parse().unwrap()
    }

    fn pos(offset: u64) -> SourcePos {
        SourcePos { file: 1, offset }
    }

    #[test]
    fn a_gap_holds_back_everything_behind_it() {
        let mut acks = Acks::default();
        for (gno, offset) in [(1, 100), (2, 200), (3, 300)] {
            acks.received(gtid(gno), pos(offset));
            acks.asked(pos(offset));
        }
        assert_eq!(acks.due(&GtidSet::new()), None);
        assert_eq!(acks.due(&set("2-3")), None, "1 is missing");
        assert_eq!(acks.due(&set("1-2")), Some(pos(200)), "one answer for both");
        assert_eq!(acks.due(&set("1-2")), None);
        assert!(acks.is_waiting());
        assert_eq!(acks.due(&set("1-3")), Some(pos(300)));
        assert!(!acks.is_waiting());
    }

    #[test]
    fn only_what_is_asked_for_is_answered_and_receipt_may_count() {
        let mut acks = Acks::default();
        acks.received(gtid(1), pos(100));
        acks.received(None, pos(200));
        acks.asked(pos(200));
        assert_eq!(acks.due(&GtidSet::new()), None, "1 lies in front of it");
        assert_eq!(acks.due(&set("1")), Some(pos(200)));
        acks.received(gtid(2), pos(300));
        assert_eq!(acks.due(&set("1-2")), None);
        acks.received(gtid(3), pos(400));
        acks.asked(pos(400));
        acks.reconnect(false);
        acks.received(gtid(4), pos(50));
        acks.asked(pos(50));
        assert_eq!(
            acks.due(&set("1-2:4")),
            None,
            "3 came over the old connection"
        );
        assert_eq!(acks.due(&set("1-4")), Some(pos(50)));
    }
}
