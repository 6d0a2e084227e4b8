//! Table ids of the output. In: a source's table id and the Table_map body behind it. Out: the service's own id.
//!
//! An own id is a hash of the Table_map's content (everything behind the id), so it depends on nothing but the
//! content: the same input gives the same bytes wherever a batch ends and wherever the service was restarted, and
//! nothing about ids has to be stored. Two contents of one transaction whose ids would be equal (48 bits) are kept apart
//! by counting up, in the order in which they appear. Source ids mean something within one part only: two nodes use
//! the same number for different tables.
//!
//! Hashing is avoided by a small cache of contents, so that the usual Table_map costs one compare.

/// Entries of the cache; each content has one place in it.
const SLOTS: usize = 1024;
/// Longer contents are hashed each time, which bounds the cache at 2 MiB.
const CACHED_CONTENT_BYTES_MAX: usize = 2048;

/// The greatest table id the format can hold.
const ID_MAX: u64 = (1 << 48) - 1;
/// Used by servers for "no table, only flags" in a rows event; passed on as they are.
const DUMMY_IDS: [u64; 3] = [0xff_ffff, 0xffff_ffff, ID_MAX];

/// Assigns table ids.
#[derive(Debug)]
pub(crate) struct TableIds {
    slots: Vec<Slot>,
    /// The tables of the current transaction; those of the current part from `part` on.
    txn: Vec<Mapped>,
    part: usize,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    content: Vec<u8>,
    hash: u64,
}

#[derive(Clone, Copy, Debug)]
struct Mapped {
    source: u64,
    own: u64,
    hash: u64,
}

impl TableIds {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![Slot::default(); SLOTS],
            txn: Vec::new(),
            part: 0,
        }
    }

    /// Forgets the tables of the transaction before.
    #[inline]
    pub(crate) fn begin_transaction(&mut self) {
        self.txn.clear();
        self.part = 0;
    }

    /// Forgets what the source ids of the part before meant.
    #[inline]
    pub(crate) fn begin_part(&mut self) {
        self.part = self.txn.len();
    }

    /// The own id for a Table_map with this source id and content.
    #[inline]
    pub(crate) fn map(&mut self, source: u64, content: &[u8]) -> u64 {
        let hash = self.hash(content);
        // Backwards: a statement's Table_map is mostly that of the statement before it.
        let known = self
            .txn
            .iter()
            .skip(self.part)
            .rev()
            .find(|m| m.source == source);
        if let Some(known) = known.filter(|m| m.hash == hash) {
            return known.own;
        }
        let own = self.free_id(hash);
        match self
            .txn
            .iter_mut()
            .skip(self.part)
            .rev()
            .find(|m| m.source == source)
        {
            // The id a table had before stays taken: rows of both may be in this transaction.
            Some(known) => {
                let before = std::mem::replace(known, Mapped { source, own, hash });
                if !self.txn.iter().take(self.part).any(|m| m.own == before.own) {
                    self.txn.insert(self.part, before);
                    self.part += 1;
                }
            }
            None => self.txn.push(Mapped { source, own, hash }),
        }
        own
    }

    /// The own id for a rows event with this source id, if a Table_map of the part has announced it.
    #[inline]
    pub(crate) fn rows(&self, source: u64) -> Option<u64> {
        let known = self
            .txn
            .iter()
            .skip(self.part)
            .rev()
            .find(|m| m.source == source);
        match known {
            Some(known) => Some(known.own),
            None => DUMMY_IDS.contains(&source).then_some(source),
        }
    }

    fn free_id(&self, hash: u64) -> u64 {
        let mut id = (hash ^ (hash >> 48)) & ID_MAX;
        let taken = |id| self.txn.iter().any(|m| m.own == id && m.hash != hash);
        while id == 0 || DUMMY_IDS.contains(&id) || taken(id) {
            id = (id + 1) & ID_MAX;
        }
        id
    }

    #[inline]
    fn hash(&mut self, content: &[u8]) -> u64 {
        if content.len() > CACHED_CONTENT_BYTES_MAX {
            return fnv1a(content);
        }
        let Some(slot) = self.slots.get_mut(place(content)) else {
            return fnv1a(content);
        };
        if slot.content != content {
            slot.hash = fnv1a(content);
            slot.content.clear();
            slot.content.extend_from_slice(content);
        }
        slot.hash
    }
}

