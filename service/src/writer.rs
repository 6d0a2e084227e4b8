//! The store's thread: group commit.
//!
//! In: [`MergedBatch`]es. Out: durable transactions, visible to dump clients. Takes whatever has arrived while the last commit
//! ran, up to a cap, and commits it at once. A failure to write ends the process: nothing may be acknowledged after it. Only for
//! space on the disk it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tributary_binlog::BinlogFile;
use tributary_dump_server::AdminActions;
use tributary_flow::{BranchOp, Checkpoint, MergedBatch, limits};
use tributary_schema::Write;
use tributary_store::{LogWriter, NodeSetChange, PurgeError, Retention, WriteError};

use crate::config;
use crate::schema::DurableSchema;

/// Exit code of a process whose store failed.
pub(crate) const STORE_FAILED: i32 = 70;

/// What the store's thread has done since the start.
#[derive(Debug, Default)]
pub(crate) struct WriterCounters {
    /// Group commits.
    pub(crate) commits: AtomicU64,
    /// Transactions in them.
    pub(crate) transactions: AtomicU64,
    /// Microseconds spent in commits: write, fdatasync, checkpoint.
    pub(crate) commit_micros: AtomicU64,
    /// Since when there has been no space to write, in milliseconds since 1970; 0 = there is.
    pub(crate) full_since_ms: AtomicU64,
}

/// What an operator asks of the log, answered by the store's thread.
#[derive(Debug)]
pub(crate) struct Request {
    change: Change,
    answer: oneshot::Sender<Result<(), String>>,
}

#[derive(Debug)]
enum Change {
    PurgeTo(String),
    PurgeBefore(u64),
    FlushLogs,
    /// Everything that was merged is to be durable.
    Settle,
    /// Other nodes, behind everything that was merged.
    Nodes(Box<NodeSetChange>),
}

/// Carries operators' requests from dump clients to the store's thread.
#[derive(Clone)]
pub(crate) struct LogAdmin(mpsc::Sender<Request>);

/// How many requests may wait.
const REQUESTS_MAX: usize = 16;

/// A way to ask, and what the store's thread reads.
pub(crate) fn admin() -> (LogAdmin, mpsc::Receiver<Request>) {
    let (requests, received) = mpsc::channel(REQUESTS_MAX);
    (LogAdmin(requests), received)
}

impl LogAdmin {
    /// Returns when everything is durable that was handed on before; for when no merger runs.
    pub(crate) async fn settle(&self) -> Result<(), String> {
        self.ask_later(Change::Settle).await
    }

    /// Makes another set of nodes durable, behind everything that was handed on before; for when no merger runs.
    pub(crate) async fn change_nodes(&self, change: NodeSetChange) -> Result<(), String> {
        self.ask_later(Change::Nodes(Box::new(change))).await
    }

    async fn ask_later(&self, change: Change) -> Result<(), String> {
        let gone = || "the service is stopping".to_owned();
        let (answer, answered) = oneshot::channel();
        let request = Request { change, answer };
        self.0.send(request).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    fn ask(&self, change: Change) -> Result<(), String> {
        let gone = || "the service is stopping".to_owned();
        let (answer, answered) = oneshot::channel();
        self.0
            .blocking_send(Request { change, answer })
            .map_err(|_| gone())?;
        answered.blocking_recv().map_err(|_| gone())?
    }
}

impl AdminActions for LogAdmin {
    fn purge_to(&self, file: &str) -> Result<(), String> {
        self.ask(Change::PurgeTo(file.to_owned()))
    }

    fn purge_before(&self, seconds: u64) -> Result<(), String> {
        self.ask(Change::PurgeBefore(seconds))
    }

    fn flush_logs(&self) -> Result<(), String> {
        self.ask(Change::FlushLogs)
    }
}

/// How often a write is tried again while there is no space.
const FULL_PERIOD: Duration = Duration::from_secs(1);
/// How often the thread looks whether files may go.
const RETENTION_PERIOD: Duration = Duration::from_secs(10);

/// What the thread works on.
struct Store {
    writer: LogWriter,
    retention: Retention,
    counters: Arc<WriterCounters>,
    /// What clients are told of the schema.
    schema: Arc<DurableSchema>,
    /// The service is being stopped.
    stop: CancellationToken,
    /// The merger's state that is durable.
    progress: watch::Sender<Arc<Checkpoint>>,
    /// The file that would have been purged, had nobody read it: said once.
    held: Option<BinlogFile>,
}

/// The store's thread, as the others see it. Mergers come and go; it stays.
pub(crate) struct WriterHandle {
    thread: JoinHandle<()>,
    batches: mpsc::Sender<MergedBatch>,
    progress: watch::Receiver<Arc<Checkpoint>>,
    stop: CancellationToken,
}

impl WriterHandle {
    /// Where a merger hands on what is due.
    pub(crate) fn batches(&self) -> mpsc::Sender<MergedBatch> {
        self.batches.clone()
    }

