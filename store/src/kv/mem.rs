//! A [`Kv`] in memory that can crash. In: batches. Out: lookups, and the image a crash would leave, in which only a
//! first part of the batches behind the last synced one has survived, as with a write-ahead log.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Kv, KvBatch, KvError, KvOp, Pair};
use crate::disk::{Burn, Fuse};

/// A key-value store in memory. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct MemKv {
    inner: Arc<Mutex<Inner>>,
    fuse: Fuse,
}

#[derive(Debug, Default)]
struct Inner {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    unsynced: Vec<KvBatch>,
}

fn apply(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, batch: &KvBatch) {
    for op in &batch.ops {
        match op {
            KvOp::Put(key, value) => {
                map.insert(key.clone(), value.clone());
            }
            KvOp::Delete(key) => {
                map.remove(key);
            }
            KvOp::DeleteRange(from, to) => map.retain(|key, _| key < from || key >= to),
        }
    }
}

impl MemKv {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store whose batches count against `fuse`.
    pub fn with_fuse(fuse: Fuse) -> Self {
        Self {
            fuse,
            ..Self::default()
        }
    }

    /// The same store, whose batches count against `fuse`.
    pub fn fused(&self, fuse: &Fuse) -> Self {
        Self {
            inner: self.inner.clone(),
            fuse: fuse.clone(),
        }
    }

    /// How many batches are not known to be durable.
    pub fn unsynced(&self) -> usize {
        self.inner().unsynced.len()
    }

    /// The image a crash now would leave, with the first `keep` of the [`MemKv::unsynced`] batches in it.
    pub fn crash_keep(&self, keep: usize) -> Self {
        let inner = self.inner();
        let mut map = inner.durable.clone();
        for batch in inner.unsynced.iter().take(keep) {
            apply(&mut map, batch);
        }
        let image = Inner {
            durable: map.clone(),
            map,
            unsynced: Vec::new(),
        };
        Self {
            inner: Arc::new(Mutex::new(image)),
            fuse: Fuse::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pair((key, value): (&Vec<u8>, &Vec<u8>)) -> Pair {
    (key.clone(), value.clone())
}

impl Kv for MemKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.inner().map.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, KvError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        Ok(self
            .inner()
            .map
            .range::<[u8], _>(range)
            .take(limit)
            .map(pair)
            .collect())
    }

    fn floor(&self, from: &[u8], at_most: &[u8]) -> Result<Option<Pair>, KvError> {
        if from > at_most {
            return Ok(None);
        }
        let range = (Bound::Included(from), Bound::Included(at_most));
        Ok(self
            .inner()
            .map
            .range::<[u8], _>(range)
            .next_back()
            .map(pair))
    }

    fn write(&self, batch: &KvBatch, synced: bool) -> Result<(), KvError> {
        let burn = self.fuse.burn();
        if burn == Burn::Dead {
            return Err(KvError("simulated failure".to_owned()));
        }
        let mut inner = self.inner();
        apply(&mut inner.map, batch);
        inner.unsynced.push(batch.clone());
        if burn == Burn::Breaks {
            return Err(KvError("simulated failure".to_owned()));
        }
        if synced {
            let Inner {
                durable, unsynced, ..
            } = &mut *inner;
            for batch in unsynced.drain(..) {
                apply(durable, &batch);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn put(key: &[u8], value: &[u8]) -> KvBatch {
        KvBatch {
            ops: vec![KvOp::Put(key.to_vec(), value.to_vec())],
        }
    }

    /// What every implementation must do; also run on RocksDB.
    pub(crate) fn behaves(kv: &dyn Kv) {
        for key in [[1u8, 5], [2, 1], [2, 3], [2, 5], [3, 0]] {
            kv.write(&put(&key, &[key[1]]), false).unwrap();
        }
        assert_eq!(kv.get(&[2, 3]).unwrap(), Some(vec![3]));
        assert_eq!(kv.get(&[2, 2]).unwrap(), None);
        let keys = |pairs: Vec<Pair>| pairs.into_iter().map(|p| p.0[1]).collect::<Vec<_>>();
        assert_eq!(keys(kv.scan(&[2], &[3], 10).unwrap()), [1, 3, 5]);
        assert_eq!(keys(kv.scan(&[2, 3], &[3], 1).unwrap()), [3]);
        assert_eq!(keys(kv.scan(&[3], &[2], 1).unwrap()), [0u8; 0]);
        let floor = |at: &[u8]| kv.floor(&[2], at).unwrap().map(|p| p.0[1]);
        assert_eq!(floor(&[2, 4]), Some(3));
        assert_eq!(floor(&[2, 3]), Some(3));
        assert_eq!(
            floor(&[2, 0]),
            None,
            "keys of the kind before are not found"
        );
        assert_eq!(floor(&[2, 9]), Some(5));
        let mut batch = KvBatch::new();
        batch.delete(vec![2, 1]);
        batch.put((vec![2, 4], vec![9]));
        batch.delete_range(vec![2, 5], vec![9]);
        kv.write(&batch, true).unwrap();
        assert_eq!(keys(kv.scan(&[1], &[9], 10).unwrap()), [5, 3, 4]);
    }

    #[test]
    fn mem_behaves() {
        behaves(&MemKv::new());
    }

    #[test]
    fn a_crash_keeps_a_first_part_of_what_was_not_synced() {
        let kv = MemKv::new();
        kv.write(&put(b"a", b"1"), false).unwrap();
        kv.write(&put(b"b", b"1"), true).unwrap();
        kv.write(&put(b"a", b"2"), false).unwrap();
        kv.write(&put(b"c", b"1"), false).unwrap();
        assert_eq!(kv.unsynced(), 2);
        let none = kv.crash_keep(0);
        assert_eq!(none.get(b"a").unwrap(), Some(b"1".to_vec()));
        assert_eq!(none.get(b"b").unwrap(), Some(b"1".to_vec()));
        let one = kv.crash_keep(1);
        assert_eq!(one.get(b"a").unwrap(), Some(b"2".to_vec()));
        assert_eq!(one.get(b"c").unwrap(), None);
        assert_eq!(kv.crash_keep(2).get(b"c").unwrap(), Some(b"1".to_vec()));
    }
}
