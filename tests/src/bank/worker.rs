//! One client of the bank: in go chance and the options, out go transactions to a session and their
//! outcomes to the counters.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::sleep;

use super::options::Kind;
use super::schema::node_of;
use super::{Bank, values};
use crate::coordinator::{Branch, Finish, Outcome, Session};

/// Pause after a failure: a node may be down.
const BACKOFF: Duration = Duration::from_millis(100);

/// A client with its random numbers and the rows of `wide` only it touches.
pub(super) struct Worker {
    bank: Arc<Bank>,
    session: Session,
    rng: StdRng,
    rows: Vec<(u64, usize)>,
}

/// What a committed transaction means for the rows a worker knows.
#[derive(Debug, Clone, Copy)]
enum RowChange {
    None,
    Inserted(u64, usize),
    Removed(usize),
    Moved(usize, usize),
}

impl Worker {
    pub(super) fn new(bank: Arc<Bank>, rng: StdRng) -> Self {
        let session = bank.coordinator.session();
        Self {
            bank,
            session,
            rng,
            rows: Vec::new(),
        }
    }

    /// Runs transactions until the bank closes.
    pub(super) async fn run(mut self) {
        while self.bank.admit().await {
            let kind = self
                .bank
                .options
                .mix
                .kind(self.rng.random_range(0..self.bank.mix_total));
            let (branches, finish, change) = self.plan(kind);
            let outcome = self.session.run(&branches, finish).await;
            self.settle_row(&outcome, change);
            if self.bank.count(kind_is_distributed(finish), &outcome) {
                sleep(BACKOFF).await;
            }
        }
    }

    fn plan(&mut self, kind: Kind) -> (Vec<Branch>, Finish, RowChange) {
        let two_phase = if self.bank.options.stamped {
            Finish::TwoPhase
        } else {
            Finish::TwoPhaseUnstamped
        };
        let one_phase = if self.bank.options.stamped {
            Finish::OnePhase
        } else {
            Finish::Local
        };
        let local_stamped = if self.bank.options.stamped {
            Finish::LocalStamped
        } else {
            Finish::Local
        };
        match kind {
            Kind::CrossShard => (self.transfer(true), two_phase, RowChange::None),
            Kind::RolledBack => (
                self.transfer(true),
                Finish::RollbackPrepared,
                RowChange::None,
            ),
            Kind::Unstamped => (
                self.transfer(true),
                Finish::TwoPhaseUnstamped,
                RowChange::None,
            ),
            Kind::OnePhase => (self.transfer(false), one_phase, RowChange::None),
            Kind::Local => (self.transfer(false), Finish::Local, RowChange::None),
            Kind::LocalStamped => (self.transfer(false), local_stamped, RowChange::None),
            Kind::Wide => {
                let (branch, change) = self.wide();
                (vec![branch], Finish::Local, change)
            }
            Kind::Move => {
                let (branches, change) = self.moving();
                let finish = if branches.len() > 1 {
                    two_phase
                } else {
                    Finish::Local
                };
                (branches, finish, change)
            }
        }
    }

    /// Two or three accounts; what some lose the last one gains. The sum stays.
    fn transfer(&mut self, cross_shard: bool) -> Vec<Branch> {
        let nodes = self.bank.coordinator.node_count();
        let count = if self.rng.random_ratio(1, 5) { 3 } else { 2 };
        let accounts = self.bank.options.accounts;
        let first = self.rng.random_range(0..accounts);
        let step = u32::try_from(nodes).unwrap_or(1);
        let mut chosen = vec![first];
        while chosen.len() < count {
            let other = self.rng.random_range(0..accounts);
            let other = if cross_shard {
                other
            } else {
                first % step + other / step * step
            };
            let fits = other < accounts && !chosen.contains(&other);
            // With the second account the transfer gets its second node.
            let crosses = !cross_shard
                || nodes == 1
                || chosen.len() > 1
                || node_of(other, nodes) != node_of(first, nodes);
            if fits && crosses {
                chosen.push(other);
            }
        }
        let mut amounts: Vec<i64> = (1..count)
            .map(|_| self.rng.random_range(-50..=50))
            .collect();
        amounts.push(-amounts.iter().sum::<i64>());
        let mut parts: Vec<(u32, i64)> = chosen.into_iter().zip(amounts).collect();
        // One order of locks for all clients: by node, then by account.
        parts.sort_by_key(|(account, _)| (node_of(*account, nodes), *account));
        let mut branches: Vec<Branch> = Vec::new();
        for (account, amount) in parts {
            let node = node_of(account, nodes);
            let statements = self.entry(account, amount, node);
            match branches.last_mut() {
                Some(branch) if branch.node == node => branch.statements.extend(statements),
                _ => branches.push(Branch { node, statements }),
            }
        }
        branches
    }

