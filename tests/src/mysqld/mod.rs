//! One real MySQL server: in go options, out comes a handle that starts, kills, restarts and asks it.
//!
//! It listens on 127.0.0.1 and on a socket of its own, keeps its data below the directory it is
//! given, and dies with its handle.

mod flags;
mod replica;
mod template;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

pub use flags::{NODE_FLAGS, REPLICA_FLAGS};
pub use replica::{ReplicaStatus, ReplicationSource};

use crate::process::{Lifetime, Process, Program};
use crate::tools::{free_port, mysql_program};

/// Account of the service and of replicas, and its password.
pub const REPL_ACCOUNT: (&str, &str) = ("repl", "repl-demo");
/// Account of the workload, and its password.
pub const APP_ACCOUNT: (&str, &str) = ("app", "app-demo");

/// Names of databases and tables are kept in lower case and found in any.
const FOLDING: &str = "--lower-case-table-names=1";
const START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct MysqldOptions {
    /// Node name, also the name of its directory.
    pub name: String,
    /// `server_id`, not 0.
    pub server_id: u32,
    /// Whether [`NODE_FLAGS`] apply. Without them the server runs with MySQL's defaults.
    pub node_flags: bool,
    /// Whether [`REPLICA_FLAGS`] apply.
    pub replica_flags: bool,
    /// Further options; a later one overrides an earlier one.
    pub extra_args: Vec<String>,
    /// TCP port; free one when `None`.
    pub port: Option<u16>,
    /// Whether it can be made to outlive this process.
    pub lifetime: Lifetime,
}

impl MysqldOptions {
    /// A node: GTIDs, row images and metadata as Tributary needs them.
    pub fn node(name: &str, server_id: u32) -> Self {
        Self {
            name: name.to_owned(),
            server_id,
            node_flags: true,
            replica_flags: false,
            extra_args: Vec::new(),
            port: None,
            lifetime: Lifetime::Owned,
        }
    }

    /// A server to replicate from Tributary (or from another server).
    pub fn replica(name: &str, server_id: u32) -> Self {
        Self {
            replica_flags: true,
            ..Self::node(name, server_id)
        }
    }

    /// Adds one option, such as `--binlog-checksum=NONE`.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.extra_args.push(arg.to_owned());
        self
    }

    /// Makes it keep names of databases and tables in lower case, and find them in any.
    #[must_use]
    pub fn folding_names(self) -> Self {
        self.arg(FOLDING)
    }

    fn arguments(&self, dir: &Path, port: u16) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["--no-defaults".into()];
        args.extend(user_argument().map(OsString::from));
        for (option, file) in [
            ("--datadir=", "data"),
            ("--socket=", "mysql.sock"),
            ("--pid-file=", "mysqld.pid"),
            ("--log-error=", "error.log"),
        ] {
            let mut arg = OsString::from(option);
            arg.push(dir.join(file));
            args.push(arg);
        }
        args.push(format!("--port={port}").into());
        args.push(format!("--server-id={}", self.server_id).into());
        args.extend(flags::SMALL_FLAGS.iter().map(OsString::from));
        if self.node_flags {
            args.extend(flags::NODE_FLAGS.iter().map(OsString::from));
        }
        if self.replica_flags {
            let flags = flags::REPLICA_FLAGS.iter().chain(flags::LAZY_FLAGS);
            args.extend(flags.map(OsString::from));
        }
        args.extend(self.extra_args.iter().map(OsString::from));
        args
    }
}

/// mysqld refuses to run as root unless told so.
fn user_argument() -> Option<&'static str> {
    rustix::process::geteuid()
        .is_root()
        .then_some("--user=root")
}

