//! A collector reading a real node, and what came out of it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tributary_binlog::GtidSet;
use tributary_collector::{
    Collector, CollectorConfig, CollectorHandle, NodeState, NodeStatus, NodeUrl, Ports, SemiSync,
    TlsMode, Trouble, TroubleKind,
};
use tributary_flow::{
    FenceAnswer, FenceRequest, NodeBatch, NodeId, NodeItem, NodeProgress, NodeStart, SourcePos,
    SourceTxn,
};
use tributary_tests::faults::FaultProxy;
use tributary_tests::mysqld::{Mysqld, MysqldOptions, REPL_ACCOUNT};

/// Long enough for a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) mysqld: Mysqld,
    _dir: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start(options: MysqldOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mysqld = Mysqld::start(options, dir.path()).await.unwrap();
        Self { mysqld, _dir: dir }
    }

    pub(crate) async fn sql(&self, statements: &str) {
        self.mysqld.sql(statements).await.unwrap();
    }

    pub(crate) async fn executed(&self) -> GtidSet {
        self.mysqld.gtid_executed().await.unwrap().parse().unwrap()
    }

    pub(crate) fn url(&self) -> NodeUrl {
        NodeUrl {
            host: "127.0.0.1".into(),
            port: self.mysqld.port(),
            user: REPL_ACCOUNT.0.into(),
            password: REPL_ACCOUNT.1.into(),
            tls: TlsMode::Preferred,
            ca: None,
        }
    }

    pub(crate) fn config(&self) -> CollectorConfig {
        config(self.mysqld.name(), vec![self.url()])
    }
}

/// A collector's configuration in a hurry.
pub(crate) fn config(name: &str, servers: Vec<NodeUrl>) -> CollectorConfig {
    let uuid = "00000000-1111-2222-3333-444444444444".parse().unwrap();
    CollectorConfig {
        heartbeat: Duration::from_millis(500),
        watch_every: Duration::from_millis(200),
        recheck_every: Duration::from_millis(500),
        ..CollectorConfig::new(NodeId(3), name, servers, 4294, uuid)
    }
}

pub(crate) struct Rig {
    pub(crate) handle: CollectorHandle,
    pub(crate) batches: mpsc::Receiver<NodeBatch>,
    pub(crate) starts: mpsc::Receiver<(NodeId, NodeStart)>,
    fences: mpsc::Sender<FenceRequest>,
    answers: mpsc::Receiver<FenceAnswer>,
    stop: CancellationToken,
    /// The furthest place the items have named.
    pub(crate) passed: SourcePos,
}

impl Rig {
    pub(crate) fn spawn(config: CollectorConfig, resume: Option<NodeProgress>) -> Self {
        Self::spawn_semi_sync(config, resume, None)
    }

    pub(crate) fn spawn_semi_sync(
        config: CollectorConfig,
        resume: Option<NodeProgress>,
        semi_sync: Option<SemiSync>,
    ) -> Self {
        let (items, batches) = mpsc::channel(256);
        let (starts_in, starts) = mpsc::channel(1);
        let (fences, fences_out) = mpsc::channel(4);
        let (fence_answers, answers) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let ports = Ports {
            items,
            starts: starts_in,
            fences: fences_out,
            fence_answers,
            semi_sync,
        };
        let handle = Collector::spawn(config, resume, ports, stop.clone());
        Self {
            handle,
            batches,
            starts,
            fences,
            answers,
            stop,
            passed: SourcePos::default(),
        }
    }

    fn note(&mut self, batch: NodeBatch, out: &mut Vec<SourceTxn>) {
        assert_eq!(batch.node, NodeId(3));
        assert!(!batch.items.is_empty());
        for item in batch.items {
            match item {
                NodeItem::Txn(txn) => {
                    self.passed = self.passed.max(txn.end);
                    out.push(*txn);
                }
                NodeItem::Position(pos) => self.passed = self.passed.max(pos),
            }
        }
    }

    /// Receives until every transaction of `wanted` is there; no GTID may come twice.
    pub(crate) async fn read_all(&mut self, have: &GtidSet, wanted: &GtidSet) -> Vec<SourceTxn> {
        let (mut seen, mut out) = (have.clone(), Vec::new());
        let deadline = Instant::now() + PATIENCE;
        while !wanted.is_subset(&seen) {
            let from = out.len();
            let batch = timeout_at(deadline, self.batches.recv()).await;
            let batch = batch.unwrap_or_else(|_| panic!("{:?}", self.status()));
            self.note(batch.expect("the collector runs"), &mut out);
            for txn in &out[from..] {
                assert!(seen.add(txn.gtid), "{} came twice", txn.gtid);
            }
        }
        out
    }

