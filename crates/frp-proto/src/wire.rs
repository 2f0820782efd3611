//! The two framings behind one face.

use std::fmt;
use std::str::FromStr;

use bytes::BytesMut;
use thiserror::Error;

use crate::framing::{DecodeError, EncodeError};
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
