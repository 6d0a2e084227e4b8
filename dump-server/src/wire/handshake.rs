//! The connection phase: greeting, SSL request, handshake response, authentication packets.
//!
//! In: a server's facts and salt, or the client's untrusted answer. Out: the greeting's bytes, or a
//! [`HandshakeResponse`]. Only capabilities that the rest of this crate parses are offered.

use super::flags::{CapabilityFlags, StatusFlags};

use super::compress::Compression;
use super::cursor::{Cursor, Short};

/// Level of zstd compression when the client names none, as in MySQL.
const ZSTD_LEVEL_DEFAULT: u8 = 3;

/// Length of an authentication salt.
pub(crate) const SALT_LEN: usize = 20;

/// Twenty random bytes in 0x01..=0x7f without `$`: old clients read the salt as a C string, and MySQL itself
/// reserves `$` as a separator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; SALT_LEN]);

impl Salt {
    /// Makes random bytes fit for a salt.
    pub fn from_random(mut bytes: [u8; SALT_LEN]) -> Self {
        for b in &mut bytes {
            *b &= 0x7f;
            if *b == 0 || *b == b'$' {
                *b += 1;
            }
        }
        Self(bytes)
    }
}

/// What this server offers; `tls` adds CLIENT_SSL, which must then work (several clients take it whenever offered).
/// Compression is taken only by clients that are told to.
pub(crate) fn offered(tls: bool, compression: Compression) -> CapabilityFlags {
    let mut caps = CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_FOUND_ROWS
        | CapabilityFlags::CLIENT_LONG_FLAG
        | CapabilityFlags::CLIENT_CONNECT_WITH_DB
        | CapabilityFlags::CLIENT_IGNORE_SPACE
        | CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_INTERACTIVE
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_MULTI_STATEMENTS
        | CapabilityFlags::CLIENT_MULTI_RESULTS
        | CapabilityFlags::CLIENT_PS_MULTI_RESULTS
        | CapabilityFlags::CLIENT_PLUGIN_AUTH
        | CapabilityFlags::CLIENT_CONNECT_ATTRS
        | CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
        | CapabilityFlags::CLIENT_DEPRECATE_EOF
        | CapabilityFlags::CLIENT_QUERY_ATTRIBUTES;
    for (on, capability) in [
        (tls, CapabilityFlags::CLIENT_SSL),
        (compression.zlib, CapabilityFlags::CLIENT_COMPRESS),
        (
            compression.zstd,
            CapabilityFlags::CLIENT_ZSTD_COMPRESSION_ALGORITHM,
        ),
    ] {
        caps.set(capability, on);
    }
    caps
}

/// The server's first packet.
#[derive(Debug, Clone)]
pub(crate) struct Greeting<'a> {
    /// Announced version, e.g. `8.4.9-tributary`.
    pub version: &'a str,
    /// The connection's id, as KILL takes it.
    pub connection_id: u32,
    /// Capabilities offered.
    pub capabilities: CapabilityFlags,
    /// Name of the default authentication plugin.
    pub plugin: &'a str,
}

impl Greeting<'_> {
    /// Appends the payload (protocol version 10).
    pub(crate) fn put(&self, salt: &Salt, out: &mut Vec<u8>) {
        let caps = self.capabilities.bits();
        let (salt_1, salt_2) = salt.0.split_at(8);
        out.push(10);
        out.extend_from_slice(self.version.as_bytes());
        out.push(0);
        out.extend_from_slice(&self.connection_id.to_le_bytes());
        out.extend_from_slice(salt_1);
        out.push(0);
        out.extend_from_slice(&(caps as u16).to_le_bytes());
        out.push(255); // utf8mb4_0900_ai_ci
        out.extend_from_slice(&StatusFlags::SERVER_STATUS_AUTOCOMMIT.bits().to_le_bytes());
        out.extend_from_slice(&((caps >> 16) as u16).to_le_bytes());
        out.push(SALT_LEN as u8 + 1);
        out.extend_from_slice(&[0; 10]);
        out.extend_from_slice(salt_2);
        out.push(0);
        out.extend_from_slice(self.plugin.as_bytes());
        out.push(0);
    }
}

