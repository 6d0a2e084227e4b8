//! Dumping: one reader pulls the merged binlog from the service, and the same files from a real mysqld, in turns.
//!
//! In: a service that has merged something. Out: [`DumpFigures`]. The reader throws everything away; both servers have
//! the files in memory; CPU time is that of the server's process.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tributary_collector::{DumpConn, NodeUrl, TlsMode};
use tributary_tests::mysqld::{Mysqld, MysqldOptions, REPL_ACCOUNT};
use tributary_tests::service::Service;

use crate::client::{self, Dumped};
use crate::figures::{Ratio, median};
use crate::proc;

const READER_ID: u32 = 9001;
const MYSQLD_ID: u32 = 9002;
/// mysqld has begun a file of its own behind the copied ones; the reader gets its head, too.
const HEAD_BYTES_MAX: u64 = 1024;

/// What one server did.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Serving {
    /// MB (10⁶ bytes) of events per second.
    pub(crate) mb_per_s: f64,
    pub(crate) mb_per_server_cpu_s: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DumpFigures {
    pub(crate) mb: f64,
    pub(crate) events: u64,
    pub(crate) rounds: usize,
    pub(crate) service: Serving,
    pub(crate) mysqld: Serving,
    pub(crate) ratios: Vec<Ratio>,
}

struct Target<'a> {
    port: u16,
    pid: u32,
    file: &'a str,
}

/// Measures `rounds` times each. `dir` takes mysqld's data and must be in memory for a fair comparison.
pub(crate) async fn run(service: &mut Service, dir: &Path, rounds: usize) -> Result<DumpFigures> {
    let mysqld = mysqld_with(&service.data_dir(), dir).await?;
    let ours = Target {
        port: service.port(),
        pid: service.process().context("the service runs")?.id(),
        file: "binlog.000001",
    };
    let theirs = Target {
        port: mysqld.port(),
        pid: mysqld.pid().context("mysqld runs")?,
        file: "binlog.000001",
    };
    let warm = [pull(&ours)?.0, pull(&theirs)?.0];
    ensure!(
        warm[0].bytes.abs_diff(warm[1].bytes) < HEAD_BYTES_MAX,
        "the servers do not send the same: {warm:?}"
    );
    let (mut service_rounds, mut mysqld_rounds) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        service_rounds.push(pull(&ours)?.1);
        mysqld_rounds.push(pull(&theirs)?.1);
    }
    let (ours, theirs) = (middle(&service_rounds), middle(&mysqld_rounds));
    Ok(DumpFigures {
        mb: warm[0].bytes as f64 / 1e6,
        events: warm[0].events,
        rounds: service_rounds.len(),
        service: ours,
        mysqld: theirs,
        ratios: vec![
            Ratio::new("dump / mysqld, MB/s", ours.mb_per_s, theirs.mb_per_s),
            Ratio::new(
                "dump / mysqld, MB per server CPU second",
                ours.mb_per_server_cpu_s,
                theirs.mb_per_server_cpu_s,
            ),
        ],
    })
}

fn pull(target: &Target<'_>) -> Result<(Dumped, Serving)> {
    let before = proc::cpu_seconds(target.pid)?;
    let dumped = client::dump(
        target.port,
        REPL_ACCOUNT.0,
        REPL_ACCOUNT.1,
        READER_ID,
        target.file,
    )?;
    let cpu = proc::cpu_seconds(target.pid)? - before;
    let mb = dumped.bytes as f64 / 1e6;
    let serving = Serving {
        mb_per_s: mb / dumped.wall.as_secs_f64(),
        mb_per_server_cpu_s: mb / cpu.max(0.01),
    };
    Ok((dumped, serving))
}

fn middle(rounds: &[Serving]) -> Serving {
    Serving {
        mb_per_s: median(rounds.iter().map(|r| r.mb_per_s)),
        mb_per_server_cpu_s: median(rounds.iter().map(|r| r.mb_per_server_cpu_s)),
    }
}

/// A mysqld whose binlog is a copy of the files in `data_dir`.
async fn mysqld_with(data_dir: &Path, dir: &Path) -> Result<Mysqld> {
    let mut mysqld = Mysqld::start(MysqldOptions::node("mysqld", MYSQLD_ID), dir).await?;
    mysqld.stop().await?;
    for entry in fs::read_dir(mysqld.datadir())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("binlog.") {
            fs::remove_file(entry.path())?;
        }
    }
    let index = fs::read_to_string(data_dir.join("binlog.index"))?;
    for name in index.lines() {
        let name = name.trim_start_matches("./");
        fs::copy(data_dir.join(name), mysqld.datadir().join(name))
            .with_context(|| format!("copy {name}"))?;
    }
    fs::write(mysqld.datadir().join("binlog.index"), index)?;
    mysqld.launch().await?;
    log_in_once(mysqld.port()).await?;
    Ok(mysqld)
}

/// The discarding client needs mysqld to have the account in its cache.
async fn log_in_once(port: u16) -> Result<()> {
    let url = NodeUrl {
        host: "127.0.0.1".to_owned(),
        port,
        user: REPL_ACCOUNT.0.to_owned(),
        password: REPL_ACCOUNT.1.to_owned(),
        tls: TlsMode::Required,
        ca: None,
    };
    DumpConn::connect(&url)
        .await
        .map(drop)
        .context("log in to mysqld")
}

impl DumpFigures {
    /// As text, for people.
    pub(crate) fn render(&self) -> String {
        let mut out = format!(
            "dump: {:.0} MB, {} events, one reader; medians of {} rounds\n",
            self.mb, self.events, self.rounds
        );
        for (name, s) in [("tributary", &self.service), ("mysqld", &self.mysqld)] {
            out += &format!(
                "  {name:<28} {:>7.0} MB/s {:>7.0} MB/server-CPU-s\n",
                s.mb_per_s, s.mb_per_server_cpu_s
            );
        }
        out + &Ratio::render_all(&self.ratios)
    }
}
