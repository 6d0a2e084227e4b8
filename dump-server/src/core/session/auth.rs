//! Authentication of one client: which plugin, which exchange, and the verdict.
//!
//! In: the handshake response, then the client's authentication packets. Out: packets, and a verdict. An unknown user goes
//! the same way as a wrong password.

use super::SessionEnv;
use crate::account::{Account, AuthPlugin};
use crate::wire::CapabilityFlags;
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
        let knows_plugins = response
            .capabilities
            .contains(CapabilityFlags::CLIENT_PLUGIN_AUTH);
        let unasked = response.auth.is_empty() && !account.digests.is_empty_password();
        let guessed = match response.plugin.as_deref() {
            // MariaDB's replicas name this plugin whatever the greeting offers, and wait to be asked for an answer.
            Some(guess) if unasked && guess == NATIVE => false,
            Some(guess) => guess == plugin.name(),
            // Clients from before plugins speak mysql_native_password and cannot be switched.
            None => !knows_plugins && plugin == AuthPlugin::MysqlNativePassword,
        };
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

    /// The last salt the client got: a later COM_CHANGE_USER is answered with it.
    pub(super) fn salt(&self) -> Salt {
        self.salt
    }

    /// True when the next packet of the client may need the RSA key, which takes a noticeable part of a second to make.
    pub(super) fn may_need_key(&self) -> bool {
        !self.tls && self.waiting != Waiting::Scramble
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
                let Some(pem) = env.rsa_key.public_pem() else {
                    return DENIED;
                };
                writer.packet(|o| put_auth_more(pem.as_bytes(), o));
                self.waiting = Waiting::Encrypted;
                Verdict::More
            }
            // A client that has the key in a file does not ask for it.
            Waiting::Full | Waiting::Encrypted => {
                match env.rsa_key.decrypt_password(payload, &self.salt) {
                    Some(password) => self.clear(&password),
                    None => DENIED,
                }
            }
        }
    }

    fn digests(&self) -> &PasswordDigests {
        &self.account.digests
    }

    fn scramble(&mut self, answer: &[u8], writer: &mut PacketWriter<'_>) -> Verdict {
        if answer.is_empty() || answer == [0] {
            return self.accept_if(self.digests().is_empty_password(), false);
        }
        match self.account.plugin {
            AuthPlugin::MysqlNativePassword => {
                self.accept_if(self.digests().verify_native(&self.salt, answer), true)
            }
            AuthPlugin::CachingSha2Password => {
                let fast = !self.account.full_authentication
                    && self.digests().verify_sha2(&self.salt, answer);
                let next = if fast {
                    FAST_AUTH_SUCCESS
                } else {
                    FULL_AUTH_NEEDED
                };
                writer.packet(|o| put_auth_more(&[next], o));
                if fast {
                    return self.accept_if(true, true);
                }
                self.waiting = Waiting::Full;
                Verdict::More
            }
        }
    }

    fn clear(&self, password: &[u8]) -> Verdict {
        self.accept_if(self.digests().verify_clear(password), !password.is_empty())
    }

    /// An account that requires TLS fails in clear like one with another password, as in MySQL.
    fn accept_if(&self, known: bool, with_password: bool) -> Verdict {
        if known && (self.tls || !self.account.require_tls) {
            Verdict::Accepted
        } else {
            Verdict::Denied { with_password }
        }
    }
}

/// The plugin of MySQL 4.1 to 8.x.
const NATIVE: &str = "mysql_native_password";

const DENIED: Verdict = Verdict::Denied {
    with_password: true,
};
