//! What real clients asked a MySQL 9.7.4, asked again here: every answer is the same, or the difference is listed with its
//! reason.

use std::sync::Arc;

use tributary_dump_server::{
    Catalog, ColumnInfo, DatabaseInfo, IndexInfo, IndexPart, ServerConfig, TableInfo,
};

use crate::support::{Answer, ColumnDef, Raw, Running, config, fixture_log};

/// One statement and its answer then.
struct Asked {
    sql: String,
    answer: Answer,
    /// Rows, when more than the one that is kept.
    rows: usize,
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => {}
            },
            _ => out.push(c),
        }
    }
    out
}

fn recorded() -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    for line in include_str!("fixtures/conversations.txt").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |i: usize| fields[i].parse::<u32>().unwrap();
        match fields[0] {
            "q" => asked.push(Asked {
                sql: unescape(fields[2]),
                answer: Answer::Ok,
                rows: 0,
            }),
            "err" => {
                let error = Answer::Error(number(1) as u16, unescape(fields[2]));
                asked.last_mut().unwrap().answer = error;
            }
            "rows" => {
                let last = asked.last_mut().unwrap();
                last.rows = number(1) as usize;
                last.answer = Answer::Rows(Vec::new(), Vec::new());
            }
            "c" | "v" => {
                let Answer::Rows(columns, rows) = &mut asked.last_mut().unwrap().answer else {
                    panic!("{line}")
                };
                if fields[0] == "c" {
                    columns.push(ColumnDef {
                        name: unescape(fields[1]),
                        ty: number(2) as u8,
                        collation: number(3) as u16,
                        length: number(4),
                        flags: number(5) as u16,
                        decimals: number(6) as u8,
                    });
                } else {
                    let cell = |t: &&str| (*t != "\\N").then(|| unescape(t));
                    rows.push(fields[1..].iter().map(cell).collect());
                }
            }
            _ => {}
        }
    }
    asked
}

/// The tables the clients met.
struct Shop(Vec<Arc<TableInfo>>);

impl Catalog for Shop {
    fn databases(&self) -> Vec<DatabaseInfo> {
        vec![DatabaseInfo {
            name: "shop".into(),
            charset: "utf8mb4".into(),
            collation: "utf8mb4_0900_ai_ci".into(),
        }]
    }

    fn tables(&self, database: &str) -> Vec<Arc<TableInfo>> {
        if database == "shop" {
            self.0.clone()
        } else {
            Vec::new()
        }
    }
}

fn shop(asked: &[Asked]) -> Shop {
    let table = |(name, columns): (&str, &[&str])| {
        let sql = format!("SHOW CREATE TABLE `shop`.`{name}`");
        let asked = asked.iter().find(|a| a.sql == sql).unwrap();
        let Answer::Rows(_, rows) = &asked.answer else {
            panic!("{sql}")
        };
        let create = rows
            .first()
            .and_then(|row| row[1].clone())
            .unwrap_or_default();
        let column = |c: &&str| ColumnInfo {
            name: (*c).into(),
            column_type: "int".into(),
            data_type: "int".into(),
            ..ColumnInfo::default()
        };
        let primary = IndexInfo {
            name: "PRIMARY".into(),
            unique: true,
            parts: vec![IndexPart {
                column: Some("id".into()),
                ..IndexPart::default()
            }],
            ..IndexInfo::default()
        };
        Arc::new(TableInfo {
            name: name.into(),
            engine: "InnoDB".into(),
            collation: "utf8mb4_0900_ai_ci".into(),
            columns: columns.iter().map(column).collect(),
            indexes: vec![primary],
            create_statement: create,
            ..TableInfo::default()
        })
    };
    let tables: [(&str, &[&str]); 3] = [
        ("dflt", &["id", "v"]),
        ("items", &["id", "name", "price", "tags", "ts"]),
        ("plain", &["id", "v"]),
    ];
    Shop(tables.into_iter().map(table).collect())
}

/// What differs, one line each.
fn differences(then: &Asked, now: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    match (&then.answer, now) {
        (Answer::Ok, Answer::Ok) => {}
        (Answer::Error(a, x), Answer::Error(b, y)) => {
            if (a, x) != (b, y) {
                found.push(format!("error {a} {x}: now {b} {y}"));
            }
        }
        (Answer::Rows(columns, rows), Answer::Rows(ours, our_rows)) => {
            if columns.len() != ours.len() {
                found.push(format!("{} columns: now {}", columns.len(), ours.len()));
            }
            for (a, b) in columns.iter().zip(ours) {
                if a != b {
                    found.push(format!("column {}: {a:?}, now {b:?}", a.name));
                }
            }
            if then.rows != our_rows.len() {
                found.push(format!("{} rows: now {}", then.rows, our_rows.len()));
            } else if let [row] = rows.as_slice() {
                for (i, (a, b)) in row.iter().zip(&our_rows[0]).enumerate() {
                    if a != b {
                        found.push(format!("value {i}: {a:?}, now {b:?}"));
                    }
                }
            }
        }
        (then, now) => found.push(format!("{then:?}: now {now:?}").chars().take(300).collect()),
    }
    found
}

