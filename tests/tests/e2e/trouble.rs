//! Much of what can go wrong with a node, on several nodes at once, as the operator of the service sees it: a name in `/status`, in
//! `tributary status` and in the metrics, advice, and an end when the cause is gone. No transaction is lost or doubled by any of it.
//!
//! What each trouble is told by is tested in the collector; here it is real nodes under the real service.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn};
use tempfile::TempDir;
use tokio::time::sleep;
use tributary_tests::cluster::Cluster;
use tributary_tests::faults::{Fault, FaultProxy};
use tributary_tests::mysqld::{Mysqld, REPL_ACCOUNT};
use tributary_tests::service::{Service, ServiceOptions, Status, get};

use crate::world::{CATCH_UP, World, becomes_same};

const NODES: u32 = 7;
const MOODY: &str = "CREATE USER moody IDENTIFIED BY 'one'; GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO moody";

struct Stage {
    world: World,
    /// Before the third node and the sixth.
    proxies: [FaultProxy; 2],
    replica: Mysqld,
    /// Rows in `shop.t` of each node.
    rows: u32,
}

impl Stage {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start(NODES).await?;
        cluster.nodes[3].sql(MOODY).await?;
        let mut options = ServiceOptions::new("tso", &cluster.nodes);
        let mut proxies = Vec::new();
        for n in [2, 5] {
            let proxy = FaultProxy::start(cluster.nodes[n].port()).await?;
            let entry = &mut options.nodes[n];
            entry.urls = vec![format!(
                "mysql://{}@127.0.0.1:{}",
                REPL_ACCOUNT.0,
                proxy.port()
            )];
            entry.extra = "tls = \"disabled\"".into();
            proxies.push(proxy);
        }
        let moody = &mut options.nodes[3];
        moody.urls = vec![format!(
            "mysql://moody@127.0.0.1:{}",
            cluster.nodes[3].port()
        )];
        moody.password = "one".into();
        let service = Service::start(options, cluster.dir()).await?;
        let replica = cluster.start_replica("replica", 201).await?;
        replica.replicate_from(&service.source()).await?;
        let world = World { service, cluster };
        let tables = "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY)";
        world.cluster.sql(tables).await?;
        let proxies = proxies.try_into().ok().context("two proxies")?;
        let mut stage = Self {
            world,
            proxies,
            replica,
            rows: 0,
        };
        stage.flows().await?;
        Ok(stage)
    }

    fn node(&mut self, number: usize) -> &mut Mysqld {
        &mut self.world.cluster.nodes[number - 1]
    }

    /// A row on each node arrives.
    async fn flows(&mut self) -> Result<()> {
        for (n, node) in self.world.cluster.nodes.iter().enumerate() {
            let id = self.rows * 100 + n as u32;
            node.sql(&format!("INSERT INTO shop.t VALUES ({id})"))
                .await?;
        }
        self.rows += 1;
        let all = format!("SELECT COUNT(*) >= {} FROM shop.t", self.rows * NODES);
        let came = self.replica.wait_until(&all, CATCH_UP).await;
        came.with_context(|| self.world.service.log_tail())
    }

    async fn metric(&self, node: usize, trouble: &str) -> Result<String> {
        let page = get(self.world.service.admin_port(), "/metrics").await?.1;
        let name = format!("tributary_node_trouble{{node=\"dn{node}\",trouble=\"{trouble}\"}}");
        let line = page.lines().find_map(|l| l.strip_prefix(&name));
        Ok(line
            .with_context(|| format!("{name}: {page}"))?
            .trim()
            .into())
    }

    /// The trouble has its name everywhere an operator looks, and advice.
    async fn named(&self, node: usize, trouble: &str, state: &str) -> Result<()> {
        let name = format!("dn{node}");
        let there = |s: &Status| {
            s.troubles(&name).0.iter().any(|t| t == trouble)
                && s.node_states().contains(&(name.clone(), state.to_owned()))
        };
        let service = &self.world.service;
        let what = format!("{name} {state} with {trouble}");
        let status = service.wait_status(&what, CATCH_UP, there).await?;
        let advice = status.advice(&name, trouble);
        ensure!(!advice.is_empty(), "no advice about {trouble}");
        let shown = self.world.shown().await?;
        ensure!(
            shown.contains(trouble) && shown.contains(&advice),
            "{trouble} is not in\n{shown}"
        );
        let value = self.metric(node, trouble).await?;
        ensure!(value == "1", "{trouble} of dn{node}: {value}");
        println!("dn{node}: {trouble}, {state}");
        Ok(())
    }

    /// It is over, and the node is read.
    async fn over(&self, node: usize, trouble: &str) -> Result<()> {
        let name = format!("dn{node}");
        let over = |s: &Status| {
            !s.troubles(&name).0.iter().any(|t| t == trouble)
                && s.node_states()
                    .contains(&(name.clone(), "streaming".to_owned()))
        };
        let what = format!("{name} is over {trouble}");
        self.world
            .service
            .wait_status(&what, CATCH_UP, over)
            .await?;
        let value = self.metric(node, trouble).await?;
        ensure!(value == "0", "{trouble} of dn{node}: {value}");
        Ok(())
    }

    /// What goes by itself when its cause does.
    async fn transient(&mut self) -> Result<()> {
        // The clock is measured against the look before.
        sleep(Duration::from_secs(11)).await;
        self.node(4)
            .sql("ALTER USER moody IDENTIFIED BY 'two'")
            .await?;
        self.node(5)
            .sql("SET GLOBAL binlog_row_image = MINIMAL")
            .await?;
        self.node(7)
            .sql("SET GLOBAL init_connect = 'SET timestamp = UNIX_TIMESTAMP() - 3600'")
            .await?;
        self.proxies[0].fault(Fault::Delay(Duration::from_millis(1300)));
        self.proxies[1].fault(Fault::Swallow("SHOW BINARY LOG STATUS"));
        self.node(1).kill9();
        self.node(2).freeze();
        let troubles = [
            (1, "node-down", "retrying"),
            (2, "node-hung", "retrying"),
            (3, "node-slow", "streaming"),
            (4, "access-denied", "streaming"),
            (5, "wrong-settings", "streaming"),
            (6, "binlog-stalled", "streaming"),
            (7, "clock-jump", "streaming"),
        ];
        for (node, trouble, state) in troubles {
            self.named(node, trouble, state).await?;
        }
        self.node(1).launch().await?;
        self.node(2).thaw();
        for proxy in &self.proxies {
            proxy.fault(Fault::None);
        }
        self.node(4)
            .sql("ALTER USER moody IDENTIFIED BY 'one'")
            .await?;
        self.node(5)
            .sql("SET GLOBAL binlog_row_image = FULL")
            .await?;
        self.node(7).sql("SET GLOBAL init_connect = ''").await?;
        for (node, trouble, _) in troubles {
            self.over(node, trouble).await?;
        }
        self.flows().await
    }

    /// What needs a person, on four nodes; and what heals at once on the others.
    async fn grave(&mut self) -> Result<()> {
        let mut old = Backup::of(self.node(1)).await?;
        self.flows().await?;
        let new = old.exchange(self.node(1)).await?;
        let known = self.node(2).gtid_executed().await?;
        self.node(2).sql("RESET BINARY LOGS AND GTIDS").await?;
        let archive = self.purged_behind_our_back().await?;
        let node = self.node(4);
        node.stop().await?;
        std::fs::remove_file(node.datadir().join("auto.cnf"))?;
        node.launch().await?;
        let thief = steal(self.node(5)).await?;
        let sql = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'";
        for id in self.node(7).rows::<u64>(sql).await? {
            self.node(7).sql(&format!("KILL {id}")).await?;
        }
        for (node, trouble, state) in [
            (1, "gtids-lost", "halted"),
            (2, "binlog-reset", "halted"),
            (3, "binlog-purged", "halted"),
            (4, "server-changed", "streaming"),
            (5, "dump-stolen", "streaming"),
        ] {
            self.named(node, trouble, state).await?;
        }
        drop(thief);
        let killed = |s: &Status| s.troubles("dn7").1 == "connection-lost";
        let service = &self.world.service;
        service
            .wait_status("dn7's connection was lost", CATCH_UP, killed)
            .await?;
        // What the text of each says.
        old = new;
        old.exchange(self.node(1)).await?;
        self.node(2)
            .sql(&format!("SET GLOBAL gtid_purged = '{known}'"))
            .await?;
        restore_binlogs(self.node(3), archive.path()).await?;
        for (node, trouble) in [(1, "gtids-lost"), (2, "binlog-reset"), (3, "binlog-purged")] {
            self.over(node, trouble).await?;
        }
        self.flows().await
    }

    /// The third node purges what was not read; its files, as an archive would have them.
    async fn purged_behind_our_back(&mut self) -> Result<TempDir> {
        self.proxies[0].fault(Fault::Refuse);
        let node = self.node(3);
        node.sql(
            "FLUSH BINARY LOGS; INSERT INTO shop.t VALUES (-1); INSERT INTO shop.t VALUES (-2); \
             FLUSH BINARY LOGS",
        )
        .await?;
        let archive = tempfile::tempdir()?;
        copy(&node.datadir(), &archive.path().join("data"))?;
        let (file, _) = node.binlog_position().await?;
        node.sql(&format!("PURGE BINARY LOGS TO '{file}'")).await?;
        self.proxies[0].fault(Fault::None);
        Ok(archive)
    }
}

