//! One client's program: in go its name and options, out comes a handle that starts, kills and resumes it and applies what it prints.
//!
//! Its standard output goes to a file that a task follows; so does its standard error, for messages.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tokio::task::JoinHandle;
use tributary_tests::process::{Lifetime, Process, Program};
use tributary_tests::tools::{repository, workspace_program};

use crate::change::Change;
use crate::model::Model;

/// What clients find in their environment: times are UTC, and a panic is told in one line.
pub(crate) fn environment() -> Vec<(String, String)> {
    [("TZ", "UTC"), ("RUST_BACKTRACE", "0")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// When a client tells of heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heartbeats {
    /// When nothing else comes.
    AtRest,
    /// At times while it is connected, from what it makes of the server's.
    AtTimes,
    /// It asks for none, or does not tell of them.
    Never,
}

/// A client and how it is used.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Name in messages.
    pub(crate) name: &'static str,
    /// What `tools/get-client` calls it.
    pub(crate) program: &'static str,
    /// Which of the program's interfaces, where it has several.
    pub(crate) api: &'static str,
    /// Account and password.
    pub(crate) account: (&'static str, &'static str),
    pub(crate) server_id: u32,
    /// `gtid` or `file`, and what it is later.
    pub(crate) modes: [&'static str; 2],
    pub(crate) tls: bool,
    /// It keeps its position itself; the others are told where to go on.
    pub(crate) own_position: bool,
    /// When it tells of heartbeats.
    pub(crate) heartbeats: Heartbeats,
    /// Columns whose values it cannot give, and why.
    pub(crate) exempt: &'static [(&'static str, &'static str)],
    /// Tables it is told to leave out, and why.
    pub(crate) left_out: &'static [(&'static str, &'static str)],
    /// The only tables it is told to read, when it knows the present schema only: those that do not change. Empty: all.
    pub(crate) only: &'static [&'static str],
}

/// What clients of one test share.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// The service's port and UUID.
    pub(crate) port: u16,
    pub(crate) uuid: String,
    /// Where every client gets a directory.
    pub(crate) dir: PathBuf,
    /// What all balances add up to.
    pub(crate) sum: i64,
    /// The port of the MySQL that belongs to Maxwell; 0 when it is not there.
    pub(crate) keeper: u16,
}

/// A running (or killed) client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) spec: Spec,
    site: Site,
    dir: PathBuf,
    launcher: PathBuf,
    runs: u32,
    mode: &'static str,
    process: Option<Process>,
    follower: Option<(JoinHandle<Result<()>>, Arc<AtomicBool>)>,
    model: Arc<Mutex<Model>>,
}

impl Client {
    /// Starts the client at the beginning of the log.
    pub(crate) fn start(spec: Spec, site: &Site) -> Result<Self> {
        let dir = site.dir.join(spec.name);
        fs::create_dir_all(&dir)?;
        let mut client = Self {
            site: site.clone(),
            launcher: launcher(spec.program)?,
            dir,
            runs: 0,
            mode: spec.modes[0],
            process: None,
            follower: None,
            model: Arc::new(Mutex::new(Model::new(site.sum, spec.only))),
            spec,
        };
        client.launch()?;
        Ok(client)
    }

    /// Starts it where it was.
    pub(crate) fn launch(&mut self) -> Result<()> {
        self.runs += 1;
        let lines = self.dir.join(format!("lines.{}", self.runs));
        fs::write(&lines, "")?;
        let script = r#"exec "$0" "$1" >"$2""#;
        let args = ["-c", script].map(Into::into).into_iter();
        let rest = [
            self.launcher.clone().into_os_string(),
            self.options().into(),
            lines.clone().into_os_string(),
        ];
        self.model().restarted();
        self.process = Some(Process::spawn(&Program {
            name: self.spec.name.to_owned(),
            path: "/bin/sh".into(),
            args: args.chain(rest).collect(),
            env: environment(),
            log: self.log(),
            lifetime: Lifetime::Owned,
        })?);
        let ended = Arc::new(AtomicBool::new(false));
        let follower = follow(lines, Arc::clone(&self.model), Arc::clone(&ended));
        self.follower = Some((tokio::spawn(follower), ended));
        Ok(())
    }

