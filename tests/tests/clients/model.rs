//! What a client has read, applied: in go [`Change`]s, out come tables as the client would have them.
//!
//! A client that was killed reads some transactions twice; those are told by their numbers (or places) and left out. One that is told where
//! to go on is told so at the end of a transaction. One that keeps its place itself may have kept one inside a transaction: it does not
//! tell again what it has told of it (Debezium: the GTID set before the transaction, and how many of its events and rows to skip). Its rows
//! say where they stand, so those of a transaction that was cut off are kept, and each counts once. What is never allowed
//! is a transaction that is left out, one that has no end, or balances that do not add up behind a transaction.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::change::{Change, Image, Op, Origin, Place};

/// A table: rows by key, and what schema changes gave to rows that no event tells about.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) rows: BTreeMap<String, Image>,
    /// Columns added since the table was made, with their defaults.
    added: Vec<(String, Value)>,
}

/// A row of a transaction that is not complete.
#[derive(Debug, PartialEq)]
struct Pending {
    op: Op,
    table: String,
    image: Image,
    origin: Option<Origin>,
}

/// Everything that one client has read.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) tables: BTreeMap<String, Table>,
    pending: Vec<Pending>,
    /// Rows of a transaction that was cut off, which may go on.
    cut_off: usize,
    /// The last transaction that was applied.
    pub(crate) last: Place,
    /// Numbers of all that were applied.
    pub(crate) seen: BTreeSet<u64>,
    pub(crate) starts: u64,
    pub(crate) heartbeats: u64,
    pub(crate) rotates: u64,
    pub(crate) ddls: u64,
    /// Transactions that came again after a restart of the client.
    pub(crate) replayed: u64,
    /// Transactions that went on inside after a restart of the client.
    pub(crate) continued: u64,
    /// Tables some rows of which the client could not name the columns of.
    pub(crate) skewed: BTreeSet<String>,
    /// The tables that the client reads; empty: all. Of others only the schema changes are counted.
    only: &'static [&'static str],
    /// What all balances add up to, once there are accounts.
    pub(crate) sum: Option<i64>,
}

