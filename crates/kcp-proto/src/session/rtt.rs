//! Round-trip time and the retransmission time-out, as kcp-go computes them.

use super::Micros;

/// What the time-out is before the first sample.
const INITIAL_RTO: Micros = 200_000;

/// What the time-out is at most.
pub(super) const MAX_RTO: Micros = 60_000_000;

/// Smoothed round-trip time, its variation, and the time-out that follows from them.
#[derive(Clone, Debug)]
pub(super) struct Rtt {
    smoothed: Option<Micros>,
    variation: Micros,
    least: Option<Micros>,
    latest: Option<Micros>,
    rto: Micros,
    min_rto: Micros,
    interval: Micros,
}

impl Rtt {
    pub(super) fn new(min_rto: Micros, interval: Micros) -> Self {
        Self {
            smoothed: None,
            variation: 0,
            least: None,
            latest: None,
            rto: INITIAL_RTO.max(min_rto),
            min_rto,
            interval,
        }
    }

    /// Takes a sample. After RFC 6298, except that a sample far below what is usual, which is good
    /// news, raises the variation an eighth as much.
    pub(super) fn on_sample(&mut self, sample: Micros) {
        let smoothed = match self.smoothed {
            None => {
                self.variation = sample / 2;
                sample
            }
            Some(smoothed) => {
                let deviation = sample.abs_diff(smoothed);
                let smoothed = smoothed - smoothed / 8 + sample / 8;
                let weight = if sample + self.variation < smoothed {
                    32
                } else {
                    4
                };
                self.variation = self.variation - self.variation / weight + deviation / weight;
                smoothed
            }
        };
        self.smoothed = Some(smoothed);
        self.least = Some(self.least.map_or(sample, |least| least.min(sample)));
        self.latest = Some(sample);
        // The peer may keep an acknowledgement back for a whole interval.
        let rto = smoothed + self.interval.max(4 * self.variation);
        self.rto = rto.clamp(self.min_rto, MAX_RTO);
    }

    pub(super) fn set_interval(&mut self, interval: Micros) {
        self.interval = interval;
    }

    pub(super) fn smoothed(&self) -> Option<Micros> {
        self.smoothed
    }

    pub(super) fn variation(&self) -> Micros {
        self.variation
    }

    pub(super) fn least(&self) -> Option<Micros> {
        self.least
    }

    pub(super) fn rto(&self) -> Micros {
        self.rto
    }

    /// The round-trip time that loss detection waits for: the larger of the smoothed and the latest.
    pub(super) fn for_detection(&self) -> Micros {
        self.smoothed.max(self.latest).unwrap_or(self.rto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Micros = 1000;

    #[test]
    fn the_time_out_allows_for_one_interval_of_delay() {
        let mut rtt = Rtt::new(30 * MS, 20 * MS);
        assert_eq!(rtt.rto(), 200 * MS);
        for _ in 0..100 {
            rtt.on_sample(50 * MS);
        }
        assert_eq!(rtt.rto(), 70 * MS);
        assert_eq!(rtt.least(), Some(50 * MS));
    }

    #[test]
    fn the_time_out_stays_within_its_bounds() {
        let mut rtt = Rtt::new(30 * MS, 5 * MS);
        for _ in 0..100 {
            rtt.on_sample(0);
        }
        assert_eq!(rtt.rto(), 30 * MS);
        for _ in 0..100 {
            rtt.on_sample(90_000 * MS);
        }
        assert_eq!(rtt.rto(), MAX_RTO);
    }

    #[test]
    fn a_fast_sample_hardly_widens_the_variation() {
        let after = |sample| {
            let mut rtt = Rtt::new(30 * MS, 20 * MS);
            for _ in 0..100 {
                rtt.on_sample(100 * MS);
            }
            rtt.on_sample(sample);
            rtt.variation()
        };
        assert!(after(20 * MS) < 4 * MS);
        assert!(after(180 * MS) > 15 * MS);
    }
}
