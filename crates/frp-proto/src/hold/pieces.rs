//! A run of a stream's bytes, as slices of the buffers that they came in.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

/// Shorter slices are copied together: a slice keeps the whole buffer that it is part of, so that
/// a few bytes could keep 64 KiB, and each costs its place in the queue. Longer ones keep at most
/// 32 times their length.
pub(super) const SMALL: usize = 2 * 1024;

/// How much is allocated at once for small slices.
const TAIL_LEN: usize = 4 * 1024;

/// An emptied queue keeps places for this many slices, as an interactive stream needs, so that an
/// idle stream stays small and a busy one does not allocate for each write.
const MAX_IDLE_PLACES: usize = 4;

/// What a slice costs beside its bytes, for accounting: its place, and its share of a buffer's.
pub(super) const PIECE_COST: u64 = 64;

/// Bytes from one offset of a stream to another, without a gap.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Slices and where they begin.
    pieces: VecDeque<(u64, Bytes)>,
    /// Small slices at the end, copied together.
    tail: BytesMut,
    start: u64,
    end: u64,
}

impl Pieces {
    /// Where the bytes begin.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Where they end.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn len(&self) -> u64 {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// What keeping them costs, in bytes.
    pub(super) fn cost(&self) -> u64 {
        self.len() + self.pieces.len() as u64 * PIECE_COST
    }

    /// Appends bytes.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let start = self.end;
        self.end += bytes.len() as u64;
        if bytes.len() < SMALL {
            if self.tail.capacity() - self.tail.len() < bytes.len() {
                self.seal();
                // The first bytes on an idle stream are often all of them.
                let is_idle = self.pieces.is_empty();
                self.tail = BytesMut::with_capacity(if is_idle { bytes.len() } else { TAIL_LEN });
            }
            self.tail.extend_from_slice(&bytes);
        } else {
            self.seal();
            self.pieces.push_back((start, bytes));
        }
    }

    /// Appends up to `max` bytes from `offset` on to `out`, and returns how many.
    pub(super) fn gather(&mut self, offset: u64, max: u64, out: &mut Vec<Bytes>) -> u64 {
        assert!(offset >= self.start, "what is sent again has been kept");
        let end = self.end.min(offset.saturating_add(max));
        if end > self.end - self.tail.len() as u64 {
            self.seal();
        }
        let mut at = offset;
        let first = self.pieces.partition_point(|(start, _)| *start <= offset);
        for (start, piece) in self.pieces.range(first.saturating_sub(1)..) {
            if at >= end {
                break;
            }
            let (from, to) = (at - start, (end - start).min(piece.len() as u64));
            out.push(piece.slice(index(from)..index(to)));
            at = start + to;
        }
        at.saturating_sub(offset)
    }

    /// Drops what lies before `offset`.
    pub(super) fn trim(&mut self, offset: u64) {
        assert!(offset <= self.end, "what is dropped is there");
        if offset <= self.start {
            return;
        }
        self.start = offset;
        if offset > self.end - self.tail.len() as u64 {
            self.seal();
        }
        while let Some((start, piece)) = self.pieces.front_mut() {
            let end = *start + piece.len() as u64;
            if end > offset {
                if offset > *start {
                    piece.advance(index(offset - *start));
                    *start = offset;
                }
                break;
            }
            self.pieces.pop_front();
        }
        self.shrink_if_empty();
    }

    /// Takes up to `max` bytes from the front, as one slice.
    pub(super) fn pop(&mut self, max: usize) -> Option<Bytes> {
        if self.pieces.is_empty() {
            self.seal();
        }
        let (start, piece) = self.pieces.front_mut()?;
        let taken = piece.split_to(piece.len().min(max));
        *start += taken.len() as u64;
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        self.start += taken.len() as u64;
        self.shrink_if_empty();
        Some(taken)
    }

    /// Gives back the places as well, if there is nothing.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            self.pieces = VecDeque::new();
        }
    }

    /// What is allocated.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        let places = self.pieces.capacity() * size_of::<(u64, Bytes)>();
        places + self.tail.capacity() + usize::try_from(self.len()).unwrap()
    }

    /// Makes a slice of the small ones so far.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let start = self.end_of_pieces();
            let piece = self.tail.split().freeze();
            self.pieces.push_back((start, piece));
        }
    }

    fn end_of_pieces(&self) -> u64 {
        self.pieces
            .back()
            .map_or(self.start, |(start, piece)| start + piece.len() as u64)
    }

    fn shrink_if_empty(&mut self) {
        if self.is_empty() {
            self.tail = BytesMut::new();
            if self.pieces.capacity() > MAX_IDLE_PLACES {
                self.pieces = VecDeque::new();
            }
        }
    }
}

/// A distance within one slice.
fn index(distance: u64) -> usize {
    usize::try_from(distance).expect("a slice in memory is not longer than memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_put_in_comes_out_in_any_cut() {
        for len in [1, 100, SMALL - 1, SMALL, 3 * SMALL] {
            let mut pieces = Pieces::default();
            let all: Vec<u8> = (0..40_000_u32).map(|i| (i % 251) as u8).collect();
            for chunk in all.chunks(len) {
                pieces.push(Bytes::copy_from_slice(chunk));
            }
            assert_eq!(gathered(&mut pieces, 0, 40_000), all);
            assert_eq!(gathered(&mut pieces, 777, 20_000), all[777..20_777]);
            pieces.trim(5_001);
            assert_eq!((pieces.start(), pieces.len()), (5_001, 34_999));
            assert_eq!(gathered(&mut pieces, 5_001, 3), all[5_001..5_004]);
            let mut read = Vec::new();
            while let Some(bytes) = pieces.pop(999) {
                read.extend(bytes);
            }
            assert_eq!(read, all[5_001..]);
            assert!(pieces.is_empty() && pieces.pieces.capacity() <= MAX_IDLE_PLACES);
        }
    }

    #[test]
    fn small_writes_share_a_slice_and_large_ones_are_not_copied() {
        let mut pieces = Pieces::default();
        for _ in 0..SMALL {
            pieces.push(Bytes::from_static(b"x"));
        }
        assert!(pieces.cost() < 3 * SMALL as u64, "{}", pieces.cost());

        let large = Bytes::from(vec![0; SMALL]);
        pieces.push(large.clone());
        let mut out = Vec::new();
        pieces.gather(SMALL as u64, u64::MAX, &mut out);
        assert_eq!(out[0].as_ptr(), large.as_ptr());
    }

    fn gathered(pieces: &mut Pieces, offset: u64, max: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let n = pieces.gather(offset, max, &mut out);
        let bytes = out.concat();
        assert_eq!(bytes.len() as u64, n);
        bytes
    }
}