    /// Receives whatever comes within `time`.
    pub(crate) async fn read_for(&mut self, time: Duration) -> Vec<SourceTxn> {
        let (deadline, mut out) = (Instant::now() + time, Vec::new());
        while let Ok(Some(batch)) = timeout_at(deadline, self.batches.recv()).await {
            self.note(batch, &mut out);
        }
        out
    }

    pub(crate) fn status(&self) -> NodeStatus {
        self.handle.status().borrow().clone()
    }

    /// Waits for a state, and gives its text (the error of a failed one).
    pub(crate) async fn state(&self, wanted: &str) -> String {
        let mut status = self.handle.status();
        let found = timeout(PATIENCE, async {
            loop {
                let text = match &status.borrow_and_update().state {
                    NodeState::Connecting => "connecting".to_owned(),
                    NodeState::Checking => "checking".to_owned(),
                    NodeState::Streaming => "streaming".to_owned(),
                    NodeState::Retrying { error, .. } => format!("retrying: {error}"),
                    NodeState::Halted { error } => format!("halted: {error}"),
                    NodeState::Stopped => "stopped".to_owned(),
                };
                if text.starts_with(wanted) {
                    return text;
                }
                status.changed().await.unwrap();
            }
        });
        found
            .await
            .unwrap_or_else(|_| panic!("no {wanted}: {:?}", self.status()))
    }

    /// Waits for a trouble, in whatever state.
    pub(crate) async fn trouble(&self, kind: TroubleKind) -> Trouble {
        let mut status = self.handle.status();
        let found = timeout(PATIENCE, async {
            loop {
                let found = status.borrow_and_update().troubles.clone();
                if let Some(trouble) = found.into_iter().find(|t| t.kind == kind) {
                    return trouble;
                }
                status.changed().await.unwrap();
            }
        });
        found
            .await
            .unwrap_or_else(|_| panic!("no {kind}: {:?}", self.status()))
    }

    /// Waits until the node is read and has no trouble.
    pub(crate) async fn sound(&self) {
        let mut status = self.handle.status();
        let sound = timeout(PATIENCE * 2, async {
            loop {
                let now = status.borrow_and_update().clone();
                if matches!(now.state, NodeState::Streaming) && now.troubles.is_empty() {
                    return;
                }
                status.changed().await.unwrap();
            }
        });
        sound
            .await
            .unwrap_or_else(|_| panic!("not sound: {:?}", self.status()));
    }

    /// What ended the last connection.
    pub(crate) async fn last_failure(&self, kind: TroubleKind) {
        until("a failure", || {
            self.status().last_failure.is_some_and(|t| t.kind == kind)
        })
        .await;
    }

    /// Asks for a fence.
    pub(crate) async fn fence(&mut self, id: u64) -> Option<SourcePos> {
        self.fences.send(FenceRequest { id }).await.unwrap();
        let answer = timeout(PATIENCE, self.answers.recv())
            .await
            .expect("an answer")
            .unwrap();
        assert_eq!((answer.node, answer.id), (NodeId(3), id));
        answer.pos
    }

    /// Receives until the stream has passed a place.
    pub(crate) async fn pass(&mut self, pos: SourcePos) -> Vec<SourceTxn> {
        let deadline = Instant::now() + PATIENCE;
        let mut out = Vec::new();
        while self.passed < pos {
            let batch = timeout_at(deadline, self.batches.recv())
                .await
                .expect("the fence is passed");
            self.note(batch.unwrap(), &mut out);
        }
        out
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        drop(self.batches);
        let status = self.handle.status();
        timeout(PATIENCE, self.handle.join())
            .await
            .expect("it stops");
        assert!(matches!(status.borrow().state, NodeState::Stopped));
    }
}

/// The same account over the proxy, in clear text.
pub(crate) fn over(proxy: &FaultProxy, url: NodeUrl) -> NodeUrl {
    NodeUrl {
        port: proxy.port(),
        tls: TlsMode::Disabled,
        ..url
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}
