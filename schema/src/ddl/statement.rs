//! The kinds of statements.
//!
//! In: text and session. Out: a [`Statement`].

use super::alter::{AlterAction, AlterItem, AlterTable};
use super::create::{CreateTable, TableOptions};
use super::reader::{NameRef, NameRole, Reader};
use crate::charset::{Charset, Collation};
use crate::lex::{LexMode, Lexed, TokenKind, lex};
use crate::table::KeyKind;

/// What a statement's meaning depends on besides its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session<'a> {
    /// Default database; empty for none.
    pub schema: &'a str,
    /// SQL modes that change how text is cut into tokens.
    pub mode: LexMode,
}

impl<'a> Session<'a> {
    /// A session with this default database and no special SQL mode.
    #[must_use]
    pub fn in_schema(schema: &'a str) -> Self {
        Self {
            schema,
            mode: LexMode::default(),
        }
    }
}

/// What `CREATE DATABASE` and `ALTER DATABASE` say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabaseChange {
    /// The default collation, if it is given.
    pub collation: Option<Collation>,
}

/// What a statement does.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `CREATE TABLE`.
    CreateTable(Box<CreateTable>),
    /// `ALTER TABLE`, `CREATE INDEX`, `DROP INDEX`.
    AlterTable(AlterTable),
    /// `DROP TABLE`.
    DropTable {
        /// The tables.
        names: Vec<NameRef>,
        /// `IF EXISTS`.
        if_exists: bool,
    },
    /// `RENAME TABLE`: from, to, in order.
    RenameTable(Vec<(NameRef, NameRef)>),
    /// `TRUNCATE TABLE`.
    Truncate(NameRef),
    /// `CREATE DATABASE`; true for `IF NOT EXISTS`.
    CreateDatabase(String, DatabaseChange, bool),
    /// `ALTER DATABASE`; the default database when the name is empty.
    AlterDatabase(String, DatabaseChange),
    /// `DROP DATABASE`.
    DropDatabase(String),
    /// `CREATE VIEW`, `ALTER VIEW`; true for a view that is replaced.
    View(NameRef, bool),
    /// `DROP VIEW`.
    DropView(Vec<NameRef>),
    /// A stored program: the verb and the object's word, such as `CREATE`, `TRIGGER`.
    Program {
        /// `CREATE`, `ALTER` or `DROP`.
        verb: String,
        /// `PROCEDURE`, `FUNCTION`, `TRIGGER`, `EVENT` or `LIBRARY`.
        object: String,
        /// Its name.
        name: Option<NameRef>,
    },
    /// A spatial reference system.
    SpatialReferenceSystem,
    /// Accounts, roles and privileges.
    Account,
    /// Temporary tables, maintenance, tablespaces, plugins, settings.
    NodeLocal,
    /// Something else, taken as it stands.
    Other,
}

/// A statement that was read.
#[derive(Clone, Debug)]
pub struct Statement {
    pub(super) sql: String,
    pub(super) schema: String,
    pub(super) lexed: Lexed,
    /// What it does.
    pub kind: Kind,
    /// Every table, view and stored program it names, in the order of the text.
    pub names: Vec<NameRef>,
    pub(super) symbols: Vec<usize>,
    pub(super) database: Option<usize>,
    pub(super) mode: LexMode,
}

impl Statement {
    /// Reads a statement. Never fails: what is not understood is [`Kind::Other`].
    #[must_use]
    pub fn parse(sql: &str, session: Session<'_>) -> Self {
        let mut lexed = lex(sql, session.mode);
        // A trailing semicolon means nothing.
        while lexed
            .tokens
            .last()
            .is_some_and(|t| t.kind == TokenKind::Mark && t.of(sql) == ";")
        {
            lexed.tokens.pop();
        }
        let mut reader = Reader::new(sql, &lexed.tokens, session.mode);
        reader.torn = lexed.torn;
        let kind = reader.statement().unwrap_or(Kind::Other);
        let (mut names, symbols, database) = (reader.names, reader.symbols, reader.database);
        names.sort_by_key(|n| n.tokens.start);
        Self {
            sql: sql.to_owned(),
            schema: session.schema.to_owned(),
            lexed,
            kind,
            names,
            symbols,
            database,
            mode: session.mode,
        }
    }

    /// Its text.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The default database it ran with.
    #[must_use]
    pub fn default_schema(&self) -> &str {
        &self.schema
    }

    /// The schema and name that a name of this statement stands for.
    #[must_use]
    pub fn resolve<'a>(&'a self, name: &'a NameRef) -> (&'a str, &'a str) {
        (name.schema.as_deref().unwrap_or(&self.schema), &name.name)
    }

    /// The names with this role.
    pub fn names_as(&self, role: NameRole) -> impl Iterator<Item = &NameRef> {
        self.names.iter().filter(move |n| n.role == role)
    }
}

