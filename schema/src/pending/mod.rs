//! Logical statements that some physical tables have had and others have not.
//!
//! In: units of statements as they come from the nodes, each with the physical table it changed, and all physical tables of
//! the logical one. Out: whether the logical statement is emitted here: an expanding one with the first, a contracting one
//! with the last. The n-th occurrence on one table belongs to the n-th on every other. What is left is what an operator must
//! see: which table, which statement, who has it, who has not, since when.

mod born;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tributary_flow::{Mutant, mutant};

use crate::ddl::{Effect, Kind, Session, Statement, Unit};
use crate::table::{Column, same_name};

/// A physical table on a node; for statements about databases and the like, the node alone with empty names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Participant {
    /// The node's name.
    pub node: String,
    /// Schema on the node.
    pub schema: String,
    /// Table on the node.
    pub table: String,
}

/// What to do with an occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Emit the logical statement here.
    Emit,
    /// Others must have it first.
    Wait,
    /// It was emitted before.
    Absorbed,
    /// It does not flow.
    Dropped,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    schema: String,
    /// As it is written.
    sql: String,
    /// As the first that had it said it, where that is not the same.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    said: String,
    /// The logical database, for statements without tables.
    database: String,
    contract: bool,
    removes_rows: bool,
    /// Whoever has had it is gone.
    drops: bool,
    tables: Vec<(String, String)>,
    renamed: Vec<(String, String)>,
    /// Columns that are there behind it with another definition, or were not before.
    #[serde(default)]
    adds: Vec<String>,
    /// Columns that are not there behind it.
    #[serde(default)]
    leaves: Vec<String>,
    /// Those of `counts` whose definition does not tell whether they have had it or will have it.
    #[serde(default)]
    presumed: Vec<Participant>,
    /// Statements are numbered as they come.
    #[serde(default)]
    number: u64,
    /// How often each has had it, less what all have had. A list, because JSON has no keys of several parts.
    counts: Vec<(Participant, u64)>,
    emitted: u64,
    /// When the first had it, µs.
    since: u64,
}

/// A statement that waits for some, for the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PendingStatement {
    /// The logical tables, as `schema.table`.
    pub tables: Vec<String>,
    /// The logical statement.
    pub statement: String,
    /// Whether downstream has it: true for an expanding one, which the rest only follow.
    pub emitted: bool,
    /// Who has had it.
    pub have: Vec<Participant>,
    /// Who has not.
    pub missing: Vec<Participant>,
    /// Commit time of its first occurrence, µs.
    pub since: u64,
}

/// All statements that are not complete. Its JSON is what a checkpoint keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pending {
    open: BTreeMap<String, Entry>,
}

impl Pending {
    /// `who` has had `unit` with commit time `time` (µs). `all` are the physical tables that make up the logical ones, on all
    /// nodes (for statements without tables: the databases); a statement that
    /// [`crate::History::is_satisfied`] answers true for is not observed unless it [follows](Self::is_behind): it makes a
    /// further part of a logical table.
    pub fn observe(
        &mut self,
        unit: &Unit,
        who: &Participant,
        all: &[Participant],
        time: u64,
    ) -> Verdict {
        if matches!(unit.effect, Effect::NodeLocal | Effect::Account) {
            return Verdict::Dropped;
        }
        let number = self.open.values().map(|e| e.number + 1).max().unwrap_or(0);
        let entry = self
            .open
            .entry(unit.identity.clone())
            .or_insert_with(|| Entry::new(unit, number, time));
        let contract = match entry.contract {
            true => !mutant(Mutant::ContractWithFirst),
            false => mutant(Mutant::ExpandWithLast),
        };
        entry.add(who);
        let most = entry.most();
        let left_out = usize::from(mutant(Mutant::ForgetPart));
        let all = all.iter().skip(left_out);
        let counts: Vec<u64> = all.chain([who]).map(|p| entry.count(p)).collect();
        let least = counts.iter().copied().min().unwrap_or(0);
        let due = if contract { least } else { most };
        let verdict = if due > entry.emitted {
            Verdict::Emit
        } else if contract && entry.emitted < entry.count(who) {
            Verdict::Wait
        } else {
            Verdict::Absorbed
        };
        entry.emitted = entry.emitted.max(due);
        if counts.iter().all(|n| *n == most) {
            self.open.remove(&unit.identity);
        } else if least > 0 {
            entry.settle(least, time);
        }
        verdict
    }

