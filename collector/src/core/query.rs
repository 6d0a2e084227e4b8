//! What kind of statement a Query event holds. In: its text. Out: [`Statement`].
//!
//! The server writes `BEGIN`, `COMMIT` and the XA statements itself, in one fixed form; the text of DDL is the user's,
//! with any comments and case.

use tributary_binlog::{XaStatement, XidError};

/// A statement, as far as grouping cares.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Statement {
    Begin,
    Commit,
    Rollback,
    Xa(XaStatement),
    /// `SAVEPOINT`, `ROLLBACK TO`, `RELEASE SAVEPOINT`.
    Savepoint,
    /// `CREATE` or `DROP`: alone, or inside a transaction (`CREATE TABLE … SELECT`, temporary tables).
    CreateOrDrop,
    /// A statement that changes rows: the node did not write it in row format.
    Dml(&'static str),
    /// Any other statement.
    Other,
}

const DML: [&str; 9] = [
    "INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "CALL", "WITH", "SELECT", "DO",
];

/// Sorts the text of a Query event.
pub(super) fn classify(query: &[u8]) -> Result<Statement, XidError> {
    if query == b"BEGIN" {
        return Ok(Statement::Begin);
    }
    let (word, rest) = first_word(query);
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    if is("XA") {
        return XaStatement::parse(query).map_or(Ok(Statement::Other), |xa| xa.map(Statement::Xa));
    }
    if let Some(verb) = DML.into_iter().find(|name| is(name)) {
        return Ok(Statement::Dml(verb));
    }
    let second = || first_word(rest).0;
    Ok(if is("CREATE") || is("DROP") {
        Statement::CreateOrDrop
    } else if is("BEGIN") || (is("START") && second().eq_ignore_ascii_case(b"TRANSACTION")) {
        Statement::Begin
    } else if is("COMMIT") {
        Statement::Commit
    } else if is("ROLLBACK") && second().eq_ignore_ascii_case(b"TO") {
        Statement::Savepoint
    } else if is("ROLLBACK") {
        Statement::Rollback
    } else if is("SAVEPOINT") || is("RELEASE") {
        Statement::Savepoint
    } else {
        Statement::Other
    })
}

/// The first word behind blanks, comments and opening parentheses, and what follows it.
fn first_word(mut text: &[u8]) -> (&[u8], &[u8]) {
    loop {
        text = match text {
            [b' ' | b'\t' | b'\n' | b'\r' | b'(' | b';', rest @ ..] => rest,
            // Executable comments hold statements: /*!80013 … */
            [b'/', b'*', b'!', rest @ ..] => {
                let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
                rest.get(digits..).unwrap_or_default()
            }
            [b'/', b'*', rest @ ..] => behind(rest, b"*/"),
            [b'-', b'-', rest @ ..] | [b'#', rest @ ..] => behind(rest, b"\n"),
            _ => break,
        };
    }
    let len = text.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    text.split_at_checked(len).unwrap_or((text, &[]))
}

fn behind<'a>(text: &'a [u8], end: &[u8]) -> &'a [u8] {
    let at = text.windows(end.len()).position(|w| w == end);
    at.and_then(|at| text.get(at + end.len()..))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statements_are_told_apart() {
        for (text, want) in [
            ("BEGIN", Statement::Begin),
            ("COMMIT", Statement::Commit),
            ("ROLLBACK", Statement::Rollback),
            ("SAVEPOINT `a`", Statement::Savepoint),
            ("ROLLBACK TO `a`", Statement::Savepoint),
            (
                "CREATE TABLE t (a int) START TRANSACTION",
                Statement::CreateOrDrop,
            ),
            ("/* x */ -- y\n # z\n drop table t", Statement::CreateOrDrop),
            (
                "DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `t`",
                Statement::CreateOrDrop,
            ),
            ("/*!50003 CREATE*/ TRIGGER t", Statement::CreateOrDrop),
            ("insert into t values (1)", Statement::Dml("INSERT")),
            ("/* INSERT */ Update t set a=1", Statement::Dml("UPDATE")),
            ("(SELECT f())", Statement::Dml("SELECT")),
            ("ALTER TABLE t ADD b int", Statement::Other),
            ("GRANT INSERT ON *.* TO u", Statement::Other),
            ("TRUNCATE t", Statement::Other),
            ("/* never closed", Statement::Other),
            ("", Statement::Other),
        ] {
            assert_eq!(classify(text.as_bytes()).unwrap(), want, "{text}");
        }
        let Statement::Xa(xa) = classify(b"XA COMMIT X'6162',X'63',1").unwrap() else {
            panic!()
        };
        assert_eq!(xa.xid.gtrid(), b"ab");
        assert!(classify(b"XA COMMIT X'6").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[-# /*!(;BEGINXAOMT'0-9\n]{0,40}") {
            let _ = classify(text.as_bytes());
        }
    }
}
