//! The steps of each change of the nodes.
//!
//! In: an order, the pipeline that runs. Out: the [`Turn`] between two pipelines, or why there is none. Everything that may
//! take long comes first; what must hold at the moment itself is looked at again between the pipelines.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tributary_binlog::GtidSet;
use tributary_collector::{
    CollectorConfig, CollectorError, JoinError, JoinPoint, Joining, Start, before_start, check,
    done, gtid_sets, left, merged, settings_problems,
};
use tributary_flow::{
    ChangeKind, Checkpoint, Moment, NodeChange, NodeProgress, NodeRecord, NodeSet, NodeTables,
};
use tributary_schema::{SchemaRules, Write};
use tributary_store::NodeSetChange;

use crate::config::{self, Node};
use crate::orders::{Done, NewRoutes, PATIENCE, Removal, Renaming};
use crate::pipeline::{self, Spec};
use crate::routes;
use crate::supervisor::{Supervisor, Turn};

/// How long a join point may be looked for while no pipeline runs.
const POINT_PATIENCE: Duration = Duration::from_millis(500);
/// How long the old servers of a node have to answer before it counts as gone.
const OLD_SERVER: Duration = Duration::from_secs(3);
/// How long a change waits for what nodes have executed to be merged, before it looks at what they have had.
const SETTLE: Duration = Duration::from_secs(10);
/// Between two looks at what is durable.
const LOOK: Duration = Duration::from_millis(50);

impl Supervisor {
    /// Lets a node join. `definition` is what a command was given.
    pub(crate) async fn add(
        &mut self,
        node: Node,
        definition: Option<serde_json::Value>,
    ) -> Result<Done, String> {
        let name = node.name.clone();
        if self.spec.nodes.iter().any(|known| known.name == name) {
            return Err(format!("there is a node {name} already"));
        }
        self.check_settings(&node, &self.spec.nodes).await?;
        self.settled().await;
        self.no_ddl_pending(PATIENCE).await?;
        let config = pipeline::collector_config(&self.spec, &node);
        let mut place = Place::find(&node, config).await?;
        place.learn(PATIENCE).await?;
        self.switch(async |this: &Self, checkpoint, at| {
            let patience = POINT_PATIENCE;
            this.ddl_is_not_pending()?;
            let point = place.now(patience).await?;
            let mut turn = this.turn(checkpoint);
            if let Some(tables) = place.tables() {
                turn.change.schema = this.learned(&name, tables, checkpoint, at)?;
            }
            let progress = NodeProgress::joining(&point.before, checkpoint);
            turn.state().nodes.insert(name.clone(), progress);
            turn.set().removed.remove(&name);
            turn.set().nodes.insert(
                name.clone(),
                NodeRecord {
                    servers: node.addresses(),
                    definition,
                },
            );
            let before = point.before.to_text_oneline();
            let mut detail = format!("behind its GTIDs {before:?}");
            for xid in &point.prepared {
                detail += &format!("; prepared at that moment, and read: {xid}");
            }
            turn.note(ChangeKind::Add, &name, detail, at);
            turn.spec.nodes.push(node);
            Ok(turn.sorted())
        })
        .await
    }

    /// Lets a node leave.
    pub(crate) async fn remove(&mut self, removal: &Removal) -> Result<Done, String> {
        let name = &removal.name;
        let node = self.known(name)?.clone();
        if self.spec.nodes.len() == 1 {
            return Err(format!("{name} is the only node"));
        }
        let patience = removal.timeout_s.map_or(PATIENCE, Duration::from_secs);
        let deadline = Instant::now() + patience;
        let config = pipeline::collector_config(&self.spec, &node);
        loop {
            if !removal.force {
                self.settled().await;
                self.no_ddl_pending(deadline.saturating_duration_since(Instant::now()))
                    .await?;
                self.drained(&config, deadline).await?;
            }
            let left = self.leave(&node, &config, removal.force).await;
            match left {
                // It was written to in the last moment: what that was is merged first.
                Err(Left::Written(_)) if Instant::now() < deadline => {}
                Err(Left::Written(set)) => {
                    return Err(format!(
                        "{name} is still written to: {set}. Stop that, or remove it with --force and lose what it writes"
                    ));
                }
                Err(Left::Not(why)) => return Err(why),
                Ok(done) => return Ok(done),
            }
        }
    }

