//! `[[route]]`, `[ignore]` and `[ddl]`: which tables become which.
//!
//! In: TOML tables. Out: rules that can be compiled, or what is wrong with each.

use std::sync::Arc;

use tributary_schema::{RouteRule, Routes, SchemaRules};

use super::reader::{Problems, Table};

/// The tables of a configuration that are read here, and nothing else: to be compared, sent and stored.
pub(super) fn text(root: &toml::Table) -> serde_json::Value {
    let keys = ["route", "ignore", "ddl"].into_iter();
    let there = keys.filter_map(|key| Some((key.to_owned(), root.get(key)?)));
    let json = there.map(|(key, value)| (key, serde_json::to_value(value).unwrap_or_default()));
    json.collect::<serde_json::Map<_, _>>().into()
}

/// Reads all of them.
pub(super) fn rules(root: &mut Table<'_>, problems: &Problems) -> SchemaRules {
    let mut rules = Vec::new();
    for mut t in root.tables("route") {
        let from = t.required_text("from");
        let to = t.text("to");
        let broadcast = t.boolean("broadcast").unwrap_or(false);
        if to.is_none() && !broadcast && !t.reported("to") {
            problems.add(
                &t.path("to"),
                "is missing: the logical table, as database.table",
            );
        }
        t.finish();
        match (from, to, broadcast) {
            (Some(from), to, true) => rules.push(RouteRule::Broadcast { from, to }),
            (Some(from), Some(to), false) => rules.push(RouteRule::Map { from, to }),
            _ => {}
        }
    }
    let mut ignore = root.table("ignore");
    // What is ignored is ignored whatever else is said of it.
    let tables = ignore.texts("tables").unwrap_or_default();
    let ignored = tables.into_iter().map(|from| RouteRule::Ignore { from });
    rules.splice(0..0, ignored);
    let ids = ignore.integers("xid_format_ids", -(1 << 31), (1 << 31) - 1);
    let ids = ids.unwrap_or_default().into_iter();
    rules.extend(ids.map(|id| RouteRule::IgnoreFormatId(id as i32)));
    ignore.finish();
    let mut ddl = root.table("ddl");
    let accounts = ddl.boolean("accounts").unwrap_or(false);
    ddl.finish();
    let routes = Routes::compile(&rules).unwrap_or_else(|wrong| {
        for problem in wrong {
            problems.add("route", &problem.to_string());
        }
        Routes::default()
    });
    SchemaRules {
        routes: Arc::new(routes),
        accounts,
    }
}
