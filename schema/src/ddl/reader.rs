//! Reads a statement token by token, and remembers which tokens are names of tables.
//!
//! In: tokens. Out: words, names, strings and numbers, as the readers of the statements ask for them. Nothing fails: what
//! is not there is `None`, and a reader that does not understand something skips to the next comma.

use std::ops::Range;

use crate::lex::{LexMode, Token, TokenKind, unquote_name, unquote_text};

/// What a table is to the statement that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRole {
    /// It is created, changed or dropped.
    Target,
    /// What it is called afterwards (`RENAME`).
    NewName,
    /// Its definition is taken (`LIKE`), rows are read from it or written to it by a body.
    Source,
    /// A foreign key leads to it.
    Referenced,
    /// A view, procedure, function, trigger, event or library that is created, changed or dropped.
    Program,
    /// It swaps a partition with the target.
    Exchanged,
}

/// The name of a table, view or stored program where a statement has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRef {
    /// The schema, if it is given.
    pub schema: Option<String>,
    /// The name.
    pub name: String,
    /// What it is to the statement.
    pub role: NameRole,
    /// Its tokens.
    pub(super) tokens: Range<usize>,
}

pub(super) struct Reader<'a> {
    pub(super) sql: &'a str,
    pub(super) tokens: &'a [Token],
    pub(super) at: usize,
    pub(super) mode: LexMode,
    pub(super) names: Vec<NameRef>,
    /// Tokens that are names of constraints of the target.
    pub(super) symbols: Vec<usize>,
    /// Token that is the name of a database.
    pub(super) database: Option<usize>,
    /// The text ends inside a literal or comment.
    pub(super) torn: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sql: &'a str, tokens: &'a [Token], mode: LexMode) -> Self {
        Self {
            sql,
            tokens,
            at: 0,
            mode,
            names: Vec::new(),
            symbols: Vec::new(),
            database: None,
            torn: false,
        }
    }

    pub(super) fn token(&self, ahead: usize) -> Option<Token> {
        self.tokens.get(self.at + ahead).copied()
    }

    pub(super) fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// The word `ahead` tokens from here, in upper case; empty if there is no word without quotes.
    pub(super) fn word(&self, ahead: usize) -> String {
        match self.token(ahead) {
            Some(t) if t.kind == TokenKind::Word => t.of(self.sql).to_ascii_uppercase(),
            _ => String::new(),
        }
    }

    fn is_word_at(&self, ahead: usize, word: &str) -> bool {
        self.token(ahead)
            .is_some_and(|t| t.kind == TokenKind::Word && t.of(self.sql).eq_ignore_ascii_case(word))
    }

    /// Whether the words, separated by blanks, come next.
    pub(super) fn is(&self, words: &str) -> bool {
        let mut n = 0;
        words.split(' ').all(|w| {
            n += 1;
            self.is_word_at(n - 1, w)
        })
    }

    /// Takes the words if they come next.
    pub(super) fn eat(&mut self, words: &str) -> bool {
        let found = self.is(words);
        if found {
            self.at += words.split(' ').count();
        }
        found
    }

    /// Takes one of the words.
    pub(super) fn eat_any(&mut self, words: &[&str]) -> bool {
        words.iter().any(|w| self.eat(w))
    }

    pub(super) fn is_mark(&self, mark: &str) -> bool {
        self.token(0)
            .is_some_and(|t| t.kind == TokenKind::Mark && t.of(self.sql) == mark)
    }

    pub(super) fn mark(&mut self, mark: &str) -> bool {
        let found = self.is_mark(mark);
        self.at += usize::from(found);
        found
    }

    /// An identifier.
    pub(super) fn ident(&mut self) -> Option<String> {
        let token = self.token(0)?;
        if !matches!(token.kind, TokenKind::Word | TokenKind::Quoted) {
            return None;
        }
        self.at += 1;
        Some(unquote_name(token.of(self.sql)))
    }

    /// An identifier with quotes, or one without that is none of these words.
    pub(super) fn ident_but(&mut self, words: &[&str]) -> Option<String> {
        if words.iter().any(|w| self.is(w)) {
            return None;
        }
        self.ident()
    }

    /// The name of a table, which may be qualified.
    pub(super) fn name(&mut self, role: NameRole) -> Option<NameRef> {
        let start = self.at;
        // `.t` is a table of the default schema.
        self.mark(".");
        let first = self.ident()?;
        let mut schema = None;
        let mut name = first;
        if self.is_mark(".")
            && let Some(t) = self.token(1)
            && matches!(t.kind, TokenKind::Word | TokenKind::Quoted)
        {
            self.at += 2;
            schema = Some(name);
            name = unquote_name(t.of(self.sql));
        }
        let name = NameRef {
            schema,
            name,
            role,
            tokens: start..self.at,
        };
        self.names.push(name.clone());
        Some(name)
    }

    /// The name of a database.
    pub(super) fn database_name(&mut self) -> Option<String> {
        let at = self.at;
        let name = self.ident()?;
        self.database = Some(at);
        Some(name)
    }

    /// The name of a constraint of the target.
    pub(super) fn symbol(&mut self) -> Option<String> {
        let at = self.at;
        let name = self.ident()?;
        self.symbols.push(at);
        Some(name)
    }

    /// A string; the words of the charset introducer are skipped, adjacent strings are one.
    pub(super) fn text(&mut self) -> Option<String> {
        let start = self.at;
        if self.token(0)?.kind == TokenKind::Word && self.token(0)?.of(self.sql).starts_with('_') {
            self.at += 1;
        }
        let mut out: Option<String> = None;
        while let Some(t) = self.token(0).filter(|t| t.kind == TokenKind::Text) {
            self.at += 1;
            let more = unquote_text(t.of(self.sql), self.mode);
            out.get_or_insert_default().push_str(&more);
        }
        if out.is_none() {
            self.at = start;
        }
        out
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let t = self.token(0).filter(|t| t.kind == TokenKind::Number)?;
        let n = t.of(self.sql).parse().ok()?;
        self.at += 1;
        Some(n)
    }

    /// `(n)`.
    pub(super) fn number_in_parens(&mut self) -> Option<u64> {
        let start = self.at;
        if self.mark("(")
            && let Some(n) = self.number()
            && self.mark(")")
        {
            return Some(n);
        }
        self.at = start;
        None
    }

    /// From an opening parenthesis past the closing one; the tokens between them. `None` when none opens.
    pub(super) fn parens(&mut self) -> Option<Range<usize>> {
        if !self.mark("(") {
            return None;
        }
        let start = self.at;
        let mut depth = 1_u32;
        while let Some(t) = self.token(0) {
            if t.kind == TokenKind::Mark {
                match t.of(self.sql) {
                    "(" => depth += 1,
                    ")" => depth -= 1,
                    _ => {}
                }
            }
            self.at += 1;
            if depth == 0 {
                return Some(start..self.at - 1);
            }
        }
        Some(start..self.at)
    }

    /// To the next comma or closing parenthesis at this depth.
    pub(super) fn skip_item(&mut self) {
        while let Some(t) = self.token(0) {
            match (t.kind, t.of(self.sql)) {
                (TokenKind::Mark, "(") => {
                    self.parens();
                }
                (TokenKind::Mark, "," | ")" | ";") => return,
                _ => self.at += 1,
            }
        }
    }

    /// The text of some tokens, with what stands between them.
    pub(super) fn text_of(&self, tokens: Range<usize>) -> &'a str {
        let first = self.tokens.get(tokens.start);
        let last = tokens.end.checked_sub(1).and_then(|l| self.tokens.get(l));
        match (first, last) {
            (Some(first), Some(last)) if tokens.start < tokens.end => {
                let bytes = first.range().start..last.range().end;
                self.sql.get(bytes).unwrap_or("")
            }
            _ => "",
        }
    }

    /// A list of identifiers in parentheses.
    pub(super) fn ident_list(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        if self.mark("(") {
            while let Some(name) = self.ident() {
                out.push(name);
                if !self.mark(",") {
                    break;
                }
            }
            while !self.at_end() && !self.mark(")") {
                self.at += 1;
            }
        }
        out
    }

    /// Goes through a body (a query, a view, a stored program) from here to the end and takes the tables it names: those
    /// behind `FROM`, `JOIN`, `INTO`, `UPDATE` and `TABLE`, and those separated by commas from them.
    pub(super) fn body(&mut self) {
        while !self.at_end() {
            let table_follows = match self.word(0).as_str() {
                "FROM" | "JOIN" | "STRAIGHT_JOIN" | "INTO" | "TABLE" => true,
                // `ON UPDATE`, `FOR UPDATE`, `KEY UPDATE` are not followed by tables.
                "UPDATE" => !matches!(self.word_before().as_str(), "ON" | "FOR" | "KEY"),
                _ => false,
            };
            self.at += 1;
            if table_follows {
                self.table_references();
            }
        }
    }

    fn word_before(&self) -> String {
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        before.map_or_else(String::new, |t| t.of(self.sql).to_ascii_uppercase())
    }

    /// Tables separated by commas, each with an alias or not.
    fn table_references(&mut self) {
        self.eat_any(&["LOW_PRIORITY", "IGNORE", "LATERAL", "OUTFILE", "DUMPFILE"]);
        loop {
            while self.is_mark("(")
                && !matches!(
                    self.word(1).as_str(),
                    "SELECT" | "WITH" | "VALUES" | "TABLE"
                )
            {
                self.at += 1;
            }
            let known = ["SELECT", "DUAL", "JSON_TABLE", "DISTINCT"]
                .iter()
                .any(|w| self.is(w));
            if known || self.is_mark("(") || self.is_mark("@") {
                return;
            }
            if self.name(NameRole::Source).is_none() {
                return;
            }
            self.eat("AS");
            if !self.is_clause_word() {
                self.ident();
            }
            if !self.mark(",") {
                return;
            }
        }
    }

    fn is_clause_word(&self) -> bool {
        matches!(
            self.word(0).as_str(),
            "" | "WHERE"
                | "SET"
                | "JOIN"
                | "INNER"
                | "LEFT"
                | "RIGHT"
                | "CROSS"
                | "NATURAL"
                | "STRAIGHT_JOIN"
                | "ON"
                | "USING"
                | "GROUP"
                | "ORDER"
                | "HAVING"
                | "LIMIT"
                | "UNION"
                | "EXCEPT"
                | "INTERSECT"
                | "WINDOW"
                | "FOR"
                | "LOCK"
                | "PARTITION"
                | "USE"
                | "FORCE"
                | "IGNORE"
                | "VALUES"
                | "VALUE"
                | "SELECT"
                | "WITH"
                | "INTO"
                | "END"
                | "DO"
                | "THEN"
                | "TABLESAMPLE"
        )
    }
}
