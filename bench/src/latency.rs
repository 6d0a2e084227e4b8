//! How long a committed transaction takes to reach a client, beside a plain mysqld.
//!
//! In: three real nodes of which two are idle, a service in each order with its data on disk and in memory, and one mysqld.
//! One distributed transaction at a time; the time from the acknowledgement of its `XA COMMIT` until the end of its events
//! at a dump client that is connected all the time. Out: percentiles, and how far above mysqld's they are.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use mysql_async::binlog::events::EventData;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStreamRequest, Conn, Opts};
use serde::Serialize;
use tokio::sync::mpsc;
use tributary_tests::cluster::{Cluster, Workplace};
use tributary_tests::mysqld::{APP_ACCOUNT, Mysqld, MysqldOptions};
use tributary_tests::service::{Service, ServiceOptions};
use tributary_tests::tso::Tso;

/// An event that takes so long is lost.
const LOST: Duration = Duration::from_secs(30);
/// Transactions before the measurement begins.
const WARM_UP: usize = 20;

/// Percentiles in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) name: String,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// p99 above that of the mysqld measured in the same run.
    pub(crate) p99_above_mysqld: Option<f64>,
}

/// Measures `count` transactions at each place; `disk` is where files that are synced go.
pub(crate) async fn run(count: usize, disk: &Path) -> Result<Vec<Latency>> {
    let on_disk = tempfile::Builder::new()
        .prefix("tributary-latency-")
        .tempdir_in(disk)?;
    let in_memory = tempfile::tempdir_in(crate::world::tmpfs())?;
    let workplace = Workplace::Lasting(on_disk.path().to_owned());
    let cluster = Cluster::start_with(3, workplace, |options| options).await?;
    let plain = Mysqld::start(MysqldOptions::node("plain", 500), on_disk.path()).await?;
    let tso = Tso::new();
    let mut figures = Vec::new();

    let mut mysqld = Source::new(&plain, plain.opts(tributary_tests::mysqld::REPL_ACCOUNT)).await?;
    let base = mysqld.measure(count, |_| None).await?;
    figures.push(latency("mysqld, fsync", &base, None));
    for (order, dir, place) in [
        ("tso", on_disk.path(), "fsync"),
        ("tso", in_memory.path(), "tmpfs"),
        ("causal", on_disk.path(), "fsync"),
        ("causal", in_memory.path(), "tmpfs"),
    ] {
        let mut options = ServiceOptions::new(order, &cluster.nodes);
        options.name = format!("{order}-{place}");
        options
            .nodes
            .iter_mut()
            .for_each(|n| n.extra = "start = \"current\"\n".into());
        let mut service = Service::start(options, dir).await?;
        let mut source = Source::new(&cluster.nodes[0], service.opts()).await?;
        let stamp = |_| (order == "tso").then(|| tso.next());
        let measured = source.measure(count, stamp).await?;
        // Again, so that both are measured at the same time of day.
        let beside = mysqld.measure(count, |_| None).await?;
        let above = Some(percentile(&beside, 99));
        figures.push(latency(
            &format!("tributary, {order}, {place}"),
            &measured,
            above,
        ));
        service.stop().await?;
    }
    Ok(figures)
}

fn latency(name: &str, sorted: &[f64], mysqld: Option<f64>) -> Latency {
    let p99 = percentile(sorted, 99);
    Latency {
        name: name.to_owned(),
        p50: percentile(sorted, 50),
        p99,
        p99_above_mysqld: mysqld.map(|theirs| p99 - theirs),
    }
}

fn percentile(sorted: &[f64], p: usize) -> f64 {
    let at = (sorted.len() * p).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(0.0)
}

/// Where transactions are committed, and a client of what shows them.
struct Source {
    conn: Conn,
    seen: mpsc::UnboundedReceiver<Instant>,
    next: u64,
}

impl Source {
    async fn new(node: &Mysqld, dump: Opts) -> Result<Self> {
        let mut conn = node.conn(APP_ACCOUNT).await?;
        conn.query_drop("CREATE DATABASE IF NOT EXISTS latency")
            .await?;
        let table = "CREATE TABLE IF NOT EXISTS latency.t (id BIGINT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(200))";
        conn.query_drop(table).await?;
        let (sender, seen) = mpsc::unbounded_channel();
        let stream = Conn::new(dump).await?;
        let request = BinlogStreamRequest::new(88_001)
            .with_gtid()
            .with_gtid_set(Vec::new());
        let mut stream = stream.get_binlog_stream(request).await?;
        tokio::spawn(async move {
            while let Some(Ok(event)) = stream.next().await {
                let ends = match event.read_data() {
                    Ok(Some(EventData::XidEvent(_))) => true,
                    Ok(Some(EventData::QueryEvent(query))) => {
                        query.query().starts_with("XA COMMIT")
                    }
                    _ => false,
                };
                if ends && sender.send(Instant::now()).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            conn,
            seen,
            next: 0,
        })
    }

    /// Milliseconds of each of `count` transactions, sorted.
    async fn measure(
        &mut self,
        count: usize,
        stamp: impl Fn(u64) -> Option<u64>,
    ) -> Result<Vec<f64>> {
        let mut out = Vec::new();
        for round in 0..count + WARM_UP {
            while self.seen.try_recv().is_ok() {}
            self.next += 1;
            let xid = format!("'latency-{}-{}'", self.conn.id(), self.next);
            let begin = format!(
                "XA START {xid}; INSERT INTO latency.t (v) VALUES (REPEAT('x', 150)); XA END {xid}; XA PREPARE {xid}"
            );
            self.conn.query_drop(begin).await?;
            if let Some(tso) = stamp(self.next) {
                let set = format!("SET SESSION original_commit_timestamp = {tso}");
                self.conn.query_drop(set).await?;
            }
            self.conn.query_drop(format!("XA COMMIT {xid}")).await?;
            let acknowledged = Instant::now();
            let seen = tokio::time::timeout(LOST, self.seen.recv()).await;
            let Ok(seen) = seen else {
                bail!("transaction {xid} never came");
            };
            let seen = seen.context("the client's stream has ended")?;
            // It may come before the acknowledgement does.
            let ms = seen.saturating_duration_since(acknowledged).as_secs_f64() * 1e3;
            if round >= WARM_UP {
                out.push(ms);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        out.sort_by(f64::total_cmp);
        Ok(out)
    }
}

/// A table.
pub(crate) fn render(figures: &[Latency]) -> String {
    let mut out = format!(
        "{:<28} {:>9} {:>9} {:>18}\n",
        "COMMIT TO CLIENT, ms", "p50", "p99", "p99 above mysqld"
    );
    for f in figures {
        let above = f.p99_above_mysqld;
        let above = above.map_or_else(|| "-".to_owned(), |ms| format!("{ms:+.2}"));
        out += &format!(
            "{:<28} {:>9.2} {:>9.2} {:>18}\n",
            f.name, f.p50, f.p99, above
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(
            (percentile(&sorted, 50), percentile(&sorted, 99)),
            (100.0, 198.0)
        );
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
