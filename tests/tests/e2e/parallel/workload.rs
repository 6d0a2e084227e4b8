//! A workload: sessions that change the same few rows at the same time. In: a seed. Out: transactions on the nodes.
//!
//! A row is on one node at a time. Changes that say where a row is (insert, delete, new key, move) are made by one session
//! at a time, and a row only appears on another node than the one it left in a distributed transaction, whose timestamp
//! tells that it came later. All sessions update all rows whenever they like.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tributary_tests::coordinator::{Branch, Coordinator, Finish, Outcome};

const SESSIONS: u64 = 4;
const TRANSACTIONS: u64 = 14;
/// Rows of each table that may exist.
const KEYS: u32 = 16;

/// A row by table and key.
type Key = (Table, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Table {
    Items,
    Names,
}

#[derive(Clone, Debug, Default)]
struct Place {
    node: Option<usize>,
    /// Where it was last, if anywhere.
    last: Option<usize>,
    /// How a name is written at the moment.
    text: String,
    claimed: bool,
}

/// Where the rows are.
#[derive(Debug, Default)]
pub(super) struct Rows(Mutex<HashMap<Key, Place>>);

impl Rows {
    fn with<T>(&self, key: Key, f: impl FnOnce(&mut Place) -> T) -> T {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f(rows.entry(key).or_default())
    }

    /// Claims a row that `fits`, and answers its place.
    fn claim(&self, key: Key, fits: impl FnOnce(&Place) -> bool) -> Option<Place> {
        self.with(key, |place| {
            if place.claimed || !fits(place) {
                return None;
            }
            place.claimed = true;
            Some(place.clone())
        })
    }
}

/// Runs a workload. Answers how many transactions have committed.
pub(super) async fn run(coordinator: Arc<Coordinator>, rows: Arc<Rows>, seed: u64) -> Result<u64> {
    let mut sessions = JoinSet::new();
    for session in 0..SESSIONS {
        let (coordinator, rows) = (Arc::clone(&coordinator), Arc::clone(&rows));
        let rng = StdRng::seed_from_u64(seed << 8 | session);
        sessions.spawn(session_of(coordinator, rows, rng));
    }
    let mut committed = 0;
    while let Some(done) = sessions.join_next().await {
        committed += done??;
    }
    Ok(committed)
}

async fn session_of(
    coordinator: Arc<Coordinator>,
    rows: Arc<Rows>,
    mut rng: StdRng,
) -> Result<u64> {
    let nodes = coordinator.node_count();
    let mut session = coordinator.session();
    let mut committed = 0;
    for _ in 0..TRANSACTIONS {
        let mut plan = Plan {
            rows: &rows,
            rng: &mut rng,
            branches: vec![Vec::new(); nodes],
            claims: Vec::new(),
            distributed: false,
        };
        plan.make();
        let (branches, finish, claims) = plan.finish();
        let done = !branches.is_empty()
            && match session.run(&branches, finish).await {
                Outcome::Committed { .. } => true,
                Outcome::RolledBack | Outcome::Aborted { .. } => false,
                other => bail!("{other:?}"),
            };
        committed += u64::from(done);
        for (key, after) in claims {
            rows.with(key, |place| {
                if done {
                    *place = after;
                }
                place.claimed = false;
            });
        }
    }
    Ok(committed)
}

/// A transaction that is being thought out.
struct Plan<'a> {
    rows: &'a Rows,
    rng: &'a mut StdRng,
    /// Statements, by node.
    branches: Vec<Vec<String>>,
    /// Rows it has for itself, and what they are once it has committed.
    claims: Vec<(Key, Place)>,
    /// It must be distributed.
    distributed: bool,
}

