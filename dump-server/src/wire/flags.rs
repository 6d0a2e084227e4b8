//! Capability and status flags, with the names and bits of MySQL's protocol.
//!
//! In: bits from a packet. Out: sets that are tested by name. Only flags this crate reads or offers have names.

use std::ops::{BitAnd, BitOr, BitOrAssign};

macro_rules! flag_set {
    ($(#[$doc:meta])* $name:ident: $bits:ty { $($(#[$flag_doc:meta])* $flag:ident = $value:expr;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[must_use]
        pub(crate) struct $name($bits);

        #[allow(dead_code, reason = "not every set needs every operation")]
        impl $name {
            $($(#[$flag_doc])* pub(crate) const $flag: Self = Self($value);)*

            /// No flag.
            pub(crate) const fn empty() -> Self {
                Self(0)
            }

            /// All bits as they came; unknown ones are kept.
            pub(crate) const fn from_bits(bits: $bits) -> Self {
                Self(bits)
            }

            /// The bits.
            pub(crate) const fn bits(self) -> $bits {
                self.0
            }

            /// True when every flag of `other` is set.
            pub(crate) const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Sets or clears the flags of `other`.
            pub(crate) fn set(&mut self, other: Self, on: bool) {
                if on {
                    self.0 |= other.0;
                } else {
                    self.0 &= !other.0;
                }
            }
        }

        impl BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }

        impl BitAnd for $name {
            type Output = Self;
            fn bitand(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
        }
    };
}

flag_set! {
    /// What client and server can do (`CLIENT_*` of `include/mysql_com.h`).
    CapabilityFlags: u32 {
        /// Passwords of protocol 4.1.
        CLIENT_LONG_PASSWORD = 1;
        /// Found instead of affected rows.
        CLIENT_FOUND_ROWS = 1 << 1;
        /// All column flags.
        CLIENT_LONG_FLAG = 1 << 2;
        /// A default database in the handshake response.
        CLIENT_CONNECT_WITH_DB = 1 << 3;
        /// zlib compression of the protocol.
        CLIENT_COMPRESS = 1 << 5;
        /// Spaces before `(`.
        CLIENT_IGNORE_SPACE = 1 << 8;
        /// The protocol of MySQL 4.1 and later.
        CLIENT_PROTOCOL_41 = 1 << 9;
        /// interactive_timeout instead of wait_timeout.
        CLIENT_INTERACTIVE = 1 << 10;
        /// TLS.
        CLIENT_SSL = 1 << 11;
        /// Status flags about transactions.
        CLIENT_TRANSACTIONS = 1 << 13;
        /// Authentication of 4.1: a length byte before the answer.
        CLIENT_SECURE_CONNECTION = 1 << 15;
        /// Several statements in one query.
        CLIENT_MULTI_STATEMENTS = 1 << 16;
        /// Several results of one query.
        CLIENT_MULTI_RESULTS = 1 << 17;
        /// Several results of one prepared statement.
        CLIENT_PS_MULTI_RESULTS = 1 << 18;
        /// A plugin's name in the handshake.
        CLIENT_PLUGIN_AUTH = 1 << 19;
        /// Connection attributes.
        CLIENT_CONNECT_ATTRS = 1 << 20;
        /// A length-encoded answer in the handshake.
        CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA = 1 << 21;
        /// OK packets instead of EOF packets.
        CLIENT_DEPRECATE_EOF = 1 << 24;
        /// zstd compression of the protocol; a level ends the handshake response.
        CLIENT_ZSTD_COMPRESSION_ALGORITHM = 1 << 26;
        /// Attributes before the text of a query.
        CLIENT_QUERY_ATTRIBUTES = 1 << 27;
    }
}

flag_set! {
    /// State of a session, in OK and EOF packets (`SERVER_STATUS_*`).
    StatusFlags: u16 {
        /// A transaction is open.
        SERVER_STATUS_IN_TRANS = 1;
        /// Autocommit is on.
        SERVER_STATUS_AUTOCOMMIT = 2;
        /// Another result follows.
        SERVER_MORE_RESULTS_EXISTS = 8;
        /// Rows wait for COM_STMT_FETCH.
        SERVER_STATUS_CURSOR_EXISTS = 64;
        /// The last row was fetched.
        SERVER_STATUS_LAST_ROW_SENT = 128;
    }
}
