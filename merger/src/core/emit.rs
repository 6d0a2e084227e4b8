//! What is due, as it is written.
//!
//! In: source transactions that are due. Out: [`GlobalTxn`]s, or nothing where nothing is written for them.

use smallvec::SmallVec;
use tributary_binlog::{ChecksumAlg, QueryEvent, RawEvent};
use tributary_flow::{
    Body, Dependency, GlobalKind, GlobalTxn, KeyClass, NodeId, OrderKey, SourceTxn, TxnKind,
};
use tributary_schema::DdlStatement;

use super::merge::Merger;
use super::waiting::{Branch, Branches};

impl Merger {
    pub(super) fn distributed(&mut self, key: OrderKey, branches: Branches) -> Option<GlobalTxn> {
        let first = branches.first()?;
        let mut txn = GlobalTxn {
            key,
            kind: GlobalKind::Rows,
            parts: SmallVec::new(),
            dependency: Dependency::Predecessor,
            original_commit: 0,
            immediate_commit: 0,
            original_server_version: first.prepare.original_server_version,
            immediate_server_version: 0,
            timestamp: 0,
        };
        for branch in branches {
            self.branch(&mut txn, branch);
        }
        super::moved::arrange(&mut txn.parts);
        (!txn.parts.is_empty()).then_some(txn)
    }

    /// Adds a branch to its transaction.
    fn branch(&mut self, txn: &mut GlobalTxn, branch: Branch) {
        self.done(branch.node, branch.prepare.gtid);
        self.done(branch.node, branch.commit.gtid);
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
        Some(GlobalTxn {
            key,
            kind,
            original_commit: source.original_commit,
            immediate_commit: source.immediate_commit,
            original_server_version: source.original_server_version,
            immediate_server_version: source.immediate_server_version,
            timestamp: source.timestamp,
            dependency: Dependency::Predecessor,
            parts: SmallVec::from_buf_and_len([source.body, Body::default()], 1),
        })
    }

    fn statement_is_due(&mut self, node: NodeId, txn: &SourceTxn) -> bool {
        let Some(bytes) = txn.body.segments().first() else {
            return false;
        };
        let query = RawEvent::parse_unverified(bytes, ChecksumAlg::None)
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
