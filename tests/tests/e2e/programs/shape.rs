//! What a random program knows of its table: columns, keys, and the ways to change them.
//!
//! In: a random source and a definition. Out: a statement (`{}` stands for the table's name) and the definition behind it.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom, IndexedRandom};

/// Types of which each holds what those before it hold, each with values that the ones before cannot hold.
const CHAINS: &[&[(&str, &[&str])]] = &[
    &[
        ("TINYINT", &["-128", "127", "0"]),
        ("SMALLINT", &["-32768", "32767"]),
        ("INT", &["-2147483648", "2147483647"]),
        ("BIGINT", &["-9223372036854775808", "9223372036854775807"]),
    ],
    &[
        ("TINYINT UNSIGNED", &["0", "255"]),
        ("MEDIUMINT UNSIGNED", &["16777215"]),
        ("BIGINT UNSIGNED", &["18446744073709551615"]),
    ],
    &[
        ("VARCHAR(5) CHARACTER SET utf8mb4", &["''", "'äöü'", "' x'"]),
        (
            "VARCHAR(20) CHARACTER SET utf8mb4",
            &["'😀😀😀😀😀😀😀😀😀😀'"],
        ),
        ("VARCHAR(300) CHARACTER SET utf8mb4", &["REPEAT('é', 299)"]),
    ],
    &[
        ("VARCHAR(9) CHARACTER SET latin1", &["'Grüße'", "''"]),
        ("VARCHAR(9) CHARACTER SET utf8mb4", &["'单字😀'"]),
        ("VARCHAR(70) CHARACTER SET utf8mb4", &["REPEAT('字', 70)"]),
    ],
    &[
        ("DECIMAL(5,2)", &["-999.99", "0", "0.01"]),
        ("DECIMAL(12,2)", &["9999999999.99"]),
        ("DECIMAL(30,6)", &["-123456789012345678901234.000001"]),
    ],
    &[
        ("ENUM('a','b')", &["'a'", "'b'"]),
        ("ENUM('a','b','ü')", &["'ü'"]),
        ("ENUM('a','b','ü','d','e')", &["'e'"]),
    ],
    &[
        ("SET('p','q')", &["''", "'p,q'"]),
        ("SET('p','q','r','s','t','u','v','w','x')", &["'p,x'"]),
    ],
    &[
        (
            "DATETIME",
            &["'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'"],
        ),
        ("DATETIME(3)", &["'2024-02-29 12:00:00.125'"]),
        ("DATETIME(6)", &["'2024-02-29 12:00:00.000001'"]),
    ],
    &[
        ("TIME", &["'-838:59:59'", "'00:00:00'"]),
        ("TIME(2)", &["'-00:00:00.01'"]),
        ("TIME(6)", &["'838:59:58.999999'"]),
    ],
    &[("FLOAT", &["-1.5", "0.25"]), ("DOUBLE", &["1e300", "0.1"])],
    &[
        ("BIT(3)", &["b'101'", "b'0'"]),
        ("BIT(9)", &["b'100000001'"]),
        ("BIT(64)", &["~0"]),
    ],
    &[
        ("VARBINARY(4)", &["X'00FF'", "''"]),
        ("VARBINARY(300)", &["REPEAT(X'00', 300)"]),
    ],
    &[("JSON", &["'{\"a\": [1, 18446744073709551615]}'", "'null'"])],
    &[
        ("DATE", &["'1000-01-01'", "'9999-12-31'"]),
        ("DATETIME(1)", &["'2000-01-01 00:00:00.1'"]),
    ],
    &[
        ("TINYTEXT", &["''", "'kurz'"]),
        ("TEXT", &["REPEAT('ö', 300)"]),
        ("LONGTEXT", &["REPEAT('x', 70000)"]),
    ],
    &[("YEAR", &["1901", "2155"])],
    &[
        ("POINT", &["ST_GeomFromText('POINT(1 -2)')"]),
        ("GEOMETRY", &["ST_GeomFromText('LINESTRING(0 0, 1 1)')"]),
    ],
];

/// Chains whose types can be in an index without a length.
const INDEXED: std::ops::Range<usize> = 0..9;
/// Chains whose types can have a literal as default.
const DEFAULTED: std::ops::Range<usize> = 0..12;

#[derive(Clone)]
pub(super) struct Column {
    pub(super) name: String,
    chain: usize,
    at: usize,
    null: bool,
    default: Option<&'static str>,
    /// Its values are those of the first type, so that it can be narrowed.
    narrow: bool,
}

impl Column {
    fn kind(&self) -> &'static str {
        CHAINS[self.chain][self.at].0
    }

    /// Type and what follows it.
    fn text(&self) -> String {
        let null = if self.null { "NULL" } else { "NOT NULL" };
        let default = self
            .default
            .map_or_else(String::new, |d| format!(" DEFAULT {d}"));
        format!("{} {null}{default}", self.kind())
    }

    /// A value that it can have.
    pub(super) fn value(&self, rng: &mut StdRng) -> &'static str {
        if self.null && rng.random_bool(0.2) {
            return "NULL";
        }
        let most = if self.narrow {
            0
        } else {
            rng.random_range(0..=self.at)
        };
        CHAINS[self.chain][most]
            .1
            .choose(rng)
            .expect("each type has values")
    }

    /// Whether an insert may leave it out.
    pub(super) fn may_be_left_out(&self) -> bool {
        self.null || self.default.is_some()
    }
}

