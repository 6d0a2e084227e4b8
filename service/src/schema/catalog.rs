//! The logical schema as clients see it: `SHOW CREATE TABLE`, `information_schema`.
//!
//! In: the durable history. Out: databases and tables as they are now.

use std::sync::Arc;

use tributary_dump_server::{
    Catalog, CheckInfo, ColumnInfo, DatabaseInfo, ForeignKeyInfo, IndexInfo, IndexPart, TableInfo,
};
use tributary_schema::{
    BlobSize, Column, DataType, DefaultValue, ForeignKey, Key, KeyKind, KeyPartOf, Object, Table,
};

use super::DurableSchema;

impl Catalog for DurableSchema {
    fn databases(&self) -> Vec<DatabaseInfo> {
        self.with(|history| {
            let known = history.schemas(u64::MAX);
            let known = known.map(|(name, collation)| (name.to_owned(), Some(collation)));
            let mut all: Vec<_> = known.collect();
            // Databases that were there before their statement could be seen.
            for (schema, ..) in history.objects(u64::MAX) {
                if !all.iter().any(|(name, _)| name == schema) {
                    all.push((schema.to_owned(), None));
                }
            }
            let info = all.into_iter().map(|(name, collation)| {
                let collation = collation.unwrap_or_else(|| history.collation(&name));
                DatabaseInfo {
                    name,
                    charset: charset_of(collation),
                    collation: collation.name().unwrap_or("utf8mb4_0900_ai_ci").to_owned(),
                }
            });
            info.collect()
        })
    }

    fn tables(&self, database: &str) -> Vec<Arc<TableInfo>> {
        if let Some(tables) = self.known().get(database) {
            return tables.clone();
        }
        let tables: Vec<Arc<TableInfo>> = self.with(|history| {
            let objects = history.objects(u64::MAX);
            let own = objects.filter(|(schema, ..)| *schema == database);
            own.filter_map(|(schema, name, object)| info(schema, name, object).map(Arc::new))
                .collect()
        });
        self.known().insert(database.to_owned(), tables.clone());
        tables
    }
}

fn charset_of(collation: tributary_schema::Collation) -> String {
    let charset = collation.charset();
    charset.map_or("utf8mb4", |c| c.name()).to_owned()
}

fn info(schema: &str, name: &str, object: &Object) -> Option<TableInfo> {
    match object {
        Object::Table(table) => Some(table_info(schema, table)),
        Object::View(sql) => Some(TableInfo {
            name: name.to_owned(),
            view: true,
            create_statement: sql.clone(),
            ..TableInfo::default()
        }),
        // Nothing that could be told about it would be true.
        Object::Opaque(_) => None,
    }
}

fn table_info(schema: &str, table: &Table) -> TableInfo {
    let keys = table.keys_in_order();
    TableInfo {
        name: table.name.clone(),
        view: false,
        engine: table.engine.clone(),
        collation: table.collation.name().unwrap_or_default().to_owned(),
        comment: table.comment.clone(),
        auto_increment: None,
        columns: table.columns.iter().map(column).collect(),
        indexes: keys.into_iter().map(|key| index(table, key)).collect(),
        foreign_keys: (table.foreign_keys.iter())
            .map(|key| foreign_key(schema, key))
            .collect(),
        checks: (table.checks.iter())
            .map(|check| CheckInfo {
                name: check.name.clone(),
                expression: check.expression.clone(),
                enforced: check.enforced,
            })
            .collect(),
        partitioned: table.partitioning.is_some(),
        create_statement: table.show_create(),
    }
}

fn column(column: &Column) -> ColumnInfo {
    let whole = column.data_type.to_string();
    let end = whole.find(['(', ' ']).unwrap_or(whole.len());
    let (char_length, octet_length) = lengths(column);
    let (precision, scale) = digits(&column.data_type);
    let text = column.data_type.has_charset();
    let (default, generated_default) = default(column);
    ColumnInfo {
        name: column.name.clone(),
        default,
        nullable: column.nullable,
        data_type: whole.get(..end).unwrap_or_default().to_owned(),
        char_length,
        octet_length,
        precision,
        scale,
        datetime_precision: match column.data_type {
            DataType::Time(n) | DataType::DateTime(n) | DataType::Timestamp(n) => Some(n.into()),
            _ => None,
        },
        charset: text.then(|| charset_of(column.collation)),
        collation: text.then(|| column.collation.name().unwrap_or_default().to_owned()),
        extra: extra(column, generated_default),
        comment: column.comment.clone(),
        srid: column.srid,
        generation: (column.generated.as_ref()).map_or_else(String::new, |g| g.expression.clone()),
        column_type: whole,
    }
}

