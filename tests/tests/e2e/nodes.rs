//! The ways in which the nodes of a running service change, one by one: a start position, what keeps a node from leaving, other servers
//! that must have the same data, a configuration that is read again, a node that is lost, a commit that waits until it is durable here.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};
use tributary_tests::cluster::Cluster;
use tributary_tests::mysqld::{Mysqld, MysqldOptions, ReplicationSource};
use tributary_tests::service::{NodeEntry, Service, ServiceOptions, Status};

use crate::causal::wait_for_ids;
use crate::scaling::nodes;
use crate::world::{CATCH_UP, verified};

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, name VARCHAR(40))";
const SEMI_SYNC: &[&str] = &[
    "--plugin-load-add=semisync_source.so",
    "--rpl-semi-sync-source-timeout=60000",
];

struct Stage {
    service: Service,
    /// `dn1` and `dn2` are read from the start, `dn3` is not.
    cluster: Cluster,
    replica: Mysqld,
    /// What must have come out so far.
    ids: Vec<u32>,
}

impl Stage {
    async fn start() -> Result<Self> {
        let semi_sync = |options: MysqldOptions| SEMI_SYNC.iter().fold(options, |o, a| o.arg(a));
        let workplace = tributary_tests::cluster::Workplace::temporary()?;
        let cluster = Cluster::start_with(3, workplace, semi_sync).await?;
        let mut options = ServiceOptions::new("tso", &cluster.nodes[..2]);
        options.nodes[0].extra = "semi_sync = true".into();
        // Before the service comes: from its first dump on, commits wait for it.
        cluster.nodes[0]
            .sql("SET GLOBAL rpl_semi_sync_source_enabled = 1")
            .await?;
        let service = Service::start(options, cluster.dir()).await?;
        let counted = "SELECT variable_value + 0 >= 1 FROM performance_schema.global_status \
                       WHERE variable_name = 'Rpl_semi_sync_source_clients'";
        cluster.nodes[0].wait_until(counted, CATCH_UP).await?;
        cluster.sql(TABLE).await?;
        let replica = cluster.start_replica("replica", 201).await?;
        replica.replicate_from(&service.source()).await?;
        Ok(Self {
            service,
            cluster,
            replica,
            ids: Vec::new(),
        })
    }

    /// A row on a server, which does not come out unless it `flows`.
    async fn insert(&mut self, server: Opts, id: u32, flows: bool) -> Result<()> {
        let mut conn = Conn::new(server).await?;
        conn.query_drop(format!("INSERT INTO d.t VALUES ({id}, 'x')"))
            .await?;
        if flows {
            self.ids.push(id);
            self.ids.sort_unstable();
        }
        Ok(())
    }

    async fn node(&mut self, number: usize, id: u32, flows: bool) -> Result<()> {
        let opts = self.cluster.nodes[number - 1].root_opts();
        self.insert(opts, id, flows).await
    }

    async fn arrived(&self) -> Result<()> {
        let came = wait_for_ids(&self.replica, &self.ids).await;
        came.with_context(|| self.service.log_tail())
    }

    async fn has(&self, names: &[&str]) -> Result<()> {
        let read = |s: &Status| {
            let states = s.node_states();
            let streaming = states.iter().all(|(_, state)| state == "streaming");
            streaming
                && states
                    .iter()
                    .map(|(name, _)| name.as_str())
                    .eq(names.iter().copied())
        };
        let what = format!("{names:?} are read");
        self.service.wait_status(&what, CATCH_UP, read).await?;
        Ok(())
    }

    /// Commits on `dn1` return when they are durable here; without the service they hang.
    async fn commits_wait(&mut self) -> Result<()> {
        self.node(1, 101, true).await?;
        let status = self.service.status().await?;
        ensure!(
            !status.0["nodes"][0]["semi_sync_acked"].is_null(),
            "{status:?}"
        );
        let last = status.last_gno().context("it is durable")?;
        ensure!(
            last >= 3,
            "the commit returned before it was durable: {last}"
        );
        self.arrived().await
    }