    /// The merger's state that is durable.
    pub(crate) fn progress(&self) -> watch::Receiver<Arc<Checkpoint>> {
        self.progress.clone()
    }

    /// The service stops: nothing is waited for any more but what can be written.
    pub(crate) fn stopping(&self) {
        self.stop.cancel();
    }

    /// Waits until everything is durable, when no merger runs any more.
    pub(crate) fn join(self) -> std::thread::Result<()> {
        drop(self.batches);
        self.thread.join()
    }
}

/// What the thread is told at its start.
pub(crate) struct WriterStart<'a> {
    pub(crate) writer: LogWriter,
    /// The merger's state behind the last commit.
    pub(crate) checkpoint: Checkpoint,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) config: &'a config::Store,
    pub(crate) counters: Arc<WriterCounters>,
    /// What clients are told of the schema.
    pub(crate) schema: Arc<DurableSchema>,
}

/// Starts the thread. It ends when the senders of batches are gone and everything is durable.
pub(crate) fn spawn(start: WriterStart<'_>) -> std::io::Result<WriterHandle> {
    let WriterStart {
        mut writer,
        checkpoint,
        requests,
        config,
        counters,
        schema,
    } = start;
    let (batches_in, batches) = mpsc::channel(limits::MERGED_BATCHES_MAX);
    let (progress, durable) = watch::channel(Arc::new(checkpoint));
    let stop = CancellationToken::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    writer.set_purge_in_use(config.purge_in_use);
    let retention = config.retention;
    let store = Store {
        writer,
        retention,
        counters,
        schema,
        stop: stop.clone(),
        progress,
        held: None,
    };
    let thread = std::thread::Builder::new().name("store".into()).spawn(move || {
        if let Err(error) = runtime.block_on(store.run(batches, requests)) {
            tracing::error!(%error, "the store failed; the process ends now and recovers when it is started again");
            std::process::exit(STORE_FAILED);
        }
    })?;
    Ok(WriterHandle {
        thread,
        batches: batches_in,
        progress: durable,
        stop,
    })
}

impl Change {
    /// Whether it is about everything that was handed on before.
    fn needs_all(&self) -> bool {
        matches!(self, Self::Settle | Self::Nodes(_))
    }
}

