//! The events that end transactions.
//!
//! `Xid_event` and `XA_prepare_event` of `libs/mysql/binlog/event/control_events.{h,cpp}`:
//!
//! ```text
//! XID          8  xid
//! XA_PREPARE   1  one phase   4  format   4  length of gtrid   4  length of bqual   n  gtrid, bqual
//! ```

use super::{EventError, bad};
use crate::cursor::Cursor;
use crate::xid::{InnodbXid, XaXid};

/// Ends a committed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XidEvent(pub InnodbXid);

impl XidEvent {
    /// Reads a body.
    ///
    /// # Errors
    /// When it has not 8 bytes.
    pub fn parse(body: &[u8]) -> Result<Self, EventError> {
        let bytes = body
            .try_into()
            .map_err(|_| bad("Xid")("it has not 8 bytes"))?;
        Ok(Self(InnodbXid(u64::from_le_bytes(bytes))))
    }

    /// Appends the body.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.0.to_le_bytes());
    }
}

/// Ends a prepare group (`XA PREPARE`), or a transaction committed by `XA COMMIT … ONE PHASE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XaPrepare {
    /// Whether the transaction is committed by this.
    pub one_phase: bool,
    /// The branch.
    pub xid: XaXid,
}

impl XaPrepare {
    /// Reads a body.
    ///
    /// # Errors
    /// When the lengths in it are not its own, or above 64.
    pub fn parse(body: &[u8]) -> Result<Self, EventError> {
        let bad = bad("XA_prepare");
        let (one_phase, format_id, gtrid, bqual) =
            Self::read(body).ok_or_else(|| bad("its lengths do not add up"))?;
        Ok(Self {
            one_phase,
            xid: XaXid::new(format_id, gtrid, bqual)?,
        })
    }

    fn read(body: &[u8]) -> Option<(bool, u32, &[u8], &[u8])> {
        let mut c = Cursor::new(body);
        let one_phase = c.u8()? != 0;
        let format_id = c.u32()?;
        let gtrid_len = c.u32()?;
        let bqual_len = c.u32()?;
        let gtrid = c.take_u64(u64::from(gtrid_len))?;
        let bqual = c.take_u64(u64::from(bqual_len))?;
        c.is_empty().then_some((one_phase, format_id, gtrid, bqual))
    }

    /// Appends the body.
    pub fn put_body(&self, out: &mut Vec<u8>) {
        let (gtrid, bqual) = (self.xid.gtrid(), self.xid.bqual());
        out.push(u8::from(self.one_phase));
        out.extend_from_slice(&self.xid.format_id().to_le_bytes());
        out.extend_from_slice(&(gtrid.len() as u32).to_le_bytes());
        out.extend_from_slice(&(bqual.len() as u32).to_le_bytes());
        out.extend_from_slice(gtrid);
        out.extend_from_slice(bqual);
    }
}
