//! Virtual time and everything that happens in it.
//!
//! In: a seed. Out: a [`Report`], or the first thing that went wrong. One thread; the queue of events decides what is next, the
//! seed's generator decides everything else.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use tributary_binlog::Sid;
use tributary_flow::{Fence, NodeId, NodeTable, OrderKey, OrderMode, SourcePos};
use tributary_merger::MergeError;
use tributary_schema::{ClusterSchema, SchemaRules};
use tributary_store::disk::{Fuse, Keep, Unsynced};
use tributary_store::kv::schema_state;
use tributary_store::verify::{VerifyOptions, committed_end, kept_branches, verify_dir};
use tributary_store::{
    MemDisk, MemKv, NodeSetChange, Opened, StoreOptions, WriteError, list_branches, open,
};

use crate::client;
use crate::cluster::{Cluster, Order};
use crate::faults::{Broken, Counts, Fault, Plan};
use crate::link::has_crc;
use crate::members::Members;
use crate::order;
use crate::reader::Reader;
use crate::replay;
use crate::rng::Rng;
use crate::service::{Service, Turn};

/// Virtual µs within which everything must have arrived once work and faults have ended.
const PATIENCE: u64 = 10_000_000;
/// Virtual µs within which a transaction arrives that nothing holds back, while only coordinators fail.
const FLOWS_WITHIN: u64 = 300_000;
/// Bytes that may wait in a connection.
const SOCKET_MAX: usize = 8_000;

/// Something that happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client begins something.
    Work,
    Order(Order),
    Fault,
    NodeUp(usize),
    NodeFast(usize),
    /// The service's life `.0` connects to a node.
    Connect(u64, usize),
    /// A node's dump thread looks for more, on a connection.
    Send(usize, u64),
    Arrive(usize, u64, Vec<u8>),
    /// A collector reads what has arrived.
    Collect(u64, usize),
    Merge(u64),
    /// A question arrives at a node.
    Ask(u64, usize, u64),
    Answer(u64, usize, u64, Option<SourcePos>),
    Append(u64),
    Commit(u64),
    Start,
    Read,
    /// A client comes, or somebody purges.
    Visit,
    /// Looks whether everything flows that can.
    Patrol,
    /// Somebody changes the nodes.
    Change,
    /// A step of a change, in the service's life `.0`.
    Point(u64),
}

impl Event {
    fn code(&self) -> u64 {
        match self {
            Self::Work => 1,
            Self::Order(_) => 2,
            Self::Fault => 3,
            Self::NodeUp(n) | Self::NodeFast(n) => 100 + *n as u64,
            Self::Connect(life, n) => 200 + life * 10 + *n as u64,
            Self::Send(n, _) => 10_000 + *n as u64,
            Self::Arrive(n, _, bytes) => 20_000 + *n as u64 * 10_000 + bytes.len() as u64,
            Self::Collect(_, n) => 300 + *n as u64,
            Self::Merge(_) => 4,
            Self::Ask(_, n, question) => 100_000 + question * 10 + *n as u64,
            Self::Answer(_, n, question, _) => 1_000_000 + question * 10 + *n as u64,
            Self::Append(_) => 5,
            Self::Commit(_) => 6,
            Self::Start => 7,
            Self::Read => 8,
            Self::Visit => 9,
            Self::Patrol => 10,
            Self::Change => 11,
            Self::Point(_) => 12,
        }
    }
}

/// What a run has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// A hash of every event and every byte.
    pub(crate) trace: u64,
    pub(crate) counts: Counts,
    pub(crate) transactions: usize,
    pub(crate) events: u64,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) now: u64,
    number: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub(crate) cluster: Cluster,
    pub(crate) members: Members,
    /// All nodes, those included that are not merged now.
    pub(crate) table: NodeTable,
    disk: MemDisk,
    kv: MemKv,
    pub(crate) service: Option<Service>,
    /// Number of the newest life of the service.
    pub(crate) life: u64,
    /// A store event is in the queue.
    pub(crate) storing: bool,
    /// The service was killed, or ended itself.
    crashed: bool,
    connections: u64,
    pub(crate) reader: Reader,
    fences: Vec<Fence>,
    /// Keys of all transactions that were handed to the store, by number.
    keys: Vec<OrderKey>,
    pub(crate) counts: Counts,
    trace: u64,
}

