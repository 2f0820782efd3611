//! Which first packets begin a connection.
//!
//! A client that gives an attempt up says so, and where its first packets were lost that word is the
//! first that arrives. quinn (as of 0.11) makes a connection of it like of any other, finds it over
//! at once, and then keeps it until the idle timeout, which is long here: only a packet of a
//! connection that exists starts the timer that ends it. Anyone could have state kept for so long by one
//! packet. So the keys that quinn opens first packets with (and nothing else, the connection
//! derives its own) open only those that begin something.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::crypto::{CryptoError, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion};
use quinn_proto::ConnectionId;
use quinn_proto::transport_parameters::TransportParameters;

/// A server's TLS, to which a first packet that begins nothing counts as forged: quinn forgets it
/// without an answer.
pub(super) struct Beginning(Arc<QuicServerConfig>);

impl Beginning {
    pub(super) fn new(tls: QuicServerConfig) -> Self {
        Self(Arc::new(tls))
    }
}

impl ServerConfig for Beginning {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        let mut keys = self.0.initial_keys(version, dst_cid)?;
        keys.packet.remote = Box::new(FirstPacketKey(keys.packet.remote));
        Ok(keys)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        Arc::clone(&self.0).start_session(version, params)
    }
}

/// Opens a client's first packet.
struct FirstPacketKey(Box<dyn PacketKey>);

impl PacketKey for FirstPacketKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.0.encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.0.decrypt(packet, header, payload)?;
        match begins(payload) {
            true => Ok(()),
            false => Err(CryptoError),
        }
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.0.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.0.integrity_limit()
    }
}

/// Whether the frames of a first packet are those of a client that wants a connection: parts of its
/// hello, and what fills the packet up. It has heard nothing yet, so there is nothing that it could
/// acknowledge; all else but its end is not allowed there (RFC 9000 section 17.2.2).
fn begins(mut frames: &[u8]) -> bool {
    while frames.has_remaining() {
        let is_whole = match varint(&mut frames) {
            Some(PADDING | PING) => Some(()),
            Some(CRYPTO) => skip_crypto(&mut frames),
            _ => None,
        };
        if is_whole.is_none() {
            return false;
        }
    }
    true
}

/// Steps over the rest of a CRYPTO frame. `None` when it is longer than the packet.
fn skip_crypto(frames: &mut &[u8]) -> Option<()> {
    varint(frames)?;
    let len = usize::try_from(varint(frames)?).ok()?;
    *frames = frames.get(len..)?;
    Some(())
}

/// Reads an integer of QUIC's (RFC 9000 section 16). A frame's type is one too, and need not be in
/// its shortest form to be understood.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let len = 1 << (bytes.first()? >> 6);
    if bytes.len() < len {
        return None;
    }
    let all = bytes.get_uint(len);
    Some(all & (u64::MAX >> (66 - 8 * len)))
}

/// Types of frames, RFC 9000 section 19.
const PADDING: u64 = 0x00;
const PING: u64 = 0x01;
const CRYPTO: u64 = 0x06;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_begins_a_connection_in_one_piece_or_several() {
        assert!(begins(b"\x06\x00\x05hello"));
        assert!(begins(b"\x00\x00\x06\x02\x03llo\x01\x06\x00\x02he\x00\x00"));
        assert!(
            begins(b"\x06\x40\x02\x80\x00\x00\x03llo"),
            "longer integers"
        );
    }

    #[test]
    fn a_packet_with_an_end_in_it_begins_nothing() {
        const CLOSED: &[u8] = b"\x1c\x0c\x00\x00";
        for before in [&b""[..], b"\x00", b"\x06\x00\x05hello"] {
            assert!(!begins(&[before, CLOSED].concat()));
        }
        assert!(!begins(b"\x1d\x00\x00"), "an application's end");
        assert!(
            !begins(b"\x40\x1c\x0c\x00\x00"),
            "its type in a longer form"
        );
    }

    #[test]
    fn a_packet_that_is_cut_off_or_acknowledges_begins_nothing() {
        for frames in [
            &b"\x06"[..],
            b"\x06\x00",
            b"\x06\x00\x05hell",
            b"\x06\xc0\x00\x00\x00",
            b"\x06\x00\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x02\x00\x00\x00\x00",
        ] {
            assert!(!begins(frames), "{frames:?}");
        }
    }
}
