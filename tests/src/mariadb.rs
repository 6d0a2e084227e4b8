//! One real MariaDB server as a replica: in go a release and options, out comes a handle that starts, kills, restarts and asks it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder, Row};
use tokio::time::{Instant, sleep, timeout};

use crate::process::{Lifetime, Process, Program};
use crate::tools::{free_port, repository};

const START_TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// Which MariaDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// That of this machine's own Debian: 10.11 on bookworm.
    Own,
    /// That of Debian trixie: 11.8.
    Trixie,
}

impl Release {
    /// Path of one of its programs, fetched if it is missing.
    ///
    /// # Errors
    /// When `tools/get-mariadb` fails.
    pub fn program(self, name: &str) -> Result<PathBuf> {
        let mut command = Command::new(repository().join("tools/get-mariadb"));
        if self == Self::Trixie {
            command.arg("trixie");
        }
        let output = command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "tools/get-mariadb failed");
        let root = String::from_utf8(output.stdout)?;
        Ok(Path::new(root.trim()).join("bin").join(name))
    }
}

/// A MariaDB server that replicates.
#[derive(Debug)]
pub struct Mariadb {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Mariadb {
    /// Starts a server with fresh data in `parent/<name>`.
    ///
    /// # Errors
    /// When it does not come up; the end of its log is in the message.
    pub async fn start(
        release: Release,
        name: &str,
        server_id: u32,
        args: &[&str],
        parent: &Path,
    ) -> Result<Self> {
        let dir = parent.join(name);
        fs::create_dir_all(&dir)?;
        let port = free_port()?;
        let mut all = vec![
            format!("--datadir={}", dir.join("data").display()),
            format!("--socket={}", dir.join("mariadb.sock").display()),
            format!("--pid-file={}", dir.join("mariadb.pid").display()),
            format!("--port={port}"),
            format!("--server-id={server_id}"),
        ];
        let usual = [
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--skip-slave-start",
            "--log-bin=replica",
            "--log-slave-updates",
            "--relay-log=relay",
            "--innodb-buffer-pool-size=32M",
            "--innodb-flush-log-at-trx-commit=2",
            "--log-warnings=2",
        ];
        all.extend(usual.iter().chain(args).map(|arg| (*arg).to_owned()));
        let installer = release.program("mariadb-install-db")?;
        let data = dir.clone();
        tokio::task::spawn_blocking(move || install(&installer, &data)).await??;
        let mut server = Self {
            name: name.to_owned(),
            program: release.program("mariadbd")?,
            args: all,
            dir,
            port,
            process: None,
        };
        server.launch().await?;
        Ok(server)
    }

    /// Starts the stopped or killed server again.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn launch(&mut self) -> Result<()> {
        let mut args: Vec<_> = self.args.iter().map(Into::into).collect();
        if rustix::process::geteuid().is_root() {
            args.push("--user=root".into());
        }
        self.process = Some(Process::spawn(&Program {
            name: format!("mariadbd {}", self.name),
            path: self.program.clone(),
            args,
            env: Vec::new(),
            log: self.log(),
            lifetime: Lifetime::Owned,
        })?);
        let deadline = Instant::now() + START_TIMEOUT;
        while self.row::<String>("SELECT VERSION()").await.is_err() {
            let ended = self.process.as_mut().is_none_or(|p| p.exited().is_some());
            ensure!(
                !ended && Instant::now() < deadline,
                "{} does not come up:\n{}",
                self.name,
                self.log_tail()
            );
            sleep(POLL).await;
        }
        Ok(())
    }

    /// `kill -9`.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Connection options for root.
    pub fn root_opts(&self) -> Opts {
        let builder = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .prefer_socket(false)
            .user(Some("root"));
        builder.into()
    }

    async fn root(&self) -> Result<Conn> {
        let connected = timeout(CONNECT_TIMEOUT, Conn::new(self.root_opts())).await;
        Ok(connected.context("no answer")??)
    }

    /// Runs statements (separated by `;`) as root.
    ///
    /// # Errors
    /// The server's own, with the statement.
    pub async fn sql(&self, statements: &str) -> Result<()> {
        let mut conn = self.root().await?;
        let done = conn.query_drop(statements).await;
        done.with_context(|| format!("on {}: {statements}", self.name))?;
        Ok(conn.disconnect().await?)
    }

    /// The first row of a query, asked as root.
    ///
    /// # Errors
    /// The server's own, and when there is no row.
    pub async fn row<T>(&self, query: &str) -> Result<T>
    where
        T: FromRow + Send + 'static,
    {
        let mut conn = self.root().await?;
        let first = conn.query_first(query).await;
        let first = first.with_context(|| format!("on {}: {query}", self.name))?;
        conn.disconnect().await?;
        first.with_context(|| format!("on {}: no row from {query}", self.name))
    }

    /// One column of `SHOW SLAVE STATUS`; empty when it is NULL or not there.
    ///
    /// # Errors
    /// When the server cannot be asked or is no replica.
    pub async fn status(&self, column: &str) -> Result<String> {
        let row: Row = self.row("SHOW SLAVE STATUS").await?;
        Ok(column_text(&row, column))
    }

    /// Waits until `query` gives a number other than 0, while replication is sound.
    ///
    /// # Errors
    /// When replication stops with an error or `limit` passes; the status is in the message.
    pub async fn wait_until(&self, query: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(Some(number)) = self.row::<Option<i64>>(query).await
                && number != 0
            {
                return Ok(());
            }
            self.is_sound().await?;
            if Instant::now() > deadline {
                let row: Row = self.row("SHOW SLAVE STATUS").await?;
                let io = column_text(&row, "Slave_IO_State");
                bail!("{}: not within {limit:?}: {query}; {io}", self.name);
            }
            sleep(POLL).await;
        }
    }

    /// Fails when the applier has stopped, or the receiver with an error that is not one of a lost connection.
    ///
    /// # Errors
    /// With the server's own text.
    pub async fn is_sound(&self) -> Result<()> {
        let row: Row = self.row("SHOW SLAVE STATUS").await?;
        let text = |column| column_text(&row, column);
        ensure!(
            text("Slave_SQL_Running") == "Yes" && text("Slave_IO_Running") != "No",
            "replication on {} has stopped: {} {}\n{}",
            self.name,
            text("Last_SQL_Error"),
            text("Last_IO_Error"),
            self.log_tail()
        );
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.dir.join("error.log")
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let bytes = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(15);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

fn install(installer: &Path, dir: &Path) -> Result<()> {
    let mut command = Command::new(installer);
    command
        .arg(format!("--datadir={}", dir.join("data").display()))
        .arg(format!("--tmpdir={}", dir.display()))
        .args(["--skip-test-db", "--auth-root-authentication-method=normal"]);
    if rustix::process::geteuid().is_root() {
        command.arg("--user=root");
    }
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(
        output.status.success(),
        "{}: {}",
        installer.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn column_text(row: &Row, name: &str) -> String {
    let columns = row.columns_ref();
    let index = columns.iter().position(|column| column.name_str() == name);
    match index.and_then(|index| row.as_ref(index)) {
        Some(mysql_async::Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}
