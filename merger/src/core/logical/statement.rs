//! Query events: statements of their own, and `CREATE TABLE … SELECT` inside a transaction.
//!
//! In: a Query event of a node. Out: the Query events to write.

use bytes::Bytes;
use tributary_binlog::{ChecksumAlg, QueryEvent, RawEvent, StatusVar, UpdatedDbNames};
use tributary_flow::Body;
use tributary_schema::{DdlProblem, Emitted, SourceStatement, decode_sql};

use super::pass::{Query, Rewriting, put};
use super::{Logical, Place, unreadable};
use crate::MergeError;

/// `utf8mb4_general_ci`, the newest that every replica knows.
const UTF8MB4: u16 = 45;
/// What stands in the list of databases for "more than can be listed".
const ALL_DATABASES: u8 = 254;

/// What a session's settings say about its statements.
struct Settings {
    sql_mode: u64,
    client: Option<u16>,
    server: Option<u16>,
}

fn settings(query: &QueryEvent<'_>) -> Settings {
    let mut settings = Settings {
        sql_mode: 0,
        client: None,
        server: None,
    };
    for var in query.status_vars() {
        match var {
            StatusVar::SqlMode(mode) => settings.sql_mode = mode,
            StatusVar::Charset { client, server, .. } => {
                (settings.client, settings.server) = (Some(client), Some(server));
            }
            _ => {}
        }
    }
    settings
}

impl Logical {
    /// The bodies of the statements to write for that of a node, which is in `body`.
    pub(in crate::core) fn statements(
        &mut self,
        place: &Place<'_>,
        body: &Body,
    ) -> Result<Vec<Body>, MergeError> {
        let unchanged = || Ok(vec![body.clone()]);
        let events = match body.chunks().next() {
            Some(chunk) => chunk.map_err(|e| unreadable(place, &e))?,
            None => return Ok(Vec::new()),
        };
        // What can not be read is never dropped; the collector has read it as a Query event before.
        let Ok(raw) = RawEvent::parse_unverified(&events, ChecksumAlg::None) else {
            return unchanged();
        };
        let Ok(query) = QueryEvent::parse(raw.body) else {
            return unchanged();
        };
        let bodies = self.statement(place, &query)?.into_iter().map(|new| {
            let Some(new) = new else {
                return Ok(body.clone());
            };
            let mut out = Vec::with_capacity(new.len() + 32);
            put(&raw, &mut out, |out| {
                out.extend_from_slice(&new);
                Ok(())
            })
            .map_err(|error| error.at(place))?;
            Ok(Body::new(Bytes::from(out)))
        });
        bodies.collect()
    }

    /// The statements to write for a node's statement: their Query events' bodies, `None` for one that stays as it is.
    fn statement(
        &mut self,
        place: &Place<'_>,
        query: &QueryEvent<'_>,
    ) -> Result<Vec<Option<Vec<u8>>>, MergeError> {
        let settings = settings(query);
        let (sql, whole) = decode_sql(query.query, settings.client);
        let schema = String::from_utf8_lossy(query.schema);
        let source = SourceStatement {
            node: place.name,
            schema: &schema,
            sql: &sql,
            sql_mode: settings.sql_mode,
            server_collation: settings.server,
        };
        let error = |problem| MergeError::Statement {
            at: Box::new(place.source()),
            problem: Box::new(problem),
        };
        let emitted = self.schema.statement(&source, place.at).map_err(error)?;
        let bodies = emitted.into_iter().map(|statement| {
            if statement.sql == sql && statement.schema == schema {
                return Ok(None);
            }
            if !whole {
                let sql = sql.chars().take(120).collect();
                return Err(error(DdlProblem::NotUnderstood { sql }));
            }
            Ok(Some(body(query, &statement)))
        });
        bodies.collect()
    }

    /// A Query event inside a transaction: only `CREATE TABLE … SELECT` has one that concerns tables.
    pub(super) fn query(
        &mut self,
        place: &Place<'_>,
        raw: &RawEvent<'_>,
        rewriting: &mut Rewriting,
    ) -> Result<(), MergeError> {
        let Ok(query) = QueryEvent::parse(raw.body) else {
            rewriting.query(None);
            return Ok(());
        };
        let creates = query.query.trim_ascii_start().get(..6);
        if !creates.is_some_and(|word| word.eq_ignore_ascii_case(b"CREATE")) {
            rewriting.query(None);
            return Ok(());
        }
        let mut bodies = self.statement(place, &query)?.into_iter();
        rewriting.query(match bodies.next() {
            None => Some(Query::Dropped),
            Some(body) => body.map(Query::Body),
        });
        Ok(())
    }
}

/// The body of a Query event like `query` with another text.
fn body(query: &QueryEvent<'_>, statement: &Emitted) -> Vec<u8> {
    let mut vars = Vec::with_capacity(query.status_vars.len() + 4);
    let readable = !query
        .status_vars()
        .any(|var| matches!(var, StatusVar::Unknown(_)));
    for var in query.status_vars().filter(|_| readable) {
        match var {
            // The text is UTF-8 now.
            StatusVar::Charset {
                connection, server, ..
            } if !query.query.is_ascii() => StatusVar::Charset {
                client: UTF8MB4,
                connection,
                server,
            },
            StatusVar::UpdatedDbNames(_) => StatusVar::UpdatedDbNames(UpdatedDbNames {
                count: ALL_DATABASES,
                names: &[],
            }),
            other => other,
        }
        .put(&mut vars);
    }
    if !readable {
        vars.extend_from_slice(query.status_vars);
    }
    let mut out = Vec::new();
    QueryEvent {
        status_vars: &vars,
        schema: statement.schema.as_bytes(),
        query: statement.sql.as_bytes(),
        ..*query
    }
    .put_body(&mut out);
    out
}