impl Reader<'_> {
    fn statement(&mut self) -> Option<Kind> {
        let verb = self.word(0);
        self.at += 1;
        match verb.as_str() {
            "CREATE" => self.create(),
            "ALTER" => self.alter(),
            "DROP" => self.drop(),
            "RENAME" => self.rename(),
            "TRUNCATE" => {
                self.eat("TABLE");
                self.name(NameRole::Target).map(Kind::Truncate)
            }
            "GRANT" | "REVOKE" => Some(Kind::Account),
            "SET"
                if ["PASSWORD", "DEFAULT ROLE", "ROLE"]
                    .iter()
                    .any(|w| self.is(w)) =>
            {
                Some(Kind::Account)
            }
            "SET" | "INSTALL" | "UNINSTALL" | "FLUSH" | "RESET" | "ANALYZE" | "OPTIMIZE"
            | "REPAIR" | "CHECK" | "CHECKSUM" | "CACHE" | "LOCK" | "UNLOCK" | "IMPORT"
            | "CLONE" | "KILL" | "SHUTDOWN" | "RESTART" | "PURGE" | "CHANGE" | "START" | "STOP"
            | "HELP" | "USE" => {
                self.while_tables();
                Some(Kind::NodeLocal)
            }
            _ => {
                self.body();
                None
            }
        }
    }

    /// `ANALYZE TABLE a, b` and the like name tables, too.
    fn while_tables(&mut self) {
        self.eat_any(&["NO_WRITE_TO_BINLOG", "LOCAL"]);
        if self.eat("TABLE") || self.eat("TABLES") {
            while self.name(NameRole::Source).is_some() && self.mark(",") {}
        }
    }

    /// Words that may stand between the verb and the object.
    fn modifiers(&mut self) -> (bool, Option<KeyKind>, bool) {
        let (mut temporary, mut replace, mut key) = (false, false, None);
        loop {
            if self.eat("OR REPLACE") {
                replace = true;
            } else if self.eat("TEMPORARY") {
                temporary = true;
            } else if self.eat("UNIQUE") {
                key = Some(KeyKind::Unique);
            } else if self.eat("FULLTEXT") {
                key = Some(KeyKind::Fulltext);
            } else if self.is("SPATIAL") && !self.is("SPATIAL REFERENCE") {
                self.at += 1;
                key = Some(KeyKind::Spatial);
            } else if self.eat_any(&[
                "ONLINE",
                "OFFLINE",
                "IGNORE",
                "EXTERNAL",
                "MATERIALIZED",
                "JSON",
            ]) || self.eat_any(&["RELATIONAL", "DUALITY", "AGGREGATE"])
            {
            } else if self.eat_any(&["ALGORITHM", "SQL SECURITY"]) {
                self.mark("=");
                self.at += 1;
            } else if self.eat("DEFINER") {
                self.definer();
            } else {
                return (temporary, key, replace);
            }
        }
    }

    /// `= user[@host]`, `= CURRENT_USER()`.
    fn definer(&mut self) {
        self.mark("=");
        self.at += 1;
        self.parens();
        if self.mark("@") {
            self.at += 1;
        }
    }

    fn account_or_local(&mut self) -> Option<Kind> {
        if self.eat_any(&["USER", "ROLE"]) {
            return Some(Kind::Account);
        }
        let local = [
            "SERVER",
            "TABLESPACE",
            "LOGFILE",
            "RESOURCE",
            "INSTANCE",
            "UNDO",
        ];
        self.eat_any(&local).then_some(Kind::NodeLocal)
    }

    fn create(&mut self) -> Option<Kind> {
        let (temporary, key, replace) = self.modifiers();
        if self.eat("TABLE") {
            let create = self.create_table()?;
            if temporary {
                return Some(Kind::NodeLocal);
            }
            return Some(Kind::CreateTable(Box::new(create)));
        }
        if self.eat("INDEX") {
            return self.create_index(key.unwrap_or(KeyKind::Plain));
        }
        if self.eat_any(&["DATABASE", "SCHEMA"]) {
            let if_not_exists = self.eat("IF NOT EXISTS");
            let name = self.database_name()?;
            let change = self.database_options();
            return Some(Kind::CreateDatabase(name, change, if_not_exists));
        }
        self.view_or_program("CREATE", replace)
            .or_else(|| self.account_or_local())
    }

    fn create_index(&mut self, kind: KeyKind) -> Option<Kind> {
        let start = self.at;
        let index = self.ident()?;
        // USING stands before ON here.
        if self.eat("USING") {
            self.at += 1;
        }
        if !self.eat("ON") {
            return None;
        }
        let name = self.name(NameRole::Target)?;
        let mut key = self.key_behind_kind(kind, "")?;
        key.name = index;
        if self
            .tokens
            .get(start + 1)
            .is_some_and(|t| t.of(self.sql).eq_ignore_ascii_case("USING"))
        {
            let using = self.tokens.get(start + 2);
            key.using = key
                .using
                .or(using.map(|t| t.of(self.sql).to_ascii_uppercase()));
        }
        let action = AlterAction::AddKey(key);
        Some(self.index_statement(name, action))
    }

    fn index_statement(&self, name: NameRef, action: AlterAction) -> Kind {
        let tokens = 0..self.tokens.len();
        Kind::AlterTable(AlterTable {
            name,
            head: None,
            items: vec![AlterItem { action, tokens }],
        })
    }

    fn database_options(&mut self) -> DatabaseChange {
        let mut options = TableOptions::default();
        while !self.at_end() {
            if !self.table_option(&mut options) {
                self.at += 1;
            }
        }
        DatabaseChange {
            collation: options
                .collate
                .or(options.charset.map(Charset::default_collation)),
        }
    }

    /// Views, procedures, functions, triggers, events, libraries, spatial reference systems.
    fn view_or_program(&mut self, verb: &str, replace: bool) -> Option<Kind> {
        if self.eat("SPATIAL REFERENCE SYSTEM") {
            return Some(Kind::SpatialReferenceSystem);
        }
        let object = self.word(0);
        let is_program = matches!(
            object.as_str(),
            "VIEW" | "PROCEDURE" | "FUNCTION" | "TRIGGER" | "EVENT" | "LIBRARY"
        );
        if !is_program {
            return None;
        }
        self.at += 1;
        let drop = verb == "DROP";
        self.eat_any(&["IF NOT EXISTS", "IF EXISTS"]);
        let name = self.name(NameRole::Program);
        // CREATE FUNCTION … SONAME loads a library of the server.
        if object == "FUNCTION" && (self.is("RETURNS") && self.is_soname()) {
            return Some(Kind::NodeLocal);
        }
        if object == "VIEW" && drop {
            let mut names: Vec<NameRef> = name.into_iter().collect();
            while self.mark(",") {
                names.extend(self.name(NameRole::Program));
            }
            return Some(Kind::DropView(names));
        }
        if object == "TRIGGER" && !drop {
            // BEFORE INSERT ON t FOR EACH ROW
            while !self.at_end() && !self.eat("ON") {
                self.at += 1;
            }
            self.name(NameRole::Source);
        }
        if !drop {
            self.body();
        }
        match (object.as_str(), name) {
            ("VIEW", Some(name)) => Some(Kind::View(name, replace || verb == "ALTER")),
            ("VIEW", None) => None,
            (_, name) => Some(Kind::Program {
                verb: verb.to_owned(),
                object,
                name,
            }),
        }
    }

    fn is_soname(&self) -> bool {
        (0..4).any(|n| self.word(n) == "SONAME")
    }

    fn alter(&mut self) -> Option<Kind> {
        self.modifiers();
        if self.eat("TABLE") {
            return self.alter_table().map(Kind::AlterTable);
        }
        if self.eat_any(&["DATABASE", "SCHEMA"]) {
            let options = [
                "CHARACTER",
                "CHARSET",
                "COLLATE",
                "DEFAULT",
                "ENCRYPTION",
                "READ",
            ];
            let named = !options.iter().any(|w| self.is(w));
            let name = if named {
                self.database_name()?
            } else {
                String::new()
            };
            return Some(Kind::AlterDatabase(name, self.database_options()));
        }
        self.view_or_program("ALTER", false)
            .or_else(|| self.account_or_local())
    }

    fn drop(&mut self) -> Option<Kind> {
        let (temporary, ..) = self.modifiers();
        if self.eat_any(&["TABLE", "TABLES"]) {
            let if_exists = self.eat("IF EXISTS");
            let mut names = Vec::new();
            while let Some(name) = self.name(NameRole::Target) {
                names.push(name);
                if !self.mark(",") {
                    break;
                }
            }
            if temporary {
                return Some(Kind::NodeLocal);
            }
            return (!names.is_empty()).then_some(Kind::DropTable { names, if_exists });
        }
        if self.eat("INDEX") {
            let index = self.ident()?;
            if !self.eat("ON") {
                return None;
            }
            let name = self.name(NameRole::Target)?;
            let action = if index.eq_ignore_ascii_case("PRIMARY") {
                AlterAction::DropPrimaryKey
            } else {
                AlterAction::DropKey(index)
            };
            return Some(self.index_statement(name, action));
        }
        if self.eat_any(&["DATABASE", "SCHEMA"]) {
            self.eat("IF EXISTS");
            return self.database_name().map(Kind::DropDatabase);
        }
        if self.is("PREPARE") {
            return Some(Kind::NodeLocal);
        }
        self.view_or_program("DROP", false)
            .or_else(|| self.account_or_local())
    }

    fn rename(&mut self) -> Option<Kind> {
        if self.eat("USER") {
            return Some(Kind::Account);
        }
        if !self.eat_any(&["TABLE", "TABLES"]) {
            return None;
        }
        let mut pairs = Vec::new();
        loop {
            let from = self.name(NameRole::Target)?;
            if !self.eat("TO") {
                return None;
            }
            let to = self.name(NameRole::NewName)?;
            pairs.push((from, to));
            if !self.mark(",") {
                return Some(Kind::RenameTable(pairs));
            }
        }
    }
}
