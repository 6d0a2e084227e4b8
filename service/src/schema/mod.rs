//! What is stored of schemas: the logical schema for whoever asks, and the state from which a merger goes on.
//!
//! In: the index database, and what the store writes into it. Out: definitions at any point: for dump clients ([`catalog`]),
//! over HTTP and on the command line ([`show`]); the merger's state; statements that wait; what a person says of a node's table ([`define`]).

mod catalog;
pub(crate) mod define;
pub(crate) mod show;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use anyhow::Context;
use tokio::sync::watch;
use tributary_dump_server::TableInfo;
use tributary_schema::{
    ClusterSchema, History, SchemaRules, Write, follow_history, stored_history, stored_waiting,
};
use tributary_store::Kv;
use tributary_store::kv::schema_state;

/// The durable history, shared by all who read it.
pub(crate) struct DurableSchema {
    kv: Arc<dyn Kv>,
    history: RwLock<History>,
    /// Tables as the catalog tells them, until something changes.
    tables: Mutex<HashMap<String, Vec<Arc<TableInfo>>>>,
    /// Statements that some tables have had and others have not.
    waiting: watch::Sender<Vec<String>>,
}

impl std::fmt::Debug for DurableSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DurableSchema").finish_non_exhaustive()
    }
}

impl DurableSchema {
    /// What is stored in `kv`.
    pub(crate) fn open(kv: Arc<dyn Kv>) -> anyhow::Result<Self> {
        let pairs = schema_state(&*kv)?;
        Ok(Self {
            history: RwLock::new(stored_history(&pairs)?),
            waiting: watch::Sender::new(stored_waiting(&pairs)?),
            tables: Mutex::default(),
            kv,
        })
    }

    /// A history that is stored nowhere.
    #[cfg(test)]
    fn new(history: History) -> Self {
        Self {
            history: RwLock::new(history),
            waiting: watch::Sender::new(Vec::new()),
            tables: Mutex::default(),
            kv: Arc::new(tributary_store::kv::MemKv::new()),
        }
    }

    /// The state from which a merger of these nodes goes on; `renamed` are names that nodes had before.
    pub(crate) fn state<'a>(
        &self,
        rules: SchemaRules,
        nodes: impl IntoIterator<Item = &'a str>,
        renamed: &BTreeMap<String, String>,
    ) -> anyhow::Result<ClusterSchema> {
        let pairs = schema_state(&*self.kv)?;
        ClusterSchema::resume(rules, nodes, renamed, &pairs).context("the schemas of the nodes")
    }

    /// What was written with a commit is durable now.
    pub(crate) fn follow(&self, writes: &[Write]) -> anyhow::Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        {
            let mut history = self.history.write().unwrap_or_else(PoisonError::into_inner);
            follow_history(&mut history, writes)?;
        }
        self.known().clear();
        // Of several in one commit the last counts.
        if let Some((key, value)) = writes.iter().rev().find(|(key, _)| key == b"W") {
            let stored = value.clone().map(|value| (key.clone(), value));
            let waiting = stored_waiting(stored.as_slice())?;
            self.waiting.send_replace(waiting);
        }
        Ok(())
    }

    /// Statements that some tables have had and others have not, followed.
    pub(crate) fn waiting(&self) -> watch::Receiver<Vec<String>> {
        self.waiting.subscribe()
    }

    /// Asks the history something.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&History) -> T) -> T {
        ask(&self.history.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<TableInfo>>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
