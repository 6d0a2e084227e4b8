//! From where to read. In: what is done, what the node has executed and purged. Out: the set to ask with, or why that
//! cannot work.

use thiserror::Error;
use tributary_binlog::GtidSet;
use tributary_flow::{Mutant, NodeProgress, mutant};

/// Where a node is read from the first time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// From what is committed from now on.
    Current,
    /// From the oldest transaction the node still has.
    #[default]
    Earliest,
    /// From behind these GTIDs.
    Gtids(GtidSet),
}

/// Why a node cannot go on from where we are.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResumeError {
    /// The node deleted binlogs too early.
    #[error(
        "the node purged what was not read yet: {missing}. If another server of this node still has these \
         transactions, restore its binary logs from there; otherwise remove the node and add it again with a new start"
    )]
    Purged {
        /// GTIDs that are in `gtid_purged` and neither emitted nor before the start.
        missing: Box<GtidText>,
    },
    /// The node has forgotten everything that was already passed on.
    #[error(
        "the node does not know any of the transactions that were already read from it: {missing} (it has executed {executed}). \
         RESET BINARY LOGS AND GTIDS was run on it, or it was set up anew. If its data are complete, SET GLOBAL gtid_purged = \
         '{missing}' there before it writes again; otherwise remove the node and add it again with a new start"
    )]
    Reset {
        /// GTIDs that were read and are not in `gtid_executed`.
        missing: Box<GtidText>,
        /// The node's `gtid_executed`.
        executed: Box<GtidText>,
    },
    /// The node has other transactions under GTIDs that were read.
    #[error(
        "the node's binlog was reset, and it has written again under GTIDs that were already read from it: {again}. They are \
         different transactions and cannot be told apart any more; provision downstream anew, and add the node again"
    )]
    Rewritten {
        /// GTIDs that were read before, and lie in the new binlog.
        again: Box<GtidText>,
    },
    /// The node lost transactions that were already passed on.
    #[error(
        "the node does not know transactions that were already read from it: {missing} (it has executed {executed}). \
         It was restored from a backup, reset, or lost its last writes in a crash (sync_binlog=1 prevents that); \
         bring these transactions back, or remove the node and add it again with a new start"
    )]
    Lost {
        /// GTIDs that were read and are not in `gtid_executed`.
        missing: Box<GtidText>,
        /// The node's `gtid_executed`.
        executed: Box<GtidText>,
    },
}

/// A GTID set as an error shows it: on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GtidText(pub GtidSet);

impl std::fmt::Display for GtidText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_text_oneline())
    }
}

/// What a node that is read the first time counts as done.
pub fn before_start(start: &Start, executed: &GtidSet, purged: &GtidSet) -> GtidSet {
    match start {
        Start::Current => executed.clone(),
        Start::Earliest => purged.clone(),
        Start::Gtids(set) => set.clone(),
    }
}

/// What the node must not send again, from a checkpoint.
pub fn done(progress: &NodeProgress) -> GtidSet {
    let mut set = progress.before_start.clone();
    if !mutant(Mutant::ForgetEmitted) {
        set.union(&progress.emitted);
    }
    set
}

/// What is merged of a node: a branch that is kept is received, and not merged.
pub fn merged(progress: &NodeProgress) -> GtidSet {
    let mut set = done(progress);
    set.subtract(&progress.kept);
    set
}

/// What a node that leaves has executed and is not merged: it may leave when that is nothing.
pub fn left(executed: &GtidSet, progress: Option<&NodeProgress>) -> GtidSet {
    let mut left = executed.clone();
    if mutant(Mutant::LeaveUndrained) {
        return GtidSet::new();
    }
    if let Some(progress) = progress {
        left.subtract(&merged(progress));
    }
    left
}

/// Whether the node can send everything that is not in `have`, and nothing of `have` is unknown to it.
///
/// # Errors
/// What is missing on either side.
pub fn check(have: &GtidSet, executed: &GtidSet, purged: &GtidSet) -> Result<(), ResumeError> {
    let minus = |a: &GtidSet, b: &GtidSet| {
        let mut rest = a.clone();
        rest.subtract(b);
        rest
    };
    let text = |set: GtidSet| Box::new(GtidText(set));
    if !have.is_subset(executed) {
        let missing = text(minus(have, executed));
        if have.intersect(executed).is_empty() {
            return Err(ResumeError::Reset {
                missing,
                executed: text(executed.clone()),
            });
        }
        return Err(ResumeError::Lost {
            missing,
            executed: text(executed.clone()),
        });
    }
    if !purged.is_subset(have) {
        return Err(ResumeError::Purged {
            missing: text(minus(purged, have)),
        });
    }
    Ok(())
}

/// Whether a binlog that ends before what was read holds anything under GTIDs that were read.
///
/// # Errors
/// It does, and names them.
pub(crate) fn check_rewritten(
    have: &GtidSet,
    executed: &GtidSet,
    purged: &GtidSet,
) -> Result<(), ResumeError> {
    let mut again = executed.clone();
    again.subtract(purged);
    let again = again.intersect(have);
    if again.is_empty() {
        return Ok(());
    }
    let again = Box::new(GtidText(again));
    Err(ResumeError::Rewritten { again })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(gnos: &str) -> GtidSet {
        if gnos.is_empty() {
            return GtidSet::new();
        }
        format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{gnos}")
            .parse()
            .unwrap()
    }

    #[test]
    fn a_first_start_counts_from_where_it_is_told() {
        let (executed, purged) = (set("1-100"), set("1-40"));
        assert_eq!(before_start(&Start::Current, &executed, &purged), executed);
        assert_eq!(before_start(&Start::Earliest, &executed, &purged), purged);
        assert_eq!(
            before_start(&Start::Gtids(set("1-50")), &executed, &purged),
            set("1-50")
        );
        let progress = NodeProgress {
            emitted: set("41-60"),
            before_start: set("1-40"),
            ..NodeProgress::default()
        };
        assert_eq!(done(&progress), set("1-60"));
    }

    #[test]
    fn gaps_on_either_side_are_named_exactly() {
        assert_eq!(check(&set("1-50"), &set("1-100"), &set("1-40")), Ok(()));
        assert_eq!(check(&set(""), &set(""), &set("")), Ok(()));
        let purged = check(&set("1-50"), &set("1-100"), &set("1-60")).unwrap_err();
        assert!(matches!(&purged, ResumeError::Purged { missing } if missing.0 == set("51-60")));
        assert!(
            purged
                .to_string()
                .contains("not read yet: 3e11fa47-71ca-11e1-9e33-c80aa9429562:51-60.")
        );
        let lost = check(&set("1-50"), &set("1-45"), &set("")).unwrap_err();
        assert!(matches!(&lost, ResumeError::Lost { missing, .. } if missing.0 == set("46-50")));
        let reset = check(&set("1-50"), &set(""), &set("")).unwrap_err();
        assert!(matches!(&reset, ResumeError::Reset { missing, .. } if missing.0 == set("1-50")));
        let purged_again = check_rewritten(&set("1-50"), &set("1-60"), &set("1-50"));
        assert_eq!(purged_again, Ok(()));
        let again = check_rewritten(&set("1-50"), &set("1-60"), &set("1-40")).unwrap_err();
        assert!(matches!(&again, ResumeError::Rewritten { again } if again.0 == set("41-50")));
    }
}
