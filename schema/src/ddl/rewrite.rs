//! Names of physical tables become names of logical ones.
//!
//! In: a statement and the routes. Out: units whose texts name logical tables. Only tokens that are names are replaced.

use super::effect::Effect;
use super::halves::{cut, without_rename_to_itself};
use super::reader::{NameRef, NameRole};
use super::statement::{Kind, Session, Statement};
use super::unit::{DdlProblem, Edit, Unit, UnitTarget};
use crate::lex::{LexMode, TokenKind, quote_name, unquote_name};
use crate::route::{NameCase, Routed, RoutedSchema, Routes};
use crate::table::Table;

/// A table that is renamed, and its new schema and name.
type Renamed = (UnitTarget, (String, String));

/// Where the names of a statement go.
pub(super) struct Rewrite<'a> {
    statement: &'a Statement,
    routes: &'a Routes,
    case: NameCase,
    /// Default database downstream.
    schema: String,
}

impl<'a> Rewrite<'a> {
    pub(super) fn new(statement: &'a Statement, routes: &'a Routes, case: NameCase) -> Self {
        let mut rewrite = Self {
            statement,
            routes,
            case,
            schema: statement.schema.clone(),
        };
        // The default database follows the first table that relies on it, else the database's own route.
        let relying = statement
            .names
            .iter()
            .find(|n| n.schema.is_none() && matches!(n.role, NameRole::Target | NameRole::Program));
        let target = relying.and_then(|n| rewrite.target(n)).map(|(s, _)| s);
        if !statement.schema.is_empty() {
            let routed = routes.route_schema(&statement.schema, case);
            rewrite.schema = match (target, routed) {
                (Some(schema), _) | (None, RoutedSchema::Logical(schema)) => schema,
                _ => statement.schema.clone(),
            };
        }
        rewrite
    }

    fn route(&self, name: &NameRef) -> Routed {
        let (schema, table) = self.statement.resolve(name);
        let routed = self.routes.route(schema, table, self.case);
        // Views and stored programs move with their database.
        if name.role == NameRole::Program
            && routed == Routed::Identity
            && let RoutedSchema::Logical(schema) = self.routes.route_schema(schema, self.case)
        {
            let table = table.to_owned();
            return Routed::Logical { schema, table };
        }
        routed
    }

    /// Schema and name downstream; `None` when it does not flow.
    fn target(&self, name: &NameRef) -> Option<(String, String)> {
        let (schema, table) = self.statement.resolve(name);
        match self.route(name) {
            Routed::Logical { schema, table } | Routed::Broadcast { schema, table } => {
                Some((schema, table))
            }
            Routed::Identity => Some((schema.to_owned(), table.to_owned())),
            Routed::Ignored => None,
        }
    }

    fn unit_target(&self, name: &NameRef) -> Option<UnitTarget> {
        let (schema, table) = self.statement.resolve(name);
        Some(UnitTarget {
            physical: (schema.to_owned(), table.to_owned()),
            logical: self.target(name)?,
            broadcast: matches!(self.route(name), Routed::Broadcast { .. }),
        })
    }

    fn shown(&self, name: &NameRef) -> String {
        let (schema, table) = self.statement.resolve(name);
        format!("{schema}.{table}")
    }

    pub(super) fn units(&self, old: Option<&Table>) -> Result<Vec<Unit>, DdlProblem> {
        let s = self.statement;
        match &s.kind {
            Kind::DropTable { names, if_exists } => {
                let verb = if *if_exists {
                    "DROP TABLE IF EXISTS "
                } else {
                    "DROP TABLE "
                };
                return Ok(self.one_by_one(names, verb));
            }
            Kind::DropView(names) => return Ok(self.one_by_one(names, "DROP VIEW IF EXISTS ")),
            Kind::RenameTable(pairs) => return self.rename(pairs),
            Kind::CreateDatabase(name, ..)
            | Kind::DropDatabase(name)
            | Kind::AlterDatabase(name, _) => {
                return self.database(if name.is_empty() { &s.schema } else { name });
            }
            Kind::Other if self.knows_schema() => {
                return Err(DdlProblem::NotUnderstood { sql: s.beginning() });
            }
            _ => {}
        }
        let roles = [NameRole::Target, NameRole::Program];
        let changed: Vec<&NameRef> = s.names.iter().filter(|n| roles.contains(&n.role)).collect();
        if !changed.is_empty() && changed.iter().all(|n| self.route(n) == Routed::Ignored) {
            return Ok(Vec::new());
        }
        let mut edits = Vec::new();
        for name in &s.names {
            self.edit_name(name, &mut edits)?;
        }
        self.edit_symbols(&changed, &mut edits);
        self.edit_qualifiers(&mut edits);
        self.check_alter_rename()?;
        let targets = s
            .names_as(NameRole::Target)
            .filter_map(|n| self.unit_target(n));
        let targets = targets.collect();
        let rewritten = s.edited(edits, &self.schema, s.mode);
        let Some(rewritten) = without_rename_to_itself(rewritten) else {
            return Ok(Vec::new());
        };
        Ok(cut(rewritten, targets, old))
    }

