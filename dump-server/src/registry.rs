//! Who is connected.
//!
//! In: connections coming, authenticating, dumping, going. Out: the list for SHOW PROCESSLIST and the admin page, KILL, and
//! the rule that a replica has one dump: a new dump with the same UUID, else the same server id, ends the old one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tributary_binlog::BinlogFile;

use crate::core::view::{ClientStatus, ReplicaRow};
use crate::wire::semisync::Ack;

/// Why a connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KillCause {
    /// A KILL statement.
    Statement,
    /// The same replica connected again.
    Duplicate,
}

/// One connection, shared between its task and the lists.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u32,
    host: String,
    connected: Instant,
    state: Mutex<State>,
    position: AtomicU64,
    caught_up: AtomicBool,
    greeted: AtomicBool,
    killed: CancellationToken,
}

#[derive(Debug)]
struct State {
    user: String,
    program: Option<String>,
    command: &'static str,
    since: Instant,
    database: Option<String>,
    statement: Option<String>,
    dump: Option<DumpIdentity>,
    replica: Option<ReplicaRow>,
    file: Option<BinlogFile>,
    semi_sync: bool,
    acknowledged: Option<Ack>,
    cause: Option<KillCause>,
}

/// Who a dump belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DumpIdentity {
    pub(crate) server_id: u32,
    pub(crate) uuid: Option<String>,
}

impl DumpIdentity {
    /// MySQL's rule: by UUID when this one has one, else by server id among those without; 0 is nobody.
    fn replaces(&self, old: &Self) -> bool {
        match (&self.uuid, &old.uuid) {
            (Some(new), Some(old)) => new.eq_ignore_ascii_case(old),
            (None, None) => self.server_id != 0 && self.server_id == old.server_id,
            _ => false,
        }
    }
}

impl Client {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancelled when the connection must end.
    pub(crate) fn killed(&self) -> &CancellationToken {
        &self.killed
    }

    /// Why it must end.
    pub(crate) fn cause(&self) -> Option<KillCause> {
        self.lock().cause
    }

    fn kill(&self, cause: KillCause) {
        self.lock().cause.get_or_insert(cause);
        self.killed.cancel();
    }

    /// The user is known.
    pub(crate) fn authenticated(&self, user: &str, program: Option<String>) {
        self.greeted.store(true, Ordering::Relaxed);
        let mut state = self.lock();
        state.program = program;
        user.clone_into(&mut state.user);
        state.command = "Sleep";
        state.since = Instant::now();
    }

    /// What it does now.
    pub(crate) fn command(&self, command: &'static str) {
        let mut state = self.lock();
        if state.command != command {
            state.command = command;
            state.since = Instant::now();
        }
        state.statement = None;
    }

    /// It executes a command, which may be a statement.
    pub(crate) fn executes(&self, statement: Option<String>) {
        let mut state = self.lock();
        state.command = "Query";
        state.since = Instant::now();
        state.statement = statement;
    }

    /// Its default database now.
    pub(crate) fn uses(&self, database: Option<&str>) {
        let mut state = self.lock();
        if state.database.as_deref() != database {
            state.database = database.map(str::to_owned);
        }
    }

    /// What a replica said of itself.
    pub(crate) fn registered(&self, replica: Option<ReplicaRow>) {
        self.lock().replica = replica;
    }

    /// How far the dump is.
    pub(crate) fn sent(&self, file: &BinlogFile, position: u64, caught_up: bool) {
        self.position.store(position, Ordering::Relaxed);
        self.caught_up.store(caught_up, Ordering::Relaxed);
        let mut state = self.lock();
        if state.file.as_ref() != Some(file) {
            state.file = Some(file.clone());
        }
    }

    /// It was asked to acknowledge what it receives.
    pub(crate) fn semi_sync(&self) {
        self.lock().semi_sync = true;
    }

    /// It acknowledged what lies before this place.
    pub(crate) fn acknowledged(&self, ack: Ack) {
        self.lock().acknowledged = Some(ack);
    }

    fn status(&self) -> ClientStatus {
        let state = self.lock();
        let dump = state.dump.as_ref();
        let registered = state.replica.as_ref();
        ClientStatus {
            id: self.id,
            user: state.user.clone(),
            host: self.host.clone(),
            command: state.command.to_owned(),
            database: state.database.clone(),
            statement: state.statement.clone(),
            program: state.program.clone(),
            server_id: dump
                .map(|d| d.server_id)
                .or(registered.map(|r| r.server_id))
                .unwrap_or(0),
            uuid: dump
                .and_then(|d| d.uuid.clone())
                .or_else(|| registered.map(|r| r.uuid.clone()).filter(|u| !u.is_empty())),
            file: state.file.as_ref().map(ToString::to_string),
            position: self.position.load(Ordering::Relaxed),
            caught_up: self.caught_up.load(Ordering::Relaxed),
            semi_sync: state.semi_sync,
            acknowledged_file: state.acknowledged.as_ref().map(|a| a.file.clone()),
            acknowledged_position: state.acknowledged.as_ref().map_or(0, |a| a.position),
            connected_seconds: self.connected.elapsed().as_secs(),
            command_seconds: state.since.elapsed().as_secs(),
        }
    }
}

/// All connections of one server.
#[derive(Debug)]
pub(crate) struct Registry {
    clients: Mutex<HashMap<u32, Arc<Client>>>,
    last_id: AtomicU32,
}

