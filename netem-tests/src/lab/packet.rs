//! What the link has to know about IP packets: where the payload is, and how to flip a bit of it.

use super::profile::CorruptChecksum;
use super::random::Random;

/// Says whether the link carries the packet. A kernel sends IPv6 neighbour discovery unasked, and
/// that must not move the sequence of random decisions.
pub(crate) fn is_ipv4(packet: &[u8]) -> bool {
    packet.first().is_some_and(|byte| byte >> 4 == 4) && packet.len() >= IPV4_HEADER_LEN
}

/// Says whether it is UDP.
pub(crate) fn is_udp(packet: &[u8]) -> bool {
    packet.get(PROTOCOL_AT) == Some(&UDP)
}

/// Says whether it is TCP.
pub(crate) fn is_tcp(packet: &[u8]) -> bool {
    packet.get(PROTOCOL_AT) == Some(&TCP)
}

/// Flips one bit of the payload. Says whether there was one to flip.
pub(crate) fn corrupt(packet: &mut [u8], checksum: CorruptChecksum, random: &mut Random) -> bool {
    let header_len = ip_header_len(packet);
    if checksum == CorruptChecksum::Right && !is_udp(packet) {
        return false;
    }
    let payload_at = header_len + transport_header_len(packet, header_len);
    let Some(payload_len @ 1..) = packet.len().checked_sub(payload_at) else {
        return false;
    };
    let at = payload_at + random.below(payload_len);
    let bit = 1u8 << random.below(8);
    let word_at = at - (at - header_len) % 2;
    let old = word(packet, word_at);
    packet[at] ^= bit;
    if checksum == CorruptChecksum::Right {
        repair_udp_checksum(
            packet,
            header_len + UDP_CHECKSUM_AT,
            old,
            word(packet, word_at),
        );
    }
    true
}

/// Makes the checksum follow one changed word (RFC 1624, equation 3).
fn repair_udp_checksum(packet: &mut [u8], checksum_at: usize, old: u16, new: u16) {
    let checksum = word(packet, checksum_at);
    // 0 means that the sender computed none.
    if checksum == 0 {
        return;
    }
    let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let repaired = match !u16::try_from(sum).unwrap_or(0) {
        0 => u16::MAX,
        checksum => checksum,
    };
    packet[checksum_at..checksum_at + 2].copy_from_slice(&repaired.to_be_bytes());
}

/// Reads two bytes; the half behind the end of an odd packet counts as 0, as in checksums.
fn word(packet: &[u8], at: usize) -> u16 {
    let byte = |at| packet.get(at).copied().unwrap_or(0);
    u16::from_be_bytes([byte(at), byte(at + 1)])
}

fn ip_header_len(packet: &[u8]) -> usize {
    packet
        .first()
        .map_or(IPV4_HEADER_LEN, |byte| usize::from(byte & 0x0f) * 4)
}

fn transport_header_len(packet: &[u8], at: usize) -> usize {
    match packet.get(PROTOCOL_AT) {
        Some(&TCP) => packet
            .get(at + TCP_DATA_OFFSET_AT)
            .map_or(usize::MAX / 2, |byte| usize::from(byte >> 4) * 4),
        // ICMP's is as long as UDP's.
        _ => UDP_HEADER_LEN,
    }
}

const IPV4_HEADER_LEN: usize = 20;
const PROTOCOL_AT: usize = 9;
const TCP: u8 = 6;
const UDP: u8 = 17;
const TCP_DATA_OFFSET_AT: usize = 12;
const UDP_HEADER_LEN: usize = 8;
const UDP_CHECKSUM_AT: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    /// 198.18.0.1:1 to 198.18.0.2:2 with this payload and a right checksum.
    fn udp(payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0];
        packet.extend([198, 18, 0, 1, 198, 18, 0, 2, 0, 1, 0, 2]);
        let len = u16::try_from(UDP_HEADER_LEN + payload.len()).unwrap_or(0);
        packet.extend(len.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        let checksum = !sum(&packet);
        packet[26..28].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    /// The one's complement sum of UDP header, payload and pseudo header.
    fn sum(packet: &[u8]) -> u16 {
        let mut sum: u32 = u32::from(UDP) + u32::from(word(packet, 24));
        for at in (12..packet.len()).step_by(2) {
            sum += u32::from(word(packet, at));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap_or(0)
    }

    #[test]
    fn a_corrupt_packet_differs_in_one_bit_of_its_payload() {
        let packet = udp(b"seven..");
        for seed in 0..100 {
            let mut corrupted = packet.clone();

            let mut random = Random::new(seed);
            assert!(corrupt(&mut corrupted, CorruptChecksum::Wrong, &mut random));

            let n_flipped: u32 = packet
                .iter()
                .zip(&corrupted)
                .map(|(a, b)| (a ^ b).count_ones())
                .sum();
            assert_eq!(n_flipped, 1);
            assert_eq!(packet[..28], corrupted[..28], "the headers stay");
            assert_ne!(sum(&corrupted), 0xffff, "the checksum betrays it");
        }
    }

    #[test]
    fn a_repaired_checksum_is_right() {
        for seed in 0..100 {
            let mut corrupted = udp(b"seven..");

            let mut random = Random::new(seed);
            assert!(corrupt(&mut corrupted, CorruptChecksum::Right, &mut random));

            assert_ne!(corrupted[28..], *b"seven..");
            assert_eq!(sum(&corrupted), 0xffff, "seed {seed}");
        }
    }

    #[test]
    fn a_packet_without_payload_stays_whole() {
        let mut random = Random::new(1);

        assert!(!corrupt(&mut udp(b""), CorruptChecksum::Wrong, &mut random));
        assert!(!corrupt(
            &mut [0x45; 3],
            CorruptChecksum::Wrong,
            &mut random
        ));
    }
}
