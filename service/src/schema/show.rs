//! `tributary schema`: definitions at a point, and what changed between two.
//!
//! In: a table, and points as GTIDs, commit timestamps or times. Out: text. The same answers come from a running service (HTTP)
//! and from the data directory of a stopped one.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tributary_flow::Tso;
use tributary_schema::{History, Object, diff, stored_history};
use tributary_store::RocksKv;
use tributary_store::kv::schema_state;

use crate::rebuild::DATABASE_DIR;
use crate::status;

/// Where the history is.
pub(crate) enum Source<'a> {
    /// A running service.
    Admin(&'a str),
    /// The data directory of one that is stopped.
    Dir(&'a Path),
}

/// `tributary schema show`
pub(crate) fn run_show(
    from: &Source<'_>,
    table: Option<&str>,
    at: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let text = match from {
        Source::Admin(admin) => {
            let query = query(&[("table", table), ("at", at)]);
            status::get(admin, &format!("/schema{query}"))?
        }
        Source::Dir(dir) => show(&history(dir)?, table, at).map_err(anyhow::Error::msg)?,
    };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// `tributary schema diff`
pub(crate) fn run_diff(
    from: &Source<'_>,
    table: Option<&str>,
    points: (&str, Option<&str>),
) -> anyhow::Result<ExitCode> {
    let text = match from {
        Source::Admin(admin) => {
            let query = query(&[("table", table), ("from", Some(points.0)), ("to", points.1)]);
            status::get(admin, &format!("/schema/diff{query}"))?
        }
        Source::Dir(dir) => {
            differences(&history(dir)?, table, points.0, points.1).map_err(anyhow::Error::msg)?
        }
    };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// The history in a data directory.
fn history(dir: &Path) -> anyhow::Result<History> {
    Ok(stored_history(&schema_state(&open(dir)?)?)?)
}

/// The index database of a stopped service.
pub(super) fn open(dir: &Path) -> anyhow::Result<RocksKv> {
    let database = dir.join(DATABASE_DIR);
    if !database.is_dir() {
        bail!("{} is not a data directory", dir.display());
    }
    RocksKv::open(&database)
        .context("the index database can not be opened; is the service running? (`show` and `diff` ask it with --admin)")
}

fn query(fields: &[(&str, Option<&str>)]) -> String {
    let said = fields
        .iter()
        .filter_map(|(name, value)| Some((name, (*value)?)));
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(said)
        .finish();
    match query.is_empty() {
        true => query,
        false => format!("?{query}"),
    }
}

/// The definition of a table, or the names of all, at a point.
pub(crate) fn show(
    history: &History,
    table: Option<&str>,
    at: Option<&str>,
) -> Result<String, String> {
    let gno = match at {
        Some(at) => point(history, at)?,
        None => u64::MAX,
    };
    let Some(table) = table else {
        let names = history.objects(gno).map(|(s, n, _)| format!("{s}.{n}\n"));
        return Ok(names.collect());
    };
    let (schema, name) = split(table)?;
    match history.object(&schema, &name, gno) {
        Some(object) => Ok(text_of(object) + "\n"),
        None => Err(format!("there is no table {table} at that point")),
    }
}

fn text_of(object: &Object) -> String {
    match object {
        Object::Table(table) => table.show_create(),
        Object::View(sql) => sql.clone(),
        Object::Opaque(why) => format!("-- the definition is not known: {why}"),
    }
}

/// What changed of a table, or of all, between two points.
pub(crate) fn differences(
    history: &History,
    table: Option<&str>,
    from: &str,
    to: Option<&str>,
) -> Result<String, String> {
    let from = point(history, from)?;
    let to = match to {
        Some(to) => point(history, to)?,
        None => u64::MAX,
    };
    let names = match table {
        Some(table) => vec![split(table)?],
        None => {
            let both = history.objects(from).chain(history.objects(to));
            let mut names: Vec<_> = both.map(|(s, n, _)| (s.to_owned(), n.to_owned())).collect();
            names.sort();
            names.dedup();
            names
        }
    };
    let mut out = String::new();
    for (schema, name) in names {
        let (before, after) = (
            history.object(&schema, &name, from),
            history.object(&schema, &name, to),
        );
        let lines = match (before, after) {
            (Some(Object::Table(a)), Some(Object::Table(b))) => diff(a, b),
            (a, b) if a == b => Vec::new(),
            (a, b) => {
                let lines = |sign: char, object: Option<&Object>| -> Vec<String> {
                    let text = object.map(text_of).unwrap_or_default();
                    text.lines().map(|l| format!("{sign}{l}")).collect()
                };
                [lines('-', a), lines('+', b)].concat()
            }
        };
        if !lines.is_empty() {
            let _ = writeln!(out, "{schema}.{name}");
            lines.iter().for_each(|line| out.extend([line, "\n"]));
        }
    }
    Ok(out)
}

/// `schema.table`, each part in backticks if it likes.
fn split(table: &str) -> Result<(String, String), String> {
    let wrong = || format!("{table} is not written schema.table");
    let mut parts = vec![String::new()];
    let mut chars = table.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '`' if quoted && chars.peek() == Some(&'`') => {
                chars.next();
                parts.last_mut().ok_or_else(wrong)?.push('`');
            }
            '`' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => parts.last_mut().ok_or_else(wrong)?.push(c),
        }
    }
    match <[String; 2]>::try_from(parts) {
        Ok([schema, name]) if !quoted && !schema.is_empty() && !name.is_empty() => {
            Ok((schema, name))
        }
        _ => Err(wrong()),
    }
}

/// The number of the last statement at or before a point: a GTID (`uuid:7`), a commit timestamp (a number) or a time
/// (`2026-11-27T10:00:00`, UTC).
fn point(history: &History, at: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "{at} is not a GTID (uuid:number), a commit timestamp (a number) or a UTC time (2026-11-27T10:00:00)"
        )
    };
    if let Ok(tso) = at.parse::<u64>() {
        return Ok(history.gno_at_tso(Tso::new(tso).ok_or_else(wrong)?));
    }
    if let Some(micros) = micros_of(at) {
        return Ok(history.gno_at_time(micros));
    }
    let (uuid, number) = at.rsplit_once(':').ok_or_else(wrong)?;
    if uuid.len() != 36 {
        return Err(wrong());
    }
    number.parse().map_err(|_| wrong())
}

