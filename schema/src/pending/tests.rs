//! Statements that wait, one at a time.

use super::*;
use crate::route::{NameCase, RouteRule, Routes};

fn routes() -> Routes {
    let rules = [
        RouteRule::Map {
            from: "s_*.t_*".to_owned(),
            to: "s.t".to_owned(),
        },
        RouteRule::Broadcast {
            from: "s_*.city".to_owned(),
            to: Some("s.city".to_owned()),
        },
    ];
    Routes::compile(&rules).unwrap()
}

fn unit(table: u32, sql: &str) -> Unit {
    let sql = sql.replace('#', &format!("t_{table}"));
    let statement = Statement::parse(&sql, Session::in_schema("s_1"));
    let mut units = statement
        .units(&routes(), NameCase::Exact, &|_, _| None)
        .unwrap();
    assert_eq!(units.len(), 1);
    units.remove(0)
}

fn who(node: &str, table: u32) -> Participant {
    Participant {
        node: node.to_owned(),
        schema: "s_1".to_owned(),
        table: format!("t_{table}"),
    }
}

fn all() -> Vec<Participant> {
    [("dn1", 1), ("dn1", 2), ("dn2", 3), ("dn2", 4)]
        .map(|(n, t)| who(n, t))
        .into()
}

fn run(pending: &mut Pending, order: [(&str, u32); 4], sql: &str) -> Vec<Verdict> {
    let each = order
        .into_iter()
        .map(|(node, table)| pending.observe(&unit(table, sql), &who(node, table), &all(), 7));
    each.collect()
}

const ORDER: [(&str, u32); 4] = [("dn2", 4), ("dn1", 1), ("dn1", 2), ("dn2", 3)];

#[test]
fn a_column_that_is_renamed_twice_is_found_under_its_first_name() {
    let mut p = Pending::default();
    let first = who("dn1", 1);
    for sql in [
        "ALTER TABLE # RENAME COLUMN z TO y",
        "ALTER TABLE # RENAME COLUMN y TO a, RENAME COLUMN k TO l",
    ] {
        let verdict = p.observe(&unit(1, sql), &first, &all(), 7);
        assert_eq!(verdict, Verdict::Wait);
    }
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        p.renamed_columns(&first),
        [pair("z", "a"), pair("k", "l")],
        "downstream has z and k"
    );
    assert!(p.renamed_columns(&who("dn2", 3)).is_empty());
}

#[test]
fn expanding_with_the_first_contracting_with_the_last() {
    use Verdict::{Absorbed, Emit, Wait};
    let mut p = Pending::default();
    assert_eq!(
        run(&mut p, ORDER, "ALTER TABLE # ADD c INT"),
        [Emit, Absorbed, Absorbed, Absorbed]
    );
    assert_eq!(
        run(&mut p, ORDER, "ALTER TABLE # DROP c"),
        [Wait, Wait, Wait, Emit]
    );
    assert_eq!(
        run(&mut p, ORDER, "CREATE TABLE # (id INT)"),
        [Emit, Absorbed, Absorbed, Absorbed]
    );
    assert!(p.is_empty(), "{p:?}");
}

#[test]
fn a_statement_may_come_again_before_all_have_it() {
    use Verdict::{Absorbed, Emit, Wait};
    let (mut p, add, drop) = (
        Pending::default(),
        "ALTER TABLE # ADD c INT",
        "ALTER TABLE # DROP c",
    );
    let mut see = |table, node, sql| p.observe(&unit(table, sql), &who(node, table), &all(), 1);
    let steps = [
        (1, "dn1", add, Emit),
        (1, "dn1", drop, Wait),
        (1, "dn1", add, Emit),
    ];
    for (table, node, sql, want) in steps {
        assert_eq!(see(table, node, sql), want);
    }
    for (table, node) in [(2, "dn1"), (3, "dn2"), (4, "dn2")] {
        assert_eq!(see(table, node, add), Absorbed);
        assert_eq!(see(table, node, drop), if table == 4 { Emit } else { Wait });
        assert_eq!(see(table, node, add), Absorbed);
    }
    assert!(p.is_empty());
}

