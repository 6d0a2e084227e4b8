//! Whether a table is already what a statement makes of it.
//!
//! In: a table and an `ALTER TABLE`. Out: whether nothing is left to do. Where that cannot be told by looking (options,
//! partitions) the answer is no.

use super::{Column, KeyKind, KeyPartOf, Position, Table, same_name};
use crate::ddl::{AlterAction, AlterTable, ColumnDef};

impl Table {
    /// Whether the table is what `alter` makes of one that has not had it: what it adds is there, what it drops is not.
    #[must_use]
    pub fn has_had(&self, alter: &AlterTable) -> bool {
        let mut told = false;
        let all = alter.items.iter().all(|item| {
            told |= item.action != AlterAction::Nothing;
            self.shows(&item.action)
        });
        all && told
    }

    fn shows(&self, action: &AlterAction) -> bool {
        use AlterAction as A;
        match action {
            A::Nothing => true,
            A::AddColumns(columns) => columns.iter().all(|(def, _)| self.has_column(def)),
            A::DropColumn(name) => self.column(name).is_none(),
            A::ChangeColumn(from, def, position) => {
                let renamed = !same_name(from, &def.column.name);
                (!renamed || self.column(from).is_none())
                    && self.has_column(def)
                    && self.stands(&def.column.name, position)
            }
            A::RenameColumn(from, to) => self.column(from).is_none() && self.column(to).is_some(),
            A::AddKey(key) => {
                let mut own = self.keys.iter().filter(|k| k.kind == key.kind);
                own.any(|k| {
                    let named = key.name.is_empty() || same_name(&k.name, &key.name);
                    named && k.parts == key.parts
                })
            }
            A::DropKey(name) => !self.keys.iter().any(|k| same_name(&k.name, name)),
            A::DropPrimaryKey => self.primary_key().is_none(),
            A::RenameKey(from, to) => {
                let has = |name: &str| self.keys.iter().any(|k| same_name(&k.name, name));
                !has(from) && has(to)
            }
            A::DropForeignKey(name) => !self.foreign_keys.iter().any(|k| same_name(&k.name, name)),
            A::DropConstraint(name) => {
                let unique = |k: &super::Key| k.kind != KeyKind::Plain && same_name(&k.name, name);
                !self.checks.iter().any(|c| same_name(&c.name, name))
                    && !self.foreign_keys.iter().any(|k| same_name(&k.name, name))
                    && !self.keys.iter().any(unique)
            }
            A::ColumnDefault(name, default) => (self.column(name)).is_some_and(|column| {
                let mut with = column.clone();
                with.set_default(default.clone());
                // A column that may be NULL looks alike without a default and with that of NULL.
                with == *column && (default.is_some() || !column.nullable)
            }),
            A::ColumnVisibility(name, invisible) => {
                self.column(name).is_some_and(|c| c.invisible == *invisible)
            }
            A::KeyVisibility(name, invisible) => {
                let mut own = self.keys.iter().filter(|k| same_name(&k.name, name));
                own.any(|k| k.invisible == *invisible)
            }
            _ => false,
        }
    }

    /// Whether the column is where it is to be.
    fn stands(&self, column: &str, position: &Position) -> bool {
        let place = |name: &str| self.columns.iter().position(|c| same_name(&c.name, name));
        match position {
            Position::First => place(column) == Some(0),
            Position::After(other) => place(other).map(|at| at + 1) == place(column),
            Position::Last | Position::Same => true,
        }
    }

    fn has_column(&self, def: &ColumnDef) -> bool {
        let new = def.resolve(self.collation);
        let same = |old: &Column| {
            let mut key = self.primary_key().into_iter().flat_map(|k| &k.parts);
            let in_key = key.any(
                |part| matches!(&part.what, KeyPartOf::Column(name) if same_name(name, &old.name)),
            );
            Column {
                explicit_collation: old.explicit_collation,
                name: old.name.clone(),
                // A primary key makes its columns NOT NULL, whatever their definition says.
                nullable: if in_key { old.nullable } else { new.nullable },
                ..new.clone()
            } == *old
        };
        self.column(&new.name).is_some_and(same)
    }
}
