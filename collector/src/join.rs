//! Asking a node about its GTIDs outside a collector: where a new one joins, what one that leaves still has.
//!
//! In: the servers of a node. Out: its GTID sets; a [`JoinPoint`].
//!
//! A node joins *behind* a set of GTIDs: nothing in it is read, everything else is. A branch that is prepared at that moment
//! belongs to what is read, with its rows, for it is committed later. `XA RECOVER` tells that there are such branches, and only
//! the binlog tells their GTIDs; so the binlog is read from a moment before that answer until all of them are known or
//! resolved. On a node without distributed transactions that is nothing at all.

use std::{collections::BTreeMap, time::Duration};

use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use tributary_binlog::{Gtid, GtidSet, XaXid};
use tributary_flow::{Mutant, NodeTables, TxnKind, mutant};

use crate::{
    config::{CollectorConfig, NodeUrl},
    core::choice,
    definitions,
    error::{CollectorError, ConnError},
    observe,
    sql::SideConn,
};

/// How long a statement may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Where a node joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinPoint {
    /// What lies before it: executed at that moment, and not prepared only.
    pub before: GtidSet,
    /// Branches that are prepared at that moment; their commits are read, with their rows.
    pub prepared: Vec<XaXid>,
}

/// Why a node cannot join now.
#[derive(Debug, Error)]
pub enum JoinError {
    /// It cannot be asked or read.
    #[error(transparent)]
    Node(#[from] CollectorError),
    /// The account may not ask for prepared transactions.
    #[error(
        "account {account} may not ask for prepared transactions, which could be torn apart where the node joins: run \
         GRANT XA_RECOVER_ADMIN ON *.* TO {account}, or give a start position"
    )]
    MayNotRecover {
        /// The account.
        account: String,
    },
    /// Some are in doubt for long.
    #[error(
        "transactions are prepared on the node, and neither committed nor rolled back: {}. Finish them (XA COMMIT or XA \
         ROLLBACK), or give a start position",
        xids.join("; ")
    )]
    InDoubt {
        /// Their ids, as `XA COMMIT` takes them.
        xids: Vec<String>,
    },
}

impl From<ConnError> for JoinError {
    fn from(error: ConnError) -> Self {
        Self::Node(error.into())
    }
}

/// `gtid_executed` and `gtid_purged` of the server of a node that would be read.
///
/// # Errors
/// It cannot be asked.
pub async fn gtid_sets(config: &CollectorConfig) -> Result<(GtidSet, GtidSet), CollectorError> {
    let mut side = SideConn::connect(&server(config).await?).await?;
    side.set_timeout(ANSWER);
    let sets = side.gtid_sets().await?;
    side.quit().await;
    Ok((sets.executed, sets.purged))
}

/// The definitions of the tables that the server of a node has now.
///
/// # Errors
/// It cannot be asked.
pub async fn tables_now(config: &CollectorConfig) -> Result<NodeTables, CollectorError> {
    let mut side = SideConn::connect(&server(config).await?).await?;
    side.set_timeout(ANSWER);
    let tables = side.tables().await?;
    side.quit().await;
    Ok(tables)
}

/// The only server, or the primary of the group.
async fn server(config: &CollectorConfig) -> Result<NodeUrl, CollectorError> {
    let index = match config.is_group() {
        true => {
            let seen = observe::probe_all(config, None).await;
            choice::choose(&seen, None, &BTreeMap::new())?
        }
        false => 0,
    };
    let url = config.servers.get(index).cloned();
    url.ok_or_else(|| ConnError::Closed.into())
}

/// A node that is about to join: connected, so that the moment itself is short.
pub struct Joining {
    config: CollectorConfig,
    url: NodeUrl,
    side: SideConn,
    /// The definitions of its tables, as they are behind a set of GTIDs.
    tables: Option<(NodeTables, GtidSet)>,
}

impl Joining {
    /// Connects.
    ///
    /// # Errors
    /// The node cannot be asked.
    pub async fn connect(config: CollectorConfig) -> Result<Self, JoinError> {
        let url = server(&config).await?;
        let mut side = SideConn::connect(&url).await?;
        side.set_timeout(ANSWER);
        Ok(Self {
            config,
            url,
            side,
            tables: None,
        })
    }

    /// Reads the definitions of its tables, so that they are those of the join point. Takes as long as the node takes to show them.
    ///
    /// # Errors
    /// The node cannot be asked.
    pub async fn learn(&mut self) -> Result<(), JoinError> {
        let at = self.side.gtid_sets().await?.executed;
        self.tables = Some((self.side.tables().await?, at));
        Ok(())
    }

    /// The node's tables at the last join point that was found.
    pub fn tables(&self) -> Option<&NodeTables> {
        self.tables.as_ref().map(|(tables, _)| tables)
    }

