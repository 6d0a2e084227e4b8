//! Pieces as bodies. In: the branches, taken apart, and the order of their pieces. Out: bodies for the encoder, to each of
//! which table ids mean something of their own. Whole statements are slices of what came in.

use bytes::Bytes;
use tributary_binlog::{EventType, HEADER_LEN, rows_flags};
use tributary_flow::Body;

use super::Parts;
use super::plan::Piece;
use super::rows::{Event, Group, Span, Work};

/// Offset of `event_size` in the common header.
const SIZE_AT: std::ops::Range<usize> = 9..13;
/// Offset of the low byte of a rows event's flags, behind the table id.
const ROWS_FLAGS_AT: usize = HEADER_LEN + 6;

/// The pieces in their order.
pub(super) fn bodies(parts: &[Body], work: &Work, pieces: &[Piece]) -> Parts {
    let mut out = Parts::new();
    let mut run = Run::default();
    for piece in pieces {
        match piece {
            Piece::Whole(group) => run.add(parts, &work.groups[*group], &mut out),
            Piece::Rows(group, rows) => {
                run.end(parts, &mut out);
                out.extend(some_rows(parts, work, &work.groups[*group], rows));
            }
            Piece::Rest(group, rows) => {
                run.end(parts, &mut out);
                out.extend(rest(parts, work, &work.groups[*group], rows));
            }
        }
    }
    run.end(parts, &mut out);
    out
}

/// Whole statements of one branch, one behind the other.
#[derive(Default)]
struct Run {
    part: usize,
    spans: Vec<Span>,
}

impl Run {
    fn add(&mut self, parts: &[Body], group: &Group, out: &mut Parts) {
        if self.part != group.part {
            self.end(parts, out);
            self.part = group.part;
        }
        for Event { span, .. } in &group.events {
            match self.spans.last_mut() {
                Some(last)
                    if last.segment == span.segment && last.bytes.end == span.bytes.start =>
                {
                    last.bytes.end = span.bytes.end;
                }
                _ => self.spans.push(span.clone()),
            }
        }
    }

    fn end(&mut self, parts: &[Body], out: &mut Parts) {
        if self.spans.is_empty() {
            return;
        }
        let mut body = Body::default();
        let segments = parts[self.part].segments();
        for span in self.spans.drain(..) {
            body.push(segments[span.segment].slice(span.bytes));
        }
        out.push(body);
    }
}

fn bytes_of<'a>(parts: &'a [Body], group: &Group, event: &Event) -> &'a [u8] {
    &parts[group.part].segments()[event.span.segment][event.span.bytes.clone()]
}

/// A statement of some rows, with the Table_maps they need.
fn some_rows(parts: &[Body], work: &Work, group: &Group, rows: &[usize]) -> Option<Body> {
    let mut out = Statement::default();
    let of_event = |a: &usize, b: &usize| work.rows[*a].event == work.rows[*b].event;
    let mut maps: Vec<usize> = (rows.iter())
        .filter_map(|row| group.events[work.rows[*row].event].map)
        .collect();
    maps.sort_unstable();
    maps.dedup();
    for map in maps {
        out.copy(bytes_of(parts, group, &group.events[map]));
    }
    for rows in rows.chunk_by(of_event) {
        let event = &group.events[work.rows[*rows.first()?].event];
        out.rows(bytes_of(parts, group, event), work, rows);
    }
    out.body(true)
}

/// A statement without the rows that were taken out of it; `rows` are left.
fn rest(parts: &[Body], work: &Work, group: &Group, rows: &[usize]) -> Option<Body> {
    let left = |event: &Event| {
        let begin = rows.partition_point(|row| *row < event.rows.start);
        let end = rows.partition_point(|row| *row < event.rows.end);
        &rows[begin..end]
    };
    let gone = |event: &Event| !event.rows.is_empty() && left(event).is_empty();
    let mut events = group
        .events
        .iter()
        .filter(|event| event.event_type.is_rows());
    let has_rows = events.any(|event| event.map.is_some() && !gone(event));
    let mut out = Statement::default();
    let mut ended = false;
    for event in &group.events {
        let bytes = bytes_of(parts, group, event);
        if event.event_type.is_rows() {
            ended |= bytes[ROWS_FLAGS_AT] & rows_flags::STMT_END as u8 != 0;
            if !has_rows || gone(event) {
                continue;
            }
            if event.rows.is_empty() {
                out.whole_rows(bytes);
            } else {
                out.rows(bytes, work, left(event));
            }
        } else if has_rows || !opens(event.event_type) {
            out.copy(bytes);
        }
    }
    out.body(ended)
}

/// Whether an event stands before the rows of a statement and says nothing without them.
fn opens(event_type: EventType) -> bool {
    matches!(event_type, EventType::TABLE_MAP | EventType::ROWS_QUERY)
}

/// A statement that is put together anew.
#[derive(Default)]
struct Statement {
    bytes: Vec<u8>,
    last_rows: Option<usize>,
}

impl Statement {
    fn copy(&mut self, event: &[u8]) {
        self.bytes.extend_from_slice(event);
    }

    fn whole_rows(&mut self, event: &[u8]) {
        let at = self.bytes.len();
        self.copy(event);
        self.bytes[at + ROWS_FLAGS_AT] &= !(rows_flags::STMT_END as u8);
        self.last_rows = Some(at);
    }

    /// An event with some of its rows.
    fn rows(&mut self, event: &[u8], work: &Work, rows: &[usize]) {
        let at = self.bytes.len();
        let all = rows.first().map_or(0, |row| {
            let item = &work.rows[*row];
            let first = work.groups[item.group].events[item.event].rows.start;
            work.rows[first].bytes.start
        });
        self.whole_rows(&event[..all]);
        for row in rows {
            self.bytes
                .extend_from_slice(&event[work.rows[*row].bytes.clone()]);
        }
        let size = (self.bytes.len() - at) as u32;
        self.bytes[at..][SIZE_AT].copy_from_slice(&size.to_le_bytes());
    }

    /// The statement; its last rows event ends it, if it `ends`. `None` if nothing is in it.
    fn body(mut self, ends: bool) -> Option<Body> {
        if let Some(at) = self.last_rows.filter(|_| ends) {
            self.bytes[at + ROWS_FLAGS_AT] |= rows_flags::STMT_END as u8;
        }
        (!self.bytes.is_empty()).then(|| Body::new(Bytes::from(self.bytes)))
    }
}
