//! What the store decides, without doing it: bytes of transactions and file heads, table ids, the index file's text,
//! what recovery must change, where a client starts. Pure: no files, clocks or randomness.

pub(crate) mod audit;
pub(crate) mod encode;
pub(crate) mod head;
pub(crate) mod index_file;
pub(crate) mod owner;
pub(crate) mod plan;
pub(crate) mod reindex;
pub(crate) mod retention;
pub(crate) mod start;
pub(crate) mod tables;
