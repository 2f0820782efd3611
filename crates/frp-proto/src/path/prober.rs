//! One end of the probing of one carrier.
//!
//! The client's end asks at the pace of its [`Cadence`]; the server's end answers, and asks only
//! when a user has come or when what the client had announced does not arrive. Each end so learns
//! of both directions: *inbound* lives when anything authenticated arrives, *outbound* when
//! something that was sent is echoed or acknowledged.
//!
//! Silence is counted from one fast interval before the first ask that stayed without an answer:
//! an idle carrier asks rarely, and is not silent in between. An ask whose time is up is followed
//! by further ones at the fast interval, whatever the pace.

mod received;
mod sent;
mod transfer;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::cadence::{Cadence, CadenceConfig, Pace};
use super::probe::{Ask, Probe};
use super::random::Random;
use super::report::PathReport;
use super::rtt::Rtt;
use received::{InboundDelay, ReceivedProbes};
use sent::SentProbes;
use transfer::Transfer;

pub use transfer::Counters;

/// What a prober goes by. Each field is a key under `transport.auto`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProberConfig {
    /// How often to ask.
    pub cadence: CadenceConfig,
    /// A heartbeat is lost after so many times the smallest round-trip time, ...
    pub lost_after_rtts: u32,
    /// ... and this much on top: room for delayed acknowledgements and busy machines.
    pub lost_after_extra: Duration,
    /// The same while no round-trip time is known: the first retransmission of TCP's SYN.
    pub lost_after_unknown: Duration,
    /// The carrier is suspect after silence of so many fast intervals: two heartbeats in a row
    /// are lost by chance every few seconds on a bad link, three more rarely.
    pub suspect_intervals: u32,
    /// And not before this time: below it, TCP repairs a single loss by itself.
    pub suspect_min: Duration,
    /// Between the probes of a burst: longer than most bursts of loss, and all of it over in half
    /// a second.
    pub burst_spacing: Duration,
    /// By what share the spacing varies, so that nothing periodic swallows a whole burst.
    pub burst_spread: f64,
    /// Between the two answers to a probe of a burst.
    pub second_answer_after: Duration,
}

impl Default for ProberConfig {
    fn default() -> Self {
        Self {
            cadence: CadenceConfig::default(),
            lost_after_rtts: 3,
            lost_after_extra: Duration::from_millis(200),
            lost_after_unknown: Duration::from_secs(1),
            suspect_intervals: 3,
            suspect_min: Duration::from_millis(600),
            burst_spacing: Duration::from_millis(40),
            burst_spread: 0.25,
            second_answer_after: Duration::from_millis(20),
        }
    }
}

/// Which end of the carrier this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// frpc: asks at its pace.
    Asking,
    /// frps: answers, and asks on occasion.
    Answering,
}

/// A direction of the carrier, as this end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    Inbound,
    /// To the peer.
    Outbound,
}

/// What the owner of a prober should know at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProberEvent {
    /// A direction has been silent for longer than the path explains.
    Silent(Direction),
    /// Both directions live again after silence.
    Alive,
    /// A burst is over and the time for its answers is up.
    BurstOver {
        /// How many probes of it were echoed in time.
        n_answered: u32,
    },
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Prober {
    config: ProberConfig,
    role: Role,
    cadence: Cadence,
    random: Random,
    origin: Instant,
    next_number: u32,
    sent: SentProbes,
    received: ReceivedProbes,
    inbound_delay: InboundDelay,
    transfer: Transfer,
    rtt: Rtt,
    last_ask: Option<Instant>,
    /// Asks at once, whatever the interval.
    asks_now: bool,
    answer_at: Option<Instant>,
    second_answer_at: Option<Instant>,
    burst: Option<Burst>,
    last_inbound: Instant,
    /// When what lived last on the outbound way was sent, or acknowledged.
    last_outbound: Instant,
    /// When the peer said it would ask again.
    peer_next_at: Option<Instant>,
    is_silent: bool,
    events: VecDeque<ProberEvent>,
    n_invalid: u64,
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    first: Option<u32>,
    n_left: u32,
    n_answered: u32,
    next_at: Instant,
}

/// Events that nobody has taken. At the bound the oldest is dropped: the newest say what is.
const MAX_EVENTS: usize = 16;
/// Silence for so long ends asking at the fast interval. The grace time of a session is as long.
const FAST_FOR: Duration = Duration::from_secs(60);
/// Between asks on a carrier that has been silent for longer.
const SILENT_INTERVAL: Duration = Duration::from_secs(1);
/// At least, and at most, after the last probe of a burst, before the burst is over.
const BURST_WAIT: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

