//! The schema of a real MySQL as a catalog: what SHOW and `information_schema` say here must be what it says itself.

use std::sync::Arc;

use mysql_async::Row;
use tributary_dump_server::{
    Catalog, ColumnInfo, DatabaseInfo, ForeignKeyInfo, IndexInfo, IndexPart, TableInfo,
};
use tributary_tests::mysqld::Mysqld;

/// Databases with their tables.
pub(super) struct Mirror(Vec<(DatabaseInfo, Vec<Arc<TableInfo>>)>);

impl Catalog for Mirror {
    fn databases(&self) -> Vec<DatabaseInfo> {
        self.0
            .iter()
            .map(|(database, _)| database.clone())
            .collect()
    }

    fn tables(&self, database: &str) -> Vec<Arc<TableInfo>> {
        let found = self.0.iter().find(|(d, _)| d.name == database);
        found.map(|(_, tables)| tables.clone()).unwrap_or_default()
    }
}

fn text(row: &Row, name: &str) -> Option<String> {
    row.get_opt::<Option<String>, _>(name)
        .and_then(Result::ok)
        .flatten()
}

fn full(row: &Row, name: &str) -> String {
    text(row, name).unwrap_or_default()
}

fn number(row: &Row, name: &str) -> Option<u64> {
    text(row, name)?.parse().ok()
}

impl Mirror {
    /// The schema of these databases.
    pub(super) async fn of(server: &Mysqld, databases: &[&str]) -> Self {
        let mut all = Vec::new();
        for database in databases {
            let of = format!("WHERE SCHEMA_NAME = '{database}'");
            let row: Row = server
                .row(&format!("SELECT * FROM information_schema.schemata {of}"))
                .await
                .unwrap();
            let info = DatabaseInfo {
                name: (*database).to_owned(),
                charset: full(&row, "DEFAULT_CHARACTER_SET_NAME"),
                collation: full(&row, "DEFAULT_COLLATION_NAME"),
            };
            let of = format!("WHERE TABLE_SCHEMA = '{database}' ORDER BY TABLE_NAME");
            let tables: Vec<Row> = server
                .rows(&format!("SELECT * FROM information_schema.tables {of}"))
                .await
                .unwrap();
            let mut found = Vec::new();
            for row in &tables {
                found.push(Arc::new(table(server, database, row).await));
            }
            all.push((info, found));
        }
        Self(all)
    }
}

async fn table(server: &Mysqld, database: &str, row: &Row) -> TableInfo {
    let name = full(row, "TABLE_NAME");
    let of = format!("WHERE TABLE_SCHEMA = '{database}' AND TABLE_NAME = '{name}'");
    let rows = async |what: &str| -> Vec<Row> {
        server
            .rows(&format!("SELECT * FROM information_schema.{what}"))
            .await
            .unwrap()
    };
    let columns = rows(&format!("columns {of} ORDER BY ORDINAL_POSITION")).await;
    let statistics = rows(&format!("statistics {of} ORDER BY SEQ_IN_INDEX")).await;
    let keys = rows(&format!(
        "key_column_usage {of} AND REFERENCED_TABLE_NAME IS NOT NULL ORDER BY ORDINAL_POSITION"
    ))
    .await;
    let rules = rows(&format!(
        "referential_constraints WHERE CONSTRAINT_SCHEMA = '{database}' AND TABLE_NAME = '{name}'"
    ))
    .await;
    let created: (String, String) = server
        .row(&format!("SHOW CREATE TABLE `{database}`.`{name}`"))
        .await
        .unwrap();
    TableInfo {
        view: false,
        engine: full(row, "ENGINE"),
        collation: full(row, "TABLE_COLLATION"),
        comment: full(row, "TABLE_COMMENT"),
        auto_increment: number(row, "AUTO_INCREMENT"),
        columns: columns.iter().map(column).collect(),
        indexes: indexes(&statistics),
        foreign_keys: foreign_keys(&keys, &rules),
        // The tables that are mirrored have none.
        checks: Vec::new(),
        partitioned: full(row, "CREATE_OPTIONS").contains("partitioned"),
        create_statement: created.1,
        name,
    }
}

fn column(row: &Row) -> ColumnInfo {
    ColumnInfo {
        name: full(row, "COLUMN_NAME"),
        default: text(row, "COLUMN_DEFAULT"),
        nullable: full(row, "IS_NULLABLE") == "YES",
        data_type: full(row, "DATA_TYPE"),
        column_type: full(row, "COLUMN_TYPE"),
        char_length: number(row, "CHARACTER_MAXIMUM_LENGTH"),
        octet_length: number(row, "CHARACTER_OCTET_LENGTH"),
        precision: number(row, "NUMERIC_PRECISION"),
        scale: number(row, "NUMERIC_SCALE"),
        datetime_precision: number(row, "DATETIME_PRECISION"),
        charset: text(row, "CHARACTER_SET_NAME"),
        collation: text(row, "COLLATION_NAME"),
        extra: full(row, "EXTRA"),
        comment: full(row, "COLUMN_COMMENT"),
        generation: full(row, "GENERATION_EXPRESSION"),
        srid: number(row, "SRS_ID").map(|n| u32::try_from(n).unwrap()),
    }
}

fn indexes(statistics: &[Row]) -> Vec<IndexInfo> {
    let mut found: Vec<IndexInfo> = Vec::new();
    for row in statistics {
        let name = full(row, "INDEX_NAME");
        let part = IndexPart {
            column: text(row, "COLUMN_NAME"),
            expression: text(row, "EXPRESSION"),
            prefix: number(row, "SUB_PART"),
            descending: full(row, "COLLATION") == "D",
        };
        match found.iter_mut().find(|i| i.name == name) {
            Some(index) => index.parts.push(part),
            None => found.push(IndexInfo {
                name,
                unique: number(row, "NON_UNIQUE") == Some(0),
                kind: full(row, "INDEX_TYPE"),
                parts: vec![part],
                comment: full(row, "INDEX_COMMENT"),
                visible: full(row, "IS_VISIBLE") == "YES",
            }),
        }
    }
    // The primary key first, unique ones next, as SHOW INDEX lists them.
    found.sort_by_key(|i| (i.name != "PRIMARY", !i.unique));
    found
}

fn foreign_keys(columns: &[Row], rules: &[Row]) -> Vec<ForeignKeyInfo> {
    let mut found: Vec<ForeignKeyInfo> = Vec::new();
    for row in columns {
        let name = full(row, "CONSTRAINT_NAME");
        let at = match found.iter().position(|k| k.name == name) {
            Some(at) => at,
            None => {
                let rule = rules.iter().find(|r| full(r, "CONSTRAINT_NAME") == name);
                let rule = |what| rule.map(|r| full(r, what)).unwrap_or_default();
                found.push(ForeignKeyInfo {
                    name,
                    referenced_database: full(row, "REFERENCED_TABLE_SCHEMA"),
                    referenced_table: full(row, "REFERENCED_TABLE_NAME"),
                    on_update: rule("UPDATE_RULE"),
                    on_delete: rule("DELETE_RULE"),
                    ..ForeignKeyInfo::default()
                });
                found.len() - 1
            }
        };
        found[at].columns.push(full(row, "COLUMN_NAME"));
        found[at]
            .referenced_columns
            .push(full(row, "REFERENCED_COLUMN_NAME"));
    }
    found
}
