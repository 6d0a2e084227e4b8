//! The definitions of a node's tables, as the node shows them.
//!
//! In: a connection. Out: [`NodeTables`], and whether they are those of a place in its binlog: `SHOW CREATE TABLE` tells how a
//! table is at the moment, so they are those of a set of GTIDs when no statement that could have changed one lies between the
//! set and the moment behind the last answer. The binlog itself tells that; on a quiet node there is nothing to read.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tributary_binlog::{EventType, GtidSet};
use tributary_flow::{NodeItem, NodeTables, SourceTxn, TxnKind, limits};

use crate::{
    budget::Budget,
    config::{CollectorConfig, NodeUrl},
    core::{assemble::Assembler, settings},
    dump::{DumpConn, DumpOptions},
    error::{CollectorError, ConnError},
    join::Passage,
    sql::{SideConn, text},
};

/// How long the binlog is read for statements.
const PATIENCE: Duration = Duration::from_secs(20);

/// Names that no query can be given otherwise than quoted.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Whether a statement that a table's definition may depend on is part of it.
pub(crate) fn changes_tables(txn: &SourceTxn) -> bool {
    match txn.kind {
        TxnKind::Ddl => true,
        // `CREATE TABLE … SELECT` is a statement and rows.
        // What can not be read may be one.
        TxnKind::Local => (txn.body.first_type()).map_or(true, |t| t == Some(EventType::QUERY)),
        _ => false,
    }
}

impl SideConn {
    /// The tables that the node has now.
    pub(crate) async fn tables(&mut self) -> Result<NodeTables, CollectorError> {
        const SYSTEM: &str =
            "('mysql', 'sys', 'information_schema', 'performance_schema', 'ndbinfo')";
        const DOING: &str = "reading the definitions of tables";
        let grants = self.query("SHOW GRANTS", DOING).await?;
        let all = |row: &_| settings::grants(&text(row, 0), "SELECT");
        let mut out = NodeTables {
            complete: grants.iter().any(all),
            ..NodeTables::default()
        };
        // What is shown is to be understood by the rules of the default mode.
        let mode = "SET SESSION sql_mode = '', sql_quote_show_create = 1";
        self.query(mode, DOING).await?;
        let variables = "SELECT @@GLOBAL.lower_case_table_names, (SELECT ID FROM information_schema.collations \
                         WHERE COLLATION_NAME = @@GLOBAL.collation_server)";
        if let Some(row) = self.query(variables, DOING).await?.first() {
            out.lower_case_table_names = text(row, 0).parse().unwrap_or(0);
            out.server_collation = text(row, 1).parse().ok();
        }
        let schemas = format!(
            "SELECT SCHEMA_NAME, DEFAULT_COLLATION_NAME FROM information_schema.schemata WHERE SCHEMA_NAME NOT IN {SYSTEM} \
             ORDER BY 1"
        );
        for row in self.query(&schemas, DOING).await? {
            out.databases.push((text(&row, 0), text(&row, 1)));
        }
        let tables = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.tables WHERE TABLE_SCHEMA NOT IN {SYSTEM} ORDER BY 1, 2"
        );
        let mut bytes = 0;
        for row in self.query(&tables, DOING).await? {
            let (schema, name) = (text(&row, 0), text(&row, 1));
            let Some(sql) = self.definition(&schema, &name).await? else {
                continue;
            };
            bytes += sql.len();
            if bytes > limits::NODE_DEFINITIONS_BYTES_MAX {
                return Err(CollectorError::TooManyTables { bytes });
            }
            out.tables.push((schema, name, sql));
        }
        Ok(out)
    }

    /// No tables, but how the node takes their names.
    pub(crate) async fn names(&mut self) -> Result<NodeTables, CollectorError> {
        const DOING: &str = "asking how it takes names";
        let row = self
            .query("SELECT @@GLOBAL.lower_case_table_names", DOING)
            .await?;
        let folds = row.first().and_then(|row| text(row, 0).parse().ok());
        Ok(NodeTables {
            lower_case_table_names: folds.unwrap_or(0),
            ..NodeTables::default()
        })
    }

    /// `None` when the node does not show it: it is gone, a view of what is gone, or not for this account.
    async fn definition(
        &mut self,
        schema: &str,
        name: &str,
    ) -> Result<Option<String>, CollectorError> {
        /// Not allowed (a table, a view, anything), unknown database, unknown table, invalid view.
        const HIDDEN: [u16; 7] = [1142, 1143, 1227, 1044, 1049, 1146, 1356];
        let sql = format!("SHOW CREATE TABLE {}.{}", quoted(schema), quoted(name));
        match self.query(&sql, "reading a table's definition").await {
            Ok(rows) => Ok(rows.first().map(|row| text(row, 1))),
            Err(ConnError::Server { source, .. }) if HIDDEN.contains(&source.code) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The tables of a node as they are behind the GTIDs `before`; `None` when a statement behind them has changed something, or too
/// much lies behind them to look through.
pub(crate) async fn behind(
    before: &GtidSet,
    (config, url): (&CollectorConfig, &NodeUrl),
    side: &mut SideConn,
) -> Result<Option<NodeTables>, CollectorError> {
    let tables = side.tables().await?;
    let now = side.gtid_sets().await?.executed;
    let mut seen = Passage::new(before.clone(), now, &[]);
    let read = timeout_at(Instant::now() + PATIENCE, read((config, url), &mut seen));
    match read.await {
        Ok(read) => read?,
        Err(_) => return Ok(None),
    }
    Ok((!seen.tables_changed()).then_some(tables))
}

/// Reads the binlog of a node until `seen` knows what it wants to know.
pub(crate) async fn read(
    (config, url): (&CollectorConfig, &NodeUrl),
    seen: &mut Passage,
) -> Result<(), CollectorError> {
    if seen.is_done() {
        return Ok(());
    }
    let options = DumpOptions {
        server_id: config.server_id,
        replica_uuid: Some(config.replica_uuid),
        heartbeat: config.heartbeat,
        blocking: true,
        semi_sync: false,
    };
    let mut conn = DumpConn::connect(url).await?;
    conn.dump_gtid(&options, seen.received()).await?;
    // Rows are thrown away at once: the budget is not waited for.
    let mut assembler =
        Assembler::with_spilling(Arc::new(Budget::new(usize::MAX)), config.spilling.clone());
    while !seen.is_done() {
        while let Some(event) = conn.poll_event()? {
            assembler.handle(&event)?;
        }
        for item in assembler.take() {
            if let NodeItem::Txn(txn) = item {
                if changes_tables(&txn) {
                    seen.changes_tables();
                }
                seen.passes(&txn.kind, txn.gtid);
            }
        }
        if !seen.is_done() && !conn.try_fill().await? {
            conn.fill().await?;
        }
    }
    Ok(())
}
