//! Whether a bound of a stream is what holds it back, and what it should be then.
//!
//! The rate of a round tells what a stream needs once it flows. At its beginning, on a path that
//! loses packets, it tells nothing: most of a small window waits behind the first gap, little comes
//! through in a round trip, and a bound that follows the rate stays small.

use std::time::{Duration, Instant};

/// On shorter paths the tick of the scheduler is longer than a round trip.
pub(super) const MIN_ROUND: Duration = Duration::from_millis(5);

/// So many bytes ...
const FIRST_BYTES: u64 = 8 * 1024;

/// ... in so many round trips show that a new stream wants to be fast. Six packets of which one in
/// three is lost, and of these one in three again, may take that long to come through in order.
const FIRST_ROUND_TRIPS: u32 = 8;

/// Once the bound fits a fast path, half of it has to pass in so many round trips.
const ROUND_TRIPS: u32 = 4;

/// The rate, in bytes per second, for which a stream gets room as soon as it shows that it wants to
/// be fast: 200 Mbit/s.
const FIRST_RATE: u64 = 25_000_000;

/// The most room that a stream gets for that: a round trip of 168 ms.
const FIRST_BOUND_MAX: u64 = 4 * 1024 * 1024;

/// So many rounds in a row that would do with less make a bound smaller. On a path that loses
/// packets single rounds bring nothing and the next one much.
const N_LOW_ROUNDS: u8 = 8;

/// What has passed through a bound.
#[derive(Debug, Default)]
pub(super) struct Demand {
    began: Option<Instant>,
    /// No bound reaches the range of the type.
    n_bytes: u32,
    n_low_rounds: u8,
}

impl Demand {
    /// Counts what has passed. Returns what the bound should be, when it is what holds back.
    pub(super) fn count(
        &mut self,
        n_bytes: u64,
        bound: u64,
        rtt: Duration,
        now: Instant,
    ) -> Option<u64> {
        let began = *self.began.get_or_insert(now);
        let n_bytes = u32::try_from(n_bytes).unwrap_or(u32::MAX);
        self.n_bytes = self.n_bytes.saturating_add(n_bytes);
        let rtt = rtt.max(MIN_ROUND);
        let first = first_bound(rtt);
        let (enough, n_round_trips, wanted) = if bound < first {
            (FIRST_BYTES, FIRST_ROUND_TRIPS, first)
        } else {
            (bound / 2, ROUND_TRIPS, bound * 2)
        };
        if u64::from(self.n_bytes) < enough {
            return None;
        }
        self.began = Some(now);
        self.n_bytes = 0;
        (now.saturating_duration_since(began) <= rtt * n_round_trips).then_some(wanted)
    }

    /// Counts a round. Whether enough in a row were low, so that the bound should be smaller.
    pub(super) fn is_low_for_long(&mut self, is_low: bool) -> bool {
        self.n_low_rounds = if is_low { self.n_low_rounds + 1 } else { 0 };
        let is_for_long = self.n_low_rounds >= N_LOW_ROUNDS;
        if is_for_long {
            self.n_low_rounds = 0;
        }
        is_for_long
    }
}

fn first_bound(rtt: Duration) -> u64 {
    let micros = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
    (micros.saturating_mul(FIRST_RATE) / 1_000_000).min(FIRST_BOUND_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;
    const RTT: Duration = Duration::from_millis(100);

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn some_bytes_within_some_round_trips_are_followed_by_room_for_a_fast_path() {
        let start = start();
        let mut demand = Demand::default();
        assert_eq!(demand.count(KIB, 64 * KIB, RTT, start), None);
        let bound = demand.count(7 * KIB, 64 * KIB, RTT, start + RTT * 8);
        assert_eq!(bound, Some(2_500_000));
    }

    #[test]
    fn what_takes_its_time_is_not_held_back() {
        let start = start();
        let mut demand = Demand::default();
        demand.count(KIB, 64 * KIB, RTT, start);
        let late = start + RTT * 9;
        assert_eq!(demand.count(7 * KIB, 64 * KIB, RTT, late), None);
        assert_eq!(
            demand.count(8 * KIB, 64 * KIB, RTT, late + RTT),
            Some(2_500_000),
            "it counts from there"
        );
    }

    #[test]
    fn a_bound_that_is_used_up_quickly_doubles() {
        let start = start();
        let mut demand = Demand::default();
        demand.count(1, 3_000_000, RTT, start);
        let mut at =
            |n_round_trips| demand.count(1_500_000, 3_000_000, RTT, start + RTT * n_round_trips);
        assert_eq!(at(4), Some(6_000_000));
        assert_eq!(at(9), None, "five round trips later");
    }

    #[test]
    fn single_low_rounds_change_nothing() {
        let mut demand = Demand::default();
        let mut rounds = |n, is_low| (0..n).any(|_| demand.is_low_for_long(is_low));
        assert!(!rounds(N_LOW_ROUNDS - 1, true));
        assert!(!rounds(1, false));
        assert!(!rounds(N_LOW_ROUNDS - 1, true));
        assert!(rounds(1, true));
    }

    #[test]
    fn a_long_path_and_a_short_one_begin_within_bounds() {
        assert_eq!(first_bound(Duration::from_secs(3)), FIRST_BOUND_MAX);
        assert_eq!(first_bound(Duration::from_millis(5)), 125_000);
    }
}
