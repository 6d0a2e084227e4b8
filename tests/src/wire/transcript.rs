//! The record of what was said.
//!
//! In: what [`conversation`](super::conversation) understood. Out: plain data, and a text for people.

use std::fmt;

use tributary_binlog::EventType;

/// Every connection that went through a proxy, in the order they were made.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    /// The connections.
    pub conversations: Vec<Conversation>,
}

impl Transcript {
    /// Every exchange of every connection.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.conversations.iter().flat_map(|c| &c.exchanges)
    }

    /// Every dump of every connection.
    pub fn streams(&self) -> impl Iterator<Item = (&DumpAsked, &Stream)> {
        self.exchanges()
            .filter_map(|e| match (&e.asked, e.replies.first()) {
                (Asked::Dump(asked), Some(Reply::Stream(stream))) => Some((asked, stream)),
                _ => None,
            })
    }

    /// True when a statement with this text was asked.
    pub fn asked(&self, sql: &str) -> bool {
        self.exchanges().any(|e| e.asked.sql() == Some(sql))
    }
}

/// One connection.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// What the server said first.
    pub greeting: Greeting,
    /// Who the client said it is.
    pub login: Login,
    /// The steps of authentication behind that, by their names.
    pub auth: Vec<String>,
    /// Commands and their answers.
    pub exchanges: Vec<Exchange>,
}

/// The server's first packet.
#[derive(Debug, Clone, Default)]
pub struct Greeting {
    /// Announced version.
    pub version: String,
    /// What the server offers (`CLIENT_*` bits), before the proxy hid anything.
    pub capabilities: u32,
    /// Id of its default collation.
    pub collation: u8,
    /// Status flags.
    pub status: u16,
    /// Its default authentication plugin.
    pub plugin: String,
}

/// The client's answer to the greeting.
#[derive(Debug, Clone, Default)]
pub struct Login {
    /// What the client takes of the offer, and asks for.
    pub capabilities: u32,
    /// Greatest packet it says it takes.
    pub max_packet: u32,
    /// Id of its collation.
    pub collation: u8,
    /// User name.
    pub user: String,
    /// True when the answer to the salt was empty.
    pub empty_answer: bool,
    /// Plugin the answer was made for.
    pub plugin: String,
    /// Connection attributes.
    pub attributes: Vec<(String, String)>,
}

/// A command and what came back.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The command.
    pub asked: Asked,
    /// Its answers: more than one for several statements in one packet, none for commands that have none.
    pub replies: Vec<Reply>,
}

/// A command.
#[derive(Debug, Clone)]
pub enum Asked {
    /// COM_QUERY.
    Query(String),
    /// COM_STMT_PREPARE.
    Prepare(String),
    /// COM_BINLOG_DUMP and COM_BINLOG_DUMP_GTID.
    Dump(DumpAsked),
    /// Anything else: its name, and the bytes behind the command byte.
    Other(&'static str, Vec<u8>),
}

impl Asked {
    /// The text of a statement.
    pub fn sql(&self) -> Option<&str> {
        match self {
            Self::Query(sql) | Self::Prepare(sql) => Some(sql),
            _ => None,
        }
    }
}

/// A request for the binlog.
#[derive(Debug, Clone, Default)]
pub struct DumpAsked {
    /// COM_BINLOG_DUMP_GTID.
    pub by_gtid: bool,
    /// Flags.
    pub flags: u16,
    /// The client's server id.
    pub server_id: u32,
    /// The file as it was sent.
    pub file: Vec<u8>,
    /// The position.
    pub position: u64,
    /// The encoded GTID set.
    pub gtids: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// OK.
    Ok {
        /// Status flags.
        status: u16,
        /// Number of warnings.
        warnings: u16,
    },
    /// An error.
    Error {
        /// MySQL's number.
        code: u16,
        /// SQLSTATE.
        state: String,
        /// The text.
        text: String,
    },
    /// Rows; of binary ones each is one cell, the row as it came.
    Rows {
        /// The columns.
        columns: Vec<ColumnDef>,
        /// The rows.
        rows: Vec<Vec<Option<String>>>,
    },
    /// The answer to COM_STMT_PREPARE.
    Prepared {
        /// Number of parameters.
        parameters: u16,
        /// Columns of its result.
        columns: Vec<ColumnDef>,
    },
    /// The end of what has no rows (COM_SET_OPTION), or of fetched rows.
    End {
        /// Status flags.
        status: u16,
    },
    /// Bare text (COM_STATISTICS).
    Text(String),
    /// A dump.
    Stream(Stream),
}

/// A column's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDef {
    /// Name.
    pub name: String,
    /// Type, by MySQL's number.
    pub ty: u8,
    /// Collation.
    pub collation: u16,
    /// Greatest length in bytes.
    pub length: u32,
    /// Flags.
    pub flags: u16,
    /// Digits behind the point.
    pub decimals: u8,
}

