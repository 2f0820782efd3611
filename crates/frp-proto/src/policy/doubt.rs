//! Is it dead? Silence, bursts, and what certain ends mean.

use std::time::{Duration, Instant};

use super::Policy;
use super::carrier::Burst;
use super::words::{CarrierId, Cause, DeathCause, Decision, Family, Notice, Purpose, Transport};
use crate::path::Direction;

/// The carrier in use is silent, or its network has changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubt {
    since: Instant,
    pub(crate) direction: Direction,
    /// Bursts that were sent on it.
    n_bursts: u32,
    /// The address has changed: the first new carrier is better than waiting.
    is_moved: bool,
    /// All speaks for its death, and a last short burst is under way.
    is_confirming: bool,
    /// All is lost and another carrier lives: the best of those takes over at the time given,
    /// unless this one shows life before.
    pub(crate) heir_at: Option<Instant>,
    /// A dry run has told what it would do.
    is_told: bool,
}

/// Bursts in a row on a carrier that stays silent. After them its prober's own heartbeats, four a
/// second, find life as soon.
const MAX_BURSTS: u32 = 3;
/// A carrier that has lived so long and then falls silent is opened again at once.
const PROVEN_AFTER: Duration = Duration::from_secs(30);
/// Silence that the server tells of and this end has not noticed itself. Longer than what the
/// prober takes, since the report itself took its way.
const PEER_SILENCE_MIN: Duration = Duration::from_millis(1000);

impl Policy {
    pub(crate) fn silent(&mut self, now: Instant, carrier: CarrierId, direction: Direction) {
        let Some(entry) = self
            .carriers
            .get_mut(&carrier)
            .filter(|entry| entry.is_live())
        else {
            return;
        };
        entry.handle_silence(now);
        let silence = match direction {
            Direction::Inbound => entry.report.inbound_silence,
            Direction::Outbound => entry.report.outbound_silence,
        };
        self.tell(Notice::Suspect {
            carrier,
            direction,
            silence,
        });
        if self.in_use == Some(carrier) {
            self.doubt_in_use(now, direction, false);
        } else {
            self.burst(carrier);
        }
    }

    pub(crate) fn alive(&mut self, now: Instant, carrier: CarrierId) {
        let Some(entry) = self
            .carriers
            .get_mut(&carrier)
            .filter(|entry| entry.is_live())
        else {
            return;
        };
        entry.handle_life(now, self.outage.is_some());
        self.tell(Notice::Revived { carrier });
        if self.in_use == Some(carrier) {
            self.doubt = None;
            self.end_outage(now);
        } else if self.in_use.is_none() {
            let death = self.outage.and_then(|outage| outage.cause);
            self.promote(
                now,
                carrier,
                death.map_or(Cause::Connected, Cause::Died),
                None,
            );
        } else if let (Some(in_use), Some(_)) = (self.in_use, self.doubt) {
            // An alternative has come to life: both show once more what they can.
            self.burst(in_use);
            self.burst(carrier);
        }
    }

    pub(crate) fn burst_over(&mut self, now: Instant, carrier: CarrierId, n_answered: u32) {
        let Some(entry) = self.carriers.get_mut(&carrier) else {
            return;
        };
        entry.burst = Burst::Over(n_answered);
        if n_answered > 0 {
            entry.handle_life(now, self.outage.is_some());
        }
        match (self.in_use, self.doubt) {
            (Some(in_use), _) if in_use == carrier && n_answered > 0 => {
                self.doubt = None;
                self.end_outage(now);
            }
            (Some(_), Some(_)) => self.judge(now),
            // In use and not in doubt: it has shown life since the burst began, later than the
            // burst's answers may come. Were it silent, the prober would say so.
            (Some(in_use), None) if in_use == carrier => {}
            (Some(_), None) if n_answered == 0 => self.standby_is_dead(now, carrier),
            (None, _) if n_answered > 0 => self.alive(now, carrier),
            _ => {}
        }
    }

