//! Positions that never go back, over changes of the server. In: positions as the servers count them. Out: positions for the
//! stages behind.
//!
//! File numbers belong to one server and one history of it: another server of a failover group counts its own, and `RESET BINARY
//! LOGS AND GTIDS` starts again. So each such change begins a new *epoch*, which is kept in the upper half of the file's number.
//!
//! A fence that was answered with a position of the old epoch must not count as passed before everything has come that the node
//! had committed when the fence was asked for. That lies in front of the end of the new server's binlog at the change. Until the
//! stream has reached that end, the last position of the old epoch is repeated.

use tributary_flow::SourcePos;

const EPOCH_SHIFT: u32 = 32;
const FILE_MASK: u64 = (1 << EPOCH_SHIFT) - 1;

/// The places of one node.
#[derive(Debug, Default)]
pub struct Places {
    epoch: u64,
    server: Option<String>,
    /// The furthest place of this epoch, as the server counts.
    furthest: SourcePos,
    /// What was said last.
    said: SourcePos,
    /// Up to where in the server's binlog the old place is repeated.
    hold: Option<SourcePos>,
}

/// What a new connection means for positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// The first connection, or the same server again.
    Same,
    /// Another server.
    OtherServer,
    /// The same server, and its binlog ends before what was read.
    WentBack,
}

/// A position as the stages behind see it.
pub fn in_epoch(epoch: u64, pos: SourcePos) -> SourcePos {
    let file = epoch << EPOCH_SHIFT | (pos.file & FILE_MASK);
    SourcePos { file, ..pos }
}

impl Places {
    /// How a server with this UUID, whose binlog ends at `end` now, continues what was read.
    pub fn continuity(&self, server: &str, end: SourcePos) -> Continuity {
        match &self.server {
            Some(known) if known != server => Continuity::OtherServer,
            Some(_) if end < self.furthest => Continuity::WentBack,
            _ => Continuity::Same,
        }
    }

    /// A dump from this server begins.
    pub fn begin(&mut self, server: &str, end: SourcePos) {
        if self.continuity(server, end) != Continuity::Same {
            self.epoch += 1;
            self.furthest = SourcePos::default();
            self.hold = Some(end);
        }
        self.server = Some(server.to_owned());
    }

    /// The server that was read last.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// The present epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether positions are those of the server.
    pub fn is_plain(&self) -> bool {
        self.epoch == 0
    }

    /// The stream has reached `pos`, as the server counts.
    pub fn reached(&mut self, pos: SourcePos) {
        self.furthest = self.furthest.max(pos);
        if self.is_plain() {
            self.said = self.said.max(pos);
        }
    }

    /// The stream has reached `pos`, as the server counts: what to say.
    pub fn say(&mut self, pos: SourcePos) -> SourcePos {
        self.furthest = self.furthest.max(pos);
        if self.hold.is_some_and(|end| pos < end) {
            return self.said;
        }
        self.hold = None;
        self.said = self.said.max(in_epoch(self.epoch, pos));
        self.said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pos(file: u64, offset: u64) -> SourcePos {
        SourcePos { file, offset }
    }

    #[test]
    fn one_server_keeps_its_positions() {
        let mut places = Places::default();
        places.begin("a", pos(7, 100));
        assert_eq!(places.say(pos(7, 50)), pos(7, 50));
        places.begin("a", pos(7, 100));
        assert_eq!(
            places.say(pos(7, 4)),
            pos(7, 50),
            "a resumed stream starts at the head of a file"
        );
        assert_eq!(places.say(pos(8, 4)), pos(8, 4));
        assert!(places.is_plain());
    }

    #[test]
    fn another_servers_positions_are_greater_but_only_behind_its_end() {
        let mut places = Places::default();
        places.begin("a", pos(7, 100));
        places.say(pos(7, 100));
        let fence_on_a = pos(7, 500);
        assert_eq!(places.continuity("b", pos(2, 300)), Continuity::OtherServer);
        places.begin("b", pos(2, 300));
        for offset in [4, 200, 299] {
            let said = places.say(pos(2, offset));
            assert_eq!(said, pos(7, 100));
            assert!(
                said < fence_on_a,
                "what came before the fence may still come"
            );
        }
        assert!(places.say(pos(2, 300)) > fence_on_a);
        assert_eq!(places.say(pos(2, 400)), in_epoch(1, pos(2, 400)));
        // Back again: greater than everything before.
        places.begin("a", pos(7, 600));
        assert_eq!(places.say(pos(7, 550)), in_epoch(1, pos(2, 400)));
        assert_eq!(places.say(pos(7, 700)), in_epoch(2, pos(7, 700)));
        assert_eq!(in_epoch(2, pos(7, 700)).to_string(), "000007:700");
    }

    #[test]
    fn a_binlog_that_ends_before_what_was_read_is_noticed() {
        let mut places = Places::default();
        places.begin("a", pos(7, 100));
        places.reached(pos(7, 90));
        assert_eq!(places.continuity("a", pos(7, 90)), Continuity::Same);
        assert_eq!(places.continuity("a", pos(1, 158)), Continuity::WentBack);
        places.begin("a", pos(1, 158));
        assert_eq!(places.say(pos(1, 150)), pos(7, 90));
        assert_eq!(places.say(pos(1, 158)), in_epoch(1, pos(1, 158)));
    }
}
