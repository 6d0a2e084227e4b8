//! The logical schema through the order: which tables there were, and how they looked, at every point.
//!
//! In: DDL statements at their places in the order. Out: a [`Record`] for each, which holds what the statement changed, and
//! after records the [`History`] that answers for any point: by order key, GTID number, TSO or time. A record is what is stored
//! (JSON, one value for each DDL); replaying records never reads SQL again, so that a history means the same to every later
//! version. A snapshot is the history itself as JSON; snapshot and the records behind it give the history that all records give.

mod draft;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tributary_flow::{KeyClass, OrderKey, Tso};

use crate::charset::Collation;
use crate::ddl::{Kind, NameRef, Statement};
use crate::table::Table;
use draft::Draft;

/// An order key as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SchemaKey {
    /// Commit timestamp, or the floor a local transaction stands on.
    pub tso: Tso,
    /// Local transactions come behind the distributed one with their TSO.
    pub local: bool,
    /// Clamped commit time of a local transaction, µs.
    pub time: u64,
    /// Node of a local transaction.
    pub node: u16,
    /// Place of a local transaction in its node's stream.
    pub seq: u64,
}

impl From<OrderKey> for SchemaKey {
    fn from(key: OrderKey) -> Self {
        Self {
            tso: key.tso,
            local: key.class == KeyClass::Local,
            time: key.time,
            node: key.node.0,
            seq: key.seq,
        }
    }
}

/// Where a logical DDL stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment {
    /// Number of its global transaction; strictly increasing from record to record.
    pub gno: u64,
    /// Its order key.
    pub key: SchemaKey,
    /// Commit time written with it, µs.
    pub commit_time: u64,
}

/// A table or view at some point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Object {
    /// A table.
    Table(Box<Table>),
    /// A view, with the statement that made it.
    View(String),
    /// A table whose definition is not known, and why.
    Opaque(String),
}

/// One thing that a statement changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A database with its default collation, or its end.
    Schema(String, Option<Collation>),
    /// A table or view (schema, name), or its end.
    Object(String, String, Option<Object>),
}

/// What one logical DDL changed. The unit that is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it stands.
    pub at: Moment,
    /// Its default database.
    pub schema: String,
    /// Its text.
    pub sql: String,
    /// What it changed.
    pub changes: Vec<Change>,
    /// What was wrong with it; the tables concerned are opaque from here on.
    pub problems: Vec<String>,
}

/// Why a stored history cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The bytes are not those of a record or snapshot.
    #[error(
        "the stored schema history cannot be read: {0}; restore the data directory, or delete the history and take all definitions anew"
    )]
    Unreadable(#[from] serde_json::Error),
    /// A record is not behind the last one.
    #[error("schema history: record of transaction {gno} comes behind that of {last}")]
    OutOfOrder {
        /// The record's transaction.
        gno: u64,
        /// The last one's.
        last: u64,
    },
}

/// Versions of one thing, oldest first; `None` from its end on.
type Versions<T> = Vec<(u64, Option<T>)>;

/// All versions since the last compaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Default collation of databases that do not name one.
    server_collation: Option<Collation>,
    moments: Vec<Moment>,
    schemas: BTreeMap<String, Versions<Collation>>,
    /// By schema, then name: JSON has no keys of two parts.
    objects: BTreeMap<String, BTreeMap<String, Versions<Object>>>,
}

fn version<T>(versions: &Versions<T>, gno: u64) -> Option<&T> {
    let behind = versions.partition_point(|(at, _)| *at <= gno);
    versions.get(behind.checked_sub(1)?)?.1.as_ref()
}

impl History {
    /// Nothing; databases have this default collation.
    #[must_use]
    pub fn new(server_collation: Collation) -> Self {
        Self {
            server_collation: Some(server_collation),
            ..Self::default()
        }
    }

    /// The place of the last record.
    #[must_use]
    pub fn last(&self) -> Option<&Moment> {
        self.moments.last()
    }

    /// The last moment at or before an order key, as a transaction number; 0 before all.
    #[must_use]
    pub fn gno_at_key(&self, key: &SchemaKey) -> u64 {
        self.gno_before(self.moments.partition_point(|m| m.key <= *key))
    }

    /// The last moment at or before a TSO.
    #[must_use]
    pub fn gno_at_tso(&self, tso: Tso) -> u64 {
        self.gno_before(self.moments.partition_point(|m| m.key.tso <= tso))
    }

