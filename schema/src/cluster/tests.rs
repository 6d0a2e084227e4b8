//! Stories of clusters.

use tributary_flow::OrderKey;

use super::*;
use crate::ddl::DdlProblem;
use crate::reshape::Layout;
use crate::route::RouteRule;

struct Story {
    schema: ClusterSchema,
    gno: u64,
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    notes: Vec<String>,
}

fn rules(routes: &[RouteRule]) -> SchemaRules {
    SchemaRules {
        routes: Arc::new(Routes::compile(routes).unwrap()),
        accounts: false,
    }
}

fn map(from: &str, to: &str) -> RouteRule {
    RouteRule::Map {
        from: from.to_owned(),
        to: to.to_owned(),
    }
}

impl Story {
    fn new(routes: &[RouteRule], nodes: &[&str]) -> Self {
        let mut schema = ClusterSchema::new(rules(routes), nodes.iter().copied());
        nodes.iter().for_each(|n| schema.begins(n));
        Self {
            schema,
            gno: 0,
            pairs: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    fn at(&self) -> Moment {
        Moment {
            gno: self.gno + 1,
            key: OrderKey::MIN.into(),
            commit_time: self.gno,
        }
    }

    fn try_ddl(&mut self, node: &str, schema: &str, sql: &str) -> Result<Vec<String>, DdlProblem> {
        let out = self.emitted(node, schema, sql)?;
        Ok(out.into_iter().map(|e| e.sql).collect())
    }

    fn emitted(&mut self, node: &str, schema: &str, sql: &str) -> Result<Vec<Emitted>, DdlProblem> {
        let source = SourceStatement {
            node,
            schema,
            sql,
            sql_mode: 0,
            server_collation: Some(255),
        };
        let out = self.schema.statement(&source, self.at())?;
        self.gno += out.len() as u64;
        self.notes.extend(self.schema.take_notes());
        self.restart();
        Ok(out)
    }

    fn ddl(&mut self, node: &str, schema: &str, sql: &str) -> Vec<String> {
        self.try_ddl(node, schema, sql).unwrap()
    }

    /// Everything is stored, and read again: nothing changes by it.
    fn restart(&mut self) {
        for (key, value) in self.schema.take_writes() {
            match value {
                Some(value) => self.pairs.insert(key, value),
                None => self.pairs.remove(&key),
            };
        }
        let pairs: Vec<_> = self.pairs.clone().into_iter().collect();
        let nodes: Vec<String> = self.schema.nodes.keys().cloned().collect();
        let nodes = nodes.iter().map(String::as_str);
        let again = ClusterSchema::restore(self.schema.rules.clone(), nodes, &pairs).unwrap();
        assert_eq!(again.pending, self.schema.pending);
        assert_eq!(again.parts, self.schema.parts);
        assert_eq!(again.aliases, self.schema.aliases);
        assert_eq!(again.copies, self.schema.copies);
        assert_eq!(again.logical, self.schema.logical);
        assert_eq!(stored_history(&pairs).unwrap(), self.schema.logical);
        for (name, node) in &self.schema.nodes {
            let (a, b) = (&node.catalog, &again.nodes[name].catalog);
            assert!(a.objects(u64::MAX).eq(b.objects(u64::MAX)), "{name}");
            assert!(a.schemas(u64::MAX).eq(b.schemas(u64::MAX)), "{name}");
        }
        self.schema = again;
    }

    /// What becomes of the rows of a node's table as it is now.
    fn target(&mut self, node: &str, schema: &str, table: &str) -> Result<Target, RowsProblem> {
        let physical = self.schema.physical(node, schema, table).unwrap();
        let layout = Layout::of_table(physical);
        let body = layout.table_map(7, 1, schema.as_bytes(), table.as_bytes());
        let at = self.at();
        let map = tributary_binlog::TableMap::parse(&body).unwrap();
        self.schema.target(node, &map, at)
    }

    fn logical(&self, schema: &str, table: &str) -> String {
        let table = self.schema.history().table(schema, table, u64::MAX);
        table.unwrap().show_create()
    }
}

const NONE: [&str; 0] = [];

fn sharded() -> Story {
    let routes = [
        map("s_*.t_*", "s.t"),
        RouteRule::Ignore {
            from: "tmp_*".into(),
        },
    ];
    let mut story = Story::new(&routes, &["dn1", "dn2"]);
    assert_eq!(
        story.ddl("dn1", "", "CREATE DATABASE s_1"),
        ["CREATE DATABASE `s`"]
    );
    assert_eq!(story.ddl("dn2", "", "CREATE DATABASE s_2"), NONE);
    let create = |n: u32| format!("CREATE TABLE t_{n} (id INT PRIMARY KEY, v VARCHAR(10))");
    let first = story.ddl("dn2", "s_2", &create(3));
    assert_eq!(
        first,
        ["CREATE TABLE `t` (id INT PRIMARY KEY, v VARCHAR(10))"]
    );
    for (node, schema, n) in [("dn1", "s_1", 1), ("dn1", "s_1", 2), ("dn2", "s_2", 4)] {
        assert_eq!(story.ddl(node, schema, &create(n)), NONE);
    }
    assert_eq!(
        story.schema.waiting_len(),
        0,
        "{:?}",
        story.schema.waiting()
    );
    story
}

#[test]
fn four_tables_are_one_and_change_one_by_one() {
    let mut s = sharded();
    assert!(
        matches!(s.target("dn1", "s_1", "t_1"), Ok(Target::Into(into)) if into.plan.is_none()
        && into.schema == b"s" && into.table == b"t")
    );
    assert_eq!(
        s.ddl("dn1", "s_1", "ALTER TABLE t_1 ADD c INT DEFAULT 5"),
        ["ALTER TABLE `t` ADD c INT DEFAULT 5"]
    );
    // Rows of those that have it are as they are, those of the others are filled.
    for (node, schema, table, filled) in [("dn1", "s_1", "t_1", 0), ("dn2", "s_2", "t_3", 1)] {
        let Ok(Target::Into(into)) = s.target(node, schema, table) else {
            panic!("{table}");
        };
        let plan = into.plan.as_ref().map_or(0, |p| p.filled_columns().count());
        assert_eq!(plan, filled, "{table}");
    }
    let waiting = s.schema.waiting();
    assert_eq!(
        (
            waiting.len(),
            waiting[0].have.len(),
            waiting[0].missing.len()
        ),
        (1, 1, 3)
    );
    assert!(waiting[0].emitted);
    for (node, schema, n) in [("dn2", "s_2", 3), ("dn1", "s_1", 2), ("dn2", "s_2", 4)] {
        assert_eq!(
            s.ddl(
                node,
                schema,
                &format!("ALTER TABLE t_{n} ADD c INT DEFAULT 5")
            ),
            NONE
        );
    }
    assert_eq!(s.schema.waiting_len(), 0);
    // The other way round: the last has it first.
    for (node, schema, n) in [("dn2", "s_2", 3), ("dn1", "s_1", 2), ("dn2", "s_2", 4)] {
        assert_eq!(
            s.ddl(node, schema, &format!("alter table `t_{n}` drop column c")),
            NONE
        );
    }
    let last = s.ddl("dn1", "s_1", "ALTER TABLE s_1.t_1 DROP c");
    assert_eq!(last, ["ALTER TABLE `s`.`t` DROP c"]);
    assert!(!s.logical("s", "t").contains("`c`"));
}

#[test]
fn a_part_that_is_made_later_is_not_waited_for() {
    let mut s = sharded();
    assert_eq!(s.ddl("dn1", "s_1", "ALTER TABLE t_1 ADD c INT").len(), 1);
    assert_eq!(s.ddl("dn2", "s_2", "ALTER TABLE t_3 DROP v"), NONE);
    let new = "CREATE TABLE t_5 (id INT PRIMARY KEY, c INT)";
    assert_eq!(s.ddl("dn1", "s_1", new), NONE);
    for (node, schema, n) in [("dn1", "s_1", 2), ("dn2", "s_2", 3), ("dn2", "s_2", 4)] {
        assert_eq!(
            s.ddl(node, schema, &format!("ALTER TABLE t_{n} ADD c INT")),
            NONE
        );
    }
    assert_eq!(s.schema.waiting_len(), 1, "{:?}", s.schema.waiting());
    assert_eq!(s.ddl("dn1", "s_1", "ALTER TABLE t_1 DROP v"), NONE);
    assert_eq!(s.ddl("dn2", "s_2", "ALTER TABLE t_4 DROP v"), NONE);
    // The one that has not had it goes: what waits for it is due.
    assert_eq!(
        s.ddl("dn1", "s_1", "DROP TABLE t_2"),
        ["ALTER TABLE `t` DROP v"]
    );
    let waiting = s.schema.waiting();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].statement, "DROP TABLE `t`");
    assert_eq!((waiting[0].have.len(), waiting[0].missing.len()), (1, 4));
    for (node, schema, n) in [("dn1", "s_1", 1), ("dn1", "s_1", 5), ("dn2", "s_2", 3)] {
        assert_eq!(s.ddl(node, schema, &format!("DROP TABLE t_{n}")), NONE);
    }
    assert_eq!(s.ddl("dn2", "s_2", "DROP TABLE t_4"), ["DROP TABLE `t`"]);
    assert_eq!(s.schema.waiting_len(), 0, "{:?}", s.schema.waiting());
}

