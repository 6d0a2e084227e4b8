//! Nodes with parts of tables, and what clients and administrators do there.
//!
//! In: chance. Out: the nodes' binlogs as a collector hands them on, and what the logical tables must have in the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use tributary_binlog::{EventType, Gno, Gtid, QueryEvent, Sid, Tag, XaXid};
use tributary_flow::{Body, NodeItem, OrderMode, SourcePos, SourceTxn, Tso, TxnKind};
use tributary_schema::{Collation, History, Moment, Session, Statement, Table};

use super::rows::{self, Change, Events, Row, Value};
use super::{Counts, Rng, place};

/// A physical table.
#[derive(Clone, Debug)]
struct Part {
    node: usize,
    schema: String,
    name: String,
    rows: BTreeMap<i64, Row>,
    /// How many statements of its campaign it has had.
    had: usize,
    /// Which campaign.
    of: usize,
    /// It was truncated, and nobody writes into it any more.
    closed: bool,
    gone: bool,
}

/// Statements that reach every part of one logical table, in order.
#[derive(Clone, Debug, Default)]
struct Campaign {
    logical: &'static str,
    /// With `{}` for the part's name.
    statements: Vec<String>,
    columns: u32,
}

pub(crate) struct Cluster {
    pub(crate) streams: Vec<Vec<NodeItem>>,
    parts: Vec<Part>,
    campaigns: Vec<Campaign>,
    /// What each node has.
    catalogs: Vec<History>,
    mode: OrderMode,
    full: bool,
    clock: u64,
    oracle: u64,
    next_id: i64,
    next_part: u32,
    moments: u64,
    renamed: u32,
}

/// The campaign of the table that keeps its name, and of the copies.
const OWN: usize = 2;
const CITY: usize = 3;

impl Cluster {
    pub(crate) fn new(rng: &mut Rng, mode: OrderMode, counts: &mut Counts) -> Self {
        let nodes = 1 + rng.below(4);
        let campaign = |logical| Campaign {
            logical,
            ..Campaign::default()
        };
        let mut cluster = Self {
            streams: vec![Vec::new(); nodes],
            parts: Vec::new(),
            campaigns: vec![
                campaign("t"),
                campaign("u"),
                campaign("own"),
                campaign("city"),
            ],
            catalogs: vec![History::new(Collation::DEFAULT); nodes],
            mode,
            full: rng.percent(75),
            clock: 1_000,
            oracle: 1_000_000,
            next_id: 1,
            next_part: 0,
            moments: 0,
            renamed: 0,
        };
        if !cluster.full {
            cluster.count(counts, "minimal metadata");
        }
        cluster.open(rng);
        for _ in 0..20 + rng.below(150) {
            cluster.step(rng, counts);
        }
        cluster.finish(rng, counts);
        cluster
    }

    pub(crate) fn nodes(&self) -> usize {
        self.streams.len()
    }

    /// The end of a node's binlog.
    pub(crate) fn end(&self, node: usize) -> SourcePos {
        place(self.streams[node].len())
    }

    fn count(&self, counts: &mut Counts, what: &'static str) {
        debug_assert!(super::CLASSES.contains(&what), "{what}");
        *counts.entry(what).or_default() += 1;
    }

    fn open(&mut self, rng: &mut Rng) {
        const COLUMNS: &str = "(id BIGINT PRIMARY KEY, v VARCHAR(10), n INT, w BIGINT)";
        for node in 0..self.nodes() {
            for sql in [
                format!("CREATE DATABASE s_{node}"),
                "CREATE DATABASE p".to_owned(),
                format!("CREATE TABLE s_{node}.tmp (id BIGINT PRIMARY KEY)"),
                format!("CREATE TABLE s_{node}.city {COLUMNS}"),
                format!("CREATE TABLE p.own_0 {COLUMNS}"),
            ] {
                self.ddl(node, "", &sql);
            }
            self.add_part(node, "p", "own_0", OWN);
            self.add_part(node, &format!("s_{node}"), "city", CITY);
            for (of, letter) in [(0, 't'), (1, 'u')] {
                for _ in 0..1 + rng.below(3) {
                    self.next_part += 1;
                    let name = format!("{letter}_{}", self.next_part);
                    let schema = format!("s_{node}");
                    self.ddl(node, &schema, &format!("CREATE TABLE {name} {COLUMNS}"));
                    self.add_part(node, &schema, &name, of);
                }
            }
        }
    }

