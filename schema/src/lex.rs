//! MySQL's words: a statement cut into tokens with their places in the text.
//!
//! In: SQL text and the two SQL modes that change how it is cut. Out: [`Token`]s with byte ranges, so that names can be
//! replaced without touching anything else. Rules of `sql/sql_lex.cc`: white space and comments are left out, the inside of
//! executable comments (`/*!80023 … */`) is not. Never fails: what is not closed ends with the text, and is said.

use std::ops::Range;

/// Executable comments for servers up to this version are read (five or six digits, as `MYSQL_VERSION_ID`). No server runs
/// those for 999999, which is how people switch something off.
const VERSION: u32 = 999_998;

/// SQL modes that change what a quote means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LexMode {
    /// `ANSI_QUOTES`: double quotes enclose identifiers.
    pub ansi_quotes: bool,
    /// `NO_BACKSLASH_ESCAPES`: a backslash in a string is a backslash.
    pub no_backslash_escapes: bool,
}

impl LexMode {
    /// From the value of `sql_mode` in a Query event's status variables (`sql/system_variables.h`).
    #[must_use]
    pub fn from_sql_mode(sql_mode: u64) -> Self {
        Self {
            ansi_quotes: sql_mode & 4 != 0,
            no_backslash_escapes: sql_mode & (1 << 20) != 0,
        }
    }
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// An identifier or keyword without quotes.
    Word,
    /// An identifier in quotes.
    Quoted,
    /// A string, with an `N` in front if there is one.
    Text,
    /// A number.
    Number,
    /// `x'…'`, `b'…'`, `0x…`, `0b…`.
    Bits,
    /// One other character.
    Mark,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    start: u32,
    end: u32,
}

impl Token {
    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The text of the token in the statement it came from.
    pub(crate) fn of(self, sql: &str) -> &str {
        sql.get(self.range()).unwrap_or("")
    }
}

/// The tokens of a statement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lexed {
    pub(crate) tokens: Vec<Token>,
    /// Whether a string, name or comment is not closed.
    pub(crate) torn: bool,
}

/// Cuts a statement into tokens.
pub(crate) fn lex(sql: &str, mode: LexMode) -> Lexed {
    let mut lexer = Lexer {
        sql,
        at: 0,
        mode,
        out: Lexed::default(),
        executable: 0,
    };
    // Places are kept in 32 bits; no server takes statements beyond 1 GiB.
    if u32::try_from(sql.len()).is_err() {
        lexer.out.torn = true;
        return lexer.out;
    }
    while lexer.step() {}
    lexer.out.torn |= lexer.executable > 0;
    lexer.out
}

