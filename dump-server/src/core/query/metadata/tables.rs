//! The tables of `information_schema` and `performance_schema` that exist here, with their columns.
//!
//! In: nothing. Out: definitions. Names and order of the columns are MySQL 9.7's.

use std::sync::LazyLock;

use crate::wire::resultset::{Column, flags};

/// Databases that hold no rows of users.
pub(super) const SCHEMAS: [&str; 2] = ["information_schema", "performance_schema"];

/// One table.
#[derive(Debug)]
pub(super) struct TableDef {
    pub(super) schema: &'static str,
    pub(super) name: &'static str,
    pub(super) columns: Vec<ColumnDef>,
}

/// One column of such a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColumnDef {
    pub(super) name: &'static str,
    integer: bool,
}

impl TableDef {
    /// Its definition for SQLite: text compares without case.
    pub(super) fn ddl(&self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|c| {
                let ty = if c.integer {
                    "INTEGER"
                } else {
                    "TEXT COLLATE NOCASE"
                };
                format!("\"{}\" {ty}", c.name)
            })
            .collect();
        format!(
            "CREATE TABLE {}.{} ({})",
            self.schema,
            self.name,
            columns.join(", ")
        )
    }

    /// A column's shape on the wire.
    pub(super) fn column(&self, name: &str) -> Option<Column> {
        let def = self
            .columns
            .iter()
            .find(|c| c.name.eq_ignore_ascii_case(name))?;
        let mut column = if def.integer {
            Column::integer(def.name, 21, flags::UNSIGNED)
        } else {
            Column::text(def.name, 64)
        };
        column = column.of_table(self.schema, self.name);
        Some(column)
    }
}

/// Every table.
pub(super) fn all() -> &'static [TableDef] {
    &TABLES
}

static TABLES: LazyLock<Vec<TableDef>> = LazyLock::new(|| {
    let parse = |schema| {
        move |(name, columns): &(&'static str, &'static str)| TableDef {
            schema,
            name,
            columns: columns
                .split_ascii_whitespace()
                .map(|c| match c.strip_suffix('#') {
                    Some(name) => ColumnDef {
                        name,
                        integer: true,
                    },
                    None => ColumnDef {
                        name: c,
                        integer: false,
                    },
                })
                .collect(),
        }
    };
    let information = INFORMATION.iter().map(parse(SCHEMAS[0]));
    information
        .chain(PERFORMANCE.iter().map(parse(SCHEMAS[1])))
        .collect()
});

