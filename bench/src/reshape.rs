//! Rows in the shape of a logical table that differs from their own: one thread, by CPU time.
//!
//! In: merged transactions. Out: for each logical table, how many MB of rows events are reshaped in a second.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tributary_binlog::{ChecksumAlg, EventReader, EventType, TableMap, table_id_of};
use tributary_flow::{Body, GlobalTxn};
use tributary_schema::{Collation, Kind, Layout, Plan, Scratch, Session, Statement};

use crate::micro::{Rate, best};
use crate::proc;

/// What the logical table is like, beside the one that `binlogs/table.rs` writes.
const SHAPES: [(&str, &str); 3] = [
    (
        "reshape: 2 more columns",
        "channel VARCHAR(9) NOT NULL DEFAULT 'web', id BIGINT UNSIGNED PRIMARY KEY, customer_id BIGINT UNSIGNED NOT NULL, \
         status ENUM('new','paid','sent','done') NOT NULL, amount DECIMAL(12,2) NOT NULL, weight INT DEFAULT 7, \
         note VARCHAR(200) NOT NULL, updated_at TIMESTAMP(6) NOT NULL",
    ),
    (
        "reshape: 3 wider columns",
        "id BIGINT UNSIGNED PRIMARY KEY, customer_id BIGINT UNSIGNED NOT NULL, \
         status ENUM('open','new','paid','sent','done') NOT NULL, amount DECIMAL(20,4) NOT NULL, \
         note VARCHAR(300) NOT NULL, updated_at TIMESTAMP(6)",
    ),
    (
        "reshape: utf8mb4 to utf16",
        "id BIGINT UNSIGNED PRIMARY KEY, customer_id BIGINT UNSIGNED NOT NULL, \
         status ENUM('new','paid','sent','done') NOT NULL, amount DECIMAL(12,2) NOT NULL, \
         note VARCHAR(200) CHARACTER SET utf16 NOT NULL, updated_at TIMESTAMP(6) NOT NULL",
    ),
];

/// Measures all shapes.
pub(crate) fn run(merged: &[GlobalTxn]) -> Result<Vec<Rate>> {
    let mut rates = Vec::new();
    for (stage, columns) in SHAPES {
        let to = layout(columns)?;
        let mut bytes = 0;
        let time = best(|| {
            let (time, done) = reshape(merged, &to)?;
            bytes = done;
            Ok(time)
        })?;
        ensure!(bytes > 0, "there are rows");
        let seconds = time.as_secs_f64();
        rates.push(Rate {
            stage,
            mb_per_s: bytes as f64 / 1e6 / seconds,
            transactions_per_s: merged.len() as f64 / seconds,
        });
    }
    Ok(rates)
}

fn layout(columns: &str) -> Result<Layout> {
    let sql = format!("CREATE TABLE orders ({columns})");
    let statement = Statement::parse(&sql, Session::in_schema("shop"));
    let Kind::CreateTable(create) = &statement.kind else {
        bail!("not a table: {sql}");
    };
    let table = create.table(Collation::DEFAULT);
    Ok(Layout::of_table(&table.context("a definition")?))
}

/// The time, and the bytes of rows events.
fn reshape(merged: &[GlobalTxn], to: &Layout) -> Result<(Duration, u64)> {
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    let mut plan: Option<Plan> = None;
    let mut bytes = 0;
    let start = proc::thread_cpu_time()?;
    for segment in merged
        .iter()
        .flat_map(|t| &t.parts)
        .flat_map(Body::segments)
    {
        let mut reader = EventReader::new(segment, ChecksumAlg::None);
        while let Some(raw) = reader.next()? {
            let event_type = raw.header.event_type;
            if event_type == EventType::TABLE_MAP {
                if plan.is_none() {
                    let from = Layout::of_event(&TableMap::parse(raw.body)?, None)?;
                    plan = Plan::new(&from, to, &[])?;
                }
            } else if let (Some(id), Some(plan)) = (table_id_of(event_type, raw.body), &plan) {
                out.clear();
                plan.rows(
                    event_type,
                    raw.body,
                    id,
                    raw.header.timestamp,
                    &mut scratch,
                    &mut out,
                )?;
                bytes += raw.body.len() as u64;
                std::hint::black_box(&out);
            }
        }
    }
    Ok((proc::thread_cpu_time()? - start, bytes))
}
