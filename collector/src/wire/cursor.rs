//! A checked cursor over one packet. In: the packet. Out: its fields, or [`WireError::Short`].

use super::WireError;

/// Reads the fields of the packet called `what`, front to back.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(what: &'static str, packet: &'a [u8]) -> Self {
        Self { what, rest: packet }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn bytes(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Short {
            what: self.what,
            field,
        })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let bytes = self.bytes(field, N)?;
        bytes.try_into().map_err(|_| WireError::Short {
            what: self.what,
            field,
        })
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Bytes up to a NUL, which is skipped.
    pub(super) fn c_str(&mut self, field: &'static str) -> Result<&'a [u8], WireError> {
        let end = self
            .rest
            .iter()
            .position(|&byte| byte == 0)
            .ok_or(WireError::Short {
                what: self.what,
                field,
            })?;
        let text = self.bytes(field, end)?;
        self.bytes(field, 1)?;
        Ok(text)
    }

    /// Bytes up to a NUL or the end of the packet (some servers forget the NUL of a last field).
    pub(super) fn c_str_or_rest(&mut self) -> &'a [u8] {
        let end = self
            .rest
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(self.rest.len());
        let text = self.rest.get(..end).unwrap_or_default();
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        text
    }

    /// A length-encoded integer; `None` for the NULL marker 0xfb.
    pub(super) fn lenenc(&mut self, field: &'static str) -> Result<Option<u64>, WireError> {
        Ok(Some(match self.u8(field)? {
            0xfb => return Ok(None),
            0xfc => u64::from(self.u16(field)?),
            0xfd => {
                let [a, b, c] = self.array(field)?;
                u64::from(u32::from_le_bytes([a, b, c, 0]))
            }
            0xfe => u64::from_le_bytes(self.array(field)?),
            0xff => {
                return Err(WireError::Short {
                    what: self.what,
                    field,
                });
            }
            small => u64::from(small),
        }))
    }

    /// A length-encoded string; `None` for NULL.
    pub(super) fn lenenc_bytes(
        &mut self,
        field: &'static str,
    ) -> Result<Option<&'a [u8]>, WireError> {
        let Some(len) = self.lenenc(field)? else {
            return Ok(None);
        };
        let len = usize::try_from(len).map_err(|_| WireError::Short {
            what: self.what,
            field,
        })?;
        self.bytes(field, len).map(Some)
    }
}
