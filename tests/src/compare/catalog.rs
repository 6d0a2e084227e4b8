//! What tables a server has: in goes a connection, out come columns, keys and indexes by name.

use std::collections::BTreeMap;

use anyhow::Result;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

const SYSTEM: &str = "('mysql', 'sys', 'information_schema', 'performance_schema')";

/// Schema and table.
pub(super) type TableName = (String, String);

/// A column as `information_schema` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// Type, nullability, default, collation and extras.
    pub(super) definition: String,
}

/// A table's definition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    /// Index name to its columns, the primary key among them.
    pub(super) indexes: BTreeMap<String, Vec<String>>,
}

impl Table {
    /// Positions of the primary key's columns; empty when there is none.
    pub(super) fn key(&self) -> Vec<usize> {
        let key = self
            .indexes
            .get("PRIMARY")
            .map(Vec::as_slice)
            .unwrap_or_default();
        let position = |name: &String| {
            let name = name.split('(').next().unwrap_or(name);
            self.columns.iter().position(|column| column.name == name)
        };
        key.iter().filter_map(position).collect()
    }

    /// In what the definitions differ, in words; empty when they do not.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let names = |table: &Self| -> Vec<String> {
            table
                .columns
                .iter()
                .map(|column| column.name.clone())
                .collect()
        };
        if names(self) != names(other) {
            let (ours, theirs) = (names(self).join(", "), names(other).join(", "));
            found.push(format!("columns ({ours}) became ({theirs})"));
        }
        for column in &self.columns {
            let twin = other.columns.iter().find(|twin| twin.name == column.name);
            if let Some(twin) = twin.filter(|twin| twin.definition != column.definition) {
                let (name, definition) = (&column.name, &column.definition);
                found.push(format!(
                    "column {name}: {definition} became {}",
                    twin.definition
                ));
            }
        }
        if self.indexes != other.indexes {
            found.push(format!(
                "indexes {:?} became {:?}",
                self.indexes, other.indexes
            ));
        }
        found
    }
}

/// All tables of a server that are not its own.
pub(super) async fn read(conn: &mut Conn) -> Result<BTreeMap<TableName, Table>> {
    let names: Vec<TableName> = conn
        .query(format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
             WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN {SYSTEM}"
        ))
        .await?;
    let mut tables: BTreeMap<TableName, Table> = names
        .into_iter()
        .map(|name| (name, Table::default()))
        .collect();
    read_columns(conn, &mut tables).await?;
    read_indexes(conn, &mut tables).await?;
    Ok(tables)
}

type ColumnRow = (
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
);

async fn read_columns(conn: &mut Conn, tables: &mut BTreeMap<TableName, Table>) -> Result<()> {
    let rows: Vec<ColumnRow> = conn
        .query(format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, CAST(COLUMN_TYPE AS CHAR), IS_NULLABLE, \
             CAST(COLUMN_DEFAULT AS CHAR), COLLATION_NAME, \
             CONCAT_WS(' ', EXTRA, CAST(GENERATION_EXPRESSION AS CHAR)) \
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA NOT IN {SYSTEM} \
             ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
        ))
        .await?;
    for (schema, table, name, kind, nullable, default, collation, extra) in rows {
        let null = if nullable == "YES" {
            "NULL"
        } else {
            "NOT NULL"
        };
        let mut definition = format!("{kind} {null}");
        for (word, value) in [("DEFAULT", default), ("COLLATE", collation), ("", extra)] {
            if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
                definition = format!("{definition} {word} {}", value.trim());
            }
        }
        if let Some(table) = tables.get_mut(&(schema, table)) {
            table.columns.push(Column { name, definition });
        }
    }
    Ok(())
}

type IndexRow = (
    String,
    String,
    String,
    Option<String>,
    Option<u64>,
    i64,
    Option<String>,
);

async fn read_indexes(conn: &mut Conn, tables: &mut BTreeMap<TableName, Table>) -> Result<()> {
    // MariaDB has no indexes of expressions.
    let version: Option<String> = conn.query_first("SELECT VERSION()").await?;
    let maria = version.is_some_and(|version| version.contains("MariaDB"));
    let expression = if maria {
        "NULL"
    } else {
        "CAST(EXPRESSION AS CHAR)"
    };
    let rows: Vec<IndexRow> = conn
        .query(format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME, SUB_PART, \
             CAST(NON_UNIQUE AS SIGNED), {expression} \
             FROM information_schema.STATISTICS WHERE TABLE_SCHEMA NOT IN {SYSTEM} \
             ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"
        ))
        .await?;
    for (schema, table, index, column, part, non_unique, expression) in rows {
        let Some(table) = tables.get_mut(&(schema, table)) else {
            continue;
        };
        let mut text = column.or(expression).unwrap_or_default();
        if let Some(part) = part {
            text = format!("{text}({part})");
        }
        let index = if non_unique == 0 && index != "PRIMARY" {
            format!("{index} UNIQUE")
        } else {
            index
        };
        table.indexes.entry(index).or_default().push(text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[(&str, &str)], key: &[&str]) -> Table {
        let columns = columns.iter().map(|(name, definition)| Column {
            name: (*name).to_owned(),
            definition: (*definition).to_owned(),
        });
        let key = key.iter().map(|name| (*name).to_owned()).collect();
        Table {
            columns: columns.collect(),
            indexes: BTreeMap::from([("PRIMARY".to_owned(), key)]),
        }
    }

    #[test]
    fn the_key_is_found_whatever_its_order() {
        let table = table(
            &[("a", "int"), ("b", "text"), ("c", "int")],
            &["c", "b(10)"],
        );
        assert_eq!(table.key(), [2, 1]);
        assert!(Table::default().key().is_empty());
    }

    #[test]
    fn a_changed_definition_is_named() {
        let one = table(&[("a", "int"), ("b", "text")], &["a"]);
        assert!(one.differences(&one).is_empty());
        let changed = one.differences(&table(&[("a", "bigint"), ("b", "text")], &["a"]));
        assert_eq!(changed, ["column a: int became bigint"]);
        assert_eq!(one.differences(&table(&[("a", "int")], &["a"])).len(), 1);
        assert_eq!(
            one.differences(&table(&[("a", "int"), ("b", "text")], &["b"]))
                .len(),
            1
        );
    }
}