impl Prober {
    /// Creates one end. The asking one asks at once.
    #[must_use]
    pub fn new(config: ProberConfig, role: Role, pace: Pace, seed: u64, now: Instant) -> Self {
        Self {
            cadence: Cadence::new(config.cadence.clone(), pace, now),
            config,
            role,
            random: Random::new(seed),
            origin: now,
            next_number: 1,
            sent: SentProbes::default(),
            received: ReceivedProbes::default(),
            inbound_delay: InboundDelay::default(),
            transfer: Transfer::default(),
            rtt: Rtt::default(),
            last_ask: None,
            asks_now: role == Role::Asking,
            answer_at: None,
            second_answer_at: None,
            burst: None,
            last_inbound: now,
            last_outbound: now,
            // A client asks as soon as it has joined: one that never does is gone.
            peer_next_at: (role == Role::Answering).then_some(now),
            is_silent: false,
            events: VecDeque::new(),
            n_invalid: 0,
        }
    }

    /// Takes in a probe of the peer.
    pub fn handle_probe(&mut self, now: Instant, probe: &Probe) {
        self.handle_inbound(now);
        let is_new = self.received.handle_number(now, probe.number);
        if !is_new {
            return;
        }
        self.inbound_delay.add(now, probe.sent_at, self.clock(now));
        self.peer_next_at = Some(now + probe.next_in).filter(|_| !probe.next_in.is_zero());
        if let Some(heard) = probe.heard {
            if heard.last >= self.next_number {
                self.n_invalid += 1;
            } else {
                let first = self.burst.and_then(|burst| burst.first);
                let lost_after = self.lost_after();
                let echoed = self.sent.handle_heard(now, heard, lost_after, first);
                if let Some(burst) = &mut self.burst {
                    burst.n_answered += echoed.n_burst;
                }
                if let Some(rtt) = echoed.rtt {
                    self.rtt.add(now, rtt);
                }
                if let Some(sent_at) = echoed.newest_sent {
                    self.last_outbound = self.last_outbound.max(sent_at);
                }
            }
        }
        match probe.ask {
            Ask::No => {}
            Ask::Once => self.answer_at = Some(now),
            Ask::Twice => {
                self.answer_at = Some(now);
                self.second_answer_at = Some(now + self.config.second_answer_after);
            }
        }
        self.notice_life(now);
    }

    /// Anything authenticated has arrived on the carrier.
    pub fn handle_inbound(&mut self, now: Instant) {
        self.last_inbound = now;
        self.peer_next_at = self.peer_next_at.map(|next_at| next_at.max(now));
    }

    /// The transport's counters, as read now. Acknowledged data is outbound life.
    pub fn handle_counters(&mut self, now: Instant, counters: Counters) {
        let before = *self.transfer.latest();
        if self.transfer.handle_counters(now, counters) {
            self.last_outbound = now;
            self.notice_life(now);
        }
        if counters.user_bytes != before.user_bytes || counters.queues != before.queues {
            self.cadence.handle_traffic(now);
        }
    }

    /// Users' data has arrived.
    pub fn handle_traffic(&mut self, now: Instant) {
        self.handle_inbound(now);
        self.cadence.handle_traffic(now);
    }

    /// How many user connections there are. A new one has the carrier probed at once.
    pub fn handle_users(&mut self, now: Instant, n_users: usize) {
        let has_come = self.cadence.handle_users(now, n_users);
        let is_fresh = self
            .last_ask
            .is_some_and(|at| at + self.cadence.fast() > now);
        if has_come && !is_fresh {
            self.asks_now = true;
        }
    }

