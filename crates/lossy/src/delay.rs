//! The round trip with empty queues.

use std::collections::VecDeque;
use std::time::Instant;

use crate::rates::seconds_between;

/// What is known about delay, in seconds.
///
/// The round trip is measured while less than the path takes is sent, so that a queue of our own is
/// gone. What is measured is the mean over all packets of that time: the lowest single round trip
/// is far below it on a path with jitter, and a window that is made for it dwindles.
#[derive(Clone, Debug)]
pub(crate) struct Delay {
    /// The lowest of the start, until the first measurement.
    lowest: f64,
    measured: VecDeque<(Instant, f64)>,
    /// The mean of the last round.
    pub(crate) mean: f64,
    /// The mean difference of single round trips from the last round's mean.
    pub(crate) jitter: f64,
    /// How much round trips differ from one packet to the next. A queue that grows or drains does so
    /// over many packets, and hardly shows here.
    pub(crate) roughness: f64,
    previous: Option<f64>,
    n_high: u32,
    /// Whether somebody else keeps the queue filled.
    pub(crate) is_crowded: bool,
}

impl Delay {
    pub(crate) fn new() -> Self {
        Self {
            lowest: f64::INFINITY,
            measured: VecDeque::new(),
            mean: 0.0,
            jitter: 0.0,
            roughness: 0.0,
            previous: None,
            n_high: 0,
            is_crowded: false,
        }
    }

    pub(crate) fn on_sample(&mut self, rtt: f64) {
        self.lowest = self.lowest.min(rtt);
    }

    /// Takes note of a single round trip.
    pub(crate) fn on_acked(&mut self, rtt: f64) {
        if let Some(previous) = self.previous.replace(rtt) {
            self.roughness += ROUGHNESS_WEIGHT * ((rtt - previous).abs() - self.roughness);
        }
        if self.mean > 0.0 {
            self.jitter += JITTER_WEIGHT * ((rtt - self.mean).abs() - self.jitter);
        }
    }

    /// Takes note of the mean round trip while our own queue was empty, but for `slack`.
    pub(crate) fn on_measured(&mut self, now: Instant, rtt: f64, slack: f64) {
        match self.measured.back_mut() {
            // Several in a moment are one, so that what is kept reaches far back.
            Some((at, last)) if seconds_between(*at, now) < MIN_GAP => *last = last.min(rtt),
            _ => self.measured.push_back((now, rtt)),
        }
        if self.measured.len() > KEPT {
            self.measured.pop_front();
        }
        if self.has_settled_higher() {
            self.measured
                .drain(..KEPT.min(self.measured.len()) - SETTLED);
        }
        let base = self.base();
        let is_high = rtt > base + (base * CROWDED_SHARE).max(CROWDED).max(slack);
        self.n_high = if is_high { self.n_high + 1 } else { 0 };
        self.is_crowded = self.n_high >= CROWDED_IN_A_ROW;
    }

    /// Whether the last measurements agree with each other and none before does: the path has
    /// become longer. A queue that others keep full goes up and down.
    fn has_settled_higher(&self) -> bool {
        let last = self.measured.iter().rev().take(SETTLED);
        let mut times = last.clone().map(|(at, _)| *at);
        let (Some(newest), Some(oldest)) = (times.next(), times.next_back()) else {
            return false;
        };
        let (min, max) = last.fold((f64::INFINITY, 0.0_f64), |(min, max), (_, rtt)| {
            (min.min(*rtt), max.max(*rtt))
        });
        self.measured.len() > SETTLED
            && seconds_between(oldest, newest) >= SETTLED_TIME
            && max <= min * (1.0 + SETTLED_SHARE) + SETTLED_SLACK
    }

    /// The round trip of the path itself.
    pub(crate) fn base(&self) -> f64 {
        let measured = self.measured.iter().map(|(_, rtt)| *rtt);
        let measured = measured.fold(f64::INFINITY, f64::min);
        match measured.is_finite() {
            true => measured,
            false => self.lowest,
        }
    }

    /// The round trip that the window is made for: as measured last, within what noise explains.
    pub(crate) fn working(&self) -> f64 {
        let base = self.base();
        self.last().min(base + (base * SLACK_SHARE).max(SLACK))
    }

    /// The last measurement.
    pub(crate) fn last(&self) -> f64 {
        let last = self.measured.back();
        last.map_or_else(|| self.base(), |(_, rtt)| *rtt)
    }

    pub(crate) fn is_known(&self) -> bool {
        self.lowest.is_finite()
    }

    /// The time that the last round's packets spent in queues.
    pub(crate) fn queue(&self) -> f64 {
        match self.is_known() {
            true => (self.mean - self.working()).max(0.0),
            false => 0.0,
        }
    }
}

/// How fast a change of the jitter is followed, for each packet.
const JITTER_WEIGHT: f64 = 1.0 / 64.0;

/// The same for the differences from packet to packet. These are to be known after the first dozens.
const ROUGHNESS_WEIGHT: f64 = 1.0 / 16.0;

/// Measurements that are kept, a minute's worth and more. The lowest of them counts: in that time
/// even a queue that others keep filled has been low.
const KEPT: usize = 24;

/// Measurements that are closer in time than this are taken together, in seconds.
const MIN_GAP: f64 = 2.0;

/// With as many that agree over this time, in seconds, it is known earlier.
const SETTLED: usize = 5;
const SETTLED_TIME: f64 = 8.0;

/// Measurements agree within this share of the lowest ...
const SETTLED_SHARE: f64 = 0.02;

/// ... and this time.
const SETTLED_SLACK: f64 = 0.0005;

/// A round trip that is higher than the base by this share ...
const CROWDED_SHARE: f64 = 0.15;

/// ... and by this time while our own queue is empty tells that there is somebody else.
const CROWDED: f64 = 0.0065;

/// As many measurements in a row have to tell so: another sender of our kind, while it starts,
/// goes away.
const CROWDED_IN_A_ROW: u32 = 2;

/// The last measurement counts as far as it is above the lowest by this share ...
const SLACK_SHARE: f64 = 0.05;

/// ... or this time, so that the queues of several senders do not add up without end.
const SLACK: f64 = 0.0025;
