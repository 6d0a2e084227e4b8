//! Random column values: in goes a random generator, out come SQL literals for the table with all
//! column types, NULLs and extremes included.

use rand::RngExt;
use rand::rngs::StdRng;

const TEXTS: [&str; 6] = [
    "plain",
    "",
    "größer",
    "日本語テキスト",
    "emoji 🦀 end",
    "it''s \\\\ odd",
];

/// Columns of `wide` that a statement may set.
pub(super) fn columns(json: bool) -> Vec<&'static str> {
    let mut columns = vec![
        "c_tiny",
        "c_utiny",
        "c_small",
        "c_medium",
        "c_umedium",
        "c_int",
        "c_ubig",
        "c_bool",
        "c_decimal",
        "c_float",
        "c_double",
        "c_bit",
        "c_year",
        "c_date",
        "c_time",
        "c_datetime",
        "c_timestamp",
        "c_char",
        "c_latin",
        "c_varchar",
        "c_long",
        "c_binary",
        "c_varbinary",
        "c_tinytext",
        "c_text",
        "c_blob",
        "c_enum",
        "c_set",
        "c_point",
    ];
    if json {
        columns.push("c_json");
    }
    columns
}

/// A literal for a column of `wide`; one in eight is NULL.
pub(super) fn literal(column: &str, rng: &mut StdRng) -> String {
    if column.starts_with("extra_") {
        // Added by a schema change; a small number fits all the types it uses.
        return rng.random_range(0..100).to_string();
    }
    if rng.random_ratio(1, 8) {
        return "NULL".to_owned();
    }
    match column {
        "c_float" | "c_double" | "c_decimal" => decimal(rng),
        "c_year" | "c_date" | "c_time" | "c_datetime" | "c_timestamp" => moment(column, rng),
        "c_binary" | "c_varbinary" | "c_blob" => hex(column, rng),
        "c_enum" => pick(&["'red'", "'green'", "'blue'"], rng).to_owned(),
        "c_set" => pick(&["''", "'a'", "'b,i'", "'a,b,c,d,e,f,g,h,i'"], rng).to_owned(),
        "c_point" => {
            let (x, y) = (rng.random_range(-180..180), rng.random_range(-90..90));
            format!("ST_GeomFromText('POINT({x} {y})')")
        }
        "c_json" => json(rng),
        "c_latin" => pick(&["'Zürich'", "'abc'", "''"], rng).to_owned(),
        "c_char" => format!("'{}'", pick(&["twelve chars", "", "日本", "ä"], rng)),
        "c_varchar" | "c_tinytext" | "c_text" | "c_long" => text(column, rng),
        _ => integer(column, rng),
    }
}

/// A random memo of up to `longest` characters.
pub(super) fn memo(longest: usize, rng: &mut StdRng) -> String {
    let length = rng.random_range(0..=longest);
    (0..length)
        .map(|_| char::from(rng.random_range(b'a'..=b'z')))
        .collect()
}

fn pick<'a>(values: &[&'a str], rng: &mut StdRng) -> &'a str {
    values
        .get(rng.random_range(0..values.len()))
        .copied()
        .unwrap_or_default()
}

fn integer(column: &str, rng: &mut StdRng) -> String {
    let (low, high): (i128, i128) = match column {
        "c_tiny" => (-128, 127),
        "c_utiny" => (0, 255),
        "c_small" => (-32_768, 32_767),
        "c_medium" => (-8_388_608, 8_388_607),
        "c_umedium" => (0, 16_777_215),
        "c_int" => (-2_147_483_648, 2_147_483_647),
        "c_ubig" => (0, i128::from(u64::MAX)),
        "c_bit" => (0, 8_191),
        _ => (0, 1),
    };
    match rng.random_range(0..10) {
        0 => low.to_string(),
        1 => high.to_string(),
        _ => rng.random_range(low..=high).to_string(),
    }
}

fn decimal(rng: &mut StdRng) -> String {
    let (whole, part) = (
        rng.random_range(-9_999_999..9_999_999),
        rng.random_range(0..1_000_000),
    );
    format!("{whole}.{part:06}")
}

fn moment(column: &str, rng: &mut StdRng) -> String {
    let year = rng.random_range(1980..2037);
    let (month, day) = (rng.random_range(1..=12), rng.random_range(1..=28));
    // Hours that no daylight saving skips.
    let clock = format!(
        "{:02}:{:02}:{:02}",
        rng.random_range(4..24),
        59,
        rng.random_range(0..60)
    );
    let fraction = rng.random_range(0..1_000_000);
    match column {
        "c_year" => year.to_string(),
        "c_date" => format!("'{year}-{month:02}-{day:02}'"),
        "c_time" => format!("'{}{clock}.{:03}'", pick(&["", "-"], rng), fraction / 1000),
        _ => format!("'{year}-{month:02}-{day:02} {clock}.{fraction:06}'"),
    }
}

fn hex(column: &str, rng: &mut StdRng) -> String {
    let length = match column {
        "c_binary" => 8,
        "c_varbinary" => rng.random_range(1..=64),
        _ => rng.random_range(1..400),
    };
    let digits: String = (0..length)
        .map(|_| format!("{:02x}", rng.random::<u8>()))
        .collect();
    format!("x'{digits}'")
}

fn text(column: &str, rng: &mut StdRng) -> String {
    let times = match column {
        "c_long" => rng.random_range(1..40),
        _ => rng.random_range(1..4),
    };
    let words: Vec<&str> = (0..times).map(|_| pick(&TEXTS, rng)).collect();
    format!("'{}'", words.join(" "))
}

fn json(rng: &mut StdRng) -> String {
    let number: i32 = rng.random();
    let ratio = f64::from(rng.random_range(0..1000)) / 8.0;
    let word = pick(&["alpha", "größer", "日本", ""], rng);
    format!(
        r#"'{{"n": {number}, "f": {ratio}, "s": "{word}", "a": [1, null, true, {{"k": "v"}}]}}'"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_same_seed_gives_the_same_values() {
        let row = |seed| -> Vec<String> {
            let mut rng = StdRng::seed_from_u64(seed);
            columns(true)
                .iter()
                .map(|column| literal(column, &mut rng))
                .collect()
        };
        assert_eq!(row(7), row(7));
        assert_ne!(row(7), row(8));
    }
}
