//! What the shards hold: in go connections, out comes every table's union of rows, in the form that `canon` compares.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Row, Value as Sql};
use serde_json::Value;

use crate::canon::Kind;
use crate::change::Image;
use crate::model::{Model, key};

/// A table's columns and rows.
#[derive(Debug, Default)]
struct Table {
    columns: Vec<(String, Kind)>,
    rows: BTreeMap<String, Image>,
}

/// All tables of the bank.
#[derive(Debug)]
pub(crate) struct Shards {
    tables: BTreeMap<String, Table>,
}

impl Shards {
    /// Reads the bank from all nodes; they must be at rest.
    pub(crate) async fn read(nodes: impl IntoIterator<Item = Opts>) -> Result<Self> {
        let mut tables: BTreeMap<String, Table> = BTreeMap::new();
        for node in nodes {
            let mut conn = Conn::new(node).await?;
            conn.query_drop("SET time_zone = '+00:00', NAMES utf8mb4")
                .await?;
            for (name, columns) in columns(&mut conn).await? {
                let rows = rows(&mut conn, &name, &columns).await?;
                let table = tables.entry(format!("bank.{name}")).or_default();
                table.rows.extend(rows);
                table.columns = columns;
            }
            conn.disconnect().await?;
        }
        Ok(Self { tables })
    }

    /// Names of all tables.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    /// Rows in all tables.
    pub(crate) fn rows(&self) -> usize {
        self.tables.values().map(|table| table.rows.len()).sum()
    }

    /// In what `model` differs, in words; empty when it does not. Columns and tables named in `exempt` are not compared.
    pub(crate) fn differences(&self, model: &Model, exempt: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for name in model
            .tables
            .keys()
            .filter(|name| !self.tables.contains_key(*name))
        {
            found.push(format!("{name} is not on the shards"));
        }
        for (name, table) in &self.tables {
            if exempt.contains(&name.as_str()) {
                continue;
            }
            let Some(theirs) = model.tables.get(name) else {
                found.push(format!("{name} is missing"));
                continue;
            };
            for key in theirs
                .rows
                .keys()
                .filter(|key| !table.rows.contains_key(*key))
            {
                found.push(format!("{name}: row {key} is not on the shards"));
            }
            for (key, ours) in &table.rows {
                let Some(row) = theirs.rows.get(key) else {
                    found.push(format!("{name}: row {key} is missing"));
                    continue;
                };
                for (column, kind) in &table.columns {
                    if exempt.contains(&column.as_str()) {
                        continue;
                    }
                    if let Some(text) = difference(kind, &ours[column], row.get(column)) {
                        found.push(format!("{name}: row {key}: {column}: {text}"));
                    }
                }
            }
        }
        found
    }
}

fn difference(kind: &Kind, ours: &Value, theirs: Option<&Value>) -> Option<String> {
    let Some(theirs) = theirs else {
        return Some("no such column".to_owned());
    };
    let expected = match kind.canon(ours) {
        Ok(text) => text,
        Err(error) => return Some(format!("{error:#}")),
    };
    match kind.canon(theirs) {
        Ok(text) if text == expected => None,
        Ok(text) => Some(format!("{expected:?} became {text:?} ({theirs})")),
        Err(error) => Some(format!("{error:#}; wanted {expected:?}")),
    }
}

type ColumnRow = (String, String, String, String, Option<u64>, Option<String>);

async fn columns(conn: &mut Conn) -> Result<BTreeMap<String, Vec<(String, Kind)>>> {
    let found: Vec<ColumnRow> = conn
        .query(
            "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, CAST(COLUMN_TYPE AS CHAR), DATETIME_PRECISION, \
             CHARACTER_SET_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'bank' \
             ORDER BY TABLE_NAME, ORDINAL_POSITION",
        )
        .await?;
    let mut tables: BTreeMap<String, Vec<(String, Kind)>> = BTreeMap::new();
    for (table, column, data_type, column_type, digits, charset) in found {
        let kind = kind(&data_type, &column_type, digits, charset.as_deref())?;
        tables.entry(table).or_default().push((column, kind));
    }
    Ok(tables)
}

fn kind(
    data_type: &str,
    column_type: &str,
    digits: Option<u64>,
    charset: Option<&str>,
) -> Result<Kind> {
    let unsigned = column_type.contains("unsigned");
    let labels = || {
        let inner = column_type
            .split_once('(')
            .map_or("", |(_, rest)| rest.trim_end_matches(')'));
        inner
            .split(',')
            .map(|label| label.trim_matches('\'').to_owned())
            .collect()
    };
    Ok(match data_type {
        "tinyint" => Kind::Int { bits: 8, unsigned },
        "smallint" => Kind::Int { bits: 16, unsigned },
        "mediumint" => Kind::Int { bits: 24, unsigned },
        "int" => Kind::Int { bits: 32, unsigned },
        "bigint" => Kind::Int { bits: 64, unsigned },
        "decimal" => Kind::Decimal,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bit" => Kind::Bit,
        "year" => Kind::Year,
        "date" => Kind::Date,
        "time" => Kind::Time,
        "datetime" | "timestamp" => Kind::DateTime(digits.unwrap_or(0)),
        "char" | "varchar" | "tinytext" | "text" => Kind::Text {
            latin1: charset == Some("latin1"),
        },
        "binary" => Kind::Bytes { fixed: true },
        "varbinary" | "mediumblob" => Kind::Bytes { fixed: false },
        "enum" => Kind::Enum(labels()),
        "set" => Kind::Set(labels()),
        "json" => Kind::Json,
        "point" => Kind::Point,
        other => bail!("type {other} is not known here"),
    })
}

async fn rows(
    conn: &mut Conn,
    table: &str,
    columns: &[(String, Kind)],
) -> Result<BTreeMap<String, Image>> {
    let expressions: Vec<String> = columns
        .iter()
        .map(|(name, kind)| expression(name, kind))
        .collect();
    let query = format!("SELECT {} FROM bank.`{table}`", expressions.join(", "));
    let found: Vec<Row> = conn.query(query).await?;
    let mut rows = BTreeMap::new();
    for row in found {
        let mut image = Image::new();
        for ((name, _), value) in columns.iter().zip(row.unwrap()) {
            let value = match value {
                Sql::NULL => Value::Null,
                Sql::Bytes(bytes) => {
                    Value::String(String::from_utf8(bytes).context("the text of a value")?)
                }
                other => bail!("{name}: {other:?}"),
            };
            image.insert(name.clone(), value);
        }
        rows.insert(key(&image)?, image);
    }
    Ok(rows)
}

fn expression(name: &str, kind: &Kind) -> String {
    match kind {
        Kind::Bit => format!("CAST(`{name}` AS UNSIGNED)"),
        Kind::Float => format!("CAST(`{name}` AS DOUBLE)"),
        Kind::Bytes { .. } => format!("HEX(`{name}`)"),
        Kind::Point => format!("ST_AsText(`{name}`)"),
        // Text of every other type is what the server makes of it.
        _ => format!("CAST(`{name}` AS CHAR)"),
    }
}
