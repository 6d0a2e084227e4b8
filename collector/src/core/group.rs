//! One GTID group while it is being read. In: its GTID event, then what its other events mean. Out: a
//! [`SourceTxn`] without body.

use tributary_binlog::{EventHeader, GtidEvent, XaXid};
use tributary_flow::{Body, Mutant, SourcePos, SourceTxn, Tso, TxnKind, mutant};

use super::assemble_error::AssembleError;

/// How far a group has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Behind its GTID event.
    Started,
    /// Behind `BEGIN`.
    Open,
    /// Behind `XA START`.
    Branch(XaXid),
    /// Behind `XA END`.
    BranchEnded(XaXid),
}

impl Phase {
    /// For messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Started => "behind a GTID event",
            Self::Open => "inside a transaction",
            Self::Branch(_) => "inside an XA branch",
            Self::BranchEnded(_) => "behind XA END",
        }
    }

    /// Whether rows may come.
    pub(super) fn takes_rows(self) -> bool {
        matches!(self, Self::Open | Self::Branch(_))
    }
}

/// A group whose end has not been seen.
pub(super) struct Group {
    pub(super) phase: Phase,
    pub(super) txn: Box<SourceTxn>,
}

impl Group {
    /// Begins with the GTID event that ends at `pos`.
    pub(super) fn begin(
        header: &EventHeader,
        event: &GtidEvent,
        pos: SourcePos,
    ) -> Result<Self, AssembleError> {
        let gtid = event.gtid.ok_or(AssembleError::Anonymous { pos })?;
        let txn = SourceTxn {
            gtid,
            kind: TxnKind::Empty,
            end: pos,
            tso: None,
            original_commit: event.original_commit_ts,
            immediate_commit: event.immediate_commit_ts,
            last_committed: event.last_committed,
            sequence_number: event.sequence_number,
            original_server_version: event.original_server_version,
            immediate_server_version: event.immediate_server_version,
            timestamp: header.timestamp,
            body: Body::default(),
        };
        Ok(Self {
            phase: Phase::Started,
            txn: Box::new(txn),
        })
    }

    /// Ends at `end` as a transaction of this kind.
    pub(super) fn finish(
        self,
        kind: TxnKind,
        end: SourcePos,
    ) -> Result<Box<SourceTxn>, AssembleError> {
        let mut txn = self.txn;
        // A coordinator fetches its timestamp after all branches are prepared: what a prepare group carries is not one.
        let differs = txn.original_commit != 0 && txn.original_commit != txn.immediate_commit;
        let reads = !mutant(Mutant::ForgetTimestamp);
        if differs && reads && !matches!(kind, TxnKind::Prepare(_)) {
            let micros = txn.original_commit;
            let bad = AssembleError::Timestamp {
                micros,
                gtid: txn.gtid,
                pos: end,
            };
            txn.tso = Some(Tso::new(micros).ok_or(bad)?);
        }
        txn.kind = kind;
        if !mutant(Mutant::EndAtBegin) {
            txn.end = end;
        }
        Ok(txn)
    }
}
