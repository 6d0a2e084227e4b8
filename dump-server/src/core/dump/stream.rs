//! The stream of one dump: from blocks of file bytes to packets.
//!
//! In: blocks that start at [`DumpStream::offset`]. Out: packets of whole events in one buffer. Each event's checksum is
//! verified before the event is framed; when nothing is filtered an event costs its header, its checksum and one copy.

use tributary_binlog::{
    BinlogFile, ChecksumAlg, EventHeader, EventType, FormatDescription, GtidEvent, GtidSet,
    HEADER_LEN, RawEvent, flags,
};
use tributary_flow::limits::EVENT_BYTES_MAX;

use super::artificial::{Maker, lead};
use super::jump::Landing;
use super::large::LargeEvent;
use super::plan::FIRST_EVENT;
use super::{ChecksumWish, DumpRequest, DumpStart, Jump};
use crate::wire::StatusFlags;
use crate::wire::errors::{self, SqlError, dump_text};
use crate::wire::packet::PacketWriter;
use crate::wire::reply::{put_eof, put_err};

/// Where the event header keeps its size.
const SIZE_AT: std::ops::Range<usize> = 9..13;
/// Where a format description event keeps `created`: behind the header, version and server version.
const CREATED_AT: usize = HEADER_LEN + 2 + 50;

/// An event, and what follows it.
type Split<'b> = (&'b [u8], &'b [u8]);

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fed {
    /// Its whole events were handled; read on at the stream's offset.
    Consumed,
    /// Its first event needs this many bytes.
    Needs(u64),
}

/// One client's stream.
#[derive(Debug)]
pub(crate) struct DumpStream {
    server_id: u32,
    wish: ChecksumWish,
    heartbeat_v2: bool,
    requested: (String, u64),
    skip: Option<GtidSet>,
    /// Where to go on behind the head of the first file.
    jump: Option<Jump>,
    landing: Option<Landing>,
    file: BinlogFile,
    start: u64,
    offset: u64,
    at_fde: bool,
    alg: Option<ChecksumAlg>,
    fde_types: usize,
    seq: u8,
    in_skipped_group: bool,
    skipped_to: Option<u64>,
    events: u64,
    acks: Option<AckRule>,
}

/// When a client with semi-synchronous replication is asked to acknowledge: at the end of what is durable, and on the way
/// there once in a while.
#[derive(Debug, Default)]
struct AckRule {
    durable_end: u64,
    bytes: u64,
    /// The last event asks: nothing may be framed before it is on its way.
    asked: bool,
}

/// Most bytes of whole transactions sent without asking for an acknowledgement.
const UNACKNOWLEDGED_BYTES_MAX: u64 = 256 << 10;

impl AckRule {
    #[inline]
    fn asks(&mut self, event_type: EventType, size: u64, end: u64) -> bool {
        self.bytes += size;
        let due = self.bytes >= UNACKNOWLEDGED_BYTES_MAX && event_type == EventType::XID;
        let asks = due || end == self.durable_end;
        if asks {
            self.bytes = 0;
            self.asked = true;
        }
        asks
    }
}

impl DumpStream {
    /// A stream that has sent nothing; call [`Self::begin_file`] first.
    pub(crate) fn new(request: &DumpRequest, start: &DumpStart, server_id: u32) -> Self {
        Self {
            server_id,
            wish: request.options.checksum,
            heartbeat_v2: request.heartbeat_v2(),
            requested: (start.requested.clone(), start.position),
            skip: start.skip.clone(),
            // At the end of the file there would be no event to tell whether the jump was right.
            jump: start.jump.filter(|jump| jump.to < start.file.size),
            landing: None,
            file: start.file.file.clone(),
            start: start.position,
            offset: FIRST_EVENT,
            at_fde: true,
            alg: None,
            fde_types: 0,
            seq: 1,
            in_skipped_group: false,
            skipped_to: None,
            events: 0,
            acks: request.options.semi_sync.then(AckRule::default),
        }
    }

