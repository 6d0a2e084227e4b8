//! Looks at a node while it is read. In: its address and those of its group, again and again. Out: troubles in the status; the
//! end of the session, when what is being read is not the node's history any more.
//!
//! Each look is a new connection, so that a changed password or a full connection table shows before it is needed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    config::{CollectorConfig, NodeUrl},
    core::{
        choice::{self, ChoiceError, Errants, Member, Seen},
        settings::{self, Identity},
        trouble::TroubleKind,
        watch::{Finding, Look, Watcher},
    },
    error::{CollectorError, ConnError},
    sql::SideConn,
    status::Notes,
};

/// How long a look waits for each answer.
const ANSWER: Duration = Duration::from_secs(4);
/// After so many pauses between two looks, what cannot be seen to end counts as over.
const LASTING_ROUNDS: u32 = 12;
/// Between two looks at a group: a primary that has handed over and goes on as a replica ends no stream.
const GROUP_LOOK: Duration = Duration::from_secs(2);
/// What a new stream does not end by itself.
pub(crate) const LASTING: [TroubleKind; 2] = [TroubleKind::DumpStolen, TroubleKind::ServerChanged];

/// What is looked at.
pub(crate) struct Observer {
    pub(crate) config: CollectorConfig,
    /// The place in the list of servers of the one that is read, and its UUID.
    pub(crate) current: usize,
    pub(crate) uuid: String,
    pub(crate) notes: Notes,
    pub(crate) errants: Arc<Mutex<Errants>>,
}

/// A running observer; dropping it ends it.
pub(crate) struct Observing {
    found: Option<oneshot::Receiver<CollectorError>>,
    _task: AbortOnDropHandle<()>,
}

impl Observing {
    /// Waits until the session must end.
    pub(crate) async fn reason_to_end(&mut self) -> CollectorError {
        if let Some(found) = &mut self.found
            && let Ok(error) = found.await
        {
            return error;
        }
        self.found = None;
        std::future::pending().await
    }
}

