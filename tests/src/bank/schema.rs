//! The bank's tables and first rows: in goes a database name, out comes SQL.

use super::options::BankOptions;

/// What every account starts with.
pub(super) const INITIAL_BALANCE: i64 = 10_000;

/// Statements that make the database and its tables on one node, unless they exist.
pub(super) fn create_statements(schema: &str, json: bool) -> Vec<String> {
    let json = if json { "c_json JSON," } else { "" };
    vec![
        format!("CREATE DATABASE IF NOT EXISTS `{schema}` CHARACTER SET utf8mb4"),
        format!(
            "CREATE TABLE IF NOT EXISTS `{schema}`.accounts (
                id BIGINT NOT NULL PRIMARY KEY,
                owner VARCHAR(64) NOT NULL,
                balance BIGINT NOT NULL,
                version INT UNSIGNED NOT NULL DEFAULT 0,
                touched DATETIME(6) NULL)"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS `{schema}`.transfers (
                id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
                account BIGINT NOT NULL,
                amount DECIMAL(12,2) NOT NULL,
                made_at TIMESTAMP(6) NOT NULL,
                memo VARCHAR(8000) NOT NULL)"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS `{schema}`.markers (
                id BIGINT UNSIGNED NOT NULL,
                node INT NOT NULL,
                made_at DATETIME(6) NOT NULL,
                PRIMARY KEY (id, node))"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS `{schema}`.wide (
                id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
                c_tiny TINYINT, c_utiny TINYINT UNSIGNED, c_small SMALLINT, c_medium MEDIUMINT,
                c_umedium MEDIUMINT UNSIGNED, c_int INT, c_ubig BIGINT UNSIGNED, c_bool BOOLEAN,
                c_decimal DECIMAL(20,6), c_float FLOAT, c_double DOUBLE, c_bit BIT(13),
                c_year YEAR, c_date DATE, c_time TIME(3), c_datetime DATETIME(6),
                c_timestamp TIMESTAMP(2) NULL, c_char CHAR(12), c_latin CHAR(10) CHARACTER SET latin1,
                c_varchar VARCHAR(255), c_long VARCHAR(3000), c_binary BINARY(8),
                c_varbinary VARBINARY(64), c_tinytext TINYTEXT, c_text TEXT, c_blob MEDIUMBLOB,
                c_enum ENUM('red','green','blue'), c_set SET('a','b','c','d','e','f','g','h','i'),
                c_point POINT, {json}
                c_stored BIGINT GENERATED ALWAYS AS (c_int + 1) STORED,
                c_virtual BIGINT GENERATED ALWAYS AS (c_small * 2) VIRTUAL)"
        ),
    ]
}

/// Node (index) of an account.
pub(super) fn node_of(account: u32, nodes: usize) -> usize {
    account as usize % nodes
}

/// The statement that makes a node's accounts.
pub(super) fn insert_accounts(options: &BankOptions, node: usize, nodes: usize) -> String {
    let rows: Vec<String> = (0..options.accounts)
        .filter(|account| node_of(*account, nodes) == node)
        .map(|account| format!("({account},'owner {account}',{INITIAL_BALANCE})"))
        .collect();
    let schema = options.schema_on(node);
    format!(
        "INSERT INTO `{schema}`.accounts (id, owner, balance) VALUES {}",
        rows.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_account_is_on_exactly_one_node() {
        let options = BankOptions {
            accounts: 10,
            ..BankOptions::default()
        };
        let all: Vec<String> = (0..3)
            .map(|node| insert_accounts(&options, node, 3))
            .collect();
        for account in 0..10 {
            let row = format!("'owner {account}'");
            assert_eq!(
                all.iter().filter(|text| text.contains(&row)).count(),
                1,
                "{account}"
            );
        }
    }
}
