//! The SQL form of xids.
//!
//! In: `X'6162',X'63',1` and the statements around it, as they stand in Query events; also what people type. Out:
//! [`XaXid`] and [`XaStatement`]. Grammar: `xid:` of `sql/sql_yacc.yy`: `gtrid[, bqual[, formatID]]`, each string a
//! character, hexadecimal or bit literal (bit literals are refused here), defaults `''` and 1.

use crate::gtid::hex_digit;
use crate::xid::{MAX_PART, XaXid, XidError};

/// The statements of the XA protocol that end up in a binlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum XaVerb {
    /// `XA START` or `XA BEGIN`.
    Start,
    /// `XA END`.
    End,
    /// `XA PREPARE`.
    Prepare,
    /// `XA COMMIT`.
    Commit,
    /// `XA ROLLBACK`.
    Rollback,
}

/// An XA statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XaStatement {
    /// What is done.
    pub verb: XaVerb,
    /// To which branch.
    pub xid: XaXid,
    /// Whether `ONE PHASE` follows.
    pub one_phase: bool,
}

const VERBS: [(&str, XaVerb); 6] = [
    ("START", XaVerb::Start),
    ("BEGIN", XaVerb::Start),
    ("END", XaVerb::End),
    ("PREPARE", XaVerb::Prepare),
    ("COMMIT", XaVerb::Commit),
    ("ROLLBACK", XaVerb::Rollback),
];

/// What may follow an xid.
const TAILS: [&str; 6] = [
    "",
    "ONE PHASE",
    "JOIN",
    "RESUME",
    "SUSPEND",
    "SUSPEND FOR MIGRATE",
];

impl XaStatement {
    /// Reads the text of a Query event; `None` if it is no XA statement.
    ///
    /// # Errors
    /// It begins like an XA statement and goes on otherwise.
    #[must_use]
    pub fn parse(query: &[u8]) -> Option<Result<Self, XidError>> {
        let (verb, skip) = verb_of(query)?;
        let rest = query.get(skip..).unwrap_or_default();
        Some(Self::parse_rest(verb, rest).map_err(|e| match e {
            XidError::Sql { at, what } => XidError::Sql {
                at: at + skip,
                what,
            },
            e => e,
        }))
    }

    fn parse_rest(verb: XaVerb, rest: &[u8]) -> Result<Self, XidError> {
        let mut p = Parser { text: rest, at: 0 };
        let xid = p.xid()?;
        let tail = rest.get(p.at..).unwrap_or_default();
        let one_phase = match tail {
            // What the server writes.
            [] => false,
            b" ONE PHASE" => true,
            tail => is_one_phase(tail).ok_or(XidError::Sql {
                at: p.at,
                what: "unexpected words behind the xid",
            })?,
        };
        Ok(Self {
            verb,
            xid,
            one_phase,
        })
    }
}

/// Whether the words behind an xid are `ONE PHASE`; `None` if they cannot stand there.
fn is_one_phase(tail: &[u8]) -> Option<bool> {
    let tail: Vec<_> = std::str::from_utf8(tail)
        .ok()?
        .trim_end_matches(';')
        .split_ascii_whitespace()
        .collect();
    let tail = tail.join(" ").to_ascii_uppercase();
    TAILS
        .contains(&tail.as_str())
        .then_some(tail == "ONE PHASE")
}

/// The verb and how many bytes it took.
fn verb_of(query: &[u8]) -> Option<(XaVerb, usize)> {
    let mut p = Parser { text: query, at: 0 };
    if !p.word()?.eq_ignore_ascii_case(b"XA") {
        return None;
    }
    let word = p.word()?;
    let (_, verb) = VERBS
        .into_iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))?;
    Some((verb, p.at))
}

