//! What a server sees of a carrier: where it comes from, the server's clock, and padding in the
//! direction in which [`PaddingHead`](super::PaddingHead) sends none. For whoever looks for faults.

use std::net::SocketAddr;

use super::PaddingHead;
use super::wire::{PathDecodeError, Reader};

/// The client asks, on a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MirrorAsk {
    /// How much padding is to follow the answer, up to [`PaddingHead::MAX_BYTES`]. The server may
    /// send less.
    pub bytes: u64,
}

/// The server answers, in front of the padding. The end of the stream is that of the padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MirrorAnswer {
    /// Where the carrier comes from.
    pub peer: SocketAddr,
    /// The server's clock, in milliseconds since 1970.
    pub clock_ms: u64,
}

/// Whether the first byte of a stream asks for a mirror.
#[must_use]
pub fn begins_mirror(first: u8) -> bool {
    first == ASK
}

impl MirrorAsk {
    /// Bytes of every question.
    pub const LEN: usize = 5;

    /// Appends the question. More than the bound is cut to it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let bytes = self.bytes.min(PaddingHead::MAX_BYTES);
        out.push(ASK);
        out.extend_from_slice(&(bytes as u32).to_be_bytes());
    }

    /// Reads a question.
    pub fn decode(bytes: &[u8]) -> Result<Self, PathDecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != ASK {
            return Err(PathDecodeError::OutOfRange("first byte"));
        }
        let bytes = u64::from(u32::from_be_bytes(reader.array()?));
        reader.finish()?;
        if bytes > PaddingHead::MAX_BYTES {
            return Err(PathDecodeError::OutOfRange("length of padding"));
        }
        Ok(Self { bytes })
    }
}

impl MirrorAnswer {
    /// Bytes of every answer: the address is that of IPv6, or of IPv4 mapped into it.
    pub const LEN: usize = 1 + 16 + 2 + 8;

    /// Appends the answer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let ip = match self.peer {
            SocketAddr::V4(peer) => peer.ip().to_ipv6_mapped(),
            SocketAddr::V6(peer) => *peer.ip(),
        };
        out.push(ANSWER);
        out.extend_from_slice(&ip.octets());
        out.extend_from_slice(&self.peer.port().to_be_bytes());
        out.extend_from_slice(&self.clock_ms.to_be_bytes());
    }

    /// Reads an answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, PathDecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != ANSWER {
            return Err(PathDecodeError::OutOfRange("first byte"));
        }
        let ip: [u8; 16] = reader.array()?;
        let port = u16::from_be_bytes(reader.array()?);
        let clock_ms = u64::from_be_bytes(reader.array()?);
        reader.finish()?;
        let ip = std::net::Ipv6Addr::from(ip).to_canonical();
        Ok(Self {
            peer: SocketAddr::new(ip, port),
            clock_ms,
        })
    }
}

const ASK: u8 = 0xa4;
const ANSWER: u8 = 0xa5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_read_as_they_were_written_and_bounded() {
        let ask = MirrorAsk { bytes: 64 * 1024 };
        let mut out = Vec::new();
        ask.encode(&mut out);
        assert!(out.len() == MirrorAsk::LEN && begins_mirror(out[0]));
        assert_eq!(MirrorAsk::decode(&out), Ok(ask));
        let too_long = PathDecodeError::OutOfRange("length of padding");
        assert_eq!(MirrorAsk::decode(&[ASK, 0, 0x10, 0, 1]), Err(too_long));

        for peer in ["192.0.2.1:7000", "[2001:db8::1]:65535"] {
            let answer = MirrorAnswer {
                peer: peer.parse().unwrap_or_else(|_| unreachable!()),
                clock_ms: 1_795_302_669_009,
            };
            let mut out = Vec::new();
            answer.encode(&mut out);
            assert_eq!(out.len(), MirrorAnswer::LEN);
            assert_eq!(MirrorAnswer::decode(&out), Ok(answer));
            assert!(MirrorAnswer::decode(&out[1..]).is_err());
        }
    }
}
