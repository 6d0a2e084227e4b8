//! Merging: the service reads all nodes and makes one durable binlog of them. Beside it, in the same run, MySQL's own
//! client copies the same bytes from the same servers.
//!
//! In: a [`World`]. Out: [`MergeFigures`]. Wall time is counted from the start of the service's process until the last
//! transaction is durable, so it holds what a restart costs. `mysqlbinlog --raw` copies one node after the other, and all at
//! once: it has one thread, the service several.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tributary_tests::service::Service;
use tributary_tests::tools::mysql_program;

use crate::figures::{Ratio, median};
use crate::proc;
use crate::replay::{PASSWORD, USER};
use crate::world::{Merged, World};

/// One way of reading all nodes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Reading {
    pub(crate) seconds: f64,
    /// MB (10⁶ bytes) of the nodes' binlogs per second.
    pub(crate) mb_per_s: f64,
    /// MB per CPU second of the reader.
    pub(crate) mb_per_cpu_s: f64,
    /// CPU seconds of the servers it read from.
    pub(crate) servers_cpu_s: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MergeFigures {
    pub(crate) nodes: usize,
    /// MB of the nodes' binlogs together.
    pub(crate) mb: f64,
    pub(crate) transactions: u64,
    pub(crate) rounds: usize,
    pub(crate) service: Reading,
    /// Seconds of these until the service answered: opening its store, making keys.
    pub(crate) until_ready_s: f64,
    pub(crate) transactions_per_s: f64,
    pub(crate) peak_rss_mib: f64,
    /// CPU seconds of the service in the last round, by thread name.
    pub(crate) threads: BTreeMap<String, f64>,
    /// `mysqlbinlog --raw`, one node after the other.
    pub(crate) raw: Option<Reading>,
    /// `mysqlbinlog --raw`, one process for each node at once.
    pub(crate) raw_at_once: Option<Reading>,
    pub(crate) ratios: Vec<Ratio>,
}

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) rounds: usize,
    /// Without mysqlbinlog beside it: no ratios, but quick.
    pub(crate) alone: bool,
}

/// What the rounds gave.
#[derive(Default)]
struct Rounds {
    service: Vec<Reading>,
    until_ready_s: Vec<f64>,
    raw: Vec<Reading>,
    raw_at_once: Vec<Reading>,
    peak_rss_mib: f64,
    threads: BTreeMap<String, f64>,
}

/// Measures in turns with mysqlbinlog. The last service is still running.
pub(crate) async fn run(world: &mut World, options: Options) -> Result<(MergeFigures, Service)> {
    let mut rounds = Rounds::default();
    let mut running: Option<Service> = None;
    for _ in 0..options.rounds.max(1) {
        if let Some(mut service) = running.take() {
            service.stop().await?;
            fs::remove_dir_all(service.data_dir())?;
        }
        let (service, merged) = world.merge().await?;
        verify(&service).await?;
        rounds.service.push(reading(world, &merged));
        rounds.until_ready_s.push(merged.until_ready.as_secs_f64());
        rounds.peak_rss_mib = rounds.peak_rss_mib.max(merged.peak_rss_mib);
        rounds.threads = merged.threads;
        if !options.alone {
            rounds.raw.push(one_after_the_other(world)?);
            rounds.raw_at_once.push(all_at_once(world)?);
        }
        running = Some(service);
    }
    let service = running.context("at least one round")?;
    Ok((figures(world, rounds), service))
}

fn figures(world: &World, rounds: Rounds) -> MergeFigures {
    let service = middle(&rounds.service);
    let (raw, raw_at_once) = (middle(&rounds.raw), middle(&rounds.raw_at_once));
    let beside = !rounds.raw.is_empty();
    let speed = |name, theirs: Reading| Ratio::new(name, service.mb_per_s, theirs.mb_per_s);
    let ratios = vec![
        speed("merge / mysqlbinlog --raw, MB/s", raw),
        speed("merge / mysqlbinlog --raw all at once, MB/s", raw_at_once),
        Ratio::new(
            "merge / mysqlbinlog --raw, MB per CPU second",
            service.mb_per_cpu_s,
            raw.mb_per_cpu_s,
        ),
    ];
    let transactions = world.generated.totals.merged;
    MergeFigures {
        nodes: world.generated.bytes.len(),
        mb: world.bytes() as f64 / 1e6,
        transactions,
        rounds: rounds.service.len(),
        transactions_per_s: transactions as f64 / service.seconds,
        service,
        until_ready_s: median(rounds.until_ready_s.iter().copied()),
        peak_rss_mib: rounds.peak_rss_mib,
        threads: rounds.threads,
        raw: beside.then_some(raw),
        raw_at_once: beside.then_some(raw_at_once),
        ratios: if beside { ratios } else { Vec::new() },
    }
}

/// The medians of all figures.
fn middle(readings: &[Reading]) -> Reading {
    let of = |figure: fn(&Reading) -> f64| median(readings.iter().map(figure));
    Reading {
        seconds: of(|r| r.seconds),
        mb_per_s: of(|r| r.mb_per_s),
        mb_per_cpu_s: of(|r| r.mb_per_cpu_s),
        servers_cpu_s: of(|r| r.servers_cpu_s),
    }
}

