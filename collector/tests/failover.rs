//! A node of several servers: the primary is read, whichever it is; what does not fit is named exactly. Real servers.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tributary_binlog::GtidSet;
use tributary_collector::{CollectorConfig, TroubleKind};
use tributary_tests::mysqld::{APP_ACCOUNT, MysqldOptions, ReplicationSource};

use crate::rig::{PATIENCE, Rig, Server, config};

/// Two servers that replicate from one another in turn.
struct Group {
    servers: [Server; 2],
    primary: usize,
}

impl Group {
    async fn start() -> Self {
        let options = |name, id| MysqldOptions::node(name, id).arg("--relay-log=relay");
        let servers = [
            Server::start(options("dn1a", 11)).await,
            Server::start(options("dn1b", 12)).await,
        ];
        let group = Self {
            servers,
            primary: 0,
        };
        group
            .primary()
            .sql("CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT)")
            .await;
        group.follow().await;
        group
    }

    fn primary(&self) -> &Server {
        &self.servers[self.primary]
    }

    fn replica(&self) -> &Server {
        &self.servers[1 - self.primary]
    }

    fn config(&self) -> CollectorConfig {
        config("dn1", self.servers.iter().map(Server::url).collect())
    }

    /// The replica follows the primary.
    async fn follow(&self) {
        let replica = self.replica();
        replica.sql("SET GLOBAL super_read_only = ON").await;
        let source = ReplicationSource::local(self.primary().mysqld.port());
        replica.mysqld.replicate_from(&source).await.unwrap();
        self.caught_up().await;
    }

    async fn caught_up(&self) {
        let gtids = self.primary().mysqld.gtid_executed().await.unwrap();
        let replica = &self.replica().mysqld;
        replica.wait_for_gtids(&gtids, PATIENCE).await.unwrap();
    }

    /// The replica becomes the primary.
    async fn promote(&mut self) {
        self.replica()
            .sql("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF")
            .await;
        self.primary = 1 - self.primary;
    }

    /// As an operator does it: nothing is lost.
    async fn hand_over(&mut self) {
        self.primary().sql("SET GLOBAL super_read_only = ON").await;
        self.caught_up().await;
        self.promote().await;
        self.follow().await;
    }
}