    fn add_part(&mut self, node: usize, schema: &str, name: &str, of: usize) {
        self.parts.push(Part {
            node,
            schema: schema.to_owned(),
            name: name.to_owned(),
            rows: BTreeMap::new(),
            had: 0,
            of,
            closed: false,
            gone: false,
        });
    }

    fn step(&mut self, rng: &mut Rng, counts: &mut Counts) {
        let part = rng.below(self.parts.len());
        match rng.below(100) {
            0..50 => self.local(part, rng, counts),
            50..60 => self.distributed(rng, counts),
            60..66 => self.begin(rng, counts),
            66..90 => self.go_on(part),
            90..93 => self.new_part(part, rng, counts),
            93..96 => self.drop_part(part, rng, counts),
            96..98 => self.visit_city(rng, counts),
            _ => self.select(part, rng, counts),
        }
    }

    /// All parts get all statements.
    fn finish(&mut self, rng: &mut Rng, counts: &mut Counts) {
        loop {
            let behind: Vec<usize> = (0..self.parts.len())
                .filter(|p| {
                    let part = &self.parts[*p];
                    !part.gone && part.had < self.campaigns[part.of].statements.len()
                })
                .collect();
            if behind.is_empty() {
                break;
            }
            self.go_on(behind[rng.below(behind.len())]);
            if rng.percent(30) {
                let part = rng.below(self.parts.len());
                self.local(part, rng, counts);
            }
        }
        // What the last node has not said is told by the ends of the binlogs.
    }

    /// A statement runs on a node.
    fn ddl(&mut self, node: usize, schema: &str, sql: &str) {
        if super::shows() {
            println!("{} dn{node} {schema}: {sql}", self.clock);
        }
        self.run(node, schema, sql);
        let mut events = Events::default();
        events.add(EventType::QUERY, &query(schema, sql));
        self.write(node, TxnKind::Ddl, None, events);
    }

    fn run(&mut self, node: usize, schema: &str, sql: &str) {
        self.moments += 1;
        let at = Moment {
            gno: self.moments,
            key: tributary_flow::OrderKey::MIN.into(),
            commit_time: 0,
        };
        let statement = Statement::parse(sql, Session::in_schema(schema));
        let record = self.catalogs[node].record(at, &statement);
        assert!(record.problems.is_empty(), "{sql}: {:?}", record.problems);
        self.catalogs[node].apply(record).unwrap();
    }

    fn table(&self, part: &Part) -> Table {
        let catalog = &self.catalogs[part.node];
        let table = catalog.table(&part.schema, &part.name, u64::MAX);
        table.unwrap().clone()
    }

    fn write(&mut self, node: usize, kind: TxnKind, tso: Option<u64>, events: Events) {
        self.clock += 1;
        let number = self.streams[node].len() as u64 + 1;
        let gtid = Gtid {
            sid: Sid([node as u8 + 1; 16]),
            tag: Tag::EMPTY,
            gno: Gno::new(number).unwrap(),
        };
        self.streams[node].push(NodeItem::Txn(Box::new(SourceTxn {
            gtid,
            kind,
            end: place(number as usize),
            tso: tso.and_then(Tso::new),
            original_commit: tso.unwrap_or(self.clock),
            immediate_commit: self.clock,
            last_committed: 0,
            sequence_number: 1,
            original_server_version: 90704,
            immediate_server_version: 90704,
            timestamp: 1,
            body: Body::new(Bytes::from(events.0)),
        })));
    }

    /// Some changes of rows of a part.
    fn changes(&mut self, at: usize, rng: &mut Rng, counts: &mut Counts) -> Vec<Change> {
        let table = self.table(&self.parts[at]);
        let mut out = Vec::new();
        for _ in 0..1 + rng.below(3) {
            let ids: Vec<i64> = self.parts[at].rows.keys().copied().collect();
            let what = if ids.is_empty() { 0 } else { rng.below(4) };
            if what < 2 {
                self.count(counts, "insert");
                let id = self.next_id;
                self.next_id += 1;
                let row = fresh(&table, id, rng);
                self.parts[at].rows.insert(id, row.clone());
                out.push((None, Some(row)));
                continue;
            }
            let id = ids[rng.below(ids.len())];
            let before = self.parts[at].rows.remove(&id);
            let after = (what == 2).then(|| fresh(&table, id, rng));
            self.count(counts, if what == 2 { "update" } else { "delete" });
            if let Some(after) = &after {
                self.parts[at].rows.insert(id, after.clone());
            }
            out.push((before, after));
        }
        out
    }

