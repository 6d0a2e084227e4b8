//! Prints what mysql_async's binlog client reads, one JSON object a line, as `tests/clients/README.md` describes it: in goes the one argument
//! of those programs, out come lines for the tests of clients.

use std::io::Write as _;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt as _;
use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{EventData, RowsEventData};
use mysql_async::binlog::row::BinlogRow;
use mysql_async::binlog::value::BinlogValue;
use mysql_async::consts::ColumnType;
use mysql_async::{BinlogStreamRequest, Conn, GnoInterval, OptsBuilder, Sid, Value as Sql};
use serde_json::{Map, Value, json};
use tributary_tests::moment::moment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let argument = std::env::args().nth(1).context("no argument")?;
    let options: Value = serde_json::from_str(&argument)?;
    let text = |name: &str| options[name].as_str().unwrap_or_default().to_owned();
    let port = options["port"].as_u64().context("no port")?;
    let opts = OptsBuilder::default()
        .ip_or_hostname(text("host"))
        .tcp_port(u16::try_from(port)?)
        .prefer_socket(false)
        .user(Some(text("user")))
        .pass(Some(text("password")));
    let conn = Conn::new(opts).await?;
    let server_id = options["server_id"].as_u64().context("no server_id")?;
    let mut request = BinlogStreamRequest::new(u32::try_from(server_id)?);
    let start = &options["start"];
    let file = start["file"].as_str().unwrap_or_default().to_owned();
    if options["mode"] == "gtid" {
        let set = gtid_set(start["gtid"].as_str().unwrap_or_default())?;
        request = request.with_gtid().with_gtid_set(set);
    } else {
        request = request
            .with_filename(file.as_bytes())
            .with_pos(start["pos"].as_u64().unwrap_or(4));
    }
    let mut stream = conn.get_binlog_stream(request).await?;
    say(&json!({"e": "ready"}))?;
    let mut reader = Reader { file, gno: 0 };
    while let Some(event) = stream.next().await {
        let event = event?;
        let (kind, pos) = (event.header().event_type(), event.header().log_pos());
        let data = event.read_data()?;
        if let Some(EventData::RowsEvent(rows)) = data {
            let table = stream
                .get_tme(rows.table_id())
                .context("rows without a table map")?;
            let name = (table.database_name(), table.table_name());
            for row in rows.rows(table) {
                let (before, after) = row?;
                Reader::row(&rows, (&name.0, &name.1), after.or(before))?;
            }
        } else {
            reader.take(kind, pos.into(), data)?;
        }
    }
    bail!("the stream has ended")
}

fn say(line: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// `UUID:1-N`, or nothing.
fn gtid_set(text: &str) -> Result<Vec<Sid<'static>>> {
    let Some((uuid, interval)) = text.split_once(':') else {
        return Ok(Vec::new());
    };
    let hex = uuid.replace('-', "");
    let number = u128::from_str_radix(&hex, 16)?;
    let (first, last) = interval.split_once('-').unwrap_or((interval, interval));
    let interval = GnoInterval::new(first.parse()?, last.parse::<u64>()? + 1);
    Ok(vec![Sid::new(number.to_be_bytes()).with_interval(interval)])
}

struct Reader {
    file: String,
    gno: u64,
}

impl Reader {
    fn take(
        &mut self,
        kind: std::result::Result<EventType, impl std::fmt::Debug>,
        pos: u64,
        data: Option<EventData<'_>>,
    ) -> Result<()> {
        let end = |e: &str| json!({"e": e, "gno": self.gno, "file": self.file, "pos": pos});
        match data {
            Some(EventData::RotateEvent(rotate)) => {
                let next = rotate.name().into_owned();
                if next != self.file {
                    say(&json!({"e": "rotate", "file": next}))?;
                    self.file = next;
                }
            }
            Some(EventData::GtidEvent(gtid)) => self.gno = gtid.gno(),
            Some(EventData::XidEvent(_)) => say(&end("commit"))?,
            Some(EventData::QueryEvent(query)) => match query.query().as_ref() {
                "BEGIN" => say(&json!({"e": "begin"}))?,
                "COMMIT" => say(&end("commit"))?,
                sql => {
                    let mut line = end("ddl");
                    line["db"] = query.schema().into();
                    line["sql"] = sql.into();
                    say(&line)?;
                }
            },
            _ if matches!(kind, Ok(EventType::HEARTBEAT_EVENT)) => {
                say(&json!({"e": "heartbeat"}))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn row(
        rows: &RowsEventData<'_>,
        (db, table): (&str, &str),
        row: Option<BinlogRow>,
    ) -> Result<()> {
        let op = match rows {
            RowsEventData::WriteRowsEvent(_) => "insert",
            RowsEventData::UpdateRowsEvent(_) => "update",
            RowsEventData::DeleteRowsEvent(_) => "delete",
            other => bail!("rows event {other:?}"),
        };
        let row = row.context("a row without an image")?;
        let columns = row.columns_ref().to_vec();
        let mut image = Map::new();
        for (column, value) in columns.iter().zip(row.unwrap()) {
            let value = plain(column.column_type(), value)?;
            image.insert(column.name_str().into_owned(), value);
        }
        say(&json!({"e": "row", "op": op, "db": db, "table": table, "row": image}))
    }
}

fn plain(kind: ColumnType, value: BinlogValue<'_>) -> Result<Value> {
    let value = match value {
        BinlogValue::Value(value) => value,
        BinlogValue::Jsonb(document) => {
            return Ok(json!({"json": serde_json::Value::try_from(document)?}));
        }
        BinlogValue::JsonDiff(_) => bail!("a partial document"),
    };
    Ok(match value {
        Sql::NULL => Value::Null,
        Sql::Int(number) => number.into(),
        Sql::UInt(number) => number.into(),
        Sql::Float(number) => f64::from(number).into(),
        Sql::Double(number) => number.into(),
        Sql::Date(y, mo, d, h, mi, s, us) => {
            format!("{y:04}-{mo:02}-{d:02} {h:02}:{mi:02}:{s:02}.{us:06}").into()
        }
        Sql::Time(negative, d, h, m, s, us) => {
            let (sign, hours) = (if negative { "-" } else { "" }, d * 24 + u32::from(h));
            format!("{sign}{hours:02}:{m:02}:{s:02}.{us:06}").into()
        }
        Sql::Bytes(bytes) => bytes_of(kind, &bytes)?,
    })
}

fn bytes_of(kind: ColumnType, bytes: &[u8]) -> Result<Value> {
    Ok(match kind {
        ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_YEAR => {
            std::str::from_utf8(bytes)?.into()
        }
        ColumnType::MYSQL_TYPE_TIMESTAMP2 => timestamp(std::str::from_utf8(bytes)?)?.into(),
        ColumnType::MYSQL_TYPE_SET => {
            let bits = bytes.iter().rev();
            bits.fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
                .into()
        }
        _ => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({"hex": hex})
        }
    })
}

/// Seconds since 1970, with a fraction or none, as text.
fn timestamp(text: &str) -> Result<String> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let (seconds, micros): (i64, i64) = (seconds.parse()?, fraction.parse()?);
    Ok(moment(seconds * 1_000_000 + micros))
}
