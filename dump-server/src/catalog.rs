//! What the served databases look like now: the logical schema, for SHOW statements and `information_schema`.
//!
//! In: nothing; the service implements [`Catalog`] over the schema history. Out: databases and tables as plain data. Names
//! are compared as given: like MySQL with `lower_case_table_names = 0`.

use std::sync::Arc;

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// Name.
    pub name: String,
    /// Default character set.
    pub charset: String,
    /// Default collation.
    pub collation: String,
}

/// A table or view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableInfo {
    /// Name.
    pub name: String,
    /// True for a view.
    pub view: bool,
    /// Storage engine, `InnoDB` as a rule; empty for views.
    pub engine: String,
    /// Default collation.
    pub collation: String,
    /// Comment.
    pub comment: String,
    /// Next value of AUTO_INCREMENT, if the table has such a column and the value is known.
    pub auto_increment: Option<u64>,
    /// Columns, in order.
    pub columns: Vec<ColumnInfo>,
    /// Indexes, the primary key (named `PRIMARY`) first.
    pub indexes: Vec<IndexInfo>,
    /// Foreign keys.
    pub foreign_keys: Vec<ForeignKeyInfo>,
    /// Checks.
    pub checks: Vec<CheckInfo>,
    /// Whether it has partitions.
    pub partitioned: bool,
    /// CREATE TABLE (or VIEW) statement as SHOW CREATE TABLE gives it.
    pub create_statement: String,
}

/// A column. The fields are those of `information_schema.columns`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Name.
    pub name: String,
    /// Default, as text; `None` = NULL or none.
    pub default: Option<String>,
    /// True when it can be NULL.
    pub nullable: bool,
    /// Name of the type: `varchar`.
    pub data_type: String,
    /// The whole type: `varchar(20)`, `int unsigned`.
    pub column_type: String,
    /// Characters of a string type.
    pub char_length: Option<u64>,
    /// Bytes of a string type.
    pub octet_length: Option<u64>,
    /// Digits of a numeric type.
    pub precision: Option<u64>,
    /// Digits behind the point.
    pub scale: Option<u64>,
    /// Digits of fractions of seconds.
    pub datetime_precision: Option<u64>,
    /// Character set of a string type.
    pub charset: Option<String>,
    /// Collation of a string type.
    pub collation: Option<String>,
    /// `auto_increment`, `DEFAULT_GENERATED`, `STORED GENERATED`, …
    pub extra: String,
    /// Comment.
    pub comment: String,
    /// Spatial reference system of a geometry.
    pub srid: Option<u32>,
    /// Expression of a generated column.
    pub generation: String,
}

/// An index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexInfo {
    /// Name; `PRIMARY` for the primary key.
    pub name: String,
    /// True when values are unique.
    pub unique: bool,
    /// `BTREE`, `FULLTEXT`, `SPATIAL`, `HASH`.
    pub kind: String,
    /// Parts, in order.
    pub parts: Vec<IndexPart>,
    /// Comment.
    pub comment: String,
    /// False for an invisible index.
    pub visible: bool,
}

impl IndexInfo {
    /// `A` and `D` for parts that are sorted up or down; a full-text index sorts nothing.
    #[must_use]
    pub fn sorting(&self, part: &IndexPart) -> Option<&'static str> {
        match (self.kind.as_str(), part.descending) {
            ("FULLTEXT", _) => None,
            (_, true) => Some("D"),
            (_, false) => Some("A"),
        }
    }
}

/// A part of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexPart {
    /// Column; `None` for an expression.
    pub column: Option<String>,
    /// Expression of a functional part.
    pub expression: Option<String>,
    /// Characters of the column that are indexed, when not all are.
    pub prefix: Option<u64>,
    /// True for DESC.
    pub descending: bool,
}

/// A foreign key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignKeyInfo {
    /// Name of the constraint.
    pub name: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// Database of the table referred to.
    pub referenced_database: String,
    /// Table referred to.
    pub referenced_table: String,
    /// Columns referred to.
    pub referenced_columns: Vec<String>,
    /// `NO ACTION`, `CASCADE`, …
    pub on_update: String,
    /// `NO ACTION`, `CASCADE`, …
    pub on_delete: String,
}

/// A check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckInfo {
    /// Name of the constraint.
    pub name: String,
    /// What rows must obey.
    pub expression: String,
    /// False for `NOT ENFORCED`.
    pub enforced: bool,
}

/// The logical schema as it is now. Called on blocking threads; each call may see a newer schema.
pub trait Catalog: Send + Sync + 'static {
    /// The served databases, without `information_schema` and `performance_schema`.
    fn databases(&self) -> Vec<DatabaseInfo>;

    /// The tables of a database; empty when there is no such database.
    fn tables(&self, database: &str) -> Vec<Arc<TableInfo>>;

    /// One table.
    fn table(&self, database: &str, table: &str) -> Option<Arc<TableInfo>> {
        let tables = self.tables(database);
        tables.into_iter().find(|t| t.name == table)
    }
}

/// A schema without databases: what a server shows that knows none.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyCatalog;

impl Catalog for EmptyCatalog {
    fn databases(&self) -> Vec<DatabaseInfo> {
        Vec::new()
    }

    fn tables(&self, _database: &str) -> Vec<Arc<TableInfo>> {
        Vec::new()
    }
}
