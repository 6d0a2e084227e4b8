//! From the statements of physical tables to statements of logical ones.
//!
//! In: a statement as a node logged it, and the routes. Out: [`Unit`]s, each a whole statement about logical tables with its
//! effect, and an identity by which the same change of other physical tables is recognised. Names are replaced token by
//! token; everything else of the text stays. What cannot be carried over is a [`DdlProblem`].

use std::ops::Range;

use super::alter::AlterAction;
use super::effect::{Effect, item_effect};
use super::reader::{NameRef, NameRole};
use super::statement::{Kind, Session, Statement};
use crate::lex::{TokenKind, quote_name, unquote_name};
use crate::route::{NameCase, Routed, RoutedSchema, Routes};
use crate::table::Table;

/// A physical table and the logical one it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitTarget {
    /// Schema and name on the node.
    pub physical: (String, String),
    /// Schema and name downstream.
    pub logical: (String, String),
    /// Every node has the same rows.
    pub broadcast: bool,
}

/// One statement about logical tables.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The statement, rewritten; its default database is that of the Query event to write.
    pub statement: Statement,
    /// When it is emitted; never [`Effect::Both`] unless the statement cannot be cut in two.
    pub effect: Effect,
    /// Equal for the same change of other physical tables and on other nodes.
    pub identity: String,
    /// The tables it changes; empty for databases, accounts and the like.
    pub targets: Vec<UnitTarget>,
}

/// Why a statement cannot be carried over to the logical tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DdlProblem {
    /// Its tables cannot be told, and routes rename tables of its database.
    #[error(
        "cannot rewrite the names in `{sql}`: the statement is not understood; route or ignore its tables by their own names, or run it downstream by hand"
    )]
    NotUnderstood {
        /// The beginning of the statement.
        sql: String,
    },
    /// It changes a database whose tables go to several logical ones.
    #[error("`{sql}`: tables of database `{schema}` go to several databases ({targets})")]
    SeveralDatabases {
        /// The beginning of the statement.
        sql: String,
        /// The database.
        schema: String,
        /// Where its tables go.
        targets: String,
    },
    /// It renames between a table that flows and one that does not, or copies and parts.
    #[error(
        "`{from}` is renamed to `{to}`, but one of them does not flow: the logical table would get another definition and other rows; add a route for both names"
    )]
    RenamedAcrossRoutes {
        /// The table.
        from: String,
        /// What it is called afterwards.
        to: String,
    },
    /// It needs a table that does not flow.
    #[error("`{sql}` needs table `{table}`, which is ignored")]
    NeedsIgnored {
        /// The beginning of the statement.
        sql: String,
        /// The table.
        table: String,
    },
}

/// A text that replaces some bytes.
type Edit = (Range<usize>, String);

/// Where the names of a statement go.
struct Rewrite<'a> {
    statement: &'a Statement,
    routes: &'a Routes,
    case: NameCase,
    /// Default database downstream.
    schema: String,
}