#[test]
fn a_database_is_dropped_with_its_last_part() {
    let mut s = sharded();
    assert_eq!(s.ddl("dn1", "", "DROP DATABASE s_1"), NONE);
    assert_eq!(s.ddl("dn2", "", "DROP DATABASE s_2"), ["DROP DATABASE `s`"]);
    assert_eq!(s.schema.waiting_len(), 0, "{:?}", s.schema.waiting());
    assert_eq!(s.schema.history().objects(u64::MAX).count(), 0);
}

#[test]
fn rows_that_a_truncate_would_take_halt_by_name() {
    let mut s = sharded();
    assert_eq!(s.ddl("dn1", "s_1", "TRUNCATE t_1"), NONE);
    assert!(s.target("dn2", "s_2", "t_3").is_ok());
    let error = s.target("dn1", "s_1", "t_1").unwrap_err();
    assert!(error.to_string().contains("TRUNCATE `t`"), "{error}");
    assert_eq!(s.ddl("dn1", "s_1", "TRUNCATE t_2"), NONE);
    assert_eq!(s.ddl("dn2", "s_2", "TRUNCATE t_3"), NONE);
    assert_eq!(s.ddl("dn2", "s_2", "TRUNCATE t_4"), ["TRUNCATE `t`"]);
    assert!(s.target("dn1", "s_1", "t_1").is_ok());
}

