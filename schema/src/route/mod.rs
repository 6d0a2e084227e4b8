//! Which logical table a physical table belongs to.
//!
//! In: the rules of the configuration, then the names of tables as nodes write them. Out: where each goes, and a list of
//! everything that is wrong with the rules. The first rule that matches decides; what no rule matches keeps its name; the
//! schemas that belong to each server never flow.

mod pattern;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use pattern::{Pattern, Target};

/// Schemas that belong to each server (`ndbinfo` where there is NDB).
const SYSTEM_SCHEMAS: [&str; 5] = [
    "information_schema",
    "mysql",
    "ndbinfo",
    "performance_schema",
    "sys",
];

/// Entries of a [`Router`]'s cache; it is emptied when it is full.
const CACHE_ENTRIES_MAX: usize = 1 << 16;

/// Whether a schema belongs to the server itself and never flows.
#[must_use]
pub fn is_system_schema(name: &str) -> bool {
    SYSTEM_SCHEMAS.iter().any(|s| s.eq_ignore_ascii_case(name))
}

/// One rule of the configuration.
///
/// `from` is `database.table`. In each part `*` (also written `{*}`) stands for any characters and is captured, `?` for one;
/// a part between slashes is a regular expression for that whole name; a single `/…/` is one for `database.table`; a
/// database alone means all its tables. Names with dots, stars or slashes are put in backticks. `to` is `database.table` with
/// `$1`, `${2}` … for what was captured, counted from the left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteRule {
    /// Tables that are parts of one logical table.
    Map {
        /// Physical tables.
        from: String,
        /// The logical table.
        to: String,
    },
    /// Tables that have the same rows on every node: they are taken from one of them.
    Broadcast {
        /// Physical tables.
        from: String,
        /// The logical table; the same name when `None`.
        to: Option<String>,
    },
    /// Tables that do not flow.
    Ignore {
        /// Physical tables.
        from: String,
    },
    /// Distributed transactions with this xid format id do not flow.
    IgnoreFormatId(i32),
}

/// Something wrong with the routes; one line for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum RouteProblem {
    /// The text of a rule cannot be read.
    #[error("route `{rule}`: {problem}")]
    Malformed {
        /// The text.
        rule: String,
        /// What is wrong.
        problem: String,
    },
    /// Two rules have the same `from`.
    #[error("route `{rule}` is given twice")]
    Twice {
        /// The text.
        rule: String,
    },
    /// A rule sends rows into a schema of the server.
    #[error("route `{rule}`: `{schema}` belongs to the server")]
    SystemSchema {
        /// The text.
        rule: String,
        /// The schema.
        schema: String,
    },
    /// Two rules claim a table for different targets.
    #[error("table {table} is claimed by route `{first}` and by route `{second}`")]
    Claimed {
        /// The physical table.
        table: String,
        /// The rule that decides.
        first: String,
        /// The rule that would decide otherwise.
        second: String,
    },
    /// A rule matches no table.
    #[error("route `{rule}` matches no table")]
    MatchesNothing {
        /// The text.
        rule: String,
    },
    /// A table that no rule matches has the name of a logical table of a rule.
    #[error("table {table} has the name that route `{rule}` gives to other tables")]
    TargetExists {
        /// The table.
        table: String,
        /// The rule.
        rule: String,
    },
    /// A table that no rule matches is in a database that other rules send elsewhere: `CREATE DATABASE` follows them.
    #[error(
        "table {table} matches no route, but its database goes to `{to}`, so it has none downstream; route or ignore it, too"
    )]
    DatabaseMoves {
        /// The table.
        table: String,
        /// Where its database goes.
        to: String,
    },
    /// A logical table is fed both by parts and by broadcast tables.
    #[error("table {table} is made of parts by route `{parts}` and of copies by route `{copies}`")]
    PartsAndCopies {
        /// The logical table.
        table: String,
        /// The rule that maps.
        parts: String,
        /// The broadcast rule.
        copies: String,
    },
}

