//! Definitions of columns: types and what follows them.
//!
//! In: tokens behind a column's name. Out: a [`ColumnDef`], which becomes a column once the table's collation is known.

use super::default::{bit_bytes, normalise_default};
use super::reader::{NameRole, Reader};
use crate::charset::{Charset, Collation};
use crate::lex::TokenKind;
use crate::table::{
    BlobSize, Check, Column, DataType, DefaultValue, ForeignKey, Generated, GeometryKind, Key,
    KeyKind,
};

/// A column as a statement writes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ColumnDef {
    pub(crate) column: Column,
    charset: Option<Charset>,
    collate: Option<Collation>,
    /// The attribute `BINARY` of character types.
    bin: bool,
    /// n of `TEXT(n)`, which chooses the size.
    text_len: Option<u64>,
    /// A charset that cannot be told from the text (`BYTE` makes it binary).
    bytes: bool,
    /// Keys and constraints written with the column.
    pub(crate) keys: Vec<Key>,
    pub(crate) foreign_keys: Vec<ForeignKey>,
    pub(crate) checks: Vec<Check>,
    /// `NULL` was written.
    explicit_null: bool,
}

impl ColumnDef {
    pub(super) fn new(name: &str, data_type: DataType) -> Self {
        Self {
            column: Column::new(name, data_type, Collation::BINARY),
            charset: None,
            collate: None,
            bin: false,
            text_len: None,
            bytes: false,
            keys: Vec::new(),
            foreign_keys: Vec::new(),
            checks: Vec::new(),
            explicit_null: false,
        }
    }

    /// The column in a table with this collation.
    pub(crate) fn resolve(&self, table: Collation) -> Column {
        let mut column = self.column.clone();
        let named = self
            .collate
            .or(self.charset.map(Charset::default_collation));
        // `COLLATE` alone, with what the table has anyway, is how the server shows what is inherited.
        let inherited = self.charset.is_none() && self.collate == Some(table);
        column.explicit_collation = (named.is_some() && !inherited) || self.bin;
        let mut collation = named.unwrap_or(table);
        if self.bin && self.collate.is_none() {
            collation = collation.to_bin();
        }
        let binary = self.bytes || collation == Collation::BINARY;
        if let Some(len) = self.text_len {
            let max = collation.charset().map_or(1, Charset::max_len);
            let bytes = match column.data_type {
                DataType::Text(_) => len.saturating_mul(u64::from(max)),
                _ => len,
            };
            let size = BlobSize::for_bytes(bytes);
            match &mut column.data_type {
                DataType::Text(s) | DataType::Blob(s) => *s = size,
                _ => {}
            }
        }
        if binary {
            column.data_type = match column.data_type {
                DataType::Char(n) => DataType::Binary(n),
                DataType::VarChar(n) => DataType::VarBinary(n),
                DataType::Text(size) => DataType::Blob(size),
                other => other,
            };
        }
        column.collation = Collation::BINARY;
        if column.data_type.has_charset() {
            column.collation = collation;
        } else {
            column.explicit_collation = false;
        }
        column.nullable &= !column.auto_increment;
        normalise_default(&mut column);
        let lacks = column.default.is_none() && column.nullable && column.generated.is_none();
        if lacks && !matches!(column.data_type, DataType::Text(_) | DataType::Blob(_)) {
            column.default = Some(DefaultValue::Null);
        }
        column
    }
}

