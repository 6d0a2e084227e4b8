//! A statement as tokens that know their place in the text.
//!
//! In: a statement's text, untrusted. Out: sqlparser's tokens without white space, a small reader over them for the
//! statements sqlparser does not know, and expressions parsed by sqlparser. Caps keep a hostile statement from using
//! memory or stack.

use sqlparser::ast::Expr;
use sqlparser::dialect::MySqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

use crate::wire::binary::Param;
use crate::wire::errors::{self, SqlError};

/// Longest text that is parsed, in bytes, not counting what is in quotes and comments: a token costs far more memory than
/// its text.
pub(crate) const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// Most tokens of one statement, commas and constants not counted. Operators nest one level each, and evaluation is
/// recursive: this keeps the stack small.
const NESTING_TOKENS_MAX: usize = 1000;

/// The dialect everything is parsed in.
pub(crate) const DIALECT: MySqlDialect = MySqlDialect {};

/// One token and the bytes it covers.
#[derive(Debug, Clone)]
struct Placed {
    token: TokenWithSpan,
    start: usize,
    end: usize,
}

/// The tokens of one statement, with a reading position.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    sql: &'a str,
    list: Vec<Placed>,
    pos: usize,
}

/// Turns sqlparser's line and column into byte offsets; places must come in order.
struct Offsets<'a> {
    chars: std::iter::Peekable<std::str::CharIndices<'a>>,
    line: u64,
    column: u64,
    len: usize,
}

impl<'a> Offsets<'a> {
    fn new(sql: &'a str) -> Self {
        Self {
            chars: sql.char_indices().peekable(),
            line: 1,
            column: 1,
            len: sql.len(),
        }
    }

    fn of(&mut self, place: Location) -> usize {
        while (self.line, self.column) < (place.line, place.column) {
            let Some((_, c)) = self.chars.next() else {
                break;
            };
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.chars.peek().map_or(self.len, |(at, _)| *at)
    }
}

impl<'a> Tokens<'a> {
    /// Splits a text into statements at its semicolons; empty ones are left out.
    ///
    /// # Errors
    /// When the text cannot be tokenized, or is longer than this server parses.
    pub(crate) fn statements(sql: &'a str) -> Result<Vec<Self>, SqlError> {
        if sql.len() > STATEMENT_BYTES_MAX && unquoted_bytes(sql) > STATEMENT_BYTES_MAX {
            return Err(errors::packet_too_large());
        }
        let tokens = Tokenizer::new(&DIALECT, sql)
            .tokenize_with_location()
            .map_err(|_| errors::syntax(sql.trim()))?;
        let mut offsets = Offsets::new(sql);
        let mut statements = Vec::new();
        let mut current = Vec::new();
        for token in tokens {
            if matches!(token.token, Token::Whitespace(_) | Token::EOF) {
                continue;
            }
            let start = offsets.of(token.span.start);
            let end = offsets.of(token.span.end);
            if token.token == Token::SemiColon {
                statements.push(std::mem::take(&mut current));
            } else {
                current.push(Placed { token, start, end });
            }
        }
        statements.push(current);
        statements
            .into_iter()
            .filter(|s| !s.is_empty())
            .map(|list| Self { sql, list, pos: 0 }.checked())
            .collect()
    }

    fn checked(self) -> Result<Self, SqlError> {
        let nesting = |t: &&Placed| {
            !matches!(
                t.token.token,
                Token::Comma
                    | Token::Number(..)
                    | Token::SingleQuotedString(_)
                    | Token::DoubleQuotedString(_)
            )
        };
        if self.list.iter().filter(nesting).count() > NESTING_TOKENS_MAX {
            return Err(errors::not_supported(
                "a statement of more than 1000 operators and names",
            ));
        }
        Ok(self)
    }

    /// The statement's text, without what surrounds it.
    pub(crate) fn text(&self) -> &'a str {
        let start = self.list.first().map_or(0, |t| t.start);
        let end = self.list.last().map_or(0, |t| t.end);
        self.sql.get(start..end).unwrap_or_default()
    }