    /// What a node had before its start position does not come out, and what it has prepared keeps it from leaving.
    async fn joins_at_a_position_and_leaves(&mut self) -> Result<()> {
        self.node(3, 301, false).await?;
        let start = self.cluster.nodes[2].gtid_executed().await?;
        self.node(3, 302, true).await?;
        let url = format!("mysql://repl@127.0.0.1:{}", self.cluster.nodes[2].port());
        let password = ["--password-env", "TRIBUTARY_DN1_PASSWORD"];
        let add = ["add", "dn3", "--url", &url, "--start", &start];
        nodes(&self.service, &[&add[..], &password].concat()).await?;
        self.has(&["dn1", "dn2", "dn3"]).await?;
        self.arrived().await?;

        let mut conn = self.cluster.nodes[2].root().await?;
        let xid = "X'6c656176',X'01',1";
        conn.query_drop(format!(
            "XA START {xid}; INSERT INTO d.t VALUES (303, 'dn3'); XA END {xid}; XA PREPARE {xid}"
        ))
        .await?;
        let refused = nodes(&self.service, &["remove", "dn3", "--timeout", "2"]).await;
        let why = refused
            .err()
            .context("it has something prepared")?
            .to_string();
        ensure!(
            why.contains("not merged") && why.contains("XA COMMIT"),
            "{why}"
        );
        self.has(&["dn1", "dn2", "dn3"]).await?;
        conn.query_drop(format!("XA COMMIT {xid}")).await?;
        self.ids.push(303);
        nodes(&self.service, &["remove", "dn3"]).await?;
        self.has(&["dn1", "dn2"]).await?;
        self.node(3, 304, false).await?;
        self.arrived().await
    }

    /// `dn2` moves to another server: not to one that lacks something, but to its replica.
    async fn is_replaced(&mut self) -> Result<Mysqld> {
        self.node(2, 201, true).await?;
        self.arrived().await?;
        let options = MysqldOptions::node("dn2b", 112).arg("--relay-log=relay");
        let other = Mysqld::start(options, self.cluster.dir()).await?;
        let url = format!("mysql://repl@127.0.0.1:{}", other.port());
        let replace = [
            "replace",
            "dn2",
            "--url",
            &url,
            "--password-env",
            "TRIBUTARY_DN2_PASSWORD",
        ];
        let refused = nodes(&self.service, &replace).await;
        let why = refused.err().context("it has nothing of dn2")?.to_string();
        let uuid: String = self.cluster.nodes[1].row("SELECT @@server_uuid").await?;
        ensure!(why.contains(&uuid), "the exact GTIDs are named: {why}");
        self.has(&["dn1", "dn2"]).await?;

        let source = ReplicationSource::local(self.cluster.nodes[1].port());
        other.replicate_from(&source).await?;
        let all = self.cluster.nodes[1].gtid_executed().await?;
        other.wait_for_gtids(&all, CATCH_UP).await?;
        other.sql("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF").await?;
        nodes(&self.service, &replace).await?;
        self.has(&["dn1", "dn2"]).await?;
        self.node(2, 202, false).await?;
        self.insert(other.root_opts(), 203, true).await?;
        self.arrived().await?;
        Ok(other)
    }

    /// The configuration is read again: a node joins because the file has it, and leaves because it has not.
    async fn is_told_by_the_file(&mut self, dn2: &Mysqld) -> Result<()> {
        // What commands did the file says now, too; dn4's password comes from a file: the process has no variable with it.
        self.service.options_mut().nodes[1].urls = NodeEntry::of(dn2).urls;
        let entry = NodeEntry::of(&self.cluster.nodes[2]);
        let file = self.cluster.dir().join("dn4.password");
        std::fs::write(&file, &entry.password)?;
        let url = &entry.urls[0];
        let table = format!(
            "[[node]]\nname = \"dn4\"\nurl = {url:?}\npassword_file = {:?}\n",
            file.display().to_string()
        );
        self.service.options_mut().tables = table;
        self.service.reload()?;
        self.has(&["dn1", "dn2", "dn4"]).await?;
        self.node(3, 305, true).await?;
        self.arrived().await?;
        self.service.options_mut().tables.clear();
        self.service.reload()?;
        self.has(&["dn1", "dn2"]).await?;
        self.node(3, 306, false).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_change_as_they_are_told() -> Result<()> {
    let mut stage = Stage::start().await?;
    let pid = stage.service.pid();
    stage.commits_wait().await?;
    stage.joins_at_a_position_and_leaves().await?;
    let mut dn2 = stage.is_replaced().await?;
    stage.is_told_by_the_file(&dn2).await?;
    ensure!(stage.service.pid() == pid, "it was restarted");

    // What can not be asked any more is given up only by force.
    dn2.kill9();
    let refused = nodes(&stage.service, &["remove", "dn2", "--timeout", "1"]).await;
    let why = refused.err().context("it is gone")?.to_string();
    ensure!(why.contains("--force"), "{why}");
    nodes(&stage.service, &["remove", "dn2", "--force"]).await?;
    stage.node(1, 102, true).await?;
    stage.arrived().await?;
    let listed = nodes(&stage.service, &["list"]).await?;
    for change in ["add", "remove", "replace"] {
        ensure!(listed.contains(&format!("\"{change}\"")), "{listed}");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stage.arrived().await?;
    verified(&stage.service).await
}
