//! SHOW statements about databases, tables, columns and indexes, and DESCRIBE.
//!
//! In: tokens, the catalog. Out: rows, or MySQL's error for what does not exist. Columns are MySQL 9.7's.

use std::sync::Arc;

use sqlparser::tokenizer::Token;

use super::{Filter, indexes};
use crate::catalog::TableInfo;
use crate::core::query::eval::Env;
use crate::core::query::metadata;
use crate::core::query::tokens::Tokens;
use crate::core::query::vars;
use crate::wire::errors::{self, SqlError};
use crate::wire::resultset::{Cell, Column, ResultSet, flags, types};

pub(super) fn show(env: Env<'_>, t: &mut Tokens<'_>) -> Result<Option<ResultSet>, SqlError> {
    if t.eat("DATABASES") || t.eat("SCHEMAS") {
        return databases(env, t).map(Some);
    }
    if t.eat_all(&["TABLE", "STATUS"]) {
        return table_status(env, t).map(Some);
    }
    if t.eat_all(&["CREATE", "DATABASE"]) || t.eat_all(&["CREATE", "SCHEMA"]) {
        return create_database(env, t).map(Some);
    }
    if t.eat_all(&["CREATE", "TABLE"]) {
        return create_table(env, t, false).map(Some);
    }
    if t.eat_all(&["CREATE", "VIEW"]) {
        return create_table(env, t, true).map(Some);
    }
    if t.eat("INDEX") || t.eat("INDEXES") || t.eat("KEYS") {
        return indexes::indexes(env, t).map(Some);
    }
    if t.eat("COLLATION") {
        return collations(env, t).map(Some);
    }
    if t.eat_all(&["CHARACTER", "SET"]) || t.eat("CHARSET") {
        return charsets(env, t).map(Some);
    }
    if t.eat_all(&["STORAGE", "ENGINES"]) || t.eat("ENGINES") {
        t.expect_end()?;
        return Ok(Some(engines()));
    }
    if t.peek_word_at(1).as_deref() == Some("TRIGGERS") {
        return Ok(None);
    }
    let _ = t.eat("EXTENDED");
    let full = t.eat("FULL");
    if t.eat("TABLES") {
        return tables(env, full, t).map(Some);
    }
    if t.eat("COLUMNS") || t.eat("FIELDS") {
        let _ = t.eat("FROM") || t.eat("IN");
        return columns(env, full, t).map(Some);
    }
    if full {
        return Err(t.syntax_error());
    }
    Ok(None)
}

/// DESCRIBE of a table; `t` stands behind the verb.
pub(in crate::core::query) fn describe(
    env: Env<'_>,
    t: &mut Tokens<'_>,
) -> Result<ResultSet, SqlError> {
    let (database, table) = table_name(env, t)?;
    let one = match t.at_end() {
        true => Filter::All,
        // A column, or a pattern.
        false => Filter::Like(t.name_or_string().ok_or_else(|| t.syntax_error())?),
    };
    t.expect_end()?;
    columns_of(env, false, &database, &table, &one)
}

pub(super) fn some(text: impl Into<String>) -> Cell {
    Some(text.into())
}

