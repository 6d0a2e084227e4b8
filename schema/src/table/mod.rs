//! Tables: columns with everything their values depend on, keys, options.
//!
//! In: `CREATE TABLE` texts (from the stream or from `SHOW CREATE TABLE`) and changes to them. Out: the table behind the
//! change, and its `SHOW CREATE TABLE` text as MySQL writes it.

mod alter;
mod done;
mod show;
mod types;

pub use alter::{AlterError, Position};
pub use types::{BlobSize, DataType, GeometryKind};

use serde::{Deserialize, Serialize};

use crate::charset::Collation;

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name, without the schema.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Its keys, in the order in which they were made.
    pub keys: Vec<Key>,
    /// Its foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
    /// Its check constraints.
    pub checks: Vec<Check>,
    /// Default collation of new columns.
    pub collation: Collation,
    /// Storage engine as `SHOW CREATE TABLE` has it.
    pub engine: String,
    /// `COMMENT`.
    pub comment: String,
    /// Further options in the order of `SHOW CREATE TABLE`: name in upper case, value as text. No `AUTO_INCREMENT`: it is
    /// not part of the schema.
    pub options: Vec<(String, String)>,
    /// The partitioning clause, from `PARTITION BY`, as the server or the statement has it.
    pub partitioning: Option<String>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// The collation of character types; [`Collation::BINARY`] for others.
    pub collation: Collation,
    /// Whether character set or collation were given for this column.
    pub explicit_collation: bool,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// What an `INSERT` that does not name it gets.
    pub default: Option<DefaultValue>,
    /// `ON UPDATE CURRENT_TIMESTAMP`.
    pub on_update_now: bool,
    /// `AUTO_INCREMENT`.
    pub auto_increment: bool,
    /// The expression of a generated column, and whether it is stored.
    pub generated: Option<Generated>,
    /// `INVISIBLE`.
    pub invisible: bool,
    /// Spatial reference system of a geometry.
    pub srid: Option<u32>,
    /// `COMMENT`.
    pub comment: String,
}

impl Column {
    /// Gives it another default, which is kept as the server shows it.
    pub(crate) fn set_default(&mut self, default: Option<DefaultValue>) {
        self.default = default;
        crate::ddl::normalise_default(self);
    }
}

/// A default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DefaultValue {
    /// `NULL`.
    Null,
    /// A literal; numbers and times as text.
    Text(String),
    /// A literal of bits, as the digits of `b'…'`.
    Bits(String),
    /// Bytes that are no text (defaults of binary columns).
    Bytes(Vec<u8>),
    /// `CURRENT_TIMESTAMP`.
    Now,
    /// An expression, without its outer parentheses.
    Expression(String),
}

/// What makes a column generated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// The expression, without its outer parentheses.
    pub expression: String,
    /// `STORED` rather than `VIRTUAL`.
    pub stored: bool,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyKind {
    /// `PRIMARY KEY`.
    Primary,
    /// `UNIQUE KEY`.
    Unique,
    /// `KEY`.
    Plain,
    /// `FULLTEXT KEY`.
    Fulltext,
    /// `SPATIAL KEY`.
    Spatial,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// What it is for.
    pub kind: KeyKind,
    /// Its name; `PRIMARY` for a primary key.
    pub name: String,
    /// What it is made of, in order.
    pub parts: Vec<KeyPart>,
    /// What follows the columns in `SHOW CREATE TABLE`: `USING`, `KEY_BLOCK_SIZE`, `WITH PARSER`, in this order.
    pub using: Option<String>,
    /// `KEY_BLOCK_SIZE`.
    pub block_size: Option<u32>,
    /// `WITH PARSER`.
    pub parser: Option<String>,
    /// `COMMENT`.
    pub comment: String,
    /// `INVISIBLE`.
    pub invisible: bool,
    /// Made by the server for a foreign key: it goes when another key can serve.
    pub implicit: bool,
}

