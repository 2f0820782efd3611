//! The frames on a carrier's stream that carries a held stream.
//!
//! A frame is a type byte and numbers ([`varint`]); only DATA has a payload. Type bytes lie from
//! 0x80 on, where no message of frp's, no magic and no TLS record begins: the first byte of a
//! stream tells a held stream from one of frp's. `docs/wire.md` has the tables.

use bytes::{Buf as _, Bytes};
use thiserror::Error;

use crate::hold::{Generation, varint};

/// The most payload of one DATA frame: the header is 0.1 % of it, and an urgent frame never waits
/// for more than this.
pub const MAX_DATA_LEN: usize = 16 * 1024;

/// Bytes of the longest frame without its payload: ATTACH, a type, flags and four numbers.
pub const MAX_HEADER_LEN: usize = 2 + 4 * varint::MAX_LEN;

/// What the two ends of a held stream tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opener, first on a stream: which held stream this one carries from here on.
    Attach(Attach),
    /// Acceptor, first on a stream: the answer to [`Frame::Attach`].
    Attached(Attached),
    /// Bytes of the stream. Never empty. The decoder hands out a frame in as many parts as it
    /// came in.
    Data {
        /// Where in the stream they belong.
        offset: u64,
        /// The bytes, at most [`MAX_DATA_LEN`].
        payload: Bytes,
    },
    /// How far the sender of this frame has received, and how much more it takes.
    Ack(Ack),
    /// The stream ends here.
    Fin {
        /// How many bytes it has.
        offset: u64,
    },
    /// Both directions end at once, and what has not been read is dropped.
    Reset {
        /// Why, for logs and counters.
        code: ResetCode,
    },
    /// Acceptor, last: it has all that it needs, and forgets the stream.
    Gone,
}

/// What the opener asks with [`Frame::Attach`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attach {
    /// Which held stream.
    pub stream: u64,
    /// Higher than that of all earlier attachments of this stream.
    pub generation: Generation,
    /// The acceptor may take the stream for a new one: the opener has had no answer for it yet.
    pub is_open: bool,
    /// The route that the stream had until here is left to drain, and not dropped.
    pub is_drain: bool,
    /// How far the opener has received.
    pub ack: Ack,
}

/// What the acceptor answers with [`Frame::Attached`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Whether the stream is attached.
    pub status: AttachStatus,
    /// The generation that was asked for; with [`AttachStatus::OldGeneration`] the highest seen.
    pub generation: Generation,
    /// How far the acceptor has received. Zeros when the stream is not attached.
    pub ack: Ack,
}

impl Attached {
    /// The answer to a peer whose stream is not attached.
    pub fn refusal(status: AttachStatus, generation: Generation) -> Self {
        Self {
            status,
            generation,
            ack: Ack::default(),
        }
    }
}

/// Whether a stream has been attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachStatus {
    /// It is.
    Ok,
    /// There is no such stream (any more).
    UnknownStream,
    /// The stream, or the session, has seen a higher generation.
    OldGeneration,
    /// The session has as many streams as it may.
    TooManyStreams,
    /// The carrier does not belong to the session (any more).
    NotJoined,
}

impl AttachStatus {
    const ALL: [Self; 5] = [
        Self::Ok,
        Self::UnknownStream,
        Self::OldGeneration,
        Self::TooManyStreams,
        Self::NotJoined,
    ];
}

/// How far a receiver is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Everything before this offset has arrived. The end of a stream counts as one offset more,
    /// as in TCP, so that it is acknowledged like a byte.
    pub received: u64,
    /// How many bytes from there on the receiver has room for.
    pub window: u64,
}

/// Why a stream was reset. Other numbers are kept and mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetCode(pub u64);

impl ResetCode {
    /// The user's or the service's connection broke.
    pub const BROKEN: Self = Self(0);
    /// The peer broke the protocol.
    pub const PROTOCOL: Self = Self(1);
    /// The peer knows nothing of the stream (any more). Never sent.
    pub const FORGOTTEN: Self = Self(2);
    /// The session is over: goodbye, take-over, or the grace time has passed.
    pub const SESSION_OVER: Self = Self(3);
    /// There are as many streams as there may be.
    pub const TOO_MANY: Self = Self(4);
}