/// The client's answer to the greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientHello {
    /// It wants TLS first; the same answer comes again inside.
    Tls,
    /// Its identity.
    Response(HandshakeResponse),
}

/// Who the client says it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct HandshakeResponse {
    /// Capabilities the client takes.
    pub capabilities: CapabilityFlags,
    /// Its collation's id; the handshake carries the low byte only.
    pub collation: u16,
    /// User name.
    pub user: String,
    /// First answer to the salt, for the plugin below.
    pub auth: Vec<u8>,
    /// Default database, if any.
    pub database: Option<String>,
    /// Plugin the answer was made for, if named.
    pub plugin: Option<String>,
    /// `program_name` of the connection attributes.
    pub program: Option<String>,
    /// `_client_name` of the connection attributes: the client's library.
    pub library: Option<String>,
    /// Level of zstd compression the client asks for.
    pub zstd_level: u8,
}

impl std::fmt::Debug for HandshakeResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the answer to the salt.
        f.debug_struct("HandshakeResponse")
            .field("user", &self.user)
            .field("plugin", &self.plugin)
            .finish()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl ClientHello {
    /// Parses the first packet of a client that speaks protocol 4.1.
    ///
    /// # Errors
    /// When it is no handshake response (an HTTP request, say), or of a client older than 4.1.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Short> {
        let mut c = Cursor::new(payload);
        let capabilities = CapabilityFlags::from_bits(c.u32()?);
        if !capabilities.contains(CapabilityFlags::CLIENT_PROTOCOL_41) {
            return Err(Short);
        }
        let _max_packet = c.u32()?; // 0 is legal and means nothing: such clients still get big packets
        let collation = c.u8()?;
        c.take(23)?;
        if capabilities.contains(CapabilityFlags::CLIENT_SSL) && c.is_empty() {
            return Ok(Self::Tls);
        }
        let user = text(c.c_str());
        let auth = if capabilities.contains(CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA)
        {
            c.lenenc_str()?
        } else if capabilities.contains(CapabilityFlags::CLIENT_SECURE_CONNECTION) {
            c.short_str()?
        } else {
            c.c_str()
        };
        let mut response = HandshakeResponse {
            capabilities,
            collation: collation.into(),
            user,
            auth: auth.to_vec(),
            database: None,
            plugin: None,
            program: None,
            library: None,
            zstd_level: ZSTD_LEVEL_DEFAULT,
        };
        if capabilities.contains(CapabilityFlags::CLIENT_CONNECT_WITH_DB) {
            let database = text(c.c_str());
            response.database = Some(database).filter(|d| !d.is_empty());
        }
        if capabilities.contains(CapabilityFlags::CLIENT_PLUGIN_AUTH) {
            response.plugin = Some(text(c.c_str())).filter(|p| !p.is_empty());
        }
        if capabilities.contains(CapabilityFlags::CLIENT_CONNECT_ATTRS) && !c.is_empty() {
            response.take_attributes(&mut c)?;
        }
        if capabilities.contains(CapabilityFlags::CLIENT_ZSTD_COMPRESSION_ALGORITHM) {
            response.zstd_level = c.u8().unwrap_or(ZSTD_LEVEL_DEFAULT);
        }
        Ok(Self::Response(response))
    }
}

