//! Why SHOW VARIABLES is not all the same here.
//!
//! In: the differences of two records. Out: a reason for each variable that may differ, from `settings.tsv`.

use super::{Difference, Explained};

/// Reason, names. A name alone: not here, and so are those that begin with it. `name=`: it may have another value. `name+`: it may be here
/// only. `name?`: it may be there only.
const SETTINGS: &str = include_str!("settings.tsv");
const PLACES: [&str; 2] = ["SHOW VARIABLES", "SHOW GLOBAL VARIABLES"];

/// The reasons for what was found of variables. What is said to be missing here must be: then a list of all variables is
/// among the answers.
pub fn settings(found: &[Difference]) -> Vec<Explained> {
    let mut reasons = Vec::new();
    let parsed = parsed();
    for place in PLACES {
        // Some variables have no global value.
        let all = place == PLACES[0] && found.iter().any(|f| f.place == place);
        for &(what, must_be, reason) in &parsed {
            let must_be = all && must_be;
            let explained = Explained {
                place,
                what,
                reason,
            };
            let of_list = |f: &&Difference| f.place == place && explained.covers(f);
            if must_be || found.iter().any(|f| of_list(&f)) {
                reasons.push(explained);
            }
        }
    }
    reasons
}

/// What differs, whether it always does, and why.
fn parsed() -> Vec<(&'static str, bool, &'static str)> {
    let lines = SETTINGS.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter_map(|line| line.split_once('\t'));
    let one = |name: &str| {
        let bare = name.trim_end_matches(['=', '+', '?']);
        match name.strip_prefix(bare) {
            Some("=") => (format!("{bare} value 1"), false),
            Some("+") => (format!("here only: {bare}"), false),
            Some("?") => (format!("not here: {bare}"), false),
            _ => (format!("not here: {bare}"), true),
        }
    };
    lines
        .flat_map(|(reason, names)| {
            let names = names.split(' ');
            names.map(move |name| {
                let (what, must_be) = one(name);
                (&*what.leak(), must_be, reason)
            })
        })
        .collect()
}