impl World {
    pub(crate) fn new(seed: u64, mode: OrderMode) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(mode, &mut rng);
        Self {
            cluster: Cluster::new(&plan, &mut rng),
            members: Members::new(&plan),
            table: NodeTable::new((0..plan.nodes).map(|n| format!("dn{n}"))),
            rng,
            plan,
            now: 0,
            number: 0,
            queue: BTreeMap::new(),
            disk: MemDisk::new(),
            kv: MemKv::new(),
            service: None,
            life: 0,
            storing: false,
            crashed: false,
            connections: 0,
            reader: Reader::default(),
            fences: Vec::new(),
            keys: Vec::new(),
            counts: Counts::default(),
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Runs until everything has arrived.
    pub(crate) fn run(mut self) -> Result<Report> {
        self.after(self.plan.start_at, Event::Start);
        for event in [
            Event::Work,
            Event::Fault,
            Event::Read,
            Event::Visit,
            Event::Patrol,
        ] {
            self.after(0, event);
        }
        if self.plan.change_every > 0 {
            self.after(self.plan.change_every, Event::Change);
        }
        for node in &self.cluster.nodes {
            if !has_crc(node) {
                self.counts.hit(Fault::WithoutChecksums);
            }
        }
        while !self
            .step()
            .with_context(|| format!("at {} µs, {:?}", self.now, self.plan))?
        {}
        self.last_checks().context("at the end")?;
        let seen: Vec<Vec<u8>> = self.reader.bytes().map(<[u8]>::to_vec).collect();
        for byte in seen.concat() {
            self.record(u64::from(byte));
        }
        Ok(Report {
            trace: self.trace,
            transactions: self.reader.order.len(),
            events: self.number,
            counts: self.counts,
        })
    }

    fn record(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x0000_0100_0000_01b3);
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.number += 1;
        self.queue.insert((self.now + delay, self.number), event);
    }

    /// Some time after now, up to `max`.
    pub(crate) fn soon(&mut self, max: u64, event: Event) {
        let delay = self.rng.range(1, max + 1);
        self.after(delay, event);
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.now < self.plan.busy_until
    }

    /// A chance that is none once faults have ended.
    fn fails(&mut self, percent: u64) -> bool {
        self.is_busy() && self.rng.percent(percent)
    }

    /// One event. Whether it was the last.
    fn step(&mut self) -> Result<bool> {
        let ((now, _), event) = self.queue.pop_first().context("nothing happens any more")?;
        self.now = now;
        self.record(now);
        self.record(event.code());
        self.record(self.rng.state());
        match event {
            Event::Work => self.work(),
            Event::Order(order) => self.order(order),
            Event::Fault => self.fault()?,
            Event::NodeUp(n) => {
                self.cluster.nodes[n].up = true;
                match self.cluster.nodes[n].fails_over {
                    true => self.fail_over(n),
                    false => self.cluster.nodes[n].open_file(),
                }
            }
            Event::NodeFast(n) => self.cluster.nodes[n].slow = 1,
            Event::Connect(life, n) => self.connect(life, n)?,
            Event::Send(n, connection) => self.send(n, connection),
            Event::Arrive(n, connection, bytes) => self.arrive(n, connection, &bytes),
            Event::Collect(life, n) => self.collect(life, n)?,
            Event::Merge(life) => return self.merge(life),
            Event::Ask(life, n, question) => self.asked(life, n, question),
            Event::Answer(life, n, question, pos) => return self.answer(life, n, question, pos),
            Event::Append(life) => self.append(life)?,
            Event::Commit(life) => self.commit(life)?,
            Event::Start => self.start()?,
            Event::Read => return self.read(),
            Event::Visit => self.visit()?,
            Event::Patrol => self.patrol()?,
            Event::Change => self.change()?,
            Event::Point(life) => self.point(life)?,
        }
        Ok(false)
    }

