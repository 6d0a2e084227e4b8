//! The small ordered store beside the binlog files. In: batches of keys and values. Out: the checkpoint, the records
//! of the files, and the sparse indexes.
//!
//! A key is one byte of [`KeyKind`] followed by the key proper, numbers in it **big-endian** so that they sort; a value
//! starts with one byte of its own version, numbers in it little-endian. One file per kind says what both hold;
//! `docs/formats.md` has them in one table. Implementations: [`MemKv`], and `RocksKv` behind the feature `rocksdb`.

pub(crate) mod branch;
pub(crate) mod checkpoint;
pub(crate) mod gtid_index;
mod mem;
pub(crate) mod meta;
pub(crate) mod node_set;
pub(crate) mod purging;
#[cfg(feature = "rocksdb")]
mod rocks;
pub(crate) mod schema;
pub(crate) mod segment;
pub(crate) mod time_index;
pub(crate) mod tso_index;

pub use mem::MemKv;
#[cfg(feature = "rocksdb")]
pub use rocks::RocksKv;
pub use schema::{SchemaStateError, change_schema_state, schema_state};

/// The first byte of every key. Persisted: numbers are never changed and never used again.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Who this directory belongs to and in which format it is.
    Meta = 1,
    /// The state behind the last group commit.
    Checkpoint = 2,
    /// One record per binlog file.
    Segment = 3,
    /// Sparse: GTID number → position.
    GtidIndex = 4,
    /// Sparse: TSO → position.
    TsoIndex = 5,
    /// Sparse: time → position.
    TimeIndex = 6,
    /// Files that are leaving the disk.
    Purging = 7,
    /// The nodes that are merged, and how that came about.
    NodeSet = 8,
    /// Schema history; its keys and values belong to the schema's persistence.
    Schema = 32,
    /// Branches that stay prepared for long.
    Branch = 33,
    /// Their rows.
    BranchRows = 34,
}

/// A pair as it is stored.
pub type Pair = (Vec<u8>, Vec<u8>);

/// An ordered map of byte strings with atomic, durable batches.
pub trait Kv: Send + Sync + 'static {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// Up to `limit` pairs with `from <= key < to`, in order.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, KvError>;

    /// The pair with the greatest key in `from <= key <= at_most`.
    fn floor(&self, from: &[u8], at_most: &[u8]) -> Result<Option<Pair>, KvError>;

    /// Applies all of `batch` or nothing. If `synced`, it and everything before it is durable on return.
    fn write(&self, batch: &KvBatch, synced: bool) -> Result<(), KvError>;
}

/// Why the key-value store could not do something. The text is the implementation's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("index database: {0}")]
pub struct KvError(pub String);

/// One change of a [`KvBatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvOp {
    /// Sets a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key.
    Delete(Vec<u8>),
    /// Removes all keys in `.0 <= key < .1`.
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// Changes applied together, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvBatch {
    /// The changes.
    pub ops: Vec<KvOp>,
}

impl KvBatch {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds "set `pair.0` to `pair.1`".
    pub fn put(&mut self, pair: Pair) {
        self.ops.push(KvOp::Put(pair.0, pair.1));
    }

    /// Adds "remove `key`".
    pub fn delete(&mut self, key: Vec<u8>) {
        self.ops.push(KvOp::Delete(key));
    }

    /// Adds "remove every key from `from` up to but not including `to`".
    pub fn delete_range(&mut self, from: Vec<u8>, to: Vec<u8>) {
        self.ops.push(KvOp::DeleteRange(from, to));
    }
}

/// A stored value this version cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer version.
    #[error("{kind:?} record has version {found}, this program reads up to {supported}")]
    Newer {
        /// What kind of record.
        kind: KeyKind,
        /// Its version.
        found: u8,
        /// The newest version known here.
        supported: u8,
    },
    /// Not a value of that kind.
    #[error("{kind:?} record is damaged: {detail}")]
    Damaged {
        /// What kind of record.
        kind: KeyKind,
        /// What is wrong with it.
        detail: String,
    },
}

impl RecordError {
    fn damaged(kind: KeyKind, detail: impl Into<String>) -> Self {
        Self::Damaged {
            kind,
            detail: detail.into(),
        }
    }
}

/// The value behind its version byte, if the version is `supported`.
fn versioned(kind: KeyKind, value: &[u8], supported: u8) -> Result<&[u8], RecordError> {
    match value.split_first() {
        Some((&found, rest)) if found == supported => Ok(rest),
        Some((&found, _)) if found > supported => Err(RecordError::Newer {
            kind,
            found,
            supported,
        }),
        Some((&found, _)) => Err(RecordError::damaged(kind, format!("version {found}"))),
        None => Err(RecordError::damaged(kind, "empty")),
    }
}

/// The range of all keys of `kind`: from, and up to but not including.
pub(crate) fn range_of(kind: KeyKind) -> (Vec<u8>, Vec<u8>) {
    (vec![kind as u8], vec![kind as u8 + 1])
}

/// A place in the binlog as the three indexes store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexPlace {
    /// Number of the binlog file.
    pub(crate) seq: u64,
    /// Offset at which a transaction begins in it.
    pub(crate) offset: u64,
}

const INDEX_VERSION: u8 = 1;

impl IndexPlace {
    /// Value: version, file number u64 LE, offset u64 LE.
    fn encode(self) -> Vec<u8> {
        let mut value = Vec::with_capacity(17);
        value.push(INDEX_VERSION);
        value.extend_from_slice(&self.seq.to_le_bytes());
        value.extend_from_slice(&self.offset.to_le_bytes());
        value
    }

    pub(crate) fn decode(kind: KeyKind, value: &[u8]) -> Result<Self, RecordError> {
        let damaged = || RecordError::damaged(kind, "length");
        let (seq, rest) = take_u64(versioned(kind, value, INDEX_VERSION)?).ok_or_else(damaged)?;
        let (offset, rest) = take_u64(rest).ok_or_else(damaged)?;
        if rest.is_empty() {
            Ok(Self { seq, offset })
        } else {
            Err(damaged())
        }
    }
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*first), rest))
}