    /// The file being sent.
    pub(crate) fn file(&self) -> &BinlogFile {
        &self.file
    }

    /// Where the next block must start.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The file's durable end, as far as it is known.
    pub(crate) fn ends_at(&mut self, durable_end: u64) {
        if let Some(acks) = &mut self.acks {
            acks.durable_end = durable_end;
        }
    }

    /// True when the last event asks for an acknowledgement. It must be written before anything else is framed, and then
    /// [`Self::written`] called.
    pub(crate) fn must_write(&self) -> bool {
        self.acks.as_ref().is_some_and(|acks| acks.asked)
    }

    /// Everything framed was written. Behind an event that asks for an acknowledgement both sides count packets anew, the
    /// acknowledgement being number 0. True when that happened.
    pub(crate) fn written(&mut self) -> bool {
        let asked = self
            .acks
            .as_mut()
            .is_some_and(|acks| std::mem::take(&mut acks.asked));
        if asked {
            self.seq = 1;
        }
        asked
    }

    /// Events sent so far, artificial ones not counted.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The sequence number of the next packet; large events count it on.
    pub(crate) fn seq_mut(&mut self) -> &mut u8 {
        &mut self.seq
    }

    fn maker(&self) -> Maker {
        let first = if self.wish == ChecksumWish::Crc32 {
            ChecksumAlg::Crc32
        } else {
            ChecksumAlg::None
        };
        Maker {
            server_id: self.server_id,
            semi_sync: self.acks.is_some(),
            alg: self.alg.unwrap_or(first),
        }
    }

    /// Starts a file: an artificial rotate, then its format description.
    pub(crate) fn begin_file(&mut self, file: BinlogFile, position: u64, out: &mut Vec<u8>) {
        // A file can end with skipped events.
        self.before_send(out);
        let mut writer = PacketWriter::new(out, self.seq);
        self.maker().rotate(file.as_str(), position, &mut writer);
        self.seq = writer.seq();
        self.file = file;
        self.start = position;
        self.offset = FIRST_EVENT;
        self.at_fde = true;
        self.in_skipped_group = false;
    }