    async fn leave(
        &mut self,
        node: &Node,
        config: &CollectorConfig,
        force: bool,
    ) -> Result<Done, Left> {
        let mut written = None;
        let left = self
            .switch(async |this: &Self, checkpoint, at| {
                let read = checkpoint.nodes.get(&node.name).map(merged);
                let read = read.unwrap_or_default();
                if !force {
                    this.ddl_is_not_pending()?;
                    let (executed, _) = gtid_sets(config).await.map_err(|e| e.to_string())?;
                    let more = left(&executed, checkpoint.nodes.get(&node.name));
                    if !more.is_empty() {
                        written = Some(more.to_text_oneline());
                        return Err("it is still written to".into());
                    }
                }
                let mut turn = this.turn(checkpoint);
                turn.state().nodes.remove(&node.name);
                turn.set().nodes.remove(&node.name);
                turn.set().removed.insert(node.name.clone());
                turn.change.removed.push(node.name.clone());
                let read = read.to_text_oneline();
                let detail = match force {
                    true => format!("by force; merged of it is {read:?}"),
                    false => format!("all of {read:?} is merged"),
                };
                turn.note(ChangeKind::Remove, &node.name, detail, at);
                turn.spec.nodes.retain(|n| n.name != node.name);
                Ok(turn)
            })
            .await;
        left.map_err(|why| written.map_or(Left::Not(why), Left::Written))
    }

    /// Gives a node other servers, which must have the same data.
    pub(crate) async fn replace(
        &mut self,
        node: Node,
        definition: Option<serde_json::Value>,
    ) -> Result<Done, String> {
        let old = self.known(&node.name)?.clone();
        let others: Vec<Node> = (self.spec.nodes.iter())
            .filter(|n| n.name != node.name)
            .cloned()
            .collect();
        self.check_settings(&node, &others).await?;
        let config = pipeline::collector_config(&self.spec, &node);
        let before = pipeline::collector_config(&self.spec, &old);
        self.switch(async |this: &Self, checkpoint, at| {
            // The old servers first: what they commit later the new ones need not have, and is not there to be lost yet.
            let old_executed = match timeout(OLD_SERVER, gtid_sets(&before)).await {
                Ok(Ok((executed, _))) => executed,
                _ => GtidSet::new(),
            };
            let (executed, purged) = gtid_sets(&config).await.map_err(|e| e.to_string())?;
            let have = checkpoint.nodes.get(&node.name).map(done);
            check(&have.unwrap_or_default(), &executed, &purged).map_err(|e| e.to_string())?;
            let missing = minus(&old_executed, &executed);
            if !missing.is_empty() {
                return Err(format!(
                    "the servers that are read now have transactions that the new ones have not: {}. Bring them there first, \
                     and stop writing to the old ones",
                    missing.to_text_oneline()
                ));
            }
            let mut turn = this.turn(checkpoint);
            let servers = node.addresses();
            turn.note(ChangeKind::Replace, &node.name, servers.join(", "), at);
            let record = turn.set().nodes.entry(node.name.clone()).or_default();
            *record = NodeRecord {
                servers,
                definition,
            };
            turn.spec.nodes.retain(|n| n.name != node.name);
            turn.spec.nodes.push(node);
            Ok(turn.sorted())
        })
        .await
    }

