//! BBR's first version, as Linux has it, but for its detection of policers.

use std::collections::VecDeque;

#[derive(Clone, Debug)]
pub(super) struct Bbr {
    state: State,
    /// The largest rates, each with its round trip.
    rates: VecDeque<(u64, f64)>,
    round: u64,
    /// What had arrived when the present round trip began.
    round_began_with: f64,
    min_rtt: f64,
    min_rtt_at: f64,
    full_rate: f64,
    n_not_growing: u32,
    has_lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Startup,
    Drain,
    /// The phase of the cycle, and when it began.
    Cycle(usize, f64),
    /// Until when, once little enough is under way.
    ProbeRtt(Option<f64>),
}

const STARTUP_GAIN: f64 = 2.885;
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];

impl Bbr {
    pub(super) fn new() -> Self {
        Self {
            state: State::Startup,
            rates: VecDeque::new(),
            round: 0,
            round_began_with: 0.0,
            min_rtt: f64::INFINITY,
            min_rtt_at: 0.0,
            full_rate: 0.0,
            n_not_growing: 0,
            has_lost: false,
        }
    }

    fn max_rate(&self) -> f64 {
        self.rates.front().map_or(0.0, |(_, rate)| *rate)
    }

    /// What the path holds.
    fn holds(&self) -> f64 {
        match self.min_rtt.is_finite() {
            true => self.max_rate() * self.min_rtt,
            false => 10.0,
        }
    }

    pub(super) fn window(&self) -> f64 {
        match self.state {
            State::ProbeRtt(_) => 4.0,
            State::Cycle(..) => self.holds().mul_add(2.0, 3.0).max(4.0),
            State::Startup | State::Drain => self.holds().mul_add(STARTUP_GAIN, 3.0).max(10.0),
        }
    }

    /// Segments a second.
    pub(super) fn pace(&self) -> f64 {
        let gain = match self.state {
            State::Startup => STARTUP_GAIN,
            State::Drain => 1.0 / STARTUP_GAIN,
            State::Cycle(phase, _) => CYCLE[phase],
            State::ProbeRtt(_) => 1.0,
        };
        match self.max_rate() {
            rate if rate > 0.0 => rate * gain,
            _ => f64::INFINITY,
        }
    }

    pub(super) fn handle_lost(&mut self) {
        self.has_lost = true;
    }

    /// `rate` is what arrived since the segment was sent, by the time; by then `arrived_before`
    /// segments had arrived, and `arrived` have now.
    pub(super) fn handle_arrived(
        &mut self,
        now: f64,
        rtt: f64,
        rate: f64,
        (arrived_before, arrived): (f64, f64),
        in_flight: f64,
    ) {
        let is_new_round = arrived_before >= self.round_began_with;
        if is_new_round {
            self.round += 1;
            self.round_began_with = arrived;
        }
        while self.rates.back().is_some_and(|(_, lower)| *lower <= rate) {
            self.rates.pop_back();
        }
        self.rates.push_back((self.round, rate));
        while self
            .rates
            .front()
            .is_some_and(|(round, _)| round + 10 < self.round)
        {
            self.rates.pop_front();
        }
        let is_old = now > self.min_rtt_at + 10.0;
        if rtt <= self.min_rtt || is_old {
            self.min_rtt = rtt;
            self.min_rtt_at = now;
        }
        if is_old && !matches!(self.state, State::ProbeRtt(_)) {
            self.state = State::ProbeRtt(None);
        }
        self.advance(now, is_new_round, in_flight);
        if is_new_round {
            self.has_lost = false;
        }
    }

    fn advance(&mut self, now: f64, is_new_round: bool, in_flight: f64) {
        match self.state {
            State::Startup if is_new_round => {
                if self.max_rate() >= self.full_rate * 1.25 {
                    self.full_rate = self.max_rate();
                    self.n_not_growing = 0;
                } else {
                    self.n_not_growing += 1;
                }
                if self.n_not_growing >= 3 {
                    self.state = State::Drain;
                }
            }
            State::Drain if in_flight <= self.holds() => self.state = State::Cycle(2, now),
            State::Cycle(phase, since) => {
                let is_long = now - since > self.min_rtt;
                let is_over = match phase {
                    0 => is_long && (self.has_lost || in_flight >= self.holds() * 1.25),
                    1 => is_long || in_flight <= self.holds(),
                    _ => is_long,
                };
                if is_over {
                    self.state = State::Cycle((phase + 1) % CYCLE.len(), now);
                }
            }
            State::ProbeRtt(None) if in_flight <= 4.0 => {
                self.state = State::ProbeRtt(Some(now + 0.2));
            }
            State::ProbeRtt(Some(until)) if now >= until => {
                self.min_rtt_at = now;
                self.state = State::Cycle(2, now);
            }
            State::Startup | State::Drain | State::ProbeRtt(_) => {}
        }
    }
}