/// A table.
#[derive(Clone)]
pub(super) struct Shape {
    /// Its logical name.
    pub(super) name: String,
    /// All but `id`.
    pub(super) columns: Vec<Column>,
    /// Where `id` stands among them.
    id_at: usize,
    /// Name, columns, and whether it is unique with `id` behind them.
    keys: Vec<(String, Vec<String>, bool)>,
    /// Numbers names.
    next: usize,
}

/// A statement and what it leads to.
#[derive(Clone)]
pub(super) struct Change {
    /// `{}` stands for the table, `{new}` for its name behind a rename.
    pub(super) sql: String,
    pub(super) shape: Shape,
    /// The table has no rows behind it.
    pub(super) empties: bool,
    /// It gives a column another definition with the last part: other changes of columns come behind it.
    pub(super) holds_up: bool,
}

impl Shape {
    pub(super) fn new(rng: &mut StdRng) -> Self {
        let mut shape = Self {
            name: "a".into(),
            columns: Vec::new(),
            id_at: 0,
            keys: Vec::new(),
            next: 0,
        };
        for _ in 0..rng.random_range(2..6) {
            let column = shape.fresh(rng);
            shape.columns.push(column);
        }
        shape
    }

    fn name(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{}", self.next)
    }

    fn fresh(&mut self, rng: &mut StdRng) -> Column {
        let chain = rng.random_range(0..CHAINS.len());
        let at = rng.random_range(0..CHAINS[chain].len());
        let defaulted = DEFAULTED.contains(&chain) && rng.random_bool(0.5);
        let default = CHAINS[chain][0]
            .1
            .choose(rng)
            .expect("each type has values");
        Column {
            name: self.name("c"),
            chain,
            at,
            null: !defaulted || rng.random_bool(0.5),
            default: defaulted.then_some(*default),
            narrow: rng.random_bool(0.4),
        }
    }

    /// The statement that makes the table as it is.
    pub(super) fn create(&self) -> String {
        let mut parts: Vec<String> = self
            .columns
            .iter()
            .map(|c| format!("{} {}", c.name, c.text()))
            .collect();
        parts.insert(self.id_at, "id BIGINT NOT NULL".into());
        parts.push("PRIMARY KEY (id)".into());
        for (name, columns, unique) in &self.keys {
            let columns = columns.join(", ");
            parts.push(if *unique {
                format!("UNIQUE KEY {name} ({columns}, id)")
            } else {
                format!("KEY {name} ({columns})")
            });
        }
        format!("CREATE TABLE {{}} ({})", parts.join(", "))
    }

    fn is_indexed(&self, name: &str) -> bool {
        self.keys
            .iter()
            .any(|(_, columns, _)| columns.iter().any(|c| c == name))
    }

    /// Puts a column somewhere, and says where.
    fn place(&mut self, column: Column, rng: &mut StdRng) -> String {
        match rng.random_range(0..3) {
            0 => {
                self.columns.insert(0, column);
                self.id_at += 1;
                " FIRST".into()
            }
            1 if !self.columns.is_empty() => {
                let after = rng.random_range(0..self.columns.len());
                let text = format!(" AFTER {}", self.columns[after].name);
                // Behind the column that stands directly before id is before id.
                if after < self.id_at {
                    self.id_at += 1;
                }
                self.columns.insert(after + 1, column);
                text
            }
            _ => {
                self.columns.push(column);
                String::new()
            }
        }
    }

    /// A random change; `None` when the one that was drawn cannot be made.
    pub(super) fn change(&self, rng: &mut StdRng) -> Option<Change> {
        let mut shape = self.clone();
        let kind = rng.random_range(0..20);
        let mut empties = false;
        let sql = match kind {
            0..4 => format!("ALTER TABLE {{}} {}", shape.add(rng)),
            4..6 => format!("ALTER TABLE {{}} {}", shape.drop(rng)?),
            6..8 => format!("ALTER TABLE {{}} {}", shape.rename(rng)?),
            8..11 => format!("ALTER TABLE {{}} {}", shape.retype(rng, true)?),
            11 => format!("ALTER TABLE {{}} {}", shape.retype(rng, false)?),
            12 => format!("ALTER TABLE {{}} {}", shape.reorder(rng)?),
            13 => format!("ALTER TABLE {{}} {}", shape.default(rng)?),
            14 => format!("ALTER TABLE {{}} {}", shape.nullable(rng)?),
            15 => shape.index(rng)?,
            16 => shape.unindex(rng)?,
            17 => {
                let drop = shape.drop(rng)?;
                format!("ALTER TABLE {{}} {}, {drop}", shape.add(rng))
            }
            18 => {
                shape.name = if shape.name == "a" { "b" } else { "a" }.into();
                let forms = ["RENAME TABLE {} TO {new}", "ALTER TABLE {} RENAME TO {new}"];
                (*forms.choose(rng)?).to_owned()
            }
            _ => {
                empties = true;
                "TRUNCATE TABLE {}".into()
            }
        };
        let holds_up = kind == 11 || sql.contains(" CHANGE ");
        Some(Change {
            sql,
            shape,
            empties,
            holds_up,
        })
    }

