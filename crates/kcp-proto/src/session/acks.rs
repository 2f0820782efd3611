//! Acknowledgements that wait to be sent.

use std::collections::VecDeque;

/// Waiting acknowledgements at most. When a peer sends more between two flushes than this, those
/// above are not acknowledged, and sent again. Several datagrams of empty segments.
const MAX_WAITING: usize = 4096;

/// Acknowledgements that are repeated although `una` says the same.
const N_RECENT: usize = 3;

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
    /// Those sent last, to be sent once more.
    sent: VecDeque<Ack>,
    /// Whether some were left out lately: then there are many, and one more or less is no matter.
    has_dropped: bool,
    n_repeats: usize,
}

impl Acks {
    pub(super) fn new(n_repeats: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            has_dropped: false,
            n_repeats,
        }
    }

    pub(super) fn push(&mut self, ack: Ack) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(ack);
        }
    }

    /// Takes the next one to send. One that `una` covers is left out, unless it is the last: the
    /// peer takes its round-trip time from that. With repeats a few are sent all the same: by them
    /// the peer knows which copies have arrived.
    pub(super) fn pop(&mut self, una: u32) -> Option<Ack> {
        loop {
            let ack = self.waiting.pop_front()?;
            let n_kept = if self.n_repeats > 0 { N_RECENT } else { 0 };
            if !is_beyond(ack, una) && self.waiting.len() > n_kept {
                self.has_dropped = true;
                continue;
            }
            if self.n_repeats > 0 {
                if self.sent.len() == self.n_repeats {
                    self.sent.pop_front();
                }
                self.sent.push_back(ack);
            }
            return Some(ack);
        }
    }

    /// Returns the last of those sent before, the newest first, without the `n_written` that have
    /// just been sent, while there are few. By these the peer knows how much is lost on the way to
    /// here.
    pub(super) fn repeats(&mut self, n_written: usize) -> impl Iterator<Item = Ack> {
        let n_recent = if std::mem::take(&mut self.has_dropped) {
            0
        } else {
            N_RECENT
        };
        self.sent
            .iter()
            .rev()
            .copied()
            .skip(n_written)
            .take(n_recent)
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
    fn while_there_are_few_the_last_are_repeated_although_they_are_covered() {
        let mut acks = acks(9, []);
        for sn in 0..6 {
            acks.push(Ack { sn, ts: 0 });
            assert_eq!(acks.pop(sn + 1).map(|ack| ack.sn), Some(sn));
        }
        let repeats: Vec<_> = acks.repeats(1).map(|ack| ack.sn).collect();
        assert_eq!(repeats, [4, 3, 2]);
    }

    #[test]
    fn waiting_acknowledgements_are_bounded() {
        assert_eq!(acks(0, 0..100_000).n_waiting(), MAX_WAITING);
    }
}