/// Why bytes are not frames. Always the peer's fault, and the end of the carrier's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// No frame has this type.
    #[error("unknown frame type {0:#04x}")]
    UnknownType(u8),
    /// A payload is longer than may be.
    #[error("payload of {len} bytes is over the limit of {max}")]
    TooLong {
        /// As announced.
        len: u64,
        /// The bound.
        max: usize,
    },
    /// DATA without data.
    #[error("an empty data frame")]
    Empty,
    /// The data would go past the largest offset there is.
    #[error("offset {0} is out of range")]
    Offset(u64),
    /// A flag or a status that is not defined.
    #[error("undefined flags or status {0:#04x}")]
    Undefined(u8),
}

impl FrameError {
    /// A short text from a fixed set, to count by.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::UnknownType(_) => "unknown frame type",
            Self::TooLong { .. } => "frame too long",
            Self::Empty => "empty data frame",
            Self::Offset(_) => "offset out of range",
            Self::Undefined(_) => "undefined flags",
        }
    }
}

/// Whether the first byte of a stream begins a held stream.
pub fn begins_held_stream(first: u8) -> bool {
    first == ATTACH
}

impl Frame {
    /// Appends all of the frame but the payload of DATA, which the caller sends behind it.
    pub fn put_header(&self, out: &mut Vec<u8>) {
        match self {
            Self::Attach(attach) => {
                let open = if attach.is_open { IS_OPEN } else { 0 };
                let drain = if attach.is_drain { IS_DRAIN } else { 0 };
                out.extend([ATTACH, open | drain]);
                varint::put(attach.stream, out);
                varint::put(attach.generation.0, out);
                attach.ack.put(out);
            }
            Self::Attached(attached) => {
                out.extend([ATTACHED, attached.status as u8]);
                varint::put(attached.generation.0, out);
                attached.ack.put(out);
            }
            Self::Data { offset, payload } => put_data_header(*offset, payload.len(), out),
            Self::Ack(ack) => {
                out.push(ACK);
                ack.put(out);
            }
            Self::Fin { offset } => {
                out.push(FIN);
                varint::put(*offset, out);
            }
            Self::Reset { code } => {
                out.push(RESET);
                varint::put(code.0, out);
            }
            Self::Gone => out.push(GONE),
        }
    }
}

/// Appends the header of a DATA frame whose payload the caller sends behind it.
pub fn put_data_header(offset: u64, len: usize, out: &mut Vec<u8>) {
    out.push(DATA);
    varint::put(offset, out);
    varint::put(len as u64, out);
}

impl Ack {
    /// The offset up to which the receiver has room.
    pub fn limit(self) -> u64 {
        // Both are at most 2^62.
        self.received + self.window
    }

    fn put(self, out: &mut Vec<u8>) {
        varint::put(self.received, out);
        varint::put(self.window, out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            received: varint::take(input)?,
            window: varint::take(input)?,
        })
    }
}

/// Cuts the bytes of one stream of a carrier into frames, whichever way they come in pieces.
///
/// Payloads are slices of what came in. Of headers that are cut it keeps a few bytes itself, so
/// that it allocates nothing.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The front of a header that has not come whole.
    partial: [u8; MAX_HEADER_LEN],
    partial_len: usize,
    /// The DATA frame that is under way: where its next byte belongs, and how many are missing.
    data_offset: u64,
    data_missing: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            partial: [0; MAX_HEADER_LEN],
            partial_len: 0,
            data_offset: 0,
            data_missing: 0,
        }
    }
}

