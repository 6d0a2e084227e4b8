//! Password proofs of `caching_sha2_password` and `mysql_native_password`.
//!
//! In: a stored digest, the salt, the client's answer. Out: whether the client knows the password. The server keeps
//! SHA256(SHA256(password)) and SHA1(SHA1(password)): the first lets every correct client take the fast path, so no
//! key and no TLS is needed for it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

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

const _: () = assert!(SALT_LEN == 20);

#[cfg(test)]
mod tests {
    use super::*;

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
}
