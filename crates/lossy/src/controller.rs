//! The controller: from what happened to packets to a window.
//!
//! 1. *Startup*: the window grows by all that is resolved, so it doubles in a round trip, until
//!    packets are late or more sent is not more delivered.
//! 2. *Cruise*: the window is the rate times the round trip of the path, and a few milliseconds of
//!    queue. On a path with room that queue does not form, and the window grows from round to
//!    round.
//! 3. Now and then a *low* while measures the round trip anew, and whether loss depends on the rate.
//! 4. When packets are late even then, somebody else fills the queue, and a Cubic window of our own
//!    keeps up with theirs.

use std::time::{Duration, Instant};

use crate::delay::Delay;
use crate::loss::{Finding, Loss, Tally, Waits};
use crate::low::{
    DEEP_EVERY, DEEP_GAIN, EARLY_ROUND_TRIPS, FIRST_SPAN, LOW_INTERVAL, LOW_ROUND_TRIPS, Low,
    REST_ROUNDS, SHALLOW_GAIN, SPAN, TRY_GAIN, TRY_SPAN,
};
use crate::rates::{ROUNDS_KEPT, RateFilter, Rates, Sampler, count, seconds_between};
use crate::rival::Rival;
use crate::round::Round;
use crate::startup::{MAX_FLAT_ROUNDS, Startup};
use crate::{Acked, Config, LossCause, Lost, Snapshot, State};

/// Decides how much may be under way on one path.
#[derive(Clone, Debug)]
pub struct Controller {
    config: Config,
    mtu: f64,
    sampler: Sampler,
    filter: RateFilter,
    round: Round,
    delay: Delay,
    loss: Loss,
    startup: Option<Startup>,
    low: Option<Low>,
    rival: Option<Rival>,
    /// What the window is above its plain size, as a share, while no queue forms.
    growth: f64,
    window: f64,
    in_flight: u64,
    heard_at: Instant,
    last_low_at: Instant,
    n_lows: u32,
    n_rounds_since_low: u32,
    /// Round trips in a row in which packets timed out and none arrived, and when that was.
    n_timeouts: u32,
    timed_out_at: Option<Instant>,
    /// What arrived per second when the loss was last tried at a lower rate.
    policed_at: f64,
    n_policed_cuts: u32,
    /// The largest window lately.
    lately: f64,
    /// Packets sent before fell into an outage, and tell nothing about loss.
    trusted_from: Option<Instant>,
}

impl Controller {
    /// Starts with nothing known about the path.
    pub fn new(config: Config, now: Instant) -> Self {
        let mtu = count(config.mtu.max(1));
        Self {
            config,
            mtu,
            sampler: Sampler::new(now),
            filter: RateFilter::default(),
            round: Round::new(now),
            delay: Delay::new(),
            loss: Loss::new(),
            startup: Some(Startup::new()),
            low: None,
            rival: None,
            growth: 0.0,
            window: INITIAL_PACKETS * mtu,
            in_flight: 0,
            heard_at: now,
            last_low_at: now,
            n_lows: 0,
            n_rounds_since_low: 0,
            n_timeouts: 0,
            timed_out_at: None,
            policed_at: 0.0,
            n_policed_cuts: 0,
            lately: 0.0,
            trusted_from: None,
        }
    }

    /// Hears that bytes are sent, before they count as under way.
    pub fn on_sent(&mut self, now: Instant, bytes: u64) {
        let was_idle = self.in_flight == 0;
        if was_idle {
            let silence = seconds_between(self.heard_at, now);
            if silence > IDLE_MIN.max(IDLE_ROUND_TRIPS * self.rtt()) {
                self.restart(now);
            }
            self.heard_at = now;
        }
        let spacing = Duration::from_secs_f64(self.rtt() / STAMPS_PER_RTT);
        self.sampler.on_sent(now, was_idle, spacing);
        if let Some(low) = &mut self.low {
            low.on_sent(bytes);
        }
        self.in_flight += bytes;
    }

    /// Hears that a packet has arrived.
    pub fn on_acked(&mut self, now: Instant, acked: Acked) {
        let (sent_at, bytes) = (acked.sent_at, acked.bytes);
        self.heard_at = now;
        self.n_timeouts = 0;
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.sampler.on_acked(acked);
        self.round.on_acked(now, acked);
        if let Some(low) = &mut self.low {
            low.on_acked(now, acked);
        }
        if acked.is_exact {
            self.delay.on_acked(seconds_between(sent_at, now));
        }
        if !acked.is_app_limited {
            self.grow_in_startup(bytes);
        }
    }

