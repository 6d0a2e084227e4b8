//! The schemas of a cluster while its nodes are merged.
//!
//! In: statements and table maps of the nodes, in the order of the merged stream. Out: the logical statements to write, where
//! the rows behind a table map go and in which shape, what an operator must see, and what is to be stored. Pure: the same
//! inputs give the same answers, also over a restart from what was stored.
//!
//! * `ddl`: what becomes of a node's statement.
//! * `accounts`: statements about accounts, which one node's are taken of.
//! * `ahead`: parts that have had statements which downstream has not.
//! * `define`: what a person says a node's table is like.
//! * `rows`: what becomes of the rows behind a table map.
//! * `parts`: which physical tables make up a logical one.
//! * `stored`: the state as keys and values.

mod accounts;
mod ahead;
mod ddl;
mod define;
mod parts;
mod rows;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::charset::Collation;
use crate::ddl::{Session, Statement};
use crate::history::{Change, History, Moment, Object, Record, diff};
use crate::pending::{Participant, Pending, PendingStatement};
use crate::route::{NameCase, Routes};
use crate::table::Table;

pub use ddl::{Emitted, SourceStatement};
pub use define::DefineError;
pub use rows::{Into, RowsProblem, Target};
pub use stored::{StateError, Write, follow_history, stored_history, stored_nodes, stored_waiting};
pub use tributary_flow::NodeTables;

/// The text of a statement in the character set of the client that sent it (by the number of its collation). Multi-byte sets of
/// East Asia are not known: what is not ASCII in them is lost, and `false` says so.
#[must_use]
pub fn decode_sql(sql: &[u8], client: Option<u16>) -> (std::borrow::Cow<'_, str>, bool) {
    let charset = client.and_then(|c| Collation(c).charset());
    let plain =
        charset.is_none_or(|c| matches!(c.name(), "utf8mb3" | "utf8mb4" | "ascii" | "binary"));
    if sql.is_ascii() || plain {
        let text = String::from_utf8_lossy(sql);
        let whole = matches!(text, std::borrow::Cow::Borrowed(_));
        return (text, whole);
    }
    let text = charset.map(|set| crate::charset::to_utf8(set, sql));
    let text = text.unwrap_or_default();
    let whole = !text.contains('\u{fffd}');
    (text.into(), whole)
}

/// What an operator is told of a part whose definition differs.
fn unlike(who: &Participant, differences: &[String]) -> String {
    let (schema, table, node) = (&who.schema, &who.table, &who.node);
    let differences = differences.join("; ");
    format!("{schema}.{table} on node {node} is not like the logical table: {differences}")
}

/// Schema and name of a logical table.
pub(crate) type Name = (String, String);

/// What the configuration says about schemas.
#[derive(Clone, Debug, Default)]
pub struct SchemaRules {
    /// Where tables go.
    pub routes: Arc<Routes>,
    /// Whether statements about accounts flow.
    pub accounts: bool,
}

#[derive(Clone, Debug, Default)]
struct Node {
    case: NameCase,
    /// Everything it has is known: it was read from its beginning, or asked.
    complete: bool,
    /// Number of its `collation_server`.
    collation: Option<u16>,
    catalog: History,
}

/// See the module documentation.
#[derive(Clone, Debug, Default)]
pub struct ClusterSchema {
    rules: SchemaRules,
    nodes: BTreeMap<String, Node>,
    /// The physical tables of each logical one.
    parts: BTreeMap<Name, BTreeSet<Participant>>,
    /// The same the other way round.
    placed: BTreeMap<Participant, Name>,
    logical: History,
    pending: Pending,
    /// Physical tables that have a new name which their logical table does not have yet.
    aliases: BTreeMap<Participant, Name>,
    /// The node from which a table is taken that all nodes have copies of.
    copies: BTreeMap<Name, String>,
    /// Number of the next record to store.
    records: u64,
    /// Records since the last snapshot.
    unsaved: u64,
    writes: Vec<Write>,
    /// Raised whenever an answer may be another than before.
    version: u64,
    notes: Vec<String>,
    /// Parts with columns that the logical table does not have, of which an operator was told.
    cut: BTreeSet<(Participant, Vec<String>)>,
    /// Statements that concern a node alone.
    local: u64,
}

