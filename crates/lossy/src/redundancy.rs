//! How often interactive data is sent at once.
//!
//! Bulk data is retransmitted: that costs nothing but what was lost. A key press would wait more
//! than a round trip for it, so a copy or a few go along with it, as many as the loss asks for and
//! as far as a small share of the rate lasts.

use std::time::{Duration, Instant};

/// Decides about copies, and keeps them within their share of the rate.
#[derive(Clone, Debug)]
pub struct Redundancy {
    awaited: Account,
    lost: Account,
}

/// What copies of one kind may take.
#[derive(Clone, Debug)]
struct Account {
    /// Bytes that they may take now.
    credit: f64,
    at: Instant,
    /// Of the path's rate.
    share: f64,
}

/// Copies that go along with a piece of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// Beside the first transmission.
    pub n_extra: u32,
    /// From one transmission to the next, so that a burst of losses does not take them all.
    pub spacing: Duration,
}

impl Redundancy {
    /// Starts with the credit of [`MAX_CREDIT`].
    pub fn new(now: Instant) -> Self {
        Self {
            awaited: Account::new(now, MAX_SHARE),
            lost: Account::new(now, MAX_SHARE_OF_LOST),
        }
    }

    /// Returns how many copies of `bytes` go along on a path with this loss (0 to 1), rate in bytes
    /// per second and round trip, and takes them from the credit. Where the credit does not last
    /// there are fewer.
    pub fn copies(
        &mut self,
        now: Instant,
        bytes: u64,
        loss: f64,
        rate: u64,
        rtt: Duration,
    ) -> Copies {
        self.awaited.earn(now, rate);
        self.awaited.copies(wanted(loss), bytes, rtt)
    }

    /// The same for bulk data that has been lost `n_losses` times. After an outage everything under
    /// way was lost again and again, which says nothing about the loss; the credit does not last for
    /// copies of all that, which would be most of what the path carries.
    pub fn copies_of_lost(
        &mut self,
        now: Instant,
        bytes: u64,
        (loss, n_losses): (f64, u32),
        rate: u64,
        rtt: Duration,
    ) -> Copies {
        self.lost.earn(now, rate);
        self.lost.copies(wanted_of_lost(loss, n_losses), bytes, rtt)
    }

    /// Takes one copy of `bytes` from the credit, whatever the path loses. Says whether it lasts.
    pub fn take(&mut self, now: Instant, bytes: u64, rate: u64) -> bool {
        self.awaited.earn(now, rate);
        self.awaited.spend(bytes)
    }
}

impl Account {
    fn new(now: Instant, share: f64) -> Self {
        Self {
            credit: MAX_CREDIT,
            at: now,
            share,
        }
    }

    /// As many of the copies that are wanted as the credit lasts for.
    fn copies(&mut self, n_wanted: u32, bytes: u64, rtt: Duration) -> Copies {
        let mut n_extra = 0;
        while n_extra < n_wanted && self.spend(bytes) {
            n_extra += 1;
        }
        Copies {
            n_extra,
            spacing: spacing(rtt),
        }
    }

    fn earn(&mut self, now: Instant, rate: u64) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        let income = (to_f64(rate) * self.share).max(MIN_RATE);
        self.credit = income.mul_add(elapsed, self.credit).min(MAX_CREDIT);
    }

    fn spend(&mut self, bytes: u64) -> bool {
        let cost = to_f64(bytes.max(1));
        let lasts = self.credit >= cost;
        if lasts {
            self.credit -= cost;
        }
        lasts
    }
}

/// Returns how many copies are wanted with bulk data that has been lost `n_losses` times. Each time
/// that it is lost again holds an ordered stream up for a round trip more, and the more often it was
/// lost the less there is of it: copies take no more than [`LOST_SHARE`] of what is sent.
fn wanted_of_lost(loss: f64, n_losses: u32) -> u32 {
    let share = loss.clamp(MIN_LOSS, 1.0).powf(f64::from(n_losses));
    let mut n_extra = 0;
    while n_extra < MAX_EXTRA_OF_LOST && f64::from(n_extra + 1) * share <= LOST_SHARE {
        n_extra += 1;
    }
    n_extra
}

fn spacing(rtt: Duration) -> Duration {
    (rtt / SPACINGS_PER_RTT).min(MAX_SPACING)
}

