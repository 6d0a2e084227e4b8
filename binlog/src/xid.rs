//! Transaction identifiers of the XA standard and of InnoDB: two different things.
//!
//! In: the parts of an X/Open xid. Out: [`XaXid`], printed as the server prints it in Query and `XA_PREPARE` events
//! (`serialize_xid` of `sql/xa.h`). The SQL form is read in `xid_sql`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Why an xid cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XidError {
    /// The global part has at most 64 bytes.
    #[error("the gtrid of an xid has {0} bytes, at most 64 are allowed")]
    GtridTooLong(usize),
    /// The branch part has up to 64 bytes.
    #[error("the bqual of an xid has {0} bytes, at most 64 are allowed")]
    BqualTooLong(usize),
    /// Not `gtrid[,bqual[,format]]`.
    #[error("malformed xid at byte {at}: {what}")]
    Sql {
        /// Byte offset in the text.
        at: usize,
        /// What was expected.
        what: &'static str,
    },
}

/// The number in an XID event: InnoDB's, unique on its server only as long as the binlog needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InnodbXid(pub u64);

impl fmt::Display for InnodbXid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The longest gtrid or bqual, in bytes (`MAXGTRIDSIZE`, `MAXBQUALSIZE`).
pub(crate) const MAX_PART: usize = 64;

/// The X/Open identifier of a branch of a distributed transaction. Stored inline; ordered by gtrid, bqual, format.
#[derive(Clone, Copy)]
pub struct XaXid {
    format_id: u32,
    gtrid_len: u8,
    bqual_len: u8,
    gtrid: [u8; MAX_PART],
    bqual: [u8; MAX_PART],
}

impl XaXid {
    /// An xid of its parts.
    ///
    /// # Errors
    /// When gtrid or bqual is longer than 64 bytes.
    pub fn new(format_id: u32, gtrid: &[u8], bqual: &[u8]) -> Result<Self, XidError> {
        let (gtrid, gtrid_len) = pad(gtrid).ok_or(XidError::GtridTooLong(gtrid.len()))?;
        let (bqual, bqual_len) = pad(bqual).ok_or(XidError::BqualTooLong(bqual.len()))?;
        Ok(Self {
            format_id,
            gtrid_len,
            bqual_len,
            gtrid,
            bqual,
        })
    }

    /// The part that all branches of a distributed transaction share.
    #[must_use]
    pub fn gtrid(&self) -> &[u8] {
        self.gtrid
            .get(..usize::from(self.gtrid_len))
            .unwrap_or_default()
    }

    /// The part that tells branches apart.
    #[must_use]
    pub fn bqual(&self) -> &[u8] {
        self.bqual
            .get(..usize::from(self.bqual_len))
            .unwrap_or_default()
    }

    /// How the coordinator encodes the other two; 1 if the statement gave none.
    #[must_use]
    pub fn format_id(&self) -> u32 {
        self.format_id
    }

    fn key(&self) -> (&[u8], &[u8], u32) {
        (self.gtrid(), self.bqual(), self.format_id)
    }
}

fn pad(part: &[u8]) -> Option<([u8; MAX_PART], u8)> {
    let mut out = [0; MAX_PART];
    out.get_mut(..part.len())?.copy_from_slice(part);
    Some((out, part.len() as u8))
}

impl PartialEq for XaXid {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for XaXid {}

impl Ord for XaXid {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for XaXid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for XaXid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// Writes `X'…'`.
fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str("X'")?;
    for b in bytes {
        write!(f, "{b:02x}")?;
    }
    f.write_str("'")
}

impl fmt::Display for XaXid {
    /// As the server writes it: `X'6162',X'63',1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, self.gtrid())?;
        f.write_str(",")?;
        write_hex(f, self.bqual())?;
        write!(f, ",{}", self.format_id)
    }
}

impl fmt::Debug for XaXid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XaXid({self})")
    }
}