fn reading(world: &World, merged: &Merged) -> Reading {
    rates(
        world,
        merged.wall,
        merged.service_cpu_seconds,
        merged.replay_cpu_seconds,
    )
}

fn rates(world: &World, wall: Duration, cpu_seconds: f64, servers_cpu_s: f64) -> Reading {
    let mb = world.bytes() as f64 / 1e6;
    let seconds = wall.as_secs_f64();
    Reading {
        seconds,
        mb_per_s: mb / seconds,
        mb_per_cpu_s: mb / cpu_seconds.max(0.01),
        servers_cpu_s,
    }
}

/// Every checksum, position and GTID of what was written.
async fn verify(service: &Service) -> Result<()> {
    let dir = service.data_dir();
    let output = service
        .command(&["verify".as_ref(), dir.as_os_str()])
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "tributary verify {}: {text}",
        dir.display()
    );
    Ok(())
}

fn one_after_the_other(world: &World) -> Result<Reading> {
    let before = world.replay_cpu_seconds()?;
    let (mut wall, mut cpu) = (Duration::ZERO, 0.0);
    for (port, bytes) in world.ports().zip(&world.generated.bytes) {
        let dir = tempfile::tempdir_in(world.dir())?;
        let took = proc::run(&mut mysqlbinlog(port, dir.path())?)?;
        (wall, cpu) = (wall + took.wall, cpu + took.cpu_seconds);
        check_copy(dir.path(), *bytes)?;
    }
    Ok(rates(
        world,
        wall,
        cpu,
        world.replay_cpu_seconds()? - before,
    ))
}

fn all_at_once(world: &World) -> Result<Reading> {
    let before = world.replay_cpu_seconds()?;
    let dirs = world
        .ports()
        .map(|_| tempfile::tempdir_in(world.dir()))
        .collect::<Result<Vec<_>, _>>()?;
    let mut commands = Vec::new();
    for (port, dir) in world.ports().zip(&dirs) {
        commands.push(mysqlbinlog(port, dir.path())?);
    }
    let (cpu_before, start) = (proc::ended_children_cpu_seconds()?, Instant::now());
    let children: Vec<_> = commands
        .iter_mut()
        .map(Command::spawn)
        .collect::<Result<_, _>>()?;
    for child in children {
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "mysqlbinlog: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let (wall, cpu) = (
        start.elapsed(),
        proc::ended_children_cpu_seconds()? - cpu_before,
    );
    for (dir, bytes) in dirs.iter().zip(&world.generated.bytes) {
        check_copy(dir.path(), *bytes)?;
    }
    Ok(rates(
        world,
        wall,
        cpu,
        world.replay_cpu_seconds()? - before,
    ))
}

fn mysqlbinlog(port: u16, dir: &Path) -> Result<Command> {
    let mut command = Command::new(mysql_program("mysqlbinlog")?);
    command
        .args([
            "--no-defaults",
            "--read-from-remote-server",
            "--host=127.0.0.1",
            "--protocol=TCP",
            "--ssl-mode=DISABLED",
        ])
        .args([
            "--raw",
            "--to-last-log",
            &format!("--port={port}"),
            &format!("--user={USER}"),
        ])
        .arg(format!("--result-file={}/", dir.display()))
        .arg("binlog.000001")
        .env("MYSQL_PWD", PASSWORD);
    Ok(command)
}

/// The copy must be as long as what was copied.
fn check_copy(dir: &Path, bytes: u64) -> Result<()> {
    let mut copied = 0;
    for entry in fs::read_dir(dir)? {
        copied += entry?.metadata()?.len();
    }
    ensure!(
        copied == bytes,
        "mysqlbinlog copied {copied} of {bytes} bytes"
    );
    Ok(())
}

impl MergeFigures {
    /// As text, for people.
    pub(crate) fn render(&self) -> String {
        let mut out = format!(
            "merge: {} nodes, {:.0} MB, {} transactions; medians of {} rounds\n",
            self.nodes, self.mb, self.transactions, self.rounds
        );
        let lines = [
            ("tributary", Some(&self.service)),
            ("mysqlbinlog --raw", self.raw.as_ref()),
            ("mysqlbinlog --raw, at once", self.raw_at_once.as_ref()),
        ];
        for (name, r) in lines {
            out += &r.map_or_else(String::new, |r| {
                format!(
                    "  {name:<28} {:>7.2} s {:>7.0} MB/s {:>7.0} MB/CPU-s, servers {:.2} CPU-s\n",
                    r.seconds, r.mb_per_s, r.mb_per_cpu_s, r.servers_cpu_s
                )
            });
        }
        out += &format!(
            "  {:.0} transactions/s, ready after {:.2} s, peak RSS {:.0} MiB, verified; CPU-s by thread:",
            self.transactions_per_s, self.until_ready_s, self.peak_rss_mib
        );
        for (name, seconds) in self.threads.iter().filter(|(_, s)| **s >= 0.01) {
            out += &format!(" {name} {seconds:.2}");
        }
        out.push('\n');
        out + &Ratio::render_all(&self.ratios)
    }
}
