//! Names of binlog files and places in them.
//!
//! In: texts such as `binlog.000007` and `binlog.000007:154`. Out: [`BinlogFile`] and [`BinlogPos`], ordered as the
//! server writes them. The number has at least six digits and grows past them (`MYSQL_BIN_LOG::generate_new_name` of
//! `sql/binlog.cc`).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// The longest file name MySQL accepts, in bytes (`FN_REFLEN`).
const MAX_NAME_LEN: usize = 512;

/// Why a text is no binlog file name or position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PosError {
    /// No `base.number` with a decimal number.
    #[error("'{0}' is not a binlog file name (expected base.number, such as binlog.000001)")]
    Name(String),
    /// The base holds a path separator or a NUL.
    #[error("binlog file name '{0}' holds a path separator or a NUL byte")]
    Path(String),
    /// Longer than MySQL allows.
    #[error("binlog file name has {0} bytes, MySQL allows 512")]
    TooLong(usize),
    /// No `file:offset`.
    #[error("'{0}' is not a binlog position (expected file:offset, such as binlog.000001:4)")]
    Position(String),
}

/// A binlog file name: base name and number. Cheap to clone; ordered by base, then number.
#[derive(Clone)]
pub struct BinlogFile {
    name: Arc<str>,
    base_len: usize,
    seq: u64,
}

impl BinlogFile {
    /// The name MySQL gives file `seq` of `base`: `base.000007`.
    #[must_use]
    pub fn new(base: &str, seq: u64) -> Self {
        Self {
            name: format!("{base}.{seq:06}").into(),
            base_len: base.len(),
            seq,
        }
    }

    /// Takes a name apart. No path components are allowed, so that a name from a client can never leave a directory.
    ///
    /// # Errors
    /// When there is no decimal number behind the last dot, no base before it, or the name is unusable as a file name.
    pub fn parse(name: &str) -> Result<Self, PosError> {
        if name.len() > MAX_NAME_LEN {
            return Err(PosError::TooLong(name.len()));
        }
        if name.contains(['/', '\\', '\0']) {
            return Err(PosError::Path(name.to_owned()));
        }
        let bad = || PosError::Name(name.to_owned());
        let (base, digits) = name.rsplit_once('.').ok_or_else(bad)?;
        if base.is_empty() || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let seq = digits.parse().map_err(|_| bad())?;
        Ok(Self {
            name: name.into(),
            base_len: base.len(),
            seq,
        })
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// What stands before the last dot.
    #[must_use]
    pub fn base(&self) -> &str {
        self.name.get(..self.base_len).unwrap_or(&self.name)
    }

    /// The number behind the last dot.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The name of the file that follows this one.
    #[must_use]
    pub fn next(&self) -> Self {
        Self::new(self.base(), self.seq.saturating_add(1))
    }
}

impl PartialEq for BinlogFile {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for BinlogFile {}

impl Hash for BinlogFile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Ord for BinlogFile {
    /// By base, then number; names that differ only in leading zeros are told apart by their text.
    fn cmp(&self, other: &Self) -> Ordering {
        self.base()
            .cmp(other.base())
            .then(self.seq.cmp(&other.seq))
            .then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for BinlogFile {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for BinlogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl fmt::Debug for BinlogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BinlogFile({})", self.name)
    }
}

impl FromStr for BinlogFile {
    type Err = PosError;
    fn from_str(s: &str) -> Result<Self, PosError> {
        Self::parse(s)
    }
}

impl TryFrom<&str> for BinlogFile {
    type Error = PosError;
    fn try_from(s: &str) -> Result<Self, PosError> {
        Self::parse(s)
    }
}

/// A place between two events of a file: the byte offset of the later one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BinlogPos {
    /// The file.
    pub file: BinlogFile,
    /// Bytes from its start; the first event is at 4.
    pub offset: u64,
}

impl fmt::Display for BinlogPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

impl FromStr for BinlogPos {
    type Err = PosError;
    fn from_str(s: &str) -> Result<Self, PosError> {
        let bad = || PosError::Position(s.to_owned());
        let (file, offset) = s.rsplit_once(':').ok_or_else(bad)?;
        if !offset.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        Ok(Self {
            file: BinlogFile::parse(file)?,
            offset: offset.parse().map_err(|_| bad())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(s: &str) -> BinlogFile {
        BinlogFile::parse(s).expect("a good name")
    }

    #[test]
    fn numbers_order_files_not_text() {
        assert!(file("binlog.999999") < file("binlog.1000000"));
        assert!(file("a.000002") < file("b.000001"));
        assert_ne!(file("binlog.7"), file("binlog.000007"));
        assert_eq!(file("binlog.999999").next().as_str(), "binlog.1000000");
    }

    #[test]
    fn a_base_may_hold_dots() {
        let f = file("db1.example.000012");
        assert_eq!((f.base(), f.seq()), ("db1.example", 12));
        assert_eq!(f, BinlogFile::new("db1.example", 12));
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in [
            "",
            "binlog",
            ".000001",
            "binlog.",
            "binlog.00a1",
            "binlog.+1",
            "binlog.99999999999999999999",
        ] {
            assert!(
                matches!(BinlogFile::parse(bad), Err(PosError::Name(_))),
                "{bad:?}"
            );
        }
        for bad in ["../binlog.000001", "a\\b.000001", "binlog\0.000001"] {
            assert!(
                matches!(BinlogFile::parse(bad), Err(PosError::Path(_))),
                "{bad:?}"
            );
        }
        let long = format!("{}.000001", "b".repeat(510));
        assert_eq!(BinlogFile::parse(&long), Err(PosError::TooLong(517)));
        for bad in [
            "binlog.000001",
            "binlog.000001:",
            "binlog.000001:-4",
            "binlog.000001:+4",
            "x:4",
        ] {
            assert!(bad.parse::<BinlogPos>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn position_round_trips() {
        let pos: BinlogPos = "binlog.000007:154".parse().expect("good");
        assert_eq!(
            pos,
            BinlogPos {
                file: BinlogFile::new("binlog", 7),
                offset: 154
            }
        );
        assert_eq!(pos.to_string(), "binlog.000007:154");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(s in ".{0,40}") {
            let _ = BinlogFile::parse(&s);
            let _ = s.parse::<BinlogPos>();
        }

        #[test]
        fn names_round_trip(base in "[a-z.-]{1,20}", seq: u64) {
            let f = BinlogFile::new(&base, seq);
            prop_assert_eq!(BinlogFile::parse(f.as_str()), Ok(f.clone()));
            prop_assert_eq!((f.base(), f.seq()), (base.as_str(), seq));
        }
    }
}
