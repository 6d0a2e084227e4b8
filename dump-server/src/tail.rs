//! Streams the binlog to one client: from the files while it catches up, then along the durable end.
//!
//! In: a dump request and the socket. Out: packets, one write per block. Reading, checking and framing a block is one step
//! without waiting ([`Job::fill`]); what goes into the stream is decided by `core::dump`.
//!
//! Progress: the stream's offset is the only position; a block is read there, its whole events are framed, the offset
//! moves. Following: the end is looked at *before* reading, so a commit between the read and the wait wakes the wait; there
//! is no polling, no gap and no repeat. A client that does not read holds the bytes that wait for it, a block and a little more, and
//! nothing else.

use std::time::Duration;

use tokio::io::{AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};
use tributary_flow::limits::DUMP_READ_BYTES;
use tributary_store::{DurableEnd, FileReader, GlobalLog, ReadError};

use crate::core::dump::{DumpRequest, DumpStart, DumpStream, Fed, LargeEvent, plan};
use crate::counters::{add, bump};
use crate::link::{ConnectionEnd, Inlet, Outlet, Socket, overhear};
use crate::registry::{Client, DumpIdentity, KillCause};
use crate::server::Server;
use crate::wire::errors::{self, SqlError, dump_text};
use crate::wire::packet::PacketWriter;
use crate::wire::reply::put_err;
use crate::wire::semisync::{ACK_BYTES_MAX, Ack};

/// Blocks handled in one step when nothing of them is sent: KILL and heartbeats are looked at in between.
const BLOCKS_PER_STEP: usize = 64;

/// A write that takes longer waits for a client that does not read: the buffer for the next block is let go meanwhile.
const SLOW_WRITE: Duration = Duration::from_millis(200);

/// Time a killed dump gets to write its last packet.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A connection taken apart.
pub(crate) type Halves = (Inlet, ReadHalf<Socket>, Outlet<WriteHalf<Socket>>);