    fn work(&mut self) {
        if !self.is_busy() {
            return;
        }
        let Self {
            cluster,
            reader,
            rng,
            counts,
            ..
        } = self;
        let orders = cluster.work(self.now, reader.seen(), rng, counts);
        self.schedule(orders);
        self.soon(self.plan.work_every * 2, Event::Work);
    }

    fn schedule(&mut self, orders: Vec<Order>) {
        for order in orders {
            let max = match order {
                Order::Recover(_) => self.plan.found_after,
                Order::Ddl(..) => 50_000,
                Order::Branch(..) | Order::Decide(..) => 1_000 + self.plan.delay * 3,
            };
            self.soon(max, Event::Order(order));
        }
    }

    fn order(&mut self, order: Order) {
        let death = if self.is_busy() && self.rng.percent(20) {
            self.plan.coordinator_death
        } else {
            0
        };
        let Self {
            cluster,
            rng,
            counts,
            ..
        } = self;
        let orders = cluster.carry_out(self.now, order, death, rng, counts);
        self.schedule(orders);
    }

    fn fault(&mut self) -> Result<()> {
        if !self.is_busy() {
            if let Some(service) = &self.service {
                service.fuse.set(u64::MAX);
            }
            return Ok(());
        }
        let n = self.rng.below(self.plan.nodes);
        if self.cluster.nodes[n].up && self.rng.percent(self.plan.node_death) {
            self.counts.hit(Fault::NodeDeath);
            self.cluster.nodes[n].up = false;
            let mut side = Rng::new(self.rng.state());
            self.cluster.nodes[n].fails_over = side.percent(self.plan.failover);
            self.soon(200_000, Event::NodeUp(n));
            self.disconnect(n)?;
        } else if self.rng.percent(self.plan.disconnect) {
            self.counts.hit(Fault::Disconnect);
            self.disconnect(n)?;
        }
        if self.cluster.nodes[n].slow == 1 && self.rng.percent(self.plan.slow) {
            self.counts.hit(Fault::SlowNode);
            self.cluster.nodes[n].slow = self.rng.range(5, 50);
            self.soon(300_000, Event::NodeFast(n));
        }
        if self.rng.percent(self.plan.clock_jump) {
            self.counts.hit(Fault::ClockJump);
            self.cluster.nodes[n].skew = self.rng.range(0, self.plan.skew);
        }
        self.node_purges(n);
        if let Some(service) = &mut self.service
            && self.rng.percent(self.plan.disk_failure)
        {
            service.fuse.set(self.rng.range(0, 20));
            service.fuse.drop_pages(self.rng.percent(50));
        }
        if self.service.is_some() && self.rng.percent(self.plan.service_crash) {
            self.crash()?;
        }
        self.soon(self.plan.fault_every * 2, Event::Fault);
        Ok(())
    }

    /// A node purges what the service says it does not need any more.
    fn node_purges(&mut self, n: usize) {
        let mut side = Rng::new(self.rng.state());
        let Some(service) = &self.service else {
            return;
        };
        if !side.percent(self.plan.node_purge) {
            return;
        }
        let name = self.table.name(NodeId(n as u16));
        let Some(progress) = service.durable.nodes.get(name) else {
            return;
        };
        let gone = self.cluster.nodes[n].purge(&progress.emitted);
        if gone.iter().any(|gtid| progress.kept.contains(gtid)) {
            self.counts.hit(Fault::PurgedPrepare);
        }
        if !gone.is_empty() {
            self.counts.hit(Fault::NodePurged);
        }
    }

    fn disconnect(&mut self, n: usize) -> Result<()> {
        if let Some(service) = &mut self.service
            && let Some(link) = service.link(n)
        {
            link.disconnect(&mut self.counts)?;
            let life = service.life;
            self.soon(30_000, Event::Connect(life, n));
        }
        Ok(())
    }

