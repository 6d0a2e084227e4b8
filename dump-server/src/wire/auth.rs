//! Password proofs of `caching_sha2_password` and `mysql_native_password`.
//!
//! In: a stored digest, the salt, the client's answer. Out: whether the client knows the password. The server keeps
//! SHA256(SHA256(password)) and SHA1(SHA1(password)): the first lets every correct client take the fast path, so no
//! key and no TLS is needed for it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};

use super::handshake::{SALT_LEN, Salt};

/// AuthMoreData: the fast path succeeded.
pub(crate) const FAST_AUTH_SUCCESS: u8 = 3;
/// AuthMoreData: send the password (TLS) or ask for the key.
pub(crate) const FULL_AUTH_NEEDED: u8 = 4;
/// The client asks for the server's public key.
pub(crate) const PUBLIC_KEY_REQUEST: u8 = 2;

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&SHA256);
    parts.iter().for_each(|p| context.update(p));
    context
        .finish()
        .as_ref()
        .try_into()
        .expect("SHA-256 gives 32 bytes")
}

fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut context = digest::Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|p| context.update(p));
    context
        .finish()
        .as_ref()
        .try_into()
        .expect("SHA-1 gives 20 bytes")
}

fn xor<const N: usize>(a: &[u8; N], b: &[u8; N]) -> [u8; N] {
    let mut out = *a;
    out.iter_mut().zip(b).for_each(|(x, y)| *x ^= y);
    out
}

/// What is stored of a password, for both plugins.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PasswordDigests {
    sha2: [u8; 32],
    native: [u8; 20],
    empty: bool,
}

impl std::fmt::Debug for PasswordDigests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordDigests(..)")
    }
}

impl PasswordDigests {
    /// Digests a password.
    pub(crate) fn new(password: &str) -> Self {
        let password = password.as_bytes();
        Self {
            sha2: sha256(&[&sha256(&[password])]),
            native: sha1(&[&sha1(&[password])]),
            empty: password.is_empty(),
        }
    }

    /// Digests that no password has: what an unknown user is checked against.
    pub(crate) fn impossible() -> Self {
        Self {
            sha2: [0; 32],
            native: [0; 20],
            empty: false,
        }
    }

    /// True when the password is the empty one, which both plugins prove with an empty answer.
    pub(crate) fn is_empty_password(&self) -> bool {
        self.empty
    }

    /// Checks a `caching_sha2_password` scramble: XOR(SHA256(p), SHA256(SHA256(SHA256(p)) ‖ salt)).
    pub(crate) fn verify_sha2(&self, salt: &Salt, answer: &[u8]) -> bool {
        let Ok(answer) = <&[u8; 32]>::try_from(answer) else {
            return false;
        };
        let stage_1 = xor(answer, &sha256(&[&self.sha2, &salt.0]));
        verify_slices_are_equal(&sha256(&[&stage_1]), &self.sha2).is_ok()
    }

    /// Checks a `mysql_native_password` scramble: XOR(SHA1(p), SHA1(salt ‖ SHA1(SHA1(p)))).
    pub(crate) fn verify_native(&self, salt: &Salt, answer: &[u8]) -> bool {
        let Ok(answer) = <&[u8; 20]>::try_from(answer) else {
            return false;
        };
        let stage_1 = xor(answer, &sha1(&[&salt.0, &self.native]));
        verify_slices_are_equal(&sha1(&[&stage_1]), &self.native).is_ok()
    }

    /// Checks a password that came in clear (over TLS, or decrypted).
    pub(crate) fn verify_clear(&self, password: &[u8]) -> bool {
        verify_slices_are_equal(&sha256(&[&sha256(&[password])]), &self.sha2).is_ok()
    }
}

/// XORs a password with the repeated salt, as clients do before they encrypt it with RSA.
pub(crate) fn xor_with_salt(bytes: &mut [u8], salt: &Salt) {
    for (b, s) in bytes.iter_mut().zip(salt.0.iter().cycle()) {
        *b ^= s;
    }
}

/// A password as the client sends it in full authentication: with a NUL at the end.
pub(crate) fn strip_nul(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(&[0]).unwrap_or(bytes)
}

/// The key that protects a password in full authentication without TLS.
#[derive(Clone)]
pub struct RsaKey {
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
    /// Generation failed.
    #[error("no RSA key could be generated")]
    Generate,
    /// The bytes are no RSA private key.
    #[error("not an RSA private key in PKCS#8 DER of at least 2048 bits: {0}")]
    Rejected(aws_lc_rs::error::KeyRejected),
}