/// Microseconds since 1970 of `YYYY-MM-DD[T ]hh:mm:ss`.
fn micros_of(text: &str) -> Option<u64> {
    let (date, time) = text.trim_end_matches('Z').split_once(['T', ' '])?;
    let numbers = |text: &str, by: char| -> Option<[u64; 3]> {
        let parts: Option<Vec<u64>> = text.split(by).map(|p| p.parse().ok()).collect();
        parts?.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let valid =
        (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !valid || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days since 1970 by the civil calendar, years beginning in March.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + 999_999)
}

#[cfg(test)]
mod tests {
    use tributary_flow::OrderKey;
    use tributary_schema::{Collation, Moment, Session, Statement};

    use super::*;

    const UUID: &str = "3E11FA47-71CA-11E1-9E33-C80AA9429562";

    fn history() -> History {
        let mut history = History::new(Collation::DEFAULT);
        for (gno, sql) in [
            (3, "CREATE TABLE s.t (id INT PRIMARY KEY)"),
            (5, "ALTER TABLE s.t ADD c INT"),
            (9, "DROP TABLE s.t"),
        ] {
            let at = Moment {
                gno,
                key: OrderKey::distributed(Tso::new(gno * 100).unwrap()).into(),
                commit_time: gno * 1_000_000,
            };
            let statement = Statement::parse(sql, Session::in_schema(""));
            let record = history.record(at, &statement);
            history.apply(record).unwrap();
        }
        history
    }

    #[test]
    fn a_table_at_any_point() {
        let h = history();
        let has_c = |at: &str| show(&h, Some("s.t"), Some(at)).map(|t| t.contains("`c`"));
        assert_eq!(has_c(&format!("{UUID}:4")), Ok(false));
        assert_eq!(has_c(&format!("{UUID}:8")), Ok(true));
        assert_eq!(has_c("499"), Ok(false));
        assert_eq!(has_c("500"), Ok(true));
        assert_eq!(has_c("1970-01-01T00:00:04"), Ok(false));
        assert_eq!(has_c("1970-01-01 00:00:05Z"), Ok(true));
        assert!(has_c("900").unwrap_err().contains("there is no table"));
        assert!(has_c("yesterday").unwrap_err().contains("is not a GTID"));
        assert_eq!(show(&h, None, Some("500")).as_deref(), Ok("s.t\n"));
        assert!(show(&h, Some("t"), None).is_err());
        assert_eq!(split("`a.b`.`c``d`"), Ok(("a.b".into(), "c`d".into())));
    }

    #[test]
    fn what_changed() {
        let h = history();
        let d = differences(&h, None, "300", Some("500")).unwrap();
        assert_eq!(d, "s.t\n+  `c` int DEFAULT NULL\n");
        let d = differences(&h, Some("s.t"), "500", None).unwrap();
        assert!(d.starts_with("s.t\n-CREATE TABLE"), "{d}");
        assert_eq!(differences(&h, None, "900", None).as_deref(), Ok(""));
    }

    #[test]
    fn times() {
        assert_eq!(micros_of("1970-01-01T00:00:00"), Some(999_999));
        assert_eq!(
            micros_of("2026-11-27 10:00:00").map(|m| m / 1_000_000),
            Some(1_795_773_600)
        );
        assert_eq!(micros_of("2026-13-01T00:00:00"), None);
    }
}
