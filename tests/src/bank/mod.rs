//! A bank on shards: in go nodes and options, out come transfers between shards under which the sum
//! of all balances never changes, rows of every column type, and schema changes under load.
//!
//! Accounts are spread over the nodes by number. Every transaction, global or not, keeps the sum, so
//! whoever sees the shards merged correctly sees the same sum after every transaction.

mod ddl;
mod options;
mod schema;
mod stats;
mod values;
mod worker;

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mysql_async::Opts;
use mysql_async::prelude::Queryable;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

pub use options::{BankOptions, Mix};
pub use stats::{Stats, StatsSnapshot};

use crate::coordinator::{Branch, Coordinator, Finish, Outcome};
use crate::tso::Tso;
use worker::Worker;

/// Longest wait, at the end of a run, for what broken nodes left in doubt.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(120);

/// The workload.
#[derive(Debug)]
pub struct Bank {
    coordinator: Arc<Coordinator>,
    options: BankOptions,
    mix_total: u32,
    stats: Stats,
    closing: AtomicBool,
    admitted: AtomicU64,
    /// When the current run began.
    opened: Mutex<Instant>,
    extra_column: AtomicU64,
    side_table: AtomicU64,
}

impl Bank {
    /// A bank on `nodes` with an oracle of its own.
    ///
    /// # Errors
    /// When there are no nodes, no kind of transaction has a weight, or the accounts are too few.
    pub fn new(nodes: Vec<Opts>, options: BankOptions) -> Result<Arc<Self>> {
        Self::with_oracle(nodes, options, Arc::new(Tso::new()))
    }

    /// A bank that shares an oracle with other coordinators.
    ///
    /// # Errors
    /// As [`Bank::new`].
    pub fn with_oracle(nodes: Vec<Opts>, options: BankOptions, tso: Arc<Tso>) -> Result<Arc<Self>> {
        ensure!(!nodes.is_empty(), "a bank needs a node");
        let mix_total = options.mix.total();
        ensure!(mix_total > 0, "every kind of transaction has weight 0");
        let least = 6 * nodes.len();
        ensure!(
            options.accounts as usize >= least,
            "at least {least} accounts are needed"
        );
        ensure!(options.workers > 0, "at least one worker is needed");
        ensure!(
            options.rate.is_none_or(|rate| rate > 0.0),
            "the rate must be above 0"
        );
        Ok(Arc::new(Self {
            coordinator: Coordinator::new("bank", nodes, tso),
            options,
            mix_total,
            stats: Stats::default(),
            closing: AtomicBool::new(false),
            admitted: AtomicU64::new(0),
            opened: Mutex::new(Instant::now()),
            extra_column: AtomicU64::new(0),
            side_table: AtomicU64::new(0),
        }))
    }

    /// The coordinator, for transactions beside the workload.
    pub fn coordinator(&self) -> &Arc<Coordinator> {
        &self.coordinator
    }

    /// The options.
    pub fn options(&self) -> &BankOptions {
        &self.options
    }

