//! Authentication of one client: which plugin, which exchange, and the verdict.
//!
//! In: the handshake response, then the client's authentication packets. Out: packets, and a verdict. An unknown user goes
//! the same way as a wrong password.

use super::SessionEnv;
use crate::account::{Account, AuthPlugin};
use crate::wire::auth::{
    FAST_AUTH_SUCCESS, FULL_AUTH_NEEDED, PUBLIC_KEY_REQUEST, PasswordDigests, strip_nul,
};
use crate::wire::handshake::{HandshakeResponse, Salt, put_auth_more, put_auth_switch};
use crate::wire::packet::PacketWriter;

/// Outcome of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The client must send more.
    More,
    /// The client knows the password.
    Accepted,
    /// It does not.
    Denied { with_password: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// For the answer to the (new) salt.
    Scramble,
    /// For the clear password over TLS, or a request for the key.
    Full,
    /// For the encrypted password.
    Encrypted,
}

/// One client's exchange.
pub(super) struct AuthFlow {
    response: HandshakeResponse,
    account: Account,
    salt: Salt,
    tls: bool,
    waiting: Waiting,
}

impl AuthFlow {
    /// Starts with the handshake response; switches the plugin when the client guessed another one.
    pub(super) fn start(
        mut response: HandshakeResponse,
        (salt, switch_salt): (Salt, Salt),
        tls: bool,
        env: SessionEnv<'_>,
        writer: &mut PacketWriter<'_>,
    ) -> (Self, Verdict) {
        let account = env.accounts.find(&response.user).cloned();
        let account = account.unwrap_or_else(|| Account::unknown(&response.user));
        let plugin = account.plugin;
        let guessed = response.plugin.as_deref() == Some(plugin.name());
        let first = std::mem::take(&mut response.auth);
        let mut flow = Self {
            response,
            account,
            salt,
            tls,
            waiting: Waiting::Scramble,
        };
        if guessed {
            let verdict = flow.scramble(&first, writer);
            return (flow, verdict);
        }
        flow.salt = switch_salt;
        writer.packet(|o| put_auth_switch(plugin.name(), &switch_salt, o));
        (flow, Verdict::More)
    }

    /// The user who authenticates.
    pub(super) fn user(&self) -> &str {
        &self.account.user
    }

    /// What the session is made of.
    pub(super) fn into_parts(self) -> (HandshakeResponse, Account) {
        (self.response, self.account)
    }

    /// Handles one more packet of the client.
    pub(super) fn answer(
        &mut self,
        payload: &[u8],
        env: SessionEnv<'_>,
        writer: &mut PacketWriter<'_>,
    ) -> Verdict {
        match self.waiting {
            Waiting::Scramble => self.scramble(payload, writer),
            Waiting::Full if self.tls => self.clear(strip_nul(payload)),
            Waiting::Full if payload == [PUBLIC_KEY_REQUEST] => {
                let pem = env.rsa_key.public_pem();
                writer.packet(|o| put_auth_more(pem.as_bytes(), o));
                self.waiting = Waiting::Encrypted;
                Verdict::More
            }
            // A client that has the key in a file does not ask for it.
            Waiting::Full | Waiting::Encrypted => {
                match env.rsa_key.decrypt_password(payload, &self.salt) {
                    Some(password) => self.clear(&password),
                    None => Verdict::Denied {
                        with_password: true,
                    },
                }
            }
        }
    }

    fn digests(&self) -> &PasswordDigests {
        &self.account.digests
    }

    fn scramble(&mut self, answer: &[u8], writer: &mut PacketWriter<'_>) -> Verdict {
        if answer.is_empty() || answer == [0] {
            return accept_if(self.digests().is_empty_password(), false);
        }
        match self.account.plugin {
            AuthPlugin::MysqlNativePassword => {
                accept_if(self.digests().verify_native(&self.salt, answer), true)
            }
            AuthPlugin::CachingSha2Password => {
                let fast = self.digests().verify_sha2(&self.salt, answer);
                let next = if fast {
                    FAST_AUTH_SUCCESS
                } else {
                    FULL_AUTH_NEEDED
                };
                writer.packet(|o| put_auth_more(&[next], o));
                if fast {
                    return Verdict::Accepted;
                }
                self.waiting = Waiting::Full;
                Verdict::More
            }
        }
    }

    fn clear(&self, password: &[u8]) -> Verdict {
        accept_if(self.digests().verify_clear(password), !password.is_empty())
    }
}

fn accept_if(known: bool, with_password: bool) -> Verdict {
    if known {
        Verdict::Accepted
    } else {
        Verdict::Denied { with_password }
    }
}
