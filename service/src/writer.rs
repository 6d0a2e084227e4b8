//! The store's thread: group commit.
//!
//! In: [`MergedBatch`]es. Out: durable transactions, visible to dump clients. Takes whatever has arrived while the last commit
//! ran, up to a cap, and commits it at once. A failure to write ends the process: nothing may be acknowledged after it. Only for
//! space on the disk it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tributary_binlog::BinlogFile;
use tributary_dump_server::AdminActions;
use tributary_flow::{MergedBatch, limits};
use tributary_store::{LogWriter, PurgeError, Retention, WriteError};

use crate::config;

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
}

/// Carries operators' requests from dump clients to the store's thread.
pub(crate) struct LogAdmin(mpsc::Sender<Request>);

/// How many requests may wait.
const REQUESTS_MAX: usize = 16;

/// A way to ask, and what the store's thread reads.
pub(crate) fn admin() -> (LogAdmin, mpsc::Receiver<Request>) {
    let (requests, received) = mpsc::channel(REQUESTS_MAX);
    (LogAdmin(requests), received)
}

impl LogAdmin {
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
    /// The service is being stopped.
    stop: CancellationToken,
    /// The file that would have been purged, had nobody read it: said once.
    held: Option<BinlogFile>,
}

/// Starts the thread. It ends when the senders of `batches` are gone and everything is durable.
pub(crate) fn spawn(
    mut writer: LogWriter,
    batches: mpsc::Receiver<MergedBatch>,
    requests: mpsc::Receiver<Request>,
    config: &config::Store,
    stop: CancellationToken,
    counters: Arc<WriterCounters>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    writer.set_purge_in_use(config.purge_in_use);
    let retention = config.retention;
    let store = Store {
        writer,
        retention,
        counters,
        stop,
        held: None,
    };
    std::thread::Builder::new().name("store".into()).spawn(move || {
        if let Err(error) = runtime.block_on(store.run(batches, requests)) {
            tracing::error!(%error, "the store failed; the process ends now and recovers when it is started again");
            std::process::exit(STORE_FAILED);
        }
    })
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
                        if !self.commit(&group, &mut requests).await? {
                            return Ok(());
                        }
                    }
                    None => return Ok(()),
                },
                Some(request) = requests.recv() => self.answer(request)?,
                _ = look.tick() => self.retain()?,
            }
        }
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
        group: &Group,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Result<bool, WriteError> {
        loop {
            match self.try_commit(group) {
                Ok(()) => break,
                Err(error) if error.is_full() => self.note_full(&error),
                Err(error) => return Err(error),
            }
            let again = tokio::time::sleep(FULL_PERIOD);
            tokio::select! {
                () = self.stop.cancelled() => {
                    tracing::warn!(
                        transactions = group.transactions,
                        "stopping without space: what is not durable will be asked for again"
                    );
                    return Ok(false);
                }
                Some(request) = requests.recv() => self.answer(request)?,
                () = again => self.retain()?,
            }
        }
        if self.counters.full_since_ms.swap(0, Relaxed) > 0 {
            tracing::info!("there is space again: going on");
        }
        Ok(true)
    }

    fn try_commit(&mut self, group: &Group) -> Result<(), WriteError> {
        for batch in &group.batches {
            self.writer.append(batch)?;
        }
        let start = Instant::now();
        self.writer.commit()?;
        let counters = &self.counters;
        counters
            .commit_micros
            .fetch_add(start.elapsed().as_micros() as u64, Relaxed);
        counters.commits.fetch_add(1, Relaxed);
        counters.transactions.fetch_add(group.transactions, Relaxed);
        Ok(())
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
    transactions: u64,
}

impl Group {
    /// `first` and whatever has arrived behind it.
    fn collect(first: MergedBatch, batches: &mut mpsc::Receiver<MergedBatch>) -> Self {
        let mut group = Self {
            transactions: first.txns.len() as u64,
            batches: vec![first],
        };
        let mut bytes = group.batches.iter().map(size_of).sum::<usize>();
        while bytes < limits::GROUP_COMMIT_BYTES_MAX {
            let Ok(batch) = batches.try_recv() else { break };
            bytes += size_of(&batch);
            group.transactions += batch.txns.len() as u64;
            group.batches.push(batch);
        }
        group
    }
}

/// Bytes of rows in a batch.
fn size_of(batch: &MergedBatch) -> usize {
    let parts = batch.txns.iter().flat_map(|txn| &txn.parts);
    parts.map(|part| part.len() as usize).sum()
}