    /// A statement that changes rows of a part; sometimes rows of a table that does not flow, too.
    fn statement(&mut self, at: usize, rng: &mut Rng, counts: &mut Counts) -> Events {
        let changes = self.changes(at, rng, counts);
        let part = self.parts[at].clone();
        let table = self.table(&part);
        let mut events = Events::default();
        let also = part.of < 2 && rng.percent(15);
        if rng.percent(30) {
            events.add(EventType::ROWS_QUERY, b"\x04text");
        }
        events.map(7, &table, (&part.schema, &part.name), self.full);
        if !also {
            events.rows(7, &table, &changes, true);
            return events;
        }
        self.count(counts, "ignored rows in a statement");
        let tmp = self.catalogs[part.node].table(&part.schema, "tmp", u64::MAX);
        let tmp = tmp.unwrap().clone();
        let id = Value::Int(self.next_id);
        self.next_id += 1;
        let change = [(None, Some(Row::from([("id".to_owned(), id)])))];
        events.map(9, &tmp, (&part.schema, "tmp"), self.full);
        let last = rng.percent(50);
        if !last {
            events.rows(9, &tmp, &change, false);
        }
        events.rows(7, &table, &changes, !last);
        if last {
            events.rows(9, &tmp, &change, true);
        }
        events
    }

    fn may_write(&self, at: usize) -> bool {
        let part = &self.parts[at];
        !part.closed && !part.gone && part.of != CITY
    }

    fn local(&mut self, at: usize, rng: &mut Rng, counts: &mut Counts) {
        if !self.may_write(at) {
            return;
        }
        let mut events = self.statement(at, rng, counts);
        if rng.percent(20) {
            let more = self.statement(at, rng, counts);
            events.0.extend(more.0);
        }
        self.write(self.parts[at].node, TxnKind::Local, None, events);
    }

    /// Branches on several nodes.
    fn distributed(&mut self, rng: &mut Rng, counts: &mut Counts) {
        let mut branches: Vec<(usize, Events)> = Vec::new();
        for _ in 0..3 {
            let at = rng.below(self.parts.len());
            let node = self.parts[at].node;
            if self.may_write(at) && branches.iter().all(|(n, _)| *n != node) {
                branches.push((node, self.statement(at, rng, counts)));
            }
        }
        if branches.is_empty() {
            return;
        }
        self.count(counts, "distributed");
        self.oracle += 10;
        let gtrid = format!("g{}", self.oracle);
        let tso = (self.mode == OrderMode::Tso).then_some(self.oracle);
        let xid = |node: usize| XaXid::new(1, gtrid.as_bytes(), &[node as u8]).unwrap();
        let nodes: Vec<usize> = branches.iter().map(|(n, _)| *n).collect();
        for (node, events) in branches {
            self.write(node, TxnKind::Prepare(xid(node)), None, events);
        }
        for node in nodes {
            self.write(node, TxnKind::Commit(xid(node)), tso, Events::default());
        }
    }

