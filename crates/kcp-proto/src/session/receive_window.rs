//! What has been received: data in order, waiting to be read, and segments beyond a gap.

use std::collections::VecDeque;

use bytes::Bytes;

use super::arrived::{self, Bits};
use crate::segment::distance;

/// Slots to begin with: an idle session keeps few bytes.
const INITIAL_SLOTS: usize = 16;

/// Puts segments in order.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    /// Segments in each of the two parts below at most.
    limit: u32,
    /// The first segment that is not in the queue.
    next: u32,
    /// Segments from `next` on, each at its number modulo the length, which is a power of two.
    slots: Vec<Option<Bytes>>,
    n_stored: u32,
    /// Which slots are taken, and the newest segment that was put into one.
    stored: Bits,
    newest: u32,
    /// Data in order. At the limit nothing is added until some is read, and `next` stands still.
    queue: VecDeque<Bytes>,
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insertion {
    New,
    /// It was there before, or has been read.
    Repeated,
    /// The peer did not keep to the window.
    Beyond,
}

impl ReceiveWindow {
    pub(super) fn new(limit: u32, next: u32) -> Self {
        Self {
            limit,
            next,
            slots: Vec::new(),
            n_stored: 0,
            stored: Bits::default(),
            newest: next,
            queue: VecDeque::new(),
        }
    }

    /// Takes the data of segment `sn`.
    pub(super) fn insert(&mut self, sn: u32, data: Bytes) -> Insertion {
        let ahead = distance(sn, self.next);
        if ahead < 0 {
            return Insertion::Repeated;
        }
        if ahead.unsigned_abs() >= self.limit {
            return Insertion::Beyond;
        }
        if ahead == 0 && self.n_stored == 0 && !self.is_full() {
            self.append(data);
            return Insertion::New;
        }
        self.make_room(ahead.unsigned_abs() as usize);
        let slot_idx = self.slot_idx(sn);
        if self.slots[slot_idx].is_some() {
            return Insertion::Repeated;
        }
        self.slots[slot_idx] = Some(data);
        if self.n_stored == 0 || distance(sn, self.newest) > 0 {
            self.newest = sn;
        }
        self.n_stored += 1;
        self.stored.set(sn);
        self.move_to_queue();
        Insertion::New
    }

    /// Takes up to `max` bytes out, in one piece.
    pub(super) fn read(&mut self, max: usize) -> Option<Bytes> {
        let front = self.queue.front_mut()?;
        if front.len() > max {
            return Some(front.split_to(max));
        }
        let data = self.queue.pop_front();
        self.move_to_queue();
        data
    }

    pub(super) fn grow(&mut self, limit: u32) {
        self.limit = self.limit.max(limit);
        self.move_to_queue();
    }

    /// The first segment that has not been received, for the peer's benefit: its `una`.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Whether there are segments beyond a gap.
    pub(super) fn has_gap(&self) -> bool {
        self.n_stored > 0
    }

    /// Appends a map of the segments beyond a gap, in `max_len` bytes.
    pub(super) fn write_map(&self, out: &mut Vec<u8>, max_len: usize) {
        arrived::write(out, &self.stored, (self.next, self.newest), max_len);
    }