#[test]
fn the_stuck_are_named_and_state_survives() {
    let mut p = Pending::default();
    p.observe(
        &unit(1, "ALTER TABLE # RENAME COLUMN a TO b"),
        &who("dn1", 1),
        &all(),
        5,
    );
    p.observe(&unit(3, "TRUNCATE #"), &who("dn2", 3), &all(), 6);
    let json = serde_json::to_string(&p).unwrap();
    let mut p: Pending = serde_json::from_str(&json).unwrap();
    let stuck = p.statements(&|_, _| all());
    assert_eq!(stuck.len(), 2);
    let rename = stuck
        .iter()
        .find(|s| s.statement.contains("RENAME"))
        .unwrap();
    assert_eq!(rename.tables, ["s.t"]);
    assert_eq!(rename.have, [who("dn1", 1)]);
    assert_eq!(rename.missing.len(), 3);
    assert_eq!((rename.since, rename.emitted), (5, false));
    assert_eq!(
        p.renamed_columns(&who("dn1", 1)),
        [("a".to_owned(), "b".to_owned())]
    );
    assert!(p.renamed_columns(&who("dn1", 2)).is_empty());
    assert!(
        p.rows_would_be_lost(&who("dn2", 3))
            .unwrap()
            .contains("TRUNCATE")
    );
    assert!(p.rows_would_be_lost(&who("dn1", 1)).is_none());
    // The others are gone for good: what waited for them is due.
    let gone = |x: &Participant| *x != who("dn2", 3);
    let due = p.forget(&gone, false, &|_, _| all());
    assert_eq!(due.len(), 1);
    assert!(due[0].1.contains("TRUNCATE"));
}

#[test]
fn a_new_part_has_had_what_its_definition_shows() {
    let table = |columns: &str| {
        let sql = format!("CREATE TABLE t_9 (id INT PRIMARY KEY{columns})");
        let statement = Statement::parse(&sql, Session::in_schema("s_1"));
        match &statement.kind {
            Kind::CreateTable(create) => create.table(crate::Collation::DEFAULT).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let logical = ("s".to_owned(), "t".to_owned());
    let new = who("dn1", 9);
    let everyone = || [all(), vec![new.clone()]].concat();
    let (add, drop) = ("ALTER TABLE # ADD c INT", "ALTER TABLE # DROP c");
    for (columns, had) in [(", c INT", 1), ("", 2)] {
        let mut p = Pending::default();
        p.observe(&unit(1, add), &who("dn1", 1), &all(), 1);
        p.observe(&unit(1, drop), &who("dn1", 1), &all(), 2);
        p.born(&new, &logical, &table(columns));
        let missing = p.statements(&|_, _| everyone()).into_iter();
        let missing = missing.filter(|s| !s.missing.contains(&new)).count();
        assert_eq!(missing, had, "{columns}");
    }
    // It adds the column, so it had neither.
    let mut p = Pending::default();
    p.observe(&unit(1, add), &who("dn1", 1), &all(), 1);
    p.observe(&unit(1, drop), &who("dn1", 1), &all(), 2);
    p.born(&new, &logical, &table(""));
    p.came(&new, &["C".to_owned()]);
    assert!(p.is_behind(&unit(1, add).identity, &new));
    assert!(p.is_behind(&unit(1, drop).identity, &new));
    assert_eq!(p.columns_to_come(&new, &logical)[0].name, "c");
    // A key on a column that is called something else now.
    let mut p = Pending::default();
    p.observe(
        &unit(1, "ALTER TABLE # ADD KEY k (a)"),
        &who("dn1", 1),
        &all(),
        1,
    );
    p.observe(
        &unit(1, "ALTER TABLE # RENAME COLUMN a TO b"),
        &who("dn1", 1),
        &all(),
        2,
    );
    let mut other = p.clone();
    p.born(&new, &logical, &table(", b INT, KEY k (b)"));
    assert_eq!(p.renamed_columns(&new).len(), 1);
    assert!(
        p.statements(&|_, _| everyone())
            .iter()
            .all(|s| !s.missing.contains(&new))
    );
    other.born(&new, &logical, &table(", a INT"));
    assert!(
        other
            .statements(&|_, _| everyone())
            .iter()
            .all(|s| s.missing.contains(&new))
    );
}

#[test]
fn local_statements_are_dropped() {
    let mut p = Pending::default();
    let grant = Statement::parse("GRANT SELECT ON *.* TO a", Session::in_schema(""));
    let units = grant
        .units(&routes(), NameCase::Exact, &|_, _| None)
        .unwrap();
    assert_eq!(
        p.observe(&units[0], &who("dn1", 1), &[], 1),
        Verdict::Dropped
    );
}
