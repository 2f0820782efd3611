//! Whose a datagram is.
//!
//! KCP has one of six values in its fifth byte, always: its command (81 to 84), or, with error
//! correction, the lower half of the packet's type (0xf1, 0xf2). QUIC has none of them there:
//!
//! - A long header (RFC 9000 section 17.2) has the version in bytes 1 to 4. The last byte of those
//!   that there are is 1 (version 1) or 0xcf (version 2).
//! - A short header (section 17.3) has the first bytes of a connection id there, which the server
//!   has given out itself. [`may_begin_id`] is asked before it does.
//!
//! So nothing needs to be remembered of addresses, and no peer can have another one's datagrams
//! taken for something else.

use kcp_proto::fec::{TYPE_DATA, TYPE_PARITY};
use kcp_proto::segment::Command;

/// Whose a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// QUIC's, if anybody's.
    Quic,
    /// KCP's, if anybody's.
    Kcp,
}

/// Whose `datagram` is. One that is too short for either is QUIC's, which says nothing to it.
pub(crate) fn owner(datagram: &[u8]) -> Owner {
    match datagram.get(TELLING) {
        Some(&byte) if is_kcps(byte) => Owner::Kcp,
        _ => Owner::Quic,
    }
}

/// Whether packets to a connection with this id are told from KCP's.
pub(crate) fn may_begin_id(id: &[u8]) -> bool {
    // A short header's first byte comes before the id.
    id.get(TELLING - 1).is_some_and(|&byte| !is_kcps(byte))
}

fn is_kcps(byte: u8) -> bool {
    let [data, _] = TYPE_DATA.to_le_bytes();
    let [parity, _] = TYPE_PARITY.to_le_bytes();
    let commands = Command::Push as u8..=Command::TellWindow as u8;
    byte == data || byte == parity || commands.contains(&byte)
}

/// The byte that tells: after a conversation or a sequence number in KCP.
const TELLING: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kcp_datagram_has_its_mark() {
        for command in 81..=84 {
            let datagram = [0x40, 0, 0, 1, command, 0, 0, 0];
            assert_eq!(owner(&datagram), Owner::Kcp, "command {command}");
        }
        for kind in [0xf1, 0xf2] {
            let datagram = [0xc3, 0, 0, 1, kind, 0, 0, 0];
            assert_eq!(owner(&datagram), Owner::Kcp, "type {kind:#x}");
        }
    }

    #[test]
    fn long_headers_of_quic_have_a_version_there() {
        for version in [1_u32, 0x6b33_43cf] {
            for first in 0xc0..=0xff {
                let mut packet = vec![first];
                packet.extend_from_slice(&version.to_be_bytes());
                packet.extend_from_slice(&[8, 1, 2, 3, 4, 5, 6, 7, 8]);
                assert_eq!(owner(&packet), Owner::Quic, "{packet:?}");
            }
        }
    }

    #[test]
    fn short_headers_of_quic_have_an_id_there_that_was_chosen_for_it() {
        for byte in 0..=255 {
            let id = [9, 9, 9, byte, 9, 9, 9, 9];
            let packet = [&[0x40][..], &id, &[0; 20]].concat();
            assert_eq!(may_begin_id(&id), owner(&packet) == Owner::Quic);
        }
        let n_refused = (0..=255_u8)
            .filter(|b| !may_begin_id(&[0, 0, 0, *b]))
            .count();
        assert_eq!(n_refused, 6);
        assert!(
            !may_begin_id(&[1, 2, 3]),
            "an id that does not reach so far"
        );
    }

    #[test]
    fn what_is_too_short_is_nobodys() {
        assert_eq!(owner(&[]), Owner::Quic);
        assert_eq!(owner(&[81; 4]), Owner::Quic);
    }
}
