//! `SHOW CREATE TABLE`, as `store_create_info` of `sql/sql_show.cc` writes it.
//!
//! In: a table. Out: the text. Expressions and partitions stand as they came: text that was taken from a server's own
//! `SHOW CREATE TABLE` comes out byte for byte, text of a statement as the statement has it.

use std::fmt::Write as _;

use super::{
    Check, Column, DataType, DefaultValue, ForeignKey, Key, KeyKind, KeyPart, KeyPartOf, Table,
};
use crate::charset::{Charset, Collation};
use crate::lex::{quote_name, quote_text};

/// Options behind the character set, in the server's order, with what stands around each.
const OPTIONS: [(&str, &str, &str); 21] = [
    ("MIN_ROWS", "", ""),
    ("MAX_ROWS", "", ""),
    ("AVG_ROW_LENGTH", "", ""),
    ("PACK_KEYS", "", ""),
    ("STATS_PERSISTENT", "", ""),
    ("STATS_AUTO_RECALC", "", ""),
    ("STATS_SAMPLE_PAGES", "", ""),
    ("CHECKSUM", "", ""),
    ("DELAY_KEY_WRITE", "", ""),
    ("ROW_FORMAT", "", ""),
    ("KEY_BLOCK_SIZE", "", ""),
    ("COMPRESSION", "", ""),
    ("ENCRYPTION", "/*!80016 ", " */"),
    ("ENGINE_ATTRIBUTE", "/*!80021 ", " */"),
    ("SECONDARY_ENGINE_ATTRIBUTE", "/*!80021 ", " */"),
    ("COMMENT", "", ""),
    ("CONNECTION", "", ""),
    ("UNION", "", ""),
    ("INSERT_METHOD", "", ""),
    ("DATA DIRECTORY", "", ""),
    ("INDEX DIRECTORY", "", ""),
];

impl Table {
    /// The text of `SHOW CREATE TABLE`, without `AUTO_INCREMENT`.
    #[must_use]
    pub fn show_create(&self) -> String {
        let mut lines: Vec<String> = self.columns.iter().map(|c| self.show_column(c)).collect();
        lines.extend(self.keys_in_order().into_iter().map(|k| self.show_key(k)));
        let mut foreign: Vec<&ForeignKey> = self.foreign_keys.iter().collect();
        foreign.sort_by(|a, b| a.name.cmp(&b.name));
        lines.extend(foreign.into_iter().map(show_foreign_key));
        let mut checks: Vec<&Check> = self.checks.iter().collect();
        checks.sort_by(|a, b| a.name.cmp(&b.name));
        lines.extend(checks.into_iter().map(show_check));
        let mut out = format!("CREATE TABLE {} (\n  ", quote_name(&self.name));
        out.push_str(&lines.join(",\n  "));
        out.push_str("\n)");
        self.show_options(&mut out);
        if let Some(partitioning) = &self.partitioning {
            let columns = partitioning.split('(').next().unwrap_or("").to_uppercase();
            let version = if columns.contains("COLUMNS") {
                "50500"
            } else {
                "50100"
            };
            let _ = write!(out, "\n/*!{version} {partitioning} */");
        }
        out
    }

    fn show_column(&self, column: &Column) -> String {
        let mut out = format!("{} {}", quote_name(&column.name), column.data_type);
        if column.data_type.has_charset() {
            self.show_collation(column, &mut out);
        }
        if let Some(generated) = &column.generated {
            let stored = if generated.stored {
                "STORED"
            } else {
                "VIRTUAL"
            };
            let _ = write!(
                out,
                " GENERATED ALWAYS AS ({}) {stored}",
                generated.expression
            );
        }
        if !column.nullable {
            out.push_str(" NOT NULL");
        } else if matches!(column.data_type, DataType::Timestamp(_)) {
            out.push_str(" NULL");
        }
        if let Some(srid) = column.srid {
            let _ = write!(out, " /*!80003 SRID {srid} */");
        }
        show_default(column, &mut out);
        if column.on_update_now {
            let _ = write!(out, " ON UPDATE {}", now(&column.data_type));
        }
        if column.auto_increment {
            out.push_str(" AUTO_INCREMENT");
        }
        if column.invisible {
            out.push_str(" /*!80023 INVISIBLE */");
        }
        if !column.comment.is_empty() {
            let _ = write!(out, " COMMENT {}", quote_text(&column.comment));
        }
        out
    }

