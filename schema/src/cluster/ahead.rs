//! Parts that are ahead of the logical table.
//!
//! In: statements that a part has had and downstream has not. Out: what its next statement means to the logical table: whether
//! that is so already, when it can be written, and with which names.

use super::{ClusterSchema, Name};
use crate::ddl::{AlterAction, AlterTable, Effect, Kind, Session, Statement, Unit};
use crate::pending::{Participant, then_renamed};
use crate::table::{Column, KeyPart, KeyPartOf, Position, Table, same_name};

/// Columns that a part calls otherwise, (there, downstream); `None` when it has given them other definitions, too.
type Names = Option<Vec<(String, String)>>;

impl ClusterSchema {
    /// Whether the logical table is what a unit makes of it; for a part that is ahead, what it will be once downstream has had
    /// what the part has.
    pub(super) fn is_satisfied(&self, unit: &Unit, who: &Participant) -> bool {
        if let Kind::AlterTable(alter) = &unit.statement.kind
            && let Some((table, _)) = self.ahead(who, &unit.statement, alter)
        {
            return table.has_had(alter);
        }
        self.logical.is_satisfied(&unit.statement)
    }

    /// The logical table as this part has it already, and the columns that it calls otherwise; `None` when it is not ahead.
    fn ahead(
        &self,
        who: &Participant,
        statement: &Statement,
        alter: &AlterTable,
    ) -> Option<(Table, Names)> {
        let waiting = self.pending.ahead(who);
        if waiting.is_empty() {
            return None;
        }
        let mut table = self.logical_table(statement, alter)?.clone();
        let mut names = Some(Vec::new());
        for (schema, sql) in waiting {
            let waiting = Statement::parse(sql, Session::in_schema(schema));
            let Kind::AlterTable(alter) = &waiting.kind else {
                continue;
            };
            // With another definition, too, the two would undo each other.
            let only_names = only_names(&table, alter);
            table = table.altered(alter).unwrap_or(table);
            match (&mut names, only_names) {
                (Some(names), true) => then_renamed(names, &alter.renamed_columns()),
                _ => names = None,
            }
        }
        let back = |names: Vec<(String, String)>| names.into_iter().map(|(from, to)| (to, from));
        Some((table, names.map(|names| back(names).collect())))
    }

    fn logical_table(&self, statement: &Statement, alter: &AlterTable) -> Option<&Table> {
        let (schema, name) = statement.resolve(&alter.name);
        self.logical.table(schema, name, u64::MAX)
    }

    /// A statement that would be written with the first part, and that the logical table cannot have yet because it speaks of
    /// columns as the part calls them: it gets their names downstream where that says the same, else it waits as those do.
    pub(super) fn behind_what_waits(&self, mut unit: Unit, who: &Participant) -> Unit {
        let Kind::AlterTable(alter) = &unit.statement.kind else {
            return unit;
        };
        if unit.effect != Effect::Expand {
            return unit;
        }
        let Some((ahead, names)) = self.ahead(who, &unit.statement, alter) else {
            return unit;
        };
        let Some(table) = self.logical_table(&unit.statement, alter) else {
            return unit;
        };
        if self.would_be_undone(who, alter) {
            unit.effect = Effect::Contract;
            return unit;
        }
        let altered = table.altered(alter);
        if has_keys(table, alter) && altered.is_ok_and(|t| has_key_columns(&t, alter)) {
            return unit;
        }
        let renamed = names.and_then(|names| same_with(&unit.statement, table, &ahead, &names));
        match renamed {
            Some(statement) => unit.said = Some(std::mem::replace(&mut unit.statement, statement)),
            None => unit.effect = Effect::Contract,
        }
        unit
    }

    /// Whether the part itself is behind the statement what it was before, while the logical table is further than the part: what
    /// is no change of the part would take back what others have had.
    pub(super) fn changes_nothing(&self, statement: &Statement, who: &Participant) -> bool {
        let Kind::AlterTable(alter) = &statement.kind else {
            return false;
        };
        let mut items = alter.items.iter();
        let physical = self.nodes.get(&who.node);
        let physical = physical.and_then(|n| n.catalog.table(&who.schema, &who.table, u64::MAX));
        let Some((logical, _)) = self.logical_of(&who.node, &who.schema, &who.table) else {
            return false;
        };
        // Where a column stands depends on all of them.
        let moves = alter.items.iter().any(|item| {
            matches!(
                item.action,
                AlterAction::ChangeColumn(_, _, Position::First | Position::After(_))
            )
        });
        let touched = alter.touched_columns();
        let columns = (!moves).then_some(touched.as_slice());
        items.all(|item| matches!(item.action, AlterAction::ChangeColumn(..)))
            && self.pending.lacks(who, &logical, columns)
            && physical.is_some_and(|table| table.altered(alter).is_ok_and(|new| new == *table))
    }

