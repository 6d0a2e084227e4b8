//! Character sets and collations, and text from one set to another.
//!
//! In: numbers and names of collations as table map events and DDL have them, and bytes of values. Out: what is known of
//! them, and the bytes in another character set. A character that the other set does not have is an error here, where
//! the server would write a question mark.

mod collations;
mod single;

use std::collections::HashMap;
use std::sync::OnceLock;

use collations::{CHARSETS, COLLATIONS};
use serde::{Deserialize, Serialize};

/// The number of a collation (`information_schema.COLLATIONS.ID`); 63 is `binary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Collation(pub u16);

impl Collation {
    /// Bytes, not characters.
    pub const BINARY: Self = Self(63);
    /// `utf8mb4_0900_ai_ci`, the server's default.
    pub const DEFAULT: Self = Self(255);

    /// The collation called `name`, in any case.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        // `utf8` has been short for `utf8mb3` in names of collations, too.
        let long = name
            .get(..5)
            .filter(|p| p.eq_ignore_ascii_case("utf8_"))
            .map(|_| format!("utf8mb3_{}", name.get(5..).unwrap_or("")));
        let name = long.as_deref().unwrap_or(name);
        let found = COLLATIONS
            .iter()
            .find(|(_, n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(id, ..)| Self(*id))
    }

    fn entry(self) -> Option<&'static (u16, &'static str, u8)> {
        let at = COLLATIONS.binary_search_by_key(&self.0, |(id, ..)| *id);
        COLLATIONS.get(at.ok()?)
    }

    /// Its name; `None` for a number that MySQL 9.7 does not have.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.entry().map(|(_, name, _)| *name)
    }

    /// Its character set.
    #[must_use]
    pub fn charset(self) -> Option<Charset> {
        self.entry().map(|(.., charset)| Charset(*charset))
    }

    /// Whether it is the default of its character set (`MY_CS_PRIMARY`).
    #[must_use]
    pub fn is_primary(self) -> bool {
        self.charset()
            .is_some_and(|c| c.default_collation() == self)
    }

    /// The `_bin` collation of the same character set.
    #[must_use]
    pub fn to_bin(self) -> Self {
        let name = self.charset().map(|c| format!("{}_bin", c.name()));
        name.and_then(|n| Self::by_name(&n)).unwrap_or(self)
    }
}

/// A character set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Charset(u8);

impl Charset {
    /// The character set called `name`, in any case; `utf8` is `utf8mb3`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let name = if name.eq_ignore_ascii_case("utf8") {
            "utf8mb3"
        } else {
            name
        };
        let at = CHARSETS
            .iter()
            .position(|(n, ..)| n.eq_ignore_ascii_case(name));
        at.and_then(|at| u8::try_from(at).ok()).map(Self)
    }

    fn entry(self) -> (&'static str, u8, u16) {
        let entry = CHARSETS.get(usize::from(self.0));
        entry.copied().unwrap_or(("binary", 1, 63))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().0
    }

    /// Bytes of its longest character.
    #[must_use]
    pub fn max_len(self) -> u32 {
        u32::from(self.entry().1)
    }

    /// The collation of text that is said to have this character set only.
    #[must_use]
    pub fn default_collation(self) -> Collation {
        Collation(self.entry().2)
    }
}

/// How the bytes of a set stand for characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Binary,
    Ascii,
    /// Place in `UPPER_HALVES`.
    Single(usize),
    Utf8 {
        max: usize,
    },
    /// UTF-16 without surrogates, big-endian.
    Ucs2,
    Utf16 {
        little: bool,
    },
    Utf32,
}

impl Coding {
    fn of(charset: Charset) -> Option<Self> {
        Some(match charset.name() {
            "binary" => Self::Binary,
            "ascii" => Self::Ascii,
            "utf8mb3" => Self::Utf8 { max: 3 },
            "utf8mb4" => Self::Utf8 { max: 4 },
            "ucs2" => Self::Ucs2,
            "utf16" => Self::Utf16 { little: false },
            "utf16le" => Self::Utf16 { little: true },
            "utf32" => Self::Utf32,
            name => {
                let at = single::UPPER_HALVES.iter().position(|(n, _)| *n == name);
                Self::Single(at?)
            }
        })
    }

    fn has_ascii(self) -> bool {
        !matches!(self, Self::Ucs2 | Self::Utf16 { .. } | Self::Utf32)
    }
}

