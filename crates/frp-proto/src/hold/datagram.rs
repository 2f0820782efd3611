//! What Holdfasts send as datagrams of a carrier. The first byte tells the kinds apart.

use bytes::{Buf as _, Bytes};
use thiserror::Error;

use crate::hold::varint;

/// Bytes of the longest header of [`Datagram::Data`].
pub const MAX_DATA_HEADER_LEN: usize = 1 + 2 * varint::MAX_LEN;

/// One datagram of a carrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// A second copy of a held stream's bytes, which also go as frames. Whoever comes second is
    /// dropped by its offset.
    Data {
        /// Which held stream.
        stream: u64,
        /// Where in the stream the bytes belong.
        offset: u64,
        /// The bytes. Never empty.
        payload: Bytes,
    },
    /// A probe of the path.
    Probe {
        /// Which of [`PROBES`].
        kind: u8,
        /// What the probes' own reader makes sense of.
        body: Bytes,
    },
    /// A packet of a UDP proxy.
    Proxy {
        /// Which of [`PROXIES`].
        kind: u8,
        /// What the proxies' own reader makes sense of.
        body: Bytes,
    },
}

/// First bytes of probes, in datagrams and in session frames.
pub const PROBES: std::ops::RangeInclusive<u8> = 0xa0..=0xaf;

/// First bytes of packets of UDP proxies.
pub const PROXIES: std::ops::RangeInclusive<u8> = 0xb0..=0xbf;

/// Why a datagram makes no sense. It is dropped and counted; the carrier is not at fault, since
/// datagrams of a later version may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DatagramError {
    /// Nothing begins with this byte.
    #[error("unknown kind of datagram {0:#04x}")]
    UnknownKind(u8),
    /// It ends within its header, or has nothing behind it.
    #[error("a datagram of {0} bytes is cut short")]
    Short(usize),
    /// The data would go past the largest offset there is.
    #[error("offset {0} is out of range")]
    Offset(u64),
}

impl Datagram {
    /// Reads a datagram. The payload is a slice of it.
    pub fn decode(mut datagram: Bytes) -> Result<Self, DatagramError> {
        let len = datagram.len();
        let mut rest = &datagram[..];
        let Some((&kind, body)) = rest.split_first() else {
            return Err(DatagramError::Short(len));
        };
        rest = body;
        match kind {
            DATA => {
                let numbers = varint::take(&mut rest).zip(varint::take(&mut rest));
                let (stream, offset) = numbers.ok_or(DatagramError::Short(len))?;
                if rest.is_empty() {
                    return Err(DatagramError::Short(len));
                }
                if offset + rest.len() as u64 >= varint::MAX {
                    return Err(DatagramError::Offset(offset));
                }
                let payload = datagram.slice_ref(rest);
                Ok(Self::Data {
                    stream,
                    offset,
                    payload,
                })
            }
            kind if PROBES.contains(&kind) => {
                datagram.advance(1);
                let body = datagram;
                Ok(Self::Probe { kind, body })
            }
            kind if PROXIES.contains(&kind) => {
                datagram.advance(1);
                let body = datagram;
                Ok(Self::Proxy { kind, body })
            }
            _ => Err(DatagramError::UnknownKind(kind)),
        }
    }

    /// Appends the whole datagram to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Data {
                stream,
                offset,
                payload,
            } => {
                out.push(DATA);
                varint::put(*stream, out);
                varint::put(*offset, out);
                out.extend_from_slice(payload);
            }
            Self::Probe { kind, body } | Self::Proxy { kind, body } => {
                out.push(*kind);
                out.extend_from_slice(body);
            }
        }
    }
}

const DATA: u8 = 0x88;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_tells_the_kinds_apart() {
        let body = Bytes::from_static(b"body");
        for datagram in [
            Datagram::Data {
                stream: 3,
                offset: 1 << 40,
                payload: body.clone(),
            },
            Datagram::Probe {
                kind: 0xa1,
                body: body.clone(),
            },
            Datagram::Proxy { kind: 0xb0, body },
        ] {
            let mut out = Vec::new();
            datagram.encode(&mut out);
            assert_eq!(Datagram::decode(out.into()), Ok(datagram));
        }
    }

    #[test]
    fn what_is_cut_or_unknown_is_refused() {
        let decode = |bytes: &'static [u8]| Datagram::decode(Bytes::from_static(bytes));
        assert_eq!(decode(&[]), Err(DatagramError::Short(0)));
        assert_eq!(decode(&[DATA, 1]), Err(DatagramError::Short(2)));
        assert_eq!(decode(&[DATA, 1, 1]), Err(DatagramError::Short(3)));
        assert_eq!(decode(&[0x40]), Err(DatagramError::UnknownKind(0x40)));
    }
}
