//! What clients ask of the catalog, over a shop with two tables and a view.

use std::sync::Arc;

use crate::catalog::{
    Catalog, CheckInfo, ColumnInfo, DatabaseInfo, ForeignKeyInfo, IndexInfo, IndexPart, TableInfo,
};
use crate::core::query::tests::Conversation;
use crate::wire::resultset::types;

/// The database `shop`.
pub(crate) struct Shop;

fn column(name: &str, ty: &str, key: bool) -> ColumnInfo {
    let text = ty.starts_with("varchar");
    ColumnInfo {
        name: name.into(),
        nullable: !key,
        data_type: ty.split('(').next().unwrap_or_default().into(),
        column_type: ty.into(),
        char_length: text.then_some(40),
        octet_length: text.then_some(160),
        precision: (!text).then_some(10),
        charset: text.then(|| "utf8mb4".into()),
        collation: text.then(|| "utf8mb4_0900_ai_ci".into()),
        ..ColumnInfo::default()
    }
}

fn index(name: &str, unique: bool, columns: &[&str]) -> IndexInfo {
    let part = |c: &&str| IndexPart {
        column: Some((*c).into()),
        ..IndexPart::default()
    };
    IndexInfo {
        name: name.into(),
        unique,
        kind: "BTREE".into(),
        parts: columns.iter().map(part).collect(),
        visible: true,
        ..IndexInfo::default()
    }
}

impl Catalog for Shop {
    fn databases(&self) -> Vec<DatabaseInfo> {
        vec![DatabaseInfo {
            name: "shop".into(),
            charset: "utf8mb4".into(),
            collation: "utf8mb4_0900_ai_ci".into(),
        }]
    }

    fn tables(&self, database: &str) -> Vec<Arc<TableInfo>> {
        if database != "shop" {
            return Vec::new();
        }
        let table = |name: &str, view| TableInfo {
            name: name.into(),
            view,
            engine: if view { "" } else { "InnoDB" }.into(),
            collation: "utf8mb4_0900_ai_ci".into(),
            create_statement: format!("CREATE TABLE `{name}` (…)"),
            ..TableInfo::default()
        };
        let mut items = table("items", false);
        items.columns = vec![
            column("id", "int", true),
            column("name", "varchar(40)", false),
        ];
        items.indexes = vec![
            index("PRIMARY", true, &["id"]),
            index("by_name", false, &["name"]),
        ];
        let mut lines = table("lines", false);
        lines.columns = vec![
            column("order_id", "bigint", true),
            column("item", "int", true),
        ];
        lines.indexes = vec![index("PRIMARY", true, &["order_id", "item"])];
        lines.foreign_keys = vec![ForeignKeyInfo {
            name: "lines_item".into(),
            columns: vec!["item".into()],
            referenced_database: "shop".into(),
            referenced_table: "items".into(),
            referenced_columns: vec!["id".into()],
            on_update: "NO ACTION".into(),
            on_delete: "CASCADE".into(),
        }];
        lines.checks = vec![CheckInfo {
            name: "lines_chk_1".into(),
            expression: "item > 0".into(),
            enforced: false,
        }];
        let mut v = table("v", true);
        v.create_statement =
            "CREATE DEFINER=`app`@`%` SQL SECURITY INVOKER VIEW `v` AS SELECT 1 AS one".into();
        vec![Arc::new(items), Arc::new(lines), Arc::new(v)]
    }
}

fn shop() -> Conversation {
    let mut c = Conversation::new();
    c.server.shop = true;
    c
}

/// Rows as text, NULL as `-`.
fn lines(c: &mut Conversation, sql: &str) -> Vec<String> {
    let rows = c.rows(sql).rows.into_iter();
    let line = |row: Vec<Option<String>>| {
        let cells: Vec<String> = row
            .into_iter()
            .map(|c| c.unwrap_or_else(|| "-".into()))
            .collect();
        cells.join("|")
    };
    rows.map(line).collect()
}

fn names(c: &mut Conversation, sql: &str) -> Vec<String> {
    c.rows(sql)
        .columns
        .iter()
        .map(|c| c.name.to_string())
        .collect()
}

