//! Kind 32, `Schema`. Key: the kind, then a key of the schema's own (see `schema/src/cluster/stored.rs`). Value: version, then a
//! value of the schema's own. Written in the batch of the group commit whose statements have changed it.

use super::{KeyKind, Kv, KvBatch, KvError, KvOp, Pair, RecordError, range_of, versioned};

const KIND: KeyKind = KeyKind::Schema;
const VERSION: u8 = 1;
/// Pairs read at a time.
const SCAN: usize = 1024;

/// The stored schema state cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaStateError {
    /// The database does not answer.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// A value is damaged, or of a newer version.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Adds the schema's writes to the batch of a commit.
pub(crate) fn put(batch: &mut KvBatch, writes: &[(Vec<u8>, Option<Vec<u8>>)]) {
    for (key, value) in writes {
        let mut own = vec![KIND as u8];
        own.extend_from_slice(key);
        batch.ops.push(match value {
            None => KvOp::Delete(own),
            Some(value) => {
                let mut versioned = vec![VERSION];
                versioned.extend_from_slice(value);
                KvOp::Put(own, versioned)
            }
        });
    }
}

/// Writes what a person has changed of it, while no service runs; durable on return.
///
/// # Errors
/// The database does not answer.
pub fn change_schema_state(
    kv: &dyn Kv,
    writes: &[(Vec<u8>, Option<Vec<u8>>)],
) -> Result<(), KvError> {
    let mut batch = KvBatch::new();
    put(&mut batch, writes);
    kv.write(&batch, true)
}

/// Everything the schema has stored, in the order of its keys.
///
/// # Errors
/// It cannot be read.
pub fn schema_state(kv: &dyn Kv) -> Result<Vec<Pair>, SchemaStateError> {
    let (mut from, to) = range_of(KIND);
    let mut all = Vec::new();
    loop {
        let pairs = kv.scan(&from, &to, SCAN)?;
        let Some((last, _)) = pairs.last() else {
            return Ok(all);
        };
        from.clone_from(last);
        from.push(0);
        for (key, value) in &pairs {
            let value = versioned(KIND, value, VERSION)?;
            let key = key.get(1..).unwrap_or_default();
            all.push((key.to_vec(), value.to_vec()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemKv;
    use super::*;

    #[test]
    fn what_was_written_comes_back_in_order() {
        let kv = MemKv::new();
        let writes: Vec<_> = (0..3000_u32)
            .map(|n| (n.to_be_bytes().to_vec(), Some(vec![n as u8])))
            .collect();
        let mut batch = KvBatch::new();
        put(&mut batch, &writes);
        put(&mut batch, &[(5_u32.to_be_bytes().to_vec(), None)]);
        kv.write(&batch, true).unwrap();
        let all = schema_state(&kv).unwrap();
        assert_eq!(all.len(), 2999);
        assert!(all.is_sorted_by_key(|(k, _)| k.clone()));
        assert_eq!(all[5], (6_u32.to_be_bytes().to_vec(), vec![6]));
        let mut batch = KvBatch::new();
        batch
            .ops
            .push(KvOp::Put(vec![KIND as u8, 9], vec![VERSION + 1]));
        kv.write(&batch, true).unwrap();
        assert!(matches!(
            schema_state(&kv),
            Err(SchemaStateError::Record(RecordError::Newer { .. }))
        ));
    }
}
