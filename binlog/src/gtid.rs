//! Global transaction identifiers.
//!
//! In: texts `uuid:gno` and `uuid:tag:gno`. Out: [`Gtid`] and its parts, as values that can only be valid. Rules of
//! `libs/mysql/gtid/{uuid,tag,gtid}.*` of MySQL 8.3 and later; without a tag they are those of 5.6.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// Why a text or some bytes are no GTID or GTID set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GtidError {
    /// Not 8-4-4-4-12 hexadecimal digits.
    #[error("'{0}' is not a server UUID (expected 8-4-4-4-12 hexadecimal digits)")]
    Sid(String),
    /// Not `[a-z_][a-z0-9_]{0,31}`.
    #[error(
        "'{0}' is not a GTID tag (expected a letter or underscore, then up to 31 letters, digits or underscores)"
    )]
    Tag(String),
    /// Not a number from 1 to 9223372036854775806.
    #[error("'{0}' is not a transaction number (expected 1 to 9223372036854775806)")]
    Gno(String),
    /// Neither `uuid:gno` nor `uuid:tag:gno`.
    #[error("'{0}' is not a GTID (expected uuid:number or uuid:tag:number)")]
    Gtid(String),
    /// The text of a set is malformed.
    #[error("malformed GTID set at byte {at}: {what}")]
    SetText {
        /// Byte offset in the text.
        at: usize,
        /// What was expected or found.
        what: &'static str,
    },
    /// The binary form of a set is malformed.
    #[error("malformed GTID set encoding: {0}")]
    SetEncoding(&'static str),
}

/// Shortens a text for an error message, at a character boundary.
pub(crate) fn excerpt(s: &str) -> String {
    let end = (0..=80.min(s.len()))
        .rev()
        .find(|&i| s.is_char_boundary(i))
        .unwrap_or(0);
    s.get(..end).unwrap_or_default().to_owned()
}

/// A server's UUID, the source part of a GTID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid(pub [u8; 16]);

impl Sid {
    /// Length of the text form in bytes.
    pub const TEXT_LEN: usize = 36;
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'-'; Self::TEXT_LEN];
        let mut out = text.iter_mut();
        for (i, b) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                out.next();
            }
            for nibble in [b >> 4, b & 15] {
                if let Some(slot) = out.next() {
                    *slot = if nibble < 10 {
                        b'0' + nibble
                    } else {
                        b'a' + nibble - 10
                    };
                }
            }
        }
        f.pad(std::str::from_utf8(&text).expect("hexadecimal digits and dashes are ASCII"))
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sid({self})")
    }
}

impl FromStr for Sid {
    type Err = GtidError;

    fn from_str(s: &str) -> Result<Self, GtidError> {
        let bad = || GtidError::Sid(excerpt(s));
        if s.len() != Self::TEXT_LEN {
            return Err(bad());
        }
        let mut chars = s.bytes();
        let mut sid = [0_u8; 16];
        for (i, slot) in sid.iter_mut().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) && chars.next() != Some(b'-') {
                return Err(bad());
            }
            let high = chars.next().and_then(hex_digit).ok_or_else(bad)?;
            let low = chars.next().and_then(hex_digit).ok_or_else(bad)?;
            *slot = high << 4 | low;
        }
        Ok(Self(sid))
    }
}

/// The value of one hexadecimal digit.
pub(crate) fn hex_digit(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// The optional tag of a GTID (MySQL 8.3 and later): empty, or a letter or underscore followed by up to 31 letters,
/// digits and underscores, in lower case. Stored inline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    // Zero-padded, so the derived order is that of the texts.
    bytes: [u8; Tag::MAX_LEN],
    len: u8,
}

impl Tag {
    /// No tag.
    pub const EMPTY: Self = Self {
        bytes: [0; Self::MAX_LEN],
        len: 0,
    };
    /// The longest tag, in bytes (`mysql::gtid::tag_max_length`).
    pub const MAX_LEN: usize = 32;

    /// Whether there is no tag.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The tag in lower case; empty if there is none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        std::str::from_utf8(bytes).expect("a tag holds ASCII only: checked by from_bytes")
    }

    /// A tag from its characters; upper case is folded as MySQL does.
    pub(crate) fn from_bytes(s: &[u8]) -> Option<Self> {
        let mut tag = Self::EMPTY;
        tag.len = u8::try_from(s.len()).ok()?;
        for (i, &b) in s.iter().enumerate() {
            let b = b.to_ascii_lowercase();
            let fits = b == b'_' || b.is_ascii_lowercase() || (i > 0 && b.is_ascii_digit());
            *tag.bytes.get_mut(i).filter(|_| fits)? = b;
        }
        Some(tag)
    }
}

impl Default for Tag {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({:?})", self.as_str())
    }
}

impl FromStr for Tag {
    type Err = GtidError;
    fn from_str(s: &str) -> Result<Self, GtidError> {
        Self::from_bytes(s.as_bytes()).ok_or_else(|| GtidError::Tag(excerpt(s)))
    }
}

