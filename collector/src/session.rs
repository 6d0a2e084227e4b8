//! One connection to a node, from choosing the server to its end.
//!
//! In: the servers of the node, what was received already. Out: batches of whole transactions, until the connection ends.
//!
//! A transaction that was half read when a connection ended is thrown away with its assembler and sent again by the node.
//! Back-pressure: while too many bytes are in flight the socket is not read. Latency: when the socket has nothing more, what is
//! there is handed on at once.

use std::sync::{Arc, PoisonError};

use tokio::{sync::watch, time::timeout};
use tributary_binlog::{BinlogFile, EventType, GtidSet, RawEvent, Rotate};
use tributary_flow::{NodeBatch, NodeItem, NodeStart, SourcePos, SourceTxn, TxnKind, limits};

use crate::{
    config::NodeUrl,
    core::{
        acks::XaAcks,
        assemble::Assembler,
        choice,
        chunk::Account,
        early::Early,
        place::Continuity,
        resume::{self, Start},
        settings::{self, Identity},
        trouble::TroubleKind,
    },
    definitions,
    dump::{DumpConn, DumpOptions},
    error::{CollectorError, ConnError, SettingsProblems},
    fences::Serving,
    observe::{self, Observer, Observing},
    source::SemiSync,
    sql::SideConn,
    status::NodeState,
    task::Task,
};

/// What is finished is handed on when so much of a transaction behind it has been read: a large one does not hold it up.
const HOLD_UP_BYTES: u64 = 1 << 20;

/// Why a session ended without an error.
pub(crate) enum Ended {
    /// The service stops, or the merger is gone.
    Stop,
}

/// What goes on beside the stream.
struct Beside {
    observing: Observing,
    /// The durable set, on a semi-synchronous connection.
    durable: Option<watch::Receiver<Arc<GtidSet>>>,
    /// The file that is being read, for acknowledgements.
    file: Option<BinlogFile>,
}

impl Task {
    /// One connection, from the checks to its end.
    pub(crate) async fn session(&mut self, failed_before: bool) -> Result<Ended, CollectorError> {
        if !failed_before {
            self.board.state(NodeState::Connecting);
        }
        let (current, url) = self.server().await?;
        self.board.server(url.to_string());
        let mut side = SideConn::connect(&url).await?;
        if !failed_before {
            self.board.state(NodeState::Checking);
        }
        let uuid = self.check_settings(&mut side).await?;
        if self.received.is_none() {
            self.begin(&mut side, &url).await?;
        }
        let end = self.check_sets(&mut side, &uuid).await?;
        let mut conn = DumpConn::connect(&url).await?;
        let streaming = conn.query("SELECT @@GLOBAL.server_uuid").await?;
        let streaming = streaming.into_iter().next().flatten().unwrap_or_default();
        if streaming != uuid {
            return Err(CollectorError::OtherServer {
                checked: uuid,
                streaming,
            });
        }
        self.begin_places(&url, &uuid, end);
        let options = DumpOptions {
            server_id: self.config.server_id,
            replica_uuid: Some(self.config.replica_uuid),
            heartbeat: self.config.heartbeat,
            blocking: true,
            semi_sync: self.semi_sync.is_some(),
        };
        let mut have = self.received.clone().unwrap_or_default();
        if let Some(early) = &self.early {
            have.subtract(early.gtids());
        }
        conn.dump_gtid(&options, &have).await?;
        let mut beside = self.beside(current, uuid, conn.is_semi_sync());
        let account = Arc::clone(&self.budget) as Arc<dyn Account>;
        let mut assembler = Assembler::with_spilling(account, self.config.spilling.clone());
        let result = self.stream(&mut conn, &mut assembler, &mut beside).await;
        // Whole transactions in front of a failure are good.
        let flushed = if result.is_err() {
            self.flush(&mut assembler).await
        } else {
            Ok(None)
        };
        self.board.settle(assembler.seen());
        self.board.paused(false);
        if let Some(ended) = flushed? {
            return Ok(ended);
        }
        result
    }