    fn show_collation(&self, column: &Column, out: &mut String) {
        let (Some(charset), Some(name)) = (column.collation.charset(), column.collation.name())
        else {
            return;
        };
        let differs = column.collation != self.collation;
        if column.explicit_collation || differs {
            let _ = write!(out, " CHARACTER SET {}", charset.name());
        }
        if column.explicit_collation || differs || !column.collation.is_primary() {
            let _ = write!(out, " COLLATE {name}");
        }
    }

    fn show_options(&self, out: &mut String) {
        if let Some(tablespace) = self.option("TABLESPACE") {
            let _ = write!(out, " /*!50100 TABLESPACE {tablespace} */");
        }
        let _ = write!(out, " ENGINE={}", self.engine);
        if let Some(size) = self.option("AUTOEXTEND_SIZE") {
            let _ = write!(out, " /*!80023 AUTOEXTEND_SIZE={size} */");
        }
        show_charset(self.collation, out);
        for (name, before, behind) in OPTIONS {
            if name == "COMMENT" {
                if !self.comment.is_empty() {
                    let _ = write!(out, " COMMENT={}", quote_text(&self.comment));
                }
            } else if let Some(value) = self.option(name) {
                let _ = write!(out, " {before}{name}={value}{behind}");
            }
        }
    }

    fn option(&self, name: &str) -> Option<&str> {
        let mut options = self.options.iter();
        options.find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Keys in the order in which the server shows them (`sort_keys`, `sql/sql_table.cc`).
    #[must_use]
    pub fn keys_in_order(&self) -> Vec<&Key> {
        let mut keys: Vec<&Key> = self.keys.iter().collect();
        let column = |part: &KeyPart| match &part.what {
            KeyPartOf::Column(name) => self.column(name),
            KeyPartOf::Expression(_) => None,
        };
        let rank = |key: &Key| {
            let nullable = key
                .parts
                .iter()
                .any(|p| column(p).is_none_or(|c| c.nullable));
            let virtual_part = key
                .parts
                .iter()
                .any(|p| column(p).is_none_or(|c| c.generated.as_ref().is_some_and(|g| !g.stored)));
            let unique = matches!(key.kind, KeyKind::Primary | KeyKind::Unique);
            let prefixed = unique && key.parts.iter().any(|p| p.prefix.is_some());
            (
                !unique,
                key.kind != KeyKind::Primary,
                unique && nullable,
                prefixed,
                key.kind == KeyKind::Fulltext,
                virtual_part,
            )
        };
        keys.sort_by_key(|k| rank(k));
        keys
    }

    /// What a key was said to be made with, unless its engine makes it with something else: InnoDB knows no `HASH`.
    #[must_use]
    pub fn algorithm<'a>(&self, key: &'a Key) -> Option<&'a str> {
        let using = key.using.as_deref()?;
        let hashes = ["MEMORY", "NDB", "NDBCLUSTER"];
        let ignored =
            using == "HASH" && !hashes.iter().any(|e| self.engine.eq_ignore_ascii_case(e));
        (!ignored).then_some(using)
    }

    fn show_key(&self, key: &Key) -> String {
        let mut out = match key.kind {
            KeyKind::Primary => "PRIMARY KEY".to_owned(),
            KeyKind::Unique => "UNIQUE KEY".to_owned(),
            KeyKind::Plain => "KEY".to_owned(),
            KeyKind::Fulltext => "FULLTEXT KEY".to_owned(),
            KeyKind::Spatial => "SPATIAL KEY".to_owned(),
        };
        if key.kind != KeyKind::Primary {
            let _ = write!(out, " {}", quote_name(&key.name));
        }
        let parts: Vec<String> = key.parts.iter().map(show_part).collect();
        let _ = write!(out, " ({})", parts.join(","));
        if let Some(using) = self.algorithm(key) {
            let _ = write!(out, " USING {using}");
        }
        if let Some(size) = key.block_size {
            let _ = write!(out, " KEY_BLOCK_SIZE={size}");
        }
        if !key.comment.is_empty() {
            let _ = write!(out, " COMMENT {}", quote_text(&key.comment));
        }
        if let Some(parser) = &key.parser {
            let _ = write!(out, " /*!50100 WITH PARSER {} */", quote_name(parser));
        }
        if key.invisible {
            out.push_str(" /*!80000 INVISIBLE */");
        }
        out
    }
}

