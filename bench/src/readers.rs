//! Many readers at once: fast ones by themselves and beside ones that have stopped, in turns; then connections that come and go.
//!
//! In: a service that has merged something. Out: [`ReadersFigures`]: throughput of the fast ones, memory that a stopped one costs, and
//! what connections leave behind.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tributary_tests::mysqld::REPL_ACCOUNT;
use tributary_tests::service::Service;

use crate::client::{self, Stopped};
use crate::figures::{Ratio, median};
use crate::proc;

const FILE: &str = "binlog.000001";
/// The server is at rest when it has used no CPU for so long.
const REST: Duration = Duration::from_millis(500);
const REST_TIMEOUT: Duration = Duration::from_secs(30);

/// What is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) readers: u32,
    pub(crate) rounds: usize,
    pub(crate) round: Duration,
    pub(crate) cycles: u32,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReadersFigures {
    readers: u32,
    rounds: usize,
    alone_mb_per_s: f64,
    beside_mb_per_s: f64,
    /// MB of the fast readers for each CPU second of the server.
    alone_mb_per_cpu_s: f64,
    beside_mb_per_cpu_s: f64,
    mib_per_stopped_reader: f64,
    cycles: u32,
    cycles_per_s: f64,
    descriptors_before: usize,
    descriptors_after: usize,
    mib_left_behind: f64,
    ratios: Vec<Ratio>,
}

struct Server {
    port: u16,
    pid: u32,
}

/// Measures; the service must serve one file at least.
pub(crate) fn run(service: &mut Service, plan: &Plan) -> Result<ReadersFigures> {
    let server = Server {
        port: service.port(),
        pid: service.process().context("the service runs")?.id(),
    };
    // Warm-up: buffers, threads, the page cache.
    server.fast(plan)?;
    let (mut alone, mut beside, mut cost) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..plan.rounds.max(1) {
        // In turns, and each first in every other round: what the machine does besides moves both.
        if round % 2 == 0 {
            alone.push(server.fast(plan)?);
        }
        let (figures, mib) = server.beside_stopped(plan)?;
        beside.push(figures);
        cost.push(mib);
        if round % 2 == 1 {
            alone.push(server.fast(plan)?);
        }
    }
    let (cycles_per_s, descriptors, mib_left_behind) = server.cycles(plan)?;
    let middle = |rounds: &[(f64, f64)]| {
        let mb = median(rounds.iter().map(|r| r.0));
        (mb, median(rounds.iter().map(|r| r.1)))
    };
    let (alone, beside) = (middle(&alone), middle(&beside));
    let ratio = Ratio::new("beside stopped readers / alone, MB/s", beside.0, alone.0);
    let by_cpu = Ratio::new("the same, MB per server CPU second", beside.1, alone.1);
    Ok(ReadersFigures {
        readers: plan.readers,
        rounds: plan.rounds,
        alone_mb_per_s: alone.0,
        beside_mb_per_s: beside.0,
        alone_mb_per_cpu_s: alone.1,
        beside_mb_per_cpu_s: beside.1,
        mib_per_stopped_reader: median(cost.into_iter()),
        cycles: plan.cycles,
        cycles_per_s,
        descriptors_before: descriptors.0,
        descriptors_after: descriptors.1,
        mib_left_behind,
        ratios: vec![ratio, by_cpu],
    })
}

impl Server {
    /// MB per second, and per CPU second of the server, of all fast readers, each of which reads everything again and again.
    fn fast(&self, plan: &Plan) -> Result<(f64, f64)> {
        let (bytes, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let cpu = proc::cpu_seconds(self.pid)?;
        let start = Instant::now();
        let deadline = start + plan.round;
        thread::scope(|scope| {
            let read = |n: u32| -> Result<()> {
                while Instant::now() < deadline && !stop.load(Ordering::Relaxed) {
                    let (user, password) = REPL_ACCOUNT;
                    let dumped = client::dump(self.port, user, password, 20_000 + n, FILE)?;
                    bytes.fetch_add(dumped.bytes, Ordering::Relaxed);
                }
                Ok(())
            };
            let readers: Vec<_> = (0..plan.readers)
                .map(|n| scope.spawn(move || read(n)))
                .collect();
            for reader in readers {
                let outcome = reader.join().expect("a reader does not panic");
                if outcome.is_err() {
                    stop.store(true, Ordering::Relaxed);
                    return outcome;
                }
            }
            Ok(())
        })?;
        let mb = bytes.into_inner() as f64 / 1e6;
        let cpu = proc::cpu_seconds(self.pid)? - cpu;
        Ok((mb / start.elapsed().as_secs_f64(), mb / cpu.max(0.01)))
    }

    /// The same beside as many stopped readers, and the MiB that each of those costs.
    fn beside_stopped(&self, plan: &Plan) -> Result<((f64, f64), f64)> {
        self.rest()?;
        let before = proc::rss_mib(self.pid)?;
        let (user, password) = REPL_ACCOUNT;
        let stopped = (0..plan.readers)
            .map(|n| client::stopped((self.port, user, password), 30_000 + n, FILE))
            .collect::<Result<Vec<Stopped>>>()?;
        self.rest()?;
        let cost = (proc::rss_mib(self.pid)? - before) / f64::from(plan.readers);
        let figures = self.fast(plan)?;
        drop(stopped);
        Ok((figures, cost.max(0.0)))
    }

    /// Waits until the server does nothing.
    fn rest(&self) -> Result<()> {
        let deadline = Instant::now() + REST_TIMEOUT;
        loop {
            let before = proc::cpu_seconds(self.pid)?;
            thread::sleep(REST);
            if proc::cpu_seconds(self.pid)? - before < 0.02 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the server never rests");
        }
    }

    /// Connections per second, descriptors before and after, MiB left behind.
    fn cycles(&self, plan: &Plan) -> Result<(f64, (usize, usize), f64)> {
        let (user, password) = REPL_ACCOUNT;
        let visits =
            |count: u32| (0..count).try_for_each(|_| client::visit(self.port, user, password));
        visits(plan.cycles / 5)?;
        self.rest()?;
        let (open, resident) = (proc::descriptors(self.pid)?, proc::rss_mib(self.pid)?);
        let start = Instant::now();
        visits(plan.cycles)?;
        let rate = f64::from(plan.cycles) / start.elapsed().as_secs_f64();
        self.rest()?;
        let left = proc::rss_mib(self.pid)? - resident;
        Ok((rate, (open, proc::descriptors(self.pid)?), left))
    }
}

impl ReadersFigures {
    /// As text, for people.
    pub(crate) fn render(&self) -> String {
        let mut out = format!(
            "{} fast readers at once, alone and beside as many that have stopped; medians of {} rounds\n",
            self.readers, self.rounds
        );
        for (name, mb, by_cpu) in [
            ("alone", self.alone_mb_per_s, self.alone_mb_per_cpu_s),
            (
                "beside stopped readers",
                self.beside_mb_per_s,
                self.beside_mb_per_cpu_s,
            ),
        ] {
            out += &format!("  {name:<28} {mb:>7.0} MB/s {by_cpu:>7.0} MB/server-CPU-s\n");
        }
        out += &Ratio::render_all(&self.ratios);
        out += &format!(
            "  each stopped reader costs {:.2} MiB of the server's memory\n",
            self.mib_per_stopped_reader
        );
        out + &format!(
            "{} connections that come and go: {:.0} a second; {} descriptors before, {} after; {:+.2} MiB\n",
            self.cycles,
            self.cycles_per_s,
            self.descriptors_before,
            self.descriptors_after,
            self.mib_left_behind
        )
    }
}