struct Lexer<'a> {
    sql: &'a str,
    at: usize,
    mode: LexMode,
    out: Lexed,
    /// Executable comments that are open.
    executable: u32,
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.sql.as_bytes().get(self.at + ahead).copied()
    }

    fn starts_with(&self, text: &str) -> bool {
        self.sql
            .as_bytes()
            .get(self.at..)
            .is_some_and(|r| r.starts_with(text.as_bytes()))
    }

    fn push(&mut self, kind: TokenKind, start: usize) {
        self.out.tokens.push(Token {
            kind,
            start: start as u32,
            end: self.at as u32,
        });
    }

    /// One token, comment or stretch of white space. False at the end.
    fn step(&mut self) -> bool {
        let Some(b) = self.peek(0) else { return false };
        let start = self.at;
        match b {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0 => self.at += 1,
            b'#' => self.line_comment(),
            b'-' if self.starts_with("--") && self.peek(2).is_none_or(|c| c <= b' ') => {
                self.line_comment();
            }
            b'/' if self.starts_with("/*") => self.comment(),
            b'*' if self.executable > 0 && self.starts_with("*/") => {
                self.at += 2;
                self.executable -= 1;
            }
            b'\'' => self.string(start, b'\''),
            b'"' if self.mode.ansi_quotes => self.quoted(b'"'),
            b'"' => self.string(start, b'"'),
            b'`' => self.quoted(b'`'),
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_some_and(|c| c.is_ascii_digit()) && !self.after_name() => {
                self.number();
            }
            b if is_word(b) => self.word(),
            _ => {
                self.at += 1;
                self.push(TokenKind::Mark, start);
            }
        }
        true
    }

    fn line_comment(&mut self) {
        while let Some(b) = self.peek(0) {
            if b == b'\n' {
                return;
            }
            self.at += 1;
        }
    }

    fn comment(&mut self) {
        self.at += 2;
        if self.peek(0) == Some(b'!') {
            let digits = (1..7)
                .take_while(|n| self.peek(*n).is_some_and(|d| d.is_ascii_digit()))
                .count();
            let digits = if digits < 5 { 0 } else { digits };
            let version = self.sql.get(self.at + 1..self.at + 1 + digits);
            if version.and_then(|v| v.parse().ok()).unwrap_or(0_u32) <= VERSION {
                self.at += 1 + digits;
                self.executable += 1;
                return;
            }
        }
        match self.sql.get(self.at..).and_then(|rest| rest.find("*/")) {
            Some(end) => self.at += end + 2,
            None => {
                self.at = self.sql.len();
                self.out.torn = true;
            }
        }
    }

    /// A string from the quote at the current place; the token begins at `start`.
    fn string(&mut self, start: usize, quote: u8) {
        self.at += 1;
        loop {
            match self.peek(0) {
                None => {
                    self.out.torn = true;
                    break;
                }
                Some(b'\\') if !self.mode.no_backslash_escapes => self.at += 2,
                Some(b) if b == quote => {
                    self.at += 1;
                    if self.peek(0) != Some(quote) {
                        break;
                    }
                    self.at += 1;
                }
                Some(_) => self.at += 1,
            }
        }
        self.at = self.at.min(self.sql.len());
        self.push(TokenKind::Text, start);
    }

    fn quoted(&mut self, quote: u8) {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek(0) {
                None => {
                    self.out.torn = true;
                    break;
                }
                Some(b) if b == quote => {
                    self.at += 1;
                    if self.peek(0) != Some(quote) {
                        break;
                    }
                    self.at += 1;
                }
                Some(_) => self.at += 1,
            }
        }
        self.push(TokenKind::Quoted, start);
    }

    /// Whether the last token is a name directly in front: a dot here is not the point of a number.
    fn after_name(&self) -> bool {
        self.out.tokens.last().is_some_and(|t| {
            t.end as usize == self.at && matches!(t.kind, TokenKind::Word | TokenKind::Quoted)
        })
    }

    fn take_words(&mut self) {
        while self.peek(0).is_some_and(is_word) {
            self.at += 1;
        }
    }

    /// Something that begins with a digit (or a point and a digit): a number, or a name such as `2024_orders`.
    fn number(&mut self) {
        let start = self.at;
        let after_dot = self.out.tokens.last().is_some_and(|t| {
            t.end as usize == start && t.of(self.sql) == "." && t.kind == TokenKind::Mark
        });
        let digits = |at: &mut usize| {
            while self.sql.as_bytes().get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
        };
        let mut end = start;
        digits(&mut end);
        let next = self.sql.as_bytes().get(end).copied();
        self.take_words();
        let word = self.sql.get(start..self.at).unwrap_or("");
        if after_dot && self.at > start {
            return self.push(TokenKind::Word, start);
        }
        let radix = |prefix: &str, ok: fn(char) -> bool| {
            word.strip_prefix(prefix)
                .is_some_and(|d| !d.is_empty() && d.chars().all(ok))
        };
        if radix("0x", |c| c.is_ascii_hexdigit()) || radix("0b", |c| matches!(c, '0' | '1')) {
            return self.push(TokenKind::Bits, start);
        }
        match next {
            Some(b'.') => {
                end += 1;
                digits(&mut end);
            }
            Some(b'e' | b'E') => {}
            _ => {
                let number = self.at == end;
                return self.push(
                    if number {
                        TokenKind::Number
                    } else {
                        TokenKind::Word
                    },
                    start,
                );
            }
        }
        if matches!(self.sql.as_bytes().get(end), Some(b'e' | b'E')) {
            let mut exponent = end + 1;
            if matches!(self.sql.as_bytes().get(exponent), Some(b'+' | b'-')) {
                exponent += 1;
            }
            let before = exponent;
            digits(&mut exponent);
            if exponent > before {
                end = exponent;
            } else if next != Some(b'.') {
                return self.push(TokenKind::Word, start);
            }
        }
        // `1e5x` is a name.
        if next != Some(b'.') && self.at > end {
            return self.push(TokenKind::Word, start);
        }
        self.at = end;
        self.push(TokenKind::Number, start);
    }

    fn word(&mut self) {
        let start = self.at;
        self.take_words();
        if self.at == start + 1 && self.peek(0) == Some(b'\'') {
            match self.sql.as_bytes().get(start) {
                Some(b'n' | b'N') => return self.string(start, b'\''),
                Some(b'x' | b'X' | b'b' | b'B') => {
                    self.string(start, b'\'');
                    if let Some(last) = self.out.tokens.last_mut() {
                        last.kind = TokenKind::Bits;
                    }
                    return;
                }
                _ => {}
            }
        }
        self.push(TokenKind::Word, start);
    }
}