impl HandshakeResponse {
    fn take_attributes(&mut self, c: &mut Cursor<'_>) -> Result<(), Short> {
        let mut attributes = Cursor::new(c.lenenc_str()?);
        while !attributes.is_empty() {
            let key = attributes.lenenc_str()?;
            let value = attributes.lenenc_str()?;
            match key {
                b"program_name" => self.program = Some(text(value)),
                b"_client_name" => self.library = Some(text(value)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Parses what follows the command byte of COM_CHANGE_USER; `caps` were negotiated when the client connected.
    ///
    /// # Errors
    /// When it ends too early.
    pub(crate) fn of_change_user(payload: &[u8], caps: CapabilityFlags) -> Result<Self, Short> {
        let mut c = Cursor::new(payload);
        let user = text(c.c_str());
        let auth = if caps.contains(CapabilityFlags::CLIENT_SECURE_CONNECTION) {
            c.short_str()?
        } else {
            c.c_str()
        };
        let mut response = Self {
            capabilities: caps,
            collation: 0,
            user,
            auth: auth.to_vec(),
            database: Some(text(c.c_str())).filter(|d| !d.is_empty()),
            plugin: None,
            program: None,
            library: None,
            zstd_level: ZSTD_LEVEL_DEFAULT,
        };
        // Clients of old end here.
        if c.is_empty() {
            return Ok(response);
        }
        response.collation = c.u16()?;
        if caps.contains(CapabilityFlags::CLIENT_PLUGIN_AUTH) && !c.is_empty() {
            response.plugin = Some(text(c.c_str())).filter(|p| !p.is_empty());
        }
        if caps.contains(CapabilityFlags::CLIENT_CONNECT_ATTRS) && !c.is_empty() {
            response.take_attributes(&mut c)?;
        }
        Ok(response)
    }
}

/// Appends an AuthSwitchRequest: another plugin, a fresh salt.
pub(crate) fn put_auth_switch(plugin: &str, salt: &Salt, out: &mut Vec<u8>) {
    out.push(0xfe);
    out.extend_from_slice(plugin.as_bytes());
    out.push(0);
    out.extend_from_slice(&salt.0);
    out.push(0);
}

/// Appends an AuthMoreData packet.
pub(crate) fn put_auth_more(data: &[u8], out: &mut Vec<u8>) {
    out.push(1);
    out.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::cursor::{put_lenenc, put_lenenc_str};
    use proptest::prelude::*;

    fn hello(caps: u32, tail: &[u8]) -> Vec<u8> {
        let mut p = caps.to_le_bytes().to_vec();
        p.extend_from_slice(&(1u32 << 30).to_le_bytes());
        p.push(255);
        p.extend_from_slice(&[0; 23]);
        p.extend_from_slice(tail);
        p
    }

    fn response(payload: &[u8]) -> HandshakeResponse {
        match ClientHello::parse(payload).unwrap() {
            ClientHello::Response(r) => r,
            ClientHello::Tls => panic!("no TLS was asked"),
        }
    }

    #[test]
    fn a_mysql_9_replica_is_understood() {
        // The capabilities and the layout a MySQL 9.7.4 replica sends.
        let mut tail = b"repl\0 ".to_vec();
        tail.extend_from_slice(&[7; 32]);
        tail.extend_from_slice(b"caching_sha2_password\0");
        let mut attrs = Vec::new();
        for (k, v) in [("_platform", "x86_64"), ("program_name", "mysqld")] {
            put_lenenc_str(&mut attrs, k.as_bytes());
            put_lenenc_str(&mut attrs, v.as_bytes());
        }
        put_lenenc(&mut tail, attrs.len() as u64);
        tail.extend_from_slice(&attrs);
        let r = response(&hello(0x99b8_a285, &tail));
        assert_eq!(r.user, "repl");
        assert_eq!(r.auth, [7; 32]);
        assert_eq!(r.plugin.as_deref(), Some("caching_sha2_password"));
        assert_eq!(r.program.as_deref(), Some("mysqld"));
        assert_eq!(r.database, None);
    }

    #[test]
    fn a_mariadb_replica_names_a_plugin_with_an_empty_answer() {
        let r = response(&hello(
            0x8038_a205 & !0x10_0000,
            b"repl\0\0mysql_native_password\0",
        ));
        assert_eq!((r.user.as_str(), r.auth.len()), ("repl", 0));
        assert_eq!(r.plugin.as_deref(), Some("mysql_native_password"));
    }

    #[test]
    fn the_java_binlog_client_sends_no_attributes_and_packet_size_zero() {
        let mut tail = b"repl\0 ".to_vec();
        tail.extend_from_slice(&[9; 32]);
        tail.extend_from_slice(b"caching_sha2_password\0");
        let mut p = hello(0x0028_8204, &tail);
        p[4..8].copy_from_slice(&[0; 4]);
        assert_eq!(response(&p).auth.len(), 32);
    }

    #[test]
    fn an_empty_database_name_is_no_database() {
        let r = response(&hello(0x000e_f3cf & !0x8_0000, b"root\0\0\0"));
        assert_eq!(r.database, None);
        let r = response(&hello(0x000e_f3cf & !0x8_0000, b"root\0\0shop\0"));
        assert_eq!(r.database.as_deref(), Some("shop"));
    }

    #[test]
    fn a_change_of_user_names_all_or_only_the_start() {
        let caps = offered(false, Compression::default());
        let mut payload = b"other\0\x03abcshop\0\xff\0mysql_native_password\0".to_vec();
        let mut attrs = Vec::new();
        put_lenenc_str(&mut attrs, b"program_name");
        put_lenenc_str(&mut attrs, b"mysqltest");
        put_lenenc(&mut payload, attrs.len() as u64);
        payload.extend_from_slice(&attrs);
        let r = HandshakeResponse::of_change_user(&payload, caps).unwrap();
        assert_eq!(
            (r.user.as_str(), &r.auth[..], r.collation),
            ("other", &b"abc"[..], 255)
        );
        assert_eq!(r.database.as_deref(), Some("shop"));
        assert_eq!(r.plugin.as_deref(), Some("mysql_native_password"));
        assert_eq!(r.program.as_deref(), Some("mysqltest"));
        let r = HandshakeResponse::of_change_user(b"u\0\0\0", caps).unwrap();
        assert_eq!((r.auth.len(), r.database, r.plugin), (0, None, None));
        assert_eq!(
            HandshakeResponse::of_change_user(b"u\0\x09abc", caps),
            Err(Short)
        );
    }

    #[test]
    fn zstd_clients_end_with_their_level() {
        let mut tail = b"u\0\0caching_sha2_password\0".to_vec();
        tail.push(7);
        let caps = 0x0400_0000 | 0x0008_a200;
        assert_eq!(response(&hello(caps, &tail)).zstd_level, 7);
    }

    #[test]
    fn an_ssl_request_is_the_32_byte_prefix() {
        assert_eq!(
            ClientHello::parse(&hello(0x00be_aa85, b"")),
            Ok(ClientHello::Tls)
        );
    }

    #[test]
    fn other_protocols_are_refused() {
        assert_eq!(
            ClientHello::parse(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            Err(Short)
        );
        assert_eq!(ClientHello::parse(b""), Err(Short));
        assert_eq!(
            ClientHello::parse(&hello(0x8200 | 0x20_0000, b"u\0\xfe")),
            Err(Short)
        );
    }

    #[test]
    fn the_greeting_has_the_layout_clients_read() {
        let mut out = Vec::new();
        let greeting = Greeting {
            version: "8.4.9-x",
            connection_id: 7,
            capabilities: offered(false, Compression::default()),
            plugin: "caching_sha2_password",
        };
        greeting.put(&Salt(*b"abcdefghijklmnopqrst"), &mut out);
        let mut c = Cursor::new(&out);
        assert_eq!(c.u8(), Ok(10));
        assert_eq!(c.c_str(), b"8.4.9-x");
        assert_eq!(c.u32(), Ok(7));
        assert_eq!(c.take(8).unwrap(), b"abcdefgh");
        assert_eq!(c.u8(), Ok(0));
        let low = c.u16().unwrap();
        assert_eq!(low & 0x0800, 0, "TLS is not offered unless configured");
        c.take(3).unwrap();
        let high = c.u16().unwrap();
        assert_eq!(
            (u32::from(high) << 16) | u32::from(low),
            offered(false, Compression::default()).bits()
        );
        assert_eq!(c.u8(), Ok(21));
        c.take(10).unwrap();
        assert_eq!(c.c_str(), b"ijklmnopqrst");
        assert_eq!(c.c_str(), b"caching_sha2_password");
        assert!(c.is_empty());
        assert_eq!(
            high & 0x0080,
            0,
            "SESSION_TRACK is not parsed, so not offered"
        );
    }

    proptest! {
        #[test]
        fn salts_are_printable_for_old_clients(bytes in any::<[u8; 20]>()) {
            for b in Salt::from_random(bytes).0 {
                prop_assert!((1..=0x7f).contains(&b) && b != b'$');
            }
        }

        #[test]
        fn any_first_packet_is_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ClientHello::parse(&bytes);
            let _ = HandshakeResponse::of_change_user(&bytes, offered(true, Compression::default()));
            let mut with_41 = bytes;
            if let Some(b) = with_41.get_mut(1) {
                *b |= 2;
            }
            let _ = ClientHello::parse(&with_41);
        }
    }
}
