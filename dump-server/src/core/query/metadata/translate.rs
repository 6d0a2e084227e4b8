//! MySQL's dialect to SQLite's, token by token.
//!
//! In: a query's tokens. Out: the same query for SQLite: strings and names requoted, variables and functions of the session
//! replaced by their values, operators renamed. What means the same in both is left alone.

use sqlparser::tokenizer::{Token, Word};

use crate::core::query::eval::Env;
use crate::core::query::tokens::Tokens;
use crate::core::query::value::Value;
use crate::wire::errors::SqlError;

/// Words of MySQL that change nothing here.
const DROPPED: &[&str] = &[
    "SQL_NO_CACHE",
    "SQL_CACHE",
    "SQL_SMALL_RESULT",
    "SQL_BIG_RESULT",
    "SQL_BUFFER_RESULT",
    "SQL_CALC_FOUND_ROWS",
    "HIGH_PRIORITY",
    "STRAIGHT_JOIN",
    "BINARY",
];

/// Functions whose value is the session's or the moment's, not the row's.
const OF_THE_SESSION: &[&str] = &[
    "CONNECTION_ID",
    "CURDATE",
    "CURRENT_USER",
    "CURTIME",
    "DATABASE",
    "NOW",
    "SCHEMA",
    "SESSION_USER",
    "SYSTEM_USER",
    "UNIX_TIMESTAMP",
    "USER",
    "UUID",
    "VERSION",
];

/// The query for SQLite.
pub(super) fn translate(env: Env<'_>, statement: &Tokens<'_>) -> Result<String, SqlError> {
    let tokens: Vec<(&Token, &str)> = statement.rest().collect();
    let Some(Having { from, order, limit }) = Having::of(&tokens) else {
        return pieces(env, &tokens);
    };
    let part = |range: std::ops::Range<usize>| pieces(env, tokens.get(range).unwrap_or_default());
    Ok(format!(
        "SELECT * FROM ({}{}) WHERE {}{}",
        part(0..from)?,
        part(order..limit)?,
        part(from + 1..order)?,
        part(limit..tokens.len())?
    ))
}

/// A HAVING without groups, which MySQL takes as a filter of the rows that come out, and SQLite refuses.
struct Having {
    /// Its place.
    from: usize,
    /// Where ORDER BY begins behind it.
    order: usize,
    /// Where LIMIT begins behind that.
    limit: usize,
}

impl Having {
    fn of(tokens: &[(&Token, &str)]) -> Option<Self> {
        const AGGREGATES: [&str; 6] = ["AVG", "COUNT", "GROUP_CONCAT", "MAX", "MIN", "SUM"];
        const ELSEWHERE: [&str; 4] = ["GROUP", "UNION", "EXCEPT", "INTERSECT"];
        let (mut depth, mut from, mut order, mut limit) = (0_usize, None, None, None);
        for (at, (token, _)) in tokens.iter().enumerate() {
            match token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                Token::Word(word) if depth == 0 && word.quote_style.is_none() => {
                    let upper = word.value.to_ascii_uppercase();
                    let called = matches!(tokens.get(at + 1), Some((Token::LParen, _)));
                    match upper.as_str() {
                        "HAVING" => from = from.or(Some(at)),
                        "ORDER" if from.is_some() => order = order.or(Some(at)),
                        "LIMIT" if from.is_some() => limit = limit.or(Some(at)),
                        word if ELSEWHERE.contains(&word) => return None,
                        word if called && AGGREGATES.contains(&word) => return None,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        let limit = limit.unwrap_or(tokens.len());
        Some(Self {
            from: from?,
            order: order.unwrap_or(limit),
            limit,
        })
    }
}

fn pieces(env: Env<'_>, tokens: &[(&Token, &str)]) -> Result<String, SqlError> {
    let mut out = String::new();
    let mut at = 0;
    while let Some((token, text)) = tokens.get(at) {
        let rest = tokens.get(at..).unwrap_or_default();
        let (piece, used) = match token {
            Token::Word(word) => translate_word(env, word, rest)?,
            Token::SingleQuotedString(s) | Token::DoubleQuotedString(s) => (string(s), 1),
            Token::Number(digits, _) => (digits.clone(), 1),
            Token::Spaceship => ("IS".to_owned(), 1),
            Token::StringConcat => ("OR".to_owned(), 1),
            Token::Overlap => ("AND".to_owned(), 1),
            Token::ExclamationMark => ("NOT".to_owned(), 1),
            _ => ((*text).to_owned(), 1),
        };
        out.push_str(&piece);
        out.push(' ');
        at += used;
    }
    Ok(out)
}

fn string(text: &str) -> String {
    // A NUL would end the statement.
    format!("'{}'", text.replace('\'', "''").replace('\0', ""))
}

fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\"").replace('\0', ""))
}

