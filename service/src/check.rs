//! `tributary check`: the configuration, every node's settings, and the routes with the tables that the nodes have.
//!
//! In: a valid configuration. Out: one line per problem on standard output; exit code 1 if there is any. Lines that begin with
//! `note:` are no problems.

use std::process::ExitCode;

use tributary_collector::{CollectorConfig, settings_problems, tables_now};
use tributary_flow::{NodeId, NodeTables, OrderKey};
use tributary_schema::{ClusterSchema, Moment, NameCase, SchemaRules};

use crate::config::Config;
use crate::pipeline::{node_probe, node_urls};

/// Runs the command.
pub(crate) fn run(config: &Config, offline: bool) -> anyhow::Result<ExitCode> {
    if offline {
        println!("configuration: OK ({} nodes not asked)", config.nodes.len());
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let probe = node_probe(&config.nodes, config.server.server_id, None);
    let problems = runtime.block_on(settings_problems(&probe));
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    let (tables, unknown) = runtime.block_on(tables(config));
    let (problems, notes) = look_at(&config.schema, &tables);
    for line in unknown.iter().chain(&problems) {
        println!("{line}");
    }
    for note in notes {
        println!("note: {note}");
    }
    if !problems.is_empty() || !unknown.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    let known: usize = tables.iter().map(|(_, t)| t.tables.len()).sum();
    println!(
        "configuration, {} nodes and {known} tables: OK",
        config.nodes.len()
    );
    Ok(ExitCode::SUCCESS)
}

/// The tables of the nodes by their names, and why some are not known.
async fn tables(config: &Config) -> (Vec<(String, NodeTables)>, Vec<String>) {
    let (mut tables, mut unknown) = (Vec::new(), Vec::new());
    for node in &config.nodes {
        let uuid = tributary_binlog::Sid([0; 16]);
        let server_id = config.server.server_id;
        let asked = CollectorConfig::new(NodeId(0), &node.name, node_urls(node), server_id, uuid);
        match tables_now(&asked).await {
            Ok(found) => tables.push((node.name.clone(), found)),
            Err(error) => unknown.push(format!("node {}: {error}", node.name)),
        }
    }
    (tables, unknown)
}

/// What is wrong with the routes, given these tables, and what else is worth knowing.
fn look_at(rules: &SchemaRules, nodes: &[(String, NodeTables)]) -> (Vec<String>, Vec<String>) {
    let mut notes = Vec::new();
    let mut schema = ClusterSchema::new(rules.clone(), nodes.iter().map(|(name, _)| name.as_str()));
    let at = Moment {
        gno: 0,
        key: OrderKey::MIN.into(),
        commit_time: 0,
    };
    for (name, tables) in nodes {
        schema.learn(name, tables, at);
        if !tables.complete {
            notes.push(format!(
                "node {name}: the account does not see every table; GRANT SELECT ON *.* to it, or on all that flow"
            ));
        }
    }
    notes.extend(schema.take_notes());
    let folded = |(_, t): &(String, NodeTables)| {
        NameCase::from_variable(t.lower_case_table_names) == NameCase::Folded
    };
    let case = match nodes.iter().any(folded) {
        true => NameCase::Folded,
        false => NameCase::Exact,
    };
    if case == NameCase::Folded && !nodes.iter().all(folded) {
        notes.push(
            "lower_case_table_names is 0 on some nodes and not on others: routes match in any case on the others only"
                .into(),
        );
    }
    let names = nodes.iter().flat_map(|(_, t)| &t.tables);
    let names = names.map(|(schema, table, _)| (schema.as_str(), table.as_str()));
    let problems = rules.routes.check(names, case).into_iter();
    (problems.map(|p| p.to_string()).collect(), notes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tributary_schema::{RouteRule, Routes};

    use super::*;

    fn node(name: &str, tables: &[(&str, &str, &str)]) -> (String, NodeTables) {
        let own = |(s, t, columns): &(&str, &str, &str)| {
            let sql = format!("CREATE TABLE `{t}` ({columns}) ENGINE=InnoDB");
            ((*s).to_owned(), (*t).to_owned(), sql)
        };
        let tables = NodeTables {
            complete: true,
            tables: tables.iter().map(own).collect(),
            ..NodeTables::default()
        };
        (name.to_owned(), tables)
    }

    #[test]
    fn routes_are_held_against_the_tables_that_there_are() {
        let map = |from: &str, to: &str| RouteRule::Map {
            from: from.into(),
            to: to.into(),
        };
        let rules = [
            map("shop_*.orders_*", "shop.orders"),
            map("shop_*.order*_9", "shop.other"),
            map("shop_*.gone", "shop.gone"),
            RouteRule::Broadcast {
                from: "shop_*.city".into(),
                to: Some("shop.city".into()),
            },
        ];
        let rules = SchemaRules {
            routes: Arc::new(Routes::compile(&rules).unwrap()),
            accounts: false,
        };
        const ID: &str = "id INT PRIMARY KEY";
        let nodes = [
            node("dn1", &[("shop_1", "orders_1", ID), ("shop_1", "city", ID)]),
            node(
                "dn2",
                &[
                    ("shop_2", "orders_9", "id INT PRIMARY KEY, v INT"),
                    ("shop_2", "city", ID),
                    ("shop_2", "stray", ID),
                ],
            ),
        ];
        let (problems, notes) = look_at(&rules, &nodes);
        let text = problems.join("\n");
        for part in [
            "shop_2.orders_9 is claimed by",
            "`shop_*.gone` matches no table",
            "shop_2.stray matches no route",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(problems.len(), 3, "{text}");
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(
            notes[0].contains("shop_2.orders_9 on node dn2 is not like"),
            "{notes:?}"
        );
    }
}
