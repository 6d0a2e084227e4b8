//! A history against replaying everything.

use proptest::prelude::*;

use super::*;
use crate::ddl::Session;

fn moment(gno: u64) -> Moment {
    let key = OrderKey::distributed(Tso::new(gno * 10).unwrap());
    Moment {
        gno,
        key: key.into(),
        commit_time: gno * 1000,
    }
}

fn run(history: &mut History, gno: u64, sql: &str) -> Record {
    let statement = Statement::parse(sql, Session::in_schema("s"));
    let record = history.record(moment(gno), &statement);
    history.apply(record.clone()).unwrap();
    record
}

#[test]
fn every_point_has_its_tables() {
    let mut h = History::new(Collation::DEFAULT);
    for (gno, sql) in [
        (1, "CREATE DATABASE s CHARSET latin1"),
        (2, "CREATE TABLE t (a INT PRIMARY KEY, v VARCHAR(3))"),
        (4, "ALTER TABLE t ADD b INT"),
        (5, "RENAME TABLE t TO u, u TO x"),
        (7, "CREATE TABLE y LIKE x"),
        (8, "CREATE VIEW v AS SELECT * FROM y"),
        (9, "DROP DATABASE s"),
    ] {
        let record = run(&mut h, gno, sql);
        assert!(record.problems.is_empty(), "{record:?}");
    }
    let columns = |name: &str, gno| h.table("s", name, gno).map(|t| t.columns.len());
    assert_eq!(
        (
            columns("t", 1),
            columns("t", 2),
            columns("t", 3),
            columns("t", 4)
        ),
        (None, Some(2), Some(2), Some(3))
    );
    assert_eq!(
        (columns("t", 5), columns("u", 5), columns("x", 5)),
        (None, None, Some(3))
    );
    assert_eq!((columns("y", 8), columns("y", 9)), (Some(3), None));
    assert!(matches!(h.object("s", "v", 8), Some(Object::View(_))));
    let set = h.table("s", "t", 2).unwrap().columns[1].collation;
    assert_eq!(
        set.name(),
        Some("latin1_swedish_ci"),
        "the database's default"
    );
    assert_eq!(h.gno_at_tso(Tso::new(45).unwrap()), 4);
    assert_eq!(h.gno_at_time(5500), 5);
    assert_eq!(h.gno_at_key(&moment(7).key), 7);
    assert_eq!(h.gno_at_tso(Tso::new(9).unwrap()), 0);
    assert_eq!(h.objects(8).count(), 3);
    assert_eq!(h.schemas(9).count(), 0);
    let old = h.table("s", "t", 2).unwrap();
    assert_eq!(
        diff(old, h.table("s", "t", 4).unwrap()),
        ["+  `b` int DEFAULT NULL"]
    );
}

#[test]
fn what_is_not_known_is_said() {
    let mut h = History::new(Collation::DEFAULT);
    let record = run(&mut h, 1, "ALTER TABLE nowhere ADD a INT");
    assert_eq!(record.problems, ["s.nowhere is altered, but not known"]);
    let record = run(&mut h, 2, "CREATE TABLE q AS SELECT 1 AS a");
    assert_eq!(record.problems.len(), 1);
    assert!(matches!(h.object("s", "q", 2), Some(Object::Opaque(_))));
    let Kind::CreateTable(create) =
        Statement::parse("CREATE TABLE q (a INT)", Session::in_schema("s")).kind
    else {
        panic!()
    };
    let table = create.table(Collation::DEFAULT).unwrap();
    h.apply(History::learned(moment(2), "s", table)).unwrap();
    assert!(h.table("s", "q", 2).is_some());
    let early = h.apply(Record {
        at: moment(1),
        ..record
    });
    assert!(matches!(
        early,
        Err(HistoryError::OutOfOrder { gno: 1, last: 2 })
    ));
    assert!(History::from_snapshot(b"{}").is_err() && Record::from_bytes(b"[]").is_err());
}

#[test]
fn satisfied_statements() {
    let mut h = History::new(Collation::DEFAULT);
    run(&mut h, 1, "CREATE DATABASE s");
    run(&mut h, 2, "CREATE TABLE t (a INT)");
    let done = |sql: &str| h.is_satisfied(&Statement::parse(sql, Session::in_schema("s")));
    assert!(
        done("create table `t` (`a` int)") && done("CREATE DATABASE s") && done("DROP TABLE u")
    );
    assert!(
        done("CREATE TABLE t (a INT, b INT)"),
        "a part with another definition"
    );
    assert!(!done("CREATE TABLE u (a INT)") && !done("DROP TABLE t") && !done("DROP DATABASE s"));
    let differences = |sql: &str| h.differences(&Statement::parse(sql, Session::in_schema("s")));
    assert!(differences("create table `t` (`a` int)").is_empty());
    let lines = differences("CREATE TABLE t (a INT, b INT)");
    assert_eq!(lines, ["+  `b` int DEFAULT NULL"]);
}

