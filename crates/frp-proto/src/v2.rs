//! Wire v2: a magic once, then frames of `type u16 BE | flags u16 BE | length u32 BE | payload`.
//!
//! A message frame's payload is `message id u16 BE | JSON`. The control stream of v2 starts with
//! two hello frames, which [`crate::hello`] reads and writes.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::framing::{DecodeError, EncodeError};
use crate::msg::{Message, MessageType};

/// The first bytes that a client sends on every stream. The server sends none.
pub const MAGIC: [u8; 7] = *b"FRP\x00\x02\r\n";

/// The longest payload of a frame, from frp, both ways.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// What a frame carries. There are no other types than these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameType {
    /// JSON, from the client.
    ClientHello,
    /// JSON, from the server.
    ServerHello,
    /// Message id and JSON.
    Message,
}

impl FrameType {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        match self {
            Self::ClientHello => 1,
            Self::ServerHello => 2,
            Self::Message => 16,
        }
    }
}

/// What precedes the payload of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The type's number. May be unknown: which types may come, the reader knows.
    pub frame_type: u16,
    /// How many bytes of payload follow, at most [`MAX_PAYLOAD`].
    pub payload_len: usize,
}

impl FrameHeader {
    /// Bytes of a header.
    pub const LEN: usize = 8;

    /// Reads a header, and refuses what this version cannot carry.
    pub fn decode(bytes: [u8; Self::LEN]) -> Result<Self, DecodeError> {
        let [type_hi, type_lo, flags_hi, flags_lo, len @ ..] = bytes;
        // v2 defines no flag. A peer that sets one speaks a version we do not know.
        let flags = u16::from_be_bytes([flags_hi, flags_lo]);
        if flags != 0 {
            return Err(DecodeError::UnknownFlags(flags));
        }
        let len = u32::from_be_bytes(len);
        match usize::try_from(len) {
            Ok(payload_len) if payload_len <= MAX_PAYLOAD => Ok(Self {
                frame_type: u16::from_be_bytes([type_hi, type_lo]),
                payload_len,
            }),
            _ => Err(DecodeError::TooLong {
                len: len.into(),
                max: MAX_PAYLOAD,
            }),
        }
    }

    /// Checks that the frame is one that may come here.
    pub fn expect(self, expected: FrameType) -> Result<Self, DecodeError> {
        if self.frame_type != expected.number() {
            return Err(DecodeError::UnexpectedFrame {
                found: self.frame_type,
                expected: expected.number(),
            });
        }
        Ok(self)
    }
}

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The type's number.
    pub frame_type: u16,
    /// What it carries, exactly as on the wire: the hello frames are hashed.
    pub payload: Bytes,
}

impl Frame {
    /// The payload, when the frame is one that may come here.
    pub fn expect(self, expected: FrameType) -> Result<Bytes, DecodeError> {
        let header = FrameHeader {
            frame_type: self.frame_type,
            payload_len: self.payload.len(),
        };
        header.expect(expected).map(|_| self.payload)
    }
}

/// Takes one frame of any type from the front of `input`. `None` when it needs more bytes.
pub fn decode_frame(input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
    let Some(header) = input.first_chunk() else {
        return Ok(None);
    };
    let header = FrameHeader::decode(*header)?;
    if input.len() < FrameHeader::LEN + header.payload_len {
        return Ok(None);
    }
    input.advance(FrameHeader::LEN);
    let payload = input.split_to(header.payload_len).freeze();
    Ok(Some(Frame {
        frame_type: header.frame_type,
        payload,
    }))
}

/// Appends a frame to `out`.
pub fn encode_frame(
    frame_type: FrameType,
    payload: &[u8],
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(EncodeError::TooLong {
            what: "frame",
            len: payload.len(),
            max: MAX_PAYLOAD,
        });
    }
    put_header(frame_type, payload.len(), out);
    out.put_slice(payload);
    Ok(())
}

/// Takes one message from the front of `input`. See
/// [`WireVersion::decode`](crate::WireVersion::decode).
pub fn decode_message(input: &mut BytesMut) -> Result<Option<Message>, DecodeError> {
    let Some(header) = input.first_chunk() else {
        return Ok(None);
    };
    let header = FrameHeader::decode(*header)?.expect(FrameType::Message)?;
    let end = FrameHeader::LEN + header.payload_len;
    let Some(payload) = input.get(FrameHeader::LEN..end) else {
        return Ok(None);
    };
    let message = decode_message_payload(payload)?;
    input.advance(end);
    Ok(Some(message))
}

/// Reads the payload of a message frame.
pub fn decode_message_payload(payload: &[u8]) -> Result<Message, DecodeError> {
    let Some((&id, json)) = payload.split_first_chunk() else {
        return Err(DecodeError::NoMessageId(payload.len()));
    };
    let id = u16::from_be_bytes(id);
    let message_type = MessageType::from_v2_id(id).ok_or(DecodeError::UnknownMessageId(id))?;
    Message::from_json(message_type, json).map_err(|source| DecodeError::Json {
        message: message_type.name(),
        source,
    })
}

/// Appends a message frame to `out`, or leaves `out` as it was.
pub fn encode_message(message: &Message, out: &mut BytesMut) -> Result<(), EncodeError> {
    let start = out.len();
    put_header(FrameType::Message, 0, out);
    out.put_u16(message.v2_id());
    message.append_json(out);
    let len = out.len() - start - FrameHeader::LEN;
    if len > MAX_PAYLOAD {
        out.truncate(start);
        return Err(EncodeError::TooLong {
            what: message.name(),
            len,
            max: MAX_PAYLOAD,
        });
    }
    out[start + 4..start + FrameHeader::LEN].copy_from_slice(&be_len(len));
    Ok(())
}

fn put_header(frame_type: FrameType, payload_len: usize, out: &mut BytesMut) {
    out.put_u16(frame_type.number());
    out.put_u16(0);
    out.put_slice(&be_len(payload_len));
}

/// A payload length, which is at most [`MAX_PAYLOAD`], as on the wire.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a payload length fits in 17 bits"
)]
fn be_len(len: usize) -> [u8; 4] {
    assert!(
        len <= MAX_PAYLOAD,
        "lengths are checked before they are written"
    );
    (len as u32).to_be_bytes()
}
