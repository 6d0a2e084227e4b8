//! A client of the merged log. In: the log as readers see it, never past the durable end. Out: an error as soon as anything
//! is wrong with it: bytes that change, an end that goes back, a gap, half a transaction, one too many.
//!
//! It outlives the service: what it has seen once must be there after every crash.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use tributary_binlog::{
    ChecksumAlg, EventReader, EventType, GtidEvent, MAGIC, QueryEvent, RawEvent,
};
use tributary_store::{DurableEnd, GlobalLog};

use crate::body::{self, Row};
use crate::cluster::{Cluster, Fate};

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
    statements: BTreeSet<String>,
}

impl Reader {
    pub(crate) fn has(&self, id: u64) -> bool {
        self.seen.contains(&id)
    }

    /// Everything seen, for the trace.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.files.values().map(Vec::as_slice)
    }

    pub(crate) fn files(&self) -> usize {
        self.files.len()
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
            let info = log.find(name).with_context(|| format!("{name} is gone"))?;
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
            self.decode(&name, cluster).with_context(|| name.clone())?;
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

    fn decode(&mut self, name: &str, cluster: &Cluster) -> Result<()> {
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
            let is_it = |ddl: &crate::cluster::Ddl| ddl.sql == sql;
            let found = cluster
                .truth
                .iter()
                .find(|(_, t)| t.ddl.as_ref().is_some_and(is_it));
            let (id, truth) = found.with_context(|| format!("nobody said {sql}"))?;
            ensure!(
                truth.fate == Fate::Committed,
                "{sql}: not executed on all nodes yet"
            );
            ensure!(self.statements.insert(sql.clone()), "{sql}: twice");
            return self.came(*id);
        }
        ensure!(open.began, "rows without BEGIN");
        let id = open.rows.first().context("an empty transaction")?.txn;
        let truth = cluster
            .truth
            .get(&id)
            .with_context(|| format!("{id} was never begun"))?;
        ensure!(truth.fate == Fate::Committed, "{id} is {:?}", truth.fate);
        ensure!(
            open.rows.is_sorted_by_key(|r| r.node),
            "{id}: branches are not in node order"
        );
        let (mut rows, mut expected) = (open.rows.clone(), truth.rows.clone());
        rows.sort();
        expected.sort();
        ensure!(
            rows == expected,
            "{id} is not whole: {rows:?}, not {expected:?}"
        );
        let sum: i64 = rows.iter().map(|r| r.delta).sum();
        ensure!(sum == 0, "the sum of all balances is {sum} behind {id}");
        if let Some(tso) = truth.tso {
            ensure!(
                open.original == tso,
                "{id}: timestamp {}, TSO {tso}",
                open.original
            );
            ensure!(
                tso > self.last_tso,
                "{id}: TSO {tso} after {}",
                self.last_tso
            );
            self.last_tso = tso;
        }
        self.came(id)
    }

    fn came(&mut self, id: u64) -> Result<()> {
        ensure!(self.seen.insert(id), "{id} came twice");
        self.order.push(id);
        Ok(())
    }
}
