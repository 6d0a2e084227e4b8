//! A random program: statements for the parts of one table, all from one seed.
//!
//! In: a seed. Out: [`Step`]s in the order in which they are to be run. Every part gets the same changes in the same order,
//! each when its turn comes; rows in between have the shape that the part has then.

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::NODES;
use super::shape::{Change, Shape};

/// How far parts may be apart, in changes.
const APART: usize = 4;

/// What is run at a time.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Statements on a node.
    On(usize, String),
    /// A transaction of all of these: a node and its statements.
    Together(Vec<(usize, Vec<String>)>),
}

struct Part {
    node: usize,
    number: usize,
    /// How many of the changes it has had.
    done: usize,
}

pub(super) struct Program {
    seed: u64,
    rng: StdRng,
    changes: Vec<Change>,
    parts: Vec<Part>,
    next_id: u64,
    steps: Vec<Step>,
}

/// The program of a seed.
pub(super) fn program(seed: u64) -> Vec<Step> {
    let mut rng = StdRng::seed_from_u64(seed);
    let shape = Shape::new(&mut rng);
    let changes = vec![Change {
        sql: shape.create(),
        shape,
        empties: true,
        holds_up: false,
    }];
    let mut program = Program {
        seed,
        rng,
        changes,
        parts: Vec::new(),
        next_id: 0,
        steps: Vec::new(),
    };
    program.run();
    program.steps
}

impl Program {
    fn run(&mut self) {
        for node in 0..NODES {
            let sql = format!("CREATE DATABASE p{}_{node}", self.seed);
            self.steps.push(Step::On(node, sql));
            for _ in 0..self.rng.random_range(1..=2) {
                self.create(node);
            }
        }
        for _ in 0..self.rng.random_range(10..30) {
            match self.rng.random_range(0..10) {
                0..5 => self.rows(),
                _ => self.advance(),
            }
        }
        if self.rng.random_bool(0.2) && self.have_one_name() {
            let node = self.rng.random_range(0..NODES);
            self.rows();
            self.create(node);
            self.rows();
        }
        // All get what the others have.
        while let Some(part) = self.behind() {
            self.apply(part);
            if self.rng.random_bool(0.5) {
                self.rows();
            }
        }
        if self.rng.random_bool(0.2) {
            self.leave();
        }
        self.rows();
        self.rows();
    }

    /// A part as the newest definition has it.
    fn create(&mut self, node: usize) {
        let number = self.parts.len();
        let done = self.changes.len();
        let shape = &self.changes[done - 1].shape;
        let name = format!("p{}_{node}.{}_{number}", self.seed, shape.name);
        let sql = shape.create().replace("{}", &name);
        self.steps.push(Step::On(node, sql));
        self.parts.push(Part { node, number, done });
    }

    /// No part has been renamed before the others.
    fn have_one_name(&self) -> bool {
        let newest = self.changes.last().map(|c| &c.shape.name);
        let name = |p: &Part| self.changes.get(p.done - 1).map(|c| &c.shape.name);
        self.parts.iter().all(|p| name(p) == newest)
    }

    /// An empty part goes.
    fn leave(&mut self) {
        if self.parts.len() > 2 {
            let at = self.rng.random_range(0..self.parts.len());
            let (name, node) = (self.name(at), self.parts[at].node);
            self.steps.push(Step::On(
                node,
                format!("DELETE FROM {name}; DROP TABLE {name}"),
            ));
            self.parts.remove(at);
        }
    }

    fn name(&self, part: usize) -> String {
        let Part { node, number, done } = self.parts[part];
        let shape = &self.changes[done - 1].shape;
        format!("p{}_{node}.{}_{number}", self.seed, shape.name)
    }

    fn behind(&mut self) -> Option<usize> {
        let behind: Vec<usize> = (0..self.parts.len())
            .filter(|p| self.parts[*p].done < self.changes.len())
            .collect();
        behind.choose(&mut self.rng).copied()
    }

    /// A part gets the next change: one that others have had, or a new one.
    fn advance(&mut self) {
        let least = self.parts.iter().map(|p| p.done).min().unwrap_or(0);
        let may_be_new = self.changes.len() - least < APART && self.rng.random_bool(0.4);
        if let Some(part) = self.behind().filter(|_| !may_be_new) {
            return self.apply(part);
        }
        let newest = self.changes.last().expect("the first makes the table");
        let Some(change) = newest.shape.change(&mut self.rng) else {
            return;
        };
        // Whoever takes rows away does it when all have the same.
        let held_up = self.changes[least..].iter().any(|c| c.holds_up);
        if change.empties || held_up || change.shape.name != newest.shape.name {
            while let Some(part) = self.behind() {
                self.apply(part);
            }
        }
        let emptied = change.empties;
        self.changes.push(change);
        if let Some(part) = self.behind_most() {
            self.apply(part);
        }
        if emptied {
            while let Some(part) = self.behind() {
                if self.rng.random_bool(0.3) {
                    self.rows();
                }
                self.apply(part);
            }
            // Nodes do not agree on what came first of what each did alone.
            self.together();
        }
    }

