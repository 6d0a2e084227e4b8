//! The dump connection: a node's events as it sends them.
//!
//! In: a GTID set or a file position. Out: checked [`RawEvent`]s, in place in the receive buffer.
//!
//! This is a reader of its own, not mysql_async's binlog stream: that one hands each event to
//! `mysql_common::binlog::events::Event::read`, which panics on truncated bodies, copies every event, clones the whole
//! format description event into it and does not verify CRCs; and it swallows a payload it cannot decompress. Here, blocks
//! of 256 KiB are read and packets are framed in place; an event is not copied or allocated for, and its CRC is always
//! verified.

use std::time::Duration;

use tributary_binlog::{ChecksumAlg, GtidSet, RawEvent, Sid};

use crate::{
    config::NodeUrl,
    conn::NodeConn,
    error::ConnError,
    wire::{WireError, commands, reply::Reply},
};

/// More often makes no sense.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

/// Bounds of the time to wait for a heartbeat before the connection counts as lost.
const SILENCE_MIN: Duration = Duration::from_secs(1);
const SILENCE_MAX: Duration = Duration::from_secs(3600);

/// A dump thread must survive as long as back-pressure may last; the node's default is 60 s.
const NET_WRITE_TIMEOUT_SECONDS: u32 = 24 * 3600;

/// How we register at the node.
#[derive(Debug, Clone)]
pub struct DumpOptions {
    /// Our `server_id` as a replica.
    pub server_id: u32,
    /// Our UUID as a replica; the node ends an older dump with the same one.
    pub replica_uuid: Option<Sid>,
    /// How often the node says that it is alive when it has nothing to send. Three of these without a byte are a
    /// [`ConnError::Timeout`].
    pub heartbeat: Duration,
    /// Whether the node waits for more at the end of its binlog, instead of ending the dump.
    pub blocking: bool,
    /// Whether to be a semi-synchronous replica, if the node has the plugin: its commits then wait for [`DumpConn::ack`].
    pub semi_sync: bool,
}

/// A semi-synchronous connection: what the node says in front of each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SemiSync {
    /// Nothing: it is an ordinary replica's connection.
    Off,
    /// Whether it wants an answer to the last event.
    On { asked: bool },
}

/// A connection that streams events.
pub struct DumpConn {
    conn: NodeConn,
    checksum: ChecksumAlg,
    /// Whether the current packet has been found but not handed out.
    peeked: bool,
    semi_sync: SemiSync,
}

impl DumpConn {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The node cannot be reached, or refuses us.
    pub async fn connect(url: &NodeUrl) -> Result<Self, ConnError> {
        Ok(Self {
            conn: NodeConn::connect(url).await?,
            checksum: ChecksumAlg::None,
            peeked: false,
            semi_sync: SemiSync::Off,
        })
    }

    /// The node's version, as it greets.
    pub fn version(&self) -> &str {
        self.conn.version()
    }

