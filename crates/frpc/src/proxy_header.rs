//! The PROXY protocol header that tells a local service who its user is.
//!
//! Written before the first byte of a connection, or in front of the first datagram of a user.
//! The source decides the family, as in frp's library.

use std::net::{IpAddr, SocketAddr};

/// Which header a proxy wants (`transport.proxyProtocolVersion`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderVersion {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// A byte stream.
    Stream,
    /// Datagrams. Version 1 has no word for them and says `UNKNOWN`.
    Datagrams,
}

/// An IPv4 source cannot be combined with an IPv6 destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the user's address is IPv4 and the destination IPv6: no header says that")]
pub struct MixedFamilies;

/// Builds the header.
pub fn build(
    version: HeaderVersion,
    carried: Carried,
    src: SocketAddr,
    dst: SocketAddr,
) -> Result<Vec<u8>, MixedFamilies> {
    let src_ip = src.ip().to_canonical();
    let dst_ip = dst.ip().to_canonical();
    if version == HeaderVersion::V1 && carried == Carried::Datagrams {
        return Ok(b"PROXY UNKNOWN\r\n".to_vec());
    }
    if src_ip.is_ipv4() && dst_ip.is_ipv6() {
        return Err(MixedFamilies);
    }
    Ok(match version {
        HeaderVersion::V1 => {
            let family = if src_ip.is_ipv4() { "TCP4" } else { "TCP6" };
            format!(
                "PROXY {family} {src_ip} {dst_ip} {} {}\r\n",
                src.port(),
                dst.port()
            )
            .into_bytes()
        }
        HeaderVersion::V2 => build_v2(carried, src_ip, dst_ip, src.port(), dst.port()),
    })
}

fn build_v2(carried: Carried, src: IpAddr, dst: IpAddr, src_port: u16, dst_port: u16) -> Vec<u8> {
    let protocol = match carried {
        Carried::Stream => 1,
        Carried::Datagrams => 2,
    };
    let mut header = V2_SIGNATURE.to_vec();
    header.push(V2_PROXY_COMMAND);
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            header.push(V2_FAMILY_IPV4 | protocol);
            header.extend_from_slice(&12_u16.to_be_bytes());
            header.extend_from_slice(&src.octets());
            header.extend_from_slice(&dst.octets());
        }
        (src, dst) => {
            header.push(V2_FAMILY_IPV6 | protocol);
            header.extend_from_slice(&36_u16.to_be_bytes());
            header.extend_from_slice(&v6_octets(src));
            header.extend_from_slice(&v6_octets(dst));
        }
    }
    header.extend_from_slice(&src_port.to_be_bytes());
    header.extend_from_slice(&dst_port.to_be_bytes());
    header
}

fn v6_octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// PROXY protocol, section 2.2: the twelve bytes every version 2 header starts with.
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, command PROXY.
const V2_PROXY_COMMAND: u8 = 0x21;

const V2_FAMILY_IPV4: u8 = 0x10;
const V2_FAMILY_IPV6: u8 = 0x20;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Recorded from frp v0.70.1.
    const RECORDED: &[(HeaderVersion, Carried, &str, &str, &str)] = &[
        (
            HeaderVersion::V1,
            Carried::Stream,
            "1.2.3.4:1000",
            "5.6.7.8:80",
            "50524f5859205443503420312e322e332e3420352e362e372e3820313030302038300d0a",
        ),
        (
            HeaderVersion::V2,
            Carried::Stream,
            "1.2.3.4:1000",
            "5.6.7.8:80",
            "0d0a0d0a000d0a515549540a2111000c010203040506070803e80050",
        ),
        (
            HeaderVersion::V1,
            Carried::Stream,
            "[2001:db8::1]:1000",
            "[2001:db8::2]:80",
            "50524f5859205443503620323030313a6462383a3a3120323030313a6462383a3a32203130303020\
             38300d0a",
        ),
        (
            HeaderVersion::V2,
            Carried::Stream,
            "[2001:db8::1]:1000",
            "[2001:db8::2]:80",
            "0d0a0d0a000d0a515549540a2121002420010db800000000000000000000000120010db8000000000000\
             00000000000203e80050",
        ),
        (
            HeaderVersion::V1,
            Carried::Stream,
            "[2001:db8::1]:1000",
            "127.0.0.1:0",
            "50524f5859205443503620323030313a6462383a3a31203132372e302e302e31203130303020300d0a",
        ),
        (
            HeaderVersion::V2,
            Carried::Stream,
            "[2001:db8::1]:1000",
            "127.0.0.1:0",
            "0d0a0d0a000d0a515549540a2121002420010db80000000000000000000000010000000000000000\
             0000ffff7f00000103e80000",
        ),
        (
            HeaderVersion::V1,
            Carried::Datagrams,
            "1.2.3.4:1000",
            "127.0.0.1:53",
            "50524f585920554e4b4e4f574e0d0a",
        ),
        (
            HeaderVersion::V2,
            Carried::Datagrams,
            "1.2.3.4:1000",
            "127.0.0.1:53",
            "0d0a0d0a000d0a515549540a2112000c010203047f00000103e80035",
        ),
        (
            HeaderVersion::V2,
            Carried::Datagrams,
            "[2001:db8::1]:1000",
            "[::1]:53",
            "0d0a0d0a000d0a515549540a2122002420010db80000000000000000000000010000000000000000\
             000000000000000103e80035",
        ),
    ];

    #[test]
    fn headers_are_those_that_frp_writes() {
        for (version, carried, src, dst, recorded) in RECORDED {
            let header = build(
                *version,
                *carried,
                src.parse().unwrap(),
                dst.parse().unwrap(),
            )
            .unwrap();
            let hex: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(&hex, recorded, "{version:?} {carried:?} {src} -> {dst}");
        }
    }

    #[test]
    fn an_ipv4_user_of_an_ipv6_destination_has_no_header() {
        let src = "1.2.3.4:1000".parse().unwrap();
        let dst = "[::1]:80".parse().unwrap();
        assert_eq!(
            build(HeaderVersion::V1, Carried::Stream, src, dst),
            Err(MixedFamilies)
        );
        assert_eq!(
            build(HeaderVersion::V2, Carried::Stream, src, dst),
            Err(MixedFamilies)
        );
    }
}
