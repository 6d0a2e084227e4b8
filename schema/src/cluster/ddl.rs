//! What becomes of a node's statement.
//!
//! In: statements of the nodes, in the order of the merged stream. Out: the statements to write at this place, which may be
//! none, and may be those of others that have waited for what this one does.

use tributary_flow::{Mutant, mutant};

use super::parts::participant;
use super::{ClusterSchema, Name};
use crate::charset::Collation;
use crate::ddl::{DdlProblem, Effect, Kind, NameRef, Session, Statement, Unit};
use crate::history::{Change, Moment, Object};
use crate::lex::LexMode;
use crate::pending::{Participant, Verdict};
use crate::route::NameCase;

/// A statement as a node logged it.
#[derive(Clone, Copy, Debug)]
pub struct SourceStatement<'a> {
    /// The node.
    pub node: &'a str,
    /// Default database; empty for none.
    pub schema: &'a str,
    /// Its text.
    pub sql: &'a str,
    /// `sql_mode` of its session.
    pub sql_mode: u64,
    /// Number of `collation_server` of its session.
    pub server_collation: Option<u16>,
}

/// A statement to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// Default database.
    pub schema: String,
    /// Its text.
    pub sql: String,
}

/// A unit of a statement with those it concerns, as they were before it.
struct Planned {
    unit: Unit,
    who: Participant,
    all: Vec<Participant>,
    /// The node's own table was known: what is said to be gone is gone.
    known: bool,
}

impl ClusterSchema {
    /// A node's statement at its place in the order. `at` is where the first statement to write would stand; each further one
    /// takes the next number.
    ///
    /// # Errors
    /// What keeps the statement from being carried over, by name.
    pub fn statement(
        &mut self,
        source: &SourceStatement<'_>,
        at: Moment,
    ) -> Result<Vec<Emitted>, DdlProblem> {
        let session = Session {
            schema: source.schema,
            mode: LexMode::from_sql_mode(source.sql_mode),
        };
        let mut statement = Statement::parse(source.sql, session);
        if (self.nodes.get(source.node)).is_some_and(|known| known.case == NameCase::Folded) {
            statement = statement.folded();
        }
        let schema = statement.default_schema().to_owned();
        let source = &SourceStatement {
            schema: &schema,
            ..*source
        };
        match statement.effect(None) {
            Effect::NodeLocal => return Ok(self.local_statement()),
            Effect::Account if !self.rules.accounts => return Ok(self.local_statement()),
            Effect::Account => return Ok(self.account_statement(source, &statement, at)),
            _ => {}
        }
        let planned = self.plan(source.node, &statement)?;
        let renames = renames(&statement, source.node);
        let before: Vec<Option<Name>> = (renames.iter())
            .map(|(from, _)| {
                let name = self.logical_of(&from.node, &from.schema, &from.table);
                name.map(|(name, _)| name)
            })
            .collect();
        let mut run = Run::new(at, *source);
        let physical = self.physical_changes(source, &statement);
        let mut waits = false;
        for planned in planned {
            waits |= self.unit(planned, &mut run) == Verdict::Wait;
        }
        self.become_physical(source.node, physical, &renames, &mut run);
        self.follow_renames(&renames, &before, waits);
        self.store_pending();
        self.version += 1;
        Ok(run.out)
    }

    /// Nothing is written for it.
    pub(super) fn local_statement(&mut self) -> Vec<Emitted> {
        self.local += 1;
        self.version += 1;
        Vec::new()
    }

    fn plan(&self, node: &str, statement: &Statement) -> Result<Vec<Planned>, DdlProblem> {
        let empty = super::Node::default();
        let known = self.nodes.get(node).unwrap_or(&empty);
        let table = |s: &str, t: &str| known.catalog.table(s, t, u64::MAX);
        let units = statement.units(&self.rules.routes, known.case, &table)?;
        let planned = units.into_iter().map(|mut unit| {
            // Under its new name a table is still the old logical one, until all have been renamed.
            for target in unit.targets.clone() {
                let who = participant(node, &target.physical.0, &target.physical.1);
                if let Some(logical) = self.aliases.get(&who) {
                    unit = unit.with_table(&target.logical, logical);
                }
            }
            let (who, all) = self.concerned(node, &unit);
            let is_known = if who.table.is_empty() {
                known
                    .catalog
                    .schemas(u64::MAX)
                    .any(|(s, _)| s == who.schema)
            } else {
                let object = known.catalog.object(&who.schema, &who.table, u64::MAX);
                object.is_some()
            };
            Planned {
                unit,
                who,
                all,
                known: is_known,
            }
        });
        Ok(planned.collect())
    }

    /// What a statement changes on its node.
    fn physical_changes(&self, source: &SourceStatement<'_>, statement: &Statement) -> Vec<Change> {
        let empty = super::Node::default();
        let known = self.nodes.get(source.node).unwrap_or(&empty);
        let mut changes = known.catalog.record(nowhere(), statement).changes;
        let creates = matches!(statement.kind, Kind::CreateTable(_));
        changes.retain(|change| match change {
            // Nothing is learned of a table that was made behind the log's back.
            Change::Object(schema, table, Some(Object::Opaque(_))) if !creates => {
                known.catalog.object(schema, table, u64::MAX).is_some()
            }
            _ => true,
        });
        databases_like_server(statement, source.server_collation, &mut changes);
        changes
    }

