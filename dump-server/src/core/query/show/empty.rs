//! SHOW statements about what a server without rows, routines and events never has: MySQL's columns, no rows. And the plugins.
//!
//! In: tokens. Out: an empty result set, or the plugins' rows.

use super::Filter;
use crate::core::query::eval::Env;
use crate::core::query::metadata;
use crate::core::query::tokens::Tokens;
use crate::wire::errors::SqlError;
use crate::wire::resultset::{Column, ResultSet, flags, types};

const CHARACTER_SETS: [&str; 3] = [
    "character_set_client",
    "collation_connection",
    "Database Collation",
];

const TRIGGERS: [&str; 8] = [
    "Trigger",
    "Event",
    "Table",
    "Statement",
    "Timing",
    "Created",
    "sql_mode",
    "Definer",
];

const EVENTS: [&str; 12] = [
    "Db",
    "Name",
    "Definer",
    "Time zone",
    "Type",
    "Execute at",
    "Interval value",
    "Interval field",
    "Starts",
    "Ends",
    "Status",
    "Originator",
];

const ROUTINES: [&str; 9] = [
    "Db",
    "Name",
    "Language",
    "Type",
    "Definer",
    "Modified",
    "Created",
    "Security_type",
    "Comment",
];

pub(super) fn show(env: Env<'_>, t: &mut Tokens<'_>) -> Result<Option<ResultSet>, SqlError> {
    let full = t.eat_all(&["FULL", "TRIGGERS"]);
    if full || t.eat("TRIGGERS") {
        return of_a_database(env, t, &[&TRIGGERS[..], &CHARACTER_SETS].concat()).map(Some);
    }
    if t.eat("EVENTS") {
        return of_a_database(env, t, &[&EVENTS[..], &CHARACTER_SETS].concat()).map(Some);
    }
    if t.eat_all(&["PROCEDURE", "STATUS"]) || t.eat_all(&["FUNCTION", "STATUS"]) {
        return listed(env, t, &[&ROUTINES[..], &CHARACTER_SETS].concat()).map(Some);
    }
    if t.eat_all(&["OPEN", "TABLES"]) {
        let mut set = of_a_database(env, t, &["Database", "Table"])?;
        for name in ["In_use", "Name_locked"] {
            set.columns.push(Column::integer(name, 21, flags::NOT_NULL));
        }
        return Ok(Some(set));
    }
    if t.eat("PROFILES") {
        t.expect_end()?;
        let number = Column::integer("Query_ID", 10, flags::NOT_NULL).with_type(types::LONG);
        let duration = Column::integer("Duration", 9, flags::NOT_NULL).with_type(types::DOUBLE);
        let query = Column::text("Query", 300).not_null();
        return Ok(Some(ResultSet::new(vec![number, duration, query])));
    }
    if t.eat("PLUGINS") {
        t.expect_end()?;
        return Ok(Some(plugins(env)));
    }
    Ok(None)
}

/// `[FROM database]` and a filter.
fn of_a_database(
    env: Env<'_>,
    t: &mut Tokens<'_>,
    names: &[&'static str],
) -> Result<ResultSet, SqlError> {
    super::tables::known_database(env, t)?;
    listed(env, t, names)
}

fn listed(env: Env<'_>, t: &mut Tokens<'_>, names: &[&'static str]) -> Result<ResultSet, SqlError> {
    let filter = Filter::parse(t)?;
    let columns = names.iter().map(|name| Column::text(*name, 64)).collect();
    filter.apply(env, ResultSet::new(columns))
}

fn plugins(env: Env<'_>) -> ResultSet {
    let columns = ["Name", "Status", "Type", "Library", "License"];
    let columns = columns.map(|name| Column::text(name, 64)).to_vec();
    let mut set = ResultSet::new(columns);
    for (name, kind) in metadata::plugins(env) {
        let some = |text: &str| Some(text.to_owned());
        set.push(vec![
            some(name),
            some("ACTIVE"),
            some(kind),
            None,
            some("GPL"),
        ]);
    }
    set
}
