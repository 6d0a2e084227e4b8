//! The store's thread: group commit.
//!
//! In: [`MergedBatch`]es. Out: durable transactions, visible to dump clients. Takes whatever has arrived while the last commit
//! ran, up to a cap, and commits it at once. A failure to write ends the process: nothing may be acknowledged after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tributary_flow::{MergedBatch, limits};
use tributary_store::{LogWriter, WriteError};

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

/// Starts the thread. It ends when the senders of `batches` are gone and everything is durable.
pub(crate) fn spawn(
    writer: LogWriter,
    batches: mpsc::Receiver<MergedBatch>,
    counters: Arc<WriterCounters>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("store".into()).spawn(move || {
        if let Err(error) = run(writer, batches, &counters) {
            tracing::error!(%error, "the store failed; the process ends now and recovers when it is started again");
            std::process::exit(STORE_FAILED);
        }
    })
}

fn run(
    mut writer: LogWriter,
    mut batches: mpsc::Receiver<MergedBatch>,
    counters: &WriterCounters,
) -> Result<(), WriteError> {
    while let Some(batch) = batches.blocking_recv() {
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
        counters.commit_micros.fetch_add(start.elapsed().as_micros() as u64, Relaxed);
        counters.commits.fetch_add(1, Relaxed);
        counters.transactions.fetch_add(transactions as u64, Relaxed);
    }
    Ok(())
}