/// A copy of a server's data.
struct Backup(TempDir);

impl Backup {
    async fn of(node: &mut Mysqld) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        node.stop().await?;
        copy(&node.datadir(), &dir.path().join("data"))?;
        node.launch().await?;
        Ok(Self(dir))
    }

    /// The server gets these data; the ones it had.
    async fn exchange(&self, node: &mut Mysqld) -> Result<Self> {
        node.stop().await?;
        let dir = tempfile::tempdir()?;
        copy(&node.datadir(), &dir.path().join("data"))?;
        std::fs::remove_dir_all(node.datadir())?;
        copy(&self.0.path().join("data"), &node.datadir())?;
        node.launch().await?;
        Ok(Self(dir))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("-a").args([from, to]).status()?;
    ensure!(copied.success(), "cp {} {}", from.display(), to.display());
    Ok(())
}

async fn restore_binlogs(node: &mut Mysqld, archive: &Path) -> Result<()> {
    node.stop().await?;
    for entry in std::fs::read_dir(archive.join("data"))? {
        let path = entry?.path();
        let name = path.file_name().context("a file")?.to_owned();
        if name.to_string_lossy().starts_with("binlog.") {
            std::fs::copy(&path, node.datadir().join(name))?;
        }
    }
    node.launch().await
}

