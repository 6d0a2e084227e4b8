//! A consumer that applies the merged stream transaction by transaction and looks at the bank after each.
//!
//! In: the service's binlog, read by `mysql_async`'s binlog client. Out: an error at the first transaction behind which the
//! accounts do not add up, or which is not the next one.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use mysql_async::binlog::events::{EventData, RowsEventData};
use mysql_async::binlog::row::BinlogRow;
use mysql_async::binlog::value::BinlogValue;
use mysql_async::{BinlogStreamRequest, Conn, Opts, Value};

/// Column of `accounts.id` and `accounts.balance`.
const ID: usize = 0;
const BALANCE: usize = 2;

/// The accounts as the stream has made them.
#[derive(Default)]
struct Accounts {
    balances: HashMap<i64, i64>,
    sum: i64,
    next_gno: u64,
}

/// Reads the stream from its beginning until transaction `last` has been applied. Returns how many transactions that were.
pub(crate) async fn watch(
    opts: Opts,
    expected: (usize, i64),
    last: impl Fn() -> Option<u64>,
) -> Result<u64> {
    let conn = Conn::new(opts).await?;
    let request = BinlogStreamRequest::new(77_001)
        .with_gtid()
        .with_gtid_set(Vec::new());
    let mut stream = conn.get_binlog_stream(request).await?;
    let mut accounts = Accounts {
        next_gno: 1,
        ..Accounts::default()
    };
    loop {
        if last().is_some_and(|last| accounts.next_gno > last) {
            return Ok(accounts.next_gno - 1);
        }
        let next = tokio::time::timeout(Duration::from_millis(200), stream.next()).await;
        let Ok(event) = next else { continue };
        let event = event.context("the stream ended")??;
        match event.read_data()? {
            Some(EventData::GtidEvent(gtid)) => {
                ensure!(
                    gtid.gno() == accounts.next_gno,
                    "GTID {} where {} was due",
                    gtid.gno(),
                    accounts.next_gno
                );
                accounts.next_gno += 1;
            }
            Some(EventData::RowsEvent(rows)) => {
                let table = stream
                    .get_tme(rows.table_id())
                    .context("rows without a table map")?;
                if table.table_name() == "accounts" {
                    accounts.apply(&rows, table)?;
                }
            }
            Some(EventData::XidEvent(_)) => {
                let now = (accounts.balances.len(), accounts.sum);
                let gno = accounts.next_gno - 1;
                ensure!(
                    now == expected || now == (0, 0),
                    "behind transaction {gno}: {now:?}, not {expected:?}"
                );
            }
            _ => {}
        }
    }
}

impl Accounts {
    fn apply(
        &mut self,
        rows: &RowsEventData<'_>,
        table: &mysql_async::binlog::events::TableMapEvent<'_>,
    ) -> Result<()> {
        for row in rows.rows(table) {
            let (before, after) = row?;
            if let Some(before) = &before {
                let id = number(before, ID)?;
                let balance = self
                    .balances
                    .remove(&id)
                    .with_context(|| format!("account {id} is not there"))?;
                ensure!(
                    balance == number(before, BALANCE)?,
                    "account {id} had another balance before"
                );
                self.sum -= balance;
            }
            if let Some(after) = &after {
                let (id, balance) = (number(after, ID)?, number(after, BALANCE)?);
                ensure!(
                    self.balances.insert(id, balance).is_none(),
                    "account {id} is there twice"
                );
                self.sum += balance;
            }
        }
        Ok(())
    }
}

fn number(row: &BinlogRow, column: usize) -> Result<i64> {
    match row.as_ref(column) {
        Some(BinlogValue::Value(Value::Int(n))) => Ok(*n),
        Some(BinlogValue::Value(Value::UInt(n))) => Ok(i64::try_from(*n)?),
        other => bail!("column {column} is {other:?}"),
    }
}
