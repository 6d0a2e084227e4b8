//! What a table that comes to be has had of the statements that are open.
//!
//! In: the definition of a new physical table; later, what its statements say. Out: which open statements count as had by it. The
//! statements are undone one by one, the last first: what a column is called now, and is in the table, tells what it was
//! called when an earlier statement spoke of it.

use super::{Entry, Participant, Pending};
use crate::ddl::{AlterTable, Kind, Session, Statement};
use crate::table::{Table, same_name};

/// What the definition of a table says of an open statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trace {
    /// What the statement does is there.
    Shown,
    /// A later one that is shown has taken away or defined anew whatever it did.
    Covered,
    /// The table is as one that has not had it.
    Lacking,
}

impl Pending {
    /// A physical table has come to be, with a definition of its own, which says what of the statements that are open it holds
    /// already. What it cannot say (a column that is added and dropped again leaves nothing behind) is taken to be had, until
    /// a statement of this table shows that it was not: [`Self::came`].
    pub fn born(&mut self, who: &Participant, logical: &(String, String), table: &Table) {
        let about = |e: &&mut Entry| e.tables.contains(logical) && e.count(who) < e.most();
        let mut open: Vec<&mut Entry> = self.open.values_mut().filter(about).collect();
        open.sort_by_key(|e| e.number);
        let traces = traces(&open, table);
        let mut lacks: Vec<String> = Vec::new();
        for (e, trace) in open.into_iter().zip(traces) {
            match trace {
                Trace::Shown if !e.touches(&lacks) => e.presume(who, e.adds.is_empty()),
                Trace::Covered if !e.touches(&lacks) => e.presume(who, true),
                _ => lacks.extend(e.adds.iter().chain(&e.leaves).cloned()),
            }
        }
    }

    /// A statement of `who` says something of these columns: what was only taken to be had of them was not.
    pub fn came(&mut self, who: &Participant, columns: &[String]) {
        for e in self.open.values_mut() {
            if e.presumed.contains(who) && e.touches(columns) {
                e.presumed.retain(|p| p != who);
                for (_, n) in e.counts.iter_mut().filter(|(p, _)| p == who) {
                    *n -= (*n > 0) as u64;
                }
            }
        }
    }
}

/// What the table shows of each of these, which are in the order in which they came.
fn traces(open: &[&mut Entry], table: &Table) -> Vec<Trace> {
    let mut table = table.clone();
    // Columns, by their names of that time, of which later statements have left nothing.
    let mut covered: Vec<String> = Vec::new();
    let mut traces: Vec<Trace> = Vec::new();
    for e in open.iter().rev() {
        let statement = Statement::parse(e.said(), Session::in_schema(&e.schema));
        let Kind::AlterTable(alter) = &statement.kind else {
            traces.push(Trace::Lacking);
            continue;
        };
        let is_covered = |c: &String| covered.iter().any(|k| same_name(k, c));
        let left = e.leaves.iter().any(|c| table.column(c).is_some());
        let trace = if table.has_had(alter) {
            Trace::Shown
        } else if !left && !e.adds.is_empty() && e.adds.iter().all(is_covered) {
            Trace::Covered
        } else {
            Trace::Lacking
        };
        traces.push(trace);
        if trace == Trace::Lacking {
            continue;
        }
        covered.extend(covers(alter));
        let back = names_back(alter);
        for name in &mut covered {
            let old = back.iter().find(|(new, _)| same_name(new, name));
            if let Some((_, old)) = old {
                name.clone_from(old);
            }
        }
        table.rename_columns(&back);
    }
    traces.reverse();
    traces
}

/// What it calls its columns, and what they were called before it: (new, old).
fn names_back(alter: &AlterTable) -> Vec<(String, String)> {
    let renamed = alter.renamed_columns().into_iter();
    renamed.map(|(old, new)| (new, old)).collect()
}

/// Columns of which it leaves nothing that was said before: it drops them or defines them (again), if only in part.
fn covers(alter: &AlterTable) -> Vec<String> {
    let renamed = alter.renamed_columns();
    let is_renamed = |c: &String| renamed.iter().any(|(old, _)| old == c);
    let mut gone = alter.left_columns();
    gone.retain(|c| !is_renamed(c));
    gone.extend(alter.defined_columns());
    gone
}

impl Entry {
    /// `who` counts as having had it.
    fn presume(&mut self, who: &Participant, tentative: bool) {
        let most = self.most();
        self.counts.retain(|(p, _)| p != who);
        self.counts.push((who.clone(), most));
        if tentative {
            self.presumed.push(who.clone());
        }
    }
}