    /// Handles the whole events at the start of `block`, which starts at [`Self::offset`].
    ///
    /// # Errors
    /// 1236 that names file and position; of the bad event nothing is in `out`.
    pub(crate) fn feed(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<Fed, SqlError> {
        out.reserve(block.len() + block.len() / 8);
        if !self.has_landed(block) {
            return Ok(Fed::Consumed);
        }
        let mut rest = block;
        if self.at_fde {
            let Some((event, tail)) = self.split_event(rest)? else {
                return Ok(Fed::Needs(needed(rest)));
            };
            self.format_description(event, tail, out)?;
            if self.start > FIRST_EVENT {
                // What lies between the format description and the start is not read.
                self.offset = self.start;
                return Ok(Fed::Consumed);
            }
            rest = tail;
        }
        let first_needs = needed(rest);
        let mut any = rest.len() < block.len();
        while let Some((event, tail)) = self.split_event(rest)? {
            self.event(event, out)?;
            self.offset += event.len() as u64;
            rest = tail;
            any = true;
            if self.jumps(event) {
                break;
            }
            if self.must_write() {
                break;
            }
        }
        Ok(if any {
            Fed::Consumed
        } else {
            Fed::Needs(first_needs)
        })
    }

    /// Behind the head of the first file: goes on where the client begins to lack transactions.
    #[inline]
    fn jumps(&mut self, last: &[u8]) -> bool {
        if self.jump.is_none() {
            return false;
        }
        let is_head =
            EventHeader::parse(last).is_ok_and(|h| h.event_type == EventType::PREVIOUS_GTIDS);
        let jump = self.jump.take().filter(|j| is_head && j.to > self.offset);
        let Some(Jump { to, first_missing }) = jump else {
            return false;
        };
        self.landing = Some(Landing {
            back: self.offset,
            first_missing,
        });
        self.offset = to;
        self.skipped_to = Some(to);
        true
    }

    /// Whether a jump, if there was one just now, led where it should. Else the file is read from its head after all.
    fn has_landed(&mut self, block: &[u8]) -> bool {
        let Some(landing) = self.landing.take() else {
            return true;
        };
        let event = self.split_event(block).ok().flatten();
        let landed = event.is_some_and(|(e, _)| landing.is_right(e, self.alg.unwrap_or_default()));
        if !landed {
            self.offset = landing.back;
            self.skipped_to = None;
        }
        landed
    }

    /// The first event of `bytes`, if it is there as a whole.
    #[inline]
    fn split_event<'b>(&self, bytes: &'b [u8]) -> Result<Option<Split<'b>>, SqlError> {
        let Some(size) = bytes.get(SIZE_AT) else {
            return Ok(None);
        };
        let size = size.try_into().map(u32::from_le_bytes).unwrap_or_default() as usize;
        if !(HEADER_LEN..=EVENT_BYTES_MAX).contains(&size) {
            return Err(self.fatal_at(dump_text::BOGUS, self.offset, self.offset));
        }
        Ok(bytes.split_at_checked(size))
    }

    #[inline]
    fn event(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), SqlError> {
        let alg = self.alg.unwrap_or_default();
        let end = self.offset + bytes.len() as u64;
        let event = RawEvent::parse(bytes, alg)
            .map_err(|_| self.fatal_at(dump_text::BAD_CHECKSUM, self.offset, end))?;
        if event.header.event_type == EventType::FORMAT_DESCRIPTION {
            // A file has one, at its start. Here the type is what is damaged, and such an event is judged by its own word
            // for the checksum.
            return Err(self.fatal_at(dump_text::BAD_CHECKSUM, self.offset, end));
        }
        if self.skip.is_some() && !self.wanted(&event, end)? {
            return Ok(());
        }
        let event_type = event.header.event_type;
        self.before_send(out);
        let lead = self.lead(event_type, bytes.len() as u64, end);
        put_event(bytes, lead, self.seq, out);
        self.seq = self.seq.wrapping_add(1);
        self.events += 1;
        Ok(())
    }

    #[inline]
    fn lead(&mut self, event_type: EventType, size: u64, end: u64) -> &'static [u8] {
        match &mut self.acks {
            None => lead(false, false),
            Some(acks) => lead(true, acks.asks(event_type, size, end)),
        }
    }

    /// With GTIDs: whether the event belongs to a transaction the client lacks.
    fn wanted(&mut self, event: &RawEvent<'_>, end: u64) -> Result<bool, SqlError> {
        let Some(skip) = &self.skip else {
            return Ok(true);
        };
        match event.header.event_type {
            EventType::GTID | EventType::GTID_TAGGED => {
                let parsed = GtidEvent::parse(event.header.event_type, event.body).ok();
                let gtid = parsed.and_then(|e| e.gtid);
                let gtid = gtid.ok_or_else(|| self.fatal_at(dump_text::BOGUS, self.offset, end))?;
                self.in_skipped_group = skip.contains(&gtid);
            }
            EventType::ANONYMOUS_GTID => {
                let text = dump_text::anonymous(self.file.as_str(), self.offset);
                return Err(self.fatal_at(&text, self.offset, end));
            }
            EventType::ROTATE | EventType::PREVIOUS_GTIDS => return Ok(true),
            _ => {}
        }
        if self.in_skipped_group {
            self.skipped_to = Some(end);
        }
        Ok(!self.in_skipped_group)
    }

    /// Tells the client how far the skipped transactions went, before the next event it gets.
    #[inline]
    fn before_send(&mut self, out: &mut Vec<u8>) {
        if let Some(position) = self.skipped_to.take() {
            self.put_heartbeat(position, out);
        }
    }

    fn put_heartbeat(&mut self, position: u64, out: &mut Vec<u8>) {
        // A client stops at an event type its format description does not list.
        let v2 = self.heartbeat_v2 && self.fde_types >= usize::from(EventType::HEARTBEAT_V2.0);
        let mut writer = PacketWriter::new(out, self.seq);
        self.maker()
            .heartbeat(self.file.as_str(), position, v2, &mut writer);
        self.seq = writer.seq();
    }

    /// Appends a heartbeat for the present position.
    pub(crate) fn heartbeat(&mut self, out: &mut Vec<u8>) {
        self.skipped_to = None;
        self.put_heartbeat(self.offset, out);
    }

    /// Everything durable was handled: skipped transactions at the end are told even if no heartbeat was asked for.
    pub(crate) fn at_end(&mut self, out: &mut Vec<u8>) {
        self.before_send(out);
    }

    /// Appends the EOF of a dump that does not wait: five bytes, whatever was negotiated.
    pub(crate) fn eof(&mut self, out: &mut Vec<u8>) {
        let mut writer = PacketWriter::new(out, self.seq);
        writer.packet(|o| put_eof(StatusFlags::SERVER_STATUS_AUTOCOMMIT, o));
        self.seq = writer.seq();
    }

    /// Appends an error packet.
    pub(crate) fn error(&mut self, error: &SqlError, out: &mut Vec<u8>) {
        let mut writer = PacketWriter::new(out, self.seq);
        writer.packet(|o| put_err(error, o));
        self.seq = writer.seq();
    }

    /// 1236 with the places MySQL adds, for the present position.
    pub(crate) fn fatal(&self, text: &str) -> SqlError {
        self.fatal_at(text, self.offset, self.offset)
    }

    #[cold]
    fn fatal_at(&self, text: &str, last_event: u64, last_byte: u64) -> SqlError {
        let (requested, position) = &self.requested;
        let file = self.file.as_str();
        errors::dump_fatal(format!(
            "{text}; the first event '{requested}' at {position}, the last event read from './{file}' at \
             {last_event}, the last byte read from './{file}' at {last_byte}."
        ))
    }

    /// An event that needs more bytes than a block holds, or `None` when it is skipped as a whole.
    ///
    /// # Errors
    /// 1236 when it cannot be an event of this file.
    pub(crate) fn large(
        &mut self,
        block: &[u8],
        file_end: u64,
    ) -> Result<Option<LargeEvent>, SqlError> {
        let end = self.offset + needed(block);
        let header = EventHeader::parse(block);
        let (Ok(header), false, true) = (header, self.at_fde, end <= file_end) else {
            return Err(self.fatal_at(dump_text::TRUNCATED, self.offset, file_end));
        };
        let is_gtid = header.event_type.is_gtid();
        if is_gtid || header.event_size as usize > EVENT_BYTES_MAX {
            return Err(self.fatal_at(dump_text::BOGUS, self.offset, end));
        }
        let sent_always = matches!(
            header.event_type,
            EventType::ROTATE | EventType::PREVIOUS_GTIDS
        );
        if self.skip.is_some() && self.in_skipped_group && !sent_always {
            self.skipped_to = Some(end);
            self.offset = end;
            return Ok(None);
        }
        let lead = self.lead(header.event_type, header.event_size.into(), end);
        let alg = self.alg.unwrap_or_default();
        Ok(Some(LargeEvent::new(
            self.offset,
            header.event_size,
            alg,
            lead,
        )))
    }

    /// A large event passed its check: what must go before it.
    ///
    /// # Errors
    /// 1236 when its checksum is wrong.
    pub(crate) fn large_checked(
        &mut self,
        event: &LargeEvent,
        out: &mut Vec<u8>,
    ) -> Result<(), SqlError> {
        if !event.is_sound() {
            let end = event.offset + event.size;
            return Err(self.fatal_at(dump_text::BAD_CHECKSUM, event.offset, end));
        }
        self.before_send(out);
        self.offset = event.offset + event.size;
        self.events += 1;
        Ok(())
    }

    /// The file ended with a part of an event.
    pub(crate) fn torn(&self, file_end: u64) -> SqlError {
        self.fatal_at(dump_text::TRUNCATED, self.offset, file_end)
    }

    fn format_description(
        &mut self,
        bytes: &[u8],
        following: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SqlError> {
        let end = self.offset + bytes.len() as u64;
        let bad = |s: &Self| s.fatal_at(dump_text::BOGUS, FIRST_EVENT, end);
        let event = RawEvent::parse_unverified(bytes, ChecksumAlg::Crc32).map_err(|_| bad(self))?;
        if event.header.event_type != EventType::FORMAT_DESCRIPTION {
            return Err(bad(self));
        }
        event
            .verify(ChecksumAlg::Crc32)
            .map_err(|_| self.fatal_at(dump_text::BAD_CHECKSUM, FIRST_EVENT, end))?;
        let fde = FormatDescription::parse(event.body).map_err(|_| bad(self))?;
        if self.wish == ChecksumWish::Unaware && fde.checksum == ChecksumAlg::Crc32 {
            return Err(self.fatal_at(dump_text::CHECKSUM_UNAWARE, end, end));
        }
        let mut sent = bytes.to_vec();
        let first_is_skipped = self.first_gtid_is_skipped(following, fde.checksum);
        rewrite(
            &mut sent,
            event.header,
            self.start > FIRST_EVENT,
            first_is_skipped,
            fde.checksum,
        );
        put_event(&sent, lead(self.acks.is_some(), false), self.seq, out);
        self.seq = self.seq.wrapping_add(1);
        self.events += 1;
        self.alg = Some(fde.checksum);
        self.fde_types = fde.post_header_lens.len();
        self.at_fde = false;
        self.offset = end;
        Ok(())
    }

    /// Whether the first transaction of the file is one the client has, as far as this block shows.
    fn first_gtid_is_skipped(&self, mut following: &[u8], alg: ChecksumAlg) -> bool {
        let Some(skip) = &self.skip else { return false };
        while let Ok(Some((bytes, rest))) = self.split_event(following) {
            let Ok(event) = RawEvent::parse_unverified(bytes, alg) else {
                return false;
            };
            let ty = event.header.event_type;
            if ty.is_gtid() {
                let gtid = GtidEvent::parse(ty, event.body).ok().and_then(|e| e.gtid);
                return gtid.is_some_and(|g| skip.contains(&g));
            }
            following = rest;
        }
        false
    }
}

