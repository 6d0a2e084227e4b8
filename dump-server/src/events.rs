//! SHOW BINLOG EVENTS: one file's events as rows.
//!
//! In: a request. Out: a result set written in blocks while the file is read, so that no memory grows with the file.

use std::time::Duration;

use tributary_binlog::{BinlogFile, ChecksumAlg, EventType, RawEvent, info};
use tributary_flow::limits::{DUMP_READ_BYTES, EVENT_BYTES_MAX};
use tributary_store::{FileInfo, FileReader};

use crate::core::query::EventsRequest;
use crate::core::query::show::event_columns;
use crate::core::session::Reply;
use crate::link::{ConnectionEnd, Link};
use crate::server::Server;
use crate::wire::binary;
use crate::wire::errors::{self, SqlError};
use crate::wire::packet::PacketWriter;
use crate::wire::reply::{put_err, put_result_end};
use crate::wire::resultset::{Column, ResultCharset, ResultSet, put_row};

/// Greatest event that is shown; a larger one ends the listing with an error.
const SHOWN_EVENT_BYTES_MAX: usize = 64 << 20;

const _: () = assert!(SHOWN_EVENT_BYTES_MAX < EVENT_BYTES_MAX);

/// Reads the events and sends the rows.
pub(crate) async fn stream(
    server: &Server,
    link: &mut Link,
    write_limit: Duration,
    request: &EventsRequest,
    reply: Reply,
) -> Result<(), ConnectionEnd> {
    let mut out = Vec::new();
    let mut writer = PacketWriter::new(&mut out, reply.seq);
    let header = ResultSet::new(event_columns());
    header.put_header(
        reply.capabilities,
        ResultCharset::default(),
        reply.status,
        &mut writer,
    );
    let mut seq = writer.seq();
    let outcome = match Listing::open(server, request) {
        Ok(mut listing) => loop {
            let rows;
            (listing, rows) = tokio::task::spawn_blocking(move || {
                let rows = listing.rows(seq, reply.binary);
                (listing, rows)
            })
            .await
            .expect("listing events does not panic, and the runtime outlives its tasks");
            let rows = match rows {
                Ok(rows) => rows,
                Err(error) => break Err(error),
            };
            seq = rows.seq;
            out.extend_from_slice(&rows.packets);
            link.send(&server.counters, write_limit, &out).await?;
            out.clear();
            if rows.last {
                break Ok(());
            }
        },
        Err(error) => Err(error),
    };
    PacketWriter::new(&mut out, seq).packet(|o| match &outcome {
        Ok(()) => put_result_end(reply.capabilities, reply.status, o),
        Err(error) => put_err(error, o),
    });
    if let Err(error) = outcome {
        server.counters.error(error.code);
    }
    link.send(&server.counters, write_limit, &out).await
}

/// Rows of one block.
struct Rows {
    /// Of binary rows; of text rows none are needed.
    columns: Vec<Column>,
    packets: Vec<u8>,
    seq: u8,
    last: bool,
}

/// A file that is being listed.
struct Listing {
    file: BinlogFile,
    reader: FileReader,
    alg: ChecksumAlg,
    offset: u64,
    from: u64,
    skip: u64,
    left: u64,
    block: Vec<u8>,
}

fn failed(reason: &str) -> SqlError {
    errors::show_binlog_events(reason)
}

impl Listing {
    fn open(server: &Server, request: &EventsRequest) -> Result<Self, SqlError> {
        let found: Option<FileInfo> = match &request.file {
            Some(name) => server.log.find(name),
            None => server.log.files().into_iter().next(),
        };
        let found = found.ok_or_else(|| failed("Could not find target log"))?;
        let reader = server
            .log
            .open(&found.file)
            .map_err(|e| failed(&e.to_string()))?;
        Ok(Self {
            file: found.file,
            reader,
            alg: ChecksumAlg::None,
            offset: 4,
            from: request.from,
            skip: request.offset,
            left: request.limit,
            block: vec![0; DUMP_READ_BYTES],
        })
    }

    /// The rows of the next block.
    fn rows(&mut self, seq: u8, binary: bool) -> Result<Rows, SqlError> {
        let mut rows = Rows {
            columns: if binary { event_columns() } else { Vec::new() },
            packets: Vec::new(),
            seq,
            last: false,
        };
        let mut block = std::mem::take(&mut self.block);
        let n = self
            .reader
            .read_at(self.offset, &mut block)
            .map_err(|e| failed(&e.to_string()))?;
        let mut rest = block.get(..n).unwrap_or_default();
        let mut any = false;
        while self.left > 0
            && let Some((event, tail)) = self.event(rest)?
        {
            self.show(&event, &mut rows);
            self.alg = event
                .next_alg(self.alg)
                .map_err(|e| failed(&e.to_string()))?;
            self.offset += event.bytes.len() as u64;
            rest = tail;
            any = true;
        }
        rows.last = n == 0 || self.left == 0;
        if !any && !rows.last {
            let need = rest
                .get(9..13)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u32::from_le_bytes);
            let need = need as usize;
            if n < block.len() || !(block.len()..=SHOWN_EVENT_BYTES_MAX).contains(&need) {
                return Err(failed("Wrong offset or I/O error"));
            }
            block.resize(need, 0);
        }
        self.block = block;
        Ok(rows)
    }

    fn event<'b>(&self, bytes: &'b [u8]) -> Result<Option<(RawEvent<'b>, &'b [u8])>, SqlError> {
        let size = bytes
            .get(9..13)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_le_bytes);
        let Some((event, rest)) = size.and_then(|size| bytes.split_at_checked(size as usize))
        else {
            return Ok(None);
        };
        let event =
            RawEvent::parse(event, self.alg).map_err(|_| failed("Wrong offset or I/O error"))?;
        Ok(Some((event, rest)))
    }

    fn show(&mut self, event: &RawEvent<'_>, rows: &mut Rows) {
        if self.offset < self.from {
            return;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        self.left -= 1;
        // Past 4 GiB `Pos` is whole and `End_log_pos` is not: MySQL shows the four bytes of the header.
        let end = event.header.log_pos;
        let name: &str = match event.header.event_type {
            EventType::FORMAT_DESCRIPTION => "Format_desc",
            ty => ty.name(),
        };
        let cells = [
            self.file.to_string(),
            self.offset.to_string(),
            name.to_owned(),
            event.header.server_id.to_string(),
            end.to_string(),
            info(event),
        ]
        .map(Some);
        let mut writer = PacketWriter::new(&mut rows.packets, rows.seq);
        writer.packet(|o| match rows.columns.as_slice() {
            [] => put_row(&cells, o),
            columns => binary::put_row(columns, &cells, o),
        });
        rows.seq = writer.seq();
    }
}