    fn connect(&mut self, life: u64, n: usize) -> Result<()> {
        let up = self.cluster.nodes[n].up;
        let Some(service) = self.service.as_mut().filter(|s| s.life == life) else {
            return Ok(());
        };
        let Some(slot) = service.slot(n) else {
            return Ok(());
        };
        if service.links[slot].connection != 0 || self.members.is_switching() {
            return Ok(());
        }
        if !up {
            self.soon(30_000, Event::Connect(life, n));
            return Ok(());
        }
        self.connections += 1;
        let (node, start) = (&self.cluster.nodes[n], &self.plan.start);
        let before = service.links[slot].connect(node, start, &node.purged, self.connections)?;
        if let Some(before) = before {
            service
                .merger
                .set_before_start(NodeId(slot as u16), before.clone());
            if !before.is_empty() {
                self.counts.hit(Fault::StartCurrent);
            }
            self.cluster.starts[n] = before;
        }
        self.soon(self.plan.delay, Event::Send(n, self.connections));
        Ok(())
    }

    fn send(&mut self, n: usize, connection: u64) {
        let Some(service) = &mut self.service else {
            return;
        };
        let Some(link) = service.link(n) else {
            return;
        };
        let node = &self.cluster.nodes[n];
        let Some(session) = link
            .session
            .as_mut()
            .filter(|_| link.connection == connection)
        else {
            return;
        };
        let bytes = match link.socket.len() < SOCKET_MAX {
            true => session.dump.read(node, self.rng.range(1, 4_000) as usize),
            false => Vec::new(),
        };
        if std::mem::take(&mut session.dump.left_out) > 0 {
            self.counts.hit(Fault::LeftOut);
        }
        if bytes.is_empty() {
            return self.soon(3_000, Event::Send(n, connection));
        }
        let delay = self.plan.delay * node.slow;
        self.soon(delay, Event::Arrive(n, connection, bytes));
    }

    fn arrive(&mut self, n: usize, connection: u64, bytes: &[u8]) {
        let Some(service) = &mut self.service else {
            return;
        };
        let life = service.life;
        let Some(link) = service.link(n).filter(|l| l.connection == connection) else {
            return self.counts.hit(Fault::InFlightLost);
        };
        link.socket.extend_from_slice(bytes);
        self.soon(300, Event::Collect(life, n));
        self.soon(500, Event::Send(n, connection));
    }

    fn collect(&mut self, life: u64, n: usize) -> Result<()> {
        let Some(service) = self.service.as_mut().filter(|s| s.life == life) else {
            return Ok(());
        };
        let Some(link) = service.link(n) else {
            return Ok(());
        };
        let all = link.collect(&mut self.counts);
        if !all.with_context(|| format!("node {n}"))? {
            self.soon(2_000, Event::Collect(life, n));
        }
        Ok(())
    }

    /// A turn of the merger. Whether the story ends with it, because a promise was broken and the merger has noticed.
    fn merge(&mut self, life: u64) -> Result<bool> {
        let Some(service) = self.service.as_mut().filter(|s| s.life == life) else {
            return Ok(false);
        };
        let turn = service.merge(self.now, &mut self.keys, &mut self.rng, &mut self.counts)?;
        self.fences.append(&mut service.passed);
        let store = match turn {
            Turn::Went(store) => store,
            Turn::Halted(error) => return self.halted(&error),
        };
        let questions = service.ask(self.now, &mut self.counts);
        if store && !self.storing {
            self.storing = true;
            self.soon(300, Event::Append(life));
        }
        for (n, question) in questions {
            self.soon(self.plan.delay, Event::Ask(life, n, question));
        }
        self.soon(1_000, Event::Merge(life));
        Ok(false)
    }

    fn halted(&mut self, error: &MergeError) -> Result<bool> {
        let broken = self.plan.broken.filter(|_| self.cluster.broken.is_some());
        let broken = broken.with_context(|| {
            let ids = self.cluster.truth.keys();
            let histories = ids.map(|id| order::history(&self.cluster, *id));
            let named = |h: &String| h.contains("Prepare") && named_in(&error.to_string(), h);
            let histories: Vec<String> = histories.filter(named).take(1).collect();
            format!(
                "the merger refuses a right stream: {error}\n{}",
                histories.concat()
            )
        })?;
        let named = format!("{error:?}");
        ensure!(
            named.starts_with(broken.error()),
            "{broken:?} is called {named}"
        );
        self.counts.hit(match broken {
            Broken::TwoTimestamps(_) => Fault::TwoTimestamps,
            Broken::OracleBack(_) => Fault::OracleBack,
        });
        if let Some(service) = &self.service {
            self.reader.follow(&service.log, &self.cluster)?;
        }
        Ok(true)
    }

