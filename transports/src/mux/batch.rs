//! Frames on their way into the byte stream: headers and payload slices, written together.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::frame::Header;

/// Payloads below this are copied behind their header: cheaper than a slice of their own.
const INLINE_BELOW: usize = 512;

/// Allocations of headers beyond this are given back when a batch has been written.
const HEADERS_KEPT: usize = 2 * 1024;

/// Places for pieces beyond this likewise.
const PIECES_KEPT: usize = 32;

/// What is being written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Headers and small payloads. Kept whole until the batch is written, pieces point into it.
    inline: Vec<u8>,
    pieces: VecDeque<Piece>,
    /// Bytes not written yet.
    len: usize,
}

#[derive(Debug)]
enum Piece {
    /// From here to there in `inline`.
    Inline(usize, usize),
    Payload(Bytes),
}

impl Batch {
    /// Appends a header.
    pub(super) fn push_header(&mut self, header: Header) {
        self.push_inline(&header.encode());
    }

    /// Appends a payload, or a part of one.
    pub(super) fn push_payload(&mut self, payload: Bytes) {
        if payload.len() < INLINE_BELOW {
            self.push_inline(&payload);
        } else {
            self.len += payload.len();
            self.pieces.push_back(Piece::Payload(payload));
        }
    }

    /// Fills `slices` with what comes next. Returns how many were filled.
    pub(super) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut n = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(match piece {
                Piece::Inline(start, end) => &self.inline[*start..*end],
                Piece::Payload(payload) => payload,
            });
            n += 1;
        }
        n
    }

    /// `n` bytes have been written.
    pub(super) fn advance(&mut self, mut n: usize) {
        self.len -= n;
        while n > 0 {
            let Some(piece) = self.pieces.front_mut() else {
                break;
            };
            let piece_len = match piece {
                Piece::Inline(start, end) => *end - *start,
                Piece::Payload(payload) => payload.len(),
            };
            if piece_len <= n {
                n -= piece_len;
                self.pieces.pop_front();
                continue;
            }
            match piece {
                Piece::Inline(start, _) => *start += n,
                Piece::Payload(payload) => payload.advance(n),
            }
            break;
        }
        if self.pieces.is_empty() {
            self.inline.clear();
            self.inline.shrink_to(HEADERS_KEPT);
            self.pieces.shrink_to(PIECES_KEPT);
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes not written yet.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push_inline(&mut self, bytes: &[u8]) {
        let start = self.inline.len();
        self.inline.extend_from_slice(bytes);
        self.len += bytes.len();
        match self.pieces.back_mut() {
            // Neighbours become one piece.
            Some(Piece::Inline(_, end)) if *end == start => *end += bytes.len(),
            _ => self
                .pieces
                .push_back(Piece::Inline(start, start + bytes.len())),
        }
    }
}
