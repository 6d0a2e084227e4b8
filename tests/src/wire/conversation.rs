//! One connection as it is understood packet by packet.
//!
//! In: bytes of both directions, in an order in which a question comes before its answer. Out: a [`Conversation`]. What is not
//! understood is passed over: a proxy must never be in the way.

use tributary_binlog::{EventHeader, EventType, HEADER_LEN};

use super::packets::{Fields, Packets, text};
use super::transcript::{
    Asked, ColumnDef, Conversation, DumpAsked, Exchange, Reply, Stream, StreamedEvent,
};

const CLIENT_CONNECT_WITH_DB: u32 = 1 << 3;
const CLIENT_SSL: u32 = 1 << 11;
const CLIENT_PLUGIN_AUTH: u32 = 1 << 19;
const CLIENT_CONNECT_ATTRS: u32 = 1 << 20;
const CLIENT_DEPRECATE_EOF: u32 = 1 << 24;
const CLIENT_QUERY_ATTRIBUTES: u32 = 1 << 27;

const MORE_RESULTS: u16 = 8;
const CURSOR_EXISTS: u16 = 64;

/// First byte of an acknowledgement, and of what stands before an event then.
const SEMI_SYNC: u8 = 0xef;

/// What the next packet of the server is.
#[derive(Debug)]
enum Expect {
    Greeting,
    Auth,
    /// Nothing was asked.
    Nothing,
    /// The first packet of an answer.
    Answer,
    Definitions {
        left: u64,
        columns: Vec<ColumnDef>,
    },
    /// The EOF behind the definitions, for clients that did not deprecate it.
    EndOfDefinitions(Vec<ColumnDef>),
    Rows {
        columns: Vec<ColumnDef>,
        rows: Vec<Vec<Option<String>>>,
    },
    /// Definitions and EOFs of a prepared statement.
    Prepared {
        left: usize,
    },
    Events,
    /// Encrypted: nothing can be read.
    Opaque,
}

/// A connection in the making.
#[derive(Debug)]
pub(super) struct Recorder {
    said: Conversation,
    client: Packets,
    server: Packets,
    expect: Expect,
    logged_in: bool,
    semi_sync: bool,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            said: Conversation::default(),
            client: Packets::default(),
            server: Packets::default(),
            expect: Expect::Greeting,
            logged_in: false,
            semi_sync: false,
        }
    }
}

impl Recorder {
    /// What was said so far.
    pub(super) fn conversation(&self) -> Conversation {
        let mut said = self.said.clone();
        // Rows that are still coming.
        if let (Expect::Rows { columns, rows }, Some(last)) =
            (&self.expect, said.exchanges.last_mut())
        {
            last.replies.push(Reply::Rows {
                columns: columns.clone(),
                rows: rows.clone(),
            });
        }
        said
    }

    /// Bytes from the client.
    pub(super) fn client_sent(&mut self, bytes: &[u8]) {
        if matches!(self.expect, Expect::Opaque) {
            return;
        }
        self.client.feed(bytes);
        while let Some(packet) = self.client.next() {
            self.client_packet(&packet);
        }
    }

    /// Bytes from the server.
    pub(super) fn server_sent(&mut self, bytes: &[u8]) {
        if matches!(self.expect, Expect::Opaque) {
            return;
        }
        self.server.feed(bytes);
        while let Some(packet) = self.server.next() {
            self.server_packet(packet);
        }
    }

    fn has(&self, capability: u32) -> bool {
        self.said.login.capabilities & capability != 0
    }

    fn client_packet(&mut self, packet: &[u8]) {
        match self.expect {
            Expect::Auth if !self.logged_in => self.login(packet),
            Expect::Auth => {
                let step = match packet.len() {
                    0 => "answer: empty".to_owned(),
                    1 => format!("answer: {:#04x}", packet[0]),
                    n => format!("answer: {n} bytes"),
                };
                self.said.auth.push(step);
            }
            Expect::Events => self.written_while_dumping(packet),
            Expect::Greeting | Expect::Opaque => {}
            _ => self.command(packet),
        }
    }

    fn login(&mut self, packet: &[u8]) {
        let mut fields = Fields(packet);
        let login = &mut self.said.login;
        login.capabilities = fields.u32();
        login.max_packet = fields.u32();
        login.collation = fields.u8();
        fields.take(23);
        if login.capabilities & CLIENT_SSL != 0 && fields.0.is_empty() {
            self.said.auth.push("TLS".to_owned());
            self.expect = Expect::Opaque;
            return;
        }
        login.user = text(fields.c_string());
        // All clients of today send a length byte, which is also the length-encoded form of short answers.
        login.empty_answer = fields.string().unwrap_or_default().is_empty();
        if login.capabilities & CLIENT_CONNECT_WITH_DB != 0 {
            fields.c_string();
        }
        if login.capabilities & CLIENT_PLUGIN_AUTH != 0 {
            login.plugin = text(fields.c_string());
        }
        if login.capabilities & CLIENT_CONNECT_ATTRS != 0 {
            let mut attributes = Fields(fields.string().unwrap_or_default());
            while !attributes.0.is_empty() {
                let key = text(attributes.string().unwrap_or_default());
                let value = text(attributes.string().unwrap_or_default());
                login.attributes.push((key, value));
            }
        }
        self.logged_in = true;
    }