    fn asked(&mut self, life: u64, n: usize, question: u64) {
        let fails = self.fails(self.plan.fence_failure) || !self.cluster.nodes[n].up;
        let node = &self.cluster.nodes[n];
        let link = self.service.as_mut().and_then(|s| s.link(n));
        let pos = link.map_or(Some(node.end()), |link| link.end_of(node));
        let (pos, delay) = (pos.filter(|_| !fails), self.plan.delay * node.slow);
        if pos.is_none() {
            self.counts.hit(Fault::FenceFailure);
        }
        self.soon(delay, Event::Answer(life, n, question, pos));
    }

    fn answer(
        &mut self,
        life: u64,
        n: usize,
        question: u64,
        pos: Option<SourcePos>,
    ) -> Result<bool> {
        let Some(service) = &mut self.service else {
            return Ok(false);
        };
        if service.life != life {
            self.counts.hit(Fault::StaleFenceAnswer);
            return Ok(false);
        }
        let answered = service.answer(self.now, n, question, pos, &mut self.counts);
        // It may have taken effect at once: here, not where the next turn will be.
        self.fences.extend(service.merger.take_passed_fences());
        match answered {
            Ok(()) => Ok(false),
            Err(error) => self.halted(&error),
        }
    }

    fn append(&mut self, life: u64) -> Result<()> {
        let Some(service) = self.service.as_mut().filter(|s| s.life == life) else {
            return Ok(());
        };
        match service.append() {
            Err(e) => return self.store_failed(&e),
            Ok(true) if self.rng.percent(40) => self.soon(300, Event::Append(life)),
            Ok(false) if !service.appended => self.storing = false,
            Ok(_) => self.soon(4_000, Event::Commit(life)),
        }
        Ok(())
    }

    fn commit(&mut self, life: u64) -> Result<()> {
        let Some(service) = self.service.as_mut().filter(|s| s.life == life) else {
            return Ok(());
        };
        let flush = self.rng.percent(2);
        if flush {
            self.counts.hit(Fault::FlushLogs);
        }
        if let Err(e) = service.commit(flush) {
            return self.store_failed(&e);
        }
        self.reader.published(&service.log.durable())?;
        if self.rng.percent(30) {
            self.reader.follow(&service.log, &self.cluster)?;
        }
        self.soon(500, Event::Append(life));
        Ok(())
    }

    /// The process ends itself.
    pub(crate) fn store_failed(&mut self, error: &WriteError) -> Result<()> {
        let service = self.service.as_mut().context("it has just failed")?;
        ensure!(
            service.fuse.blown(),
            "the store fails on a sound disk: {error}"
        );
        ensure!(service.is_poisoned(), "a store that has failed goes on");
        let text = error.to_string();
        if text.starts_with("syncing") {
            self.counts.hit(Fault::PagesDropped);
        }
        self.counts.hit(match text {
            _ if text.starts_with("syncing") => Fault::FailedSync,
            _ if text.starts_with("writing") => Fault::FailedWrite,
            _ => Fault::FailedIndex,
        });
        self.crash()
    }

    /// The process ends, alone or with the machine.
    fn crash(&mut self) -> Result<()> {
        let service = self.service.take().context("it was running")?;
        self.reader.published(&service.log.durable())?;
        if self.rng.percent(50) {
            self.reader.follow(&service.log, &self.cluster)?;
        }
        if service.appended {
            self.counts.hit(Fault::CrashBetweenAppendAndCommit);
        }
        drop(service);
        self.storing = false;
        self.crashed = true;
        if self.members.interrupted() {
            self.counts.hit(Fault::CrashInChange);
        }
        self.lose();
        self.soon(60_000, Event::Start);
        Ok(())
    }

