//! Which carrier is used next. Pure: told what happened and when, it answers with decisions.
//!
//! frpc runs one [`Policy`] for its server; frps follows. In the order in which a session lives:
//!
//! 1. `dialing`: all candidates race, the first to log in serves, the best of those that answer is
//!    used. One carrier of the other family stays as warm standby, and what could not be reached
//!    is tried again, forever.
//! 2. `doubt`: a silent carrier gets a burst of probes, and so does the standby. It is dead when
//!    only the standby answers. When neither does, nothing is dead: new carriers are opened beside
//!    the old one, and the first that answers takes over.
//! 3. `quality`: a carrier that loses too much, stands still or is too slow is compared with the
//!    standby over the same windows, by `score`, and left when the other is clearly better. A
//!    preferred transport is returned to when it has been good for long enough. `stay` keeps both
//!    from flapping.
//! 4. `health` is what is known of each candidate; it outlives the session.
//!
//! Everything that is decided comes with its cause and numbers, as a [`Notice`].

mod carrier;
mod config;
mod dialing;
mod doubt;
mod health;
mod quality;
mod score;
mod stay;
mod window;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::path::{Pace, PathReport, ProberEvent, Random};
use carrier::Carrier;
use dialing::{Outage, Plan};
use doubt::Doubt;
use health::{LastUsed, Place};
use quality::{Pause, Question};
use score::{Capacity, Overtaking};
use stay::Stay;

pub use config::Config;
pub use health::Health;
pub use words::{
    Candidate, CarrierId, Cause, DeathCause, Decision, DialFailure, Family, Measured, Notice,
    Purpose, State, Transport,
};

/// See the [module](self).
///
/// After each `handle_*` and verb, take what [`poll_decision`](Self::poll_decision) and
/// [`poll_notice`](Self::poll_notice) have, and ask [`poll_timeout`](Self::poll_timeout) anew.
#[derive(Clone, Debug)]
pub struct Policy {
    config: Config,
    places: Vec<Place>,
    carriers: BTreeMap<CarrierId, Carrier>,
    next_carrier: u64,
    in_use: Option<CarrierId>,
    /// What was in use last, also in the session before.
    last_used: Option<LastUsed>,
    generation: u64,
    is_switching: bool,
    /// Whether there is a session whose streams are kept.
    has_session: bool,
    is_refused: bool,
    plans: Vec<Plan>,
    outage: Option<Outage>,
    measure_until: Option<Instant>,
    doubt: Option<Doubt>,
    question: Option<Question>,
    pause: Pause,
    stay: Stay,
    capacity: Capacity,
    overtaking: Overtaking,
    /// Chosen by hand: neither quality nor preference change it. Until it is in use it is looked for.
    manual: Option<Transport>,
    n_users: usize,
    last_user: Instant,
    /// The server has asked not to be dialed before.
    not_before: Instant,
    state: State,
    random: Random,
    decisions: VecDeque<Decision>,
    notices: VecDeque<Notice>,
}

/// Notices that nobody has taken. At the bound the oldest is dropped.
const MAX_NOTICES: usize = 256;
/// The longest time for which a server's wish not to be dialed is heard.
const MAX_SERVER_HINT: Duration = Duration::from_secs(300);

impl Policy {
    /// Begins to connect at once.
    #[must_use]
    pub fn new(
        config: Config,
        candidates: &[Candidate],
        health: &Health,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut places: Vec<Place> = candidates.iter().copied().map(Place::new).collect();
        health.apply(&mut places);
        let mut policy = Self {
            config,
            places,
            carriers: BTreeMap::new(),
            next_carrier: 1,
            in_use: None,
            last_used: health.last_used(),
            generation: 0,
            is_switching: false,
            has_session: false,
            is_refused: false,
            plans: Vec::new(),
            outage: None,
            measure_until: None,
            doubt: None,
            question: None,
            pause: Pause::default(),
            stay: Stay::default(),
            capacity: Capacity::default(),
            overtaking: Overtaking::default(),
            manual: None,
            n_users: 0,
            last_user: now,
            not_before: now,
            state: State::Reconnecting,
            random: Random::new(seed),
            decisions: VecDeque::new(),
            notices: VecDeque::new(),
        };
        policy.begin_outage(now, None);
        policy.settle(now);
        policy
    }

    /// The attempt has logged in or joined.
    pub fn handle_dialed(&mut self, now: Instant, carrier: CarrierId) {
        self.dialed(now, carrier);
        self.settle(now);
    }

