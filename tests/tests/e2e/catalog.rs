//! What clients are told of definitions: every question about a schema gets the same answer from the service as from the node that
//! has it.
//!
//! Rows, sizes, times and cardinalities are the node's affair and are not asked for. Expressions are written as MySQL writes them:
//! the service shows them as the statement has them.

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};
use tributary_tests::cluster::Cluster;
use tributary_tests::service::{Service, ServiceOptions};

use crate::world::{CATCH_UP, World};

const SHOP: &[&str] = &[
    "CREATE DATABASE shop CHARACTER SET latin1",
    "CREATE DATABASE `Über.``` COLLATE utf8mb4_bin",
    "CREATE TABLE shop.parents (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, code VARCHAR(20) COLLATE utf8mb4_bin NOT NULL, \
     part INT NOT NULL DEFAULT '7', PRIMARY KEY (id), UNIQUE KEY codes (code, part)) COMMENT='all of them'",
    "CREATE TABLE shop.children (parent BIGINT UNSIGNED NOT NULL, n INT NOT NULL, code VARCHAR(20) COLLATE utf8mb4_bin, part INT, \
     qty INT UNSIGNED ZEROFILL, price DECIMAL(12,2) DEFAULT '0.00', total DECIMAL(14,2) GENERATED ALWAYS AS ((`price` * `qty`)) STORED, \
     hidden INT /*!80023 INVISIBLE */, PRIMARY KEY (parent, n), KEY of_code (code, part), KEY down (n DESC), KEY fx ((`qty` + 1)), \
     CONSTRAINT fk_id FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE, \
     CONSTRAINT fk_code FOREIGN KEY (code, part) REFERENCES parents (code, part) ON UPDATE SET NULL, \
     CONSTRAINT some CHECK ((`qty` > 0)), CONSTRAINT few CHECK ((`qty` < 1000)) NOT ENFORCED)",
    "CREATE TABLE shop.types (i1 TINYINT, b1 BOOL, i2 SMALLINT UNSIGNED, i3 MEDIUMINT UNSIGNED ZEROFILL, i8 BIGINT DEFAULT '-1', f FLOAT, \
     f2 FLOAT(7,3), d DOUBLE, d2 DOUBLE(9,2), dec1 DECIMAL, dec2 DECIMAL(65,30), bits BIT(7) DEFAULT b'101', \
     c CHAR(9) CHARACTER SET utf8mb4, c0 CHAR(0), v VARCHAR(30) COLLATE latin1_bin DEFAULT 'it''s', vb VARBINARY(8) DEFAULT 0x4142, \
     bi BINARY(4) DEFAULT 'AB', tt TINYTEXT, t TEXT CHARACTER SET utf8mb4, mt MEDIUMTEXT, lt LONGTEXT CHARACTER SET utf16, \
     tb TINYBLOB, bl BLOB, mb MEDIUMBLOB, lb LONGBLOB, e ENUM('a','bcd') NOT NULL DEFAULT 'a', s SET('aa','b') CHARACTER SET utf8mb4, \
     dt DATE NOT NULL DEFAULT '2020-01-01', ti TIME(6), da DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3), \
     ts TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP COMMENT 'when', y YEAR, j JSON, g GEOMETRY, \
     p POINT NOT NULL SRID 4326, vec VECTOR(3), SPATIAL KEY places (p), FULLTEXT KEY words (t), KEY pre (v(4)), \
     KEY hashed (i8) USING HASH, KEY unseen (i2) COMMENT 'c' INVISIBLE)",
    "CREATE TABLE `Über.```.`t ``1` (`a b` INT PRIMARY KEY, `ключ` VARCHAR(3)) ENGINE=MyISAM",
    "ALTER TABLE shop.types ADD COLUMN late INT NOT NULL DEFAULT '3' AFTER b1, ADD UNIQUE KEY one (i8), DROP COLUMN c0",
    "CREATE INDEX part_of ON shop.children (part)",
    "ALTER TABLE shop.parents ADD COLUMN bit INT, COMMENT='some of them'",
    "ALTER TABLE shop.parents RENAME COLUMN bit TO piece",
    "RENAME TABLE shop.parents TO shop.elders",
    "ALTER TABLE shop.elders RENAME COLUMN id TO no",
    "ALTER TABLE shop.types ALTER COLUMN dec2 SET DEFAULT 1.5, ALTER COLUMN bits SET DEFAULT 6, ALTER COLUMN i8 SET DEFAULT '007', \
     ALTER COLUMN i2 DROP DEFAULT",
];

