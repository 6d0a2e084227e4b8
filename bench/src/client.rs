//! A dump client that throws away what it gets, as cheaply as it can, so that the server is what is measured.
//!
//! In: a server and an account. Out: how many bytes of events it sent for a whole binlog, and how long that took. Logs in
//! with caching_sha2_password's fast path, which needs no encryption: a mysqld must have seen the account log in before.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::digest::{Context as Digest, SHA256};

const READ_TIMEOUT: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 1 << 20;
/// Enough for a login and the first packets of a dump.
const STOPPED_BUFFER_BYTES: usize = 16 << 10;
/// A payload of this length is continued by the next packet.
const FULL_PACKET: usize = 0xff_ffff;
/// CLIENT_LONG_PASSWORD, LONG_FLAG, PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH.
const CAPABILITIES: u32 = 0x1 | 0x4 | 0x200 | 0x8000 | 0x8_0000;
const UTF8MB4: u8 = 45;
const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
const COM_PING: u8 = 0x0e;
const COM_BINLOG_DUMP: u8 = 0x12;
/// The server ends the dump at the end of its binlog.
const DUMP_NON_BLOCK: u16 = 1;
/// Nothing follows: bytes of a status byte and an event header.
const PEEK: usize = 20;

/// What came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dumped {
    pub(crate) events: u64,
    /// Bytes of events that are in files.
    pub(crate) bytes: u64,
    pub(crate) wall: Duration,
}

/// Reads everything from the start of `file` to the end of the binlog.
pub(crate) fn dump(
    port: u16,
    user: &str,
    password: &str,
    server_id: u32,
    file: &str,
) -> Result<Dumped> {
    let mut conn = begin((port, user, password), server_id, file, BUFFER_BYTES)?;
    let start = Instant::now();
    let (events, bytes) = conn.drain()?;
    Ok(Dumped {
        events,
        bytes,
        wall: start.elapsed(),
    })
}

/// Asks for the binlog from the start of `file`, and never reads on: what the server can not send waits there as long as this lives.
pub(crate) struct Stopped {
    _conn: Conn,
}

/// A reader that has read the first packet and no more.
pub(crate) fn stopped(
    (port, user, password): (u16, &str, &str),
    server_id: u32,
    file: &str,
) -> Result<Stopped> {
    let mut conn = begin(
        (port, user, password),
        server_id,
        file,
        STOPPED_BUFFER_BYTES,
    )?;
    conn.packet()?;
    Ok(Stopped { _conn: conn })
}

/// Logs in, asks for one thing, and goes.
pub(crate) fn visit(port: u16, user: &str, password: &str) -> Result<()> {
    let mut conn = connect((port, user, password), STOPPED_BUFFER_BYTES)?;
    conn.command(&[COM_PING])?;
    conn.expect_ok()?;
    conn.command(&[COM_QUIT])
}

fn connect((port, user, password): (u16, &str, &str), buffer: usize) -> Result<Conn> {
    let stream = TcpStream::connect(("127.0.0.1", port))
        .with_context(|| format!("connect to port {port}"))?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.set_nodelay(true)?;
    let mut conn = Conn {
        stream,
        buffer: vec![0; buffer],
        start: 0,
        end: 0,
        sequence: 0,
    };
    conn.log_in(user, password)?;
    Ok(conn)
}

/// A connection on which the binlog comes.
fn begin(account: (u16, &str, &str), server_id: u32, file: &str, buffer: usize) -> Result<Conn> {
    let mut conn = connect(account, buffer)?;
    conn.command(
        &[
            &[COM_QUERY],
            b"SET @master_binlog_checksum='CRC32', @source_binlog_checksum='CRC32'".as_slice(),
        ]
        .concat(),
    )?;
    conn.expect_ok()?;
    conn.command(&dump_command(server_id, file))?;
    Ok(conn)
}

fn dump_command(server_id: u32, file: &str) -> Vec<u8> {
    let mut command = vec![COM_BINLOG_DUMP];
    command.extend_from_slice(&4_u32.to_le_bytes());
    command.extend_from_slice(&DUMP_NON_BLOCK.to_le_bytes());
    command.extend_from_slice(&server_id.to_le_bytes());
    command.extend_from_slice(file.as_bytes());
    command
}

struct Conn {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Of the last packet received.
    sequence: u8,
}

impl Conn {
    /// Makes at least `bytes` bytes available.
    fn fill(&mut self, bytes: usize) -> Result<()> {
        ensure!(
            bytes <= self.buffer.len(),
            "a packet of {bytes} bytes where a short one was expected"
        );
        if self.start + bytes > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < bytes {
            let n = self
                .stream
                .read(&mut self.buffer[self.end..])
                .context("the server says nothing")?;
            ensure!(n > 0, "the server closed the connection");
            self.end += n;
        }
        Ok(())
    }