    /// One unit: whether it is written here.
    fn unit(&mut self, planned: Planned, run: &mut Run<'_>) -> Verdict {
        let Planned {
            unit,
            who,
            all,
            known,
        } = planned;
        // Copies are taken from one node, and so is what is said about them.
        if let Some(target) = unit.targets.iter().find(|t| t.broadcast) {
            let source = self.source_of_copies(&target.logical, &who.node);
            if source != who.node {
                return Verdict::Absorbed;
            }
        }
        let drops = matches!(
            unit.statement.kind,
            Kind::DropTable { .. } | Kind::DropDatabase(_)
        );
        if let Kind::AlterTable(alter) = &unit.statement.kind {
            let mut columns = alter.touched_columns();
            columns.extend(alter.left_columns());
            self.pending.came(&who, &columns);
        }
        let behind = self.pending.is_behind(&unit.identity, &who);
        if !behind && self.changes_nothing(&unit.statement, &who) {
            return Verdict::Absorbed;
        }
        if !behind && (known || !drops) && self.is_satisfied(&unit, &who) {
            let differences = self.logical.differences(&unit.statement);
            if !differences.is_empty() {
                self.notes.push(super::unlike(&who, &differences));
            }
            return Verdict::Absorbed;
        }
        let unit = self.behind_what_waits(unit, &who);
        let verdict = self.pending.observe(&unit, &who, &all, run.at.commit_time);
        run.schema.clone_from(&who.schema);
        if verdict == Verdict::Emit || mutant(Mutant::EmitEveryDdl) {
            self.emit(unit.statement, run);
        }
        verdict
    }

    pub(super) fn emit(&mut self, mut statement: Statement, run: &mut Run<'_>) {
        if let Kind::CreateTable(create) = &statement.kind {
            // Where the default of the logical database is another, the table's is named.
            let (logical, _) = statement.resolve(&create.name);
            let there = self.logical.collation(logical);
            let physical = self.nodes.get(run.source.node);
            let here = physical.map_or(there, |n| n.catalog.collation(&run.schema));
            if here != there
                && let Some(explicit) = statement.with_charset(here)
            {
                statement = explicit;
            }
        }
        if let Kind::RenameTable(_) | Kind::AlterTable(_) = &statement.kind {
            for (from, to) in renames(&statement, "") {
                let (from, to) = ((from.schema, from.table), (to.schema, to.table));
                self.settle_aliases(&from, &to);
                self.pending.relabel(&from, &to);
            }
        }
        if let Kind::AlterTable(alter) = &statement.kind {
            let table = Self::altered_name(&statement, alter);
            self.pending.close_columns(&table, &alter.left_columns());
        }
        let mut record = self.logical.record(run.at, &statement);
        databases_like_server(&statement, run.source.server_collation, &mut record.changes);
        self.record(record);
        run.at.gno += 1;
        run.out.push(Emitted {
            schema: statement.default_schema().to_owned(),
            sql: statement.sql().to_owned(),
        });
    }

    /// A logical table gets its new name: the physical ones that have it already are not called something else any longer.
    fn settle_aliases(&mut self, from: &Name, to: &Name) {
        let settled: Vec<Participant> = (self.aliases.iter())
            .filter(|(_, name)| *name == from)
            .map(|(who, _)| who.clone())
            .collect();
        for who in settled {
            let own = self.route(&who.node, &who.schema, &who.table);
            if own.is_some_and(|(own, _)| own == *to) {
                self.aliases.remove(&who);
                self.store_alias(&who, None);
            } else {
                self.aliases.insert(who.clone(), to.clone());
                self.store_alias(&who, Some(to));
            }
            self.index(&who, true);
        }
    }

    /// The node's tables become what the statement makes of them; who came and who left is told to those that wait.
    fn become_physical(
        &mut self,
        node: &str,
        changes: Vec<Change>,
        renames: &[(Participant, Participant)],
        run: &mut Run<'_>,
    ) {
        let renamed = |who: &Participant| renames.iter().any(|(a, b)| a == who || b == who);
        let (mut born, mut gone) = (Vec::new(), Vec::new());
        for change in &changes {
            if let Change::Object(schema, table, object) = change {
                let who = participant(node, schema, table);
                let catalog = self.nodes.get(node).map(|n| &n.catalog);
                let was = catalog
                    .and_then(|c| c.object(schema, table, u64::MAX))
                    .is_some();
                match object {
                    Some(Object::Table(new)) if !was && !renamed(&who) => {
                        born.push((who, new.clone()));
                    }
                    None if was && !renamed(&who) => gone.push(who),
                    _ => {}
                }
            } else if let Change::Schema(schema, None) = change {
                gone.push(participant(node, schema, ""));
            }
        }
        self.change_physical(node, changes);
        for (from, to) in renames {
            self.pending.renamed(from, to);
        }
        for (who, table) in &born {
            let Some((logical, copies)) = self.logical_of(node, &who.schema, &who.table) else {
                continue;
            };
            if copies {
                self.source_of_copies(&logical, node);
            }
            self.pending.born(who, &logical, table);
        }
        let mut pending = std::mem::take(&mut self.pending);
        let everyone = |schema: &str, table: &str| self.everyone_of(schema, table);
        pending.close_complete(&everyone);
        let due = match gone.is_empty() {
            true => Vec::new(),
            false => pending.forget(&|p| gone.contains(p), true, &everyone),
        };
        self.pending = pending;
        self.emit_due(due, run);
    }

