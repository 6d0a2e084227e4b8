//! The line protocol of the clients' programs (`tests/clients/README.md`): in goes a line of JSON, out comes a [`Change`].

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// A row image: column name to value, as the client gives it.
pub(crate) type Image = Map<String, Value>;

/// Where a transaction ends in the service's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Number of the transaction; 0 when the client does not tell.
    pub(crate) gno: u64,
    /// Binlog file and position behind it, when the client tells.
    pub(crate) position: Option<(String, u64)>,
}

/// Where a row stands in the log, for clients that tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Number of its transaction.
    pub(crate) gno: u64,
    /// Its event and its place in it: the same whenever it is read.
    pub(crate) at: String,
}

/// What happens to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Insert,
    Update,
    Delete,
}

/// One thing a client has read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// The client is connected and would see what comes.
    Ready,
    /// A heartbeat.
    Heartbeat,
    /// Another binlog file begins.
    Rotate,
    /// A transaction begins.
    Begin,
    /// A row of the transaction at hand.
    Row {
        op: Op,
        table: String,
        image: Image,
        origin: Option<Origin>,
    },
    /// The transaction at hand is complete.
    Commit(Place),
    /// A statement that changes the schema, a transaction of its own.
    Ddl { sql: String, place: Place },
    /// The client has read rows that it cannot name the columns of: it knows the present schema only.
    Skew(String),
}

impl Change {
    /// Reads a line; `None` for events that mean nothing here.
    pub(crate) fn parse(line: &str) -> Result<Option<Self>> {
        let mut value: Value =
            serde_json::from_str(line).with_context(|| format!("line {line:?}"))?;
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let table = || format!("{}.{}", text("db"), text("table"));
        Ok(Some(match text("e").as_str() {
            "ready" => Self::Ready,
            "heartbeat" => Self::Heartbeat,
            "rotate" => Self::Rotate,
            "begin" => Self::Begin,
            "skew" => Self::Skew(table()),
            "commit" => Self::Commit(place(&value)),
            "ddl" => Self::Ddl {
                sql: text("sql"),
                place: place(&value),
            },
            "row" => {
                let op = match text("op").as_str() {
                    "insert" => Op::Insert,
                    "update" => Op::Update,
                    "delete" => Op::Delete,
                    other => bail!("row with op {other:?}: {line}"),
                };
                let table = table();
                let at = value["at"].as_str();
                let origin = at.map(|at| Origin {
                    gno: value["gno"].as_u64().unwrap_or(0),
                    at: at.to_owned(),
                });
                let Value::Object(image) = value["row"].take() else {
                    bail!("row without an image: {line}");
                };
                Self::Row {
                    op,
                    table,
                    image,
                    origin,
                }
            }
            "snapshot" => return Ok(None),
            other => bail!("unknown event {other:?}: {line}"),
        }))
    }
}

fn place(value: &Value) -> Place {
    let file = value["file"].as_str().filter(|file| !file.is_empty());
    Place {
        gno: value["gno"].as_u64().unwrap_or(0),
        position: file.map(|file| (file.to_owned(), value["pos"].as_u64().unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_read() -> Result<()> {
        let line = r#"{"e":"row","op":"insert","db":"bank","table":"wide","row":{"id":1}}"#;
        let row = Change::parse(line)?;
        let Some(Change::Row {
            op,
            table,
            image,
            origin: None,
        }) = row
        else {
            panic!("{row:?}");
        };
        assert_eq!((op, table.as_str()), (Op::Insert, "bank.wide"));
        assert_eq!(Value::Object(image), json!({"id": 1}));
        let line =
            r#"{"e":"row","op":"delete","db":"b","table":"t","gno":7,"at":"f:9:0","row":{}}"#;
        let Some(Change::Row { origin, .. }) = Change::parse(line)? else {
            panic!("{line}");
        };
        let at = "f:9:0".to_owned();
        assert_eq!(origin, Some(Origin { gno: 7, at }));
        let commit = Change::parse(r#"{"e":"commit","gno":7,"file":"binlog.000002","pos":9}"#)?;
        let place = Place {
            gno: 7,
            position: Some(("binlog.000002".to_owned(), 9)),
        };
        assert_eq!(commit, Some(Change::Commit(place)));
        for wrong in ["", "{}", r#"{"e":"row","op":"read"}"#, "text"] {
            assert!(Change::parse(wrong).is_err(), "{wrong}");
        }
        Ok(())
    }
}