impl Decoder {
    /// Takes the next frame, or part of a DATA frame, from the front of `input`. `None` once all
    /// of it is used up.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Frame>, FrameError> {
        loop {
            if input.is_empty() {
                return Ok(None);
            }
            if self.data_missing > 0 {
                return Ok(Some(self.take_data(input)));
            }
            match self.take_header(input)? {
                Header::Partial => return Ok(None),
                Header::Data { offset, len } => {
                    self.data_offset = offset;
                    self.data_missing = len;
                }
                Header::Other(frame) => return Ok(Some(frame)),
            }
        }
    }

    /// Whether the input so far ends between two frames. At the end of a stream it should.
    pub fn is_between_frames(&self) -> bool {
        self.partial_len == 0 && self.data_missing == 0
    }

    fn take_data(&mut self, input: &mut Bytes) -> Frame {
        let payload = input.split_to(self.data_missing.min(input.len()));
        let offset = self.data_offset;
        self.data_offset += payload.len() as u64;
        self.data_missing -= payload.len();
        Frame::Data { offset, payload }
    }

    fn take_header(&mut self, input: &mut Bytes) -> Result<Header, FrameError> {
        let kept = self.partial_len;
        let n_more = input.len().min(MAX_HEADER_LEN - kept);
        self.partial[kept..kept + n_more].copy_from_slice(&input[..n_more]);
        let known = &self.partial[..kept + n_more];
        let mut rest = known;
        let header = decode_header(&mut rest)?;
        let header_len = known.len() - rest.len();
        match header {
            None => {
                // A header always ends within the longest, so all of the input is kept here.
                self.partial_len = kept + n_more;
                input.advance(n_more);
                Ok(Header::Partial)
            }
            Some(header) => {
                self.partial_len = 0;
                input.advance(header_len - kept);
                Ok(header)
            }
        }
    }
}

enum Header {
    Partial,
    Data { offset: u64, len: usize },
    Other(Frame),
}

/// Reads a header. `None` when it needs more bytes; a wrong type does not wait for them.
fn decode_header(input: &mut &[u8]) -> Result<Option<Header>, FrameError> {
    let Some((&frame_type, rest)) = input.split_first() else {
        return Ok(None);
    };
    *input = rest;
    let frame = match frame_type {
        DATA => return decode_data(input),
        ACK => Ack::take(input).map(Frame::Ack),
        FIN => varint::take(input).map(|offset| Frame::Fin { offset }),
        RESET => varint::take(input).map(|code| Frame::Reset {
            code: ResetCode(code),
        }),
        GONE => Some(Frame::Gone),
        ATTACH => decode_attach(input)?.map(Frame::Attach),
        ATTACHED => decode_attached(input)?.map(Frame::Attached),
        _ => return Err(FrameError::UnknownType(frame_type)),
    };
    Ok(frame.map(Header::Other))
}

fn decode_data(input: &mut &[u8]) -> Result<Option<Header>, FrameError> {
    let Some((offset, len)) = varint::take(input).zip(varint::take(input)) else {
        return Ok(None);
    };
    // Both are below 2^62, so the sum does not overflow. The end counts as one offset more.
    if offset + len >= varint::MAX {
        return Err(FrameError::Offset(offset));
    }
    match usize::try_from(len) {
        Ok(0) => Err(FrameError::Empty),
        Ok(len) if len <= MAX_DATA_LEN => Ok(Some(Header::Data { offset, len })),
        _ => Err(FrameError::TooLong {
            len,
            max: MAX_DATA_LEN,
        }),
    }
}

fn decode_attach(input: &mut &[u8]) -> Result<Option<Attach>, FrameError> {
    let Some(flags) = take_byte(input) else {
        return Ok(None);
    };
    if flags & !(IS_OPEN | IS_DRAIN) != 0 {
        return Err(FrameError::Undefined(flags));
    }
    let numbers = varint::take(input).zip(varint::take(input));
    Ok(numbers
        .zip(Ack::take(input))
        .map(|((stream, generation), ack)| Attach {
            stream,
            generation: Generation(generation),
            is_open: flags & IS_OPEN != 0,
            is_drain: flags & IS_DRAIN != 0,
            ack,
        }))
}

fn decode_attached(input: &mut &[u8]) -> Result<Option<Attached>, FrameError> {
    let Some(number) = take_byte(input) else {
        return Ok(None);
    };
    let status = AttachStatus::ALL.get(usize::from(number));
    let status = *status.ok_or(FrameError::Undefined(number))?;
    Ok(varint::take(input)
        .zip(Ack::take(input))
        .map(|(generation, ack)| Attached {
            status,
            generation: Generation(generation),
            ack,
        }))
}

fn take_byte(input: &mut &[u8]) -> Option<u8> {
    let (&byte, rest) = input.split_first()?;
    *input = rest;
    Some(byte)
}

const DATA: u8 = 0x80;
const ACK: u8 = 0x81;
const FIN: u8 = 0x82;
const RESET: u8 = 0x83;
const ATTACH: u8 = 0x84;
const ATTACHED: u8 = 0x85;
const GONE: u8 = 0x86;