    /// Whether the routes speak of the statement's database or of a table it names.
    fn knows_schema(&self) -> bool {
        let s = self.statement;
        let identity = |n: &NameRef| self.route(n) == Routed::Identity;
        self.routes.route_schema(&s.schema, self.case) != RoutedSchema::Identity
            || !s.names.iter().all(identity)
    }

    fn text(&self, (schema, table): &(String, String), qualified: bool) -> String {
        if qualified || *schema != self.schema {
            format!("{}.{}", quote_name(schema), quote_name(table))
        } else {
            quote_name(table)
        }
    }

    fn edit_name(&self, name: &NameRef, edits: &mut Vec<Edit>) -> Result<(), DdlProblem> {
        let s = self.statement;
        let Some(target) = self.target(name) else {
            // System tables may be read by a view; nothing else of what is ignored can be named downstream.
            let system = crate::route::is_system_schema(s.resolve(name).0);
            let body = matches!(s.kind, Kind::View(..) | Kind::Program { .. });
            return if system || (body && name.role == NameRole::Source) {
                Ok(())
            } else {
                Err(DdlProblem::NeedsIgnored {
                    sql: s.beginning(),
                    table: self.shown(name),
                })
            };
        };
        let (schema, table) = s.resolve(name);
        let moved = (schema, table) != (target.0.as_str(), target.1.as_str());
        // A word of a body may only look like a table: it is touched when a route says that it is one.
        let stays = !moved
            && (name.schema.is_some() || name.role == NameRole::Source || schema == self.schema);
        if !stays {
            edits.push((
                s.bytes(&name.tokens),
                self.text(&target, name.schema.is_some()),
            ));
        }
        Ok(())
    }

    /// Names of constraints hold the name of their table often, because they are unique in a schema.
    fn edit_symbols(&self, changed: &[&NameRef], edits: &mut Vec<Edit>) {
        let s = self.statement;
        let Some(((_, from), (_, to))) = changed
            .first()
            .and_then(|n| Some((s.resolve(n), self.target(n)?)))
        else {
            return;
        };
        if from == to {
            return;
        }
        for at in &s.symbols {
            let Some(token) = s.lexed.tokens.get(*at) else {
                continue;
            };
            let symbol = unquote_name(token.of(&s.sql));
            if symbol.contains(from) {
                edits.push((token.range(), quote_name(&symbol.replace(from, &to))));
            }
        }
    }

    /// `t.c` and `s.t.c` in bodies, where t is a table that is called something else downstream.
    fn edit_qualifiers(&self, edits: &mut Vec<Edit>) {
        let s = self.statement;
        let tokens = &s.lexed.tokens;
        let ident = |at: usize| {
            let t = tokens.get(at)?;
            let name = matches!(t.kind, TokenKind::Word | TokenKind::Quoted);
            name.then(|| unquote_name(t.of(&s.sql)))
        };
        let dot = |at: usize| tokens.get(at).is_some_and(|t| t.of(&s.sql) == ".");
        let moved: Vec<_> = (s.names_as(NameRole::Source))
            .filter_map(|n| Some((s.resolve(n), self.target(n)?)))
            .filter(|(from, to)| *from != (to.0.as_str(), to.1.as_str()))
            .collect();
        if moved.is_empty() {
            return;
        }
        for at in 0..tokens.len() {
            if s.names.iter().any(|n| n.tokens.contains(&at))
                || (at > 0 && dot(at - 1))
                || !dot(at + 1)
            {
                continue;
            }
            let (Some(first), second) = (ident(at), ident(at + 2)) else {
                continue;
            };
            for ((schema, table), to) in &moved {
                if second.as_deref() == Some(*table) && first == *schema && dot(at + 3) {
                    edits.push((s.bytes(&(at..at + 3)), self.text(to, true)));
                    break;
                }
                if first == *table {
                    edits.push((s.bytes(&(at..at + 1)), quote_name(&to.1)));
                    break;
                }
            }
        }
    }

