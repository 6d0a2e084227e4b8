//! Patterns of routes: `db.table`, each part a glob or a regular expression, with captures.
//!
//! In: the text of a rule. Out: a matcher for a schema and a table name, whose captures fill the text of the target.
//! A glob is turned into a regular expression, so that there is one way of matching.

use std::fmt::Write as _;

use regex::{Captures, Regex, RegexBuilder};

/// Greatest length of a pattern and of a target, in bytes: two names of 64 characters with room for a regular expression.
const TEXT_BYTES_MAX: usize = 4096;
/// Greatest size of a compiled pattern.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A matcher for `db.table`.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    kind: Kind,
    /// Whether it stands for exactly one name.
    literal: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    /// One matcher for each part: names with dots cannot be confused.
    Parts { schema: Regex, table: Regex },
    /// One regular expression for `db.table`.
    Whole(Regex),
}

/// What a pattern caught, in order; the first has the number 1.
pub(super) type Caught = Vec<String>;

impl Pattern {
    /// Reads `db.table`, `/regex/.table`, `/regex/` for both parts, or `db` for all tables of a database.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn parse(text: &str, folded: bool) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("a pattern has at most {TEXT_BYTES_MAX} bytes"));
        }
        let parts = split(text)?;
        let literal = parts
            .iter()
            .all(|p| matches!(p, Part::Glob(g) if g.iter().all(|c| c.1 || !"*?".contains(c.0))));
        let kind = match parts.as_slice() {
            [Part::Regex(whole)] => Kind::Whole(compile(whole, folded)?),
            [one] => Kind::Parts {
                schema: one.compile(folded)?,
                table: compile("(?:.*)", folded)?,
            },
            [schema, table] => Kind::Parts {
                schema: schema.compile(folded)?,
                table: table.compile(folded)?,
            },
            _ => return Err("it is not of the form database.table".to_owned()),
        };
        Ok(Self {
            text: text.to_owned(),
            literal: literal && parts.len() == 2,
            kind,
        })
    }

    /// The text it was read from.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it stands for exactly one table.
    pub(super) fn is_literal(&self) -> bool {
        self.literal
    }

    /// How many captures it has.
    pub(super) fn captures(&self) -> usize {
        match &self.kind {
            Kind::Parts { schema, table } => schema.captures_len() + table.captures_len() - 2,
            Kind::Whole(whole) => whole.captures_len() - 1,
        }
    }

    /// Whether the table matches, and what was caught.
    pub(super) fn matches(&self, schema: &str, table: &str) -> Option<Caught> {
        let mut caught = Vec::new();
        match &self.kind {
            Kind::Parts {
                schema: s,
                table: t,
            } => {
                collect(&s.captures(schema)?, &mut caught);
                collect(&t.captures(table)?, &mut caught);
            }
            Kind::Whole(whole) => {
                collect(&whole.captures(&format!("{schema}.{table}"))?, &mut caught);
            }
        }
        Some(caught)
    }

    /// Whether tables of the database may match, and what its part caught. Patterns for `db.table` as a whole do not tell.
    pub(super) fn matches_schema(&self, schema: &str) -> Option<Caught> {
        let Kind::Parts { schema: s, .. } = &self.kind else {
            return None;
        };
        let mut caught = Vec::new();
        collect(&s.captures(schema)?, &mut caught);
        Some(caught)
    }
}

fn collect(captures: &Captures<'_>, out: &mut Caught) {
    let groups = captures.iter().skip(1);
    out.extend(groups.map(|m| m.map_or_else(String::new, |m| m.as_str().to_owned())));
}

/// A part of a pattern.
enum Part {
    /// Characters; true when quoted, that is without special meaning.
    Glob(Vec<(char, bool)>),
    Regex(String),
}

impl Part {
    fn compile(&self, folded: bool) -> Result<Regex, String> {
        match self {
            Self::Regex(text) => compile(text, folded),
            Self::Glob(glob) => {
                let mut text = String::new();
                for (c, quoted) in glob {
                    match c {
                        '*' if !quoted => text.push_str("(.*)"),
                        '?' if !quoted => text.push('.'),
                        c => text.push_str(&regex::escape(&c.to_string())),
                    }
                }
                compile(&text, folded)
            }
        }
    }
}

fn compile(text: &str, folded: bool) -> Result<Regex, String> {
    RegexBuilder::new(&format!("^(?:{text})$"))
        .case_insensitive(folded)
        .dot_matches_new_line(true)
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|e| format!("bad regular expression: {e}"))
}