impl Model {
    /// A model of a bank whose balances add up to `sum`, some tables of which (`only`) are read.
    pub(crate) fn new(sum: i64, only: &'static [&'static str]) -> Self {
        Self {
            only,
            sum: Some(sum),
            ..Self::default()
        }
    }

    /// The client was started again. A transaction that was cut off comes again, or goes on where the client had kept its place in it.
    pub(crate) fn restarted(&mut self) {
        self.pending.retain(|row| row.origin.is_some());
        self.cut_off = self.pending.len();
    }

    pub(crate) fn apply(&mut self, change: Change) -> Result<()> {
        match change {
            Change::Ready => self.starts += 1,
            Change::Heartbeat => self.heartbeats += 1,
            Change::Rotate => self.rotates += 1,
            Change::Skew(table) => {
                self.skewed.insert(table);
            }
            // Connected again by itself, within a transaction.
            Change::Begin => self.pending.retain(|row| row.origin.is_some()),
            Change::Row {
                op,
                table,
                image,
                origin,
            } => self.pend(Pending {
                op,
                table,
                image,
                origin,
            })?,
            Change::Commit(place) => {
                if self.is_new(&place)? {
                    self.commit(place)?;
                } else {
                    self.pending.retain(|row| row.origin.is_some());
                }
            }
            Change::Ddl { sql, place } => {
                if self.is_new(&place)? {
                    let open = self.pending.len();
                    ensure!(open == 0, "{open} rows without an end before {sql:?}");
                    self.ddl(&sql)
                        .with_context(|| format!("statement {sql:?}"))?;
                    self.ddls += 1;
                    self.done(place);
                }
            }
        }
        Ok(())
    }

    /// Another row of the transaction at hand, unless it has come before.
    fn pend(&mut self, row: Pending) -> Result<()> {
        if let Some(origin) = &row.origin {
            if origin.gno <= self.last.gno {
                return Ok(());
            }
            let others = self.pending.iter().filter_map(|row| row.origin.as_ref());
            for other in others {
                ensure!(
                    other.gno == origin.gno,
                    "transaction {} has no end, and {} begins",
                    other.gno,
                    origin.gno
                );
            }
            let twin = |other: &&Pending| other.origin == row.origin;
            if let Some(twin) = self.pending.iter().find(twin) {
                ensure!(*twin == row, "{twin:?} came again as {row:?}");
                return Ok(());
            }
        }
        self.pending.push(row);
        Ok(())
    }

    fn commit(&mut self, place: Place) -> Result<()> {
        let rows = std::mem::take(&mut self.pending);
        self.continued += u64::from(self.cut_off > 0 && rows.len() > self.cut_off);
        self.cut_off = 0;
        for row in rows {
            if let Some(origin) = &row.origin {
                let (gno, end) = (origin.gno, place.gno);
                ensure!(gno == end, "a row of {gno} in {end}");
            }
            self.row(row.op, row.table, row.image)?;
        }
        self.done(place);
        self.balanced()
    }

    fn is_new(&mut self, place: &Place) -> Result<bool> {
        let again = match (place.gno, &place.position, &self.last.position) {
            (0, Some(here), Some(last)) => here <= last,
            (0, None, _) => bail!("neither number nor place"),
            (0, Some(_), None) => false,
            (gno, ..) => gno <= self.last.gno,
        };
        self.replayed += u64::from(again);
        Ok(!again)
    }

    fn done(&mut self, place: Place) {
        // A client that does not number its schema changes has read the one behind the last transaction.
        let gno = if place.gno == 0 {
            self.last.gno + 1
        } else {
            place.gno
        };
        self.seen.insert(gno);
        self.last.gno = gno;
        if place.position.is_some() {
            self.last.position = place.position;
        }
    }

    fn balanced(&self) -> Result<()> {
        let (Some(sum), Some(accounts)) = (self.sum, self.tables.get("bank.accounts")) else {
            return Ok(());
        };
        if accounts.rows.is_empty() {
            return Ok(());
        }
        let mut found = 0;
        for row in accounts.rows.values() {
            found += number(&row["balance"]).context("a balance")?;
        }
        ensure!(
            found == i128::from(sum),
            "the balances add up to {found} behind transaction {:?}, not to {sum}",
            self.last
        );
        Ok(())
    }

    fn row(&mut self, op: Op, table: String, mut image: Image) -> Result<()> {
        let key = key(&image).with_context(|| format!("row of {table}"))?;
        let Some(kept) = self.tables.get_mut(&table) else {
            bail!("a row of {table}, which was never made");
        };
        match op {
            Op::Delete => {
                kept.rows
                    .remove(&key)
                    .with_context(|| format!("{table}: no row {key} to delete"))?;
            }
            Op::Update => {
                let row = kept.rows.get_mut(&key);
                row.with_context(|| format!("{table}: no row {key} to update"))?
                    .extend(image);
            }
            Op::Insert => {
                for (column, default) in &kept.added {
                    image
                        .entry(column.clone())
                        .or_insert_with(|| default.clone());
                }
                ensure!(
                    kept.rows.insert(key.clone(), image).is_none(),
                    "{table}: row {key} is there already"
                );
            }
        }
        Ok(())
    }

    /// The statements that the bank makes; anything else is an error, so that nothing is skipped by accident.
    fn ddl(&mut self, sql: &str) -> Result<()> {
        let plain = sql
            .replace('`', "")
            .replace(['(', ')'], " ")
            .replace('\n', " ");
        let words: Vec<&str> = plain.split_whitespace().collect();
        let upper: Vec<String> = words
            .iter()
            .take(6)
            .map(|word| word.to_uppercase())
            .collect();
        let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
        let name =
            |at: usize| -> Result<String> { Ok((*words.get(at).context("no name")?).to_owned()) };
        let read = |word: &&&str| self.only.contains(*word);
        if !self.only.is_empty() && !words.iter().any(|word| read(&word)) {
            return Ok(());
        }
        match upper.as_slice() {
            ["CREATE", "DATABASE", ..] => {}
            ["CREATE", "TABLE", "IF", "NOT", "EXISTS", ..] => {
                self.tables.entry(name(5)?).or_default();
            }
            ["CREATE", "TABLE", ..] => {
                self.tables.insert(name(2)?, Table::default());
            }
            ["DROP", "TABLE", "IF", "EXISTS", ..] => {
                self.tables.remove(&name(4)?);
            }
            ["DROP", "TABLE", ..] => {
                self.tables.remove(&name(2)?).context("no such table")?;
            }
            ["ALTER", "TABLE", _, "ADD", "COLUMN", ..] => {
                let (column, default) = (name(5)?, default_of(sql));
                let table = self.tables.get_mut(&name(2)?).context("no such table")?;
                for row in table.rows.values_mut() {
                    row.entry(column.clone()).or_insert_with(|| default.clone());
                }
                table.added.push((column, default));
            }
            ["ALTER", "TABLE", _, "DROP", "COLUMN", ..] => {
                let column = name(5)?;
                let table = self.tables.get_mut(&name(2)?).context("no such table")?;
                table.added.retain(|(name, _)| *name != column);
                for row in table.rows.values_mut() {
                    row.remove(&column);
                }
            }
            ["ALTER", "TABLE", _, "ADD" | "DROP", "INDEX" | "KEY", ..] => {}
            _ => bail!("unknown"),
        }
        Ok(())
    }
}

/// The default that a statement gives to its new column.
fn default_of(sql: &str) -> Value {
    let Some((_, rest)) = sql.split_once("DEFAULT ") else {
        return Value::Null;
    };
    match rest.trim().strip_prefix('\'') {
        Some(text) => Value::String(text.split('\'').next().unwrap_or_default().to_owned()),
        None => Value::String(
            rest.split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned(),
        ),
    }
}

