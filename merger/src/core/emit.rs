//! What is due, as it is written.
//!
//! In: source transactions that are due. Out: [`GlobalTxn`]s, or nothing where nothing is written for them.

use smallvec::SmallVec;
use tributary_binlog::{ChecksumAlg, QueryEvent, RawEvent};
use tributary_flow::{
    Body, GlobalKind, GlobalTxn, KeyClass, Mutant, NodeId, OrderKey, SourceTxn, TxnKind, mutant,
};
use tributary_schema::DdlStatement;

use super::clock::Interval;
use super::merge::Merger;
use super::moved::{self, ArrangeError, Arranged};
use super::waiting::{Branch, Branches};
use crate::MergeError;

impl Merger {
    pub(super) fn distributed(
        &mut self,
        key: OrderKey,
        branches: Branches,
    ) -> Result<Option<GlobalTxn>, MergeError> {
        let Some(first) = branches.first() else {
            return Ok(None);
        };
        let at = (first.commit.gtid, first.commit.end);
        let intervals: SmallVec<[Interval<'_>; 4]> = branches.iter().filter_map(interval).collect();
        if intervals.is_empty() {
            branches.iter().for_each(|b| self.branch_done(b));
            return Ok(None);
        }
        let dependency = self.clock.rows(self.last_gno + 1, &intervals);
        drop(intervals);
        let mut txn = GlobalTxn {
            key,
            kind: GlobalKind::Rows,
            parts: SmallVec::new(),
            dependency,
            original_commit: 0,
            immediate_commit: 0,
            original_server_version: first.prepare.original_server_version,
            immediate_server_version: 0,
            timestamp: 0,
        };
        let left_out = usize::from(mutant(Mutant::ForgetBranch) && branches.len() > 1);
        for branch in branches.into_iter().skip(left_out) {
            self.branch(&mut txn, branch);
        }
        let arranged = moved::arrange(&mut txn.parts, self.spool.as_deref());
        match arranged {
            Ok(Arranged::Right) => Ok(Some(txn)),
            Ok(Arranged::Ring) => {
                self.rings += 1;
                Ok(Some(txn))
            }
            Err(ArrangeError::Io(error)) => Err(MergeError::Spool {
                at: format!("{} ending at {}", at.0, at.1),
                cause: error.to_string(),
            }),
            Err(ArrangeError::TooMany) => Err(MergeError::TooManyMoves {
                at: format!("{} ending at {}", at.0, at.1),
            }),
        }
    }

    /// Adds a branch to its transaction.
    fn branch(&mut self, txn: &mut GlobalTxn, branch: Branch) {
        self.branch_done(&branch);
        let SourceTxn {
            original_commit,
            immediate_commit,
            immediate_server_version,
            timestamp,
            ..
        } = *branch.commit;
        txn.original_commit = txn.original_commit.max(match txn.key.class {
            KeyClass::Distributed => txn.key.tso.micros(),
            KeyClass::Local => original_commit,
        });
        txn.immediate_commit = txn.immediate_commit.max(immediate_commit);
        txn.immediate_server_version = txn.immediate_server_version.max(immediate_server_version);
        txn.timestamp = txn.timestamp.max(timestamp);
        let body = branch.prepare.body;
        if !body.is_empty() {
            txn.parts.push(body);
        }
    }

    fn branch_done(&mut self, branch: &Branch) {
        self.prepare_done(branch.node, &branch.prepare);
        self.done(branch.node, branch.commit.gtid);
    }

    pub(super) fn local(&mut self, key: OrderKey, source: Box<SourceTxn>) -> Option<GlobalTxn> {
        self.done(key.node, source.gtid);
        let kind = match source.kind {
            TxnKind::Ddl if self.statement_is_due(key.node, &source) => GlobalKind::Ddl,
            TxnKind::Ddl => return None,
            _ => GlobalKind::Rows,
        };
        if source.body.is_empty() {
            return None;
        }
        let gno = self.last_gno + 1;
        let dependency = match kind {
            GlobalKind::Ddl => self.clock.statement(gno),
            GlobalKind::Rows => self.clock.rows(gno, &[alone(key.node, &source)]),
        };
        Some(GlobalTxn {
            key,
            kind,
            original_commit: source.original_commit,
            immediate_commit: source.immediate_commit,
            original_server_version: source.original_server_version,
            immediate_server_version: source.immediate_server_version,
            timestamp: source.timestamp,
            dependency,
            parts: SmallVec::from_buf_and_len([source.body, Body::default()], 1),
        })
    }

    fn statement_is_due(&mut self, node: NodeId, txn: &SourceTxn) -> bool {
        let Some(chunk) = txn.body.chunks().next() else {
            return false;
        };
        // One that cannot be read is written, or not: its writer will meet the same error.
        let bytes = chunk.unwrap_or_default();
        let query = RawEvent::parse_unverified(&bytes, ChecksumAlg::None)
            .ok()
            .and_then(|raw| {
                QueryEvent::parse(raw.body)
                    .ok()
                    .map(|q| DdlStatement::of(q.schema, q.query))
            });
        // What can not be read is never dropped; the collector has read it as a Query event before.
        query.is_none_or(|statement| self.ddl.observe(node, &statement))
    }
}

/// The interval of a branch that has rows: that of its prepare group.
fn interval(branch: &Branch) -> Option<Interval<'_>> {
    let Branch {
        node,
        prepare,
        commit,
        ..
    } = branch;
    (!prepare.body.is_empty()).then_some(Interval {
        commit: commit.end,
        ..alone(*node, prepare)
    })
}

/// The interval of a transaction that its node committed alone.
fn alone(node: NodeId, txn: &SourceTxn) -> Interval<'_> {
    Interval {
        node,
        prepare: txn.end,
        commit: txn.end,
        last_committed: txn.last_committed,
        sequence_number: txn.sequence_number,
        body: &txn.body,
    }
}