    fn emit_due(&mut self, due: Vec<(String, String)>, run: &mut Run<'_>) {
        for (schema, sql) in due {
            let statement = Statement::parse(&sql, Session::in_schema(&schema));
            self.emit(statement, run);
        }
    }

    fn follow_renames(
        &mut self,
        renames: &[(Participant, Participant)],
        before: &[Option<Name>],
        waits: bool,
    ) {
        for ((from, to), logical) in renames.iter().zip(before) {
            if self.aliases.remove(from).is_some() {
                self.store_alias(from, None);
            }
            let own = self.route(&to.node, &to.schema, &to.table).map(|(n, _)| n);
            match logical {
                Some(logical) if waits && own.as_ref() != Some(logical) => {
                    self.aliases.insert(to.clone(), logical.clone());
                    self.store_alias(to, Some(logical));
                }
                _ => {}
            }
            let exists = self.nodes.get(&to.node).is_some_and(|n| {
                let object = n.catalog.object(&to.schema, &to.table, u64::MAX);
                matches!(object, Some(Object::Table(_) | Object::Opaque(_)))
            });
            self.index(to, exists);
        }
    }

    /// A node is gone for good: nobody waits for its tables any longer. What others have waited for it with is not emitted: a change
    /// of the nodes is refused while a statement waits, but for those that drop what the node had.
    pub fn forget(&mut self, node: &str) {
        let Some(known) = self.nodes.remove(node) else {
            return;
        };
        for (schema, table, _) in known.catalog.objects(u64::MAX) {
            let who = participant(node, schema, table);
            self.index(&who, false);
            if self.aliases.remove(&who).is_some() {
                self.store_alias(&who, None);
            }
        }
        let sources: Vec<Name> = (self.copies.iter())
            .filter(|(_, source)| *source == node)
            .map(|(name, _)| name.clone())
            .collect();
        for name in sources {
            self.copies.remove(&name);
            // The next node by name that has a copy takes its place.
            let next = self.parts.get(&name).and_then(|p| p.first()).cloned();
            if let Some(next) = &next {
                self.copies.insert(name.clone(), next.node.clone());
            }
            self.store_source(&name, next.as_ref().map(|p| p.node.as_str()));
        }
        self.forget_node(node, &known.catalog);
        let mut pending = std::mem::take(&mut self.pending);
        let everyone = |schema: &str, table: &str| self.everyone_of(schema, table);
        pending.forget(&|p| p.node == node, false, &everyone);
        self.pending = pending;
        self.store_pending();
        self.version += 1;
    }
}

/// What is written at one place.
pub(super) struct Run<'a> {
    /// Where the next statement stands.
    at: Moment,
    source: SourceStatement<'a>,
    /// Database of the node's table that is spoken of, which need not be the default one.
    schema: String,
    pub(super) out: Vec<Emitted>,
}

impl<'a> Run<'a> {
    pub(super) fn new(at: Moment, source: SourceStatement<'a>) -> Self {
        Self {
            at,
            source,
            schema: String::new(),
            out: Vec::new(),
        }
    }
}

/// A moment for records that are not kept.
fn nowhere() -> Moment {
    Moment {
        gno: u64::MAX,
        key: tributary_flow::OrderKey::MIN.into(),
        commit_time: 0,
    }
}

/// `CREATE DATABASE` without a character set takes that of the session's server.
fn databases_like_server(statement: &Statement, server: Option<u16>, changes: &mut [Change]) {
    if let (Kind::CreateDatabase(_, options, _), Some(server)) = (&statement.kind, server)
        && options.collation.is_none()
    {
        for change in changes {
            if let Change::Schema(_, Some(collation)) = change {
                *collation = Collation(server);
            }
        }
    }
}

/// What a statement renames: tables before and after, in order.
fn renames(statement: &Statement, node: &str) -> Vec<(Participant, Participant)> {
    let who = |name: &NameRef| {
        let (schema, table) = statement.resolve(name);
        participant(node, schema, table)
    };
    match &statement.kind {
        Kind::RenameTable(pairs) => pairs.iter().map(|(a, b)| (who(a), who(b))).collect(),
        Kind::AlterTable(alter) => {
            let new = alter.new_name();
            new.map(|new| (who(&alter.name), who(new)))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}