/// Bytes the event at the start of `bytes` needs, as far as its header is there.
fn needed(bytes: &[u8]) -> u64 {
    EventHeader::parse(bytes).map_or(HEADER_LEN as u64, |h| h.event_size.into())
}

/// Frames an event that fits in one packet.
#[inline]
fn put_event(event: &[u8], lead: &[u8], seq: u8, out: &mut Vec<u8>) {
    let [a, b, c, _] = ((event.len() + lead.len()) as u32).to_le_bytes();
    out.extend_from_slice(&[a, b, c, seq]);
    out.extend_from_slice(lead);
    out.extend_from_slice(event);
}

/// A format description as it is sent: the in-use flag cleared (its checksum is defined with the flag clear); in the
/// middle of a file `log_pos` and `created` zeroed, `created` also when the file's first transaction is skipped: a client
/// must not drop its temporary tables then.
fn rewrite(
    event: &mut [u8],
    mut header: EventHeader,
    mid_file: bool,
    first_is_skipped: bool,
    alg: ChecksumAlg,
) {
    header.flags &= !flags::IN_USE;
    if mid_file {
        header.log_pos = 0;
    }
    if let Some(head) = event.first_chunk_mut() {
        header.write(head);
    }
    if !(mid_file || first_is_skipped) {
        return;
    }
    if let Some(created) = event.get_mut(CREATED_AT..CREATED_AT + 4) {
        created.fill(0);
    }
    if alg == ChecksumAlg::Crc32
        && let Some((content, crc)) = event.split_last_chunk_mut::<4>()
    {
        *crc = crc32fast::hash(content).to_le_bytes();
    }
}
