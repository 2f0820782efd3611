//! Reading and writing the numbers of probes and reports: QUIC's variable-length integers
//! (RFC 9000, section 16), which take one byte for what is small.

use std::time::Duration;

use thiserror::Error;

/// Why bytes are no probe or report. The carrier that brought them is at fault, and stays usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathDecodeError {
    /// The bytes end inside a field.
    #[error("too short")]
    Incomplete,
    /// Bytes are left after the last field.
    #[error("{0} bytes too many")]
    TrailingData(usize),
    /// A flag that this version does not know.
    #[error("unknown flags {0:#04x}")]
    UnknownFlags(u8),
    /// A field outside of what it may hold.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
}

/// The largest variable-length integer.
pub(crate) const MAX_VARINT: u64 = (1 << 62) - 1;

/// Takes fields from the front of some bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], PathDecodeError> {
        let (first, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(PathDecodeError::Incomplete)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, PathDecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, PathDecodeError> {
        let first = *self.rest.first().ok_or(PathDecodeError::Incomplete)?;
        let len = 1_usize << (first >> 6);
        let (field, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(PathDecodeError::Incomplete)?;
        self.rest = rest;
        let head = u64::from(first & 0x3f);
        Ok(field[1..]
            .iter()
            .fold(head, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// An integer that may be at most `max`.
    pub(crate) fn bounded(&mut self, max: u64, name: &'static str) -> Result<u64, PathDecodeError> {
        let value = self.varint()?;
        if value > max {
            return Err(PathDecodeError::OutOfRange(name));
        }
        Ok(value)
    }

    /// A time in microseconds, at most `max`.
    pub(crate) fn micros(
        &mut self,
        max: Duration,
        name: &'static str,
    ) -> Result<Duration, PathDecodeError> {
        self.bounded(micros(max), name).map(Duration::from_micros)
    }

    pub(crate) fn finish(self) -> Result<(), PathDecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(PathDecodeError::TrailingData(n)),
        }
    }
}

/// Appends an integer. One that is too large is written as the largest: these are measurements,
/// and a wrong one is better than none.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: u64) {
    let value = value.min(MAX_VARINT);
    let (len, tag) = match value {
        0..=0x3f => (1, 0x00),
        0x40..=0x3fff => (2, 0x40),
        0x4000..=0x3fff_ffff => (4, 0x80),
        _ => (8, 0xc0),
    };
    let bytes = value.to_be_bytes();
    let at = out.len();
    out.extend_from_slice(&bytes[bytes.len() - len..]);
    out[at] |= tag;
}

/// Appends a time in microseconds, cut to `max`, which is what the reader accepts.
pub(crate) fn put_micros(out: &mut Vec<u8>, time: Duration, max: Duration) {
    put_varint(out, micros(time.min(max)));
}

/// Whole microseconds, as many as fit.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_the_bytes_that_rfc_9000_gives_them() {
        for (value, bytes) in [
            (37, &[0x25][..]),
            (15_293, &[0x7b, 0xbd]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (
                151_288_809_941_952_652,
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
            ),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes);
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn what_is_cut_off_or_left_over_is_an_error() {
        assert_eq!(
            Reader::new(&[0x7b]).varint(),
            Err(PathDecodeError::Incomplete)
        );
        assert_eq!(
            Reader::new(&[1, 2]).finish(),
            Err(PathDecodeError::TrailingData(2))
        );
    }
}
