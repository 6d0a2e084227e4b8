//! A node's dump thread. In: the GTIDs a client has, the node's files as they grow. Out: the bytes of the events that are sent,
//! as MySQL sends them: from the newest file before which nothing is missing, without the groups the client has, with a
//! heartbeat where some were left out.

use tributary_binlog::{EventType, EventWriter, GtidSet, Heartbeat, MAGIC, Rotate, flags};

use crate::node::{Node, file_name};

/// Bytes made in advance.
const AHEAD: usize = 4_000;

#[derive(Debug)]
pub(crate) struct Dump {
    have: GtidSet,
    file: usize,
    /// The head of `file` was sent.
    headed: bool,
    /// The next entry.
    next: usize,
    /// Where the groups that were left out end.
    skipped: Option<u64>,
    out: Vec<u8>,
    /// Groups the client has, left out so far.
    pub(crate) left_out: u64,
}

impl Dump {
    pub(crate) fn new(node: &Node, have: &GtidSet) -> Self {
        let missing_nothing = |f: &crate::node::File| f.previous.is_subset(have);
        let file = node.files.iter().rposition(missing_nothing).unwrap_or(0);
        Self {
            have: have.clone(),
            file,
            headed: false,
            next: node.files[file].first,
            skipped: None,
            out: Vec::new(),
            left_out: 0,
        }
    }

    /// Up to `max` bytes more; empty when there is nothing.
    pub(crate) fn read(&mut self, node: &Node, max: usize) -> Vec<u8> {
        while self.out.len() < AHEAD && self.step(node) {}
        let rest = self.out.split_off(max.min(self.out.len()));
        std::mem::replace(&mut self.out, rest)
    }

    /// Sends one thing. Whether there was one.
    fn step(&mut self, node: &Node) -> bool {
        let file = &node.files[self.file];
        if !self.headed {
            self.headed = true;
            self.made_up_rotate(node);
            self.out
                .extend_from_slice(&file.bytes[MAGIC.len()..file.head]);
            return true;
        }
        let next_file = node.files.get(self.file + 1);
        if self.next < next_file.map_or(node.entries.len(), |f| f.first) {
            let entry = &node.entries[self.next];
            self.next += 1;
            if self.have.contains(&entry.gtid) {
                self.left_out += 1;
                self.skipped = Some(entry.end.offset);
                return true;
            }
            self.heartbeat(node);
            let bytes = &file.bytes[entry.from..entry.end.offset as usize];
            self.out.extend_from_slice(bytes);
            return true;
        }
        self.heartbeat(node);
        if next_file.is_none() {
            return false;
        }
        if let Some(rotate) = file.rotate {
            self.out.extend_from_slice(&file.bytes[rotate..]);
        }
        (self.file, self.headed) = (self.file + 1, false);
        true
    }

    fn made_up_rotate(&mut self, node: &Node) {
        let name = file_name(self.file);
        let rotate = Rotate {
            position: MAGIC.len() as u64,
            file: name.as_bytes(),
        };
        let mut out = EventWriter::new(&mut self.out, 0, 1, node.alg);
        out.event(EventType::ROTATE, 0, flags::ARTIFICIAL, |b| {
            rotate.put_body(b);
        })
        .expect("a small event");
    }

    fn heartbeat(&mut self, node: &Node) {
        let Some(position) = self.skipped.take() else {
            return;
        };
        let name = file_name(self.file);
        let beat = Heartbeat {
            file: name.as_bytes(),
            position,
            v2: self.next.is_multiple_of(2),
        };
        // A v1 has its position in the header: the event ends there.
        let mut bytes = Vec::new();
        let mut body = Vec::new();
        beat.put_body(&mut body);
        let crc = if node.alg == tributary_binlog::ChecksumAlg::Crc32 {
            4
        } else {
            0
        };
        let base = position - (19 + body.len() as u64 + crc);
        let mut out = EventWriter::new(&mut bytes, base, 1, node.alg);
        out.event(beat.event_type(), 0, 0, |b| b.extend_from_slice(&body))
            .expect("a small event");
        self.out.extend_from_slice(&bytes);
    }
}
