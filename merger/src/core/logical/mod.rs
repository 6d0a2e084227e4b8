//! From the nodes' tables to the logical ones.
//!
//! In: the bodies of source transactions when they are emitted, in the order. Out: bodies whose table maps name logical tables
//! and whose rows have their shape, and the statements to write. What the schemas are is told by [`ClusterSchema`]; here is
//! what is done with events.
//!
//! Almost always nothing is changed: what becomes of a table map is looked up once for its bytes and remembered until a
//! statement changes something, and a body without a table map that becomes another is passed on as it is.
//!
//! * `pass`: the events of a body that is changed.
//! * `statement`: Query events.

mod pass;
mod statement;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use tributary_binlog::{ChecksumAlg, EventReader, EventType, RawEvent, TableMap, XaXid};
use tributary_flow::{Body, Mutant, NodeId, SourceTxn, SpoolFiles, count_events, limits, mutant};
use tributary_schema::{ClusterSchema, Into, Moment, Target};

use crate::MergeError;
use crate::error::SourcePlace;

use pass::{Pass, PassError, Rewriting};

/// Bytes of a table id at the start of a body.
const TABLE_ID_LEN: usize = 6;

/// What becomes of the rows behind a table map.
#[derive(Clone, Debug)]
enum Decision {
    Same,
    Dropped,
    Into(Arc<Into>),
}

/// What is remembered for a node: contents of table maps without their ids, and what becomes of them.
#[derive(Debug, Default)]
struct Known {
    maps: HashMap<Box<[u8]>, Decision>,
    bytes: usize,
    /// The last content that was asked for: mostly the next one, too.
    last: Vec<u8>,
    last_is_same: bool,
}

impl Known {
    fn clear(&mut self) {
        self.maps.clear();
        self.bytes = 0;
        self.last.clear();
        self.last_is_same = false;
    }
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Logical {
    pub(super) schema: ClusterSchema,
    version: u64,
    nodes: Vec<Known>,
    /// Bodies that were changed.
    pub(super) rewritten: u64,
    /// Rows are passed on whatever their tables are.
    pub(super) left_alone: bool,
    /// Where to put what is too much for memory.
    pub(super) spool: Option<Arc<dyn SpoolFiles>>,
}

/// A source transaction's place, for errors and for the history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) node: NodeId,
    pub(super) name: &'a str,
    pub(super) gtid: tributary_binlog::Gtid,
    pub(super) end: tributary_flow::SourcePos,
    pub(super) at: Moment,
}

impl<'a> Place<'a> {
    pub(super) fn new(node: NodeId, name: &'a str, txn: &SourceTxn, at: Moment) -> Self {
        let (gtid, end) = (txn.gtid, txn.end);
        Self {
            node,
            name,
            gtid,
            end,
            at,
        }
    }

    pub(super) fn source(&self) -> SourcePlace {
        SourcePlace {
            node: self.name.to_owned(),
            gtid: self.gtid,
            pos: self.end,
        }
    }
}

impl Logical {
    pub(super) fn new(schema: ClusterSchema) -> Self {
        Self {
            schema,
            ..Self::default()
        }
    }

    /// Whether distributed transactions with such an xid do not flow.
    pub(super) fn ignores(&self, xid: &XaXid) -> bool {
        let routes = &self.schema.rules().routes;
        routes.ignores_format_id(xid.format_id() as i32)
    }

    /// The body in the shape of the logical tables; empty when nothing of it flows.
    pub(super) fn body(&mut self, place: &Place<'_>, body: &mut Body) -> Result<(), MergeError> {
        if self.left_alone {
            return Ok(());
        }
        let Some(rewriting) = self.scan(place, body)? else {
            return Ok(());
        };
        self.rewritten += 1;
        let error = |error: PassError| error.at(place);
        let mut pass = Pass::new(&rewriting);
        if let Some(files) = self.spool.as_deref().filter(|_| body.is_spooled()) {
            let rewritten = spooled(place, body, files, &mut pass)?;
            *body = match pass.is_anything() {
                true => rewritten,
                false => Body::default(),
            };
            return Ok(());
        }
        let mut out = Vec::with_capacity(body.len() as usize + 64);
        for chunk in body.chunks() {
            let chunk = chunk.map_err(|e| unreadable(place, &e))?;
            pass.events(&chunk, false, &mut out).map_err(error)?;
        }
        pass.events(&[], true, &mut out).map_err(error)?;
        *body = match pass.is_anything() {
            true => Body::new(Bytes::from(out)),
            false => Body::default(),
        };
        Ok(())
    }

