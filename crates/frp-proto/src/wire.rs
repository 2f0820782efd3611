//! The two framings behind one face, and what can go wrong with either.

use std::fmt;
use std::str::FromStr;

use bytes::BytesMut;
use thiserror::Error;

use crate::json::JsonError;
use crate::msg::Message;
use crate::{v1, v2};

/// frp's two framings of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WireVersion {
    /// Type byte, length, JSON. The control stream is encrypted without authentication.
    #[default]
    V1,
    /// Typed frames, behind a magic. The control stream is authenticated.
    V2,
}

impl WireVersion {
    /// Appends `message` to `out`, or leaves `out` as it was.
    pub fn encode(self, message: &Message, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::V1 => v1::encode(message, out),
            Self::V2 => v2::encode_message(message, out),
        }
    }

    /// Takes one whole message from the front of `input`, and not a byte more. `None` when it needs
    /// more bytes; then nothing is taken.
    pub fn decode(self, input: &mut BytesMut) -> Result<Option<Message>, DecodeError> {
        match self {
            Self::V1 => v1::decode(input),
            Self::V2 => v2::decode_message(input),
        }
    }

    /// The longest message that [`decode`](Self::decode) asks to be in its input, framing included.
    pub fn max_message_len(self) -> usize {
        match self {
            Self::V1 => v1::Header::LEN + v1::MAX_PAYLOAD,
            Self::V2 => v2::FrameHeader::LEN + v2::MAX_PAYLOAD,
        }
    }
}

impl fmt::Display for WireVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

impl FromStr for WireVersion {
    type Err = UnknownWireVersion;

    fn from_str(text: &str) -> Result<Self, UnknownWireVersion> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            _ => Err(UnknownWireVersion(text.to_owned())),
        }
    }
}

/// The text names no wire version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown wire protocol {0:?}: it is \"v1\" or \"v2\"")]
pub struct UnknownWireVersion(pub String);

/// Why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The peer would refuse it, and close.
    #[error("{what} of {len} bytes is longer than the {max} that the peer accepts")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
}

/// Why bytes are no message. Always the peer's fault, and the end of the stream: what follows
/// cannot be told apart from the rest of this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// v1: no message has this type byte.
    #[error("unknown message type {0:#04x}")]
    UnknownType(u8),
    /// v2: no message has this id.
    #[error("unknown v2 message id {0}")]
    UnknownMessageId(u16),
    /// v1: the length is below zero.
    #[error("message length {0} is negative")]
    NegativeLength(i64),
    /// The length is above the bound.
    #[error("length {len} is over the limit of {max}")]
    TooLong {
        /// As announced.
        len: u64,
        /// The bound.
        max: usize,
    },
    /// v2: flags are set, and none is defined.
    #[error("unsupported frame flags {0:#06x}")]
    UnknownFlags(u16),
    /// v2: a frame of another type than must come here.
    #[error("unexpected frame type {found}, expected {expected}")]
    UnexpectedFrame {
        /// As announced.
        found: u16,
        /// What must come.
        expected: u16,
    },
    /// v2: a message frame without room for the message id.
    #[error("message frame of {0} bytes has no message id")]
    NoMessageId(usize),
    /// The JSON is broken, or of the wrong type somewhere.
    #[error("cannot read {message}: {source}")]
    Json {
        /// The message that it should be.
        message: &'static str,
        /// What is wrong.
        source: JsonError,
    },
}

impl DecodeError {
    /// A short text from a fixed set, to count by.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::UnknownType(_) => "unknown message type",
            Self::UnknownMessageId(_) => "unknown message id",
            Self::NegativeLength(_) => "negative length",
            Self::TooLong { .. } => "length over limit",
            Self::UnknownFlags(_) => "frame flags",
            Self::UnexpectedFrame { .. } => "unexpected frame",
            Self::NoMessageId(_) => "no message id",
            Self::Json { .. } => "json",
        }
    }
}
