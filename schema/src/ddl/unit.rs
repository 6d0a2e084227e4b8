//! From the statements of physical tables to statements of logical ones.
//!
//! In: a statement as a node logged it, and the routes. Out: [`Unit`]s, each a whole statement about logical tables with its
//! effect, and an identity by which the same change of other physical tables is recognised. Names are replaced token by
//! token; everything else of the text stays. What cannot be carried over is a [`DdlProblem`].

use std::ops::Range;

use super::effect::Effect;
use super::halves::cut;
use super::reader::NameRole;
use super::rewrite::Rewrite;
use super::statement::{Kind, Session, Statement};
use crate::lex::{TokenKind, quote_name, unquote_name};
use crate::route::{NameCase, Routes};
use crate::table::{Table, same_name};

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
    /// The same as its part said it, where that calls columns otherwise than downstream does.
    pub said: Option<Statement>,
    /// When it is emitted; never [`Effect::Both`] unless the statement cannot be cut in two.
    pub effect: Effect,
    /// Equal for the same change of other physical tables and on other nodes.
    pub identity: String,
    /// The tables it changes; empty for databases, accounts and the like.
    pub targets: Vec<UnitTarget>,
    /// The database on the node that it is about when it changes no table: its own, that of a view or of a stored program.
    pub schema: String,
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
pub(super) type Edit = (Range<usize>, String);

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
        if effect == Effect::NodeLocal || effect == Effect::Account {
            return Ok(vec![Unit::new(self.clone(), effect, Vec::new())]);
        }
        let mut units = self.units_of_tables(routes, case, table)?;
        let about = self.about();
        for unit in units.iter_mut().filter(|u| u.schema.is_empty()) {
            about.clone_into(&mut unit.schema);
        }
        Ok(units)
    }

    /// The database it is about when it changes no table.
    pub(crate) fn about(&self) -> &str {
        match &self.kind {
            Kind::CreateDatabase(name, ..)
            | Kind::AlterDatabase(name, _)
            | Kind::DropDatabase(name)
                if !name.is_empty() =>
            {
                name
            }
            _ => match self.names_as(NameRole::Program).next() {
                Some(name) => self.resolve(name).0,
                None => &self.schema,
            },
        }
    }

    fn units_of_tables<'t>(
        &self,
        routes: &Routes,
        case: NameCase,
        table: &dyn Fn(&str, &str) -> Option<&'t Table>,
    ) -> Result<Vec<Unit>, DdlProblem> {
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

    /// How many tokens from here do not make two statements different: `IF [NOT] EXISTS`, `AUTO_INCREMENT = n`, the word
    /// `COLUMN` where it may be left out.
    fn meaningless(&self, at: usize) -> Option<usize> {
        let word = |n: usize| match self.lexed.tokens.get(at + n) {
            Some(t) if t.kind == TokenKind::Word => t.of(&self.sql).to_ascii_uppercase(),
            Some(t) if t.kind == TokenKind::Number => "1".to_owned(),
            Some(t) if t.kind == TokenKind::Mark => t.of(&self.sql).to_owned(),
            _ => String::new(),
        };
        let words = [word(0), word(1), word(2)];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let before = at.checked_sub(1).and_then(|at| self.lexed.tokens.get(at));
        let before = before.map_or(String::new(), |t| t.of(&self.sql).to_ascii_uppercase());
        if words.first() == Some(&"COLUMN")
            && matches!(self.kind, Kind::AlterTable(_))
            && matches!(
                before.as_str(),
                "ADD" | "DROP" | "MODIFY" | "CHANGE" | "ALTER"
            )
        {
            return Some(1);
        }
        match words.as_slice() {
            ["IF", "NOT", "EXISTS"] | ["AUTO_INCREMENT", "=", "1"] => Some(3),
            ["IF", "EXISTS", _] | ["AUTO_INCREMENT", "1", _] => Some(2),
            _ => None,
        }
    }

    /// The statement with another table in the place of one; a new name that it gives a table stays.
    pub(crate) fn with_table(&self, from: (&str, &str), to: (&str, &str)) -> Self {
        let named = self.names.iter().filter(|n| n.role != NameRole::NewName);
        let edits = named.filter(|n| self.resolve(n) == from).map(|name| {
            let text = format!("{}.{}", quote_name(to.0), quote_name(to.1));
            (self.bytes(&name.tokens), text)
        });
        self.edited(edits.collect(), &self.schema, self.mode)
    }

    /// The statement with columns called something else: (from, to). Words that are names of tables stay.
    pub(crate) fn with_columns(&self, names: &[(String, String)]) -> Self {
        let mut edits = Vec::new();
        for (at, token) in self.lexed.tokens.iter().enumerate() {
            if !matches!(token.kind, TokenKind::Word | TokenKind::Quoted)
                || self.names.iter().any(|n| n.tokens.contains(&at))
            {
                continue;
            }
            let name = unquote_name(token.of(&self.sql));
            let found = names.iter().find(|(from, _)| same_name(from, &name));
            if let Some((_, to)) = found {
                edits.push((token.range(), quote_name(to)));
            }
        }
        self.edited(edits, &self.schema, self.mode)
    }

    /// The statement with some bytes replaced, read anew.
    pub(super) fn edited(
        &self,
        mut edits: Vec<Edit>,
        schema: &str,
        mode: crate::lex::LexMode,
    ) -> Self {
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
    pub(super) fn bytes(&self, tokens: &Range<usize>) -> Range<usize> {
        let first = self.lexed.tokens.get(tokens.start);
        let last = self.lexed.tokens.get(tokens.end.saturating_sub(1));
        match (first, last) {
            (Some(first), Some(last)) if tokens.start < tokens.end => {
                first.range().start..last.range().end
            }
            _ => self.sql.len()..self.sql.len(),
        }
    }

    pub(super) fn beginning(&self) -> String {
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
    pub(super) fn new(statement: Statement, effect: Effect, targets: Vec<UnitTarget>) -> Self {
        Self {
            identity: statement.identity(),
            schema: String::new(),
            statement,
            said: None,
            effect,
            targets,
        }
    }

    /// The same about another logical table.
    pub(crate) fn with_table(mut self, from: &(String, String), to: &(String, String)) -> Self {
        let (a, b) = (
            (from.0.as_str(), from.1.as_str()),
            (to.0.as_str(), to.1.as_str()),
        );
        self.statement = self.statement.with_table(a, b);
        self.identity = self.statement.identity();
        for target in self.targets.iter_mut().filter(|t| t.logical == *from) {
            target.logical.clone_from(to);
        }
        self
    }

    pub(super) fn about(mut self, schema: &str) -> Self {
        schema.clone_into(&mut self.schema);
        self
    }
}
