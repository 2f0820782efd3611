//! Acknowledgements that wait to be sent.

use std::collections::VecDeque;

/// Waiting acknowledgements at most. When a peer sends more between two flushes than this, those
/// above are not acknowledged, and sent again. Several datagrams of empty segments.
const MAX_WAITING: usize = 4096;

/// An acknowledgement: the number of a segment and the clock in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) sn: u32,
    pub(super) ts: u32,
}

/// Acknowledgements in the order in which segments have arrived.
#[derive(Debug)]
pub(super) struct Acks {
    waiting: VecDeque<Ack>,
    /// Those sent last of segments beyond a gap, to be sent once more.
    sent: VecDeque<Ack>,
    n_repeats: usize,
}

impl Acks {
    pub(super) fn new(n_repeats: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            n_repeats,
        }
    }

    pub(super) fn push(&mut self, ack: Ack) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(ack);
        }
    }

    /// Takes the next one to send. One that `una` covers is left out, unless it is the last: the
    /// peer takes its round-trip time from that.
    pub(super) fn pop(&mut self, una: u32) -> Option<Ack> {
        loop {
            let ack = self.waiting.pop_front()?;
            let is_beyond = is_beyond(ack, una);
            if is_beyond && self.n_repeats > 0 {
                if self.sent.len() == self.n_repeats {
                    self.sent.pop_front();
                }
                self.sent.push_back(ack);
            }
            if is_beyond || self.waiting.is_empty() {
                return Some(ack);
            }
        }
    }

    /// Returns those sent before that `una` does not cover, the newest first.
    pub(super) fn repeats(&mut self, una: u32) -> impl Iterator<Item = Ack> {
        self.sent.retain(|&ack| is_beyond(ack, una));
        self.sent.iter().rev().copied()
    }

    pub(super) fn set_repeats(&mut self, n_repeats: usize) {
        self.n_repeats = n_repeats;
        self.sent.truncate(n_repeats);
    }

    pub(super) fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn is_beyond(ack: Ack, una: u32) -> bool {
    crate::segment::distance(ack.sn, una) >= 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acks(n_repeats: usize, sns: impl IntoIterator<Item = u32>) -> Acks {
        let mut acks = Acks::new(n_repeats);
        for sn in sns {
            acks.push(Ack { sn, ts: 0 });
        }
        acks
    }

    fn drain(acks: &mut Acks, una: u32) -> Vec<u32> {
        std::iter::from_fn(|| acks.pop(una))
            .map(|ack| ack.sn)
            .collect()
    }

    #[test]
    fn of_covered_acknowledgements_only_the_last_is_sent() {
        assert_eq!(drain(&mut acks(0, [0, 1, 2, 5, 3]), 4), [5, 3]);
        assert_eq!(drain(&mut acks(0, [0, 1, 2]), 4), [2]);
    }

    #[test]
    fn acknowledgements_beyond_a_gap_are_repeated_while_the_gap_is_there() {
        let mut acks = acks(2, [5, 6, 7]);
        assert_eq!(drain(&mut acks, 4), [5, 6, 7]);
        assert_eq!(
            acks.repeats(4).map(|ack| ack.sn).collect::<Vec<_>>(),
            [7, 6]
        );
        assert_eq!(acks.repeats(7).map(|ack| ack.sn).collect::<Vec<_>>(), [7]);
        assert_eq!(acks.repeats(8).count(), 0);
    }

    #[test]
    fn waiting_acknowledgements_are_bounded() {
        assert_eq!(acks(0, 0..100_000).n_waiting(), MAX_WAITING);
    }
}
