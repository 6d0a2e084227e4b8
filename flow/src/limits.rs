//! Every cap, in one place. Bytes unless the name says otherwise.

/// Greatest binlog event accepted: MySQL's `max_allowed_packet` limit of 1 GiB and room for headers.
pub const EVENT_BYTES_MAX: usize = (1 << 30) + (64 << 10);

/// Greatest MySQL protocol packet payload; longer messages are split at this size.
pub const PACKET_PAYLOAD_MAX: usize = 0xff_ffff;

/// Greatest message accepted from a dump client that is not authenticated yet.
pub const CLIENT_HANDSHAKE_BYTES_MAX: usize = 64 << 10;

/// Greatest command accepted from an authenticated dump client (statements, GTID sets).
pub const CLIENT_COMMAND_BYTES_MAX: usize = 64 << 20;

/// Bytes of a client's statement that the list of connections shows.
pub const CLIENT_SHOWN_STATEMENT_BYTES_MAX: usize = 4 << 10;

/// Size of a collector's receive buffers; a transaction's events are slices of them.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Bytes read from a spool file at a time.
pub const SPOOL_READ_BYTES: usize = 1 << 20;

/// Greatest transaction that stays in memory, unless configured otherwise.
pub const SPILL_THRESHOLD_BYTES: u64 = 64 << 20;

/// Bytes one collector may have in flight (received, not yet durable) before it stops reading its socket.
pub const NODE_BYTES_MAX: usize = 24 << 20;

/// Items a collector may have in flight per batch.
pub const BATCH_ITEMS_MAX: usize = 4096;

/// Bytes of merged transactions handed to the store at a time.
pub const MERGED_BATCH_BYTES: usize = 1 << 20;

/// Number of keys remembered that one node has freed and another may take; a transaction that frees more is waited for
/// by all behind it.
pub const FREED_KEYS_MAX: usize = 64 << 10;

/// A larger transaction is not read for its keys, either: all behind it wait for it.
pub const KEYS_BODY_BYTES_MAX: u64 = 64 << 20;

/// Rows of keys that move between the branches of a transaction, looked at singly; of more, only their statements are.
pub const MOVED_ROWS_MAX: usize = 256 << 10;

/// Statements of a transaction in which keys move between branches, and pairs of which one waits for the other; of more, only
/// the branches are looked at.
pub const MOVED_STATEMENTS_MAX: u64 = 1 << 20;

/// What rows of such a transaction do to keys, kept in memory before it goes to a spool file.
pub const MOVED_ACTS_BYTES_MAX: usize = 32 << 20;

/// Events put together anew for such a transaction, kept in memory before they go to a spool file.
pub const MOVED_MADE_BYTES_MAX: usize = 16 << 20;

/// Table_maps remembered for the keys of their rows.
pub const TABLE_MAPS_BYTES_MAX: usize = 4 << 20;

/// Rows of branches that stay prepared for long, handed to the store with one batch.
pub const KEPT_ROWS_BYTES: usize = 1 << 20;

/// Rows of kept branches that are read into memory at a start; those of more and greater ones are read when they are written.
pub const KEPT_IN_MEMORY_BYTES: u64 = 4 << 20;

/// Batches of merged transactions between merger and store.
pub const MERGED_BATCHES_MAX: usize = 4;

/// Bytes of the definitions of a node's tables, asked for where it begins.
pub const NODE_DEFINITIONS_BYTES_MAX: usize = 256 << 20;

/// Bytes of one group commit.
pub const GROUP_COMMIT_BYTES_MAX: usize = 8 << 20;

/// Bytes of a large transaction written to the binlog file before they are synced, ahead of the commit.
pub const SYNC_SLICE_BYTES: u64 = 64 << 20;

/// Bytes read from a binlog file at a time for one dump client.
pub const DUMP_READ_BYTES: usize = 256 << 10;

/// Simultaneous client connections, unless configured otherwise.
pub const CLIENT_CONNECTIONS_MAX: usize = 1000;

/// Client connections that have not authenticated yet.
pub const CLIENT_HANDSHAKES_MAX: usize = 256;

const _: () = {
    assert!(CHUNK_BYTES * 4 <= NODE_BYTES_MAX);
    assert!(CLIENT_HANDSHAKE_BYTES_MAX <= PACKET_PAYLOAD_MAX);
    assert!(DUMP_READ_BYTES >= 64 << 10);
};