impl XaXid {
    /// Reads what follows `XA COMMIT` and its like: `X'6162',X'63',1`, or with other literals and fewer parts. Words
    /// behind the xid (`ONE PHASE`) are refused; [`XaStatement`] reads whole statements.
    ///
    /// # Errors
    /// The text is no xid, or a part is too long.
    pub fn parse_sql(text: &str) -> Result<Self, XidError> {
        let mut p = Parser {
            text: text.as_bytes(),
            at: 0,
        };
        let xid = p.xid()?;
        p.skip_space();
        if p.peek().is_some() {
            return Err(p.error("expected the end"));
        }
        Ok(xid)
    }
}

/// A gtrid or bqual that is being read. Bytes that are too many are counted and not kept.
struct Part {
    bytes: [u8; MAX_PART],
    len: usize,
}

impl Default for Part {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_PART],
            len: 0,
        }
    }
}

impl Part {
    #[inline]
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
        }
        self.len += 1;
    }

    /// The bytes, or how many there are if they are too many.
    fn get(&self) -> Result<&[u8], usize> {
        self.bytes.get(..self.len).ok_or(self.len)
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let b = self.peek()?;
        self.at += 1;
        Some(b)
    }

    fn eat(&mut self, want: u8) -> bool {
        let hit = self.peek() == Some(want);
        self.at += usize::from(hit);
        hit
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn error(&self, what: &'static str) -> XidError {
        XidError::Sql { at: self.at, what }
    }

    fn word(&mut self) -> Option<&'a [u8]> {
        self.skip_space();
        let rest = self.text.get(self.at..)?;
        let len = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        self.at += len;
        rest.get(..len).filter(|w| !w.is_empty())
    }

    fn comma(&mut self) -> bool {
        self.skip_space();
        self.eat(b',')
    }

    fn xid(&mut self) -> Result<XaXid, XidError> {
        let gtrid = self.string()?;
        let mut bqual = Part::default();
        let mut format_id = 1;
        if self.comma() {
            bqual = self.string()?;
            if self.comma() {
                format_id = self.format_id()?;
            }
        }
        let gtrid = gtrid.get().map_err(XidError::GtridTooLong)?;
        let bqual = bqual.get().map_err(XidError::BqualTooLong)?;
        XaXid::new(format_id, gtrid, bqual)
    }

    fn string(&mut self) -> Result<Part, XidError> {
        self.skip_space();
        match self.next() {
            Some(quote @ (b'\'' | b'"')) => self.quoted(quote),
            Some(b'x' | b'X') if self.eat(b'\'') => {
                let bytes = self.hex()?;
                if self.eat(b'\'') {
                    Ok(bytes)
                } else {
                    Err(self.error("expected a hexadecimal digit or '"))
                }
            }
            Some(b'0') if self.eat(b'x') => self.hex(),
            _ => Err(self.error("expected a string literal")),
        }
    }

    fn hex(&mut self) -> Result<Part, XidError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let mut out = Part::default();
        let (pairs, _) = rest.as_chunks::<2>();
        for [high, low] in pairs {
            let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low)) else {
                break;
            };
            out.push(high << 4 | low);
        }
        let behind = rest.get(2 * out.len).copied();
        if behind.and_then(hex_digit).is_some() {
            return Err(self.error("an odd number of hexadecimal digits"));
        }
        self.at += 2 * out.len;
        Ok(out)
    }

    fn quoted(&mut self, quote: u8) -> Result<Part, XidError> {
        let mut out = Part::default();
        loop {
            match self.next() {
                Some(b) if b == quote => {
                    if !self.eat(quote) {
                        return Ok(out);
                    }
                    out.push(quote);
                }
                Some(b'\\') => out.push(unescape(
                    self.next().ok_or_else(|| self.error("unclosed string"))?,
                )),
                Some(b) => out.push(b),
                None => return Err(self.error("unclosed string")),
            }
        }
    }

    fn format_id(&mut self) -> Result<u32, XidError> {
        self.skip_space();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let digits = rest.get(..len).and_then(|d| std::str::from_utf8(d).ok());
        let value = digits.and_then(|d| d.parse().ok());
        let value = value.ok_or_else(|| self.error("expected a 32-bit number"))?;
        self.at += len;
        Ok(value)
    }
}