/// The default as `information_schema` has it, and whether it is computed.
fn default(column: &Column) -> (Option<String>, bool) {
    match &column.default {
        None | Some(DefaultValue::Null) => (None, false),
        Some(DefaultValue::Text(text)) if is_binary(&column.data_type) => {
            (Some(hex(without_padding(text.as_bytes()))), false)
        }
        Some(DefaultValue::Text(text)) => (Some(text.clone()), false),
        Some(DefaultValue::Bits(bits)) => (Some(format!("b'{bits}'")), false),
        Some(DefaultValue::Bytes(bytes)) => (Some(hex(without_padding(bytes))), false),
        Some(DefaultValue::Now) => (Some(now(&column.data_type)), true),
        Some(DefaultValue::Expression(text)) => (Some(text.clone()), true),
    }
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary(_) | DataType::VarBinary(_))
}

/// The zeros that a `BINARY` ends with are not told.
fn without_padding(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    bytes.get(..end).unwrap_or(bytes)
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|b| format!("{b:02X}")).collect();
    format!("0x{digits}")
}

fn now(data_type: &DataType) -> String {
    match data_type {
        DataType::DateTime(n) | DataType::Timestamp(n) if *n > 0 => {
            format!("CURRENT_TIMESTAMP({n})")
        }
        _ => "CURRENT_TIMESTAMP".to_owned(),
    }
}

fn extra(column: &Column, generated_default: bool) -> String {
    let mut words = Vec::new();
    if column.auto_increment {
        words.push("auto_increment".to_owned());
    }
    if generated_default {
        words.push("DEFAULT_GENERATED".to_owned());
    }
    if column.on_update_now {
        words.push(format!("on update {}", now(&column.data_type)));
    }
    if let Some(generated) = &column.generated {
        let kind = if generated.stored {
            "STORED"
        } else {
            "VIRTUAL"
        };
        words.push(format!("{kind} GENERATED"));
    }
    if column.invisible {
        words.push("INVISIBLE".to_owned());
    }
    words.join(" ")
}

/// Characters and bytes of a string type.
fn lengths(column: &Column) -> (Option<u64>, Option<u64>) {
    let max = column
        .collation
        .charset()
        .map_or(1, tributary_schema::Charset::max_len);
    let max = u64::from(max);
    // Of texts without a length the least bytes of a character count.
    let min = match charset_of(column.collation).as_str() {
        "ucs2" | "utf16" | "utf16le" => 2,
        "utf32" => 4,
        _ => 1,
    };
    let blob = |size: BlobSize| match size {
        BlobSize::Tiny => 0xff,
        BlobSize::Plain => 0xffff,
        BlobSize::Medium => 0xff_ffff,
        BlobSize::Long => 0xffff_ffff_u64,
    };
    match &column.data_type {
        DataType::Char(n) | DataType::VarChar(n) => {
            (Some(u64::from(*n)), Some(u64::from(*n) * max))
        }
        DataType::Binary(n) | DataType::VarBinary(n) => (Some(u64::from(*n)), Some(u64::from(*n))),
        DataType::Text(size) => (Some(blob(*size) / min), Some(blob(*size))),
        DataType::Blob(size) => (Some(blob(*size)), Some(blob(*size))),
        // Numbers of four bytes.
        DataType::Vector(n) => (Some(u64::from(*n) * 4), Some(u64::from(*n) * 4)),
        DataType::Enum(values) => {
            let longest = values.iter().map(|v| v.chars().count() as u64).max();
            (longest, longest.map(|n| n * max))
        }
        DataType::Set(values) => {
            let all: u64 = values.iter().map(|v| v.chars().count() as u64 + 1).sum();
            let all = all.saturating_sub(1);
            (Some(all), Some(all * max))
        }
        _ => (None, None),
    }
}

/// Bytes of a rectangle: what a spatial key has of a value.
const RECTANGLE: u64 = 32;

/// Digits of a numeric type, and those behind the point.
fn digits(data_type: &DataType) -> (Option<u64>, Option<u64>) {
    match data_type {
        DataType::Int {
            bytes, unsigned, ..
        } => {
            let digits = match (bytes, unsigned) {
                (1, _) => 3,
                (2, _) => 5,
                (3, _) => 7,
                (4, _) => 10,
                (_, true) => 20,
                (_, false) => 19,
            };
            (Some(digits), Some(0))
        }
        DataType::Decimal {
            precision, scale, ..
        } => (Some(u64::from(*precision)), Some(u64::from(*scale))),
        DataType::Real {
            digits: Some((precision, scale)),
            ..
        } => (Some((*precision).into()), Some((*scale).into())),
        DataType::Real { double, .. } => (Some(if *double { 22 } else { 12 }), None),
        DataType::Bit(n) => (Some(u64::from(*n)), None),
        _ => (None, None),
    }
}

