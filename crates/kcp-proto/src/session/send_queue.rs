//! Data that has not been sent, cut into segments.
//!
//! Whole segments are slices of what was written. Only the rest at the end is copied: it grows with
//! further writes until it is a whole segment too, or is sent as it is. Behind all of it may stand the
//! end: a segment without data.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

#[derive(Debug)]
pub(super) struct SendQueue {
    mss: usize,
    whole: VecDeque<Bytes>,
    /// Shorter than a segment.
    rest: BytesMut,
    /// Whether the end stands behind what is here.
    has_end: bool,
}

impl SendQueue {
    pub(super) fn new(mss: usize) -> Self {
        Self {
            mss,
            whole: VecDeque::new(),
            rest: BytesMut::new(),
            has_end: false,
        }
    }

    /// Takes from `data` what fits into `max_segments` more segments, and returns how much.
    pub(super) fn push(&mut self, data: &mut Bytes, max_segments: usize) -> usize {
        let before = data.len();
        let mut n_free = max_segments;
        if !self.rest.is_empty() {
            // The rest has a segment already: filling it up takes none.
            let n = data.len().min(self.mss - self.rest.len());
            self.rest.extend_from_slice(&data.split_to(n));
            if self.rest.len() == self.mss {
                self.whole
                    .push_back(std::mem::take(&mut self.rest).freeze());
            }
        }
        while data.len() >= self.mss && n_free > 0 {
            self.whole.push_back(data.split_to(self.mss));
            n_free -= 1;
        }
        if !data.is_empty() && data.len() < self.mss && n_free > 0 {
            self.rest.extend_from_slice(data);
            data.clear();
        }
        before - data.len()
    }

    /// Puts the end behind what is here. Nothing may be pushed from here on.
    pub(super) fn push_end(&mut self) {
        self.has_end = true;
    }

    /// Forgets what is here.
    pub(super) fn clear(&mut self) {
        self.whole.clear();
        self.rest.clear();
    }

    /// Takes the next segment out. The end is one without data.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.whole
            .pop_front()
            .or_else(|| (!self.rest.is_empty()).then(|| std::mem::take(&mut self.rest).freeze()))
            .or_else(|| std::mem::take(&mut self.has_end).then(Bytes::new))
    }

    /// How long the segment is that `pop` would return.
    pub(super) fn next_len(&self) -> Option<usize> {
        let rest = (!self.rest.is_empty()).then_some(self.rest.len());
        let end = self.has_end.then_some(0);
        self.whole.front().map(Bytes::len).or(rest).or(end)
    }

    pub(super) fn n_segments(&self) -> usize {
        self.whole.len() + usize::from(!self.rest.is_empty()) + usize::from(self.has_end)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.n_segments() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_writes_share_a_segment() {
        let mut queue = SendQueue::new(4);
        for byte in b"abcdef" {
            assert_eq!(queue.push(&mut Bytes::copy_from_slice(&[*byte]), 9), 1);
        }
        assert_eq!(queue.n_segments(), 2);
        assert_eq!(queue.next_len(), Some(4));
        assert_eq!(queue.pop().as_deref(), Some(b"abcd".as_slice()));
        assert_eq!(queue.next_len(), Some(2));
        assert_eq!(queue.pop().as_deref(), Some(b"ef".as_slice()));
        assert_eq!(queue.pop(), None);
        assert!(queue.is_empty());
    }

    #[test]
    fn only_what_fits_is_taken() {
        let mut queue = SendQueue::new(4);
        let mut data = Bytes::from_static(b"abcdefghijklm");
        assert_eq!(queue.push(&mut data, 2), 8);
        assert_eq!(queue.push(&mut data, 0), 0);
        assert_eq!(queue.push(&mut data, 2), 5);
        assert!(data.is_empty());
        assert_eq!(queue.n_segments(), 4);
        let mut data = Bytes::from_static(b"nopqrst");
        assert_eq!(
            queue.push(&mut data, 0),
            3,
            "the rest takes what makes it whole"
        );
        assert_eq!(&*data, b"qrst");
        assert_eq!(queue.n_segments(), 4);
    }
}