    fn add(&mut self, rng: &mut StdRng) -> String {
        let column = self.fresh(rng);
        let text = format!("ADD COLUMN {} {}", column.name, column.text());
        text + &self.place(column, rng)
    }

    /// A column that is in no index.
    fn free(&self, rng: &mut StdRng) -> Option<usize> {
        let free: Vec<usize> = (0..self.columns.len())
            .filter(|at| !self.is_indexed(&self.columns[*at].name))
            .collect();
        free.choose(rng).copied()
    }

    fn take(&mut self, at: usize) -> Column {
        if at < self.id_at {
            self.id_at -= 1;
        }
        self.columns.remove(at)
    }

    fn drop(&mut self, rng: &mut StdRng) -> Option<String> {
        let at = self.free(rng).filter(|_| self.columns.len() > 1)?;
        Some(format!("DROP COLUMN {}", self.take(at).name))
    }

    fn rename(&mut self, rng: &mut StdRng) -> Option<String> {
        let new = self.name("r");
        let column = self.columns.choose_mut(rng)?;
        let old = std::mem::replace(&mut column.name, new.clone());
        for (_, columns, _) in &mut self.keys {
            columns
                .iter_mut()
                .filter(|c| **c == old)
                .for_each(|c| c.clone_from(&new));
        }
        let change = rng.random_bool(0.3);
        let column = self.columns.iter().find(|c| c.name == new)?;
        Some(if change {
            format!("CHANGE {old} {new} {}", column.text())
        } else {
            format!("RENAME COLUMN {old} TO {new}")
        })
    }

    fn retype(&mut self, rng: &mut StdRng, wider: bool) -> Option<String> {
        let column = self.columns.choose_mut(rng)?;
        if wider {
            (column.at + 1 < CHAINS[column.chain].len()).then_some(())?;
            column.at += 1;
        } else {
            (column.at > 0 && column.narrow).then_some(())?;
            column.at -= 1;
        }
        Some(format!("MODIFY {} {}", column.name, column.text()))
    }

    fn reorder(&mut self, rng: &mut StdRng) -> Option<String> {
        (self.columns.len() > 1).then_some(())?;
        let at = rng.random_range(0..self.columns.len());
        let column = self.take(at);
        let text = format!("MODIFY {} {}", column.name, column.text());
        let place = self.place(column, rng);
        // Without a place it would stay where it is.
        if place.is_empty() {
            let last = self.columns.len() - 2;
            if self.id_at > last {
                return Some(text + " AFTER id");
            }
            return Some(text + &format!(" AFTER {}", self.columns[last].name));
        }
        Some(text + &place)
    }

    fn default(&mut self, rng: &mut StdRng) -> Option<String> {
        let column = self.columns.choose_mut(rng)?;
        DEFAULTED.contains(&column.chain).then_some(())?;
        let value = CHAINS[column.chain][0].1.choose(rng)?;
        column.default = Some(value);
        Some(format!("ALTER COLUMN {} SET DEFAULT {value}", column.name))
    }

    fn nullable(&mut self, rng: &mut StdRng) -> Option<String> {
        let column = self.columns.choose_mut(rng)?;
        (!column.null).then_some(())?;
        column.null = true;
        Some(format!("MODIFY {} {}", column.name, column.text()))
    }

    fn index(&mut self, rng: &mut StdRng) -> Option<String> {
        let name = self.name("k");
        let column = self.columns.choose(rng)?;
        INDEXED.contains(&column.chain).then_some(())?;
        let (unique, column) = (rng.random_bool(0.3), column.name.clone());
        let text = match (unique, rng.random_bool(0.5)) {
            (true, true) => format!("ALTER TABLE {{}} ADD UNIQUE KEY {name} ({column}, id)"),
            (true, false) => format!("CREATE UNIQUE INDEX {name} ON {{}} ({column}, id)"),
            (false, true) => format!("ALTER TABLE {{}} ADD INDEX {name} ({column})"),
            (false, false) => format!("CREATE INDEX {name} ON {{}} ({column})"),
        };
        self.keys.push((name, vec![column], unique));
        Some(text)
    }

    fn unindex(&mut self, rng: &mut StdRng) -> Option<String> {
        (!self.keys.is_empty()).then_some(())?;
        let at = rng.random_range(0..self.keys.len());
        if rng.random_bool(0.3) {
            let new = self.name("k");
            let old = std::mem::replace(&mut self.keys[at].0, new.clone());
            return Some(format!("ALTER TABLE {{}} RENAME INDEX {old} TO {new}"));
        }
        let (name, ..) = self.keys.remove(at);
        Some(if rng.random_bool(0.5) {
            format!("DROP INDEX {name} ON {{}}")
        } else {
            format!("ALTER TABLE {{}} DROP KEY {name}")
        })
    }
}