impl ClusterSchema {
    /// Nothing known of these nodes.
    #[must_use]
    pub fn new<'a>(rules: SchemaRules, nodes: impl IntoIterator<Item = &'a str>) -> Self {
        let nodes = nodes.into_iter().map(|n| (n.to_owned(), Node::default()));
        Self {
            rules,
            nodes: nodes.collect(),
            ..Self::default()
        }
    }

    /// The rules it was made with.
    #[must_use]
    pub fn rules(&self) -> &SchemaRules {
        &self.rules
    }

    /// Raised whenever an answer to [`Self::target`] may be another than before.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The logical schema.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.logical
    }

    /// Definition of a node's table as it is now.
    #[must_use]
    pub fn physical(&self, node: &str, schema: &str, table: &str) -> Option<&Table> {
        let catalog = &self.nodes.get(node)?.catalog;
        catalog.table(schema, table, u64::MAX)
    }

    /// Statements that some have had and others have not.
    #[must_use]
    pub fn waiting(&self) -> Vec<PendingStatement> {
        self.pending
            .statements(&|schema, table| self.everyone_of(schema, table))
    }

    /// How many statements some have had and others have not.
    #[must_use]
    pub fn waiting_len(&self) -> usize {
        self.pending.len()
    }

    /// Statements that concern a node alone and were not emitted.
    #[must_use]
    pub fn local_statements(&self) -> u64 {
        self.local
    }

    /// What an operator should know, since the last call: definitions that differ, statements that were not understood.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// What is to be stored, since the last call, in order.
    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }

    /// A place in what is to be stored.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.writes.len()
    }

    /// Forgets what was to be stored behind a place. The state itself is of no use any more.
    pub fn undo_writes(&mut self, mark: usize) {
        self.writes.truncate(mark);
    }

    /// A node is read from its very beginning: what is not in its stream does not exist.
    pub fn begins(&mut self, node: &str) {
        let known = self.node(node);
        if !known.complete {
            known.complete = true;
            self.store_node(node);
        }
    }

    /// The tables that a node has at the point from which it is read. Logical tables that are not known yet begin with them.
    pub fn learn(&mut self, node: &str, tables: &NodeTables, at: Moment) {
        let known = self.node(node);
        known.complete |= tables.complete;
        known.case = NameCase::from_variable(tables.lower_case_table_names);
        if let Some(collation) = tables.server_collation {
            known.collation = Some(collation);
            known.catalog = History::new(Collation(collation));
        }
        let case = known.case;
        self.store_node(node);
        for (schema, collation) in &tables.databases {
            let collation = Collation::by_name(collation).unwrap_or(Collation::DEFAULT);
            let change = Change::Schema(schema.clone(), Some(collation));
            self.change_physical(node, vec![change]);
            let crate::route::RoutedSchema::Logical(to) =
                self.rules.routes.route_schema(schema, case)
            else {
                continue;
            };
            if self.logical.schemas(u64::MAX).all(|(s, _)| s != to) {
                let change = Change::Schema(to.clone(), Some(collation));
                self.record(Record {
                    at,
                    schema: to,
                    sql: String::new(),
                    changes: vec![change],
                    problems: Vec::new(),
                });
            }
        }
        for (schema, name, sql) in &tables.tables {
            self.learn_table(node, (schema, name, sql), at);
        }
        self.version += 1;
    }

    fn learn_table(&mut self, node: &str, (schema, name, sql): (&str, &str, &str), at: Moment) {
        let object = self.definition(node, schema, name, sql);
        let change = Change::Object(schema.to_owned(), name.to_owned(), Some(object.clone()));
        self.change_physical(node, vec![change]);
        let Some((logical, copies)) = self.logical_of(node, schema, name) else {
            return;
        };
        if copies {
            self.source_of_copies(&logical, node);
        }
        let object = called(object, &logical.1);
        if let Some(known) = self.logical.object(&logical.0, &logical.1, u64::MAX) {
            if let (Object::Table(known), Object::Table(new)) = (known, &object) {
                let differences = diff(known, new);
                if !differences.is_empty() {
                    let who = parts::participant(node, schema, name);
                    self.notes.push(unlike(&who, &differences));
                }
            }
            return;
        }
        self.begin_logical(logical, object, at);
    }

    fn begin_logical(&mut self, logical: Name, object: Object, at: Moment) {
        self.record(Record {
            at,
            schema: logical.0.clone(),
            sql: String::new(),
            changes: vec![Change::Object(logical.0, logical.1, Some(object))],
            problems: Vec::new(),
        });
    }

    /// Logical tables that the routes make of tables that are known already, and that were none before, begin here.
    pub fn begin_routed(&mut self, at: Moment) {
        for (who, logical) in self.placed.clone() {
            let known = (self.logical).object(&logical.0, &logical.1, u64::MAX);
            let catalog = self.nodes.get(&who.node).map(|n| &n.catalog);
            let object = catalog.and_then(|c| c.object(&who.schema, &who.table, u64::MAX));
            if let (None, Some(object)) = (known, object) {
                let object = called(object.clone(), &logical.1);
                self.begin_logical(logical, object, at);
            }
        }
    }

    /// What a text of `SHOW CREATE TABLE` defines.
    fn definition(&self, node: &str, schema: &str, name: &str, sql: &str) -> Object {
        let statement = Statement::parse(sql, Session::in_schema(schema));
        let catalog = self.nodes.get(node).map(|n| &n.catalog);
        match &statement.kind {
            crate::ddl::Kind::CreateTable(create) => {
                let collation = catalog.map_or(Collation::DEFAULT, |c| c.collation(schema));
                match create.table(collation) {
                    Some(mut table) => {
                        name.clone_into(&mut table.name);
                        Object::Table(Box::new(table))
                    }
                    None => Object::Opaque(format!("{schema}.{name}: not understood")),
                }
            }
            crate::ddl::Kind::View(..) => Object::View(sql.to_owned()),
            _ => Object::Opaque(format!("{schema}.{name}: not understood")),
        }
    }

    fn node(&mut self, node: &str) -> &mut Node {
        self.nodes.entry(node.to_owned()).or_default()
    }

    /// Makes a logical change part of the history, and of what is stored.
    fn record(&mut self, record: Record) {
        for problem in &record.problems {
            self.notes.push(problem.clone());
        }
        self.store_record(&record);
        // Records are made behind the last one.
        let applied = self.logical.apply(record);
        debug_assert!(applied.is_ok(), "{applied:?}");
        self.version += 1;
    }
}

/// The same under another name.
fn called(object: Object, name: &str) -> Object {
    match object {
        Object::Table(mut table) => {
            table.rename(name);
            Object::Table(table)
        }
        other => other,
    }
}
