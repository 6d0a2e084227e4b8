//! `ALTER TABLE`: its actions, each with its tokens.
//!
//! In: tokens behind the table's name. Out: [`AlterItem`]s, so that a statement can be applied to a table, judged, and cut
//! in two.

use std::ops::Range;

use super::column::ColumnDef;
use super::create::{Constraint, TableOptions};
use super::reader::{NameRef, NameRole, Reader};
use crate::charset::{Charset, Collation};
use crate::table::{Check, Column, DefaultValue, ForeignKey, Key, KeyPartOf, Position};

/// One action of an `ALTER TABLE`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AlterAction {
    AddColumns(Vec<(ColumnDef, Position)>),
    DropColumn(String),
    /// `MODIFY` and `CHANGE`.
    ChangeColumn(String, Box<ColumnDef>, Position),
    RenameColumn(String, String),
    ColumnDefault(String, Option<DefaultValue>),
    ColumnVisibility(String, bool),
    AddKey(Key),
    DropKey(String),
    DropPrimaryKey,
    RenameKey(String, String),
    KeyVisibility(String, bool),
    AddForeignKey(ForeignKey),
    DropForeignKey(String),
    AddCheck(Check),
    /// `DROP CHECK` and `DROP CONSTRAINT`.
    DropConstraint(String),
    EnforceCheck(String, bool),
    RenameTo(NameRef),
    Convert(Option<Charset>, Option<Collation>),
    Options(TableOptions),
    /// `PARTITION BY …`.
    PartitionBy(String),
    RemovePartitioning,
    /// An operation on partitions that takes rows away: `DROP`, `TRUNCATE`, `EXCHANGE`, `DISCARD`.
    PartitionRows(String),
    /// An operation on partitions that keeps rows: `ADD`, `REORGANIZE`, `COALESCE`, `ANALYZE` …
    PartitionLayout(String),
    /// Nothing that the schema holds (`ALGORITHM`, `LOCK`, `FORCE`, `ORDER BY`, `ENABLE KEYS` …).
    Nothing,
    /// Not understood.
    Unknown,
}

/// One action and the tokens it is written with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AlterItem {
    pub(crate) action: AlterAction,
    pub(super) tokens: Range<usize>,
}

/// An `ALTER TABLE`, or a `CREATE INDEX` or `DROP INDEX`, which are the same.
#[derive(Clone, Debug, PartialEq)]
pub struct AlterTable {
    /// The table.
    pub name: NameRef,
    /// The place behind the table's name; none for `CREATE INDEX` and `DROP INDEX`, which cannot be cut.
    pub(super) head: Option<usize>,
    pub(crate) items: Vec<AlterItem>,
}

impl AlterTable {
    /// Columns that are called something else afterwards: (before, after).
    #[must_use]
    pub fn renamed_columns(&self) -> Vec<(String, String)> {
        let renamed = self.items.iter().filter_map(|item| match &item.action {
            AlterAction::RenameColumn(from, to) => Some((from.clone(), to.clone())),
            AlterAction::ChangeColumn(from, def, _) if *from != def.column.name => {
                Some((from.clone(), def.column.name.clone()))
            }
            _ => None,
        });
        renamed.collect()
    }

    /// Columns that it adds, or gives another definition.
    #[must_use]
    pub fn added_columns(&self) -> Vec<String> {
        let added = self.items.iter().flat_map(|item| match &item.action {
            AlterAction::AddColumns(columns) => columns
                .iter()
                .map(|(def, _)| def.column.name.clone())
                .collect(),
            AlterAction::ChangeColumn(_, def, _) => vec![def.column.name.clone()],
            _ => Vec::new(),
        });
        added.collect()
    }

    /// The columns that it adds.
    pub(crate) fn new_columns(&self) -> impl Iterator<Item = &Column> {
        let added = self.items.iter().filter_map(|item| match &item.action {
            AlterAction::AddColumns(columns) => Some(columns),
            _ => None,
        });
        added.flatten().map(|(def, _)| &def.column)
    }