    /// Hears that packets are taken for lost.
    pub fn on_lost(&mut self, now: Instant, lost: Lost) {
        let Lost { sent_at, bytes, .. } = lost;
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.sampler.on_lost(bytes);
        if self.trusted_from.is_some_and(|from| sent_at < from) {
            return;
        }
        // What is noticed so late was followed by an outage.
        let age = seconds_between(sent_at, now);
        if age > OUTAGE_MIN.max(OUTAGE_ROUND_TRIPS * self.rtt()) {
            return self.restart(now);
        }
        if lost.cause == LossCause::TimedOut {
            self.on_timeout(now);
        }
        self.loss.on_burst(count(bytes) / self.mtu);
        self.round.on_lost(now, sent_at, bytes);
        if let Some(low) = &mut self.low {
            low.on_lost(sent_at, bytes);
        }
        self.grow_in_startup(bytes);
    }

    /// Hears that all that one packet acknowledged has been told, and how much is still under way.
    pub fn on_acks_end(&mut self, now: Instant, bytes_in_flight: u64) {
        self.in_flight = bytes_in_flight;
        if let Some(sample) = self.sampler.on_acks_end(now) {
            self.round.on_sample(&sample);
            self.delay.on_sample(sample.rtt);
            if let Some(startup) = &mut self.startup
                && !sample.is_app_limited
            {
                startup.on_rtt(now, sample.rtt, self.delay.base(), self.delay.roughness);
            }
        }
        self.round.is_low |= self.low.is_some();
        self.advance_low(now);
        if self.round.is_over(now, self.delay.mean) {
            self.end_round(now);
        }
        self.leave_startup(now);
        self.fit_window();
    }

    /// Hears of another size of full packets.
    pub fn on_mtu(&mut self, mtu: u64) {
        self.config.mtu = mtu;
        self.mtu = count(mtu.max(1));
    }

