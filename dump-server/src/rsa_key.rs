//! The key that protects passwords in full authentication without TLS.
//!
//! In: nothing (a fresh key), or a key in PKCS#8. Out: its public half for clients, and the passwords they encrypt with
//! it. Generating is the one thing here that needs randomness; who wants a lasting key loads one.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};

use crate::wire::auth::{strip_nul, xor_with_salt};
use crate::wire::handshake::Salt;

/// The key that protects a password in full authentication without TLS. Made at the first demand: most clients never ask.
#[derive(Clone, Default)]
pub struct RsaKey {
    pair: Arc<OnceLock<Option<Pair>>>,
}

struct Pair {
    key: PrivateDecryptingKey,
    public_pem: String,
}

impl std::fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RsaKey(..)")
    }
}

/// The key cannot be used.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum RsaKeyError {
    /// The public half cannot be written down.
    #[error("the RSA key has no public half")]
    NoPublicKey,
    /// The bytes are no RSA private key.
    #[error("not an RSA private key in PKCS#8 DER of at least 2048 bits: {0}")]
    Rejected(aws_lc_rs::error::KeyRejected),
}

impl RsaKey {
    /// A 2048-bit key, as MySQL makes one at its first start; made when a client first needs it, which takes a noticeable
    /// part of a second.
    pub fn on_demand() -> Self {
        Self::default()
    }

    /// Takes a key from PKCS#8 (DER).
    ///
    /// # Errors
    /// When the bytes are not such a key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, RsaKeyError> {
        let key = PrivateDecryptingKey::from_pkcs8(der).map_err(RsaKeyError::Rejected)?;
        let pair = Pair::new(key).ok_or(RsaKeyError::NoPublicKey)?;
        Ok(Self {
            pair: Arc::new(OnceLock::from(Some(pair))),
        })
    }

    /// `None` when no key could be generated; then no client can authenticate this way.
    fn pair(&self) -> Option<&Pair> {
        let pair = self.pair.get_or_init(|| {
            let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).ok()?;
            Pair::new(key)
        });
        pair.as_ref()
    }

    /// The public key as clients get it.
    pub fn public_pem(&self) -> Option<&str> {
        self.pair().map(|pair| pair.public_pem.as_str())
    }

    #[cfg(test)]
    pub(crate) fn public_key(&self) -> aws_lc_rs::rsa::PublicEncryptingKey {
        self.pair().unwrap().key.public_key()
    }

    /// The password inside an encrypted answer, or `None` when it does not decrypt.
    pub fn decrypt_password(&self, encrypted: &[u8], salt: &Salt) -> Option<Vec<u8>> {
        let pair = self.pair()?;
        if encrypted.len() != pair.key.key_size_bytes() {
            return None;
        }
        let key = OaepPrivateDecryptingKey::new(pair.key.clone()).ok()?;
        let mut plain = vec![0; key.min_output_size()];
        let plain = key
            .decrypt(&OAEP_SHA1_MGF1SHA1, encrypted, &mut plain, None)
            .ok()?;
        xor_with_salt(plain, salt);
        Some(strip_nul(plain).to_vec())
    }
}

impl Pair {
    fn new(key: PrivateDecryptingKey) -> Option<Self> {
        let der: PublicKeyX509Der<'static> = key.public_key().as_der().ok()?;
        Some(Self {
            public_pem: pem("PUBLIC KEY", der.as_ref()),
            key,
        })
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut out = format!("-----BEGIN {label}-----\n");
    let text = base64(der);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            if i <= group.len() {
                out.push(char::from(ALPHABET[(bits >> (18 - 6 * i)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};

    use super::*;

    const SALT: Salt = Salt(*b"0123456789abcdefghij");

    #[test]
    fn an_encrypted_password_comes_back() {
        let key = RsaKey::on_demand();
        assert!(key.pair.get().is_none(), "not before it is needed");
        assert!(
            key.public_pem()
                .unwrap()
                .starts_with("-----BEGIN PUBLIC KEY-----\nMI")
        );
        let public = OaepPublicEncryptingKey::new(
            PublicEncryptingKey::from_der(key.public_key().as_der().unwrap().as_ref()).unwrap(),
        )
        .unwrap();
        let mut password = b"a password longer than the salt\0".to_vec();
        xor_with_salt(&mut password, &SALT);
        let mut sealed = vec![0; public.ciphertext_size()];
        let sealed = public
            .encrypt(&OAEP_SHA1_MGF1SHA1, &password, &mut sealed, None)
            .unwrap();
        assert_eq!(
            key.decrypt_password(sealed, &SALT).as_deref(),
            Some(&b"a password longer than the salt"[..])
        );
        sealed[9] ^= 1;
        assert_eq!(key.decrypt_password(sealed, &SALT), None);
        assert_eq!(key.decrypt_password(b"short", &SALT), None);
    }

    #[test]
    fn base64_pads_as_the_standard_says() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