    /// Columns that it adds, or of whose definition it changes all or some, by their names behind it.
    pub(crate) fn defined_columns(&self) -> Vec<String> {
        let mut all = self.added_columns();
        all.extend(self.items.iter().filter_map(|item| match &item.action {
            AlterAction::ColumnDefault(name, _) | AlterAction::ColumnVisibility(name, _) => {
                Some(name.clone())
            }
            _ => None,
        }));
        all
    }

    /// All columns that it says something of, by their names behind it.
    pub(crate) fn touched_columns(&self) -> Vec<String> {
        let mut all = self.defined_columns();
        for item in &self.items {
            match &item.action {
                AlterAction::RenameColumn(_, to) => all.push(to.clone()),
                AlterAction::AddKey(key) => {
                    all.extend(key.parts.iter().filter_map(|part| match &part.what {
                        KeyPartOf::Column(column) => Some(column.clone()),
                        KeyPartOf::Expression(_) => None,
                    }));
                }
                _ => {}
            }
        }
        all
    }

    /// Columns that are not there behind it under the name that they have before.
    #[must_use]
    pub fn left_columns(&self) -> Vec<String> {
        let dropped = self.items.iter().filter_map(|item| match &item.action {
            AlterAction::DropColumn(name) => Some(name.clone()),
            _ => None,
        });
        let renamed = self.renamed_columns().into_iter().map(|(from, _)| from);
        dropped.chain(renamed).collect()
    }

    /// Whether it only adds columns and changes their definitions.
    pub(crate) fn is_about_columns(&self) -> bool {
        let about = |item: &AlterItem| {
            matches!(
                item.action,
                AlterAction::AddColumns(_) | AlterAction::ChangeColumn(..)
            )
        };
        self.items.iter().all(about) && self.renamed_columns().is_empty()
    }

    /// Whether it takes rows away: it drops, truncates or exchanges partitions.
    #[must_use]
    pub fn takes_rows(&self) -> bool {
        let mut items = self.items.iter();
        items.any(|i| matches!(i.action, AlterAction::PartitionRows(_)))
    }

    /// What the table is called afterwards, if it is renamed.
    #[must_use]
    pub fn new_name(&self) -> Option<&NameRef> {
        self.items.iter().find_map(|item| match &item.action {
            AlterAction::RenameTo(name) => Some(name),
            _ => None,
        })
    }
}