    /// Runs a statement before the dump begins; the first column of each row.
    ///
    /// # Errors
    /// The connection broke, or the node refuses the statement.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Option<String>>, ConnError> {
        let rows = self.conn.query(sql, "running a statement").await?;
        let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
        Ok(rows
            .into_iter()
            .map(|row| row.into_iter().next().flatten().map(text))
            .collect())
    }

    /// Asks for everything that is not in `have`.
    ///
    /// # Errors
    /// The connection broke. A refusal of the node (purged binlogs) comes instead of the first event.
    pub async fn dump_gtid(
        &mut self,
        options: &DumpOptions,
        have: &GtidSet,
    ) -> Result<(), ConnError> {
        self.register(options).await?;
        let command = commands::dump_gtid(options.server_id, have, options.blocking);
        self.conn.command(&command).await
    }

    /// Asks for `file` from `offset` on (4 = its start); an empty name is the oldest file.
    ///
    /// # Errors
    /// The connection broke. A refusal of the node (no such file) comes instead of the first event.
    pub async fn dump_file(
        &mut self,
        options: &DumpOptions,
        file: &str,
        offset: u32,
    ) -> Result<(), ConnError> {
        self.register(options).await?;
        let command = commands::dump_file(options.server_id, file, offset, options.blocking);
        self.conn.command(&command).await
    }

    /// Session variables and registration, as a replica does it.
    async fn register(&mut self, options: &DumpOptions) -> Result<(), ConnError> {
        // 0 would mean no heartbeats at all, and then silence would say nothing.
        let heartbeat = options.heartbeat.max(HEARTBEAT_MIN);
        let period = heartbeat
            .as_nanos()
            .min(u128::from(u32::MAX) * 1_000_000_000);
        let mut set = format!(
            "SET @master_heartbeat_period = {period}, @source_heartbeat_period = {period}, \
             @master_binlog_checksum = @@global.binlog_checksum, \
             @source_binlog_checksum = @@global.binlog_checksum, \
             @@session.net_write_timeout = {NET_WRITE_TIMEOUT_SECONDS}"
        );
        if let Some(uuid) = options.replica_uuid {
            set.push_str(&format!(
                ", @slave_uuid = '{uuid}', @replica_uuid = '{uuid}'"
            ));
        }
        if options.semi_sync && self.has_semi_sync().await? {
            set.push_str(", @rpl_semi_sync_replica = 1, @rpl_semi_sync_slave = 1");
            self.semi_sync = SemiSync::On { asked: false };
        }
        self.conn.query(&set, "setting up the dump").await?;
        let rows = self
            .conn
            .query("SELECT @source_binlog_checksum", "setting up the dump")
            .await?;
        let alg = rows
            .first()
            .and_then(|row| row.first())
            .and_then(|value| value.as_deref());
        // Holds for the rotate event in front of the first file; then the files tell.
        self.checksum = if alg == Some(b"CRC32") {
            ChecksumAlg::Crc32
        } else {
            ChecksumAlg::None
        };
        let register = commands::register_replica(options.server_id);
        self.conn
            .simple(&register, "registering as a replica")
            .await?;
        let silence = heartbeat.saturating_mul(3).clamp(SILENCE_MIN, SILENCE_MAX);
        self.conn.set_read_timeout(silence);
        Ok(())
    }

    /// Whether the plugin of a semi-synchronous source is there, by its name since 8.0.26 or before.
    async fn has_semi_sync(&mut self) -> Result<bool, ConnError> {
        const UNKNOWN_VARIABLE: u16 = 1193;
        for name in [
            "rpl_semi_sync_source_enabled",
            "rpl_semi_sync_master_enabled",
        ] {
            let sql = format!("SELECT @@GLOBAL.{name}");
            match self
                .conn
                .query(&sql, "asking for semi-synchronous replication")
                .await
            {
                Ok(_) => return Ok(true),
                Err(ConnError::Server { source, .. }) if source.code == UNKNOWN_VARIABLE => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Whether the node's commits wait for our answers.
    pub fn is_semi_sync(&self) -> bool {
        self.semi_sync != SemiSync::Off
    }

    /// Whether the node wants an answer to the event that was handed out last.
    #[inline]
    pub fn ack_wanted(&self) -> bool {
        self.semi_sync == SemiSync::On { asked: true }
    }

    /// Tells the node that everything up to `offset` of its binlog file `file` is safe.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn ack(&mut self, file: &str, offset: u64) -> Result<(), ConnError> {
        self.conn
            .aside(&commands::semi_sync_ack(file, offset))
            .await
    }

    /// The next event in the receive buffer; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The node ended the dump or sent an error; an event is damaged.
    #[inline(always)]
    pub fn poll_event(&mut self) -> Result<Option<RawEvent<'_>>, ConnError> {
        if !std::mem::take(&mut self.peeked) && !self.advance()? {
            return Ok(None);
        }
        match self.conn.packets.current() {
            [0x00, bytes @ ..] => {
                let bytes = match (&mut self.semi_sync, bytes) {
                    (SemiSync::Off, bytes) => bytes,
                    (SemiSync::On { asked }, [commands::SEMI_SYNC, flag, bytes @ ..]) => {
                        *asked = flag & 1 != 0;
                        bytes
                    }
                    (SemiSync::On { .. }, other) => return Err(no_semi_sync_header(other)),
                };
                let event = RawEvent::parse(bytes, self.checksum)?;
                self.checksum = event.next_alg(self.checksum)?;
                Ok(Some(event))
            }
            other => Err(end_of_dump(other)),
        }
    }

    #[inline(always)]
    fn advance(&mut self) -> Result<bool, WireError> {
        if self.semi_sync == (SemiSync::On { asked: true }) {
            // Behind an event that wants an answer, the node counts its packets as if it had got one.
            self.semi_sync = SemiSync::On { asked: false };
            self.conn.packets.expect_seq(1);
        }
        self.conn.packets.advance()
    }

    /// Takes bytes that have arrived already; `false` when there are none.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn try_fill(&mut self) -> Result<bool, ConnError> {
        if self.peeked {
            Ok(true)
        } else {
            self.conn.try_fill().await
        }
    }

    /// Waits for more bytes. May be cancelled without losing any.
    ///
    /// # Errors
    /// The connection broke, or three heartbeats have not come.
    pub async fn fill(&mut self) -> Result<(), ConnError> {
        if self.peeked {
            Ok(())
        } else {
            self.conn.fill("waiting for events").await
        }
    }

    /// Waits until there is at least one event. May be cancelled.
    ///
    /// # Errors
    /// The connection broke, or three heartbeats have not come.
    pub async fn next_block(&mut self) -> Result<Block<'_>, ConnError> {
        while !self.peeked {
            self.peeked = self.advance()?;
            self.fill().await?;
        }
        Ok(Block(self))
    }
}

/// What has arrived: one event or many.
pub struct Block<'a>(&'a mut DumpConn);

impl Block<'_> {
    /// The next event of the block, `None` at its end.
    ///
    /// # Errors
    /// As [`DumpConn::poll_event`].
    pub fn next_event(&mut self) -> Result<Option<RawEvent<'_>>, ConnError> {
        self.0.poll_event()
    }
}

#[cold]
fn no_semi_sync_header(packet: &[u8]) -> ConnError {
    WireError::Unexpected {
        first: packet.first().copied().unwrap_or(0),
        len: packet.len(),
        doing: "reading a semi-synchronous dump",
    }
    .into()
}

/// What a packet means that is no event.
#[cold]
fn end_of_dump(packet: &[u8]) -> ConnError {
    const DOING: &str = "reading the dump";
    match Reply::parse(packet) {
        Reply::Err(source) => ConnError::Server {
            doing: DOING,
            source,
        },
        Reply::Eof => ConnError::EndOfStream,
        Reply::Ok | Reply::Other(_) => {
            let first = packet.first().copied().unwrap_or(0);
            WireError::Unexpected {
                first,
                len: packet.len(),
                doing: DOING,
            }
            .into()
        }
    }
}
