//! A window after RFC 9438, for the time in which somebody else keeps the queue filled.

use std::time::Instant;

use crate::rates::seconds_between;

/// Cubic's window in bytes.
#[derive(Clone, Debug)]
pub(crate) struct CubicWindow {
    window: f64,
    max: f64,
    /// What Reno would have, from the last cut on.
    reno: f64,
    since: Instant,
    was_cut: bool,
}

impl CubicWindow {
    /// Starts with `window`, and what it was before others pushed it back.
    pub(crate) fn new(now: Instant, window: f64, before: f64) -> Self {
        Self {
            window,
            max: before.clamp(window, window / BETA),
            reno: window,
            since: now,
            was_cut: false,
        }
    }

    pub(crate) fn window(&self) -> f64 {
        self.window
    }

    /// Grows for a round trip in which nothing told of congestion.
    pub(crate) fn on_round(&mut self, now: Instant, rtt: f64, mtu: f64) {
        let time = seconds_between(self.since, now) + rtt;
        let to_max = (self.max * (1.0 - BETA) / mtu / C).cbrt();
        let target = (C * (time - to_max).powi(3)).mul_add(mtu, self.max);
        self.reno += RENO_GAIN * mtu;
        let target = target.max(self.reno);
        // RFC 9438 section 4.4: by half at most in a round trip.
        self.window = target.clamp(self.window, self.window * 1.5);
    }

    /// Cuts the window for a loss, unless that belongs to what it was cut for already.
    pub(crate) fn on_congestion(&mut self, now: Instant, rtt: f64) {
        if self.was_cut && seconds_between(self.since, now) < SAME_EVENT * rtt {
            return;
        }
        self.was_cut = true;
        // Section 4.7: whoever has less than before leaves room for others.
        self.max = match self.window < self.max {
            true => self.window * (1.0 + BETA) / 2.0,
            false => self.window,
        };
        self.window *= BETA;
        self.reno = self.window;
        self.since = now;
    }
}

/// RFC 9438 section 5.
const C: f64 = 0.4;

/// What is left of the window after a cut.
const BETA: f64 = 0.7;

/// Section 4.3: what keeps up with Reno between two cuts of ours.
const RENO_GAIN: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// Losses of one event are noticed within so many round trips.
const SAME_EVENT: f64 = 1.75;