#[test]
fn a_table_with_a_new_name_keeps_its_rows() {
    let mut s = Story::new(&[], &["dn1", "dn2"]);
    s.ddl("dn1", "", "CREATE DATABASE s");
    s.ddl("dn2", "", "CREATE DATABASE s");
    s.ddl("dn1", "s", "CREATE TABLE a (id INT PRIMARY KEY)");
    s.ddl("dn2", "s", "CREATE TABLE a (id INT PRIMARY KEY)");
    assert!(matches!(s.target("dn1", "s", "a"), Ok(Target::Same)));
    assert_eq!(s.ddl("dn1", "s", "RENAME TABLE a TO b"), NONE);
    assert!(matches!(s.target("dn1", "s", "b"), Ok(Target::Into(into)) if into.table == b"a"));
    assert!(matches!(s.target("dn2", "s", "a"), Ok(Target::Same)));
    assert_eq!(
        s.ddl("dn2", "s", "RENAME TABLE a TO b"),
        ["RENAME TABLE a TO b"]
    );
    assert!(matches!(s.target("dn1", "s", "b"), Ok(Target::Same)));
    assert!(matches!(s.target("dn2", "s", "b"), Ok(Target::Same)));
    assert!(s.schema.aliases.is_empty());
    // Changed and renamed again under the new name, before the other has it.
    assert_eq!(s.ddl("dn1", "s", "RENAME TABLE b TO b2"), NONE);
    assert_eq!(
        s.ddl("dn1", "s", "ALTER TABLE b2 ADD n INT"),
        ["ALTER TABLE `s`.`b` ADD n INT"]
    );
    assert_eq!(s.ddl("dn1", "s", "RENAME TABLE b2 TO b3"), NONE);
    assert!(matches!(s.target("dn1", "s", "b3"), Ok(Target::Into(into)) if into.table == b"b"));
    assert_eq!(
        s.ddl("dn2", "s", "RENAME TABLE b TO b2"),
        ["RENAME TABLE b TO b2"]
    );
    assert!(matches!(s.target("dn1", "s", "b3"), Ok(Target::Into(into)) if into.table == b"b2"));
    assert_eq!(s.ddl("dn2", "s", "ALTER TABLE b2 ADD n INT"), NONE);
    assert_eq!(s.ddl("dn2", "s", "RENAME TABLE b2 TO b3").len(), 1);
    assert_eq!(s.schema.waiting_len(), 0, "{:?}", s.schema.waiting());
    assert!(s.schema.aliases.is_empty());
    s.ddl("dn1", "s", "RENAME TABLE b3 TO b");
    s.ddl("dn2", "s", "RENAME TABLE b3 TO b");
    let both = "ALTER TABLE b RENAME TO c, ADD x INT";
    assert_eq!(s.ddl("dn2", "s", both), ["ALTER TABLE b ADD x INT"]);
    assert_eq!(s.ddl("dn1", "s", both), ["ALTER TABLE b RENAME TO c"]);
    assert_eq!(s.schema.waiting_len(), 0, "{:?}", s.schema.waiting());
}

#[test]
fn copies_come_from_one_node() {
    let routes = [RouteRule::Broadcast {
        from: "s.city".into(),
        to: None,
    }];
    let mut s = Story::new(&routes, &["dn1", "dn2", "dn3"]);
    let create = "CREATE TABLE s.city (id INT PRIMARY KEY)";
    assert_eq!(s.ddl("dn2", "", create).len(), 1);
    assert_eq!(s.ddl("dn1", "", create), NONE);
    assert!(matches!(s.target("dn2", "s", "city"), Ok(Target::Same)));
    assert!(matches!(s.target("dn1", "s", "city"), Ok(Target::Dropped)));
    assert_eq!(s.ddl("dn1", "", "TRUNCATE s.city"), NONE);
    assert_eq!(s.ddl("dn2", "", "TRUNCATE s.city").len(), 1);
    // A node is called something else, another is gone.
    s.schema.take_writes();
    let pairs: Vec<_> = s.pairs.clone().into_iter().collect();
    let renamed = BTreeMap::from([("dn1".to_owned(), "dn9".to_owned())]);
    let rules = s.schema.rules.clone();
    s.schema = ClusterSchema::resume(rules, ["dn3", "dn9"], &renamed, &pairs).unwrap();
    s.restart();
    assert!(matches!(s.target("dn9", "s", "city"), Ok(Target::Same)));
    assert_eq!(s.schema.nodes.keys().collect::<Vec<_>>(), ["dn3", "dn9"]);
    assert!(s.schema.physical("dn2", "s", "city").is_none());
}

#[test]
fn what_is_ignored_and_what_is_local_does_not_flow() {
    let mut s = sharded();
    assert_eq!(s.ddl("dn1", "", "CREATE DATABASE tmp_1"), NONE);
    assert_eq!(s.ddl("dn1", "tmp_1", "CREATE TABLE x (id INT)"), NONE);
    assert_eq!(s.ddl("dn1", "s_1", "CREATE USER u"), NONE);
    assert_eq!(s.ddl("dn1", "s_1", "ANALYZE TABLE t_1"), NONE);
    assert!(matches!(s.target("dn1", "tmp_1", "x"), Ok(Target::Dropped)));
    let error = s
        .try_ddl("dn1", "s_1", "RENAME TABLE t_1 TO tmp_1.t_1")
        .unwrap_err();
    assert!(
        matches!(error, DdlProblem::RenamedAcrossRoutes { .. }),
        "{error}"
    );
}

