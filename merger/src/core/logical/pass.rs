//! The events of a body that is changed.
//!
//! In: whole events, some at a time, and what becomes of each table. Out: the events to write. Where rows of a statement are
//! left out, its last rows event that is left ends it, and what announced them goes, too.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;
use tributary_binlog::{
    ChecksumAlg, EventReader, EventType, HEADER_LEN, RawEvent, rows_flags, table_id_of,
};
use tributary_flow::limits;
use tributary_schema::{Into, ReshapeError, Scratch};

use super::{Decision, Place, TABLE_ID_LEN, is_query};
use crate::MergeError;

/// Offset of `event_size` in the common header.
const SIZE_AT: std::ops::Range<usize> = 9..13;
/// Offset of the low byte of a rows event's flags, behind the table id.
const ROWS_FLAGS_AT: usize = HEADER_LEN + 6;
/// Bytes of a table map in front of the names: id and flags.
const NAMES_AT: usize = 8;

/// What is changed in a body.
#[derive(Debug, Default)]
pub(super) struct Rewriting {
    /// By the content of table maps, without their ids.
    tables: HashMap<Box<[u8]>, Decision>,
    /// How many Query events there are: each transaction has some, so that they are counted, not kept.
    queries: usize,
    /// Which of them do not stay as they are.
    changed: Vec<(usize, Query)>,
    drops: bool,
}

/// What becomes of a Query event inside a transaction.
#[derive(Debug)]
pub(super) enum Query {
    Dropped,
    /// It gets this body.
    Body(Vec<u8>),
}

impl Rewriting {
    pub(super) fn table(&mut self, content: &[u8], decision: Decision) {
        match decision {
            Decision::Same => return,
            Decision::Dropped => self.drops = true,
            Decision::Into(_) => {}
        }
        if !self.tables.contains_key(content) {
            self.tables.insert(content.into(), decision);
        }
    }

    #[inline]
    pub(super) fn query(&mut self, query: Option<Query>) {
        if let Some(query) = query {
            self.changed.push((self.queries, query));
        }
        self.queries += 1;
    }

    pub(super) fn changes(&self) -> bool {
        !self.tables.is_empty() || !self.changed.is_empty()
    }
}

/// Why an event cannot be changed.
#[derive(Debug)]
pub(super) enum PassError {
    /// The rows of a table.
    Rows(String, ReshapeError),
    /// An event would be longer than an event can be.
    TooLarge(String),
    /// The bytes are not whole events.
    Torn,
}

impl PassError {
    pub(super) fn at(self, place: &Place<'_>) -> MergeError {
        let at = Box::new(place.source());
        match self {
            Self::Rows(table, problem) => MergeError::Row {
                at,
                table,
                problem: Box::new(problem),
            },
            Self::TooLarge(table) => MergeError::EventTooLarge { at, table },
            Self::Torn => MergeError::Unreadable {
                at,
                why: "its bytes are not whole events".to_owned(),
            },
        }
    }
}

