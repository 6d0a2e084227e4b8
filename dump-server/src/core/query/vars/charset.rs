//! Character sets a client may name.
//!
//! In: a character set's or collation's name, or a collation id from the handshake. Out: the set, its default collation
//! and its width. Results are ASCII or UTF-8 whatever is asked; only the metadata follows.

use crate::wire::resultset::ResultCharset;

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
}

impl Charset {
    /// What result columns say.
    pub(crate) fn result(&self) -> ResultCharset {
        ResultCharset {
            collation: self.id,
            bytes_per_char: self.bytes_per_char,
        }
    }
}

const fn charset(name: &'static str, collation: &'static str, id: u16, width: u32) -> Charset {
    Charset {
        name,
        collation,
        id,
        bytes_per_char: width,
    }
}

/// Default collation first within each set.
static CHARSETS: &[Charset] = &[
    charset("utf8mb4", "utf8mb4_0900_ai_ci", 255, 4),
    charset("utf8mb4", "utf8mb4_general_ci", 45, 4),
    charset("utf8mb4", "utf8mb4_bin", 46, 4),
    charset("utf8mb4", "utf8mb4_unicode_ci", 224, 4),
    charset("utf8mb4", "utf8mb4_unicode_520_ci", 246, 4),
    charset("utf8mb4", "utf8mb4_0900_as_cs", 278, 4),
    charset("utf8mb4", "utf8mb4_0900_bin", 309, 4),
    charset("utf8mb3", "utf8mb3_general_ci", 33, 3),
    charset("utf8mb3", "utf8mb3_bin", 83, 3),
    charset("utf8mb3", "utf8mb3_unicode_ci", 192, 3),
    charset("latin1", "latin1_swedish_ci", 8, 1),
    charset("latin1", "latin1_general_ci", 48, 1),
    charset("latin1", "latin1_bin", 47, 1),
    charset("ascii", "ascii_general_ci", 11, 1),
    charset("ascii", "ascii_bin", 65, 1),
    charset("binary", "binary", 63, 1),
    charset("gbk", "gbk_chinese_ci", 28, 2),
    charset("gb2312", "gb2312_chinese_ci", 24, 2),
    charset("gb18030", "gb18030_chinese_ci", 248, 4),
    charset("big5", "big5_chinese_ci", 1, 2),
    charset("sjis", "sjis_japanese_ci", 13, 2),
    charset("cp932", "cp932_japanese_ci", 95, 2),
    charset("ujis", "ujis_japanese_ci", 12, 3),
    charset("euckr", "euckr_korean_ci", 19, 2),
    charset("latin2", "latin2_general_ci", 9, 1),
    charset("cp1250", "cp1250_general_ci", 26, 1),
    charset("cp1251", "cp1251_general_ci", 51, 1),
    charset("cp1256", "cp1256_general_ci", 57, 1),
    charset("koi8r", "koi8r_general_ci", 7, 1),
];

/// Every character set with every collation known here.
pub(crate) fn charsets() -> &'static [Charset] {
    CHARSETS
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
    CHARSETS.iter().find(|c| c.name == name).copied()
}

/// The character set that has this collation.
pub(crate) fn charset_by_collation(name: &str) -> Option<Charset> {
    let name = canonical(name);
    CHARSETS.iter().find(|c| c.collation == name).copied()
}

impl Charset {
    /// The character set of a collation id; an unknown id counts as the server's default.
    pub(crate) fn by_id(id: u16) -> Self {
        CHARSETS
            .iter()
            .find(|c| c.id == id)
            .copied()
            .unwrap_or(CHARSETS[0])
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