    /// A new statement that every part of a table will get.
    fn begin(&mut self, rng: &mut Rng, counts: &mut Counts) {
        let of = rng.below(4);
        let campaign = &mut self.campaigns[of];
        if campaign
            .statements
            .iter()
            .any(|s| s.starts_with("TRUNCATE"))
        {
            return;
        }
        campaign.columns += 1;
        let n = campaign.columns;
        // What a column is called changes with the statements; any part that has had all of them tells.
        let Some(sample) = (self.parts.iter())
            .find(|p| p.of == of && !p.gone && p.had == self.campaigns[of].statements.len())
            .cloned()
        else {
            return;
        };
        let table = self.table(&sample);
        let others: Vec<String> = (table.columns.iter().skip_while(|c| c.name == "id"))
            .map(|c| c.name.clone())
            .filter(|name| name != "id")
            .collect();
        let other = others.get(rng.below(others.len())).cloned();
        let number = |name: &String| table.column(name).unwrap().data_type.to_string();
        let (class, sql) = match (rng.below(9), other) {
            (0, _) => (
                "add",
                format!(
                    "ALTER TABLE {{}} ADD COLUMN c{n} {} DEFAULT {n}",
                    if rng.percent(50) { "INT" } else { "BIGINT" }
                ),
            ),
            (1, _) => (
                "add first",
                format!("ALTER TABLE {{}} ADD c{n} VARCHAR(9) NOT NULL DEFAULT 'd{n}' FIRST"),
            ),
            (2, Some(c)) if others.len() > 1 => {
                ("drop", format!("ALTER TABLE {{}} DROP COLUMN {c}"))
            }
            (3, Some(c)) => (
                "rename column",
                format!("ALTER TABLE {{}} RENAME COLUMN {c} TO r{n}"),
            ),
            (4, Some(c)) if number(&c) == "int" => {
                ("widen", format!("ALTER TABLE {{}} MODIFY {c} BIGINT"))
            }
            (4, Some(c)) if number(&c).starts_with("varchar(1") => {
                ("widen", format!("ALTER TABLE {{}} MODIFY {c} VARCHAR(80)"))
            }
            (4, Some(c)) if number(&c) == "bigint" => {
                ("narrow", format!("ALTER TABLE {{}} MODIFY {c} INT"))
            }
            (5, Some(c)) => ("key", format!("ALTER TABLE {{}} ADD KEY k{n} ({c})")),
            (6, Some(c)) if others.len() > 1 => {
                ("mixed", format!("ALTER TABLE {{}} ADD c{n} INT, DROP {c}"))
            }
            (7, _) if of == OWN => {
                self.renamed += 1;
                (
                    "rename table",
                    format!("RENAME TABLE {{}} TO p.own_{}", self.renamed),
                )
            }
            (8, _) if of == 1 && rng.percent(30) => ("truncate", "TRUNCATE TABLE {}".to_owned()),
            _ => return,
        };
        self.count(counts, class);
        self.campaigns[of].statements.push(sql);
    }

    /// A part gets the next statement of its table.
    fn go_on(&mut self, at: usize) {
        let part = self.parts[at].clone();
        let Some(sql) = self.campaigns[part.of].statements.get(part.had).cloned() else {
            return;
        };
        if part.gone {
            return;
        }
        let (name, schema) = match self.clock % 2 {
            0 => (part.name.clone(), part.schema.as_str()),
            _ => (format!("{}.{}", part.schema, part.name), ""),
        };
        let text = sql.replace("{}", &name);
        self.ddl(part.node, schema, &text);
        let own = &mut self.parts[at];
        own.had += 1;
        if sql.starts_with("TRUNCATE") {
            own.closed = true;
            own.rows.clear();
            return;
        }
        if let Some((_, new)) = sql
            .split_once("TO p.")
            .filter(|_| sql.starts_with("RENAME"))
        {
            new.clone_into(&mut own.name);
            return;
        }
        let statement = Statement::parse(&text, Session::in_schema(schema));
        if let tributary_schema::Kind::AlterTable(alter) = &statement.kind {
            let table = self.table(&self.parts[at]);
            let renamed = alter.renamed_columns();
            for row in self.parts[at].rows.values_mut() {
                *row = rows::moved(row, &table, &renamed);
            }
        }
    }

    /// A further part beside one on its node, with its definition.
    fn new_part(&mut self, at: usize, rng: &mut Rng, counts: &mut Counts) {
        let Some((part, table)) = self.beside(at) else {
            return;
        };
        self.count(counts, "new part");
        let mut new = self.parts[at].clone();
        new.name = part;
        new.rows.clear();
        let create = definition(&table, &new.name);
        self.ddl(new.node, &new.schema.clone(), &create);
        self.parts.push(new);
        let last = self.parts.len() - 1;
        self.local(last, rng, counts);
    }

    /// A name for a part beside another, and its definition.
    fn beside(&mut self, at: usize) -> Option<(String, Table)> {
        let part = &self.parts[at];
        if part.of > 1 || part.closed || part.gone {
            return None;
        }
        self.next_part += 1;
        let letter = self.campaigns[part.of].logical;
        let part = &self.parts[at];
        Some((format!("{letter}_{}", self.next_part), self.table(part)))
    }

