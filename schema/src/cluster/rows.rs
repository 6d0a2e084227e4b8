//! What becomes of the rows behind a table map.
//!
//! In: the table map of a node, at its place in the order. Out: their logical table, and how they get its shape; or that they
//! do not flow.

use tributary_binlog::TableMap;
use tributary_flow::{Mutant, mutant};

use super::parts::participant;
use super::{ClusterSchema, Name};
use crate::history::{History, Moment, Object};
use crate::pending::Participant;
use crate::reshape::{Layout, LayoutError, Plan, PlanError};
use crate::route::is_system_schema;
use crate::table::{Column, DefaultValue, Table, same_name};

/// Why rows cannot be carried over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowsProblem {
    /// How they lie cannot be told.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// They cannot have the shape of the logical table.
    #[error("rows of {physical} as rows of {logical}: {problem}")]
    Shape {
        /// The physical table.
        physical: String,
        /// The logical table.
        logical: String,
        /// Why not.
        problem: PlanError,
    },
    /// They would be taken away by a statement that they come behind.
    #[error(
        "rows were written into {physical} behind `{statement}`, which other parts of {logical} have not had: when the last \
         has it, these rows would be taken away downstream, too; run it on the others before writing again"
    )]
    WouldBeLost {
        /// The physical table.
        physical: String,
        /// The logical table.
        logical: String,
        /// The statement that waits.
        statement: String,
    },
    /// The same for the values of a column.
    #[error(
        "rows of {physical} have a column `{column}` behind `{statement}`, which other parts of {logical} have not had: values in \
         it would be lost downstream; run it on the others before writing again"
    )]
    ValuesWouldBeLost {
        /// The column.
        column: String,
        /// The physical table.
        physical: String,
        /// The logical table.
        logical: String,
        /// The statement that waits.
        statement: String,
    },
}

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// They do not flow.
    Dropped,
    /// They are passed on as they are, with their table map.
    Same,
    /// They are written for another table, or in another shape.
    Into(Box<Into>),
}

/// Another table, or another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Into {
    /// Schema of the logical table.
    pub schema: Vec<u8>,
    /// Its name.
    pub table: Vec<u8>,
    /// How rows get its shape; `None` when they have it.
    pub plan: Option<Plan>,
    /// The physical and the logical table, for messages.
    pub shown: String,
}

impl ClusterSchema {
    /// What becomes of the rows behind `map`, which `node` wrote; `at` is where their transaction stands. The answer holds as
    /// long as [`Self::version`] does.
    ///
    /// # Errors
    /// They cannot be carried over.
    pub fn target(
        &mut self,
        node: &str,
        map: &TableMap<'_>,
        at: Moment,
    ) -> Result<Target, RowsProblem> {
        let names = (
            std::str::from_utf8(map.schema),
            std::str::from_utf8(map.table),
        );
        let (Ok(schema), Ok(table)) = names else {
            return Ok(Target::Same);
        };
        if is_system_schema(schema) {
            return Ok(Target::Dropped);
        }
        let Some((logical, copies)) = self.logical_of(node, schema, table) else {
            return Ok(Target::Dropped);
        };
        let source = copies.then(|| self.source_of_copies(&logical, node));
        if source.is_some_and(|s| s != node) && !mutant(Mutant::EveryCopy) {
            return Ok(Target::Dropped);
        }
        let who = participant(node, schema, table);
        if let Some(statement) = self.pending.rows_would_be_lost(&who) {
            return Err(RowsProblem::WouldBeLost {
                physical: format!("{schema}.{table} on node {node}"),
                logical: format!("{}.{}", logical.0, logical.1),
                statement: statement.to_owned(),
            });
        }
        let plan = self.plan_of(&who, &logical, map, at)?;
        if plan.is_none() && logical.0 == schema && logical.1 == table {
            return Ok(Target::Same);
        }
        Ok(Target::Into(Box::new(Into {
            shown: format!("{schema}.{table} as {}.{}", logical.0, logical.1),
            schema: logical.0.into_bytes(),
            table: logical.1.into_bytes(),
            plan,
        })))
    }