/// The name that an identifier token stands for.
pub(crate) fn unquote_name(text: &str) -> String {
    for quote in ['`', '"'] {
        if let Some(inner) = text.strip_prefix(quote) {
            let inner = inner.strip_suffix(quote).unwrap_or(inner);
            let doubled: String = [quote, quote].iter().collect();
            return inner.replace(&doubled, &quote.to_string());
        }
    }
    text.to_owned()
}

/// The name as an identifier in backticks.
pub(crate) fn quote_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The value of a string token.
pub(crate) fn unquote_text(text: &str, mode: LexMode) -> String {
    let text = text.strip_prefix(['n', 'N']).unwrap_or(text);
    let Some(quote) = text.chars().next() else {
        return String::new();
    };
    let inner = text.strip_prefix(quote).unwrap_or(text);
    let inner = inner.strip_suffix(quote).unwrap_or(inner);
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        if c == quote {
            chars.next_if_eq(&quote);
            out.push(c);
        } else if c == '\\' && !mode.no_backslash_escapes {
            match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('b') => out.push('\u{8}'),
                Some('0') => out.push('\0'),
                Some('Z') => out.push('\u{1a}'),
                // Patterns keep the backslash.
                Some(c @ ('%' | '_')) => out.extend(['\\', c]),
                Some(c) => out.push(c),
                None => out.push('\\'),
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// The value as a string in single quotes, as `append_unescaped` of `sql/unireg.cc` writes it.
pub(crate) fn quote_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\0' => out.push_str("\\0"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("''"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(sql: &str) -> Vec<&str> {
        let lexed = lex(sql, LexMode::default());
        lexed.tokens.iter().map(|t| t.of(sql)).collect()
    }

    #[test]
    fn tokens() {
        for (sql, want) in [
            ("a.b -- x\n c#y\nd", vec!["a", ".", "b", "c", "d"]),
            ("1--1", vec!["1", "-", "-", "1"]),
            ("`a``b`.`c.d`", vec!["`a``b`", ".", "`c.d`"]),
            (
                r"'it''s' 'a\'b' N'x' x'4f' b'01'",
                vec!["'it''s'", r"'a\'b'", "N'x'", "x'4f'", "b'01'"],
            ),
            (
                "1.5 .5 1e3 1e+3 2024_a 1ea 0x1F 0xg t.1 t.2a",
                vec![
                    "1.5", ".5", "1e3", "1e+3", "2024_a", "1ea", "0x1F", "0xg", "t", ".", "1", "t",
                    ".", "2a",
                ],
            ),
            (
                "a /* b */ c /*!80023 INVISIBLE */ /*! d */ /*!999999 e */",
                vec!["a", "c", "INVISIBLE", "d"],
            ),
            ("/*+ SET_VAR(a) */ 订单_1", vec!["订单_1"]),
            ("_utf8mb4'x'", vec!["_utf8mb4", "'x'"]),
        ] {
            assert_eq!(words(sql), want, "{sql}");
        }
        assert!(lex("'open", LexMode::default()).torn);
        assert!(lex("/* open", LexMode::default()).torn);
        assert!(lex("/*! open", LexMode::default()).torn);
        assert!(!lex("'shut'", LexMode::default()).torn);
    }

    #[test]
    fn modes() {
        let ansi = LexMode::from_sql_mode(4);
        assert_eq!(lex("\"a\"", ansi).tokens[0].kind, TokenKind::Quoted);
        let plain = LexMode::from_sql_mode(1 << 20);
        assert_eq!(lex(r"'\' 'b'", plain).tokens.len(), 2);
        assert_eq!(unquote_text(r"'a\nb'", plain), r"a\nb");
    }

    proptest! {
        #[test]
        fn any_text_is_cut_and_nothing_is_twice(sql in "[ a-z0-9`'\"\\\\./*!#\\-@;(),é单\n]{0,60}") {
            let lexed = lex(&sql, LexMode::default());
            let mut end = 0;
            for t in &lexed.tokens {
                prop_assert!(t.range().start >= end && t.range().end > t.range().start);
                prop_assert!(sql.get(t.range()).is_some());
                end = t.range().end;
            }
        }

        #[test]
        fn names_and_texts_come_back(text in "\\PC{0,20}") {
            let quoted = quote_name(&text);
            prop_assert_eq!(unquote_name(&quoted), text.clone());
            let quoted = quote_text(&text);
            let lexed = lex(&quoted, LexMode::default());
            prop_assert_eq!(lexed.tokens.len(), 1);
            prop_assert_eq!(unquote_text(&quoted, LexMode::default()), text);
        }
    }
}
