//! Texts and bytes, and values at their boundaries.

use super::kinds::{Col, N, col};

pub(super) const TEXTS: &[Col] = &[
    col("a", "CHAR(0)", "CHAR(1)", &["''", N]),
    col(
        "b",
        "CHAR(10)",
        "CHAR(80)",
        &["'ab  '", "'äöü€😀'", "''", N],
    ),
    col(
        "c",
        "CHAR(255)",
        "",
        &["REPEAT('é', 255)", "''", N, "REPEAT('😀', 255)"],
    ),
    col(
        "d",
        "CHAR(63) CHARACTER SET latin1",
        "CHAR(64)",
        &["'Grüße€'", "REPEAT('ß', 63)", N, "''"],
    ),
    col(
        "e",
        "VARCHAR(63)",
        "VARCHAR(64)",
        &["REPEAT('😀', 63)", "''", N, "' x '"],
    ),
    col(
        "f",
        "VARCHAR(255) CHARACTER SET ascii",
        "VARCHAR(300)",
        &["REPEAT('a', 255)", "''", N],
    ),
    col(
        "g",
        "VARCHAR(256) CHARACTER SET latin1 COLLATE latin1_bin",
        "VARCHAR(256) COLLATE utf8mb4_bin",
        &["'ÄÖ'", "REPEAT('ÿ', 256)", N, "''"],
    ),
    col(
        "h",
        "VARCHAR(5) CHARACTER SET utf8mb3",
        "VARCHAR(5)",
        &["'单字'", "'абвгд'", N, "''"],
    ),
    col(
        "i",
        "VARCHAR(5) CHARACTER SET utf16",
        "VARCHAR(5)",
        &["'😀a'", "'abcde'", N, "''"],
    ),
    col(
        "j",
        "CHAR(5) CHARACTER SET utf16le",
        "VARCHAR(9) CHARACTER SET utf16",
        &["'é😀'", "'abcde'", N, "''"],
    ),
    col(
        "k",
        "VARCHAR(5) CHARACTER SET utf32",
        "VARCHAR(9)",
        &["'😀é'", "'abcde'", N, "''"],
    ),
    col(
        "l",
        "CHAR(4) CHARACTER SET gbk",
        "",
        &["'中文'", "'abcd'", N, "''"],
    ),
    col(
        "m",
        "CHAR(4) CHARACTER SET ucs2",
        "CHAR(4)",
        &["'中é'", "'abcd'", N, "''"],
    ),
    col(
        "n",
        "VARCHAR(4) CHARACTER SET sjis",
        "",
        &["'表示'", "''", N],
    ),
    col(
        "o",
        "BINARY(5)",
        "BINARY(9)",
        &["'a\\0'", "'hhhhh'", N, "''"],
    ),
    col(
        "p",
        "BINARY(255)",
        "",
        &["REPEAT('z', 255)", "REPEAT('\\0', 255)", N, "X'00FF'"],
    ),
    col(
        "q",
        "VARBINARY(255)",
        "VARBINARY(300)",
        &["''", "REPEAT(X'FF', 255)", N, "'x\\0'"],
    ),
    col(
        "r",
        "VARBINARY(256)",
        "BLOB",
        &["REPEAT('b', 256)", "''", N],
    ),
    col(
        "s",
        "TINYTEXT",
        "TEXT",
        &["REPEAT('t', 255)", "REPEAT('é', 127)", N, "''"],
    ),
    col(
        "t",
        "TEXT",
        "MEDIUMTEXT",
        &["REPEAT('x', 65535)", "'😀'", N, "''"],
    ),
    col(
        "u",
        "TEXT CHARACTER SET latin1",
        "MEDIUMTEXT",
        &["REPEAT('ö', 40000)", "''", N],
    ),
    col("v", "TINYBLOB", "BLOB", &["REPEAT(X'00', 255)", "''", N]),
    col(
        "w",
        "BLOB",
        "LONGBLOB",
        &["REPEAT(X'FF', 65535)", "''", N, "X'00'"],
    ),
    col(
        "x",
        "CHAR(200) COLLATE utf8mb4_bin",
        "VARCHAR(200) COLLATE utf8mb4_bin",
        &["'bin '", "REPEAT('ü', 200)", N, "''"],
    ),
    col(
        "y",
        "VARCHAR(9) COLLATE utf8mb4_de_pb_0900_as_cs",
        "VARCHAR(9) COLLATE utf8mb4_ja_0900_as_cs_ks",
        &["'Straße'", "''", N],
    ),
    col(
        "z",
        "VARCHAR(9) CHARACTER SET cp1251",
        "VARCHAR(9) CHARACTER SET utf8mb3",
        &["'Привет'", "''", N],
    ),
];

pub(super) const LARGE: &[Col] = &[
    col(
        "a",
        "MEDIUMTEXT",
        "LONGTEXT",
        &["REPEAT('x', 16777215)", "'a'", "''"],
    ),
    col(
        "b",
        "MEDIUMBLOB",
        "LONGBLOB",
        &["''", "REPEAT(X'00', 16777215)", N],
    ),
    col("c", "LONGBLOB", "", &[N, "''", "REPEAT(X'FF', 16777216)"]),
    col(
        "d",
        "LONGTEXT CHARACTER SET latin1",
        "LONGTEXT",
        &[N, "REPEAT('ü', 70000)", "''"],
    ),
];
