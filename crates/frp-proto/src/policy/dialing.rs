//! Opening carriers: the race at start, attempts while all is lost, the standby, and trying again
//! what is closed.

use std::time::{Duration, Instant};

use super::Policy;
use super::carrier::Carrier;
use super::words::{
    CarrierId, Cause, DeathCause, Decision, DialFailure, Family, Notice, Purpose, Transport,
};
use crate::path::Pace;

/// An attempt that begins later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) at: Instant,
    pub(crate) place: usize,
    pub(crate) purpose: Purpose,
}

/// Nothing that lives is in use: attempts in rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) since: Instant,
    pub(crate) next_round: Instant,
    /// Grows once the fast time is over.
    interval: Duration,
    /// What ended the carrier before.
    pub(crate) cause: Option<DeathCause>,
    /// Whether the last that was heard of an attempt came from the server's host.
    host_answers: bool,
    /// There was a carrier before.
    is_repeated: bool,
}

/// Between two rounds there is at least this much: full jitter begins at nothing.
const MIN_ROUND: Duration = Duration::from_millis(100);
/// A login that was refused is not tried sooner: its cause is a token or a name, and people.
const REFUSED_ROUND: Duration = Duration::from_secs(5);
/// An attempt may take so many round trips: TCP, TLS and login are four, and each may lose one.
const ATTEMPT_RTTS: u32 = 8;

impl Policy {
    pub(crate) fn begin_outage(&mut self, now: Instant, cause: Option<DeathCause>) {
        if self.outage.is_none() {
            self.outage = Some(Outage {
                since: now,
                next_round: now,
                interval: self.config.reconnect_every,
                cause,
                host_answers: false,
                is_repeated: self.generation > 0,
            });
        }
    }

    /// A carrier is in use and lives: what was begun to replace it is dropped.
    pub(crate) fn end_outage(&mut self, now: Instant) {
        let outage = self.outage.take();
        if outage.is_some_and(|outage| outage.is_repeated) {
            self.stay.handle_outage_end(now);
        }
        let is_measured = self.measure_until.is_some();
        self.plans
            .retain(|plan| plan.purpose == Purpose::Standby || is_measured);
        if is_measured {
            return;
        }
        let obsolete: Vec<_> = self
            .attempts()
            .filter(|(_, entry)| matches!(entry.purpose, Purpose::Connect | Purpose::Beside))
            .map(|(id, _)| id)
            .collect();
        for carrier in obsolete {
            self.carriers.remove(&carrier);
            self.decide(Decision::Abandon { carrier });
        }
    }

    /// Begins the next round of attempts when it is due.
    pub(crate) fn run_outage(&mut self, now: Instant) {
        let Some(outage) = self.outage else {
            return;
        };
        if now < outage.next_round.max(self.not_before) {
            return;
        }
        for place in 0..self.places.len() {
            let is_planned = self.plans.iter().any(|plan| plan.place == place);
            if !is_planned {
                let at = now + self.head_start_of_others(place);
                self.plans.push(Plan {
                    at,
                    place,
                    purpose: Purpose::Connect,
                });
            }
        }
        let (wait, interval) = self.next_wait(now, &outage);
        self.outage = Some(Outage {
            next_round: now + wait,
            interval,
            ..outage
        });
    }

    /// The wait before the next round, and what that of the one after it grows from.
    fn next_wait(&mut self, now: Instant, outage: &Outage) -> (Duration, Duration) {
        let config = &self.config;
        // A server that has said goodbye is mostly one that is started again.
        let has_had_session = self.generation > 0;
        let fast_for = match has_had_session {
            true => config.grace,
            false => config.eager_start,
        };
        let is_fast = now.saturating_duration_since(outage.since) < fast_for;
        if is_fast && !self.is_refused {
            let spread = config.reconnect_spread;
            let wait = self.random.spread(config.reconnect_every, spread);
            return (wait, outage.interval);
        }
        let longest = match outage.host_answers {
            true => config.backoff_max,
            false => config.backoff_max_silent,
        };
        let interval = outage.interval.mul_f64(config.backoff).min(longest);
        let least = if self.is_refused {
            REFUSED_ROUND
        } else {
            MIN_ROUND
        };
        let wait = interval.mul_f64(self.random.unit());
        (wait.max(least), interval)
    }

    /// How much later than the first this candidate is tried.
    fn head_start_of_others(&self, place: usize) -> Duration {
        let config = &self.config;
        let place = &self.places[place];
        let candidate = place.candidate;
        let mut wait = match candidate.transport {
            Transport::Quic => Duration::ZERO,
            Transport::Kcp => config.kcp_after,
            Transport::Tcp => config.tcp_after,
            // Where TCP gets through they are not needed; where it does not, they may.
            Transport::Wss | Transport::WebSocket => config.tcp_after + config.kcp_after,
        };
        let last_used = self.last_used;
        if last_used.is_some_and(|last| last.transport == candidate.transport) {
            wait = Duration::ZERO;
        }
        if place.seems_closed() {
            wait += config.tcp_after;
        }
        if candidate.is_ipv6 != self.prefers_ipv6() {
            wait += config.ipv4_after;
        }
        if candidate.is_fallback {
            wait += config.fallback_after;
        }
        wait
    }

