//! Logging in. In: the server's packets after the handshake response. Out: what to send, until it says OK.
//!
//! `caching_sha2_password` (fast; in full over TLS, or with the server's RSA key when there is no TLS) and
//! `mysql_native_password`, with any switch between them. Without TLS the RSA key is taken from the server itself, as
//! a replica with `GET_SOURCE_PUBLIC_KEY=1` does.

use aws_lc_rs::{
    digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256},
    rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use thiserror::Error;

use super::{
    WireError,
    cursor::Cursor,
    reply::{Reply, ServerError},
};

const CACHING_SHA2: &str = "caching_sha2_password";
const NATIVE: &str = "mysql_native_password";
/// More than any exchange needs; a server that goes on is not one.
const STEPS_MAX: u8 = 8;

/// Why a login failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthError {
    /// The server refused.
    #[error(transparent)]
    Refused(#[from] ServerError),
    /// The account uses a plugin that is not supported here.
    #[error(
        "the account uses authentication plugin '{0}'; supported are caching_sha2_password and \
         mysql_native_password: run ALTER USER … IDENTIFIED WITH caching_sha2_password BY '…'"
    )]
    Plugin(String),
    /// The server's RSA key cannot be used.
    #[error(
        "the server's RSA public key cannot be used ({0}); use TLS for this node, or check caching_sha2_password_public_key_path"
    )]
    PublicKey(&'static str),
    /// A malformed packet.
    #[error(transparent)]
    Wire(#[from] WireError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plugin {
    CachingSha2,
    Native,
}

impl Plugin {
    fn parse(name: &[u8]) -> Result<Self, AuthError> {
        match name {
            b"caching_sha2_password" => Ok(Self::CachingSha2),
            b"mysql_native_password" => Ok(Self::Native),
            _ => Err(AuthError::Plugin(
                String::from_utf8_lossy(name).into_owned(),
            )),
        }
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AuthStep {
    Send(Vec<u8>),
    Wait,
    Done,
}

/// One login.
pub(crate) struct Auth {
    password: String,
    tls: bool,
    plugin: Plugin,
    nonce: Vec<u8>,
    key_asked: bool,
    steps: u8,
}

impl Auth {
    /// Starts with the greeting's plugin, or with `caching_sha2_password` when that is unknown: the server then
    /// switches to the account's own.
    pub(crate) fn new(password: &str, tls: bool, plugin: &str, nonce: &[u8]) -> Self {
        Self {
            password: password.to_owned(),
            tls,
            plugin: Plugin::parse(plugin.as_bytes()).unwrap_or(Plugin::CachingSha2),
            nonce: nonce.to_vec(),
            key_asked: false,
            steps: 0,
        }
    }

    pub(crate) fn plugin_name(&self) -> &'static str {
        match self.plugin {
            Plugin::CachingSha2 => CACHING_SHA2,
            Plugin::Native => NATIVE,
        }
    }

    /// The scramble: nothing for an empty password.
    pub(crate) fn answer(&self) -> Vec<u8> {
        if self.password.is_empty() {
            return Vec::new();
        }
        match self.plugin {
            Plugin::CachingSha2 => scramble_sha256(self.password.as_bytes(), &self.nonce),
            Plugin::Native => scramble_native(self.password.as_bytes(), &self.nonce),
        }
    }

    /// Takes the next packet of the server.
    pub(crate) fn handle(&mut self, packet: &[u8]) -> Result<AuthStep, AuthError> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(unexpected(packet).into());
        }
        match packet {
            [0x00, ..] => Ok(AuthStep::Done),
            [0xff, ..] => match Reply::parse(packet) {
                Reply::Err(error) => Err(error.into()),
                _ => Err(unexpected(packet).into()),
            },
            // Plugin switch; a bare 0xfe asks for the passwords of MySQL 4.0.
            [0xfe] => Err(AuthError::Plugin("mysql_old_password".to_owned())),
            [0xfe, rest @ ..] => self.switch(rest),
            [0x01, 0x03] => Ok(AuthStep::Wait),
            [0x01, 0x04] if self.plugin == Plugin::CachingSha2 => Ok(self.full()),
            [0x01, key @ ..] if self.key_asked => {
                self.key_asked = false;
                encrypt_password(&self.password, &self.nonce, key).map(AuthStep::Send)
            }
            _ => Err(unexpected(packet).into()),
        }
    }

    fn switch(&mut self, body: &[u8]) -> Result<AuthStep, AuthError> {
        let mut c = Cursor::new("authentication switch", body);
        self.plugin = Plugin::parse(c.c_str("plugin")?)?;
        self.nonce = c.rest().to_vec();
        self.nonce.truncate(20);
        Ok(AuthStep::Send(self.answer()))
    }

    fn full(&mut self) -> AuthStep {
        if self.tls {
            let mut clear = self.password.clone().into_bytes();
            clear.push(0);
            return AuthStep::Send(clear);
        }
        self.key_asked = true;
        AuthStep::Send(vec![0x02])
    }
}

