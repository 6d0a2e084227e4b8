//! A MySQL or MariaDB server of a test's own, to be made a replica.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Duration;

use crate::programs::programs;
use crate::support::PASSWORD;

/// Ended with the test.
pub(crate) struct Replica {
    child: Child,
    dir: tempfile::TempDir,
    shell: PathBuf,
    maria: bool,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory with MariaDB's programs, fetched if they are missing.
pub(crate) fn mariadb() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/get-mariadb");
        let output = Command::new(script).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Path::new(String::from_utf8(output.stdout).unwrap().trim_end()).join("bin")
    })
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Replica {
    /// A MySQL server with GTIDs.
    pub(crate) fn mysql(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let common = |command: &mut Command| {
            command
                .arg("--no-defaults")
                .arg(format!("--datadir={}", data.display()));
            command.args([
                "--innodb-buffer-pool-size=32M",
                "--innodb-redo-log-capacity=8M",
                "--mysqlx=OFF",
            ]);
            command.args([
                "--performance-schema=OFF",
                "--log-error-verbosity=3",
                "--user=root",
            ]);
        };
        let mut init = Command::new(programs().join("mysqld"));
        common(&mut init);
        run(init.arg("--initialize-insecure"));
        let mut server = Command::new(programs().join("mysqld"));
        common(&mut server);
        server.args(["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]);
        server
            .args([
                "--server-id=202",
                "--log-bin=replica",
                "--skip-replica-start",
            ])
            .args(options);
        Self::serve(server, dir, programs().join("mysql"), false)
    }

    /// A MariaDB server.
    pub(crate) fn maria(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = format!("--datadir={}", dir.path().join("data").display());
        let mut init = Command::new(mariadb().join("mariadb-install-db"));
        let init_options = ["--user=root", "--auth-root-authentication-method=normal"];
        run(init
            .args([&data, "--skip-test-db"])
            .args(init_options)
            .arg(format!("--tmpdir={}", dir.path().display())));
        let mut server = Command::new(mariadb().join("mariadbd"));
        server
            .args([&data, "--user=root", "--innodb-buffer-pool-size=32M"])
            .args(["--server-id=203", "--log-bin=replica", "--skip-slave-start"])
            .args(["--log-warnings=2"])
            .args(options);
        Self::serve(server, dir, mariadb().join("mariadb"), true)
    }

    fn serve(mut server: Command, dir: tempfile::TempDir, shell: PathBuf, maria: bool) -> Self {
        server
            .arg("--skip-networking")
            .arg(format!("--socket={}", dir.path().join("s").display()))
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap());
        let replica = Self {
            child: server.spawn().unwrap(),
            dir,
            shell,
            maria,
        };
        replica.until("SELECT 1", "1");
        replica
    }

    pub(crate) fn sql(&self, sql: &str) -> Result<String, String> {
        self.run(&["-N", "-B", "-e", sql])
    }

    /// SHOW REPLICA STATUS.
    pub(crate) fn status(&self) -> String {
        self.run(&["-E", "-e", "SHOW REPLICA STATUS"])
            .unwrap_or_else(|e| e)
    }

    fn run(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.shell)
            .args(["--no-defaults", "-uroot"])
            .args(args)
            .arg(format!("--socket={}", self.dir.path().join("s").display()))
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout)
                .unwrap()
                .trim_end()
                .to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// What the server wrote into its log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Waits until `sql` answers `expected`.
    pub(crate) fn until(&self, sql: &str, expected: &str) {
        let mut last = Err(String::new());
        for _ in 0..400 {
            last = self.sql(sql);
            if last.as_deref() == Ok(expected) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(30).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        panic!("{sql}: {last:?}\n{}\n{}", self.status(), lines.join("\n"));
    }

    /// Replicates from this port, as `how` says.
    pub(crate) fn replicate(&self, port: u16, how: &str) {
        let user = if self.maria { "maria" } else { "repl" };
        self.replicate_as(port, (user, PASSWORD), how);
    }

    /// The same with another account.
    pub(crate) fn replicate_as(&self, port: u16, (user, password): (&str, &str), how: &str) {
        let sql = if self.maria {
            format!(
                "STOP SLAVE; CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='{user}', \
                 MASTER_PASSWORD='{password}', MASTER_CONNECT_RETRY=1, {how}; START SLAVE"
            )
        } else {
            format!(
                "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, \
                 SOURCE_USER='{user}', SOURCE_PASSWORD='{password}', SOURCE_HEARTBEAT_PERIOD=0.2, \
                 SOURCE_CONNECT_RETRY=1, {how}; START REPLICA"
            )
        };
        self.sql(&sql).unwrap();
    }

    /// One line of SHOW REPLICA STATUS, under either of its names.
    pub(crate) fn field(&self, names: [&str; 2]) -> String {
        let status = self.status();
        let found = names.iter().find_map(|name| {
            status.lines().find_map(|line| {
                let (key, value) = line.trim().split_once(": ")?;
                (key == *name).then(|| value.to_owned())
            })
        });
        found.unwrap_or_default()
    }

    /// Fails unless both threads run without an error.
    pub(crate) fn runs(&self) {
        for names in [
            ["Replica_IO_Running", "Slave_IO_Running"],
            ["Replica_SQL_Running", "Slave_SQL_Running"],
        ] {
            assert_eq!(self.field(names), "Yes", "{}", self.status());
        }
        for names in [["Last_IO_Error"; 2], ["Last_SQL_Error"; 2]] {
            assert_eq!(self.field(names), "", "{}", self.status());
        }
    }
}
