//! An initialised data directory, made once per MySQL version and copied for every server.
//!
//! In: the `mysqld` of the testbed and `docker/mysql/accounts.sql`. Out: a data directory with
//! those accounts, a password-less root, no binlog and no GTIDs. How a server takes names is settled when its data are made, so
//! there are two: for names as they are, and for names in lower case.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tools::{cache_dir, mysql_program, mysql_version};

/// The accounts every server of the testbed has; the compose file mounts the same file.
const ACCOUNTS: &str = include_str!("../../../docker/mysql/accounts.sql");

/// Fills `datadir` (which must not exist) with a fresh server's data.
pub(super) fn copy_to(datadir: &Path, folding: bool) -> Result<()> {
    let template = template(folding)?;
    // cp keeps holes: most of a fresh data directory is empty space.
    let status = Command::new("cp")
        .args(["--archive", "--sparse=always", "--reflink=auto"])
        .args([&template, datadir])
        .stdin(Stdio::null())
        .status()?;
    ensure!(
        status.success(),
        "cannot copy {} to {}",
        template.display(),
        datadir.display()
    );
    Ok(())
}

/// The accounts file without its first statement that only matters on a running source.
fn init_file_text() -> String {
    // An init file holds one statement a line and no comments.
    let mut text = String::new();
    for line in ACCOUNTS
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("--"))
    {
        text.push_str(line);
        text.push_str(if line.ends_with(';') { "\n" } else { " " });
    }
    text
}

fn template(folding: bool) -> Result<PathBuf> {
    let version = mysql_version()?;
    let mut hasher = DefaultHasher::new();
    (ACCOUNTS, include_str!("template.rs")).hash(&mut hasher);
    let cache = cache_dir();
    let names = if folding { "-folding" } else { "" };
    let template = cache.join(format!(
        "mysql-data-{version}-{:016x}{names}",
        hasher.finish()
    ));
    if template.exists() {
        return Ok(template);
    }
    fs::create_dir_all(&cache)?;
    let lock = File::create(cache.join("mysql-data.lock"))?;
    lock.lock()
        .context("lock the template of the data directory")?;
    // Another process may have made it while this one waited.
    if !template.exists() {
        initialise(&cache, &template, folding)?;
    }
    Ok(template)
}

fn initialise(cache: &Path, template: &Path, folding: bool) -> Result<()> {
    let work = tempfile::tempdir_in(cache)?;
    let datadir = work.path().join("data");
    let init_file = work.path().join("accounts.sql");
    fs::write(&init_file, init_file_text())?;
    let log = work.path().join("log");
    let output = File::create(&log)?;
    let status = Command::new(mysql_program("mysqld")?)
        .arg("--no-defaults")
        .arg("--initialize-insecure")
        .arg(format!("--datadir={}", datadir.display()))
        .arg(format!("--init-file={}", init_file.display()))
        .args([
            "--performance-schema=OFF",
            "--skip-log-bin",
            "--innodb-redo-log-capacity=64M",
        ])
        .args(folding.then_some(super::FOLDING))
        .args(super::user_argument())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()?;
    let text = fs::read_to_string(&log).unwrap_or_default();
    ensure!(
        status.success() && !text.contains("[ERROR]"),
        "mysqld --initialize failed:\n{text}"
    );
    // Every copy gets a server_uuid of its own.
    fs::remove_file(datadir.join("auto.cnf"))?;
    fs::rename(&datadir, template)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_init_file_has_one_statement_a_line() {
        let text = init_file_text();
        assert!(text.lines().count() >= 4, "{text}");
        for line in text.lines() {
            assert!(line.ends_with(';') && !line.contains("--"), "{line}");
        }
    }
}
