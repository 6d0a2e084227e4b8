//! A client of the merged log. In: the log as readers see it, never past the durable end. Out: an error as soon as anything
//! is wrong with it: bytes that change, an end that goes back, a gap, half a transaction, one too many.
//!
//! It outlives the service: what it has seen once must be there after every crash.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use tributary_binlog::{
    ChecksumAlg, EventReader, EventType, GtidEvent, MAGIC, PreviousGtids, QueryEvent, RawEvent,
};
use tributary_store::{DurableEnd, GlobalLog};

use crate::body::{self, Row};
use crate::client;
use crate::cluster::Cluster;
use crate::truth::Fate;

/// A transaction that is being read.
#[derive(Debug, Default)]
struct Open {
    rows: Vec<Row>,
    sql: Option<String>,
    tables: BTreeMap<u64, u16>,
    original: u64,
    began: bool,
}

#[derive(Default)]
pub(crate) struct Reader {
    /// Everything seen, by file.
    files: BTreeMap<String, Vec<u8>>,
    /// How far each file is decoded.
    decoded: BTreeMap<String, usize>,
    open: Option<Open>,
    last_gno: u64,
    /// Greatest durable end ever published: file number and offset.
    end: (u64, u64),
    last_tso: u64,
    /// Ids of transactions, in the order of the merged log.
    pub(crate) order: Vec<u64>,
    seen: BTreeSet<u64>,
    /// Parts that came on their own.
    parts: BTreeSet<(u64, usize)>,
    /// How often each statement has come.
    statements: BTreeMap<String, usize>,
    /// The balances, by node and account.
    balances: BTreeMap<(u16, u32), i64>,
    /// Files with a lesser number may have been purged.
    purged_before: u64,
}

impl Reader {
    pub(crate) fn has(&self, id: u64) -> bool {
        self.seen.contains(&id)
    }

    /// Whether the part of a transaction on a node has come on its own.
    pub(crate) fn has_part(&self, id: u64, node: usize) -> bool {
        self.parts.contains(&(id, node))
    }

