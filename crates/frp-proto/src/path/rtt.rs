//! Round-trip times: smoothed as in RFC 6298, and the smallest of late.

use std::time::{Duration, Instant};

/// What is known of a path's round-trip time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rtt {
    smoothed: Option<(Duration, Duration)>,
    /// The minima of this epoch and of the one before it.
    minima: [Option<Duration>; 2],
    epoch_start: Option<Instant>,
}

/// How long a minimum counts, at least; at most twice as long. Long enough that a queue which
/// stands for a transfer does not become the path's own delay, short enough to follow a new route.
const MIN_RTT_EPOCH: Duration = Duration::from_secs(300);

impl Rtt {
    pub(crate) fn add(&mut self, now: Instant, sample: Duration) {
        let (srtt, rttvar) = match self.smoothed {
            None => (sample, sample / 2),
            Some((srtt, rttvar)) => (
                (srtt * 7 + sample) / 8,
                (rttvar * 3 + srtt.abs_diff(sample)) / 4,
            ),
        };
        self.smoothed = Some((srtt, rttvar));

        let start = *self.epoch_start.get_or_insert(now);
        if now.saturating_duration_since(start) >= MIN_RTT_EPOCH {
            self.epoch_start = Some(now);
            self.minima = [None, self.minima[0]];
        }
        let least = self.minima[0].map_or(sample, |min| min.min(sample));
        self.minima[0] = Some(least);
    }

    pub(crate) fn srtt(&self) -> Option<Duration> {
        self.smoothed.map(|(srtt, _)| srtt)
    }

    pub(crate) fn rttvar(&self) -> Option<Duration> {
        self.smoothed.map(|(_, rttvar)| rttvar)
    }

    pub(crate) fn min(&self) -> Option<Duration> {
        self.minima.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::test_start;

    #[test]
    fn the_minimum_follows_a_route_that_became_longer() {
        let start = test_start();
        let mut rtt = Rtt::default();
        for second in 0..1300 {
            let sample = if second < 100 { 20 } else { 80 };
            rtt.add(
                start + Duration::from_secs(second),
                Duration::from_millis(sample),
            );
            if second == 300 {
                assert_eq!(rtt.min(), Some(Duration::from_millis(20)));
            }
        }
        assert_eq!(rtt.min(), Some(Duration::from_millis(80)));
        assert_eq!(rtt.srtt().map(|srtt| srtt.as_millis()), Some(79));
    }
}
