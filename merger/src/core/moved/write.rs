//! Pieces as bodies. In: the branches, taken apart, and the order of their pieces. Out: bodies for the encoder, to each of
//! which table ids mean something of their own. Whole statements are slices of what came in; events that are put together anew
//! lie in memory while they are few, else in a spool file.

use std::io;
use std::mem;
use std::ops::Range;

use bytes::Bytes;
use tributary_binlog::{EventType, HEADER_LEN, rows_flags};
use tributary_flow::{Body, SpoolFiles, SpoolWriter, limits};

use super::Parts;
use super::plan::{Picked, Piece};
use super::rows::{Group, Work};
use super::shared::{Name, Unread};
use super::walk::{Event, walk};

/// Offset of `event_size` in the common header.
const SIZE_AT: Range<usize> = 9..13;
/// Offset of the low byte of a rows event's flags, behind the table id.
const ROWS_FLAGS_AT: usize = HEADER_LEN + 6;
/// Bytes put together before they are handed on.
const BLOCK: usize = 1 << 20;

/// The pieces in their order.
pub(super) fn bodies(
    parts: &[Body],
    tables: &[Name],
    work: &Work,
    pieces: &[Piece],
    files: Option<&dyn SpoolFiles>,
) -> Result<Parts, Unread> {
    let mut out = Output {
        bodies: Vec::new(),
        made: 0,
        files,
        writer: None,
        written: 0,
    };
    let mut run = Run::default();
    for piece in pieces {
        match piece {
            Piece::Whole(group) => run.add(parts, &work.groups[*group], &mut out),
            Piece::Rows(group, rows) => {
                run.end(parts, &mut out);
                let group = &work.groups[*group];
                some_rows(&parts[group.part], tables, group, rows, &mut out)?;
            }
            Piece::Rest(group, rows) => {
                run.end(parts, &mut out);
                let group = &work.groups[*group];
                rest(&parts[group.part], tables, group, rows, &mut out)?;
            }
        }
    }
    run.end(parts, &mut out);
    Ok(out.finish())
}

/// A part of a body.
enum Stretch {
    Body(Body),
    /// Of the spool file, with so many events.
    Spooled(Range<u64>, u64),
}

/// The bodies, and the file with what was put together for them.
struct Output<'f> {
    bodies: Vec<Vec<Stretch>>,
    /// Bytes put together that are in memory.
    made: usize,
    files: Option<&'f dyn SpoolFiles>,
    writer: Option<Box<dyn SpoolWriter>>,
    written: u64,
}

impl Output<'_> {
    /// Bytes that were put together, as a stretch.
    fn keep(&mut self, bytes: Vec<u8>, events: u64) -> io::Result<Stretch> {
        if self.made + bytes.len() <= limits::MOVED_MADE_BYTES_MAX {
            self.made += bytes.len();
            return Ok(Stretch::Body(Body::new(Bytes::from(bytes))));
        }
        if self.writer.is_none() {
            let Some(files) = self.files else {
                return Ok(Stretch::Body(Body::new(Bytes::from(bytes))));
            };
            self.writer = Some(files.create(0)?);
        }
        if let Some(writer) = &mut self.writer {
            writer.append(&bytes)?;
        }
        let at = self.written;
        self.written += bytes.len() as u64;
        Ok(Stretch::Spooled(at..self.written, events))
    }

    fn finish(self) -> Parts {
        let file = self.writer.map(SpoolWriter::finish);
        let whole = file.map(|file| Body::spooled(file, self.written, 0));
        let mut parts = Parts::new();
        for stretches in self.bodies {
            let mut body = Body::default();
            for stretch in stretches {
                match (stretch, &whole) {
                    (Stretch::Body(part), _) => body.append(part),
                    (Stretch::Spooled(range, events), Some(whole)) => {
                        body.append(whole.slice(range, events));
                    }
                    (Stretch::Spooled(..), None) => {}
                }
            }
            parts.push(body);
        }
        parts
    }
}

/// Whole statements of one branch, one behind the other.
#[derive(Default)]
struct Run {
    part: usize,
    stretches: Vec<(Range<u64>, u64)>,
}