    /// The server has answered the attempt; a login or a join is under way. Such an attempt does not
    /// make room for a fresh one.
    pub fn handle_answered(&mut self, carrier: CarrierId) {
        self.answered(carrier);
    }

    /// The attempt has failed.
    pub fn handle_dial_failed(&mut self, now: Instant, carrier: CarrierId, failure: DialFailure) {
        self.dial_failed(now, carrier, failure);
        self.settle(now);
    }

    /// The streams have moved to the carrier that was promoted.
    pub fn handle_promoted(&mut self, now: Instant, carrier: CarrierId) {
        if self.in_use == Some(carrier) {
            self.is_switching = false;
        }
        self.settle(now);
    }

    /// What this end knows of a carrier: every 250 ms while it is in use or compared, and with
    /// each echo otherwise.
    pub fn handle_path(&mut self, now: Instant, carrier: CarrierId, report: &PathReport) {
        let threshold = self.config.loss_threshold;
        if let Some(entry) = self.carriers.get_mut(&carrier) {
            entry.handle_report(now, report, threshold);
            if !entry.has_bulk() && self.family(carrier) == Family::Udp {
                self.overtaking.handle_report(report);
            }
            self.weigh(now, carrier);
        }
        self.settle(now);
    }

    /// What the server knows of a carrier. It may come over another one.
    pub fn handle_peer_path(&mut self, now: Instant, carrier: CarrierId, report: &PathReport) {
        let samples = self.config.window_samples;
        if let Some(entry) = self.carriers.get_mut(&carrier) {
            entry.handle_peer_report(report, samples);
            self.hear_of_silence(now, carrier, report.inbound_silence);
        }
        self.settle(now);
    }

    /// The carrier's prober has noticed something.
    pub fn handle_prober_event(&mut self, now: Instant, carrier: CarrierId, event: ProberEvent) {
        match event {
            ProberEvent::Silent(direction) => self.silent(now, carrier, direction),
            ProberEvent::Alive => self.alive(now, carrier),
            ProberEvent::BurstOver { n_answered } => self.burst_over(now, carrier, n_answered),
        }
        self.settle(now);
    }

    /// ICMP said that nobody listens at the other end of a carrier.
    pub fn handle_refused(&mut self, now: Instant, carrier: CarrierId) {
        let Some(entry) = self.carriers.get_mut(&carrier) else {
            return;
        };
        entry.n_refusals += 1;
        if entry.is_live() && entry.n_refusals >= 2 {
            self.died(now, carrier, DeathCause::Refused);
        }
        self.settle(now);
    }

    /// The carrier is at its end.
    pub fn handle_died(&mut self, now: Instant, carrier: CarrierId, cause: DeathCause) {
        self.died(now, carrier, cause);
        self.settle(now);
    }

    /// A carrier that is not in use is of no more use, and nothing is wrong with it: its owner has
    /// other things for it to do.
    pub fn handle_left(&mut self, now: Instant, carrier: CarrierId) {
        if self.in_use != Some(carrier) {
            self.carriers.remove(&carrier);
        }
        self.settle(now);
    }

    /// The session is over, on whichever side: its carriers are of no use to the next one, which is
    /// looked for at once. Attempts that are under way go on.
    pub fn handle_session_over(&mut self, now: Instant) {
        self.session_over(now);
        self.settle(now);
    }

    /// An address or a route of this host has changed. `moved` are the carriers whose server is
    /// reached from another address than before, or not at all; the others are left alone.
    pub fn handle_network_change(&mut self, now: Instant, moved: &[CarrierId]) {
        self.network_changed(now, moved);
        self.settle(now);
    }

    /// How many user connections there are.
    pub fn handle_users(&mut self, now: Instant, n_users: usize) {
        let was_quiet = self.is_quiet(now);
        if n_users > 0 || self.n_users > 0 {
            self.last_user = now;
        }
        self.n_users = n_users;
        if was_quiet && n_users > 0 {
            self.places.iter_mut().for_each(Place::wake);
        }
        self.settle(now);
    }

    /// At what rate, in bytes a second, the burst of padding arrived.
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more precision")]
    pub fn handle_measured_rate(&mut self, now: Instant, carrier: CarrierId, rate: u64) {
        if let Some(entry) = self.carriers.get_mut(&carrier) {
            entry.measured_rate = Some(rate as f64);
        }
        self.settle(now);
    }

    /// The server has told how long it keeps streams.
    pub fn handle_grace(&mut self, grace: Duration) {
        self.config.grace = grace;
    }

