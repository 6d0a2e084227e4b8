//! Prepared statements of one session.
//!
//! In: COM_STMT_* commands. Out: the statement's shape, and at each execution the answer its text with the parameters put
//! in has. A statement is kept as text; nothing here is faster for being prepared.

use std::collections::{BTreeMap, HashMap};

use super::state::SessionState;
use crate::core::query::show::event_columns;
use crate::core::query::tokens::Tokens;
use crate::core::query::{self, Answer};
use crate::core::view::ServerView;
use crate::wire::binary::{self, Param, ParamType};
use crate::wire::command::{CURSOR_READ_ONLY, Execute, PARAMETER_COUNT_AVAILABLE};
use crate::wire::cursor::{Cursor, Short};
use crate::wire::errors::{self, SqlError};
use crate::wire::packet::PacketWriter;
use crate::wire::reply::{put_eof, put_result_end};
use crate::wire::resultset::{Cell, Column, ResultSet};
use crate::wire::{CapabilityFlags, StatusFlags};

/// Most prepared statements of one session.
const STATEMENTS_MAX: usize = 1024;

/// Most bytes one session holds in the texts of statements and in long data.
const HELD_BYTES_MAX: usize = 16 << 20;

/// The prepared statements of a session, by id.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    by_id: HashMap<u32, Prepared>,
    last_id: u32,
}

/// MySQL names the function that looks for the statement.
const PRECHECK: &str = "mysql_stmt_precheck";

#[derive(Debug)]
struct Prepared {
    sql: String,
    parameters: usize,
    types: Vec<ParamType>,
    long: BTreeMap<u16, Vec<u8>>,
    long_overflow: bool,
    cursor: Option<OpenCursor>,
}

#[derive(Debug)]
struct OpenCursor {
    columns: Vec<Column>,
    rows: std::vec::IntoIter<Vec<Cell>>,
}

/// The answer to COM_STMT_PREPARE.
pub(super) struct Shape {
    id: u32,
    parameters: usize,
    columns: Vec<Column>,
}

impl Execute {
    /// True when the rows wait for COM_STMT_FETCH.
    pub(super) fn wants_cursor(&self) -> bool {
        self.flags & CURSOR_READ_ONLY != 0
    }
}

/// Refuses what is no single statement.
fn single<'a>(sql: &'a str) -> Result<Tokens<'a>, SqlError> {
    let mut statements = Tokens::statements(sql)?;
    if let Some(second) = statements.get(1) {
        return Err(second.syntax_error());
    }
    statements.pop().ok_or_else(errors::empty_query)
}

impl Statements {
    /// Text of a prepared statement.
    pub(super) fn sql(&self, id: u32) -> Option<String> {
        self.by_id.get(&id).map(|prepared| prepared.sql.clone())
    }

    /// Prepares `sql`.
    ///
    /// # Errors
    /// What executing it with parameters of NULL gives, or 1461 when the session holds too many.
    pub(super) fn prepare(
        state: &mut SessionState,
        sql: String,
        view: &dyn ServerView,
    ) -> Result<Shape, SqlError> {
        let held: usize = state.statements.by_id.values().map(Prepared::bytes).sum();
        if state.statements.by_id.len() >= STATEMENTS_MAX || held + sql.len() > HELD_BYTES_MAX {
            return Err(errors::too_many_statements(STATEMENTS_MAX));
        }
        let mut statement = single(&sql)?;
        let parameters = statement.bind_unknown();
        if parameters > binary::PARAMETERS_MAX {
            return Err(errors::wrong_parameters("mysqld_stmt_prepare"));
        }
        // What has rows changes nothing, so it can be executed to see their shape.
        let columns = match statement.peek_word().as_deref() {
            Some(
                "DO" | "SET" | "USE" | "KILL" | "PURGE" | "FLUSH" | "BEGIN" | "COMMIT" | "ROLLBACK",
            ) => Vec::new(),
            _ => match query::execute(&statement, state, view)? {
                Answer::Rows(rows) => rows.columns,
                Answer::Events(_) => event_columns(),
                Answer::Ok | Answer::Kill(_) | Answer::Admin(_) => Vec::new(),
            },
        };
        let statements = &mut state.statements;
        statements.last_id = statements.last_id.wrapping_add(1);
        let id = statements.last_id;
        statements.by_id.insert(
            id,
            Prepared {
                sql,
                parameters,
                types: Vec::new(),
                long: BTreeMap::new(),
                long_overflow: false,
                cursor: None,
            },
        );
        Ok(Shape {
            id,
            parameters,
            columns,
        })
    }

    /// Executes a statement with the parameters of this packet.
    ///
    /// # Errors
    /// 1243 for an unknown statement, 1210 for parameters that cannot be decoded, and whatever the statement gives.
    pub(super) fn execute(
        state: &mut SessionState,
        execute: &Execute,
        view: &dyn ServerView,
    ) -> Result<Answer, SqlError> {
        let named = state
            .capabilities
            .contains(CapabilityFlags::CLIENT_QUERY_ATTRIBUTES);
        let statement = state.statements.by_id.get_mut(&execute.id);
        let statement = statement.ok_or_else(|| errors::unknown_statement(execute.id, PRECHECK))?;
        statement.cursor = None;
        let params = statement.read(execute, named);
        let (sql, overflow) = (statement.sql.clone(), statement.long_overflow);
        if overflow {
            return Err(errors::packet_too_large());
        }
        let params = params.map_err(|_| errors::wrong_parameters("mysqld_stmt_execute"))?;
        let mut tokens = single(&sql)?;
        tokens.bind(&params);
        query::execute(&tokens, state, view)
    }

