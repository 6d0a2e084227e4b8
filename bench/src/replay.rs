//! A directory of binlogs, served as the MySQL node would that wrote it.
//!
//! In: a directory with an index. Out: a server on 127.0.0.1 that a collector takes for a node. It is a process of its own
//! so that its CPU time can be told from that of what reads it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tributary_dump_server::{Account, Accounts, AuthPlugin, Privileges, Server, ServerConfig};
use tributary_store::{GlobalLog, RealDisk};

/// The account that may read.
pub(crate) const USER: &str = "repl";
/// Its password.
pub(crate) const PASSWORD: &str = "repl-demo";
/// What the server says it is.
const VERSION: &str = "9.7.4";

/// Serves `dir` until the process is killed.
pub(crate) fn run(dir: &Path, port: u16, server_id: u32) -> Result<()> {
    let disk = Arc::new(RealDisk::open(dir).with_context(|| dir.display().to_string())?);
    let log =
        GlobalLog::from_dir(disk, "binlog.index").with_context(|| dir.display().to_string())?;
    let mut config = ServerConfig::new(server_id, VERSION)?;
    let privileges = Privileges {
        replication_slave: true,
        replication_client: true,
        admin: false,
    };
    let account = Account::new(USER, PASSWORD, AuthPlugin::CachingSha2Password, privileges);
    config.accounts = Accounts::new([account]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .with_context(|| format!("listen on port {port}"))?;
        Server::new(config, log)
            .run(listener, CancellationToken::new())
            .await;
        Ok(())
    })
}