    /// The text from the reading position on.
    pub(crate) fn rest_text(&self) -> &'a str {
        let start = self.list.get(self.pos).map_or(self.sql.len(), |t| t.start);
        let end = self.list.last().map_or(0, |t| t.end);
        self.sql.get(start..end).unwrap_or_default()
    }

    /// The text from one token to before another, counted from the reading position.
    pub(crate) fn between(&self, from: usize, to: usize) -> Option<&'a str> {
        let list = self.list.get(self.pos..)?.get(from..to)?;
        self.sql.get(list.first()?.start..list.last()?.end)
    }

    /// True behind the last token.
    pub(crate) fn at_end(&self) -> bool {
        self.pos >= self.list.len()
    }

    /// An error that points to the reading position.
    pub(crate) fn syntax_error(&self) -> SqlError {
        errors::syntax(self.rest_text())
    }

    /// An error unless everything was read.
    pub(crate) fn expect_end(&self) -> Result<(), SqlError> {
        if self.at_end() {
            Ok(())
        } else {
            Err(self.syntax_error())
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.list.get(self.pos).map(|t| &t.token.token)
    }

    /// The next token, if it is an unquoted word, in upper case.
    pub(crate) fn peek_word(&self) -> Option<String> {
        self.peek_word_at(0)
    }

    /// The word `ahead` tokens further on, in upper case.
    pub(crate) fn peek_word_at(&self, ahead: usize) -> Option<String> {
        match self.list.get(self.pos + ahead).map(|t| &t.token.token) {
            Some(Token::Word(Word {
                value,
                quote_style: None,
                ..
            })) => Some(value.to_ascii_uppercase()),
            _ => None,
        }
    }

    /// Reads one keyword if it comes next.
    pub(crate) fn eat(&mut self, keyword: &str) -> bool {
        let next = matches!(
            self.peek(),
            Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(keyword)
        );
        self.pos += usize::from(next);
        next
    }

    /// Reads several keywords if they all come next, in order.
    pub(crate) fn eat_all(&mut self, keywords: &[&str]) -> bool {
        let before = self.pos;
        let all = keywords.iter().all(|k| self.eat(k));
        if !all {
            self.pos = before;
        }
        all
    }

    /// Reads one punctuation token if it comes next.
    pub(crate) fn eat_token(&mut self, token: &Token) -> bool {
        let next = self.peek() == Some(token);
        self.pos += usize::from(next);
        next
    }

    /// Reads a name or a string.
    pub(crate) fn name_or_string(&mut self) -> Option<String> {
        let text = match self.peek()? {
            Token::Word(w) => w.value.clone(),
            Token::SingleQuotedString(s) | Token::DoubleQuotedString(s) => s.clone(),
            _ => return None,
        };
        self.pos += 1;
        Some(text)
    }

    /// Reads a string.
    pub(crate) fn string(&mut self) -> Option<String> {
        let (Token::SingleQuotedString(s) | Token::DoubleQuotedString(s)) = self.peek()? else {
            return None;
        };
        let text = s.clone();
        self.pos += 1;
        Some(text)
    }

    /// Reads a whole number.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let Token::Number(digits, _) = self.peek()? else {
            return None;
        };
        let number = digits.parse().ok()?;
        self.pos += 1;
        Some(number)
    }

    /// Splits the rest at its top-level commas.
    pub(crate) fn split_commas(&self) -> Vec<Self> {
        let mut parts = vec![Vec::new()];
        let mut depth = 0usize;
        for placed in self.list.iter().skip(self.pos) {
            match placed.token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                Token::Comma if depth == 0 => {
                    parts.push(Vec::new());
                    continue;
                }
                _ => {}
            }
            if let Some(part) = parts.last_mut() {
                part.push(placed.clone());
            }
        }
        parts
            .into_iter()
            .map(|list| Self {
                sql: self.sql,
                list,
                pos: 0,
            })
            .collect()
    }

    /// The tokens up to the first top-level keyword of `keywords`.
    pub(crate) fn until_keyword(&self, keywords: &[&str]) -> Self {
        let mut depth = 0usize;
        let end = self
            .list
            .iter()
            .skip(self.pos)
            .position(|placed| match &placed.token.token {
                Token::LParen => {
                    depth += 1;
                    false
                }
                Token::RParen => {
                    depth = depth.saturating_sub(1);
                    false
                }
                Token::Word(w) => {
                    depth == 0
                        && w.quote_style.is_none()
                        && keywords.iter().any(|k| w.value.eq_ignore_ascii_case(k))
                }
                _ => false,
            });
        let list = self.list.get(self.pos..).unwrap_or_default();
        let list = list
            .get(..end.unwrap_or(list.len()))
            .unwrap_or_default()
            .to_vec();
        Self {
            sql: self.sql,
            list,
            pos: 0,
        }
    }

    /// Puts NULL in place of each `?` (0 behind LIMIT and OFFSET), to see the shape of the result. Returns their number.
    pub(crate) fn bind_unknown(&mut self) -> usize {
        let mut count = 0;
        for i in 0..self.list.len() {
            let is_limit = |back: usize| {
                let word = i.checked_sub(back).and_then(|at| self.list.get(at));
                matches!(word.map(|t| &t.token.token), Some(Token::Word(w))
                    if w.value.eq_ignore_ascii_case("LIMIT") || w.value.eq_ignore_ascii_case("OFFSET"))
            };
            let value = if is_limit(1) || is_limit(3) {
                Param::Number("0".to_owned())
            } else {
                Param::Null
            };
            if let Some(placed) = self.list.get_mut(i)
                && is_placeholder(&placed.token.token)
            {
                placed.token.token = literal(&value);
                count += 1;
            }
        }
        count
    }

    /// Puts values in place of the `?`s, in order; the text stays.
    pub(crate) fn bind(&mut self, values: &[Param]) {
        let mut values = values.iter();
        for placed in &mut self.list {
            if is_placeholder(&placed.token.token) {
                placed.token.token = literal(values.next().unwrap_or(&Param::Null));
            }
        }
    }

    /// The tokens that are left, with their texts.
    pub(crate) fn rest(&self) -> impl Iterator<Item = (&Token, &'a str)> {
        self.list.iter().skip(self.pos).map(|t| {
            (
                &t.token.token,
                self.sql.get(t.start..t.end).unwrap_or_default(),
            )
        })
    }

    fn parser(&self) -> Parser<'static> {
        let tokens = self
            .list
            .iter()
            .skip(self.pos)
            .map(|t| t.token.clone())
            .collect();
        Parser::new(&DIALECT).with_tokens_with_locations(tokens)
    }

    /// Parses everything that is left as one expression.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn expression(&self) -> Result<Expr, SqlError> {
        let mut parser = self.parser();
        let expr = parser.parse_expr().map_err(|_| self.syntax_error())?;
        if parser.peek_token().token == Token::EOF {
            Ok(expr)
        } else {
            Err(self.syntax_error())
        }
    }

    /// Parses everything that is left as a query.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn query(&self) -> Result<Box<sqlparser::ast::Query>, SqlError> {
        let mut parser = self.parser();
        let query = parser.parse_query().map_err(|_| self.syntax_error())?;
        if parser.peek_token().token == Token::EOF {
            Ok(query)
        } else {
            Err(self.syntax_error())
        }
    }
}