    /// Returns how many bytes may be under way.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and far below the limit"
    )]
    pub fn window(&self) -> u64 {
        let least = MIN_PACKETS * self.mtu;
        let most = self.most();
        self.window.min(most).max(least) as u64
    }

    /// Returns the rate in bytes per second at which packets are spaced. It is a little more than
    /// the window allows on the whole: the window governs, the rate keeps bursts short.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and far below the limit"
    )]
    pub fn pacing_rate(&self) -> u64 {
        let rate = PACING_GAIN * count(self.window()) / self.rtt();
        let most = self.config.max_rate.map_or(f64::INFINITY, count);
        rate.min(most).max(self.mtu) as u64
    }

    /// Returns numbers for metrics and logs.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and far below the limit"
    )]
    pub fn snapshot(&self) -> Snapshot {
        let state = match (&self.startup, &self.low, &self.rival) {
            (Some(_), ..) => State::Startup,
            (_, Some(low), _) if low.is_holding_back() => State::Low,
            (.., Some(_)) => State::Crowded,
            _ => State::Cruise,
        };
        let base = self.delay.is_known().then(|| self.delay.base());
        Snapshot {
            state,
            rate: self.rate() as u64,
            floor: self.loss.floor,
            loss: self.loss.mean,
            is_policed: self.loss.is_policed,
            base_rtt: Duration::from_secs_f64(base.unwrap_or(0.0)),
            queue: Duration::from_secs_f64(self.delay.queue()),
            jitter: Duration::from_secs_f64(self.delay.jitter),
            roughness: Duration::from_secs_f64(self.delay.roughness),
            window: self.window(),
        }
    }

    /// What times out together counts once: a burst of losses takes many packets.
    fn on_timeout(&mut self, now: Instant) {
        let rtt = self.rtt();
        if (self.timed_out_at).is_some_and(|at| seconds_between(at, now) < rtt) {
            return;
        }
        self.timed_out_at = Some(now);
        self.n_timeouts += 1;
        if self.n_timeouts == MAX_TIMEOUTS {
            self.restart(now);
        }
    }

    fn grow_in_startup(&mut self, bytes: u64) {
        if self.startup.is_some() && count(self.in_flight + bytes) * 2.0 > self.window {
            self.window += count(bytes);
        }
    }

    /// Goes back to finding the rate, from half of what there was: nothing has been heard for a
    /// while, and the path may be another one.
    fn restart(&mut self, now: Instant) {
        self.window = (self.window / 2.0).max((INITIAL_PACKETS * self.mtu).min(self.window));
        self.filter.scale(0.5);
        self.startup = Some(Startup::new());
        self.low = None;
        self.rival = None;
        self.growth = 0.0;
        self.trusted_from = Some(now);
        self.round = Round::new(now);
    }

    fn end_round(&mut self, now: Instant) {
        let round = std::mem::replace(&mut self.round, Round::new(now));
        if let Some(mean) = round.mean_rtt() {
            self.delay.mean = mean;
            if let Some(sojourn) = round.mean_lost_sojourn() {
                self.loss.on_detection(sojourn / mean);
            }
        }
        self.n_rounds_since_low += 1;
        let elapsed = seconds_between(round.began_at, now);
        self.lately -= self.lately * (elapsed / LATELY).min(1.0);
        self.lately = self.lately.max(self.window);
        let is_app_limited = round.is_app_limited();
        let rates = match self.loss.is_policed {
            // What a policer lets through after a pause is above its rate.
            true => round.mean_rates(now),
            false => round.rates,
        };
        self.filter.push(rates, is_app_limited || round.is_low);
        let tally = Tally::new(round.acked, round.lost, self.mtu);
        let mut finding = Finding::Nothing;
        if !round.is_low {
            let rate = round.mean_rates(now).resolved;
            finding = self.loss.on_round(tally, rate, self.waits());
        }
        if let Some(startup) = &mut self.startup {
            // A few words before the first transfer tell nothing about the rate.
            if !is_app_limited {
                startup.on_round(self.filter.max(ROUNDS_KEPT).delivered);
            }
            return;
        }
        if finding == Finding::Overflow && self.rival.is_none() {
            self.filter.scale(OVERFLOW_CUT);
        }
        self.n_policed_cuts = match finding {
            Finding::Nothing => self.n_policed_cuts.min(MAX_POLICED_CUTS - 1),
            _ => self.n_policed_cuts,
        };
        if finding == Finding::Unexplained && self.loss.is_policed {
            self.n_policed_cuts += 1;
            if self.n_policed_cuts < MAX_POLICED_CUTS {
                self.filter.scale(POLICED_CUT);
                finding = Finding::Nothing;
            }
        }
        if let Some(rival) = &mut self.rival {
            let (rtt, base) = (self.delay.mean, self.delay.base());
            rival.on_round(now, tally, rtt, base, self.mtu, is_app_limited);
        }
        self.fit_growth(is_app_limited || round.is_low);
        self.begin_low(now, finding, is_app_limited);
    }

    /// Lets the window grow while no queue forms.
    fn fit_growth(&mut self, is_limited: bool) {
        let (queue, target) = (self.delay.queue(), self.target_queue());
        let delivered = self.filter.max(ROUNDS_KEPT).delivered;
        if queue > target || delivered > POLICED_RISE * self.policed_at {
            self.loss.is_policed = false;
        }
        if self.loss.is_policed {
            let is_due = self.n_rounds_since_low.is_multiple_of(POLICED_PROBE_ROUNDS);
            self.growth = if is_due { POLICED_PROBE } else { 0.0 };
        } else if queue > EMPTY_SHARE * target {
            self.growth = 0.0;
        } else if !is_limited {
            self.growth = (self.growth * 1.5 + 0.02).min(MAX_GROWTH);
        }
    }

    /// Begins to send less when it is time for that.
    fn begin_low(&mut self, now: Instant, finding: Finding, is_app_limited: bool) {
        if self.low.is_some() {
            return;
        }
        let base = self.delay.base();
        let since = seconds_between(self.last_low_at, now);
        let is_due = since >= LOW_INTERVAL.max(LOW_ROUND_TRIPS * base);
        if is_app_limited {
            // There is no queue of our own.
            if is_due {
                self.last_low_at = now;
                self.on_base(now, self.delay.mean);
            }
            return;
        }
        let has_rested = self.n_rounds_since_low >= REST_ROUNDS;
        let is_early = self.rival.is_none()
            && has_rested
            && since > EARLY_ROUND_TRIPS * base
            && self.is_late();
        let (gain, span) = if finding == Finding::Unexplained && has_rested {
            (DEEP_GAIN, TRY_SPAN)
        } else if is_due && self.n_lows.is_multiple_of(DEEP_EVERY) {
            (DEEP_GAIN, SPAN)
        } else if is_due || is_early {
            (SHALLOW_GAIN, SPAN)
        } else {
            return;
        };
        self.start_low(now, gain, span);
    }

    fn start_low(&mut self, now: Instant, gain: f64, span: f64) {
        let before = self.loss.recent();
        let gain = gain.min(TRY_GAIN * (1.0 - before.share()));
        let mut low = Low::new(now, gain, span);
        low.before = before;
        low.was_delayed = self.is_delayed();
        self.low = Some(low);
        self.last_low_at = now;
        self.n_lows = self.n_lows.wrapping_add(1);
        self.n_rounds_since_low = 0;
        self.growth = 0.0;
    }

    fn advance_low(&mut self, now: Instant) {
        let low_window = self.low_window();
        let rtt = self.delay.base();
        let Some(low) = &mut self.low else {
            return;
        };
        let is_low = count(self.in_flight) <= low_window + self.mtu;
        if !low.advance(now, is_low, rtt, self.mtu) {
            return;
        }
        let (seen, gain) = (low.seen(self.mtu, self.delay.roughness), low.gain);
        let (before, was_delayed) = (low.before, low.was_delayed);
        self.low = None;
        self.n_rounds_since_low = 0;
        if gain <= DEEP_GAIN {
            let known = self.filter.max(ROUNDS_KEPT);
            self.loss
                .on_tried(before, seen.loss, known.resolved, was_delayed);
            self.policed_at = known.delivered;
            self.n_policed_cuts = 0;
        }
        if let Some(rtt) = seen.rtt {
            self.on_base(now, rtt);
        }
    }

    /// Takes note of the round trip without a queue of our own.
    fn on_base(&mut self, now: Instant, rtt: f64) {
        self.delay
            .on_measured(now, rtt, MTU_SLACK * self.mtu / self.rate().max(1.0));
        if !self.delay.is_crowded {
            self.rival = None;
        } else if self.rival.is_none() {
            let held = self.rate() * rtt;
            self.rival = Some(Rival::new(now, held, self.lately, self.loss.mean));
        }
    }

    fn leave_startup(&mut self, now: Instant) {
        let lowest_rtt = self.delay.base();
        let Some(startup) = &self.startup else {
            return;
        };
        if !startup.is_late(now, lowest_rtt) && startup.n_flat_rounds < MAX_FLAT_ROUNDS {
            return;
        }
        self.startup = None;
        self.filter.push(self.round.rates, true);
        self.start_low(now, DEEP_GAIN, FIRST_SPAN);
    }

    fn fit_window(&mut self) {
        if self.startup.is_some() {
            return;
        }
        if self.low.as_ref().is_some_and(Low::is_holding_back) {
            self.window = self.low_window();
            return;
        }
        let base = self.delay.working();
        let plain = self.rate() * self.loss.stretch() * base;
        self.window = match self.loss.is_policed {
            true => plain * (1.0 + self.growth) + 2.0 * self.mtu,
            false => plain * (1.0 + self.growth) + self.queue_bytes() + 2.0 * self.mtu,
        };
        if let Some(rival) = &self.rival {
            self.window = self.window.max(rival.window());
        }
    }

    fn low_window(&self) -> f64 {
        let gain = self.low.as_ref().map_or(1.0, |low| low.gain);
        // A queue that others fill is as good as a longer path, but for a deep one.
        let rtt = match gain > DEEP_GAIN {
            true => self.delay.last(),
            false => self.delay.base(),
        };
        gain * self.rate() * self.loss.stretch() * rtt + self.mtu
    }

    /// The most that a window may be for the rate that was set.
    fn most(&self) -> f64 {
        let Some(max_rate) = self.config.max_rate else {
            return f64::INFINITY;
        };
        count(max_rate) * self.loss.stretch() * self.rtt()
    }

    /// The rate of the path. While there is a queue every round shows it, so that a path that has
    /// become slower is noticed at once.
    fn rate(&self) -> f64 {
        let n_rounds = match self.is_delayed() || self.loss.is_policed {
            true => SATURATED_ROUNDS,
            false => ROUNDS_KEPT,
        };
        let Rates {
            resolved,
            delivered,
        } = self.filter.max(n_rounds);
        let sent_for_it = delivered / (1.0 - self.loss.floor);
        let rate = match self.loss.is_policed {
            true => sent_for_it,
            false => resolved.min(sent_for_it * DELIVERED_GAIN),
        };
        rate.min(self.config.max_rate.map_or(f64::INFINITY, count))
    }

    /// Bytes that stand in the queue when the path is full.
    ///
    /// They grow more slowly than the rate: of two senders that share a queue the one with the lower
    /// rate keeps more in it for its rate, and gains until both are equal.
    fn queue_bytes(&self) -> f64 {
        let rate = self.rate();
        let time = QUEUE * (QUEUE_RATE / rate.max(1.0)).powf(QUEUE_POWER);
        let least = MIN_QUEUE.max(MIN_QUEUE_SHARE * self.delay.base());
        (rate * time.max(least)).max(MIN_QUEUE_PACKETS * self.mtu)
    }

    fn target_queue(&self) -> f64 {
        self.queue_bytes() / self.rate().max(1.0)
    }

    /// Whether packets are so late that a loss may come from a full queue.
    fn is_delayed(&self) -> bool {
        if !self.delay.is_known() {
            return false;
        }
        let base = self.delay.base();
        self.delay.mean - base > (base * DELAYED_SHARE).max(DELAYED)
    }

    fn waits(&self) -> Waits {
        match self.delay.queue() {
            _ if self.is_delayed() => Waits::Long,
            queue if queue > EMPTY_SHARE * self.target_queue() => Waits::Short,
            _ => Waits::None,
        }
    }

    /// Whether packets are later than our own queue explains.
    fn is_late(&self) -> bool {
        self.delay.queue() > LATE_QUEUES * self.target_queue() + LATE_SHARE * self.delay.base()
    }

    fn rtt(&self) -> f64 {
        if self.delay.mean > 0.0 {
            return self.delay.mean;
        }
        match self.delay.is_known() {
            true => self.delay.base(),
            false => INITIAL_RTT,
        }
    }
}

