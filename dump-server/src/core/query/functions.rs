//! Functions without tables: what drivers, replicas and monitors call.
//!
//! In: a call with its argument expressions. Out: its value. A function this server does not know answers as MySQL does
//! for an unqualified stored function: MariaDB replicas probe `binlog_gtid_pos()` and need that error.

use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments};
use tributary_binlog::GtidSet;

use super::eval::Env;
use super::time;
use super::value::{Typed, Value};
use crate::wire::errors::{self, SqlError};
use crate::wire::resultset::{Column, flags, types};

const IDENTITY_CHARS: u32 = 288;

/// Longest text CONCAT makes.
const CONCAT_BYTES_MAX: usize = 1 << 20;

/// Calls a function.
pub(super) fn call(env: &Env<'_>, function: &Function) -> Result<Typed, SqlError> {
    let name = function.name.to_string();
    let args = match &function.args {
        FunctionArguments::None => Vec::new(),
        FunctionArguments::List(list) => list
            .args
            .iter()
            .map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Ok(e),
                _ => Err(errors::syntax(&name)),
            })
            .collect::<Result<Vec<_>, _>>()?,
        FunctionArguments::Subquery(_) => return Err(errors::syntax(&name)),
    };
    let upper = name.to_ascii_uppercase();
    if let Some(value) = lazy(env, &upper, &args)? {
        return Ok(value);
    }
    let values = args
        .iter()
        .map(|e| Ok(env.eval(e)?.value))
        .collect::<Result<Vec<_>, SqlError>>()?;
    if let Some(value) = moment(env, &upper, &values) {
        return Ok(value);
    }
    if let Some(value) = identity(env, &upper, &values) {
        return Ok(value);
    }
    match gtid(&upper, &values)? {
        Some(value) => return Ok(value),
        None => {
            if let Some(value) = text(&upper, &values)? {
                return Ok(value);
            }
        }
    }
    Err(match &env.session.database {
        None => errors::no_database_selected(),
        Some(database) => errors::unknown_function(database, &name),
    })
}

/// A function called without parentheses.
pub(super) fn bare(env: &Env<'_>, name: &str) -> Option<Typed> {
    let upper = name.to_ascii_uppercase();
    let allowed = [
        "CURRENT_TIMESTAMP",
        "LOCALTIME",
        "LOCALTIMESTAMP",
        "UTC_TIMESTAMP",
        "CURRENT_USER",
        "CURRENT_DATE",
        "CURRENT_TIME",
        "UTC_DATE",
        "UTC_TIME",
    ];
    if !allowed.contains(&upper.as_str()) {
        return None;
    }
    moment(env, &upper, &[]).or_else(|| identity(env, &upper, &[]))
}

/// Functions that do not evaluate all their arguments.
fn lazy(env: &Env<'_>, name: &str, args: &[&Expr]) -> Result<Option<Typed>, SqlError> {
    match (name, args) {
        ("IF", [condition, yes, no]) => {
            let chosen = if env.truth(condition)? == Some(true) {
                yes
            } else {
                no
            };
            env.eval(chosen).map(Some)
        }
        ("IFNULL" | "COALESCE", [_, ..]) => {
            for arg in args {
                let value = env.eval(arg)?;
                if value.value != Value::Null {
                    return Ok(Some(value));
                }
            }
            Ok(Some(Typed::null()))
        }
        ("IF" | "IFNULL" | "COALESCE", _) => Err(errors::wrong_arguments(name)),
        _ => Ok(None),
    }
}

/// Date and time; this server's zone is UTC.
fn moment(env: &Env<'_>, name: &str, args: &[Value]) -> Option<Typed> {
    let now = env.server.now_micros();
    let digits = || match args {
        [] => Some(0),
        [Value::Int(n @ 0..=6)] => Some(*n as u8),
        _ => None,
    };
    match name {
        "NOW" | "CURRENT_TIMESTAMP" | "LOCALTIME" | "LOCALTIMESTAMP" | "SYSDATE"
        | "UTC_TIMESTAMP" => {
            let digits = digits()?;
            Some(Typed::datetime(time::datetime(now, digits), digits))
        }
        "UNIX_TIMESTAMP" => match args {
            [] => Some(Typed::int((now / 1_000_000).into(), 21)),
            [at] => {
                let seconds = at
                    .text()
                    .and_then(|t| time::datetime_seconds(&t))
                    .unwrap_or(0);
                Some(Typed::int(seconds.max(0).into(), 21))
            }
            _ => None,
        },
        "CURDATE" | "CURRENT_DATE" | "UTC_DATE" if args.is_empty() => {
            let text = time::datetime(now, 0).chars().take(10).collect();
            Some(Typed::text_not_null(text, 10))
        }
        "CURTIME" | "CURRENT_TIME" | "UTC_TIME" if args.is_empty() => {
            let text = time::datetime(now, 0).chars().skip(11).collect();
            Some(Typed::text_not_null(text, 8))
        }
        "TIMEDIFF" => {
            let [a, b] = args else { return None };
            let seconds = |v: &Value| v.text().and_then(|t| time::datetime_seconds(&t));
            let apart = seconds(a)
                .zip(seconds(b))
                .and_then(|(a, b)| a.checked_sub(b));
            let column = Column::integer("", 10, 0).with_type(types::TIME);
            let value = apart.map_or(Value::Null, |s| Value::Text(time::clock(s)));
            Some(Typed { value, column })
        }
        "TIME_TO_SEC" => {
            let [at] = args else { return None };
            let seconds = at.text().and_then(|t| time::clock_seconds(&t));
            let value = seconds.map_or(Value::Null, |s| Value::Int(s.into()));
            Some(Typed {
                value,
                column: Column::integer("", 10, 0),
            })
        }
        _ => None,
    }
}