    /// Whether others have had this statement more often than `who`: its next occurrence there belongs to one of theirs.
    #[must_use]
    pub fn is_behind(&self, identity: &str, who: &Participant) -> bool {
        self.open.get(identity).is_some_and(|entry| {
            let own = entry.count(who);
            entry.counts.iter().any(|(_, n)| *n > own)
        })
    }

    /// Closes what is emitted and nobody lacks any longer: `all` as for [`Self::statements`].
    pub fn close_complete(&mut self, all: &dyn Fn(&str, &str) -> Vec<Participant>) {
        self.open.retain(|_, e| {
            let everyone = e.everyone(all);
            // Of a table of which nothing is known nobody is known to lack it.
            everyone.is_empty() || e.emitted < e.most() || !e.missing(everyone).is_empty()
        });
    }

    /// Columns of a logical table are gone: who has not had what made them so will not need it.
    pub fn close_columns(&mut self, table: &(String, String), gone: &[String]) {
        let is_gone = |c: &String| gone.iter().any(|g| same_name(g, c));
        self.open.retain(|_, e| {
            let about = !e.contract && e.emitted >= e.most() && e.tables.contains(table);
            !(about && !e.adds.is_empty() && e.adds.iter().all(is_gone))
        });
    }

    /// Statements that this physical table has had and downstream has not, in their order: default database and text.
    #[must_use]
    pub fn ahead(&self, who: &Participant) -> Vec<(&str, &str)> {
        let had = |e: &&Entry| e.contract && e.count(who) > e.emitted;
        let mut ahead: Vec<&Entry> = self.open.values().filter(had).collect();
        ahead.sort_by_key(|e| e.number);
        let texts = ahead.iter().map(|e| (e.schema.as_str(), e.sql.as_str()));
        texts.collect()
    }

    /// A physical table is called something else now.
    pub fn renamed(&mut self, from: &Participant, to: &Participant) {
        for entry in self.open.values_mut() {
            entry.counts.retain(|(p, _)| p != to);
            for (p, _) in entry.counts.iter_mut().filter(|(p, _)| p == from) {
                p.clone_from(to);
            }
        }
    }

    /// A logical table is called something else from here on.
    pub fn relabel(&mut self, from: &(String, String), to: &(String, String)) {
        for (identity, mut entry) in std::mem::take(&mut self.open) {
            let mut identity = identity;
            if entry.tables.contains(from) {
                let session = Session::in_schema(&entry.schema);
                let (a, b) = (
                    (from.0.as_str(), from.1.as_str()),
                    (to.0.as_str(), to.1.as_str()),
                );
                let renamed = |sql: &str| Statement::parse(sql, session).with_table(a, b);
                let (said, sql) = (renamed(entry.said()), renamed(&entry.sql));
                identity = said.identity();
                if !entry.said.is_empty() {
                    said.sql().clone_into(&mut entry.said);
                }
                sql.sql().clone_into(&mut entry.sql);
                for table in entry.tables.iter_mut().filter(|t| *t == from) {
                    table.clone_from(to);
                }
            }
            self.open.entry(identity).or_insert(entry);
        }
    }

    /// Whether others have had a statement about one of these columns of a logical table (or, without `columns`, about any) that
    /// `who`, a part of it, has not.
    #[must_use]
    pub fn lacks(
        &self,
        who: &Participant,
        logical: &(String, String),
        columns: Option<&[String]>,
    ) -> bool {
        let about = |e: &Entry| match columns {
            Some(columns) => e.touches(columns),
            None => !(e.adds.is_empty() && e.leaves.is_empty() && e.renamed.is_empty()),
        };
        let mut open = self.open.values();
        open.any(|e| e.tables.contains(logical) && e.count(who) < e.most() && about(e))
    }

    /// Columns that a physical table calls by their new names already, while the logical table has the old ones: (old, new).
    #[must_use]
    pub fn renamed_columns(&self, who: &Participant) -> Vec<(String, String)> {
        let had = self.open.values();
        let mut had: Vec<&Entry> = had
            .filter(|e| e.contract && e.count(who) > e.emitted)
            .collect();
        had.sort_by_key(|e| e.number);
        let mut names = Vec::new();
        for entry in had {
            then_renamed(&mut names, &entry.renamed);
        }
        names
    }