/// Packets that a connection starts with: as hysteria and most web servers have it.
const INITIAL_PACKETS: f64 = 32.0;

/// A window below it would wait for delayed acknowledgements.
const MIN_PACKETS: f64 = 4.0;

/// Assumed until there is a measurement, in seconds.
const INITIAL_RTT: f64 = 0.1;

/// After as many seconds and round trips with nothing under way, what is known is old.
const IDLE_MIN: f64 = 5.0;
const IDLE_ROUND_TRIPS: f64 = 20.0;

/// A loss that is noticed after as many seconds and round trips was followed by an outage.
const OUTAGE_MIN: f64 = 1.0;
const OUTAGE_ROUND_TRIPS: f64 = 8.0;

/// Round trips with nothing but timeouts after which the window is halved.
const MAX_TIMEOUTS: u32 = 3;

/// Stamps of the sampler in a round trip: a sample is off by half a percent at most.
const STAMPS_PER_RTT: f64 = 128.0;

/// As quinn's pacer.
const PACING_GAIN: f64 = 1.25;

/// Rounds that tell the rate while there is a queue.
const SATURATED_ROUNDS: usize = 3;

/// What may be sent above what arrives for it: chance, and room to grow.
const DELIVERED_GAIN: f64 = 1.05;

/// The queue that is kept, in seconds at this rate in bytes per second.
const QUEUE: f64 = 0.005;
const QUEUE_RATE: f64 = 12.5e6;

