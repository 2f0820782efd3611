//! The frames on a carrier's session stream: the stream on which the carrier joined its session.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::hold::datagram::PROBES;
use crate::hold::frame::FrameError;
use crate::hold::{Generation, varint};

/// The longest body of a probe or report: a path report of a dozen numbers has under 200 bytes.
pub const MAX_BODY_LEN: usize = 1024;

/// What the two ends of a session tell each other, beside its streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionFrame {
    /// Client: the carrier that this comes on is in use from here on.
    Use {
        /// Higher than all that the session has seen.
        generation: Generation,
    },
    /// Either: the session is over. Nothing of it is kept.
    Goodbye {
        /// Why, for logs.
        reason: GoodbyeReason,
    },
    /// A probe or a path report, on carriers whose datagrams would not go ahead of the rest.
    Probe {
        /// Which of [`PROBES`].
        kind: u8,
        /// What the probes' own reader makes sense of.
        body: Bytes,
    },
}

/// Why a session ended. Other numbers are kept and mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoodbyeReason(pub u64);

impl GoodbyeReason {
    /// The program stops.
    pub const STOPPED: Self = Self(0);
    /// A new instance of the client has taken over.
    pub const TAKEN_OVER: Self = Self(1);
    /// The peer broke the protocol.
    pub const PROTOCOL: Self = Self(2);
}

impl SessionFrame {
    /// Takes a frame from the front of `input`. `None` when it needs more bytes.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let mut rest = &input[..];
        let Some((&frame_type, numbers)) = rest.split_first() else {
            return Ok(None);
        };
        rest = numbers;
        if !(frame_type == USE || frame_type == GOODBYE || PROBES.contains(&frame_type)) {
            return Err(FrameError::UnknownType(frame_type));
        }
        let Some(number) = varint::take(&mut rest) else {
            return Ok(None);
        };
        let header_len = input.len() - rest.len();
        let frame = match frame_type {
            USE => Self::Use {
                generation: Generation(number),
            },
            GOODBYE => Self::Goodbye {
                reason: GoodbyeReason(number),
            },
            kind => {
                let len = match usize::try_from(number) {
                    Ok(len) if len <= MAX_BODY_LEN => len,
                    _ => {
                        return Err(FrameError::TooLong {
                            len: number,
                            max: MAX_BODY_LEN,
                        });
                    }
                };
                if rest.len() < len {
                    return Ok(None);
                }
                input.advance(header_len);
                let body = input.split_to(len).freeze();
                return Ok(Some(Self::Probe { kind, body }));
            }
        };
        input.advance(header_len);
        Ok(Some(frame))
    }

    /// Appends the frame to `out`.
    ///
    /// # Panics
    ///
    /// When the body of a probe is longer than [`MAX_BODY_LEN`]: what is sent is ours.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Use { generation } => {
                out.push(USE);
                varint::put(generation.0, out);
            }
            Self::Goodbye { reason } => {
                out.push(GOODBYE);
                varint::put(reason.0, out);
            }
            Self::Probe { kind, body } => {
                assert!(body.len() <= MAX_BODY_LEN, "a probe is short");
                out.push(*kind);
                varint::put(body.len() as u64, out);
                out.extend_from_slice(body);
            }
        }
    }
}

const USE: u8 = 0x90;
const GOODBYE: u8 = 0x91;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_read_as_it_was_written_and_not_before_it_is_whole() {
        for frame in [
            SessionFrame::Use {
                generation: Generation(300),
            },
            SessionFrame::Goodbye {
                reason: GoodbyeReason::STOPPED,
            },
            SessionFrame::Probe {
                kind: 0xaf,
                body: Bytes::from_static(b"numbers"),
            },
        ] {
            let mut out = Vec::new();
            frame.encode(&mut out);
            for cut in 0..out.len() {
                let mut input = BytesMut::from(&out[..cut]);
                assert_eq!(SessionFrame::decode(&mut input), Ok(None));
                assert_eq!(input.len(), cut);
            }
            let mut input = BytesMut::from(&out[..]);
            assert_eq!(SessionFrame::decode(&mut input), Ok(Some(frame)));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn unknown_types_and_long_bodies_are_refused_at_once() {
        let decode = |bytes: &[u8]| SessionFrame::decode(&mut BytesMut::from(bytes));
        assert_eq!(decode(&[0x80]), Err(FrameError::UnknownType(0x80)));
        let (len, max) = (1025, MAX_BODY_LEN);
        assert_eq!(
            decode(&[0xa0, 0x44, 0x01]),
            Err(FrameError::TooLong { len, max })
        );
    }
}