/// A way from one character set to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcoder {
    from: Coding,
    to: Coding,
    ascii: Ascii,
}

/// What becomes of bytes below 0x80 that are one character each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ascii {
    /// They mean the same there.
    Same,
    /// They get a zero in front.
    TwoBytes,
    /// They get a zero behind them.
    TwoBytesLittle,
    /// They get three zeros in front.
    FourBytes,
    /// They are no characters by themselves.
    None,
}

/// Why a text cannot be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranscodeError {
    /// The bytes are no text in their character set.
    #[error("bytes that are no text in the character set of the column")]
    Malformed,
    /// The other character set lacks a character.
    #[error("the character U+{0:04X} does not exist in the character set of the logical table")]
    NoSuchCharacter(u32),
}

impl Transcoder {
    /// The way, or `None` when one of the sets is among those that are not converted (`swe7` and the multi-byte sets of
    /// East Asia: `big5`, `cp932`, `eucjpms`, `euckr`, `gb18030`, `gb2312`, `gbk`, `sjis`, `ujis`).
    #[must_use]
    pub fn new(from: Charset, to: Charset) -> Option<Self> {
        let (from, to) = (Coding::of(from)?, Coding::of(to)?);
        let ascii = match to {
            _ if !from.has_ascii() => Ascii::None,
            Coding::Utf16 { little: true } => Ascii::TwoBytesLittle,
            Coding::Utf16 { little: false } | Coding::Ucs2 => Ascii::TwoBytes,
            Coding::Utf32 => Ascii::FourBytes,
            _ => Ascii::Same,
        };
        Some(Self { from, to, ascii })
    }

    /// Appends `bytes` in the other character set.
    ///
    /// # Errors
    /// When they are no text, or a character does not exist there. `out` then ends with what was converted before.
    pub fn convert(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        if self.from == self.to || self.from == Coding::Binary || self.to == Coding::Binary {
            out.extend_from_slice(bytes);
            return Ok(());
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = match self.ascii {
                Ascii::None => 0,
                _ => ascii_run(rest),
            };
            let (head, tail) = rest.split_at(n);
            match self.ascii {
                Ascii::Same => out.extend_from_slice(head),
                Ascii::TwoBytes => put_wide::<2, 1>(head, out),
                Ascii::TwoBytesLittle => put_wide::<2, 0>(head, out),
                Ascii::FourBytes => put_wide::<4, 3>(head, out),
                Ascii::None => {}
            }
            rest = tail;
            if rest.is_empty() {
                break;
            }
            let (c, len) = decode(self.from, rest).ok_or(TranscodeError::Malformed)?;
            encode(self.to, c, out).ok_or(TranscodeError::NoSuchCharacter(c as u32))?;
            rest = rest.get(len..).unwrap_or(&[]);
        }
        Ok(())
    }
}

/// How many bytes below 0x80 it begins with.
#[inline]
fn ascii_run(bytes: &[u8]) -> usize {
    let (words, _) = bytes.as_chunks::<8>();
    let high = |word: &[u8; 8]| u64::from_ne_bytes(*word) & 0x8080_8080_8080_8080;
    let whole = 8 * words.iter().take_while(|word| high(word) == 0).count();
    let rest = bytes.get(whole..).unwrap_or(&[]);
    whole + rest.iter().take_while(|b| b.is_ascii()).count()
}

/// Appends each byte as a unit of `N` bytes of which it is the one at `AT`.
fn put_wide<const N: usize, const AT: usize>(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + N * text.len(), 0);
    let (units, _) = out.get_mut(start..).unwrap_or(&mut []).as_chunks_mut::<N>();
    for (unit, b) in units.iter_mut().zip(text) {
        if let Some(place) = unit.get_mut(AT) {
            *place = *b;
        }
    }
}

/// A text in `charset` as UTF-8; what cannot be told is U+FFFD.
#[must_use]
pub(crate) fn to_utf8(charset: Charset, bytes: &[u8]) -> String {
    let Some(coding) = Coding::of(charset).filter(|c| *c != Coding::Binary) else {
        return String::from_utf8_lossy(bytes).into_owned();
    };
    let mut out = String::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (c, len) = decode(coding, rest).unwrap_or(('\u{fffd}', 1));
        out.push(c);
        rest = rest.get(len..).unwrap_or(&[]);
    }
    out
}

