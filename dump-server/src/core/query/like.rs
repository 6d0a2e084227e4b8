//! MySQL's LIKE, without regard to case.
//!
//! In: a text and a pattern with `%`, `_` and an escape character. Out: whether the text matches.

/// Matches as `text LIKE pattern ESCAPE '\'` does in a case-insensitive collation.
pub(crate) fn like(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    let pattern = parse(pattern);
    matches(&text, &pattern)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Char(char),
}

fn parse(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut chars = pattern.chars().flat_map(char::to_lowercase);
    while let Some(c) = chars.next() {
        let part = match c {
            '%' => Part::Any,
            '_' => Part::One,
            '\\' => Part::Char(chars.next().unwrap_or('\\')),
            c => Part::Char(c),
        };
        if part != Part::Any || parts.last() != Some(&Part::Any) {
            parts.push(part);
        }
    }
    parts
}

/// Linear scan with one point of return: the last `%`.
fn matches(text: &[char], pattern: &[Part]) -> bool {
    let (mut t, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        let fits = match pattern.get(p) {
            Some(Part::Any) => {
                retry = Some((p, t));
                p += 1;
                continue;
            }
            Some(Part::One) => true,
            Some(Part::Char(wanted)) => wanted == c,
            None => false,
        };
        if fits {
            t += 1;
            p += 1;
        } else if let Some((any, from)) = retry {
            retry = Some((any, from + 1));
            p = any + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern.iter().skip(p).all(|part| *part == Part::Any)
}

#[cfg(test)]
mod tests {
    use super::like;

    #[test]
    fn patterns_clients_send_match() {
        assert!(like("server_id", "SERVER_ID"));
        assert!(like("binlog_format", "binlog%"));
        assert!(like("binlog_format", "%_format"));
        assert!(like("binlogxformat", "binlog_format"));
        assert!(!like("binlogxformat", r"binlog\_format"));
        assert!(!like("rdsx", r"rds\_%"));
        assert!(like("rds_x", r"rds\_%"));
        assert!(like("", "%") && like("", "") && !like("", "_"));
        assert!(like("aab", "%ab") && !like("aab", "%ba"));
        assert!(like(r"a\", r"a\"));
    }

    #[test]
    fn many_wildcards_do_not_explode() {
        let text = "a".repeat(5000);
        assert!(!like(&text, &format!("{}b", "%a".repeat(200))));
    }
}