    /// Whether a statement that this part has had and downstream has not gives a column that is changed here another definition:
    /// written behind this one, it would undo it.
    fn would_be_undone(&self, who: &Participant, alter: &AlterTable) -> bool {
        let mut defined: Vec<String> = Vec::new();
        let mut converted = false;
        for (schema, sql) in self.pending.ahead(who) {
            let waiting = Statement::parse(sql, Session::in_schema(schema));
            let Kind::AlterTable(waiting) = &waiting.kind else {
                continue;
            };
            for (from, to) in waiting.renamed_columns() {
                let names = defined.iter_mut().filter(|c| same_name(c, &from));
                names.for_each(|c| c.clone_from(&to));
            }
            for item in &waiting.items {
                match &item.action {
                    AlterAction::ChangeColumn(_, def, _) => defined.push(def.column.name.clone()),
                    AlterAction::Convert(..) => converted = true,
                    _ => {}
                }
            }
        }
        let is_defined = |name: &String| converted || defined.iter().any(|c| same_name(c, name));
        alter.items.iter().any(|item| match &item.action {
            AlterAction::ChangeColumn(name, ..)
            | AlterAction::ColumnDefault(name, _)
            | AlterAction::ColumnVisibility(name, _) => is_defined(name),
            AlterAction::Convert(..) => converted || !defined.is_empty(),
            _ => false,
        })
    }

    /// The statement that keeps values of a column from being carried over, and that column.
    pub(super) fn lost_column(
        &self,
        who: &Participant,
        columns: &[Column],
        cut: &[String],
    ) -> Option<(String, String)> {
        columns.iter().find_map(|column| {
            let unknown = cut.contains(&column.name);
            let statement = self
                .pending
                .values_would_be_lost(who, &column.name, unknown)?;
            Some((column.name.clone(), statement.to_owned()))
        })
    }

    /// The logical table of an `ALTER TABLE` that is written.
    pub(super) fn altered_name(statement: &Statement, alter: &AlterTable) -> Name {
        let (schema, table) = statement.resolve(&alter.name);
        (schema.to_owned(), table.to_owned())
    }
}

/// Whether the keys are there that are dropped or changed.
fn has_keys(table: &Table, alter: &AlterTable) -> bool {
    alter.items.iter().all(|item| match &item.action {
        AlterAction::DropKey(name)
        | AlterAction::RenameKey(name, _)
        | AlterAction::KeyVisibility(name, _) => {
            table.keys.iter().any(|key| same_name(&key.name, name))
        }
        _ => true,
    })
}

/// Whether the columns of all new keys are there.
fn has_key_columns(table: &Table, alter: &AlterTable) -> bool {
    let there = |part: &KeyPart| match &part.what {
        KeyPartOf::Column(column) => table.column(column).is_some(),
        KeyPartOf::Expression(_) => true,
    };
    alter.items.iter().all(|item| match &item.action {
        AlterAction::AddKey(key) => key.parts.iter().all(there),
        _ => true,
    })
}

/// Whether columns keep their definitions, whatever they are called behind it.
fn only_names(table: &Table, alter: &AlterTable) -> bool {
    alter.items.iter().all(|item| match &item.action {
        AlterAction::AddColumns(_) => false,
        AlterAction::ChangeColumn(from, def, position) => {
            let new = def.resolve(table.collation);
            let stays = matches!(position, Position::Last | Position::Same);
            let same = |old: &Column| {
                Column {
                    name: old.name.clone(),
                    explicit_collation: old.explicit_collation,
                    ..new.clone()
                } == *old
            };
            stays && table.column(from).is_some_and(same)
        }
        _ => true,
    })
}

/// The statement with other names of columns, if it makes of the logical table what the original makes of the part.
fn same_with(
    statement: &Statement,
    table: &Table,
    ahead: &Table,
    names: &[(String, String)],
) -> Option<Statement> {
    let Kind::AlterTable(original) = &statement.kind else {
        return None;
    };
    if names.is_empty() || !original.is_about_columns() {
        return None;
    }
    let renamed = statement.with_columns(names);
    let Kind::AlterTable(alter) = &renamed.kind else {
        return None;
    };
    let (there, here) = (ahead.altered(original).ok()?, table.altered(alter).ok()?);
    let (old, new) = (original.added_columns(), alter.added_columns());
    let mut pairs = old.iter().zip(&new);
    let same = |(old, new): (&String, &String)| {
        let column = here.column(new).map(|column| Column {
            name: old.clone(),
            ..column.clone()
        });
        column.as_ref() == there.column(old)
    };
    (old.len() == new.len() && pairs.all(same)).then_some(renamed)
}