    fn plan_of(
        &mut self,
        who: &Participant,
        logical: &Name,
        map: &TableMap<'_>,
        at: Moment,
    ) -> Result<Option<Plan>, RowsProblem> {
        let known = self.nodes.get(&who.node);
        let known = known.and_then(|n| n.catalog.table(&who.schema, &who.table, u64::MAX));
        let object = self.logical.object(&logical.0, &logical.1, u64::MAX);
        match object {
            Some(Object::Table(table)) => {
                let from = Layout::of_event(map, known)?;
                let mut to = Layout::of_table(table);
                filled_as_added(&mut to, &self.pending.columns_to_come(who, logical));
                let renamed = self.pending.renamed_columns(who);
                let physical = || format!("{}.{} on node {}", who.schema, who.table, who.node);
                let default = |column: &Column, own: Option<&str>| {
                    own_default(column, own.map(|name| known?.column(name)), table)
                };
                let plan = Plan::with_defaults(&from, &to, &renamed, &default);
                let plan = plan.map_err(|problem| RowsProblem::Shape {
                    physical: physical(),
                    logical: format!("{}.{}", logical.0, logical.1),
                    problem,
                })?;
                let cut = plan.as_ref().map(Plan::cut_columns).unwrap_or_default();
                if let Some((column, statement)) = self.lost_column(who, &from.columns, cut) {
                    return Err(RowsProblem::ValuesWouldBeLost {
                        column,
                        physical: physical(),
                        logical: format!("{}.{}", logical.0, logical.1),
                        statement,
                    });
                }
                self.tell_cut(who, logical, cut);
                Ok(plan)
            }
            Some(Object::View(_) | Object::Opaque(_)) => Ok(None),
            None => {
                // The first rows of a table of which no statement was seen say what it is like.
                if let Ok(layout) = Layout::of_event(map, known)
                    && layout.full
                {
                    let table = layout.to_table(&logical.1);
                    self.record(History::learned(at, &logical.0, table));
                }
                Ok(None)
            }
        }
    }

    /// Columns of which no statement in the binlog tells: their values cannot be carried over, and that is said once.
    fn tell_cut(&mut self, who: &Participant, logical: &Name, cut: &[String]) {
        if cut.is_empty() || !self.cut.insert((who.clone(), cut.to_vec())) {
            return;
        }
        let (schema, table, node, cut) = (&who.schema, &who.table, &who.node, cut.join("`, `"));
        let (to_schema, to_table) = logical;
        self.notes.push(format!(
            "rows of {schema}.{table} on node {node} have columns that {to_schema}.{to_table} does not have (`{cut}`): they are left out. \
             No statement in the binlog has added them; drop them there, and add them by statements that are logged"
        ));
    }
}

/// The column with the default that it has on its node, where that is not the one of the logical table. `own` is what the node has:
/// `None` when it does not have the column yet; `column` then has the default that it will get.
fn own_default(column: &Column, own: Option<Option<&Column>>, logical: &Table) -> Option<Column> {
    let here = match own {
        None => column,
        // Nothing is known of the node's table.
        Some(own) => own?,
    };
    let there = logical.column(&column.name)?;
    let of = |c: &Column| c.default.clone().filter(|d| *d != DefaultValue::Null);
    (of(here) != of(there) && !here.auto_increment).then(|| Column {
        default: here.default.clone(),
        ..column.clone()
    })
}

/// What a part's rows will have in a column that it does not have yet is the default with which it is added, though the logical
/// table may have another by now.
fn filled_as_added(to: &mut Layout, columns: &[Column]) {
    for column in columns {
        let mut own = to.columns.iter_mut();
        let Some(own) = own.find(|c| same_name(&c.name, &column.name)) else {
            continue;
        };
        own.default.clone_from(&column.default);
        let filled = column.nullable || column.default.is_some();
        if !filled && own.nullable {
            // The type's own default, where the logical column may be NULL by now.
            let zero = if own.data_type.has_charset() { "" } else { "0" };
            own.default = Some(DefaultValue::Text(zero.to_owned()));
        }
    }
}

impl Layout {
    /// A table whose rows lie like this. Of defaults and further keys a layout knows nothing.
    #[must_use]
    pub fn to_table(&self, name: &str) -> Table {
        let mut table = Table::empty(name, crate::Collation::DEFAULT);
        table.columns.clone_from(&self.columns);
        table.set_primary_key(&self.primary_key);
        table
    }
}
