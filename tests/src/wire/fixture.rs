//! Recorded conversations as a text that tests read: each statement once, with the clients that asked it and the answer.
//!
//! In: transcripts by client. Out: lines of tab-separated fields. `q` clients, statement; then `ok`, `err` (number, text) or `rows`
//! (their number); `c` a column (name, type, collation, length, flags, decimals); `v` the values when there is one row, `\N` being
//! NULL.

use std::fmt::Write as _;

use super::transcript::{Reply, Transcript};

fn escape(text: &str) -> String {
    let slashes = text.replace('\\', "\\\\");
    slashes
        .replace('\n', "\\n")
        .replace('\t', "\\t")
        .replace('\r', "\\r")
}

/// The statements of these clients with their first answers. Statements whose answers change from one time to the next keep
/// the one that came first.
pub fn conversations(recorded: &[(&str, &Transcript)]) -> String {
    let mut seen: Vec<(String, Vec<&str>, &Reply)> = Vec::new();
    for (client, transcript) in recorded {
        for exchange in transcript.exchanges() {
            let (Some(sql), [reply]) = (exchange.asked.sql(), exchange.replies.as_slice()) else {
                continue;
            };
            match seen.iter_mut().find(|(text, ..)| text == sql) {
                Some((_, clients, _)) if clients.contains(client) => {}
                Some((_, clients, _)) => clients.push(client),
                None => seen.push((sql.to_owned(), vec![client], reply)),
            }
        }
    }
    let mut out = String::new();
    for (sql, clients, reply) in seen {
        let line = format!("q\t{}\t{}\n", clients.join(", "), escape(&sql));
        if let Some(answer) = answer(reply) {
            out.push_str(&line);
            out.push_str(&answer);
        }
    }
    out
}

fn answer(reply: &Reply) -> Option<String> {
    let mut out = String::new();
    match reply {
        Reply::Ok { .. } => out.push_str("ok\n"),
        Reply::Error { code, text, .. } => {
            let _ = writeln!(out, "err\t{code}\t{}", escape(text));
        }
        Reply::Rows { columns, rows } => {
            let _ = writeln!(out, "rows\t{}", rows.len());
            for c in columns {
                let _ = writeln!(
                    out,
                    "c\t{}\t{}\t{}\t{}\t{}\t{}",
                    escape(&c.name),
                    c.ty,
                    c.collation,
                    c.length,
                    c.flags,
                    c.decimals
                );
            }
            if let [row] = rows.as_slice() {
                let cells = row.iter().map(|cell| match cell {
                    Some(text) => escape(text),
                    None => "\\N".to_owned(),
                });
                let _ = writeln!(out, "v\t{}", cells.collect::<Vec<_>>().join("\t"));
            }
        }
        _ => return None,
    }
    Some(out)
}
