//! File descriptors: as many as the system allows, and never more connections than they suffice for.
//!
//! In: how many client connections and nodes are configured. Out: how many client connections there can be; `RLIMIT_NOFILE` raised.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a client can have open: its socket, the file it reads, and for a moment the next one.
const PER_CLIENT: u64 = 2;

/// What a node can have open: stream, side connection, look at another server of its group, spool files.
const PER_NODE: u64 = 16;

/// The index database (at most 64 tables), its logs, the binlog, listeners, the admin interface, standard streams.
const OWN: u64 = 128;

/// Raises the limit of open files to what is allowed and returns how many clients may connect: `wanted`, or fewer where that
/// limit does not suffice, which is a warning as in MySQL.
pub(crate) fn connections(wanted: usize, nodes: usize) -> usize {
    let limit = raise();
    let most = most(limit, nodes);
    if most >= wanted as u64 {
        return wanted;
    }
    tracing::warn!(
        max_connections = most,
        configured = wanted,
        open_files = limit,
        needed = own(nodes) + PER_CLIENT * wanted as u64,
        "the limit of open files is too low for server.max_connections: fewer clients can connect; raise it with `ulimit -Hn` or \
         LimitNOFILE= of the systemd unit"
    );
    most as usize
}

fn own(nodes: usize) -> u64 {
    OWN + PER_NODE * nodes as u64
}

/// Clients that `limit` open files suffice for; at least one, or nobody could find out why.
fn most(limit: u64, nodes: usize) -> u64 {
    (limit.saturating_sub(own(nodes)) / PER_CLIENT).max(1)
}

/// The limit of open files, after the soft one was raised to the hard one.
fn raise() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let allowed = Rlimit {
        current: now.maximum,
        ..now
    };
    let raised = setrlimit(Resource::Nofile, allowed).is_ok();
    let limit = if raised { now.maximum } else { now.current };
    limit.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_is_left() {
        assert_eq!(most(128 + 2 * 16 + 2 * 1000, 2), 1000);
        assert_eq!(most(1024, 4), 416);
        assert_eq!(most(10, 4), 1);
        assert!(most(u64::MAX, 1) > 1_000_000);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(now.maximum.unwrap_or(u64::MAX), limit);
    }
}