const OTHER_SERVER: &str = "another server with other files, at another time";
const FLAGS: &str =
    "keys and NOT NULL of the catalog's own tables are not told: no client reads them";
const BLOB: &str = "long columns of the catalog are VARCHAR here: clients read text either way";
const COLUMNS_QUERY: &str = "SELECT \n  COLUMN_NAME, COLLATION_NAME";

/// Statement (its start), difference (its start), reason.
const EXPLAINED: &[(&str, &str, &str)] = &[
    ("SELECT UNIX_TIMESTAMP()", "value 0", OTHER_SERVER),
    ("SELECT CURRENT_TIMESTAMP", "value 0", OTHER_SERVER),
    ("SELECT @@GLOBAL.SERVER_UUID", "value 0", OTHER_SERVER),
    ("SHOW BINARY LOG STATUS", "value", OTHER_SERVER),
    ("SHOW BINARY LOGS", "2 rows", OTHER_SERVER),
    (
        "SELECT @@global.rpl_semi_sync_source_enabled",
        "Rows",
        "that source had the plugin; here semi-synchronous replication is switched off, and 1193 says so",
    ),
    ("SELECT VERSION()", "value 0", "the announced version"),
    (
        "SELECT VERSION()",
        "column",
        "as long as the announced version",
    ),
    ("SELECT version()", "value 0", "the announced version"),
    (
        "SELECT version()",
        "column",
        "as long as the announced version",
    ),
    (
        "SHOW VARIABLES",
        "628 rows",
        "the variables clients ask for, and those of a source; what only an engine for tables has is left out",
    ),
    (
        "SHOW DATABASES",
        "5 rows",
        "no `mysql` and no `sys`: they hold nothing a client of the binlog needs",
    ),
    (
        "SHOW FULL TABLES IN `mysql`",
        "Rows",
        "not listed by SHOW DATABASES, so not asked for",
    ),
    ("SHOW FULL TABLES IN `sys`", "Rows", "as above"),
    (
        "FLUSH TABLES WITH READ LOCK",
        "Ok",
        "there is nothing to lock: a snapshot of rows is not served (snapshot.locking.mode=none)",
    ),
    (
        "SELECT `id`, `",
        "Rows",
        "rows of tables are not served: connectors start without a snapshot of rows",
    ),
    ("SELECT schema_name", "5 rows", "no `mysql` and no `sys`"),
    ("SELECT schema_name", "column", FLAGS),
    (COLUMNS_QUERY, "column COLUMN_COMMENT", BLOB),
    (COLUMNS_QUERY, "column COLUMN_TYPE", BLOB),
    (
        COLUMNS_QUERY,
        "3 rows",
        "the table has a column less in this test",
    ),
    (
        "SELECT GTID_SUBTRACT(",
        "column",
        "the greatest length is estimated in another way",
    ),
    ("KILL 6", "Ok", "that connection is not here"),
];

#[tokio::test]
async fn recorded_conversations_get_the_answers_of_mysql() {
    let asked = recorded();
    assert!(asked.len() > 70);
    let config = ServerConfig {
        server_id: 101,
        catalog: Arc::new(shop(&asked)),
        ..config()
    };
    let running = Running::start(config, fixture_log()).await;
    let mut raw = Raw::connect(running.address).await;
    let mut used = vec![false; EXPLAINED.len()];
    let mut unexplained = Vec::new();
    for asked in &asked {
        let now = raw.query(asked.sql.trim_start()).await;
        for difference in differences(asked, &now) {
            let known = EXPLAINED.iter().position(|(sql, text, _)| {
                asked.sql.trim_start().starts_with(sql) && difference.starts_with(text)
            });
            match known {
                Some(i) => used[i] = true,
                None => unexplained.push(format!("{}\n    {difference}", asked.sql)),
            }
        }
    }
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    for (entry, used) in EXPLAINED.iter().zip(used) {
        assert!(used, "this difference is gone: {entry:?}");
    }
    running.stop().await;
}