    fn written_while_dumping(&mut self, packet: &[u8]) {
        let Some(Reply::Stream(stream)) = self.reply() else {
            return;
        };
        if packet.first() == Some(&SEMI_SYNC) {
            let mut fields = Fields(packet.get(1..).unwrap_or_default());
            let position = fields.number(8);
            stream
                .acknowledged
                .push((text(fields.c_string()), position));
        } else {
            stream.written.push(packet.to_vec());
        }
    }

    fn reply(&mut self) -> Option<&mut Reply> {
        self.said.exchanges.last_mut()?.replies.last_mut()
    }

    fn command(&mut self, packet: &[u8]) {
        let mut fields = Fields(packet);
        let code = fields.u8();
        self.expect = Expect::Answer;
        let mut replies = Vec::new();
        let asked = match code {
            0x03 => {
                let sql = self.statement(fields.0);
                if sql.contains("@rpl_semi_sync_replica = 1")
                    || sql.contains("@rpl_semi_sync_slave= 1")
                {
                    self.semi_sync = true;
                }
                Asked::Query(sql)
            }
            0x16 => Asked::Prepare(text(fields.0)),
            0x12 | 0x1e => {
                self.expect = Expect::Events;
                replies.push(Reply::Stream(Stream::default()));
                Asked::Dump(dump(code, fields))
            }
            code => {
                // COM_QUIT, COM_STMT_SEND_LONG_DATA and COM_STMT_CLOSE have no answer.
                if matches!(code, 0x01 | 0x18 | 0x19) {
                    self.expect = Expect::Nothing;
                }
                if code == 0x11 {
                    self.expect = Expect::Auth;
                }
                Asked::Other(command_name(code), fields.0.to_vec())
            }
        };
        self.said.exchanges.push(Exchange { asked, replies });
    }

    /// Query attributes stand before the text; the usual ones are none.
    fn statement(&self, payload: &[u8]) -> String {
        let plain = match payload {
            [0, 1, rest @ ..] if self.has(CLIENT_QUERY_ATTRIBUTES) => rest,
            all => all,
        };
        text(plain)
    }

    fn server_packet(&mut self, packet: Vec<u8>) {
        let expect = std::mem::replace(&mut self.expect, Expect::Nothing);
        self.expect = match expect {
            Expect::Greeting => {
                self.greeting(&packet);
                Expect::Auth
            }
            Expect::Auth => self.auth_packet(&packet),
            Expect::Answer => self.answer(&packet),
            Expect::Definitions { left, mut columns } => {
                columns.push(definition(&packet));
                match left {
                    0 | 1 => self.behind_definitions(columns),
                    _ => Expect::Definitions {
                        left: left - 1,
                        columns,
                    },
                }
            }
            Expect::EndOfDefinitions(columns) => {
                let status = eof_status(&packet);
                // Rows of a cursor wait for COM_STMT_FETCH.
                if status & CURSOR_EXISTS != 0 {
                    self.end_rows(columns, Vec::new(), status)
                } else {
                    Expect::Rows {
                        columns,
                        rows: Vec::new(),
                    }
                }
            }
            Expect::Rows { columns, rows } => self.row(columns, rows, &packet),
            Expect::Prepared { left } => self.prepared_part(left, &packet),
            Expect::Events => {
                self.event(&packet);
                Expect::Events
            }
            other @ (Expect::Nothing | Expect::Opaque) => other,
        };
    }

    fn greeting(&mut self, packet: &[u8]) {
        let mut fields = Fields(packet);
        let greeting = &mut self.said.greeting;
        if fields.u8() != 10 {
            self.said.auth.push(format!("refused: {}", text(packet)));
            return;
        }
        greeting.version = text(fields.c_string());
        fields.take(4 + 8 + 1);
        let low = fields.u16();
        greeting.collation = fields.u8();
        greeting.status = fields.u16();
        let high = fields.u16();
        greeting.capabilities = u32::from(high) << 16 | u32::from(low);
        fields.take(1 + 10);
        fields.c_string();
        greeting.plugin = text(fields.c_string());
    }

