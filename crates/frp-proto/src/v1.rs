//! Wire v1: `type u8 | length i64 BE | JSON`.

use bytes::{Buf as _, BufMut as _, BytesMut};

use crate::framing::{DecodeError, EncodeError};
use crate::msg::{Message, MessageType};

/// The longest JSON text, from frp. A peer closes on a longer one, so it is not sent either.
pub const MAX_PAYLOAD: usize = 10240;

/// What precedes the JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which message follows.
    pub message_type: MessageType,
    /// How many bytes of JSON follow, at most [`MAX_PAYLOAD`].
    pub payload_len: usize,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 9;

    /// Reads a header, and refuses what frp refuses.
    pub fn decode(bytes: [u8; Self::LEN]) -> Result<Self, DecodeError> {
        let [type_byte, len @ ..] = bytes;
        let message_type = decode_type(type_byte)?;
        let len = i64::from_be_bytes(len);
        let len = u64::try_from(len).map_err(|_| DecodeError::NegativeLength(len))?;
        match usize::try_from(len) {
            Ok(payload_len) if payload_len <= MAX_PAYLOAD => Ok(Self {
                message_type,
                payload_len,
            }),
            _ => Err(DecodeError::TooLong {
                len,
                max: MAX_PAYLOAD,
            }),
        }
    }
}

/// Reads the JSON text of a message.
pub fn decode_payload(message_type: MessageType, payload: &[u8]) -> Result<Message, DecodeError> {
    Message::from_json(message_type, payload).map_err(|source| DecodeError::Json {
        message: message_type.name(),
        source,
    })
}

/// Takes one message from the front of `input`. See
/// [`WireVersion::decode`](crate::WireVersion::decode).
pub fn decode(input: &mut BytesMut) -> Result<Option<Message>, DecodeError> {
    let Some(header) = input.first_chunk() else {
        // A wrong first byte need not wait for eight more.
        if let Some(&type_byte) = input.first() {
            decode_type(type_byte)?;
        }
        return Ok(None);
    };
    let header = Header::decode(*header)?;
    let end = Header::LEN + header.payload_len;
    let Some(payload) = input.get(Header::LEN..end) else {
        return Ok(None);
    };
    let message = decode_payload(header.message_type, payload)?;
    input.advance(end);
    Ok(Some(message))
}

/// Appends `message` to `out`, or leaves `out` as it was.
pub fn encode(message: &Message, out: &mut BytesMut) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_u8(message.type_byte());
    out.put_u64(0);
    message.append_json(out);
    let len = out.len() - start - Header::LEN;
    if len > MAX_PAYLOAD {
        out.truncate(start);
        return Err(EncodeError::TooLong {
            what: message.name(),
            len,
            max: MAX_PAYLOAD,
        });
    }
    out[start + 1..start + Header::LEN].copy_from_slice(&(len as u64).to_be_bytes());
    Ok(())
}

fn decode_type(type_byte: u8) -> Result<MessageType, DecodeError> {
    MessageType::from_byte(type_byte).ok_or(DecodeError::UnknownType(type_byte))
}
