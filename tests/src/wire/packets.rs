//! From bytes to the protocol's packets, and the integers and strings in them.
//!
//! In: bytes of one direction as they arrive. Out: whole payloads, joined where one was sent in pieces.

/// Payload length of a packet that another one continues.
const FULL: usize = 0xff_ffff;

/// Joins packets of one direction.
#[derive(Debug, Default)]
pub(super) struct Packets {
    bytes: Vec<u8>,
    joined: Vec<u8>,
}

impl Packets {
    /// Takes bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole payload.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let &[a, b, c, _] = self.bytes.first_chunk()?;
            let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
            let payload = self.bytes.get(4..4 + length)?;
            self.joined.extend_from_slice(payload);
            self.bytes.drain(..4 + length);
            if length < FULL {
                return Some(std::mem::take(&mut self.joined));
            }
        }
    }
}

/// Reads a payload; what is missing reads as zero and as nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(count.min(self.0.len()));
        self.0 = tail;
        head
    }

    /// A number of up to eight bytes.
    pub(super) fn number(&mut self, bytes: usize) -> u64 {
        let mut wide = [0; 8];
        for (to, from) in wide.iter_mut().zip(self.take(bytes)) {
            *to = *from;
        }
        u64::from_le_bytes(wide)
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.number(1) as u8
    }

    pub(super) fn u16(&mut self) -> u16 {
        self.number(2) as u16
    }

    pub(super) fn u32(&mut self) -> u32 {
        self.number(4) as u32
    }

    /// A length-encoded number.
    pub(super) fn lenenc(&mut self) -> u64 {
        match self.u8() {
            0xfc => self.number(2),
            0xfd => self.number(3),
            0xfe => self.number(8),
            short => short.into(),
        }
    }

    /// A string with a length-encoded length; NULL is none.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        if self.0.first() == Some(&0xfb) {
            self.take(1);
            return None;
        }
        let length = usize::try_from(self.lenenc()).unwrap_or(usize::MAX);
        Some(self.take(length))
    }

    /// A string up to a NUL.
    pub(super) fn c_string(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|b| *b == 0);
        let text = self.take(end.unwrap_or(self.0.len()));
        self.take(1);
        text
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_joined_over_reads_and_pieces() {
        let mut packets = Packets::default();
        packets.feed(&[2, 0, 0, 0, 7]);
        assert_eq!(packets.next(), None);
        packets.feed(&[8, 1, 0]);
        assert_eq!(packets.next(), Some(vec![7, 8]));
        assert_eq!(packets.next(), None);
        packets.feed(&[0, 1, 9]);
        assert_eq!(packets.next(), Some(vec![9]));
        packets.feed(&[0xff, 0xff, 0xff, 0]);
        packets.feed(&vec![1; FULL]);
        assert_eq!(packets.next(), None, "another piece follows");
        packets.feed(&[0, 0, 0, 1]);
        assert_eq!(packets.next().map(|p| p.len()), Some(FULL));
    }

    #[test]
    fn fields_read_past_the_end_as_nothing() {
        let mut fields = Fields(&[3, b'a', b'b', b'c', 0xfb, b'x', 0]);
        assert_eq!(fields.string(), Some(&b"abc"[..]));
        assert_eq!(fields.string(), None);
        assert_eq!(fields.c_string(), b"x");
        assert_eq!((fields.u32(), fields.lenenc()), (0, 0));
    }
}
