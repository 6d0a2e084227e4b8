//! The text form of GTID sets.
//!
//! `Gtid_set::add_gtid_text` and `Gtid_set::to_string` of `sql/rpl_gtid_set.cc`. Sources are separated by commas, a
//! source is `uuid[:interval]…[:tag[:interval]…]…`. Two things MySQL accepts are refused, because they do not mean what
//! they look like: hexadecimal numbers, and numbers with leading zeros (octal to MySQL).

use std::fmt;
use std::str::FromStr;

use crate::gtid::{GtidError, Sid, Tag};
use crate::gtid_set::{Entry, GtidSet};
use crate::interval::Interval;

/// One past the greatest transaction number (`GNO_END`).
const GNO_END: u64 = i64::MAX as u64;

impl FromStr for GtidSet {
    type Err = GtidError;

    /// Reads a set. White space is allowed around every part, empty sources (commas) and empty intervals (`5-3`) are
    /// skipped.
    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut p = Parser { text, at: 0 };
        let mut entries = Vec::new();
        p.skip_space();
        loop {
            while p.eat(b',') {
                p.skip_space();
            }
            if p.peek().is_none() {
                return Ok(GtidSet::from_entries(entries));
            }
            p.source(&mut entries)?;
            if !matches!(p.peek(), None | Some(b',')) {
                return Err(p.error("expected a comma, a colon or the end"));
            }
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, want: u8) -> bool {
        let hit = self.peek() == Some(want);
        self.at += usize::from(hit);
        hit
    }

    fn skip_space(&mut self) {
        // MySQL's my_isspace: space, \t, \n, \v, \f, \r.
        while self
            .peek()
            .is_some_and(|b| b == b' ' || (9..=13).contains(&b))
        {
            self.at += 1;
        }
    }

    fn error(&self, what: &'static str) -> GtidError {
        GtidError::SetText { at: self.at, what }
    }

    /// `uuid[:interval]…[:tag[:interval]…]…`
    fn source(&mut self, entries: &mut Vec<Entry>) -> Result<(), GtidError> {
        let uuid = self
            .text
            .get(self.at..self.at.saturating_add(Sid::TEXT_LEN));
        let sid = uuid.and_then(|s| s.parse::<Sid>().ok());
        let sid = sid.ok_or_else(|| self.error("expected a server UUID"))?;
        self.at += Sid::TEXT_LEN;
        self.skip_space();
        let mut entry = Entry {
            sid,
            tag: Tag::EMPTY,
            intervals: Vec::new(),
        };
        while self.eat(b':') {
            self.skip_space();
            if let Some(tag) = self.tag()? {
                entries.push(std::mem::replace(
                    &mut entry,
                    Entry {
                        sid,
                        tag,
                        intervals: Vec::new(),
                    },
                ));
            } else {
                entry.intervals.push(self.interval()?);
            }
            self.skip_space();
        }
        entries.push(entry);
        Ok(())
    }

    /// A tag, if what comes looks like one; digits begin an interval.
    fn tag(&mut self) -> Result<Option<Tag>, GtidError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let len = rest
            .iter()
            .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
            .count();
        let word = rest.get(..len).unwrap_or_default();
        if word.first().is_none_or(u8::is_ascii_digit) {
            return Ok(None);
        }
        let tag =
            Tag::from_bytes(word).ok_or_else(|| self.error("a tag has at most 32 characters"))?;
        self.at += len;
        Ok(Some(tag))
    }

    /// `n` or `n-m`; possibly empty.
    fn interval(&mut self) -> Result<Interval, GtidError> {
        let start = self.number()?;
        if start == 0 {
            return Err(self.error("expected a number above zero"));
        }
        self.skip_space();
        let last = if self.eat(b'-') {
            self.skip_space();
            self.number()?
        } else {
            start
        };
        Ok(Interval {
            start,
            end_exclusive: last + 1,
        })
    }

    fn number(&mut self) -> Result<u64, GtidError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let digits = rest.get(..len).unwrap_or_default();
        if digits.is_empty() {
            return Err(self.error("expected a number or a tag"));
        }
        if len > 1 && digits.starts_with('0') {
            return Err(self.error("a number must not begin with 0"));
        }
        let n = digits.parse().ok().filter(|&n: &u64| n < GNO_END);
        let n = n.ok_or_else(|| self.error("the number is too large"))?;
        self.at += len;
        Ok(n)
    }
}

