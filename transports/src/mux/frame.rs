//! Frame headers as they lie on the wire: 12 bytes, big endian, the same for every kind.

/// The length of every header.
pub(super) const HEADER_LEN: usize = 12;

/// The only version there is.
const VERSION: u8 = 0;

/// The window update or data frame opens a stream; the ping asks.
pub(super) const SYN: u16 = 1;
/// The stream has been accepted; the ping answers.
pub(super) const ACK: u16 = 2;
/// The sender of the frame sends no more on the stream.
pub(super) const FIN: u16 = 4;
/// The stream is over at once, both ways.
pub(super) const RST: u16 = 8;

/// The carrier ends in good order, or takes no new streams.
pub(super) const GO_AWAY_NORMAL: u32 = 0;
/// The other end broke the protocol.
pub(super) const GO_AWAY_PROTOCOL: u32 = 1;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `len` bytes of a stream follow.
    Data,
    /// `len` is added to what may be sent on the stream.
    WindowUpdate,
    /// `len` is a number that the answer repeats.
    Ping,
    /// `len` is the reason.
    GoAway,
}

/// A frame's header. What `len` means depends on the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) flags: u16,
    pub(super) stream_id: u32,
    pub(super) len: u32,
}

impl Header {
    /// Reads a header. Unknown flags are left alone, as the peer's implementation does.
    pub(super) fn decode(bytes: [u8; HEADER_LEN]) -> Result<Self, Violation> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        if version != VERSION {
            return Err(Violation::UnknownVersion(version));
        }
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::WindowUpdate,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            other => return Err(Violation::UnknownKind(other)),
        };
        Ok(Self {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream_id: u32::from_be_bytes([s0, s1, s2, s3]),
            len: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    /// Writes the header.
    pub(super) fn encode(self) -> [u8; HEADER_LEN] {
        let kind = match self.kind {
            Kind::Data => 0,
            Kind::WindowUpdate => 1,
            Kind::Ping => 2,
            Kind::GoAway => 3,
        };
        let [f0, f1] = self.flags.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream_id.to_be_bytes();
        let [l0, l1, l2, l3] = self.len.to_be_bytes();
        [VERSION, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3]
    }

    pub(super) fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// How a peer broke the protocol. The carrier ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("unknown yamux version {0}")]
    UnknownVersion(u8),
    #[error("unknown yamux frame type {0}")]
    UnknownKind(u8),
    #[error("stream id {0} is not the peer's to open")]
    WrongParity(u32),
    #[error("stream id {0} opened twice")]
    ReusedId(u32),
    #[error("more data than the window of stream {0} allows")]
    WindowOverrun(u32),
    #[error("the window of stream {0} was raised beyond its range")]
    WindowOverflow(u32),
    #[error("stream {0} finished twice")]
    SecondFin(u32),
    #[error("streams are opened faster than their refusals are read")]
    RefusalsUnread,
    #[error("the peer ended the carrier with code {0}")]
    EndedByPeer(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_recorded_sessions() {
        let header = |kind, flags, stream_id, len| Header {
            kind,
            flags,
            stream_id,
            len,
        };
        let recorded: [(&str, Header); 9] = [
            (
                "0001000200000001005c0000",
                header(Kind::WindowUpdate, ACK, 1, 0x005c_0000),
            ),
            ("00000000000000010000000b", header(Kind::Data, 0, 1, 11)),
            (
                "000100040000000100000000",
                header(Kind::WindowUpdate, FIN, 1, 0),
            ),
            (
                "000300000000000000000000",
                header(Kind::GoAway, 0, 0, GO_AWAY_NORMAL),
            ),
            (
                "000300000000000000000001",
                header(Kind::GoAway, 0, 0, GO_AWAY_PROTOCOL),
            ),
            (
                "0001000100000001005c0000",
                header(Kind::WindowUpdate, SYN, 1, 0x005c_0000),
            ),
            ("000200020000000000000000", header(Kind::Ping, ACK, 0, 0)),
            ("000200010000000000000000", header(Kind::Ping, SYN, 0, 0)),
            (
                "000100080000000100000000",
                header(Kind::WindowUpdate, RST, 1, 0),
            ),
        ];
        for (hex, header) in recorded {
            let hex_of_ours: String = header
                .encode()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(hex_of_ours, hex);
            assert_eq!(Header::decode(header.encode()), Ok(header));
        }
    }

    #[test]
    fn unknown_versions_and_kinds_are_refused() {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = 1;
        assert_eq!(Header::decode(bytes), Err(Violation::UnknownVersion(1)));
        bytes = [0; HEADER_LEN];
        bytes[1] = 4;
        assert_eq!(Header::decode(bytes), Err(Violation::UnknownKind(4)));
    }
}
