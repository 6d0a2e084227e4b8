//! The state as keys and values.
//!
//! In: what changed. Out: keys and values to write together with the checkpoint; and from all of them the state again. The first
//! byte of a key says what it is; names in keys end with a NUL, numbers are big-endian so that they sort. Values are JSON.
//!
//! | key | value |
//! |---|---|
//! | `H`, number | a record of the logical history |
//! | `S` | a snapshot of the logical history; records with lesser numbers are in it |
//! | `N`, node | how the node compares names, and whether all of its tables are known |
//! | `D`, node, database | default collation of a node's database |
//! | `T`, node, database, table | a node's table or view |
//! | `A`, node, database, table | the logical table of a renamed table |
//! | `B`, database, table | the node whose copy is taken |
//! | `W` | statements that wait |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tributary_flow::{Mutant, mutant};

use super::parts::participant;
use super::{ClusterSchema, Name, SchemaRules};
use crate::charset::Collation;
use crate::history::{Change, History, HistoryError, Object, Record};
use crate::pending::{Participant, Pending};
use crate::route::NameCase;

/// A key, and its value or its end.
pub type Write = (Vec<u8>, Option<Vec<u8>>);

/// Records between two snapshots.
const SNAPSHOT_EVERY: u64 = 1000;

/// What was stored cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A value cannot be read.
    #[error(
        "the stored schema state cannot be read ({key}: {why}): the data directory is damaged or was written by a newer \
         version; restore it, or begin with an empty one"
    )]
    Unreadable {
        /// The key, as text.
        key: String,
        /// Why.
        why: String,
    },
    /// The records of the history contradict each other.
    #[error(transparent)]
    History(#[from] HistoryError),
}

#[derive(Serialize, Deserialize)]
struct StoredNode {
    folded: bool,
    complete: bool,
    collation: Option<u16>,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    /// Number of the first record behind it.
    records: u64,
    history: History,
}

fn key(kind: u8, names: &[&str]) -> Vec<u8> {
    let mut key = vec![kind];
    for name in names {
        key.extend_from_slice(name.as_bytes());
        key.push(0);
    }
    key
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and lists of them: there is nothing that JSON does not have.
    serde_json::to_vec(value).unwrap_or_default()
}

