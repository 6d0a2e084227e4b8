//! Schema changes under load: in goes a clock tick, out goes one statement to every node, shard by
//! shard. Columns and tables are used by the workers only after all nodes have them, and no more
//! before the first node drops them, as an application would do it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep};

use super::Bank;
use crate::coordinator::Session;

/// Errors that say a node has carried the statement out already: column, key or table is there, or
/// is not.
const DONE_ALREADY: [u16; 6] = [1060, 1061, 1091, 1050, 1051, 1007];
/// Pause between the nodes: rows of both layouts flow for a while.
const BETWEEN_NODES: Duration = Duration::from_millis(150);
const RETRY: Duration = Duration::from_millis(200);
/// Longest wait for a node to carry out a statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(180);
/// Types of added columns, in turn.
const COLUMN_TYPES: [&str; 4] = [
    "INT NOT NULL DEFAULT 7",
    "VARCHAR(50) DEFAULT 'n/a'",
    "DECIMAL(10,2) NULL",
    "BIGINT UNSIGNED",
];

/// One schema change; the second three undo the first three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    AddColumn,
    CreateTable,
    AddIndex,
    DropColumn,
    DropTable,
    DropIndex,
}

const STEPS: [Step; 6] = [
    Step::AddColumn,
    Step::CreateTable,
    Step::AddIndex,
    Step::DropColumn,
    Step::DropTable,
    Step::DropIndex,
];

pub(super) fn column_name(number: u64) -> String {
    format!("extra_{number}")
}

pub(super) fn table_name(number: u64) -> String {
    format!("side_{number}")
}

/// Makes a schema change every `every` until `done`; one that has begun is finished.
pub(super) async fn run(bank: Arc<Bank>, every: Duration, done: Arc<AtomicBool>) -> Result<()> {
    let mut session = bank.coordinator.session();
    for (count, step) in (0_u64..).zip(STEPS.into_iter().cycle()) {
        let due = Instant::now() + every;
        while Instant::now() < due {
            if done.load(Ordering::SeqCst) {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        let round = count / STEPS.len() as u64 + 1;
        change(&bank, &mut session, step, round).await?;
        bank.stats.count_ddl();
    }
    Ok(())
}

async fn change(bank: &Bank, session: &mut Session, step: Step, round: u64) -> Result<()> {
    let (column, table) = (column_name(round), table_name(round));
    match step {
        Step::DropColumn => bank.use_extra_column(0),
        Step::DropTable => bank.use_side_table(0),
        _ => {}
    }
    let kind = COLUMN_TYPES[usize::try_from(round).unwrap_or(0) % COLUMN_TYPES.len()];
    let text = |schema: &str| match step {
        Step::AddColumn => format!("ALTER TABLE `{schema}`.wide ADD COLUMN {column} {kind}"),
        Step::DropColumn => format!("ALTER TABLE `{schema}`.wide DROP COLUMN {column}"),
        Step::CreateTable => format!(
            "CREATE TABLE `{schema}`.{table} (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, \
             account BIGINT NOT NULL, note VARCHAR(8000))"
        ),
        Step::DropTable => format!("DROP TABLE `{schema}`.{table}"),
        Step::AddIndex => {
            format!("ALTER TABLE `{schema}`.transfers ADD INDEX by_account_{round} (account)")
        }
        Step::DropIndex => {
            format!("ALTER TABLE `{schema}`.transfers DROP INDEX by_account_{round}")
        }
    };
    // Every other round carries a timestamp, as a coordinator that runs DDL would do it.
    let stamped = bank.options.stamped && round.is_multiple_of(2);
    for node in 0..bank.coordinator.node_count() {
        let statement = text(&bank.options.schema_on(node));
        until_done(bank, session, node, &statement, stamped).await?;
        sleep(BETWEEN_NODES).await;
    }
    match step {
        Step::AddColumn => bank.use_extra_column(round),
        Step::CreateTable => bank.use_side_table(round),
        _ => {}
    }
    Ok(())
}

/// Repeats the statement until the node has carried it out: locks of transactions in doubt and
/// nodes that are down are waited for.
async fn until_done(
    bank: &Bank,
    session: &mut Session,
    node: usize,
    statement: &str,
    stamp: bool,
) -> Result<()> {
    let deadline = Instant::now() + STATEMENT_TIMEOUT;
    loop {
        let stamp = if stamp {
            Some(bank.coordinator.tso().next())
        } else {
            None
        };
        let text = format!("{}{statement}", crate::coordinator::stamp_text(stamp));
        match session.execute(node, &text).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                // The timestamp of a statement that failed is still in the session.
                session.forget(node);
                if error.code.is_some_and(|code| DONE_ALREADY.contains(&code)) {
                    return Ok(());
                }
                ensure!(
                    Instant::now() < deadline,
                    "node {}: {statement}: {error}",
                    node + 1
                );
            }
        }
        sleep(RETRY).await;
    }
}
