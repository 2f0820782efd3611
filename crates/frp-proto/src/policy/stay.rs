//! Not flapping: how soon and how often the transport may be changed for its quality.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::config::Config;
use super::words::{Cause, Transport};

/// What was switched, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stay {
    last_switch: Option<Instant>,
    /// When a carrier was lost, or all were, and that was over.
    last_trouble: Option<Instant>,
    last_quality: Option<Instant>,
    /// Of the last period. Never longer than the number that is allowed.
    quality: VecDeque<Instant>,
    left: BTreeMap<Transport, Left>,
}

/// A transport that was left.
#[derive(Clone, Copy, Debug)]
struct Left {
    at: Instant,
    n_times: u32,
}

/// What came and went within this time may do so again.
const RESTLESS: Duration = Duration::from_secs(30);

impl Stay {
    /// Whether a switch for quality to `to` is allowed now.
    pub(crate) fn permits(&self, config: &Config, now: Instant, to: Transport) -> bool {
        let has_passed = |since: Option<Instant>, time: Duration| {
            since.is_none_or(|since| now.saturating_duration_since(since) >= time)
        };
        let left_at = self.left.get(&to).map(|left| left.at);
        has_passed(self.last_quality, config.min_stay)
            && has_passed(left_at, self.return_after(config, to))
            && self.n_recent(config, now) < config.switches_max
    }

    /// When the wait for `to` is over, where that is a matter of time alone.
    pub(crate) fn permitted_at(&self, config: &Config, to: Transport) -> Option<Instant> {
        let stay = self.last_quality.map(|at| at + config.min_stay);
        let left = self.left.get(&to);
        let left = left.map(|left| left.at + self.return_after(config, to));
        let budget = Some(&self.quality)
            .filter(|quality| quality.len() >= config.switches_max)
            .and_then(|quality| quality.front())
            .map(|first| *first + config.switch_period);
        [stay, left, budget].into_iter().flatten().max()
    }

    /// Whether `transport` was left, for its quality or its death, and there was no calm since.
    pub(crate) fn has_left(&self, transport: Transport) -> bool {
        self.left.contains_key(&transport)
    }

    /// For how long `to` must have been good before it is returned to.
    pub(crate) fn return_after(&self, config: &Config, to: Transport) -> Duration {
        let n_times = self.left.get(&to).map_or(0, |left| left.n_times);
        // Ten doublings are beyond any maximum.
        let factor = 1_u32 << n_times.saturating_sub(1).min(10);
        (config.return_after * factor).min(config.return_after_max)
    }

    /// A switch was made.
    pub(crate) fn handle_switch(
        &mut self,
        config: &Config,
        now: Instant,
        from: Option<Transport>,
        to: Transport,
        cause: Cause,
    ) {
        let is_calm = self
            .last_switch
            .is_some_and(|at| now.saturating_duration_since(at) >= config.calm);
        if is_calm {
            self.left.clear();
        }
        self.last_switch = Some(now);
        if from.is_some() && matches!(cause, Cause::Died(_)) {
            self.last_trouble = Some(now);
        }
        if cause.is_quality() {
            self.last_quality = Some(now);
            while self.quality.len() >= config.switches_max.max(1) {
                self.quality.pop_front();
            }
            self.quality.push_back(now);
        }
        let was_left = matches!(cause, Cause::Died(_)) || cause.is_quality();
        if let Some(from) = from.filter(|from| *from != to && was_left) {
            let left = self.left.entry(from).or_insert(Left {
                at: now,
                n_times: 0,
            });
            left.at = now;
            left.n_times += 1;
        }
    }

    /// All was lost, and something lives again.
    pub(crate) fn handle_outage_end(&mut self, now: Instant) {
        self.last_trouble = Some(now);
    }

    /// Whether the link comes and goes, as far as can be told: what is kept of an outage now will
    /// have to be kept of the next one.
    pub(crate) fn is_restless(&self, now: Instant) -> bool {
        let since = |at| now.saturating_duration_since(at);
        self.last_trouble.is_some_and(|at| since(at) < RESTLESS)
    }

    /// The network is another: what was learnt of transports does not hold there.
    pub(crate) fn forget(&mut self) {
        self.left.clear();
    }

    fn n_recent(&self, config: &Config, now: Instant) -> usize {
        let is_recent = |at: &&Instant| now.saturating_duration_since(**at) < config.switch_period;
        self.quality.iter().filter(is_recent).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Transport::{Quic, Tcp};

    struct Run {
        stay: Stay,
        config: Config,
        start: Instant,
    }

    impl Run {
        fn new() -> Self {
            Self {
                stay: Stay::default(),
                config: Config::default(),
                start: crate::path::test_start(),
            }
        }

        fn switch(&mut self, secs: u64, from: Transport, to: Transport, cause: Cause) {
            let now = self.start + Duration::from_secs(secs);
            let (stay, config) = (&mut self.stay, &self.config);
            stay.handle_switch(config, now, Some(from), to, cause);
        }

        fn permits(&self, secs: u64, to: Transport) -> bool {
            let now = self.start + Duration::from_secs(secs);
            self.stay.permits(&self.config, now, to)
        }
    }

    #[test]
    fn stays_15_seconds_after_a_quality_switch_but_not_after_a_death() {
        let mut run = Run::new();
        run.switch(0, Tcp, Quic, Cause::Slow);
        assert!(!run.permits(14, Transport::Kcp));
        assert!(run.permits(15, Transport::Kcp));

        let mut run = Run::new();
        run.switch(
            0,
            Tcp,
            Quic,
            Cause::Died(super::super::words::DeathCause::Closed),
        );
        assert!(run.permits(1, Transport::Kcp));
    }

    #[test]
    fn each_flap_doubles_the_wait_until_there_was_calm() {
        let mut run = Run::new();
        run.switch(0, Quic, Tcp, Cause::Loss);
        assert!(!run.permits(29, Quic) && run.permits(30, Quic));
        run.switch(30, Tcp, Quic, Cause::Return);
        run.switch(50, Quic, Tcp, Cause::Loss);
        assert!(!run.permits(109, Quic) && run.permits(110, Quic));

        run.switch(3000, Tcp, Quic, Cause::Return);
        run.switch(3020, Quic, Tcp, Cause::Loss);
        assert!(run.permits(3050, Quic), "half an hour of calm has passed");
    }

    #[test]
    fn four_quality_switches_in_ten_minutes_are_the_most() {
        let mut run = Run::new();
        for (secs, from, to) in [(0, Tcp, Quic), (100, Quic, Tcp), (200, Tcp, Quic)] {
            run.switch(secs, from, to, Cause::Slow);
        }
        assert!(run.permits(300, Transport::Kcp));
        run.switch(300, Quic, Tcp, Cause::Slow);
        assert!(!run.permits(599, Transport::Kcp));
        assert!(run.permits(600, Transport::Kcp));
    }
}