/// Serves a dump until the client goes, an error ends it, or everything is sent to a client that does not wait.
pub(crate) async fn dump(
    server: &Server,
    client: &Client,
    (inlet, mut from_client, mut to_client): Halves,
    request: &DumpRequest,
    write_limit: Duration,
) -> ConnectionEnd {
    bump(&server.counters.dumps);
    let identity = DumpIdentity {
        server_id: request.command.server_id,
        uuid: request.options.uuid.clone(),
    };
    for ended in server.registry.start_dump(client, &identity) {
        warn!(
            server_id = identity.server_id,
            uuid = identity.uuid,
            connection = ended,
            "the same replica connected again: its older dump is ended"
        );
    }
    if request.options.semi_sync {
        client.semi_sync();
    }
    let sending = async {
        let mut out = Vec::new();
        let job = match Job::start(server, request) {
            Ok(job) => job,
            Err(error) => {
                info!(code = error.code, reason = error.message, "dump refused");
                server.counters.error(error.code);
                PacketWriter::new(&mut out, 1).packet(|o| put_err(&error, o));
                let sent = to_client.send(&server.counters, write_limit, &out).await;
                return sent.err().unwrap_or(ConnectionEnd::Protocol);
            }
        };
        let tail = Tail {
            server,
            client,
            write_limit,
            request,
        };
        tail.run(job, &mut to_client).await
    };
    let killed_too_long = async {
        client.killed().cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    let end = tokio::select! {
        end = sending => end,
        // A dumping client may write (pings, acknowledgements); nothing of it is answered.
        end = overhear(inlet, &mut from_client, ACK_BYTES_MAX, |packet| {
            if let Some(ack) = Ack::parse(&packet.payload).filter(|_| request.options.semi_sync) {
                bump(&server.counters.acknowledgements);
                client.acknowledged(ack);
            }
        }) => end,
        () = killed_too_long => ConnectionEnd::Killed,
    };
    to_client.close().await;
    end
}

/// What a step came to.
enum Filled {
    /// Something may be in the buffer; go on at once.
    More,
    /// Everything durable was handled.
    AtEnd,
    /// The next event is larger than a block.
    Large(LargeEvent),
}

/// One client's stream and its buffers. Moves to a blocking thread and back.
struct Job {
    stream: DumpStream,
    reader: FileReader,
    log: GlobalLog,
    block: Vec<u8>,
    out: Vec<u8>,
}

impl Job {
    fn start(server: &Server, request: &DumpRequest) -> Result<Self, SqlError> {
        let log = server.log.clone();
        let start: DumpStart = plan(request, &log)?;
        let reader = log.open(&start.file.file).map_err(|e| unreadable(&e))?;
        let mut stream = DumpStream::new(request, &start, server.config.server_id);
        info!(
            file = %start.file.file,
            position = start.position,
            server_id = request.command.server_id,
            uuid = request.options.uuid,
            by_gtid = start.skip.is_some(),
            "dump started"
        );
        let mut out = Vec::new();
        stream.begin_file(start.file.file, start.position, &mut out);
        Ok(Self {
            stream,
            reader,
            log,
            block: Vec::new(),
            out,
        })
    }

    /// True when what there is to read was just written, and so is in memory.
    fn is_near_end(&self) -> bool {
        let left = self.reader.end().saturating_sub(self.stream.offset());
        self.reader.is_active() && left <= DUMP_READ_BYTES as u64
    }

    /// Reads, checks and frames until the buffer is worth a write or the end is reached.
    fn fill(&mut self) -> Result<Filled, SqlError> {
        for _ in 0..BLOCKS_PER_STEP {
            // Asked before reading: a file that is finished in between is read again.
            let finished = !self.reader.is_active();
            let offset = self.stream.offset();
            self.make_room(offset);
            let n = self
                .reader
                .read_at(offset, &mut self.block)
                .map_err(|e| self.cannot_read(&e))?;
            if n == 0 {
                if !(finished && self.next_file()?) {
                    self.stream.at_end(&mut self.out);
                    return Ok(Filled::AtEnd);
                }
                continue;
            }
            let block = self.block.get(..n).unwrap_or_default();
            self.stream.ends_at(self.reader.end());
            match self.stream.feed(block, &mut self.out)? {
                Fed::Consumed => {}
                Fed::Needs(_) if n < self.block.len() => {
                    return Err(self.stream.torn(offset + n as u64));
                }
                Fed::Needs(_) => {
                    if let Some(event) = self.stream.large(block, self.reader.end())? {
                        return Ok(Filled::Large(event));
                    }
                }
            }
            if self.out.len() >= DUMP_READ_BYTES || self.stream.must_write() {
                break;
            }
        }
        Ok(Filled::More)
    }

    /// A block as large as there is something to read, up to the limit.
    fn make_room(&mut self, offset: u64) {
        let left = self.reader.end().saturating_sub(offset);
        let want = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(DUMP_READ_BYTES);
        if self.block.len() < want {
            self.block.resize(want, 0);
        }
    }

    /// Nothing to do for now: a client at rest holds no buffers.
    fn rest(&mut self) {
        self.block = Vec::new();
        self.out = Vec::new();
    }

    /// Goes on to the file behind a finished one; false when this is the last.
    fn next_file(&mut self) -> Result<bool, SqlError> {
        let Some(next) = self.log.next_file(self.stream.file()) else {
            if self.log.find(self.stream.file().as_str()).is_some() {
                return Ok(false);
            }
            // It was purged under a client that lagged that far.
            return Err(self.stream.fatal(dump_text::UNKNOWN_FILE));
        };
        self.reader = self
            .log
            .open(&next.file)
            .map_err(|e| self.cannot_read(&e))?;
        self.stream.begin_file(next.file, 4, &mut self.out);
        Ok(true)
    }

    /// First pass over a large event.
    fn check_large(&mut self, event: &mut LargeEvent) -> Result<(), SqlError> {
        let mut at = event.offset;
        let end = event.offset + event.size;
        while at < end {
            let n = self.read_piece(at, end)?;
            event.check(self.block.get(..n).unwrap_or_default());
            at += n as u64;
        }
        self.stream.large_checked(event, &mut self.out)
    }

    /// Second pass: frames one more piece; returns where the next one starts.
    fn put_large(&mut self, event: &mut LargeEvent, at: u64) -> Result<u64, SqlError> {
        let n = self.read_piece(at, event.offset + event.size)?;
        let piece = self.block.get(..n).unwrap_or_default();
        event.put(piece, self.stream.seq_mut(), &mut self.out);
        Ok(at + n as u64)
    }

    fn read_piece(&mut self, at: u64, end: u64) -> Result<usize, SqlError> {
        // A client that read slowly may have cost the buffer.
        self.make_room(at);
        let want = usize::try_from(end - at)
            .unwrap_or(usize::MAX)
            .min(self.block.len());
        let piece = self.block.get_mut(..want).unwrap_or_default();
        let n = self.reader.read_at(at, piece).map_err(|e| unreadable(&e))?;
        if n == 0 {
            Err(self.stream.torn(at))
        } else {
            Ok(n)
        }
    }

    fn cannot_read(&self, error: &ReadError) -> SqlError {
        self.stream.fatal(&why_unreadable(error))
    }
}

fn unreadable(error: &ReadError) -> SqlError {
    errors::dump_fatal(why_unreadable(error))
}

/// Stands between MySQL's text and what is wrong with the head of a file.
const HEAD_DAMAGED: &str = ": the head of ";

/// What a client is told. A damaged head is named with file and position; a file that is gone is MySQL's unknown file.
fn why_unreadable(error: &ReadError) -> String {
    if matches!(
        error,
        ReadError::Purged { .. } | ReadError::NoSuchFile { .. }
    ) {
        return dump_text::UNKNOWN_FILE.to_owned();
    }
    tracing::error!(%error, "a binlog file cannot be read");
    match error {
        ReadError::Damaged { .. } => format!("{}{HEAD_DAMAGED}{error}", dump_text::IO),
        _ => dump_text::IO.to_owned(),
    }
}

/// The loop of one dump.
struct Tail<'a> {
    server: &'a Server,
    client: &'a Client,
    write_limit: Duration,
    request: &'a DumpRequest,
}