impl Observer {
    pub(crate) fn spawn(self) -> Observing {
        let (tell, found) = oneshot::channel();
        let task = tokio::spawn(async move {
            let error = self.run().await;
            // The session may have ended by itself.
            let _ = tell.send(error);
        });
        Observing {
            found: Some(found),
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Looks until there is a reason to end the session.
    async fn run(self) -> CollectorError {
        let mut watcher = Watcher::new(self.config.slow_answer);
        let mut failed = None;
        let mut raw = Errants::new();
        let began = Instant::now();
        let mut lasting = LASTING.as_slice();
        let pause = match self.config.is_group() {
            true => self.config.watch_every.min(GROUP_LOOK),
            false => self.config.watch_every,
        };
        loop {
            match self.look().await {
                Ok(mut look) => {
                    if let Some(kind) = failed.take() {
                        self.notes.end(kind);
                    }
                    let now = std::mem::take(&mut look.review.errants);
                    look.review.errants = choice::confirmed(&raw, &now);
                    raw = now;
                    self.remember(&look.review.errants);
                    for finding in watcher.handle(&look) {
                        if let Some(error) = self.act(finding) {
                            return error;
                        }
                    }
                }
                Err(error @ CollectorError::OtherServer { .. }) => return error,
                Err(error) => self.cannot_look(&error, &mut failed),
            }
            if began.elapsed() >= self.config.watch_every * (LASTING_ROUNDS - 1) {
                let over = std::mem::take(&mut lasting);
                over.iter().for_each(|kind| self.notes.end(*kind));
            }
            sleep(pause).await;
        }
    }

    fn act(&self, finding: Finding) -> Option<CollectorError> {
        match finding {
            Finding::Begins(kind, text) => self.notes.begin(kind, text),
            Finding::Ends(kind) => self.notes.end(kind),
            Finding::WentBack { lost } => return Some(CollectorError::WentBack { lost }),
            Finding::Demoted => {
                let server = self.name();
                return Some(ChoiceError::Demoted { server }.into());
            }
        }
        None
    }

    fn cannot_look(&self, error: &CollectorError, failed: &mut Option<TroubleKind>) {
        // The stream goes on, so it does not hang.
        let kind = match error.trouble() {
            TroubleKind::NodeHung => TroubleKind::NodeSlow,
            kind => kind,
        };
        if let Some(before) = failed.replace(kind).filter(|before| *before != kind) {
            self.notes.end(before);
        }
        let text = format!("its binlog is still being read, but a new connection fails: {error}");
        self.notes.begin(kind, text);
    }

    fn name(&self) -> String {
        let url = self.config.servers.get(self.current);
        url.map(ToString::to_string).unwrap_or_default()
    }

    /// Keeps the errant transactions that the present look has confirmed, for the day of a failover.
    fn remember(&self, confirmed: &Errants) {
        let mut errants = self.errants.lock().unwrap_or_else(PoisonError::into_inner);
        errants.clone_from(confirmed);
    }

    async fn look(&self) -> Result<Look, CollectorError> {
        let mut seen = Vec::new();
        if self.config.is_group() {
            // Before the one that is read: what they replicated from it is on it when it is asked.
            seen = probe_all(&self.config, Some(self.current)).await;
        }
        let Some(url) = self.config.servers.get(self.current) else {
            return Err(ConnError::Closed.into());
        };
        let (look, current) = self.look_at(url).await.map_or_else(
            |error| match &error {
                // Another server may be the primary by now.
                CollectorError::Conn(_) if self.config.is_group() => {
                    Ok((Look::default(), Err(error)))
                }
                _ => Err(error),
            },
            |(look, member)| Ok((look, Ok(member))),
        )?;
        let error = current.as_ref().err().map(ToString::to_string);
        let state = match (&current, error) {
            (Ok(Some(member)), _) => Some(Seen::Member(member.clone())),
            (_, Some(error)) => Some(Seen::Unreachable {
                name: url.to_string(),
                error,
            }),
            _ => None,
        };
        if let Some(state) = state {
            seen.insert(self.current.min(seen.len()), state);
        }
        let review = choice::review(&seen, self.current);
        match current {
            Err(error) if !review.demoted => Err(error),
            _ => Ok(Look { review, ..look }),
        }
    }

    async fn look_at(&self, url: &NodeUrl) -> Result<(Look, Option<Member>), CollectorError> {
        let mut side = SideConn::connect(url).await?;
        side.set_timeout(ANSWER);
        let (clock, round_trip) = clock(&mut side).await?;
        let facts = side.facts().await?;
        let uuid = facts.get("server_uuid");
        if uuid != self.uuid {
            return Err(CollectorError::OtherServer {
                checked: self.uuid.clone(),
                streaming: uuid.to_owned(),
            });
        }
        let ours = Identity {
            name: String::new(),
            server_id: self.config.server_id,
            uuid: Some(self.config.replica_uuid),
        };
        let others = self.config.identities.all();
        let problems = settings::check(&facts, &self.config.name, &ours, &others);
        let member = if self.config.is_group() {
            Some(side.member(url.to_string()).await?)
        } else {
            None
        };
        let executed = side.gtid_sets().await?.executed;
        let end = match side.binlog_end().await {
            Ok(end) => Some(end),
            Err(CollectorError::Conn(ConnError::Timeout { .. })) => None,
            Err(error) => return Err(error),
        };
        side.quit().await;
        let look = Look {
            executed,
            end,
            clock,
            round_trip,
            problems,
            ..Look::default()
        };
        Ok((look, member))
    }
}

/// The node's clock minus ours in µs, by the quickest of three answers, and how long that took.
async fn clock(side: &mut SideConn) -> Result<(i64, Duration), CollectorError> {
    let mut best: Option<(i64, Duration)> = None;
    for _ in 0..3 {
        let (began, now) = (Instant::now(), SystemTime::now());
        let theirs = side.clock().await?;
        let took = began.elapsed();
        let ours = now.duration_since(UNIX_EPOCH).unwrap_or_default() + took / 2;
        let ours = i64::try_from(ours.as_micros()).unwrap_or(i64::MAX);
        if best.is_none_or(|(_, quickest)| took < quickest) {
            best = Some((theirs.saturating_sub(ours), took));
        }
    }
    Ok(best.unwrap_or_default())
}

/// Asks all servers of a group at once, but for one; in their order.
pub(crate) async fn probe_all(config: &CollectorConfig, without: Option<usize>) -> Vec<Seen> {
    let mut asking = JoinSet::new();
    for (i, url) in config.servers.iter().enumerate() {
        if Some(i) != without {
            let (url, limit) = (url.clone(), config.probe_timeout);
            asking.spawn(async move { (i, probe(&url, limit).await) });
        }
    }
    let mut answers = asking.join_all().await;
    answers.sort_by_key(|(i, _)| *i);
    answers.into_iter().map(|(_, seen)| seen).collect()
}

async fn probe(url: &NodeUrl, limit: Duration) -> Seen {
    let asking = async {
        let mut side = SideConn::connect(url).await?;
        let member = side.member(url.to_string()).await?;
        side.quit().await;
        Ok::<Member, CollectorError>(member)
    };
    let error = match timeout(limit, asking).await {
        Ok(Ok(member)) => return Seen::Member(member),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} ms", limit.as_millis()),
    };
    Seen::Unreachable {
        name: url.to_string(),
        error,
    }
}