    fn auth_packet(&mut self, packet: &[u8]) -> Expect {
        let step = match packet.first() {
            Some(0) => {
                self.said.auth.push("OK".to_owned());
                return Expect::Nothing;
            }
            Some(0xff) => {
                let error = error(packet);
                self.said.auth.push(error.to_string());
                return Expect::Nothing;
            }
            Some(0xfe) => {
                let plugin = Fields(packet.get(1..).unwrap_or_default()).c_string();
                format!("switch to {}", text(plugin))
            }
            _ => match packet.get(1..) {
                Some([one]) => format!("more: {one:#04x}"),
                _ => "more: key".to_owned(),
            },
        };
        self.said.auth.push(step);
        Expect::Auth
    }

    fn push(&mut self, reply: Reply) {
        if let Some(last) = self.said.exchanges.last_mut() {
            last.replies.push(reply);
        }
    }

    fn next_result(status: u16) -> Expect {
        if status & MORE_RESULTS != 0 {
            Expect::Answer
        } else {
            Expect::Nothing
        }
    }

    fn answer(&mut self, packet: &[u8]) -> Expect {
        let prepare = matches!(
            self.said.exchanges.last().map(|e| &e.asked),
            Some(Asked::Prepare(_))
        );
        let fetch = matches!(
            self.said.exchanges.last().map(|e| &e.asked),
            Some(Asked::Other("COM_STMT_FETCH", _))
        );
        let statistics = matches!(
            self.said.exchanges.last().map(|e| &e.asked),
            Some(Asked::Other("COM_STATISTICS", _))
        );
        match packet.first() {
            Some(0xff) => {
                self.push(error(packet));
                Expect::Nothing
            }
            Some(0) if prepare => self.prepared(packet),
            _ if fetch => self.row(Vec::new(), Vec::new(), packet),
            Some(0) => {
                let mut fields = Fields(packet.get(1..).unwrap_or_default());
                fields.lenenc();
                fields.lenenc();
                let (status, warnings) = (fields.u16(), fields.u16());
                self.push(Reply::Ok { status, warnings });
                Self::next_result(status)
            }
            Some(0xfe) if packet.len() < 9 => {
                let status = eof_status(packet);
                self.push(Reply::End { status });
                Expect::Nothing
            }
            _ if statistics => {
                self.push(Reply::Text(text(packet)));
                Expect::Nothing
            }
            _ => Expect::Definitions {
                left: Fields(packet).lenenc(),
                columns: Vec::new(),
            },
        }
    }

    fn behind_definitions(&self, columns: Vec<ColumnDef>) -> Expect {
        if self.has(CLIENT_DEPRECATE_EOF) {
            Expect::Rows {
                columns,
                rows: Vec::new(),
            }
        } else {
            Expect::EndOfDefinitions(columns)
        }
    }

    fn row(
        &mut self,
        columns: Vec<ColumnDef>,
        mut rows: Vec<Vec<Option<String>>>,
        packet: &[u8],
    ) -> Expect {
        match packet.first() {
            Some(0xfe) if packet.len() < 0xff_ffff => {
                let status = eof_status(packet);
                self.end_rows(columns, rows, status)
            }
            Some(0xff) => {
                self.push(error(packet));
                Expect::Nothing
            }
            _ => {
                rows.push(self.cells(columns.len(), packet));
                Expect::Rows { columns, rows }
            }
        }
    }

    fn cells(&self, columns: usize, packet: &[u8]) -> Vec<Option<String>> {
        let asked = self.said.exchanges.last().map(|e| &e.asked);
        if matches!(asked, Some(Asked::Query(_))) {
            let mut fields = Fields(packet);
            (0..columns).map(|_| fields.string().map(text)).collect()
        } else {
            vec![Some(packet.escape_ascii().to_string())]
        }
    }

    fn end_rows(
        &mut self,
        columns: Vec<ColumnDef>,
        rows: Vec<Vec<Option<String>>>,
        status: u16,
    ) -> Expect {
        self.push(Reply::Rows { columns, rows });
        Self::next_result(status)
    }

    fn prepared(&mut self, packet: &[u8]) -> Expect {
        let mut fields = Fields(packet.get(5..).unwrap_or_default());
        let (columns, parameters) = (fields.u16(), fields.u16());
        self.push(Reply::Prepared {
            parameters,
            columns: Vec::new(),
        });
        let end = usize::from(!self.has(CLIENT_DEPRECATE_EOF));
        let part = |count: u16| match count {
            0 => 0,
            n => usize::from(n) + end,
        };
        match part(columns) + part(parameters) {
            0 => Expect::Nothing,
            left => Expect::Prepared { left },
        }
    }