impl RsaKey {
    /// Generates a 2048-bit key, as MySQL does at its first start. Takes a noticeable part of a second.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn generate() -> Result<Self, RsaKeyError> {
        let key =
            PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(|_| RsaKeyError::Generate)?;
        Self::from_key(key)
    }

    /// Takes a key from PKCS#8 (DER).
    ///
    /// # Errors
    /// When the bytes are not such a key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, RsaKeyError> {
        Self::from_key(PrivateDecryptingKey::from_pkcs8(der).map_err(RsaKeyError::Rejected)?)
    }

    fn from_key(key: PrivateDecryptingKey) -> Result<Self, RsaKeyError> {
        let der: PublicKeyX509Der<'static> = key
            .public_key()
            .as_der()
            .map_err(|_| RsaKeyError::Generate)?;
        Ok(Self {
            public_pem: pem("PUBLIC KEY", der.as_ref()),
            key,
        })
    }

    /// The public key as clients get it.
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    #[cfg(test)]
    pub(crate) fn public_key(&self) -> aws_lc_rs::rsa::PublicEncryptingKey {
        self.key.public_key()
    }

    /// Length of an encrypted password, in bytes.
    pub fn encrypted_len(&self) -> usize {
        self.key.key_size_bytes()
    }

    /// The password inside an encrypted answer, or `None` when it does not decrypt.
    pub fn decrypt_password(&self, encrypted: &[u8], salt: &Salt) -> Option<Vec<u8>> {
        if encrypted.len() != self.encrypted_len() {
            return None;
        }
        let key = OaepPrivateDecryptingKey::new(self.key.clone()).ok()?;
        let mut plain = vec![0; key.min_output_size()];
        let plain = key
            .decrypt(&OAEP_SHA1_MGF1SHA1, encrypted, &mut plain, None)
            .ok()?;
        xor_with_salt(plain, salt);
        Some(strip_nul(plain).to_vec())
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

const _: () = assert!(SALT_LEN == 20);

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};

    const SALT: Salt = Salt(*b"0123456789abcdefghij");

    fn sha2_answer(password: &[u8]) -> [u8; 32] {
        let stage_1 = sha256(&[password]);
        xor(&stage_1, &sha256(&[&sha256(&[&stage_1]), &SALT.0]))
    }

    fn native_answer(password: &[u8]) -> [u8; 20] {
        let stage_1 = sha1(&[password]);
        xor(&stage_1, &sha1(&[&SALT.0, &sha1(&[&stage_1])]))
    }

    #[test]
    fn the_right_password_proves_itself_and_no_other_does() {
        let d = PasswordDigests::new("s3cret");
        assert!(d.verify_sha2(&SALT, &sha2_answer(b"s3cret")));
        assert!(!d.verify_sha2(&SALT, &sha2_answer(b"s3cres")));
        assert!(!d.verify_sha2(&Salt(*b"0123456789abcdefghiJ"), &sha2_answer(b"s3cret")));
        assert!(d.verify_native(&SALT, &native_answer(b"s3cret")));
        assert!(!d.verify_native(&SALT, &native_answer(b"")));
        assert!(d.verify_clear(b"s3cret") && !d.verify_clear(b"s3cret\0"));
        assert!(!d.verify_sha2(&SALT, b"") && !d.verify_native(&SALT, b"short"));
    }

    #[test]
    fn digests_are_mysqls_own() {
        // SELECT SHA1(UNHEX(SHA1('password'))) on MySQL.
        let native = PasswordDigests::new("password").native;
        let hex: String = native.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "2470c0c06dee42fd1618bb99005adca2ec9d1e19");
    }

    #[test]
    fn nobody_is_the_impossible_account() {
        let d = PasswordDigests::impossible();
        assert!(!d.verify_sha2(&SALT, &[0; 32]) && !d.verify_native(&SALT, &[0; 20]));
        assert!(!d.verify_clear(b"") && !d.is_empty_password());
    }

    #[test]
    fn an_encrypted_password_comes_back() {
        let key = RsaKey::generate().unwrap();
        assert!(
            key.public_pem()
                .starts_with("-----BEGIN PUBLIC KEY-----\nMI")
        );
        let public = OaepPublicEncryptingKey::new(
            PublicEncryptingKey::from_der(key.key.public_key().as_der().unwrap().as_ref()).unwrap(),
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