/// Another client that says it is the service.
async fn steal(node: &Mysqld) -> Result<BinlogStream> {
    let replicas = node
        .rows::<(u32, String, u32, u32, String)>("SHOW REPLICAS")
        .await?;
    let uuid = &replicas.first().context("the service is a replica")?.4;
    let mut conn = Conn::new(node.root_opts()).await?;
    conn.query_drop(format!(
        "SET @replica_uuid = '{uuid}', @slave_uuid = '{uuid}', @source_binlog_checksum = 'CRC32', \
         @master_binlog_checksum = 'CRC32'"
    ))
    .await?;
    let request = BinlogStreamRequest::new(4294)
        .with_gtid()
        .with_gtid_set(Vec::new());
    let mut stream = conn.get_binlog_stream(request).await?;
    stream.next().await.context("it streams")??;
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn troubles_of_nodes_are_named_and_pass() -> Result<()> {
    let mut stage = Stage::start().await?;
    let pid = stage.world.service.pid();
    stage.transient().await?;
    stage.grave().await?;
    let nodes = &stage.world.cluster.nodes;
    let shards: Vec<_> = nodes.iter().map(Mysqld::root_opts).collect();
    becomes_same(&shards, &stage.replica, &stage.world.service).await?;
    ensure!(stage.world.service.pid() == pid, "it was restarted");
    stage.world.verified().await
}