/// Where a table goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routed {
    /// It is a part of this logical table.
    Logical {
        /// Schema of the logical table.
        schema: String,
        /// Its name.
        table: String,
    },
    /// It is a copy of this logical table, of which one is taken.
    Broadcast {
        /// Schema of the logical table.
        schema: String,
        /// Its name.
        table: String,
    },
    /// It does not flow.
    Ignored,
    /// It keeps its name.
    Identity,
}

/// Where a database goes, for statements that name one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutedSchema {
    /// All routes of its tables lead into this logical schema, which may have the same name.
    Logical(String),
    /// None of its tables flow.
    Ignored,
    /// No rule speaks of it.
    Identity,
    /// Its tables go to several logical schemas.
    Several(Vec<String>),
}

/// How a node compares names (`lower_case_table_names`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NameCase {
    /// 0: `Orders` and `orders` are two tables.
    #[default]
    Exact,
    /// 1 and 2: they are the same.
    Folded,
}

impl NameCase {
    /// From the value of `lower_case_table_names`.
    #[must_use]
    pub fn from_variable(lower_case_table_names: u8) -> Self {
        if lower_case_table_names == 0 {
            Self::Exact
        } else {
            Self::Folded
        }
    }
}

#[derive(Clone, Debug)]
enum Action {
    Map(Target),
    Broadcast(Option<Target>),
    Ignore,
}

#[derive(Clone, Debug)]
struct Rule {
    exact: Pattern,
    folded: Pattern,
    action: Action,
}

impl Rule {
    fn pattern(&self, case: NameCase) -> &Pattern {
        match case {
            NameCase::Exact => &self.exact,
            NameCase::Folded => &self.folded,
        }
    }

    fn outcome(&self, schema: &str, table: &str, case: NameCase) -> Option<Routed> {
        let caught = self.pattern(case).matches(schema, table)?;
        Some(match &self.action {
            Action::Map(target) => {
                let (schema, table) = target.fill(&caught);
                Routed::Logical { schema, table }
            }
            Action::Broadcast(target) => {
                let same = || (schema.to_owned(), table.to_owned());
                let (schema, table) = target.as_ref().map_or_else(same, |t| t.fill(&caught));
                Routed::Broadcast { schema, table }
            }
            Action::Ignore => Routed::Ignored,
        })
    }
}

/// The compiled rules of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    rules: Vec<Rule>,
    ignored_format_ids: Vec<i32>,
}