#[test]
fn debezium_reads_schemata() {
    let sql = "SELECT schema_name, default_character_set_name, default_collation_name FROM information_schema.schemata";
    let mut c = shop();
    assert_eq!(
        names(&mut c, sql),
        [
            "SCHEMA_NAME",
            "DEFAULT_CHARACTER_SET_NAME",
            "DEFAULT_COLLATION_NAME"
        ]
    );
    assert_eq!(
        lines(&mut c, sql),
        [
            "information_schema|utf8mb3|utf8mb3_general_ci",
            "performance_schema|utf8mb4|utf8mb4_0900_ai_ci",
            "shop|utf8mb4|utf8mb4_0900_ai_ci"
        ]
    );
}

#[test]
fn maxwell_captures_a_schema() {
    let mut c = shop();
    let sql = "SELECT TABLES.TABLE_NAME, CCSA.CHARACTER_SET_NAME FROM INFORMATION_SCHEMA.TABLES LEFT JOIN \
        information_schema.COLLATION_CHARACTER_SET_APPLICABILITY AS CCSA ON TABLES.TABLE_COLLATION = CCSA.COLLATION_NAME \
        WHERE TABLES.TABLE_SCHEMA = 'shop' ";
    assert_eq!(
        lines(&mut c, sql),
        ["items|utf8mb4", "lines|utf8mb4", "v|-"]
    );
    let sql = "SELECT TABLE_NAME,COLUMN_NAME, DATA_TYPE, CHARACTER_SET_NAME, ORDINAL_POSITION, COLUMN_TYPE, \
        DATETIME_PRECISION, COLUMN_KEY FROM `information_schema`.`COLUMNS` WHERE TABLE_SCHEMA = 'shop' ORDER BY TABLE_NAME, \
        ORDINAL_POSITION";
    assert_eq!(
        lines(&mut c, sql),
        [
            "items|id|int|-|1|int|-|PRI",
            "items|name|varchar|utf8mb4|2|varchar(40)|-|MUL",
            "lines|order_id|bigint|-|1|bigint|-|PRI",
            "lines|item|int|-|2|int|-|PRI"
        ]
    );
    let sql = "SELECT TABLE_NAME, COLUMN_NAME, ORDINAL_POSITION FROM information_schema.KEY_COLUMN_USAGE WHERE \
        CONSTRAINT_NAME = 'PRIMARY' AND TABLE_SCHEMA = 'shop' ORDER BY TABLE_NAME, ORDINAL_POSITION";
    assert_eq!(
        lines(&mut c, sql),
        ["items|id|1", "lines|order_id|1", "lines|item|2"]
    );
    let sql = "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME FROM INFORMATION_SCHEMA.SCHEMATA ORDER BY SCHEMA_NAME";
    assert_eq!(lines(&mut c, sql).len(), 3);
}

#[test]
fn zongji_and_go_mysql_ask_for_one_table() {
    let mut c = shop();
    let sql = "SELECT \n  COLUMN_NAME, COLLATION_NAME, CHARACTER_SET_NAME, \n  COLUMN_COMMENT, COLUMN_TYPE \n  FROM \
        INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA='SHOP' AND TABLE_NAME='items' \n  ORDER BY ORDINAL_POSITION";
    let expected = [
        "id|-|-||int",
        "name|utf8mb4_0900_ai_ci|utf8mb4||varchar(40)",
    ];
    assert_eq!(lines(&mut c, sql), expected);
    let sql = "SELECT * FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = 'shop' and TABLE_NAME = 'items' LIMIT 1";
    let set = c.rows(sql);
    assert_eq!((set.columns.len(), set.rows.len()), (21, 1));
    assert_eq!(set.columns[5].ty, types::LONGLONG);
    let sql = "SELECT COLLATION_NAME,CHARACTER_SET_NAME,ID,IS_DEFAULT from INFORMATION_SCHEMA.COLLATIONS WHERE ID = 255";
    assert_eq!(lines(&mut c, sql), ["utf8mb4_0900_ai_ci|utf8mb4|255|Yes"]);
}

