//! Changes of a table.
//!
//! In: the actions of an `ALTER TABLE` and the pieces of a `CREATE TABLE`. Out: the table afterwards. The order of the actions
//! does not matter to MySQL: what is dropped goes first, columns are found by the names they had before.

use serde::{Deserialize, Serialize};

use super::{Check, Column, DataType, ForeignKey, Key, KeyKind, KeyPartOf, Table, same_name};
use crate::charset::{Charset, Collation};
use crate::ddl::{AlterAction, AlterTable, ColumnDef, TableOptions};

use super::types::BlobSize;

/// Where a column is put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// Before all.
    First,
    /// Behind the column called so.
    After(String),
    /// Behind all.
    Last,
    /// Where it is.
    Same,
}

/// Why a statement does not fit the table. The node has accepted it, so what is known of the table is not what the node has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlterError {
    /// A column is missing.
    #[error(
        "table `{table}` has no column `{column}`: the known definition is not the node's; take it anew with SHOW CREATE TABLE"
    )]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A column exists.
    #[error(
        "table `{table}` has a column `{column}` already: the known definition is not the node's; take it anew with SHOW CREATE TABLE"
    )]
    ColumnExists {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A key exists.
    #[error(
        "table `{table}` has a key `{key}` already: the known definition is not the node's; take it anew with SHOW CREATE TABLE"
    )]
    KeyExists {
        /// The table.
        table: String,
        /// The key.
        key: String,
    },
    /// An action was not understood.
    #[error(
        "an action of ALTER TABLE `{table}` is not understood; take the definition anew with SHOW CREATE TABLE"
    )]
    NotUnderstood {
        /// The table.
        table: String,
    },
}

/// Columns of partitions' texts are not followed; everything else is.
impl Table {
    /// The table behind an `ALTER TABLE`, `CREATE INDEX` or `DROP INDEX`.
    ///
    /// # Errors
    /// When the statement does not fit the table.
    pub fn altered(&self, alter: &AlterTable) -> Result<Self, AlterError> {
        let mut table = self.clone();
        let actions = || alter.items.iter().map(|i| &i.action);
        for action in actions() {
            table.drop_what(action)?;
        }
        table.change_columns(actions())?;
        for action in actions() {
            table.add_what(action)?;
        }
        table.settle_implicit_keys();
        Ok(table)
    }

    fn no_column(&self, column: &str) -> AlterError {
        AlterError::NoColumn {
            table: self.name.clone(),
            column: column.to_owned(),
        }
    }