/// Questions about schemas, each in an order of its own.
const QUESTIONS: &[&str] = &[
    "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME, DEFAULT_ENCRYPTION FROM information_schema.schemata WHERE {s} \
     ORDER BY 1",
    "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, VERSION, TABLE_COLLATION, CREATE_OPTIONS, TABLE_COMMENT FROM \
     information_schema.tables WHERE {t} ORDER BY 1, 2",
    "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, ORDINAL_POSITION, COLUMN_DEFAULT, IS_NULLABLE, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, \
     CHARACTER_OCTET_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION, CHARACTER_SET_NAME, COLLATION_NAME, COLUMN_TYPE, \
     COLUMN_KEY, EXTRA, COLUMN_COMMENT, GENERATION_EXPRESSION, SRS_ID FROM information_schema.columns WHERE {t} ORDER BY 1, 2, 4",
    "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX, NON_UNIQUE, INDEX_SCHEMA, COLUMN_NAME, COLLATION, SUB_PART, PACKED, NULLABLE, \
     INDEX_TYPE, COMMENT, INDEX_COMMENT, IS_VISIBLE FROM information_schema.statistics WHERE {t} ORDER BY 1, 2, 3, 4",
    "SELECT * FROM information_schema.key_column_usage WHERE {t} ORDER BY TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION",
    "SELECT * FROM information_schema.table_constraints WHERE {t} ORDER BY TABLE_NAME, CONSTRAINT_NAME",
    "SELECT * FROM information_schema.check_constraints WHERE CONSTRAINT_SCHEMA = 'shop' ORDER BY CONSTRAINT_NAME",
    "SELECT * FROM information_schema.referential_constraints WHERE CONSTRAINT_SCHEMA = 'shop' ORDER BY CONSTRAINT_NAME",
    "SELECT TABLE_NAME, COLUMN_NAME, SRS_ID, GEOMETRY_TYPE_NAME FROM information_schema.st_geometry_columns WHERE {t} ORDER BY 1, 2",
    "SHOW CREATE DATABASE shop",
    "SHOW CREATE DATABASE `Über.```",
    "SHOW CREATE TABLE shop.elders",
    "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, VERSION, AUTO_INCREMENT, CHECKSUM, CREATE_OPTIONS, TABLE_COMMENT FROM \
     information_schema.tables WHERE TABLE_SCHEMA IN ('information_schema', 'performance_schema') ORDER BY 1, HEX(TABLE_NAME)",
    "SHOW FULL TABLES FROM performance_schema",
    "SHOW CREATE TABLE shop.types",
    "SHOW CREATE TABLE `Über.```.`t ``1`",
    "SHOW TABLES FROM `Über.```",
    "SHOW COLUMNS FROM shop.types",
    "DESC shop.children",
];

/// The answer as text.
async fn asked(conn: &mut Conn, question: &str) -> Result<Vec<Vec<String>>> {
    let ours = "('shop', 'Über.`')";
    let question = question
        .replace("{s}", &format!("SCHEMA_NAME IN {ours}"))
        .replace("{t}", &format!("TABLE_SCHEMA IN {ours}"));
    let rows: Vec<Row> = conn.query(&question).await.context(question)?;
    let text = |value: Value| match value {
        Value::NULL => "NULL".to_owned(),
        Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true),
    };
    let line = |row: Row| row.unwrap().into_iter().map(text).collect();
    Ok(rows.into_iter().map(line).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_told_as_the_node_tells_them() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let options = ServiceOptions::new("tso", &cluster.nodes);
    let service = Service::start(options, cluster.dir()).await?;
    let world = World { service, cluster };
    for statement in SHOP {
        world.cluster.nodes[0].sql(statement).await?;
    }
    let replica = world.replica("replica", 201).await?;
    let last = "SELECT COUNT(*) = 1 FROM information_schema.columns WHERE TABLE_SCHEMA = 'shop' AND COLUMN_NAME = 'piece'";
    replica.wait_until(last, CATCH_UP).await?;
    let mut node = Conn::new(world.cluster.nodes[0].root_opts()).await?;
    let mut service = Conn::new(world.service.opts()).await?;
    let mut wrong = Vec::new();
    for question in QUESTIONS {
        let theirs = asked(&mut node, question).await?;
        let ours = asked(&mut service, question).await?;
        ensure!(!theirs.is_empty(), "{question}: no rows");
        if ours.len() != theirs.len() {
            wrong.push(format!(
                "{question}: {} rows, not {}",
                ours.len(),
                theirs.len()
            ));
        }
        let pairs = ours
            .iter()
            .zip(&theirs)
            .filter(|(ours, theirs)| ours != theirs);
        wrong.extend(pairs.map(|(ours, theirs)| format!("{question}:\n  {ours:?}\n  {theirs:?}")));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