    /// The join point of this moment, found within `patience`.
    ///
    /// # Errors
    /// As of the kinds of [`JoinError`].
    pub async fn point(&mut self, patience: Duration) -> Result<JoinPoint, JoinError> {
        let first = match &self.tables {
            Some((_, at)) => at.clone(),
            None => self.side.gtid_sets().await?.executed,
        };
        let recovered = self.side.prepared_xids().await?;
        let Some(xids) = recovered else {
            let account = self.side.facts().await?.account;
            return Err(JoinError::MayNotRecover { account });
        };
        let then = self.side.gtid_sets().await?.executed;
        let mut seen = Passage::new(first, then, &xids);
        if !seen.is_done() {
            let deadline = Instant::now() + patience;
            let read = definitions::read((&self.config, &self.url), &mut seen);
            match timeout_at(deadline, read).await {
                Ok(read) => read?,
                Err(_) => return Err(seen.in_doubt()),
            }
        }
        if let Some((_, at)) = &mut self.tables {
            if seen.tables_changed() {
                return Err(CollectorError::TablesChange.into());
            }
            at.clone_from(seen.received());
        }
        Ok(seen.point())
    }
}

/// What has been read from a moment before the answer of `XA RECOVER` on.
pub struct Passage {
    received: GtidSet,
    /// What was executed right after the answer.
    until: GtidSet,
    /// Branches in the answer of which the stream has told neither prepare nor end.
    unknown: Vec<XaXid>,
    /// Branches whose prepare the stream has told, and not their end.
    prepared: Vec<(XaXid, Gtid)>,
    /// A statement that may have changed a table has passed.
    statement: bool,
}

impl Passage {
    /// `received` was executed before the node was asked for its prepared branches, `until` right after it answered `xids`.
    pub fn new(received: GtidSet, until: GtidSet, xids: &[XaXid]) -> Self {
        Self {
            received,
            until,
            unknown: xids.to_vec(),
            prepared: Vec::new(),
            statement: false,
        }
    }

    /// What has been read so far.
    pub fn received(&self) -> &GtidSet {
        &self.received
    }

    /// The next group has a statement that may change a table.
    pub fn changes_tables(&mut self) {
        self.statement = true;
    }

    /// Whether a statement that may have changed a table has passed.
    pub fn tables_changed(&self) -> bool {
        self.statement
    }

    /// The next group of the node's binlog behind what was executed first.
    pub fn passes(&mut self, kind: &TxnKind, gtid: Gtid) {
        self.received.add(gtid);
        match kind {
            TxnKind::Prepare(xid) => {
                self.unknown.retain(|known| known != xid);
                self.prepared.push((*xid, gtid));
            }
            TxnKind::Commit(xid) | TxnKind::Rollback(xid) => {
                self.unknown.retain(|known| known != xid);
                self.prepared.retain(|(known, _)| known != xid);
            }
            _ => {}
        }
    }

    /// Whether everything is known that the join point needs.
    pub fn is_done(&self) -> bool {
        let known = self.unknown.is_empty() || mutant(Mutant::JoinEarly);
        known && self.until.is_subset(&self.received)
    }

    fn in_doubt(&self) -> JoinError {
        JoinError::InDoubt {
            xids: self.unknown.iter().map(ToString::to_string).collect(),
        }
    }

    /// The join point, once it [is known](Self::is_done).
    pub fn point(self) -> JoinPoint {
        let mut before = self.received;
        let mut still = GtidSet::new();
        for (_, gtid) in &self.prepared {
            still.add(*gtid);
        }
        if !mutant(Mutant::JoinForgetsPrepared) {
            before.subtract(&still);
        }
        JoinPoint {
            before,
            prepared: self.prepared.into_iter().map(|(xid, _)| xid).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(gnos: &str) -> GtidSet {
        format!("{UUID}:{gnos}").parse().unwrap()
    }

    fn gtid(gno: u64) -> Gtid {
        format!("{UUID}:{gno}").parse().unwrap()
    }

    fn xid(gtrid: &str) -> XaXid {
        XaXid::new(1, gtrid.as_bytes(), b"b").unwrap()
    }

    #[test]
    fn a_quiet_node_joins_where_it_is() {
        let seen = Passage::new(set("1-9"), set("1-9"), &[]);
        assert!(seen.is_done());
        assert_eq!(seen.point().before, set("1-9"));
    }

    #[test]
    fn what_is_prepared_belongs_to_what_is_read() {
        // `old` was prepared before the first set was read, `new` behind it.
        let mut seen = Passage::new(set("1-9"), set("1-11"), &[xid("old"), xid("new")]);
        seen.passes(&TxnKind::Prepare(xid("new")), gtid(10));
        seen.passes(&TxnKind::Local, gtid(11));
        assert!(!seen.is_done());
        let text = seen.in_doubt().to_string();
        assert!(
            text.contains("X'6f6c64'") && !text.contains("X'6e6577'"),
            "{text}"
        );
        seen.passes(&TxnKind::Commit(xid("old")), gtid(12));
        assert!(seen.is_done());
        let point = seen.point();
        assert_eq!(point.prepared, [xid("new")]);
        assert_eq!(point.before, set("1-9:11-12"), "10 will be read");
    }

    #[test]
    fn a_branch_that_ended_between_the_questions_is_over() {
        let mut seen = Passage::new(set("1-9"), set("1-11"), &[]);
        seen.passes(&TxnKind::Prepare(xid("short")), gtid(10));
        assert!(!seen.is_done());
        seen.passes(&TxnKind::Commit(xid("short")), gtid(11));
        assert!(seen.is_done());
        assert_eq!(seen.point().before, set("1-11"));
    }
}