    /// The server asks not to be dialed for a time. Not heard beyond five minutes.
    pub fn handle_server_hint(&mut self, now: Instant, wait: Duration) {
        self.not_before = self.not_before.max(now + wait.min(MAX_SERVER_HINT));
        self.settle(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.settle(now);
    }

    /// Switches by hand. The transport stays until it dies while another lives, or is released. One
    /// that cannot be had at the moment is looked for, whatever is used meanwhile.
    pub fn switch_to(&mut self, now: Instant, transport: Transport) {
        self.manual = Some(transport);
        // What was being compared is decided.
        self.end_question(now, true);
        let current = self.in_use.map(|id| self.transport(id));
        if current != Some(transport) {
            match self.best_live(now, |kind| kind == transport) {
                Some(carrier) => self.promote(now, carrier, Cause::Manual, None),
                None => self.dial_all_of(now, transport),
            }
        }
        self.settle(now);
    }

    /// Ends what [`switch_to`](Self::switch_to) has begun: the policy decides again.
    pub fn release(&mut self, now: Instant) {
        self.manual = None;
        self.settle(now);
    }

    /// The transport that was chosen by hand.
    #[must_use]
    pub fn by_hand(&self) -> Option<Transport> {
        self.manual
    }

    /// The next thing to do.
    pub fn poll_decision(&mut self) -> Option<Decision> {
        self.decisions.pop_front()
    }

    /// The next thing to tell.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let plans = self.plans.iter().map(|plan| plan.at);
        let attempts = self
            .attempts()
            .map(|(_, entry)| entry.dialed_at + self.patience());
        let outage = self.outage.iter();
        let rounds = outage
            .clone()
            .map(|outage| outage.next_round.max(self.not_before));
        let grace_end = outage.map(|outage| outage.since + self.config.grace);
        plans
            .chain(attempts)
            .chain(rounds)
            .chain(grace_end.filter(|at| *at > now))
            .chain(self.measure_ends())
            .chain(self.doubt.and_then(|doubt| doubt.heir_at))
            .chain(self.next_retry())
            .min()
    }

    /// How the session is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The carrier in use.
    #[must_use]
    pub fn in_use(&self) -> Option<CarrierId> {
        self.in_use
    }

    /// The transport of a carrier or attempt that the policy knows.
    #[must_use]
    pub fn transport_of(&self, carrier: CarrierId) -> Option<Transport> {
        let place = self.carriers.get(&carrier)?.place;
        Some(self.places[place].candidate.transport)
    }

    /// Index of the candidate that a carrier or attempt is of, if the policy knows it.
    #[must_use]
    pub fn candidate_of(&self, carrier: CarrierId) -> Option<usize> {
        self.carriers.get(&carrier).map(|entry| entry.place)
    }