const IS_OPEN: u8 = 1;
const IS_DRAIN: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_read_as_it_was_written_however_it_is_cut() {
        let wire = all_frames();
        for piece_len in 1..=wire.len() {
            assert_eq!(
                decode(&wire, piece_len),
                Ok(frames()),
                "in {piece_len} bytes"
            );
        }
    }

    #[test]
    fn payloads_are_slices_of_what_came_in() {
        let wire = all_frames();
        let range = wire.as_ptr_range();
        let mut input = wire.clone();
        let mut decoder = Decoder::default();
        while let Some(frame) = decoder.decode(&mut input).unwrap() {
            if let Frame::Data { payload, .. } = frame {
                assert!(range.contains(&payload.as_ptr()));
            }
        }
        assert!(decoder.is_between_frames());
    }

    #[test]
    fn the_longest_header_is_that_of_an_attach_with_the_largest_numbers() {
        let mut out = Vec::new();
        Frame::Attach(Attach {
            stream: varint::MAX,
            generation: Generation(varint::MAX),
            is_open: true,
            is_drain: true,
            ack: Ack {
                received: varint::MAX,
                window: varint::MAX,
            },
        })
        .put_header(&mut out);
        assert_eq!(out.len(), MAX_HEADER_LEN);
    }

    #[test]
    fn bulk_costs_less_than_a_thousandth() {
        let mut header = Vec::new();
        put_data_header(varint::MAX - 20_000, MAX_DATA_LEN, &mut header);
        assert!(header.len() * 1000 < MAX_DATA_LEN);
    }

    #[test]
    fn what_is_no_frame_is_refused_before_more_of_it_has_come() {
        for (wire, error) in [
            (&[0x00][..], FrameError::UnknownType(0)),
            (b"o", FrameError::UnknownType(b'o')),
            (&[DATA, 0, 0], FrameError::Empty),
            (
                &[DATA, 0, 0x80, 0, 0x40, 1],
                FrameError::TooLong {
                    len: 16_385,
                    max: 16_384,
                },
            ),
            (
                &[DATA, 0xff, 255, 255, 255, 255, 255, 255, 255, 1],
                FrameError::Offset(varint::MAX),
            ),
            (&[ATTACH, 4], FrameError::Undefined(4)),
            (&[ATTACHED, 5], FrameError::Undefined(5)),
        ] {
            assert_eq!(decode(&Bytes::copy_from_slice(wire), 1), Err(error));
        }
    }

    /// Decodes `wire` in pieces, and puts parts of DATA frames together again.
    fn decode(wire: &Bytes, piece_len: usize) -> Result<Vec<Frame>, FrameError> {
        let mut decoder = Decoder::default();
        let mut frames: Vec<Frame> = Vec::new();
        for piece in wire.chunks(piece_len) {
            let mut input = wire.slice_ref(piece);
            while let Some(frame) = decoder.decode(&mut input)? {
                match (frames.last_mut(), &frame) {
                    (
                        Some(Frame::Data { offset, payload }),
                        Frame::Data {
                            offset: next,
                            payload: more,
                        },
                    ) if *offset + payload.len() as u64 == *next => {
                        *payload = [&payload[..], more].concat().into();
                    }
                    _ => frames.push(frame),
                }
            }
        }
        Ok(frames)
    }

    fn all_frames() -> Bytes {
        let mut wire = Vec::new();
        for frame in frames() {
            frame.put_header(&mut wire);
            if let Frame::Data { payload, .. } = frame {
                wire.extend(payload);
            }
        }
        wire.into()
    }

    fn frames() -> Vec<Frame> {
        let ack = Ack {
            received: 77,
            window: 1 << 20,
        };
        vec![
            Frame::Attach(Attach {
                stream: 4,
                generation: Generation(9),
                is_open: true,
                is_drain: false,
                ack,
            }),
            Frame::Attached(Attached {
                status: AttachStatus::Ok,
                generation: Generation(9),
                ack,
            }),
            Frame::Data {
                offset: 1 << 33,
                payload: Bytes::from_static(b"hello"),
            },
            Frame::Ack(ack),
            Frame::Data {
                offset: 0,
                payload: vec![7; 100].into(),
            },
            Frame::Fin { offset: 100 },
            Frame::Reset {
                code: ResetCode::PROTOCOL,
            },
            Frame::Gone,
        ]
    }
}