    /// The server to read: the only one, or the primary of the group.
    async fn server(&self) -> Result<(usize, NodeUrl), CollectorError> {
        let index = if self.config.is_group() {
            let seen = observe::probe_all(&self.config, None).await;
            let errants = self.errants.lock().unwrap_or_else(PoisonError::into_inner);
            choice::choose(&seen, self.received.as_ref(), &errants)?
        } else {
            0
        };
        match self.config.servers.get(index) {
            Some(url) => Ok((index, url.clone())),
            None => Err(ConnError::Closed.into()),
        }
    }

    /// Settings, privileges, identity; the node's UUID.
    async fn check_settings(&mut self, side: &mut SideConn) -> Result<String, CollectorError> {
        let config = &self.config;
        let facts = side.facts().await?;
        self.board.version(facts.get("version"));
        let (server_id, uuid) = (config.server_id, Some(config.replica_uuid));
        let ours = Identity {
            name: String::new(),
            server_id,
            uuid,
        };
        let problems = settings::check(&facts, &config.name, &ours, &config.identities.all());
        config.identities.put(facts.identity(&config.name));
        if problems.is_empty() {
            return Ok(facts.get("server_uuid").to_owned());
        }
        Err(CollectorError::Settings(SettingsProblems(problems)))
    }

    /// Decides where the node is read from at first, and asks for its tables there.
    async fn begin(&mut self, side: &mut SideConn, url: &NodeUrl) -> Result<(), CollectorError> {
        let sets = side.gtid_sets().await?;
        let before = resume::before_start(&self.config.start, &sets.executed, &sets.purged);
        resume::check(&before, &sets.executed, &sets.purged)?;
        // What lies behind the very beginning says everything itself. At the current end there may be tables even where nothing was
        // executed: they are older than the node's GTIDs.
        let current = self.config.start == Start::Current;
        let asks = current || !before.is_empty();
        let tables = match asks {
            true => definitions::behind(&before, (&self.config, url), side).await?,
            false => None,
        };
        let node = self.config.name.as_str();
        if tables.is_none() && current {
            return Err(CollectorError::TablesChange);
        }
        let gtids = before.to_text_oneline();
        let known = tables.as_ref().map(|t| t.tables.len());
        tracing::info!(
            node,
            before = gtids,
            tables = known,
            "the node is read for the first time"
        );
        if asks && tables.as_ref().is_none_or(|t| !t.complete) {
            tracing::warn!(
                node,
                "not all definitions of its tables are known at its start: they are taken from its statements, and with \
                 binlog_row_metadata=FULL from its rows. GRANT SELECT ON *.* lets the account see them"
            );
        }
        // How it takes names is needed in any case.
        let tables = match tables {
            Some(tables) => tables,
            None => side.names().await?,
        };
        let start = NodeStart {
            before: before.clone(),
            tables,
        };
        // Nobody there: the next batch will find that out.
        let _ = self.starts.send((self.config.node, start)).await;
        self.received = Some(before);
        Ok(())
    }

