//! Rows for the tables of the catalog.
//!
//! In: a table's name, the server's view. Out: rows in the order of its columns; tables that are always empty here have
//! none.

use std::sync::Arc;

use rusqlite::types::Value;

use super::constraints;
use super::tables::{self, TableDef, data_lines};
use super::view::View;
use crate::catalog::{ColumnInfo, DatabaseInfo, IndexInfo, TableInfo};
use crate::core::query::eval::Env;
use crate::core::query::show;
use crate::core::query::vars::{self, Scope};

pub(super) type Row = Vec<Value>;

pub(super) const DEF: &str = "def";

pub(super) fn text(t: impl Into<String>) -> Value {
    Value::Text(t.into())
}

pub(super) fn int(n: u64) -> Value {
    Value::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

pub(super) fn maybe<T>(value: Option<T>, f: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::Null, f)
}

pub(super) fn yes(truth: bool) -> Value {
    text(if truth { "YES" } else { "NO" })
}

/// The rows of a table.
pub(super) fn rows(env: Env<'_>, table: &TableDef) -> Vec<Row> {
    match table.name {
        "SCHEMATA" => databases(env).into_iter().map(schema).collect(),
        "TABLES" => {
            let mut rows = per_table(env, |db, t, out| out.push(table_row(db, t)));
            rows.extend(tables::all().iter().map(own_table_row));
            rows
        }
        "COLUMNS" => per_table(env, columns),
        "STATISTICS" => per_table(env, statistics),
        "PARTITIONS" => per_table(env, partitions),
        "KEY_COLUMN_USAGE" => per_table(env, constraints::key_columns),
        "TABLE_CONSTRAINTS" => per_table(env, constraints::all),
        "CHECK_CONSTRAINTS" => per_table(env, constraints::checks),
        "REFERENTIAL_CONSTRAINTS" => constraints::references(env),
        "ST_GEOMETRY_COLUMNS" => per_table(env, geometries),
        "KEYWORDS" => keywords(),
        "VIEWS" => per_table(env, views),
        "CHARACTER_SETS" => charsets(),
        "COLLATIONS" => collations(),
        "COLLATION_CHARACTER_SET_APPLICABILITY" => vars::charsets()
            .iter()
            .map(|c| vec![text(c.collation), text(c.name)])
            .collect(),
        "ENGINES" => engines(),
        "PLUGINS" => plugins(env).into_iter().map(plugin).collect(),
        "log_status" => log_status(env),
        "PROCESSLIST" | "processlist" => processes(env, table.columns.len()),
        "USER_PRIVILEGES" => privileges(env),
        "global_variables" => variables(env, true),
        "session_variables" => variables(env, false),
        "global_status" | "session_status" => show::status_rows(env)
            .into_iter()
            .map(|(name, value)| vec![text(name), text(value)])
            .collect(),
        _ => Vec::new(),
    }
}