/// One way through the events of a body.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    rewriting: &'a Rewriting,
    /// What the node's table ids mean; `None` = passed on.
    ids: SmallVec<[(u64, Option<&'a Decision>); 4]>,
    queries: usize,
    scratch: Scratch,
    /// The text of a statement of which no table has come that flows.
    text: Vec<u8>,
    /// Where in the output the last rows event of the statement begins.
    last_rows: Option<usize>,
    /// The last rows event of a statement whose end has not come, and what is behind it.
    held: Vec<u8>,
    anything: bool,
}

impl<'a> Pass<'a> {
    pub(super) fn new(rewriting: &'a Rewriting) -> Self {
        Self {
            rewriting,
            ids: SmallVec::new(),
            queries: 0,
            scratch: Scratch::default(),
            text: Vec::new(),
            last_rows: None,
            held: Vec::new(),
            anything: false,
        }
    }

    /// Whether there were rows or statements that flow.
    pub(super) fn is_anything(&self) -> bool {
        self.anything
    }

    pub(super) fn events(
        &mut self,
        events: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), PassError> {
        if !self.held.is_empty() {
            self.last_rows = Some(out.len());
            out.append(&mut self.held);
        }
        let mut reader = EventReader::new(events, ChecksumAlg::None);
        while let Some(raw) = reader.next().map_err(|_| PassError::Torn)? {
            self.event(&raw, out)?;
        }
        if let Some(at) = self.last_rows.take_if(|_| self.rewriting.drops)
            && !last
        {
            self.held = out.split_off(at);
        }
        Ok(())
    }

    fn event(&mut self, raw: &RawEvent<'_>, out: &mut Vec<u8>) -> Result<(), PassError> {
        let event_type = raw.header.event_type;
        if event_type == EventType::TABLE_MAP {
            return self.table_map(raw, out);
        }
        if let Some(id) = table_id_of(event_type, raw.body) {
            return self.rows(id, raw, out);
        }
        if event_type == EventType::ROWS_QUERY && self.rewriting.drops {
            self.text.clear();
            self.text.extend_from_slice(raw.bytes);
            return Ok(());
        }
        if is_query(raw) {
            let mut changed = self.rewriting.changed.iter();
            let query = changed.find(|(at, _)| *at == self.queries);
            self.queries += 1;
            match query.map(|(_, query)| query) {
                Some(Query::Dropped) => return Ok(()),
                Some(Query::Body(body)) => {
                    self.anything = true;
                    return put(raw, out, |out| {
                        out.extend_from_slice(body);
                        Ok(())
                    });
                }
                None => {}
            }
        }
        out.extend_from_slice(raw.bytes);
        Ok(())
    }

    fn table_map(&mut self, raw: &RawEvent<'_>, out: &mut Vec<u8>) -> Result<(), PassError> {
        let Some((id, content)) = raw.body.split_first_chunk::<TABLE_ID_LEN>() else {
            return Err(PassError::Torn);
        };
        let [a, b, c, d, e, f] = *id;
        let id = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        let decision = self.rewriting.tables.get(content);
        match self.ids.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known = decision,
            None => self.ids.push((id, decision)),
        }
        if matches!(decision, Some(Decision::Dropped)) {
            return Ok(());
        }
        out.append(&mut self.text);
        let Some(Decision::Into(into)) = decision else {
            out.extend_from_slice(raw.bytes);
            return Ok(());
        };
        put(raw, out, |out| {
            let flags = u16::from_le_bytes([content[0], content[1]]);
            match &into.plan {
                Some(plan) => out.extend(plan.table_map(id, flags, &into.schema, &into.table)),
                None => renamed(raw.body, into, out).ok_or(PassError::Torn)?,
            }
            Ok(())
        })
    }

    fn rows(&mut self, id: u64, raw: &RawEvent<'_>, out: &mut Vec<u8>) -> Result<(), PassError> {
        let known = self.ids.iter().find(|(known, _)| *known == id);
        let decision = known.and_then(|(_, decision)| *decision);
        let flags = raw.bytes.get(ROWS_FLAGS_AT).copied().unwrap_or(0);
        let ends = flags & rows_flags::STMT_END as u8 != 0;
        if matches!(decision, Some(Decision::Dropped)) {
            if ends {
                self.end_statement(out);
            }
            return Ok(());
        }
        self.anything = true;
        self.last_rows = (!ends).then_some(out.len());
        match decision {
            Some(Decision::Into(into)) => self.reshaped(id, into, raw, out),
            _ => {
                out.extend_from_slice(raw.bytes);
                Ok(())
            }
        }
    }

    fn reshaped(
        &mut self,
        id: u64,
        into: &Arc<Into>,
        raw: &RawEvent<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), PassError> {
        let Some(plan) = &into.plan else {
            out.extend_from_slice(raw.bytes);
            return Ok(());
        };
        let (event_type, timestamp) = (raw.header.event_type, raw.header.timestamp);
        let scratch = &mut self.scratch;
        put(raw, out, |out| {
            plan.rows(event_type, raw.body, id, timestamp, scratch, out)
                .map_err(|problem| PassError::Rows(into.shown.clone(), problem))
        })?;
        Ok(())
    }

    /// The rows that end the statement do not flow: the last that do end it.
    fn end_statement(&mut self, out: &mut [u8]) {
        self.text.clear();
        if let Some(at) = self.last_rows.take()
            && let Some(flags) = out.get_mut(at + ROWS_FLAGS_AT)
        {
            *flags |= rows_flags::STMT_END as u8;
        }
    }
}

/// An event with the header of `raw` and another body.
pub(super) fn put(
    raw: &RawEvent<'_>,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), PassError>,
) -> Result<(), PassError> {
    let at = out.len();
    let header = raw.bytes.get(..HEADER_LEN).ok_or(PassError::Torn)?;
    out.extend_from_slice(header);
    body(out)?;
    let size = out.len() - at;
    if size > limits::EVENT_BYTES_MAX {
        return Err(PassError::TooLarge(format!("{size} bytes")));
    }
    if let Some(slot) = out.get_mut(at..).and_then(|event| event.get_mut(SIZE_AT)) {
        slot.copy_from_slice(&(size as u32).to_le_bytes());
    }
    Ok(())
}

/// A table map with the names of the logical table; everything else stays.
fn renamed(body: &[u8], into: &Into, out: &mut Vec<u8>) -> Option<()> {
    let mut at = NAMES_AT;
    for _ in 0..2 {
        // Length, name, NUL.
        at += usize::from(*body.get(at)?) + 2;
    }
    out.extend_from_slice(body.get(..NAMES_AT)?);
    for name in [&into.schema, &into.table] {
        out.push(u8::try_from(name.len()).ok()?);
        out.extend_from_slice(name);
        out.push(0);
    }
    out.extend_from_slice(body.get(at..)?);
    Some(())
}
