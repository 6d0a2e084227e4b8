//! One transaction after the other: in goes what its branches do, out comes what became of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::timeout;

use super::{ANSWER_TIMEOUT, Branch, Coordinator, Decision, Finish, Outcome, stamp_text, xid_text};

/// A client of the coordinator with a connection to each node, made when first needed and again
/// after it broke.
#[derive(Debug)]
pub struct Session {
    coordinator: Arc<Coordinator>,
    connections: Vec<Option<Conn>>,
}

impl Session {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        let connections = (0..coordinator.node_count()).map(|_| None).collect();
        Self {
            coordinator,
            connections,
        }
    }

    /// Runs one transaction. Branches run one after the other in the order given: with one order
    /// for all callers, sessions cannot deadlock across nodes.
    pub async fn run(&mut self, branches: &[Branch], finish: Finish) -> Outcome {
        match finish {
            Finish::Local => self.local(branches, false).await,
            Finish::LocalStamped => self.local(branches, true).await,
            Finish::OnePhase => self.one_phase(branches).await,
            Finish::TwoPhase
            | Finish::TwoPhaseUnstamped
            | Finish::RollbackPrepared
            | Finish::LeaveInDoubt => self.two_phase(branches, finish).await,
        }
    }

    /// Runs statements on a node outside of any transaction, a DDL for example.
    ///
    /// # Errors
    /// The server's own, or that it does not answer.
    pub async fn execute(&mut self, node: usize, statements: &str) -> Result<(), SqlError> {
        let conn = match self.connections.get_mut(node) {
            Some(Some(conn)) => conn,
            Some(slot) => {
                let conn = self.coordinator.connect(node).await;
                slot.insert(conn.map_err(|message| SqlError {
                    code: None,
                    message,
                })?)
            }
            None => {
                let message = format!("there is no node {node}");
                return Err(SqlError {
                    code: None,
                    message,
                });
            }
        };
        let done = timeout(ANSWER_TIMEOUT, conn.query_drop(statements)).await;
        let error = match done {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(mysql_async::Error::Server(error))) => SqlError {
                code: Some(error.code),
                message: error.to_string(),
            },
            Ok(Err(error)) => SqlError {
                code: None,
                message: error.to_string(),
            },
            Err(_) => SqlError {
                code: None,
                message: "no answer".to_owned(),
            },
        };
        if error.code.is_none() {
            self.forget(node);
        }
        Err(error)
    }

    /// Drops the connection to a node: its state is not known any more.
    pub fn forget(&mut self, node: usize) {
        if let Some(slot) = self.connections.get_mut(node) {
            // Conn's own drop would try to tidy up; a task does that, and may fail.
            if let Some(conn) = slot.take() {
                tokio::spawn(async move { timeout(ANSWER_TIMEOUT, conn.disconnect()).await });
            }
        }
    }

    async fn local(&mut self, branches: &[Branch], stamped: bool) -> Outcome {
        let [Branch { node, statements }] = branches else {
            return Outcome::Aborted {
                reason: "a local transaction has one branch".to_owned(),
            };
        };
        let work = format!("BEGIN; {}", statements.join("; "));
        if let Err(error) = self.execute(*node, &work).await {
            if self.execute(*node, "ROLLBACK").await.is_err() {
                self.forget(*node);
            }
            return Outcome::Aborted {
                reason: error.message,
            };
        }
        let tso = stamped.then(|| self.coordinator.tso.next());
        self.commit_alone(*node, tso, "COMMIT").await
    }

    async fn one_phase(&mut self, branches: &[Branch]) -> Outcome {
        let [branch] = branches else {
            return Outcome::Aborted {
                reason: "one phase means one branch".to_owned(),
            };
        };
        let gtrid = self.coordinator.next_gtrid();
        let xid = xid_text(&gtrid, branch.node);
        if let Err(reason) = self.work(branch, &xid).await {
            return Outcome::Aborted { reason };
        }
        let tso = Some(self.coordinator.tso.next());
        self.commit_alone(branch.node, tso, &format!("XA COMMIT {xid} ONE PHASE"))
            .await
    }

    async fn commit_alone(&mut self, node: usize, tso: Option<u64>, commit: &str) -> Outcome {
        match self
            .execute(node, &format!("{}{commit}", stamp_text(tso)))
            .await
        {
            Ok(()) => Outcome::Committed { tso },
            Err(error) => {
                self.forget(node);
                Outcome::Unknown {
                    reason: error.message,
                }
            }
        }
    }

    async fn two_phase(&mut self, branches: &[Branch], finish: Finish) -> Outcome {
        let gtrid = self.coordinator.next_gtrid();
        self.coordinator
            .decisions()
            .begin(&gtrid, branches.iter().map(|branch| branch.node));
        if let Err(reason) = self.prepare_all(branches, &gtrid).await {
            self.coordinator
                .decisions()
                .decide(&gtrid, Decision::Rollback);
            self.carry_out(branches, &gtrid).await;
            return Outcome::Aborted { reason };
        }
        let (decision, outcome) = match finish {
            Finish::LeaveInDoubt => return Outcome::InDoubt { gtrid },
            Finish::RollbackPrepared => (Decision::Rollback, Outcome::RolledBack),
            Finish::TwoPhaseUnstamped => (Decision::Commit(None), Outcome::Committed { tso: None }),
            _ => {
                // Only now: after the last prepare, before the first commit.
                let tso = Some(self.coordinator.tso.next());
                (Decision::Commit(tso), Outcome::Committed { tso })
            }
        };
        self.coordinator.decisions().decide(&gtrid, decision);
        self.carry_out(branches, &gtrid).await;
        outcome
    }

    async fn prepare_all(&mut self, branches: &[Branch], gtrid: &str) -> Result<(), String> {
        for branch in branches {
            let xid = xid_text(gtrid, branch.node);
            self.work(branch, &xid).await?;
        }
        for branch in branches {
            let prepare = format!("XA PREPARE {}", xid_text(gtrid, branch.node));
            if let Err(error) = self.execute(branch.node, &prepare).await {
                return Err(error.message);
            }
        }
        Ok(())
    }

    /// Runs a branch's statements up to `XA END`. On an error the branch is gone.
    async fn work(&mut self, branch: &Branch, xid: &str) -> Result<(), String> {
        let statements = branch.statements.join("; ");
        let work = format!("XA START {xid}; {statements}; XA END {xid}");
        let Err(error) = self.execute(branch.node, &work).await else {
            return Ok(());
        };
        // A branch that is not prepared goes with its connection.
        self.forget(branch.node);
        Err(error.message)
    }

    /// Tells every branch the decision; what cannot be told is left to the recovery.
    async fn carry_out(&mut self, branches: &[Branch], gtrid: &str) {
        let decision = self.coordinator.decisions().decision(gtrid);
        // The nodes take turns to hear it first, so that no node is always ahead of the others.
        let turn = gtrid.bytes().map(usize::from).sum::<usize>() % branches.len().max(1);
        for branch in branches.iter().cycle().skip(turn).take(branches.len()) {
            let xid = xid_text(gtrid, branch.node);
            let statement = match decision {
                Decision::Commit(tso) => format!("{}XA COMMIT {xid}", stamp_text(tso)),
                Decision::Rollback | Decision::Open => format!("XA ROLLBACK {xid}"),
            };
            match self.execute(branch.node, &statement).await {
                Ok(()) => self.coordinator.decisions().finished(gtrid, branch.node),
                // The branch may be active, prepared, gone, or the session may carry a timestamp
                // meant for it: a new connection knows nothing of all that.
                Err(_) => {
                    self.forget(branch.node);
                    self.coordinator.left_behind.store(true, Ordering::SeqCst);
                }
            }
        }
    }
}

/// Why a statement failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// MySQL's error number; `None` when the connection failed.
    pub code: Option<u16>,
    /// For people.
    pub message: String,
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SqlError {}
