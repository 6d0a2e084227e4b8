//! `CREATE TABLE`: columns, keys, options, partitions.
//!
//! In: tokens behind the table's name. Out: a [`CreateTable`], which becomes a [`Table`] once the schema's collation is known.

use super::column::ColumnDef;
use super::reader::{NameRef, NameRole, Reader};
use crate::charset::{Charset, Collation};
use crate::table::{
    Check, DataType, ForeignKey, Key, KeyKind, KeyPart, KeyPartOf, Position, Table,
};

/// Options of a table as a statement writes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TableOptions {
    pub(crate) charset: Option<Charset>,
    pub(crate) collate: Option<Collation>,
    pub(crate) engine: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) others: Vec<(String, String)>,
}

impl TableOptions {
    /// The collation they name.
    pub(crate) fn collation(&self) -> Option<Collation> {
        self.collate
            .or(self.charset.map(Charset::default_collation))
    }
}

/// A `CREATE TABLE`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTable {
    /// The table.
    pub name: NameRef,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// `LIKE`: the table whose definition is taken.
    pub like: Option<NameRef>,
    /// Rows follow in the same transaction (`… SELECT`, logged with `START TRANSACTION`).
    pub with_rows: bool,
    /// Whether every column and key was understood.
    pub readable: bool,
    pub(crate) columns: Vec<ColumnDef>,
    pub(crate) keys: Vec<Key>,
    pub(crate) foreign_keys: Vec<ForeignKey>,
    pub(crate) checks: Vec<Check>,
    pub(crate) options: TableOptions,
    pub(crate) partitioning: Option<String>,
    /// Token behind the parenthesis that closes the columns.
    pub(super) options_at: Option<usize>,
}

impl CreateTable {
    /// Whether the statement names the table's character set or collation.
    #[must_use]
    pub fn names_charset(&self) -> bool {
        self.options.collation().is_some()
    }

    /// The table, in a schema with the default collation `schema`. `None` when the statement does not hold the definition
    /// (`LIKE`) or it could not be read.
    #[must_use]
    pub fn table(&self, schema: Collation) -> Option<Table> {
        if self.like.is_some() || !self.readable {
            return None;
        }
        let collation = self.options.collation().unwrap_or(schema);
        let mut table = Table::empty(&self.name.name, collation);
        table.set_options(&self.options);
        table.collation = collation;
        for def in &self.columns {
            table.add_column(def, &Position::Last).ok()?;
        }
        for key in &self.keys {
            table.add_key(key.clone()).ok()?;
        }
        for foreign in &self.foreign_keys {
            table.add_foreign_key(foreign.clone());
        }
        for check in &self.checks {
            table.add_check(check.clone());
        }
        table.partitioning.clone_from(&self.partitioning);
        Some(table)
    }
}

