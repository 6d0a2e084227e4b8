//! OK, ERR and EOF packets. In: a packet. Out: which of them it is, and what a server's error says.

use std::fmt;

use thiserror::Error;

use super::cursor::Cursor;

const TEXT_MAX: usize = 1024;

/// An error packet: the node's own code, SQLSTATE and text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct ServerError {
    /// MySQL's error code (1045 = access denied).
    pub code: u16,
    /// SQLSTATE; empty when the server sent none.
    pub state: String,
    /// The server's text, at most 1024 bytes of it.
    pub text: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.state.is_empty() {
            write!(f, "ERROR {}: {}", self.code, self.text)
        } else {
            write!(f, "ERROR {} ({}): {}", self.code, self.state, self.text)
        }
    }
}

/// What the first byte of a reply says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Ok,
    Err(ServerError),
    Eof,
    Other(u8),
}

impl Reply {
    /// Sorts a packet; an empty one is `Other(0)`.
    pub(crate) fn parse(packet: &[u8]) -> Self {
        match packet {
            [0x00, ..] => Self::Ok,
            [0xff, rest @ ..] => Self::Err(server_error(rest)),
            [0xfe, rest @ ..] if rest.len() < 8 => Self::Eof,
            [first, ..] => Self::Other(*first),
            [] => Self::Other(0),
        }
    }
}

fn server_error(body: &[u8]) -> ServerError {
    let mut c = Cursor::new("error", body);
    let code = c.u16("code").unwrap_or(0);
    let mut text = c.rest();
    let mut state = String::new();
    if let [b'#', a, b, d, e, f, message @ ..] = text {
        state = String::from_utf8_lossy(&[*a, *b, *d, *e, *f]).into_owned();
        text = message;
    }
    let text = text.get(..TEXT_MAX).unwrap_or(text);
    ServerError {
        code,
        state,
        text: String::from_utf8_lossy(text).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_apart() {
        assert_eq!(Reply::parse(&[0, 0, 0, 2, 0, 0, 0]), Reply::Ok);
        assert_eq!(Reply::parse(&[0xfe, 0, 0, 2, 0]), Reply::Eof);
        assert_eq!(Reply::parse(&[0xfe; 20]), Reply::Other(0xfe));
        assert_eq!(Reply::parse(&[]), Reply::Other(0));
        let Reply::Err(e) = Reply::parse(b"\xff\x15\x04#28000Access denied") else {
            panic!()
        };
        assert_eq!(e.to_string(), "ERROR 1045 (28000): Access denied");
        let Reply::Err(e) = Reply::parse(b"\xff\x10\x04Too many connections") else {
            panic!()
        };
        assert_eq!(e.to_string(), "ERROR 1040: Too many connections");
        let Reply::Err(e) = Reply::parse(b"\xff\x10") else {
            panic!()
        };
        assert_eq!(e.code, 0);
    }
}