impl Statement {
    /// The statements about logical tables that this one stands for: none when nothing of it flows, several when it changes
    /// several tables or is cut into an expanding and a contracting one. `table` finds the definition of a physical table
    /// (schema, name) before the statement.
    ///
    /// # Errors
    /// What keeps it from being carried over, by name.
    pub fn units<'t>(
        &self,
        routes: &Routes,
        case: NameCase,
        table: &dyn Fn(&str, &str) -> Option<&'t Table>,
    ) -> Result<Vec<Unit>, DdlProblem> {
        let effect = self.effect(None);
        if matches!(effect, Effect::NodeLocal | Effect::Account) {
            return Ok(vec![Unit::new(self.clone(), effect, Vec::new())]);
        }
        let old = self.names_as(NameRole::Target).next();
        let old = old.map(|n| self.resolve(n)).and_then(|(s, t)| table(s, t));
        if routes.is_identity() {
            let targets = self.names_as(NameRole::Target).map(|n| self.resolve(n));
            let targets = targets.map(|n| same(n, false)).collect();
            return Ok(cut(self.clone(), targets, old));
        }
        Rewrite::new(self, routes, case).units(old)
    }

    /// Equal for the same statement in other words: comments, white space, case of keywords, quotes and counters do not
    /// count, names of tables do as what they stand for.
    #[must_use]
    pub fn identity(&self) -> String {
        let mut out = String::with_capacity(self.sql.len() + 16);
        if self.lexed.torn
            || matches!(
                self.kind,
                Kind::View(..) | Kind::Program { .. } | Kind::Other
            )
        {
            out.push_str(&self.schema);
            out.push('\0');
        }
        if self.lexed.torn {
            out.push_str(&self.sql);
            return out;
        }
        let mut names = self.names.iter().peekable();
        let mut at = 0;
        while let Some(token) = self.lexed.tokens.get(at) {
            if let Some(name) = names.next_if(|n| n.tokens.start <= at) {
                let (schema, table) = self.resolve(name);
                out.push_str(&format!("{}.{}", quote_name(schema), quote_name(table)));
                at = name.tokens.end.max(at + 1);
            } else if let Some(skip) = self.meaningless(at) {
                at += skip;
                continue;
            } else {
                let text = token.of(&self.sql);
                match token.kind {
                    TokenKind::Word | TokenKind::Quoted if self.database == Some(at) => {
                        out.push_str(&unquote_name(text));
                    }
                    TokenKind::Word | TokenKind::Quoted => {
                        out.push_str(&unquote_name(text).to_uppercase());
                    }
                    _ => out.push_str(text),
                }
                at += 1;
            }
            out.push('\0');
        }
        out
    }

    /// How many tokens from here do not make two statements different: `IF [NOT] EXISTS`, `AUTO_INCREMENT = n`.
    fn meaningless(&self, at: usize) -> Option<usize> {
        let word = |n: usize| match self.lexed.tokens.get(at + n) {
            Some(t) if t.kind == TokenKind::Word => t.of(&self.sql).to_ascii_uppercase(),
            Some(t) if t.kind == TokenKind::Number => "1".to_owned(),
            Some(t) if t.kind == TokenKind::Mark => t.of(&self.sql).to_owned(),
            _ => String::new(),
        };
        let words = [word(0), word(1), word(2)];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["IF", "NOT", "EXISTS"] | ["AUTO_INCREMENT", "=", "1"] => Some(3),
            ["IF", "EXISTS", _] | ["AUTO_INCREMENT", "1", _] => Some(2),
            _ => None,
        }
    }

    /// The statement with some bytes replaced, read anew.
    fn edited(&self, mut edits: Vec<Edit>, schema: &str, mode: crate::lex::LexMode) -> Self {
        edits.sort_by_key(|(range, _)| range.start);
        let mut sql = String::with_capacity(self.sql.len() + 16);
        let mut at = 0;
        for (range, text) in edits {
            if range.start < at {
                continue;
            }
            sql.push_str(self.sql.get(at..range.start).unwrap_or(""));
            sql.push_str(&text);
            at = range.end;
        }
        sql.push_str(self.sql.get(at..).unwrap_or(""));
        Self::parse(&sql, Session { schema, mode })
    }

    /// The bytes of some tokens.
    fn bytes(&self, tokens: &Range<usize>) -> Range<usize> {
        let first = self.lexed.tokens.get(tokens.start);
        let last = self.lexed.tokens.get(tokens.end.saturating_sub(1));
        match (first, last) {
            (Some(first), Some(last)) if tokens.start < tokens.end => {
                first.range().start..last.range().end
            }
            _ => self.sql.len()..self.sql.len(),
        }
    }

    fn beginning(&self) -> String {
        self.sql.chars().take(120).collect()
    }

    /// The statement with its table's character set named, if it is a `CREATE TABLE` that does not name it. For tables whose
    /// schema has another default downstream.
    #[must_use]
    pub fn with_charset(&self, collation: crate::Collation) -> Option<Self> {
        let Kind::CreateTable(create) = &self.kind else {
            return None;
        };
        let behind = create.options_at.filter(|_| !create.names_charset())?;
        let (charset, name) = (collation.charset()?, collation.name()?);
        let at = self.lexed.tokens.get(behind.checked_sub(1)?)?.range().end;
        let text = format!(" DEFAULT CHARSET={} COLLATE={name}", charset.name());
        let mode = self.mode;
        Some(self.edited(vec![(at..at, text)], &self.schema, mode))
    }
}

fn same((schema, table): (&str, &str), broadcast: bool) -> UnitTarget {
    let name = (schema.to_owned(), table.to_owned());
    UnitTarget {
        physical: name.clone(),
        logical: name,
        broadcast,
    }
}

impl Unit {
    fn new(statement: Statement, effect: Effect, targets: Vec<UnitTarget>) -> Self {
        Self {
            identity: statement.identity(),
            statement,
            effect,
            targets,
        }
    }
}

