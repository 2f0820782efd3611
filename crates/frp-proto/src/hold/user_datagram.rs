//! A datagram of a user of a `udp` proxy, as a datagram of a carrier.
//!
//! One byte for the form of the user's address, the flow, the address, and the content up to its
//! end. Nothing is remembered from one datagram to the next, so that any of them may be lost, and
//! come in any order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use thiserror::Error;

use crate::hold::varint;

/// Bytes of the longest header.
pub const MAX_HEADER_LEN: usize = 1 + varint::MAX_LEN + 16 + 2;

/// One datagram, from a user or to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserDatagram {
    /// Which proxy's it is: the number that the server has given to the proxy's work stream.
    pub flow: u64,
    /// The user, without a scope: addresses that need one go over the work stream.
    pub user: SocketAddr,
    /// What is in it. May be empty.
    pub content: Bytes,
}

/// Why a datagram makes no sense. It is dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UserDatagramError {
    /// No form of address begins with this byte.
    #[error("unknown kind of user datagram {0:#04x}")]
    UnknownKind(u8),
    /// It ends within its header.
    #[error("a user datagram of {0} bytes is cut short")]
    Short(usize),
    /// Flows are numbered from 1.
    #[error("a user datagram without a flow")]
    NoFlow,
    /// The address is an IPv4 one in the form of IPv6: it would name a user twice.
    #[error("an IPv4 user in the form of IPv6")]
    Mapped,
}

impl UserDatagram {
    /// Whether a user's address can be written: one with a scope cannot.
    pub fn can_name(user: SocketAddr) -> bool {
        !matches!(user, SocketAddr::V6(v6) if v6.scope_id() != 0)
    }

    /// Appends the whole datagram to `out`. `flow` is a number from 1 to 2^62 - 1.
    pub fn encode(flow: u64, user: SocketAddr, content: &[u8], out: &mut Vec<u8>) {
        let ip = user.ip().to_canonical();
        out.push(match ip {
            IpAddr::V4(_) => V4,
            IpAddr::V6(_) => V6,
        });
        varint::put(flow, out);
        match ip {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
        out.extend_from_slice(&user.port().to_be_bytes());
        out.extend_from_slice(content);
    }

    /// Reads a datagram. The content is a slice of it.
    pub fn decode(datagram: &Bytes) -> Result<Self, UserDatagramError> {
        let short = UserDatagramError::Short(datagram.len());
        let (&kind, mut rest) = datagram.split_first().ok_or(short)?;
        if kind != V4 && kind != V6 {
            return Err(UserDatagramError::UnknownKind(kind));
        }
        let flow = varint::take(&mut rest).ok_or(short)?;
        if flow == 0 {
            return Err(UserDatagramError::NoFlow);
        }
        let ip = if kind == V4 {
            let octets = take::<4>(&mut rest).ok_or(short)?;
            IpAddr::V4(Ipv4Addr::from(octets))
        } else {
            let ip = Ipv6Addr::from(take::<16>(&mut rest).ok_or(short)?);
            if ip.to_ipv4_mapped().is_some() {
                return Err(UserDatagramError::Mapped);
            }
            IpAddr::V6(ip)
        };
        let port = u16::from_be_bytes(take::<2>(&mut rest).ok_or(short)?);
        Ok(Self {
            flow,
            user: SocketAddr::new(ip, port),
            content: datagram.slice_ref(rest),
        })
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*taken)
}

/// The user has an IPv4 address.
const V4: u8 = 0xb0;

/// The user has an IPv6 address.
const V6: u8 = 0xb1;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn encoded(flow: u64, user: &str, content: &[u8]) -> Bytes {
        let mut out = Vec::new();
        UserDatagram::encode(flow, user.parse().unwrap(), content, &mut out);
        out.into()
    }

    #[test]
    fn a_datagram_is_read_as_it_was_written() {
        for user in ["192.0.2.1:53", "[2001:db8::1]:65535", "0.0.0.0:0"] {
            for (flow, content) in [(1, &b""[..]), (77, b"x"), (varint::MAX, b"content")] {
                let wire = encoded(flow, user, content);
                assert!(wire.len() <= MAX_HEADER_LEN + content.len());
                let read = UserDatagram::decode(&wire).unwrap();
                assert_eq!((read.flow, &read.content[..]), (flow, content));
                assert_eq!(read.user, user.parse().unwrap());
            }
        }
    }

    #[test]
    fn an_ipv4_user_costs_eight_bytes_in_either_form() {
        let wire = encoded(1, "192.0.2.1:53", b"");
        assert_eq!(&wire[..], [0xb0, 1, 192, 0, 2, 1, 0, 53]);
        assert_eq!(encoded(1, "[::ffff:192.0.2.1]:53", b""), wire);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let decode = |bytes: &[u8]| UserDatagram::decode(&Bytes::copy_from_slice(bytes));
        for user in ["192.0.2.1:53", "[2001:db8::1]:53"] {
            let wire = encoded(100, user, b"");
            for len in 0..wire.len() {
                assert_eq!(decode(&wire[..len]), Err(UserDatagramError::Short(len)));
            }
        }
        assert_eq!(
            decode(&[0xb2, 1]),
            Err(UserDatagramError::UnknownKind(0xb2))
        );
        let no_flow = [0xb0, 0, 1, 2, 3, 4, 0, 5];
        assert_eq!(decode(&no_flow), Err(UserDatagramError::NoFlow));
        let mut mapped = vec![0xb1, 1];
        mapped.extend_from_slice(&Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets());
        mapped.extend_from_slice(&[0, 53]);
        assert_eq!(decode(&mapped), Err(UserDatagramError::Mapped));
    }

    #[test]
    fn an_address_with_a_scope_cannot_be_named() {
        assert!(UserDatagram::can_name("[fe80::1]:53".parse().unwrap()));
        assert!(!UserDatagram::can_name("[fe80::1%2]:53".parse().unwrap()));
    }
}