    /// Decides whether to go on is possible. Gives the end of the node's binlog; `None` when the node
    /// does not say (its disk is full) and is the one that was read before.
    async fn check_sets(
        &mut self,
        side: &mut SideConn,
        uuid: &str,
    ) -> Result<Option<SourcePos>, CollectorError> {
        let sets = side.gtid_sets().await?;
        self.early = None;
        if let Some(received) = &self.received
            && let Err(error) = resume::check(received, &sets.executed, &sets.purged)
        {
            if self.semi_sync.is_none() || !Early::may_be(received, &sets.executed) {
                return Err(error.into());
            }
            let end = side.binlog_end().await?;
            self.early = Some(Early::new(received, &sets.executed, end));
        }
        let end = match side.binlog_end().await {
            Ok(end) => end,
            Err(CollectorError::Conn(ConnError::Timeout { .. }))
                if self.places.server().is_none_or(|known| known == uuid) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if self.places.continuity(uuid, end) == Continuity::WentBack {
            let received = self.received.get_or_insert_default();
            resume::check_rewritten(received, &sets.executed, &sets.purged)?;
        }
        Ok(Some(end))
    }

    /// Positions and fences are this server's from now on.
    fn begin_places(&mut self, url: &NodeUrl, uuid: &str, end: Option<SourcePos>) {
        let continuity = end.map_or(Continuity::Same, |end| self.places.continuity(uuid, end));
        if continuity == Continuity::OtherServer {
            let before = self.places.server().unwrap_or_default();
            let text = format!(
                "server_uuid was {before}, is {uuid} ({url}); it has everything that was read before, and is read on from there"
            );
            self.board.notes().begin(TroubleKind::ServerChanged, text);
        }
        let goes_on = continuity == Continuity::Same;
        self.acks.reconnect(goes_on);
        if let Some(end) = end {
            self.places.begin(uuid, end);
        }
        self.serve.send_replace(Some(Serving {
            url: url.clone(),
            uuid: uuid.to_owned(),
            epoch: self.places.epoch(),
        }));
    }

    fn beside(&self, current: usize, uuid: String, semi_sync: bool) -> Beside {
        let observer = Observer {
            config: self.config.clone(),
            current,
            uuid,
            notes: self.board.notes().clone(),
            errants: Arc::clone(&self.errants),
        };
        let durable = self.semi_sync.as_ref().filter(|_| semi_sync);
        Beside {
            observing: observer.spawn(),
            durable: durable.map(|s| s.durable.clone()),
            file: None,
        }
    }

    async fn stream(
        &mut self,
        conn: &mut DumpConn,
        assembler: &mut Assembler,
        beside: &mut Beside,
    ) -> Result<Ended, CollectorError> {
        let mut streaming = false;
        loop {
            let enough = self.take_events(conn, assembler, beside)?;
            if !streaming && assembler.seen().events > 0 {
                streaming = true;
                tracing::info!(node = self.config.name, pos = %assembler.pos(), "reading the node's binlog");
                self.board.state(NodeState::Streaming);
            }
            if enough || !self.budget.has_room(assembler.open_pinned()) {
                if let Some(ended) = self.flush(assembler).await? {
                    return Ok(ended);
                }
                self.acknowledge(conn, beside).await?;
                self.wait_for_room(assembler, beside).await?;
                continue;
            }
            if conn.try_fill().await? {
                continue;
            }
            if let Some(ended) = self.flush(assembler).await? {
                return Ok(ended);
            }
            self.acknowledge(conn, beside).await?;
            self.wait_for_bytes(conn, beside).await?;
        }
    }

    /// Assembles what is in the receive buffer; `true` when there is enough to hand on before the buffer is empty.
    fn take_events(
        &mut self,
        conn: &mut DumpConn,
        assembler: &mut Assembler,
        beside: &mut Beside,
    ) -> Result<bool, CollectorError> {
        while let Some(event) = conn.poll_event()? {
            assembler.handle(&event)?;
            match event.header.event_type {
                EventType::HEARTBEAT | EventType::HEARTBEAT_V2 => self.board.heartbeat(),
                EventType::ROTATE => beside.rotate(&event),
                _ => {}
            }
            if conn.ack_wanted() {
                self.acks.asked(assembler.pos());
            }
            if assembler.pending_bytes() >= limits::CHUNK_BYTES
                || assembler.pending_items() >= limits::BATCH_ITEMS_MAX
                || (assembler.pending_items() > 0 && assembler.open_bytes() >= HOLD_UP_BYTES)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Hands on what is finished.
    async fn flush(&mut self, assembler: &mut Assembler) -> Result<Option<Ended>, CollectorError> {
        let mut items = assembler.take();
        self.note_receipts(&items);
        if let Some(early) = &mut self.early {
            early.take_out(&mut items);
            if early.is_done(assembler.pos())? {
                self.early = None;
            }
        }
        let mut duplicate = None;
        let received = self.received.get_or_insert_default();
        for (i, item) in items.iter().enumerate() {
            if let NodeItem::Txn(txn) = item
                && !received.add(txn.gtid)
            {
                let (gtid, pos) = (txn.gtid, txn.end);
                duplicate = Some((i, CollectorError::Duplicate { gtid, pos }));
                break;
            }
        }
        if let Some((i, _)) = &duplicate {
            items.truncate(*i);
        }
        self.board
            .seen(assembler.seen(), assembler.pos(), self.budget.used());
        self.board.refresh(received);
        self.note_places(&mut items, assembler.pos());
        if !items.is_empty() {
            let batch = NodeBatch {
                node: self.config.node,
                items,
            };
            if self.items.send(batch).await.is_err() {
                return Ok(Some(Ended::Stop));
            }
        }
        duplicate.map_or(Ok(None), |(_, error)| Err(error))
    }

    /// Keeps the places for acknowledgements.
    fn note_receipts(&mut self, items: &[NodeItem]) {
        let Some(semi_sync) = &self.semi_sync else {
            return;
        };
        for item in items {
            if let NodeItem::Txn(txn) = item {
                let gtid = (!counts_on_receipt(semi_sync, txn)).then_some(txn.gtid);
                self.acks.received(gtid, txn.end);
            }
        }
    }

    /// Puts the places into the present epoch.
    fn note_places(&mut self, items: &mut [NodeItem], pos: SourcePos) {
        if self.places.is_plain() {
            self.places.reached(pos);
            return;
        }
        for item in items {
            match item {
                NodeItem::Txn(txn) => txn.end = self.places.say(txn.end),
                NodeItem::Position(pos) => *pos = self.places.say(*pos),
            }
        }
    }

    /// Answers a semi-synchronous node, if something it waits for has become durable.
    async fn acknowledge(
        &mut self,
        conn: &mut DumpConn,
        beside: &mut Beside,
    ) -> Result<(), ConnError> {
        let (Some(durable), Some(file)) = (&mut beside.durable, &beside.file) else {
            return Ok(());
        };
        let set = Arc::clone(&durable.borrow_and_update());
        let Some(pos) = self.acks.due(&set) else {
            return Ok(());
        };
        let name = BinlogFile::new(file.base(), pos.file);
        conn.ack(name.as_str(), pos.offset).await?;
        self.board.acked(pos);
        Ok(())
    }

    async fn wait_for_room(
        &mut self,
        assembler: &Assembler,
        beside: &mut Beside,
    ) -> Result<(), CollectorError> {
        let open = assembler.open_pinned();
        if self.budget.has_room(open) {
            return Ok(());
        }
        self.board.paused(true);
        let waiting = self.acks.is_waiting();
        let ended = tokio::select! {
            () = self.budget.room(open) => None,
            () = changed(&mut beside.durable), if waiting => None,
            error = beside.observing.reason_to_end() => Some(error),
        };
        self.board.paused(false);
        ended.map_or(Ok(()), Err)
    }

    /// Waits for the socket, and makes the status visible meanwhile.
    async fn wait_for_bytes(
        &mut self,
        conn: &mut DumpConn,
        beside: &mut Beside,
    ) -> Result<(), CollectorError> {
        let waiting = self.acks.is_waiting();
        let filling = async {
            tokio::select! {
                result = conn.fill() => result.map_err(Into::into),
                () = changed(&mut beside.durable), if waiting => Ok(()),
                error = beside.observing.reason_to_end() => Err(error),
            }
        };
        tokio::pin!(filling);
        if self.board.is_dirty() {
            let due = self.board.due_in();
            if let Ok(result) = timeout(due, &mut filling).await {
                return result;
            }
            if let Some(received) = &self.received {
                self.board.received(received);
            }
        }
        filling.await
    }
}

impl Beside {
    /// Remembers the file, if the node waits for answers about it.
    fn rotate(&mut self, event: &RawEvent<'_>) {
        let name = Rotate::parse(event.body).ok().map(|r| r.file);
        let name = name.and_then(|n| std::str::from_utf8(n).ok());
        self.file = name.and_then(|n| BinlogFile::parse(n).ok());
    }
}

/// Waits until more has become durable.
async fn changed(set: &mut Option<watch::Receiver<Arc<GtidSet>>>) {
    if let Some(durable) = set
        && durable.changed().await.is_ok()
    {
        return;
    }
    // The service stops: nothing will become durable any more.
    *set = None;
    std::future::pending::<()>().await;
}

fn counts_on_receipt(semi_sync: &SemiSync, txn: &SourceTxn) -> bool {
    semi_sync.xa == XaAcks::OnReceipt
        && matches!(
            txn.kind,
            TxnKind::Prepare(_) | TxnKind::Commit(_) | TxnKind::Rollback(_)
        )
}
