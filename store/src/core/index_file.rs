//! The index file, mysqld's `binlog.index`. In: its text, or the files. Out: the files, or the text: one name per line,
//! with `./` before it as mysqld writes it.

use tributary_binlog::{BinlogFile, PosError};

/// The text for these files.
pub(crate) fn text<'a>(files: impl IntoIterator<Item = &'a BinlogFile>) -> String {
    let mut out = String::new();
    for file in files {
        out.push_str("./");
        out.push_str(file.as_str());
        out.push('\n');
    }
    out
}

/// The files a text names, in its order. Directories in front of a name are cut off: the files lie beside the index.
pub(crate) fn parse(text: &str) -> Result<Vec<BinlogFile>, PosError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| BinlogFile::parse(line.rsplit_once('/').map_or(line, |(_, name)| name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_mysqld_writes_it() {
        let files = [BinlogFile::new("binlog", 1), BinlogFile::new("binlog", 2)];
        let text = text(&files);
        assert_eq!(text, "./binlog.000001\n./binlog.000002\n");
        assert_eq!(parse(&text).unwrap(), files);
    }

    #[test]
    fn directories_blank_lines_and_carriage_returns_are_dropped() {
        let files = parse("/var/lib/mysql/b.000009\r\n\n b.000010 \n").unwrap();
        assert_eq!(files, [BinlogFile::new("b", 9), BinlogFile::new("b", 10)]);
        assert!(parse("no-number\n").is_err());
    }
}