    fn prepared_part(&mut self, left: usize, packet: &[u8]) -> Expect {
        let is_definition = packet.first() != Some(&0xfe);
        if let Some(Reply::Prepared {
            parameters,
            columns,
        }) = self.reply()
            && is_definition
        {
            // Definitions of parameters come first; all are called `?`.
            let column = definition(packet);
            if column.name != "?" || *parameters == 0 {
                columns.push(column);
            }
        }
        match left {
            0 | 1 => Expect::Nothing,
            _ => Expect::Prepared { left: left - 1 },
        }
    }

    fn event(&mut self, packet: &[u8]) {
        let semi_sync = self.semi_sync;
        let Some(Reply::Stream(stream)) = self.reply() else {
            return;
        };
        match packet {
            [0xff, ..] => stream.end = Some(Box::new(error(packet))),
            [0xfe, ..] if packet.len() < 9 => {
                let bytes = packet.escape_ascii().to_string();
                stream.end = Some(Box::new(Reply::Text(bytes)));
            }
            [0, rest @ ..] => {
                let (acknowledge, event) = match rest {
                    [SEMI_SYNC, asks, event @ ..] if semi_sync => (Some(*asks == 1), event),
                    event => (None, event),
                };
                stream.events.extend(streamed(event, acknowledge));
            }
            _ => {}
        }
    }
}

fn streamed(event: &[u8], acknowledge: Option<bool>) -> Option<StreamedEvent> {
    let header = EventHeader::parse(event).ok()?;
    let told = [
        EventType::ROTATE,
        EventType::HEARTBEAT,
        EventType::HEARTBEAT_V2,
    ];
    let body = if told.contains(&header.event_type) {
        event.get(HEADER_LEN..).unwrap_or_default().to_vec()
    } else {
        Vec::new()
    };
    Some(StreamedEvent {
        event_type: header.event_type,
        timestamp: header.timestamp,
        server_id: header.server_id,
        size: header.event_size,
        log_pos: header.log_pos,
        flags: header.flags,
        acknowledge,
        body,
    })
}

fn dump(code: u8, mut fields: Fields<'_>) -> DumpAsked {
    if code == 0x12 {
        let position = fields.number(4);
        return DumpAsked {
            by_gtid: false,
            position,
            flags: fields.u16(),
            server_id: fields.u32(),
            file: fields.0.to_vec(),
            gtids: Vec::new(),
        };
    }
    let (flags, server_id) = (fields.u16(), fields.u32());
    let name_length = fields.u32() as usize;
    let file = fields.take(name_length).to_vec();
    let position = fields.number(8);
    fields.take(4);
    DumpAsked {
        by_gtid: true,
        flags,
        server_id,
        file,
        position,
        gtids: fields.0.to_vec(),
    }
}

fn definition(packet: &[u8]) -> ColumnDef {
    let mut fields = Fields(packet);
    for _ in 0..4 {
        fields.string();
    }
    let name = text(fields.string().unwrap_or_default());
    fields.string();
    fields.lenenc();
    ColumnDef {
        name,
        collation: fields.u16(),
        length: fields.u32(),
        ty: fields.u8(),
        flags: fields.u16(),
        decimals: fields.u8(),
    }
}

/// The status of an EOF, or of an OK in its place.
fn eof_status(packet: &[u8]) -> u16 {
    let mut fields = Fields(packet.get(1..).unwrap_or_default());
    if packet.len() == 5 {
        fields.u16();
    } else {
        fields.lenenc();
        fields.lenenc();
    }
    fields.u16()
}

fn error(packet: &[u8]) -> Reply {
    let mut fields = Fields(packet.get(1..).unwrap_or_default());
    let code = fields.u16();
    let (state, rest) = match fields.0 {
        [b'#', rest @ ..] => rest.split_at(rest.len().min(5)),
        all => (&b""[..], all),
    };
    Reply::Error {
        code,
        state: text(state),
        text: text(rest),
    }
}

fn command_name(code: u8) -> &'static str {
    match code {
        0x01 => "COM_QUIT",
        0x02 => "COM_INIT_DB",
        0x04 => "COM_FIELD_LIST",
        0x09 => "COM_STATISTICS",
        0x0a => "COM_PROCESS_INFO",
        0x0c => "COM_PROCESS_KILL",
        0x0d => "COM_DEBUG",
        0x0e => "COM_PING",
        0x11 => "COM_CHANGE_USER",
        0x15 => "COM_REGISTER_SLAVE",
        0x17 => "COM_STMT_EXECUTE",
        0x18 => "COM_STMT_SEND_LONG_DATA",
        0x19 => "COM_STMT_CLOSE",
        0x1a => "COM_STMT_RESET",
        0x1b => "COM_SET_OPTION",
        0x1c => "COM_STMT_FETCH",
        0x1f => "COM_RESET_CONNECTION",
        0x20 => "COM_CLONE",
        _ => "unknown command",
    }
}