impl Plan<'_> {
    fn make(&mut self) {
        let nodes = self.branches.len();
        let node = self.rng.random_range(0..nodes);
        match self.rng.random_range(0..10) {
            // Transfers.
            0..3 => {
                let other = (node + self.rng.random_range(1..nodes)) % nodes;
                self.touch(node);
                self.touch(other);
                self.distributed = true;
            }
            3 => self.move_row(node),
            _ => {
                for _ in 0..self.rng.random_range(1..4) {
                    match self.rng.random_range(0..10) {
                        0..4 => self.touch(node),
                        4..6 => self.insert(node),
                        6 => self.delete(node),
                        7 => self.replace(node),
                        8 => self.rekey(node),
                        _ => self.loose(node),
                    }
                }
            }
        }
    }

    /// Branches in node order, so that sessions do not wait for each other in a ring.
    fn finish(self) -> (Vec<Branch>, Finish, Vec<(Key, Place)>) {
        let branches: Vec<Branch> = (self.branches.into_iter().enumerate())
            .filter(|(_, statements)| !statements.is_empty())
            .map(|(node, statements)| Branch { node, statements })
            .collect();
        let two_phase = self.distributed || branches.len() > 1;
        let finish = match self.rng.random_range(0..10) {
            0 if two_phase => Finish::RollbackPrepared,
            _ if two_phase => Finish::TwoPhase,
            0 => Finish::OnePhase,
            1 => Finish::LocalStamped,
            2 | 3 => Finish::TwoPhase,
            _ => Finish::Local,
        };
        (branches, finish, self.claims)
    }

    fn key(&mut self) -> Key {
        let table = if self.rng.random_bool(0.6) {
            Table::Items
        } else {
            Table::Names
        };
        (table, self.rng.random_range(0..KEYS))
    }

    /// A way to write a key.
    fn text(&mut self, (table, key): Key) -> String {
        match (table, self.rng.random_range(0..3)) {
            (Table::Items, _) => key.to_string(),
            (Table::Names, 0) => format!("'Row-{key}'"),
            (Table::Names, 1) => format!("'row-{key}'"),
            (Table::Names, _) => format!("'ROW-{key}'"),
        }
    }

    fn add(&mut self, node: usize, statement: String) {
        self.branches[node].push(statement);
    }

    fn claim(&mut self, key: Key, fits: impl FnOnce(&Place) -> bool) -> Option<Place> {
        self.rows.claim(key, fits)
    }

    /// Says what a claimed row is from now on.
    fn after(&mut self, key: Key, was: &Place, node: Option<usize>, text: String) {
        // A row comes to a node it was not on last in a distributed transaction.
        self.distributed |= node.is_some() && was.last.is_some() && was.last != node;
        let place = Place {
            node,
            last: node.or(was.last),
            text,
            claimed: true,
        };
        self.claims.push((key, place));
    }

    fn touch(&mut self, node: usize) {
        let key = self.key();
        if self.rows.with(key, |place| place.node) == Some(node) {
            let (table, column) = name(key.0);
            let text = self.text(key);
            let plus = self.rng.random_range(0..1000);
            // Steps that change places give another value.
            self.add(
                node,
                format!(
                    "UPDATE par.{table} SET v = (v * 3 + {plus}) % 1000003 WHERE {column} = {text}"
                ),
            );
        }
    }

    fn put(&mut self, node: usize, key: Key, text: &str) {
        let (table, column) = name(key.0);
        let v = self.rng.random_range(0..1_000_000);
        self.add(
            node,
            format!("INSERT INTO par.{table} ({column}, v) VALUES ({text}, {v})"),
        );
    }

    fn take_away(&mut self, node: usize, key: Key, text: &str) {
        let (table, column) = name(key.0);
        self.add(
            node,
            format!("DELETE FROM par.{table} WHERE {column} = {text}"),
        );
    }

    fn insert(&mut self, node: usize) {
        let key = self.key();
        if let Some(was) = self.claim(key, |place| place.node.is_none()) {
            let text = self.text(key);
            self.put(node, key, &text);
            self.after(key, &was, Some(node), text);
        }
    }

    fn delete(&mut self, node: usize) {
        let key = self.key();
        if let Some(was) = self.claim(key, |place| place.node == Some(node)) {
            self.take_away(node, key, &was.text);
            self.after(key, &was, None, String::new());
        }
    }

    fn replace(&mut self, node: usize) {
        let key = self.key();
        if let Some(was) = self.claim(key, |place| place.node == Some(node)) {
            self.take_away(node, key, &was.text);
            let text = self.text(key);
            self.put(node, key, &text);
            self.after(key, &was, Some(node), text);
        }
    }

    /// Gives a row another key, or the same in another case.
    fn rekey(&mut self, node: usize) {
        let old = self.key();
        let Some(was) = self.claim(old, |place| place.node == Some(node)) else {
            return;
        };
        let new = (old.0, self.rng.random_range(0..KEYS));
        let text = self.text(new);
        let (table, column) = name(old.0);
        let update = format!(
            "UPDATE par.{table} SET {column} = {text} WHERE {column} = {}",
            was.text
        );
        if new == old {
            self.add(node, update);
            self.after(old, &was, Some(node), text);
        } else if let Some(free) = self.claim(new, |place| place.node.is_none()) {
            self.add(node, update);
            self.after(old, &was, None, String::new());
            self.after(new, &free, Some(node), text);
        } else {
            let (node, text) = (was.node, was.text.clone());
            self.after(old, &was, node, text);
        }
    }

    /// A row goes to another node in one transaction, written as it was.
    fn move_row(&mut self, from: usize) {
        let key = self.key();
        let nodes = self.branches.len();
        let to = (from + self.rng.random_range(1..nodes)) % nodes;
        if let Some(was) = self.claim(key, |place| place.node == Some(from)) {
            self.take_away(from, key, &was.text);
            self.put(to, key, &was.text);
            self.after(key, &was, Some(to), was.text.clone());
        }
    }

    /// A table without a key; its rows may be the same on several nodes.
    fn loose(&mut self, node: usize) {
        let id = self.rng.random_range(0..6);
        let statement = match self.rng.random_range(0..3) {
            0 => format!("UPDATE par.loose SET v = v + 1 WHERE id = {id}"),
            1 => format!("DELETE FROM par.loose WHERE id = {id}"),
            _ => format!("INSERT INTO par.loose VALUES ({id}, {id})"),
        };
        self.add(node, statement);
    }
}

fn name(table: Table) -> (&'static str, &'static str) {
    match table {
        Table::Items => ("items", "id"),
        Table::Names => ("names", "name"),
    }
}
