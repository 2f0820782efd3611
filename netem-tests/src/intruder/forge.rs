//! Datagrams of KCP as frp has it, made by hand.
//!
//! A datagram begins with a header of error correction: a number and a type. A data datagram goes
//! on with its length and with segments, a parity datagram with parity.

/// The numbers of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The conversation.
    pub conv: u32,
    /// What it is: [`PUSH`], [`ACK`], [`ASK_WINDOW`] or [`TELL_WINDOW`].
    pub cmd: u8,
    /// Fragments that follow, which frp does not use.
    pub frg: u8,
    /// Free places for segments at the sender.
    pub wnd: u16,
    /// The sender's clock.
    pub ts: u32,
    /// The number of the segment, or of the one that is acknowledged.
    pub sn: u32,
    /// The first number that the sender has not received.
    pub una: u32,
    /// How much data is said to follow.
    pub len: u32,
}

impl Segment {
    /// Reads the first segment of a data datagram.
    pub fn first_of(datagram: &[u8]) -> Option<Self> {
        if fec_type(datagram)? != FEC_DATA {
            return None;
        }
        let bytes: &[u8; SEGMENT_LEN] = datagram.get(DATA_HEADER_LEN..)?.first_chunk()?;
        let number = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        Some(Self {
            conv: number(0)?,
            cmd: bytes[4],
            frg: bytes[5],
            wnd: u16::from_le_bytes([bytes[6], bytes[7]]),
            ts: number(8)?,
            sn: number(12)?,
            una: number(16)?,
            len: number(20)?,
        })
    }

    /// Makes a data datagram with this segment and `data`, whatever its length field says.
    pub fn datagram(&self, seqid: u32, data: &[u8]) -> Vec<u8> {
        let len = u16::try_from(2 + SEGMENT_LEN + data.len()).unwrap_or(u16::MAX);
        let mut bytes = fec_header(seqid, FEC_DATA);
        bytes.extend(len.to_le_bytes());
        bytes.extend(self.conv.to_le_bytes());
        bytes.extend([self.cmd, self.frg]);
        bytes.extend(self.wnd.to_le_bytes());
        for number in [self.ts, self.sn, self.una, self.len] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(data);
        bytes
    }
}

/// Makes a parity datagram.
pub fn parity(seqid: u32, parity: &[u8]) -> Vec<u8> {
    let mut bytes = fec_header(seqid, FEC_PARITY);
    bytes.extend(parity);
    bytes
}

/// Reads the number of a datagram.
pub fn seqid(datagram: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*datagram.first_chunk()?))
}

/// Reads the type of a datagram: [`FEC_DATA`], [`FEC_PARITY`] or nothing of these.
pub fn fec_type(datagram: &[u8]) -> Option<u16> {
    let [_, _, _, _, low, high, ..] = *datagram else {
        return None;
    };
    Some(u16::from_le_bytes([low, high]))
}

fn fec_header(seqid: u32, fec_type: u16) -> Vec<u8> {
    let mut bytes = seqid.to_le_bytes().to_vec();
    bytes.extend(fec_type.to_le_bytes());
    bytes
}

/// Carries data.
pub const PUSH: u8 = 81;
/// Acknowledges.
pub const ACK: u8 = 82;
/// Asks for the window.
pub const ASK_WINDOW: u8 = 83;
/// Tells the window.
pub const TELL_WINDOW: u8 = 84;

/// A datagram with segments.
pub const FEC_DATA: u16 = 0xf1;
/// A datagram with parity.
pub const FEC_PARITY: u16 = 0xf2;

/// Data datagrams of a group.
pub const N_DATA: u32 = 10;
/// Datagrams of a group.
pub const N_GROUP: u32 = 13;

/// The header of error correction of a data datagram: number, type, length.
pub const DATA_HEADER_LEN: usize = 8;
const SEGMENT_LEN: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_as_it_was_made() {
        let segment = Segment {
            conv: 1,
            cmd: PUSH,
            frg: 2,
            wnd: 3,
            ts: 4,
            sn: 5,
            una: 6,
            len: 7,
        };

        let datagram = segment.datagram(8, b"seven..");

        assert_eq!(Segment::first_of(&datagram), Some(segment));
        assert_eq!(seqid(&datagram), Some(8));
        assert_eq!(fec_type(&datagram), Some(FEC_DATA));
        assert_eq!(Segment::first_of(&parity(8, &[0; 40])), None);
    }
}