/// The number part of a GTID: 1 to 2⁶³−2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gno(NonZeroU64);

impl Gno {
    /// The first number of every source.
    pub const FIRST: Self = Self(NonZeroU64::MIN);
    /// The last number MySQL hands out: one below `GNO_END` (2⁶³−1).
    pub const MAX: Self = match Self::new(i64::MAX as u64 - 1) {
        Some(gno) => gno,
        None => Self::FIRST,
    };

    /// A number in range, else `None`.
    #[inline]
    #[must_use]
    pub const fn new(n: u64) -> Option<Self> {
        match NonZeroU64::new(n) {
            Some(n) if n.get() < i64::MAX as u64 => Some(Self(n)),
            _ => None,
        }
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The following number; `None` after the last.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        Self::new(self.get() + 1)
    }
}

impl fmt::Display for Gno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Gno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gno({})", self.0)
    }
}

impl FromStr for Gno {
    type Err = GtidError;
    fn from_str(s: &str) -> Result<Self, GtidError> {
        s.parse()
            .ok()
            .filter(|_| s.bytes().all(|b| b.is_ascii_digit()))
            .and_then(Self::new)
            .ok_or_else(|| GtidError::Gno(excerpt(s)))
    }
}

/// A global transaction identifier: which server first committed the transaction, and its number there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gtid {
    /// The server.
    pub sid: Sid,
    /// The tag; empty for most.
    pub tag: Tag,
    /// The number, counted for each (server, tag).
    pub gno: Gno,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tag.is_empty() {
            write!(f, "{}:{}", self.sid, self.gno)
        } else {
            write!(f, "{}:{}:{}", self.sid, self.tag, self.gno)
        }
    }
}

impl fmt::Debug for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gtid({self})")
    }
}

impl FromStr for Gtid {
    type Err = GtidError;

    fn from_str(s: &str) -> Result<Self, GtidError> {
        let mut parts = s.split(':').map(str::trim);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(sid), Some(gno), None, None) => Ok(Self {
                sid: sid.parse()?,
                tag: Tag::EMPTY,
                gno: gno.parse()?,
            }),
            (Some(sid), Some(tag), Some(gno), None) => Ok(Self {
                sid: sid.parse()?,
                tag: tag.parse()?,
                gno: gno.parse()?,
            }),
            _ => Err(GtidError::Gtid(excerpt(s))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn sid_text() {
        let sid: Sid = "3E11FA47-71CA-11E1-9E33-C80AA9429562"
            .parse()
            .expect("upper case is fine");
        assert_eq!(sid.0[..4], [0x3e, 0x11, 0xfa, 0x47]);
        assert_eq!(sid.to_string(), UUID);
        for bad in [
            "",
            "3e11fa47",
            &UUID.replace('-', "_"),
            &UUID.replace('f', "g"),
            &format!("{UUID} "),
        ] {
            assert!(bad.parse::<Sid>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tag_rules() {
        assert_eq!(
            "MyTag_1".parse::<Tag>().expect("folded").as_str(),
            "mytag_1"
        );
        assert_eq!("".parse::<Tag>(), Ok(Tag::EMPTY));
        assert!("x".repeat(32).parse::<Tag>().is_ok());
        for bad in ["1a", "a-b", "ä", " a", &"x".repeat(33), &"x".repeat(300)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?}");
        }
        let tag = |s: &str| s.parse::<Tag>().expect("good");
        assert!(tag("") < tag("a") && tag("a") < tag("a0") && tag("a0") < tag("b"));
    }

    #[test]
    fn gno_range() {
        assert_eq!(Gno::new(0), None);
        assert_eq!(Gno::new(i64::MAX as u64), None);
        assert_eq!(Gno::MAX.get(), 9_223_372_036_854_775_806);
        assert_eq!(Gno::MAX.next(), None);
        assert_eq!(Gno::FIRST.next(), Gno::new(2));
        assert!("+5".parse::<Gno>().is_err());
    }

    #[test]
    fn gtid_text() {
        let g: Gtid = format!("{UUID}:Tag: 7").parse().expect("good");
        assert_eq!(g.to_string(), format!("{UUID}:tag:7"));
        assert_eq!(
            format!("{UUID}:9").parse::<Gtid>().expect("good").gno.get(),
            9
        );
        for bad in [
            "",
            UUID,
            &format!("{UUID}:0"),
            &format!("{UUID}:a:b:1"),
            &format!("{UUID}:1-2"),
        ] {
            assert!(bad.parse::<Gtid>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn texts_round_trip(sid: [u8; 16], tag in "([a-z_][a-z0-9_]{0,31})?", gno in 1..i64::MAX as u64) {
            let g = Gtid { sid: Sid(sid), tag: tag.parse().expect("good"), gno: Gno::new(gno).expect("in range") };
            prop_assert_eq!(g.to_string().parse(), Ok(g));
        }

        #[test]
        fn garbage_never_panics(s in ".{0,60}") {
            let _ = s.parse::<Gtid>();
            let _ = s.parse::<Tag>();
            let _ = s.parse::<Sid>();
        }
    }
}
