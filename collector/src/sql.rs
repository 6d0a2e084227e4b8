//! The side connection: what is asked of a node beside its dump.
//!
//! In: a node's address. Out: its settings and grants, its GTID sets, the end of its binlog (for fences).

use tributary_binlog::{BinlogFile, GtidSet};
use tributary_flow::SourcePos;

use crate::{
    config::NodeUrl,
    conn::NodeConn,
    core::settings::{self, NodeFacts},
    error::{CollectorError, ConnError},
    wire::rows::Row,
};

/// A logged-in side connection.
pub(crate) struct SideConn(NodeConn);

/// `gtid_executed` and `gtid_purged` of one moment.
pub(crate) struct GtidSets {
    pub(crate) executed: GtidSet,
    pub(crate) purged: GtidSet,
}

impl SideConn {
    pub(crate) async fn connect(url: &NodeUrl) -> Result<Self, ConnError> {
        NodeConn::connect(url).await.map(Self)
    }

    /// Logs out.
    pub(crate) async fn quit(self) {
        self.0.quit().await;
    }

    /// Variables, grants and account.
    pub(crate) async fn facts(&mut self) -> Result<NodeFacts, CollectorError> {
        let names = settings::VARIABLES
            .map(|name| format!("'{name}'"))
            .join(", ");
        let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})");
        let mut facts = NodeFacts::default();
        for row in self.0.query(&sql, "reading the node's settings").await? {
            facts
                .variables
                .insert(text(&row, 0).to_ascii_lowercase(), text(&row, 1));
        }
        let grants = self
            .0
            .query("SHOW GRANTS", "reading the account's privileges")
            .await?;
        facts.grants = grants.iter().map(|row| text(row, 0)).collect();
        let account = self
            .0
            .query("SELECT CURRENT_USER()", "reading the account")
            .await?;
        facts.account = account.first().map(|row| text(row, 0)).unwrap_or_default();
        Ok(facts)
    }

    pub(crate) async fn gtid_sets(&mut self) -> Result<GtidSets, CollectorError> {
        const SQL: &str = "SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged";
        let rows = self.0.query(SQL, "reading the node's GTID sets").await?;
        let row = rows.into_iter().next().unwrap_or_default();
        let set = |column: usize| {
            let answer = text(&row, column);
            answer.parse().map_err(|_| CollectorError::Answer {
                statement: SQL,
                answer,
            })
        };
        Ok(GtidSets {
            executed: set(0)?,
            purged: set(1)?,
        })
    }

    /// Where the node's binlog ends now.
    pub(crate) async fn binlog_end(&mut self) -> Result<SourcePos, CollectorError> {
        let statement = status_statement(self.0.version());
        let rows = self
            .0
            .query(statement, "asking for the end of the binlog")
            .await?;
        let row = rows.into_iter().next().unwrap_or_default();
        let (file, offset) = (text(&row, 0), text(&row, 1));
        match (BinlogFile::parse(&file), offset.parse()) {
            (Ok(file), Ok(offset)) => Ok(SourcePos {
                file: file.seq(),
                offset,
            }),
            _ => Err(CollectorError::Answer {
                statement,
                answer: format!("{file} {offset}"),
            }),
        }
    }
}

/// The new name exists since 8.2.0, the old one is gone in 8.4.
fn status_statement(version: &str) -> &'static str {
    let mut parts = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0_u32));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found >= (8, 2) {
        "SHOW BINARY LOG STATUS"
    } else {
        "SHOW MASTER STATUS"
    }
}

fn text(row: &Row, column: usize) -> String {
    let value = row
        .get(column)
        .and_then(|value| value.as_deref())
        .unwrap_or_default();
    String::from_utf8_lossy(value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_statement_follows_the_version() {
        for (version, statement) in [
            ("8.0.36", "SHOW MASTER STATUS"),
            ("8.1.0-log", "SHOW MASTER STATUS"),
            ("8.2.0", "SHOW BINARY LOG STATUS"),
            ("8.4.4", "SHOW BINARY LOG STATUS"),
            ("9.7.4-Debian", "SHOW BINARY LOG STATUS"),
            ("", "SHOW MASTER STATUS"),
        ] {
            assert_eq!(status_statement(version), statement, "{version}");
        }
    }
}