impl Run {
    fn add(&mut self, parts: &[Body], group: &Group, out: &mut Output<'_>) {
        if self.part != group.part {
            self.end(parts, out);
            self.part = group.part;
        }
        match self.stretches.last_mut() {
            Some((last, events)) if last.end == group.range.start => {
                last.end = group.range.end;
                *events += group.events;
            }
            _ => self.stretches.push((group.range.clone(), group.events)),
        }
    }

    fn end(&mut self, parts: &[Body], out: &mut Output<'_>) {
        if self.stretches.is_empty() {
            return;
        }
        let stretches = self.stretches.drain(..);
        let body = stretches
            .map(|(range, events)| Stretch::Body(parts[self.part].slice(range, events)))
            .collect();
        out.bodies.push(body);
    }
}

/// A statement of some rows, with the Table_maps they need.
fn some_rows(
    body: &Body,
    tables: &[Name],
    group: &Group,
    picked: &Picked,
    out: &mut Output<'_>,
) -> Result<(), Unread> {
    let mut maps: Vec<Range<u64>> = Vec::new();
    over(body, tables, group, picked, &mut |event| {
        if picks(event, picked)
            && let Some(map) = &event.map
            && !maps.contains(map)
        {
            maps.push(map.clone());
        }
        Ok(())
    })?;
    maps.sort_unstable_by_key(|map| map.start);
    let mut statement = Statement::new(body, out);
    for map in maps {
        statement.copy(map)?;
    }
    over(body, tables, group, picked, &mut |event| {
        if picks(event, picked) {
            statement.rows(event, picked)?;
        }
        Ok(())
    })?;
    statement.end(true)
}

/// Walks over a statement as far as rows are picked.
fn over(
    body: &Body,
    tables: &[Name],
    group: &Group,
    picked: &Picked,
    each: &mut dyn FnMut(&Event<'_>) -> Result<(), Unread>,
) -> Result<(), Unread> {
    let mut is_past = false;
    let walked = walk(
        body,
        group.range.clone(),
        tables,
        group.first_row,
        &mut |event| {
            each(event)?;
            let rows = event.rows.as_ref();
            is_past = rows.is_some_and(|rows| rows.numbers.end >= picked.end());
            // The rest of a large statement need not be read.
            if is_past {
                Err(Unread::Strange)
            } else {
                Ok(())
            }
        },
    );
    match walked {
        Err(Unread::Strange) if is_past => Ok(()),
        walked => walked.map(drop),
    }
}

/// Whether any row of an event is picked.
fn picks(event: &Event<'_>, picked: &Picked) -> bool {
    let rows = event.rows.as_ref();
    rows.is_some_and(|rows| rows.numbers.clone().any(|row| picked.contains(row)))
}

/// A statement without the rows that were taken out of it; `left` are left.
fn rest(
    body: &Body,
    tables: &[Name],
    group: &Group,
    left: &Picked,
    out: &mut Output<'_>,
) -> Result<(), Unread> {
    let gone = |event: &Event<'_>| {
        let rows = event.rows.as_ref();
        rows.is_some_and(|rows| !rows.numbers.is_empty()) && !picks(event, left)
    };
    let all = |event: &Event<'_>| {
        let rows = event.rows.as_ref();
        rows.is_none_or(|rows| rows.numbers.clone().all(|row| left.contains(row)))
    };
    let mut has_rows = false;
    let range = || group.range.clone();
    walk(body, range(), tables, group.first_row, &mut |event| {
        has_rows |= event.map.is_some() && !gone(event);
        Ok(())
    })?;
    let mut ended = false;
    let mut statement = Statement::new(body, out);
    walk(body, range(), tables, group.first_row, &mut |event| {
        if event.event_type.is_rows() {
            ended |= event.ends;
            if !has_rows || gone(event) {
                return Ok(());
            }
            if all(event) {
                statement.whole_rows(event)?;
            } else {
                statement.rows(event, left)?;
            }
        } else if has_rows || !opens(event.event_type) {
            statement.copy(event.range.clone())?;
        }
        Ok(())
    })?;
    statement.end(ended)
}

/// Whether an event stands before the rows of a statement and says nothing without them.
fn opens(event_type: EventType) -> bool {
    matches!(event_type, EventType::TABLE_MAP | EventType::ROWS_QUERY)
}

