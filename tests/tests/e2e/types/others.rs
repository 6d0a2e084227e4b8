//! JSON, geometries, vectors, and columns that are special for another reason.

use super::kinds::{Col, N, col};

pub(super) const JSONS: &[Col] = &[
    col(
        "j",
        "JSON",
        "",
        &[
            "'{\"a\": [1, 2], \"b\": 18446744073709551615, \"d\": 1.5, \"t\": null, \"n\": [3, 4]}'",
            "'null'",
            N,
            "CAST(TIMESTAMP'2020-01-01 00:00:00.123456' AS JSON)",
            "CAST(12345678901234567890.123 AS JSON)",
            "CAST(-9223372036854775808 AS JSON)",
            "JSON_OBJECT('b', X'00FF', 'bit', b'101', 'date', DATE'2024-02-29', 'time', TIME'-838:59:59', 'dec', -0.1, \
         'geo', ST_GeomFromText('POINT(1 2)'), 'f', 1e308, 't', TRUE)",
            "CONCAT(REPEAT('[', 90), REPEAT(']', 90))",
            "JSON_ARRAY(REPEAT('é', 40000), 32767, -32768, 32768, 2147483648, -2147483649, '', '😀')",
            "'[]'",
            "'\"\"'",
        ],
    ),
    col(
        "k",
        "JSON NOT NULL",
        "",
        &[
            "'{\"a\": {\"b\": \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}, \"l\": [1, 2, 3], \"n\": [5]}'",
            "'{\"a\": 1, \"long\": \"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\"}'",
        ],
    ),
    col("x", "INT", "BIGINT", &["1", N]),
];

pub(super) const JSON_UPDATES: &[&str] = &[
    "UPDATE {} SET k = JSON_SET(k, '$.a', 2) WHERE id > ?",
    "UPDATE {} SET k = JSON_REPLACE(k, '$.l[1]', 'x'), j = JSON_SET(j, '$.b', 1, '$.neu', JSON_ARRAY(1)) WHERE id > ?",
    "UPDATE {} SET k = JSON_REMOVE(k, '$.n', '$.long'), x = 5 WHERE id > ?",
];

pub(super) const SHAPES: &[Col] = &[
    col(
        "a",
        "GEOMETRY",
        "",
        &[
            "ST_GeomFromText('POLYGON((0 0,1 1,1 0,0 0))')",
            N,
            "ST_GeomFromText('POINT(-1.7976931348623157e308 5e-324)')",
        ],
    ),
    col(
        "b",
        "POINT NOT NULL SRID 4326",
        "",
        &[
            "ST_GeomFromText('POINT(-90 180)', 4326)",
            "ST_GeomFromText('POINT(90 -179)', 4326)",
        ],
    ),
    col(
        "c",
        "LINESTRING",
        "GEOMETRY",
        &["ST_GeomFromText('LINESTRING(0 0,1 1)')", N],
    ),
    col(
        "d",
        "POLYGON",
        "",
        &[
            "ST_GeomFromText('POLYGON((0 0,9 0,9 9,0 9,0 0),(1 1,2 1,2 2,1 2,1 1))')",
            N,
        ],
    ),
    col(
        "e",
        "MULTIPOINT",
        "",
        &["ST_GeomFromText('MULTIPOINT((0 0),(1 1))')", N],
    ),
    col(
        "f",
        "MULTILINESTRING",
        "",
        &["ST_GeomFromText('MULTILINESTRING((0 0,1 1),(2 2,3 3))')", N],
    ),
    col(
        "g",
        "MULTIPOLYGON",
        "",
        &["ST_GeomFromText('MULTIPOLYGON(((0 0,1 1,1 0,0 0)))')", N],
    ),
    col(
        "h",
        "GEOMETRYCOLLECTION",
        "",
        &[
            "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')",
            "ST_GeomFromText('GEOMETRYCOLLECTION EMPTY')",
            N,
        ],
    ),
    col(
        "v",
        "VECTOR(3)",
        "VECTOR(9)",
        &["STRING_TO_VECTOR('[1,-2.5,3e38]')", N],
    ),
    col("w", "VECTOR", "", &["STRING_TO_VECTOR('[1]')", N]),
    col(
        "y",
        "VECTOR(16383)",
        "",
        &[
            "STRING_TO_VECTOR(CONCAT('[', REPEAT('1.5,', 16382), '2]'))",
            N,
        ],
    ),
];

pub(super) const COMPUTED: &[Col] = &[
    col("a", "INT", "BIGINT", &["1", "-5", N, "1000000"]),
    col("b", "BIGINT GENERATED ALWAYS AS (a + 1) STORED", "", &[]),
    col("c", "BIGINT GENERATED ALWAYS AS (a * 2) VIRTUAL", "", &[]),
    col(
        "d",
        "INT INVISIBLE DEFAULT 9",
        "BIGINT INVISIBLE DEFAULT 9",
        &["7", "DEFAULT", N],
    ),
    col(
        "e",
        "VARCHAR(20) DEFAULT (CONCAT('e', 1))",
        "",
        &["'x'", "DEFAULT"],
    ),
    col("f", "VARCHAR(30) AS (CONCAT(e, '!')) VIRTUAL", "", &[]),
    col(
        "g",
        "JSON",
        "",
        &[
            "'{\"n\": [1, 2, 3], \"s\": [\"a\", \"b\"]}'",
            "'{\"n\": [7], \"s\": []}'",
            N,
        ],
    ),
];

pub(super) const NO_KEY: &[Col] = &[
    col("a", "INT", "BIGINT", &["1", "-2", N]),
    col("b", "VARCHAR(9)", "VARCHAR(90)", &["'x'", "'ü'", N]),
    col("c", "DECIMAL(9,2)", "", &["1.25", N]),
];

pub(super) const WORD_KEY: &[Col] = &[
    col(
        "a",
        "VARCHAR(100) NOT NULL",
        "VARCHAR(200) NOT NULL",
        &["'aaaa'", "'Ä'", "''"],
    ),
    col("b", "BLOB NOT NULL", "", &["'bbbbbb'", "''"]),
    col(
        "c",
        "ENUM('x','y') NOT NULL",
        "ENUM('x','y','z') NOT NULL",
        &["'x'", "'y'"],
    ),
];
