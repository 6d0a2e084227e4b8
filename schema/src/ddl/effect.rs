//! When a statement is emitted that comes once from every physical table.
//!
//! In: a statement and, if it is known, the table it changes. Out: an [`Effect`], for the whole and for each action. A change
//! behind which rows of the old shape still fit *expands*; one before which rows of the new shape still fit *contracts*.

use super::alter::{AlterAction, AlterItem, AlterTable};
use super::statement::{Kind, Statement};
use crate::charset::{Charset, Collation};
use crate::reshape;
use crate::route::is_system_schema;
use crate::table::{Column, DataType, KeyKind, Table};

/// When a statement is emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// With the first table that has it: create, add, widen, indexes.
    Expand,
    /// With the last table that has it: drop, rename, narrow, truncate, constraints.
    Contract,
    /// Some of it with the first, the rest with the last.
    Both,
    /// Concerns the node alone: not emitted.
    NodeLocal,
    /// Accounts and privileges: not emitted unless asked for.
    Account,
}

impl Statement {
    /// When it is emitted. `table` is the table it alters, as it was before; without it a changed column is taken to be
    /// widened.
    #[must_use]
    pub fn effect(&self, table: Option<&Table>) -> Effect {
        use Effect::{Account, Contract, Expand, NodeLocal};
        // An account is in no schema, whatever the default database is.
        if self.kind != Kind::Account && self.in_system_schema() {
            return NodeLocal;
        }
        match &self.kind {
            Kind::Account => Account,
            Kind::NodeLocal => NodeLocal,
            Kind::AlterTable(alter) => alter_effect(alter, table),
            Kind::DropTable { .. }
            | Kind::RenameTable(_)
            | Kind::Truncate(_)
            | Kind::DropDatabase(_)
            | Kind::DropView(_) => Contract,
            Kind::Program { verb, .. } if verb == "DROP" => Contract,
            Kind::CreateTable(_)
            | Kind::CreateDatabase(..)
            | Kind::AlterDatabase(..)
            | Kind::View(..)
            | Kind::Program { .. }
            | Kind::SpatialReferenceSystem
            | Kind::Other => Expand,
        }
    }

    /// Whether what it changes lies in a schema that belongs to the server.
    fn in_system_schema(&self) -> bool {
        if let Kind::CreateDatabase(name, ..)
        | Kind::DropDatabase(name)
        | Kind::AlterDatabase(name, _) = &self.kind
        {
            return is_system_schema(if name.is_empty() { &self.schema } else { name });
        }
        match self.names.first() {
            Some(name) => is_system_schema(self.resolve(name).0),
            None => is_system_schema(&self.schema),
        }
    }
}

fn alter_effect(alter: &AlterTable, table: Option<&Table>) -> Effect {
    let effects = alter.items.iter().filter_map(|i| item_effect(i, table));
    let (mut expand, mut contract) = (false, false);
    for effect in effects {
        match effect {
            Effect::Contract => contract = true,
            _ => expand = true,
        }
    }
    match (expand, contract) {
        (true, true) => Effect::Both,
        (false, true) => Effect::Contract,
        _ => Effect::Expand,
    }
}

/// The effect of one action; `None` when it has none of its own and goes with the others.
pub(super) fn item_effect(item: &AlterItem, table: Option<&Table>) -> Option<Effect> {
    use AlterAction as A;
    use Effect::{Contract, Expand};
    Some(match &item.action {
        A::Nothing => return None,
        A::DropColumn(_) | A::RenameColumn(..) | A::RenameTo(_) | A::PartitionRows(_) => Contract,
        // Rows of a table without the constraint need not keep it.
        A::AddForeignKey(_) | A::AddCheck(_) | A::EnforceCheck(_, true) => Contract,
        A::AddKey(key) if matches!(key.kind, KeyKind::Primary | KeyKind::Unique) => Contract,
        A::ChangeColumn(from, def, _) => {
            let old = table.and_then(|t| t.column(from));
            let collation = table.map_or(crate::Collation::DEFAULT, |t| t.collation);
            let new = def.resolve(collation);
            if *from != new.name {
                return Some(Contract);
            }
            old.map_or(Expand, |old| change_effect(old, &new))
        }
        A::Convert(charset, collate) => {
            let to = collate.and_then(Collation::charset).or(*charset);
            to.map_or(Expand, |to| convert_effect(table, to))
        }
        _ => Expand,
    })
}

/// A column whose definition is replaced.
fn change_effect(old: &Column, new: &Column) -> Effect {
    if reshape::holds(new, old) {
        // Every old value fits; whether NULL does is what is left.
        return if old.nullable && !new.nullable {
            Effect::Contract
        } else {
            Effect::Expand
        };
    }
    if reshape::holds(old, new) {
        return Effect::Contract;
    }
    Effect::Expand
}

fn convert_effect(table: Option<&Table>, to: Charset) -> Effect {
    let all = |c: Charset| {
        matches!(
            c.name(),
            "utf8mb4" | "utf16" | "utf16le" | "utf32" | "gb18030"
        )
    };
    let text = |t: &DataType| t.has_charset();
    let old = table.map(|t| {
        let mut columns = t.columns.iter().filter(|c| text(&c.data_type));
        columns.all(|c| {
            c.collation.charset().is_some_and(|from| {
                from == to
                    || from.name() == "ascii"
                    || (from.name() == "utf8mb3" && to.name() == "utf8mb4")
            })
        })
    });
    if all(to) || old == Some(true) {
        Effect::Expand
    } else {
        Effect::Contract
    }
}
