//! Measuring a rate: what is said around a burst of padding on a stream of its own.
//!
//! The asking end sends the head and as much padding as it says; the other reads it and answers
//! with how fast it came. Neither keeps anything, and neither sends more than the bound.

use std::time::Duration;

use super::wire::{PathDecodeError, Reader, micros, put_micros, put_varint};

/// How much padding follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaddingHead {
    /// From 1 to [`PaddingHead::MAX_BYTES`].
    pub bytes: u64,
}

/// How fast the padding came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaddingAnswer {
    /// Bytes that came after the first of them.
    pub bytes: u64,
    /// From the first arrival to the last.
    pub time: Duration,
}

/// Whether the first byte of a stream begins padding.
#[must_use]
pub fn begins_padding(first: u8) -> bool {
    first == HEAD
}

impl PaddingHead {
    /// The most padding in one burst: what a path of 200 ms and 40 Mbit/s has on the way.
    pub const MAX_BYTES: u64 = 1024 * 1024;

    /// Bytes of every head.
    pub const LEN: usize = 5;

    /// Appends the head. More than the bound is cut to it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let bytes = self.bytes.clamp(1, Self::MAX_BYTES);
        out.push(HEAD);
        out.extend_from_slice(&(bytes as u32).to_be_bytes());
    }

    /// Reads a head.
    pub fn decode(bytes: &[u8]) -> Result<Self, PathDecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != HEAD {
            return Err(PathDecodeError::OutOfRange("first byte"));
        }
        let bytes = u64::from(u32::from_be_bytes(reader.array()?));
        reader.finish()?;
        if !(1..=Self::MAX_BYTES).contains(&bytes) {
            return Err(PathDecodeError::OutOfRange("length of padding"));
        }
        Ok(Self { bytes })
    }
}

impl PaddingAnswer {
    /// Bytes of the longest answer. The end of the stream is that of the answer.
    pub const MAX_LEN: usize = 1 + 2 * 8;

    /// The rate in bytes a second; `None` where all came at once.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        let time = u128::from(micros(self.time));
        let rate = (u128::from(self.bytes) * 1_000_000).checked_div(time)?;
        (rate > 0).then(|| u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// Appends the answer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(ANSWER);
        put_varint(out, self.bytes.min(PaddingHead::MAX_BYTES));
        put_micros(out, self.time, MAX_TIME);
    }

    /// Reads an answer, which must be one and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, PathDecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != ANSWER {
            return Err(PathDecodeError::OutOfRange("first byte"));
        }
        let bytes = reader.bounded(PaddingHead::MAX_BYTES, "bytes of padding")?;
        let time = reader.micros(MAX_TIME, "time of padding")?;
        reader.finish()?;
        Ok(Self { bytes, time })
    }
}

const HEAD: u8 = 0xa2;
const ANSWER: u8 = 0xa3;

/// A burst that takes longer has been given up.
const MAX_TIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_read_as_they_were_written_and_bounded() {
        let head = PaddingHead { bytes: 256 * 1024 };
        let mut out = Vec::new();
        head.encode(&mut out);
        assert_eq!(out.len(), PaddingHead::LEN);
        assert!(begins_padding(out[0]));
        assert_eq!(PaddingHead::decode(&out), Ok(head));
        let too_long = PathDecodeError::OutOfRange("length of padding");
        assert_eq!(PaddingHead::decode(&[HEAD, 0, 0x10, 0, 1]), Err(too_long));

        let answer = PaddingAnswer {
            bytes: 250_000,
            time: Duration::from_millis(100),
        };
        assert_eq!(answer.rate(), Some(2_500_000));
        let mut out = Vec::new();
        answer.encode(&mut out);
        assert!(out.len() <= PaddingAnswer::MAX_LEN);
        assert_eq!(PaddingAnswer::decode(&out), Ok(answer));
        let at_once = PaddingAnswer {
            time: Duration::ZERO,
            ..answer
        };
        assert_eq!(at_once.rate(), None);
    }
}