    /// What is to be changed in a body; `None` when nothing is.
    fn scan(&mut self, place: &Place<'_>, body: &Body) -> Result<Option<Rewriting>, MergeError> {
        let mut rewriting = Rewriting::default();
        if body.is_spooled() {
            for chunk in body.chunks() {
                let chunk = chunk.map_err(|e| unreadable(place, &e))?;
                self.scan_events(place, &chunk, &mut rewriting)?;
            }
        } else {
            for segment in body.segments() {
                self.scan_events(place, segment, &mut rewriting)?;
            }
        }
        Ok(rewriting.changes().then_some(rewriting))
    }

    fn scan_events(
        &mut self,
        place: &Place<'_>,
        events: &[u8],
        rewriting: &mut Rewriting,
    ) -> Result<(), MergeError> {
        let mut reader = EventReader::new(events, ChecksumAlg::None);
        // What is not whole events is the encoder's to report.
        while let Ok(Some(raw)) = reader.next() {
            if raw.header.event_type == EventType::TABLE_MAP {
                self.table_map(place, raw.body, rewriting)?;
            } else if raw.header.event_type == EventType::QUERY {
                self.query(place, &raw, rewriting)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn table_map(
        &mut self,
        place: &Place<'_>,
        body: &[u8],
        rewriting: &mut Rewriting,
    ) -> Result<(), MergeError> {
        let Some(content) = body.get(TABLE_ID_LEN..) else {
            return Ok(());
        };
        if self.version != self.schema.version() && !mutant(Mutant::RowsOfOldShape) {
            self.version = self.schema.version();
            self.nodes.iter_mut().for_each(Known::clear);
        }
        let at = place.node.index();
        if let Some(known) = self.nodes.get(at)
            && known.last_is_same
            && known.last == content
        {
            return Ok(());
        }
        self.look_up(place, body, content, rewriting)
    }

    fn look_up(
        &mut self,
        place: &Place<'_>,
        body: &[u8],
        content: &[u8],
        rewriting: &mut Rewriting,
    ) -> Result<(), MergeError> {
        let at = place.node.index();
        if at >= self.nodes.len() {
            self.nodes.resize_with(at + 1, Known::default);
        }
        let known = self.nodes.get(at).and_then(|known| known.maps.get(content));
        let decision = match known {
            Some(decision) => decision.clone(),
            None => self.decide(place, body, content)?,
        };
        if let Some(known) = self.nodes.get_mut(at) {
            known.last_is_same = matches!(decision, Decision::Same);
            known.last.clear();
            known.last.extend_from_slice(content);
        }
        rewriting.table(content, decision);
        Ok(())
    }

    #[cold]
    fn decide(
        &mut self,
        place: &Place<'_>,
        body: &[u8],
        content: &[u8],
    ) -> Result<Decision, MergeError> {
        let Ok(map) = TableMap::parse(body) else {
            return Ok(Decision::Same);
        };
        let target = self.schema.target(place.name, &map, place.at);
        let target = target.map_err(|problem| MergeError::Rows {
            at: Box::new(place.source()),
            problem: Box::new(problem),
        })?;
        let decision = match target {
            Target::Same => Decision::Same,
            Target::Dropped => Decision::Dropped,
            Target::Into(into) => Decision::Into(Arc::from(into)),
        };
        // What was remembered before this was learned need not hold any longer.
        if self.version != self.schema.version() {
            self.version = self.schema.version();
            self.nodes.iter_mut().for_each(Known::clear);
        }
        if let Some(known) = self.nodes.get_mut(place.node.index()) {
            if known.bytes > limits::TABLE_MAPS_BYTES_MAX {
                known.clear();
            }
            known.bytes += content.len() + 64;
            known.maps.insert(content.into(), decision.clone());
        }
        Ok(decision)
    }
}

/// A body in a file becomes one in another file.
fn spooled(
    place: &Place<'_>,
    body: &Body,
    files: &dyn SpoolFiles,
    pass: &mut Pass<'_>,
) -> Result<Body, MergeError> {
    let io = |error: std::io::Error| unreadable(place, &error);
    let mut file = files.create(body.len()).map_err(io)?;
    let (mut len, mut events, mut out) = (0, 0, Vec::new());
    let mut put = |out: &mut Vec<u8>| {
        events += count_events(out);
        len += out.len() as u64;
        let written = file.append(out).map_err(io);
        out.clear();
        written
    };
    for chunk in body.chunks() {
        let chunk = chunk.map_err(io)?;
        pass.events(&chunk, false, &mut out)
            .map_err(|error| error.at(place))?;
        put(&mut out)?;
    }
    pass.events(&[], true, &mut out)
        .map_err(|error| error.at(place))?;
    put(&mut out)?;
    Ok(Body::spooled(file.finish(), len, events))
}

fn unreadable(place: &Place<'_>, error: &std::io::Error) -> MergeError {
    MergeError::Spool {
        at: place.source().to_string(),
        cause: error.to_string(),
    }
}

/// The header's type and the body of an event.
fn is_query(raw: &RawEvent<'_>) -> bool {
    raw.header.event_type == EventType::QUERY
}
