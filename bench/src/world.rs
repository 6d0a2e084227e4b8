//! What a benchmark needs around it: generated data in memory, replay servers, the service.
//!
//! In: a [`Plan`]. Out: running processes that end with the [`World`].

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tributary_tests::process::{Lifetime, Process, Program};
use tributary_tests::service::{NodeEntry, Service, ServiceOptions};
use tributary_tests::tools::free_port;

use crate::binlogs::{self, FIRST_SERVER_ID, Generated, Plan, node_name};
use crate::proc;
use crate::replay::{PASSWORD, USER};

const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Merging that stands still for so long has failed.
const STUCK: Duration = Duration::from_secs(30);
/// How often the service is asked how far it is.
const POLL: Duration = Duration::from_millis(5);

/// A directory in memory, if there is one.
pub(crate) fn tmpfs() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() {
        shm
    } else {
        std::env::temp_dir()
    }
}

/// Generated binlogs and a server for each node.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) generated: Generated,
    replays: Vec<Replay>,
    services: u32,
}

struct Replay {
    process: Process,
    port: u16,
}

/// What a merge took.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    pub(crate) wall: Duration,
    /// From the start of the process until it answered.
    pub(crate) until_ready: Duration,
    pub(crate) service_cpu_seconds: f64,
    pub(crate) replay_cpu_seconds: f64,
    pub(crate) peak_rss_mib: f64,
    /// CPU seconds of the service, by thread name.
    pub(crate) threads: BTreeMap<String, f64>,
}

impl World {
    /// Generates the binlogs and starts the servers.
    pub(crate) fn start(plan: &Plan) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("tributary-bench-")
            .tempdir_in(tmpfs())?;
        let generated = binlogs::generate_all(plan, dir.path())?;
        let replays = (0..plan.nodes)
            .map(|node| replay(dir.path(), node))
            .collect::<Result<_>>()?;
        let mut world = Self {
            dir,
            generated,
            replays,
            services: 0,
        };
        world.wait_for_replays()?;
        Ok(world)
    }

    /// Bytes of all nodes' binlogs.
    pub(crate) fn bytes(&self) -> u64 {
        self.generated.bytes.iter().sum()
    }

    /// A directory of this world.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The ports of the replay servers.
    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> {
        self.replays.iter().map(|r| r.port)
    }

    fn wait_for_replays(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        for replay in &mut self.replays {
            while TcpStream::connect(("127.0.0.1", replay.port)).is_err() {
                let log = || {
                    std::fs::read_to_string(self.dir.path().join("replay.log")).unwrap_or_default()
                };
                ensure!(
                    replay.process.exited().is_none(),
                    "a replay server ended:\n{}",
                    log()
                );
                ensure!(
                    Instant::now() < deadline,
                    "a replay server does not start:\n{}",
                    log()
                );
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// CPU seconds of all replay servers.
    pub(crate) fn replay_cpu_seconds(&self) -> Result<f64> {
        self.replays
            .iter()
            .map(|r| proc::cpu_seconds(r.process.id()))
            .sum()
    }

    /// A service that has merged everything and made it durable; and what that took, counted from the start of its process.
    pub(crate) async fn merge(&mut self) -> Result<(Service, Merged)> {
        self.services += 1;
        let mut options = ServiceOptions::new("tso", []);
        options.name = format!("service-{}", self.services);
        options.nodes = (0..)
            .zip(self.ports())
            .map(|(node, port)| entry(node, port))
            .collect();
        let mut service = Service::configure(options, self.dir.path())?;
        let replay_before = self.replay_cpu_seconds()?;
        let start = Instant::now();
        service.launch_unready()?;
        let ready = self.wait_until_merged(&mut service).await?;
        let wall = start.elapsed();
        let pid = service.process().context("the service runs")?.id();
        let merged = Merged {
            wall,
            until_ready: ready - start,
            service_cpu_seconds: proc::cpu_seconds(pid)?,
            replay_cpu_seconds: self.replay_cpu_seconds()? - replay_before,
            peak_rss_mib: proc::peak_rss_mib(pid)?,
            threads: proc::cpu_seconds_by_thread(pid)?,
        };
        Ok((service, merged))
    }

    /// Waits until everything is durable; when the service first answered.
    async fn wait_until_merged(&self, service: &mut Service) -> Result<Instant> {
        let expected = self.generated.totals.merged;
        let (mut last, mut changed) = (0, Instant::now());
        let mut ready = None;
        loop {
            let status = service.status().await;
            if !service.is_running() || changed.elapsed() > STUCK {
                bail!(
                    "{last} of {expected} transactions are durable; {status:?}\n{}",
                    service.log_tail()
                );
            }
            if let Ok(status) = status {
                let ready = *ready.get_or_insert_with(Instant::now);
                let done = last_number(&status.gtid_executed());
                if done != last {
                    (last, changed) = (done, Instant::now());
                }
                ensure!(status.state() == "running", "{}", status.state());
                ensure!(
                    done <= expected,
                    "{done} transactions are durable, {expected} were expected"
                );
                if done == expected {
                    return Ok(ready);
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// `5` of `uuid:1-5`; 0 of anything else.
fn last_number(gtids: &str) -> u64 {
    let number = gtids.rsplit([':', '-']).next().unwrap_or_default();
    number.parse().unwrap_or(0)
}

fn replay(dir: &Path, node: usize) -> Result<Replay> {
    let port = free_port()?;
    let server_id = FIRST_SERVER_ID + node as u32;
    let process = Process::spawn(&Program {
        name: format!("replay of {}", node_name(node)),
        path: std::env::current_exe()?,
        args: vec![
            "replay".into(),
            dir.join(node_name(node)).into_os_string(),
            format!("--port={port}").into(),
            format!("--server-id={server_id}").into(),
        ],
        env: Vec::new(),
        log: dir.join("replay.log"),
        lifetime: Lifetime::Owned,
    })?;
    Ok(Replay { process, port })
}

fn entry(node: usize, port: u16) -> NodeEntry {
    NodeEntry {
        name: node_name(node),
        urls: vec![format!("mysql://{USER}@127.0.0.1:{port}")],
        password: PASSWORD.to_owned(),
        extra: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_of_a_set() {
        assert_eq!(last_number("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-57"), 57);
        assert_eq!(last_number("3e11fa47-71ca-11e1-9e33-c80aa9429562:1"), 1);
        assert_eq!(last_number(""), 0);
    }
}