    /// Reads a packet's header: the length of its payload.
    fn header(&mut self) -> Result<usize> {
        self.fill(4)?;
        let [a, b, c, sequence] = [0, 1, 2, 3].map(|i| self.buffer[self.start + i]);
        self.sequence = sequence;
        self.start += 4;
        Ok(u32::from_le_bytes([a, b, c, 0]) as usize)
    }

    fn skip(&mut self, mut bytes: usize) -> Result<()> {
        loop {
            let there = (self.end - self.start).min(bytes);
            self.start += there;
            bytes -= there;
            if bytes == 0 {
                return Ok(());
            }
            (self.start, self.end) = (0, 0);
            self.fill(1)?;
        }
    }

    /// A short packet.
    fn packet(&mut self) -> Result<Vec<u8>> {
        let len = self.header()?;
        self.fill(len)?;
        let payload = self.buffer[self.start..self.start + len].to_vec();
        self.start += len;
        if payload.first() == Some(&0xff) {
            bail!("the server answers: {}", error_text(&payload));
        }
        Ok(payload)
    }

    fn send(&mut self, sequence: u8, payload: &[u8]) -> Result<()> {
        let mut packet = (payload.len() as u32).to_le_bytes();
        packet[3] = sequence;
        Ok(self.stream.write_all(&[&packet, payload].concat())?)
    }

    fn command(&mut self, payload: &[u8]) -> Result<()> {
        self.send(0, payload)
    }

    fn expect_ok(&mut self) -> Result<()> {
        let answer = self.packet()?;
        ensure!(answer.first() == Some(&0), "not OK but {answer:02x?}");
        Ok(())
    }

    fn log_in(&mut self, user: &str, password: &str) -> Result<()> {
        let greeting = self.packet()?;
        let nonce = nonce(&greeting).context("no greeting of MySQL")?;
        let mut answer = CAPABILITIES.to_le_bytes().to_vec();
        answer.extend_from_slice(&(64_u32 << 20).to_le_bytes());
        answer.push(UTF8MB4);
        answer.extend_from_slice(&[0; 23]);
        answer.extend_from_slice(user.as_bytes());
        answer.push(0);
        answer.push(32);
        answer.extend_from_slice(&scramble(password.as_bytes(), &nonce));
        answer.extend_from_slice(b"caching_sha2_password\0");
        self.send(self.sequence.wrapping_add(1), &answer)?;
        match self.packet()?.as_slice() {
            [1, 3] => self.expect_ok(),
            [0, ..] => Ok(()),
            [1, 4] => bail!(
                "the server does not have {user} in its cache of passwords: log in over TLS first"
            ),
            other => bail!("the server wants another way of authentication: {other:02x?}"),
        }
    }

    /// Counts events until the server says that this is all.
    fn drain(&mut self) -> Result<(u64, u64)> {
        let (mut events, mut bytes) = (0, 0);
        loop {
            let len = self.header()?;
            if len < PEEK {
                self.fill(len)?;
                let payload = self.buffer[self.start..self.start + len].to_vec();
                match payload.first() {
                    Some(0xfe) => return Ok((events, bytes)),
                    _ => bail!("no event but {}", error_text(&payload)),
                }
            }
            self.fill(PEEK)?;
            let head = &self.buffer[self.start..self.start + PEEK];
            ensure!(
                head[0] == 0,
                "no event but {}",
                String::from_utf8_lossy(head)
            );
            // log_pos is 0 in events that are in no file.
            if head[14..18] != [0; 4] {
                events += 1;
                bytes += len as u64 - 1;
            }
            self.skip(len)?;
            let mut last = len;
            while last == FULL_PACKET {
                last = self.header()?;
                bytes += last as u64;
                self.skip(last)?;
            }
        }
    }
}

fn error_text(payload: &[u8]) -> String {
    let code = payload
        .get(1..3)
        .map_or(0, |b| u16::from(b[0]) | u16::from(b[1]) << 8);
    format!(
        "error {code} {}",
        String::from_utf8_lossy(payload.get(9..).unwrap_or_default())
    )
}

/// The 20 random bytes of a greeting (protocol 10).
fn nonce(greeting: &[u8]) -> Option<Vec<u8>> {
    let version_end = greeting.iter().position(|b| *b == 0)?;
    let first = version_end + 1 + 4;
    let second = first + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10;
    Some(
        [
            greeting.get(first..first + 8)?,
            greeting.get(second..second + 12)?,
        ]
        .concat(),
    )
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    let mut digest = Digest::new(&SHA256);
    for part in parts {
        digest.update(part);
    }
    digest.finish().as_ref().to_vec()
}

/// XOR(SHA256(password), SHA256(SHA256(SHA256(password)), nonce))
fn scramble(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let once = sha256(&[password]);
    let mask = sha256(&[&sha256(&[&once]), nonce]);
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}
