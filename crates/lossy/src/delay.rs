//! The round trip with empty queues.

use std::collections::VecDeque;

/// What is known about delay, in seconds.
///
/// The round trip is measured while less than the path takes is sent, so that a queue of our own is
/// gone. What is measured is the mean over all packets of that time: the lowest single round trip
/// is far below it on a path with jitter, and a window that is made for it dwindles.
#[derive(Clone, Debug)]
pub(crate) struct Delay {
    /// The lowest of the start, until the first measurement.
    lowest: f64,
    measured: VecDeque<f64>,
    /// The mean of the last round.
    pub(crate) mean: f64,
    /// Whether somebody else keeps the queue filled.
    pub(crate) is_crowded: bool,
}

impl Delay {
    pub(crate) fn new() -> Self {
        Self {
            lowest: f64::INFINITY,
            measured: VecDeque::new(),
            mean: 0.0,
            is_crowded: false,
        }
    }

    pub(crate) fn on_sample(&mut self, rtt: f64) {
        self.lowest = self.lowest.min(rtt);
    }

    /// Takes note of the mean round trip while our own queue was empty.
    pub(crate) fn on_measured(&mut self, rtt: f64) {
        if self.measured.len() == KEPT {
            self.measured.pop_front();
        }
        self.measured.push_back(rtt);
        if self.has_settled_higher() {
            self.measured
                .drain(..KEPT.min(self.measured.len()) - SETTLED);
        }
        let base = self.base();
        self.is_crowded = rtt > base + (base * CROWDED_SHARE).max(CROWDED);
    }

    /// Whether the last measurements agree with each other and none before does: the path has
    /// become longer. A queue that others keep full goes up and down.
    fn has_settled_higher(&self) -> bool {
        if self.measured.len() <= SETTLED {
            return false;
        }
        let last = self.measured.iter().rev().take(SETTLED);
        let (min, max) = last.fold((f64::INFINITY, 0.0_f64), |(min, max), rtt| {
            (min.min(*rtt), max.max(*rtt))
        });
        max <= min * (1.0 + SETTLED_SHARE) + SETTLED_SLACK
    }

    /// The round trip of the path itself.
    pub(crate) fn base(&self) -> f64 {
        let measured = self.measured.iter().copied().fold(f64::INFINITY, f64::min);
        match measured.is_finite() {
            true => measured,
            false => self.lowest,
        }
    }

    /// The round trip that the window is made for: as measured last, within what noise explains.
    pub(crate) fn working(&self) -> f64 {
        let base = self.base();
        let last = self.measured.back().copied().unwrap_or(base);
        last.min(base + (base * SLACK_SHARE).max(SLACK))
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

/// Measurements that are kept. The lowest of them counts, so after so many a longer path is known
/// for certain.
const KEPT: usize = 10;

/// With as many that agree it is known earlier.
const SETTLED: usize = 4;

/// Measurements agree within this share of the lowest ...
const SETTLED_SHARE: f64 = 0.03;

/// ... and this time.
const SETTLED_SLACK: f64 = 0.0005;

/// A round trip that is higher than the base by this share ...
const CROWDED_SHARE: f64 = 0.15;

/// ... and by this time while our own queue is empty tells that there is somebody else.
const CROWDED: f64 = 0.005;

/// The last measurement counts as far as it is above the lowest by this share ...
const SLACK_SHARE: f64 = 0.05;

/// ... or this time, so that the queues of several senders do not add up without end.
const SLACK: f64 = 0.0025;