/// A MySQL server of the testbed.
#[derive(Debug)]
pub struct Mysqld {
    options: MysqldOptions,
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Mysqld {
    /// Starts a server with fresh data in `parent/<name>` and waits until it answers.
    ///
    /// # Errors
    /// When there is no MySQL, the directory exists already, or the server does not come up; the
    /// end of its error log is in the message.
    pub async fn start(options: MysqldOptions, parent: &Path) -> Result<Self> {
        let dir = parent.join(&options.name);
        fs::create_dir_all(&dir)?;
        let datadir = dir.join("data");
        ensure!(!datadir.exists(), "{} exists already", datadir.display());
        // Copying is done off the async threads: it takes a second for the first server.
        let folding = options.extra_args.iter().any(|arg| arg == FOLDING);
        tokio::task::spawn_blocking(move || template::copy_to(&datadir, folding)).await??;
        let port = options.port.map_or_else(free_port, Ok)?;
        let mut server = Self {
            options,
            dir,
            port,
            process: None,
        };
        server.launch().await?;
        Ok(server)
    }

    /// Starts the stopped or killed server again, with the same data and port.
    ///
    /// # Errors
    /// When it runs already or does not come up.
    pub async fn launch(&mut self) -> Result<()> {
        ensure!(!self.is_running(), "{} runs already", self.options.name);
        let process = Process::spawn(&Program {
            name: format!("mysqld {}", self.options.name),
            path: mysql_program("mysqld")?,
            args: self.options.arguments(&self.dir, self.port),
            env: Vec::new(),
            log: self.dir.join("output.log"),
            lifetime: self.options.lifetime,
        })?;
        self.process = Some(process);
        self.wait_ready().await
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let connected = timeout(CONNECT_TIMEOUT, Conn::new(self.root_opts())).await;
            if let Ok(Ok(mut conn)) = connected
                && conn.query_drop("SELECT 1").await.is_ok()
            {
                conn.disconnect().await?;
                return Ok(());
            }
            if !self.is_running() || Instant::now() > deadline {
                let name = &self.options.name;
                bail!(
                    "{name} does not come up; its error log ends with\n{}",
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

    /// `kill -9`.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// Orderly shutdown.
    ///
    /// # Errors
    /// When it does not end within a minute.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.terminate(STOP_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Orderly shutdown and start.
    ///
    /// # Errors
    /// As [`Mysqld::stop`] and [`Mysqld::launch`].
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.launch().await
    }

    /// Stops the process from running (SIGSTOP), as a hung machine would look.
    pub fn freeze(&mut self) {
        if let Some(process) = &mut self.process {
            process.signal(Signal::STOP);
        }
    }

    /// Lets a frozen process run on.
    pub fn thaw(&mut self) {
        if let Some(process) = &mut self.process {
            process.signal(Signal::CONT);
        }
    }

    /// Lets a server with [`Lifetime::Releasable`] go on when its handle is dropped.
    pub fn release(&mut self) {
        if let Some(process) = &mut self.process {
            process.release();
        }
    }

    /// Name given in the options.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// `server_id` given in the options.
    pub fn server_id(&self) -> u32 {
        self.options.server_id
    }

    /// The options; a change holds from the next [`Mysqld::launch`] on.
    pub fn options_mut(&mut self) -> &mut MysqldOptions {
        &mut self.options
    }

    /// TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Path of the Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("mysql.sock")
    }

    /// The data directory: binlogs are there.
    pub fn datadir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The error log.
    pub fn error_log(&self) -> PathBuf {
        self.dir.join("error.log")
    }

    /// The last lines of the error log.
    pub fn log_tail(&self) -> String {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let mut text = read(self.dir.join("output.log"));
        text.push_str(&read(self.error_log()));
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(15);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// `mysql://` URL over TCP for an account of [`REPL_ACCOUNT`]'s kind.
    pub fn url(&self, account: (&str, &str)) -> String {
        format!(
            "mysql://{}:{}@127.0.0.1:{}",
            account.0, account.1, self.port
        )
    }

    /// Connection options over TCP for an account.
    pub fn opts(&self, account: (&str, &str)) -> Opts {
        let builder = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .prefer_socket(false)
            .user(Some(account.0))
            .pass(Some(account.1));
        builder.into()
    }

    /// Connection options of root, over the socket.
    pub fn root_opts(&self) -> Opts {
        let socket = self.socket().to_string_lossy().into_owned();
        OptsBuilder::default()
            .socket(Some(socket))
            .user(Some("root"))
            .into()
    }

    /// A connection as root.
    ///
    /// # Errors
    /// When the server does not answer within ten seconds.
    pub async fn root(&self) -> Result<Conn> {
        self.connect(self.root_opts()).await
    }

    /// A connection over TCP for an account.
    ///
    /// # Errors
    /// When the server does not answer within ten seconds or refuses the account.
    pub async fn conn(&self, account: (&str, &str)) -> Result<Conn> {
        self.connect(self.opts(account)).await
    }

    async fn connect(&self, opts: Opts) -> Result<Conn> {
        let connected = timeout(CONNECT_TIMEOUT, Conn::new(opts)).await;
        let connected = connected.map_err(|_| anyhow!("no answer"));
        let conn = connected.and_then(|conn| Ok(conn?));
        conn.with_context(|| format!("connect to {} on port {}", self.options.name, self.port))
    }

    /// Runs statements (separated by `;`) as root.
    ///
    /// # Errors
    /// The server's own, with the statement.
    pub async fn sql(&self, statements: &str) -> Result<()> {
        let mut conn = self.root().await?;
        let done = conn.query_drop(statements).await;
        done.with_context(|| format!("on {}: {statements}", self.options.name))?;
        Ok(conn.disconnect().await?)
    }

    /// Rows of a query, asked as root.
    ///
    /// # Errors
    /// The server's own, with the query.
    pub async fn rows<T>(&self, query: &str) -> Result<Vec<T>>
    where
        T: FromRow + Send + 'static,
    {
        let mut conn = self.root().await?;
        let rows = conn.query(query).await;
        let rows = rows.with_context(|| format!("on {}: {query}", self.options.name))?;
        conn.disconnect().await?;
        Ok(rows)
    }

    /// The first row of a query, asked as root.
    ///
    /// # Errors
    /// The server's own, and when there is no row.
    pub async fn row<T>(&self, query: &str) -> Result<T>
    where
        T: FromRow + Send + 'static,
    {
        let first = self.rows(query).await?.into_iter().next();
        first.with_context(|| format!("on {}: no row from {query}", self.options.name))
    }

    /// `@@global.gtid_executed`.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn gtid_executed(&self) -> Result<String> {
        let set: String = self.row("SELECT @@global.gtid_executed").await?;
        Ok(set.replace('\n', ""))
    }

    /// Current binlog file and position.
    ///
    /// # Errors
    /// When the server cannot be asked or writes no binlog.
    pub async fn binlog_position(&self) -> Result<(String, u64)> {
        let mut conn = self.root().await?;
        let row: Option<mysql_async::Row> = match conn.query_first("SHOW BINARY LOG STATUS").await {
            Ok(row) => row,
            Err(_) => conn.query_first("SHOW MASTER STATUS").await?,
        };
        conn.disconnect().await?;
        let row = row.context("the server writes no binlog")?;
        let file = row.get(0).context("no file name")?;
        Ok((file, row.get(1).context("no position")?))
    }
}