#[test]
fn tables_that_were_there_before_are_learned() {
    let rules = rules(&[map("s_*.t_*", "s.t")]);
    let mut schema = ClusterSchema::new(rules, ["dn1", "dn2"]);
    let sql = |extra: &str| {
        format!(
            "CREATE TABLE `t` (\n  `id` int NOT NULL,\n  {extra}PRIMARY KEY (`id`)\n) ENGINE=InnoDB"
        )
    };
    let tables = |schema: &str, tables: &[(&str, &str)]| NodeTables {
        complete: true,
        lower_case_table_names: 0,
        server_collation: Some(255),
        databases: vec![(schema.to_owned(), "utf8mb4_0900_ai_ci".to_owned())],
        tables: (tables.iter())
            .map(|(name, extra)| (schema.to_owned(), (*name).to_owned(), sql(extra)))
            .collect(),
    };
    let mut s = {
        let at = Moment {
            gno: 0,
            key: OrderKey::MIN.into(),
            commit_time: 0,
        };
        schema.learn("dn1", &tables("s_1", &[("t_1", ""), ("t_2", "")]), at);
        schema.learn(
            "dn2",
            &tables("s_2", &[("t_3", "`c` int DEFAULT NULL,\n  ")]),
            at,
        );
        Story {
            schema,
            gno: 0,
            pairs: BTreeMap::new(),
            notes: Vec::new(),
        }
    };
    s.restart();
    assert!(s.logical("s", "t").contains("CREATE TABLE `t`"));
    // One has a column more than the first, which the logical table lacks.
    let Ok(Target::Into(into)) = s.target("dn2", "s_2", "t_3") else {
        panic!()
    };
    assert_eq!(into.plan.as_ref().map(|p| p.cut_columns().len()), Some(1));
    let told = s.schema.take_notes();
    assert!(
        told.iter()
            .any(|n| n.contains("s_2.t_3 on node dn2") && n.contains("(`c`)")),
        "{told:?}"
    );
    assert!(s.target("dn2", "s_2", "t_3").is_ok());
    assert_eq!(s.schema.take_notes(), NONE, "it is told once");
    assert_eq!(s.ddl("dn1", "s_1", "ALTER TABLE t_1 ADD c INT").len(), 1);
    assert_eq!(s.ddl("dn1", "s_1", "ALTER TABLE t_2 ADD c INT"), NONE);
    let Ok(Target::Into(into)) = s.target("dn2", "s_2", "t_3") else {
        panic!()
    };
    assert!(into.plan.is_none(), "{into:?}");
}

#[test]
fn what_was_stored_and_is_damaged_is_an_error() {
    let mut s = sharded();
    s.ddl("dn1", "s_1", "ALTER TABLE t_1 ADD c INT");
    let pairs: Vec<_> = s.pairs.clone().into_iter().collect();
    for at in 0..pairs.len() {
        let mut bad = pairs.clone();
        let half = bad[at].1.len() / 2;
        bad[at].1.truncate(half);
        bad[at].1.push(b'#');
        let again = ClusterSchema::restore(SchemaRules::default(), ["dn1"], &bad);
        assert!(
            matches!(again, Err(StateError::Unreadable { .. })),
            "{:?}",
            bad[at].0
        );
    }
    let mut without: Vec<_> = pairs.clone();
    let first = without.iter().position(|(k, _)| k[0] == b'H').unwrap();
    without.remove(first);
    assert!(ClusterSchema::restore(SchemaRules::default(), ["dn1"], &without).is_err());
}

#[test]
fn snapshots_change_nothing() {
    let mut s = sharded();
    for n in 0..2400 {
        s.schema.snapshot();
        let sql = format!("ALTER TABLE t_{} COMMENT '{}'", 1 + n % 2, n / 2);
        let source = SourceStatement {
            node: "dn1",
            schema: "s_1",
            sql: &sql,
            sql_mode: 0,
            server_collation: None,
        };
        let at = s.at();
        s.gno += s.schema.statement(&source, at).unwrap().len() as u64;
    }
    s.restart();
    assert!(s.pairs.keys().any(|k| k[0] == b'S'));
    s.schema.compact(s.gno - 5);
    s.restart();
    assert!(s.pairs.keys().all(|k| k[0] != b'H'));
}

/// Found with real nodes: a `MODIFY` that says nothing but a place was taken to be had by whoever has the column.
#[test]
fn a_column_that_only_moves_moves_downstream() {
    let mut story = Story::new(&[map("s_*.t", "s.t")], &["a", "b"]);
    for (node, schema) in [("a", "s_1"), ("b", "s_2")] {
        story.ddl(node, schema, &format!("CREATE DATABASE {schema}"));
        let create = "CREATE TABLE t (id INT PRIMARY KEY, x INT, y INT)";
        story.ddl(node, schema, create);
    }
    for (sql, columns) in [
        ("ALTER TABLE t MODIFY y INT FIRST", ["y", "id", "x"]),
        ("ALTER TABLE t MODIFY y INT AFTER id", ["id", "y", "x"]),
        ("ALTER TABLE t CHANGE x x INT AFTER id", ["id", "x", "y"]),
    ] {
        assert_eq!(story.ddl("a", "s_1", sql).len(), 1, "{sql}");
        assert_eq!(story.ddl("b", "s_2", sql), NONE);
        let table = story.schema.history().table("s", "t", u64::MAX);
        let names = table.unwrap().columns.iter().map(|c| c.name.as_str());
        assert!(names.eq(columns), "{sql}");
    }
    // Where it is already, nothing is to be done.
    let sql = "ALTER TABLE t MODIFY x INT AFTER id";
    assert_eq!(story.ddl("a", "s_1", sql), NONE);
}

