//! Virtual time and everything that happens in it.
//!
//! In: a seed. Out: a [`Report`], or the first thing that went wrong. One thread; the queue of events decides what is next, the
//! seed's generator decides everything else.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use tributary_binlog::Sid;
use tributary_flow::{Fence, NodeItem, NodeTable, SourcePos};
use tributary_store::disk::{Fuse, Keep, Unsynced};
use tributary_store::{MemDisk, MemKv, StoreOptions, WriteError, open};

use crate::cluster::{Cluster, Order};
use crate::faults::{Counts, Fault, Plan};
use crate::order;
use crate::reader::Reader;
use crate::rng::Rng;
use crate::service::Service;

/// Virtual µs within which everything must have arrived once work and faults have ended.
const PATIENCE: u64 = 10_000_000;

/// Something that happens at a moment.
#[derive(Debug)]
enum Event {
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
    Arrive(usize, u64, Vec<NodeItem>),
    Merge(u64),
    /// A question arrives at a node.
    Ask(u64, usize, u64),
    Answer(u64, usize, u64, Option<SourcePos>),
    Append(u64),
    Commit(u64),
    Start,
    Read,
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
            Self::Arrive(n, _, items) => 20_000 + *n as u64 * 1_000 + items.len() as u64,
            Self::Merge(_) => 4,
            Self::Ask(_, n, question) => 100_000 + question * 10 + *n as u64,
            Self::Answer(_, n, question, _) => 1_000_000 + question * 10 + *n as u64,
            Self::Append(_) => 5,
            Self::Commit(_) => 6,
            Self::Start => 7,
            Self::Read => 8,
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
    rng: Rng,
    plan: Plan,
    now: u64,
    number: u64,
    queue: BTreeMap<(u64, u64), Event>,
    cluster: Cluster,
    table: NodeTable,
    disk: MemDisk,
    kv: MemKv,
    service: Option<Service>,
    /// Number of the newest life of the service.
    life: u64,
    /// A store event is in the queue.
    storing: bool,
    connections: u64,
    reader: Reader,
    fences: Vec<Fence>,
    counts: Counts,
    trace: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng);
        Self {
            cluster: Cluster::new(&plan, &mut rng),
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
            connections: 0,
            reader: Reader::default(),
            fences: Vec::new(),
            counts: Counts::default(),
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Runs until everything has arrived.
    pub(crate) fn run(mut self) -> Result<Report> {
        for event in [Event::Start, Event::Work, Event::Fault, Event::Read] {
            self.after(0, event);
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
    fn soon(&mut self, max: u64, event: Event) {
        let delay = self.rng.range(1, max + 1);
        self.after(delay, event);
    }

    fn is_busy(&self) -> bool {
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
                self.cluster.nodes[n].rotate();
            }
            Event::NodeFast(n) => self.cluster.nodes[n].slow = 1,
            Event::Connect(life, n) => self.connect(life, n),
            Event::Send(n, connection) => self.send(n, connection),
            Event::Arrive(n, connection, items) => self.arrive(n, connection, items),
            Event::Merge(life) => self.merge(life)?,
            Event::Ask(life, n, question) => self.asked(life, n, question),
            Event::Answer(life, n, question, pos) => self.answer(life, n, question, pos),
            Event::Append(life) => self.append(life)?,
            Event::Commit(life) => self.commit(life)?,
            Event::Start => self.start()?,
            Event::Read => return self.read(),
        }
        Ok(false)
    }

    fn work(&mut self) {
        if !self.is_busy() {
            return;
        }
        let Self {
            cluster,
            plan,
            rng,
            counts,
            ..
        } = self;
        let orders = cluster.work(self.now, plan, rng, counts);
        self.schedule(orders);
        self.soon(self.plan.work_every * 2, Event::Work);
    }

    fn schedule(&mut self, orders: Vec<Order>) {
        for order in orders {
            let max = match order {
                Order::Recover(_) => 200_000,
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
            self.soon(200_000, Event::NodeUp(n));
            self.disconnect(n);
        } else if self.rng.percent(self.plan.disconnect) {
            self.counts.hit(Fault::Disconnect);
            self.disconnect(n);
        }
        if self.cluster.nodes[n].slow == 1 && self.rng.percent(self.plan.slow) {
            self.counts.hit(Fault::SlowNode);
            self.cluster.nodes[n].slow = self.rng.range(5, 50);
            self.soon(300_000, Event::NodeFast(n));
        }
        if self.rng.percent(self.plan.clock_jump) {
            self.counts.hit(Fault::ClockJump);
            self.cluster.nodes[n].skew = self.rng.range(0, 300_000);
        }
        if let Some(service) = &mut self.service
            && self.rng.percent(self.plan.disk_failure)
        {
            service.fuse.set(self.rng.range(0, 20));
        }
        if self.service.is_some() && self.rng.percent(self.plan.service_crash) {
            self.crash()?;
        }
        self.soon(self.plan.fault_every * 2, Event::Fault);
        Ok(())
    }

    fn disconnect(&mut self, n: usize) {
        if let Some(service) = &mut self.service {
            service.links[n].connection = 0;
            let life = service.life;
            self.soon(30_000, Event::Connect(life, n));
        }
    }

    fn connect(&mut self, life: u64, n: usize) {
        let up = self.cluster.nodes[n].up;
        let Some(service) = self.service.as_mut().filter(|s| s.life == life) else {
            return;
        };
        if service.links[n].connection != 0 {
            return;
        }
        if !up {
            return self.soon(30_000, Event::Connect(life, n));
        }
        self.connections += 1;
        let link = &mut service.links[n];
        link.connection = self.connections;
        link.cursor = self.cluster.nodes[n].dump_start(&link.have);
        self.soon(self.plan.delay, Event::Send(n, self.connections));
    }

    fn send(&mut self, n: usize, connection: u64) {
        let Some(service) = &mut self.service else {
            return;
        };
        let (link, node) = (&mut service.links[n], &self.cluster.nodes[n]);
        if link.connection != connection {
            return;
        }
        if link.queue.len() >= self.plan.queue_max {
            self.counts.hit(Fault::BackPressure);
            return self.soon(2_000, Event::Send(n, connection));
        }
        let max = self.rng.range(1, 20) as usize;
        let items = node.dump(link.cursor, max, &link.have);
        if items.is_empty() {
            return self.soon(3_000, Event::Send(n, connection));
        }
        let sent = node.entries[link.cursor..].iter().zip(&items);
        if sent
            .clone()
            .any(|(e, i)| matches!((&e.item, i), (NodeItem::Txn(_), NodeItem::Position(_))))
        {
            self.counts.hit(Fault::Resent);
        }
        link.cursor += items.len();
        let delay = self.plan.delay * node.slow;
        self.soon(delay, Event::Arrive(n, connection, items));
    }

    fn arrive(&mut self, n: usize, connection: u64, items: Vec<NodeItem>) {
        let Some(service) = &mut self.service else {
            return;
        };
        if service.links[n].connection != connection {
            return self.counts.hit(Fault::InFlightLost);
        }
        service.arrive(n, items);
        self.soon(500, Event::Send(n, connection));
    }

    fn merge(&mut self, life: u64) -> Result<()> {
        let Some(service) = self.service.as_mut().filter(|s| s.life == life) else {
            return Ok(());
        };
        let store = service.merge(self.now, &mut self.rng, &mut self.counts)?;
        self.fences.append(&mut service.passed);
        let questions = service.ask(self.now);
        if store && !self.storing {
            self.storing = true;
            self.soon(300, Event::Append(life));
        }
        for (n, question) in questions {
            self.soon(self.plan.delay, Event::Ask(life, n, question));
        }
        self.soon(1_000, Event::Merge(life));
        Ok(())
    }

    fn asked(&mut self, life: u64, n: usize, question: u64) {
        let fails = self.fails(self.plan.fence_failure) || !self.cluster.nodes[n].up;
        let node = &self.cluster.nodes[n];
        let (pos, delay) = ((!fails).then(|| node.end()), self.plan.delay * node.slow);
        if fails {
            self.counts.hit(Fault::FenceFailure);
        }
        self.soon(delay, Event::Answer(life, n, question, pos));
    }

    fn answer(&mut self, life: u64, n: usize, question: u64, pos: Option<SourcePos>) {
        let Some(service) = &mut self.service else {
            return;
        };
        if service.life != life {
            return self.counts.hit(Fault::StaleFenceAnswer);
        }
        service.answer(self.now, n, question, pos, &mut self.counts);
        // It may have taken effect at once: here, not where the next turn will be.
        self.fences.extend(service.merger.take_passed_fences());
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
    fn store_failed(&mut self, error: &WriteError) -> Result<()> {
        let service = self.service.as_mut().context("it has just failed")?;
        ensure!(
            service.fuse.blown(),
            "the store fails on a sound disk: {error}"
        );
        ensure!(service.is_poisoned(), "a store that has failed goes on");
        let text = error.to_string();
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
        let opened = match open(disk, Arc::new(self.kv.fused(&fuse)), self.options()) {
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
        if let Some(checkpoint) = &opened.checkpoint {
            order::checkpoint_is_exact(&self.cluster, &self.table, checkpoint, &self.reader)?;
        }
        order::commit_before_prepare(&self.cluster, &self.reader.order)?;
        self.life += 1;
        self.service = Some(Service::new(self.life, self.now, &self.table, opened, fuse));
        for n in 0..self.plan.nodes {
            self.soon(20_000, Event::Connect(self.life, n));
        }
        self.soon(1_000, Event::Merge(self.life));
        Ok(())
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
            if !self.is_busy() && self.cluster.is_quiet() && self.is_complete(service) {
                return Ok(true);
            }
        }
        if self.now > self.plan.busy_until + PATIENCE {
            let blocked = self.service.as_ref().map(|s| s.merger.blocked());
            order::complete(&self.cluster, &self.reader)
                .with_context(|| format!("blocked: {blocked:?}"))?;
            bail!("not every source transaction is done with; blocked: {blocked:?}");
        }
        self.soon(4_000, Event::Read);
        Ok(false)
    }

    /// Whether every source transaction is done with and everything due is seen.
    fn is_complete(&self, service: &Service) -> bool {
        let checkpoint = service.merger.checkpoint();
        let done = |(n, name): (usize, &str)| {
            let emitted = checkpoint.nodes.get(name).map_or(0, |p| p.emitted.count());
            emitted == self.cluster.nodes[n].gno
        };
        let all = self.table.iter().all(|(id, name)| done((id.index(), name)));
        all && self
            .cluster
            .truth
            .iter()
            .all(|(id, t)| !t.is_due() || self.reader.has(*id))
    }

    fn last_checks(&mut self) -> Result<()> {
        order::complete(&self.cluster, &self.reader)?;
        order::commit_before_prepare(&self.cluster, &self.reader.order)?;
        if self.reader.files() > 1 {
            self.counts.hit(Fault::OwnRotation);
        }
        if self.life == 1 {
            self.counts.hit(Fault::WithoutServiceCrash);
            let naive = order::naive(&self.cluster, &self.fences);
            let first = naive
                .iter()
                .zip(&self.reader.order)
                .position(|(a, b)| a != b);
            ensure!(
                naive == self.reader.order,
                "not the naive order, from place {first:?} on"
            );
        }
        Ok(())
    }
}