    /// `CREATE TABLE … SELECT`: the definition and rows in one transaction.
    fn select(&mut self, at: usize, rng: &mut Rng, counts: &mut Counts) {
        let Some((name, table)) = self.beside(at) else {
            return;
        };
        self.count(counts, "create select");
        let mut new = self.parts[at].clone();
        new.name = name;
        new.rows.clear();
        let (node, schema) = (new.node, new.schema.clone());
        let create = definition(&table, &new.name);
        self.run(node, &schema, &create);
        let mut events = Events::default();
        let sql = format!("{create} START TRANSACTION");
        events.add(EventType::QUERY, &query(&schema, &sql));
        self.parts.push(new);
        let last = self.parts.len() - 1;
        let changes = self.changes(last, rng, counts);
        let table = self.table(&self.parts[last]);
        events.map(7, &table, (&schema, &self.parts[last].name), self.full);
        events.rows(7, &table, &changes, true);
        self.write(node, TxnKind::Local, None, events);
    }

    /// A part without rows goes, if it is not the last.
    fn drop_part(&mut self, at: usize, rng: &mut Rng, counts: &mut Counts) {
        let part = self.parts[at].clone();
        let same = |p: &&Part| p.of == part.of && !p.gone;
        let left = self.parts.iter().filter(same).count();
        if part.of > 1 || part.closed || part.gone || left < 3 || rng.percent(50) {
            return;
        }
        self.count(counts, "part dropped");
        let table = self.table(&part);
        if !part.rows.is_empty() {
            let mut events = Events::default();
            let changes: Vec<Change> = part
                .rows
                .values()
                .map(|r| (Some(r.clone()), None))
                .collect();
            events.map(7, &table, (&part.schema, &part.name), self.full);
            events.rows(7, &table, &changes, true);
            self.write(part.node, TxnKind::Local, None, events);
        }
        self.ddl(
            part.node,
            &part.schema,
            &format!("DROP TABLE {}", part.name),
        );
        self.parts[at].rows.clear();
        self.parts[at].gone = true;
    }

    /// The same row on every node.
    fn visit_city(&mut self, rng: &mut Rng, counts: &mut Counts) {
        let copies: Vec<usize> = (0..self.parts.len())
            .filter(|p| self.parts[*p].of == CITY)
            .collect();
        let had = self.parts[copies[0]].had;
        if copies.iter().any(|p| self.parts[*p].had != had) {
            return;
        }
        self.count(counts, "copies");
        let table = self.table(&self.parts[copies[0]]);
        let id = self.next_id;
        self.next_id += 1;
        let row = fresh(&table, id, rng);
        for at in copies {
            let part = self.parts[at].clone();
            let mut events = Events::default();
            events.map(7, &table, (&part.schema, &part.name), self.full);
            events.rows(7, &table, &[(None, Some(row.clone()))], true);
            self.write(part.node, TxnKind::Local, None, events);
            self.parts[at].rows.insert(id, row.clone());
        }
    }

    /// What the logical tables must have.
    pub(crate) fn logical_rows(&self) -> BTreeMap<(String, String), BTreeMap<i64, Row>> {
        let mut out: BTreeMap<(String, String), BTreeMap<i64, Row>> = BTreeMap::new();
        for part in self.parts.iter().filter(|p| !p.gone) {
            let name = match part.of {
                OWN => (part.schema.clone(), part.name.clone()),
                of => ("s".to_owned(), self.campaigns[of].logical.to_owned()),
            };
            let rows = part.rows.iter().map(|(id, row)| (*id, row.clone()));
            out.entry(name).or_default().extend(rows);
        }
        out
    }
}

fn query(schema: &str, sql: &str) -> Vec<u8> {
    let mut body = Vec::new();
    QueryEvent {
        schema: schema.as_bytes(),
        query: sql.as_bytes(),
        ..QueryEvent::default()
    }
    .put_body(&mut body);
    body
}

/// A `CREATE TABLE` of this definition.
fn definition(table: &Table, name: &str) -> String {
    let mut table = table.clone();
    name.clone_into(&mut table.name);
    table.show_create()
}

fn fresh(table: &Table, id: i64, rng: &mut Rng) -> Row {
    let columns = table.columns.iter().map(|column| {
        let value = if column.name == "id" {
            Value::Int(id)
        } else if column.nullable && rng.percent(20) {
            Value::Null
        } else if column.data_type.to_string().starts_with("varchar") {
            Value::Text(["", "a", "ü", "text"][rng.below(4)].to_owned())
        } else {
            Value::Int(rng.below(100_000) as i64 - 50_000)
        };
        (column.name.clone(), value)
    });
    columns.collect()
}
