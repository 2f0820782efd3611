//! Copies that wait for their time, and the loss that they are decided by.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Micros, whole_micros};
use crate::copies::{Copies, MAX_COPIES};

/// Segments with copies to come at most. Those beyond have none: with so many under way, something
/// will arrive.
const MAX_PENDING: usize = 32;

/// Transmissions whose fate is awaited at most. Those beyond say nothing about the loss.
const MAX_AWAITED: usize = 256;

/// What the loss is taken for before anything is known of it.
const INITIAL_LOSS: f64 = 0.02;

/// How much one transmission says about the loss.
const WEIGHT: f64 = 1.0 / 64.0;

/// The same for one of a bulk transfer, of which there are many.
const BULK_WEIGHT: f64 = 1.0 / 256.0;

/// Copies of one of the first segments, see [`Config::n_early`](crate::Config::n_early).
pub(super) fn early(n_losses: u32) -> Copies {
    Copies {
        n_extra: (1 + n_losses).min(MAX_EARLY_COPIES),
        spacing: EARLY_SPACING,
    }
}

/// Each loss is more of a sign that it takes more.
const MAX_EARLY_COPIES: u32 = 4;

/// Beyond most bursts of loss, and short of any time-out.
const EARLY_SPACING: Duration = Duration::from_millis(12);

/// Copies to be sent.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: VecDeque<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    sn: u32,
    next_at: Micros,
    n_left: u32,
    spacing: Micros,
}

impl Pending {
    /// Plans the copies of segment `sn`, which has just been sent.
    pub(super) fn plan(&mut self, sn: u32, copies: Copies, now: Micros) {
        let n_left = copies.n_extra.min(MAX_COPIES);
        if n_left == 0 || self.waiting.len() >= MAX_PENDING {
            return;
        }
        let spacing = whole_micros(copies.spacing);
        self.waiting.push_back(Waiting {
            sn,
            next_at: now.saturating_add(spacing),
            n_left,
            spacing,
        });
    }

    /// Forgets the copies of segments for which `is_wanted` does not hold any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(u32) -> bool) {
        self.waiting.retain(|copy| is_wanted(copy.sn));
    }

    /// Returns the segment whose copy is due.
    pub(super) fn peek(&self, now: Micros) -> Option<u32> {
        let due = self.waiting.iter().filter(|copy| copy.next_at <= now);
        due.min_by_key(|copy| copy.next_at).map(|copy| copy.sn)
    }

    /// Counts the copy of `sn` as sent.
    pub(super) fn take(&mut self, sn: u32, now: Micros) {
        for copy in &mut self.waiting {
            if copy.sn == sn {
                copy.n_left -= 1;
                copy.next_at = now.saturating_add(copy.spacing);
            }
        }
        self.waiting.retain(|copy| copy.n_left > 0);
    }

    pub(super) fn next_at(&self) -> Option<Micros> {
        self.waiting.iter().map(|copy| copy.next_at).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// How much is lost. Of data with copies each transmission has its own fate, which its
/// acknowledgement tells; of bulk data the control's losses say enough.
#[derive(Debug)]
pub(super) struct Loss {
    awaited: VecDeque<Awaited>,
    estimate: f64,
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    sn: u32,
    ts: u32,
    sent_at: Micros,
    has_arrived: bool,
}

impl Default for Loss {
    fn default() -> Self {
        Self {
            awaited: VecDeque::new(),
            estimate: INITIAL_LOSS,
        }
    }
}

impl Loss {
    /// Awaits the fate of a transmission.
    pub(super) fn handle_sent(&mut self, sn: u32, ts: u32, now: Micros) {
        if self.awaited.len() < MAX_AWAITED {
            self.awaited.push_back(Awaited {
                sn,
                ts,
                sent_at: now,
                has_arrived: false,
            });
        }
    }

    pub(super) fn handle_ack(&mut self, sn: u32, ts: u32) {
        let transmission = (self.awaited.iter_mut().rev()).find(|t| t.sn == sn && t.ts == ts);
        if let Some(transmission) = transmission {
            transmission.has_arrived = true;
        }
    }

    /// Takes the fates that are known after `patience`.
    pub(super) fn settle(&mut self, patience: Micros, now: Micros) {
        while let Some(first) = self.awaited.front()
            && first.sent_at.saturating_add(patience) <= now
        {
            let outcome = if first.has_arrived { 0.0 } else { 1.0 };
            self.estimate += WEIGHT * (outcome - self.estimate);
            self.awaited.pop_front();
        }
    }

    /// Takes the fate of a segment of a bulk transfer.
    pub(super) fn handle_bulk(&mut self, is_lost: bool) {
        let outcome = if is_lost { 1.0 } else { 0.0 };
        self.estimate += BULK_WEIGHT * (outcome - self.estimate);
    }

    pub(super) fn estimate(&self) -> f64 {
        self.estimate
    }
}

/// How much later than usual acknowledgements come of segments that had been taken for lost: time
/// that loss detection has to give beyond what the control asks for.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    extra: Micros,
}

impl Lateness {
    /// A segment that had been taken for lost was `late` after the round-trip time.
    pub(super) fn handle_spurious(&mut self, late: Micros) {
        self.extra = self.extra.max(late.min(MAX_LATENESS));
    }

    /// One more segment has arrived as it should.
    pub(super) fn handle_ack(&mut self) {
        self.extra -= self.extra / LATENESS_MEMORY;
    }

    pub(super) fn extra(&self) -> Micros {
        self.extra
    }
}

/// More than this is not reordering.
const MAX_LATENESS: Micros = 200_000;

/// After so many acknowledgements the lateness has fallen to a third.
const LATENESS_MEMORY: Micros = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_spaced_and_come_to_an_end() {
        let mut pending = Pending::default();
        let copies = Copies {
            n_extra: 2,
            spacing: Duration::from_millis(3),
        };
        pending.plan(7, copies, 0);
        assert_eq!(pending.peek(2999), None);
        assert_eq!(pending.peek(3000), Some(7));
        pending.take(7, 3000);
        assert_eq!(pending.next_at(), Some(6000));
        pending.take(7, 6000);
        assert!(pending.is_empty());
    }

    #[test]
    fn what_has_arrived_needs_no_copy() {
        let mut pending = Pending::default();
        let copies = Copies {
            n_extra: 2,
            spacing: Duration::ZERO,
        };
        pending.plan(7, copies, 0);
        pending.plan(8, copies, 0);
        pending.retain(|sn| sn != 7);
        assert_eq!(pending.peek(0), Some(8));
    }

    #[test]
    fn segments_with_copies_are_bounded() {
        let mut pending = Pending::default();
        let copies = Copies {
            n_extra: u32::MAX,
            spacing: Duration::ZERO,
        };
        for sn in 0..1000 {
            pending.plan(sn, copies, 0);
        }
        let mut n_copies = 0;
        while let Some(sn) = pending.peek(0) {
            pending.take(sn, 0);
            n_copies += 1;
        }
        assert_eq!(n_copies, MAX_PENDING * MAX_COPIES as usize);
    }

    #[test]
    fn the_loss_is_that_of_transmissions_without_an_answer() {
        let mut loss = Loss::default();
        for sn in 0..2000 {
            loss.handle_sent(sn, sn, 0);
            if sn % 4 != 0 {
                loss.handle_ack(sn, sn);
            }
            loss.settle(1000, 1000);
        }
        assert!((0.2..0.3).contains(&loss.estimate()), "{}", loss.estimate());
    }
}