    /// One of the parts that have had all changes but the newest.
    fn behind_most(&mut self) -> Option<usize> {
        let ready: Vec<usize> = (0..self.parts.len())
            .filter(|p| self.parts[*p].done + 1 == self.changes.len())
            .collect();
        ready.choose(&mut self.rng).copied()
    }

    fn apply(&mut self, part: usize) {
        let change = &self.changes[self.parts[part].done];
        let Part { node, number, .. } = self.parts[part];
        let new = format!("p{}_{node}.{}_{number}", self.seed, change.shape.name);
        let sql = change.sql.replace("{new}", &new);
        let sql = self.dressed(&sql.replace("{}", &self.name(part)), node);
        self.steps.push(Step::On(node, sql));
        self.parts[part].done += 1;
    }

    /// The same statement, written in another way.
    fn dressed(&mut self, sql: &str, node: usize) -> String {
        let database = format!("p{}_{node}", self.seed);
        match self.rng.random_range(0..6) {
            0 => format!(
                "USE {database}; {}",
                sql.replace(&format!("{database}."), "")
            ),
            1 => sql
                .replacen("TABLE", "/* eins */ table", 1)
                .replace("ADD COLUMN", "add"),
            2 => sql.replace(&format!("{database}."), &format!("`{database}` . ")),
            3 => format!("{sql} -- am Ende"),
            // Not inside of values.
            4 if !sql.contains('\'') => sql.replace(' ', "  ").replace("COLUMN", "column"),
            _ => sql.to_owned(),
        }
    }

    /// Whether new rows of a part would be taken away by a statement that others have yet to get.
    fn is_open(&self, part: usize) -> bool {
        let least = self.parts.iter().map(|p| p.done).min().unwrap_or(0);
        let had = least.max(1)..self.parts[part].done;
        !self.changes[had].iter().any(|c| c.empties)
    }

    /// A transaction that writes into parts on all nodes. Whatever any node did before it comes before it, and before what any node
    /// does behind it.
    fn together(&mut self) {
        let mut order: Vec<usize> = (0..self.parts.len()).collect();
        order.shuffle(&mut self.rng);
        let on = |node: usize| order.iter().copied().find(|p| self.parts[*p].node == node);
        let branches: Vec<(usize, usize)> = (0..NODES)
            .filter_map(|node| Some((node, on(node)?)))
            .collect();
        let mut steps = Vec::new();
        for (node, part) in branches {
            let mut statements = self.statements(part);
            if self.is_open(part) {
                let shape = self.changes[self.parts[part].done - 1].shape.clone();
                statements.push(self.insert(&self.name(part), &shape));
            }
            steps.push((node, statements));
        }
        self.steps.push(Step::Together(steps));
    }

    /// Rows of one part or of parts on all nodes.
    fn rows(&mut self) {
        if self.rng.random_bool(0.25) {
            return self.together();
        }
        let part = self.rng.random_range(0..self.parts.len());
        let image = ["FULL", "FULL", "MINIMAL", "NOBLOB"]
            .choose(&mut self.rng)
            .expect("some");
        let mut sql = format!("SET binlog_row_image = {image}; BEGIN; ");
        sql += &self.statements(part).join("; ");
        let node = self.parts[part].node;
        self.steps.push(Step::On(node, sql + "; COMMIT"));
    }

    fn statements(&mut self, part: usize) -> Vec<String> {
        let name = self.name(part);
        let shape = self.changes[self.parts[part].done - 1].shape.clone();
        let mut statements = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let rng = &mut self.rng;
            let below = self.next_id.max(1);
            let pick = format!(
                "id % {} = {}",
                rng.random_range(2..5),
                rng.random_range(0..2)
            );
            match rng.random_range(0..6) {
                0 => statements.push(format!(
                    "DELETE FROM {name} WHERE id = {}",
                    rng.random_range(0..below)
                )),
                1 | 2 => {
                    let Some(column) = shape.columns.choose(rng) else {
                        continue;
                    };
                    let value = column.value(rng);
                    statements.push(format!(
                        "UPDATE {name} SET {} = {value} WHERE {pick}",
                        column.name
                    ));
                }
                _ if self.is_open(part) => statements.push(self.insert(&name, &shape)),
                _ => {}
            }
        }
        if statements.is_empty() {
            statements.push(format!("DELETE FROM {name} WHERE id = 0"));
        }
        statements
    }

    fn insert(&mut self, name: &str, shape: &Shape) -> String {
        let rng = &mut self.rng;
        let all = rng.random_bool(0.5);
        let columns: Vec<_> = shape
            .columns
            .iter()
            .filter(|c| all || !c.may_be_left_out() || rng.random_bool(0.7))
            .collect();
        let names: String = columns.iter().map(|c| format!(", {}", c.name)).collect();
        let mut rows = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            self.next_id += 1;
            let values: String = columns
                .iter()
                .map(|c| format!(", {}", c.value(rng)))
                .collect();
            rows.push(format!("({}{values})", self.next_id));
        }
        format!("INSERT INTO {name} (id{names}) VALUES {}", rows.join(", "))
    }
}
