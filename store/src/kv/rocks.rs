//! RocksDB as a [`Kv`]. In: batches, written through its log and synced. Out: lookups. Tuned to be small: the data is a
//! checkpoint, a record per file and sparse indexes, and the whole service has a budget of 256 MiB.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, Direction, IteratorMode,
    LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::{Kv, KvBatch, KvError, KvOp, Pair};

const WRITE_BUFFER_BYTES: usize = 2 << 20;
const WRITE_BUFFERS_MAX: i32 = 2;
const BLOCK_CACHE_BYTES: usize = 4 << 20;
const OPEN_FILES_MAX: i32 = 64;
const LOG_FILE_BYTES: usize = 1 << 20;
const WAL_BYTES: u64 = 16 << 20;

/// A RocksDB database in a directory of its own.
pub struct RocksKv {
    db: DB,
}

impl std::fmt::Debug for RocksKv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksKv")
            .field("path", &self.db.path())
            .finish()
    }
}

impl RocksKv {
    /// Opens the database in `dir`, making it if need be. Only one process can have it open.
    pub fn open(dir: &Path) -> Result<Self, KvError> {
        Ok(Self {
            db: DB::open(&options(), dir).map_err(error)?,
        })
    }

    /// Opens an existing database without the right to change it; another process may have it open. It is seen as it
    /// was at this moment.
    pub fn open_read_only(dir: &Path) -> Result<Self, KvError> {
        let mut options = options();
        options.create_if_missing(false);
        Ok(Self {
            db: DB::open_for_read_only(&options, dir, false).map_err(error)?,
        })
    }
}

fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
    table.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(WRITE_BUFFERS_MAX);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(2);
    options.set_max_total_wal_size(WAL_BYTES);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_paranoid_checks(true);
    // The default mode stops silently at the first bad record of the log and so could take an acknowledged checkpoint
    // back, and the binlog behind it with it. This one forgives only an unfinished last write.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(LOG_FILE_BYTES);
    options.set_keep_log_file_num(2);
    options
}

fn error(e: rocksdb::Error) -> KvError {
    KvError(e.into_string())
}

impl Kv for RocksKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.db.get(key).map_err(error)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, KvError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        let pairs = self
            .db
            .iterator_opt(IteratorMode::From(from, Direction::Forward), options)
            .take(limit);
        let pairs = pairs.map(|pair| pair.map(|(k, v)| (k.into_vec(), v.into_vec())));
        pairs.collect::<Result<_, _>>().map_err(error)
    }

    fn floor(&self, from: &[u8], at_most: &[u8]) -> Result<Option<Pair>, KvError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        let mut pairs = self
            .db
            .iterator_opt(IteratorMode::From(at_most, Direction::Reverse), options);
        let found = pairs.next().transpose().map_err(error)?;
        Ok(found.map(|(key, value)| (key.into_vec(), value.into_vec())))
    }

    fn write(&self, batch: &KvBatch, synced: bool) -> Result<(), KvError> {
        let mut out = WriteBatch::default();
        for op in &batch.ops {
            match op {
                KvOp::Put(key, value) => out.put(key, value),
                KvOp::Delete(key) => out.delete(key),
                KvOp::DeleteRange(from, to) => out.delete_range(from, to),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(synced);
        self.db.write_opt(out, &options).map_err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rocks_behaves() {
        let dir = tempfile::tempdir().unwrap();
        crate::kv::mem::tests::behaves(&RocksKv::open(dir.path()).unwrap());
    }

    #[test]
    fn synced_batches_are_there_after_reopening_and_a_second_opener_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let kv = RocksKv::open(dir.path()).unwrap();
        let mut batch = KvBatch::new();
        batch.put((b"k".to_vec(), b"v".to_vec()));
        kv.write(&batch, true).unwrap();
        RocksKv::open(dir.path()).unwrap_err();
        let reader = RocksKv::open_read_only(dir.path()).unwrap();
        assert_eq!(reader.get(b"k").unwrap(), Some(b"v".to_vec()));
        drop(reader);
        drop(kv);
        let kv = RocksKv::open(dir.path()).unwrap();
        assert_eq!(kv.get(b"k").unwrap(), Some(b"v".to_vec()));
    }
}