fn unexpected(packet: &[u8]) -> WireError {
    let first = packet.first().copied().unwrap_or(0);
    WireError::Unexpected {
        first,
        len: packet.len(),
        doing: "logging in",
    }
}

fn xor(mut a: Vec<u8>, b: &[u8]) -> Vec<u8> {
    for (x, y) in a.iter_mut().zip(b.iter().cycle()) {
        *x ^= y;
    }
    a
}

/// `SHA256(p) XOR SHA256(SHA256(SHA256(p)), nonce)`.
fn scramble_sha256(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let once = digest::digest(&SHA256, password);
    let twice = digest::digest(&SHA256, once.as_ref());
    let salted = digest::digest(&SHA256, &[twice.as_ref(), nonce].concat());
    xor(once.as_ref().to_vec(), salted.as_ref())
}

/// `SHA1(p) XOR SHA1(nonce, SHA1(SHA1(p)))`.
fn scramble_native(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let once = digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, password);
    let twice = digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, once.as_ref());
    let salted = digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, &[nonce, twice.as_ref()].concat());
    xor(once.as_ref().to_vec(), salted.as_ref())
}

/// The password with its NUL, XORed with the nonce, under the server's key (RSA-OAEP with SHA-1).
fn encrypt_password(password: &str, nonce: &[u8], pem: &[u8]) -> Result<Vec<u8>, AuthError> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem)
        .map_err(|_| AuthError::PublicKey("not a PEM public key"))?;
    let key = PublicEncryptingKey::from_der(&der)
        .and_then(|key| OaepPublicEncryptingKey::new(key).map_err(Into::into))
        .map_err(|_| AuthError::PublicKey("not an RSA key of 2048 bits or more"))?;
    let mut clear = password.as_bytes().to_vec();
    clear.push(0);
    let hidden = if nonce.is_empty() {
        clear
    } else {
        xor(clear, nonce)
    };
    let mut out = vec![0; key.ciphertext_size()];
    let len = key
        .encrypt(&OAEP_SHA1_MGF1SHA1, &hidden, &mut out, None)
        .map_err(|_| AuthError::PublicKey("the password is longer than the key allows"))?
        .len();
    out.truncate(len);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::{AsDer, PublicKeyX509Der},
        rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey},
    };
    use proptest::prelude::*;

    use super::*;

    const NONCE: &[u8] = b"ABCDEFGHIJKLMNOPQRST";

    /// A server's check: it knows only the twice hashed password.
    #[test]
    fn scrambles_satisfy_the_servers_check() {
        let answer = scramble_sha256(b"secret", NONCE);
        let stored = digest::digest(&SHA256, digest::digest(&SHA256, b"secret").as_ref());
        let mask = digest::digest(&SHA256, &[stored.as_ref(), NONCE].concat());
        let once = xor(answer, mask.as_ref());
        assert_eq!(digest::digest(&SHA256, &once).as_ref(), stored.as_ref());

        let sha1 = |b: &[u8]| {
            digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, b)
                .as_ref()
                .to_vec()
        };
        let answer = scramble_native(b"secret", NONCE);
        let stored = sha1(&sha1(b"secret"));
        let once = xor(answer, &sha1(&[NONCE, &stored].concat()));
        assert_eq!(sha1(&once), stored);
    }

    #[test]
    fn full_authentication_sends_clear_text_only_over_tls() {
        let mut over_tls = Auth::new("secret", true, CACHING_SHA2, NONCE);
        assert_eq!(
            over_tls.handle(&[1, 4]).unwrap(),
            AuthStep::Send(b"secret\0".to_vec())
        );
        assert_eq!(
            over_tls.handle(&[0, 0, 0, 2, 0, 0, 0]).unwrap(),
            AuthStep::Done
        );
        let mut plain = Auth::new("secret", false, CACHING_SHA2, NONCE);
        assert_eq!(plain.handle(&[1, 4]).unwrap(), AuthStep::Send(vec![2]));
        assert!(matches!(
            plain.handle(b"\x01no key"),
            Err(AuthError::PublicKey(_))
        ));
    }

    #[test]
    fn the_server_can_decrypt_what_its_key_encrypted() {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let der: PublicKeyX509Der<'_> = private.public_key().as_der().unwrap();
        let mut pem = b"\x01-----BEGIN PUBLIC KEY-----\n".to_vec();
        for line in base64(der.as_ref()).as_bytes().chunks(64) {
            pem.extend_from_slice(line);
            pem.push(b'\n');
        }
        pem.extend_from_slice(b"-----END PUBLIC KEY-----\n");
        let mut auth = Auth::new("secret", false, CACHING_SHA2, NONCE);
        auth.handle(&[1, 4]).unwrap();
        let AuthStep::Send(sealed) = auth.handle(&pem).unwrap() else {
            panic!()
        };
        let private = OaepPrivateDecryptingKey::new(private).unwrap();
        let mut out = vec![0; private.min_output_size()];
        let clear = private
            .decrypt(&OAEP_SHA1_MGF1SHA1, &sealed, &mut out, None)
            .unwrap();
        assert_eq!(xor(clear.to_vec(), NONCE), b"secret\0");
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = String::new();
        for three in bytes.chunks(3) {
            let word =
                three.iter().fold(0_u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - three.len()));
            for i in 0..4 {
                let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize] as char;
                out.push(if i > three.len() { '=' } else { digit });
            }
        }
        out
    }

    #[test]
    fn a_switch_changes_plugin_and_nonce() {
        let mut auth = Auth::new("secret", false, CACHING_SHA2, NONCE);
        let step = auth
            .handle(b"\xfemysql_native_password\0abcdefghijklmnopqrst\0")
            .unwrap();
        assert_eq!(
            step,
            AuthStep::Send(scramble_native(b"secret", b"abcdefghijklmnopqrst"))
        );
        let error = auth
            .handle(b"\xfeauthentication_ldap_simple\0")
            .unwrap_err();
        assert!(
            error.to_string().contains("authentication_ldap_simple"),
            "{error}"
        );
    }

    #[test]
    fn a_refusal_carries_the_servers_words() {
        let mut auth = Auth::new("", false, NATIVE, NONCE);
        assert!(auth.answer().is_empty());
        let error = auth.handle(b"\xff\x15\x04#28000Access denied").unwrap_err();
        assert_eq!(error.to_string(), "ERROR 1045 (28000): Access denied");
    }

    proptest! {
        #[test]
        fn arbitrary_packets_end_and_never_panic(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 20)) {
            let mut auth = Auth::new("secret", false, CACHING_SHA2, NONCE);
            let mut sends = 0;
            for packet in packets {
                sends += usize::from(auth.handle(&packet).is_ok());
            }
            prop_assert!(sends <= usize::from(STEPS_MAX));
        }
    }
}