/// Found by random programs: a `CHANGE` with the column's own definition is a rename like any other.
#[test]
fn behind_a_change_of_nothing_but_a_name_columns_are_still_added() {
    for rename in ["RENAME COLUMN x TO y", "CHANGE x y INT NOT NULL DEFAULT 3"] {
        let mut story = Story::new(&[map("s_*.t", "s.t")], &["a", "b"]);
        for (node, schema) in [("a", "s_1"), ("b", "s_2")] {
            story.ddl(node, schema, &format!("CREATE DATABASE {schema}"));
            let create = "CREATE TABLE t (id INT PRIMARY KEY, x INT NOT NULL DEFAULT 3)";
            story.ddl(node, schema, create);
        }
        assert_eq!(
            story.ddl("a", "s_1", &format!("ALTER TABLE t {rename}")),
            NONE
        );
        let add = story.ddl("a", "s_1", "ALTER TABLE t ADD z INT AFTER y");
        assert_eq!(add.len(), 1, "{rename}");
        let table = story.schema.history().table("s", "t", u64::MAX);
        let names = table.unwrap().columns.iter().map(|c| c.name.as_str());
        assert!(names.eq(["id", "x", "z"]), "{rename}");
        assert_eq!(
            story
                .ddl("b", "s_2", &format!("ALTER TABLE t {rename}"))
                .len(),
            1
        );
        assert_eq!(
            story.ddl("b", "s_2", "ALTER TABLE t ADD z INT AFTER y"),
            NONE
        );
        let table = story.schema.history().table("s", "t", u64::MAX);
        let names = table.unwrap().columns.iter().map(|c| c.name.as_str());
        assert!(names.eq(["id", "y", "z"]), "{rename}");
    }
}

/// Found by random programs: an index was written with the first part although its column has another name downstream.
#[test]
fn a_key_of_a_column_that_is_being_renamed_waits() {
    let mut story = Story::new(&[map("s_*.t", "s.t")], &["a", "b"]);
    for (node, schema) in [("a", "s_1"), ("b", "s_2")] {
        story.ddl(node, schema, &format!("CREATE DATABASE {schema}"));
        story.ddl(node, schema, "CREATE TABLE t (id INT PRIMARY KEY, x INT)");
    }
    let (rename, key) = (
        "ALTER TABLE t RENAME COLUMN x TO y",
        "ALTER TABLE t ADD INDEX k (y)",
    );
    assert_eq!(story.ddl("a", "s_1", rename), NONE);
    assert_eq!(story.ddl("a", "s_1", key), NONE);
    assert_eq!(story.ddl("b", "s_2", rename).len(), 1);
    assert_eq!(story.ddl("b", "s_2", key).len(), 1);
    assert!(story.logical("s", "t").contains("KEY `k` (`y`)"));
    // A key of a column that is there does not wait.
    let mut story = Story::new(&[map("s_*.t", "s.t")], &["a", "b"]);
    for (node, schema) in [("a", "s_1"), ("b", "s_2")] {
        story.ddl(node, schema, &format!("CREATE DATABASE {schema}"));
        story.ddl(node, schema, "CREATE TABLE t (id INT PRIMARY KEY, x INT)");
    }
    assert_eq!(story.ddl("a", "s_1", rename), NONE);
    assert_eq!(
        story
            .ddl("a", "s_1", "ALTER TABLE t ADD INDEX k (id)")
            .len(),
        1
    );
}

/// Two parts of `t`, one on each node.
fn two_parts(columns: &str) -> Story {
    let mut story = Story::new(&[map("s_*.t", "s.t")], &["a", "b"]);
    for (node, schema) in [("a", "s_1"), ("b", "s_2")] {
        story.ddl(node, schema, &format!("CREATE DATABASE {schema}"));
        story.ddl(node, schema, &format!("CREATE TABLE t ({columns})"));
    }
    story
}

/// Found by random programs: with a primary key, a column that only becomes nullable was taken to be so.
#[test]
fn a_column_that_only_becomes_nullable_does_so_downstream() {
    let mut story = two_parts("id INT PRIMARY KEY, x INT NOT NULL");
    let sql = "ALTER TABLE t MODIFY x INT NULL";
    assert_eq!(story.ddl("a", "s_1", sql).len(), 1);
    assert_eq!(story.ddl("b", "s_2", sql), NONE);
    // That of the key never is, whatever is said.
    let sql = "ALTER TABLE t MODIFY id INT NOT NULL FIRST";
    assert_eq!(story.ddl("a", "s_1", sql), NONE);
}

/// Found by random programs: what changes nothing of a part took back what another part had made of the column meanwhile.
#[test]
fn a_statement_without_effect_takes_nothing_back() {
    let mut story = two_parts("id INT PRIMARY KEY, x TINYINT, y INT");
    let (same, wider) = (
        "ALTER TABLE t MODIFY x TINYINT AFTER id",
        "ALTER TABLE t MODIFY x INT",
    );
    assert_eq!(story.ddl("a", "s_1", same), NONE);
    assert_eq!(story.ddl("a", "s_1", wider).len(), 1);
    assert_eq!(story.ddl("b", "s_2", same), NONE);
    assert!(story.logical("s", "t").contains("`x` int DEFAULT"));
    assert_eq!(story.ddl("b", "s_2", wider), NONE);
    assert!(story.logical("s", "t").contains("`x` int DEFAULT"));
    assert!(story.schema.waiting().is_empty());
}

/// Found by random programs: a column that a part has where the statement puts it was put there downstream, before the one that others
/// had put before it meanwhile.
#[test]
fn a_statement_that_moves_nothing_takes_no_place_back() {
    let mut story = two_parts("x INT, id INT PRIMARY KEY");
    let (same, add) = (
        "ALTER TABLE t MODIFY x INT FIRST",
        "ALTER TABLE t ADD COLUMN y INT FIRST",
    );
    assert_eq!(story.ddl("a", "s_1", same), NONE);
    assert_eq!(story.ddl("a", "s_1", add).len(), 1);
    assert_eq!(story.ddl("b", "s_2", same), NONE);
    assert_eq!(story.ddl("b", "s_2", add), NONE);
    let logical = story.logical("s", "t");
    assert!(logical.find("`y`") < logical.find("`x`"), "{logical}");
    assert!(story.schema.waiting().is_empty());
}