impl Store {
    async fn run(
        mut self,
        mut batches: mpsc::Receiver<MergedBatch>,
        mut requests: mpsc::Receiver<Request>,
    ) -> Result<(), WriteError> {
        let mut look = tokio::time::interval(RETENTION_PERIOD);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                batch = batches.recv() => match batch {
                    Some(batch) => {
                        let group = Group::collect(batch, &mut batches);
                        if !self.commit(group, &mut requests).await? {
                            return Ok(());
                        }
                    }
                    None => return Ok(()),
                },
                Some(request) = requests.recv() => {
                    if request.change.needs_all() && !self.drain(&mut batches, &mut requests).await? {
                        return Ok(());
                    }
                    self.answer(request)?;
                }
                _ = look.tick() => self.retain()?,
            }
        }
    }

    /// Commits what has been handed on so far. Answers false as [`Store::commit`].
    async fn drain(
        &mut self,
        batches: &mut mpsc::Receiver<MergedBatch>,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Result<bool, WriteError> {
        while let Ok(batch) = batches.try_recv() {
            let group = Group::collect(batch, batches);
            if !self.commit(group, requests).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Does what can be done while there is no space.
    fn answer_full(&mut self, request: Request) -> Result<(), WriteError> {
        if !request.change.needs_all() {
            return self.answer(request);
        }
        let full = "there is no space on the disk of store.data_dir; try again when there is";
        let _ = request.answer.send(Err(full.into()));
        Ok(())
    }

    /// Does what an operator asks. A refusal is not the store's failure.
    fn answer(&mut self, request: Request) -> Result<(), WriteError> {
        let result = self.carry_out(&request.change);
        // Whoever asked may have gone away.
        let _ = request
            .answer
            .send(result.as_ref().map(|_| ()).map_err(ToString::to_string));
        match result {
            Err(PurgeError::Write(error)) if !error.is_full() => Err(error),
            _ => Ok(()),
        }
    }

    fn carry_out(&mut self, change: &Change) -> Result<(), PurgeError> {
        let purged = match change {
            Change::PurgeTo(file) => self.writer.purge_to(file)?,
            Change::PurgeBefore(seconds) => self.writer.purge_before(*seconds)?,
            Change::FlushLogs => {
                self.writer.flush()?;
                0
            }
            Change::Settle => 0,
            Change::Nodes(change) => {
                self.writer.change_nodes((**change).clone())?;
                self.follow(&change.schema);
                if let Some(checkpoint) = &change.checkpoint {
                    self.progress.send_replace(Arc::new(checkpoint.clone()));
                }
                0
            }
        };
        if purged > 0 {
            tracing::info!(files = purged, "purged binary logs");
        }
        Ok(())
    }

    /// Purges what need not be kept.
    fn retain(&mut self) -> Result<(), WriteError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        match self.writer.retain(self.retention, now) {
            Ok(retained) => {
                if retained.purged > 0 {
                    tracing::info!(files = retained.purged, "purged expired binary logs");
                }
                if let Some(file) = retained
                    .held_by_reader
                    .as_ref()
                    .filter(|f| Some(*f) != self.held.as_ref())
                {
                    tracing::warn!(%file, "kept longer than configured: a client still reads it");
                }
                self.held = retained.held_by_reader;
                Ok(())
            }
            Err(PurgeError::Write(error)) if !error.is_full() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "binary logs could not be purged; tried again later");
                Ok(())
            }
        }
    }

    /// Makes a group durable, however long that takes: while there is no space nothing is taken from the merger, so the
    /// collectors stop reading, and operators can purge. Answers false if the service was stopped in the meantime; the
    /// nodes are asked for the group again at the next start.
    async fn commit(
        &mut self,
        mut group: Group,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Result<bool, WriteError> {
        loop {
            match self.try_commit(&mut group) {
                Ok(()) => break,
                Err(error) if error.is_full() => self.note_full(&error),
                Err(error) => return Err(error),
            }
            let again = tokio::time::sleep(FULL_PERIOD);
            tokio::select! {
                () = self.stop.cancelled() => {
                    tracing::warn!(
                        transactions = group.transactions(),
                        "stopping without space: what is not durable will be asked for again"
                    );
                    return Ok(false);
                }
                Some(request) = requests.recv() => self.answer_full(request)?,
                () = again => self.retain()?,
            }
        }
        if self.counters.full_since_ms.swap(0, Relaxed) > 0 {
            tracing::info!("there is space again: going on");
        }
        Ok(true)
    }

    /// Commits the group: at once, but for what comes before a large transaction, and behind it. What is durable is taken out of
    /// the group.
    fn try_commit(&mut self, group: &mut Group) -> Result<(), WriteError> {
        while !group.batches.is_empty() {
            let now = group.first_commit();
            let mut transactions = 0;
            for batch in group.batches.iter().take(now) {
                self.writer.append(batch)?;
                transactions += batch.txns.len() as u64;
            }
            let start = Instant::now();
            self.writer.commit()?;
            let counters = &self.counters;
            counters
                .commit_micros
                .fetch_add(start.elapsed().as_micros() as u64, Relaxed);
            counters.commits.fetch_add(1, Relaxed);
            counters.transactions.fetch_add(transactions, Relaxed);
            for batch in group.batches.iter().take(now) {
                self.follow(&batch.schema);
            }
            if let Some(last) = group.batches.drain(..now).next_back() {
                self.progress.send_replace(Arc::new(last.checkpoint));
            }
        }
        Ok(())
    }

    /// Clients are told what has become of tables.
    fn follow(&self, writes: &[Write]) {
        // What they are shown may lack something; what is stored does not.
        if let Err(error) = self.schema.follow(writes) {
            tracing::error!(%error, "the schema that clients are shown is not the newest");
        }
    }

    fn note_full(&self, error: &WriteError) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(1, |since| since.as_millis() as u64);
        let known = &self.counters.full_since_ms;
        if known.compare_exchange(0, now, Relaxed, Relaxed).is_ok() {
            tracing::error!(%error, "the nodes are not read until there is space; clients are served");
        }
    }
}

/// What is committed at once. Kept until it is durable: there may be no space for it at first.
struct Group {
    batches: Vec<MergedBatch>,
}

impl Group {
    /// `first` and whatever has arrived behind it.
    fn collect(first: MergedBatch, batches: &mut mpsc::Receiver<MergedBatch>) -> Self {
        let mut group = Self {
            batches: vec![first],
        };
        let mut bytes = group.batches.iter().map(size_of).sum::<usize>();
        while bytes < limits::GROUP_COMMIT_BYTES_MAX {
            let Ok(batch) = batches.try_recv() else { break };
            bytes += size_of(&batch);
            group.batches.push(batch);
        }
        group
    }

    /// How many batches are committed first: a large one, or all before it, which it must not hold up.
    fn first_commit(&self) -> usize {
        let large = |batch: &MergedBatch| size_of(batch) > limits::GROUP_COMMIT_BYTES_MAX;
        let before = self
            .batches
            .iter()
            .take_while(|batch| !large(batch))
            .count();
        before.max(1)
    }

    fn transactions(&self) -> u64 {
        self.batches.iter().map(|b| b.txns.len() as u64).sum()
    }
}

/// Bytes of rows in a batch, those of kept branches included.
fn size_of(batch: &MergedBatch) -> usize {
    let parts = batch.txns.iter().flat_map(|txn| &txn.parts);
    let rows: usize = parts.map(|part| part.len() as usize).sum();
    rows + batch.branches.iter().map(BranchOp::len).sum::<usize>()
}