impl Reader<'_> {
    /// Behind `ALTER TABLE`.
    pub(super) fn alter_table(&mut self) -> Option<AlterTable> {
        let name = self.name(NameRole::Target)?;
        let head = self.at;
        let mut items = Vec::new();
        while !self.at_end() && !self.is_mark(";") {
            let start = self.at;
            let mut action = self.alter_action();
            // What is left of an action that was understood would be misunderstood as another.
            let before = self.at;
            if !matches!(action, AlterAction::Options(_)) {
                self.skip_item();
            }
            if self.at != before && matches!(action, AlterAction::RenameColumn(..)) {
                action = AlterAction::Unknown;
            }
            if self.at == start {
                self.at += 1;
            }
            items.push(AlterItem {
                action,
                tokens: start..self.at,
            });
            self.mark(",");
        }
        Some(AlterTable {
            name,
            head: Some(head),
            items,
        })
    }

    fn alter_action(&mut self) -> AlterAction {
        let found = match self.word(0).as_str() {
            "ADD" => self.alter_add(),
            "DROP" => self.alter_drop(),
            "MODIFY" | "CHANGE" => self.alter_change(),
            "ALTER" => self.alter_alter(),
            "RENAME" => self.alter_rename(),
            "CONVERT" => self.alter_convert(),
            "PARTITION" if self.is("PARTITION BY") => Some(match self.partitioning() {
                Some(text) => AlterAction::PartitionBy(text),
                None => AlterAction::Unknown,
            }),
            "REMOVE" => Some(AlterAction::RemovePartitioning),
            "TRUNCATE" | "EXCHANGE" | "DISCARD" if self.word(1) == "PARTITION" => {
                self.exchanged();
                self.at = self.tokens.len();
                Some(AlterAction::PartitionRows(String::new()))
            }
            "REORGANIZE" | "COALESCE" | "ANALYZE" | "CHECK" | "OPTIMIZE" | "REBUILD" | "REPAIR"
            | "IMPORT"
                if self.word(1) == "PARTITION" =>
            {
                let text = self.text_of(self.at..self.tokens.len());
                self.at = self.tokens.len();
                Some(AlterAction::PartitionLayout(text.to_owned()))
            }
            "DISCARD" | "IMPORT" | "FORCE" | "ALGORITHM" | "LOCK" | "WITH" | "WITHOUT"
            | "ENABLE" | "DISABLE" | "SECONDARY_LOAD" | "SECONDARY_UNLOAD" => {
                Some(AlterAction::Nothing)
            }
            "ORDER" => {
                // Its list has commas of its own.
                while self.mark(",") || (!self.at_end() && !self.is_action_word()) {
                    self.at += usize::from(!self.at_end());
                }
                Some(AlterAction::Nothing)
            }
            _ => self.alter_options(),
        };
        found.unwrap_or(AlterAction::Unknown)
    }

    fn is_action_word(&self) -> bool {
        matches!(
            self.word(0).as_str(),
            "ADD" | "DROP" | "MODIFY" | "CHANGE" | "ALTER" | "RENAME" | "CONVERT" | "PARTITION"
        )
    }

    fn alter_options(&mut self) -> Option<AlterAction> {
        let mut options = TableOptions::default();
        let mut any = false;
        while self.table_option(&mut options) {
            any = true;
            // Options may be separated by commas; an action behind one is the next item.
            if self.is_mark(",") {
                self.at += 1;
                let more = self.table_option(&mut options);
                if !more {
                    self.at -= 1;
                    break;
                }
            }
        }
        any.then_some(AlterAction::Options(options))
    }

    /// `EXCHANGE PARTITION p WITH TABLE t`.
    fn exchanged(&mut self) {
        while !self.at_end() && !self.is_mark(",") {
            if self.eat("WITH TABLE") {
                self.name(NameRole::Exchanged);
                return;
            }
            self.at += 1;
        }
    }

    fn alter_add(&mut self) -> Option<AlterAction> {
        self.at += 1;
        if self.is("PARTITION") && self.word(1) != "BY" {
            let start = self.at;
            self.skip_item();
            return Some(AlterAction::PartitionLayout(
                self.text_of(start..self.at).to_owned(),
            ));
        }
        if !self.is("COLUMN")
            && let Some(constraint) = self.constraint()
        {
            return Some(match constraint {
                Constraint::Key(key) => AlterAction::AddKey(key),
                Constraint::Foreign(key) => AlterAction::AddForeignKey(key),
                Constraint::Check(check) => AlterAction::AddCheck(check),
            });
        }
        self.eat("COLUMN");
        if !self.mark("(") {
            let def = self.column()?;
            return Some(AlterAction::AddColumns(vec![(def, self.position())]));
        }
        let mut columns = Vec::new();
        while !self.mark(")") && !self.at_end() {
            // Keys in such a list are rare enough to be left to the reader of the whole.
            columns.push((self.column()?, Position::Last));
            self.mark(",");
        }
        Some(AlterAction::AddColumns(columns))
    }

    fn position(&mut self) -> Position {
        if self.eat("FIRST") {
            return Position::First;
        }
        if self.eat("AFTER")
            && let Some(name) = self.ident()
        {
            return Position::After(name);
        }
        Position::Last
    }

    fn alter_drop(&mut self) -> Option<AlterAction> {
        self.at += 1;
        if self.eat("PRIMARY KEY") {
            return Some(AlterAction::DropPrimaryKey);
        }
        if self.eat("FOREIGN KEY") {
            return self.symbol().map(AlterAction::DropForeignKey);
        }
        if self.token(1).is_some() {
            if self.eat_any(&["INDEX", "KEY"]) {
                return self.ident().map(AlterAction::DropKey);
            }
            if self.eat_any(&["CHECK", "CONSTRAINT"]) {
                return self.symbol().map(AlterAction::DropConstraint);
            }
            if self.eat("PARTITION") {
                let start = self.at;
                // Nothing but names of partitions can follow.
                self.at = self.tokens.len();
                return Some(AlterAction::PartitionRows(
                    self.text_of(start..self.at).to_owned(),
                ));
            }
            self.eat("COLUMN");
        }
        let name = self.ident()?;
        self.eat_any(&["RESTRICT", "CASCADE"]);
        Some(AlterAction::DropColumn(name))
    }

    fn alter_change(&mut self) -> Option<AlterAction> {
        let change = self.is("CHANGE");
        self.at += 1;
        if self.token(1).is_some() {
            self.eat("COLUMN");
        }
        let from = self.ident()?;
        let to = if change { self.ident()? } else { from.clone() };
        let def = self.column_definition(&to)?;
        let position = match self.position() {
            Position::Last => Position::Same,
            other => other,
        };
        Some(AlterAction::ChangeColumn(from, Box::new(def), position))
    }

    fn alter_alter(&mut self) -> Option<AlterAction> {
        self.at += 1;
        if self.eat("INDEX") {
            let name = self.ident()?;
            let visible = self.eat("VISIBLE");
            return (visible || self.eat("INVISIBLE"))
                .then_some(AlterAction::KeyVisibility(name, !visible));
        }
        if self.eat_any(&["CHECK", "CONSTRAINT"]) {
            let name = self.symbol()?;
            let enforced = !self.eat("NOT ENFORCED");
            return Some(AlterAction::EnforceCheck(name, enforced));
        }
        self.eat("COLUMN");
        let name = self.ident()?;
        if self.eat("SET DEFAULT") {
            let value = self.default_value();
            return Some(AlterAction::ColumnDefault(name, value));
        }
        if self.eat("DROP DEFAULT") {
            return Some(AlterAction::ColumnDefault(name, None));
        }
        let visible = self.eat("SET VISIBLE");
        (visible || self.eat("SET INVISIBLE"))
            .then_some(AlterAction::ColumnVisibility(name, !visible))
    }

    fn alter_rename(&mut self) -> Option<AlterAction> {
        self.at += 1;
        for (words, key) in [("COLUMN", false), ("INDEX", true), ("KEY", true)] {
            if self.eat(words) {
                let from = self.ident()?;
                if !self.eat("TO") {
                    return None;
                }
                let to = self.ident()?;
                return Some(if key {
                    AlterAction::RenameKey(from, to)
                } else {
                    AlterAction::RenameColumn(from, to)
                });
            }
        }
        self.mark("=");
        self.eat_any(&["TO", "AS"]);
        self.name(NameRole::NewName).map(AlterAction::RenameTo)
    }

    fn alter_convert(&mut self) -> Option<AlterAction> {
        self.at += 1;
        if !self.eat("TO")
            || !(self.eat("CHARACTER SET") || self.eat("CHARSET") || self.eat("CHAR SET"))
        {
            return None;
        }
        self.mark("=");
        let name = self.ident().or_else(|| self.text())?;
        let mut collate = None;
        if self.eat("COLLATE") {
            self.mark("=");
            let name = self.ident().or_else(|| self.text()).unwrap_or_default();
            collate = Collation::by_name(&name);
        }
        Some(AlterAction::Convert(Charset::by_name(&name), collate))
    }
}