/// Found by random programs: a column that is widened behind a narrowing that waits ended narrow.
#[test]
fn what_comes_behind_a_definition_that_waits_is_not_undone_by_it() {
    let mut story = two_parts("id INT PRIMARY KEY, x INT");
    let (narrow, wide) = (
        "ALTER TABLE t MODIFY x TINYINT",
        "ALTER TABLE t MODIFY x BIGINT",
    );
    assert_eq!(story.ddl("a", "s_1", narrow), NONE);
    assert_eq!(story.ddl("a", "s_1", wide), NONE);
    assert_eq!(story.ddl("b", "s_2", narrow).len(), 1);
    assert_eq!(story.ddl("b", "s_2", wide).len(), 1);
    assert!(story.logical("s", "t").contains("`x` bigint"));
}

/// Found by random programs: a column that is renamed twice while another part has had neither was not found.
#[test]
fn a_column_with_its_third_name_is_still_the_first() {
    let mut story = two_parts("id INT PRIMARY KEY, x INT, y INT");
    for sql in [
        "ALTER TABLE t RENAME COLUMN x TO x2, RENAME COLUMN y TO y2",
        "ALTER TABLE t RENAME COLUMN x2 TO y2, RENAME COLUMN y2 TO x3",
        "ALTER TABLE t RENAME COLUMN y2 TO z",
    ] {
        assert_eq!(story.ddl("a", "s_1", sql), NONE);
    }
    let target = story.target("a", "s_1", "t").unwrap();
    let Target::Into(into) = target else {
        panic!("{target:?}");
    };
    let plan = into.plan.expect("the names differ");
    assert!(plan.cut_columns().is_empty(), "{plan:?}");
    assert_eq!(plan.filled_columns().count(), 0, "{plan:?}");
}

/// Found by random programs: with MINIMAL images a row has not what its insert left out, and downstream gave it a default that its
/// node does not have yet.
#[test]
fn what_an_insert_leaves_out_has_the_default_of_its_node() {
    let mut story = two_parts("id INT PRIMARY KEY, x INT DEFAULT 7");
    let sql = "ALTER TABLE t ALTER COLUMN x SET DEFAULT 9";
    assert_eq!(story.ddl("a", "s_1", sql).len(), 1);
    let plan = |story: &mut Story, node, schema| {
        let target = story.target(node, schema, "t").unwrap();
        let Target::Into(into) = target else {
            panic!("{target:?}");
        };
        into.plan
    };
    assert_eq!(plan(&mut story, "a", "s_1"), None);
    let (mut body, mut out) = (Vec::new(), Vec::new());
    let event_type = tributary_binlog::EventType::WRITE_ROWS;
    let rows = tributary_binlog::RowsHeader {
        event_type,
        table_id: 1,
        flags: 0,
        extra: &[],
        n_columns: 2,
        columns_before: &[0b01],
        columns_after: None,
        rows: &[0, 5, 0, 0, 0],
    };
    rows.put_body(&mut body);
    let own = plan(&mut story, "b", "s_2").expect("the defaults differ");
    own.rows(event_type, &body, 1, 0, &mut Default::default(), &mut out)
        .unwrap();
    let header = tributary_binlog::RowsHeader::parse(event_type, &out).unwrap();
    assert_eq!(header.columns_before, [0b11]);
    assert_eq!(header.rows, [0, 5, 0, 0, 0, 7, 0, 0, 0]);
    assert_eq!(story.ddl("b", "s_2", sql), NONE);
    assert_eq!(plan(&mut story, "b", "s_2"), None);
}

/// Found by random programs: a part that came with the narrowed column counted as one that has not had the column at all, and the
/// narrowing waited for it for ever.
#[test]
fn a_part_that_comes_with_the_newest_definition_has_had_all_of_them() {
    let mut story = two_parts("id INT PRIMARY KEY");
    let (add, narrow) = ("ALTER TABLE t ADD x INT", "ALTER TABLE t MODIFY x TINYINT");
    assert_eq!(story.ddl("a", "s_1", add).len(), 1);
    assert_eq!(story.ddl("a", "s_1", narrow), NONE);
    story.ddl("a", "s_3", "CREATE DATABASE s_3");
    let create = "CREATE TABLE t (id INT PRIMARY KEY, x TINYINT)";
    assert_eq!(story.ddl("a", "s_3", create), NONE);
    assert_eq!(story.ddl("b", "s_2", add), NONE);
    assert_eq!(story.ddl("b", "s_2", narrow).len(), 1);
    assert!(story.schema.waiting().is_empty());
}

/// Found by random programs (seed 828 of those between real servers): what only moves a column, and moves nothing, took the default
/// back that others had given it meanwhile.
#[test]
fn a_statement_that_moves_nothing_takes_no_default_back() {
    for then in ["SET DEFAULT 5", "SET INVISIBLE"] {
        let mut story = two_parts("id INT PRIMARY KEY, x INT");
        let (same, then) = (
            "ALTER TABLE t MODIFY x INT AFTER id",
            format!("ALTER TABLE t ALTER COLUMN x {then}"),
        );
        assert_eq!(story.ddl("a", "s_1", same), NONE);
        assert_eq!(story.ddl("a", "s_1", &then).len(), 1);
        let logical = story.logical("s", "t");
        for sql in [same, &then] {
            assert_eq!(story.ddl("b", "s_2", sql), NONE);
        }
        assert_eq!(story.logical("s", "t"), logical);
        assert!(story.schema.waiting().is_empty());
    }
}

