//! Frame headers and masking (RFC 6455 section 5).

use rand::Rng as _;

/// Which end of the connection this is: it decides whose frames are masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Asked for the upgrade. Its frames are masked.
    Client,
    /// Granted the upgrade. Its frames are not.
    Server,
}

impl Side {
    /// A key for the next frame of this side's. Section 5.3 asks for one that nobody can foretell.
    pub(super) fn new_mask(self) -> Option<Mask> {
        match self {
            Self::Client => Some(Mask::random()),
            Self::Server => None,
        }
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn decode(nibble: u8) -> Result<Self, FrameError> {
        Ok(match nibble {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return Err(FrameError::Opcode(nibble)),
        })
    }

    fn encode(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// How a peer breaks the framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame with reserved bits set")]
    ReservedBits,
    #[error("a frame with the reserved opcode {0:#x}")]
    Opcode(u8),
    #[error("a control frame in fragments")]
    FragmentedControl,
    #[error("a control frame of more than 125 bytes")]
    LongControl,
    #[error("a frame of more than 2^63 bytes")]
    Length,
    #[error("a client's frame without a mask")]
    Unmasked,
    #[error("a server's frame with a mask")]
    Masked,
}

/// What stands before the payload of a frame. Whether the frame is the last one of its message is
/// not kept: messages mean nothing in a byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    pub(super) payload_len: u64,
    pub(super) mask: Option<Mask>,
}

impl Header {
    /// The longest header: two bytes, a length of eight and a key of four.
    pub(super) const MAX_LEN: usize = 14;

    /// Reads the header of a frame that `sender` has sent, and says how long the header is.
    /// `None` as long as it is not complete.
    pub(super) fn decode(bytes: &[u8], sender: Side) -> Result<Option<(Self, usize)>, FrameError> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        // No extension is ever agreed on that would give them a meaning.
        if first & RESERVED != 0 {
            return Err(FrameError::ReservedBits);
        }
        let opcode = Opcode::decode(first & 0x0f)?;
        let short_len = second & 0x7f;
        if opcode.is_control() {
            // Section 5.5.
            if first & FIN == 0 {
                return Err(FrameError::FragmentedControl);
            }
            if usize::from(short_len) > MAX_CONTROL_LEN {
                return Err(FrameError::LongControl);
            }
        }
        // Section 5.1: a client masks all of its frames, a server none.
        let is_masked = second & MASKED != 0;
        match (sender, is_masked) {
            (Side::Client, false) => return Err(FrameError::Unmasked),
            (Side::Server, true) => return Err(FrameError::Masked),
            _ => {}
        }
        let (payload_len, rest) = match (short_len, rest) {
            (LEN_IN_2_BYTES, &[a, b, ref rest @ ..]) => {
                (u64::from(u16::from_be_bytes([a, b])), rest)
            }
            (LEN_IN_8_BYTES, rest) => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest),
                None => return Ok(None),
            },
            (LEN_IN_2_BYTES, _) => return Ok(None),
            _ => (u64::from(short_len), rest),
        };
        if payload_len >> 63 != 0 {
            return Err(FrameError::Length);
        }
        let (mask, rest) = match rest.split_first_chunk() {
            Some((key, rest)) if is_masked => (Some(Mask(*key)), rest),
            None if is_masked => return Ok(None),
            _ => (None, rest),
        };
        let header = Self {
            opcode,
            payload_len,
            mask,
        };
        Ok(Some((header, bytes.len() - rest.len())))
    }

    /// Writes the header of a frame that is a message of its own.
    pub(super) fn encode(&self) -> EncodedHeader {
        let mut encoded = EncodedHeader::default();
        encoded.push(&[FIN | self.opcode.encode()]);
        let mask_bit = if self.mask.is_some() { MASKED } else { 0 };
        // The shortest form that holds the length (section 5.2).
        match (
            u8::try_from(self.payload_len),
            u16::try_from(self.payload_len),
        ) {
            (Ok(len), _) if len < LEN_IN_2_BYTES => encoded.push(&[mask_bit | len]),
            (_, Ok(len)) => {
                encoded.push(&[mask_bit | LEN_IN_2_BYTES]);
                encoded.push(&len.to_be_bytes());
            }
            _ => {
                encoded.push(&[mask_bit | LEN_IN_8_BYTES]);
                encoded.push(&self.payload_len.to_be_bytes());
            }
        }
        if let Some(Mask(key)) = self.mask {
            encoded.push(&key);
        }
        encoded
    }
}

/// The bytes of a header.
#[derive(Debug, Default)]
pub(super) struct EncodedHeader {
    bytes: [u8; Header::MAX_LEN],
    len: usize,
}