    /// Whether IPv6 is tried first: what was used last, else IPv6 where there is any (RFC 8305
    /// section 4).
    fn prefers_ipv6(&self) -> bool {
        let has = |is_ipv6| {
            let mut places = self.places.iter();
            places.any(|place| place.candidate.is_ipv6 == is_ipv6)
        };
        let wanted = self.last_used.is_none_or(|last| last.is_ipv6);
        if has(wanted) { wanted } else { !wanted }
    }

    /// Starts the attempts whose time has come.
    pub(crate) fn launch_plans(&mut self, now: Instant) {
        let due: Vec<Plan> = self
            .plans
            .iter()
            .filter(|plan| plan.at <= now)
            .copied()
            .collect();
        self.plans.retain(|plan| plan.at > now);
        for plan in due {
            self.dial(now, plan.place, plan.purpose);
        }
    }

    pub(crate) fn dial(&mut self, now: Instant, place: usize, purpose: Purpose) {
        let same: Vec<_> = self
            .attempts()
            .filter(|(_, entry)| entry.place == place)
            .map(|(id, entry)| (id, entry.is_answered && purpose != Purpose::Manual))
            .collect();
        if same.len() >= self.config.attempts_max.max(1) {
            // The oldest: its timers have backed off the most. Not one that is nearly there: the
            // server may have let it in already.
            let Some((oldest, _)) = same.iter().find(|(_, is_kept)| !is_kept) else {
                return;
            };
            self.carriers.remove(oldest);
            self.decide(Decision::Abandon { carrier: *oldest });
        }
        let carrier = CarrierId(self.next_carrier);
        self.next_carrier += 1;
        self.carriers
            .insert(carrier, Carrier::new(place, purpose, now));
        self.decide(Decision::Dial {
            carrier,
            candidate: place,
            purpose,
        });
    }

    pub(crate) fn dial_all_of(&mut self, now: Instant, transport: Transport) {
        for place in 0..self.places.len() {
            if self.places[place].candidate.transport == transport {
                self.dial(now, place, Purpose::Manual);
            }
        }
    }

    /// The server has answered an attempt.
    pub(crate) fn answered(&mut self, carrier: CarrierId) {
        if let Some(entry) = self.carriers.get_mut(&carrier) {
            entry.is_answered = true;
        }
    }

    pub(crate) fn dialed(&mut self, now: Instant, carrier: CarrierId) {
        let Some(entry) = self.carriers.get_mut(&carrier) else {
            // It was abandoned in the meantime.
            self.decide(Decision::Rest { carrier });
            return;
        };
        entry.live_since = Some(now);
        entry.good_since = now;
        entry.last_life = now;
        let place = entry.place;
        self.places[place].succeed();

        match (self.in_use, self.outage) {
            (None, outage) => {
                self.measure_until = Some(now + self.config.start_measure);
                let death = outage.and_then(|outage| outage.cause);
                self.promote(
                    now,
                    carrier,
                    death.map_or(Cause::Connected, Cause::Died),
                    None,
                );
            }
            (Some(_), Some(_)) => self.found_heir(now),
            (Some(_), None) => {
                let is_measured = self.measure_until.is_some();
                let pace = if is_measured {
                    Pace::Questioned
                } else {
                    Pace::Standby
                };
                self.set_pace(carrier, pace);
                self.joined_beside(now, carrier);
            }
        }
    }

    pub(crate) fn dial_failed(&mut self, now: Instant, carrier: CarrierId, failure: DialFailure) {
        let Some(entry) = self.carriers.remove(&carrier) else {
            return;
        };
        let place = entry.place;
        let host_answers = matches!(
            failure,
            DialFailure::Refused | DialFailure::Handshake | DialFailure::Login
        );
        if let Some(outage) = &mut self.outage {
            outage.host_answers = host_answers;
        }
        self.hurry_other_ip(now, place);
        if failure == DialFailure::Login && self.in_use.is_none() {
            self.is_refused = true;
        }
        let mut retry_in = None;
        if self.in_use.is_some() && self.outage.is_none() {
            let says_something = !matches!(failure, DialFailure::Resolve | DialFailure::Login);
            let is_evidence = says_something && self.lives_beside(place, entry.dialed_at);
            let quiet = self.is_quiet(now);
            self.places[place].fail(&self.config, now, is_evidence, quiet);
            let retry_at = self.places[place].retry_at();
            retry_in = retry_at.map(|at| at.saturating_duration_since(now));
        }
        self.tell(Notice::DialFailed {
            candidate: place,
            failure,
            retry_in,
        });
    }

