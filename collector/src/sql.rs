//! The side connection: what is asked of a node beside its dump.
//!
//! In: a node's address. Out: its settings and grants, its GTID sets, the end of its binlog (for fences), its clock, its part in a
//! failover group.

use std::time::Duration;

use tributary_binlog::{BinlogFile, GtidSet, XaXid};
use tributary_flow::SourcePos;

use crate::{
    config::NodeUrl,
    conn::NodeConn,
    core::{
        choice::Member,
        settings::{self, NodeFacts},
    },
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

    /// How long to wait for answers from now on.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.0.set_read_timeout(timeout);
    }

    /// Runs a statement; `doing` says what for.
    pub(crate) async fn query(
        &mut self,
        sql: &str,
        doing: &'static str,
    ) -> Result<Vec<Row>, ConnError> {
        self.0.query(sql, doing).await
    }

    /// `server_uuid`.
    pub(crate) async fn uuid(&mut self) -> Result<String, CollectorError> {
        let rows = self
            .0
            .query("SELECT @@GLOBAL.server_uuid", "asking who it is")
            .await?;
        Ok(rows.first().map(|row| text(row, 0)).unwrap_or_default())
    }

    /// The node's clock, µs since the epoch.
    pub(crate) async fn clock(&mut self) -> Result<i64, CollectorError> {
        const SQL: &str = "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)";
        let rows = self.0.query(SQL, "asking for the node's clock").await?;
        let answer = rows.first().map(|row| text(row, 0)).unwrap_or_default();
        answer.parse().map_err(|_| CollectorError::Answer {
            statement: SQL,
            answer,
        })
    }

    /// Its part in a failover group; `name` is its address.
    pub(crate) async fn member(&mut self, name: String) -> Result<Member, CollectorError> {
        const SQL: &str = "SELECT @@GLOBAL.read_only, @@GLOBAL.super_read_only";
        let rows = self.0.query(SQL, "asking whether it is writable").await?;
        let writable = rows
            .first()
            .is_some_and(|row| text(row, 0) == "0" && text(row, 1) == "0");
        let (replicating, retrieved) = self.channels().await?;
        // Asked last, so that what was retrieved and applied meanwhile is in it.
        let executed = self.gtid_sets().await?.executed;
        Ok(Member {
            name,
            writable,
            replicating,
            retrieved,
            executed,
        })
    }

    /// Whether any replication channel receives, and what they have received.
    async fn channels(&mut self) -> Result<(bool, GtidSet), CollectorError> {
        let statement = if version_of(self.0.version()) >= (8, 1) {
            "SHOW REPLICA STATUS"
        } else {
            "SHOW SLAVE STATUS"
        };
        let (names, rows) = self
            .0
            .query_table(statement, "asking for its replication")
            .await?;
        let column = |wanted: [&str; 2]| names.iter().position(|n| wanted.contains(&n.as_str()));
        let receiver = column(["Replica_IO_Running", "Slave_IO_Running"]);
        let received = column(["Retrieved_Gtid_Set", "Retrieved_Gtid_Set"]);
        let (mut replicating, mut retrieved) = (false, GtidSet::new());
        for row in &rows {
            replicating |= receiver.is_some_and(|i| text(row, i) != "No");
            let answer = received.map(|i| text(row, i)).unwrap_or_default();
            let set = answer
                .parse()
                .map_err(|_| CollectorError::Answer { statement, answer })?;
            retrieved.union(&set);
        }
        Ok((replicating, retrieved))
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

    /// Branches that are prepared; `None` when the account may not ask.
    pub(crate) async fn prepared_xids(&mut self) -> Result<Option<Vec<XaXid>>, CollectorError> {
        const SQL: &str = "XA RECOVER CONVERT XID";
        /// Access denied; and XAER_RMERR, which is what MySQL says to accounts without XA_RECOVER_ADMIN.
        const MAY_NOT: [u16; 2] = [1227, 1401];
        let rows = match self.0.query(SQL, "asking for prepared transactions").await {
            Ok(rows) => rows,
            Err(ConnError::Server { source, .. }) if MAY_NOT.contains(&source.code) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let parse = |row: &Row| {
            let [format, gtrid, _, data] = [0, 1, 2, 3].map(|column| text(row, column));
            parse_xid(&format, &gtrid, &data).ok_or_else(|| CollectorError::Answer {
                statement: SQL,
                answer: format!("{format} {gtrid} {data}"),
            })
        };
        rows.iter().map(parse).collect::<Result<_, _>>().map(Some)
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

/// A row of `XA RECOVER CONVERT XID`: format id, length of the gtrid, and both parts in hexadecimal behind `0x`.
fn parse_xid(format: &str, gtrid: &str, data: &str) -> Option<XaXid> {
    let digits = data.strip_prefix("0x")?.as_bytes();
    let digit = |d: u8| char::from(d).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    };
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect::<Option<_>>()?;
    let (gtrid, bqual) = bytes.split_at_checked(gtrid.parse().ok()?)?;
    XaXid::new(format.parse().ok()?, gtrid, bqual).ok()
}

/// The new name exists since 8.2.0, the old one is gone in 8.4.
fn status_statement(version: &str) -> &'static str {
    if version_of(version) >= (8, 2) {
        "SHOW BINARY LOG STATUS"
    } else {
        "SHOW MASTER STATUS"
    }
}

/// Major and minor number.
fn version_of(version: &str) -> (u32, u32) {
    let mut parts = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0_u32));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

pub(crate) fn text(row: &Row, column: usize) -> String {
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
    fn prepared_branches_are_read() {
        let xid = XaXid::new(1, b"ab", b"c").unwrap();
        assert_eq!(parse_xid("1", "2", "0x616263"), Some(xid));
        for (format, gtrid, data) in [
            ("1", "2", "616263"),
            ("1", "2", "0x61626"),
            ("1", "4", "0x616263"),
            ("x", "2", "0x616263"),
            ("1", "2", "0x6162zz"),
        ] {
            assert_eq!(parse_xid(format, gtrid, data), None, "{data}");
        }
    }

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