impl EncodedHeader {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A masking key, turned so that its first byte is for the next byte of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mask([u8; 4]);

impl Mask {
    fn random() -> Self {
        let mut key = [0; 4];
        rand::rng().fill_bytes(&mut key);
        Self(key)
    }

    /// Masks or unmasks the next bytes of a payload: both are the same (section 5.3).
    pub(super) fn apply(&mut self, payload: &mut [u8]) {
        let Self(key) = *self;
        let pattern: [u8; BLOCK_LEN] = std::array::from_fn(|i| key[i % key.len()]);
        let (blocks, rest) = payload.as_chunks_mut::<BLOCK_LEN>();
        for block in blocks {
            for (byte, key) in block.iter_mut().zip(pattern) {
                *byte ^= key;
            }
        }
        for (byte, key) in rest.iter_mut().zip(pattern) {
            *byte ^= key;
        }
        self.0.rotate_left(rest.len() % key.len());
    }
}

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const LEN_IN_2_BYTES: u8 = 126;
const LEN_IN_8_BYTES: u8 = 127;

/// The longest payload of a control frame (section 5.5).
pub(super) const MAX_CONTROL_LEN: usize = 125;

/// Bytes that are masked at once: the compiler makes one or two vector instructions of it.
const BLOCK_LEN: usize = 32;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// RFC 6455 section 5.7.
    #[test]
    fn the_examples_of_the_specification_are_read() {
        let hello = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        let (header, len) = Header::decode(&hello, Side::Client).unwrap().unwrap();
        assert_eq!((header.opcode, header.payload_len), (Opcode::Text, 5));
        let mut payload = hello[len..].to_vec();
        header.mask.unwrap().apply(&mut payload);
        assert_eq!(payload, b"Hello");

        let (header, len) = Header::decode(b"\x89\x05Hello", Side::Server)
            .unwrap()
            .unwrap();
        assert_eq!((header.opcode, len), (Opcode::Ping, 2));
        let long = [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0];
        let (header, len) = Header::decode(&long, Side::Server).unwrap().unwrap();
        assert_eq!((header.payload_len, len), (65_536, 10));
    }

    #[test]
    fn every_length_is_written_in_its_shortest_form_and_read_again() {
        for (payload_len, bare_len) in [
            (0, 2),
            (125, 2),
            (126, 4),
            (255, 4),
            (256, 4),
            (65_535, 4),
            (65_536, 10),
            (u64::MAX >> 1, 10),
        ] {
            for side in [Side::Client, Side::Server] {
                let header = Header {
                    opcode: Opcode::Binary,
                    payload_len,
                    mask: side.new_mask(),
                };
                let encoded = header.encode();
                let bytes = encoded.as_slice();
                let key_len = if side == Side::Client { 4 } else { 0 };
                assert_eq!(bytes.len(), bare_len + key_len);
                let decoded = Header::decode(bytes, side).unwrap();
                assert_eq!(decoded, Some((header, bytes.len())));
                for cut in 0..bytes.len() {
                    assert_eq!(Header::decode(&bytes[..cut], side), Ok(None));
                }
            }
        }
    }

    #[test]
    fn what_the_specification_forbids_is_an_error_as_soon_as_it_can_be_seen() {
        use FrameError::*;
        for (bytes, sender, expected) in [
            (&[0xc2, 0x80][..], Side::Client, ReservedBits),
            (&[0x92, 0x80], Side::Client, ReservedBits),
            (&[0x83, 0x80], Side::Client, Opcode(3)),
            (&[0x8f, 0x80], Side::Client, Opcode(15)),
            (&[0x09, 0x80], Side::Client, FragmentedControl),
            (&[0x88, 0xfe], Side::Client, LongControl),
            (&[0x89, 0x7f], Side::Server, LongControl),
            (&[0x82, 0x01], Side::Client, Unmasked),
            (&[0x82, 0x81], Side::Server, Masked),
            (
                &[0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0],
                Side::Server,
                Length,
            ),
        ] {
            assert_eq!(Header::decode(bytes, sender), Err(expected), "{bytes:02x?}");
        }
    }

    #[test]
    fn masking_in_pieces_is_masking_at_once() {
        let clear: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let mask = Mask([0x12, 0x34, 0x56, 0x78]);
        let expected: Vec<u8> = (clear.iter().zip([0x12, 0x34, 0x56, 0x78].iter().cycle()))
            .map(|(byte, key)| byte ^ key)
            .collect();
        for piece_len in [1, 2, 3, 5, 31, 32, 33, 63, 127, 999, 1000] {
            let mut bytes = clear.clone();
            let mut turned = mask;
            for piece in bytes.chunks_mut(piece_len) {
                turned.apply(piece);
            }
            assert_eq!(bytes, expected, "in pieces of {piece_len}");
        }
    }
}
