//! What a semi-synchronous node has sent and not finished committing.
//!
//! In: what was read, the node's `gtid_executed` at a new connection, what it sends then. Out: the transactions without those that
//! come a second time; or that they were lost.
//!
//! Such a node sends a transaction, waits for an answer, and only then puts it into `gtid_executed`. If the connection breaks in between,
//! the next one sees a node that does not know what we have read. It still has it in its binlog: it is asked for again and taken
//! out, and the answer is given then.

use tributary_binlog::GtidSet;
use tributary_flow::{NodeItem, SourcePos};

use super::{
    choice::minus,
    resume::{GtidText, ResumeError},
};

/// Transactions that can wait for an answer at once: one for each connection of the node.
const WAITING_MAX: u64 = 10_000;

/// Transactions that are expected a second time.
pub(crate) struct Early {
    gtids: GtidSet,
    /// If they have not come by here, the node has lost them.
    end: SourcePos,
    executed: GtidSet,
}

impl Early {
    /// Whether what was read and is not executed can be waiting for our answer.
    pub(crate) fn may_be(have: &GtidSet, executed: &GtidSet) -> bool {
        (1..=WAITING_MAX).contains(&minus(have, executed).count())
    }

    /// All that was read and is not executed, of a node whose binlog ends at `end`.
    pub(crate) fn new(have: &GtidSet, executed: &GtidSet, end: SourcePos) -> Self {
        Self {
            gtids: minus(have, executed),
            end,
            executed: executed.clone(),
        }
    }

    /// What is still to come.
    pub(crate) fn gtids(&self) -> &GtidSet {
        &self.gtids
    }

    /// Takes out what was handed on over an earlier connection; its places stay.
    pub(crate) fn take_out(&mut self, items: &mut [NodeItem]) {
        for item in items {
            if let NodeItem::Txn(txn) = item
                && self.gtids.contains(&txn.gtid)
            {
                let mut one = GtidSet::new();
                one.add(txn.gtid);
                self.gtids.subtract(&one);
                *item = NodeItem::Position(txn.end);
            }
        }
    }

    /// Whether everything has come, now that the stream has reached `pos`.
    ///
    /// # Errors
    /// The end is reached, and some have not.
    pub(crate) fn is_done(&self, pos: SourcePos) -> Result<bool, ResumeError> {
        if self.gtids.is_empty() || pos < self.end {
            return Ok(self.gtids.is_empty());
        }
        Err(ResumeError::Lost {
            missing: Box::new(GtidText(self.gtids.clone())),
            executed: Box::new(GtidText(self.executed.clone())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(gnos: &str) -> GtidSet {
        format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{gnos}")
            .parse()
            .unwrap()
    }

    #[test]
    fn what_does_not_come_again_by_the_end_is_lost() {
        let pos = |offset| SourcePos { file: 1, offset };
        assert!(Early::may_be(&set("1-50"), &set("1-45")));
        assert!(!Early::may_be(&set("1-50"), &set("1-50")));
        assert!(!Early::may_be(&set("1-50000"), &set("1-5")));
        let mut early = Early::new(&set("1-50"), &set("1-48"), pos(900));
        assert_eq!(early.gtids(), &set("49-50"));
        assert_eq!(early.is_done(pos(100)), Ok(false));
        let error = early.is_done(pos(900)).unwrap_err();
        assert!(matches!(error, ResumeError::Lost { missing, .. } if missing.0 == set("49-50")));
        early.gtids = GtidSet::new();
        assert_eq!(early.is_done(pos(900)), Ok(true));
    }
}
