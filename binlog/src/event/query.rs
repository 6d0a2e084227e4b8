//! The query event: DDL, `BEGIN`, `XA …`, and statements in statement format.
//!
//! Layout of `Query_event` (`libs/mysql/binlog/event/statement_events.{h,cpp}`):
//!
//! ```text
//! 4  thread id   4  execution time (s)   1  length of the schema   2  error code   2  length of the status variables
//! n  status variables   n  schema, then a NUL   n  statement
//! ```

use super::status_vars::StatusVars;
use super::{EventError, bad};
use crate::cursor::Cursor;

/// A query event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct QueryEvent<'a> {
    /// The session that ran it.
    pub thread_id: u32,
    /// How long it took, in seconds.
    pub exec_time: u32,
    /// The error it ended with, 0 if none.
    pub error_code: u16,
    /// See [`Self::status_vars`]; at most 65535 bytes.
    pub status_vars: &'a [u8],
    /// The default schema; empty if there was none; at most 255 bytes.
    pub schema: &'a [u8],
    /// The statement, in the character set the status variables name.
    pub query: &'a [u8],
}

impl<'a> QueryEvent<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When the lengths in it exceed it.
    pub fn parse(body: &'a [u8]) -> Result<Self, EventError> {
        let bad = bad("Query");
        Self::read(body).ok_or_else(|| bad("it is too short for its schema and status variables"))
    }

    fn read(body: &'a [u8]) -> Option<Self> {
        let mut c = Cursor::new(body);
        let thread_id = c.u32()?;
        let exec_time = c.u32()?;
        let schema_len = usize::from(c.u8()?);
        let error_code = c.u16()?;
        let vars_len = usize::from(c.u16()?);
        let status_vars = c.take(vars_len)?;
        let schema = c.take(schema_len)?;
        if c.u8()? != 0 {
            return None;
        }
        Some(Self {
            thread_id,
            exec_time,
            error_code,
            status_vars,
            schema,
            query: c.take_rest(),
        })
    }

    /// Appends the body.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        // Longer ones do not exist in MySQL and could not be told from what follows them.
        let schema = self.schema.get(..255).unwrap_or(self.schema);
        let vars = self
            .status_vars
            .get(..usize::from(u16::MAX))
            .unwrap_or(self.status_vars);
        out.extend_from_slice(&self.thread_id.to_le_bytes());
        out.extend_from_slice(&self.exec_time.to_le_bytes());
        out.push(schema.len() as u8);
        out.extend_from_slice(&self.error_code.to_le_bytes());
        out.extend_from_slice(&(vars.len() as u16).to_le_bytes());
        out.extend_from_slice(vars);
        out.extend_from_slice(schema);
        out.push(0);
        out.extend_from_slice(self.query);
    }

    /// The settings of the session the statement depends on.
    #[must_use]
    pub fn status_vars(&self) -> StatusVars<'a> {
        StatusVars::new(self.status_vars)
    }
}