    fn lose(&mut self) {
        if self.rng.percent(50) {
            self.counts.hit(Fault::ServiceKilled);
            // The page cache survives; what RocksDB finds in its log it makes durable when it is opened.
            self.kv = self.kv.crash_keep(self.kv.unsynced());
            return;
        }
        self.counts.hit(Fault::PowerFailure);
        let kept = self.rng.below(self.kv.unsynced() + 1);
        self.kv = self.kv.crash_keep(kept);
        let (rng, counts) = (&mut self.rng, &mut self.counts);
        self.disk = self.disk.crash_keep(|change| match (rng.below(4), change) {
            (0, Unsynced::Name { .. }) => {
                counts.hit(Fault::LostName);
                Keep::Nothing
            }
            (0, _) => {
                counts.hit(Fault::LostWrite);
                Keep::Nothing
            }
            (1, Unsynced::Write { len, .. }) => {
                counts.hit(Fault::TornWrite);
                Keep::Part(rng.below(len + 1))
            }
            (2, Unsynced::Write { .. }) => {
                counts.hit(Fault::ZeroedWrite);
                Keep::Zeros
            }
            _ => Keep::All,
        });
    }

    fn start(&mut self) -> Result<()> {
        let fuse = Fuse::new();
        if self.fails(self.plan.recovery_crash) {
            fuse.set(self.rng.range(0, 8));
        }
        let disk = Arc::new(self.disk.fused(&fuse));
        let mut opened = match open(disk, Arc::new(self.kv.fused(&fuse)), self.options()) {
            Ok(opened) => opened,
            Err(e) => {
                ensure!(fuse.blown(), "the store can not be opened: {e}");
                self.counts.hit(Fault::CrashInRecovery);
                self.lose();
                self.soon(20_000, Event::Start);
                return Ok(());
            }
        };
        fuse.set(u64::MAX);
        if opened.truncated.is_some() {
            self.counts.hit(Fault::BytesCut);
        }
        self.reader.compare(&opened.log)?;
        self.reader.follow(&opened.log, &self.cluster)?;
        if self.plan.change_every > 0 {
            self.nodes_are_told(&mut opened)?;
        }
        if let Some(checkpoint) = &opened.checkpoint {
            order::checkpoint_is_exact(&self.cluster, &self.table, checkpoint, &self.reader)?;
        }
        order::commit_before_prepare(&self.cluster, &self.reader.order)?;
        order::nothing_is_skipped(&self.cluster, &self.reader)?;
        // What is not there never happened.
        self.keys.truncate(opened.log.durable().last_gno as usize);
        self.life += 1;
        let table = self.members.table();
        let schema = self.schema(&table)?;
        let plan = &self.plan;
        let service = Service::new(self.life, self.now, &table, plan, opened, schema, fuse);
        let service = service.context("kept branches")?;
        if !service.merger.kept().is_empty() {
            self.counts.hit(Fault::KeptOverRestart);
        }
        self.begin(service);
        Ok(())
    }

    /// The nodes are those that the store tells, from the first start on.
    fn nodes_are_told(&mut self, opened: &mut Opened) -> Result<()> {
        if let Some(set) = &opened.nodes {
            let checkpoint = opened.checkpoint.clone().unwrap_or_default();
            return self.adopt(set, &checkpoint);
        }
        let nodes = self.members.set();
        let change = NodeSetChange {
            nodes,
            ..NodeSetChange::default()
        };
        opened.writer.change_nodes(change)?;
        Ok(())
    }

    /// A pipeline begins.
    pub(crate) fn begin(&mut self, service: Service) {
        self.service = Some(service);
        for n in self.members.now.clone() {
            self.soon(20_000, Event::Connect(self.life, n));
        }
        self.soon(1_000, Event::Merge(self.life));
    }

    /// What is stored of the schemas of these nodes.
    pub(crate) fn schema(&self, table: &NodeTable) -> Result<ClusterSchema> {
        let names = table.iter().map(|(_, name)| name);
        let pairs = schema_state(&self.kv)?;
        let renamed = std::collections::BTreeMap::new();
        Ok(ClusterSchema::resume(
            SchemaRules::default(),
            names,
            &renamed,
            &pairs,
        )?)
    }

    fn options(&self) -> StoreOptions {
        StoreOptions {
            base_name: "binlog".to_owned(),
            max_binlog_size: self.plan.file_max,
            server_id: 4294,
            server_version: "8.4.9-tributary".to_owned(),
            new_uuid: Sid([0xab; 16]),
            now_seconds: 1_700_000_000,
        }
    }