#[test]
fn joins_groups_and_expressions_are_the_engines() {
    let mut c = shop();
    for (sql, expected) in [
        (
            "SELECT COUNT(*) FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, \
          table_name) WHERE t.table_type = 'base table'",
            "4",
        ),
        (
            "SELECT table_name, COUNT(*) n FROM information_schema.statistics GROUP BY table_name HAVING n > 1 ORDER BY 1 \
          DESC LIMIT 0, 1",
            "lines|2",
        ),
        (
            "SELECT IF(COUNT(*) > 0, 'yes', 'no'), CONCAT('a', NULL), LEFT('abc', 2) FROM information_schema.tables",
            "yes|-|ab",
        ),
        (
            "SELECT @@server_id, DATABASE(), VARIABLE_VALUE FROM performance_schema.global_variables WHERE VARIABLE_NAME = \
          'GTID_MODE'",
            "101|-|ON",
        ),
        (
            "SELECT constraint_name FROM information_schema.table_constraints WHERE constraint_type = 'FOREIGN KEY'",
            "lines_item",
        ),
        (
            "SELECT delete_rule FROM information_schema.referential_constraints",
            "CASCADE",
        ),
        (
            "SELECT table_name FROM information_schema.tables WHERE table_name LIKE \"L%\" COLLATE utf8mb4_bin AND table_schema \
          = 'shop'",
            "lines",
        ),
        (
            "SELECT plugin_status FROM information_schema.plugins WHERE plugin_name LIKE 'caching\\_sha2%'",
            "ACTIVE",
        ),
        (
            "SELECT t.* FROM (SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, 'y' FROM information_schema.engines) t WHERE a = 2",
            "2|y",
        ),
    ] {
        assert_eq!(lines(&mut c, sql), [expected], "{sql}");
    }
    assert_eq!(
        names(
            &mut c,
            "SELECT COUNT(*), MAX(table_name) AS m, Table_Schema FROM information_schema.tables"
        ),
        ["COUNT(*)", "m", "TABLE_SCHEMA"]
    );
    assert!(
        lines(
            &mut c,
            "SELECT * FROM performance_schema.replication_group_members"
        )
        .is_empty()
    );
}

#[test]
fn constraints_views_and_words_are_listed() {
    let mut c = shop();
    for (sql, expected) in [
        (
            "SELECT constraint_name, unique_constraint_name, delete_rule FROM information_schema.referential_constraints",
            vec!["lines_item|PRIMARY|CASCADE"],
        ),
        (
            "SELECT constraint_name, check_clause FROM information_schema.check_constraints",
            vec!["lines_chk_1|item > 0"],
        ),
        (
            "SELECT constraint_name, constraint_type, enforced FROM information_schema.table_constraints WHERE table_name = 'lines'",
            vec![
                "PRIMARY|PRIMARY KEY|YES",
                "lines_item|FOREIGN KEY|YES",
                "lines_chk_1|CHECK|NO",
            ],
        ),
        (
            "SELECT view_definition, definer, security_type FROM information_schema.views",
            vec!["SELECT 1 AS one|app@%|INVOKER"],
        ),
        (
            "SELECT reserved FROM information_schema.keywords WHERE word IN ('SELECT', 'ACCOUNT') ORDER BY word",
            vec!["0", "1"],
        ),
        (
            "SELECT table_name FROM information_schema.partitions WHERE partition_name IS NULL",
            vec!["items", "lines", "v"],
        ),
        ("SELECT * FROM performance_schema.data_locks", vec![]),
    ] {
        assert_eq!(lines(&mut c, sql), expected, "{sql}");
    }
}

#[test]
fn having_without_groups_filters_rows() {
    let mut c = shop();
    // As Connector/J asks for tables.
    let sql = "SELECT TABLE_SCHEMA AS TABLE_CAT, TABLE_NAME, CASE WHEN TABLE_TYPE = 'BASE TABLE' THEN 'TABLE' ELSE TABLE_TYPE END \
               AS TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'shop' HAVING TABLE_TYPE IN ('TABLE', NULL) \
               ORDER BY TABLE_TYPE, TABLE_SCHEMA, TABLE_NAME DESC LIMIT 5";
    assert_eq!(lines(&mut c, sql), ["shop|lines|TABLE", "shop|items|TABLE"]);
    assert_eq!(
        names(&mut c, sql),
        ["TABLE_CAT", "TABLE_NAME", "TABLE_TYPE"]
    );
    let limited = sql.replace("LIMIT 5", "LIMIT 1");
    assert_eq!(lines(&mut c, &limited), ["shop|lines|TABLE"]);
    let grouped = "SELECT table_type, COUNT(*) AS n FROM information_schema.tables WHERE table_schema = 'shop' \
                   GROUP BY table_type HAVING n > 1";
    assert_eq!(lines(&mut c, grouped), ["BASE TABLE|2"]);
    let all = "SELECT COUNT(*) AS n FROM information_schema.tables HAVING n > 1000";
    assert!(lines(&mut c, all).is_empty());
}

