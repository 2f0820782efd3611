//! UDP in IPv4, taken apart and put together.

use std::net::{Ipv4Addr, SocketAddrV4};

/// A UDP packet that was on the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who says that he has sent it.
    pub from: SocketAddrV4,
    /// Who it is for.
    pub to: SocketAddrV4,
    /// What is in it.
    pub payload: Vec<u8>,
}

impl Packet {
    /// Reads an IP packet; anything but a whole UDP packet between two hosts is nothing.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let first = *bytes.first()?;
        if first >> 4 != 4 || *bytes.get(9)? != UDP {
            return None;
        }
        let header_len = usize::from(first & 0x0f) * 4;
        let address = |at: usize| -> Option<Ipv4Addr> {
            let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(octets.into())
        };
        let (from, to) = (address(12)?, address(16)?);
        if from.is_loopback() {
            return None;
        }
        let port = |at: usize| -> Option<u16> {
            Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
        };
        Some(Self {
            from: SocketAddrV4::new(from, port(header_len)?),
            to: SocketAddrV4::new(to, port(header_len + 2)?),
            payload: bytes.get(header_len + UDP_HEADER_LEN..)?.to_vec(),
        })
    }
}

/// Says whether [`build`] has made a packet.
pub(super) fn is_own(bytes: &[u8]) -> bool {
    bytes.get(TTL_AT) == Some(&OWN_TTL)
}

/// Makes an IP packet. The kernel fills in the length, the number and the checksum of IP; that of
/// UDP may be left out.
pub(super) fn build(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let udp_len = u16::try_from(UDP_HEADER_LEN + payload.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, OWN_TTL, UDP, 0, 0];
    bytes.extend(from.ip().octets());
    bytes.extend(to.ip().octets());
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(udp_len.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

const UDP: u8 = 17;
const UDP_HEADER_LEN: usize = 8;
const TTL_AT: usize = 8;
/// What no system begins with: that is how own packets are known.
const OWN_TTL: u8 = 61;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_put_together_can_be_taken_apart() {
        let from = "198.18.0.9:7".parse().unwrap();
        let to = "198.18.0.1:7000".parse().unwrap();

        let bytes = build(from, to, b"payload");

        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.from, packet.to), (from, to));
        assert_eq!(packet.payload, b"payload");
        assert!(is_own(&bytes));
        for n in 0..bytes.len() - b"payload".len() {
            assert_eq!(Packet::parse(&bytes[..n]), None, "{n} bytes");
        }
    }
}
