//! The embedded SQL engine: SQLite in memory, with the catalog's tables in it.
//!
//! In: a query in SQLite's dialect, and rows for the tables it names. Out: rows as text, or MySQL's error. Steps and bytes
//! are limited: a client cannot keep a thread or fill the memory with a join.

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::limits::Limit;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, ErrorCode, params_from_iter};

use super::tables::{self, TableDef};
use crate::core::query::like::like;
use crate::wire::errors::{self, SqlError};
use crate::wire::resultset::Cell;

/// Steps of SQLite's machine between two looks at the budget.
const STEPS_PER_CHECK: i32 = 100_000;

/// Looks a query gets: together some seconds of one core.
const CHECKS_MAX: u32 = 1000;

/// Most bytes of a result.
const RESULT_BYTES_MAX: usize = 64 << 20;

/// Longest value, in bytes.
const VALUE_BYTES_MAX: i32 = 16 << 20;

/// Names and rows of a result.
pub(super) struct Answer {
    pub(super) names: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// One query's database.
pub(super) struct Engine {
    connection: Connection,
}

impl Engine {
    /// A database with these tables, all empty.
    pub(super) fn new(named: &[&TableDef]) -> Result<Self, SqlError> {
        Self::open(named).map_err(|e| refusal(&e))
    }

    fn open(named: &[&TableDef]) -> Result<Self, Error> {
        let connection = Connection::open_in_memory()?;
        for schema in tables::SCHEMAS {
            connection.execute_batch(&format!("ATTACH ':memory:' AS {schema}"))?;
        }
        for table in named {
            connection.execute_batch(&table.ddl())?;
        }
        functions(&connection)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)?;
        connection.set_limit(Limit::SQLITE_LIMIT_EXPR_DEPTH, 400)?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 2)?;
        Ok(Self { connection })
    }

    /// Fills a table.
    pub(super) fn fill(&self, table: &TableDef, rows: Vec<Vec<Value>>) -> Result<(), SqlError> {
        let insert = || -> Result<(), Error> {
            let marks = vec!["?"; table.columns.len()].join(",");
            let sql = format!(
                "INSERT INTO {}.{} VALUES ({marks})",
                table.schema, table.name
            );
            let transaction = self.connection.unchecked_transaction()?;
            let mut statement = self.connection.prepare(&sql)?;
            for row in rows {
                statement.execute(params_from_iter(row))?;
            }
            drop(statement);
            transaction.commit()
        };
        insert().map_err(|e| refusal(&e))
    }

    /// Runs a query.
    pub(super) fn query(&mut self, sql: &str) -> Result<Answer, SqlError> {
        let answer = self.run(sql).map_err(|e| refusal(&e))?;
        answer.ok_or_else(|| {
            errors::other("the result of this query of the catalog is larger than 64 MiB")
        })
    }

    /// `None` when the result is too large.
    fn run(&mut self, sql: &str) -> Result<Option<Answer>, Error> {
        let mut checks = 0;
        let budget = move || {
            checks += 1;
            checks > CHECKS_MAX
        };
        self.connection
            .progress_handler(STEPS_PER_CHECK, Some(budget))?;
        let mut statement = self.connection.prepare(sql)?;
        let names = statement.column_names().map(str::to_owned).collect();
        let mut answer = Answer {
            names,
            rows: Vec::new(),
        };
        let mut bytes = 0;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let cells = (0..answer.names.len())
                .map(|i| Ok(cell(row.get_ref(i)?)))
                .collect::<Result<Vec<Cell>, Error>>()?;
            bytes += cells.iter().flatten().map(String::len).sum::<usize>() + 24 * cells.len();
            if bytes > RESULT_BYTES_MAX {
                return Ok(None);
            }
            answer.rows.push(cells);
        }
        Ok(Some(answer))
    }
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(n) => Some(n.to_string()),
        ValueRef::Real(n) => Some(n.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

/// MySQL's error for SQLite's.
fn refusal(error: &Error) -> SqlError {
    if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
        return errors::query_timeout();
    }
    let text = error.to_string();
    let named = |what: &str| {
        let at = text.find(what)? + what.len();
        let name = text.get(at..)?.split([' ', '\n']).next()?;
        Some(name.trim_matches('"').to_owned())
    };
    if let Some(table) = named("no such table: ") {
        return match table.split_once('.') {
            Some((schema, table)) if schema.eq_ignore_ascii_case("information_schema") => {
                errors::unknown_information_table(table)
            }
            Some((schema, table)) => errors::unknown_table(schema, table),
            None => errors::no_database_selected(),
        };
    }
    if let Some(column) = named("no such column: ") {
        return errors::unknown_column(&column);
    }
    if let Some(function) = named("no such function: ") {
        return errors::unknown_function("information_schema", &function);
    }
    errors::not_supported(&format!("this query of the catalog ({text})"))
}

/// Functions that SQLite lacks or has with another meaning.
fn functions(connection: &Connection) -> Result<(), Error> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    // SQLite calls like(pattern, text).
    for args in [2, 3] {
        connection.create_scalar_function("like", args, flags, |c| {
            Ok(text(c, 1)
                .zip(text(c, 0))
                .map(|(text, pattern)| like(&text, &pattern)))
        })?;
    }
    connection.create_scalar_function("concat", -1, flags, |c| {
        Ok((0..c.len()).map(|i| text(c, i)).collect::<Option<String>>())
    })?;
    connection.create_scalar_function("length", 1, flags, |c| {
        Ok(text(c, 0).map(|t| t.len() as i64))
    })?;
    for name in ["char_length", "character_length"] {
        connection.create_scalar_function(name, 1, flags, |c| {
            Ok(text(c, 0).map(|t| t.chars().count() as i64))
        })?;
    }
    for (name, lower) in [("lcase", true), ("ucase", false)] {
        connection.create_scalar_function(name, 1, flags, move |c| {
            Ok(text(c, 0).map(|t| {
                if lower {
                    t.to_lowercase()
                } else {
                    t.to_uppercase()
                }
            }))
        })?;
    }
    connection.create_scalar_function("left", 2, flags, |c| {
        let n = usize::try_from(c.get::<i64>(1)?).unwrap_or(0);
        Ok(text(c, 0).map(|t| t.chars().take(n).collect::<String>()))
    })?;
    connection.create_scalar_function("right", 2, flags, |c| {
        let n = usize::try_from(c.get::<i64>(1)?).unwrap_or(0);
        Ok(text(c, 0).map(|t| {
            let skipped = t.chars().count().saturating_sub(n);
            t.chars().skip(skipped).collect::<String>()
        }))
    })?;
    connection.create_scalar_function(
        "isnull",
        1,
        flags,
        |c| Ok(c.get_raw(0) == ValueRef::Null),
    )?;
    connection.create_scalar_function("locate", 2, flags, |c| {
        let both = text(c, 0).zip(text(c, 1));
        Ok(both.map(|(part, whole)| {
            let found = whole.to_lowercase().find(&part.to_lowercase());
            found.map_or(0, |at| {
                whole.get(..at).map_or(0, |t| t.chars().count() as i64 + 1)
            })
        }))
    })
}

/// An argument as text; NULL has none.
fn text(context: &Context<'_>, at: usize) -> Option<String> {
    cell(context.get_raw(at))
}