#[test]
fn what_does_not_exist_gets_mysqls_errors() {
    let mut c = shop();
    for (sql, code) in [
        ("SELECT * FROM information_schema._nosuch", 1109),
        ("SELECT * FROM shop._nosuch", 1146),
        ("SELECT id FROM shop.items", 1235),
        ("SELECT id FROM items", 1046),
        ("SELECT nosuchcolumn FROM information_schema.tables", 1054),
        ("SELECT nofunction(1) FROM information_schema.tables", 1305),
        ("SELECT * FROM performance_schema._nosuch", 1146),
        ("SELECT * FROM mysql.user", 1142),
        ("SHOW TABLES FROM mysql", 1044),
        ("USE sys", 1044),
    ] {
        assert_eq!(c.error(sql).0, code, "{sql}");
    }
    c.ok("USE shop");
    assert_eq!(c.error("SELECT id FROM items").0, 1235);
    assert_eq!(c.error("SELECT * FROM tables").0, 1146);
    assert_eq!(c.error("USE nosuch").0, 1049);
    c.ok("USE information_schema");
    assert_eq!(lines(&mut c, "SELECT COUNT(*) FROM tables"), ["204"]);
}

#[test]
fn a_query_without_end_is_interrupted() {
    let mut c = shop();
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.collations {}",
        (0..9).fold(String::new(), |s, i| {
            format!("{s}, information_schema.collations c{i}")
        })
    );
    assert_eq!(c.error(&sql).0, 3024);
}

#[test]
fn show_statements_read_the_catalog() {
    let mut c = shop();
    assert_eq!(lines(&mut c, "SHOW DATABASES LIKE 's%'"), ["shop"]);
    let sql = "SHOW FULL TABLES IN `shop` where Table_Type = 'BASE TABLE'";
    assert_eq!(lines(&mut c, sql), ["items|BASE TABLE", "lines|BASE TABLE"]);
    assert_eq!(lines(&mut c, "SHOW TABLES FROM shop LIKE 'i%'"), ["items"]);
    assert_eq!(names(&mut c, "SHOW TABLES FROM shop"), ["Tables_in_shop"]);
    assert!(lines(&mut c, "SHOW TABLES FROM information_schema").contains(&"TABLES".to_owned()));
    assert_eq!(
        lines(&mut c, "SHOW CREATE TABLE `shop`.`items`"),
        ["items|CREATE TABLE `items` (…)"]
    );
    for sql in ["SHOW CREATE TABLE shop.v", "SHOW CREATE VIEW shop.v"] {
        assert_eq!(
            names(&mut c, sql),
            [
                "View",
                "Create View",
                "character_set_client",
                "collation_connection"
            ]
        );
    }
    assert_eq!(c.error("SHOW CREATE VIEW shop.items").0, 1347);
    assert!(
        lines(&mut c, "SHOW CREATE DATABASE shop")[0].contains("DEFAULT CHARACTER SET utf8mb4")
    );
    assert_eq!(
        lines(&mut c, "DESC shop.items"),
        ["id|int|NO|PRI|-|", "name|varchar(40)|YES|MUL|-|"]
    );
    assert_eq!(
        lines(&mut c, "SHOW FULL COLUMNS FROM items FROM shop LIKE 'n%'").len(),
        1
    );
    assert_eq!(lines(&mut c, "SHOW INDEX FROM shop.`lines`").len(), 2);
    assert_eq!(
        lines(&mut c, "SHOW TABLE STATUS FROM shop LIKE 'items'").len(),
        1
    );
    assert_eq!(lines(&mut c, "SHOW ENGINES").len(), 1);
    assert!(lines(&mut c, "SHOW COLLATION WHERE Charset = 'latin1'").len() > 1);
    assert_eq!(
        lines(&mut c, "SHOW CHARACTER SET LIKE 'utf8mb4'"),
        ["utf8mb4|UTF-8 Unicode|utf8mb4_0900_ai_ci|4"]
    );
    assert_eq!(c.error("SHOW CREATE TABLE shop._nosuch").0, 1146);
    assert_eq!(c.error("SHOW TABLES FROM nosuch").0, 1049);
    assert_eq!(c.error("SHOW COLUMNS FROM items").0, 1046);
}
