//! What a client and a server say to each other: a logging proxy for MySQL's protocol, and the comparison of two such
//! records.
//!
//! In: a client that connects to the proxy's port, a server behind it. Out: a [`Transcript`]: every statement and command with
//! its answer, every dump with the shape of its events. [`differences`] holds the record of a client at a MySQL server against
//! the record of the same client at Tributary; [`explain`] fails on a difference that nobody has given a reason for, and on a
//! reason whose difference is gone.
//!
//! A proxy cannot read what is encrypted or compressed, so it takes both out of the server's greeting (unless told not to):
//! clients that merely prefer them go without.

mod compare;
mod conversation;
mod fixture;
mod packets;
mod proxy;
mod settings;
mod transcript;

pub use compare::{Difference, Explained, differences, explain};
pub use fixture::conversations;
pub use proxy::{Hide, WireProxy};
pub use settings::settings;
pub use transcript::{
    Asked, ColumnDef, Conversation, DumpAsked, Exchange, Greeting, Login, Reply, Stream,
    StreamedEvent, Transcript,
};
