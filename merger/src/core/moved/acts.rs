//! What rows do to keys, of any number of rows. In: acts, in the order of branches and rows. Out: the same, key by key. When they
//! are too many for memory they lie in a spool file, parted by keys, and one part at a time is in memory.

use std::io;
use std::sync::Arc;

use hashbrown::HashMap;
use tributary_flow::{Spool, SpoolFiles, SpoolWriter, limits};

/// What a row does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Free,
    Take,
    /// The row keeps its key.
    Keep,
}

/// A row and what it does to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deed {
    pub(super) part: usize,
    /// Number of its statement, among all of the transaction.
    pub(super) statement: u64,
    pub(super) row: u64,
    pub(super) act: Act,
    pub(super) is_delete: bool,
    /// The row has another key, too: it changes it.
    pub(super) has_two: bool,
}

/// Parts of the key space.
const PARTITIONS: usize = 128;
/// Bytes of a part that are written at a time.
const BLOCK: usize = 32 << 10;
/// Bytes of a deed behind its key.
const DEED: usize = 2 + 8 + 8 + 1;

/// See the module documentation.
pub(super) struct Acts<'f> {
    files: Option<&'f dyn SpoolFiles>,
    memory: Vec<u8>,
    memory_max: usize,
    spooled: Option<Parted>,
}

struct Parted {
    writer: Box<dyn SpoolWriter>,
    written: u64,
    blocks: Vec<Vec<u8>>,
    /// Where the blocks of each part lie.
    extents: Vec<Vec<(u64, usize)>>,
}

impl<'f> Acts<'f> {
    pub(super) fn new(files: Option<&'f dyn SpoolFiles>) -> Self {
        Self {
            files,
            memory: Vec::new(),
            memory_max: limits::MOVED_ACTS_BYTES_MAX,
            spooled: None,
        }
    }

    #[cfg(test)]
    pub(super) fn with_memory(files: &'f dyn SpoolFiles, memory_max: usize) -> Self {
        Self {
            memory_max,
            ..Self::new(Some(files))
        }
    }

    /// Adds what a row does to `key`.
    pub(super) fn push(&mut self, key: &[u8], deed: &Deed) -> io::Result<()> {
        if let Some(parted) = &mut self.spooled {
            return parted.push(key, deed);
        }
        put(&mut self.memory, key, deed);
        if self.memory.len() > self.memory_max
            && let Some(files) = self.files
        {
            let mut parted = Parted::new(files)?;
            let mut rest = &std::mem::take(&mut self.memory)[..];
            while let Some((key, deed, behind)) = get(rest) {
                parted.push(key, &deed)?;
                rest = behind;
            }
            self.spooled = Some(parted);
        }
        Ok(())
    }

    /// Tells `each` the deeds of each key, in the order in which they were added.
    pub(super) fn by_key(self, each: &mut dyn FnMut(&[Deed])) -> io::Result<()> {
        match self.spooled {
            None => group(&self.memory, each),
            Some(parted) => parted.by_key(each)?,
        }
        Ok(())
    }
}

impl Parted {
    fn new(files: &dyn SpoolFiles) -> io::Result<Self> {
        Ok(Self {
            writer: files.create(0)?,
            written: 0,
            blocks: vec![Vec::new(); PARTITIONS],
            extents: vec![Vec::new(); PARTITIONS],
        })
    }

    fn push(&mut self, key: &[u8], deed: &Deed) -> io::Result<()> {
        let at = partition(key);
        put(&mut self.blocks[at], key, deed);
        if self.blocks[at].len() >= BLOCK {
            self.flush(at)?;
        }
        Ok(())
    }

    fn flush(&mut self, at: usize) -> io::Result<()> {
        let block = &mut self.blocks[at];
        self.writer.append(block)?;
        self.extents[at].push((self.written, block.len()));
        self.written += block.len() as u64;
        block.clear();
        Ok(())
    }

    fn by_key(mut self, each: &mut dyn FnMut(&[Deed])) -> io::Result<()> {
        for at in 0..PARTITIONS {
            self.flush(at)?;
        }
        let file: Arc<dyn Spool> = self.writer.finish();
        let mut bytes = Vec::new();
        for extents in &self.extents {
            bytes.clear();
            for (at, len) in extents {
                let had = bytes.len();
                bytes.resize(had + len, 0);
                file.read_exact_at(&mut bytes[had..], *at)?;
            }
            group(&bytes, each);
        }
        Ok(())
    }
}

/// The part of a key. Any fixed function does: what comes out does not depend on it.
fn partition(key: &[u8]) -> usize {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash >> 32) as usize % PARTITIONS
}

fn put(out: &mut Vec<u8>, key: &[u8], deed: &Deed) {
    out.extend_from_slice(&(key.len() as u32).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(&(deed.part as u16).to_le_bytes());
    out.extend_from_slice(&deed.statement.to_le_bytes());
    out.extend_from_slice(&deed.row.to_le_bytes());
    out.push(deed.act as u8 | u8::from(deed.is_delete) << 4 | u8::from(deed.has_two) << 5);
}

fn get(bytes: &[u8]) -> Option<(&[u8], Deed, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    let (deed, rest) = rest.split_first_chunk::<DEED>()?;
    let (part, deed) = deed.split_first_chunk::<2>()?;
    let (statement, deed) = deed.split_first_chunk::<8>()?;
    let (row, flags) = deed.split_first_chunk::<8>()?;
    let flags = *flags.first()?;
    let deed = Deed {
        part: u16::from_le_bytes(*part).into(),
        statement: u64::from_le_bytes(*statement),
        row: u64::from_le_bytes(*row),
        act: match flags & 15 {
            0 => Act::Free,
            1 => Act::Take,
            _ => Act::Keep,
        },
        is_delete: flags & 16 != 0,
        has_two: flags & 32 != 0,
    };
    Some((key, deed, rest))
}

/// Tells `each` the deeds of each key.
fn group(bytes: &[u8], each: &mut dyn FnMut(&[Deed])) {
    const NONE: u32 = u32::MAX;
    let (mut deeds, mut next): (Vec<Deed>, Vec<u32>) = (Vec::new(), Vec::new());
    // Key → its first and last deed.
    let mut keys: HashMap<&[u8], (u32, u32)> = HashMap::new();
    let mut order = Vec::new();
    let mut rest = bytes;
    while let Some((key, deed, behind)) = get(rest) {
        rest = behind;
        let at = deeds.len() as u32;
        deeds.push(deed);
        next.push(NONE);
        let entry = keys.entry(key).or_insert_with(|| {
            order.push(at);
            (at, at)
        });
        if entry.1 != at {
            next[entry.1 as usize] = at;
            entry.1 = at;
        }
    }
    let mut of_key = Vec::new();
    for first in order {
        of_key.clear();
        let mut at = first;
        while at != NONE {
            of_key.push(deeds[at as usize]);
            at = next[at as usize];
        }
        each(&of_key);
    }
}