    /// How many segments there is room for.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "both fit into the field of a header"
    )]
    pub(super) fn free(&self) -> u16 {
        (self.limit as usize).saturating_sub(self.queue.len()) as u16
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    pub(super) fn is_readable(&self) -> bool {
        !self.queue.is_empty()
    }

    fn is_full(&self) -> bool {
        self.queue.len() >= self.limit as usize
    }

    fn move_to_queue(&mut self) {
        while self.n_stored > 0 && !self.is_full() {
            let slot_idx = self.slot_idx(self.next);
            let Some(data) = self.slots[slot_idx].take() else {
                return;
            };
            self.n_stored -= 1;
            self.stored.clear(self.next);
            self.append(data);
        }
    }

    /// Appends the data of segment `next`. Empty data needs no place in the queue.
    fn append(&mut self, data: Bytes) {
        self.next = self.next.wrapping_add(1);
        if !data.is_empty() {
            self.queue.push_back(data);
        }
    }

    /// Grows the slots until the one `ahead` of `next` is among them.
    fn make_room(&mut self, ahead: usize) {
        if ahead < self.slots.len() {
            return;
        }
        let n_slots = (ahead + 1).next_power_of_two().max(INITIAL_SLOTS);
        self.stored = Bits::with_slots(n_slots);
        let mut old = std::mem::replace(&mut self.slots, vec![None; n_slots]);
        let n_old = old.len();
        for i in 0..u32::try_from(n_old).unwrap_or(u32::MAX) {
            let sn = self.next.wrapping_add(i);
            let data = old[sn as usize & (n_old - 1)].take();
            if data.is_some() {
                self.stored.set(sn);
            }
            let slot_idx = self.slot_idx(sn);
            self.slots[slot_idx] = data;
        }
    }

    fn slot_idx(&self, sn: u32) -> usize {
        sn as usize & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::cast_possible_truncation,
        reason = "tests"
    )]

    use super::*;

    fn segment(i: u32) -> Bytes {
        Bytes::copy_from_slice(&i.to_le_bytes())
    }

    fn read_all(window: &mut ReceiveWindow) -> Vec<u32> {
        std::iter::from_fn(|| window.read(usize::MAX))
            .map(|data| u32::from_le_bytes(*data.first_chunk().unwrap()))
            .collect()
    }

    #[test]
    fn segments_are_put_in_order_across_the_wrap() {
        for first in [0, u32::MAX - 50] {
            let mut window = ReceiveWindow::new(128, first);
            for i in (0..100).rev() {
                assert_eq!(
                    window.insert(first.wrapping_add(i), segment(i)),
                    Insertion::New
                );
                assert_eq!(window.is_readable(), i == 0);
            }
            assert_eq!(read_all(&mut window), (0..100).collect::<Vec<_>>());
            assert_eq!(window.next(), first.wrapping_add(100));
            assert_eq!(window.n_stored, 0);
        }
    }

    #[test]
    fn repeated_and_far_segments_are_told_apart() {
        let mut window = ReceiveWindow::new(8, 0);
        assert_eq!(window.insert(3, segment(3)), Insertion::New);
        assert_eq!(window.insert(3, segment(3)), Insertion::Repeated);
        assert_eq!(window.insert(8, segment(8)), Insertion::Beyond);
        assert_eq!(window.insert(u32::MAX, segment(0)), Insertion::Repeated);
        assert_eq!(window.insert(0, segment(0)), Insertion::New);
        assert_eq!(window.insert(0, segment(0)), Insertion::Repeated);
        assert_eq!(read_all(&mut window), [0]);
    }

    #[test]
    fn a_reader_who_stops_closes_the_window() {
        let mut window = ReceiveWindow::new(8, 0);
        for i in 0..40 {
            window.insert(i, segment(i));
        }
        assert_eq!((window.free(), window.next()), (0, 8));
        assert_eq!(
            window.n_stored, 8,
            "another window of segments is kept beside the queue"
        );
        assert_eq!(window.read(1).unwrap().len(), 1);
        assert_eq!(
            window.free(),
            0,
            "a segment read in part still takes its place"
        );
        window.read(usize::MAX).unwrap();
        assert_eq!(
            (window.free(), window.next()),
            (0, 9),
            "the one behind it has moved up"
        );
        assert_eq!(read_all(&mut window), (1..16).collect::<Vec<_>>());
    }

    #[test]
    fn empty_segments_take_no_room() {
        let mut window = ReceiveWindow::new(8, 0);
        for i in 0..1000 {
            assert_eq!(window.insert(i, Bytes::new()), Insertion::New);
        }
        assert!(!window.is_readable());
        assert_eq!(window.free(), 8);
    }
}
