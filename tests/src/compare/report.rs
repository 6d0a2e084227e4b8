//! The outcome of a comparison: in go findings, out comes `PASS` or what differs, in words.

use std::fmt;

use super::digest::TextRow;

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The shards have the table, the replica has not.
    MissingTable,
    /// The replica has the table, no shard has.
    ExtraTable,
    /// The definitions differ.
    Definition(String),
    /// The numbers of rows differ.
    RowCount {
        /// Rows on all shards together.
        shards: u64,
        /// Rows on the replica.
        replica: u64,
    },
    /// A row is on a shard and not on the replica.
    MissingRow {
        /// Its primary key.
        key: String,
    },
    /// A row is on the replica and on no shard.
    ExtraRow {
        /// Its primary key.
        key: String,
    },
    /// A row is not the same.
    ChangedRow {
        /// Its primary key.
        key: String,
        /// The columns that differ, with both values, shortened.
        columns: Vec<String>,
    },
    /// A row is on several shards, or several times on the replica.
    RepeatedRow {
        /// Its primary key.
        key: String,
        /// How often it is on the shards, and on the replica.
        times: (usize, usize),
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingTable => write!(f, "is not on the replica"),
            Self::ExtraTable => write!(f, "is on the replica only"),
            Self::Definition(what) => write!(f, "{what}"),
            Self::RowCount { shards, replica } => {
                write!(f, "{shards} rows on the shards, {replica} on the replica")
            }
            Self::MissingRow { key } => write!(f, "row {key} is not on the replica"),
            Self::ExtraRow { key } => write!(f, "row {key} is on the replica only"),
            Self::ChangedRow { key, columns } => {
                write!(f, "row {key} differs: {}", columns.join("; "))
            }
            Self::RepeatedRow {
                key,
                times: (shards, replica),
            } => {
                write!(
                    f,
                    "row {key} is {shards} times on shards, {replica} times on the replica"
                )
            }
        }
    }
}

/// What was compared and what differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Tables compared.
    pub tables: usize,
    /// Rows on the shards.
    pub rows: u64,
    /// Table (`schema.table`) and what differs.
    pub differences: Vec<(String, Difference)>,
}

impl Comparison {
    /// Whether all tables are the same, and there are any.
    pub fn is_same(&self) -> bool {
        self.differences.is_empty() && self.tables > 0
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tables,
            rows,
            differences,
        } = self;
        if self.is_same() {
            return write!(f, "PASS: {tables} tables with {rows} rows are the same");
        }
        write!(
            f,
            "FAIL: {} differences in {tables} tables",
            differences.len()
        )?;
        for (table, difference) in differences {
            write!(f, "\n  {table}: {difference}")?;
        }
        Ok(())
    }
}

/// A value, shortened: binary as hex.
pub(super) fn show(value: Option<&[u8]>) -> String {
    const LONGEST: usize = 60;
    let Some(bytes) = value else {
        return "NULL".to_owned();
    };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => format!("'{text}'"),
        _ => bytes
            .iter()
            .fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    };
    if text.chars().count() > LONGEST {
        let start: String = text.chars().take(LONGEST).collect();
        return format!("{start}… ({} bytes)", bytes.len());
    }
    text
}

/// A key's values.
pub(super) fn show_key(key: &TextRow) -> String {
    let values: Vec<String> = key.iter().map(|value| show(value.as_deref())).collect();
    format!("({})", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_short() {
        assert_eq!(show(None), "NULL");
        assert_eq!(show(Some(b"abc")), "'abc'");
        assert_eq!(show(Some(&[0, 255])), "0x00ff");
        assert!(show(Some(&[b'a'; 200])).ends_with("… (200 bytes)"));
    }

    #[test]
    fn nothing_compared_is_no_pass() {
        assert!(!Comparison::default().is_same());
        assert!(Comparison::default().to_string().starts_with("FAIL"));
    }
}