    /// Everything seen, for the trace.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.files.values().map(Vec::as_slice)
    }

    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// Everything that was seen of a file.
    pub(crate) fn seen_of(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    pub(crate) fn seen(&self) -> &BTreeSet<u64> {
        &self.seen
    }

    /// Files before this number may be gone from now on.
    pub(crate) fn purged(&mut self, before: u64) {
        self.purged_before = self.purged_before.max(before);
    }

    /// A durable end that somebody may have seen.
    pub(crate) fn published(&mut self, end: &DurableEnd) -> Result<()> {
        let now = (end.file.seq(), end.offset);
        ensure!(
            now >= self.end,
            "the durable end went back from {:?} to {now:?}",
            self.end
        );
        self.end = now;
        Ok(())
    }

    /// The service has recovered: what was seen must be what is there.
    pub(crate) fn compare(&mut self, log: &GlobalLog) -> Result<()> {
        self.published(&log.durable())?;
        for (name, seen) in &self.files {
            let seq = tributary_binlog::BinlogFile::parse(name)?.seq();
            let Some(info) = log.find(name) else {
                ensure!(seq < self.purged_before, "{name} is gone");
                continue;
            };
            ensure!(
                info.size >= seen.len() as u64,
                "{name} has shrunk behind a reader"
            );
            let mut now = vec![0; seen.len()];
            log.open(&info.file)?.read_at(0, &mut now)?;
            ensure!(now == *seen, "{name}: bytes that were seen have changed");
        }
        Ok(())
    }

    /// Reads up to the durable end.
    pub(crate) fn follow(&mut self, log: &GlobalLog, cluster: &Cluster) -> Result<()> {
        self.published(&log.durable())?;
        for info in log.files() {
            let name = info.file.as_str().to_owned();
            let seen = self.files.entry(name.clone()).or_default();
            let from = seen.len();
            ensure!(info.size >= from as u64, "{name} became shorter");
            seen.resize(info.size as usize, 0);
            let n = log
                .open(&info.file)?
                .read_at(from as u64, &mut seen[from..])?;
            ensure!(
                n == seen.len() - from,
                "{name}: {n} bytes of {}",
                seen.len() - from
            );
            self.decode(&name, log, cluster)
                .with_context(|| name.clone())?;
            ensure!(
                self.open.is_none(),
                "the durable end of {name} is inside a transaction"
            );
        }
        let last = log.durable().last_gno;
        ensure!(
            last == self.last_gno,
            "read {} transactions, {last} are durable",
            self.last_gno
        );
        Ok(())
    }

    fn decode(&mut self, name: &str, log: &GlobalLog, cluster: &Cluster) -> Result<()> {
        let bytes = self.files.remove(name).unwrap_or_default();
        let from = self.decoded.get(name).copied().unwrap_or(0);
        let (skip, alg) = match from {
            0 => (MAGIC.len(), ChecksumAlg::None),
            from => (from, ChecksumAlg::Crc32),
        };
        ensure!(bytes.starts_with(&MAGIC), "no binlog");
        let mut events = EventReader::new(bytes.get(skip..).unwrap_or_default(), alg);
        while let Some(event) = events.next()? {
            let end = (skip + events.offset()) as u32;
            ensure!(
                event.header.log_pos == end,
                "log_pos {} at {end}",
                event.header.log_pos
            );
            self.event(&event, cluster)?;
            if event.header.event_type == EventType::PREVIOUS_GTIDS {
                let previous = PreviousGtids::parse(event.body)?.0;
                let behind = previous == client::first(log, self.last_gno);
                ensure!(behind, "PREVIOUS_GTIDS {previous} behind {}", self.last_gno);
            }
        }
        self.decoded.insert(name.to_owned(), bytes.len());
        self.files.insert(name.to_owned(), bytes);
        Ok(())
    }

    fn event(&mut self, event: &RawEvent<'_>, cluster: &Cluster) -> Result<()> {
        let event_type = event.header.event_type;
        if event_type == EventType::GTID {
            ensure!(self.open.is_none(), "a transaction inside another");
            let gtid = GtidEvent::parse(event_type, event.body)?;
            let gno = gtid.gtid.context("anonymous")?.gno.get();
            ensure!(
                gno == self.last_gno + 1,
                "GTID {gno} after {}",
                self.last_gno
            );
            self.last_gno = gno;
            self.open = Some(Open {
                original: gtid.original_commit_ts,
                ..Open::default()
            });
            return Ok(());
        }
        let Some(open) = &mut self.open else {
            let structure = [
                EventType::FORMAT_DESCRIPTION,
                EventType::PREVIOUS_GTIDS,
                EventType::ROTATE,
            ];
            ensure!(
                structure.contains(&event_type),
                "{event_type} outside a transaction"
            );
            return Ok(());
        };
        match event_type {
            EventType::QUERY => {
                let query = QueryEvent::parse(event.body)?;
                if query.query == b"BEGIN" {
                    open.began = true;
                    return Ok(());
                }
                open.sql = Some(String::from_utf8(query.query.to_vec())?);
                self.finish(cluster)?;
            }
            EventType::TABLE_MAP => {
                let node = body::node_of(event).context("a table of ours")?;
                open.tables.insert(body::table_id(event), node);
            }
            EventType::WRITE_ROWS => {
                let row = body::read_row(event).context("a row of ours")?;
                let table = open.tables.get(&body::table_id(event));
                ensure!(
                    table == Some(&row.node),
                    "{row:?} in the table of node {table:?}"
                );
                open.rows.push(row);
            }
            EventType::XID => self.finish(cluster)?,
            other => bail!("{other} in a transaction"),
        }
        Ok(())
    }

    fn finish(&mut self, cluster: &Cluster) -> Result<()> {
        let open = self.open.take().context("nothing to finish")?;
        if let Some(sql) = open.sql {
            return self.statement(&sql, cluster);
        }
        ensure!(open.began, "rows without BEGIN");
        let first = *open.rows.first().context("an empty transaction")?;
        let id = first.txn;
        if cluster.split.contains(&(id, usize::from(first.node))) {
            return self.part(&open.rows, cluster);
        }
        let truth = cluster
            .truth
            .get(&id)
            .with_context(|| format!("{id} was never begun"))?;
        let (fate, cut) = (truth.fate(), truth.is_cut(&cluster.starts));
        ensure!(fate == Fate::Committed || cut, "{id} is {fate:?}");
        ensure!(
            open.rows.is_sorted_by_key(|r| r.node),
            "{id}: branches are not in node order"
        );
        let (mut rows, mut expected) = (open.rows.clone(), truth.rows(&cluster.starts));
        rows.sort();
        expected.sort();
        ensure!(
            rows == expected,
            "{id} is not whole\n{}\n{rows:?}, not {expected:?}",
            crate::order::history(cluster, id)
        );
        let sum: i64 = rows.iter().map(|r| r.delta).sum();
        let whole = !cut && !truth.is_heuristic() && !cluster.is_split(id);
        ensure!(
            sum == 0 || !whole,
            "the sum of all balances is {sum} behind {id}"
        );
        self.apply(&open.rows, cluster)?;
        // A commit by hand finds the timestamp with a sibling, and that may have been prepared before reading began.
        let by_hand = cut && cluster.unstamped.contains(&id);
        if let Some(tso) = truth.tso.filter(|_| !by_hand) {
            ensure!(
                open.original == tso,
                "{id}: timestamp {}, TSO {tso}\n{}",
                open.original,
                crate::order::history(cluster, id)
            );
            let late = cluster.is_late(truth, tso);
            ensure!(
                tso > self.last_tso || late,
                "{id}: TSO {tso} after {}",
                self.last_tso
            );
            self.last_tso = self.last_tso.max(tso);
        }
        self.came(id)
    }

    /// What was read of a transaction when the rest of it had been written: one part, or several that joined late.
    fn part(&mut self, rows: &[Row], cluster: &Cluster) -> Result<()> {
        let txn = rows[0].txn;
        let nodes: BTreeSet<usize> = rows.iter().map(|r| usize::from(r.node)).collect();
        let own = |p: &&crate::truth::Part| {
            nodes.contains(&p.node) && p.outcome == crate::truth::Outcome::Committed
        };
        let parts = cluster.truth[&txn].parts.iter().filter(own);
        let mut expected: Vec<Row> = parts.flat_map(|p| p.rows.clone()).collect();
        let mut rows = rows.to_vec();
        rows.sort();
        expected.sort();
        ensure!(
            rows == expected,
            "a part of {txn}: {rows:?}, not {expected:?}"
        );
        self.apply(&rows, cluster)?;
        for node in nodes {
            ensure!(
                cluster.split.contains(&(txn, node)) && self.parts.insert((txn, node)),
                "the part of {txn} on dn{node} came twice"
            );
        }
        Ok(())
    }

    fn statement(&mut self, sql: &str, cluster: &Cluster) -> Result<()> {
        let nth = self.statements.entry(sql.to_owned()).or_default();
        let said = cluster.said.get(sql).and_then(|ids| ids.get(*nth));
        *nth += 1;
        let id = *said.with_context(|| format!("nobody said {sql} {nth} times"))?;
        let fate = cluster.truth.get(&id).map(crate::truth::Truth::fate);
        ensure!(fate == Some(Fate::Committed), "{sql} is {fate:?}");
        self.came(id)
    }

    /// The rows, one after the other, on what was there before: the order of the changes of each row.
    fn apply(&mut self, rows: &[Row], cluster: &Cluster) -> Result<()> {
        let current = cluster.plan.start == tributary_collector::Start::Current;
        for row in rows {
            let known = self.balances.contains_key(&(row.node, row.account));
            let balance = self.balances.entry((row.node, row.account)).or_default();
            if *balance != row.before {
                let joined = usize::from(row.node) >= cluster.plan.nodes - cluster.plan.late;
                let excused = (current || joined) && (!known || cluster.is_cut_row(row));
                ensure!(excused, "{row:?} on a balance of {balance}");
            }
            *balance = row.before + row.delta;
        }
        Ok(())
    }

    fn came(&mut self, id: u64) -> Result<()> {
        ensure!(self.seen.insert(id), "{id} came twice");
        self.order.push(id);
        Ok(())
    }
}