/// Found by random programs (seed 1664 of those between real servers): a default was looked for as the statement has it, not as
/// servers show it.
#[test]
fn a_part_that_comes_with_a_default_that_others_were_given_has_had_it() {
    let mut story = two_parts("id INT PRIMARY KEY, x DECIMAL(30,6) DEFAULT 0.01");
    let steps = [
        "ALTER TABLE t RENAME COLUMN x TO y",
        "ALTER TABLE t ALTER COLUMN y SET DEFAULT 0",
    ];
    let of_a = steps.map(|sql| story.ddl("a", "s_1", sql).len());
    assert_eq!(of_a, [0, 0]);
    story.ddl("a", "s_3", "CREATE DATABASE s_3");
    let create = "CREATE TABLE t (id INT PRIMARY KEY, y DECIMAL(30,6) DEFAULT 0)";
    assert_eq!(story.ddl("a", "s_3", create), NONE);
    let of_b = steps.map(|sql| story.ddl("b", "s_2", sql).len());
    assert_eq!(of_b, [1, 1]);
    let logical = story.logical("s", "t");
    assert!(logical.contains("DEFAULT '0.000000'"), "{logical}");
    assert!(story.schema.waiting().is_empty());
}

/// Found by random programs (seed 606 of those between real servers): what a part says of a column that has its old name downstream
/// was looked for under that name in a part that comes with the new one.
#[test]
fn a_part_that_comes_behind_a_change_under_a_new_name_has_had_it() {
    let mut story = two_parts("id INT PRIMARY KEY");
    let steps = [
        "ALTER TABLE t ADD x SMALLINT DEFAULT 0",
        "ALTER TABLE t RENAME COLUMN x TO y",
        "ALTER TABLE t MODIFY y INT DEFAULT 0",
    ];
    let of_a = steps.map(|sql| story.ddl("a", "s_1", sql).len());
    assert_eq!(of_a, [1, 0, 1]);
    story.ddl("a", "s_3", "CREATE DATABASE s_3");
    let create = "CREATE TABLE t (id INT PRIMARY KEY, y INT DEFAULT 0)";
    assert_eq!(story.ddl("a", "s_3", create), NONE);
    let of_b = steps.map(|sql| story.ddl("b", "s_2", sql).len());
    assert_eq!(of_b, [0, 1, 0]);
    assert!(story.logical("s", "t").contains("`y` int DEFAULT '0'"));
    assert!(story.schema.waiting().is_empty());
}

/// Found by random programs (seed 912 of those between real servers): of a part that came with the third name of a column it was not
/// seen that what was said of the first had been had.
#[test]
fn a_part_that_comes_with_a_column_renamed_twice_has_had_what_was_said_of_its_first_name() {
    let mut story = two_parts("id INT PRIMARY KEY, x SMALLINT");
    let steps = [
        "ALTER TABLE t MODIFY x INT",
        "ALTER TABLE t RENAME COLUMN x TO y",
        "ALTER TABLE t ADD KEY k (y)",
        "ALTER TABLE t RENAME COLUMN y TO z",
    ];
    let of_a = steps.map(|sql| story.ddl("a", "s_1", sql).len());
    assert_eq!(of_a, [1, 0, 0, 0]);
    story.ddl("a", "s_3", "CREATE DATABASE s_3");
    let create = "CREATE TABLE t (id INT PRIMARY KEY, z INT, KEY k (z))";
    assert_eq!(story.ddl("a", "s_3", create), NONE);
    let of_b = steps.map(|sql| story.ddl("b", "s_2", sql).len());
    assert_eq!(of_b, [0, 1, 1, 1]);
    let logical = story.logical("s", "t");
    assert!(
        logical.contains("`z` int") && logical.contains("(`z`)"),
        "{logical}"
    );
    assert!(story.schema.waiting().is_empty());
}

/// Found by random programs (seed 403 of those between real servers): downstream was told to drop an index that it had not got yet.
#[test]
fn what_is_done_to_an_index_that_waits_waits_with_it() {
    for then in ["DROP INDEX k ON t", "ALTER TABLE t RENAME INDEX k TO l"] {
        let mut story = two_parts("id INT PRIMARY KEY, x INT");
        let add = "ALTER TABLE t ADD UNIQUE KEY k (x, id)";
        assert_eq!(story.ddl("a", "s_1", add), NONE);
        assert_eq!(story.ddl("a", "s_1", then), NONE, "{then}");
        assert_eq!(story.ddl("b", "s_2", add).len(), 1);
        assert_eq!(story.ddl("b", "s_2", then).len(), 1, "{then}");
        assert!(story.schema.waiting().is_empty());
        assert!(!story.logical("s", "t").contains("`k`"), "{then}");
    }
}

#[test]
fn names_are_what_each_node_takes_them_for() {
    let mut story = Story::new(&[map("Shop_*.Orders_*", "shop.orders")], &["a", "b"]);
    let folding = NodeTables {
        lower_case_table_names: 1,
        ..NodeTables::default()
    };
    story.schema.learn("b", &folding, story.at());
    story.restart();
    let create = "CREATE TABLE Orders_1 (id INT PRIMARY KEY, Cased INT)";
    assert_eq!(story.ddl("a", "", "CREATE DATABASE Shop_1").len(), 1);
    assert_eq!(story.ddl("a", "Shop_1", create).len(), 1);
    assert_eq!(story.ddl("b", "", "CREATE DATABASE SHOP_2"), NONE);
    let create = "CREATE TABLE oRDERS_2 (id INT PRIMARY KEY, Cased INT)";
    assert_eq!(story.ddl("b", "Shop_2", create), NONE);
    let parts: Vec<_> = (story.schema.parts[&("shop".to_owned(), "orders".to_owned())].iter())
        .map(|p| (p.schema.as_str(), p.table.as_str()))
        .collect();
    assert_eq!(parts, [("Shop_1", "Orders_1"), ("shop_2", "orders_2")]);
    let change = "ALTER TABLE {} DROP COLUMN CASED";
    assert_eq!(
        story.ddl("b", "", &change.replace("{}", "SHOP_2.ORDERS_2")),
        NONE
    );
    let written = story.ddl("a", "Shop_1", &change.replace("{}", "Orders_1"));
    assert_eq!(written, ["ALTER TABLE `orders` DROP COLUMN CASED"]);
    // What no route speaks of, too: its rows will name it so.
    assert_eq!(
        story.ddl("b", "", "CREATE DATABASE Plain"),
        ["CREATE DATABASE `plain`"]
    );
    let plain = story.ddl("b", "PLAIN", "CREATE TABLE Last (Id INT)");
    assert_eq!(plain, ["CREATE TABLE `last` (Id INT)"]);
    assert!(story.schema.physical("b", "plain", "last").is_some());
}

