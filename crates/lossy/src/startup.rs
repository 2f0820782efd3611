//! When the start is over: packets come late, or more sent is not more delivered.

use std::time::Instant;

use crate::rates::seconds_between;

/// What tells that the path is full for the first time.
#[derive(Clone, Debug)]
pub(crate) struct Startup {
    /// When the first of the last packets came late that all did, and how many these are.
    late_since: Option<Instant>,
    n_late: u32,
    highest: f64,
    pub(crate) n_flat_rounds: u32,
}

impl Startup {
    pub(crate) fn new() -> Self {
        Self {
            late_since: None,
            n_late: 0,
            highest: 0.0,
            n_flat_rounds: 0,
        }
    }

    pub(crate) fn on_rtt(&mut self, now: Instant, rtt: f64, lowest: f64, roughness: f64) {
        let slack = (lowest * LATE_START_SHARE).max(LATE_START);
        if rtt > lowest + slack.max(ROUGH_START * roughness) {
            self.late_since.get_or_insert(now);
            self.n_late += 1;
        } else {
            (self.late_since, self.n_late) = (None, 0);
        }
    }

    /// Takes note of the highest rate so far.
    pub(crate) fn on_round(&mut self, rate: f64) {
        if rate < self.highest * FLAT_GROWTH {
            self.n_flat_rounds += 1;
        } else {
            self.highest = rate;
            self.n_flat_rounds = 0;
        }
    }

    /// Whether even the quickest packets come late, and for a while: on a busy host many come at
    /// once and all of them late.
    pub(crate) fn is_late(&self, now: Instant, lowest: f64) -> bool {
        let time = self.late_since.map_or(0.0, |at| seconds_between(at, now));
        self.n_late >= LATE_PACKETS && time >= lowest * LATE_TIME_SHARE
    }
}

/// The start is over when so many round trips in a row, and over this share of the lowest ...
const LATE_PACKETS: u32 = 8;
const LATE_TIME_SHARE: f64 = 0.1;

/// ... are above the lowest by this share and this time.
const LATE_START_SHARE: f64 = 0.125;
const LATE_START: f64 = 0.004;

/// Where each packet takes another time, nearly all are above the lowest from the start. Those of an
/// even jitter are so by two or three of their mean differences on the average.
const ROUGH_START: f64 = 4.0;

/// It is over as well after so many rounds in which the rate has not grown by this factor.
pub(crate) const MAX_FLAT_ROUNDS: u32 = 3;
const FLAT_GROWTH: f64 = 1.2;
