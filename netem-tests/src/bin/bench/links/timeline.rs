//! How many bytes had arrived when.

use std::time::Duration;

/// Samples of a counter that only grows, in the order in which they were taken.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    samples: Vec<(Duration, u64)>,
}

impl Timeline {
    /// Adds what the counter says `at` that time.
    pub(crate) fn push(&mut self, at: Duration, n_bytes: u64) {
        self.samples.push((at, n_bytes));
    }

    /// Returns how many bytes had arrived by `at`.
    pub(crate) fn bytes_by(&self, at: Duration) -> u64 {
        let n_before = self.samples.partition_point(|(time, _)| *time <= at);
        n_before
            .checked_sub(1)
            .map_or(0, |last| self.samples[last].1)
    }

    /// Returns the rate between two times, in Mbit/s.
    pub(crate) fn mbit_per_s(&self, from: Duration, to: Duration) -> f64 {
        let n_bytes = self.bytes_by(to).saturating_sub(self.bytes_by(from));
        n_bytes as f64 * 8.0 / 1e6 / (to - from).as_secs_f64()
    }

    /// Returns the longest time between zero and `to` in which nothing arrived.
    pub(crate) fn longest_gap(&self, to: Duration) -> Duration {
        let mut longest = Duration::ZERO;
        let mut last_arrival = Duration::ZERO;
        let mut n_bytes = 0;
        for (time, n_now) in self.samples.iter().take_while(|(time, _)| *time <= to) {
            longest = longest.max(*time - last_arrival);
            if *n_now > n_bytes {
                n_bytes = *n_now;
                last_arrival = *time;
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_arrived_between_two_times() {
        let timeline = timeline([(0, 0), (1000, 125_000), (2000, 375_000), (3000, 375_000)]);

        assert_eq!(timeline.mbit_per_s(SECOND, 2 * SECOND), 2.0);
        assert_eq!(timeline.mbit_per_s(Duration::ZERO, 3 * SECOND), 1.0);
        assert_eq!(timeline.bytes_by(SECOND / 2), 0);
    }

    #[test]
    fn a_gap_begins_with_the_last_byte_that_came() {
        let timeline = timeline([(0, 0), (100, 5), (200, 5), (1300, 5), (1400, 6), (5000, 6)]);

        assert_eq!(
            timeline.longest_gap(2 * SECOND),
            Duration::from_millis(1300)
        );
        assert_eq!(
            timeline.longest_gap(5 * SECOND),
            Duration::from_millis(3600)
        );
    }

    #[test]
    fn a_transfer_that_never_begins_is_one_gap() {
        let timeline = timeline([(0, 0), (1000, 0), (2000, 0)]);

        assert_eq!(timeline.longest_gap(2 * SECOND), 2 * SECOND);
        assert_eq!(timeline.mbit_per_s(SECOND, 2 * SECOND), 0.0);
    }

    fn timeline<const N: usize>(samples: [(u64, u64); N]) -> Timeline {
        let mut timeline = Timeline::default();
        for (ms, n_bytes) in samples {
            timeline.push(Duration::from_millis(ms), n_bytes);
        }
        timeline
    }

    const SECOND: Duration = Duration::from_secs(1);
}
