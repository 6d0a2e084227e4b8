//! Character sets a client may name.
//!
//! In: a character set's or collation's name, or a collation id from the handshake. Out: the set, its default collation
//! and its width. Results are ASCII or UTF-8 whatever is asked; only the metadata follows.

use super::collations::{COLLATIONS, DESCRIPTIONS};
use crate::wire::resultset::ResultCharset;

/// utf8mb4_0900_ai_ci.
const SERVER_DEFAULT: u16 = 255;

/// One character set with one of its collations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charset {
    /// Name of the character set.
    pub name: &'static str,
    /// Name of the collation.
    pub collation: &'static str,
    /// Id of the collation.
    pub id: u16,
    /// Greatest bytes per character.
    pub bytes_per_char: u32,
    /// `Sortlen` of SHOW COLLATION.
    pub sort_length: u32,
    /// Whether spaces at the end count.
    pub pad: Pad,
}

/// Whether spaces at the end of a text count when it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pad {
    /// They do.
    None,
    /// They do not.
    Space,
}

impl Pad {
    /// MySQL's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "NO PAD",
            Self::Space => "PAD SPACE",
        }
    }
}

impl Charset {
    /// True for the collation its character set has unless told otherwise.
    pub(crate) fn is_default(&self) -> bool {
        charset_by_name(self.name).is_some_and(|default| default.id == self.id)
    }

    /// What MySQL calls the character set.
    pub(crate) fn description(&self) -> &'static str {
        let found = DESCRIPTIONS.iter().find(|(name, _)| *name == self.name);
        found.map_or(self.name, |(_, text)| text)
    }

    /// What result columns say.
    pub(crate) fn result(&self) -> ResultCharset {
        ResultCharset {
            collation: self.id,
            bytes_per_char: self.bytes_per_char,
        }
    }
}

/// Every character set with every collation known here.
pub(crate) fn charsets() -> &'static [Charset] {
    COLLATIONS
}

fn canonical(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.strip_prefix("utf8") {
        Some("") => "utf8mb3".to_owned(),
        Some(rest) if rest.starts_with('_') => format!("utf8mb3{rest}"),
        _ => lower,
    }
}

/// The character set of this name, with its default collation.
pub(crate) fn charset_by_name(name: &str) -> Option<Charset> {
    let name = canonical(name);
    COLLATIONS.iter().find(|c| c.name == name).copied()
}

/// The character set that has this collation.
pub(crate) fn charset_by_collation(name: &str) -> Option<Charset> {
    let name = canonical(name);
    COLLATIONS.iter().find(|c| c.collation == name).copied()
}

impl Charset {
    /// The character set of a collation id; an unknown id counts as the server's default.
    pub(crate) fn by_id(id: u16) -> Self {
        COLLATIONS
            .iter()
            .find(|c| c.id == id)
            .or_else(|| COLLATIONS.iter().find(|c| c.id == SERVER_DEFAULT))
            .copied()
            .expect("the table holds the server's default collation")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf8_is_the_three_byte_set() {
        assert_eq!(
            charset_by_name("UTF8").map(|c| (c.name, c.id)),
            Some(("utf8mb3", 33))
        );
        assert_eq!(charset_by_name("utf8mb4").map(|c| c.id), Some(255));
        assert_eq!(
            charset_by_collation("utf8_general_ci").map(|c| c.id),
            Some(33)
        );
        assert_eq!(charset_by_name("klingon"), None);
        assert_eq!(Charset::by_id(0).name, "utf8mb4");
        assert_eq!(Charset::by_id(45).collation, "utf8mb4_general_ci");
    }
}