impl Routes {
    /// Compiles the rules.
    ///
    /// # Errors
    /// Every rule that cannot be read, is given twice, or leads into a schema of the server.
    pub fn compile(rules: &[RouteRule]) -> Result<Self, Vec<RouteProblem>> {
        let mut routes = Self::default();
        let mut problems = Vec::new();
        for rule in rules {
            let (from, to, broadcast) = match rule {
                RouteRule::Map { from, to } => (from, Some(to), false),
                RouteRule::Broadcast { from, to } => (from, to.as_ref(), true),
                RouteRule::Ignore { from } => (from, None, false),
                RouteRule::IgnoreFormatId(id) => {
                    routes.ignored_format_ids.push(*id);
                    continue;
                }
            };
            match compile_rule(from, to, broadcast) {
                Ok(compiled) => {
                    if routes.rules.iter().any(|r| r.exact.text() == from) {
                        problems.push(RouteProblem::Twice { rule: from.clone() });
                    }
                    routes.rules.push(compiled);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(routes)
        } else {
            Err(problems)
        }
    }

    /// Whether every table keeps its name and flows from wherever it is: there is nothing to look up.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether distributed transactions with this xid format id do not flow.
    #[must_use]
    pub fn ignores_format_id(&self, id: i32) -> bool {
        self.ignored_format_ids.contains(&id)
    }

    /// Where a table goes. Not cached: see [`Router`].
    #[must_use]
    pub fn route(&self, schema: &str, table: &str, case: NameCase) -> Routed {
        if is_system_schema(schema) {
            return Routed::Ignored;
        }
        let mut outcomes = self.rules.iter().map(|r| r.outcome(schema, table, case));
        outcomes.find_map(|o| o).unwrap_or(Routed::Identity)
    }

    /// Where a database goes, for statements such as `CREATE DATABASE`: where the rules send its tables.
    #[must_use]
    pub fn route_schema(&self, schema: &str, case: NameCase) -> RoutedSchema {
        if is_system_schema(schema) {
            return RoutedSchema::Ignored;
        }
        let mut targets = Vec::new();
        for rule in &self.rules {
            let Some(caught) = rule.pattern(case).matches_schema(schema) else {
                continue;
            };
            match &rule.action {
                // An ignored table says nothing about its database, unless all of its tables are ignored.
                Action::Ignore => {
                    if rule.pattern(case).matches(schema, "\u{1}any").is_some()
                        && targets.is_empty()
                    {
                        return RoutedSchema::Ignored;
                    }
                }
                Action::Broadcast(None) => targets.push(schema.to_owned()),
                Action::Map(target) | Action::Broadcast(Some(target)) => {
                    targets.extend(target.fill_schema(&caught));
                }
            }
        }
        targets.sort();
        targets.dedup();
        match targets.len() {
            0 => RoutedSchema::Identity,
            1 => targets
                .pop()
                .map_or(RoutedSchema::Identity, RoutedSchema::Logical),
            _ => RoutedSchema::Several(targets),
        }
    }

    /// What is wrong with the rules, given all tables of all nodes: tables that two rules claim, rules that match nothing,
    /// targets that exist by themselves.
    #[must_use]
    pub fn check<'a>(
        &self,
        tables: impl IntoIterator<Item = (&'a str, &'a str)>,
        case: NameCase,
    ) -> Vec<RouteProblem> {
        let mut problems = Vec::new();
        let mut used = vec![false; self.rules.len()];
        // Logical table → the rule that maps to it, the rule that broadcasts to it.
        let mut targets: BTreeMap<(String, String), [Option<usize>; 2]> = BTreeMap::new();
        let mut unrouted = Vec::new();
        for (schema, table) in tables {
            if is_system_schema(schema) {
                continue;
            }
            let hits = (self.rules.iter().enumerate())
                .filter_map(|(at, r)| Some((at, r.outcome(schema, table, case)?)));
            let hits: Vec<_> = hits.collect();
            hits.iter().for_each(|(at, _)| used[*at] = true);
            let Some(((first, outcome), others)) = hits.split_first() else {
                unrouted.push((schema.to_owned(), table.to_owned()));
                continue;
            };
            for (second, _) in others.iter().filter(|(_, o)| o != outcome) {
                problems.push(RouteProblem::Claimed {
                    table: name(schema, table),
                    first: self.text(*first),
                    second: self.text(*second),
                });
            }
            let (target, slot) = match outcome.clone() {
                Routed::Logical { schema, table } => ((schema, table), 0),
                Routed::Broadcast { schema, table } => ((schema, table), 1),
                Routed::Ignored | Routed::Identity => continue,
            };
            targets.entry(target).or_default()[slot].get_or_insert(*first);
        }
        self.check_targets(&targets, &unrouted, &mut problems);
        for (schema, table) in &unrouted {
            if let RoutedSchema::Logical(to) = self.route_schema(schema, case)
                && to != *schema
            {
                let table = name(schema, table);
                problems.push(RouteProblem::DatabaseMoves { table, to });
            }
        }
        let unused = self.rules.iter().zip(&used).filter(|(_, used)| !**used);
        problems.extend(unused.map(|(rule, _)| RouteProblem::MatchesNothing {
            rule: rule.exact.text().to_owned(),
        }));
        problems.sort();
        problems.dedup();
        problems
    }

    fn check_targets(
        &self,
        targets: &BTreeMap<(String, String), [Option<usize>; 2]>,
        unrouted: &[(String, String)],
        problems: &mut Vec<RouteProblem>,
    ) {
        for (target, rules) in targets {
            let table = name(&target.0, &target.1);
            if let [Some(parts), Some(copies)] = *rules {
                problems.push(RouteProblem::PartsAndCopies {
                    table: table.clone(),
                    parts: self.text(parts),
                    copies: self.text(copies),
                });
            }
            if let Some(rule) = rules.iter().flatten().next()
                && unrouted.contains(target)
            {
                let rule = self.text(*rule);
                problems.push(RouteProblem::TargetExists { table, rule });
            }
        }
    }

    fn text(&self, rule: usize) -> String {
        let rule = self.rules.get(rule);
        rule.map_or_else(String::new, |r| r.exact.text().to_owned())
    }
}

fn compile_rule(from: &str, to: Option<&String>, broadcast: bool) -> Result<Rule, RouteProblem> {
    let malformed = |problem| RouteProblem::Malformed {
        rule: from.to_owned(),
        problem,
    };
    let exact = Pattern::parse(from, false).map_err(malformed)?;
    let folded = Pattern::parse(from, true).map_err(malformed)?;
    let target = to.map(|to| Target::parse(to, exact.captures()).map_err(malformed));
    let target = target.transpose()?;
    if let Some(schema) = target.as_ref().and_then(|t| t.fill_schema(&Vec::new()))
        && is_system_schema(&schema)
    {
        let rule = from.to_owned();
        return Err(RouteProblem::SystemSchema { rule, schema });
    }
    let action = match (target, broadcast) {
        (target, true) => {
            if target.is_none() && exact.is_literal() && exact.matches("", "").is_some() {
                return Err(malformed("an empty name".to_owned()));
            }
            Action::Broadcast(target)
        }
        (Some(target), false) => Action::Map(target),
        (None, false) => Action::Ignore,
    };
    Ok(Rule {
        exact,
        folded,
        action,
    })
}

/// A table's name as messages show it.
fn name(schema: &str, table: &str) -> String {
    format!("{}.{}", Shown(schema), Shown(table))
}

/// A name in backticks when it needs them.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(['.', '`', ' ', '*']) {
            write!(f, "`{}`", self.0.replace('`', "``"))
        } else {
            f.write_str(self.0)
        }
    }
}