    /// Time has passed: at least what [`poll_timeout`](Self::poll_timeout) said.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sent.judge(now, self.lost_after());
        if !self.is_silent {
            let limit = self.suspect_after();
            let silent = if self.outbound_silence(now) >= limit {
                Some(Direction::Outbound)
            } else {
                Some(Direction::Inbound).filter(|_| self.inbound_silence(now) >= limit)
            };
            if let Some(direction) = silent {
                self.is_silent = true;
                self.push_event(ProberEvent::Silent(direction));
            }
        }
        if let Some(burst) = self.burst
            && burst.n_left == 0
            && now >= burst.next_at
        {
            self.burst = None;
            let n_answered = burst.n_answered;
            self.push_event(ProberEvent::BurstOver { n_answered });
        }
    }

    /// Starts a burst of so many probes, unless one is under way.
    pub fn start_burst(&mut self, now: Instant, n_probes: u32) {
        if self.burst.is_none() {
            self.burst = Some(Burst {
                first: None,
                n_left: n_probes.max(1),
                n_answered: 0,
                next_at: now,
            });
        }
    }

    /// What the carrier is to the session from now on.
    pub fn set_pace(&mut self, now: Instant, pace: Pace) {
        let was_slow = self.cadence.interval(now) > self.cadence.fast();
        self.cadence.set_pace(pace);
        let is_slow = self.cadence.interval(now) > self.cadence.fast();
        if self.role == Role::Asking && was_slow && !is_slow {
            self.asks_now = true;
        }
    }

    /// The probe to send now, if any. On a reliable carrier it goes ahead of all data.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Probe> {
        let ask = self.due_ask(now);
        let is_answer_due = [self.answer_at, self.second_answer_at]
            .iter()
            .any(|at| at.is_some_and(|at| at <= now));
        if ask == Ask::No && !is_answer_due {
            return None;
        }
        self.answer_at = self.answer_at.filter(|at| *at > now);
        self.second_answer_at = self.second_answer_at.filter(|at| *at > now);

        // As it is before this probe counts as one without an answer.
        let next_in = match self.role {
            Role::Asking => self.interval(now),
            Role::Answering => Duration::ZERO,
        };
        // The number of the last of 2^32 probes stays: a carrier lives for some days at most.
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        self.sent.push(number, now, ask != Ask::No);
        if ask != Ask::No {
            self.last_ask = Some(now);
            self.asks_now = false;
        }
        if ask == Ask::Twice {
            self.take_burst_slot(now, number);
        }
        Some(Probe {
            number,
            sent_at: self.clock(now),
            ask,
            next_in,
            heard: self.received.heard(now),
            queues: self.transfer.latest().queues,
        })
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and then
    /// [`poll_transmit`](Self::poll_transmit) again.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let silence_ends = |since: Option<Instant>| Some(since? + self.suspect_after());
        [
            self.next_ask_at(now),
            self.answer_at,
            self.second_answer_at,
            self.burst.map(|burst| burst.next_at),
            self.sent.next_judgement(self.lost_after()),
            silence_ends(self.outbound_silent_since()).filter(|_| !self.is_silent),
            silence_ends(self.inbound_silent_since()).filter(|_| !self.is_silent),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The oldest event that was not taken yet.
    pub fn poll_event(&mut self) -> Option<ProberEvent> {
        self.events.pop_front()
    }

    /// Whether the carrier is used, or compared: heartbeats go at the fast interval, or faster.
    #[must_use]
    pub fn is_fast(&self, now: Instant) -> bool {
        self.cadence.interval(now) <= self.cadence.fast()
    }

    /// What this end knows of the carrier, which both ends know as number `carrier`.
    #[must_use]
    pub fn report(&self, now: Instant, carrier: u64) -> PathReport {
        let counters = self.transfer.latest();
        PathReport {
            carrier,
            inbound_silence: self.inbound_silence(now),
            outbound_silence: self.outbound_silence(now),
            srtt: self.rtt.srtt().unwrap_or_default(),
            rttvar: self.rtt.rttvar().unwrap_or_default(),
            min_rtt: self.rtt.min().unwrap_or_default(),
            heartbeats: self.sent.heartbeats,
            outbound: self.sent.outbound,
            inbound: self.received.tally,
            inbound_queueing: self.inbound_delay.queueing(),
            packets: counters.packets,
            delivered_rate: self.transfer.rate(),
            queues: counters.queues,
            stall: self.transfer.stall(now),
            control: counters.control,
        }
    }

    /// Echoes of probes that were never sent: a peer that counts wrongly.
    #[must_use]
    pub fn n_invalid(&self) -> u64 {
        self.n_invalid
    }

    /// When an echo counts as late.
    #[must_use]
    pub fn lost_after(&self) -> Duration {
        match self.rtt.min() {
            Some(min) => min * self.config.lost_after_rtts + self.config.lost_after_extra,
            None => self.config.lost_after_unknown,
        }
    }

    /// How long a silence the path explains.
    #[must_use]
    pub fn suspect_after(&self) -> Duration {
        let by_interval = self.cadence.fast() * self.config.suspect_intervals;
        let by_rtt = match (self.rtt.srtt(), self.rtt.rttvar()) {
            (Some(srtt), Some(rttvar)) => srtt * 2 + rttvar * 4,
            _ => self.config.lost_after_unknown,
        };
        by_interval.max(by_rtt).max(self.config.suspect_min)
    }

    /// For how long nothing that was sent is known to have arrived.
    #[must_use]
    pub fn outbound_silence(&self, now: Instant) -> Duration {
        self.outbound_silent_since()
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// For how long nothing has arrived although something should have.
    #[must_use]
    pub fn inbound_silence(&self, now: Instant) -> Duration {
        self.inbound_silent_since()
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn outbound_silent_since(&self) -> Option<Instant> {
        let first = self.sent.first_unanswered(self.last_outbound)?;
        Some(self.one_interval_before(first).max(self.last_outbound))
    }

    fn inbound_silent_since(&self) -> Option<Instant> {
        let asked = self.sent.first_unanswered(self.last_inbound);
        let announced = self.peer_next_at;
        let first = asked.into_iter().chain(announced).min()?;
        Some(self.one_interval_before(first).max(self.last_inbound))
    }

    fn one_interval_before(&self, at: Instant) -> Instant {
        at.checked_sub(self.cadence.fast()).unwrap_or(at)
    }

    fn notice_life(&mut self, now: Instant) {
        let limit = self.suspect_after();
        let lives = self.outbound_silence(now) < limit && self.inbound_silence(now) < limit;
        if self.is_silent && lives {
            self.is_silent = false;
            self.push_event(ProberEvent::Alive);
        }
    }

    fn due_ask(&self, now: Instant) -> Ask {
        if self
            .burst
            .is_some_and(|burst| burst.n_left > 0 && burst.next_at <= now)
        {
            Ask::Twice
        } else if self.next_ask_at(now).is_some_and(|at| at <= now) {
            Ask::Once
        } else {
            Ask::No
        }
    }

    fn next_ask_at(&self, now: Instant) -> Option<Instant> {
        if self.asks_now {
            return Some(now);
        }
        let interval = self.interval(now);
        if self.role == Role::Answering && !self.doubts(now) {
            // The next ask is due once what the peer announced is overdue.
            return self.peer_next_at.map(|at| at + self.suspect_after());
        }
        Some(self.last_ask.map_or(now, |at| at + interval))
    }

    /// Whether an answer, or the peer's own ask, is overdue.
    fn doubts(&self, now: Instant) -> bool {
        let overdue = match self.role {
            Role::Asking => self.lost_after(),
            Role::Answering => self.suspect_after(),
        };
        let is_overdue = |since: Option<Instant>| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= overdue)
        };
        is_overdue(self.outbound_silent_since()) || is_overdue(self.inbound_silent_since())
    }

    fn interval(&self, now: Instant) -> Duration {
        let interval = self.cadence.interval(now);
        if !self.doubts(now) {
            return interval;
        }
        let silence = self.outbound_silence(now).max(self.inbound_silence(now));
        let again = if silence < FAST_FOR {
            self.cadence.fast()
        } else {
            SILENT_INTERVAL
        };
        interval.min(again)
    }

    fn take_burst_slot(&mut self, now: Instant, number: u32) {
        let wait = match (self.rtt.srtt(), self.rtt.rttvar()) {
            (Some(srtt), Some(rttvar)) => srtt * 2 + rttvar * 4,
            _ => self.config.lost_after_unknown,
        };
        let config = &self.config;
        let spacing = self
            .random
            .spread(config.burst_spacing, config.burst_spread);
        if let Some(burst) = &mut self.burst {
            burst.first.get_or_insert(number);
            burst.n_left -= 1;
            burst.next_at = now
                + match burst.n_left {
                    0 => wait.clamp(BURST_WAIT[0], BURST_WAIT[1]),
                    _ => spacing,
                };
        }
    }

    /// Microseconds since this end began, modulo 2^32.
    fn clock(&self, now: Instant) -> u32 {
        let micros = now.saturating_duration_since(self.origin).as_micros();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "modulo 2^32 is what is meant"
        )]
        let clock = micros as u32;
        clock
    }

    fn push_event(&mut self, event: ProberEvent) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}