/// Bytes outside of quotes and comments, as far as they can be told without parsing.
fn unquoted_bytes(sql: &str) -> usize {
    let mut rest = sql.as_bytes();
    let mut count = 0;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match byte {
            b'\'' | b'"' | b'`' => behind_quote(tail, byte),
            b'#' => behind(tail, b"\n"),
            b'/' if tail.first() == Some(&b'*') => behind(tail, b"*/"),
            b'-' if tail.starts_with(b"- ") => behind(tail, b"\n"),
            _ => {
                count += 1;
                tail
            }
        };
    }
    count
}

fn behind<'b>(bytes: &'b [u8], end: &[u8]) -> &'b [u8] {
    let at = bytes.windows(end.len()).position(|w| w == end);
    at.and_then(|at| bytes.get(at + end.len()..))
        .unwrap_or_default()
}

fn behind_quote(mut bytes: &[u8], quote: u8) -> &[u8] {
    while let Some((&byte, tail)) = bytes.split_first() {
        if byte == quote {
            return tail;
        }
        let escaped = usize::from(byte == b'\\' && quote != b'`');
        bytes = tail.get(escaped..).unwrap_or_default();
    }
    bytes
}

fn is_placeholder(token: &Token) -> bool {
    matches!(token, Token::Placeholder(text) if text == "?")
}

