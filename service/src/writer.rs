//! The store's thread: group commit.
//!
//! In: [`MergedBatch`]es. Out: durable transactions, visible to dump clients. Takes whatever has arrived while the last commit
//! ran, up to a cap, and commits it at once. A failure to write ends the process: nothing may be acknowledged after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use tributary_dump_server::AdminActions;
use tributary_flow::{MergedBatch, limits};
use tributary_store::{LogWriter, PurgeError, WriteError};

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

/// Starts the thread. It ends when the senders of `batches` are gone and everything is durable.
pub(crate) fn spawn(
    writer: LogWriter,
    batches: mpsc::Receiver<MergedBatch>,
    requests: mpsc::Receiver<Request>,
    counters: Arc<WriterCounters>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    std::thread::Builder::new().name("store".into()).spawn(move || {
        if let Err(error) = runtime.block_on(run(writer, batches, requests, &counters)) {
            tracing::error!(%error, "the store failed; the process ends now and recovers when it is started again");
            std::process::exit(STORE_FAILED);
        }
    })
}

async fn run(
    mut writer: LogWriter,
    mut batches: mpsc::Receiver<MergedBatch>,
    mut requests: mpsc::Receiver<Request>,
    counters: &WriterCounters,
) -> Result<(), WriteError> {
    loop {
        tokio::select! {
            batch = batches.recv() => match batch {
                Some(batch) => group_commit(&mut writer, batch, &mut batches, counters)?,
                None => return Ok(()),
            },
            Some(request) = requests.recv() => {
                let result = carry_out(&mut writer, &request.change);
                // Whoever asked may have gone away.
                let _ = request.answer.send(result.as_ref().map(|_| ()).map_err(ToString::to_string));
                if let Err(PurgeError::Write(error)) = result {
                    return Err(error);
                }
            }
        }
    }
}

fn carry_out(writer: &mut LogWriter, change: &Change) -> Result<(), PurgeError> {
    let purged = match change {
        Change::PurgeTo(file) => writer.purge_to(file)?,
        Change::PurgeBefore(seconds) => writer.purge_before(*seconds)?,
        Change::FlushLogs => {
            writer.flush()?;
            0
        }
    };
    if purged > 0 {
        tracing::info!(files = purged, "purged binary logs");
    }
    Ok(())
}

/// Commits `batch` and whatever has arrived behind it.
fn group_commit(
    writer: &mut LogWriter,
    batch: MergedBatch,
    batches: &mut mpsc::Receiver<MergedBatch>,
    counters: &WriterCounters,
) -> Result<(), WriteError> {
    let mut transactions = batch.txns.len();
    writer.append(&batch)?;
    drop(batch);
    while writer.pending_bytes() < limits::GROUP_COMMIT_BYTES_MAX {
        let Ok(batch) = batches.try_recv() else { break };
        transactions += batch.txns.len();
        writer.append(&batch)?;
    }
    let start = std::time::Instant::now();
    writer.commit()?;
    counters
        .commit_micros
        .fetch_add(start.elapsed().as_micros() as u64, Relaxed);
    counters.commits.fetch_add(1, Relaxed);
    counters
        .transactions
        .fetch_add(transactions as u64, Relaxed);
    Ok(())
}