/// A rows event that may be the last of its statement.
enum Held {
    /// As it came, and whether it ends a statement.
    As(Range<u64>, bool),
    Made(Vec<u8>),
}

/// A statement that is put together anew.
struct Statement<'a, 'o, 'f> {
    body: &'a Body,
    out: &'o mut Output<'f>,
    stretches: Vec<Stretch>,
    /// Events as they came that are not in `stretches` yet, and how many.
    run: (Range<u64>, u64),
    /// Events put together that are not in `stretches` yet, and how many; behind `run`, of which one is empty.
    made: (Vec<u8>, u64),
    held: Option<Held>,
}

impl<'a, 'o, 'f> Statement<'a, 'o, 'f> {
    fn new(body: &'a Body, out: &'o mut Output<'f>) -> Self {
        Self {
            body,
            out,
            stretches: Vec::new(),
            run: (0..0, 0),
            made: (Vec::new(), 0),
            held: None,
        }
    }

    /// An event as it came.
    fn copy(&mut self, range: Range<u64>) -> Result<(), Unread> {
        self.let_go(false)?;
        self.take(range)
    }

    fn whole_rows(&mut self, event: &Event<'_>) -> Result<(), Unread> {
        self.let_go(false)?;
        self.held = Some(Held::As(event.range.clone(), event.ends));
        Ok(())
    }

    /// An event with the picked ones of its rows.
    fn rows(&mut self, event: &Event<'_>, picked: &Picked) -> Result<(), Unread> {
        self.let_go(false)?;
        let Some(rows) = &event.rows else {
            return Ok(());
        };
        let mut at = rows.at;
        let mut bytes = event.bytes.get(..at).unwrap_or_default().to_vec();
        for (number, row) in rows.numbers.clone().zip(rows.walk.clone()) {
            let row = row.map_err(|_| Unread::Strange)?;
            let end = at + row.bytes.len();
            if picked.contains(number) {
                bytes.extend_from_slice(event.bytes.get(at..end).unwrap_or_default());
            }
            at = end;
        }
        let size = (bytes.len() as u32).to_le_bytes();
        if let Some(slot) = bytes.get_mut(SIZE_AT) {
            slot.copy_from_slice(&size);
        }
        self.held = Some(Held::Made(bytes));
        Ok(())
    }

    /// Writes the rows event that was held back.
    fn let_go(&mut self, ends: bool) -> Result<(), Unread> {
        let mut bytes = match self.held.take() {
            None => return Ok(()),
            Some(Held::As(range, as_it_is)) if as_it_is == ends => return self.take(range),
            Some(Held::As(range, _)) => self.body.read(range)?.to_vec(),
            Some(Held::Made(bytes)) => bytes,
        };
        if let Some(flags) = bytes.get_mut(ROWS_FLAGS_AT) {
            *flags &= !(rows_flags::STMT_END as u8);
            *flags |= if ends { rows_flags::STMT_END as u8 } else { 0 };
        }
        self.flush_run();
        self.made.0.extend_from_slice(&bytes);
        self.made.1 += 1;
        if self.made.0.len() >= BLOCK {
            self.flush_made()?;
        }
        Ok(())
    }

    fn take(&mut self, range: Range<u64>) -> Result<(), Unread> {
        self.flush_made()?;
        if self.run.0.end != range.start {
            self.flush_run();
            self.run.0.start = range.start;
        }
        self.run.0.end = range.end;
        self.run.1 += 1;
        Ok(())
    }

    fn flush_run(&mut self) {
        let (range, events) = mem::replace(&mut self.run, (0..0, 0));
        if events > 0 {
            let body = self.body.slice(range, events);
            self.stretches.push(Stretch::Body(body));
        }
    }

    fn flush_made(&mut self) -> Result<(), Unread> {
        let (bytes, events) = mem::take(&mut self.made);
        if events > 0 {
            let stretch = self.out.keep(bytes, events)?;
            self.stretches.push(stretch);
        }
        Ok(())
    }

    /// The statement is complete; its last rows event ends it, if it `ends`.
    fn end(mut self, ends: bool) -> Result<(), Unread> {
        self.let_go(ends)?;
        self.flush_run();
        self.flush_made()?;
        if !self.stretches.is_empty() {
            self.out.bodies.push(self.stretches);
        }
        Ok(())
    }
}