fn literal(value: &Param) -> Token {
    match value {
        Param::Null => Token::make_keyword("NULL"),
        Param::Number(text) => Token::Number(text.clone(), false),
        Param::Text(text) => Token::SingleQuotedString(text.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statements_keep_their_text() {
        let sql = "SELECT 'a;b' ;\n/* x */ SET @a = 'ö' , @b=2; ;";
        let statements = Tokens::statements(sql).unwrap();
        let texts: Vec<&str> = statements.iter().map(Tokens::text).collect();
        assert_eq!(texts, ["SELECT 'a;b'", "SET @a = 'ö' , @b=2"]);
        let mut set = statements[1].clone();
        assert!(set.eat("set"));
        let parts: Vec<String> = set
            .split_commas()
            .iter()
            .map(|p| p.text().to_owned())
            .collect();
        assert_eq!(parts, ["@a = 'ö'", "@b=2"]);
    }

    #[test]
    fn commas_and_keywords_inside_parentheses_are_not_top_level() {
        let statements =
            Tokens::statements("SELECT f(1, 2), (SELECT 1 FROM dual) FROM dual").unwrap();
        let mut tokens = statements[0].clone();
        assert!(tokens.eat("SELECT"));
        let items = tokens.until_keyword(&["FROM"]);
        let parts: Vec<String> = items
            .split_commas()
            .iter()
            .map(|p| p.text().to_owned())
            .collect();
        assert_eq!(parts, ["f(1, 2)", "(SELECT 1 FROM dual)"]);
    }

    #[test]
    fn escapes_in_patterns_survive() {
        let mut tokens = Tokens::statements(r"x 'rds\_%' 'it\'s' 'a\\b'")
            .unwrap()
            .remove(0);
        assert!(tokens.eat("x"));
        assert_eq!(tokens.string().as_deref(), Some(r"rds\_%"));
        assert_eq!(tokens.string().as_deref(), Some("it's"));
        assert_eq!(tokens.string().as_deref(), Some(r"a\b"));
    }

    #[test]
    fn long_texts_may_be_quoted_but_not_long() {
        let quoted = format!("SELECT '{}\\'', 1 -- x", "y;".repeat(1 << 20));
        let statements = Tokens::statements(&quoted).unwrap();
        assert_eq!(statements.len(), 1);
        assert_eq!(unquoted_bytes(&quoted), "SELECT , 1 ".len());
        assert_eq!(unquoted_bytes("a/*b;*/c#d\ne`f`\"g\\\"h\"i"), 4);
        let commas = format!("SELECT 1{}", ",1".repeat(1 << 20));
        assert_eq!(Tokens::statements(&commas).unwrap_err().code, 1153);
    }

    #[test]
    fn a_statement_that_would_nest_without_end_is_refused() {
        let sql = format!("SELECT 1{}", "+1".repeat(100_000));
        assert_eq!(Tokens::statements(&sql).unwrap_err().code, 1235);
        let sql = format!("SELECT {}", "(".repeat(900));
        let statements = Tokens::statements(&sql).unwrap();
        assert!(statements[0].query().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_split_or_refused(sql in ".{0,200}") {
            if let Ok(statements) = Tokens::statements(&sql) {
                for s in statements {
                    let _ = (s.text().len(), s.query().is_ok(), s.expression().is_ok());
                }
            }
        }
    }
}
