//! Whose a directory is. In: the names in it, and what its format file says. Out: it is new, it is ours, or why it must be
//! left alone. Decided before anything is written to it.

use tributary_binlog::BinlogFile;

use crate::{INDEX_SUFFIX, OpenError, kv::meta::FORMAT, kv::meta::Meta, options::FORMAT_FILE};

/// Files that only the data directory of a MySQL server has.
const OF_MYSQL: [&str; 4] = ["auto.cnf", "ibdata1", "mysql.ibd", "ib_logfile0"];

/// A directory as it lies there.
#[derive(Debug)]
pub(crate) struct Lying<'a> {
    /// What to call it in messages.
    pub(crate) dir: &'a str,
    /// The names of its plain files.
    pub(crate) names: &'a [String],
    /// The text of its format file, if it has one.
    pub(crate) format: Option<&'a str>,
    /// The base name of our binlog files.
    pub(crate) base_name: &'a str,
    /// Whether there is an index database.
    pub(crate) has_database: bool,
}

/// What the format file says, if there is one; or why this directory is not for us.
pub(crate) fn judge(lying: &Lying<'_>) -> Result<Option<Meta>, OpenError> {
    let dir = lying.dir.to_owned();
    if let Some(text) = lying.format {
        let meta = Meta::from_text(text).map_err(|e| OpenError::FormatFile {
            dir: dir.clone(),
            detail: e.to_string(),
        })?;
        check_format(&dir, meta.format)?;
        if !lying.has_database {
            return Err(OpenError::NoDatabase { dir });
        }
        return Ok(Some(meta));
    }
    let mut names = lying.names.iter();
    let foreign = |name: &&String| match BinlogFile::parse(name) {
        _ if OF_MYSQL.contains(&name.as_str()) => true,
        Ok(file) if file.base() == lying.base_name => !lying.has_database,
        Ok(file) => lying
            .names
            .contains(&format!("{}{INDEX_SUFFIX}", file.base())),
        Err(_) => false,
    };
    match names.find(foreign) {
        Some(file) if *file != FORMAT_FILE => Err(OpenError::Foreign {
            dir,
            file: file.clone(),
        }),
        _ => Ok(None),
    }
}

/// Refuses what a newer version has written.
pub(crate) fn check_format(dir: &str, found: u32) -> Result<(), OpenError> {
    if found > FORMAT {
        return Err(OpenError::NewerFormat {
            dir: dir.to_owned(),
            found,
            supported: FORMAT,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        names: &[&str],
        format: Option<&str>,
        has_database: bool,
    ) -> Result<Option<Meta>, OpenError> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        judge(&Lying {
            dir: "/d",
            names: &names,
            format,
            base_name: "binlog",
            has_database,
        })
    }

    const OURS: &str = r#"{"format":1,"server_uuid":"u","created":7,"base_name":"binlog"}"#;

    #[test]
    fn new_directories_and_our_own() {
        assert_eq!(run(&[], None, false).unwrap(), None);
        let dropped = [
            "tributary.toml",
            "tributary.lock",
            "server-cert.pem",
            "notes.1",
        ];
        assert_eq!(run(&dropped, None, false).unwrap(), None);
        // Made before there was a format file.
        assert_eq!(
            run(&["binlog.000001", "binlog.index"], None, true).unwrap(),
            None
        );
        let meta = run(&["binlog.000001"], Some(OURS), true).unwrap().unwrap();
        assert_eq!((meta.created, meta.base_name.as_str()), (7, "binlog"));
    }

    #[test]
    fn directories_of_others() {
        for names in [
            &["auto.cnf", "binlog.000001", "ibdata1"][..],
            &["binlog.000007"],
            &["mysql-bin.000001", "mysql-bin.index"],
            &["ibdata1"],
        ] {
            let refused = run(names, None, false).unwrap_err();
            assert!(matches!(&refused, OpenError::Foreign { .. }), "{refused}");
        }
    }

    #[test]
    fn a_lost_database_is_told_from_a_foreign_directory() {
        let refused = run(&["binlog.000001"], Some(OURS), false).unwrap_err();
        assert!(refused.to_string().contains("rebuild-index"), "{refused}");
    }

    #[test]
    fn newer_and_damaged_formats() {
        let newer = OURS.replace(":1,", ":2,");
        let refused = run(&[], Some(&newer), true).unwrap_err();
        assert!(matches!(
            refused,
            OpenError::NewerFormat {
                found: 2,
                supported: 1,
                ..
            }
        ));
        // What a future version adds does not hide its number.
        let future = r#"{"format":9,"shards":[1]}"#;
        let refused = run(&[], Some(future), true).unwrap_err();
        assert!(matches!(refused, OpenError::NewerFormat { found: 9, .. }));
        for text in ["", "{}", "format 1"] {
            let refused = run(&[], Some(text), true).unwrap_err();
            assert!(matches!(refused, OpenError::FormatFile { .. }), "{text}");
        }
    }
}