    /// Gives a node another name.
    pub(crate) async fn rename(&mut self, renaming: &Renaming) -> Result<Done, String> {
        let Renaming { name, to } = renaming;
        self.known(name)?;
        if to.is_empty() || self.known(to).is_ok() {
            return Err(format!("{to:?} can not be its name, or is another node's"));
        }
        self.settled().await;
        self.no_ddl_pending(PATIENCE).await?;
        self.switch(async |this: &Self, checkpoint, at| {
            this.ddl_is_not_pending()?;
            let mut turn = this.turn(checkpoint);
            if let Some(progress) = turn.state().nodes.remove(name) {
                turn.state().nodes.insert(to.clone(), progress);
            }
            let mut record = turn.set().nodes.remove(name).unwrap_or_default();
            if let Some(definition) = &mut record.definition {
                definition["name"] = to.as_str().into();
            }
            turn.set().nodes.insert(to.clone(), record);
            // A file that names the node as it was called at first is understood, too.
            let set = turn.set();
            for new in set.renamed.values_mut().filter(|new| *new == name) {
                new.clone_from(to);
            }
            set.renamed.insert(name.clone(), to.clone());
            set.renamed.remove(to);
            set.removed.remove(to);
            turn.change.renamed.push((name.clone(), to.clone()));
            turn.note(ChangeKind::Rename, name, to.clone(), at);
            for node in turn.spec.nodes.iter_mut().filter(|n| n.name == *name) {
                node.name.clone_from(to);
            }
            Ok(turn.sorted())
        })
        .await
    }

    /// Makes the nodes those of a configuration that was read again.
    pub(crate) async fn reload(&mut self, spec: Spec) -> Result<Done, String> {
        if spec.cluster.order != self.spec.cluster.order {
            return Err("cluster.order can not change once there is a merged log".into());
        }
        let set = self.set.clone();
        let base = spec.base.clone();
        let read = |definition: &serde_json::Value| config::node_from(definition, &base);
        let configured = spec.nodes.clone();
        let gone: Vec<String> = (self.spec.nodes.iter())
            .filter(|node| {
                let file_has =
                    |n: &&Node| n.name == node.name || set.renamed.get(&n.name) == Some(&node.name);
                configured.iter().find(file_has).is_none()
            })
            .filter(|node| {
                set.nodes
                    .get(&node.name)
                    .is_none_or(|r| r.definition.is_none())
            })
            .map(|node| node.name.clone())
            .collect();
        let mut kept = set.clone();
        kept.nodes.retain(|name, _| !gone.contains(name));
        let now = crate::node_set::reconcile(Some(kept), configured, read)?;
        for warning in &now.warnings {
            tracing::warn!("{warning}");
        }
        let mut all = Done::default();
        for node in &now.nodes {
            let known = self.known(&node.name)?;
            if known.addresses() != node.addresses() {
                all = all.and(self.replace(node.clone(), None).await?);
            }
        }
        all = all.and(self.same_nodes(&spec, &now.nodes, &now.set).await?);
        let mut joining = Vec::new();
        for node in now.joining {
            match self.add(node.clone(), None).await {
                Ok(done) => all = all.and(done),
                Err(why) => {
                    all.changes
                        .push(format!("node {} has not joined yet: {why}", node.name));
                    joining.push((node, why));
                }
            }
        }
        self.set_joining(joining);
        for name in gone {
            let removal = Removal {
                name,
                timeout_s: None,
                force: false,
            };
            all = all.and(self.remove(&removal).await?);
        }
        Ok(all)
    }

    /// What is new in the configuration of nodes that stay: accounts, passwords, encryption, `[cluster]`.
    async fn same_nodes(
        &mut self,
        spec: &Spec,
        nodes: &[Node],
        agreed: &NodeSet,
    ) -> Result<Done, String> {
        self.switch(async |this: &Self, checkpoint, _| {
            let mut turn = this.turn(checkpoint);
            turn.spec.cluster = spec.cluster.clone();
            turn.spec.schema = spec.schema.clone();
            turn.spec.routes.clone_from(&spec.routes);
            turn.spec.file_routes.clone_from(&spec.file_routes);
            let warning = routes::effective(&mut turn.change.nodes, &mut turn.spec)?;
            if let Some(warning) = warning {
                tracing::warn!("{warning}");
            }
            for (name, record) in &mut turn.set().nodes {
                if let Some(agreed) = agreed.nodes.get(name) {
                    record.definition.clone_from(&agreed.definition);
                }
            }
            for node in &mut turn.spec.nodes {
                if let Some(new) = nodes.iter().find(|n| n.name == node.name) {
                    *node = new.clone();
                }
            }
            Ok(turn)
        })
        .await
    }