/// The text in `charset`, or `None` when it cannot be written there.
#[must_use]
pub(crate) fn from_utf8(charset: Charset, text: &str) -> Option<Vec<u8>> {
    let Some(coding) = Coding::of(charset).filter(|c| *c != Coding::Binary) else {
        return Some(text.as_bytes().to_vec());
    };
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        encode(coding, c, &mut out)?;
    }
    Some(out)
}

/// The first character and its length.
fn decode(coding: Coding, bytes: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize, little: bool| {
        let pair = [*bytes.get(at)?, *bytes.get(at + 1)?];
        Some(if little {
            u16::from_le_bytes(pair)
        } else {
            u16::from_be_bytes(pair)
        })
    };
    match coding {
        Coding::Binary => None,
        Coding::Ascii => {
            let b = *bytes.first()?;
            b.is_ascii().then_some((char::from(b), 1))
        }
        Coding::Single(at) => {
            let b = *bytes.first()?;
            if b.is_ascii() {
                return Some((char::from(b), 1));
            }
            let upper = &halves().get(at)?.decode;
            let c = *upper.get(usize::from(b & 0x7f))?;
            (c != '\u{fffd}').then_some((c, 1))
        }
        Coding::Utf8 { max } => {
            let b = *bytes.first()?;
            let len = match b {
                0..=0x7f => 1,
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                _ => return None,
            };
            let text = std::str::from_utf8(bytes.get(..len)?).ok()?;
            (len <= max).then_some((text.chars().next()?, len))
        }
        Coding::Ucs2 => Some((char::from_u32(u32::from(unit(0, false)?))?, 2)),
        Coding::Utf16 { little } => {
            let first = unit(0, little)?;
            if !(0xd800..0xe000).contains(&first) {
                return Some((char::from_u32(u32::from(first))?, 2));
            }
            let pair = [first, unit(2, little)?];
            Some((char::decode_utf16(pair).next()?.ok()?, 4))
        }
        Coding::Utf32 => {
            let c = u32::from_be_bytes(*bytes.first_chunk::<4>()?);
            Some((char::from_u32(c)?, 4))
        }
    }
}

fn encode(coding: Coding, c: char, out: &mut Vec<u8>) -> Option<()> {
    let code = c as u32;
    match coding {
        Coding::Binary => return None,
        Coding::Ascii => out.push(u8::try_from(code).ok().filter(u8::is_ascii)?),
        Coding::Single(_) if c.is_ascii() => out.push(code as u8),
        Coding::Single(at) => out.push(*halves().get(at)?.encode.get(&c)?),
        Coding::Utf8 { max } => {
            let mut bytes = [0; 4];
            let text = c.encode_utf8(&mut bytes);
            if text.len() > max {
                return None;
            }
            out.extend_from_slice(text.as_bytes());
        }
        Coding::Ucs2 => out.extend_from_slice(&u16::try_from(code).ok()?.to_be_bytes()),
        Coding::Utf16 { little } => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(&if little {
                    unit.to_le_bytes()
                } else {
                    unit.to_be_bytes()
                });
            }
        }
        Coding::Utf32 => out.extend_from_slice(&code.to_be_bytes()),
    }
    Some(())
}

/// The upper half of a single-byte set, both ways.
struct Half {
    decode: Vec<char>,
    encode: HashMap<char, u8>,
}

