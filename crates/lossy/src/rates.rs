//! How fast the path takes and delivers bytes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::Acked;

/// Measures the rate over the flight of each newest acknowledged packet, after
/// draft-cheng-iccrg-delivery-rate-estimation: the same bytes over the longer one of the time in
/// which they were sent and the time in which they were acknowledged.
///
/// It counts twice: what arrived, and what is *resolved*, arrived or lost. What a link loses after
/// its bottleneck has used the bottleneck too, so the second is the bottleneck's rate with hardly
/// any noise from random loss.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    stamps: VecDeque<Stamp>,
    resolved: u64,
    delivered: u64,
    acks_at: Instant,
    first_sent_at: Instant,
    newest: Option<Newest>,
}

/// The state of the counters when something was sent.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    at: Instant,
    resolved: u64,
    delivered: u64,
    acks_at: Instant,
    first_sent_at: Instant,
}

/// The packet sent last among those that a batch of acknowledgements tells of.
#[derive(Clone, Copy, Debug)]
struct Newest {
    sent_at: Instant,
    is_app_limited: bool,
}

/// Rates in bytes per second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) resolved: f64,
    pub(crate) delivered: f64,
}

/// A measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) rates: Rates,
    pub(crate) is_app_limited: bool,
    /// The round trip of the packet it was taken with.
    pub(crate) rtt: f64,
}

impl Sampler {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            stamps: VecDeque::new(),
            resolved: 0,
            delivered: 0,
            acks_at: now,
            first_sent_at: now,
            newest: None,
        }
    }

    /// Notes the state before something is sent. Stamps closer than `spacing` are merged: a packet
    /// counts as sent with the stamp before it.
    pub(crate) fn on_sent(&mut self, now: Instant, was_idle: bool, spacing: Duration) {
        if was_idle {
            self.first_sent_at = now;
            self.acks_at = now;
            // Nothing that was sent before is still to be heard of. Probes of an idle path would
            // have the list grow to its bound for nothing, on each of thousands of paths.
            self.stamps.clear();
            self.stamps.shrink_to(STAMPS_AT_REST);
        } else if let Some(last) = self.stamps.back()
            && now.saturating_duration_since(last.at) < spacing
        {
            return;
        }
        if self.stamps.len() == MAX_STAMPS {
            self.stamps.pop_front();
        }
        self.stamps.push_back(Stamp {
            at: now,
            resolved: self.resolved,
            delivered: self.delivered,
            acks_at: self.acks_at,
            first_sent_at: self.first_sent_at,
        });
    }

    pub(crate) fn on_acked(&mut self, acked: Acked) {
        self.resolved += acked.bytes;
        self.delivered += acked.bytes;
        let is_newest = |newest: Newest| newest.sent_at <= acked.sent_at;
        if acked.is_exact && self.newest.is_none_or(is_newest) {
            self.newest = Some(Newest {
                sent_at: acked.sent_at,
                is_app_limited: acked.is_app_limited,
            });
        }
    }

    pub(crate) fn on_lost(&mut self, bytes: u64) {
        self.resolved += bytes;
    }

    /// Ends a batch of acknowledgements with a measurement, if they allow one.
    pub(crate) fn on_acks_end(&mut self, now: Instant) -> Option<Sample> {
        let newest = self.newest.take()?;
        self.acks_at = now;
        let idx = self.stamps.partition_point(|s| s.at <= newest.sent_at);
        let stamp = *self.stamps.get(idx.checked_sub(1)?)?;
        self.first_sent_at = stamp.at;
        let rtt = seconds_between(newest.sent_at, now);
        let ack_time = seconds_between(stamp.acks_at, now);
        // A batch that was held up on its way and then came at once would show any rate.
        if ack_time < MIN_FLIGHT * rtt || ack_time <= 0.0 {
            return None;
        }
        let time = ack_time.max(seconds_between(stamp.first_sent_at, stamp.at));
        Some(Sample {
            rates: Rates {
                resolved: count(self.resolved - stamp.resolved) / time,
                delivered: count(self.delivered - stamp.delivered) / time,
            },
            is_app_limited: newest.is_app_limited,
            rtt,
        })
    }
}

/// The highest rates of the last rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct RateFilter {
    rounds: VecDeque<Rates>,
}

impl RateFilter {
    /// Adds a round's highest rates. What is sent on and off shows the path's rate only if it is
    /// higher than what is known.
    pub(crate) fn push(&mut self, rates: Rates, is_lower_bound: bool) {
        if is_lower_bound {
            let known = self.max(ROUNDS_KEPT);
            if rates.delivered <= known.delivered || self.rounds.is_empty() {
                self.raise(rates);
                return;
            }
        }
        if self.rounds.len() == ROUNDS_KEPT {
            self.rounds.pop_front();
        }
        self.rounds.push_back(rates);
    }

    fn raise(&mut self, rates: Rates) {
        match self.rounds.back_mut() {
            Some(last) => *last = last.max(rates),
            None => self.rounds.push_back(rates),
        }
    }

    /// Takes note of a sample before its round ends, so that a growing rate counts at once.
    pub(crate) fn scale(&mut self, factor: f64) {
        for rates in &mut self.rounds {
            rates.resolved *= factor;
            rates.delivered *= factor;
        }
    }

    /// Returns the highest rates of the last `n_rounds`.
    pub(crate) fn max(&self, n_rounds: usize) -> Rates {
        let rounds = self.rounds.iter().rev().take(n_rounds);
        rounds.fold(Rates::default(), |max, rates| max.max(*rates))
    }
}

impl Rates {
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            resolved: self.resolved.max(other.resolved),
            delivered: self.delivered.max(other.delivered),
        }
    }
}

pub(crate) fn seconds_between(earlier: Instant, later: Instant) -> f64 {
    later.saturating_duration_since(earlier).as_secs_f64()
}

/// Bytes as a number to calculate with. Exact up to 2^53 of them.
#[expect(clippy::cast_precision_loss, reason = "nobody sends so much at once")]
pub(crate) fn count(bytes: u64) -> f64 {
    bytes as f64
}

/// Stamps that are kept; beyond it the oldest go, and their packets give no sample. With their
/// spacing these are more than eight round trips.
const MAX_STAMPS: usize = 1024;

/// Room that is kept for stamps while nothing is under way.
const STAMPS_AT_REST: usize = 16;

/// A sample shorter than this share of a round trip is left out.
const MIN_FLIGHT: f64 = 0.9;

/// As in BBR: long enough to get over a few rounds in which less was sent.
pub(crate) const ROUNDS_KEPT: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test may begin anywhere")]
    fn nothing_is_kept_of_what_was_sent_before_all_of_it_was_heard_of() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut sampler = Sampler::new(start);
        for millis in 0..2000 {
            sampler.on_sent(at(millis), millis == 0, Duration::ZERO);
        }
        assert_eq!(sampler.stamps.len(), MAX_STAMPS);
        sampler.on_sent(at(3000), true, Duration::ZERO);
        assert_eq!(sampler.stamps.len(), 1);
        assert!(sampler.stamps.capacity() < MAX_STAMPS / 8);

        sampler.on_acked(Acked {
            sent_at: at(3000),
            bytes: 1000,
            is_app_limited: false,
            is_exact: true,
        });
        let sample = sampler.on_acks_end(at(3100));
        assert!(sample.is_some_and(|sample| sample.rates.delivered > 9_000.0));
    }
}