    /// Columns that `who` will get by statements that others have had: what its rows have in them then is what the first such
    /// statement says, whatever others change of it.
    #[must_use]
    pub fn columns_to_come(&self, who: &Participant, logical: &(String, String)) -> Vec<Column> {
        let behind = |e: &&Entry| {
            !e.adds.is_empty() && e.tables.contains(logical) && e.count(who) < e.most()
        };
        let mut open: Vec<&Entry> = self.open.values().filter(behind).collect();
        open.sort_by_key(|e| e.number);
        let mut columns: Vec<Column> = Vec::new();
        for entry in open {
            let statement = Statement::parse(&entry.sql, Session::in_schema(&entry.schema));
            let Kind::AlterTable(alter) = &statement.kind else {
                continue;
            };
            for column in alter.new_columns() {
                if !columns.iter().any(|c| same_name(&c.name, &column.name)) {
                    columns.push(column.clone());
                }
            }
        }
        columns
    }

    /// The statement that rows of this physical table come too early for: the table has had it, others have not, and when the
    /// last has it the logical statement will take all rows away, these too. Passing them on would lose them.
    #[must_use]
    pub fn rows_would_be_lost(&self, who: &Participant) -> Option<&str> {
        let mut open = self.open.values();
        let entry = open.find(|e| e.removes_rows && e.count(who) > e.emitted);
        entry.map(|e| e.sql.as_str())
    }

    /// The same for values of a column: the table has had a statement that drops or renames it, and has it anew; or, for one
    /// that the logical table does not have (`unknown`), a statement that adds it and that waits.
    #[must_use]
    pub fn values_would_be_lost(
        &self,
        who: &Participant,
        column: &str,
        unknown: bool,
    ) -> Option<&str> {
        let has = |columns: &[String]| columns.iter().any(|c| same_name(c, column));
        let mut open = self.open.values();
        let entry = open.find(|e| {
            e.contract && e.count(who) > e.emitted && (has(&e.leaves) || (unknown && has(&e.adds)))
        });
        entry.map(|e| e.sql.as_str())
    }

    /// For the status: `all` gives the physical tables of a logical one (schema, name), or those of a database for (schema, "").
    #[must_use]
    pub fn statements(
        &self,
        all: &dyn Fn(&str, &str) -> Vec<Participant>,
    ) -> Vec<PendingStatement> {
        let statements = self.open.values().map(|entry| {
            let most = entry.most();
            let mut everyone = entry.everyone(all);
            let gone = entry
                .counts
                .iter()
                .filter(|(p, _)| entry.drops && !everyone.contains(p));
            let gone: Vec<Participant> = gone.map(|(p, _)| p.clone()).collect();
            everyone.extend(gone);
            let missing = entry.missing(everyone.clone());
            everyone.retain(|p| !missing.contains(p));
            let have = everyone;
            PendingStatement {
                tables: entry
                    .tables
                    .iter()
                    .map(|(s, t)| format!("{s}.{t}"))
                    .collect(),
                statement: entry.sql.clone(),
                emitted: entry.emitted >= most,
                have,
                missing,
                since: entry.since,
            }
        });
        statements.collect()
    }

    /// Texts of the statements that are not complete, without those that drop something: whoever has had these is gone.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let open = self.open.values().filter(|e| !e.drops);
        open.map(|e| e.sql.as_str())
    }

    /// Nodes are called something else now.
    pub fn rename_nodes(&mut self, name: &dyn Fn(&str) -> String) {
        let all = self.open.values_mut().flat_map(|e| &mut e.counts);
        for (who, _) in all {
            who.node = name(&who.node);
        }
    }

    /// How many statements are not complete.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether all are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Nodes or tables are gone for good: nobody waits for them any longer. Answers the statements (default database, text) that
    /// are due now because of it; the caller emits them at the place of the removal. With `dropped` they are gone because
    /// they were dropped: that they have had that statement is kept.
    pub fn forget(
        &mut self,
        gone: &dyn Fn(&Participant) -> bool,
        dropped: bool,
        all: &dyn Fn(&str, &str) -> Vec<Participant>,
    ) -> Vec<(String, String)> {
        let mut due = Vec::new();
        self.open.retain(|_, entry| {
            if dropped && entry.drops {
                return true;
            }
            let mut everyone = entry.everyone(all);
            everyone.retain(|p| !gone(p));
            let most = entry.most();
            let missing = entry.missing(everyone.clone());
            let least = match missing.iter().map(|p| entry.count(p)).min() {
                Some(least) => Some(least),
                None => (!everyone.is_empty()).then_some(most),
            };
            // With nobody left, what some have had all have had.
            let least = least.unwrap_or(most);
            entry.counts.retain(|(p, _)| !gone(p));
            if least > entry.emitted {
                due.push((entry.schema.clone(), entry.sql.clone()));
                entry.emitted = least;
            }
            least < most
        });
        due
    }
}