fn halves() -> &'static [Half] {
    static HALVES: OnceLock<Vec<Half>> = OnceLock::new();
    HALVES.get_or_init(|| {
        let halves = single::UPPER_HALVES.iter().map(|(_, upper)| {
            let decode: Vec<char> = upper.chars().collect();
            // Of two bytes for one character, the first is written.
            let encode = (0x80..=0xff_u8).zip(&decode).rev();
            let encode = encode.filter(|(_, c)| **c != '\u{fffd}' && !c.is_ascii());
            let encode = encode.map(|(b, c)| (*c, b)).collect();
            Half { decode, encode }
        });
        halves.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> Charset {
        Charset::by_name(name).unwrap()
    }

    fn convert(from: &str, to: &str, bytes: &[u8]) -> Result<Vec<u8>, TranscodeError> {
        let mut out = Vec::new();
        let way = Transcoder::new(set(from), set(to)).unwrap();
        way.convert(bytes, &mut out).map(|()| out)
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(Collation::DEFAULT.name(), Some("utf8mb4_0900_ai_ci"));
        assert_eq!(Collation::by_name("UTF8_general_ci"), Some(Collation(33)));
        assert_eq!(Collation(8).charset().unwrap().name(), "latin1");
        assert!(Collation(8).is_primary() && !Collation(47).is_primary());
        assert_eq!(Collation(8).to_bin(), Collation(47));
        assert_eq!(set("utf8").max_len(), 3);
        assert_eq!(Collation(9999).name(), None);
        assert!(COLLATIONS.is_sorted_by_key(|(id, ..)| *id));
    }

    #[test]
    fn text_between_sets() {
        assert_eq!(
            convert("latin1", "utf8mb4", b"Gr\xfc\xdfe \x80").unwrap(),
            "Grüße €".as_bytes()
        );
        assert_eq!(
            convert("utf8mb4", "latin1", "Grüße €".as_bytes()).unwrap(),
            b"Gr\xfc\xdfe \x80"
        );
        assert_eq!(
            convert("cp1251", "utf8mb4", b"\xcf").unwrap(),
            "П".as_bytes()
        );
        assert_eq!(
            convert("utf8mb3", "utf8mb4", "单é".as_bytes()).unwrap(),
            "单é".as_bytes()
        );
        assert_eq!(
            convert("utf8mb4", "utf16", "a😀".as_bytes()).unwrap(),
            b"\0a\xd8\x3d\xde\0"
        );
        for (set, want) in [
            ("utf16", "\0G\0r\0\u{fc}\0."),
            ("ucs2", "\0G\0r\0\u{fc}\0."),
            ("utf16le", "G\0r\0\u{fc}\0.\0"),
            ("utf32", "\0\0\0G\0\0\0r\0\0\0\u{fc}\0\0\0."),
        ] {
            // As latin1, so that the ü is one byte.
            let want: Vec<u8> = want.chars().map(|c| c as u8).collect();
            assert_eq!(convert("latin1", set, b"Gr\xfc.").unwrap(), want, "{set}");
            assert_eq!(
                convert("utf8mb4", set, "Grü.".as_bytes()).unwrap(),
                want,
                "{set}"
            );
        }
        assert_eq!(
            convert("utf16le", "utf32", b"a\0\x3d\xd8\0\xde").unwrap(),
            b"\0\0\0a\0\x01\xf6\0"
        );
        assert_eq!(
            convert("utf8mb4", "utf8mb3", "😀".as_bytes()),
            Err(TranscodeError::NoSuchCharacter(0x1f600))
        );
        assert_eq!(
            convert("utf8mb4", "ascii", "é".as_bytes()),
            Err(TranscodeError::NoSuchCharacter(0xe9))
        );
        assert_eq!(
            convert("utf8mb4", "latin1", b"\xff"),
            Err(TranscodeError::Malformed)
        );
        assert_eq!(convert("utf8mb4", "latin1", b"abc").unwrap(), b"abc");
        assert!(Transcoder::new(set("gbk"), set("utf8mb4")).is_none());
    }

    #[test]
    fn long_runs_of_ascii_are_the_same_as_their_characters_one_by_one() {
        for len in 0..40 {
            let text: String = ('!'..='~')
                .chain(['é', '单'])
                .cycle()
                .skip(94 - len)
                .take(len + 12)
                .collect();
            for to in ["utf8mb3", "ucs2", "utf16", "utf16le", "utf32"] {
                let mut want = Vec::new();
                for c in text.chars() {
                    encode(Coding::of(set(to)).unwrap(), c, &mut want).unwrap();
                }
                assert_eq!(
                    convert("utf8mb4", to, text.as_bytes()).unwrap(),
                    want,
                    "{to} {text}"
                );
            }
        }
    }

    #[test]
    fn every_upper_half_has_128_characters_and_comes_back() {
        for (name, upper) in single::UPPER_HALVES {
            assert_eq!(upper.chars().count(), 128, "{name}");
            for b in 0..=255_u8 {
                let Ok(utf8) = convert(name, "utf8mb4", &[b]) else {
                    continue;
                };
                let back = convert("utf8mb4", name, &utf8).unwrap();
                assert_eq!(convert(name, "utf8mb4", &back).unwrap(), utf8, "{name} {b}");
            }
        }
    }
}
