//! A server as a replica: `CHANGE REPLICATION SOURCE TO`, status, and waiting. In: the address of a
//! source (Tributary or a server). Out: what `SHOW REPLICA STATUS` says, errors included.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mysql_async::prelude::Queryable;
use mysql_async::{Row, Value};
use tokio::time::{Instant, sleep};

use super::{Mysqld, REPL_ACCOUNT};

/// Where a replica reads from.
#[derive(Debug, Clone)]
pub struct ReplicationSource {
    /// Host, an address of 127.0.0.0/8 here.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Account name.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Start position: GTIDs when `None`, else a binlog file and position.
    pub position: Option<(String, u64)>,
    /// Seconds between heartbeats; MySQL's default when `None`.
    pub heartbeat_seconds: Option<f64>,
}

impl ReplicationSource {
    /// GTID auto-positioning from 127.0.0.1 as [`REPL_ACCOUNT`].
    pub fn local(port: u16) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port,
            user: REPL_ACCOUNT.0.to_owned(),
            password: REPL_ACCOUNT.1.to_owned(),
            position: None,
            heartbeat_seconds: None,
        }
    }

    /// The statement an operator would type.
    pub fn statement(&self) -> String {
        let Self {
            host,
            port,
            user,
            password,
            ..
        } = self;
        let position = match &self.position {
            None => "SOURCE_AUTO_POSITION=1".to_owned(),
            Some((file, position)) => format!(
                "SOURCE_AUTO_POSITION=0, SOURCE_LOG_FILE='{file}', SOURCE_LOG_POS={position}"
            ),
        };
        let heartbeat = self.heartbeat_seconds.map_or_else(String::new, |seconds| {
            format!(", SOURCE_HEARTBEAT_PERIOD={seconds}")
        });
        format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, \
             SOURCE_USER='{user}', SOURCE_PASSWORD='{password}', {position}, \
             GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=86400{heartbeat}"
        )
    }
}

/// The columns of `SHOW REPLICA STATUS` that matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// `Replica_IO_Running`: `Yes`, `No` or `Connecting`.
    pub io_running: String,
    /// `Replica_SQL_Running`.
    pub sql_running: String,
    /// `Source_Log_File` and `Read_Source_Log_Pos`: how far the source's log was read.
    pub read_position: (String, u64),
    /// `Relay_Source_Log_File` and `Exec_Source_Log_Pos`: how far it was applied.
    pub applied_position: (String, u64),
    /// `Retrieved_Gtid_Set`.
    pub retrieved_gtids: String,
    /// `Executed_Gtid_Set`.
    pub executed_gtids: String,
    /// `Last_IO_Error`, empty when there is none.
    pub io_error: String,
    /// `Last_SQL_Error`, empty when there is none.
    pub sql_error: String,
    /// `Seconds_Behind_Source`.
    pub seconds_behind: Option<u64>,
}

impl ReplicaStatus {
    /// Both threads run and neither reports an error.
    pub fn is_healthy(&self) -> bool {
        self.io_running == "Yes" && self.sql_running == "Yes" && self.errors().is_none()
    }

    /// The errors, if there are any.
    pub fn errors(&self) -> Option<String> {
        let errors = [self.io_error.as_str(), self.sql_error.as_str()];
        let errors: Vec<&str> = errors.into_iter().filter(|text| !text.is_empty()).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }

    fn from_row(row: &Row) -> Self {
        let text = |name: &str| column_text(row, name).unwrap_or_default();
        let number = |name: &str| text(name).parse().unwrap_or_default();
        Self {
            io_running: text("Replica_IO_Running"),
            sql_running: text("Replica_SQL_Running"),
            read_position: (text("Source_Log_File"), number("Read_Source_Log_Pos")),
            applied_position: (text("Relay_Source_Log_File"), number("Exec_Source_Log_Pos")),
            retrieved_gtids: text("Retrieved_Gtid_Set").replace('\n', ""),
            executed_gtids: text("Executed_Gtid_Set").replace('\n', ""),
            io_error: text("Last_IO_Error"),
            sql_error: text("Last_SQL_Error"),
            seconds_behind: text("Seconds_Behind_Source").parse().ok(),
        }
    }
}

impl fmt::Display for ReplicaStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, position) = &self.applied_position;
        write!(
            f,
            "IO {}, SQL {}, at {file}:{position}",
            self.io_running, self.sql_running
        )?;
        match self.errors() {
            Some(errors) => write!(f, ", {errors}"),
            None => Ok(()),
        }
    }
}

fn column_text(row: &Row, name: &str) -> Option<String> {
    let index = row
        .columns_ref()
        .iter()
        .position(|column| column.name_str() == name)?;
    match row.as_ref(index)? {
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::Int(number) => Some(number.to_string()),
        Value::UInt(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Mysqld {
    /// Makes the server a replica of `source` and starts replication.
    ///
    /// # Errors
    /// The server's own.
    pub async fn replicate_from(&self, source: &ReplicationSource) -> Result<()> {
        let statement = source.statement();
        self.sql(&format!("STOP REPLICA; {statement}; START REPLICA"))
            .await
    }

    /// `SHOW REPLICA STATUS`, or `None` when the server is no replica.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn replica_status(&self) -> Result<Option<ReplicaStatus>> {
        let mut conn = self.root().await?;
        let row: Option<Row> = conn.query_first("SHOW REPLICA STATUS").await?;
        let mut status = row.as_ref().map(ReplicaStatus::from_row);
        if let Some(status) = &mut status
            && !status.sql_error.is_empty()
        {
            // The status names the worker only; the worker's own text says what went wrong.
            let workers: Vec<String> = conn
                .query(
                    "SELECT LAST_ERROR_MESSAGE \
                     FROM performance_schema.replication_applier_status_by_worker \
                     WHERE LAST_ERROR_NUMBER <> 0",
                )
                .await
                .unwrap_or_default();
            for worker in workers.iter().filter(|text| !text.is_empty()) {
                status.sql_error.push_str(" | ");
                status.sql_error.push_str(worker);
            }
        }
        conn.disconnect().await?;
        Ok(status)
    }

    /// Waits until everything in `gtids` has been applied.
    ///
    /// # Errors
    /// When replication stops with an error or `timeout` passes; the status is in the message.
    pub async fn wait_for_gtids(&self, gtids: &str, timeout: Duration) -> Result<()> {
        let query = format!("SELECT GTID_SUBSET('{gtids}', @@global.gtid_executed)");
        self.wait_until(&query, timeout)
            .await
            .with_context(|| format!("wait for GTIDs {gtids}"))
    }

    /// Waits until `query` gives a number other than 0, while replication is sound.
    ///
    /// # Errors
    /// When replication stops with an error or `timeout` passes; the status is in the message.
    pub async fn wait_until(&self, query: &str, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let answer: mysql_async::Result<Option<Option<i64>>> =
                self.root().await?.query_first(query).await;
            if matches!(answer, Ok(Some(Some(number))) if number != 0) {
                return Ok(());
            }
            let status = self.replica_status().await?.unwrap_or_default();
            if status.sql_running == "No" && !status.sql_error.is_empty() {
                bail!("replication on {} has stopped: {status}", self.name());
            }
            if status.io_running == "No" && !status.io_error.is_empty() {
                bail!("replication on {} has stopped: {status}", self.name());
            }
            if Instant::now() > deadline {
                bail!("{}: not within {timeout:?}: {query}; {status}", self.name());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}
