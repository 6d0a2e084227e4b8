//! The `tributary` binary: in go options, out comes a handle that writes its configuration, starts,
//! kills and restarts it, and reads its status.

mod config;
mod http;
mod status;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mysql_async::{Opts, OptsBuilder};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

pub use config::{NodeEntry, ServiceOptions, UserEntry};
pub use http::get;
pub use status::Status;

use crate::mysqld::{REPL_ACCOUNT, ReplicationSource};
use crate::process::{Process, Program};
use crate::tools::{free_port, workspace_program};

const READY_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A Tributary service.
#[derive(Debug)]
pub struct Service {
    options: ServiceOptions,
    dir: PathBuf,
    port: u16,
    admin_port: u16,
    process: Option<Process>,
}

impl Service {
    /// Writes the configuration into `parent/<name>`, starts the service and waits until it is
    /// ready.
    ///
    /// # Errors
    /// When the binary is missing or does not get ready; the end of its log is in the message.
    pub async fn start(options: ServiceOptions, parent: &Path) -> Result<Self> {
        let mut service = Self::configure(options, parent)?;
        service.launch().await?;
        Ok(service)
    }

    /// Writes the configuration without starting the service.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn configure(options: ServiceOptions, parent: &Path) -> Result<Self> {
        let dir = parent.join(&options.name);
        fs::create_dir_all(&dir)?;
        let port = options.port.map_or_else(free_port, Ok)?;
        let admin_port = options.admin_port.map_or_else(free_port, Ok)?;
        let service = Self {
            options,
            dir,
            port,
            admin_port,
            process: None,
        };
        service.write_config()?;
        Ok(service)
    }

    fn write_config(&self) -> Result<()> {
        let text = self.options.toml(self.port, self.admin_port);
        Ok(fs::write(self.config_path(), text)?)
    }

    /// Starts the stopped or killed service again, with the options as they are now, and waits
    /// until it is ready.
    ///
    /// # Errors
    /// When it runs already or does not get ready.
    pub async fn launch(&mut self) -> Result<()> {
        self.launch_unready()?;
        self.wait_ready(READY_TIMEOUT).await
    }

    /// As [`Service::launch`] without waiting.
    ///
    /// # Errors
    /// When it runs already or cannot be started.
    pub fn launch_unready(&mut self) -> Result<()> {
        ensure!(!self.is_running(), "{} runs already", self.options.name);
        self.write_config()?;
        let config = self.config_path().into_os_string();
        let mut path = workspace_program("tributary")?;
        let mut args = vec!["serve".into(), "--config".into(), config];
        if let Some(limit) = self.options.open_files {
            let program = std::mem::replace(&mut path, "prlimit".into());
            args.insert(0, program.into_os_string());
            args.insert(0, format!("--nofile={limit}:{limit}").into());
        }
        self.process = Some(Process::spawn(&Program {
            name: self.options.name.clone(),
            path,
            args,
            env: self.options.environment(),
            log: self.log_path(),
            lifetime: self.options.lifetime,
        })?);
        Ok(())
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// When it ends before, or does not within `timeout`.
    pub async fn wait_ready(&mut self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            if matches!(get(self.admin_port, "/readyz").await, Ok((200, _))) {
                return Ok(());
            }
            if !self.is_running() || Instant::now() > deadline {
                bail!(
                    "{} does not get ready; its log ends with\n{}",
                    self.name(),
                    self.log_tail()
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| process.exited().is_none())
    }

    /// The process, while there is one.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// `kill -9`.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// SIGTERM, and waits for an orderly end.
    ///
    /// # Errors
    /// When it does not end within a minute, or not with exit code 0.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            let status = process.terminate(STOP_TIMEOUT).await?;
            ensure!(
                status.success(),
                "{} ended with {status}\n{}",
                self.name(),
                self.log_tail()
            );
        }
        Ok(())
    }

    /// Orderly end and start.
    ///
    /// # Errors
    /// As [`Service::stop`] and [`Service::launch`].
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.launch().await
    }

    /// Writes the options as they are now into the configuration, and has the running service read it again (SIGHUP).
    ///
    /// # Errors
    /// When it does not run, or the file cannot be written.
    pub fn reload(&mut self) -> Result<()> {
        self.write_config()?;
        let process = self.process.as_mut().context("it does not run")?;
        process.signal(Signal::HUP);
        Ok(())
    }

    /// What `/status` says.
    ///
    /// # Errors
    /// When the service does not answer.
    pub async fn status(&self) -> Result<Status> {
        let (code, body) = get(self.admin_port, "/status").await?;
        ensure!(code == 200, "/status answers {code}: {body}");
        Ok(Status(
            serde_json::from_str(&body).context("/status is no JSON")?,
        ))
    }

    /// Asks `/status` until `done` says yes.
    ///
    /// # Errors
    /// When it does not within `timeout`; the last status is in the message.
    pub async fn wait_status(
        &self,
        what: &str,
        timeout: Duration,
        done: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.status().await;
            if let Ok(status) = &status
                && done(status)
            {
                return Ok(status.clone());
            }
            if Instant::now() > deadline {
                bail!(
                    "not within {timeout:?}: {what}; {status:?}\n{}",
                    self.log_tail()
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs another command of the binary, such as `["verify", dir]`, with the service's
    /// environment.
    ///
    /// # Errors
    /// When the binary is missing. A command that fails is no error.
    pub async fn command<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Result<Output> {
        let output = tokio::process::Command::new(workspace_program("tributary")?)
            .args(args)
            .envs(self.options.environment())
            .stdin(Stdio::null())
            .output();
        Ok(output.await?)
    }

    /// Name given in the options.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// The options; a change holds from the next [`Service::launch`] on.
    pub fn options_mut(&mut self) -> &mut ServiceOptions {
        &mut self.options
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Port for MySQL clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Port of the admin interface.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("tributary.toml")
    }

    /// The data directory: binlogs are there.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The log: standard output and error of all runs.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("tributary.log")
    }

    /// The last lines of the log.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(20)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// Where a replica reads from.
    pub fn source(&self) -> ReplicationSource {
        ReplicationSource::local(self.port)
    }

    /// Connection options for a client.
    pub fn opts(&self) -> Opts {
        let builder = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .prefer_socket(false)
            .user(Some(REPL_ACCOUNT.0))
            .pass(Some(REPL_ACCOUNT.1));
        builder.into()
    }
}