/// `#` marks whole numbers.
const INFORMATION: &[(&str, &str)] = &[
    (
        "CHARACTER_SETS",
        "CHARACTER_SET_NAME DEFAULT_COLLATE_NAME DESCRIPTION MAXLEN#",
    ),
    (
        "CHECK_CONSTRAINTS",
        "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME CHECK_CLAUSE",
    ),
    (
        "COLLATIONS",
        "COLLATION_NAME CHARACTER_SET_NAME ID# IS_DEFAULT IS_COMPILED SORTLEN# PAD_ATTRIBUTE",
    ),
    (
        "COLLATION_CHARACTER_SET_APPLICABILITY",
        "COLLATION_NAME CHARACTER_SET_NAME",
    ),
    (
        "COLUMNS",
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION# COLUMN_DEFAULT IS_NULLABLE DATA_TYPE \
         CHARACTER_MAXIMUM_LENGTH# CHARACTER_OCTET_LENGTH# NUMERIC_PRECISION# NUMERIC_SCALE# DATETIME_PRECISION# \
         CHARACTER_SET_NAME COLLATION_NAME COLUMN_TYPE COLUMN_KEY EXTRA PRIVILEGES COLUMN_COMMENT GENERATION_EXPRESSION \
         SRS_ID#",
    ),
    (
        "COLUMN_PRIVILEGES",
        "GRANTEE TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME PRIVILEGE_TYPE IS_GRANTABLE",
    ),
    (
        "ENGINES",
        "ENGINE SUPPORT COMMENT TRANSACTIONS XA SAVEPOINTS",
    ),
    (
        "EVENTS",
        "EVENT_CATALOG EVENT_SCHEMA EVENT_NAME DEFINER TIME_ZONE EVENT_BODY EVENT_DEFINITION EVENT_TYPE EXECUTE_AT \
         INTERVAL_VALUE INTERVAL_FIELD SQL_MODE STARTS ENDS STATUS ON_COMPLETION CREATED LAST_ALTERED LAST_EXECUTED \
         EVENT_COMMENT ORIGINATOR# CHARACTER_SET_CLIENT COLLATION_CONNECTION DATABASE_COLLATION",
    ),
    (
        "KEY_COLUMN_USAGE",
        "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME \
         ORDINAL_POSITION# POSITION_IN_UNIQUE_CONSTRAINT# REFERENCED_TABLE_SCHEMA REFERENCED_TABLE_NAME \
         REFERENCED_COLUMN_NAME",
    ),
    (
        "PARAMETERS",
        "SPECIFIC_CATALOG SPECIFIC_SCHEMA SPECIFIC_NAME ORDINAL_POSITION# PARAMETER_MODE PARAMETER_NAME DATA_TYPE \
         CHARACTER_MAXIMUM_LENGTH# CHARACTER_OCTET_LENGTH# NUMERIC_PRECISION# NUMERIC_SCALE# DATETIME_PRECISION# \
         CHARACTER_SET_NAME COLLATION_NAME DTD_IDENTIFIER ROUTINE_TYPE",
    ),
    (
        "PARTITIONS",
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME PARTITION_NAME SUBPARTITION_NAME PARTITION_ORDINAL_POSITION# \
         SUBPARTITION_ORDINAL_POSITION# PARTITION_METHOD SUBPARTITION_METHOD PARTITION_EXPRESSION SUBPARTITION_EXPRESSION \
         PARTITION_DESCRIPTION TABLE_ROWS# AVG_ROW_LENGTH# DATA_LENGTH# MAX_DATA_LENGTH# INDEX_LENGTH# DATA_FREE# CREATE_TIME \
         UPDATE_TIME CHECK_TIME CHECKSUM# PARTITION_COMMENT NODEGROUP TABLESPACE_NAME",
    ),
    (
        "PLUGINS",
        "PLUGIN_NAME PLUGIN_VERSION PLUGIN_STATUS PLUGIN_TYPE PLUGIN_TYPE_VERSION PLUGIN_LIBRARY PLUGIN_LIBRARY_VERSION \
         PLUGIN_AUTHOR PLUGIN_DESCRIPTION PLUGIN_LICENSE LOAD_OPTION",
    ),
    ("PROCESSLIST", "ID# USER HOST DB COMMAND TIME# STATE INFO"),
    (
        "REFERENTIAL_CONSTRAINTS",
        "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME UNIQUE_CONSTRAINT_CATALOG UNIQUE_CONSTRAINT_SCHEMA \
         UNIQUE_CONSTRAINT_NAME MATCH_OPTION UPDATE_RULE DELETE_RULE TABLE_NAME REFERENCED_TABLE_NAME",
    ),
    (
        "ROUTINES",
        "SPECIFIC_NAME ROUTINE_CATALOG ROUTINE_SCHEMA ROUTINE_NAME ROUTINE_TYPE DATA_TYPE ROUTINE_BODY ROUTINE_DEFINITION \
         EXTERNAL_LANGUAGE IS_DETERMINISTIC SQL_DATA_ACCESS SECURITY_TYPE CREATED LAST_ALTERED SQL_MODE ROUTINE_COMMENT \
         DEFINER",
    ),
    (
        "SCHEMATA",
        "CATALOG_NAME SCHEMA_NAME DEFAULT_CHARACTER_SET_NAME DEFAULT_COLLATION_NAME SQL_PATH DEFAULT_ENCRYPTION",
    ),
    (
        "SCHEMA_PRIVILEGES",
        "GRANTEE TABLE_CATALOG TABLE_SCHEMA PRIVILEGE_TYPE IS_GRANTABLE",
    ),
    (
        "STATISTICS",
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME NON_UNIQUE# INDEX_SCHEMA INDEX_NAME SEQ_IN_INDEX# COLUMN_NAME COLLATION \
         CARDINALITY# SUB_PART# PACKED NULLABLE INDEX_TYPE COMMENT INDEX_COMMENT IS_VISIBLE EXPRESSION",
    ),
    (
        "TABLES",
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME TABLE_TYPE ENGINE VERSION# ROW_FORMAT TABLE_ROWS# AVG_ROW_LENGTH# \
         DATA_LENGTH# MAX_DATA_LENGTH# INDEX_LENGTH# DATA_FREE# AUTO_INCREMENT# CREATE_TIME UPDATE_TIME CHECK_TIME \
         TABLE_COLLATION CHECKSUM# CREATE_OPTIONS TABLE_COMMENT",
    ),
    (
        "TABLE_CONSTRAINTS",
        "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_SCHEMA TABLE_NAME CONSTRAINT_TYPE ENFORCED",
    ),
    (
        "TABLE_PRIVILEGES",
        "GRANTEE TABLE_CATALOG TABLE_SCHEMA TABLE_NAME PRIVILEGE_TYPE IS_GRANTABLE",
    ),
    (
        "TRIGGERS",
        "TRIGGER_CATALOG TRIGGER_SCHEMA TRIGGER_NAME EVENT_MANIPULATION EVENT_OBJECT_CATALOG EVENT_OBJECT_SCHEMA \
         EVENT_OBJECT_TABLE ACTION_ORDER# ACTION_STATEMENT ACTION_ORIENTATION ACTION_TIMING CREATED SQL_MODE DEFINER",
    ),
    (
        "USER_PRIVILEGES",
        "GRANTEE TABLE_CATALOG PRIVILEGE_TYPE IS_GRANTABLE",
    ),
    (
        "VIEWS",
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME VIEW_DEFINITION CHECK_OPTION IS_UPDATABLE DEFINER SECURITY_TYPE \
         CHARACTER_SET_CLIENT COLLATION_CONNECTION",
    ),
];