    /// Live counters.
    pub fn stats(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    /// What all balances add up to, always.
    pub fn expected_sum(&self) -> i64 {
        i64::from(self.options.accounts) * schema::INITIAL_BALANCE
    }

    /// Makes the tables and, in one distributed transaction, the accounts, unless they are there.
    ///
    /// # Errors
    /// The servers' own; also when a bank of another size is there.
    pub async fn open(&self) -> Result<()> {
        let nodes = self.coordinator.node_count();
        let mut session = self.coordinator.session();
        for node in 0..nodes {
            let schema = self.options.schema_on(node);
            for statement in schema::create_statements(&schema, self.options.json) {
                let done = session.execute(node, &statement).await;
                done.with_context(|| format!("node {}: {statement}", node + 1))?;
            }
        }
        let (accounts, sum) = self.totals().await?;
        if accounts == 0 {
            let branches = (0..nodes).map(|node| Branch {
                node,
                statements: vec![schema::insert_accounts(&self.options, node, nodes)],
            });
            let outcome = session
                .run(&branches.collect::<Vec<_>>(), self.finish())
                .await;
            ensure!(
                matches!(outcome, Outcome::Committed { .. }),
                "cannot open: {outcome:?}"
            );
            return self.coordinator.settle(SETTLE_TIMEOUT).await;
        }
        let expected = (i64::from(self.options.accounts), self.expected_sum());
        ensure!(
            (accounts, sum) == expected,
            "there is another bank: {accounts} accounts with {sum} in all; wanted {expected:?}"
        );
        Ok(())
    }

    /// Runs the workload until time or count are up or [`Bank::close`] is called, then finishes
    /// every transaction that broken connections left in doubt. May be called again.
    ///
    /// # Errors
    /// When transactions stay in doubt because a node does not come back.
    pub async fn run(self: &Arc<Self>) -> Result<StatsSnapshot> {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.admitted.store(0, Ordering::SeqCst);
        let mut clients = JoinSet::new();
        let seed = self.options.seed.unwrap_or_else(rand::random);
        for number in 0..self.options.workers {
            let rng = StdRng::seed_from_u64(seed.wrapping_add(u64::from(number)));
            clients.spawn(Worker::new(Arc::clone(self), rng).run());
        }
        let mut helpers = JoinSet::new();
        let helpers_may_end = Arc::new(AtomicBool::new(false));
        if let Some(every) = self.options.ddl_every {
            helpers.spawn(ddl::run(
                Arc::clone(self),
                every,
                Arc::clone(&helpers_may_end),
            ));
        }
        let working = async {
            while let Some(client) = clients.join_next().await {
                client?;
            }
            helpers_may_end.store(true, Ordering::SeqCst);
            while let Some(helper) = helpers.join_next().await {
                helper??;
            }
            Ok::<(), anyhow::Error>(())
        };
        tokio::select! {
            done = working => done?,
            never = self.look_after() => match never {},
        }
        self.coordinator.settle(SETTLE_TIMEOUT).await?;
        Ok(self.stats())
    }

    /// Ends the run: transactions under way are finished. There is no other run after it.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// Finishes what broken connections leave in doubt: also after the workers have ended, for
    /// schema changes may wait for those locks.
    async fn look_after(&self) -> Infallible {
        loop {
            self.coordinator.recover_if_needed().await;
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Number of accounts and sum of balances over the nodes. Only exact while no one transfers.
    ///
    /// # Errors
    /// When a node cannot be asked.
    pub async fn totals(&self) -> Result<(i64, i64)> {
        let (mut accounts, mut sum) = (0, 0);
        for node in 0..self.coordinator.node_count() {
            let mut conn = self
                .coordinator
                .connect(node)
                .await
                .map_err(|error| anyhow::anyhow!(error))?;
            let schema = self.options.schema_on(node);
            let row: Option<(i64, i64)> = conn.query_first(totals_query(&schema)).await?;
            let (count, balance) = row.context("an aggregate gives a row")?;
            accounts += count;
            sum += balance;
            conn.disconnect().await?;
        }
        Ok((accounts, sum))
    }

    /// The query that gives number of accounts and sum of balances on a replica of the whole.
    pub fn replica_totals_query(&self) -> String {
        totals_query(&self.options.logical_schema())
    }

    /// Writes a row on every node in one distributed transaction. Once a replica has all of them,
    /// it has everything committed before this call.
    ///
    /// # Errors
    /// When it cannot be committed within a minute.
    pub async fn mark(&self) -> Result<Marker> {
        let id = rand::random::<u64>();
        let nodes = self.coordinator.node_count();
        let branches: Vec<Branch> = (0..nodes)
            .map(|node| {
                let schema = self.options.schema_on(node);
                let insert =
                    format!("INSERT INTO `{schema}`.markers VALUES ({id}, {node}, NOW(6))");
                Branch {
                    node,
                    statements: vec![insert],
                }
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut session = self.coordinator.session();
        loop {
            let outcome = session.run(&branches, self.finish()).await;
            if matches!(outcome, Outcome::Committed { .. }) {
                self.coordinator.settle(SETTLE_TIMEOUT).await?;
                return Ok(Marker {
                    id,
                    nodes,
                    schema: self.options.logical_schema(),
                });
            }
            if Instant::now() > deadline {
                bail!("cannot write a marker: {outcome:?}");
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    fn finish(&self) -> Finish {
        if self.options.stamped {
            Finish::TwoPhase
        } else {
            Finish::TwoPhaseUnstamped
        }
    }

    /// Waits for a worker's turn; `false` when the bank closes.
    async fn admit(&self) -> bool {
        let number = self.admitted.fetch_add(1, Ordering::SeqCst);
        if self
            .options
            .transactions
            .is_some_and(|limit| number >= limit)
            || self.is_closing()
        {
            return false;
        }
        if let Some(rate) = self.options.rate {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a count of transactions fits 52 bits"
            )]
            let due = self.opened() + Duration::from_secs_f64(number as f64 / rate);
            while Instant::now() < due && !self.is_closing() {
                sleep_until(due.min(Instant::now() + Duration::from_millis(100))).await;
            }
        }
        !self.is_closing()
    }

    fn opened(&self) -> Instant {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closing(&self) -> bool {
        let late = |duration| self.opened().elapsed() >= duration;
        self.closing.load(Ordering::SeqCst) || self.options.duration.is_some_and(late)
    }

    /// Counts an outcome; true when something failed.
    fn count(&self, distributed: bool, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Committed { .. } if distributed => self.stats.count_distributed(),
            Outcome::Committed { .. } => self.stats.count_alone(),
            Outcome::RolledBack | Outcome::InDoubt { .. } => self.stats.count_rolled_back(),
            Outcome::Aborted { .. } => self.stats.count_aborted(),
            Outcome::Unknown { .. } => self.stats.count_unknown(),
        }
        matches!(outcome, Outcome::Aborted { .. } | Outcome::Unknown { .. })
    }

    fn extra_column(&self) -> Option<String> {
        let number = self.extra_column.load(Ordering::SeqCst);
        (number > 0).then(|| ddl::column_name(number))
    }

    fn side_table(&self) -> Option<String> {
        let number = self.side_table.load(Ordering::SeqCst);
        (number > 0).then(|| ddl::table_name(number))
    }

    fn use_extra_column(&self, number: u64) {
        self.extra_column.store(number, Ordering::SeqCst);
    }

    fn use_side_table(&self, number: u64) {
        self.side_table.store(number, Ordering::SeqCst);
    }
}

fn totals_query(schema: &str) -> String {
    format!("SELECT COUNT(*), CAST(COALESCE(SUM(balance), 0) AS SIGNED) FROM `{schema}`.accounts")
}

/// Rows written by [`Bank::mark`].
#[derive(Debug, Clone)]
pub struct Marker {
    id: u64,
    nodes: usize,
    schema: String,
}

impl Marker {
    /// A query for a replica that gives 1 once all the rows are there.
    pub fn query(&self) -> String {
        let Self { id, nodes, schema } = self;
        format!("SELECT COUNT(*) = {nodes} FROM `{schema}`.markers WHERE id = {id}")
    }
}