    /// What should outlive the program.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::of(&self.places, self.last_used)
    }

    /// Puts another carrier in use.
    fn promote(
        &mut self,
        now: Instant,
        to: CarrierId,
        cause: Cause,
        numbers: Option<(Measured, Measured)>,
    ) {
        let from = self.in_use.filter(|from| *from != to);
        let from_transport = match from {
            Some(from) => Some(self.transport(from)),
            None => self.last_used.map(|last| last.transport),
        };
        let to_transport = self.transport(to);
        let is_ipv6 = self.is_ipv6(to);
        let has_choice = from.is_some() && cause != Cause::Manual;
        let is_dry_run = self.config.is_dry_run && has_choice;
        let config = &self.config;
        let stay = &mut self.stay;
        stay.handle_switch(config, now, from_transport, to_transport, cause);
        self.tell(Notice::Switched {
            from: from_transport.filter(|_| self.has_session),
            to: to_transport,
            is_ipv6,
            cause,
            numbers,
            is_dry_run,
        });
        self.end_question(now, true);
        if is_dry_run {
            return;
        }
        // In an outage nothing has lived that would have been better.
        let is_death = matches!(cause, Cause::Died(_)) && self.outage.is_none();
        if is_death && from_transport == self.manual && self.manual != Some(to_transport) {
            self.manual = None;
        }
        self.in_use = Some(to);
        if let Some(entry) = self.carriers.get_mut(&to) {
            entry.begin_use(now);
        }
        self.last_used = Some(LastUsed {
            transport: to_transport,
            is_ipv6,
        });
        self.generation += 1;
        self.is_switching = true;
        self.has_session = true;
        self.is_refused = false;
        self.doubt = None;
        self.end_outage(now);
        let mut still_delivers = from;
        if let (Some(from), Cause::Died(_)) = (from, cause) {
            self.carriers.remove(&from);
            self.decide(Decision::Rest { carrier: from });
            still_delivers = None;
        }
        self.decide(Decision::Promote {
            carrier: to,
            from: still_delivers,
            generation: self.generation,
        });
        for entry in self.carriers.values_mut() {
            entry.n_vain_returns = 0;
        }
        self.set_pace(to, Pace::InUse);
        if let Some(from) = still_delivers {
            self.set_pace(from, Pace::Standby);
            if let Some(entry) = self.carriers.get_mut(&from) {
                entry.good_since = now;
            }
        }
    }

    /// Does what is due, whatever has happened.
    fn settle(&mut self, now: Instant) {
        if self
            .in_use
            .is_some_and(|id| !self.carriers.contains_key(&id))
        {
            // Whatever has removed it: without this nothing would ever be dialled again.
            self.in_use = None;
            self.doubt = None;
            self.begin_outage(now, None);
        }
        self.promote_heir(now);
        self.follow_wish(now);
        self.drop_old_attempts(now);
        self.run_outage(now);
        self.launch_plans(now);
        self.end_start_measure(now);
        self.keep_standby(now);
        self.update_state(now);
    }

    fn update_state(&mut self, now: Instant) {
        let state = match (self.in_use, &self.outage) {
            _ if self.is_refused => State::Refused,
            (None, outage) => {
                let since = outage.as_ref().map_or(now, |outage| outage.since);
                let in_grace = now.saturating_duration_since(since) < self.config.grace;
                match self.has_session && in_grace {
                    true => State::Holding,
                    false => State::Reconnecting,
                }
            }
            (Some(_), Some(_)) => State::Holding,
            _ if self.is_switching => State::Switching,
            _ if self.doubt.is_some() || self.is_left_in_question() => State::Degraded,
            _ => State::Connected,
        };
        if state != self.state {
            self.tell(Notice::State {
                from: self.state,
                to: state,
            });
            self.state = state;
        }
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.n_users == 0
            && now.saturating_duration_since(self.last_user) >= self.config.quiet_after
    }

    fn set_pace(&mut self, carrier: CarrierId, pace: Pace) {
        self.decide(Decision::Probe { carrier, pace });
    }

    /// The best live carrier beside the one in use that is not silent, of transports that `fits`.
    fn best_live(&self, now: Instant, fits: impl Fn(Transport) -> bool) -> Option<CarrierId> {
        let beside = self
            .carriers
            .iter()
            .filter(|(id, entry)| Some(**id) != self.in_use && entry.is_live() && !entry.is_silent);
        beside
            .map(|(id, entry)| (*id, entry.place))
            .filter(|(_, place)| fits(self.places[*place].candidate.transport))
            .min_by_key(|(_, place)| self.place_rank(*place, now))
            .map(|(id, _)| id)
    }

    /// The carrier that an alternative to the one in use would be found in.
    fn standby(&self, now: Instant) -> Option<CarrierId> {
        let family = self.family(self.in_use?);
        let other = self.best_live(now, |kind| kind.family() != family);
        other.or_else(|| self.best_live(now, |_| true))
    }

    fn transport(&self, carrier: CarrierId) -> Transport {
        // Carriers are only named that the policy knows; a stranger would count as what is
        // preferred least.
        self.transport_of(carrier).unwrap_or(Transport::WebSocket)
    }

    fn family(&self, carrier: CarrierId) -> Family {
        self.transport(carrier).family()
    }

    /// Whether a carrier goes over IPv6, as far as that is told apart.
    fn is_ipv6(&self, carrier: CarrierId) -> bool {
        let place = self.candidate_of(carrier);
        place.is_some_and(|place| self.places[place].candidate.is_ipv6)
    }

    /// Place in the order of preference: fallbacks come last.
    /// Where packets overtake each other, QUIC comes right behind KCP if it was to come before.
    fn rank(&self, place: usize) -> usize {
        let candidate = &self.places[place].candidate;
        let order = &self.config.preference;
        let position = |kind| order.iter().position(|other| *other == kind);
        let own = position(candidate.transport);
        let kcp = position(Transport::Kcp).filter(|_| {
            let is_quic = candidate.transport == Transport::Quic;
            is_quic && self.overtaking.is_common()
        });
        let rank = match (own, kcp) {
            (Some(own), Some(kcp)) if own < kcp => 2 * kcp + 1,
            _ => 2 * own.unwrap_or(order.len()),
        };
        let behind = if candidate.is_fallback {
            2 * (order.len() + 1)
        } else {
            0
        };
        rank + behind
    }

    fn decide(&mut self, decision: Decision) {
        self.decisions.push_back(decision);
    }

    fn tell(&mut self, notice: Notice) {
        if self.notices.len() == MAX_NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }
}