    /// What waits for its turn after an attempt over the other version of IP need not wait once
    /// that has failed (RFC 8305 section 5): there may be no address of that version at all.
    fn hurry_other_ip(&mut self, now: Instant, failed: usize) {
        let failed = self.places[failed].candidate;
        for plan in &mut self.plans {
            let candidate = self.places[plan.place].candidate;
            let is_other = candidate.is_ipv6 != failed.is_ipv6;
            if is_other && candidate.transport == failed.transport {
                plan.at = plan.at.min(now);
            }
        }
    }

    /// Whether a failure of `place` is evidence against it: a carrier of the other family, or over
    /// the other version of IP, has lived since the attempt began. Otherwise the whole network, or
    /// the server, may be away.
    fn lives_beside(&self, place: usize, since: Instant) -> bool {
        let candidate = self.places[place].candidate;
        self.carriers.iter().any(|(id, entry)| {
            let lives = entry.is_live() && !entry.is_silent && entry.last_life >= since;
            let is_other = self.family(*id) != candidate.transport.family()
                || self.is_ipv6(*id) != candidate.is_ipv6;
            lives && is_other
        })
    }

    /// Attempts that have taken too long have failed.
    pub(crate) fn drop_old_attempts(&mut self, now: Instant) {
        let patience = self.patience();
        let old: Vec<_> = self
            .attempts()
            .filter(|(_, entry)| now.saturating_duration_since(entry.dialed_at) >= patience)
            .map(|(id, _)| id)
            .collect();
        for carrier in old {
            self.decide(Decision::Abandon { carrier });
            self.dial_failed(now, carrier, DialFailure::Timeout);
        }
    }

    /// How long an attempt may take.
    pub(crate) fn patience(&self) -> Duration {
        if self.outage.is_none() {
            return self.config.dial_timeout;
        }
        let srtt = self.carriers.values().map(|entry| entry.report.srtt).max();
        let by_rtt = srtt.unwrap_or_default() * ATTEMPT_RTTS;
        self.config.attempt_timeout.max(by_rtt)
    }

    pub(crate) fn attempts(&self) -> impl Iterator<Item = (CarrierId, &Carrier)> {
        let attempts = self.carriers.iter().filter(|(_, entry)| !entry.is_live());
        attempts.map(|(id, entry)| (*id, entry))
    }

    /// When the best at start is chosen; later when the one in use is in doubt by then.
    pub(crate) fn measure_ends(&self) -> Option<Instant> {
        let is_settled = self.in_use.is_some() && self.doubt.is_none();
        self.measure_until.filter(|_| is_settled)
    }