    /// Gives tables other routes: what the nodes have executed until now flows by the old ones.
    pub(crate) async fn set_routes(
        &mut self,
        new: &NewRoutes,
        rules: SchemaRules,
    ) -> Result<Done, String> {
        let patience = new.timeout_s.map_or(PATIENCE, Duration::from_secs);
        let deadline = Instant::now() + patience;
        for node in &self.spec.nodes {
            let config = pipeline::collector_config(&self.spec, node);
            self.drained(&config, deadline).await?;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        self.no_ddl_pending(left).await?;
        self.switch(async |this: &Self, checkpoint, at| {
            this.ddl_is_not_pending()?;
            let mut turn = this.turn(checkpoint);
            turn.spec.schema = rules;
            turn.spec.routes.clone_from(&new.rules);
            turn.set().routes = routes::record(&new.rules, &turn.spec.file_routes);
            let detail = routes::summary(&new.rules);
            turn.note(ChangeKind::Routes, "", detail, at);
            Ok(turn)
        })
        .await
    }

    /// What is to be stored of a node's tables when it joins.
    fn learned(
        &self,
        name: &str,
        tables: &NodeTables,
        checkpoint: &Checkpoint,
        at: Moment,
    ) -> Result<Vec<Write>, String> {
        let known = self.spec.nodes.iter().map(|node| node.name.as_str());
        let rules = self.spec.schema.clone();
        let state = (self.spec.known).state(rules, known.chain([name]), &self.set.renamed);
        let mut state = state.map_err(|e| format!("{e:#}"))?;
        state.learn(name, tables, pipeline::moment(checkpoint, at.gno));
        Ok(state.take_writes())
    }

    fn known(&self, name: &str) -> Result<&Node, String> {
        let known = self.spec.nodes.iter().find(|node| node.name == name);
        known.ok_or_else(|| format!("there is no node {name}"))
    }

    /// What the next pipeline is made from, if nothing changes.
    fn turn(&self, checkpoint: &Checkpoint) -> Turn {
        Turn {
            spec: self.spec.clone(),
            change: NodeSetChange {
                nodes: self.set.clone(),
                checkpoint: Some(checkpoint.clone()),
                ..NodeSetChange::default()
            },
        }
    }

    /// Settings, privileges and identity of a node's servers, compared with those of the others.
    async fn check_settings(&self, node: &Node, others: &[Node]) -> Result<(), String> {
        let mut all = others.to_vec();
        all.push(node.clone());
        let probe = pipeline::node_probe(&all, self.spec.server_id, Some(self.spec.uuid));
        let problems = settings_problems(&probe).await;
        let own = format!("{} (", node.name);
        let about = |name: &str| name == node.name || name.starts_with(&own);
        let lines: Vec<String> = (problems.iter())
            .filter(|p| about(&p.node))
            .map(ToString::to_string)
            .collect();
        match lines.is_empty() {
            true => Ok(()),
            false => Err(lines.join("\n")),
        }
    }

    /// Waits until every node has had every DDL statement that one has had.
    async fn no_ddl_pending(&self, patience: Duration) -> Result<(), String> {
        let mut waiting = self.spec.known.waiting();
        let none = waiting.wait_for(Vec::is_empty);
        // Said below, if there still are any.
        let _ = timeout(patience, none).await;
        self.ddl_is_not_pending()
    }

    fn ddl_is_not_pending(&self) -> Result<(), String> {
        let waiting = self.spec.known.waiting();
        let pending = waiting.borrow();
        match pending.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "some nodes have had these statements, and others have not: {}. Run them on all of them first",
                pending.join("; ")
            )),
        }
    }

    /// Waits, but not for long, until what the nodes have executed so far is merged: only then it can be told which statements
    /// some nodes have had and others have not.
    async fn settled(&self) {
        let deadline = Instant::now() + SETTLE;
        for node in &self.spec.nodes {
            let config = pipeline::collector_config(&self.spec, node);
            let drained = timeout(SETTLE, self.drained(&config, deadline)).await;
            if let Ok(Err(why)) = drained {
                tracing::debug!(why, "a node is not merged up to now");
            }
        }
    }

    /// Waits until everything that a node has executed is merged and durable.
    async fn drained(&self, config: &CollectorConfig, deadline: Instant) -> Result<(), String> {
        let progress = self.progress();
        let (executed, _) = gtid_sets(config).await.map_err(|e| {
            format!(
                "{} can not be asked what it still has: {e}. If it is lost, remove it with --force",
                config.name
            )
        })?;
        loop {
            let missing = left(&executed, progress.borrow().nodes.get(&config.name));
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let missing = missing.to_text_oneline();
                let waits = self.blocked().join("; ");
                return Err(format!(
                    "{} has transactions that are not merged: {missing}. The merge waits for: {waits}. Finish what is prepared \
                     (XA COMMIT or XA ROLLBACK), or give it more time with --timeout",
                    config.name
                ));
            }
            sleep(LOOK).await;
        }
    }
}

