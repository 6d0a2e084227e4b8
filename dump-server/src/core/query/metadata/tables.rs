//! The tables of `information_schema` and `performance_schema` that exist here, with their columns.
//!
//! In: nothing. Out: definitions. All of MySQL 9.7's are there: of what this server does not do (locks, waits, memory, InnoDB's pages) they
//! are empty, as at a server that does nothing.

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
    /// What it is to `SHOW FULL TABLES`: those of `performance_schema` have an engine of their own.
    pub(super) fn kind(&self) -> &'static str {
        match self.engine() {
            Some(_) => "BASE TABLE",
            None => "SYSTEM VIEW",
        }
    }

    /// Its storage engine.
    pub(super) fn engine(&self) -> Option<&'static str> {
        (self.schema == "performance_schema").then_some("PERFORMANCE_SCHEMA")
    }

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

static TABLES: LazyLock<Vec<TableDef>> =
    LazyLock::new(|| data_lines(LIST).filter_map(parse).collect());

/// A line for each: database, table, columns.
const LIST: &str = include_str!("tables.txt");

/// The lines of a file of data that are not comments.
pub(super) fn data_lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

fn parse(line: &'static str) -> Option<TableDef> {
    let mut words = line.split_ascii_whitespace();
    let (schema, name) = (words.next()?, words.next()?);
    let column = |word: &'static str| ColumnDef {
        name: word.trim_end_matches('#'),
        integer: word.ends_with('#'),
    };
    Some(TableDef {
        schema,
        name,
        columns: words.map(column).collect(),
    })
}

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
        assert!(all().iter().all(|t| !t.columns.is_empty()));
        let tables = all().iter().find(|t| t.name == "TABLES").unwrap();
        assert_eq!(tables.columns.len(), 21, "as in MySQL 9.7");
        assert!(all().iter().all(|t| SCHEMAS.contains(&t.schema)));
        // Every line is one.
        assert_eq!(all().len(), LIST.lines().count() - 1);
    }
}