    /// The reader's turn. Whether everything has arrived.
    fn read(&mut self) -> Result<bool> {
        if let Some(service) = &self.service {
            self.reader.follow(&service.log, &self.cluster)?;
            let open_promise = self.cluster.broken.is_some();
            if !self.is_busy()
                && !open_promise
                && self.cluster.is_quiet()
                && self.is_complete(service)
            {
                return Ok(true);
            }
        }
        if self.now > self.plan.busy_until + self.plan.found_after + PATIENCE {
            let blocked = self.service.as_ref().map(|s| s.merger.blocked());
            ensure!(
                self.cluster.broken.is_none(),
                "a broken promise was not noticed"
            );
            let checkpoint = self.service.as_ref().map(|s| s.merger.checkpoint());
            let stuck = order::stuck(&self.cluster, &self.table, &checkpoint.unwrap_or_default());
            order::complete(&self.cluster, &self.reader)
                .with_context(|| format!("blocked: {blocked:?}, first missing: {stuck}"))?;
            bail!("not every source transaction is done with; blocked: {blocked:?}");
        }
        self.soon(4_000, Event::Read);
        Ok(false)
    }

    fn visit(&mut self) -> Result<()> {
        if let Some(service) = &self.service {
            let visited = client::visit(&service.log, &mut self.rng, &mut self.counts);
            visited.context("a client by GTID")?;
        }
        if self.is_busy() && self.service.is_some() && self.rng.percent(self.plan.purge) {
            self.purge()?;
        }
        self.soon(60_000, Event::Visit);
        Ok(())
    }

    /// Somebody purges while somebody reads.
    fn purge(&mut self) -> Result<()> {
        let Some(service) = self.service.as_mut() else {
            return Ok(());
        };
        self.reader.follow(&service.log, &self.cluster)?;
        let files = service.log.files();
        let (to, read) = (self.rng.below(files.len()), self.rng.below(files.len()));
        let (target, read_file) = (files[to].file.clone(), files[read].file.clone());
        let reading = service.log.open(&read_file)?;
        // The database may say so and the process end before it says that it has done it.
        self.reader.purged(target.seq());
        match service.writer.purge_to(target.as_str()) {
            Ok(n) => {
                ensure!(n == to.min(read) as u64, "{n} files purged, {to} asked for");
                self.counts.hit(Fault::Purge);
                if read < to {
                    self.counts.hit(Fault::PurgeStoppedByReader);
                }
                let first = service.log.files().first().map(|f| f.file.clone());
                ensure!(
                    first.as_ref() == Some(&files[to.min(read)].file),
                    "{first:?}"
                );
            }
            Err(e) => {
                ensure!(service.fuse.blown(), "a purge fails on a sound disk: {e}");
                service.fuse.set(u64::MAX);
                self.counts.hit(Fault::FailedPurge);
                drop(reading);
                return self.crash();
            }
        }
        let mut bytes = vec![0; files[read].size as usize];
        reading.read_at(0, &mut bytes)?;
        let seen = self.reader.seen_of(read_file.as_str());
        ensure!(
            seen == Some(&bytes),
            "{read_file} has changed under a reader"
        );
        let gone = files.iter().take(to.min(read));
        for info in gone {
            ensure!(
                self.disk.bytes(info.file.as_str()).is_none(),
                "{info:?} is still there"
            );
        }
        Ok(())
    }

    /// While nothing fails but coordinators, what does not wait for one of them arrives.
    fn patrol(&mut self) -> Result<()> {
        if self.plan.in_doubt {
            let moment = self.now.saturating_sub(FLOWS_WITHIN);
            order::flows(&self.cluster, &self.reader, moment)?;
            self.soon(40_000, Event::Patrol);
        }
        Ok(())
    }