/// What came in a dump.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stream {
    /// The events.
    pub events: Vec<StreamedEvent>,
    /// What the client wrote meanwhile, without its acknowledgements.
    pub written: Vec<Vec<u8>>,
    /// Acknowledgements (semi-synchronous replication): file and position.
    pub acknowledged: Vec<(String, u64)>,
    /// How it ended, if it did with a packet: an error, or the payload of an EOF in `Text`.
    pub end: Option<Box<Reply>>,
}

/// The header of an event, and of some the start of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamedEvent {
    /// Its type.
    pub event_type: EventType,
    /// Timestamp.
    pub timestamp: u32,
    /// Server id.
    pub server_id: u32,
    /// Size, with checksum.
    pub size: u32,
    /// Position behind it.
    pub log_pos: u32,
    /// Flags.
    pub flags: u16,
    /// With semi-synchronous replication: whether an acknowledgement is asked for.
    pub acknowledge: Option<bool>,
    /// Of rotates and heartbeats: the body.
    pub body: Vec<u8>,
}

impl StreamedEvent {
    /// True for events made up for the stream.
    pub fn is_artificial(&self) -> bool {
        self.timestamp == 0
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', "\\n")
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok { status, warnings } => {
                write!(f, "OK status {status:#x} warnings {warnings}")
            }
            Self::Error { code, state, text } => {
                write!(f, "ERROR {code} ({state}) {}", one_line(text))
            }
            Self::End { status } => write!(f, "END status {status:#x}"),
            Self::Text(text) => write!(f, "TEXT {}", one_line(text)),
            Self::Prepared {
                parameters,
                columns,
            } => write!(
                f,
                "PREPARED {parameters} parameters, {} columns",
                columns.len()
            ),
            Self::Rows { columns, rows } => {
                let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
                write!(
                    f,
                    "ROWS {} of ({})",
                    rows.len(),
                    one_line(&names.join(", "))
                )?;
                for row in rows.iter().take(3) {
                    let cells = row.iter().map(|c| c.as_deref().unwrap_or("NULL"));
                    let cells: Vec<String> = cells.map(one_line).collect();
                    write!(f, "\n      {}", cells.join(" | "))?;
                }
                Ok(())
            }
            Self::Stream(stream) => write!(f, "{stream}"),
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "STREAM of {} events", self.events.len())?;
        for event in &self.events {
            let StreamedEvent {
                event_type,
                timestamp,
                server_id,
                size,
                log_pos,
                flags,
                ..
            } = event;
            write!(
                f,
                "\n      {} ts {timestamp} server {server_id} size {size} pos {log_pos} flags {flags:#x}",
                event_type.name()
            )?;
            if !event.body.is_empty() {
                write!(f, " {}", one_line(&event.body.escape_ascii().to_string()))?;
            }
            if let Some(acknowledge) = event.acknowledge {
                write!(f, " acknowledge {acknowledge}")?;
            }
        }
        for (file, position) in &self.acknowledged {
            write!(f, "\n      acknowledged {file} {position}")?;
        }
        if let Some(end) = &self.end {
            write!(f, "\n      {end}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(sql) => f.write_str(&one_line(sql)),
            Self::Prepare(sql) => write!(f, "PREPARE {}", one_line(sql)),
            Self::Dump(dump) => write!(f, "{dump}"),
            Self::Other(name, bytes) => write!(f, "{name} {}", bytes.escape_ascii()),
        }
    }
}

impl fmt::Display for DumpAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = if self.by_gtid {
            "COM_BINLOG_DUMP_GTID"
        } else {
            "COM_BINLOG_DUMP"
        };
        write!(
            f,
            "{command} flags {:#x} server {} file '{}' position {} gtids {} bytes",
            self.flags,
            self.server_id,
            self.file.escape_ascii(),
            self.position,
            self.gtids.len()
        )
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, conversation) in self.conversations.iter().enumerate() {
            let Conversation {
                greeting,
                login,
                auth,
                exchanges,
            } = conversation;
            writeln!(
                f,
                "[{number}] server {} capabilities {:#010x} plugin {}",
                greeting.version, greeting.capabilities, greeting.plugin
            )?;
            writeln!(
                f,
                "[{number}] client {} capabilities {:#010x} plugin {} {:?} max packet {} attributes {:?}",
                login.user,
                login.capabilities,
                login.plugin,
                auth,
                login.max_packet,
                login.attributes
            )?;
            for exchange in exchanges {
                writeln!(f, "[{number}]  {}", exchange.asked)?;
                for reply in &exchange.replies {
                    writeln!(f, "[{number}]    {reply}")?;
                }
            }
        }
        Ok(())
    }
}
