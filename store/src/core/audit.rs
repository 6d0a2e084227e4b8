//! The rules a row of binlog files must obey. In: event after event, file after file. Out: what breaks a rule.
//!
//! A file begins with a format description and PREVIOUS_GTIDS, the latter exactly what came before; then whole
//! transactions, each as long as its GTID event says, with numbers that follow one another; then ROTATE or STOP, and
//! nothing behind it.

use tributary_binlog::{EventType, Gno, Gtid, GtidEvent, GtidSet, MAGIC, PreviousGtids, Rotate};

use crate::scan::Scanned;

/// Where a fault is and what it is.
pub(crate) type Found = (u64, String);

/// The state of the check.
#[derive(Debug)]
pub(crate) struct Audit {
    /// Whether numbers must follow one another without gaps.
    contiguous: bool,
    /// All GTIDs so far; `None` until some file has said what came before it.
    executed: Option<GtidSet>,
    file: InFile,
    /// Transactions seen.
    pub(crate) transactions: u64,
}

/// What is known about the current file.
#[derive(Debug, Default)]
struct InFile {
    events: u64,
    txn: Option<OpenTxn>,
    /// Whether any event said that a transaction begins; files of servers before 5.7 have none.
    has_gtids: bool,
    /// Whether it has PREVIOUS_GTIDS, or that it lacks them has been said.
    has_previous: bool,
    sequence: i64,
    end: Option<Ending>,
    /// Only the first of many equal faults is reported.
    reported_behind_end: bool,
    reported_outside: bool,
}

#[derive(Debug)]
struct OpenTxn {
    pos: u64,
    /// `transaction_length`; 0 = not said.
    length: u64,
}

#[derive(Debug)]
struct Ending {
    pos: u64,
    event_type: EventType,
    next_file: Option<String>,
}

impl Audit {
    pub(crate) fn new(contiguous: bool) -> Self {
        Self {
            contiguous,
            executed: None,
            file: InFile::default(),
            transactions: 0,
        }
    }

    /// All GTIDs seen or said to be before the first file.
    pub(crate) fn executed(&self) -> GtidSet {
        self.executed.clone().unwrap_or_default()
    }

    pub(crate) fn begin_file(&mut self) {
        self.file = InFile::default();
    }

    /// The next event of the file.
    pub(crate) fn event(&mut self, event: &Scanned<'_>, found: &mut Vec<Found>) {
        let (pos, event_type) = (event.pos, event.header.event_type);
        let first = self.file.events == 0;
        self.file.events += 1;
        if let Some(end) = &self.file.end
            && !self.file.reported_behind_end
        {
            self.file.reported_behind_end = true;
            found.push((
                pos,
                format!("{event_type} behind the {} at {}", end.event_type, end.pos),
            ));
        }
        if first != (event_type == EventType::FORMAT_DESCRIPTION) {
            let what = if first {
                "the first event is not one"
            } else {
                "it is not the first event"
            };
            found.push((
                pos,
                format!("{event_type}: a file has one format description, and {what}"),
            ));
        }
        if self.file.events == 2
            && event_type != EventType::PREVIOUS_GTIDS
            && self.executed.is_some()
        {
            self.no_previous_gtids(pos, found);
        }
        match event_type {
            EventType::FORMAT_DESCRIPTION => {}
            EventType::PREVIOUS_GTIDS => self.previous_gtids(event, found),
            EventType::GTID | EventType::ANONYMOUS_GTID | EventType::GTID_TAGGED => {
                self.finish_txn(pos, found);
                self.begin_txn(event, found);
            }
            EventType::ROTATE | EventType::STOP => {
                self.finish_txn(pos, found);
                let rotate = (event_type == EventType::ROTATE).then(|| Rotate::parse(event.body));
                let next_file = match rotate {
                    Some(Ok(rotate)) => Some(String::from_utf8_lossy(rotate.file).into_owned()),
                    Some(Err(e)) => {
                        found.push((pos, e.to_string()));
                        None
                    }
                    None => None,
                };
                self.file.end.get_or_insert(Ending {
                    pos,
                    event_type,
                    next_file,
                });
            }
            _ => self.inside(pos, event_type, found),
        }
    }