/// Commits on whatever server takes it, until told to stop. Gives how many commits were confirmed.
fn load(group: &Group) -> (watch::Sender<bool>, JoinHandle<u64>) {
    let opts: Vec<_> = group
        .servers
        .iter()
        .map(|s| s.mysqld.opts(APP_ACCOUNT))
        .collect();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        let mut confirmed = 0;
        while !*stopped.borrow() {
            for opts in &opts {
                let Ok(mut conn) = mysql_async::Conn::new(opts.clone()).await else {
                    continue;
                };
                while !*stopped.borrow()
                    && conn
                        .query_drop("INSERT INTO shop.t (v) VALUES (REPEAT('x', 300))")
                        .await
                        .is_ok()
                {
                    confirmed += 1;
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
        confirmed
    });
    (stop, task)
}

/// How many times a node fails over in the long test.
fn rounds() -> u32 {
    let set = std::env::var("TRIBUTARY_FAILOVERS").ok();
    set.and_then(|n| n.parse().ok()).unwrap_or(4)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_read_through_failovers_under_load() {
    let mut group = Group::start().await;
    let mut rig = Rig::spawn(group.config(), None);
    let mut have = GtidSet::new();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds() {
        let (stop, task) = load(&group);
        let mut txns = rig.read_for(Duration::from_millis(600)).await;
        let began;
        if round % 2 == 0 {
            group.hand_over().await;
            began = Instant::now();
        } else {
            // A crash. What only the dead server has would be lost, so the replica is let to catch up.
            stop.send_replace(true);
            sleep(Duration::from_millis(100)).await;
            group.caught_up().await;
            txns.extend(rig.read_for(Duration::from_millis(300)).await);
            let old = group.primary;
            group.servers[old].mysqld.kill9();
            began = Instant::now();
            group.promote().await;
        }
        let new = group.primary().url().to_string();
        while rig.status().server != new
            || !rig
                .status()
                .troubles
                .iter()
                .all(|t| t.kind == TroubleKind::ServerChanged)
        {
            txns.extend(rig.read_for(Duration::from_millis(20)).await);
            assert!(began.elapsed() < PATIENCE, "{:?}", rig.status());
        }
        slowest = slowest.max(began.elapsed());
        txns.extend(rig.read_for(Duration::from_millis(300)).await);
        stop.send_replace(true);
        assert!(task.await.unwrap() > 20, "the load runs");
        if round % 2 == 1 {
            let old = 1 - group.primary;
            group.servers[old]
                .mysqld
                .options_mut()
                .extra_args
                .push("--super-read-only=ON".into());
            group.servers[old].mysqld.launch().await.unwrap();
            group.follow().await;
        }
        let mut end = rig.passed;
        for txn in txns {
            assert!(have.add(txn.gtid), "round {round}: {} came twice", txn.gtid);
        }
        let executed = group.primary().executed().await;
        for txn in rig.read_all(&have, &executed).await {
            assert!(txn.end >= end, "places only grow");
            end = txn.end;
            have.add(txn.gtid);
        }
        assert_eq!(have, executed, "round {round}");
        let fence = rig
            .fence(u64::from(round))
            .await
            .expect("the new primary answers");
        rig.pass(fence).await;
    }
    println!(
        "{} failovers, the slowest took {slowest:?} to be read on",
        rounds()
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_new_primary_lacks_halts_with_the_exact_set() {
    let mut group = Group::start().await;
    let mut rig = Rig::spawn(group.config(), None);
    // The replica misses the last two.
    group.replica().sql("STOP REPLICA IO_THREAD").await;
    group
        .primary()
        .sql("INSERT INTO shop.t (v) VALUES ('a'); INSERT INTO shop.t (v) VALUES ('b')")
        .await;
    let have = group.primary().executed().await;
    rig.read_all(&GtidSet::new(), &have).await;
    let mut lost = have.clone();
    lost.subtract(&group.replica().executed().await);
    assert_eq!(lost.count(), 2);
    group.servers[0].mysqld.kill9();
    let text = rig.state("retrying").await;
    assert!(!text.is_empty());
    let trouble = rig.trouble(TroubleKind::NoPrimary).await;
    assert!(trouble.text.contains("is read-only"), "{trouble:?}");
    group.promote().await;
    group
        .primary()
        .sql("INSERT INTO shop.t (v) VALUES ('diverged')")
        .await;
    let text = rig.state("halted").await;
    assert!(
        text.contains(&format!(
            "already read from this node: {} ",
            lost.to_text_oneline()
        )),
        "{text}"
    );
    assert_eq!(
        rig.trouble(TroubleKind::GtidsLost).await.text,
        text["halted: ".len()..]
    );
    assert!(
        rig.read_for(Duration::from_millis(700)).await.is_empty(),
        "nothing is skipped"
    );
    // The operator brings the old one back and drops the new: it is found by itself.
    group.primary().sql("SET GLOBAL super_read_only = ON").await;
    group.primary = 0;
    group.servers[0].mysqld.launch().await.unwrap();
    rig.state("streaming").await;
    group
        .primary()
        .sql("INSERT INTO shop.t (v) VALUES ('c')")
        .await;
    assert_eq!(
        rig.read_all(&have, &group.primary().executed().await)
            .await
            .len(),
        1
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errant_transactions_are_named_before_and_after_a_failover() {
    let mut group = Group::start().await;
    let mut rig = Rig::spawn(group.config(), None);
    let have = group.primary().executed().await;
    rig.read_all(&GtidSet::new(), &have).await;
    rig.sound().await;
    group
        .replica()
        .sql("SET GLOBAL super_read_only = OFF; INSERT INTO shop.t (v) VALUES ('errant'); SET GLOBAL super_read_only = ON")
        .await;
    let mut errant = group.replica().executed().await;
    errant.subtract(&have);
    let name = errant.to_text_oneline();
    let trouble = rig.trouble(TroubleKind::ErrantTransactions).await;
    assert!(trouble.text.contains(&format!("has {name}")), "{trouble:?}");
    group.servers[0].mysqld.kill9();
    group.promote().await;
    let text = rig.state("halted").await;
    assert!(
        text.contains(&format!("never on the primary before it: {name}.")),
        "{text}"
    );
    assert!(
        rig.read_for(Duration::from_millis(700)).await.is_empty(),
        "nothing of it is passed on"
    );
    // Taken back: the old primary is brought back, with an empty transaction in place of the errant one.
    group.primary().sql("SET GLOBAL super_read_only = ON").await;
    group.primary = 0;
    group.servers[0].mysqld.launch().await.unwrap();
    group
        .primary()
        .sql(&format!(
            "SET gtid_next = '{name}'; BEGIN; COMMIT; SET gtid_next = AUTOMATIC"
        ))
        .await;
    rig.read_all(&have, &group.primary().executed().await).await;
    rig.sound().await;
    group.primary().sql("SET GLOBAL super_read_only = ON").await;
    group.promote().await;
    rig.state("streaming").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_primaries_are_not_chosen_between() {
    let mut group = Group::start().await;
    let mut rig = Rig::spawn(group.config(), None);
    let have = group.primary().executed().await;
    rig.read_all(&GtidSet::new(), &have).await;
    rig.sound().await;
    // A replica that was made writable too early: the primary is read on.
    group.promote().await;
    group.primary = 0;
    let trouble = rig.trouble(TroubleKind::TwoPrimaries).await;
    assert!(
        trouble.text.contains(&group.replica().url().to_string()),
        "{trouble:?}"
    );
    group
        .primary()
        .sql("INSERT INTO shop.t (v) VALUES ('a')")
        .await;
    let have = {
        let executed = group.primary().executed().await;
        rig.read_all(&have, &executed).await;
        executed
    };
    // But nothing is begun.
    let id: u64 = (group.primary().mysqld)
        .row("SELECT id FROM information_schema.processlist WHERE user = 'repl' AND command = 'Binlog Dump GTID' AND time < 600 ORDER BY id DESC")
        .await
        .unwrap();
    group.primary().sql(&format!("KILL {id}")).await;
    rig.state("retrying: several servers of this node are writable")
        .await;
    group.replica().sql("SET GLOBAL super_read_only = ON").await;
    rig.sound().await;
    group
        .primary()
        .sql("INSERT INTO shop.t (v) VALUES ('b')")
        .await;
    rig.read_all(&have, &group.primary().executed().await).await;
    rig.stop().await;
}
