//! Reading and writing the protocol's integers and strings.
//!
//! In: untrusted bytes. Out: values, or [`Short`] when the bytes end too early. Nothing here panics on input.

/// The bytes ended before the value did, or a length was malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the packet ends too early or holds a malformed length")]
pub(crate) struct Short;

/// A reading position in a packet's payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True at the end.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Short> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(Short)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        self.take(N)?.try_into().map_err(|_| Short)
    }

    /// One byte.
    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Two bytes, little-endian.
    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes, little-endian.
    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little-endian.
    pub(crate) fn u64(&mut self) -> Result<u64, Short> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A length-encoded integer.
    pub(crate) fn lenenc(&mut self) -> Result<u64, Short> {
        match self.u8()? {
            n @ 0..=0xfa => Ok(u64::from(n)),
            0xfc => Ok(u64::from(self.u16()?)),
            0xfd => {
                let [a, b, c] = self.array()?;
                Ok(u64::from(u32::from_le_bytes([a, b, c, 0])))
            }
            0xfe => self.u64(),
            _ => Err(Short),
        }
    }

    /// A string with a length-encoded length.
    pub(crate) fn lenenc_str(&mut self) -> Result<&'a [u8], Short> {
        let n = usize::try_from(self.lenenc()?).map_err(|_| Short)?;
        self.take(n)
    }

    /// A string with a one-byte length.
    pub(crate) fn short_str(&mut self) -> Result<&'a [u8], Short> {
        let n = usize::from(self.u8()?);
        self.take(n)
    }

    /// A string up to a NUL, which is consumed; without a NUL, up to the end.
    pub(crate) fn c_str(&mut self) -> &'a [u8] {
        let n = self
            .rest
            .iter()
            .position(|b| *b == 0)
            .unwrap_or(self.rest.len());
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail.split_first().map_or(tail, |(_, after_nul)| after_nul);
        head
    }
}

/// Appends a length-encoded integer.
pub(crate) fn put_lenenc(out: &mut Vec<u8>, n: u64) {
    match n {
        0..=0xfa => out.push(n as u8),
        0xfb..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&(n as u16).to_le_bytes());
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            let [a, b, c, ..] = n.to_le_bytes();
            out.extend_from_slice(&[a, b, c]);
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&n.to_le_bytes());
        }
    }
}

/// Appends a string with a length-encoded length.
pub(crate) fn put_lenenc_str(out: &mut Vec<u8>, s: &[u8]) {
    put_lenenc(out, s.len() as u64);
    out.extend_from_slice(s);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lenenc_boundaries_use_the_documented_widths() {
        for (n, width) in [
            (0u64, 1),
            (250, 1),
            (251, 3),
            (0xffff, 3),
            (0x1_0000, 4),
            (0xff_ffff, 4),
            (0x100_0000, 9),
        ] {
            let mut out = Vec::new();
            put_lenenc(&mut out, n);
            assert_eq!(out.len(), width, "{n}");
            assert_eq!(Cursor::new(&out).lenenc(), Ok(n));
        }
    }

    #[test]
    fn null_and_error_markers_are_no_lengths() {
        assert_eq!(Cursor::new(&[0xfb]).lenenc(), Err(Short));
        assert_eq!(Cursor::new(&[0xff]).lenenc(), Err(Short));
        assert_eq!(Cursor::new(&[0xfc, 1]).lenenc(), Err(Short));
        assert_eq!(Cursor::new(&[5, b'a']).lenenc_str(), Err(Short));
    }

    #[test]
    fn c_strings_stop_at_the_first_nul() {
        let mut c = Cursor::new(b"ab\0cd");
        assert_eq!(c.c_str(), b"ab");
        assert_eq!(c.c_str(), b"cd");
        assert_eq!(c.c_str(), b"");
    }

    proptest! {
        #[test]
        fn strings_round_trip(s in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let mut out = Vec::new();
            put_lenenc_str(&mut out, &s);
            let mut c = Cursor::new(&out);
            prop_assert_eq!(c.lenenc_str().unwrap(), &s[..]);
            prop_assert!(c.is_empty());
        }
    }
}
