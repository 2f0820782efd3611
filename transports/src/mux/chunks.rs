//! A queue of bytes that keeps what it is given: slices by reference, small pieces by copy.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces below this are copied together: a slice pins the whole buffer that it was cut from, and
/// each slice costs a place in the queue. Buffers are up to 64 KiB, so what a queue pins is at
/// most eight times what it holds.
pub(super) const COPY_BELOW: usize = 8 * 1024;

/// Copied pieces are gathered up to this, then a new allocation begins.
const TAIL_LEN_MAX: usize = 16 * 1024;

/// A queue that has had more places than this gives them back once it is empty.
const PLACES_KEPT: usize = 16;

/// Bytes in order.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    slices: VecDeque<Bytes>,
    /// Comes after all slices.
    tail: BytesMut,
    len: usize,
}

impl Chunks {
    /// Appends `slice` by reference, or by copy if it is small.
    pub(super) fn push(&mut self, slice: Bytes) {
        if slice.len() < COPY_BELOW {
            self.push_copy(&slice);
            return;
        }
        self.seal_tail();
        self.len += slice.len();
        self.slices.push_back(slice);
    }

    /// Appends a copy of `bytes`.
    pub(super) fn push_copy(&mut self, bytes: &[u8]) {
        if self.tail.len() + bytes.len() > TAIL_LEN_MAX {
            self.seal_tail();
        }
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Takes up to `max` bytes from the front, as they lie. `None` when empty or `max` is 0.
    pub(super) fn pop(&mut self, max: usize) -> Option<Bytes> {
        if max == 0 || self.len == 0 {
            return None;
        }
        if self.slices.is_empty() {
            self.seal_tail();
        }
        let front = self.slices.front_mut()?;
        let chunk = if front.len() <= max {
            self.slices.pop_front()?
        } else {
            front.split_to(max)
        };
        self.len -= chunk.len();
        if self.len == 0 && self.slices.capacity() > PLACES_KEPT {
            self.slices = VecDeque::new();
        }
        Some(chunk)
    }

    /// Drops everything, the allocations with it. Says how many bytes that were.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(self).len
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.slices
                .push_back(std::mem::take(&mut self.tail).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_however_they_went_in() {
        let mut chunks = Chunks::default();
        let all: Vec<u8> = (0..100_000_u32)
            .map(|i| i.to_be_bytes()[3] ^ 0x5a)
            .collect();
        let mut rest = Bytes::from(all.clone());
        for len in [1, 9_000, 20, 8_191, 30_000, 1_000, 20_000, 7]
            .into_iter()
            .cycle()
        {
            if rest.is_empty() {
                break;
            }
            chunks.push(rest.split_to(len.min(rest.len())));
        }
        assert_eq!(chunks.len(), all.len());
        let mut out = Vec::new();
        for max in [3, 70_000, 1, 4_096].into_iter().cycle() {
            let Some(chunk) = chunks.pop(max) else { break };
            assert!(chunk.len() <= max);
            out.extend_from_slice(&chunk);
        }
        assert_eq!(out, all);
        assert!(chunks.is_empty());
    }

    #[test]
    fn a_small_slice_does_not_pin_the_buffer_it_came_from() {
        let mut chunks = Chunks::default();
        let mut buffer = Bytes::from(vec![7; 64 * 1024]);
        chunks.push(buffer.split_to(COPY_BELOW - 1));
        assert!(buffer.is_unique());
        chunks.push(buffer.split_to(COPY_BELOW));
        assert!(!buffer.is_unique());
    }
}
