//! Results of statements in the text protocol. In: packets, one by one. Out: the columns' names, and rows of optional byte
//! strings.

use super::{
    WireError,
    cursor::Cursor,
    reply::{Reply, ServerError},
};

/// One row: a value per column, `None` for NULL.
pub(crate) type Row = Vec<Option<Vec<u8>>>;

const COLUMNS_MAX: u64 = 4096;
const BYTES_MAX: usize = 64 << 20;

/// Collects the answer to one statement.
#[derive(Debug, Default)]
pub(crate) struct ResultReader {
    state: State,
    names: Vec<String>,
    rows: Vec<Row>,
    bytes: usize,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    First,
    /// So many column definitions and an EOF are due.
    Columns(u64),
    Rows,
}

/// What to do after a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    More,
    Done,
    Failed(ServerError),
}

impl ResultReader {
    /// Takes the next packet of the answer.
    pub(crate) fn handle(&mut self, packet: &[u8]) -> Result<Step, WireError> {
        let reply = Reply::parse(packet);
        if let Reply::Err(error) = reply {
            return Ok(Step::Failed(error));
        }
        match self.state {
            State::First => self.first(packet, &reply),
            State::Columns(0) if reply == Reply::Eof => {
                self.state = State::Rows;
                Ok(Step::More)
            }
            State::Columns(left) if left > 0 => {
                self.names.push(column_name(packet));
                self.state = State::Columns(left - 1);
                Ok(Step::More)
            }
            State::Columns(_) => Err(unexpected(packet, "reading column definitions")),
            State::Rows if reply == Reply::Eof => Ok(Step::Done),
            State::Rows => self.row(packet),
        }
    }

    fn first(&mut self, packet: &[u8], reply: &Reply) -> Result<Step, WireError> {
        if *reply == Reply::Ok {
            return Ok(Step::Done);
        }
        let mut c = Cursor::new("result set", packet);
        match c.lenenc("column count")? {
            Some(n @ 1..=COLUMNS_MAX) if c.is_empty() => {
                self.state = State::Columns(n);
                Ok(Step::More)
            }
            _ => Err(unexpected(packet, "waiting for a result set")),
        }
    }

    fn row(&mut self, packet: &[u8]) -> Result<Step, WireError> {
        self.bytes += packet.len() + 64;
        if self.bytes > BYTES_MAX {
            return Err(WireError::TooLong { cap: BYTES_MAX });
        }
        let mut c = Cursor::new("row", packet);
        let mut row = Row::new();
        while !c.is_empty() {
            row.push(c.lenenc_bytes("value")?.map(<[u8]>::to_vec));
        }
        self.rows.push(row);
        Ok(Step::More)
    }

    /// The columns' names and the rows, once `handle` has said `Done`.
    pub(crate) fn into_table(self) -> (Vec<String>, Vec<Row>) {
        (self.names, self.rows)
    }
}

/// The fifth string of a column definition; empty if it has none.
fn column_name(packet: &[u8]) -> String {
    let mut c = Cursor::new("column definition", packet);
    let mut name = &[][..];
    for _ in 0..5 {
        name = c.lenenc_bytes("name").ok().flatten().unwrap_or_default();
    }
    String::from_utf8_lossy(name).into_owned()
}

fn unexpected(packet: &[u8], doing: &'static str) -> WireError {
    WireError::Unexpected {
        first: packet.first().copied().unwrap_or(0),
        len: packet.len(),
        doing,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_result_set_is_collected() {
        let mut r = ResultReader::default();
        let eof: &[u8] = &[0xfe, 0, 0, 2, 0];
        let definition: &[u8] = b"\x03def\0\0\0\x03one\0\x0c";
        for packet in [
            &[2][..],
            definition,
            definition,
            eof,
            b"\x02on\xfb",
            b"\x00\x01x",
        ] {
            assert_eq!(r.handle(packet).unwrap(), Step::More);
        }
        assert_eq!(r.handle(eof).unwrap(), Step::Done);
        let (names, rows) = r.into_table();
        assert_eq!(names, ["one", "one"]);
        assert_eq!(rows[0], vec![Some(b"on".to_vec()), None]);
        assert_eq!(rows[1], vec![Some(vec![]), Some(b"x".to_vec())]);
    }

    #[test]
    fn an_ok_has_no_rows_and_an_error_ends_it_anywhere() {
        assert_eq!(
            ResultReader::default().handle(&[0, 0, 0]).unwrap(),
            Step::Done
        );
        let mut r = ResultReader::default();
        r.handle(&[1]).unwrap();
        let Step::Failed(e) = r.handle(b"\xff\x69\x05#70100killed").unwrap() else {
            panic!()
        };
        assert_eq!(e.code, 1385);
        assert!(ResultReader::default().handle(&[0xfb, b'x']).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut r = ResultReader::default();
            for packet in packets {
                let _ = r.handle(&packet);
            }
        }
    }
}
