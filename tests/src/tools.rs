//! Where things are: in go the environment and `tools/get-mysql`, out come paths to programs,
//! caches and free ports.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, bail, ensure};

/// The repository: the parent of this package.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the repository")
}

/// Tributary's cache: `$XDG_CACHE_HOME/tributary`, else `~/.cache/tributary`.
pub fn cache_dir() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map_or_else(
            || {
                let home = std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into());
                PathBuf::from(home).join(".cache")
            },
            PathBuf::from,
        );
    base.join("tributary")
}

/// The directory whose `bin/` holds `mysqld`, `mysql`, `mysqlbinlog` and `mysqldump`.
///
/// # Errors
/// When `tools/get-mysql` neither finds a MySQL server nor can fetch one.
pub fn mysql_root() -> Result<&'static Path> {
    static ROOT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let found = ROOT.get_or_init(|| ask_get_mysql().map_err(|error| format!("{error:#}")));
    match found {
        Ok(root) => Ok(root),
        Err(error) => bail!("no MySQL server: {error}"),
    }
}

fn ask_get_mysql() -> Result<PathBuf> {
    let script = repository().join("tools/get-mysql");
    let output = Command::new(&script)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {}", script.display()))?;
    ensure!(output.status.success(), "{} failed", script.display());
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// Path of one of MySQL's programs, such as `mysqlbinlog`.
///
/// # Errors
/// When there is no MySQL, see [`mysql_root`].
pub fn mysql_program(name: &str) -> Result<PathBuf> {
    Ok(mysql_root()?.join("bin").join(name))
}

/// The version of the MySQL server the testbed runs, such as `9.7.4`.
///
/// # Errors
/// When there is no MySQL or it does not tell its version.
pub fn mysql_version() -> Result<String> {
    let mysqld = mysql_program("mysqld")?;
    let output = Command::new(&mysqld)
        .args(["--no-defaults", "--version"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text
        .split_whitespace()
        .skip_while(|word| *word != "Ver")
        .skip(1);
    let word = words
        .next()
        .with_context(|| format!("no version in {text:?}"))?;
    Ok(word.split('-').next().unwrap_or(word).to_owned())
}

/// Path of a program of this workspace: `$TRIBUTARY_BIN` for `tributary` when set, else the file
/// beside the running program (`target/release/`).
///
/// # Errors
/// When there is no such file.
pub fn workspace_program(name: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TRIBUTARY_BIN").filter(|_| name == "tributary") {
        return Ok(PathBuf::from(path));
    }
    let running = std::env::current_exe()?;
    // Tests run from target/release/deps, programs from target/release.
    for dir in running.ancestors().skip(1).take(2) {
        let path = dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!(
        "no program {name} near {}: build the workspace first (make build)",
        running.display()
    )
}

/// A TCP port of 127.0.0.1 that nothing listens on, never handed out twice by this process.
///
/// Taken from below the range of outgoing connections, so that a server which is stopped for a
/// while finds its port free again.
///
/// # Errors
/// When none can be found.
pub fn free_port() -> Result<u16> {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut guard = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = guard.get_or_insert_with(HashSet::new);
    for _ in 0..1000 {
        let port = rand::random_range(12_000..32_000_u16);
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.insert(port);
            return Ok(port);
        }
    }
    bail!("no free port between 12000 and 32000 on 127.0.0.1")
}