    /// Whether every source transaction is done with and everything due is seen.
    fn is_complete(&self, service: &Service) -> bool {
        let checkpoint = service.merger.checkpoint();
        if self.members.is_switching() {
            return false;
        }
        let done = |(n, name): (usize, &str)| {
            if !self.members.now.contains(&n) {
                return true;
            }
            let emitted = checkpoint.nodes.get(name).map_or(0, |p| p.emitted.count());
            emitted == self.cluster.nodes[n].gno
        };
        let all = self.table.iter().all(|(id, name)| done((id.index(), name)));
        let seen = |(id, t): (&u64, &crate::truth::Truth)| {
            !self.cluster.is_due(*id, t) || self.reader.has(*id)
        };
        all && self.cluster.truth.iter().all(seen)
    }

    fn last_checks(&mut self) -> Result<()> {
        order::commit_before_prepare(&self.cluster, &self.reader.order)?;
        order::nothing_is_skipped(&self.cluster, &self.reader)?;
        if self.reader.files() > 1 {
            self.counts.hit(Fault::OwnRotation);
        }
        self.disk_is_sound()?;
        let kept = list_branches(&self.kv)?;
        order::kept_is_open(&self.cluster, &self.reader, &kept)?;
        if self.cluster.broken.is_some() {
            return Ok(());
        }
        order::complete(&self.cluster, &self.reader)?;
        self.count_cuts();
        if !self.crashed && !self.members.changed {
            self.counts.hit(Fault::WithoutServiceCrash);
            self.same_again()?;
        }
        Ok(())
    }

    /// What `tributary verify` says.
    fn disk_is_sound(&self) -> Result<()> {
        let options = VerifyOptions {
            committed_end: committed_end(&self.kv)?,
            kept: kept_branches(&self.kv)?,
            ..VerifyOptions::default()
        };
        let report = verify_dir(&self.disk, &options);
        ensure!(report.is_clean(), "{:?}", report.faults);
        Ok(())
    }

    fn count_cuts(&mut self) {
        let starts = &self.cluster.starts;
        let mut cut = (self.cluster.truth.iter()).filter(|(_, t)| t.is_cut(starts));
        if cut.any(|(id, t)| self.cluster.is_due(*id, t)) {
            self.counts.hit(Fault::CutByStart);
        }
        if self
            .service
            .as_ref()
            .is_some_and(|s| s.merger.orphans() > 0)
        {
            self.counts.hit(Fault::OrphanCommit);
        }
    }

    /// The order of reading everything, sorting and grouping; and of the same inputs in another interleaving.
    fn same_again(&mut self) -> Result<()> {
        let (order, cluster) = (&self.reader.order, &self.cluster);
        if !cluster.is_causal() && cluster.unstamped.is_empty() {
            self.counts.hit(Fault::ComparedWithNaive);
            let naive = order::naive(cluster, &self.fences)?;
            let first = naive.iter().zip(order).position(|(a, b)| a != b);
            ensure!(
                naive == *order,
                "not the naive order, from place {first:?} on"
            );
        }
        // Whether a branch was rolled back in another's time is told by clocks.
        let heuristic = cluster
            .truth
            .values()
            .any(crate::truth::Truth::is_heuristic);
        if self.plan.reuse_seen || heuristic && self.plan.skew > 1 {
            return Ok(());
        }
        self.counts.hit(Fault::Replayed);
        let again = replay::order(cluster, &self.table, &self.fences, &mut self.rng)?;
        let statement = |id: &u64| match cluster.truth[id].ddl {
            Some(_) => 0,
            None => *id,
        };
        let order: Vec<u64> = order.iter().map(statement).collect();
        let first = again.iter().zip(&order).position(|(a, b)| a != b);
        let at = first.unwrap_or(order.len().min(again.len()));
        let show = |ids: &[u64]| -> String {
            let ids = ids.iter().skip(at).take(2);
            ids.map(|id| format!("{id}\n{}\n", order::history(cluster, *id)))
                .collect()
        };
        ensure!(
            again == order,
            "{} transactions, {} the second time; from place {at} on:\n{}-- but then --\n{}",
            order.len(),
            again.len(),
            show(&order),
            show(&again)
        );
        Ok(())
    }
}

/// Whether an error names the gtrid that a history is about.
fn named_in(error: &str, history: &str) -> bool {
    let gtrid = history
        .split("XaXid(")
        .nth(1)
        .and_then(|h| h.split(',').next());
    gtrid.is_some_and(|gtrid| error.contains(gtrid))
}