    fn drop_what(&mut self, action: &AlterAction) -> Result<(), AlterError> {
        match action {
            AlterAction::DropColumn(name) => {
                let at = self
                    .column_index(name)
                    .ok_or_else(|| self.no_column(name))?;
                self.columns.remove(at);
                for key in &mut self.keys {
                    key.parts
                        .retain(|p| !matches!(&p.what, KeyPartOf::Column(c) if same_name(c, name)));
                }
                self.keys.retain(|k| !k.parts.is_empty());
            }
            AlterAction::DropKey(name) => self.keys.retain(|k| !same_name(&k.name, name)),
            AlterAction::DropPrimaryKey => self.keys.retain(|k| k.kind != KeyKind::Primary),
            AlterAction::DropForeignKey(name) => {
                self.foreign_keys.retain(|k| !same_name(&k.name, name));
            }
            AlterAction::DropConstraint(name) => {
                self.checks.retain(|c| !same_name(&c.name, name));
                self.foreign_keys.retain(|k| !same_name(&k.name, name));
                self.keys
                    .retain(|k| !(k.kind == KeyKind::Unique && same_name(&k.name, name)));
                if name.eq_ignore_ascii_case("PRIMARY") {
                    self.keys.retain(|k| k.kind != KeyKind::Primary);
                }
            }
            AlterAction::Unknown => {
                return Err(AlterError::NotUnderstood {
                    table: self.name.clone(),
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Renames and changes, all found by the names before the statement.
    fn change_columns<'a>(
        &mut self,
        actions: impl Iterator<Item = &'a AlterAction>,
    ) -> Result<(), AlterError> {
        let before: Vec<String> = self.columns.iter().map(|c| c.name.clone()).collect();
        let find = |name: &str| before.iter().position(|c| same_name(c, name));
        let mut renamed = Vec::new();
        let mut moves = Vec::new();
        for action in actions {
            match action {
                AlterAction::ChangeColumn(from, def, position) => {
                    let at = find(from).ok_or_else(|| self.no_column(from))?;
                    let mut new = def.resolve(self.collation);
                    if let Some(column) = self.columns.get_mut(at) {
                        renamed.push((column.name.clone(), new.name.clone()));
                        std::mem::swap(column, &mut new);
                    }
                    if *position != Position::Same {
                        moves.push((def.column.name.clone(), position.clone()));
                    }
                }
                AlterAction::RenameColumn(from, to) => {
                    let at = find(from).ok_or_else(|| self.no_column(from))?;
                    if let Some(column) = self.columns.get_mut(at) {
                        renamed.push((column.name.clone(), to.clone()));
                        column.name.clone_from(to);
                    }
                }
                _ => {}
            }
        }
        self.rename_in_keys(&renamed);
        for (name, position) in moves {
            let at = self
                .column_index(&name)
                .ok_or_else(|| self.no_column(&name))?;
            let column = self.columns.remove(at);
            self.insert_column(column, &position)?;
        }
        // Changed columns of a primary key stay NOT NULL.
        self.keep_primary_not_null();
        Ok(())
    }

    /// Gives columns other names (old, new), all at once. Those that it does not have are passed over.
    pub(crate) fn rename_columns(&mut self, names: &[(String, String)]) {
        let mut done = Vec::new();
        for column in &mut self.columns {
            let new = names.iter().find(|(old, _)| same_name(old, &column.name));
            if let Some((_, new)) = new {
                done.push((column.name.clone(), new.clone()));
                column.name.clone_from(new);
            }
        }
        self.rename_in_keys(&done);
    }

    fn rename_in_keys(&mut self, renamed: &[(String, String)]) {
        let new = |name: &mut String| {
            if let Some((_, to)) = renamed.iter().find(|(from, _)| same_name(from, name)) {
                name.clone_from(to);
            }
        };
        for part in self.keys.iter_mut().flat_map(|k| &mut k.parts) {
            if let KeyPartOf::Column(name) = &mut part.what {
                new(name);
            }
        }
        for key in &mut self.foreign_keys {
            key.columns.iter_mut().for_each(new);
        }
    }

    fn keep_primary_not_null(&mut self) {
        let Some(primary) = self.primary_key() else {
            return;
        };
        let names: Vec<String> = (primary.parts.iter())
            .filter_map(|p| match &p.what {
                KeyPartOf::Column(name) => Some(name.clone()),
                KeyPartOf::Expression(_) => None,
            })
            .collect();
        for column in &mut self.columns {
            if names.iter().any(|n| same_name(n, &column.name)) {
                column.nullable = false;
                if column.default == Some(super::DefaultValue::Null) {
                    column.default = None;
                }
            }
        }
    }

    fn column_mut(&mut self, name: &str) -> Result<&mut Column, AlterError> {
        let at = self
            .column_index(name)
            .ok_or_else(|| self.no_column(name))?;
        let error = self.no_column(name);
        self.columns.get_mut(at).ok_or(error)
    }

    fn add_what(&mut self, action: &AlterAction) -> Result<(), AlterError> {
        match action {
            AlterAction::AddColumns(columns) => {
                for (def, position) in columns {
                    self.add_column(def, position)?;
                }
            }
            AlterAction::ChangeColumn(_, def, _) => {
                for key in &def.keys {
                    self.add_key(key.clone())?;
                }
            }
            AlterAction::ColumnDefault(name, value) => {
                self.column_mut(name)?.set_default(value.clone());
            }
            AlterAction::ColumnVisibility(name, invisible) => {
                self.column_mut(name)?.invisible = *invisible;
            }
            AlterAction::AddKey(key) => self.add_key(key.clone())?,
            AlterAction::RenameKey(from, to) => {
                if let Some(key) = self.keys.iter_mut().find(|k| same_name(&k.name, from)) {
                    key.name.clone_from(to);
                }
            }
            AlterAction::KeyVisibility(name, invisible) => {
                if let Some(key) = self.keys.iter_mut().find(|k| same_name(&k.name, name)) {
                    key.invisible = *invisible;
                }
            }
            AlterAction::AddForeignKey(key) => self.add_foreign_key(key.clone()),
            AlterAction::AddCheck(check) => self.add_check(check.clone()),
            AlterAction::EnforceCheck(name, enforced) => {
                if let Some(check) = self.checks.iter_mut().find(|c| same_name(&c.name, name)) {
                    check.enforced = *enforced;
                }
            }
            AlterAction::RenameTo(name) => self.rename(&name.name),
            AlterAction::Convert(charset, collate) => {
                let collation = collate.or(charset.map(Charset::default_collation));
                self.convert(collation.unwrap_or(self.collation));
            }
            AlterAction::Options(options) => self.set_options(options),
            AlterAction::PartitionBy(text) => self.partitioning = Some(text.clone()),
            AlterAction::RemovePartitioning => self.partitioning = None,
            _ => {}
        }
        Ok(())
    }

    /// Gives the table another name; names of constraints that the server made follow.
    pub fn rename(&mut self, to: &str) {
        let from = std::mem::replace(&mut self.name, to.to_owned());
        let follow = |name: &mut String, infix: &str| {
            let number = name.strip_prefix(&from).and_then(|n| n.strip_prefix(infix));
            if let Some(number) = number.filter(|n| n.bytes().all(|b| b.is_ascii_digit())) {
                *name = format!("{to}{infix}{number}");
            }
        };
        for key in &mut self.foreign_keys {
            follow(&mut key.name, "_ibfk_");
        }
        for check in &mut self.checks {
            follow(&mut check.name, "_chk_");
        }
    }

    /// `CONVERT TO CHARACTER SET`.
    fn convert(&mut self, to: Collation) {
        let new_len = to.charset().map_or(1, Charset::max_len);
        for column in &mut self.columns {
            if !column.data_type.has_charset() {
                continue;
            }
            let old_len = column.collation.charset().map_or(1, Charset::max_len);
            if let DataType::Text(size) = &mut column.data_type
                && new_len > old_len
            {
                // A text that was full in the old set must fit in the new one.
                let bytes = (1_u64 << (8 * u32::from(size.length_bytes()))) - 1;
                let bytes = bytes / u64::from(old_len) * u64::from(new_len);
                *size = BlobSize::for_bytes(bytes).max(*size);
            }
            column.collation = to;
        }
        self.collation = to;
    }

    pub(crate) fn set_options(&mut self, options: &TableOptions) {
        if let Some(collation) = options.collation() {
            // Columns keep what they have; it is shown where it differs now.
            for column in &mut self.columns {
                column.explicit_collation |=
                    column.data_type.has_charset() && column.collation != collation;
            }
            self.collation = collation;
        }
        if let Some(engine) = &options.engine {
            self.engine = engine_name(engine);
        }
        if let Some(comment) = &options.comment {
            self.comment.clone_from(comment);
        }
        for (name, value) in &options.others {
            self.options.retain(|(n, _)| n != name);
            let unset = value.eq_ignore_ascii_case("DEFAULT")
                || (value == "0" && !name.starts_with("STATS") && name != "PACK_KEYS");
            if !unset {
                let value = match name.as_str() {
                    "ROW_FORMAT" | "INSERT_METHOD" => value.to_ascii_uppercase(),
                    _ => value.clone(),
                };
                self.options.push((name.clone(), value));
            }
        }
    }

    fn insert_column(&mut self, column: Column, position: &Position) -> Result<(), AlterError> {
        let at = match position {
            Position::First => 0,
            Position::Last | Position::Same => self.columns.len(),
            Position::After(name) => {
                let at = self
                    .column_index(name)
                    .ok_or_else(|| self.no_column(name))?;
                at + 1
            }
        };
        self.columns.insert(at.min(self.columns.len()), column);
        Ok(())
    }

    pub(crate) fn add_column(
        &mut self,
        def: &ColumnDef,
        position: &Position,
    ) -> Result<(), AlterError> {
        let column = def.resolve(self.collation);
        if self.column(&column.name).is_some() {
            return Err(AlterError::ColumnExists {
                table: self.name.clone(),
                column: column.name,
            });
        }
        self.insert_column(column, position)?;
        for key in &def.keys {
            self.add_key(key.clone())?;
        }
        for key in &def.foreign_keys {
            self.add_foreign_key(key.clone());
        }
        for check in &def.checks {
            self.add_check(check.clone());
        }
        Ok(())
    }

    pub(crate) fn add_key(&mut self, mut key: Key) -> Result<(), AlterError> {
        let taken = |name: &str| self.keys.iter().any(|k| same_name(&k.name, name));
        if key.name.is_empty() {
            let base = match key.parts.first().map(|p| &p.what) {
                Some(KeyPartOf::Column(name)) => name.clone(),
                _ => "functional_index".to_owned(),
            };
            let numbered = (2..).map(|n| format!("{base}_{n}"));
            let mut names = std::iter::once(base.clone()).chain(numbered);
            key.name = names.find(|n| !taken(n)).unwrap_or(base);
        } else if let Some(old) = self.keys.iter().position(|k| same_name(&k.name, &key.name)) {
            if !self.keys.get(old).is_some_and(|k| k.implicit) {
                return Err(AlterError::KeyExists {
                    table: self.name.clone(),
                    key: key.name,
                });
            }
            self.keys.remove(old);
        }
        self.keys.push(key);
        self.keep_primary_not_null();
        Ok(())
    }

    pub(crate) fn add_foreign_key(&mut self, mut key: ForeignKey) {
        let index_name = key.name.clone();
        if key.name.is_empty() {
            let names = self.foreign_keys.iter().map(|k| k.name.as_str());
            let number = greatest(names, &self.name, "_ibfk_") + 1;
            key.name = format!("{}_ibfk_{number}", self.name);
        }
        if !self.keys.iter().any(|k| leads(k, &key.columns)) {
            let parts = key.columns.iter().map(|c| super::KeyPart {
                what: KeyPartOf::Column(c.clone()),
                prefix: None,
                descending: false,
            });
            // A name that is taken cannot be, or the node had refused it.
            let _ = self.add_key(Key {
                kind: KeyKind::Plain,
                name: index_name,
                parts: parts.collect(),
                using: None,
                block_size: None,
                parser: None,
                comment: String::new(),
                invisible: false,
                implicit: true,
            });
        }
        self.foreign_keys.push(key);
    }

    /// Foreign keys that lead to `from` lead to `to`, whose columns have got other names (old, new). This table lies in the second of
    /// `schemas`, and lay in the first. Whether one is another.
    pub(crate) fn refer(
        &mut self,
        schemas: (&str, &str),
        from: (&str, &str),
        to: (&str, &str),
        columns: &[(String, String)],
    ) -> bool {
        let mut any = false;
        for key in &mut self.foreign_keys {
            let before = key.clone();
            let leads = (key.schema.as_deref().unwrap_or(schemas.0), &*key.table);
            let hit = leads == from;
            let schema = if hit { to.0 } else { leads.0 }.to_owned();
            if hit {
                to.1.clone_into(&mut key.table);
                for column in &mut key.referenced {
                    if let Some((_, new)) = columns.iter().find(|(old, _)| same_name(old, column)) {
                        column.clone_from(new);
                    }
                }
            }
            if hit || schemas.0 != schemas.1 {
                key.schema = (schema != schemas.1).then_some(schema);
            }
            any |= *key != before;
        }
        any
    }

    pub(crate) fn add_check(&mut self, mut check: Check) {
        if check.name.is_empty() {
            let names = self.checks.iter().map(|c| c.name.as_str());
            let number = greatest(names, &self.name, "_chk_") + 1;
            check.name = format!("{}_chk_{number}", self.name);
        }
        self.checks.push(check);
    }

    /// Keys that the server made for foreign keys go when another one can serve.
    fn settle_implicit_keys(&mut self) {
        let keys = self.keys.clone();
        self.keys.retain(|key| {
            if !key.implicit {
                return true;
            }
            let columns: Vec<String> = (key.parts.iter())
                .filter_map(|p| match &p.what {
                    KeyPartOf::Column(name) => Some(name.clone()),
                    KeyPartOf::Expression(_) => None,
                })
                .collect();
            let serves = |k: &Key| !k.implicit || k.parts.len() > columns.len();
            !keys.iter().any(|k| serves(k) && leads(k, &columns))
        });
    }
}

/// Whether the key begins with these columns, whole.
fn leads(key: &Key, columns: &[String]) -> bool {
    matches!(
        key.kind,
        KeyKind::Primary | KeyKind::Unique | KeyKind::Plain
    ) && key.parts.len() >= columns.len()
        && key.parts.iter().zip(columns).all(|(part, name)| {
            part.prefix.is_none()
                && matches!(&part.what, KeyPartOf::Column(c) if same_name(c, name))
        })
}

/// The greatest number among names that the server made.
fn greatest<'a>(names: impl Iterator<Item = &'a str>, table: &str, infix: &str) -> u32 {
    let numbers = names.filter_map(|n| n.strip_prefix(table)?.strip_prefix(infix)?.parse().ok());
    numbers.max().unwrap_or(0)
}

/// The engine's name as the server writes it.
fn engine_name(name: &str) -> String {
    const NAMES: [&str; 9] = [
        "InnoDB",
        "MyISAM",
        "MEMORY",
        "CSV",
        "ARCHIVE",
        "BLACKHOLE",
        "MRG_MYISAM",
        "FEDERATED",
        "ndbcluster",
    ];
    let known = match name.to_ascii_uppercase().as_str() {
        "HEAP" => Some("MEMORY"),
        "MERGE" => Some("MRG_MYISAM"),
        "NDB" => Some("ndbcluster"),
        _ => NAMES.into_iter().find(|n| n.eq_ignore_ascii_case(name)),
    };
    known.unwrap_or(name).to_owned()
}