/// Who and where.
fn identity(env: &Env<'_>, name: &str, args: &[Value]) -> Option<Typed> {
    if !args.is_empty() {
        return None;
    }
    let session = env.session;
    Some(match name {
        "VERSION" => {
            let version = session.version_shown(env.server.version());
            let chars = version.len() as u32;
            Typed::text_not_null(version, chars)
        }
        "CONNECTION_ID" => Typed::unsigned(session.connection_id.into()),
        "DATABASE" | "SCHEMA" => Typed::text(session.database.clone(), 64),
        "USER" | "SESSION_USER" | "SYSTEM_USER" => Typed::text(
            Some(format!("{}@{}", session.user, session.host)),
            IDENTITY_CHARS,
        ),
        "CURRENT_USER" => Typed::text(Some(format!("{}@%", session.user)), IDENTITY_CHARS),
        "CURRENT_ROLE" => Typed::text(Some("NONE".to_owned()), IDENTITY_CHARS),
        "UUID" => Typed::text(Some(env.server.new_uuid()), 36),
        "LAST_INSERT_ID" => Typed::unsigned(0),
        "FOUND_ROWS" | "ROW_COUNT" => Typed::int(0, 21),
        _ => return None,
    })
}

fn set_of(value: &Value) -> Result<Option<GtidSet>, SqlError> {
    let Some(text) = value.text() else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|_| errors::malformed_gtid_set(&text))
}

fn gtid(name: &str, args: &[Value]) -> Result<Option<Typed>, SqlError> {
    if !matches!(name, "GTID_SUBSET" | "GTID_SUBTRACT") {
        return Ok(None);
    }
    let [a, b] = args else {
        return Err(errors::wrong_arguments(name));
    };
    let (Some(mut a), Some(b)) = (set_of(a)?, set_of(b)?) else {
        return Ok(Some(Typed::null()));
    };
    if name == "GTID_SUBSET" {
        return Ok(Some(Typed::int(a.is_subset(&b).into(), 21)));
    }
    a.subtract(&b);
    let text = a.to_string();
    let chars = text.len().max(70) as u32;
    Ok(Some(Typed::text(Some(text), chars)))
}

fn text(name: &str, args: &[Value]) -> Result<Option<Typed>, SqlError> {
    let mapped = |f: fn(&str) -> String| match args {
        [v] => {
            let text = v.text().map(|t| f(&t));
            let chars = text.as_ref().map_or(0, |t| t.chars().count()) as u32;
            Ok(Some(Typed::text(text, chars)))
        }
        _ => Err(errors::wrong_arguments(name)),
    };
    match name {
        "UPPER" | "UCASE" => mapped(str::to_uppercase),
        "LOWER" | "LCASE" => mapped(str::to_lowercase),
        "TRIM" => mapped(|t| t.trim_matches(' ').to_owned()),
        "LENGTH" | "CHAR_LENGTH" => match args {
            [v] => {
                let length = v.text().map(|t| {
                    if name == "LENGTH" {
                        t.len()
                    } else {
                        t.chars().count()
                    }
                });
                let value = length.map_or(Value::Null, |n| Value::Int(n as i128));
                Ok(Some(Typed {
                    value,
                    column: Column::integer("", 10, flags::NOT_NULL),
                }))
            }
            _ => Err(errors::wrong_arguments(name)),
        },
        "CONCAT" if !args.is_empty() => {
            let parts: Option<Vec<String>> = args.iter().map(Value::text).collect();
            // MySQL's answer to a result above max_allowed_packet is NULL.
            let joined = parts
                .map(|p| p.concat())
                .filter(|t| t.len() <= CONCAT_BYTES_MAX);
            let chars = joined.as_ref().map_or(0, |t| t.chars().count()) as u32;
            Ok(Some(Typed::text(joined, chars)))
        }
        _ => Ok(None),
    }
}