    fn one_by_one(&self, names: &[NameRef], verb: &str) -> Vec<Unit> {
        let s = self.statement;
        if names.iter().all(|n| self.route(n) == Routed::Identity) {
            let targets = names.iter().filter_map(|n| self.unit_target(n)).collect();
            return vec![Unit::new(s.clone(), Effect::Contract, targets)];
        }
        let flowing = names.iter().filter_map(|n| Some((n, self.unit_target(n)?)));
        let units = flowing.map(|(name, target)| {
            let sql = format!(
                "{verb}{}",
                self.text(&target.logical, name.schema.is_some())
            );
            let targets = if name.role == NameRole::Target {
                vec![target]
            } else {
                Vec::new()
            };
            self.made(&sql, targets).about(s.resolve(name).0)
        });
        units.collect()
    }

    /// A unit whose text is ours.
    fn made(&self, sql: &str, targets: Vec<UnitTarget>) -> Unit {
        let session = Session {
            schema: &self.schema,
            mode: LexMode::default(),
        };
        Unit::new(Statement::parse(sql, session), Effect::Contract, targets)
    }

    fn rename(&self, pairs: &[(NameRef, NameRef)]) -> Result<Vec<Unit>, DdlProblem> {
        let s = self.statement;
        let all = pairs.iter().flat_map(|(a, b)| [a, b]);
        if all.clone().all(|n| self.route(n) == Routed::Identity) {
            let targets = pairs
                .iter()
                .filter_map(|(a, _)| self.unit_target(a))
                .collect();
            return Ok(vec![Unit::new(s.clone(), Effect::Contract, targets)]);
        }
        let mut units = Vec::new();
        for (from, to) in pairs {
            match self.renamed(from, to)? {
                None => {}
                Some((target, new)) => {
                    let sql = format!(
                        "RENAME TABLE {} TO {}",
                        self.text(&target.logical, true),
                        self.text(&new, true)
                    );
                    units.push(self.made(&sql, vec![target]));
                }
            }
        }
        Ok(units)
    }

    /// What a rename is to the logical tables: nothing, or a rename.
    fn renamed(&self, from: &NameRef, to: &NameRef) -> Result<Option<Renamed>, DdlProblem> {
        let across = || DdlProblem::RenamedAcrossRoutes {
            from: self.shown(from),
            to: self.shown(to),
        };
        let (target, new) = (self.unit_target(from), self.target(to));
        match (target, new) {
            (None, None) => Ok(None),
            (Some(target), Some(new)) => {
                let copies = matches!(self.route(to), Routed::Broadcast { .. });
                if target.broadcast != copies {
                    return Err(across());
                }
                Ok((target.logical != new).then_some((target, new)))
            }
            _ => Err(across()),
        }
    }

    fn check_alter_rename(&self) -> Result<(), DdlProblem> {
        let Kind::AlterTable(alter) = &self.statement.kind else {
            return Ok(());
        };
        match alter.new_name() {
            Some(to) => self.renamed(&alter.name, to).map(|_| ()),
            None => Ok(()),
        }
    }

    fn database(&self, schema: &str) -> Result<Vec<Unit>, DdlProblem> {
        let s = self.statement;
        let logical = match self.routes.route_schema(schema, self.case) {
            RoutedSchema::Ignored => return Ok(Vec::new()),
            RoutedSchema::Identity => schema.to_owned(),
            RoutedSchema::Logical(logical) => logical,
            RoutedSchema::Several(targets) => {
                return Err(DdlProblem::SeveralDatabases {
                    sql: s.beginning(),
                    schema: schema.to_owned(),
                    targets: targets.join(", "),
                });
            }
        };
        let mut edits = Vec::new();
        if logical != schema
            && let Some(token) = s.database.and_then(|at| s.lexed.tokens.get(at))
        {
            edits.push((token.range(), quote_name(&logical)));
        }
        let rewritten = s.edited(edits, &self.schema, s.mode);
        let effect = rewritten.effect(None);
        Ok(vec![Unit::new(rewritten, effect, Vec::new())])
    }
}