/// The served databases and the server's own, as SHOW DATABASES lists them.
pub(in crate::core::query) fn databases(env: Env<'_>) -> Vec<DatabaseInfo> {
    let own = |name: &str, charset: &str, collation: &str| DatabaseInfo {
        name: name.to_owned(),
        charset: charset.to_owned(),
        collation: collation.to_owned(),
    };
    let mut all = env.server.catalog().databases();
    all.push(own("information_schema", "utf8mb3", "utf8mb3_general_ci"));
    all.push(own("performance_schema", "utf8mb4", "utf8mb4_0900_ai_ci"));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn schema(database: DatabaseInfo) -> Row {
    vec![
        text(DEF),
        text(database.name),
        text(database.charset),
        text(database.collation),
        Value::Null,
        text("NO"),
    ]
}

pub(super) fn per_table(env: Env<'_>, make: fn(&str, &Arc<TableInfo>, &mut Vec<Row>)) -> Vec<Row> {
    let catalog = env.server.catalog();
    let mut out = Vec::new();
    for database in catalog.databases() {
        for table in catalog.tables(&database.name) {
            make(&database.name, &table, &mut out);
        }
    }
    out
}

fn table_row(database: &str, table: &Arc<TableInfo>) -> Row {
    let mut row = vec![text(DEF), text(database), text(&table.name)];
    if table.view {
        row.push(text("VIEW"));
        row.extend((0..16).map(|_| Value::Null));
        row.push(text("VIEW"));
        return row;
    }
    row.extend([
        text("BASE TABLE"),
        text(&table.engine),
        int(10),
        text("Dynamic"),
    ]);
    // What the nodes would know: this server holds no rows.
    row.extend((0..6).map(|_| int(0)));
    row.push(maybe(table.auto_increment, int));
    row.extend((0..3).map(|_| Value::Null));
    row.extend([
        text(&table.collation),
        Value::Null,
        text(if table.partitioned { "partitioned" } else { "" }),
        text(&table.comment),
    ]);
    row
}

/// The same of a table of the server's own databases.
fn own_table_row(table: &TableDef) -> Row {
    let of_engine = |value: &'static str| maybe(table.engine().map(|_| value), text);
    let mut row = vec![text(DEF), text(table.schema), text(table.name)];
    row.extend([text(table.kind()), maybe(table.engine(), text), int(10)]);
    row.push(of_engine("Dynamic"));
    row.extend((0..6).map(|_| int(0)));
    row.extend((0..4).map(|_| Value::Null));
    row.extend([of_engine("utf8mb4_0900_ai_ci"), Value::Null]);
    row.extend([text(""), text("")]);
    row
}

/// `PRI`, `UNI`, `MUL` or nothing.
pub(in crate::core::query) fn key_of(table: &TableInfo, column: &ColumnInfo) -> &'static str {
    let first = |index: &&IndexInfo| {
        let part = index.parts.first().and_then(|p| p.column.as_ref());
        part == Some(&column.name)
    };
    let primary = table.indexes.iter().find(|i| i.name == "PRIMARY");
    let in_primary = primary.is_some_and(|i| {
        i.parts
            .iter()
            .any(|p| p.column.as_ref() == Some(&column.name))
    });
    if in_primary {
        return "PRI";
    }
    let mut leading = table.indexes.iter().filter(first).peekable();
    if leading.clone().any(|i| i.unique && i.parts.len() == 1) {
        "UNI"
    } else if leading.peek().is_some() {
        "MUL"
    } else {
        ""
    }
}

fn columns(database: &str, table: &Arc<TableInfo>, out: &mut Vec<Row>) {
    for (i, c) in table.columns.iter().enumerate() {
        out.push(vec![
            text(DEF),
            text(database),
            text(&table.name),
            text(&c.name),
            int(i as u64 + 1),
            maybe(c.default.clone(), text),
            yes(c.nullable),
            text(&c.data_type),
            maybe(c.char_length, int),
            maybe(c.octet_length, int),
            maybe(c.precision, int),
            maybe(c.scale, int),
            maybe(c.datetime_precision, int),
            maybe(c.charset.clone(), text),
            maybe(c.collation.clone(), text),
            text(&c.column_type),
            text(key_of(table, c)),
            text(&c.extra),
            text("select"),
            text(&c.comment),
            text(&c.generation),
            maybe(c.srid, |n| int(n.into())),
        ]);
    }
}

fn statistics(database: &str, table: &Arc<TableInfo>, out: &mut Vec<Row>) {
    for index in &table.indexes {
        for (i, part) in index.parts.iter().enumerate() {
            let column = table
                .columns
                .iter()
                .find(|c| Some(&c.name) == part.column.as_ref());
            out.push(vec![
                text(DEF),
                text(database),
                text(&table.name),
                int((!index.unique).into()),
                text(database),
                text(&index.name),
                int(i as u64 + 1),
                maybe(part.column.clone(), text),
                maybe(index.sorting(part), text),
                int(0),
                maybe(part.prefix, int),
                Value::Null,
                // An expression can always be NULL.
                text(if column.is_none_or(|c| c.nullable) {
                    "YES"
                } else {
                    ""
                }),
                text(&index.kind),
                text(""),
                text(&index.comment),
                yes(index.visible),
                maybe(part.expression.clone(), text),
            ]);
        }
    }
}

fn views(database: &str, table: &Arc<TableInfo>, out: &mut Vec<Row>) {
    if table.view {
        let view = View::of(&table.create_statement);
        let mut row = vec![text(DEF), text(database), text(&table.name)];
        row.extend([text(view.query), text(view.check_option), text("NO")]);
        row.extend([text(view.definer), text(view.security)]);
        row.extend([text("utf8mb4"), text("utf8mb4_0900_ai_ci")]);
        out.push(row);
    }
}

/// A table without partitions is one. Of the others only the statement tells.
fn partitions(database: &str, table: &Arc<TableInfo>, out: &mut Vec<Row>) {
    if !table.partitioned {
        let mut row = vec![text(DEF), text(database), text(&table.name)];
        row.extend((0..10).map(|_| Value::Null));
        row.extend((0..6).map(|_| int(0)));
        row.extend((0..4).map(|_| Value::Null));
        row.extend([text(""), text(""), Value::Null]);
        out.push(row);
    }
}