fn index(table: &Table, key: &Key) -> IndexInfo {
    let kind = match key.kind {
        KeyKind::Fulltext => "FULLTEXT",
        KeyKind::Spatial => "SPATIAL",
        _ => table.algorithm(key).unwrap_or("BTREE"),
    };
    IndexInfo {
        name: key.name.clone(),
        unique: matches!(key.kind, KeyKind::Primary | KeyKind::Unique),
        kind: kind.to_owned(),
        parts: (key.parts.iter())
            .map(|part| {
                let (column, expression) = match &part.what {
                    KeyPartOf::Column(name) => (Some(name.clone()), None),
                    KeyPartOf::Expression(text) => (None, Some(text.clone())),
                };
                IndexPart {
                    column,
                    expression,
                    prefix: match key.kind {
                        KeyKind::Spatial => Some(RECTANGLE),
                        _ => part.prefix.map(u64::from),
                    },
                    descending: part.descending,
                }
            })
            .collect(),
        comment: key.comment.clone(),
        visible: !key.invisible,
    }
}

fn foreign_key(schema: &str, key: &ForeignKey) -> ForeignKeyInfo {
    let rule = |rule: &Option<String>| rule.clone().unwrap_or_else(|| "NO ACTION".to_owned());
    ForeignKeyInfo {
        name: key.name.clone(),
        columns: key.columns.clone(),
        referenced_database: key.schema.clone().unwrap_or_else(|| schema.to_owned()),
        referenced_table: key.table.clone(),
        referenced_columns: key.referenced.clone(),
        on_update: rule(&key.on_update),
        on_delete: rule(&key.on_delete),
    }
}

#[cfg(test)]
mod tests {
    use tributary_flow::OrderKey;
    use tributary_schema::{Collation, History, Moment, Session, Statement};

    use super::*;

    #[test]
    fn clients_see_what_is_durable() {
        let mut history = History::new(Collation::DEFAULT);
        for (gno, sql) in [
            (1, "CREATE DATABASE s CHARSET latin1"),
            (
                2,
                "CREATE TABLE s.t (id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, v VARCHAR(7) DEFAULT 'x', \
                 at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), \
                 d DECIMAL(9,2), twice INT AS (id * 2) STORED, KEY v_key (v(3) DESC))",
            ),
            (3, "CREATE VIEW s.w AS SELECT 1"),
        ] {
            let at = Moment {
                gno,
                key: OrderKey::MIN.into(),
                commit_time: gno,
            };
            let statement = Statement::parse(sql, Session::in_schema(""));
            let record = history.record(at, &statement);
            history.apply(record).unwrap();
        }
        let schema = DurableSchema::new(history);
        let databases = schema.databases();
        assert_eq!(
            (databases[0].name.as_str(), databases[0].charset.as_str()),
            ("s", "latin1")
        );
        let tables = schema.tables("s");
        assert_eq!(tables.len(), 2);
        let t = schema.table("s", "t").unwrap();
        assert!(
            t.create_statement.starts_with("CREATE TABLE `t` ("),
            "{t:?}"
        );
        let types: Vec<&str> = t.columns.iter().map(|c| c.column_type.as_str()).collect();
        assert_eq!(
            types,
            [
                "int unsigned",
                "varchar(7)",
                "datetime(3)",
                "decimal(9,2)",
                "int"
            ]
        );
        let names: Vec<&str> = t.columns.iter().map(|c| c.data_type.as_str()).collect();
        assert_eq!(names, ["int", "varchar", "datetime", "decimal", "int"]);
        assert_eq!(t.columns[0].extra, "auto_increment");
        assert_eq!(
            t.columns[2].extra,
            "DEFAULT_GENERATED on update CURRENT_TIMESTAMP(3)"
        );
        assert_eq!(t.columns[4].extra, "STORED GENERATED");
        assert_eq!(
            (t.columns[1].octet_length, t.columns[3].scale),
            (Some(7), Some(2))
        );
        assert_eq!(t.indexes[0].name, "PRIMARY");
        assert_eq!(t.indexes[1].parts[0].prefix, Some(3));
        assert!(schema.table("s", "w").unwrap().view);
    }
}