/// The renames of a further statement behind those in `names` (old, new): a column that has been renamed twice has one name in
/// between. Those of one statement are done at once: two columns may exchange their names.
pub(crate) fn then_renamed(names: &mut Vec<(String, String)>, renamed: &[(String, String)]) {
    let mut fresh = Vec::new();
    for (from, to) in renamed {
        let known = names.iter().position(|(_, new)| same_name(new, from));
        let first = match known {
            Some(at) => names.swap_remove(at).0,
            None => from.clone(),
        };
        fresh.push((first, to.clone()));
    }
    names.append(&mut fresh);
}

impl Entry {
    fn new(unit: &Unit, number: u64, since: u64) -> Self {
        let said = unit.said.as_ref().unwrap_or(&unit.statement);
        let kind = &said.kind;
        let (adds, leaves) = match kind {
            Kind::AlterTable(alter) => (alter.touched_columns(), alter.left_columns()),
            _ => Default::default(),
        };
        Self {
            adds,
            leaves,
            number,
            schema: unit.statement.default_schema().to_owned(),
            sql: unit.statement.sql().to_owned(),
            said: match &unit.said {
                Some(said) => said.sql().to_owned(),
                None => String::new(),
            },
            database: unit.statement.about().to_owned(),
            drops: matches!(kind, Kind::DropTable { .. } | Kind::DropDatabase(_)),
            contract: unit.effect != Effect::Expand,
            removes_rows: match kind {
                Kind::Truncate(_) | Kind::DropTable { .. } | Kind::DropDatabase(_) => true,
                Kind::AlterTable(alter) => alter.takes_rows(),
                _ => false,
            },
            tables: unit.targets.iter().map(|t| t.logical.clone()).collect(),
            renamed: match kind {
                Kind::AlterTable(alter) => alter.renamed_columns(),
                _ => Vec::new(),
            },
            counts: Vec::new(),
            presumed: Vec::new(),
            emitted: 0,
            since,
        }
    }

    /// Its text as its parts have it.
    fn said(&self) -> &str {
        match self.said.as_str() {
            "" => &self.sql,
            said => said,
        }
    }

    /// How often those have had it that have had it most often.
    fn most(&self) -> u64 {
        self.counts.iter().map(|(_, n)| *n).max().unwrap_or(0)
    }

    fn everyone(&self, all: &dyn Fn(&str, &str) -> Vec<Participant>) -> Vec<Participant> {
        if self.tables.is_empty() {
            return all(&self.database, "");
        }
        self.tables.iter().flat_map(|(s, t)| all(s, t)).collect()
    }

    /// Who of these has not had it as often as others.
    fn missing(&self, everyone: Vec<Participant>) -> Vec<Participant> {
        let most = self.most();
        let fewer = everyone.into_iter().filter(|p| self.count(p) < most);
        fewer.collect()
    }

    /// Whether it says something of one of these columns.
    fn touches(&self, columns: &[String]) -> bool {
        let mut own = self.adds.iter().chain(&self.leaves);
        own.any(|a| columns.iter().any(|b| same_name(a, b)))
    }

    fn count(&self, who: &Participant) -> u64 {
        let found = self.counts.iter().find(|(p, _)| p == who);
        found.map_or(0, |(_, n)| *n)
    }

    fn add(&mut self, who: &Participant) {
        match self.counts.iter_mut().find(|(p, _)| p == who) {
            Some((_, n)) => *n += 1,
            None => self.counts.push((who.clone(), 1)),
        }
    }

    /// Takes off what all have had.
    fn settle(&mut self, least: u64, time: u64) {
        for (_, n) in &mut self.counts {
            *n = n.saturating_sub(least);
        }
        self.counts.retain(|(_, n)| *n > 0);
        self.emitted = self.emitted.saturating_sub(least);
        self.since = time;
    }
}