/// Found by holding the catalog against a node's: a table whose statement named its database was given the character set of another.
#[test]
fn a_table_has_the_character_set_of_the_database_it_is_made_in() {
    let mut story = Story::new(&[map("s_*.{*}", "s.$2")], &["a", "b"]);
    story.ddl("a", "", "CREATE DATABASE s_1 CHARACTER SET latin1");
    story.ddl("a", "", "CREATE DATABASE other CHARACTER SET utf8mb4");
    for schema in ["", "other", "s_1"] {
        let create = "CREATE TABLE s_1.plain (v VARCHAR(9))";
        let written = story.ddl("a", schema, create);
        assert_eq!(
            written,
            ["CREATE TABLE `s`.`plain` (v VARCHAR(9))"],
            "{schema}"
        );
        assert!(story.logical("s", "plain").contains("CHARSET=latin1"));
        story.ddl("a", schema, "DROP TABLE s_1.plain");
    }
    // Of another node the database may have another: then it is said.
    story.ddl("b", "", "CREATE DATABASE s_2 CHARACTER SET utf8mb4");
    let written = story.ddl("b", "other", "CREATE TABLE s_2.t (v VARCHAR(9))");
    assert!(written[0].to_lowercase().contains("utf8mb4"), "{written:?}");
}

#[test]
fn accounts_are_those_of_one_node() {
    let routes = [
        map("s_*.t_*", "s.t"),
        RouteRule::Ignore {
            from: "s_*.own".to_owned(),
        },
        map("many_*.a", "one.a"),
        map("many_*.b", "two.b"),
    ];
    let mut story = Story::new(&routes, &["b", "c"]);
    story.schema.rules.accounts = true;
    let mut see = |node: &str, schema: &str, sql: &str| story.emitted(node, schema, sql).unwrap();
    let one = |sql: &str| {
        vec![Emitted {
            schema: String::new(),
            sql: sql.to_owned(),
        }]
    };
    let salted = |salt: &str| {
        format!("CREATE USER 'u'@'%' IDENTIFIED WITH 'caching_sha2_password' AS '{salt}'")
    };
    assert_eq!(see("c", "mysql", &salted("x")), []);
    assert_eq!(see("b", "mysql", &salted("y")), one(&salted("y")));
    for (sql, want) in [
        ("GRANT SELECT ON *.* TO u", "GRANT SELECT ON *.* TO u"),
        ("GRANT SELECT ON * TO u", "GRANT SELECT ON `s`.* TO u"),
        ("GRANT ALL ON t_7 TO u", "GRANT ALL ON `s`.`t` TO u"),
        ("GRANT ALL ON other.t TO u", "GRANT ALL ON `other`.`t` TO u"),
        (
            "GRANT SELECT ON mysql.user TO u",
            "GRANT SELECT ON `mysql`.`user` TO u",
        ),
        ("DROP USER u", "DROP USER u"),
    ] {
        assert_eq!(see("c", "s_1", sql), []);
        assert_eq!(see("b", "s_1", sql), one(want), "{sql}");
    }
    for sql in ["GRANT SELECT ON own TO u", "GRANT SELECT ON many_1.* TO u"] {
        assert_eq!(see("b", "s_1", sql), [], "{sql}");
    }
    assert_eq!(story.notes.len(), 2, "{:?}", story.notes);
    // Another node comes, and the one whose accounts were taken goes.
    story.schema.begins("a");
    assert_eq!(story.ddl("a", "", "DROP ROLE r"), NONE);
    story.schema.forget("b");
    assert_eq!(story.ddl("c", "", "DROP ROLE r"), NONE);
    assert_eq!(story.ddl("a", "", "DROP ROLE r"), ["DROP ROLE r"]);
}

#[test]
fn a_table_is_what_a_person_says_it_is() {
    let mut s = two_parts("id INT PRIMARY KEY, x INT");
    let create = "CREATE TABLE `t` (\n  `id` int NOT NULL,\n  `x` int DEFAULT NULL,\n  `y` int DEFAULT NULL,\n  PRIMARY KEY (`id`)\n)";
    let lines = s.schema.define("b", ("s_2", "t"), create).unwrap();
    assert_eq!(lines, ["+  `y` int DEFAULT NULL"]);
    s.restart();
    assert!(
        s.schema
            .physical("b", "s_2", "t")
            .unwrap()
            .column("y")
            .is_some()
    );
    assert!(!s.logical("s", "t").contains("`y`"));
    // A table of which nothing was known.
    assert_eq!(s.schema.define("b", ("s_2", "u"), create).unwrap().len(), 6);
    let refused = |s: &mut Story, node: &str, sql: &str| {
        s.schema
            .define(node, ("s_2", "t"), sql)
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&mut s, "c", create).contains("known are: a, b"));
    assert!(refused(&mut s, "b", "DROP TABLE t").contains("s_2.t"));
}
