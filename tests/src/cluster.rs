//! Several nodes and, if wanted, a replica: in goes how many, out come running servers that share
//! one directory, which goes away with them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mysql_async::Opts;
use tempfile::TempDir;

use crate::mysqld::{APP_ACCOUNT, Mysqld, MysqldOptions};

/// A directory for servers: temporary, or one that stays.
#[derive(Debug)]
pub enum Workplace {
    /// Removed when dropped.
    Temporary(TempDir),
    /// Stays.
    Lasting(PathBuf),
}

impl Workplace {
    /// A temporary directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn temporary() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tributary-").tempdir();
        Ok(Self::Temporary(dir.context("make a temporary directory")?))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Lasting(path) => path,
        }
    }
}

/// Nodes `dn1`, `dn2`, … and the directory they live in.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, by number; killed when dropped (unless released).
    pub nodes: Vec<Mysqld>,
    // Dropped after the servers, which have their data in it.
    workplace: Workplace,
}

impl Cluster {
    /// Starts `count` nodes in a temporary directory.
    ///
    /// # Errors
    /// When a server does not come up.
    pub async fn start(count: u32) -> Result<Self> {
        Self::start_with(count, Workplace::temporary()?, |options| options).await
    }

    /// Starts `count` nodes in `workplace`, each with the options `adjust` makes of the usual ones.
    ///
    /// # Errors
    /// When a server does not come up.
    pub async fn start_with(
        count: u32,
        workplace: Workplace,
        adjust: impl Fn(MysqldOptions) -> MysqldOptions,
    ) -> Result<Self> {
        let options = (1..=count)
            .map(|number| adjust(MysqldOptions::node(&format!("dn{number}"), 100 + number)));
        let starting: Vec<_> = options
            .map(|options| {
                let parent = workplace.path().to_owned();
                tokio::spawn(async move { Mysqld::start(options, &parent).await })
            })
            .collect();
        let mut nodes = Vec::new();
        for server in starting {
            nodes.push(server.await??);
        }
        Ok(Self { nodes, workplace })
    }

    /// Starts a server that is to be a replica, in the same directory.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_replica(&self, name: &str, server_id: u32) -> Result<Mysqld> {
        Mysqld::start(MysqldOptions::replica(name, server_id), self.dir()).await
    }

    /// The directory the servers live in.
    pub fn dir(&self) -> &Path {
        self.workplace.path()
    }

    /// Connection options of the workload for every node.
    pub fn app_opts(&self) -> Vec<Opts> {
        self.nodes
            .iter()
            .map(|node| node.opts(APP_ACCOUNT))
            .collect()
    }

    /// Runs statements as root on every node, one node after the other.
    ///
    /// # Errors
    /// The first node's that fails.
    pub async fn sql(&self, statements: &str) -> Result<()> {
        for node in &self.nodes {
            node.sql(statements).await?;
        }
        Ok(())
    }
}