    /// The last moment whose commit time is at or before this one, µs. Commit times of different nodes may go back a little;
    /// what lies behind such a step counts as committed with what lies before it.
    #[must_use]
    pub fn gno_at_time(&self, commit_time: u64) -> u64 {
        let later = self
            .moments
            .iter()
            .position(|m| m.commit_time > commit_time);
        self.gno_before(later.unwrap_or(self.moments.len()))
    }

    fn gno_before(&self, count: usize) -> u64 {
        let moment = count.checked_sub(1).and_then(|at| self.moments.get(at));
        moment.map_or(0, |m| m.gno)
    }

    /// A table or view as it was behind transaction `gno` (`u64::MAX` = now).
    #[must_use]
    pub fn object(&self, schema: &str, name: &str, gno: u64) -> Option<&Object> {
        version(self.objects.get(schema)?.get(name)?, gno)
    }

    /// A table as it was behind transaction `gno`; `None` when there was none, or its definition is not known.
    #[must_use]
    pub fn table(&self, schema: &str, name: &str, gno: u64) -> Option<&Table> {
        match self.object(schema, name, gno)? {
            Object::Table(table) => Some(table),
            Object::View(_) | Object::Opaque(_) => None,
        }
    }

    /// All tables and views behind transaction `gno`: schema, name, definition.
    pub fn objects(&self, gno: u64) -> impl Iterator<Item = (&str, &str, &Object)> {
        let all = self.objects.iter().flat_map(|(schema, names)| {
            let names = names.iter();
            names.map(move |(name, versions)| (schema.as_str(), name.as_str(), versions))
        });
        all.filter_map(move |(s, n, versions)| Some((s, n, version(versions, gno)?)))
    }

    /// All databases behind transaction `gno`, with their default collations.
    pub fn schemas(&self, gno: u64) -> impl Iterator<Item = (&str, Collation)> {
        let all = self.schemas.iter();
        all.filter_map(move |(name, versions)| Some((name.as_str(), *version(versions, gno)?)))
    }

    /// Default collation of new tables in a database, now.
    #[must_use]
    pub fn collation(&self, schema: &str) -> Collation {
        let versions = self.schemas.get(schema);
        let known = versions.and_then(|v| version(v, u64::MAX)).copied();
        known
            .or(self.server_collation)
            .unwrap_or(Collation::DEFAULT)
    }

    /// Versions of a table: from which transaction on, and how.
    pub fn versions(
        &self,
        schema: &str,
        name: &str,
    ) -> impl Iterator<Item = (u64, Option<&Object>)> {
        let versions = self.objects.get(schema).and_then(|names| names.get(name));
        let versions = versions.into_iter().flatten();
        versions.map(|(gno, object)| (*gno, object.as_ref()))
    }

    /// Whether the statement has nothing left to do for the logical schema: it creates what is there, drops what is not, or
    /// changes a table to what it is. A
    /// `CREATE TABLE` of a further part of a logical table is such a statement; where its definition differs,
    /// [`Self::differences`] says how, and its rows are reshaped.
    #[must_use]
    pub fn is_satisfied(&self, statement: &Statement) -> bool {
        let there = |n: &NameRef| {
            let (schema, name) = statement.resolve(n);
            self.object(schema, name, u64::MAX).is_some()
        };
        match &statement.kind {
            Kind::CreateTable(create) => there(&create.name),
            Kind::DropTable { names, .. } => !names.iter().any(there),
            Kind::CreateDatabase(name, ..) => self.schemas(u64::MAX).any(|(s, _)| s == name),
            Kind::DropDatabase(name) => self.schemas(u64::MAX).all(|(s, _)| s != name),
            Kind::AlterTable(alter) => {
                let (schema, name) = statement.resolve(&alter.name);
                let table = self.table(schema, name, u64::MAX);
                table.is_some_and(|t| t.has_had(alter))
            }
            _ => false,
        }
    }

    /// How the table of a `CREATE TABLE` differs from the logical table that is there, as lines of [`diff`]; empty when it does
    /// not, or when either is not known.
    #[must_use]
    pub fn differences(&self, statement: &Statement) -> Vec<String> {
        let Kind::CreateTable(create) = &statement.kind else {
            return Vec::new();
        };
        let (schema, name) = statement.resolve(&create.name);
        let new = create.table(self.collation(schema));
        match (self.table(schema, name, u64::MAX), new) {
            (Some(old), Some(new)) => diff(old, &new),
            _ => Vec::new(),
        }
    }

    /// What a statement changes at a place. Decides only: [`Self::apply`] makes it so, once the record is stored.
    #[must_use]
    pub fn record(&self, at: Moment, statement: &Statement) -> Record {
        let mut draft = Draft {
            history: self,
            statement,
            changes: Vec::new(),
            problems: Vec::new(),
        };
        draft.statement();
        Record {
            at,
            schema: statement.default_schema().to_owned(),
            sql: statement.sql().to_owned(),
            changes: draft.changes,
            problems: draft.problems,
        }
    }