/// Takes the connection from the list when its task ends, however it ends.
#[derive(Debug)]
pub(crate) struct Registered {
    registry: Arc<Registry>,
    client: Arc<Client>,
}

impl std::ops::Deref for Registered {
    type Target = Arc<Client>;
    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.client.id);
    }
}

impl Registry {
    /// Ids start behind `base`.
    pub(crate) fn new(base: u32) -> Arc<Self> {
        Arc::new(Self {
            clients: Mutex::default(),
            last_id: AtomicU32::new(base),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection from this address.
    pub(crate) fn register(self: &Arc<Self>, host: String) -> Registered {
        let now = Instant::now();
        let mut clients = self.lock();
        let id = loop {
            let id = self.last_id.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if id != 0 && !clients.contains_key(&id) {
                break id;
            }
        };
        let state = State {
            user: String::new(),
            program: None,
            command: "Connect",
            since: now,
            database: None,
            statement: None,
            dump: None,
            replica: None,
            file: None,
            semi_sync: false,
            acknowledged: None,
            cause: None,
        };
        let client = Arc::new(Client {
            id,
            host,
            connected: now,
            state: Mutex::new(state),
            position: AtomicU64::new(0),
            caught_up: AtomicBool::new(false),
            greeted: AtomicBool::new(false),
            killed: CancellationToken::new(),
        });
        clients.insert(id, client.clone());
        Registered {
            registry: self.clone(),
            client,
        }
    }

    /// Closes the oldest connection that has not authenticated when there are more than `most` of them: who connects and
    /// says nothing cannot keep others out. Returns its id.
    pub(crate) fn limit_handshakes(&self, most: usize) -> Option<u32> {
        let clients = self.lock();
        let waiting = || {
            clients
                .values()
                .filter(|c| !c.greeted.load(Ordering::Relaxed) && !c.killed.is_cancelled())
        };
        if waiting().count() <= most {
            return None;
        }
        let oldest = waiting().min_by_key(|c| c.connected)?;
        oldest.kill(KillCause::Statement);
        Some(oldest.id)
    }

    /// Connections now.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn all(&self) -> Vec<Arc<Client>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by_key(|c| c.id);
        all
    }

    /// All connections, by id.
    pub(crate) fn statuses(&self) -> Vec<ClientStatus> {
        self.all().iter().map(|c| c.status()).collect()
    }

    /// Registered replicas, by server id.
    pub(crate) fn replicas(&self) -> Vec<ReplicaRow> {
        let mut rows: Vec<_> = self
            .all()
            .iter()
            .filter_map(|c| c.lock().replica.clone())
            .collect();
        rows.sort_by_key(|r| r.server_id);
        rows
    }

    /// KILL; false when there is no such connection.
    pub(crate) fn kill(&self, id: u32) -> bool {
        let client = self.lock().get(&id).cloned();
        client.inspect(|c| c.kill(KillCause::Statement)).is_some()
    }

    /// `client` starts a dump: older dumps of the same replica end. Returns their connection ids.
    pub(crate) fn start_dump(&self, client: &Client, identity: &DumpIdentity) -> Vec<u32> {
        // Marked before looking: of two that start at once at least one sees the other.
        client.lock().dump = Some(identity.clone());
        let mut ended = Vec::new();
        for other in self.all().iter().filter(|c| c.id != client.id) {
            let old = other.lock().dump.clone();
            if old.is_some_and(|old| identity.replaces(&old)) {
                other.kill(KillCause::Duplicate);
                ended.push(other.id);
            }
        }
        ended
    }

    /// Ends every connection, at shutdown.
    pub(crate) fn kill_all(&self) {
        for client in self.all() {
            client.killed.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(server_id: u32, uuid: Option<&str>) -> DumpIdentity {
        DumpIdentity {
            server_id,
            uuid: uuid.map(str::to_owned),
        }
    }

    #[test]
    fn a_replica_has_one_dump() {
        let registry = Registry::new(100);
        let a = registry.register("h:1".into());
        let b = registry.register("h:2".into());
        let c = registry.register("h:3".into());
        let d = registry.register("h:4".into());
        assert_eq!(a.id, 101);
        assert!(
            registry
                .start_dump(&a, &identity(5, Some("u-1")))
                .is_empty()
        );
        assert!(
            registry.start_dump(&b, &identity(5, None)).is_empty(),
            "only one has a UUID"
        );
        assert_eq!(registry.start_dump(&c, &identity(9, Some("U-1"))), [a.id]);
        assert_eq!(a.cause(), Some(KillCause::Duplicate));
        assert!(a.killed().is_cancelled() && !b.killed().is_cancelled());
        assert_eq!(registry.start_dump(&d, &identity(5, None)), [b.id]);
    }

    #[test]
    fn server_id_zero_is_nobody() {
        let registry = Registry::new(0);
        let a = registry.register("h:1".into());
        let b = registry.register("h:2".into());
        assert!(registry.start_dump(&a, &identity(0, None)).is_empty());
        assert!(registry.start_dump(&b, &identity(0, None)).is_empty());
    }

    #[test]
    fn a_connection_leaves_the_list_with_its_task() {
        let registry = Registry::new(u32::MAX);
        let a = registry.register("h:1".into());
        assert_eq!(a.id, 1, "0 is no connection id");
        assert!(registry.kill(a.id) && a.cause() == Some(KillCause::Statement));
        drop(a);
        assert_eq!(registry.len(), 0);
        assert!(!registry.kill(1));
    }
}
