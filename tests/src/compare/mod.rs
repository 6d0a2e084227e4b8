//! Are the shards and a replica of the whole the same? In go connection options, out comes a
//! [`Comparison`]: definitions, row counts and checksums of every table, and for a table that
//! differs the first rows that do.
//!
//! Checksums are sums of row hashes computed here from the rows' text, so neither the order of rows
//! nor the server's own checksums matter. All servers must be at rest.

mod catalog;
mod digest;
mod report;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Row, Value};

use catalog::{Table, TableName};
use digest::{Digest, TextRow, bucket_of, key_of};
use report::{show, show_key};

pub use report::{Comparison, Difference};

/// Buckets looked into for differing rows.
const BUCKETS_SHOWN: usize = 8;
/// Differing rows named per table.
const ROWS_SHOWN: usize = 10;

/// Maps a shard's schema and table to the logical ones, or to `None` for a table left out.
pub type Mapping = Arc<dyn Fn(&str, &str) -> Option<(String, String)> + Send + Sync>;

/// How shards become one.
#[derive(Clone)]
pub struct CompareOptions {
    /// Physical to logical names.
    pub mapping: Mapping,
    /// Logical tables (`schema.table`) that have the same rows on every shard: the first one counts.
    pub broadcast: HashSet<String>,
    /// Whether indexes, defaults, collations and types are compared too, not only rows.
    pub definitions: bool,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            mapping: Arc::new(|schema, table| Some((schema.to_owned(), table.to_owned()))),
            broadcast: HashSet::new(),
            definitions: true,
        }
    }
}

/// A table on a shard.
struct Physical {
    shard: usize,
    name: TableName,
    table: Table,
}

/// Compares every table of `replica` with the union of the same table on `shards`.
///
/// # Errors
/// When a server cannot be asked. Differences are no errors.
pub async fn compare(
    shards: &[Opts],
    replica: &Opts,
    options: &CompareOptions,
) -> Result<Comparison> {
    let mut replica_conn = connect(replica).await.context("the replica")?;
    let mut shard_conns = Vec::new();
    for (number, shard) in shards.iter().enumerate() {
        let conn = connect(shard).await;
        shard_conns.push(conn.with_context(|| format!("shard {}", number + 1))?);
    }
    let mut replica_tables = catalog::read(&mut replica_conn).await?;
    let mut comparison = Comparison::default();
    for (name, parts) in logical_tables(&mut shard_conns, options).await? {
        let label = format!("{}.{}", name.0, name.1);
        let Some(table) = replica_tables.remove(&name) else {
            comparison
                .differences
                .push((label, Difference::MissingTable));
            continue;
        };
        comparison.tables += 1;
        let mut differences = Vec::new();
        if options.definitions {
            for part in &parts {
                let found = part.table.differences(&table).into_iter();
                differences.extend(found.map(Difference::Definition));
            }
            differences.dedup();
        }
        let target = Target {
            name: &name,
            table: &table,
            parts: &parts,
        };
        let rows = target
            .compare(&mut shard_conns, &mut replica_conn, &mut differences)
            .await;
        // Rows of tables that have other columns cannot be compared; that they have is a difference of its own.
        match rows.with_context(|| format!("compare {label}")) {
            Ok(rows) => comparison.rows += rows,
            Err(_) if !differences.is_empty() => {}
            Err(error) => return Err(error),
        }
        let labelled = differences
            .into_iter()
            .map(|difference| (label.clone(), difference));
        comparison.differences.extend(labelled);
    }
    for ((schema, table), _) in replica_tables {
        let label = format!("{schema}.{table}");
        comparison.differences.push((label, Difference::ExtraTable));
    }
    Ok(comparison)
}

async fn connect(opts: &Opts) -> Result<Conn> {
    let mut conn = Conn::new(opts.clone()).await?;
    conn.query_drop("SET SESSION time_zone = '+00:00', SESSION group_concat_max_len = 1048576")
        .await?;
    Ok(conn)
}

async fn logical_tables(
    shards: &mut [Conn],
    options: &CompareOptions,
) -> Result<BTreeMap<TableName, Vec<Physical>>> {
    let mut tables: BTreeMap<TableName, Vec<Physical>> = BTreeMap::new();
    for (shard, conn) in shards.iter_mut().enumerate() {
        for (name, table) in catalog::read(conn).await? {
            let Some(logical) = (options.mapping)(&name.0, &name.1) else {
                continue;
            };
            let broadcast = options
                .broadcast
                .contains(&format!("{}.{}", logical.0, logical.1));
            let parts = tables.entry(logical).or_default();
            if !broadcast || parts.is_empty() {
                parts.push(Physical { shard, name, table });
            }
        }
    }
    Ok(tables)
}

