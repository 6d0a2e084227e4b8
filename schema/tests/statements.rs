//! Every definition that the server shows is read and written again as it is, and every statement turns the definition
//! before it into the one behind it.

use std::collections::HashMap;

use tributary_schema::{Collation, Kind, NameRole, Session, Statement, Table};

use crate::fixtures::blocks;

fn parse(sql: &str) -> Statement {
    Statement::parse(sql, Session::in_schema("fx"))
}

pub(crate) fn table_of(show: &str) -> Table {
    let statement = parse(show);
    let Kind::CreateTable(create) = &statement.kind else {
        panic!("not a CREATE TABLE: {show}");
    };
    let table = create.table(Collation::DEFAULT);
    table.unwrap_or_else(|| panic!("not readable: {show}"))
}

/// Without the counter, which is not part of a table's definition.
fn without_counter(show: &str) -> String {
    let words = show
        .split(' ')
        .filter(|w| !w.starts_with("AUTO_INCREMENT="));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_the_server_shows_comes_back() {
    for file in ["statements.txt", "types.txt", "reshape.txt"] {
        for (head, show) in blocks(file) {
            assert_eq!(
                table_of(&show).show_create(),
                without_counter(&show),
                "{head}"
            );
        }
    }
}

/// The table behind a statement, given all tables before it.
fn apply(statement: &Statement, tables: &HashMap<String, Table>) -> Table {
    let target = |n: &str| {
        tables
            .get(n)
            .unwrap_or_else(|| panic!("no table {n}"))
            .clone()
    };
    match &statement.kind {
        Kind::CreateTable(create) => match &create.like {
            Some(like) => {
                let mut table = target(&like.name);
                table.rename(&create.name.name);
                table
            }
            None => create.table(Collation::DEFAULT).expect("readable"),
        },
        Kind::AlterTable(alter) => target(&alter.name.name).altered(alter).expect("it fits"),
        Kind::RenameTable(pairs) => {
            let mut table = target(&pairs[0].0.name);
            table.rename(&pairs[0].1.name);
            table
        }
        Kind::Truncate(name) => target(&name.name),
        other => panic!("{other:?}"),
    }
}

#[test]
fn statements_do_what_the_server_does() {
    let mut tables: HashMap<String, Table> = HashMap::new();
    let mut wrong = Vec::new();
    for (sql, show) in blocks("statements.txt") {
        let statement = parse(&sql);
        let table = apply(&statement, &tables);
        let (got, want) = (table.show_create(), without_counter(&show));
        if got != want {
            let lines = got.lines().zip(want.lines()).filter(|(a, b)| a != b);
            let lines: Vec<_> = lines
                .map(|(a, b)| format!("  got  {a}\n  want {b}"))
                .collect();
            wrong.push(format!("{sql}\n{}", lines.join("\n")));
        }
        // What follows starts from what the server has, so that one difference is one.
        for old in statement.names_as(NameRole::Target) {
            tables.remove(&old.name);
        }
        let mut known = table_of(&show);
        known.name.clone_from(&table.name);
        // Which key was made for a foreign key, the server does not show.
        for key in &mut known.keys {
            key.implicit = table.keys.iter().any(|k| k.name == key.name && k.implicit);
        }
        tables.insert(table.name.clone(), known);
        if let Kind::CreateTable(create) = &statement.kind
            && let Some(like) = &create.like
        {
            assert!(tables.contains_key(&like.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}