    /// The server has heard nothing on a carrier that this end believes in.
    pub(crate) fn hear_of_silence(&mut self, now: Instant, carrier: CarrierId, silence: Duration) {
        let Some(entry) = self.carriers.get(&carrier) else {
            return;
        };
        let report = &entry.report;
        let limit = (report.srtt * 3 + report.rttvar * 4).max(PEER_SILENCE_MIN);
        if self.in_use == Some(carrier) && self.doubt.is_none() && silence >= limit {
            self.doubt_in_use(now, Direction::Outbound, false);
        }
    }

    /// A carrier was opened while another is in use.
    pub(crate) fn joined_beside(&mut self, now: Instant, carrier: CarrierId) {
        if let Some(doubt) = self.doubt {
            if doubt.is_moved {
                let death = DeathCause::AddressGone;
                // The standby may have moved along.
                let best = self.best_live_since(now, doubt.since).unwrap_or(carrier);
                self.promote(now, best, Cause::Died(death), None);
            } else {
                // It takes part in the doubt as one that was there when that began.
                self.ask_standby(now);
                self.judge(now);
            }
        }
    }

    pub(crate) fn network_changed(&mut self, now: Instant, moved: &[CarrierId]) {
        self.stay.forget();
        for place in &mut self.places {
            place.retry_now();
        }
        if let Some(outage) = &mut self.outage {
            outage.next_round = now;
        }
        let carriers: Vec<_> = self.carriers.keys().copied().collect();
        for carrier in carriers {
            let can_move = self.transport(carrier) == Transport::Quic;
            let has_moved = moved.contains(&carrier);
            if !self.carriers[&carrier].is_live() {
                // What it was bound to may be gone; a fresh one costs little.
                self.carriers.remove(&carrier);
                self.decide(Decision::Abandon { carrier });
            } else if can_move && has_moved {
                self.decide(Decision::Rebind { carrier });
            } else if has_moved && self.in_use != Some(carrier) {
                self.carriers.remove(&carrier);
                self.decide(Decision::Rest { carrier });
            }
        }
        if let Some(in_use) = self.in_use {
            let can_move = self.transport(in_use) == Transport::Quic;
            let is_moved = !can_move && moved.contains(&in_use);
            self.doubt_in_use(now, Direction::Outbound, is_moved);
        }
    }

    pub(crate) fn died(&mut self, now: Instant, carrier: CarrierId, cause: DeathCause) {
        let Some(entry) = self.carriers.get(&carrier) else {
            return;
        };
        if !entry.is_live() {
            self.dial_failed(now, carrier, super::DialFailure::Refused);
            return;
        }
        let transport = self.transport(carrier);
        self.carriers.remove(&carrier);
        self.tell(Notice::Dead {
            carrier,
            transport,
            cause,
        });
        if cause == DeathCause::Goodbye {
            // The session is over: nothing of it is worth keeping.
            self.has_session = false;
            for carrier in std::mem::take(&mut self.carriers).into_keys() {
                self.decide(Decision::Rest { carrier });
            }
            self.in_use = None;
        }
        if self
            .question
            .as_ref()
            .is_some_and(|question| question.is_about(carrier))
        {
            self.end_question(now, true);
        }
        if self.in_use.is_some_and(|in_use| in_use != carrier) {
            if self.doubt.is_some() {
                self.judge(now);
            }
            return;
        }
        self.in_use = None;
        self.is_switching = false;
        self.doubt = None;
        match self.best_live(now, |_| true) {
            Some(standby) => self.promote(now, standby, Cause::Died(cause), None),
            None => {
                self.begin_outage(now, Some(cause));
                // Those that are left are silent: whichever answers first is used.
                let left = self.carriers.iter().filter(|(_, entry)| entry.is_live());
                for carrier in left.map(|(id, _)| *id).collect::<Vec<_>>() {
                    self.burst(carrier);
                }
            }
        }
    }

