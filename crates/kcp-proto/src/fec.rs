//! Forward error correction as kcp-go frames it: groups of 10 data and 3 parity packets.
//!
//! ```text
//! data packet    seqid u32 | type u16 = 0xf1 | size u16 | KCP segments
//! parity packet  seqid u32 | type u16 = 0xf2 | parity over size and segments
//! ```
//!
//! All of it is little-endian, and `size` counts itself. A shard is what follows the type. Datagrams
//! without this header are legal beside those with it: where the type stands, KCP has a command.
//!
//! The [`Encoder`] numbers packets so that kcp-go's decoder never loses its groups; the [`Decoder`]
//! finds the groups of kcp-go's encoder, which does not keep them at multiples of 13.

mod decoder;
mod encoder;

pub use decoder::{Decoder, DecoderStats};
pub use encoder::Encoder;

use crate::segment::{Header, SegmentError};

/// Bytes of the FEC header of a data packet, its size field included.
pub const DATA_HEADER_LEN: usize = 8;

/// Bytes before a shard: those of the header that parity does not cover.
pub const SHARD_OFFSET: usize = 6;

/// Bytes of the field in which a shard says its size.
const SIZE_LEN: usize = 2;

/// The longest shard that is looked at. kcp-go's buffers end at 1,500 bytes a packet.
const MAX_SHARD_LEN: usize = 1500 - SHARD_OFFSET;

/// The shortest shard: a size and one segment without data.
const MIN_SHARD_LEN: usize = SIZE_LEN + Header::LEN;

/// What a data packet has for a type.
pub const TYPE_DATA: u16 = 0xf1;
/// What a parity packet has for a type.
pub const TYPE_PARITY: u16 = 0xf2;

/// How many packets of each kind a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards {
    /// Data packets.
    pub n_data: usize,
    /// Numbers set aside for parity packets, whether they are sent or not.
    pub n_parity: usize,
}

impl Shards {
    /// What frp uses, on both ends.
    pub const FRP: Self = Self {
        n_data: 10,
        n_parity: 3,
    };

    /// Returns how many numbers a group takes.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a group has 255 shards at most"
    )]
    fn group_len(self) -> u32 {
        (self.n_data + self.n_parity) as u32
    }

    /// The number that is never used: the sequence begins again at 0 there. The largest multiple
    /// of the group's length, so that groups stay whole.
    fn wrap(self) -> u32 {
        u32::MAX / self.group_len() * self.group_len()
    }
}

/// What the first bytes of a datagram say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// KCP segments without a FEC header.
    Plain,
    /// A data packet: its segments start at [`DATA_HEADER_LEN`].
    Data {
        /// The packet's number.
        seqid: u32,
    },
    /// A parity packet, whose bytes say nothing on their own.
    Parity {
        /// The packet's number.
        seqid: u32,
    },
}

impl Framing {
    /// Looks at the type of `datagram`, or returns `None` for one too short to be of any.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let head = datagram.first_chunk::<SHARD_OFFSET>()?;
        let seqid = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        match u16::from_le_bytes([head[4], head[5]]) {
            TYPE_DATA => (datagram.len() >= DATA_HEADER_LEN).then_some(Self::Data { seqid }),
            TYPE_PARITY => (datagram.len() >= DATA_HEADER_LEN).then_some(Self::Parity { seqid }),
            _ => Some(Self::Plain),
        }
    }
}

/// What an endpoint needs to know of a datagram before it knows its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstLook {
    /// It begins with this segment.
    Segment(Header),
    /// It is a parity packet: it belongs to whichever session its address has.
    Parity,
}

impl FirstLook {
    /// Looks at `datagram`. Only the first segment is read; the session checks the others.
    pub fn at(datagram: &[u8]) -> Result<Self, SegmentError> {
        match Framing::of(datagram) {
            None => Err(SegmentError::TooShort(datagram.len())),
            Some(Framing::Parity { .. }) => Ok(Self::Parity),
            Some(Framing::Plain) => Header::decode(datagram).map(Self::Segment),
            Some(Framing::Data { .. }) => {
                Header::decode(&datagram[DATA_HEADER_LEN..]).map(Self::Segment)
            }
        }
    }
}