/// One word and what belongs to it: the text, and the number of tokens it stands for.
fn translate_word(
    env: Env<'_>,
    word: &Word,
    rest: &[(&Token, &str)],
) -> Result<(String, usize), SqlError> {
    if word.quote_style.is_some() {
        return Ok((name(&word.value), 1));
    }
    if word.value.starts_with('@') {
        let mut used = 1;
        while let Some([(Token::Period, _), (Token::Word(_), _)]) = rest.get(used..used + 2) {
            used += 2;
        }
        return Ok((value(env, rest, used)?, used));
    }
    let upper = word.value.to_ascii_uppercase();
    let called = matches!(
        rest.get(1..3),
        Some([(Token::LParen, _), (Token::RParen, _)])
    );
    if called && OF_THE_SESSION.contains(&upper.as_str()) {
        return Ok((value(env, rest, 3)?, 3));
    }
    if upper == "COLLATE" {
        let collation = match rest.get(1) {
            Some((Token::Word(word), _)) => word.value.to_ascii_lowercase(),
            _ => String::new(),
        };
        let exact =
            collation.ends_with("_bin") || collation.ends_with("_cs") || collation == "binary";
        let sqlite = if exact {
            "COLLATE BINARY"
        } else {
            "COLLATE NOCASE"
        };
        return Ok((sqlite.to_owned(), 2));
    }
    if DROPPED.contains(&upper.as_str()) {
        return Ok((String::new(), 1));
    }
    // FOR UPDATE, FOR SHARE, LOCK IN SHARE MODE.
    let next = match rest.get(1) {
        Some((Token::Word(next), _)) => next.value.to_ascii_uppercase(),
        _ => String::new(),
    };
    match (upper.as_str(), next.as_str()) {
        ("FOR", "UPDATE" | "SHARE") => Ok((String::new(), 2)),
        ("LOCK", "IN") => Ok((String::new(), 4)),
        ("DIV", _) => Ok(("/".to_owned(), 1)),
        ("MOD", _) if !matches!(rest.get(1), Some((Token::LParen, _))) => Ok(("%".to_owned(), 1)),
        ("RLIKE", _) => Ok(("REGEXP".to_owned(), 1)),
        _ => Ok((word.value.clone(), 1)),
    }
}

/// The value of the expression in the first `used` tokens, as a literal.
fn value(env: Env<'_>, rest: &[(&Token, &str)], used: usize) -> Result<String, SqlError> {
    let text: String = rest.iter().take(used).map(|(_, text)| *text).collect();
    let tokens = Tokens::statements(&text)?;
    let value = match tokens.first() {
        Some(tokens) => env.eval(&tokens.expression()?)?.value,
        None => Value::Null,
    };
    Ok(match value {
        Value::Null => "NULL".to_owned(),
        Value::Int(n) => n.to_string(),
        Value::Decimal(text) if text.parse::<f64>().is_ok() => text,
        Value::Decimal(text) | Value::Text(text) => string(&text),
    })
}
