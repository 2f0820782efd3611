//! The probes that have come.

use std::time::{Duration, Instant};

use crate::path::probe::Heard;
use crate::path::report::Tally;

/// Which of the peer's numbers have come, and how late.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReceivedProbes {
    last: u32,
    last_at: Option<Instant>,
    missing: u64,
    /// The peer's probes, by the gaps in their numbers.
    pub(crate) tally: Tally,
}

/// A jump of the peer's numbers counts as at most so many lost: numbers are the peer's to choose.
const MAX_GAP: u64 = 1024;

impl ReceivedProbes {
    /// Returns whether the probe is new.
    pub(crate) fn handle_number(&mut self, now: Instant, number: u32) -> bool {
        let Some(step) = number.checked_sub(self.last).filter(|step| *step > 0) else {
            return self.fill_gap(self.last - number);
        };
        // Bit 0 of the bitmap is the number before the last one.
        self.missing = match step {
            1..64 => self.missing << step | ((1 << (step - 1)) - 1),
            64 => (1 << 63) - 1,
            _ => u64::MAX,
        };
        let n_lost = u64::from(step - 1).min(MAX_GAP);
        self.tally.total += n_lost + 1;
        self.tally.lost += n_lost;
        self.last = number;
        self.last_at = Some(now);
        true
    }

    /// What the next probe tells the peer.
    pub(crate) fn heard(&self, now: Instant) -> Option<Heard> {
        self.last_at.map(|at| Heard {
            last: self.last,
            held: now.saturating_duration_since(at),
            missing: self.missing & self.existing(),
        })
    }

    /// Number 0 and those below were never sent.
    fn existing(&self) -> u64 {
        match self.last.saturating_sub(1) {
            n @ 0..64 => (1 << n) - 1,
            _ => u64::MAX,
        }
    }

    fn fill_gap(&mut self, back: u32) -> bool {
        if !(1..=64).contains(&back) {
            return false;
        }
        let bit = 1 << (back - 1);
        let was_missing = self.missing & self.existing() & bit != 0;
        if was_missing {
            self.missing &= !bit;
            self.tally.lost = self.tally.lost.saturating_sub(1);
        }
        was_missing
    }
}

/// The delay of the peer's direction above its least, from timestamps of the peer's clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct InboundDelay {
    /// A timestamp pair that the others are compared with, and when it was taken.
    base: Option<(u32, Instant)>,
    smoothed: Duration,
}

/// Clocks drift by up to 100 ppm: 3 ms in this time, after which the least is found anew.
const BASE_LIFE: Duration = Duration::from_secs(30);

impl InboundDelay {
    /// `sent_at` is the peer's clock, `clock` this end's, both in microseconds modulo 2^32.
    pub(crate) fn add(&mut self, now: Instant, sent_at: u32, clock: u32) {
        let delay = clock.wrapping_sub(sent_at);
        let (base, since) = *self.base.get_or_insert((delay, now));
        let above = delay.wrapping_sub(base);
        let is_below = above > u32::MAX / 2;
        if is_below || now.saturating_duration_since(since) > BASE_LIFE {
            self.base = Some((delay, now));
        }
        let sample = if is_below { 0 } else { above };
        self.smoothed = (self.smoothed * 7 + Duration::from_micros(sample.into())) / 8;
    }

    pub(crate) fn queueing(&self) -> Duration {
        self.smoothed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::test_start;

    fn after(numbers: &[u32]) -> ReceivedProbes {
        let now = test_start();
        let mut received = ReceivedProbes::default();
        for number in numbers {
            received.handle_number(now, *number);
        }
        received
    }

    #[test]
    fn gaps_are_missing_until_they_are_filled() {
        let mut received = after(&[1, 2, 5]);
        let now = test_start();
        assert_eq!(received.heard(now).map(|h| h.missing), Some(0b0011));
        assert_eq!(received.tally, Tally { total: 5, lost: 2 });

        assert!(received.handle_number(now, 3), "it was only overtaken");
        assert!(
            !received.handle_number(now, 3),
            "the second time it is none"
        );
        assert_eq!(received.heard(now).map(|h| h.missing), Some(0b0001));
        assert_eq!(received.tally, Tally { total: 5, lost: 1 });
    }

    #[test]
    fn numbers_before_the_first_are_not_missing_and_jumps_are_bounded() {
        assert_eq!(after(&[1]).heard(test_start()).map(|h| h.missing), Some(0));
        assert_eq!(after(&[3]).heard(test_start()).map(|h| h.missing), Some(3));
        for step in [63, 64, 65] {
            let missing = after(&[100, 100 + step]).heard(test_start());
            let has_100 = missing.and_then(|heard| heard.has(100));
            assert_eq!(has_100, (step <= 64).then_some(true), "step {step}");
        }
        assert_eq!(after(&[1, u32::MAX]).tally.lost, MAX_GAP);
    }

    #[test]
    fn only_the_delay_above_the_least_counts_as_queueing() {
        let start = test_start();
        let mut delay = InboundDelay::default();
        for i in 0..100_u32 {
            // A peer whose clock is about to wrap, and a queue that grows to 40 ms.
            let sent_at = (u32::MAX - 500_000).wrapping_add(i * 10_000);
            let queue = if i < 50 { 0 } else { 40_000 };
            delay.add(start, sent_at, i * 10_000 + 25_000 + queue);
        }
        assert!((35..=40).contains(&delay.queueing().as_millis()));
    }
}