/// A logical table on the replica and its parts on the shards.
struct Target<'a> {
    name: &'a TableName,
    table: &'a Table,
    parts: &'a [Physical],
}

impl Target<'_> {
    /// Compares the rows. Returns how many there are on the shards.
    async fn compare(
        &self,
        shards: &mut [Conn],
        replica: &mut Conn,
        differences: &mut Vec<Difference>,
    ) -> Result<u64> {
        let key = self.table.key();
        let (mut ours, mut theirs) = (Digest::new(), Digest::new());
        self.each_shard_row(shards, |row| ours.add(&row, &key))
            .await?;
        self.each_row(replica, self.name, |row| theirs.add(&row, &key))
            .await?;
        if ours == theirs {
            return Ok(ours.rows());
        }
        if ours.rows() != theirs.rows() {
            let (shards, replica) = (ours.rows(), theirs.rows());
            differences.push(Difference::RowCount { shards, replica });
        }
        let buckets: HashSet<usize> = ours
            .differing_buckets(&theirs, BUCKETS_SHOWN)
            .into_iter()
            .collect();
        let mut found: HashMap<TextRow, (Vec<TextRow>, Vec<TextRow>)> = HashMap::new();
        self.each_shard_row(shards, |row| {
            if buckets.contains(&bucket_of(&row, &key)) {
                found.entry(key_of(&row, &key)).or_default().0.push(row);
            }
        })
        .await?;
        self.each_row(replica, self.name, |row| {
            if buckets.contains(&bucket_of(&row, &key)) {
                found.entry(key_of(&row, &key)).or_default().1.push(row);
            }
        })
        .await?;
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort();
        let differing = found.into_iter().filter_map(|(key, (ours, theirs))| {
            self.row_difference(&show_key(&key), &ours, &theirs)
        });
        differences.extend(differing.take(ROWS_SHOWN));
        Ok(ours.rows())
    }

    fn row_difference(
        &self,
        key: &str,
        ours: &[TextRow],
        theirs: &[TextRow],
    ) -> Option<Difference> {
        let key = key.to_owned();
        match (ours, theirs) {
            ([_, ..], []) => Some(Difference::MissingRow { key }),
            ([], [_, ..]) => Some(Difference::ExtraRow { key }),
            ([ours], [theirs]) if ours == theirs => None,
            ([ours], [theirs]) => {
                let values = ours.iter().zip(theirs).zip(&self.table.columns);
                let columns = values.filter(|((ours, theirs), _)| ours != theirs).map(
                    |((ours, theirs), column)| {
                        let (ours, theirs) = (show(ours.as_deref()), show(theirs.as_deref()));
                        format!("{} is {ours}, on the replica {theirs}", column.name)
                    },
                );
                Some(Difference::ChangedRow {
                    key,
                    columns: columns.collect(),
                })
            }
            _ if ours.len() == theirs.len() && ours.iter().all(|row| theirs.contains(row)) => None,
            _ => Some(Difference::RepeatedRow {
                key,
                times: (ours.len(), theirs.len()),
            }),
        }
    }

    async fn each_shard_row(
        &self,
        shards: &mut [Conn],
        mut with: impl FnMut(TextRow),
    ) -> Result<()> {
        for part in self.parts {
            let conn = shards
                .get_mut(part.shard)
                .context("a part lies on a shard")?;
            self.each_row(conn, &part.name, &mut with).await?;
        }
        Ok(())
    }

    /// Streams a table's rows, columns in the replica's order.
    async fn each_row(
        &self,
        conn: &mut Conn,
        name: &TableName,
        mut with: impl FnMut(TextRow),
    ) -> Result<()> {
        let columns: Vec<String> = self
            .table
            .columns
            .iter()
            .map(|column| quoted(&column.name))
            .collect();
        let (schema, table) = (quoted(&name.0), quoted(&name.1));
        let query = format!("SELECT {} FROM {schema}.{table}", columns.join(", "));
        let mut result = conn.query_iter(query).await?;
        while let Some(row) = result.next().await? {
            with(text_row(row));
        }
        Ok(())
    }
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn text_row(row: Row) -> TextRow {
    let text = |value| match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(bytes),
        // The text protocol gives bytes only; anything else is compared by its literal.
        other => Some(other.as_sql(true).into_bytes()),
    };
    row.unwrap().into_iter().map(text).collect()
}