impl Reader<'_> {
    /// The name of a column and its definition. `None` when the type is not known.
    pub(super) fn column(&mut self) -> Option<ColumnDef> {
        let name = self.ident()?;
        self.column_definition(&name)
    }

    pub(super) fn column_definition(&mut self, name: &str) -> Option<ColumnDef> {
        let word = self.word(0);
        let mut def = self.data_type(name)?;
        self.column_attributes(&mut def);
        super::create::serial(&mut def, &word);
        Some(def)
    }

    fn data_type(&mut self, name: &str) -> Option<ColumnDef> {
        let word = self.word(0);
        if self.token(0)?.kind != TokenKind::Word {
            return None;
        }
        self.at += 1;
        let def = self
            .numeric_type(&word)
            .or_else(|| self.temporal_type(&word));
        if let Some(data_type) = def {
            return Some(ColumnDef::new(name, data_type));
        }
        self.string_type(&word, name)
    }

    fn numeric_type(&mut self, word: &str) -> Option<DataType> {
        let bytes = match word {
            "TINYINT" | "INT1" | "BOOL" | "BOOLEAN" => 1,
            "SMALLINT" | "INT2" => 2,
            "MEDIUMINT" | "INT3" | "MIDDLEINT" => 3,
            "INT" | "INTEGER" | "INT4" => 4,
            "BIGINT" | "INT8" | "SERIAL" => 8,
            "BIT" => return Some(DataType::Bit(self.number_in_parens().unwrap_or(1) as u8)),
            "DECIMAL" | "DEC" | "NUMERIC" | "FIXED" => {
                let (precision, scale) = self.digits().unwrap_or((10, 0));
                let (unsigned, zerofill) = self.sign();
                return Some(DataType::Decimal {
                    precision: if precision == 0 { 10 } else { precision },
                    scale,
                    unsigned,
                    zerofill,
                });
            }
            "FLOAT" | "FLOAT4" | "DOUBLE" | "FLOAT8" | "REAL" => return Some(self.real(word)),
            _ => return None,
        };
        let mut width = self.number_in_parens().map(|n| n as u8);
        let (mut unsigned, zerofill) = self.sign();
        match word {
            "BOOL" | "BOOLEAN" => width = Some(1),
            "SERIAL" => unsigned = true,
            _ => {}
        }
        if zerofill {
            width = width.or(Some(zerofill_width(bytes)));
        } else if !(bytes == 1 && width == Some(1) && !unsigned) {
            width = None;
        }
        Some(DataType::Int {
            bytes,
            unsigned,
            zerofill,
            width,
        })
    }

    fn real(&mut self, word: &str) -> DataType {
        self.eat("PRECISION");
        let mut double = !word.starts_with("FLOAT") || word == "FLOAT8";
        let digits = match self.number_in_parens() {
            Some(bits) => {
                double |= bits > 24;
                None
            }
            None => self.digits(),
        };
        let (unsigned, zerofill) = self.sign();
        DataType::Real {
            double,
            digits,
            unsigned,
            zerofill,
        }
    }

    /// `(p)` or `(p,s)`.
    fn digits(&mut self) -> Option<(u8, u8)> {
        if !self.mark("(") {
            return None;
        }
        let precision = self.number()?;
        let scale = if self.mark(",") { self.number()? } else { 0 };
        self.mark(")");
        Some((u8::try_from(precision).ok()?, u8::try_from(scale).ok()?))
    }

    fn sign(&mut self) -> (bool, bool) {
        let (mut unsigned, mut zerofill) = (false, false);
        loop {
            if self.eat("UNSIGNED") {
                unsigned = true;
            } else if self.eat("ZEROFILL") {
                (unsigned, zerofill) = (true, true);
            } else if !self.eat("SIGNED") {
                return (unsigned, zerofill);
            }
        }
    }

    fn temporal_type(&mut self, word: &str) -> Option<DataType> {
        let make = match word {
            "TIME" => DataType::Time,
            "DATETIME" => DataType::DateTime,
            "TIMESTAMP" => DataType::Timestamp,
            "DATE" => return Some(DataType::Date),
            "YEAR" => {
                self.number_in_parens();
                self.sign();
                return Some(DataType::Year);
            }
            "JSON" => return Some(DataType::Json),
            "VECTOR" => {
                let n = self.number_in_parens().unwrap_or(2048);
                return Some(DataType::Vector(n as u32));
            }
            other => return GeometryKind::by_name(other).map(DataType::Geometry),
        };
        Some(make(self.number_in_parens().unwrap_or(0).min(6) as u8))
    }

    fn string_type(&mut self, word: &str, name: &str) -> Option<ColumnDef> {
        use BlobSize::{Long, Medium, Plain, Tiny};
        let mut national = false;
        let mut word = word.to_owned();
        if word == "NATIONAL" {
            national = true;
            word = self.word(0);
            self.at += 1;
        }
        if matches!(word.as_str(), "NCHAR" | "NVARCHAR") {
            national = true;
        }
        let mut varying = matches!(word.as_str(), "VARCHAR" | "NVARCHAR" | "VARCHARACTER");
        if matches!(word.as_str(), "CHAR" | "CHARACTER" | "NCHAR") {
            varying |= self.eat_any(&["VARYING", "VARCHAR", "VARCHARACTER"]);
        }
        let mut text_len = None;
        let data_type = match word.as_str() {
            "CHAR" | "CHARACTER" | "VARCHAR" | "VARCHARACTER" | "NCHAR" | "NVARCHAR" => {
                let n = self.number_in_parens().unwrap_or(1);
                let n = u32::try_from(n).ok()?;
                if varying {
                    DataType::VarChar(n)
                } else {
                    DataType::Char(n)
                }
            }
            "BINARY" => DataType::Binary(u32::try_from(self.number_in_parens().unwrap_or(1)).ok()?),
            "VARBINARY" => DataType::VarBinary(u32::try_from(self.number_in_parens()?).ok()?),
            "TINYTEXT" => DataType::Text(Tiny),
            "MEDIUMTEXT" => DataType::Text(Medium),
            "LONGTEXT" => DataType::Text(Long),
            "TINYBLOB" => DataType::Blob(Tiny),
            "MEDIUMBLOB" => DataType::Blob(Medium),
            "LONGBLOB" => DataType::Blob(Long),
            "TEXT" | "BLOB" => {
                text_len = self.number_in_parens();
                if word == "TEXT" {
                    DataType::Text(Plain)
                } else {
                    DataType::Blob(Plain)
                }
            }
            "LONG" if self.eat("VARBINARY") => DataType::Blob(Medium),
            "LONG" => {
                self.eat_any(&["VARCHAR", "CHAR VARYING"]);
                DataType::Text(Medium)
            }
            "ENUM" => DataType::Enum(self.values()?),
            "SET" => DataType::Set(self.values()?),
            _ => return None,
        };
        let mut def = ColumnDef::new(name, data_type);
        def.text_len = text_len;
        if national {
            def.charset = Charset::by_name("utf8mb3");
        }
        Some(def)
    }

    fn values(&mut self) -> Option<Vec<String>> {
        if !self.mark("(") {
            return None;
        }
        let mut values = Vec::new();
        loop {
            let start = self.at;
            let value = self.text().or_else(|| {
                let t = self.token(0).filter(|t| t.kind == TokenKind::Bits)?;
                self.at = start + 1;
                String::from_utf8(bit_bytes(t.of(self.sql))?).ok()
            })?;
            // The server takes trailing blanks off.
            values.push(value.trim_end_matches(' ').to_owned());
            if !self.mark(",") {
                return self.mark(")").then_some(values);
            }
        }
    }

    fn column_attributes(&mut self, def: &mut ColumnDef) {
        while !self.at_end() && !self.is_mark(",") && !self.is_mark(")") {
            let before = self.at;
            if !(self.charset_attribute(def)
                || self.value_attribute(def)
                || self.key_attribute(def)
                || self.storage_attribute(def))
            {
                // `FIRST` and `AFTER` belong to the statement; what is not known is passed over.
                if self.is("FIRST") || self.is("AFTER") {
                    return;
                }
                if self.parens().is_none() {
                    self.at += 1;
                }
            }
            debug_assert!(self.at > before, "every round takes something");
        }
    }

    fn charset_attribute(&mut self, def: &mut ColumnDef) -> bool {
        if self.eat("CHARACTER SET") || self.eat("CHARSET") || self.eat("CHAR SET") {
            self.mark("=");
            let name = self.ident().or_else(|| self.text()).unwrap_or_default();
            def.charset = Charset::by_name(&name);
        } else if self.eat("COLLATE") {
            self.mark("=");
            let name = self.ident().or_else(|| self.text()).unwrap_or_default();
            def.collate = Collation::by_name(&name);
        } else if self.eat("ASCII") {
            def.charset = Charset::by_name("latin1");
        } else if self.eat("UNICODE") {
            def.charset = Charset::by_name("ucs2");
        } else if self.eat("BYTE") {
            def.bytes = true;
        } else if self.eat("BINARY") {
            def.bin = true;
        } else {
            return false;
        }
        true
    }

    fn value_attribute(&mut self, def: &mut ColumnDef) -> bool {
        let column = &mut def.column;
        if self.eat("NOT NULL") {
            column.nullable = false;
        } else if self.eat("NULL") {
            column.nullable = true;
            def.explicit_null = true;
        } else if self.eat("DEFAULT") || self.eat("SERIAL DEFAULT VALUE") {
            column.default = self.default_value();
        } else if self.eat("ON UPDATE") {
            self.default_value();
            column.on_update_now = true;
        } else if self.eat("AUTO_INCREMENT") {
            column.auto_increment = true;
        } else if self.eat("GENERATED ALWAYS AS") || self.eat("AS") {
            let tokens = self.parens().unwrap_or(0..0);
            column.generated = Some(Generated {
                expression: self.text_of(tokens).to_owned(),
                stored: false,
            });
        } else if self.eat("STORED") || self.eat("VIRTUAL") {
            let stored = self.tokens.get(self.at - 1);
            let stored = stored.is_some_and(|t| t.of(self.sql).eq_ignore_ascii_case("STORED"));
            if let Some(generated) = &mut column.generated {
                generated.stored = stored;
            }
        } else if self.eat("INVISIBLE") {
            column.invisible = true;
        } else if self.eat("VISIBLE") {
            column.invisible = false;
        } else if self.eat("COMMENT") {
            column.comment = self.text().unwrap_or_default();
        } else if self.eat("SRID") {
            column.srid = self.number().and_then(|n| u32::try_from(n).ok());
        } else {
            return false;
        }
        true
    }

    fn key_attribute(&mut self, def: &mut ColumnDef) -> bool {
        let name = def.column.name.clone();
        let key = |kind, key_name: &str| Key::of_column(kind, key_name.to_owned(), &name);
        if self.eat("PRIMARY KEY") || self.eat("PRIMARY") || self.eat("KEY") {
            def.column.nullable = false;
            def.keys.push(key(KeyKind::Primary, "PRIMARY"));
        } else if self.eat("UNIQUE KEY") || self.eat("UNIQUE") {
            def.keys.push(key(KeyKind::Unique, ""));
        } else if self.is("REFERENCES") {
            let foreign = self.references(String::new(), vec![name]);
            def.foreign_keys.extend(foreign);
        } else if self.is("CONSTRAINT") || self.is("CHECK") {
            let mut symbol = String::new();
            if self.eat("CONSTRAINT") && !self.is("CHECK") {
                symbol = self.symbol().unwrap_or_default();
            }
            match self.check(symbol) {
                Some(check) => def.checks.push(check),
                None => self.at += 1,
            }
        } else {
            return false;
        }
        true
    }

    /// `CHECK (…) [NOT ENFORCED]`.
    pub(super) fn check(&mut self, name: String) -> Option<Check> {
        if !self.eat("CHECK") {
            return None;
        }
        let tokens = self.parens()?;
        let expression = self.text_of(tokens).to_owned();
        let enforced = !self.eat("NOT ENFORCED");
        self.eat("ENFORCED");
        Some(Check {
            name,
            expression,
            enforced,
        })
    }

    /// `REFERENCES t (…) [MATCH x] [ON DELETE …] [ON UPDATE …]`.
    pub(super) fn references(&mut self, name: String, columns: Vec<String>) -> Option<ForeignKey> {
        if !self.eat("REFERENCES") {
            return None;
        }
        let table = self.name(NameRole::Referenced)?;
        let referenced = self.ident_list();
        let mut key = ForeignKey {
            name,
            columns,
            schema: table.schema,
            table: table.name,
            referenced,
            on_delete: None,
            on_update: None,
        };
        loop {
            if self.eat("MATCH") {
                self.at += 1;
            } else if self.eat("ON DELETE") {
                key.on_delete = self.reference_option();
            } else if self.eat("ON UPDATE") {
                key.on_update = self.reference_option();
            } else {
                return Some(key);
            }
        }
    }

    fn reference_option(&mut self) -> Option<String> {
        for option in [
            "RESTRICT",
            "CASCADE",
            "SET NULL",
            "NO ACTION",
            "SET DEFAULT",
        ] {
            if self.eat(option) {
                // The default is not shown.
                return (option != "NO ACTION").then(|| option.to_owned());
            }
        }
        None
    }

    fn storage_attribute(&mut self, _: &mut ColumnDef) -> bool {
        if self.eat_any(&[
            "COLUMN_FORMAT",
            "STORAGE",
            "ENGINE_ATTRIBUTE",
            "SECONDARY_ENGINE_ATTRIBUTE",
        ]) {
            self.mark("=");
            if self.text().is_none() {
                self.at += 1;
            }
            return true;
        }
        self.eat("NOT SECONDARY")
    }
}

/// The width a number with zero fill has when none is given.
fn zerofill_width(bytes: u8) -> u8 {
    match bytes {
        1 => 3,
        2 => 5,
        3 => 8,
        4 => 10,
        _ => 20,
    }
}
