//! Finishing what sessions left behind: in goes what `XA RECOVER` lists on each node, out go
//! `XA COMMIT` with the timestamp decided, or `XA ROLLBACK`.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::{Instant, sleep, timeout};

use super::{ANSWER_TIMEOUT, Coordinator, Decision, stamp_text, xid_text};

/// MySQL's XAER_NOTA: someone else has finished the branch.
const UNKNOWN_XID: u16 = 1397;

/// A row of `XA RECOVER CONVERT XID`: format id, lengths of gtrid and bqual, both as 0x….
type PreparedRow = (i64, usize, usize, String);

impl Coordinator {
    /// One pass over all nodes. Returns how many branches were found and how many transactions
    /// are still unfinished; a node that does not answer is skipped.
    pub async fn recover_once(&self) -> (usize, usize) {
        let mut found = 0;
        for node in 0..self.node_count() {
            let pass = timeout(ANSWER_TIMEOUT, self.recover_node(node)).await;
            // A node that is down is tried again by the next pass.
            found += pass.map_or(0, |branches| branches.unwrap_or(0));
        }
        (found, self.decisions().unfinished())
    }

    /// A pass, if a session has left a branch behind since the last one.
    pub async fn recover_if_needed(&self) {
        if self.left_behind.swap(false, Ordering::SeqCst) {
            let (_, unfinished) = self.recover_once().await;
            if unfinished > 0 {
                self.left_behind.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Runs passes until two in a row find nothing to do on nodes that all answer.
    ///
    /// # Errors
    /// When that is not so after `limit`.
    pub async fn settle(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut quiet = 0;
        while quiet < 2 {
            let mut all_answer = true;
            let mut found = 0;
            for node in 0..self.node_count() {
                match timeout(ANSWER_TIMEOUT, self.recover_node(node)).await {
                    Ok(Ok(branches)) => found += branches,
                    _ => all_answer = false,
                }
            }
            let unfinished = self.decisions().unfinished();
            quiet = if all_answer && found == 0 && unfinished == 0 {
                quiet + 1
            } else {
                0
            };
            if Instant::now() > deadline {
                bail!("{unfinished} transactions are unfinished after {limit:?}");
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Decides a transaction that was left in doubt, and finishes it on all nodes that answer.
    pub async fn resolve(&self, gtrid: &str, commit: bool) -> Option<u64> {
        let tso = commit.then(|| self.tso.next());
        let decision = if commit {
            Decision::Commit(tso)
        } else {
            Decision::Rollback
        };
        self.decisions().decide(gtrid, decision);
        self.recover_once().await;
        tso
    }

    /// Finishes the branches of this run that the node has prepared. Returns how many there were.
    async fn recover_node(&self, node: usize) -> Result<usize, String> {
        // Asked before the list is read: a branch that is not in the list then is finished.
        let expected = self.decisions().unfinished_on(node);
        let mut conn = self.connect(node).await?;
        let prepared = self.prepared_on(&mut conn, node).await?;
        let mut handled = 0;
        for gtrid in &prepared {
            handled += usize::from(self.finish_branch(&mut conn, gtrid, node).await?);
        }
        for gtrid in expected.iter().filter(|gtrid| !prepared.contains(*gtrid)) {
            self.decisions().finished(gtrid, node);
        }
        // Nothing depends on an orderly goodbye.
        let _ = conn.disconnect().await;
        Ok(handled)
    }

    /// This run's prepared branches on the node, as gtrids.
    async fn prepared_on(&self, conn: &mut Conn, node: usize) -> Result<HashSet<String>, String> {
        let rows: Vec<PreparedRow> = conn
            .query("XA RECOVER CONVERT XID")
            .await
            .map_err(|error| error.to_string())?;
        let texts = rows
            .into_iter()
            .filter_map(|(_, length, _, data)| gtrid_of(&data, length));
        let own = format!("{}-", self.run);
        let bqual = format!("b{node}");
        Ok(texts
            .filter(|(gtrid, branch)| gtrid.starts_with(&own) && *branch == bqual)
            .map(|(gtrid, _)| gtrid)
            .collect())
    }

    async fn finish_branch(
        &self,
        conn: &mut Conn,
        gtrid: &str,
        node: usize,
    ) -> Result<bool, String> {
        let xid = xid_text(gtrid, node);
        let decision = self.decisions().decision(gtrid);
        let statement = match decision {
            // Its session is at work, or a test keeps it in doubt.
            Decision::Open => return Ok(false),
            Decision::Commit(tso) => format!("{}XA COMMIT {xid}", stamp_text(tso)),
            Decision::Rollback => format!("XA ROLLBACK {xid}"),
        };
        match conn.query_drop(statement).await {
            Ok(()) => self.decisions().finished(gtrid, node),
            // Whoever was faster leaves the timestamp in this session: start with a new one.
            Err(mysql_async::Error::Server(error)) if error.code == UNKNOWN_XID => {
                return Err("the branch is finished already".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(true)
    }
}

/// Splits `0x…` into gtrid and bqual, both of which are text in this workload.
fn gtrid_of(data: &str, gtrid_length: usize) -> Option<(String, String)> {
    let hex = data.strip_prefix("0x")?;
    let bytes: Option<Vec<u8>> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect();
    let bytes = bytes?;
    let (gtrid, bqual) = bytes.split_at_checked(gtrid_length)?;
    Some((
        String::from_utf8(gtrid.to_vec()).ok()?,
        String::from_utf8(bqual.to_vec()).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converted_xids_are_read() {
        assert_eq!(
            gtrid_of("0x676262", 1),
            Some(("g".to_owned(), "bb".to_owned()))
        );
        assert_eq!(gtrid_of("0x67", 2), None);
        assert_eq!(gtrid_of("0x6", 0), None);
        assert_eq!(gtrid_of("67", 1), None);
    }
}