fn statement() -> impl Strategy<Value = String> {
    let name = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let column = || prop_oneof![Just("x"), Just("y"), Just("z")];
    prop_oneof![
        3 => name().prop_map(|t| format!("CREATE TABLE {t} (id INT PRIMARY KEY, x INT)")),
        3 => (name(), column()).prop_map(|(t, c)| format!("ALTER TABLE {t} ADD {c} VARCHAR(9)")),
        2 => (name(), column()).prop_map(|(t, c)| format!("ALTER TABLE {t} DROP {c}")),
        2 => (name(), column()).prop_map(|(t, c)| format!("ALTER TABLE {t} MODIFY {c} BIGINT FIRST")),
        2 => (name(), name()).prop_map(|(t, u)| format!("RENAME TABLE {t} TO {u}")),
        1 => name().prop_map(|t| format!("DROP TABLE IF EXISTS {t}")),
        1 => (name(), name()).prop_map(|(t, u)| format!("CREATE TABLE {t} LIKE {u}")),
        1 => Just("DROP DATABASE s".to_owned()),
        1 => Just("CREATE DATABASE s".to_owned()),
    ]
}

type Answers = (Vec<(String, String, Object)>, Vec<(String, Collation)>);

fn answers(h: &History, gno: u64) -> Answers {
    let objects = h
        .objects(gno)
        .map(|(s, n, o)| (s.to_owned(), n.to_owned(), o.clone()));
    let schemas = h.schemas(gno).map(|(s, c)| (s.to_owned(), c));
    (objects.collect(), schemas.collect())
}

proptest! {
    #[test]
    fn snapshot_compaction_and_records_equal_a_replay_from_zero(
        statements in proptest::collection::vec(statement(), 1..30),
        cut in any::<prop::sample::Index>(),
        horizon in any::<prop::sample::Index>(),
    ) {
        let mut whole = History::new(Collation::DEFAULT);
        let mut records = Vec::new();
        for (gno, sql) in (1..).zip(&statements) {
            records.push(run(&mut whole, gno, sql).to_bytes().unwrap());
        }
        // Replaying what was stored.
        let mut replayed = History::new(Collation::DEFAULT);
        let cut = cut.index(records.len());
        let (before, after) = records.split_at(cut);
        for bytes in before {
            replayed.apply(Record::from_bytes(bytes).unwrap()).unwrap();
        }
        // A snapshot, compacted, and what follows it.
        let horizon = horizon.index(cut + 1) as u64;
        let mut compacted = History::from_snapshot(&replayed.to_snapshot().unwrap()).unwrap();
        prop_assert_eq!(&compacted, &replayed);
        compacted.compact(horizon);
        for bytes in after {
            let record = Record::from_bytes(bytes).unwrap();
            replayed.apply(record.clone()).unwrap();
            let statement = Statement::parse(&record.sql, Session::in_schema(&record.schema));
            prop_assert_eq!(&compacted.record(record.at, &statement), &record);
            compacted.apply(record).unwrap();
        }
        prop_assert_eq!(&replayed, &whole);
        for gno in horizon..=statements.len() as u64 {
            prop_assert_eq!(answers(&compacted, gno), answers(&whole, gno), "at {}", gno);
            let key = moment(gno).key;
            prop_assert_eq!(compacted.gno_at_key(&key), whole.gno_at_key(&key));
        }
    }
}

#[test]
fn foreign_keys_follow_what_they_lead_to() {
    let mut h = History::new(Collation::DEFAULT);
    let steps = [
        "CREATE DATABASE s",
        "CREATE TABLE p (id INT PRIMARY KEY, up INT, KEY (up), FOREIGN KEY (up) REFERENCES p (id))",
        "CREATE TABLE c (p INT, FOREIGN KEY (p) REFERENCES p (id))",
        "CREATE TABLE o.c (p INT, FOREIGN KEY (p) REFERENCES s.p (id))",
        "ALTER TABLE p RENAME COLUMN id TO no, RENAME COLUMN up TO parent",
        "RENAME TABLE p TO q, c TO d",
        "ALTER TABLE q RENAME TO o.r",
        "RENAME TABLE o.c TO s.e",
    ];
    for (gno, sql) in (1..).zip(steps) {
        let record = run(&mut h, gno, sql);
        assert!(record.problems.is_empty(), "{record:?}");
    }
    let leads = |schema: &str, name: &str, gno: u64| {
        let create = h.table(schema, name, gno).unwrap().show_create();
        let at = create.find("FOREIGN KEY").unwrap();
        create[at..].lines().next().unwrap().to_owned()
    };
    let of = |columns: &str, to: &str| format!("FOREIGN KEY (`{columns}`) REFERENCES {to}");
    assert_eq!(leads("s", "p", 4), of("up", "`p` (`id`)"));
    assert_eq!(leads("s", "p", 5), of("parent", "`p` (`no`)"));
    assert_eq!(leads("s", "c", 5), of("p", "`p` (`no`)"));
    assert_eq!(leads("s", "d", 6), of("p", "`q` (`no`)"));
    assert_eq!(leads("o", "c", 6), of("p", "`s`.`q` (`no`)"));
    assert_eq!(leads("s", "d", 7), of("p", "`o`.`r` (`no`)"));
    assert_eq!(leads("o", "c", 7), of("p", "`r` (`no`)"));
    assert_eq!(leads("s", "e", 8), of("p", "`o`.`r` (`no`)"));
    assert_eq!(leads("o", "r", 7), of("parent", "`r` (`no`)"));
}