pub(super) fn texts(names: &[&'static str]) -> Vec<Column> {
    names.iter().map(|n| Column::text(*n, 64)).collect()
}

fn databases(env: Env<'_>, t: &mut Tokens<'_>) -> Result<ResultSet, SqlError> {
    let filter = Filter::parse(t)?;
    let heading = match &filter {
        Filter::Like(pattern) => format!("Database ({pattern})"),
        _ => "Database".to_owned(),
    };
    let mut column = Column::text(heading, 64)
        .not_null()
        .of_table("", "schemata");
    column.table = "SCHEMATA";
    column.flags |= flags::BINARY;
    let mut set = ResultSet::new(vec![column]);
    for database in metadata::databases(env) {
        set.push(vec![Some(database.name)]);
    }
    filter.apply(env, set)
}

/// `FROM`/`IN` database, else the default one.
fn database(env: Env<'_>, t: &mut Tokens<'_>) -> Result<String, SqlError> {
    if t.eat("FROM") || t.eat("IN") {
        return t.name_or_string().ok_or_else(|| t.syntax_error());
    }
    let default = env.session.database.clone();
    default.ok_or_else(errors::no_database_selected)
}

/// Reads the database a list is about, and refuses one that is not here.
pub(super) fn known_database(env: Env<'_>, t: &mut Tokens<'_>) -> Result<(), SqlError> {
    let database = database(env, t)?;
    metadata::known(env, &database)
}

fn tables(env: Env<'_>, full: bool, t: &mut Tokens<'_>) -> Result<ResultSet, SqlError> {
    let database = database(env, t)?;
    let filter = Filter::parse(t)?;
    metadata::known(env, &database)?;
    let mut heading = format!("Tables_in_{database}");
    if let Filter::Like(pattern) = &filter {
        heading.push_str(&format!(" ({pattern})"));
    }
    let mut name = Column::text(heading, 64).not_null().of_table("", "tables");
    name.table = "TABLES";
    name.flags |= flags::BINARY;
    let mut columns = vec![name];
    if full {
        let mut kind = Column::text("Table_type", 11)
            .not_null()
            .of_table("", "tables");
        kind.table = "TABLES";
        kind.ty = types::STRING;
        kind.flags |= flags::BINARY | flags::ENUM;
        columns.push(kind);
    }
    let mut set = ResultSet::new(columns);
    let own = metadata::own_tables(&database);
    let own = own.map(|(name, kind)| (name.to_owned(), kind));
    let served = env.server.catalog().tables(&database).into_iter();
    let served = served.map(|t| {
        let kind = if t.view { "VIEW" } else { "BASE TABLE" };
        (t.name.clone(), kind)
    });
    for (name, kind) in own.chain(served) {
        let mut row = vec![some(name)];
        row.extend(full.then(|| some(kind)));
        set.push(row);
    }
    filter.apply(env, set)
}

fn table_status(env: Env<'_>, t: &mut Tokens<'_>) -> Result<ResultSet, SqlError> {
    let database = database(env, t)?;
    let filter = Filter::parse(t)?;
    metadata::known(env, &database)?;
    let mut set = ResultSet::new(texts(&[
        "Name",
        "Engine",
        "Version",
        "Row_format",
        "Rows",
        "Avg_row_length",
        "Data_length",
        "Max_data_length",
        "Index_length",
        "Data_free",
        "Auto_increment",
        "Create_time",
        "Update_time",
        "Check_time",
        "Collation",
        "Checksum",
        "Create_options",
        "Comment",
    ]));
    for table in env.server.catalog().tables(&database) {
        let mut row = vec![some(&table.name)];
        if table.view {
            row.extend(vec![None; 16]);
            row.push(some("VIEW"));
        } else {
            row.extend([some(&table.engine), some("10"), some("Dynamic")]);
            row.extend(vec![some("0"); 6]);
            row.push(table.auto_increment.map(|n| n.to_string()));
            row.extend([
                None,
                None,
                None,
                some(&table.collation),
                None,
                some(""),
                some(&table.comment),
            ]);
        }
        set.push(row);
    }
    filter.apply(env, set)
}

/// Reads `t`, `d.t`, `t FROM d`: names as typed.
pub(super) fn table_name(env: Env<'_>, t: &mut Tokens<'_>) -> Result<(String, String), SqlError> {
    let mut table = t.name_or_string().ok_or_else(|| t.syntax_error())?;
    let mut database = env.session.database.clone();
    if t.eat_token(&Token::Period) {
        database = Some(table);
        table = t.name_or_string().ok_or_else(|| t.syntax_error())?;
    }
    if t.eat("FROM") || t.eat("IN") {
        database = t.name_or_string();
    }
    let database = database.ok_or_else(errors::no_database_selected)?;
    Ok((database, table))
}

pub(super) fn find(env: Env<'_>, database: &str, table: &str) -> Result<Arc<TableInfo>, SqlError> {
    metadata::known(env, database)?;
    let found = env.server.catalog().table(database, table);
    found.ok_or_else(|| errors::unknown_table(database, table))
}

fn create_table(env: Env<'_>, t: &mut Tokens<'_>, view: bool) -> Result<ResultSet, SqlError> {
    let (database, table) = table_name(env, t)?;
    t.expect_end()?;
    let found = find(env, &database, &table)?;
    if view && !found.view {
        return Err(errors::not_a_view(&database, &table));
    }
    let mut columns = match found.view {
        true => vec![Column::text("View", 64), Column::text("Create View", 1024)],
        false => vec![
            Column::text("Table", 64),
            Column::text("Create Table", 1024),
        ],
    };
    let mut row = vec![some(&found.name), some(&found.create_statement)];
    if found.view {
        let charset = ["character_set_client", "collation_connection"];
        columns.extend(charset.map(|name| Column::text(name, 64)));
        row.extend([some("utf8mb4"), some("utf8mb4_0900_ai_ci")]);
    }
    let columns = columns.into_iter().map(Column::not_null);
    let mut set = ResultSet::new(columns.collect());
    set.push(row);
    Ok(set)
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn create_database(env: Env<'_>, t: &mut Tokens<'_>) -> Result<ResultSet, SqlError> {
    let unless = if t.eat_all(&["IF", "NOT", "EXISTS"]) {
        "/*!32312 IF NOT EXISTS*/ "
    } else {
        ""
    };
    let name = t.name_or_string().ok_or_else(|| t.syntax_error())?;
    t.expect_end()?;
    let found = metadata::databases(env)
        .into_iter()
        .find(|d| d.name == name);
    let missing = || match metadata::is_closed(&name) {
        true => errors::database_denied(&env.session.user, &name),
        false => errors::unknown_database(&name),
    };
    let found = found.ok_or_else(missing)?;
    let mut set = ResultSet::new(vec![
        Column::text("Database", 64).not_null(),
        Column::text("Create Database", 1024).not_null(),
    ]);
    // MySQL shows the default collation of utf8mb4 alone.
    let default = vars::charset_by_name(&found.charset);
    let collation = match default.is_some_and(|c| c.collation == found.collation) {
        true if found.charset != "utf8mb4" => String::new(),
        _ => format!(" COLLATE {}", found.collation),
    };
    let statement = format!(
        "CREATE DATABASE {unless}{} /*!40100 DEFAULT CHARACTER SET {}{collation} */ /*!80016 DEFAULT ENCRYPTION='N' */",
        quoted(&found.name),
        found.charset
    );
    set.push(vec![some(found.name), some(statement)]);
    Ok(set)
}

fn columns(env: Env<'_>, full: bool, t: &mut Tokens<'_>) -> Result<ResultSet, SqlError> {
    let (database, table) = table_name(env, t)?;
    let filter = Filter::parse(t)?;
    columns_of(env, full, &database, &table, &filter)
}

fn columns_of(
    env: Env<'_>,
    full: bool,
    database: &str,
    table: &str,
    filter: &Filter,
) -> Result<ResultSet, SqlError> {
    let mut set = ResultSet::new(texts(if full {
        &[
            "Field",
            "Type",
            "Collation",
            "Null",
            "Key",
            "Default",
            "Extra",
            "Privileges",
            "Comment",
        ]
    } else {
        &["Field", "Type", "Null", "Key", "Default", "Extra"]
    }));
    if let Some(own) = metadata::own_columns(database, table) {
        for column in own {
            let ty = if column.is_text {
                "varchar(256)"
            } else {
                "bigint unsigned"
            };
            let mut row = vec![some(column.name), some(ty)];
            row.extend(full.then_some(None));
            row.extend([some("YES"), some(""), None, some("")]);
            row.extend(
                full.then(|| [some("select"), some("")])
                    .into_iter()
                    .flatten(),
            );
            set.push(row);
        }
        return filter.apply(env, set);
    }
    let found = find(env, database, table)?;
    for c in &found.columns {
        let mut row = vec![some(&c.name), some(&c.column_type)];
        row.extend(full.then(|| c.collation.clone()));
        row.push(some(if c.nullable { "YES" } else { "NO" }));
        row.push(some(metadata::key_of(&found, c)));
        row.extend([c.default.clone(), some(&c.extra)]);
        row.extend(
            full.then(|| [some("select"), some(&c.comment)])
                .into_iter()
                .flatten(),
        );
        set.push(row);
    }
    filter.apply(env, set)
}

fn collations(env: Env<'_>, t: &mut Tokens<'_>) -> Result<ResultSet, SqlError> {
    let filter = Filter::parse(t)?;
    let mut set = ResultSet::new(texts(&[
        "Collation",
        "Charset",
        "Id",
        "Default",
        "Compiled",
        "Sortlen",
        "Pad_attribute",
    ]));
    for c in vars::charsets() {
        set.push(vec![
            some(c.collation),
            some(c.name),
            some(c.id.to_string()),
            some(if c.is_default() { "Yes" } else { "" }),
            some("Yes"),
            some(c.sort_length.to_string()),
            some(c.pad.name()),
        ]);
    }
    filter.apply(env, set)
}

fn charsets(env: Env<'_>, t: &mut Tokens<'_>) -> Result<ResultSet, SqlError> {
    let filter = Filter::parse(t)?;
    let mut set = ResultSet::new(texts(&[
        "Charset",
        "Description",
        "Default collation",
        "Maxlen",
    ]));
    for c in vars::charsets() {
        if c.is_default() {
            let width = c.bytes_per_char.to_string();
            set.push(vec![
                some(c.name),
                some(c.description()),
                some(c.collation),
                some(width),
            ]);
        }
    }
    filter.apply(env, set)
}

fn engines() -> ResultSet {
    let mut set = ResultSet::new(texts(&[
        "Engine",
        "Support",
        "Comment",
        "Transactions",
        "XA",
        "Savepoints",
    ]));
    let comment = "Supports transactions, row-level locking, and foreign keys";
    let row = ["InnoDB", "DEFAULT", comment, "YES", "YES", "YES"];
    set.push(row.map(some).to_vec());
    set
}