impl Key {
    /// A key without parts and options.
    pub(crate) fn new(kind: KeyKind, name: String) -> Self {
        Self {
            kind,
            name,
            parts: Vec::new(),
            using: None,
            block_size: None,
            parser: None,
            comment: String::new(),
            invisible: false,
            implicit: false,
        }
    }

    /// A key of one column, as its definition makes it.
    pub(crate) fn of_column(kind: KeyKind, name: String, column: &str) -> Self {
        let mut key = Self::new(kind, name);
        key.parts.push(KeyPart {
            what: KeyPartOf::Column(column.to_owned()),
            prefix: None,
            descending: false,
        });
        key
    }
}

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPart {
    /// A column, or an expression.
    pub what: KeyPartOf,
    /// Length of the prefix, in characters or bytes; all of it when `None`.
    pub prefix: Option<u32>,
    /// `DESC`.
    pub descending: bool,
}

/// What a part of a key is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyPartOf {
    /// A column, by name.
    Column(String),
    /// An expression, without its outer parentheses.
    Expression(String),
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Its name; empty when the server makes one.
    pub name: String,
    /// Columns of this table.
    pub columns: Vec<String>,
    /// Schema of the other table, when it is named.
    pub schema: Option<String>,
    /// The other table.
    pub table: String,
    /// Columns of the other table.
    pub referenced: Vec<String>,
    /// `ON DELETE …` without the words `ON DELETE`, in upper case.
    pub on_delete: Option<String>,
    /// `ON UPDATE …`, likewise.
    pub on_update: Option<String>,
}

/// A check constraint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name; empty when the server makes one.
    pub name: String,
    /// The expression, without its outer parentheses.
    pub expression: String,
    /// Whether it is enforced.
    pub enforced: bool,
}

impl Table {
    /// A table without columns, with the options that a server without configuration gives it.
    #[must_use]
    pub fn empty(name: &str, collation: Collation) -> Self {
        Self {
            name: name.to_owned(),
            columns: Vec::new(),
            keys: Vec::new(),
            foreign_keys: Vec::new(),
            checks: Vec::new(),
            collation,
            engine: "InnoDB".to_owned(),
            comment: String::new(),
            options: Vec::new(),
            partitioning: None,
        }
    }

    /// The place of the column called `name` (in any case, as MySQL compares names of columns).
    #[must_use]
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| same_name(&c.name, name))
    }

    /// The column called `name`.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.get(self.column_index(name)?)
    }

    /// Gives the table a primary key of these columns (places, and lengths of prefixes or 0), if there are any.
    pub fn set_primary_key(&mut self, columns: &[(u32, u32)]) {
        self.keys.retain(|k| k.kind != KeyKind::Primary);
        let mut key = Key::new(KeyKind::Primary, "PRIMARY".to_owned());
        for (at, prefix) in columns {
            let column = self.columns.get(*at as usize);
            key.parts.extend(column.map(|c| KeyPart {
                what: KeyPartOf::Column(c.name.clone()),
                prefix: (*prefix > 0).then_some(*prefix),
                descending: false,
            }));
        }
        if !key.parts.is_empty() {
            self.keys.insert(0, key);
        }
    }

    /// The primary key.
    #[must_use]
    pub fn primary_key(&self) -> Option<&Key> {
        self.keys.iter().find(|k| k.kind == KeyKind::Primary)
    }
}

/// Whether two names of columns, keys or constraints are the same.
pub(crate) fn same_name(a: &str, b: &str) -> bool {
    a == b || (a.eq_ignore_ascii_case(b) || a.to_lowercase() == b.to_lowercase())
}

impl Column {
    /// A nullable column of this type without anything else.
    #[must_use]
    pub fn new(name: &str, data_type: DataType, collation: Collation) -> Self {
        let collation = if data_type.has_charset() {
            collation
        } else {
            Collation::BINARY
        };
        Self {
            name: name.to_owned(),
            data_type,
            collation,
            explicit_collation: false,
            nullable: true,
            default: None,
            on_update_now: false,
            auto_increment: false,
            generated: None,
            invisible: false,
            srid: None,
            comment: String::new(),
        }
    }
}