/// Text of a row's key: `id`, with `node` where there is one. The sign of `id` is not known to every client.
pub(crate) fn key(image: &Image) -> Result<String> {
    let id = number(image.get("id").context("no column id")?)?;
    let id = if id < 0 { id + (1 << 64) } else { id };
    match image.get("node") {
        Some(node) => Ok(format!("{id}/{}", number(node)?)),
        None => Ok(id.to_string()),
    }
}

fn number(value: &Value) -> Result<i128> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.parse()
        .with_context(|| format!("{value} is no whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(op: Op, image: &Value) -> Change {
        let image = image.as_object().expect("an object").clone();
        let table = "bank.wide".to_owned();
        Change::Row {
            op,
            table,
            image,
            origin: None,
        }
    }

    /// A row that says where it stands: `id` in transaction `gno`.
    fn told(gno: u64, id: u64) -> Change {
        let image = json!({"id": id});
        let at = format!("binlog.000001:{id}:0");
        Change::Row {
            op: Op::Insert,
            table: "bank.wide".to_owned(),
            image: image.as_object().expect("an object").clone(),
            origin: Some(Origin { gno, at }),
        }
    }

    fn at(gno: u64) -> Place {
        Place {
            gno,
            position: None,
        }
    }

    fn ddl(gno: u64, sql: &str) -> Change {
        let sql = sql.to_owned();
        Change::Ddl {
            sql,
            place: at(gno),
        }
    }

    #[test]
    fn what_comes_twice_counts_once_and_columns_come_and_go() -> Result<()> {
        let mut model = Model::default();
        model.apply(ddl(1, "CREATE TABLE IF NOT EXISTS `bank`.wide (id INT)"))?;
        for _ in 0..2 {
            model.apply(row(Op::Insert, &json!({"id": -1})))?;
            model.apply(Change::Commit(at(2)))?;
        }
        model.apply(ddl(
            3,
            "ALTER TABLE `bank`.wide ADD COLUMN extra_1 INT NOT NULL DEFAULT 7",
        ))?;
        // Cut off: it never was.
        model.apply(row(Op::Delete, &json!({"id": -1})))?;
        model.restarted();
        model.apply(row(Op::Insert, &json!({"id": 5})))?;
        model.apply(Change::Commit(at(4)))?;
        let rows = &model.tables["bank.wide"].rows;
        assert_eq!(rows["18446744073709551615"]["extra_1"], json!("7"));
        assert_eq!(rows["5"]["extra_1"], json!("7"));
        assert_eq!((model.replayed, model.last.gno), (1, 4));
        model.apply(ddl(5, "ALTER TABLE bank.wide DROP COLUMN extra_1"))?;
        assert_eq!(model.tables["bank.wide"].rows["5"].len(), 1);
        assert!(model.apply(ddl(6, "TRUNCATE bank.wide")).is_err());
        Ok(())
    }

    #[test]
    fn a_transaction_goes_on_inside_and_its_rows_count_once() -> Result<()> {
        let mut model = Model::default();
        model.apply(ddl(1, "CREATE TABLE bank.wide (id INT)"))?;
        model.apply(told(2, 1))?;
        model.apply(told(2, 2))?;
        // The place it had kept was behind the first row.
        model.restarted();
        model.apply(told(2, 2))?;
        model.apply(told(2, 3))?;
        model.apply(Change::Commit(at(2)))?;
        assert_eq!(model.tables["bank.wide"].rows.len(), 3);
        assert_eq!((model.continued, model.replayed), (1, 0));
        // The place it had kept was before a transaction that was complete, and before one that was cut off.
        model.apply(told(3, 4))?;
        model.restarted();
        model.apply(told(2, 3))?;
        model.apply(Change::Commit(at(2)))?;
        model.apply(told(3, 4))?;
        model.apply(Change::Commit(at(3)))?;
        assert_eq!(model.tables["bank.wide"].rows.len(), 4);
        // One that never ends is found.
        model.apply(told(4, 5))?;
        model.restarted();
        assert!(model.apply(told(5, 6)).is_err());
        assert!(model.apply(ddl(5, "DROP TABLE bank.wide")).is_err());
        Ok(())
    }

    #[test]
    fn balances_that_do_not_add_up_are_an_error() -> Result<()> {
        let mut model = Model::new(10, &[]);
        model.apply(ddl(1, "CREATE TABLE bank.accounts (id INT)"))?;
        let account = |balance: i64| {
            let image = json!({"id": 1, "balance": balance});
            let image = image.as_object().expect("an object").clone();
            let table = "bank.accounts".to_owned();
            let op = if balance == 10 {
                Op::Insert
            } else {
                Op::Update
            };
            Change::Row {
                op,
                table,
                image,
                origin: None,
            }
        };
        model.apply(account(10))?;
        model.apply(Change::Commit(at(2)))?;
        model.apply(account(11))?;
        assert!(model.apply(Change::Commit(at(3))).is_err());
        Ok(())
    }
}