/// How it grows when the rate falls: with this power.
const QUEUE_POWER: f64 = 0.35;

/// The least queue, in seconds and in round trips. With less, noise of the measurements would
/// make the rate dwindle.
const MIN_QUEUE: f64 = 0.0025;
const MIN_QUEUE_SHARE: f64 = 0.025;
const MIN_QUEUE_PACKETS: f64 = 2.5;

/// The queue counts as empty below this share of what it should be.
const EMPTY_SHARE: f64 = 0.4;

/// The most that the window grows by in a round trip, beyond the queue.
const MAX_GROWTH: f64 = 0.25;

/// Behind a policer more is tried for one round out of so many.
const POLICED_PROBE_ROUNDS: u32 = 8;
const POLICED_PROBE: f64 = 0.08;

/// What is left of the rate when a policer takes more than expected ...
const POLICED_CUT: f64 = 0.95;

/// ... so often in a row, then its loss is tried anew.
const MAX_POLICED_CUTS: u32 = 4;

/// When so much more arrives than before, it is policed no more.
const POLICED_RISE: f64 = 1.3;

/// What is left of the rate when a queue overflows.
const OVERFLOW_CUT: f64 = 0.85;

/// Packets are delayed when they take longer than the path by this share and this time.
const DELAYED_SHARE: f64 = 0.3;
const DELAYED: f64 = 0.01;

/// Packets are late when they wait longer than so many of the queues that are kept, and this share
/// of a round trip.
const LATE_QUEUES: f64 = 1.5;
const LATE_SHARE: f64 = 0.05;

/// Packets of our own that may wait for each other at any time.
const MTU_SLACK: f64 = 3.0;

/// How long a large window is remembered, in seconds: by then somebody else may have pushed us
/// back.
const LATELY: f64 = 20.0;
