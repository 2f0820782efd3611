//! Bytes that tell where in the stream they belong.

use std::io::{self, Read, Write};

use anyhow::{Context, Result, bail};

/// A reproducible stream of bytes without repetition: a byte that is lost, repeated or misplaced
/// makes everything after it differ.
#[derive(Clone, Debug)]
pub struct Pattern {
    state: u64,
    position: u64,
}

impl Pattern {
    /// The stream that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        // Xorshift never leaves zero.
        let state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Self { state, position: 0 }
    }

    /// Writes its first `len` bytes into `sink`.
    pub fn send(mut self, len: u64, sink: &mut impl Write) -> io::Result<()> {
        let mut block = vec![0; BLOCK_LEN];
        let mut left = len;
        while left > 0 {
            self.fill(&mut block);
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK_LEN);
            sink.write_all(&block[..n])?;
            left -= n as u64;
        }
        Ok(())
    }

    /// Reads `len` bytes from `source`, and fails at the first that is not its own.
    pub fn receive(mut self, len: u64, source: &mut impl Read) -> Result<()> {
        let mut expected = vec![0; BLOCK_LEN];
        let mut received = vec![0; BLOCK_LEN];
        let mut left = len;
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK_LEN);
            self.fill(&mut expected);
            source.read_exact(&mut received[..n]).with_context(|| {
                format!("at most {} of {len} bytes came", len - left + n as u64)
            })?;
            if received[..n] != expected[..n] {
                let wrong = received.iter().zip(&expected).position(|(a, b)| a != b);
                bail!(
                    "byte {} of {len} is wrong",
                    len - left + wrong.unwrap_or(0) as u64
                );
            }
            left -= n as u64;
        }
        Ok(())
    }

    fn fill(&mut self, block: &mut [u8]) {
        for word in block.chunks_exact_mut(8) {
            // Marsaglia's xorshift64 mixed with the position: fast, and of full period.
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            self.position += 1;
            word.copy_from_slice(&(self.state ^ self.position).to_le_bytes());
        }
    }
}

/// A multiple of eight. Large enough that system calls do not count.
const BLOCK_LEN: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_stream_is_recognised_by_its_seed() {
        let mut bytes = Vec::new();
        Pattern::new(7).send(600_001, &mut bytes).unwrap();

        assert_eq!(bytes.len(), 600_001);
        Pattern::new(7).receive(600_001, &mut &bytes[..]).unwrap();
        Pattern::new(8)
            .receive(600_001, &mut &bytes[..])
            .unwrap_err();
    }

    #[test]
    fn a_single_wrong_byte_is_named() {
        let mut bytes = Vec::new();
        Pattern::new(7).send(300_000, &mut bytes).unwrap();
        bytes[299_999] ^= 1;

        let error = Pattern::new(7)
            .receive(300_000, &mut &bytes[..])
            .unwrap_err();

        assert_eq!(error.to_string(), "byte 299999 of 300000 is wrong");
    }
}