impl<'a> Rewrite<'a> {
    fn new(statement: &'a Statement, routes: &'a Routes, case: NameCase) -> Self {
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

    fn units(&self, old: Option<&Table>) -> Result<Vec<Unit>, DdlProblem> {
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
            self.made(&sql, targets)
        });
        units.collect()
    }

    /// A unit whose text is ours.
    fn made(&self, sql: &str, targets: Vec<UnitTarget>) -> Unit {
        let session = Session {
            schema: &self.schema,
            mode: crate::lex::LexMode::default(),
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
    fn renamed(
        &self,
        from: &NameRef,
        to: &NameRef,
    ) -> Result<Option<(UnitTarget, (String, String))>, DdlProblem> {
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

/// Takes a `RENAME TO` that leads to the same logical table out of an `ALTER TABLE`; `None` when nothing is left.
fn without_rename_to_itself(statement: Statement) -> Option<Statement> {
    let Kind::AlterTable(alter) = &statement.kind else {
        return Some(statement);
    };
    let own = statement.resolve(&alter.name);
    let itself = |action: &AlterAction| match action {
        AlterAction::RenameTo(name) => statement.resolve(name) == own,
        _ => false,
    };
    if !alter.items.iter().any(|i| itself(&i.action)) {
        return Some(statement);
    }
    let left: Vec<usize> = (alter.items.iter().enumerate())
        .filter(|(_, i)| !itself(&i.action))
        .map(|(at, _)| at)
        .collect();
    let any = (left.iter()).any(|at| {
        alter
            .items
            .get(*at)
            .is_some_and(|i| i.action != AlterAction::Nothing)
    });
    if any {
        with_items(&statement, &left)
    } else {
        None
    }
}

/// An `ALTER TABLE` with some of its actions.
fn with_items(statement: &Statement, items: &[usize]) -> Option<Statement> {
    let Kind::AlterTable(alter) = &statement.kind else {
        return None;
    };
    let head = alter.head?;
    let end = statement
        .lexed
        .tokens
        .get(head.checked_sub(1)?)?
        .range()
        .end;
    let mut sql = statement.sql.get(..end)?.to_owned();
    for (n, at) in items.iter().enumerate() {
        sql.push_str(if n == 0 { " " } else { ", " });
        let bytes = statement.bytes(&alter.items.get(*at)?.tokens);
        sql.push_str(statement.sql.get(bytes)?);
    }
    let session = Session {
        schema: &statement.schema,
        mode: statement.mode,
    };
    Some(Statement::parse(&sql, session))
}

/// Cuts an `ALTER TABLE` that both expands and contracts in two, if its actions do not depend on each other.
fn cut(statement: Statement, targets: Vec<UnitTarget>, old: Option<&Table>) -> Vec<Unit> {
    let effect = statement.effect(old);
    if effect == Effect::Both
        && let Some([expand, contract]) = halves(&statement, old)
    {
        return vec![
            Unit::new(expand, Effect::Expand, targets.clone()),
            Unit::new(contract, Effect::Contract, targets),
        ];
    }
    vec![Unit::new(statement, effect, targets)]
}

fn halves(statement: &Statement, old: Option<&Table>) -> Option<[Statement; 2]> {
    let Kind::AlterTable(alter) = &statement.kind else {
        return None;
    };
    alter.head?;
    let (mut expand, mut contract) = (Vec::new(), Vec::new());
    // Names of columns that the contracting half takes away or brings.
    let mut touched = Vec::new();
    for (at, item) in alter.items.iter().enumerate() {
        match item_effect(item, old) {
            None => {
                expand.push(at);
                contract.push(at);
            }
            Some(Effect::Contract) => {
                contract.push(at);
                match &item.action {
                    AlterAction::DropColumn(name) => touched.push(name.to_lowercase()),
                    AlterAction::RenameColumn(from, to) => {
                        touched.extend([from.to_lowercase(), to.to_lowercase()]);
                    }
                    AlterAction::ChangeColumn(from, def, _) => {
                        touched.extend([from.to_lowercase(), def.column.name.to_lowercase()]);
                    }
                    // Behind a rename the second half would not find its table.
                    AlterAction::RenameTo(_) => {}
                    _ => {}
                }
            }
            Some(_) => {
                // A key that is replaced must not be missing in between.
                if matches!(
                    item.action,
                    AlterAction::DropKey(_) | AlterAction::DropPrimaryKey | AlterAction::Unknown
                ) {
                    return None;
                }
                expand.push(at);
            }
        }
    }
    let words = |at: &usize| {
        let tokens = alter
            .items
            .get(*at)
            .map(|i| i.tokens.clone())
            .unwrap_or_default();
        let tokens = statement.lexed.tokens.get(tokens).unwrap_or(&[]);
        tokens
            .iter()
            .filter(|t| matches!(t.kind, TokenKind::Word | TokenKind::Quoted))
            .any(|t| touched.contains(&unquote_name(t.of(&statement.sql)).to_lowercase()))
    };
    let own: Vec<usize> = expand
        .iter()
        .copied()
        .filter(|at| !contract.contains(at))
        .collect();
    if own.iter().any(words) {
        return None;
    }
    Some([
        with_items(statement, &expand)?,
        with_items(statement, &contract)?,
    ])
}