    fn entry(&mut self, account: u32, amount: i64, node: usize) -> Vec<String> {
        let schema = self.bank.options.schema_on(node);
        let memo = values::memo(self.bank.options.memo, &mut self.rng);
        let id = self.rng.random::<u64>();
        let mut statements = vec![
            format!(
                "UPDATE `{schema}`.accounts SET balance = balance + ({amount}), \
                 version = version + 1, touched = NOW(6) WHERE id = {account}"
            ),
            format!(
                "INSERT INTO `{schema}`.transfers (id, account, amount, made_at, memo) \
                 VALUES ({id}, {account}, {amount}, NOW(6), '{memo}')"
            ),
        ];
        if let Some(table) = self.bank.side_table()
            && self.rng.random_ratio(1, 4)
        {
            statements.push(format!(
                "INSERT INTO `{schema}`.`{table}` (id, account, note) \
                 VALUES ({id}, {account}, '{memo}')"
            ));
        }
        statements
    }

    fn wide(&mut self) -> (Branch, RowChange) {
        let choice = self.rng.random_range(0..10);
        let index = self.rng.random_range(0..self.rows.len().max(1));
        match self.rows.get(index).copied() {
            Some((id, node)) if choice < 4 => (
                Branch {
                    node,
                    statements: vec![self.update(id, node)],
                },
                RowChange::None,
            ),
            Some((id, node)) if choice < 6 => {
                let schema = self.bank.options.schema_on(node);
                let delete = format!("DELETE FROM `{schema}`.wide WHERE id = {id}");
                (
                    Branch {
                        node,
                        statements: vec![delete],
                    },
                    RowChange::Removed(index),
                )
            }
            _ => {
                let id = self.rng.random::<u64>();
                let node = self.rng.random_range(0..self.bank.coordinator.node_count());
                let insert = self.insert(id, node);
                (
                    Branch {
                        node,
                        statements: vec![insert],
                    },
                    RowChange::Inserted(id, node),
                )
            }
        }
    }

    /// A row leaves its node for the next one; without a row to move, one is made.
    fn moving(&mut self) -> (Vec<Branch>, RowChange) {
        let index = self.rng.random_range(0..self.rows.len().max(1));
        let nodes = self.bank.coordinator.node_count();
        let Some((id, from)) = self.rows.get(index).copied().filter(|_| nodes > 1) else {
            let (branch, change) = self.wide();
            return (vec![branch], change);
        };
        let to = (from + 1) % nodes;
        let schema = self.bank.options.schema_on(from);
        let delete = format!("DELETE FROM `{schema}`.wide WHERE id = {id}");
        let insert = self.insert(id, to);
        let mut branches = vec![
            Branch {
                node: from,
                statements: vec![delete],
            },
            Branch {
                node: to,
                statements: vec![insert],
            },
        ];
        branches.sort_by_key(|branch| branch.node);
        (branches, RowChange::Moved(index, to))
    }

    fn insert(&mut self, id: u64, node: usize) -> String {
        let schema = self.bank.options.schema_on(node);
        let columns = self.columns();
        let literals: Vec<String> = columns
            .iter()
            .map(|column| values::literal(column, &mut self.rng))
            .collect();
        format!(
            "INSERT INTO `{schema}`.wide (id, {}) VALUES ({id}, {})",
            columns.join(", "),
            literals.join(", ")
        )
    }

    fn update(&mut self, id: u64, node: usize) -> String {
        let schema = self.bank.options.schema_on(node);
        let columns = self.columns();
        let count = self.rng.random_range(1..6);
        let settings: Vec<String> = (0..count)
            .filter_map(|_| {
                let column = columns.get(self.rng.random_range(0..columns.len()))?;
                Some(format!(
                    "{column} = {}",
                    values::literal(column, &mut self.rng)
                ))
            })
            .collect();
        format!(
            "UPDATE `{schema}`.wide SET {} WHERE id = {id}",
            settings.join(", ")
        )
    }

    fn columns(&self) -> Vec<String> {
        let columns = values::columns(self.bank.options.json)
            .into_iter()
            .map(str::to_owned);
        columns.chain(self.bank.extra_column()).collect()
    }

    fn settle_row(&mut self, outcome: &Outcome, change: RowChange) {
        match (outcome, change) {
            (Outcome::Committed { .. }, RowChange::Inserted(id, node)) => {
                self.rows.push((id, node));
            }
            (Outcome::Committed { .. } | Outcome::Unknown { .. }, RowChange::Removed(index)) => {
                self.rows.swap_remove(index);
            }
            (Outcome::Committed { .. }, RowChange::Moved(index, to)) => {
                if let Some(row) = self.rows.get_mut(index) {
                    row.1 = to;
                }
            }
            _ => {}
        }
    }
}

fn kind_is_distributed(finish: Finish) -> bool {
    !matches!(
        finish,
        Finish::Local | Finish::LocalStamped | Finish::OnePhase
    )
}