fn geometries(database: &str, table: &Arc<TableInfo>, out: &mut Vec<Row>) {
    const KINDS: [&str; 9] = [
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geomcollection",
        "geometrycollection",
    ];
    for column in table
        .columns
        .iter()
        .filter(|c| KINDS.contains(&c.data_type.as_str()))
    {
        let mut row = vec![
            text(DEF),
            text(database),
            text(&table.name),
            text(&column.name),
        ];
        row.extend([Value::Null, maybe(column.srid, |n| int(n.into()))]);
        row.push(text(&column.data_type));
        out.push(row);
    }
}

fn keywords() -> Vec<Row> {
    let words = data_lines(include_str!("keywords.txt")).flat_map(str::split_ascii_whitespace);
    let row = |word: &str| {
        let reserved = word.ends_with('!');
        vec![text(word.trim_end_matches('!')), int(reserved.into())]
    };
    words.map(row).collect()
}

/// Character sets with their default collations.
fn charsets() -> Vec<Row> {
    let mut rows = Vec::new();
    for charset in vars::charsets() {
        if charset.is_default() {
            rows.push(vec![
                text(charset.name),
                text(charset.collation),
                text(charset.description()),
                int(charset.bytes_per_char.into()),
            ]);
        }
    }
    rows
}

fn collations() -> Vec<Row> {
    let row = |c: &vars::Charset| {
        vec![
            text(c.collation),
            text(c.name),
            int(c.id.into()),
            text(if c.is_default() { "Yes" } else { "" }),
            text("Yes"),
            int(c.sort_length.into()),
            text(c.pad.name()),
        ]
    };
    vars::charsets().iter().map(row).collect()
}

fn engines() -> Vec<Row> {
    let comment = "Supports transactions, row-level locking, and foreign keys";
    vec![vec![
        text("InnoDB"),
        text("DEFAULT"),
        text(comment),
        text("YES"),
        text("YES"),
        text("YES"),
    ]]
}

/// What this server speaks, under the names of MySQL's plugins.
pub(in crate::core::query) fn plugins(env: Env<'_>) -> Vec<(&'static str, &'static str)> {
    let mut names = vec![
        ("binlog", "STORAGE ENGINE"),
        ("caching_sha2_password", "AUTHENTICATION"),
        ("InnoDB", "STORAGE ENGINE"),
        ("mysql_native_password", "AUTHENTICATION"),
    ];
    if env.server.semi_sync() {
        names.push(("rpl_semi_sync_source", "REPLICATION"));
    }
    names
}

fn plugin((name, kind): (&str, &str)) -> Row {
    let mut row = vec![
        text(name),
        text("1.0"),
        text("ACTIVE"),
        text(kind),
        text("1.0"),
    ];
    row.extend([
        Value::Null,
        Value::Null,
        text(""),
        text(""),
        text("GPL"),
        text("FORCE"),
    ]);
    row
}

/// Where the log ends, for backup programs; MySQL wants BACKUP_ADMIN for it.
fn log_status(env: Env<'_>) -> Vec<Row> {
    let Some(last) = env.server.files().pop() else {
        return Vec::new();
    };
    if !env.session.privileges.admin {
        return Vec::new();
    }
    let executed = env.server.gtid_executed().to_string().replace('\n', "\\n");
    let local = format!(
        "{{\"gtid_executed\": \"{executed}\", \"binary_log_file\": \"{}\", \"binary_log_position\": {}}}",
        last.name, last.size
    );
    vec![vec![
        text(env.server.server_uuid()),
        text(local),
        text("{\"channels\": []}"),
        text("{}"),
    ]]
}

fn processes(env: Env<'_>, width: usize) -> Vec<Row> {
    let row = |cells: Vec<crate::wire::resultset::Cell>| {
        let mut row: Row = cells.into_iter().map(|c| maybe(c, text)).collect();
        row.resize(width, Value::Null);
        row
    };
    show::process_rows(env).into_iter().map(row).collect()
}

fn privileges(env: Env<'_>) -> Vec<Row> {
    let grantee = format!("'{}'@'%'", env.session.user);
    let row = |name: &str| vec![text(&grantee), text(DEF), text(name), text("NO")];
    show::privilege_names(env).into_iter().map(row).collect()
}

fn variables(env: Env<'_>, global: bool) -> Vec<Row> {
    vars::all(env.server)
        .filter(|v| !(global && v.scope == Scope::Session))
        .map(|v| vec![text(v.name), text(v.shown(global, env.vars()))])
        .collect()
}