    /// The record of a definition that was read from a node (`SHOW CREATE TABLE`) rather than made by a statement.
    #[must_use]
    pub fn learned(at: Moment, schema: &str, table: Table) -> Record {
        let name = table.name.clone();
        let object = Some(Object::Table(Box::new(table)));
        Record {
            at,
            schema: schema.to_owned(),
            sql: String::new(),
            changes: vec![Change::Object(schema.to_owned(), name, object)],
            problems: Vec::new(),
        }
    }

    /// Makes a record part of the history. Several records may stand at one place.
    ///
    /// # Errors
    /// When it lies before the last one.
    pub fn apply(&mut self, record: Record) -> Result<(), HistoryError> {
        let gno = record.at.gno;
        if let Some(last) = self.moments.last().filter(|m| m.gno > gno) {
            return Err(HistoryError::OutOfOrder {
                gno,
                last: last.gno,
            });
        }
        if self.moments.last() != Some(&record.at) {
            self.moments.push(record.at);
        }
        for change in record.changes {
            match change {
                Change::Schema(name, collation) => {
                    put(self.schemas.entry(name).or_default(), gno, collation);
                }
                Change::Object(schema, name, object) => {
                    let names = self.objects.entry(schema).or_default();
                    put(names.entry(name).or_default(), gno, object);
                }
            }
        }
        Ok(())
    }

    /// Applies changes without keeping what was before: for the tables of a node, of which only the present counts.
    pub(crate) fn replace_now(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Schema(name, Some(collation)) => {
                    self.schemas.insert(name, vec![(0, Some(collation))]);
                }
                Change::Schema(name, None) => {
                    self.schemas.remove(&name);
                }
                Change::Object(schema, name, Some(object)) => {
                    let names = self.objects.entry(schema).or_default();
                    names.insert(name, vec![(0, Some(object))]);
                }
                Change::Object(schema, name, None) => {
                    if let Some(names) = self.objects.get_mut(&schema) {
                        names.remove(&name);
                    }
                }
            }
        }
    }

    /// Forgets what was before transaction `gno`; every question about it or later has the same answer as before.
    pub fn compact(&mut self, gno: u64) {
        let before = self.moments.partition_point(|m| m.gno <= gno);
        self.moments.drain(..before.saturating_sub(1));
        for names in self.objects.values_mut() {
            names.retain(|_, versions| forget(versions, gno));
        }
        self.objects.retain(|_, names| !names.is_empty());
        self.schemas.retain(|_, versions| forget(versions, gno));
    }

    /// The bytes of a snapshot.
    ///
    /// # Errors
    /// None that can happen to a history; serialising has a result.
    pub fn to_snapshot(&self) -> Result<Vec<u8>, HistoryError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// When the bytes are not those of one.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, HistoryError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl Record {
    /// The bytes that are stored.
    ///
    /// # Errors
    /// None that can happen to a record; serialising has a result.
    pub fn to_bytes(&self) -> Result<Vec<u8>, HistoryError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads a stored record.
    ///
    /// # Errors
    /// When the bytes are not those of one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HistoryError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// A new version; one at the same place replaces the older.
fn put<T>(versions: &mut Versions<T>, gno: u64, value: Option<T>) {
    versions.retain(|(at, _)| *at != gno);
    versions.push((gno, value));
}

/// Drops versions that no question behind `gno` can reach. False when none is left that says anything.
fn forget<T>(versions: &mut Versions<T>, gno: u64) -> bool {
    let before = versions.partition_point(|(at, _)| *at <= gno);
    versions.drain(..before.saturating_sub(1));
    // An end that nothing precedes is the same as nothing.
    if versions
        .first()
        .is_some_and(|(at, value)| *at <= gno && value.is_none())
    {
        versions.remove(0);
    }
    !versions.is_empty()
}

/// What changed between two definitions, as lines: `-` in the first only, `+` in the second only.
#[must_use]
pub fn diff(before: &Table, after: &Table) -> Vec<String> {
    let (a, b) = (before.show_create(), after.show_create());
    let trim = |text: &str| -> Vec<String> {
        text.lines()
            .map(|l| l.trim_end_matches(',').to_owned())
            .collect()
    };
    let (a, b) = (trim(&a), trim(&b));
    let gone = a.iter().filter(|l| !b.contains(l)).map(|l| format!("-{l}"));
    let new = b.iter().filter(|l| !a.contains(l)).map(|l| format!("+{l}"));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests;
