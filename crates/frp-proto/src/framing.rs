//! What can go wrong with either framing of messages.

use thiserror::Error;

use crate::json::JsonError;

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