/// ` DEFAULT CHARSET=… [COLLATE=…]`.
fn show_charset(collation: Collation, out: &mut String) {
    let (Some(charset), Some(name)) = (collation.charset(), collation.name()) else {
        return;
    };
    let _ = write!(out, " DEFAULT CHARSET={}", charset.name());
    if !collation.is_primary() || Charset::by_name("utf8mb4") == Some(charset) {
        let _ = write!(out, " COLLATE={name}");
    }
}

fn now(data_type: &DataType) -> String {
    match data_type {
        DataType::Timestamp(fsp) | DataType::DateTime(fsp) if *fsp > 0 => {
            format!("CURRENT_TIMESTAMP({fsp})")
        }
        _ => "CURRENT_TIMESTAMP".to_owned(),
    }
}

fn show_default(column: &Column, out: &mut String) {
    if column.generated.is_some() || column.auto_increment {
        return;
    }
    let shown = match &column.default {
        // `DROP DEFAULT` leaves a nullable column without one.
        None => return,
        // Texts and blobs do not show it.
        Some(DefaultValue::Null)
            if matches!(column.data_type, DataType::Text(_) | DataType::Blob(_)) =>
        {
            return;
        }
        Some(DefaultValue::Null) => "NULL".to_owned(),
        Some(DefaultValue::Text(text)) => quote_text(text),
        Some(DefaultValue::Bits(digits)) => format!("b'{digits}'"),
        Some(DefaultValue::Bytes(bytes)) => {
            let hex: String = bytes.iter().map(|b| format!("{b:02X}")).collect();
            format!("0x{hex}")
        }
        Some(DefaultValue::Now) => now(&column.data_type),
        Some(DefaultValue::Expression(text)) => format!("({text})"),
    };
    let _ = write!(out, " DEFAULT {shown}");
}

fn show_part(part: &KeyPart) -> String {
    let mut out = match &part.what {
        KeyPartOf::Column(name) => quote_name(name),
        KeyPartOf::Expression(text) => format!("({text})"),
    };
    if let Some(prefix) = part.prefix {
        let _ = write!(out, "({prefix})");
    }
    if part.descending {
        out.push_str(" DESC");
    }
    out
}

fn show_foreign_key(key: &ForeignKey) -> String {
    let list = |names: &[String]| {
        let names: Vec<String> = names.iter().map(|n| quote_name(n)).collect();
        names.join(", ")
    };
    let schema = key.schema.as_ref().map(|s| format!("{}.", quote_name(s)));
    let mut out = format!(
        "CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {}{} ({})",
        quote_name(&key.name),
        list(&key.columns),
        schema.unwrap_or_default(),
        quote_name(&key.table),
        list(&key.referenced)
    );
    if let Some(option) = &key.on_delete {
        let _ = write!(out, " ON DELETE {option}");
    }
    if let Some(option) = &key.on_update {
        let _ = write!(out, " ON UPDATE {option}");
    }
    out
}

fn show_check(check: &Check) -> String {
    let tail = if check.enforced {
        ""
    } else {
        " /*!80016 NOT ENFORCED */"
    };
    format!(
        "CONSTRAINT {} CHECK ({}){tail}",
        quote_name(&check.name),
        check.expression
    )
}
