//! Reads the files in `fixtures/`.

use std::fs;

pub(crate) fn bytes(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The blocks of a file: what stands behind `#> `, and the lines below it.
pub(crate) fn blocks(name: &str) -> Vec<(String, String)> {
    let text = String::from_utf8(bytes(name)).expect("UTF-8");
    let blocks = text.split("#> ").skip(1).map(|block| {
        let (head, body) = block.split_once('\n').expect("a line below");
        (head.to_owned(), body.trim_end_matches('\n').to_owned())
    });
    blocks.collect()
}
