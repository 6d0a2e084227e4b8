//! What is due, as it is written.
//!
//! In: source transactions that are due. Out: [`GlobalTxn`]s, or nothing where nothing is written for them.

use smallvec::SmallVec;
use tributary_flow::{
    Body, Dependency, GlobalKind, GlobalTxn, KeyClass, Mutant, NodeId, OrderKey, SourceTxn,
    TxnKind, mutant,
};
use tributary_schema::Moment;

use super::clock::Interval;
use super::logical::Place;
use super::merge::Merger;
use super::moved::{self, ArrangeError, Arranged};
use super::waiting::{Branch, Branches};
use crate::MergeError;

impl Merger {
    pub(super) fn distributed(
        &mut self,
        key: OrderKey,
        mut branches: Branches,
        out: &mut Vec<GlobalTxn>,
    ) -> Result<(), MergeError> {
        let Some(first) = branches.first() else {
            return Ok(());
        };
        let at = (first.commit.gtid, first.commit.end);
        let original_server_version = first.prepare.original_server_version;
        for branch in &mut branches {
            let moment = self.moment(key, &branch.commit);
            let xid = branch.xid().copied();
            let name = self.table.name(branch.node);
            let place = Place::new(branch.node, name, &branch.prepare, moment);
            if xid.is_some_and(|xid| self.logical.ignores(&xid)) {
                branch.prepare.body = Body::default();
            }
            self.logical.body(&place, &mut branch.prepare.body)?;
        }
        let intervals: SmallVec<[Interval<'_>; 4]> = branches.iter().filter_map(interval).collect();
        if intervals.is_empty() {
            branches.iter().for_each(|b| self.branch_done(b));
            return Ok(());
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
            original_server_version,
            immediate_server_version: 0,
            timestamp: 0,
        };
        let left_out = usize::from(mutant(Mutant::ForgetBranch) && branches.len() > 1);
        for branch in branches.into_iter().skip(left_out) {
            self.branch(&mut txn, branch);
        }
        match moved::arrange(&mut txn.parts, self.spool.as_deref()) {
            Ok(Arranged::Right) => {}
            Ok(Arranged::Ring) => self.rings += 1,
            Err(ArrangeError::Io(error)) => {
                return Err(MergeError::Spool {
                    at: format!("{} ending at {}", at.0, at.1),
                    cause: error.to_string(),
                });
            }
            Err(ArrangeError::TooMany) => {
                return Err(MergeError::TooManyMoves {
                    at: format!("{} ending at {}", at.0, at.1),
                });
            }
        }
        out.push(txn);
        Ok(())
    }

    /// Where the next transaction stands.
    fn moment(&self, key: OrderKey, commit: &SourceTxn) -> Moment {
        Moment {
            gno: self.last_gno + 1,
            key: key.into(),
            commit_time: commit.immediate_commit,
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

    pub(super) fn local(
        &mut self,
        key: OrderKey,
        mut source: Box<SourceTxn>,
        out: &mut Vec<GlobalTxn>,
    ) -> Result<(), MergeError> {
        if source.kind == TxnKind::Ddl {
            return self.statement(key, &source, out);
        }
        let ignored = matches!(&source.kind, TxnKind::OnePhase(xid) if self.logical.ignores(xid));
        if ignored {
            source.body = Body::default();
        }
        let at = self.moment(key, &source);
        let place = Place::new(key.node, self.table.name(key.node), &source, at);
        self.logical.body(&place, &mut source.body)?;
        self.done(key.node, source.gtid);
        if !source.body.is_empty() {
            let gno = self.last_gno + 1;
            let dependency = self.clock.rows(gno, &[alone(key.node, &source)]);
            let body = std::mem::take(&mut source.body);
            out.push(written(key, GlobalKind::Rows, &source, dependency, body));
        }
        Ok(())
    }

    /// The statements to write for a node's statement.
    fn statement(
        &mut self,
        key: OrderKey,
        source: &SourceTxn,
        out: &mut Vec<GlobalTxn>,
    ) -> Result<(), MergeError> {
        let at = self.moment(key, source);
        let place = Place::new(key.node, self.table.name(key.node), source, at);
        let bodies = self.logical.statements(&place, &source.body)?;
        self.done(key.node, source.gtid);
        for (gno, body) in (self.last_gno + 1..).zip(bodies) {
            let dependency = self.clock.statement(gno);
            out.push(written(key, GlobalKind::Ddl, source, dependency, body));
        }
        Ok(())
    }
}

/// What a node committed alone, as it is written.
fn written(
    key: OrderKey,
    kind: GlobalKind,
    source: &SourceTxn,
    dependency: Dependency,
    body: Body,
) -> GlobalTxn {
    GlobalTxn {
        key,
        kind,
        original_commit: source.original_commit,
        immediate_commit: source.immediate_commit,
        original_server_version: source.original_server_version,
        immediate_server_version: source.immediate_server_version,
        timestamp: source.timestamp,
        dependency,
        parts: SmallVec::from_buf_and_len([body, Body::default()], 1),
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
