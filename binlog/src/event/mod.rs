//! Typed views of event bodies.
//!
//! In: a [`RawEvent`], whose length and CRC are right. Out: an [`Event`] that borrows from it; its `put_body` gives
//! the same bytes again. One file for each group of events; each names the MySQL source its layout comes from.

pub(crate) mod columns;
pub(crate) mod control;
pub(crate) mod format;
pub(crate) mod gtid;
pub(crate) mod gtid_tagged;
pub(crate) mod optional;
pub(crate) mod payload;
pub(crate) mod previous_gtids;
pub(crate) mod query;
pub(crate) mod row_image;
pub(crate) mod rows;
pub(crate) mod status_vars;
pub(crate) mod table_map;
pub(crate) mod xa;

use crate::frame::RawEvent;
use crate::gtid::GtidError;
use crate::header::EventType;
use crate::xid::XidError;
use control::{Heartbeat, Incident, Rotate, RowsQuery, Stop, ViewChange};
use format::FormatDescription;
use gtid::GtidEvent;
use payload::Payload;
use previous_gtids::PreviousGtids;
use query::QueryEvent;
use rows::RowsHeader;
use table_map::TableMap;
use xa::{XaPrepare, XidEvent};

/// Why a body cannot be understood. Its CRC was right, so this is an unknown dialect or a defect, not line noise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// A field is missing or impossible.
    #[error("malformed {event} event: {what}")]
    Malformed {
        /// The event's name, as in `SHOW BINLOG EVENTS`.
        event: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// The GTID or GTID set inside is malformed.
    #[error(transparent)]
    Gtid(#[from] GtidError),
    /// The xid inside is impossible.
    #[error(transparent)]
    Xid(#[from] XidError),
}

/// Shorthand for the errors of one event: `bad("Query")("no room for the schema")`.
pub(crate) fn bad(event: &'static str) -> impl Fn(&'static str) -> EventError + Copy {
    move |what| EventError::Malformed { event, what }
}

/// The body of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// `FORMAT_DESCRIPTION`: first in each file.
    FormatDescription(FormatDescription),
    /// `PREVIOUS_GTIDS`: second in each file.
    PreviousGtids(PreviousGtids),
    /// `GTID`, `GTID_TAGGED` or `ANONYMOUS_GTID`: begins a transaction.
    Gtid(GtidEvent),
    /// `QUERY`.
    Query(QueryEvent<'a>),
    /// `XA_PREPARE`: ends a prepare group or a one-phase commit.
    XaPrepare(XaPrepare),
    /// `XID`: ends a transaction.
    Xid(XidEvent),
    /// `ROTATE`.
    Rotate(Rotate<'a>),
    /// `ROWS_QUERY`.
    RowsQuery(RowsQuery<'a>),
    /// `HEARTBEAT` or `HEARTBEAT_V2`.
    Heartbeat(Heartbeat<'a>),
    /// `STOP`.
    Stop(Stop),
    /// `INCIDENT`.
    Incident(Incident<'a>),
    /// `TABLE_MAP`.
    TableMap(TableMap<'a>),
    /// Rows of any kind and layout.
    Rows(RowsHeader<'a>),
    /// `TRANSACTION_PAYLOAD`.
    Payload(Payload<'a>),
    /// `VIEW_CHANGE`.
    ViewChange(ViewChange<'a>),
    /// Any other type; see [`crate::EventHeader::is_ignorable`] and [`EventType::is_known`].
    Unknown(RawEvent<'a>),
}

impl<'a> Event<'a> {
    /// Understands the body by the type in the header.
    ///
    /// # Errors
    /// The body does not have the layout of its type.
    pub fn parse(raw: &RawEvent<'a>) -> Result<Self, EventError> {
        let (ty, body) = (raw.header.event_type, raw.body);
        Ok(match ty {
            EventType::FORMAT_DESCRIPTION => {
                Self::FormatDescription(FormatDescription::parse(body)?)
            }
            EventType::PREVIOUS_GTIDS => Self::PreviousGtids(PreviousGtids::parse(body)?),
            EventType::GTID | EventType::ANONYMOUS_GTID | EventType::GTID_TAGGED => {
                Self::Gtid(GtidEvent::parse(ty, body)?)
            }
            EventType::QUERY => Self::Query(QueryEvent::parse(body)?),
            EventType::XA_PREPARE => Self::XaPrepare(XaPrepare::parse(body)?),
            EventType::XID => Self::Xid(XidEvent::parse(body)?),
            EventType::ROTATE => Self::Rotate(Rotate::parse(body)?),
            EventType::ROWS_QUERY => Self::RowsQuery(RowsQuery::parse(body)?),
            EventType::HEARTBEAT | EventType::HEARTBEAT_V2 => {
                Self::Heartbeat(Heartbeat::parse(&raw.header, body)?)
            }
            EventType::STOP => Self::Stop(Stop),
            EventType::INCIDENT => Self::Incident(Incident::parse(body)?),
            EventType::TABLE_MAP => Self::TableMap(TableMap::parse(body)?),
            EventType::TRANSACTION_PAYLOAD => Self::Payload(Payload::parse(body)?),
            EventType::VIEW_CHANGE => Self::ViewChange(ViewChange::parse(body)?),
            ty if ty.is_rows() => Self::Rows(RowsHeader::parse(ty, body)?),
            _ => Self::Unknown(*raw),
        })
    }

    /// Appends the body, as `parse` takes it.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::FormatDescription(e) => e.put_body(out),
            Self::PreviousGtids(e) => e.put_body(out),
            Self::Gtid(e) => e.put_body(out),
            Self::Query(e) => e.put_body(out),
            Self::XaPrepare(e) => e.put_body(out),
            Self::Xid(e) => e.put_body(out),
            Self::Rotate(e) => e.put_body(out),
            Self::RowsQuery(e) => e.put_body(out),
            Self::Heartbeat(e) => e.put_body(out),
            Self::Stop(e) => e.put_body(out),
            Self::Incident(e) => e.put_body(out),
            Self::TableMap(e) => e.put_body(out),
            Self::Rows(e) => e.put_body(out),
            Self::Payload(e) => e.put_body(out),
            Self::ViewChange(e) => e.put_body(out),
            Self::Unknown(raw) => out.extend_from_slice(raw.body),
        }
    }
}