impl Tail<'_> {
    async fn run<W: AsyncWrite + Unpin>(
        &self,
        mut job: Job,
        to_client: &mut Outlet<W>,
    ) -> ConnectionEnd {
        let mut durable = job.log.subscribe();
        let mut last_sent = Instant::now();
        loop {
            if self.client.killed().is_cancelled() {
                return self.killed(job, to_client).await;
            }
            // What is durable now is covered by the read below; only later commits wake the wait.
            durable.borrow_and_update();
            let events = job.stream.events();
            let filled;
            (job, filled) = step(job, Job::fill).await;
            let filled = match filled {
                Ok(filled) => filled,
                Err(error) => return self.failed(job, to_client, &error).await,
            };
            let at_end = matches!(filled, Filled::AtEnd);
            if let Filled::Large(event) = filled {
                match self.large(job, event, to_client).await {
                    Ok(done) => job = done,
                    Err(end) => return end,
                }
            }
            let due = self
                .request
                .options
                .heartbeat
                .is_some_and(|p| last_sent.elapsed() >= p);
            if job.out.is_empty() && due {
                job.stream.heartbeat(&mut job.out);
            }
            if at_end && self.request.non_blocking() {
                job.stream.eof(&mut job.out);
            }
            if !job.out.is_empty() {
                last_sent = Instant::now();
            }
            if let Err(end) = self.write(&mut job, to_client).await {
                return end;
            }
            add(
                &self.server.counters.events_sent,
                job.stream.events() - events,
            );
            self.client
                .sent(job.stream.file(), job.stream.offset(), at_end);
            if at_end && self.request.non_blocking() {
                return ConnectionEnd::Protocol;
            }
            if at_end {
                job.rest();
                self.wait(&mut durable, last_sent).await;
            }
        }
    }

    /// Waits for a commit, the time of a heartbeat, or a KILL.
    async fn wait(&self, durable: &mut watch::Receiver<DurableEnd>, last_sent: Instant) {
        let heartbeat = async {
            match self.request.options.heartbeat {
                Some(period) => tokio::time::sleep_until(last_sent + period).await,
                None => std::future::pending().await,
            }
        };
        let commit = async {
            if durable.changed().await.is_err() {
                // Nobody writes any more: this log is complete.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = commit => {}
            () = heartbeat => {}
            () = self.client.killed().cancelled() => {}
        }
    }

    async fn write<W: AsyncWrite + Unpin>(
        &self,
        job: &mut Job,
        to_client: &mut Outlet<W>,
    ) -> Result<(), ConnectionEnd> {
        let sent = self.write_piece(job, to_client).await;
        if job.stream.written() {
            to_client.restart_count();
        }
        sent
    }

    async fn write_piece<W: AsyncWrite + Unpin>(
        &self,
        job: &mut Job,
        to_client: &mut Outlet<W>,
    ) -> Result<(), ConnectionEnd> {
        let counters = &self.server.counters;
        let Job { block, out, .. } = job;
        let sent = {
            let send = to_client.send(counters, self.write_limit, out);
            tokio::pin!(send);
            match tokio::time::timeout(SLOW_WRITE, &mut send).await {
                Ok(sent) => sent,
                Err(_) => {
                    *block = Vec::new();
                    send.await
                }
            }
        };
        job.out.clear();
        // One event near the block size can have grown it; the next blocks do not need that.
        job.out.shrink_to(2 * DUMP_READ_BYTES);
        sent
    }

    /// Sends an event larger than a block, in two passes over the file.
    async fn large<W: AsyncWrite + Unpin>(
        &self,
        mut job: Job,
        mut event: LargeEvent,
        to_client: &mut Outlet<W>,
    ) -> Result<Job, ConnectionEnd> {
        let checked;
        (job, (event, checked)) = step(job, move |job| {
            let checked = job.check_large(&mut event);
            (event, checked)
        })
        .await;
        if let Err(error) = checked {
            return Err(self.failed(job, to_client, &error).await);
        }
        let mut at = event.offset;
        while at < event.offset + event.size {
            let put;
            (job, (event, put)) = step(job, move |job| {
                let put = job.put_large(&mut event, at);
                (event, put)
            })
            .await;
            at = match put {
                Ok(next) => next,
                // Half of the event is sent: no error packet can follow it.
                Err(_) => return Err(ConnectionEnd::Protocol),
            };
            self.write_piece(&mut job, to_client).await?;
            if self.client.killed().is_cancelled() {
                return Err(ConnectionEnd::Killed);
            }
        }
        self.write(&mut job, to_client).await?;
        Ok(job)
    }

    async fn failed<W: AsyncWrite + Unpin>(
        &self,
        mut job: Job,
        to_client: &mut Outlet<W>,
        error: &SqlError,
    ) -> ConnectionEnd {
        let (code, reason) = (error.code, error.message.as_str());
        if self.is_damage(&job, reason) {
            tracing::error!(code, reason, "the dump ends: a binlog file is damaged");
            let what = reason.split(';').next().unwrap_or(reason);
            // A file whose head is damaged is known to the log already, and is not the stream's file yet.
            if !what.contains(HEAD_DAMAGED) {
                let (file, offset) = (job.stream.file(), job.stream.offset());
                self.server.log.report_damage(file, offset, what);
            }
        } else {
            warn!(code, reason, "the dump ends");
        }
        self.server.counters.error(error.code);
        job.stream.error(error, &mut job.out);
        match self.write(&mut job, to_client).await {
            Ok(()) => ConnectionEnd::Protocol,
            Err(end) => end,
        }
    }

    /// Whether a person must look. A client that asked for a position between two events finds the same errors, but in its
    /// first event.
    fn is_damage(&self, job: &Job, reason: &str) -> bool {
        let texts = [
            dump_text::BAD_CHECKSUM,
            dump_text::TRUNCATED,
            dump_text::BOGUS,
            dump_text::IO,
        ];
        let asked_for = self.request.command.position > 4 && job.stream.events() <= 1;
        !asked_for && texts.iter().any(|text| reason.starts_with(text))
    }

    /// A replica that connected again is told so; anybody else who is killed finds the connection closed.
    async fn killed<W: AsyncWrite + Unpin>(
        &self,
        mut job: Job,
        to_client: &mut Outlet<W>,
    ) -> ConnectionEnd {
        if self.client.cause() == Some(KillCause::Duplicate) {
            let error = job.stream.fatal(dump_text::DUPLICATE);
            self.server.counters.error(error.code);
            job.stream.error(&error, &mut job.out);
            if let Err(end) = self.write(&mut job, to_client).await {
                return end;
            }
        }
        ConnectionEnd::Killed
    }
}

/// Runs a step of file work: here when the bytes were just written, else on a blocking thread, where a slow disk
/// holds up nobody.
async fn step<R: Send + 'static>(
    mut job: Job,
    work: impl FnOnce(&mut Job) -> R + Send + 'static,
) -> (Job, R) {
    if job.is_near_end() {
        let result = work(&mut job);
        return (job, result);
    }
    let done = tokio::task::spawn_blocking(move || {
        let result = work(&mut job);
        (job, result)
    });
    done.await
        .expect("reading and framing a block does not panic, and the runtime outlives its tasks")
}