    /// After the start, the best of those that have answered is used.
    pub(crate) fn end_start_measure(&mut self, now: Instant) {
        let (Some(until), Some(in_use)) = (self.measure_ends(), self.in_use) else {
            return;
        };
        if now < until {
            return;
        }
        self.measure_until = None;
        self.plans.retain(|plan| plan.purpose == Purpose::Standby);
        let beside = self.carriers.iter().filter(|(id, _)| **id != in_use);
        let live = beside.filter(|(_, entry)| entry.is_live());
        for carrier in live.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.set_pace(carrier, Pace::Standby);
        }
        // Where no streams are kept a switch is a new login, and users who come meanwhile are
        // refused: then the first stays unless it is bad.
        let is_free = self.manual.is_none() && !self.config.grace.is_zero();
        if let Some(best) = self.best_measured(now, in_use).filter(|_| is_free) {
            self.promote(now, best, Cause::BestAtStart, None);
        }
    }

    /// Keeps one carrier of the other family, and those that are preferred to the one in use, and
    /// opens them where they are missing. Everything else rests.
    pub(crate) fn keep_standby(&mut self, now: Instant) {
        let Some(in_use) = self.in_use else {
            return;
        };
        if self.measure_until.is_some() || self.doubt.is_some() || self.outage.is_some() {
            return;
        }
        let mut is_kept = [false; 2];
        let mut beside: Vec<_> = self
            .carriers
            .iter()
            .filter(|(id, entry)| **id != in_use && entry.is_live())
            .map(|(id, entry)| (entry.is_silent, self.place_rank(entry.place, now), *id))
            .collect();
        beside.sort();
        for (_, _, carrier) in beside {
            let kind = usize::from(self.family(carrier) == self.family(in_use));
            let is_wanted = kind == 0 || self.is_preferred(carrier, in_use);
            if is_wanted && !is_kept[kind] {
                is_kept[kind] = true;
            } else if self
                .question
                .as_ref()
                .is_none_or(|question| !question.is_about(carrier))
            {
                self.carriers.remove(&carrier);
                self.decide(Decision::Rest { carrier });
            }
        }
        if let Some(place) = self.wanted_place(now) {
            self.dial(now, place, Purpose::Standby);
        }
    }

    /// The candidate to dial now for want of a standby, or because it is preferred to what is in
    /// use.
    fn wanted_place(&self, now: Instant) -> Option<usize> {
        self.wanted_places()
            .filter(|place| self.places[*place].is_due(now))
            .min_by_key(|place| self.place_rank(*place, now))
    }

    /// When the next of them is due.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.wanted_places()
            .filter_map(|place| self.places[place].retry_at())
            .min()
    }

    fn wanted_places(&self) -> impl Iterator<Item = usize> {
        let is_settled =
            self.outage.is_none() && self.doubt.is_none() && self.measure_until.is_none();
        let in_use = self.in_use.filter(|_| is_settled);
        let family = in_use.map(|id| self.family(id));
        let rank = in_use.and_then(|id| Some(self.rank(self.carriers.get(&id)?.place)));
        let is_there = |wanted: Family| {
            let mut others = self.carriers.keys().filter(|id| Some(**id) != in_use);
            others.any(|id| self.family(*id) == wanted)
        };
        let [udp, tcp] = [Family::Udp, Family::Tcp].map(is_there);
        let asked_for = self.manual.filter(|asked_for| {
            let mut all = self.carriers.keys();
            all.all(|id| self.transport(*id) != *asked_for)
        });
        (0..self.places.len()).filter(move |place| {
            let transport = self.places[*place].candidate.transport;
            let wanted = transport.family();
            let is_missing = match wanted {
                Family::Udp => !udp,
                Family::Tcp => !tcp,
            };
            let is_better = rank.is_some_and(|rank| self.rank(*place) < rank);
            let is_wanted = is_missing && (family != Some(wanted) || is_better);
            family.is_some() && (is_wanted || asked_for == Some(transport))
        })
    }

    /// By what one of several candidates is chosen: what seems open, then preference. Beside one in
    /// use it is better to have another version of IP: a router that drops one mostly knows the other.
    /// What somebody has asked for goes before all that.
    pub(crate) fn place_rank(&self, place: usize, now: Instant) -> impl Ord + use<> {
        let entry = &self.places[place];
        let transport = entry.candidate.transport;
        let wanted_ipv6 = match self.in_use {
            Some(in_use) => !self.is_ipv6(in_use),
            None => self.prefers_ipv6(),
        };
        (
            self.manual.is_some_and(|asked_for| asked_for != transport),
            !entry.is_due(now),
            entry.n_failures,
            self.rank(place),
            entry.candidate.is_ipv6 != wanted_ipv6,
        )
    }

    /// Uses what somebody has asked for as soon as it lives.
    pub(crate) fn follow_wish(&mut self, now: Instant) {
        let (Some(asked_for), Some(in_use), None) = (self.manual, self.in_use, self.outage) else {
            return;
        };
        if self.transport(in_use) != asked_for
            && let Some(carrier) = self.best_live(now, |kind| kind == asked_for)
        {
            self.promote(now, carrier, Cause::Manual, None);
        }
    }

    /// Whether the policy would rather use `carrier` when both are good.
    pub(crate) fn is_preferred(&self, carrier: CarrierId, to: CarrierId) -> bool {
        match (self.carriers.get(&carrier), self.carriers.get(&to)) {
            (Some(one), Some(other)) => self.rank(one.place) < self.rank(other.place),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Candidate, Config, Health};

    #[test]
    fn an_attempt_that_the_server_has_answered_makes_no_room_for_a_fresh_one() {
        for answered in [None, Some(0)] {
            let mut now = crate::path::test_start();
            let candidates = [Candidate {
                transport: Transport::Kcp,
                is_ipv6: false,
                is_fallback: false,
            }];
            let config = Config::default();
            let n_attempts = config.attempts_max;
            let mut policy = Policy::new(config, &candidates, &Health::default(), 7, now);
            let mut dialed = Vec::new();
            let mut abandoned = Vec::new();
            while dialed.len() <= n_attempts {
                while let Some(decision) = policy.poll_decision() {
                    match decision {
                        Decision::Dial { carrier, .. } => dialed.push(carrier),
                        Decision::Abandon { carrier } => abandoned.push(carrier),
                        _ => {}
                    }
                }
                if let (Some(index), 1) = (answered, dialed.len()) {
                    policy.handle_answered(dialed[index]);
                }
                now = policy.poll_timeout(now).expect("there is more to try");
                policy.handle_timeout(now);
            }
            let oldest_unanswered = if answered.is_some() { 1 } else { 0 };
            assert_eq!(abandoned, [dialed[oldest_unanswered]]);
        }
    }
}
