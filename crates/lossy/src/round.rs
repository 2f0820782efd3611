//! What one round trip has brought.

use std::time::Instant;

use crate::Acked;
use crate::rates::{Rates, Sample, count, seconds_between};

/// A round begins when the one before has ended, and ends when something that was sent in it has
/// been acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) began_at: Instant,
    pub(crate) acked: u64,
    pub(crate) lost: u64,
    /// Acknowledged bytes whose round trip is known.
    timed: u64,
    /// Their round trips, weighted by bytes.
    sojourn: f64,
    /// The same of what was lost, until it was taken for lost.
    lost_sojourn: f64,
    pub(crate) rates: Rates,
    n_samples: u32,
    n_app_limited: u32,
    /// Whether less than the path takes was sent on purpose.
    pub(crate) is_low: bool,
    newest_acked: Option<Instant>,
}

impl Round {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            began_at: now,
            acked: 0,
            lost: 0,
            timed: 0,
            sojourn: 0.0,
            lost_sojourn: 0.0,
            rates: Rates::default(),
            n_samples: 0,
            n_app_limited: 0,
            is_low: false,
            newest_acked: None,
        }
    }

    pub(crate) fn on_acked(&mut self, now: Instant, acked: Acked) {
        self.acked += acked.bytes;
        self.newest_acked = self.newest_acked.max(Some(acked.sent_at));
        if acked.is_exact {
            self.timed += acked.bytes;
            self.sojourn += seconds_between(acked.sent_at, now) * count(acked.bytes);
        }
    }

    pub(crate) fn on_lost(&mut self, now: Instant, sent_at: Instant, bytes: u64) {
        self.lost += bytes;
        self.lost_sojourn += seconds_between(sent_at, now) * count(bytes);
    }

    pub(crate) fn on_sample(&mut self, sample: &Sample) {
        self.rates = self.rates.max(sample.rates);
        self.n_samples += 1;
        self.n_app_limited += u32::from(sample.is_app_limited);
    }

    /// Whether the round is over. With jitter the first packet of a round overtakes half of the
    /// one before, hence the time.
    pub(crate) fn is_over(&self, now: Instant, rtt: f64) -> bool {
        let is_answered = self.newest_acked.is_some_and(|at| at >= self.began_at);
        is_answered && seconds_between(self.began_at, now) >= ROUND_SHARE * rtt
    }

    /// The rates over the whole round.
    pub(crate) fn mean_rates(&self, now: Instant) -> Rates {
        let time = seconds_between(self.began_at, now).max(f64::MIN_POSITIVE);
        Rates {
            resolved: count(self.acked + self.lost) / time,
            delivered: count(self.acked) / time,
        }
    }

    /// The mean round trip of all that was acknowledged, and not only of what came in order.
    pub(crate) fn mean_rtt(&self) -> Option<f64> {
        (self.timed > 0).then(|| self.sojourn / count(self.timed))
    }

    /// How long lost packets were under way until they were taken for lost.
    pub(crate) fn mean_lost_sojourn(&self) -> Option<f64> {
        (self.lost > 0).then(|| self.lost_sojourn / count(self.lost))
    }

    /// Whether there was not enough to send.
    pub(crate) fn is_app_limited(&self) -> bool {
        self.n_app_limited * 4 > self.n_samples
    }
}

/// Share of the mean round trip that a round takes at least.
const ROUND_SHARE: f64 = 0.98;
