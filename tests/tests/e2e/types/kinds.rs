//! Tables that have, between them, every column type of MySQL 9.7, and values at the types' boundaries.

use super::numbers::{DECIMALS, INTS, TIMES};
use super::others::{COMPUTED, JSON_UPDATES, JSONS, NO_KEY, SHAPES, WORD_KEY};
use super::texts::{LARGE, TEXTS};

/// A column, what it is widened to, and its values.
pub(super) struct Col {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    /// The type it gets later; empty when it stays.
    pub(super) wide: &'static str,
    /// Values, row by row and again from the first when there are more rows; none when the server fills it.
    pub(super) values: &'static [&'static str],
}

/// A table.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) cols: &'static [Col],
    /// The primary key and what follows.
    pub(super) keys: &'static str,
    /// Statements that change rows of a table `{}`, besides the ones that all have.
    pub(super) updates: &'static [&'static str],
    /// Values are large: rows of some rounds do.
    pub(super) large: bool,
}

pub(super) const fn col(
    name: &'static str,
    kind: &'static str,
    wide: &'static str,
    values: &'static [&'static str],
) -> Col {
    Col {
        name,
        kind,
        wide,
        values,
    }
}

const fn kind(name: &'static str, cols: &'static [Col]) -> Kind {
    Kind {
        name,
        cols,
        keys: "PRIMARY KEY (id)",
        updates: &[],
        large: false,
    }
}

impl Kind {
    /// How many rows show all values.
    pub(super) fn rows(&self) -> usize {
        self.cols.iter().map(|c| c.values.len()).max().unwrap_or(1)
    }

    /// The columns that rows give a value.
    pub(super) fn given(&self) -> impl Iterator<Item = &Col> {
        self.cols.iter().filter(|c| !c.values.is_empty())
    }

    /// The values of row `n`, without its id.
    pub(super) fn row(&self, n: usize) -> Vec<&'static str> {
        self.given().map(|c| c.values[n % c.values.len()]).collect()
    }

    /// The change that widens all columns; `None` when none is.
    pub(super) fn widened(&self) -> Option<String> {
        let wide = self.cols.iter().filter(|c| !c.wide.is_empty());
        let changes: Vec<String> = wide
            .map(|c| format!("MODIFY {} {}", c.name, c.wide))
            .collect();
        (!changes.is_empty()).then(|| changes.join(", "))
    }
}

pub(super) const N: &str = "NULL";

/// All tables; those with long lists of values are made by [`lists`].
pub(super) const KINDS: &[Kind] = &[
    kind("ints", INTS),
    kind("decimals", DECIMALS),
    kind("times", TIMES),
    kind("texts", TEXTS),
    Kind {
        large: true,
        ..kind("large", LARGE)
    },
    Kind {
        updates: JSON_UPDATES,
        ..kind("jsons", JSONS)
    },
    Kind {
        keys: "PRIMARY KEY (id), SPATIAL KEY (b)",
        ..kind("shapes", SHAPES)
    },
    Kind {
        keys: "PRIMARY KEY (id), KEY mv ((CAST(g->'$.n' AS UNSIGNED ARRAY))), \
               KEY mw ((CAST(g->'$.s' AS CHAR(9) ARRAY)), a), KEY fx ((a + id)), KEY (b), KEY (c)",
        ..kind("computed", COMPUTED)
    },
    Kind {
        keys: "KEY (id)",
        ..kind("nokey", NO_KEY)
    },
    Kind {
        keys: "PRIMARY KEY (a(10), id, c, b(4))",
        ..kind("wordkey", WORD_KEY)
    },
];

/// Enums and sets with many values.
pub(super) fn lists() -> Kind {
    let values = |n: usize| -> String {
        let values: Vec<String> = (0..n).map(|i| format!("'v{i}'")).collect();
        values.join(",")
    };
    // A test's table: it lives as long as the process.
    let leak = |text: String| -> &'static str { text.leak() };
    let cols = vec![
        col(
            "a",
            leak(format!("ENUM({})", values(300))),
            "",
            &["'v0'", "'v299'", "'v255'", N],
        ),
        col(
            "b",
            leak(format!("ENUM({})", values(255))),
            leak(format!("ENUM({})", values(256))),
            &["'v0'", "'v254'", N],
        ),
        col(
            "c",
            leak(format!("SET({})", values(64))),
            "",
            &["'v0,v63'", "''", N, "18446744073709551615"],
        ),
        col(
            "d",
            leak(format!("SET({})", values(8))),
            leak(format!("SET({})", values(9))),
            &["'v0,v7'", "255", "''", N],
        ),
        col(
            "e",
            leak(format!("SET({})", values(16))),
            leak(format!("SET({})", values(33))),
            &["65535", "''", N],
        ),
        col(
            "f",
            "ENUM('ä','ö','') CHARACTER SET latin1",
            "ENUM('ä','ö','','ß') CHARACTER SET utf8mb4",
            &["'ä'", "'ö'", "''", N],
        ),
        col(
            "g",
            "SET('ü','x') CHARACTER SET latin1",
            "SET('ü','x','y')",
            &["'ü'", "'ü,x'", "''", N],
        ),
        col(
            "h",
            "ENUM('x','y')",
            "ENUM('x','y','z') NOT NULL DEFAULT 'y'",
            &["'x'", "'y'"],
        ),
    ];
    kind("lists", cols.leak())
}