/// The routes of one node, remembering what it has looked up. Names come as bytes of Table_map events.
#[derive(Clone, Debug)]
pub struct Router {
    routes: std::sync::Arc<Routes>,
    case: NameCase,
    cache: HashMap<Vec<u8>, Routed>,
    key: Vec<u8>,
}

impl Router {
    /// A router for a node.
    #[must_use]
    pub fn new(routes: std::sync::Arc<Routes>, case: NameCase) -> Self {
        Self {
            routes,
            case,
            cache: HashMap::new(),
            key: Vec::new(),
        }
    }

    /// Where a table goes. Names that are not UTF-8 match no rule and keep their names.
    pub fn route(&mut self, schema: &[u8], table: &[u8]) -> &Routed {
        self.key.clear();
        self.key.extend_from_slice(schema);
        // No name holds a NUL.
        self.key.push(0);
        self.key.extend_from_slice(table);
        if !self.cache.contains_key(&self.key) {
            if self.cache.len() >= CACHE_ENTRIES_MAX {
                self.cache.clear();
            }
            let names = (std::str::from_utf8(schema), std::str::from_utf8(table));
            let routed = match names {
                (Ok(schema), Ok(table)) => self.routes.route(schema, table, self.case),
                _ => Routed::Identity,
            };
            self.cache.insert(self.key.clone(), routed);
        }
        self.cache.get(&self.key).unwrap_or(&Routed::Identity)
    }

    /// The rules behind it.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// How the node compares names.
    #[must_use]
    pub fn case(&self) -> NameCase {
        self.case
    }
}