/// Where a content is looked up: from its length, its first 32 bytes (schema and table name) and its last 8.
#[inline]
fn place(content: &[u8]) -> usize {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = (content.len() as u64).wrapping_mul(MIX);
    let mut add = |word: u64| hash = (hash ^ word).wrapping_mul(MIX).rotate_left(29);
    let (words, _) = content
        .get(..content.len().min(32))
        .unwrap_or_default()
        .as_chunks::<8>();
    for word in words {
        add(u64::from_le_bytes(*word));
    }
    if let Some(word) = content.last_chunk::<8>() {
        add(u64::from_le_bytes(*word));
    }
    (hash >> 32) as usize % SLOTS
}

/// FNV-1a, 64 bits. Its values are in the output: it must never change.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_content_alone() {
        let mut a = TableIds::new();
        let id = a.map(5, b"shop.t");
        // FNV-1a of the content, folded to 48 bits: these values are in files and must stay.
        assert_eq!(id, {
            let h = fnv1a(b"shop.t");
            (h ^ (h >> 48)) & ID_MAX
        });
        assert_eq!(
            fnv1a(b"a"),
            0xaf63_dc4c_8601_ec8c,
            "the published test value"
        );
        a.begin_part();
        assert_eq!(a.map(77, b"shop.t"), id);
        let mut b = TableIds::new();
        b.map(5, b"shop.other");
        b.begin_transaction();
        assert_eq!(b.map(9, b"shop.t"), id);
    }

    #[test]
    fn source_ids_mean_something_within_one_part_only() {
        let mut ids = TableIds::new();
        let first = ids.map(5, b"t1");
        assert_eq!(ids.rows(5), Some(first));
        ids.begin_part();
        assert_eq!(ids.rows(5), None);
        let second = ids.map(5, b"t2");
        assert_ne!(first, second);
        assert_eq!(ids.rows(5), Some(second));
        ids.begin_transaction();
        assert_eq!(ids.rows(5), None);
    }

    #[test]
    fn a_source_id_used_again_gets_the_new_tables_id() {
        let mut ids = TableIds::new();
        let one = ids.map(5, b"t1");
        let six = ids.map(6, b"t6");
        let two = ids.map(5, b"t2");
        assert_ne!(one, two);
        assert_eq!((ids.rows(5), ids.rows(6)), (Some(two), Some(six)));
        assert_eq!(ids.map(5, b"t1"), one);
        assert_eq!((ids.rows(5), ids.rows(6)), (Some(one), Some(six)));
    }

    #[test]
    fn equal_ids_of_different_contents_are_kept_apart() {
        let mut ids = TableIds::new();
        let own = ids.map(1, b"x");
        // A content whose hash folds to the same id: made by hand, as finding one takes too long.
        let hash = fnv1a(b"x");
        let rival = hash ^ (1 << 48) ^ 1;
        assert_eq!((rival ^ (rival >> 48)) & ID_MAX, own);
        assert_eq!(ids.free_id(rival), own + 1);
        assert_eq!(ids.free_id(hash), own);
    }

    #[test]
    fn flag_only_rows_events_keep_their_id() {
        let ids = TableIds::new();
        assert_eq!(ids.rows(0xff_ffff), Some(0xff_ffff));
        assert_eq!(ids.rows(7), None);
    }

    #[test]
    fn long_contents_are_mapped_without_the_cache() {
        let mut ids = TableIds::new();
        let long = vec![7u8; CACHED_CONTENT_BYTES_MAX + 1];
        let id = ids.map(1, &long);
        assert_eq!(ids.rows(1), Some(id));
        assert!(ids.slots.iter().all(|slot| slot.content.is_empty()));
    }
}