/// Splits at dots that are neither quoted nor in a regular expression. `{*}` is the same as `*`.
fn split(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        if chars.peek() == Some(&'/') {
            chars.next();
            parts.push(Part::Regex(regex_text(&mut chars)?));
            match chars.next() {
                None => return Ok(parts),
                Some('.') => continue,
                Some(c) => return Err(format!("`{c}` behind a regular expression")),
            }
        }
        let mut glob = Vec::new();
        let end = loop {
            match chars.next() {
                None => break true,
                Some('.') => break false,
                Some('`') => quoted(&mut chars, &mut glob)?,
                Some('{') => {
                    if chars.next() != Some('*') || chars.next() != Some('}') {
                        return Err("`{` without `*}`; quote names with backticks".to_owned());
                    }
                    glob.push(('*', false));
                }
                Some(c) => glob.push((c, false)),
            }
        };
        if glob.is_empty() {
            return Err("an empty name".to_owned());
        }
        parts.push(Part::Glob(glob));
        if end {
            return Ok(parts);
        }
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn quoted(chars: &mut Chars<'_>, out: &mut Vec<(char, bool)>) -> Result<(), String> {
    loop {
        match chars.next() {
            None => return Err("a backtick without its end".to_owned()),
            Some('`') if chars.peek() == Some(&'`') => {
                chars.next();
                out.push(('`', true));
            }
            Some('`') => return Ok(()),
            Some(c) => out.push((c, true)),
        }
    }
}

fn regex_text(chars: &mut Chars<'_>) -> Result<String, String> {
    let mut text = String::new();
    loop {
        match chars.next() {
            None => return Err("a regular expression without its closing `/`".to_owned()),
            Some('/') => return Ok(text),
            Some('\\') if chars.peek() == Some(&'/') => {
                chars.next();
                text.push('/');
            }
            Some('\\') => {
                text.push('\\');
                text.extend(chars.next());
            }
            Some(c) => text.push(c),
        }
    }
}

/// The target of a route: two names with `$n` in them.
#[derive(Clone, Debug)]
pub(super) struct Target {
    schema: Vec<Piece>,
    table: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Capture(usize),
}

impl Target {
    /// Reads `db.table`; `$1` or `${1}` is what the first `*` or group caught, `$$` is a dollar sign.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn parse(text: &str, captures: usize) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("a target has at most {TEXT_BYTES_MAX} bytes"));
        }
        let mut parts = vec![Vec::new()];
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let piece = match c {
                '.' => {
                    parts.push(Vec::new());
                    continue;
                }
                '`' => {
                    let mut name = Vec::new();
                    quoted(&mut chars, &mut name)?;
                    Piece::Text(name.into_iter().map(|(c, _)| c).collect())
                }
                '$' => capture(&mut chars, captures)?,
                '*' | '?' | '{' | '}' => {
                    return Err(format!("`{c}` in a target; what the n-th `*` caught is $n"));
                }
                c => Piece::Text(c.to_string()),
            };
            if let Some(part) = parts.last_mut() {
                part.push(piece);
            }
        }
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(schema), Some(table), None) if !schema.is_empty() && !table.is_empty() => {
                Ok(Self { schema, table })
            }
            _ => Err("the target is not of the form database.table".to_owned()),
        }
    }

    /// The names for what was caught.
    pub(super) fn fill(&self, caught: &Caught) -> (String, String) {
        (fill(&self.schema, caught), fill(&self.table, caught))
    }

    /// The database alone, when it needs no more captures than these.
    pub(super) fn fill_schema(&self, caught: &Caught) -> Option<String> {
        let known = |piece: &Piece| !matches!(piece, Piece::Capture(n) if *n > caught.len());
        self.schema
            .iter()
            .all(known)
            .then(|| fill(&self.schema, caught))
    }
}

fn capture(chars: &mut Chars<'_>, captures: usize) -> Result<Piece, String> {
    if chars.next_if_eq(&'$').is_some() {
        return Ok(Piece::Text("$".to_owned()));
    }
    let braces = chars.next_if_eq(&'{').is_some();
    let mut digits = String::new();
    while let Some(d) = chars.next_if(char::is_ascii_digit) {
        digits.push(d);
    }
    if braces && chars.next() != Some('}') {
        return Err("`${` without `}`".to_owned());
    }
    match digits.parse::<usize>() {
        Ok(n) if (1..=captures).contains(&n) => Ok(Piece::Capture(n)),
        _ => Err(format!(
            "`${digits}`: the pattern has {captures} captures; a dollar sign is written $$"
        )),
    }
}

fn fill(pieces: &[Piece], caught: &Caught) -> String {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Capture(n) => {
                let _ = write!(out, "{}", caught.get(n - 1).map_or("", String::as_str));
            }
        }
    }
    out
}