    pub(crate) fn session_over(&mut self, now: Instant) {
        self.has_session = false;
        self.in_use = None;
        self.is_switching = false;
        self.doubt = None;
        self.measure_until = None;
        self.end_question(now, true);
        let live = self.carriers.iter().filter(|(_, entry)| entry.is_live());
        for carrier in live.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.carriers.remove(&carrier);
            self.decide(Decision::Rest { carrier });
        }
        // An outage that has lasted for the grace time goes on as it is.
        self.begin_outage(now, None);
    }

    fn doubt_in_use(&mut self, now: Instant, direction: Direction, is_moved: bool) {
        let Some(in_use) = self.in_use else {
            return;
        };
        self.doubt = Some(Doubt {
            since: now,
            direction,
            n_bursts: 1,
            is_moved,
            is_confirming: false,
            heir_at: None,
            is_told: false,
        });
        for entry in self.carriers.values_mut() {
            // What was shown in an earlier doubt counts no more.
            entry.burst = Burst::Unasked;
        }
        self.burst(in_use);
        self.ask_standby(now);
        let standby = self.standby(now);
        // On TCP probes wait behind a lost segment: only a fresh connection tells the path's
        // silence from that of one connection. One whose address has changed will not answer.
        let needs_fresh = is_moved || self.family(in_use) == Family::Tcp || standby.is_none();
        if needs_fresh && let Some(entry) = self.carriers.get(&in_use) {
            let place = entry.place;
            self.dial(now, place, Purpose::Beside);
        }
    }

    /// The carrier in use is dead when its burst has stayed unanswered and another carrier lives.
    fn judge(&mut self, now: Instant) {
        let (Some(in_use), Some(doubt)) = (self.in_use, self.doubt) else {
            return;
        };
        if self.burst_on(in_use) != Burst::Over(0) {
            return;
        }
        let fresh = self.best_fresh(in_use);
        let standby = self.standby(now);
        let enough = self.config.alive_answers;
        let lives = |id: &CarrierId| matches!(self.burst_on(*id), Burst::Over(n) if n >= enough);
        let death = Cause::Died(DeathCause::Silent(doubt.direction));
        let heir = fresh.or(standby.filter(lives)).filter(|_| !doubt.is_told);
        if let Some(heir) = heir {
            if self.outage.is_some() {
                // What was sent on the carrier in use went into the outage.
                self.found_heir(now);
                return;
            }
            if fresh.is_none() && !doubt.is_confirming {
                self.doubt = Some(Doubt {
                    is_confirming: true,
                    ..doubt
                });
                self.burst_of(in_use, self.config.confirm_len);
                return;
            }
            self.remember_death(now, in_use, heir);
            self.promote(now, heir, death, None);
            if let Some(doubt) = &mut self.doubt {
                // Only a dry run comes here.
                doubt.is_told = true;
            }
            return;
        }
        self.ask_standby(now);
        if standby.is_some_and(|standby| self.burst_on(standby) == Burst::UnderWay) {
            return;
        }
        // No alternative: nothing is declared dead. Whatever answers first takes over.
        self.end_question(now, false);
        self.begin_outage(now, None);
        if doubt.n_bursts < MAX_BURSTS {
            self.doubt = Some(Doubt {
                n_bursts: doubt.n_bursts + 1,
                ..doubt
            });
            self.burst(in_use);
            if let Some(standby) = standby {
                self.burst(standby);
            }
        }
    }

    /// Asks the carrier that would take over whether it lives, unless that was done: it may have come
    /// since the doubt began, or be the next after one that has gone.
    fn ask_standby(&mut self, now: Instant) {
        let standby = self.standby(now);
        if let Some(standby) = standby.filter(|id| self.burst_on(*id) == Burst::Unasked) {
            self.burst(standby);
        }
    }

    fn burst_on(&self, carrier: CarrierId) -> Burst {
        let entry = self.carriers.get(&carrier);
        entry.map_or(Burst::Unasked, |entry| entry.burst)
    }

    /// A carrier that was opened beside the silent one, and of the same kind.
    fn best_fresh(&self, in_use: CarrierId) -> Option<CarrierId> {
        let fresh = self.carriers.iter().find(|(id, entry)| {
            **id != in_use && entry.is_live() && entry.purpose == Purpose::Beside
        });
        fresh.map(|(id, _)| *id)
    }

    /// Silence of UDP while TCP lives is evidence against UDP, and that of one version of IP while
    /// the other lives against that.
    fn remember_death(&mut self, now: Instant, carrier: CarrierId, heir: CarrierId) {
        let Some(entry) = self.carriers.get(&carrier) else {
            return;
        };
        let quiet = self.is_quiet(now);
        let is_evidence =
            self.family(carrier) == Family::Udp || self.is_ipv6(carrier) != self.is_ipv6(heir);
        self.places[entry.place].fail(&self.config, now, is_evidence, quiet);
    }

    fn standby_is_dead(&mut self, now: Instant, carrier: CarrierId) {
        let Some(entry) = self.carriers.remove(&carrier) else {
            return;
        };
        let place = entry.place;
        let transport = self.places[place].candidate.transport;
        self.tell(Notice::Dead {
            carrier,
            transport,
            cause: DeathCause::Silent(Direction::Outbound),
        });
        self.decide(Decision::Rest { carrier });
        if self
            .question
            .as_ref()
            .is_some_and(|question| question.is_about(carrier))
        {
            self.end_question(now, false);
        }
        let lived = entry
            .live_since
            .map(|since| now.saturating_duration_since(since));
        if lived.is_none_or(|lived| lived < PROVEN_AFTER) {
            let quiet = self.is_quiet(now);
            self.places[place].fail(&self.config, now, true, quiet);
        }
    }

    /// All was lost, and another carrier lives. The old one, which may have come back as well, is
    /// asked once more; on a link that comes and goes it has longer to answer.
    pub(crate) fn found_heir(&mut self, now: Instant) {
        let (Some(in_use), Some(doubt)) = (self.in_use, &mut self.doubt) else {
            return;
        };
        if doubt.heir_at.is_some() {
            return;
        }
        let entry = self.carriers.get(&in_use);
        let srtt = entry.map_or(Duration::ZERO, |entry| entry.report.srtt);
        let config = &self.config;
        let [least, most] = config.old_first;
        let wait = (srtt * 2).clamp(least, most.max(least));
        doubt.heir_at = Some(match self.stay.is_restless(now) {
            _ if doubt.is_moved => now,
            true => now + wait.max(config.old_first_restless),
            false => now + wait,
        });
        self.burst(in_use);
    }

    /// An heir takes over when its time has come: the best of those that live by then.
    pub(crate) fn promote_heir(&mut self, now: Instant) {
        let Some(doubt) = &mut self.doubt else {
            return;
        };
        if doubt.heir_at.is_none_or(|at| at > now) {
            return;
        }
        doubt.heir_at = None;
        let doubt = *doubt;
        let since = self.outage.map_or(now, |outage| outage.since);
        let Some(heir) = self.best_live_since(now, since).filter(|_| !doubt.is_told) else {
            return;
        };
        if let Some(doubt) = &mut self.doubt {
            doubt.is_told = true;
        }
        let death = DeathCause::Silent(doubt.direction);
        self.promote(now, heir, Cause::Died(death), None);
    }

    /// The best carrier beside the one in use that has shown life since then.
    fn best_live_since(&self, now: Instant, since: Instant) -> Option<CarrierId> {
        let lives = |id: &CarrierId| self.carriers.get(id).is_some_and(|c| c.last_life >= since);
        let beside = self.carriers.keys().filter(|id| Some(**id) != self.in_use);
        let live = beside.filter(|id| self.is_answering(**id) && lives(id));
        live.min_by_key(|id| self.place_rank(self.carriers[id].place, now))
            .copied()
    }

    fn is_answering(&self, carrier: CarrierId) -> bool {
        let entry = self.carriers.get(&carrier);
        entry.is_some_and(|entry| entry.is_live() && !entry.is_silent)
    }

    fn burst(&mut self, carrier: CarrierId) {
        self.burst_of(carrier, self.config.burst_len);
    }

    fn burst_of(&mut self, carrier: CarrierId, n_probes: u32) {
        if let Some(entry) = self.carriers.get_mut(&carrier) {
            entry.burst = Burst::UnderWay;
            self.decide(Decision::Burst { carrier, n_probes });
        }
    }
}