/// Why a node has not left.
enum Left {
    /// It has transactions that came in the last moment.
    Written(String),
    Not(String),
}

/// Where a node joins.
enum Place {
    /// Behind what it has executed at the moment.
    Current(Box<Joining>),
    /// Where the order says.
    Said(GtidSet),
}

impl Place {
    async fn find(node: &Node, config: CollectorConfig) -> Result<Self, String> {
        let text = |e: JoinError| e.to_string();
        let start = match &node.start {
            None | Some(config::Start::Current) => {
                let joining = Joining::connect(config).await.map_err(text)?;
                return Ok(Self::Current(Box::new(joining)));
            }
            Some(config::Start::Earliest) => Start::Earliest,
            Some(config::Start::Gtids(set)) => Start::Gtids(set.clone()),
        };
        let (executed, purged) = gtid_sets(&config).await.map_err(|e| e.to_string())?;
        let set = before_start(&start, &executed, &purged);
        check(&set, &executed, &purged).map_err(|e| e.to_string())?;
        Ok(Self::Said(set))
    }

    /// Reads the definitions of the node's tables, and looks whether there is a join point behind them.
    async fn learn(&mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        loop {
            let Self::Current(joining) = self else {
                return Ok(());
            };
            joining.learn().await.map_err(|e| e.to_string())?;
            match joining.point(patience).await {
                Ok(_) => return Ok(()),
                // Between two statements there is a moment.
                Err(JoinError::Node(CollectorError::TablesChange)) if Instant::now() < deadline => {
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// The node's tables where it joins, if they are known.
    fn tables(&self) -> Option<&NodeTables> {
        match self {
            Self::Current(joining) => joining.tables(),
            Self::Said(_) => None,
        }
    }

    async fn now(&mut self, patience: Duration) -> Result<JoinPoint, String> {
        match self {
            Self::Current(joining) => joining.point(patience).await.map_err(|e| e.to_string()),
            Self::Said(set) => Ok(JoinPoint {
                before: set.clone(),
                prepared: Vec::new(),
            }),
        }
    }
}

impl Turn {
    fn set(&mut self) -> &mut NodeSet {
        &mut self.change.nodes
    }

    fn state(&mut self) -> &mut Checkpoint {
        self.change.checkpoint.get_or_insert_default()
    }

    fn note(&mut self, what: ChangeKind, node: &str, detail: String, at: Moment) {
        let node = node.to_owned();
        self.set().note(NodeChange {
            what,
            node,
            detail,
            at,
        });
    }

    fn sorted(mut self) -> Self {
        self.spec.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }
}

fn minus(a: &GtidSet, b: &GtidSet) -> GtidSet {
    let mut rest = a.clone();
    rest.subtract(b);
    rest
}