    /// Keeps the rows of an execution for COM_STMT_FETCH.
    pub(super) fn open_cursor(&mut self, id: u32, rows: ResultSet) {
        if let Some(statement) = self.by_id.get_mut(&id) {
            statement.cursor = Some(OpenCursor {
                columns: rows.columns,
                rows: rows.rows.into_iter(),
            });
        }
    }

    /// Writes the next rows of a cursor.
    ///
    /// # Errors
    /// 1243 for an unknown statement, 1421 when it has no cursor.
    pub(super) fn fetch(
        &mut self,
        id: u32,
        most: u32,
        caps: CapabilityFlags,
        mut status: StatusFlags,
        writer: &mut PacketWriter<'_>,
    ) -> Result<(), SqlError> {
        let statement = self.by_id.get_mut(&id);
        let statement = statement.ok_or_else(|| errors::unknown_statement(id, PRECHECK))?;
        let cursor = statement.cursor.as_mut();
        let cursor = cursor.ok_or_else(|| errors::no_cursor(id))?;
        for row in cursor.rows.by_ref().take(most as usize) {
            writer.packet(|o| binary::put_row(&cursor.columns, &row, o));
        }
        if cursor.rows.as_slice().is_empty() {
            status |= StatusFlags::SERVER_STATUS_LAST_ROW_SENT;
            statement.cursor = None;
        } else {
            status |= StatusFlags::SERVER_STATUS_CURSOR_EXISTS;
        }
        writer.packet(|o| put_result_end(caps, status, o));
        Ok(())
    }

    /// Takes a piece of a parameter. Errors show at the execution: this command has no answer.
    pub(super) fn long_data(&mut self, id: u32, parameter: u16, data: &[u8]) {
        let held: usize = self.by_id.values().map(Prepared::bytes).sum();
        if let Some(statement) = self.by_id.get_mut(&id)
            && usize::from(parameter) < statement.parameters
        {
            if held + data.len() > HELD_BYTES_MAX {
                statement.long_overflow = true;
                return;
            }
            let held = statement.long.entry(parameter).or_default();
            held.extend_from_slice(data);
        }
    }

    /// Forgets a statement, known or not.
    pub(super) fn close(&mut self, id: u32) {
        self.by_id.remove(&id);
    }

    /// Drops long data and the cursor.
    ///
    /// # Errors
    /// 1243 for an unknown statement.
    pub(super) fn reset(&mut self, id: u32) -> Result<(), SqlError> {
        let statement = self.by_id.get_mut(&id);
        let statement = statement.ok_or_else(|| errors::unknown_statement(id, PRECHECK))?;
        statement.cursor = None;
        statement.long.clear();
        statement.long_overflow = false;
        Ok(())
    }
}

impl Prepared {
    fn bytes(&self) -> usize {
        self.sql.len() + self.long.values().map(Vec::len).sum::<usize>()
    }

    /// Decodes the parameters; long data counts for one execution.
    fn read(&mut self, execute: &Execute, named: bool) -> Result<Vec<Param>, Short> {
        let long = std::mem::take(&mut self.long);
        let mut c = Cursor::new(&execute.parameters);
        let mut count = self.parameters;
        if named && execute.flags & PARAMETER_COUNT_AVAILABLE != 0 {
            // More than the statement has are query attributes, and stand behind its own.
            count = usize::try_from(c.lenenc()?).map_err(|_| Short)?;
        }
        let long = |i: usize| {
            let bytes = long.get(&u16::try_from(i).ok()?)?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        let params = binary::parameters(&mut c, count, named, &mut self.types, long)?;
        if params.len() < self.parameters {
            return Err(Short);
        }
        Ok(params)
    }
}

impl Shape {
    /// Writes the answer: counts, then a definition of each parameter and each column.
    pub(super) fn put(&self, state: &SessionState, writer: &mut PacketWriter<'_>) {
        let (caps, status) = (state.capabilities, state.status());
        let classic = !caps.contains(CapabilityFlags::CLIENT_DEPRECATE_EOF);
        let count = |n: usize| (n as u16).to_le_bytes();
        writer.packet(|o| {
            o.push(0);
            o.extend_from_slice(&self.id.to_le_bytes());
            o.extend_from_slice(&count(self.columns.len()));
            o.extend_from_slice(&count(self.parameters));
            o.extend_from_slice(&[0, 0, 0]);
        });
        let parameter =
            Column::integer("?", 0, 0).with_type(crate::wire::resultset::types::VAR_STRING);
        let parameters = ResultSet::new(vec![parameter; self.parameters]);
        for set in [parameters, ResultSet::new(self.columns.clone())] {
            if !set.columns.is_empty() {
                set.put_definitions(state.vars.results(), writer);
                if classic {
                    writer.packet(|o| put_eof(status, o));
                }
            }
        }
    }
}
