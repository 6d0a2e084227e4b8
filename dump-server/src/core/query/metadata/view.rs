//! What the statement that makes a view says.
//!
//! In: `CREATE … VIEW … AS SELECT …`. Out: its parts, as `information_schema.views` has them.

use sqlparser::tokenizer::Token;

use super::is_word;
use crate::core::query::tokens::Tokens;

/// The parts of such a statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct View {
    /// The query, as it is written.
    pub(super) query: String,
    /// `NONE`, `LOCAL` or `CASCADED`.
    pub(super) check_option: &'static str,
    /// `user@host`, empty when the statement does not say it.
    pub(super) definer: String,
    /// `DEFINER` or `INVOKER`.
    pub(super) security: &'static str,
}

impl View {
    /// What is not understood is all query.
    pub(super) fn of(statement: &str) -> Self {
        let mut view = Self {
            query: statement.to_owned(),
            check_option: "NONE",
            definer: String::new(),
            security: "DEFINER",
        };
        let Ok(statements) = Tokens::statements(statement) else {
            return view;
        };
        let Some(tokens) = statements.into_iter().next() else {
            return view;
        };
        let mut rest: Vec<(&Token, &str)> = tokens.rest().collect();
        let words = |at: usize, words: &[&str]| {
            words
                .iter()
                .enumerate()
                .all(|(i, w)| rest.get(at + i).is_some_and(|(t, _)| is_word(t, w)))
        };
        let Some(name) = (0..rest.len()).find(|at| words(*at, &["VIEW"])) else {
            return view;
        };
        let Some(start) = (name..rest.len()).find(|at| words(*at, &["AS"])) else {
            return view;
        };
        if (0..name).any(|at| words(at, &["SQL", "SECURITY", "INVOKER"])) {
            view.security = "INVOKER";
        }
        if let Some(at) = (0..name).find(|at| words(*at, &["DEFINER"]))
            && let Some(text) = tokens.between(
                at + 2,
                (at + 2..name)
                    .find(|at| words(*at, &["SQL"]))
                    .unwrap_or(name),
            )
        {
            view.definer = text.replace(['`', '\'', ' '], "");
        }
        let mut end = rest.len();
        for (tail, option) in [
            (&["WITH", "CHECK", "OPTION"][..], "CASCADED"),
            (&["WITH", "CASCADED", "CHECK", "OPTION"], "CASCADED"),
            (&["WITH", "LOCAL", "CHECK", "OPTION"], "LOCAL"),
        ] {
            if rest.len() > tail.len() && words(rest.len() - tail.len(), tail) {
                (end, view.check_option) = (rest.len() - tail.len(), option);
            }
        }
        rest.truncate(end);
        if let Some(query) = tokens.between(start + 1, end) {
            view.query = query.to_owned();
        }
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_view_are_told() {
        let view = View::of(
            "CREATE ALGORITHM=UNDEFINED DEFINER=`root`@`localhost` SQL SECURITY INVOKER VIEW `v` (a, b) AS SELECT 1, \
             'x AS y' FROM t WITH LOCAL CHECK OPTION",
        );
        assert_eq!(
            (view.query.as_str(), view.definer.as_str()),
            ("SELECT 1, 'x AS y' FROM t", "root@localhost")
        );
        assert_eq!((view.check_option, view.security), ("LOCAL", "INVOKER"));
        let plain = View::of("CREATE VIEW s.w AS SELECT 1");
        assert_eq!(
            (plain.query.as_str(), plain.definer.as_str()),
            ("SELECT 1", "")
        );
        assert_eq!((plain.check_option, plain.security), ("NONE", "DEFINER"));
        assert_eq!(View::of("SELECT 'no view").query, "SELECT 'no view");
    }
}