impl Reader<'_> {
    /// Behind `CREATE [TEMPORARY] TABLE`.
    pub(super) fn create_table(&mut self) -> Option<CreateTable> {
        let if_not_exists = self.eat("IF NOT EXISTS");
        let name = self.name(NameRole::Target)?;
        let mut create = CreateTable {
            name,
            if_not_exists,
            like: None,
            with_rows: false,
            readable: true,
            columns: Vec::new(),
            keys: Vec::new(),
            foreign_keys: Vec::new(),
            checks: Vec::new(),
            options: TableOptions::default(),
            partitioning: None,
            options_at: None,
        };
        let parens = self.is_mark("(");
        if self.eat("LIKE") || (parens && self.word(1) == "LIKE") {
            self.at += if parens { 2 } else { 0 };
            create.like = self.name(NameRole::Source);
            return Some(create);
        }
        if parens
            && !matches!(
                self.word(1).as_str(),
                "SELECT" | "WITH" | "TABLE" | "VALUES"
            )
        {
            self.at += 1;
            self.definitions(&mut create);
            create.options_at = Some(self.at);
        }
        self.create_options(&mut create);
        if self.eat_any(&["IGNORE", "REPLACE"]) | self.eat("AS") || !self.at_end() {
            let query = self.is_mark("(")
                || ["SELECT", "WITH", "TABLE", "VALUES"]
                    .iter()
                    .any(|w| self.is(w));
            create.with_rows |= query;
            // Columns of a query have types that the text does not tell.
            create.readable &= !query;
            self.body();
        }
        Some(create)
    }

    fn definitions(&mut self, create: &mut CreateTable) {
        loop {
            if self.mark(")") || self.at_end() {
                return;
            }
            let start = self.at;
            if !self.definition(create) {
                create.readable = false;
            }
            self.skip_item();
            if !self.mark(",") && self.at == start {
                // Something that begins no definition and ends none, such as a semicolon.
                create.readable = false;
                self.at += 1;
            }
        }
    }

    /// One column, key or constraint. False when it is not understood.
    fn definition(&mut self, create: &mut CreateTable) -> bool {
        if let Some(constraint) = self.constraint() {
            match constraint {
                Constraint::Key(key) => create.keys.push(key),
                Constraint::Foreign(key) => create.foreign_keys.push(key),
                Constraint::Check(check) => create.checks.push(check),
            }
            return true;
        }
        match self.column() {
            Some(def) => {
                create.columns.push(def);
                true
            }
            None => false,
        }
    }

    fn create_options(&mut self, create: &mut CreateTable) {
        while !self.at_end() {
            if self.is("PARTITION BY") {
                create.partitioning = self.partitioning();
                continue;
            }
            if self.eat("START TRANSACTION") {
                create.with_rows = true;
                continue;
            }
            self.mark(",");
            if !self.table_option(&mut create.options) {
                return;
            }
        }
    }

    /// From `PARTITION BY` to the end of the clause, which is that of the statement or the `AS`, `SELECT` of a query. `None`
    /// when the text has no end, and so the clause has none.
    pub(super) fn partitioning(&mut self) -> Option<String> {
        let start = self.at;
        while !self.at_end() && !self.is_mark(";") {
            if ["AS", "SELECT", "WITH", "IGNORE", "REPLACE", "START"]
                .iter()
                .any(|w| self.is(w))
            {
                break;
            }
            if self.parens().is_none() {
                self.at += 1;
            }
        }
        (!self.torn).then(|| self.text_of(start..self.at).to_owned())
    }

    /// One table option. False when none comes next.
    pub(super) fn table_option(&mut self, options: &mut TableOptions) -> bool {
        let start = self.at;
        self.eat("DEFAULT");
        if self.eat("CHARACTER SET") || self.eat("CHARSET") || self.eat("CHAR SET") {
            self.mark("=");
            let name = self.ident().or_else(|| self.text()).unwrap_or_default();
            options.charset = Charset::by_name(&name);
            // A collation named before for another set has been refused by the server.
            return true;
        }
        if self.eat("COLLATE") {
            self.mark("=");
            let name = self.ident().or_else(|| self.text()).unwrap_or_default();
            options.collate = Collation::by_name(&name);
            return true;
        }
        if self.at != start {
            self.at = start;
            return false;
        }
        if self.eat("ENGINE") {
            self.mark("=");
            options.engine = self.ident().or_else(|| self.text());
            return true;
        }
        if self.eat("COMMENT") {
            self.mark("=");
            options.comment = self.text();
            return true;
        }
        const OPTIONS: &[&str] = &[
            "AUTOEXTEND_SIZE",
            "AUTO_INCREMENT",
            "AVG_ROW_LENGTH",
            "CHECKSUM",
            "COMPRESSION",
            "CONNECTION",
            "DATA DIRECTORY",
            "INDEX DIRECTORY",
            "DELAY_KEY_WRITE",
            "ENCRYPTION",
            "ENGINE_ATTRIBUTE",
            "INSERT_METHOD",
            "KEY_BLOCK_SIZE",
            "MAX_ROWS",
            "MIN_ROWS",
            "PACK_KEYS",
            "PASSWORD",
            "ROW_FORMAT",
            "SECONDARY_ENGINE",
            "SECONDARY_ENGINE_ATTRIBUTE",
            "STATS_AUTO_RECALC",
            "STATS_PERSISTENT",
            "STATS_SAMPLE_PAGES",
            "STORAGE",
            "TABLESPACE",
            "TABLE_CHECKSUM",
            "UNION",
        ];
        let Some(name) = OPTIONS.iter().find(|o| self.eat(o)) else {
            return false;
        };
        self.mark("=");
        let at = self.at;
        if self.parens().is_none() {
            self.at += 1;
        }
        let value = self.text_of(at..self.at).to_owned();
        // A counter, not part of the table.
        if *name != "AUTO_INCREMENT" {
            options.others.push(((*name).to_owned(), value));
        }
        true
    }

    /// A key or constraint, if one comes next.
    pub(super) fn constraint(&mut self) -> Option<Constraint> {
        let start = self.at;
        let mut symbol = String::new();
        let named = self.eat("CONSTRAINT");
        if named {
            let words = ["PRIMARY", "UNIQUE", "FOREIGN", "CHECK"];
            if !words.iter().any(|w| self.is(w)) {
                symbol = self.symbol().unwrap_or_default();
            }
        }
        let found = if self.is("CHECK")
            && (named || self.token(1).is_some_and(|t| t.of(self.sql) == "("))
        {
            self.check(symbol).map(Constraint::Check)
        } else if self.eat("FOREIGN KEY") {
            if !self.is_mark("(") {
                symbol = match self.symbol() {
                    Some(name) if symbol.is_empty() => name,
                    _ => symbol,
                };
            }
            let columns = self.ident_list();
            self.references(symbol, columns).map(Constraint::Foreign)
        } else {
            self.key(&symbol).map(Constraint::Key)
        };
        if found.is_none() {
            self.at = start;
        }
        found
    }

    fn key(&mut self, symbol: &str) -> Option<Key> {
        let kind = if self.eat("PRIMARY KEY") {
            KeyKind::Primary
        } else if self.eat_any(&["UNIQUE KEY", "UNIQUE INDEX", "UNIQUE"]) {
            KeyKind::Unique
        } else if self.eat_any(&["FULLTEXT KEY", "FULLTEXT INDEX", "FULLTEXT"]) {
            KeyKind::Fulltext
        } else if self.eat_any(&["SPATIAL KEY", "SPATIAL INDEX", "SPATIAL"]) {
            KeyKind::Spatial
        } else if self.eat_any(&["KEY", "INDEX"]) {
            KeyKind::Plain
        } else {
            return None;
        };
        self.key_behind_kind(kind, symbol)
    }

    /// `[name] [USING x] (parts) options`.
    pub(super) fn key_behind_kind(&mut self, kind: KeyKind, symbol: &str) -> Option<Key> {
        let name = self.ident_but(&["USING", "TYPE"]).unwrap_or_default();
        let name = match kind {
            KeyKind::Primary => "PRIMARY".to_owned(),
            _ if name.is_empty() => symbol.to_owned(),
            _ => name,
        };
        let mut key = Key::new(kind, name);
        self.key_options(&mut key);
        if !self.mark("(") {
            return None;
        }
        loop {
            key.parts.push(self.key_part()?);
            if !self.mark(",") {
                break;
            }
        }
        if !self.mark(")") {
            return None;
        }
        self.key_options(&mut key);
        Some(key)
    }

    fn key_part(&mut self) -> Option<KeyPart> {
        let what = if self.is_mark("(") {
            let tokens = self.parens()?;
            KeyPartOf::Expression(self.text_of(tokens).to_owned())
        } else {
            KeyPartOf::Column(self.ident()?)
        };
        let prefix = self.number_in_parens().and_then(|n| u32::try_from(n).ok());
        let descending = self.eat("DESC");
        self.eat("ASC");
        Some(KeyPart {
            what,
            prefix,
            descending,
        })
    }

    pub(super) fn key_options(&mut self, key: &mut Key) {
        loop {
            if self.eat_any(&["USING", "TYPE"]) {
                key.using = self.ident().map(|w| w.to_ascii_uppercase());
            } else if self.eat("KEY_BLOCK_SIZE") {
                self.mark("=");
                key.block_size = self.number().and_then(|n| u32::try_from(n).ok());
            } else if self.eat("WITH PARSER") {
                key.parser = self.ident();
            } else if self.eat("COMMENT") {
                key.comment = self.text().unwrap_or_default();
            } else if self.eat("INVISIBLE") {
                key.invisible = true;
            } else if self.eat("VISIBLE") {
                key.invisible = false;
            } else if self.eat_any(&["ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE"]) {
                self.mark("=");
                self.text();
            } else {
                return;
            }
        }
    }
}

/// A key or constraint of a table.
pub(super) enum Constraint {
    Key(Key),
    Foreign(ForeignKey),
    Check(Check),
}

/// `SERIAL` brings a unique key.
pub(super) fn serial(def: &mut ColumnDef, word: &str) {
    if word == "SERIAL" && matches!(def.column.data_type, DataType::Int { .. }) {
        def.column.nullable = false;
        def.column.auto_increment = true;
        if def.keys.is_empty() {
            def.keys.push(Key {
                kind: KeyKind::Unique,
                name: String::new(),
                parts: vec![KeyPart {
                    what: KeyPartOf::Column(def.column.name.clone()),
                    prefix: None,
                    descending: false,
                }],
                using: None,
                block_size: None,
                parser: None,
                comment: String::new(),
                invisible: false,
                implicit: false,
            });
        }
    }
}