    /// The end of the file's bytes. `next` is the name of the file behind it, `None` for the last file, which need not
    /// be finished.
    pub(crate) fn end_file(&mut self, end: u64, next: Option<&str>, found: &mut Vec<Found>) {
        if self.file.events == 0 {
            found.push((MAGIC.len() as u64, "the file has no events".to_owned()));
        }
        if self.file.end.is_none() {
            self.finish_txn(end, found);
        }
        let Some(next) = next else { return };
        match &self.file.end {
            None => {
                found.push((
                    end,
                    "a finished file must end with ROTATE or STOP".to_owned(),
                ));
            }
            Some(Ending {
                pos,
                next_file: Some(named),
                ..
            }) if named != next => {
                found.push((
                    *pos,
                    format!("ROTATE names {named}, the next file is {next}"),
                ));
            }
            Some(_) => {}
        }
    }

    fn no_previous_gtids(&mut self, pos: u64, found: &mut Vec<Found>) {
        if !self.file.has_previous {
            self.file.has_previous = true;
            found.push((
                pos,
                "PREVIOUS_GTIDS is missing before this event".to_owned(),
            ));
        }
    }

    fn previous_gtids(&mut self, event: &Scanned<'_>, found: &mut Vec<Found>) {
        let pos = event.pos;
        if self.file.events != 2 {
            found.push((pos, "PREVIOUS_GTIDS is not the second event".to_owned()));
            return;
        }
        self.file.has_previous = true;
        let said = match PreviousGtids::parse(event.body) {
            Ok(said) => said.0,
            Err(e) => return found.push((pos, e.to_string())),
        };
        if let Some(executed) = self.executed.as_ref().filter(|executed| **executed != said) {
            let (mut missing, mut extra) = (executed.clone(), said.clone());
            missing.subtract(&said);
            extra.subtract(executed);
            let (missing, extra) = (missing.to_text_oneline(), extra.to_text_oneline());
            let mut text = "PREVIOUS_GTIDS is not what came before".to_owned();
            if !missing.is_empty() {
                text = format!("{text}; it lacks {missing}");
            }
            if !extra.is_empty() {
                text = format!("{text}; the files before lack {extra}");
            }
            found.push((pos, text));
        }
        self.executed = Some(said);
    }

    fn begin_txn(&mut self, event: &Scanned<'_>, found: &mut Vec<Found>) {
        let pos = event.pos;
        self.transactions += 1;
        self.file.has_gtids = true;
        let parsed = match GtidEvent::parse(event.header.event_type, event.body) {
            Ok(parsed) => parsed,
            Err(e) => {
                self.file.txn = Some(OpenTxn { pos, length: 0 });
                return found.push((pos, e.to_string()));
            }
        };
        self.file.txn = Some(OpenTxn {
            pos,
            length: parsed.transaction_length,
        });
        if let Some(gtid) = parsed.gtid {
            self.no_previous_gtids(pos, found);
            self.number(pos, gtid, found);
        }
        let GtidEvent {
            sequence_number: sequence,
            last_committed,
            ..
        } = parsed;
        // 0 = the server had no logical clock.
        if sequence != 0 {
            if sequence != self.file.sequence + 1 {
                let before = self.file.sequence;
                found.push((pos, format!("sequence_number {sequence} follows {before}")));
            }
            if !(0..sequence).contains(&last_committed) {
                let text = format!("last_committed {last_committed} is not below {sequence}");
                found.push((pos, text));
            }
            self.file.sequence = sequence;
        }
    }

    /// Counts a GTID.
    fn number(&mut self, pos: u64, gtid: Gtid, found: &mut Vec<Found>) {
        let known = self.executed.is_some();
        let executed = self.executed.get_or_insert_default();
        let last = executed.last_gno(gtid.sid, gtid.tag).map(Gno::get);
        if !executed.add(gtid) {
            found.push((pos, format!("GTID {gtid} appears a second time")));
            return;
        }
        let expected = last.unwrap_or(0) + 1;
        if self.contiguous && (known || last.is_some()) && gtid.gno.get() != expected {
            found.push((pos, format!("GTID {gtid} follows number {}", expected - 1)));
        }
    }

    /// A transaction ends where the next thing begins, at `end`.
    fn finish_txn(&mut self, end: u64, found: &mut Vec<Found>) {
        let Some(OpenTxn { pos, length }) = self.file.txn.take() else {
            return;
        };
        if length != 0 && pos + length != end {
            let is = end - pos;
            let text = format!("the transaction has {is} bytes, its GTID event says {length}");
            found.push((pos, text));
        }
    }

    fn inside(&mut self, pos: u64, event_type: EventType, found: &mut Vec<Found>) {
        let outside = self.file.txn.is_none() && self.file.end.is_none();
        if outside && self.file.has_gtids && !self.file.reported_outside {
            self.file.reported_outside = true;
            found.push((pos, format!("{event_type} outside of any transaction")));
        }
    }
}
