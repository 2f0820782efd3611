//! KCP segments: a 24-byte header in little-endian, then the data. A datagram holds one or more.

use thiserror::Error;

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    /// Carries stream data.
    Push = 81,
    /// Acknowledges the segment `sn`, whose `ts` it echoes.
    Ack = 82,
    /// Asks for the receive window.
    AskWindow = 83,
    /// Tells the receive window. So does every other segment.
    TellWindow = 84,
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The conversation, chosen by the client.
    pub conv: u32,
    /// What the segment is for.
    pub cmd: Command,
    /// Segments of the same message that follow. Always 0 in stream mode, and ignored.
    pub frg: u8,
    /// Segments that the sender of this one has room for.
    pub wnd: u16,
    /// The sender's clock in milliseconds; in an acknowledgement the echoed one.
    pub ts: u32,
    /// The number of the segment, or of the one acknowledged.
    pub sn: u32,
    /// The number of the first segment that the sender of this one has not received.
    pub una: u32,
    /// Bytes of data that follow.
    pub len: u32,
}

/// Why bytes are not KCP segments of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SegmentError {
    /// Not even one header.
    #[error("{0} bytes are too few for a KCP segment")]
    TooShort(usize),
    /// Of another conversation.
    #[error("segment of conversation {0}")]
    ForeignConv(u32),
    /// A command that KCP does not have.
    #[error("unknown KCP command {0}")]
    UnknownCommand(u8),
    /// More data announced than there is.
    #[error("segment of {announced} bytes with only {left} left")]
    Truncated {
        /// What the header says.
        announced: u32,
        /// What follows the header.
        left: usize,
    },
}

impl Header {
    /// Bytes of an encoded header.
    pub const LEN: usize = 24;

    /// Reads the header at the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        let Some(head) = bytes.first_chunk::<{ Self::LEN }>() else {
            return Err(SegmentError::TooShort(bytes.len()));
        };
        let u32_at =
            |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        let cmd = match head[4] {
            81 => Command::Push,
            82 => Command::Ack,
            83 => Command::AskWindow,
            84 => Command::TellWindow,
            other => return Err(SegmentError::UnknownCommand(other)),
        };
        Ok(Self {
            conv: u32_at(0),
            cmd,
            frg: head[5],
            wnd: u16::from_le_bytes([head[6], head[7]]),
            ts: u32_at(8),
            sn: u32_at(12),
            una: u32_at(16),
            len: u32_at(20),
        })
    }

    /// Returns the bytes of the header.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0..4].copy_from_slice(&self.conv.to_le_bytes());
        bytes[4] = self.cmd as u8;
        bytes[5] = self.frg;
        bytes[6..8].copy_from_slice(&self.wnd.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.ts.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.sn.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.una.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }
}

/// Walks over the segments in `payload`, the KCP part of a datagram: headers with their data.
///
/// Ends after the first error. Fewer bytes than a header after a whole segment are left over, as
/// kcp-go leaves them.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    payload: &'a [u8],
    conv: u32,
    is_first: bool,
}

impl<'a> Segments<'a> {
    /// Starts at the first segment of `payload`, all of which must be of `conv`.
    pub fn new(payload: &'a [u8], conv: u32) -> Self {
        Self {
            payload,
            conv,
            is_first: true,
        }
    }

    /// Returns the bytes that have not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.payload
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<(Header, &'a [u8]), SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.payload.len() < Header::LEN && !self.is_first {
            return None;
        }
        self.is_first = false;
        let result = split(self.payload, self.conv);
        match result {
            Ok((_, _, rest)) => self.payload = rest,
            Err(_) => self.payload = &[],
        }
        Some(result.map(|(header, data, _)| (header, data)))
    }
}

/// Splits the first segment off: its header, its data, and what follows.
fn split(payload: &[u8], conv: u32) -> Result<(Header, &[u8], &[u8]), SegmentError> {
    let header = Header::decode(payload)?;
    if header.conv != conv {
        return Err(SegmentError::ForeignConv(header.conv));
    }
    let body = &payload[Header::LEN..];
    let len = usize::try_from(header.len)
        .ok()
        .filter(|&len| len <= body.len());
    let Some(len) = len else {
        return Err(SegmentError::Truncated {
            announced: header.len,
            left: body.len(),
        });
    };
    let (data, rest) = body.split_at(len);
    Ok((header, data, rest))
}

/// How far `later` is ahead of `earlier` on the circle of 32-bit numbers; negative when behind.
pub(crate) fn distance(later: u32, earlier: u32) -> i32 {
    later.wrapping_sub(earlier).cast_signed()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn push(len: u32) -> Header {
        let cmd = Command::Push;
        Header {
            conv: 7,
            cmd,
            frg: 0,
            wnd: 512,
            ts: 1,
            sn: 2,
            una: 3,
            len,
        }
    }

    #[test]
    fn segments_of_one_datagram_come_out_in_order() {
        let mut datagram = push(3).encode().to_vec();
        datagram.extend(b"abc");
        datagram.extend(push(0).encode());
        datagram.extend(b"left over");

        let mut segments = Segments::new(&datagram, 7);
        assert_eq!(segments.next(), Some(Ok((push(3), b"abc".as_slice()))));
        assert_eq!(segments.next(), Some(Ok((push(0), b"".as_slice()))));
        assert_eq!(segments.next(), None);
        assert_eq!(segments.rest(), b"left over");
    }

    #[test]
    fn what_is_not_a_segment_says_why_and_ends_the_walk() {
        fn errors(bytes: &[u8]) -> Vec<Result<(Header, &[u8]), SegmentError>> {
            Segments::new(bytes, 7).collect()
        }
        assert_eq!(errors(b""), [Err(SegmentError::TooShort(0))]);
        assert_eq!(
            errors(&push(1).encode()),
            [Err(SegmentError::Truncated {
                announced: 1,
                left: 0
            })]
        );
        let foreign = Header { conv: 8, ..push(0) };
        assert_eq!(
            errors(&foreign.encode()),
            [Err(SegmentError::ForeignConv(8))]
        );
        let mut unknown = push(0).encode();
        unknown[4] = 85;
        assert_eq!(errors(&unknown), [Err(SegmentError::UnknownCommand(85))]);
    }

    proptest! {
        #[test]
        fn a_header_survives_encoding(
            conv: u32, frg: u8, wnd: u16, ts: u32, sn: u32, una: u32, len: u32, cmd in 0usize..4,
        ) {
            let commands =
                [Command::Push, Command::Ack, Command::AskWindow, Command::TellWindow];
            let header = Header { conv, cmd: commands[cmd], frg, wnd, ts, sn, una, len };
            prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn the_walk_ends_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let conv = bytes.first_chunk().map_or(0, |head| u32::from_le_bytes(*head));
            prop_assert!(Segments::new(&bytes, conv).count() <= bytes.len() / Header::LEN + 1);
        }
    }
}
