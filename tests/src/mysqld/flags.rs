//! The options of the servers. What a node needs to be a source of Tributary stands apart from
//! what only keeps a test server small; the compose file uses the former, and a test compares.

/// What makes a server a node Tributary can read, and a source of distributed transactions.
pub const NODE_FLAGS: &[&str] = &[
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--log-bin=binlog",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
];

/// What a replica of Tributary runs with, on top of [`NODE_FLAGS`].
pub const REPLICA_FLAGS: &[&str] = &[
    "--relay-log=relay",
    "--relay-log-recovery=ON",
    "--replica-parallel-workers=4",
    "--replica-preserve-commit-order=ON",
];

/// Keeps a server small: several of them share a machine with the tests.
pub(super) const SMALL_FLAGS: &[&str] = &[
    "--performance-schema=OFF",
    "--innodb-buffer-pool-size=64M",
    "--innodb-redo-log-capacity=64M",
    "--innodb-log-buffer-size=2M",
    "--key-buffer-size=1M",
    "--table-open-cache=256",
    "--table-definition-cache=400",
    "--max-connections=250",
    "--max-allowed-packet=1G",
    "--innodb-lock-wait-timeout=5",
    "--lock-wait-timeout=20",
    "--skip-name-resolve",
    "--mysqlx=OFF",
    "--bind-address=127.0.0.1",
];

/// A replica of the testbed leaves it to the kernel when its files reach the disk: it survives
/// `kill -9`, and the disk is left to the servers under test.
pub(super) const LAZY_FLAGS: &[&str] = &["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2"];
