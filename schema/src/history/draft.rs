//! What a statement changes.
//!
//! In: a history, and a statement behind it. Out: changes, and what was not understood.

use super::{Change, History, Object};
use crate::charset::Collation;
use crate::ddl::{Kind, Statement};

/// Collects what a statement changes.
pub(super) struct Draft<'a> {
    pub(super) history: &'a History,
    pub(super) statement: &'a Statement,
    pub(super) changes: Vec<Change>,
    pub(super) problems: Vec<String>,
}

impl Draft<'_> {
    /// A table or view as it is now, with what this statement has done already.
    fn now(&self, schema: &str, name: &str) -> Option<Object> {
        let changed = self.changes.iter().rev().find_map(|c| match c {
            Change::Object(s, n, object) if s == schema && n == name => Some(object.clone()),
            _ => None,
        });
        changed.unwrap_or_else(|| self.history.object(schema, name, u64::MAX).cloned())
    }

    fn set(&mut self, (schema, name): (&str, &str), object: Option<Object>) {
        let same = |c: &Change| matches!(c, Change::Object(s, n, _) if s == schema && n == name);
        self.changes.retain(|c| !same(c));
        let change = Change::Object(schema.to_owned(), name.to_owned(), object);
        self.changes.push(change);
    }

    fn opaque(&mut self, name: (&str, &str), why: String) {
        self.problems.push(why.clone());
        self.set(name, Some(Object::Opaque(why)));
    }

    pub(super) fn statement(&mut self) {
        let statement = self.statement;
        match &statement.kind {
            Kind::CreateTable(_) => self.create(),
            Kind::AlterTable(_) => self.alter(),
            Kind::DropTable { names, .. } | Kind::DropView(names) => {
                for name in names {
                    let name = statement.resolve(name);
                    if self.now(name.0, name.1).is_some() {
                        self.set(name, None);
                    }
                }
            }
            Kind::RenameTable(pairs) => {
                for (from, to) in pairs {
                    self.rename(statement.resolve(from), statement.resolve(to));
                }
            }
            Kind::CreateDatabase(name, change, _) => {
                let collation = change.collation.or(self.history.server_collation);
                let collation = collation.unwrap_or(Collation::DEFAULT);
                self.changes
                    .push(Change::Schema(name.clone(), Some(collation)));
            }
            Kind::AlterDatabase(name, change) => {
                let name = if name.is_empty() {
                    statement.default_schema()
                } else {
                    name
                };
                if change.collation.is_some() {
                    self.changes
                        .push(Change::Schema(name.to_owned(), change.collation));
                }
            }
            Kind::DropDatabase(name) => {
                let objects = self.history.objects(u64::MAX).filter(|(s, ..)| s == name);
                let names: Vec<String> = objects.map(|(_, n, _)| n.to_owned()).collect();
                for object in names {
                    self.set((name, &object), None);
                }
                self.changes.push(Change::Schema(name.clone(), None));
            }
            Kind::View(name, _) => {
                let view = Object::View(statement.sql().to_owned());
                self.set(statement.resolve(name), Some(view));
            }
            _ => {}
        }
    }

    fn create(&mut self) {
        let statement = self.statement;
        let Kind::CreateTable(create) = &statement.kind else {
            return;
        };
        let name = statement.resolve(&create.name);
        if create.if_not_exists && self.now(name.0, name.1).is_some() {
            return;
        }
        if let Some(like) = &create.like {
            let from = statement.resolve(like);
            match self.now(from.0, from.1) {
                Some(Object::Table(mut table)) => {
                    // Foreign keys are not copied; names of check constraints follow the table.
                    table.foreign_keys.clear();
                    table.keys.iter_mut().for_each(|k| k.implicit = false);
                    table.rename(name.1);
                    self.set(name, Some(Object::Table(table)));
                }
                _ => self.opaque(
                    name,
                    format!(
                        "CREATE TABLE … LIKE {}.{}, whose definition is not known",
                        from.0, from.1
                    ),
                ),
            }
            return;
        }
        match create.table(self.history.collation(name.0)) {
            Some(table) => self.set(name, Some(Object::Table(Box::new(table)))),
            None => self.opaque(
                name,
                format!(
                    "the definition of {}.{} is not in its CREATE TABLE, or not understood",
                    name.0, name.1
                ),
            ),
        }
    }

    fn alter(&mut self) {
        let statement = self.statement;
        let Kind::AlterTable(alter) = &statement.kind else {
            return;
        };
        let name = statement.resolve(&alter.name);
        match self.now(name.0, name.1) {
            Some(Object::Table(table)) => match table.altered(alter) {
                Ok(new) => {
                    let to = alter
                        .new_name()
                        .map(|n| statement.resolve(n))
                        .unwrap_or(name);
                    if to != name {
                        self.set(name, None);
                    }
                    self.set(to, Some(Object::Table(Box::new(new))));
                    self.refer(name, to, &alter.renamed_columns());
                }
                Err(e) => self.opaque(name, e.to_string()),
            },
            Some(_) => self.opaque(
                name,
                format!(
                    "{}.{} is altered, but its definition is not known",
                    name.0, name.1
                ),
            ),
            None => self.opaque(
                name,
                format!("{}.{} is altered, but not known", name.0, name.1),
            ),
        }
    }

    fn rename(&mut self, from: (&str, &str), to: (&str, &str)) {
        let mut object = self.now(from.0, from.1);
        if let Some(Object::Table(table)) = &mut object {
            table.rename(to.1);
        }
        if object.is_none() {
            let why = format!("{}.{} is renamed, but not known", from.0, from.1);
            return self.opaque(to, why);
        }
        self.set(from, None);
        self.set(to, object);
        self.refer(from, to, &[]);
    }

    /// Foreign keys follow the names of the table that they lead to, and of its columns (old, new).
    fn refer(&mut self, from: (&str, &str), to: (&str, &str), columns: &[(String, String)]) {
        if from == to && columns.is_empty() {
            return;
        }
        let known = self.history.objects(u64::MAX);
        let mut all: Vec<(String, String)> = known
            .map(|(s, n, _)| (s.to_owned(), n.to_owned()))
            .collect();
        all.extend(self.changes.iter().filter_map(|c| match c {
            Change::Object(s, n, Some(_)) => Some((s.clone(), n.clone())),
            _ => None,
        }));
        all.sort();
        all.dedup();
        for (schema, name) in all {
            let moved = (schema.as_str(), name.as_str()) == to;
            let schemas = if moved {
                (from.0, to.0)
            } else {
                (&*schema, &*schema)
            };
            if let Some(Object::Table(mut table)) = self.now(&schema, &name)
                && table.refer(schemas, from, to, columns)
            {
                self.set((&schema, &name), Some(Object::Table(table)));
            }
        }
    }
}