impl GtidSet {
    /// The text with `,` between sources: one line, for logs, files and SQL.
    #[must_use]
    pub fn to_text_oneline(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out, ",")
            .expect("writing to a String does not fail");
        out
    }

    fn write_text(&self, out: &mut impl fmt::Write, separator: &str) -> fmt::Result {
        let mut previous: Option<Sid> = None;
        for entry in self.entries() {
            if previous != Some(entry.sid) {
                let separator = if previous.is_some() { separator } else { "" };
                write!(out, "{separator}{}", entry.sid)?;
                previous = Some(entry.sid);
            }
            if !entry.tag.is_empty() {
                write!(out, ":{}", entry.tag)?;
            }
            for i in &entry.intervals {
                write!(out, ":{}", i.start)?;
                if i.len() > 1 {
                    write!(out, "-{}", i.end_exclusive - 1)?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for GtidSet {
    /// As the server prints it: `,` and a line feed between sources, tags of one source behind one another.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_text(f, ",\n")
    }
}

impl fmt::Debug for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GtidSet({})", self.to_text_oneline())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";

    fn set(s: &str) -> GtidSet {
        s.parse().expect("a good set")
    }

    #[test]
    fn what_mysql_accepts() {
        for empty in [
            "",
            " \n\t",
            ",",
            " , ,\n",
            A,
            &format!("{A}:5-3,{B}"),
            &format!("{A}:tag"),
        ] {
            assert!(set(empty).is_empty(), "{empty:?}");
        }
        let text = format!(
            " , {B}:1 : 3 - 5:4,\n{}:tag:7:2-3:OTHER:1:9-9:5-8 ,",
            A.to_uppercase()
        );
        assert_eq!(
            set(&text).to_text_oneline(),
            format!("{A}:other:1:5-9:tag:2-3:7,{B}:1:3-5")
        );
        assert_eq!(
            set(&text).to_string(),
            format!("{A}:other:1:5-9:tag:2-3:7,\n{B}:1:3-5")
        );
        assert_eq!(set(&format!("{A}:14-14")).to_string(), format!("{A}:14"));
        assert_eq!(
            set(&format!("{A}:1,{A}:2,{A}:t:1")).to_string(),
            format!("{A}:1-2:t:1")
        );
    }

    #[test]
    fn what_mysql_refuses() {
        for bad in [
            "x",
            ":1",
            "{A}:",
            "{A}:0",
            "{A}:-1",
            "{A}:1-",
            "{A}:1;",
            "{A}:1 2",
            "{A} {A}:1",
            "{A}:1:é",
        ] {
            let text = bad.replace("{A}", A);
            assert!(text.parse::<GtidSet>().is_err(), "{text:?}");
        }
        for bad in [
            "9223372036854775807",
            "18446744073709551616",
            "010",
            "0x10",
            "1-010",
        ] {
            assert!(format!("{A}:{bad}").parse::<GtidSet>().is_err(), "{bad:?}");
        }
        assert!(
            format!("{A}:{}:1", "x".repeat(33))
                .parse::<GtidSet>()
                .is_err()
        );
        assert!(
            format!("{A}:9223372036854775806")
                .parse::<GtidSet>()
                .is_ok()
        );
    }

    #[test]
    fn errors_say_where() {
        let err = format!("{A}:1,zzz").parse::<GtidSet>().expect_err("bad");
        assert_eq!(
            err.to_string(),
            "malformed GTID set at byte 39: expected a server UUID"
        );
    }
}
