//! frp on paper: what both ends say to each other, without sockets, clock or randomness.
//!
//! From the wire inwards:
//!
//! 1. [`WireVersion`] cuts a byte stream into [`Message`]s, in one of frp's two framings: [`v1`]
//!    (type byte, length, JSON) and [`v2`] (typed frames). [`json`] reads and writes the objects by
//!    the rules of Go's `encoding/json`, because that is what the peer may run.
//! 2. [`msg`] has the messages themselves, and [`extension`] what two Holdfasts add to them.
//! 3. [`auth`] proves knowledge of the token. [`hello`] agrees on the cipher of a v2 control
//!    stream.
//! 4. [`cfb`] (v1 control, and payload in both versions) and [`aead`] (v2 control) encrypt,
//!    [`snappy`] compresses. All three work on buffers and keep the state of one direction.
//! 5. [`path`] watches the carriers between two Holdfasts, and [`policy`] chooses among them.
//!
//! Everything that a peer sends is checked here before anything is allocated for it, and nothing
//! that it sends is a reason to panic.

pub mod aead;
pub mod auth;
pub mod cfb;
pub mod extension;
pub mod framing;
pub mod fuzzing;
pub mod hello;
pub mod hold;
pub mod ids;
pub mod json;
pub mod msg;
pub mod names;
pub mod path;
pub mod policy;
pub mod snappy;
pub mod v1;
pub mod v2;
pub mod wire;

pub use framing::{DecodeError, EncodeError};
pub use json::JsonError;
pub use msg::{Message, MessageType};
pub use wire::WireVersion;