/// The character behind a backslash in a MySQL string literal.
fn unescape(b: u8) -> u8 {
    match b {
        b'0' => 0,
        b'b' => 8,
        b't' => b'\t',
        b'n' => b'\n',
        b'r' => b'\r',
        b'Z' => 26,
        b => b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_of_an_xid() {
        let full = XaXid::new(7, b"ab", b"c").expect("short");
        assert_eq!(full.to_string(), "X'6162',X'63',7");
        for text in [
            "X'6162',X'63',7",
            " x'6162' , 'c' , 7 ",
            "0x6162,\"c\",7",
            "'ab','c',7",
        ] {
            assert_eq!(XaXid::parse_sql(text), Ok(full), "{text}");
        }
        assert_eq!(
            XaXid::parse_sql("'a''b\\'\\n'"),
            XaXid::new(1, b"a'b'\n", b"")
        );
        assert_eq!(XaXid::parse_sql("X'',X'',1"), XaXid::new(1, b"", b""));
    }

    #[test]
    fn bad_xids() {
        for bad in [
            "",
            "X'6",
            "X'616',X'',1",
            "ab",
            "'a",
            "'a',",
            "'a','b',",
            "'a','b',x",
            "'a','b',1 ONE PHASE",
            "'a','b',4294967296",
        ] {
            assert!(XaXid::parse_sql(bad).is_err(), "{bad:?}");
        }
        let long = format!("'{}'", "x".repeat(65));
        assert_eq!(XaXid::parse_sql(&long), Err(XidError::GtridTooLong(65)));
        assert_eq!(
            XaXid::parse_sql(&format!("'a',{long}")),
            Err(XidError::BqualTooLong(65))
        );
    }

    #[test]
    fn statements() {
        let xid = XaXid::new(1, b"ab", b"").expect("short");
        let good = |text: &str, verb, one_phase| {
            let got = XaStatement::parse(text.as_bytes())
                .expect("XA")
                .expect("well formed");
            assert_eq!(
                got,
                XaStatement {
                    verb,
                    xid,
                    one_phase
                },
                "{text}"
            );
        };
        good("XA START X'6162',X'',1", XaVerb::Start, false);
        good("xa begin 'ab' JOIN", XaVerb::Start, false);
        good("XA END 'ab' suspend for  migrate;", XaVerb::End, false);
        good("XA COMMIT X'6162',X'',1 ONE PHASE", XaVerb::Commit, true);
        good("XA ROLLBACK X'6162',X'',1", XaVerb::Rollback, false);
        assert_eq!(XaStatement::parse(b"XA RECOVER"), None);
        assert_eq!(XaStatement::parse(b"CREATE TABLE xa (a INT)"), None);
        let err = XaStatement::parse(b"XA COMMIT 'ab' TWICE")
            .expect("XA")
            .expect_err("bad");
        assert!(matches!(err, XidError::Sql { at: 15, .. }), "{err}");
    }

    proptest! {
        #[test]
        fn round_trip(
            format: u32,
            gtrid in prop::collection::vec(any::<u8>(), 0..=64),
            bqual in prop::collection::vec(any::<u8>(), 0..=64),
        ) {
            let xid = XaXid::new(format, &gtrid, &bqual).expect("short");
            prop_assert_eq!(XaXid::parse_sql(&xid.to_string()), Ok(xid));
            prop_assert_eq!((xid.gtrid(), xid.bqual(), xid.format_id()), (&gtrid[..], &bqual[..], format));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, text in "(XA |X'|0x|'|,|[a-f0-9]|.){0,30}") {
            let _ = XaStatement::parse(&bytes);
            let _ = XaStatement::parse(text.as_bytes());
            let _ = XaXid::parse_sql(&text);
        }
    }
}
