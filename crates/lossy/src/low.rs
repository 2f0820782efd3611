//! Sending less for a moment, to see the path without a queue of our own.

use std::time::{Duration, Instant};

use crate::Acked;
use crate::loss::Tally;
use crate::rates::{count, seconds_between};

/// A while at a lower rate: until what is under way has fallen to a share of what the path holds,
/// and from then on for a part of a round trip. What was sent in that part tells the round trip of
/// the path, and whether the loss depends on the rate. The window is back before the answers are.
#[derive(Clone, Debug)]
pub(crate) struct Low {
    /// Share of what the path holds.
    pub(crate) gain: f64,
    /// What was lost before, at the full rate.
    pub(crate) before: Tally,
    /// Whether there was a queue before.
    pub(crate) was_delayed: bool,
    span: f64,
    stage: Stage,
    asked_at: Instant,
    sent: u64,
    acked: u64,
    lost: u64,
    timed: u64,
    sojourn: f64,
    quickest: f64,
    newest_acked: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Draining,
    Holding { since: Instant },
    Waiting { since: Instant, until: Instant },
}

/// What it has shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) rtt: Option<f64>,
    pub(crate) loss: Tally,
}

impl Low {
    /// `span` in round trips.
    pub(crate) fn new(now: Instant, gain: f64, span: f64) -> Self {
        Self {
            gain,
            before: Tally::default(),
            was_delayed: false,
            span,
            stage: Stage::Draining,
            asked_at: now,
            sent: 0,
            acked: 0,
            lost: 0,
            timed: 0,
            sojourn: 0.0,
            quickest: f64::INFINITY,
            newest_acked: None,
        }
    }

    /// Whether the window is to be low.
    pub(crate) fn is_holding_back(&self) -> bool {
        !matches!(self.stage, Stage::Waiting { .. })
    }

    pub(crate) fn on_sent(&mut self, bytes: u64) {
        if let Stage::Holding { .. } = self.stage {
            self.sent += bytes;
        }
    }

    pub(crate) fn on_acked(&mut self, now: Instant, acked: Acked) {
        self.newest_acked = self.newest_acked.max(Some(acked.sent_at));
        if !self.covers(acked.sent_at) {
            return;
        }
        self.acked += acked.bytes;
        if acked.is_exact {
            let sojourn = seconds_between(acked.sent_at, now);
            self.timed += acked.bytes;
            self.sojourn += sojourn * count(acked.bytes);
            self.quickest = self.quickest.min(sojourn);
        }
    }

    pub(crate) fn on_lost(&mut self, sent_at: Instant, bytes: u64) {
        if self.covers(sent_at) {
            self.lost += bytes;
        }
    }

    fn covers(&self, sent_at: Instant) -> bool {
        match self.stage {
            Stage::Draining => false,
            Stage::Holding { since } => sent_at >= since,
            Stage::Waiting { since, until } => (since..=until).contains(&sent_at),
        }
    }

    /// Goes on with `in_flight` under way. Returns true when it has seen all that it will see.
    pub(crate) fn advance(&mut self, now: Instant, is_low: bool, rtt: f64, mtu: f64) -> bool {
        if let Stage::Draining = self.stage
            && (is_low || seconds_between(self.asked_at, now) > MAX_DRAIN * rtt)
        {
            self.stage = Stage::Holding { since: now };
        }
        let has_sent = count(self.sent) >= HOLD_PACKETS * mtu;
        if let Stage::Holding { since } = self.stage
            && let round_trips = seconds_between(since, now) / rtt
            && (round_trips >= MAX_HOLD || has_sent && round_trips >= self.span)
        {
            self.stage = Stage::Waiting { since, until: now };
        }
        let Stage::Waiting { until, .. } = self.stage else {
            return false;
        };
        // Losses are noticed later than arrivals.
        let margin = Duration::from_secs_f64(rtt * MARGIN);
        self.newest_acked.is_some_and(|at| at > until + margin)
            || seconds_between(until, now) > MAX_WAIT * rtt
    }

    /// Of a few packets the quickest tells the round trip: they have waited for each other. Not so
    /// if they differ no more than any packet does from the next.
    pub(crate) fn seen(&self, mtu: f64, roughness: f64) -> Seen {
        let rtt = (self.timed > 0).then(|| {
            let mean = self.sojourn / count(self.timed);
            let is_rough = mean - self.quickest <= ROUGH * roughness;
            let are_many = count(self.timed) >= MEAN_PACKETS * mtu;
            if are_many || is_rough {
                mean
            } else {
                self.quickest
            }
        });
        Seen {
            rtt,
            loss: Tally::new(self.acked, self.lost, mtu),
        }
    }
}

/// Round trips that draining takes at most. Then the queue is somebody else's.
const MAX_DRAIN: f64 = 4.0;

/// Packets that are sent low at least, so that something can be told from them ...
const HOLD_PACKETS: f64 = 12.0;

/// ... and the round trips in which.
const MAX_HOLD: f64 = 2.0;

/// Part of a round trip by which an answer has to be newer than the low while, to end it.
const MARGIN: f64 = 0.25;

/// Round trips after which answers are not waited for any more.
const MAX_WAIT: f64 = 3.0;

/// By so many mean differences from one packet to the next the mean is above the quickest where
/// packets take all kinds of times.
const ROUGH: f64 = 3.0;

/// Packets that make a mean.
const MEAN_PACKETS: f64 = 16.0;

/// Time between low whiles, in seconds and round trips.
pub(crate) const LOW_INTERVAL: f64 = 2.5;
pub(crate) const LOW_ROUND_TRIPS: f64 = 20.0;

/// Earlier than that after so many round trips, if packets are late.
pub(crate) const EARLY_ROUND_TRIPS: f64 = 6.0;

/// Rounds between any two of them.
pub(crate) const REST_ROUNDS: u32 = 3;

/// Each so many is a deep one, which lets a queue drain that is shared with others of our kind.
pub(crate) const DEEP_EVERY: u32 = 5;
pub(crate) const DEEP_GAIN: f64 = 0.5;
pub(crate) const SHALLOW_GAIN: f64 = 0.92;

/// How long a low while lasts, in round trips, and the first.
pub(crate) const SPAN: f64 = 0.3;
pub(crate) const FIRST_SPAN: f64 = 0.5;

/// To try whether loss depends on the rate takes more packets.
pub(crate) const TRY_SPAN: f64 = 0.6;

/// Share of what arrives that is sent then: no policer takes offence.
pub(crate) const TRY_GAIN: f64 = 0.8;