const PERFORMANCE: &[(&str, &str)] = &[
    ("global_status", "VARIABLE_NAME VARIABLE_VALUE"),
    ("global_variables", "VARIABLE_NAME VARIABLE_VALUE"),
    (
        "log_status",
        "SERVER_UUID LOCAL REPLICATION STORAGE_ENGINES",
    ),
    (
        "processlist",
        "ID# USER HOST DB COMMAND TIME# STATE INFO EXECUTION_ENGINE",
    ),
    ("persisted_variables", "VARIABLE_NAME VARIABLE_VALUE"),
    (
        "replication_applier_configuration",
        "CHANNEL_NAME DESIRED_DELAY# PRIVILEGE_CHECKS_USER REQUIRE_ROW_FORMAT REQUIRE_TABLE_PRIMARY_KEY_CHECK \
         ASSIGN_GTIDS_TO_ANONYMOUS_TRANSACTIONS_TYPE ASSIGN_GTIDS_TO_ANONYMOUS_TRANSACTIONS_VALUE",
    ),
    (
        "replication_applier_status",
        "CHANNEL_NAME SERVICE_STATE REMAINING_DELAY# COUNT_TRANSACTIONS_RETRIES#",
    ),
    (
        "replication_applier_status_by_coordinator",
        "CHANNEL_NAME THREAD_ID# SERVICE_STATE LAST_ERROR_NUMBER# LAST_ERROR_MESSAGE LAST_ERROR_TIMESTAMP \
         LAST_PROCESSED_TRANSACTION PROCESSING_TRANSACTION",
    ),
    (
        "replication_applier_status_by_worker",
        "CHANNEL_NAME WORKER_ID# THREAD_ID# SERVICE_STATE LAST_ERROR_NUMBER# LAST_ERROR_MESSAGE LAST_ERROR_TIMESTAMP \
         LAST_APPLIED_TRANSACTION APPLYING_TRANSACTION",
    ),
    (
        "replication_asynchronous_connection_failover",
        "CHANNEL_NAME HOST PORT# NETWORK_NAMESPACE WEIGHT# MANAGED_NAME",
    ),
    (
        "replication_asynchronous_connection_failover_managed",
        "CHANNEL_NAME MANAGED_NAME MANAGED_TYPE CONFIGURATION",
    ),
    (
        "replication_connection_configuration",
        "CHANNEL_NAME HOST PORT# USER NETWORK_INTERFACE AUTO_POSITION SSL_ALLOWED",
    ),
    (
        "replication_connection_status",
        "CHANNEL_NAME GROUP_NAME SOURCE_UUID THREAD_ID# SERVICE_STATE COUNT_RECEIVED_HEARTBEATS# RECEIVED_TRANSACTION_SET \
         LAST_ERROR_NUMBER# LAST_ERROR_MESSAGE",
    ),
    (
        "replication_group_members",
        "CHANNEL_NAME MEMBER_ID MEMBER_HOST MEMBER_PORT# MEMBER_STATE MEMBER_ROLE MEMBER_VERSION \
         MEMBER_COMMUNICATION_STACK",
    ),
    (
        "replication_group_member_stats",
        "CHANNEL_NAME VIEW_ID MEMBER_ID COUNT_TRANSACTIONS_IN_QUEUE#",
    ),
    (
        "session_account_connect_attrs",
        "PROCESSLIST_ID# ATTR_NAME ATTR_VALUE ORDINAL_POSITION#",
    ),
    (
        "session_connect_attrs",
        "PROCESSLIST_ID# ATTR_NAME ATTR_VALUE ORDINAL_POSITION#",
    ),
    ("session_status", "VARIABLE_NAME VARIABLE_VALUE"),
    ("session_variables", "VARIABLE_NAME VARIABLE_VALUE"),
    (
        "threads",
        "THREAD_ID# NAME TYPE PROCESSLIST_ID# PROCESSLIST_USER PROCESSLIST_HOST PROCESSLIST_DB PROCESSLIST_COMMAND \
         PROCESSLIST_TIME# PROCESSLIST_STATE PROCESSLIST_INFO",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_there_once_with_columns() {
        let mut names: Vec<String> = all()
            .iter()
            .map(|t| format!("{}.{}", t.schema, t.name))
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all().len());
        assert!(all().iter().all(|t| t.columns.len() > 1));
        let tables = all().iter().find(|t| t.name == "TABLES").unwrap();
        assert_eq!(tables.columns.len(), 21, "as in MySQL 9.7");
    }
}
