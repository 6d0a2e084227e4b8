//! Rows of the catalog about what rows of tables must obey: keys, foreign keys, checks.
//!
//! In: tables. Out: rows of `KEY_COLUMN_USAGE`, `TABLE_CONSTRAINTS`, `CHECK_CONSTRAINTS`, `REFERENTIAL_CONSTRAINTS`.

use std::sync::Arc;

use rusqlite::types::Value;

use super::fill::{DEF, Row, int, maybe, text, yes};
use crate::catalog::{ForeignKeyInfo, TableInfo};
use crate::core::query::eval::Env;

pub(super) fn key_columns(database: &str, table: &Arc<TableInfo>, out: &mut Vec<Row>) {
    let start = |name: &str| {
        vec![
            text(DEF),
            text(database),
            text(name),
            text(DEF),
            text(database),
            text(&table.name),
        ]
    };
    for index in table.indexes.iter().filter(|i| i.unique) {
        for (i, part) in index.parts.iter().enumerate() {
            let mut row = start(&index.name);
            row.extend([maybe(part.column.clone(), text), int(i as u64 + 1)]);
            row.extend((0..4).map(|_| Value::Null));
            out.push(row);
        }
    }
    for key in &table.foreign_keys {
        for (i, (column, referenced)) in key.columns.iter().zip(&key.referenced_columns).enumerate()
        {
            let mut row = start(&key.name);
            row.extend([text(column), int(i as u64 + 1), int(i as u64 + 1)]);
            row.extend([
                text(&key.referenced_database),
                text(&key.referenced_table),
                text(referenced),
            ]);
            out.push(row);
        }
    }
}

pub(super) fn all(database: &str, table: &Arc<TableInfo>, out: &mut Vec<Row>) {
    let unique = table.indexes.iter().filter(|i| i.unique).map(|i| {
        let kind = if i.name == "PRIMARY" {
            "PRIMARY KEY"
        } else {
            "UNIQUE"
        };
        (&i.name, kind)
    });
    let foreign = table.foreign_keys.iter().map(|k| (&k.name, "FOREIGN KEY"));
    let enforced = unique.chain(foreign).map(|(name, kind)| (name, kind, true));
    let checks = (table.checks.iter()).map(|c| (&c.name, "CHECK", c.enforced));
    for (name, kind, enforced) in enforced.chain(checks) {
        out.push(vec![
            text(DEF),
            text(database),
            text(name),
            text(database),
            text(&table.name),
            text(kind),
            yes(enforced),
        ]);
    }
}

pub(super) fn checks(database: &str, table: &Arc<TableInfo>, out: &mut Vec<Row>) {
    for check in &table.checks {
        out.push(vec![
            text(DEF),
            text(database),
            text(&check.name),
            text(&check.expression),
        ]);
    }
}

pub(super) fn references(env: Env<'_>) -> Vec<Row> {
    let catalog = env.server.catalog();
    let mut out = Vec::new();
    for database in catalog.databases() {
        for table in catalog.tables(&database.name) {
            for key in &table.foreign_keys {
                let parent = catalog.table(&key.referenced_database, &key.referenced_table);
                let unique = parent.and_then(|parent| unique_key(&parent, key));
                out.push(vec![
                    text(DEF),
                    text(&database.name),
                    text(&key.name),
                    text(DEF),
                    text(&key.referenced_database),
                    maybe(unique, text),
                    text("NONE"),
                    text(&key.on_update),
                    text(&key.on_delete),
                    text(&table.name),
                    text(&key.referenced_table),
                ]);
            }
        }
    }
    out
}

/// The unique key that a foreign key refers to, if there is one.
fn unique_key(parent: &TableInfo, key: &ForeignKeyInfo) -> Option<String> {
    let serves = |columns: &[Option<String>]| {
        columns.len() >= key.referenced_columns.len()
            && (columns.iter().zip(&key.referenced_columns))
                .all(|(own, wanted)| own.as_ref() == Some(wanted))
    };
    let unique = parent.indexes.iter().filter(|i| i.unique);
    unique
        .filter(|index| {
            let columns: Vec<_> = index.parts.iter().map(|p| p.column.clone()).collect();
            serves(&columns)
        })
        .map(|index| index.name.clone())
        .next()
}