/// Returns how many copies are wanted beside the first transmission, so that hardly ever all of
/// them are lost.
pub fn wanted(loss: f64) -> u32 {
    let mut all_lost = loss.clamp(0.0, 1.0);
    // Where one in a hundred is lost, an estimate of loss is far below that most of the time.
    let mut n_extra = u32::from(loss > NO_LOSS);
    all_lost *= if n_extra > 0 { loss } else { 1.0 };
    while all_lost > MAX_ALL_LOST && n_extra < MAX_EXTRA {
        all_lost *= loss;
        n_extra += 1;
    }
    n_extra
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn to_f64(n: u64) -> f64 {
    n as f64
}

/// A request and its answer are both lost alike: with this for each the 99th percentile is met
/// without a retransmission, also where the loss is underestimated by a quarter.
const MAX_ALL_LOST: f64 = 0.0015;

/// Less loss than this needs no copy.
const NO_LOSS: f64 = 0.0005;

/// What 40 % of loss asks for. Beyond that a copy more hardly helps.
const MAX_EXTRA: u32 = 6;

/// Share of all that is sent which copies of lost bulk data may take, for each number of losses.
const LOST_SHARE: f64 = 0.01;

/// With three copies of it nothing is lost again that matters.
const MAX_EXTRA_OF_LOST: u32 = 3;

/// Less loss than this passes for this much: what is lost at all may be lost for a reason.
const MIN_LOSS: f64 = 0.01;

/// Share of the path's rate that copies of awaited data may take ...
const MAX_SHARE: f64 = 0.1;

/// ... and those of lost bulk data: more than is wanted where losses are independent.
const MAX_SHARE_OF_LOST: f64 = 0.05;

/// What they may take on any path, in bytes per second: what somebody types costs less.
const MIN_RATE: f64 = 4096.0;

/// What a while without interactive data saves up, in bytes. Beyond it nothing is saved.
pub const MAX_CREDIT: f64 = 32.0 * 1024.0;

/// Copies are spaced by this part of the round trip, so that all are gone within half of it ...
const SPACINGS_PER_RTT: u32 = 16;

/// ... and by no more than this.
const MAX_SPACING: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_loss_asks_for_more_copies() {
        let wanted = [0.0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 1.0].map(wanted);
        assert_eq!(wanted, [0, 1, 1, 2, 2, 4, 5, 6, 6]);
    }

    #[test]
    fn the_more_often_something_was_lost_the_more_copies_it_has_and_all_take_little() {
        for loss in [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5] {
            let n_extra = |n_losses| wanted_of_lost(loss, n_losses);
            let all: Vec<_> = (1..12).map(n_extra).collect();
            assert!(all.is_sorted(), "{all:?} at {loss}");
            assert_eq!(all.last(), Some(&MAX_EXTRA_OF_LOST));
            let shares = (1..12).map(|n| f64::from(n_extra(n)) * loss.powi(n.cast_signed()));
            assert!(shares.sum::<f64>() < 3.0 * LOST_SHARE, "{all:?} at {loss}");
        }
    }

    /// Bytes of copies in ten seconds at a megabyte a second, when something is sent each millisecond.
    fn taken(mut copies: impl FnMut(&mut Redundancy, Instant) -> Copies) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "a time to begin with")]
        let start = Instant::now();
        let mut redundancy = Redundancy::new(start);
        let times = (0..10_000).map(|ms| start + Duration::from_millis(ms));
        let n_copies = times.map(|now| u64::from(copies(&mut redundancy, now).n_extra));
        n_copies.sum::<u64>() * 1000
    }

    #[test]
    fn copies_take_no_more_than_their_share() {
        let rtt = Duration::from_millis(50);
        let n_bytes = taken(|redundancy, now| redundancy.copies(now, 1000, 0.3, 1_000_000, rtt));
        assert!((900_000..=1_040_000).contains(&n_bytes), "{n_bytes}");
    }

    #[test]
    fn after_an_outage_copies_of_all_that_was_lost_take_no_more_than_theirs() {
        let rtt = Duration::from_millis(50);
        let n_bytes = taken(|redundancy, now| {
            redundancy.copies_of_lost(now, 1000, (0.02, 12), 1_000_000, rtt)
        });
        assert!((450_000..=540_000).contains(&n_bytes), "{n_bytes}");
    }

    #[test]
    fn a_first_copy_has_the_same_bound_whatever_is_lost() {
        #[expect(clippy::disallowed_methods, reason = "a time to begin with")]
        let start = Instant::now();
        let mut redundancy = Redundancy::new(start);
        let times = (0..10_000).map(|ms| start + Duration::from_millis(ms));
        let n_taken = times
            .filter(|now| redundancy.take(*now, 1000, 1_000_000))
            .count();
        assert!((900..=1_040).contains(&n_taken), "{n_taken}");
    }
}
