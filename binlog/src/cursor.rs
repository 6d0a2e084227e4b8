//! A fallible reader over a byte slice, and the matching `put_*` functions.
//!
//! In: an untrusted slice. Out: little-endian integers, MySQL's length-encoded integers (`net_store_length` of
//! `sql-common/pack.cc`) and the variable-length integers of `libs/mysql/serialization/variable_length_integers.h`.
//! Every read answers `None` when the bytes do not suffice.

/// Reads from the front of a slice; a failed read leaves the cursor where it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything not read yet; the cursor is empty afterwards.
    #[inline]
    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(n)?;
        self.rest = tail;
        Some(head)
    }

    /// `take` with a length that came from the input.
    #[inline]
    pub(crate) fn take_u64(&mut self, n: u64) -> Option<&'a [u8]> {
        self.take(usize::try_from(n).ok()?)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk::<N>()?;
        self.rest = tail;
        Some(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u24(&mut self) -> Option<u32> {
        self.array::<3>()
            .map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u48(&mut self) -> Option<u64> {
        self.array::<6>()
            .map(|[a, b, c, d, e, f]| u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    #[inline]
    pub(crate) fn u56(&mut self) -> Option<u64> {
        self.array::<7>()
            .map(|[a, b, c, d, e, f, g]| u64::from_le_bytes([a, b, c, d, e, f, g, 0]))
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// A length-encoded integer; 251 (SQL NULL) and 255 are no lengths and answer `None`.
    #[inline]
    pub(crate) fn lenenc(&mut self) -> Option<u64> {
        let mut probe = *self;
        let value = match probe.u8()? {
            b @ 0..=250 => u64::from(b),
            252 => u64::from(probe.u16()?),
            253 => u64::from(probe.u24()?),
            254 => probe.u64()?,
            251 | 255 => return None,
        };
        *self = probe;
        Some(value)
    }

    /// A string preceded by its one-byte length.
    #[inline]
    pub(crate) fn str8(&mut self) -> Option<&'a [u8]> {
        let mut probe = *self;
        let len = probe.u8()?;
        let value = probe.take(usize::from(len))?;
        *self = probe;
        Some(value)
    }

    /// A string preceded by its length-encoded length.
    #[inline]
    pub(crate) fn str_lenenc(&mut self) -> Option<&'a [u8]> {
        let mut probe = *self;
        let len = probe.lenenc()?;
        let value = probe.take_u64(len)?;
        *self = probe;
        Some(value)
    }

    /// An unsigned variable-length integer of MySQL's serialization library, 1 to 9 bytes: as many low one-bits in
    /// the first byte as bytes follow it.
    pub(crate) fn varlen(&mut self) -> Option<u64> {
        let mut probe = *self;
        let first = probe.u8()?;
        let extra = first.trailing_ones() as usize;
        let tail = probe.take(extra)?;
        let mut word = [0_u8; 8];
        word.get_mut(..extra)?.copy_from_slice(tail);
        let high = u64::from_le_bytes(word);
        let value = if extra >= 7 {
            // 7 following bytes: no value bits in the first byte (0x7f); 8: a full word (0xff).
            high
        } else {
            (high << (7 - extra)) | (u64::from(first) >> (extra + 1))
        };
        *self = probe;
        Some(value)
    }

    /// A signed variable-length integer: the sign in the lowest bit, the one's complement of negative numbers above.
    pub(crate) fn varlen_signed(&mut self) -> Option<i64> {
        let raw = self.varlen()?;
        let magnitude = (raw >> 1).cast_signed();
        Some(if raw & 1 == 0 { magnitude } else { !magnitude })
    }
}

/// Appends a 6-byte integer; bits above the 48th are cut off.
pub(crate) fn put_u48(out: &mut Vec<u8>, v: u64) {
    let [a, b, c, d, e, f, _, _] = v.to_le_bytes();
    out.extend_from_slice(&[a, b, c, d, e, f]);
}

/// Appends a 7-byte integer; bits above the 56th are cut off.
pub(crate) fn put_u56(out: &mut Vec<u8>, v: u64) {
    let [a, b, c, d, e, f, g, _] = v.to_le_bytes();
    out.extend_from_slice(&[a, b, c, d, e, f, g]);
}

/// Appends a length-encoded integer in its shortest form.
pub(crate) fn put_lenenc(out: &mut Vec<u8>, v: u64) {
    let [a, b, c, ..] = v.to_le_bytes();
    match v {
        0..=250 => out.push(a),
        251..=0xffff => out.extend_from_slice(&[252, a, b]),
        0x1_0000..=0xff_ffff => out.extend_from_slice(&[253, a, b, c]),
        _ => {
            out.push(254);
            out.extend_from_slice(&v.to_le_bytes());
        }
    }
}

/// How many bytes `put_lenenc` appends.
pub(crate) fn lenenc_len(v: u64) -> usize {
    match v {
        0..=250 => 1,
        251..=0xffff => 3,
        0x1_0000..=0xff_ffff => 4,
        _ => 9,
    }
}

/// Appends a string preceded by its length-encoded length.
pub(crate) fn put_str_lenenc(out: &mut Vec<u8>, s: &[u8]) {
    put_lenenc(out, s.len() as u64);
    out.extend_from_slice(s);
}

/// Appends at most 255 bytes of a string preceded by a one-byte length. The fields written this way (schema names,
/// user and host names, time zones) cannot be longer in MySQL.
pub(crate) fn put_str8(out: &mut Vec<u8>, s: &[u8]) {
    let s = s.get(..255).unwrap_or(s);
    out.push(s.len() as u8);
    out.extend_from_slice(s);
}

/// How many bytes `put_varlen` appends: 1 for 0, one more per 7 bits, 9 at most.
pub(crate) fn varlen_len(v: u64) -> usize {
    let bits = 64 - v.leading_zeros() as usize;
    (bits.saturating_sub(1) / 7 + 1).min(9)
}

/// Appends an unsigned variable-length integer of MySQL's serialization library.
pub(crate) fn put_varlen(out: &mut Vec<u8>, v: u64) {
    let len = varlen_len(v);
    if len == 9 {
        out.push(0xff);
        out.extend_from_slice(&v.to_le_bytes());
        return;
    }
    let word = (v << len) | ((1_u64 << (len - 1)) - 1);
    out.extend(word.to_le_bytes().into_iter().take(len));
}

/// Appends a signed variable-length integer.
pub(crate) fn put_varlen_signed(out: &mut Vec<u8>, v: i64) {
    put_varlen(out, zigzag(v));
}

/// The unsigned number a signed one is stored as.
pub(crate) fn zigzag(v: i64) -> u64 {
    (v << 1).cast_unsigned() ^ (v >> 63).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn varlen_bytes(v: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varlen(&mut out, v);
        out
    }

    /// The examples of libs/mysql/serialization/readme.md (there printed most significant byte first).
    #[test]
    fn varlen_examples_of_the_manual() {
        assert_eq!(varlen_bytes(65535), [0b1111_1011, 0b1111_1111, 0b0000_0111]);
        let signed = |v| {
            let mut out = Vec::new();
            put_varlen_signed(&mut out, v);
            out
        };
        assert_eq!(signed(65535), [0b1111_0011, 0b1111_1111, 0b0000_1111]);
        assert_eq!(signed(-65535), [0b1110_1011, 0b1111_1111, 0b0000_1111]);
        assert_eq!(signed(-65536), [0b1111_1011, 0b1111_1111, 0b0000_1111]);
    }

    #[test]
    fn varlen_edges() {
        assert_eq!(varlen_bytes(0), [0]);
        assert_eq!(varlen_bytes(127), [0xfe]);
        assert_eq!(varlen_bytes(128), [0x01, 0x02]);
        assert_eq!(varlen_bytes(u64::MAX), [0xff; 9]);
        assert_eq!(varlen_bytes(1 << 56).len(), 9);
        assert_eq!(varlen_bytes((1 << 56) - 1).len(), 8);
    }

    #[test]
    fn lenenc_rejects_null_and_255() {
        assert_eq!(Cursor::new(&[251, 0, 0]).lenenc(), None);
        assert_eq!(Cursor::new(&[255, 0, 0, 0, 0, 0, 0, 0, 0]).lenenc(), None);
        assert_eq!(Cursor::new(&[252, 0xfb]).lenenc(), None);
        assert_eq!(Cursor::new(&[252, 0xfb, 0]).lenenc(), Some(251));
    }

    proptest! {
        #[test]
        fn integers_round_trip(v: u64, shift in 0_u32..64, s: i64) {
            let v = v >> shift;
            let mut out = varlen_bytes(v);
            prop_assert_eq!(out.len(), varlen_len(v));
            put_lenenc(&mut out, v);
            put_varlen_signed(&mut out, s >> shift);
            let mut c = Cursor::new(&out);
            prop_assert_eq!(c.varlen(), Some(v));
            prop_assert_eq!(c.lenenc(), Some(v));
            prop_assert_eq!(c.varlen_signed(), Some(s >> shift));
            prop_assert!(c.is_empty());
        }

        #[test]
        fn short_input_is_none_and_consumes_nothing(v: u64) {
            let bytes = varlen_bytes(v);
            let cut = &bytes[..bytes.len() - 1];
            let mut c = Cursor::new(cut);
            prop_assert_eq!(c.varlen(), None);
            prop_assert_eq!(c.remaining(), cut.len());
        }
    }
}