    fn options(&self) -> String {
        let model = self.model();
        let (file, pos) = match &model.last.position {
            Some((file, pos)) => (file.clone(), *pos),
            None => ("binlog.000001".to_owned(), 4),
        };
        let gtid = match model.last.gno {
            0 => String::new(),
            gno => format!("{}:1-{gno}", self.site.uuid),
        };
        let leave_out: Vec<&str> = self.spec.left_out.iter().map(|(table, _)| *table).collect();
        json!({
            "api": self.spec.api, "host": "127.0.0.1", "port": self.site.port,
            "user": self.spec.account.0, "password": self.spec.account.1,
            "server_id": self.spec.server_id, "mode": self.mode, "tls": self.spec.tls,
            "state": self.dir, "start": {"file": file, "pos": pos, "gtid": gtid},
            "leave_out": leave_out, "only": self.spec.only,
            "keeper": self.site.keeper, "database": "bank",
        })
        .to_string()
    }

    /// `kill -9`; what it had printed is applied.
    pub(crate) async fn kill9(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
        self.collect().await
    }

    async fn collect(&mut self) -> Result<()> {
        let Some((follower, ended)) = self.follower.take() else {
            return Ok(());
        };
        ended.store(true, Ordering::SeqCst);
        follower.await?.with_context(|| self.spec.name.to_owned())
    }

    /// Goes on in the other of its two ways to say where it was.
    pub(crate) fn other_mode(&mut self) {
        self.mode = self.spec.modes[1];
    }

    /// A client that has ended is started again when `may_end`, for most do not connect again by themselves.
    pub(crate) async fn look_after(&mut self, may_end: bool) -> Result<()> {
        let broken = self
            .follower
            .as_ref()
            .is_some_and(|(task, _)| task.is_finished());
        let ended = self.process.as_mut().is_none_or(|p| p.exited().is_some());
        if broken || ended {
            let result = self.collect().await;
            result.with_context(|| self.log_tail())?;
            ensure!(
                may_end,
                "{} has ended:\n{}",
                self.spec.name,
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.launch()?;
        }
        Ok(())
    }

    /// What it has read.
    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The end of what it said beside its lines.
    pub(crate) fn log_tail(&self) -> String {
        let bytes = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(25);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

/// The launcher of a client's program.
pub(crate) fn launcher(program: &str) -> Result<PathBuf> {
    // One of ours.
    if program.starts_with("tributary-") {
        return workspace_program(program);
    }
    let output = Command::new(repository().join("tools/get-client"))
        .arg(program)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "tools/get-client {program} failed");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// Applies every line of `path` until the program has ended and all is read.
async fn follow(path: PathBuf, model: Arc<Mutex<Model>>, ended: Arc<AtomicBool>) -> Result<()> {
    let mut file = fs::File::open(path)?;
    let mut rest = Vec::new();
    loop {
        let last = ended.load(Ordering::SeqCst);
        file.read_to_end(&mut rest)?;
        let whole = rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        for line in rest
            .drain(..whole)
            .collect::<Vec<u8>>()
            .split(|byte| *byte == b'\n')
        {
            let line = std::str::from_utf8(line)?;
            if line.is_empty() {
                continue;
            }
            if let Some(change) = Change::parse(line)? {
                let mut model = model.lock().unwrap_or_else(PoisonError::into_inner);
                model
                    .apply(change)
                    .with_context(|| format!("line {line}"))?;
            }
        }
        if last {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until `done` holds for every client; those that end are started again when `may_end`.
pub(crate) async fn until(
    clients: &mut [Client],
    what: &str,
    limit: Duration,
    may_end: bool,
    done: impl Fn(&Client) -> bool,
) -> Result<()> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        for client in clients.iter_mut() {
            client.look_after(may_end).await?;
        }
        let late: Vec<&Client> = clients.iter().filter(|client| !done(client)).collect();
        if late.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            let texts: Vec<String> = late
                .iter()
                .map(|client| {
                    let model = client.model();
                    let (last, starts) = (&model.last, model.starts);
                    format!(
                        "{}: {last:?}, {starts} starts\n{}",
                        client.spec.name,
                        client.log_tail()
                    )
                })
                .collect();
            bail!("not within {limit:?}: {what}\n{}", texts.join("\n"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
