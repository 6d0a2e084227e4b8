//! The beginning of a connection. In: the server's greeting. Out: the request for TLS and the handshake response.

use super::{WireError, cursor::Cursor};

/// Capability bits of the protocol (`CLIENT_…` of `include/mysql_com.h`).
pub(crate) mod caps {
    pub(crate) const LONG_PASSWORD: u32 = 1;
    pub(crate) const LONG_FLAG: u32 = 1 << 2;
    pub(crate) const PROTOCOL_41: u32 = 1 << 9;
    pub(crate) const SSL: u32 = 1 << 11;
    pub(crate) const TRANSACTIONS: u32 = 1 << 13;
    pub(crate) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(crate) const PLUGIN_AUTH: u32 = 1 << 19;
    pub(crate) const CONNECT_ATTRS: u32 = 1 << 20;
    pub(crate) const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
}

const WANTED: u32 = caps::LONG_PASSWORD
    | caps::LONG_FLAG
    | caps::PROTOCOL_41
    | caps::TRANSACTIONS
    | caps::SECURE_CONNECTION
    | caps::PLUGIN_AUTH
    | caps::CONNECT_ATTRS
    | caps::PLUGIN_AUTH_LENENC;

const UTF8MB4_GENERAL_CI: u8 = 45;
const MAX_PACKET: u32 = 1 << 30;

/// What a server says first (`HandshakeV10`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: String,
    pub(crate) connection_id: u32,
    pub(crate) nonce: Vec<u8>,
    pub(crate) capabilities: u32,
    pub(crate) plugin: String,
}

impl Greeting {
    /// Parses the first packet of a connection that is not an error packet.
    pub(crate) fn parse(packet: &[u8]) -> Result<Self, WireError> {
        let mut c = Cursor::new("greeting", packet);
        let protocol = c.u8("protocol version")?;
        if protocol != 10 {
            return Err(WireError::ProtocolVersion(protocol));
        }
        let version = String::from_utf8_lossy(c.c_str("server version")?).into_owned();
        let connection_id = c.u32("connection id")?;
        let mut nonce = c.bytes("scramble", 8)?.to_vec();
        c.u8("filler")?;
        let low = c.u16("capabilities")?;
        c.u8("character set")?;
        c.u16("status")?;
        let high = c.u16("capabilities")?;
        let nonce_len = c.u8("scramble length")?;
        c.bytes("filler", 10)?;
        let capabilities = u32::from(low) | u32::from(high) << 16;
        for (bit, name) in [
            (caps::PROTOCOL_41, "the 4.1 protocol"),
            (caps::SECURE_CONNECTION, "4.1 passwords"),
            (caps::PLUGIN_AUTH, "authentication plugins"),
        ] {
            if capabilities & bit == 0 {
                return Err(WireError::MissingCapability(name));
            }
        }
        let second = usize::from(nonce_len).saturating_sub(8).max(13);
        nonce.extend_from_slice(c.bytes("scramble", second)?);
        nonce.truncate(20);
        let plugin = String::from_utf8_lossy(c.c_str_or_rest()).into_owned();
        Ok(Self {
            version,
            connection_id,
            nonce,
            capabilities,
            plugin,
        })
    }

    /// Whether the server can switch to TLS.
    pub(crate) fn offers_tls(&self) -> bool {
        self.capabilities & caps::SSL != 0
    }

    fn client_capabilities(&self, tls: bool) -> u32 {
        WANTED & self.capabilities | if tls { caps::SSL } else { 0 }
    }

    fn put_prefix(&self, out: &mut Vec<u8>, tls: bool) {
        out.extend_from_slice(&self.client_capabilities(tls).to_le_bytes());
        out.extend_from_slice(&MAX_PACKET.to_le_bytes());
        out.push(UTF8MB4_GENERAL_CI);
        out.extend_from_slice(&[0; 23]);
    }

    /// The packet that asks for TLS; the handshake response follows inside it.
    pub(crate) fn ssl_request(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        self.put_prefix(&mut out, true);
        out
    }

    /// The handshake response with the first answer of authentication plugin `plugin`.
    pub(crate) fn response(&self, tls: bool, user: &str, plugin: &str, answer: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.put_prefix(&mut out, tls);
        out.extend_from_slice(user.as_bytes());
        out.push(0);
        // Scrambles are 20 or 32 bytes: one length byte serves with and without length encoding.
        out.push(answer.len() as u8);
        out.extend_from_slice(answer);
        out.extend_from_slice(plugin.as_bytes());
        out.push(0);
        if self.client_capabilities(tls) & caps::CONNECT_ATTRS != 0 {
            let mut attributes = Vec::new();
            for text in [
                "program_name",
                "tributary",
                "_client_name",
                "tributary-collector",
                "_client_version",
                env!("CARGO_PKG_VERSION"),
                "_client_role",
                "binary_log_listener",
            ] {
                attributes.push(text.len() as u8);
                attributes.extend_from_slice(text.as_bytes());
            }
            out.push(attributes.len() as u8);
            out.extend_from_slice(&attributes);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As MySQL 8.4 sends it.
    pub(crate) fn greeting() -> Vec<u8> {
        let mut p = vec![10];
        p.extend_from_slice(b"8.4.4\0");
        p.extend_from_slice(&77_u32.to_le_bytes());
        p.extend_from_slice(b"ABCDEFGH\0");
        p.extend_from_slice(&0xffff_u16.to_le_bytes());
        p.push(255);
        p.extend_from_slice(&2_u16.to_le_bytes());
        p.extend_from_slice(&0xdfff_u16.to_le_bytes());
        p.push(21);
        p.extend_from_slice(&[0; 10]);
        p.extend_from_slice(b"IJKLMNOPQRST\0caching_sha2_password\0");
        p
    }

    #[test]
    fn a_greeting_is_read_and_answered() {
        let g = Greeting::parse(&greeting()).unwrap();
        assert_eq!((g.version.as_str(), g.connection_id), ("8.4.4", 77));
        assert_eq!(g.nonce, b"ABCDEFGHIJKLMNOPQRST");
        assert_eq!(g.plugin, "caching_sha2_password");
        assert!(g.offers_tls());
        assert_eq!(g.ssl_request().len(), 32);
        let r = g.response(false, "repl", "caching_sha2_password", &[7; 32]);
        assert_eq!(
            u32::from_le_bytes(r[..4].try_into().unwrap()) & caps::SSL,
            0
        );
        assert_eq!(&r[32..38], b"repl\0\x20");
        assert_eq!(&r[70..92], b"caching_sha2_password\0");
        let attributes = usize::from(r[92]);
        assert_eq!(r.len(), 93 + attributes);
    }

    #[test]
    fn every_truncation_is_an_error_or_lacks_only_the_plugin() {
        let whole = greeting();
        let plugin_at = whole.len() - "caching_sha2_password\0".len();
        for end in 0..whole.len() {
            match Greeting::parse(&whole[..end]) {
                Ok(g) => assert_eq!(g.plugin.len(), end - plugin_at),
                Err(e) => assert!(
                    matches!(e, WireError::Short { .. }) && end < plugin_at,
                    "{e}"
                ),
            }
        }
        let mut old = whole;
        old[0] = 9;
        assert_eq!(Greeting::parse(&old), Err(WireError::ProtocolVersion(9)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Greeting::parse(&bytes);
        }
    }
}
