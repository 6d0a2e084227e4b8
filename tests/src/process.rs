//! Child processes that never outlive their owner: in goes a [`Program`], out comes a handle that
//! signals, waits and, when dropped, kills.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

/// How long a process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Killed when its handle is dropped, and by the kernel when this process dies.
    Owned,
    /// Killed when its handle is dropped, unless it has been released with [`Process::release`]:
    /// then it goes on after this process, for `make demo KEEP=1`.
    Releasable,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Program {
    /// For messages.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables on top of this process's own.
    pub env: Vec<(String, String)>,
    /// File its standard output and error are appended to.
    pub log: PathBuf,
    /// How long it lives.
    pub lifetime: Lifetime,
}

/// A running (or ended) child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lifetime: Lifetime,
    released: bool,
}

impl Process {
    /// Starts `program`; it reads nothing and writes to its log.
    ///
    /// # Errors
    /// When the program cannot be started or its log not be opened.
    pub fn spawn(program: &Program) -> Result<Self> {
        let wrapper: &[&str] = match program.lifetime {
            // A test that is killed leaves no servers behind.
            Lifetime::Owned => &["setpriv", "--pdeathsig", "KILL", "--"],
            // Out of reach of the terminal's Ctrl-C.
            Lifetime::Releasable => &["setsid"],
        };
        let (log, copy) = open_log(&program.log)?;
        let mut command = wrapped(wrapper, &program.path);
        command
            .args(&program.args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(copy);
        command.envs(program.env.iter().map(|(key, value)| (key, value)));
        let child = spawn_on_lasting_thread(command)
            .with_context(|| format!("start {}: {}", program.name, program.path.display()))?;
        Ok(Self {
            name: program.name.clone(),
            child,
            lifetime: program.lifetime,
            released: false,
        })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets a [`Lifetime::Releasable`] process go on when its handle is dropped.
    pub fn release(&mut self) {
        self.released = self.lifetime == Lifetime::Releasable;
    }

    /// The exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal; nothing happens when the process has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.exited().is_some() {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may end between the check and the signal: there is nothing to do then.
            let _ = kill_process(pid, signal);
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// When it still runs after `timeout`.
    pub async fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exited() {
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "{} still runs after {timeout:?}",
                self.name
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Errors
    /// When it still runs after `timeout`.
    pub async fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        self.wait(timeout).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.released {
            self.kill9();
        }
    }
}

fn open_log(path: &Path) -> Result<(File, File)> {
    let log = OpenOptions::new().create(true).append(true).open(path);
    let log = log.with_context(|| format!("open the log {}", path.display()))?;
    let copy = log.try_clone()?;
    Ok((log, copy))
}

/// `path` below a program that then becomes it. util-linux brings the wrappers; without them the
/// program runs as it is.
fn wrapped(wrapper: &[&str], path: &Path) -> Command {
    let found = wrapper.split_first().and_then(|(name, args)| {
        let dirs = ["/usr/bin", "/bin"];
        let file = dirs
            .iter()
            .map(|dir| Path::new(dir).join(name))
            .find(|file| file.exists())?;
        let mut command = Command::new(file);
        command.args(args).arg(path);
        Some(command)
    });
    found.unwrap_or_else(|| Command::new(path))
}

type Order = (Command, SyncSender<io::Result<Child>>);

/// The kernel's death signal follows the *thread* that started the child, so every child is started
/// by one thread that lasts as long as the process.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<SyncSender<Order>>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts processes is gone");
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = sync_channel::<Order>(0);
        std::thread::spawn(move || serve_orders(&orders));
        Mutex::new(sender)
    });
    let (reply, answer) = sync_channel(1);
    let sender = spawner.lock().unwrap_or_else(PoisonError::into_inner);
    sender.send((command, reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn serve_orders(orders: &Receiver<Order>) {
    while let Ok((mut command, reply)) = orders.recv() {
        // Whoever ordered waits for the answer, so it is taken.
        let _ = reply.send(command.spawn());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeping(dir: &Path) -> Process {
        let program = Program {
            name: "sleep".to_owned(),
            path: PathBuf::from("/bin/sleep"),
            args: vec!["600".into()],
            env: Vec::new(),
            log: dir.join("log"),
            lifetime: Lifetime::Owned,
        };
        Process::spawn(&program).expect("sleep starts")
    }

    #[tokio::test]
    async fn a_dropped_handle_leaves_no_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut process = sleeping(dir.path());
        assert!(process.exited().is_none());
        let path = format!("/proc/{}", process.id());
        assert!(Path::new(&path).exists());
        drop(process);
        assert!(!Path::new(&path).exists());
    }

    #[tokio::test]
    async fn sigterm_ends_a_process_that_does_not_mind() {
        let dir = tempfile::tempdir().expect("a directory");
        let status = sleeping(dir.path()).terminate(Duration::from_secs(5)).await;
        assert!(!status.expect("it ends").success());
    }
}