fn record_key(number: u64) -> Vec<u8> {
    let mut key = vec![b'H'];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

impl ClusterSchema {
    pub(super) fn store_record(&mut self, record: &Record) {
        self.writes
            .push((record_key(self.records), Some(json(record))));
        self.records += 1;
        self.unsaved += 1;
    }

    /// Puts the history into one value when there are many records. Called when a group of writes is complete.
    pub fn snapshot(&mut self) {
        if self.unsaved >= SNAPSHOT_EVERY {
            self.snapshot_now();
        }
    }

    /// Forgets what was before transaction `gno`: no file that is left reaches there.
    pub fn compact(&mut self, gno: u64) {
        self.logical.compact(gno);
        self.snapshot_now();
    }

    fn snapshot_now(&mut self) {
        let snapshot = Snapshot {
            records: self.records,
            history: self.logical.clone(),
        };
        self.writes.push((vec![b'S'], Some(json(&snapshot))));
        let first = self.records - self.unsaved;
        for number in first..self.records {
            self.writes.push((record_key(number), None));
        }
        self.unsaved = 0;
    }

    pub(super) fn store_node(&mut self, node: &str) {
        if let Some(known) = self.nodes.get(node) {
            let stored = StoredNode {
                folded: known.case == NameCase::Folded,
                complete: known.complete,
                collation: known.collation,
            };
            self.writes.push((key(b'N', &[node]), Some(json(&stored))));
        }
    }

    /// Takes out everything about a node.
    pub(super) fn forget_node(&mut self, node: &str, catalog: &History) {
        self.writes.push((key(b'N', &[node]), None));
        for (schema, _) in catalog.schemas(u64::MAX) {
            self.writes.push((key(b'D', &[node, schema]), None));
        }
        for (schema, table, _) in catalog.objects(u64::MAX) {
            self.writes.push((key(b'T', &[node, schema, table]), None));
        }
    }

    pub(super) fn store_physical(&mut self, node: &str, change: &Change) {
        let write = match change {
            Change::Schema(schema, collation) => {
                (key(b'D', &[node, schema]), collation.as_ref().map(json))
            }
            Change::Object(schema, table, object) => {
                (key(b'T', &[node, schema, table]), object.as_ref().map(json))
            }
        };
        self.writes.push(write);
    }

    pub(super) fn store_alias(&mut self, who: &Participant, name: Option<&Name>) {
        let key = key(b'A', &[&who.node, &who.schema, &who.table]);
        self.writes.push((key, name.map(json)));
    }

    pub(super) fn store_source(&mut self, logical: &Name, node: Option<&str>) {
        let key = key(b'B', &[&logical.0, &logical.1]);
        self.writes.push((key, node.map(|n| json(&n))));
    }

    pub(super) fn store_pending(&mut self) {
        if mutant(Mutant::ForgetWaiting) {
            return;
        }
        self.writes.push((vec![b'W'], Some(json(&self.pending))));
    }

    /// The state that the writes of an earlier life have left, for these nodes.
    ///
    /// # Errors
    /// Something in it cannot be read.
    pub fn restore<'a>(
        rules: SchemaRules,
        nodes: impl IntoIterator<Item = &'a str>,
        pairs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Self, StateError> {
        let mut state = Self::new(rules, nodes);
        // Nodes first: how names are compared decides where tables belong; then what was renamed.
        for kind in *b"NABDTSHW" {
            for (key, value) in pairs.iter().filter(|(k, _)| k.first() == Some(&kind)) {
                state.restore_pair(key, value)?;
            }
        }
        let known = |k: &[u8]| k.first().is_some_and(|b| b"NABDTSHW".contains(b));
        if let Some((key, _)) = pairs.iter().find(|(k, _)| !known(k)) {
            return Err(unreadable(key, "an unknown kind of key"));
        }
        state.writes.clear();
        Ok(state)
    }

    /// The same behind a change of the nodes: `renamed` are the names that nodes had before. Of nodes that are gone, and not waited
    /// for any longer, everything is forgotten.
    ///
    /// # Errors
    /// Something in it cannot be read.
    pub fn resume<'a>(
        rules: SchemaRules,
        nodes: impl IntoIterator<Item = &'a str>,
        renamed: &BTreeMap<String, String>,
        pairs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Self, StateError> {
        let nodes: Vec<&str> = nodes.into_iter().collect();
        let mut moved = Vec::new();
        let mut writes = Vec::new();
        for (key, value) in pairs {
            let new = match key.first() {
                Some(b'N' | b'D' | b'T' | b'A') => {
                    let mut names = names(key)?;
                    let now = names.first().map(|n| now_called(n, renamed));
                    if let (Some(first), Some(now)) = (names.first_mut(), &now) {
                        *first = now;
                    }
                    self::key(key.first().copied().unwrap_or_default(), &names)
                }
                _ => key.clone(),
            };
            let new_value = match key.first() {
                Some(b'B') => {
                    let node: String = read(key, value)?;
                    json(&now_called(&node, renamed))
                }
                Some(b'W') => {
                    let mut pending: Pending = read(key, value)?;
                    pending.rename_nodes(&|node| now_called(node, renamed));
                    json(&pending)
                }
                _ => value.clone(),
            };
            if new != *key {
                writes.push((key.clone(), None));
            }
            if new != *key || new_value != *value {
                writes.push((new.clone(), Some(new_value.clone())));
            }
            moved.push((new, new_value));
        }
        let mut state = Self::restore(rules, nodes.iter().copied(), &moved)?;
        state.writes = writes;
        let gone: Vec<String> = (state.nodes.keys())
            .filter(|name| !nodes.contains(&name.as_str()))
            .cloned()
            .collect();
        gone.iter().for_each(|name| state.forget(name));
        Ok(state)
    }

    fn restore_pair(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let names = names(key)?;
        match (key.first(), names.as_slice()) {
            (Some(b'N'), [node]) => {
                let stored: StoredNode = read(key, value)?;
                let known = self.node(node);
                known.complete = stored.complete;
                known.case = NameCase::from_variable(u8::from(stored.folded));
                if let Some(collation) = stored.collation {
                    known.collation = Some(collation);
                    known.catalog = History::new(Collation(collation));
                }
            }
            (Some(b'D'), [node, schema]) => {
                let collation: Collation = read(key, value)?;
                let change = Change::Schema((*schema).to_owned(), Some(collation));
                self.change_physical(node, vec![change]);
            }
            (Some(b'T'), [node, schema, table]) => {
                let object: Object = read(key, value)?;
                let change =
                    Change::Object((*schema).to_owned(), (*table).to_owned(), Some(object));
                self.change_physical(node, vec![change]);
            }
            (Some(b'A'), [node, schema, table]) => {
                let who = participant(node, schema, table);
                self.aliases.insert(who, read(key, value)?);
            }
            (Some(b'B'), [schema, table]) => {
                let name = ((*schema).to_owned(), (*table).to_owned());
                self.copies.insert(name, read(key, value)?);
            }
            (Some(b'S'), []) => {
                let snapshot: Snapshot = read(key, value)?;
                self.logical = snapshot.history;
                self.records = snapshot.records;
            }
            (Some(b'H'), _) => {
                let number = key.get(1..).and_then(|n| n.try_into().ok());
                let number = number.map(u64::from_be_bytes);
                if number != Some(self.records) {
                    return Err(unreadable(key, "a record is missing before it"));
                }
                self.records += 1;
                self.unsaved += 1;
                self.logical.apply(read(key, value)?)?;
            }
            (Some(b'W'), []) => self.pending = read(key, value)?,
            _ => return Err(unreadable(key, "an unknown key")),
        }
        Ok(())
    }
}

/// What a node is called now.
fn now_called(node: &str, renamed: &BTreeMap<String, String>) -> String {
    let mut name = node;
    // Names may have gone in a circle.
    for _ in 0..=renamed.len() {
        match renamed.get(name) {
            Some(next) => name = next,
            None => break,
        }
    }
    name.to_owned()
}

/// Statements that some tables have had and others have not, from the same pairs; without those that drop something.
///
/// # Errors
/// They cannot be read.
pub fn stored_waiting(pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<String>, StateError> {
    let Some((key, value)) = pairs.iter().find(|(key, _)| key == b"W") else {
        return Ok(Vec::new());
    };
    let pending: Pending = read(key, value)?;
    Ok(pending.texts().map(str::to_owned).collect())
}

/// The nodes of which something is stored, from the same pairs.
///
/// # Errors
/// They cannot be read.
pub fn stored_nodes(pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<String>, StateError> {
    let nodes = pairs.iter().filter(|(key, _)| key.first() == Some(&b'N'));
    let first = nodes.map(|(key, _)| {
        let names = names(key)?;
        names.first().map_or_else(
            || Err(unreadable(key, "no name in it")),
            |name| Ok((*name).to_owned()),
        )
    });
    first.collect()
}

/// The names in a key.
fn names(key: &[u8]) -> Result<Vec<&str>, StateError> {
    if key.first() == Some(&b'H') {
        return Ok(Vec::new());
    }
    let rest = key.get(1..).unwrap_or_default();
    let parts = rest.split_inclusive(|b| *b == 0).map(|part| {
        let name = part.strip_suffix(&[0]);
        name.and_then(|n| std::str::from_utf8(n).ok())
            .ok_or_else(|| unreadable(key, "a name in it"))
    });
    parts.collect()
}

fn read<T: for<'a> Deserialize<'a>>(key: &[u8], value: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(value).map_err(|e| unreadable(key, &e.to_string()))
}

fn unreadable(key: &[u8], why: &str) -> StateError {
    StateError::Unreadable {
        key: String::from_utf8_lossy(key).replace('\0', "/"),
        why: why.to_owned(),
    }
}

/// Makes the records among `writes` part of a history that has all records before them.
///
/// # Errors
/// One cannot be read, or does not follow.
pub fn follow_history(history: &mut History, writes: &[Write]) -> Result<(), StateError> {
    for (key, value) in writes {
        if let (Some(b'H'), Some(value)) = (key.first(), value) {
            history.apply(read(key, value)?)?;
        }
    }
    Ok(())
}

/// The history alone, from the same pairs: for those who only show it.
///
/// # Errors
/// Something in it cannot be read.
pub fn stored_history(pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<History, StateError> {
    let own: Vec<_> = (pairs.iter())
        .filter(|(k, _)| matches!(k.first(), Some(b'S' | b'H')))
        .cloned()
        .collect();
    let state = ClusterSchema::restore(SchemaRules::default(), [], &own)?;
    Ok(state.logical)
}
